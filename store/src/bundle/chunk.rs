//! Entries of a store in chunks that are named by what is in them.
//!
//! Entries are taken in order and cut where their keys say, so a chunk whose entries did not change is the same chunk again,
//! whatever was added before or after it. In a chunk each key is told as what it does not share with the one before.
//!
//! Layout of an entry: `shared bytes of the key · further bytes of the key · bytes of the value`, each a number of seven bits a
//! byte, least first, all but the last with the top bit set; then the further bytes and the value.

use tracker_engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

use crate::error::{Error, Result};
use crate::id::Digest;

/// Below this a chunk is not cut.
const MIN_BYTES: usize = 128 << 10;
/// Entries up to a cut have about this many bytes.
const MEAN_BYTES: u64 = 512 << 10;
/// From this on a chunk is cut whatever its keys say.
const MAX_BYTES: usize = 4 << 20;
/// The largest a chunk can be: one entry may cross the limit.
pub(super) const LIMIT_BYTES: usize = MAX_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES + 16;

/// What the entries of a chunk are shown to, key and value.
pub(crate) type Visit<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

/// Entries in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// As laid out above.
    pub(crate) raw: Vec<u8>,
    pub(crate) n_entries: u64,
}

impl Chunk {
    /// The name of the chunk.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// The bytes it is stored as: 1 and Snappy's, or 0 and the bytes as they are where Snappy's are not fewer.
    pub(super) fn stored(&self) -> Result<Vec<u8>> {
        let failed = |error| Error::invalid("a chunk", "bytes that can be compressed", error);
        let packed = snap::raw::Encoder::new().compress_vec(&self.raw).map_err(failed)?;
        let (mark, bytes) = if packed.len() < self.raw.len() { (1, &packed) } else { (0, &self.raw) };
        let mut stored = Vec::with_capacity(bytes.len() + 1);
        stored.push(mark);
        stored.extend_from_slice(bytes);
        Ok(stored)
    }
}

/// What `stored` was before [`Chunk::stored`]; the reason if it cannot be that.
pub(super) fn restore(stored: &[u8]) -> Result<Vec<u8>, String> {
    match stored.split_first() {
        Some((0, raw)) if raw.len() <= LIMIT_BYTES => Ok(raw.to_vec()),
        Some((1, packed)) => {
            let n_bytes = snap::raw::decompress_len(packed).map_err(|error| error.to_string())?;
            if n_bytes > LIMIT_BYTES {
                return Err(format!("it claims `{n_bytes}` bytes, and a chunk has at most `{LIMIT_BYTES}`"));
            }
            snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| error.to_string())
        }
        _ => Err("it does not begin as a chunk does".to_owned()),
    }
}

/// Calls `visit` with each key and value of a chunk; the reason if it is not well formed.
pub(crate) fn entries_of<E>(raw: &[u8], damaged: impl Fn(&str) -> E, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let mut key: Vec<u8> = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let mut head = || number(&mut rest).ok_or_else(|| damaged("an entry in it is cut short"));
        let (n_shared, n_key, n_value) = (head()?, head()?, head()?);
        let parts = (n_shared <= key.len() && n_shared + n_key <= MAX_KEY_BYTES)
            .then(|| rest.split_at_checked(n_key))
            .flatten()
            .and_then(|(further, rest)| Some((further, rest.split_at_checked(n_value)?)));
        let (further, (value, after)) = parts.ok_or_else(|| damaged("an entry in it leads out of it"))?;
        key.truncate(n_shared);
        key.extend_from_slice(further);
        visit(&key, value)?;
        rest = after;
    }
    Ok(())
}

/// Cuts entries into chunks.
#[derive(Default)]
pub(crate) struct Cutter {
    raw: Vec<u8>,
    n_entries: u64,
    last: Vec<u8>,
}

impl Cutter {
    /// Adds an entry; a chunk, if one is full.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<Chunk> {
        let n_shared = if self.raw.is_empty() { 0 } else { n_shared(&self.last, key) };
        put_number(&mut self.raw, n_shared);
        put_number(&mut self.raw, key.len() - n_shared);
        put_number(&mut self.raw, value.len());
        self.raw.extend_from_slice(&key[n_shared..]);
        self.raw.extend_from_slice(value);
        self.n_entries += 1;
        self.last.clear();
        self.last.extend_from_slice(key);
        let is_full = self.raw.len() >= MAX_BYTES
            || self.raw.len() >= MIN_BYTES && is_boundary(key, (key.len() + value.len()) as u64);
        is_full.then(|| self.cut()).flatten()
    }

    /// What was added since the last cut, if anything was.
    pub(crate) fn cut(&mut self) -> Option<Chunk> {
        let raw = std::mem::take(&mut self.raw);
        let n_entries = std::mem::take(&mut self.n_entries);
        (!raw.is_empty()).then_some(Chunk { raw, n_entries })
    }
}

/// Whether a chunk ends after this entry: about once in [`MEAN_BYTES`], whatever the size of entries is.
fn is_boundary(key: &[u8], n_bytes: u64) -> bool {
    u64::from(Digest::of(key).head()) * MEAN_BYTES < n_bytes << 32
}

fn n_shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A number off the front of `bytes`, of at most four bytes: all lengths are far below.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..28).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn chunks(entries: &Entries) -> Vec<Chunk> {
        let mut cutter = Cutter::default();
        let mut chunks: Vec<Chunk> = entries.iter().filter_map(|(key, value)| cutter.push(key, value)).collect();
        chunks.extend(cutter.cut());
        chunks
    }

    fn entries(chunks: &[Chunk]) -> Entries {
        let mut all = Vec::new();
        for chunk in chunks {
            let raw = restore(&chunk.stored().unwrap()).unwrap();
            assert_eq!(raw, chunk.raw);
            entries_of(&raw, str::to_owned, &mut |key, value| {
                all.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
            .unwrap();
        }
        all
    }

    fn many(n: u32) -> Entries {
        let value = |n: u32| Digest::of(&n.to_be_bytes()).as_bytes().repeat(1 + n as usize % 5);
        (0..n).map(|n| (format!("some/key/{n:08}").into_bytes(), value(n))).collect()
    }

    proptest! {
        #[test]
        fn entries_survive(entries_in in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(any::<u8>(), 0..300)), 0..60)) {
            prop_assert_eq!(entries(&chunks(&entries_in)), entries_in);
        }

        #[test]
        fn no_bytes_panic_or_take_more_than_a_chunk(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(raw) = restore(&bytes) {
                prop_assert!(raw.len() <= LIMIT_BYTES);
            }
            drop(entries_of(&bytes, str::to_owned, &mut |_, _| Ok(())));
        }
    }

    #[test]
    fn what_is_added_in_the_middle_changes_the_chunks_around_it_alone() {
        let before = many(60_000);
        let mut after = before.clone();
        after.insert(30_000, (b"some/key/00029999x".to_vec(), vec![7; 1000]));
        let (before, after) = (chunks(&before), chunks(&after));
        let n_same = after.iter().filter(|chunk| before.contains(chunk)).count();
        assert!(after.len() >= 10 && after.len() - n_same <= 3, "{n_same} of {} are the same", after.len());
        assert!(before.iter().all(|chunk| chunk.raw.len() <= MAX_BYTES + 1000));
    }

    #[test]
    fn chunks_are_about_as_large_as_they_should_be() {
        let chunks = chunks(&many(200_000));
        let mean = chunks.iter().map(|chunk| chunk.raw.len()).sum::<usize>() / chunks.len();
        assert!((256 << 10..1 << 20).contains(&mean), "{mean} bytes");
    }
}
