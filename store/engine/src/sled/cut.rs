//! How keys and values lie in sled's tree.
//!
//! sled writes whole leaves of up to seventeen entries, and what exceeds a quarter of its segments, 128 KiB, into files
//! beside its log. So large values are cut into pieces, which lie behind all entries:
//!
//! ```text
//! 00 · key                      00 · value                     an entry, value up to 6 KiB
//! 00 · key                      01 · id u64 BE · bytes u32 BE  an entry whose value is cut
//! 01 · id u64 BE · nth u32 BE   bytes                          a piece; all but the last have 6 KiB
//! 02                            01                             this scheme's number
//! ```
//!
//! An id is never given twice while the tree is open, and the entry changes in the same batch as its pieces.

use super::overlay::Bytes;

/// The longest value that is not cut, and the length of a piece, in bytes.
pub(super) const PIECE_BYTES: usize = 6 << 10;
/// Where the number of this scheme lies.
pub(super) const SCHEME_KEY: &[u8] = &[2];
pub(super) const SCHEME: &[u8] = &[1];
/// The smallest key behind all entries.
pub(super) const ENTRIES_END: &[u8] = &[1];
/// The smallest key behind all pieces.
pub(super) const PIECES_END: &[u8] = &[2];

const ENTRY: u8 = 0;
const PIECE: u8 = 1;
const WHOLE: u8 = 0;
const CUT: u8 = 1;

/// What an entry of the tree says of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Whole(&'a [u8]),
    Cut(Cut),
}

/// A value in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) id: u64,
    pub(super) n_bytes: u32,
}

impl Cut {
    /// The keys of its pieces.
    pub(super) fn keys(self) -> impl Iterator<Item = Bytes> {
        (0..self.n_bytes.div_ceil(PIECE_BYTES as u32)).map(move |nth| {
            let mut key = [PIECE; 13];
            key[1..9].copy_from_slice(&self.id.to_be_bytes());
            key[9..].copy_from_slice(&nth.to_be_bytes());
            Bytes::from(&key[..])
        })
    }

    /// What its entry holds.
    pub(super) fn record(self) -> Bytes {
        let mut record = [CUT; 13];
        record[1..9].copy_from_slice(&self.id.to_be_bytes());
        record[9..].copy_from_slice(&self.n_bytes.to_be_bytes());
        Bytes::from(&record[..])
    }
}

/// The tree's key for `key`.
pub(super) fn entry_key(key: &[u8]) -> Vec<u8> {
    prefixed(ENTRY, key)
}

/// What the entry of a value that is not cut holds.
pub(super) fn whole_record(value: &[u8]) -> Bytes {
    Bytes::from(prefixed(WHOLE, value))
}

/// The key that `entry_key` was made of.
pub(super) fn key_of(entry_key: &[u8]) -> &[u8] {
    entry_key.get(1..).unwrap_or_default()
}

/// Reads what an entry holds; `None` if this scheme never writes it.
pub(super) fn read(record: &[u8]) -> Option<Value<'_>> {
    match record.split_first()? {
        (&WHOLE, value) => Some(Value::Whole(value)),
        (&CUT, rest) => {
            let (id, n_bytes) = rest.split_first_chunk()?;
            let n_bytes = u32::from_be_bytes(n_bytes.try_into().ok()?);
            Some(Value::Cut(Cut { id: u64::from_be_bytes(*id), n_bytes }))
        }
        _ => None,
    }
}

/// The id within a piece's key.
pub(super) fn id_of(piece_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*piece_key.get(1..)?.first_chunk()?))
}

fn prefixed(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(1 + bytes.len());
    prefixed.push(tag);
    prefixed.extend_from_slice(bytes);
    prefixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_foreign_ones_are_told() {
        assert_eq!(read(&whole_record(b"")), Some(Value::Whole(b"")));
        let cut = Cut { id: 7, n_bytes: 3 * PIECE_BYTES as u32 + 1 };
        assert_eq!(read(&cut.record()), Some(Value::Cut(cut)));
        let keys: Vec<Bytes> = cut.keys().collect();
        assert_eq!(keys.len(), 4);
        assert!(keys.is_sorted() && keys.iter().all(|key| id_of(key) == Some(7) && &key[..] < PIECES_END));
        for foreign in [&b""[..], b"\x02", b"\x01short", b"\x01123456781234x"] {
            assert_eq!(read(foreign), None, "{foreign:?}");
        }
        assert_eq!(key_of(&entry_key(b"\xff")), b"\xff");
        assert!(&entry_key(&[0xff; 9])[..] < ENTRIES_END);
    }
}
