//! Generators: whoever writes text for prompts. A language model of ours, or an endpoint.
//!
//! [`draw`] is the one way from prompts to recorded samples. What a killed run recorded is read back instead of drawn
//! again; a batch is drawn whole, so that it does not depend on where a run was killed.

use std::sync::Arc;

use futures::StreamExt;
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{Completion, Lm, Prompt, Sampling};
use tracker_store::{Content, Finish, NodeId, Recording, RowKey, Sample};

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::{Answer, Api, Endpoint, EndpointSettings, Request};

/// Who writes.
#[derive(Clone)]
pub enum Policy {
    /// A language model of ours.
    Local {
        /// Its checkpoint.
        node: NodeId,
        /// Its weights.
        model: Arc<Lm>,
        /// Who samples it.
        generator: Pool<LocalGenerator>,
    },
    /// A model behind an endpoint.
    Endpoint {
        /// Its record.
        node: NodeId,
        /// Who asks it.
        generator: Pool<EndpointGenerator>,
        /// Whether it is chatted with.
        chats: bool,
    },
}

impl Policy {
    /// A model behind an endpoint, which must answer. `section` is where its settings stand in the plan.
    ///
    /// # Errors
    /// `Value` for settings that cannot work, `Endpoint` if it does not answer.
    pub async fn endpoint(lab: &Lab, section: &str, settings: &EndpointSettings) -> Result<Self> {
        Self::behind(lab, Endpoint::of_run(lab, section, settings).await?, settings)
    }

    /// One of several models behind endpoints, each with settings of its own; see [`Endpoint::one_of`].
    ///
    /// # Errors
    /// As [`Policy::endpoint`].
    pub async fn one_of(lab: &Lab, section: &str, settings: &EndpointSettings) -> Result<Self> {
        Self::behind(lab, Endpoint::one_of(lab, section, settings).await?, settings)
    }

    fn behind(lab: &Lab, (endpoint, node): (Arc<Endpoint>, NodeId), settings: &EndpointSettings) -> Result<Self> {
        let generator = EndpointGenerator::start(lab.actors(), endpoint, settings.concurrency)?;
        Ok(Self::Endpoint { node, generator, chats: settings.api == Api::Chat })
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Local { node, .. } | Self::Endpoint { node, .. } => *node,
        }
    }

    /// Whether what it is told has a place of its own; the others have it in their prompts.
    #[must_use]
    pub fn chats(&self) -> bool {
        matches!(self, Self::Endpoint { chats: true, .. })
    }

    /// How many prompts of `n` samples each keep it busy at once.
    #[must_use]
    pub fn n_prompts(&self, n: u32) -> usize {
        match self {
            Self::Local { .. } => (BATCH_ROWS / n.max(1) as usize).max(1),
            Self::Endpoint { generator, .. } => generator.observe().workers.len().max(1),
        }
    }
}

/// Rows sampled in one batch, about: enough to keep a batched model busy.
const BATCH_ROWS: usize = 256;

/// A prompt, and the rows its continuations are recorded at.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What the continuations answer: a statement or a problem.
    pub subject: NodeId,
    /// What the policy reads.
    pub prompt: String,
    /// One row a continuation.
    pub rows: Vec<RowKey>,
}

/// Asks for `n` continuations of each of a batch, whose first is item `first` of the stage; `of` gives subject and prompt.
#[must_use]
pub fn asks<T>(stage: &Stage<'_>, first: usize, n: u32, batch: &[T], of: impl Fn(&T) -> (NodeId, &str)) -> Vec<Ask> {
    let ask = |(item, one): (usize, &T)| {
        let (subject, prompt) = of(one);
        Ask { subject, prompt: prompt.to_owned(), rows: (0..n).map(|k| stage.row(item as u32, k)).collect() }
    };
    (first..).zip(batch).map(ask).collect()
}

/// Samples and records the continuations of every prompt: one list, prompt by prompt.
///
/// # Errors
/// Of the policy and the store.
pub async fn draw(
    lab: &Lab,
    stage: &Stage<'_>,
    policy: &Policy,
    asks: &[Ask],
    sampling: &tracker_store::Sampling,
) -> Result<Vec<Sample>> {
    draw_told(lab, stage, policy, asks, &[], sampling).await
}

/// The same; a policy that chats is told `told[i]` before the user says `asks[i]`, the others have it in their prompts.
///
/// # Errors
/// As [`draw`].
pub async fn draw_told(
    lab: &Lab,
    stage: &Stage<'_>,
    policy: &Policy,
    asks: &[Ask],
    told: &[String],
    sampling: &tracker_store::Sampling,
) -> Result<Vec<Sample>> {
    let store = lab.store();
    let recorded = asks.iter().flat_map(|ask| &ask.rows).map(|row| Ok(store.sample(*row)?));
    if let Some(samples) = recorded.collect::<Result<Option<Vec<_>>>>()? {
        return Ok(samples);
    }
    let written = match policy {
        Policy::Local { model, generator, .. } => sample(stage, asks, sampling, model, generator).await?,
        Policy::Endpoint { generator, .. } => {
            let answered = request(stage, (asks, told), sampling, generator).await;
            // What was given up because the user asked to stop is no failure.
            answered.or_else(|failure| lab.check().and(Err(failure)))?
        }
    };
    let mut recording = Recording::new();
    let sampling = recording.put(lab.run(), sampling).and_then(|_| sampling.digest())?;
    let mut samples = Vec::with_capacity(written.len());
    let rows = asks.iter().flat_map(|ask| ask.rows.iter().map(move |row| (ask.subject, *row)));
    for ((subject, row), written) in rows.zip(written) {
        let Written { text, n_tokens, sum_logprob, finish } = written;
        let (policy, seed) = (policy.node(), stage.seed(row.item, row.k));
        let sample = Sample { subject, policy, sampling, seed, text, n_tokens, sum_logprob, finish };
        recording.put_sample(row, &sample)?;
        samples.push(sample);
    }
    lab.record(recording).await?;
    Ok(samples)
}

async fn sample(
    stage: &Stage<'_>,
    asks: &[Ask],
    sampling: &tracker_store::Sampling,
    model: &Arc<Lm>,
    generator: &Pool<LocalGenerator>,
) -> Result<Vec<Written>> {
    let mut prompts = Vec::new();
    for ask in asks {
        let ids = model.tokenizer().encode(&ask.prompt)?;
        prompts.extend(ask.rows.iter().map(|row| Prompt { ids: ids.clone(), seed: stage.seed(row.item, row.k) }));
    }
    let sampling = Sampling {
        temperature: sampling.temperature as f32,
        top_p: sampling.top_p as f32,
        max_tokens: sampling.max_tokens as usize,
        stop_ids: model.config().eos.clone(),
    };
    let drawn = generator.ask(Draw { model: model.clone(), prompts, sampling }).await?;
    let written = drawn.into_iter().map(|completion| {
        Ok(Written {
            text: model.tokenizer().decode(completion.text_ids())?,
            n_tokens: completion.ids.len() as u32,
            sum_logprob: Some(completion.log_probs.iter().map(|x| f64::from(*x)).sum()),
            finish: match completion.finish {
                tracker_lm::Finish::Stop => Finish::Stop,
                tracker_lm::Finish::Length => Finish::Length,
            },
        })
    });
    written.collect()
}

async fn request(
    stage: &Stage<'_>,
    (asks, told): (&[Ask], &[String]),
    sampling: &tracker_store::Sampling,
    generator: &Pool<EndpointGenerator>,
) -> Result<Vec<Written>> {
    let requests = asks.iter().enumerate().filter_map(|(i, ask)| {
        let first = ask.rows.first()?;
        let request = Request {
            prompt: ask.prompt.clone(),
            n: ask.rows.len() as u32,
            seed: stage.seed(first.item, first.k),
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            max_tokens: sampling.max_tokens,
            stop: sampling.stop.clone(),
            system: told.get(i).cloned().unwrap_or_default(),
        };
        Some((i, request))
    });
    let answers: Vec<_> = generator.ask_all(requests).collect().await;
    let mut written = Vec::new();
    for (_, answer) in answers {
        written.extend(answer?.into_iter().map(Written::from));
    }
    Ok(written)
}

/// What a policy wrote, whichever it is.
struct Written {
    text: String,
    n_tokens: u32,
    sum_logprob: Option<f64>,
    finish: Finish,
}

impl From<Answer> for Written {
    fn from(answer: Answer) -> Self {
        let finish = match answer.finish.as_str() {
            "length" => Finish::Length,
            "content_filter" => Finish::Filtered,
            _ => Finish::Stop,
        };
        // Where the server does not count, words are the next best measure of length.
        let n_tokens = answer.n_tokens.unwrap_or_else(|| answer.text.split_whitespace().count() as u32);
        Self { text: answer.text, n_tokens, sum_logprob: answer.sum_logprob, finish }
    }
}

/// What a generator has written so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Drawn {
    /// Samples.
    pub n_samples: u64,
    /// Their tokens.
    pub n_tokens: u64,
}

/// A batch of prompts for one model. Its composition is the plan's, never the number of workers'.
pub struct Draw {
    /// The model.
    pub model: Arc<Lm>,
    /// Prompts, each with its seed.
    pub prompts: Vec<Prompt>,
    /// How to sample.
    pub sampling: Sampling,
}

/// Samples from language models of ours, on all threads of one worker.
pub struct LocalGenerator {
    n_threads: usize,
}

impl LocalGenerator {
    /// Starts one.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, n_threads: usize) -> Result<Pool<Self>> {
        Ok(Pool::start(actors, PoolOptions::cpu("generator", 1), move |_| Ok(Self { n_threads }))?)
    }
}

impl Worker for LocalGenerator {
    type Message = Draw;
    type Reply = Vec<Completion>;
    type State = Drawn;

    async fn handle(&mut self, draw: Draw, turn: &mut Turn<'_, Drawn>) -> std::result::Result<Vec<Completion>, Fault> {
        let drawn = tracker_lm::sample(&draw.model, &draw.prompts, &draw.sampling, self.n_threads)
            .map_err(|error| Fault::input("could not sample").because(error))?;
        turn.update(|state| {
            state.n_samples += drawn.len() as u64;
            state.n_tokens += drawn.iter().map(|c| c.ids.len() as u64).sum::<u64>();
        });
        Ok(drawn)
    }
}

/// Asks an endpoint; as many requests are in flight as it has workers.
pub struct EndpointGenerator {
    endpoint: Arc<Endpoint>,
}

impl EndpointGenerator {
    /// Starts one with `concurrency` requests in flight.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, endpoint: Arc<Endpoint>, concurrency: usize) -> Result<Pool<Self>> {
        let options = PoolOptions::io("endpoint", concurrency);
        Ok(Pool::start(actors, options, move |_| Ok(Self { endpoint: endpoint.clone() }))?)
    }
}

impl Worker for EndpointGenerator {
    type Message = Request;
    type Reply = Vec<Answer>;
    type State = Drawn;

    async fn handle(
        &mut self,
        request: Request,
        turn: &mut Turn<'_, Drawn>,
    ) -> std::result::Result<Vec<Answer>, Fault> {
        // The endpoint has used up its retries by itself, so this fault is final.
        let answers = self
            .endpoint
            .complete(&request)
            .await
            .map_err(|error| Fault::infra("the endpoint failed").because(error))?;
        turn.update(|state| {
            state.n_samples += answers.len() as u64;
            state.n_tokens += answers.iter().filter_map(|a| a.n_tokens).map(u64::from).sum::<u64>();
        });
        Ok(answers)
    }
}
