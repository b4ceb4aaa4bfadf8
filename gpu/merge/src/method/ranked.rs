//! Masks that keep an element the likelier, the larger it is among those of its row.

use super::sparse::Philox;

/// DELLA's mask of one model: of the elements of a row, in the order of rising magnitude, the r-th of n is kept with
/// probability density − ε + 2 ε (r − 1) / (n − 1).
pub(super) struct Ranked {
    pub(super) philox: Philox,
    pub(super) density: f64,
    pub(super) epsilon: f64,
    /// The elements of a row, and how far apart in the tensor they are.
    pub(super) row: usize,
    pub(super) step: usize,
    pub(super) order: Vec<u64>,
    pub(super) spare: Vec<u64>,
    pub(super) words: Vec<u32>,
}

impl Ranked {
    /// Sets what is not kept to zero, of whole rows that begin at element `at`. Of equal magnitudes the earlier is the lower;
    /// a row of one has the probability `density`.
    pub(super) fn apply(&mut self, at: usize, delta: &mut [f32]) {
        self.words.resize(delta.len(), 0);
        self.philox.fill(at, &mut self.words);
        let block = self.row * self.step;
        let spread = if self.row > 1 { 2.0 * self.epsilon / (self.row - 1) as f64 } else { 0.0 };
        let least = if self.row > 1 { self.density - self.epsilon } else { self.density };
        for (delta, words) in delta.chunks_mut(block).zip(self.words.chunks(block)) {
            for first in 0..self.step {
                let places = (first..delta.len()).step_by(self.step);
                self.order.clear();
                self.order.extend(places.map(|i| u64::from(delta[i].abs().to_bits()) << 32 | i as u64));
                sort(&mut self.order, &mut self.spare);
                for (rank, key) in self.order.iter().enumerate() {
                    let i = (key & 0xffff_ffff) as usize;
                    let share = least + spread * rank as f64;
                    // No branch: which way it goes cannot be foreseen.
                    let is_kept = f64::from(words[i]) < share * 4_294_967_296.0;
                    delta[i] = f32::from_bits(delta[i].to_bits() & 0_u32.wrapping_sub(u32::from(is_kept)));
                }
            }
        }
    }
}

/// Bits that are sorted by at once, and how often for the 31 of a magnitude.
const DIGIT: u32 = 8;
const N_DIGITS: u32 = 4;
/// Fewer are sorted by comparing.
const FEW: usize = 256;

/// Sorts keys whose upper halves are magnitudes and whose lower ones, their places, rise: digit by digit, from the lowest.
fn sort(keys: &mut Vec<u64>, spare: &mut Vec<u64>) {
    if keys.len() < FEW {
        return keys.sort_unstable();
    }
    let digit = |key: u64, n: u32| ((key >> (32 + n * DIGIT)) & ((1 << DIGIT) - 1)) as usize;
    let mut counts = [[0_u32; 1 << DIGIT]; N_DIGITS as usize];
    for key in keys.iter() {
        for n in 0..N_DIGITS {
            counts[n as usize][digit(*key, n)] += 1;
        }
    }
    spare.resize(keys.len(), 0);
    for n in 0..N_DIGITS {
        let mut start = 0;
        for count in &mut counts[n as usize] {
            start += std::mem::replace(count, start);
        }
        let places = &mut counts[n as usize];
        for key in keys.iter() {
            let place = &mut places[digit(*key, n)];
            spare[*place as usize] = *key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_sorted(mut magnitudes in proptest::collection::vec(prop_oneof![0_u32..=0x7f80_0000, 0_u32..4], 0..900)) {
            magnitudes.push(0x7f80_0000);
            let mut keys: Vec<u64> =
                magnitudes.iter().enumerate().map(|(i, bits)| u64::from(*bits) << 32 | i as u64).collect();
            let mut want = keys.clone();
            want.sort_unstable();
            sort(&mut keys, &mut vec![7; 3]);
            prop_assert_eq!(keys, want);
        }
    }
}
