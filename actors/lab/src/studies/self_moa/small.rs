//! The small models: a generalist and a specialist a task, an aggregator that learns to read their answers, and a judge.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tracker_actors::Pool;
use tracker_lm::{HeadKind, Lm, RewardModel, TaggedExample, Trunk};
use tracker_store::{Finish, NodeId, Problem, Recording};

use super::check::SMALL;
use super::pool::results;
use super::settings::{AggregatorSettings, SelfMoa, TeachSettings};
use super::tasks::{Ask, NUMBERS, Task, VERDICTS, shown, tokenizer};
use super::world::{Answer, Grading, Judge, Model, Query, World};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::aggregate::majority;
use crate::parts::generate::{LocalGenerator, Policy};
use crate::parts::record::{FileRow, record_members};
use crate::parts::reward::{Fit, Fitter, Judge as RewardJudge, Objective, Scorer, Steps, fit};
use crate::parts::skills::Exercise;
use crate::parts::train::{Step, TrainRow, TrainSet, Trained, Trainer, completion_ids, sft};

/// Share of lessons with references that ask for a number.
const NUMBERED: f64 = 0.3;
/// How often a made-up reference errs at a word, beside the one that is surely wrong.
const WRONG: f64 = 0.2;
/// Answers of each model to each exercise that the judge learns from.
const JUDGED: usize = 2;

/// Everything a run is about, with models trained here.
pub(super) async fn start<'a>(lab: &'a Lab, plan: &'a SelfMoa) -> Result<World<'a>> {
    let trainer = Trainer::start(lab.actors(), lab.workers())?;
    let fitter = Fitter::start(lab.actors(), lab.workers())?;
    let scorer = Scorer::start(lab.actors(), lab.workers())?;
    let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
    let policy = |trained: &Trained| Policy::Local {
        node: trained.node,
        model: Arc::new(trained.model.clone()),
        generator: generator.clone(),
    };
    let mut taken = BTreeSet::new();
    let test = queries(lab, plan, "test", plan.tasks.n_test, &mut taken).await?;
    let validation = queries(lab, plan, "validation", plan.tasks.n_validation, &mut taken).await?;

    // A generalist, and a specialist a task.
    let (model, held) = (plan.policy.init(lab, tokenizer()?)?, &taken);
    let lessons = taught(lab, plan, (SMALL[0], &Task::ALL), &plan.generalist, held);
    let generalist = sft(lab, &trainer, Step::first(SMALL[0], &model, &lessons, &plan.generalist.sft)).await?;
    let mut models = vec![Model { name: SMALL[0].to_owned(), policy: policy(&generalist) }];
    for (name, task) in SMALL.iter().skip(1).zip(Task::ALL) {
        let lessons = taught(lab, plan, (name, &[task]), &plan.specialist, held);
        let trained = sft(lab, &trainer, Step::new(name, &generalist, &lessons, &plan.specialist.sft)).await?;
        models.push(Model { name: (*name).to_owned(), policy: policy(&trained) });
    }

    let benchmark = dataset(lab, "test exercises", &test).await?;
    let mut recording = Recording::new();
    let grader = recording.put(lab.run(), &Grading::Words.program())?;
    lab.record(recording).await?;
    let mut world = World {
        lab,
        plan,
        tasks: Task::ALL.map(|task| task.name().to_owned()).to_vec(),
        grading: vec![(Grading::Words, grader); Task::ALL.len()],
        validation,
        test,
        benchmark,
        aggregator: policy(&generalist),
        models,
        judge: None,
    };

    // Who reads the others' answers learns it on answers of theirs, as the judge does.
    let exercises = queries(lab, plan, "lessons", plan.aggregator.n_exercises, &mut taken).await?;
    let answers = answered(&world, &exercises).await?;
    let drawn = results(lab, "answers to learn from", answers.iter().flatten().flatten()).await?;
    let lessons = aggregations(lab, plan, &exercises, &answers, drawn)?;
    let aggregator = sft(lab, &trainer, Step::new("aggregator", &generalist, &lessons, &plan.aggregator.sft)).await?;
    world.aggregator = policy(&aggregator);
    let judge = judge(&world, &fitter, &generalist, &exercises, &answers).await?;
    world.judge = Some(Judge::Small { judge, scorer, reader: Arc::new(generalist.model.clone()) });
    Ok(world)
}

/// Exercises of each task that are not taken, which they are then, with their records.
async fn queries(lab: &Lab, plan: &SelfMoa, name: &str, n: u32, taken: &mut BTreeSet<String>) -> Result<Vec<Query>> {
    let mut all = Vec::new();
    let mut recording = Recording::new();
    for (place, task) in Task::ALL.into_iter().enumerate() {
        let mut stream = lab.seeds().stream(&format!("exercises/{name}"), place as u32, 0);
        let mut n_left = n;
        // There are far more exercises than are asked for; of the smallest inputs there may not be.
        for _ in 0..100 * n {
            let exercise = random(plan, task, &mut stream);
            if n_left == 0 || !taken.insert(exercise.prompt.clone()) {
                continue;
            }
            n_left -= 1;
            let text = exercise.prompt;
            let problem = Problem { name: text.clone(), source: task.name().into(), text: text.clone() };
            let node = recording.put(lab.run(), &problem)?;
            all.push(Query { node, task: place, text, expected: exercise.answer });
        }
        if n_left > 0 {
            return Err(Error::Value {
                key: "tasks.max_words".into(),
                message: format!(
                    "expected inputs long enough for {n} exercises of `{}`, {n_left} are missing",
                    task.name()
                ),
            });
        }
    }
    lab.record(recording).await?;
    Ok(all)
}

fn random(plan: &SelfMoa, task: Task, stream: &mut ChaCha8Rng) -> Exercise {
    let n_words = stream.random_range(plan.tasks.min_words..=plan.tasks.max_words);
    task.exercise(n_words, stream)
}

/// Queries as a dataset.
pub(super) async fn dataset(lab: &Lab, name: &str, queries: &[Query]) -> Result<NodeId> {
    let rows: Vec<String> = queries.iter().map(|query| format!("{}\t{}", query.text, query.expected)).collect();
    record_members(lab, name, "benchmark", &rows.join("\n"), queries.iter().map(|query| query.node)).await
}

/// Lessons of some tasks; a share of them with references that nobody gave, so that answers of others are no strange sight.
fn taught(
    lab: &Lab,
    plan: &SelfMoa,
    (name, tasks): (&str, &[Task]),
    teach: &TeachSettings,
    held: &BTreeSet<String>,
) -> TrainSet {
    let mut stream = lab.seeds().stream(&format!("{name}/lessons"), 0, 0);
    let most = plan.mixed().map_or(1, |mixture| mixture.len());
    let mut rows = Vec::with_capacity(teach.n_exercises as usize);
    for task in tasks.iter().cycle() {
        if rows.len() == teach.n_exercises as usize {
            break;
        }
        let exercise = random(plan, *task, &mut stream);
        if held.contains(&exercise.prompt) {
            continue;
        }
        rows.push(if stream.random_bool(teach.referenced) {
            let references = made_up(*task, &exercise, most, &mut stream);
            let keys: Vec<(&str, bool)> =
                references.iter().map(|text| (text.as_str(), *text == exercise.answer)).collect();
            lesson(&keys, &exercise.prompt, &exercise.answer, &mut stream)
        } else {
            row(exercise.prompt, exercise.answer)
        });
    }
    TrainSet { name: format!("lessons {name}"), rows, drawn_from: vec![] }
}

/// Up to `most` answers of somebody who is right as often as it comes.
fn made_up(task: Task, exercise: &Exercise, most: usize, stream: &mut ChaCha8Rng) -> Vec<String> {
    let n = if stream.random_bool(0.5) { most } else { stream.random_range(1..=most) };
    let right = stream.random_range(0.1..0.9);
    let mut one =
        || if stream.random_bool(right) { exercise.answer.clone() } else { task.wrong(exercise, WRONG, stream) };
    (0..n).map(|_| one()).collect()
}

fn row(prompt: String, completion: String) -> TrainRow {
    TrainRow { prompt, completion, finish: Finish::Stop, source: None }
}

/// A lesson with references, each of which is known to be right or not: to answer, or to name the first that is right. Where none
/// is, the most frequent is named.
fn lesson(references: &[(&str, bool)], query: &str, answer: &str, stream: &mut ChaCha8Rng) -> TrainRow {
    let texts = references.iter().map(|(text, _)| *text);
    if !references.is_empty() && stream.random_bool(NUMBERED) {
        let keys: Vec<Option<&str>> = references.iter().map(|(text, _)| Some(*text)).collect();
        let first = references.iter().position(|(_, is_right)| *is_right).or_else(|| majority(&keys));
        row(shown(Ask::Number, texts, query), NUMBERS[first.unwrap_or(0)].to_owned())
    } else {
        row(shown(Ask::Answer, texts, query), answer.to_owned())
    }
}

/// What each model answers to each exercise: `[model][exercise][sample]`.
async fn answered(world: &World<'_>, exercises: &[Query]) -> Result<Vec<Vec<Vec<Answer>>>> {
    let AggregatorSettings { n_samples, temperature, .. } = world.plan.aggregator;
    let mut all = Vec::new();
    for Model { name, policy } in &world.models {
        let stage = world.lab.stage(&format!("lessons/{name}"), exercises.len()).await?;
        all.push(world.alone(&stage, policy, temperature, (exercises, n_samples)).await?);
    }
    Ok(all)
}

/// Lessons in aggregating: for each exercise some mixtures of one to three models, most of them whole, and the exercise alone.
fn aggregations(
    lab: &Lab,
    plan: &SelfMoa,
    exercises: &[Query],
    answers: &[Vec<Vec<Answer>>],
    drawn: NodeId,
) -> Result<TrainSet> {
    let n = plan.mixed()?.len();
    let mut rows = Vec::new();
    for (item, query) in exercises.iter().enumerate() {
        let mut stream = lab.seeds().stream("aggregator/lessons", item as u32, 0);
        rows.push(row(query.text.clone(), query.expected.clone()));
        for _ in 0..plan.aggregator.n_mixtures {
            let mut members: Vec<usize> = (0..answers.len()).collect();
            members.shuffle(&mut stream);
            members.truncate(stream.random_range(1..=3));
            let mut slots: Vec<&Answer> = Vec::with_capacity(n);
            for slot in 0..n {
                let of = &answers[members[slot % members.len()]][item];
                slots.push(&of[(slot / members.len()) % of.len()]);
            }
            slots.shuffle(&mut stream);
            if stream.random_bool(0.2) {
                slots.truncate(stream.random_range(1..=n));
            }
            let said: Vec<(&str, bool)> =
                slots.iter().filter(|a| a.key.is_some()).map(|a| (&*a.text, a.right == 1.0)).collect();
            rows.push(lesson(&said, &query.text, &query.expected, &mut stream));
        }
    }
    Ok(TrainSet { name: "lessons aggregator".into(), rows, drawn_from: vec![drawn] })
}

/// An answer as the judge reads it; none of one that has no token.
pub(super) fn read(model: &Lm, query: &Query, answer: &Answer) -> Result<Option<Steps>> {
    let completion = completion_ids(model, &answer.text, answer.finish)?;
    if completion.is_empty() {
        return Ok(None);
    }
    Ok(Some(Steps::whole(model.tokenizer().encode(&query.text)?, completion)))
}

/// A reward model that learns whether answers are right.
async fn judge(
    world: &World<'_>,
    fitter: &Pool<Fitter>,
    base: &Trained,
    exercises: &[Query],
    answers: &[Vec<Vec<Answer>>],
) -> Result<RewardJudge> {
    let [plus, minus] = VERDICTS.map(|word| base.model.tokenizer().encode(word));
    let word = |ids: tracker_lm::Result<Vec<u32>>| -> Result<u32> {
        ids?.first().copied().ok_or_else(|| Error::Internal("a word of the judge is no token".into()))
    };
    let start = RewardModel::init(&base.model, HeadKind::TwoToken { plus: word(plus)?, minus: word(minus)? }, 0)?;
    let (mut rows, mut examples): (Vec<FileRow>, Vec<TaggedExample>) = (Vec::new(), Vec::new());
    for (item, query) in exercises.iter().enumerate() {
        for answer in answers.iter().flat_map(|of| of[item].iter().take(JUDGED)) {
            let Some(steps) = read(&base.model, query, answer)? else { continue };
            let Some(example) = steps.labelled(&[Some(answer.right)]) else { continue };
            let line = serde_json::json!({"prompt": query.text, "response": &*answer.text, "right": answer.right});
            rows.push(FileRow { line: line.to_string(), source: Some(answer.grade) });
            examples.push(example);
        }
    }
    let step = Fit {
        label: "judge",
        from: base.node,
        model: &start,
        dataset: "graded answers",
        rows: &rows,
        drawn_from: &[],
        trunk: Trunk::Trained,
        adapter: None,
        settings: &world.plan.verifier,
    };
    fit(world.lab, fitter, step, Objective::Tags(examples)).await
}
