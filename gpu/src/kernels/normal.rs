//! Standard normal numbers by their place: a counter-based generator and a table in whole numbers, so that every device has the
//! same bits.
//!
//! Philox4x32-10 of Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3") gives four words for a key and a
//! counter. Of a word, one bit is the sign and the other 31 are the chance of something further out, on a grid that is finer the
//! smaller it is; between its points the quantile is a line. Its variance is one within 10⁻⁴, and it ends at 6.3.

use std::sync::LazyLock;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Steps of the grid in each octave of the chance.
const STEPS: usize = 32;
const OCTAVES: usize = 32;
/// What a whole number of the table stands for.
const UNIT: f32 = 1.0 / (1 << 20) as f32;

/// Words of one counter.
pub(crate) const WORDS: usize = 4;

/// Distances from zero by the chance of a greater one, in units of 2⁻²⁰, from 2⁻³² to 1.
pub(crate) static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let at = |place: usize| {
        let (octave, step) = (place / STEPS, place % STEPS);
        let chance = (STEPS + step) as f64 / (STEPS as f64) * 2_f64.powi(octave as i32 - OCTAVES as i32);
        let (mut near, mut far) = (0.0_f64, 8.0_f64);
        for _ in 0..60 {
            let middle = 0.5 * (near + far);
            if libm::erfc(middle * std::f64::consts::FRAC_1_SQRT_2) > chance { near = middle } else { far = middle }
        }
        (near / f64::from(UNIT)).round() as u32
    };
    (0..=STEPS * OCTAVES).map(at).collect()
});

/// The two halves of a key.
pub(crate) fn halves(key: u64) -> [u32; 2] {
    [key as u32, (key >> 32) as u32]
}

/// Philox4x32-10, for `N` counters that differ in their first word, which counts up from `first`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "four arrays are read and written at the same place")]
pub(crate) fn philox<const N: usize>(key: [u32; 2], first: u32, second: u32) -> [[u32; N]; WORDS] {
    let mut words = [[0_u32; N]; WORDS];
    for (lane, word) in (0_u32..).zip(&mut words[0]) {
        *word = first.wrapping_add(lane);
    }
    words[1] = [second; N];
    let [mut k0, mut k1] = key;
    for _ in 0..ROUNDS {
        for lane in 0..N {
            let a = u64::from(words[0][lane]) * u64::from(MULTIPLIERS[0]);
            let b = u64::from(words[2][lane]) * u64::from(MULTIPLIERS[1]);
            words[0][lane] = (b >> 32) as u32 ^ words[1][lane] ^ k0;
            words[1][lane] = b as u32;
            words[2][lane] = (a >> 32) as u32 ^ words[3][lane] ^ k1;
            words[3][lane] = a as u32;
        }
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    words
}

/// The number of a word.
#[inline(always)]
pub(crate) fn of_word(word: u32, table: &[u32]) -> f32 {
    let chance = word << 1 | 1;
    let zeros = chance.leading_zeros();
    let place = chance << zeros;
    let at = ((31 - zeros) * 32 + ((place >> 26) & 31)) as usize;
    let within = (place >> 10) & 0xffff;
    let (far, near) = (table[at], table[at + 1]);
    let distance = (far - (((far - near) * within) >> 16)) as f32 * UNIT;
    f32::from_bits(distance.to_bits() | (word & 0x8000_0000))
}

/// Standard normal numbers `0..n` of the row `row` of the stream `key`, the same on every machine.
#[must_use]
pub fn normals(key: u64, row: u32, n: usize) -> Vec<f32> {
    let words = (0_u32..).flat_map(|block| philox::<1>(halves(key), row, block).map(|[word]| word));
    words.take(n).map(|word| of_word(word, &TABLE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_has_its_known_words() {
        // The first and the third vector of Random123's `kat_vectors` with ten rounds.
        assert_eq!(philox::<1>([0, 0], 0, 0).map(|[w]| w), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let several = philox::<5>([7, 9], 40, 3);
        for lane in 0..5 {
            assert_eq!(several.map(|words| words[lane]), philox::<1>([7, 9], 40 + lane as u32, 3).map(|[w]| w));
        }
    }

    #[test]
    fn moments_and_tails_are_those_of_a_normal_distribution() {
        let n = 1 << 20;
        let all = normals(3, 5, n);
        for (power, expected, error) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10170.0)]
        {
            let mean = all.iter().map(|z| f64::from(*z).powi(power)).sum::<f64>() / n as f64;
            assert!((mean - expected).abs() < 4.0 * (f64::from(error as f32) / n as f64).sqrt(), "{power}: {mean}");
        }
        for bound in [0.5_f32, 1.0, 2.0, 3.0, 4.0] {
            let beyond = all.iter().filter(|z| z.abs() > bound).count() as f64;
            let expected = libm::erfc(f64::from(bound) / 2_f64.sqrt()) * n as f64;
            assert!((beyond - expected).abs() < 4.5 * expected.sqrt() + 1.0, "{bound}: {beyond}, {expected}");
        }
    }

    #[test]
    fn every_word_has_a_finite_number_that_falls_with_its_chance() {
        let of = |word| of_word(word, &TABLE);
        assert!((6.0..6.5).contains(&of(0)) && of(0x8000_0000) == -of(0));
        assert!(of(0x7fff_ffff) >= 0.0 && of(0x7fff_ffff) < 1e-5);
        let mut before = of(0);
        for word in (1_u32..64).chain((6..31).flat_map(|bit| (0..64).map(move |i| (1 << bit) + (i << (bit - 6))))) {
            assert!(of(word) <= before, "{word}");
            before = of(word);
        }
    }
}
