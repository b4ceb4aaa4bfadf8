//! Random masks from a counter: the same for an element wherever and whenever it is asked for.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]
#![allow(clippy::extra_unused_type_parameters, reason = "`with_simd` compiles the function once for each `S`")]

use macerator::{Simd, with_simd};

use crate::lanes;

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

    /// Uniform words, one an element, from element `first`. Of 64 elements, number 16 r + i has word r of the i-th of
    /// their 16 counters.
    pub(super) fn fill(self, first: usize, words: &mut [u32]) {
        let skipped = first % HALF;
        let mut at = (first - skipped) as u64 / 4;
        let mut words = words;
        if skipped > 0 {
            let mut block = [0; HALF];
            fill(self.key, self.stream, at, &mut block);
            let (head, rest) = words.split_at_mut(words.len().min(HALF - skipped));
            head.copy_from_slice(&block[skipped..skipped + head.len()]);
            (words, at) = (rest, at + WIDE as u64);
        }
        fill(self.key, self.stream, at, words);
    }

    /// Keeps each number with probability `below` / 2³² and sets the others to zero; `first`, the place of the first in its
    /// tensor, is a multiple of [`SPAN`]. `words` is room.
    ///
    /// An element is kept if its 32-bit draw is below `below`. Of a span, the first half takes the draw's upper 16 bits from
    /// the lower halves of words, the second half from the upper halves of the same words; that decides nearly always. Only
    /// where they equal those of `below` are the draw's lower 16 bits looked at: the same half of the word of counter
    /// c + 2⁶³.
    pub(super) fn keep(self, first: usize, x: &mut [f32], below: u32, words: &mut Vec<u32>) {
        let (upper, lower) = (below >> 16, below & 0xffff);
        words.resize(SPAN / 2, 0);
        for (n, x) in x.chunks_mut(SPAN).enumerate() {
            let words = &mut words[..x.len().min(SPAN / 2)];
            let word = first / 2 + n * (SPAN / 2);
            self.fill(word, words);
            let (low, high) = x.split_at_mut(words.len());
            for (x, shift) in [(low, 0), (high, 16)] {
                let ties = if lower > 0 && lanes::has_half(&words[..x.len()], shift, upper) {
                    self.ties(word, &words[..x.len()], shift, below)
                } else {
                    Vec::new()
                };
                let kept: Vec<(usize, f32)> = ties.into_iter().map(|i| (i, x[i])).collect();
                lanes::keep_halves(x, words, shift, upper);
                for (i, value) in kept {
                    x[i] = value;
                }
            }
        }
    }

    /// Which of `words`, the first of which is number `first`, are kept by the lower 16 bits of their draws.
    #[cold]
    fn ties(self, first: usize, words: &[u32], shift: u32, below: u32) -> Vec<usize> {
        let half = |word: u32| (word >> shift) & 0xffff;
        let is_kept = |i: &usize| {
            let word = first + i;
            let late = block(self.key, self.stream, (word / HALF * WIDE) as u64 | 1 << 63);
            half(late[word % HALF / WIDE][word % WIDE]) < below & 0xffff
        };
        (0..words.len()).filter(|i| half(words[*i]) == below >> 16).filter(is_kept).collect()
    }
}

/// Elements that share words.
const SPAN: usize = 4096;
/// Counters that are worked on side by side.
const WIDE: usize = 16;
/// Their words.
const HALF: usize = 4 * WIDE;

#[with_simd]
fn fill<S: Simd>(key: [u32; 2], stream: [u32; 2], first: u64, words: &mut [u32]) {
    for (at, words) in (first..).step_by(WIDE).zip(words.chunks_mut(HALF)) {
        let drawn = block(key, stream, at);
        for (words, drawn) in words.chunks_mut(WIDE).zip(&drawn) {
            words.copy_from_slice(&drawn[..words.len()]);
        }
    }
}

/// The words of 16 counters from `at`.
#[inline(always)]
fn block(key: [u32; 2], stream: [u32; 2], at: u64) -> [[u32; WIDE]; 4] {
    let mut counters = [[0; WIDE], [0; WIDE], [stream[0]; WIDE], [stream[1]; WIDE]];
    for i in 0..WIDE {
        counters[0][i] = (at + i as u64) as u32;
        counters[1][i] = ((at + i as u64) >> 32) as u32;
    }
    philox(&counters, key)
}

/// Words are the lower halves of u64, whose upper halves are left as they fall: what a vector's multiplication reads and writes.
#[inline(always)]
fn philox(counter: &[[u32; WIDE]; 4], mut key: [u32; 2]) -> [[u32; WIDE]; 4] {
    let (mut wide, mut words) = ([[0; WIDE]; 4], [[0; WIDE]; 4]);
    for r in 0..4 {
        for i in 0..WIDE {
            wide[r][i] = u64::from(counter[r][i]);
        }
    }
    for _ in 0..10 {
        for i in 0..WIDE {
            let a = u64::from(wide[0][i] as u32) * 0xd251_1f53;
            let b = u64::from(wide[2][i] as u32) * 0xcd9e_8d57;
            wide[0][i] = (b >> 32) ^ wide[1][i] ^ u64::from(key[0]);
            wide[2][i] = (a >> 32) ^ wide[3][i] ^ u64::from(key[1]);
            wide[1][i] = b;
            wide[3][i] = a;
        }
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    for r in 0..4 {
        for i in 0..WIDE {
            words[r][i] = wide[r][i] as u32;
        }
    }
    words
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
        let one = |counter: [u32; 4], key| philox(&counter.map(|word| [word; WIDE]), key).map(|words| words[5]);
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
        let mut whole = vec![0; 1000];
        philox.fill(0, &mut whole);
        for (first, n) in [(448, 552), (1, 3), (63, 1), (70, 200), (127, 129)] {
            let mut late = vec![0; n];
            philox.fill(first, &mut late);
            assert_eq!(whole[first..first + n], late, "{first}");
        }
        let mut whole = vec![1.0; 3 * SPAN];
        philox.keep(0, &mut whole, 1 << 31, &mut Vec::new());
        for n in [1, 2047, 2048, 2049, 5000] {
            let mut late = vec![1.0; n];
            philox.keep(SPAN, &mut late, 1 << 31, &mut Vec::new());
            assert_eq!(whole[SPAN..SPAN + n], late, "{n}");
        }
    }

    /// Draws as `keep` explains them, one by one.
    #[test]
    fn a_mask_is_its_draws_below_the_threshold() {
        let philox = Philox::new(9, "w", 1);
        let n = 1 << 18;
        let draw = |element: u64| {
            let (span, half) = (SPAN as u64, element % SPAN as u64 / (SPAN as u64 / 2));
            let number = element / span * (span / 2) + element % (span / 2);
            let at = number / 64 * 16 + number % 16;
            let word = |at: u64| {
                let counter = [at as u32, (at >> 32) as u32, philox.stream[0], philox.stream[1]];
                super::philox(&counter.map(|word| [word; WIDE]), philox.key)[(number % 64 / 16) as usize][0]
            };
            let half = |word: u32| (word >> (16 * half)) & 0xffff;
            half(word(at)) << 16 | half(word(at | 1 << 63))
        };
        // A threshold that is a draw itself: its element is decided by the lower halves.
        let tie = draw(77_777);
        let mut kept = [vec![1.0; n], vec![1.0; n]];
        philox.keep(0, &mut kept[0], tie, &mut Vec::new());
        philox.keep(0, &mut kept[1], tie + 1, &mut Vec::new());
        for (i, (kept, next)) in kept[0].iter().zip(&kept[1]).enumerate() {
            assert_eq!(*kept == 1.0, draw(i as u64) < tie, "{i}");
            assert_eq!(*next == 1.0, draw(i as u64) <= tie, "{i}");
        }
    }

    #[test]
    fn a_mask_keeps_its_share() {
        let philox = Philox::new(3, "w", 0);
        for share in [0.3, 0.5, 0.000_03] {
            let mut x = vec![1.0; 4_000_000];
            philox.keep(0, &mut x, threshold(share).unwrap(), &mut Vec::new());
            let kept = f64::from(x.iter().sum::<f32>());
            let (mean, deviation) = (share * 4e6, (share * (1.0 - share) * 4e6).sqrt());
            assert!((kept - mean).abs() < 4.0 * deviation, "{share}: {kept}");
        }
        assert_eq!(threshold(1.0), None);
    }
}
