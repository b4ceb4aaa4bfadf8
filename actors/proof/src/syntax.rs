//! Lean text of the fragment to a syntax tree: one grammar for propositions, statements and proofs, as in Lean.
//!
//! Invariants: text of any length and nesting gives a tree or a [`Stop`] within bounded memory and stack; a tree is
//! only given for text that Lean parses to the same tree. Not here: what names mean, and what is well-typed.

mod lexer;
mod parser;

pub(crate) use lexer::is_reserved;
pub(crate) use parser::Parser;

use crate::{Error, Outcome};

/// Deepest nesting of a tree. Lean's own default (`maxRecDepth`) is 512.
pub(crate) const MAX_DEPTH: u16 = 256;

/// Why reading or checking stopped, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) outcome: Outcome,
    pub(crate) at: u32,
    pub(crate) reason: &'static str,
}

impl Stop {
    /// The text is not in the fragment, or more is needed than is inferred here: another checker may accept it.
    pub(crate) const fn unparsed(at: u32, reason: &'static str) -> Self {
        Self { outcome: Outcome::Unparsed, at, reason }
    }

    /// The text is understood and wrong.
    pub(crate) const fn failed(at: u32, reason: &'static str) -> Self {
        Self { outcome: Outcome::Failed, at, reason }
    }

    /// Line from 1 and column in characters from 0.
    pub(crate) fn position(&self, text: &str) -> (u32, u32) {
        let mut at = (self.at as usize).min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &text[..at];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line as u32, column(text, at))
    }

    pub(crate) fn into_error(self, text: &str) -> Error {
        let (line, column) = self.position(text);
        Error::Syntax { line, column, reason: self.reason }
    }
}

/// Characters between the last line break and the byte `at`.
fn column(text: &str, at: usize) -> u32 {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..at].chars().count() as u32
}

/// Index of a node in its [`Tree`].
pub(crate) type NodeId = u32;

/// A stretch of the source, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// A stretch of [`Tree::lists`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    start: u32,
    end: u32,
}

/// One node; propositions and proofs share the grammar, and only the elaborator knows which is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node {
    /// A possibly dotted name.
    Ident,
    /// `fun name : ty => body`, one binder each.
    Fun { name: Span, ty: Option<NodeId>, body: NodeId },
    /// `fun a b …`, with at least one argument.
    App { fun: NodeId, args: List },
    /// `⟨a, b⟩`
    Anonymous { args: List },
    /// `of.name`
    Field { of: NodeId, name: Span },
    /// `have name : ty := value; body`
    Have { name: Span, ty: Option<NodeId>, value: NodeId, body: NodeId },
    /// `(value : ty)` and `show ty from value`
    Typed { ty: NodeId, value: NodeId },
    /// `a → b`
    Arrow(NodeId, NodeId),
    /// `a ∧ b`
    And(NodeId, NodeId),
    /// `a ∨ b`
    Or(NodeId, NodeId),
    /// `a ↔ b`
    Iff(NodeId, NodeId),
    /// `¬ a`
    Not(NodeId),
    /// `a = b`
    Equal(NodeId, NodeId),
    /// `a ≠ b`
    Unequal(NodeId, NodeId),
    /// `∀ name : ty, body`, one binder each; also `(name : ty) → body`.
    Forall { name: Span, ty: Option<NodeId>, body: NodeId },
    /// `∃ name : ty, body`, one binder each.
    Exists { name: Span, ty: Option<NodeId>, body: NodeId },
    /// `_`
    Hole,
    /// `@name`
    Explicit(NodeId),
    /// `(name := value)` among arguments.
    Named { name: Span, value: NodeId },
}

/// A syntax tree in a few flat vectors, which are kept from text to text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<(Node, Span, u16)>,
    lists: Vec<NodeId>,
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize].0
    }

    pub(crate) fn span(&self, id: NodeId) -> Span {
        self.nodes[id as usize].1
    }

    pub(crate) fn list(&self, list: List) -> &[NodeId] {
        &self.lists[list.start as usize..list.end as usize]
    }

    fn clear(&mut self) {
        self.nodes.clear();
        self.lists.clear();
    }

    fn depth(&self, id: NodeId) -> u16 {
        self.nodes[id as usize].2
    }

    fn push_list(&mut self, items: &[NodeId]) -> List {
        let start = self.lists.len() as u32;
        self.lists.extend_from_slice(items);
        List { start, end: self.lists.len() as u32 }
    }

    /// Adds a node, or stops where the tree would grow deeper than [`MAX_DEPTH`].
    fn push(&mut self, node: Node, span: Span) -> Result<NodeId, Stop> {
        let deepest = |list: List| self.list(list).iter().map(|id| self.depth(*id)).max().unwrap_or(0);
        let below = match node {
            Node::Ident | Node::Hole => 0,
            Node::Fun { ty, body, .. } | Node::Forall { ty, body, .. } | Node::Exists { ty, body, .. } => {
                self.depth(body).max(ty.map_or(0, |ty| self.depth(ty)))
            }
            Node::App { fun, args } => self.depth(fun).max(deepest(args)),
            Node::Anonymous { args } => deepest(args).saturating_add(self.list(args).len().min(u16::MAX.into()) as u16),
            Node::Field { of, .. } => self.depth(of),
            Node::Have { ty, value, body, .. } => {
                self.depth(body).max(self.depth(value)).max(ty.map_or(0, |ty| self.depth(ty)))
            }
            Node::Typed { ty: a, value: b }
            | Node::Arrow(a, b)
            | Node::And(a, b)
            | Node::Or(a, b)
            | Node::Iff(a, b)
            | Node::Equal(a, b)
            | Node::Unequal(a, b) => self.depth(a).max(self.depth(b)),
            Node::Not(a) | Node::Explicit(a) | Node::Named { value: a, .. } => self.depth(a),
        };
        if below >= MAX_DEPTH {
            return Err(Stop::unparsed(span.start, TOO_DEEP));
        }
        self.nodes.push((node, span, below + 1));
        Ok(self.nodes.len() as NodeId - 1)
    }
}

const TOO_DEEP: &str = "the text is nested deeper than 256 levels";
