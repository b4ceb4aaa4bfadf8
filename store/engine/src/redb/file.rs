//! redb's file: opened, opened anew after a failure, and its errors in our words.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use ::redb::{
    CommitError, CursorError, Database, DatabaseError, ReadableDatabase, StorageError, TableError, TransactionError,
    WriteTransaction,
};

use super::layer::View;
use super::{DONE, NOTES, QUICK_REPAIR_BYTES, TABLE};
use crate::{Error, Result};

/// How the file is opened, and opened anew after a failure.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The file, held open alone.
pub(super) struct File {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failed write, until the file is opened anew.
    database: RwLock<Option<Database>>,
}

impl File {
    pub(super) fn open(path: &Path, opener: Opener) -> Result<Self> {
        let database = guarded(path, || opener().map_err(|error| open_error(path, error)))?;
        Ok(Self { path: path.to_path_buf(), opener, database: RwLock::new(Some(database)) })
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
        let table = guarded(&self.path, || {
            let database = self.database()?;
            let Some(database) = database.as_ref() else {
                return Err(Error::corrupt(&self.path, "it is closed"));
            };
            let transaction = database.begin_read().map_err(|error| self.transaction_error(error))?;
            transaction.open_table(TABLE).map_err(|error| self.table_error(error))
        })?;
        Ok(View { path: self.path.clone(), table })
    }

    /// The last generation of the journal that is in the file; 0 for none.
    pub(super) fn done(&self) -> Result<u64> {
        guarded(&self.path, || {
            let database = self.database()?;
            let Some(database) = database.as_ref() else {
                return Err(Error::corrupt(&self.path, "it is closed"));
            };
            let transaction = database.begin_read().map_err(|error| self.transaction_error(error))?;
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
        let database = self.database()?;
        let Some(database) = database.as_ref() else {
            return Err(Error::corrupt(&self.path, "it is closed"));
        };
        let mut transaction = database.begin_write().map_err(|error| self.transaction_error(error))?;
        let n_bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        transaction.set_quick_repair(n_bytes > QUICK_REPAIR_BYTES);
        Ok(transaction)
    }

    /// The open database, opened anew if the last write to it failed.
    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>> {
        loop {
            let current = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if current.is_some() {
                return Ok(current);
            }
            drop(current);
            let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if current.is_none() {
                *current = Some((self.opener)().map_err(|error| open_error(&self.path, error))?);
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

/// Refuses a redb file of another program before anything in it is written. A file that was not closed cleanly cannot be
/// looked into without repairing it, so it is let through; `FORMAT` vouches for it.
pub(super) fn inspect(path: &Path) -> Result<()> {
    if !path.try_exists().map_err(|error| Error::io("look at", path, error))? {
        return Err(Error::corrupt(path, "it is missing"));
    }
    guarded(path, || {
        let database = match Database::builder().set_cache_size(0).open_read_only(path) {
            Ok(database) => database,
            Err(DatabaseError::RepairAborted) => return Ok(()),
            Err(error) => return Err(open_error(path, error)),
        };
        let transaction = database.begin_read().map_err(|error| other_error(path, error))?;
        match transaction.open_table(TABLE) {
            Ok(_) => Ok(()),
            Err(error) => Err(table_error(path, error)),
        }
    })
}

/// Runs redb code. It may panic over a damaged file; that is reported as damage.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
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
