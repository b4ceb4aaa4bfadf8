//! Syntax trees to terms: bidirectional, in the order in which Lean elaborates.
//!
//! As in the propositional elaborator, where a decision needs a type that is not known *yet*, the text is `unparsed`,
//! even where Lean would postpone and perhaps succeed. Applications are in [`apply`](super::apply). Nothing here is
//! trusted: what comes out is checked by [`core`](super::core).

use super::{
    apply::{Arg, Head},
    constants::{Const, Library},
    core::unfold,
    terms::{ANY, Expr, Id},
    unify::{Clash, Unifier},
};
use crate::{
    Outcome,
    kernel::elaborate::is_plainly_local,
    syntax::{Node, NodeId, Span, Stop, Tree},
};

/// A term and its type.
pub(super) type Typed = (Id, Id);

/// A name in scope: a variable of the context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local<'t> {
    pub(super) name: &'t str,
    pub(super) term: Id,
    pub(super) ty: Id,
}

pub(super) const MISMATCH: &str = "the types do not match";
const NOT_A_TYPE: &str = "expected a type or a proposition";

/// One text being elaborated.
pub(super) struct Elaborator<'a, 't> {
    pub(super) unifier: &'a mut Unifier,
    pub(super) tree: &'a Tree,
    pub(super) text: &'t str,
    pub(super) scope: Vec<Local<'t>>,
    pub(super) library: Library,
    /// Whether `Sort u` may be written: in the table of constants.
    pub(super) polymorphic: bool,
    /// Whether unification was stuck where Lean may know a way: then nothing is `failed` any more.
    pub(super) unsure: bool,
}

impl Elaborator<'_, '_> {
    /// A term for `node` of the type `goal`, every metavariable resolved.
    pub(super) fn proof(&mut self, node: NodeId, goal: Id) -> Result<Id, Stop> {
        let checked = self.check(node, goal).and_then(|term| self.determined(node, term));
        let doubtful = |stop: &Stop| self.unsure && stop.outcome == Outcome::Failed;
        checked.map_err(|stop| if doubtful(&stop) { Stop::unparsed(stop.at, stop.reason) } else { stop })
    }

    /// `term` with its metavariables replaced, if all of them are known.
    fn determined(&mut self, node: NodeId, term: Id) -> Result<Id, Stop> {
        let term = self.unifier.resolve(term);
        if self.unifier.terms.is_exhausted() {
            Err(Stop::unparsed(self.at(node), "the terms grow beyond what is inferred here"))
        } else if self.unifier.terms.has_meta(term) {
            Err(Stop::failed(self.at(node), "an implicit argument is not determined"))
        } else {
            Ok(term)
        }
    }

    /// A type, every metavariable resolved.
    pub(super) fn closed_type(&mut self, node: NodeId) -> Result<Id, Stop> {
        let ty = self.ty(node)?;
        self.determined(node, ty)
    }

    pub(super) fn at(&self, node: NodeId) -> u32 {
        self.tree.span(node).start
    }

    pub(super) fn intern(&mut self, expr: Expr) -> Id {
        self.unifier.terms.intern(expr)
    }

    /// Makes two types the same; `at` is where the text is to blame.
    pub(super) fn unify(&mut self, at: u32, a: Id, b: Id) -> Result<(), Stop> {
        self.unifier.unify(a, b).map_err(|clash| match clash {
            Clash::Different => Stop::failed(at, MISMATCH),
            Clash::Stuck => Stop::unparsed(at, "this takes more than first-order inference"),
        })
    }

    /// Elaborates against a type.
    pub(super) fn check(&mut self, node: NodeId, expected: Id) -> Result<Id, Stop> {
        let (term, ty) = self.elaborate(node, Some(expected))?;
        self.unify(self.at(node), ty, expected)?;
        Ok(term)
    }

    pub(super) fn elaborate(&mut self, node: NodeId, expected: Option<Id>) -> Result<Typed, Stop> {
        let at = self.at(node);
        if !self.unifier.terms.step() {
            return Err(Stop::unparsed(at, "the terms grow beyond what is inferred here"));
        }
        let tree = self.tree;
        match tree.node(node) {
            Node::Ident | Node::Field { .. } | Node::Explicit(_) => {
                let head = self.head(node)?;
                self.apply(node, head, &[], expected)
            }
            Node::App { fun, args } => {
                let args: Vec<Arg> = tree.list(args).iter().map(|arg| Arg::Text(*arg)).collect();
                if self.polymorphic && tree.span(fun).of(self.text) == "Sort" {
                    return Ok((self.unifier.sort(ANY), self.unifier.sort(ANY)));
                }
                let head = self.head(fun)?;
                self.apply(node, head, &args, expected)
            }
            Node::Fun { name, ty, body } => self.function(node, name, ty, body, expected),
            Node::Anonymous { args } => self.anonymous(node, tree.list(args), expected),
            Node::Have { name, ty, value, body } => self.have(name, ty, value, body, expected),
            Node::Typed { ty, value } => {
                let ty = self.ty(ty)?;
                Ok((self.check(value, ty)?, ty))
            }
            Node::Hole => {
                let ty = match expected {
                    Some(ty) => ty,
                    None => self.unknown_type(),
                };
                Ok((self.unifier.meta(ty), ty))
            }
            Node::Arrow(a, b) => {
                let (a, b) = (self.ty(a)?, self.ty(b)?);
                self.pi(at, a, b)
            }
            Node::Forall { name, ty, body } => {
                let domain = self.domain(ty)?;
                let body = self.under(name, domain, |this, _| this.ty(body))?;
                self.pi(at, domain, body)
            }
            Node::Exists { name, ty, body } => {
                let (domain, prop) = (self.domain(ty)?, self.unifier.sort(0));
                let body = self.under(name, domain, |this, _| this.check(body, prop))?;
                let predicate = self.intern(Expr::Lam(domain, body));
                let exists = self.intern(Expr::Const(Const::Exists));
                Ok((self.unifier.terms.apply(exists, &[domain, predicate]), prop))
            }
            Node::And(a, b) => self.connective(node, Const::And, &[a, b], expected),
            Node::Or(a, b) => self.connective(node, Const::Or, &[a, b], expected),
            Node::Iff(a, b) => self.connective(node, Const::Iff, &[a, b], expected),
            Node::Not(a) => self.connective(node, Const::Not, &[a], expected),
            Node::Equal(a, b) => self.relation(node, Const::Eq, a, b),
            Node::Unequal(a, b) => self.relation(node, Const::Ne, a, b),
            Node::Named { .. } => Err(Stop::unparsed(at, "a named argument stands only among arguments")),
        }
    }

    /// Elaborates a type or a proposition.
    pub(super) fn ty(&mut self, node: NodeId) -> Result<Id, Stop> {
        if matches!(self.tree.node(node), Node::Hole) {
            return Ok(self.unknown_type());
        }
        let (ty, sort) = self.elaborate(node, None)?;
        let sort = self.unifier.whnf(sort);
        match self.unifier.terms.get(sort) {
            Expr::Sort(_) => Ok(ty),
            _ if self.unifier.flexible(sort).is_some() => {
                Err(Stop::unparsed(self.at(node), "whether this is a type is not known here"))
            }
            _ => Err(Stop::failed(self.at(node), NOT_A_TYPE)),
        }
    }

    fn unknown_type(&mut self) -> Id {
        let any = self.unifier.sort(ANY);
        self.unifier.meta(any)
    }

    /// The type of a binder; unknown where it is not written.
    fn domain(&mut self, ty: Option<NodeId>) -> Result<Id, Stop> {
        match ty {
            Some(ty) => self.ty(ty),
            None => Ok(self.unknown_type()),
        }
    }

    fn pi(&mut self, at: u32, domain: Id, body: Id) -> Result<Typed, Stop> {
        let ty = self.intern(Expr::Pi(domain, body));
        let sort = self.unifier.type_of(ty).ok_or_else(|| Stop::unparsed(at, NOT_A_TYPE))?;
        Ok((ty, sort))
    }

    fn connective(&mut self, node: NodeId, c: Const, args: &[NodeId], expected: Option<Id>) -> Result<Typed, Stop> {
        let args: Vec<Arg> = args.iter().map(|arg| Arg::Text(*arg)).collect();
        self.apply(node, Head::Const { constant: c, explicit: false, first: None }, &args, expected)
    }

    /// `a = b` and `a ≠ b`: Lean elaborates both sides before it looks at what is expected.
    fn relation(&mut self, node: NodeId, constant: Const, a: NodeId, b: NodeId) -> Result<Typed, Stop> {
        let (a, b) = (self.elaborate(a, None)?, self.elaborate(b, None)?);
        let args = [Arg::Value(a), Arg::Value(b)];
        self.apply(node, Head::Const { constant, explicit: false, first: None }, &args, None)
    }

    /// Runs `inner` under one more variable and gives its result as the body of a binder for it. An empty span names
    /// the variable `this`.
    fn under(&mut self, name: Span, ty: Id, inner: impl FnOnce(&mut Self, Id) -> Result<Id, Stop>) -> Result<Id, Stop> {
        self.under_two(name, ty, |this, x| inner(this, x).map(|body| (body, body))).map(|(body, _)| body)
    }

    /// As [`Elaborator::under`], for a term and its type.
    fn under_two(
        &mut self,
        name: Span,
        ty: Id,
        inner: impl FnOnce(&mut Self, Id) -> Result<Typed, Stop>,
    ) -> Result<Typed, Stop> {
        let name = if name.start == name.end { "this" } else { name.of(self.text) };
        let (variable, term) = self.unifier.open(ty);
        self.scope.push(Local { name, term, ty });
        let result = inner(self, term);
        self.scope.pop();
        // what is known now is put in before the variable is gone
        let result = result.map(|(term, ty)| {
            let (term, ty) = (self.unifier.resolve(term), self.unifier.resolve(ty));
            (self.unifier.terms.abstraction(term, variable), self.unifier.terms.abstraction(ty, variable))
        });
        self.unifier.close(variable);
        result
    }

    fn function(
        &mut self,
        node: NodeId,
        name: Span,
        ty: Option<NodeId>,
        body: NodeId,
        expected: Option<Id>,
    ) -> Result<Typed, Stop> {
        let known = match expected.map(|expected| self.unifier.whnf_pi(expected)) {
            None => None,
            Some(expected) => match self.unifier.terms.get(expected) {
                Expr::Pi(domain, result) => Some((domain, result)),
                _ if self.unifier.flexible(expected).is_some() => None,
                _ => return Err(Stop::failed(self.at(node), "a function stands where none is expected")),
            },
        };
        let domain = match (ty, known) {
            (Some(ty), known) => {
                let written = self.ty(ty)?;
                if let Some((domain, _)) = known {
                    self.unify(self.at(ty), written, domain)?;
                }
                written
            }
            (None, Some((domain, _))) => domain,
            (None, None) => self.unknown_type(),
        };
        let (body, result) = self.under_two(name, domain, |this, x| match known {
            Some((_, result)) => {
                let result = this.unifier.terms.instantiate(result, x);
                Ok((this.check(body, result)?, result))
            }
            None => this.elaborate(body, None),
        })?;
        Ok((self.intern(Expr::Lam(domain, body)), self.intern(Expr::Pi(domain, result))))
    }

    fn have(
        &mut self,
        name: Span,
        ty: Option<NodeId>,
        value: NodeId,
        body: NodeId,
        expected: Option<Id>,
    ) -> Result<Typed, Stop> {
        let (value, ty) = match ty {
            Some(ty) => {
                let ty = self.ty(ty)?;
                (self.check(value, ty)?, ty)
            }
            None => self.elaborate(value, None)?,
        };
        let (body, result) = self.under_two(name, ty, |this, _| match expected {
            Some(expected) => Ok((this.check(body, expected)?, expected)),
            None => this.elaborate(body, None),
        })?;
        let function = self.intern(Expr::Lam(ty, body));
        Ok((self.intern(Expr::App(function, value)), self.unifier.terms.instantiate(result, value)))
    }

    /// `⟨a, b, …⟩`: the constructor of the expected type, the last component taking what is left over.
    pub(super) fn anonymous(&mut self, node: NodeId, args: &[NodeId], expected: Option<Id>) -> Result<Typed, Stop> {
        let at = self.at(node);
        let unknown = Stop::unparsed(at, "the type of `⟨…⟩` is not known here");
        let expected_form = expected.map(|expected| self.unifier.whnf(expected)).ok_or(unknown)?;
        let (head, _) = self.unifier.terms.head(expected_form);
        let constructor = match self.unifier.terms.get(head) {
            Expr::Const(Const::True) => Const::TrueIntro,
            Expr::Const(Const::And) => Const::AndIntro,
            Expr::Const(Const::Iff) => Const::IffIntro,
            Expr::Const(Const::Exists) => Const::ExistsIntro,
            Expr::Const(Const::Or | Const::False) | Expr::Free(_) | Expr::Pi(..) => {
                return Err(Stop::failed(at, "`⟨…⟩` does not fit the expected type"));
            }
            Expr::Meta(_) => return Err(unknown),
            _ => return Err(Stop::unparsed(at, "`⟨…⟩` of this type is outside the fragment")),
        };
        let n_fields = if constructor == Const::TrueIntro { 0 } else { 2 };
        if args.len() < n_fields || (n_fields == 0 && !args.is_empty()) {
            return Err(Stop::failed(at, "`⟨…⟩` has the wrong number of components"));
        }
        let mut fields: Vec<Arg> = args[..n_fields].iter().map(|arg| Arg::Text(*arg)).collect();
        if args.len() > n_fields {
            fields[1] = Arg::Rest(&args[1..]);
        }
        self.apply(node, Head::Const { constant: constructor, explicit: false, first: None }, &fields, expected)
    }

    /// Resolves what stands at the head of an application.
    pub(super) fn head(&mut self, node: NodeId) -> Result<Head, Stop> {
        match self.tree.node(node) {
            Node::Ident => self.name(node, false),
            Node::Explicit(name) => self.name(name, true),
            Node::Field { of, name } => {
                let value = self.elaborate(of, None)?;
                self.field(value, name.of(self.text), name.start)
            }
            _ => Ok(Head::Value(self.elaborate(node, None)?)),
        }
    }

    fn name(&mut self, node: NodeId, explicit: bool) -> Result<Head, Stop> {
        let span = self.tree.span(node);
        let full = span.of(self.text);
        let (first, rest) = full.split_once('.').unwrap_or((full, ""));
        if let Some(local) = self.scope.iter().rev().find(|local| local.name == first).copied() {
            if explicit && !rest.is_empty() {
                return Err(Stop::unparsed(span.start, "`@` before a projection is outside the fragment"));
            }
            let mut head = Head::Value((local.term, local.ty));
            for field in rest.split('.').filter(|field| !field.is_empty()) {
                let value = self.apply(node, head, &[], None)?;
                head = self.field(value, field, span.start)?;
            }
            return Ok(head);
        }
        if let Some(constant) = Const::named(full, self.library) {
            return Ok(Head::Const { constant, explicit, first: None });
        }
        match full {
            "Prop" => Ok(Head::Value((self.unifier.sort(0), self.unifier.sort(1)))),
            "Type" => Ok(Head::Value((self.unifier.sort(1), self.unifier.sort(2)))),
            _ if is_plainly_local(full) => Err(Stop::failed(span.start, "this name is not in scope")),
            _ => Err(Stop::unparsed(span.start, "this name is outside the fragment")),
        }
    }

    /// `value.field`, by the constant at the head of the type of `value`, unfolded as far as needed.
    fn field(&mut self, value: Typed, field: &str, at: u32) -> Result<Head, Stop> {
        let mut ty = self.unifier.whnf_core(value.1);
        loop {
            let (head, _) = self.unifier.terms.head(ty);
            let head = self.unifier.terms.get(head);
            if let Some(constant) = projection(head, field).filter(|constant| constant.entry().library <= self.library)
            {
                return Ok(Head::Const { constant, explicit: false, first: Some(value) });
            }
            match unfold(&mut self.unifier.terms, ty) {
                Some(next) => ty = self.unifier.whnf_core(next),
                None => return Err(no_projection(head, field, at)),
            }
        }
    }
}

/// The constant that `.field` means on a term whose type has this head.
fn projection(head: Expr, field: &str) -> Option<Const> {
    let Expr::Const(head) = head else { return None };
    Some(match (head, field) {
        (Const::And, "left" | "1") => Const::AndLeft,
        (Const::And, "right" | "2") => Const::AndRight,
        (Const::Iff, "mp" | "1") => Const::IffMp,
        (Const::Iff, "mpr" | "2") => Const::IffMpr,
        (Const::Iff, "symm") => Const::IffSymm,
        (Const::Iff, "trans") => Const::IffTrans,
        (Const::Or, "elim") => Const::OrElim,
        (Const::False, "elim") => Const::FalseElim,
        (Const::Exists, "elim") => Const::ExistsElim,
        (Const::Eq, "symm") => Const::EqSymm,
        (Const::Eq, "trans") => Const::EqTrans,
        (Const::Eq, "subst") => Const::EqSubst,
        (Const::Ne, "symm") => Const::NeSymm,
        _ => return None,
    })
}

fn no_projection(head: Expr, field: &str, at: u32) -> Stop {
    match head {
        Expr::Free(_) => Stop::failed(at, "this type has no projections"),
        Expr::Const(_) | Expr::Pi(..) if field.starts_with(|c: char| c.is_ascii_digit()) => {
            Stop::failed(at, "this type has no such projection")
        }
        Expr::Meta(_) => Stop::unparsed(at, "the type before the dot is not known here"),
        _ => Stop::unparsed(at, "this projection is outside the fragment"),
    }
}
