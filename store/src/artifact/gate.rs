//! How writers and collections keep out of each other's way, in however many processes.
//!
//! Two settings of the store are counters in effect: every commit that names pieces or packs sets `saved`, every commit
//! that removes records sets `collected`, each to a value never used before. A writer commits only if `collected` is
//! what it was when the writer looked whether everything it leans on is there; a collection only if `saved` is what it was
//! when it marked. So of two that overlap one is told, and looks again. No clock decides this.

use tracker_engine::Batch;

use super::PackId;
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::store::Store;

const SAVED: &str = "saved";
const COLLECTED: &str = "collected";

/// A value of one of the settings; none before it was first set.
pub(super) type Mark = Option<Vec<u8>>;

/// What the last commit that named something set.
pub(super) fn saved(store: &Store) -> Result<Mark> {
    store.get(&keys::meta(SAVED))
}

/// What the last commit that removed something set.
pub(super) fn collected(store: &Store) -> Result<Mark> {
    store.get(&keys::meta(COLLECTED))
}

/// Lets `batch` name things: what it leans on must still be there when it is committed.
///
/// `seen` is what was collected last when `used` was found in the store; `pack` is the writer's own.
pub(super) fn name<'a>(
    store: &Store,
    batch: &mut Batch,
    seen: &Mark,
    pack: Option<PackId>,
    used: impl Iterator<Item = &'a Digest>,
) -> Result<()> {
    let now = collected(store)?;
    if now != *seen {
        for digest in used {
            if store.get(&keys::piece(digest))?.is_none() {
                return Err(lost("piece", digest));
            }
        }
    }
    if let Some(pack) = pack.filter(|pack| !store.packs().has(*pack)) {
        return Err(lost("pack", &pack));
    }
    require(batch, COLLECTED, &now);
    set(batch, SAVED);
    Ok(())
}

/// Lets `batch` remove things: nothing may have been named since `seen`.
pub(super) fn remove(batch: &mut Batch, seen: &Mark) {
    require(batch, SAVED, seen);
    set(batch, COLLECTED);
}

/// Lets `batch` be committed only if nothing was named since `seen`.
pub(super) fn require_saved(batch: &mut Batch, seen: &Mark) {
    require(batch, SAVED, seen);
}

fn require(batch: &mut Batch, name: &str, mark: &Mark) {
    match mark {
        Some(value) => batch.require_equals(&keys::meta(name), value),
        None => batch.require_absent(&keys::meta(name)),
    }
}

fn set(batch: &mut Batch, name: &str) {
    batch.put(&keys::meta(name), crate::clock::new_uuid().as_bytes());
}

/// The error for what a collection took while a writer leant on it; putting it again finds it missing and stores it.
fn lost(what: &'static str, name: &dyn std::fmt::Display) -> Error {
    Error::Contended { what, name: name.to_string() }
}
