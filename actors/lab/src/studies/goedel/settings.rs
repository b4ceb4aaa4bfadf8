//! What a plan of `goedel` may say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::parts::endpoint::{Api, EndpointSettings};
use crate::parts::formalise::{FormaliseSettings, Formaliser};
use crate::parts::model::Shape;
use crate::parts::prompt::Template;
use crate::parts::train::SftSettings;
use crate::parts::verify::{Checker, Checking, KiminaSettings, LeanSettings};
use crate::plan::{Settings, require};

/// Settings of the study `goedel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Goedel {
    /// Who checks proofs: `kernel` (exact, embedded), `lean` (Lean 4 here) or `kimina` (Lean 4 behind a URL).
    pub verifier: Checker,
    /// What follows the last round: `none`, `dpo`, `dpo-length` (the shortest proof is chosen) or `grpo`.
    pub post: Post,
    /// Where problems come from.
    pub problems: ProblemSettings,
    /// How problems become statements.
    pub formalise: FormaliseSettings,
    /// The endpoint that writes statements when `formalise.author` is `endpoint`.
    pub formaliser: EndpointSettings,
    /// The endpoint that votes on them when `formalise.judge` is `endpoint`.
    pub judge: EndpointSettings,
    /// Who writes proofs.
    pub policy: PolicySettings,
    /// The endpoint that writes proofs when `policy.kind` is `endpoint`.
    pub endpoint: EndpointSettings,
    /// The base model's training on short, easy proofs.
    pub base: BaseSettings,
    /// The rounds of expert iteration.
    pub rounds: RoundSettings,
    /// The held-out benchmark.
    pub benchmark: BenchmarkSettings,
    /// The stage after the last round, if `post` asks for one.
    pub after: PostSettings,
    /// Where Lean is and what it may use.
    pub lean: LeanSettings,
    /// The Kimina Lean Server of `verifier = "kimina"`.
    pub kimina: KiminaSettings,
}

/// What follows the last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Post {
    /// Nothing.
    None,
    /// DPO on one correct and one wrong proof of statements that are seldom solved.
    Dpo,
    /// DPO whose chosen proof is the shortest correct one.
    DpoLength,
    /// GRPO on statements that are sometimes solved.
    Grpo,
}

/// Where problems come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProblemSettings {
    /// A JSONL file of Goedel-Prover's format (`name, formal_statement, header, informal_prefix, split`); empty to
    /// generate problems of propositional logic.
    pub file: String,
    /// Rows of this `split` only; empty for all.
    pub split: String,
    /// At most this many problems.
    pub n: u32,
    /// Levels of difficulty to generate, 1 to 5.
    pub levels: Vec<u8>,
}

/// Which policy writes proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// A language model of ours: trained here, or loaded from a folder.
    Local,
    /// An OpenAI-compatible endpoint; it is sampled and measured, not trained.
    Endpoint,
}

/// Who writes proofs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// `local` or `endpoint`.
    pub kind: PolicyKind,
    /// A Hugging Face folder to start from; empty to train a small model from nothing.
    pub checkpoint: String,
    /// `bare` (hypotheses and goal as words, for small models) or `lean` (instruction and an open Lean fence).
    pub template: Template,
    /// Width of a model trained from nothing.
    pub hidden: usize,
    /// Its layers.
    pub layers: usize,
    /// Its attention heads.
    pub heads: usize,
    /// Width of its feed-forward layers.
    pub ffn: usize,
    /// Its longest sequence, in tokens.
    pub context: usize,
}

impl PolicySettings {
    /// What a model trained from nothing looks like.
    pub(super) fn shape(&self) -> Shape {
        let Self { hidden, layers, heads, ffn, context, .. } = *self;
        Shape { hidden, layers, heads, ffn, context }
    }
}

/// The base model's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaseSettings {
    /// Pairs of statement and proof, found by search.
    pub n_pairs: u32,
    /// Their levels of difficulty.
    pub levels: Vec<u8>,
    /// Share of proofs that carry a no-op `id`, so that drift towards no-ops can be seen, in [0, 1].
    pub noop_rate: f64,
    /// Training.
    pub sft: SftSettings,
}

/// The rounds of expert iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoundSettings {
    /// Rounds.
    pub n: u32,
    /// Proofs tried a statement and round.
    pub n_samples: u32,
    /// Statements tried: `unsolved` (so far) or `all`.
    pub attempt: Attempt,
    /// Share of the statements that is there in each round, in (0, 1]; the last one stands for the rounds after it. New
    /// statements come in round by round, as in the paper's table 8.
    pub schedule: Vec<f64>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus, in (0, 1].
    pub top_p: f64,
    /// Longest proof, in tokens.
    pub max_tokens: u32,
    /// Share of training rows drawn from the base pairs, in [0, 1).
    pub mixture: f64,
    /// Training, each time from the base model.
    pub sft: SftSettings,
}

/// Which statements a round tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// Those without a proof so far.
    Unsolved,
    /// All of them.
    All,
}

/// The held-out benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BenchmarkSettings {
    /// A JSONL file as of `problems.file`; empty to generate.
    pub file: String,
    /// Rows of this `split` only; empty for all.
    pub split: String,
    /// Statements.
    pub n: u32,
    /// Levels of difficulty, in equal parts.
    pub levels: Vec<u8>,
    /// Proofs sampled a statement.
    pub n_samples: u32,
    /// Budgets k of the pass@k curve, each at most `n_samples`.
    pub k: Vec<u32>,
    /// Sampling temperature.
    pub temperature: f64,
}

/// The stage after the last round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PostSettings {
    /// Proofs sampled a statement to find its pass ratio.
    pub n_samples: u32,
    /// Largest pass ratio a statement may have to be used, in (0, 1].
    pub max_ratio: f64,
    /// β of DPO.
    pub beta: f64,
    /// Weight of the KL term of GRPO.
    pub kl: f64,
    /// Training.
    pub sft: SftSettings,
}

impl Default for Goedel {
    fn default() -> Self {
        Self {
            verifier: Checker::Kernel,
            post: Post::None,
            problems: ProblemSettings::default(),
            formalise: FormaliseSettings::default(),
            formaliser: EndpointSettings { api: Api::Chat, ..EndpointSettings::default() },
            judge: EndpointSettings { api: Api::Chat, ..EndpointSettings::default() },
            policy: PolicySettings::default(),
            endpoint: EndpointSettings::default(),
            base: BaseSettings::default(),
            rounds: RoundSettings::default(),
            benchmark: BenchmarkSettings::default(),
            after: PostSettings::default(),
            lean: LeanSettings::default(),
            kimina: KiminaSettings::default(),
        }
    }
}

impl Settings for Goedel {
    const LATER: &[&str] = &["kimina", "lean.require_sandbox"];

    fn smoke() -> Self {
        let standard = Self::default();
        let quick = |sft: SftSettings| SftSettings { epochs: 1.0, ..sft };
        Self {
            problems: ProblemSettings { n: 60, levels: vec![1, 2], ..standard.problems },
            policy: PolicySettings { hidden: 32, layers: 2, heads: 2, ffn: 64, ..standard.policy },
            base: BaseSettings {
                n_pairs: 600,
                levels: vec![1],
                sft: SftSettings { epochs: 10.0, ..standard.base.sft },
                ..standard.base
            },
            rounds: RoundSettings {
                n: 2,
                n_samples: 4,
                schedule: vec![0.5, 1.0],
                sft: quick(standard.rounds.sft),
                ..standard.rounds
            },
            benchmark: BenchmarkSettings {
                n: 24,
                levels: vec![1, 2],
                n_samples: 4,
                k: vec![1, 4],
                ..standard.benchmark
            },
            ..standard
        }
    }

    fn check(&self) -> Result<()> {
        self.check_problems()?;
        self.check_sampling()?;
        self.check_models()
    }
}

impl Goedel {
    /// Who checks, and what they may use.
    pub(super) fn checking(&self) -> Checking {
        Checking {
            checker: self.verifier,
            lean: self.lean.clone(),
            kimina: self.kimina.clone(),
            axioms: vec![],
            screens: true,
        }
    }

    fn check_problems(&self) -> Result<()> {
        let (problems, formalise, benchmark) = (&self.problems, &self.formalise, &self.benchmark);
        require(problems.n > 0, "problems.n", "at least 1", problems.n)?;
        require(benchmark.n > 0, "benchmark.n", "at least 1", benchmark.n)?;
        for (key, levels) in [("problems.levels", &problems.levels), ("benchmark.levels", &benchmark.levels)] {
            let are_levels = !levels.is_empty() && levels.iter().all(|level| (1..=5).contains(level));
            require(are_levels, key, "levels from 1 to 5", format!("{levels:?}"))?;
        }
        require(!formalise.styles.is_empty(), "formalise.styles", "at least one style", "[]")?;
        let is_repeated = |(i, style): (usize, &String)| formalise.styles[..i].contains(style);
        let are_distinct = !formalise.styles.iter().enumerate().any(is_repeated);
        require(are_distinct, "formalise.styles", "each style once", format!("{:?}", formalise.styles))?;
        formalise.styles.iter().try_for_each(|style| Formaliser::parse(style).map(drop))?;
        require(formalise.n_samples > 0, "formalise.n_samples", "at least 1", formalise.n_samples)?;
        require(formalise.n_votes > 0, "formalise.n_votes", "at least 1", formalise.n_votes)?;
        is_share("formalise.error_rate", formalise.error_rate)?;
        is_share("formalise.min_faithfulness", formalise.min_faithfulness)?;
        is_temperature("formalise.temperature", formalise.temperature)
    }

    fn check_sampling(&self) -> Result<()> {
        let (rounds, benchmark, after) = (&self.rounds, &self.benchmark, &self.after);
        require(rounds.n > 0, "rounds.n", "at least 1", rounds.n)?;
        require(!benchmark.k.is_empty(), "benchmark.k", "at least one budget", "[]")?;
        require(rounds.n_samples > 0, "rounds.n_samples", "at least 1", rounds.n_samples)?;
        require(rounds.max_tokens > 0, "rounds.max_tokens", "at least 1", rounds.max_tokens)?;
        is_temperature("rounds.temperature", rounds.temperature)?;
        is_temperature("benchmark.temperature", benchmark.temperature)?;
        let is_nucleus = rounds.top_p > 0.0 && rounds.top_p <= 1.0;
        require(is_nucleus, "rounds.top_p", "a share in (0, 1]", rounds.top_p)?;
        require((0.0..1.0).contains(&rounds.mixture), "rounds.mixture", "a share in [0, 1)", rounds.mixture)?;
        let are_shares = !rounds.schedule.is_empty() && rounds.schedule.iter().all(|s| *s > 0.0 && *s <= 1.0);
        require(are_shares, "rounds.schedule", "shares in (0, 1]", format!("{:?}", rounds.schedule))?;
        require(benchmark.n_samples > 0, "benchmark.n_samples", "at least 1", benchmark.n_samples)?;
        for k in &benchmark.k {
            let expected = format!("budgets from 1 to `benchmark.n_samples` ({})", benchmark.n_samples);
            require((1..=benchmark.n_samples).contains(k), "benchmark.k", &expected, k)?;
        }
        require(after.n_samples > 0, "after.n_samples", "at least 1", after.n_samples)?;
        is_share("after.max_ratio", after.max_ratio)
    }

    fn check_models(&self) -> Result<()> {
        self.policy.shape().check("policy")?;
        require(self.base.n_pairs > 0, "base.n_pairs", "at least 1", self.base.n_pairs)?;
        is_share("base.noop_rate", self.base.noop_rate)?;
        let sections = [("base.sft", &self.base.sft), ("rounds.sft", &self.rounds.sft), ("after.sft", &self.after.sft)];
        sections.into_iter().try_for_each(|(section, sft)| sft.check(section))
    }
}

fn is_share(key: &str, share: f64) -> Result<()> {
    require((0.0..=1.0).contains(&share), key, "a share in [0, 1]", share)
}

fn is_temperature(key: &str, temperature: f64) -> Result<()> {
    require(temperature >= 0.0 && temperature.is_finite(), key, "a temperature of at least 0", temperature)
}

impl Default for ProblemSettings {
    fn default() -> Self {
        Self { file: String::new(), split: String::new(), n: 5000, levels: vec![1, 2, 3, 4] }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            kind: PolicyKind::Local,
            checkpoint: String::new(),
            template: Template::Bare,
            hidden: 128,
            layers: 4,
            heads: 4,
            ffn: 344,
            context: 192,
        }
    }
}

impl Default for BaseSettings {
    fn default() -> Self {
        Self {
            n_pairs: 4000,
            levels: vec![1, 2],
            noop_rate: 0.05,
            sft: SftSettings { epochs: 3.0, ..SftSettings::default() },
        }
    }
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            n: 4,
            n_samples: 16,
            attempt: Attempt::Unsolved,
            schedule: vec![0.15, 0.4, 0.7, 1.0],
            temperature: 1.1,
            top_p: 1.0,
            max_tokens: 96,
            mixture: 0.5,
            sft: SftSettings { epochs: 2.0, lr: 2e-3, ..SftSettings::default() },
        }
    }
}

impl Default for BenchmarkSettings {
    fn default() -> Self {
        Self {
            file: String::new(),
            split: String::new(),
            n: 800,
            levels: vec![1, 2, 3, 4],
            n_samples: 16,
            k: vec![1, 2, 4, 8, 16],
            temperature: 1.0,
        }
    }
}

impl Default for PostSettings {
    fn default() -> Self {
        Self {
            n_samples: 16,
            max_ratio: 0.25,
            beta: 0.1,
            kl: 0.003,
            sft: SftSettings { epochs: 2.0, lr: 1e-4, ..SftSettings::default() },
        }
    }
}
