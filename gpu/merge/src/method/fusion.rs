//! Arcee fusion: the other model's numbers where their change matters most.

use super::rows::Room;
use super::select::Ranks;
use crate::error::Result;
use crate::run::Work;

/// What is added to the softmax of mergekit, so that no quotient is taken by zero.
const SMALL: f64 = 1e-8;

/// The other model's element where |x − base| · KL(softmax of its row ‖ softmax of the base's row) reaches the median plus
/// 1.5 times the distance of the quartiles, the base's elsewhere. Rows are along the last side.
///
/// Quantiles are those of all elements, found exactly from importances rounded to f32; mergekit estimates them from a
/// million random ones where there are more. Holds a row, a number for each row, and 1.8 MB of histograms.
pub(super) fn merge(work: &mut Work<'_>) -> Result<()> {
    let n = work.n_elements();
    let row = work.shape().last().copied().unwrap_or(1).max(1);
    work.by_rows(row);
    let (mut divergences, mut scores, mut ranks) = (Vec::with_capacity(n / row), Vec::new(), Ranks::new());
    work.look(|at, x| {
        let rows = x[0].chunks(row).zip(x[1].chunks(row));
        divergences.extend(rows.map(|(x, base)| divergence(x, base)));
        importances(x, row, &divergences[at / row..], &mut scores);
        ranks.count(&scores);
    })?;
    let last = n.saturating_sub(1);
    // Of n numbers the one with n − i that are not below it, in the order of falling magnitude.
    let cuts = [1, 2, 3].map(|quarter| (n - last * quarter / 4) as u64);
    ranks.ask(&cuts);
    work.look(|at, x| {
        importances(x, row, &divergences[at / row..], &mut scores);
        ranks.refine(&scores);
    })?;
    let found: Vec<f64> = ranks.cuts(&cuts).iter().map(|cut| f64::from(cut.magnitude())).collect();
    let threshold = found[1] + 1.5 * (found[2] - found[0]);
    let mut room = Room::default();
    work.pass(|at, x, out| {
        importances(x, row, &divergences[at / row..], &mut scores);
        let taken = |i: usize| f64::from(if f64::from(scores[i]) >= threshold { x[0][i] } else { x[1][i] });
        room.put_each(None, x[0].len(), taken, out)
    })
}

/// Σ p log(p / q) over a row, never below zero.
fn divergence(x: &[f32], base: &[f32]) -> f64 {
    let normal = |row: &[f32]| {
        let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        (most, row.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>())
    };
    let (x_normal, base_normal) = (normal(x), normal(base));
    let share = |x: f32, (most, total): (f64, f64)| (f64::from(x) - most).exp() / total + SMALL;
    let terms = x.iter().zip(base).map(|(x, base)| {
        let (p, q) = (share(*x, x_normal), share(*base, base_normal));
        p * (p / q).ln()
    });
    terms.sum::<f64>().max(0.0)
}

/// What each element's change matters, rounded to f32; `divergences` are those of the tile's rows.
fn importances(x: &[Vec<f32>], row: usize, divergences: &[f64], out: &mut Vec<f32>) {
    out.clear();
    let pairs = x[0].iter().zip(&x[1]).enumerate();
    out.extend(pairs.map(|(i, (x, base))| ((f64::from(*x) - f64::from(*base)).abs() * divergences[i / row]) as f32));
}
