//! What a walk found.

use std::collections::BTreeMap;

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
