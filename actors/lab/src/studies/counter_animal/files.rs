//! Predictions of files: read, kept, restricted to few labels where scores allow it, measured, compared.

use std::collections::BTreeMap;

use tracker_store::{Claim, Dataset, Digest, Edge, Kind, NodeId, Program, Recording, Relation};

use super::families::{Census, Member, families};
use super::measure::{Measured, Shown, measure};
use super::models::{Model, known, models};
use super::settings::CounterAnimal;
use super::tables::soundness;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::predictions::{Answers, Collector, Kept, Predictions, nearest_labels, record};
use crate::parts::robustness::{Cells, suspects};
use crate::parts::rows::{self, Options};

type Found = (Claim, Vec<NodeId>);

/// Lines of a file that are not blank, as they are.
///
/// # Errors
/// `Input` if it cannot be read, or has none.
pub(super) fn lines(path: &str, what: &str) -> Result<Vec<String>> {
    let wrong = |what: String| Error::Input { what: format!("{path}: {what}"), hint: None };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() { Err(wrong(format!("expected {what}, one a line, got none"))) } else { Ok(lines) }
}

/// Puts lines as a dataset of their own, such as a label space or a prompt set, named by its digest.
pub(super) fn put_lines(
    lab: &Lab,
    recording: &mut Recording,
    name: &str,
    purpose: &str,
    lines: &[String],
) -> Result<NodeId> {
    let rows: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let content = Digest::of(rows.as_bytes());
    let file = lab.put_files("dataset", name, &[("rows.txt".to_owned(), rows.into_bytes())])?;
    let (name, purpose, n_rows) = (name.to_owned(), purpose.to_owned(), lines.len() as u64);
    let node = recording.put(lab.run(), &Dataset { name, purpose, n_rows, content, rows: Some(file) })?;
    if let Some(files) = NodeId::content(Kind::Artifact, file) {
        recording.put_edge(lab.run(), &Edge::new(files, Relation::GeneratedBy, node))?;
    }
    Ok(node)
}

/// Reads predictions, and says what was found of them.
///
/// # Errors
/// `Input` for a wrong row, by its place; those of recording.
pub(super) async fn predictions(lab: &Lab, study: &CounterAnimal, discovery: NodeId) -> Result<Vec<Found>> {
    let plan = &study.data;
    if plan.predictions.is_empty() {
        return Ok(vec![]);
    }
    let labels = if plan.labels.is_empty() { vec![] } else { lines(&plan.labels, "labels")? };
    let collector = Collector::new(&labels, plan.n_top as usize)?;
    rows::read(lab, "predictions", &collector, &plan.predictions, Options::new("", plan.skip_bad)).await?;
    let predictions = collector.finish()?;
    let mut recording = Recording::new();
    let mut nodes = Nodes::default();
    if !labels.is_empty() {
        nodes.space = Some(put_lines(lab, &mut recording, "label space", "labels", &labels)?);
    }
    for set in &predictions.sets {
        let name = format!("prompt set {}", set.prompts);
        let version = String::new();
        let settings = "as the file of predictions names it".to_owned();
        let node = recording.put(lab.run(), &Program { name, version, settings })?;
        nodes.prompts.insert(set.prompts.clone(), node);
    }
    lab.record(recording).await?;
    analyse(lab, study, "predictions", predictions, discovery, nodes).await
}

/// What answers came from, as far as it is recorded.
#[derive(Default)]
pub(super) struct Nodes {
    /// Prompt sets by name.
    pub(super) prompts: BTreeMap<String, NodeId>,
    /// Models by name; others are recorded by what is known of them.
    pub(super) models: BTreeMap<String, NodeId>,
    /// The label space of scores.
    pub(super) space: Option<NodeId>,
    /// What else all answers came from.
    pub(super) rest: Vec<NodeId>,
}

/// Keeps predictions, measures and compares them.
///
/// # Errors
/// Those of recording; `Input` if a model is not known, or a class's label is not among its nearest.
pub(super) async fn analyse(
    lab: &Lab,
    study: &CounterAnimal,
    name: &str,
    mut predictions: Predictions,
    discovery: NodeId,
    nodes: Nodes,
) -> Result<Vec<Found>> {
    let models = models(lab, study).await?;
    let few = few_labels(lab, study, &mut predictions).await?;
    let made_of: Vec<NodeId> =
        nodes.space.iter().chain(nodes.prompts.values()).chain(&nodes.rest).copied().chain(few).collect();
    let kept = record(lab, name, &predictions, &[discovery], &made_of).await?;
    let mut of_models = Vec::with_capacity(predictions.sets.len());
    for set in &predictions.sets {
        of_models.push(known(study, &models, &set.model)?);
    }
    let shown = shown(lab, &predictions, &of_models, &kept, &nodes, few).await?;
    let measured = measure(lab, study, name, &predictions, &shown).await?;
    let mut found = vec![sound(lab, study, name, &predictions, &measured).await?];
    let member = |((set, model), nodes): ((&Answers, &Model), &[NodeId; 3])| Member {
        model: model.shown(),
        // Models of which nothing is known are one family.
        family: if model.family.is_empty() { "models".into() } else { model.family.clone() },
        prompts: set.prompts.clone(),
        space: set.space.clone(),
        is_near: model.is_near(&study.discovery),
        nodes: *nodes,
    };
    let members: Vec<Member> = predictions.sets.iter().zip(&of_models).zip(&measured.nodes).map(member).collect();
    found.extend(families(lab, study, &Census::measured(name, &members, &measured)).await?);
    Ok(found)
}

/// Adds what sets with scores answer over the few labels of each class, by the discovery model's scores; returns the lists' node.
async fn few_labels(lab: &Lab, study: &CounterAnimal, predictions: &mut Predictions) -> Result<Option<NodeId>> {
    let plan = &study.discovery;
    let is_discovery = |set: &&Answers| set.model == plan.model && set.prompts == plan.prompts && set.scores.is_some();
    let Some(discovery) = predictions.sets.iter().find(is_discovery) else {
        if predictions.sets.iter().any(|set| set.scores.is_some()) {
            lab.note(format!(
                "no space of {} labels: there are scores, and none of the discovery model `{}` under prompts `{}`",
                plan.n_labels, plan.model, plan.prompts
            ));
        }
        return Ok(None);
    };
    let lists = nearest_labels(predictions, discovery, plan.n_labels as usize)?;
    let space = format!("1v{}", plan.n_labels);
    let n_top = study.data.n_top as usize;
    let few: Vec<Answers> =
        predictions.sets.iter().filter_map(|set| predictions.restricted(set, &lists, &space, n_top)).collect();
    let line = |(class, labels): (&u32, &Vec<u32>)| {
        let labels: Vec<&str> = labels.iter().map(|label| predictions.labels.name(*label)).collect();
        serde_json::json!({"class": predictions.labels.name(*class), "labels": labels}).to_string()
    };
    let lines: Vec<String> = lists.iter().map(line).collect();
    predictions.sets.extend(few);
    let mut recording = Recording::new();
    let node = put_lines(lab, &mut recording, &format!("label space {space}"), "labels", &lines)?;
    lab.record(recording).await?;
    Ok(Some(node))
}

/// How each set is recorded.
async fn shown(
    lab: &Lab,
    predictions: &Predictions,
    models: &[Model],
    kept: &Kept,
    nodes: &Nodes,
    few: Option<NodeId>,
) -> Result<Vec<Shown>> {
    let mut recording = Recording::new();
    let mut all = Vec::with_capacity(models.len());
    for (set, model) in predictions.sets.iter().zip(models) {
        let of_model = match nodes.models.get(&set.model) {
            Some(node) => *node,
            None => model.put(lab, &mut recording)?,
        };
        // Of the few-label space there are no scores any more.
        let space = if set.scores.is_none() && few.is_some() { few } else { nodes.space };
        let used =
            [kept.predictions, of_model].into_iter().chain(nodes.prompts.get(&set.prompts).copied()).chain(space);
        let name = format!("{}, {}, {}", model.shown(), set.prompts, set.space);
        all.push(Shown { name, used: used.collect(), by_class: true });
    }
    lab.record(recording).await?;
    Ok(all)
}

/// Whether two keys have the very same accuracies of every class.
async fn sound(
    lab: &Lab,
    study: &CounterAnimal,
    name: &str,
    predictions: &Predictions,
    measured: &Measured,
) -> Result<Found> {
    let cells = |(at, set): (usize, &Answers)| Cells {
        place: String::new(),
        key: set.name(),
        accuracy: measured.accuracies[at],
        drop: None,
        more: measured.grid.by_class(at).iter().flat_map(|of| of.accuracy).collect(),
    };
    let cells: Vec<Cells> = predictions.sets.iter().enumerate().map(cells).collect();
    soundness(lab, name, &suspects(&cells, study.robustness.drop_tolerance), &measured.nodes).await
}
