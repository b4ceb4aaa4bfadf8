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
/// Nodes visited or made for one proof; typical ones need some thousands. So ids stay far below 30 bits.
const MAX_STEPS: u32 = 1 << 20;
/// Terms of earlier proofs that are kept, because proofs of one statement share most of theirs.
const MAX_KEPT: usize = 1 << 15;

impl Expr {
    /// The whole form as one number, to be found by.
    fn key(self) -> u64 {
        let pack = |tag: u64, a: u32, b: u32| tag << 60 | u64::from(a) << 30 | u64::from(b);
        match self {
            Self::Sort(level) => pack(1, 0, level.into()),
            Self::Const(constant) => pack(2, 0, constant as u32),
            Self::Bound(index) => pack(3, 0, index),
            Self::Free(variable) => pack(4, 0, variable),
            Self::Meta(index) => pack(5, 0, index),
            Self::App(a, b) => pack(6, a.0, b.0),
            Self::Lam(a, b) => pack(7, a.0, b.0),
            Self::Pi(a, b) => pack(8, a.0, b.0),
        }
    }
}

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
    index: FoldMap<u64, Id>,
    steps: u32,
    /// Set once a bound is reached; from then on nothing that is computed here may be relied on.
    exhausted: bool,
}

impl Terms {
    /// The id of `expr`.
    pub(crate) fn intern(&mut self, expr: Expr) -> Id {
        // counted whether or not the term is known, so that answers do not depend on earlier proofs
        self.step();
        let place = match self.index.entry(expr.key()) {
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

    /// Whether a bound was reached since the last [`Terms::restart`].
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Forgets the work done; and all but the first `len` terms, where there are many more.
    pub(crate) fn restart(&mut self, len: usize) {
        (self.steps, self.exhausted) = (0, false);
        if self.nodes.len() > len + MAX_KEPT {
            self.truncate(len);
        }
    }

    /// Forgets the work done, and all but the first `len` terms.
    pub(crate) fn truncate(&mut self, len: usize) {
        (self.steps, self.exhausted) = (0, false);
        for facts in self.nodes.drain(len..) {
            self.index.remove(&facts.expr.key());
        }
        // one hostile text must not cost memory for ever
        if self.nodes.capacity() > 4 * MAX_KEPT {
            self.nodes.shrink_to(MAX_KEPT);
            self.index.shrink_to(MAX_KEPT);
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
        self.replace(body, 0, Replacement::Value(value))
    }

    /// The term as the body of a binder for `variable`.
    pub(crate) fn abstraction(&mut self, term: Id, variable: u32) -> Id {
        self.replace(term, 0, Replacement::Bind(variable))
    }

    /// The term `n` binders further in.
    fn lift(&mut self, term: Id, n: u32) -> Id {
        if n == 0 { term } else { self.replace(term, 0, Replacement::Lift(n)) }
    }

    /// Replaces variables, `depth` binders down.
    fn replace(&mut self, term: Id, depth: u32, new: Replacement) -> Id {
        let Facts { expr, loose, free, .. } = self.nodes[term.0 as usize];
        let untouched = match new {
            Replacement::Value(_) | Replacement::Lift(_) => loose <= depth,
            Replacement::Bind(variable) => free <= variable,
        };
        if untouched || !self.step() {
            return term;
        }
        let replaced = match (expr, new) {
            (Expr::App(a, b), _) => Expr::App(self.replace(a, depth, new), self.replace(b, depth, new)),
            (Expr::Lam(a, b), _) => Expr::Lam(self.replace(a, depth, new), self.replace(b, depth + 1, new)),
            (Expr::Pi(a, b), _) => Expr::Pi(self.replace(a, depth, new), self.replace(b, depth + 1, new)),
            (Expr::Bound(index), Replacement::Value(value)) if index == depth => return self.lift(value, depth),
            (Expr::Bound(index), Replacement::Value(_)) => Expr::Bound(index - 1),
            (Expr::Bound(index), Replacement::Lift(n)) => Expr::Bound(index.saturating_add(n)),
            (Expr::Free(other), Replacement::Bind(variable)) if other == variable => Expr::Bound(depth),
            _ => return term,
        };
        self.intern(replaced)
    }
}

/// What [`Terms::replace`] puts in the place of what.
#[derive(Clone, Copy)]
enum Replacement {
    /// A term for the variable of a binder that goes away.
    Value(Id),
    /// An index for a free variable.
    Bind(u32),
    /// Indices that point outside, for one binder more each.
    Lift(u32),
}
