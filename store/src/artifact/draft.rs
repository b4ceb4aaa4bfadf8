//! Putting files: cut, looked up, packed, and named in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tracker_engine::Batch;

use super::base::Base;
use super::packs::PackWriter;
use super::pieces::PieceReader;
use super::split::{Part, split};
use super::words::{Coding, Words};
use super::{Coded, FileEntry, FilePieces, Manifest, PackId, Piece, PieceRef, Place, check_path, gate};
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
    base: Base,
    new_pieces: BTreeMap<Digest, Piece>,
    /// Pieces of the store that what is added leans on.
    pub(super) used: BTreeSet<Digest>,
    /// What was collected last when the draft was begun.
    pub(super) seen: gate::Mark,
    /// The pack, once it is whole.
    pub(super) sealed: Option<PackId>,
    reader: PieceReader,
    pack: Option<PackWriter<'a>>,
}

impl Store {
    /// Starts an artifact whose files are of this kind: `model`, `dataset`, `exchanges`.
    ///
    /// # Errors
    /// `Invalid` if the kind is empty or has control characters; the engine's.
    pub fn draft(&self, kind: &str) -> Result<Draft<'_>> {
        keys::check_text("the kind of an artifact", kind)?;
        Ok(Draft {
            store: self,
            kind: kind.to_owned(),
            files: BTreeMap::new(),
            base: Base::default(),
            new_pieces: BTreeMap::new(),
            used: BTreeSet::new(),
            seen: gate::collected(self)?,
            sealed: None,
            reader: PieceReader::new(self.clone()),
            pack: None,
        })
    }
}

impl<'a> Draft<'a> {
    /// Tells the tensors of files added from now on as differences from those of the files in `manifest` that have the same name, type and
    /// shape, where that is smaller. Reads the headers of its files. Called again, it adds tensors of other names.
    ///
    /// The files and their digests are the same with or without it; what is stored is less if the weights moved little.
    ///
    /// # Errors
    /// `NotFound` if the version or its files are not there; `Corrupt`, `CorruptFile`.
    pub fn based_on(&mut self, manifest: Digest) -> Result<()> {
        self.base.add(self.store, manifest)
    }

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
        split(path, source, &mut |piece, part| -> Result<(), Failure> {
            pieces.push(self.put_piece(piece, part).map_err(Failure::Store)?);
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
        if let Some(pack) = self.pack.take() {
            self.sealed = Some(pack.id());
            pack.finish()?;
        }
        Ok(())
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

    fn put_piece(&mut self, bytes: &[u8], part: Part<'_>) -> Result<PieceRef> {
        let digest = Digest::of(bytes);
        let piece = PieceRef { digest, n_bytes: bytes.len() as u32 };
        if self.new_pieces.contains_key(&digest) {
            return Ok(piece);
        }
        if self.store.get(&keys::piece(&digest))?.is_some() {
            self.used.insert(digest);
            return Ok(piece);
        }
        if self.new_pieces.len() >= MAX_PIECES {
            return Err(Error::invalid("an artifact", format!("of at most {MAX_PIECES} new pieces"), "more"));
        }
        let words = part.and_then(|(tensor, _)| Words::of(tensor.dtype)).filter(|words| words.divide(bytes.len()));
        let place = match (words, part) {
            _ if bytes.len() <= INLINE_BYTES => Place::Inline(bytes.to_vec()),
            (Some(words), Some((tensor, nth))) => {
                let base = self.base.piece(tensor, nth).filter(|base| base.n_bytes == piece.n_bytes);
                self.put_words(bytes, words, base)?
            }
            _ => self.put_raw(bytes)?,
        };
        self.new_pieces.insert(digest, Piece { place });
        Ok(piece)
    }

    fn put_raw(&mut self, bytes: &[u8]) -> Result<Place> {
        let pack = self.pack()?;
        let offset = pack.append(bytes)?;
        Ok(Place::Packed(pack.id(), offset))
    }

    /// Packs words in the coding that is smallest. What `base` itself is the difference from takes its place, so that no
    /// delta rests on another.
    fn put_words(&mut self, bytes: &[u8], words: Words, base: Option<PieceRef>) -> Result<Place> {
        let root = base.map(|base| self.root(base)).transpose()?.flatten();
        let mut base = Vec::new();
        if let Some((root, _)) = root {
            self.reader.read(root, &mut base)?;
        }
        let base_bytes = root.map(|_| base.as_slice()).filter(|base| base.len() == bytes.len());
        let coding = words.choose(bytes, base_bytes)?;
        let base_bytes = base_bytes.filter(|_| coding == Coding::Delta);
        if coding == Coding::Raw {
            return self.put_raw(bytes);
        }
        let coded = words.code(bytes, base_bytes)?;
        if coded.len() >= bytes.len() {
            return self.put_raw(bytes);
        }
        let mut base_digest = None;
        if let (Some(base), Some((root, is_coded))) = (base_bytes, root) {
            self.used.insert(root.digest);
            base_digest = Some(root.digest);
            // Decoding twice for each read of a delta would halve the speed of every one to come: the root is laid down raw.
            if is_coded && !self.new_pieces.contains_key(&root.digest) {
                let place = self.put_raw(base)?;
                self.new_pieces.insert(root.digest, Piece { place });
            }
        }
        let pack = self.pack()?;
        let offset = pack.append(&coded)?;
        let (pack, n_stored) = (pack.id(), coded.len() as u32);
        Ok(Place::Coded(Coded { pack, offset, n_stored, sum: Digest::of(&coded), words, base: base_digest }))
    }

    /// The piece without a base that `base` comes from, and whether it is coded; none if it is not in a pack.
    fn root(&self, base: PieceRef) -> Result<Option<(PieceRef, bool)>> {
        let key = keys::piece(&base.digest);
        let piece: Option<Piece> = self.store.get_value(&key)?;
        let piece = piece.ok_or_else(|| Error::corrupt(&key, "the piece of a file is not there"))?;
        match piece.place {
            Place::Inline(_) => Ok(None),
            Place::Packed(..) => Ok(Some((base, false))),
            Place::Coded(Coded { base: None, .. }) => Ok(Some((base, true))),
            Place::Coded(Coded { base: Some(root), .. }) => {
                let root = PieceRef { digest: root, ..base };
                let piece: Option<Piece> = self.store.get_value(&keys::piece(&root.digest))?;
                Ok(Some((root, piece.is_some_and(|piece| matches!(piece.place, Place::Coded(_))))))
            }
        }
    }

    fn pack(&mut self) -> Result<&mut PackWriter<'a>> {
        Ok(match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(self.store.packs().write()?),
        })
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
