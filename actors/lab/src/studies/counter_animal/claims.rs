//! What is claimed of digits, over all cells.

use tracker_store::{Claim, NodeId};

use super::digits::{Cell, OBJECTIVES};
use crate::parts::evaluate::{Estimate, claim_above, over_repeats};

type Found = (Claim, Vec<NodeId>);

/// How far apart two ways of training may be and count as alike, as a share of images.
const ALIKE: f64 = 0.05;
/// How far from one half accuracies of two digits may be and neither digit nor colour decides: half way to what either alone would give.
const UNDECIDED: f64 = 0.25;
const COUNTER: usize = 1;
const DROP: usize = 2;

fn drops(cell: &Cell, objective: usize) -> impl Iterator<Item = f64> {
    cell.accuracies[objective].iter().map(|[common, counter]| common - counter)
}

/// Over seeds, the second less the first.
fn gain(first: impl Iterator<Item = f64>, second: impl Iterator<Item = f64>) -> Option<Estimate> {
    over_repeats(&first.zip(second).map(|(first, second)| second - first).collect::<Vec<f64>>())
}

/// A claim that an estimate lies within `bound` of 0, all of its interval.
fn claim_near(id: &str, statement: &str, estimate: Option<Estimate>, bound: f64) -> Claim {
    Claim {
        holds: estimate.is_some_and(|of| of.low > -bound && of.high < bound),
        ..claim_above(id, statement, estimate, bound)
    }
}

/// What was found of digits; nothing without any.
pub(super) fn claims(cells: &[Cell]) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(cell) = cells.iter().find(|cell| cell.k == 2 && cell.agreement == [0.9, 0.9]) {
        found.extend(of_two(cell));
    }
    found.extend(as_supervised(cells));
    found.extend(steps(cells));
    found.extend(no_robustness(cells));
    found
}

/// Two digits, both agreeing nine times of ten: the paper has 50.1 % of both ways of training. Digit and colour tell as much, so that where they
/// disagree the one that was learnt a little better decides, for all images at once: models differ far more than their means.
fn of_two(cell: &Cell) -> Vec<Found> {
    let reversed = |objective: usize| cell.accuracies[objective].iter().map(|of| of[COUNTER]);
    let alike = gain(reversed(1), reversed(0));
    let nodes = vec![cell.means[0][COUNTER], cell.means[1][COUNTER]];
    let statement = "two digits, p_inv = p_spu = 0.9: where colours are reversed, contrastive training gets as much right as supervised, to 0.25 (digits alone would give 0.9, colours alone 0.1)";
    let mut found = vec![(claim_near("two-digits-alike", statement, alike, UNDECIDED), nodes)];
    for (which, objective) in OBJECTIVES.into_iter().enumerate() {
        let off: Vec<f64> = reversed(which).map(|counter| counter - 0.5).collect();
        let statement = format!(
            "two digits, p_inv = p_spu = 0.9: {} training gets half of the reversed group right, to 0.25, as in the paper (0.501)",
            objective.name()
        );
        let id = format!("two-digits-half-{}", objective.name());
        found.push((claim_near(&id, &statement, over_repeats(&off), UNDECIDED), vec![cell.means[which][COUNTER]]));
    }
    found
}

/// Over all cells, contrastive less supervised accuracy on the reversed group, seed by seed.
fn as_supervised(cells: &[Cell]) -> Option<Found> {
    let n_seeds = cells.first()?.accuracies[0].len();
    let mean = |seed: usize| {
        let of = |cell: &Cell| cell.accuracies[0][seed][COUNTER] - cell.accuracies[1][seed][COUNTER];
        cells.iter().map(of).sum::<f64>() / cells.len() as f64
    };
    let difference = over_repeats(&(0..n_seeds).map(mean).collect::<Vec<f64>>());
    let statement =
        "digits: over all cells, contrastive training gets as much of the reversed group right as supervised, to 0.05";
    let nodes = cells.iter().flat_map(|cell| [cell.means[0][COUNTER], cell.means[1][COUNTER]]).collect();
    Some((claim_near("digits-alike", statement, difference, ALIKE), nodes))
}

/// Pairs of cells that differ in how often colours agree, and in how often digits do.
fn steps(cells: &[Cell]) -> Vec<Found> {
    let mut found = Vec::new();
    for (which, objective) in OBJECTIVES.into_iter().enumerate() {
        for (part, other, says) in [(1, 0, "colour"), (0, 1, "digit")] {
            let pairs = cells.iter().flat_map(|a| cells.iter().map(move |b| (a, b))).filter(|(a, b)| {
                a.k == b.k && a.agreement[other] == b.agreement[other] && a.agreement[part] < b.agreement[part]
            });
            let sign = if part == 1 { 1.0 } else { -1.0 };
            let steps: Vec<(Estimate, [NodeId; 2])> = pairs
                .filter_map(|(a, b)| {
                    let gain = gain(drops(a, which).map(|x| sign * x), drops(b, which).map(|x| sign * x))?;
                    Some((gain, [a.means[which][DROP], b.means[which][DROP]]))
                })
                .collect();
            if steps.is_empty() {
                continue;
            }
            let weakest = steps.iter().map(|(gain, _)| *gain).min_by(|a, b| a.low.total_cmp(&b.low));
            let direction = if part == 1 { "larger" } else { "smaller" };
            let statement = format!(
                "digits, {} training: the more often the {says} agrees with the label, the {direction} the drop (the pair of cells with the least lower end)",
                objective.name()
            );
            let id = format!("drop-by-{says}-{}", objective.name());
            let nodes = steps.into_iter().flat_map(|(_, nodes)| nodes).collect();
            found.push((claim_above(&id, &statement, weakest, 0.0), nodes));
        }
    }
    found
}

/// Over cells, the mean effective robustness of contrastive towers against the line of supervised ones.
fn no_robustness(cells: &[Cell]) -> Option<Found> {
    let (off, nodes): (Vec<f64>, Vec<NodeId>) =
        cells.iter().filter_map(|cell| cell.off.map(|(estimate, node)| (estimate.value, node))).unzip();
    let mean = over_repeats(&off)?;
    let statement = "digits: at equal accuracy on the common group, contrastive towers are as robust as supervised ones, to 0.05 (mean over cells)";
    Some((claim_near("digits-effective-robustness", statement, Some(mean), ALIKE), nodes))
}
