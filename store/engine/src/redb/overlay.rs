//! What is acknowledged and not in redb's file yet, as readers see it: sorted keys, each with the value it has now and,
//! while a snapshot needs them, those it had.
//!
//! A moment is a number that grows with each batch. A snapshot pins the moment it was taken at; as long as it lives, what it
//! sees is kept.
//!
//! Invariant: an entry is only left out on deletion if whoever put it knew that redb's file does not have its key, so that
//! nothing that was deleted shows again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Bound;

use crate::batch::Write;
use crate::{Batch, Direction, KeyRange};

/// What an entry takes beside key and value, about.
const ENTRY_BYTES: usize = 96;

/// A moment between two batches.
pub(super) type Moment = u64;

/// A key and what the overlay says of it: a value, or that there is none.
pub(super) type Said = (Box<[u8]>, Option<Box<[u8]>>);

/// What the overlay says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    Value(&'a [u8]),
    Deleted,
}

impl<'a> Word<'a> {
    /// The value; none of a key that was deleted.
    pub(super) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Deleted => None,
        }
    }
}

/// Keys over those of the file.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    entries: BTreeMap<Box<[u8]>, Entry>,
    now: Moment,
    n_bytes: usize,
    /// How many snapshots were taken at each moment and still live.
    pins: BTreeMap<Moment, usize>,
}

#[derive(Debug)]
struct Entry {
    newest: Version,
    /// What it was at moments that may be pinned, in order.
    older: Vec<Version>,
    /// Whether the file is known not to have the key.
    is_new: bool,
}

#[derive(Debug)]
struct Version {
    since: Moment,
    value: Option<Box<[u8]>>,
}

impl Overlay {
    /// Lays what `batch` writes over the rest.
    pub(super) fn apply(&mut self, batch: &Batch) {
        self.now += 1;
        for Write { key, value, is_new } in batch.raw_writes() {
            self.set(key, value, is_new);
        }
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>, is_new: bool) {
        let now = self.now;
        let newest = Version { since: now, value: value.map(Box::from) };
        let n_value = value.map_or(0, <[u8]>::len);
        match self.entries.entry(key.into()) {
            Slot::Vacant(slot) => {
                self.n_bytes += ENTRY_BYTES + key.len() + n_value;
                slot.insert(Entry { newest, older: Vec::new(), is_new });
            }
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if self.pins.is_empty() {
                    entry.older.clear();
                }
                let last = std::mem::replace(&mut entry.newest, newest);
                self.n_bytes += n_value;
                if last.since < now && self.pins.last_key_value().is_some_and(|(pin, _)| *pin >= last.since) {
                    entry.older.push(last);
                } else {
                    self.n_bytes = self.n_bytes.saturating_sub(last.value.map_or(0, |value| value.len()));
                }
                if value.is_none() && entry.is_new && entry.older.is_empty() {
                    slot.remove();
                    self.n_bytes = self.n_bytes.saturating_sub(ENTRY_BYTES + key.len());
                }
            }
        }
    }

    /// Keeps the present moment readable until [`Overlay::unpin`].
    pub(super) fn pin(&mut self) -> Moment {
        *self.pins.entry(self.now).or_default() += 1;
        self.now
    }

    /// Lets go of a pinned moment.
    pub(super) fn unpin(&mut self, moment: Moment) {
        if let Slot::Occupied(mut slot) = self.pins.entry(moment) {
            *slot.get_mut() -= 1;
            if *slot.get() == 0 {
                slot.remove();
            }
        }
    }

    /// What it says of `key` at a moment, or now: a value, that there is none, or nothing.
    pub(super) fn get(&self, key: &[u8], at: Option<Moment>) -> Option<Word<'_>> {
        self.entries.get(key)?.at(at)
    }

    /// The first `limit` of what it says of the keys of `range` at `moment`, in `direction`, beyond `after`.
    pub(super) fn part(
        &self,
        range: &KeyRange<'_>,
        direction: Direction,
        after: Option<&[u8]>,
        moment: Moment,
        limit: usize,
    ) -> Vec<Said> {
        let (mut low, mut high) = range.bounds();
        match (direction, after) {
            (Direction::Ascending, Some(after)) => low = Bound::Excluded(after),
            (Direction::Descending, Some(after)) => high = Bound::Excluded(after),
            (_, None) => {}
        }
        let is_empty = match (low, high) {
            (Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low > high,
            _ => false,
        };
        if is_empty {
            return Vec::new();
        }
        let entries = self.entries.range::<[u8], _>((low, high));
        let said = |(key, entry): (&_, &Entry)| {
            let word = entry.at(Some(moment))?;
            Some((Box::clone(key), word.value().map(Box::from)))
        };
        match direction {
            Direction::Ascending => entries.filter_map(said).take(limit).collect(),
            Direction::Descending => entries.rev().filter_map(said).take(limit).collect(),
        }
    }

    /// Every key with what it says of it now, in order.
    pub(super) fn writes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|(key, entry)| (&**key, entry.newest.value.as_deref()))
    }

    /// What it takes in memory, about, in bytes.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn at(&self, moment: Option<Moment>) -> Option<Word<'_>> {
        let is_seen = |version: &&Version| moment.is_none_or(|moment| version.since <= moment);
        let version = Some(&self.newest).filter(is_seen).or_else(|| self.older.iter().rev().find(is_seen))?;
        Some(version.value.as_deref().map_or(Word::Deleted, Word::Value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use Direction::{Ascending, Descending};

    fn batch(writes: &[(&[u8], Option<&[u8]>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }

    fn keys(part: &[Said]) -> Vec<&[u8]> {
        part.iter().map(|(key, _)| &**key).collect()
    }

    #[test]
    fn what_a_snapshot_sees_is_kept_as_long_as_it_lives() {
        let mut overlay = Overlay::default();
        overlay.apply(&batch(&[(b"a", Some(b"1"))]));
        let first = overlay.pin();
        overlay.apply(&batch(&[(b"a", Some(b"2")), (b"b", Some(b"2"))]));
        let second = overlay.pin();
        overlay.apply(&batch(&[(b"a", None)]));
        overlay.apply(&batch(&[(b"a", Some(b"4"))]));
        assert_eq!(overlay.get(b"a", Some(first)), Some(Word::Value(b"1")));
        assert_eq!(overlay.get(b"b", Some(first)), None);
        assert_eq!(overlay.get(b"a", Some(second)), Some(Word::Value(b"2")));
        assert_eq!(overlay.get(b"a", None), Some(Word::Value(b"4")));
        assert_eq!(keys(&overlay.part(&KeyRange::all(), Ascending, None, first, 9)), [b"a"]);
        assert_eq!(keys(&overlay.part(&KeyRange::all(), Descending, None, second, 9)), [b"b", b"a"]);
        assert_eq!(keys(&overlay.part(&KeyRange::all(), Ascending, Some(b"a"), second, 9)), [b"b"]);
        overlay.unpin(first);
        overlay.unpin(second);
        overlay.apply(&batch(&[(b"a", Some(b"5"))]));
        assert!(overlay.entries[b"a".as_slice()].older.is_empty());
    }

    #[test]
    fn a_new_key_that_is_deleted_leaves_nothing_and_another_leaves_a_mark() {
        let mut overlay = Overlay::default();
        let mut made = batch(&[(b"old", Some(b"1"))]);
        made.put_new(b"new", b"1");
        overlay.apply(&made);
        let pin = overlay.pin();
        let gone = batch(&[(b"old", None), (b"new", None)]);
        overlay.apply(&gone);
        assert_eq!(overlay.get(b"new", None), Some(Word::Deleted), "a snapshot still sees it");
        assert_eq!(overlay.get(b"new", Some(pin)), Some(Word::Value(b"1")));
        overlay.unpin(pin);
        overlay.apply(&made);
        overlay.apply(&gone);
        assert_eq!(overlay.get(b"new", None), None);
        assert_eq!(overlay.get(b"old", None), Some(Word::Deleted));
        assert_eq!(overlay.writes().collect::<Vec<_>>(), [(b"old".as_slice(), None)]);
        overlay.apply(&gone);
        assert_eq!(overlay.get(b"new", None), Some(Word::Deleted), "nobody said that the file has no such key");
    }

    #[test]
    fn bytes_are_counted_down_again() {
        let mut overlay = Overlay::default();
        for _ in 0..3 {
            let mut made = Batch::new();
            made.put_new(b"key", &[0; 1000]);
            overlay.apply(&made);
        }
        assert!((1000..1200).contains(&overlay.n_bytes()), "{}", overlay.n_bytes());
        overlay.apply(&batch(&[(b"key", None)]));
        assert_eq!(overlay.n_bytes(), 0);
    }
}
