//! What some runs came from: runs and contents, as far as lineage goes.
//!
//! A node of another run brings that run whole. A content brings every run that recorded edges up from it, unless the run it was
//! reached from recorded some itself: the edges a walk would follow are the edges that come along.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::id::{Kind, NodeId, RunId};
use crate::keys;
use crate::lineage::edges;
use crate::model::{Checkpoint, Dataset, Sample, Selection, Verdict};
use crate::records::Stored as _;
use crate::store::Store;

/// Runs by id, each with the contents that it recorded or that were met on the way up from it.
pub(super) struct Closure {
    pub(super) runs: BTreeMap<RunId, BTreeSet<NodeId>>,
}

/// The kinds of rows.
pub(super) fn row_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_row())
}

impl Closure {
    /// All that `asked` came from.
    ///
    /// # Errors
    /// `NotFound` if one of them is not there; the engine's; `Corrupt`.
    pub(super) fn of(store: &Store, asked: &[RunId]) -> Result<Self> {
        let mut runs = BTreeMap::new();
        let mut todo: Vec<RunId> = asked.to_vec();
        for run in asked {
            store.run(*run)?;
        }
        while let Some(run) = todo.pop() {
            if runs.contains_key(&run) || !store.has(&NodeId::run(run))? {
                continue;
            }
            let mut climb = Climb { store, home: run, seen: BTreeSet::new(), nodes: Vec::new(), runs: BTreeSet::new() };
            climb.start()?;
            climb.finish()?;
            todo.extend(climb.runs.iter().copied());
            climb.seen.retain(|node| node.kind().is_content());
            runs.insert(run, climb.seen);
        }
        Ok(Self { runs })
    }
}

/// The way up from one run.
struct Climb<'a> {
    store: &'a Store,
    home: RunId,
    /// Contents and nodes of other runs.
    seen: BTreeSet<NodeId>,
    nodes: Vec<NodeId>,
    runs: BTreeSet<RunId>,
}

impl Climb<'_> {
    /// Looks at all that the run recorded.
    fn start(&mut self) -> Result<()> {
        for kind in row_kinds() {
            for entry in self.store.entries(&keys::rows(kind, self.home)) {
                let (key, record) = entry?;
                let node = keys::node_at(&key)?;
                for (_, to) in edges::said(&node, &record)? {
                    self.meet(to);
                }
                self.references(&node, &record)?;
            }
            for entry in self.store.entries(&keys::row_edges_up(kind, self.home)) {
                let (key, _) = entry?;
                let from = keys::edge_up_from(&key)?;
                let (_, _, _, to) = keys::edge_up_at(&from, &key)?;
                self.meet(to);
            }
        }
        for entry in self.store.entries(&keys::recorded_by(self.home)) {
            self.meet(keys::recorded_at(&entry?.0)?);
        }
        self.expand(NodeId::run(self.home))
    }

    /// Goes on from what was met.
    fn finish(&mut self) -> Result<()> {
        while let Some(node) = self.nodes.pop() {
            self.expand(node)?;
        }
        Ok(())
    }

    fn meet(&mut self, node: NodeId) {
        match node.owner() {
            Some(run) if run == self.home => return,
            Some(run) => drop(self.runs.insert(run)),
            None => {}
        }
        if self.seen.insert(node) {
            self.nodes.push(node);
        }
    }

    fn expand(&mut self, node: NodeId) -> Result<()> {
        let record = self.store.record(&node)?;
        let mut found = Vec::new();
        edges::up(self.store, &node, record.as_deref(), Some(self.home), &mut |edge| {
            found.push((edge.to, edge.run));
            true
        })?;
        for (to, run) in found {
            self.runs.extend(run.filter(|run| *run != self.home));
            self.meet(to);
        }
        match record {
            Some(record) => self.references(&node, &record),
            None => Ok(()),
        }
    }

    /// Meets what a record names without an edge to it.
    fn references(&mut self, node: &NodeId, record: &[u8]) -> Result<()> {
        let key = keys::node(node);
        match node.kind() {
            Kind::Sample => {
                self.meet(NodeId::content_of(Kind::Sampling, Sample::decode(&key, record)?.sampling));
            }
            Kind::Verdict => {
                self.meet(NodeId::content_of(Kind::Statement, Verdict::decode(&key, record)?.statement));
            }
            Kind::Selection => Selection::decode(&key, record)?.candidates.into_iter().for_each(|node| self.meet(node)),
            Kind::Checkpoint => {
                let manifest = Checkpoint::decode(&key, record)?.manifest;
                self.meet(NodeId::content_of(Kind::Artifact, manifest));
                self.meet(NodeId::content_of(Kind::Recipe, manifest));
            }
            Kind::Dataset => {
                let rows = Dataset::decode(&key, record)?.rows;
                if let Some(rows) = rows {
                    self.meet(NodeId::content_of(Kind::Artifact, rows));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Store {
    /// The cells of a sweep, by id: the runs that have its id as their tag `sweep`; none if no run says it is of that one.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn cells(&self, sweep: RunId) -> Result<Vec<RunId>> {
        let mut cells = Vec::new();
        for run in self.runs() {
            let id = run?.id;
            let key = keys::run_tag(id, "sweep");
            let Some(value) = self.get(&key)? else { continue };
            let value = String::from_utf8(value).map_err(|_| Error::corrupt(&key, "expected UTF-8"))?;
            if value.parse::<RunId>().is_ok_and(|of| of == sweep) {
                cells.push(id);
            }
        }
        cells.sort_unstable();
        Ok(cells)
    }
}
