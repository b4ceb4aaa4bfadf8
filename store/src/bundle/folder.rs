//! A bundle as a folder, over an earlier one or anew.
//!
//! Files come under a temporary name, are synced some at a time, and renamed; the manifest is the last. Then what it does not
//! lead to goes. So a kill leaves the earlier bundle whole, and files that the next one uses or removes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind::NotFound, Read, Write as _};
use std::path::{Path, PathBuf};

use super::index::{Line, chunk_name, pack_name};
use super::sink::{ReadAt, copy_error};
use super::{Bundle, CHUNKS, INDEX, LOCK, MANIFEST, MARK, PACKS, Purpose, block_digests, chunk, lock_folder, sync_dir};
use crate::artifact::PackId;
use crate::error::{Error, Result};
use crate::id::Digest;

/// Files are synced and named when this many wait, or this many bytes.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: u64 = 64 << 20;
const NEW: &str = ".new";

pub(super) struct Folder {
    dir: PathBuf,
    _locked: File,
    /// What the earlier bundle lists, by file.
    earlier: BTreeMap<String, Line>,
    waiting: Vec<(File, PathBuf, PathBuf)>,
    waiting_bytes: u64,
}

impl Folder {
    /// Takes a folder: a new one, an empty one, or that of an earlier bundle for the same purpose.
    pub(super) fn open(dir: &Path, purpose: Purpose) -> Result<Self> {
        let is_earlier = check(dir, purpose)?;
        fs::create_dir_all(dir).map_err(|error| Error::io("make the folder", dir, error))?;
        let lock = lock_folder(&dir.join(LOCK), purpose.name(), dir)?;
        let mut folder = Self {
            dir: dir.to_path_buf(),
            _locked: lock,
            earlier: BTreeMap::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
        };
        if is_earlier {
            let lines = Bundle::open_locked(dir)?.lines()?;
            folder.earlier = lines.into_iter().map(|line| (line.file(), line)).collect();
        }
        for part in [CHUNKS, PACKS, INDEX] {
            let part = dir.join(part);
            fs::create_dir_all(&part).map_err(|error| Error::io("make the folder", &part, error))?;
        }
        folder.sweep(&|name| name.ends_with(NEW))?;
        sync_dir(dir)?;
        Ok(folder)
    }

    /// Whether the folder says already what it is.
    pub(super) fn is_marked(&self) -> bool {
        self.dir.join(MARK).exists()
    }

    /// How long the file of a chunk is, and its digest, if it is there and whole.
    pub(super) fn chunk(&self, digest: &Digest) -> Result<Option<(u64, Digest)>> {
        let name = chunk_name(digest);
        let path = self.dir.join(&name);
        if let Some(Line::Chunk(line)) = self.earlier.get(&name) {
            return Ok((length(&path)? == Some(line.n_stored)).then_some((line.n_stored, line.sum)));
        }
        // Left by one that was killed: no list vouches for it, so it is read.
        let stored = match fs::read(&path) {
            Err(error) if error.kind() == NotFound => return Ok(None),
            stored => stored.map_err(|error| Error::io("read", &path, error))?,
        };
        let is_it = chunk::restore(&stored).is_ok_and(|raw| Digest::of(&raw) == *digest);
        Ok(is_it.then(|| (stored.len() as u64, Digest::of(&stored))))
    }

    /// How long a pack was when the earlier bundle was written.
    pub(super) fn pack_was(&self, pack: PackId) -> Option<u64> {
        match self.earlier.get(&pack_name(pack)) {
            Some(Line::Pack(line)) => Some(line.n_bytes),
            _ => None,
        }
    }

    /// The digests of the blocks of a pack, if it is there and whole.
    pub(super) fn pack(&self, pack: PackId, n_bytes: u64, read_at: &mut ReadAt<'_>) -> Result<Option<Vec<Digest>>> {
        let name = pack_name(pack);
        let path = self.dir.join(&name);
        if length(&path)? != Some(n_bytes) {
            return Ok(None);
        }
        if let Some(Line::Pack(line)) = self.earlier.get(&name) {
            // A pack is never changed, so its name and its length are enough.
            return Ok((line.n_bytes == n_bytes).then(|| line.blocks.clone()));
        }
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let (mut here, mut there) = (Vec::new(), Vec::new());
        let mut read_here = |offset, bytes: &mut [u8]| {
            let read = std::os::unix::fs::FileExt::read_exact_at(&file, bytes, offset);
            read.map_err(|error| Error::io("read", &path, error))
        };
        block_digests(n_bytes, &mut read_here, &mut |_, block| {
            here.push(Digest::of(block));
            Ok(())
        })?;
        block_digests(n_bytes, read_at, &mut |_, block| {
            there.push(Digest::of(block));
            Ok(())
        })?;
        Ok((here == there).then_some(here))
    }

    /// Writes a file; it has its name once [`Self::settle`] was called.
    pub(super) fn put(&mut self, name: &str, n_bytes: u64, source: &mut dyn Read) -> Result<()> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!("{name}{NEW}"));
        let mut file = File::create(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
        io::copy(source, &mut file).map_err(|error| copy_error(temporary.clone(), error))?;
        self.waiting.push((file, temporary, path));
        self.waiting_bytes += n_bytes;
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES {
            self.settle()?;
        }
        Ok(())
    }

    /// Puts the manifest in place of an earlier one, and removes what it does not lead to.
    pub(super) fn finish(mut self, manifest: &[u8], keep: &BTreeSet<String>) -> Result<()> {
        self.settle()?;
        for part in [CHUNKS, PACKS, INDEX] {
            sync_dir(&self.dir.join(part))?;
        }
        let path = self.dir.join(MANIFEST);
        let temporary = self.dir.join(format!("{MANIFEST}{NEW}"));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(manifest)?;
            file.sync_all()
        });
        written.map_err(|error| Error::io("write", &temporary, error))?;
        fs::rename(&temporary, &path).map_err(|error| Error::io("rename", &temporary, error))?;
        sync_dir(&self.dir)?;
        self.sweep(&|name| !keep.contains(name))
    }

    /// Syncs what waits, and then names it.
    pub(super) fn settle(&mut self) -> Result<()> {
        for (file, temporary, _) in &self.waiting {
            file.sync_all().map_err(|error| Error::io("sync", temporary, error))?;
        }
        for (_, temporary, path) in self.waiting.drain(..) {
            fs::rename(&temporary, &path).map_err(|error| Error::io("rename", &temporary, error))?;
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Removes the files below the folder whose names are chosen.
    fn sweep(&self, goes: &dyn Fn(&str) -> bool) -> Result<()> {
        for part in [CHUNKS, PACKS, INDEX] {
            let dir = self.dir.join(part);
            let entries = dir.read_dir().map_err(|error| Error::io("list", &dir, error))?;
            for entry in entries {
                let path = entry.map_err(|error| Error::io("list", &dir, error))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if goes(&format!("{part}/{name}")) {
                    fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
                }
            }
        }
        Ok(())
    }
}

fn length(path: &Path) -> Result<Option<u64>> {
    match path.metadata() {
        Ok(data) => Ok(Some(data.len())),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Whether an earlier bundle is in the folder; refuses a folder of something else. Writes nothing.
fn check(dir: &Path, purpose: Purpose) -> Result<bool> {
    let expected = || format!("a new or an empty folder, or one with an earlier {}", purpose.name());
    let foreign = |got: String| Error::invalid(format!("`{}`", dir.display()), expected(), got);
    let entries = match dir.read_dir() {
        Err(error) if error.kind() == NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(foreign("a file".to_owned())),
        entries => entries.map_err(|error| Error::io("list", dir, error))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry.map_err(|error| Error::io("list", dir, error))?.file_name().to_string_lossy().into_owned());
    }
    if names.contains(MANIFEST) && names.contains(MARK) {
        let found = Bundle::open_locked(dir)?.purpose();
        return if found == purpose { Ok(true) } else { Err(foreign(format!("an {}", found.name()))) };
    }
    if names.contains(MARK) {
        super::source::check_mark(&dir.join(MARK), purpose)?;
        return Ok(false);
    }
    // A kill before the mark was named leaves these.
    let ours = [LOCK, CHUNKS, PACKS, INDEX, "BUNDLE.new"];
    match names.into_iter().find(|name| !ours.contains(&name.as_str())) {
        None => Ok(false),
        Some(name) => Err(foreign(format!("a folder with `{name}`"))),
    }
}
