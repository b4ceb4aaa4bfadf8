//! t = α q + β d + γ, task by task: what quality and what diversity of proposals are worth to the aggregator.
//!
//! q and d are z-scored, so that α and β are what one standard deviation brings, and have one standard error. Points share models and
//! queries: intervals come from drawing whole mixtures anew.

use tracker_store::NodeId;

use super::sweep::Point;
use super::world::World;
use crate::error::Result;
use crate::parts::aggregate::{centred_root, k_norm};
use crate::parts::evaluate::Estimate;
use crate::parts::regress::{Fit, clustered, fit, z_scores};

/// What a point's quality is taken for.
type Form<'a> = &'a dyn Fn(&Point) -> f64;

/// A fitted task.
pub(super) struct Regression {
    /// Intervals of α and β, if enough resamples have a fit.
    pub(super) slopes: Option<[Estimate; 2]>,
    /// The figures of α and β.
    pub(super) figures: Vec<NodeId>,
}

fn columns<'a>(points: impl Iterator<Item = &'a Point>, quality: &dyn Fn(&Point) -> f64) -> [Vec<f64>; 3] {
    let mut all = [vec![], vec![], vec![]];
    for point in points {
        all[0].push(quality(point));
        all[1].push(point.diversity);
        all[2].push(point.result);
    }
    all
}

/// The fit of some points; none where q, d or t does not change, or q and d are one.
fn regress([q, d, t]: &[Vec<f64>; 3]) -> Option<Fit> {
    let (q, d) = (z_scores(q).ok()?, z_scores(d).ok()?);
    fit(t, &[&q, &d]).ok()
}

/// Fits the points of one task and records coefficients, errors, R² and what other forms of quality explain.
pub(super) async fn of_task(world: &World<'_>, task: usize, points: &[&Point]) -> Result<Option<Regression>> {
    let (lab, name) = (world.lab, &world.tasks[task]);
    let mean_quality = |point: &Point| point.quality;
    let stage = lab.stage(&format!("regression/{name}"), points.len()).await?;
    let Some(whole) = regress(&columns(points.iter().copied(), &mean_quality)) else {
        lab.note(format!("{name}: quality, diversity or the result does not change over mixtures; nothing is fitted"));
        return Ok(None);
    };
    let clusters: Vec<usize> = points.iter().map(|point| point.mixture).collect();
    let mut stream = lab.seeds().stream(stage.name(), 0, 0);
    let again = |rows: &[usize]| {
        let fit = regress(&columns(rows.iter().map(|row| points[*row]), &mean_quality))?;
        Some(vec![fit.coefficients[0], fit.coefficients[1]])
    };
    let drawn = clustered(&clusters, world.plan.measure.n_resamples, &mut stream, again);
    let slopes = drawn.as_ref().map(|drawn| [drawn.estimates[0], drawn.estimates[1]]);
    let n_degenerate = drawn.as_ref().map_or(f64::NAN, |drawn| f64::from(drawn.n_degenerate));
    let used: Vec<NodeId> = points.iter().flat_map(|point| point.figures).collect();
    let exactly = Estimate::exactly;
    let [alpha, beta] = slopes.unwrap_or([exactly(whole.coefficients[0]), exactly(whole.coefficients[1])]);
    let mut all = vec![
        ("alpha (quality)".to_owned(), alpha),
        ("beta (diversity)".to_owned(), beta),
        ("gamma".to_owned(), exactly(whole.intercept)),
        ("standard error of alpha".to_owned(), exactly(whole.errors[0])),
        ("standard error of beta".to_owned(), exactly(whole.errors[1])),
        ("p of alpha".to_owned(), exactly(whole.p_value(0))),
        ("p of beta".to_owned(), exactly(whole.p_value(1))),
        ("R2".to_owned(), exactly(whole.r_squared)),
    ];
    if n_degenerate.is_finite() {
        all.push(("resamples without a fit".to_owned(), exactly(n_degenerate)));
    }
    for k in &world.plan.sweep.k {
        let forms: [(&str, Form<'_>); 2] = [
            ("K-norm", &|point: &Point| k_norm(&point.qualities, *k)),
            ("centred 1/K", &|point: &Point| centred_root(&point.qualities, *k)),
        ];
        for (form, quality) in forms {
            if let Some(fit) = regress(&columns(points.iter().copied(), quality)) {
                all.push((format!("alpha, {form}, K = {k}"), exactly(fit.coefficients[0])));
                all.push((format!("R2, {form}, K = {k}"), exactly(fit.r_squared)));
            }
        }
    }
    let mut figures = Vec::new();
    for (item, (name, estimate)) in (0..).zip(all) {
        let node = stage.figure(item, &name, estimate, points.len(), &used).await?;
        if item < 2 {
            figures.push(node);
        }
    }
    stage.done(points.len());
    Ok(Some(Regression { slopes, figures }))
}
