//! Real Lean 4 as a verifier: many candidates to one process, none of them trusted.
//!
//! A candidate is scanned for forbidden words, then *screened* in a batch with others of its header: one
//! `lean --json` process, each candidate under an unguessable name and judged by its own line range. What passes is
//! *confirmed*: alone in a fresh process, with its statement pinned as a definition that the theorem must inhabit. Only
//! that is `proved`. A batch that dies or stalls is cut up until the culprit stands alone, so it costs its neighbours
//! nothing. Every process runs with limits and, where the kernel has Landlock, in a sandbox.
//!
//! A header is tried once, by itself, before any candidate: what it cannot import is a fault of the installation, and
//! every candidate under it is `infra`, never `failed`.

mod enclosure;
mod forbidden;
pub mod kimina;
mod process;
mod queue;
mod reply;
mod sandbox;
pub(crate) mod scan;
mod source;
mod toolchain;
mod tree;
mod work;

pub(crate) use self::forbidden::declares;

use std::{collections::HashMap, fs, io::Read as _, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use self::{
    process::{End, Finished, Walls},
    reply::{Judgement, Reply},
    sandbox::{Sandbox, Strength},
    scan::Code,
    source::{Form, Parts, Placed, Source},
    toolchain::Toolchain,
};
use crate::{
    Build, Candidate, Compiled, Error, Limits, Outcome, Result, Verdict, Verifier, statement, verifier::header_digest,
};

/// How to run Lean.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `lean` binary, or elan's proxy; `None`: what [`find`] finds.
    pub binary: Option<PathBuf>,
    /// A lake project whose libraries may be imported; its search path is what `lake env` gives there.
    pub project: Option<PathBuf>,
    /// Time one candidate may take beyond what its header takes. On a machine too busy to run it, it is at it longer, and
    /// may compute for so long.
    pub timeout: Duration,
    /// Time a header may take to be imported.
    pub header_timeout: Duration,
    /// Address space of a process, mapped `.olean` files included (Mathlib's: about 6 GiB).
    pub memory_bytes: u64,
    /// Most candidates to one process; it ends with them, so none grows old.
    pub batch: usize,
    /// Most processes at once; fewer where their header's memory is not there as often.
    pub jobs: usize,
    /// More flags for Lean, such as `-DmaxHeartbeats=400000`; part of the build's name.
    pub flags: Vec<String>,
    /// Axioms a proof may rest on; part of the build's name.
    pub axioms: Vec<String>,
    /// Whether to refuse to run where the kernel has no Landlock.
    pub require_sandbox: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            binary: None,
            project: None,
            timeout: Duration::from_mins(1),
            header_timeout: Duration::from_mins(5),
            memory_bytes: 16 << 30,
            batch: 512,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            flags: Vec::new(),
            axioms: ["propext", "Quot.sound", "Classical.choice"].map(str::to_owned).to_vec(),
            require_sandbox: false,
        }
    }
}

/// Where a Lean is installed: the environment's `TRACKER_LEAN`, else `lean` on the search path.
#[must_use]
pub fn find() -> Option<PathBuf> {
    toolchain::find()
}

/// Lean 4 as a verifier.
#[derive(Debug)]
pub struct Lean {
    options: Options,
    toolchain: Toolchain,
    walls: Walls,
    scratch: TempDir,
    /// What is known of each header: what it takes, or why it cannot be used.
    headers: HashMap<String, std::result::Result<Import, String>>,
}

/// What a header takes by itself.
#[derive(Clone, Copy, Debug)]
struct Import {
    wall: Duration,
    rss_bytes: u64,
}

impl Lean {
    /// Finds Lean and asks who it is.
    ///
    /// # Errors
    /// `Program` where there is no Lean, where it does not run, or where a sandbox is required and there is none;
    /// `Io` where no scratch folder can be made.
    pub fn open(options: Options) -> Result<Self> {
        let toolchain = Toolchain::open(&options)?;
        let failed = |source| Error::Io { doing: "cannot make a scratch folder".to_owned(), source };
        let scratch = tempfile::Builder::new().prefix("tracker-lean-").tempdir().map_err(failed)?;
        let sandbox = Sandbox::new(toolchain.read.clone(), scratch.path());
        let sandbox = (sandbox.strength() == Strength::Enforced).then_some(sandbox);
        if sandbox.is_none() && options.require_sandbox {
            let reason = "a sandbox is required, and this kernel has no Landlock (Linux 5.13 or later)".to_owned();
            return Err(Error::Program { program: toolchain.binary, reason });
        }
        let walls = Walls { sandbox, is_enclosed: process::can_enclose(&toolchain.binary) };
        Ok(Self { options, toolchain, walls, scratch, headers: HashMap::new() })
    }

    /// Checks like [`Verifier::check`] but without confirming: its positives must not enter a dataset.
    pub fn screen(&mut self, candidates: &[Candidate]) -> Vec<Verdict> {
        self.verdicts(candidates, false)
    }

    fn verdicts(&mut self, candidates: &[Candidate], confirm: bool) -> Vec<Verdict> {
        let form = Form::Screen;
        let read: Vec<_> = candidates.iter().map(|candidate| prepare(candidate, form)).collect();
        let answers = self.answers(candidates, &read, form, confirm);
        let sandboxed = self.walls.sandbox.is_some();
        let limits = Limits {
            time_millis: Some(self.options.timeout.as_millis() as u64),
            memory_bytes: Some(self.options.memory_bytes),
            processes: Some(process::max_processes()),
        };
        let verdict = |(candidate, answer): (&Candidate, work::Answer)| Verdict {
            outcome: answer.judgement.outcome,
            message: answer.judgement.message,
            axioms: answer.judgement.axioms,
            wall_micros: answer.wall.as_micros() as u64,
            cpu_micros: answer.cpu.as_micros() as u64,
            peak_rss_bytes: answer.peak_rss_bytes,
            // what never ran is as safe as what ran in a sandbox
            sandboxed: sandboxed || answer.peak_rss_bytes.is_none(),
            statement_digest: statement::digest(&candidate.header, &candidate.statement),
            header_digest: header_digest(&candidate.header),
            limits,
        };
        candidates.iter().zip(answers).map(verdict).collect()
    }

    /// Answers for all candidates: from reading them, from their header, or from Lean.
    fn answers(
        &mut self,
        candidates: &[Candidate],
        read: &[std::result::Result<Parts, Judgement>],
        form: Form,
        confirm: bool,
    ) -> Vec<work::Answer> {
        let mut answers = vec![work::Answer::default(); candidates.len()];
        let mut by_header: Vec<(&str, Vec<usize>)> = Vec::new();
        for (index, (candidate, parts)) in candidates.iter().zip(read).enumerate() {
            match parts {
                Err(judgement) => answers[index].judgement = judgement.clone(),
                Ok(_) => match by_header.iter_mut().find(|(header, _)| *header == candidate.header) {
                    Some((_, group)) => group.push(index),
                    None => by_header.push((&candidate.header, vec![index])),
                },
            }
        }
        for (header, group) in by_header {
            match self.header(header) {
                Err(reason) => {
                    for index in group {
                        answers[index].judgement = Judgement::new(Outcome::Infra, format!("header: {reason}"));
                    }
                }
                Ok(import) => {
                    let item = |index: &usize| {
                        read[*index].as_ref().ok().map(|parts| work::Item {
                            index: *index,
                            parts: *parts,
                            proof: &candidates[*index].proof,
                        })
                    };
                    let items: Vec<work::Item> = group.iter().filter_map(item).collect();
                    for (index, answer) in work::run(self, header, import, &items, form, confirm) {
                        answers[index] = answer;
                    }
                }
            }
        }
        answers
    }

    /// What a header takes, tried once; or why it cannot be used.
    fn header(&mut self, header: &str) -> std::result::Result<Import, String> {
        if let Some(known) = self.headers.get(header) {
            return known.clone();
        }
        let known = self.try_header(header);
        // trouble of the moment is not remembered
        if !matches!(known, Err((true, _))) {
            self.headers.insert(header.to_owned(), known.clone().map_err(|(_, reason)| reason));
        }
        known.map_err(|(_, reason)| reason)
    }

    /// Runs the header alone; an error says whether it may pass.
    fn try_header(&self, header: &str) -> std::result::Result<Import, (bool, String)> {
        if let Err(reason) = Code::read(header) {
            return Err((false, reason.to_owned()));
        }
        let source = Source::new(header);
        let limits = process::Limits {
            quiet: self.options.header_timeout,
            total: self.options.header_timeout,
            memory_bytes: self.options.memory_bytes,
            output_bytes: 16 << 20,
        };
        let finished = self.lean(&source.text, &limits).map_err(|error| (true, error))?;
        let reply = Reply::read(&finished.stdout);
        match finished.end {
            End::TimedOut => Err((true, "importing the header took too long; allow it more time".to_owned())),
            End::Exited(0) if reply.garbage.is_none() => {
                Ok(Import { wall: finished.wall, rss_bytes: finished.peak_rss_bytes })
            }
            End::Exited(_) => {
                let error = reply.header_error(u32::MAX).or(reply.garbage).unwrap_or_else(|| finished.stderr.clone());
                Err((false, format!("{}{}", reply::short(&error), import_hint(&error))))
            }
            End::TooMuchMemory => Err((true, "importing the header took more memory than allowed".to_owned())),
            End::Signalled(_) | End::TooMuchOutput | End::TooManyProcesses => {
                Err((true, reply::short(&finished.stderr)))
            }
        }
    }

    /// Runs Lean on one file.
    fn lean(&self, text: &str, limits: &process::Limits) -> std::result::Result<Finished, String> {
        let failed = |error: std::io::Error| format!("cannot run `{}`: {error}", self.toolchain.binary.display());
        let folder = tempfile::tempdir_in(self.scratch.path()).map_err(failed)?;
        let file = folder.path().join("Candidates.lean");
        fs::write(&file, text).map_err(failed)?;
        let mut command = Command::new(&self.toolchain.binary);
        command
            .args(&self.toolchain.flags)
            .args(&self.options.flags)
            .arg(&file)
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .envs(self.toolchain.environment.iter().map(|(key, value)| (key, value)));
        process::run(&mut command, limits, &self.walls).map_err(failed)
    }
}

/// Processes at once under a header that takes `rss_bytes` by itself: as many as asked for, and as find that and a quarter
/// more in `available` bytes of memory, where the system says how much there is; at least one.
fn processes(asked: usize, rss_bytes: u64, available: Option<u64>) -> usize {
    let each = (rss_bytes + rss_bytes / 4).max(1);
    let room = available.map_or(usize::MAX, |bytes| usize::try_from(bytes / each).unwrap_or(usize::MAX));
    asked.min(room).max(1)
}

/// What helps a user whose Lean cannot import a library.
fn import_hint(error: &str) -> &'static str {
    if error.contains("unknown module prefix") || error.contains("unknown package") || error.contains("object file") {
        "; hint: this Lean has no such library; make a Lake project that has it (for Mathlib, `lake exe cache get` in it)"
    } else {
        ""
    }
}

/// Reads a candidate before Lean does.
fn prepare(candidate: &Candidate, form: Form) -> std::result::Result<Parts<'_>, Judgement> {
    let refuse = |(outcome, message): (Outcome, String)| Judgement::new(outcome, message);
    let unended = |reason: &'static str| Judgement::new(Outcome::Forbidden, reason);
    forbidden::check_size(&candidate.statement).map_err(refuse)?;
    let code = Code::read(&candidate.statement).map_err(unended)?;
    forbidden::check(&code, &candidate.statement, true).map_err(refuse)?;
    let parts = Parts::of(&code, &candidate.statement);
    let parts = parts.map_err(|reason| Judgement::new(Outcome::Unparsed, format!("statement: {reason}")))?;
    if form != Form::Compile {
        if candidate.proof.trim().is_empty() {
            return Err(Judgement::new(Outcome::Unparsed, "the proof is empty"));
        }
        forbidden::check_size(&candidate.proof).map_err(refuse)?;
        let code = Code::read(&candidate.proof).map_err(unended)?;
        forbidden::check(&code, &candidate.proof, false).map_err(refuse)?;
    }
    Ok(parts)
}

/// 128 bits that nobody who wrote a candidate could know, as hexadecimal.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// What `stdout` of a process says of one theorem named `tk_NONCE_0` without a header: the reader of replies for those
/// who throw anything at it.
#[doc(hidden)]
#[must_use]
pub fn outcome_of(stdout: &[u8], nonce: &str) -> Outcome {
    let reply = Reply::read(stdout);
    let placed = specimen(nonce);
    match (&reply.garbage, reply.header_error(placed.first)) {
        (None, None) => reply.judge(&placed, &Options::default().axioms).outcome,
        _ => Outcome::Infra,
    }
}

/// Where a theorem without a header stands in its file.
fn specimen(nonce: &str) -> Placed {
    let mut source = Source::new("");
    let text = "theorem t (p : Prop) (h : p) : p";
    if let Some(parts) = Code::read(text).ok().and_then(|code| Parts::of(&code, text).ok()) {
        source.add(&parts, "h", Form::Confirm, nonce);
    }
    source.placed.swap_remove(0)
}

impl Verifier for Lean {
    fn build(&self) -> &Build {
        &self.toolchain.build
    }

    fn warning(&self) -> Option<&str> {
        self.walls.sandbox.is_none().then_some(
            "this kernel has no Landlock: proofs are checked without a sandbox, and their verdicts say so \
             (Linux 5.13 or later has it)",
        )
    }

    fn check(&mut self, candidates: &[Candidate]) -> Vec<Verdict> {
        self.verdicts(candidates, true)
    }

    fn compile(&mut self, candidates: &[Candidate]) -> Vec<Compiled> {
        let form = Form::Compile;
        let read: Vec<_> = candidates.iter().map(|candidate| prepare(candidate, form)).collect();
        let answers = self.answers(candidates, &read, form, false);
        let compiled = |(candidate, answer): (&Candidate, work::Answer)| answer.judgement.compiled(candidate);
        candidates.iter().zip(answers).map(compiled).collect()
    }

    fn probe(&mut self, header: &str) -> std::result::Result<(), String> {
        self.header(header).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
