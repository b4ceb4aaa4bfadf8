//! Low-rank adapters as plans have them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::{Lora, Projection};

use crate::error::Result;
use crate::plan::require;

/// A low-rank adapter (arXiv 2106.09685). What is recorded has it merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// Its rank; 0, the default, trains all weights.
    pub rank: usize,
    /// What the product of its factors is multiplied by, α over the rank; 2 where nothing is said.
    pub scale: f64,
    /// The maps of each block that it changes; all of them where nothing is said.
    pub maps: Maps,
}

/// Maps of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Maps {
    /// Attention and feed-forward.
    All,
    /// Of attention.
    Attention,
    /// Feed-forward.
    Mlp,
}

impl LoraSettings {
    /// Whether nothing is said of it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// As the language model takes it; none of rank 0.
    #[must_use]
    pub fn adapter(&self) -> Option<Lora> {
        let projections = match self.maps {
            Maps::All => [Projection::ATTENTION.as_slice(), &Projection::MLP].concat(),
            Maps::Attention => Projection::ATTENTION.to_vec(),
            Maps::Mlp => Projection::MLP.to_vec(),
        };
        let alpha = self.scale * self.rank as f64;
        (self.rank > 0).then_some(Lora { rank: self.rank, alpha, projections })
    }

    /// Refuses values that make no sense; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        let is_some = self.scale > 0.0 && self.scale.is_finite();
        require(is_some, &format!("{section}.scale"), "a number above 0", self.scale)
    }
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self { rank: 0, scale: 2.0, maps: Maps::All }
    }
}
