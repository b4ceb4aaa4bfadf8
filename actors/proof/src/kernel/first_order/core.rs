//! The trusted core for first-order logic: the rules of Lean's own kernel that such proofs need, and no others.
//!
//! Terms and propositions are one language. [`Core::infer`] gives a term its type by these rules (Γ is the context):
//!
//! - `Prop : Type`, `Type : Type 1`, `Type 1 : Type 2`; a variable has the type that Γ says, a constant that of the table;
//! - `(x : A) → B` is a type where A and B are; it is a proposition where B is, else of the greater level;
//! - `fun x : A => b` has the type `(x : A) → B` where b has the type B under x : A;
//! - `f a` has the type B with a for x where f has the type `(x : A) → B` and a the type A.
//!
//! [`Core::equal`] is when two types are the same: β (`(fun x => b) a` is b with a for x), δ (`Not`, `Ne` and `id` are
//! what Lean defines them to be), η (`fun x => f x` is f), and two proofs of one proposition are the same.
//!
//! Why what is accepted here Lean's kernel accepts: each rule is one of its rules, restricted. The restrictions: levels
//! are numbers below [`MAX_LEVEL`]; a constant `C.{u}` occurs with the arguments that fix u ([`Core::application`]), so
//! that one level can be written in its place; there are no other inductive types, recursors, `let` or projections; a
//! term with a metavariable, or a variable from outside Γ, has no type; work is bounded, and beyond the bound nothing is
//! accepted. Constants have Lean's types ([`constants`](super::constants)), which Lean's library proves from the axioms
//! that the table names. Not here: text, names, inference.

use std::collections::BTreeSet;

use super::{
    constants::Const,
    terms::{ANY, Expr, Id, Terms},
};
use crate::kernel::core::FoldMap;

/// Levels from which on nothing has a type.
const MAX_LEVEL: u8 = 4;
/// Deepest nesting of rules; each takes some hundred bytes of stack.
const MAX_DEPTH: u32 = 2000;

/// The checker.
#[derive(Debug)]
pub(crate) struct Core<'a> {
    pub(crate) terms: &'a mut Terms,
    /// Types of the constants, by their place in the table.
    pub(crate) constants: &'a [Id],
    /// Types of the free variables.
    pub(crate) context: Vec<Id>,
    /// Types found so far: variables are never used again, so a term keeps its type.
    pub(crate) known: &'a mut FoldMap<Id, Id>,
    /// Axioms that the constants met so far rest on.
    pub(crate) axioms: BTreeSet<&'static str>,
}

impl Core<'_> {
    /// Whether `term` has the type `ty`, both over the variables of `context` alone.
    pub(crate) fn has_type(&mut self, term: Id, ty: Id) -> bool {
        if !self.is_closed(term) || !self.is_closed(ty) {
            return false;
        }
        let Some(found) = self.infer(term, 0) else { return false };
        self.equal(found, ty, 0) && !self.terms.is_exhausted()
    }

    /// Whether `types`, each over those before it, are types, and `goal` is a proposition over all of them.
    pub(crate) fn is_statement(&mut self, types: &[Id], goal: Id) -> bool {
        for ty in types {
            let n = self.context.len();
            if !self.is_closed(*ty) || self.level(*ty, 0).is_none() {
                return false;
            }
            // variables of quantifiers inside the type are gone, and what was found of them
            self.context.truncate(n);
            self.known.clear();
            self.context.push(*ty);
        }
        self.is_closed(goal) && self.level(goal, 0) == Some(0) && !self.terms.is_exhausted()
    }

    fn is_closed(&self, id: Id) -> bool {
        let n = self.context.len() as u32;
        !self.terms.is_loose(id) && !self.terms.has_meta(id) && self.terms.n_free(id) <= n
    }

    /// The type of `term`; `None` where it has none by the rules above.
    fn infer(&mut self, term: Id, depth: u32) -> Option<Id> {
        if depth > MAX_DEPTH || !self.terms.step() {
            return None;
        }
        let expr = self.terms.get(term);
        match expr {
            Expr::Free(variable) => return self.context.get(variable as usize).copied(),
            Expr::Sort(level) if level < MAX_LEVEL => return Some(self.terms.intern(Expr::Sort(level + 1))),
            _ => {}
        }
        if let Some(ty) = self.known.get(&term) {
            return Some(*ty);
        }
        let depth = depth + 1;
        let ty = match expr {
            Expr::Const(_) | Expr::App(..) => self.application(term, depth)?,
            Expr::Lam(a, body) => {
                self.level(a, depth)?;
                let (variable, x) = self.fresh(a);
                let body = self.terms.instantiate(body, x);
                let b = self.infer(body, depth)?;
                let b = self.terms.abstraction(b, variable);
                self.terms.intern(Expr::Pi(a, b))
            }
            Expr::Pi(a, body) => {
                let domain = self.level(a, depth)?;
                let (_, x) = self.fresh(a);
                let body = self.terms.instantiate(body, x);
                let level = match self.level(body, depth)? {
                    0 => 0,
                    level => level.max(domain),
                };
                self.terms.intern(Expr::Sort(level))
            }
            Expr::Sort(_) | Expr::Free(_) | Expr::Bound(_) | Expr::Meta(_) => return None,
        };
        self.known.insert(term, ty);
        Some(ty)
    }

    /// The type of a constant or a function with its arguments, all that fix a level among them.
    fn application(&mut self, term: Id, depth: u32) -> Option<Id> {
        let (head, n) = self.terms.head(term);
        if let Expr::Const(constant) = self.terms.get(head) {
            let entry = constant.entry();
            self.axioms.extend(entry.axioms);
            if n < entry.n_poly {
                return None;
            }
        }
        self.spine(term, depth)
    }

    /// The type of an application; `Sort u` may still stand in it, where its head is a constant with few arguments.
    fn spine(&mut self, term: Id, depth: u32) -> Option<Id> {
        let (f, arg) = match self.terms.get(term) {
            Expr::App(f, arg) => (f, arg),
            Expr::Const(constant) => return Some(self.constants[constant as usize]),
            _ => return self.infer(term, depth),
        };
        let ty = self.spine(f, depth + 1)?;
        let ty = self.whnf(ty);
        let Expr::Pi(domain, body) = self.terms.get(ty) else { return None };
        if self.terms.get(domain) == Expr::Sort(ANY) {
            // `C.{u}` takes the level of this argument
            self.level(arg, depth)?;
        } else {
            let found = self.infer(arg, depth)?;
            if !self.equal(found, domain, depth) {
                return None;
            }
        }
        Some(self.terms.instantiate(body, arg))
    }

    /// The level of a type: `Some(0)` for a proposition; `None` where `ty` is no type.
    fn level(&mut self, ty: Id, depth: u32) -> Option<u8> {
        let sort = self.infer(ty, depth)?;
        let sort = self.whnf(sort);
        if let Expr::Sort(level) = self.terms.get(sort) { (level <= MAX_LEVEL).then_some(level) } else { None }
    }

    /// A variable that was never used before.
    fn fresh(&mut self, ty: Id) -> (u32, Id) {
        let variable = self.context.len() as u32;
        self.context.push(ty);
        (variable, self.terms.intern(Expr::Free(variable)))
    }

    /// The term with its outermost form known: no β or δ step is left at its head.
    fn whnf(&mut self, mut term: Id) -> Id {
        while self.terms.step()
            && let Some(next) = step(self.terms, term)
        {
            term = next;
        }
        term
    }

    /// Whether two well-typed terms are the same to Lean's kernel.
    fn equal(&mut self, a: Id, b: Id, depth: u32) -> bool {
        if a == b {
            return true;
        }
        if depth > MAX_DEPTH || !self.terms.step() {
            return false;
        }
        let depth = depth + 1;
        let (a, b) = (self.whnf(a), self.whnf(b));
        if a == b {
            return true;
        }
        let same = match (self.terms.get(a), self.terms.get(b)) {
            (Expr::App(f, x), Expr::App(g, y)) => self.equal(f, g, depth) && self.equal(x, y, depth),
            (Expr::Pi(a, f), Expr::Pi(b, g)) | (Expr::Lam(a, f), Expr::Lam(b, g)) => {
                self.equal(a, b, depth) && {
                    let (_, x) = self.fresh(a);
                    let (f, g) = (self.terms.instantiate(f, x), self.terms.instantiate(g, x));
                    self.equal(f, g, depth)
                }
            }
            (Expr::Lam(domain, body), _) => self.eta(domain, body, b, depth),
            (_, Expr::Lam(domain, body)) => self.eta(domain, body, a, depth),
            _ => false,
        };
        same || self.both_prove(a, b, depth)
    }

    /// Whether `f` is `fun x : domain => body`, by η.
    fn eta(&mut self, domain: Id, body: Id, f: Id, depth: u32) -> bool {
        let Some(ty) = self.infer(f, depth) else { return false };
        let ty = self.whnf(ty);
        let Expr::Pi(a, _) = self.terms.get(ty) else { return false };
        self.equal(a, domain, depth) && {
            let (_, x) = self.fresh(domain);
            let (body, fx) = (self.terms.instantiate(body, x), self.terms.apply(f, &[x]));
            self.equal(body, fx, depth)
        }
    }

    /// Whether `a` and `b` are proofs of one proposition.
    fn both_prove(&mut self, a: Id, b: Id, depth: u32) -> bool {
        let Some(ty) = self.infer(a, depth) else { return false };
        self.level(ty, depth) == Some(0) && self.infer(b, depth).is_some_and(|other| self.equal(ty, other, depth))
    }
}

/// One β or δ step at the head of `term`, if there is one.
fn step(terms: &mut Terms, term: Id) -> Option<Id> {
    beta(terms, term).or_else(|| unfold(terms, term))
}

/// `(fun x => b) a …` as b with a for x, applied to the rest.
pub(crate) fn beta(terms: &mut Terms, term: Id) -> Option<Id> {
    let Expr::App(f, arg) = terms.get(term) else { return None };
    if let Expr::Lam(_, body) = terms.get(f) {
        return Some(terms.instantiate(body, arg));
    }
    let f = beta(terms, f)?;
    Some(terms.intern(Expr::App(f, arg)))
}

/// `Not a` as `a → False`, `Ne a b` as `Eq a b → False`, `id a` as `a`.
pub(crate) fn unfold(terms: &mut Terms, term: Id) -> Option<Id> {
    let (head, n) = terms.head(term);
    let premise = match (terms.get(head), n, terms.get(term)) {
        (Expr::Const(Const::Not), 1, Expr::App(_, premise)) => premise,
        (Expr::Const(Const::Ne), 3, _) => {
            let eq = terms.intern(Expr::Const(Const::Eq));
            let args = terms.args(term);
            terms.apply(eq, &args)
        }
        (Expr::Const(Const::Id), 2.., _) => {
            let args = terms.args(term);
            return Some(terms.apply(args[1], &args[2..]));
        }
        _ => return None,
    };
    let falsum = terms.intern(Expr::Const(Const::False));
    Some(terms.intern(Expr::Pi(premise, falsum)))
}
