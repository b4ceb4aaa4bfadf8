//! Experiments and runs: made, found, changed.
//!
//! Invariant: a run's index entries say what its record says; both change in one batch, which holds only if the record
//! is still what was read.

use std::collections::BTreeMap;

use tracker_engine::{Batch, Direction, Durability, KeyRange};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{ExperimentId, Kind, NodeId, RunId};
use crate::keys::{self, RunIndex};
use crate::model::{Ending, Experiment, NewRun, Run, Stage, Status};
use crate::reader::Entries;
use crate::records::Stored;
use crate::store::Store;

impl Store {
    /// The experiment named `name`, which is made if there is none.
    ///
    /// # Errors
    /// `Invalid` if the name cannot be one.
    pub fn experiment(&self, name: &str) -> Result<Experiment> {
        keys::check_text("experiment name", name)?;
        self.write("experiment", &name, Durability::Sync, |batch| self.plan_experiment(name, batch))
    }

    /// The experiment with this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn experiment_by_id(&self, id: ExperimentId) -> Result<Experiment> {
        self.get_value(&keys::experiment(id))?.ok_or_else(|| Error::missing("experiment", id))
    }

    /// The experiment named `name`, if there is one.
    ///
    /// # Errors
    /// The engine's.
    pub fn find_experiment(&self, name: &str) -> Result<Option<Experiment>> {
        let Some(id) = self.get(&keys::experiment_name(name))? else {
            return Ok(None);
        };
        let id = id.try_into().map_err(|_| Error::corrupt(&keys::experiment_name(name), "expected sixteen bytes"))?;
        self.experiment_by_id(ExperimentId::from_bytes(id)).map(Some)
    }

    /// Every experiment, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub fn experiments(&self) -> Result<Vec<Experiment>> {
        self.entries(&keys::experiments())
            .map(|entry| entry.and_then(|(key, record)| Experiment::decode(&key, &record)))
            .collect()
    }

    /// Makes a run: it has an id, began now and is running. It survives the death of the process at once and a loss of power in a while,
    /// with all that is recorded of it meanwhile.
    ///
    /// # Errors
    /// `Invalid` if the run's, the experiment's or the study's name cannot be one.
    pub fn create_run(&self, new: &NewRun) -> Result<Run> {
        new.check()?;
        let id = RunId::fresh();
        let run = self.write("run", &id, Durability::Os, |batch| self.plan_run(new, id, batch, Status::Running))?;
        self.known().runs.insert(id);
        Ok(run)
    }

    /// Adds a run to a batch, running or ended.
    pub(crate) fn plan_run(&self, new: &NewRun, id: RunId, batch: &mut Batch, status: Status) -> Result<Run> {
        let experiment = self.plan_experiment(&new.experiment, batch)?;
        let mut run = new.begin(id, experiment.id);
        if status != Status::Running {
            run.status = status;
            run.ended = Some(run.started);
        }
        put_new_run(&run, batch)?;
        Ok(run)
    }

    /// The run with this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn run(&self, id: RunId) -> Result<Run> {
        self.get_value(&keys::node(&NodeId::run(id)))?.ok_or_else(|| Error::missing("run", id))
    }

    /// Every run, newest first, read as it is asked for.
    pub fn runs(&self) -> impl Iterator<Item = Result<Run>> + use<> {
        let prefix = keys::nodes(Kind::Run);
        Entries::new(self.read(), &KeyRange::prefix(&prefix), Direction::Descending)
            .map(|entry| entry.and_then(|(key, record)| Run::decode(&key, &record)))
    }

    /// Records that a run ended, now.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if `ending` says it is running.
    pub fn end_run(&self, id: RunId, ending: &Ending) -> Result<Run> {
        if ending.status == Status::Running {
            return Err(Error::invalid("the status a run ends with", "finished, failed or interrupted", ending.status));
        }
        self.change_run(id, |run| {
            run.status = ending.status;
            run.message.clone_from(&ending.message);
            run.ended = Some(Timestamp::now());
            run.record_digest = ending.record_digest;
        })
    }

    /// Records that a run that was interrupted, failed or killed goes on.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn resume_run(&self, id: RunId) -> Result<Run> {
        self.change_run(id, |run| {
            run.status = Status::Running;
            run.message.clear();
            run.ended = None;
            run.record_digest = None;
        })
    }

    /// Gives a run another name.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the name cannot be one.
    pub fn rename_run(&self, id: RunId, name: &str) -> Result<Run> {
        keys::check_text("run name", name)?;
        self.change_run(id, |run| name.clone_into(&mut run.name))
    }

    fn change_run(&self, id: RunId, change: impl Fn(&mut Run)) -> Result<Run> {
        self.write("run", &id, Durability::Sync, |batch| self.plan_change(id, &change, batch))
    }

    /// Changes the record of a run, and what follows from it.
    pub(crate) fn plan_change(&self, id: RunId, change: impl Fn(&mut Run), batch: &mut Batch) -> Result<Run> {
        let key = keys::node(&NodeId::run(id));
        let record = self.get(&key)?.ok_or_else(|| Error::missing("run", id))?;
        let before = Run::decode(&key, &record)?;
        let mut after = before.clone();
        change(&mut after);
        batch.require_equals(&key, &record);
        batch.put(&key, &after.encode()?);
        for index in indexes(&before) {
            batch.delete(&keys::run_index_entry(index, id));
        }
        for index in indexes(&after) {
            batch.put(&keys::run_index_entry(index, id), &[]);
        }
        Ok(after)
    }

    /// The params of a run, by key.
    ///
    /// # Errors
    /// The engine's.
    pub fn params(&self, run: RunId) -> Result<BTreeMap<String, String>> {
        self.texts(&keys::params(run))
    }

    /// The tags of a run, by key.
    ///
    /// # Errors
    /// The engine's.
    pub fn tags(&self, run: RunId) -> Result<BTreeMap<String, String>> {
        self.texts(&keys::run_tags(run))
    }

    /// The stages of a run, in order.
    ///
    /// # Errors
    /// The engine's.
    pub fn stages(&self, run: RunId) -> Result<Vec<Stage>> {
        let stages =
            self.entries(&keys::stages(run)).map(|entry| entry.and_then(|(key, record)| Stage::decode(&key, &record)));
        let mut stages: Vec<Stage> = stages.collect::<Result<_>>()?;
        stages.sort_by(|a, b| (a.ordinal, &a.name).cmp(&(b.ordinal, &b.name)));
        Ok(stages)
    }

    fn texts(&self, prefix: &[u8]) -> Result<BTreeMap<String, String>> {
        self.entries(prefix)
            .map(|entry| {
                let (key, value) = entry?;
                let value = String::from_utf8(value).map_err(|_| Error::corrupt(&key, "expected UTF-8"))?;
                Ok((keys::name_at(&key)?, value))
            })
            .collect()
    }

    fn plan_experiment(&self, name: &str, batch: &mut Batch) -> Result<Experiment> {
        if let Some(experiment) = self.find_experiment(name)? {
            return Ok(experiment);
        }
        let created = Timestamp::now();
        let experiment = Experiment {
            id: ExperimentId::fresh(),
            name: name.to_owned(),
            created,
            archived: false,
            tags: BTreeMap::new(),
            updated: created,
            artifacts: String::new(),
        };
        let name_key = keys::experiment_name(name);
        batch.require_absent(&name_key);
        batch.put(&name_key, experiment.id.as_bytes());
        batch.put(&keys::experiment(experiment.id), &experiment.encode()?);
        Ok(experiment)
    }
}

impl NewRun {
    /// Refuses names that cannot be ones.
    pub(crate) fn check(&self) -> Result<()> {
        keys::check_text("experiment name", &self.experiment)?;
        for (what, text) in [("study name", &self.study), ("run name", &self.name)] {
            if !text.is_empty() {
                keys::check_text(what, text)?;
            }
        }
        Ok(())
    }

    fn begin(&self, id: RunId, experiment: ExperimentId) -> Run {
        Run {
            id,
            name: self.name.clone(),
            experiment,
            study: self.study.clone(),
            plan: self.plan.clone(),
            seed: self.seed,
            device: self.device.clone(),
            host: self.host.clone(),
            versions: self.versions.clone(),
            status: Status::Running,
            message: String::new(),
            started: Timestamp::now(),
            ended: None,
            record_digest: None,
            user: String::new(),
            deleted: None,
        }
    }
}

/// Adds a run that is not there.
pub(crate) fn put_new_run(run: &Run, batch: &mut Batch) -> Result<()> {
    let key = keys::node(&NodeId::run(run.id));
    batch.require_absent(&key);
    batch.put(&key, &run.encode()?);
    for index in indexes(run) {
        batch.put(&keys::run_index_entry(index, run.id), &[]);
    }
    Ok(())
}

pub(crate) fn indexes(run: &Run) -> impl Iterator<Item = RunIndex<'_>> {
    [
        Some(RunIndex::Status(run.status)),
        Some(RunIndex::Experiment(run.experiment)),
        (!run.study.is_empty()).then_some(RunIndex::Study(&run.study)),
        (!run.name.is_empty()).then_some(RunIndex::Name(&run.name)),
        run.id.as_bytes().last_chunk().map(RunIndex::Short),
        Some(RunIndex::Started(run.experiment, run.started.millis())),
    ]
    .into_iter()
    .flatten()
}
