//! What a plan of `grm` may say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::method::Method;
use crate::error::{Error, Result};
use crate::parts::adapter::LoraSettings;
use crate::parts::endpoint::{Api, EndpointSettings, Need, refuse};
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::plan::{Settings, require};

/// Settings of the study `grm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grm {
    /// Published preferences in place of exercises.
    pub data: DataSettings,
    /// A policy behind an endpoint that writes the candidates of best of n on published prompts, in place of `data.base`.
    pub endpoint: EndpointSettings,
    /// The endpoint that says what candidates are worth, if `search.gold` asks one.
    pub judge: EndpointSettings,
    /// The exercises.
    pub texts: TextSettings,
    /// The model that answers them, and that reward models start from.
    pub policy: Shape,
    /// Its training on answers that go wrong now and then.
    pub pretraining: PretrainingSettings,
    /// Pairs of its answers, ordered by the exact score.
    pub pairs: PairSettings,
    /// The reward models.
    pub rm: RmSettings,
    /// Best of n by the reward models.
    pub search: SearchSettings,
    /// Policy optimisation by the reward models.
    pub ppo: PpoSettings,
}

/// Published preferences in place of exercises, and a checkpoint in place of the small model. Policy optimisation, which needs an
/// exact score, is left out then, and so is best of n unless a judge gives scores (`search.gold`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Folder of a Hugging Face checkpoint that reward models start from; empty for exercises.
    pub base: String,
    /// Files of rows to learn from; the last `texts.n_test` after shuffling are held out.
    pub train: Vec<String>,
    /// What rows of `train` are.
    pub format: Rows,
    /// Every how many rows one is taken: 20 for GRM's 40K.
    pub every: u32,
    /// Files of rows out of distribution, a trial each.
    pub trials: Vec<String>,
    /// What rows of `trials` are.
    pub trial_format: Rows,
    /// The field that names a row; empty to name rows by what they say.
    pub id: String,
    /// Whether wrong rows, and those longer than the context, are left out and counted.
    pub skip_bad: bool,
}

/// Formats of published preferences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// `llm-blender/Unified-Feedback`.
    UnifiedFeedback,
    /// Conversations `chosen` and `rejected`.
    ChosenRejected,
    /// `RewardBench`.
    RewardBench,
}

/// The exercises. Preferences are learnt of three operations in one format; two operations, longer inputs and another format
/// are kept for trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TextSettings {
    /// Fewest words of an input.
    pub min_words: usize,
    /// Most words of an input that preferences are learnt of.
    pub max_words: usize,
    /// Most words of a longer input.
    pub long_words: usize,
    /// Held-out exercises: learnt of, and of each kind that is not.
    pub n_test: u32,
}

/// Training on answers that go wrong now and then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainingSettings {
    /// Exercises of all operations, lengths and formats.
    pub n_texts: u32,
    /// Share of words at which the answers it is taught err, in [0, 1).
    pub error_rate: f64,
    /// Training.
    pub sft: SftSettings,
}

/// Pairs of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PairSettings {
    /// Numbers of pairs, rising; smaller sets are the first of the largest, which is what all methods learn from.
    pub sizes: Vec<u32>,
    /// Answers drawn of an exercise, of which the first two that differ in score are its pair.
    pub n_samples: u32,
    /// Share of pairs that are turned round in the noisy sets, in [0, 0.5).
    pub flip_rate: f64,
    /// Sampling temperature, here and in best of n.
    pub temperature: f64,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
}

/// The reward models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RmSettings {
    /// `bt`, `frozen`, `margin`, `smooth`, `positive`, `grm-dpo`, `grm-dpo-noref`, `grm-sft`, `grm-nll`; `bt` among them.
    pub methods: Vec<String>,
    /// The regularised one of them that the paper's claims are about.
    pub grm: String,
    /// How often each is trained, from another head and on its pairs in another order.
    pub repeats: u32,
    /// Members of an ensemble of `bt`, at most the repeats; 0 for none.
    pub ensemble: u32,
    /// α: weight of a regulariser, in [0, 1).
    pub alpha: f64,
    /// β of the regularisers.
    pub beta: f64,
    /// ε of `smooth`, in [0, 0.5).
    pub smoothing: f64,
    /// Weight of positive rewards in `positive`.
    pub positive: f64,
    /// Head of the regularised methods: `mlp` as in most of the paper, or `linear`.
    pub head: GrmHead,
    /// Width of heads that are not linear; `frozen` has one too.
    pub hidden: usize,
    /// A low-rank adapter that is trained instead of all weights of a trunk.
    // Not written where it says nothing: plans of runs before it keep their digests, and so their seeds.
    #[serde(skip_serializing_if = "LoraSettings::is_none")]
    pub lora: LoraSettings,
    /// Training.
    pub sft: SftSettings,
}

/// Head of the regularised methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GrmHead {
    /// One layer more, with rectifiers.
    Mlp,
    /// A weight for each hidden state.
    Linear,
}

/// Who says what candidates for published prompts are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judging {
    /// Nobody.
    None,
    /// A judge, each by itself.
    Rating,
    /// A judge, against the published better answer.
    Pairwise,
}

/// Best of n.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// Who says what candidates for published prompts are worth: `none` (no best of n there), `rating` (the judge's, from 0 to
    /// 10, divided by ten) or `pairwise` (its choice between a candidate and the published better answer, in both orders).
    pub gold: Judging,
    /// Held-out exercises, or the first held-out rows of `data.train`.
    pub n_prompts: u32,
    /// Candidates of each (N); what claims are about is the best of all of them.
    pub n_candidates: u32,
    /// The n of best-of-n that are reported.
    pub sizes: Vec<u32>,
    /// Resamples behind each interval.
    pub n_resamples: u32,
}

/// Policy optimisation with no penalty on the divergence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PpoSettings {
    /// Reward models of each of the two methods that a policy is optimised by, from the first repeat on; 0 for none.
    pub repeats: u32,
    /// Batches.
    pub rounds: u32,
    /// Exercises a batch, answered once each.
    pub n_prompts: u32,
    /// Rounds between measurements; the last is always measured.
    pub every: u32,
    /// Answers to each held-out exercise of `search` by which a policy is measured.
    pub n_measured: u32,
    /// Sampling temperature of those; at 0 they are the likeliest, as in the paper, and divergences estimated from them biased.
    pub temperature: f64,
    /// Training: passes over a batch, and how many answers of it make a step.
    pub sft: SftSettings,
}

impl Default for Grm {
    fn default() -> Self {
        Self {
            data: DataSettings::default(),
            endpoint: EndpointSettings::default(),
            judge: EndpointSettings { api: Api::Chat, ..EndpointSettings::default() },
            texts: TextSettings::default(),
            policy: Shape { hidden: 48, layers: 3, heads: 4, ffn: 128, context: 32 },
            pretraining: PretrainingSettings::default(),
            pairs: PairSettings::default(),
            rm: RmSettings::default(),
            search: SearchSettings::default(),
            ppo: PpoSettings::default(),
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            base: String::new(),
            train: vec![],
            format: Rows::UnifiedFeedback,
            every: 1,
            trials: vec![],
            trial_format: Rows::RewardBench,
            id: "id".into(),
            skip_bad: false,
        }
    }
}

impl Default for TextSettings {
    fn default() -> Self {
        Self { min_words: 3, max_words: 5, long_words: 7, n_test: 96 }
    }
}

impl Default for PretrainingSettings {
    fn default() -> Self {
        Self { n_texts: 60_000, error_rate: 0.15, sft: SftSettings { epochs: 2.0, ..SftSettings::default() } }
    }
}

impl Default for PairSettings {
    fn default() -> Self {
        Self { sizes: vec![256, 1024], n_samples: 6, flip_rate: 0.25, temperature: 1.0, max_tokens: 12 }
    }
}

impl Default for RmSettings {
    fn default() -> Self {
        Self {
            methods: Method::ALL.map(|method| method.name().to_owned()).to_vec(),
            grm: Method::Sft.name().to_owned(),
            repeats: 5,
            ensemble: 3,
            alpha: 0.01,
            beta: 0.1,
            smoothing: 0.1,
            positive: 0.1,
            head: GrmHead::Mlp,
            hidden: 64,
            lora: LoraSettings::default(),
            sft: SftSettings { epochs: 3.0, batch: 16, lr: 1e-3, ..SftSettings::default() },
        }
    }
}

impl Default for SearchSettings {
    fn default() -> Self {
        let sizes = vec![1, 4, 16, 64, 256, 405];
        Self { gold: Judging::None, n_prompts: 24, n_candidates: 405, sizes, n_resamples: 1000 }
    }
}

impl Default for PpoSettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 4.0, batch: 16, lr: 3e-4, warmup: 0.0, weight_decay: 0.0 };
        Self { repeats: 3, rounds: 20, n_prompts: 64, every: 4, n_measured: 4, temperature: 1.0, sft }
    }
}

impl Grm {
    /// The methods of the plan.
    pub(super) fn methods(&self) -> Result<Vec<Method>> {
        self.rm.methods.iter().map(|name| name.parse()).collect()
    }

    /// The regularised method that claims are about.
    pub(super) fn grm(&self) -> Result<Method> {
        let method: Method = self.rm.grm.parse()?;
        let fits = method.is_regularised() && self.methods()?.contains(&method);
        require(fits, "rm.grm", "one of `rm.methods` that begins with grm-", &self.rm.grm)?;
        Ok(method)
    }

    /// Pairs in the largest set.
    pub(super) fn n_pairs(&self) -> usize {
        self.pairs.sizes.last().map_or(0, |size| *size as usize)
    }
}

impl Settings for Grm {
    const LATER: &[&str] = &["endpoint", "judge", "search.gold"];

    fn smoke() -> Self {
        let short = SftSettings { epochs: 1.0, ..SftSettings::default() };
        Self {
            texts: TextSettings { min_words: 2, max_words: 3, long_words: 4, n_test: 8 },
            policy: Shape { hidden: 16, layers: 1, heads: 2, ffn: 32, context: 20 },
            pretraining: PretrainingSettings { n_texts: 2000, error_rate: 0.25, sft: short.clone() },
            pairs: PairSettings { sizes: vec![8, 16], n_samples: 10, max_tokens: 8, ..PairSettings::default() },
            rm: RmSettings { repeats: 2, ensemble: 2, hidden: 8, sft: short.clone(), ..RmSettings::default() },
            search: SearchSettings {
                n_prompts: 4,
                n_candidates: 12,
                sizes: vec![1, 4, 12],
                n_resamples: 100,
                ..SearchSettings::default()
            },
            ppo: PpoSettings {
                repeats: 1,
                rounds: 2,
                n_prompts: 8,
                every: 1,
                n_measured: 2,
                sft: short,
                ..PpoSettings::default()
            },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        let DataSettings { base, train, every, trials, .. } = &self.data;
        require(
            base.is_empty() == train.is_empty(),
            "data.train",
            "files where `data.base` names a checkpoint",
            train.join(", "),
        )?;
        let needs = trials.is_empty() == base.is_empty();
        require(needs, "data.trials", "files where `data.base` names a checkpoint", trials.join(", "))?;
        require(*every > 0, "data.every", "at least 1", every)?;
        self.check_endpoints()?;
        let TextSettings { min_words, max_words, long_words, n_test } = self.texts;
        require((1..=max_words).contains(&min_words), "texts.min_words", "1 to `texts.max_words`", min_words)?;
        require(long_words > max_words, "texts.long_words", "more than `texts.max_words`", long_words)?;
        require(n_test > 1, "texts.n_test", "at least 2", n_test)?;
        self.policy.check("policy")?;
        let PretrainingSettings { n_texts, error_rate, sft } = &self.pretraining;
        sft.check("pretraining.sft")?;
        require(*n_texts > 0, "pretraining.n_texts", "at least 1", n_texts)?;
        require((0.0..1.0).contains(error_rate), "pretraining.error_rate", "a share in [0, 1)", error_rate)?;
        let PairSettings { sizes, n_samples, flip_rate, temperature, max_tokens } = &self.pairs;
        let rising = !sizes.is_empty() && sizes[0] > 0 && sizes.is_sorted_by(|a, b| a < b);
        require(rising, "pairs.sizes", "rising numbers from 1", format!("{sizes:?}"))?;
        require(*n_samples > 1, "pairs.n_samples", "at least 2", n_samples)?;
        require((0.0..0.5).contains(flip_rate), "pairs.flip_rate", "a share in [0, 0.5)", flip_rate)?;
        let is_warm = *temperature > 0.0 && temperature.is_finite();
        require(is_warm, "pairs.temperature", "a number above 0", temperature)?;
        // The longest prompt has four words beside its input; what is judged ends in one more token.
        let room = self.policy.context.saturating_sub(long_words + 4 + 1);
        if base.is_empty() {
            let expected = format!("1 to {room} (`policy.context`, less the longest prompt and an end)");
            require((1..=room).contains(&(*max_tokens as usize)), "pairs.max_tokens", &expected, max_tokens)?;
        }
        require(*max_tokens > 0, "pairs.max_tokens", "at least 1", max_tokens)?;
        self.check_rm()?;
        let SearchSettings { n_prompts, n_candidates, sizes, n_resamples, .. } = &self.search;
        require(*n_prompts > 1, "search.n_prompts", "at least 2", n_prompts)?;
        require((1..=8192).contains(n_candidates), "search.n_candidates", "1 to 8192", n_candidates)?;
        let fit = |n: &u32| (1..=*n_candidates).contains(n);
        let expected = format!("rising numbers from 1 to `search.n_candidates` ({n_candidates})");
        let rising = !sizes.is_empty() && sizes.iter().all(fit) && sizes.is_sorted_by(|a, b| a < b);
        require(rising, "search.sizes", &expected, format!("{sizes:?}"))?;
        require(*n_resamples >= 40, "search.n_resamples", "at least 40", n_resamples)?;
        let PpoSettings { repeats, rounds, n_prompts, every, n_measured, temperature, sft } = &self.ppo;
        let expected = format!("0 to `rm.repeats` ({})", self.rm.repeats);
        require(*repeats <= self.rm.repeats, "ppo.repeats", &expected, repeats)?;
        require(*rounds > 0, "ppo.rounds", "at least 1", rounds)?;
        require(*n_prompts > 1, "ppo.n_prompts", "at least 2", n_prompts)?;
        require(*every > 0, "ppo.every", "at least 1", every)?;
        require(*n_measured > 0, "ppo.n_measured", "at least 1", n_measured)?;
        let is_some = *temperature >= 0.0 && temperature.is_finite();
        require(is_some, "ppo.temperature", "a number, at least 0", temperature)?;
        sft.check("ppo.sft")
    }
}

impl Grm {
    /// Endpoints write and judge candidates for published prompts; nothing of theirs is trained.
    fn check_endpoints(&self) -> Result<()> {
        let (is_of_files, gold) = (!self.data.base.is_empty(), self.search.gold);
        if gold != Judging::None {
            let expected = "`none` without `data.base`: exercises have an exact score";
            require(is_of_files, "search.gold", expected, format!("{gold:?}").to_lowercase())?;
            self.judge.check("judge")?;
            let expected = format!("at most the {} held out (`texts.n_test`)", self.texts.n_test);
            require(self.search.n_prompts <= self.texts.n_test, "search.n_prompts", &expected, self.search.n_prompts)?;
        }
        if self.endpoint.is_given() {
            self.endpoint.check("endpoint")?;
            require(gold != Judging::None, "search.gold", "a judge of what `endpoint` writes", "none")?;
            if self.ppo.repeats > 0 {
                refuse("endpoint", &self.endpoint, "ppo.repeats", Need::Weights)?;
            }
        }
        Ok(())
    }

    fn check_rm(&self) -> Result<()> {
        let RmSettings { repeats, ensemble, alpha, beta, smoothing, positive, hidden, lora, sft, .. } = &self.rm;
        let methods = self.methods()?;
        require(methods.contains(&Method::Bt), "rm.methods", "bt among others", self.rm.methods.join(", "))?;
        if let Some(twice) = methods.iter().enumerate().find(|(at, method)| methods[..*at].contains(method)) {
            let message = format!("expected each method once, got `{}` twice", twice.1.name());
            return Err(Error::Value { key: "rm.methods".into(), message });
        }
        self.grm()?;
        require(*repeats > 0, "rm.repeats", "at least 1", repeats)?;
        let expected = format!("0, or 2 to `rm.repeats` ({repeats})");
        require(*ensemble == 0 || (2..=*repeats).contains(ensemble), "rm.ensemble", &expected, ensemble)?;
        require((0.0..1.0).contains(alpha), "rm.alpha", "a number in [0, 1)", alpha)?;
        require(*beta > 0.0 && beta.is_finite(), "rm.beta", "a number above 0", beta)?;
        require((0.0..0.5).contains(smoothing), "rm.smoothing", "a share in [0, 0.5)", smoothing)?;
        require(*positive >= 0.0 && positive.is_finite(), "rm.positive", "a number, at least 0", positive)?;
        require(*hidden > 0, "rm.hidden", "at least 1", hidden)?;
        // Its rank is held against the checkpoint's matrices before anything is fitted.
        lora.check("rm.lora")?;
        sft.check("rm.sft")
    }
}
