//! The trusted core for propositional logic: natural deduction for intuitionistic propositional logic, as type checking of de Bruijn terms.
//!
//! A closed term that [`Core::infer`] gives the type A is a proof of A: every rule below is one rule of natural
//! deduction and none is more. Propositions are interned, so equal ones have equal ids; `Not a` is `a → False`, as Lean
//! defines it. Metavariables may stand in propositions while the elaborator works; a term that still mentions one is
//! refused here. Not here: text, names, inference. Nothing outside this file can make a wrong proof right.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

/// An interned proposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PropId(u32);

/// The outermost connective of a proposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Prop {
    False,
    True,
    Atom(u8),
    /// Not yet known; the elaborator's.
    Meta(u32),
    And(PropId, PropId),
    Or(PropId, PropId),
    Iff(PropId, PropId),
    Imp(PropId, PropId),
}

/// Multiply and fold: keys are a few small integers of our own numbering.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

/// A map keyed by small integers of our own numbering.
pub(crate) type FoldMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// All propositions met so far.
#[derive(Debug, Default)]
pub(crate) struct Props {
    nodes: Vec<(Prop, bool)>,
    index: FoldMap<Prop, PropId>,
}

impl Props {
    /// The id of `prop`; the same for the same proposition, unless a metavariable stands in it.
    pub(crate) fn intern(&mut self, prop: Prop) -> PropId {
        let open = match prop {
            Prop::False | Prop::True | Prop::Atom(_) => false,
            Prop::Meta(_) => true,
            Prop::And(a, b) | Prop::Or(a, b) | Prop::Iff(a, b) | Prop::Imp(a, b) => self.is_open(a) || self.is_open(b),
        };
        let fresh = PropId(self.nodes.len() as u32);
        if !open {
            // open propositions live for one proof and are compared by unification: sharing them would not pay
            match self.index.entry(prop) {
                Entry::Occupied(known) => return *known.get(),
                Entry::Vacant(place) => place.insert(fresh),
            };
        }
        self.nodes.push((prop, open));
        fresh
    }

    /// The outermost connective.
    pub(crate) fn get(&self, id: PropId) -> Prop {
        self.nodes[id.0 as usize].0
    }

    /// Whether a metavariable stands anywhere in it.
    pub(crate) fn is_open(&self, id: PropId) -> bool {
        self.nodes[id.0 as usize].1
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets all but the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        for (prop, open) in self.nodes.drain(len..) {
            if !open {
                self.index.remove(&prop);
            }
        }
        // one hostile text must not cost memory for ever
        if self.nodes.capacity() > 1 << 16 {
            self.nodes.shrink_to(1 << 12);
            self.index.shrink_to(1 << 12);
        }
    }
}

/// Index of a term in its arena.
pub(crate) type TermId = u32;

/// A proof term. Each comment is the rule: premises ⊢ conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// Hypothesis, counted from the innermost binder.
    Var(u32),
    /// b : B under a hypothesis A ⊢ A → B
    Lam(PropId, TermId),
    /// A → B, A ⊢ B
    App(TermId, TermId),
    /// ⊢ True
    Trivial,
    /// A, B ⊢ A ∧ B
    Both(TermId, TermId),
    /// A ∧ B ⊢ A
    Left(TermId),
    /// A ∧ B ⊢ B
    Right(TermId),
    /// A ⊢ A ∨ B, with B written out
    Inl(TermId, PropId),
    /// B ⊢ A ∨ B, with A written out
    Inr(PropId, TermId),
    /// A ∨ B, A → C, B → C ⊢ C
    Cases(TermId, TermId, TermId),
    /// A → B, B → A ⊢ A ↔ B
    Equiv(TermId, TermId),
    /// A ↔ B ⊢ A → B
    Mp(TermId),
    /// A ↔ B ⊢ B → A
    Mpr(TermId),
    /// False ⊢ C, with C written out
    Explode(TermId, PropId),
}

/// Deepest nesting of a term; the elaborator's terms stay below it.
const MAX_DEPTH: u32 = 4096;

/// The checker: propositions, terms and the hypotheses in scope.
#[derive(Debug)]
pub(crate) struct Core<'a> {
    pub(crate) props: &'a mut Props,
    pub(crate) terms: &'a [Term],
    pub(crate) context: Vec<PropId>,
}

impl Core<'_> {
    /// The proposition that `term` proves from the hypotheses of `context`; `None` where it proves nothing.
    pub(crate) fn infer(&mut self, term: TermId, depth: u32) -> Option<PropId> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let depth = depth + 1;
        match self.terms[term as usize] {
            Term::Var(index) => {
                let position = self.context.len().checked_sub(index as usize + 1)?;
                Some(self.context[position])
            }
            Term::Lam(a, body) => {
                let a = self.closed(a)?;
                self.context.push(a);
                let b = self.infer(body, depth);
                self.context.pop();
                Some(self.props.intern(Prop::Imp(a, b?)))
            }
            Term::App(f, x) => {
                let (a, b) = self.implication(f, depth)?;
                (self.infer(x, depth)? == a).then_some(b)
            }
            Term::Trivial => Some(self.props.intern(Prop::True)),
            Term::Both(x, y) => {
                let both = Prop::And(self.infer(x, depth)?, self.infer(y, depth)?);
                Some(self.props.intern(both))
            }
            Term::Left(x) => self.conjunction(x, depth).map(|(a, _)| a),
            Term::Right(x) => self.conjunction(x, depth).map(|(_, b)| b),
            Term::Inl(x, b) => {
                let either = Prop::Or(self.infer(x, depth)?, self.closed(b)?);
                Some(self.props.intern(either))
            }
            Term::Inr(a, y) => {
                let either = Prop::Or(self.closed(a)?, self.infer(y, depth)?);
                Some(self.props.intern(either))
            }
            Term::Cases(x, l, r) => {
                let either = self.infer(x, depth)?;
                let Prop::Or(a, b) = self.props.get(either) else { return None };
                let (left, right) = (self.implication(l, depth)?, self.implication(r, depth)?);
                (left.0 == a && right.0 == b && left.1 == right.1).then_some(left.1)
            }
            Term::Equiv(f, g) => {
                let ((a, b), (b2, a2)) = (self.implication(f, depth)?, self.implication(g, depth)?);
                (a == a2 && b == b2).then(|| self.props.intern(Prop::Iff(a, b)))
            }
            Term::Mp(x) => {
                let (a, b) = self.equivalence(x, depth)?;
                Some(self.props.intern(Prop::Imp(a, b)))
            }
            Term::Mpr(x) => {
                let (a, b) = self.equivalence(x, depth)?;
                Some(self.props.intern(Prop::Imp(b, a)))
            }
            Term::Explode(x, c) => {
                let absurd = self.infer(x, depth)?;
                if self.props.get(absurd) == Prop::False { self.closed(c) } else { None }
            }
        }
    }

    /// `prop`, where no metavariable is left in it.
    fn closed(&self, prop: PropId) -> Option<PropId> {
        (!self.props.is_open(prop)).then_some(prop)
    }

    fn implication(&mut self, term: TermId, depth: u32) -> Option<(PropId, PropId)> {
        let ty = self.infer(term, depth)?;
        if let Prop::Imp(a, b) = self.props.get(ty) { Some((a, b)) } else { None }
    }

    fn conjunction(&mut self, term: TermId, depth: u32) -> Option<(PropId, PropId)> {
        let ty = self.infer(term, depth)?;
        if let Prop::And(a, b) = self.props.get(ty) { Some((a, b)) } else { None }
    }

    fn equivalence(&mut self, term: TermId, depth: u32) -> Option<(PropId, PropId)> {
        let ty = self.infer(term, depth)?;
        if let Prop::Iff(a, b) = self.props.get(ty) { Some((a, b)) } else { None }
    }
}
