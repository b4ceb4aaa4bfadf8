//! Graded problems: random theorems with a shortest proof each, the same for the same seed everywhere.
//!
//! Invariants: no two statements of a corpus are equal up to the names of their atoms ([`Statement::digest`]); every
//! proof is a smallest normal one found by [`search`](crate::search); at most one in twenty only repeats a hypothesis.
//! Not here: which statements are for training and which are held out.

use std::collections::HashSet;

use rand::{Rng, RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, Formula, Result, Statement,
    search::{self, Found, Limits, Proof},
};

/// How hard a statement is, by the size of its smallest proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// All five, easiest first.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];
    /// Largest size of a smallest proof on each level.
    const LARGEST: [u32; 5] = [5, 8, 11, 15, 40];

    /// The level of this number, 1 to 5.
    ///
    /// # Errors
    /// `Word` for any other number.
    pub fn new(number: u8) -> Result<Self> {
        match number {
            1..=5 => Ok(Self(number)),
            _ => Err(Error::Word { expected: "a level from 1 to 5", got: number.to_string() }),
        }
    }

    /// Its number, 1 to 5.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The level of a statement whose smallest proof has this size ([`Proof::size`]); `None` above the last.
    #[must_use]
    pub fn of_size(size: u32) -> Option<Self> {
        let index = Self::LARGEST.iter().position(|largest| size <= *largest)?;
        Some(Self(index as u8 + 1))
    }
}

/// A theorem with a smallest proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The statement, without named hypotheses; its name is `t` and its place in the corpus.
    pub statement: Statement,
    /// The proof.
    pub proof: Proof,
    /// How hard it is.
    pub level: Level,
}

/// Tries for each problem wanted before the generator gives up.
const PATIENCE: usize = 4_000;

/// Makes `n` problems, spread evenly over `levels` (earlier levels take what does not divide), in the order found.
///
/// # Errors
/// `Exhausted` where a level has fewer distinct statements than were asked for.
pub fn statements(seed: u64, n: usize, levels: &[Level]) -> Result<Vec<Problem>> {
    let mut wanted = [0_usize; 5];
    for index in 0..n {
        if let Some(level) = levels.get(index % levels.len().max(1)) {
            wanted[usize::from(level.0) - 1] += 1;
        }
    }
    let asked = wanted;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut problems = Vec::with_capacity(n);
    let mut projections_left = n / 20;
    let limits = Limits { max_size: Level::LARGEST[4], max_steps: 3_000, max_decisions: 20_000 };
    let mut tries_left = PATIENCE.saturating_mul(n);
    while let Some(hardest) = wanted.iter().rposition(|left| *left > 0) {
        if tries_left == 0 {
            let (level, found) = (hardest as u8 + 1, asked[hardest] - wanted[hardest]);
            return Err(Error::Exhausted { level, wanted: asked[hardest], found });
        }
        tries_left -= 1;
        // aim at one of the levels still wanted; what lands on another is kept if that is wanted too
        let open: Vec<usize> = (0..5).filter(|level| wanted[*level] > 0).collect();
        let aim = open.choose(&mut rng).copied().unwrap_or(hardest);
        let formula = theorem_like(&mut rng, aim);
        if !formula.is_tautology() || seen.contains(&formula) {
            continue;
        }
        let statement = Statement::of(&format!("t{}", problems.len()), formula.clone());
        let Found::Proof(proof) = search::prove(&statement, limits) else { continue };
        let Some(level) = Level::of_size(proof.size()).filter(|level| wanted[usize::from(level.0) - 1] > 0) else {
            continue;
        };
        if proof.is_projection() {
            if projections_left == 0 {
                continue;
            }
            projections_left -= 1;
        }
        seen.insert(formula);
        wanted[usize::from(level.0) - 1] -= 1;
        problems.push(Problem { statement, proof, level });
    }
    Ok(problems)
}

/// A random formula in canonical form of the shape theorems have: some hypotheses, then a goal.
fn theorem_like(rng: &mut impl Rng, aim: usize) -> Formula {
    let n_atoms = if rng.random_range(0..12) == 0 { 1 } else { rng.random_range(2..=(aim as u8 / 2 + 3).min(4)) };
    let n_hypotheses = rng.random_range(usize::from(aim == 0)..=2 + aim / 2);
    let depth = rng.random_range(1..=1 + aim.div_ceil(2));
    let goal = formula(rng, n_atoms, depth);
    let mut hypotheses: Vec<Formula> = Vec::with_capacity(n_hypotheses);
    for _ in 0..n_hypotheses {
        let depth = rng.random_range(0..=depth);
        let hypothesis = formula(rng, n_atoms, depth);
        // saying it twice makes nothing harder
        if !hypotheses.contains(&hypothesis) {
            hypotheses.push(hypothesis);
        }
    }
    hypotheses.into_iter().fold(goal, |goal, hypothesis| hypothesis.implies(goal)).canonical()
}

/// A random formula over the first `n_atoms` atoms (1 to 16) with at most `depth` connectives on each way down. Both
/// sides of a connective are seldom equal: `And p p` is a shape of its own, but not one worth meeting often.
pub fn formula(rng: &mut impl Rng, n_atoms: u8, depth: usize) -> Formula {
    if depth == 0 || rng.random_range(0..6) == 0 {
        return match rng.random_range(0..40) {
            0 => Formula::True,
            1 | 2 => Formula::False,
            _ => Formula::Atom(rng.random_range(0..n_atoms.clamp(1, 16))),
        };
    }
    let mut part = || Box::new(formula(rng, n_atoms, depth - 1));
    let (a, mut b) = (part(), part());
    for _ in 0..2 {
        if a == b {
            b = part();
        }
    }
    match rng.random_range(0..20) {
        0..=2 => Formula::Not(a),
        3..=7 => Formula::And(a, b),
        8..=11 => Formula::Or(a, b),
        12..=17 => Formula::Implies(a, b),
        _ => Formula::Iff(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Candidate, Verifier, kernel::Kernel};

    #[test]
    fn a_corpus_is_the_same_for_the_same_seed_and_spread_over_its_levels() {
        let first = statements(7, 200, &Level::ALL).unwrap();
        assert_eq!(first, statements(7, 200, &Level::ALL).unwrap());
        assert_ne!(first, statements(8, 200, &Level::ALL).unwrap());
        for level in Level::ALL {
            assert_eq!(first.iter().filter(|problem| problem.level == level).count(), 40);
        }
    }

    #[test]
    fn problems_are_distinct_and_their_proofs_are_proofs() {
        let problems = statements(3, 300, &Level::ALL).unwrap();
        let digests: HashSet<_> = problems.iter().map(|problem| problem.statement.digest()).collect();
        assert_eq!(digests.len(), problems.len());
        let candidates: Vec<Candidate> = problems
            .iter()
            .map(|problem| Candidate {
                header: String::new(),
                statement: problem.statement.to_string(),
                proof: problem.proof.render(&[]),
            })
            .collect();
        for (candidate, verdict) in candidates.iter().zip(Kernel::new().check(&candidates)) {
            assert!(verdict.is_proved(), "{candidate:?}: {verdict:?}");
        }
        assert!(problems.iter().filter(|problem| problem.proof.is_projection()).count() <= 15);
    }

    #[test]
    fn asking_for_too_much_is_an_error() {
        let error = statements(1, 1, &[]).map(|problems| problems.len());
        assert_eq!(error.unwrap(), 0);
        assert!(Level::new(0).is_err() && Level::new(6).is_err());
    }
}
