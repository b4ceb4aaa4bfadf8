//! sled's files, and their syncs, which sled leaves out or does halfway.
//!
//! ```text
//! conf          settings, written once
//! db            the log of pages
//! snap.*        where the pages lie, written anew when it is opened
//! blobs/        pages too large for the log: only very long keys make them here
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long a folder that was just closed may stay locked by sled's threads.
const CLOSING_TIME: Duration = Duration::from_secs(2);
const CLOSING_PAUSE: Duration = Duration::from_millis(2);

/// The files of an open folder.
pub(super) struct Files {
    path: PathBuf,
    log: File,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let log = path.join("db");
        let opened = File::options().read(true).write(true).open(&log);
        Ok(Self { path: path.to_path_buf(), log: opened.map_err(|error| Error::io("open", &log, error))? })
    }

    /// Syncs what a commit has written.
    pub(super) fn sync_data(&self) -> Result<()> {
        self.log.sync_all().map_err(|error| Error::io("sync", &self.path.join("db"), error))?;
        let blobs = self.path.join("blobs");
        if sync_files_in(&blobs)? > 0 {
            sync_file(&blobs)?;
        }
        Ok(())
    }

    /// Syncs everything, and the names of it.
    pub(super) fn sync_all(&self) -> Result<()> {
        self.sync_data()?;
        sync_files_in(&self.path)?;
        sync_file(&self.path)?;
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_file)
    }
}

/// Refuses a folder that sled never wrote, before it writes.
pub(super) fn require(path: &Path) -> Result<()> {
    for name in ["conf", "db"] {
        if !path.join(name).try_exists().map_err(|error| Error::io("look at", path, error))? {
            return Err(Error::corrupt(path, format!("its file `{name}` is missing")));
        }
    }
    Ok(())
}

/// Makes an empty folder; one that is there must be empty.
pub(super) fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io("make the folder", path, error))?;
    let mut entries = fs::read_dir(path).map_err(|error| Error::io("read the folder", path, error))?;
    if entries.next().is_some() { Err(Error::foreign(path, "it is not empty")) } else { Ok(()) }
}

/// Opens, again and again while the folder's last owner in this process is still letting go of it.
pub(super) fn open_patiently<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match open() {
            Err(Error::Busy { .. }) if started.elapsed() < CLOSING_TIME => std::thread::sleep(CLOSING_PAUSE),
            opened => return opened,
        }
    }
}

/// Syncs the files of a folder; the number of them. One that was removed meanwhile needs no sync.
fn sync_files_in(dir: &Path) -> Result<usize> {
    let failed = |error| Error::io("read the folder", dir, error);
    let mut n_files = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type() {
            Ok(kind) if kind.is_file() => {}
            _ => continue,
        }
        n_files += 1;
        match File::open(entry.path()).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("sync", &entry.path(), error)),
            _ => {}
        }
    }
    Ok(n_files)
}

fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", path, error))
}
