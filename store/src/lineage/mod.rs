//! Where things came from and what became of them: walks over the edges, both ways.
//!
//! Invariants: a walk sees one state of the store and visits each node once, breadth first, in stored order, so the same
//! store gives the same graph; it never holds more than its limits of nodes, and says when it stopped there. A walk that
//! starts in a run stays with the edges that run recorded wherever it recorded any, so a replay does not double the
//! answer. Nothing here writes.

pub(crate) mod edges;
mod graph;
mod label;
mod render;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::error::{Error, Result};
use crate::id::{Kind, NodeId, RunId};
use crate::model::Relation;
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
    /// The most nodes to show.
    pub limit: usize,
    /// The most nodes to walk through, shown or not.
    pub visits: usize,
}

impl Walk {
    /// A walk of any depth, over all kinds, that shows at most 2,000 nodes and walks through at most a million.
    #[must_use]
    pub fn new(toward: Toward) -> Self {
        Self { toward, depth: u32::MAX, kinds: BTreeSet::new(), within: None, limit: 2_000, visits: 1_000_000 }
    }
}

impl Store {
    /// What `node` depends on directly: each once, whichever run recorded it.
    pub(crate) fn ups_of(&self, node: &NodeId) -> Result<BTreeSet<NodeId>> {
        let mut ups = BTreeSet::new();
        let record = self.record(node)?;
        edges::up(self, node, record.as_deref(), None, &mut |edge| {
            ups.insert(edge.to);
            true
        })?;
        Ok(ups)
    }

    /// The nodes that `start` came from, or that came from it, and the edges between.
    ///
    /// # Errors
    /// `NotFound` if nothing is recorded under `start`; the engine's; `Corrupt`.
    pub fn walk(&self, start: NodeId, walk: &Walk) -> Result<Graph> {
        self.at_one_state(|store| {
            let visit = Visit::of(store, start, walk)?;
            visit.finish(store)
        })
    }

    /// All nodes of a kind that `start` came from, or that came from it; edges of `within` are preferred.
    ///
    /// # Errors
    /// As [`Store::walk`]; `Invalid` if the walk is too long to be whole.
    pub(crate) fn kin(
        &self,
        start: NodeId,
        toward: Toward,
        kind: Kind,
        within: Option<RunId>,
    ) -> Result<BTreeSet<NodeId>> {
        let walk = Walk { kinds: BTreeSet::from([kind]), limit: usize::MAX, within, ..Walk::new(toward) };
        let visit = Visit::of(self, start, &walk)?;
        if visit.is_truncated {
            return Err(Error::invalid("kin of a node", format!("at most `{}` nodes on the way", walk.visits), start));
        }
        let others = visit.nodes.into_iter().map(|(node, _)| node);
        Ok(others.filter(|node| node.kind() == kind && *node != start).collect())
    }
}

/// A step between two visited nodes, by their places. A million of them is kept, so the whole edge only where it shows.
struct Step {
    from: u32,
    to: u32,
    relation: Relation,
    run: Option<RunId>,
    shown: Option<Box<GraphEdge>>,
}

/// What a walk has seen.
struct Visit<'a> {
    walk: &'a Walk,
    start: NodeId,
    /// Every node with its depth, in the order of discovery.
    nodes: Vec<(NodeId, u32)>,
    places: HashMap<NodeId, u32>,
    steps: Vec<Step>,
    n_shown: usize,
    is_truncated: bool,
}

impl<'a> Visit<'a> {
    fn new(start: NodeId, walk: &'a Walk) -> Self {
        Self {
            walk,
            start,
            nodes: vec![(start, 0)],
            places: HashMap::from([(start, 0)]),
            steps: Vec::new(),
            n_shown: 1,
            is_truncated: false,
        }
    }

    /// Walks from a node as far as it goes.
    fn of(store: &Store, start: NodeId, walk: &'a Walk) -> Result<Self> {
        if !store.has(&start)? {
            return Err(Error::missing(start.kind().name(), start));
        }
        let mut visit = Self::new(start, walk);
        let home = walk.within.or(start.owner());
        let mut nth = 0;
        while let Some((at, depth)) = visit.nodes.get(nth).copied() {
            if depth < walk.depth {
                visit.expand(store, at, nth, depth, home)?;
            }
            nth += 1;
        }
        Ok(visit)
    }

    fn shows(&self, node: &NodeId) -> bool {
        self.walk.kinds.is_empty() || *node == self.start || self.walk.kinds.contains(&node.kind())
    }

    /// Follows the edges at `at`, which is the `nth` node.
    fn expand(&mut self, store: &Store, at: NodeId, nth: usize, depth: u32, home: Option<RunId>) -> Result<()> {
        let toward = self.walk.toward;
        let mut take = |edge: GraphEdge| self.take(nth as u32, depth, toward, edge);
        match toward {
            Toward::Ancestors => {
                let record = store.record(&at)?;
                edges::up(store, &at, record.as_deref(), home, &mut take)
            }
            Toward::Descendants => edges::down(store, &at, home, &mut take),
        }
    }

    /// Adds an edge at the node at `place`, and its other end; false when a limit is reached.
    fn take(&mut self, place: u32, depth: u32, toward: Toward, edge: GraphEdge) -> bool {
        let other = if toward == Toward::Ancestors { edge.to } else { edge.from };
        let known = self.places.get(&other).copied();
        let Some(other_place) = known.or_else(|| self.discover(other, depth + 1)) else {
            self.is_truncated = true;
            return false;
        };
        let (from, to) = if toward == Toward::Ancestors { (place, other_place) } else { (other_place, place) };
        let (relation, run) = (edge.relation, edge.run);
        let shown = (self.shows(&edge.from) && self.shows(&edge.to)).then(|| Box::new(edge));
        self.steps.push(Step { from, to, relation, run, shown });
        true
    }

    /// The place of a node met for the first time; none if a limit is reached.
    fn discover(&mut self, node: NodeId, depth: u32) -> Option<u32> {
        let is_shown = self.shows(&node);
        if self.nodes.len() >= self.walk.visits || (is_shown && self.n_shown >= self.walk.limit) {
            return None;
        }
        let place = self.nodes.len() as u32;
        self.nodes.push((node, depth));
        self.places.insert(node, place);
        self.n_shown += usize::from(is_shown);
        Some(place)
    }

    fn finish(self, store: &Store) -> Result<Graph> {
        let mut labels = Labels::new(store);
        let mut nodes = Vec::with_capacity(self.n_shown);
        for (node, depth) in self.nodes.iter().filter(|(node, _)| self.shows(node)) {
            let label = labels.of(node, store.record(node)?.as_deref())?;
            nodes.push(GraphNode { id: *node, kind: node.kind(), label, depth: *depth });
        }
        Ok(Graph { root: self.start, nodes, edges: self.edges(), truncated: self.is_truncated })
    }

    /// The edges between shown nodes. A path through nodes that are not shown becomes one edge with the relation of its
    /// dependent end; of several such paths between two nodes, the first.
    fn edges(&self) -> Vec<GraphEdge> {
        if self.walk.kinds.is_empty() {
            return self.steps.iter().filter_map(|step| step.shown.as_deref().cloned()).collect();
        }
        let mut ups: HashMap<u32, Vec<&Step>> = HashMap::new();
        for step in &self.steps {
            ups.entry(step.from).or_default().push(step);
        }
        let mut edges = Vec::new();
        for (from, _) in self.nodes.iter().enumerate().filter(|(_, (node, _))| self.shows(node)) {
            // Each hidden node is passed once for each shown one below it.
            let mut seen = HashSet::new();
            for first in ups.get(&(from as u32)).into_iter().flatten() {
                let mut stack = vec![(*first, 0)];
                while let Some((step, through)) = stack.pop() {
                    if let (Some(edge), 0) = (&step.shown, through) {
                        edges.push(GraphEdge::clone(edge));
                    } else if seen.insert(step.to) {
                        if let Some(edge) = self.bridge(first, step, through) {
                            edges.push(edge);
                        } else {
                            let next = ups.get(&step.to).into_iter().flatten();
                            stack.extend(next.rev().map(|step| (*step, through + 1)));
                        }
                    }
                }
            }
        }
        edges
    }

    /// The edge for a path that begins with `first` and ends with `last`, if that leads to a shown node.
    fn bridge(&self, first: &Step, last: &Step, through: u32) -> Option<GraphEdge> {
        let (from, to) = (self.nodes.get(first.from as usize)?.0, self.nodes.get(last.to as usize)?.0);
        let edge = GraphEdge::plain(from, first.relation, to, first.run);
        self.shows(&to).then_some(GraphEdge { through, ..edge })
    }
}
