//! How values become bytes: `[codec u8][schema version u8][bincode 2 payload]`.
//!
//! Invariants: a released stored form (a struct in [`v1`] and later siblings) never changes; a new version is a new struct
//! beside it, and readers know them all. Decoding checks that the payload was consumed to the last byte and allocates
//! no more than the record is long. Not here: keys, and what the values mean.

mod v1;
mod v2;

pub(crate) use v1::EdgeRecord;

use bincode::config::{Configuration, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// bincode 2, standard configuration: little-endian, variable-length integers.
const CODEC: u8 = 1;
const HEAD_BYTES: usize = 2;
const CONFIG: Configuration = standard();

/// A value that has a stored form.
pub trait Stored: Sized {
    /// The record: codec, version, payload.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    fn encode(&self) -> Result<Vec<u8>>;

    /// The value a record holds; `key` is where it lay, for errors.
    ///
    /// # Errors
    /// `Corrupt` if the record is not one this build knows, whole.
    fn decode(key: &[u8], record: &[u8]) -> Result<Self>;

    /// The same value without run ids and clock times.
    #[must_use]
    fn anonymous(&self) -> Self;

    /// What two equal values have in common whatever run or hour made them: the first stored form of [`Stored::anonymous`].
    ///
    /// # Errors
    /// As [`Stored::encode`].
    fn identity(&self) -> Result<Vec<u8>> {
        let mut record = self.anonymous().encode()?;
        record.drain(..HEAD_BYTES);
        Ok(record)
    }
}

/// Encodes `payload` as version `version`.
pub(crate) fn seal<T: Serialize>(version: u8, payload: &T) -> Result<Vec<u8>> {
    let mut record = Vec::with_capacity(128);
    record.extend_from_slice(&[CODEC, version]);
    bincode::serde::encode_into_std_write(payload, &mut record, CONFIG)
        .map_err(|error| Error::invalid("record", "a value that can be encoded", error))?;
    Ok(record)
}

/// The version and the payload of a record.
pub(crate) fn unseal<'a>(key: &[u8], record: &'a [u8]) -> Result<(u8, &'a [u8])> {
    match record {
        [CODEC, version, payload @ ..] => Ok((*version, payload)),
        [codec, _, ..] => Err(Error::corrupt(key, format!("expected codec `{CODEC}`, got `{codec}`"))),
        _ => Err(Error::corrupt(key, format!("expected at least `{HEAD_BYTES}` bytes, got `{}`", record.len()))),
    }
}

/// Decodes a payload to the last byte. Lengths it claims are refused past a thousand times its own, and some KiB.
pub(crate) fn open<T: DeserializeOwned>(key: &[u8], payload: &[u8]) -> Result<T> {
    // The limit is a constant of the decoder: the least of these that leaves every record room.
    let (value, n_read) = match payload.len() {
        0..=0xff => decode::<T, { 0x100 * ROOM }>(payload),
        0x100..=0xfff => decode::<T, { 0x1000 * ROOM }>(payload),
        0x1000..=0xffff => decode::<T, { 0x1_0000 * ROOM }>(payload),
        // Values are at most 16 MiB in every engine, and those this long are bytes or numbers.
        _ => decode::<T, { 64 << 20 }>(payload),
    }
    .map_err(|error| Error::corrupt(key, format!("offset `{HEAD_BYTES}` and on: {error}")))?;
    if n_read != payload.len() {
        let offset = HEAD_BYTES + n_read;
        return Err(Error::corrupt(
            key,
            format!("expected the record to end at offset `{offset}`, got `{}` more bytes", payload.len() - n_read),
        ));
    }
    Ok(value)
}

/// No stored form is larger in memory than so many times its bytes: an empty text of one byte takes twenty-four.
const ROOM: usize = 64;
/// How much more than its own length a record may claim.
#[cfg(test)]
const MAX_GROWTH: usize = 16 * ROOM;

fn decode<T: DeserializeOwned, const LIMIT: usize>(payload: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    bincode::serde::decode_from_slice(payload, CONFIG.with_limit::<LIMIT>())
}

/// The error for a version this build does not know.
pub(crate) fn unknown_version(key: &[u8], expected: u8, got: u8) -> Error {
    Error::corrupt(key, format!("expected record version `{expected}` or lower, got `{got}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Manifest;
    use crate::series::Chunk;
    use crate::{Digest, FileEntry, Point, Problem, Verifier};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_records_never_panic(record in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzz::record(&record);
            crate::fuzz::record(&[&[CODEC, 1], record.as_slice()].concat());
        }

        #[test]
        fn golden_records_with_flipped_bytes_never_panic(
            nth in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        ) {
            let golden = include_str!("../../tests/golden/format-1.txt");
            let digits = golden.lines().filter_map(|line| line.strip_prefix("record ")?.split_once(' '));
            let records: Vec<Vec<u8>> = digits.map(|(_, digits)| crate::error::unhex(digits).unwrap()).collect();
            let mut record = records[nth.index(records.len())].clone();
            for (at, flip) in flips {
                let at = at.index(record.len());
                record[at] ^= flip;
            }
            crate::fuzz::record(&record);
        }
    }

    #[test]
    fn a_record_that_claims_more_than_it_has_is_refused_before_memory_is_taken() {
        for n_more in [0, 300, 5_000, 60_000] {
            // A problem whose name claims a length, followed by less.
            let mut record = vec![CODEC, 1, 253];
            let claimed = (n_more + 9).max(16) * MAX_GROWTH + 1;
            record.extend_from_slice(&(claimed as u64).to_le_bytes());
            record.extend_from_slice(&vec![b'x'; n_more]);
            let error = Problem::decode(b"k", &record).unwrap_err().to_string();
            assert!(error.contains("LimitExceeded"), "{n_more}: {error}");
        }
    }

    #[test]
    fn records_that_are_larger_in_memory_than_in_bytes_have_room() {
        for n in [0, 1, 40, 250, 1_000, 20_000] {
            let verifier = Verifier {
                name: String::new(),
                version: String::new(),
                commit: String::new(),
                binary: Digest::of(b""),
                flags: vec![String::new(); n],
            };
            assert_eq!(Verifier::decode(b"k", &verifier.encode().unwrap()).unwrap(), verifier, "{n}");
            let chunk = Chunk { points: vec![Point::new(0, 0, 0.0); n] };
            assert_eq!(Chunk::decode(b"k", &chunk.encode().unwrap()).unwrap(), chunk, "{n}");
            let file = FileEntry { path: String::new(), n_bytes: 0, digest: Digest::of(b"") };
            let manifest = Manifest { kind: String::new(), files: vec![file; n] };
            assert_eq!(Manifest::decode(b"k", &manifest.encode().unwrap()).unwrap(), manifest, "{n}");
        }
    }
}
