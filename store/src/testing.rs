//! Readers for tests of other crates: all that a store has, and all that is wrong with it.

use crate::fsck::{self, Finding};
use crate::store::Store;

/// Everything a store has, by key.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn entries(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.entries(&[]).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("the store cannot be read: {error}"))
}

/// What is wrong with a store, as a check of it would tell.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn damages(store: &Store) -> Vec<Finding> {
    fsck::damages(store).unwrap_or_else(|error| panic!("the store cannot be read: {error}"))
}
