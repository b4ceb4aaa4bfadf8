//! Writing the engine's file anew from what can be read of a damaged one, and opening a store alone.
//!
//! Invariants: the damaged file is kept under another name before the new one takes its place, by a rename; a kill at any
//! moment leaves one or the other, whole, and the next salvage goes on.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kind::Local;
use crate::layout::{self, FORMAT, LOCK};
use crate::redb::{journal_of, note_done};
use crate::shared::Alone;
use crate::{
    Batch, Direction, Durability, Engine, Error, KeyRange, Kind, Options, PageDamage, Pages, Read, Redb, Result,
    Visitor,
};

/// Where the new file is written.
const DATA_NEW: &str = "data.redb.salvaged";
/// Bytes of one commit to the new file.
const BATCH_BYTES: usize = 8 << 20;

/// What was saved of a damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Entries in pages that have their sums.
    pub n_entries: u64,
    /// Entries in damaged pages that were kept all the same.
    pub n_doubtful: u64,
    /// The damaged file, as it was.
    pub kept: PathBuf,
}

/// Opens the store in `dir` for this process alone: no other can open it while this lives.
///
/// # Errors
/// `Unavailable` if another process holds it; as [`crate::open`].
pub fn open_alone(dir: &Path, options: &Options) -> Result<Arc<dyn Engine>> {
    layout::check(dir)?;
    let alone = take(dir)?;
    let engine = layout::open_engine(dir, options)?;
    Ok(Arc::new(Lone { engine, _alone: alone }))
}

/// The engine that keeps the store in `dir`; none if there is no store yet. Writes nothing.
///
/// # Errors
/// `Foreign`, `Newer`, `NotBuilt`, `Corrupt`: it is no store that this build can open; `Io`.
pub fn kept_by(dir: &Path) -> Result<Option<Kind>> {
    Ok(match layout::check(dir)? {
        layout::State::Store(kind) => Some(kind),
        layout::State::Empty => None,
    })
}

fn take(dir: &Path) -> Result<Alone> {
    Alone::take(dir)?.ok_or_else(|| crate::shared::unavailable(dir, std::time::Duration::ZERO))
}

/// An engine and the lock that keeps others out; the engine goes first.
struct Lone {
    engine: Arc<dyn Local>,
    _alone: Alone,
}

impl Read for Lone {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.engine.range(range, direction, visit)
    }
}

impl Engine for Lone {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.engine.commit(batch, durability)
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        self.engine.snapshot()
    }

    fn name(&self) -> &'static str {
        self.engine.name()
    }
}

/// Writes the engine's file of the store in `dir`, which redb keeps, anew if pages of it, or its journal, are damaged. `keep` says of an entry in a damaged page, which
/// nothing vouches for, whether it is kept; `lost` is told each damaged place with the bytes there, keeps them on disk, and says
/// whether that went well. The damaged file is kept in the folder `aside`.
///
/// `None` if nothing is damaged, or `lost` failed; nothing was written then.
///
/// # Errors
/// `Unavailable` if another process holds the store; `Corrupt` if nothing of the file can be read; `Full`; `Io`.
pub fn salvage(
    dir: &Path,
    aside: &Path,
    keep: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    lost: &mut dyn FnMut(&PageDamage, Option<Vec<u8>>) -> bool,
) -> Result<Option<Salvaged>> {
    if !matches!(layout::check(dir)?, layout::State::Store(Kind::Redb)) {
        return Ok(None);
    }
    let pages = Pages::open_alone(dir)?;
    let mut n_entries = 0;
    pages.range(KeyRange::all(), Direction::Ascending, &mut |_, _| {
        n_entries += 1;
        ControlFlow::Continue(())
    })?;
    pages.check_rest();
    let damage = pages.damage();
    if damage.is_empty() && (pages.has_journal() || pages.n_entries() == Some(n_entries)) {
        return Ok(None);
    }
    if n_entries == 0 {
        return Err(Error::corrupt(pages.path(), "nothing of it can be read"));
    }
    for place in &damage {
        if !lost(place, pages.lost_bytes(place.offset)) {
            return Ok(None);
        }
    }
    let new = dir.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &new, error)),
        _ => {}
    }
    let n_doubtful = copy(&pages, &new, keep)?;
    // What the journal had is in the new file.
    if pages.journal_generation() > 0 {
        note_done(&new, pages.journal_generation())?;
    }
    fs::create_dir_all(aside).map_err(|error| Error::io("make the folder", aside, error))?;
    let data = layout::data_path(dir, Kind::Redb);
    let kept = unused(aside, &data);
    // A second name for the damaged file; where there are none, a copy.
    if fs::hard_link(&data, &kept).is_err() {
        fs::copy(&data, &kept).map_err(|error| Error::io("copy", &data, error))?;
    }
    layout::sync_dir(aside)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", &new, error))?;
    fs::rename(&new, &data).map_err(|error| Error::io("rename", &new, error))?;
    let journal = journal_of(&data);
    match fs::rename(&journal, unused(aside, &journal)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("move", &journal, error)),
        _ => {}
    }
    layout::sync_dir(dir)?;
    Ok(Some(Salvaged { n_entries, n_doubtful, kept }))
}

fn copy(pages: &Pages, new: &Path, keep: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<u64> {
    let engine = Redb::create(new, 64 << 20)?;
    let mut batch = Batch::new();
    let mut failed = None;
    pages.range(KeyRange::all(), Direction::Ascending, &mut |key, value| {
        batch.put(key, value);
        if batch.n_bytes() >= BATCH_BYTES {
            failed = engine.commit(&std::mem::take(&mut batch), Durability::Sync).err();
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    engine.commit(&batch, Durability::Sync)?;
    let mut n_doubtful = 0;
    let mut kept = Batch::new();
    let mut refused = None;
    pages.doubtful(&mut |_, key, value| match engine.get(key) {
        Ok(None) if keep(key, value) => {
            kept.put(key, value);
            n_doubtful += 1;
        }
        Ok(_) => {}
        Err(error) => refused = Some(error),
    });
    if let Some(error) = refused {
        return Err(error);
    }
    engine.commit(&kept, Durability::Sync)?;
    Ok(n_doubtful)
}

/// A name in `aside`, like that of `path`, that no file has.
fn unused(aside: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut nth = 1_u64;
    loop {
        let path = aside.join(format!("{name}.{nth}"));
        if !path.exists() {
            return path;
        }
        nth += 1;
    }
}

/// Whether `dir` holds a store whose `FORMAT` alone is damaged: the engine's file is there and is ours.
#[must_use]
pub fn has_lost_format(dir: &Path) -> bool {
    match layout::check(dir) {
        Err(Error::Corrupt { path, .. } | Error::Foreign { path, .. }) if path == dir.join(FORMAT) || path == dir => {}
        _ => return false,
    }
    // Looking into it takes the lock, which is not to be made in another program's folder.
    let is_file = |path: PathBuf| path.is_file();
    is_file(dir.join(LOCK))
        && is_file(layout::data_path(dir, Kind::Redb))
        && Pages::of_file(dir).is_ok_and(|pages| pages.n_entries().is_some_and(|n| n > 0))
}

/// Writes `FORMAT` anew for a store of which [`has_lost_format`] holds.
///
/// # Errors
/// `Unavailable` if another process holds the store; `Io`.
pub fn mend_format(dir: &Path) -> Result<()> {
    let _alone = take(dir)?;
    layout::write_format(dir, Kind::Redb)
}
