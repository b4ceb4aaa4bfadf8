//! The volume that a set of points dominates, up to a reference point.

mod four;
mod low;
mod wfg;

use crate::error::{Error, Result};
use crate::objective::Points;

/// Exact hypervolume: the measure of what the points dominate and what dominates `reference`, in the product of the units of
/// the objectives.
///
/// `reference` is `[m]`, in the objectives' own values and directions (a bad point). Points that are not better than it in
/// every objective contribute nothing. Dominated and equal points change nothing. A point at an infinitely good value makes
/// the volume infinite.
///
/// Two objectives: a sweep, O(n log n). Three: a sweep with a staircase, O(n log n) but for insertions. Four: a sweep with
/// exclusive volumes in three, O(n²). Five and more: slices, and exclusive volumes by limit sets, exponential in m at worst.
/// Source: While, Bradstreet and Barone 2012 (limit sets); Guerreiro and Fonseca 2018 (sweeping the last objective).
///
/// # Errors
/// `Reference` if `reference` is not `[m]` or not finite.
pub fn hypervolume(points: &Points, reference: &[f64]) -> Result<f64> {
    Ok(volume(points.m(), &gains(points, reference)?.1))
}

/// What each point alone adds to the hypervolume, `[n]`: the volume of all less that of all others. Dominated points and
/// points that have an equal add nothing. Costs n hypervolumes.
///
/// # Errors
/// `Reference` as in [`hypervolume`].
pub fn contributions(points: &Points, reference: &[f64]) -> Result<Vec<f64>> {
    let m = points.m();
    let (numbers, all) = gains(points, reference)?;
    let mut added = vec![0.0; points.len()];
    let on = crate::non_dominated(points);
    let mut clipped = Vec::new();
    for (at, (number, own)) in numbers.iter().zip(all.chunks_exact(m)).enumerate() {
        if !on[*number as usize] {
            continue;
        }
        clipped.clear();
        for (_, other) in all.chunks_exact(m).enumerate().filter(|(i, _)| *i != at) {
            clipped.extend(own.iter().zip(other).map(|(a, b)| a.min(*b)));
        }
        let whole: f64 = own.iter().product();
        let shared = if whole.is_finite() { volume(m, &clipped) } else { 0.0 };
        added[*number as usize] = (whole - shared).max(0.0);
    }
    Ok(added)
}

/// The default reference point, `[m]` in the objectives' own values: in each objective the worst finite value of all points.
/// None where an objective has no finite value.
///
/// A point that is worst in one objective contributes nothing to a volume up to it; give your own reference to count such
/// points, and always where volumes of two fronts are compared.
#[must_use]
pub fn worst(points: &Points) -> Option<Vec<f64>> {
    let mut worst = vec![f64::NEG_INFINITY; points.m()];
    for i in 0..points.len() {
        for (worst, cost) in worst.iter_mut().zip(points.cost(i)) {
            if cost.is_finite() {
                *worst = worst.max(*cost);
            }
        }
    }
    if worst.iter().any(|w| !w.is_finite()) {
        return None;
    }
    // A cost is its own inverse.
    Some(worst.iter().zip(points.directions()).map(|(w, d)| d.cost(*w)).collect())
}

/// How far each point is better than the reference, for those that are in every objective: their numbers, and `[n, m]`.
fn gains(points: &Points, reference: &[f64]) -> Result<(Vec<u32>, Vec<f64>)> {
    let m = points.m();
    if reference.len() != m || reference.iter().any(|r| !r.is_finite()) {
        return Err(Error::Reference { expected: m, got: reference.to_vec() });
    }
    let reference: Vec<f64> = reference.iter().zip(points.directions()).map(|(r, d)| d.cost(*r)).collect();
    let mut numbers = Vec::new();
    let mut gains = Vec::new();
    for (i, cost) in points.costs().chunks_exact(m).enumerate() {
        if cost.iter().zip(&reference).all(|(c, r)| c < r) {
            numbers.push(i as u32);
            gains.extend(cost.iter().zip(&reference).map(|(c, r)| r - c));
        }
    }
    Ok((numbers, gains))
}

/// Volume of the union of the boxes from 0 to each row of `gains`, `[n, m]`, all above 0.
fn volume(m: usize, gains: &[f64]) -> f64 {
    if gains.iter().any(|g| g.is_infinite()) {
        return f64::INFINITY;
    }
    match m {
        1 => gains.iter().fold(0.0, |most, g| g.max(most)),
        2 => low::two(gains.as_chunks().0.to_vec()),
        3 => low::three(gains.as_chunks().0.to_vec()),
        4 => four::Four::default().volume(0.0, std::iter::empty(), four::sorted(gains.as_chunks().0).into_iter()),
        5 => wfg::five(gains.as_chunks().0.to_vec()),
        _ => wfg::six(gains.as_chunks().0.to_vec()),
    }
}
