//! Artifacts: named, versioned sets of files, stored once however often they are put.
//!
//! `name:alias` → version → manifest → files → pieces. A *piece* is a run of bytes named by its digest; small ones lie in
//! the record, others in a pack beside the engine. Pieces of a safetensors file are its header and its tensors, so equal
//! tensors of two checkpoints are one; other large files are cut where their content says, so equal stretches are one.
//! Pieces of float tensors are stored coded, alone or as the difference from a piece of an earlier version. What no version
//! names any more is collected.
//!
//! Invariants: a pack is whole and synced before a record names it; every byte handed out was checked against its
//! piece's digest first; a version never changes, and a name never has two versions of the same content; no path in a
//! manifest leads out of the folder it is written to.

mod base;
mod collect;
#[cfg(test)]
mod collect_test;
mod draft;
mod gate;
mod known;
pub(crate) mod loose;
mod packs;
mod pieces;
mod read;
mod receive;
mod remove;
mod ship;
mod split;
mod usage;
pub(crate) mod versions;
mod weights;
mod words;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, RunId};
use crate::model::Content;

pub(crate) use words::Words;

pub use collect::{Collect, Collected};
pub use draft::Draft;
pub(crate) use known::plan as plan_known;
pub use known::{Holder, Known};
pub use loose::{LooseFile, LooseFolder};
pub(crate) use packs::{PackFile, PackId, PackState, Packs};
pub(crate) use pieces::PieceReader;
pub use read::FileReader;
pub use receive::Renumbered;
pub(crate) use receive::{OurName, Parcel, Receipt};
pub(crate) use ship::{Sent, Shipment};
pub use usage::{Group, Share, Usage};
pub use weights::Weights;

/// What a set of files is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the files are: `model`, `dataset`, `exchanges`.
    pub kind: String,
    /// The files, by path.
    pub files: Vec<FileEntry>,
}

impl Content for Manifest {
    const KIND: Kind = Kind::Artifact;
}

impl Manifest {
    /// The file at `path`, if there is one.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The size of all files, in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it is within the artifact, with `/` between parts.
    pub path: String,
    /// Its size, in bytes.
    pub n_bytes: u64,
    /// Its digest: that of its bytes if it is one piece, else that of its list of pieces.
    pub digest: Digest,
}

/// One version of a named artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The name.
    pub name: String,
    /// The number, from 0; `name:v0` in text.
    pub number: u32,
    /// The digest of its [`Manifest`].
    pub manifest: Digest,
    /// When it was put.
    pub created: Timestamp,
    /// The run that put it, if one did.
    pub run: Option<RunId>,
}

/// The pieces of a file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePieces {
    pub(crate) pieces: Vec<PieceRef>,
}

/// One piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PieceRef {
    pub(crate) digest: Digest,
    pub(crate) n_bytes: u32,
}

/// Where the bytes of a piece are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) place: Place,
}

/// See [`Piece`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Here.
    Inline(Vec<u8>),
    /// In a pack, from an offset on.
    Packed(PackId, u64),
    /// In a pack, coded.
    Coded(Coded),
}

/// Where the coded bytes of a piece are, and how they become the piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coded {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
    pub(crate) n_stored: u32,
    /// The digest of the coded bytes, so that damage is found and named before they are decoded.
    pub(crate) sum: Digest,
    pub(crate) words: Words,
    /// The piece they are the difference from; it has the same length, and no base itself.
    pub(crate) base: Option<Digest>,
}

impl Place {
    /// The pack it is in, if it is in one.
    pub(crate) fn pack(&self) -> Option<PackId> {
        match self {
            Self::Inline(_) => None,
            Self::Packed(pack, _) => Some(*pack),
            Self::Coded(coded) => Some(coded.pack),
        }
    }

    /// The pack it is in, if it is in one, and the least bytes that has because of it.
    pub(crate) fn stretch(&self) -> Option<(PackId, u64)> {
        match self {
            Self::Inline(_) => None,
            // No empty piece is packed.
            Self::Packed(pack, offset) => Some((*pack, offset + 1)),
            Self::Coded(coded) => Some((coded.pack, coded.offset + u64::from(coded.n_stored))),
        }
    }

    /// How many bytes a piece of `n_bytes` takes here.
    pub(crate) fn n_stored(&self, n_bytes: u32) -> u64 {
        match self {
            Self::Inline(_) | Self::Packed(..) => u64::from(n_bytes),
            Self::Coded(coded) => u64::from(coded.n_stored),
        }
    }
}

impl FilePieces {
    /// The digest of a file with these pieces.
    pub(crate) fn digest(&self) -> Digest {
        if let [piece] = self.pieces.as_slice() {
            return piece.digest;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tracker file");
        for piece in &self.pieces {
            hasher.update(&piece.n_bytes.to_be_bytes());
            hasher.update(piece.digest.as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Refuses a path that is not plain: parts joined by single slashes, none of them `.` or `..`, no control character.
pub(crate) fn check_path(path: &str) -> Result<()> {
    const MAX_BYTES: usize = 1024;
    let is_plain = path.len() <= MAX_BYTES
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(|letter| letter.is_control() || letter == '\\');
    if is_plain {
        Ok(())
    } else {
        Err(Error::invalid("the path of a file", "relative and plain, such as `a/b.txt`", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in
            ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\0b", "a\\..\\b", "a/.", &"x".repeat(2000)]
        {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        for path in ["a", "a/b.txt", "…/ünï code", ".hidden", "a..b"] {
            check_path(path).unwrap();
        }
    }
}
