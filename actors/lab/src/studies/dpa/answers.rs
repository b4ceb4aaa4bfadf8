//! Answers to what is asked, and what those are worth; which of them is chosen.

use tracker_store::{Edge, Finish, NodeId, Recording, Relation, Reward, RowKey, Sampling, Selection};

use super::ruler::Ruler;
use super::wish::{Wish, degrees};
use super::world::{Asked, Objectives, World};
use crate::error::Result;
use crate::lab::Stage;
use crate::parts::direction::Direction;
use crate::parts::facts::MAX_WORDS;
use crate::parts::generate::{Policy, asks, draw_told};
use crate::parts::rate::Case;

/// What a reward is of.
const KIND: &str = "attributes";

/// An answer, and what it is worth.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) row: RowKey,
    pub(super) text: String,
    pub(super) finish: Finish,
    /// The attributes as they are, if that is known.
    pub(super) truth: Option<Vec<f64>>,
    /// What it is truly worth, if that is known.
    pub(super) gold: Option<Objectives>,
    /// The attributes the reward model gives it; nothing while there is none.
    pub(super) rated: Option<Vec<f64>>,
    /// What it is worth by them.
    pub(super) said: Option<Objectives>,
    /// The node of what it was given.
    pub(super) reward: NodeId,
}

/// Who is asked, how often, and where it is recorded.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) policy: &'a Policy,
    pub(super) n: u32,
    pub(super) temperature: f64,
}

impl World<'_> {
    /// Answers to each question, graded by what is true and by the reward model, as far as there is either.
    pub(super) async fn answers(&self, asking: Asking<'_>, asked: &[Asked]) -> Result<Vec<Vec<Answer>>> {
        let Asking { stage, policy, n, temperature } = asking;
        let max_tokens = if self.plan.is_small() { MAX_WORDS as u32 + 1 } else { self.plan.models.max_tokens };
        let sampling = Sampling { temperature, top_p: 1.0, max_tokens, stop: vec![], template: String::new() };
        let mut answered: Vec<Vec<Answer>> = Vec::with_capacity(asked.len());
        let size = policy.n_prompts(n);
        let ratings = match &self.ruler {
            Some(ruler) => ruler.stage(self.lab, stage, asked.len() * n as usize).await?,
            None => None,
        };
        for (nth, batch) in asked.chunks(size).enumerate() {
            self.lab.check()?;
            let told: Vec<String> = batch.iter().map(|asked| asked.told.clone()).collect();
            let asks = asks(stage, nth * size, n, batch, |asked| (asked.node, &asked.prompt));
            let samples = draw_told(self.lab, stage, policy, &asks, &told, &sampling).await?;
            let of = |at: usize| &batch[at / n as usize];
            let said = match &self.ruler {
                None => vec![],
                Some(ruler) => {
                    let first = nth * size * n as usize;
                    let cases: Vec<Case<'_>> = samples
                        .iter()
                        .enumerate()
                        .map(|(at, sample)| Case {
                            subject: of(at).question.node,
                            prompt: &of(at).question.text,
                            answer: &sample.text,
                            item: (first + at) as u32,
                        })
                        .collect();
                    let prompts: Vec<String> = cases.iter().map(|case| self.prompt(case.prompt, &Wish::None)).collect();
                    ruler.attributes(self.lab, ratings.as_ref(), &cases, &prompts).await?
                }
            };
            let mut recording = Recording::new();
            let mut all = Vec::with_capacity(samples.len());
            let rows = asks.iter().flat_map(|ask| &ask.rows);
            for ((at, sample), row) in samples.into_iter().enumerate().zip(rows) {
                let mut give = |scorer: NodeId, values: Vec<f64>| {
                    recording.put_reward(*row, &Reward { scorer, kind: KIND.into(), values, tallies: vec![] })
                };
                let truth = of(at).question.facts.as_ref().map(|facts| self.truth(facts, &sample.text));
                let mut reward = NodeId::sample(*row);
                if let Some(truth) = &truth {
                    reward = give(self.grader, truth.clone())?;
                }
                let gold = truth.as_ref().map(|truth| self.gold(truth));
                let mut of_model = None;
                if let (Some(ruler), Some(said)) = (&self.ruler, said.get(at)) {
                    reward = give(ruler.node(), said.values.clone())?;
                    of_model = Some(self.objectives(&said.values));
                    if let Some(from) = said.from {
                        recording.put_edge(self.lab.run(), &Edge::new(reward, Relation::Used, from))?;
                    }
                }
                let (text, finish) = (sample.text, sample.finish);
                all.push(Answer {
                    row: *row,
                    text,
                    finish,
                    truth,
                    gold,
                    rated: said.get(at).map(|said| said.values.clone()),
                    said: of_model,
                    reward,
                });
            }
            self.lab.record(recording).await?;
            answered.extend(all.chunks(n as usize).map(<[Answer]>::to_vec));
            stage.done(answered.len());
        }
        Ok(answered)
    }

    /// Of the answers the one that the reward model gives most along a direction, the first of equals; recorded at `row`.
    pub(super) fn select(
        &self,
        recording: &mut Recording,
        row: RowKey,
        direction: &Direction,
        answers: &[Answer],
    ) -> Result<Chosen> {
        let rewards: Vec<Vec<f64>> = answers.iter().filter_map(|answer| Some(answer.said?.to_vec())).collect();
        let (chosen, margin) = direction.choose(&rewards)?;
        let selection = Selection {
            candidates: answers.iter().map(|answer| NodeId::sample(answer.row)).collect(),
            scores: rewards.iter().map(|rewards| direction.reward(rewards)).collect::<Result<Vec<f64>>>()?,
            rule: format!("best of {} along {}° {:?}", answers.len(), degrees(direction), direction.weights()),
            ties: "first".into(),
            chosen: chosen as u32,
            scorer: self.ruler.as_ref().map(Ruler::node),
        };
        Ok(Chosen { at: chosen, margin, node: recording.put_selection(row, &selection)? })
    }
}

/// Which answer was chosen.
pub(super) struct Chosen {
    pub(super) at: usize,
    /// By how much it beats the runner-up.
    pub(super) margin: Option<f64>,
    pub(super) node: NodeId,
}
