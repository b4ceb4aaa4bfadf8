//! A bundle as one tar: the mark first, the manifest last.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::sink::copy_error;
use super::sync_dir;
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// A tar that is being written.
pub(super) struct Archive<'a> {
    tar: tar::Builder<Box<dyn Write + 'a>>,
    /// What errors call it.
    name: PathBuf,
    file: Option<NewFile>,
}

/// A file that is not whole yet. Dropped before it is, it goes.
struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    is_whole: bool,
}

impl<'a> Archive<'a> {
    /// Begins a file that must not be there.
    pub(super) fn create(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(taken(path));
        }
        let name = path.file_name().ok_or_else(|| taken(path))?.to_string_lossy().into_owned();
        let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let file = File::create(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
        let handle = file.try_clone().map_err(|error| Error::io("open", &temporary, error))?;
        let file = NewFile { file, temporary: temporary.clone(), path: path.to_path_buf(), is_whole: false };
        let writer: Box<dyn Write> = Box::new(BufWriter::with_capacity(BUFFER_BYTES, handle));
        Ok(Self { tar: tar::Builder::new(writer), name: temporary, file: Some(file) })
    }

    /// Begins a stream.
    pub(super) fn over(stream: &'a mut dyn Write) -> Self {
        let writer: Box<dyn Write> = Box::new(BufWriter::with_capacity(BUFFER_BYTES, stream));
        Self { tar: tar::Builder::new(writer), name: PathBuf::from("-"), file: None }
    }

    /// Adds a file of `n_bytes`.
    pub(super) fn put(&mut self, name: &str, n_bytes: u64, source: &mut dyn Read) -> Result<()> {
        let mut header = header(n_bytes);
        let added = self.tar.append_data(&mut header, name, source);
        added.map_err(|error| copy_error(self.name.clone(), error))
    }

    /// Ends the tar, and gives a file its name.
    pub(super) fn finish(self) -> Result<()> {
        let Self { tar, name, file } = self;
        let ended = tar.into_inner().and_then(|mut writer| writer.flush());
        ended.map_err(|error| copy_error(name, error))?;
        let Some(mut new) = file else { return Ok(()) };
        new.file.sync_all().map_err(|error| Error::io("sync", &new.temporary, error))?;
        if new.path.symlink_metadata().is_ok() {
            return Err(taken(&new.path));
        }
        fs::rename(&new.temporary, &new.path).map_err(|error| Error::io("rename", &new.temporary, error))?;
        new.is_whole = true;
        let folder = new.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(folder)
    }
}

/// The head of every file in a bundle's tar, but for its name: nothing in it depends on the machine or the hour.
pub(super) fn header(n_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(n_bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn taken(path: &Path) -> Error {
    Error::invalid("the file to write", "one that is not there yet", path.display())
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_whole {
            // What cannot be removed has a name that says it is not whole.
            drop(fs::remove_file(&self.temporary));
        }
    }
}
