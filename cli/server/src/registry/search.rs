//! Searching registered models and their versions. Prompts are left out unless a filter speaks of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{ModelVersion, RegisteredModel};

use super::{ModelView, PROMPT_TAG, VersionView, model};
use crate::api::Api;
use crate::error::Answer;
use crate::limits;
use crate::search::{self, Fact, Filter, Sorted};
use crate::wire::{Int, Request, json};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Search {
    filter: Option<String>,
    max_results: Option<Int>,
    order_by: Vec<String>,
    page_token: Option<String>,
}

/// Whether prompts are left out: a filter that does not speak of them wants models.
fn skips_prompts(filter: &Filter) -> bool {
    filter.conditions.iter().all(|condition| condition.key != PROMPT_TAG)
}

fn is_prompt(tags: &BTreeMap<String, String>) -> bool {
    tags.get(PROMPT_TAG).is_some_and(|tag| tag.eq_ignore_ascii_case("true"))
}

/// Names that do not have the tag are no prompts, which `!= 'true'` asks for.
fn prompt_fact(tags: &BTreeMap<String, String>) -> Fact {
    Fact::Text(tags.get(PROMPT_TAG).cloned().unwrap_or_else(|| "false".to_owned()))
}

pub(crate) fn find(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        registered_models: Vec<ModelView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    const KEYS: [&str; 5] = ["name", "timestamp", "last_updated_timestamp", "creation_timestamp", "last_updated_time"];
    let asked: Search = request.read()?;
    let limit = limits::max_results(asked.max_results, 100, 1000)?;
    let filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&["name"], &[], &["tag"])?;
    let order = search::order(&asked.order_by, &["name ASC"], &["name ASC"], &KEYS, &[])?;
    let mut found = Sorted::new(&order, limit, asked.page_token.as_deref())?;
    for model in api.store.registered_models(None) {
        let model = model?;
        let mut look = |entity: Option<&str>, key: &str| match (entity, key) {
            (Some("tag"), PROMPT_TAG) => Some(prompt_fact(&model.tags)),
            (Some("tag"), key) => model.tags.get(key).cloned().map(Fact::Text),
            (_, "name") => Some(Fact::Text(model.name.clone())),
            (_, "creation_timestamp") => Some(Fact::Number(model.created.millis() as f64)),
            _ => Some(Fact::Number(model.updated.millis() as f64)),
        };
        let is_left_out = skips_prompts(&filter) && is_prompt(&model.tags);
        if !is_left_out && filter.holds(&mut look)? {
            let values = order.iter().map(|by| look(by.entity.as_deref(), &by.key)).collect();
            found.add(values, model);
        }
    }
    let (models, next_page_token) = found.page();
    let registered_models = models.iter().map(|model| ModelView::of(api, model)).collect::<Answer<_>>()?;
    json(&Found { registered_models, next_page_token })
}

pub(crate) fn find_versions(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        model_versions: Vec<VersionView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    const KEYS: [&str; 7] =
        ["name", "version_number", "run_id", "source_path", "creation_timestamp", "last_updated_timestamp", "version"];
    let asked: Search = request.read()?;
    let limit = limits::max_results(asked.max_results, 10_000, 200_000)?;
    let filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&["name", "version_number", "run_id", "source_path"], &["version_number"], &["tag"])?;
    let (default, last) = (["last_updated_timestamp DESC"], ["name ASC", "version_number DESC"]);
    let order = search::order(&asked.order_by, &default, &last, &KEYS, &[])?;
    let mut found = Sorted::new(&order, limit, asked.page_token.as_deref())?;
    let mut add = |version: ModelVersion| -> Answer<()> {
        let text = |text: &str| Some(Fact::Text(text.to_owned()));
        let mut look = |entity: Option<&str>, key: &str| match (entity, key) {
            (Some("tag"), PROMPT_TAG) => Some(prompt_fact(&version.tags)),
            (Some("tag"), key) => version.tags.get(key).cloned().map(Fact::Text),
            (_, "name") => text(&version.name),
            (_, "run_id") => text(&version.run?.simple()),
            (_, "source_path") => text(&version.source),
            (_, "version_number" | "version") => Some(Fact::Number(f64::from(version.number))),
            (_, "creation_timestamp") => Some(Fact::Number(version.created.millis() as f64)),
            _ => Some(Fact::Number(version.updated.millis() as f64)),
        };
        let is_left_out = skips_prompts(&filter) && is_prompt(&version.tags);
        if !is_left_out && filter.holds(&mut look)? {
            let values = order.iter().map(|by| look(by.entity.as_deref(), &by.key)).collect();
            found.add(values, version);
        }
        Ok(())
    };
    match filter.required("name") {
        Some(name) => api.store.model_versions(name)?.into_iter().try_for_each(&mut add)?,
        None => api.store.every_model_version().try_for_each(|version| add(version?))?,
    }
    let (versions, next_page_token) = found.page();
    let mut models: BTreeMap<String, RegisteredModel> = BTreeMap::new();
    let mut model_versions = Vec::with_capacity(versions.len());
    for version in &versions {
        if !models.contains_key(&version.name) {
            models.insert(version.name.clone(), model(api, &version.name)?);
        }
        model_versions.extend(models.get(&version.name).map(|model| VersionView::of(model, version)));
    }
    json(&Found { model_versions, next_page_token })
}
