//! What the paper says, and what this run found of it.

use tracker_store::{Claim, NodeId};

use super::oracle::Shown;
use super::raft::Measured;
use super::search::{Chooser, Found, resampler};
use super::world::World;
use crate::error::Result;
use crate::parts::best_of::Aggregator;
use crate::parts::evaluate::{Estimate, claim_above, paired_gain};
use crate::parts::labels::Estimator;

/// Rounding of f64 in a tree of this size stays below this.
const EXACT: f64 = 1e-12;

/// Everything claims rest on.
pub(super) struct Evidence<'a> {
    pub(super) shown: &'a Shown,
    /// Problems in which labels alone choose another winner than the shares, over all η, with the figure; if known.
    pub(super) alike: Option<(usize, NodeId)>,
    pub(super) found: &'a [Found],
    pub(super) entropic: Estimator,
    pub(super) before: Option<&'a Measured>,
    pub(super) after: &'a [(Estimator, Measured)],
}

/// The claims of the study, recorded with what they rest on.
pub(super) async fn claims(world: &World<'_>, evidence: &Evidence<'_>) -> Result<Vec<Claim>> {
    let Evidence { shown, alike, found, entropic, before, after } = evidence;
    let plan = world.plan;
    let mut all: Vec<(Claim, Vec<NodeId>)> = Vec::new();
    all.push((
        within("dual-and-telescoping", "soft-min over the tilted policy and sums of its advantages give the process reward of an enumerated policy", shown.gap, EXACT),
        vec![shown.figure],
    ));
    if let Some((n_other, figure)) = alike {
        all.push((
        within("labels-alone-rank-alike", "ranked by their own labels, min and last choose the same solution at every η: what entropy changes, only a fitted model can show", *n_other as f64, 0.0),
        vec![*figure],
    ));
    }
    let aggregator = plan.aggregator()?;
    let n = plan.search.sizes.last().copied().unwrap_or(1);
    let of = |estimator: Estimator, aggregator: Aggregator| {
        found.iter().find(|found| found.by == Chooser::Labels(estimator) && found.aggregator == aggregator)
    };
    let resampler = resampler(world)?;
    for other in [Estimator::Soft, Estimator::Hard, Estimator::Outcome] {
        // An outcome model has no steps but the last.
        let others = if other == Estimator::Outcome { Aggregator::Last } else { aggregator };
        let (Some(ours), Some(theirs)) = (of(*entropic, aggregator), of(other, others)) else { continue };
        let gain = resampler.paired(&theirs.curves, &ours.curves)?[n as usize - 1];
        let statement = format!(
            "best of {n} by `{entropic}` labels ({aggregator}) is right more often than by `{other}` ({others})"
        );
        all.push((
            claim_above(&format!("er-beats-{other}"), &statement, Some(gain), 0.0),
            vec![ours.figure, theirs.figure],
        ));
    }
    let mut gain = |name: &str, statement: String, from: &Measured, to: &Measured| {
        let mut stream = world.lab.seeds().stream("claims", all.len() as u32, 0);
        let gain: Option<Estimate> = paired_gain(&from.right, &to.right, &mut stream);
        all.push((claim_above(name, &statement, gain, 0.0), vec![from.figure, to.figure]));
    };
    let last = |estimator: Estimator| after.iter().find(|(of, _)| *of == estimator).map(|(_, measured)| measured);
    if let (Some(before), Some(ours)) = (before, last(*entropic)) {
        let rounds = plan.raft.rounds;
        gain(
            "raft-improves",
            format!("{rounds} rounds of rejection sampling by `{entropic}` raise pass@1"),
            before,
            ours,
        );
        for other in [Estimator::Soft, Estimator::Hard] {
            let Some(theirs) = last(other) else { continue };
            let statement = format!("after {rounds} rounds pass@1 is higher by `{entropic}` than by `{other}`");
            gain(&format!("raft-er-beats-{other}"), statement, theirs, ours);
        }
    }
    world.lab.claims(all).await
}

/// A claim that a number that has no interval is at most `bound`.
fn within(id: &str, statement: &str, value: f64, bound: f64) -> Claim {
    Claim {
        id: id.to_owned(),
        statement: statement.to_owned(),
        holds: value <= bound,
        value,
        low: Some(value),
        high: Some(value),
        bound: Some(bound),
    }
}
