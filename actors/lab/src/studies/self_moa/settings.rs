//! What a plan of `self_moa` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::endpoint::EndpointSettings;
use crate::parts::grade::Grader;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::parts::vendi::NgramKernel;

/// Settings of the study `self_moa`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SelfMoa {
    /// Problems of files for models behind endpoints; none for the small tasks.
    pub data: DataSettings,
    /// Models behind endpoints by the names that mixtures have for them, each with settings as in `[judge]`; none for small ones
    /// that are trained here: `i` (all tasks), `a` (arithmetic), `s` (string), `l` (logic).
    pub models: BTreeMap<String, EndpointSettings>,
    /// Who rates answers and says which of two is better, where models are behind endpoints; apart from them.
    pub judge: EndpointSettings,
    /// The small tasks.
    pub tasks: TaskSettings,
    /// The small models.
    pub policy: Shape,
    /// What the small model of all tasks is taught, from nothing.
    pub generalist: TeachSettings,
    /// What each specialist is taught besides, from the generalist.
    pub specialist: TeachSettings,
    /// The model that reads the others' answers.
    pub aggregator: AggregatorSettings,
    /// The small reward model that rates answers.
    pub verifier: SftSettings,
    /// The mixtures that are compared.
    pub moa: MoaSettings,
    /// Aggregation in a sequence of windows.
    pub seq: SeqSettings,
    /// Mixtures and temperatures that quality and diversity are measured over.
    pub sweep: SweepSettings,
    /// The kernel of the Vendi score.
    pub kernel: NgramKernel,
    /// Intervals.
    pub measure: MeasureSettings,
}

/// Problems of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// JSONL or Parquet files of problems with answers, by task; the best model is chosen on them.
    pub validation: BTreeMap<String, Vec<String>>,
    /// The same for all that is measured; the same tasks.
    pub test: BTreeMap<String, Vec<String>>,
    /// Most problems of each task for validation.
    pub n_validation: u32,
    /// Most problems of each task for the test.
    pub n_test: u32,
    /// Field that names a row; empty to name rows by what they say.
    pub id: String,
    /// Leave wrong rows out and count them, in place of stopping at the first.
    pub skip_bad: bool,
    /// What is asked, with `{problem}` in it.
    pub template: String,
    /// How answers are found and compared: `gsm8k`, `math` or `last-result`.
    pub grader: Grader,
    /// The same for single tasks, by name.
    pub graders: BTreeMap<String, Grader>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

/// The small tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSettings {
    /// Fewest words of an input.
    pub min_words: usize,
    /// Most words of an input.
    pub max_words: usize,
    /// Exercises of each task that the best model is chosen on.
    pub n_validation: u32,
    /// Exercises of each task that all is measured on.
    pub n_test: u32,
}

/// What a small model is taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TeachSettings {
    /// Exercises.
    pub n_exercises: u32,
    /// Share of them that come with made-up references, in [0, 1].
    pub referenced: f64,
    /// How it learns them.
    pub sft: SftSettings,
}

/// The model that reads the others' answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AggregatorSettings {
    /// Which of `models` it is; of small ones it is the generalist, taught to aggregate.
    pub model: String,
    /// Exercises of each task it is taught on.
    pub n_exercises: u32,
    /// Answers each small model gives to each of them.
    pub n_samples: u32,
    /// Temperature of those.
    pub temperature: f64,
    /// Mixtures that are shown for each exercise.
    pub n_mixtures: u32,
    /// How it learns.
    pub sft: SftSettings,
}

/// The mixtures that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MoaSettings {
    /// The mixed one: names of models in the order of proposers, single letters in a row (`aassll`) or with blanks between. All
    /// mixtures have as many proposers.
    pub mixed: String,
    /// Layers of proposers before the aggregator.
    pub layers: u32,
    /// Layers of the mixed one with more of them; 0 for none.
    pub deep_layers: u32,
    /// Temperature of proposers.
    pub temperature: f64,
    /// Temperature of the aggregator.
    pub aggregator_temperature: f64,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// In what order proposals are shown: `given`, `reversed` or `shuffled`.
    pub order: String,
    /// What an aggregator behind an endpoint is told before the references.
    pub role: String,
    /// What a selector behind an endpoint is told.
    pub selector: String,
}

/// Aggregation in a sequence of windows (Self-MoA-Seq).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeqSettings {
    /// Candidates, N; 0 for no sequence.
    pub n_candidates: u32,
    /// Slots of a window, W.
    pub window: u32,
    /// Slots of a window that the best so far takes, R.
    pub reserved: u32,
}

/// Mixtures and temperatures that quality and diversity are measured over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SweepSettings {
    /// Mixtures, written as `moa.mixed` is; none for no regression.
    pub mixtures: Vec<String>,
    /// Temperatures of proposers.
    pub temperatures: Vec<f64>,
    /// Exponents K of other forms of quality.
    pub k: Vec<f64>,
}

/// Intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSettings {
    /// Resamples behind every interval.
    pub n_resamples: u32,
    /// Arms whose answers the judge compares with those of the best model alone, for win rates at any length and at equal lengths;
    /// how hard a query is, is told by the others of them.
    pub preferred: Vec<String>,
}
