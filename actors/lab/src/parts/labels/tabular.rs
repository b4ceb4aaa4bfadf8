//! A policy one can write down: a tree of choices with their probabilities and a reward at each leaf. Every expectation is a
//! sum over leaves, so that what completions only estimate is known: the oracle of estimated labels.

use super::entropic_mean;
use crate::error::{Error, Result};

/// A node of the tree, in order of making; 0 is the root.
type At = usize;

#[derive(Clone, Debug)]
struct Node {
    parent: Option<At>,
    /// The probability of this choice at its parent; 1 for the root.
    share: f64,
    children: Vec<At>,
    /// The outcome reward, of leaves.
    reward: Option<f64>,
}

/// A policy over a tree, and the outcome rewards of its leaves.
#[derive(Clone, Debug, Default)]
pub struct Tabular {
    nodes: Vec<Node>,
}

impl Tabular {
    /// A tree that is a root.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Node { parent: None, share: 1.0, children: Vec::new(), reward: None }] }
    }

    /// Adds the choices at `at`: their probabilities, which add up to 1. Returns their places.
    ///
    /// # Errors
    /// `Value` if `at` is no node without choices or reward, or the shares are no distribution.
    pub fn branch(&mut self, at: usize, shares: &[f64]) -> Result<Vec<usize>> {
        let sum: f64 = shares.iter().sum();
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-9 {
            return Err(wrong("shares", &format!("expected probabilities that add up to 1, got a sum of {sum}")));
        }
        let first = self.nodes.len();
        let node = self.open(at)?;
        node.children = (first..first + shares.len()).collect();
        let children = node.children.clone();
        let child = |share: &f64| Node { parent: Some(at), share: *share, children: Vec::new(), reward: None };
        self.nodes.extend(shares.iter().map(child));
        Ok(children)
    }

    /// Makes `at` a leaf with this outcome reward.
    ///
    /// # Errors
    /// `Value` if `at` is no node without choices or reward, or the reward is not finite.
    pub fn end(&mut self, at: usize, reward: f64) -> Result<()> {
        if !reward.is_finite() {
            return Err(wrong("reward", &format!("expected a finite number, got {reward}")));
        }
        self.open(at)?.reward = Some(reward);
        Ok(())
    }

    /// The places of all nodes.
    #[must_use]
    pub fn nodes(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// The place a node was reached from; `None` for the root and for what is no node.
    #[must_use]
    pub fn parent(&self, at: usize) -> Option<usize> {
        self.nodes.get(at)?.parent
    }

    /// The probability of this node's choice at its parent.
    ///
    /// # Errors
    /// `Value` if there is no such node.
    pub fn share(&self, at: usize) -> Result<f64> {
        self.node(at).map(|node| node.share)
    }

    /// The rewards of the leaves below a node with their probabilities from there.
    ///
    /// # Errors
    /// `Value` if there is no such node, or a branch below it has no end.
    pub fn outcomes(&self, at: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut rewards, mut shares) = (Vec::new(), Vec::new());
        let mut todo = vec![(at, 1.0)];
        while let Some((at, mass)) = todo.pop() {
            let node = self.node(at)?;
            if let Some(reward) = node.reward {
                rewards.push(reward);
                shares.push(mass);
            } else if node.children.is_empty() {
                return Err(wrong("node", &format!("expected choices or a reward at {at}, got neither")));
            }
            for child in &node.children {
                todo.push((*child, mass * self.node(*child)?.share));
            }
        }
        Ok((rewards, shares))
    }

    /// The process reward of the prefix that ends at `at`: the entropic mean of outcomes under the policy's completions.
    ///
    /// # Errors
    /// As [`Tabular::outcomes`].
    pub fn process_reward(&self, at: usize, eta: f64) -> Result<f64> {
        let (rewards, shares) = self.outcomes(at)?;
        entropic_mean(&rewards, &shares, eta)
    }

    /// The policy that is best for reward less KL/η: `π*(a) ∝ π₀(a) exp(η r(a))`.
    ///
    /// # Errors
    /// As [`Tabular::outcomes`]; `Value` if η is not finite.
    pub fn tilted(&self, eta: f64) -> Result<Tilted> {
        if !eta.is_finite() {
            return Err(wrong("eta", &format!("expected a finite number, got {eta}")));
        }
        let mut tree = self.clone();
        for at in self.nodes() {
            let Some(parent) = self.parent(at) else { continue };
            // π*(a | parent) = π₀(a | parent) exp(η (r_a − r_parent)): completions below each are what the rewards are means of.
            let gain = self.process_reward(at, eta)? - self.process_reward(parent, eta)?;
            tree.nodes[at].share = self.nodes[at].share * libm::exp(eta * gain);
        }
        Ok(Tilted { tree, eta })
    }

    fn node(&self, at: usize) -> Result<&Node> {
        self.nodes.get(at).ok_or_else(|| wrong("node", &format!("expected one of {}, got {at}", self.nodes.len())))
    }

    fn open(&mut self, at: usize) -> Result<&mut Node> {
        let n = self.nodes.len();
        let node = self.nodes.get_mut(at).ok_or_else(|| wrong("node", &format!("expected one of {n}, got {at}")))?;
        if node.reward.is_some() || !node.children.is_empty() {
            return Err(wrong("node", &format!("expected one without choices or reward, got {at}")));
        }
        Ok(node)
    }
}

/// The policy that is best under entropy regularisation.
#[derive(Clone, Debug)]
pub struct Tilted {
    tree: Tabular,
    eta: f64,
}

impl Tilted {
    /// The policy, with its own probabilities.
    #[must_use]
    pub fn policy(&self) -> &Tabular {
        &self.tree
    }

    /// The process reward in its dual form: `−(1/η) ln E[exp(−η r)]` over the best policy's completions.
    ///
    /// # Errors
    /// As [`Tabular::outcomes`].
    pub fn process_reward(&self, at: usize) -> Result<f64> {
        let (rewards, mut shares) = self.tree.outcomes(at)?;
        let sum: f64 = shares.iter().sum();
        for share in &mut shares {
            *share /= sum;
        }
        entropic_mean(&rewards, &shares, -self.eta)
    }
}

fn wrong(key: &str, message: &str) -> Error {
    Error::Value { key: key.into(), message: message.into() }
}
