//! Experiments, runs and their stages.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, RunId, StageId};

/// A named group of runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Its id.
    pub id: ExperimentId,
    /// Its name, unique in the store.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is hidden from listings.
    pub archived: bool,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Where files of its runs are kept, as a URI that clients were given; empty for this store.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifacts: String,
}

/// What a run does, as text that says it whole, and the name of that text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The resolved plan in canonical TOML; empty for runs that have none.
    pub text: String,
    /// The digest of the text.
    pub digest: Digest,
}

impl Plan {
    /// The plan with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { digest: Digest::of(text.as_bytes()), text }
    }
}

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has not ended, or was killed before it could say so.
    Running,
    /// It ended as planned.
    Finished,
    /// It ended with an error.
    Failed,
    /// It was stopped, and can be resumed.
    Interrupted,
    /// It has not begun; clients that log runs say so.
    Scheduled,
}

impl Status {
    /// Every status, in stored order.
    pub const ALL: [Self; 5] = [Self::Running, Self::Finished, Self::Failed, Self::Interrupted, Self::Scheduled];

    /// Its name: one lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Scheduled => "scheduled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Status {
    type Err = Error;

    /// Reads a name in any case.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::invalid("status", "running, finished, failed, interrupted or scheduled", text))
    }
}

/// One execution of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its name; need not be unique.
    pub name: String,
    /// The experiment it belongs to.
    pub experiment: ExperimentId,
    /// The study it runs; empty for a run logged from outside.
    pub study: String,
    /// What it does.
    pub plan: Plan,
    /// The root of its random streams.
    pub seed: u64,
    /// The device it computes on.
    pub device: String,
    /// The machine it runs on.
    pub host: String,
    /// Versions of what it is made of, by name.
    pub versions: BTreeMap<String, String>,
    /// Where it is in its life.
    pub status: Status,
    /// Why it failed or was interrupted; empty otherwise.
    pub message: String,
    /// When it was made.
    pub started: Timestamp,
    /// When it ended, if it did.
    pub ended: Option<Timestamp>,
    /// The digest over all its records, once it finished.
    pub record_digest: Option<Digest>,
    /// Who logged it, as a client said; empty for studies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// When it was deleted, if it was: it is hidden, and can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
}

/// A run that a client logs, with times of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRun {
    /// The experiment it belongs to.
    pub experiment: ExperimentId,
    /// Its name.
    pub name: String,
    /// Who logs it.
    pub user: String,
    /// When it began.
    pub started: Timestamp,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
}

/// What a client changes of a run; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunChange {
    /// Another name.
    pub name: Option<String>,
    /// Where it is in its life.
    pub status: Option<Status>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// What a run is made of before it has an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRun {
    /// Its name.
    pub name: String,
    /// The experiment's name; the experiment is made if there is none.
    pub experiment: String,
    /// The study it runs.
    pub study: String,
    /// What it does.
    pub plan: Plan,
    /// The root of its random streams.
    pub seed: u64,
    /// The device it computes on.
    pub device: String,
    /// The machine it runs on.
    pub host: String,
    /// Versions of what it is made of, by name.
    pub versions: BTreeMap<String, String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// `Finished`, `Failed` or `Interrupted`.
    pub status: Status,
    /// Why, if it did not finish.
    pub message: String,
    /// The digest over all its records, if it finished.
    pub record_digest: Option<Digest>,
}

/// A named part of a run; rows stand in stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, unique in the run.
    pub name: String,
    /// Its place among the stages, from 0.
    pub ordinal: u32,
}

impl Stage {
    /// The id rows name it by.
    #[must_use]
    pub fn id(&self) -> StageId {
        StageId::of(&self.name)
    }
}
