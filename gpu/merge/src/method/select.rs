//! Which magnitudes are the k largest, without sorting: two histograms over their bits.

/// Bits of a magnitude that the first histogram sees; it has 31 in all.
const HIGH: u32 = 16;
const LOW: u32 = 31 - HIGH;

/// The bits of |x|; they sort as the magnitudes do.
#[inline(always)]
pub(super) fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Finds where ranks lie among magnitudes that are shown twice.
pub(super) struct Ranks {
    high: Vec<u64>,
    /// For each rank asked for: its bin, how many lie above that bin, and the histogram within.
    within: Vec<(usize, u64, Vec<u64>)>,
}

/// A cut: the first `n` of all in the order of falling magnitude, equal ones by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The magnitude at the cut.
    bits: u32,
    /// How many of that magnitude are before it.
    n_equal: u64,
}

impl Cut {
    /// Whether an element of magnitude `bits`, which `n_before` equal ones precede, is before the cut.
    #[inline(always)]
    pub(super) fn takes(self, bits: u32, n_before: u64) -> bool {
        bits > self.bits || (bits == self.bits && n_before < self.n_equal)
    }

    /// Whether `bits` is the magnitude at the cut.
    #[inline(always)]
    pub(super) fn is_at(self, bits: u32) -> bool {
        bits == self.bits
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
            let mut above = 0;
            let bin = (0..self.high.len()).rev().find(|bin| {
                above += self.high[*bin];
                above >= *n
            });
            let bin = bin.unwrap_or(0);
            self.within.push((bin, above - self.high[bin], vec![0; 1 << LOW]));
        }
    }

    /// The second showing.
    pub(super) fn refine(&mut self, x: &[f32]) {
        for x in x {
            let bits = magnitude(*x);
            for (bin, _, low) in &mut self.within {
                if (bits >> LOW) as usize == *bin {
                    low[(bits & ((1 << LOW) - 1)) as usize] += 1;
                }
            }
        }
    }

    /// The cuts asked for, in order.
    pub(super) fn cuts(&self, cuts: &[u64]) -> Vec<Cut> {
        let cut = |(n, (bin, above, low)): (&u64, &(usize, u64, Vec<u64>))| {
            let mut n_above = *above;
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
        fn a_cut_takes_what_a_stable_sort_puts_first(
            x in proptest::collection::vec(prop_oneof![-2.0_f32..2.0, Just(0.0), Just(0.5), Just(-0.5), Just(-0.0)], 1..200),
            share in 0.0..=1.0_f64,
        ) {
            let n = (share * x.len() as f64) as u64;
            let mut ranks = Ranks::new();
            ranks.count(&x);
            ranks.ask(&[n]);
            ranks.refine(&x);
            let cut = ranks.cuts(&[n])[0];
            let mut order: Vec<usize> = (0..x.len()).collect();
            order.sort_by_key(|i| std::cmp::Reverse(magnitude(x[*i])));
            let mut want: Vec<usize> = order[..n as usize].to_vec();
            want.sort_unstable();
            let mut n_equal = 0;
            let mut got = Vec::new();
            for (i, x) in x.iter().enumerate() {
                if cut.takes(magnitude(*x), n_equal) {
                    got.push(i);
                }
                n_equal += u64::from(cut.is_at(magnitude(*x)));
            }
            prop_assert_eq!(got, want);
        }
    }
}
