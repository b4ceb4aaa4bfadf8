//! Methods that need to see no more than one element of each model.

use super::rows::Room;
use crate::error::Result;
use crate::run::Work;

/// w · x + (1 − w) · base with w = t / |base − x|, at most 1: what is near the base is taken from the other. Holds a tile.
pub(super) fn nearswap(work: &mut Work<'_>) -> Result<()> {
    let t = work.args.shared("t");
    let mut room = Room::default();
    work.pass(|_, x, out| {
        let swapped = |i: usize| {
            let (other, base) = (f64::from(x[0][i]), f64::from(x[1][i]));
            let weight = (t / (base - other).abs().max(1e-6)).clamp(0.0, 1.0);
            weight * other + (1.0 - weight) * base
        };
        room.put_each(None, x[0].len(), swapped, out)
    })
}

/// base + Σ δᵢ / n, over the n models that moved an element by more than `epsilon`. Holds a tile.
pub(super) fn ram(work: &mut Work<'_>) -> Result<()> {
    let scales = vec![1.0; work.n_models()];
    moved(work, &scales)
}

/// As [`ram`], with what one model alone moved scaled by 1 + r · min(ρ, alpha); ρ is how often the model moved what others
/// moved too, for each element it moved alone. Holds a tile.
pub(super) fn ram_plus(work: &mut Work<'_>) -> Result<()> {
    let (r, alpha, epsilon) = (work.args.shared("r"), work.args.shared("alpha"), work.args.shared("epsilon"));
    let n = work.n_models();
    // How often each model moved an element alone, and with others.
    let mut counts = vec![[0_u64; 2]; n];
    let mut room = Room::default();
    work.look(|_, x| {
        let deltas = room.deltas(x, n);
        for i in 0..x[0].len() {
            let has_moved = |delta: &&Vec<f32>| f64::from(delta[i].abs()) > epsilon;
            let is_shared = usize::from(deltas.iter().filter(has_moved).count() > 1);
            for (counts, delta) in counts.iter_mut().zip(deltas) {
                counts[is_shared] += u64::from(has_moved(&delta));
            }
        }
    })?;
    let scale = |[alone, shared]: &[u64; 2]| {
        let ratio = *shared as f64 / (*alone as f64).max(epsilon);
        1.0 + r * if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, alpha) }
    };
    let scales: Vec<f64> = counts.iter().map(scale).collect();
    moved(work, &scales)
}

fn moved(work: &mut Work<'_>, scales: &[f64]) -> Result<()> {
    let (n, epsilon) = (scales.len(), work.args.shared("epsilon"));
    let mut room = Room::default();
    let mut sums = Vec::new();
    work.pass(|_, x, out| {
        sums.clear();
        let deltas = room.deltas(x, n);
        for i in 0..x[0].len() {
            let (mut count, mut sum, mut scale) = (0_u32, 0.0, 1.0);
            for (delta, own) in deltas.iter().zip(scales) {
                let delta = f64::from(delta[i]);
                if delta.abs() > epsilon {
                    (count, sum, scale) = (count + 1, sum + delta, *own);
                }
            }
            sums.push(if count > 1 { sum / f64::from(count) } else { sum * scale });
        }
        room.put_each(x.get(n), sums.len(), |i| sums[i], out)
    })
}
