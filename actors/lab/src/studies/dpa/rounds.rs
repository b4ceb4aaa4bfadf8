//! Rejection sampling under sampled directions: the warm-up from answers that were there already, and the rounds after it.

use rand::RngExt;
use tracker_actors::Pool;
use tracker_store::{NodeId, Recording};

use super::answers::{Answer, Asking, Chosen};
use super::ruler::Ruler;
use super::settings::{Split, Start};
use super::wish::{Wish, degrees};
use super::world::{Question, World};
use crate::error::Result;
use crate::parts::direction::Direction;
use crate::parts::evaluate::{Estimate, mean};
use crate::parts::generate::Policy;
use crate::parts::record::record_series;
use crate::parts::train::{SftSettings, Step, TrainRow, TrainSet, Trained, Trainer, sft};

/// Bins that sampled angles are counted in.
const N_BINS: usize = 9;

/// Prompts, each with answers of the unconditioned model.
pub(super) struct Offline {
    pub(super) questions: Vec<Question>,
    pub(super) answers: Vec<Vec<Answer>>,
}

/// Draws answers of the unconditioned model, as many at each of the temperatures, `n` in all.
pub(super) async fn offline(
    world: &World<'_>,
    base: &Trained,
    name: &str,
    [n_prompts, n]: [u32; 2],
    temperatures: &[f64],
) -> Result<Offline> {
    let questions = world.fresh(name, n_prompts).await?;
    let asked = world.put(questions.iter().map(|question| (question.clone(), Wish::None)).collect()).await?;
    let mut answers = vec![Vec::with_capacity(n as usize); questions.len()];
    for temperature in temperatures {
        let stage = world.lab.stage(&format!("{name}/sample at {temperature}"), asked.len()).await?;
        let n = n / temperatures.len() as u32;
        let policy = &world.policy(base);
        let drawn = world.answers(Asking { stage: &stage, policy, n, temperature: *temperature }, &asked).await?;
        for (answers, drawn) in answers.iter_mut().zip(drawn) {
            answers.extend(drawn);
        }
    }
    Ok(Offline { questions, answers })
}

/// Directions for each of `n` prompts, drawn evenly between the plan's angles.
fn directions(world: &World<'_>, label: &str, n: usize) -> Result<Vec<Vec<Direction>>> {
    let mut stream = world.lab.seeds().stream(&format!("{label}/directions"), 0, 0);
    let range = world.plan.directions.min..=world.plan.directions.max;
    let mut draw = || Direction::of_degrees(stream.random_range(range.clone()));
    (0..n).map(|_| (0..world.plan.rsf.n_directions).map(|_| draw()).collect()).collect()
}

/// The conditioned model of round 0: of the answers that are there, the best under each sampled direction.
pub(super) async fn warm_up(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    offline: &Offline,
) -> Result<Trained> {
    let label = "round 0";
    let directions = directions(world, label, offline.questions.len())?;
    let stage = world.lab.stage(&format!("{label}/select"), directions.len()).await?;
    let mut round = Round::default();
    let mut recording = Recording::new();
    let mut item = 0;
    for ((question, answers), directions) in offline.questions.iter().zip(&offline.answers).zip(directions) {
        let mut texts = Vec::with_capacity(directions.len());
        for direction in directions {
            let chosen = world.select(&mut recording, stage.row(item, 0), &direction, answers)?;
            item += 1;
            texts.push(round.take(world, question, direction, answers, &chosen));
        }
        round.same.push(is_same(&texts));
    }
    world.lab.record(recording).await?;
    stage.done(round.rows.len());
    round.train(world, trainer, label, base, &world.plan.rsf.warm_up).await
}

/// One round: of the answers that the last model gives under each sampled direction, the best is learnt.
pub(super) async fn round(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    last: &Trained,
    nth: u32,
) -> Result<Trained> {
    let plan = &world.plan.rsf;
    let label = format!("round {nth}");
    let name = match plan.prompts {
        Split::Fresh => format!("rsf {nth}"),
        Split::Same => "rsf".into(),
    };
    let round = choose(world, &world.policy(last), &label, &name).await?;
    let from = match plan.start {
        Start::Previous => last,
        Start::Base => base,
    };
    round.train(world, trainer, &label, from, &plan.sft).await
}

/// What a policy behind an endpoint says under each sampled direction, and the best of it, recorded as a round's dataset:
/// nobody learns from it here.
pub(super) async fn served(world: &World<'_>, policy: &Policy) -> Result<()> {
    let label = "round 0";
    let mut round = choose(world, policy, label, "rsf 0").await?;
    let set = round.set(world, label);
    let mut recording = Recording::new();
    set.record(world.lab, &mut recording)?;
    world.lab.record(recording).await?;
    round.figures(world, label, &set).await
}

/// Answers of a policy to fresh prompts under sampled directions, and of each the best.
async fn choose(world: &World<'_>, policy: &Policy, label: &str, name: &str) -> Result<Round> {
    let plan = &world.plan.rsf;
    let questions = world.fresh(name, plan.n_prompts).await?;
    let drawn = directions(world, label, questions.len())?;
    let wanted = questions.iter().zip(&drawn).flat_map(|(question, directions)| {
        directions.iter().map(|direction| (question.clone(), Wish::Along(direction.clone())))
    });
    let asked = world.put(wanted.collect()).await?;
    let stage = world.lab.stage(&format!("{label}/sample"), asked.len()).await?;
    let asking = Asking { stage: &stage, policy, n: plan.n_samples, temperature: plan.temperature };
    let answers = world.answers(asking, &asked).await?;
    let mut round = Round::default();
    let mut recording = Recording::new();
    let mut items = (0..).zip(&answers);
    for (question, directions) in questions.iter().zip(drawn) {
        let mut texts = Vec::with_capacity(directions.len());
        for (direction, (item, answers)) in directions.into_iter().zip(items.by_ref()) {
            let chosen = world.select(&mut recording, stage.row(item, 0), &direction, answers)?;
            texts.push(round.take(world, question, direction, answers, &chosen));
        }
        round.same.push(is_same(&texts));
    }
    world.lab.record(recording).await?;
    Ok(round)
}

fn is_same(texts: &[String]) -> f64 {
    f64::from(u8::from(texts.windows(2).all(|pair| pair[0] == pair[1])))
}

/// What a round chose.
#[derive(Default)]
struct Round {
    rows: Vec<TrainRow>,
    nodes: Vec<NodeId>,
    margins: Vec<f64>,
    angles: Vec<f64>,
    /// Of each prompt, 1 where all its directions chose the same text.
    same: Vec<f64>,
}

impl Round {
    /// Takes the chosen answer to learn from; gives its text.
    fn take(
        &mut self,
        world: &World<'_>,
        question: &Question,
        direction: Direction,
        answers: &[Answer],
        chosen: &Chosen,
    ) -> String {
        let answer = &answers[chosen.at];
        self.angles.push(degrees(&direction));
        self.margins.extend(chosen.margin);
        self.nodes.push(chosen.node);
        self.rows.push(world.row(question, &Wish::Along(direction), answer, chosen.node));
        answer.text.clone()
    }

    /// What it chose, as a dataset.
    fn set(&mut self, world: &World<'_>, label: &str) -> TrainSet {
        let judge = world.ruler.as_ref().map(Ruler::node);
        TrainSet {
            name: format!("{label}/best"),
            rows: std::mem::take(&mut self.rows),
            drawn_from: judge.into_iter().chain([world.map]).collect(),
        }
    }

    /// Trains on what it chose, and records how it chose.
    async fn train(
        mut self,
        world: &World<'_>,
        trainer: &Pool<Trainer>,
        label: &str,
        from: &Trained,
        settings: &SftSettings,
    ) -> Result<Trained> {
        let set = self.set(world, label);
        let trained = sft(world.lab, trainer, Step::new(label, from, &set, settings)).await?;
        self.figures(world, label, &set).await?;
        Ok(trained)
    }

    /// Records how it chose.
    async fn figures(&self, world: &World<'_>, label: &str, set: &TrainSet) -> Result<()> {
        let lab = world.lab;
        let used = [set.node(lab)?];
        let stage = lab.stage(&format!("{label}/chosen"), 1).await?;
        let named =
            [("prompts with one text for all directions", &self.same), ("margin to the runner-up", &self.margins)];
        for (item, (name, values)) in (0..).zip(named) {
            let mut stream = lab.seeds().stream(stage.name(), item, 0);
            if let Some(estimate) = mean(values, &mut stream) {
                stage.figure(item, name, estimate, values.len(), &used).await?;
            }
        }
        let bins = self.bins(world);
        let emptiest = bins.iter().copied().min().unwrap_or(0);
        let estimate = Estimate::exactly(f64::from(emptiest));
        stage.figure(2, "directions in the emptiest of nine bins", estimate, self.angles.len(), &used).await?;
        let counts = (0..).zip(bins.iter().map(|n| f64::from(*n)));
        record_series(lab, &format!("{label}/directions"), counts).await?;
        stage.done(1);
        Ok(())
    }

    /// How many of the sampled angles are in each bin.
    fn bins(&self, world: &World<'_>) -> [u32; N_BINS] {
        let (min, max) = (world.plan.directions.min, world.plan.directions.max);
        let mut bins = [0; N_BINS];
        for angle in &self.angles {
            let bin = (N_BINS as f64 * (angle - min) / (max - min)).floor().max(0.0) as usize;
            bins[bin.min(N_BINS - 1)] += 1;
        }
        bins
    }
}
