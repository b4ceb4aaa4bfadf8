//! Batches into a redb table.
//!
//! Descending the tree once for each key is most of what a write costs. Keys of a large batch are therefore written in
//! key order, and a run of keys that falls between two stored ones is handed to a cursor, which packs whole leaves. Where
//! runs turn out short, descents are cheaper, and the cursor is tried less and less often.

use std::ops::Bound;

use ::redb::{AccessGuard, CursorError, ReadableTable, StorageError, Table};

use super::Bytes;
use crate::Batch;

/// Batches below this are written as they come: sorting and cursors would not pay.
const MIN_SORTED_WRITES: usize = 16;
/// A run shorter than this cost more than descents would have.
const MIN_RUN: usize = 8;
/// The most keys that are written by descent before a cursor is tried again.
const MAX_PLAIN: usize = 1024;

/// Whether every write of `batch` shows in `table`.
pub(super) fn is_applied(table: &impl ReadableTable<Bytes, Bytes>, batch: &Batch) -> Result<bool, StorageError> {
    batch.is_applied(|key, expected| holds(table, key, expected))
}

/// The first key of `batch` whose precondition does not hold.
pub(super) fn first_unmet(
    table: &impl ReadableTable<Bytes, Bytes>,
    batch: &Batch,
) -> Result<Option<Vec<u8>>, StorageError> {
    batch.first_unmet(|key, expected| holds(table, key, expected))
}

/// Writes `writes`, which are sorted and each of another key, into `table`.
pub(super) fn apply(table: &mut Table<'_, Bytes, Bytes>, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), CursorError> {
    if writes.len() < MIN_SORTED_WRITES {
        for &(key, value) in writes {
            write_one(table, key, value)?;
        }
        return Ok(());
    }
    let mut rest = writes;
    let mut n_plain = 0_usize;
    let mut next_plain = 1;
    while let Some((&(key, value), tail)) = rest.split_first() {
        if value.is_none() || n_plain > 0 {
            write_one(table, key, value)?;
            n_plain = n_plain.saturating_sub(1);
            rest = tail;
            continue;
        }
        let n_run = write_run(table, key, rest)?;
        rest = &rest[n_run..];
        if n_run < MIN_RUN {
            // A run of none means that the first key is there already: it, too, goes by descent.
            n_plain = next_plain;
            next_plain = (next_plain * 2).min(MAX_PLAIN);
        } else {
            next_plain = 1;
        }
    }
    Ok(())
}

/// Writes the longest run at the front of `writes` that falls into the gap before `first`; returns its length.
fn write_run(
    table: &mut Table<'_, Bytes, Bytes>,
    first: &[u8],
    writes: &[(&[u8], Option<&[u8]>)],
) -> Result<usize, CursorError> {
    let mut cursor = table.lower_bound_mut(Bound::Included(first))?;
    let mut n_run = 0;
    for &(key, value) in writes {
        let Some(value) = value else { break };
        match cursor.insert_before(key, value) {
            Ok(()) => n_run += 1,
            Err(CursorError::UnorderedKey) => break,
            Err(error) => return Err(error),
        }
    }
    cursor.close()?;
    Ok(n_run)
}

fn write_one(table: &mut Table<'_, Bytes, Bytes>, key: &[u8], value: Option<&[u8]>) -> Result<(), CursorError> {
    match value {
        Some(value) => drop(table.insert(key, value)?),
        None => drop(table.remove(key)?),
    }
    Ok(())
}

fn holds(table: &impl ReadableTable<Bytes, Bytes>, key: &[u8], expected: Option<&[u8]>) -> Result<bool, StorageError> {
    let found = table.get(key)?;
    Ok(found.as_ref().map(AccessGuard::value) == expected)
}
