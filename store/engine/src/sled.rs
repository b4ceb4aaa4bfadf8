//! Ordered bytes in one sled tree.
//!
//! sled writes batches whole, but has no snapshots, loses its last batches when the power goes, and writes large values
//! into files that nobody syncs. What it lacks is added here: `overlay` keeps what recent commits changed for the readers
//! of earlier states, every commit that must survive a power loss ends in a sync of sled's file, and `cut` keeps values
//! small.
//!
//! Invariants:
//! - Within one group, members are judged and written one after the other, as if each had come alone.
//! - Readers see a group once it is as durable as was asked, and whole.
//! - After a failed write sled takes no more of them, so it is closed and opened anew, and snapshots are lost; a commit
//!   whose outcome that leaves open is looked up and answered with what is in the tree.
//! - A panic of sled over damaged files becomes `Corrupt`; a panic of a visitor stays one.
//!
//! sled lets nobody read while it applies a batch in memory; while it syncs one, reads go on.

mod cut;
mod files;
mod overlay;
#[cfg(test)]
mod tests;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ::sled::{Batch as Log, Db};

use self::cut::{Cut, Value};
use self::files::Files;
use self::overlay::{Before, Bytes, Overlay};
use self::view::View;
use crate::group::{self, Group, Member};
use crate::kind::Local;
use crate::staged::{self, Writes};
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

/// Ordered bytes in one sled folder, which it holds open alone.
pub struct Sled {
    core: Arc<Core>,
    group: Group,
}

/// What the engine and its snapshots share.
struct Core {
    path: PathBuf,
    cache_bytes: usize,
    slot: RwLock<Slot>,
    overlay: Overlay,
}

/// The open tree.
#[derive(Default)]
struct Slot {
    /// How often it was opened anew; snapshots of earlier times are lost.
    epoch: u64,
    /// `None` after a failed write, until it is opened anew.
    open: Option<Open>,
}

struct Open {
    tree: Db,
    files: Files,
    /// The first id that no cut value ever had.
    next_cut: AtomicU64,
}

impl Sled {
    /// Opens the folder at `path`, which [`Sled::create`] made.
    ///
    /// # Errors
    /// `Busy` if it is open elsewhere; `Foreign` if it is a sled folder of another program; `Corrupt` if it is damaged or
    /// not there; `ReadOnly`, `Full`, `Io`.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        files::require(path)?;
        Ok(Self::over(path, cache_bytes, Open::at(path, cache_bytes)?))
    }

    /// Makes the folder `path`, which must not be there or be empty, and opens it.
    ///
    /// # Errors
    /// `Foreign` if there is something in it; else as [`Sled::open`].
    pub fn create(path: &Path, cache_bytes: usize) -> Result<Self> {
        files::make(path)?;
        guarded(path, || {
            let tree = open_tree(path, cache_bytes)?;
            tree.insert(cut::SCHEME_KEY, cut::SCHEME).map_err(|error| sled_error(path, error))?;
            tree.flush().map_err(|error| sled_error(path, error))?;
            Files::open(path)?.sync_all()
        })?;
        Self::open(path, cache_bytes)
    }

    fn over(path: &Path, cache_bytes: usize, open: Open) -> Self {
        let slot = RwLock::new(Slot { epoch: 0, open: Some(open) });
        let core = Core { path: path.to_path_buf(), cache_bytes, slot, overlay: Overlay::default() };
        Self { core: Arc::new(core), group: Group::default() }
    }

    /// Writes the members of a group in one batch.
    fn write_group(&self, members: &mut [Member<'_>]) {
        let written = staged::stage(members, self).and_then(|writes| self.write(&writes, staged::durability(members)));
        if let Err(error) = written {
            group::refuse_all(members, &error);
        }
    }

    fn write(&self, writes: &Writes<'_>, durability: Durability) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let core = &self.core;
        // One commit at a time: nobody else changes the tree between the look and the write.
        let (log, befores) = core.with(None, |open| core.plan(open, writes))?;
        core.overlay.begin(befores);
        let written = core.with(None, |open| core.guarded(|| open.write(&core.path, log, durability)));
        if let Err(error) = written {
            core.give_up();
            // It may have reached the disk all the same: answer with what is there, if that can be made to stay.
            let is_there = staged::is_written(writes, self)
                .and_then(|is_there| core.with(None, |open| open.files.sync_all()).map(|()| is_there));
            return if is_there.unwrap_or(false) { Ok(()) } else { Err(error) };
        }
        core.overlay.publish();
        Ok(())
    }
}

impl Core {
    /// What is to be written to the tree, and what that changes.
    fn plan(&self, open: &Open, writes: &Writes<'_>) -> Result<(Log, Vec<Before>)> {
        let mut log = Log::default();
        let mut befores = Vec::with_capacity(writes.len());
        for (key, value) in writes {
            let key = Bytes::from(cut::entry_key(key));
            let before = open.get(&self.path, &key)?;
            let after = match value {
                Some(value) if value.len() > cut::PIECE_BYTES => {
                    let id = open.next_cut.fetch_add(1, Ordering::Relaxed);
                    let cut = Cut { id, n_bytes: value.len() as u32 };
                    for (key, piece) in cut.keys().zip(value.chunks(cut::PIECE_BYTES)) {
                        log.insert(key, piece);
                    }
                    Some(cut.record())
                }
                Some(value) => Some(cut::whole_record(value)),
                None => None,
            };
            if before == after {
                continue;
            }
            if let Some(before) = &before
                && let Value::Cut(cut) = self.read_record(before)?
            {
                for key in cut.keys() {
                    let piece = open.get(&self.path, &key)?;
                    log.remove(key.clone());
                    befores.push((key, piece));
                }
            }
            match after {
                Some(record) => log.insert(key.clone(), record),
                None => log.remove(key.clone()),
            }
            befores.push((key, before));
        }
        Ok((log, befores))
    }

    fn read_record<'a>(&self, record: &'a [u8]) -> Result<Value<'a>> {
        cut::read(record).ok_or_else(|| Error::corrupt(&self.path, "an entry is not as tracker writes it"))
    }

    /// Works with the open tree, which is opened anew if the last write to it failed; `SnapshotLost` if that happened
    /// after `epoch`. `work` must not call back into the engine.
    fn with<T>(&self, epoch: Option<u64>, work: impl FnOnce(&Open) -> Result<T>) -> Result<T> {
        loop {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            if epoch.is_some_and(|epoch| epoch != slot.epoch) {
                return Err(Error::SnapshotLost);
            }
            if let Some(open) = &slot.open {
                return work(open);
            }
            drop(slot);
            let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
            if slot.open.is_none() {
                slot.open = Some(Open::at(&self.path, self.cache_bytes)?);
            }
        }
    }

    /// Closes the tree; snapshots are lost. Whether that went well is no matter: what was acknowledged is in the file,
    /// and the next to open it makes good what was left undone.
    fn give_up(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.epoch += 1;
        let given_up = slot.open.take();
        self.overlay.clear();
        drop(self.guarded(|| {
            drop(given_up);
            Ok(())
        }));
    }

    fn epoch(&self) -> u64 {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).epoch
    }

    fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        guarded(&self.path, work)
    }
}

impl Open {
    fn at(path: &Path, cache_bytes: usize) -> Result<Self> {
        guarded(path, || {
            let tree = open_tree(path, cache_bytes)?;
            match tree.get(cut::SCHEME_KEY).map_err(|error| sled_error(path, error))? {
                Some(scheme) if scheme == cut::SCHEME => {}
                Some(scheme) => {
                    let reason =
                        format!("it is laid out in a way this build does not know, `{}`", scheme.escape_ascii());
                    return Err(Error::foreign(path, reason));
                }
                None => return Err(Error::foreign(path, "it is a sled folder of another program")),
            }
            let last = tree.range(cut::ENTRIES_END..cut::PIECES_END).next_back();
            let last = last.transpose().map_err(|error| sled_error(path, error))?;
            let next_cut = AtomicU64::new(last.and_then(|(key, _)| cut::id_of(&key)).map_or(0, |id| id + 1));
            let files = Files::open(path)?;
            // Opening writes files anew.
            files.sync_all()?;
            Ok(Self { tree, files, next_cut })
        })
    }

    fn get(&self, path: &Path, key: &[u8]) -> Result<Option<Bytes>> {
        guarded(path, || self.tree.get(key).map_err(|error| sled_error(path, error)))
    }

    fn write(&self, path: &Path, log: Log, durability: Durability) -> Result<()> {
        self.tree.apply_batch(log).map_err(|error| sled_error(path, error))?;
        self.tree.flush().map_err(|error| sled_error(path, error))?;
        match durability {
            Durability::Os => Ok(()),
            Durability::Sync => self.files.sync_data(),
        }
    }
}

impl Read for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let core = &self.core;
        let key = cut::entry_key(key);
        let found = core.with(None, |open| open.get(&core.path, &key))?;
        let Some(record) = core.overlay.correct(None, &key, found) else {
            return Ok(None);
        };
        match core.read_record(&record)? {
            Value::Whole(value) => Ok(Some(value.to_vec())),
            // Its pieces may go while they are read, unless a version is held.
            Value::Cut(_) => View::take(core).get(cut::key_of(&key)),
        }
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        View::take(&self.core).range(range, direction, visit)
    }
}

impl Engine for Sled {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.commit_once(batch, durability, false)
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        Ok(Arc::new(View::take(&self.core)))
    }

    fn name(&self) -> &'static str {
        "sled"
    }
}

impl Local for Sled {
    fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()> {
        batch.check_size()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.group.commit(batch, durability, resent, |members| self.write_group(members))
    }
}

fn open_tree(path: &Path, cache_bytes: usize) -> Result<Db> {
    let config = ::sled::Config::new().path(path).cache_capacity(cache_bytes as u64);
    files::open_patiently(|| config.open().map_err(|error| sled_error(path, error)))
}

/// Runs sled code. It may panic over damaged files; that is reported as damage.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::corrupt(path, format!("sled gave up on it: {message}")))
    })
}

fn sled_error(path: &Path, error: ::sled::Error) -> Error {
    match error {
        // Its lock is told by these words alone.
        ::sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => {
            Error::Busy { path: path.to_path_buf() }
        }
        ::sled::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(path, error.to_string())
            }
            _ => Error::io("read or write", path, error),
        },
        ::sled::Error::Corruption { at, .. } => Error::corrupt(path, format!("sled found damage at {at:?}")),
        ::sled::Error::Unsupported(reason) => Error::foreign(path, reason),
        other => Error::io("read or write", path, std::io::Error::other(other)),
    }
}
