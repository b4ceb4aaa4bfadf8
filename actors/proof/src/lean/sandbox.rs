//! What a Lean process may touch: Landlock rules, given to the process before it runs anything.
//!
//! Read: the toolchain, the project, the C libraries, and the few devices Lean needs. Write: one scratch folder.
//! Network: no TCP where the kernel can forbid it. Where the kernel has no Landlock, the caller says so.

use std::{
    io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest set of rules asked for; older kernels enforce what they know of it.
const RULES: ABI = ABI::V6;

/// What every program on this system may read.
const SYSTEM: [&str; 11] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/nix/store",
    "/proc",
    "/sys/devices/system/cpu",
    "/dev/urandom",
    "/dev/null",
];

/// How much of the rules this kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// All that protects files; newer kernels protect more besides.
    Enforced,
    /// Nothing.
    Absent,
}

/// The rules for one verifier.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    read: Vec<PathBuf>,
    write: PathBuf,
}

impl Sandbox {
    /// Rules that allow reading `read` and the system's libraries, and writing below `write`.
    pub(super) fn new(read: Vec<PathBuf>, write: &Path) -> Self {
        Self { read, write: write.to_owned() }
    }

    /// The rules as the kernel's object; a process takes them on with `restrict_self`.
    pub(super) fn ruleset(&self) -> io::Result<RulesetCreated> {
        let build = || {
            let all = AccessFs::from_all(RULES);
            let read = AccessFs::from_read(RULES);
            Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(all)?
                .handle_access(AccessNet::from_all(RULES))?
                .scope(Scope::from_all(RULES))?
                .create()?
                .add_rules(path_beneath_rules(SYSTEM.iter().map(PathBuf::from).chain(self.read.clone()), read))?
                .add_rules(path_beneath_rules(["/dev/null"], AccessFs::from_file(RULES)))?
                .add_rules(path_beneath_rules([&self.write], all))
        };
        build().map_err(io::Error::other)
    }

    /// Allows reading `/proc` once more, where another has been mounted over the one that the rules were made for.
    pub(super) fn with_proc(ruleset: RulesetCreated) -> io::Result<RulesetCreated> {
        let build = || {
            let proc = PathFd::new("/proc").map_err(io::Error::other)?;
            ruleset.add_rule(PathBeneath::new(proc, AccessFs::from_read(RULES))).map_err(io::Error::other)
        };
        build()
    }

    /// Tells what this kernel enforces, by taking the rules on in a thread that ends at once.
    pub(super) fn strength(&self) -> Strength {
        let Ok(ruleset) = self.ruleset() else { return Strength::Absent };
        let status = std::thread::spawn(|| ruleset.restrict_self().map(|status| status.ruleset)).join();
        match status {
            Ok(Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced)) => Strength::Enforced,
            _ => Strength::Absent,
        }
    }
}
