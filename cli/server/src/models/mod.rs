//! Logged models: a set of files with params and tags of its own, made by a run.

pub(crate) mod search;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, LoggedModel, ModelState, NewLoggedModel, Timestamp};

use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits::{self, MAX_TAG_VALUE};
use crate::wire::{Num, Pair, Request, done, json, need, pairs};

const MAX_PARAMS: usize = 100;
const MAX_TEXT: usize = 500;
const MAX_NAME: usize = 255;

/// The logged model with this id, which is not deleted.
pub(crate) fn model(api: &Api, id: &str) -> Answer<LoggedModel> {
    let absent = || Refusal::absent(format!("Logged model with ID '{id}' not found."));
    match api.store.logged_model(id) {
        Err(StoreError::NotFound { .. }) => Err(absent()),
        Ok(model) if model.deleted.is_some() => Err(absent()),
        answer => Ok(answer?),
    }
}

/// Where the files of a model are, for clients.
pub(crate) fn artifact_uri(api: &Api, model: &LoggedModel) -> Answer<String> {
    let experiment = api.store.experiment_by_id(model.experiment)?;
    Ok(format!("{}/models/{}/artifacts", api.artifact_location(&experiment), model.id))
}

#[derive(Debug, Serialize)]
struct Info {
    model_id: String,
    experiment_id: String,
    name: String,
    creation_timestamp_ms: i64,
    last_updated_timestamp_ms: i64,
    artifact_uri: String,
    status: &'static str,
    model_type: String,
    source_run_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
}

#[derive(Debug, Serialize)]
struct Metric {
    key: String,
    value: Num,
    timestamp: i64,
    step: i64,
    model_id: String,
    run_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dataset_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dataset_digest: String,
}

#[derive(Debug, Serialize)]
struct Data {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
}

#[derive(Debug, Serialize)]
struct View {
    info: Info,
    data: Data,
}

#[derive(Serialize)]
struct One {
    model: View,
}

fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Pending => "LOGGED_MODEL_PENDING",
        ModelState::Ready => "LOGGED_MODEL_READY",
        ModelState::Failed => "LOGGED_MODEL_UPLOAD_FAILED",
    }
}

impl View {
    fn of(api: &Api, model: &LoggedModel) -> Answer<Self> {
        let metrics = api.store.measurements(&model.id)?.into_iter().map(|measured| Metric {
            key: measured.key,
            value: Num(measured.value),
            timestamp: measured.time,
            step: measured.step,
            model_id: model.id.clone(),
            run_id: measured.run.simple(),
            dataset_name: measured.on.dataset_name,
            dataset_digest: measured.on.dataset_digest,
        });
        let data = Data { params: pairs(&model.params), metrics: metrics.collect() };
        let info = Info {
            model_id: model.id.clone(),
            experiment_id: api.experiment_name(model.experiment),
            name: model.name.clone(),
            creation_timestamp_ms: model.created.millis(),
            last_updated_timestamp_ms: model.updated.millis(),
            artifact_uri: artifact_uri(api, model)?,
            status: state_name(model.state),
            model_type: model.model_type.clone(),
            source_run_id: model.run.map(|run| run.simple()).unwrap_or_default(),
            tags: pairs(&model.tags),
        };
        Ok(Self { info, data })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    experiment_id: Option<String>,
    name: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    params: Vec<Pair>,
    tags: Vec<Pair>,
}

pub(crate) fn create(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Create = request.read()?;
    let experiment = api.experiment(need(asked.experiment_id.as_ref(), "experiment_id")?)?;
    let run = asked.source_run_id.as_deref().filter(|id| !id.is_empty()).map(|id| api.run(id)).transpose()?;
    let name = asked.name.filter(|name| !name.is_empty()).unwrap_or_else(|| "model".to_owned());
    let bad = ['/', ':', '.', '%', '"', '\''];
    if name.contains(bad) || name.chars().any(char::is_control) || name.chars().count() > MAX_NAME || name.len() > 400 {
        return Err(Refusal::invalid(format!(
            "Invalid model name (\"{}\") for parameter 'name' supplied: A name of at most {MAX_NAME} characters without '/', ':', '.', '%', '\"', \"'\" is expected.",
            name.chars().take(100).collect::<String>().escape_debug()
        )));
    }
    let new = NewLoggedModel {
        experiment: experiment.id,
        name,
        model_type: asked.model_type.unwrap_or_default(),
        run: run.map(|run| run.id),
        params: params(&asked.params)?,
        tags: limits::tags(&asked.tags, MAX_TAG_VALUE)?,
    };
    limits::check_length(&new.model_type, MAX_TEXT, "model_type")?;
    let model = api.store.log_model(&new)?;
    json(&One { model: View::of(api, &model)? })
}

fn params(asked: &[Pair]) -> Answer<BTreeMap<String, String>> {
    if asked.len() > MAX_PARAMS {
        return Err(Refusal::invalid(format!(
            "A request can contain at most {MAX_PARAMS} params. Got {} params. Please split up params across multiple requests and try again.",
            asked.len()
        )));
    }
    limits::check_once(asked.iter().map(|param| param.key.as_str()), "params")?;
    let mut params = BTreeMap::new();
    for (nth, Pair { key, value }) in asked.iter().enumerate() {
        limits::check_key(key, &format!("params[{nth}].key"))?;
        limits::check_length(value, limits::MAX_PARAM_VALUE, &format!("params[{nth}].value"))?;
        params.insert(key.clone(), value.clone());
    }
    Ok(params)
}

pub(crate) fn get(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let model = model(api, request.arg(0))?;
    json(&One { model: View::of(api, &model)? })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    status: Option<serde_json::Value>,
    params: Vec<Pair>,
    tags: Vec<Pair>,
}

pub(crate) fn finish(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let model = model(api, request.arg(0))?;
    let value = asked.status.ok_or_else(|| Refusal::missing("status"))?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let state = match text.as_str() {
        "LOGGED_MODEL_PENDING" | "PENDING" | "1" => ModelState::Pending,
        "LOGGED_MODEL_READY" | "READY" | "2" => ModelState::Ready,
        "LOGGED_MODEL_UPLOAD_FAILED" | "FAILED" | "3" => ModelState::Failed,
        _ => {
            let expected = "LOGGED_MODEL_PENDING, LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED is expected";
            return Err(Refusal::invalid_value(&value, "status", expected));
        }
    };
    let model = api.store.finish_model(&model.id, state)?;
    json(&One { model: View::of(api, &model)? })
}

pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let model = model(api, request.arg(0))?;
    api.store.change_model(&model.id, |model| {
        model.deleted = Some(Timestamp::now());
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn log_params(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let model = model(api, request.arg(0))?;
    let params = params(&asked.params)?;
    for (key, value) in &params {
        if let Some(old) = model.params.get(key).filter(|old| *old != value) {
            return Err(Refusal::invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' for model ID='{}'. \
                 Attempted logging new value '{value}'.",
                model.id
            )));
        }
    }
    api.store.change_model(&model.id, |model| {
        for (key, value) in &params {
            model.params.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn set_tags(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let model = model(api, request.arg(0))?;
    let tags = limits::tags(&asked.tags, MAX_TAG_VALUE)?;
    api.store.change_model(&model.id, |model| {
        model.tags.extend(tags.clone());
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn delete_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let model = model(api, request.arg(0))?;
    let key = request.arg(1);
    if !model.tags.contains_key(key) {
        return Err(Refusal::absent(format!("No tag with key '{key}' found for model with ID '{}'.", model.id)));
    }
    api.store.change_model(&model.id, |model| {
        model.tags.remove(key);
        Ok(())
    })?;
    Ok(done())
}
