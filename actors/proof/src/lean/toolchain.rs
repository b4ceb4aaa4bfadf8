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
        if let Some(project) = folder.filter(|project| !project.is_dir()) {
            let reason = format!("expected the folder of a Lake project, found none at `{}`", project.display());
            return Err(Error::Program { program: given, reason });
        }
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

    /// A toolchain of scripts: `bin/lean`, and `bin/lake` that runs `lake`.
    fn toolchain(lake: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let lean = format!(
            "#!/bin/sh\ncase \"$1\" in\n--print-prefix) echo {} ;;\n--version) echo 'Lean (version 4.9.0, commit 8f9, \
             Release)' ;;\n-DmaxErrors=0) exit 1 ;;\nesac\n",
            folder.path().display()
        );
        for (name, script) in [("lean", lean.as_str()), ("lake", lake)] {
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    #[test]
    fn a_project_gives_its_search_path_and_an_old_lean_fewer_flags() {
        let project = tempfile::tempdir().unwrap();
        let folder = toolchain("#!/bin/sh\n[ \"$1\" = env ] && echo A=b && echo LEAN_PATH=$PWD/lib:/elsewhere\n");
        let binary = Some(folder.path().join("bin").join("lean"));
        let options = Options { binary, project: Some(project.path().to_owned()), ..Options::default() };
        let found = Toolchain::open(&options).unwrap();
        let library = project.path().canonicalize().unwrap().join("lib");
        let search = env::join_paths([library.as_path(), Path::new("/elsewhere")]).unwrap();
        assert_eq!(found.environment, [(OsString::from("LEAN_PATH"), search)]);
        assert!(found.read.contains(&library) && found.read.contains(&project.path().to_owned()), "{found:?}");
        assert!(!found.flags.iter().any(|flag| flag.contains("maxErrors")), "{found:?}");
        assert_eq!((found.build.version.as_str(), found.build.commit.as_str()), ("4.9.0", "8f9"));
    }

    #[test]
    fn a_project_that_is_none_is_a_clear_error() {
        let folder = toolchain("#!/bin/sh\necho 'error: no configuration file' >&2; exit 1\n");
        let binary = Some(folder.path().join("bin").join("lean"));
        let open = |project: &str| {
            let options = Options { binary: binary.clone(), project: Some(project.into()), ..Options::default() };
            Toolchain::open(&options).unwrap_err().to_string()
        };
        let error = open("/nowhere");
        assert!(error.contains("expected the folder of a Lake project, found none at `/nowhere`"), "{error}");
        let error = open(&folder.path().display().to_string());
        assert!(error.contains("lake") && error.contains("no configuration file"), "{error}");
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
