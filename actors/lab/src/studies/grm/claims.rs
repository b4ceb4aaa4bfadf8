//! What the paper says, and what this run found of it.

use tracker_store::{Claim, NodeId};

use super::judges::Cell;
use super::policy::Optimised;
use super::search::Found;
use super::world::World;
use crate::error::Result;
use crate::parts::evaluate::{claim_above, crossed};

/// Everything claims rest on.
pub(super) struct Evidence<'a> {
    pub(super) cells: &'a [Cell],
    pub(super) found: &'a [Found],
    /// The regularised method.
    pub(super) grm: &'a str,
    /// Names of pair sets: the largest clean and flipped ones, and the smallest clean one.
    pub(super) lessons: [&'a str; 3],
    /// Policies optimised by `bt` and by `grm`, a repeat each.
    pub(super) policies: [&'a [Optimised]; 2],
}

/// The claims of the study, recorded with what they rest on.
pub(super) async fn claims(world: &World<'_>, evidence: &Evidence<'_>) -> Result<Vec<Claim>> {
    let Evidence { cells, found, grm, lessons, policies } = evidence;
    let [clean, flipped, smallest] = lessons;
    let mut all: Vec<(Claim, Vec<NodeId>)> = Vec::new();
    let mut above = |id: String, statement: String, before: &[Vec<f64>], after: &[Vec<f64>], used: Vec<NodeId>| {
        let mut stream = world.lab.seeds().stream("claims", all.len() as u32, 0);
        let gains = crossed(&less(after, before), &mut stream);
        all.push((claim_above(&id, &statement, gains, 0.0), used));
    };
    let cell = |lessons: &str, method: &str| cells.iter().find(|c| c.lessons == lessons && c.method == method);
    let mut trials = vec![("", *clean), ("-flipped", *flipped)];
    if smallest != clean {
        trials.push(("-small", *smallest));
    }
    for (suffix, lessons) in trials {
        for other in ["bt", "frozen"] {
            let (Some(theirs), Some(ours)) = (cell(lessons, other), cell(lessons, grm)) else { continue };
            for (is_in, short, long) in [(false, "ood", "out of distribution"), (true, "in", "in distribution")] {
                let statement = format!("{grm} orders more pairs right {long} than {other}, from {lessons} pairs");
                let used = theirs.figures.iter().chain(&ours.figures).copied().collect();
                above(
                    format!("{short}-beats-{other}{suffix}"),
                    statement,
                    &theirs.right(is_in),
                    &ours.right(is_in),
                    used,
                );
            }
        }
    }
    let end = |lessons: &str, method: &str| found.iter().find(|f| f.lessons == lessons && f.method == method);
    let n = world.plan.search.n_candidates;
    for (suffix, lessons) in [("", *clean), ("-flipped", *flipped)] {
        for other in ["bt", "ensemble-avg", "ensemble-min"] {
            let (Some(theirs), Some(ours)) = (end(lessons, other), end(lessons, grm)) else { continue };
            let statement =
                format!("the best of {n} by {grm} scores higher than the best by {other}, from {lessons} pairs");
            let id = format!("best-of-n-beats-{other}{suffix}");
            above(id, statement, &theirs.ends, &ours.ends, vec![theirs.figure, ours.figure]);
        }
    }
    let [theirs, ours] = policies.map(|all| all.iter().map(|one| one.gold.clone()).collect::<Vec<_>>());
    if !ours.is_empty() {
        let used = policies.iter().flat_map(|all| all.iter().map(|one| one.figure)).collect();
        let statement = format!(
            "after {} rounds of PPO without a penalty the policy scores higher by {grm} than by bt",
            world.plan.ppo.rounds
        );
        above("ppo-beats-bt".into(), statement, &theirs, &ours, used);
    }
    world.lab.claims(all).await
}

/// `after − before`, repeat by repeat and item by item; what has no partner is left out by [`crossed`], which refuses it.
fn less(after: &[Vec<f64>], before: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let gains = |(after, before): (&Vec<f64>, &Vec<f64>)| after.iter().zip(before).map(|(a, b)| a - b).collect();
    after.iter().zip(before).map(gains).collect()
}
