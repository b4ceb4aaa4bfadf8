//! Traces: what happened inside one request, as spans, and what people and judges say of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{ExperimentId, RunId};

/// One request, from end to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Its id: `tr-` and 32 hexadecimal digits, or what the client made up.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment: ExperimentId,
    /// When the request came.
    pub requested: Timestamp,
    /// How long it took, in milliseconds, once that is known.
    pub duration_millis: Option<i64>,
    /// `OK`, `ERROR`, `IN_PROGRESS` or `STATE_UNSPECIFIED`.
    pub state: String,
    /// The beginning of what was asked.
    pub request: String,
    /// The beginning of what was answered.
    pub response: String,
    /// The id the client's own caller gave it; may be empty.
    pub client_id: String,
    /// Facts that do not change, by key.
    pub metadata: BTreeMap<String, String>,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
}

impl Trace {
    /// The key in its metadata whose value is the id of the run it belongs to.
    pub const SOURCE_RUN: &str = "mlflow.sourceRun";

    /// The run it belongs to, if it says one.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        self.metadata.get(Self::SOURCE_RUN)?.parse().ok()
    }

    /// The owner of its loose files.
    pub(crate) fn owner(&self) -> String {
        format!("traces/{}", self.id)
    }
}

/// One step of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it began, in nanoseconds since 1970; spans are listed by it.
    pub start_nanos: u64,
    /// The span as OTLP writes it: a `Span` of protobuf.
    pub otlp: Vec<u8>,
}

/// What an assessment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssessmentKind {
    /// How good something is.
    Feedback,
    /// What should have been.
    Expectation,
    /// That something is wrong.
    Issue,
}

/// What a person, a judge or a program says of a trace or a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// Its id: `a-` and 32 hexadecimal digits.
    pub id: String,
    /// What is judged.
    pub name: String,
    /// Who judges: `HUMAN`, `LLM_JUDGE`, `CODE`.
    pub source_type: String,
    /// Which of them.
    pub source_id: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// What it says.
    pub kind: AssessmentKind,
    /// Its value, as the client wrote it in JSON.
    pub value: String,
    /// Why, in words; may be empty.
    pub rationale: String,
    /// The span it is about; empty for the whole trace.
    pub span: String,
    /// Free text by key.
    pub metadata: BTreeMap<String, String>,
    /// The assessment it takes the place of; may be empty.
    pub overrides: String,
    /// Whether none has taken its place.
    pub is_valid: bool,
}
