//! What the paper says, and what this run found of it.

use tracker_store::{Claim, NodeId};

use super::arms::Arm;
use super::compare::Difference;
use super::pool::Best;
use super::regression::Regression;
use super::world::World;
use crate::error::Result;
use crate::parts::evaluate::{Estimate, claim_above};

/// Everything claims rest on.
pub(super) struct Evidence<'a> {
    pub(super) best: &'a Best,
    /// What Self-MoA is compared with: an id, at what calls or tokens, and the arm.
    pub(super) against: Vec<(&'static str, &'static str, &'a Arm, Difference)>,
    /// Self-MoA in a sequence less the mixed one.
    pub(super) sequence: Option<Difference>,
    /// A fit a task; none where nothing could be fitted.
    pub(super) regressions: &'a [Option<Regression>],
}

/// The claims of the study, recorded with what they rest on.
pub(super) async fn claims(world: &World<'_>, self_moa: &Arm, evidence: Evidence<'_>) -> Result<Vec<Claim>> {
    let Evidence { best, against, sequence, regressions } = evidence;
    let named = &world.models[best.overall].name;
    let chosen = format!("Self-MoA (`{named}`, best on the validation split)");
    let mut all: Vec<(Claim, Vec<NodeId>)> = Vec::new();
    for (id, at, arm, difference) in against {
        let statement = format!(
            "{at} {chosen} is right more often than `{}` ({:.1} and {:.1} calls, {:.0} and {:.0} tokens a query)",
            arm.name, self_moa.calls, arm.calls, self_moa.tokens, arm.tokens
        );
        let mut used = vec![difference.figure];
        used.extend(&best.figures);
        all.push((claim_above(id, &statement, Some(difference.estimate), 0.0), used));
    }
    if let Some(difference) = sequence {
        let statement = "in a sequence of windows over as many candidates the best model alone is right more often than the mixture";
        all.push((
            claim_above("self-seq-beats-mixed-seq", statement, Some(difference.estimate), 0.0),
            vec![difference.figure],
        ));
    }
    if !world.plan.sweep.mixtures.is_empty() {
        for (place, id, what) in [(0, "quality-counts", "quality"), (1, "diversity-counts", "diversity")] {
            let (estimate, used) = weakest(regressions, place);
            let statement = format!(
                "in every task more {what} of the proposals, at the other held, goes with a better result (the coefficient of the \
                 z-scored regression whose lower end, over mixtures drawn anew, is least)"
            );
            all.push((claim_above(id, &statement, estimate, 0.0), used));
        }
    }
    world.lab.claims(all).await
}

/// The coefficient with the least lower end over tasks; none if a task has none.
fn weakest(regressions: &[Option<Regression>], place: usize) -> (Option<Estimate>, Vec<NodeId>) {
    let of = |regression: &Option<Regression>| regression.as_ref()?.slopes.map(|slopes| slopes[place]);
    let estimates: Option<Vec<Estimate>> = regressions.iter().map(of).collect();
    let least = estimates.and_then(|all| all.into_iter().min_by(|a, b| a.low.total_cmp(&b.low)));
    (least, regressions.iter().flatten().filter_map(|regression| regression.figures.get(place).copied()).collect())
}
