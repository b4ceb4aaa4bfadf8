//! Generators: whoever writes text for prompts. A language model of ours, or an endpoint.

use std::sync::Arc;

use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{Completion, Lm, Prompt, Sampling};

use crate::error::Result;
use crate::parts::endpoint::{Answer, Endpoint, Request};

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
