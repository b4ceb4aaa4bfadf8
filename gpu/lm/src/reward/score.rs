//! What the head reads at given positions.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::RewardModel;
use crate::cpu::{Model, Reading, Readout, Seq, Work};
use crate::error::{Error, Result};
use crate::sample::{self, Prompts, on_threads};
use crate::score::Continuation;

/// Tokens read in one pass, which bounds the memory of activations.
const CHUNK: usize = 256;

/// A continuation, and where its steps end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// The tokens.
    pub continuation: Continuation<'a>,
    /// Positions in the prompt followed by the completion, from 0: ascending, at least one, none before the prompt's last
    /// token. The head reads the hidden state after the token there.
    pub at: &'a [usize],
}

/// The head's outputs at the last token of each continuation, `[continuations][outputs]`.
///
/// A head of two tokens gives the probability of `plus`. On the CPU the outputs are functions of the model and the
/// continuation alone: not of the number of threads, nor of what else is in the call.
///
/// # Errors
/// `Empty`, `Token` or `TooLong` for a continuation; `Output` if an output is not finite; `Device` if the device fails.
pub fn scores(model: &RewardModel, continuations: &[Continuation<'_>], n_threads: usize) -> Result<Vec<Vec<f64>>> {
    let last: Vec<[usize; 1]> =
        continuations.iter().map(|one| [(one.prompt.len() + one.completion.len()).saturating_sub(1)]).collect();
    let tagged: Vec<Tagged<'_>> =
        continuations.iter().zip(&last).map(|(continuation, at)| Tagged { continuation: *continuation, at }).collect();
    let read = outputs(model, &tagged, n_threads)?;
    Ok(read.iter().map(|row| row.iter().map(|output| model.head().score(*output)).collect()).collect())
}

/// The head's outputs at the tags of each continuation, `[continuations][tags][outputs]`; else as [`scores`].
///
/// # Errors
/// As [`scores`]; `At` for a tag outside the completion or out of order.
pub fn tag_scores(model: &RewardModel, tagged: &[Tagged<'_>], n_threads: usize) -> Result<Vec<Vec<Vec<f64>>>> {
    let k = model.head().n_outputs();
    let read = outputs(model, tagged, n_threads)?;
    let score = |outputs: &[f32]| outputs.iter().map(|output| model.head().score(*output)).collect();
    Ok(read.iter().map(|row| row.chunks_exact(k).map(score).collect()).collect())
}

/// Checks positions that a head reads: ascending, at least one, from `first` and below `end`.
pub(crate) fn check_positions(what: &'static str, idx: usize, at: &[usize], first: usize, end: usize) -> Result<()> {
    if at.is_empty() {
        return Err(Error::Empty { what, idx, expected: "at least one position to read at" });
    }
    let mut least = first;
    for position in at {
        if !(least..end).contains(position) {
            let expected = format!("a position in {least}..{end}, after those before it");
            return Err(Error::At { what, idx, position: *position, expected, got: position.to_string() });
        }
        least = position + 1;
    }
    Ok(())
}

/// What losses see of the head, `[continuations][tags · outputs]`.
pub(crate) fn outputs(model: &RewardModel, tagged: &[Tagged<'_>], n_threads: usize) -> Result<Vec<Vec<f32>>> {
    sample::check_threads(n_threads)?;
    let (lm, head) = (model.trunk(), model.head());
    let config = lm.config();
    for (idx, Tagged { continuation: Continuation { prompt, completion }, at }) in tagged.iter().enumerate() {
        sample::check_ids("prompt", idx, prompt, config.vocab_size)?;
        sample::check_ids("completion", idx, completion, config.vocab_size)?;
        let len = prompt.len() + completion.len();
        sample::check_len("prompt and completion", idx, len, config.max_positions)?;
        check_positions("continuation", idx, at, prompt.len() - 1, len)?;
    }
    let read = if let Some(net) = lm.net()? {
        net.outputs(head, tagged)?
    } else {
        let local = lm.cpu();
        let readout = Readout::new(head, local);
        let shared = Prompts::new(tagged.iter().map(|one| one.continuation.prompt));
        let order = shared.order();
        let next = AtomicUsize::new(0);
        let mut done = on_threads(n_threads.min(tagged.len().max(1)), || {
            let (mut work, mut reading) = (Work::default(), Reading::default());
            let mut done = Vec::new();
            while let Some(&row) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let rows = one(local, &shared, row, &tagged[row], &mut work);
                done.push((row, readout.outputs(local, rows, &mut reading).to_vec()));
            }
            Ok(done)
        })?;
        done.sort_unstable_by_key(|(row, _)| *row);
        done.into_iter().map(|(_, outputs)| outputs).collect()
    };
    let k = head.n_outputs();
    for (idx, (row, one)) in read.iter().zip(tagged).enumerate() {
        if let Some(bad) = row.iter().position(|output| !output.is_finite()) {
            return Err(Error::Output { what: "continuation", idx, position: one.at[bad / k] });
        }
    }
    Ok(read)
}

/// The residual stream at the tags of one continuation, `[tags, hidden]`.
fn one(model: &Model, shared: &Prompts<'_>, row: usize, tagged: &Tagged<'_>, work: &mut Work) -> Vec<f32> {
    let read = shared.take(row, model, work);
    let mut cache = model.cache(Some(read.segment.clone()));
    let last = cache.len() - 1;
    let mut rows = if tagged.at.first() == Some(&last) { read.last.clone() } else { Vec::new() };
    for ids in tagged.continuation.completion.chunks(CHUNK) {
        let first = cache.len();
        model.forward(&mut [Seq { cache: &mut cache, ids }], work);
        let here: Vec<usize> =
            tagged.at.iter().filter_map(|at| at.checked_sub(first)).filter(|at| *at < ids.len()).collect();
        rows.extend(model.stream(&here, work));
    }
    rows
}
