//! A run as clients see it.

use serde::Serialize;
use tracker_store::{Run, RunInput, Series, Way};

use crate::api::{Api, stage_name, status_name};
use crate::error::Answer;
use crate::wire::{Num, Pair, pairs};

/// What a run is, without its data.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    run_uuid: String,
    experiment_id: String,
    run_name: String,
    user_id: String,
    status: &'static str,
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: String,
    lifecycle_stage: &'static str,
    run_id: String,
}

impl Info {
    pub(crate) fn of(api: &Api, run: &Run) -> Answer<Self> {
        let experiment = api.store.experiment_by_id(run.experiment)?;
        let id = run.id.simple();
        Ok(Self {
            run_uuid: id.clone(),
            experiment_id: api.experiment_name(run.experiment),
            run_name: run.name.clone(),
            user_id: run.user.clone(),
            status: status_name(run.status),
            start_time: run.started.millis(),
            end_time: run.ended.map(tracker_store::Timestamp::millis),
            artifact_uri: format!("{}/{id}/artifacts", api.artifact_location(&experiment)),
            lifecycle_stage: stage_name(run.deleted.is_some() || experiment.archived),
            run_id: id,
        })
    }
}

#[derive(Debug, Default, Serialize)]
struct Data {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
}

/// The latest point of a series.
#[derive(Debug, Serialize)]
struct Metric {
    key: String,
    value: Num,
    timestamp: i64,
    step: i64,
}

impl From<(String, Series)> for Metric {
    fn from((key, series): (String, Series)) -> Self {
        let latest = series.latest;
        Self { key, value: Num(latest.value), timestamp: latest.time, step: latest.step }
    }
}

/// A dataset with the tags of its use.
#[derive(Debug, Serialize)]
struct DatasetInput {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
    dataset: Dataset,
}

#[derive(Debug, Serialize)]
struct Dataset {
    name: String,
    digest: String,
    source_type: String,
    source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    schema: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    profile: String,
}

impl From<RunInput> for DatasetInput {
    fn from(input: RunInput) -> Self {
        let tags = pairs(&input.tags);
        let RunInput { name, digest, source_type, source, schema, profile, .. } = input;
        Self { tags, dataset: Dataset { name, digest, source_type, source, schema, profile } }
    }
}

#[derive(Debug, Serialize)]
struct ModelInput {
    model_id: String,
}

#[derive(Debug, Serialize)]
struct ModelOutput {
    model_id: String,
    step: i64,
}

#[derive(Debug, Default, Serialize)]
struct Inputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelInput>,
}

#[derive(Debug, Default, Serialize)]
struct Outputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<ModelOutput>,
}

/// A run with its data.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    info: Info,
    data: Data,
    inputs: Inputs,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Outputs>,
}

impl View {
    pub(crate) fn of(api: &Api, run: &Run) -> Answer<Self> {
        let store = &api.store;
        let data = Data {
            metrics: store.all_series(run.id)?.into_iter().map(Metric::from).collect(),
            params: pairs(&store.params(run.id)?),
            tags: pairs(&store.tags(run.id)?),
        };
        let mut inputs = Inputs {
            dataset_inputs: store.inputs(run.id)?.into_iter().map(DatasetInput::from).collect(),
            model_inputs: Vec::new(),
        };
        let mut outputs = Outputs::default();
        for (way, model_id, step) in store.model_links(run.id)? {
            match way {
                Way::In => inputs.model_inputs.push(ModelInput { model_id }),
                Way::Out => outputs.model_outputs.push(ModelOutput { model_id, step }),
            }
        }
        let outputs = (!outputs.model_outputs.is_empty()).then_some(outputs);
        Ok(Self { info: Info::of(api, run)?, data, inputs, outputs })
    }
}
