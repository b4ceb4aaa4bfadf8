//! Finds a Lean and describes it: the real binary behind elan's proxy, its project's search path, its identity.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Options;
use crate::{Build, Error, Result};

/// A Lean that can be run.
#[derive(Debug)]
pub(super) struct Toolchain {
    pub(super) binary: PathBuf,
    /// Set for every process; nothing else of our environment is.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// What it must be able to read.
    pub(super) read: Vec<PathBuf>,
    /// Flags that every process gets, besides the user's.
    pub(super) flags: Vec<String>,
    pub(super) build: Build,
}

/// `TRACKER_LEAN`, else `lean` on the search path.
pub(super) fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("TRACKER_LEAN").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("lean")).find(|file| file.is_file())
}

impl Toolchain {
    /// Asks the Lean of `options` who it is. These few commands run outside the sandbox: they run no foreign text.
    pub(super) fn open(options: &Options) -> Result<Self> {
        let missing = || {
            Error::Program {
            program: "lean".into(),
            reason: "not found; install Lean 4 with elan (https://lean-lang.org/install), put it on PATH, or set TRACKER_LEAN".to_owned(),
        }
        };
        let given = options.binary.clone().or_else(find).ok_or_else(missing)?;
        let folder = options.project.as_deref();
        let prefix = PathBuf::from(ask(&given, &["--print-prefix"], folder)?.trim());
        let behind = prefix.join("bin").join("lean");
        let binary = if behind.is_file() { behind } else { given };
        let version = ask(&binary, &["--version"], folder)?;
        let mut read = vec![prefix.clone(), binary.clone()];
        let mut environment = Vec::new();
        if let Some(project) = folder {
            let search = lake_path(&binary, project)?;
            read.extend(env::split_paths(&search));
            read.push(project.to_owned());
            environment.push(("LEAN_PATH".into(), search));
        }
        let mut flags = vec!["--json".to_owned()];
        // Lean stops a file after 100 errors unless told otherwise; older versions neither stop nor know the option
        let all_errors = "-DmaxErrors=0";
        if knows(&binary, all_errors)? {
            flags.push(all_errors.to_owned());
        }
        // `weak`: ignored where unknown. One thread costs less in all, and keeps messages in the order of the file.
        flags.extend(["-Dweak.Elab.async=false", "-Dweak.linter.unusedVariables=false"].map(str::to_owned));
        let mut all_flags = flags.clone();
        all_flags.extend(options.flags.iter().cloned());
        all_flags.extend(options.axioms.iter().map(|axiom| format!("axiom:{axiom}")));
        let build = Build {
            name: "lean".to_owned(),
            version: part(&version, "version "),
            commit: part(&version, "commit "),
            binary_digest: digest(&binary, &prefix)?,
            flags: all_flags,
        };
        Ok(Self { binary, environment, read, flags, build })
    }
}

/// The word after `key` in `Lean (version 4.35.0, …, commit eb6cafb7…, Release)`.
fn part(version: &str, key: &str) -> String {
    let rest = version.split_once(key).map_or("", |(_, rest)| rest);
    rest.split([',', ')', ' ', '\n']).next().unwrap_or("").to_owned()
}

fn ask(program: &Path, args: &[&str], folder: Option<&Path>) -> Result<String> {
    let failed = |reason: String| Error::Program { program: program.to_owned(), reason };
    let mut command = Command::new(program);
    command.args(args);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!(
            "`{}` ended with {}: {}",
            args.join(" "),
            output.status,
            super::reply::short(&stderr)
        )));
    }
    String::from_utf8(output.stdout).map_err(|_| failed(format!("`{}` printed no text", args.join(" "))))
}

/// Where `lake` finds the compiled libraries of a project.
fn lake_path(binary: &Path, project: &Path) -> Result<OsString> {
    let beside = binary.with_file_name("lake");
    let lake = if beside.is_file() { beside } else { PathBuf::from("lake") };
    let environment = ask(&lake, &["env"], Some(project))?;
    let line = environment.lines().find_map(|line| line.strip_prefix("LEAN_PATH="));
    line.map(OsString::from).ok_or_else(|| Error::Program {
        program: lake,
        reason: format!("`env` in `{}` printed no LEAN_PATH; run `lake build` there first", project.display()),
    })
}

/// Whether Lean accepts a flag: tried on an empty file.
fn knows(binary: &Path, flag: &str) -> Result<bool> {
    let failed = |source| Error::Io { doing: "cannot write a file for lean to read".to_owned(), source };
    let folder = tempfile::tempdir().map_err(failed)?;
    let file = folder.path().join("empty.lean");
    fs::write(&file, "prelude\n").map_err(failed)?;
    let output = Command::new(binary).arg(flag).arg(&file).output();
    let output = output.map_err(|error| Error::Program { program: binary.to_owned(), reason: error.to_string() })?;
    Ok(output.status.success())
}

/// BLAKE3 over the binary and the shared libraries of its toolchain.
fn digest(binary: &Path, prefix: &Path) -> Result<[u8; 32]> {
    let libraries = prefix.join("lib").join("lean");
    let mut files = vec![binary.to_owned()];
    if libraries.is_dir() {
        let failed = |source| Error::Io { doing: format!("cannot list `{}`", libraries.display()), source };
        for entry in fs::read_dir(&libraries).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "so" || extension == "dylib") {
                files.push(path);
            }
        }
    }
    files[1..].sort_unstable();
    let mut all = blake3::Hasher::new_derive_key("tracker lean toolchain 1");
    for path in files {
        let failed = |source| Error::Io { doing: format!("cannot read `{}`", path.display()), source };
        let mut file = blake3::Hasher::new();
        file.update_reader(fs::File::open(&path).map_err(failed)?).map_err(failed)?;
        all.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        all.update(file.finalize().as_bytes());
    }
    Ok(*all.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_line_is_taken_apart() {
        let new = "Lean (version 4.35.0, x86_64-unknown-linux-gnu, commit eb6cafb7290e, Release)\n";
        assert_eq!((part(new, "version ").as_str(), part(new, "commit ").as_str()), ("4.35.0", "eb6cafb7290e"));
        let old = "Lean (version 4.9.0, commit 8f9843a4a5fe, Release)";
        assert_eq!((part(old, "version ").as_str(), part(old, "commit ").as_str()), ("4.9.0", "8f9843a4a5fe"));
        assert_eq!(part("nonsense", "commit "), "");
    }

    #[test]
    fn a_missing_or_foreign_program_is_a_clear_error() {
        let open = |binary: &str| Toolchain::open(&Options { binary: Some(binary.into()), ..Options::default() });
        let error = open("/nowhere/lean").unwrap_err().to_string();
        assert!(error.starts_with("cannot run `/nowhere/lean`"), "{error}");
        let error = open("/bin/false").unwrap_err().to_string();
        assert!(error.contains("--print-prefix"), "{error}");
    }
}
