//! Files of runs, models and traces, as clients name them: by the URI they were given, or by run and path.
//!
//! A path of the proxy is `EXPERIMENT/RUN/artifacts/…`, `EXPERIMENT/models/MODEL/artifacts/…` or `EXPERIMENT/traces/TRACE/artifacts/…`; what
//! stands before is where the client's experiment says that its files are, and is not looked at. Files lie in the store as loose files of
//! their owner.
//!
//! Invariant: no path leads out of its owner, however it is written: it is decoded once, and must then be plain.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tracker_store::{FileEntry, LooseFile, RunId};

use crate::api::{Api, SCHEME};
use crate::error::{Answer, Code, Refusal};
use crate::wire::{Request, done, json};

/// An owner of files, and a path among them; the empty path is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) owner: String,
    pub(crate) path: String,
}

/// Reads the path of a request, as it stands in the URL.
pub(crate) fn decoded(path: &str) -> Answer<String> {
    let text = percent_decode_str(path).decode_utf8().map_err(|_| bad_path(path))?;
    Ok(text.into_owned())
}

fn bad_path(path: &str) -> Refusal {
    let path: String = path.chars().take(200).collect();
    Refusal::invalid(format!("Invalid path: '{}'", path.escape_default()))
}

/// Refuses a path that is not plain: absolute, with empty parts, `.` or `..`, backslashes, drive letters, control characters, or still encoded.
fn check(path: &str) -> Answer<()> {
    let is_plain_part = |part: &str| {
        let again = percent_decode_str(part).decode_utf8_lossy().into_owned();
        // A part that is another once more decoded could be taken for that by whoever decodes twice.
        let is_nested = matches!(again.as_str(), "." | "..") || again.contains(['/', '\\', '\0']);
        !matches!(part, "" | "." | "..") && !is_nested && !part.chars().any(is_odd)
    };
    let is_drive =
        path.as_bytes().get(1) == Some(&b':') && path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    if path.is_empty() || path.split('/').all(is_plain_part) && !is_drive { Ok(()) } else { Err(bad_path(path)) }
}

/// Letters that look like separators or dots to something else, or are none.
fn is_odd(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\\' | '\u{2024}'
                | '\u{2025}'
                | '\u{2215}'
                | '\u{2044}'
                | '\u{29f8}'
                | '\u{ff0e}'
                | '\u{ff0f}'
                | '\u{ff3c}'
        )
}

impl Place {
    /// The place that a path of the proxy, once decoded, leads to; none if it is above every owner.
    pub(crate) fn of(path: &str) -> Answer<Option<Self>> {
        check(path)?;
        let parts: Vec<&str> = path.split('/').collect();
        let Some(at) = (1..parts.len()).find(|at| parts[*at] == "artifacts" && owner(&parts[..*at]).is_some()) else {
            return Ok(None);
        };
        Ok(owner(&parts[..at]).map(|owner| Self { owner, path: parts[at + 1..].join("/") }))
    }

    /// The place that a URI of the proxy leads to, if it is one: `mlflow-artifacts:/…`, with or without a host.
    pub(crate) fn of_uri(uri: &str) -> Answer<Option<Self>> {
        let Some(path) = uri.strip_prefix(SCHEME) else { return Ok(None) };
        let path = match path.strip_prefix('/') {
            Some(host_and_path) => host_and_path.split_once('/').map_or("", |(_, path)| path),
            None => path,
        };
        Self::of(path.trim_end_matches('/'))
    }

    /// The files of a run.
    pub(crate) fn of_run(run: RunId, path: &str) -> Answer<Self> {
        check(path)?;
        Ok(Self { owner: format!("runs/{}", run.simple()), path: path.to_owned() })
    }

    /// The files of a logged model.
    pub(crate) fn of_model(model: &str, path: &str) -> Answer<Self> {
        check(path)?;
        Ok(Self { owner: format!("models/{model}"), path: path.to_owned() })
    }
}

/// The owner that the parts before `artifacts` name.
fn owner(parts: &[&str]) -> Option<String> {
    match parts {
        [.., "models", model] if model.starts_with("m-") => Some(format!("models/{model}")),
        [.., "traces", trace] => Some(format!("traces/{trace}")),
        [.., run] => run.parse::<RunId>().ok().map(|run| format!("runs/{}", run.simple())),
        [] => None,
    }
}

#[derive(Debug, Serialize)]
struct FileInfo {
    path: String,
    is_dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
}

impl FileInfo {
    fn new(path: String, file: Option<LooseFile>) -> Self {
        Self { path, is_dir: file.is_none(), file_size: file.map(|file| file.n_bytes) }
    }
}

/// What names of artifacts begin with that were made of files a client sees anyway.
const MADE_OF_LOOSE: [&str; 2] = ["models/", "registry/"];

/// The files of the artifacts that a run recorded itself, as studies do, by path: `NAME:vN/…`. They can be read, not replaced.
fn recorded(api: &Api, owner: &str) -> Answer<BTreeMap<String, LooseFile>> {
    let mut files = BTreeMap::new();
    let Some(run) = owner.strip_prefix("runs/").and_then(|run| run.parse::<RunId>().ok()) else { return Ok(files) };
    for version in api.store.versions_of_run(run)? {
        if MADE_OF_LOOSE.iter().any(|prefix| version.name.starts_with(prefix)) {
            continue;
        }
        for FileEntry { path, n_bytes, digest } in api.store.manifest(&version)?.files {
            let path = format!("{}:v{}/{path}", version.name, version.number);
            files.insert(path, LooseFile { n_bytes, digest, modified: version.created });
        }
    }
    Ok(files)
}

/// What lies in a folder among files by path: folders without, files with what they are.
fn recorded_in(files: &BTreeMap<String, LooseFile>, folder: &str) -> BTreeMap<String, Option<LooseFile>> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let below = files.iter().filter_map(|(path, file)| Some((path.strip_prefix(&prefix)?, file)));
    below
        .map(|(rest, file)| match rest.split_once('/') {
            Some((name, _)) => (name.to_owned(), None),
            None => (rest.to_owned(), Some(*file)),
        })
        .collect()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct List {
    path: Option<String>,
    run_id: Option<String>,
    run_uuid: Option<String>,
    artifact_directory_path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    #[serde(skip_serializing_if = "Option::is_none")]
    root_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileInfo>,
}

/// What lies in a folder of the proxy, by name.
pub(crate) fn list(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: List = request.read()?;
    let path = asked.path.unwrap_or_default();
    let files = match Place::of(path.trim_end_matches('/'))? {
        Some(place) => folder(api, &place, "")?,
        None => Vec::new(),
    };
    json(&Listed { root_uri: None, files })
}

fn folder(api: &Api, place: &Place, prefix: &str) -> Answer<Vec<FileInfo>> {
    let mut folder = api.store.loose_folder(&place.owner, &place.path)?;
    for (name, file) in recorded_in(&recorded(api, &place.owner)?, &place.path) {
        if folder.entries.iter().all(|(other, _)| *other != name) {
            folder.entries.push((name, file));
        }
    }
    folder.entries.sort_by(|a, b| a.0.cmp(&b.0));
    let info = |(name, file)| FileInfo::new(if prefix.is_empty() { name } else { format!("{prefix}/{name}") }, file);
    Ok(folder.entries.into_iter().map(info).collect())
}

/// What lies in a folder of a run, by path.
pub(crate) fn list_of_run(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: List = request.read()?;
    let either = asked.run_id.as_ref().filter(|id| !id.is_empty()).or(asked.run_uuid.as_ref());
    let run = api.run(crate::wire::need(either, "run_id")?)?;
    let path = asked.path.unwrap_or_default();
    let path = path.trim_end_matches('/');
    let files = folder(api, &Place::of_run(run.id, path)?, path)?;
    let experiment = api.store.experiment_by_id(run.experiment)?;
    let root_uri = format!("{}/{}/artifacts", api.artifact_location(&experiment), run.id.simple());
    json(&Listed { root_uri: Some(root_uri), files })
}

/// What lies in a folder of a logged model, by path.
pub(crate) fn list_of_model(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: List = request.read()?;
    let model = crate::models::model(api, request.arg(0))?;
    let path = asked.artifact_directory_path.unwrap_or_default();
    let path = path.trim_end_matches('/');
    let files = folder(api, &Place::of_model(&model.id, path)?, path)?;
    json(&Listed { root_uri: Some(crate::models::artifact_uri(api, &model)?), files })
}

/// Removes a file, or a folder with all that is in it.
pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let place = Place::of(request.arg(0))?.ok_or_else(|| absent(request.arg(0)))?;
    api.store.remove_loose(&place.owner, &place.path)?;
    Ok(done())
}

/// Uploads in parts and signed URLs are for stores elsewhere: clients send whole files then.
pub(crate) fn not_here(_: &Api, _: &Request<'_>) -> Answer<Vec<u8>> {
    Err(Refusal::new(
        Code::NotImplemented,
        "This server takes files whole, and streams them: multipart uploads and presigned URLs are not supported.",
    ))
}

/// Refuses files of what is not there: a run, a model or a trace that was never made. Traces may come after their files.
pub(crate) fn check_owner(api: &Api, place: &Place) -> Answer<()> {
    match place.owner.split_once('/') {
        Some(("runs", run)) => api.run(run).map(drop),
        Some(("models", model)) => crate::models::model(api, model).map(drop),
        _ => Ok(()),
    }
}

/// A name as a header has it.
pub(crate) fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A file to be sent, and its name.
pub(crate) struct Download {
    pub(crate) file: LooseFile,
    pub(crate) name: String,
}

/// The file at a path of the proxy.
pub(crate) fn find(api: &Api, path: &str) -> Answer<Download> {
    let place = Place::of(path)?.ok_or_else(|| absent(path))?;
    find_at(api, &place)
}

fn find_at(api: &Api, place: &Place) -> Answer<Download> {
    if place.path.is_empty() {
        return Err(Refusal::invalid("Invalid path: a file is expected, got all of them"));
    }
    let file = match api.store.loose(&place.owner, &place.path)? {
        Some(file) => file,
        None => *recorded(api, &place.owner)?.get(&place.path).ok_or_else(|| absent(&place.path))?,
    };
    let name = place.path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Download { file, name })
}

/// The file of `/get-artifact`, or of `/model-versions/get-artifact`.
pub(crate) fn find_by_query(api: &Api, request: &Request<'_>, is_version: bool) -> Answer<Download> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Asked {
        path: Option<String>,
        run_id: Option<String>,
        run_uuid: Option<String>,
        name: Option<String>,
        version: Option<String>,
    }
    let asked: Asked = request.read()?;
    let path = crate::wire::need(asked.path.as_ref(), "path")?;
    if is_version {
        let name = crate::wire::need(asked.name.as_ref(), "name")?;
        let version = crate::registry::version(api, name, asked.version.as_ref())?;
        let place = crate::registry::versions::files(api, &version.source)?.ok_or_else(|| absent(path))?;
        check(path)?;
        let path = if place.path.is_empty() { path.to_owned() } else { format!("{}/{path}", place.path) };
        return find_at(api, &Place { path, ..place });
    }
    let either = asked.run_id.as_ref().filter(|id| !id.is_empty()).or(asked.run_uuid.as_ref());
    let run = api.run(crate::wire::need(either, "run_id")?)?;
    find_at(api, &Place::of_run(run.id, path)?)
}

fn absent(path: &str) -> Refusal {
    let path: String = path.chars().take(200).collect();
    Refusal::absent(format!("No such artifact: '{}'", path.escape_default()))
}

/// What a browser is told a file is: never something it would run.
pub(crate) fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "txt" | "log" | "md" | "yaml" | "yml" | "json" | "csv" | "py" | "toml" | "cfg" | "ini" | "html" | "htm"
        | "js" | "xml" | "svg" | "css" | "sh" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0190f0f0f0f07000800000000000000a";

    #[test]
    fn paths_lead_to_their_owner_whatever_stands_before() {
        let place = |path: &str| Place::of(path).unwrap().map(|place| (place.owner, place.path));
        let some = |owner: &str, path: &str| Some((owner.to_owned(), path.to_owned()));
        assert_eq!(place(&format!("0/{RUN}/artifacts/dir/a.txt")), some(&format!("runs/{RUN}"), "dir/a.txt"));
        assert_eq!(place(&format!("0/{RUN}/artifacts")), some(&format!("runs/{RUN}"), ""));
        assert_eq!(
            place(&format!("my/place/{RUN}/artifacts/artifacts/x")),
            some(&format!("runs/{RUN}"), "artifacts/x")
        );
        assert_eq!(place("0/models/m-1/artifacts/MLmodel"), some("models/m-1", "MLmodel"));
        assert_eq!(place("0/traces/tr-1/artifacts/traces.json"), some("traces/tr-1", "traces.json"));
        assert_eq!(place(""), None);
        assert_eq!(place("0"), None);
        assert_eq!(place("a/b/c"), None);
        let uri = |uri: &str| Place::of_uri(uri).unwrap().map(|place| place.owner);
        assert_eq!(uri("mlflow-artifacts:/0/models/m-1/artifacts"), Some("models/m-1".to_owned()));
        assert_eq!(uri("mlflow-artifacts://host:80/0/models/m-1/artifacts/"), Some("models/m-1".to_owned()));
        assert_eq!(uri("s3://bucket/models/m-1/artifacts"), None);
    }

    #[test]
    fn no_path_leads_out_however_it_is_written() {
        for tail in [
            "..",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "a/.",
            "a//b",
            "/a",
            "a\\b",
            "..\\x",
            "a\0b",
            "a\nb",
            "%2e%2e/x",
            "%2e%2e%2fx",
            "a%2fb",
            "%5c..",
            "a/%2E",
            "\u{2024}\u{2024}/x",
            "\u{ff0e}\u{ff0e}/x",
            "\u{2215}etc",
            "\u{ff0f}etc",
            "a%00b",
        ] {
            assert!(Place::of(&format!("0/{RUN}/artifacts/{tail}")).is_err(), "{tail:?}");
        }
        for whole in ["/etc/passwd", "C:/x", "..", "../..", "0/../x"] {
            assert!(Place::of(whole).is_err(), "{whole:?}");
        }
        for tail in ["a..b", "…/x", "100%/y", "ünï code.txt", ".hidden", "a b"] {
            Place::of(&format!("0/{RUN}/artifacts/{tail}")).unwrap();
        }
        assert!(decoded("a/%ff").is_err());
        assert_eq!(decoded("a/y%20z%25.bin").unwrap(), "a/y z%.bin");
    }
}
