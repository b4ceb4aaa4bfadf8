//! Finds short proofs: what the language model learns from, and what a statement's difficulty is measured by.
//!
//! Two layers over interned propositions. [`decide`] answers whether a sequent is provable, by Dyckhoff's
//! contraction-free calculus (LJT, also called G4ip; Dyckhoff 1992), which always ends. [`table`] then looks for the
//! *smallest* normal natural deduction by iterative deepening, never entering an unprovable sequent; where that is too
//! costly it takes the first proof it meets. Proofs come out as Lean text of whole-word constants ([`Proof::render`]).
//!
//! Invariant: the text of a found proof is accepted by the kernel and by Lean (tested with both).

mod decide;
mod proof;
mod table;

pub use proof::Proof;

use crate::{Formula, Statement, kernel::intern, search::table::Table};

/// How much work one search may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest proof sought by iterative deepening.
    pub max_size: u32,
    /// Sequents visited while deepening, before the first proof met is taken; and again while looking for that.
    pub max_steps: u32,
    /// Sequents visited by the decision procedure.
    pub max_decisions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_size: 48, max_steps: 20_000, max_decisions: 200_000 }
    }
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A proof; the smallest normal one unless `max_steps` ran out.
    Proof(Proof),
    /// There is none: intuitionistic logic does not prove it.
    Unprovable,
    /// The limits were reached.
    GaveUp,
}

impl Found {
    /// The proof, if there is one.
    #[must_use]
    pub fn proof(self) -> Option<Proof> {
        if let Self::Proof(proof) = self { Some(proof) } else { None }
    }
}

/// Looks for a proof of `statement` from its hypotheses.
#[must_use]
pub fn prove(statement: &Statement, limits: Limits) -> Found {
    let mut table = Table::new(limits);
    let hypotheses: Vec<_> = statement.hypotheses.iter().map(|(_, formula)| table.intern(formula)).collect();
    let goal = table.intern(&statement.goal);
    table.prove(&hypotheses, goal)
}

/// Whether intuitionistic logic proves `formula`; `None` where the limits were reached.
#[must_use]
pub fn is_provable(formula: &Formula, limits: Limits) -> Option<bool> {
    let mut sequents = decide::Sequents::new(limits.max_decisions);
    let goal = intern(&mut sequents.props, formula);
    sequents.is_provable(0, goal)
}

#[cfg(test)]
mod tests;
