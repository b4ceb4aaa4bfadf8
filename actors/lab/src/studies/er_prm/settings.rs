//! What a plan of `er_prm` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::chains::Manner;
use crate::parts::endpoint::{EndpointSettings, Tags};
use crate::parts::grade::Grader;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;

/// Settings of the study `er_prm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErPrm {
    /// Real models and data in place of chains.
    pub data: DataSettings,
    /// The policy behind an endpoint, in place of `data.policy`; it is sampled and measured, not trained.
    pub endpoint: EndpointSettings,
    /// A process reward model behind an endpoint, asked for candidates beside those trained here.
    pub judge: EndpointSettings,
    /// The tokens it chooses between after a step, and how their log-probabilities are asked for.
    pub verdict: Tags,
    /// The problems: chains of modular arithmetic.
    pub problems: ProblemSettings,
    /// The shape of all models.
    pub model: Shape,
    /// Training of the model that the policy and the reward models start from, on right solutions.
    pub base: BaseSettings,
    /// Training of the policy from there, on solutions whose results are sometimes guessed.
    pub policy: PolicySettings,
    /// Solutions, and what is drawn from each of their prefixes.
    pub rollouts: RolloutSettings,
    /// How counts become labels.
    pub labels: LabelSettings,
    /// The process reward models.
    pub prm: PrmSettings,
    /// Best of n.
    pub search: SearchSettings,
    /// Rejection sampling on the reward models (RAFT).
    pub raft: RaftSettings,
}

/// Real models and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Folder of a Hugging Face checkpoint that reward models start from; empty to train none.
    pub base: String,
    /// Folder of the policy that writes solutions.
    pub policy: String,
    /// Files of problems whose solutions are labelled (GSM8K's or MATH's rows); at most `problems.n_train` are used.
    pub train: Vec<String>,
    /// Files of held-out problems; at most `problems.n_test` are used.
    pub test: Vec<String>,
    /// Files of problems for rejection sampling, `raft.n_problems` a round in order; those of `train` if there are none.
    pub raft: Vec<String>,
    /// Files of labelled solutions in ER-PRM's format, by the estimator that made the labels: `"er:1" = ["rows.jsonl"]`. Given
    /// ones take the place of `train`; `labels.estimators` is then theirs.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Files of candidates with their grades in `RLHFlow`'s format, in place of `test`; the first `search.n_candidates` of each.
    pub candidates: Vec<String>,
    /// The field that names a row; empty to name rows by what they say.
    pub id: String,
    /// Whether wrong rows, and those longer than the context, are left out and counted.
    pub skip_bad: bool,
    /// What a policy reads; `{problem}` stands for the problem.
    pub template: String,
    /// How answers are found and compared: `gsm8k`, `math`, or `last-result` for chains.
    pub grader: Grader,
    /// What ends a step.
    pub separator: String,
    /// A step that adds this many characters or fewer merges into the next.
    pub merge_up_to: usize,
    /// What is put behind each step for the reward model, which is asked there; empty for nothing.
    pub tag: String,
    /// Texts that end a solution.
    pub stop: Vec<String>,
}

/// Which problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProblemSettings {
    /// Fewest steps of a problem.
    pub min_steps: usize,
    /// Most steps of a problem.
    pub max_steps: usize,
    /// Problems whose solutions are labelled.
    pub n_train: u32,
    /// Held-out problems.
    pub n_test: u32,
}

/// Training on right solutions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaseSettings {
    /// Problems with their solutions.
    pub n_problems: u32,
    /// Training.
    pub sft: SftSettings,
}

/// Training on solutions of somebody who does not work everything out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Problems with their solutions.
    pub n_problems: u32,
    /// Share of steps, in what it is taught, whose result is worked out (`=`), half remembered (`~`) and guessed (`?`).
    pub marks: [f64; 3],
    /// Share of the results behind each mark that are wrong, in [0, 1].
    pub wrong: [f64; 3],
    /// Training.
    pub sft: SftSettings,
}

impl PolicySettings {
    pub(super) fn manner(&self) -> Manner {
        Manner { shares: self.marks, wrong: self.wrong }
    }
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    /// Solutions a problem.
    pub n_trajectories: u32,
    /// Completions a prefix (K).
    pub n_completions: u32,
    /// Sampling temperature of solutions; completions are drawn at 1, from the policy itself.
    pub temperature: f64,
    /// Longest solution, in tokens.
    pub max_tokens: u32,
}

/// How counts become labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelSettings {
    /// `orm`, `hard`, `soft`, or `er:ETA` with any η.
    pub estimators: Vec<String>,
    /// The one of them that the paper's claims are about.
    pub entropic: String,
}

/// The process reward models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrmSettings {
    /// The tokens a reward model chooses between, for a step on a right way and one on a wrong way. A policy of chains never writes
    /// them.
    pub verdicts: [String; 2],
    /// How often each is trained, each time on its examples in another order.
    pub repeats: u32,
    /// Training.
    pub sft: SftSettings,
}

/// Best of n.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// Candidates a held-out problem (N).
    pub n_candidates: u32,
    /// The n of best-of-n that are reported; the largest is what claims are about.
    pub sizes: Vec<u32>,
    /// How scores of steps become one, in what claims are about: `min`, `last`, `mean` or `product`.
    pub aggregator: String,
    /// Resamples behind each interval.
    pub n_resamples: u32,
}

/// Rejection sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RaftSettings {
    /// The estimators whose reward models choose, among those of `labels`; none for no rejection sampling.
    pub estimators: Vec<String>,
    /// Rounds.
    pub rounds: u32,
    /// Problems a round.
    pub n_problems: u32,
    /// Solutions a problem; the best is kept.
    pub n_samples: u32,
    /// Training of each round, from the model of the round before. Its rate falls: in round t of T it is (T − t + 1)/T of this.
    pub sft: SftSettings,
}
