//! Sampling on the CPU: continuous batches on each thread.
//!
//! Every thread holds up to [`MAX_LIVE`] completions and takes the next one off a common list as soon as one of its own
//! ends. Which thread takes which changes no bit, since the network's outputs do not depend on the batch.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Completion, Finish, Picker, Prompt, Sampling};
use crate::config::Config;
use crate::cpu::{Cache, Model, Segment, Seq, Work};
use crate::error::{Error, Result};

/// Completions a thread works on at once: enough rows to use the registers well.
const MAX_LIVE: usize = 32;

/// Prompt tokens read in one pass, which bounds the memory of activations.
const PREFILL: usize = 512;

/// A prompt that has been read.
pub(crate) struct Prompted {
    pub(crate) segment: Arc<Segment>,
    /// The residual stream after its last token, `[hidden]`.
    pub(crate) last: Vec<f32>,
    logits: OnceLock<Vec<f32>>,
}

impl Prompted {
    /// Logits after its last token, computed when first asked for.
    pub(crate) fn logits(&self, model: &Model, work: &mut Work) -> &[f32] {
        self.logits.get_or_init(|| {
            let mut logits = Vec::new();
            model.logits_after(&self.last, work, &mut logits);
            logits
        })
    }
}

/// The distinct prompts of a call: each is read once, by the first thread that needs it, and let go after the last use.
pub(crate) struct Prompts<'a> {
    distinct: Vec<Distinct<'a>>,
    of_row: Vec<usize>,
}

struct Distinct<'a> {
    ids: &'a [u32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    read: Option<Arc<Prompted>>,
    n_left: usize,
}

impl<'a> Prompts<'a> {
    pub(crate) fn new(rows: impl Iterator<Item = &'a [u32]>) -> Self {
        let mut by_ids = HashMap::<&[u32], usize>::new();
        let mut distinct: Vec<Distinct<'a>> = Vec::new();
        let mut of_row = Vec::new();
        for ids in rows {
            let idx = *by_ids.entry(ids).or_insert_with(|| {
                distinct.push(Distinct { ids, state: Mutex::default() });
                distinct.len() - 1
            });
            let state = distinct[idx].state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.n_left += 1;
            of_row.push(idx);
        }
        Self { distinct, of_row }
    }

    /// Rows in an order in which those of one prompt follow each other.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.of_row.len()).collect();
        order.sort_by_key(|row| self.of_row[*row]);
        order
    }

    /// The prompt of a row, read now if no row before has asked for it. Each row asks once.
    pub(crate) fn take(&self, row: usize, model: &Model, work: &mut Work) -> Arc<Prompted> {
        let distinct = &self.distinct[self.of_row[row]];
        let mut state = distinct.state.lock().unwrap_or_else(PoisonError::into_inner);
        let read = state.read.take().unwrap_or_else(|| Arc::new(prefill(distinct.ids, model, work)));
        state.n_left -= 1;
        if state.n_left > 0 {
            state.read = Some(read.clone());
        }
        read
    }
}

fn prefill(ids: &[u32], model: &Model, work: &mut Work) -> Prompted {
    let mut cache = model.cache(None);
    let mut last = 0;
    for ids in ids.chunks(PREFILL) {
        model.forward(&mut [Seq { cache: &mut cache, ids }], work);
        last = ids.len() - 1;
    }
    Prompted { segment: Arc::new(cache.own), last: model.stream(&[last], work), logits: OnceLock::new() }
}

/// Runs `work` on up to `n_threads` threads, each with its own call, and joins what they give.
pub(crate) fn on_threads<T: Send>(n_threads: usize, work: impl Fn() -> Result<Vec<T>> + Sync) -> Result<Vec<T>> {
    if n_threads == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(&work)).collect();
        let mut all = Vec::new();
        let mut failure = None;
        for thread in threads {
            match thread.join().unwrap_or_else(|panic| resume_unwind(panic)) {
                Ok(part) => all.extend(part),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(all), Err)
    })
}

/// Continues every prompt. The prompts are checked.
pub(super) fn sample(
    model: &Model,
    config: &Config,
    prompts: &[Prompt],
    sampling: &Sampling,
    n_threads: usize,
) -> Result<Vec<Completion>> {
    let shared = Prompts::new(prompts.iter().map(|prompt| prompt.ids.as_slice()));
    let job = Job {
        model,
        config,
        prompts,
        sampling,
        order: shared.order(),
        shared,
        next: AtomicUsize::new(0),
        max_live: prompts.len().div_ceil(n_threads).min(MAX_LIVE),
    };
    let mut done = on_threads(n_threads.min(prompts.len().max(1)), || job.work())?;
    done.sort_unstable_by_key(|(row, _)| *row);
    Ok(done.into_iter().map(|(_, completion)| completion).collect())
}

struct Job<'a> {
    model: &'a Model,
    config: &'a Config,
    prompts: &'a [Prompt],
    sampling: &'a Sampling,
    shared: Prompts<'a>,
    order: Vec<usize>,
    next: AtomicUsize,
    max_live: usize,
}

/// A completion being written.
struct Live {
    row: usize,
    rng: ChaCha8Rng,
    cache: Cache,
    completion: Completion,
    max_tokens: usize,
}

impl Job<'_> {
    /// One thread's share.
    fn work(&self) -> Result<Vec<(usize, Completion)>> {
        let mut work = Work::default();
        let mut picker = Picker::new(self.sampling);
        let (mut live, mut done) = (Vec::<Live>::new(), Vec::new());
        let mut logits = Vec::new();
        loop {
            while live.len() < self.max_live {
                let Some(row) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let read = self.shared.take(*row, self.model, &mut work);
                let mut new = self.start(*row, &read);
                if new.extend(read.logits(self.model, &mut work), &mut picker)? {
                    done.push((new.row, new.completion));
                } else {
                    live.push(new);
                }
            }
            if live.is_empty() {
                return Ok(done);
            }
            self.step(&mut live, &mut work, &mut logits);
            let mut rows = logits.chunks_exact(self.config.vocab_size);
            let mut kept = Vec::with_capacity(live.len());
            for mut one in live {
                if one.extend(rows.next().unwrap_or_default(), &mut picker)? {
                    done.push((one.row, one.completion));
                } else {
                    kept.push(one);
                }
            }
            live = kept;
        }
    }

    fn start(&self, row: usize, read: &Prompted) -> Live {
        let prompt = &self.prompts[row];
        Live {
            row,
            rng: ChaCha8Rng::seed_from_u64(prompt.seed),
            cache: self.model.cache(Some(read.segment.clone())),
            completion: Completion { ids: Vec::new(), log_probs: Vec::new(), finish: Finish::Length },
            max_tokens: self.sampling.max_tokens.min(self.config.max_positions - prompt.ids.len()),
        }
    }

    /// Reads the last token of every live completion.
    fn step(&self, live: &mut [Live], work: &mut Work, logits: &mut Vec<f32>) {
        let mut seqs: Vec<Seq<'_>> = live
            .iter_mut()
            .map(|one| {
                let ids = &one.completion.ids;
                Seq { cache: &mut one.cache, ids: &ids[ids.len() - 1..] }
            })
            .collect();
        self.model.forward(&mut seqs, work);
        let all: Vec<usize> = (0..live.len()).collect();
        self.model.logits(&all, work, logits);
    }
}

impl Live {
    /// Draws the next token; true if it is the last.
    fn extend(&mut self, logits: &[f32], picker: &mut Picker<'_>) -> Result<bool> {
        let picked = picker.pick(logits, &mut self.rng);
        let (id, log_prob) =
            picked.ok_or(Error::Logits { what: "prompt", idx: self.row, position: self.cache.len() })?;
        self.completion.ids.push(id);
        self.completion.log_probs.push(log_prob);
        if picker.stops(id) {
            self.completion.finish = Finish::Stop;
            return Ok(true);
        }
        Ok(self.completion.ids.len() >= self.max_tokens)
    }
}
