//! Who answers behind an endpoint. Where a server does not tell probabilities, shares of samples stand in for them, and are marked.

use std::sync::Arc;

use futures::StreamExt;
use tracker_actors::Pool;
use tracker_store::{Content as _, Finish, NodeId, Recording, Reward, RowKey, Sample, Sampling, Tally};

use super::items::Item;
use super::room::{Room, kind, reward};
use super::speaker::{Said, greedy};
use crate::error::{Error, Result};
use crate::lab::Stage;
use crate::parts::certainty::{Answered, geometric_mean, sureness};
use crate::parts::endpoint::{Answer, Endpoint, Need, Request, Route};
use crate::parts::generate::{EndpointGenerator, Policy};

/// Longest thing that is sampled where it is asked whether it is sure.
const WORD_TOKENS: u32 = 4;

/// A model behind an endpoint.
pub(super) struct Served {
    pub(super) node: NodeId,
    endpoint: Arc<Endpoint>,
    generator: Pool<EndpointGenerator>,
    /// Whether it tells how likely tokens are.
    tells: bool,
    /// Where probabilities of words come from, and how many of the likeliest tokens are asked for.
    route: (Route, u32),
}

impl Served {
    /// Connects to the endpoint of the plan, and asks whether it tells how likely tokens are.
    ///
    /// # Errors
    /// `Endpoint` if it does not answer.
    pub(super) async fn connect(room: &Room<'_>) -> Result<Self> {
        let settings = &room.plan.endpoint;
        let (endpoint, node) = Endpoint::of_run(room.lab, "endpoint", settings).await?;
        let tells = match endpoint.demand("endpoint", Need::Logprobs).await {
            Ok(()) => true,
            Err(error @ Error::Unable { .. }) => {
                room.lab.note(format!("{error}: `a` and `s` are shares of samples, and marked so"));
                false
            }
            Err(error) => return Err(error),
        };
        let source = if tells { "log-probabilities that the endpoint tells" } else { "shares of samples" };
        room.lab.define("endpoint", source).await?;
        let generator = EndpointGenerator::start(room.lab.actors(), Arc::clone(&endpoint), settings.concurrency)?;
        let route = (room.plan.served.route, room.plan.served.top);
        Ok(Self { node, endpoint, generator, tells, route })
    }

    pub(super) fn policy(&self) -> Policy {
        Policy::Endpoint { node: self.node, generator: self.generator.clone(), chats: false }
    }

    /// Asks for `n` continuations of each text, as many at a time as may be.
    async fn ask(&self, room: &Room<'_>, requests: Vec<Request>) -> Result<Vec<Vec<Answer>>> {
        let answers: Vec<_> = self.generator.ask_all(requests.into_iter().enumerate()).collect().await;
        let answers = answers.into_iter().map(|(_, answer)| Ok(answer?)).collect::<Result<Vec<_>>>();
        // What was given up because the user asked to stop is no failure.
        answers.or_else(|failure| room.lab.check().and(Err(failure)))
    }

    /// Greedy answers. What was asked before in this run is answered from its tape.
    pub(super) async fn answers(
        &self,
        room: &Room<'_>,
        of: &Stage<'_>,
        items: &[Item],
        rows: &[RowKey],
        max_tokens: u32,
    ) -> Result<Vec<Said>> {
        let sampling = greedy(room, max_tokens);
        let request = |(item, row): (&Item, &RowKey)| request(&item.prompt, 1, of.seed(row.item, row.k), &sampling);
        let answers = self.ask(room, items.iter().zip(rows).map(request).collect()).await?;
        let mut recording = Recording::new();
        recording.put(room.lab.run(), &sampling)?;
        let mut all = Vec::with_capacity(items.len());
        let mut untold = Vec::new();
        for (((at, item), row), answer) in items.iter().enumerate().zip(rows).zip(answers) {
            let answer = answer.into_iter().next().ok_or_else(|| Error::Internal("an answer went missing".into()))?;
            let sample = Sample {
                subject: item.node,
                policy: self.node,
                sampling: sampling.digest()?,
                seed: of.seed(row.item, row.k),
                n_tokens: answer.n_tokens.unwrap_or_else(|| answer.text.split_whitespace().count() as u32),
                sum_logprob: answer.sum_logprob,
                finish: if answer.finish == "length" { Finish::Length } else { Finish::Stop },
                text: answer.text.clone(),
            };
            recording.put_sample(*row, &sample)?;
            let told = self.tells && !answer.tokens.is_empty();
            let (mut text, mut a) = (Answered::of_text(&answer.text), 0.0);
            if told {
                let (tokens, log_probs): (Vec<String>, Vec<f64>) = answer.tokens.into_iter().unzip();
                let answered = Answered::of_tokens(&tokens);
                let own = &log_probs[..answered.n_tokens.clamp(1, log_probs.len())];
                (text, a) = (answered.text, geometric_mean(own));
                recording.put_reward(*row, &reward(self.node, kind::TOKENS, own.to_vec()))?;
                recording.put_reward(*row, &reward(self.node, kind::A, vec![a]))?;
            } else {
                untold.push(at);
            }
            all.push(Said { row: *row, text, a });
        }
        room.lab.record(recording).await?;
        self.agreement(room, of, items, &untold, &sampling, &mut all).await?;
        Ok(all)
    }

    /// How often samples agree with an answer whose tokens' probabilities were not told.
    async fn agreement(
        &self,
        room: &Room<'_>,
        of: &Stage<'_>,
        items: &[Item],
        untold: &[usize],
        greedy: &Sampling,
        all: &mut [Said],
    ) -> Result<()> {
        let identify = &room.plan.identify;
        let sampling = Sampling { temperature: identify.temperature, ..greedy.clone() };
        // Samples have places after that of the answer itself.
        let ask = |at: &usize| request(&items[*at].prompt, identify.k, of.seed(all[*at].row.item, 1), &sampling);
        let samples = self.ask(room, untold.iter().map(ask).collect()).await?;
        let mut recording = Recording::new();
        for (at, samples) in untold.iter().zip(samples) {
            let said = &mut all[*at];
            let hits = samples.iter().filter(|sample| Answered::of_text(&sample.text) == said.text).count() as u32;
            let tally = Tally { hits, of: samples.len() as u32 };
            said.a = f64::from(hits) / f64::from(tally.of.max(1));
            let values = vec![said.a];
            let reward = Reward { scorer: self.node, kind: kind::A_SAMPLED.into(), values, tallies: vec![tally] };
            recording.put_reward(said.row, &reward)?;
        }
        room.lab.record(recording).await
    }

    /// Log-probabilities of letters.
    ///
    /// # Errors
    /// `Unable` if the server does not tell those of all letters of a question.
    pub(super) async fn letters(&self, items: &[Item], words: &[Vec<String>]) -> Result<Vec<Vec<f64>>> {
        let settings = self.endpoint.settings();
        let asked = items.iter().zip(words).map(|(item, words)| self.words(&item.prompt, words));
        let found: Vec<Result<Vec<Option<f64>>>> =
            futures::stream::iter(asked).buffered(settings.concurrency).collect().await;
        let whole = found.into_iter().zip(items).map(|(found, item)| {
            found?.into_iter().collect::<Option<Vec<f64>>>().ok_or_else(|| Error::Unable {
                key: "served.top".into(),
                section: "endpoint".into(),
                url: settings.url.clone(),
                lacks: format!("the log-probability of every letter after `{}`", item.question),
                todo: "ask for more of the likeliest tokens (`served.top`), or set `served.route = \"echo\"`".into(),
            })
        });
        whole.collect()
    }

    async fn words(&self, text: &str, words: &[String]) -> Result<Vec<Option<f64>>> {
        // Nothing is gained by asking again what was refused already.
        if !self.tells {
            return Ok(vec![None; words.len()]);
        }
        let (route, top) = self.route;
        self.endpoint.words(text, words, route, top).await
    }

    /// How sure it says it is: from the probabilities of both words, or from what it says where those are not told.
    ///
    /// # Errors
    /// `Unable` if neither is told and no sample says either.
    pub(super) async fn sure(
        &self,
        room: &Room<'_>,
        of: &Stage<'_>,
        items: &[Item],
        said: &[Said],
        texts: &[String],
    ) -> Result<Vec<f64>> {
        let words = [true, false].map(|is_sure| room.template.word(is_sure)).to_vec();
        let asked = texts.iter().map(|text| self.words(text, &words));
        let concurrency = self.endpoint.settings().concurrency;
        let found: Vec<Result<Vec<Option<f64>>>> = futures::stream::iter(asked).buffered(concurrency).collect().await;
        let mut all = vec![0.0; items.len()];
        let mut untold = Vec::new();
        let mut recording = Recording::new();
        for (at, found) in found.into_iter().enumerate() {
            match found?.as_slice() {
                [Some(sure), Some(unsure)] => {
                    let pair = [*sure, *unsure];
                    all[at] = sureness(pair).unwrap_or(0.5);
                    let values = vec![all[at], pair[0], pair[1]];
                    recording.put_reward(said[at].row, &reward(self.node, kind::S, values))?;
                }
                _ => untold.push(at),
            }
        }
        let sampling = Sampling { temperature: 1.0, ..greedy(room, WORD_TOKENS) };
        let n = room.plan.served.n_samples;
        let ask = |at: &usize| request(&texts[*at], n, of.seed(said[*at].row.item, 2), &sampling);
        let samples = self.ask(room, untold.iter().map(ask).collect()).await?;
        for (at, samples) in untold.iter().zip(samples) {
            let tally = |word: &str| samples.iter().filter(|sample| says(&sample.text, word)).count() as u32;
            let (sure, unsure) = (tally(&room.template.sure), tally(&room.template.unsure));
            if sure + unsure == 0 {
                return Err(self.mute(&items[*at], &samples));
            }
            let tally = Tally { hits: sure, of: sure + unsure };
            all[*at] = f64::from(sure) / f64::from(tally.of);
            let values = vec![all[*at]];
            let reward = Reward { scorer: self.node, kind: kind::S_SAMPLED.into(), values, tallies: vec![tally] };
            recording.put_reward(said[*at].row, &reward)?;
        }
        room.lab.record(recording).await?;
        Ok(all)
    }

    fn mute(&self, item: &Item, samples: &[Answer]) -> Error {
        let got: Vec<String> = samples.iter().take(3).map(|sample| format!("`{}`", sample.text.trim())).collect();
        Error::Unable {
            key: "served.is_tuned".into(),
            section: "endpoint".into(),
            url: self.endpoint.settings().url.clone(),
            lacks: format!(
                "whether it is sure of `{}`: it tells the probability of neither word, and none of {} samples says one; it says {}",
                item.question,
                samples.len(),
                got.join(", ")
            ),
            todo: "serve it with log-probabilities, ask as it was tuned (`template.check`), or set `served.is_tuned = false`"
                .into(),
        }
    }
}

/// Whether the first word of a text is this one.
fn says(text: &str, word: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.trim_matches(|sign: char| !sign.is_alphanumeric()).eq_ignore_ascii_case(word)
}

fn request(prompt: &str, n: u32, seed: u64, sampling: &Sampling) -> Request {
    Request {
        prompt: prompt.to_owned(),
        n,
        seed,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        max_tokens: sampling.max_tokens,
        stop: vec![],
        system: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_says_whether_it_is_sure() {
        for (text, is_sure, is_unsure) in [
            (" sure.", true, false),
            ("unsure", false, true),
            (" Unsure about it", false, true),
            ("not sure", false, false),
            ("", false, false),
            ("surely", false, false),
        ] {
            assert_eq!((says(text, "sure"), says(text, "unsure")), (is_sure, is_unsure), "{text:?}");
        }
    }
}
