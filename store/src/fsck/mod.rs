//! Checking a store: every key, record, index, edge, series, file, piece and pack; and repairing what follows from what is left.
//!
//! The engine's file is read page by page, each against its sum, in stretches of ordered keys on several threads; the
//! pieces of artifacts are read beside it, each against its digest. What should follow from records is held against what
//! is there in sums, so memory does not grow with the store. A check writes nothing and works beside processes that write.
//!
//! Invariants: a check never panics over what it reads and never ends without having looked at all of it; what it does not tell
//! is there and is right. Not here: what is safe by construction, see SAFETY.md.

mod artifacts;
mod entry;
mod finding;
mod repair;
mod runs;
mod scan;
mod series;
mod tally;
mod words;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracker_engine::{Kind, Options, Pages, Read};

use crate::error::{Error, Result};
use crate::keys;
use crate::store::{FORMAT_KEY, Store, check_format, require_store};

pub use finding::{Finding, Level, Trouble};
use finding::{Fix, Sink, Tell};
pub use repair::Repaired;

/// More threads would need more memory than they save time.
const MAX_THREADS: usize = 8;
/// How often a check begins again because the process that held the store went away.
const N_ATTEMPTS: usize = 8;
/// Stretches of keys for each thread.
const N_STRETCHES: usize = 8;

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Findings that are damage.
    pub n_damages: u64,
    /// Findings that are not.
    pub n_notes: u64,
    /// Entries of the engine.
    pub n_entries: u64,
    /// Metric series.
    pub n_series: u64,
    /// Pieces of artifacts whose digest was computed.
    pub n_pieces: u64,
    /// Bytes read: the engine's file and the pieces.
    pub n_bytes: u64,
    /// Bytes of packs that no record names, which `tracker gc` gives back in time.
    pub free_bytes: u64,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes done, about.
    pub done_bytes: u64,
    /// Bytes in all, about.
    pub total_bytes: u64,
}

/// Counts what is done, and tells.
pub(crate) struct Meter<'a> {
    tell: &'a (dyn Fn(CheckProgress) + Sync),
    done_bytes: AtomicU64,
    total_bytes: u64,
    /// Of the engine's file, a thousand entries.
    entries_bytes: u64,
}

impl Meter<'_> {
    pub(crate) fn entries(&self, n: u64) {
        self.bytes(n * self.entries_bytes / 1000);
    }

    pub(crate) fn bytes(&self, n: u64) {
        let done = self.done_bytes.fetch_add(n, Ordering::Relaxed) + n;
        (self.tell)(CheckProgress { done_bytes: done.min(self.total_bytes), total_bytes: self.total_bytes });
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the store in `dir` and tells what is found, each thing as it is. Writes nothing; other processes may write
/// meanwhile. `progress` is told often, from several threads.
///
/// # Errors
/// What is no damage: there is no store, it is another program's, of another format, or held by a process that does not
/// answer; `Io`.
pub fn fsck(
    dir: &Path,
    found: &mut (dyn FnMut(Finding) + Send),
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<Checked> {
    check(dir, &mut |finding, _| found(finding), u64::MAX, progress)
}

/// Repairs what [`fsck`] finds in the store in `dir`, as far as it follows from what can be read, sets aside what cannot, and tells
/// what it finds before and after. Nothing that can be read is removed. May be killed at any moment and run again.
///
/// # Errors
/// As [`fsck`]; `Contended` if another process holds the store and its file needs to be written anew; the engine's.
pub fn repair(
    dir: &Path,
    found: &mut (dyn FnMut(Finding) + Send),
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<Repaired> {
    repair::repair(dir, found, progress)
}

/// As [`fsck`], with what would make each finding good. After `enough` of them some may be left for the next time.
fn check(
    dir: &Path,
    found: &mut (dyn FnMut(Finding, Option<Fix>) + Send),
    enough: u64,
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<Checked> {
    let mut last = None;
    for nth in 0..N_ATTEMPTS {
        let source = match Source::open(dir) {
            Ok(source) => source,
            // The process that held it went away just now.
            Err(Error::Engine(tracker_engine::Error::SnapshotLost)) => continue,
            Err(error) => return refused(dir, error, found),
        };
        if !source.is_shared() {
            return check_source(dir, &source, found, enough, progress);
        }
        // What a process that is gone no longer keeps may have been overwritten while it was read: then none of it counts.
        let mut heard = Vec::new();
        let mut hear = |finding, fix| heard.push((finding, fix));
        let checked = check_source(dir, &source, &mut hear, enough, progress);
        // Beside a writer a page may look damaged once; what is damaged looks so again.
        let damage = source.pages().map(Pages::damage).unwrap_or_default();
        let is_sure = damage.is_empty() || last.as_ref() == Some(&damage) || nth + 1 == N_ATTEMPTS;
        last = Some(damage);
        if source.is_kept() && is_sure {
            for (finding, fix) in heard {
                found(finding, fix);
            }
            return checked;
        }
    }
    Err(Error::Contended { what: "store", name: dir.display().to_string() })
}

/// What a store is read from.
enum Source {
    /// redb's file, page by page.
    Pages(Arc<Pages>),
    /// A snapshot of another engine, which looks at its own sums.
    Engine(Arc<dyn Read>),
}

impl Source {
    fn open(dir: &Path) -> Result<Self> {
        require_store(dir)?;
        let options = Options::default();
        match tracker_engine::kept_by(dir)? {
            Some(Kind::Redb) | None => Ok(Self::Pages(Arc::new(Pages::open(dir, &options)?))),
            Some(_) => Ok(Self::Engine(tracker_engine::open(dir, &options)?.snapshot()?)),
        }
    }

    fn read(&self) -> Arc<dyn Read> {
        match self {
            Self::Pages(pages) => Arc::clone(pages) as Arc<dyn Read>,
            Self::Engine(snapshot) => Arc::clone(snapshot),
        }
    }

    fn pages(&self) -> Option<&Pages> {
        if let Self::Pages(pages) = self { Some(pages) } else { None }
    }

    fn is_shared(&self) -> bool {
        self.pages().is_none_or(Pages::is_shared)
    }

    fn is_kept(&self) -> bool {
        match self {
            Self::Pages(pages) => pages.is_kept(),
            Self::Engine(snapshot) => snapshot.get(&[]).is_ok(),
        }
    }
}

/// Tells what stands before any check, if it is damage.
fn refused(dir: &Path, error: Error, found: &mut (dyn FnMut(Finding, Option<Fix>) + Send)) -> Result<Checked> {
    let finding = match (&error, Finding::of_error(Trouble::File, &error)) {
        (Error::NotFound { .. }, _) => return Err(error),
        (_, Some(finding)) => finding,
        (_, None) if tracker_engine::has_lost_format(dir) => {
            let what = "it does not say what a store's does, and the engine's file beside it is a store's";
            Finding::damage(Trouble::File, what).in_file(dir.join("FORMAT"), 0)
        }
        (_, None) => return Err(error),
    };
    found(finding, None);
    Ok(Checked { n_damages: 1, ..Checked::default() })
}

fn check_source(
    dir: &Path,
    source: &Source,
    found: &mut (dyn FnMut(Finding, Option<Fix>) + Send),
    enough: u64,
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<Checked> {
    let sink = &Sink::new(found, enough);
    let store = Store::frozen(source.read(), Some(dir.to_path_buf()));
    let pages = source.pages();
    let is_empty = pages.is_some_and(|pages| pages.damage().is_empty() && pages.n_entries() == Some(0));
    check_setting(&store, is_empty, sink)?;
    let engine_bytes = pages.map_or(0, Pages::n_bytes);
    let n_entries = pages.and_then(Pages::n_entries).unwrap_or(0).max(1);
    let packs = store.packs().list();
    let packs_bytes: u64 = packs.map_or(0, |packs| packs.iter().map(crate::artifact::PackFile::n_bytes).sum());
    let meter = Meter {
        tell: progress,
        done_bytes: AtomicU64::new(0),
        total_bytes: engine_bytes + packs_bytes,
        entries_bytes: engine_bytes.saturating_mul(1000) / n_entries,
    };
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
    let pool = pool.map_err(|error| Error::io("start threads for", dir, std::io::Error::other(error)))?;
    let cuts = pages.map_or_else(Vec::new, |pages| pages.cuts(n_threads * N_STRETCHES));
    let stretches = scan::Stretches::at(&cuts);
    let mut checked = pool.install(|| check_all(&store, &stretches, sink, &meter))?;
    if let Some(pages) = pages {
        pages.check_rest();
        tell_pages(pages, checked.n_entries, sink);
    }
    checked.n_bytes += engine_bytes;
    checked.n_damages = sink.n_damages.load(Ordering::Relaxed);
    checked.n_notes = sink.n_notes.load(Ordering::Relaxed);
    Ok(checked)
}

/// What is damaged in a store that is open, the engine's file aside.
pub(crate) fn damages(store: &Store) -> Result<Vec<Finding>> {
    let mut damages = Vec::new();
    let mut hear = |finding: Finding, _| damages.extend((finding.level == Level::Damage).then_some(finding));
    let sink = &Sink::new(&mut hear, u64::MAX);
    let meter = Meter { tell: &|_| (), done_bytes: AtomicU64::new(0), total_bytes: 0, entries_bytes: 0 };
    check_setting(store, false, sink)?;
    check_all(store, &scan::Stretches::at(&[]), sink, &meter)?;
    Ok(damages)
}

/// Refuses a store of another format, and tells that a store says none.
fn check_setting(store: &Store, is_empty: bool, sink: &dyn Tell) -> Result<()> {
    let key = keys::meta(FORMAT_KEY);
    match store.get(&key) {
        Ok(Some(value)) => match check_format(&key, value) {
            // Told with the other settings.
            Ok(()) | Err(Error::Corrupt { .. }) => Ok(()),
            Err(error) => Err(error),
        },
        Ok(None) if is_empty => Ok(()),
        Ok(None) => {
            sink.tell(Finding::damage(Trouble::Setting, "the setting `format` is missing").at_key(&key), None);
            Ok(())
        }
        // Told with the file.
        Err(Error::Engine(tracker_engine::Error::Corrupt { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_all(store: &Store, stretches: &scan::Stretches, sink: &dyn Tell, meter: &Meter<'_>) -> Result<Checked> {
    let (scanned, pieces) = rayon::join(
        || -> Result<(u64, u64)> {
            let n_entries = scan::scan(store, stretches, sink, meter)?;
            Ok((n_entries, series::check(store, sink)?))
        },
        || artifacts::check(store, sink, meter),
    );
    let ((n_entries, n_series), artifacts) = (scanned?, pieces?);
    runs::check(store, sink)?;
    Ok(Checked {
        n_entries,
        n_series,
        n_pieces: artifacts.n_pieces,
        n_bytes: artifacts.n_bytes,
        free_bytes: artifacts.free_bytes,
        ..Checked::default()
    })
}

fn tell_pages(pages: &Pages, n_read: u64, sink: &dyn Tell) {
    for place in pages.damage() {
        sink.tell(Finding::damage(Trouble::File, place.reason).in_file(place.file, place.offset), None);
    }
    if let Some(n_entries) = pages.n_entries().filter(|n| *n != n_read && !pages.has_journal()) {
        let what = format!("expected `{n_entries}` entries, got `{n_read}`");
        let file = Some(pages.path().to_path_buf());
        sink.tell(Finding { file, ..Finding::damage(Trouble::File, what) }, None);
    }
}
