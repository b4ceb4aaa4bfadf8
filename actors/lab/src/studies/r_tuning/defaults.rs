//! What a plan of `r_tuning` says unless told otherwise.

use super::settings::{
    DataSettings, IdentifySettings, MeasureSettings, Method, ModelSettings, RTuning, RefusalFiles, ServedSettings,
    TaskFiles, TuneSettings, UAnswer, WorldSettings,
};
use crate::parts::adapter::LoraSettings;
use crate::parts::certainty::{Matcher, Template};
use crate::parts::endpoint::{EndpointSettings, Route};
use crate::parts::model::Shape;
use crate::parts::rows::QueryFormat;
use crate::parts::train::SftSettings;

impl Default for RTuning {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            endpoint: EndpointSettings::default(),
            served: ServedSettings::default(),
            template: Template::default(),
            tasks: vec![],
            refusal: vec![],
            data: DataSettings::default(),
            world: WorldSettings::default(),
            policy: Shape { hidden: 64, layers: 3, heads: 4, ffn: 128, context: 48 },
            pretrain: SftSettings { epochs: 6.0, batch: 64, ..SftSettings::default() },
            identify: IdentifySettings::default(),
            tune: TuneSettings::default(),
            measure: MeasureSettings::default(),
        }
    }
}

impl Default for ServedSettings {
    fn default() -> Self {
        Self { route: Route::Top, top: 20, n_samples: 10, is_tuned: true }
    }
}

impl Default for TaskFiles {
    fn default() -> Self {
        Self {
            name: String::new(),
            format: QueryFormat::Pararel,
            train: vec![],
            test: vec![],
            ood: vec![],
            all: vec![],
            n_domains: 0,
            shots: vec![],
            max_tokens: 15,
        }
    }
}

impl Default for RefusalFiles {
    fn default() -> Self {
        Self { format: QueryFormat::SelfAware, files: vec![] }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self { skip_bad: false, n_train: 0, n_test: 600, n_refusal: 250 }
    }
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self {
            n_entities: 400,
            n_invented: 60,
            n_names: 32,
            n_inside: 8,
            n_outside: 4,
            n_objects: 10,
            exposures: vec![0, 0, 4, 16],
            known_from: 4,
            fame: 0.8,
            check: "I am".into(),
            talk: 1000,
            choices: 0.15,
        }
    }
}

impl Default for IdentifySettings {
    fn default() -> Self {
        Self {
            matchers: vec![Matcher::Words, Matcher::Contains, Matcher::Exact],
            k: 10,
            temperature: 0.7,
            unknown: 0.5,
        }
    }
}

impl Default for TuneSettings {
    fn default() -> Self {
        let methods = vec![
            Method::R,
            Method::RRefuse,
            Method::RU,
            Method::Vanilla,
            Method::VanillaC,
            Method::VanillaU,
            Method::PretrainT,
            Method::PretrainW,
            Method::MinLoss,
        ];
        let sft = SftSettings { epochs: 1.0, batch: 4, lr: 7e-4, ..SftSettings::default() };
        Self {
            methods,
            others: vec![Method::R, Method::Vanilla],
            together: vec![Method::R, Method::Vanilla],
            min_loss: SftSettings { lr: 3e-4, ..sft.clone() },
            sft,
            lora: LoraSettings::default(),
            u_answer: UAnswer::Gold,
            min_loss_refused: 0.3,
        }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        Self { weight: 0.5, n_bins: 10, n_resamples: 1000, refusals: vec![] }
    }
}

impl RTuning {
    /// The plan that ends in seconds.
    pub(super) fn small() -> Self {
        let short = SftSettings { epochs: 1.0, batch: 16, ..SftSettings::default() };
        Self {
            data: DataSettings { n_train: 24, n_test: 12, n_refusal: 8, ..DataSettings::default() },
            world: WorldSettings {
                n_entities: 24,
                n_invented: 6,
                n_names: 8,
                n_inside: 2,
                n_outside: 1,
                n_objects: 4,
                exposures: vec![0, 2, 8],
                known_from: 8,
                talk: 20,
                ..WorldSettings::default()
            },
            policy: Shape { hidden: 16, layers: 1, heads: 2, ffn: 32, context: 48 },
            pretrain: SftSettings { epochs: 2.0, batch: 32, ..SftSettings::default() },
            identify: IdentifySettings { k: 3, ..IdentifySettings::default() },
            tune: TuneSettings { sft: short.clone(), min_loss: short, ..TuneSettings::default() },
            measure: MeasureSettings { n_resamples: 60, ..MeasureSettings::default() },
            ..Self::default()
        }
    }
}
