//! Runs: made, read, changed, deleted and restored, and their tags.

mod by_uri;
pub(crate) mod inputs;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod search;
mod view;

use serde::{Deserialize, Serialize};
use tracker_store::{ClientRun, Durability, Recording, RunChange, RunId, Timestamp};

use crate::api::{self, Api};
use crate::error::{Answer, Refusal};
use crate::limits::{self, MAX_TAG_VALUE};
use crate::wire::{Int, Pair, Request, done, json, need};

pub(crate) use view::{Info, View};

/// The tag that is a run's name too.
const NAME_TAG: &str = "mlflow.runName";
/// The tag that is who logged a run too.
const USER_TAG: &str = "mlflow.user";

#[derive(Serialize)]
struct One {
    run: View,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    experiment_id: Option<String>,
    user_id: Option<String>,
    run_name: Option<String>,
    start_time: Option<Int>,
    tags: Vec<Pair>,
}

pub(crate) fn create(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Create = request.read()?;
    let text = need(asked.experiment_id.as_ref(), "experiment_id")?;
    let experiment = api.experiment(text)?;
    if experiment.archived {
        return Err(Refusal::invalid(format!(
            "The experiment {text} must be in the 'active' state. Current state is deleted."
        )));
    }
    let fitted = |(nth, Pair { key, value }): (usize, &Pair)| {
        let value = api.fitted(value, MAX_TAG_VALUE, format_args!("tags[{nth}].value"))?.to_owned();
        Ok(Pair { key: key.clone(), value })
    };
    let tags = asked.tags.iter().enumerate().map(fitted).collect::<Answer<Vec<_>>>()?;
    let mut tags = limits::tags(&tags, MAX_TAG_VALUE)?;
    let said = asked.run_name.filter(|name| !name.is_empty());
    let name = said.or_else(|| tags.get(NAME_TAG).cloned()).unwrap_or_else(made_up_name);
    let name = checked_name(&name)?;
    tags.insert(NAME_TAG.to_owned(), name.to_owned());
    let user =
        asked.user_id.filter(|user| !user.is_empty()).or_else(|| tags.get(USER_TAG).cloned()).unwrap_or_default();
    let started = asked.start_time.map_or_else(|| Ok(Timestamp::now()), |millis| time(millis, "start_time"))?;
    let new = ClientRun { experiment: experiment.id, name: name.to_owned(), user, started, tags };
    let run = api.store.log_run(&new)?;
    json(&One { run: View::of(api, &run)? })
}

/// A name for a run whose client gives none: the protocol's clients expect every run to have one.
fn made_up_name() -> String {
    let id = tracker_store::RunId::fresh();
    format!("run-{}", id.short())
}

fn checked_name(name: &str) -> Answer<&str> {
    let is_name = name.len() <= 512 && !name.chars().any(char::is_control);
    if is_name {
        return Ok(name);
    }
    Err(Refusal::invalid(
        "Invalid value for parameter 'run_name' supplied: At most 512 bytes without control characters are expected.",
    ))
}

fn time(millis: Int, parameter: &str) -> Answer<Timestamp> {
    Timestamp::from_millis(millis.0).ok_or_else(|| {
        Refusal::invalid_value(&millis.0.into(), parameter, "a time in milliseconds since 1970 is expected")
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    run_id: Option<String>,
    run_uuid: Option<String>,
}

/// The id of a run, which clients send under two names.
fn id<'a>(run_id: Option<&'a String>, run_uuid: Option<&'a String>) -> Answer<&'a str> {
    need(run_id.filter(|id| !id.is_empty()).or(run_uuid), "run_id")
}

pub(crate) fn get(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Named = request.read()?;
    let run = api.run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    json(&One { run: View::of(api, &run)? })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Update {
    run_id: Option<String>,
    run_uuid: Option<String>,
    status: Option<serde_json::Value>,
    end_time: Option<Int>,
    run_name: Option<String>,
}

pub(crate) fn update(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Updated {
        run_info: Info,
    }
    let asked: Update = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let status = match &asked.status {
        None | Some(serde_json::Value::Null) => None,
        Some(value) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let expected = "RUNNING, SCHEDULED, FINISHED, FAILED or KILLED is expected";
            Some(api::status(&text).ok_or_else(|| Refusal::invalid_value(value, "status", expected))?)
        }
    };
    let ended = asked.end_time.map(|millis| time(millis, "end_time")).transpose()?;
    let name = asked.run_name.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        checked_name(name)?;
    }
    let mut tags = Recording::new();
    if let Some(name) = &name {
        tags.put_tag(run.id, NAME_TAG, name)?;
    }
    let run = api.store.change_logged_run(run.id, &RunChange { name, status, ended }, &tags)?;
    json(&Updated { run_info: Info::of(api, &run)? })
}

pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    mark(api, request, true)
}

pub(crate) fn restore(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    mark(api, request, false)
}

fn mark(api: &Api, request: &Request<'_>, is_deleted: bool) -> Answer<Vec<u8>> {
    let asked: Named = request.read()?;
    let run = api.run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    // Asked twice, the second finds it as it shall be.
    if run.deleted.is_some() != is_deleted {
        api.store.delete_run(run.id, is_deleted)?;
    }
    Ok(done())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tag {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

pub(crate) fn set_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Tag = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let key = need(asked.key.as_ref(), "key")?;
    limits::check_key(key, "key")?;
    let value = asked.value.as_deref().ok_or_else(|| Refusal::missing("value"))?;
    let value = api.fitted(value, MAX_TAG_VALUE, "value")?;
    let mut recording = Recording::new();
    recording.put_tag(run.id, key, value)?;
    commit(api, run.id, &recording, (key == NAME_TAG).then_some(value))?;
    Ok(done())
}

/// Writes what was staged of a run, at once, with its name if that changes.
fn commit(api: &Api, run: RunId, recording: &Recording, name: Option<&str>) -> Answer<()> {
    match name {
        None => api.store.commit(recording, Durability::Os)?,
        Some(name) => {
            let change = RunChange { name: Some(checked_name(name)?.to_owned()), ..RunChange::default() };
            api.store.change_logged_run(run, &change, recording)?;
        }
    }
    Ok(())
}

pub(crate) fn delete_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Tag = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let key = need(asked.key.as_ref(), "key")?;
    if api.store.remove_tag(run.id, key)? {
        Ok(done())
    } else {
        Err(Refusal::absent(format!("No tag with name: {key} in run with id {}", run.id.simple())))
    }
}
