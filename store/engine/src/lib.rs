//! Ordered bytes: the one seam between what is recorded and where it lies.
//!
//! An [`Engine`] maps byte strings to byte strings, sorted by key, in one keyspace. It reads single keys and ranges in
//! both directions, commits a [`Batch`] atomically under preconditions, and takes snapshots. [`open`] gives the default
//! engine: redb in one folder, shared by every process that opens the folder.
//!
//! Invariants:
//! - A commit that returned `Ok` is whole, and stays: through kill -9 with any [`Durability`], through a power loss with
//!   [`Durability::Sync`].
//! - A commit that returned an error wrote nothing. Two exceptions, whose outcome is not known: [`Error::Unavailable`], and
//!   [`Error::Io`] or [`Error::Full`] from a disk that failed so that the file cannot even be opened again.
//! - Reads never block commits and commits never block reads; a visitor may read the engine it is visiting.
//! - A folder that is not a store of this layout is refused before anything in it is written.
//!
//! Not here: what keys and values mean (`tracker-store`), blobs, migrations.

mod batch;
#[doc(hidden)]
pub mod contract;
mod convert;
mod error;
#[doc(hidden)]
pub mod faulty;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod kind;
mod layout;
mod memory;
mod pages;
mod range;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod salvage;
mod shared;
mod sled;
mod staged;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub use crate::batch::{Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Op};
pub use crate::convert::{Converted, Step, convert};
pub use crate::error::{Error, Result};
pub use crate::kind::{Kind, UnknownKind};
pub use crate::layout::{LAYOUT, LOCK};
pub use crate::memory::Memory;
pub use crate::pages::{DoubtfulVisitor, PageDamage, Pages};
pub use crate::range::{Direction, KeyRange};
pub use crate::redb::{Counts, Redb, is_guarded};
#[cfg(feature = "rocksdb")]
pub use crate::rocksdb::Rocksdb;
pub use crate::salvage::{Salvaged, has_lost_format, kept_by, mend_format, open_alone, salvage};
pub use crate::shared::open;
pub use crate::sled::Sled;

/// A consistent reader: an engine as of now, or a snapshot as of when it was taken.
pub trait Read: Send + Sync {
    /// The value of `key`, or `None` if it is absent.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `Unavailable`; `SnapshotLost` on a snapshot.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Calls `visit` with each key and value in `range`, in `direction`, until it breaks or the range ends.
    ///
    /// One call sees one state: commits that land while it runs are not visible to it. `visit` may read the same engine
    /// and may commit to it.
    ///
    /// # Errors
    /// As [`Read::get`]; `SnapshotLost` also on a live engine, when the process that served it went away after `visit`
    /// had been called: ask again from the start.
    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()>;

    /// Up to `limit` entries of `range`, in `direction`; for ranges known to be small.
    ///
    /// # Errors
    /// As [`Read::range`].
    fn collect(&self, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        self.range(range, direction, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(entries)
    }
}

/// What a range is shown to, key and value at a time, until it breaks. `&mut |key, value| …` is one.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Ordered bytes that can be written.
pub trait Engine: Read {
    /// Writes `batch`, all of it or nothing, if every precondition in it holds.
    ///
    /// Preconditions are judged against the state before the batch. When it returns, every later read sees the batch.
    ///
    /// # Errors
    /// `Conflict` if a precondition does not hold, `TooLarge`, `Full`, `ReadOnly`, `Corrupt`, `Io`: nothing was written,
    /// unless the disk failed so that the file cannot be opened again. `Unavailable`: it may or may not have been.
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()>;

    /// The state as of now, unmoved by later commits. Short-lived: it holds back the reuse of space, and the first commit of a
    /// process that only read so far may end it (`SnapshotLost`): take another.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn snapshot(&self) -> Result<Arc<dyn Read>>;

    /// The engine's name, as the store folder records it.
    fn name(&self) -> &'static str;
}

/// What a committed batch survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The death of the process, by kill -9 too. An engine may do more, and does within a second or so.
    Os,
    /// The loss of power as well.
    Sync,
}

/// How a store folder is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which engine keeps a store that is made; one that is there keeps its own. Default redb.
    pub engine: Kind,
    /// Memory the engine may use to cache pages, in bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// How long one call waits for another process that holds the folder before it gives up with
    /// [`Error::Unavailable`]. Default 30 s.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { engine: Kind::default(), cache_bytes: 64 << 20, patience: Duration::from_secs(30) }
    }
}

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
