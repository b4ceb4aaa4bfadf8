//! `manifest.json`: what a bundle is, for people and for programs.
//!
//! It is one JSON object whose last field is `digest`: BLAKE3 over all bytes of the file before the comma in front of it. That
//! holds for manifests of any format, so damage is told from a format that is newer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BUNDLE_FORMAT, Purpose};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, RunId};
use crate::model::Status;

/// What a bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) what: Purpose,
    pub(crate) format: u32,
    pub(crate) made: Timestamp,
    /// The build that wrote it.
    pub(crate) by: String,
    pub(crate) store: StoreFacts,
    pub(crate) counts: Counts,
    /// BLAKE3 over the digests of its chunks, in order: equal for equal records.
    pub(crate) records: Digest,
    /// BLAKE3 of the index.
    pub(crate) index: Digest,
    pub(crate) index_bytes: u64,
    /// In an export: its runs, by id.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) runs: Vec<RunFacts>,
}

/// The store a bundle was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreFacts {
    pub(crate) engine: String,
    /// Of the engine's files.
    pub(crate) layout: u32,
    /// Of keys and records.
    pub(crate) format: u32,
}

/// How much is in a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Experiments.
    pub experiments: u64,
    /// Runs.
    pub runs: u64,
    /// Versions of artifacts.
    pub versions: u64,
    /// Entries of the store: records and indexes.
    pub entries: u64,
    /// Chunks of entries.
    pub chunks: u64,
    /// Bytes of entries.
    pub record_bytes: u64,
    /// What chunks take, compressed.
    pub stored_bytes: u64,
    /// Packs of artifacts' pieces.
    pub packs: u64,
    /// What packs take.
    pub pack_bytes: u64,
}

/// A run of an export, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Its id.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// Its study.
    pub study: String,
    /// Its status.
    pub status: Status,
    /// The digest over all its records, as of the export.
    pub record_digest: Digest,
    /// Whether it was asked for; else others came from it.
    pub is_asked: bool,
    /// How much it holds of what, each with a digest.
    pub sections: BTreeMap<String, Section>,
}

/// How much of something a run has, and the digest over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Entries; of the run itself, 1; of series, points.
    pub n: u64,
    /// BLAKE3 over them, in order.
    pub digest: Digest,
}

/// What manifests of every format say.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

const DIGEST_FIELD: &str = ",\n  \"digest\": \"";
const END: &str = "\"\n}\n";

impl Manifest {
    /// The text of the file.
    pub(super) fn to_text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::invalid("a manifest", "JSON", error))?;
        let body = text.strip_suffix("\n}").unwrap_or(&text);
        Ok(format!("{body}{DIGEST_FIELD}{}{END}", Digest::of(body.as_bytes())))
    }

    /// Reads the text of the file. `damaged` makes the error for damage at an offset; `path` names the bundle.
    ///
    /// # Errors
    /// `Newer`; what `damaged` makes.
    pub(super) fn read(text: &[u8], path: &Path, damaged: &dyn Fn(u64, String) -> Error) -> Result<Self> {
        let body = body_of(text).map_err(|(offset, reason)| damaged(offset, reason.to_owned()))?;
        let whole = [body, b"\n}".as_slice()].concat();
        let failed = |error: serde_json::Error| damaged(0, format!("it is not a manifest: {error}"));
        let Head { format } = serde_json::from_slice(&whole).map_err(failed)?;
        if format > BUNDLE_FORMAT {
            return Err(Error::Newer { path: path.to_path_buf(), found: format, supported: BUNDLE_FORMAT });
        }
        serde_json::from_slice(&whole).map_err(failed)
    }
}

/// What is under the digest of a manifest, if that is right; else where and why it is not.
fn body_of(text: &[u8]) -> Result<&[u8], (u64, &'static str)> {
    let n_tail = DIGEST_FIELD.len() + 64 + END.len();
    let n_body = text.len().checked_sub(n_tail).ok_or((0, "it is cut short"))?;
    let (body, tail) = text.split_at(n_body);
    let expected = format!("{DIGEST_FIELD}{}{END}", Digest::of(body));
    match tail.iter().zip(expected.as_bytes()).position(|(got, expected)| got != expected) {
        None => Ok(body),
        Some(at) if !(DIGEST_FIELD.len()..DIGEST_FIELD.len() + 64).contains(&at) => {
            Err(((n_body + at) as u64, "it does not end as a manifest does"))
        }
        Some(_) => Err((0, "its bytes have another digest than it says at its end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            what: Purpose::Backup,
            format: BUNDLE_FORMAT,
            made: Timestamp::from_millis(1_795_000_000_123).unwrap(),
            by: "tracker 0.1.0".to_owned(),
            store: StoreFacts { engine: "redb".to_owned(), layout: 1, format: 1 },
            counts: Counts { runs: 3, ..Counts::default() },
            records: Digest::of(b"r"),
            index: Digest::of(b"i"),
            index_bytes: 5,
            runs: Vec::new(),
        }
    }

    fn read(text: &[u8]) -> Result<Manifest> {
        Manifest::read(text, Path::new("b"), &|offset, reason| Error::CorruptFile {
            path: "b/m".into(),
            offset,
            reason,
        })
    }

    #[test]
    fn a_manifest_is_json_and_reads_back() {
        let text = manifest().to_text().unwrap();
        assert_eq!(read(text.as_bytes()).unwrap(), manifest());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["what"], &json["format"], &json["counts"]["runs"]),
            (&"tracker backup".into(), &1.into(), &3.into())
        );
    }

    #[test]
    fn every_bit_that_flips_is_found() {
        let text = manifest().to_text().unwrap().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = read(&damaged).unwrap_err();
            assert!(matches!(error, Error::CorruptFile { .. }), "bit {bit}: {error}");
        }
        for n in 0..text.len() {
            assert!(matches!(read(&text[..n]), Err(Error::CorruptFile { .. })), "{n} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let newer = Manifest { format: 2, ..manifest() }.to_text().unwrap();
        let error = read(newer.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 2, supported: 1, .. }), "{error}");
        assert!(error.is_input() && error.hint().is_some());
    }
}
