//! Which request is answered by what. What is not here is `ENDPOINT_NOT_FOUND`.

use std::sync::Arc;

use crate::api::Api;
use crate::error::Answer;
use crate::wire::Request;
use crate::{artifacts, experiments, models, registry, runs, traces};

/// Answers with a whole JSON text.
pub(crate) type Handler = fn(&Api, &Request<'_>) -> Answer<Vec<u8>>;

/// An answer that is made part by part, as it is sent.
pub(crate) type Parts = Box<dyn Iterator<Item = Answer<Vec<u8>>> + Send>;

/// What answers a request.
pub(crate) enum Call {
    /// A plain text.
    Plain(&'static str),
    /// JSON, in microseconds: it is computed where the request was read.
    Quick(Handler),
    /// JSON, in a while: it is computed aside, so that others do not wait.
    Json(Handler),
    /// JSON of any length, in parts.
    Parts(fn(&Arc<Api>, &Request<'_>) -> Answer<Parts>),
    /// The bytes of a file of the proxy.
    Download,
    /// A file of the proxy, from the bytes of the body.
    Upload,
    /// A file by run and path, or by model version and path.
    GetArtifact { is_version: bool },
    /// Spans as OTLP writes them.
    Spans,
}

/// A call with the parts of the path that name something, as they stand in the URL.
pub(crate) struct Route<'a> {
    pub(crate) call: Call,
    pub(crate) args: Vec<&'a str>,
}

/// Finds what answers `method` at `path`, a path of a URL.
pub(crate) fn find<'a>(method: &str, path: &'a str) -> Option<Route<'a>> {
    let path = path.strip_prefix('/')?;
    let bare = |call| Some(Route { call, args: Vec::new() });
    match (method, path) {
        ("GET", "health") => return bare(Call::Plain("OK")),
        ("GET", "version") => return bare(Call::Plain(crate::PROTOCOL_VERSION)),
        ("GET", "get-artifact") => return bare(Call::GetArtifact { is_version: false }),
        ("GET", "model-versions/get-artifact") => return bare(Call::GetArtifact { is_version: true }),
        ("POST", "v1/traces") => return bare(Call::Spans),
        _ => {}
    }
    let rest = path.strip_prefix("api/").or_else(|| path.strip_prefix("ajax-api/"))?;
    if let Some(rest) = rest.strip_prefix("2.0/mlflow-artifacts/") {
        return proxy(method, rest);
    }
    if let Some(rest) = rest.strip_prefix("3.0/mlflow/") {
        return third(method, rest).or_else(|| traces_of_second(method, rest));
    }
    let rest = rest.strip_prefix("2.0/mlflow/")?;
    let ajax_only = path.starts_with("ajax-api/");
    second(method, rest, ajax_only)
        .map(|call| Route { call, args: Vec::new() })
        .or_else(|| logged_models(method, rest))
        .or_else(|| traces_of_second(method, rest))
}

fn proxy<'a>(method: &str, rest: &'a str) -> Option<Route<'a>> {
    let (call, args) = match (method, rest.split_once('/')) {
        ("GET", None) if rest == "artifacts" => (Call::Json(artifacts::list), Vec::new()),
        ("GET", Some(("artifacts", path))) => (Call::Download, vec![path]),
        ("PUT", Some(("artifacts", path))) => (Call::Upload, vec![path]),
        ("DELETE", Some(("artifacts", path))) => (Call::Json(artifacts::delete), vec![path]),
        ("POST", Some(("mpu", _))) | ("GET", Some(("presigned", _))) => (Call::Quick(artifacts::not_here), Vec::new()),
        _ => return None,
    };
    Some(Route { call, args })
}

/// The routes of version 2 that are fixed.
fn second(method: &str, rest: &str, ajax_only: bool) -> Option<Call> {
    Some(match (method, rest) {
        ("GET", "experiments/get") => Call::Quick(experiments::get),
        ("GET", "experiments/get-by-name") => Call::Quick(experiments::get_by_name),
        ("GET" | "POST", "experiments/search") => Call::Json(experiments::find),
        ("POST", "experiments/create") => Call::Json(experiments::create),
        ("POST", "experiments/update") => Call::Json(experiments::update),
        ("POST", "experiments/delete") => Call::Json(experiments::delete),
        ("POST", "experiments/restore") => Call::Json(experiments::restore),
        ("POST", "experiments/set-experiment-tag") => Call::Json(experiments::set_tag),
        ("POST", "experiments/delete-experiment-tag") => Call::Json(experiments::delete_tag),
        ("POST", "runs/create") => Call::Json(runs::create),
        ("GET", "runs/get") => Call::Json(runs::get),
        ("POST", "runs/update") => Call::Json(runs::update),
        ("POST", "runs/delete") => Call::Json(runs::delete),
        ("POST", "runs/restore") => Call::Json(runs::restore),
        ("POST", "runs/set-tag") => Call::Quick(runs::set_tag),
        ("POST", "runs/delete-tag") => Call::Quick(runs::delete_tag),
        ("POST", "runs/log-metric") => Call::Quick(runs::log::metric),
        ("POST", "runs/log-parameter") => Call::Quick(runs::log::param),
        ("POST", "runs/log-batch") => Call::Quick(runs::log::batch),
        ("POST", "runs/log-model") => Call::Json(runs::log::model),
        ("POST", "runs/log-inputs") => Call::Json(runs::inputs::log),
        ("POST", "runs/outputs") => Call::Json(runs::inputs::outputs),
        ("POST", "runs/search") => Call::Parts(runs::search::find),
        ("GET", "artifacts/list") => Call::Json(artifacts::list_of_run),
        ("POST", "artifacts/presigned-download-url" | "artifacts/presigned-upload-url") => {
            Call::Quick(artifacts::not_here)
        }
        ("GET", "metrics/get-history") => Call::Json(runs::metrics::history),
        ("GET", "metrics/get-history-bulk") if ajax_only => Call::Json(runs::metrics::bulk),
        ("GET", "metrics/get-history-bulk-interval") => Call::Json(runs::metrics::bulk_interval),
        ("POST", "registered-models/create") => Call::Json(registry::create),
        ("GET", "registered-models/get") => Call::Json(registry::get),
        ("POST", "registered-models/rename") => Call::Json(registry::rename),
        ("PATCH", "registered-models/update") => Call::Json(registry::update),
        ("DELETE", "registered-models/delete") => Call::Json(registry::delete),
        ("GET", "registered-models/search") => Call::Json(registry::search::find),
        ("GET" | "POST", "registered-models/get-latest-versions") => Call::Json(registry::get_latest),
        ("POST", "registered-models/set-tag") => Call::Json(registry::set_tag),
        ("DELETE", "registered-models/delete-tag") => Call::Json(registry::delete_tag),
        ("POST", "registered-models/alias") => Call::Json(registry::set_alias),
        ("GET", "registered-models/alias") => Call::Json(registry::by_alias),
        ("DELETE", "registered-models/alias") => Call::Json(registry::delete_alias),
        ("POST", "model-versions/create") => Call::Json(registry::versions::create_version),
        ("GET", "model-versions/get") => Call::Json(registry::versions::get_version),
        ("PATCH", "model-versions/update") => Call::Json(registry::versions::update_version),
        ("POST", "model-versions/transition-stage") => Call::Json(registry::versions::transition),
        ("DELETE", "model-versions/delete") => Call::Json(registry::versions::delete_version),
        ("GET", "model-versions/search") => Call::Json(registry::search::find_versions),
        ("GET", "model-versions/get-download-uri") => Call::Json(registry::versions::download_uri),
        ("POST", "model-versions/set-tag") => Call::Json(registry::versions::set_version_tag),
        ("DELETE", "model-versions/delete-tag") => Call::Json(registry::versions::delete_version_tag),
        ("POST", "logged-models") => Call::Json(models::create),
        ("POST", "logged-models/search") => Call::Json(models::search::find),
        _ => return None,
    })
}

fn logged_models<'a>(method: &str, rest: &'a str) -> Option<Route<'a>> {
    let parts: Vec<&str> = rest.strip_prefix("logged-models/")?.splitn(3, '/').collect();
    let handler: Handler = match (method, parts.as_slice()) {
        ("GET", [_]) => models::get,
        ("PATCH", [_]) => models::finish,
        ("DELETE", [_]) => models::delete,
        ("POST", [_, "params"]) => models::log_params,
        ("PATCH", [_, "tags"]) => models::set_tags,
        ("DELETE", [_, "tags", _]) => models::delete_tag,
        ("GET", [_, "artifacts", "directories"]) => artifacts::list_of_model,
        _ => return None,
    };
    let args = [parts.first(), parts.get(2)].into_iter().flatten().copied().collect();
    Some(Route { call: Call::Json(handler), args })
}

/// The routes of version 3.
fn third<'a>(method: &str, rest: &'a str) -> Option<Route<'a>> {
    let parts: Vec<&'a str> = rest.split('/').collect();
    let (call, named): (Call, &[&'a str]) = match (method, parts.as_slice()) {
        ("GET", ["server-info"]) => (Call::Quick(traces::server_info), &[]),
        ("POST", ["traces"]) => (Call::Json(traces::start), &[]),
        ("POST", ["traces", "search"]) => (Call::Json(traces::search::find), &[]),
        ("GET", ["traces", "get"]) => (Call::Parts(traces::whole::get), &[]),
        ("GET", ["traces", "batchGet"]) => (Call::Parts(traces::whole::get_many), &[]),
        ("POST", ["traces", "batchGetInfos"]) => (Call::Json(traces::get_infos), &[]),
        ("POST", ["traces", "link-to-run"]) => (Call::Json(traces::link_to_run), &[]),
        ("GET", ["traces", id]) => (Call::Json(traces::get_info), std::slice::from_ref(id)),
        ("POST", ["traces", _, "assessments"]) => (Call::Json(traces::assessments::create), &parts[1..2]),
        ("GET", ["traces", _, "assessments", _]) => (Call::Json(traces::assessments::get), &parts[1..]),
        ("PATCH", ["traces", _, "assessments", _]) => (Call::Json(traces::assessments::update), &parts[1..]),
        ("DELETE", ["traces", _, "assessments", _]) => (Call::Json(traces::assessments::delete), &parts[1..]),
        _ => return None,
    };
    let args = named.iter().copied().filter(|part| *part != "assessments").collect();
    Some(Route { call, args })
}

/// The routes of traces that both versions have.
fn traces_of_second<'a>(method: &str, rest: &'a str) -> Option<Route<'a>> {
    let rest = rest.strip_prefix("traces/")?;
    let (handler, args): (Handler, Vec<&str>) = match (method, rest.split_once('/')) {
        ("POST", None) if rest == "delete-traces" => (traces::delete, Vec::new()),
        ("POST", None) if rest == "link-to-run" => (traces::link_to_run, Vec::new()),
        ("PATCH", Some((id, "tags"))) => (traces::set_tag, vec![id]),
        ("DELETE", Some((id, "tags"))) => (traces::delete_tag, vec![id]),
        _ => return None,
    };
    Some(Route { call: Call::Json(handler), args })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_twin_and_what_is_not_there_is_not_found() {
        for prefix in ["api", "ajax-api"] {
            for (method, path) in [
                ("POST", "2.0/mlflow/runs/create"),
                ("GET", "2.0/mlflow-artifacts/artifacts"),
                ("PUT", "2.0/mlflow-artifacts/artifacts/0/x/artifacts/a%20b"),
                ("DELETE", "2.0/mlflow/logged-models/m-1/tags/a%2Fb"),
                ("GET", "3.0/mlflow/server-info"),
            ] {
                assert!(find(method, &format!("/{prefix}/{path}")).is_some(), "{prefix} {path}");
            }
        }
        assert!(find("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk").is_some());
        assert!(find("GET", "/api/2.0/mlflow/metrics/get-history-bulk").is_none());
        for (method, path) in [
            ("POST", "/api/2.0/mlflow/webhooks"),
            ("POST", "/graphql"),
            ("POST", "/api/3.0/mlflow/gateway/endpoints/create"),
            ("GET", "/api/3.0/mlflow/scorers/list"),
            ("GET", "/api/2.0/mlflow/runs/create"),
            ("GET", "/"),
            ("GET", ""),
        ] {
            assert!(find(method, path).is_none(), "{method} {path}");
        }
        let args = |method: &str, path: &str| find(method, path).unwrap().args.join(" ");
        assert_eq!(args("DELETE", "/api/2.0/mlflow/logged-models/m-1/tags/a%2Fb"), "m-1 a%2Fb");
        assert_eq!(args("PATCH", "/api/3.0/mlflow/traces/tr-1/assessments/a-2"), "tr-1 a-2");
        assert_eq!(args("GET", "/api/3.0/mlflow/traces/tr-1"), "tr-1");
        assert_eq!(args("GET", "/api/2.0/mlflow-artifacts/artifacts/0/x/artifacts/d/f"), "0/x/artifacts/d/f");
    }
}
