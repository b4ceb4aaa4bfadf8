//! Preferences of published data in place of exercises: read from files as they are, and recorded as answers with ratings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use tracker_lm::Lm;
use tracker_store::{Finish, NodeId, Problem, Program, Recording, Reward};

use super::settings::{DataSettings, Rows};
use super::world::Held;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::answers::{Answer, Task};
use crate::parts::record::{put_published, record_members};
use crate::parts::reward::Steps;
use crate::parts::rows::{
    ChosenRejected, Comparison, Fault, Mapped, Message, Options, Pair, RewardBench, UnifiedFeedback, read as read_rows,
};
use crate::parts::sections::lacking;
use crate::parts::skills::Exercise;
use crate::parts::train::completion_ids;

/// Prompts with two answers each, the better first.
pub(super) struct Rated {
    pub(super) tasks: Vec<Task>,
    pub(super) answers: Vec<Vec<Answer>>,
    /// `RewardBench`'s subset of each; empty for other data.
    pub(super) subsets: Vec<String>,
}

/// Pairs to learn from, and held-out ones: the next of the same files, then those of each other file.
pub(super) async fn read(
    lab: &Lab,
    data: &DataSettings,
    n_test: u32,
    model: &Lm,
) -> Result<(Rated, Vec<(Held, Rated)>)> {
    let paths: Vec<PathBuf> = data.train.iter().map(PathBuf::from).collect();
    let mut pairs: Vec<Pair> = rows(lab, data, ("train", data.format), &paths, model)
        .await?
        .into_iter()
        .step_by(data.every as usize)
        .collect();
    pairs.shuffle(&mut lab.seeds().stream("rows", 0, 0));
    let held = pairs.split_off(pairs.len().saturating_sub(n_test as usize));
    let learnt = record(lab, "train", pairs, model).await?;
    let mut trials = vec![hold(lab, data.format, "in distribution", held, model).await?];
    for path in &data.trials {
        let path = Path::new(path);
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let pairs = rows(lab, data, (&name, data.trial_format), &[path.to_path_buf()], model).await?;
        trials.push(hold(lab, data.trial_format, &name, pairs, model).await?);
    }
    Ok((learnt, trials))
}

async fn hold(lab: &Lab, format: Rows, name: &str, pairs: Vec<Pair>, model: &Lm) -> Result<(Held, Rated)> {
    let content: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
    let subsets = match format {
        Rows::RewardBench => pairs.iter().map(|pair| pair.source.clone()).collect(),
        Rows::UnifiedFeedback | Rows::ChosenRejected => vec![],
    };
    for section in lacking(&subsets)?.iter().filter(|_| !subsets.is_empty()) {
        lab.note(format!("{name}: no score of {}, which lacks {}", section.name, section.missing.join(", ")));
    }
    let rated = Rated { subsets, ..record(lab, name, pairs, model).await? };
    let nodes = rated.tasks.iter().map(|task| task.node);
    let node = record_members(lab, name, "benchmark", &content.join("\n"), nodes).await?;
    Ok((Held { name: name.to_owned(), tasks: vec![], node }, rated))
}

async fn rows(
    lab: &Lab,
    data: &DataSettings,
    (name, format): (&str, Rows),
    paths: &[PathBuf],
    model: &Lm,
) -> Result<Vec<Pair>> {
    let options = Options::new(&data.id, data.skip_bad);
    let of_pair =
        |pair: Pair| fit(model, &pair.prompt, [("chosen", &pair.chosen), ("rejected", &pair.rejected)]).map(|()| pair);
    match format {
        Rows::UnifiedFeedback => {
            let map = |row: Comparison| {
                fit(model, &row.prompt, [("conv_A", &row.answers[0]), ("conv_B", &row.answers[1])]).map(|()| row)
            };
            let rows = read_rows(lab, name, Mapped { format: UnifiedFeedback, map }, paths, options).await?;
            // Ties say nothing.
            Ok(rows.iter().filter_map(Comparison::pair).collect())
        }
        Rows::ChosenRejected => {
            read_rows(lab, name, Mapped { format: ChosenRejected, map: of_pair }, paths, options).await
        }
        Rows::RewardBench => read_rows(lab, name, Mapped { format: RewardBench, map: of_pair }, paths, options).await,
    }
}

/// Refuses answers that do not fit into the model's context behind their prompt.
fn fit(model: &Lm, prompt: &[Message], answers: [(&str, &String); 2]) -> std::result::Result<(), Fault> {
    let room = model.config().max_positions;
    for (field, answer) in answers {
        let lengths = model
            .tokenizer()
            .encode_with_special(&render(prompt))
            .map_err(Error::from)
            .and_then(|ids| Ok((ids.len(), completion_ids(model, answer, Finish::Stop)?.len())));
        let (n_asked, n_answered) = lengths.map_err(|error| Fault::new(field, error.to_string()))?;
        if n_asked + n_answered > room {
            let what = format!(
                "expected at most {room} tokens with its prompt, the model's context, got {}",
                n_asked + n_answered
            );
            return Err(Fault::new(field, what));
        }
    }
    Ok(())
}

/// A conversation as text, a line for each who speaks; the model is asked to go on as the assistant.
fn render(messages: &[Message]) -> String {
    let parts = messages.iter().flat_map(|one| [one.role.as_str(), ": ", one.content.as_str(), "\n"]);
    parts.chain(["assistant: "]).collect()
}

/// Records both answers of each pair with what they are rated: the gap, where one is given, else 1; and 0.
async fn record(lab: &Lab, name: &str, pairs: Vec<Pair>, model: &Lm) -> Result<Rated> {
    let stage = lab.stage(&format!("rows/{name}"), pairs.len()).await?;
    let mut rated = Rated { tasks: vec![], answers: vec![], subsets: vec![] };
    let mut taken = BTreeSet::new();
    for (pair, item) in pairs.iter().zip(0..) {
        let mut recording = Recording::new();
        let rater = recording.put(lab.run(), &published_ratings())?;
        let prompt = render(&pair.prompt);
        let ids = model.tokenizer().encode_with_special(&prompt)?;
        let problem = Problem { name: pair.id.clone(), source: pair.source.clone(), text: prompt.clone() };
        let node = recording.put(lab.run(), &problem)?;
        let mut answers: Vec<Answer> = Vec::new();
        for ((text, gold), k) in
            [(&pair.chosen, pair.margin.unwrap_or(1.0)), (&pair.rejected, 0.0)].into_iter().zip(0..)
        {
            let row = stage.row(item, k);
            let completion = completion_ids(model, text, Finish::Stop)?;
            put_published(lab, &mut recording, row, node, text, completion.len() as u32)?;
            let reward = Reward { scorer: rater, kind: "outcome".into(), values: vec![gold], tallies: vec![] };
            let grade = recording.put_reward(row, &reward)?;
            let read = Steps::whole(ids.clone(), completion);
            answers.push(Answer { row, grade, text: text.clone(), finish: Finish::Stop, gold, read });
        }
        if !taken.insert(node) {
            lab.note(format!("row `{}` of {name} asks what another row asks", pair.id));
        }
        lab.record(recording).await?;
        rated.tasks.push(Task {
            node,
            exercise: Exercise { prompt, answer: pair.chosen.clone() },
            source: pair.source.clone(),
        });
        rated.answers.push(answers);
        stage.done(rated.tasks.len());
    }
    Ok(rated)
}

fn published_ratings() -> Program {
    Program { name: "published ratings".into(), version: "1".into(), settings: String::new() }
}

/// A judge of what is published, for records of choices among it.
pub(super) async fn rater(lab: &Lab) -> Result<NodeId> {
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &published_ratings())?;
    lab.record(recording).await?;
    Ok(node)
}
