//! What can go wrong, named by what the caller can do about it.
//!
//! Every error is cheap to clone, because one failed sync answers every commit that waited for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Kind;

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A precondition of the batch does not hold; nothing was written. Read again and decide.
    #[error("expected key `{}` to be as the batch requires it, got another state", key.escape_ascii())]
    Conflict {
        /// The first key whose precondition failed.
        key: Vec<u8>,
    },
    /// The snapshot went away with the process that served it. Take a new one and ask again.
    #[error("the snapshot is lost: the process that served it is gone")]
    SnapshotLost,
    /// Another process holds the store and did not answer in time. A commit may or may not have been written.
    #[error("store `{}` is held by {}, which did not answer within {} s", dir.display(), holder(*pid, *stopped), waited.as_secs_f32())]
    Unavailable {
        /// The store folder.
        dir: PathBuf,
        /// The process that holds it, if known.
        pid: Option<u32>,
        /// Whether that process is stopped (SIGSTOP, ctrl-Z), and so must be continued or killed.
        stopped: bool,
        /// How long was waited.
        waited: Duration,
    },
    /// Another process has the store open, which must be had alone. End it and try again.
    #[error("store `{}` is open in {}; end it and try again", dir.display(), holder(*pid, false))]
    InUse {
        /// The store folder.
        dir: PathBuf,
        /// The process that holds it, if known.
        pid: Option<u32>,
    },
    /// Another program has the file open.
    #[error("`{}` is open in another program", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The holder of the store is a build that speaks another protocol. End it, or use the same build.
    #[error(
        "expected the holder of the store, process `{pid}`, to speak protocol `{expected}`, got `{got}`; use one build of tracker on one store"
    )]
    Mismatch {
        /// The process that holds the store.
        pid: u32,
        /// This build's protocol.
        expected: u32,
        /// The holder's protocol.
        got: u32,
    },
    /// The folder or file belongs to something else. Nothing was written; name another folder.
    #[error("`{}` is not part of a tracker store: {reason}; name an empty or a new folder", path.display())]
    Foreign {
        /// The folder or file.
        path: PathBuf,
        /// How that was seen.
        reason: String,
    },
    /// A file of the store is damaged. Restore a backup, or run the repair.
    #[error("`{}` is damaged: {reason}; restore it from a backup", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The store was written by a newer build. Nothing was written; use that build.
    #[error("expected `{}` to name layout `{supported}` or lower, got `{found}`; use the newer build of tracker that wrote it", path.display())]
    Newer {
        /// The file that names the layout.
        path: PathBuf,
        /// The layout it names.
        found: u32,
        /// The highest layout this build knows.
        supported: u32,
    },
    /// The store is kept by an engine that this build lacks. Nothing was written; build it in, or convert the store.
    #[error("`{}` is kept by engine `{engine}`, which this build lacks; build tracker with `--features {engine}`", path.display())]
    NotBuilt {
        /// The store folder, or the data in it.
        path: PathBuf,
        /// The engine.
        engine: Kind,
    },
    /// The disk or the quota is full; nothing of the batch was written. Free some space and try again.
    #[error("no space left for `{}`", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The folder or file may not be written by this user.
    #[error("`{}` may not be written", path.display())]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A key, a value or a batch is larger than any engine takes.
    #[error("expected a {what} of at most `{limit_bytes}` bytes, got `{got_bytes}`")]
    TooLarge {
        /// `key`, `value` or `batch`.
        what: &'static str,
        /// The limit, in bytes.
        limit_bytes: usize,
        /// The size, in bytes.
        got_bytes: usize,
    },
    /// The file system lacks something that sharing a store needs.
    #[error("the file system of `{}` has no {what}; keep the store on a local disk", path.display())]
    Unsupported {
        /// The file that needed it.
        path: PathBuf,
        /// What is lacking.
        what: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Any other failure of the system.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was tried: a verb.
        action: String,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Names an input or output error by its kind.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source: Arc::new(source) }
            }
            _ => Self::Io { action: action.to_owned(), path, source: Arc::new(source) },
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn foreign(path: &Path, reason: impl Into<String>) -> Self {
        Self::Foreign { path: path.to_path_buf(), reason: reason.into() }
    }
}

fn holder(pid: Option<u32>, stopped: bool) -> String {
    match pid {
        Some(pid) if stopped => format!("process `{pid}`, which is stopped"),
        Some(pid) => format!("process `{pid}`"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_a_quota_and_a_file_limit_are_full() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
            let error = Error::io("write", Path::new("/x/data"), kind.into());
            assert!(matches!(&error, Error::Full { .. }), "{kind}: {error}");
            assert_eq!(error.to_string(), "no space left for `/x/data`");
        }
    }

    #[test]
    fn what_may_not_be_written_is_read_only() {
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            let error = Error::io("open", Path::new("/x/LOCK"), kind.into());
            assert!(matches!(error, Error::ReadOnly { .. }), "{kind}");
        }
    }

    #[test]
    fn unavailable_names_the_holder() {
        let mut error = Error::Unavailable {
            dir: PathBuf::from("/x"),
            pid: Some(7),
            stopped: true,
            waited: Duration::from_millis(1500),
        };
        assert_eq!(
            error.to_string(),
            "store `/x` is held by process `7`, which is stopped, which did not answer within 1.5 s"
        );
        if let Error::Unavailable { pid, .. } = &mut error {
            *pid = None;
        }
        assert_eq!(error.to_string(), "store `/x` is held by another process, which did not answer within 1.5 s");
    }
}
