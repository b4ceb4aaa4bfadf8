//! Binders: the names and types after `fun`, `∀`, `∃`, and before a dependent arrow.

use super::{ARROW, LOWEST, Parsed, Parser};
use crate::syntax::{
    Node, NodeId, Span, Stop, is_reserved,
    lexer::{Kind, Token},
};

impl Parser {
    /// Takes one or more names that Lean allows for a variable.
    pub(super) fn binder_names(&mut self, text: &str) -> Result<(), Stop> {
        let first = self.binders.len();
        while self.kind() == Kind::Ident {
            let Token { start, end, .. } = self.token();
            let name = Span { start, end };
            check_binder(name.of(text), start)?;
            self.binders.push((name, None));
            self.next += 1;
        }
        if self.binders.len() == first {
            return Err(Stop::unparsed(self.token().start, "expected the name of a variable"));
        }
        Ok(())
    }

    /// Whether the bracketed term just read has the form `(x y : ty)`.
    pub(super) fn is_binder(&self, text: &str, node: NodeId) -> bool {
        let Node::Typed { value, .. } = self.tree.node(node) else { return false };
        let plain = |node: &NodeId| match self.tree.node(*node) {
            Node::Ident => !self.tree.span(*node).of(text).contains('.'),
            Node::Hole => true,
            _ => false,
        };
        match self.tree.node(value) {
            Node::App { fun, args } => plain(&fun) && self.tree.list(args).iter().all(plain),
            _ => plain(&value),
        }
    }

    /// `(x y : ty) → body`, of which the bracket has been read.
    pub(super) fn dependent_arrow(&mut self, text: &str, bracket: NodeId) -> Parsed {
        let start = self.tree.span(bracket).start;
        let Node::Typed { value, ty } = self.tree.node(bracket) else { return Ok(bracket) };
        let first = self.binders.len();
        let names = match self.tree.node(value) {
            Node::App { fun, args } => std::iter::once(&fun).chain(self.tree.list(args)).copied().collect(),
            _ => vec![value],
        };
        for name in names {
            let span = self.tree.span(name);
            check_binder(span.of(text), span.start)?;
            self.binders.push((span, Some(ty)));
        }
        self.next += 1;
        let body = self.expression(text, ARROW)?;
        self.close_binders(first, body, start, |name, ty, body| Node::Forall { name, ty, body })
    }

    /// `∀ x y, body`, `∀ x y : ty, body`, `∀ (x y : ty) z, body`.
    pub(super) fn forall(&mut self, text: &str) -> Parsed {
        let start = self.token().start;
        self.next += 1;
        let first = self.binders.len();
        self.binder_groups(text, true)?;
        self.expect(Kind::Comma, "expected `,`")?;
        let body = self.expression(text, LOWEST)?;
        self.close_binders(first, body, start, |name, ty, body| Node::Forall { name, ty, body })
    }

    /// `∃ x y, body`, `∃ x y : ty, body`, `∃ (x y : ty) (z : ty), body`.
    pub(super) fn exists(&mut self, text: &str) -> Parsed {
        self.note_notation();
        let start = self.token().start;
        self.next += 1;
        let first = self.binders.len();
        let bracketed = self.kind() == Kind::Open;
        self.binder_groups(text, true)?;
        // Lean mixes bracketed and plain names after `∀` and `fun`, but not after `∃`
        let mixed = bracketed && self.binders[first..].iter().any(|(_, ty)| ty.is_none());
        if mixed || (!bracketed && self.binders[first..].windows(2).any(|pair| pair[0].1 != pair[1].1)) {
            return Err(Stop::unparsed(start, "expected `∃ x y : ty,` or `∃ (x : ty) (y : ty),`"));
        }
        self.expect(Kind::Comma, "expected `,`")?;
        let body = self.expression(text, LOWEST)?;
        self.close_binders(first, body, start, |name, ty, body| Node::Exists { name, ty, body })
    }

    /// Wraps `body` in the binders read since `first`, the last one innermost.
    pub(super) fn close_binders(
        &mut self,
        first: usize,
        mut body: NodeId,
        start: u32,
        node: impl Fn(Span, Option<NodeId>, NodeId) -> Node,
    ) -> Parsed {
        while self.binders.len() > first
            && let Some((name, ty)) = self.binders.pop()
        {
            body = self.tree.push(node(name, ty, body), self.span_from(start))?;
        }
        Ok(body)
    }

    /// Binders of `fun`, `∀` or `∃`: names and `(names : ty)` in any order, or names with one type for all of them.
    /// A bracket without a type is a pattern after `fun`, and nothing elsewhere (`typed`).
    pub(super) fn binder_groups(&mut self, text: &str, typed: bool) -> Result<(), Stop> {
        let first = self.binders.len();
        let mut bracketed = false;
        loop {
            let group = self.binders.len();
            match self.kind() {
                Kind::Ident => self.binder_names(text)?,
                Kind::Open => {
                    bracketed = true;
                    self.next += 1;
                    self.binder_names(text)?;
                    if self.kind() == Kind::Colon {
                        self.next += 1;
                        let ty = self.without_margin(|parser| parser.expression(text, LOWEST))?;
                        self.binders[group..].iter_mut().for_each(|binder| binder.1 = Some(ty));
                    } else if typed {
                        return Err(Stop::unparsed(self.token().start, "expected `:` and the type of the binder"));
                    }
                    self.expect(Kind::Close, "expected `)`")?;
                }
                Kind::Colon if group > first && !bracketed => {
                    self.next += 1;
                    let ty = self.expression(text, LOWEST)?;
                    self.binders[first..].iter_mut().for_each(|binder| binder.1 = Some(ty));
                    break;
                }
                _ => break,
            }
        }
        if self.binders.len() == first {
            return Err(Stop::unparsed(self.token().start, "expected the name of a variable"));
        }
        Ok(())
    }
}

/// A variable is a plain word that neither Lean nor this crate gives a meaning of its own.
pub(super) fn check_binder(name: &str, at: u32) -> Result<(), Stop> {
    let ends_in_digit = name.ends_with(|c: char| c.is_ascii_digit());
    let taken = is_reserved(name) || (!ends_in_digit && GLOBAL.contains(&name));
    if taken || name.contains(['.', '!', '?']) {
        return Err(Stop::unparsed(at, "expected the name of a variable"));
    }
    Ok(())
}

/// Words without a dot that mean something here. Lean would let a variable hide some of them.
const GLOBAL: [&str; 15] = [
    "And", "Eq", "Exists", "False", "Iff", "Ne", "Not", "Or", "Prop", "Sort", "True", "Type", "absurd", "id", "trivial",
];
