//! One candidate row, and the values of its fields wherever they are kept.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::field::Source;
use super::filter::Field;
use super::tables::{Record, Table, of_run, of_sample};
use super::value::Value;
use crate::error::Result;
use crate::id::{Digest, ExperimentId, Kind, NodeId, RunId};
use crate::keys;
use crate::lineage::Labels;
use crate::model::{Dataset, Experiment, Relation, Run, RunInput, Sample};
use crate::store::Store;

/// A row that may be part of the answer.
pub(super) struct Candidate {
    pub(super) table: Table,
    pub(super) node: NodeId,
    bytes: Vec<u8>,
    record: OnceCell<Record>,
    sample: OnceCell<Option<Sample>>,
}

impl Candidate {
    pub(super) fn new(table: Table, node: NodeId, bytes: Vec<u8>) -> Self {
        Self { table, node, bytes, record: OnceCell::new(), sample: OnceCell::new() }
    }

    /// The experiment of a run; none of other rows.
    pub(super) fn experiment(&self) -> Result<Option<ExperimentId>> {
        Ok(if let Record::Run(run) = self.record()? { Some(run.experiment) } else { None })
    }

    fn record(&self) -> Result<&Record> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let record = Record::decode(self.table, &self.node, &self.bytes)?;
        Ok(self.record.get_or_init(|| record))
    }
}

/// What is looked up beside the candidates, and kept while they are of the same run.
pub(super) struct Facts<'a> {
    store: &'a Store,
    labels: Labels<'a>,
    runs: BTreeMap<RunId, Run>,
    experiments: BTreeMap<ExperimentId, Experiment>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, labels: Labels::new(store), runs: BTreeMap::new(), experiments: BTreeMap::new() }
    }

    /// The value of a field; of several the first.
    pub(super) fn value(&mut self, candidate: &Candidate, source: &Source) -> Result<Value> {
        Ok(self.values(candidate, source)?.into_iter().next().unwrap_or_default())
    }

    /// The values of a field: one, for most.
    pub(super) fn values(&mut self, candidate: &Candidate, source: &Source) -> Result<Vec<Value>> {
        let value = match source {
            Source::Column(column) => self.column(candidate, column)?,
            Source::Sample(column) => self.sample(candidate)?.map_or(Value::Null, |sample| of_sample(sample, column)),
            Source::Run(column) => match candidate.node.owner() {
                Some(run) => of_run(self.run(run)?, column),
                None => Value::Null,
            },
            Source::Param(key) => self.text(candidate, |run| keys::param(run, key))?,
            Source::Tag(key) => self.text(candidate, |run| keys::run_tag(run, key))?,
            Source::Metric(key) => match candidate.node.owner() {
                Some(run) => self.store.head(run, key)?.map_or(Value::Null, |head| Value::Real(head.latest.value)),
                None => Value::Null,
            },
            Source::Dataset(column) => return self.datasets(candidate, column),
            Source::Through(link, field) => return self.through(candidate, link, field),
        };
        Ok(vec![value])
    }

    /// The values of a field of the node that a column names; none if it names none, or one of a kind without such a field.
    fn through(&mut self, candidate: &Candidate, link: &'static str, field: &Field) -> Result<Vec<Value>> {
        let node = match link {
            "sample" => self.store.sample_of(candidate.node)?.map(|(node, _)| node),
            _ => match self.column(candidate, link)? {
                // A verdict names its verifier by digest alone.
                Value::Text(text) if link == "verifier" => {
                    text.parse().ok().and_then(|digest: Digest| NodeId::content(Kind::Verifier, digest))
                }
                Value::Text(text) => text.parse().ok(),
                _ => None,
            },
        };
        let Some((node, table)) = node.and_then(|node: NodeId| Some((node, Table::of(node.kind())?))) else {
            return Ok(Vec::new());
        };
        let (Some(bytes), Ok(source)) = (self.store.record(&node)?, Source::of(field, table, "")) else {
            return Ok(Vec::new());
        };
        self.values(&Candidate::new(table, node, bytes), &source)
    }

    fn column(&mut self, candidate: &Candidate, column: &str) -> Result<Value> {
        let node = &candidate.node;
        if let Some(row) = node.row() {
            match column {
                "id" => return Ok(Value::Text(node.to_string())),
                "run" => return Ok(Value::Text(row.run.to_string())),
                "stage" => return Ok(Value::Text(self.labels.stage(&row)?.to_owned())),
                "item" => return Ok(Value::Int(row.item.into())),
                "k" => return Ok(Value::Int(row.k.into())),
                "text" if node.kind() == Kind::Verdict => {
                    return Ok(self.sample(candidate)?.map_or(Value::Null, |sample| Value::Text(sample.text.clone())));
                }
                _ => {}
            }
        }
        match (column, candidate.record()?) {
            ("id", _) if node.kind().is_content() => Ok(Value::Text(node.to_string())),
            ("experiment", Record::Run(run)) => Ok(Value::Text(self.experiment(run)?.name.clone())),
            (_, record) => Ok(record.value(column)),
        }
    }

    /// Whether a run is deleted, or its experiment.
    pub(super) fn is_deleted(&mut self, candidate: &Candidate) -> Result<bool> {
        match candidate.record()? {
            Record::Run(run) => Ok(run.deleted.is_some() || self.experiment(run)?.archived),
            _ => Ok(false),
        }
    }

    fn experiment(&mut self, run: &Run) -> Result<&Experiment> {
        use std::collections::btree_map::Entry;
        Ok(match self.experiments.entry(run.experiment) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.store.experiment_by_id(run.experiment)?),
        })
    }

    fn run(&mut self, id: RunId) -> Result<&Run> {
        use std::collections::btree_map::Entry;
        Ok(match self.runs.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.store.run(id)?),
        })
    }

    fn sample<'c>(&self, candidate: &'c Candidate) -> Result<Option<&'c Sample>> {
        if candidate.sample.get().is_none() {
            let sample = match candidate.node.kind() {
                Kind::Reward => self.store.sample_of(candidate.node)?.map(|(_, sample)| sample),
                _ => candidate.node.row().map(|row| self.store.sample(row)).transpose()?.flatten(),
            };
            candidate.sample.get_or_init(|| sample);
        }
        Ok(candidate.sample.get().and_then(Option::as_ref))
    }

    fn text(&self, candidate: &Candidate, key: impl Fn(RunId) -> Vec<u8>) -> Result<Value> {
        let Some(run) = candidate.node.owner() else {
            return Ok(Value::Null);
        };
        let value = self.store.get(&key(run))?;
        Ok(value.map_or(Value::Null, |value| Value::Text(String::from_utf8_lossy(&value).into_owned())))
    }

    fn datasets(&self, candidate: &Candidate, column: &str) -> Result<Vec<Value>> {
        let Some(run) = candidate.node.owner() else {
            return Ok(Vec::new());
        };
        let from = NodeId::run(run);
        let mut values = Vec::new();
        for entry in self.store.entries(&keys::edges_up(&from)) {
            let (key, _) = entry?;
            let (_, relation, _, to) = keys::edge_up_at(&from, &key)?;
            if let (Relation::Used, Kind::Dataset, Some(digest)) = (relation, to.kind(), to.digest()) {
                let said: Option<RunInput> = self.store.get_value(&keys::input(run, &digest))?;
                values.push(Value::Text(match (column, said) {
                    ("name", _) => self.store.content::<Dataset>(digest)?.name,
                    ("context", _) => self.store.content::<Dataset>(digest)?.purpose,
                    // Clients give datasets digests of their own.
                    (_, Some(said)) => said.digest,
                    (_, None) => digest.to_string(),
                }));
            }
        }
        Ok(values)
    }
}
