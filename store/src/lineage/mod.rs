//! Where things came from and what became of them: walks over the edges, both ways.
//!
//! Invariants: a walk visits each node once, breadth first, in stored order, so the same store gives the same graph; it
//! never holds more than its limit of nodes, and says when it stopped there. A walk that starts in a run stays with the
//! edges that run recorded wherever it recorded any, so a replay does not double the answer. Nothing here writes.

mod edges;
mod graph;
mod label;
mod render;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::error::{Error, Result};
use crate::id::{Kind, NodeId, RunId};
use crate::store::Store;

pub(crate) use label::Labels;

pub use graph::{Graph, GraphEdge, GraphNode};

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// To what a node came from.
    Ancestors,
    /// To what came from a node.
    Descendants,
}

/// How a walk goes.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Which way.
    pub toward: Toward,
    /// The most edges from the start.
    pub depth: u32,
    /// The kinds to show; all if empty. Others are walked through, and left out.
    pub kinds: BTreeSet<Kind>,
    /// The run whose edges are preferred; the start's own if none is named.
    pub within: Option<RunId>,
    /// The most nodes to visit.
    pub limit: usize,
}

impl Walk {
    /// A walk of any depth, over all kinds, of at most 10,000 nodes.
    #[must_use]
    pub fn new(toward: Toward) -> Self {
        Self { toward, depth: u32::MAX, kinds: BTreeSet::new(), within: None, limit: 10_000 }
    }
}

impl Store {
    /// The nodes that `start` came from, or that came from it, and the edges between.
    ///
    /// # Errors
    /// `NotFound` if nothing is recorded under `start`; the engine's; `Corrupt`.
    pub fn walk(&self, start: NodeId, walk: &Walk) -> Result<Graph> {
        if !self.has(&start)? {
            return Err(Error::missing(start.kind().name(), start));
        }
        let mut seen = Visit::new(start);
        let home = walk.within.or(start.owner());
        let mut labels = Labels::new(self);
        while let Some((at, depth)) = seen.queue.pop_front() {
            let record = self.record(&at)?;
            seen.graph.nodes.push(GraphNode { id: at, kind: at.kind(), label: labels.of(&at, record.as_deref())?, depth });
            if depth >= walk.depth {
                continue;
            }
            let mut take = |edge: GraphEdge| seen.take(at, depth, walk, edge);
            match walk.toward {
                Toward::Ancestors => edges::up(self, &at, record.as_deref(), home, &mut take)?,
                Toward::Descendants => edges::down(self, &at, home, &mut take)?,
            }
        }
        Ok(if walk.kinds.is_empty() { seen.graph } else { seen.graph.only(&walk.kinds) })
    }
}

/// What a walk has seen.
struct Visit {
    graph: Graph,
    queue: VecDeque<(NodeId, u32)>,
    depths: BTreeMap<NodeId, u32>,
}

impl Visit {
    fn new(start: NodeId) -> Self {
        let graph = Graph { root: start, nodes: Vec::new(), edges: Vec::new(), truncated: false };
        Self { graph, queue: VecDeque::from([(start, 0)]), depths: BTreeMap::from([(start, 0)]) }
    }

    /// Adds an edge at `at`, and its other end; false when the limit is reached.
    fn take(&mut self, at: NodeId, depth: u32, walk: &Walk, edge: GraphEdge) -> bool {
        let other = if edge.from == at { edge.to } else { edge.from };
        if !self.depths.contains_key(&other) {
            if self.depths.len() >= walk.limit {
                self.graph.truncated = true;
                return false;
            }
            self.depths.insert(other, depth + 1);
            self.queue.push_back((other, depth + 1));
        }
        self.graph.edges.push(edge);
        true
    }
}
