//! Training as a recorded step: a dataset in, a checkpoint out, with its loss as a series.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a model is trained on examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftSettings {
    /// Passes over the examples.
    pub epochs: f64,
    /// Examples a step.
    pub batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of steps over which the rate rises, in [0, 1].
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}
