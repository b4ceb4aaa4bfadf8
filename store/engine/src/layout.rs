//! What a store folder is.
//!
//! ```text
//! FORMAT       one line: `tracker store, layout 1, engine redb`
//! data.redb    the engine's file
//! LOCK         locked by the process that holds the engine open; its text is that process's id
//! socket       where that process serves the others
//! ```
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

use crate::{Error, Redb, Result};

/// The layout of a store folder that this build writes, and the highest it reads.
pub const LAYOUT: u32 = 1;

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const SOCKET: &str = "socket";
/// Where a socket is made before it is moved into place.
pub(crate) const SOCKET_NEW: &str = "socket.new";
pub(crate) const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
pub(crate) const DATA: &str = "data.redb";
const ENGINE: &str = "redb";
/// `FORMAT` is one line; what is longer is another program's.
const MAX_FORMAT_BYTES: u64 = 256;

/// What a folder is, as far as [`check`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A store of this layout.
    Store,
    /// Not there, or empty, or half made.
    Empty,
}

/// Looks at `dir` without writing.
///
/// # Errors
/// `Foreign`, `Newer` or `Corrupt` if it must not be opened; `Io` if it cannot be read.
pub(crate) fn check(dir: &Path) -> Result<State> {
    if read_format(dir)? {
        return Ok(State::Store);
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
            Some(DATA) => is_claimed,
            Some(name) => name.starts_with('.') || name == "lost+found",
            None => false,
        };
        // Another process may have finished making the store since the first look.
        if !is_ours {
            if read_format(dir)? {
                return Ok(State::Store);
            }
            return Err(Error::foreign(dir, format!("it has no `FORMAT` and holds `{}`", name.display())));
        }
    }
    Ok(State::Empty)
}

/// Opens the engine of `dir`, making the store if there is none. The caller holds the lock.
pub(crate) fn open_engine(dir: &Path, cache_bytes: usize) -> Result<Redb> {
    let data = dir.join(DATA);
    if check(dir)? == State::Store {
        return Redb::open(&data, cache_bytes);
    }
    let claim = claim(dir)?;
    let engine = Redb::create(&data, cache_bytes)?;
    fs::rename(&claim, dir.join(FORMAT)).map_err(|error| Error::io("rename", &claim, error))?;
    sync_dir(dir)?;
    Ok(engine)
}

/// Writes `FORMAT.new`, which claims the folder.
fn claim(dir: &Path) -> Result<PathBuf> {
    let claim = dir.join(FORMAT_NEW);
    write_synced(&claim, format!("tracker store, layout {LAYOUT}, engine {ENGINE}\n").as_bytes())?;
    sync_dir(dir)?;
    Ok(claim)
}

/// Writes `FORMAT` anew. The caller holds the lock, and knows that the folder is a store.
pub(crate) fn write_format(dir: &Path) -> Result<()> {
    let claim = claim(dir)?;
    fs::rename(&claim, dir.join(FORMAT)).map_err(|error| Error::io("rename", &claim, error))?;
    sync_dir(dir)
}

/// Whether `FORMAT` is there and names this layout.
fn read_format(dir: &Path) -> Result<bool> {
    let path = dir.join(FORMAT);
    let Some(text) = read_start(&path)? else {
        return Ok(false);
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
    if found < LAYOUT {
        return Err(Error::corrupt(&path, format!("there never was a layout `{found}`")));
    }
    match fields.next().and_then(|field| field.strip_prefix("engine ")) {
        Some(ENGINE) => Ok(true),
        engine => Err(Error::corrupt(
            &path,
            format!("expected engine `{ENGINE}`, which is what this build has, got `{}`", engine.unwrap_or_default()),
        )),
    }
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
        fs::write(dir.path().join(FORMAT), "tracker store, layout 1, engine redb\n").unwrap();
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
        fs::write(dir.path().join(FORMAT), "tracker store, layout 2, engine redb\n").unwrap();
        let error = check_refused(dir.path(), "layout `1` or lower, got `2`; use the newer build");
        assert!(matches!(error, Error::Newer { found: 2, supported: 1, .. }));
    }

    #[test]
    fn a_bad_format_file_is_named() {
        for (text, expected) in [
            ("", "it is empty"),
            ("tracker store, layout x", "expected a layout number, got `x`"),
            ("tracker store, layout 0, engine redb", "there never was a layout `0`"),
            ("tracker store, layout 1, engine rocksdb", "got `rocksdb`"),
            ("MZ\u{0}\u{1}", "does not begin with `tracker store, layout`"),
        ] {
            let dir = folder();
            fs::write(dir.path().join(FORMAT), text).unwrap();
            check_refused(dir.path(), expected);
        }
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
