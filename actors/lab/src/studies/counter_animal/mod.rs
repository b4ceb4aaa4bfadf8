//! Common and counter groups: what classifiers make of an animal before an unusual background, and whether that is robustness or accuracy.
//!
//! Paper: Wang et al. 2024, "A Sober Look at the Robustness of CLIPs to Spurious Features" (arXiv 2403.11497), which introduces `CounterAnimal`.
//!
//! Scaled down: handwritten digits of 8 × 8 pixels in colours, a hidden layer and captions that are one-hot, in place of photos, CLIPs and
//! their captions; and the paper's linear encoders as they are. Kept: class-balanced accuracy on both groups and its drop; contrastive against
//! supervised training at every k and agreement of `MultiColoredMNIST`; lines through families on probit axes and effective robustness, with
//! intervals over images and models. On files: predictions of any models under any prompt sets, the paper's own tables; on photos: CLIP
//! models, with prompt ensembling, over all names and over the nearest few.
//!
//! Claims tested: contrastive training is no more robust than supervised; the drop grows with how often colour and label agree; the closed form of the
//! linear encoders. And of tables: whether a family is less robust at equal accuracy, which hangs on the prompts; whether their cells are sound.

mod check;
mod claims;
mod digits;
mod families;
mod files;
mod images;
mod measure;
mod models;
mod settings;
mod tables;
mod theory;

use std::collections::BTreeMap;

use tracker_store::Claim;

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::robustness::Scale;
use crate::plot::{Fit, Plot, Points};
use crate::study::Study;

pub use settings::{
    CounterAnimal, DataSettings, DigitSettings, DiscoverySettings, ImageSettings, RobustnessSettings, TheorySettings,
};

/// The accuracy on the counter group that a line gives to one on the common group, on the plan's scale.
fn fitted(params: &BTreeMap<String, String>, [intercept, slope]: [f64; 2], common: f64) -> f64 {
    let scale = if params.get("robustness.scale").is_some_and(|scale| scale == Scale::Logit.name()) {
        Scale::Logit
    } else {
        Scale::Probit
    };
    scale.accuracy(intercept + slope * scale.z(common, 1e-6))
}

impl Study for CounterAnimal {
    const NAME: &'static str = "counter_animal";
    const PAPER: &'static str = "arXiv 2403.11497";
    const ABOUT: &'static str = "common and counter groups: accuracy, drop, effective robustness, prompt sets";
    const PLOTS: &'static [Plot] = &[Plot {
        title: "Accuracy on the counter group by accuracy on the common one",
        chart: "{census}",
        points: &[Points { figures: "accuracy {census}: counter", splits: &[], series: "models" }],
        across: "accuracy, common group",
        up: "accuracy, counter group",
        by: Some("accuracy {census}: common"),
        fit: Some(Fit {
            slope: "fit {census}, {space}, {family}: slope",
            intercept: "fit {census}, {space}, {family}: intercept",
            series: "{family}, {space}",
            at: fitted,
        }),
        ..Plot::NEW
    }];

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        for (name, definition) in DEFINITIONS {
            lab.define(name, definition).await?;
        }
        let scale = self.robustness.scale.name();
        let effective = format!(
            "counter − S⁻¹(a + b · S(common)), S the {scale} scale, a and b of the reference family's models; as a share"
        );
        lab.define("effective robustness", &effective).await?;
        let discovery = models::discovery(lab, self).await?;

        // What somebody gave comes first: what is wrong with it is said before anything is computed.
        let tables = tables::tables(lab, self, discovery).await?;
        let predictions = files::predictions(lab, self, discovery).await?;
        let images = images::images(lab, self, discovery).await?;
        let mut found = theory::theory(lab, self).await?;
        found.extend(claims::claims(&digits::digits(lab, self).await?));
        found.extend(tables.into_iter().chain(predictions).chain(images));
        lab.claims(found).await
    }
}

/// What measures are.
const DEFINITIONS: [(&str, &str); 4] = [
    ("common", "mean over classes that have images of both groups of the share of right images of the common group"),
    ("counter", "the same of the counter group"),
    ("drop", "common less counter"),
    (
        "accuracies of 0 and 1",
        "on probit and logit scales they count as half an image off, of tables as half of the last digit printed",
    ),
];
