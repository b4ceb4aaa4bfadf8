//! What weights are known to be: notes that spare a second reading.
//!
//! A merge names weights by a digest over their tensors, whatever files hold them; files and recipes have digests of their own.
//! These notes lead from one to the other. They follow from the bytes, and may be dropped at any time: what they said is
//! computed again.

use std::path::Path;

use tracker_engine::Batch;

use super::Version;
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId};
use crate::keys;
use crate::model::Checkpoint;
use crate::records::Stored as _;
use crate::store::Store;

/// What holds weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The files of a [`Manifest`](super::Manifest), or whatever a recipe makes: its digest says all.
    Content(Digest),
    /// A folder outside the store, whose files may change: what is known of it is known of one stamp.
    Folder {
        /// The digest of its path.
        path: Digest,
        /// What tells it from the same folder after a change.
        stamp: Digest,
    },
}

impl Holder {
    /// The folder at `path`, which should be absolute and without links, while its files are as `stamp` says.
    #[must_use]
    pub fn folder(path: &Path, stamp: Digest) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tracker folder").update(path.as_os_str().as_encoded_bytes());
        Self::Folder { path: hasher.finalize().into(), stamp }
    }

    /// The digest it goes by in a key, and its stamp.
    pub(crate) fn parts(self) -> (Digest, Digest) {
        match self {
            Self::Content(digest) => (digest, Digest::from_bytes([0; 32])),
            Self::Folder { path, stamp } => (path, stamp),
        }
    }
}

/// That a holder has weights with a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What has them.
    pub holder: Holder,
    /// BLAKE3 over, for each tensor by name, the name, a zero byte and the BLAKE3 of its bytes.
    pub weights: Digest,
}

/// Adds a note to a batch.
pub(crate) fn plan(known: Known, batch: &mut Batch) {
    let (holder, stamp) = known.holder.parts();
    let value = [*stamp.as_bytes(), *known.weights.as_bytes()].concat();
    batch.put(&keys::weights(&holder), &value);
}

impl Store {
    /// The digest of the weights that `holder` has, if somebody noted it; of a folder only while its stamp is the one noted.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn known_weights(&self, holder: Holder) -> Result<Option<Digest>> {
        let (digest, stamp) = holder.parts();
        let key = keys::weights(&digest);
        let Some(value) = self.get(&key)? else { return Ok(None) };
        let value: [u8; 64] = value.try_into().map_err(|_| Error::corrupt(&key, "expected 64 bytes"))?;
        let (noted, weights) = value.split_at(32);
        let weights =
            weights.try_into().map(Digest::from_bytes).map_err(|_| Error::corrupt(&key, "expected a digest"))?;
        Ok((noted == stamp.as_bytes()).then_some(weights))
    }

    /// A checkpoint that is known to have these weights: one whose record names them, or whose files or recipe are known to.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn checkpoint_with_weights(&self, weights: Digest) -> Result<Option<NodeId>> {
        for row in self.contents::<Checkpoint>() {
            let (node, checkpoint) = row?;
            let manifest = checkpoint.manifest;
            if manifest == weights || self.known_weights(Holder::Content(manifest))? == Some(weights) {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// A version of an artifact whose files are known to have these weights.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn version_with_weights(&self, weights: Digest) -> Result<Option<Version>> {
        for entry in self.entries(&keys::all_versions()) {
            let (key, record) = entry?;
            let version = Version::decode(&key, &record)?;
            if self.known_weights(Holder::Content(version.manifest))? == Some(weights) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Whether the store knows files by this manifest: they were put here once, and may have been collected.
    pub(crate) fn knows_files(&self, manifest: Digest) -> Result<bool> {
        self.has(&NodeId::content_of(Kind::Artifact, manifest))
    }
}
