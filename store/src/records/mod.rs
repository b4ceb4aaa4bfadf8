//! How values become bytes: `[codec u8][schema version u8][bincode 2 payload]`.
//!
//! Invariants: a released stored form (a struct in [`v1`] and later siblings) never changes; a new version is a new struct
//! beside it, and readers know them all. Decoding checks that the payload was consumed to the last byte and allocates
//! no more than the record is long. Not here: keys, and what the values mean.

mod v1;

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

/// Decodes a payload to the last byte.
pub(crate) fn open<T: DeserializeOwned>(key: &[u8], payload: &[u8]) -> Result<T> {
    /// Values are at most 16 MiB in every engine, and no stored form is larger in memory than four times its bytes.
    const LIMIT: usize = 64 << 20;
    let (value, n_read) = bincode::serde::decode_from_slice(payload, CONFIG.with_limit::<LIMIT>())
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

/// The error for a version this build does not know.
pub(crate) fn unknown_version(key: &[u8], expected: u8, got: u8) -> Error {
    Error::corrupt(key, format!("expected record version `{expected}` or lower, got `{got}`"))
}
