//! Which magnitudes are the k largest, without sorting: two histograms over their bits.

use crate::lanes;

/// Bits of a magnitude that the first histogram sees; it has 31 in all.
const HIGH: u32 = 15;
const LOW: u32 = 31 - HIGH;
/// Numbers that are looked at together.
const BLOCK: usize = 32;

/// The bits of |x|; they sort as the magnitudes do.
#[inline(always)]
pub(super) fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Finds where ranks lie among magnitudes that are shown twice.
pub(super) struct Ranks {
    high: Vec<u64>,
    /// One for each cut asked for; none for a cut before everything.
    within: Vec<Option<Within>>,
}

/// The bin of the first histogram that a cut falls into.
struct Within {
    bin: usize,
    /// How many lie above that bin.
    n_above: u64,
    /// The low bits of those in it.
    low: Vec<u64>,
}

/// A cut: the first `n` of all in the order of falling magnitude, equal ones by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The magnitude at the cut.
    bits: u32,
    /// How many of that magnitude are before it.
    n_equal: u64,
}

/// Keeps of `x`, the next of a tensor, what lies between two cuts; `n_equal` counts what was met at each.
pub(super) fn keep(x: &mut [f32], [first, last]: [Cut; 2], n_equal: &mut [u64; 2]) {
    if !lanes::keep_between(x, last.bits, first.bits) {
        return;
    }
    let is_at = |x: &f32| magnitude(*x) == first.bits || magnitude(*x) == last.bits;
    // Few blocks have one at either end, and to see that none is there is quick.
    let blocks = x.chunks_mut(BLOCK).filter(|block| block.iter().fold(false, |any, x| any | is_at(x)));
    for x in blocks.flatten() {
        let bits = magnitude(*x);
        let (is_first, is_last) = (bits == first.bits, bits == last.bits);
        if is_first && n_equal[0] < first.n_equal || is_last && n_equal[1] >= last.n_equal {
            *x = 0.0;
        }
        n_equal[0] += u64::from(is_first);
        n_equal[1] += u64::from(is_last);
    }
}

impl Cut {
    /// The magnitude at the cut.
    pub(super) fn magnitude(self) -> f32 {
        f32::from_bits(self.bits)
    }
}

impl Ranks {
    pub(super) fn new() -> Self {
        Self { high: vec![0; 1 << HIGH], within: Vec::new() }
    }

    /// The first showing.
    pub(super) fn count(&mut self, x: &[f32]) {
        for x in x {
            self.high[(magnitude(*x) >> LOW) as usize] += 1;
        }
    }

    /// Between the showings: the numbers of elements before each cut.
    pub(super) fn ask(&mut self, cuts: &[u64]) {
        for n in cuts {
            if *n == 0 {
                self.within.push(None);
                continue;
            }
            let mut above = 0;
            let bin = (0..self.high.len()).rev().find(|bin| {
                above += self.high[*bin];
                above >= *n
            });
            let bin = bin.unwrap_or(0);
            self.within.push(Some(Within { bin, n_above: above - self.high[bin], low: vec![0; 1 << LOW] }));
        }
    }

    /// The second showing.
    pub(super) fn refine(&mut self, x: &[f32]) {
        for Within { bin, low, .. } in self.within.iter_mut().flatten() {
            for x in x {
                let bits = magnitude(*x);
                if (bits >> LOW) as usize == *bin {
                    low[(bits & ((1 << LOW) - 1)) as usize] += 1;
                }
            }
        }
    }

    /// The cuts asked for, in order.
    pub(super) fn cuts(&self, cuts: &[u64]) -> Vec<Cut> {
        let cut = |(n, within): (&u64, &Option<Within>)| {
            let Some(Within { bin, n_above, low }) = within else { return Cut { bits: u32::MAX, n_equal: 0 } };
            let mut n_above = *n_above;
            for value in (0..low.len()).rev() {
                if n_above + low[value] >= *n {
                    return Cut { bits: (*bin as u32) << LOW | value as u32, n_equal: n - n_above };
                }
                n_above += low[value];
            }
            Cut { bits: 0, n_equal: *n }
        };
        cuts.iter().zip(&self.within).map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_stable_sort_puts_between(
            x in proptest::collection::vec(prop_oneof![-2.0_f32..2.0, Just(0.25), Just(0.5), Just(-0.5)], 1..200),
            first in 0.0..=0.5_f64,
            share in 0.0..=0.5_f64,
            step in 1_usize..50,
        ) {
            let at = |share: f64| (share * x.len() as f64) as u64;
            let cuts = [at(first), at(first) + at(share)];
            let mut ranks = Ranks::new();
            ranks.count(&x);
            ranks.ask(&cuts);
            ranks.refine(&x);
            let found = ranks.cuts(&cuts);
            let mut order: Vec<usize> = (0..x.len()).collect();
            order.sort_by_key(|i| std::cmp::Reverse(magnitude(x[*i])));
            let mut want = vec![0.0; x.len()];
            for i in &order[cuts[0] as usize..cuts[1] as usize] {
                want[*i] = x[*i];
            }
            let (mut got, mut n_equal) = (x.clone(), [0; 2]);
            for chunk in got.chunks_mut(step) {
                keep(chunk, [found[0], found[1]], &mut n_equal);
            }
            prop_assert_eq!(got, want);
        }
    }
}
