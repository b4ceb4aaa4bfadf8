//! Names: of runs, of contents, of rows.
//!
//! Runs and experiments have time-sorted UUIDs. Immutable contents are named by their BLAKE3 [`Digest`]. Rows are named
//! by where they stand ([`RowKey`]), so their names are known before they are computed. A [`NodeId`] is any of these.

mod digest;
mod node;
mod row;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

pub use digest::Digest;
pub use node::{Kind, NodeId};
pub use row::{RowKey, Slot, StageId};

use crate::error::{Error, Result};

macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new one, which sorts after those made before.
            #[must_use]
            pub fn fresh() -> Self {
                Self(crate::clock::new_uuid().into_bytes())
            }

            /// The one with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its sixteen bytes, most significant first.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Its thirty-two hexadecimal digits, without hyphens.
            #[must_use]
            pub fn simple(&self) -> String {
                crate::error::hex(&self.0)
            }

            /// Its last eight digits: the random ones, which tell ids of the same minute apart.
            #[must_use]
            pub fn short(&self) -> String {
                crate::error::hex(&self.0[12..])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let uuid = Uuid::parse_str(text).map_err(|_| Error::invalid($noun, "a UUID", text))?;
                Ok(Self(uuid.into_bytes()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() { from_text(deserializer) } else { Deserialize::deserialize(deserializer).map(Self) }
            }
        }
    };
}

uuid_name! {
    /// A run: a UUID of version 7, so ids sort by when runs were created.
    RunId, "run id"
}

uuid_name! {
    /// An experiment: a UUID of version 7.
    ExperimentId, "experiment id"
}

/// Reads a name from its text form.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = Error>>(deserializer: D) -> Result<T, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_when_they_were_made() {
        let ids: Vec<RunId> = (0..1000).map(|_| RunId::fresh()).collect();
        assert!(ids.is_sorted() && ids[0] != ids[999]);
    }

    #[test]
    fn a_run_id_reads_back_with_and_without_hyphens() {
        let id = RunId::from_bytes([0x11; 16]);
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert_eq!("11111111111111111111111111111111".parse::<RunId>().unwrap(), id);
        assert_eq!(id.short(), "11111111");
        assert_eq!("x".parse::<RunId>().unwrap_err().to_string(), "expected run id to be a UUID, got `x`");
    }
}
