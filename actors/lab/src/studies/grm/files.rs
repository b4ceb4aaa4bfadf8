//! Preferences of published data in place of exercises: read from files as they are, and recorded as answers with ratings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use tracker_lm::Lm;
use tracker_store::{Content as _, Finish, NodeId, Problem, Program, Recording, Reward, Sample, Sampling};

use super::settings::{DataSettings, Rows};
use super::world::Held;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::answers::{Answer, Task};
use crate::parts::record::record_members;
use crate::parts::reward::Steps;
use crate::parts::rows::{
    ChosenRejected, Comparison, Format, Ids, Message, Options, Pair, Reader, Report, RewardBench, UnifiedFeedback,
};
use crate::parts::skills::Exercise;
use crate::parts::train::completion_ids;

/// Prompts with two answers each, the better first.
pub(super) struct Rated {
    pub(super) tasks: Vec<Task>,
    pub(super) answers: Vec<Vec<Answer>>,
}

/// Pairs to learn from, and held-out ones: the next of the same files, then those of each other file.
pub(super) async fn read(
    lab: &Lab,
    data: &DataSettings,
    n_test: u32,
    model: &Lm,
) -> Result<(Rated, Vec<(Held, Rated)>)> {
    let paths: Vec<PathBuf> = data.train.iter().map(PathBuf::from).collect();
    let mut pairs: Vec<Pair> =
        rows(lab, data, "train", data.format, &paths).await?.into_iter().step_by(data.every as usize).collect();
    pairs.shuffle(&mut lab.seeds().stream("rows", 0, 0));
    let held = pairs.split_off(pairs.len().saturating_sub(n_test as usize));
    let learnt = record(lab, data, "train", pairs, model).await?;
    let mut trials = vec![hold(lab, data, "in distribution", held, model).await?];
    for path in &data.trials {
        let path = Path::new(path);
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let pairs = rows(lab, data, &name, data.trial_format, &[path.to_path_buf()]).await?;
        trials.push(hold(lab, data, &name, pairs, model).await?);
    }
    Ok((learnt, trials))
}

async fn hold(lab: &Lab, data: &DataSettings, name: &str, pairs: Vec<Pair>, model: &Lm) -> Result<(Held, Rated)> {
    let content: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
    let rated = record(lab, data, name, pairs, model).await?;
    let nodes = rated.tasks.iter().map(|task| task.node);
    let node = record_members(lab, name, "benchmark", &content.join("\n"), nodes).await?;
    Ok((Held { name: name.to_owned(), tasks: vec![], node }, rated))
}

async fn rows(lab: &Lab, data: &DataSettings, name: &str, format: Rows, paths: &[PathBuf]) -> Result<Vec<Pair>> {
    let ids = if data.id.is_empty() { Ids::Content } else { Ids::Field(data.id.clone()) };
    let options = Options { ids, n_rows: None, skip_bad: data.skip_bad };
    let (pairs, report) = match format {
        Rows::UnifiedFeedback => {
            let (rows, report) = collect(UnifiedFeedback, paths, options)?;
            // Ties say nothing.
            (rows.iter().filter_map(Comparison::pair).collect(), report)
        }
        Rows::ChosenRejected => collect(ChosenRejected, paths, options)?,
        Rows::RewardBench => collect(RewardBench, paths, options)?,
    };
    let mut recording = Recording::new();
    report.record(&mut recording, lab.run(), name)?;
    lab.record(recording).await?;
    lab.note(format!("{name}: {} of {} rows kept", report.n_kept, report.n_read));
    Ok(pairs)
}

fn collect<F: Format>(format: F, paths: &[PathBuf], options: Options) -> Result<(Vec<F::Row>, Report)> {
    Reader::open(format, paths, options)?.collect_all()
}

/// A conversation as text, a line for each who speaks; the model is asked to go on as the assistant.
fn render(messages: &[Message]) -> String {
    let parts = messages.iter().flat_map(|one| [one.role.as_str(), ": ", one.content.as_str(), "\n"]);
    parts.chain(["assistant: "]).collect()
}

/// Records both answers of each pair with what they are rated: the gap, where one is given, else 1; and 0.
async fn record(lab: &Lab, data: &DataSettings, name: &str, pairs: Vec<Pair>, model: &Lm) -> Result<Rated> {
    let stage = lab.stage(&format!("rows/{name}"), pairs.len()).await?;
    let program = |name: &str| Program { name: name.into(), version: "1".into(), settings: String::new() };
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 0, stop: vec![], template: String::new() };
    let mut rated = Rated { tasks: vec![], answers: vec![] };
    let (mut taken, mut too_long) = (BTreeSet::new(), 0_u32);
    for (pair, item) in pairs.iter().zip(0..) {
        let mut recording = Recording::new();
        let writer = recording.put(lab.run(), &program("published answers"))?;
        let rater = recording.put(lab.run(), &program("published ratings"))?;
        recording.put(lab.run(), &sampling)?;
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
            let sample = Sample {
                subject: node,
                policy: writer,
                sampling: sampling.digest()?,
                seed: 0,
                text: text.clone(),
                n_tokens: completion.len() as u32,
                sum_logprob: None,
                finish: Finish::Stop,
            };
            recording.put_sample(row, &sample)?;
            let reward = Reward { scorer: rater, kind: "outcome".into(), values: vec![gold], tallies: vec![] };
            let grade = recording.put_reward(row, &reward)?;
            let read = Steps { prompt: ids.clone(), at: vec![ids.len() + completion.len() - 1], completion };
            answers.push(Answer { row, grade, text: text.clone(), finish: Finish::Stop, gold, read });
        }
        let n_tokens = answers.iter().map(|answer| answer.read.prompt.len() + answer.read.completion.len()).max();
        let room = model.config().max_positions;
        if n_tokens.is_some_and(|n| n > room) {
            if !data.skip_bad {
                return Err(Error::Input {
                    what: format!(
                        "row `{}` of {name}: expected at most {room} tokens, got {}",
                        pair.id,
                        n_tokens.unwrap_or(0)
                    ),
                    hint: Some("`data.skip_bad` leaves such rows out and counts them".into()),
                });
            }
            too_long += 1;
            continue;
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
    if too_long > 0 {
        lab.note(format!("{name}: {too_long} of {} rows are longer than the context and were left out", pairs.len()));
    }
    Ok(rated)
}

/// A judge of what is published, for records of choices among it.
pub(super) async fn rater(lab: &Lab) -> Result<NodeId> {
    let rater = Program { name: "published ratings".into(), version: "1".into(), settings: String::new() };
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &rater)?;
    lab.record(recording).await?;
    Ok(node)
}
