//! Dropping points that are plainly dominated, before anything is sorted.
//!
//! A sample names the points that dominate most of it; one pass drops what they dominate. Repeated on what is left, whose
//! sample lies closer to the front, as long as a pass is worth its price.

use crate::objective::Points;

/// Points in a sample.
const SAMPLE: usize = 128;
/// Those of a sample among which dominators are chosen.
const CANDIDATES: usize = 24;
/// Dominators of one pass.
const MOST: usize = 6;
/// Fewer points than this are not worth a pass.
const FEW: usize = 600;

/// The points that may be on the front, by number, rising. All that are dropped are dominated.
pub(crate) fn prune(points: &Points) -> Vec<u32> {
    match points.m() {
        1 => prune_in::<1>(points),
        2 => prune_in::<2>(points),
        3 => prune_in::<3>(points),
        4 => prune_in::<4>(points),
        5 => prune_in::<5>(points),
        _ => prune_in::<6>(points),
    }
}

fn prune_in<const M: usize>(points: &Points) -> Vec<u32> {
    let (rows, _) = points.costs().as_chunks::<M>();
    let mut left: Vec<u32> = Vec::new();
    let mut whole = true;
    loop {
        let n = if whole { rows.len() } else { left.len() };
        if n < FEW {
            break;
        }
        let nth = |i: usize| if whole { i } else { left[i] as usize };
        let sample: Vec<[f64; M]> = (0..SAMPLE).map(|i| rows[nth(i * (n / SAMPLE) + (i * 7) % (n / SAMPLE))]).collect();
        let dominators = best_of(&sample);
        if dominators.is_empty() {
            break;
        }
        let mut kept = Vec::with_capacity(if whole { n / 4 } else { n });
        if whole {
            kept.extend((0..n as u32).filter(|i| survives(&rows[*i as usize], &dominators)));
        } else {
            kept.extend(left.iter().copied().filter(|i| survives(&rows[*i as usize], &dominators)));
        }
        // A sample may mislead; then there is no next pass.
        let is_worth_it = kept.len() * 10 <= n * 9;
        left = kept;
        whole = false;
        if !is_worth_it {
            break;
        }
    }
    if whole { (0..rows.len() as u32).collect() } else { left }
}

fn survives<const M: usize>(row: &[f64; M], dominators: &[[f64; M]]) -> bool {
    !dominators.iter().any(|d| is_dominated(row, d))
}

/// Whether `d` dominates the row; without branches, which a random row would mislead.
fn is_dominated<const M: usize>(row: &[f64; M], d: &[f64; M]) -> bool {
    let (mut nowhere_worse, mut somewhere_better) = (true, false);
    for k in 0..M {
        nowhere_worse &= d[k] <= row[k];
        somewhere_better |= d[k] < row[k];
    }
    nowhere_worse & somewhere_better
}

/// Those of a sample that dominate most of it, chosen one after another; none if together they dominate too little.
fn best_of<const M: usize>(sample: &[[f64; M]]) -> Vec<[f64; M]> {
    let mut alive: Vec<[f64; M]> = sample.to_vec();
    let gain = |d: &[f64; M], alive: &[[f64; M]]| alive.iter().filter(|row| is_dominated(row, d)).count();
    let mut candidates: Vec<(usize, [f64; M])> = sample.iter().map(|d| (gain(d, &alive), *d)).collect();
    candidates.sort_by_key(|c| std::cmp::Reverse(c.0));
    candidates.truncate(CANDIDATES);
    let mut chosen = Vec::new();
    while chosen.len() < MOST {
        let Some((n, best)) = candidates.iter().map(|c| (gain(&c.1, &alive), c.1)).max_by_key(|(n, _)| *n) else {
            break;
        };
        // Comparing all that are left must drop a share of them.
        if n * 12 < alive.len().max(SAMPLE / 4) {
            break;
        }
        chosen.push(best);
        alive.retain(|row| !is_dominated(row, &best));
    }
    if alive.len() * 10 <= sample.len() * 7 { chosen } else { Vec::new() }
}
