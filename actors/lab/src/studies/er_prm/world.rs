//! Problems, and solutions of them: drawn, graded, taken apart into steps, and continued from every prefix.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_store::{Finish, NodeId, Problem, Recording, Reward, RowKey, Sampling, Tally};

use super::settings::ErPrm;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::chains::{Chain, SEPARATOR};
use crate::parts::generate::{Ask, LocalGenerator, Policy, asks, draw};
use crate::parts::grade::Grader;
use crate::parts::record::record_members;
use crate::parts::reward::Steps;
use crate::parts::steps::{Splitter, Trajectory};

/// A problem with its record.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) node: NodeId,
    /// What a policy reads; steps follow it as they are.
    pub(super) prompt: String,
    /// The right answer, as the grader has it.
    pub(super) expected: String,
    /// The chain it is, if its every step can be checked.
    pub(super) chain: Option<Chain>,
}

/// Problems with their records.
#[derive(Default)]
pub(super) struct Tasks {
    /// Those whose solutions are labelled.
    pub(super) train: Vec<Task>,
    /// Held-out ones.
    pub(super) test: Vec<Task>,
    /// Others, to draw new ones from.
    pub(super) more: Vec<Task>,
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
    /// The answer it gives, if it gives one.
    pub(super) answer: Option<String>,
    /// Whether that is the right one.
    pub(super) is_right: bool,
    /// As a reward model reads it; none if it has no steps.
    pub(super) read: Option<Steps>,
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
    /// Takes solutions apart.
    pub(super) splitter: Splitter,
    /// Finds and compares answers.
    pub(super) grader: Grader,
    /// The program it is.
    pub(super) grader_node: NodeId,
    /// How reward models read solutions, if there are to be any.
    pub(super) reading: Option<Reading>,
    /// Problems of files to draw new ones from.
    more: Vec<Task>,
    generator: Pool<LocalGenerator>,
}

/// How a reward model reads a solution.
pub(super) struct Reading {
    /// What they start from: its tokens are theirs.
    pub(super) model: Lm,
    /// What is put behind each step that does not end in it; nothing if empty. The model is asked at its last token.
    pub(super) tag: String,
}

impl Reading {
    /// A solution as the model reads it: none if it has no steps, or is longer than the model can read.
    pub(super) fn steps<'a>(&self, prompt: &str, steps: impl Iterator<Item = &'a str>) -> Result<Option<Steps>> {
        let tagged: Vec<String> = steps.map(|step| tagged(step, &self.tag)).collect();
        let read = Steps::encode(self.model.tokenizer(), prompt, tagged.iter().map(String::as_str))?;
        Ok(read.filter(|steps| steps.prompt.len() + steps.completion.len() <= self.context()))
    }

    /// Longest sequence it reads, in tokens.
    pub(super) fn context(&self) -> usize {
        self.model.config().max_positions
    }
}

/// A text with `tag` at its end.
pub(super) fn tagged(text: &str, tag: &str) -> String {
    if tag.is_empty() || text.trim_end().ends_with(tag) {
        return text.to_owned();
    }
    format!("{} {tag}", text.trim_end())
}

/// A question to a policy: how often, how, and where it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: &'a str,
    pub(super) n: u32,
    pub(super) temperature: f64,
}

impl<'a> World<'a> {
    /// Everything a run is about; `reading` is the way of the reward models to come, if any.
    pub(super) async fn open(
        lab: &'a Lab,
        plan: &'a ErPrm,
        reading: Option<Reading>,
        Tasks { train, test, more }: Tasks,
    ) -> Result<Self> {
        let is_of_files = plan.is_of_files();
        let grader = if is_of_files { plan.data.grader } else { Grader::LastResult };
        let answers: Vec<String> = test.iter().map(|task| format!("{}{}", task.prompt, task.expected)).collect();
        let name = if is_of_files { "held-out problems" } else { "held-out chains" };
        let nodes = test.iter().map(|task| task.node);
        let benchmark = record_members(lab, name, "benchmark", &answers.join("\n"), nodes).await?;
        let mut recording = Recording::new();
        let grader_node = recording.put(lab.run(), &grader.program())?;
        lab.record(recording).await?;
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        let splitter = if is_of_files {
            Splitter { separator: plan.data.separator.clone(), merge_up_to: plan.data.merge_up_to }
        } else {
            Splitter { separator: SEPARATOR.to_owned(), merge_up_to: 0 }
        };
        Ok(Self { lab, plan, train, test, benchmark, splitter, grader, grader_node, reading, more, generator })
    }

    /// Problems to learn from in round `at` (from 0): chains that are neither held out nor labelled; of files the next ones.
    pub(super) async fn fresh(&self, name: &str, n: u32, at: u32) -> Result<Vec<Task>> {
        if self.plan.is_of_files() {
            let (n, all) = (n as usize, if self.more.is_empty() { &self.train } else { &self.more });
            return Ok(all.iter().cycle().skip(n * at as usize).take(n.min(all.len())).cloned().collect());
        }
        let mut taken = self.train.iter().chain(&self.test).filter_map(|task| task.chain.clone()).collect();
        record(self.lab, distinct(self.lab, self.plan, name, n, &mut taken)).await
    }

    /// What a policy reads to go on after some text of a solution.
    pub(super) fn prefixed(&self, task: &Task, prefix: &str) -> String {
        // Words of chains have a blank between them; texts of files are put together as they are.
        if self.plan.is_of_files() {
            format!("{}{prefix}", task.prompt)
        } else {
            format!("{} {}", task.prompt, prefix.trim())
        }
    }

    /// A model as something that can be asked.
    pub(super) fn policy(&self, node: NodeId, model: &Lm) -> Policy {
        Policy::Local { node, model: Arc::new(model.clone()), generator: self.generator.clone() }
    }

    fn sampling(&self, temperature: f64) -> Sampling {
        let max_tokens = self.plan.rollouts.max_tokens;
        // Chains are asked as they are.
        let template = if self.plan.is_of_files() { self.plan.data.template.clone() } else { String::new() };
        Sampling { temperature, top_p: 1.0, max_tokens, stop: self.plan.data.stop.clone(), template }
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
            let asks = asks(&stage, nth * size, n, batch, |task| (task.node, &task.prompt));
            let samples = draw(lab, &stage, policy, &asks, &sampling).await?;
            let mut recording = Recording::new();
            let rows = asks.iter().flat_map(|ask| &ask.rows);
            let mut all = Vec::with_capacity(samples.len());
            for ((row, sample), at) in rows.zip(samples).zip(0..) {
                let task = &batch[at / n as usize];
                all.push(self.graded(&mut recording, *row, task, sample.text, sample.finish)?);
            }
            lab.record(recording).await?;
            solved.extend(all.chunks(n as usize).map(<[Solution]>::to_vec));
            stage.done(solved.len());
        }
        Ok(solved)
    }

    /// A solution with its grade, its steps, and how it is read.
    fn graded(
        &self,
        recording: &mut Recording,
        row: RowKey,
        task: &Task,
        text: String,
        finish: Finish,
    ) -> Result<Solution> {
        let answer = self.grader.answer(&text);
        let is_right = answer.as_ref() == Some(&task.expected);
        let values = vec![f64::from(u8::from(is_right))];
        let reward = Reward { scorer: self.grader_node, kind: "outcome".into(), values, tallies: vec![] };
        let grade = recording.put_reward(row, &reward)?;
        self.taken_apart(Solution { row, grade, steps: None, is_right, read: None, answer, finish, text }, task)
    }

    /// A solution with its steps, and how it is read.
    pub(super) fn taken_apart(&self, solution: Solution, task: &Task) -> Result<Solution> {
        let steps = self.splitter.split(&solution.row.to_string(), &task.node.to_string(), &solution.text).ok();
        let read = match &self.reading {
            Some(reading) => reading.steps(&task.prompt, steps.iter().flat_map(Trajectory::steps))?,
            None => None,
        };
        Ok(Solution { steps, read, ..solution })
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
                    asks.push(Ask { subject: task.node, prompt: self.prefixed(task, prefix), rows });
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
                let is_right = |text: &&String| self.grader.answer(text).as_ref() == Some(&task.expected);
                let hits = texts.iter().filter(is_right).count();
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

/// Chains, none of them twice.
pub(super) async fn chains(lab: &Lab, plan: &ErPrm) -> Result<Tasks> {
    let mut taken = BTreeSet::new();
    let test = distinct(lab, plan, "test", plan.problems.n_test, &mut taken);
    let train = distinct(lab, plan, "train", plan.problems.n_train, &mut taken);
    Ok(Tasks { train: record(lab, train).await?, test: record(lab, test).await?, more: vec![] })
}

/// Distinct problems that are not taken, which they are then; fewer if nobody could find more.
fn distinct(lab: &Lab, plan: &ErPrm, name: &str, n: u32, taken: &mut BTreeSet<Chain>) -> Vec<Chain> {
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
        let expected = chain.answer().to_string();
        Ok(Task { node: recording.put(lab.run(), &problem)?, prompt, expected, chain: Some(chain) })
    };
    let tasks = chains.into_iter().map(task).collect::<Result<Vec<_>>>()?;
    lab.record(recording).await?;
    Ok(tasks)
}
