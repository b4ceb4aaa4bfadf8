//! What language models are trained on, and how strongly: examples, pairs, rollouts, and the settings of their objectives.

/// A text, and which of its tokens are to be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each, whether it is to be predicted from those before it. The first cannot be.
    pub mask: Vec<bool>,
}

impl Example {
    /// A prompt, which is read, and a completion, which is learnt.
    #[must_use]
    pub fn completion(prompt: &[u32], completion: &[u32]) -> Self {
        let mask = (0..prompt.len() + completion.len()).map(|at| at >= prompt.len().max(1)).collect();
        Self { ids: [prompt, completion].concat(), mask }
    }

    /// A text of which all but the first token is learnt.
    #[must_use]
    pub fn text(ids: &[u32]) -> Self {
        Self::completion(&[], ids)
    }
}

/// Settings of supervised fine-tuning held to a reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kd {
    /// λ, ≥ 0: how strongly.
    pub lambda: f64,
}

/// Two completions of one prompt, one better than the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The better completion; at least one token.
    pub chosen: Vec<u32>,
    /// The worse one; at least one token.
    pub rejected: Vec<u32>,
}

/// Settings of direct preference optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// β, > 0: how strongly the reference is kept to.
    pub beta: f64,
    /// Share of pairs taken to be the wrong way round, in [0, 0.5).
    pub smoothing: f64,
}

/// A sampled completion and how good it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The tokens drawn; at least one.
    pub completion: Vec<u32>,
    /// Log-probability of each when it was drawn, at temperature 1: [`crate::Completion::log_probs`].
    pub log_probs: Vec<f32>,
    /// How much better than its group it was.
    pub advantage: f64,
}

/// Settings of group-relative policy optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// ε, in (0, 1): how far a token's probability may move before it stops to count.
    pub clip: f64,
    /// Weight of the divergence from the reference, ≥ 0.
    pub kl: f64,
}

/// Advantages of one group: (reward − mean) / standard deviation, zero if all rewards are equal.
///
/// The deviation is the population's. Source: Shao et al. 2024, §4.1.2.
#[must_use]
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let std = (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Rounding of the mean leaves equal rewards a deviation of some units in the last place.
    if std <= 1e-12 * mean.abs() {
        return vec![0.0; rewards.len()];
    }
    rewards.iter().map(|reward| (reward - mean) / std).collect()
}
