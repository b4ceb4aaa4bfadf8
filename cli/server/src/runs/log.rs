//! Logging to a run: metrics, params and tags, one by one or by the thousand. A batch is written whole or not at all.

use serde::Deserialize;
use tracker_store::{Durability, Error as StoreError, Measured, Point, Recording, RunId};

use super::{NAME_TAG, commit, id};
use crate::api::Api;
use crate::error::{Answer, Code, Refusal};
use crate::limits::{
    self, MAX_BATCH, MAX_BATCH_METRICS, MAX_BATCH_PARAMS, MAX_BATCH_TAGS, MAX_PARAM_VALUE, MAX_TAG_VALUE,
};
use crate::wire::{Int, Num, Pair, Request, done, need};

/// A point as a client sends it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metric {
    key: Option<String>,
    value: Option<Num>,
    timestamp: Option<Int>,
    step: Option<Int>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

impl Metric {
    /// Stages the point, and what it measures.
    fn put(&self, run: RunId, place: &str, recording: &mut Recording) -> Answer<()> {
        let named = |parameter: &str| format!("{place}{parameter}");
        let key = self.key.as_deref().unwrap_or("");
        limits::check_key(key, &named("key"))?;
        let value = self.value.ok_or_else(|| Refusal::missing(&named("value")))?;
        let time = self.timestamp.ok_or_else(|| Refusal::missing(&named("timestamp")))?;
        let point = Point::new(self.step.unwrap_or_default().0, time.0, value.0);
        recording.put_points(run, key, &[point])?;
        if let Some(model) = self.model_id.as_deref().filter(|model| !model.is_empty()) {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let on = Measured { dataset_name: text(&self.dataset_name), dataset_digest: text(&self.dataset_digest) };
            recording.put_measured(run, key, &point, model, &on)?;
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogMetric {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<Num>,
    timestamp: Option<Int>,
    step: Option<Int>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

pub(crate) fn metric(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogMetric = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let LogMetric { key, value, timestamp, step, model_id, dataset_name, dataset_digest, .. } = asked;
    let metric = Metric { key, value, timestamp, step, model_id, dataset_name, dataset_digest };
    let mut recording = Recording::new();
    metric.put(run.id, "", &mut recording)?;
    check_models(api, &[metric])?;
    commit(api, run.id, &recording, None)?;
    Ok(done())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogParam {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

pub(crate) fn param(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogParam = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let key = need(asked.key.as_ref(), "key")?;
    limits::check_key(key, "key")?;
    let value = api.fitted(asked.value.as_deref().unwrap_or(""), MAX_PARAM_VALUE, "value")?;
    let mut recording = Recording::new();
    recording.put_param(run.id, key, value)?;
    match api.store.commit(&recording, Durability::Os) {
        Err(StoreError::Conflict { what: "param", .. }) => {
            let old = api.store.param(run.id, key)?.unwrap_or_default();
            Err(Refusal::invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' for run ID='{}'. \
                 Attempted logging new value '{value}'.",
                run.id.simple()
            )))
        }
        answer => Ok(answer.map(|()| done())?),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogBatch {
    run_id: Option<String>,
    metrics: Vec<Metric>,
    params: Vec<Pair>,
    tags: Vec<Pair>,
}

pub(crate) fn batch(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogBatch = request.read()?;
    let run_id = need(asked.run_id.as_ref(), "run_id")?;
    asked.check_counts()?;
    let run = api.active_run(run_id)?;
    let mut recording = Recording::new();
    for (nth, metric) in asked.metrics.iter().enumerate() {
        // The place is written out only where it is told.
        if let Err(refusal) = metric.put(run.id, "", &mut recording) {
            metric.put(run.id, &format!("metrics[{nth}]."), &mut Recording::new())?;
            return Err(refusal);
        }
    }
    check_models(api, &asked.metrics)?;
    limits::check_once(asked.params.iter().map(|param| param.key.as_str()), "params")?;
    for (nth, Pair { key, value }) in asked.params.iter().enumerate() {
        limits::check_key(key, &format!("params[{nth}].key"))?;
        let value = api.fitted(value, MAX_PARAM_VALUE, format_args!("params[{nth}].value"))?;
        recording.put_param(run.id, key, value)?;
    }
    for (nth, Pair { key, value }) in asked.tags.iter().enumerate() {
        limits::check_key(key, &format!("tags[{nth}].key"))?;
        let value = api.fitted(value, MAX_TAG_VALUE, format_args!("tags[{nth}].value"))?;
        recording.put_tag(run.id, key, value)?;
    }
    let name =
        asked.tags.iter().rfind(|tag| tag.key == NAME_TAG).map(|tag| limits::truncated(&tag.value, MAX_TAG_VALUE));
    match commit(api, run.id, &recording, name) {
        Err(refusal) if refusal.code == Code::ResourceAlreadyExists => Err(changed(api, run.id, &asked.params)?),
        answer => answer.map(|()| done()),
    }
}

impl LogBatch {
    fn check_counts(&self) -> Answer<()> {
        let n_all = self.metrics.len() + self.params.len() + self.tags.len();
        let counts = [
            ("metrics", self.metrics.len(), MAX_BATCH_METRICS),
            ("params", self.params.len(), MAX_BATCH_PARAMS),
            ("tags", self.tags.len(), MAX_BATCH_TAGS),
            ("metrics, params and tags", n_all, MAX_BATCH),
        ];
        match counts.into_iter().find(|(_, n, limit)| n > limit) {
            Some((what, n, limit)) => Err(Refusal::invalid(format!(
                "A batch logging request can contain at most {limit} {what}. Got {n} {what}. Please split up {what} across multiple requests and try again."
            ))),
            None => Ok(()),
        }
    }
}

/// Which params of a batch were logged with other values.
fn changed(api: &Api, run: RunId, params: &[Pair]) -> Answer<Refusal> {
    let mut changes = Vec::new();
    for Pair { key, value } in params {
        let new = limits::truncated(value, MAX_PARAM_VALUE);
        if let Some(old) = api.store.param(run, key)?.filter(|old| old != new) {
            changes.push(format!("{{'key': '{key}', 'old_value': '{old}', 'new_value': '{new}'}}"));
        }
    }
    Ok(Refusal::invalid(format!(
        "Changing param values is not allowed. Params were already logged='[{}]' for run ID='{}'.",
        changes.join(", "),
        run.simple()
    )))
}

/// Refuses points that measure a model that is not there.
fn check_models(api: &Api, metrics: &[Metric]) -> Answer<()> {
    let mut last = None;
    for model in metrics.iter().filter_map(|metric| metric.model_id.as_deref()).filter(|model| !model.is_empty()) {
        if last != Some(model) {
            crate::models::model(api, model)?;
            last = Some(model);
        }
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogModel {
    run_id: Option<String>,
    run_uuid: Option<String>,
    model_json: Option<String>,
}

/// The tag under which models that were logged the older way are listed.
const HISTORY: &str = "mlflow.log-model.history";

pub(crate) fn model(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogModel = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let text = need(asked.model_json.as_ref(), "model_json")?;
    let expected = |what: &str| Refusal::invalid_value(&text.into(), "model_json", what);
    let model: serde_json::Value =
        serde_json::from_str(text).map_err(|_| expected("a JSON object as text is expected"))?;
    for field in ["artifact_path", "flavors", "utc_time_created", "run_id"] {
        if model.get(field).is_none() {
            return Err(expected(&format!("a model with `{field}` is expected")));
        }
    }
    let mut history: Vec<serde_json::Value> = match api.store.tag(run.id, HISTORY)? {
        Some(tag) => serde_json::from_str(&tag).unwrap_or_default(),
        None => Vec::new(),
    };
    if !history.contains(&model) {
        history.push(model);
        let mut recording = Recording::new();
        let tag = serde_json::to_string(&history).map_err(|error| expected(&error.to_string()))?;
        recording.put_tag(run.id, HISTORY, &tag)?;
        commit(api, run.id, &recording, None)?;
    }
    Ok(done())
}
