//! `CorrelationQA`: questions with pictures of right and of wrong answers, and how far accuracy falls where a picture misleads.
//!
//! Paper: "The Instinctive Bias: Spurious Images lead to Illusion in MLLMs" (arXiv 2402.03757). Every question has a right answer and
//! five plausible wrong ones; an image shows one of them, as a picture (natural) or as a drawn word (typography). A model is given the
//! image and the bare question. The drop is `A_f − A_s`: accuracy where the right answer is shown less accuracy where a wrong one is.
//!
//! Scaled down: without endpoints small networks of two streams are asked, trained with correlation ρ between image and answer; they
//! see drawn words and patterns that stand for pictures. Bayes' rule says what they should answer, so the metric is tested by a known
//! answer. With endpoints questions can be written, images painted, and vision models asked; published rows and the outputs of a
//! recorded run can stand in place of both.
//!
//! Claims tested: the drop is nothing where images are chance, rises with ρ, is large near 1, and is what Bayes' rule says; of models
//! behind endpoints, that there is a drop.

mod claims;
mod images;
mod judging;
mod measure;
mod networks;
mod outputs;
mod published;
mod question;
mod recorded;
mod reply;
mod settings;
mod toy;
mod trial;

use tracker_store::Claim;

use crate::error::Result;
use crate::lab::Lab;
use crate::plot::{Plot, Points};
use crate::study::Study;

use judging::Case;
use settings::Source;

pub use published::{CorrelationRow, CorrelationRows};
pub use settings::{
    CorrelationQa, ImageSettings, JudgeSettings, MeasureSettings, ModelSettings, OutputSettings, PublishedSettings,
    QuestionSettings, ToySettings,
};
pub use trial::Kind;

impl Study for CorrelationQa {
    const NAME: &'static str = "correlation_qa";
    const PAPER: &'static str = "arXiv 2402.03757";
    const ABOUT: &'static str = "pictures of wrong answers: how far accuracy falls, by whose judgement";
    const PLOTS: &'static [Plot] = &[Plot {
        title: "Accuracy drop by the training correlation of image and answer",
        points: &[
            Points { figures: "figures/rho {x}/{judge}: drop", splits: &["all"], series: "judged by {judge}" },
            Points { figures: "expected: expected drop, rho {x}", splits: &[], series: "by Bayes' rule" },
        ],
        across: "rho, share of training images that show the answer",
        up: "A_f − A_s",
        ..Plot::NEW
    }];

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        define(lab).await?;
        let (asked, trials, said) = match self.source() {
            Source::Recorded => self.recorded(lab).await?,
            source => {
                let (asked, trials) = if source == Source::Published {
                    self.published(lab).await?
                } else {
                    let asked = self.questions(lab).await?;
                    let trials = self.trials(lab, &asked).await?;
                    (asked, trials)
                };
                let said = if self.is_toy() {
                    self.ask_networks(lab, &asked, &trials).await?
                } else {
                    self.ask(lab, &asked, &trials).await?
                };
                (asked, trials, said)
            }
        };
        let case = Case { asked: &asked, trials: &trials, said: &said };
        let judges = self.judge(lab, case).await?;
        let groups = self.groups(lab, case).await?;
        let measured = self.measure(lab, case, &groups, &judges).await?;
        self.claims(lab, &measured).await
    }
}

/// What the names of measures mean.
async fn define(lab: &Lab) -> Result<()> {
    for (name, definition) in [
        ("drop", "accuracy on factual images less accuracy on spurious ones"),
        ("instinct rate", "share of outputs on spurious images that name the pictured wrong answer"),
        (
            "flip rate",
            "share wrong on a spurious image of those right on the factual one of the same kind, by model and question",
        ),
        ("text-only accuracy", "accuracy without an image"),
        ("kappa", "Cohen's, of two judges' right and not right; questions drawn anew with all their outputs"),
    ] {
        lab.define(name, definition).await?;
    }
    Ok(())
}
