//! Random masks from a counter: the same for an element wherever and whenever it is asked for.

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

    /// Four uniform words: those of elements `4 · at` to `4 · at + 3`.
    #[inline(always)]
    pub(super) fn words(self, at: u64) -> [u32; 4] {
        philox([at as u32, (at >> 32) as u32, self.stream[0], self.stream[1]], self.key)
    }
}

#[inline(always)]
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
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
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_mask_keeps_its_share() {
        let philox = Philox::new(3, "w", 0);
        let below = threshold(0.3).unwrap();
        let kept = (0..50_000).flat_map(|at| philox.words(at)).filter(|word| *word < below).count();
        assert!((59_000..61_000).contains(&kept), "{kept}");
        assert_eq!(threshold(1.0), None);
    }
}
