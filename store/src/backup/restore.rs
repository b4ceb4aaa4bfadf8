//! From a backup to a store.
//!
//! The store is made beside its place and renamed into it once all of it was written, read back and found to be what was backed up.
//! What a kill leaves is a folder named `.NAME.restoring`, which the next restore removes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tracker_engine::{Batch, Direction, Durability, Engine, KeyRange, Kind as EngineKind, Options};

use super::expect_purpose;
use crate::bundle::{
    Bundle, ChunkLine, Counts, Cutter, Line, Progress, Purpose, Watch, entries_of, lock_folder, sync_dir,
};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::store::{BLOBS, FORMAT};

/// Entries are committed some at a time.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ENTRIES: usize = 50_000;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// How much is in it.
    pub counts: Counts,
    /// BLAKE3 over its records, as read back from the new store.
    pub records: Digest,
    /// The engine that keeps it: that of the store that was backed up, or the default one if this build lacks that.
    pub engine: String,
}

impl Bundle {
    /// Makes a store in `dir` of what a backup holds. `dir` must not be there, or be empty. Every byte is checked against its digest
    /// before it is used, and all records are read back from the new store; it has its name only then. A backup of an earlier format makes a
    /// store of that format, which can be migrated.
    ///
    /// # Errors
    /// `Invalid` if `dir` is not empty, or this is no backup; `Outdated` if its records have a newer format; `CorruptFile` with file
    /// and offset of what is damaged; `Contended` if another process restores to `dir`; `Io`; the engine's. Then nothing is in `dir`.
    pub fn restore(&self, dir: &Path, watch: &mut Watch<'_>) -> Result<Restored> {
        expect_purpose(self, Purpose::Backup, "import")?;
        self.check_store_format()?;
        let making = Making::begin(dir)?;
        let lines = self.lines()?;
        let store = making.dir.join(STORE);
        let engine = tracker_engine::open(&store, &Options { engine: self.engine(), ..Options::default() })?;
        let engine_name = engine.name();
        self.restore_records(&lines, engine.as_ref(), watch)?;
        self.restore_packs(&lines, &store.join(BLOBS), watch)?;
        let records = read_back(engine.as_ref())?;
        if records != self.manifest().records {
            return Err(Error::conflict(
                "records of",
                store.display(),
                &self.manifest().records.short(),
                &records.short(),
            ));
        }
        // The engine closes its files before they get their name.
        drop(engine);
        making.finish(dir)?;
        Ok(Restored { counts: *self.counts(), records, engine: engine_name.to_owned() })
    }

    /// The engine that keeps a restored store.
    fn engine(&self) -> EngineKind {
        let kind = self.manifest().store.engine.parse().ok().filter(|kind: &EngineKind| kind.is_built());
        kind.unwrap_or_default()
    }

    /// Refuses records of a newer format. Those of an earlier one decode, and what follows from them is made anew or migrated.
    pub(crate) fn check_store_format(&self) -> Result<()> {
        let found = self.manifest().store.format;
        if found <= FORMAT {
            return Ok(());
        }
        Err(Error::Outdated { found, supported: FORMAT, remedy: "use the newer build of tracker that wrote it" })
    }

    fn restore_records(&self, lines: &[Line], engine: &dyn Engine, watch: &mut Watch<'_>) -> Result<()> {
        let total_bytes = Some(self.counts().record_bytes);
        let mut batch = Batch::new();
        let mut done_bytes = 0;
        for line in lines {
            let Line::Chunk(line) = line else { continue };
            let raw = self.chunk(line)?;
            entries_of(&raw, |reason| self.damaged_chunk(line, reason), &mut |key, value| {
                batch.put(key, value);
                if batch.n_bytes() >= BATCH_BYTES || batch.n_ops() >= BATCH_ENTRIES {
                    engine.commit(&batch, Durability::Sync)?;
                    batch.clear();
                }
                Ok(())
            })?;
            done_bytes += line.n_bytes;
            watch(Progress { what: "records", done_bytes, total_bytes });
        }
        Ok(engine.commit(&batch, Durability::Sync)?)
    }

    fn restore_packs(&self, lines: &[Line], blobs: &Path, watch: &mut Watch<'_>) -> Result<()> {
        fs::create_dir_all(blobs).map_err(|error| Error::io("make the folder", blobs, error))?;
        let total_bytes = Some(self.counts().pack_bytes);
        let mut done_bytes = 0;
        for line in lines {
            let Line::Pack(line) = line else { continue };
            let path = blobs.join(line.pack.file_name());
            let failed = |error| Error::io("write", &path, error);
            let mut file = File::create_new(&path).map_err(failed)?;
            self.pack(line, &mut |_, block| {
                done_bytes += block.len() as u64;
                watch(Progress { what: "packs", done_bytes, total_bytes });
                file.write_all(block).map_err(failed)
            })?;
            file.sync_all().map_err(failed)?;
        }
        sync_dir(blobs)
    }

    pub(crate) fn damaged_chunk(&self, line: &ChunkLine, reason: &str) -> Error {
        let path = self.path().join(format!("chunks/{}", line.chunk));
        Error::CorruptFile { path, offset: 0, reason: reason.to_owned() }
    }
}

/// The digest over all entries of an engine, cut into chunks as a backup is.
fn read_back(engine: &dyn Engine) -> Result<Digest> {
    let mut cutter = Cutter::default();
    let mut records = blake3::Hasher::new();
    engine.snapshot()?.range(KeyRange::all(), Direction::Ascending, &mut |key, value| {
        if let Some(chunk) = cutter.push(key, value) {
            records.update(chunk.digest().as_bytes());
        }
        ControlFlow::Continue(())
    })?;
    if let Some(chunk) = cutter.cut() {
        records.update(chunk.digest().as_bytes());
    }
    Ok(records.finalize().into())
}

/// The folder a store is made in, and within it the store and the lock of who makes it. Dropped before it is finished, it goes.
struct Making {
    dir: PathBuf,
    _locked: File,
}

const STORE: &str = "store";
const LOCK: &str = "lock";

impl Making {
    fn begin(target: &Path) -> Result<Self> {
        check_empty(target)?;
        let target = std::path::absolute(target).map_err(|error| Error::io("find", target, error))?;
        let invalid = || Error::invalid("the folder to restore to", "one with a name", target.display());
        let (parent, name) = target.parent().zip(target.file_name()).ok_or_else(invalid)?;
        fs::create_dir_all(parent).map_err(|error| Error::io("make the folder", parent, error))?;
        let dir = parent.join(format!(".{}.restoring", name.display()));
        fs::create_dir_all(&dir).map_err(|error| Error::io("make the folder", &dir, error))?;
        let lock = lock_folder(&dir.join(LOCK), "store", &target)?;
        // Left by one that was killed.
        let store = dir.join(STORE);
        match fs::remove_dir_all(&store) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &store, error)),
            _ => {}
        }
        Ok(Self { dir, _locked: lock })
    }

    /// Gives the store its name.
    fn finish(self, target: &Path) -> Result<()> {
        let store = self.dir.join(STORE);
        sync_dir(&store)?;
        fs::rename(&store, target).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => not_empty(target),
            _ => Error::io("rename", &store, error),
        })?;
        self.dir.parent().map_or(Ok(()), sync_dir)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // What cannot be removed now the next restore removes.
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn check_empty(dir: &Path) -> Result<()> {
    match dir.read_dir().map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_empty(dir)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(not_empty(dir)),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}

fn not_empty(dir: &Path) -> Error {
    Error::invalid("the folder to restore to", "empty or not there yet", dir.display())
}
