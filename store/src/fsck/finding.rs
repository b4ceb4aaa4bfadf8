//! What a check found, and what would make it good.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, hex};
use crate::id::RunId;

/// Whether something is lost or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something is wrong, or lost.
    Damage,
    /// Worth knowing, and nothing is lost.
    Note,
}

/// What kind of thing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A file of the store, or a page of the engine's.
    File,
    /// A key that is none of the store's.
    Key,
    /// A record that cannot be read, or is not what its key says.
    Record,
    /// An entry that follows from a record, and is missing, wrong or left over.
    Index,
    /// An edge, or an entry about a run or a stage, that names something which is not there.
    Edge,
    /// A head, a chunk, a block or a summary of a series that does not agree with the others.
    Series,
    /// A version, an alias, a manifest or a file of an artifact.
    Artifact,
    /// The bytes of an artifact.
    Piece,
    /// A setting of the store.
    Setting,
    /// A run.
    Run,
    /// What was, or cannot be, repaired.
    Repair,
}

impl Trouble {
    /// Its name: one lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Key => "key",
            Self::Record => "record",
            Self::Index => "index",
            Self::Edge => "edge",
            Self::Series => "series",
            Self::Artifact => "artifact",
            Self::Piece => "piece",
            Self::Setting => "setting",
            Self::Run => "run",
            Self::Repair => "repair",
        }
    }
}

/// One thing a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether something is lost or wrong.
    pub level: Level,
    /// What it is about.
    pub trouble: Trouble,
    /// What was found, in words.
    pub what: String,
    /// The key it was found at, in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The file it was found in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<PathBuf>,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level == Level::Damage { "damage" } else { "note" };
        write!(f, "{level}: {}: {}", self.trouble.name(), self.what)?;
        if let Some(file) = &self.file {
            write!(f, "; file `{}`", file.display())?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        if let Some(key) = &self.key {
            write!(f, "; key `{key}`")?;
        }
        Ok(())
    }
}

impl Finding {
    pub(crate) fn damage(trouble: Trouble, what: impl Into<String>) -> Self {
        Self { level: Level::Damage, trouble, what: what.into(), key: None, file: None, offset: None }
    }

    pub(crate) fn note(trouble: Trouble, what: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::damage(trouble, what) }
    }

    pub(crate) fn at_key(self, key: &[u8]) -> Self {
        Self { key: Some(hex(key)), ..self }
    }

    pub(crate) fn in_file(self, file: impl Into<PathBuf>, offset: u64) -> Self {
        Self { file: Some(file.into()), offset: Some(offset), ..self }
    }

    /// The same with the place an error names; false if it is no damage but a failure of the system.
    pub(crate) fn of_error(trouble: Trouble, error: &Error) -> Option<Self> {
        use tracker_engine::Error as EngineError;
        match error {
            Error::Corrupt { key, reason } => Some(Self { key: Some(key.clone()), ..Self::damage(trouble, reason) }),
            Error::CorruptFile { path, offset, reason } => Some(Self::damage(trouble, reason).in_file(path, *offset)),
            Error::Engine(EngineError::Corrupt { path, reason }) => {
                Some(Self { file: Some(path.clone()), ..Self::damage(Trouble::File, reason) })
            }
            Error::NotFound { what, name, .. } => Some(Self::damage(trouble, format!("{what} `{name}` is not there"))),
            _ => None,
        }
    }
}

/// What makes a finding good.
#[derive(Clone, Debug)]
pub(crate) enum Fix {
    /// An entry that follows from a record: put, if the record is still that.
    Put { key: Vec<u8>, value: Vec<u8>, basis: (Vec<u8>, Vec<u8>) },
    /// An entry that follows from nothing: removed, if it is still that.
    Remove { key: Vec<u8>, value: Vec<u8> },
    /// What cannot be read: set aside, if it is still that.
    Quarantine { key: Vec<u8>, value: Vec<u8> },
    /// A series whose head and summaries are made anew from its points.
    Series { run: RunId, key: String },
}

/// Where findings go, one at a time, from whichever thread.
pub(crate) struct Sink<'a> {
    found: Mutex<&'a mut (dyn FnMut(Finding, Option<Fix>) + Send)>,
    pub(crate) n_damages: AtomicU64,
    pub(crate) n_notes: AtomicU64,
    enough: u64,
}

impl<'a> Sink<'a> {
    /// `enough`: after so much damage what only costs more readings may be left for later.
    pub(crate) fn new(found: &'a mut (dyn FnMut(Finding, Option<Fix>) + Send), enough: u64) -> Self {
        Self { found: Mutex::new(found), n_damages: AtomicU64::new(0), n_notes: AtomicU64::new(0), enough }
    }
}

/// Where findings can be told.
pub(crate) trait Tell: Sync {
    fn tell(&self, finding: Finding, fix: Option<Fix>);

    /// Whether what was told is enough for now.
    fn has_enough(&self) -> bool {
        false
    }
}

impl Tell for Sink<'_> {
    fn tell(&self, finding: Finding, fix: Option<Fix>) {
        let counter = if finding.level == Level::Damage { &self.n_damages } else { &self.n_notes };
        counter.fetch_add(1, Ordering::Relaxed);
        (self.found.lock().unwrap_or_else(PoisonError::into_inner))(finding, fix);
    }

    fn has_enough(&self) -> bool {
        self.n_damages.load(Ordering::Relaxed) >= self.enough
    }
}
