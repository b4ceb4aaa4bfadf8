//! What every handler needs: the store, and the names that clients and the store have for the same things.

use std::fmt::Display;

use tracker_store::{Error as StoreError, Experiment, ExperimentId, Run, RunId, Status, Store};

use crate::error::{Answer, Refusal};
use crate::limits;

/// The scheme of files that this server keeps.
pub(crate) const SCHEME: &str = "mlflow-artifacts:/";

/// The store as clients of the tracking protocol see it.
pub(crate) struct Api {
    pub(crate) store: Store,
    /// The experiment that clients call `0`.
    default: ExperimentId,
    /// Whether values that are too long are refused, and not cut.
    refuses_long: bool,
}

impl Api {
    pub(crate) fn new(store: Store, refuses_long: bool) -> tracker_store::Result<Self> {
        let default = store.default_experiment()?.id;
        Ok(Self { store, default, refuses_long })
    }

    /// A value as it is kept: its first `limit` characters, or none if it has more and this server refuses such.
    pub(crate) fn fitted<'a>(&self, text: &'a str, limit: usize, parameter: impl Display) -> Answer<&'a str> {
        if self.refuses_long && text.len() > limit {
            limits::check_length(text, limit, &parameter.to_string())?;
        }
        Ok(limits::truncated(text, limit))
    }

    /// What clients call an experiment.
    pub(crate) fn experiment_name(&self, id: ExperimentId) -> String {
        if id == self.default { "0".to_owned() } else { id.simple() }
    }

    /// The experiment that clients call so, if it can be one.
    pub(crate) fn experiment_id(&self, text: &str) -> Option<ExperimentId> {
        if text == "0" { Some(self.default) } else { text.parse().ok() }
    }

    /// The experiment that clients call so.
    pub(crate) fn experiment(&self, text: &str) -> Answer<Experiment> {
        let absent = || Refusal::absent(format!("No Experiment with id={text} exists"));
        let id = self.experiment_id(text).ok_or_else(absent)?;
        match self.store.experiment_by_id(id) {
            Err(StoreError::NotFound { .. }) => Err(absent()),
            answer => Ok(answer?),
        }
    }

    /// The run with this id.
    pub(crate) fn run(&self, text: &str) -> Answer<Run> {
        let absent = || Refusal::absent(format!("Run with id={text} not found"));
        let id: RunId = text.parse().map_err(|_| absent())?;
        match self.store.run(id) {
            Err(StoreError::NotFound { .. }) => Err(absent()),
            answer => Ok(answer?),
        }
    }

    /// The run with this id, which is not deleted.
    pub(crate) fn active_run(&self, text: &str) -> Answer<Run> {
        let run = self.run(text)?;
        if self.is_deleted(&run)? {
            return Err(Refusal::invalid(format!(
                "The run {text} must be in the 'active' state. Current state is deleted."
            )));
        }
        Ok(run)
    }

    /// Whether a run is deleted, or its experiment.
    pub(crate) fn is_deleted(&self, run: &Run) -> Answer<bool> {
        Ok(run.deleted.is_some() || self.store.experiment_by_id(run.experiment)?.archived)
    }

    /// Where files of an experiment are kept, for clients.
    pub(crate) fn artifact_location(&self, experiment: &Experiment) -> String {
        if experiment.artifacts.is_empty() {
            format!("{SCHEME}{}", self.experiment_name(experiment.id))
        } else {
            experiment.artifacts.trim_end_matches('/').to_owned()
        }
    }
}

/// What clients call a status.
pub(crate) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Running => "RUNNING",
        Status::Scheduled => "SCHEDULED",
        Status::Finished => "FINISHED",
        Status::Failed => "FAILED",
        Status::Interrupted => "KILLED",
    }
}

/// The status that clients call so, or give the number of.
pub(crate) fn status(text: &str) -> Option<Status> {
    match text {
        "RUNNING" | "1" => Some(Status::Running),
        "SCHEDULED" | "2" => Some(Status::Scheduled),
        "FINISHED" | "3" => Some(Status::Finished),
        "FAILED" | "4" => Some(Status::Failed),
        "KILLED" | "5" => Some(Status::Interrupted),
        _ => None,
    }
}

pub(crate) fn stage_name(is_deleted: bool) -> &'static str {
    if is_deleted { "deleted" } else { "active" }
}
