//! Models behind endpoints and problems of files.

use std::collections::{BTreeMap, BTreeSet};

use tracker_store::{Problem, Recording};

use super::settings::{DataSettings, SelfMoa};
use super::small::dataset;
use super::world::{Grading, Judge, Model, Query, World};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::generate::Policy;
use crate::parts::rows::{self, Fault, Mapped, Options, Question, Questions};

/// Everything a run is about, with models that are served: each must answer before any work.
pub(super) async fn start<'a>(lab: &'a Lab, plan: &'a SelfMoa) -> Result<World<'a>> {
    let DataSettings { validation, test, n_validation, n_test, grader, graders, .. } = &plan.data;
    let tasks: Vec<String> = test.keys().cloned().collect();
    let mut grading = Vec::with_capacity(tasks.len());
    let mut recording = Recording::new();
    for task in &tasks {
        let of = Grading::File(graders.get(task).copied().unwrap_or(*grader));
        grading.push((of, recording.put(lab.run(), &of.program())?));
    }
    lab.record(recording).await?;
    let all: Vec<Grading> = grading.iter().map(|(of, _)| *of).collect();
    let validation = problems(lab, plan, "validation", validation, (*n_validation, &all)).await?;
    let test = problems(lab, plan, "test", test, (*n_test, &all)).await?;
    let known: BTreeSet<&str> = validation.iter().map(|query| query.text.as_str()).collect();
    if let Some(twice) = test.iter().find(|query| known.contains(query.text.as_str())) {
        let start: String = twice.text.chars().take(60).collect();
        return Err(Error::Input {
            what: format!(
                "task `{}`: the problem `{start}` is in `data.validation` and in `data.test`",
                tasks[twice.task]
            ),
            hint: Some("the best model is chosen on the validation problems: keep them apart from the test".into()),
        });
    }

    let mut models = Vec::with_capacity(plan.models.len());
    for (name, settings) in &plan.models {
        let policy = Policy::one_of(lab, &format!("models.{name}"), settings).await?;
        models.push(Model { name: name.clone(), policy });
    }
    let missing = || Error::Internal(format!("no model `{}`", plan.aggregator.model));
    let aggregator =
        models.iter().find(|model| model.name == plan.aggregator.model).ok_or_else(missing)?.policy.clone();
    let judge = if plan.judge.is_given() {
        Some(Judge::Served(Policy::one_of(lab, "judge", &plan.judge).await?))
    } else {
        None
    };
    let benchmark = dataset(lab, "test problems", &test).await?;
    Ok(World { lab, plan, tasks, grading, validation, test, benchmark, models, aggregator, judge })
}

/// The first problems of each task. An answer that the task's grader cannot compare makes a wrong row.
async fn problems(
    lab: &Lab,
    plan: &SelfMoa,
    split: &str,
    files: &BTreeMap<String, Vec<String>>,
    (most, grading): (u32, &[Grading]),
) -> Result<Vec<Query>> {
    let mut all = Vec::new();
    for (task, (name, paths)) in files.iter().enumerate() {
        let map = |question: Question| {
            let Grading::File(grader) = grading[task] else { return Ok((question.clone(), question.answer)) };
            let Some(expected) = grader.expected(&question.answer) else {
                let name = grader.program().name;
                let what = format!("expected one that the grader `{name}` can compare, got `{}`", question.answer);
                return Err(Fault::new("answer", what));
            };
            Ok((question, expected))
        };
        let options = Options::new(&plan.data.id, plan.data.skip_bad);
        let format = Mapped { format: Questions, map };
        let mut questions = rows::read(lab, &format!("{split} problems of {name}"), format, paths, options).await?;
        questions.truncate(most as usize);
        let least = if split == "test" { 2 } else { 1 };
        if questions.len() < least {
            let what =
                format!("`data.{split}`, task `{name}`: expected at least {least} problems, got {}", questions.len());
            return Err(Error::Input { what, hint: None });
        }
        for questions in questions.chunks(1024) {
            let mut recording = Recording::new();
            for (question, expected) in questions {
                let (id, source) = (question.id.clone(), name.clone());
                let node = recording.put(lab.run(), &Problem { name: id, source, text: question.text.clone() })?;
                let text = plan.data.template.replace("{problem}", &question.text);
                all.push(Query { node, task, text, expected: expected.clone() });
            }
            lab.record(recording).await?;
        }
    }
    Ok(all)
}
