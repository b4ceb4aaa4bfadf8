//! Packs: files of pieces, one after the other, beside the engine.
//!
//! A pack is written under a temporary name, synced, renamed and its folder synced; only then does a record name it.
//! What a kill leaves is a temporary file, or a pack no record names: garbage, never damage. A temporary file is locked by
//! its writer, so that a collection can tell one that is being written from one that was left.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind::NotFound;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, hex, unhex};

/// The name of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PackId([u8; 16]);

impl PackId {
    /// The one with these bytes.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn file_name(self) -> String {
        format!("{self}.pack")
    }

    fn unfinished_name(self) -> String {
        format!("{self}.pack.new")
    }

    fn condemned_name(self) -> String {
        format!("{self}.pack.condemned")
    }

    /// The pack a file is, and what state its name says it is in.
    fn from_name(name: &str) -> Option<(Self, PackState)> {
        let (digits, extension) = name.split_once('.')?;
        let id = Self(unhex(digits)?.try_into().ok()?);
        let state = match extension {
            "pack" => PackState::Whole,
            "pack.new" => PackState::Unfinished,
            "pack.condemned" => PackState::Condemned,
            _ => return None,
        };
        Some((id, state))
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What the name of a pack's file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackState {
    /// It is written, or was not finished.
    Unfinished,
    /// It is whole.
    Whole,
    /// A collection is about to remove it.
    Condemned,
}

/// A pack as it lies in the folder.
pub(crate) struct PackFile {
    pub(super) id: PackId,
    pub(super) state: PackState,
    pub(super) n_bytes: u64,
    /// Since it was last written to.
    pub(super) age: Duration,
}

impl PackFile {
    pub(crate) fn id(&self) -> PackId {
        self.id
    }

    pub(crate) fn state(&self) -> PackState {
        self.state
    }

    /// Its size, in bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs in memory.
#[derive(Default)]
pub(crate) struct MemoryPacks {
    whole: Mutex<BTreeMap<PackId, Arc<Vec<u8>>>>,
    condemned: Mutex<BTreeMap<PackId, Arc<Vec<u8>>>>,
    collecting: RwLock<()>,
}

/// Held by the one collection that is under way, in whichever process.
pub(super) enum Collecting<'a> {
    File { _locked: File },
    Memory { _locked: RwLockWriteGuard<'a, ()> },
}

/// Held by whoever copies packs, any number of them: no collection begins meanwhile.
pub(crate) enum Copying<'a> {
    File { _locked: File },
    Memory { _locked: RwLockReadGuard<'a, ()> },
}

/// The file that a collection locks alone, and a copy shared.
const LOCK: &str = "collecting";
/// How long a copy waits for a collection that is under way, and how often it looks.
const COLLECTION_TIME: Duration = Duration::from_mins(5);
const COLLECTION_PAUSE: Duration = Duration::from_millis(20);

/// Where packs are kept.
pub(crate) enum Packs {
    /// In a folder, which is made when the first pack is.
    Dir(PathBuf),
    /// In memory, for stores in memory.
    Memory(MemoryPacks),
}

impl Packs {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryPacks::default())
    }

    /// Starts a pack.
    pub(super) fn write(&self) -> Result<PackWriter<'_>> {
        let dir = match self {
            Self::Memory(packs) => {
                let id = PackId(crate::clock::new_uuid().into_bytes());
                return Ok(PackWriter { id, sink: Sink::Memory(&packs.whole, Vec::new()), n_bytes: 0 });
            }
            Self::Dir(dir) => dir,
        };
        fs::create_dir_all(dir).map_err(|error| Error::io("make the folder", dir, error))?;
        loop {
            let id = PackId(crate::clock::new_uuid().into_bytes());
            let temporary = dir.join(id.unfinished_name());
            let file = File::create_new(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
            // Held until the pack is whole or its writer is gone, however it went: collections look at it.
            file.lock().map_err(|error| Error::io("lock", &temporary, error))?;
            let n_names = file.metadata().map_err(|error| Error::io("read", &temporary, error))?.nlink();
            if n_names > 0 {
                return Ok(PackWriter { id, sink: Sink::File { dir, temporary, file: Some(file) }, n_bytes: 0 });
            }
            // A collection took it between the two.
        }
    }

    /// Whether somebody, in whichever process, is writing an unfinished pack.
    pub(super) fn is_written(&self, id: PackId) -> Result<bool> {
        let Self::Dir(dir) = self else { return Ok(false) };
        let path = dir.join(id.unfinished_name());
        match File::open(&path).map(|file| file.try_lock()) {
            Ok(Ok(())) => Ok(false),
            Ok(Err(fs::TryLockError::WouldBlock)) => Ok(true),
            Ok(Err(fs::TryLockError::Error(error))) => Err(Error::io("lock", &path, error)),
            Err(error) if error.kind() == NotFound => Ok(false),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// Opens a pack for reading, if it is there; a condemned one too, which may yet be restored.
    pub(crate) fn open(&self, id: PackId) -> Result<Option<PackReader>> {
        match self {
            Self::Memory(packs) => {
                let pack = lock(&packs.whole).get(&id).cloned();
                Ok(pack.or_else(|| lock(&packs.condemned).get(&id).cloned()).map(PackReader::Memory))
            }
            Self::Dir(dir) => {
                for path in [dir.join(id.file_name()), dir.join(id.condemned_name())] {
                    match File::open(&path) {
                        Ok(file) => return Ok(Some(PackReader::File(file, path))),
                        Err(error) if error.kind() == NotFound => {}
                        Err(error) => return Err(Error::io("open", &path, error)),
                    }
                }
                Ok(None)
            }
        }
    }

    /// Whether a pack is there and not condemned.
    pub(super) fn has(&self, id: PackId) -> bool {
        match self {
            Self::Memory(packs) => lock(&packs.whole).contains_key(&id),
            Self::Dir(dir) => dir.join(id.file_name()).exists(),
        }
    }

    /// Waits for no other collection: fails if there is one.
    pub(super) fn collecting(&self) -> Result<Collecting<'_>> {
        let contended = || Error::Contended { what: "store", name: "blobs".to_owned() };
        match self {
            Self::Memory(packs) => match packs.collecting.try_write() {
                Ok(locked) => Ok(Collecting::Memory { _locked: locked }),
                Err(TryLockError::Poisoned(poisoned)) => Ok(Collecting::Memory { _locked: poisoned.into_inner() }),
                Err(TryLockError::WouldBlock) => Err(contended()),
            },
            Self::Dir(dir) => {
                let (file, path) = lock_file(dir)?;
                match file.try_lock() {
                    Ok(()) => Ok(Collecting::File { _locked: file }),
                    Err(fs::TryLockError::WouldBlock) => Err(contended()),
                    Err(fs::TryLockError::Error(error)) => Err(Error::io("lock", &path, error)),
                }
            }
        }
    }

    /// Holds off collections, so that packs can be copied. Waits for one that is under way, some minutes at most.
    ///
    /// # Errors
    /// `Contended` if that one does not end; `Io`.
    pub(crate) fn copying(&self) -> Result<Copying<'_>> {
        let dir = match self {
            Self::Memory(packs) => {
                let locked = packs.collecting.read().unwrap_or_else(PoisonError::into_inner);
                return Ok(Copying::Memory { _locked: locked });
            }
            Self::Dir(dir) => dir,
        };
        let (file, path) = lock_file(dir)?;
        let started = Instant::now();
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Copying::File { _locked: file }),
                Err(fs::TryLockError::WouldBlock) if started.elapsed() < COLLECTION_TIME => {
                    std::thread::sleep(COLLECTION_PAUSE);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::Contended { what: "store", name: "blobs, by a collection".to_owned() });
                }
                Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
            }
        }
    }

    /// Every pack. Other files in the folder are left out.
    pub(crate) fn list(&self) -> Result<Vec<PackFile>> {
        let dir = match self {
            Self::Memory(packs) => {
                let whole = |(id, bytes): (&PackId, &Arc<Vec<u8>>)| PackFile {
                    id: *id,
                    state: PackState::Whole,
                    n_bytes: bytes.len() as u64,
                    age: Duration::MAX,
                };
                return Ok(lock(&packs.whole).iter().map(whole).collect());
            }
            Self::Dir(dir) => dir,
        };
        let failed = |error| Error::io("list", dir, error);
        let entries = match dir.read_dir() {
            Err(error) if error.kind() == NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut packs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some((id, state)) = name.to_str().and_then(PackId::from_name) else { continue };
            match entry.metadata() {
                // Another collection took it.
                Err(error) if error.kind() == NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(data) => {
                    let age = data.modified().map_or(Duration::ZERO, crate::clock::since);
                    packs.push(PackFile { id, state, n_bytes: data.len(), age });
                }
            }
        }
        packs.sort_by_key(|pack| pack.id);
        Ok(packs)
    }

    /// Files in the folder that are none of the store's.
    pub(crate) fn strangers(&self) -> Result<Vec<PathBuf>> {
        let Self::Dir(dir) = self else { return Ok(Vec::new()) };
        let entries = match dir.read_dir() {
            Err(error) if error.kind() == NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io("list", dir, error))?,
        };
        let mut strangers = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| Error::io("list", dir, error))?.file_name();
            let is_ours = name.to_str().is_some_and(|name| name == LOCK || PackId::from_name(name).is_some());
            if !is_ours {
                strangers.push(dir.join(name));
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    /// Puts a pack out of the way of writers. Readers still find it, and it can be [restored](Self::restore).
    pub(super) fn condemn(&self, id: PackId) -> Result<()> {
        if let Self::Memory(packs) = self {
            let pack = lock(&packs.whole).remove(&id);
            pack.map(|pack| lock(&packs.condemned).insert(id, pack));
        }
        self.rename(&id.file_name(), &id.condemned_name())
    }

    /// Takes a condemnation back.
    pub(super) fn restore(&self, id: PackId) -> Result<()> {
        if let Self::Memory(packs) = self {
            let pack = lock(&packs.condemned).remove(&id);
            pack.map(|pack| lock(&packs.whole).insert(id, pack));
        }
        self.rename(&id.condemned_name(), &id.file_name())
    }

    /// Removes a pack that was condemned.
    pub(super) fn remove_condemned(&self, id: PackId) -> Result<()> {
        if let Self::Memory(packs) = self {
            lock(&packs.condemned).remove(&id);
        }
        self.remove(&id.condemned_name())
    }

    /// Removes a pack that was never finished.
    pub(super) fn remove_unfinished(&self, id: PackId) -> Result<()> {
        self.remove(&id.unfinished_name())
    }

    /// Renames a file; one that is not there was renamed before. In memory there are no names.
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let Self::Dir(dir) = self else { return Ok(()) };
        match fs::rename(dir.join(from), dir.join(to)) {
            Err(error) if error.kind() != NotFound => Err(Error::io("rename", dir.join(from), error)),
            _ => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        let Self::Dir(dir) = self else { return Ok(()) };
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != NotFound => Err(Error::io("remove", dir.join(name), error)),
            _ => Ok(()),
        }
    }

    /// The error for a pack that is named and not there.
    pub(crate) fn gone(&self, id: PackId) -> Error {
        let path = match self {
            Self::Memory(_) => PathBuf::from(id.file_name()),
            Self::Dir(dir) => dir.join(id.file_name()),
        };
        Error::CorruptFile { path, offset: 0, reason: "the file is gone".to_owned() }
    }
}

/// The file that collections and copies lock, and its path.
fn lock_file(dir: &Path) -> Result<(File, PathBuf)> {
    fs::create_dir_all(dir).map_err(|error| Error::io("make the folder", dir, error))?;
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    Ok((file.map_err(|error| Error::io("open", &path, error))?, path))
}

enum Sink<'a> {
    Memory(&'a Mutex<BTreeMap<PackId, Arc<Vec<u8>>>>, Vec<u8>),
    File { dir: &'a Path, temporary: PathBuf, file: Option<File> },
}

/// A pack that is being written. Dropped before it is finished, it leaves nothing.
pub(super) struct PackWriter<'a> {
    id: PackId,
    sink: Sink<'a>,
    n_bytes: u64,
}

impl PackWriter<'_> {
    pub(super) fn id(&self) -> PackId {
        self.id
    }

    /// Adds a piece. Returns its offset.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<u64> {
        let offset = self.n_bytes;
        match &mut self.sink {
            Sink::Memory(_, bytes) => bytes.extend_from_slice(piece),
            Sink::File { temporary, file: Some(file), .. } => {
                file.write_all(piece).map_err(|error| Error::io("write", &*temporary, error))?;
            }
            Sink::File { file: None, .. } => {}
        }
        self.n_bytes += piece.len() as u64;
        Ok(offset)
    }

    /// Makes the pack whole and findable, through a power loss too.
    pub(super) fn finish(mut self) -> Result<()> {
        match &mut self.sink {
            Sink::Memory(packs, bytes) => {
                lock(packs).insert(self.id, Arc::new(std::mem::take(bytes)));
            }
            Sink::File { dir, temporary, file } => {
                if let Some(file) = file.as_ref() {
                    file.sync_all().map_err(|error| Error::io("sync", &*temporary, error))?;
                    fs::rename(&*temporary, dir.join(self.id.file_name()))
                        .map_err(|error| Error::io("rename", &*temporary, error))?;
                    let folder = File::open(*dir).and_then(|folder| folder.sync_all());
                    folder.map_err(|error| Error::io("sync", *dir, error))?;
                }
                *file = None;
            }
        }
        Ok(())
    }
}

impl Drop for PackWriter<'_> {
    fn drop(&mut self) {
        if let Sink::File { temporary, file: Some(_), .. } = &self.sink {
            // It is garbage either way; a later collection takes what cannot be removed now.
            drop(fs::remove_file(temporary));
        }
    }
}

/// A pack that is being read.
pub(crate) enum PackReader {
    Memory(Arc<Vec<u8>>),
    File(File, PathBuf),
}

impl PackReader {
    /// The bytes from `offset` on that fill `bytes`.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Memory(pack) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = pack.get(start..start.saturating_add(bytes.len()));
                bytes.copy_from_slice(part.ok_or_else(|| self.damaged(offset, "it ends too early"))?);
                Ok(())
            }
            Self::File(file, path) => file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => self.damaged(offset, "it ends too early"),
                _ => Error::io("read", path, error),
            }),
        }
    }

    /// How long the pack is, in bytes.
    pub(crate) fn n_bytes(&self) -> Result<u64> {
        match self {
            Self::Memory(pack) => Ok(pack.len() as u64),
            Self::File(file, path) => {
                file.metadata().map(|data| data.len()).map_err(|error| Error::io("read", path, error))
            }
        }
    }

    pub(crate) fn damaged(&self, offset: u64, reason: &str) -> Error {
        let path = match self {
            Self::Memory(_) => PathBuf::from("a pack in memory"),
            Self::File(_, path) => path.clone(),
        };
        Error::CorruptFile { path, offset, reason: reason.to_owned() }
    }
}
