//! Which plans of `er_prm` make sense, and what follows from them.

use super::settings::{DataSettings, ErPrm, PolicySettings, ProblemSettings, RolloutSettings, SearchSettings};
use crate::error::{Error, Result};
use crate::parts::best_of::Aggregator;
use crate::parts::endpoint::{Need, refuse};
use crate::parts::labels::Estimator;
use crate::plan::{Settings, require};

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
        Self::small()
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
