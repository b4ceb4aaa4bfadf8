//! Problems, and solutions of them: drawn, graded, taken apart into steps, and continued from every prefix.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_lm::{Lm, Tokenizer};
use tracker_store::{Finish, NodeId, Problem, Program, Recording, Reward, RowKey, Sampling, Tally};

use super::prm::VERDICTS;
use super::settings::ErPrm;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::chains::{Chain, SEPARATOR, tokenizer};
use crate::parts::generate::{Ask, LocalGenerator, Policy, draw};
use crate::parts::record::record_members;
use crate::parts::reward::Steps;
use crate::parts::steps::{Splitter, Trajectory};

/// A problem with its record.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) node: NodeId,
    pub(super) prompt: String,
    pub(super) chain: Chain,
}

impl Task {
    /// The right solution.
    pub(super) fn solution(&self) -> String {
        self.chain.solution()
    }
}

/// A solution somebody wrote.
#[derive(Clone)]
pub(super) struct Solution {
    pub(super) row: RowKey,
    /// The node of its grade.
    pub(super) grade: NodeId,
    pub(super) text: String,
    /// Its steps; none of a text without any.
    pub(super) steps: Option<Trajectory>,
    /// Whether its last result is the right answer.
    pub(super) is_right: bool,
    /// As a reward model reads it; none if it has no steps.
    pub(super) read: Option<Steps>,
    /// Its last result, if it has one.
    pub(super) answer: Option<u32>,
    /// How it ended.
    pub(super) finish: Finish,
}

impl Solution {
    /// Its steps as text.
    pub(super) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(Trajectory::steps)
    }
}

/// What problems there are, and who draws and grades.
pub(super) struct World<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a ErPrm,
    pub(super) train: Vec<Task>,
    pub(super) test: Vec<Task>,
    /// The held-out problems as a dataset.
    pub(super) benchmark: NodeId,
    /// The words of problems, solutions and verdicts.
    pub(super) tokenizer: Tokenizer,
    /// Takes solutions apart.
    pub(super) splitter: Splitter,
    /// The program that grades solutions and completions.
    pub(super) grader: NodeId,
    generator: Pool<LocalGenerator>,
}

/// A question to a policy: how often, how, and where it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: &'a str,
    pub(super) n: u32,
    pub(super) temperature: f64,
}

impl<'a> World<'a> {
    /// Draws distinct problems and records them.
    pub(super) async fn open(lab: &'a Lab, plan: &'a ErPrm) -> Result<Self> {
        let mut taken = BTreeSet::new();
        let test = chains(lab, plan, "test", plan.problems.n_test, &mut taken);
        let train = chains(lab, plan, "train", plan.problems.n_train, &mut taken);
        let (test, train) = (record(lab, test).await?, record(lab, train).await?);
        let answers: Vec<String> = test.iter().map(|task| format!("{} {}", task.prompt, task.chain.answer())).collect();
        let nodes = test.iter().map(|task| task.node);
        let benchmark = record_members(lab, "held-out chains", "benchmark", &answers.join("\n"), nodes).await?;
        let grader = Program { name: "last result".into(), version: "1".into(), settings: "modulo 7".into() };
        let mut recording = Recording::new();
        let grader = recording.put(lab.run(), &grader)?;
        lab.record(recording).await?;
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        let splitter = Splitter { separator: SEPARATOR.to_owned(), merge_up_to: 0 };
        let tokenizer = tokenizer(&VERDICTS)?;
        Ok(Self { lab, plan, train, test, benchmark, tokenizer, splitter, grader, generator })
    }

    /// Problems that are neither held out nor labelled.
    pub(super) async fn fresh(&self, name: &str, n: u32) -> Result<Vec<Task>> {
        let mut taken = self.train.iter().chain(&self.test).map(|task| task.chain.clone()).collect();
        record(self.lab, chains(self.lab, self.plan, name, n, &mut taken)).await
    }

    /// A model as something that can be asked.
    pub(super) fn policy(&self, node: NodeId, model: &Lm) -> Policy {
        Policy::Local { node, model: Arc::new(model.clone()), generator: self.generator.clone() }
    }

    fn sampling(&self, temperature: f64) -> Sampling {
        let max_tokens = self.plan.rollouts.max_tokens;
        Sampling { temperature, top_p: 1.0, max_tokens, stop: vec![], template: String::new() }
    }

    /// Solutions of each task, graded.
    pub(super) async fn solve(
        &self,
        policy: &Policy,
        asking: Asking<'_>,
        tasks: &[Task],
    ) -> Result<Vec<Vec<Solution>>> {
        let (lab, Asking { stage, n, temperature }) = (self.lab, asking);
        let stage = lab.stage(stage, tasks.len()).await?;
        let sampling = self.sampling(temperature);
        let mut solved = Vec::with_capacity(tasks.len());
        let size = policy.n_prompts(n);
        for (nth, batch) in tasks.chunks(size).enumerate() {
            lab.check()?;
            let rows = |at: usize| (0..n).map(|k| stage.row((nth * size + at) as u32, k)).collect::<Vec<_>>();
            let ask =
                |(at, task): (usize, &Task)| Ask { subject: task.node, prompt: task.prompt.clone(), rows: rows(at) };
            let asks: Vec<Ask> = batch.iter().enumerate().map(ask).collect();
            let samples = draw(lab, &stage, policy, &asks, &sampling).await?;
            let mut recording = Recording::new();
            let rows = asks.iter().flat_map(|ask| &ask.rows);
            let mut all = Vec::with_capacity(samples.len());
            for ((row, sample), at) in rows.zip(samples).zip(0..) {
                let task = &batch[at / n as usize];
                let is_right = task.chain.grade(&sample.text);
                let values = vec![f64::from(u8::from(is_right))];
                let reward = Reward { scorer: self.grader, kind: "outcome".into(), values, tallies: vec![] };
                let text = sample.text;
                let steps = self.splitter.split(&row.to_string(), &task.node.to_string(), &text).ok();
                let in_steps = steps.iter().flat_map(Trajectory::steps);
                let read = Steps::encode(&self.tokenizer, &task.prompt, in_steps)?;
                all.push(Solution {
                    row: *row,
                    grade: recording.put_reward(*row, &reward)?,
                    steps,
                    is_right,
                    read,
                    answer: Chain::given(&text),
                    finish: sample.finish,
                    text,
                });
            }
            lab.record(recording).await?;
            solved.extend(all.chunks(n as usize).map(<[Solution]>::to_vec));
            stage.done(solved.len());
        }
        Ok(solved)
    }

    /// For each solution, how many of the completions drawn after each of its steps end in the right answer; of the last step
    /// whether the solution does. A solution without steps has no counts.
    pub(super) async fn count(
        &self,
        policy: &Policy,
        tasks: &[Task],
        solutions: &[Vec<Solution>],
    ) -> Result<Vec<Vec<Counted>>> {
        let (lab, n) = (self.lab, self.plan.rollouts.n_completions);
        let stage = lab.stage("rollouts", solutions.iter().flatten().count()).await?;
        let sampling = self.sampling(1.0);
        // One ask for each step but the last; its rows stand at a place of their own.
        let mut asks: Vec<Ask> = Vec::new();
        for (task, solutions) in tasks.iter().zip(solutions) {
            for steps in solutions.iter().filter_map(|solution| solution.steps.as_ref()) {
                for prefix in steps.prefixes().take(steps.n_steps() - 1) {
                    let rows = (0..n).map(|k| stage.row(asks.len() as u32, k)).collect();
                    let prompt = format!("{} {}", task.prompt, prefix.trim());
                    asks.push(Ask { subject: task.node, prompt, rows });
                }
            }
        }
        let mut drawn: Vec<(Vec<NodeId>, Vec<String>)> = Vec::with_capacity(asks.len());
        for batch in asks.chunks(policy.n_prompts(n)) {
            lab.check()?;
            let samples = draw(lab, &stage, policy, batch, &sampling).await?;
            for (ask, samples) in batch.iter().zip(samples.chunks(n as usize)) {
                // What a completion ends in may stand before it.
                let whole = samples.iter().map(|sample| format!("{} {}", ask.prompt, sample.text));
                drawn.push((ask.rows.iter().map(|row| NodeId::sample(*row)).collect(), whole.collect()));
            }
            stage.done(drawn.len());
        }
        let mut drawn = drawn.into_iter();
        let mut count = |task: &Task, solution: &Solution| -> Counted {
            let Some(steps) = &solution.steps else { return Counted::default() };
            let (mut tallies, mut rollouts) = (Vec::with_capacity(steps.n_steps()), Vec::new());
            for (nodes, texts) in drawn.by_ref().take(steps.n_steps() - 1) {
                let hits = texts.iter().filter(|text| task.chain.grade(text)).count();
                tallies.push(Tally { hits: hits as u32, of: texts.len() as u32 });
                rollouts.extend(nodes);
            }
            tallies.push(Tally { hits: u32::from(solution.is_right), of: 1 });
            Counted { tallies, rollouts }
        };
        let counted = tasks.iter().zip(solutions);
        Ok(counted.map(|(task, all)| all.iter().map(|solution| count(task, solution)).collect()).collect())
    }
}

/// What was drawn from the prefixes of a solution.
#[derive(Clone, Default)]
pub(super) struct Counted {
    /// How many completions ended right, a step.
    pub(super) tallies: Vec<Tally>,
    /// The completions, step by step.
    pub(super) rollouts: Vec<NodeId>,
}

/// Distinct problems that are not taken, which they are then; fewer if nobody could find more.
fn chains(lab: &Lab, plan: &ErPrm, name: &str, n: u32, taken: &mut BTreeSet<Chain>) -> Vec<Chain> {
    let mut stream = lab.seeds().stream(&format!("problems/{name}"), 0, 0);
    let mut found = Vec::with_capacity(n as usize);
    for _ in 0..100 * n {
        if found.len() == n as usize {
            break;
        }
        let chain = Chain::random(&mut stream, plan.problems.min_steps..=plan.problems.max_steps);
        if taken.insert(chain.clone()) {
            found.push(chain);
        }
    }
    found
}

async fn record(lab: &Lab, chains: Vec<Chain>) -> Result<Vec<Task>> {
    let mut recording = Recording::new();
    let task = |chain: Chain| {
        let prompt = chain.prompt();
        let problem = Problem { name: prompt.clone(), source: "chains".into(), text: prompt.clone() };
        Ok(Task { node: recording.put(lab.run(), &problem)?, prompt, chain })
    };
    let tasks = chains.into_iter().map(task).collect::<Result<Vec<_>>>()?;
    lab.record(recording).await?;
    Ok(tasks)
}
