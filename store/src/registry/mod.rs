//! Models that clients logged, and names under which versions of models are kept.
//!
//! A logged model that is ready is a version of the artifact `models/NAME`; a version of a registered model one of `registry/NAME`. So
//! lineage, `artifact`, `du` and exports see them as what they are: files with an ancestry. What is beside the files lies in records here.
//!
//! Invariants: a model and what follows from it change in one batch; a number of a version is given once.

mod versions;

use std::collections::BTreeMap;

use tracker_engine::{Batch, Durability};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, Kind, NodeId, RunId};
use crate::keys::{self, Parsed};
use crate::model::{Edge, LoggedModel, Measured, ModelState, Relation};
use crate::recording::Recording;
use crate::records::Stored as _;
use crate::store::Store;
use crate::transfer::check_mark;

pub use versions::NewModelVersion;

/// What a logged model is made of before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLoggedModel {
    /// The experiment it belongs to.
    pub experiment: ExperimentId,
    /// Its name; need not be unique.
    pub name: String,
    /// What kind of model it is; may be empty.
    pub model_type: String,
    /// The run that makes it, if one does.
    pub run: Option<RunId>,
    /// Its params.
    pub params: BTreeMap<String, String>,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
}

/// A point of a run that measures a logged model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The key of the series.
    pub key: String,
    /// The step it was taken at.
    pub step: i64,
    /// When it was taken, in milliseconds since 1970.
    pub time: i64,
    /// What was measured.
    pub value: f64,
    /// The run it was logged to.
    pub run: RunId,
    /// On which dataset.
    pub on: Measured,
}

impl Store {
    /// Makes a logged model, whose files are on their way.
    ///
    /// # Errors
    /// `NotFound` if there is no such experiment or run; `Invalid` if the name cannot be one, or a tag is an import's mark.
    pub fn log_model(&self, new: &NewLoggedModel) -> Result<LoggedModel> {
        keys::check_text("model name", &new.name)?;
        check_mark(None, &new.tags)?;
        self.experiment_by_id(new.experiment)?;
        new.run.map(|run| self.run(run)).transpose()?;
        let now = Timestamp::now();
        let model = LoggedModel {
            id: format!("m-{}", crate::error::hex(crate::clock::new_uuid().as_bytes())),
            experiment: new.experiment,
            name: new.name.clone(),
            model_type: new.model_type.clone(),
            state: ModelState::Pending,
            run: new.run,
            created: now,
            updated: now,
            params: new.params.clone(),
            tags: new.tags.clone(),
            deleted: None,
            manifest: None,
            takers: Vec::new(),
        };
        self.write("model", &model.id, Durability::Os, |batch| {
            let key = keys::logged(&model.id);
            batch.require_absent(&key);
            batch.put(&key, &model.encode()?);
            batch.put(&keys::logged_in(model.experiment, &model.id), &[]);
            Ok(())
        })?;
        Ok(model)
    }

    /// The logged model with this id, deleted ones too.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn logged_model(&self, id: &str) -> Result<LoggedModel> {
        self.get_value(&keys::logged(id))?.ok_or_else(|| Error::missing("model", id))
    }

    /// Changes params, tags and whether a logged model is deleted. What else `change` does is not kept.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it changes an import's mark; the errors of `change`. Then nothing is changed.
    pub fn change_model(&self, id: &str, change: impl Fn(&mut LoggedModel) -> Result<()>) -> Result<LoggedModel> {
        self.write("model", &id, Durability::Os, |batch| {
            let (before, record) = self.model_record(id)?;
            let mut after = before.clone();
            change(&mut after)?;
            check_mark(Some(&before.tags), &after.tags)?;
            let (params, tags, deleted) = (after.params, after.tags, after.deleted);
            put_model(&record, LoggedModel { params, tags, deleted, ..before }, batch)
        })
    }

    /// Says that the files of a logged model are whole, or did not come. Ready with files, it becomes a version of the artifact
    /// `models/NAME`, with an edge to the run that made it and from those that took it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the name cannot be an artifact's.
    pub fn finish_model(&self, id: &str, state: ModelState) -> Result<LoggedModel> {
        self.write("model", &id, Durability::Os, |batch| {
            let (before, record) = self.model_record(id)?;
            let mut after = LoggedModel { state, ..before };
            if state == ModelState::Ready && after.manifest.is_none() {
                let name = format!("models/{}", after.name);
                let version = self.plan_version_of_loose(&after.owner(), "", &name, after.run, batch)?;
                if let Some(version) = version {
                    self.plan_model_edges(&after, version.manifest, batch)?;
                    after.manifest = Some(version.manifest);
                    after.takers.clear();
                }
            }
            put_model(&record, after, batch)
        })
    }

    fn plan_model_edges(&self, model: &LoggedModel, manifest: Digest, batch: &mut Batch) -> Result<()> {
        let node = NodeId::content_of(Kind::Artifact, manifest);
        let mut edges = Recording::new();
        if let Some(run) = model.run {
            edges.put_edge(run, &Edge::new(node, Relation::GeneratedBy, NodeId::run(run)))?;
        }
        for run in &model.takers {
            edges.put_edge(*run, &Edge::new(NodeId::run(*run), Relation::Used, node))?;
        }
        self.plan(&edges, batch)
    }

    /// Records that a run took these logged models. Those that are ready get their edge now, the others when they are.
    ///
    /// # Errors
    /// `NotFound` if one of them is not there: then nothing is written.
    pub fn take_models(&self, run: RunId, models: &[String], recording: &Recording) -> Result<()> {
        self.check_runs(recording)?;
        self.write("run", &run, Durability::Os, |batch| {
            let mut edges = Recording::new();
            for id in models {
                let (before, record) = self.model_record(id)?;
                edges.put_model_link(run, crate::Way::In, id, 0)?;
                match before.manifest {
                    Some(manifest) => {
                        let node = NodeId::content_of(Kind::Artifact, manifest);
                        edges.put_edge(run, &Edge::new(NodeId::run(run), Relation::Used, node))?;
                    }
                    None if before.takers.contains(&run) => {}
                    None => {
                        let takers = [before.takers.as_slice(), &[run]].concat();
                        put_model(&record, LoggedModel { takers, ..before }, batch)?;
                    }
                }
            }
            self.plan(&edges, batch)?;
            self.plan(recording, batch)
        })
    }

    /// The logged models of an experiment that are not deleted, newest first, from the one before `before` on.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn logged_models(
        &self,
        experiment: ExperimentId,
        before: Option<&str>,
    ) -> impl Iterator<Item = Result<LoggedModel>> + use<> {
        let span = crate::reader::Span::prefix(&keys::logged_in(experiment, ""));
        let direction = tracker_engine::Direction::Descending;
        let span = match before {
            Some(id) => span.past(&keys::logged_in(experiment, id), direction),
            None => span,
        };
        let store = self.clone();
        let entries = crate::reader::Entries::over(self.read(), span, direction);
        entries
            .map(move |entry| {
                let (key, _) = entry?;
                match keys::parse(&key) {
                    Some(Parsed::LoggedIn { model, .. }) => store.logged_model(model),
                    _ => Err(Error::corrupt(&key, "expected an experiment and a model in the key")),
                }
            })
            .filter(|model| model.as_ref().map_or(true, |model| model.deleted.is_none()))
    }

    /// All that was measured of a logged model, by key, step, time and value.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn measurements(&self, model: &str) -> Result<Vec<Measurement>> {
        let entries = self.entries(&keys::measured_of(model));
        entries
            .map(|entry| {
                let (key, record) = entry?;
                let Some(Parsed::Measured { key: name, point, run, .. }) = keys::parse(&key) else {
                    return Err(Error::corrupt(&key, "expected a model, a key, a point and a run in the key"));
                };
                let crate::Point { step, time, value } = crate::Point::from_sortable(&point);
                Ok(Measurement { key: name.to_owned(), step, time, value, run, on: Measured::decode(&key, &record)? })
            })
            .collect()
    }

    fn model_record(&self, id: &str) -> Result<(LoggedModel, Vec<u8>)> {
        let key = keys::logged(id);
        let record = self.get(&key)?.ok_or_else(|| Error::missing("model", id))?;
        Ok((LoggedModel::decode(&key, &record)?, record))
    }
}

/// Puts a changed model in place of `record`.
fn put_model(record: &[u8], model: LoggedModel, batch: &mut Batch) -> Result<LoggedModel> {
    let key = keys::logged(&model.id);
    let model = LoggedModel { updated: Timestamp::now(), ..model };
    batch.require_equals(&key, record);
    batch.put(&key, &model.encode()?);
    Ok(model)
}
