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
use tracker_store::{Claim, Figure, NodeId, Recording, StageId};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::evaluate::over_repeats;
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
        for cell in self.grid() {
            all.push(self.cell(lab, &solver, cell).await?);
        }
        claims::claims(lab, self, &all).await
    }
}

impl RandomFeatures {
    /// Measures a cell for every seed that is not recorded yet, and the means.
    async fn cell(&self, lab: &Lab, solver: &tracker_actors::Pool<Solver>, cell: Cell) -> Result<Measurements> {
        let seeds = &self.data.seeds;
        let stage = lab.stage(&cell.name(), seeds.len()).await?;
        // What a killed run measured is read back: all figures of a seed are recorded together.
        let mut found: Vec<Option<[f64; 5]>> = vec![None; seeds.len()];
        for entry in lab.store().figures(lab.run(), Some(StageId::of(stage.name()))) {
            let (node, figure) = entry?;
            if let Some(row) = node.row() {
                let place = seeds.iter().position(|seed| *seed == row.item);
                let numbers = place.and_then(|place| found.get_mut(place)).map(|found| found.get_or_insert([0.0; 5]));
                if let Some(number) = numbers.and_then(|numbers| numbers.get_mut(row.k as usize)) {
                    *number = figure.value;
                }
            }
        }
        let missing: Vec<usize> = (0..seeds.len()).filter(|at| found[*at].is_none()).collect();
        let run_seed = lab.plan().seed;
        let asked = missing.into_iter().map(|at| (at, Work { cell, run_seed, seed: seeds[at] }));
        let mut answers = std::pin::pin!(solver.ask_all(asked.collect::<Vec<_>>()));
        let mut n_done = found.iter().flatten().count();
        while let Some((at, answer)) = answers.next().await {
            let measured = answer?;
            lab.check()?;
            let mut recording = Recording::new();
            for (k, (name, value)) in (0..).zip(Measured::NAMES.iter().zip(measured.numbers())) {
                let figure = Figure {
                    name: (*name).to_owned(),
                    value,
                    low: None,
                    high: None,
                    n: u64::from(self.data.n_test),
                    unit: String::new(),
                    split: format!("seed {}", seeds[at]),
                };
                recording.put_figure(stage.row(seeds[at], k), &figure)?;
            }
            lab.record(recording).await?;
            found[at] = Some(measured.numbers());
            n_done += 1;
            stage.done(n_done);
        }
        let measured: Vec<Measured> = found.into_iter().flatten().map(Measured::of).collect();
        let means = lab.stage(&format!("mean {}", cell.name()), 2).await?;
        let mut nodes = Vec::new();
        for (k, name) in (0..2).zip(Measured::NAMES) {
            let values: Vec<f64> = measured.iter().map(|measured| measured.numbers()[k as usize]).collect();
            let estimate = over_repeats(&values).ok_or_else(|| Error::Internal("a cell without seeds".into()))?;
            let used: Vec<NodeId> = seeds.iter().map(|seed| NodeId::figure(stage.row(*seed, k))).collect();
            nodes.push(means.figure(k, name, estimate, values.len(), &used).await?);
        }
        Ok(Measurements { cell, seeds: measured, means: [nodes[0], nodes[1]] })
    }
}
