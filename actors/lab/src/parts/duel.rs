//! Duels: a model behind an endpoint says which of two answers to a prompt is better, asked in both orders.
//!
//! Judges favour what they read first (Zheng et al. 2023, arXiv 2306.05685, §3.3), so an answer's score is the mean over both
//! places: 1 for a win, ½ for a tie, 0 for a loss.

use std::collections::BTreeMap;

use tracker_store::NodeId;

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::generate::Policy;
use crate::parts::marks::hash;
use crate::parts::rate::{Case, Question, Said};

const TEMPLATE: &str = "Which answer to the prompt is better?";

/// The share of wins of each case's answer against its opponent, in {0, ¼, ½, ¾, 1}, and the two samples that say so. Each
/// case takes two items of the stage: twice its own, and the next.
///
/// # Errors
/// `Endpoint` if no answer of the judge can be read; those of the judge and of the store.
pub async fn duel(
    lab: &Lab,
    stage: &Stage<'_>,
    judge: &Policy,
    cases: &[Case<'_>],
    opponents: &[&str],
) -> Result<Vec<(f64, [NodeId; 2])>> {
    let both: Vec<Case<'_>> =
        cases.iter().flat_map(|case| [0, 1].map(|order| Case { item: 2 * case.item + order, ..*case })).collect();
    let places: BTreeMap<u32, &str> =
        cases.iter().zip(opponents).map(|(case, opponent)| (case.item, *opponent)).collect();
    let question = Question {
        template: format!("duel {}", hash(&prompt("{prompt}", ["{a}", "{b}"]))),
        expected: "`Better: A`, `Better: B` or `Better: tie` at the end".into(),
    };
    let ask = |case: &Case<'_>| {
        let opponent = places.get(&(case.item / 2)).copied().unwrap_or_default();
        let answers = if case.item.is_multiple_of(2) { [case.answer, opponent] } else { [opponent, case.answer] };
        prompt(case.prompt, answers)
    };
    let said = question.put(lab, stage, judge, &both, ask, read).await?;
    let score =
        |[first, second]: &[Said<f64>; 2]| (f64::midpoint(first.value, 1.0 - second.value), [first.from, second.from]);
    Ok(said.as_chunks::<2>().0.iter().map(score).collect())
}

fn prompt(prompt: &str, [a, b]: [&str; 2]) -> String {
    format!(
        "{TEMPLATE}\n\nPrompt:\n{prompt}\n\nAnswer A:\n{a}\n\nAnswer B:\n{b}\n\n\
         End with one line: `Better: A`, `Better: B` or `Better: tie`.\n"
    )
}

/// How often A wins by the last line that says who does: 1, ½ or 0.
fn read(text: &str) -> Option<f64> {
    let said = text.lines().rev().find_map(|line| {
        let (before, who) = line.rsplit_once(':')?;
        before.to_lowercase().ends_with("better").then_some(who)
    })?;
    match said.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase().as_str() {
        "a" => Some(1.0),
        "b" => Some(0.0),
        "tie" => Some(0.5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_names_a_winner_counts() {
        for (text, wins) in [
            ("Better: A", Some(1.0)),
            ("A is longer.\nBetter: **B**.", Some(0.0)),
            ("Better: A\nNo.\n`Better: tie`", Some(0.5)),
            ("Better: A or B", None),
            ("A is better", None),
            ("", None),
        ] {
            assert_eq!(read(text), wins, "{text:?}");
        }
    }
}
