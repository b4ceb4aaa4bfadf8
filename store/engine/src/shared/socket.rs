//! The socket file of a store folder.
//!
//! A socket's path may have about a hundred bytes, a folder's four thousand; so a long one is reached through
//! `/proc/self/fd`. The socket is made in a folder only its owner may enter and then moved into place, so nobody else can
//! connect at any moment, and a stale socket is replaced in one step.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::layout::{SOCKET, SOCKET_NEW};

/// Paths up to this are used as they are; the least of what the systems allow is 103.
const MAX_PATH_BYTES: usize = 100;

/// Listens in `dir`, instead of whoever listened there before. The caller holds the store's lock.
pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
    let making = dir.join(SOCKET_NEW);
    let made = making.join(SOCKET);
    remove_making(&made, &making)?;
    DirBuilder::new().mode(0o700).create(&making)?;
    let listener = at_short_path(&making, UnixListener::bind)?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, dir.join(SOCKET))?;
    fs::remove_dir(&making)?;
    Ok(listener)
}

/// Connects to whoever listens in `dir`.
pub(super) fn connect(dir: &Path) -> io::Result<UnixStream> {
    at_short_path(dir, UnixStream::connect)
}

/// Removes the socket of `dir`. The caller holds the store's lock.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(SOCKET))
}

fn remove_making(made: &Path, making: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    absent_is_fine(fs::remove_file(made))?;
    absent_is_fine(fs::remove_dir(making))
}

fn at_short_path<T>(dir: &Path, work: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let path = dir.join(SOCKET);
    if path.as_os_str().len() <= MAX_PATH_BYTES || !cfg!(target_os = "linux") {
        return work(path);
    }
    let folder = File::open(dir)?;
    work(PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())))
}
