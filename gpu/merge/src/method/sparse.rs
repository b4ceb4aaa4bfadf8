//! Random masks from a counter: the same for an element wherever and whenever it is asked for.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]
#![allow(clippy::extra_unused_type_parameters, reason = "`with_simd` compiles the function once for each `S`")]

use macerator::{Simd, with_simd};

/// Philox 4×32 with ten rounds (Salmon et al. 2011, §3.4).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Philox {
    key: [u32; 2],
    /// The tensor, in the upper half of the counter.
    stream: [u32; 2],
}

impl Philox {
    /// The generator of one model's mask of one tensor.
    pub(crate) fn new(seed: u64, tensor: &str, model: usize) -> Self {
        let digest = blake3::hash(format!("{tensor}\0{model}").as_bytes());
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| digest.as_bytes()[at * 4 + i]));
        Self { key: [seed as u32, (seed >> 32) as u32], stream: [word(0), word(1)] }
    }

    /// Uniform words, one an element, from element `first`, a multiple of 64. Of 64 elements, number 16 r + i has word r of
    /// the i-th of their 16 counters.
    pub(super) fn fill(self, first: usize, words: &mut [u32]) {
        fill(self.key, self.stream, first as u64 / 4, words);
    }
}

/// Counters that are worked on side by side.
const WIDE: usize = 16;

#[with_simd]
fn fill<S: Simd>(key: [u32; 2], stream: [u32; 2], first: u64, words: &mut [u32]) {
    for (at, words) in (first..).step_by(WIDE).zip(words.chunks_mut(4 * WIDE)) {
        let counters = [
            std::array::from_fn(|i| (at + i as u64) as u32),
            std::array::from_fn(|i| ((at + i as u64) >> 32) as u32),
            [stream[0]; WIDE],
            [stream[1]; WIDE],
        ];
        let drawn = philox(counters, key);
        for (words, drawn) in words.chunks_mut(WIDE).zip(&drawn) {
            words.copy_from_slice(&drawn[..words.len()]);
        }
    }
}

#[inline(always)]
fn philox(mut counter: [[u32; WIDE]; 4], mut key: [u32; 2]) -> [[u32; WIDE]; 4] {
    for _ in 0..10 {
        for i in 0..WIDE {
            let a = u64::from(counter[0][i]) * 0xd251_1f53;
            let b = u64::from(counter[2][i]) * 0xcd9e_8d57;
            counter[0][i] = (b >> 32) as u32 ^ counter[1][i] ^ key[0];
            counter[2][i] = (a >> 32) as u32 ^ counter[3][i] ^ key[1];
            counter[1][i] = b as u32;
            counter[3][i] = a as u32;
        }
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

/// Below this word an element is kept with probability `density`; `None` keeps all.
pub(super) fn threshold(density: f64) -> Option<u32> {
    (density < 1.0).then_some((density * 4_294_967_296.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' known-answer file `kat_vectors`.
    #[test]
    fn the_generator_gives_its_authors_numbers() {
        let one = |counter: [u32; 4], key| philox(counter.map(|word| [word; WIDE]), key).map(|words| words[5]);
        assert_eq!(one([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(one([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            one([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn an_element_has_its_word_wherever_a_chunk_begins() {
        let philox = Philox::new(3, "w", 0);
        let (mut whole, mut late) = (vec![0; 1000], vec![0; 600]);
        philox.fill(0, &mut whole);
        philox.fill(448, &mut late);
        assert_eq!(whole[448..], late[..552]);
    }

    #[test]
    fn a_mask_keeps_its_share() {
        let philox = Philox::new(3, "w", 0);
        let below = threshold(0.3).unwrap();
        let mut words = vec![0; 200_000];
        philox.fill(0, &mut words);
        let kept = words.iter().filter(|word| **word < below).count();
        assert!((59_000..61_000).contains(&kept), "{kept}");
        assert_eq!(threshold(1.0), None);
    }
}
