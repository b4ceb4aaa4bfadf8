//! Which entries should be there, held against those that are, without remembering any of them.
//!
//! Every entry that a record calls for adds its hash to one of many sums; every entry that is there takes its own away. Sums
//! that end at nothing agree. For those that do not, the store is read again, and only what falls into them is
//! remembered, some at a time. So both directions are checked in one ordered scan, with memory that does not grow
//! with the store.

use std::collections::{BTreeMap, BTreeSet};

const N_BUCKETS: usize = 1 << 14;
/// Entries remembered at a time when sums do not agree.
const MAX_REMEMBERED: u64 = 100_000;

/// Sums of hashes, by the first bits of the hash of the key.
pub(super) struct Tally {
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    sum: u128,
    n_net: i64,
    n_all: u64,
}

fn hash(key: &[u8], value: &[u8]) -> (usize, u128) {
    let of_key = xxhash_rust::xxh3::xxh3_128(key);
    let bucket = (of_key >> 100) as usize % N_BUCKETS;
    let of_value = if value.is_empty() { 0 } else { xxhash_rust::xxh3::xxh3_128(value) };
    // Odd, so that the product keeps all of the value's hash.
    (bucket, of_key.wrapping_add(of_value.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { buckets: vec![Bucket::default(); N_BUCKETS] }
    }

    pub(super) fn expect(&mut self, key: &[u8], value: &[u8]) {
        let (at, hash) = hash(key, value);
        let bucket = &mut self.buckets[at];
        bucket.sum = bucket.sum.wrapping_add(hash);
        bucket.n_net += 1;
        bucket.n_all += 1;
    }

    pub(super) fn meet(&mut self, key: &[u8], value: &[u8]) {
        let (at, hash) = hash(key, value);
        let bucket = &mut self.buckets[at];
        bucket.sum = bucket.sum.wrapping_sub(hash);
        bucket.n_net -= 1;
        bucket.n_all += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.sum = bucket.sum.wrapping_add(more.sum);
            bucket.n_net += more.n_net;
            bucket.n_all += more.n_all;
        }
    }

    /// The buckets that do not agree, in groups small enough to be remembered.
    pub(super) fn unsettled(&self) -> Vec<BTreeSet<usize>> {
        let mut groups: Vec<(BTreeSet<usize>, u64)> = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            if bucket.sum == 0 && bucket.n_net == 0 {
                continue;
            }
            match groups.last_mut() {
                Some((group, n)) if *n + bucket.n_all <= MAX_REMEMBERED => {
                    group.insert(at);
                    *n += bucket.n_all;
                }
                _ => groups.push((BTreeSet::from([at]), bucket.n_all)),
            }
        }
        groups.into_iter().map(|(group, _)| group).collect()
    }
}

/// An entry that is called for: its value, and the entry that calls for it.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) value: Vec<u8>,
    pub(super) basis: (Vec<u8>, Vec<u8>),
}

/// What is called for at a key, and what is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Both {
    pub(super) called: Vec<Called>,
    pub(super) there: Option<Vec<u8>>,
}

/// The entries that fall into some buckets.
pub(super) struct Remembered<'a> {
    group: &'a BTreeSet<usize>,
    pub(super) keys: BTreeMap<Vec<u8>, Both>,
}

impl<'a> Remembered<'a> {
    pub(super) fn new(group: &'a BTreeSet<usize>) -> Self {
        Self { group, keys: BTreeMap::new() }
    }

    pub(super) fn expect(&mut self, key: &[u8], value: &[u8], basis: (&[u8], &[u8])) {
        if self.group.contains(&hash(key, value).0) {
            let basis = (basis.0.to_vec(), basis.1.to_vec());
            self.keys.entry(key.to_vec()).or_default().called.push(Called { value: value.to_vec(), basis });
        }
    }

    pub(super) fn meet(&mut self, key: &[u8], value: &[u8]) {
        if self.group.contains(&hash(key, value).0) {
            self.keys.entry(key.to_vec()).or_default().there = Some(value.to_vec());
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (key, both) in other.keys {
            let own = self.keys.entry(key).or_default();
            own.called.extend(both.called);
            own.there = own.there.take().or(both.there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_whatever_the_order_and_tell_one_missing_one_left_over_and_one_changed_entry() {
        let keys: Vec<[u8; 4]> = (0..20_000_u32).map(u32::to_be_bytes).collect();
        let tally_of = |skipped: Option<usize>, changed: Option<usize>| {
            let (mut expected, mut met) = (Tally::new(), Tally::new());
            for key in &keys {
                expected.expect(key, b"v");
            }
            for (nth, key) in keys.iter().enumerate().rev().filter(|(nth, _)| Some(*nth) != skipped) {
                met.meet(key, if Some(nth) == changed { b"w" } else { b"v" });
            }
            expected.add(&met);
            expected.unsettled()
        };
        assert!(tally_of(None, None).is_empty());
        assert_eq!(tally_of(Some(77), None).len(), 1);
        assert_eq!(tally_of(None, Some(78)).len(), 1);
    }

    #[test]
    fn what_does_not_agree_is_remembered_in_groups_of_bounded_size() {
        let mut tally = Tally::new();
        for key in 0..1_000_000_u32 {
            tally.expect(&key.to_be_bytes(), b"");
        }
        let groups = tally.unsettled();
        assert!(groups.len() >= 10, "{}", groups.len());
        assert_eq!(groups.iter().map(BTreeSet::len).sum::<usize>(), N_BUCKETS);
    }
}
