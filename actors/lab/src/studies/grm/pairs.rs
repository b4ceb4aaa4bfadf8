//! Preferences: pairs of a policy's own answers, ordered by the exact score, some of them turned round.

use rand::RngExt;
use tracker_lm::RatedPair;
use tracker_store::{Finish, NodeId, Recording, Selection};

use super::world::World;
use crate::error::{Error, Result};
use crate::parts::answers::{Answer, Task};
use crate::parts::best_of::TIES;
use crate::parts::record::FileRow;

/// Two answers to one exercise that differ in score.
pub(super) struct Preference {
    /// Stage and item of its record; a line of a dataset names no run, so that equal plans give equal datasets.
    id: String,
    /// The number of its task.
    pub(super) task: usize,
    prompt: String,
    /// Where the prompt was published; empty for one made here.
    pub(super) source: String,
    /// The one that is called better, then the other.
    pub(super) answers: [Answer; 2],
    /// Whether the one that is called better is the worse.
    is_flipped: bool,
    /// The record of the choice.
    pub(super) node: NodeId,
}

impl Preference {
    /// By how much the scores differ.
    fn gap(&self) -> f64 {
        (self.answers[0].gold - self.answers[1].gold).abs()
    }

    /// As a reward model learns it.
    pub(super) fn rated(&self, has_margin: bool) -> RatedPair {
        let [chosen, rejected] = [0, 1].map(|at| self.answers[at].read.completion.clone());
        let pair = tracker_lm::Pair { prompt: self.answers[0].read.prompt.clone(), chosen, rejected };
        RatedPair { pair, margin: if has_margin { self.gap() } else { 0.0 } }
    }

    /// As a line of a dataset. What was cut off is marked: it has no end.
    pub(super) fn row(&self) -> FileRow {
        let cut_off: Vec<&str> = ["chosen", "rejected"]
            .into_iter()
            .zip(&self.answers)
            .filter(|(_, answer)| answer.finish != Finish::Stop)
            .map(|(name, _)| name)
            .collect();
        let [chosen, rejected] = &self.answers;
        let mut line = serde_json::json!({
            "id": self.id,
            "prompt": self.prompt,
            "chosen": chosen.text,
            "rejected": rejected.text,
            "margin": self.gap(),
            "flipped": self.is_flipped,
        });
        if !cut_off.is_empty() {
            line["cut_off"] = cut_off.into();
        }
        FileRow { line: line.to_string(), source: Some(self.node) }
    }
}

/// The first two answers to each task that differ in score, recorded as choices between the two. `flip_rate` is the share of
/// them that is turned round; which, follows from the name of the stage alone.
pub(super) async fn prefer(
    world: &World<'_>,
    stage: &str,
    tasks: &[Task],
    answers: &[Vec<Answer>],
    flip_rate: f64,
) -> Result<Vec<Preference>> {
    let lab = world.lab;
    let stage = lab.stage(stage, tasks.len()).await?;
    let mut recording = Recording::new();
    let mut all = Vec::new();
    for ((at, task), answers) in (0..).zip(tasks).zip(answers) {
        let Some(pair) = first_two(answers) else { continue };
        let is_flipped = lab.seeds().stream(stage.name(), at, 0).random_bool(flip_rate);
        let best = usize::from(pair[1].gold > pair[0].gold);
        let chosen = if is_flipped { 1 - best } else { best };
        let rule = if is_flipped { "exact score, turned round" } else { "exact score" };
        let selection = Selection {
            candidates: pair.map(|answer| NodeId::sample(answer.row)).to_vec(),
            scores: pair.map(|answer| answer.gold).to_vec(),
            rule: rule.into(),
            ties: TIES.into(),
            chosen: chosen as u32,
            scorer: Some(world.grader),
        };
        let node = recording.put_selection(stage.row(at, 0), &selection)?;
        let answers = [pair[chosen].clone(), pair[1 - chosen].clone()];
        let id = format!("{}/{at}", stage.name());
        let (source, prompt) = (task.source.clone(), task.exercise.prompt.clone());
        all.push(Preference { id, task: at as usize, prompt, source, answers, is_flipped, node });
    }
    lab.record(recording).await?;
    stage.done(tasks.len());
    if all.is_empty() {
        return Err(Error::Input {
            what: format!("no exercise of `{}` has two answers that differ in score", stage.name()),
            hint: Some("more answers (`pairs.n_samples`) or a higher temperature give some".into()),
        });
    }
    Ok(all)
}

fn first_two(answers: &[Answer]) -> Option<[&Answer; 2]> {
    // What was cut off before its first word cannot be read.
    let readable: Vec<&Answer> = answers.iter().filter(|answer| !answer.read.completion.is_empty()).collect();
    let first = *readable.first()?;
    let other = readable.iter().find(|answer| answer.gold.total_cmp(&first.gold).is_ne())?;
    Some([first, other])
}
