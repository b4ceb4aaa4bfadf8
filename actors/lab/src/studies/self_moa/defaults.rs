//! What a plan of `self_moa` says unless told otherwise.

use std::collections::BTreeMap;

use super::settings::{
    AggregatorSettings, DataSettings, MeasureSettings, MoaSettings, SelfMoa, SeqSettings, SweepSettings, TaskSettings,
    TeachSettings,
};
use crate::parts::aggregate::{SELECT, SYNTHESISE};
use crate::parts::endpoint::{Api, EndpointSettings};
use crate::parts::grade::Grader;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;
use crate::parts::vendi::NgramKernel;

impl Default for SelfMoa {
    fn default() -> Self {
        let sft = |epochs, lr| SftSettings { epochs, lr, ..SftSettings::default() };
        Self {
            data: DataSettings::default(),
            models: BTreeMap::new(),
            judge: EndpointSettings { api: Api::Chat, ..EndpointSettings::default() },
            tasks: TaskSettings::default(),
            policy: Shape { hidden: 48, layers: 3, heads: 4, ffn: 128, context: 64 },
            generalist: TeachSettings { n_exercises: 16_000, referenced: 0.5, sft: sft(1.0, 3e-3) },
            specialist: TeachSettings { n_exercises: 2400, referenced: 0.2, sft: sft(1.0, 2e-3) },
            aggregator: AggregatorSettings::default(),
            verifier: sft(1.0, 1e-3),
            moa: MoaSettings::default(),
            seq: SeqSettings::default(),
            sweep: SweepSettings::default(),
            kernel: NgramKernel::default(),
            measure: MeasureSettings::default(),
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            validation: BTreeMap::new(),
            test: BTreeMap::new(),
            n_validation: 100,
            n_test: 200,
            id: String::new(),
            skip_bad: false,
            template: "{problem}".into(),
            grader: Grader::Gsm8k,
            graders: BTreeMap::new(),
            stop: vec![],
        }
    }
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { min_words: 5, max_words: 5, n_validation: 60, n_test: 100 }
    }
}

impl Default for TeachSettings {
    fn default() -> Self {
        Self { n_exercises: 1000, referenced: 0.2, sft: SftSettings::default() }
    }
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            model: "i".into(),
            n_exercises: 300,
            n_samples: 6,
            temperature: 1.0,
            n_mixtures: 8,
            sft: SftSettings { epochs: 2.0, lr: 2e-3, ..SftSettings::default() },
        }
    }
}

impl Default for MoaSettings {
    fn default() -> Self {
        Self {
            mixed: "aassll".into(),
            layers: 1,
            deep_layers: 2,
            temperature: 0.7,
            aggregator_temperature: 0.7,
            max_tokens: 6,
            order: "given".into(),
            role: SYNTHESISE.into(),
            selector: SELECT.into(),
        }
    }
}

impl Default for SeqSettings {
    fn default() -> Self {
        Self { n_candidates: 30, window: 6, reserved: 3 }
    }
}

impl Default for SweepSettings {
    fn default() -> Self {
        let mixtures = [
            "iiiiii", "aaaaaa", "ssssss", "llllll", "iiiaaa", "iiisss", "iiilll", "aaasss", "aaalll", "ssslll",
            "iiaass", "iiaall", "iissll", "aassll", "iiiasl",
        ];
        Self {
            mixtures: mixtures.map(str::to_owned).to_vec(),
            temperatures: vec![0.5, 0.7, 1.0, 1.3],
            k: vec![2.0, 4.0],
        }
    }
}

impl Default for MeasureSettings {
    fn default() -> Self {
        let preferred = ["self-moa", "mixed-moa", "aggregator alone", "majority", "selector"];
        Self { n_resamples: 1000, preferred: preferred.map(str::to_owned).to_vec() }
    }
}

impl SelfMoa {
    /// The preset that ends in seconds.
    pub(super) fn small() -> Self {
        let short = SftSettings { epochs: 1.0, ..SftSettings::default() };
        Self {
            tasks: TaskSettings { min_words: 3, max_words: 3, n_validation: 4, n_test: 5 },
            policy: Shape { hidden: 32, layers: 2, heads: 2, ffn: 64, context: 48 },
            generalist: TeachSettings { n_exercises: 1920, referenced: 0.2, sft: short.clone() },
            specialist: TeachSettings { n_exercises: 320, referenced: 0.2, sft: short.clone() },
            aggregator: AggregatorSettings {
                n_exercises: 8,
                n_samples: 2,
                n_mixtures: 2,
                sft: short.clone(),
                ..AggregatorSettings::default()
            },
            verifier: short,
            moa: MoaSettings { mixed: "asl".into(), max_tokens: 4, ..MoaSettings::default() },
            seq: SeqSettings { n_candidates: 5, window: 3, reserved: 1 },
            sweep: SweepSettings {
                mixtures: ["iii", "aaa", "asl", "iis"].map(str::to_owned).to_vec(),
                temperatures: vec![0.7, 1.3],
                k: vec![2.0],
            },
            measure: MeasureSettings { n_resamples: 60, ..MeasureSettings::default() },
            ..Self::default()
        }
    }
}
