//! The seam between whoever has proofs and whoever can check them.
//!
//! Invariants: [`Verifier::check`] answers every candidate, in order, and never panics on their text; only a positive,
//! complete, pinned and axiom-checked answer is [`Outcome::Proved`]; trouble of the checker's own is
//! [`Outcome::Infra`], which a caller retries and takes out of n, and never counts as a failed proof.
//! Not here: how a checker works ([`kernel`](crate::kernel), [`lean`](crate::lean)), nor where verdicts are kept.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, statement};

/// What came of checking one candidate. Final: stored records and reports name these ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The proof proves the statement, whole, and by allowed axioms alone.
    Proved,
    /// The checker understood the proof, and it is wrong.
    Failed,
    /// The proof leaves a hole (`sorry`, `admit`, or what Lean puts in their place).
    Sorry,
    /// The proof rests on an axiom outside the allow-list.
    BadAxiom,
    /// What was proved is not what was asked.
    StatementMismatch,
    /// The text holds a word that may not stand in a candidate; it was not run.
    Forbidden,
    /// No answer within the time allowed.
    Timeout,
    /// The checker ran out of the memory or stack allowed.
    Oom,
    /// The checker itself failed: retry; if it stays, report it and take it out of n.
    Infra,
    /// The text is outside what this checker reads; another may accept it.
    Unparsed,
}

impl Outcome {
    /// All ten, in the order of the enumeration.
    pub const ALL: [Self; 10] = [
        Self::Proved,
        Self::Failed,
        Self::Sorry,
        Self::BadAxiom,
        Self::StatementMismatch,
        Self::Forbidden,
        Self::Timeout,
        Self::Oom,
        Self::Infra,
        Self::Unparsed,
    ];

    /// The stored spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Failed => "failed",
            Self::Sorry => "sorry",
            Self::BadAxiom => "bad_axiom",
            Self::StatementMismatch => "statement_mismatch",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::Infra => "infra",
            Self::Unparsed => "unparsed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word).ok_or_else(|| Error::Word {
            expected: "an outcome (`proved`, `failed`, `sorry`, `bad_axiom`, `statement_mismatch`, `forbidden`, \
                       `timeout`, `oom`, `infra`, `unparsed`)",
            got: word.to_owned(),
        })
    }
}

/// One statement with one proof of it, as Lean text. Any bytes may stand in any field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Candidate {
    /// What comes before: imports, options, opened namespaces, or a whole `prelude`. Trusted: it is the caller's.
    pub header: String,
    /// `theorem NAME BINDERS : TYPE`, up to but without `:=`.
    pub statement: String,
    /// What comes after `:=`: a term, or `by` and a tactic block.
    pub proof: String,
}

/// What a verifier says of one candidate, with what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// The first thing that was wrong, one short line; empty when proved.
    pub message: String,
    /// Axioms the proof rests on, sorted; empty where none or where it never came to that.
    pub axioms: Vec<String>,
    /// Elapsed time in microseconds: this candidate's share of the process that checked it.
    pub wall_micros: u64,
    /// Processor time in microseconds, shared in the same way.
    pub cpu_micros: u64,
    /// Largest resident memory of the process that checked it; `None` where no process of its own was used.
    pub peak_rss_bytes: Option<u64>,
    /// Whether foreign text was kept from the machine: in a sandbox, or because it is never run at all.
    pub sandboxed: bool,
    /// What was asked: [`statement::digest`](crate::statement::digest) of header and statement.
    pub statement_digest: [u8; 32],
    /// What it was asked under: [`header_digest`].
    pub header_digest: [u8; 32],
    /// What the checker was allowed.
    pub limits: Limits,
}

impl Verdict {
    /// A verdict that took no checking: the proof was not run, and cost nothing.
    #[must_use]
    pub fn unchecked(candidate: &Candidate, outcome: Outcome, message: String) -> Self {
        Self {
            outcome,
            message,
            axioms: Vec::new(),
            wall_micros: 0,
            cpu_micros: 0,
            peak_rss_bytes: None,
            sandboxed: true,
            statement_digest: statement::digest(&candidate.header, &candidate.statement),
            header_digest: header_digest(&candidate.header),
            limits: Limits::default(),
        }
    }

    /// Whether the outcome is [`Outcome::Proved`].
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.outcome == Outcome::Proved
    }
}

/// What a checker was allowed for one candidate; `None` where nothing was bounded. A verdict of `timeout` or `oom` means
/// nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Time beyond what the header takes, in milliseconds. Lean on this machine may compute for so long, and be at it some
    /// times longer where the machine has no time for it; a server counts elapsed time.
    pub time_millis: Option<u64>,
    /// Memory of a process, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
}

/// The name of a header: BLAKE3 of its bytes.
#[must_use]
pub fn header_digest(header: &str) -> [u8; 32] {
    blake3::derive_key("tracker lean header 1", header.as_bytes())
}

/// Exactly which checker gave a verdict, so that verdicts of a faulty one can be found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Build {
    /// `kernel`, `lean` or `kimina`.
    pub name: String,
    /// Its own version, such as `4.35.0`.
    pub version: String,
    /// The commit it was built from; empty where it does not say.
    pub commit: String,
    /// BLAKE3 of the program: the binary with its libraries, or of the version where it is linked into this one.
    pub binary_digest: [u8; 32],
    /// Options that change what it accepts, in the order given to it.
    pub flags: Vec<String>,
}

impl Build {
    /// The name of this build: BLAKE3 over all fields, each with its length in front.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tracker verifier build 1");
        let fields = [self.name.as_bytes(), self.version.as_bytes(), self.commit.as_bytes(), &self.binary_digest];
        for field in fields.into_iter().chain(self.flags.iter().map(String::as_bytes)) {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        *hasher.finalize().as_bytes()
    }
}

/// Whether a statement stands on its own feet, before anyone tries to prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compiled {
    /// It is a well-formed proposition; the digest is [`statement::digest`](crate::statement::digest).
    Yes([u8; 32]),
    /// It is not; the first error, one short line.
    No(String),
    /// The checker failed, and the question is open; why.
    Infra(String),
}

/// Something that checks proofs.
pub trait Verifier: Send {
    /// Which checker this is.
    fn build(&self) -> &Build;

    /// Checks proofs. The answer has the length and the order of `candidates`, always.
    fn check(&mut self, candidates: &[Candidate]) -> Vec<Verdict>;

    /// Tells which statements are well-formed, in order; the proofs of `candidates` are not looked at.
    fn compile(&mut self, candidates: &[Candidate]) -> Vec<Compiled>;

    /// What the user should be told once, such as that foreign text runs without a sandbox here.
    fn warning(&self) -> Option<&str> {
        None
    }

    /// Tells, before any work is spent, whether this header can be used at all.
    ///
    /// # Errors
    /// What is missing; after `; hint: `, where there is one, what to install or change.
    fn probe(&mut self, header: &str) -> std::result::Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_keep_their_spelling_in_text_and_in_json() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse::<Outcome>().unwrap(), outcome);
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
        }
        assert!("PROVED".parse::<Outcome>().is_err());
    }

    #[test]
    fn every_field_of_a_build_changes_its_digest() {
        let build = Build {
            name: "lean".into(),
            version: "4.35.0".into(),
            commit: "eb6cafb".into(),
            binary_digest: [7; 32],
            flags: vec!["-DmaxErrors=0".into()],
        };
        let mut others = vec![build.clone(); 5];
        others[0].name = "kernel".into();
        others[1].version = "4.35.1".into();
        others[2].commit.clear();
        others[3].binary_digest[31] = 0;
        others[4].flags = vec!["-DmaxErrors".into(), "=0".into()];
        for other in others {
            assert_ne!(other.digest(), build.digest());
        }
    }
}
