//! SCE: select the elements that vary most, weigh models by their energy, erase minority signs.

use super::rows::Room;
use super::select::{Cut, Ranks, keep};
use crate::error::Result;
use crate::run::Work;

/// base + Σ ηᵢ δᵢ / Σ ηᵢ over the models with the sign of Σ δᵢ, where the share `select_topk` of the elements whose δ vary
/// most is kept and ηᵢ is in proportion to the mean of δᵢ². Holds a tile, and 0.8 MB of histograms.
///
/// As in mergekit, k is a share of the elements that vary at all, ηᵢ are equal where their sum is below 1e-6, and a
/// divisor is at least 1e-6. Elements are ranked by their deviation rounded to f32, equal ones by their place.
pub(super) fn merge(work: &mut Work<'_>) -> Result<()> {
    let (n, share) = (work.n_models(), work.args.shared("select_topk"));
    let mut room = Room::default();
    let mut mask = Mask { cuts: select(work, share, &mut room)?, n_equal: [0; 2], kept: Vec::new() };
    let mut energy = vec![0.0; n];
    work.look(|at, x| {
        let deltas = room.deltas(x, n);
        mask.next(at, deltas);
        for (energy, delta) in energy.iter_mut().zip(deltas) {
            let squares =
                delta.iter().zip(&mask.kept).map(|(delta, kept)| f64::from(*delta) * f64::from(*delta) * kept);
            *energy += squares.sum::<f64>();
        }
    })?;
    let n_elements = work.n_elements().max(1) as f64;
    for energy in &mut energy {
        *energy /= n_elements;
    }
    let total: f64 = energy.iter().sum();
    let weights: Vec<f64> = energy.iter().map(|e| if total < 1e-6 { 1.0 / n as f64 } else { e / total }).collect();
    let mut sums = Vec::new();
    work.pass(|at, x, out| {
        let deltas = room.deltas(x, n);
        mask.next(at, deltas);
        sums.clear();
        for i in 0..x[0].len() {
            let all: f64 = deltas.iter().map(|delta| f64::from(delta[i])).sum();
            let (mut sum, mut divisor) = (0.0, 0.0);
            for (delta, weight) in deltas.iter().zip(&weights) {
                let delta = f64::from(delta[i]);
                if delta != 0.0 && (delta > 0.0) == (all >= 0.0) {
                    sum += weight * delta;
                    divisor += weight;
                }
            }
            sums.push(mask.kept[i] * sum / divisor.max(1e-6));
        }
        room.put_each(x.get(n), sums.len(), |i| sums[i], out)
    })
}

/// Which elements are kept, asked in their order.
struct Mask {
    /// None keeps all.
    cuts: Option<[Cut; 2]>,
    n_equal: [u64; 2],
    /// Of the tile at hand: 1 for what is kept, 0 for what is not.
    kept: Vec<f64>,
}

impl Mask {
    fn next(&mut self, at: usize, deltas: &[Vec<f32>]) {
        let n = deltas[0].len();
        self.kept.clear();
        let Some(cuts) = self.cuts else { return self.kept.resize(n, 1.0) };
        if at == 0 {
            self.n_equal = [0; 2];
        }
        let mut spread = Vec::new();
        deviations(deltas, &mut spread);
        keep(&mut spread, cuts, &mut self.n_equal);
        self.kept.extend(spread.iter().map(|spread| f64::from(u8::from(*spread != 0.0))));
    }
}

/// The cuts that keep `share` of the elements that vary.
fn select(work: &mut Work<'_>, share: f64, room: &mut Room) -> Result<Option<[Cut; 2]>> {
    if share >= 1.0 {
        return Ok(None);
    }
    let n = work.n_models();
    let (mut ranks, mut spread, mut n_varying) = (Ranks::new(), Vec::new(), 0_u64);
    work.look(|_, x| {
        deviations(room.deltas(x, n), &mut spread);
        n_varying += spread.iter().filter(|spread| **spread != 0.0).count() as u64;
        ranks.count(&spread);
    })?;
    let cuts = [0, (n_varying as f64 * share) as u64];
    ranks.ask(&cuts);
    if cuts[1] > 0 {
        work.look(|_, x| {
            deviations(room.deltas(x, n), &mut spread);
            ranks.refine(&spread);
        })?;
    }
    let found = ranks.cuts(&cuts);
    Ok(Some([found[0], found[1]]))
}

/// The standard deviation of each element over the models: it ranks as the variance does, and does not underflow.
fn deviations(deltas: &[Vec<f32>], out: &mut Vec<f32>) {
    let n = deltas.len() as f64;
    out.clear();
    out.extend((0..deltas[0].len()).map(|i| {
        let mean = deltas.iter().map(|delta| f64::from(delta[i])).sum::<f64>() / n;
        let square = |delta: &Vec<f32>| (f64::from(delta[i]) - mean) * (f64::from(delta[i]) - mean);
        (deltas.iter().map(square).sum::<f64>() / n).sqrt() as f32
    }));
}
