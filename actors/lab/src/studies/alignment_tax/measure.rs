//! What is measured of every model: the reward of its talk, and what it has kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tracker_actors::Pool;
use tracker_lm::{Continuation, Lm};
use tracker_store::{Finish, NodeId, Problem, Program, Recording, Reward, Sample, Sampling};

use super::settings::{AlignmentTax, Scorer};
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::evaluate::mean;
use crate::parts::generate::{Ask, LocalGenerator, Policy, draw};
use crate::parts::prompts::read_prompts;
use crate::parts::rate::{Case, rate};
use crate::parts::record::record_members;
use crate::parts::skills::{Exercise, Skill, share_of};

/// Where figures of single skills stand in their stage.
const FIRST_SKILL_ITEM: u32 = 100;

/// A prompt with its record.
#[derive(Clone)]
pub(super) struct Prompt {
    pub(super) node: NodeId,
    pub(super) text: String,
}

/// What is measured on.
pub(super) struct Bench {
    /// Held-out prompts to talk on.
    prompts: Vec<Prompt>,
    exam: Exam,
    generator: Pool<LocalGenerator>,
    /// Who gives the reward, if it is a model.
    judge: Option<Policy>,
    /// The rules that give the reward otherwise, and that mark exercises.
    rules: [NodeId; 2],
    node: NodeId,
}

/// What says how much a model has kept.
enum Exam {
    /// Exercises to answer: the share of right words, in [0, 1].
    Exercises(Vec<(NodeId, Skill, Exercise)>),
    /// Windows of text to read: the mean log-probability of a token, in nats.
    Texts(Vec<Vec<u32>>),
}

/// What one model scored.
#[derive(Clone)]
pub(super) struct Scores {
    /// The reward of each held-out prompt, a mean over its answers.
    pub(super) reward: Vec<f64>,
    /// What was kept, by exercise or window; more is better.
    pub(super) kept: Vec<f64>,
    /// The figures of both means.
    pub(super) figures: Vec<NodeId>,
}

impl Scores {
    /// The mean reward.
    pub(super) fn reward(&self) -> f64 {
        average(&self.reward)
    }

    /// How much less is kept than by `before`.
    pub(super) fn tax(&self, before: &Self) -> f64 {
        average(&before.kept) - average(&self.kept)
    }
}

pub(super) fn average(xs: &[f64]) -> f64 {
    xs.iter().sum::<f64>() / xs.len().max(1) as f64
}

/// Draws until there are `n` prompts of talk that are not in `taken`, or nobody could find more.
pub(super) fn talks(stream: &mut ChaCha8Rng, n: usize, taken: &BTreeSet<String>) -> Vec<Exercise> {
    let mut found = Vec::with_capacity(n);
    for _ in 0..100 * n {
        if found.len() == n {
            break;
        }
        let talk = Exercise::talk(stream);
        if !taken.contains(&talk.prompt) {
            found.push(talk);
        }
    }
    found
}

impl Bench {
    /// Generates held-out prompts and exercises.
    pub(super) async fn generated(lab: &Lab, plan: &AlignmentTax) -> Result<Self> {
        let mut stream = lab.seeds().stream("bench", 0, 0);
        let mut prompts = BTreeSet::new();
        while prompts.len() < plan.measure.n_prompts as usize {
            prompts.insert(Exercise::talk(&mut stream).prompt);
        }
        let mut exercises = Vec::new();
        for skill in Skill::ALL {
            let mut distinct = BTreeSet::new();
            while distinct.len() < plan.measure.n_exercises as usize {
                distinct.insert(skill.exercise(&mut stream));
            }
            exercises.extend(distinct.into_iter().map(|exercise| (skill, exercise)));
        }
        let mut recording = Recording::new();
        let mut put = |text: &str| recording.put(lab.run(), &problem(text));
        let exam = exercises.into_iter().map(|(skill, exercise)| Ok((put(&exercise.prompt)?, skill, exercise)));
        let exam = Exam::Exercises(exam.collect::<Result<_>>()?);
        let prompts: Vec<String> = prompts.into_iter().collect();
        Self::open(lab, plan, recording, prompts, exam).await
    }

    /// Reads prompts and texts from files.
    pub(super) async fn from_files(lab: &Lab, plan: &AlignmentTax, model: &Lm) -> Result<Self> {
        let prompts = read_prompts(&plan.models.prompts, plan.measure.n_prompts as usize)?;
        let mut windows = Vec::new();
        for path in &plan.models.texts {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::Input { what: format!("text `{path}`: {error}"), hint: None })?;
            let ids = model.tokenizer().encode(&text)?;
            windows.extend(ids.chunks(plan.models.window).filter(|ids| ids.len() > 1).map(<[u32]>::to_vec));
        }
        if windows.is_empty() {
            let what = format!("the texts {:?} hold no two tokens", plan.models.texts);
            return Err(Error::Input { what, hint: Some("name text files in `models.texts`".into()) });
        }
        Self::open(lab, plan, Recording::new(), prompts, Exam::Texts(windows)).await
    }

    async fn open(
        lab: &Lab,
        plan: &AlignmentTax,
        mut recording: Recording,
        prompts: Vec<String>,
        exam: Exam,
    ) -> Result<Self> {
        let run = lab.run();
        let program = |name: &str, settings: String| Program { name: name.into(), version: "1".into(), settings };
        let rules = [
            recording.put(run, &program("share-of-words", plan.reward.words.join(" ")))?,
            recording.put(run, &program("places-right", String::new()))?,
        ];
        let prompts: Vec<Prompt> = prompts
            .into_iter()
            .map(|text| Ok(Prompt { node: recording.put(run, &problem(&text))?, text }))
            .collect::<Result<_>>()?;
        let mut rows: Vec<NodeId> = prompts.iter().map(|prompt| prompt.node).collect();
        let content = match &exam {
            Exam::Exercises(exercises) => {
                rows.extend(exercises.iter().map(|(node, ..)| *node));
                exercises.iter().map(|(_, _, exercise)| exercise.answer.clone()).collect::<Vec<_>>().join("\n")
            }
            Exam::Texts(windows) => format!("{windows:?}"),
        };
        let names: Vec<String> = rows.iter().map(ToString::to_string).collect();
        lab.record(recording).await?;
        let content = format!("{}\n{content}", names.join("\n"));
        let node = record_members(lab, "held out", "benchmark", &content, rows).await?;
        let generator = LocalGenerator::start(lab.actors(), lab.workers())?;
        let judge = match plan.reward.by {
            Scorer::Words => None,
            Scorer::Endpoint => Some(Policy::endpoint(lab, "judge", &plan.judge).await?),
        };
        Ok(Self { prompts, exam, generator, judge, rules, node })
    }

    /// Prompts and exercises nobody may train on.
    pub(super) fn held_out(&self) -> BTreeSet<String> {
        let exercises = match &self.exam {
            Exam::Exercises(exercises) => exercises.iter().map(|(_, _, exercise)| exercise.prompt.clone()).collect(),
            Exam::Texts(_) => vec![],
        };
        self.prompts.iter().map(|prompt| prompt.text.clone()).chain(exercises).collect()
    }

    /// A model as something that can be asked.
    pub(super) fn policy(&self, node: NodeId, model: &Lm) -> Policy {
        Policy::Local { node, model: Arc::new(model.clone()), generator: self.generator.clone() }
    }

    /// Measures one model and records samples, rewards and figures.
    pub(super) async fn score(
        &self,
        lab: &Lab,
        plan: &AlignmentTax,
        label: &str,
        node: NodeId,
        model: &Lm,
    ) -> Result<Scores> {
        let policy = self.policy(node, model);
        let stage = lab.stage(&format!("{label}/reward"), self.prompts.len()).await?;
        let sampling = sampling(plan, 1.0);
        let asking = Asking { stage: &stage, policy: &policy, n: plan.measure.n_samples, sampling: &sampling };
        let answers = self.answers(lab, plan, asking, &self.prompts).await?;
        let reward = answers.iter().map(|prompt| prompt.iter().map(|a| a.reward).sum::<f64>() / prompt.len() as f64);
        let reward: Vec<f64> = reward.collect();
        let mut results: Vec<NodeId> = answers.iter().flatten().map(|answer| answer.node).collect();
        let kept = match &self.exam {
            Exam::Exercises(exercises) => {
                let stage = lab.stage(&format!("{label}/skills"), exercises.len()).await?;
                let greedy = Sampling { temperature: 0.0, ..sampling.clone() };
                let asking = Asking { stage: &stage, policy: &policy, n: 1, sampling: &greedy };
                let asks = exercises.iter().map(|(node, _, exercise)| (*node, exercise.prompt.as_str())).collect();
                let mark = |i: usize, text: &str| exercises[i].2.score(text);
                let marked = ask(lab, asking, asks, Marker::Rule(self.rules[1], &mark)).await?;
                results.extend(marked.iter().flatten().map(|answer| answer.node));
                marked.into_iter().flatten().map(|answer| answer.reward).collect()
            }
            Exam::Texts(windows) => read(model, windows, lab.workers())?,
        };
        let figures = self.figures(lab, label, &policy, &reward, &kept, results).await?;
        Ok(Scores { reward, kept, figures })
    }

    /// Answers to prompts, each with its reward.
    pub(super) async fn answers(
        &self,
        lab: &Lab,
        plan: &AlignmentTax,
        asking: Asking<'_>,
        prompts: &[Prompt],
    ) -> Result<Vec<Vec<Answer>>> {
        let asks = prompts.iter().map(|prompt| (prompt.node, prompt.text.as_str())).collect();
        let reward = |_: usize, text: &str| share_of(&plan.reward.words, text);
        let Some(judge) = &self.judge else {
            return ask(lab, asking, asks, Marker::Rule(self.rules[0], &reward)).await;
        };
        let n_ratings = prompts.len() * asking.n as usize;
        let stage = lab.stage(&format!("{}/rating", asking.stage.name()), n_ratings).await?;
        ask(lab, asking, asks, Marker::Judge(judge, &stage)).await
    }

    async fn figures(
        &self,
        lab: &Lab,
        label: &str,
        policy: &Policy,
        reward: &[f64],
        kept: &[f64],
        results: Vec<NodeId>,
    ) -> Result<Vec<NodeId>> {
        let all = record_members(lab, label, "results", &format!("{reward:?} {kept:?}"), results).await?;
        let used = [all, self.node, policy.node()];
        let stage = lab.stage(&format!("{label}/figures"), 1).await?;
        let mut figures = Vec::new();
        let what_is_kept = match &self.exam {
            Exam::Exercises(_) => "skill",
            Exam::Texts(_) => "log-probability a token",
        };
        for (item, (name, values)) in [("reward", reward), (what_is_kept, kept)].into_iter().enumerate() {
            let mut stream = lab.seeds().stream(stage.name(), item as u32, 0);
            if let Some(estimate) = mean(values, &mut stream) {
                figures.push(stage.figure(item as u32, name, estimate, values.len(), &used).await?);
            }
        }
        if let Exam::Exercises(exercises) = &self.exam {
            for (nth, skill) in Skill::ALL.into_iter().enumerate() {
                let of_skill: Vec<f64> =
                    exercises.iter().zip(kept).filter(|((_, of, _), _)| *of == skill).map(|(_, kept)| *kept).collect();
                let item = FIRST_SKILL_ITEM + nth as u32;
                let mut stream = lab.seeds().stream(stage.name(), item, 0);
                if let Some(estimate) = mean(&of_skill, &mut stream) {
                    stage.figure(item, skill.name(), estimate, of_skill.len(), &used).await?;
                }
            }
        }
        stage.done(1);
        Ok(figures)
    }
}

/// Who is asked how often, and where it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) policy: &'a Policy,
    /// Answers a prompt.
    pub(super) n: u32,
    pub(super) sampling: &'a Sampling,
}

/// Who says what an answer is worth.
enum Marker<'a> {
    /// A rule, over the number of the prompt and the text of the answer.
    Rule(NodeId, &'a dyn Fn(usize, &str) -> f64),
    /// A model, and the stage its ratings are recorded in.
    Judge(&'a Policy, &'a Stage<'a>),
}

/// Asks, and records every answer with its reward.
async fn ask(lab: &Lab, asking: Asking<'_>, asks: Vec<(NodeId, &str)>, marker: Marker<'_>) -> Result<Vec<Vec<Answer>>> {
    let Asking { stage, policy, n, sampling } = asking;
    let rows = |i: usize| (0..n).map(|k| stage.row(i as u32, k)).collect();
    let asks: Vec<Ask> = asks
        .into_iter()
        .enumerate()
        .map(|(i, (subject, prompt))| Ask { subject, prompt: prompt.to_owned(), rows: rows(i) })
        .collect();
    let mut answers: Vec<Vec<Answer>> = Vec::with_capacity(asks.len());
    for batch in asks.chunks(policy.n_prompts(n)) {
        lab.check()?;
        let samples = draw(lab, stage, policy, batch, sampling).await?;
        let asked = |nth: usize| &batch[nth / n as usize];
        let (scorer, values) = match &marker {
            Marker::Judge(judge, stage) => {
                let first = answers.len() * n as usize;
                let cases: Vec<Case<'_>> = samples
                    .iter()
                    .enumerate()
                    .map(|(nth, sample)| Case {
                        subject: asked(nth).subject,
                        prompt: &asked(nth).prompt,
                        answer: &sample.text,
                        item: (first + nth) as u32,
                    })
                    .collect();
                (judge.node(), rate(lab, stage, judge, &cases).await?)
            }
            Marker::Rule(node, mark) => {
                let mark = |(nth, sample): (usize, &Sample)| mark(answers.len() + nth / n as usize, &sample.text);
                (*node, samples.iter().enumerate().map(mark).collect())
            }
        };
        let mut recording = Recording::new();
        for ((ask, samples), values) in batch.iter().zip(samples.chunks(n as usize)).zip(values.chunks(n as usize)) {
            let mut of_prompt = Vec::with_capacity(n as usize);
            for ((row, sample), &value) in ask.rows.iter().zip(samples).zip(values) {
                let reward = Reward { scorer, kind: "outcome".into(), values: vec![value], tallies: vec![] };
                let node = recording.put_reward(*row, &reward)?;
                of_prompt.push(Answer { text: sample.text.clone(), finish: sample.finish, reward: value, node });
            }
            answers.push(of_prompt);
        }
        lab.record(recording).await?;
        stage.done(answers.len());
    }
    Ok(answers)
}

/// One answer, what it was given, and the node of that.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Why it ended.
    pub(super) finish: Finish,
    pub(super) reward: f64,
    pub(super) node: NodeId,
}

impl Answer {
    /// Its text, and how that ends.
    pub(super) fn said(&self) -> (&str, Finish) {
        (&self.text, self.finish)
    }
}

/// How answers are drawn.
pub(super) fn sampling(plan: &AlignmentTax, temperature: f64) -> Sampling {
    Sampling { temperature, top_p: 1.0, max_tokens: plan.reward.max_tokens, stop: vec![], template: String::new() }
}

pub(super) fn problem(text: &str) -> Problem {
    Problem { name: text.to_owned(), source: "alignment_tax".to_owned(), text: text.to_owned() }
}

/// The mean log-probability of a token in each window, given those before it in the window.
fn read(model: &Lm, windows: &[Vec<u32>], n_threads: usize) -> Result<Vec<f64>> {
    let whole: Vec<Continuation<'_>> =
        windows.iter().map(|ids| Continuation { prompt: &ids[..1], completion: &ids[1..] }).collect();
    let scored = tracker_lm::log_probs(model, &whole, n_threads)?;
    Ok(scored.iter().map(|row| row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64).collect())
}
