//! Verifiers as actors: who checks, what it is in the store, and batches of candidates in and verdicts out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};
use tracker_proof::kernel::Kernel;
use tracker_proof::lean::kimina::{self, Kimina};
use tracker_proof::lean::{self, Lean};
use tracker_proof::{Candidate, Compiled, Outcome, Verdict, Verifier};
use tracker_store::{Content, Cost, Digest, NodeId, Verdict as VerdictRecord, Verifier as VerifierRecord};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::truth::Screen;

/// Times a verdict that is no verdict is asked for again.
const INFRA_RETRIES: usize = 2;

/// Who checks proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// The exact kernel of `tracker-proof`, for propositional logic.
    Kernel,
    /// Lean 4, as processes of this machine.
    Lean,
    /// Lean 4, behind the URL of a Kimina Lean Server.
    Kimina,
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
    /// Whether to refuse to run where the system has no sandbox for it.
    pub require_sandbox: bool,
}

impl Default for LeanSettings {
    fn default() -> Self {
        Self {
            binary: String::new(),
            project: String::new(),
            timeout_secs: 60,
            memory_mib: 8192,
            require_sandbox: false,
        }
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
            require_sandbox: self.require_sandbox,
            ..lean::Options::default()
        }
    }
}

/// Where a Kimina Lean Server is. Its key, if it wants one, is `TRACKER_KIMINA_KEY` of the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KiminaSettings {
    /// Base URL, such as `http://127.0.0.1:8000`.
    pub url: String,
    /// Seconds a proof may take, header included.
    pub timeout_secs: u64,
    /// Requests at once.
    pub requests: usize,
}

impl Default for KiminaSettings {
    fn default() -> Self {
        Self { url: String::new(), timeout_secs: 60, requests: 4 }
    }
}

/// Who checks, and what they may use.
#[derive(Clone, Debug)]
pub struct Checking {
    /// Who.
    pub checker: Checker,
    /// For `lean`.
    pub lean: LeanSettings,
    /// For `kimina`.
    pub kimina: KiminaSettings,
    /// Axioms a proof may rest on; those the verifier allows by itself if there is none: none for the kernel, and for Lean `propext`,
    /// `Quot.sound` and `Classical.choice`.
    pub axioms: Vec<String>,
    /// Whether proofs of statements that truth tables refute are called failed, and nobody is asked.
    pub screens: bool,
}

impl Checking {
    /// Opens it, for so many jobs at once.
    ///
    /// # Errors
    /// `Input`, `Value` with what to do, where there is none or it does not answer.
    pub fn open(&self, n_jobs: usize) -> Result<Box<dyn Verifier>> {
        Ok(match self.checker {
            Checker::Kernel => Box::new(Kernel::with_axioms(&self.axioms)),
            Checker::Lean => Box::new(self.open_lean(n_jobs)?),
            Checker::Kimina => Box::new(self.open_kimina()?),
        })
    }

    fn open_lean(&self, n_jobs: usize) -> Result<Lean> {
        let project = &self.lean.project;
        if !project.is_empty() && !Path::new(project).is_dir() {
            return Err(Error::Value {
                key: "lean.project".into(),
                message: format!("expected the folder of a Lake project, got `{project}`"),
            });
        }
        let mut options = self.lean.options(n_jobs);
        if !self.axioms.is_empty() {
            options.axioms.clone_from(&self.axioms);
        }
        Lean::open(options).map_err(|error| Error::Input {
            what: error.to_string(),
            hint: Some(
                "name a Lean 4 binary by `lean.binary` (`--lean`) or TRACKER_LEAN, or choose the verifier `kernel`"
                    .into(),
            ),
        })
    }

    fn open_kimina(&self) -> Result<Kimina> {
        let KiminaSettings { url, timeout_secs, requests } = &self.kimina;
        if url.is_empty() {
            return Err(Error::Value {
                key: "kimina.url".into(),
                message: "expected the URL of a Kimina Lean Server, such as http://127.0.0.1:8000".into(),
            });
        }
        let mut options = kimina::Options {
            key: std::env::var("TRACKER_KIMINA_KEY").ok(),
            timeout: Duration::from_secs((*timeout_secs).max(1)),
            jobs: (*requests).max(1),
            ..kimina::Options::new(url)
        };
        if !self.axioms.is_empty() {
            options.axioms.clone_from(&self.axioms);
        }
        Kimina::open(options).map_err(|error| {
            let said = error.to_string();
            let (what, hint) = split_hint(&said);
            Error::Input { what: what.to_owned(), hint: hint.map(str::to_owned) }
        })
    }

    /// What it is allowed, as flags of its build: a verdict of `timeout` or `oom` means nothing without.
    fn limits(&self) -> Vec<String> {
        match self.checker {
            Checker::Kernel => vec![],
            Checker::Lean => vec![
                format!("limit:wall={}s", self.lean.timeout_secs),
                format!("limit:memory={}MiB", self.lean.memory_mib),
            ],
            Checker::Kimina => vec![format!("limit:wall={}s", self.kimina.timeout_secs)],
        }
    }
}

/// An error's text, and what it says to do.
fn split_hint(text: &str) -> (&str, Option<&str>) {
    text.split_once("; hint: ").map_or((text, None), |(what, hint)| (what, Some(hint)))
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

/// A worker around one verifier, which is not bothered with statements that the device refutes, if there is a screen.
pub struct CheckWorker {
    verifier: Box<dyn Verifier>,
    screen: Option<Screen>,
}

impl CheckWorker {
    fn check(&mut self, candidates: &[Candidate]) -> tracker_gpu::Result<Vec<Verdict>> {
        let Some(screen) = &mut self.screen else { return Ok(self.verifier.check(candidates)) };
        let refuted = screen.refute(candidates)?;
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
                let refuted = self.screen.as_mut().map_or(Ok(vec![None; candidates.len()]), |s| s.refute(&candidates));
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
    /// `Input` if there is no such verifier on this machine, or it does not answer; those of starting a pool.
    pub fn start(lab: &Lab, checking: &Checking, n_workers: usize) -> Result<Self> {
        let verifier = checking.open(n_workers)?;
        if let Some(warning) = verifier.warning() {
            lab.note(warning);
        }
        let build = verifier.build().clone();
        drop(verifier);
        let record = VerifierRecord {
            name: build.name,
            version: build.version,
            commit: build.commit,
            binary: Digest::from_bytes(build.binary_digest),
            flags: build.flags.into_iter().chain(checking.limits()).collect(),
        };
        let (checking, device) = (checking.clone(), lab.device().clone());
        // Lean runs its own processes side by side; the kernel is one thread each.
        let (n_actors, n_jobs) = match checking.checker {
            Checker::Kernel => (n_workers.max(1), 1),
            Checker::Lean | Checker::Kimina => (1, n_workers.max(1)),
        };
        let pool = Pool::start(lab.actors(), PoolOptions::cpu("verifier", n_actors), move |_| {
            let verifier = checking.open(n_jobs).map_err(|error| Fault::infra("no verifier").because(error))?;
            Ok(CheckWorker { verifier, screen: checking.screens.then(|| Screen::new(&device)) })
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

    /// Verdicts on proofs, as they are recorded, in order. One that says nothing of its proof (`infra`) is asked for again.
    ///
    /// # Errors
    /// If the workers are lost.
    pub async fn check(&self, candidates: Vec<Candidate>) -> Result<Vec<VerdictRecord>> {
        let mut verdicts = self.ask(candidates.clone()).await?;
        for _ in 0..INFRA_RETRIES {
            let open: Vec<usize> = (0..verdicts.len()).filter(|i| verdicts[*i].outcome == Outcome::Infra).collect();
            if open.is_empty() {
                break;
            }
            let again = self.ask(open.iter().map(|i| candidates[*i].clone()).collect()).await?;
            for (i, verdict) in open.into_iter().zip(again) {
                verdicts[i] = verdict;
            }
        }
        verdicts.into_iter().map(|verdict| self.recorded(verdict)).collect()
    }

    /// A verdict as it is recorded.
    ///
    /// # Errors
    /// `Store` for an outcome the store does not know.
    pub fn recorded(&self, verdict: Verdict) -> Result<VerdictRecord> {
        Ok(VerdictRecord {
            outcome: verdict.outcome.as_str().parse().map_err(Error::Store)?,
            verifier: self.digest,
            statement: Digest::from_bytes(verdict.statement_digest),
            message: verdict.message,
            axioms: verdict.axioms,
            sandboxed: verdict.sandboxed,
            cost: Cost {
                wall_micros: verdict.wall_micros,
                cpu_micros: verdict.cpu_micros,
                peak_rss_bytes: verdict.peak_rss_bytes,
            },
        })
    }

    async fn ask(&self, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
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
                let (what, hint) = split_hint(&why);
                let name = &self.record.name;
                Error::Input {
                    what: format!("{name} cannot use the header of the problems: {what}"),
                    hint: hint.map(|hint| format!("{hint}; then name it by `lean.project` (`--project`)")),
                }
            }),
            _ => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> Error {
    Error::Internal("a verifier answered another question than it was asked".into())
}
