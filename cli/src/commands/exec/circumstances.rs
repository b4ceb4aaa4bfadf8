//! What is around a command: the state of its code, its Python and packages, its machine.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use tracker_store::{Durability, Recording, RunId, Store};

use crate::commands::logged::owner;

/// What is kept of a difference to the last commit, in bytes.
const MAX_DIFF: usize = 16 << 20;
/// Asks a Python what it is and what is installed in it.
const ASK_PYTHON: &str = "
import json, sys
from importlib.metadata import distributions
packages = {d.metadata['Name']: d.version for d in distributions() if d.metadata['Name']}
print(json.dumps({'version': sys.version.split()[0], 'packages': packages}))
";

/// What is around a command.
#[derive(Debug, Default)]
pub struct Circumstances {
    tags: Vec<(&'static str, String)>,
    files: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Python {
    version: String,
    packages: std::collections::BTreeMap<String, String>,
}

impl Circumstances {
    /// Looks around. What cannot be found out is left out.
    pub fn of(command: &[String]) -> Self {
        let mut found = Self::default();
        found.code();
        if let Some(python) = interpreter(&command[0]) {
            found.python(&python);
        }
        found.machine();
        found
    }

    fn code(&mut self) {
        let Some(commit) = said("git", &["rev-parse", "HEAD"]) else { return };
        self.tags.push(("mlflow.source.git.commit", commit));
        for (key, args) in [
            ("mlflow.source.git.branch", &["rev-parse", "--abbrev-ref", "HEAD"][..]),
            ("mlflow.source.git.repoURL", &["remote", "get-url", "origin"]),
        ] {
            self.tags.extend(said("git", args).map(|value| (key, without_secrets(&value))));
        }
        let changed = said("git", &["status", "--porcelain"]).unwrap_or_default();
        self.tags.push(("exec.git.dirty", (!changed.is_empty()).to_string()));
        if changed.is_empty() {
            return;
        }
        self.files.push(("git-status.txt", changed.into_bytes()));
        if let Some(mut diff) = bytes_said("git", &["diff", "HEAD", "--binary"], MAX_DIFF + 1) {
            if diff.len() > MAX_DIFF {
                diff.truncate(MAX_DIFF);
                self.tags.push(("exec.git.diff", format!("cut at {MAX_DIFF} bytes")));
            }
            self.files.push(("diff.patch", diff));
        }
    }

    fn python(&mut self, python: &Path) {
        let Some(answer) = said(&python.to_string_lossy(), &["-c", ASK_PYTHON]) else { return };
        let Ok(Python { version, packages }) = serde_json::from_str(&answer) else { return };
        self.tags.push(("exec.python", version));
        let lines: Vec<String> = packages.into_iter().map(|(name, version)| format!("{name}=={version}")).collect();
        self.files.push(("packages.txt", lines.join("\n").into_bytes()));
    }

    fn machine(&mut self) {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        self.tags.push(("exec.host", text(system.nodename())));
        self.tags.push((
            "exec.system",
            format!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())),
        ));
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.tags.push(("exec.cores", n_cores.to_string()));
        if let Ok(user) = std::env::var("USER") {
            self.tags.push(("mlflow.user", user));
        }
        let gpus = said("nvidia-smi", &["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]);
        let gpus = gpus.unwrap_or_else(|| {
            let real = tracker_gpu::devices().into_iter().filter(|adapter| adapter.kind.is_hardware());
            real.map(|adapter| adapter.name).collect::<Vec<_>>().join("\n")
        });
        if !gpus.is_empty() {
            self.tags.push(("exec.gpu", gpus));
        }
    }

    /// Records it with a run.
    pub fn record(self, store: &Store, run: RunId) -> anyhow::Result<()> {
        let mut tags = Recording::new();
        for (key, value) in self.tags {
            tags.put_tag(run, key, &value)?;
        }
        store.commit(&tags, Durability::Os)?;
        for (name, bytes) in self.files {
            store.put_loose(&owner(run), &format!("exec/{name}"), &mut bytes.as_slice())?;
        }
        Ok(())
    }
}

/// The Python that runs a program: the program itself, or what its first line names.
fn interpreter(program: &str) -> Option<PathBuf> {
    let is_python = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"));
    let path = Path::new(program);
    if is_python(path) {
        return Some(path.to_owned());
    }
    let found = if program.contains('/') { path.to_owned() } else { on_the_path(program)? };
    let mut head = [0; 256];
    let n_read = std::fs::File::open(found).ok()?.read(&mut head).ok()?;
    let first = String::from_utf8_lossy(&head[..n_read]).lines().next()?.strip_prefix("#!")?.trim().to_owned();
    let mut words = first.split_whitespace();
    let named = match words.next()? {
        env if env.ends_with("/env") => words.find(|word| !word.starts_with('-'))?,
        named => named,
    };
    is_python(Path::new(named)).then(|| PathBuf::from(named))
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|found| found.is_file())
}

/// A URL without what stands for a user and a password in it.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, _)| (place, &rest[place.len()..]));
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    format!("{scheme}://{place}{path}")
}

/// What a program that succeeds says, without the white space around it.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let bytes = bytes_said(program, args, 64 << 20)?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn bytes_said(program: &str, args: &[&str], at_most: usize) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut bytes = Vec::new();
    let read = child.stdout.take()?.take(at_most as u64).read_to_end(&mut bytes);
    let is_whole = bytes.len() < at_most;
    if !is_whole {
        // It would wait for a reader that does not come.
        drop(child.kill());
    }
    let status = child.wait().ok()?;
    (read.is_ok() && (status.success() || !is_whole)).then_some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn urls_are_kept_without_secrets() {
        assert_eq!(without_secrets("https://me:secret@example.org/x.git"), "https://example.org/x.git");
        assert_eq!(without_secrets("git@example.org:x.git"), "git@example.org:x.git");
        assert_eq!(without_secrets("https://example.org/a@b"), "https://example.org/a@b");
    }

    #[test]
    fn the_interpreter_of_a_script_is_what_its_first_line_names() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("train");
        for (first, expected) in [
            ("#!/usr/bin/env python3", Some("python3")),
            ("#!/opt/venv/bin/python3.12 -u", Some("/opt/venv/bin/python3.12")),
            ("#!/bin/sh", None),
            ("", None),
        ] {
            std::fs::write(&script, format!("{first}\n")).unwrap();
            assert_eq!(interpreter(script.to_str().unwrap()), expected.map(PathBuf::from), "{first}");
        }
        assert_eq!(interpreter("python3"), Some(PathBuf::from("python3")));
    }
}
