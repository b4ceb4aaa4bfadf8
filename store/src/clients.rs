//! Runs and experiments as clients of the tracking protocol make and change them: with times and users of their own, deleted and
//! restored, tags set and taken away.
//!
//! Invariants: what one request changes is one batch; a deleted run or experiment keeps all it has, and is hidden. A run of a deleted
//! experiment counts as deleted, and is what it was when the experiment is restored.

use std::collections::BTreeMap;

use tracker_engine::Durability;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{ExperimentId, RunId};
use crate::keys;
use crate::model::{ClientRun, Experiment, Plan, Run, RunChange, Status};
use crate::recording::Recording;
use crate::records::Stored as _;
use crate::store::Store;
use crate::transfer::check_tag;

/// The name of the experiment that runs belong to whose clients name none.
const DEFAULT: &str = "Default";

impl Store {
    /// The experiment that runs belong to whose clients name none; made if there is none. It keeps its id when it is renamed.
    ///
    /// # Errors
    /// The engine's.
    pub fn default_experiment(&self) -> Result<Experiment> {
        let id = ExperimentId::from_bytes([0; 16]);
        self.write("experiment", &DEFAULT, Durability::Os, |batch| {
            let here = match self.get_value(&keys::experiment(id))? {
                None => self.find_experiment(DEFAULT)?,
                here => here,
            };
            if let Some(experiment) = here {
                return Ok(experiment);
            }
            let created = Timestamp::now();
            let experiment = Experiment {
                id,
                name: DEFAULT.to_owned(),
                created,
                archived: false,
                tags: BTreeMap::new(),
                updated: created,
                artifacts: String::new(),
            };
            let name_key = keys::experiment_name(DEFAULT);
            batch.require_absent(&name_key);
            batch.put(&name_key, id.as_bytes());
            batch.put(&keys::experiment(id), &experiment.encode()?);
            Ok(experiment)
        })
    }

    /// Makes an experiment. `artifacts` is where files of its runs are kept, as a URI; empty for this store.
    ///
    /// # Errors
    /// `Conflict` if there is one of that name; `Invalid` if the name cannot be one.
    pub fn create_experiment(
        &self,
        name: &str,
        artifacts: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<Experiment> {
        keys::check_text("experiment name", name)?;
        let (id, created) = (ExperimentId::fresh(), Timestamp::now());
        let experiment = Experiment {
            id,
            name: name.to_owned(),
            created,
            archived: false,
            tags: tags.clone(),
            updated: created,
            artifacts: artifacts.to_owned(),
        };
        self.write("experiment", &name, Durability::Os, |batch| {
            if self.find_experiment(name)?.is_some() {
                return Err(Error::conflict("experiment", name, "absent", "another of that name"));
            }
            let name_key = keys::experiment_name(name);
            batch.require_absent(&name_key);
            batch.put(&name_key, id.as_bytes());
            batch.put(&keys::experiment(id), &experiment.encode()?);
            Ok(())
        })?;
        Ok(experiment)
    }

    /// Changes an experiment: its name, its tags, whether it is archived. What else `change` does is not kept.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if another has the new name; `Invalid` if that cannot be one.
    pub fn change_experiment(&self, id: ExperimentId, change: impl Fn(&mut Experiment)) -> Result<Experiment> {
        let key = keys::experiment(id);
        self.write("experiment", &id, Durability::Os, |batch| {
            let record = self.get(&key)?.ok_or_else(|| Error::missing("experiment", id))?;
            let before = Experiment::decode(&key, &record)?;
            let mut after = before.clone();
            change(&mut after);
            let after = Experiment {
                id,
                created: before.created,
                artifacts: before.artifacts.clone(),
                updated: Timestamp::now(),
                ..after
            };
            if after.name != before.name {
                keys::check_text("experiment name", &after.name)?;
                if self.find_experiment(&after.name)?.is_some() {
                    return Err(Error::conflict("experiment", &after.name, "absent", "another of that name"));
                }
                let name_key = keys::experiment_name(&after.name);
                batch.require_absent(&name_key);
                batch.put(&name_key, id.as_bytes());
                batch.delete(&keys::experiment_name(&before.name));
            }
            batch.require_equals(&key, &record);
            batch.put(&key, &after.encode()?);
            Ok(after)
        })
    }

    /// Makes a run that a client logs.
    ///
    /// # Errors
    /// `NotFound` if there is no such experiment; `Invalid` if a name or a key cannot be one.
    pub fn log_run(&self, new: &ClientRun) -> Result<Run> {
        check_name(&new.name)?;
        new.tags.keys().try_for_each(|key| check_tag(key))?;
        self.experiment_by_id(new.experiment)?;
        let run = Run {
            id: RunId::fresh(),
            name: new.name.clone(),
            experiment: new.experiment,
            study: String::new(),
            plan: Plan::new(""),
            seed: 0,
            device: String::new(),
            host: String::new(),
            versions: BTreeMap::new(),
            status: Status::Running,
            message: String::new(),
            started: new.started,
            ended: None,
            record_digest: None,
            user: new.user.clone(),
            deleted: None,
        };
        self.write("run", &run.id, Durability::Os, |batch| {
            crate::runs::put_new_run(&run, batch)?;
            for (key, value) in &new.tags {
                batch.put(&keys::run_tag(run.id, key), value.as_bytes());
            }
            Ok(())
        })?;
        self.known().runs.insert(run.id);
        Ok(run)
    }

    /// Changes what a client may change of a run, and writes what `recording` stages, at once.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if the name cannot be one; those of [`Store::commit`].
    pub fn change_logged_run(&self, id: RunId, change: &RunChange, recording: &Recording) -> Result<Run> {
        if let Some(name) = &change.name {
            check_name(name)?;
        }
        self.check_runs(recording)?;
        self.write("run", &id, Durability::Os, |batch| {
            let run = self.plan_change(
                id,
                |run| {
                    if let Some(name) = &change.name {
                        name.clone_into(&mut run.name);
                    }
                    if let Some(status) = change.status {
                        run.status = status;
                    }
                    run.ended = change.ended.or(run.ended);
                },
                batch,
            )?;
            self.plan(recording, batch)?;
            Ok(run)
        })
    }

    /// Hides a run, or shows it again. Nothing of it is removed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_run(&self, id: RunId, is_deleted: bool) -> Result<Run> {
        let now = Timestamp::now();
        self.write("run", &id, Durability::Os, |batch| {
            self.plan_change(id, |run| run.deleted = is_deleted.then_some(run.deleted.unwrap_or(now)), batch)
        })
    }

    /// Takes a tag of a run away. Says whether it was there.
    ///
    /// # Errors
    /// `Invalid` if the key cannot be one; the engine's.
    pub fn remove_tag(&self, run: RunId, key: &str) -> Result<bool> {
        check_tag(key)?;
        self.remove(&keys::run_tag(run, key))
    }

    /// One tag of a run.
    ///
    /// # Errors
    /// The engine's.
    pub fn tag(&self, run: RunId, key: &str) -> Result<Option<String>> {
        self.get(&keys::run_tag(run, key)).map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// One param of a run.
    ///
    /// # Errors
    /// The engine's.
    pub fn param(&self, run: RunId, key: &str) -> Result<Option<String>> {
        self.get(&keys::param(run, key)).map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() { Ok(()) } else { keys::check_text("run name", name) }
}
