//! Best of n where no program knows the score: candidates for published prompts, and a judge behind an endpoint that says what
//! they are worth, by itself or against the published better answer.

use std::collections::BTreeMap;

use tracker_lm::Lm;
use tracker_store::{Edge, NodeId, Recording, Relation, Reward, Sampling};

use super::settings::{Grm, Judging};
use super::world::World;
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::answers::{Answer, Task};
use crate::parts::duel::duel;
use crate::parts::generate::{Policy, asks, draw};
use crate::parts::rate::{Case, rated};
use crate::parts::reward::Steps;
use crate::parts::train::completion_ids;

/// Who says what candidates are worth.
pub(super) struct Gold {
    judge: Policy,
    how: Judging,
}

/// A score in [0, 1], and the samples it was read from.
type Score = (f64, Vec<NodeId>);

impl Gold {
    /// The judge of the plan, which must answer; none if the plan has none.
    pub(super) async fn start(lab: &Lab, plan: &Grm) -> Result<Option<Self>> {
        let how = plan.search.gold;
        if how == Judging::None {
            return Ok(None);
        }
        Ok(Some(Self { judge: Policy::endpoint(lab, "judge", &plan.judge).await?, how }))
    }

    /// Candidates for each task, drawn from `writer`, judged and recorded; `model` is whose tokens reward models read.
    ///
    /// # Errors
    /// `Input` for a prompt that leaves no room for a candidate in the context of `model`.
    pub(super) async fn candidates(
        &self,
        world: &World<'_>,
        writer: &Policy,
        model: &Lm,
        tasks: &[Task],
    ) -> Result<Vec<Vec<Answer>>> {
        let (lab, plan) = (world.lab, world.plan);
        let n = plan.search.n_candidates;
        let mut prompts = Vec::with_capacity(tasks.len());
        for (task, nth) in tasks.iter().zip(1..) {
            prompts.push(fitting(plan, model, task, nth)?);
        }
        let (temperature, max_tokens) = (plan.pairs.temperature, plan.pairs.max_tokens);
        let sampling = Sampling { temperature, top_p: 1.0, max_tokens, stop: vec![], template: String::new() };
        let stage = lab.stage("candidates", tasks.len()).await?;
        let judging = lab.stage("candidates/judged", tasks.len() * n as usize).await?;
        let mut answered = Vec::with_capacity(tasks.len());
        let size = writer.n_prompts(n);
        for (nth, batch) in tasks.chunks(size).enumerate() {
            lab.check()?;
            let asks = asks(&stage, nth * size, n, batch, |task| (task.node, &task.exercise.prompt));
            let samples = draw(lab, &stage, writer, &asks, &sampling).await?;
            for ((ask, (task, at)), samples) in
                asks.iter().zip(batch.iter().zip(nth * size..)).zip(samples.chunks(n as usize))
            {
                let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
                let scores = self.judge(lab, &judging, (task, at as u32 * n), &texts).await?;
                let mut recording = Recording::new();
                let mut all = Vec::with_capacity(samples.len());
                for ((row, sample), (gold, from)) in ask.rows.iter().zip(samples).zip(scores) {
                    let scorer = self.judge.node();
                    let reward = Reward { scorer, kind: "outcome".into(), values: vec![gold], tallies: vec![] };
                    let grade = recording.put_reward(*row, &reward)?;
                    for (order, from) in (0..).zip(from) {
                        recording.put_edge(lab.run(), &Edge::new(grade, Relation::Used, from).at(order))?;
                    }
                    let completion = completion_ids(model, &sample.text, sample.finish)?;
                    let read = Steps::whole(prompts[at].clone(), completion);
                    all.push(Answer { row: *row, grade, text: sample.text.clone(), finish: sample.finish, gold, read });
                }
                lab.record(recording).await?;
                answered.push(all);
                stage.done(answered.len());
                judging.done(answered.len() * n as usize);
            }
        }
        Ok(answered)
    }

    /// The score of each text; equal ones are judged once.
    async fn judge(
        &self,
        lab: &Lab,
        stage: &Stage<'_>,
        (task, first): (&Task, u32),
        texts: &[&str],
    ) -> Result<Vec<Score>> {
        let mut places: BTreeMap<&str, u32> = BTreeMap::new();
        for (text, item) in texts.iter().zip(first..) {
            places.entry(text).or_insert(item);
        }
        let (subject, prompt) = (task.node, task.exercise.prompt.as_str());
        let cases: Vec<Case<'_>> =
            places.iter().map(|(answer, item)| Case { subject, prompt, answer, item: *item }).collect();
        let scores: Vec<Score> = match self.how {
            Judging::Pairwise => {
                let opponents = vec![task.exercise.answer.as_str(); cases.len()];
                let said = duel(lab, stage, &self.judge, &cases, &opponents).await?;
                said.into_iter().map(|(score, from)| (score, from.to_vec())).collect()
            }
            Judging::None | Judging::Rating => {
                let said = rated(lab, stage, &self.judge, &cases).await?;
                said.into_iter().map(|said| (said.value, vec![said.from])).collect()
            }
        };
        let known: BTreeMap<&str, Score> = places.into_keys().zip(scores).collect();
        let of = |text: &&str| known.get(text).cloned();
        let all: Option<Vec<Score>> = texts.iter().map(of).collect();
        all.ok_or_else(|| Error::Internal("a candidate was not judged".into()))
    }
}

/// The ids of a prompt, if a candidate fits behind it.
fn fitting(plan: &Grm, model: &Lm, task: &Task, nth: u32) -> Result<Vec<u32>> {
    let ids = model.tokenizer().encode_with_special(&task.exercise.prompt)?;
    let (room, most) = (model.config().max_positions, plan.pairs.max_tokens as usize);
    if ids.len() + most < room {
        return Ok(ids);
    }
    let begin: String = task.exercise.prompt.chars().take(60).collect();
    Err(Error::Input {
        what: format!(
            "prompt {nth} of best of n (`{begin}`): expected at most {} tokens (a context of {room}, less `pairs.max_tokens` \
             and an end), got {}",
            room.saturating_sub(most + 1),
            ids.len()
        ),
        hint: Some("lower `pairs.max_tokens`, or leave long rows out".into()),
    })
}
