//! Model stock: how far from the base towards the average, by the angle between differences.

use super::rows::{Products, Room, products};
use crate::error::Result;
use crate::run::Work;

/// base + t · mean(δ) with t = N c / (1 + (N − 1) c), c the mean cosine of pairs of differences; of the whole tensor, or of
/// each row (`filter_wise`). Holds a tile or a row.
pub(super) fn merge(work: &mut Work<'_>) -> Result<()> {
    let n = work.n_models();
    let mut room = Room::default();
    if !work.args.is_on("filter_wise") {
        let factors = vec![share(&products(work, &mut room)?, n); n];
        return work.pass(|_, x, out| room.put(x, &factors, out));
    }
    let row = work.shape().last().copied().unwrap_or(1).max(1);
    work.by_rows(row);
    let mut products = Products::new(n);
    let mut sums = Vec::new();
    work.pass(|_, x, out| {
        sums.clear();
        let deltas = room.deltas(x, n);
        for from in (0..x[0].len()).step_by(row) {
            products.clear();
            products.add(deltas, from, from + row);
            let share = share(&products, n);
            sums.extend(
                (from..from + row).map(|i| deltas.iter().map(|delta| share * f64::from(delta[i])).sum::<f64>()),
            );
        }
        room.put_each(x.get(n), sums.len(), |i| sums[i], out)
    })
}

/// t / N: what of each difference is added to the base.
fn share(products: &Products, n: usize) -> f64 {
    let mut cosines = 0.0;
    for i in 0..n {
        for j in i + 1..n {
            let lengths = (products.length(i) * products.length(j)).max(1e-6);
            cosines += (products.at(i, j) / lengths).clamp(-1.0, 1.0);
        }
    }
    let count = n as f64;
    let cosine = cosines / (count * (count - 1.0) / 2.0);
    let divisor = 1.0 + (count - 1.0) * cosine;
    if divisor.abs() < 1e-6 { 0.0 } else { cosine / divisor }
}
