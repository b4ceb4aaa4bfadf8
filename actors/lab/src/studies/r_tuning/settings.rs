//! What a plan of `r_tuning` may say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::adapter::LoraSettings;
use crate::parts::certainty::{Matcher, Template};
use crate::parts::endpoint::{EndpointSettings, Route};
use crate::parts::model::Shape;
use crate::parts::rows::QueryFormat;
use crate::parts::train::SftSettings;

/// Refusal-aware instruction tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RTuning {
    /// A model of one's own.
    pub model: ModelSettings,
    /// A model behind an endpoint, in place of one of one's own: it is asked and measured, not tuned.
    pub endpoint: EndpointSettings,
    /// How a model behind an endpoint is asked.
    pub served: ServedSettings,
    /// Texts around questions and answers; the small language has its own.
    pub template: Template,
    /// Tasks from files, each with rows to train on and to measure on.
    pub tasks: Vec<TaskFiles>,
    /// Questions some of which have no answer, from files.
    pub refusal: Vec<RefusalFiles>,
    /// How files are read, and how many rows are taken.
    pub data: DataSettings,
    /// The small language of facts.
    pub world: WorldSettings,
    /// The small model.
    pub policy: Shape,
    /// How the small model learns the facts.
    pub pretrain: SftSettings,
    /// How questions are told to be known or not.
    pub identify: IdentifySettings,
    /// How models are tuned, and which.
    pub tune: TuneSettings,
    /// How they are measured.
    pub measure: MeasureSettings,
}

/// A model of one's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// A Hugging Face folder; empty for a small model that is made here.
    pub folder: String,
}

/// How a model behind an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServedSettings {
    /// Where probabilities of words come from: `top` (the likeliest tokens) or `echo` (all tokens of a word; completions only).
    pub route: Route,
    /// How many of the likeliest tokens are asked for.
    pub top: u32,
    /// How often is asked whether it is sure where probabilities are not told: s is then a share of answers, and marked so.
    pub n_samples: u32,
    /// Whether it is asked if it is sure, as a model tuned by this method is; else it answers only.
    pub is_tuned: bool,
}

/// A task from files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskFiles {
    /// Its name.
    pub name: String,
    /// `pararel`, `mmlu`, `fever`, `wice`, `hotpot-qa` or `halu-eval`.
    pub format: QueryFormat,
    /// Rows to train on.
    pub train: Vec<String>,
    /// Rows to measure on, of the same domains.
    pub test: Vec<String>,
    /// Rows of other domains.
    pub ood: Vec<String>,
    /// Rows of all domains, in place of the three: the first domains are halved into rows to train on and to measure on, the others
    /// are other domains.
    pub all: Vec<String>,
    /// How many domains of `all` are the first; 0 for 15 of `pararel` and half of them of the others.
    pub n_domains: u32,
    /// Rows that stand with their answers before every question of their domain.
    pub shots: Vec<String>,
    /// Longest answer, in tokens, both where questions are told to be known and where models are measured.
    pub max_tokens: u32,
}

/// Questions some of which have no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RefusalFiles {
    /// `false-qa`, `nec` or `self-aware`.
    pub format: QueryFormat,
    /// The files; questions with an answer among them are the control.
    pub files: Vec<String>,
}

/// How files are read, and how many rows are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Whether wrong rows, and rows that say what an earlier one says, are left out and counted.
    pub skip_bad: bool,
    /// Rows of a task to train on, at most, drawn at random; 0 for all.
    pub n_train: u32,
    /// Rows of a task to measure on within its domains, and as many of other domains, at most; 0 for all.
    pub n_test: u32,
    /// Questions without an answer, and as many with one, at most; 0 for all.
    pub n_refusal: u32,
}

/// The small language: entities, of each of which every relation says one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorldSettings {
    /// Entities that there are.
    pub n_entities: u32,
    /// Entities that there are not: nothing that is read before tuning has their names.
    pub n_invented: u32,
    /// Beginnings of names, and as many ends.
    pub n_names: u32,
    /// Relations that models are tuned on.
    pub n_inside: u32,
    /// Relations that are held out of tuning.
    pub n_outside: u32,
    /// Things each relation may say, each of them its own.
    pub n_objects: u32,
    /// How often a fact stands in what the model learns from, one of these at random.
    pub exposures: Vec<u32>,
    /// From how often on a fact counts as known.
    pub known_from: u32,
    /// How likely a fact is met as often as the others of its entity, from 0 to 1; else its number is drawn by itself.
    pub fame: f64,
    /// What is asked after an answer, each word and sign between blanks; the next word says whether the model is sure.
    pub check: String,
    /// Sentences that are read too, for the words of refusals and of certainty, which a large model has read anyway: they say nothing of
    /// what is known.
    pub talk: u32,
    /// How likely a fact is met as a choice among four, from 0 to 1, rather than as a question.
    pub choices: f64,
}

/// How questions are told to be known (D1) or not (D0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentifySettings {
    /// How answers are compared with the right one: `contains`, `folded`, `words` or `exact`. The first decides, also where models
    /// are measured; what the others say is recorded.
    pub matchers: Vec<Matcher>,
    /// Samples a question, for identification without labels and for votes.
    pub k: u32,
    /// Their temperature.
    pub temperature: f64,
    /// Share of questions of greatest entropy that are not known.
    pub unknown: f64,
}

/// What is done with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// R-Tuning: the answer, then whether it was known.
    R,
    /// R-Tuning-R: what is not known is refused.
    RRefuse,
    /// R-Tuning-U: known or not by the entropy of samples.
    RU,
    /// The answer alone.
    Vanilla,
    /// What the tuned model says most often, as confident as often.
    VanillaC,
    /// The same answer, as confident as R-Tuning-U.
    VanillaU,
    /// The model before tuning.
    PretrainT,
    /// The same, on what R-Tuning would answer.
    PretrainW,
    /// The answer or a refusal, whichever is likelier, in a second stage.
    MinLoss,
}

/// How models are tuned, and which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSettings {
    /// What is done on the first task: `r`, `r-refuse`, `r-u`, `vanilla`, `vanilla-c`, `vanilla-u`, `pretrain-t`, `pretrain-w` or
    /// `min-loss`.
    pub methods: Vec<Method>,
    /// What is done on each other task by itself.
    pub others: Vec<Method>,
    /// What is done on all tasks together.
    pub together: Vec<Method>,
    /// Tuning of each.
    pub sft: SftSettings,
    /// A low-rank adapter that is trained instead of all weights.
    pub lora: LoraSettings,
    /// Which answer follows a question in R-Tuning-U: `gold`, or `majority`, which needs no labels at all.
    pub u_answer: UAnswer,
    /// Share of questions that are refused in the first stage of the two-stage baseline, so that refusing is something it may do.
    pub min_loss_refused: f64,
    /// The second stage of that baseline.
    pub min_loss: SftSettings,
}

/// Which answer is learnt where nothing but samples is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UAnswer {
    /// The right one.
    Gold,
    /// The one that the model itself gave most often.
    Majority,
}

/// How models are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSettings {
    /// λ of the confidence that answers are ranked by, λa + (1 − λ)s.
    pub weight: f64,
    /// Bins of the calibration error.
    pub n_bins: u32,
    /// Resamples of questions behind each interval.
    pub n_resamples: u32,
    /// Further phrases that count as refusals.
    pub refusals: Vec<String>,
}
