//! Reward models: a language model and a head that reads its hidden states.
//!
//! A [`RewardModel`] scores completions ([`scores`]) and steps ([`tag_scores`]); [`fit`] and [`ppo`] return trained ones.
//!
//! # Invariants
//! - A head lies in files with the digests of itself and of its trunk, and is not loaded beside another.
//! - What is scored is what is trained: on the CPU the very bits.
//!
//! Not here: how scores of steps are aggregated, and what is done with them.
//!
//! [`fit`]: crate::fit
//! [`ppo`]: crate::ppo

mod files;
mod head;
mod score;

use std::borrow::Cow;
use std::path::Path;

use tracker_gpu::Device;

use crate::checkpoint;
use crate::error::Result;
use crate::lm::Lm;
pub(crate) use head::Head;
pub use head::HeadKind;
pub use score::{Tagged, scores, tag_scores};
pub(crate) use score::{check_positions, outputs};

/// A trunk with a head on its final norm. Cheap to clone; never changes: training returns another.
#[derive(Debug, Clone)]
pub struct RewardModel {
    trunk: Lm,
    head: Head,
}

impl RewardModel {
    /// A model with a random head: matrices N(0, 1 / (inputs + 1)), biases zero. The bits follow from `kind`, the trunk's
    /// width and `seed`; a head of two tokens has none.
    ///
    /// # Errors
    /// `Range` if an output has no name or one that is taken, `hidden` is 0, or the two tokens are one or unknown.
    pub fn init(trunk: &Lm, kind: HeadKind, seed: u64) -> Result<Self> {
        let head = Head::init(kind, trunk.config(), seed)?;
        Ok(Self::new(trunk.clone(), head))
    }

    pub(crate) fn new(trunk: Lm, head: Head) -> Self {
        Self { trunk, head }
    }

    /// Reads a folder: the trunk's Hugging Face files, `head.json` and `head.safetensors`.
    ///
    /// # Errors
    /// As [`Lm::load`]; `NoFile` without a head; `Malformed` if a file says less, more or something else than a head does,
    /// or its tensors are not those that were written; `Tensors` or `Tensor` if a tensor is missing, unexpected, of another
    /// shape or not finite; `Trunk` if the head was trained with another trunk.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let trunk = Lm::load(dir, device)?;
        let head = files::read(&trunk, |name| checkpoint::read_file(dir, name))?;
        Ok(Self::new(trunk, head))
    }

    /// [`RewardModel::load`] from names and bytes in memory. Other files are ignored.
    ///
    /// # Errors
    /// As [`RewardModel::load`], without `Io`.
    pub fn from_files<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)], device: &Device) -> Result<Self> {
        let trunk = Lm::from_files(files, device)?;
        let head = files::read(&trunk, |name| {
            let found = files.iter().find(|(file, _)| file.as_ref() == name);
            Ok(found.map(|(_, bytes)| Cow::Borrowed(bytes.as_ref())))
        })?;
        Ok(Self::new(trunk, head))
    }

    /// Writes the folder [`RewardModel::load`] reads. It appears whole or not at all.
    ///
    /// # Errors
    /// `Exists` if `dir` is there and not empty, `Io` if the file system refuses.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        checkpoint::write_dir(dir.as_ref(), &self.to_files()?)
    }

    /// The files [`RewardModel::save`] writes, sorted by name; equal models give equal bytes.
    ///
    /// # Errors
    /// `Malformed` if the weights cannot be serialised.
    pub fn to_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut all = self.trunk.to_files()?;
        all.extend(files::files(&self.trunk, &self.head)?);
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The same model on another device.
    #[must_use]
    pub fn on(&self, device: &Device) -> Self {
        Self { trunk: self.trunk.on(device), head: self.head.clone() }
    }

    /// The language model under the head.
    #[must_use]
    pub fn trunk(&self) -> &Lm {
        &self.trunk
    }

    /// What the head is.
    #[must_use]
    pub fn kind(&self) -> &HeadKind {
        &self.head.kind
    }

    /// The digest of the head: BLAKE3 over its kind as JSON and, for each tensor by name, the name, a zero byte and the
    /// BLAKE3 of its bytes (f32, little-endian). The trunk's is [`Lm::weights_digest`].
    #[must_use]
    pub fn head_digest(&self) -> [u8; 32] {
        self.head.digest()
    }

    /// How many numbers the head is made of.
    #[must_use]
    pub fn n_head_params(&self) -> usize {
        self.head.data.len()
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}
