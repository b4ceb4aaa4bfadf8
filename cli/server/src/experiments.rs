//! Experiments: made, found, changed, deleted and restored.

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, Experiment};

use crate::api::{Api, stage_name};
use crate::error::{Answer, Code, Refusal};
use crate::limits::{self, MAX_EXPERIMENT_NAME, MAX_EXPERIMENT_TAG_VALUE};
use crate::search::{self, Fact, Filter, Sorted};
use crate::wire::{Int, Pair, Request, done, json, need, pairs};

/// An experiment as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    experiment_id: String,
    name: String,
    artifact_location: String,
    lifecycle_stage: &'static str,
    last_update_time: i64,
    creation_time: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
}

impl View {
    fn of(api: &Api, experiment: &Experiment) -> Self {
        Self {
            experiment_id: api.experiment_name(experiment.id),
            name: experiment.name.clone(),
            artifact_location: api.artifact_location(experiment),
            lifecycle_stage: stage_name(experiment.archived),
            last_update_time: experiment.updated.millis(),
            creation_time: experiment.created.millis(),
            tags: pairs(&experiment.tags),
        }
    }
}

#[derive(Serialize)]
struct One {
    experiment: View,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    experiment_name: Option<String>,
    experiment_id: Option<String>,
}

pub(crate) fn get(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Named = request.read()?;
    let experiment = api.experiment(need(asked.experiment_id.as_ref(), "experiment_id")?)?;
    json(&One { experiment: View::of(api, &experiment) })
}

pub(crate) fn get_by_name(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Named = request.read()?;
    let name = need(asked.experiment_name.as_ref(), "experiment_name")?;
    let found = api.store.find_experiment(name)?;
    let experiment = found.ok_or_else(|| Refusal::absent(format!("Could not find experiment with name '{name}'")))?;
    json(&One { experiment: View::of(api, &experiment) })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    name: Option<String>,
    artifact_location: Option<String>,
    tags: Vec<Pair>,
}

pub(crate) fn create(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Created {
        experiment_id: String,
    }
    let asked: Create = request.read()?;
    let name = checked_name(need(asked.name.as_ref(), "name")?, "name")?;
    let location = asked.artifact_location.as_deref().unwrap_or("").trim_end_matches('/');
    if location.contains(['#', '?']) || location.chars().any(char::is_control) {
        return Err(Refusal::invalid(format!(
            "Invalid value \"{location}\" for parameter 'artifact_location' supplied: A URI without fragment, query and control characters is expected."
        )));
    }
    let tags = limits::tags(&asked.tags, MAX_EXPERIMENT_TAG_VALUE)?;
    let made = api.store.create_experiment(name, location, &tags).map_err(|error| exists(error, name))?;
    json(&Created { experiment_id: api.experiment_name(made.id) })
}

fn checked_name<'a>(name: &'a str, parameter: &str) -> Answer<&'a str> {
    limits::check_length(name, MAX_EXPERIMENT_NAME, parameter)?;
    if name.chars().any(char::is_control) || name.len() > 512 {
        return Err(Refusal::invalid(format!(
            "Invalid value for parameter '{parameter}' supplied: At most 512 bytes without control characters are expected."
        )));
    }
    Ok(name)
}

fn exists(error: StoreError, name: &str) -> Refusal {
    match error {
        StoreError::Conflict { .. } => {
            Refusal::new(Code::ResourceAlreadyExists, format!("Experiment(name={name}) already exists."))
        }
        error => error.into(),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    experiment_id: Option<String>,
    new_name: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

pub(crate) fn update(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let experiment = active(api, &asked)?;
    if let Some(name) = asked.new_name.as_deref().filter(|name| !name.is_empty()) {
        let name = checked_name(name, "new_name")?;
        let changed = api.store.change_experiment(experiment.id, |experiment| name.clone_into(&mut experiment.name));
        changed.map_err(|error| exists(error, name))?;
    }
    Ok(done())
}

pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    archive(api, request, true)
}

pub(crate) fn restore(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    archive(api, request, false)
}

fn archive(api: &Api, request: &Request<'_>, is_archived: bool) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let id = need(asked.experiment_id.as_ref(), "experiment_id")?;
    let experiment = api.experiment(id)?;
    // Asked twice, the second finds it as it shall be.
    if experiment.archived != is_archived {
        api.store.change_experiment(experiment.id, |experiment| experiment.archived = is_archived)?;
    }
    Ok(done())
}

fn active(api: &Api, asked: &Change) -> Answer<Experiment> {
    let id = need(asked.experiment_id.as_ref(), "experiment_id")?;
    let experiment = api.experiment(id)?;
    if experiment.archived {
        return Err(Refusal::invalid(format!(
            "The experiment {id} must be in the 'active' state. Current state is deleted."
        )));
    }
    Ok(experiment)
}

pub(crate) fn set_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let experiment = active(api, &asked)?;
    let key = need(asked.key.as_ref(), "key")?;
    let value = asked.value.as_deref().ok_or_else(|| Refusal::missing("value"))?;
    limits::check_key(key, "key")?;
    limits::check_length(value, MAX_EXPERIMENT_TAG_VALUE, "value")?;
    api.store.change_experiment(experiment.id, |experiment| {
        experiment.tags.insert(key.to_owned(), value.to_owned());
    })?;
    Ok(done())
}

pub(crate) fn delete_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Change = request.read()?;
    let experiment = active(api, &asked)?;
    let key = need(asked.key.as_ref(), "key")?;
    if !experiment.tags.contains_key(key) {
        return Err(Refusal::absent(format!("No tag with name: {key}")));
    }
    api.store.change_experiment(experiment.id, |experiment| drop(experiment.tags.remove(key)))?;
    Ok(done())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Search {
    view_type: Option<String>,
    max_results: Option<Int>,
    filter: Option<String>,
    order_by: Vec<String>,
    page_token: Option<String>,
}

const KEYS: [&str; 4] = ["name", "experiment_id", "creation_time", "last_update_time"];

fn fact(api: &Api, experiment: &Experiment, entity: Option<&str>, key: &str) -> Option<Fact> {
    match (entity, key) {
        (Some("tag"), key) => experiment.tags.get(key).cloned().map(Fact::Text),
        (_, "name") => Some(Fact::Text(experiment.name.clone())),
        (_, "experiment_id") => Some(Fact::Text(api.experiment_name(experiment.id))),
        (_, "creation_time") => Some(Fact::Number(experiment.created.millis() as f64)),
        (_, "last_update_time") => Some(Fact::Number(experiment.updated.millis() as f64)),
        _ => None,
    }
}

pub(crate) fn find(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        experiments: Vec<View>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    let asked: Search = request.read()?;
    let limit = limits::max_results(asked.max_results, 1000, 50_000)?;
    let filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&KEYS, &["creation_time", "last_update_time"], &["tag"])?;
    let (default, last) = (["creation_time DESC"], ["experiment_id ASC"]);
    let order = search::order(&asked.order_by, &default, &last, &KEYS, &["tag"])?;
    let view = search::view(asked.view_type.as_deref())?;
    let mut found = Sorted::new(&order, limit, asked.page_token.as_deref())?;
    for experiment in api.store.experiments()? {
        let is_asked = view.shows(experiment.archived);
        let mut look = |entity: Option<&str>, key: &str| fact(api, &experiment, entity, key);
        if is_asked && filter.holds(&mut look)? {
            let values = order.iter().map(|by| look(by.entity.as_deref(), &by.key)).collect();
            found.add(values, experiment);
        }
    }
    let (experiments, next_page_token) = found.page();
    json(&Found {
        experiments: experiments.iter().map(|experiment| View::of(api, experiment)).collect(),
        next_page_token,
    })
}
