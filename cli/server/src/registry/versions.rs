//! Versions of registered models: made from files that are here or elsewhere, described, moved between stages, removed.

use serde::Serialize;
use tracker_store::{ModelVersion, NewModelVersion};

use super::{Asked, OneVersion, VersionView, model, stage, version};
use crate::api::Api;
use crate::artifacts::Place;
use crate::error::{Answer, Refusal};
use crate::limits::{self, MAX_REGISTRY_TAG_VALUE};
use crate::wire::{Request, done, json, need};

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
