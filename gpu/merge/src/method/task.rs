//! Task arithmetic and its kin: differences to a base, some of each kept, summed with or without an election of signs.
//!
//! δᵢ = xᵢ − base, rounded to f32; what is kept is multiplied by the weight and summed in f64, and rounded once.

use super::ranked::Ranked;
use super::select::{Cut, Ranks, keep};
use super::sparse::{Philox, threshold};
use crate::error::Result;
use crate::lanes;
use crate::run::Work;

/// What is kept of a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it.
    All,
    /// The share `density` of the largest magnitudes (TIES).
    Largest,
    /// All but the share `gamma` of the largest, and of the rest down to the share `density` (breadcrumbs).
    Middle,
    /// Each element with probability `density` (DARE).
    Random,
    /// Each element with a probability around `density` that rises with its rank in its row (DELLA). Holds a row.
    Ranked,
}

/// How differences are summed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    /// All of them.
    All,
    /// Those with the sign of their sum (TIES).
    Elected,
}

pub(super) fn merge(work: &mut Work<'_>, kept: Kept, sum: Sum) -> Result<()> {
    let weights = work.args.each("weight");
    let (lambda, is_normalized) = (work.args.shared("lambda"), work.args.is_on("normalize"));
    let mut masks = masks(work, kept)?;
    let scales = if work.args.is_on("rescale") { scales(work, &mut masks)? } else { vec![1.0; weights.len()] };
    let factors: Vec<f64> = weights.iter().zip(&scales).map(|(weight, scale)| weight * scale).collect();
    let total: f64 = weights.iter().sum();
    let total = if total.abs() < 1e-8 { 1.0 } else { total };
    let mut deltas = vec![Vec::new(); weights.len()];
    let (mut all, mut mixed, mut divisor, mut merged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    work.pass(|at, x, out| {
        differences(at, x, &mut masks, &mut deltas);
        let base = &x[weights.len()];
        let blank = |sum: &mut Vec<f64>| {
            sum.clear();
            sum.resize(base.len(), 0.0);
        };
        blank(&mut all);
        for (delta, factor) in deltas.iter().zip(&factors) {
            lanes::add_wide(&mut all, delta, *factor);
        }
        let mixed = match sum {
            Sum::All => &mut all,
            Sum::Elected => {
                blank(&mut mixed);
                blank(&mut divisor);
                for ((delta, factor), weight) in deltas.iter().zip(&factors).zip(&weights) {
                    lanes::add_elected(&mut mixed, &mut divisor, &all, delta, *factor, *weight);
                }
                &mut mixed
            }
        };
        if is_normalized && sum == Sum::All {
            divisor.clear();
            divisor.resize(base.len(), total);
        }
        if is_normalized {
            lanes::divide_wide(mixed, &divisor);
        }
        merged.resize(base.len(), 0.0);
        lanes::add_to_base(&mut merged, base, mixed, lambda);
        out.put(&merged)
    })
}

/// Which elements of one model's difference are kept, asked in their order.
enum Mask {
    All,
    /// Between two cuts in the order of falling magnitude, with the equals seen so far.
    Between {
        cuts: [Cut; 2],
        n_equal: [u64; 2],
    },
    /// Those whose draw is below a threshold.
    Random {
        philox: Philox,
        below: u32,
        words: Vec<u32>,
    },
    Ranked(Ranked),
}

impl Mask {
    /// Sets what is not kept of a chunk that begins at element `at` to zero. Chunks come in order, from element 0 in each
    /// pass, and begin at multiples of 4096.
    fn apply(&mut self, at: usize, delta: &mut [f32]) {
        match self {
            Self::All => {}
            Self::Between { cuts, n_equal } => {
                if at == 0 {
                    *n_equal = [0; 2];
                }
                keep(delta, *cuts, n_equal);
            }
            Self::Random { philox, below, words } => philox.keep(at, delta, *below, words),
            Self::Ranked(ranked) => ranked.apply(at, delta),
        }
    }
}

/// The differences of a chunk, with what is not kept set to zero.
fn differences(at: usize, x: &[Vec<f32>], masks: &mut [Mask], deltas: &mut [Vec<f32>]) {
    let base = &x[masks.len()];
    for ((x, mask), delta) in x.iter().zip(masks).zip(deltas) {
        delta.resize(base.len(), 0.0);
        lanes::difference(delta, x, base);
        mask.apply(at, delta);
    }
}

fn masks(work: &mut Work<'_>, kept: Kept) -> Result<Vec<Mask>> {
    let n = work.n_elements() as f64;
    let densities = work.args.each("density");
    let n_models = work.args.each.len();
    match kept {
        Kept::All => Ok((0..n_models).map(|_| Mask::All).collect()),
        Kept::Random => Ok(densities
            .into_iter()
            .enumerate()
            .map(|(model, density)| {
                threshold(density).map_or(Mask::All, |below| Mask::Random {
                    philox: work.philox(model),
                    below,
                    words: Vec::new(),
                })
            })
            .collect()),
        Kept::Ranked => Ok(ranked(work)),
        Kept::Largest => {
            // One element at least, as in mergekit, unless none is asked for.
            let kept = |density: &f64| if *density > 0.0 { ((density * n) as u64).max(1) } else { 0 };
            let cuts: Vec<[u64; 2]> = densities.iter().map(|density| [0, kept(density)]).collect();
            between(work, &cuts)
        }
        Kept::Middle => {
            let gammas = work.args.each("gamma");
            let cut = |(density, gamma): (&f64, &f64)| {
                // Fewer outliers are dropped where what is left would fall short of the density.
                let kept = (density * n) as u64;
                let first = ((gamma * n) as u64).min(n as u64 - kept);
                [first, first + kept]
            };
            let cuts: Vec<[u64; 2]> = densities.iter().zip(&gammas).map(cut).collect();
            between(work, &cuts)
        }
    }
}

/// Masks of rows, which are shown whole from now on: along the last side or, of three and more sides, along the second, as in
/// mergekit.
fn ranked(work: &mut Work<'_>) -> Vec<Mask> {
    let (row, step) = match work.shape() {
        [] => (1, 1),
        [n] | [_, n] => (*n, 1),
        [_, n, rest @ ..] => (*n, rest.iter().product()),
    };
    work.by_rows(row * step);
    let settings = work.args.each("density").into_iter().zip(work.args.each("epsilon")).enumerate();
    let mask = |(model, (density, epsilon)): (usize, (f64, f64))| {
        if density >= 1.0 {
            return Mask::All;
        }
        // A density of zero keeps nothing.
        let epsilon = if density > 0.0 { epsilon } else { 0.0 };
        let philox = work.philox(model);
        Mask::Ranked(Ranked {
            philox,
            density,
            epsilon,
            row,
            step,
            order: Vec::new(),
            spare: Vec::new(),
            words: Vec::new(),
        })
    };
    settings.map(mask).collect()
}

/// Masks that keep what lies between two places in the order of falling magnitude.
fn between(work: &mut Work<'_>, cuts: &[[u64; 2]]) -> Result<Vec<Mask>> {
    let n = work.n_elements() as u64;
    if cuts.iter().all(|cuts| *cuts == [0, n]) {
        return Ok(cuts.iter().map(|_| Mask::All).collect());
    }
    let mut ranks: Vec<Ranks> = cuts.iter().map(|_| Ranks::new()).collect();
    let mut delta = Vec::new();
    let mut show = |work: &mut Work<'_>, ranks: &mut [Ranks], to: fn(&mut Ranks, &[f32])| {
        work.look(|_, x| {
            let base = &x[x.len() - 1];
            for (x, ranks) in x.iter().zip(ranks.iter_mut()) {
                delta.resize(base.len(), 0.0);
                lanes::difference(&mut delta, x, base);
                to(ranks, &delta);
            }
        })
    };
    show(work, &mut ranks, Ranks::count)?;
    for (ranks, cuts) in ranks.iter_mut().zip(cuts) {
        ranks.ask(cuts);
    }
    show(work, &mut ranks, Ranks::refine)?;
    let mask = |(ranks, cuts): (&Ranks, &[u64; 2])| {
        let found = ranks.cuts(cuts);
        Mask::Between { cuts: [found[0], found[1]], n_equal: [0; 2] }
    };
    Ok(ranks.iter().zip(cuts).map(mask).collect())
}

/// What gives each masked difference the L1 norm it had: mergekit's rescaling, where DARE's authors divide by the density.
fn scales(work: &mut Work<'_>, masks: &mut [Mask]) -> Result<Vec<f64>> {
    let mut sums = vec![[0.0_f64; 2]; masks.len()];
    let mut delta = Vec::new();
    work.look(|at, x| {
        let base = &x[x.len() - 1];
        for ((x, mask), sums) in x.iter().zip(masks.iter_mut()).zip(&mut sums) {
            delta.resize(base.len(), 0.0);
            lanes::difference(&mut delta, x, base);
            sums[0] += lanes::norm(&delta);
            mask.apply(at, &mut delta);
            sums[1] += lanes::norm(&delta);
        }
    })?;
    Ok(sums.iter().map(|[before, after]| if *after > 0.0 { before / after } else { 1.0 }).collect())
}
