//! A policy whose process rewards can be enumerated: what the formulas say, against what they are.

use rand::RngExt;
use tracker_store::{NodeId, Tally};

use super::settings::ErPrm;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::evaluate::Estimate;
use crate::parts::labels::{Estimator, Tabular, expected_label, plug_in_bias};

/// η at which the enumerated policy is looked at.
const ETAS: [f64; 5] = [-2.0, 0.5, 1.0, 2.0, 5.0];
/// Depth and branches of the tree of solutions.
const DEPTH: usize = 4;
const BRANCHES: usize = 4;

/// What the enumerated policy showed.
pub(super) struct Shown {
    /// Largest |dual − primal| and |sum of advantages − difference of rewards| over all prefixes and η.
    pub(super) gap: f64,
    pub(super) figure: NodeId,
}

/// Enumerates a random tree, and records how far the dual form, telescoping and the bias formula are off.
pub(super) async fn oracle(lab: &Lab, plan: &ErPrm) -> Result<Shown> {
    let stage = lab.stage("oracle", ETAS.len()).await?;
    let mut stream = lab.seeds().stream(stage.name(), 0, 0);
    let mut tree = Tabular::new();
    let mut level = vec![0];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for at in level {
            let raw: Vec<f64> = (0..BRANCHES).map(|_| stream.random_range(0.05..1.0)).collect();
            let total: f64 = raw.iter().sum();
            let shares: Vec<f64> = raw.iter().map(|share| share / total).collect();
            next.extend(tree.branch(at, &shares)?);
        }
        level = next;
    }
    for at in level {
        tree.end(at, f64::from(u8::from(stream.random_bool(0.4))))?;
    }
    let mut gap: f64 = 0.0;
    for eta in ETAS {
        let tilted = tree.tilted(eta)?;
        for at in tree.nodes() {
            let reward = tree.process_reward(at, eta)?;
            gap = gap.max((reward - tilted.process_reward(at)?).abs());
            if let Some(parent) = tree.parent(at) {
                let advantage = (tilted.policy().share(at)? / tree.share(at)?).ln() / eta;
                gap = gap.max((reward - tree.process_reward(parent, eta)? - advantage).abs());
            }
        }
    }
    let figure =
        stage.figure(0, "largest gap of dual and telescoping", Estimate::exactly(gap), tree.nodes().len(), &[]).await?;
    let k = plan.rollouts.n_completions;
    for (at, eta) in (1..).zip(ETAS) {
        let truth = Estimator::Entropic(eta).label(Tally { hits: 1, of: 2 })?;
        let bias = expected_label(Estimator::Entropic(eta), 0.5, k)? - truth;
        let name = format!("bias at p = ½, K = {k}, η = {eta}");
        stage.figure(2 * at, &name, Estimate::exactly(bias), 1, &[]).await?;
        let formula = plug_in_bias(0.5, k, eta);
        stage.figure(2 * at + 1, &format!("{name}, by formula"), Estimate::exactly(formula), 1, &[]).await?;
    }
    stage.done(ETAS.len());
    Ok(Shown { gap, figure })
}
