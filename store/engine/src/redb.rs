//! Ordered bytes in one redb file.
//!
//! All keys lie in one table. Every commit is synced, whatever durability it asks for: redb keeps what is not synced in
//! memory, which kill -9 takes, so `Os` is as strong as `Sync` here. Commits that meet are written in one transaction
//! with one sync (`group`).
//!
//! Invariants:
//! - Within one group, members are judged and written one after the other, as if each had come alone.
//! - After a failed write redb takes no more of them, so the file is closed and opened anew; a commit whose outcome that
//!   leaves open is looked up and answered with what is in the file.
//! - A panic of redb over a damaged file becomes `Corrupt`; a panic of a visitor stays one.
//! - Who only reads writes nothing, unless the file was left open by a process that was killed.
//!
//! Not here: who may open the file (`shared`), what a store folder is (`layout`).

#[cfg(test)]
mod tests;
mod write;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ::redb::{
    CommitError, CursorError, Database, DatabaseError, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction,
    ReadableDatabase, StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::group::{Group, Member};
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

pub(crate) type Bytes = &'static [u8];
const TABLE: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("ordered bytes");
/// A file larger than this is kept ready to be opened after a kill. Opening one that is not takes about a millisecond a
/// megabyte; keeping one ready doubles the cost of a lone commit, and adds a fifth to that of a shared or a large one.
const QUICK_REPAIR_BYTES: u64 = 64 << 20;

/// Ordered bytes in one redb file, which it holds open alone.
pub struct Redb {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failed write, until the file is opened anew.
    database: RwLock<Option<Handle>>,
    group: Group,
    n_commits: AtomicU64,
    n_syncs: AtomicU64,
}

/// The open file. One that is opened to be written is written to at once, so that waits for the first commit.
enum Handle {
    /// With whether what was begun on it is over.
    Reading(ReadOnlyDatabase, Arc<AtomicBool>),
    Writing(Database),
}

impl Handle {
    fn reading(database: ReadOnlyDatabase) -> Self {
        Self::Reading(database, Arc::default())
    }
}

/// How the file is opened to be written, and opened anew after a failure.
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// How many commits were acknowledged, and with how many transactions, each synced once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits that wrote something and were acknowledged.
    pub n_commits: u64,
    /// Transactions that wrote them.
    pub n_syncs: u64,
}

impl Redb {
    /// Opens the file at `path`, which [`Redb::create`] made.
    ///
    /// # Errors
    /// `Busy` if it is open elsewhere; `Foreign` if it is a redb file of another program; `Corrupt` if it is damaged or
    /// not there; `ReadOnly`, `Full`, `Io`.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let reading = inspect(path, cache_bytes)?;
        let file = path.to_path_buf();
        let opener: Opener = Box::new(move || Database::builder().set_cache_size(cache_bytes).open(&file));
        match reading {
            Some(database) => Ok(Self::with(path, opener, Handle::reading(database))),
            None => Self::open_through(path, opener),
        }
    }

    /// Makes an empty file at `path` and opens it. An empty or half-made file that is there is completed.
    ///
    /// # Errors
    /// As [`Redb::open`].
    pub fn create(path: &Path, cache_bytes: usize) -> Result<Self> {
        let file = path.to_path_buf();
        let engine =
            Self::open_through(path, Box::new(move || Database::builder().set_cache_size(cache_bytes).create(&file)))?;
        engine.make_table()?;
        Ok(engine)
    }

    /// As [`Redb::create`], over bytes that lie elsewhere than in a file. `backend` is called again after a failure.
    #[cfg(test)]
    fn over<B: ::redb::StorageBackend>(backend: impl Fn() -> B + Send + Sync + 'static) -> Result<Self> {
        let opener = move || Database::builder().create_with_backend(backend());
        let engine = Self::open_through(Path::new("(test)"), Box::new(opener))?;
        engine.make_table()?;
        Ok(engine)
    }

    /// How many commits were written since it was opened, with how many syncs.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { n_commits: self.n_commits.load(Ordering::Relaxed), n_syncs: self.n_syncs.load(Ordering::Relaxed) }
    }

    /// Commits `batch`; if it was `resent` and all it writes is there already, that is its answer.
    pub(crate) fn commit_once(&self, batch: &Batch, resent: bool) -> Result<()> {
        batch.check_size()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.group.commit(batch, resent, |members| self.write_group(members))
    }

    fn open_through(path: &Path, opener: Opener) -> Result<Self> {
        let database = guarded(path, || opener().map_err(|error| open_error(path, error)))?;
        Ok(Self::with(path, opener, Handle::Writing(database)))
    }

    fn with(path: &Path, opener: Opener, handle: Handle) -> Self {
        Self {
            path: path.to_path_buf(),
            opener,
            database: RwLock::new(Some(handle)),
            group: Group::default(),
            n_commits: AtomicU64::new(0),
            n_syncs: AtomicU64::new(0),
        }
    }

    fn make_table(&self) -> Result<()> {
        let made = guarded(&self.path, || {
            let transaction = self.begin_write()?;
            transaction.open_table(TABLE).map_err(|error| self.table_error(error))?;
            transaction.commit().map_err(|error| self.commit_error(error))
        });
        made.inspect_err(|_| self.give_up_database())
    }

    fn view(&self) -> Result<View> {
        let (transaction, is_lost) = guarded(&self.path, || {
            let (begun, is_lost) = match self.database()?.as_ref() {
                Some(Handle::Reading(database, is_lost)) => (database.begin_read(), Some(Arc::clone(is_lost))),
                Some(Handle::Writing(database)) => (database.begin_read(), None),
                None => return Err(Error::corrupt(&self.path, "it is closed")),
            };
            let transaction: ReadTransaction = begun.map_err(|error| self.transaction_error(error))?;
            Ok((transaction, is_lost))
        })?;
        let table = guarded(&self.path, || transaction.open_table(TABLE).map_err(|error| self.table_error(error)))?;
        Ok(View { path: self.path.clone(), table, is_lost })
    }

    /// Writes the members of a group in one transaction.
    fn write_group(&self, members: &mut [Member<'_>]) {
        let written = match guarded(&self.path, || self.stage(members)) {
            Ok(Some(transaction)) => self.finish(transaction, members),
            Ok(None) => Ok(()),
            Err(error) => {
                self.give_up_database();
                Err(error)
            }
        };
        if let Err(error) = written {
            // A conflict, too, was judged against what is now undone.
            for member in members {
                member.outcome = Err(error.clone());
            }
        }
    }

    /// Judges and writes each member in turn; the transaction is returned if there is something to commit.
    fn stage(&self, members: &mut [Member<'_>]) -> Result<Option<WriteTransaction>> {
        let transaction = self.begin_write()?;
        let mut is_changed = false;
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| self.table_error(error))?;
            for member in members {
                if member.resent
                    && write::is_applied(&table, member.batch).map_err(|error| self.storage_error(error))?
                {
                    continue;
                }
                let unmet = write::first_unmet(&table, member.batch).map_err(|error| self.storage_error(error))?;
                if let Some(key) = unmet {
                    member.outcome = Err(Error::Conflict { key });
                    continue;
                }
                write::apply(&mut table, member.batch).map_err(|error| self.cursor_error(error))?;
                is_changed |= member.batch.n_writes() > 0;
            }
        }
        if is_changed {
            return Ok(Some(transaction));
        }
        transaction.abort().map_err(|error| self.storage_error(error))?;
        Ok(None)
    }

    /// Commits what was staged.
    fn finish(&self, transaction: WriteTransaction, members: &[Member<'_>]) -> Result<()> {
        let committed = guarded(&self.path, || transaction.commit().map_err(|error| self.commit_error(error)));
        if let Err(error) = committed {
            self.give_up_database();
            // It may have reached the disk all the same: answer with what is there.
            if !self.is_written(members).unwrap_or(false) {
                return Err(error);
            }
        }
        let n_commits = members.iter().filter(|member| member.outcome.is_ok()).count();
        self.n_commits.fetch_add(n_commits as u64, Ordering::Relaxed);
        self.n_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether what the members that were not refused write, taken together, is in the file.
    fn is_written(&self, members: &[Member<'_>]) -> Result<bool> {
        let mut whole = Batch::new();
        for member in members.iter().filter(|member| member.outcome.is_ok()) {
            whole.append(member.batch.clone());
        }
        let view = self.view()?;
        guarded(&self.path, || write::is_applied(&view.table, &whole).map_err(|error| self.storage_error(error)))
    }

    fn begin_write(&self) -> Result<WriteTransaction> {
        let database = self.writable()?;
        let Some(Handle::Writing(database)) = database.as_ref() else {
            return Err(Error::corrupt(&self.path, "it is closed"));
        };
        let mut transaction = database.begin_write().map_err(|error| self.transaction_error(error))?;
        let n_bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        transaction.set_quick_repair(n_bytes > QUICK_REPAIR_BYTES);
        Ok(transaction)
    }

    /// The database, open to be written. Snapshots that were taken before the first commit are lost to it.
    fn writable(&self) -> Result<RwLockReadGuard<'_, Option<Handle>>> {
        loop {
            let current = self.database()?;
            if matches!(current.as_ref(), Some(Handle::Writing(_))) {
                return Ok(current);
            }
            drop(current);
            let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(Handle::Reading(database, is_lost)) =
                current.take_if(|handle| matches!(handle, Handle::Reading(..)))
            {
                is_lost.store(true, Ordering::Release);
                drop(database.close());
                match (self.opener)() {
                    Ok(database) => *current = Some(Handle::Writing(database)),
                    Err(error) => {
                        // It can still be read, if it cannot be written.
                        *current = inspect(&self.path, 0).ok().flatten().map(Handle::reading);
                        return Err(open_error(&self.path, error));
                    }
                }
            }
        }
    }

    /// The open database, opened anew if the last write to it failed.
    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Handle>>> {
        loop {
            let current = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if current.is_some() {
                return Ok(current);
            }
            drop(current);
            let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if current.is_none() {
                let database = (self.opener)().map_err(|error| open_error(&self.path, error))?;
                *current = Some(Handle::Writing(database));
            }
        }
    }

    /// Closes the file. Whether that went well is no matter: what was acknowledged is synced, and the next to open it
    /// makes good what was left undone.
    fn give_up_database(&self) {
        let given_up = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = guarded(&self.path, || {
            drop(given_up);
            Ok(())
        });
        drop(closed);
    }

    fn storage_error(&self, error: StorageError) -> Error {
        storage_error(&self.path, error)
    }

    fn table_error(&self, error: TableError) -> Error {
        table_error(&self.path, error)
    }

    fn transaction_error(&self, error: TransactionError) -> Error {
        match error {
            TransactionError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
        }
    }

    fn commit_error(&self, error: CommitError) -> Error {
        match error {
            CommitError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
        }
    }

    fn cursor_error(&self, error: CursorError) -> Error {
        match error {
            CursorError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
        }
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        self.give_up_database();
    }
}

impl Read for Redb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.view()?.get(key) {
            // The file was closed and opened anew between the two calls.
            Err(Error::SnapshotLost) => self.view()?.get(key),
            answer => answer,
        }
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        let mut n_seen = 0_u64;
        let mut count = |key: &[u8], value: &[u8]| {
            n_seen += 1;
            visit(key, value)
        };
        match self.view()?.range(range.clone(), direction, &mut count) {
            // The file was closed and opened anew between the two calls.
            Err(Error::SnapshotLost) if n_seen == 0 => self.view()?.range(range, direction, visit),
            answer => answer,
        }
    }
}

impl Engine for Redb {
    fn commit(&self, batch: &Batch, _durability: Durability) -> Result<()> {
        self.commit_once(batch, false)
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        Ok(Arc::new(self.view()?))
    }

    fn name(&self) -> &'static str {
        "redb"
    }
}

/// The table as of one moment.
struct View {
    path: PathBuf,
    table: ReadOnlyTable<Bytes, Bytes>,
    /// Set once the file was opened to be written; what redb still has in memory of it is then not given any more.
    is_lost: Option<Arc<AtomicBool>>,
}

impl View {
    fn check_kept(&self) -> Result<()> {
        match &self.is_lost {
            Some(is_lost) if is_lost.load(Ordering::Acquire) => Err(Error::SnapshotLost),
            _ => Ok(()),
        }
    }
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_kept()?;
        guarded(&self.path, || {
            let value = self.table.get(key).map_err(|error| storage_error(&self.path, error))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.check_kept()?;
        let mut entries = guarded(&self.path, || {
            self.table.range::<&[u8]>(range.bounds()).map_err(|error| storage_error(&self.path, error))
        })?;
        loop {
            // Only redb runs under the guard: a panic of the visitor is the caller's own.
            let entry = guarded(&self.path, || {
                let entry = match direction {
                    Direction::Ascending => entries.next(),
                    Direction::Descending => entries.next_back(),
                };
                entry.transpose().map_err(|error| storage_error(&self.path, error))
            })?;
            let Some((key, value)) = entry else {
                return Ok(());
            };
            let (key, value) = guarded(&self.path, || Ok((key.value(), value.value())))?;
            if visit(key, value).is_break() {
                return Ok(());
            }
        }
    }
}

/// Opens a file to be read, and refuses one of another program. Nothing is written. `None` for a file that was not closed
/// cleanly: it cannot be looked into without repairing it, so it is let through; `FORMAT` vouches for it.
fn inspect(path: &Path, cache_bytes: usize) -> Result<Option<ReadOnlyDatabase>> {
    if !path.try_exists().map_err(|error| Error::io("look at", path, error))? {
        return Err(Error::corrupt(path, "it is missing"));
    }
    guarded(path, || {
        let database = match Database::builder().set_cache_size(cache_bytes).open_read_only(path) {
            Ok(database) => database,
            Err(DatabaseError::RepairAborted) => return Ok(None),
            Err(error) => return Err(open_error(path, error)),
        };
        let transaction = database.begin_read().map_err(|error| other_error(path, error))?;
        let opened = transaction.open_table(TABLE).map(drop);
        drop(transaction);
        match opened {
            Ok(()) => Ok(Some(database)),
            Err(error) => Err(table_error(path, error)),
        }
    })
}

thread_local! {
    /// How many guards this thread is under.
    static N_GUARDS: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic of this thread would be caught by the engine and reported as damage: then nobody else need tell of it.
#[must_use]
pub fn is_guarded() -> bool {
    N_GUARDS.get() > 0
}

/// Runs redb code. It may panic over a damaged file; that is reported as damage.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    N_GUARDS.set(N_GUARDS.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    N_GUARDS.set(N_GUARDS.get() - 1);
    done.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::corrupt(path, format!("redb gave up on it: {message}")))
    })
}

fn open_error(path: &Path, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Error::Busy { path: path.to_path_buf() }
        }
        DatabaseError::UpgradeRequired(version) => Error::foreign(path, format!("it is redb format `{version}`")),
        DatabaseError::Storage(error) => storage_error(path, error),
        other => other_error(path, other),
    }
}

fn table_error(path: &Path, error: TableError) -> Error {
    match error {
        TableError::Storage(error) => storage_error(path, error),
        other => Error::foreign(path, format!("it is a redb file of another program: {other}")),
    }
}

fn storage_error(path: &Path, error: StorageError) -> Error {
    match error {
        StorageError::Corrupted(reason) => Error::corrupt(path, reason),
        StorageError::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(path, error.to_string())
            }
            _ => Error::io("read or write", path, error),
        },
        StorageError::DatabaseClosed => Error::SnapshotLost,
        other => other_error(path, other),
    }
}

fn other_error(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io("read or write", path, std::io::Error::other(error))
}
