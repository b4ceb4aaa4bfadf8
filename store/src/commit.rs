//! From staged facts to one batch: what is there already is left out, what contradicts it is refused, and every derived
//! entry goes along.
//!
//! Invariant: what a batch rests on without reading it is content-addressed or keyed by where it stands, so writing it
//! again writes the same bytes; all else is held by preconditions, and planned again when they fail.

use std::collections::BTreeSet;

use tracker_engine::{Batch, Direction, Durability, KeyRange};

use crate::error::{Error, Result, hex};
use crate::id::{Kind, NodeId, RunId};
use crate::keys;
use crate::model::{Claim, Ending, Figure, NewRun, Reward, Run, Sample, Selection, Stage, Status, Verdict};
use crate::reader::Entries;
use crate::recording::{Recording, StagedRow, stage_conflict};
use crate::records::{EdgeRecord, Stored};
use crate::store::Store;

/// Rows this many items apart are looked up by separate reads rather than by one over all between.
const MAX_GAP_ITEMS: u32 = 64;

impl Store {
    /// Writes everything in `recording`, or nothing. What is recorded already stays as it is.
    ///
    /// # Errors
    /// `NotFound` if a run or a stage is not there; `Conflict` if something else is recorded in the place of a row, a
    /// param or a stage; `Contended`; the engine's errors.
    pub fn commit(&self, recording: &Recording, durability: Durability) -> Result<()> {
        self.check_runs(recording)?;
        self.write("recording", &"of a run", durability, |batch| self.plan(recording, batch))?;
        self.known().stages.extend(recording.stages.keys().copied());
        Ok(())
    }

    /// Records a run that did all it does at once and is finished: the run and what `record` stages of it are written together,
    /// or nothing is; its record digest, which is drawn over what is written, follows. `record` is told the run's id.
    ///
    /// # Errors
    /// As [`Store::create_run`] and [`Store::commit`]; those of `record`.
    pub fn record_run(&self, new: &NewRun, record: impl FnOnce(RunId) -> Result<Recording>) -> Result<Run> {
        new.check()?;
        let id = RunId::fresh();
        let recording = record(id)?;
        // Other runs in it must be there; its own is on its way.
        self.known().runs.insert(id);
        let planned = self.check_runs(&recording).and_then(|()| {
            self.write("run", &id, Durability::Sync, |batch| {
                let run = self.plan_run(new, id, batch, Status::Finished)?;
                self.plan(&recording, batch)?;
                Ok(run)
            })
        });
        if let Err(error) = planned {
            self.known().runs.remove(&id);
            return Err(error);
        }
        self.known().stages.extend(recording.stages.keys().copied());
        let record_digest = Some(self.record_digest(id)?);
        self.end_run(id, &Ending { status: Status::Finished, message: String::new(), record_digest })
    }

    pub(crate) fn plan(&self, recording: &Recording, batch: &mut Batch) -> Result<()> {
        self.plan_stages(recording, batch)?;
        self.plan_params(recording, batch)?;
        for ((run, key), value) in &recording.tags {
            batch.put(&keys::run_tag(*run, key), value.as_bytes());
        }
        plan_contents(recording, batch);
        plan_edges(recording, batch)?;
        for (run, node) in &recording.bare {
            batch.put(&keys::recorded(*run, node), &[]);
        }
        for ((run, key), points) in &recording.points {
            self.plan_points(*run, key, points, batch)?;
        }
        for (key, value) in &recording.entries {
            batch.put(key, value);
        }
        for known in &recording.known {
            crate::artifact::plan_known(*known, batch);
        }
        self.plan_rows(recording, batch)
    }

    pub(crate) fn check_runs(&self, recording: &Recording) -> Result<()> {
        let stages = recording.stages.keys().map(|(run, _)| *run);
        let texts =
            recording.params.keys().chain(recording.tags.keys()).chain(recording.points.keys()).map(|(run, _)| *run);
        let contents = recording.contents.values().flat_map(|content| content.runs.iter().copied());
        let edges = recording.edges.iter().map(|(run, _)| *run);
        let mut runs: BTreeSet<RunId> = stages.chain(texts).chain(contents).chain(edges).collect();
        runs.retain(|run| !self.known().runs.contains(run));
        for run in runs {
            self.run(run)?;
            self.known().runs.insert(run);
        }
        Ok(())
    }

    fn plan_stages(&self, recording: &Recording, batch: &mut Batch) -> Result<()> {
        for ((run, id), stage) in &recording.stages {
            let key = keys::stage(*run, *id);
            match self.get_value::<Stage>(&key)? {
                Some(recorded) if recorded == *stage => {}
                Some(recorded) => return Err(stage_conflict(&recorded, stage)),
                None => {
                    batch.require_absent(&key);
                    batch.put(&key, &stage.encode()?);
                }
            }
        }
        Ok(())
    }

    fn plan_params(&self, recording: &Recording, batch: &mut Batch) -> Result<()> {
        for ((run, key), value) in &recording.params {
            let param = keys::param(*run, key);
            match self.get(&param)? {
                Some(recorded) if recorded == value.as_bytes() => {}
                Some(recorded) => {
                    return Err(Error::conflict("param", key, &String::from_utf8_lossy(&recorded), value));
                }
                None => {
                    batch.require_absent(&param);
                    batch.put(&param, value.as_bytes());
                    batch.put(&keys::param_index_entry(key, value, *run), &[]);
                    if let Some(entry) = keys::param_number_entry(key, value, *run) {
                        batch.put(&entry, &[]);
                    }
                }
            }
        }
        Ok(())
    }

    fn plan_rows(&self, recording: &Recording, batch: &mut Batch) -> Result<()> {
        let rows = sorted(&recording.rows)?;
        self.check_stages(recording, &rows)?;
        let mut fresh = Vec::with_capacity(rows.len());
        for group in rows.chunk_by(|a, b| are_near(&a.node, &b.node)) {
            self.keep_fresh(group, &mut fresh)?;
        }
        for row in &fresh {
            batch.put(&keys::node(&row.node), &row.record);
        }
        // One relation after the other, so that keys come in long sorted stretches.
        for nth in 0..2 {
            for row in &fresh {
                if let (Some((relation, qualifier, to)), Some(run)) = (row.ups[nth], row.node.owner()) {
                    batch.put(&keys::edge_down(&to, run, relation, qualifier, &row.node, 0), &[]);
                }
            }
        }
        Ok(())
    }

    fn check_stages(&self, recording: &Recording, rows: &[&StagedRow]) -> Result<()> {
        let mut last = None;
        for row in rows.iter().filter_map(|row| row.node.row()) {
            let stage = (row.run, row.stage);
            if last == Some(stage) || recording.stages.contains_key(&stage) || self.known().stages.contains(&stage) {
                last = Some(stage);
                continue;
            }
            if self.get(&keys::stage(row.run, row.stage))?.is_none() {
                self.run(row.run)?;
                return Err(Error::NotFound {
                    what: "stage",
                    name: format!("{}/{}", row.run, row.stage),
                    hint: "`put_stage` declares a stage before rows stand in it".to_owned(),
                });
            }
            self.known().stages.insert(stage);
            last = Some(stage);
        }
        Ok(())
    }

    /// Adds the rows of `group`, which are sorted and near each other, that are not recorded yet.
    fn keep_fresh<'a>(&self, group: &[&'a StagedRow], fresh: &mut Vec<&'a StagedRow>) -> Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let (start, mut end) = (keys::node(&first.node), keys::node(&last.node));
        end.push(0);
        let mut group = group.iter().copied().peekable();
        for entry in Entries::new(self.read(), &KeyRange::new(&start, &end), Direction::Ascending) {
            let (key, record) = entry?;
            let recorded = keys::node_at(&key)?;
            while let Some(row) = group.next_if(|row| row.node < recorded) {
                fresh.push(row);
            }
            if let Some(row) = group.next_if(|row| row.node == recorded) {
                check_same(&row.node, &record, &row.record)?;
            }
        }
        fresh.extend(group);
        Ok(())
    }
}

/// The rows in key order, each once.
fn sorted(rows: &[StagedRow]) -> Result<Vec<&StagedRow>> {
    let mut sorted: Vec<&StagedRow> = rows.iter().collect();
    sorted.sort_by_key(|row| row.node);
    let mut kept: Vec<&StagedRow> = Vec::with_capacity(sorted.len());
    for row in sorted {
        match kept.last() {
            Some(last) if last.node == row.node => check_same(&row.node, &last.record, &row.record)?,
            _ => kept.push(row),
        }
    }
    Ok(kept)
}

fn are_near(a: &NodeId, b: &NodeId) -> bool {
    match (a.row(), b.row()) {
        (Some(x), Some(y)) => {
            a.kind() == b.kind() && x.run == y.run && x.stage == y.stage && y.item - x.item <= MAX_GAP_ITEMS
        }
        _ => false,
    }
}

/// Refuses a row that says something else than the recorded one; what work cost may differ.
fn check_same(node: &NodeId, recorded: &[u8], got: &[u8]) -> Result<()> {
    fn identity<T: Stored>(node: &NodeId, record: &[u8]) -> Result<Vec<u8>> {
        T::decode(&keys::node(node), record)?.identity()
    }
    if recorded == got {
        return Ok(());
    }
    let identity = match node.kind() {
        Kind::Sample => identity::<Sample>,
        Kind::Verdict => identity::<Verdict>,
        Kind::Reward => identity::<Reward>,
        Kind::Figure => identity::<Figure>,
        Kind::Selection => identity::<Selection>,
        _ => identity::<Claim>,
    };
    let (recorded, got) = (identity(node, recorded)?, identity(node, got)?);
    if recorded == got {
        return Ok(());
    }
    let digest = |bytes: &[u8]| hex(&blake3::hash(bytes).as_bytes()[..6]);
    Err(Error::conflict("row", node, &digest(&recorded), &digest(&got)))
}

fn plan_contents(recording: &Recording, batch: &mut Batch) {
    for (node, content) in &recording.contents {
        batch.put(&keys::node(node), &content.record);
        for run in &content.runs {
            batch.put(&keys::recorded(*run, node), &[]);
            for (relation, to) in &content.ups {
                batch.put(&keys::edge_down(to, *run, *relation, 0, node, 0), &[]);
            }
        }
    }
}

fn plan_edges(recording: &Recording, batch: &mut Batch) -> Result<()> {
    for (run, edge) in &recording.edges {
        let record = EdgeRecord { weight: edge.weight, block: edge.block.clone() };
        let record = if record == EdgeRecord::default() { Vec::new() } else { record.encode()? };
        if edge.from.kind().is_content() {
            batch.put(&keys::recorded(*run, &edge.from), &[]);
        }
        batch.put(&keys::edge_up(&edge.from, *run, edge.relation, edge.order, &edge.to), &record);
        batch.put(&keys::edge_down(&edge.to, *run, edge.relation, 0, &edge.from, edge.order), &record);
    }
    Ok(())
}
