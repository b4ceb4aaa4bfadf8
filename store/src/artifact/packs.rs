//! Packs: files of pieces, one after the other, beside the engine.
//!
//! A pack is written under a temporary name, synced, renamed and its folder synced; only then does a record name it.
//! What a kill leaves is a temporary file, or a pack no record names: garbage, never damage.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, hex};

/// The name of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PackId([u8; 16]);

impl PackId {
    fn file_name(self) -> String {
        format!("{}.pack", hex(&self.0))
    }
}

/// Where packs are kept.
pub(crate) enum Packs {
    /// In a folder, which is made when the first pack is.
    Dir(PathBuf),
    /// In memory, for stores in memory.
    Memory(Mutex<BTreeMap<PackId, Arc<Vec<u8>>>>),
}

impl Packs {
    pub(crate) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Starts a pack.
    pub(super) fn write(&self) -> Result<PackWriter<'_>> {
        let id = PackId(crate::clock::new_uuid().into_bytes());
        let sink = match self {
            Self::Memory(packs) => Sink::Memory(packs, Vec::new()),
            Self::Dir(dir) => {
                fs::create_dir_all(dir).map_err(|error| Error::io("make the folder", dir, error))?;
                let temporary = dir.join(format!("{}.new", id.file_name()));
                let file = File::create_new(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
                Sink::File { dir, temporary, file: Some(file) }
            }
        };
        Ok(PackWriter { id, sink, n_bytes: 0 })
    }

    /// Opens a pack for reading, if it is there.
    pub(super) fn open(&self, id: PackId) -> Result<Option<PackReader>> {
        match self {
            Self::Memory(packs) => {
                let packs = packs.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(packs.get(&id).cloned().map(PackReader::Memory))
            }
            Self::Dir(dir) => {
                let path = dir.join(id.file_name());
                match File::open(&path) {
                    Ok(file) => Ok(Some(PackReader::File(file, path))),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::io("open", &path, error)),
                }
            }
        }
    }

    /// The error for a pack that is named and not there.
    pub(super) fn gone(&self, id: PackId) -> Error {
        let path = match self {
            Self::Memory(_) => PathBuf::from(id.file_name()),
            Self::Dir(dir) => dir.join(id.file_name()),
        };
        Error::CorruptFile { path, offset: 0, reason: "the file is gone".to_owned() }
    }
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
                let mut packs = packs.lock().unwrap_or_else(PoisonError::into_inner);
                packs.insert(self.id, Arc::new(std::mem::take(bytes)));
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
pub(super) enum PackReader {
    Memory(Arc<Vec<u8>>),
    File(File, PathBuf),
}

impl PackReader {
    /// The bytes from `offset` on that fill `bytes`.
    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
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

    pub(super) fn damaged(&self, offset: u64, reason: &str) -> Error {
        let path = match self {
            Self::Memory(_) => PathBuf::from("a pack in memory"),
            Self::File(_, path) => path.clone(),
        };
        Error::CorruptFile { path, offset, reason: reason.to_owned() }
    }
}
