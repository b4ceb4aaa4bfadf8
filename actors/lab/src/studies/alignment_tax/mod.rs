//! Alignment tax: how much of what a model could do is lost to alignment, and how much interpolation gives back.
//!
//! Paper: Lin et al. 2024, "Mitigating the Alignment Tax of RLHF" (arXiv 2309.06256).
//!
//! Scaled down: four exact skills (copying, reversing, a substitution cipher in the place of translation, modular sums) in
//! place of reading, common sense and translation; a programmatic reward on free talk in place of a reward model; a model
//! of some hundred thousand parameters trained here. Kept: rejection sampling with the best of n a prompt; model
//! averaging; block ratios at a given mean, fitted to the aligned model's best answers; the baselines, trained from θ₀ on
//! the best answers of all rounds. With `models.before` and `models.after` the same study runs on real checkpoints.
//!
//! Claims tested: averages keep more of both than either end; unequal block ratios beat equal ones of the same mean.
//!
//! `theory` is a test: what the paper's theorem says that averaging gains, against a simulation of the features it is about.

mod align;
mod claims;
mod hma;
mod measure;
mod settings;
#[cfg(test)]
mod theory;

use tracker_actors::Pool;
use tracker_store::{Claim, NodeId};

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::interpolate::{Blocks, Interpolator, record_mixture};
use crate::parts::model::load;
use crate::parts::train::{Trained, Trainer, adopt, examples};
use crate::study::Study;

use align::School;
use claims::{Family, Point};
use hma::{Fit, Solution};
use measure::{Bench, Scores};
pub use settings::{
    AlignmentTax, AverageSettings, BaselineSettings, BlockSettings, HmaSettings, LoraSettings, MeasureSettings,
    ModelSettings, PretrainSettings, RewardSettings, RsfSettings, Scorer, Solver, TuneSettings,
};

impl Study for AlignmentTax {
    const NAME: &'static str = "alignment_tax";
    const PAPER: &'static str = "arXiv 2309.06256";
    const ABOUT: &'static str = "model averaging, ratios by block, reward against tax";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        if !self.models.before.is_empty() {
            let [before, after] = [&self.models.before, &self.models.after].map(|folder| load(lab, folder));
            let (before, after) = (before?, after?);
            let bench = Bench::from_files(lab, self, &before).await?;
            let school = School { lab, plan: self, bench: &bench, trainer };
            let (before, after) = (adopt(lab, "before", before).await?, adopt(lab, "after", after).await?);
            let swept = self.sweep(&school, "models", 0, &before, &after).await?;
            return self.conclude(lab, vec![swept]).await;
        }
        let bench = Bench::generated(lab, self).await?;
        let school = School { lab, plan: self, bench: &bench, trainer };
        let base = school.pretrain().await?;
        let mut repeats = Vec::new();
        for repeat in 0..self.repeats {
            let name = format!("repeat {}", repeat + 1);
            let ends = school.align(&base, &name).await?;
            let Some((after, earlier)) = ends.rounds.split_last() else { break };
            let mut swept = self.sweep(&school, &name, repeat, &ends.before, after).await?;
            for (round, model) in (1..).zip(earlier) {
                let scores = bench.score(lab, self, &format!("{name}/rsf {round}"), model.node, &model.model).await?;
                swept.points.push(Point::new(Family::EarlyStop, f64::from(round), model.node, scores));
            }
            for (family, strength, model) in school.baselines(&base, &name, &ends).await? {
                let label = format!("{name}/{} {strength}", family.name());
                let scores = bench.score(lab, self, &label, model.node, &model.model).await?;
                swept.points.push(Point::new(family, strength, model.node, scores));
            }
            repeats.push(swept);
        }
        self.conclude(lab, repeats).await
    }
}

/// What one pair of ends gave.
struct Swept {
    before: Scores,
    after: Scores,
    /// Everything measured, the ends among it.
    points: Vec<Point>,
    /// By mean ratio: what the solver found, and what the grid did, if it was searched.
    solved: Vec<(Solution, Option<Solution>)>,
}

/// A reading of one mixture.
struct Sweep<'a> {
    school: &'a School<'a>,
    name: &'a str,
    blocks: Blocks,
    ends: [&'a Trained; 2],
    interpolator: Pool<Interpolator>,
}

impl AlignmentTax {
    fn blocks(&self, n_layers: usize) -> Result<Blocks> {
        if self.blocks.cuts.is_empty() {
            Blocks::even(n_layers, self.blocks.n, self.blocks.rest)
        } else {
            Blocks::at(n_layers, &self.blocks.cuts, self.blocks.rest)
        }
    }

    /// Measures the ends, every average, and every fitted mixture.
    async fn sweep(
        &self,
        school: &School<'_>,
        name: &str,
        repeat: u32,
        before: &Trained,
        after: &Trained,
    ) -> Result<Swept> {
        let lab = school.lab;
        let blocks = self.blocks(before.model.config().n_layers)?;
        let interpolator = Interpolator::start(lab.actors(), before.model.clone(), after.model.clone())?;
        let sweep = Sweep { school, name, blocks, ends: [before, after], interpolator };
        let mut ends = Vec::new();
        for (label, end) in [("before", before), ("after", after)] {
            ends.push(school.bench.score(lab, self, &format!("{name}/{label}"), end.node, &end.model).await?);
        }
        let (after_scores, before_scores) = (ends.remove(1), ends.remove(0));
        let mut points = vec![
            Point::new(Family::Average, 0.0, before.node, before_scores.clone()),
            Point::new(Family::Average, 1.0, after.node, after_scores.clone()),
        ];
        let alphas: Vec<Vec<f64>> = self.average.ratios.iter().map(|ratio| vec![*ratio; sweep.blocks.n()]).collect();
        points.extend(sweep.measure(Family::Average, &self.average.ratios, &alphas).await?);
        let mut solved = Vec::new();
        if !self.hma.ratios.is_empty() {
            let praised = school.praised(name, after).await?;
            let examples = examples(&before.model, &praised)?;
            let fit = Fit {
                lab,
                plan: self,
                blocks: &sweep.blocks,
                interpolator: &sweep.interpolator,
                before: &before.model,
                after: &after.model,
                examples: &examples,
            };
            for ratio in &self.hma.ratios {
                let grid = if repeat == 0 && self.hma.grid > 0.0 { fit.search(*ratio).await? } else { None };
                solved.push((fit.solve(*ratio).await?, grid));
            }
            let alphas: Vec<Vec<f64>> = solved.iter().map(|(solution, _)| solution.alpha.clone()).collect();
            points.extend(sweep.measure(Family::Blocks, &self.hma.ratios, &alphas).await?);
            // What the fitted ratios are held against, where the sweep has no average of the same mean.
            let missing: Vec<f64> =
                self.hma.ratios.iter().copied().filter(|ratio| !self.average.ratios.contains(ratio)).collect();
            let equal: Vec<Vec<f64>> = missing.iter().map(|ratio| vec![*ratio; sweep.blocks.n()]).collect();
            points.extend(sweep.measure(Family::Average, &missing, &equal).await?);
        }
        Ok(Swept { before: before_scores, after: after_scores, points, solved })
    }
}

impl Sweep<'_> {
    /// Makes all mixtures in one pass over the parents, records their recipes, measures them.
    async fn measure(&self, family: Family, means: &[f64], alphas: &[Vec<f64>]) -> Result<Vec<Point>> {
        let School { lab, plan, bench, .. } = self.school;
        let ratios = alphas.iter().map(|alpha| self.blocks.ratios(&self.ends[0].model, alpha)).collect();
        let models = self.interpolator.ask(ratios).await?;
        let mut points = Vec::with_capacity(models.len());
        for ((mean, alpha), model) in means.iter().zip(alphas).zip(models) {
            let label = format!("{}/{} {mean}", self.name, family.name());
            let node = record_mixture(lab, &label, &self.blocks, self.ends, alpha, &model).await?;
            let scores = bench.score(lab, plan, &label, node, &model).await?;
            points.push(Point::new(family, *mean, node, scores).with_alpha(alpha));
        }
        Ok(points)
    }
}

/// The nodes of figures that a claim about these points rests on.
fn figures<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<NodeId> {
    points.flat_map(|point| point.scores.figures.iter().copied()).collect()
}
