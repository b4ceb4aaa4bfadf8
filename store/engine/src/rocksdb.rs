//! Ordered bytes in one rocksdb folder.
//!
//! All keys lie in one column family. Every write goes through the log; `Sync` waits until the log is synced, `Os` until
//! the system has it. Sorted runs are compressed by lz4 and have bloom filters.
//!
//! Invariants:
//! - Within one group, members are judged and written one after the other, as if each had come alone.
//! - After a failed write rocksdb may take no more of them, so the folder is closed and opened anew, once the last
//!   snapshot of it is gone; a commit whose outcome that leaves open is looked up and answered with what is there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, ErrorKind,
    LogLevel, Options, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};
use self_cell::self_cell;

use crate::group::{self, Group, Member};
use crate::kind::Local;
use crate::layout::sync_dir;
use crate::staged::{self, Writes};
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Read, Result, Visitor};

/// The column family of all keys.
const FAMILY: &str = "ordered bytes";
/// Ten bits a key: one in a hundred absent keys is looked for on disk.
const BLOOM_BITS: f64 = 10.0;
/// Memory below this is not worth dividing.
const MIN_CACHE_BYTES: usize = 16 << 20;
/// Files kept open.
const MAX_OPEN_FILES: i32 = 512;
/// Its own log, for people.
const MAX_LOG_BYTES: usize = 1 << 20;

/// Ordered bytes in one rocksdb folder, which it holds open alone.
pub struct Rocksdb {
    path: PathBuf,
    cache_bytes: usize,
    /// `None` after a failed write, until the folder is opened anew.
    database: RwLock<Option<Arc<Database>>>,
    group: Group,
}

impl Rocksdb {
    /// Opens the folder at `path`, which [`Rocksdb::create`] made.
    ///
    /// # Errors
    /// `Busy` if it is open elsewhere; `Foreign` if it is a rocksdb folder of another program; `Corrupt` if it is damaged
    /// or not there; `ReadOnly`, `Full`, `Io`.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        if !path.join("CURRENT").try_exists().map_err(|error| Error::io("look at", path, error))? {
            return Err(Error::corrupt(path, "its file `CURRENT` is missing"));
        }
        let families = DB::list_cf(&Options::default(), path).map_err(|error| rocksdb_error(path, error))?;
        if !families.iter().any(|family| family == FAMILY) {
            return Err(Error::foreign(path, "it is a rocksdb folder of another program"));
        }
        let database = Database::open(path, cache_bytes, false)?;
        Ok(Self::over(path, cache_bytes, database))
    }

    /// Makes the folder `path`, which must not be there or be empty, and opens it.
    ///
    /// # Errors
    /// `Foreign` if there is something in it; else as [`Rocksdb::open`].
    pub fn create(path: &Path, cache_bytes: usize) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|error| Error::io("make the folder", path, error))?;
        let mut entries = std::fs::read_dir(path).map_err(|error| Error::io("read the folder", path, error))?;
        if entries.next().is_some() {
            return Err(Error::foreign(path, "it is not empty"));
        }
        let database = Database::open(path, cache_bytes, true)?;
        sync_dir(path)?;
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)?;
        Ok(Self::over(path, cache_bytes, database))
    }

    fn over(path: &Path, cache_bytes: usize, database: Database) -> Self {
        let database = RwLock::new(Some(Arc::new(database)));
        Self { path: path.to_path_buf(), cache_bytes, database, group: Group::default() }
    }

    /// The open database, opened anew if the last write to it failed.
    fn database(&self) -> Result<Arc<Database>> {
        if let Some(database) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(database));
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(Arc::clone(database));
        }
        let opened = Arc::new(Database::open(&self.path, self.cache_bytes, false)?);
        *database = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Writes the members of a group in one batch.
    fn write_group(&self, members: &mut [Member<'_>]) {
        let written = staged::stage(members, self).and_then(|writes| self.write(&writes, staged::durability(members)));
        if let Err(error) = written {
            group::refuse_all(members, &error);
        }
    }

    fn write(&self, writes: &Writes<'_>, durability: Durability) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let Err(error) = self.database()?.write(writes, durability) else {
            return Ok(());
        };
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
        // It may have reached the disk all the same: answer with what is there, if that can be made to stay.
        let is_there = staged::is_written(writes, self)
            .and_then(|is_there| self.database().and_then(|database| database.sync()).map(|()| is_there));
        if is_there.unwrap_or(false) { Ok(()) } else { Err(error) }
    }
}

impl Read for Rocksdb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let database = self.database()?;
        let value = database.db.get_cf(database.family()?, key).map_err(|error| database.error(error))?;
        Ok(value)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let database = self.database()?;
        // An iterator sees one state.
        let entries = database.db.raw_iterator_cf_opt(database.family()?, bounds(&range));
        visit_all(&database, entries, direction, visit)
    }
}

impl Engine for Rocksdb {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        self.commit_once(batch, durability, false)
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        Ok(Arc::new(View::new(self.database()?, |database| database.db.snapshot())))
    }

    fn name(&self) -> &'static str {
        "rocksdb"
    }
}

impl Local for Rocksdb {
    fn commit_once(&self, batch: &Batch, durability: Durability, resent: bool) -> Result<()> {
        batch.check_size()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.group.commit(batch, durability, resent, |members| self.write_group(members))
    }
}

/// The open folder.
struct Database {
    path: PathBuf,
    db: DB,
}

impl Database {
    fn open(path: &Path, cache_bytes: usize, is_new: bool) -> Result<Self> {
        let cache_bytes = cache_bytes.max(MIN_CACHE_BYTES);
        let mut options = Options::default();
        options.create_if_missing(is_new);
        options.create_missing_column_families(is_new);
        options.set_max_open_files(MAX_OPEN_FILES);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(MAX_LOG_BYTES);
        // Half of the memory keeps what was written last, the other half what was read.
        options.set_db_write_buffer_size(cache_bytes / 2);
        let mut family = Options::default();
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(cache_bytes / 2));
        table.set_bloom_filter(BLOOM_BITS, false);
        family.set_block_based_table_factory(&table);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_write_buffer_size(cache_bytes / 4);
        let families = [
            ColumnFamilyDescriptor::new(::rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Options::default()),
            ColumnFamilyDescriptor::new(FAMILY, family),
        ];
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|error| rocksdb_error(path, error))?;
        Ok(Self { path: path.to_path_buf(), db })
    }

    fn family(&self) -> Result<&ColumnFamily> {
        self.db.cf_handle(FAMILY).ok_or_else(|| Error::corrupt(&self.path, "its column family is missing"))
    }

    fn write(&self, writes: &Writes<'_>, durability: Durability) -> Result<()> {
        let family = self.family()?;
        let mut batch = WriteBatch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Sync);
        self.db.write_opt(batch, &options).map_err(|error| self.error(error))
    }

    /// Syncs what was written without.
    fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| self.error(error))
    }

    fn error(&self, error: ::rocksdb::Error) -> Error {
        rocksdb_error(&self.path, error)
    }
}

self_cell! {
    /// A snapshot, and the database that it keeps open.
    struct View {
        owner: Arc<Database>,
        #[not_covariant]
        dependent: Snapshot,
    }
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with_dependent(|database, snapshot| {
            snapshot.get_cf(database.family()?, key).map_err(|error| database.error(error))
        })
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.with_dependent(|database, snapshot| {
            let entries = snapshot.raw_iterator_cf_opt(database.family()?, bounds(&range));
            visit_all(database, entries, direction, visit)
        })
    }
}

fn bounds(range: &KeyRange<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start());
    if let Some(end) = range.end() {
        options.set_iterate_upper_bound(end);
    }
    options
}

fn visit_all(
    database: &Database,
    mut entries: DBRawIterator<'_>,
    direction: Direction,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    match direction {
        Direction::Ascending => entries.seek_to_first(),
        Direction::Descending => entries.seek_to_last(),
    }
    while let Some((key, value)) = entries.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Ascending => entries.next(),
            Direction::Descending => entries.prev(),
        }
    }
    entries.status().map_err(|error| database.error(error))
}

/// Names an error by its kind, and by its words where rocksdb has no kind for it.
fn rocksdb_error(path: &Path, error: ::rocksdb::Error) -> Error {
    let kind = error.kind();
    let message = error.into_string();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    match kind {
        ErrorKind::Corruption => Error::corrupt(path, message),
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => Error::foreign(path, message),
        ErrorKind::IOError if says(&["lock hold by current process", "While lock file"]) => {
            Error::Busy { path: path.to_path_buf() }
        }
        _ => {
            let kind = if says(&["No space left", "Disk quota", "File too large"]) {
                io::ErrorKind::StorageFull
            } else if says(&["Permission denied"]) {
                io::ErrorKind::PermissionDenied
            } else if says(&["Read-only file system"]) {
                io::ErrorKind::ReadOnlyFilesystem
            } else {
                io::ErrorKind::Other
            };
            Error::io("read or write", path, io::Error::new(kind, message))
        }
    }
}
