//! Exercises: those preferences are learnt of, and those they are tried on; who answers them, and who grades.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_store::{Finish, NodeId, Problem, Program, Recording, Sampling};

use super::files;
use super::settings::Grm;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::answers::{Answer, Asking, Task, answer};
use crate::parts::generate::{LocalGenerator, Policy};
use crate::parts::record::record_members;
use crate::parts::skills::Exercise;
use crate::parts::train::TrainRow;
use crate::parts::transform::{Exercises, Format, Operation, erring};

/// Operations that preferences are learnt of.
const LEARNT: [Operation; 3] = [Operation::Copy, Operation::Reverse, Operation::Upper];
/// Operations they are only tried on.
const UNSEEN: [Operation; 2] = [Operation::Rotate, Operation::Next];

/// Held-out exercises of one kind.
pub(super) struct Held {
    /// `in distribution`, or how it differs from that.
    pub(super) name: String,
    pub(super) tasks: Vec<Task>,
    /// The exercises as a dataset.
    pub(super) node: NodeId,
}

/// What is asked of whom.
pub(super) struct World<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a Grm,
    /// Held-out exercises: first in distribution, then each way out of it.
    held: Vec<Held>,
    /// Held-out exercises, in distribution, for best of n.
    pub(super) search: Held,
    pub(super) grader: NodeId,
    generator: Pool<LocalGenerator>,
    taken: BTreeSet<String>,
}

impl<'a> World<'a> {
    /// Draws distinct held-out exercises and records them.
    pub(super) async fn open(lab: &'a Lab, plan: &'a Grm) -> Result<Self> {
        let texts = &plan.texts;
        let learnt = learnt(plan);
        let kinds = [
            ("in distribution", learnt.clone()),
            ("unseen operations", Exercises { operations: UNSEEN.to_vec(), ..learnt.clone() }),
            ("longer inputs", Exercises { n_words: texts.max_words + 1..=texts.long_words, ..learnt.clone() }),
            ("another format", Exercises { formats: vec![Format::Bracketed], ..learnt.clone() }),
        ];
        let mut taken = BTreeSet::new();
        let mut held = Vec::new();
        for (name, kind) in kinds {
            let found = draw(lab, name, &kind, texts.n_test, &mut taken)?;
            held.push(hold(lab, name, found).await?);
        }
        let found = draw(lab, "search", &learnt, plan.search.n_prompts, &mut taken)?;
        let search = hold(lab, "search", found).await?;
        let grader = Program { name: "places right".into(), version: "1".into(), settings: String::new() };
        let mut recording = Recording::new();
        let grader = recording.put(lab.run(), &grader)?;
        lab.record(recording).await?;
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        Ok(Self { lab, plan, held, search, grader, generator, taken })
    }

    /// The same study of published answers: nobody is asked anything.
    pub(super) async fn of_files(lab: &'a Lab, plan: &'a Grm) -> Result<Self> {
        let grader = files::rater(lab).await?;
        let search = Held { name: "search".into(), tasks: vec![], node: grader };
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        Ok(Self { lab, plan, held: vec![], search, grader, generator, taken: BTreeSet::new() })
    }

    /// Held-out exercises of each kind, and answers of a policy to them.
    pub(super) async fn trials(&self, policy: &Policy) -> Result<Vec<(&Held, Vec<Vec<Answer>>)>> {
        let mut all = Vec::new();
        for held in &self.held {
            let stage = format!("answers/{}", held.name);
            let asking = (stage.as_str(), self.plan.pairs.n_samples, self.plan.pairs.temperature);
            all.push((held, self.answers(policy, asking, &held.tasks).await?));
        }
        Ok(all)
    }

    /// What a model is pre-trained on: all operations, lengths and formats, and answers that err. Nothing held out is in it.
    pub(super) fn pretraining(&self) -> Vec<TrainRow> {
        let TrainingKind { all, n, rate } = self.training_kind();
        let mut stream = self.lab.seeds().stream("pretraining", 0, 0);
        let mut rows = Vec::with_capacity(n);
        while rows.len() < n {
            let exercise = all.draw(&mut stream);
            let completion = erring(&exercise, rate, &mut stream);
            if !self.taken.contains(&exercise.prompt) {
                rows.push(TrainRow { prompt: exercise.prompt, completion, finish: Finish::Stop, source: None });
            }
        }
        rows
    }

    fn training_kind(&self) -> TrainingKind {
        let Grm { texts, pretraining, .. } = self.plan;
        let all = Exercises {
            operations: Operation::ALL.to_vec(),
            n_words: texts.min_words..=texts.long_words,
            formats: vec![Format::Plain, Format::Bracketed],
        };
        TrainingKind { all, n: pretraining.n_texts as usize, rate: pretraining.error_rate }
    }

    /// Exercises that preferences are learnt of, none of them held out.
    pub(super) async fn fresh(&self, name: &str, n: u32) -> Result<Vec<Task>> {
        let found = draw(self.lab, name, &learnt(self.plan), n, &mut self.taken.clone())?;
        record(self.lab, found).await
    }

    /// A model as something that can be asked.
    pub(super) fn policy(&self, node: NodeId, model: &Lm) -> Policy {
        Policy::Local { node, model: Arc::new(model.clone()), generator: self.generator.clone() }
    }

    /// Answers of each task, graded.
    pub(super) async fn answers(
        &self,
        policy: &Policy,
        (stage, n, temperature): (&str, u32, f64),
        tasks: &[Task],
    ) -> Result<Vec<Vec<Answer>>> {
        let max_tokens = self.plan.pairs.max_tokens;
        let sampling = Sampling { temperature, top_p: 1.0, max_tokens, stop: vec![], template: String::new() };
        answer(self.lab, policy, Asking { stage, n, sampling: &sampling, grader: self.grader }, tasks).await
    }
}

struct TrainingKind {
    all: Exercises,
    n: usize,
    rate: f64,
}

fn learnt(plan: &Grm) -> Exercises {
    Exercises {
        operations: LEARNT.to_vec(),
        n_words: plan.texts.min_words..=plan.texts.max_words,
        formats: vec![Format::Plain],
    }
}

/// Distinct exercises that are not taken, which they are then.
fn draw(lab: &Lab, name: &str, kind: &Exercises, n: u32, taken: &mut BTreeSet<String>) -> Result<Vec<Exercise>> {
    let mut stream = lab.seeds().stream(&format!("exercises/{name}"), 0, 0);
    let mut found = Vec::with_capacity(n as usize);
    for _ in 0..100 * u64::from(n) {
        if found.len() == n as usize {
            return Ok(found);
        }
        let exercise = kind.draw(&mut stream);
        if taken.insert(exercise.prompt.clone()) {
            found.push(exercise);
        }
    }
    if found.len() == n as usize {
        return Ok(found);
    }
    Err(Error::Input {
        what: format!("expected {n} distinct exercises for `{name}`, found {}", found.len()),
        hint: Some("longer inputs (`texts`) give more".into()),
    })
}

async fn hold(lab: &Lab, name: &str, exercises: Vec<Exercise>) -> Result<Held> {
    let tasks = record(lab, exercises).await?;
    let line = |task: &Task| format!("{} {}", task.exercise.prompt, task.exercise.answer);
    let content: Vec<String> = tasks.iter().map(line).collect();
    let node = record_members(lab, name, "benchmark", &content.join("\n"), tasks.iter().map(|task| task.node)).await?;
    Ok(Held { name: name.to_owned(), tasks, node })
}

async fn record(lab: &Lab, exercises: Vec<Exercise>) -> Result<Vec<Task>> {
    let mut recording = Recording::new();
    let task = |exercise: Exercise| {
        let text = exercise.prompt.clone();
        let problem = Problem { name: text.clone(), source: "transformations".into(), text };
        Ok(Task { node: recording.put(lab.run(), &problem)?, exercise, source: String::new() })
    };
    let tasks = exercises.into_iter().map(task).collect::<Result<Vec<_>>>()?;
    lab.record(recording).await?;
    Ok(tasks)
}
