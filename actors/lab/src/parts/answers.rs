//! Ask, grade, record: answers of a policy to tasks whose answers a program can score, and what reward models say of them.

use std::sync::Arc;

use tracker_actors::Pool;
use tracker_store::{Finish, NodeId, Recording, Reward, RowKey, Sampling};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::generate::{Policy, asks, draw};
use crate::parts::reward::{Judge, Scorer, Scoring, Steps};
use crate::parts::skills::Exercise;
use crate::parts::train::completion_ids;

/// A task with its record.
#[derive(Clone, Debug)]
pub struct Task {
    /// The problem.
    pub node: NodeId,
    /// What is asked, and what is right.
    pub exercise: Exercise,
    /// Where it was published; empty for one made here.
    pub source: String,
}

/// An answer somebody gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where it is recorded.
    pub row: RowKey,
    /// The node of its grade.
    pub grade: NodeId,
    /// What was said.
    pub text: String,
    /// How it ended.
    pub finish: Finish,
    /// The exact score, in [0, 1].
    pub gold: f64,
    /// Prompt and answer as a reward model reads them, to be scored at the last token: the end, if there is one.
    pub read: Steps,
}

/// How tasks are answered.
pub struct Asking<'a> {
    /// Name of the stage.
    pub stage: &'a str,
    /// Answers a task.
    pub n: u32,
    /// How they are drawn.
    pub sampling: &'a Sampling,
    /// The program that grades, whose score is [`Exercise::score`].
    pub grader: NodeId,
}

/// Answers of each task, drawn, graded and recorded.
///
/// # Errors
/// Of the policy, the tokenizer and the store; `Input` for a policy behind an endpoint, whose tokens nobody knows.
pub async fn answer(lab: &Lab, policy: &Policy, asking: Asking<'_>, tasks: &[Task]) -> Result<Vec<Vec<Answer>>> {
    let Policy::Local { model, .. } = policy else {
        let what = "a policy behind an endpoint: its answers cannot be read token by token".to_owned();
        return Err(Error::Input { what, hint: None });
    };
    let Asking { stage, n, sampling, grader } = asking;
    let stage = lab.stage(stage, tasks.len()).await?;
    let mut answered = Vec::with_capacity(tasks.len());
    let size = policy.n_prompts(n);
    for (nth, batch) in tasks.chunks(size).enumerate() {
        lab.check()?;
        let asks = asks(&stage, nth * size, n, batch, |task| (task.node, &task.exercise.prompt));
        let mut samples = draw(lab, &stage, policy, &asks, sampling).await?.into_iter();
        let mut recording = Recording::new();
        for (task, ask) in batch.iter().zip(&asks) {
            let prompt = model.tokenizer().encode(&ask.prompt)?;
            let mut all = Vec::with_capacity(ask.rows.len());
            for (row, sample) in ask.rows.iter().zip(samples.by_ref()) {
                let gold = task.exercise.score(&sample.text);
                let reward = Reward { scorer: grader, kind: "outcome".into(), values: vec![gold], tallies: vec![] };
                let grade = recording.put_reward(*row, &reward)?;
                let completion = completion_ids(model, &sample.text, sample.finish)?;
                let read = Steps::whole(prompt.clone(), completion);
                all.push(Answer { row: *row, grade, text: sample.text, finish: sample.finish, gold, read });
            }
            answered.push(all);
        }
        lab.record(recording).await?;
        stage.done(answered.len());
    }
    Ok(answered)
}

/// Answers to be scored.
pub struct Asked {
    rows: Vec<RowKey>,
    steps: Arc<[Steps]>,
}

/// What a judge said of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// The reward.
    pub value: f64,
    /// Its node.
    pub node: NodeId,
}

impl Asked {
    /// Answers in this order.
    pub fn new<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        let (rows, steps): (Vec<RowKey>, Vec<Steps>) =
            answers.into_iter().map(|answer| (answer.row, answer.read.clone())).unzip();
        Self { rows, steps: steps.into() }
    }

    /// What a reward model with one output says of each, recorded as rewards.
    ///
    /// # Errors
    /// Of the model (an output that is not finite) and of the store.
    pub async fn score(&self, lab: &Lab, scorer: &Pool<Scorer>, judge: &Judge) -> Result<Vec<Scored>> {
        let scoring = Scoring { model: Arc::clone(&judge.model), asked: Arc::clone(&self.steps) };
        let outputs = scorer.ask(scoring).await?;
        let values: Option<Vec<f64>> =
            outputs.iter().map(|steps| steps.iter().flatten().next_back().copied()).collect();
        let values = values.ok_or_else(|| Error::Input { what: "a reward model gave no score".into(), hint: None })?;
        self.record(lab, judge.node, &values).await
    }

    /// Records a score of each by somebody.
    ///
    /// # Errors
    /// Of the store.
    pub async fn record(&self, lab: &Lab, scorer: NodeId, values: &[f64]) -> Result<Vec<Scored>> {
        const AT_ONCE: usize = 4096;
        let mut all = Vec::with_capacity(values.len());
        for (rows, values) in self.rows.chunks(AT_ONCE).zip(values.chunks(AT_ONCE)) {
            let mut recording = Recording::new();
            for (row, value) in rows.iter().zip(values) {
                let reward = Reward { scorer, kind: "score".into(), values: vec![*value], tallies: vec![] };
                all.push(Scored { value: *value, node: recording.put_reward(*row, &reward)? });
            }
            lab.record(recording).await?;
        }
        Ok(all)
    }
}
