//! Attempts: a policy writes `n` proofs a statement, a verifier checks them, all of it is recorded.
//!
//! Work goes in batches that the plan fixes, so that results depend on nothing else; batches are sampled while earlier
//! ones are checked. What a killed run recorded is read back instead of done again. A verdict that says nothing of the
//! proof (`infra`) is tried again, and if it stays, its sample is taken out of n and reported.

use futures::{StreamExt, TryStreamExt, stream};
use tracker_proof::Candidate;
use tracker_store::{Finish, NodeId, Outcome, Recording, RowKey, Sample, Sampling, Verdict};

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::generate::{Ask, Policy, draw};
use crate::parts::prompt::last_fence;
use crate::parts::verify::Verifiers;

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
    /// Why it ended.
    pub finish: Finish,
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
    let work = Work { lab, stage: &stage, policy, verifiers, n_samples, sampling };
    let per_batch = policy.n_prompts(n_samples);
    let batches = tasks.chunks(per_batch).enumerate();
    let mut all = Vec::with_capacity(tasks.len());
    // One batch is sampled while the one before is checked and recorded.
    let mut done = stream::iter(batches.map(|(idx, batch)| work.batch(idx * per_batch, batch))).buffered(2);
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
}

impl Work<'_> {
    async fn batch(&self, first: usize, tasks: &[Task]) -> Result<Vec<Attempts>> {
        self.lab.check()?;
        let rows: Vec<RowKey> = (0..tasks.len())
            .flat_map(|i| (0..self.n_samples).map(move |k| (i, k)))
            .map(|(i, k)| self.stage.row((first + i) as u32, k))
            .collect();
        let asks = tasks.iter().zip(rows.chunks(self.n_samples as usize)).map(|(task, rows)| Ask {
            subject: task.subject,
            prompt: task.prompt.clone(),
            rows: rows.to_vec(),
        });
        let asks: Vec<Ask> = asks.collect();
        let samples = draw(self.lab, self.stage, self.policy, &asks, self.sampling).await?;
        let verdicts = match self.recorded_verdicts(&rows)? {
            Some(verdicts) => verdicts,
            None => self.verify(&rows, &samples, tasks).await?,
        };
        let attempts = rows.iter().zip(&samples).zip(&verdicts).map(|((row, sample), verdict)| Attempt {
            row: *row,
            text: sample.text.clone(),
            n_tokens: sample.n_tokens,
            finish: sample.finish,
            outcome: verdict.outcome,
            verdict: NodeId::verdict(*row, verdict.slot()),
        });
        let attempts: Vec<Attempt> = attempts.collect();
        Ok(attempts.chunks(self.n_samples as usize).map(|chunk| Attempts(chunk.to_vec())).collect())
    }

    fn recorded_verdicts(&self, rows: &[RowKey]) -> Result<Option<Vec<Verdict>>> {
        let store = self.lab.store();
        rows.iter().map(|row| Ok(store.verdict(*row, self.verifiers.digest())?)).collect()
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
        let verdicts = self.verifiers.check(candidates).await?;
        let mut recording = Recording::new();
        for (row, verdict) in rows.iter().zip(&verdicts) {
            recording.put_verdict(*row, verdict)?;
        }
        self.lab.record(recording).await?;
        Ok(verdicts)
    }
}

/// The proof in what a policy wrote: all of it, or what stands before the Lean fence is closed; in a chat answer, the
/// part after the `:=` of the last theorem in its last fence.
pub(crate) fn proof_of(text: &str) -> String {
    if let Some(code) = last_fence(text) {
        // Lemmas may stand before the theorem.
        let code = &code[code.rfind("theorem ").unwrap_or(0)..];
        return tracker_proof::statement::split(code).map_or_else(|_| code.to_owned(), |split| split.tail);
    }
    match text.split_once("```") {
        None => text.to_owned(),
        // A plain completion that closes the fence its prompt opened.
        Some((before, after)) => {
            if after.trim().is_empty() || !before.trim().is_empty() { before } else { after }.to_owned()
        }
    }
}
