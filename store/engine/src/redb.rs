//! Ordered bytes in one redb file.
//!
//! All keys lie in one table. A commit that asks for `Sync` is a synced transaction; those that meet are written in one
//! transaction with one sync (`group`). redb keeps what is not synced in memory, which kill -9 takes, so a commit that asks
//! for `Os` goes into a `journal` beside the file, and into an `overlay` that readers see over the file. Every transaction
//! takes what lies over the file along. Where there is no other for a second, or the overlay grows large, there is one for
//! that alone.
//!
//! Invariants:
//! - Who writes is alone (`writing`): commits have one order, in the journal, the overlay and the file. A transaction that
//!   empties the overlay notes the journal's generation, so that what is in both is never written again over later commits.
//! - Readers see a layer: the file as of the last transaction, and the overlay since. A snapshot is a layer at a moment.
//! - Within one group, members are judged and written one after the other, as if each had come alone.
//! - After a failed write redb takes no more of them, so the file is closed and opened anew; a commit whose outcome that
//!   leaves open is looked up and answered with what is in the file.
//! - A panic of redb over a damaged file becomes `Corrupt`; a panic of a visitor stays one.
//!
//! Not here: who may open the file (`shared`), what a store folder is (`layout`).

mod file;
pub(crate) mod journal;
mod layer;
mod overlay;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::redb::{Database, TableDefinition, WriteTransaction};

pub use self::file::is_guarded;
use self::file::{File, Opener, guarded};
use self::journal::Journal;
use self::layer::{Layer, Snapshot};
use self::overlay::Overlay;
use crate::group::{self, Group, Member, lock};
use crate::kind::Local;
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

pub(crate) type Bytes = &'static [u8];
const TABLE: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("ordered bytes");
/// What the file notes of the journal: under `DONE` the last generation of it that the file has.
const NOTES: TableDefinition<'static, &str, u64> = TableDefinition::new(NOTES_NAME);
pub(crate) const NOTES_NAME: &str = "notes";
pub(crate) const DONE: &str = "journal";
/// A batch larger than this goes straight to the file: one sync is less than writing it twice.
const MAX_JOURNALED_BYTES: usize = 1 << 20;
/// The overlay and the journal may grow to this before they go into the file, in bytes.
const MAX_OVERLAY_BYTES: usize = 8 << 20;
const MAX_JOURNAL_BYTES: u64 = 32 << 20;
/// How long what was acknowledged may wait to be synced.
const SYNC_PAUSE: Duration = Duration::from_secs(1);
/// A file larger than this is kept ready to be opened after a kill. Opening one that is not takes about a millisecond a
/// megabyte; keeping one ready doubles the cost of a lone commit, and adds a fifth to that of a shared or a large one.
const QUICK_REPAIR_BYTES: u64 = 64 << 20;

/// Ordered bytes in one redb file, which it holds open alone, and a journal beside it.
pub struct Redb {
    held: Arc<Held>,
    /// Syncs what waits; started by the first commit that does not sync by itself.
    syncer: Mutex<Option<JoinHandle<()>>>,
}

/// The file, its journal, and what readers see.
struct Held {
    file: File,
    layer: RwLock<Arc<Layer>>,
    /// Held by who writes; the journal, where the file has a name to put it beside.
    writing: Mutex<Option<Journal>>,
    group: Group,
    wake: Mutex<Wake>,
    woken: Condvar,
    n_commits: AtomicU64,
    n_syncs: AtomicU64,
}

/// What the syncer is told.
#[derive(Default)]
struct Wake {
    is_due: bool,
    is_closing: bool,
}

/// How many commits were acknowledged, and with how many transactions, each synced once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits that wrote something and were acknowledged.
    pub n_commits: u64,
    /// Transactions that wrote them.
    pub n_syncs: u64,
}

impl Redb {
    /// Opens the file at `path`, which [`Redb::create`] made, and its journal.
    ///
    /// # Errors
    /// `Busy` if it is open elsewhere; `Foreign` if it is a redb file of another program; `Corrupt` if it or its journal is
    /// damaged, or it is not there; `ReadOnly`, `Full`, `Io`.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let at = path.to_path_buf();
        let opener: Opener = Box::new(move || Database::builder().set_cache_size(cache_bytes).open(&at));
        Self::over(File::open_to_read(path, cache_bytes, opener)?, Some(&journal_of(path)))
    }

    /// Makes an empty file at `path` and opens it. An empty or half-made file that is there is completed.
    ///
    /// # Errors
    /// As [`Redb::open`].
    pub fn create(path: &Path, cache_bytes: usize) -> Result<Self> {
        let at = path.to_path_buf();
        let opener: Opener = Box::new(move || Database::builder().set_cache_size(cache_bytes).create(&at));
        let file = File::open(path, opener)?;
        file.make_table()?;
        Self::over(file, Some(&journal_of(path)))
    }

    fn over(file: File, journal: Option<&Path>) -> Result<Self> {
        let mut overlay = Overlay::default();
        let journal = match journal {
            Some(path) => {
                let (journal, waiting) = Journal::open(path, file.done()?)?;
                for batch in &waiting {
                    overlay.apply(batch);
                }
                Some(journal)
            }
            None => None,
        };
        let is_due = !overlay.is_empty();
        let layer = Layer::new(file.view()?, overlay);
        let held = Held {
            file,
            layer: RwLock::new(Arc::new(layer)),
            writing: Mutex::new(journal),
            group: Group::default(),
            wake: Mutex::new(Wake { is_due, is_closing: false }),
            woken: Condvar::new(),
            n_commits: AtomicU64::new(0),
            n_syncs: AtomicU64::new(0),
        };
        let engine = Self { held: Arc::new(held), syncer: Mutex::new(None) };
        if is_due {
            engine.start_syncer()?;
        }
        Ok(engine)
    }

    /// How many commits were written since it was opened, with how many syncs.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let held = &self.held;
        Counts { n_commits: held.n_commits.load(Ordering::Relaxed), n_syncs: held.n_syncs.load(Ordering::Relaxed) }
    }

    /// Commits `batch`; if it was `resent` and all it writes is there already, that is its answer.
    pub(crate) fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()> {
        batch.check_size()?;
        if batch.is_empty() {
            return Ok(());
        }
        let held = &self.held;
        if durability == Durability::Os && batch.n_bytes() <= MAX_JOURNALED_BYTES {
            let mut writing = lock(&held.writing);
            if writing.is_some() {
                let was_idle = held.commit_to_journal(&mut writing, batch, resent)?;
                drop(writing);
                return if was_idle { self.start_syncer() } else { Ok(()) };
            }
        }
        held.group.commit(batch, durability, resent, |members| held.commit_to_file(&mut lock(&held.writing), members))
    }

    /// Sees to it that what waits is synced in a while.
    fn start_syncer(&self) -> Result<()> {
        let mut syncer = lock(&self.syncer);
        if syncer.is_none() {
            let held = Arc::clone(&self.held);
            let spawned =
                thread::Builder::new().name("store-sync".to_owned()).spawn(move || held.sync_from_time_to_time());
            *syncer = Some(spawned.map_err(|error| Error::io("start a thread for", self.held.file.path(), error))?);
        }
        lock(&self.held.wake).is_due = true;
        self.held.woken.notify_all();
        Ok(())
    }
}

/// Writes down in the file at `path` that all of the journal up to `generation` is in it.
pub(crate) fn note_done(path: &Path, generation: u64) -> Result<()> {
    let at = path.to_path_buf();
    let file = File::open(path, Box::new(move || Database::open(&at)))?;
    guarded(path, || {
        let transaction = file.begin_write()?;
        {
            let mut notes = transaction.open_table(NOTES).map_err(|error| file.table_error(error))?;
            notes.insert(DONE, generation).map_err(|error| file.storage_error(error))?;
        }
        transaction.commit().map_err(|error| file.commit_error(error))
    })
}

/// Where the journal of the file at `path` is.
pub(crate) fn journal_of(path: &Path) -> std::path::PathBuf {
    path.with_extension("journal")
}

impl Held {
    fn layer(&self) -> Arc<Layer> {
        Arc::clone(&self.layer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the layer there is; once more if the file was closed after a failed write, and is opened anew for it.
    fn ask<T>(&self, mut ask: impl FnMut(&Arc<Layer>) -> Result<T>) -> Result<T> {
        let layer = self.layer();
        match ask(&layer) {
            Err(Error::SnapshotLost) => {
                let base = self.file.view()?;
                let mut current = self.layer.write().unwrap_or_else(PoisonError::into_inner);
                if Arc::ptr_eq(&current, &layer) {
                    *current = Arc::new(layer.over(base));
                }
                let layer = Arc::clone(&current);
                drop(current);
                ask(&layer)
            }
            answer => answer,
        }
    }

    /// Writes `batch` to the journal and over the file; returns whether nothing else waited to be synced.
    fn commit_to_journal(&self, writing: &mut Option<Journal>, batch: &Batch, resent: bool) -> Result<bool> {
        if self.is_laden(writing.as_ref()) {
            self.sync(writing)?;
        }
        if resent && self.ask(|layer| batch.is_applied(|key, expected| layer.holds(key, expected)))? {
            return Ok(false);
        }
        if let Some(key) = self.ask(|layer| batch.first_unmet(|key, expected| layer.holds(key, expected)))? {
            return Err(Error::Conflict { key });
        }
        if let (Some(journal), true) = (writing, batch.n_writes() > 0) {
            let layer = self.layer();
            journal.append(batch)?;
            let mut overlay = layer.overlay_mut();
            let was_idle = overlay.is_empty();
            overlay.apply(batch);
            self.n_commits.fetch_add(1, Ordering::Relaxed);
            return Ok(was_idle);
        }
        Ok(false)
    }

    fn is_laden(&self, journal: Option<&Journal>) -> bool {
        let n_bytes = journal.map_or(0, Journal::n_bytes);
        n_bytes > MAX_JOURNAL_BYTES || self.layer().overlay().n_bytes() > MAX_OVERLAY_BYTES
    }

    /// Writes what lies over the file into it.
    fn sync(&self, writing: &mut Option<Journal>) -> Result<()> {
        self.write(writing, &mut [])
    }

    /// Writes the members of a group in one transaction.
    fn commit_to_file(&self, writing: &mut Option<Journal>, members: &mut [Member<'_>]) {
        if let Err(error) = self.write(writing, members) {
            group::refuse_all(members, &error);
        }
    }

    /// Writes what lies over the file and then the members, each judged after the ones before it.
    fn write(&self, writing: &mut Option<Journal>, members: &mut [Member<'_>]) -> Result<()> {
        let layer = self.layer();
        let generation = writing.as_ref().map(Journal::generation).filter(|_| !layer.overlay().is_empty());
        if generation.is_none() && members.is_empty() {
            return Ok(());
        }
        let staged = guarded(self.file.path(), || self.stage(&layer, generation, members));
        let Some(transaction) = staged.inspect_err(|_| self.file.give_up())? else { return Ok(()) };
        let committed =
            guarded(self.file.path(), || transaction.commit().map_err(|error| self.file.commit_error(error)));
        if let Err(error) = committed {
            self.file.give_up();
            // It may have reached the disk all the same: answer with what is there.
            let is_there = match generation {
                Some(generation) => self.file.done().map(|done| done >= generation),
                None => self.is_written(members),
            };
            if !is_there.unwrap_or(false) {
                return Err(error);
            }
        }
        if let (Some(_), Some(journal)) = (generation, writing.as_mut()) {
            journal.begin_again();
        }
        // Where the file cannot be read now, readers open it anew, and what still lies over it says the same as the file.
        if let Ok(base) = self.file.view() {
            *self.layer.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::new(Layer::new(base, Overlay::default()));
        }
        let n_commits = members.iter().filter(|member| member.outcome.is_ok()).count();
        self.n_commits.fetch_add(n_commits as u64, Ordering::Relaxed);
        self.n_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The transaction, if there is something to commit. `generation` is that of the journal, if it goes into the file.
    fn stage(
        &self,
        layer: &Layer,
        generation: Option<u64>,
        members: &mut [Member<'_>],
    ) -> Result<Option<WriteTransaction>> {
        let transaction = self.file.begin_write()?;
        let mut is_changed = members.is_empty() && generation.is_some();
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| self.file.table_error(error))?;
            if generation.is_some() {
                let overlay = layer.overlay();
                let writes: Vec<_> = overlay.writes().collect();
                write::apply(&mut table, &writes).map_err(|error| self.file.cursor_error(error))?;
            }
            for member in members {
                let failed = |error| self.file.storage_error(error);
                if member.resent && write::is_applied(&table, member.batch).map_err(failed)? {
                    continue;
                }
                if let Some(key) = write::first_unmet(&table, member.batch).map_err(failed)? {
                    member.outcome = Err(Error::Conflict { key });
                    continue;
                }
                write::apply(&mut table, &member.batch.writes()).map_err(|error| self.file.cursor_error(error))?;
                is_changed |= member.batch.n_writes() > 0;
            }
        }
        if !is_changed {
            transaction.abort().map_err(|error| self.file.storage_error(error))?;
            return Ok(None);
        }
        if let Some(generation) = generation {
            let mut notes = transaction.open_table(NOTES).map_err(|error| self.file.table_error(error))?;
            notes.insert(DONE, generation).map_err(|error| self.file.storage_error(error))?;
        }
        Ok(Some(transaction))
    }

    /// Whether what the members that were not refused write, taken together, is in the file.
    fn is_written(&self, members: &[Member<'_>]) -> Result<bool> {
        let mut whole = Batch::new();
        for member in members.iter().filter(|member| member.outcome.is_ok()) {
            whole.append(member.batch.clone());
        }
        let base = self.file.view()?;
        whole.is_applied(|key, expected| base.holds(key, expected))
    }

    /// Writes what waits into the file, a while after it began to wait, until the engine is closed.
    fn sync_from_time_to_time(&self) {
        loop {
            let wake = lock(&self.wake);
            let wake = self.woken.wait_while(wake, |wake| !wake.is_due && !wake.is_closing);
            let wake = wake.unwrap_or_else(PoisonError::into_inner);
            let waited = self.woken.wait_timeout_while(wake, SYNC_PAUSE, |wake| !wake.is_closing);
            let (mut wake, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if wake.is_closing {
                return;
            }
            wake.is_due = false;
            drop(wake);
            if self.sync(&mut lock(&self.writing)).is_err() {
                // The journal has it. The next commit that needs the file says what is wrong with it; here it is tried again.
                lock(&self.wake).is_due = true;
            }
        }
    }
}

impl Drop for Redb {
    /// Writes what waits into the file and closes it. Whether that goes well is no matter: the journal has it.
    fn drop(&mut self) {
        lock(&self.held.wake).is_closing = true;
        self.held.woken.notify_all();
        if let Some(syncer) = lock(&self.syncer).take() {
            drop(syncer.join());
        }
        let mut writing = lock(&self.held.writing);
        if self.held.sync(&mut writing).is_ok()
            && let Some(journal) = writing.take()
        {
            journal.remove();
        }
        self.held.file.give_up();
    }
}

impl Read for Redb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.held.ask(|layer| layer.get(key, None))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        let mut was_called = false;
        let answered = self.held.ask(|layer| {
            let mut seen = |key: &[u8], value: &[u8]| {
                was_called = true;
                visit(key, value)
            };
            match Snapshot::take(Arc::clone(layer))?.range(range.clone(), direction, &mut seen) {
                // What was shown once must not be shown again.
                Err(Error::SnapshotLost) if was_called => Ok(Err(Error::SnapshotLost)),
                answer => answer.map(Ok),
            }
        });
        answered?
    }
}

impl Engine for Redb {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.commit_once(batch, durability, false)
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        self.held.ask(|layer| Ok(Arc::new(Snapshot::take(Arc::clone(layer))?) as Arc<dyn Read>))
    }

    fn name(&self) -> &'static str {
        "redb"
    }
}

impl Local for Redb {
    fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()> {
        Self::commit_once(self, batch, durability, resent)
    }
}
