//! Where a row stands: run, stage, item, k.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, RunId};
use crate::error::{Error, Result};

/// A stage of a run, by the first four bytes of the BLAKE3 digest of its name.
///
/// The store keeps the name beside it and refuses a second name with the same id in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(u32);

impl StageId {
    /// The id of the stage with this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(Digest::of(name.as_bytes()).head())
    }

    /// The id with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number; stages lie in the store in this order.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:08x}", self.0)
    }
}

impl fmt::Debug for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageId({self})")
    }
}

impl FromStr for StageId {
    type Err = Error;

    /// Reads `@` and eight hexadecimal digits, or takes the text as the stage's name.
    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix('@') {
            Some(digits) if digits.len() == 8 => u32::from_str_radix(digits, 16)
                .map(Self)
                .map_err(|_| Error::invalid("stage", "a name, or `@` and eight hexadecimal digits", text)),
            _ => Ok(Self::of(text)),
        }
    }
}

/// Which of several verdicts or rewards of one sample: the head of the digest of whoever gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot of a verifier.
    #[must_use]
    pub fn of(verifier: &Digest) -> Self {
        Self(verifier.head())
    }
}

/// Where a row stands. Rows of a stage lie in the store by item, then k.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The run that recorded it.
    pub run: RunId,
    /// The stage of the run.
    pub stage: StageId,
    /// The work item within the stage, from 0.
    pub item: u32,
    /// Which of several answers to one item, from 0.
    pub k: u32,
}

impl RowKey {
    /// The row of `run` at `item` and `k` of the stage named `stage`.
    #[must_use]
    pub fn new(run: RunId, stage: &str, item: u32, k: u32) -> Self {
        Self { run, stage: StageId::of(stage), item, k }
    }

    /// Stage, item and k, big-endian.
    pub(crate) fn place(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.stage.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.item.to_be_bytes());
        bytes[8..].copy_from_slice(&self.k.to_be_bytes());
        bytes
    }

    pub(crate) fn from_place(run: RunId, place: [u8; 12]) -> Self {
        let part = |at: usize| u32::from_be_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]]);
        Self { run, stage: StageId(part(0)), item: part(4), k: part(8) }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.stage, self.item, self.k)
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowKey({self})")
    }
}

impl FromStr for RowKey {
    type Err = Error;

    /// Reads `RUN/STAGE/ITEM/K`; the stage may be a name, with slashes in it too.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("row", "`RUN/STAGE/ITEM/K`", text);
        let (run, rest) = text.split_once('/').ok_or_else(invalid)?;
        let (rest, k) = rest.rsplit_once('/').ok_or_else(invalid)?;
        let (stage, item) = rest.rsplit_once('/').ok_or_else(invalid)?;
        Ok(Self {
            run: run.parse()?,
            stage: stage.parse()?,
            item: item.parse().map_err(|_| invalid())?,
            k: k.parse().map_err(|_| invalid())?,
        })
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.run, self.place()).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return super::from_text(deserializer);
        }
        let (run, place) = Deserialize::deserialize(deserializer)?;
        Ok(Self::from_place(run, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_by_stage_name_and_by_stage_id() {
        let run = RunId::from_bytes([7; 16]);
        let row = RowKey::new(run, "round 2/sample", 17, 3);
        assert_eq!(row.to_string().parse::<RowKey>().unwrap(), row);
        assert_eq!(format!("{run}/round 2/sample/17/3").parse::<RowKey>().unwrap(), row);
        assert!(format!("{run}/sample/17").parse::<RowKey>().is_err());
        assert_eq!(RowKey::from_place(run, row.place()), row);
    }
}
