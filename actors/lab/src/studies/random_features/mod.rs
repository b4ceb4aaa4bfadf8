//! Over-parameterised random features within and out of distribution: what width and ensembles do for either.
//!
//! Paper: "On the Benefits of Over-parameterization for Out-of-Distribution Generalization" (arXiv 2403.17592), by its rectified
//! random-feature model; the constants of its simulation are not published, so that all are keys of the plan.
//!
//! x has one strong coordinate and a long tail of weak ones, y is the strong one with noise; a network is a layer of random rectified
//! units and the solution of least norm (or a ridge solution) on top; the shift is independent of x. Every cell of the grid over
//! (n, p, m, M, τ, σ, seed) is a message to a supervised worker, and recorded with its residual and condition number.
//!
//! Claims tested: wide networks interpolate; more examples lower the loss within distribution, and that out of distribution falls
//! less; each doubling of width lowers it; an ensemble is better than one of its members. And one that does not hold in this
//! model: that an ensemble is better than one network of as many units.

mod cell;
mod claims;
mod settings;
#[cfg(test)]
mod tests;

use futures::StreamExt;
use tracker_actors::Pool;
use tracker_store::{Claim, Figure, NodeId, Recording, StageId};

use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::evaluate::over_repeats;
use crate::plot::{Plot, Points};
use crate::study::Study;

use cell::{Cell, Measured, Solver, Work};
pub use settings::{DataSettings, NetSettings, RandomFeatures, SolveSettings};

/// The generator behind every stream, as it is recorded.
const GENERATOR: &str = "Philox4x32-10, normal quantiles in 32 steps an octave; key = BLAKE3(purpose, run's seed, cell's seed, n, p, member)";

/// A cell over its seeds.
struct Measurements {
    cell: Cell,
    /// By seed.
    seeds: Vec<Measured>,
    /// The figures of both means.
    means: [NodeId; 2],
}

impl Study for RandomFeatures {
    const NAME: &'static str = "random_features";
    const PAPER: &'static str = "arXiv 2403.17592";
    const ABOUT: &'static str = "over-parameterised random features: loss within and out of distribution, ensembles";

    const PLOTS: &'static [Plot] = &[
        Plot {
            title: "Excess loss within distribution by width",
            points: &[Points {
                figures: "mean n {n} p {p} m {x} M {M} tau {tau} sigma {sigma}: L_ID",
                splits: &[],
                series: "n {n}, M {M}, τ {tau}, σ {sigma}",
            }],
            across: "m, units of a member",
            up: "L_ID",
            is_log: [true, true],
            ..Plot::NEW
        },
        Plot {
            title: "Excess loss out of distribution by width",
            points: &[Points {
                figures: "mean n {n} p {p} m {x} M {M} tau {tau} sigma {sigma}: L_OOD",
                splits: &[],
                series: "n {n}, M {M}, τ {tau}, σ {sigma}",
            }],
            across: "m, units of a member",
            up: "L_OOD",
            is_log: [true, true],
            ..Plot::NEW
        },
    ];

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        lab.define("random numbers", GENERATOR).await?;
        lab.define(
            "precision",
            "features and inner products f32, solutions and losses f64, refined against the features",
        )
        .await?;
        lab.define("condition", "greatest over least eigenvalue of the Gram matrix, the worst member's").await?;
        let solver = Solver::start(lab.actors(), lab.workers(), lab.device(), self)?;
        let mut all = Vec::new();
        for cells in self.grid().chunk_by(Cell::shares_examples) {
            all.extend(self.family(lab, &solver, cells).await?);
        }
        claims::claims(lab, self, &all).await
    }
}

impl RandomFeatures {
    /// Measures cells that share their examples, for every seed that is not recorded yet, and the means.
    async fn family(&self, lab: &Lab, solver: &Pool<Solver>, cells: &[Cell]) -> Result<Vec<Measurements>> {
        let seeds = &self.data.seeds;
        let mut stages = Vec::new();
        // What a killed run measured is read back: all figures of a seed are recorded together.
        let mut found: Vec<Vec<Option<Measured>>> = Vec::new();
        for cell in cells {
            let stage = lab.stage(&cell.name(), seeds.len()).await?;
            found.push(self.recorded(lab, &stage)?);
            stages.push(stage);
        }
        let Some(first) = cells.first() else { return Ok(vec![]) };
        // Features are made for all of them, so that the time is that of the family.
        let family = lab.stage(&format!("solve {}", first.family()), seeds.len()).await?;
        let is_missing = |at: &usize| found.iter().any(|cell| cell[*at].is_none());
        let missing: Vec<usize> = (0..seeds.len()).filter(is_missing).collect();
        let mut n_done = seeds.len() - missing.len();
        let work = |at| Work { cells: cells.to_vec(), run_seed: lab.plan().seed, seed: seeds[at] };
        let asked: Vec<(usize, Work)> = missing.into_iter().map(|at| (at, work(at))).collect();
        let mut answers = std::pin::pin!(solver.ask_all(asked));
        while let Some((at, answer)) = answers.next().await {
            let measured = answer?;
            lab.check()?;
            let mut recording = Recording::new();
            for ((stage, found), measured) in stages.iter().zip(&mut found).zip(measured) {
                self.put(&mut recording, stage, seeds[at], measured)?;
                found[at] = Some(measured);
            }
            lab.record(recording).await?;
            n_done += 1;
            stages.iter().chain([&family]).for_each(|stage| stage.done(n_done));
        }
        let mut all = Vec::new();
        for ((cell, stage), found) in cells.iter().zip(&stages).zip(found) {
            all.push(self.means(lab, *cell, stage, found.into_iter().flatten().collect()).await?);
        }
        Ok(all)
    }

    /// What is recorded of a cell, by seed.
    fn recorded(&self, lab: &Lab, stage: &Stage<'_>) -> Result<Vec<Option<Measured>>> {
        let seeds = &self.data.seeds;
        let mut found: Vec<Option<[f64; 5]>> = vec![None; seeds.len()];
        for entry in lab.store().figures(lab.run(), Some(StageId::of(stage.name()))) {
            let (node, figure) = entry?;
            let Some(row) = node.row() else { continue };
            let place = seeds.iter().position(|seed| *seed == row.item);
            let numbers = place.and_then(|place| found.get_mut(place)).map(|found| found.get_or_insert([0.0; 5]));
            if let Some(number) = numbers.and_then(|numbers| numbers.get_mut(row.k as usize)) {
                *number = figure.value;
            }
        }
        Ok(found.into_iter().map(|numbers| numbers.map(Measured::of)).collect())
    }

    /// Puts what was measured of a cell with one seed.
    fn put(&self, recording: &mut Recording, stage: &Stage<'_>, seed: u32, measured: Measured) -> Result<()> {
        for (k, (name, value)) in (0..).zip(Measured::NAMES.iter().zip(measured.numbers())) {
            let figure = Figure {
                name: (*name).to_owned(),
                value,
                low: None,
                high: None,
                n: u64::from(self.data.n_test),
                unit: String::new(),
                split: format!("seed {seed}"),
            };
            recording.put_figure(stage.row(seed, k), &figure)?;
        }
        Ok(())
    }

    /// Means over seeds.
    async fn means(&self, lab: &Lab, cell: Cell, stage: &Stage<'_>, seeds: Vec<Measured>) -> Result<Measurements> {
        let means = lab.stage(&format!("mean {}", cell.name()), 2).await?;
        let mut nodes = Vec::new();
        for (k, name) in (0..2).zip(Measured::NAMES) {
            let values: Vec<f64> = seeds.iter().map(|measured| measured.numbers()[k as usize]).collect();
            let estimate = over_repeats(&values).ok_or_else(|| Error::Internal("a cell without seeds".into()))?;
            let used: Vec<NodeId> = self.data.seeds.iter().map(|seed| NodeId::figure(stage.row(*seed, k))).collect();
            nodes.push(means.figure(k, name, estimate, values.len(), &used).await?);
        }
        Ok(Measurements { cell, seeds, means: [nodes[0], nodes[1]] })
    }
}
