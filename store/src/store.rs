//! The store: one engine, the files beside it, and what is known of both without asking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tracker_engine::{
    Batch, Direction, Durability, Engine, Error as EngineError, KeyRange, Memory, Options, Read, Visitor,
};

use crate::artifact::Packs;
use crate::error::{Error, Result};
use crate::id::{RunId, StageId};
use crate::keys;
use crate::reader::{Entries, again};
use crate::records::Stored;
use crate::series::Planned;

/// The format of records and keys that this build writes and reads.
pub(crate) const FORMAT: u32 = 3;
pub(crate) const FORMAT_KEY: &str = "format";
/// The folder of packs within the store's.
pub(crate) const BLOBS: &str = "blobs";
/// How often a write is planned again when another writer changed what it read.
const N_ATTEMPTS: usize = 64;

/// One folder of records and files. Clones are handles to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// What reads see: the engine as it is, or a snapshot of it.
    read: Arc<dyn Read>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    /// The folder; none for a store in memory.
    dir: Option<PathBuf>,
    packs: Packs,
    known: Mutex<Known>,
    /// Held shared by a write that hopes nobody changes what it reads, and alone by one that was disappointed.
    writers: RwLock<()>,
}

/// What was seen to exist. Runs and stages are never taken away while a process has the store open.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) runs: BTreeSet<RunId>,
    pub(crate) stages: BTreeSet<(RunId, StageId)>,
    /// Series as they were last planned here, by the keys of their heads. Others may have written since: who plans on one requires it.
    pub(crate) series: Planned,
}

impl Store {
    /// Opens the store in `dir`, which must be one.
    ///
    /// # Errors
    /// `NotFound` if there is no store in `dir`; `Outdated` if it has another format; the engine's errors.
    pub fn open(dir: &Path) -> Result<Self> {
        require_store(dir)?;
        Self::create(dir)
    }

    /// Opens the store in `dir`, making it and the folder if there is none.
    ///
    /// # Errors
    /// As [`Store::open`], save that a missing store is made.
    pub fn create(dir: &Path) -> Result<Self> {
        Self::create_with(dir, &Options::default())
    }

    /// As [`Store::create`], with an engine, a cache and a patience of the caller's choosing. A store that is there keeps the
    /// engine it has; [`Store::convert`] changes it.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_with(dir: &Path, options: &Options) -> Result<Self> {
        let engine = tracker_engine::open(dir, options)?;
        Self::over(engine, Some(dir.to_path_buf()))
    }

    /// Opens the store in `dir`, of this build's format or an earlier one, to back it up before it is migrated. Nothing else is to be asked
    /// of a store of an earlier format.
    ///
    /// # Errors
    /// As [`Store::open`], `Outdated` of a newer format alone.
    pub fn open_older(dir: &Path) -> Result<Self> {
        require_store(dir)?;
        let store = Self::unchecked(tracker_engine::open(dir, &Options::default())?, Some(dir.to_path_buf()));
        match store.format()? {
            0..=FORMAT => Ok(store),
            newer => Err(outdated(newer)),
        }
    }

    /// An empty store in memory, gone with its last handle.
    ///
    /// # Errors
    /// The engine's errors.
    pub fn memory() -> Result<Self> {
        Self::over(Arc::new(Memory::new()), None)
    }

    /// A store over an engine of the caller's making, with files in `dir`, or in memory without it; for tests.
    ///
    /// # Errors
    /// `Outdated`; the engine's errors.
    #[doc(hidden)]
    pub fn over(engine: Arc<dyn Engine>, dir: Option<PathBuf>) -> Result<Self> {
        let key = keys::meta(FORMAT_KEY);
        if let Some(value) = again(|| engine.get(&key))? {
            check_format(&key, value)?;
        } else {
            let mut batch = Batch::new();
            batch.put(&key, &FORMAT.to_be_bytes());
            engine.commit(&batch, Durability::Sync)?;
        }
        Ok(Self::unchecked(engine, dir))
    }

    fn unchecked(engine: Arc<dyn Engine>, dir: Option<PathBuf>) -> Self {
        let packs = dir.as_ref().map_or_else(Packs::memory, |dir| Packs::Dir(dir.join(BLOBS)));
        let read: Arc<dyn Read> = engine.clone();
        let inner = Inner { engine, dir, packs, known: Mutex::default(), writers: RwLock::default() };
        Self { inner: Arc::new(inner), read }
    }

    /// A store over what can be read; writing to it fails.
    pub(crate) fn frozen(read: Arc<dyn Read>, dir: Option<PathBuf>) -> Self {
        Self::unchecked(Arc::new(Frozen(read)), dir)
    }

    /// The format of its records and keys.
    ///
    /// # Errors
    /// `Corrupt` if it says none; the engine's.
    pub fn format(&self) -> Result<u32> {
        let key = keys::meta(FORMAT_KEY);
        let value = self.get(&key)?.ok_or_else(|| Error::corrupt(&key, "the store does not say its format"))?;
        format_of(&key, value)
    }

    /// The folder it lies in; none for a store in memory.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.inner.dir.as_deref()
    }

    /// The engine's name.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.inner.engine.name()
    }

    pub(crate) fn read(&self) -> Arc<dyn Read> {
        Arc::clone(&self.read)
    }

    /// Answers from one state of the store; asks again if the process that served the state goes away.
    pub(crate) fn at_one_state<T>(&self, ask: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let frozen = || Ok(Self { inner: Arc::clone(&self.inner), read: self.inner.engine.snapshot()? });
        for nth in 0..N_ATTEMPTS {
            match frozen().and_then(|frozen| ask(&frozen)) {
                Err(Error::Engine(EngineError::SnapshotLost)) => std::thread::sleep(backoff(nth)),
                answer => return answer,
            }
        }
        ask(&frozen()?)
    }

    pub(crate) fn packs(&self) -> &Packs {
        &self.inner.packs
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        again(|| self.read.get(key))
    }

    pub(crate) fn get_value<T: Stored>(&self, key: &[u8]) -> Result<Option<T>> {
        self.get(key)?.map(|record| T::decode(key, &record)).transpose()
    }

    pub(crate) fn entries(&self, prefix: &[u8]) -> Entries {
        Entries::prefix(self.read(), prefix)
    }

    /// Commits a batch as it is.
    pub(crate) fn commit_batch(&self, batch: &Batch, durability: Durability) -> Result<()> {
        Ok(self.inner.engine.commit(batch, durability)?)
    }

    /// Removes an entry that nothing follows from. Says whether it was there.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        if self.get(key)?.is_none() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.delete(key);
        self.commit_batch(&batch, Durability::Os)?;
        Ok(true)
    }

    /// Plans a batch and commits it, planning again while other writers change what the plan rests on.
    ///
    /// The first attempt runs beside other writers of this process, so that they share a commit. The later ones run
    /// alone in it, so that no stream of first attempts can starve them; only other processes can still disappoint them.
    pub(crate) fn write<T>(
        &self,
        what: &'static str,
        name: &dyn ToString,
        durability: Durability,
        mut plan: impl FnMut(&mut Batch) -> Result<T>,
    ) -> Result<T> {
        let mut attempt = || -> Result<Option<T>> {
            let mut batch = Batch::new();
            let written = plan(&mut batch).and_then(|planned| {
                if !batch.is_empty() {
                    self.inner.engine.commit(&batch, durability)?;
                }
                Ok(planned)
            });
            let Err(error) = written else { return written.map(Some) };
            self.known().series.forget(&batch);
            match error {
                // A plan reads key by key: what looks damaged may have been read from two states of a series.
                Error::Corrupt { .. } | Error::Engine(EngineError::Conflict { .. }) => Ok(None),
                error => Err(error),
            }
        };
        {
            let _beside_others = self.inner.writers.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(planned) = attempt()? {
                return Ok(planned);
            }
        }
        let _alone = self.inner.writers.write().unwrap_or_else(PoisonError::into_inner);
        for nth in 0..N_ATTEMPTS {
            if let Some(planned) = attempt()? {
                return Ok(planned);
            }
            std::thread::sleep(backoff(nth));
        }
        // Nobody disturbs a plan this often: what still looks damaged is.
        plan(&mut Batch::new())?;
        Err(Error::Contended { what, name: name.to_string() })
    }
}

/// An engine that is only read.
struct Frozen(Arc<dyn Read>);

impl Read for Frozen {
    fn get(&self, key: &[u8]) -> tracker_engine::Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> tracker_engine::Result<()> {
        self.0.range(range, direction, visit)
    }
}

impl Engine for Frozen {
    fn commit(&self, _batch: &Batch, _durability: Durability) -> tracker_engine::Result<()> {
        let source = Arc::new(std::io::Error::other("a check writes nothing"));
        Err(EngineError::ReadOnly { path: PathBuf::from("the engine's file"), source })
    }

    fn snapshot(&self) -> tracker_engine::Result<Arc<dyn Read>> {
        Ok(Arc::clone(&self.0))
    }

    fn name(&self) -> &'static str {
        "frozen"
    }
}

/// Refuses a folder that is missing, empty, or has nothing but the lock of who could not make a store in it.
pub(crate) fn require_store(dir: &Path) -> Result<()> {
    let is_missing = match dir.read_dir() {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == tracker_engine::LOCK)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_missing {
        return Ok(());
    }
    Err(Error::NotFound {
        what: "store",
        name: dir.display().to_string(),
        hint: "`tracker run STUDY` makes one, and `--store DIR` or `TRACKER_STORE` names another".to_owned(),
    })
}

/// How long to leave other processes alone after being disappointed for the `nth` time.
fn backoff(nth: usize) -> Duration {
    let jitter = crate::clock::jitter() % 1000;
    Duration::from_nanos(u64::from(500 + jitter) * (50 << nth.min(6)))
}

/// Refuses a store of another format.
pub(crate) fn check_format(key: &[u8], value: Vec<u8>) -> Result<()> {
    match format_of(key, value)? {
        FORMAT => Ok(()),
        found => Err(outdated(found)),
    }
}

fn format_of(key: &[u8], value: Vec<u8>) -> Result<u32> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Error::corrupt(key, "expected four bytes"))
}

fn outdated(found: u32) -> Error {
    let remedy = if found < FORMAT { "run `tracker migrate`" } else { "use the newer build of tracker that wrote it" };
    Error::Outdated { found, supported: FORMAT, remedy }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("engine", &self.engine_name())
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}
