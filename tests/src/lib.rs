//! Runs the built `tracker` binary as a user would, over a folder of its own.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod endpoint;
mod vision;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tracker_store::{Digest, NewRun, NodeId, Plan};

pub use endpoint::Endpoint;
pub use vision::Vision;

/// The binary beside the test's own, which `tests/run` builds first.
#[must_use]
pub fn binary() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let path = me.parent().and_then(Path::parent).unwrap().join("tracker");
    assert!(path.is_file(), "{} is not built; run: cargo build --release --workspace", path.display());
    path
}

/// One folder of data and the commands run on it.
pub struct Tracker {
    folder: tempfile::TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; -1 if it was killed.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

impl Tracker {
    /// A fresh folder; the store in it does not exist yet.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The folder around the store.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).env("TRACKER_STORE", self.store()).env("NO_COLOR", "1").current_dir(self.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Answer {
        Answer::from(self.command(args).output().unwrap())
    }

    /// Starts a command.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Runs a command to its end in an environment that has these variables too.
    #[must_use]
    pub fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Answer {
        Answer::from(self.command(args).envs(variables.iter().copied()).output().unwrap())
    }

    /// Starts a command in an environment that has these variables too.
    #[must_use]
    pub fn spawn_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Child {
        self.command(args).envs(variables.iter().copied()).spawn().unwrap()
    }

    /// Runs a command that must answer yes, and reads its lines of JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let answer = self.run(&[args, &["--json"]].concat());
        assert_eq!(answer.code, 0, "{args:?}: {}", answer.stderr);
        answer.lines()
    }

    /// Runs `goedel` on its smoke plan with further arguments; the last line of its JSON. Claims may fail at that size.
    #[must_use]
    pub fn smoke(&self, args: &[&str]) -> Value {
        self.smoke_of("goedel", args)
    }

    /// Runs a study on its smoke plan with further arguments; the last line of its JSON. Claims may fail at that size.
    #[must_use]
    pub fn smoke_of(&self, study: &str, args: &[&str]) -> Value {
        let answer = self.run(&[&["run", study, "--smoke", "--json"], args].concat());
        assert!(answer.code == 0 || answer.code == 1, "{study} {args:?}: {}", answer.stderr);
        answer.lines().pop().unwrap()
    }

    /// Runs a plan, which stays in the folder as `plan.toml`.
    #[must_use]
    pub fn planned(&self, plan: &str) -> Answer {
        std::fs::write(self.folder().join("plan.toml"), plan).unwrap();
        self.run(&["run", "plan.toml", "--json"])
    }

    /// Runs a plan that must end; its last event, and all it said. Claims may fail.
    #[must_use]
    pub fn finished(&self, plan: &str) -> (Value, Answer) {
        let answer = self.planned(plan);
        assert!(answer.code <= 1, "{}", answer.stderr);
        let last = answer.lines().pop().unwrap();
        assert_eq!(last["status"], "finished", "{last}");
        (last, answer)
    }

    /// Runs a plan that must be refused with a message that has all these parts.
    pub fn refused(&self, plan: &str, parts: &[&str]) {
        let answer = self.planned(plan);
        assert_eq!(answer.code, 2, "{plan}: {}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "expected `{part}` in: {}", answer.stderr);
        }
    }

    /// Runs `plan.toml`, which asks `endpoint`, to its end, and asserts that runs of it which are killed after a quarter, half and
    /// three quarters of its events resume to the same records without asking everything again.
    pub fn assert_asks_nothing_twice(&self, endpoint: &Endpoint) {
        let plan = ["run", "plan.toml", "--json"];
        let whole = self.run(&plan).lines();
        let (n_events, n_calls) = (whole.len(), endpoint.n_calls());
        let last = &whole[n_events - 1];
        assert_eq!(last["status"], "finished", "{last}");
        for part in 1..=3 {
            let mut child = self.spawn(&plan);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            lines.take(n_events * part / 4).for_each(|line| drop(line.unwrap()));
            child.kill().unwrap();
            child.wait().unwrap();
            let before = endpoint.n_calls();
            let resumed = self.run(&["run", "--resume", first["run"].as_str().unwrap(), "--json"]);
            let resumed = resumed.lines().pop().unwrap();
            assert_eq!(resumed["record_digest"], last["record_digest"], "killed after part {part} of 4");
            assert!(endpoint.n_calls() - before < n_calls, "everything was asked again");
        }
    }

    /// Asserts that a study's smoke plan gives equal records whatever the workers and others under another seed, and that a run
    /// which is killed after such shares of its events resumes to the same records.
    pub fn assert_repeats(&self, study: &str, shares: &[f64]) {
        let whole = self.smoke_of(study, &["--workers", "1"]);
        assert_eq!(whole["status"], "finished", "{whole}");
        assert_eq!(whole["record_digest"], self.smoke_of(study, &["--workers", "2"])["record_digest"]);
        assert_ne!(whole["record_digest"], self.smoke_of(study, &["--seed", "2"])["record_digest"]);
        let plan = ["run", study, "--smoke", "--json"];
        let n_events = self.run(&plan).lines().len();
        for share in shares {
            let mut child = self.spawn(&plan);
            let mut run = String::new();
            let n_read = (n_events as f64 * share) as usize;
            for line in BufReader::new(child.stdout.take().unwrap()).lines().take(n_read) {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                if let Some(id) = event["run"].as_str() {
                    id.clone_into(&mut run);
                }
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let resumed = self.run(&["run", "--resume", &run, "--json"]).lines().pop().unwrap();
            assert_eq!(resumed["record_digest"], whole["record_digest"], "{study}, killed after {share} of its events");
        }
    }
}

/// The name of a content of this kind, which need not be there.
#[must_use]
pub fn content(kind: &str) -> NodeId {
    format!("{kind}:{}", Digest::of(kind.as_bytes())).parse().unwrap()
}

/// A stream of numbers that a seed makes.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// So many bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.draw().to_le_bytes()).take(n.div_ceil(8)).flatten().take(n).collect()
    }

    /// A part of `span`.
    pub fn part_of(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.draw() as f64 / u64::MAX as f64)
    }
}

/// What a run of no study is created with, for records that a test makes itself.
#[must_use]
pub fn new_run(name: &str, experiment: &str) -> NewRun {
    NewRun {
        name: name.into(),
        experiment: experiment.into(),
        study: String::new(),
        plan: Plan::new(""),
        seed: 1,
        device: "cpu".into(),
        host: "here".into(),
        versions: BTreeMap::new(),
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    /// Its lines, each a JSON object.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
