//! What a plan of `er_prm` says unless told otherwise.

use std::collections::BTreeMap;

use super::settings::{
    BaseSettings, DataSettings, ErPrm, LabelSettings, PolicySettings, PrmSettings, ProblemSettings, RaftSettings,
    RolloutSettings, SearchSettings,
};
use crate::parts::endpoint::{EndpointSettings, Tags};
use crate::parts::grade::Grader;
use crate::parts::model::Shape;
use crate::parts::train::SftSettings;

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
    /// The preset that ends in seconds.
    pub(super) fn small() -> Self {
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
}
