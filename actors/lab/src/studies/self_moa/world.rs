//! Who is asked what: problems, models, the aggregator and the judge; answers drawn, graded and recorded.

use std::sync::Arc;

use tracker_actors::Pool;
use tracker_store::{Finish, NodeId, Program, Recording, Reward, RowKey, Sampling};

use super::settings::SelfMoa;
use super::tasks::{Ask as Asked, shown};
use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::aggregate::{Proposal, References, numbered};
use crate::parts::generate::{Ask, Policy, draw_told};
use crate::parts::grade::Grader;
use crate::parts::reward::{Judge as RewardJudge, Scorer};

/// A problem with its record.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) node: NodeId,
    /// Which of the tasks it is of.
    pub(super) task: usize,
    /// What is asked.
    pub(super) text: String,
    /// The right answer, as answers are compared.
    pub(super) expected: String,
}

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grading {
    /// Word for word.
    Words,
    /// As a grader of files finds and writes them.
    File(Grader),
}

impl Grading {
    /// The answer in a text, as answers are compared; none if there is none.
    pub(super) fn key(self, text: &str) -> Option<String> {
        match self {
            Self::Words => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|key| !key.is_empty()),
            Self::File(grader) => grader.answer(text),
        }
    }

    /// Its record.
    pub(super) fn program(self) -> Program {
        match self {
            Self::Words => Program { name: "exact words".into(), version: "1".into(), settings: String::new() },
            Self::File(grader) => grader.program(),
        }
    }
}

/// An answer somebody gave.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) row: RowKey,
    /// The node of its grade.
    pub(super) grade: NodeId,
    pub(super) text: Arc<str>,
    /// The answer as it is compared, if it gives one.
    pub(super) key: Option<String>,
    /// Whether that is the right one: 1 or 0.
    pub(super) right: f64,
    /// Tokens read and written.
    pub(super) n_tokens: u64,
    pub(super) finish: Finish,
}

impl Answer {
    pub(super) fn node(&self) -> NodeId {
        NodeId::sample(self.row)
    }

    pub(super) fn proposal(&self) -> Proposal {
        Proposal { node: self.node(), text: self.text.clone() }
    }
}

/// A question put to somebody, with what it was shown.
pub(super) struct Put<'a> {
    pub(super) query: &'a Query,
    pub(super) ask: Asked,
    pub(super) references: References,
    /// One row an answer.
    pub(super) rows: Vec<RowKey>,
}

/// A model that proposes.
pub(super) struct Model {
    pub(super) name: String,
    pub(super) policy: Policy,
}

/// Who rates answers and compares them.
pub(super) enum Judge {
    /// A small reward model, and the model whose tokens it reads.
    Small { judge: RewardJudge, scorer: Pool<Scorer>, reader: Arc<tracker_lm::Lm> },
    /// A model behind an endpoint.
    Served(Policy),
}

impl Judge {
    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Small { judge, .. } => judge.node,
            Self::Served(policy) => policy.node(),
        }
    }
}

/// What a run is about.
pub(super) struct World<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a SelfMoa,
    /// Names of the tasks.
    pub(super) tasks: Vec<String>,
    /// How answers of each task are compared, with the program's record.
    pub(super) grading: Vec<(Grading, NodeId)>,
    pub(super) validation: Vec<Query>,
    pub(super) test: Vec<Query>,
    /// The test as a dataset.
    pub(super) benchmark: NodeId,
    pub(super) models: Vec<Model>,
    pub(super) aggregator: Policy,
    pub(super) judge: Option<Judge>,
}

impl World<'_> {
    /// How texts are drawn; `told` is what a model behind an endpoint hears before the references.
    fn sampling(&self, temperature: f64, told: &str) -> Sampling {
        let stop = if self.plan.is_small() { vec![] } else { self.plan.data.stop.clone() };
        Sampling { temperature, top_p: 1.0, max_tokens: self.plan.moa.max_tokens, stop, template: told.to_owned() }
    }

    /// What a model behind an endpoint is told before the references.
    fn role(&self, ask: Asked) -> &str {
        match ask {
            Asked::Answer => &self.plan.moa.role,
            Asked::Number => &self.plan.moa.selector,
        }
    }

    /// What a question reads like: the prompt, and what is told before it.
    fn worded(&self, policy: &Policy, put: &Put<'_>) -> (String, String) {
        let query = &put.query.text;
        if self.plan.is_small() {
            return (shown(put.ask, put.references.shown(), query), String::new());
        }
        let told = numbered(self.role(put.ask), put.references.shown());
        if told.is_empty() || policy.chats() {
            (query.clone(), told)
        } else {
            (format!("{told}\n\n{query}"), String::new())
        }
    }

    /// Texts of each question, drawn and recorded with what they were shown; equally many of each.
    ///
    /// Counts of tokens are of what was read and written: of a small model in its own tokens; of one behind an endpoint what it
    /// wrote as the server counts it, what it read in words.
    pub(super) async fn put(
        &self,
        stage: &Stage<'_>,
        policy: &Policy,
        temperature: f64,
        puts: &[Put<'_>],
    ) -> Result<Vec<Vec<Written>>> {
        let lab = self.lab;
        let n = puts.first().map_or(1, |put| put.rows.len());
        let is_shown = puts.iter().any(|put| put.references.n_shown() > 0);
        let role = puts.first().filter(|_| is_shown && !self.plan.is_small()).map_or("", |put| self.role(put.ask));
        let sampling = self.sampling(temperature, role);
        let mut all = Vec::with_capacity(puts.len());
        for batch in puts.chunks(policy.n_prompts(n as u32)) {
            lab.check()?;
            let (prompts, told): (Vec<String>, Vec<String>) = batch.iter().map(|put| self.worded(policy, put)).unzip();
            let asks: Vec<Ask> = batch
                .iter()
                .zip(&prompts)
                .map(|(put, prompt)| Ask { subject: put.query.node, prompt: prompt.clone(), rows: put.rows.clone() })
                .collect();
            let mut samples = draw_told(lab, stage, policy, &asks, &told, &sampling).await?.into_iter();
            let mut recording = Recording::new();
            for ((put, prompt), told) in batch.iter().zip(&prompts).zip(&told) {
                let n_read = match policy {
                    Policy::Local { model, .. } => model.tokenizer().encode(prompt)?.len(),
                    Policy::Endpoint { .. } => prompt.split_whitespace().count() + told.split_whitespace().count(),
                } as u64;
                let mut texts = Vec::with_capacity(put.rows.len());
                for (row, sample) in put.rows.iter().zip(samples.by_ref()) {
                    put.references.record(&mut recording, lab.run(), NodeId::sample(*row))?;
                    let n_tokens = n_read + u64::from(sample.n_tokens);
                    texts.push(Written { row: *row, text: sample.text.into(), finish: sample.finish, n_tokens });
                }
                all.push(texts);
            }
            lab.record(recording).await?;
            stage.done(all.len());
        }
        Ok(all)
    }

    /// The same with grades.
    pub(super) async fn answers(
        &self,
        stage: &Stage<'_>,
        policy: &Policy,
        temperature: f64,
        puts: &[Put<'_>],
    ) -> Result<Vec<Vec<Answer>>> {
        const AT_ONCE: usize = 1024;
        let texts = self.put(stage, policy, temperature, puts).await?;
        let mut all = Vec::with_capacity(texts.len());
        for (puts, texts) in puts.chunks(AT_ONCE).zip(texts.chunks(AT_ONCE)) {
            let mut recording = Recording::new();
            for (put, texts) in puts.iter().zip(texts) {
                let graded = texts.iter().map(|text| self.grade(&mut recording, put.query, text));
                all.push(graded.collect::<Result<Vec<_>>>()?);
            }
            self.lab.record(recording).await?;
        }
        Ok(all)
    }

    fn grade(&self, recording: &mut Recording, query: &Query, text: &Written) -> Result<Answer> {
        let (grading, scorer) = self.grading[query.task];
        let key = grading.key(&text.text);
        let right = f64::from(u8::from(key.as_ref() == Some(&query.expected)));
        let reward = Reward { scorer, kind: "outcome".into(), values: vec![right], tallies: vec![] };
        let grade = recording.put_reward(text.row, &reward)?;
        let Written { row, text, finish, n_tokens } = text.clone();
        Ok(Answer { row, grade, text, key, right, n_tokens, finish })
    }

    /// Answers without references: `n` of each query, at the stage's rows (query, 0 to n).
    pub(super) async fn alone(
        &self,
        stage: &Stage<'_>,
        policy: &Policy,
        temperature: f64,
        (queries, n): (&[Query], u32),
    ) -> Result<Vec<Vec<Answer>>> {
        let mut puts = Vec::with_capacity(queries.len());
        for (item, query) in (0..).zip(queries) {
            let rows = (0..n).map(|k| stage.row(item, k)).collect();
            puts.push(Put { query, ask: Asked::Answer, references: References::default(), rows });
        }
        self.answers(stage, policy, temperature, &puts).await
    }

    /// For each task the places of its queries in the test.
    pub(super) fn places(&self, task: usize) -> Vec<usize> {
        self.test.iter().enumerate().filter(|(_, query)| query.task == task).map(|(at, _)| at).collect()
    }
}

/// A text somebody wrote.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) row: RowKey,
    pub(super) text: Arc<str>,
    pub(super) finish: Finish,
    /// Tokens read and written.
    pub(super) n_tokens: u64,
}
