//! Changes of the stored format, one frozen file each.
//!
//! The format of a store is a number under the key `01 "format"` (see `store/FORMAT.md`). A migration takes a store from one
//! number to the next, batch by batch, and is never edited after its release. How far it is stands in the store, in the
//! same commits, so that one that was killed goes on where it stopped. Until the last commit, which raises the number, the
//! store is of the format before, and builds of that format can go on with it.
//!
//! Invariant: what a migration writes before its last commit means nothing to the format before.

mod v1_to_v2;
mod v2_to_v3;

use tracker_engine::{Batch, Durability, Engine, Read};

/// `01 "format"`: four bytes, big-endian.
const FORMAT: &[u8] = b"\x01format";
/// `01 "migrating"`: four bytes, the format before; then the key that was read last.
const MIGRATING: &[u8] = b"\x01migrating";
/// Records read for one commit.
const BATCH_RECORDS: usize = 10_000;

/// One released change of the format.
pub struct Migration {
    /// The format it reads.
    pub from: u32,
    /// What changed, in one line.
    pub about: &'static str,
    /// What follows from the records after a key, at most so many; safe to write again.
    pub step: fn(&dyn Read, &[u8], usize) -> tracker_engine::Result<Step>,
}

/// A part of a migration.
pub struct Step {
    /// What is written.
    pub batch: Batch,
    /// Records that were read for it.
    pub n_read: u64,
    /// The key to go on after; none at the end.
    pub next: Option<Vec<u8>>,
}

/// Every migration, oldest first; entry i reads format i + 1.
pub static MIGRATIONS: [Migration; 2] = [v1_to_v2::MIGRATION, v2_to_v3::MIGRATION];

/// The format this build reads and writes.
#[must_use]
pub fn current() -> u32 {
    MIGRATIONS.len() as u32 + 1
}

/// What a migration did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Records read.
    pub n_read: u64,
    /// Entries written.
    pub n_written: u64,
}

/// Why a store cannot be brought to this build's format.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another, later build wrote it.
    #[error("expected store format {current} or earlier, got {found}: a newer tracker wrote it")]
    Newer {
        /// The store's format.
        found: u32,
        /// This build's.
        current: u32,
    },
    /// There never was such a format.
    #[error("expected a store format of at least 1, got {found}")]
    Unknown {
        /// The store's format.
        found: u32,
    },
    /// The folder has an engine, and no format in it.
    #[error("expected a store with a format number, got none; nothing was recorded in it, or it is damaged")]
    Missing,
    /// The engine failed; what is done stays done.
    #[error(transparent)]
    Engine(#[from] tracker_engine::Error),
}

/// The format of a store.
///
/// # Errors
/// `Missing`; the engine's.
pub fn format(store: &dyn Read) -> Result<u32, Error> {
    let value = store.get(FORMAT)?.ok_or(Error::Missing)?;
    value.try_into().map(u32::from_be_bytes).map_err(|_| Error::Missing)
}

/// The migrations a store of format `found` needs, in order; none for a current one.
///
/// # Errors
/// `Newer` and `Unknown` for formats this build cannot reach.
pub fn path(found: u32) -> Result<&'static [Migration], Error> {
    match found {
        0 => Err(Error::Unknown { found }),
        found => MIGRATIONS.get(found as usize - 1..).ok_or(Error::Newer { found, current: current() }),
    }
}

/// Does a migration, or what is left of it, and raises the format. `seen` is told how far it is after each commit.
///
/// # Errors
/// The engine's; what is done stays done, and is not done again.
pub fn migrate(store: &dyn Engine, migration: &Migration, seen: &mut dyn FnMut(Work)) -> Result<Work, Error> {
    let before = migration.from.to_be_bytes();
    let mut work = Work::default();
    let mut after = match store.get(MIGRATING)? {
        Some(mark) if mark.starts_with(&before) => mark[before.len()..].to_vec(),
        _ => Vec::new(),
    };
    loop {
        let Step { mut batch, n_read, next } = (migration.step)(store, &after, BATCH_RECORDS)?;
        work.n_read += n_read;
        work.n_written += batch.n_ops() as u64;
        // Of two processes that migrate one store the slower finds another number, and stops.
        batch.require_equals(FORMAT, &before);
        if let Some(next) = &next {
            batch.put(MIGRATING, &[&before, next.as_slice()].concat());
        } else {
            batch.delete(MIGRATING);
            batch.put(FORMAT, &(migration.from + 1).to_be_bytes());
        }
        store.commit(&batch, Durability::Sync)?;
        seen(work);
        match next {
            Some(next) => after = next,
            None => return Ok(work),
        }
    }
}

/// What a migration would do; writes nothing.
///
/// # Errors
/// The engine's.
pub fn rehearse(store: &dyn Read, migration: &Migration) -> Result<Work, Error> {
    let (mut work, mut after) = (Work::default(), Vec::new());
    loop {
        let Step { batch, n_read, next } = (migration.step)(store, &after, BATCH_RECORDS)?;
        work.n_read += n_read;
        work.n_written += batch.n_ops() as u64;
        match next {
            Some(next) => after = next,
            None => return Ok(work),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use tracker_engine::{Direction, Entry, KeyRange, Memory};

    const STORES: [&str; 3] = [
        include_str!("../tests/golden/store-1.txt"),
        include_str!("../tests/golden/store-2.txt"),
        include_str!("../tests/golden/store-3.txt"),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn entries(golden: &str) -> Vec<Entry> {
        golden
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(key, value)| (bytes(key), bytes(value)))
            .collect()
    }

    fn store(golden: &str) -> Memory {
        let (store, mut batch) = (Memory::new(), Batch::new());
        for (key, value) in entries(golden) {
            batch.put(&key, &value);
        }
        store.commit(&batch, Durability::Sync).unwrap();
        store
    }

    fn all(store: &dyn Read) -> Vec<Entry> {
        store.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap()
    }

    #[test]
    fn migrations_stand_in_order_and_take_a_golden_store_to_the_next() {
        assert_eq!(STORES.len(), MIGRATIONS.len() + 1, "each format has a golden store");
        for (i, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.from as usize, i + 1, "{}", migration.about);
            let store = store(STORES[i]);
            assert_eq!(format(&store).unwrap(), migration.from);
            let before = all(&store);
            let work = rehearse(&store, migration).unwrap();
            assert_eq!(all(&store), before, "a rehearsal wrote");
            assert!(work.n_read > 0 && work.n_written > 0);
            assert_eq!(migrate(&store, migration, &mut |_| {}).unwrap(), work);
            assert_eq!(all(&store), entries(STORES[i + 1]), "{}", migration.about);
            // It is of the next format now, and is not migrated again.
            assert!(migrate(&store, migration, &mut |_| {}).is_err());
            assert_eq!(all(&store), entries(STORES[i + 1]));
        }
    }

    #[test]
    fn numbers_sort_by_size_in_the_new_entries_and_texts_have_none() {
        let numbers: Vec<Vec<u8>> = all(&store(STORES[1]))
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key.starts_with(b"\x24lr\0"))
            .map(|key| key[4..12].to_vec())
            .collect();
        let expected =
            [0.0, 1e-3, 0.1, 7.0, f64::INFINITY].map(|number: f64| (number.to_bits() | 1 << 63).to_be_bytes());
        assert_eq!(numbers, expected);
    }

    /// A migration of many small steps that is cut off after each of them.
    #[test]
    fn one_that_is_killed_goes_on_where_it_stopped() {
        fn small(store: &dyn Read, after: &[u8], _limit: usize) -> tracker_engine::Result<Step> {
            (MIGRATIONS[0].step)(store, after, 2)
        }
        let migration = Migration { from: 1, about: "in small steps", step: small };
        let n_params = entries(STORES[0]).iter().filter(|(key, _)| key[0] == 0x20).count() as u64;
        for n_steps in 0..12 {
            let store = store(STORES[0]);
            let mut n_read = 0;
            for _ in 0..n_steps {
                let after = store.get(MIGRATING).unwrap().map_or_else(Vec::new, |mark| mark[4..].to_vec());
                let Step { mut batch, n_read: n, next } = small(&store, &after, 0).unwrap();
                let Some(next) = next else { break };
                batch.put(MIGRATING, &[&1_u32.to_be_bytes(), next.as_slice()].concat());
                store.commit(&batch, Durability::Sync).unwrap();
                n_read += n;
            }
            assert_eq!(format(&store).unwrap(), 1, "the number is raised last");
            let rest = migrate(&store, &migration, &mut |_| {}).unwrap();
            assert_eq!(n_read + rest.n_read, n_params);
            assert_eq!(all(&store), entries(STORES[1]), "cut off after {n_steps}");
        }
    }

    #[test]
    fn a_current_store_needs_nothing_and_others_are_told_apart() {
        assert!(path(current()).unwrap().is_empty());
        assert_eq!(path(1).unwrap().len(), MIGRATIONS.len());
        assert!(matches!(path(current() + 1), Err(Error::Newer { found, .. }) if found == current() + 1));
        assert!(matches!(path(0), Err(Error::Unknown { found: 0 })));
        assert!(matches!(format(&Memory::new()), Err(Error::Missing)));
    }
}
