//! The exact kernel: checks Lean 4 term-mode proofs of intuitionistic propositional statements, without Lean.
//!
//! Text is parsed as Lean parses it, elaborated in Lean's order, and the resulting de Bruijn term is checked by a small
//! trusted [`core`]. What Lean rejects is never `proved` here; what Lean may accept and this fragment does not cover
//! (tactics, other constants, holes, postponed elaboration) is `unparsed`. Foreign text is never run, so every verdict
//! counts as sandboxed. The fragment:
//!
//! - `fun x (y : P) z => t` (`λ`, `↦`), application, brackets, `(t : P)`, `show P from t`, `have x : P := t; u`;
//! - `And.intro/left/right`, `Or.inl/inr/elim`, `Iff.intro/mp/mpr`, `False.elim`, `True.intro`, `trivial`, `absurd`, `id`;
//! - `⟨a, b, …⟩` where the type is known; `.1 .2 .left .right .mp .mpr .elim`;
//! - types in constructor form or notation; `Not p` is `p → False`.

pub(crate) mod core;
mod elaborate;
mod unify;

use std::time::Instant;

use self::{
    core::{Core, Prop, PropId, Props, Term},
    elaborate::{Elaborator, Local, Meaning},
    unify::Unifier,
};
use crate::{
    Build, Candidate, Compiled, Formula, Outcome, Statement, Verdict, Verifier, prelude, statement,
    syntax::{Parser, Stop},
};

/// A change of what this kernel accepts changes this version, and with it the name of its verdicts' build.
const VERSION: &str = "1";

/// The exact kernel. Cheap to make; memory is kept from one candidate to the next and does not grow with their number.
#[derive(Debug)]
pub struct Kernel {
    build: Build,
    parser: Parser,
    unifier: Unifier,
    terms: Vec<Term>,
    question: Option<Question>,
}

/// The statement last asked, kept because many proofs of one statement come together.
#[derive(Debug)]
struct Question {
    header: String,
    text: String,
    digest: [u8; 32],
    header_digest: [u8; 32],
    understood: std::result::Result<Understood, String>,
}

#[derive(Debug)]
struct Understood {
    statement: Statement,
    hypotheses: Vec<PropId>,
    goal: PropId,
    /// Propositions of the statement itself; the rest go with each proof.
    n_props: usize,
}

impl Default for Kernel {
    fn default() -> Self {
        let binary_digest = blake3::derive_key("tracker kernel build 1", VERSION.as_bytes());
        Self {
            build: Build {
                name: "kernel".to_owned(),
                version: VERSION.to_owned(),
                commit: String::new(),
                binary_digest,
                flags: Vec::new(),
            },
            parser: Parser::default(),
            unifier: Unifier::default(),
            terms: Vec::new(),
            question: None,
        }
    }
}

impl Kernel {
    /// The kernel.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks one candidate.
    pub fn check_one(&mut self, candidate: &Candidate) -> Verdict {
        let start = Instant::now();
        self.ask(&candidate.header, &candidate.statement);
        let (digest, result) = match self.question.take() {
            Some(question) => {
                let result = match &question.understood {
                    Ok(understood) => self.prove(understood, &candidate.proof),
                    Err(message) => Err((Outcome::Unparsed, message.clone())),
                };
                let digest = question.digest;
                self.question = Some(question);
                (digest, result)
            }
            None => ([0; 32], Err((Outcome::Infra, "the statement was lost".to_owned()))),
        };
        let (outcome, message) = match result {
            Ok(()) => (Outcome::Proved, String::new()),
            Err(refusal) => refusal,
        };
        let micros = start.elapsed().as_micros() as u64;
        Verdict {
            outcome,
            message,
            axioms: Vec::new(),
            wall_micros: micros,
            // one thread that never waits: elapsed and processor time are the same
            cpu_micros: micros,
            peak_rss_bytes: None,
            sandboxed: true,
            statement_digest: digest,
            header_digest: self.question.as_ref().map_or([0; 32], |question| question.header_digest),
            limits: crate::Limits::default(),
        }
    }

    /// Makes `self.question` the one about this statement.
    fn ask(&mut self, header: &str, text: &str) {
        if self.question.as_ref().is_some_and(|question| question.text == text && question.header == header) {
            return;
        }
        self.unifier.reset(0);
        let understood = if prelude::is_neutral(header) {
            Statement::parse_with(&mut self.parser, text).map_err(|error| format!("statement: {error}"))
        } else {
            Err("header: the kernel reads imports and its own prelude only".to_owned())
        };
        let digest = match &understood {
            Ok(statement) => statement.digest(),
            Err(_) => statement::digest(header, text),
        };
        let understood = understood.map(|statement| {
            let props = &mut self.unifier.props;
            let hypotheses = statement.hypotheses.iter().map(|(_, formula)| intern(props, formula)).collect();
            let goal = intern(props, &statement.goal);
            Understood { hypotheses, goal, n_props: self.unifier.props.len(), statement }
        });
        let header_digest = crate::verifier::header_digest(header);
        let (header, text) = (header.to_owned(), text.to_owned());
        self.question = Some(Question { header, text, digest, header_digest, understood });
    }

    fn prove(&mut self, question: &Understood, proof: &str) -> std::result::Result<(), (Outcome, String)> {
        self.unifier.reset(question.n_props);
        self.terms.clear();
        self.elaborate(question, proof).map_err(|stop| {
            let (line, column) = stop.position(proof);
            (stop.outcome, format!("line {line}, column {column}: {}", stop.reason))
        })
    }

    fn elaborate(&mut self, question: &Understood, proof: &str) -> std::result::Result<(), Stop> {
        let root = self.parser.term(proof)?;
        let Understood { statement, hypotheses, goal, .. } = question;
        let atoms = statement.atoms.iter().zip(0..);
        let facts = statement.hypotheses.iter().zip(hypotheses).zip(0..);
        let mut scope: Vec<Local> = Vec::with_capacity(32);
        scope.extend(atoms.map(|(name, atom)| Local { name, meaning: Meaning::Atom(atom) }));
        scope.extend(facts.map(|(((name, _), ty), at)| Local { name, meaning: Meaning::Hypothesis(at, *ty) }));
        let mut elaborator = Elaborator {
            unifier: &mut self.unifier,
            terms: &mut self.terms,
            tree: &self.parser.tree,
            text: proof,
            scope: &mut scope,
            n_hypotheses: hypotheses.len() as u32,
        };
        let term = elaborator.proof(root, *goal)?;
        let mut core = Core { props: &mut self.unifier.props, terms: &self.terms, context: hypotheses.clone() };
        if core.infer(term, 0) == Some(*goal) {
            Ok(())
        } else {
            Err(Stop::unparsed(0, "the core does not accept what was elaborated"))
        }
    }
}

/// Interns a formula as the core sees it.
pub(crate) fn intern(props: &mut Props, formula: &Formula) -> PropId {
    let prop = match formula {
        Formula::True => Prop::True,
        Formula::False => Prop::False,
        Formula::Atom(atom) => Prop::Atom(*atom),
        Formula::Not(a) => Prop::Imp(intern(props, a), props.intern(Prop::False)),
        Formula::And(a, b) => Prop::And(intern(props, a), intern(props, b)),
        Formula::Or(a, b) => Prop::Or(intern(props, a), intern(props, b)),
        Formula::Implies(a, b) => Prop::Imp(intern(props, a), intern(props, b)),
        Formula::Iff(a, b) => Prop::Iff(intern(props, a), intern(props, b)),
    };
    props.intern(prop)
}

impl Verifier for Kernel {
    fn build(&self) -> &Build {
        &self.build
    }

    fn check(&mut self, candidates: &[Candidate]) -> Vec<Verdict> {
        candidates.iter().map(|candidate| self.check_one(candidate)).collect()
    }

    fn compile(&mut self, candidates: &[Candidate]) -> Vec<Compiled> {
        let compile = |candidate: &Candidate| {
            self.ask(&candidate.header, &candidate.statement);
            match &self.question {
                Some(Question { understood: Ok(_), digest, .. }) => Compiled::Yes(*digest),
                Some(Question { understood: Err(message), .. }) => Compiled::No(message.clone()),
                None => Compiled::Infra("the statement was lost".to_owned()),
            }
        };
        candidates.iter().map(compile).collect()
    }

    fn probe(&mut self, header: &str) -> std::result::Result<(), String> {
        if prelude::is_neutral(header) {
            Ok(())
        } else {
            Err("the kernel reads imports and its own prelude only; for this header use the verifier `lean`".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
