//! What a model answers to a set of questions: right or not, refused or not, and how confident it is. Every number is a row.

use tracker_store::{NodeId, Recording, Selection};

use super::identify::{answer, judge};
use super::items::{Item, Set};
use super::room::{Room, kind, reward, yes};
use super::settings::Method;
use super::speaker::{Said, Speaker};
use super::tune::begins_to_refuse;
use crate::error::Result;
use crate::parts::aggregate::majority;
use crate::parts::certainty::Refusals;
use crate::parts::record::record_members;

/// What was found of one question.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) is_right: bool,
    /// Confidence in the answer, in [0, 1].
    pub(super) a: f64,
    /// How sure the model says it is, if it was asked.
    pub(super) s: Option<f64>,
    /// Whether it says in words that it does not know.
    pub(super) declines: bool,
    /// The row that says so: whether the answer is right, or, where nobody knows, whether it was refused.
    pub(super) node: NodeId,
}

/// The bound at and below which a question is refused by s.
const SURE: f64 = 0.5;

impl Outcome {
    /// Whether the question is refused: in words, or by s at most one half.
    pub(super) fn is_refused(&self) -> bool {
        refuses(self.s, self.declines)
    }

    /// What answers are ranked by: λa + (1 − λ)s, or a where s was not asked for. A refusal in words is no answer to rank: 0.
    pub(super) fn confidence(&self, weight: f64) -> f64 {
        match self.s {
            _ if self.declines => 0.0,
            Some(s) => weight * self.a + (1.0 - weight) * s,
            None => self.a,
        }
    }
}

fn refuses(s: Option<f64>, declines: bool) -> bool {
    declines || s.is_some_and(|s| s <= SURE)
}

/// A model measured on one set.
#[derive(Clone)]
pub(super) struct Measured {
    /// What it is called: `facts/r`.
    pub(super) label: String,
    pub(super) method: Method,
    /// What it was measured on: `facts/in domain`.
    pub(super) on: String,
    pub(super) outcomes: Vec<Outcome>,
    /// The questions as a dataset.
    pub(super) benchmark: NodeId,
    /// The outcomes as a dataset.
    pub(super) results: NodeId,
    /// Who answered.
    pub(super) policy: NodeId,
}

/// Who is measured, as what, and on what.
pub(super) struct Trial<'a> {
    pub(super) speaker: &'a Speaker,
    pub(super) label: &'a str,
    pub(super) method: Method,
    pub(super) on: String,
    pub(super) set: &'a Set,
    pub(super) max_tokens: u32,
}

impl Trial<'_> {
    /// Whether the model is asked if it is sure.
    fn asks(&self) -> bool {
        match self.method {
            Method::R | Method::RU => true,
            // A model behind an endpoint may have been tuned elsewhere; `PretrainT` is what it is called here.
            Method::PretrainT => matches!(self.speaker, Speaker::Served(_)),
            _ => false,
        }
    }

    /// Answers, judged and recorded.
    ///
    /// # Errors
    /// Of the model and of the store.
    pub(super) async fn measure(&self, room: &Room<'_>) -> Result<Measured> {
        let items = &self.set.items;
        let stage = room.lab.stage(&format!("{}/{}", self.label, self.on), items.len()).await?;
        let said = answer(room, self.speaker, &stage, items, self.max_tokens).await?;
        let asks = self.asks() && (room.plan.served.is_tuned || !matches!(self.speaker, Speaker::Served(_)));
        let sure = if asks { Some(self.speaker.sure(room, &stage, items, &said).await?) } else { None };
        // A choice of letters cannot refuse: what the model would say by itself can.
        let is_choice = items.iter().any(|item| !item.letters().is_empty());
        let by_itself = if is_choice && matches!(self.method, Method::RRefuse | Method::MinLoss) {
            let stage = room.lab.stage(&format!("{}/{}/in words", self.label, self.on), items.len()).await?;
            self.speaker.answers(room, &stage, items, self.max_tokens).await?
        } else {
            vec![]
        };
        let mut found = Vec::with_capacity(items.len());
        for (at, (item, said)) in items.iter().zip(&said).enumerate() {
            let words = by_itself.get(at).unwrap_or(said);
            found.push(Found {
                said: said.clone(),
                s: sure.as_ref().map(|sure| sure[at]),
                declines: Refusals::is_refusal(&words.text, &room.plan.measure.refusals)
                    || self.method == Method::MinLoss && begins_to_refuse(&words.text),
                item,
            });
        }
        self.record(room, found).await
    }

    /// What is said most often of k samples, as confident as often.
    ///
    /// # Errors
    /// As [`Trial::measure`].
    pub(super) async fn vote(&self, room: &Room<'_>) -> Result<Measured> {
        let items = &self.set.items;
        let stage = room.lab.stage(&format!("{}/{}", self.label, self.on), items.len()).await?;
        let samples = self.speaker.samples(room, &stage, items, self.max_tokens).await?;
        let mut recording = Recording::new();
        let mut found = Vec::with_capacity(items.len());
        for ((at, item), samples) in items.iter().enumerate().zip(&samples) {
            let texts: Vec<Option<&str>> = samples.iter().map(|(_, text)| Some(text.as_str())).collect();
            let Some(chosen) = majority(&texts) else { continue };
            let share = |text| texts.iter().filter(|other| *other == text).count() as f64 / texts.len() as f64;
            let scores: Vec<f64> = texts.iter().map(share).collect();
            let share = scores[chosen];
            let selection = Selection {
                candidates: samples.iter().map(|(row, _)| NodeId::sample(*row)).collect(),
                scores,
                rule: format!("majority of {}", texts.len()),
                ties: "first".into(),
                chosen: chosen as u32,
                scorer: None,
            };
            recording.put_selection(stage.row(at as u32, 0), &selection)?;
            let row = samples[chosen].0;
            recording.put_reward(row, &reward(self.speaker.node(), kind::A, vec![share]))?;
            let text = &samples[chosen].1;
            let said = Said { row, text: text.clone(), a: share };
            let declines = Refusals::is_refusal(text, &room.plan.measure.refusals);
            found.push(Found { said, s: None, declines, item });
        }
        room.lab.record(recording).await?;
        self.record(room, found).await
    }

    async fn record(&self, room: &Room<'_>, found: Vec<Found<'_>>) -> Result<Measured> {
        let (matcher, scorer) = room.matcher();
        let mut outcomes = Vec::with_capacity(found.len());
        let mut content = Vec::with_capacity(found.len());
        for found in found.chunks(1024) {
            let mut recording = Recording::new();
            for Found { said, s, declines, item } in found {
                let (is_right, _) = judge(matcher, item, said);
                // A refusal is no answer, whatever letter it would have chosen.
                let is_right = is_right && !declines;
                let is_refused = refuses(*s, *declines);
                let mut node =
                    recording.put_reward(said.row, &reward(room.refuser, kind::REFUSED, vec![yes(is_refused)]))?;
                if item.gold != crate::parts::rows::Gold::Unsaid {
                    node = recording.put_reward(said.row, &reward(scorer, kind::RIGHT, vec![yes(is_right)]))?;
                }
                content.push(format!("{} {is_right} {} {s:?} {declines}", said.text, said.a));
                outcomes.push(Outcome { is_right, a: said.a, s: *s, declines: *declines, node });
            }
            room.lab.record(recording).await?;
        }
        let name = format!("{}/{}", self.label, self.on);
        let nodes = outcomes.iter().map(|outcome| outcome.node);
        let results = record_members(room.lab, &name, "results", &content.join("\n"), nodes).await?;
        Ok(Measured {
            label: self.label.to_owned(),
            method: self.method,
            on: self.on.clone(),
            outcomes,
            benchmark: self.set.node,
            results,
            policy: self.speaker.node(),
        })
    }
}

/// What was said to a question, before it is recorded.
struct Found<'a> {
    said: Said,
    s: Option<f64>,
    declines: bool,
    item: &'a Item,
}

#[cfg(test)]
mod tests {
    use tracker_store::{RowKey, RunId};

    use super::*;

    fn outcome(a: f64, s: Option<f64>, declines: bool) -> Outcome {
        let row = RowKey::new(RunId::from_bytes([1; 16]), "s", 0, 0);
        Outcome { is_right: true, a, s, declines, node: NodeId::sample(row) }
    }

    #[test]
    fn a_question_is_refused_at_one_half_and_below() {
        for (s, declines, is_refused) in [
            (Some(0.5), false, true),
            (Some(0.500_000_1), false, false),
            (Some(0.0), false, true),
            (None, false, false),
            (None, true, true),
            (Some(1.0), true, true),
        ] {
            assert_eq!(outcome(0.9, s, declines).is_refused(), is_refused, "{s:?} {declines}");
        }
    }

    #[test]
    fn confidence_weighs_answer_and_certainty_and_is_the_answers_alone_where_nobody_asked() {
        assert!((outcome(0.8, Some(0.4), false).confidence(0.5) - 0.6).abs() < 1e-15);
        assert_eq!(outcome(0.8, Some(0.4), false).confidence(1.0), 0.8);
        assert_eq!(outcome(0.8, Some(0.4), false).confidence(0.0), 0.4);
        assert_eq!(outcome(0.8, None, false).confidence(0.1), 0.8);
        assert_eq!(outcome(0.8, Some(0.4), true).confidence(0.5), 0.0);
    }
}
