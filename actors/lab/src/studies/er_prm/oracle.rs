//! A policy whose process rewards can be enumerated: what the formulas say, against what they are.

use rand::RngExt;
use tracker_store::{NodeId, Recording, Tally};

use super::settings::ErPrm;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::evaluate::Estimate;
use crate::parts::labels::{Estimator, Tabular, expected_label, plug_in_bias};
use crate::parts::record::{FileRow, put_file_rows};

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
    let mut rows = Vec::with_capacity(level.len());
    for at in level {
        let reward = u8::from(stream.random_bool(0.4));
        tree.end(at, f64::from(reward))?;
        let (mut path, mut next) = (Vec::new(), Some(at));
        while let Some(node) = next {
            path.push(node);
            next = tree.parent(node);
        }
        let shares = path.iter().rev().skip(1).map(|node| tree.share(*node)).collect::<Result<Vec<f64>>>()?;
        path.reverse();
        rows.push(FileRow {
            line: serde_json::json!({"path": path, "shares": shares, "reward": reward}).to_string(),
            source: None,
        });
    }
    let mut recording = Recording::new();
    let solutions = put_file_rows(lab, &mut recording, "enumerated solutions", &rows, &[])?;
    lab.record(recording).await?;
    let used = [solutions];
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
    let figure = stage
        .figure(0, "largest gap of dual and telescoping", Estimate::exactly(gap), tree.nodes().len(), &used)
        .await?;
    let k = plan.rollouts.n_completions;
    for (at, eta) in (1..).zip(ETAS) {
        let truth = Estimator::Entropic(eta).label(Tally { hits: 1, of: 2 })?;
        let bias = expected_label(Estimator::Entropic(eta), 0.5, k)? - truth;
        let name = format!("bias at p = ½, K = {k}, η = {eta}");
        stage.figure(2 * at, &name, Estimate::exactly(bias), 1, &used).await?;
        let formula = plug_in_bias(0.5, k, eta);
        stage.figure(2 * at + 1, &format!("{name}, by formula"), Estimate::exactly(formula), 1, &used).await?;
    }
    stage.done(ETAS.len());
    Ok(Shown { gap, figure })
}
