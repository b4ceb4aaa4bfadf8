//! Terms and types of Lean's calculus in one arena, and substitution.
//!
//! Part of what is trusted, with [`core`](super::core) and [`constants`](super::constants). Equal terms have equal ids.
//! Variables are *locally nameless*: inside its binder a variable is a de Bruijn index ([`Expr::Bound`]); whoever goes
//! under the binder puts a fresh [`Expr::Free`] in its place, so that a term one holds has no index that points outside.

use std::collections::hash_map::Entry;

use super::constants::Const;
use crate::kernel::core::FoldMap;

/// An interned term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(u32);

/// The outermost form of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Expr {
    /// `Prop` is 0, `Type` is 1, `Type 1` is 2; [`ANY`] stands for a level that a constant leaves open.
    Sort(u8),
    Const(Const),
    /// A variable bound inside the term, counted from the innermost binder.
    Bound(u32),
    /// A variable of the context.
    Free(u32),
    /// Not yet known; the elaborator's.
    Meta(u32),
    /// Function, argument.
    App(Id, Id),
    /// Domain, body.
    Lam(Id, Id),
    /// Domain, body; `A → B` where the body does not mention the variable.
    Pi(Id, Id),
}

/// The level of `Sort u`.
pub(crate) const ANY: u8 = u8::MAX;
/// Deepest term; every recursion over terms is at most so deep.
const MAX_DEPTH: u16 = 1000;
/// Nodes visited or made for one proof; typical ones need some thousands.
const MAX_STEPS: u32 = 1 << 20;

/// What is known of a term without walking through it.
#[derive(Clone, Copy, Debug)]
struct Facts {
    expr: Expr,
    /// One past the greatest index that points outside.
    loose: u32,
    /// One past the greatest free variable.
    free: u32,
    depth: u16,
    meta: bool,
}

/// All terms met so far.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    nodes: Vec<Facts>,
    index: FoldMap<Expr, Id>,
    steps: u32,
    /// Set once a bound is reached; from then on nothing that is computed here may be relied on.
    exhausted: bool,
}

impl Terms {
    /// The id of `expr`.
    pub(crate) fn intern(&mut self, expr: Expr) -> Id {
        let place = match self.index.entry(expr) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => place,
        };
        let leaf = Facts { expr, loose: 0, free: 0, depth: 0, meta: false };
        let facts = match expr {
            Expr::Sort(_) | Expr::Const(_) => leaf,
            Expr::Bound(index) => Facts { loose: index.saturating_add(1), ..leaf },
            Expr::Free(variable) => Facts { free: variable.saturating_add(1), ..leaf },
            Expr::Meta(_) => Facts { meta: true, ..leaf },
            Expr::App(a, b) | Expr::Lam(a, b) | Expr::Pi(a, b) => {
                let (a, b) = (self.nodes[a.0 as usize], self.nodes[b.0 as usize]);
                let under = if matches!(expr, Expr::App(..)) { b.loose } else { b.loose.saturating_sub(1) };
                Facts {
                    expr,
                    loose: a.loose.max(under),
                    free: a.free.max(b.free),
                    depth: a.depth.max(b.depth) + 1,
                    meta: a.meta || b.meta,
                }
            }
        };
        if facts.depth >= MAX_DEPTH {
            // what is too deep is cut off: the answer is thrown away, and no recursion overflows
            self.exhausted = true;
            return Id(0);
        }
        let id = Id(self.nodes.len() as u32);
        place.insert(id);
        self.nodes.push(facts);
        self.step();
        id
    }

    pub(crate) fn get(&self, id: Id) -> Expr {
        self.nodes[id.0 as usize].expr
    }

    /// Whether an index in it points outside it.
    pub(crate) fn is_loose(&self, id: Id) -> bool {
        self.nodes[id.0 as usize].loose > 0
    }

    /// One past the greatest free variable in it.
    pub(crate) fn n_free(&self, id: Id) -> u32 {
        self.nodes[id.0 as usize].free
    }

    /// Whether a metavariable stands in it.
    pub(crate) fn has_meta(&self, id: Id) -> bool {
        self.nodes[id.0 as usize].meta
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Counts one step of work; `false` once there were too many.
    pub(crate) fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_add(1);
        self.exhausted |= self.steps > MAX_STEPS;
        !self.exhausted
    }

    /// Whether a bound was reached since the last [`Terms::truncate`].
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Forgets all but the first `len` terms, and the work done.
    pub(crate) fn truncate(&mut self, len: usize) {
        for facts in self.nodes.drain(len..) {
            self.index.remove(&facts.expr);
        }
        (self.steps, self.exhausted) = (0, false);
        // one hostile text must not cost memory for ever
        if self.nodes.capacity() > 1 << 16 {
            self.nodes.shrink_to(1 << 12);
            self.index.shrink_to(1 << 12);
        }
    }

    /// `f` applied to `args`.
    pub(crate) fn apply(&mut self, f: Id, args: &[Id]) -> Id {
        args.iter().fold(f, |f, arg| self.intern(Expr::App(f, *arg)))
    }

    /// The head of an application, with the number of arguments before it.
    pub(crate) fn head(&self, mut id: Id) -> (Id, usize) {
        let mut n = 0;
        while let Expr::App(f, _) = self.get(id) {
            (id, n) = (f, n + 1);
        }
        (id, n)
    }

    /// The arguments of an application, first to last.
    pub(crate) fn args(&self, mut id: Id) -> Vec<Id> {
        let mut args = Vec::new();
        while let Expr::App(f, arg) = self.get(id) {
            args.push(arg);
            id = f;
        }
        args.reverse();
        args
    }

    /// The body of a binder with `value` for its variable; the binder is gone, so indices past it count one less.
    pub(crate) fn instantiate(&mut self, body: Id, value: Id) -> Id {
        let new = |terms: &mut Self, expr: Expr, depth: u32| match expr {
            Expr::Bound(index) if index == depth => Some(terms.lift(value, depth)),
            Expr::Bound(index) => Some(terms.intern(Expr::Bound(index - 1))),
            _ => None,
        };
        self.replace(body, 0, &new, &|facts, depth| facts.loose <= depth)
    }

    /// The term `n` binders further in.
    fn lift(&mut self, term: Id, n: u32) -> Id {
        let new = |terms: &mut Self, expr: Expr, _: u32| match expr {
            Expr::Bound(index) => Some(terms.intern(Expr::Bound(index.saturating_add(n)))),
            _ => None,
        };
        if n == 0 { term } else { self.replace(term, 0, &new, &|facts, depth| facts.loose <= depth) }
    }

    /// The term as the body of a binder for `variable`.
    pub(crate) fn abstraction(&mut self, term: Id, variable: u32) -> Id {
        let bind =
            |terms: &mut Self, expr, depth| (expr == Expr::Free(variable)).then(|| terms.intern(Expr::Bound(depth)));
        self.replace(term, 0, &bind, &|facts, _| facts.free <= variable)
    }

    /// Replaces leaves `depth` binders down by what `new` says, leaving alone what `keep` says.
    fn replace(
        &mut self,
        term: Id,
        depth: u32,
        new: &dyn Fn(&mut Self, Expr, u32) -> Option<Id>,
        keep: &dyn Fn(&Facts, u32) -> bool,
    ) -> Id {
        if keep(&self.nodes[term.0 as usize], depth) || !self.step() {
            return term;
        }
        let expr = self.get(term);
        let replaced = match expr {
            Expr::App(a, b) => Expr::App(self.replace(a, depth, new, keep), self.replace(b, depth, new, keep)),
            Expr::Lam(a, b) => Expr::Lam(self.replace(a, depth, new, keep), self.replace(b, depth + 1, new, keep)),
            Expr::Pi(a, b) => Expr::Pi(self.replace(a, depth, new, keep), self.replace(b, depth + 1, new, keep)),
            leaf => return new(self, leaf, depth).unwrap_or(term),
        };
        self.intern(replaced)
    }
}
