//! Verifiers as actors: who checks, what it is in the store, and batches of candidates in and verdicts out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_gpu::Device;
use tracker_proof::kernel::Kernel;
use tracker_proof::lean::{self, Lean};
use tracker_proof::{Candidate, Compiled, Outcome, Verdict, Verifier};
use tracker_store::{Content, Digest, NodeId, Verifier as VerifierRecord};

use crate::error::{Error, Result};
use crate::parts::truth::Screen;

/// Who checks proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// The exact kernel of `tracker-proof`, for propositional logic.
    Kernel,
    /// Lean 4, as a process.
    Lean,
}

/// Where Lean is and what it may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeanSettings {
    /// The binary; empty to look for one in `TRACKER_LEAN` and then on the path.
    pub binary: String,
    /// A Lake project whose packages (Mathlib) the header imports; empty for plain `lean`.
    pub project: String,
    /// Seconds a proof may take.
    pub timeout_secs: u64,
    /// MiB a Lean process may use.
    pub memory_mib: u64,
}

impl Default for LeanSettings {
    fn default() -> Self {
        Self { binary: String::new(), project: String::new(), timeout_secs: 60, memory_mib: 8192 }
    }
}

impl LeanSettings {
    fn options(&self, n_jobs: usize) -> lean::Options {
        lean::Options {
            binary: (!self.binary.is_empty()).then(|| PathBuf::from(&self.binary)),
            project: (!self.project.is_empty()).then(|| PathBuf::from(&self.project)),
            timeout: Duration::from_secs(self.timeout_secs),
            memory_bytes: self.memory_mib << 20,
            jobs: n_jobs,
            ..lean::Options::default()
        }
    }
}

/// Opens a verifier.
fn open(checker: Checker, lean: &LeanSettings, n_jobs: usize) -> Result<Box<dyn Verifier>> {
    if checker == Checker::Lean && !lean.project.is_empty() && !Path::new(&lean.project).is_dir() {
        return Err(Error::Value {
            key: "lean.project".into(),
            message: format!("expected the folder of a Lake project, got `{}`", lean.project),
        });
    }
    Ok(match checker {
        Checker::Kernel => Box::new(Kernel::new()),
        Checker::Lean => Box::new(Lean::open(lean.options(n_jobs)).map_err(|error| Error::Input {
            what: error.to_string(),
            hint: Some("set `lean.binary` or TRACKER_LEAN to a Lean 4 binary, or use `verifier=kernel`".into()),
        })?),
    })
}

/// What a verifier is asked.
pub enum Check {
    /// Are these proofs of their statements?
    Proofs(Vec<Candidate>),
    /// Are these statements well-formed?
    Statements(Vec<Candidate>),
    /// Which of these statements are known to have no proof?
    Refutations(Vec<Candidate>),
    /// Can this header be used?
    Header(String),
}

/// What it answers, one entry a candidate, in order.
pub enum Checked {
    /// To [`Check::Proofs`].
    Proofs(Vec<Verdict>),
    /// To [`Check::Statements`].
    Statements(Vec<Compiled>),
    /// To [`Check::Refutations`]: why none can exist.
    Refutations(Vec<Option<String>>),
    /// To [`Check::Header`]: what is missing.
    Header(std::result::Result<(), String>),
}

/// A worker around one verifier, which is not bothered with statements that the device refutes.
pub struct CheckWorker {
    verifier: Box<dyn Verifier>,
    screen: Screen,
}

impl CheckWorker {
    fn check(&mut self, candidates: &[Candidate]) -> tracker_gpu::Result<Vec<Verdict>> {
        let refuted = self.screen.refute(candidates)?;
        if refuted.iter().all(Option::is_none) {
            return Ok(self.verifier.check(candidates));
        }
        let open: Vec<Candidate> =
            candidates.iter().zip(&refuted).filter(|(_, why)| why.is_none()).map(|(c, _)| c.clone()).collect();
        let mut checked = self.verifier.check(&open).into_iter();
        let verdict = |(candidate, why): (&Candidate, Option<String>)| match why {
            Some(why) => Some(unprovable(candidate, why)),
            None => checked.next(),
        };
        Ok(candidates.iter().zip(refuted).filter_map(verdict).collect())
    }
}

/// The verdict on any proof of a statement that has none. The proof is not looked at.
fn unprovable(candidate: &Candidate, why: String) -> Verdict {
    Verdict::unchecked(candidate, Outcome::Failed, why)
}

/// Verdicts given so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Judged {
    /// Candidates checked.
    pub n_checked: u64,
    /// Of them, proved.
    pub n_proved: u64,
}

impl Worker for CheckWorker {
    type Message = Check;
    type Reply = Checked;
    type State = Judged;

    async fn handle(&mut self, check: Check, turn: &mut Turn<'_, Judged>) -> std::result::Result<Checked, Fault> {
        Ok(match check {
            Check::Proofs(candidates) => {
                let verdicts =
                    self.check(&candidates).map_err(|error| Fault::infra("could not screen").because(error))?;
                turn.update(|state| {
                    state.n_checked += verdicts.len() as u64;
                    state.n_proved += verdicts.iter().filter(|v| v.is_proved()).count() as u64;
                });
                Checked::Proofs(verdicts)
            }
            Check::Statements(candidates) => Checked::Statements(self.verifier.compile(&candidates)),
            Check::Refutations(candidates) => {
                let refuted = self.screen.refute(&candidates);
                Checked::Refutations(refuted.map_err(|error| Fault::infra("could not screen").because(error))?)
            }
            Check::Header(header) => Checked::Header(self.verifier.probe(&header)),
        })
    }
}

/// A pool of one verifier's workers, with what it is in the store.
#[derive(Clone)]
pub struct Verifiers {
    pool: Pool<CheckWorker>,
    record: VerifierRecord,
    digest: Digest,
}

impl Verifiers {
    /// Starts `n_workers` of them.
    ///
    /// # Errors
    /// `Input` if there is no such verifier on this machine; those of starting a pool.
    pub fn start(
        actors: &Handle,
        device: &Device,
        checker: Checker,
        lean: &LeanSettings,
        n_workers: usize,
    ) -> Result<Self> {
        let build = open(checker, lean, n_workers)?.build().clone();
        let record = VerifierRecord {
            name: build.name,
            version: build.version,
            commit: build.commit,
            binary: Digest::from_bytes(build.binary_digest),
            flags: build.flags,
        };
        let (lean, device) = (lean.clone(), device.clone());
        // Lean runs its own processes side by side; the kernel is one thread each.
        let (n_actors, n_jobs) = if checker == Checker::Lean { (1, n_workers.max(1)) } else { (n_workers.max(1), 1) };
        let pool = Pool::start(actors, PoolOptions::cpu("verifier", n_actors), move |_| {
            let verifier = open(checker, &lean, n_jobs).map_err(|error| Fault::infra("no verifier").because(error))?;
            Ok(CheckWorker { verifier, screen: Screen::new(&device) })
        })?;
        Ok(Self { pool, digest: record.digest()?, record })
    }

    /// Its build, as recorded.
    #[must_use]
    pub fn record(&self) -> &VerifierRecord {
        &self.record
    }

    /// Digest of its build: which of a sample's verdicts is its own.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its node.
    ///
    /// # Errors
    /// Those of encoding.
    pub fn node(&self) -> Result<NodeId> {
        Ok(self.record.node()?)
    }

    /// Verdicts on proofs, in order.
    ///
    /// # Errors
    /// If the workers are lost.
    pub async fn check(&self, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        match self.pool.ask(Check::Proofs(candidates)).await? {
            Checked::Proofs(verdicts) => Ok(verdicts),
            _ => Err(mixed_up()),
        }
    }

    /// Whether statements are well-formed, in order.
    ///
    /// # Errors
    /// If the workers are lost.
    pub async fn compile(&self, candidates: Vec<Candidate>) -> Result<Vec<Compiled>> {
        match self.pool.ask(Check::Statements(candidates)).await? {
            Checked::Statements(compiled) => Ok(compiled),
            _ => Err(mixed_up()),
        }
    }

    /// For each statement that has no proof, why; in order.
    ///
    /// # Errors
    /// If the workers are lost, or their device.
    pub async fn refute(&self, candidates: Vec<Candidate>) -> Result<Vec<Option<String>>> {
        match self.pool.ask(Check::Refutations(candidates)).await? {
            Checked::Refutations(refuted) => Ok(refuted),
            _ => Err(mixed_up()),
        }
    }

    /// Fails if a header cannot be used, before any work is spent.
    ///
    /// # Errors
    /// `Input` with what to install.
    pub async fn probe(&self, header: &str) -> Result<()> {
        match self.pool.ask(Check::Header(header.to_owned())).await? {
            Checked::Header(answer) => answer.map_err(|why| {
                let (what, hint) = why.split_once("; hint: ").map_or((&*why, None), |(what, hint)| (what, Some(hint)));
                let name = &self.record.name;
                Error::Input {
                    what: format!("{name} cannot use the header of the problems: {what}"),
                    hint: hint.map(|hint| format!("{hint}; then set `lean.project` to it")),
                }
            }),
            _ => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> Error {
    Error::Internal("a verifier answered another question than it was asked".into())
}
