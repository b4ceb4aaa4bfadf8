//! Identity of work items and the seeds that follow from it.
//!
//! A work item is named by what it is: plan digest, stage, item and k. Its seed is a hash of that name, so neither the
//! order of work, the number of workers nor a restart changes what is drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Names and seeds of one plan's work items.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    plan: [u8; 32],
}

impl Seeds {
    /// Seeds under a plan's digest.
    #[must_use]
    pub fn new(plan: [u8; 32]) -> Self {
        Self { plan }
    }

    /// The 32-byte name of work item (`stage`, `item`, `k`).
    #[must_use]
    pub fn name(&self, stage: &str, item: u32, k: u32) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.plan);
        hasher.update(stage.as_bytes()).update(&[0]).update(&item.to_be_bytes()).update(&k.to_be_bytes());
        *hasher.finalize().as_bytes()
    }

    /// A 64-bit seed: the first eight bytes of the name, big-endian.
    #[must_use]
    pub fn seed(&self, stage: &str, item: u32, k: u32) -> u64 {
        let name = self.name(stage, item, k);
        name.iter().take(8).fold(0, |acc, byte| acc << 8 | u64::from(*byte))
    }

    /// A random stream of the work item's own.
    #[must_use]
    pub fn stream(&self, stage: &str, item: u32, k: u32) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.name(stage, item, k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_name_changes_the_seed() {
        let a = Seeds::new([1; 32]);
        let all = [
            a.seed("s", 0, 0),
            a.seed("t", 0, 0),
            a.seed("s", 1, 0),
            a.seed("s", 0, 1),
            Seeds::new([2; 32]).seed("s", 0, 0),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(a.seed("s", 3, 4), a.seed("s", 3, 4));
    }
}
