//! What a plan of `dpa` says unless told otherwise.

use super::settings::{
    BaselineSettings, DataSettings, DirectionSettings, Dpa, LanguageSettings, MeasureSettings, ModelSettings,
    PretrainSettings, Rater, RatingFormat, RewardSettings, RsfSettings, Split, Start,
};
use crate::parts::endpoint::{Api, EndpointSettings};
use crate::parts::facts::MEASURES;
use crate::parts::marks;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;

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

impl Default for DataSettings {
    fn default() -> Self {
        let (prompts, id) = (String::new(), "id".into());
        Self { prompts, ratings: vec![], format: RatingFormat::Rows, id, skip_bad: false }
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
            endpoint: EndpointSettings::default(),
            judge: EndpointSettings { api: Api::Chat, ..EndpointSettings::default() },
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
            by: Rater::Model,
            template: marks::TEMPLATE.into(),
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
    /// The plan that ends in seconds.
    pub(super) fn small() -> Self {
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
}
