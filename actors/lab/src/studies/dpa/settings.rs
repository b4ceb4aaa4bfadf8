//! What a plan of `dpa` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::parts::direction::Direction;
use crate::parts::facts::{Facts, MAX_WORDS, MEASURES};
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::plan::{Settings, require};

/// Settings of the study `dpa`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dpa {
    /// Checkpoints to start from, instead of small ones trained here.
    pub models: ModelSettings,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// A JSONL file with an object `{"prompt": "…"}` a line; needed with `models.policy`.
    pub prompts: String,
    /// Files of `{prompt, response, ATTRIBUTE, …}` or `{messages, ATTRIBUTE, …}` with ids, values 0 to 100 or null.
    pub ratings: Vec<String>,
    /// Whether wrong rows of ratings are left out and counted, instead of ending the run.
    pub skip_bad: bool,
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

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            policy: String::new(),
            reward: String::new(),
            template: "<|system|>\n{system}</s>\n<|user|>\n{prompt}</s>\n<|assistant|>\n".into(),
            max_tokens: 512,
        }
    }
}

impl Default for LanguageSettings {
    fn default() -> Self {
        Self { n_facts: 8, n_asked: 5 }
    }
}

impl Default for Dpa {
    fn default() -> Self {
        Self {
            models: ModelSettings::default(),
            data: DataSettings::default(),
            language: LanguageSettings::default(),
            policy: Shape { hidden: 64, layers: 3, heads: 4, ffn: 128, context: 48 },
            pretrain: PretrainSettings::default(),
            reward: RewardSettings::default(),
            directions: DirectionSettings::default(),
            rsf: RsfSettings::default(),
            measure: MeasureSettings::default(),
            baselines: BaselineSettings::default(),
        }
    }
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self { n_prompts: 20_000, error_rate: 0.15, sft: SftSettings { epochs: 4.0, ..SftSettings::default() } }
    }
}

impl Default for RewardSettings {
    fn default() -> Self {
        let weights = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, x)| ((*name).to_owned(), *x)).collect();
        Self {
            n_prompts: 5000,
            n_answers: 4,
            temperatures: vec![0.7, 1.0, 1.5, 2.0],
            noise: 15.0,
            missing: 0.5,
            attributes: MEASURES.map(str::to_owned).to_vec(),
            helpfulness: weights(&[("recall", 1.0), ("hallucination", -1.0), ("padding", -1.0)]),
            verbosity: weights(&[("verbosity", 1.0)]),
            sft: SftSettings { epochs: 5.0, lr: 2e-3, ..SftSettings::default() },
        }
    }
}

impl Default for DirectionSettings {
    fn default() -> Self {
        Self { min: -45.0, max: 45.0, n_measured: 10, vectors: vec![] }
    }
}

impl Default for RsfSettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() };
        Self {
            n_warm_up: 800,
            n_offline: 4,
            rounds: 4,
            n_prompts: 200,
            n_directions: 4,
            n_samples: 16,
            temperature: 1.0,
            start: Start::Previous,
            prompts: Split::Fresh,
            warm_up: sft.clone(),
            sft,
        }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        Self { n_prompts: 100, n_samples: 1, reference: 0.0, n_resamples: 1000 }
    }
}

impl Default for BaselineSettings {
    fn default() -> Self {
        let sft = SftSettings { epochs: 2.0, lr: 1e-3, ..SftSettings::default() };
        Self {
            dpo: vec![0.1],
            preference: SftSettings { lr: 3e-4, ..sft.clone() },
            steer_lm: vec![[100, 30], [100, 40], [100, 50], [100, 70], [100, 100]],
            steer: sft.clone(),
            morlhf: vec![-45.0, 0.0, 45.0],
            rounds: 4,
            n_prompts: 60,
            gradient: SftSettings { epochs: 2.0, ..sft },
            kl: 0.02,
            soups: vec![0.25, 0.5, 0.75],
        }
    }
}

impl Dpa {
    /// The directions models are measured at.
    ///
    /// # Errors
    /// `Value` for a vector that is not of length 1, or not of two numbers.
    pub(super) fn measured(&self) -> Result<Vec<Direction>> {
        let DirectionSettings { min, max, n_measured, vectors } = &self.directions;
        if vectors.is_empty() {
            let step = (max - min) / f64::from(n_measured - 1);
            return (0..*n_measured).map(|nth| Direction::of_degrees(min + step * f64::from(nth))).collect();
        }
        let direction = |v: &Vec<f64>| {
            require(v.len() == 2, "directions.vectors", "two numbers a vector", format!("{v:?}"))?;
            Direction::new(v.clone()).map_err(|_| crate::error::Error::Value {
                key: "directions.vectors".into(),
                message: format!("expected vectors of length 1, got `{v:?}`"),
            })
        };
        vectors.iter().map(direction).collect()
    }

    /// Weights of each attribute in [helpfulness, verbosity], `[2][attributes]`.
    pub(super) fn objectives(&self) -> [Vec<f64>; 2] {
        let RewardSettings { attributes, helpfulness, verbosity, .. } = &self.reward;
        [helpfulness, verbosity].map(|of| attributes.iter().map(|name| of.get(name).copied().unwrap_or(0.0)).collect())
    }

    fn check_reward(&self) -> Result<()> {
        let RewardSettings {
            n_prompts,
            n_answers,
            temperatures,
            noise,
            missing,
            attributes,
            helpfulness,
            verbosity,
            sft,
        } = &self.reward;
        require(*n_prompts > 0, "reward.n_prompts", "at least 1", n_prompts)?;
        require(*n_answers > 0, "reward.n_answers", "at least 1", n_answers)?;
        let are_above = !temperatures.is_empty() && temperatures.iter().all(|t| *t > 0.0 && t.is_finite());
        require(are_above, "reward.temperatures", "at least one number above 0", format!("{temperatures:?}"))?;
        let expected = format!("a multiple of the {} of `reward.temperatures`", temperatures.len());
        require((*n_answers as usize).is_multiple_of(temperatures.len()), "reward.n_answers", &expected, n_answers)?;
        require((0.0..=100.0).contains(noise), "reward.noise", "a number in [0, 100]", noise)?;
        require((0.0..1.0).contains(missing), "reward.missing", "a share in [0, 1)", missing)?;
        let doubled = attributes.iter().enumerate().any(|(at, name)| attributes[..at].contains(name));
        let listed = attributes.join(", ");
        require(!attributes.is_empty() && !doubled, "reward.attributes", "at least one name, none twice", &listed)?;
        if self.data.ratings.is_empty() && self.models.reward.is_empty() {
            let expected = format!("some of {}, or `data.ratings`", MEASURES.join(", "));
            let known = attributes.iter().all(|name| MEASURES.contains(&name.as_str()));
            require(known, "reward.attributes", &expected, &listed)?;
        }
        for (key, weights) in [("reward.helpfulness", helpfulness), ("reward.verbosity", verbosity)] {
            let expected = format!("weights of dimensions of `reward.attributes` ({listed})");
            for (name, weight) in weights {
                require(attributes.contains(name), key, &expected, name)?;
                require(weight.is_finite(), key, "finite weights", weight)?;
            }
            let some = weights.values().any(|weight| *weight != 0.0);
            require(some, key, "a weight other than 0", format!("{weights:?}"))?;
        }
        sft.check("reward.sft")
    }

    fn check_directions(&self) -> Result<()> {
        let DirectionSettings { min, max, n_measured, .. } = &self.directions;
        for (key, degrees) in [("directions.min", min), ("directions.max", max)] {
            require((-90.0..=90.0).contains(degrees), key, "an angle from -90 to 90", degrees)?;
        }
        require(min < max, "directions.max", "an angle above `directions.min`", max)?;
        require(*n_measured >= 2, "directions.n_measured", "at least 2", n_measured)?;
        let measured = self.measured()?;
        require(measured.len() >= 2, "directions.vectors", "at least 2, or none", measured.len())
    }

    fn check_models(&self) -> Result<()> {
        let ModelSettings { policy, reward, template, max_tokens } = &self.models;
        let has_both = ["{system}", "{prompt}"].iter().all(|place| template.contains(place));
        require(has_both, "models.template", "a text with `{system}` and `{prompt}`", template)?;
        require(*max_tokens > 0, "models.max_tokens", "at least 1", max_tokens)?;
        if policy.is_empty() {
            let needless = self.data.prompts.is_empty() && self.data.ratings.is_empty() && reward.is_empty();
            let got = [self.data.prompts.as_str(), &self.data.ratings.join(", "), reward].concat();
            return require(
                needless,
                "models.policy",
                "a folder where prompts, ratings or a reward model are given",
                got,
            );
        }
        require(!self.data.prompts.is_empty(), "data.prompts", "a file of prompts for `models.policy`", "")?;
        let rated = !self.data.ratings.is_empty() || !reward.is_empty();
        require(rated, "data.ratings", "files of ratings, or a reward model in `models.reward`", "")
    }

    fn check_baselines(&self) -> Result<()> {
        let BaselineSettings { dpo, preference, steer_lm, steer, morlhf, rounds, n_prompts, gradient, kl, soups } =
            &self.baselines;
        let positive = dpo.iter().all(|beta| *beta > 0.0 && beta.is_finite());
        require(positive, "baselines.dpo", "numbers above 0", format!("{dpo:?}"))?;
        let inside = steer_lm.iter().flatten().all(|target| *target <= 100);
        require(inside, "baselines.steer_lm", "numbers from 0 to 100", format!("{steer_lm:?}"))?;
        let angles = morlhf.iter().all(|degrees| (-90.0..=90.0).contains(degrees));
        require(angles, "baselines.morlhf", "angles from -90 to 90", format!("{morlhf:?}"))?;
        require(*rounds > 0, "baselines.rounds", "at least 1", rounds)?;
        require(*n_prompts > 0, "baselines.n_prompts", "at least 1", n_prompts)?;
        require(*kl >= 0.0 && kl.is_finite(), "baselines.kl", "a number, at least 0", kl)?;
        let shares = soups.iter().all(|share| *share > 0.0 && *share < 1.0);
        require(shares, "baselines.soups", "shares in (0, 1)", format!("{soups:?}"))?;
        let ends = soups.is_empty() || morlhf.len() >= 2;
        require(ends, "baselines.soups", "none, or two angles in `baselines.morlhf`", format!("{soups:?}"))?;
        let sections = [("preference", preference), ("steer", steer), ("gradient", gradient)];
        sections.into_iter().try_for_each(|(section, sft)| sft.check(&format!("baselines.{section}")))
    }
}

impl Settings for Dpa {
    fn smoke() -> Self {
        let short = SftSettings { epochs: 1.0, ..SftSettings::default() };
        Self {
            policy: Shape { hidden: 16, layers: 1, heads: 2, ffn: 32, context: 48 },
            pretrain: PretrainSettings { n_prompts: 64, error_rate: 0.15, sft: short.clone() },
            reward: RewardSettings {
                n_prompts: 12,
                n_answers: 2,
                temperatures: vec![1.0, 2.0],
                sft: short.clone(),
                ..RewardSettings::default()
            },
            directions: DirectionSettings { n_measured: 3, ..DirectionSettings::default() },
            rsf: RsfSettings {
                n_warm_up: 8,
                rounds: 2,
                n_prompts: 4,
                n_directions: 2,
                n_samples: 4,
                warm_up: short.clone(),
                sft: short.clone(),
                ..RsfSettings::default()
            },
            measure: MeasureSettings { n_prompts: 6, n_resamples: 60, ..MeasureSettings::default() },
            baselines: BaselineSettings {
                preference: short.clone(),
                steer_lm: vec![[100, 30], [100, 70]],
                steer: short.clone(),
                morlhf: vec![-45.0, 45.0],
                rounds: 1,
                n_prompts: 4,
                gradient: short,
                soups: vec![0.5],
                ..BaselineSettings::default()
            },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        self.check_models()?;
        let LanguageSettings { n_facts, n_asked } = self.language;
        let expected = format!("from 1 to {}", Facts::MOST);
        require((1..=Facts::MOST).contains(&n_facts), "language.n_facts", &expected, n_facts)?;
        require((1..=n_facts).contains(&n_asked), "language.n_asked", "from 1 to `language.n_facts`", n_asked)?;
        self.policy.check("policy")?;
        // A condition of at most ten words, both lists and their three words, an answer and its end.
        let longest = 10 + n_facts + n_asked + 3 + MAX_WORDS + 1;
        let expected = format!("at least {longest}, the longest prompt with its answer");
        require(self.policy.context >= longest, "policy.context", &expected, self.policy.context)?;
        require(self.pretrain.n_prompts > 0, "pretrain.n_prompts", "at least 1", self.pretrain.n_prompts)?;
        let rate = self.pretrain.error_rate;
        require((0.0..1.0).contains(&rate), "pretrain.error_rate", "a share in [0, 1)", rate)?;
        self.pretrain.sft.check("pretrain.sft")?;
        self.check_reward()?;
        self.check_directions()?;
        let RsfSettings { n_warm_up, n_offline, n_prompts, n_directions, n_samples, temperature, .. } = self.rsf;
        let counts = [
            ("rsf.n_warm_up", n_warm_up),
            ("rsf.n_prompts", n_prompts),
            ("rsf.n_directions", n_directions),
            ("measure.n_prompts", self.measure.n_prompts),
            ("measure.n_samples", self.measure.n_samples),
        ];
        counts.into_iter().try_for_each(|(key, n)| require(n > 0, key, "at least 1", n))?;
        for (key, n) in [("rsf.n_offline", n_offline), ("rsf.n_samples", n_samples)] {
            require(n >= 2, key, "at least 2, to choose from", n)?;
        }
        require(temperature > 0.0 && temperature.is_finite(), "rsf.temperature", "a number above 0", temperature)?;
        self.rsf.warm_up.check("rsf.warm_up")?;
        self.rsf.sft.check("rsf.sft")?;
        let MeasureSettings { reference, n_resamples, .. } = self.measure;
        require(reference.is_finite() && reference < 100.0, "measure.reference", "a number below 100", reference)?;
        require(n_resamples >= 40, "measure.n_resamples", "at least 40", n_resamples)?;
        self.check_baselines()
    }
}
