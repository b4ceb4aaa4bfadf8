//! What clients of the tracking protocol log beside runs: datasets they used, and models they gave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::clock::Timestamp;
use crate::id::{Digest, ExperimentId, RunId};

/// The tag of a logged model that lists the versions it became.
const VERSIONS_TAG: &str = "mlflow.modelVersions";
/// The tag of an input that says what a dataset was used for.
const CONTEXT: &str = "mlflow.data.context";

/// What a client said of a dataset that a run used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInput {
    /// Its name.
    pub name: String,
    /// The digest the client gave it.
    pub digest: String,
    /// What kind of source it comes from: `code`, `hugging_face`, `local`.
    pub source_type: String,
    /// Where it comes from, as the client wrote it.
    pub source: String,
    /// Its columns, as the client wrote them; may be empty.
    pub schema: String,
    /// Its size and the like, as the client wrote them; may be empty.
    pub profile: String,
    /// Free text by key: `mlflow.data.context` says what it was used for.
    pub tags: BTreeMap<String, String>,
}

impl RunInput {
    /// What it was used for: `training`, `eval`; empty if the client did not say.
    #[must_use]
    pub fn context(&self) -> &str {
        self.tags.get(CONTEXT).map_or("", String::as_str)
    }

    /// The dataset, as lineage names it. Its content is the digest of what the client said, for its bytes were not seen.
    #[must_use]
    pub fn dataset(&self) -> Dataset {
        let mut hasher = blake3::Hasher::new();
        for text in [&self.name, &self.digest, &self.source_type, &self.source, &self.schema, &self.profile] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        let profile: Option<serde_json::Value> = serde_json::from_str(&self.profile).ok();
        let n_rows = profile.as_ref().and_then(|profile| profile.get("num_rows")?.as_u64()).unwrap_or(0);
        Dataset {
            name: self.name.clone(),
            purpose: self.context().to_owned(),
            n_rows,
            content: hasher.finalize().into(),
            rows: None,
        }
    }
}

/// How far a logged model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Its files are on their way.
    Pending,
    /// It is whole.
    Ready,
    /// Its files did not come.
    Failed,
}

/// A model that a client logged: a set of files with params of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedModel {
    /// Its id: `m-` and 32 hexadecimal digits, which sort by when it was made.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment: ExperimentId,
    /// Its name; need not be unique.
    pub name: String,
    /// What kind of model it is, as the client says; may be empty.
    pub model_type: String,
    /// How far it is.
    pub state: ModelState,
    /// The run that made it, if one did.
    pub run: Option<RunId>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Its params.
    pub params: BTreeMap<String, String>,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
    /// When it was deleted, if it was.
    pub deleted: Option<Timestamp>,
    /// The digest of the manifest of its files, once it was ready with files.
    pub manifest: Option<Digest>,
    /// Runs that took it before it was ready, and get an edge to its manifest then.
    pub takers: Vec<RunId>,
}

impl LoggedModel {
    /// The owner of its loose files.
    pub(crate) fn owner(&self) -> String {
        format!("models/{}", self.id)
    }

    /// Notes that it became a version of a registered model: clients read it in a tag. What is noted already stays.
    pub(crate) fn note_version(&mut self, name: &str, number: u32) {
        let mut list = self.noted_versions();
        if !list.iter().any(|noted| is_version(noted, name, number)) {
            list.push(serde_json::json!({ "name": name, "version": number }));
            self.tags.insert(VERSIONS_TAG.to_owned(), serde_json::Value::Array(list).to_string());
        }
    }

    /// Takes back that it became a version of a registered model.
    pub(crate) fn forget_version(&mut self, name: &str, number: u32) {
        let mut list = self.noted_versions();
        let n_noted = list.len();
        list.retain(|noted| !is_version(noted, name, number));
        if list.len() < n_noted {
            self.tags.insert(VERSIONS_TAG.to_owned(), serde_json::Value::Array(list).to_string());
        }
    }

    fn noted_versions(&self) -> Vec<serde_json::Value> {
        self.tags.get(VERSIONS_TAG).and_then(|tag| serde_json::from_str(tag).ok()).unwrap_or_default()
    }
}

/// Whether what is noted is this version; clients write numbers as texts too.
fn is_version(noted: &serde_json::Value, name: &str, number: u32) -> bool {
    let is_number = |value: &serde_json::Value| {
        let text = value.as_str().and_then(|text| text.parse().ok());
        text.or_else(|| value.as_u64()) == Some(u64::from(number))
    };
    noted.get("name").is_some_and(|noted| noted == name) && noted.get("version").is_some_and(is_number)
}

/// On which dataset a logged model was measured, beside the point itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The dataset's name; may be empty.
    pub dataset_name: String,
    /// The digest the client gave the dataset; may be empty.
    pub dataset_digest: String,
}

/// A name under which versions of a model are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredModel {
    /// The name, unique.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it, or a version of it, was last changed.
    pub updated: Timestamp,
    /// What it is, in words.
    pub description: String,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
    /// Numbers of versions by alias.
    pub aliases: BTreeMap<String, u32>,
    /// The number of its next version, from 1.
    pub next: u32,
}

/// One version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The name of the registered model.
    pub name: String,
    /// The number, from 1.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// What it is, in words.
    pub description: String,
    /// `None`, `Staging`, `Production` or `Archived`.
    pub stage: String,
    /// Where its files come from, as a URI.
    pub source: String,
    /// The run it comes from, if one is known.
    pub run: Option<RunId>,
    /// A link to that run, as the client gave it.
    pub run_link: String,
    /// The logged model it is; may be empty.
    pub model: String,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
    /// The digest of the manifest of its files, if they were in this store.
    pub manifest: Option<Digest>,
}
