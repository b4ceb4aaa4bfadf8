//! The index of a bundle: one line of JSON a chunk or a pack.

use serde::{Deserialize, Serialize};

use super::{CHUNKS, INDEX, PACKS};
use crate::artifact::PackId;
use crate::error::{Error, Result, hex, unhex};
use crate::id::{Digest, RunId};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    Chunk(ChunkLine),
    Pack(PackLine),
}

/// A chunk of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChunkLine {
    /// BLAKE3 of its entries as they are laid out.
    pub(crate) chunk: Digest,
    pub(crate) n_bytes: u64,
    pub(crate) n_entries: u64,
    /// How long its file is.
    pub(crate) n_stored: u64,
    /// BLAKE3 of its file.
    pub(crate) sum: Digest,
    /// In an export: the run that its entries are of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) run: Option<RunId>,
}

/// A pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackLine {
    #[serde(serialize_with = "pack_to_text", deserialize_with = "pack_from_text")]
    pub(crate) pack: PackId,
    pub(crate) n_bytes: u64,
    /// BLAKE3 of each of its blocks.
    pub(crate) blocks: Vec<Digest>,
}

fn pack_to_text<S: serde::Serializer>(pack: &PackId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pack)
}

fn pack_from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PackId, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(deserializer)?;
    let bytes = unhex(&text).and_then(|bytes| bytes.try_into().ok());
    bytes.map(PackId::from_bytes).ok_or_else(|| D::Error::custom("expected 32 hexadecimal digits"))
}

pub(super) fn chunk_name(chunk: &Digest) -> String {
    format!("{CHUNKS}/{chunk}")
}

pub(super) fn pack_name(pack: PackId) -> String {
    format!("{PACKS}/{}", pack.file_name())
}

pub(super) fn index_name(index: &Digest) -> String {
    format!("{INDEX}/{index}.jsonl")
}

impl Line {
    /// The file it is about.
    pub(super) fn file(&self) -> String {
        match self {
            Self::Chunk(line) => chunk_name(&line.chunk),
            Self::Pack(line) => pack_name(line.pack),
        }
    }
}

pub(super) fn write(lines: &[Line]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(|error| Error::invalid("an index", "lines of JSON", error))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The lines of an index; the reason if it is none.
pub(super) fn read(text: &[u8]) -> Result<Vec<Line>, String> {
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(nth, line)| serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", nth + 1)))
        .collect()
}

/// Whether `name` is that of a file of a bundle.
pub(super) fn is_ours(name: &str) -> bool {
    let is_digest = |text: &str| unhex(text).is_some_and(|bytes| bytes.len() == 32 && hex(&bytes) == text);
    match name.split_once('/') {
        None => matches!(name, super::MARK | super::MANIFEST),
        Some((CHUNKS, name)) => is_digest(name),
        Some((INDEX, name)) => name.strip_suffix(".jsonl").is_some_and(is_digest),
        Some((PACKS, name)) => name.strip_suffix(".pack").and_then(unhex).is_some_and(|bytes| bytes.len() == 16),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_of_a_bundle_are_told() {
        let digest = Digest::of(b"x");
        let pack = PackId::from_bytes([7; 16]);
        for name in [chunk_name(&digest), pack_name(pack), index_name(&digest), "BUNDLE".into(), "manifest.json".into()]
        {
            assert!(is_ours(&name), "{name}");
        }
        for name in ["", "x", "chunks/", "chunks/../x", "packs/x.pack", "chunks/0g", "/etc/passwd", "index/x"] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn lines_survive() {
        let lines = vec![
            Line::Chunk(ChunkLine {
                chunk: Digest::of(b"a"),
                n_bytes: 1,
                n_entries: 2,
                n_stored: 3,
                sum: Digest::of(b"b"),
                run: Some(RunId::from_bytes([3; 16])),
            }),
            Line::Pack(PackLine { pack: PackId::from_bytes([1; 16]), n_bytes: 9, blocks: vec![Digest::of(b"c")] }),
        ];
        assert_eq!(read(&write(&lines).unwrap()).unwrap(), lines);
        assert!(read(b"{\"chunk\": 1}\n").is_err());
    }
}
