//! A graph as text: an indented tree, DOT, Mermaid. JSON is its serde form.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, GraphEdge, GraphNode};
use crate::id::NodeId;

impl Graph {
    /// An indented tree from the root, a node a line. A node met again is named, and not followed again.
    #[must_use]
    pub fn to_tree(&self) -> String {
        let nodes: BTreeMap<NodeId, &GraphNode> = self.nodes.iter().map(|node| (node.id, node)).collect();
        let children = self.children();
        let mut lines = vec![title(nodes.get(&self.root).copied(), &self.root)];
        let mut seen = BTreeSet::from([self.root]);
        // An explicit stack: lineages may be deeper than the call stack.
        let mut stack: Vec<(NodeId, String, usize)> = vec![(self.root, String::new(), 0)];
        while let Some((at, indent, nth)) = stack.pop() {
            let below = children.get(&at).map_or(&[][..], Vec::as_slice);
            let Some((far, edge)) = below.get(nth) else {
                continue;
            };
            let is_last = nth + 1 == below.len();
            let (branch, trunk) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let is_new = seen.insert(*far);
            let again = if is_new || !children.contains_key(far) { "" } else { " (above)" };
            lines.push(format!("{indent}{branch}{} {}{again}", verb(edge), title(nodes.get(far).copied(), far)));
            let deeper = format!("{indent}{trunk}");
            stack.push((at, indent, nth + 1));
            if is_new {
                stack.push((*far, deeper, 0));
            }
        }
        if self.truncated {
            lines.push("… and more: the limit was reached".to_owned());
        }
        joined(&lines)
    }

    /// Graphviz's DOT.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut lines: Vec<String> =
            ["digraph lineage {", "  rankdir=BT;", "  node [shape=box];"].map(str::to_owned).into();
        for (place, node) in self.nodes.iter().enumerate() {
            let label = dot_escaped(&format!("{}\n{}", node.kind, node.label));
            lines.push(format!("  n{place} [label=\"{label}\"];"));
        }
        for (from, edge, to) in self.placed_edges() {
            lines.push(format!("  n{from} -> n{to} [label=\"{}\"];", dot_escaped(&verb(edge))));
        }
        if self.truncated {
            lines.push("  more [label=\"… and more\", shape=plaintext];".to_owned());
        }
        lines.push("}".to_owned());
        joined(&lines)
    }

    /// Mermaid's flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut lines = vec!["flowchart BT".to_owned()];
        for (place, node) in self.nodes.iter().enumerate() {
            let label = mermaid_escaped(&format!("{}: {}", node.kind, node.label));
            lines.push(format!("  n{place}[\"{label}\"]"));
        }
        for (from, edge, to) in self.placed_edges() {
            lines.push(format!("  n{from} -- \"{}\" --> n{to}", mermaid_escaped(&verb(edge))));
        }
        if self.truncated {
            lines.push("  more[\"… and more\"]".to_owned());
        }
        joined(&lines)
    }

    /// The edges with the places of their nodes.
    fn placed_edges(&self) -> impl Iterator<Item = (usize, &GraphEdge, usize)> {
        let places: BTreeMap<NodeId, usize> =
            self.nodes.iter().enumerate().map(|(place, node)| (node.id, place)).collect();
        self.edges.iter().filter_map(move |edge| Some((*places.get(&edge.from)?, edge, *places.get(&edge.to)?)))
    }
}

fn joined(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn title(node: Option<&GraphNode>, id: &NodeId) -> String {
    let label = node.map_or_else(|| id.to_string(), |node| node.label.clone());
    let label: String = label.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match id.digest() {
        Some(digest) => format!("{} {label} [{}]", id.kind(), digest.short()),
        None => format!("{} {label}", id.kind()),
    }
}

/// The relation with its weight, its block and what was left out.
fn verb(edge: &GraphEdge) -> String {
    let weight = edge.weight.map_or_else(String::new, |weight| format!(" × {weight}"));
    let block = if edge.block.is_empty() { String::new() } else { format!(" ({})", edge.block) };
    let through = if edge.through == 0 { String::new() } else { format!(" … {} more …", edge.through) };
    format!("{}{weight}{block}{through}", edge.relation)
}

fn dot_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => escaped.extend(['\\', letter]),
            '\n' => escaped.push_str("\\n"),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Mermaid has no backslash escapes; what it would read as syntax or HTML is written as entities.
fn mermaid_escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '"' | '<' | '>' | '&' | '#' | ';' | '`' | '\\' | '[' | ']' | '{' | '}' | '(' | ')' | '|' => {
            format!("#{};", letter as u32)
        }
        letter if letter.is_control() => " ".to_owned(),
        letter => letter.to_string(),
    };
    text.chars().map(escape).collect()
}
