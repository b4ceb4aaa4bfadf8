//! Classical truth of propositional statements, decided by truth tables on the device.
//!
//! What is no classical theorem has no proof, intuitionistic or in Lean, so it needs no checking. A statement outside the
//! fragment, or under a header that could change what its connectives mean, is left open.

use std::collections::BTreeMap;

use tracker_gpu::{Device, Op, Program};
use tracker_proof::Candidate;
use tracker_proof::formula::Formula;
use tracker_proof::prelude::is_neutral;
use tracker_proof::statement::Statement;

/// Statements whose answer is kept.
const MAX_KNOWN: usize = 100_000;

/// Screens statements that nothing can prove.
pub struct Screen {
    device: Device,
    known: BTreeMap<String, Option<String>>,
}

impl Screen {
    /// A screen that computes on `device`.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), known: BTreeMap::new() }
    }

    /// For each candidate whose statement no proof can exist of: under which assignment it is false.
    ///
    /// # Errors
    /// Of the device.
    pub fn refute(&mut self, candidates: &[Candidate]) -> tracker_gpu::Result<Vec<Option<String>>> {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut asked: Vec<&str> = Vec::new();
        for candidate in candidates {
            let is_new = asked.last() != Some(&candidate.statement.as_str());
            if is_new && is_neutral(&candidate.header) && !self.known.contains_key(&candidate.statement) {
                asked.push(&candidate.statement);
            }
        }
        let answers = refutations(&self.device, &asked)?;
        self.known.extend(asked.into_iter().map(str::to_owned).zip(answers));
        let answer = |c: &Candidate| self.known.get(&c.statement).filter(|_| is_neutral(&c.header)).cloned().flatten();
        Ok(candidates.iter().map(answer).collect())
    }
}

fn refutations(device: &Device, statements: &[&str]) -> tracker_gpu::Result<Vec<Option<String>>> {
    let mut decided = Vec::new();
    let mut programs = Vec::new();
    for (i, text) in statements.iter().enumerate() {
        // What is not read, or too large for a table, stays open.
        let Ok(statement) = Statement::parse(text.trim()) else { continue };
        let Ok(program) = program(&statement.proposition()) else { continue };
        programs.push(program);
        decided.push((i, statement.atoms));
    }
    let n_atoms = programs.iter().map(Program::n_atoms).max().unwrap_or(0);
    let tables = device.kernels().truth_tables(&programs, n_atoms)?;
    let mut answers = vec![None; statements.len()];
    for (at, (i, atoms)) in decided.into_iter().enumerate() {
        answers[i] = tables.counterexample(at).map(|assignment| {
            let value = |(j, name): (usize, &String)| format!("{name} {}", assignment >> j & 1 == 1);
            let values: Vec<String> = atoms.iter().enumerate().map(value).collect();
            format!("not a theorem: false with {}", values.join(", "))
        });
    }
    Ok(answers)
}

/// The formula as a postfix program.
///
/// # Errors
/// `Program` if it has too many atoms or is too deep for a table.
pub fn program(formula: &Formula) -> tracker_gpu::Result<Program> {
    let mut ops = Vec::new();
    push(formula, &mut ops);
    Program::new(ops)
}

fn push(formula: &Formula, ops: &mut Vec<Op>) {
    let op = match formula {
        Formula::True => Op::True,
        Formula::False => Op::False,
        Formula::Atom(i) => Op::Atom(*i),
        Formula::Not(a) => {
            push(a, ops);
            Op::Not
        }
        Formula::And(a, b) | Formula::Or(a, b) | Formula::Implies(a, b) | Formula::Iff(a, b) => {
            push(a, ops);
            push(b, ops);
            match formula {
                Formula::And(..) => Op::And,
                Formula::Or(..) => Op::Or,
                Formula::Implies(..) => Op::Implies,
                _ => Op::Iff,
            }
        }
    };
    ops.push(op);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(header: &str, statement: &str) -> Candidate {
        Candidate { header: header.into(), statement: statement.into(), proof: String::new() }
    }

    #[test]
    fn what_is_false_somewhere_is_refuted_and_nothing_else() {
        let candidates = [
            candidate("", "theorem t (p q : Prop) : Or p q → q"),
            candidate("", "theorem t (p q : Prop) : And p q → q"),
            // A classical theorem without an intuitionistic proof stays open, and so does what is not read.
            candidate("", "theorem t (p : Prop) : Or p (Not p)"),
            candidate("import Mathlib", "theorem t (x : ℝ) : x = x + 1"),
            // Here `And` may mean anything.
            candidate("def And := Or", "theorem t (p q : Prop) : Or p q → q"),
            candidate("", "theorem t (p q : Prop) : Or p q → q"),
        ];
        let mut screen = Screen::new(&Device::cpu());
        for _ in 0..2 {
            let answers = screen.refute(&candidates).unwrap();
            let refuted: Vec<usize> = (0..answers.len()).filter(|i| answers[*i].is_some()).collect();
            assert_eq!(refuted, [0, 5]);
            assert_eq!(answers[0].as_deref(), Some("not a theorem: false with p true, q false"));
        }
    }
}
