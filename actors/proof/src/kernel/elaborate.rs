//! Syntax trees to core terms: bidirectional, in the order in which Lean elaborates.
//!
//! The rule that keeps this side of Lean: the expected type is pushed in before the arguments, arguments go left to
//! right, and where a decision needs a type that is not known *yet* (a projection, an application, `⟨…⟩` at an unknown
//! type), the text is `unparsed`, even where Lean would postpone and perhaps succeed. Nothing here is trusted: what
//! comes out is checked by [`core`](super::core).

use super::{
    core::{Prop, PropId, Term, TermId},
    unify::Unifier,
};
use crate::syntax::{Node, NodeId, Span, Stop, Tree};

/// What a name in scope stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// A propositional variable.
    Atom(u8),
    /// A hypothesis: its place among all hypotheses, outermost first, and what it says.
    Hypothesis(u32, PropId),
}

/// A name in scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local<'t> {
    pub(crate) name: &'t str,
    pub(crate) meaning: Meaning,
}

/// A term and what it proves.
type Typed = (TermId, PropId);

/// The constants of the fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Const {
    TrueIntro,
    FalseElim,
    AndIntro,
    AndLeft,
    AndRight,
    OrInl,
    OrInr,
    OrElim,
    IffIntro,
    IffMp,
    IffMpr,
    Absurd,
    Id,
}

impl Const {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "True.intro" | "trivial" => Self::TrueIntro,
            "False.elim" => Self::FalseElim,
            "And.intro" => Self::AndIntro,
            "And.left" => Self::AndLeft,
            "And.right" => Self::AndRight,
            "Or.inl" => Self::OrInl,
            "Or.inr" => Self::OrInr,
            "Or.elim" => Self::OrElim,
            "Iff.intro" => Self::IffIntro,
            "Iff.mp" => Self::IffMp,
            "Iff.mpr" => Self::IffMpr,
            "absurd" => Self::Absurd,
            "id" => Self::Id,
            _ => return None,
        })
    }
}

/// What stands at the head of an application.
#[derive(Clone, Copy)]
enum Head {
    Value(Typed),
    /// A constant, with its first argument where that came before the dot.
    Const(Const, Option<Typed>),
}

const MISMATCH: &str = "the types do not match";

/// One text being elaborated.
pub(crate) struct Elaborator<'a, 't> {
    pub(crate) unifier: &'a mut Unifier,
    pub(crate) terms: &'a mut Vec<Term>,
    pub(crate) tree: &'a Tree,
    pub(crate) text: &'t str,
    pub(crate) scope: &'a mut Vec<Local<'t>>,
    /// Hypotheses among `scope`.
    pub(crate) n_hypotheses: u32,
}

impl Elaborator<'_, '_> {
    /// A core term for `node` with the type `goal`, every metavariable resolved.
    pub(crate) fn proof(&mut self, node: NodeId, goal: PropId) -> Result<TermId, Stop> {
        let root = self.check(node, goal)?;
        for index in 0..self.terms.len() {
            let mut term = self.terms[index];
            if let Term::Lam(prop, _) | Term::Inl(_, prop) | Term::Inr(prop, _) | Term::Explode(_, prop) = &mut term {
                *prop = self.unifier.resolve(*prop, 0).map_err(|clash| clash.stop(0, MISMATCH))?;
                if self.unifier.props.is_open(*prop) {
                    return Err(Stop::failed(0, "an implicit proposition is not determined"));
                }
            }
            self.terms[index] = term;
        }
        Ok(root)
    }

    fn at(&self, node: NodeId) -> u32 {
        self.tree.span(node).start
    }

    fn push(&mut self, term: Term) -> TermId {
        self.terms.push(term);
        self.terms.len() as TermId - 1
    }

    fn prop(&mut self, prop: Prop) -> PropId {
        self.unifier.props.intern(prop)
    }

    fn unify(&mut self, node: NodeId, a: PropId, b: PropId) -> Result<(), Stop> {
        self.unifier.unify(a, b).map_err(|clash| clash.stop(self.tree.span(node).start, MISMATCH))
    }

    /// Elaborates against a type.
    fn check(&mut self, node: NodeId, expected: PropId) -> Result<TermId, Stop> {
        let (term, ty) = self.elaborate(node, Some(expected))?;
        self.unify(node, ty, expected)?;
        Ok(term)
    }

    fn elaborate(&mut self, node: NodeId, expected: Option<PropId>) -> Result<Typed, Stop> {
        match self.tree.node(node) {
            Node::Ident | Node::Field { .. } => {
                let head = self.head(node)?;
                self.apply(node, head, &[], expected)
            }
            Node::App { fun, args } => {
                let head = self.head(fun)?;
                let tree = self.tree;
                self.apply(node, head, tree.list(args), expected)
            }
            Node::Fun { name, ty, body } => self.function(node, name, ty, body, expected),
            Node::Anonymous { args } => {
                let tree = self.tree;
                self.anonymous(node, tree.list(args), expected)
            }
            Node::Have { name, ty, value, body } => {
                let (value, ty) = match ty {
                    Some(ty) => {
                        let ty = self.proposition(ty)?;
                        (self.check(value, ty)?, ty)
                    }
                    None => self.elaborate(value, None)?,
                };
                let (body, result) = self.under(name, ty, |this| this.elaborate(body, expected))?;
                let body = self.push(Term::Lam(ty, body));
                Ok((self.push(Term::App(body, value)), result))
            }
            Node::Typed { ty, value } => {
                let ty = self.proposition(ty)?;
                Ok((self.check(value, ty)?, ty))
            }
            Node::Arrow(..) | Node::And(..) | Node::Or(..) | Node::Iff(..) | Node::Not(_) => {
                Err(Stop::failed(self.at(node), "expected a proof, got a proposition"))
            }
            _ => Err(Stop::unparsed(self.at(node), "this is beyond propositional logic")),
        }
    }

    /// Runs `inner` with one more hypothesis in scope. An empty span names it `this`.
    fn under<T>(
        &mut self,
        name: Span,
        ty: PropId,
        inner: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let name = if name.start == name.end { "this" } else { name.of(self.text) };
        self.scope.push(Local { name, meaning: Meaning::Hypothesis(self.n_hypotheses, ty) });
        self.n_hypotheses += 1;
        let result = inner(self);
        self.n_hypotheses -= 1;
        self.scope.pop();
        result
    }

    fn function(
        &mut self,
        node: NodeId,
        name: Span,
        ty: Option<NodeId>,
        body: NodeId,
        expected: Option<PropId>,
    ) -> Result<Typed, Stop> {
        let known = match expected.map(|expected| self.unifier.head(expected).1) {
            Some(Prop::Imp(a, b)) => Some((a, b)),
            None | Some(Prop::Meta(_)) => None,
            Some(_) => return Err(Stop::failed(self.at(node), "`fun` proves an implication, and none is expected")),
        };
        let domain = match (ty, known) {
            (Some(ty), known) => {
                let written = self.proposition(ty)?;
                if let Some((domain, _)) = known {
                    self.unify(ty, written, domain)?;
                }
                written
            }
            (None, Some((domain, _))) => domain,
            (None, None) => self.unifier.meta(),
        };
        let (body, result) = self.under(name, domain, |this| match known {
            Some((_, result)) => Ok((this.check(body, result)?, result)),
            None => this.elaborate(body, None),
        })?;
        let ty = self.prop(Prop::Imp(domain, result));
        Ok((self.push(Term::Lam(domain, body)), ty))
    }

    fn anonymous(&mut self, node: NodeId, args: &[NodeId], expected: Option<PropId>) -> Result<Typed, Stop> {
        let at = self.at(node);
        let Some(expected) = expected else {
            return Err(Stop::unparsed(at, "the type of `⟨…⟩` is not known here"));
        };
        let (a, b, iff) = match self.unifier.head(expected).1 {
            Prop::And(a, b) => (a, b, false),
            Prop::Iff(a, b) => {
                let forth = self.prop(Prop::Imp(a, b));
                (forth, self.prop(Prop::Imp(b, a)), true)
            }
            Prop::True if args.is_empty() => return Ok((self.push(Term::Trivial), expected)),
            Prop::Meta(_) => return Err(Stop::unparsed(at, "the type of `⟨…⟩` is not known here")),
            _ => return Err(Stop::failed(at, "`⟨…⟩` does not fit the expected type")),
        };
        let [first, rest @ ..] = args else {
            return Err(Stop::failed(at, "`⟨…⟩` has too few components"));
        };
        let first = self.check(*first, a)?;
        // Lean reads ⟨x, y, z⟩ as ⟨x, ⟨y, z⟩⟩
        let second = match rest {
            [] => return Err(Stop::failed(at, "`⟨…⟩` has too few components")),
            [only] => self.check(*only, b)?,
            _ => {
                let (term, ty) = self.anonymous(node, rest, Some(b))?;
                self.unify(node, ty, b)?;
                term
            }
        };
        let term = if iff { Term::Equiv(first, second) } else { Term::Both(first, second) };
        Ok((self.push(term), expected))
    }

    /// Resolves what stands at the head of an application.
    fn head(&mut self, node: NodeId) -> Result<Head, Stop> {
        match self.tree.node(node) {
            Node::Ident => self.name(node),
            Node::Field { of, name } => {
                let value = match self.tree.node(of) {
                    Node::Ident | Node::Field { .. } => {
                        let head = self.head(of)?;
                        self.apply(of, head, &[], None)?
                    }
                    _ => self.elaborate(of, None)?,
                };
                self.field(value, name.of(self.text), name.start)
            }
            _ => Ok(Head::Value(self.elaborate(node, None)?)),
        }
    }

    fn name(&mut self, node: NodeId) -> Result<Head, Stop> {
        let span = self.tree.span(node);
        let full = span.of(self.text);
        let (first, rest) = full.split_once('.').unwrap_or((full, ""));
        match self.lookup(first) {
            Some(Meaning::Atom(_)) => Err(Stop::failed(span.start, "expected a proof, got a proposition")),
            Some(Meaning::Hypothesis(level, ty)) => {
                let term = self.push(Term::Var(self.n_hypotheses - 1 - level));
                let mut head = Head::Value((term, ty));
                for field in rest.split('.').filter(|field| !field.is_empty()) {
                    let value = self.apply(node, head, &[], None)?;
                    head = self.field(value, field, span.start)?;
                }
                Ok(head)
            }
            None => match Const::named(full) {
                Some(constant) => Ok(Head::Const(constant, None)),
                None if matches!(full, "True" | "False" | "And" | "Or" | "Not" | "Iff") => {
                    Err(Stop::failed(span.start, "expected a proof, got a proposition"))
                }
                None if is_plainly_local(full) => Err(Stop::failed(span.start, "this name is not in scope")),
                None => Err(Stop::unparsed(span.start, "this constant is outside the fragment")),
            },
        }
    }

    fn lookup(&self, name: &str) -> Option<Meaning> {
        self.scope.iter().rev().find(|local| local.name == name).map(|local| local.meaning)
    }

    /// `value.field`
    fn field(&mut self, value: Typed, field: &str, at: u32) -> Result<Head, Stop> {
        let constant = match (self.unifier.head(value.1).1, field) {
            (Prop::And(..), "left" | "1") => Const::AndLeft,
            (Prop::And(..), "right" | "2") => Const::AndRight,
            (Prop::Iff(..), "mp" | "1") => Const::IffMp,
            (Prop::Iff(..), "mpr" | "2") => Const::IffMpr,
            (Prop::Or(..), "elim") => Const::OrElim,
            (Prop::False, "elim") => Const::FalseElim,
            (Prop::Atom(_), _) => return Err(Stop::failed(at, "this type has no projections")),
            (Prop::And(..) | Prop::Iff(..) | Prop::Or(..) | Prop::False | Prop::True, field)
                if field.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                return Err(Stop::failed(at, "this type has no such projection"));
            }
            (Prop::Meta(_), _) => return Err(Stop::unparsed(at, "the type before the dot is not known here")),
            _ => return Err(Stop::unparsed(at, "this projection is outside the fragment")),
        };
        Ok(Head::Const(constant, Some(value)))
    }

    /// Applies `head` to `args`: pushes the expected type in, then checks the arguments from left to right.
    fn apply(&mut self, node: NodeId, head: Head, args: &[NodeId], expected: Option<PropId>) -> Result<Typed, Stop> {
        let (mut term, mut ty, mut rest) = match head {
            Head::Value((term, ty)) => {
                self.expect_result(node, ty, args.len(), expected)?;
                (term, ty, args)
            }
            Head::Const(constant, first) => {
                let (params, n_params, result) = self.signature(constant);
                let params = &params[..n_params];
                let full = params.iter().rev().fold(result, |ty, param| self.prop(Prop::Imp(*param, ty)));
                let mut given = [0; 3];
                let mut n_given = 0;
                if let Some((value, ty)) = first {
                    self.unify(node, ty, params[0])?;
                    (given[0], n_given) = (value, 1);
                }
                self.expect_result(node, full, n_given + args.len(), expected)?;
                let (now, later) = args.split_at(args.len().min(n_params - n_given));
                for arg in now {
                    given[n_given] = self.check(*arg, params[n_given])?;
                    n_given += 1;
                }
                let term = self.constant(constant, params, result, &given[..n_given]);
                let ty = params[n_given..].iter().rev().fold(result, |ty, param| self.prop(Prop::Imp(*param, ty)));
                (term, ty, later)
            }
        };
        while let [arg, more @ ..] = rest {
            let (domain, result) = match self.unifier.head(ty).1 {
                Prop::Imp(a, b) => (a, b),
                Prop::Meta(_) => {
                    return Err(Stop::unparsed(self.at(node), "the type of the function is not known here"));
                }
                _ => return Err(Stop::failed(self.at(*arg), "there is no function to take this argument")),
            };
            let arg = self.check(*arg, domain)?;
            (term, ty, rest) = (self.push(Term::App(term, arg)), result, more);
        }
        Ok((term, ty))
    }

    /// Unifies what remains of `ty` after `n_args` arguments with what is expected, where both are known that far.
    fn expect_result(&mut self, node: NodeId, ty: PropId, n_args: usize, expected: Option<PropId>) -> Result<(), Stop> {
        let Some(expected) = expected else { return Ok(()) };
        if matches!(self.unifier.head(expected).1, Prop::Meta(_)) {
            return Ok(());
        }
        let mut result = ty;
        for _ in 0..n_args {
            match self.unifier.head(result).1 {
                Prop::Imp(_, b) => result = b,
                _ => return Ok(()),
            }
        }
        self.unify(node, result, expected)
    }

    /// Parameter types (how many count) and result of a constant, over fresh metavariables.
    fn signature(&mut self, constant: Const) -> ([PropId; 3], usize, PropId) {
        let falsum = self.prop(Prop::False);
        if constant == Const::TrueIntro {
            let verum = self.prop(Prop::True);
            return ([falsum; 3], 0, verum);
        }
        let a = self.unifier.meta();
        match constant {
            Const::FalseElim => return ([falsum; 3], 1, a),
            Const::Id => return ([a; 3], 1, a),
            _ => {}
        }
        let b = self.unifier.meta();
        let (forth, back) = (self.prop(Prop::Imp(a, b)), self.prop(Prop::Imp(b, a)));
        let (and, or, iff) = (Prop::And(a, b), Prop::Or(a, b), Prop::Iff(a, b));
        match constant {
            Const::AndIntro => ([a, b, a], 2, self.prop(and)),
            Const::AndLeft => ([self.prop(and); 3], 1, a),
            Const::AndRight => ([self.prop(and); 3], 1, b),
            Const::OrInl => ([a; 3], 1, self.prop(or)),
            Const::OrInr => ([b; 3], 1, self.prop(or)),
            Const::IffIntro => ([forth, back, a], 2, self.prop(iff)),
            Const::IffMp => ([self.prop(iff); 3], 1, forth),
            Const::IffMpr => ([self.prop(iff); 3], 1, back),
            Const::Absurd => {
                let not = self.prop(Prop::Imp(a, falsum));
                ([a, not, a], 2, b)
            }
            Const::OrElim | Const::TrueIntro | Const::FalseElim | Const::Id => {
                let c = self.unifier.meta();
                let (left, right) = (self.prop(Prop::Imp(a, c)), self.prop(Prop::Imp(b, c)));
                ([self.prop(or), left, right], 3, c)
            }
        }
    }

    /// The core term of a constant with its first arguments.
    fn constant(&mut self, constant: Const, params: &[PropId], result: PropId, given: &[TermId]) -> TermId {
        if given.len() < params.len() {
            // not enough arguments: the constant as a function, which is closed, applied to those there are
            let n = params.len() as u32;
            let variables: Vec<TermId> = (0..n).map(|i| self.push(Term::Var(n - 1 - i))).collect();
            let body = self.constant(constant, params, result, &variables);
            let function = params.iter().rev().fold(body, |body, param| self.push(Term::Lam(*param, body)));
            return given.iter().fold(function, |function, arg| self.push(Term::App(function, *arg)));
        }
        let sides = match self.unifier.head(result).1 {
            Prop::Or(a, b) => (a, b),
            _ => (result, result),
        };
        let term = match (constant, given) {
            (Const::Id, [x]) => return *x,
            (Const::FalseElim, [x]) => Term::Explode(*x, result),
            (Const::AndIntro, [x, y]) => Term::Both(*x, *y),
            (Const::AndLeft, [x]) => Term::Left(*x),
            (Const::AndRight, [x]) => Term::Right(*x),
            (Const::OrInl, [x]) => Term::Inl(*x, sides.1),
            (Const::OrInr, [x]) => Term::Inr(sides.0, *x),
            (Const::OrElim, [x, l, r]) => Term::Cases(*x, *l, *r),
            (Const::IffIntro, [x, y]) => Term::Equiv(*x, *y),
            (Const::IffMp, [x]) => Term::Mp(*x),
            (Const::IffMpr, [x]) => Term::Mpr(*x),
            (Const::Absurd, [x, no]) => Term::Explode(self.push(Term::App(*no, *x)), result),
            _ => Term::Trivial,
        };
        self.push(term)
    }

    /// Reads a tree as a proposition.
    fn proposition(&mut self, node: NodeId) -> Result<PropId, Stop> {
        let at = self.at(node);
        let prop = match self.tree.node(node) {
            Node::Ident => {
                let name = self.tree.span(node).of(self.text);
                match self.lookup(name.split('.').next().unwrap_or(name)) {
                    Some(Meaning::Atom(index)) if !name.contains('.') => Prop::Atom(index),
                    Some(_) => return Err(Stop::failed(at, "expected a proposition, got a proof")),
                    None => match name {
                        "True" => Prop::True,
                        "False" => Prop::False,
                        _ if is_plainly_local(name) => return Err(Stop::failed(at, "this name is not in scope")),
                        _ => return Err(Stop::unparsed(at, "this proposition is outside the fragment")),
                    },
                }
            }
            Node::App { fun, args } => {
                let tree = self.tree;
                let name = match tree.node(fun) {
                    Node::Ident => tree.span(fun).of(self.text),
                    _ => "",
                };
                match (name, tree.list(args)) {
                    ("Not", [a]) => Prop::Imp(self.proposition(*a)?, self.prop(Prop::False)),
                    ("And", [a, b]) => Prop::And(self.proposition(*a)?, self.proposition(*b)?),
                    ("Or", [a, b]) => Prop::Or(self.proposition(*a)?, self.proposition(*b)?),
                    ("Iff", [a, b]) => Prop::Iff(self.proposition(*a)?, self.proposition(*b)?),
                    ("Not" | "And" | "Or" | "Iff", _) => {
                        return Err(Stop::failed(at, "this connective has the wrong number of arguments"));
                    }
                    _ => return Err(Stop::unparsed(at, "this proposition is outside the fragment")),
                }
            }
            Node::Not(a) => Prop::Imp(self.proposition(a)?, self.prop(Prop::False)),
            Node::Arrow(a, b) => Prop::Imp(self.proposition(a)?, self.proposition(b)?),
            Node::And(a, b) => Prop::And(self.proposition(a)?, self.proposition(b)?),
            Node::Or(a, b) => Prop::Or(self.proposition(a)?, self.proposition(b)?),
            Node::Iff(a, b) => Prop::Iff(self.proposition(a)?, self.proposition(b)?),
            _ => return Err(Stop::unparsed(at, "this proposition is outside the fragment")),
        };
        Ok(self.prop(prop))
    }
}

/// Names such as `h12` and `x`, which no library gives a meaning.
pub(crate) fn is_plainly_local(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_digit())
}
