//! Log-probabilities of given continuations.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cpu::{Model, Seq, Work};
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::sample::{self, Prompts, on_threads};

/// Tokens read at once, by each thread.
const CHUNK: usize = 256;

/// A prompt and what is said to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation<'a> {
    /// Token ids; at least one. Continuations of one call with equal prompts share its keys and values.
    pub prompt: &'a [u32],
    /// Token ids; at least one.
    pub completion: &'a [u32],
}

/// The natural logarithm of the probability of each completion's tokens, each given all before it.
///
/// On the CPU these are the very bits that sampling reports and training starts from, whatever else is in the call.
/// Sum them for the log-probability of the whole completion.
///
/// # Errors
/// `Empty`, `Token` or `TooLong` for a continuation; `Logits` if the model's outputs are not finite; `Device` if the
/// device fails.
pub fn log_probs(lm: &Lm, continuations: &[Continuation<'_>], n_threads: usize) -> Result<Vec<Vec<f32>>> {
    sample::check_threads(n_threads)?;
    let config = lm.config();
    for (idx, continuation) in continuations.iter().enumerate() {
        sample::check_ids("prompt", idx, continuation.prompt, config.vocab_size)?;
        sample::check_ids("completion", idx, continuation.completion, config.vocab_size)?;
        let len = continuation.prompt.len() + continuation.completion.len();
        sample::check_len("prompt and completion", idx, len, config.max_positions)?;
    }
    if let Some(net) = lm.net()? {
        return net.log_probs(continuations);
    }
    let model = lm.cpu();
    let shared = Prompts::new(continuations.iter().map(|continuation| continuation.prompt));
    let order = shared.order();
    let next = AtomicUsize::new(0);
    let mut done = on_threads(n_threads.min(continuations.len().max(1)), || {
        let mut work = Work::default();
        let mut done = Vec::new();
        while let Some(&row) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((row, one(model, &shared, row, continuations[row].completion, &mut work)?));
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(row, _)| *row);
    Ok(done.into_iter().map(|(_, log_probs)| log_probs).collect())
}

/// Logits after each token of `ids`, `[ids.len(), vocabulary]`, row-major, f32.
///
/// # Errors
/// `Empty`, `Token` or `TooLong` for `ids`; `Device` if the device fails.
pub fn logits(lm: &Lm, ids: &[u32]) -> Result<Vec<f32>> {
    let config = lm.config();
    sample::check_ids("text", 0, ids, config.vocab_size)?;
    sample::check_len("text", 0, ids.len(), config.max_positions)?;
    if let Some(net) = lm.net()? {
        return net.all_logits(ids);
    }
    let model = lm.cpu();
    let (mut cache, mut work) = (model.cache(None), Work::default());
    let (mut chunk_logits, mut all) = (Vec::new(), Vec::with_capacity(ids.len() * config.vocab_size));
    for chunk in ids.chunks(CHUNK) {
        model.forward(&mut [Seq { cache: &mut cache, ids: chunk }], &mut work);
        let tokens: Vec<usize> = (0..chunk.len()).collect();
        model.logits(&tokens, &mut work, &mut chunk_logits);
        all.extend_from_slice(&chunk_logits);
    }
    Ok(all)
}

fn one(model: &Model, shared: &Prompts<'_>, row: usize, ids: &[u32], work: &mut Work) -> Result<Vec<f32>> {
    let read = shared.take(row, model, work);
    let mut cache = model.cache(Some(read.segment.clone()));
    let n_prompt = cache.len();
    let mut log_probs = Vec::with_capacity(ids.len());
    let (last, mut stream) = (ids.len() - 1, read.last.clone());
    for start in (0..=last).step_by(CHUNK) {
        // The last token is predicted, and not read.
        let chunk = &ids[start..last.min(start + CHUNK)];
        if !chunk.is_empty() {
            model.forward(&mut [Seq { cache: &mut cache, ids: chunk }], work);
        }
        stream.extend(model.stream(&(0..chunk.len()).collect::<Vec<_>>(), work));
        let n_before = log_probs.len();
        let n = (start + CHUNK + 1).min(ids.len()) - n_before;
        log_probs.extend(model.log_probs(&stream, &ids[n_before..][..n], work));
        stream.clear();
    }
    match log_probs.iter().position(|log_prob| !log_prob.is_finite()) {
        Some(at) => Err(Error::Logits { what: "continuation", idx: row, position: n_prompt + at }),
        None => Ok(log_probs),
    }
}
