//! What a plan of `dpa` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::endpoint::EndpointSettings;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;

/// Settings of the study `dpa`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dpa {
    /// Checkpoints to start from, instead of small ones trained here.
    pub models: ModelSettings,
    /// A policy behind an endpoint: asked, chosen from and measured, not trained.
    pub endpoint: EndpointSettings,
    /// The endpoint that gives marks when `reward.by` is `endpoint`.
    pub judge: EndpointSettings,
    /// Data from files, instead of the small language.
    pub data: DataSettings,
    /// The small language: prompts list facts and ask for some of them.
    pub language: LanguageSettings,
    /// The shape of the small model, which policies and the reward model start from.
    pub policy: Shape,
    /// Its training on answers of many kinds, some of them wrong.
    pub pretrain: PretrainSettings,
    /// The reward model, and how its attributes make the two objectives.
    pub reward: RewardSettings,
    /// Which directions are asked for.
    pub directions: DirectionSettings,
    /// Rejection sampling under sampled directions.
    pub rsf: RsfSettings,
    /// What every model is measured on.
    pub measure: MeasureSettings,
    /// What DPA is compared with.
    pub baselines: BaselineSettings,
}

/// Checkpoints to start from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// A Hugging Face folder of the policy; empty for a small model trained here.
    pub policy: String,
    /// A folder of a reward model with a linear head, whose outputs are the attributes; empty to fit one.
    pub reward: String,
    /// How a policy from a folder is asked: `{system}` is what it is told, `{prompt}` the prompt.
    pub template: String,
    /// Longest answer of a policy from a folder, in tokens.
    pub max_tokens: u32,
}

/// Data from files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// A JSONL file with an object `{"prompt": "…"}` a line; needed with `models.policy` and with `endpoint`.
    pub prompts: String,
    /// Files of rated answers.
    pub ratings: Vec<String>,
    /// What rows of `ratings` are: `rows` (`{prompt, response, ATTRIBUTE, …}` or `{messages, ATTRIBUTE, …}`, 0 to 100 or null),
    /// `helpsteer` or `ultrafeedback` as published.
    pub format: RatingFormat,
    /// The field that names a row of `ratings`; empty to name rows by what they say, as published rows must be.
    pub id: String,
    /// Whether wrong rows of ratings are left out and counted, instead of ending the run.
    pub skip_bad: bool,
}

/// What rated rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RatingFormat {
    /// Rows with the plan's attributes, from 0 to 100.
    Rows,
    /// `HelpSteer`'s.
    HelpSteer,
    /// `UltraFeedback`'s.
    UltraFeedback,
}

/// Who gives answers their attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rater {
    /// A reward model: that of `models.reward`, or one fitted to ratings.
    Model,
    /// A model behind an endpoint, from 0 to 100 each.
    Endpoint,
}

/// The small language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageSettings {
    /// Facts a prompt.
    pub n_facts: usize,
    /// How many of them are asked for; each weighs half of the one before.
    pub n_asked: usize,
}

/// Training on answers of many kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainSettings {
    /// Prompts, each with one answer.
    pub n_prompts: u32,
    /// Share of an answer's words that are made up, in [0, 1).
    pub error_rate: f64,
    /// Training.
    pub sft: SftSettings,
}

/// The reward model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardSettings {
    /// Who says what answers are worth: `model`, or `endpoint` (that of `judge`).
    pub by: Rater,
    /// What the judge is asked: a text with `{attributes}`, `{prompt}` and `{answer}`.
    pub template: String,
    /// Prompts whose answers are rated.
    pub n_prompts: u32,
    /// Rated answers a prompt, by writers of different quality.
    pub n_answers: u32,
    /// The writers: the same model at each of these sampling temperatures.
    pub temperatures: Vec<f64>,
    /// How far off a rating may be, out of 100; it is off by up to that, evenly.
    pub noise: f64,
    /// Share of ratings that are missing, in [0, 1).
    pub missing: f64,
    /// What answers are rated by, each from 0 to 100: the reward model's outputs, in order.
    pub attributes: Vec<String>,
    /// Weights of attributes in the first objective, helpfulness.
    pub helpfulness: BTreeMap<String, f64>,
    /// Weights of attributes in the second objective, verbosity.
    pub verbosity: BTreeMap<String, f64>,
    /// Training.
    pub sft: SftSettings,
}

/// Which directions are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DirectionSettings {
    /// Least angle that is sampled, in degrees; 0 asks for helpfulness alone, below 0 for brevity.
    pub min: f64,
    /// Greatest angle that is sampled, in degrees.
    pub max: f64,
    /// How many directions models are measured at, evenly from `min` to `max`.
    pub n_measured: u32,
    /// Directions to measure at instead, as vectors of length 1 (two decimals will do).
    pub vectors: Vec<Vec<f64>>,
}

/// What a round of training starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The model of the round before.
    Previous,
    /// The model before all rounds.
    Base,
}

/// Which prompts a round has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Each its own.
    Fresh,
    /// All the same.
    Same,
}

/// Rejection sampling under sampled directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RsfSettings {
    /// Prompts of the warm-up, round 0, whose answers the unconditioned model writes.
    pub n_warm_up: u32,
    /// Answers a prompt of the warm-up.
    pub n_offline: u32,
    /// Rounds after it.
    pub rounds: u32,
    /// Prompts a round.
    pub n_prompts: u32,
    /// Directions a prompt, each sampled.
    pub n_directions: u32,
    /// Answers a prompt and direction, of which the best is learnt (n).
    pub n_samples: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// What a round starts from: `previous` or `base`.
    pub start: Start,
    /// Which prompts a round has: `fresh` or `same`.
    pub prompts: Split,
    /// Training of the warm-up.
    pub warm_up: SftSettings,
    /// Training of each round.
    pub sft: SftSettings,
}

/// What every model is measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSettings {
    /// Held-out prompts.
    pub n_prompts: u32,
    /// Answers a prompt and direction.
    pub n_samples: u32,
    /// Helpfulness from where the volume under a front counts.
    pub reference: f64,
    /// Resamples of prompts behind each interval.
    pub n_resamples: u32,
}

/// What DPA is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineSettings {
    /// β of DPO on pairs by helpfulness; none for no DPO.
    pub dpo: Vec<f64>,
    /// Training of DPO.
    pub preference: SftSettings,
    /// What `SteerLM` is asked for: helpfulness and verbosity, each from 0 to 100; none for no `SteerLM`.
    pub steer_lm: Vec<[u32; 2]>,
    /// Training of `SteerLM`.
    pub steer: SftSettings,
    /// Angles, in degrees, that a model of its own is trained for by policy gradients (MORLHF); none for none.
    pub morlhf: Vec<f64>,
    /// Rounds of policy gradients.
    pub rounds: u32,
    /// Prompts a round of policy gradients.
    pub n_prompts: u32,
    /// Training of a round of policy gradients.
    pub gradient: SftSettings,
    /// Strength of the KL penalty to the model a round starts from.
    pub kl: f64,
    /// Shares of the last MORLHF model in mixtures with the first (rewarded soups).
    pub soups: Vec<f64>,
}
