//! The second stored form of what got more fields. A value that has none of them is written in its first form, so that no record of an
//! earlier format has to be rewritten, and digests stay what they were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::v1::{ExperimentV1, RunV1};
use super::{Stored, open, seal, unknown_version, unseal};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{ExperimentId, RunId};
use crate::model::{Experiment, Run};

const FIRST: u8 = 1;
const VERSION: u8 = 2;

/// A run with who logged it, and when it was deleted.
#[derive(Serialize, Deserialize)]
struct RunV2 {
    first: RunV1,
    user: String,
    deleted: Option<Timestamp>,
}

impl From<&Run> for RunV1 {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id,
            name: run.name.clone(),
            experiment: run.experiment,
            study: run.study.clone(),
            plan: run.plan.clone(),
            seed: run.seed,
            device: run.device.clone(),
            host: run.host.clone(),
            versions: run.versions.clone(),
            status: run.status,
            message: run.message.clone(),
            started: run.started,
            ended: run.ended,
            record_digest: run.record_digest,
        }
    }
}

impl From<RunV1> for RunV2 {
    fn from(first: RunV1) -> Self {
        Self { first, user: String::new(), deleted: None }
    }
}

impl From<RunV2> for Run {
    fn from(RunV2 { first, user, deleted }: RunV2) -> Self {
        Self {
            id: first.id,
            name: first.name,
            experiment: first.experiment,
            study: first.study,
            plan: first.plan,
            seed: first.seed,
            device: first.device,
            host: first.host,
            versions: first.versions,
            status: first.status,
            message: first.message,
            started: first.started,
            ended: first.ended,
            record_digest: first.record_digest,
            user,
            deleted,
        }
    }
}

impl Stored for Run {
    fn encode(&self) -> Result<Vec<u8>> {
        let first = RunV1::from(self);
        if self.user.is_empty() && self.deleted.is_none() {
            return seal(FIRST, &first);
        }
        seal(VERSION, &RunV2 { first, user: self.user.clone(), deleted: self.deleted })
    }

    fn decode(key: &[u8], record: &[u8]) -> Result<Self> {
        match unseal(key, record)? {
            (FIRST, payload) => open::<RunV1>(key, payload).map(|first| RunV2::from(first).into()),
            (VERSION, payload) => open::<RunV2>(key, payload).map(Into::into),
            (version, _) => Err(unknown_version(key, VERSION, version)),
        }
    }

    fn anonymous(&self) -> Self {
        Self { id: RunId::from_bytes([0; 16]), ended: None, user: String::new(), deleted: None, ..self.clone() }
    }
}

/// An experiment with when it was last changed, and where files of its runs are kept.
#[derive(Serialize, Deserialize)]
struct ExperimentV2 {
    id: ExperimentId,
    name: String,
    created: Timestamp,
    archived: bool,
    tags: BTreeMap<String, String>,
    updated: Timestamp,
    artifacts: String,
}

impl From<ExperimentV1> for ExperimentV2 {
    fn from(first: ExperimentV1) -> Self {
        let ExperimentV1 { id, name, created, archived, tags } = first;
        Self { id, name, created, archived, tags, updated: created, artifacts: String::new() }
    }
}

impl From<ExperimentV2> for Experiment {
    fn from(second: ExperimentV2) -> Self {
        let ExperimentV2 { id, name, created, archived, tags, updated, artifacts } = second;
        Self { id, name, created, archived, tags, updated, artifacts }
    }
}

impl Stored for Experiment {
    fn encode(&self) -> Result<Vec<u8>> {
        let Self { id, name, created, archived, tags, updated, artifacts } = self.clone();
        if updated == created && artifacts.is_empty() {
            return seal(FIRST, &ExperimentV1 { id, name, created, archived, tags });
        }
        seal(VERSION, &ExperimentV2 { id, name, created, archived, tags, updated, artifacts })
    }

    fn decode(key: &[u8], record: &[u8]) -> Result<Self> {
        match unseal(key, record)? {
            (FIRST, payload) => open::<ExperimentV1>(key, payload).map(|first| ExperimentV2::from(first).into()),
            (VERSION, payload) => open::<ExperimentV2>(key, payload).map(Into::into),
            (version, _) => Err(unknown_version(key, VERSION, version)),
        }
    }

    fn anonymous(&self) -> Self {
        self.clone()
    }
}
