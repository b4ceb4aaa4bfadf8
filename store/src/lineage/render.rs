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
        let mut text = String::new();
        let mut seen = BTreeSet::from([self.root]);
        text.push_str(&title(nodes.get(&self.root).copied(), &self.root));
        text.push('\n');
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
            text.push_str(&format!("{indent}{branch}{} {}{again}\n", verb(edge), title(nodes.get(far).copied(), far)));
            let deeper = format!("{indent}{trunk}");
            stack.push((at, indent, nth + 1));
            if is_new {
                stack.push((*far, deeper, 0));
            }
        }
        if self.truncated {
            text.push_str("… and more: the limit was reached\n");
        }
        text
    }

    /// Graphviz's DOT.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph lineage {\n  rankdir=BT;\n  node [shape=box];\n");
        let names = self.names();
        for (place, node) in self.nodes.iter().enumerate() {
            let label = dot_escaped(&format!("{}\n{}", node.kind, node.label));
            text.push_str(&format!("  n{place} [label=\"{label}\"];\n"));
        }
        for edge in &self.edges {
            if let (Some(from), Some(to)) = (names.get(&edge.from), names.get(&edge.to)) {
                text.push_str(&format!("  {from} -> {to} [label=\"{}\"];\n", dot_escaped(&verb(edge))));
            }
        }
        if self.truncated {
            text.push_str("  more [label=\"… and more\", shape=plaintext];\n");
        }
        text.push_str("}\n");
        text
    }

    /// Mermaid's flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart BT\n");
        let names = self.names();
        for (place, node) in self.nodes.iter().enumerate() {
            let label = mermaid_escaped(&format!("{}: {}", node.kind, node.label));
            text.push_str(&format!("  n{place}[\"{label}\"]\n"));
        }
        for edge in &self.edges {
            if let (Some(from), Some(to)) = (names.get(&edge.from), names.get(&edge.to)) {
                text.push_str(&format!("  {from} -- \"{}\" --> {to}\n", mermaid_escaped(&verb(edge))));
            }
        }
        if self.truncated {
            text.push_str("  more[\"… and more\"]\n");
        }
        text
    }

    /// Short names of nodes, by their place.
    fn names(&self) -> BTreeMap<NodeId, String> {
        self.nodes.iter().enumerate().map(|(place, node)| (node.id, format!("n{place}"))).collect()
    }
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
    let mut verb = edge.relation.to_string();
    if let Some(weight) = edge.weight {
        verb.push_str(&format!(" × {weight}"));
    }
    if !edge.block.is_empty() {
        verb.push_str(&format!(" ({})", edge.block));
    }
    if edge.through > 0 {
        verb.push_str(&format!(" … {} more …", edge.through));
    }
    verb
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
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '<' | '>' | '&' | '#' | ';' | '`' | '\\' | '[' | ']' | '{' | '}' | '(' | ')' | '|' => {
                escaped.push_str(&format!("#{};", letter as u32));
            }
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
