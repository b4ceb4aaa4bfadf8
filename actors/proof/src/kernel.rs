//! The exact kernel: checks Lean 4 term-mode proofs of intuitionistic logic, without Lean.
//!
//! Text is parsed as Lean parses it and elaborated in Lean's order. Propositional proofs, by far the most, are elaborated
//! to natural deduction and checked by [`core`]. Where that has no answer, or the statement is not propositional, the
//! proof is elaborated to a term of Lean's own calculus and checked by the core of [`first_order`].
//!
//! # Why `proved` is right
//! A verdict is `proved` only where one of the two cores accepted a term for the pinned statement. The propositional core
//! has natural deduction's rules, each of which is a term of Lean's calculus; the first-order core has rules of Lean's
//! kernel, each restricted, over constants whose types are Lean's. So what a core accepts Lean's kernel accepts. What is
//! trusted besides the cores: the arena of terms, the table of constants (a test offers it to Lean), and the reading of
//! the statement. Parsers, inference and names are not: a fault there refuses a right proof, or proves the statement in
//! another way than the text says. Against that stand tests that put generated and spoilt proofs to this kernel and to
//! Lean (`tests/agreement.rs`, `tests/tricky.rs`).
//!
//! # What is read
//! - `fun x (y : P) z => t` (`λ`, `↦`), application, brackets, `(t : P)`, `show P from t`, `have x : P := t; u`, `_`,
//!   `@c …`, `(name := t)` for implicit parameters of constants;
//! - `And.intro/left/right`, `Or.inl/inr/elim`, `Iff.intro/mp/mpr/refl/rfl/symm/trans`, `True.intro`, `trivial`,
//!   `False.elim`, `absurd`, `id`, `Exists.intro/elim`, `Eq.refl/symm/trans/subst`, `rfl`, `congrArg`, `Ne.symm`; and
//!   `propext`, `Classical.em`, `Classical.byContradiction`, where their axioms are allowed ([`Kernel::with_axioms`]);
//! - `⟨a, b, …⟩` where the type is known; `.1 .2 .left .right .mp .mpr .elim .symm .trans .subst`;
//! - types in constructor form or notation, `∀ ∃ → = ≠ ¬ ∧ ∨ ↔`; `Not p` is `p → False`; quantifiers over sorts
//!   (`α : Type`), predicates, functions and propositions.
//!
//! # What is left to Lean
//! What Lean rejects is never `proved`; what Lean may accept and is not followed here is `unparsed`, never `failed`:
//! tactics, `match` and patterns, `let`, `▸`, `calc`, `fun {x}`, universe variables, numerals, implicit binders inside
//! types; other constants; named arguments for explicit parameters; postponed elaboration (a projection, an application
//! or `⟨…⟩` whose type is known only later); unknowns that outlive a variable on which their value may depend, as in
//! `(fun x => Or.inl (h x)) a`; unification beyond Miller's patterns and `?f a` against `g b`; constants and notation
//! that the header does not bring. Foreign text is never run, so every verdict counts as sandboxed.

pub(crate) mod core;
mod elaborate;
mod first_order;
mod unify;

use std::time::Instant;

use self::{
    core::{Core, Prop, PropId, Props, Term},
    elaborate::{Elaborator, Local, Meaning},
    first_order::{FirstOrder, Library},
    unify::Unifier,
};
use crate::{
    Build, Candidate, Compiled, Formula, Limits, Outcome, Statement, Verdict, Verifier, prelude, statement,
    syntax::{NodeId, Parser, Stop},
    verifier,
};

/// A change of what this kernel accepts changes this version, and with it the name of its verdicts' build.
const VERSION: &str = "2";

/// The exact kernel. Cheap to make; memory is kept from one candidate to the next and does not grow with their number.
#[derive(Debug)]
pub struct Kernel {
    build: Build,
    parser: Parser,
    unifier: Unifier,
    terms: Vec<Term>,
    /// Made when it is first needed.
    first_order: Option<Box<FirstOrder>>,
    axioms: Vec<String>,
    question: Option<Question>,
}

/// The statement last asked, kept because many proofs of one statement come together.
#[derive(Debug)]
struct Question {
    header: String,
    text: String,
    digest: [u8; 32],
    header_digest: [u8; 32],
    library: Library,
    understood: std::result::Result<Understood, String>,
    /// Whether the first-order checker has this statement.
    is_first_order: bool,
}

#[derive(Debug)]
enum Understood {
    Propositional(Propositional),
    FirstOrder,
}

#[derive(Debug)]
struct Propositional {
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
            first_order: None,
            axioms: Vec::new(),
            question: None,
        }
    }
}

/// A refusal: the outcome and why.
type Refusal = (Outcome, String);

impl Kernel {
    /// The kernel; a proof that rests on an axiom is `bad_axiom`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The kernel that allows these axioms, by the names that Lean's `#print axioms` gives: `propext`, `Quot.sound`,
    /// `Classical.choice`. They are part of the build's name.
    #[must_use]
    pub fn with_axioms<S: AsRef<str>>(axioms: &[S]) -> Self {
        let mut kernel = Self::default();
        let mut sorted: Vec<String> = axioms.iter().map(|axiom| axiom.as_ref().to_owned()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        kernel.build.flags = sorted.iter().map(|axiom| format!("axiom:{axiom}")).collect();
        kernel.axioms = sorted;
        kernel
    }

    /// Checks one candidate.
    pub fn check_one(&mut self, candidate: &Candidate) -> Verdict {
        let start = Instant::now();
        self.ask(&candidate.header, &candidate.statement);
        let ((digest, header_digest), result) = match self.question.take() {
            Some(mut question) => {
                let result = self.answer(&mut question, &candidate.proof);
                let digest = (question.digest, question.header_digest);
                self.question = Some(question);
                (digest, result)
            }
            None => (([0; 32], [0; 32]), Err((Outcome::Infra, "the statement was lost".to_owned()))),
        };
        let (outcome, message, axioms) = match result {
            Ok(axioms) => match axioms.iter().find(|axiom| !self.axioms.contains(*axiom)) {
                None => (Outcome::Proved, String::new(), axioms),
                Some(axiom) => (Outcome::BadAxiom, format!("the proof rests on the axiom `{axiom}`"), axioms),
            },
            Err((outcome, message)) => (outcome, message, Vec::new()),
        };
        let micros = start.elapsed().as_micros() as u64;
        Verdict {
            outcome,
            message,
            axioms,
            wall_micros: micros,
            // one thread that never waits: elapsed and processor time are the same
            cpu_micros: micros,
            peak_rss_bytes: None,
            sandboxed: true,
            statement_digest: digest,
            header_digest,
            limits: Limits::default(),
        }
    }

    /// Makes `self.question` the one about this statement.
    fn ask(&mut self, header: &str, text: &str) {
        if self.question.as_ref().is_some_and(|question| question.text == text && question.header == header) {
            return;
        }
        self.unifier.reset(0);
        let library = Library::of(header);
        let understood = match library {
            Some(library) => self.understand(library, text),
            None => Err("header: the kernel reads imports and its own preludes only".to_owned()),
        };
        let digest = match &understood {
            Ok(Understood::Propositional(propositional)) => propositional.statement.digest(),
            Ok(Understood::FirstOrder) | Err(_) => statement::digest(header, text),
        };
        let is_first_order = matches!(understood, Ok(Understood::FirstOrder));
        let header_digest = verifier::header_digest(header);
        let (header, text, library) = (header.to_owned(), text.to_owned(), library.unwrap_or(Library::Prelude));
        self.question = Some(Question { header, text, digest, header_digest, library, understood, is_first_order });
    }

    fn understand(&mut self, library: Library, text: &str) -> std::result::Result<Understood, String> {
        let reason = |stop: Stop| format!("statement: {}", refusal(stop, text).1);
        if let Ok(statement) = Statement::parse_with(&mut self.parser, text) {
            self.spelling(library).map_err(reason)?;
            let props = &mut self.unifier.props;
            let hypotheses = statement.hypotheses.iter().map(|(_, formula)| intern(props, formula)).collect();
            let goal = intern(props, &statement.goal);
            let n_props = self.unifier.props.len();
            return Ok(Understood::Propositional(Propositional { statement, hypotheses, goal, n_props }));
        }
        self.ask_first_order(library, text).map_err(reason)?;
        self.spelling(library).map_err(reason)?;
        Ok(Understood::FirstOrder)
    }

    /// Refuses what the parser read more kindly than Lean would under this header.
    fn spelling(&self, library: Library) -> std::result::Result<(), Stop> {
        match (self.parser.ragged, self.parser.notation) {
            (Some(at), _) => Err(Stop::unparsed(at, "at the start of a line Lean expects a new command")),
            (None, Some(at)) if library != Library::Init => {
                Err(Stop::unparsed(at, "this header declares no notation: write `And`, `Not`, `Exists`, `Eq`"))
            }
            _ => Ok(()),
        }
    }

    fn ask_first_order(&mut self, library: Library, text: &str) -> std::result::Result<(), Stop> {
        let first_order = match &mut self.first_order {
            Some(first_order) => first_order,
            none => none.insert(Box::new(FirstOrder::new()?)),
        };
        first_order.ask(&mut self.parser, library, text)
    }

    /// Checks a proof; gives the axioms it rests on, sorted.
    fn answer(&mut self, question: &mut Question, proof: &str) -> std::result::Result<Vec<String>, Refusal> {
        let refuse = |stop| refusal(stop, proof);
        if let Err(message) = &question.understood {
            return Err((Outcome::Unparsed, message.clone()));
        }
        let mut root = self.parse_proof(question.library, proof).map_err(refuse)?;
        if let Ok(Understood::Propositional(propositional)) = &question.understood {
            match self.elaborate(propositional, root, proof) {
                Ok(()) => return Ok(Vec::new()),
                Err(stop) if stop.outcome != Outcome::Unparsed => return Err(refuse(stop)),
                // beyond propositional means: `@`, `_`, quantifiers, axioms
                Err(_) => {}
            }
        }
        if !question.is_first_order {
            let text = &question.text;
            self.ask_first_order(question.library, text).map_err(|stop| refusal(stop, text))?;
            question.is_first_order = true;
            root = self.parse_proof(question.library, proof).map_err(refuse)?;
        }
        let Some(first_order) = &mut self.first_order else {
            return Err((Outcome::Infra, "the statement was lost".to_owned()));
        };
        let axioms = first_order.prove(&self.parser.tree, root, proof).map_err(refuse)?;
        Ok(axioms.into_iter().map(str::to_owned).collect())
    }

    fn parse_proof(&mut self, library: Library, proof: &str) -> std::result::Result<NodeId, Stop> {
        let root = self.parser.term(proof)?;
        self.spelling(library)?;
        Ok(root)
    }

    fn elaborate(&mut self, question: &Propositional, root: NodeId, proof: &str) -> std::result::Result<(), Stop> {
        let Propositional { statement, hypotheses, goal, n_props } = question;
        self.unifier.reset(*n_props);
        self.terms.clear();
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

fn refusal(stop: Stop, text: &str) -> Refusal {
    let (line, column) = stop.position(text);
    (stop.outcome, format!("line {line}, column {column}: {}", stop.reason))
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
