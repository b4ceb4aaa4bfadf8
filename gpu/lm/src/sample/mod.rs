//! Sampling: prompts in, completions with log-probabilities out.
//!
//! Invariants: completions come in the order of their prompts; a completion's randomness is a stream of its own seed, one
//! draw a token. On the CPU a completion depends on the weights, its prompt, its seed and the [`Sampling`] alone: not on
//! the other prompts of the call, nor on the number of threads. On a graphics processor it depends on the whole list.

mod local;
mod pick;

use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::net;

pub(crate) use local::{Prompts, on_threads};
pub(crate) use pick::Picker;

/// Tokens to continue, and the seed to continue them by.
///
/// Prompts of one call that are equal are read once: their completions share its keys and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids; at least one, and fewer than the model's positions.
    pub ids: Vec<u32>,
    /// The completion's random stream.
    pub seed: u64,
}

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// What logits are divided by, ≥ 0; 0 takes the likeliest token, the first of equals.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability, in (0, 1], are drawn (Holtzman et al. 2020, §3.1).
    pub top_p: f32,
    /// Tokens at most, ≥ 1; the model's positions limit it further.
    pub max_tokens: usize,
    /// Tokens that end a completion.
    pub stop_ids: Vec<u32>,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// A stop token was drawn.
    Stop,
    /// `max_tokens` or the model's positions were used up.
    Length,
}

/// What a prompt was continued by.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The tokens drawn, the stop token included.
    pub ids: Vec<u32>,
    /// For each, the natural logarithm of its probability under the model: at temperature 1, over all tokens.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Completion {
    /// The tokens without the stop token.
    #[must_use]
    pub fn text_ids(&self) -> &[u32] {
        match self.finish {
            Finish::Stop => &self.ids[..self.ids.len() - 1],
            Finish::Length => &self.ids,
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<()> {
        let wrong = |what, expected: &str, got: &dyn std::fmt::Display| {
            Err(Error::Range { what, expected: expected.to_owned(), got: got.to_string() })
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "a finite number, at least 0", &self.temperature);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", "a number in (0, 1]", &self.top_p);
        }
        if self.max_tokens == 0 {
            return wrong("max_tokens", "at least 1", &0);
        }
        Ok(())
    }
}

/// Continues every prompt, on up to `n_threads` threads.
///
/// # Errors
/// `Range` for a setting; `Empty`, `Token` or `TooLong` for a prompt; `Logits` if the model's outputs are not finite;
/// `Device` if the device fails.
pub fn sample(lm: &Lm, prompts: &[Prompt], sampling: &Sampling, n_threads: usize) -> Result<Vec<Completion>> {
    sampling.check()?;
    check_threads(n_threads)?;
    let config = lm.config();
    for (idx, prompt) in prompts.iter().enumerate() {
        check_ids("prompt", idx, &prompt.ids, config.vocab_size)?;
        check_len("prompt", idx, prompt.ids.len(), config.max_positions - 1)?;
    }
    match lm.net()? {
        Some(net) => net::sample(&net, prompts, sampling),
        None => local::sample(lm.cpu(), config, prompts, sampling, n_threads),
    }
}

/// Checks that a list's sequence has a token, and only tokens the model knows.
pub(crate) fn check_ids(what: &'static str, idx: usize, ids: &[u32], vocab_size: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::Empty { what, idx, expected: "at least one token" });
    }
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        Some(&id) => Err(Error::Token { what, idx, vocab_size, id }),
        None => Ok(()),
    }
}

/// Checks that a list's sequence has at most `limit` tokens.
pub(crate) fn check_len(what: &'static str, idx: usize, got: usize, limit: usize) -> Result<()> {
    if got > limit { Err(Error::TooLong { what, idx, limit, got }) } else { Ok(()) }
}

/// Checks that there is a thread to work on.
pub(crate) fn check_threads(n_threads: usize) -> Result<()> {
    if n_threads == 0 {
        return Err(Error::Range { what: "n_threads", expected: "at least 1".to_owned(), got: "0".to_owned() });
    }
    Ok(())
}
