//! Sampling on a device: one batch, filled up at the left so that all rows end together.
//!
//! Finished rows leave; once half the places are free, waiting prompts are read as one batch and join. Prompts that are
//! equal are read once. A completion depends on the whole list of prompts, since rounding depends on the batch.

use std::collections::{HashMap, HashSet};

use burn::prelude::{Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{KeyValue, Net, Positions, guard};
use crate::error::{Error, Result};
use crate::sample::{Completion, Finish, Picker, Prompt, Sampling};

/// Rows of the batch.
const PLACES: usize = 256;

/// Padded prompt tokens read at once.
const PREFILL: usize = 16_384;

/// Continues every prompt. The prompts are checked.
pub(crate) fn sample(net: &Net, prompts: &[Prompt], sampling: &Sampling) -> Result<Vec<Completion>> {
    let mut done: Vec<Option<Completion>> = vec![None; prompts.len()];
    let mut batch = Batch { net, rows: Vec::new(), past: Vec::new(), len: 0 };
    let mut picker = Picker::new(sampling);
    let mut waiting = 0;
    while waiting < prompts.len() || !batch.rows.is_empty() {
        let logits = guard(&net.name, || {
            if waiting < prompts.len() && batch.rows.len() <= PLACES / 2 {
                let n = wave(&prompts[waiting..], PLACES - batch.rows.len());
                let logits = batch.admit(prompts, waiting..waiting + n, sampling)?;
                waiting += n;
                Ok(logits)
            } else {
                batch.step()
            }
        })?;
        let ended = batch.extend(&logits, &mut picker)?;
        if !ended.is_empty() {
            for (row, completion) in ended {
                done[row] = Some(completion);
            }
            guard(&net.name, || {
                batch.compact();
                Ok(())
            })?;
        }
    }
    Ok(done.into_iter().flatten().collect())
}

/// How many waiting prompts to take at once: as many as have no more than so many tokens to read, equal ones counted once.
fn wave(waiting: &[Prompt], places: usize) -> usize {
    let (mut longest, mut distinct) = (0, HashSet::new());
    for (n, prompt) in waiting.iter().take(places).enumerate() {
        longest = longest.max(prompt.ids.len());
        distinct.insert(&prompt.ids);
        if n > 0 && distinct.len() * longest > PREFILL {
            return n;
        }
    }
    waiting.len().min(places)
}

struct Batch<'a> {
    net: &'a Net,
    rows: Vec<Row>,
    /// For each block, filled up at the left to `len` tokens.
    past: Vec<KeyValue>,
    len: usize,
}

/// A completion being written.
struct Row {
    idx: usize,
    rng: ChaCha8Rng,
    completion: Completion,
    /// Tokens read.
    n_read: usize,
    max_tokens: usize,
    /// Whether the last logits are this row's.
    fresh: bool,
    ended: bool,
}

impl Batch<'_> {
    /// Reads prompts and gives the logits after each; the rows already there wait.
    fn admit(&mut self, prompts: &[Prompt], range: std::ops::Range<usize>, sampling: &Sampling) -> Result<Vec<f32>> {
        let net = self.net;
        let mut distinct: Vec<&[u32]> = Vec::new();
        let mut by_ids = HashMap::<&[u32], i32>::new();
        let which: Vec<i32> = prompts[range.clone()]
            .iter()
            .map(|prompt| {
                *by_ids.entry(&prompt.ids).or_insert_with(|| {
                    distinct.push(&prompt.ids);
                    distinct.len() as i32 - 1
                })
            })
            .collect();
        let n = distinct.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(distinct.len() * n);
        for prompt in &distinct {
            ids.resize(ids.len() + n - prompt.len(), 0);
            ids.extend(prompt.iter().map(|id| *id as i32));
        }
        let lens: Vec<usize> = distinct.iter().map(|ids| ids.len()).collect();
        let positions = self.positions(&lens, n, n);
        let mut x = net.embed(ids, distinct.len());
        let mut read = Vec::with_capacity(net.at.blocks.len());
        for block in 0..net.at.blocks.len() {
            let (next, kept) = net.block(block, x, &positions, None);
            x = next;
            read.push(kept);
        }
        let last = x.narrow(1, n - 1, 1).squeeze_dim::<2>(1);
        let which = net.ints(which);
        let logits = net.read(net.logits(last).select(0, which.clone()))?;
        let read = read.into_iter().map(|(k, v)| (k.select(0, which.clone()), v.select(0, which.clone())));
        self.join(read.collect(), n);
        for row in &mut self.rows {
            row.fresh = false;
        }
        self.rows.extend(range.map(|idx| {
            let prompt = &prompts[idx];
            Row {
                idx,
                rng: ChaCha8Rng::seed_from_u64(prompt.seed),
                completion: Completion { ids: Vec::new(), log_probs: Vec::new(), finish: Finish::Length },
                n_read: prompt.ids.len(),
                max_tokens: sampling.max_tokens.min(net.config.max_positions - prompt.ids.len()),
                fresh: true,
                ended: false,
            }
        }));
        Ok(logits)
    }

    /// Appends rows of `n` tokens.
    fn join(&mut self, read: Vec<KeyValue>, n: usize) {
        let len = self.len.max(n);
        let past = std::mem::take(&mut self.past);
        self.past = if past.is_empty() {
            read
        } else {
            let both = past.into_iter().zip(read);
            let fill = |tensor: Tensor<4>| {
                let [batch, heads, n, dim] = tensor.dims();
                if n == len {
                    return tensor;
                }
                let zeros = Tensor::zeros([batch, heads, len - n, dim], &self.net.device);
                Tensor::cat(vec![zeros, tensor], 2)
            };
            let join = |a, b| Tensor::cat(vec![fill(a), fill(b)], 0);
            both.map(|(past, read)| (join(past.0, read.0), join(past.1, read.1))).collect()
        };
        self.len = len;
    }

    /// Reads each row's last token and gives the logits after it.
    fn step(&mut self) -> Result<Vec<f32>> {
        let net = self.net;
        let last = |row: &Row| row.completion.ids.last().map_or(0, |id| *id as i32);
        let ids: Vec<i32> = self.rows.iter().map(last).collect();
        for row in &mut self.rows {
            row.n_read += 1;
            row.fresh = true;
        }
        self.len += 1;
        let lens: Vec<usize> = self.rows.iter().map(|row| row.n_read).collect();
        let positions = self.positions(&lens, 1, self.len);
        let mut x = net.embed(ids, self.rows.len());
        for (block, past) in self.past.iter_mut().enumerate() {
            let (next, kept) = net.block(block, x, &positions, Some(past.clone()));
            x = next;
            *past = kept;
        }
        net.read(net.logits(x.squeeze_dim::<2>(1)))
    }

    /// Positions of the last `n` of `all` tokens, for rows that have `lens` tokens each, at the right.
    fn positions(&self, lens: &[usize], n: usize, all: usize) -> Positions {
        let net = self.net;
        let (batch, half) = (lens.len(), net.config.head_dim / 2);
        let (mut position, mut hidden) = (Vec::with_capacity(batch * n), Vec::with_capacity(batch * n * all));
        for len in lens {
            let pad = all - len;
            for column in all - n..all {
                position.push(column.saturating_sub(pad) as i32);
                // A token sees itself even where it is padding, so that nothing becomes NaN.
                hidden.extend((0..all).map(|other| other != column && !(pad..=column).contains(&other)));
            }
        }
        let position = net.ints(position);
        let table = |table: &Tensor<2>| table.clone().select(0, position.clone()).reshape([batch, 1, n, half]);
        Positions {
            cos: table(&net.cos),
            sin: table(&net.sin),
            hidden: Tensor::from_data(TensorData::new(hidden, [batch, 1, n, all]), &net.device),
        }
    }

    /// Draws a token for every fresh row; gives the rows that ended.
    fn extend(&mut self, logits: &[f32], picker: &mut Picker<'_>) -> Result<Vec<(usize, Completion)>> {
        let mut ended = Vec::new();
        let fresh = self.rows.iter_mut().filter(|row| row.fresh);
        for (row, logits) in fresh.zip(logits.chunks_exact(self.net.config.vocab_size)) {
            let picked = picker.pick(logits, &mut row.rng);
            let failure = Error::Logits { what: "prompt", idx: row.idx, position: row.n_read };
            let (id, log_prob) = picked.ok_or(failure)?;
            row.completion.ids.push(id);
            row.completion.log_probs.push(log_prob);
            if picker.stops(id) {
                row.completion.finish = Finish::Stop;
            }
            if row.completion.finish == Finish::Stop || row.completion.ids.len() >= row.max_tokens {
                row.ended = true;
                ended.push((row.idx, row.completion.clone()));
            }
        }
        Ok(ended)
    }

    /// Lets ended rows go, and tokens that no row has.
    fn compact(&mut self) {
        let kept: Vec<i32> = (0..self.rows.len() as i32).filter(|at| !self.rows[*at as usize].ended).collect();
        self.rows.retain(|row| !row.ended);
        let Some(longest) = self.rows.iter().map(|row| row.n_read).max() else {
            self.past.clear();
            self.len = 0;
            return;
        };
        let kept = self.net.ints(kept);
        let cut = self.len - longest;
        let keep = |tensor: &Tensor<4>| tensor.clone().select(0, kept.clone()).narrow(2, cut, longest);
        for (keys, values) in &mut self.past {
            (*keys, *values) = (keep(keys), keep(values));
        }
        self.len = longest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_prompts_take_the_room_of_one() {
        let prompt =
            |first: u32, n: usize| Prompt { ids: std::iter::once(first).chain(vec![7; n - 1]).collect(), seed: 0 };
        let shared: Vec<Prompt> = (0..64).map(|row| prompt(row / 16, 4000)).collect();
        let own: Vec<Prompt> = (0..64).map(|row| prompt(row, 4000)).collect();
        assert_eq!((wave(&shared, 256), wave(&own, 256), wave(&shared, 20)), (64, 4, 20));
        // One that is too long is read alone.
        let long: Vec<Prompt> = (0..4).map(|row| prompt(row / 2, PREFILL + 1)).collect();
        assert_eq!(wave(&long, 256), 1);
    }
}
