//! What a plan of `er_prm` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parts::best_of::Aggregator;
use crate::parts::chains::Manner;
use crate::parts::endpoint::{EndpointSettings, Need, Tags, refuse};
use crate::parts::grade::Grader;
use crate::parts::labels::Estimator;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::plan::{Settings, require};

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

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            base: String::new(),
            policy: String::new(),
            train: vec![],
            test: vec![],
            raft: vec![],
            labels: BTreeMap::new(),
            candidates: vec![],
            id: String::new(),
            skip_bad: false,
            template: "{problem}\n".into(),
            grader: Grader::Gsm8k,
            separator: "\n".into(),
            merge_up_to: 0,
            tag: "ки".into(),
            stop: vec![],
        }
    }
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

impl Default for ErPrm {
    fn default() -> Self {
        Self {
            data: DataSettings::default(),
            endpoint: EndpointSettings::default(),
            judge: EndpointSettings::default(),
            verdict: Tags::default(),
            problems: ProblemSettings::default(),
            model: Shape { hidden: 64, layers: 4, heads: 4, ffn: 172, context: 64 },
            base: BaseSettings::default(),
            policy: PolicySettings::default(),
            rollouts: RolloutSettings::default(),
            labels: LabelSettings::default(),
            prm: PrmSettings::default(),
            search: SearchSettings::default(),
            raft: RaftSettings::default(),
        }
    }
}

impl Default for ProblemSettings {
    fn default() -> Self {
        Self { min_steps: 3, max_steps: 6, n_train: 2400, n_test: 150 }
    }
}

impl Default for BaseSettings {
    fn default() -> Self {
        Self { n_problems: 8000, sft: SftSettings { epochs: 3.0, ..SftSettings::default() } }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() };
        Self { n_problems: 4000, marks: [0.6, 0.2, 0.2], wrong: [0.03, 0.35, 0.85], sft }
    }
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self { n_trajectories: 1, n_completions: 16, temperature: 1.0, max_tokens: 42 }
    }
}

impl Default for LabelSettings {
    fn default() -> Self {
        let all = ["orm", "hard", "soft", "er:-2", "er:1", "er:2", "er:5"];
        Self { estimators: all.map(str::to_owned).to_vec(), entropic: "er:2".into() }
    }
}

impl Default for PrmSettings {
    fn default() -> Self {
        Self {
            verdicts: ["good", "bad"].map(str::to_owned),
            repeats: 2,
            sft: SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() },
        }
    }
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self { n_candidates: 64, sizes: vec![1, 4, 16, 64], aggregator: "min".into(), n_resamples: 1000 }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            estimators: ["orm", "hard", "soft", "er:2"].map(str::to_owned).to_vec(),
            rounds: 3,
            n_problems: 150,
            n_samples: 16,
            sft: SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() },
        }
    }
}

impl ErPrm {
    /// Whether real models and data take the place of chains.
    pub(super) fn is_of_files(&self) -> bool {
        let DataSettings { base, policy, train, test, raft, labels, candidates, .. } = &self.data;
        let files = [train, test, raft, candidates].into_iter().any(|files| !files.is_empty());
        let models = !base.is_empty() || !policy.is_empty() || self.endpoint.is_given() || self.judge.is_given();
        models || files || !labels.is_empty()
    }

    /// The names of the estimators: those of the files that labels are given in, or those of `labels.estimators`.
    fn estimator_names(&self) -> Vec<&str> {
        match &self.data.labels {
            given if given.is_empty() => self.labels.estimators.iter().map(String::as_str).collect(),
            given => given.keys().map(String::as_str).collect(),
        }
    }

    /// The estimators of the plan.
    pub(super) fn estimators(&self) -> Result<Vec<Estimator>> {
        self.estimator_names().into_iter().map(str::parse).collect()
    }

    /// The aggregator that claims are about.
    pub(super) fn aggregator(&self) -> Result<Aggregator> {
        self.search.aggregator.parse()
    }

    /// Where one of the estimators stands, by the name in the plan.
    fn position(&self, name: &str, key: &str) -> Result<usize> {
        let wanted: Estimator = name.parse()?;
        let all = self.estimators()?;
        all.iter().position(|estimator| *estimator == wanted).ok_or_else(|| Error::Value {
            key: key.to_owned(),
            message: format!("expected one of the estimators ({}), got `{name}`", self.estimator_names().join(", ")),
        })
    }

    /// Where the entropic estimator that claims are about stands.
    pub(super) fn entropic(&self) -> Result<usize> {
        self.position(&self.labels.entropic, "labels.entropic")
    }

    /// Where the estimators that choose in rejection sampling stand.
    pub(super) fn choosers(&self) -> Result<Vec<usize>> {
        self.raft.estimators.iter().map(|name| self.position(name, "raft.estimators")).collect()
    }
}

impl Settings for ErPrm {
    const LATER: &[&str] = &["judge", "verdict"];

    fn smoke() -> Self {
        let short = SftSettings { epochs: 1.0, ..SftSettings::default() };
        Self {
            data: DataSettings::default(),
            endpoint: EndpointSettings::default(),
            judge: EndpointSettings::default(),
            verdict: Tags::default(),
            problems: ProblemSettings { min_steps: 2, max_steps: 3, n_train: 12, n_test: 8 },
            model: Shape { hidden: 16, layers: 1, heads: 2, ffn: 32, context: 40 },
            base: BaseSettings { n_problems: 64, sft: short.clone() },
            policy: PolicySettings { n_problems: 32, sft: short.clone(), ..PolicySettings::default() },
            rollouts: RolloutSettings { n_trajectories: 2, n_completions: 4, temperature: 1.0, max_tokens: 22 },
            labels: LabelSettings {
                estimators: ["orm", "hard", "soft", "er:2"].map(str::to_owned).to_vec(),
                entropic: "er:2".into(),
            },
            prm: PrmSettings { repeats: 1, sft: short.clone(), ..PrmSettings::default() },
            search: SearchSettings {
                n_candidates: 8,
                sizes: vec![1, 4, 8],
                n_resamples: 100,
                ..SearchSettings::default()
            },
            raft: RaftSettings {
                estimators: vec!["soft".into(), "er:2".into()],
                rounds: 1,
                n_problems: 6,
                n_samples: 4,
                sft: short,
            },
        }
    }

    fn check(&self) -> Result<()> {
        let ProblemSettings { min_steps, max_steps, n_train, n_test } = self.problems;
        require((1..=max_steps).contains(&min_steps), "problems.min_steps", "1 to `problems.max_steps`", min_steps)?;
        require(n_train > 0, "problems.n_train", "at least 1", n_train)?;
        require(n_test > 1, "problems.n_test", "at least 2", n_test)?;
        self.model.check("model")?;
        self.base.sft.check("base.sft")?;
        require(self.base.n_problems > 0, "base.n_problems", "at least 1", self.base.n_problems)?;
        self.policy.sft.check("policy.sft")?;
        require(self.policy.n_problems > 0, "policy.n_problems", "at least 1", self.policy.n_problems)?;
        let PolicySettings { marks, wrong, .. } = &self.policy;
        let are_shares = |all: &[f64; 3]| all.iter().all(|share| (0.0..=1.0).contains(share));
        let sum_to_one = are_shares(marks) && (marks.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        require(sum_to_one, "policy.marks", "three shares in [0, 1] that sum to 1", format!("{marks:?}"))?;
        require(are_shares(wrong), "policy.wrong", "three shares in [0, 1]", format!("{wrong:?}"))?;
        let RolloutSettings { n_trajectories, n_completions, temperature, .. } = self.rollouts;
        require(n_trajectories > 0, "rollouts.n_trajectories", "at least 1", n_trajectories)?;
        require(n_completions > 0, "rollouts.n_completions", "at least 1", n_completions)?;
        require(temperature > 0.0 && temperature.is_finite(), "rollouts.temperature", "a number above 0", temperature)?;
        if self.is_of_files() {
            self.check_files()?;
        } else {
            self.check_chains()?;
        }
        let at = self.entropic()?;
        require(self.estimators()?[at].eta().is_some(), "labels.entropic", "er:ETA", &self.labels.entropic)?;
        self.choosers()?;
        self.prm.sft.check("prm.sft")?;
        require(self.prm.repeats > 0, "prm.repeats", "at least 1", self.prm.repeats)?;
        self.aggregator()?;
        let SearchSettings { n_candidates, sizes, n_resamples, .. } = &self.search;
        let fit = |n: &u32| (1..=*n_candidates).contains(n);
        let expected = format!("rising numbers from 1 to `search.n_candidates` ({n_candidates})");
        let rising = !sizes.is_empty() && sizes.iter().all(fit) && sizes.is_sorted_by(|a, b| a < b);
        require(rising, "search.sizes", &expected, format!("{sizes:?}"))?;
        require(*n_resamples >= 40, "search.n_resamples", "at least 40", n_resamples)?;
        self.raft.sft.check("raft.sft")?;
        require(self.raft.n_problems > 0, "raft.n_problems", "at least 1", self.raft.n_problems)?;
        require(self.raft.n_samples > 0, "raft.n_samples", "at least 1", self.raft.n_samples)
    }
}

impl ErPrm {
    fn check_chains(&self) -> Result<()> {
        // A prompt has two tokens a step and two more, a solution six a step and one more.
        let (max_steps, max_tokens) = (self.problems.max_steps, self.rollouts.max_tokens);
        let longest = 2 * max_steps + 2 + max_tokens as usize;
        let expected = format!("at most {} (`model.context`, less the longest prompt)", self.model.context);
        require(longest <= self.model.context, "rollouts.max_tokens", &expected, max_tokens)?;
        let estimators = self.estimators()?;
        for needed in [Estimator::Outcome, Estimator::Hard, Estimator::Soft] {
            let has = estimators.contains(&needed);
            require(has, "labels.estimators", "orm, hard and soft among others", self.labels.estimators.join(", "))?;
        }
        Ok(())
    }

    fn check_files(&self) -> Result<()> {
        let DataSettings { base, policy, train, test, labels, candidates, template, separator, .. } = &self.data;
        let (has_folder, has_endpoint) = (!policy.is_empty(), self.endpoint.is_given());
        require(!(has_folder && has_endpoint), "data.policy", "a folder or `endpoint.url`, not both", policy)?;
        let has_policy = has_folder || has_endpoint;
        let has_candidates = !candidates.is_empty() || (has_policy && !test.is_empty());
        require(has_candidates, "data.candidates", "files, or `data.test` and a policy that solves it", "none")?;
        require(
            labels.is_empty() || !base.is_empty(),
            "data.base",
            "a folder of a model to learn `data.labels`",
            base,
        )?;
        let has_labels = base.is_empty() || !labels.is_empty() || (has_policy && !train.is_empty());
        require(has_labels, "data.labels", "files by estimator, or `data.train` and a policy that solves it", "none")?;
        let is_asked = (labels.is_empty() && !train.is_empty()) || candidates.is_empty();
        require(!has_policy || is_asked, "data.policy", "none where labels and candidates are given", policy)?;
        if has_endpoint {
            self.endpoint.check("endpoint")?;
            if labels.is_empty() && !train.is_empty() {
                refuse("endpoint", &self.endpoint, "data.train", Need::Prefix)?;
            }
            if !self.raft.estimators.is_empty() {
                refuse("endpoint", &self.endpoint, "raft.estimators", Need::Weights)?;
            }
        }
        if self.judge.is_given() {
            self.judge.check("judge")?;
            self.verdict.check("verdict")?;
            refuse("judge", &self.judge, "judge", Need::Verdict(&self.verdict))?;
        }
        if !self.raft.estimators.is_empty() {
            require(
                has_folder,
                "data.policy",
                "a folder of a model that can be trained, for `raft.estimators`",
                "none",
            )?;
            require(!base.is_empty(), "data.base", "a folder of a reward model's start, for `raft.estimators`", base)?;
            let has_tasks = !(train.is_empty() && self.data.raft.is_empty());
            require(has_tasks, "data.raft", "files of problems for rejection sampling", "none")?;
            let is_measured = candidates.is_empty();
            require(is_measured, "data.candidates", "none: rejection sampling is measured on `data.test`", "files")?;
        }
        require(template.contains("{problem}"), "data.template", "a text with `{problem}` in it", template)?;
        require(!separator.is_empty(), "data.separator", "some text", "none")
    }
}
