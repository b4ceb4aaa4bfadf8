//! Putting files: cut, looked up, packed, and named in one commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tracker_engine::Batch;

use super::packs::PackWriter;
use super::split::split;
use super::{FileEntry, FilePieces, Manifest, Piece, PieceRef, Place, check_path};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// Pieces up to this size lie in their record.
const INLINE_BYTES: usize = 8 << 10;
/// The most pieces of one draft, so that naming them fits one commit.
const MAX_PIECES: usize = 200_000;

/// An artifact that is being put together. Dropped before it is [saved](Draft::save), it leaves nothing.
pub struct Draft<'a> {
    pub(super) store: &'a Store,
    kind: String,
    files: BTreeMap<String, (FileEntry, FilePieces)>,
    new_pieces: BTreeMap<Digest, Piece>,
    pack: Option<PackWriter<'a>>,
}

impl Store {
    /// Starts an artifact whose files are of this kind: `model`, `dataset`, `exchanges`.
    ///
    /// # Errors
    /// `Invalid` if the kind is empty or has control characters.
    pub fn draft(&self, kind: &str) -> Result<Draft<'_>> {
        keys::check_text("the kind of an artifact", kind)?;
        Ok(Draft {
            store: self,
            kind: kind.to_owned(),
            files: BTreeMap::new(),
            new_pieces: BTreeMap::new(),
            pack: None,
        })
    }
}

impl Draft<'_> {
    /// Adds a file at `path` with what `source` gives. Holds a few MiB at a time.
    ///
    /// # Errors
    /// `Invalid` if the path is not plain or there is a file at it; `Io` if `source` fails; the store's.
    pub fn add(&mut self, path: &str, source: &mut dyn Read) -> Result<FileEntry> {
        check_path(path)?;
        if self.files.contains_key(path) {
            return Err(Error::invalid("the path of a file", "that of one file of the artifact", path));
        }
        let mut pieces = Vec::new();
        let mut n_bytes = 0;
        split(path, source, &mut |piece| -> Result<(), Failure> {
            pieces.push(self.put_piece(piece).map_err(Failure::Store)?);
            n_bytes += piece.len() as u64;
            Ok(())
        })
        .map_err(|failure| match failure {
            Failure::Store(error) => error,
            Failure::Source(error) => Error::io("read the source of", path, error),
        })?;
        let pieces = FilePieces { pieces };
        let entry = FileEntry { path: path.to_owned(), n_bytes, digest: pieces.digest() };
        self.files.insert(path.to_owned(), (entry.clone(), pieces));
        Ok(entry)
    }

    /// Adds the file on disk at `from` as `path`; or, if `from` is a folder, the files below it, under `path` (which may
    /// then be empty). Links are followed to files, not to folders.
    ///
    /// # Errors
    /// As [`Draft::add`]; `Invalid` if a name is not UTF-8.
    pub fn add_from(&mut self, path: &str, from: &Path) -> Result<()> {
        let failed = |error| Error::io("read", from, error);
        if !from.is_dir() {
            // A pipe or a socket would be waited for, perhaps for ever.
            if !from.metadata().map_err(failed)?.is_file() {
                return Err(Error::invalid("what is stored", "files and folders", from.display()));
            }
            let mut file = File::open(from).map_err(failed)?;
            self.add(path, &mut file)?;
            return Ok(());
        }
        let mut names: Vec<_> = from.read_dir().map_err(failed)?.collect::<io::Result<_>>().map_err(failed)?;
        names.sort_by_key(std::fs::DirEntry::file_name);
        for entry in names {
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| Error::invalid("a file name", "UTF-8", name.display()))?;
            let is_linked_folder = entry.file_type().map_err(failed)?.is_symlink() && entry.path().is_dir();
            if !is_linked_folder {
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                self.add_from(&below, &entry.path())?;
            }
        }
        Ok(())
    }

    /// What the files are together.
    pub(super) fn manifest(&self) -> Manifest {
        Manifest { kind: self.kind.clone(), files: self.files.values().map(|(entry, _)| entry.clone()).collect() }
    }

    /// Makes what was packed whole, before anything names it.
    pub(super) fn seal(&mut self) -> Result<()> {
        self.pack.take().map_or(Ok(()), PackWriter::finish)
    }

    /// Names files and pieces in `batch`.
    pub(super) fn plan(&self, batch: &mut Batch) -> Result<()> {
        for (digest, piece) in &self.new_pieces {
            batch.put(&keys::piece(digest), &piece.encode()?);
        }
        for (entry, pieces) in self.files.values() {
            batch.put(&keys::file(&entry.digest), &pieces.encode()?);
        }
        Ok(())
    }

    fn put_piece(&mut self, bytes: &[u8]) -> Result<PieceRef> {
        let digest = Digest::of(bytes);
        let piece = PieceRef { digest, n_bytes: bytes.len() as u32 };
        if self.new_pieces.contains_key(&digest) || self.store.get(&keys::piece(&digest))?.is_some() {
            return Ok(piece);
        }
        if self.new_pieces.len() >= MAX_PIECES {
            return Err(Error::invalid("an artifact", format!("of at most {MAX_PIECES} new pieces"), "more"));
        }
        let place = if bytes.len() <= INLINE_BYTES {
            Place::Inline(bytes.to_vec())
        } else {
            let pack = match &mut self.pack {
                Some(pack) => pack,
                none => none.insert(self.store.packs().write()?),
            };
            let offset = pack.append(bytes)?;
            Place::Packed(pack.id(), offset)
        };
        self.new_pieces.insert(digest, Piece { place });
        Ok(piece)
    }
}

/// Why a file could not be added: its source, or the store.
enum Failure {
    Source(io::Error),
    Store(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}
