//! One digest over everything a run recorded, the same for every run of the same plan.
//!
//! What enters: study, plan digest and seed; stages; params; every row in stored order; the contents the run recorded and
//! the edges it recorded between them; every series as a set of (step, value). What does not: ids of runs, clock times,
//! costs, names of machines, devices and runs, tags, and series whose key starts with `system/`, which measure the
//! machine. So the order, the number and the size of commits do not matter, nor does a resumption in between.

use blake3::Hasher;

use crate::error::Result;
use crate::id::{Digest, Kind, NodeId, RunId};
use crate::keys;
use crate::model::{Claim, Figure, Reward, Sample, Selection, Verdict};
use crate::records::Stored;
use crate::store::Store;

/// What series that measure the machine start with.
const SYSTEM: &str = "system/";
/// Enters first, and changes when what enters does.
const VERSION: &[u8] = b"tracker record digest 1";

impl Store {
    /// The digest over all of a run's records, without ids and clock times.
    ///
    /// # Errors
    /// `NotFound`; the engine's; `Corrupt`.
    pub fn record_digest(&self, run: RunId) -> Result<Digest> {
        let mut sum = Sum(Hasher::new());
        sum.part(VERSION);
        let head = self.run(run)?;
        sum.part(head.study.as_bytes());
        sum.part(head.plan.digest.as_bytes());
        sum.part(&head.seed.to_be_bytes());
        sum.section("stages");
        for stage in self.stages(run)? {
            sum.part(&stage.identity()?);
        }
        sum.section("params");
        for (key, value) in self.params(run)? {
            sum.part(key.as_bytes());
            sum.part(value.as_bytes());
        }
        self.sum_rows::<Sample>(Kind::Sample, run, &mut sum)?;
        self.sum_rows::<Verdict>(Kind::Verdict, run, &mut sum)?;
        self.sum_rows::<Reward>(Kind::Reward, run, &mut sum)?;
        self.sum_rows::<Figure>(Kind::Figure, run, &mut sum)?;
        self.sum_rows::<Claim>(Kind::Claim, run, &mut sum)?;
        // Runs without selections have the digests they had before there were any.
        if self.entries(&keys::rows(Kind::Selection, run)).next().transpose()?.is_some() {
            self.sum_rows::<Selection>(Kind::Selection, run, &mut sum)?;
        }
        sum.section("contents");
        for entry in self.entries(&keys::recorded_by(run)) {
            let node = keys::recorded_at(&entry?.0)?;
            sum.node(&node);
            self.sum_edges(&keys::edges_up_in(&node, run), &mut sum)?;
        }
        self.sum_series(run, &mut sum)?;
        sum.section("run");
        self.sum_edges(&keys::edges_up(&NodeId::run(run)), &mut sum)?;
        Ok(sum.0.finalize().into())
    }

    fn sum_rows<T: Stored>(&self, kind: Kind, run: RunId, sum: &mut Sum) -> Result<()> {
        sum.section(kind.name());
        for row in self.rows_of::<T>(kind, run, None) {
            let (node, value) = row?;
            sum.node(&node);
            sum.part(&value.identity()?);
        }
        self.sum_edges(&keys::row_edges_up(kind, run), sum)
    }

    fn sum_series(&self, run: RunId, sum: &mut Sum) -> Result<()> {
        for (key, _) in self.all_series(run)? {
            if key.starts_with(SYSTEM) {
                continue;
            }
            sum.section("series");
            sum.part(key.as_bytes());
            // By step, then value: points that differ in time alone are one, and their times order nothing.
            let mut step = None;
            let mut values: Vec<[u8; 8]> = Vec::new();
            for point in self.history(run, &key, None)? {
                let point = point?;
                if step != Some(point.step) {
                    sum.step(step, &mut values);
                    step = Some(point.step);
                }
                values.push(keys::sortable_f64(point.value));
            }
            sum.step(step, &mut values);
        }
        Ok(())
    }

    fn sum_edges(&self, prefix: &[u8], sum: &mut Sum) -> Result<()> {
        for entry in self.entries(prefix) {
            let (key, record) = entry?;
            let from = keys::edge_up_from(&key)?;
            let (_, relation, order, to) = keys::edge_up_at(&from, &key)?;
            sum.node(&from);
            sum.part(&[relation as u8]);
            sum.part(&order.to_be_bytes());
            sum.node(&to);
            sum.part(&record);
        }
        Ok(())
    }
}

/// A hash over parts whose boundaries count.
struct Sum(Hasher);

impl Sum {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn section(&mut self, name: &str) {
        self.part(b"");
        self.part(name.as_bytes());
    }

    /// The values of one step, each once, in order.
    fn step(&mut self, step: Option<i64>, values: &mut Vec<[u8; 8]>) {
        if let Some(step) = step {
            values.sort_unstable();
            values.dedup();
            self.part(&step.to_be_bytes());
            self.part(values.as_flattened());
        }
        values.clear();
    }

    fn node(&mut self, node: &NodeId) {
        let mut bytes = Vec::with_capacity(33);
        node.write_local(&mut bytes);
        self.part(&bytes);
    }
}
