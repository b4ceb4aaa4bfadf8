//! Who answers: a model of ours. Greedy answers with the probability of each token, letters of choices, samples, and how sure it is.

use std::sync::Arc;

use tracker_lm::{Lm, Prompt, Sampling as Drawing};
use tracker_store::{Content as _, Finish, NodeId, Recording, RowKey, Sample, Sampling};

use super::items::Item;
use super::room::{Room, kind, recorded, reward};
use super::served::Served;
use crate::error::{Error, Result};
use crate::lab::Stage;
use crate::parts::certainty::{Answered, Given, geometric_mean, letters, sureness, token_texts};
use crate::parts::generate::{Draw, Policy, asks, draw};
use crate::parts::train::Trained;

/// Questions put to a model at once.
const AT_ONCE: usize = 256;

/// An answer, where it is recorded, and the confidence in it.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) row: RowKey,
    pub(super) text: String,
    pub(super) a: f64,
}

/// Who answers.
pub(super) enum Speaker {
    /// A model of ours.
    Local { node: NodeId, model: Arc<Lm> },
    /// A model behind an endpoint.
    Served(Box<Served>),
}

impl Speaker {
    pub(super) fn new(of: &Trained) -> Self {
        Self::Local { node: of.node, model: Arc::new(of.model.clone()) }
    }

    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Local { node, .. } => *node,
            Self::Served(served) => served.node,
        }
    }

    /// The answer of each question by itself: the likeliest tokens, to the first sign that ends a sentence.
    pub(super) async fn answers(&self, room: &Room<'_>, of: &Stage<'_>, items: &[Item], max: u32) -> Result<Vec<Said>> {
        let mut all = Vec::with_capacity(items.len());
        for (nth, items) in items.chunks(AT_ONCE).enumerate() {
            room.lab.check()?;
            let rows: Vec<RowKey> = (0..items.len()).map(|at| of.row((nth * AT_ONCE + at) as u32, 0)).collect();
            all.extend(match self {
                Self::Local { node, model } => local(room, (*node, model), of, items, &rows, max).await?,
                Self::Served(served) => served.answers(room, of, items, &rows, max).await?,
            });
            of.done(all.len());
        }
        Ok(all)
    }

    /// The likeliest letter of each choice, and its share of the probability of all its letters.
    pub(super) async fn letters(&self, room: &Room<'_>, of: &Stage<'_>, items: &[Item]) -> Result<Vec<Said>> {
        let mut all = Vec::with_capacity(items.len());
        for (nth, items) in items.chunks(AT_ONCE).enumerate() {
            room.lab.check()?;
            let words: Vec<Vec<String>> =
                items.iter().map(|item| item.letters().iter().map(|letter| format!(" {letter}")).collect()).collect();
            let log_probs = match self {
                Self::Local { model, .. } => words_of(room, model, items, &words).await?,
                Self::Served(served) => served.letters(items, &words).await?,
            };
            let sampling = greedy(room, 1);
            let mut recording = Recording::new();
            recording.put(room.lab.run(), &sampling)?;
            for ((at, item), log_probs) in items.iter().enumerate().zip(log_probs) {
                let row = of.row((nth * AT_ONCE + at) as u32, 0);
                let (chosen, a) = letters(&log_probs).ok_or_else(|| Error::Input {
                    what: format!("question `{}`: the model gives no letter any probability", item.question),
                    hint: None,
                })?;
                let text = item.letters().get(chosen).copied().unwrap_or_default().to_owned();
                let sample = Sample {
                    subject: item.node,
                    policy: self.node(),
                    sampling: sampling.digest()?,
                    seed: of.seed(row.item, row.k),
                    text: text.clone(),
                    n_tokens: 1,
                    sum_logprob: log_probs.get(chosen).copied(),
                    finish: Finish::Length,
                };
                recording.put_sample(row, &sample)?;
                recording.put_reward(row, &reward(self.node(), kind::LETTERS, log_probs))?;
                recording.put_reward(row, &reward(self.node(), kind::A, vec![a]))?;
                all.push(Said { row, text, a });
            }
            room.lab.record(recording).await?;
            of.done(all.len());
        }
        Ok(all)
    }

    /// Samples of each question, `k` each, every one kept.
    pub(super) async fn samples(
        &self,
        room: &Room<'_>,
        of: &Stage<'_>,
        items: &[Item],
        max: u32,
    ) -> Result<Vec<Vec<(RowKey, String)>>> {
        let (k, temperature) = (room.plan.identify.k, room.plan.identify.temperature);
        let sampling = Sampling { temperature, ..greedy(room, max) };
        let policy = match self {
            Self::Local { node, model } => {
                Policy::Local { node: *node, model: Arc::clone(model), generator: room.generator.clone() }
            }
            Self::Served(served) => served.policy(),
        };
        let mut all = Vec::with_capacity(items.len());
        let size = policy.n_prompts(k);
        for (nth, items) in items.chunks(size).enumerate() {
            room.lab.check()?;
            let asks = asks(of, nth * size, k, items, |item| (item.node, &item.prompt));
            let samples = draw(room.lab, of, &policy, &asks, &sampling).await?;
            for (ask, samples) in asks.iter().zip(samples.chunks(k as usize)) {
                let said = samples.iter().map(|sample| Answered::of_text(&sample.text));
                all.push(ask.rows.iter().copied().zip(said).collect());
            }
            of.done(all.len());
        }
        Ok(all)
    }

    /// How sure the model says it is of each of its answers: s = p(sure) / (p(sure) + p(unsure)), all tokens of both words.
    pub(super) async fn sure(
        &self,
        room: &Room<'_>,
        of: &Stage<'_>,
        items: &[Item],
        said: &[Said],
    ) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(items.len());
        for (items, said) in items.chunks(AT_ONCE).zip(said.chunks(AT_ONCE)) {
            room.lab.check()?;
            let template = &room.template;
            let texts: Vec<String> = items
                .iter()
                .zip(said)
                .map(|(item, said)| format!("{}{}{}", item.prompt, template.answer(&said.text), template.checked()))
                .collect();
            match self {
                Self::Served(served) => all.extend(served.sure(room, of, items, said, &texts).await?),
                Self::Local { node, model } => {
                    let words = [true, false].map(|is_sure| template.word(is_sure));
                    let pairs = texts.iter().flat_map(|text| words.iter().map(|word| (text.as_str(), word.as_str())));
                    let log_probs = room.likelihood.ask(Given::new(model, pairs)?).await?;
                    let mut recording = Recording::new();
                    for (said, pair) in said.iter().zip(log_probs.chunks(2)) {
                        let pair = [0, 1].map(|at| pair[at].iter().sum::<f64>());
                        let s = sureness(pair).ok_or_else(|| Error::Input {
                            what: format!("after answer `{}` the model gives neither word any probability", said.text),
                            hint: Some("look at `template.sure` and `template.unsure`".into()),
                        })?;
                        recording.put_reward(said.row, &reward(*node, kind::S, vec![s, pair[0], pair[1]]))?;
                        all.push(s);
                    }
                    room.lab.record(recording).await?;
                }
            }
        }
        Ok(all)
    }
}

/// How greedy answers are drawn; with the template, the prompt of a question follows from its text.
pub(super) fn greedy(room: &Room<'_>, max_tokens: u32) -> Sampling {
    let template = room.template.question.clone();
    Sampling { temperature: 0.0, top_p: 1.0, max_tokens, stop: vec![], template }
}

async fn local(
    room: &Room<'_>,
    (node, model): (NodeId, &Arc<Lm>),
    of: &Stage<'_>,
    items: &[Item],
    rows: &[RowKey],
    max_tokens: u32,
) -> Result<Vec<Said>> {
    let lab = room.lab;
    // What a killed run recorded is read back: answer and tokens are recorded together.
    let back = rows.iter().map(|row| {
        let (sample, tokens) = (lab.store().sample(*row)?, recorded(lab, *row, node, kind::TOKENS)?);
        Ok(sample.zip(tokens).map(|(sample, tokens)| Said {
            row: *row,
            text: Answered::of_text(&sample.text),
            a: geometric_mean(&tokens),
        }))
    });
    if let Some(said) = back.collect::<Result<Option<Vec<Said>>>>()? {
        return Ok(said);
    }
    let prompts = items
        .iter()
        .zip(rows)
        .map(|(item, row)| Ok(Prompt { ids: model.tokenizer().encode(&item.prompt)?, seed: of.seed(row.item, row.k) }));
    let drawing =
        Drawing { temperature: 0.0, top_p: 1.0, max_tokens: max_tokens as usize, stop_ids: model.config().eos.clone() };
    let message = Draw { model: Arc::clone(model), prompts: prompts.collect::<Result<_>>()?, sampling: drawing };
    let completions = room.generator.ask(message).await?;
    let sampling = greedy(room, max_tokens);
    let mut recording = Recording::new();
    recording.put(lab.run(), &sampling)?;
    let mut all = Vec::with_capacity(items.len());
    for ((item, row), completion) in items.iter().zip(rows).zip(completions) {
        let raw = model.tokenizer().decode(completion.text_ids())?;
        let Answered { text, n_tokens } = Answered::of_tokens(&token_texts(model, completion.text_ids())?);
        let log_probs: Vec<f64> = completion.log_probs.iter().map(|x| f64::from(*x)).collect();
        // Of an empty answer the token that ends it counts.
        let own = &log_probs[..n_tokens.clamp(1.min(log_probs.len()), log_probs.len())];
        let sample = Sample {
            subject: item.node,
            policy: node,
            sampling: sampling.digest()?,
            seed: of.seed(row.item, row.k),
            text: raw,
            n_tokens: completion.ids.len() as u32,
            sum_logprob: Some(log_probs.iter().sum()),
            finish: match completion.finish {
                tracker_lm::Finish::Stop => Finish::Stop,
                tracker_lm::Finish::Length => Finish::Length,
            },
        };
        recording.put_sample(*row, &sample)?;
        let a = geometric_mean(own);
        recording.put_reward(*row, &reward(node, kind::TOKENS, own.to_vec()))?;
        recording.put_reward(*row, &reward(node, kind::A, vec![a]))?;
        all.push(Said { row: *row, text, a });
    }
    lab.record(recording).await?;
    Ok(all)
}

/// The log-probability of each word, all of its tokens, after each question.
async fn words_of(room: &Room<'_>, model: &Arc<Lm>, items: &[Item], words: &[Vec<String>]) -> Result<Vec<Vec<f64>>> {
    let pairs = items.iter().zip(words);
    let pairs = pairs.flat_map(|(item, words)| words.iter().map(|word| (item.prompt.as_str(), word.as_str())));
    let mut scored = room.likelihood.ask(Given::new(model, pairs)?).await?.into_iter();
    let sums = words.iter().map(|words| words.iter().filter_map(|_| Some(scored.next()?.iter().sum())).collect());
    Ok(sums.collect())
}
