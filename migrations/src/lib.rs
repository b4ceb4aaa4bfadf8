//! Changes of the stored format, one frozen file each.
//!
//! The format of a store is a number (see `store/FORMAT.md`). A migration takes a store from one number to the next and is
//! never edited after its release. There is one format so far, 1, and therefore no migration; this crate answers what
//! stands between a store and this build.

use tracker_engine::Engine;

/// One released change of the format.
pub struct Migration {
    /// The format it reads.
    pub from: u32,
    /// What changed, in one line.
    pub about: &'static str,
    /// Rewrites every record it concerns; safe to run again after a kill.
    pub apply: fn(&dyn Engine) -> tracker_engine::Result<()>,
}

/// Every migration, oldest first; entry i reads format i + 1.
pub static MIGRATIONS: [Migration; 0] = [];

/// The format this build reads and writes.
#[must_use]
pub fn current() -> u32 {
    MIGRATIONS.len() as u32 + 1
}

/// Why a store cannot be brought to this build's format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_stand_in_order() {
        for (i, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.from as usize, i + 1, "{}", migration.about);
        }
    }

    #[test]
    fn a_current_store_needs_nothing_and_others_are_told_apart() {
        assert!(path(current()).is_ok_and(<[Migration]>::is_empty));
        let newer = current() + 1;
        assert_eq!(path(newer).err(), Some(Error::Newer { found: newer, current: current() }));
        assert_eq!(path(0).err(), Some(Error::Unknown { found: 0 }));
    }
}
