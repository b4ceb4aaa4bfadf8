//! Answers of every model to every query, which mixtures are put together from; and who is best, by the validation split.

use futures::future::try_join_all;
use tracker_store::NodeId;

use super::world::{Answer, Query, World};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, mean};
use crate::parts::record::record_members;

/// Answers `[model][query][sample]` at one temperature.
pub(super) struct Answers {
    all: Vec<Vec<Vec<Answer>>>,
    /// The answers of a model to a task as a dataset, `[model][task]`.
    datasets: Vec<Vec<NodeId>>,
}

impl Answers {
    /// Draws `n[model]` answers to each query of the test; all models at once.
    pub(super) async fn draw(world: &World<'_>, temperature: f64, n: &[u32]) -> Result<Self> {
        let lab = world.lab;
        // Stages are begun in order, whoever answers first.
        let mut stages = Vec::with_capacity(n.len());
        for (model, n) in world.models.iter().zip(n) {
            let stage = lab.stage(&format!("pool {temperature}/{}", model.name), world.test.len()).await?;
            stages.push((stage, model, *n));
        }
        let drawn = stages.iter().map(|(stage, model, n)| async move {
            if *n == 0 {
                return Ok(vec![vec![]; world.test.len()]);
            }
            world.alone(stage, &model.policy, temperature, (&world.test, *n)).await
        });
        let all = try_join_all(drawn).await?;
        let mut datasets = Vec::with_capacity(all.len());
        for (model, answers) in world.models.iter().zip(&all) {
            let mut of_model = Vec::with_capacity(world.tasks.len());
            for (task, name) in world.tasks.iter().enumerate() {
                let places = world.places(task);
                let of_task = places.iter().flat_map(|at| answers[*at].iter());
                let name = format!("answers {temperature} {} {name}", model.name);
                of_model.push(results(lab, &name, of_task).await?);
            }
            datasets.push(of_model);
        }
        Ok(Self { all, datasets })
    }

    /// All answers of a model to a query.
    pub(super) fn of(&self, model: usize, query: usize) -> &[Answer] {
        &self.all[model][query]
    }

    /// The answers of a mixture's first `n` proposers to a query, slot by slot; past the last proposer the first is asked again.
    /// Each slot has an answer of its own.
    ///
    /// # Errors
    /// `Internal` if fewer were drawn.
    pub(super) fn slots(&self, mixture: &[usize], query: usize, n: usize) -> Result<Vec<&Answer>> {
        let mut n_used = vec![0; self.all.len()];
        let mut slot = |model: &usize| {
            let answer = self.of(*model, query).get(n_used[*model]);
            n_used[*model] += 1;
            answer.ok_or_else(|| Error::Internal(format!("model {model}: answer {} was not drawn", n_used[*model])))
        };
        mixture.iter().cycle().take(n).map(&mut slot).collect()
    }

    /// Datasets of the answers of some models to a task, each once.
    pub(super) fn datasets(&self, mixture: &[usize], task: usize) -> Vec<NodeId> {
        let mut models = mixture.to_vec();
        models.sort_unstable();
        models.dedup();
        models.into_iter().map(|model| self.datasets[model][task]).collect()
    }
}

/// Grades of answers as a dataset.
pub(super) async fn results<'a>(lab: &Lab, name: &str, answers: impl Iterator<Item = &'a Answer>) -> Result<NodeId> {
    let (texts, grades): (Vec<&str>, Vec<NodeId>) = answers.map(|answer| (&*answer.text, answer.grade)).unzip();
    record_members(lab, name, "results", &texts.join("\n"), grades).await
}

/// How often a mixture's first `n` proposers ask each model.
pub(super) fn demand(mixture: &[usize], n: usize, n_models: usize) -> Vec<u32> {
    let mut all = vec![0; n_models];
    for model in mixture.iter().cycle().take(n) {
        all[*model] += 1;
    }
    all
}

/// Who is best, by the validation split alone.
pub(super) struct Best {
    /// Over all tasks, each counting as much.
    pub(super) overall: usize,
    /// For each task.
    pub(super) of_task: Vec<usize>,
    /// The figures it was chosen by.
    pub(super) figures: Vec<NodeId>,
}

/// One answer of each model to each validation query; the first of the best is chosen.
pub(super) async fn choose(world: &World<'_>) -> Result<Best> {
    let (lab, temperature) = (world.lab, world.plan.moa.temperature);
    let mut stages = Vec::with_capacity(world.models.len());
    for model in &world.models {
        stages.push((lab.stage(&format!("validation/{}", model.name), world.validation.len()).await?, model));
    }
    let queries: &[Query] = &world.validation;
    let asked = stages.iter().map(|(stage, model)| world.alone(stage, &model.policy, temperature, (queries, 1)));
    let answers: Vec<Vec<Vec<Answer>>> = try_join_all(asked).await?;
    // Accuracies `[model][task]`.
    let (mut accuracies, mut figures) = (Vec::new(), Vec::new());
    for ((stage, model), answers) in stages.iter().zip(&answers) {
        let results = results(lab, &format!("validation {}", model.name), answers.iter().flatten()).await?;
        let mut of_model = Vec::with_capacity(world.tasks.len());
        for (task, name) in (0_u32..).zip(&world.tasks) {
            let of_task = queries.iter().zip(answers).filter(|(query, _)| query.task == task as usize);
            let right: Vec<f64> = of_task.flat_map(|(_, answers)| answers.iter().map(|answer| answer.right)).collect();
            let mut stream = lab.seeds().stream(stage.name(), task, 1);
            let estimate = mean(&right, &mut stream).unwrap_or(Estimate::exactly(0.0));
            let figure = format!("validation accuracy, {name}");
            figures.push(stage.figure(task, &figure, estimate, right.len(), &[results, model.policy.node()]).await?);
            of_model.push(estimate.value);
        }
        accuracies.push(of_model);
    }
    let first_greatest = |of: &dyn Fn(&[f64]) -> f64| {
        let mut best = 0;
        for (model, accuracies_of) in accuracies.iter().enumerate() {
            if of(accuracies_of) > of(&accuracies[best]) {
                best = model;
            }
        }
        best
    };
    let overall = first_greatest(&|of| of.iter().sum());
    let of_task: Vec<usize> = (0..world.tasks.len()).map(|task| first_greatest(&|of| of[task])).collect();
    let named = |model: usize| world.models[model].name.as_str();
    let by_task: Vec<String> =
        world.tasks.iter().zip(&of_task).map(|(task, model)| format!("{task}: `{}`", named(*model))).collect();
    lab.note(format!("best on the validation split: `{}`; by task {}", named(overall), by_task.join(", ")));
    Ok(Best { overall, of_task, figures })
}
