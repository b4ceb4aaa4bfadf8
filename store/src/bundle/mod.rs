//! Bundles: records and packs outside a store, as a folder or as one tar file. Backups and exports are bundles.
//!
//! ```text
//! BUNDLE                  one line: `tracker backup, format 1`, or `tracker export, format 1`
//! chunks/<digest>         entries of the store, some hundreds of KiB of them, compressed where that pays
//! packs/<id>.pack         pieces of artifacts, end to end
//! index/<digest>.jsonl    one line a chunk or a pack: what is in it, and the digests of its bytes
//! manifest.json           what this is, how much of it, and which index; the last to be written
//! lock                    in a folder: locked by whoever writes it
//! ```
//!
//! Invariants: a file under its final name is whole and synced; what the manifest leads to never changes, so a bundle that is
//! written over an earlier one leaves that one whole until the last rename; every byte is under a digest that the manifest
//! leads to, so damage is found and named by file and offset before anything is made of it.

mod archive;
mod chunk;
mod folder;
mod index;
mod manifest;
mod sink;
mod source;
mod verify;

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

pub(crate) use chunk::{Chunk, Cutter, Visit, entries_of};
pub(crate) use index::{ChunkLine, Line, PackLine};
pub(crate) use manifest::{Manifest, StoreFacts};
pub(crate) use sink::Sink;
pub(crate) use source::Reader;

pub use manifest::{Counts, RunFacts, Section};
pub use sink::Target;
pub use source::Bundle;
pub use verify::Damage;

/// The format of bundles that this build writes, and the highest it reads.
pub const BUNDLE_FORMAT: u32 = 1;
/// Packs are under digests of stretches of this many bytes.
pub(crate) const BLOCK_BYTES: usize = 4 << 20;

pub(crate) const MARK: &str = "BUNDLE";
pub(crate) const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
const CHUNKS: &str = "chunks";
const PACKS: &str = "packs";
const INDEX: &str = "index";

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Purpose {
    /// The whole of a store.
    #[serde(rename = "tracker backup")]
    Backup,
    /// Some runs of a store, and what they came from.
    #[serde(rename = "tracker export")]
    Export,
}

impl Purpose {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Export => "export",
        }
    }

    /// The line that `BUNDLE` is; as long for one purpose as for another.
    fn mark(self) -> String {
        format!("tracker {}, format {BUNDLE_FORMAT}\n", self.name())
    }
}

/// How far a long work is, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done: `records`, `packs`.
    pub what: &'static str,
    /// Bytes so far.
    pub done_bytes: u64,
    /// Bytes in all, where that is known.
    pub total_bytes: Option<u64>,
}

/// Told how far a work is, after every few hundred KiB.
pub type Watch<'a> = dyn FnMut(Progress) + 'a;

/// The digests of a pack's blocks, of [`BLOCK_BYTES`] each but the last.
pub(crate) fn block_digests(
    n_bytes: u64,
    read_at: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
    take: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut block = vec![0; BLOCK_BYTES.min(usize::try_from(n_bytes).unwrap_or(BLOCK_BYTES))];
    let mut offset = 0;
    while offset < n_bytes {
        let n = (n_bytes - offset).min(BLOCK_BYTES as u64) as usize;
        read_at(offset, &mut block[..n])?;
        take(offset, &block[..n])?;
        offset += n as u64;
    }
    Ok(())
}

/// Makes the file at `path`, if it is not there, and locks it; `Contended` if another process has: it makes `what` in `of`.
pub(crate) fn lock_folder(path: &Path, what: &'static str, of: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| Error::io("open", path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Contended { what, name: of.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
    }
}

/// Syncs a folder, so that names in it survive a power loss.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io("sync", dir, error))
}
