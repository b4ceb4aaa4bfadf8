//! What a group of commits writes, for engines that take one flat batch of writes.
//!
//! Members are judged one after the other, each against what lies below and what the members before it write, as if each
//! had come alone.

use std::collections::BTreeMap;

use crate::group::Member;
use crate::{Durability, Error, Read, Result};

/// The writes of a group: each key once, in order, with its last value, or `None` where it is deleted.
pub(crate) type Writes<'a> = BTreeMap<&'a [u8], Option<&'a [u8]>>;

/// Sets each member's outcome, judged over `base`; returns what those that were not refused write.
pub(crate) fn stage<'a>(members: &mut [Member<'a>], base: &(impl Read + ?Sized)) -> Result<Writes<'a>> {
    let mut staged = Writes::new();
    for member in members {
        let batch = member.batch;
        let holds = |staged: &Writes<'_>, key: &[u8], expected: Option<&[u8]>| match staged.get(key) {
            Some(found) => Ok(*found == expected),
            None => holds(base, key, expected),
        };
        if member.resent && batch.is_applied(|key, value| holds(&staged, key, value))? {
            continue;
        }
        if let Some(key) = batch.first_unmet(|key, expected| holds(&staged, key, expected))? {
            member.outcome = Err(Error::Conflict { key });
            continue;
        }
        let writes = batch.writes();
        if staged.is_empty() {
            // Sorted already, which is built at once.
            staged = writes.into_iter().collect();
        } else {
            staged.extend(writes);
        }
    }
    Ok(staged)
}

/// Whether what the members that were not refused write, taken together, shows in `base`.
pub(crate) fn is_written(writes: &Writes<'_>, base: &(impl Read + ?Sized)) -> Result<bool> {
    for (key, value) in writes {
        if !holds(base, key, *value)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The strongest durability among the members that were not refused.
pub(crate) fn durability(members: &[Member<'_>]) -> Durability {
    let is_synced = members.iter().any(|member| member.outcome.is_ok() && member.durability == Durability::Sync);
    if is_synced { Durability::Sync } else { Durability::Os }
}

fn holds(base: &(impl Read + ?Sized), key: &[u8], expected: Option<&[u8]>) -> Result<bool> {
    Ok(base.get(key)?.as_deref() == expected)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Batch, Engine as _, Memory};

    fn member(batch: &Batch, resent: bool) -> Member<'_> {
        Member::new(batch, Durability::Os, resent)
    }

    #[test]
    fn a_member_sees_what_those_before_it_write() {
        let base = Memory::new();
        let mut first = Batch::new();
        first.require_absent(b"a");
        first.put(b"a", b"1");
        let mut second = Batch::new();
        second.require_equals(b"a", b"1");
        second.put(b"a", b"2");
        second.delete(b"gone");
        let mut members = [member(&first, false), member(&first, false), member(&second, false), member(&first, true)];
        let writes = stage(&mut members, &base).unwrap();
        assert_eq!(writes.into_iter().collect::<Vec<_>>(), [(b"a".as_slice(), Some(b"2".as_slice())), (b"gone", None)]);
        assert_eq!(members.each_ref().map(|member| member.outcome.is_ok()), [true, false, true, false]);
        base.commit(&first, Durability::Os).unwrap();
        let mut again = [member(&first, true)];
        assert!(stage(&mut again, &base).unwrap().is_empty() && again[0].outcome.is_ok());
    }

    #[test]
    fn the_strongest_of_those_that_were_not_refused_counts() {
        let batch = Batch::new();
        let mut members = [member(&batch, false), Member::new(&batch, Durability::Sync, false)];
        assert_eq!(durability(&members), Durability::Sync);
        members[1].outcome = Err(Error::SnapshotLost);
        assert_eq!(durability(&members), Durability::Os);
    }
}
