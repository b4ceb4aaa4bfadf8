//! redb's file: opened, opened anew after a failure, and its errors in our words.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ::redb::{
    CommitError, CursorError, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    StorageError, TableError, TransactionError, WriteTransaction,
};

use super::layer::View;
use super::{DONE, NOTES, QUICK_REPAIR_BYTES, TABLE};
use crate::{Error, Result};

/// The open file. One that is opened to be written is written to at once, so that waits for the first transaction.
enum Handle {
    /// With whether what was begun on it is over.
    Reading(ReadOnlyDatabase, Arc<AtomicBool>),
    Writing(Database),
}

/// How the file is opened to be written, and opened anew after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The file, held open alone.
pub(super) struct File {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failed write, until the file is opened anew.
    database: RwLock<Option<Handle>>,
}

impl File {
    pub(super) fn open(path: &Path, opener: Opener) -> Result<Self> {
        let database = guarded(path, || opener().map_err(|error| open_error(path, error)))?;
        Ok(Self::with(path, opener, Handle::Writing(database)))
    }

    /// Opens a file that is there; nothing is written before the first transaction, if it was closed cleanly.
    pub(super) fn open_to_read(path: &Path, cache_bytes: usize, opener: Opener) -> Result<Self> {
        match inspect(path, cache_bytes)? {
            Some(database) => Ok(Self::with(path, opener, Handle::Reading(database, Arc::default()))),
            None => Self::open(path, opener),
        }
    }

    fn with(path: &Path, opener: Opener, handle: Handle) -> Self {
        Self { path: path.to_path_buf(), opener, database: RwLock::new(Some(handle)) }
    }

    fn begin_read(&self) -> Result<(ReadTransaction, Option<Arc<AtomicBool>>)> {
        let (begun, is_lost) = match self.database()?.as_ref() {
            Some(Handle::Reading(database, is_lost)) => (database.begin_read(), Some(Arc::clone(is_lost))),
            Some(Handle::Writing(database)) => (database.begin_read(), None),
            None => return Err(Error::corrupt(&self.path, "it is closed")),
        };
        Ok((begun.map_err(|error| self.transaction_error(error))?, is_lost))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn make_table(&self) -> Result<()> {
        let made = guarded(&self.path, || {
            let transaction = self.begin_write()?;
            transaction.open_table(TABLE).map_err(|error| self.table_error(error))?;
            transaction.commit().map_err(|error| self.commit_error(error))
        });
        made.inspect_err(|_| self.give_up())
    }

    /// The table as of the last transaction.
    pub(super) fn view(&self) -> Result<View> {
        let (table, is_lost) = guarded(&self.path, || {
            let (transaction, is_lost) = self.begin_read()?;
            Ok((transaction.open_table(TABLE).map_err(|error| self.table_error(error))?, is_lost))
        })?;
        Ok(View { path: self.path.clone(), table, is_lost })
    }

    /// The last generation of the journal that is in the file; 0 for none.
    pub(super) fn done(&self) -> Result<u64> {
        guarded(&self.path, || {
            let (transaction, _) = self.begin_read()?;
            let notes = match transaction.open_table(NOTES) {
                Ok(notes) => notes,
                Err(TableError::TableDoesNotExist(_)) => return Ok(0),
                Err(error) => return Err(self.table_error(error)),
            };
            let done = notes.get(DONE).map_err(|error| self.storage_error(error))?;
            Ok(done.map_or(0, |done| done.value()))
        })
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction> {
        let database = self.writable()?;
        let Some(Handle::Writing(database)) = database.as_ref() else {
            return Err(Error::corrupt(&self.path, "it is closed"));
        };
        let mut transaction = database.begin_write().map_err(|error| self.transaction_error(error))?;
        let n_bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        transaction.set_quick_repair(n_bytes > QUICK_REPAIR_BYTES);
        Ok(transaction)
    }

    /// The database, open to be written. Views that were taken before the first transaction are lost to it.
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
                        let reading = inspect(&self.path, 0).ok().flatten();
                        *current = reading.map(|database| Handle::Reading(database, Arc::default()));
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
    pub(super) fn give_up(&self) {
        let given_up = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = guarded(&self.path, || {
            drop(given_up);
            Ok(())
        });
        drop(closed);
    }

    pub(super) fn storage_error(&self, error: StorageError) -> Error {
        storage_error(&self.path, error)
    }

    pub(super) fn table_error(&self, error: TableError) -> Error {
        table_error(&self.path, error)
    }

    fn transaction_error(&self, error: TransactionError) -> Error {
        match error {
            TransactionError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
        }
    }

    pub(super) fn commit_error(&self, error: CommitError) -> Error {
        match error {
            CommitError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
        }
    }

    pub(super) fn cursor_error(&self, error: CursorError) -> Error {
        match error {
            CursorError::Storage(error) => self.storage_error(error),
            other => other_error(&self.path, other),
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
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
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

pub(super) fn storage_error(path: &Path, error: StorageError) -> Error {
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
