//! Training as a recorded step: a dataset in, a checkpoint out, with its loss as a series.
//!
//! A checkpoint that this run recorded already under the same label is read back instead of trained again.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_actors::{Cancel, Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{Anchor, Batch, Continuation, Dpo, Example, Grpo, Kd, Length, Lm, Lora, Pair, Rollout, Training};
use tracker_store::{Finish, NodeId, Recording, Relation};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::checkpoint::{Files, record_files, recorded_files};
use crate::parts::record::{FileRow, put_file_rows, put_series};
use crate::plan::require;

/// How a model is trained on examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftSettings {
    /// Passes over the examples; fractions are allowed.
    pub epochs: f64,
    /// Examples a step.
    pub batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of steps over which the rate rises, in [0, 1].
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for SftSettings {
    fn default() -> Self {
        Self { epochs: 2.0, batch: 32, lr: 3e-3, warmup: 0.05, weight_decay: 0.01 }
    }
}

impl SftSettings {
    /// As the language model takes them.
    #[must_use]
    pub fn training(&self, seed: u64) -> Training {
        Training {
            batch: Batch::Items(self.batch),
            length: Length::Epochs(self.epochs),
            lr: self.lr,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            seed,
            ..Training::default()
        }
    }

    /// Refuses values that make no sense; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        require(self.batch > 0, &format!("{section}.batch"), "at least 1", self.batch)?;
        let are_some = self.epochs > 0.0 && self.epochs.is_finite();
        require(are_some, &format!("{section}.epochs"), "a number above 0", self.epochs)?;
        require(self.lr > 0.0 && self.lr.is_finite(), &format!("{section}.lr"), "a rate above 0", self.lr)?;
        let is_share = (0.0..=1.0).contains(&self.warmup);
        require(is_share, &format!("{section}.warmup"), "a share in [0, 1]", self.warmup)?;
        let decays = self.weight_decay >= 0.0 && self.weight_decay.is_finite();
        require(decays, &format!("{section}.weight_decay"), "a number, at least 0", self.weight_decay)
    }
}

/// A model with its record.
#[derive(Clone)]
pub struct Trained {
    /// Its checkpoint.
    pub node: NodeId,
    /// Its weights.
    pub model: Lm,
}

/// A row to train on.
#[derive(Clone, Debug)]
pub struct TrainRow {
    /// What is given.
    pub prompt: String,
    /// What is to be written.
    pub completion: String,
    /// How that ends: a sample that was cut off is no lesson in ending there. What is whole is `Stop`.
    pub finish: Finish,
    /// What it was taken from, if it is recorded: a sample's verdict, say.
    pub source: Option<NodeId>,
}

impl TrainRow {
    /// As a line of a dataset: `finish` is said where the completion has no end.
    fn json(&self) -> serde_json::Value {
        let Self { prompt, completion, finish, .. } = self;
        match finish {
            Finish::Stop => serde_json::json!({"prompt": prompt, "completion": completion}),
            _ => serde_json::json!({"prompt": prompt, "completion": completion, "finish": finish}),
        }
    }
}

/// Rows with a name, to train on.
#[derive(Clone, Debug, Default)]
pub struct TrainSet {
    /// Name of the dataset.
    pub name: String,
    /// Rows, in order.
    pub rows: Vec<TrainRow>,
    /// Whole datasets some of the rows were drawn from.
    pub drawn_from: Vec<NodeId>,
}

impl TrainSet {
    /// Its node, once it was trained on.
    ///
    /// # Errors
    /// Those of storing its rows.
    pub fn node(&self, lab: &Lab) -> Result<NodeId> {
        self.record(lab, &mut Recording::new())
    }

    /// Puts it, to be recorded with what is made of it.
    ///
    /// # Errors
    /// Those of storing its rows.
    pub fn record(&self, lab: &Lab, recording: &mut Recording) -> Result<NodeId> {
        let rows: Vec<FileRow> =
            self.rows.iter().map(|row| FileRow { line: row.json().to_string(), source: row.source }).collect();
        put_file_rows(lab, recording, &self.name, &rows, &self.drawn_from)
    }
}

/// What a model is trained for, and on what.
pub enum Objective {
    /// To write these.
    Sft(Vec<Example>),
    /// To write these, with outputs no further from the model it starts as than λ allows.
    Kd(Vec<Example>, Kd),
    /// To prefer one completion to another, no further from the model it starts as than β allows.
    Dpo(Vec<Pair>, Dpo),
    /// To write what scored above its group.
    Grpo(Vec<Rollout>, Grpo),
    /// To write whichever of two is likelier at the time.
    Least(Vec<Pair>),
}

impl Objective {
    fn n_items(&self) -> usize {
        match self {
            Self::Sft(items) | Self::Kd(items, _) => items.len(),
            Self::Dpo(items, _) | Self::Least(items) => items.len(),
            Self::Grpo(items, _) => items.len(),
        }
    }
}

/// A model to train, how, and on what.
pub struct Lesson {
    model: Lm,
    objective: Objective,
    training: Training,
    cancel: Cancel,
}

/// Trains models, one at a time, on all threads.
pub struct Trainer {
    n_threads: usize,
}

impl Trainer {
    /// Starts one.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, n_threads: usize) -> Result<Pool<Self>> {
        Ok(Pool::start(actors, PoolOptions::cpu("trainer", 1), move |_| Ok(Self { n_threads }))?)
    }
}

impl Worker for Trainer {
    type Message = Lesson;
    type Reply = (Lm, Vec<f64>);
    type State = usize;

    async fn handle(&mut self, lesson: Lesson, turn: &mut Turn<'_, usize>) -> std::result::Result<Self::Reply, Fault> {
        let Lesson { model, objective, training, cancel } = lesson;
        let mut losses = Vec::new();
        let mut on_step = |step: tracker_lm::Step| {
            losses.push(step.loss);
            turn.update(|n_steps| *n_steps += 1);
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let n = self.n_threads;
        let trained = match &objective {
            Objective::Sft(examples) => tracker_lm::sft(&model, examples, &training, n, &mut on_step),
            Objective::Kd(examples, kd) => tracker_lm::kd(&model, &model, examples, *kd, &training, n, &mut on_step),
            Objective::Dpo(pairs, dpo) => tracker_lm::dpo(&model, Some(&model), pairs, dpo, &training, n, &mut on_step),
            Objective::Least(pairs) => tracker_lm::least(&model, pairs, &training, n, &mut on_step),
            Objective::Grpo(rollouts, grpo) => {
                tracker_lm::grpo(&model, Some(&model), rollouts, grpo, &training, n, &mut on_step)
            }
        };
        Ok((trained.map_err(|error| Fault::input("could not train").because(error))?, losses))
    }
}

/// A training step of a study: who trains whom, for what, and what is recorded of it.
#[derive(Clone)]
pub struct Step<'a> {
    /// Name of the checkpoint, unique in the run.
    pub label: &'a str,
    /// The checkpoint it starts from, unless it starts from nothing.
    pub from: Option<&'a Trained>,
    /// The weights it starts from.
    pub model: &'a Lm,
    /// The rows the objective was made of.
    pub set: &'a TrainSet,
    /// How to train.
    pub settings: &'a SftSettings,
    /// What holds the weights to those it starts from.
    pub anchor: Anchor,
    /// What is trained instead of all weights, if anything.
    pub adapter: Option<Lora>,
}

impl<'a> Step<'a> {
    /// Trains all of a model's weights, wherever they go.
    #[must_use]
    pub fn new(label: &'a str, from: &'a Trained, set: &'a TrainSet, settings: &'a SftSettings) -> Self {
        Self { from: Some(from), ..Self::first(label, &from.model, set, settings) }
    }

    /// The same of weights that come from nowhere.
    #[must_use]
    pub fn first(label: &'a str, model: &'a Lm, set: &'a TrainSet, settings: &'a SftSettings) -> Self {
        Self { label, from: None, model, set, settings, anchor: Anchor::None, adapter: None }
    }
}

/// Supervised training on the rows of the step's set.
///
/// # Errors
/// Of the model (a loss that is not finite, a row longer than its context) and of the store.
pub async fn sft(lab: &Lab, trainer: &Pool<Trainer>, step: Step<'_>) -> Result<Trained> {
    let rows = examples(step.model, &step.set.rows)?;
    train(lab, trainer, step, Objective::Sft(rows)).await
}

/// Trains for any objective and records dataset, loss and checkpoint.
///
/// # Errors
/// As [`sft`].
pub async fn train(lab: &Lab, trainer: &Pool<Trainer>, step: Step<'_>, objective: Objective) -> Result<Trained> {
    let Step { label, from, model, set, settings, anchor, adapter } = step;
    let stage = lab.stage(&format!("{label}/train"), 1).await?;
    if let Some(trained) = recorded(lab, label)? {
        stage.done(1);
        return Ok(trained);
    }
    if objective.n_items() == 0 {
        return Err(Error::Input {
            what: format!("nothing to train `{label}` on"),
            hint: Some("more samples, easier problems or a better base policy give it rows".into()),
        });
    }
    let training = Training { anchor, adapter, ..settings.training(stage.seed(0, 0)) };
    let lesson = Lesson { model: model.clone(), objective, training, cancel: lab.cancel().clone() };
    let (model, losses) = trainer.ask(lesson).await?;
    // A lesson that was broken off leaves nothing: what it would have recorded is not what the plan says.
    lab.check()?;
    let mut recording = Recording::new();
    put_series(lab, &mut recording, &format!("{label}/loss"), (0..).zip(losses.iter().copied()))?;
    let dataset = set.record(lab, &mut recording)?;
    let mut ups = vec![(Relation::TrainedOn, dataset)];
    ups.extend(from.map(|from| (Relation::DerivedFrom, from.node)));
    let trained = record(lab, recording, label, model, losses.len(), &ups).await?;
    stage.done(1);
    Ok(trained)
}

/// Records a model that was not trained here as a checkpoint of this run.
///
/// # Errors
/// Those of the store.
pub async fn adopt(lab: &Lab, label: &str, model: Lm) -> Result<Trained> {
    match recorded(lab, label)? {
        Some(trained) => Ok(trained),
        None => record(lab, Recording::new(), label, model, 0, &[]).await,
    }
}

/// The checkpoint this run recorded under `label`, if it did.
fn recorded(lab: &Lab, label: &str) -> Result<Option<Trained>> {
    let Some((node, files)) = recorded_files(lab, label)? else { return Ok(None) };
    Ok(Some(Trained { node, model: Lm::from_files(&files, lab.device())? }))
}

async fn record(
    lab: &Lab,
    recording: Recording,
    label: &str,
    model: Lm,
    n_steps: usize,
    ups: &[(Relation, NodeId)],
) -> Result<Trained> {
    let weights = Files { config: model.config().to_json(), named: model.to_files()?, n_params: model.n_params() };
    Ok(Trained { node: record_files(lab, recording, label, &weights, n_steps, ups).await?, model })
}

/// Rows as a model reads them: prompts given, completions learnt. A row that was cut off before its first word teaches
/// nothing and is left out.
///
/// # Errors
/// Of the tokenizer.
pub fn examples(model: &Lm, rows: &[TrainRow]) -> Result<Vec<Example>> {
    let mut examples = Vec::with_capacity(rows.len());
    for TrainRow { prompt, completion, finish, .. } in rows {
        let completion = completion_ids(model, completion, *finish)?;
        if !completion.is_empty() {
            examples.push(Example::completion(&model.tokenizer().encode(prompt)?, &completion));
        }
    }
    Ok(examples)
}

/// Rollouts with the log-probabilities that `model`, which drew them, gives their tokens: what is stored is text, so they are
/// computed again. One that was cut off before its first word is left out.
///
/// # Errors
/// Of the model.
pub fn scored(model: &Lm, mut rollouts: Vec<Rollout>, n_threads: usize) -> Result<Vec<Rollout>> {
    rollouts.retain(|rollout| !rollout.completion.is_empty());
    let asked: Vec<Continuation<'_>> =
        rollouts.iter().map(|r| Continuation { prompt: &r.prompt, completion: &r.completion }).collect();
    let scored = tracker_lm::log_probs(model, &asked, n_threads)?;
    for (rollout, log_probs) in rollouts.iter_mut().zip(scored) {
        rollout.log_probs = log_probs;
    }
    Ok(rollouts)
}

/// One completion of a prompt and a worse one, each with how it ends; none if either was cut off before its first word.
///
/// # Errors
/// Of the tokenizer.
pub fn pair(model: &Lm, prompt: &str, chosen: (&str, Finish), rejected: (&str, Finish)) -> Result<Option<Pair>> {
    let prompt = model.tokenizer().encode(prompt)?;
    let [chosen, rejected] = [chosen, rejected].map(|(text, finish)| completion_ids(model, text, finish));
    let pair = Pair { prompt, chosen: chosen?, rejected: rejected? };
    Ok((!pair.chosen.is_empty() && !pair.rejected.is_empty()).then_some(pair))
}

/// The tokens of a completion, with the token that ends it if it ended by itself.
///
/// # Errors
/// Of the tokenizer.
pub fn completion_ids(model: &Lm, text: &str, finish: Finish) -> Result<Vec<u32>> {
    let mut ids = model.tokenizer().encode(text)?;
    if finish == Finish::Stop {
        ids.extend(model.config().eos.first());
    }
    Ok(ids)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tracker_lm::{Config, EOS};

    use super::*;

    fn row(completion: &str, finish: Finish) -> TrainRow {
        TrainRow { prompt: "talk a b =".into(), completion: completion.into(), finish, source: None }
    }

    #[test]
    fn a_sample_that_was_cut_off_does_not_teach_to_end_there() {
        let tokenizer = crate::parts::skills::tokenizer().unwrap();
        let config = Config { eos: vec![EOS], ..Config::tiny(tokenizer.vocab_size(), 32) };
        let model = Lm::init(config, tokenizer, 1, &tracker_gpu::Device::cpu()).unwrap();
        let rows =
            [row("a e", Finish::Stop), row("a e", Finish::Length), row("", Finish::Length), row("", Finish::Stop)];
        let said = model.tokenizer().encode("a e").unwrap();
        let learnt = |example: &Example| {
            let ids = example.ids.iter().zip(&example.mask).filter(|(_, learnt)| **learnt);
            ids.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let learnt: Vec<Vec<u32>> = examples(&model, &rows).unwrap().iter().map(learnt).collect();
        let whole = [said.as_slice(), &[EOS]].concat();
        // What was cut off before its first word says nothing; what ended at once says that.
        assert_eq!(learnt, [whole.clone(), said.clone(), vec![EOS]]);
        let pair = |rejected| pair(&model, "talk a b =", ("a e", Finish::Stop), rejected).unwrap();
        assert_eq!(pair(("a e", Finish::Length)).map(|pair| (pair.chosen, pair.rejected)), Some((whole, said)));
        assert_eq!(pair(("", Finish::Length)), None);
        let lines = [rows[0].json().to_string(), rows[1].json().to_string()];
        assert!(!lines[0].contains("finish") && lines[1].contains(r#""finish":"length""#), "{lines:?}");
    }
}
