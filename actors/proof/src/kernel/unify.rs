//! First-order unification of propositions: what Lean's elaborator does with `?a` in this fragment.
//!
//! Invariants: a metavariable is assigned once and never inside its own value; work per text is bounded.

use super::core::{Prop, PropId, Props};
use crate::syntax::Stop;

/// Steps of unification and substitution allowed for one text; typical proofs take some hundreds.
const MAX_STEPS: u32 = 1 << 20;
/// Deepest proposition walked through.
const MAX_DEPTH: u32 = 1024;

/// Propositions and what is known of the metavariables in them.
#[derive(Debug, Default)]
pub(crate) struct Unifier {
    pub(crate) props: Props,
    values: Vec<Option<PropId>>,
    steps: u32,
}

/// Two propositions differ, or the bounds were reached.
pub(crate) enum Clash {
    Different,
    TooLong,
}

impl Clash {
    pub(crate) fn stop(self, at: u32, reason: &'static str) -> Stop {
        match self {
            Self::Different => Stop::failed(at, reason),
            Self::TooLong => Stop::unparsed(at, "the propositions grow beyond what is inferred here"),
        }
    }
}

impl Unifier {
    /// Forgets all metavariables and all but the first `keep` propositions.
    pub(crate) fn reset(&mut self, keep: usize) {
        self.props.truncate(keep);
        self.values.clear();
        self.steps = 0;
    }

    /// A fresh unknown proposition.
    pub(crate) fn meta(&mut self) -> PropId {
        let index = self.values.len() as u32;
        self.values.push(None);
        self.props.intern(Prop::Meta(index))
    }

    /// The proposition with its outermost connective known, if it is.
    pub(crate) fn head(&self, mut id: PropId) -> (PropId, Prop) {
        loop {
            let prop = self.props.get(id);
            match prop {
                Prop::Meta(index) => match self.values[index as usize] {
                    Some(value) => id = value,
                    None => return (id, prop),
                },
                _ => return (id, prop),
            }
        }
    }

    fn step(&mut self, depth: u32) -> Result<(), Clash> {
        self.steps += 1;
        if depth > MAX_DEPTH || self.steps > MAX_STEPS { Err(Clash::TooLong) } else { Ok(()) }
    }

    /// Makes `a` and `b` the same by assigning metavariables.
    pub(crate) fn unify(&mut self, a: PropId, b: PropId) -> Result<(), Clash> {
        if a == b { Ok(()) } else { self.unify_at(a, b, 0) }
    }

    fn unify_at(&mut self, a: PropId, b: PropId, depth: u32) -> Result<(), Clash> {
        self.step(depth)?;
        let ((a, x), (b, y)) = (self.head(a), self.head(b));
        if a == b {
            return Ok(());
        }
        match (x, y) {
            (Prop::Meta(index), _) => self.assign(index, b),
            (_, Prop::Meta(index)) => self.assign(index, a),
            (Prop::And(a, b), Prop::And(c, d))
            | (Prop::Or(a, b), Prop::Or(c, d))
            | (Prop::Iff(a, b), Prop::Iff(c, d))
            | (Prop::Imp(a, b), Prop::Imp(c, d)) => {
                self.unify_at(a, c, depth + 1)?;
                self.unify_at(b, d, depth + 1)
            }
            _ => Err(Clash::Different),
        }
    }

    fn assign(&mut self, index: u32, value: PropId) -> Result<(), Clash> {
        if self.occurs(index, value, 0)? {
            return Err(Clash::Different);
        }
        self.values[index as usize] = Some(value);
        Ok(())
    }

    fn occurs(&mut self, index: u32, prop: PropId, depth: u32) -> Result<bool, Clash> {
        if !self.props.is_open(prop) {
            return Ok(false);
        }
        self.step(depth)?;
        match self.head(prop).1 {
            Prop::Meta(other) => Ok(other == index),
            Prop::And(a, b) | Prop::Or(a, b) | Prop::Iff(a, b) | Prop::Imp(a, b) => {
                Ok(self.occurs(index, a, depth + 1)? || self.occurs(index, b, depth + 1)?)
            }
            Prop::False | Prop::True | Prop::Atom(_) => Ok(false),
        }
    }

    /// `prop` with every known metavariable replaced; unknown ones stay.
    pub(crate) fn resolve(&mut self, prop: PropId, depth: u32) -> Result<PropId, Clash> {
        if !self.props.is_open(prop) {
            return Ok(prop);
        }
        self.step(depth)?;
        let (id, head) = self.head(prop);
        let pair = |this: &mut Self, a, b| Ok((this.resolve(a, depth + 1)?, this.resolve(b, depth + 1)?));
        let resolved = match head {
            Prop::And(a, b) => pair(self, a, b).map(|(a, b)| Prop::And(a, b))?,
            Prop::Or(a, b) => pair(self, a, b).map(|(a, b)| Prop::Or(a, b))?,
            Prop::Iff(a, b) => pair(self, a, b).map(|(a, b)| Prop::Iff(a, b))?,
            Prop::Imp(a, b) => pair(self, a, b).map(|(a, b)| Prop::Imp(a, b))?,
            Prop::False | Prop::True | Prop::Atom(_) | Prop::Meta(_) => return Ok(id),
        };
        Ok(self.props.intern(resolved))
    }
}
