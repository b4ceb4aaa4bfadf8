//! What can go wrong in the store, named by what the caller can do about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is not there. `hint` names what is, or what to do; it may be empty.
    #[error("no {what} `{name}`")]
    NotFound {
        /// The noun: `run`, `artifact`, `stage`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest candidates, or what to do.
        hint: String,
    },
    /// A name fits several things; nothing was chosen.
    #[error("`{name}` is ambiguous: it may be {}", listed(candidates))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Some of the things it may be.
        candidates: Vec<String>,
    },
    /// Something else is recorded there already; nothing was written.
    #[error("expected {what} `{name}` to be `{expected}` as recorded, got `{got}`")]
    Conflict {
        /// The noun: `param`, `sample`, `stage`.
        what: &'static str,
        /// Which one.
        name: String,
        /// What is recorded, shortened.
        expected: String,
        /// What was to be written, shortened.
        got: String,
    },
    /// A run to be imported is there with other contents; nothing was written.
    #[error("run `{run}` is there already, and differs from the one in the file: {}", differences.join("; "))]
    Differs {
        /// The run.
        run: crate::id::RunId,
        /// What differs, each with how much of it is on either side.
        differences: Vec<String>,
    },
    /// Another writer kept changing the same record; try again.
    #[error("{what} `{name}` is being changed by other writers")]
    Contended {
        /// The noun.
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// The input breaks a rule of the store; nothing was written.
    #[error("expected {what} to be {expected}, got `{got}`")]
    Invalid {
        /// What was given.
        what: String,
        /// The rule.
        expected: String,
        /// The value.
        got: String,
    },
    /// A filter or an order cannot be read. Columns count characters from 1.
    #[error("column {column} of `{text}`: expected {expected}, got {got}")]
    Syntax {
        /// The whole text.
        text: String,
        /// Where reading stopped.
        column: usize,
        /// What could stand there.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// A record cannot be read: the store is damaged, or another build wrote it.
    #[error("record at key `{key}` is damaged: {reason}")]
    Corrupt {
        /// The key, in hex.
        key: String,
        /// What was found.
        reason: String,
    },
    /// A file beside the records is damaged or gone.
    #[error("`{}` is damaged at byte {offset}: {reason}", path.display())]
    CorruptFile {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// The store has another format than this build writes.
    #[error("expected store format `{supported}`, got `{found}`")]
    Outdated {
        /// The format of the store.
        found: u32,
        /// The format of this build.
        supported: u32,
        /// What to run.
        remedy: &'static str,
    },
    /// A backup or an export was written by a newer build. It was left as it is.
    #[error("expected `{}` to have format `{supported}` or lower, got `{found}`", path.display())]
    Newer {
        /// The backup or the export.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The highest format this build reads.
        supported: u32,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] tracker_engine::Error),
    /// A file beside the records could not be read or written.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
}

impl Error {
    /// What the caller can do about it, if that is known; not part of the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } if !hint.is_empty() => Some(hint.clone()),
            Self::Ambiguous { .. } => Some("give more of it, or `kind:` in front".to_owned()),
            Self::Outdated { remedy, .. } => Some((*remedy).to_owned()),
            Self::Contended { .. } => Some("try again".to_owned()),
            Self::Corrupt { .. } | Self::CorruptFile { .. } | Self::Engine(tracker_engine::Error::Corrupt { .. }) => {
                Some(
                    "`tracker fsck` says what is damaged, and `tracker fsck --repair` saves what can be read"
                        .to_owned(),
                )
            }
            Self::Differs { .. } => Some("import it into another store".to_owned()),
            Self::Newer { .. } => Some("use the newer build of tracker that wrote it".to_owned()),
            Self::Engine(tracker_engine::Error::Full { .. }) => Some("make room on that disk".to_owned()),
            Self::Engine(tracker_engine::Error::ReadOnly { .. }) => Some(
                "a store is read and written by whoever opens it: get those permissions, or name another with --store"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether what was asked for is at fault, rather than the store, this machine or this program.
    #[must_use]
    pub fn is_input(&self) -> bool {
        use tracker_engine::Error::{Foreign, InUse, Newer, NotBuilt, ReadOnly};
        match self {
            Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::Conflict { .. }
            | Self::Differs { .. }
            | Self::Invalid { .. }
            | Self::Syntax { .. }
            | Self::Outdated { .. }
            | Self::Newer { .. } => true,
            Self::Engine(error) => {
                matches!(error, Foreign { .. } | InUse { .. } | Newer { .. } | NotBuilt { .. } | ReadOnly { .. })
            }
            _ => false,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, expected: impl Into<String>, got: impl fmt::Display) -> Self {
        Self::Invalid { what: what.into(), expected: expected.into(), got: shortened(&got.to_string()) }
    }

    pub(crate) fn missing(what: &'static str, name: impl fmt::Display) -> Self {
        Self::NotFound { what, name: name.to_string(), hint: String::new() }
    }

    pub(crate) fn conflict(what: &'static str, name: impl fmt::Display, expected: &str, got: &str) -> Self {
        Self::Conflict { what, name: name.to_string(), expected: shortened(expected), got: shortened(got) }
    }

    pub(crate) fn corrupt(key: &[u8], reason: impl Into<String>) -> Self {
        Self::Corrupt { key: hex(key), reason: reason.into() }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The bytes that these hexadecimal digits are, if they are.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// At most sixty characters of `text`, with an ellipsis where it was cut.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 60;
    match text.char_indices().nth(LIMIT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
