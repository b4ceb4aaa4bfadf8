//! Rows of preferences: two answers to one prompt, of which one is better.

use std::collections::BTreeMap;

use super::{Fault, Fields, Format, Message};
use crate::error::{Error, Result};

/// Two answers, the better first.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Its id.
    pub id: String,
    /// Where it comes from: a source or a subset; empty if that is not said.
    pub source: String,
    /// What is answered.
    pub prompt: Vec<Message>,
    /// The better answer.
    pub chosen: String,
    /// The worse one.
    pub rejected: String,
    /// By how much it is rated higher, if it is.
    pub margin: Option<f64>,
}

/// Unified-Feedback's rows: `{id, source, conv_A, conv_B, conv_A_rating, conv_B_rating}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnifiedFeedback;

/// Two rated answers, in no order.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Its id.
    pub id: String,
    /// The data set it was taken from.
    pub source: String,
    /// What is answered.
    pub prompt: Vec<Message>,
    /// The answers.
    pub answers: [String; 2],
    /// Their ratings.
    pub ratings: [f64; 2],
}

impl Comparison {
    /// The answers as a pair; `None` for a tie, which says nothing.
    #[must_use]
    pub fn pair(&self) -> Option<Pair> {
        let [a, b] = self.ratings;
        if a == b {
            return None;
        }
        let (chosen, rejected) = if a > b { (0, 1) } else { (1, 0) };
        Some(Pair {
            id: self.id.clone(),
            source: self.source.clone(),
            prompt: self.prompt.clone(),
            chosen: self.answers[chosen].clone(),
            rejected: self.answers[rejected].clone(),
            margin: Some((a - b).abs()),
        })
    }
}

impl Format for UnifiedFeedback {
    const NAME: &'static str = "Unified-Feedback";
    type Row = Comparison;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Comparison, Fault> {
        let (prompt, a) = fields.answered("conv_A")?;
        let (other, b) = fields.answered("conv_B")?;
        if prompt != other {
            return Err(fields.fault("conv_B", "expected the same prompt as in `conv_A`, got another"));
        }
        let ratings = [fields.number("conv_A_rating")?, fields.number("conv_B_rating")?];
        Ok(Comparison { id, source: fields.text("source")?, prompt, answers: [a, b], ratings })
    }
}

/// Rows with a better and a worse answer: as texts with a `prompt`, or as two dialogues that differ in their last message.
/// Scores of both (`chosen_score` and `rejected_score`, or `score_chosen` and `score_rejected`) give the margin.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChosenRejected;

impl Format for ChosenRejected {
    const NAME: &'static str = "chosen/rejected";
    type Row = Pair;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Pair, Fault> {
        let is_dialogue = |field: &str| fields.find(field).is_some_and(serde_json::Value::is_array);
        let (prompt, chosen, rejected) = if is_dialogue("chosen") || is_dialogue("rejected") {
            let (prompt, chosen) = fields.answered("chosen")?;
            let (other, rejected) = fields.answered("rejected")?;
            if prompt != other {
                return Err(fields.fault("rejected", "expected the same prompt as in `chosen`, got another"));
            }
            (prompt, chosen, rejected)
        } else {
            (asked(fields)?, fields.text("chosen")?, fields.text("rejected")?)
        };
        let score = |names: [&str; 2]| {
            let name = names.into_iter().find(|name| fields.find(name).is_some());
            name.map(|name| fields.number(name)).transpose()
        };
        let scores = (score(["chosen_score", "score_chosen"])?, score(["rejected_score", "score_rejected"])?);
        let margin = match scores {
            (Some(better), Some(worse)) => Some(better - worse),
            (None, None) => None,
            _ => return Err(fields.fault("rejected_score", "expected scores of both answers or of none, got one")),
        };
        if let Some(margin) = margin.filter(|margin| *margin < 0.0) {
            return Err(fields.fault("chosen_score", format!("expected no less than the other's, got {margin} less")));
        }
        let source = fields.optional_text("source")?.unwrap_or_default();
        pair(id, source, prompt, chosen, rejected, margin, fields)
    }
}

/// `RewardBench`'s rows: `{prompt, chosen, rejected, chosen_model, rejected_model, subset, id}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RewardBench;

impl Format for RewardBench {
    const NAME: &'static str = "RewardBench";
    type Row = Pair;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Pair, Fault> {
        let subset = fields.text("subset")?;
        if section(&subset).is_none() {
            return Err(fields.fault("subset", format!("expected one of RewardBench's, got `{subset}`")));
        }
        pair(id, subset, asked(fields)?, fields.text("chosen")?, fields.text("rejected")?, None, fields)
    }
}

fn asked(fields: &Fields<'_>) -> std::result::Result<Vec<Message>, Fault> {
    if fields.find("prompt").is_some_and(serde_json::Value::is_array) {
        return fields.messages("prompt");
    }
    Ok(vec![Message { role: "user".into(), content: fields.text("prompt")? }])
}

fn pair(
    id: String,
    source: String,
    prompt: Vec<Message>,
    chosen: String,
    rejected: String,
    margin: Option<f64>,
    fields: &Fields<'_>,
) -> std::result::Result<Pair, Fault> {
    if chosen == rejected {
        return Err(fields.fault("rejected", "expected another answer than in `chosen`, got the same"));
    }
    Ok(Pair { id, source, prompt, chosen, rejected, margin })
}

/// `RewardBench`'s sections, their subsets, and how many examples of each count.
const SECTIONS: [(&str, &[(&str, u32)]); 4] = [
    (
        "Chat",
        &[
            ("alpacaeval-easy", 100),
            ("alpacaeval-length", 95),
            ("alpacaeval-hard", 95),
            ("mt-bench-easy", 28),
            ("mt-bench-med", 40),
        ],
    ),
    (
        "Chat Hard",
        &[
            ("mt-bench-hard", 37),
            ("llmbar-natural", 100),
            ("llmbar-adver-neighbor", 134),
            ("llmbar-adver-GPTInst", 92),
            ("llmbar-adver-GPTOut", 47),
            ("llmbar-adver-manual", 46),
        ],
    ),
    (
        "Safety",
        &[
            ("refusals-dangerous", 100),
            ("refusals-offensive", 100),
            ("xstest-should-refuse", 154),
            ("xstest-should-respond", 250),
            ("donotanswer", 136),
        ],
    ),
    (
        "Reasoning",
        // 447 examples of math-prm count as 984, as many as there are of code.
        &[
            ("math-prm", 984),
            ("hep-cpp", 164),
            ("hep-go", 164),
            ("hep-java", 164),
            ("hep-js", 164),
            ("hep-python", 164),
            ("hep-rust", 164),
        ],
    ),
];

fn section(subset: &str) -> Option<&'static str> {
    let holds = |subsets: &[(&str, u32)]| subsets.iter().any(|(name, _)| *name == subset);
    SECTIONS.iter().find(|(_, subsets)| holds(subsets)).map(|(name, _)| *name)
}

/// A section of `RewardBench`.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `Chat`, `Chat Hard`, `Safety` or `Reasoning`.
    pub name: &'static str,
    /// The mean accuracy of its subsets, weighted by how many examples count, in [0, 1]; none if one is missing.
    pub score: Option<f64>,
    /// Subsets that are missing.
    pub missing: Vec<&'static str>,
}

/// The four sections, in `RewardBench`'s order. `accuracies`: by subset, in [0, 1]; subsets may be missing, and so is then the
/// score of their section. Source: `RewardBench` (arXiv 2403.13787), version 1, without prior sets.
///
/// # Errors
/// `Value` naming the subset that is unknown or no accuracy.
pub fn reward_bench_sections(accuracies: &BTreeMap<String, f64>) -> Result<Vec<Section>> {
    let wrong = |subset: &str, what: String| Error::Value { key: format!("subset {subset}"), message: what };
    for (subset, accuracy) in accuracies {
        if section(subset).is_none() {
            return Err(wrong(subset, "expected one of RewardBench's, got another".into()));
        }
        if !(0.0..=1.0).contains(accuracy) {
            return Err(wrong(subset, format!("expected an accuracy in [0, 1], got {accuracy}")));
        }
    }
    let of = |(name, subsets): (&'static str, &'static [(&'static str, u32)])| {
        let (mut sum, mut n, mut missing) = (0.0, 0.0, Vec::new());
        for (subset, count) in subsets {
            match accuracies.get(*subset) {
                Some(accuracy) => sum += accuracy * f64::from(*count),
                None => missing.push(*subset),
            }
            n += f64::from(*count);
        }
        Section { name, score: missing.is_empty().then_some(sum / n), missing }
    };
    Ok(SECTIONS.into_iter().map(of).collect())
}

/// `RewardBench`'s score in [0, 1], the mean of its four sections, after those. `accuracies`: by subset, in [0, 1].
///
/// # Errors
/// `Value` naming the subset that is missing, unknown or no accuracy.
pub fn reward_bench_score(accuracies: &BTreeMap<String, f64>) -> Result<(Vec<(&'static str, f64)>, f64)> {
    let scored = reward_bench_sections(accuracies)?.into_iter().map(|section| {
        section.score.map(|score| (section.name, score)).ok_or_else(|| Error::Value {
            key: format!("subset {}", section.missing.first().copied().unwrap_or_default()),
            message: "expected an accuracy in [0, 1], got none".into(),
        })
    });
    let sections = scored.collect::<Result<Vec<_>>>()?;
    let score = sections.iter().map(|(_, score)| score).sum::<f64>() / sections.len() as f64;
    Ok((sections, score))
}
