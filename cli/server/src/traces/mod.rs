//! Traces: what clients say of a request (`POST traces`), its spans (`otlp`), and what is said of both (`assessments`).

pub(crate) mod assessments;
pub(crate) mod otlp;
pub(crate) mod search;
pub(crate) mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, Timestamp, Trace};

use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits::{self, MAX_TAG_VALUE};
use crate::wire::{Int, Request, done, json, need};

/// The tag that says where the spans of a trace are.
const SPANS_TAG: &str = "mlflow.trace.spansLocation";
/// What it says when the server has them.
const HERE: &str = "TRACKING_STORE";
const LOCATION_TAG: &str = "mlflow.artifactLocation";
pub(crate) const NAME_TAG: &str = "mlflow.traceName";
const MAX_ID: usize = 250;
const MAX_MANY: usize = 500;

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
struct ExperimentLocation {
    experiment_id: String,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Location {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mlflow_experiment: Option<ExperimentLocation>,
}

impl Location {
    pub(crate) fn experiment(&self) -> Option<&str> {
        self.mlflow_experiment.as_ref().map(|location| location.experiment_id.as_str())
    }
}

/// A trace without its spans, as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    trace_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_request_id: String,
    trace_location: Location,
    request_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_duration: Option<String>,
    state: String,
    trace_metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assessments: Vec<assessments::View>,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_preview: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    response_preview: String,
}

impl Info {
    pub(crate) fn of(api: &Api, trace: &Trace) -> Answer<Self> {
        let assessments = api.store.assessments(&trace.id)?;
        let experiment_id = api.experiment_name(trace.experiment);
        Ok(Self {
            trace_id: trace.id.clone(),
            client_request_id: trace.client_id.clone(),
            trace_location: Location {
                kind: "MLFLOW_EXPERIMENT".to_owned(),
                mlflow_experiment: Some(ExperimentLocation { experiment_id }),
            },
            request_time: trace.requested.to_string(),
            execution_duration: trace.duration_millis.map(seconds),
            state: trace.state.clone(),
            trace_metadata: trace.metadata.clone(),
            tags: trace.tags.clone(),
            assessments: assessments.iter().map(|assessment| assessments::View::of(&trace.id, assessment)).collect(),
            request_preview: trace.request.clone(),
            response_preview: trace.response.clone(),
        })
    }
}

/// Milliseconds as protobuf's JSON writes durations.
fn seconds(millis: i64) -> String {
    let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
    match millis % 1000 {
        0 => format!("{sign}{}s", millis / 1000),
        rest => format!("{sign}{}.{rest:03}s", millis / 1000),
    }
}

/// Milliseconds in a duration as protobuf's JSON writes it.
fn millis(text: &str) -> Option<i64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let millis = (seconds * 1000.0).round();
    (millis.abs() < 9.0e15).then_some(millis as i64)
}

#[derive(Serialize)]
struct Whole {
    trace_info: Info,
}

#[derive(Serialize)]
struct One {
    trace: Whole,
}

pub(crate) fn server_info(_: &Api, _: &Request<'_>) -> Answer<Vec<u8>> {
    json(&serde_json::json!({
        "store_type": "TrackerStore",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
        "artifact_serving_enabled": true,
        "presigned_upload_run_id_supported": false,
        "presigned_upload_model_id_supported": false,
        "model_artifact_presigned_downloads_supported": false,
        "artifacts_presigned_only": false,
        "features_enabled": {},
        "tracking_auth": "",
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InfoIn {
    trace_id: Option<String>,
    client_request_id: Option<String>,
    trace_location: Option<Location>,
    request_time: Option<Timestamp>,
    execution_duration: Option<String>,
    state: Option<String>,
    trace_metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    request_preview: Option<String>,
    response_preview: Option<String>,
    assessments: Vec<assessments::In>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TraceIn {
    trace_info: Option<InfoIn>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Start {
    trace: Option<TraceIn>,
}

pub(crate) fn start(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Start = request.read()?;
    let info = asked.trace.and_then(|trace| trace.trace_info).ok_or_else(|| Refusal::missing("trace"))?;
    let id = checked_id(need(info.trace_id.as_ref(), "trace_id")?)?;
    let location = info.trace_location.as_ref().and_then(Location::experiment);
    let experiment =
        api.experiment(location.filter(|id| !id.is_empty()).ok_or_else(|| Refusal::missing("trace_location"))?)?;
    let requested = info.request_time.ok_or_else(|| Refusal::missing("request_time"))?;
    let duration_millis = match info.execution_duration.as_deref() {
        None => None,
        Some(text) => Some(millis(text).ok_or_else(|| {
            Refusal::invalid_value(&text.into(), "execution_duration", "a duration such as \"1.5s\" is expected")
        })?),
    };
    let state = checked_state(info.state.as_deref().unwrap_or("STATE_UNSPECIFIED"))?;
    check_texts(&info.tags, "tags")?;
    check_texts(&info.trace_metadata, "trace_metadata")?;
    let said = info.assessments.into_iter().map(assessments::made).collect::<Answer<Vec<_>>>()?;
    let make = |before: Option<Trace>| {
        let mut tags = before.map(|before| before.tags).unwrap_or_default();
        tags.retain(|key, _| key == SPANS_TAG);
        tags.extend(info.tags.clone());
        tags.entry(LOCATION_TAG.to_owned())
            .or_insert_with(|| format!("{}/traces/{id}/artifacts", api.artifact_location(&experiment)));
        Ok(Trace {
            id: id.to_owned(),
            experiment: experiment.id,
            requested,
            duration_millis,
            state: state.to_owned(),
            request: info.request_preview.clone().unwrap_or_default(),
            response: info.response_preview.clone().unwrap_or_default(),
            client_id: info.client_request_id.clone().unwrap_or_default(),
            metadata: info.trace_metadata.clone(),
            tags,
        })
    };
    let trace = api.store.put_assessed_trace(id, make, &said)?;
    json(&One { trace: Whole { trace_info: Info::of(api, &trace)? } })
}

fn checked_id(id: &str) -> Answer<&str> {
    let is_id =
        id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_id && !matches!(id, "." | "..") {
        return Ok(id);
    }
    Err(Refusal::invalid(format!(
        "Invalid value for parameter 'trace_id' supplied: at most {MAX_ID} letters, digits, '-', '_' and '.' are expected."
    )))
}

fn checked_state(state: &str) -> Answer<&str> {
    match state {
        "OK" | "ERROR" | "IN_PROGRESS" | "STATE_UNSPECIFIED" => Ok(state),
        other => Err(Refusal::invalid_value(&other.into(), "state", "OK, ERROR or IN_PROGRESS is expected")),
    }
}

fn check_texts(texts: &BTreeMap<String, String>, parameter: &str) -> Answer<()> {
    for (key, value) in texts {
        limits::check_length(key, limits::MAX_KEY, &format!("{parameter}.{key}"))?;
        limits::check_length(value, MAX_TAG_VALUE, &format!("{parameter}.{key}"))?;
    }
    Ok(())
}

pub(crate) fn trace(api: &Api, id: &str) -> Answer<Trace> {
    match api.store.trace(id) {
        Err(StoreError::NotFound { .. }) => Err(Refusal::absent(format!("Trace with ID '{id}' not found."))),
        answer => Ok(answer?),
    }
}

pub(crate) fn get_info(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let trace = trace(api, request.arg(0))?;
    json(&One { trace: Whole { trace_info: Info::of(api, &trace)? } })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    trace_id: Option<String>,
    trace_ids: Vec<String>,
    run_id: Option<String>,
    key: Option<String>,
    value: Option<String>,
    experiment_id: Option<String>,
    max_timestamp_millis: Option<Int>,
    max_traces: Option<Int>,
    request_ids: Vec<String>,
}

/// The trace with this id, if it is there.
fn found(api: &Api, id: &str) -> Answer<Option<Trace>> {
    match api.store.trace(id) {
        Err(StoreError::NotFound { .. }) => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

fn check_many(ids: &[String]) -> Answer<()> {
    if ids.is_empty() {
        return Err(Refusal::missing("trace_ids"));
    }
    if ids.len() > MAX_MANY {
        return Err(Refusal::invalid(format!(
            "'trace_ids' exceeds the maximum of {MAX_MANY}: there are {}.",
            ids.len()
        )));
    }
    Ok(())
}

pub(crate) fn get_infos(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        trace_infos: Vec<Info>,
    }
    let asked: Asked = request.read()?;
    check_many(&asked.trace_ids)?;
    let info = |id: &String| found(api, id)?.map(|trace| Info::of(api, &trace)).transpose();
    let trace_infos = asked.trace_ids.iter().filter_map(|id| info(id).transpose()).collect::<Answer<_>>()?;
    json(&Found { trace_infos })
}

pub(crate) fn set_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let key = need(asked.key.as_ref(), "key")?;
    limits::check_length(key, limits::MAX_KEY, "key")?;
    let value = asked.value.as_deref().ok_or_else(|| Refusal::missing("value"))?;
    let value = api.fitted(value, MAX_TAG_VALUE, "value")?;
    change(api, request.arg(0), |trace| drop(trace.tags.insert(key.to_owned(), value.to_owned())))?;
    Ok(done())
}

pub(crate) fn delete_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (id, key) = (request.arg(0), need(asked.key.as_ref(), "key")?);
    if !trace(api, id)?.tags.contains_key(key) {
        return Err(Refusal::absent(format!("No trace tag with key '{key}' for trace with ID '{id}'")));
    }
    change(api, id, |trace| drop(trace.tags.remove(key)))?;
    Ok(done())
}

fn change(api: &Api, id: &str, change: impl Fn(&mut Trace)) -> Answer<Trace> {
    trace(api, id)?;
    let changed = api.store.put_trace(id, |before| {
        let mut trace = before.ok_or_else(|| gone(id))?;
        change(&mut trace);
        Ok(trace)
    });
    Ok(changed?)
}

/// A trace that went since it was looked for.
fn gone(id: &str) -> StoreError {
    StoreError::NotFound { what: "trace", name: id.to_owned(), hint: String::new() }
}

pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Deleted {
        traces_deleted: u64,
    }
    let asked: Asked = request.read()?;
    let experiment = api.experiment(need(asked.experiment_id.as_ref(), "experiment_id")?)?;
    let ids = match (asked.max_timestamp_millis, asked.request_ids.is_empty()) {
        (Some(_), false) => {
            return Err(Refusal::invalid(
                "Either 'max_timestamp_millis' or 'request_ids' must be specified, not both.",
            ));
        }
        (None, true) => return Err(Refusal::missing("max_timestamp_millis")),
        (None, false) => {
            let is_there = |id: &&String| api.store.trace(id).is_ok_and(|trace| trace.experiment == experiment.id);
            asked.request_ids.iter().filter(is_there).cloned().collect()
        }
        (Some(until), true) => {
            let limit = limits::max_results(asked.max_traces, usize::MAX, i64::MAX as usize)?;
            let from = (until.0, "");
            let mut ids = Vec::new();
            for trace in api.store.traces(experiment.id, Some(from)) {
                ids.push(trace?.id);
            }
            // The oldest go first.
            ids.reverse();
            ids.truncate(limit);
            ids
        }
    };
    json(&Deleted { traces_deleted: api.store.remove_traces(&ids)? })
}

pub(crate) fn link_to_run(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let run = api.active_run(need(asked.run_id.as_ref(), "run_id")?)?;
    if asked.trace_ids.is_empty() {
        return Err(Refusal::missing("trace_ids"));
    }
    if asked.trace_ids.len() > 100 {
        return Err(Refusal::invalid(format!(
            "'trace_ids' exceeds the maximum of 100: there are {}.",
            asked.trace_ids.len()
        )));
    }
    for id in &asked.trace_ids {
        trace(api, id)?;
    }
    // All at once, with no new spans.
    let traces = asked.trace_ids.into_iter().map(|id| (id, Vec::new())).collect();
    api.store.put_spans(&traces, |id, before| {
        let mut trace = before.ok_or_else(|| gone(id))?;
        trace.metadata.insert(Trace::SOURCE_RUN.to_owned(), run.id.simple());
        Ok(trace)
    })?;
    Ok(done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_protobuf_writes_them() {
        for (number, text) in [(0, "0s"), (1500, "1.500s"), (7, "0.007s"), (60_000, "60s")] {
            assert_eq!(seconds(number), text);
            assert_eq!(millis(text), Some(number));
        }
        assert_eq!((millis("0.0004s"), millis("1.5"), millis("xs")), (Some(0), None, None));
    }
}
