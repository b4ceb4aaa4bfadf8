//! The model registry: names, their versions, aliases and stages. Prompts are names with a tag.

pub(crate) mod search;
pub(crate) mod versions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, ModelVersion, RegisteredModel};

use crate::api::Api;
use crate::error::{Answer, Code, Refusal};
use crate::limits::{self, MAX_ALIAS, MAX_REGISTRY_TAG_VALUE};
use crate::wire::{Flag, Pair, Request, done, json, need, pairs};

const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];
/// The tag of names that are prompts, which searches leave out unless they ask for it.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";
const MAX_DESCRIPTION: usize = 5000;

/// A version as clients see it.
#[derive(Debug, Serialize)]
struct VersionView {
    name: String,
    version: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    current_stage: String,
    description: String,
    source: String,
    run_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
    run_link: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    model_id: String,
}

impl VersionView {
    fn of(model: &RegisteredModel, version: &ModelVersion) -> Self {
        let leads = |(alias, number): (&String, &u32)| (*number == version.number).then(|| alias.clone());
        Self {
            name: version.name.clone(),
            version: version.number.to_string(),
            creation_timestamp: version.created.millis(),
            last_updated_timestamp: version.updated.millis(),
            current_stage: version.stage.clone(),
            description: version.description.clone(),
            source: version.source.clone(),
            run_id: version.run.map(|run| run.simple()).unwrap_or_default(),
            status: "READY",
            tags: pairs(&version.tags),
            run_link: version.run_link.clone(),
            aliases: model.aliases.iter().filter_map(leads).collect(),
            model_id: version.model.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Alias {
    alias: String,
    version: String,
}

/// A registered model as clients see it.
#[derive(Debug, Serialize)]
struct ModelView {
    name: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latest_versions: Vec<VersionView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Pair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Alias>,
}

impl ModelView {
    fn of(api: &Api, model: &RegisteredModel) -> Answer<Self> {
        let latest = latest(api, model, &[])?;
        let alias = |(alias, number): (&String, &u32)| Alias { alias: alias.clone(), version: number.to_string() };
        Ok(Self {
            name: model.name.clone(),
            creation_timestamp: model.created.millis(),
            last_updated_timestamp: model.updated.millis(),
            description: model.description.clone(),
            latest_versions: latest.iter().map(|version| VersionView::of(model, version)).collect(),
            tags: pairs(&model.tags),
            aliases: model.aliases.iter().map(alias).collect(),
        })
    }
}

#[derive(Serialize)]
struct OneModel {
    registered_model: ModelView,
}

#[derive(Serialize)]
struct OneVersion {
    model_version: VersionView,
}

/// The last version of each stage, of those asked for.
fn latest(api: &Api, model: &RegisteredModel, stages: &[&str]) -> Answer<Vec<ModelVersion>> {
    let mut last: BTreeMap<usize, ModelVersion> = BTreeMap::new();
    for version in api.store.model_versions(&model.name)? {
        let stage = STAGES.iter().position(|stage| *stage == version.stage).unwrap_or(0);
        if stages.is_empty() || stages.contains(&STAGES[stage]) {
            last.insert(stage, version);
        }
    }
    Ok(last.into_values().collect())
}

fn model(api: &Api, name: &str) -> Answer<RegisteredModel> {
    match api.store.registered_model(name) {
        Err(StoreError::NotFound { .. }) => {
            Err(Refusal::absent(format!("Registered Model with name={name} not found")))
        }
        answer => Ok(answer?),
    }
}

fn number(version: Option<&String>) -> Answer<u32> {
    let text = need(version, "version")?;
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Refusal::invalid_value(&text.into(), "version", "a whole number above 0 is expected"))
}

/// The version of a registered model.
pub(crate) fn version(api: &Api, name: &str, version: Option<&String>) -> Answer<ModelVersion> {
    let number = number(version)?;
    match api.store.model_version(name, number) {
        Err(StoreError::NotFound { .. }) => {
            Err(Refusal::absent(format!("Model Version (name={name}, version={number}) not found")))
        }
        answer => Ok(answer?),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    name: Option<String>,
    new_name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    tags: Vec<Pair>,
    key: Option<String>,
    value: Option<String>,
    alias: Option<String>,
    stage: Option<String>,
    stages: Vec<String>,
    archive_existing_versions: Option<Flag>,
    source: Option<String>,
    run_id: Option<String>,
    run_link: Option<String>,
    model_id: Option<String>,
}

impl Asked {
    fn name(&self) -> Answer<&str> {
        need(self.name.as_ref(), "name")
    }

    fn model(&self, api: &Api) -> Answer<RegisteredModel> {
        model(api, self.name()?)
    }

    fn version(&self, api: &Api) -> Answer<ModelVersion> {
        version(api, self.name()?, self.version.as_ref())
    }

    /// The key and the value of a tag to be set.
    fn tag(&self) -> Answer<(&str, &str)> {
        let key = need(self.key.as_ref(), "key")?;
        limits::check_key(key, "key")?;
        let value = self.value.as_deref().ok_or_else(|| Refusal::missing("value"))?;
        limits::check_length(value, MAX_REGISTRY_TAG_VALUE, "value")?;
        Ok((key, value))
    }

    fn description(&self) -> Answer<&str> {
        let text = self.description.as_deref().unwrap_or("");
        limits::check_length(text, MAX_DESCRIPTION, "description")?;
        Ok(text)
    }
}

fn checked_name<'a>(name: &'a str, parameter: &str) -> Answer<&'a str> {
    let is_name = !name.contains(['/', ':'])
        && !name.chars().any(char::is_control)
        && name.chars().count() <= 256
        && name.len() <= 480;
    if is_name {
        return Ok(name);
    }
    Err(Refusal::invalid(format!(
        "Invalid value for parameter '{parameter}' supplied: Registered model name of at most 256 characters without '/' and ':' is expected."
    )))
}

fn exists(error: StoreError, name: &str) -> Refusal {
    match error {
        StoreError::Conflict { .. } => {
            Refusal::new(Code::ResourceAlreadyExists, format!("Registered Model (name={name}) already exists."))
        }
        error => error.into(),
    }
}

pub(crate) fn create(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let name = checked_name(asked.name()?, "name")?;
    let tags = limits::tags(&asked.tags, MAX_REGISTRY_TAG_VALUE)?;
    let made = api.store.register_model(name, asked.description()?, &tags).map_err(|error| exists(error, name))?;
    json(&OneModel { registered_model: ModelView::of(api, &made)? })
}

pub(crate) fn get(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    json(&OneModel { registered_model: ModelView::of(api, &asked.model(api)?)? })
}

pub(crate) fn rename(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let model = asked.model(api)?;
    let new_name = checked_name(need(asked.new_name.as_ref(), "new_name")?, "new_name")?;
    let renamed = if new_name == model.name {
        model
    } else {
        api.store.rename_registered(&model.name, new_name).map_err(|error| exists(error, new_name))?
    };
    json(&OneModel { registered_model: ModelView::of(api, &renamed)? })
}

pub(crate) fn update(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (model, description) = (asked.model(api)?, asked.description()?);
    let changed = api.store.change_registered(&model.name, |model| {
        description.clone_into(&mut model.description);
        Ok(())
    })?;
    json(&OneModel { registered_model: ModelView::of(api, &changed)? })
}

pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    api.store.remove_registered(&asked.model(api)?.name)?;
    Ok(done())
}

pub(crate) fn set_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (model, (key, value)) = (asked.model(api)?, asked.tag()?);
    api.store.change_registered(&model.name, |model| {
        model.tags.insert(key.to_owned(), value.to_owned());
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn delete_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (model, key) = (asked.model(api)?, need(asked.key.as_ref(), "key")?);
    api.store.change_registered(&model.name, |model| {
        model.tags.remove(key);
        Ok(())
    })?;
    Ok(done())
}

fn checked_alias(alias: &str) -> Answer<&str> {
    limits::check_length(alias, MAX_ALIAS, "alias")?;
    let is_number = alias
        .strip_prefix(['v', 'V'])
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|digit| digit.is_ascii_digit()));
    let is_word = alias.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/'));
    if is_number || alias.eq_ignore_ascii_case("latest") || !is_word {
        return Err(Refusal::invalid(format!(
            "Invalid value \"{}\" for parameter 'alias' supplied: an alias of letters, digits, '_', '-', '.' and '/', other than 'latest' and 'v' with a number, is expected.",
            alias.escape_debug()
        )));
    }
    Ok(alias)
}

pub(crate) fn set_alias(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let alias = checked_alias(need(asked.alias.as_ref(), "alias")?)?;
    let version = asked.version(api)?;
    api.store.change_registered(&version.name, |model| {
        model.aliases.insert(alias.to_owned(), version.number);
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn delete_alias(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (model, alias) = (asked.model(api)?, need(asked.alias.as_ref(), "alias")?);
    api.store.change_registered(&model.name, |model| {
        model.aliases.remove(alias);
        Ok(())
    })?;
    Ok(done())
}

pub(crate) fn by_alias(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (model, alias) = (asked.model(api)?, need(asked.alias.as_ref(), "alias")?);
    let number = if alias == "latest" {
        api.store.model_versions(&model.name)?.last().map(|last| last.number)
    } else {
        model.aliases.get(alias).copied()
    };
    let number = number.ok_or_else(|| Refusal::invalid(format!("Registered model alias {alias} not found.")))?;
    let version = version(api, &model.name, Some(&number.to_string()))?;
    json(&OneVersion { model_version: VersionView::of(&model, &version) })
}

fn stage(text: &str) -> Answer<&'static str> {
    STAGES.into_iter().find(|stage| stage.eq_ignore_ascii_case(text)).ok_or_else(|| {
        Refusal::invalid(format!(
            "Invalid Model Version stage: {text}. Value must be one of None, Staging, Production, Archived."
        ))
    })
}

pub(crate) fn get_latest(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        model_versions: Vec<VersionView>,
    }
    let asked: Asked = request.read()?;
    let model = asked.model(api)?;
    let stages = asked.stages.iter().map(|text| stage(text)).collect::<Answer<Vec<_>>>()?;
    let latest = latest(api, &model, &stages)?;
    json(&Found { model_versions: latest.iter().map(|version| VersionView::of(&model, version)).collect() })
}
