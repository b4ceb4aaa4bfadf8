//! Where a bundle is written to: a folder, a tar file, a stream of tar.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::folder::Folder;
use super::index::{self, ChunkLine, Line, PackLine, chunk_name, index_name, pack_name};
use super::{
    BLOCK_BYTES, BUNDLE_FORMAT, Chunk, Counts, MANIFEST, MARK, Manifest, Purpose, RunFacts, StoreFacts, block_digests,
};
use crate::artifact::PackId;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, RunId};

/// Where a bundle goes.
pub enum Target<'a> {
    /// A folder, which may hold an earlier one: what is there already is not written again.
    Folder(&'a Path),
    /// One tar file, which appears whole.
    File(&'a Path),
    /// A stream of tar, that is whole once its end was written.
    Stream(&'a mut dyn Write),
}

enum Place<'a> {
    Folder(Box<Folder>),
    Archive(Archive<'a>),
}

/// What a pack is read by: from an offset on, as many bytes as there is room for.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> Result<()> + 'a;

/// A bundle that is being written. Dropped before it is finished, it leaves an earlier one as it was.
pub(crate) struct Sink<'a> {
    purpose: Purpose,
    place: Place<'a>,
    lines: Vec<Line>,
    records: blake3::Hasher,
    counts: Counts,
    /// What was written of this bundle, and what of that was there before.
    put: BTreeSet<String>,
    written_bytes: u64,
    kept_bytes: u64,
}

/// What was written.
pub(crate) struct Totals {
    pub(crate) manifest: Manifest,
    /// Bytes of files that were written now.
    pub(crate) written_bytes: u64,
    /// Bytes of files that were there already.
    pub(crate) kept_bytes: u64,
}

impl<'a> Sink<'a> {
    /// Begins a bundle.
    ///
    /// # Errors
    /// `Invalid` if the folder is something else, or the file is there; `Newer`, `CorruptFile` of an earlier bundle; `Contended`; `Io`.
    pub(crate) fn open(target: Target<'a>, purpose: Purpose) -> Result<Self> {
        let mut sink = Self {
            purpose,
            place: match target {
                Target::Folder(dir) => Place::Folder(Box::new(Folder::open(dir, purpose)?)),
                Target::File(path) => Place::Archive(Archive::create(path)?),
                Target::Stream(stream) => Place::Archive(Archive::over(stream)),
            },
            lines: Vec::new(),
            records: blake3::Hasher::new(),
            counts: Counts::default(),
            put: BTreeSet::new(),
            written_bytes: 0,
            kept_bytes: 0,
        };
        if !sink.is_marked() {
            sink.put_bytes(MARK, purpose.mark().as_bytes())?;
        }
        if let Place::Folder(folder) = &mut sink.place {
            // Whatever comes of it, the folder says from now on what it is.
            folder.settle()?;
        }
        Ok(sink)
    }

    /// Whether the place says already what it is.
    fn is_marked(&self) -> bool {
        match &self.place {
            Place::Folder(folder) => folder.is_marked(),
            Place::Archive(_) => false,
        }
    }

    /// Forgets what was listed, to begin again with another state of the store; what was written stays and is used.
    pub(crate) fn begin(&mut self) {
        self.lines.clear();
        self.records.reset();
        self.counts = Counts::default();
    }

    /// The counts so far, to be added to.
    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Adds a chunk; in an export, of `run`.
    pub(crate) fn chunk(&mut self, chunk: &Chunk, run: Option<RunId>) -> Result<()> {
        let digest = chunk.digest();
        let name = chunk_name(&digest);
        let earlier = match &mut self.place {
            Place::Folder(folder) => folder.chunk(&digest)?,
            Place::Archive(_) => None,
        };
        let (n_stored, sum) = if let Some(earlier) = earlier {
            self.kept_bytes += earlier.0;
            self.put.insert(name);
            earlier
        } else {
            let stored = chunk.stored()?;
            self.put_bytes(&name, &stored)?;
            (stored.len() as u64, Digest::of(&stored))
        };
        self.records.update(digest.as_bytes());
        self.counts.chunks += 1;
        self.counts.entries += chunk.n_entries;
        self.counts.record_bytes += chunk.raw.len() as u64;
        self.counts.stored_bytes += n_stored;
        let (n_bytes, n_entries) = (chunk.raw.len() as u64, chunk.n_entries);
        self.lines.push(Line::Chunk(ChunkLine { chunk: digest, n_bytes, n_entries, n_stored, sum, run }));
        Ok(())
    }

    /// How long a pack was when it was written to this place before.
    pub(crate) fn pack_was(&self, pack: PackId) -> Option<u64> {
        match &self.place {
            Place::Folder(folder) => folder.pack_was(pack),
            Place::Archive(_) => None,
        }
    }

    /// Adds a pack of `n_bytes`, which `read_at` reads.
    pub(crate) fn pack(&mut self, pack: PackId, n_bytes: u64, read_at: &mut ReadAt<'_>) -> Result<()> {
        let name = pack_name(pack);
        let earlier = match &mut self.place {
            Place::Folder(folder) => folder.pack(pack, n_bytes, read_at)?,
            Place::Archive(_) => None,
        };
        let blocks = if let Some(blocks) = earlier {
            self.kept_bytes += n_bytes;
            self.put.insert(name);
            blocks
        } else if self.put.contains(&name) {
            // In this archive already: an earlier state of the store named it too.
            let mut blocks = Vec::new();
            block_digests(n_bytes, read_at, &mut |_, block| {
                blocks.push(Digest::of(block));
                Ok(())
            })?;
            blocks
        } else {
            let mut stream =
                PackStream { read_at, n_bytes, offset: 0, block: Vec::new(), n_given: 0, blocks: Vec::new() };
            self.put(&name, n_bytes, &mut stream)?;
            stream.blocks
        };
        self.counts.packs += 1;
        self.counts.pack_bytes += n_bytes;
        self.lines.push(Line::Pack(PackLine { pack, n_bytes, blocks }));
        Ok(())
    }

    /// Writes index and manifest: the bundle is whole, and takes the place of an earlier one.
    pub(crate) fn finish(mut self, store: StoreFacts, runs: Vec<RunFacts>) -> Result<Totals> {
        let index = index::write(&self.lines)?;
        let digest = Digest::of(&index);
        self.put_bytes(&index_name(&digest), &index)?;
        let manifest = Manifest {
            what: self.purpose,
            format: BUNDLE_FORMAT,
            made: Timestamp::now(),
            by: format!("tracker {}", env!("CARGO_PKG_VERSION")),
            store,
            counts: self.counts,
            records: self.records.finalize().into(),
            index: digest,
            index_bytes: index.len() as u64,
            runs,
        };
        let text = manifest.to_text()?;
        self.written_bytes += text.len() as u64;
        match self.place {
            Place::Folder(folder) => folder.finish(text.as_bytes(), &self.put)?,
            Place::Archive(mut archive) => {
                archive.put(MANIFEST, text.len() as u64, &mut text.as_bytes())?;
                archive.finish()?;
            }
        }
        Ok(Totals { manifest, written_bytes: self.written_bytes, kept_bytes: self.kept_bytes })
    }

    fn put_bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        self.put(name, bytes.len() as u64, &mut bytes)
    }

    /// Writes a file, unless this bundle has it already.
    fn put(&mut self, name: &str, n_bytes: u64, source: &mut dyn Read) -> Result<()> {
        if !self.put.insert(name.to_owned()) {
            return Ok(());
        }
        self.written_bytes += n_bytes;
        match &mut self.place {
            Place::Folder(folder) => folder.put(name, n_bytes, source),
            Place::Archive(archive) => archive.put(name, n_bytes, source),
        }
    }
}

/// A pack as a stream; takes the digests of its blocks as they go by.
struct PackStream<'a, 'b> {
    read_at: &'a mut ReadAt<'b>,
    n_bytes: u64,
    offset: u64,
    block: Vec<u8>,
    n_given: usize,
    blocks: Vec<Digest>,
}

impl Read for PackStream<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.n_given == self.block.len() {
            let n = (self.n_bytes - self.offset).min(BLOCK_BYTES as u64) as usize;
            if n == 0 || buffer.is_empty() {
                return Ok(0);
            }
            self.block.resize(n, 0);
            (self.read_at)(self.offset, &mut self.block).map_err(io::Error::other)?;
            self.offset += n as u64;
            self.n_given = 0;
            self.blocks.push(Digest::of(&self.block));
        }
        let rest = &self.block[self.n_given..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.n_given += n;
        Ok(n)
    }
}

/// The error of a copy: the store's own where its source was the store, else of writing `path`.
pub(super) fn copy_error(path: PathBuf, error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(own) => own.clone(),
        None => Error::io("write", path, error),
    }
}
