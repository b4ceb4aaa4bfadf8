//! Rows to learn from under each method, and the models that learn from them.

use rand::RngExt;
use rand::seq::IndexedRandom;
use tracker_actors::Pool;
use tracker_lm::{Example, Lm, Pair};
use tracker_store::{Checkpoint, Finish, NodeId};

use super::identify::Labels;
use super::items::{Item, Task};
use super::room::Room;
use super::settings::{Method, UAnswer};
use crate::error::Result;
use crate::parts::certainty::{Refusals, Template};
use crate::parts::evaluate::Estimate;
use crate::parts::train::{Objective, SftSettings, Step, TrainRow, TrainSet, Trained, Trainer, train};

/// Tasks that a model learns together, each with the labels of its questions.
pub(super) type Lessons<'a> = [(&'a Task, &'a Labels)];

/// A row: its parts, each read or learnt, and what it was taken from.
struct Row {
    parts: Vec<(String, bool)>,
    source: NodeId,
}

/// Rows of a method, in the order of tasks and questions.
fn rows(room: &Room<'_>, label: &str, method: Method, lessons: &Lessons<'_>) -> Vec<Row> {
    let template = &room.template;
    let mut stream = room.lab.seeds().stream(&format!("{label}/rows"), 0, 0);
    let mut all = Vec::new();
    for (task, labels) in lessons {
        for (at, item) in task.train.items.iter().enumerate() {
            let (is_certain, node) = (labels.certain[at], labels.nodes[at]);
            let refusal = Refusals::all().choose(&mut stream).copied().unwrap_or_default();
            let row = |parts: &[(String, bool)], source: NodeId| Row { parts: in_prompt(item, parts), source };
            all.push(match method {
                Method::R => row(&template.padded(&item.question, &item.said(), is_certain), node),
                Method::RRefuse if !is_certain => row(&template.plain(&item.question, refusal), node),
                Method::RU => {
                    let answer = match room.plan.tune.u_answer {
                        UAnswer::Gold => item.said(),
                        UAnswer::Majority => labels.majority[at].clone(),
                    };
                    row(&template.padded(&item.question, &answer, labels.steady[at]), labels.steady_nodes[at])
                }
                // The first stage of two: what refusing is has to be learnt before it can be chosen.
                Method::MinLoss if stream.random_bool(room.plan.tune.min_loss_refused) => {
                    row(&template.plain(&item.question, refused()), item.node)
                }
                Method::RRefuse => row(&template.plain(&item.question, &item.said()), node),
                _ => row(&template.plain(&item.question, &item.said()), item.node),
            });
        }
    }
    all
}

/// The phrase that the two-stage baseline may choose.
fn refused() -> &'static str {
    Refusals::all()[0]
}

/// Whether an output begins as that phrase does. Its first token is all that the second stage chooses by, and learns: what follows may be
/// anything.
pub(super) fn begins_to_refuse(output: &str) -> bool {
    output.split_whitespace().next().is_some_and(|word| refused().split(' ').next() == Some(word))
}

/// Parts with the whole prompt, shots and all, in place of the question alone.
fn in_prompt(item: &Item, parts: &[(String, bool)]) -> Vec<(String, bool)> {
    let mut parts = parts.to_vec();
    if let Some((prompt, _)) = parts.first_mut() {
        prompt.clone_from(&item.prompt);
    }
    parts
}

fn set(name: &str, rows: &[Row]) -> TrainSet {
    let row = |row: &Row| TrainRow {
        prompt: row.parts.first().map(|(prompt, _)| prompt.clone()).unwrap_or_default(),
        completion: row.parts.iter().skip(1).map(|(part, _)| part.as_str()).collect(),
        finish: Finish::Stop,
        source: Some(row.source),
    };
    TrainSet { name: name.to_owned(), rows: rows.iter().map(row).collect(), drawn_from: vec![] }
}

/// Tunes a model by a method.
///
/// # Errors
/// Of the model and of the store.
pub(super) async fn tune(
    room: &Room<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    label: &str,
    method: Method,
    lessons: &Lessons<'_>,
) -> Result<Trained> {
    let settings = &room.plan.tune.sft;
    let rows = rows(room, label, method, lessons);
    let first = if method == Method::MinLoss { format!("{label}, first stage") } else { label.to_owned() };
    let set = set(&format!("{first}/rows"), &rows);
    let examples = rows.iter().map(|row| room.template.example(&base.model, &row.parts)).collect::<Result<Vec<_>>>()?;
    let n = examples.len();
    let step = Step { adapter: room.plan.tune.lora.adapter(), ..Step::new(&first, base, &set, settings) };
    let tuned = train(room.lab, trainer, step, Objective::Sft(examples)).await?;
    epochs(room, &first, &tuned, &set, n, settings).await?;
    if method == Method::MinLoss {
        return least(room, trainer, &tuned, label, lessons).await;
    }
    Ok(tuned)
}

/// The second stage: of the first token of the answer and that of a refusal, whichever is likelier at the time.
async fn least(
    room: &Room<'_>,
    trainer: &Pool<Trainer>,
    from: &Trained,
    label: &str,
    lessons: &Lessons<'_>,
) -> Result<Trained> {
    let settings = &room.plan.tune.min_loss;
    let (mut pairs, mut rows) = (Vec::new(), Vec::new());
    for item in lessons.iter().flat_map(|(task, _)| &task.train.items) {
        let first = |answer: &str| first_token(&room.template, &from.model, item, answer);
        let ((prompt, gold), (_, other)) = (first(&item.said())?, first(refused())?);
        // Where both begin alike there is nothing to choose.
        if let Some((gold, other)) = gold.zip(other).filter(|(gold, other)| gold != other) {
            pairs.push(Pair { prompt, chosen: vec![gold], rejected: vec![other] });
            let parts = room.template.plain(&item.question, &format!("{} | {}", item.said(), refused()));
            rows.push(Row { parts: in_prompt(item, &parts), source: item.node });
        }
    }
    let set = set(&format!("{label}/rows"), &rows);
    let n = pairs.len();
    let step = Step { adapter: room.plan.tune.lora.adapter(), ..Step::new(label, from, &set, settings) };
    let tuned = train(room.lab, trainer, step, Objective::Least(pairs)).await?;
    epochs(room, label, &tuned, &set, n, settings).await?;
    Ok(tuned)
}

/// The tokens of a prompt, and the first one of an answer to it.
fn first_token(template: &Template, model: &Lm, item: &Item, answer: &str) -> Result<(Vec<u32>, Option<u32>)> {
    let parts = [(item.prompt.clone(), false), (template.answer(answer), true)];
    let Example { ids, mask } = template.example(model, &parts)?;
    let start = mask.iter().position(|learnt| *learnt).unwrap_or(ids.len());
    Ok((ids[..start].to_vec(), ids.get(start).copied()))
}

/// Records how many epochs a training was to have and how many it had, by the optimiser's steps.
pub(super) async fn epochs(
    room: &Room<'_>,
    label: &str,
    tuned: &Trained,
    set: &TrainSet,
    n: usize,
    settings: &SftSettings,
) -> Result<()> {
    let all = room.lab.store().contents_of::<Checkpoint>(room.lab.run())?;
    let n_steps = all.into_iter().find(|(node, _)| *node == tuned.node).map_or(0, |(_, checkpoint)| checkpoint.step);
    let actual = actual_epochs(n, n_steps, settings);
    let stage = room.lab.stage(&format!("{label}/epochs"), 1).await?;
    let used = [set.node(room.lab)?, tuned.node];
    for (at, (name, value)) in [
        ("epochs declared", settings.epochs),
        ("epochs actual", actual),
        ("epochs actual less declared", actual - settings.epochs),
    ]
    .into_iter()
    .enumerate()
    {
        stage.figure(at as u32, name, Estimate::exactly(value), n, &used).await?;
    }
    stage.done(1);
    Ok(())
}

/// Passes over `n` rows that so many steps made: the last step takes what is left of what was declared.
fn actual_epochs(n: usize, n_steps: u64, settings: &SftSettings) -> f64 {
    let most = n_steps as f64 * settings.batch as f64;
    let declared = (n as f64 * settings.epochs).round().max(1.0);
    let is_whole = n_steps == (declared / settings.batch as f64).ceil() as u64;
    (if is_whole { declared } else { most }) / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_says_whether_the_two_stage_baseline_refuses() {
        for (output, refuses) in [("I do I do", true), ("I", true), ("born4", false), ("", false), ("In Kyoto", false)]
        {
            assert_eq!(begins_to_refuse(output), refuses, "{output}");
        }
    }

    #[test]
    fn epochs_are_counted_by_steps_and_not_taken_from_the_plan() {
        let settings = |epochs: f64| SftSettings { epochs, batch: 16, ..SftSettings::default() };
        // 100 rows, three times: 300 rows in 19 steps, of which the last has 12.
        assert_eq!(actual_epochs(100, 19, &settings(3.0)), 3.0);
        // Whoever stopped after one step had 16 of 100 rows, whatever was declared.
        assert_eq!(actual_epochs(100, 1, &settings(3.0)), 0.16);
        // 0.01 epochs of 100 rows are one row, and say so.
        assert_eq!(actual_epochs(100, 1, &settings(0.01)), 0.01);
        assert_eq!(actual_epochs(10, 1, &settings(0.01)), 0.1);
    }
}
