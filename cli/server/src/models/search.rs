//! Searching logged models: by what they are, and by how they were measured on which dataset.

use serde::{Deserialize, Serialize};
use tracker_store::{LoggedModel, Measurement};

use super::{View, state_name};
use crate::api::Api;
use crate::error::Answer;
use crate::limits;
use crate::search::{self, Condition, Fact, Filter, Operator, Sorted};
use crate::wire::{Int, Request, json, need};

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
            // A model was measured more than once: one value that fulfils a condition is enough.
            let mut look = |entity: Option<&str>, key: &str| {
                Ok(match entity {
                    Some("metric") => {
                        let of_key = scoped.iter().filter(|measured| measured.key == key);
                        of_key.map(|measured| Fact::Number(measured.value)).collect()
                    }
                    _ => fact(api, &model, entity, key).into_iter().collect(),
                })
            };
            if !filter.holds_any(&mut look)? {
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
