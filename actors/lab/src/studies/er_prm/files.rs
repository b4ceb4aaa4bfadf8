//! Real models and data: problems with answers, labelled solutions and graded candidates as they are published.

use tracker_lm::Lm;
use tracker_store::{Finish, Problem, Program, Recording, Reward};

use super::Start;
use super::prm::LabelSet;
use super::settings::ErPrm;
use super::world::{Reading, Solution, Task, Tasks, World};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::endpoint::Verdicts;
use crate::parts::generate::Policy;
use crate::parts::model::load;
use crate::parts::record::{FileRow, put_published, record_members};
use crate::parts::rows::{self, BestOfTest, Fault, Format, Mapped, Options, Question, Questions, StepValues};
use crate::parts::train::adopt;

/// The given models, and problems of files.
pub(super) async fn start<'a>(lab: &'a Lab, plan: &'a ErPrm) -> Result<Start<'a>> {
    let base = match plan.data.base.as_str() {
        "" => None,
        folder => Some(adopt(lab, "base", load(lab, folder)?).await?),
    };
    let reading = base.as_ref().map(|base| Reading { model: base.model.clone(), tag: plan.data.tag.clone() });
    let pupil = match plan.data.policy.as_str() {
        "" => None,
        folder => Some(adopt(lab, "policy", load(lab, folder)?).await?),
    };
    let tasks = problems(lab, plan, pupil.as_ref().map(|pupil| &pupil.model)).await?;
    let world = World::open(lab, plan, reading, tasks).await?;
    let policy = match &pupil {
        Some(pupil) => Some(world.policy(pupil.node, &pupil.model)),
        None if plan.endpoint.is_given() => Some(Policy::endpoint(lab, "endpoint", &plan.endpoint).await?),
        None => None,
    };
    let judge = if plan.judge.is_given() {
        Some(Verdicts::start(lab, "judge", "judge", &plan.judge, plan.verdict.clone()).await?)
    } else {
        None
    };
    Ok(Start { world, base, policy, pupil, judge })
}

/// Rows of files; none of no files.
async fn read<F: Format>(lab: &Lab, plan: &ErPrm, name: &str, format: F, paths: &[String]) -> Result<Vec<F::Row>> {
    if paths.is_empty() {
        return Ok(vec![]);
    }
    rows::read(lab, name, format, paths, Options::new(&plan.data.id, plan.data.skip_bad)).await
}

/// Problems to label, held-out ones, and those for rejection sampling. An answer that the grader cannot compare makes a wrong
/// row, and so does a problem that fills the context of `policy`.
async fn problems(lab: &Lab, plan: &ErPrm, policy: Option<&Lm>) -> Result<Tasks> {
    let (grader, template) = (plan.data.grader, &plan.data.template);
    // A problem with its prompt, and its answer as the grader has it.
    let map = |question: Question| {
        let Some(expected) = grader.expected(&question.answer) else {
            let name = grader.program().name;
            let what = format!("expected one that the grader `{name}` can compare, got `{}`", question.answer);
            return Err(Fault::new("answer", what));
        };
        let prompt = template.replace("{problem}", &question.text);
        if let Some(policy) = policy {
            let room = policy.config().max_positions;
            let n = policy.tokenizer().encode(&prompt).map_err(|error| Fault::new("problem", error.to_string()))?.len();
            if n >= room {
                let what = format!("expected a prompt shorter than the policy's context, {room} tokens, got {n}");
                return Err(Fault::new("problem", what));
            }
        }
        Ok((question, prompt, expected))
    };
    let mut all = Tasks::default();
    let of_files = [
        ("train problems", &plan.data.train, plan.problems.n_train, &mut all.train),
        ("test problems", &plan.data.test, plan.problems.n_test, &mut all.test),
        ("raft problems", &plan.data.raft, u32::MAX, &mut all.more),
    ];
    for (name, paths, most, tasks) in of_files {
        let mut questions = read(lab, plan, name, Mapped { format: Questions, map }, paths).await?;
        questions.truncate(most as usize);
        for questions in questions.chunks(1024) {
            let mut recording = Recording::new();
            for (question, prompt, expected) in questions {
                let (name, text) = (question.id.clone(), question.text.clone());
                let node = recording.put(lab.run(), &Problem { name, source: "files".into(), text })?;
                tasks.push(Task { node, prompt: prompt.clone(), expected: expected.clone(), chain: None });
            }
            lab.record(recording).await?;
        }
    }
    Ok(all)
}

/// Labels as they are published, a set an estimator.
pub(super) async fn labels(world: &World<'_>) -> Result<Vec<LabelSet>> {
    let World { lab, plan, reading: Some(reading), .. } = world else { return Ok(vec![]) };
    let map = |row: StepValues| {
        let labels: Vec<Option<f64>> = row.values.iter().copied().map(Some).collect();
        let steps = reading.steps("", row.steps.iter().map(String::as_str));
        let steps = steps.map_err(|error| Fault::new("text", error.to_string()))?;
        match steps.and_then(|steps| steps.labelled(&labels)) {
            Some(example) => Ok((row, example)),
            None => Err(Fault::new("text", format!("expected at most {} tokens, got more", reading.context()))),
        }
    };
    let estimators = plan.estimators()?;
    let mut sets = Vec::with_capacity(estimators.len());
    for (estimator, (name, paths)) in estimators.into_iter().zip(&plan.data.labels) {
        let name = format!("labels {}", name.replace(':', " "));
        let format = rows::ErPrm { tag: plan.data.tag.clone() };
        let mut set = LabelSet { estimator, labels: vec![], nodes: vec![], rows: vec![], examples: vec![] };
        for (row, example) in read(lab, plan, &name, Mapped { format, map }, paths).await? {
            set.examples.push(example);
            let line = serde_json::json!({"id": row.id, "text": row.steps.concat(), "value": row.values});
            set.rows.push(FileRow { line: line.to_string(), source: None });
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Candidates as they are published, with their grades; their problems take the place of the held-out ones.
pub(super) async fn candidates(world: &mut World<'_>) -> Result<Vec<Vec<Solution>>> {
    let (lab, plan) = (world.lab, world.plan);
    let given = read(lab, plan, "candidates", BestOfTest, &plan.data.candidates).await?;
    let n = plan.search.n_candidates as usize;
    let stage = lab.stage("candidates", given.len()).await?;
    let grades = Program { name: "published grades".into(), version: "1".into(), settings: String::new() };
    let (mut tasks, mut all) = (Vec::new(), Vec::new());
    for (row, item) in given.iter().zip(0..) {
        if row.answers.len() < n {
            let what = format!(
                "row `{}` of candidates, field `answers`: expected at least {n} (`search.n_candidates`), got {}",
                row.id,
                row.answers.len()
            );
            return Err(Error::Input { what, hint: None });
        }
        let mut recording = Recording::new();
        let grader = recording.put(lab.run(), &grades)?;
        let problem = Problem { name: row.id.clone(), source: "files".into(), text: row.prompt.clone() };
        let node = recording.put(lab.run(), &problem)?;
        let task = Task { node, prompt: row.prompt.clone(), expected: String::new(), chain: None };
        let mut solutions = Vec::with_capacity(n);
        for ((text, is_right), k) in row.answers.iter().zip(&row.labels).zip(0..).take(n) {
            let key = stage.row(item, k);
            let n_tokens = match &world.reading {
                Some(reading) => reading.model.tokenizer().encode(text)?.len() as u32,
                None => text.split_whitespace().count() as u32,
            };
            put_published(lab, &mut recording, key, node, text, n_tokens)?;
            let values = vec![f64::from(u8::from(*is_right))];
            let reward = Reward { scorer: grader, kind: "outcome".into(), values, tallies: vec![] };
            let solution = Solution {
                row: key,
                grade: recording.put_reward(key, &reward)?,
                text: text.clone(),
                steps: None,
                is_right: *is_right,
                read: None,
                answer: world.grader.answer(text),
                finish: Finish::Stop,
            };
            solutions.push(world.taken_apart(solution, &task)?);
        }
        lab.record(recording).await?;
        tasks.push(task);
        all.push(solutions);
        stage.done(all.len());
    }
    let unread = all.iter().flatten().filter(|solution| solution.read.is_none()).count();
    if unread > 0 && world.reading.is_some() {
        lab.note(format!(
            "{unread} of {} candidates have no step or are longer than the context: they score 0",
            n * all.len()
        ));
    }
    let content: Vec<String> = given.iter().map(|row| format!("{row:?}")).collect();
    let nodes = tasks.iter().map(|task| task.node);
    world.benchmark = record_members(lab, "candidates", "benchmark", &content.join("\n"), nodes).await?;
    world.test = tasks;
    Ok(all)
}
