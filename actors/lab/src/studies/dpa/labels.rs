//! Ratings with gaps, the reward model fitted to them, and what is to be said of both.

use std::path::PathBuf;

use rand::RngExt;
use tracker_actors::Pool;
use tracker_lm::{HeadKind, Lm, RatedText, RewardModel, Trunk};
use tracker_store::{NodeId, Recording};

use super::rounds::Offline;
use super::ruler::read;
use super::settings::{DataSettings, RatingFormat};
use super::wish::Wish;
use super::world::World;
use crate::error::{Error, Result};
use crate::parts::correlate::{spearman, verbosity_corrections};
use crate::parts::evaluate::Estimate;
use crate::parts::record::{FileRow, put_file_rows, record_members};
use crate::parts::reward::{Fit, Fitter, Judge, Objective, adopt, fit};
use crate::parts::rows::{
    Attributed, Attributes, Fault, Feedback, HELP_STEER, HelpSteer, Mapped, Message, Options, Reader, ULTRA_FEEDBACK,
    UltraFeedback, help_steer_score, ultra_feedback_score,
};
use crate::parts::train::Trained;

/// Name of the dataset of ratings.
const RATINGS: &str = "ratings";

/// Rated answers, as a reward model reads them and as they are recorded.
#[derive(Default)]
struct Ratings {
    texts: Vec<RatedText>,
    rows: Vec<FileRow>,
    /// Ratings there were to give, and how many of each attribute are missing.
    n_rated: usize,
    n_missing: Vec<usize>,
    /// The rows of files they are of.
    drawn_from: Vec<NodeId>,
}

impl Ratings {
    fn push(&mut self, world: &World<'_>, base: &Trained, row: &Rated<'_>, labels: &[Option<f64>]) -> Result<()> {
        self.n_rated += 1;
        self.n_missing.resize(labels.len(), 0);
        for (n_missing, label) in self.n_missing.iter_mut().zip(labels) {
            *n_missing += usize::from(label.is_none());
        }
        // What nobody rated teaches nothing.
        if labels.iter().all(Option::is_none) {
            return Ok(());
        }
        let Rated { id, prompt, response, source } = *row;
        let steps = read(&base.model, &world.prompt(prompt, &Wish::None), response)?;
        // Outputs near one are learnt faster than those near a hundred.
        let shares = labels.iter().map(|label| label.map(|x| x / 100.0)).collect();
        self.texts.push(RatedText { prompt: steps.prompt, completion: steps.completion, labels: shares });
        let mut line = serde_json::json!({"id": id, "prompt": prompt, "response": response});
        if let Some(line) = line.as_object_mut() {
            let named = world.plan.reward.attributes.iter().zip(labels);
            line.extend(named.map(|(name, label)| (name.clone(), serde_json::json!(label))));
        }
        self.rows.push(FileRow { line: line.to_string(), source });
        Ok(())
    }
}

/// Whose labels these are.
struct Rated<'a> {
    id: &'a str,
    prompt: &'a str,
    response: &'a str,
    source: Option<NodeId>,
}

/// The reward model: that of the plan's folder, or one fitted to ratings, which are made up noisily unless there are files.
pub(super) async fn reward_model(
    world: &World<'_>,
    fitter: &Pool<Fitter>,
    base: &Trained,
    rated: Option<&Offline>,
) -> Result<Judge> {
    let (lab, plan) = (world.lab, &world.plan.reward);
    if !world.plan.models.reward.is_empty() {
        return folder(world).await;
    }
    let ratings = match rated {
        Some(answered) => noisy(world, base, answered)?,
        None => from_files(world, base).await?,
    };
    let start = RewardModel::init(
        &base.model,
        HeadKind::Linear { outputs: plan.attributes.clone() },
        lab.seeds().seed("reward/head", 0, 0),
    )?;
    let step = Fit {
        label: "reward model",
        from: base.node,
        model: &start,
        dataset: RATINGS,
        rows: &ratings.rows,
        drawn_from: &ratings.drawn_from,
        trunk: Trunk::Trained,
        adapter: None,
        settings: &plan.sft,
    };
    let judge = fit(lab, fitter, step, Objective::Ratings(ratings.texts)).await?;
    let dataset = put_file_rows(lab, &mut Recording::new(), RATINGS, &ratings.rows, &ratings.drawn_from)?;
    let stage = lab.stage("ratings/figures", 1).await?;
    for ((item, name), n_missing) in (0..).zip(&plan.attributes).zip(&ratings.n_missing) {
        let share = Estimate::exactly(*n_missing as f64 / ratings.n_rated.max(1) as f64);
        stage.figure(item, &format!("missing ratings of {name}"), share, ratings.n_rated, &[dataset]).await?;
    }
    stage.done(1);
    Ok(judge)
}

/// The reward model of a folder, if its outputs are the plan's attributes.
pub(super) async fn folder(world: &World<'_>) -> Result<Judge> {
    let path = &world.plan.models.reward;
    let model = RewardModel::load(path, world.lab.device()).map_err(|error| Error::Input {
        what: format!("reward model `{path}`: {error}"),
        hint: Some("expected a Hugging Face folder with `head.json` and `head.safetensors`".into()),
    })?;
    let (outputs, attributes) = (model.kind().outputs().join(", "), world.plan.reward.attributes.join(", "));
    if outputs != attributes {
        return Err(Error::Input {
            what: format!("reward model `{path}`: expected outputs {attributes} (`reward.attributes`), got {outputs}"),
            hint: Some("name the outputs of its head, in their order, in `reward.attributes`".into()),
        });
    }
    adopt(world.lab, "reward model", model).await
}

/// Ratings of drawn answers: what is true, off by some noise, many of them missing.
fn noisy(world: &World<'_>, base: &Trained, answered: &Offline) -> Result<Ratings> {
    let plan = &world.plan.reward;
    let mut stream = world.lab.seeds().stream("ratings", 0, 0);
    let mut ratings = Ratings::default();
    for (nth, (question, answers)) in answered.questions.iter().zip(&answered.answers).enumerate() {
        for (k, answer) in answers.iter().enumerate() {
            let Some(truth) = &answer.truth else { continue };
            let mut rate = |x: &f64| {
                let off = plan.noise * stream.random_range(-1.0..=1.0);
                let is_missing = stream.random_bool(plan.missing);
                (!is_missing).then_some((x + off).clamp(0.0, 100.0))
            };
            let labels: Vec<Option<f64>> = truth.iter().map(&mut rate).collect();
            // Not the name of its row, which has the run's: equal plans give equal ratings.
            let id = format!("{nth}/{k}");
            let row = Rated { id: &id, prompt: &question.text, response: &answer.text, source: Some(answer.reward) };
            ratings.push(world, base, &row, &labels)?;
        }
    }
    Ok(ratings)
}

/// Ratings of files, as they are.
async fn from_files(world: &World<'_>, base: &Trained) -> Result<Ratings> {
    let paths: Vec<PathBuf> = world.plan.data.ratings.iter().map(PathBuf::from).collect();
    let DataSettings { id, skip_bad, .. } = &world.plan.data;
    let options = Options::new(id, *skip_bad);
    let attributes = &world.plan.reward.attributes;
    let fits = |prompt: &[Message], response: &str| fits(world, &base.model, prompt, response);
    // Of the attributes a format has, those of the plan, from 0 to 100.
    let picked = |row: &Attributed, known: &[&str], score: &dyn Fn(&str, f64) -> f64| Attributed {
        values: attributes.iter().map(|name| value(row, known, name, score)).collect(),
        ..row.clone()
    };
    let of_row = |row: Attributed| {
        fits(&row.prompt, &row.response).map_err(|(field, what)| Fault::new(field, what)).map(|()| row)
    };
    let (rows, report) = match world.plan.data.format {
        RatingFormat::Rows => {
            let format = Attributes { names: attributes.clone(), range: (0.0, 100.0) };
            Reader::open(Mapped { format, map: of_row }, &paths, options)?.collect_all()?
        }
        RatingFormat::HelpSteer => {
            let format = Mapped { format: HelpSteer, map: of_row };
            let (rows, report) = Reader::open(format, &paths, options)?.collect_all()?;
            let rows = rows.iter().map(|row| picked(row, &HELP_STEER, &|_, rating| help_steer_score(rating)));
            (rows.collect(), report)
        }
        RatingFormat::UltraFeedback => {
            let map = |row: Feedback| {
                let one = |(nth, of): (usize, &Attributed)| {
                    fits(&of.prompt, &of.response).map_err(|(field, what)| match field {
                        "prompt" => Fault::new("instruction", what),
                        _ => Fault::new(format!("completions[{nth}].response"), what),
                    })
                };
                row.completions.iter().enumerate().try_for_each(one).map(|()| row)
            };
            let (rows, report) = Reader::open(Mapped { format: UltraFeedback, map }, &paths, options)?.collect_all()?;
            let all = rows.iter().flat_map(|row| &row.completions);
            let rows = all.map(|row| picked(row, &ULTRA_FEEDBACK, &ultra_feedback_score));
            (rows.collect::<Vec<_>>(), report)
        }
    };
    let mut recording = Recording::new();
    report.record(&mut recording, world.lab.run(), RATINGS)?;
    let dataset = recording.put(world.lab.run(), &report.dataset(RATINGS, "source"))?;
    world.lab.record(recording).await?;
    let answers = if rows.len() as u64 == report.n_kept { String::new() } else { format!(", {} answers", rows.len()) };
    world.lab.note(format!("{RATINGS}: {} of {} rows are used{answers}", report.n_kept, report.n_read));
    let mut ratings = Ratings { drawn_from: vec![dataset], ..Ratings::default() };
    for row in rows {
        let prompt = joined(&row.prompt);
        let of = Rated { id: &row.id, prompt: &prompt, response: &row.response, source: None };
        ratings.push(world, base, &of, &row.values)?;
    }
    Ok(ratings)
}

/// What is asked, as one text.
fn joined(prompt: &[Message]) -> String {
    prompt.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
}

/// One attribute of a row, on the scale from 0 to 100.
fn value(row: &Attributed, known: &[&str], name: &str, score: &dyn Fn(&str, f64) -> f64) -> Option<f64> {
    let at = known.iter().position(|other| *other == name)?;
    row.values.get(at).copied().flatten().map(|rating| score(name, rating))
}

/// Whether an answer with its prompt fits into a model's context; else which of them is too long, and by how much.
fn fits(
    world: &World<'_>,
    model: &Lm,
    prompt: &[Message],
    response: &str,
) -> std::result::Result<(), (&'static str, String)> {
    let room = model.config().max_positions;
    let steps = read(model, &world.prompt(&joined(prompt), &Wish::None), response)
        .map_err(|error| ("response", error.to_string()))?;
    let (n_asked, n) = (steps.prompt.len(), steps.prompt.len() + steps.completion.len());
    if n <= room {
        return Ok(());
    }
    let field = if n_asked >= room { "prompt" } else { "response" };
    Err((field, format!("expected at most {room} tokens with its prompt, the model's context, got {n}")))
}

/// What the reward model is worth on answers it was not fitted to: rank correlations with the truth, and with verbosity;
/// and how much of verbosity would have to be taken off each attribute.
pub(super) async fn inspect(world: &World<'_>, judge: NodeId, answered: &Offline) -> Result<()> {
    let stage = world.lab.stage("reward model/figures", 1).await?;
    let answers: Vec<_> = answered.answers.iter().flatten().collect();
    let texts: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
    let rewards = answers.iter().map(|answer| answer.reward);
    let reference = record_members(world.lab, "reference answers", "reference", &texts.join("\n"), rewards).await?;
    let used = [reference, judge, world.map];
    let mut item = 0;
    let mut tell = async |name: String, value: f64| {
        item += 1;
        stage.figure(item, &name, Estimate::exactly(value), answers.len(), &used).await
    };
    for (at, name) in world.plan.reward.attributes.iter().enumerate() {
        let column = |values: Vec<Option<&Vec<f64>>>| values.into_iter().flatten().map(|v| v[at]).collect::<Vec<f64>>();
        let truth = column(answers.iter().map(|answer| answer.truth.as_ref()).collect());
        let said = column(answers.iter().map(|answer| answer.rated.as_ref()).collect());
        if truth.len() == said.len()
            && let Some(rho) = spearman(&truth, &said)?
        {
            tell(format!("rank correlation of {name} with the truth"), rho).await?;
        }
    }
    let said: Vec<Vec<f64>> = answers.iter().filter_map(|answer| Some(answer.said?.to_vec())).collect();
    let gold: Vec<Vec<f64>> = answers.iter().filter_map(|answer| Some(answer.gold?.to_vec())).collect();
    for (whose, objectives) in [("model", &said), ("gold", &gold)] {
        if objectives.len() < 2 {
            continue;
        }
        let column = |dim: usize| objectives.iter().map(|o| o[dim]).collect::<Vec<f64>>();
        if let Some(rho) = spearman(&column(0), &column(1))? {
            tell(format!("rank correlation of helpfulness with verbosity, {whose}"), rho).await?;
        }
        let correction = verbosity_corrections(objectives, 1)?[0];
        tell(format!("verbosity correction λ of helpfulness, {whose}"), correction.lambda).await?;
        if let Some(left) = correction.left {
            tell(format!("rank correlation of helpfulness with verbosity at λ, {whose}"), left).await?;
        }
    }
    // Of each attribute, where one of them is verbosity itself.
    let rated: Vec<Vec<f64>> = answers.iter().filter_map(|answer| answer.rated.clone()).collect();
    let attributes = &world.plan.reward.attributes;
    if let Some(verbosity) = attributes.iter().position(|name| name == "verbosity").filter(|_| rated.len() > 1) {
        for (name, correction) in attributes.iter().zip(verbosity_corrections(&rated, verbosity)?) {
            tell(format!("verbosity correction λ of {name}"), correction.lambda).await?;
        }
    }
    stage.done(1);
    Ok(())
}
