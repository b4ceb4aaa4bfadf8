//! Reward models as recorded steps: fitted to a dataset, and asked for scores in batches.
//!
//! A reward model that this run recorded already under the same label is read back instead of fitted again.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tracker_actors::{Cancel, Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{
    Continuation, FitObjective, Lm, Lora, OnStep, PairLoss, Ppo, RatedPair, RatedText, RewardModel, ScoredRollout,
    Tagged, TaggedExample, Tokenizer, Training, Trunk,
};
use tracker_store::{Digest, NodeId, Program, Recording, Relation};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::checkpoint::{Files, record_files, recorded_files};
use crate::parts::record::{FileRow, put_file_rows, put_series};
use crate::parts::train::SftSettings;

/// A reward model with its record.
#[derive(Clone)]
pub struct Judge {
    /// Its checkpoint.
    pub node: NodeId,
    /// Its weights.
    pub model: Arc<RewardModel>,
}

/// What a reward model is fitted to.
pub enum Objective {
    /// Soft labels at the ends of steps.
    Tags(Vec<TaggedExample>),
    /// Preferred completions.
    Pairs(Vec<RatedPair>, PairLoss),
    /// Ratings, some of them missing.
    Ratings(Vec<RatedText>),
    /// A policy's own samples with their rewards (PPO): the trunk is the policy, the head its value function. The model is
    /// what `kl` holds the policy to, if anything does.
    Rollouts(Vec<ScoredRollout>, Ppo, Option<Lm>),
}

impl Objective {
    fn fit(
        &self,
        model: &RewardModel,
        trunk: Trunk,
        training: &Training,
        n_threads: usize,
        on_step: OnStep<'_>,
    ) -> tracker_lm::Result<RewardModel> {
        let objective = match self {
            Self::Tags(items) => FitObjective::Tags(items),
            Self::Pairs(items, loss) => FitObjective::Pairs(items, loss),
            Self::Ratings(items) => FitObjective::Ratings(items),
            Self::Rollouts(items, settings, reference) => {
                return tracker_lm::ppo(model, reference.as_ref(), items, settings, training, n_threads, on_step);
            }
        };
        tracker_lm::fit(model, &objective, trunk, training, n_threads, on_step)
    }

    fn n_items(&self) -> usize {
        match self {
            Self::Tags(items) => items.len(),
            Self::Pairs(items, _) => items.len(),
            Self::Ratings(items) => items.len(),
            Self::Rollouts(items, ..) => items.len(),
        }
    }
}

/// A model to fit, how, and to what.
pub struct Lesson {
    model: RewardModel,
    objective: Objective,
    trunk: Trunk,
    training: Training,
    cancel: Cancel,
}

/// Fits reward models, one at a time, on all threads.
pub struct Fitter {
    n_threads: usize,
}

impl Fitter {
    /// Starts one.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, n_threads: usize) -> Result<Pool<Self>> {
        Ok(Pool::start(actors, PoolOptions::cpu("fitter", 1), move |_| Ok(Self { n_threads }))?)
    }
}

impl Worker for Fitter {
    type Message = Lesson;
    type Reply = (RewardModel, Vec<f64>);
    type State = usize;

    async fn handle(&mut self, lesson: Lesson, turn: &mut Turn<'_, usize>) -> std::result::Result<Self::Reply, Fault> {
        let Lesson { model, objective, trunk, training, cancel } = lesson;
        let mut losses = Vec::new();
        let mut on_step = |step: tracker_lm::Step| {
            losses.push(step.loss);
            turn.update(|n_steps| *n_steps += 1);
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let fitted = objective
            .fit(&model, trunk, &training, self.n_threads, &mut on_step)
            .map_err(|error| Fault::input("could not fit a reward model").because(error))?;
        Ok((fitted, losses))
    }
}

/// A fitting step of a study: what is fitted to what, and what is recorded of it.
pub struct Fit<'a> {
    /// Name of the checkpoint, unique in the run.
    pub label: &'a str,
    /// The checkpoint of the trunk it starts from.
    pub from: NodeId,
    /// The reward model it starts as.
    pub model: &'a RewardModel,
    /// Name of the dataset.
    pub dataset: &'a str,
    /// The rows the objective was made of.
    pub rows: &'a [FileRow],
    /// Whole datasets the rows were drawn from.
    pub drawn_from: &'a [NodeId],
    /// Whether the trunk is trained with the head.
    pub trunk: Trunk,
    /// What of the trunk is trained instead of all its weights, if anything. What comes out has it merged: a reward model is
    /// whole, wherever it is recorded, saved or asked.
    pub adapter: Option<Lora>,
    /// How to train.
    pub settings: &'a SftSettings,
}

/// Fits a reward model and records dataset, loss and checkpoint.
///
/// # Errors
/// Of the model (a loss that is not finite, a row longer than its context) and of the store.
pub async fn fit(lab: &Lab, fitter: &Pool<Fitter>, step: Fit<'_>, objective: Objective) -> Result<Judge> {
    let Fit { label, from, model, dataset, rows, drawn_from, trunk, adapter, settings } = step;
    let stage = lab.stage(&format!("{label}/fit"), 1).await?;
    if let Some(judge) = recorded(lab, label)? {
        stage.done(1);
        return Ok(judge);
    }
    if objective.n_items() == 0 {
        return Err(Error::Input { what: format!("nothing to fit `{label}` to"), hint: None });
    }
    let training = Training { adapter, ..settings.training(stage.seed(0, 0)) };
    let lesson = Lesson { model: model.clone(), objective, trunk, training, cancel: lab.cancel().clone() };
    let (model, losses) = fitter.ask(lesson).await?;
    // A lesson that was broken off leaves nothing: what it would have recorded is not what the plan says.
    lab.check()?;
    let mut recording = Recording::new();
    put_series(lab, &mut recording, &format!("{label}/loss"), (0..).zip(losses.iter().copied()))?;
    let dataset = put_file_rows(lab, &mut recording, dataset, rows, drawn_from)?;
    let ups = [(Relation::TrainedOn, dataset), (Relation::DerivedFrom, from)];
    let judge = record(lab, recording, label, model, losses.len(), &ups).await?;
    stage.done(1);
    Ok(judge)
}

/// Records a reward model that was not fitted here as a checkpoint of this run.
///
/// # Errors
/// Those of the store.
pub async fn adopt(lab: &Lab, label: &str, model: RewardModel) -> Result<Judge> {
    match recorded(lab, label)? {
        Some(judge) => Ok(judge),
        None => record(lab, Recording::new(), label, model, 0, &[]).await,
    }
}

/// The reward model this run recorded under `label`, if it did.
fn recorded(lab: &Lab, label: &str) -> Result<Option<Judge>> {
    let Some((node, files)) = recorded_files(lab, label)? else { return Ok(None) };
    Ok(Some(Judge { node, model: Arc::new(RewardModel::from_files(&files, lab.device())?) }))
}

async fn record(
    lab: &Lab,
    mut recording: Recording,
    label: &str,
    model: RewardModel,
    n_steps: usize,
    ups: &[(Relation, NodeId)],
) -> Result<Judge> {
    let weights = Files {
        config: model.trunk().config().to_json(),
        named: model.to_files()?,
        n_params: model.trunk().n_params() + model.n_head_params(),
    };
    let reader = recording.put(lab.run(), &reader(&weights))?;
    let ups: Vec<(Relation, NodeId)> = ups.iter().copied().chain([(Relation::Used, reader)]).collect();
    let node = record_files(lab, recording, label, &weights, n_steps, &ups).await?;
    Ok(Judge { node, model: Arc::new(model) })
}

/// What a score depends on besides the weights: who reads them, in what type they are computed with, and the head.
fn reader(weights: &Files) -> Program {
    let heads = weights.named.iter().filter(|(name, _)| name.starts_with("head."));
    let heads = heads.map(|(name, bytes)| format!("\n{name} = {}", Digest::of(bytes))).collect::<Vec<_>>().concat();
    Program {
        name: "reward model".into(),
        version: "1".into(),
        settings: format!("loader = tracker-lm\ndtype = f32{heads}"),
    }
}

/// A completion in steps, as a reward model reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    /// Ids of the prompt.
    pub prompt: Vec<u32>,
    /// Ids of the completion.
    pub completion: Vec<u32>,
    /// Positions of the last token of each step, counted from the prompt's first.
    pub at: Vec<usize>,
}

impl Steps {
    /// A completion that is one step, read at its last token: the end, if there is one.
    #[must_use]
    pub fn whole(prompt: Vec<u32>, completion: Vec<u32>) -> Self {
        let at = vec![(prompt.len() + completion.len()).saturating_sub(1)];
        Self { prompt, completion, at }
    }

    /// Encodes the prompt with the tokenizer's special tokens, and each step by itself, so that every step ends in a token of its
    /// own. None if there is no step, or one without a token: nothing could be read at its end.
    ///
    /// # Errors
    /// Of the tokenizer.
    pub fn encode<'a>(
        tokenizer: &Tokenizer,
        prompt: &str,
        steps: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Self>> {
        let prompt = tokenizer.encode_with_special(prompt)?;
        let (mut completion, mut at) = (Vec::new(), Vec::new());
        for step in steps {
            let ids = tokenizer.encode(step)?;
            if ids.is_empty() {
                return Ok(None);
            }
            completion.extend(ids);
            at.push(prompt.len() + completion.len() - 1);
        }
        Ok((!at.is_empty()).then_some(Self { prompt, completion, at }))
    }

    fn tagged(&self) -> Tagged<'_> {
        Tagged { continuation: Continuation { prompt: &self.prompt, completion: &self.completion }, at: &self.at }
    }

    /// With a label at each step that has one; none if no step has.
    #[must_use]
    pub fn labelled(&self, labels: &[Option<f64>]) -> Option<TaggedExample> {
        let (at, labels): (Vec<usize>, Vec<f64>) =
            self.at.iter().zip(labels).filter_map(|(at, label)| Some((*at, (*label)?))).unzip();
        let ids = [self.prompt.as_slice(), &self.completion].concat();
        (!at.is_empty()).then_some(TaggedExample { ids, at, labels })
    }
}

/// Completions to score with one model.
pub struct Scoring {
    /// The model.
    pub model: Arc<RewardModel>,
    /// The completions, each with a step at least. Equal ones are scored once.
    pub asked: Arc<[Steps]>,
}

/// Scores completions, a batch at a time on all threads.
pub struct Scorer {
    n_threads: usize,
}

impl Scorer {
    /// Starts one.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub fn start(actors: &Handle, n_threads: usize) -> Result<Pool<Self>> {
        Ok(Pool::start(actors, PoolOptions::cpu("scorer", 1), move |_| Ok(Self { n_threads }))?)
    }
}

impl Worker for Scorer {
    type Message = Scoring;
    /// `[completions][steps][outputs]`.
    type Reply = Vec<Vec<Vec<f64>>>;
    type State = u64;

    async fn handle(&mut self, asked: Scoring, turn: &mut Turn<'_, u64>) -> std::result::Result<Self::Reply, Fault> {
        let (mut places, mut distinct) = (HashMap::new(), Vec::new());
        let place = |steps| {
            *places.entry(steps).or_insert_with(|| {
                distinct.push(Steps::tagged(steps));
                distinct.len() - 1
            })
        };
        let which: Vec<usize> = asked.asked.iter().map(place).collect();
        let scores = tracker_lm::tag_scores(&asked.model, &distinct, self.n_threads)
            .map_err(|error| Fault::input("could not score").because(error))?;
        turn.update(|n_scored| *n_scored += scores.len() as u64);
        Ok(which.into_iter().map(|place| scores[place].clone()).collect())
    }
}
