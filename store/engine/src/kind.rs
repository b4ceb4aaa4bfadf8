//! Which engines a store folder can be kept by, and how each is opened.
//!
//! The names are written into store folders, so they never change. An engine that this build lacks is known by name all
//! the same, so that its stores are refused with the feature to build.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Batch, Durability, Engine, Error, Redb, Result, Sled};

/// An engine that keeps its data in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One file, a copy-on-write B-tree; in every build, and the default.
    #[default]
    Redb,
    /// A folder, a log of tree pages; in every build.
    Sled,
    /// A folder, sorted runs that are merged; in builds with the feature `rocksdb`.
    Rocksdb,
}

impl Kind {
    /// Every engine, whether this build has it or not.
    pub const ALL: [Self; 3] = [Self::Redb, Self::Sled, Self::Rocksdb];

    /// Its name, as store folders record it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Redb | Self::Sled => true,
            Self::Rocksdb => cfg!(feature = "rocksdb"),
        }
    }

    /// Where its data lies within a store folder: a file or a folder.
    pub(crate) fn data_name(self) -> &'static str {
        match self {
            Self::Redb => "data.redb",
            Self::Sled => "data.sled",
            Self::Rocksdb => "data.rocksdb",
        }
    }

    /// Refuses an engine that this build lacks, on behalf of the store at `path`.
    pub(crate) fn require_built(self, path: &Path) -> Result<()> {
        if self.is_built() { Ok(()) } else { Err(Error::NotBuilt { path: path.to_path_buf(), engine: self }) }
    }

    /// Opens the data at `path`, which [`Kind::create`] made.
    pub(crate) fn open(self, path: &Path, cache_bytes: usize) -> Result<Arc<dyn Local>> {
        match self {
            Self::Redb => Ok(Arc::new(Redb::open(path, cache_bytes)?)),
            Self::Sled => Ok(Arc::new(Sled::open(path, cache_bytes)?)),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Ok(Arc::new(crate::Rocksdb::open(path, cache_bytes)?)),
            #[cfg(not(feature = "rocksdb"))]
            Self::Rocksdb => Err(Error::NotBuilt { path: path.to_path_buf(), engine: self }),
        }
    }

    /// Makes empty data at `path`, where there is none, and opens it.
    pub(crate) fn create(self, path: &Path, cache_bytes: usize) -> Result<Arc<dyn Local>> {
        match self {
            Self::Redb => Ok(Arc::new(Redb::create(path, cache_bytes)?)),
            Self::Sled => Ok(Arc::new(Sled::create(path, cache_bytes)?)),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Ok(Arc::new(crate::Rocksdb::create(path, cache_bytes)?)),
            #[cfg(not(feature = "rocksdb"))]
            Self::Rocksdb => Err(Error::NotBuilt { path: path.to_path_buf(), engine: self }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No engine has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an engine, `redb`, `sled` or `rocksdb`, got `{0}`")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// An engine whose files this process has open alone, as it serves them to others.
pub(crate) trait Local: Engine {
    /// Commits `batch`; if it was `resent` and all it writes is there already, that is its answer.
    fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_engine_and_no_other_does() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.data_name(), format!("data.{kind}"));
        }
        assert_eq!("Redb".parse::<Kind>(), Err(UnknownKind("Redb".to_owned())));
        assert!(Kind::default().is_built());
    }
}
