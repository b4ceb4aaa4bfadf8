//! What is written together.
//!
//! A batch is one flat buffer of operations, so ten thousand keys are one allocation, queueing a batch is a copy, and
//! sending it to another process is a write. The same bytes go over the socket.
//!
//! Layout of an operation: `[kind u8][key bytes u32 LE][value bytes u32 LE][key][value]`.
//!
//! Invariant: the buffer is well formed; only [`Batch::from_bytes`] takes bytes from elsewhere, and it checks them.

use crate::error::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// The longest value, in bytes. Larger things are blobs, beside the engine.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// The largest batch, in bytes as [`Batch::n_bytes`] counts them.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

const HEAD_BYTES: usize = 9;
const PUT: u8 = 0;
const DELETE: u8 = 1;
const REQUIRE_ABSENT: u8 = 2;
const REQUIRE_EQUALS: u8 = 3;
const PUT_NEW: u8 = 4;

/// One operation of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets `key` to `value`.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes `key`, which need not be there.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Holds if `key` is absent before the batch.
    RequireAbsent {
        /// The key.
        key: &'a [u8],
    },
    /// Holds if `key` has `value` before the batch.
    RequireEquals {
        /// The key.
        key: &'a [u8],
        /// The value it must have.
        value: &'a [u8],
    },
}

/// Operations that are written together, or not at all.
///
/// Preconditions are judged first, all of them, against the state before the batch. Of several writes to one key the
/// last wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    n_ops: usize,
    n_writes: usize,
    /// The first thing that was too large to add; the batch can no longer be committed.
    oversize: Option<(&'static str, usize, usize)>,
}

impl Batch {
    /// An empty batch, which commits as a no-op.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `n_bytes` bytes.
    #[must_use]
    pub fn with_capacity(n_bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(n_bytes), ..Self::default() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.push(PUT, key, value);
    }

    /// Sets `key`, which the caller knows to be absent: by its own preconditions, or because nobody else writes it. That may spare the
    /// engine work when the key is deleted again. Where it is not so, the value is set all the same, but what was there before may show
    /// again after such a deletion.
    pub fn put_new(&mut self, key: &[u8], value: &[u8]) {
        self.push(PUT_NEW, key, value);
    }

    /// Removes `key`; no error if it is absent.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(DELETE, key, &[]);
    }

    /// Lets the batch commit only if `key` is absent before it.
    pub fn require_absent(&mut self, key: &[u8]) {
        self.push(REQUIRE_ABSENT, key, &[]);
    }

    /// Lets the batch commit only if `key` has exactly `value` before it.
    pub fn require_equals(&mut self, key: &[u8], value: &[u8]) {
        self.push(REQUIRE_EQUALS, key, value);
    }

    /// Adds the operations of `other` behind these. The preconditions of both are judged before either writes.
    pub fn append(&mut self, other: Self) {
        self.oversize = self.oversize.or(other.oversize);
        self.n_ops += other.n_ops;
        self.n_writes += other.n_writes;
        if self.bytes.is_empty() {
            self.bytes = other.bytes;
        } else {
            self.bytes.extend_from_slice(&other.bytes);
        }
    }

    /// Removes every operation and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.n_ops = 0;
        self.n_writes = 0;
        self.oversize = None;
    }

    /// The number of operations, preconditions included.
    #[must_use]
    pub fn n_ops(&self) -> usize {
        self.n_ops
    }

    /// The size in memory and on the socket: keys, values and nine bytes an operation.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no operation in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_ops == 0
    }

    /// The operations in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        Ops { rest: &self.bytes }
    }

    /// The number of puts and deletes.
    pub(crate) fn n_writes(&self) -> usize {
        self.n_writes
    }

    /// Whether it has preconditions.
    pub(crate) fn is_conditional(&self) -> bool {
        self.n_writes < self.n_ops
    }

    /// What the batch writes: each key once, in key order, with its last value, or `None` where it is deleted.
    pub(crate) fn writes(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut writes = Vec::with_capacity(self.n_writes);
        for op in self.ops() {
            match op {
                Op::Put { key, value } => writes.push((key, Some(value))),
                Op::Delete { key } => writes.push((key, None)),
                Op::RequireAbsent { .. } | Op::RequireEquals { .. } => {}
            }
        }
        if !writes.is_sorted_by(|a, b| a.0 < b.0) {
            writes.sort_by_key(|write| write.0);
            // The sort is stable, so the last of each run of equal keys is the one that was added last.
            writes.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    kept.1 = later.1;
                }
                same
            });
        }
        writes
    }

    /// What the batch writes, as it was added.
    pub(crate) fn raw_writes(&self) -> impl Iterator<Item = Write<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            loop {
                let (kind, key, value, tail) = split(rest)?;
                rest = tail;
                if is_write(kind) {
                    return Some(Write { key, value: (kind != DELETE).then_some(value), is_new: kind == PUT_NEW });
                }
            }
        })
    }

    /// Adds the bytes of its writes, without its preconditions, to `bytes`.
    pub(crate) fn extend_with_writes(&self, bytes: &mut Vec<u8>) {
        let mut rest = self.bytes.as_slice();
        while let Some((kind, .., tail)) = split(rest) {
            if is_write(kind) {
                bytes.extend_from_slice(&rest[..rest.len() - tail.len()]);
            }
            rest = tail;
        }
    }

    /// Whether `holds` says of each of its writes that it shows. A batch without writes shows nothing, so it does not count as
    /// applied.
    pub(crate) fn is_applied<E>(
        &self,
        mut holds: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        for (key, value) in self.writes() {
            if !holds(key, value)? {
                return Ok(false);
            }
        }
        Ok(self.n_writes > 0)
    }

    /// The first precondition that `get` shows not to hold.
    pub(crate) fn first_unmet<E>(
        &self,
        mut get: impl FnMut(&[u8], Option<&[u8]>) -> Result<bool, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        if !self.is_conditional() {
            return Ok(None);
        }
        for op in self.ops() {
            let (key, expected) = match op {
                Op::RequireAbsent { key } => (key, None),
                Op::RequireEquals { key, value } => (key, Some(value)),
                Op::Put { .. } | Op::Delete { .. } => continue,
            };
            if !get(key, expected)? {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(None)
    }

    /// Refuses what is larger than every engine takes.
    pub(crate) fn check_size(&self) -> Result<()> {
        let oversize = self.oversize.or((self.bytes.len() > MAX_BATCH_BYTES).then_some((
            "batch",
            MAX_BATCH_BYTES,
            self.bytes.len(),
        )));
        match oversize {
            None => Ok(()),
            Some((what, limit_bytes, got_bytes)) => Err(Error::TooLarge { what, limit_bytes, got_bytes }),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A batch from bytes that came from outside, or `None` if they are not one.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let mut batch = Self::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (kind, key, value, tail) = split(rest)?;
            let takes_value = matches!(kind, PUT | PUT_NEW | REQUIRE_EQUALS);
            if kind > PUT_NEW || key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
                return None;
            }
            if !takes_value && !value.is_empty() {
                return None;
            }
            batch.n_ops += 1;
            batch.n_writes += usize::from(is_write(kind));
            rest = tail;
        }
        batch.bytes = bytes;
        Some(batch)
    }

    fn push(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        self.n_ops += 1;
        self.n_writes += usize::from(is_write(kind));
        if key.len() > MAX_KEY_BYTES {
            self.oversize.get_or_insert(("key", MAX_KEY_BYTES, key.len()));
            return;
        }
        if value.len() > MAX_VALUE_BYTES {
            self.oversize.get_or_insert(("value", MAX_VALUE_BYTES, value.len()));
            return;
        }
        self.bytes.reserve(HEAD_BYTES + key.len() + value.len());
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }
}

fn is_write(kind: u8) -> bool {
    matches!(kind, PUT | PUT_NEW | DELETE)
}

/// One write of a batch, as it was added.
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    /// None if the key is deleted.
    pub(crate) value: Option<&'a [u8]>,
    /// Whether the key is known to be absent before.
    pub(crate) is_new: bool,
}

struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        let (kind, key, value, rest) = split(self.rest)?;
        self.rest = rest;
        match kind {
            PUT | PUT_NEW => Some(Op::Put { key, value }),
            DELETE => Some(Op::Delete { key }),
            REQUIRE_ABSENT => Some(Op::RequireAbsent { key }),
            REQUIRE_EQUALS => Some(Op::RequireEquals { key, value }),
            _ => None,
        }
    }
}

/// An operation as it lies, and what lies behind it.
type Split<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);

/// Splits the first operation off: kind, key, value, rest.
fn split(bytes: &[u8]) -> Option<Split<'_>> {
    let (&kind, rest) = bytes.split_first()?;
    let (n_key, rest) = rest.split_first_chunk()?;
    let (n_value, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*n_key) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*n_value) as usize)?;
    Some((kind, key, value, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Batch {
        let mut batch = Batch::new();
        batch.require_absent(b"a");
        batch.put(b"b", b"1");
        batch.put(b"a", b"");
        batch.delete(b"c");
        batch.put(b"b", b"2");
        batch.require_equals(b"d", b"x");
        batch
    }

    #[test]
    fn operations_come_back_in_order() {
        let batch = sample();
        let ops: Vec<_> = batch.ops().collect();
        assert_eq!(batch.n_ops(), 6);
        assert_eq!(ops[0], Op::RequireAbsent { key: b"a" });
        assert_eq!(ops[4], Op::Put { key: b"b", value: b"2" });
        assert_eq!(ops[5], Op::RequireEquals { key: b"d", value: b"x" });
    }

    #[test]
    fn writes_are_sorted_and_the_last_wins() {
        let batch = sample();
        assert_eq!(batch.writes(), [(b"a".as_slice(), Some(b"".as_slice())), (b"b", Some(b"2")), (b"c", None)]);
    }

    #[test]
    fn a_delete_after_a_put_wins() {
        let mut batch = Batch::new();
        batch.put(b"z", b"1");
        batch.put(b"a", b"1");
        batch.delete(b"a");
        assert_eq!(batch.writes(), [(b"a".as_slice(), None), (b"z", Some(b"1".as_slice()))]);
    }

    #[test]
    fn appending_keeps_both() {
        let mut first = Batch::new();
        first.append(sample());
        first.append(sample());
        assert_eq!(first.n_ops(), 12);
        assert_eq!(first.n_bytes(), 2 * sample().n_bytes());
        assert_eq!(first.ops().count(), 12);
    }

    #[test]
    fn what_is_too_large_is_named() {
        let mut batch = Batch::new();
        batch.put(&vec![0; MAX_KEY_BYTES], b"");
        assert!(batch.check_size().is_ok());
        batch.put(&vec![0; MAX_KEY_BYTES + 1], b"");
        let error = batch.check_size().unwrap_err();
        assert_eq!(error.to_string(), "expected a key of at most `65536` bytes, got `65537`");
        let mut other = Batch::new();
        other.append(batch);
        assert!(other.check_size().is_err(), "appending must not lose the refusal");
        other.clear();
        assert!(other.check_size().is_ok());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_and_good_ones_round_trip(bytes in proptest::collection::vec(0u8..6, 0..64)) {
            if let Some(batch) = Batch::from_bytes(bytes.clone()) {
                prop_assert_eq!(batch.ops().count(), batch.n_ops());
                prop_assert_eq!(batch.as_bytes(), bytes);
            }
        }
    }

    #[test]
    fn truncated_bytes_are_refused() {
        let bytes = sample().as_bytes().to_vec();
        assert_eq!(Batch::from_bytes(bytes.clone()).map(|batch| batch.n_ops()), Some(6));
        let ends: Vec<usize> = {
            let mut rest = bytes.as_slice();
            let mut ends = vec![0];
            while let Some((.., tail)) = split(rest) {
                rest = tail;
                ends.push(bytes.len() - rest.len());
            }
            ends
        };
        for end in 0..bytes.len() {
            assert_eq!(Batch::from_bytes(bytes[..end].to_vec()).is_some(), ends.contains(&end), "cut at {end}");
        }
    }
}
