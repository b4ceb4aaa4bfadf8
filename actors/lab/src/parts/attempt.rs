//! Attempts: a policy writes `n` proofs a statement, a verifier checks them, all of it is recorded.
//!
//! Work goes in batches that the plan fixes, so that results depend on nothing else; batches are sampled while earlier
//! ones are checked. What a killed run recorded is read back instead of done again. A verdict that says nothing of the
//! proof (`infra`) is tried again, and if it stays, its sample is taken out of n and reported.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tracker_actors::Pool;
use tracker_lm::{Lm, Prompt};
use tracker_proof::Candidate;
use tracker_store::{Content, Cost, Digest, Finish, NodeId, Outcome, Recording, RowKey, Sample, Sampling, Verdict};

use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::{Answer, Request};
use crate::parts::generate::{Draw, EndpointGenerator, LocalGenerator};
use crate::parts::verify::Verifiers;

/// Rows sampled in one batch, about: enough to keep a batched model busy.
const BATCH_ROWS: usize = 256;
/// Times a verdict that is no verdict is asked for again.
const INFRA_RETRIES: usize = 2;

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
    },
}

impl Policy {
    /// Its node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Local { node, .. } | Self::Endpoint { node, .. } => *node,
        }
    }
}

/// A statement as it is put to a policy and to a verifier.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its node.
    pub subject: NodeId,
    /// What the policy reads.
    pub prompt: String,
    /// What comes before it in a Lean file.
    pub header: String,
    /// The statement, without `:=`.
    pub statement: String,
}

/// One proof with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Where it is recorded.
    pub row: RowKey,
    /// Its text.
    pub text: String,
    /// Its length in tokens.
    pub n_tokens: u32,
    /// What the verifier said.
    pub outcome: Outcome,
    /// Where that is recorded.
    pub verdict: NodeId,
}

/// The attempts on one statement.
#[derive(Clone, Debug, Default)]
pub struct Attempts(pub Vec<Attempt>);

impl Attempts {
    /// Attempts that count: those with a verdict that says something.
    #[must_use]
    pub fn n(&self) -> u32 {
        self.0.iter().filter(|a| a.outcome != Outcome::Infra).count() as u32
    }

    /// Proofs among them.
    #[must_use]
    pub fn c(&self) -> u32 {
        self.proofs().count() as u32
    }

    /// The proofs.
    pub fn proofs(&self) -> impl Iterator<Item = &Attempt> {
        self.0.iter().filter(|a| a.outcome == Outcome::Proved)
    }
}

/// Samples `n_samples` proofs of each task, checks and records them. In the order of `tasks`.
///
/// # Errors
/// Of the policy, the verifier, the store; `Interrupted`.
pub async fn attempt(
    lab: &Lab,
    stage: &str,
    policy: &Policy,
    verifiers: &Verifiers,
    tasks: &[Task],
    n_samples: u32,
    sampling: &Sampling,
) -> Result<Vec<Attempts>> {
    let stage = lab.stage(stage, tasks.len()).await?;
    let mut recording = Recording::new();
    recording.put(lab.run(), sampling)?;
    recording.put(lab.run(), verifiers.record())?;
    lab.record(recording).await?;
    let work = Work { lab, stage: &stage, policy, verifiers, n_samples, sampling, sampling_digest: sampling.digest()? };
    let per_batch = (BATCH_ROWS / n_samples.max(1) as usize).max(1);
    let batches = tasks.chunks(per_batch).enumerate();
    let mut all = Vec::with_capacity(tasks.len());
    let in_flight = match policy {
        // One batch is sampled while the one before is checked and recorded.
        Policy::Local { .. } => 2,
        Policy::Endpoint { generator, .. } => generator.observe().workers.len().div_ceil(per_batch).max(2),
    };
    let mut done = stream::iter(batches.map(|(idx, batch)| work.batch(idx * per_batch, batch))).buffered(in_flight);
    while let Some(batch) = done.try_next().await? {
        all.extend(batch);
        stage.done(all.len());
    }
    let n_infra: u32 = all.iter().map(|a| a.0.len() as u32 - a.n()).sum();
    if n_infra > 0 {
        lab.note(format!(
            "{}: {n_infra} samples have no verdict, for the verifier failed; they are not counted",
            stage.name()
        ));
    }
    Ok(all)
}

struct Work<'a> {
    lab: &'a Lab,
    stage: &'a Stage<'a>,
    policy: &'a Policy,
    verifiers: &'a Verifiers,
    n_samples: u32,
    sampling: &'a Sampling,
    sampling_digest: Digest,
}

impl Work<'_> {
    async fn batch(&self, first: usize, tasks: &[Task]) -> Result<Vec<Attempts>> {
        self.lab.check()?;
        let rows: Vec<RowKey> = (0..tasks.len())
            .flat_map(|i| (0..self.n_samples).map(move |k| (i, k)))
            .map(|(i, k)| self.stage.row((first + i) as u32, k))
            .collect();
        let samples = match self.recorded_samples(&rows)? {
            Some(samples) => samples,
            None => self.sample(&rows, tasks).await?,
        };
        let verdicts = match self.recorded_verdicts(&rows)? {
            Some(verdicts) => verdicts,
            None => self.verify(&rows, &samples, tasks).await?,
        };
        let attempts = rows.iter().zip(&samples).zip(&verdicts).map(|((row, sample), verdict)| Attempt {
            row: *row,
            text: sample.text.clone(),
            n_tokens: sample.n_tokens,
            outcome: verdict.outcome,
            verdict: NodeId::verdict(*row, verdict.slot()),
        });
        let attempts: Vec<Attempt> = attempts.collect();
        Ok(attempts.chunks(self.n_samples as usize).map(|chunk| Attempts(chunk.to_vec())).collect())
    }

    fn recorded_samples(&self, rows: &[RowKey]) -> Result<Option<Vec<Sample>>> {
        let store = self.lab.store();
        rows.iter().map(|row| Ok(store.sample(*row)?)).collect()
    }

    fn recorded_verdicts(&self, rows: &[RowKey]) -> Result<Option<Vec<Verdict>>> {
        let store = self.lab.store();
        rows.iter().map(|row| Ok(store.verdict(*row, self.verifiers.digest())?)).collect()
    }

    async fn sample(&self, rows: &[RowKey], tasks: &[Task]) -> Result<Vec<Sample>> {
        let written = match self.policy {
            Policy::Local { model, generator, .. } => self.draw(rows, tasks, model, generator).await?,
            Policy::Endpoint { generator, .. } => self.request(rows, tasks, generator).await?,
        };
        let samples: Vec<Sample> = rows
            .iter()
            .zip(written)
            .enumerate()
            .map(|(i, (row, written))| Sample {
                subject: tasks[i / self.n_samples as usize].subject,
                policy: self.policy.node(),
                sampling: self.sampling_digest,
                seed: self.stage.seed(row.item, row.k),
                text: written.text,
                n_tokens: written.n_tokens,
                sum_logprob: written.sum_logprob,
                finish: written.finish,
            })
            .collect();
        let mut recording = Recording::new();
        for (row, sample) in rows.iter().zip(&samples) {
            recording.put_sample(*row, sample)?;
        }
        self.lab.record(recording).await?;
        Ok(samples)
    }

    async fn draw(
        &self,
        rows: &[RowKey],
        tasks: &[Task],
        model: &Arc<Lm>,
        generator: &Pool<LocalGenerator>,
    ) -> Result<Vec<Written>> {
        let ids: Vec<Vec<u32>> =
            tasks.iter().map(|t| Ok(model.tokenizer().encode(&t.prompt)?)).collect::<Result<_>>()?;
        let prompts = rows
            .iter()
            .enumerate()
            .map(|(i, row)| Prompt {
                ids: ids[i / self.n_samples as usize].clone(),
                seed: self.stage.seed(row.item, row.k),
            })
            .collect();
        let sampling = tracker_lm::Sampling {
            temperature: self.sampling.temperature as f32,
            top_p: self.sampling.top_p as f32,
            max_tokens: self.sampling.max_tokens as usize,
            stop_ids: model.config().eos.clone(),
        };
        let drawn = generator.ask(Draw { model: model.clone(), prompts, sampling }).await?;
        drawn
            .into_iter()
            .map(|completion| {
                Ok(Written {
                    text: model.tokenizer().decode(completion.text_ids())?,
                    n_tokens: completion.ids.len() as u32,
                    sum_logprob: Some(completion.log_probs.iter().map(|x| f64::from(*x)).sum()),
                    finish: match completion.finish {
                        tracker_lm::Finish::Stop => Finish::Stop,
                        tracker_lm::Finish::Length => Finish::Length,
                    },
                })
            })
            .collect()
    }

    async fn request(
        &self,
        rows: &[RowKey],
        tasks: &[Task],
        generator: &Pool<EndpointGenerator>,
    ) -> Result<Vec<Written>> {
        let requests = tasks.iter().enumerate().map(|(i, task)| {
            let row = rows[i * self.n_samples as usize];
            let request = Request {
                prompt: task.prompt.clone(),
                n: self.n_samples,
                seed: self.stage.seed(row.item, 0),
                temperature: self.sampling.temperature,
                top_p: self.sampling.top_p,
                max_tokens: self.sampling.max_tokens,
                stop: self.sampling.stop.clone(),
            };
            (i, request)
        });
        let answers: Vec<_> = generator.ask_all(requests).collect().await;
        let mut written = Vec::with_capacity(rows.len());
        for (_, answer) in answers {
            written.extend(answer?.into_iter().map(Written::from));
        }
        Ok(written)
    }

    async fn verify(&self, rows: &[RowKey], samples: &[Sample], tasks: &[Task]) -> Result<Vec<Verdict>> {
        let candidates: Vec<Candidate> = samples
            .iter()
            .enumerate()
            .map(|(i, sample)| {
                let task = &tasks[i / self.n_samples as usize];
                Candidate {
                    header: task.header.clone(),
                    statement: task.statement.clone(),
                    proof: proof_of(&sample.text),
                }
            })
            .collect();
        let mut verdicts = self.verifiers.check(candidates.clone()).await?;
        for _ in 0..INFRA_RETRIES {
            let open: Vec<usize> =
                (0..verdicts.len()).filter(|i| verdicts[*i].outcome == tracker_proof::Outcome::Infra).collect();
            if open.is_empty() {
                break;
            }
            let again = self.verifiers.check(open.iter().map(|i| candidates[*i].clone()).collect()).await?;
            for (i, verdict) in open.into_iter().zip(again) {
                verdicts[i] = verdict;
            }
        }
        let verdicts: Vec<Verdict> = verdicts.into_iter().map(|v| self.verdict(v)).collect::<Result<_>>()?;
        let mut recording = Recording::new();
        for (row, verdict) in rows.iter().zip(&verdicts) {
            recording.put_verdict(*row, verdict)?;
        }
        self.lab.record(recording).await?;
        Ok(verdicts)
    }

    fn verdict(&self, verdict: tracker_proof::Verdict) -> Result<Verdict> {
        Ok(Verdict {
            outcome: verdict.outcome.as_str().parse().map_err(Error::Store)?,
            verifier: *self.verifiers.digest(),
            statement: Digest::from_bytes(verdict.statement_digest),
            message: verdict.message,
            axioms: verdict.axioms,
            sandboxed: verdict.sandboxed,
            cost: Cost {
                wall_micros: verdict.wall_micros,
                cpu_micros: verdict.cpu_micros,
                peak_rss_bytes: verdict.peak_rss_bytes,
            },
        })
    }
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
        let n_tokens = answer.n_tokens.unwrap_or_else(|| answer.text.split_whitespace().count() as u32);
        Self { text: answer.text, n_tokens, sum_logprob: answer.sum_logprob, finish }
    }
}

/// The proof in what a policy wrote: all of it, or what stands before the Lean fence is closed; in a chat answer, the
/// part after the last `:=` of its last fence.
fn proof_of(text: &str) -> String {
    let Some((before, after)) = text.split_once("```") else { return text.to_owned() };
    let last_fence = text.rfind("```lean").map(|at| &text[at..]);
    let Some(fence) = last_fence else {
        // A plain completion that closes the fence its prompt opened.
        return if after.trim().is_empty() || !before.trim().is_empty() { before } else { after }.to_owned();
    };
    let body = fence.split_once('\n').map_or("", |(_, body)| body);
    let body = body.split("```").next().unwrap_or(body);
    tracker_proof::statement::split(body).map_or_else(|_| body.to_owned(), |split| split.tail)
}
