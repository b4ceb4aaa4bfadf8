//! A store from one engine to another.
//!
//! Whoever converts holds the store's lock alone, so nobody reads or writes meanwhile: processes that have the store open
//! as clients of a holder that is gone wait with their patience, and find the new engine. The copy is made beside the old
//! data, synced, opened anew and compared entry by entry; then `FORMAT` is exchanged, which is the moment the new engine
//! keeps the store; then the old data is removed. A kill leaves the old store before that moment and the new one after it,
//! and beside it data that the next to open the store removes, since `CONVERTING` says whose it is.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::kind::Local;
use crate::layout::{self, State};
use crate::shared::{self, FIRST_PAUSE, LONGEST_PAUSE};
use crate::{Batch, Direction, Durability, Error, KeyRange, Kind, Options, Result};

/// What is copied in one commit, and compared at once, in bytes.
const CHUNK_BYTES: usize = 8 << 20;

/// What a conversion did. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The engine that kept the store.
    pub from: Kind,
    /// The engine that keeps it now.
    pub to: Kind,
    /// Keys with their values.
    pub n_entries: u64,
    /// Their size.
    pub n_bytes: u64,
    /// What the old data took on disk.
    pub n_disk_bytes_before: u64,
    /// What the new data takes.
    pub n_disk_bytes_after: u64,
}

/// Where a conversion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many entries are copied.
    Copying(u64),
    /// So many entries of the copy are found right.
    Verifying(u64),
    /// The copy is whole, and the old engine still keeps the store.
    Replacing,
    /// The new engine keeps the store; the old data goes.
    Removing,
}

/// Lets `to` keep the store in `dir`. Returns `None` if it does already. `tell` is told of each step; the store is the old
/// one until it is told of [`Step::Removing`].
///
/// # Errors
/// `InUse` if another process has the store open for longer than the patience of `options`; `NotBuilt` if this build lacks
/// either engine; `Foreign` if there is no store in `dir`; `Corrupt` if the old data is damaged or the copy is not equal;
/// `Full`, `ReadOnly`, `Io`. The old engine keeps the store then, and nothing is left beside it.
pub fn convert(dir: &Path, to: Kind, options: &Options, tell: &mut dyn FnMut(Step)) -> Result<Option<Converted>> {
    let no_store = || Error::foreign(dir, "there is no store in it");
    let State::Store(_) = layout::check(dir)? else { return Err(no_store()) };
    to.require_built(dir)?;
    let _lock = take_lock(dir, options)?;
    // Another may have converted it before the lock was ours.
    let State::Store(from) = layout::check(dir)? else { return Err(no_store()) };
    layout::clear_conversion(dir, from)?;
    if from == to {
        return Ok(None);
    }
    layout::begin_conversion(dir, from, to)?;
    let copied = copy(dir, from, to, options, tell).and_then(|converted| {
        tell(Step::Replacing);
        layout::replace_engine(dir, to)?;
        Ok(converted)
    });
    if copied.is_ok() {
        tell(Step::Removing);
    }
    let kept = if copied.is_ok() { to } else { from };
    // If this fails, the next to open the store does it.
    let cleared = layout::clear_conversion(dir, kept);
    let converted = copied?;
    cleared.map(|()| Some(converted))
}

fn take_lock(dir: &Path, options: &Options) -> Result<fs::File> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(lock) = shared::try_lock(dir)? {
            return Ok(lock);
        }
        let left = options.patience.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(Error::InUse { dir: dir.to_path_buf(), pid: shared::holder_pid(dir) });
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Copies the data and holds the copy to the original.
fn copy(dir: &Path, from: Kind, to: Kind, options: &Options, tell: &mut dyn FnMut(Step)) -> Result<Converted> {
    let (old_path, new_path) = (layout::data_path(dir, from), layout::data_path(dir, to));
    let old = from.open(&old_path, options.cache_bytes)?;
    let new = to.create(&new_path, options.cache_bytes)?;
    let (n_entries, n_bytes) = copy_entries(&*old, &*new, tell)?;
    drop(new);
    layout::sync_dir(dir)?;
    let new = to.open(&new_path, options.cache_bytes)?;
    let n_verified = verify(&*old, &*new, &new_path, tell)?;
    if n_verified != n_entries {
        return Err(Error::corrupt(&new_path, format!("expected `{n_entries}` entries, got `{n_verified}`")));
    }
    drop((old, new));
    Ok(Converted {
        from,
        to,
        n_entries,
        n_bytes,
        n_disk_bytes_before: disk_bytes(&old_path)?,
        n_disk_bytes_after: disk_bytes(&new_path)?,
    })
}

/// Copies every entry; their number and their bytes.
fn copy_entries(old: &dyn Local, new: &dyn Local, tell: &mut dyn FnMut(Step)) -> Result<(u64, u64)> {
    let (mut n_entries, mut n_bytes) = (0, 0);
    let mut batch = Batch::new();
    let mut outcome = Ok(());
    tell(Step::Copying(0));
    old.range(KeyRange::all(), Direction::Ascending, &mut |key, value| {
        batch.put(key, value);
        n_entries += 1;
        n_bytes += (key.len() + value.len()) as u64;
        if batch.n_bytes() >= CHUNK_BYTES {
            outcome = new.commit(&batch, Durability::Sync);
            batch.clear();
            tell(Step::Copying(n_entries));
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    new.commit(&batch, Durability::Sync)?;
    Ok((n_entries, n_bytes))
}

/// Compares `new` with `old`, entry by entry; the number of entries that are equal.
fn verify(old: &dyn Local, new: &dyn Local, new_path: &Path, tell: &mut dyn FnMut(Step)) -> Result<u64> {
    let mut n_equal = 0;
    let mut from = Vec::new();
    let mut chunk = Vec::new();
    let mut n_bytes = 0;
    let mut compare = |chunk: &mut Vec<(Vec<u8>, Vec<u8>)>| -> Result<()> {
        let found = new.collect(KeyRange::from(&from), Direction::Ascending, chunk.len())?;
        for (i, (key, value)) in chunk.iter().enumerate() {
            if found.get(i).is_none_or(|entry| (&entry.0, &entry.1) != (key, value)) {
                let reason = format!("the copy differs from the original at key `{}`", key.escape_ascii());
                return Err(Error::corrupt(new_path, reason));
            }
        }
        if let Some((key, _)) = chunk.last() {
            from.clear();
            from.extend_from_slice(key);
            from.push(0);
        }
        n_equal += chunk.len() as u64;
        chunk.clear();
        tell(Step::Verifying(n_equal));
        Ok(())
    };
    let mut outcome = Ok(());
    old.range(KeyRange::all(), Direction::Ascending, &mut |key, value| {
        chunk.push((key.to_vec(), value.to_vec()));
        n_bytes += key.len() + value.len();
        if n_bytes >= CHUNK_BYTES {
            outcome = compare(&mut chunk);
            n_bytes = 0;
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    compare(&mut chunk)?;
    if let Some((key, _)) = new.collect(KeyRange::from(&from), Direction::Ascending, 1)?.pop() {
        let reason = format!("the copy has key `{}`, which the original has not", key.escape_ascii());
        return Err(Error::corrupt(new_path, reason));
    }
    Ok(n_equal)
}

/// What a file, or a folder with all in it, takes on disk.
fn disk_bytes(path: &Path) -> Result<u64> {
    let failed = |error| Error::io("look at", path, error);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let mut n_bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            n_bytes += disk_bytes(&entry.map_err(failed)?.path())?;
        }
    }
    Ok(n_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::Memory;

    fn memory(entries: &[(&[u8], &[u8])]) -> Memory {
        let engine = Memory::new();
        let mut batch = Batch::new();
        for (key, value) in entries {
            batch.put(key, value);
        }
        crate::Engine::commit(&engine, &batch, Durability::Os).unwrap();
        engine
    }

    #[test]
    fn a_copy_that_differs_in_anything_is_told() {
        let old = memory(&[(b"", b"0"), (b"a", b"1"), (b"b", b"2")]);
        let verified = |new: &Memory| verify(&old, new, Path::new("new"), &mut |_| {});
        assert_eq!(verified(&memory(&[(b"", b"0"), (b"a", b"1"), (b"b", b"2")])).unwrap(), 3);
        for (wrong, expected) in [
            (memory(&[(b"", b"0"), (b"a", b"1")]), "differs from the original at key `b`"),
            (memory(&[(b"a", b"1"), (b"b", b"2")]), "differs from the original at key ``"),
            (memory(&[(b"", b"0"), (b"a", b"x"), (b"b", b"2")]), "differs from the original at key `a`"),
            (memory(&[(b"", b"0"), (b"a", b"1"), (b"aa", b""), (b"b", b"2")]), "differs from the original at key `b`"),
            (memory(&[(b"", b"0"), (b"a", b"1"), (b"b", b"2"), (b"c", b"")]), "the copy has key `c`"),
        ] {
            let error = verified(&wrong).unwrap_err();
            assert!(error.to_string().contains(expected), "expected `{expected}`, got `{error}`");
        }
    }
}
