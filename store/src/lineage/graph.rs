//! What a walk found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Kind, NodeId, RunId};
use crate::model::Relation;
use crate::records::EdgeRecord;

/// Nodes and the edges between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Where the walk started.
    pub root: NodeId,
    /// The nodes, nearest first.
    pub nodes: Vec<GraphNode>,
    /// The edges, in the order they were walked.
    pub edges: Vec<GraphEdge>,
    /// Whether the limit was reached and there is more.
    pub truncated: bool,
}

/// One node of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its id.
    pub id: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// What people call it.
    pub label: String,
    /// How many edges it is from the start.
    pub depth: u32,
}

/// One edge of a graph: `from` depends on `to`, whichever way the walk went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphEdge {
    /// The dependent node.
    pub from: NodeId,
    /// How it depends.
    pub relation: Relation,
    /// What it depends on.
    pub to: NodeId,
    /// The run that recorded it, if one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunId>,
    /// The place among the edges of this relation, where order matters.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub order: u32,
    /// The weight of a merge.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<f64>,
    /// The block of a model the weight is for.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub block: String,
    /// How many nodes of kinds that were left out lie between; the relation is then that of `from`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub through: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl GraphEdge {
    pub(super) fn plain(from: NodeId, relation: Relation, to: NodeId, run: Option<RunId>) -> Self {
        Self { from, relation, to, run, order: 0, weight: None, block: String::new(), through: 0 }
    }

    pub(super) fn recorded(
        from: NodeId,
        relation: Relation,
        to: NodeId,
        run: RunId,
        order: u32,
        attributes: &EdgeRecord,
    ) -> Self {
        let plain = Self::plain(from, relation, to, Some(run));
        Self { order, weight: attributes.weight, block: attributes.block.clone(), ..plain }
    }
}

impl Graph {
    /// The same graph with the root and the nodes of `kinds` only; paths through others become one edge each.
    #[must_use]
    pub fn only(self, kinds: &BTreeSet<Kind>) -> Self {
        let root = self.root;
        let is_shown = |node: &NodeId| *node == root || kinds.contains(&node.kind());
        let mut ups: BTreeMap<NodeId, Vec<&GraphEdge>> = BTreeMap::new();
        for edge in &self.edges {
            ups.entry(edge.from).or_default().push(edge);
        }
        let mut edges = Vec::new();
        for from in self.nodes.iter().map(|node| node.id).filter(is_shown) {
            for first in ups.get(&from).into_iter().flatten() {
                contract(first, &ups, &is_shown, &mut edges);
            }
        }
        let nodes = self.nodes.iter().filter(|node| is_shown(&node.id)).cloned().collect();
        Self { root, nodes, edges, truncated: self.truncated }
    }

    /// The edges at each node the walk went on from, in the order they were walked: the far end and the edge.
    pub(super) fn children(&self) -> BTreeMap<NodeId, Vec<(NodeId, &GraphEdge)>> {
        let depths: BTreeMap<NodeId, u32> = self.nodes.iter().map(|node| (node.id, node.depth)).collect();
        let depth = |node: &NodeId| depths.get(node).copied().unwrap_or(u32::MAX);
        let mut children: BTreeMap<NodeId, Vec<(NodeId, &GraphEdge)>> = BTreeMap::new();
        let is_upward = self.edges.first().is_none_or(|edge| depth(&edge.from) <= depth(&edge.to));
        for edge in &self.edges {
            let (near, far) = if is_upward { (edge.from, edge.to) } else { (edge.to, edge.from) };
            children.entry(near).or_default().push((far, edge));
        }
        children
    }
}

/// Follows `first` through nodes that are not shown to those that are, and adds an edge to each, once.
fn contract<'a>(
    first: &'a GraphEdge,
    ups: &BTreeMap<NodeId, Vec<&'a GraphEdge>>,
    is_shown: &dyn Fn(&NodeId) -> bool,
    edges: &mut Vec<GraphEdge>,
) {
    let mut seen = BTreeSet::new();
    let mut stack = vec![(first, 0)];
    while let Some((edge, through)) = stack.pop() {
        if !seen.insert(edge.to) {
            continue;
        }
        if is_shown(&edge.to) {
            let shown = if through == 0 {
                edge.clone()
            } else {
                GraphEdge { through, ..GraphEdge::plain(first.from, first.relation, edge.to, first.run) }
            };
            let is_new = through == 0 || !edges.iter().any(|old| old.from == shown.from && old.to == shown.to);
            if is_new {
                edges.push(shown);
            }
        } else {
            let next = ups.get(&edge.to).into_iter().flatten();
            stack.extend(next.rev().map(|edge| (*edge, through + 1)));
        }
    }
}
