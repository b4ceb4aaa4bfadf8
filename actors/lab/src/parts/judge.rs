//! The embedded faithfulness judge: independent votes on whether a statement says what its problem says.
//!
//! Two theorems are always classically equivalent, so premises and conclusion are compared apart. Classical equivalence
//! is decided by truth tables on the device; one vote looks at a few random assignments of them only, so it can be
//! wrong in one direction, as judges are: it may approve of a statement that is not faithful. Because the whole table
//! is known as well, the judge itself can be scored.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_gpu::Device;
use tracker_proof::formula::{ATOM_NAMES, Formula};
use tracker_proof::statement::Statement;

use crate::error::Result;
use crate::parts::formalise::parts;
use crate::parts::truth::program;

/// One statement to be judged against its problem.
pub struct Case {
    /// What the problem means.
    pub meaning: Formula,
    /// The statement written for it.
    pub statement: Statement,
    /// Seed of the votes.
    pub seed: u64,
}

/// Statements to judge, and how.
pub struct Ballot {
    /// The statements.
    pub cases: Vec<Case>,
    /// Votes each.
    pub n_votes: u32,
    /// Assignments a vote looks at.
    pub n_assignments: u32,
}

/// What came of one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Votes that found the statement appropriate.
    pub n_yes: u32,
    /// Whether premises and conclusion are classically equivalent to the problem's.
    pub is_faithful: bool,
}

/// A scorer that judges on a device.
pub struct Judge {
    device: Device,
}

impl Judge {
    /// Starts one on `device`.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, device: &Device) -> Result<Pool<Self>> {
        let device = device.clone();
        Ok(Pool::start(actors, PoolOptions::cpu("scorer", 1), move |_| Ok(Self { device: device.clone() }))?)
    }
}

impl Worker for Judge {
    type Message = Ballot;
    type Reply = Vec<Judgement>;
    type State = u64;

    async fn handle(&mut self, ballot: Ballot, turn: &mut Turn<'_, u64>) -> std::result::Result<Vec<Judgement>, Fault> {
        let judgements = judge(&self.device, &ballot).map_err(|e| Fault::input("could not judge").because(e))?;
        turn.update(|n_judged| *n_judged += judgements.len() as u64);
        Ok(judgements)
    }
}

/// Programs of a case: premises and conclusion of the problem, then of the statement.
const PER_CASE: usize = 4;

fn judge(device: &Device, ballot: &Ballot) -> tracker_gpu::Result<Vec<Judgement>> {
    let mut programs = Vec::with_capacity(ballot.cases.len() * PER_CASE);
    let mut n_atoms = 0;
    for case in &ballot.cases {
        let written = in_common_names(&case.statement);
        let [premises, goal] = parts(&case.meaning);
        let [written_premises, written_goal] = parts(&written);
        for formula in [&premises, &goal, &written_premises, &written_goal] {
            n_atoms = n_atoms.max(formula.n_atoms());
            programs.push(program(formula)?);
        }
    }
    let tables = device.kernels().truth_tables(&programs, n_atoms)?;
    let bit = |i: usize, a: u32| tables.words(i).is_some_and(|words| words[a as usize / 32] >> (a % 32) & 1 == 1);
    let judgements = ballot.cases.iter().enumerate().map(|(c, case)| {
        let first = c * PER_CASE;
        let mut stream = ChaCha8Rng::seed_from_u64(case.seed);
        let mut vote = || {
            (0..ballot.n_assignments).all(|_| {
                let a = stream.random_range(0..1u32 << n_atoms);
                bit(first, a) == bit(first + 2, a) && bit(first + 1, a) == bit(first + 3, a)
            })
        };
        Judgement {
            n_yes: (0..ballot.n_votes).filter(|_| vote()).count() as u32,
            is_faithful: tables.equivalent(first, first + 2) && tables.equivalent(first + 1, first + 3),
        }
    });
    Ok(judgements.collect())
}

/// The proposition of a statement with atom i standing for the i-th of [`ATOM_NAMES`], as in problems.
fn in_common_names(statement: &Statement) -> Formula {
    let place = |i: u8| {
        let name = statement.atoms.get(usize::from(i)).map_or("", String::as_str);
        // A name no problem uses stands for itself, past the others.
        ATOM_NAMES.iter().position(|known| *known == name).map_or(i, |at| at as u8)
    };
    statement.proposition().map_atoms(&place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(problem: &str, statement: &str) -> Case {
        let meaning = Formula::parse(problem, &ATOM_NAMES[..4]).unwrap();
        Case { meaning, statement: Statement::parse(statement).unwrap(), seed: 3 }
    }

    fn ballot(cases: Vec<Case>, n_assignments: u32) -> Vec<Judgement> {
        judge(&Device::cpu(), &Ballot { cases, n_votes: 4, n_assignments }).unwrap()
    }

    #[test]
    fn a_faithful_statement_has_all_votes_in_either_style() {
        let a = case("And p q → q", "theorem t (p q : Prop) : And p q → q");
        let b = case("And p q → q", "theorem t (p q : Prop) (h1 : And p q) : q");
        let reordered = case("And p q → q", "theorem t (q p : Prop) (h1 : And q p) : q");
        for judgement in ballot(vec![a, b, reordered], 3) {
            assert_eq!(judgement, Judgement { n_yes: 4, is_faithful: true });
        }
    }

    #[test]
    fn another_theorem_is_not_faithful_and_many_assignments_show_it() {
        let weaker = case("And p q → q", "theorem t (p q : Prop) : q → q");
        let swapped = case("And p q → q", "theorem t (p q : Prop) : q → And p q");
        let judged = ballot(vec![weaker, swapped], 64);
        assert_eq!(judged[0], Judgement { n_yes: 0, is_faithful: false });
        assert_eq!(judged[1], Judgement { n_yes: 0, is_faithful: false });
    }
}
