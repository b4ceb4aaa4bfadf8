//! Getting files: every piece is checked before a byte of it is handed out.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::vec::IntoIter;

use super::pieces::PieceReader;
use super::{FilePieces, Manifest, PieceRef, check_path};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::store::Store;

/// The bytes of a stored file, as they are asked for. Holds one piece, and what it is decoded from.
pub struct FileReader {
    pieces: IntoIter<PieceRef>,
    reader: PieceReader,
    piece: Vec<u8>,
    n_given: usize,
}

impl Store {
    /// The bytes of the file with this digest, from byte `from` on.
    ///
    /// Reading fails, wrapped in an [`io::Error`], with `Corrupt` or `CorruptFile` where a piece is damaged or gone.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Invalid` if `from` is past the end.
    pub fn open_file(&self, digest: Digest, from: u64) -> Result<FileReader> {
        let key = keys::file(&digest);
        let file: FilePieces = self.get_value(&key)?.ok_or_else(|| Error::missing("file", digest))?;
        if file.digest() != digest {
            return Err(Error::corrupt(&key, "the list of pieces has another digest"));
        }
        let mut pieces = file.pieces.into_iter().peekable();
        let mut n_left = from;
        while let Some(piece) = pieces.next_if(|piece| u64::from(piece.n_bytes) <= n_left && n_left > 0) {
            n_left -= u64::from(piece.n_bytes);
        }
        let pieces = pieces.collect::<Vec<_>>().into_iter();
        let mut reader = FileReader { pieces, reader: PieceReader::new(self.clone()), piece: Vec::new(), n_given: 0 };
        if n_left > 0 {
            let past_end = || Error::invalid("the first byte to read", "within the file", from);
            reader.turn()?.then_some(()).ok_or_else(past_end)?;
            reader.n_given = n_left as usize;
        }
        Ok(reader)
    }

    /// The whole file with this digest; for files known to be small.
    ///
    /// # Errors
    /// As [`Store::open_file`].
    pub fn read_file(&self, digest: Digest) -> Result<Vec<u8>> {
        let mut reader = self.open_file(digest, 0)?;
        let mut bytes = Vec::new();
        while reader.turn()? {
            bytes.extend_from_slice(&reader.piece);
        }
        Ok(bytes)
    }

    /// Writes the files of an artifact below `dir`, which is made if need be. Files already there are replaced, each at once.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `CorruptFile`, `Io`.
    pub fn export_artifact(&self, manifest: Digest, dir: &Path) -> Result<Manifest> {
        let manifest: Manifest = self.content(manifest)?;
        for file in &manifest.files {
            check_path(&file.path)?;
            let path = dir.join(&file.path);
            let folder = path.parent().unwrap_or(dir);
            fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
            let temporary = folder.join(format!(".{}.new", file.digest.short()));
            let written = self.write_file(file.digest, &temporary);
            if written.is_err() {
                drop(fs::remove_file(&temporary));
            }
            written?;
            fs::rename(&temporary, &path).map_err(|error| Error::io("rename", &temporary, error))?;
        }
        Ok(manifest)
    }

    fn write_file(&self, digest: Digest, path: &Path) -> Result<()> {
        let mut reader = self.open_file(digest, 0)?;
        let mut file = File::create(path).map_err(|error| Error::io("create", path, error))?;
        while reader.turn()? {
            file.write_all(&reader.piece).map_err(|error| Error::io("write", path, error))?;
        }
        Ok(())
    }
}

impl FileReader {
    /// Reads and checks the next piece; false at the end.
    fn turn(&mut self) -> Result<bool> {
        let Some(wanted) = self.pieces.next() else {
            return Ok(false);
        };
        self.n_given = 0;
        // A piece that fails leaves nothing to hand out.
        let mut piece = std::mem::take(&mut self.piece);
        self.reader.read(wanted, &mut piece)?;
        self.piece = piece;
        Ok(true)
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.n_given >= self.piece.len() {
            if buffer.is_empty() || !self.turn().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let rest = &self.piece[self.n_given..];
        let n_bytes = rest.len().min(buffer.len());
        buffer[..n_bytes].copy_from_slice(&rest[..n_bytes]);
        self.n_given += n_bytes;
        Ok(n_bytes)
    }
}
