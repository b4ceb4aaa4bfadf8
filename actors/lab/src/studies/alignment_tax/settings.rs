//! What a plan of `alignment_tax` may say.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::parts::endpoint::EndpointSettings;
use crate::parts::interpolate::Rest;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::plan::{Settings, require};

/// Settings of the study `alignment_tax`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlignmentTax {
    /// How often fine-tuning and alignment are repeated, each with its own seeds; intervals of fronts are over these.
    pub repeats: u32,
    /// Real checkpoints to interpolate between, instead of training small ones.
    pub models: ModelSettings,
    /// The small model trained here.
    pub policy: Shape,
    /// Its training on all skills and on talk.
    pub pretrain: PretrainSettings,
    /// Its fine-tuning on talk, after which alignment begins (θ₀).
    pub sft: TuneSettings,
    /// Alignment by rejection sampling (RSF), which ends at θ.
    pub rsf: RsfSettings,
    /// What is rewarded.
    pub reward: RewardSettings,
    /// The endpoint that rates answers when `reward.by` is `endpoint`.
    pub judge: EndpointSettings,
    /// What is measured of every model.
    pub measure: MeasureSettings,
    /// How layers are cut into blocks.
    pub blocks: BlockSettings,
    /// Model averaging: the same ratio for all blocks.
    pub average: AverageSettings,
    /// Heterogeneous model averaging: a ratio for each block, at a given mean.
    pub hma: HmaSettings,
    /// Other ways to pay less tax.
    pub baselines: BaselineSettings,
}

/// Real checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// A Hugging Face folder with the model before alignment; empty to train a small one.
    pub before: String,
    /// A Hugging Face folder with the model after alignment.
    pub after: String,
    /// A JSONL file of prompts to answer, each `{"prompt": "…"}`.
    pub prompts: String,
    /// Text files whose perplexity says what is kept; they are read in windows.
    pub texts: Vec<String>,
    /// Tokens in a window.
    pub window: usize,
}

/// Training from nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainSettings {
    /// Exercises of each skill.
    pub n_exercises: u32,
    /// Talks.
    pub n_talks: u32,
    /// Training.
    pub sft: SftSettings,
}

/// Fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSettings {
    /// Talks.
    pub n_talks: u32,
    /// Training.
    pub sft: SftSettings,
}

/// Rejection-sampling fine-tuning: answers are sampled, the best of each prompt is trained on, and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RsfSettings {
    /// Rounds.
    pub rounds: u32,
    /// Prompts a round.
    pub n_prompts: u32,
    /// Answers a prompt; the best is kept.
    pub n_samples: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Training of each round, from the model of the round before.
    pub sft: SftSettings,
}

/// Who gives the reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// A rule: the share of an answer's words that are wanted.
    Words,
    /// A model behind an endpoint.
    Endpoint,
}

/// What is rewarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardSettings {
    /// `words` (a program's rule) or `endpoint` (a model's rating from 0 to 10, divided by ten).
    pub by: Scorer,
    /// With `words`: the reward of an answer is the share of its words that are among these.
    pub words: Vec<String>,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSettings {
    /// Held-out prompts for the reward.
    pub n_prompts: u32,
    /// Answers a prompt, at temperature 1.
    pub n_samples: u32,
    /// Held-out exercises of each skill, answered greedily.
    pub n_exercises: u32,
}

/// How layers are cut into blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlockSettings {
    /// Blocks of about equal size.
    pub n: usize,
    /// First layers of the second block, the third, and so on, instead of equal sizes; empty for those.
    pub cuts: Vec<usize>,
    /// What becomes of embeddings, final norm and head: `before`, `after`, or `mean` of the blocks' ratios.
    pub rest: Rest,
}

/// Model averaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AverageSettings {
    /// Shares of the aligned model, in (0, 1).
    pub ratios: Vec<f64>,
}

/// How block ratios are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// Gradient steps on the ratios, projected onto those with the given mean.
    Projected,
    /// The paper's: gradient steps on s with α = K α σ̂(s) / Σ σ̂(s), σ̂ = σ + ε.
    Reparameterised,
}

/// Heterogeneous model averaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HmaSettings {
    /// Mean shares of the aligned model, in (0, 1).
    pub ratios: Vec<f64>,
    /// `projected` or `reparameterised`.
    pub solver: Solver,
    /// ε of the reparameterisation, in [0, 1].
    pub epsilon: f64,
    /// Answers sampled from the aligned model on training prompts.
    pub n_candidates: u32,
    /// Of them, those with the highest reward are what the ratios are fitted to.
    pub n_best: u32,
    /// Steps of the solver.
    pub steps: u32,
    /// Length of the first step in the space of ratios; later ones are shorter.
    pub lr: f64,
    /// The grid that the first repeat's solutions are held against, by its step; 0 for none.
    pub grid: f64,
}

/// Other ways to pay less tax. Each trains from θ₀ on the best answers of all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineSettings {
    /// Weights λ of λ‖θ − θ₀‖₁.
    pub l1: Vec<f64>,
    /// Weights λ of λ‖θ − θ₀‖².
    pub l2: Vec<f64>,
    /// Weights λ of the squared distance of output probabilities.
    pub kd: Vec<f64>,
    /// Low-rank adapters instead of all weights.
    pub lora: LoraSettings,
    /// Rows of pre-training mixed in, as a multiple of the rows trained on.
    pub replay: Vec<f64>,
    /// Inverse temperatures β of DPO on the best and the worst answer.
    pub dpo: Vec<f64>,
    /// Weights η of the divergence from θ₀ in policy gradients on the first round's answers.
    pub kl: Vec<f64>,
    /// Training.
    pub sft: SftSettings,
    /// Training of `dpo` and `kl`.
    pub preference: SftSettings,
}

/// Low-rank adapters (LoRA): W = W₀ + scale · B A. The fewer ranks, the less can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// Ranks of adapters of the feed-forward maps.
    pub mlp: Vec<usize>,
    /// Ranks of adapters of all maps, attention's too.
    pub all: Vec<usize>,
    /// α / r: what B A is multiplied by.
    pub scale: f64,
    /// Training.
    pub sft: SftSettings,
}

impl Settings for AlignmentTax {
    fn smoke() -> Self {
        let some = SftSettings { epochs: 1.0, ..SftSettings::default() };
        let one = SftSettings { epochs: 1.0, ..RsfSettings::default().sft };
        Self {
            repeats: 1,
            policy: Shape { hidden: 32, layers: 3, heads: 2, ffn: 64, ..Shape::default() },
            pretrain: PretrainSettings { n_exercises: 200, n_talks: 100, sft: some.clone() },
            sft: TuneSettings { n_talks: 100, sft: some },
            rsf: RsfSettings { rounds: 2, n_prompts: 24, n_samples: 4, sft: one.clone(), ..RsfSettings::default() },
            measure: MeasureSettings { n_prompts: 16, n_samples: 2, n_exercises: 8 },
            average: AverageSettings { ratios: vec![0.25, 0.5, 0.75] },
            hma: HmaSettings {
                ratios: vec![0.4],
                n_candidates: 24,
                n_best: 8,
                steps: 3,
                grid: 0.2,
                ..HmaSettings::default()
            },
            baselines: BaselineSettings {
                l1: vec![1e-3],
                l2: vec![0.1],
                kd: vec![1.0],
                lora: LoraSettings { mlp: vec![8], all: vec![2], sft: one.clone(), ..LoraSettings::default() },
                replay: vec![1.0],
                dpo: vec![0.1],
                kl: vec![0.05],
                sft: one.clone(),
                preference: one,
            },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        let Self { policy, blocks, average, hma, reward, measure, rsf, baselines, models, .. } = self;
        require(self.repeats > 0, "repeats", "at least 1", self.repeats)?;
        require(
            models.before.is_empty() == models.after.is_empty(),
            "models",
            "both `before` and `after`, or neither",
            format!("`{}` and `{}`", models.before, models.after),
        )?;
        require(
            models.before.is_empty() != Path::new(&models.prompts).extension().is_some_and(|end| end == "jsonl"),
            "models.prompts",
            "a .jsonl file together with checkpoints, and none without them",
            &models.prompts,
        )?;
        require(
            models.before.is_empty() == models.texts.is_empty(),
            "models.texts",
            "text files together with checkpoints, and none without them",
            format!("{:?}", models.texts),
        )?;
        require(models.window > 1, "models.window", "at least 2", models.window)?;
        policy.check("policy")?;
        require(policy.context >= 32, "policy.context", "at least 32", policy.context)?;
        require(blocks.n > 0, "blocks.n", "at least 1", blocks.n)?;
        let counts = [
            ("pretrain.n_exercises", self.pretrain.n_exercises),
            ("pretrain.n_talks", self.pretrain.n_talks),
            ("sft.n_talks", self.sft.n_talks),
            ("rsf.rounds", rsf.rounds),
            ("rsf.n_prompts", rsf.n_prompts),
            ("rsf.n_samples", rsf.n_samples),
            ("reward.max_tokens", reward.max_tokens),
            ("measure.n_prompts", measure.n_prompts),
            ("measure.n_samples", measure.n_samples),
            ("measure.n_exercises", measure.n_exercises),
            ("hma.n_candidates", hma.n_candidates),
            ("hma.n_best", hma.n_best),
            ("hma.steps", hma.steps),
        ];
        for (key, n) in counts {
            require(n > 0, key, "at least 1", n)?;
        }
        require(measure.n_prompts <= 500, "measure.n_prompts", "at most 500, half of all prompts", measure.n_prompts)?;
        require(!reward.words.is_empty(), "reward.words", "at least one word", "none")?;
        require(
            rsf.temperature > 0.0 && rsf.temperature.is_finite(),
            "rsf.temperature",
            "a number above 0",
            rsf.temperature,
        )?;
        for (key, ratios) in [("average.ratios", &average.ratios), ("hma.ratios", &hma.ratios)] {
            let inside = ratios.iter().all(|ratio| *ratio > 0.0 && *ratio < 1.0);
            require(inside, key, "shares in (0, 1)", format!("{ratios:?}"))?;
        }
        require(!average.ratios.is_empty(), "average.ratios", "at least one share", "none")?;
        require((0.0..=1.0).contains(&hma.epsilon), "hma.epsilon", "a number in [0, 1]", hma.epsilon)?;
        require(hma.lr > 0.0 && hma.lr.is_finite(), "hma.lr", "a number above 0", hma.lr)?;
        require((0.0..=0.5).contains(&hma.grid), "hma.grid", "a step in [0, 0.5]", hma.grid)?;
        let strengths = [
            ("baselines.l1", &baselines.l1),
            ("baselines.l2", &baselines.l2),
            ("baselines.kd", &baselines.kd),
            ("baselines.replay", &baselines.replay),
            ("baselines.dpo", &baselines.dpo),
            ("baselines.kl", &baselines.kl),
        ];
        for (key, values) in strengths {
            let positive = values.iter().all(|value| *value > 0.0 && value.is_finite());
            require(positive, key, "numbers above 0", format!("{values:?}"))?;
        }
        let lora = &baselines.lora;
        let most = policy.hidden.min(policy.ffn);
        for (key, ranks) in [("baselines.lora.mlp", &lora.mlp), ("baselines.lora.all", &lora.all)] {
            let expected = format!("ranks from 1 to {most}, the lesser of `policy.hidden` and `policy.ffn`");
            require(ranks.iter().all(|rank| (1..=most).contains(rank)), key, &expected, format!("{ranks:?}"))?;
        }
        require(lora.scale > 0.0 && lora.scale.is_finite(), "baselines.lora.scale", "a number above 0", lora.scale)?;
        let sections = [
            ("pretrain.sft", &self.pretrain.sft),
            ("sft.sft", &self.sft.sft),
            ("rsf.sft", &rsf.sft),
            ("baselines.sft", &baselines.sft),
            ("baselines.preference", &baselines.preference),
            ("baselines.lora.sft", &lora.sft),
        ];
        sections.into_iter().try_for_each(|(section, sft)| sft.check(section))
    }
}

impl Default for AlignmentTax {
    fn default() -> Self {
        Self {
            repeats: 3,
            models: ModelSettings::default(),
            policy: Shape::default(),
            pretrain: PretrainSettings::default(),
            sft: TuneSettings::default(),
            rsf: RsfSettings::default(),
            reward: RewardSettings::default(),
            judge: EndpointSettings::default(),
            measure: MeasureSettings::default(),
            blocks: BlockSettings::default(),
            average: AverageSettings::default(),
            hma: HmaSettings::default(),
            baselines: BaselineSettings::default(),
        }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        let (before, after, prompts) = (String::new(), String::new(), String::new());
        Self { before, after, prompts, texts: vec![], window: 256 }
    }
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self { n_exercises: 6000, n_talks: 2000, sft: SftSettings { epochs: 2.0, ..SftSettings::default() } }
    }
}

impl Default for TuneSettings {
    fn default() -> Self {
        Self { n_talks: 500, sft: SftSettings { epochs: 1.0, lr: 3e-4, ..SftSettings::default() } }
    }
}

impl Default for RsfSettings {
    fn default() -> Self {
        Self {
            rounds: 10,
            n_prompts: 128,
            n_samples: 8,
            temperature: 1.0,
            sft: SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() },
        }
    }
}

impl Default for RewardSettings {
    fn default() -> Self {
        Self { by: Scorer::Words, words: ["a", "e", "i"].map(str::to_owned).to_vec(), max_tokens: 10 }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        Self { n_prompts: 128, n_samples: 2, n_exercises: 100 }
    }
}

impl Default for BlockSettings {
    fn default() -> Self {
        Self { n: 3, cuts: vec![], rest: Rest::Mean }
    }
}

impl Default for AverageSettings {
    fn default() -> Self {
        Self { ratios: (1..10).map(|tenth| f64::from(tenth) / 10.0).collect() }
    }
}

impl Default for HmaSettings {
    fn default() -> Self {
        Self {
            ratios: vec![0.2, 0.4, 0.6, 0.8],
            solver: Solver::Projected,
            epsilon: 0.2,
            n_candidates: 512,
            n_best: 128,
            steps: 20,
            lr: 0.2,
            grid: 0.1,
        }
    }
}

impl Default for BaselineSettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() };
        Self {
            l1: vec![1e-4, 1e-3],
            l2: vec![1e-2, 1e-1],
            kd: vec![1.0, 10.0],
            lora: LoraSettings::default(),
            replay: vec![0.25, 1.0],
            dpo: vec![0.1],
            kl: vec![0.05, 0.2],
            preference: SftSettings { lr: 3e-4, ..sft.clone() },
            sft,
        }
    }
}

impl Default for LoraSettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() };
        Self { mlp: vec![4, 32], all: vec![4, 16], scale: 2.0, sft }
    }
}
