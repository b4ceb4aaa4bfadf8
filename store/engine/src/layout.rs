//! What a store folder is.
//!
//! ```text
//! FORMAT       one line: `tracker store, layout 2, engine redb`
//! data.redb    the engine's file, or folder: `data.` and its name
//! data.journal what redb has acknowledged and not written there yet; no file at most times
//! CONVERTING   one line, there while a store goes from one engine to another: `redb to sled`
//! LOCK         locked by the process that holds the engine open; its text is that process's id
//! socket       where that process serves the others
//! ```
//!
//! Layout 1 had no journal. A store of layout 1 is one of layout 2 without a journal, and becomes one when it is opened, so that
//! builds which do not look for a journal refuse it from then on.
//!
//! A folder is a store exactly when `FORMAT` says so. It is made under the lock, in an order that a kill at any point
//! leaves either no store, whose making the next opener takes up again, or a whole one: first `FORMAT.new`, synced, which
//! claims the folder; then the engine's file; then the rename of `FORMAT.new` to `FORMAT`. Nothing is acknowledged
//! before that rename.
//!
//! Invariant: [`check`] writes nothing, and nothing is written before it has agreed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kind::Local;
use crate::{Error, Kind, Options, Result, UnknownKind};

/// The layout of a store folder that this build writes, and the highest it reads.
pub const LAYOUT: u32 = 2;
/// The lowest layout there was, and is read.
const OLDEST_LAYOUT: u32 = 1;

/// The file whose lock says which process has the store.
pub const LOCK: &str = "LOCK";
/// Says that data of two engines may be there, and which.
const CONVERTING: &str = "CONVERTING";
pub(crate) const SOCKET: &str = "socket";
/// Where a socket is made before it is moved into place.
pub(crate) const SOCKET_NEW: &str = "socket.new";
pub(crate) const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const JOURNAL: &str = "data.journal";
/// `FORMAT` is one line; what is longer is another program's.
const MAX_FORMAT_BYTES: u64 = 256;

/// What a folder is, as far as [`check`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A store of this layout, kept by this engine.
    Store(Kind),
    /// Not there, or empty, or half made.
    Empty,
}

/// Looks at `dir` without writing.
///
/// # Errors
/// `Foreign`, `Newer`, `NotBuilt` or `Corrupt` if it must not be opened; `Io` if it cannot be read.
pub(crate) fn check(dir: &Path) -> Result<State> {
    if let Some((_, engine)) = read_format(dir)? {
        engine.require_built(dir)?;
        return Ok(State::Store(engine));
    }
    let is_claimed = is_claimed(dir)?;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Empty),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Error::foreign(dir, "it is not a folder"));
        }
        Err(error) => return Err(Error::io("read the folder", dir, error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| Error::io("read the folder", dir, error))?.file_name();
        let is_ours = match name.to_str() {
            Some(LOCK | SOCKET | SOCKET_NEW | FORMAT_NEW) => true,
            Some(JOURNAL) => is_claimed,
            Some(name) if Kind::ALL.iter().any(|kind| kind.data_name() == name) => is_claimed,
            Some(name) => name.starts_with('.') || name == "lost+found",
            None => false,
        };
        // Another process may have finished making the store since the first look.
        if !is_ours {
            if let Some((_, engine)) = read_format(dir)? {
                engine.require_built(dir)?;
                return Ok(State::Store(engine));
            }
            return Err(Error::foreign(dir, format!("it has no `FORMAT` and holds `{}`", name.display())));
        }
    }
    Ok(State::Empty)
}

/// Opens the engine of `dir`, making the store if there is none. The caller holds the lock.
pub(crate) fn open_engine(dir: &Path, options: &Options) -> Result<Arc<dyn Local>> {
    if let State::Store(kind) = check(dir)? {
        clear_conversion(dir, kind)?;
        if read_format(dir)?.is_some_and(|(layout, _)| layout < LAYOUT) {
            write_claim(dir, kind)?;
            settle_claim(dir)?;
        }
        return kind.open(&data_path(dir, kind), options.cache_bytes);
    }
    let kind = options.engine;
    kind.require_built(dir)?;
    if is_claimed(dir)? {
        // What was half made acknowledged nothing.
        Kind::ALL.into_iter().try_for_each(|half_made| remove_data(dir, half_made))?;
    }
    write_claim(dir, kind)?;
    let engine = kind.create(&data_path(dir, kind), options.cache_bytes)?;
    settle_claim(dir)?;
    Ok(engine)
}

/// Where the data of `kind` lies in the store at `dir`.
pub(crate) fn data_path(dir: &Path, kind: Kind) -> PathBuf {
    dir.join(kind.data_name())
}

/// Says that data of `to` is about to be made beside that of `from`.
pub(crate) fn begin_conversion(dir: &Path, from: Kind, to: Kind) -> Result<()> {
    let path = data_path(dir, to);
    if path.try_exists().map_err(|error| Error::io("look at", &path, error))? {
        return Err(Error::foreign(&path, format!("`FORMAT` names engine `{from}`, so move it out of the way")));
    }
    write_synced(&dir.join(CONVERTING), format!("{from} to {to}\n").as_bytes())?;
    sync_dir(dir)
}

/// Makes `to` keep the store from now on; its data is whole and synced.
pub(crate) fn replace_engine(dir: &Path, to: Kind) -> Result<()> {
    write_claim(dir, to)?;
    settle_claim(dir)
}

/// Ends a conversion, if one was begun, by removing the data that `kept`, the engine of the store, does not need.
/// The caller holds the lock.
pub(crate) fn clear_conversion(dir: &Path, kept: Kind) -> Result<()> {
    let path = dir.join(CONVERTING);
    let Some(text) = read_start(&path)? else {
        return Ok(());
    };
    // A line cut short was not synced, so nothing was made yet.
    if let Some((from, to)) = text.strip_suffix('\n').and_then(|line| line.split_once(" to ")) {
        for kind in [from, to].into_iter().filter_map(|name| name.parse().ok()).filter(|&kind: &Kind| kind != kept) {
            remove_data(dir, kind)?;
        }
    }
    remove(&dir.join(FORMAT_NEW))?;
    remove(&path)?;
    sync_dir(dir)
}

/// Writes `FORMAT` anew. The caller holds the lock, and knows that `kind` keeps the store.
pub(crate) fn write_format(dir: &Path, kind: Kind) -> Result<()> {
    write_claim(dir, kind)?;
    settle_claim(dir)
}

/// Says in `FORMAT.new` that `kind` is to keep the store.
fn write_claim(dir: &Path, kind: Kind) -> Result<()> {
    let text = format!("tracker store, layout {LAYOUT}, engine {kind}\n");
    write_synced(&dir.join(FORMAT_NEW), text.as_bytes())?;
    sync_dir(dir)
}

/// Makes `FORMAT.new` be `FORMAT`.
fn settle_claim(dir: &Path) -> Result<()> {
    let claim = dir.join(FORMAT_NEW);
    fs::rename(&claim, dir.join(FORMAT)).map_err(|error| Error::io("rename", &claim, error))?;
    sync_dir(dir)
}

/// Removes the data of `kind`, if there is any.
fn remove_data(dir: &Path, kind: Kind) -> Result<()> {
    if kind == Kind::Redb {
        remove(&dir.join(JOURNAL))?;
    }
    remove(&data_path(dir, kind))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// The layout and the engine that `FORMAT` names, if it is there.
fn read_format(dir: &Path) -> Result<Option<(u32, Kind)>> {
    let path = dir.join(FORMAT);
    let Some(text) = read_start(&path)? else {
        return Ok(None);
    };
    let Some(rest) = text.strip_prefix("tracker store, layout ") else {
        return Err(if text.trim().is_empty() {
            Error::corrupt(&path, "it is empty")
        } else {
            Error::foreign(&path, "it does not begin with `tracker store, layout`")
        });
    };
    let mut fields = rest.trim_end().split(", ");
    let found = fields.next().unwrap_or_default();
    let found: u32 =
        found.parse().map_err(|_| Error::corrupt(&path, format!("expected a layout number, got `{found}`")))?;
    if found > LAYOUT {
        return Err(Error::Newer { path, found, supported: LAYOUT });
    }
    if found < OLDEST_LAYOUT {
        return Err(Error::corrupt(&path, format!("there never was a layout `{found}`")));
    }
    let engine = fields.next().and_then(|field| field.strip_prefix("engine ")).unwrap_or_default();
    engine
        .parse()
        .map(|kind| Some((found, kind)))
        .map_err(|unknown: UnknownKind| Error::corrupt(&path, unknown.to_string()))
}

/// Whether the making of a store was begun here.
fn is_claimed(dir: &Path) -> Result<bool> {
    let text = read_start(&dir.join(FORMAT_NEW))?;
    Ok(text.is_some_and(|text| text.starts_with("tracker store, layout ")))
}

fn read_start(path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::io("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FORMAT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Error::io("write", path, error))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io("sync", dir, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const DATA: &str = "data.redb";

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// Every file with its bytes, to see that nothing was touched.
    fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Opening `dir` fails with an error that says `expected`, and leaves it as it was.
    fn check_refused(dir: &Path, expected: &str) -> Error {
        let before = contents(dir);
        let error = crate::open(dir, &crate::Options::default()).err().unwrap();
        assert!(error.to_string().contains(expected), "expected `{expected}`, got `{error}`");
        assert_eq!(contents(dir), before, "a refused folder was written to");
        error
    }

    #[test]
    fn a_folder_of_another_program_is_refused_untouched() {
        let dir = folder();
        fs::write(dir.path().join("README.md"), "hello").unwrap();
        let error = check_refused(dir.path(), "holds `README.md`; name an empty or a new folder");
        assert!(matches!(error, Error::Foreign { .. }));
    }

    #[test]
    fn a_redb_file_that_is_not_ours_is_refused_untouched() {
        let dir = folder();
        drop(::redb::Database::create(dir.path().join(DATA)).unwrap());
        assert!(matches!(check_refused(dir.path(), "holds `data.redb`"), Error::Foreign { .. }));
        fs::write(dir.path().join(FORMAT), "tracker store, layout 2, engine redb\n").unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        let before = contents(dir.path());
        let error = crate::open(dir.path(), &crate::Options::default()).err().unwrap();
        assert!(error.to_string().contains("redb file of another program"), "{error}");
        let data = |files: &[(String, Vec<u8>)]| files.iter().find(|file| file.0 == DATA).cloned();
        assert_eq!(data(&contents(dir.path())), data(&before));
    }

    #[test]
    fn a_newer_layout_is_refused_untouched() {
        let dir = folder();
        fs::write(dir.path().join(FORMAT), "tracker store, layout 3, engine redb\n").unwrap();
        let error = check_refused(dir.path(), "layout `2` or lower, got `3`; use the newer build");
        assert!(matches!(error, Error::Newer { found: 3, supported: 2, .. }));
    }

    #[test]
    fn a_bad_format_file_is_named() {
        for (text, expected) in [
            ("", "it is empty"),
            ("tracker store, layout x", "expected a layout number, got `x`"),
            ("tracker store, layout 0, engine redb", "there never was a layout `0`"),
            ("tracker store, layout 2, engine abacus", "expected an engine, `redb`, `sled` or `rocksdb`, got `abacus`"),
            ("MZ\u{0}\u{1}", "does not begin with `tracker store, layout`"),
        ] {
            let dir = folder();
            fs::write(dir.path().join(FORMAT), text).unwrap();
            check_refused(dir.path(), expected);
        }
    }

    #[test]
    fn a_store_of_an_engine_that_is_not_built_is_refused_untouched() {
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_built()) {
            let dir = folder();
            fs::write(dir.path().join(FORMAT), format!("tracker store, layout 2, engine {kind}\n")).unwrap();
            let error = check_refused(dir.path(), &format!("build tracker with `--features {kind}`"));
            assert!(matches!(error, Error::NotBuilt { engine, .. } if engine == kind));
            let options = Options { engine: kind, ..Options::default() };
            let error = crate::open(&folder().path().join("new"), &options).err().unwrap();
            assert!(matches!(error, Error::NotBuilt { engine, .. } if engine == kind), "{error}");
        }
    }

    #[test]
    fn a_store_of_the_layout_before_is_opened_and_is_of_this_one_then() {
        let dir = folder();
        let mut batch = crate::Batch::new();
        batch.put(b"a", b"1");
        let engine = crate::open(dir.path(), &crate::Options::default()).unwrap();
        engine.commit(&batch, crate::Durability::Sync).unwrap();
        drop(engine);
        fs::write(dir.path().join(FORMAT), "tracker store, layout 1, engine redb\n").unwrap();
        let engine = crate::open(dir.path(), &crate::Options::default()).unwrap();
        assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT)).unwrap(), "tracker store, layout 2, engine redb\n");
    }

    #[test]
    fn a_file_is_not_a_folder() {
        let dir = folder();
        let file = dir.path().join("x");
        fs::write(&file, "").unwrap();
        let error = crate::open(&file, &crate::Options::default()).err().unwrap();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_missing_or_damaged_data_file_is_corrupt_and_not_made_anew() {
        let dir = folder();
        drop(crate::open(dir.path(), &crate::Options::default()).unwrap());
        let data = dir.path().join(DATA);
        fs::remove_file(&data).unwrap();
        let error = crate::open(dir.path(), &crate::Options::default()).err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(!data.exists());
        for garbage in [b"".to_vec(), vec![7; 5], vec![7; 100_000]] {
            fs::write(&data, &garbage).unwrap();
            let error = crate::open(dir.path(), &crate::Options::default()).err().unwrap();
            assert!(matches!(&error, Error::Corrupt { path, .. } if path == &data), "{error}");
            assert_eq!(fs::read(&data).unwrap(), garbage);
        }
    }

    #[test]
    fn making_a_store_that_was_cut_short_is_taken_up_again() {
        let whole = folder();
        drop(crate::open(whole.path(), &crate::Options::default()).unwrap());
        let format = fs::read(whole.path().join(FORMAT)).unwrap();
        for data in [None, Some(Vec::new()), Some(fs::read(whole.path().join(DATA)).unwrap())] {
            let dir = folder();
            fs::write(dir.path().join(LOCK), "").unwrap();
            fs::write(dir.path().join(FORMAT_NEW), &format).unwrap();
            if let Some(data) = data {
                fs::write(dir.path().join(DATA), data).unwrap();
            }
            let engine = crate::open(dir.path(), &crate::Options::default()).unwrap();
            assert_eq!(engine.get(b"x").unwrap(), None);
            assert_eq!(fs::read(dir.path().join(FORMAT)).unwrap(), format);
        }
    }
}
