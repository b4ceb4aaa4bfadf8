//! What people call a node.

use std::collections::BTreeMap;

use crate::artifact::Manifest;
use crate::error::{Result, shortened};
use crate::id::{Kind, NodeId, RowKey, RunId, StageId};
use crate::keys;
use crate::model::{
    Checkpoint, Claim, Dataset, Endpoint, Figure, Front, Problem, Program, Recipe, Reward, Run, Sample, Sampling,
    Selection, Stage, Statement, Verdict, Verifier,
};
use crate::records::Stored;
use crate::store::Store;

/// Names nodes; remembers the names of stages.
pub(crate) struct Labels<'a> {
    store: &'a Store,
    stages: BTreeMap<(RunId, StageId), String>,
}

impl<'a> Labels<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, stages: BTreeMap::new() }
    }

    /// The label of a node, whose record is given; a node without a record is called by its id.
    pub(crate) fn of(&mut self, node: &NodeId, record: Option<&[u8]>) -> Result<String> {
        let Some(record) = record else {
            return Ok(node.to_string());
        };
        let key = keys::node(node);
        if let Some(row) = node.row() {
            let place = self.place(&row)?;
            return Ok(match node.kind() {
                Kind::Sample => format!("{place} {}", shortened(&Sample::decode(&key, record)?.text)),
                Kind::Verdict => format!("{place} {}", Verdict::decode(&key, record)?.outcome),
                Kind::Reward => reward_label(&place, &Reward::decode(&key, record)?),
                Kind::Selection => selection_label(&place, &Selection::decode(&key, record)?),
                Kind::Figure => figure_label(self.stage(&row)?, &Figure::decode(&key, record)?),
                _ => claim_label(&Claim::decode(&key, record)?),
            });
        }
        Ok(match node.kind() {
            Kind::Run => run_label(&Run::decode(&key, record)?),
            Kind::Problem => Problem::decode(&key, record).map(|problem| named(&problem.name, &problem.text))?,
            Kind::Statement => {
                Statement::decode(&key, record).map(|statement| named(&statement.name, &statement.text))?
            }
            Kind::Dataset => {
                Dataset::decode(&key, record).map(|data| format!("{} ({} rows)", data.name, data.n_rows))?
            }
            Kind::Checkpoint => Checkpoint::decode(&key, record)?.label,
            Kind::Verifier => {
                Verifier::decode(&key, record).map(|build| format!("{} {}", build.name, build.version))?
            }
            Kind::Program => {
                Program::decode(&key, record).map(|program| format!("{} {}", program.name, program.version))?
            }
            Kind::Endpoint => Endpoint::decode(&key, record)?.model,
            Kind::Sampling => Sampling::decode(&key, record)
                .map(|drawn| format!("temperature {}, top-p {}", drawn.temperature, drawn.top_p))?,
            Kind::Recipe => Recipe::decode(&key, record)
                .map(|recipe| format!("{} of {} checkpoints", recipe.method, recipe.parents.len()))?,
            Kind::Front => {
                Front::decode(&key, record).map(|front| format!("{} ({} points)", front.name, front.points.len()))?
            }
            Kind::Artifact => manifest_label(&Manifest::decode(&key, record)?),
            _ => node.to_string(),
        })
    }

    /// `stage/item/k`, with the stage's name.
    pub(crate) fn place(&mut self, row: &RowKey) -> Result<String> {
        Ok(format!("{}/{}/{}", self.stage(row)?, row.item, row.k))
    }

    /// The name of a row's stage.
    pub(crate) fn stage(&mut self, row: &RowKey) -> Result<&str> {
        use std::collections::btree_map::Entry;
        Ok(match self.stages.entry((row.run, row.stage)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let stage: Option<Stage> = self.store.get_value(&keys::stage(row.run, row.stage))?;
                entry.insert(stage.map_or_else(|| row.stage.to_string(), |stage| stage.name))
            }
        })
    }
}

fn named(name: &str, text: &str) -> String {
    if name.is_empty() { shortened(text) } else { name.to_owned() }
}

fn run_label(run: &Run) -> String {
    if run.name.is_empty() { run.id.short() } else { run.name.clone() }
}

fn reward_label(place: &str, reward: &Reward) -> String {
    let values: Vec<String> = reward.values.iter().map(ToString::to_string).collect();
    format!("{place} {} {}", reward.kind, shortened(&values.join(" ")))
}

fn selection_label(place: &str, selection: &Selection) -> String {
    format!("{place} {}: {} of {}", selection.rule, selection.chosen, selection.candidates.len())
}

fn figure_label(stage: &str, figure: &Figure) -> String {
    format!("{stage}/{} = {}", figure.name, figure.value)
}

fn claim_label(claim: &Claim) -> String {
    format!("{} {}", claim.id, if claim.holds { "holds" } else { "does not hold" })
}

fn manifest_label(manifest: &Manifest) -> String {
    match manifest.files.as_slice() {
        [file] => format!("{} {}", manifest.kind, file.path),
        files => format!("{} ({} files)", manifest.kind, files.len()),
    }
}
