//! What a plan of `counter_animal` may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parts::robustness::Scale;

/// Settings of the study `counter_animal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CounterAnimal {
    /// Linear encoders with a known minimiser.
    pub theory: TheorySettings,
    /// Towers trained on digits in colours.
    pub digits: DigitSettings,
    /// Published tables and predictions.
    pub data: DataSettings,
    /// Photos, and the CLIP models that are asked about them.
    pub images: ImageSettings,
    /// What common and counter groups were found by.
    pub discovery: DiscoverySettings,
    /// Lines through families of models.
    pub robustness: RobustnessSettings,
}

/// Contrastive learning of two linear encoders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TheorySettings {
    /// How often the background is that of the class, ascending.
    pub ps: Vec<f64>,
    /// Means μ of both features.
    pub mus: Vec<f64>,
    /// Standard deviation of the class's feature.
    pub sigma_inv: f64,
    /// Standard deviation of the background's.
    pub sigma_spu: f64,
    /// Weight ρ of the penalty.
    pub rho: f64,
    /// Pairs to learn from.
    pub n_pairs: u32,
    /// Images of each group to measure at.
    pub n_test: u32,
    /// Steps of gradient descent.
    pub steps: u32,
    /// Its rate.
    pub lr: f64,
    /// Repeats; empty leaves the theory out.
    pub seeds: Vec<u32>,
}

/// Digits in colours: the digit is what should count, the colour what goes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DigitSettings {
    /// Classes, which are the first k digits and colours, 2 to 10.
    pub ks: Vec<u32>,
    /// How often labels agree with the digit and with the colour, `[p_inv, p_spu]` each.
    pub agreement: Vec<[f64; 2]>,
    /// Images to learn from, drawn anew.
    pub n_train: u32,
    /// Images of each group.
    pub n_test: u32,
    /// Hidden units of the image tower.
    pub hidden: u32,
    /// Numbers of an embedding.
    pub embedding: u32,
    /// Images of a batch.
    pub batch: u32,
    /// Steps of training.
    pub steps: u32,
    /// Learning rate.
    pub lr: f64,
    /// Steps at which models are measured, ascending; the last is the end of training.
    pub measured_at: Vec<u32>,
    /// Repeats; empty leaves digits out.
    pub seeds: Vec<u32>,
}

/// Files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Published tables: CSV, JSON lines or Parquet of `{table, setup, prompts, family, backbone, pretrain, common, counter, drop}`, in
    /// percent.
    pub tables: Vec<String>,
    /// Predictions: rows of `{image, class, group, model, prompts, prediction | top | scores}` and, optionally, `space`, `background`,
    /// `source`.
    pub predictions: Vec<String>,
    /// What models are: rows of `{model, family, backbone, pretrain}`; empty if not known.
    pub models: String,
    /// The labels of `scores`, one a line; empty if there are none.
    pub labels: String,
    /// The best labels that are kept of each image.
    pub n_top: u32,
    /// Whether wrong rows are left out and counted, instead of ending the run.
    pub skip_bad: bool,
}

/// Photos and CLIP models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// A folder of `CLASS/common-BACKGROUND/*.jpg` and `CLASS/counter-BACKGROUND/*.jpg` (or PNG); empty for none.
    pub folder: String,
    /// Class names that are told apart, one a line: the name of its folder, then, after a tab, what prompts call it, if that is not the same.
    pub names: String,
    /// Prompt sets by name: files of templates, one a line, each with `{}` where the class stands.
    pub prompts: BTreeMap<String, String>,
    /// Hugging Face folders of CLIP models, by name.
    pub models: BTreeMap<String, String>,
    /// The name of the label space of all names.
    pub space: String,
}

/// The discovery model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoverySettings {
    /// Its name.
    pub model: String,
    /// Its backbone; models of the same one are left out of a second comparison.
    pub backbone: String,
    /// What it was trained on; the same.
    pub pretrain: String,
    /// The prompt it was asked with.
    pub prompt: String,
    /// The prompt set, of predictions or photos, that is it.
    pub prompts: String,
    /// The digest of its weights, or where they are; empty if not known.
    pub weights: String,
    /// Labels of a class in the few-label space.
    pub n_labels: u32,
}

/// Lines through families.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RobustnessSettings {
    /// The scale of accuracies.
    pub scale: Scale,
    /// The family whose line others are held against.
    pub reference: String,
    /// Resamples of images and models behind intervals.
    pub n_resamples: u32,
    /// The error that rounding may make in a stated drop, in percent.
    pub drop_tolerance: f64,
}

impl Default for TheorySettings {
    fn default() -> Self {
        Self {
            ps: vec![0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
            mus: vec![1.0, 2.0],
            sigma_inv: 1.0,
            sigma_spu: 0.5,
            rho: 1.0,
            n_pairs: 600,
            n_test: 10_000,
            steps: 6000,
            lr: 0.02,
            seeds: (1..=8).collect(),
        }
    }
}

impl Default for DigitSettings {
    fn default() -> Self {
        Self {
            ks: vec![2, 3, 5, 6, 8, 10],
            agreement: vec![[0.75, 0.75], [0.75, 0.9], [0.9, 0.75], [0.9, 0.9]],
            n_train: 3000,
            n_test: 400,
            hidden: 32,
            embedding: 16,
            batch: 64,
            steps: 300,
            lr: 0.005,
            measured_at: vec![20, 60, 300],
            seeds: (1..=10).collect(),
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            tables: vec![],
            predictions: vec![],
            models: String::new(),
            labels: String::new(),
            n_top: 5,
            skip_bad: false,
        }
    }
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            folder: String::new(),
            names: String::new(),
            prompts: BTreeMap::new(),
            models: BTreeMap::new(),
            space: "1v1000".into(),
        }
    }
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            model: "CLIP-LAION400M-ViT/B/32".into(),
            backbone: "ViT/B/32".into(),
            pretrain: "LAION400M".into(),
            prompt: "A photo of <label>.".into(),
            prompts: "single".into(),
            weights: String::new(),
            n_labels: 20,
        }
    }
}

impl Default for RobustnessSettings {
    fn default() -> Self {
        Self { scale: Scale::Probit, reference: "ImageNet".into(), n_resamples: 2000, drop_tolerance: 0.0151 }
    }
}
