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
                self.order.sort_unstable();
                for (rank, key) in self.order.iter().enumerate() {
                    let i = (key & 0xffff_ffff) as usize;
                    let share = least + spread * rank as f64;
                    if f64::from(words[i]) >= share * 4_294_967_296.0 {
                        delta[i] = 0.0;
                    }
                }
            }
        }
    }
}
