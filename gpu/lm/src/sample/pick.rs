//! Drawing one token from logits.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Sampling;
use crate::cpu;

/// Draws tokens under one [`Sampling`]; holds scratch.
pub(crate) struct Picker<'a> {
    sampling: &'a Sampling,
    weights: Vec<f32>,
    nucleus: Vec<u32>,
}

impl<'a> Picker<'a> {
    pub(crate) fn new(sampling: &'a Sampling) -> Self {
        Self { sampling, weights: Vec::new(), nucleus: Vec::new() }
    }

    /// Whether `id` ends a completion.
    pub(crate) fn stops(&self, id: u32) -> bool {
        self.sampling.stop_ids.contains(&id)
    }

    /// A token and its log-probability under the untempered distribution; none if the logits are not finite.
    pub(crate) fn pick(&mut self, logits: &[f32], rng: &mut ChaCha8Rng) -> Option<(u32, f32)> {
        let log_sum = cpu::log_sum_exp(logits);
        if !log_sum.is_finite() {
            return None;
        }
        let id = if self.sampling.temperature == 0.0 { likeliest(logits) } else { self.draw(logits, rng) };
        Some((id, logits[id as usize] - log_sum))
    }

    fn draw(&mut self, logits: &[f32], rng: &mut ChaCha8Rng) -> u32 {
        cpu::tempered(logits, 1.0 / self.sampling.temperature, &mut self.weights);
        let total: f64 = self.weights.iter().map(|w| f64::from(*w)).sum();
        let uniform: f64 = rng.random();
        if self.sampling.top_p >= 1.0 {
            let ids = 0..self.weights.len() as u32;
            return walk(ids, &self.weights, uniform * total);
        }
        let mass = self.fill_nucleus(total);
        walk(self.nucleus.iter().copied(), &self.weights, uniform * mass)
    }

    /// Sets the smallest set of likeliest tokens that has `top_p` of `total`, likeliest first, lower ids first among
    /// equals; returns its weight.
    fn fill_nucleus(&mut self, total: f64) -> f64 {
        let top_p = f64::from(self.sampling.top_p);
        // All tokens lighter than this weigh less than the rest of `total` together, so the nucleus has none of them.
        let least = (1.0 - top_p) * total / self.weights.len() as f64;
        let weights = &self.weights;
        self.nucleus.clear();
        self.nucleus.extend((0..weights.len() as u32).filter(|id| f64::from(weights[*id as usize]) >= least));
        self.nucleus.sort_unstable_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)));
        let mut mass = 0.0;
        let mut n = 0;
        for id in &self.nucleus {
            mass += f64::from(weights[*id as usize]);
            n += 1;
            if mass >= top_p * total {
                break;
            }
        }
        self.nucleus.truncate(n);
        mass
    }
}

/// The first id at which the running sum of weights exceeds `threshold`; the last with any weight if rounding hides it.
fn walk(ids: impl Iterator<Item = u32>, weights: &[f32], threshold: f64) -> u32 {
    let mut sum = 0.0;
    let mut last = 0;
    for id in ids {
        let weight = f64::from(weights[id as usize]);
        if weight > 0.0 {
            last = id;
            sum += weight;
            if sum > threshold {
                break;
            }
        }
    }
    last
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn sampling(temperature: f32, top_p: f32) -> Sampling {
        Sampling { temperature, top_p, max_tokens: 1, stop_ids: vec![2] }
    }

    fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut picker = Picker::new(sampling);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let n = 20_000;
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..n {
            let (id, _) = picker.pick(logits, &mut rng).expect("finite");
            counts[id as usize] += 1.0 / f64::from(n);
        }
        counts
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_tempered_probability_says() {
        let logits = [0.0, 1.0, -1.0, 0.5];
        for temperature in [0.5, 1.0, 2.0] {
            let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / f64::from(temperature)).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (share, weight) in shares(&sampling(temperature, 1.0), &logits).iter().zip(&weights) {
                // Four standard errors of a share of one half.
                assert!((share - weight / total).abs() < 4.0 * 0.5 / 20_000f64.sqrt());
            }
        }
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_top_p() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect();
        assert!(shares(&sampling(1.0, 0.6), &logits)[0] == 0.0);
        let some = shares(&sampling(1.0, 0.6), &logits);
        assert!(some[2] == 0.0 && (some[1] - 4.0 / 7.0).abs() < 0.02, "{some:?}");
        let one = shares(&sampling(1.0, 0.01), &logits);
        assert_eq!(one[1], 1.000_000_000_000_000_4_f64.min(one[1]), "{one:?}");
        assert!(one[0] + one[2] + one[3] == 0.0);
    }

    #[test]
    fn log_probabilities_are_of_the_untempered_distribution() {
        let settings = sampling(0.0, 1.0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (id, log_prob) = Picker::new(&settings).pick(&[0.0, 1.0, 1.0], &mut rng).expect("finite");
        assert_eq!(id, 1, "the first of equals");
        let want = 1.0 - (1.0 + 2.0 * 1f64.exp()).ln();
        assert!((f64::from(log_prob) - want).abs() < 1e-6);
        assert!(Picker::new(&settings).pick(&[0.0, f32::NAN], &mut rng).is_none());
    }
}
