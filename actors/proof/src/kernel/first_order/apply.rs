//! Applications, as Lean's `elabAppArgs` elaborates them: implicit arguments become metavariables, arguments go from
//! left to right, and the expected type is pushed in before the first of them that it can help.

use std::collections::VecDeque;

use super::{
    constants::Const,
    elaborate::{Elaborator, MISMATCH, Typed},
    terms::{Expr, Id},
    unify::Clash,
};
use crate::syntax::{Node, NodeId, Span, Stop};

/// What stands at the head of an application.
#[derive(Clone, Copy)]
pub(super) enum Head {
    Value(Typed),
    /// A constant; with `@`, its implicit arguments are written; with `first`, its first explicit one came before a dot.
    Const {
        constant: Const,
        explicit: bool,
        first: Option<Typed>,
    },
}

/// One argument.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    /// Text yet to be elaborated.
    Text(NodeId),
    /// Elaborated before.
    Value(Typed),
    /// The rest of a `⟨…⟩` with too many components.
    Rest(&'a [NodeId]),
}

/// An application so far: a term, its type, and the arguments to come.
struct Spine<'a> {
    term: Id,
    ty: Id,
    args: VecDeque<Arg<'a>>,
}

impl Elaborator<'_, '_> {
    /// Applies `head` to `args`.
    pub(super) fn apply(
        &mut self,
        node: NodeId,
        head: Head,
        args: &[Arg<'_>],
        expected: Option<Id>,
    ) -> Result<Typed, Stop> {
        let (args, named) = self.split(args);
        let mut spine = match head {
            Head::Value((term, ty)) => Spine { term, ty, args },
            Head::Const { constant, .. } => {
                let ty = self.unifier.constants[constant as usize];
                Spine { term: self.intern(Expr::Const(constant)), ty, args }
            }
        };
        match head {
            Head::Const { constant, explicit: false, first } => {
                self.implicit(&mut spine, constant, &named)?;
                if let Some(first) = first {
                    spine.args.push_front(Arg::Value(first));
                }
            }
            _ if !named.is_empty() => {
                return Err(Stop::unparsed(self.at(node), "named arguments are read for implicit parameters alone"));
            }
            Head::Const { constant, explicit: true, .. } if spine.args.len() < constant.entry().implicit.len() => {
                return Err(Stop::unparsed(self.at(node), "expected all implicit arguments after `@`"));
            }
            Head::Const { .. } | Head::Value(_) => {}
        }
        // Lean does not push `Prop` in: it often stands where something is coerced to it
        let mut push = expected.filter(|expected| self.unifier.terms.get(*expected) != Expr::Sort(0));
        while let Some(arg) = spine.args.pop_front() {
            let (domain, body) = self.function_type(node, arg, &mut spine)?;
            let is_hole = matches!(arg, Arg::Text(node) if matches!(self.tree.node(node), Node::Hole));
            if let Some(expected) = push
                && !is_hole
                && !matches!(arg, Arg::Value(_))
                && self.push(node, &spine, expected)?
            {
                push = None;
            }
            let arg = match arg {
                Arg::Text(node) => self.check(node, domain)?,
                Arg::Value((term, ty)) => {
                    self.unify(self.at(node), ty, domain)?;
                    term
                }
                Arg::Rest(fields) => {
                    let (term, ty) = self.anonymous(node, fields, Some(domain))?;
                    self.unify(self.at(node), ty, domain)?;
                    term
                }
            };
            spine.term = self.intern(Expr::App(spine.term, arg));
            spine.ty = self.unifier.terms.instantiate(body, arg);
        }
        Ok((spine.term, spine.ty))
    }

    /// Arguments by place, and by name.
    fn split<'a>(&self, args: &[Arg<'a>]) -> (VecDeque<Arg<'a>>, Vec<(Span, NodeId)>) {
        let mut named = Vec::new();
        let mut placed = VecDeque::with_capacity(args.len() + 1);
        for arg in args {
            match arg {
                Arg::Text(node) => match self.tree.node(*node) {
                    Node::Named { name, value } => named.push((name, value)),
                    _ => placed.push_back(*arg),
                },
                Arg::Value(_) | Arg::Rest(_) => placed.push_back(*arg),
            }
        }
        (placed, named)
    }

    /// Gives a constant its implicit arguments: those named in the text, and metavariables.
    fn implicit(&mut self, spine: &mut Spine<'_>, constant: Const, named: &[(Span, NodeId)]) -> Result<(), Stop> {
        let names = constant.entry().implicit;
        for (at, (name, _)) in named.iter().enumerate() {
            let again = named[..at].iter().any(|(other, _)| other.of(self.text) == name.of(self.text));
            if again || !names.contains(&name.of(self.text)) {
                return Err(Stop::unparsed(name.start, "named arguments are read for implicit parameters alone"));
            }
        }
        for name in names {
            let Expr::Pi(domain, body) = self.unifier.terms.get(spine.ty) else { break };
            let arg = match named.iter().find(|(given, _)| given.of(self.text) == *name) {
                Some((_, value)) => self.check(*value, domain)?,
                None => self.unifier.meta(domain),
            };
            spine.term = self.intern(Expr::App(spine.term, arg));
            spine.ty = self.unifier.terms.instantiate(body, arg);
        }
        Ok(())
    }

    /// Makes the type of `spine` a function type; gives its domain and body.
    fn function_type(&mut self, node: NodeId, arg: Arg<'_>, spine: &mut Spine<'_>) -> Result<(Id, Id), Stop> {
        spine.ty = self.unifier.whnf_pi(spine.ty);
        match self.unifier.terms.get(spine.ty) {
            Expr::Pi(domain, body) => Ok((domain, body)),
            _ if self.unifier.flexible(spine.ty).is_some() => {
                Err(Stop::unparsed(self.at(node), "the type of the function is not known here"))
            }
            _ => {
                let at = if let Arg::Text(arg) = arg { self.at(arg) } else { self.at(node) };
                Err(Stop::failed(at, "there is no function to take this argument"))
            }
        }
    }

    /// Unifies the type that the whole application will have with what is expected; `false` where that is too early.
    fn push(&mut self, node: NodeId, spine: &Spine<'_>, expected: Id) -> Result<bool, Stop> {
        let mut result = spine.ty;
        for _ in 0..=spine.args.len() {
            let Expr::Pi(_, body) = self.unifier.terms.get(result) else { return Ok(false) };
            result = body;
        }
        if self.unifier.terms.is_loose(result) {
            return Ok(false);
        }
        match self.unifier.unify(expected, result) {
            Ok(()) => Ok(true),
            Err(Clash::Different) => Err(Stop::failed(self.at(node), MISMATCH)),
            Err(Clash::Stuck) => {
                self.unsure = true;
                Ok(false)
            }
        }
    }
}
