//! From measured cells to claims, each over seeds.

use tracker_store::{Claim, NodeId};

use super::cell::{Cell, Shape};
use super::settings::RandomFeatures;
use super::{Measured, Measurements};
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, claim_above, over_repeats};

type Found = (Claim, Vec<NodeId>);

/// Over seeds, what `gain` says of two cells with the same ones.
fn paired(first: &Measurements, second: &Measurements, gain: impl Fn(&Measured, &Measured) -> f64) -> Option<Estimate> {
    over_repeats(&first.seeds.iter().zip(&second.seeds).map(|(a, b)| gain(a, b)).collect::<Vec<_>>())
}

/// The estimate with the least lower end, with the cells it is of.
fn weakest(all: Vec<(Estimate, Vec<NodeId>)>) -> (Option<Estimate>, Vec<NodeId>) {
    let nodes = all.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect();
    (all.into_iter().map(|(estimate, _)| estimate).min_by(|a, b| a.low.total_cmp(&b.low)), nodes)
}

fn nodes(cells: &[&Measurements], which: usize) -> Vec<NodeId> {
    cells.iter().map(|measured| measured.means[which]).collect()
}

/// What was found.
///
/// # Errors
/// Those of recording.
pub(super) async fn claims(lab: &Lab, study: &RandomFeatures, all: &[Measurements]) -> Result<Vec<Claim>> {
    let mut found = vec![interpolates(study, all)];
    found.extend(by_examples(study, all));
    found.push(by_width(all));
    found.extend(by_ensemble(all));
    lab.claims(found).await
}

fn interpolates(study: &RandomFeatures, all: &[Measurements]) -> Found {
    let worst = all.iter().flat_map(|of| &of.seeds).map(|measured| measured.residual).fold(0.0, f64::max);
    let claim = Claim {
        id: "solved".into(),
        statement: "every cell is solved: the greatest residual, relative to y, is at most the bound".into(),
        holds: worst <= study.solve.max_residual,
        value: worst,
        low: None,
        high: None,
        bound: Some(study.solve.max_residual),
    };
    (claim, all.iter().flat_map(|of| of.means).collect())
}

/// Cells that differ from `of` only as `differs` says.
fn like<'a>(all: &'a [Measurements], of: &Cell, with: impl Fn(Cell) -> Cell) -> Option<&'a Measurements> {
    let wanted = with(*of);
    all.iter().find(|measured| measured.cell == wanted)
}

/// The fewest examples against the most, at the greatest common width.
fn by_examples(study: &RandomFeatures, all: &[Measurements]) -> Vec<Found> {
    let sizes = &study.data.sizes;
    let (Some(few), Some(many)) = (sizes.iter().min(), sizes.iter().max()) else { return vec![] };
    let Some(width) = study.nets.widths.last().copied().filter(|_| few != many) else { return vec![] };
    let shape = Shape { members: 1, width };
    let cells: Vec<(&Measurements, &Measurements)> = all
        .iter()
        .filter(|of| of.cell.shape == shape && [of.cell.n, of.cell.p] == *few)
        .filter_map(|of| {
            let is_like = |other: &&Measurements| {
                let same_tau = study.data.taus.is_empty() || other.cell.tau == of.cell.tau;
                let Cell { n, p, sigma, .. } = other.cell;
                other.cell.shape == shape && [n, p] == *many && sigma == of.cell.sigma && same_tau
            };
            Some((of, all.iter().find(is_like)?))
        })
        .collect();
    let over = |which, gain: &dyn Fn(&Measured, &Measured) -> f64| {
        let each = cells.iter().filter_map(|(a, b)| Some((paired(a, b, gain)?, nodes(&[a, b], which))));
        weakest(each.collect())
    };
    let (id, id_nodes) = over(0, &|few, many| few.id - many.id);
    // Logarithms of the ratio of losses: above 0 where that out of distribution falls less.
    let (kept, kept_nodes) = over(1, &|few, many| libm::log(many.ood / many.id) - libm::log(few.ood / few.id));
    let of = |n: &[u32; 2]| format!("n = {}", n[0]);
    let statement =
        format!("excess loss within distribution is lower with {} than with {}, at m = {width}n", of(many), of(few));
    let less = format!(
        "from {} to {} the excess loss out of distribution falls less than that within, at m = {width}n (difference of log ratios)",
        of(few),
        of(many)
    );
    vec![
        (claim_above("id_falls_with_n", &statement, id, 0.0), id_nodes),
        (claim_above("ood_is_kept", &less, kept, 0.0), kept_nodes),
    ]
}

/// Every single network against the next wider one.
fn by_width(all: &[Measurements]) -> Found {
    let mut steps = Vec::new();
    for (a, b) in all.iter().zip(all.iter().skip(1)) {
        let is_wider = a.cell.shape.members == 1
            && like(all, &a.cell, |cell| Cell { shape: b.cell.shape, ..cell }).is_some_and(|like| like.cell == b.cell)
            && b.cell.shape.members == 1;
        if is_wider && let Some(estimate) = paired(a, b, |a, b| a.ood - b.ood) {
            steps.push((estimate, nodes(&[a, b], 1)));
        }
    }
    let (estimate, nodes) = weakest(steps);
    let statement = "each step in width lowers the excess loss out of distribution (the step with the least lower end)";
    (claim_above("width_lowers_ood", statement, estimate, 0.0), nodes)
}

/// Every ensemble against one member, and against one network of as many units.
fn by_ensemble(all: &[Measurements]) -> Vec<Found> {
    let against = |width: &dyn Fn(Shape) -> u32| {
        let each = all.iter().filter(|of| of.cell.shape.members > 1).filter_map(|of| {
            let single = Shape { members: 1, width: width(of.cell.shape) };
            let single = like(all, &of.cell, |cell| Cell { shape: single, ..cell })?;
            // A share of the loss of the ensemble: losses of sizes and strengths differ by orders.
            Some((paired(single, of, |single, of| libm::log(single.ood / of.ood))?, nodes(&[single, of], 1)))
        });
        weakest(each.collect())
    };
    if all.iter().all(|of| of.cell.shape.members == 1) {
        return vec![];
    }
    let (member, member_nodes) = against(&|shape| shape.width);
    let (equal, equal_nodes) = against(&|shape| shape.width * shape.members);
    let better = "an ensemble has a lower excess loss out of distribution than a member (log ratio, the weakest pair)";
    let best = "an ensemble has a lower excess loss out of distribution than a network of as many units (log ratio, the weakest pair)";
    vec![
        (claim_above("ensemble_beats_member", better, member, 0.0), member_nodes),
        (claim_above("ensemble_beats_width", best, equal, 0.0), equal_nodes),
    ]
}
