//! Applications, as Lean's `elabAppArgs` elaborates them: implicit arguments become metavariables, arguments go from
//! left to right, and the expected type is pushed in before the first of them that it can help.

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

/// An application so far: a term and its type.
struct Spine {
    term: Id,
    ty: Id,
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
        let n_named = args.iter().filter(|arg| self.named(arg).is_some()).count();
        let mut spine = match head {
            Head::Value((term, ty)) => Spine { term, ty },
            Head::Const { constant, .. } => {
                let ty = self.unifier.constants[constant as usize];
                Spine { term: self.intern(Expr::Const(constant)), ty }
            }
        };
        let mut first = None;
        match head {
            Head::Const { constant, explicit: false, first: before_dot } => {
                self.implicit(&mut spine, constant, args, n_named)?;
                first = before_dot.map(Arg::Value);
            }
            _ if n_named > 0 => {
                return Err(Stop::unparsed(self.at(node), "named arguments are read for implicit parameters alone"));
            }
            Head::Const { constant, explicit: true, .. } if args.len() < constant.entry().implicit.len() => {
                // the rest stay implicit in Lean; that makes no difference where a function is asked for
                let asked = expected.map(|expected| self.unifier.whnf_pi(expected));
                if !asked.is_some_and(|asked| matches!(self.unifier.terms.get(asked), Expr::Pi(..))) {
                    return Err(Stop::unparsed(self.at(node), "expected all implicit arguments after `@`"));
                }
            }
            Head::Const { .. } | Head::Value(_) => {}
        }
        // Lean does not push `Prop` in: it often stands where something is coerced to it
        let mut push = expected.filter(|expected| self.unifier.terms.get(*expected) != Expr::Sort(0));
        let mut n_left = args.len() - n_named + usize::from(first.is_some());
        for arg in first.iter().chain(args) {
            if n_named > 0 && self.named(arg).is_some() {
                continue;
            }
            let (domain, body) = self.function_type(node, *arg, &mut spine)?;
            if let Some(expected) = push
                && self.lets_push(arg)
                && self.push(node, spine.ty, n_left, expected)?
            {
                push = None;
            }
            n_left -= 1;
            let arg = self.argument(node, *arg, domain)?;
            spine.term = self.intern(Expr::App(spine.term, arg));
            spine.ty = self.unifier.terms.instantiate(body, arg);
        }
        Ok((spine.term, spine.ty))
    }

    /// Elaborates one argument against its type.
    fn argument(&mut self, node: NodeId, arg: Arg<'_>, domain: Id) -> Result<Id, Stop> {
        let (term, ty) = match arg {
            Arg::Text(node) => return self.check(node, domain),
            Arg::Value(typed) => typed,
            Arg::Rest(fields) => self.anonymous(node, fields, Some(domain))?,
        };
        self.unify(self.at(node), ty, domain)?;
        Ok(term)
    }

    /// Whether Lean pushes the expected type in before this argument: not before a hole, nor what came before a dot.
    fn lets_push(&self, arg: &Arg<'_>) -> bool {
        match arg {
            Arg::Text(node) => !matches!(self.tree.node(*node), Node::Hole),
            Arg::Value(_) => false,
            Arg::Rest(_) => true,
        }
    }

    /// The name and the value of `(name := value)`.
    fn named(&self, arg: &Arg<'_>) -> Option<(Span, NodeId)> {
        match arg {
            Arg::Text(node) => match self.tree.node(*node) {
                Node::Named { name, value } => Some((name, value)),
                _ => None,
            },
            Arg::Value(_) | Arg::Rest(_) => None,
        }
    }

    /// Gives a constant its implicit arguments: those named in the text, and metavariables.
    fn implicit(
        &mut self,
        spine: &mut Spine,
        constant: Const,
        args: &[Arg<'_>],
        mut n_named: usize,
    ) -> Result<(), Stop> {
        for name in constant.entry().implicit {
            let Expr::Pi(domain, body) = self.unifier.terms.get(spine.ty) else { break };
            let mut given =
                args.iter().filter_map(|arg| self.named(arg)).filter(|(word, _)| word.of(self.text) == *name);
            let arg = match if n_named > 0 { given.next() } else { None } {
                Some((_, value)) => {
                    n_named -= 1;
                    self.check(value, domain)?
                }
                None => self.unifier.meta(domain),
            };
            spine.term = self.intern(Expr::App(spine.term, arg));
            spine.ty = self.unifier.terms.instantiate(body, arg);
        }
        if n_named > 0 {
            let first = args.iter().find_map(|arg| self.named(arg)).map_or(0, |(name, _)| name.start);
            return Err(Stop::unparsed(first, "named arguments are read for implicit parameters alone"));
        }
        Ok(())
    }

    /// Makes the type of `spine` a function type; gives its domain and body.
    fn function_type(&mut self, node: NodeId, arg: Arg<'_>, spine: &mut Spine) -> Result<(Id, Id), Stop> {
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

    /// Unifies the type that an application of a function of type `ty` to `n_args` arguments will have with what is expected; `false` where that is too early.
    fn push(&mut self, node: NodeId, ty: Id, n_args: usize, expected: Id) -> Result<bool, Stop> {
        let mut result = ty;
        for _ in 0..n_args {
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
