//! A recorded run, read back to be judged anew: its trials and outputs, without asking anybody.

use std::collections::BTreeMap;

use tracker_store::{Digest, Edge, NodeId, Problem, Recording, Relation, RowKey, RunId, StageId, Statement};

use super::CorrelationQa;
use super::outputs::{Model, OUTPUTS, Output, Said};
use super::question::Asked;
use super::trial::{Trial, read};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::study::Study as _;

/// Trials by what they are.
#[derive(Default)]
struct Back {
    asked: Vec<Asked>,
    trials: Vec<Trial>,
    places: BTreeMap<NodeId, usize>,
    questions: BTreeMap<Digest, usize>,
}

impl CorrelationQa {
    /// Trials and outputs of the run that the plan names.
    ///
    /// # Errors
    /// `Input` if there is no such run, it is of another study, or it has no outputs; those of recording.
    pub(super) async fn recorded(&self, lab: &Lab) -> Result<(Vec<Asked>, Vec<Trial>, Said)> {
        let run = lab.store().resolve_run(&self.outputs.run)?;
        let head = lab.store().run(run)?;
        let wrong = |what: String| Error::Input { what: format!("key `outputs.run`: {what}"), hint: None };
        if run == lab.run() || head.study != Self::NAME {
            return Err(wrong(format!("expected a run of `{}`, got run {run} of `{}`", Self::NAME, head.study)));
        }
        let more = aliases(&self.outputs.aliases)?;
        let (mut back, mut said) = (Back::default(), Said::default());
        let mut recording = Recording::new();
        for (stage, model) in stages(lab, run)? {
            let place = said.models.iter().position(|known| known.name == model.name).unwrap_or_else(|| {
                said.models.push(model);
                said.models.len() - 1
            });
            // Verdicts stand in this run where outputs stand in theirs.
            lab.stage(&stage, 0).await?;
            for entry in lab.store().samples(run, Some(StageId::of(&stage))) {
                let (node, sample) = entry?;
                let Some(row) = node.row() else { continue };
                let Some(trial) = back.trial(lab, sample.subject, row, &more)? else { continue };
                let (text, finish) = (sample.text, sample.finish);
                said.outputs.push(Output { model: place, trial, row, text, finish, chosen: None });
            }
        }
        if said.outputs.is_empty() {
            return Err(wrong(format!("run {run} has no outputs to judge")));
        }
        let records = head.record_digest.map_or_else(|| "not finished".to_owned(), |digest| digest.to_string());
        recording.put_param(lab.run(), "outputs/records", &records)?;
        recording.put_edge(lab.run(), &Edge::new(NodeId::run(lab.run()), Relation::Used, NodeId::run(run)))?;
        lab.record(recording).await?;
        lab.note(format!(
            "{} outputs of {} models are judged anew; nobody is asked for them",
            said.outputs.len(),
            said.models.len()
        ));
        let Back { asked, trials, .. } = back;
        Ok((asked, trials, said))
    }
}

/// The stages that have outputs, with whose they are, in the order they were begun.
fn stages(lab: &Lab, run: RunId) -> Result<Vec<(String, Model)>> {
    let mut stages = lab.store().stages(run)?;
    stages.sort_by_key(|stage| stage.ordinal);
    let of = |name: String| {
        let model = name.strip_prefix(OUTPUTS)?.strip_prefix('/')?.rsplit_once('/')?.0;
        let model = Model::named(model);
        Some((name, model))
    };
    Ok(stages.into_iter().filter_map(|stage| of(stage.name)).collect())
}

impl Back {
    /// The place of a trial, read on first sight; none for a sample that answers something else.
    fn trial(
        &mut self,
        lab: &Lab,
        subject: NodeId,
        row: RowKey,
        more: &BTreeMap<String, Vec<String>>,
    ) -> Result<Option<usize>> {
        if let Some(place) = self.places.get(&subject) {
            return Ok(Some(*place));
        }
        let Some(digest) = subject.digest().filter(|_| subject.kind() == tracker_store::Kind::Statement) else {
            return Ok(None);
        };
        let statement: Statement = lab.store().content(digest)?;
        let Some(problem) = statement.problem else { return Ok(None) };
        let name = lab.store().content::<Problem>(problem)?.name;
        let Some((mut trial, mut question)) = read(&statement, subject, row.k, &name) else { return Ok(None) };
        let next = self.asked.len();
        trial.question = *self.questions.entry(problem).or_insert(next);
        if trial.question == next {
            for (answer, names) in more {
                let known = question.aliases.entry(answer.clone()).or_default();
                known.extend(names.iter().filter(|name| !known.contains(name)).cloned().collect::<Vec<_>>());
            }
            let node = NodeId::content(tracker_store::Kind::Problem, problem);
            let node = node.ok_or_else(|| Error::Internal("a problem is a content".into()))?;
            self.asked.push(Asked { question, node });
        }
        self.places.insert(subject, self.trials.len());
        self.trials.push(trial);
        Ok(Some(self.trials.len() - 1))
    }
}

/// Other names of answers, from a file.
fn aliases(path: &str) -> Result<BTreeMap<String, Vec<String>>> {
    if path.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |what: String| Error::Input { what: format!("{path}: {what}"), hint: None };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("expected {{answer: [names]}}: {error}")))
}
