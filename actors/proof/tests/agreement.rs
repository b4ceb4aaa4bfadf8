//! The kernel and Lean give the same answers to generated and mutated proofs.
//!
//! `TRACKER_AGREEMENT` sets how many candidates (default 2,500; 20,000 take about a minute on two cores), and
//! `TRACKER_AGREEMENT_SEED` which.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod first_order;
mod spoil;

use std::io::Write as _;

use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use tracker_proof::{
    Candidate, Formula, Outcome, Style, Verifier as _,
    corpus::{self, Level, Problem},
    kernel::Kernel,
    lean::{Lean, Options, find},
    prelude,
    search::Proof,
};

/// Writes a proof in the spellings that the search does not use.
struct Rich<'r> {
    rng: &'r mut ChaCha8Rng,
}

impl Rich<'_> {
    fn flip(&mut self) -> bool {
        self.rng.random_range(0..2) == 0
    }

    /// The proof, now and then in a wrapping that changes nothing but what must be inferred.
    fn write(&mut self, proof: &Proof, depth: u32, ty: Option<&Formula>) -> String {
        let text = self.plain(proof, depth, ty);
        match self.rng.random_range(0..90) {
            0 => format!("id ({text})"),
            1 => format!("(fun y => y) ({text})"),
            2 => format!("have k := {text}; k"),
            3 => format!("(fun (y) => y) ({text})"),
            4 => format!("And.left ⟨{text}, trivial⟩"),
            5 => format!("(And.intro trivial ({text})).2"),
            6 => format!("have k :=\n {text}\n(k)"),
            7 => format!("Or.elim (Or.inl ({text})) id id"),
            8 => format!("(fun f => f ({text})) id"),
            10 => format!("@id _ ({text})"),
            11 => format!("@And.left _ _ (@And.intro _ True ({text}) trivial)"),
            12 => format!("(fun (y : _) => y) ({text})"),
            13 => format!("Or.elim (a := False) (Or.inr ({text})) False.elim (fun y => y)"),
            9 => format!("(fun f => f ({text})) (fun y => y)"),
            _ => text,
        }
    }

    fn plain(&mut self, proof: &Proof, depth: u32, ty: Option<&Formula>) -> String {
        let below = |this: &mut Self, proof: &Proof| {
            let text = this.write(proof, depth, None);
            if matches!(proof, Proof::Var(_)) { text } else { format!("({text})") }
        };
        match proof {
            Proof::Var(level) => format!("x{level}"),
            Proof::Trivial => ["True.intro", "trivial", "⟨⟩"].choose(self.rng).unwrap().to_string(),
            Proof::Fun(body) => {
                let parts = match ty {
                    Some(Formula::Implies(a, b)) => Some((a.print::<&str>(Style::Constructor, &[]), Some(&**b))),
                    Some(Formula::Not(a)) => Some((a.print::<&str>(Style::Constructor, &[]), None)),
                    _ => None,
                };
                let inner = self.write(body, depth + 1, parts.as_ref().and_then(|(_, b)| *b));
                match (parts, self.rng.random_range(0..4)) {
                    (Some((a, _)), 0) => format!("fun (x{depth} : {a}) => {inner}"),
                    (Some((a, _)), 1) => format!("fun x{depth} : {a} ↦ {inner}"),
                    (_, 2) => format!("λ x{depth} => {inner}"),
                    _ => format!("fun x{depth} => {inner}"),
                }
            }
            Proof::App(f, a) => {
                let (f, a) = (self.write(f, depth, None), below(self, a));
                if self.flip() { format!("{f} {a}") } else { format!("({f}) {a}") }
            }
            Proof::Both(a, b) | Proof::Equiv(a, b) if self.flip() => {
                let (a, b) = (self.write(a, depth, None), self.write(b, depth, None));
                format!("⟨{a}, {b}⟩")
            }
            Proof::Both(a, b) => format!("And.intro {} {}", below(self, a), below(self, b)),
            Proof::Equiv(a, b) => format!("Iff.intro {} {}", below(self, a), below(self, b)),
            Proof::Left(a) | Proof::Right(a) => {
                let is_left = matches!(proof, Proof::Left(_));
                let a = below(self, a);
                let dots = if is_left { [".1", ".left"] } else { [".2", ".right"] };
                let dot = dots.choose(self.rng).unwrap();
                let word = if is_left { "And.left" } else { "And.right" };
                if self.flip() { format!("{a}{dot}") } else { format!("{word} {a}") }
            }
            Proof::Mp(a) | Proof::Mpr(a) => {
                let word = if matches!(proof, Proof::Mp(_)) { "mp" } else { "mpr" };
                let a = below(self, a);
                if self.flip() { format!("{a}.{word}") } else { format!("Iff.{word} {a}") }
            }
            Proof::Inl(a) => format!("Or.inl {}", below(self, a)),
            Proof::Inr(a) => format!("Or.inr {}", below(self, a)),
            Proof::Cases(a, l, r) => {
                let (a, l, r) = (below(self, a), below(self, l), below(self, r));
                if self.flip() { format!("{a}.elim {l} {r}") } else { format!("Or.elim {a} {l} {r}") }
            }
            Proof::Explode(a) => {
                let a = below(self, a);
                match self.rng.random_range(0..3) {
                    0 => format!("{a}.elim"),
                    1 => format!("have k := {a}; False.elim k"),
                    _ => format!("False.elim (id {a})"),
                }
            }
        }
    }
}

const TOKENS: &[&str] = &[
    "h1",
    "h2",
    "h3",
    "x0",
    "x1",
    "p",
    "q",
    "(",
    ")",
    "And.intro",
    "And.left",
    "And.right",
    "Or.inl",
    "Or.inr",
    "Or.elim",
    "Iff.intro",
    "Iff.mp",
    "Iff.mpr",
    "False.elim",
    "absurd",
    "id",
    "trivial",
    "fun",
    "=>",
    "⟨",
    "⟩",
    ",",
    ".1",
    ".2",
    "have k := h1 ;",
    "show p from",
    "( h1 : p )",
    "h1.1",
    "h1.2",
    "h1.left",
    "h2.mp",
    "h1.elim",
    "→",
    "¬",
    "And",
    "Not",
    ":",
    "fun h2 =>",
    "fun ( h1 : And p q ) =>",
    "\n",
    "_",
    "this",
    "have : p := h1 ;",
    "h1.1.2",
    "have h2 : p := h1\n",
    "@And.intro",
    "@Or.inl p q",
    "@id",
    "(c := p)",
    "∀",
    "Iff.symm",
];

/// Spoils a proof in one to three places.
fn mutate(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut tokens: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for _ in 0..rng.random_range(1..=3) {
        if tokens.is_empty() {
            break;
        }
        let at = rng.random_range(0..tokens.len());
        let other = rng.random_range(0..tokens.len());
        match rng.random_range(0..7) {
            0 => tokens.swap(at, other),
            1 => drop(tokens.remove(at)),
            2 => tokens.insert(at, tokens[other].clone()),
            3 => {
                let copy = tokens[other].clone();
                tokens.splice(at..=at, [copy]);
            }
            4 => tokens[at] = TOKENS.choose(rng).unwrap().to_string(),
            5 => tokens.insert(at, TOKENS.choose(rng).unwrap().to_string()),
            _ if rng.random_range(0..6) == 0 => tokens.truncate(at),
            _ => {
                let swapped = match tokens[at].as_str() {
                    "And.left" => "And.right",
                    "Or.inl" => "Or.inr",
                    "Or.inr" => "Or.inl",
                    "h1" => "h2",
                    "h2" => "h3",
                    "h3" => "h1",
                    _ => continue,
                };
                swapped.clone_into(&mut tokens[at]);
            }
        }
    }
    tokens.join(" ")
}

fn candidate(problem: &Problem, proof: String) -> Candidate {
    Candidate { header: prelude::TEXT.to_owned(), statement: problem.statement.to_string(), proof }
}

fn candidates(n: usize) -> Vec<Candidate> {
    let seed = std::env::var("TRACKER_AGREEMENT_SEED").map_or(11, |seed| seed.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let problems = corpus::statements(seed, (n / 5).max(5), &Level::ALL).unwrap();
    let mut all = Vec::with_capacity(n);
    for index in 0..n {
        let problem = &problems[index % problems.len()];
        let plain = problem.proof.render(&[]);
        let rich = Rich { rng: &mut rng }.write(&problem.proof, 0, Some(&problem.statement.goal));
        let other = problems.choose(&mut rng).unwrap();
        all.push(match index / problems.len() % 5 {
            0 => candidate(problem, plain),
            1 => candidate(problem, rich),
            2 => candidate(problem, mutate(&plain, &mut rng)),
            3 => candidate(problem, mutate(&rich, &mut rng)),
            _ if rng.random_range(0..2) == 0 => candidate(other, plain),
            _ => candidate(problem, mutate(&plain, &mut rng)),
        });
    }
    all
}

fn first_order_candidates(n: usize) -> Vec<Candidate> {
    let seed = std::env::var("TRACKER_AGREEMENT_SEED").map_or(11, |seed| seed.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let problems: Vec<_> = (0..(n / 3).max(3))
        .map(|index| first_order::problem(&mut rng, first_order::Style::Constructor, 1 + index as u32 % 4))
        .collect();
    let candidate = |statement: &str, proof: String| Candidate {
        header: prelude::FIRST_ORDER.to_owned(),
        statement: statement.to_owned(),
        proof,
    };
    (0..n)
        .map(|index| {
            let (statement, proof) = &problems[index % problems.len()];
            match index / problems.len() {
                0 => candidate(statement, proof.clone()),
                2 if rng.random_range(0..3) == 0 => candidate(&spoil::mutate(statement, &mut rng), proof.clone()),
                2 if rng.random_range(0..8) == 0 => candidate(statement, problems.choose(&mut rng).unwrap().1.clone()),
                _ => candidate(statement, spoil::mutate(proof, &mut rng)),
            }
        })
        .collect()
}

fn how_many() -> usize {
    std::env::var("TRACKER_AGREEMENT").map_or(2_500, |n| n.parse().unwrap())
}

#[test]
fn the_kernel_and_lean_agree_on_first_order_proofs() {
    let n = how_many();
    agree(&first_order_candidates(n), "first-order");
}

#[test]
fn the_kernel_and_lean_agree_on_generated_and_mutated_proofs() {
    agree(&candidates(how_many()), "propositional");
}

/// Puts candidates to both checkers, and fails where one proves what the other refuses.
fn agree(all: &[Candidate], what: &str) {
    let Some(binary) = find() else {
        let skip = b"SKIP agreement: no lean (set TRACKER_LEAN or run tests/lean.sh)\n";
        std::io::stderr().write_all(skip).unwrap();
        return;
    };
    let n = all.len();
    let axioms = ["propext", "Quot.sound", "Classical.choice"];
    let ours = Kernel::with_axioms(&axioms).check(all);
    let mut lean = Lean::open(Options { binary: Some(binary), ..Options::default() }).unwrap();
    let theirs = lean.screen(all);
    let mut disagreements = Vec::new();
    let [mut proved, mut failed, mut unparsed] = [0; 3];
    for ((candidate, ours), theirs) in all.iter().zip(&ours).zip(&theirs) {
        assert!(
            !matches!(theirs.outcome, Outcome::Infra | Outcome::Timeout | Outcome::Oom),
            "{candidate:?}: {theirs:?}"
        );
        let agree = match ours.outcome {
            Outcome::Proved => theirs.is_proved() && ours.axioms == theirs.axioms,
            Outcome::Failed => !theirs.is_proved(),
            _ => true,
        };
        match ours.outcome {
            Outcome::Proved => proved += 1,
            Outcome::Failed => failed += 1,
            _ if theirs.is_proved() => unparsed += 1,
            _ => {}
        }
        if !agree {
            disagreements.push(format!(
                "{}\n  := {}\n  kernel: {} {}\n  lean: {} {}",
                candidate.statement, candidate.proof, ours.outcome, ours.message, theirs.outcome, theirs.message
            ));
        }
    }
    let report = format!("{what}: {proved} proved, {failed} failed, {unparsed} left to lean, of {n}\n");
    std::io::stderr().write_all(report.as_bytes()).unwrap();
    assert!(
        disagreements.is_empty(),
        "{} disagreements, first:\n{}",
        disagreements.len(),
        disagreements[..disagreements.len().min(12)].join("\n")
    );
    assert!(proved * 4 > n && failed * 20 > n, "too few of one kind: {report}");
    assert!(unparsed * 10 < n, "too much is left to lean: {report}");
}
