//! Runs the built `tracker` binary as a user would, over a folder of its own.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod endpoint;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub use endpoint::Endpoint;

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
        let answer = self.run(&[&["run", "goedel", "--smoke", "--json"], args].concat());
        assert!(answer.code == 0 || answer.code == 1, "{args:?}: {}", answer.stderr);
        answer.lines().pop().unwrap()
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
