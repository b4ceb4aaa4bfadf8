//! Reading a bundle, from a folder or a tar file.
//!
//! Invariant: nothing is written, and no byte is handed out that was not checked against its digest, but by [`Reader`], which
//! says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind::NotFound, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{self, ChunkLine, Line, PackLine, chunk_name, index_name, pack_name};
use super::{
    BUNDLE_FORMAT, CHUNKS, Counts, INDEX, LOCK, MANIFEST, MARK, Manifest, PACKS, Purpose, RunFacts, archive,
    block_digests, chunk,
};
use crate::error::{Error, Result};
use crate::id::Digest;

const TAR_BLOCK: u64 = 512;
/// What a tar ends with.
const TAR_END_BYTES: u64 = 2 * TAR_BLOCK;
/// What is expected where there is something else.
const OURS: &str = "a backup or an export of tracker";
/// The longest that texts of a bundle can sensibly be: an index of a billion pieces.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// A bundle that lies somewhere: its manifest was read, and is sound.
pub struct Bundle {
    path: PathBuf,
    files: BTreeMap<String, Extent>,
    manifest: Manifest,
    _locked: Option<File>,
}

/// Where the bytes of a file of a bundle are.
#[derive(Clone, Debug)]
struct Extent {
    path: PathBuf,
    /// The tar it is in; a file of its own without one.
    tar: Option<Arc<File>>,
    offset: u64,
    n_bytes: u64,
}

/// The bytes of one file of a bundle, as they are.
pub(crate) struct Reader {
    file: Arc<File>,
    extent: Extent,
}

impl Bundle {
    /// Opens the bundle at `path`: a folder, or a tar file.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is no bundle; `Newer`; `CorruptFile` if its manifest is damaged, or was never written; `Contended` if
    /// it is being written; `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        let data = path.metadata().map_err(|error| match error.kind() {
            NotFound => Error::missing("bundle", path.display()),
            _ => Error::io("read", path, error),
        })?;
        if !data.is_dir() {
            let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
            return Self::over(path, files_of_tar(path, file)?, None);
        }
        // Where the lock cannot be opened nobody writes either.
        let locked = File::open(path.join(LOCK)).ok();
        if let Some(file) = &locked
            && matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
        {
            return Err(Error::Contended { what: "bundle", name: path.display().to_string() });
        }
        Self::over(path, files_of_folder(path)?, locked)
    }

    /// The bundle in a stream of tar, which is kept without a name in the folder `beside` for as long as the bundle is open.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn from_stream(stream: &mut dyn Read, beside: &Path) -> Result<Self> {
        let path = beside.join(format!(".tracker.{}.stream", crate::clock::new_uuid().simple()));
        let failed = |error| Error::io("write", &path, error);
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        std::io::copy(stream, &mut file).map_err(failed)?;
        let name = Path::new("-");
        Self::over(name, files_of_tar(name, file)?, None)
    }

    /// As [`Bundle::open`], for who holds the folder's lock, or asks what it is.
    pub(super) fn open_locked(dir: &Path) -> Result<Self> {
        Self::over(dir, files_of_folder(dir)?, None)
    }

    fn over(path: &Path, files: BTreeMap<String, Extent>, locked: Option<File>) -> Result<Self> {
        let Some(extent) = files.get(MANIFEST) else {
            let Some(mark) = files.get(MARK) else {
                return Err(Error::invalid(format!("`{}`", path.display()), OURS, "something else"));
            };
            if let Some(found) = format_of(&mark.whole()?) {
                refuse_newer(path, found)?;
            }
            let reason = format!("there is no `{MANIFEST}`: it was not finished, or is cut short");
            return Err(Error::CorruptFile { path: path.to_path_buf(), offset: 0, reason });
        };
        let manifest = Manifest::read(&extent.whole()?, path, &|offset, reason| extent.damaged(offset, &reason))?;
        let bundle = Self { path: path.to_path_buf(), files, manifest, _locked: locked };
        let mark = bundle.reader(MARK)?;
        let (got, expected) = (mark.extent.whole()?, bundle.purpose().mark());
        let differs = got.iter().zip(expected.as_bytes()).position(|(a, b)| a != b);
        if let Some(at) = differs.or_else(|| (got.len() != expected.len()).then_some(got.len().min(expected.len()))) {
            return Err(mark.damaged(at as u64, "it is not the line that says what the bundle is"));
        }
        Ok(bundle)
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.manifest.what
    }

    /// How much is in it.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.manifest.counts
    }

    /// The runs of an export, by id.
    #[must_use]
    pub fn runs(&self) -> &[RunFacts] {
        &self.manifest.runs
    }

    /// What its manifest says, as JSON.
    #[must_use]
    pub fn facts(&self) -> serde_json::Value {
        serde_json::to_value(&self.manifest).unwrap_or_default()
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What errors call it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its chunks and packs, in order.
    pub(crate) fn lines(&self) -> Result<Vec<Line>> {
        let index = self.reader(&index_name(&self.manifest.index))?;
        let text = index.extent.whole()?;
        if Digest::of(&text) != self.manifest.index {
            return Err(index.damaged(0, "it has another digest than the manifest says"));
        }
        index::read(&text).map_err(|reason| index.damaged(0, &reason))
    }

    /// The entries of a chunk, as they are laid out; checked.
    pub(crate) fn chunk(&self, line: &ChunkLine) -> Result<Vec<u8>> {
        let reader = self.reader(&chunk_name(&line.chunk))?;
        reader.expect_bytes(line.n_stored)?;
        let stored = reader.extent.whole()?;
        if Digest::of(&stored) != line.sum {
            return Err(reader.damaged(0, "the chunk there has another digest than the index says"));
        }
        let raw = chunk::restore(&stored).map_err(|reason| reader.damaged(0, &reason))?;
        if Digest::of(&raw) != line.chunk {
            return Err(reader.damaged(0, "its entries have another digest than its name says"));
        }
        Ok(raw)
    }

    /// Calls `take` with each block of a pack and its offset, once it was checked.
    pub(crate) fn pack(&self, line: &PackLine, take: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let reader = self.reader(&pack_name(line.pack))?;
        reader.expect_bytes(line.n_bytes)?;
        let mut blocks = line.blocks.iter();
        block_digests(line.n_bytes, &mut |offset, bytes| reader.read_at(offset, bytes), &mut |offset, block| {
            if blocks.next() != Some(&Digest::of(block)) {
                return Err(reader.damaged(offset, "the block there has another digest than the index says"));
            }
            take(offset, block)
        })
    }

    /// One of its files, unchecked.
    pub(crate) fn pack_reader(&self, line: &PackLine) -> Result<Reader> {
        self.reader(&pack_name(line.pack))
    }

    fn reader(&self, name: &str) -> Result<Reader> {
        let gone =
            || Error::CorruptFile { path: self.path.join(name), offset: 0, reason: "the file is gone".to_owned() };
        self.files.get(name).ok_or_else(gone)?.open()
    }
}

impl Extent {
    fn open(&self) -> Result<Reader> {
        let file = match &self.tar {
            Some(file) => Arc::clone(file),
            None => Arc::new(File::open(&self.path).map_err(|error| Error::io("open", &self.path, error))?),
        };
        Ok(Reader { file, extent: self.clone() })
    }

    /// All its bytes, for files known to be small.
    fn whole(&self) -> Result<Vec<u8>> {
        if self.n_bytes > MAX_TEXT_BYTES {
            return Err(self.damaged(0, &format!("it has `{}` bytes, and such files have less", self.n_bytes)));
        }
        let mut bytes = vec![0; self.n_bytes as usize];
        self.open()?.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::CorruptFile { path: self.path.clone(), offset: self.offset + offset, reason: reason.to_owned() }
    }
}

impl Reader {
    /// Fills `bytes` from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.extent.n_bytes) {
            return Err(self.damaged(self.extent.n_bytes, "it ends too early"));
        }
        self.file.read_exact_at(bytes, self.extent.offset + offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged(offset, "it ends too early"),
            _ => Error::io("read", &self.extent.path, error),
        })
    }

    /// The error for damage at an offset of the file.
    pub(crate) fn damaged(&self, offset: u64, reason: &str) -> Error {
        self.extent.damaged(offset, reason)
    }

    fn expect_bytes(&self, n_bytes: u64) -> Result<()> {
        let got = self.extent.n_bytes;
        if got == n_bytes {
            return Ok(());
        }
        Err(self.damaged(got.min(n_bytes), &format!("expected `{n_bytes}` bytes, got `{got}`")))
    }
}

/// Refuses a folder that a bundle for another purpose, or of a newer format, was begun in.
pub(super) fn check_mark(path: &Path, purpose: Purpose) -> Result<()> {
    let text = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    if text == purpose.mark().as_bytes() {
        return Ok(());
    }
    if let Some(found) = format_of(&text) {
        refuse_newer(path, found)?;
    }
    let what = format!("`{}`", path.display());
    Err(Error::invalid(what, format!("`{}`", purpose.mark().trim_end()), String::from_utf8_lossy(&text).trim_end()))
}

/// The format that a mark names.
fn format_of(mark: &[u8]) -> Option<u32> {
    std::str::from_utf8(mark).ok()?.strip_prefix("tracker ")?.split_once(", format ")?.1.trim_end().parse().ok()
}

fn refuse_newer(path: &Path, found: u32) -> Result<()> {
    if found <= BUNDLE_FORMAT {
        return Ok(());
    }
    Err(Error::Newer { path: path.to_path_buf(), found, supported: BUNDLE_FORMAT })
}

fn files_of_folder(dir: &Path) -> Result<BTreeMap<String, Extent>> {
    let mut files = BTreeMap::new();
    for part in ["", CHUNKS, PACKS, INDEX] {
        let folder = if part.is_empty() { dir.to_path_buf() } else { dir.join(part) };
        let failed = |error| Error::io("list", &folder, error);
        let entries = match folder.read_dir() {
            Err(error) if error.kind() == NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if part.is_empty() { name } else { format!("{part}/{name}") };
            let path = entry.path();
            let data = path.metadata().map_err(|error| Error::io("read", &path, error))?;
            if data.is_file() && index::is_ours(&name) {
                files.insert(name, Extent { path, tar: None, offset: 0, n_bytes: data.len() });
            }
        }
    }
    Ok(files)
}

/// The files of a tar, which must be to the byte as a bundle's tar is.
fn files_of_tar(path: &Path, file: File) -> Result<BTreeMap<String, Extent>> {
    let n_bytes = file.metadata().map_err(|error| Error::io("read", path, error))?.len();
    let tar = Extent { path: path.to_path_buf(), tar: Some(Arc::new(file)), offset: 0, n_bytes };
    let reader = tar.open()?;
    let mut files = BTreeMap::new();
    let mut at = 0;
    loop {
        let mut block = [0; TAR_BLOCK as usize];
        reader.read_at(at, &mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let (name, n_bytes) = head(&block).map_err(|reason| {
            if files.is_empty() && is_foreign(&block) {
                return Error::invalid(format!("`{}`", path.display()), OURS, "something else");
            }
            reader.damaged(at, reason)
        })?;
        at += TAR_BLOCK;
        let end = at.checked_add(n_bytes).filter(|end| *end <= tar.n_bytes);
        let end = end.ok_or_else(|| reader.damaged(at, "the tar is cut short in the file there"))?;
        files.insert(name, Extent { offset: at, n_bytes, ..tar.clone() });
        let padded = end.next_multiple_of(TAR_BLOCK);
        expect_zeros(&reader, end, padded)?;
        at = padded;
    }
    expect_zeros(&reader, at, at + TAR_END_BYTES)?;
    if tar.n_bytes != at + TAR_END_BYTES {
        return Err(reader.damaged(at + TAR_END_BYTES, "something follows the end of the tar"));
    }
    Ok(files)
}

/// The name and the size in the head of a file in a tar; the reason if it is not as a bundle's is. Which byte of it is wrong
/// cannot be told: the sum in it is over them all.
fn head(block: &[u8; TAR_BLOCK as usize]) -> Result<(String, u64), &'static str> {
    let header = tar::Header::from_byte_slice(block);
    let path = header.path().map_err(|_| "expected the name of a file of a bundle")?;
    let name = path.to_str().filter(|name| index::is_ours(name)).ok_or("expected the name of a file of a bundle")?;
    let n_bytes = header.entry_size().map_err(|_| "expected the size of a file")?;
    let mut expected = archive::header(n_bytes);
    expected.set_path(name).map_err(|_| "expected the name of a file of a bundle")?;
    expected.set_cksum();
    if expected.as_bytes() == block {
        Ok((name.to_owned(), n_bytes))
    } else {
        Err("the head of a file is not as a bundle's tar has it")
    }
}

/// Whether a file that begins with this block is something else, rather than a damaged bundle: every one of those begins alike.
fn is_foreign(block: &[u8; TAR_BLOCK as usize]) -> bool {
    const MAX_DAMAGED: usize = 16;
    let mut first = archive::header(Purpose::Backup.mark().len() as u64);
    if first.set_path(MARK).is_err() {
        return true;
    }
    first.set_cksum();
    first.as_bytes().iter().zip(block).filter(|(a, b)| a != b).count() > MAX_DAMAGED
}

fn expect_zeros(reader: &Reader, from: u64, to: u64) -> Result<()> {
    let mut bytes = vec![0; (to - from) as usize];
    reader.read_at(from, &mut bytes)?;
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(reader.damaged(from + at as u64, "expected zeros between the files of the tar")),
    }
}
