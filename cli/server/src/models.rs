//! Logged models: a set of files with params and tags of its own, made by a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, LoggedModel, Measurement, ModelState, NewLoggedModel, Timestamp};

use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits::{self, MAX_TAG_VALUE};
use crate::search::{self, Condition, Fact, Filter, Operator, Sorted};
use crate::wire::{Int, Num, Pair, Request, done, json, need, pairs};

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
        let metrics = latest(api.store.measurements(&model.id)?).into_iter().map(|measured| Metric {
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

/// Of each key, dataset and run the last measurement; they come by key, step, time and value.
fn latest(measurements: Vec<Measurement>) -> Vec<Measurement> {
    let mut last: BTreeMap<(String, String, String, [u8; 16]), Measurement> = BTreeMap::new();
    for measured in measurements {
        let on = (measured.on.dataset_name.clone(), measured.on.dataset_digest.clone());
        last.insert((measured.key.clone(), on.0, on.1, *measured.run.as_bytes()), measured);
    }
    last.into_values().collect()
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct OrderBy {
    field_name: Option<String>,
    ascending: Option<bool>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DatasetScope {
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

impl DatasetScope {
    /// Whether a measurement was taken on this dataset.
    fn holds(&self, measured: &Measurement) -> bool {
        let fits =
            |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked.is_empty() || asked == is);
        fits(&self.dataset_name, &measured.on.dataset_name) && fits(&self.dataset_digest, &measured.on.dataset_digest)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Search {
    experiment_ids: Vec<String>,
    filter: Option<String>,
    datasets: Vec<DatasetScope>,
    max_results: Option<Int>,
    order_by: Vec<OrderBy>,
    page_token: Option<String>,
}

const KEYS: [&str; 10] = [
    "name",
    "model_id",
    "model_type",
    "status",
    "source_run_id",
    "creation_timestamp",
    "creation_time",
    "last_updated_timestamp",
    "last_updated_time",
    "experiment_id",
];
const NUMERIC: [&str; 4] = ["creation_timestamp", "creation_time", "last_updated_timestamp", "last_updated_time"];
const ENTITIES: [&str; 3] = ["metric", "parameter", "tag"];

fn fact(api: &Api, model: &LoggedModel, entity: Option<&str>, key: &str) -> Option<Fact> {
    let text = |text: &str| Some(Fact::Text(text.to_owned()));
    match (entity, key) {
        (Some("parameter"), key) => model.params.get(key).cloned().map(Fact::Text),
        (Some("tag"), key) => model.tags.get(key).cloned().map(Fact::Text),
        (Some("metric"), _) => None,
        (_, "name") => text(&model.name),
        (_, "model_id") => text(&model.id),
        (_, "model_type") => text(&model.model_type),
        // Filters say the state without what all states begin with, or with it.
        (_, "status") => text(state_name(model.state).trim_start_matches("LOGGED_MODEL_")),
        (_, "source_run_id") => text(&model.run?.simple()),
        (_, "experiment_id") => text(&api.experiment_name(model.experiment)),
        (_, "creation_timestamp" | "creation_time") => Some(Fact::Number(model.created.millis() as f64)),
        (_, "last_updated_timestamp" | "last_updated_time") => Some(Fact::Number(model.updated.millis() as f64)),
        _ => None,
    }
}

/// The last value of a metric among measurements.
fn metric<'a>(key: &str, measurements: impl Iterator<Item = &'a Measurement>) -> Option<Fact> {
    measurements.filter(|measured| measured.key == key).last().map(|measured| Fact::Number(measured.value))
}

pub(crate) fn find(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        models: Vec<View>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    let asked: Search = request.read()?;
    let limit = limits::max_results(asked.max_results, 100, 1000)?;
    let mut filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&KEYS, &NUMERIC, &ENTITIES)?;
    filter.conditions.iter_mut().for_each(plain_state);
    let clauses = asked.order_by.iter().enumerate().map(|(nth, by)| {
        let name = need(by.field_name.as_ref(), &format!("order_by[{nth}].field_name"))?;
        Ok(format!("{name} {}", if by.ascending.unwrap_or(true) { "ASC" } else { "DESC" }))
    });
    let clauses = clauses.collect::<Answer<Vec<_>>>()?;
    let order = search::order(&clauses, &["creation_timestamp DESC"], &["model_id ASC"], &KEYS, &ENTITIES)?;
    let needs_metrics = |entity: &Option<String>| entity.as_deref() == Some("metric");
    let has_metrics = !asked.datasets.is_empty()
        || order.iter().any(|by| needs_metrics(&by.entity))
        || filter.conditions.iter().any(|condition| needs_metrics(&condition.entity));
    let mut found = Sorted::new(&order, limit, asked.page_token.as_deref())?;
    for experiment in asked.experiment_ids.iter().filter_map(|id| api.experiment_id(id)) {
        for model in api.store.logged_models(experiment, None) {
            let model = model?;
            let measurements = if has_metrics { api.store.measurements(&model.id)? } else { Vec::new() };
            let is_in_scope = |measured: &&Measurement| {
                asked.datasets.is_empty() || asked.datasets.iter().any(|scope| scope.holds(measured))
            };
            let scoped: Vec<&Measurement> = measurements.iter().filter(is_in_scope).collect();
            // Asked for datasets, models are those that were measured on one of them.
            if !asked.datasets.is_empty() && scoped.is_empty() {
                continue;
            }
            let mut look = |entity: Option<&str>, key: &str| match entity {
                Some("metric") => metric(key, scoped.iter().copied()),
                _ => fact(api, &model, entity, key),
            };
            if !filter.holds(&mut look)? {
                continue;
            }
            let values =
                order.iter().enumerate().map(|(nth, by)| match (by.entity.as_deref(), asked.order_by.get(nth)) {
                    (Some("metric"), Some(OrderBy { dataset_name, dataset_digest, .. })) => {
                        let scope =
                            DatasetScope { dataset_name: dataset_name.clone(), dataset_digest: dataset_digest.clone() };
                        metric(&by.key, measurements.iter().filter(|measured| scope.holds(measured)))
                    }
                    (entity, _) => fact(api, &model, entity, &by.key),
                });
            found.add(values.collect(), model);
        }
    }
    let (models, next_page_token) = found.page();
    let models = models.iter().map(|model| View::of(api, model)).collect::<Answer<_>>()?;
    json(&Found { models, next_page_token })
}

fn plain_state(condition: &mut Condition) {
    if condition.key == "status"
        && matches!(condition.operator, Operator::Equal | Operator::NotEqual)
        && let search::Operand::Text(text) = &mut condition.operand
    {
        *text = text.trim_start_matches("LOGGED_MODEL_").to_owned();
    }
}
