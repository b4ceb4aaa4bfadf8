//! Unification: what Lean's elaborator does with `?a` as far as it is first-order.
//!
//! Follows Lean's `isDefEq` with the settings of its term elaborator: a metavariable applied to distinct variables that
//! are younger than itself is solved by abstraction (Miller's pattern); any other application `?f a` against `g b` by `?a := b`, `?f := g`, where
//! that fits; the rest is [`Clash::Stuck`]. Nothing here is trusted.

use super::{
    core::{beta, unfold},
    terms::{ANY, Expr, Id, Terms},
};

mod solve;

/// Deepest nesting of unification.
const MAX_DEPTH: u32 = 400;

/// Why two terms were not made the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// Nothing makes them the same.
    Different,
    /// Lean may know a way.
    Stuck,
}

/// A variable of the context, open or left behind.
#[derive(Clone, Copy, Debug)]
struct Variable {
    ty: Id,
    /// Whether one is still inside its binder.
    open: bool,
    /// The next variable outwards that was not known to be a proof.
    outer: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    ty: Id,
    value: Option<Id>,
    /// Variables made before it; it may mention those of them that are open.
    birth: u32,
    /// The innermost variable at its birth that was not known to be a proof.
    individual: Option<u32>,
}

/// Terms with variables and metavariables, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Unifier {
    pub(crate) terms: Terms,
    /// Types of the constants.
    pub(crate) constants: Vec<Id>,
    variables: Vec<Variable>,
    /// Open variables that were not known to be proofs, innermost last.
    individuals: Vec<u32>,
    metas: Vec<Meta>,
    /// Metavariables as they were before each change.
    trail: Vec<(u32, Meta)>,
    /// Whether the unification under way chose one solution among several.
    chose: bool,
}

impl Unifier {
    /// Forgets all metavariables and all but the first variables.
    pub(crate) fn forget(&mut self, n_variables: usize) {
        self.variables.truncate(n_variables);
        self.individuals.retain(|variable| (*variable as usize) < n_variables);
        self.metas.clear();
        self.trail.clear();
    }

    pub(crate) fn sort(&mut self, level: u8) -> Id {
        self.terms.intern(Expr::Sort(level))
    }

    /// A fresh unknown of type `ty`.
    pub(crate) fn meta(&mut self, ty: Id) -> Id {
        let birth = self.variables.len() as u32;
        let individual = self.individuals.last().copied();
        self.metas.push(Meta { ty, value: None, birth, individual });
        self.terms.intern(Expr::Meta(self.metas.len() as u32 - 1))
    }

    /// A fresh variable, open until [`Unifier::close`].
    pub(crate) fn open(&mut self, ty: Id) -> (u32, Id) {
        let is_proof = self.is_proposition(ty);
        let variable = self.variables.len() as u32;
        let outer = self.individuals.last().copied();
        if !is_proof {
            self.individuals.push(variable);
        }
        self.variables.push(Variable { ty, open: true, outer });
        (variable, self.terms.intern(Expr::Free(variable)))
    }

    /// Leaves the binder of a variable; a term that still mentions it is known by that.
    pub(crate) fn close(&mut self, variable: u32) {
        self.variables[variable as usize].open = false;
        self.leave(variable);
    }

    /// Leaves the binder of the last variable, which no term mentions any more.
    fn drop_last(&mut self, variable: u32) {
        self.variables.truncate(variable as usize);
        self.leave(variable);
    }

    fn leave(&mut self, variable: u32) {
        if self.individuals.last() == Some(&variable) {
            self.individuals.pop();
        }
    }

    fn is_open(&self, variable: u32) -> bool {
        self.variables.get(variable as usize).is_some_and(|variable| variable.open)
    }

    /// Whether one of the variables from `individual` outwards is gone and was no proof.
    fn outlived(&mut self, mut individual: Option<u32>) -> bool {
        while let Some(variable) = individual {
            match self.variables.get(variable as usize).copied() {
                Some(Variable { open: true, .. }) => return false,
                Some(Variable { ty, outer, .. }) => {
                    let ty = self.resolve(ty);
                    if !self.is_proposition(ty) {
                        return true;
                    }
                    individual = outer;
                }
                None => return true,
            }
        }
        false
    }

    fn is_proposition(&mut self, ty: Id) -> bool {
        let sort = self.type_of(ty).map(|sort| self.whnf(sort));
        sort.is_some_and(|sort| self.terms.get(sort) == Expr::Sort(0))
    }

    fn value(&self, id: Id) -> Option<Id> {
        if let Expr::Meta(index) = self.terms.get(id) { self.metas[index as usize].value } else { None }
    }

    /// The term with metavariables and β at its head replaced; definitions stay.
    pub(crate) fn whnf_core(&mut self, mut term: Id) -> Id {
        while self.terms.step() {
            let next = match self.terms.get(self.terms.head(term).0) {
                Expr::Meta(index) => match self.metas[index as usize].value {
                    Some(value) => self.with_head(term, value),
                    None => return term,
                },
                Expr::Lam(..) => match beta(&mut self.terms, term) {
                    Some(next) => next,
                    None => return term,
                },
                _ => return term,
            };
            term = next;
        }
        term
    }

    /// An application with another head.
    fn with_head(&mut self, term: Id, head: Id) -> Id {
        match self.terms.get(term) {
            Expr::App(f, arg) => {
                let f = self.with_head(f, head);
                self.terms.intern(Expr::App(f, arg))
            }
            _ => head,
        }
    }

    /// The term with its outermost form known, definitions unfolded.
    pub(crate) fn whnf(&mut self, term: Id) -> Id {
        let mut term = self.whnf_core(term);
        while self.terms.step()
            && let Some(next) = unfold(&mut self.terms, term)
        {
            term = self.whnf_core(next);
        }
        term
    }

    /// As Lean looks for a function type: unfolds only where that leads to one.
    pub(crate) fn whnf_pi(&mut self, term: Id) -> Id {
        let core = self.whnf_core(term);
        let full = self.whnf(core);
        if matches!(self.terms.get(full), Expr::Pi(..)) { full } else { core }
    }

    /// The metavariable at the head of a term in weak head normal form.
    pub(crate) fn flexible(&self, term: Id) -> Option<u32> {
        if let Expr::Meta(index) = self.terms.get(self.terms.head(term).0) { Some(index) } else { None }
    }

    /// The term with every known metavariable replaced; unknown ones stay.
    pub(crate) fn resolve(&mut self, term: Id) -> Id {
        if !self.terms.has_meta(term) || !self.terms.step() {
            return term;
        }
        let core = self.whnf_resolved(term);
        let expr = match self.terms.get(core) {
            Expr::App(f, a) => Expr::App(self.resolve(f), self.resolve(a)),
            Expr::Lam(a, b) => Expr::Lam(self.resolve(a), self.resolve(b)),
            Expr::Pi(a, b) => Expr::Pi(self.resolve(a), self.resolve(b)),
            _ => return core,
        };
        self.terms.intern(expr)
    }

    /// Replaces known metavariables at the head, with the β steps that this makes possible and no others.
    fn whnf_resolved(&mut self, mut term: Id) -> Id {
        while self.terms.step() {
            let (head, _) = self.terms.head(term);
            let Some(mut value) = self.value(head) else { return term };
            let args = self.terms.args(term);
            let mut rest = args.as_slice();
            while let (Expr::Lam(_, body), [first, more @ ..]) = (self.terms.get(value), rest) {
                value = self.terms.instantiate(body, *first);
                rest = more;
            }
            term = self.terms.apply(value, rest);
        }
        term
    }

    /// The type of a term, which is taken to have one.
    pub(crate) fn type_of(&mut self, term: Id) -> Option<Id> {
        if !self.terms.step() {
            return None;
        }
        Some(match self.terms.get(term) {
            Expr::Sort(ANY) => term,
            Expr::Sort(level) => self.sort(level.saturating_add(1).min(ANY - 1)),
            Expr::Const(constant) => self.constants[constant as usize],
            Expr::Free(variable) => self.variables[variable as usize].ty,
            Expr::Meta(index) => self.metas[index as usize].ty,
            Expr::App(f, arg) => {
                let ty = self.type_of(f)?;
                let function = self.whnf(ty);
                let Expr::Pi(_, body) = self.terms.get(function) else { return None };
                self.terms.instantiate(body, arg)
            }
            Expr::Lam(a, body) => {
                let (variable, x) = self.open(a);
                let body = self.terms.instantiate(body, x);
                let b = self.type_of(body).map(|b| self.resolve(b));
                self.drop_last(variable);
                let b = self.terms.abstraction(b?, variable);
                self.terms.intern(Expr::Pi(a, b))
            }
            Expr::Pi(a, body) => {
                let (variable, x) = self.open(a);
                let body = self.terms.instantiate(body, x);
                let (domain, level) = (self.level(a), self.level(body));
                self.drop_last(variable);
                match (domain?, level?) {
                    (_, 0) => self.sort(0),
                    (domain, level) => self.sort(domain.max(level)),
                }
            }
            Expr::Bound(_) => return None,
        })
    }

    /// The level of a type; [`ANY`] where it is not known.
    pub(crate) fn level(&mut self, ty: Id) -> Option<u8> {
        let sort = self.type_of(ty)?;
        let sort = self.whnf(sort);
        match self.terms.get(sort) {
            Expr::Sort(level) => Some(level),
            _ if self.flexible(sort).is_some() => Some(ANY),
            _ => None,
        }
    }

    /// Makes `a` and `b` the same by assigning metavariables; where that fails, none stays assigned.
    pub(crate) fn unify(&mut self, a: Id, b: Id) -> Result<(), Clash> {
        if a == b {
            return Ok(());
        }
        self.chose = false;
        let mark = self.trail.len();
        self.unify_at(a, b, 0).map_err(|clash| {
            self.undo(mark);
            // another choice might have done
            if self.chose || self.terms.is_exhausted() { Clash::Stuck } else { clash }
        })
    }

    fn undo(&mut self, mark: usize) {
        for (index, before) in self.trail.drain(mark..).rev() {
            self.metas[index as usize] = before;
        }
    }

    fn unify_at(&mut self, a: Id, b: Id, depth: u32) -> Result<(), Clash> {
        if a == b {
            return Ok(());
        }
        if depth > MAX_DEPTH || !self.terms.step() {
            return Err(Clash::Stuck);
        }
        let depth = depth + 1;
        let (a, b) = (self.whnf_core(a), self.whnf_core(b));
        if a == b {
            return Ok(());
        }
        match (self.flexible(a), self.flexible(b)) {
            (Some(m), Some(n)) if m == n => self.unify_args(a, b, depth).map_err(|_| Clash::Stuck),
            (Some(m), Some(n)) => match (self.terms.get(a), self.terms.get(b)) {
                (Expr::Meta(_), Expr::Meta(_)) if self.metas[m as usize].birth < self.metas[n as usize].birth => {
                    self.assign(n, a, depth)
                }
                (Expr::Meta(_), _) => self.assign(m, b, depth),
                (_, Expr::Meta(_)) => self.assign(n, a, depth),
                _ => self.solve(m, a, b, depth),
            },
            (Some(m), None) => self.solve(m, a, b, depth),
            (None, Some(n)) => self.solve(n, b, a, depth),
            (None, None) => self.unify_rigid(a, b, depth),
        }
    }

    /// Unifies the arguments of two applications, from the first to the last.
    fn unify_args(&mut self, a: Id, b: Id, depth: u32) -> Result<(), Clash> {
        match (self.terms.get(a), self.terms.get(b)) {
            (Expr::App(f, x), Expr::App(g, y)) => {
                self.unify_args(f, g, depth)?;
                self.unify_at(x, y, depth)
            }
            (Expr::App(..), _) | (_, Expr::App(..)) => Err(Clash::Different),
            _ => Ok(()),
        }
    }

    fn unify_rigid(&mut self, a: Id, b: Id, depth: u32) -> Result<(), Clash> {
        let mark = self.trail.len();
        let result = match (self.terms.get(a), self.terms.get(b)) {
            (Expr::Sort(a), Expr::Sort(b)) => {
                if a == b || a == ANY || b == ANY {
                    Ok(())
                } else {
                    Err(Clash::Different)
                }
            }
            (Expr::Pi(a, f), Expr::Pi(b, g)) | (Expr::Lam(a, f), Expr::Lam(b, g)) => {
                self.unify_at(a, b, depth)?;
                let (variable, x) = self.open(a);
                let (f, g) = (self.terms.instantiate(f, x), self.terms.instantiate(g, x));
                let result = self.unify_at(f, g, depth);
                self.drop_last(variable);
                return result;
            }
            (Expr::Lam(domain, body), _) => return self.eta(domain, body, b, depth),
            (_, Expr::Lam(domain, body)) => return self.eta(domain, body, a, depth),
            _ if self.terms.head(a) == self.terms.head(b) => self.unify_args(a, b, depth),
            _ => Err(Clash::Different),
        };
        if result != Err(Clash::Different) {
            return result;
        }
        if self.terms.head(a) != self.terms.head(b) {
            if let Some(a) = unfold(&mut self.terms, a) {
                return self.unify_at(a, b, depth);
            }
            if let Some(b) = unfold(&mut self.terms, b) {
                return self.unify_at(a, b, depth);
            }
        }
        self.undo(mark);
        self.irrelevant(a, b, depth)
    }

    fn eta(&mut self, domain: Id, body: Id, f: Id, depth: u32) -> Result<(), Clash> {
        let is_function = self.type_of(f).map(|ty| self.whnf(ty));
        if !is_function.is_some_and(|ty| matches!(self.terms.get(ty), Expr::Pi(..))) {
            return Err(Clash::Different);
        }
        let (variable, x) = self.open(domain);
        let (body, f) = (self.terms.instantiate(body, x), self.terms.apply(f, &[x]));
        let result = self.unify_at(body, f, depth);
        self.drop_last(variable);
        result
    }

    /// Two proofs of one proposition are the same.
    fn irrelevant(&mut self, a: Id, b: Id, depth: u32) -> Result<(), Clash> {
        let (Some(x), Some(y)) = (self.type_of(a), self.type_of(b)) else { return Err(Clash::Different) };
        if self.is_proposition(x) && self.is_proposition(y) {
            self.unify_at(x, y, depth)
        } else {
            Err(Clash::Different)
        }
    }
}
