//! The model registry: names, their versions, aliases and stages. Prompts are names with a tag.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracker_store::{Error as StoreError, ModelVersion, NewModelVersion, RegisteredModel};

use crate::api::Api;
use crate::artifacts::Place;
use crate::error::{Answer, Code, Refusal};
use crate::limits::{self, MAX_ALIAS, MAX_REGISTRY_TAG_VALUE};
use crate::search::{self, Fact, Filter, Sorted};
use crate::wire::{Flag, Int, Pair, Request, done, json, need, pairs};

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

/// Where the files that a source names are, if they are in this store.
pub(crate) fn files(api: &Api, source: &str) -> Answer<Option<Place>> {
    if let Some(rest) = source.strip_prefix("models:/") {
        let rest = rest.trim_start_matches('/').trim_end_matches('/');
        if let Some((name, number)) = rest.rsplit_once('/').filter(|(_, number)| number.parse::<u32>().is_ok()) {
            let other = version(api, name, Some(&number.to_owned()))?;
            return if other.source == source { Ok(None) } else { Place::of_uri_or_model(api, &other.source) };
        }
    }
    Place::of_uri_or_model(api, source)
}

impl Place {
    /// The place that `models:/m-ID`, `runs:/RUN/path` or a URI of the proxy names.
    fn of_uri_or_model(api: &Api, source: &str) -> Answer<Option<Self>> {
        if let Some(id) = source.strip_prefix("models:/").filter(|id| id.starts_with("m-")) {
            return Self::of_model(&crate::models::model(api, id)?.id, "").map(Some);
        }
        if let Some(rest) = source.strip_prefix("runs:/") {
            let (run, path) = rest.trim_matches('/').split_once('/').unwrap_or((rest, ""));
            return Self::of_run(api.run(run)?.id, path).map(Some);
        }
        Self::of_uri(source)
    }

    /// The URI that clients read the files from.
    fn uri(&self, api: &Api) -> Answer<String> {
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        if let Some(id) = self.owner.strip_prefix("models/") {
            return Ok(crate::models::artifact_uri(api, &crate::models::model(api, id)?)? + &path);
        }
        let run = self.owner.strip_prefix("runs/").unwrap_or(&self.owner);
        let experiment = api.store.experiment_by_id(api.run(run)?.experiment)?;
        Ok(format!("{}/{run}/artifacts{path}", api.artifact_location(&experiment)))
    }
}

pub(crate) fn create_version(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let model = asked.model(api)?;
    let source = need(asked.source.as_ref(), "source")?;
    limits::check_length(source, MAX_REGISTRY_TAG_VALUE, "source")?;
    check_source(source)?;
    let logged =
        asked.model_id.as_deref().filter(|id| !id.is_empty()).map(|id| crate::models::model(api, id)).transpose()?;
    let run = asked.run_id.as_deref().filter(|id| !id.is_empty()).map(|id| api.run(id)).transpose()?;
    let run = run.map(|run| run.id).or_else(|| logged.as_ref()?.run);
    let files = files(api, source)?;
    let new = NewModelVersion {
        name: model.name.clone(),
        description: asked.description()?.to_owned(),
        source: source.to_owned(),
        files: files.map(|place| (place.owner, place.path)),
        run,
        run_link: asked.run_link.clone().unwrap_or_default(),
        model: logged.as_ref().map(|logged| logged.id.clone()).unwrap_or_default(),
        tags: limits::tags(&asked.tags, MAX_REGISTRY_TAG_VALUE)?,
    };
    let version = api.store.create_model_version(&new)?;
    if let Some(logged) = &logged {
        note_version(api, &logged.id, &version)?;
    }
    json(&OneVersion { model_version: VersionView::of(&model, &version) })
}

/// Refuses sources that lead out of where models are.
fn check_source(source: &str) -> Answer<()> {
    let decoded = percent_encoding::percent_decode_str(source).decode_utf8_lossy();
    let decoded = percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    let leads_out = decoded.split(['/', '\\']).any(|part| part == "..") || decoded.chars().any(char::is_control);
    let is_local = source.starts_with('/') || source.to_ascii_lowercase().starts_with("file:");
    if leads_out || is_local {
        return Err(Refusal::invalid(format!(
            "Invalid model version source: '{}'. A source on this server, or a URI of another store, is expected; local paths are not supported.",
            source.chars().take(200).collect::<String>().escape_debug()
        )));
    }
    Ok(())
}

/// The tag of a logged model that lists the versions it became.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

fn note_version(api: &Api, id: &str, version: &ModelVersion) -> Answer<()> {
    api.store.change_model(id, |model| {
        let tag = model.tags.get(VERSIONS_TAG).and_then(|tag| serde_json::from_str(tag).ok());
        let mut list: Vec<serde_json::Value> = tag.unwrap_or_default();
        list.push(serde_json::json!({ "name": version.name, "version": version.number }));
        model.tags.insert(VERSIONS_TAG.to_owned(), serde_json::Value::Array(list).to_string());
        Ok(())
    })?;
    Ok(())
}

fn answer(api: &Api, version: &ModelVersion) -> Answer<Vec<u8>> {
    let version = api.store.model_version(&version.name, version.number)?;
    json(&OneVersion { model_version: VersionView::of(&model(api, &version.name)?, &version) })
}

pub(crate) fn get_version(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    answer(api, &asked.version(api)?)
}

fn change(api: &Api, version: &ModelVersion, change: impl Fn(&mut ModelVersion)) -> Answer<()> {
    let number = version.number;
    Ok(api.store.change_versions(&version.name, |version| {
        let is_it = version.number == number;
        if is_it {
            change(version);
        }
        is_it
    })?)
}

pub(crate) fn update_version(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (version, description) = (asked.version(api)?, asked.description()?);
    change(api, &version, |version| description.clone_into(&mut version.description))?;
    answer(api, &version)
}

pub(crate) fn transition(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let version = asked.version(api)?;
    let to = stage(need(asked.stage.as_ref(), "stage")?)?;
    let archives = asked.archive_existing_versions.unwrap_or_default().0;
    if archives && !matches!(to, "Staging" | "Production") {
        return Err(Refusal::invalid(format!(
            "Model version transition cannot archive existing model versions because '{to}' is not an Active stage. Valid stages are Staging, Production"
        )));
    }
    let number = version.number;
    api.store.change_versions(&version.name, |other| {
        let stage = match other.number == number {
            true => to,
            false if archives && other.stage == to => "Archived",
            false => return false,
        };
        stage.clone_into(&mut other.stage);
        true
    })?;
    answer(api, &version)
}

pub(crate) fn delete_version(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let version = asked.version(api)?;
    api.store.remove_model_version(&version.name, version.number)?;
    Ok(done())
}

pub(crate) fn set_version_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (version, (key, value)) = (asked.version(api)?, asked.tag()?);
    change(api, &version, |version| drop(version.tags.insert(key.to_owned(), value.to_owned())))?;
    Ok(done())
}

pub(crate) fn delete_version_tag(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let (version, key) = (asked.version(api)?, need(asked.key.as_ref(), "key")?);
    change(api, &version, |version| drop(version.tags.remove(key)))?;
    Ok(done())
}

pub(crate) fn download_uri(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        artifact_uri: String,
    }
    let asked: Asked = request.read()?;
    let version = asked.version(api)?;
    let artifact_uri = match files(api, &version.source)? {
        Some(place) => place.uri(api)?,
        None => version.source,
    };
    json(&Found { artifact_uri })
}

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
