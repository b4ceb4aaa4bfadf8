//! What runs used and gave: datasets and logged models, and with them edges of lineage.

use std::collections::BTreeMap;

use serde::Deserialize;
use tracker_store::{Durability, Recording, RunInput, Way};

use super::id;
use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits::{
    self, MAX_DATASET_DIGEST, MAX_DATASET_NAME, MAX_DATASET_PROFILE, MAX_DATASET_SCHEMA, MAX_DATASET_SOURCE,
};
use crate::wire::{Int, Pair, Request, done, need};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dataset {
    name: Option<String>,
    digest: Option<String>,
    source_type: Option<String>,
    source: Option<String>,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DatasetInput {
    tags: Vec<Pair>,
    dataset: Option<Dataset>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    model_id: Option<String>,
    step: Option<Int>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogInputs {
    run_id: Option<String>,
    run_uuid: Option<String>,
    datasets: Vec<DatasetInput>,
    models: Vec<Model>,
}

pub(crate) fn log(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogInputs = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let mut recording = Recording::new();
    for (nth, input) in asked.datasets.iter().enumerate() {
        recording.put_input(run.id, &read(input, nth)?)?;
    }
    let models = ids(api, &asked.models)?;
    if models.is_empty() {
        api.store.commit(&recording, Durability::Os)?;
    } else {
        api.store.take_models(run.id, &models, &recording)?;
    }
    Ok(done())
}

fn read(input: &DatasetInput, nth: usize) -> Answer<RunInput> {
    let at = |field: &str| format!("datasets[{nth}].dataset.{field}");
    let dataset = input.dataset.as_ref().ok_or_else(|| Refusal::missing(&format!("datasets[{nth}].dataset")))?;
    let needed = |value: &Option<String>, field: &str, limit: usize| -> Answer<String> {
        let text = need(value.as_ref(), &at(field))?;
        limits::check_length(text, limit, &at(field))?;
        Ok(text.to_owned())
    };
    let optional = |value: &Option<String>, field: &str, limit: usize| -> Answer<String> {
        let text = value.as_deref().unwrap_or("");
        limits::check_length(text, limit, &at(field))?;
        Ok(text.to_owned())
    };
    let mut tags = BTreeMap::new();
    for (mth, Pair { key, value }) in input.tags.iter().enumerate() {
        limits::check_length(key, 255, &format!("datasets[{nth}].tags[{mth}].key"))?;
        limits::check_length(value, 500, &format!("datasets[{nth}].tags[{mth}].value"))?;
        tags.insert(key.clone(), value.clone());
    }
    Ok(RunInput {
        name: needed(&dataset.name, "name", MAX_DATASET_NAME)?,
        digest: needed(&dataset.digest, "digest", MAX_DATASET_DIGEST)?,
        source_type: needed(&dataset.source_type, "source_type", MAX_DATASET_NAME)?,
        source: needed(&dataset.source, "source", MAX_DATASET_SOURCE)?,
        schema: optional(&dataset.schema, "schema", MAX_DATASET_SCHEMA)?,
        profile: optional(&dataset.profile, "profile", MAX_DATASET_PROFILE)?,
        tags,
    })
}

fn ids(api: &Api, models: &[Model]) -> Answer<Vec<String>> {
    let id = |(nth, model): (usize, &Model)| {
        let id = need(model.model_id.as_ref(), &format!("models[{nth}].model_id"))?;
        Ok(crate::models::model(api, id)?.id)
    };
    models.iter().enumerate().map(id).collect()
}

pub(crate) fn outputs(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: LogInputs = request.read()?;
    let run = api.active_run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let mut recording = Recording::new();
    for (id, model) in ids(api, &asked.models)?.iter().zip(&asked.models) {
        recording.put_model_link(run.id, Way::Out, id, model.step.unwrap_or_default().0)?;
    }
    api.store.commit(&recording, Durability::Os)?;
    Ok(done())
}
