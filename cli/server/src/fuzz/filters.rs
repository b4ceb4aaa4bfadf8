//! A text as a filter and as an order, asked of everything that can be searched.

use std::sync::Arc;

use serde_json::{Value, json};
use tracker_store::{ClientRun, Durability, Point, Recording, Run, RunInput, Store, Timestamp};

use crate::api::{self, Api};
use crate::error::{Answer, Code};
use crate::routes::Handler;
use crate::runs::search as runs;
use crate::search::{Fact, Filter};
use crate::wire::Request;
use crate::{experiments, models, registry, traces};

thread_local! {
    static FURNISHED: (Arc<Api>, Vec<Run>) = furnished().unwrap_or_else(|refusal| panic!("{refusal:?}"));
}

/// A text as a filter, and what stands behind a NUL in it as an order, of everything that can be searched.
///
/// # Panics
/// If the refusal is not the text's fault, pages of one row do not join to the whole answer, or the store finds other runs than those that the
/// filter holds of.
pub fn filter(text: &str) {
    let (filter, order) = text.split_once('\0').unwrap_or((text, ""));
    FURNISHED.with(|(api, all)| {
        let found = paged(order, filter, |body| {
            let asked = Request { query: "", body: Some(body), args: &[] };
            Ok(runs::find(api, &asked)?.collect::<Answer<Vec<_>>>()?.concat())
        });
        if let Some(found) = found {
            let mut found: Vec<&str> = found.iter().filter_map(|run| run["info"]["run_id"].as_str()).collect();
            let mut expected: Vec<String> =
                all.iter().filter(|run| holds(api, run, filter)).map(|run| run.id.simple()).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{filter:?}");
        }
        let others: [Handler; 5] = [
            experiments::find,
            registry::search::find,
            registry::search::find_versions,
            models::search::find,
            traces::search::find,
        ];
        for handler in others {
            paged(order, filter, |body| handler(api, &Request { query: "", body: Some(body), args: &[] }));
        }
    });
}

/// What is found at once, which must be what is found page by page; none if it is refused.
fn paged(order: &str, filter: &str, ask: impl Fn(&[u8]) -> Answer<Vec<u8>>) -> Option<Vec<Value>> {
    let orders = if order.is_empty() { Vec::new() } else { vec![order] };
    let asked = |max_results: usize, token: &str| {
        let body = json!({
            "experiment_ids": ["0"], "filter": filter, "order_by": orders, "max_results": max_results, "page_token": token,
        });
        ask(body.to_string().as_bytes()).map_err(|refusal| {
            let is_known = matches!(refusal.code, Code::InvalidParameterValue | Code::BadRequest);
            assert!(is_known && !refusal.message.is_empty(), "{filter:?}, {order:?}: {refusal:?}");
            refusal
        })
    };
    let read = |body: Vec<u8>| -> (Vec<Value>, String) {
        let body: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{filter:?}: {error}"));
        let list = body.as_object().and_then(|body| body.values().find_map(Value::as_array)).cloned();
        (list.unwrap_or_default(), body["next_page_token"].as_str().unwrap_or_default().to_owned())
    };
    let (whole, _) = read(asked(100, "").ok()?);
    let mut pages = Vec::new();
    let mut token = String::new();
    for _ in 0..=whole.len() {
        let page = asked(1, &token).unwrap_or_else(|refusal| panic!("{filter:?}, {order:?}: {refusal:?}"));
        let (rows, next) = read(page);
        pages.extend(rows);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, whole, "{filter:?}, {order:?}: pages do not join");
    Some(whole)
}

/// Whether a filter holds of a run, by what the filter itself says rather than by the store's query.
fn holds(api: &Api, run: &Run, filter: &str) -> bool {
    let store = &api.store;
    let mut look = |entity: Option<&str>, key: &str| -> Answer<Vec<Fact>> {
        let text = |text: Option<String>| text.map(Fact::Text).into_iter().collect::<Vec<_>>();
        Ok(match (entity, key) {
            (Some("metric"), key) => {
                let latest = store.all_series(run.id)?.into_iter().find(|(name, _)| name == key);
                latest.map(|(_, series)| Fact::Number(series.latest.value)).into_iter().collect()
            }
            (Some("parameter"), key) => text(store.param(run.id, key)?),
            (Some("tag"), key) => text(store.tag(run.id, key)?),
            (Some("dataset"), key) => {
                let inputs = store.inputs(run.id)?.into_iter();
                let field = |input: RunInput| match key {
                    "name" => Some(input.name),
                    "digest" => Some(input.digest),
                    _ => input.tags.get("mlflow.data.context").cloned(),
                };
                inputs.filter_map(field).map(Fact::Text).collect()
            }
            (_, "run_id" | "run_uuid") => text(Some(run.id.simple())),
            (_, "artifact_uri") => text(Some(format!("{}0/{}/artifacts", api::SCHEME, run.id.simple()))),
            (_, "run_name" | "Run name") => text(Some(run.name.clone())),
            (_, "user_id" | "User") => text(Some(run.user.clone())),
            (_, "status") => text(Some(api::status_name(run.status).to_owned())),
            (_, "end_time") => run.ended.map(|time| Fact::Number(time.millis() as f64)).into_iter().collect(),
            _ => vec![Fact::Number(run.started.millis() as f64)],
        })
    };
    Filter::parse(filter).and_then(|filter| filter.holds_any(&mut look)).unwrap_or(false)
}

/// Some of everything that can be searched.
fn furnished() -> Answer<(Arc<Api>, Vec<Run>)> {
    let api = Api::new(Store::memory()?, false)?;
    let experiment = api.store.default_experiment()?.id;
    let mut runs = Vec::new();
    for (nth, value) in [0.5, 2.0, f64::NAN, f64::INFINITY].into_iter().enumerate() {
        let started = Timestamp::from_millis(1000 + (nth as i64 / 2) * 500).unwrap_or_else(Timestamp::now);
        let name = ["first", "Second", "ü", "f_%"][nth].to_owned();
        let new = ClientRun { experiment, name, user: "me".to_owned(), started, tags: [].into() };
        let run = api.store.log_run(&new)?;
        let mut recording = Recording::new();
        recording.put_points(run.id, "loss", &[Point::new(1, 1, value)])?;
        if nth % 2 == 0 {
            recording.put_param(run.id, "lr", ["0.1", "x"][nth / 2])?;
            recording.put_tag(run.id, "note", "")?;
            let text = |text: &str| text.to_owned();
            recording.put_input(
                run.id,
                &RunInput {
                    name: text("d"),
                    digest: format!("{nth}"),
                    source_type: text("local"),
                    source: text("s"),
                    schema: String::new(),
                    profile: String::new(),
                    tags: [(text("mlflow.data.context"), text("train"))].into(),
                },
            )?;
        }
        api.store.commit(&recording, Durability::Os)?;
        runs.push(api.store.run(run.id)?);
    }
    for name in ["other", "reg"] {
        let body = json!({ "name": name, "tags": [{ "key": "k", "value": name }], "source": "s3://b/x", "experiment_id": "0" });
        let trace = json!({ "trace": { "trace_info": {
            "trace_id": format!("tr-{name}"), "state": "OK", "tags": { "k": name }, "request_time": "2026-01-01T00:00:00Z",
            "trace_location": { "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": "0" } },
        } } });
        let makers: [(Handler, &Value); 4] = [
            (registry::create, &body),
            (registry::versions::create_version, &body),
            (models::create, &body),
            (traces::start, &trace),
        ];
        for (maker, body) in makers {
            let body = body.to_string().into_bytes();
            maker(&api, &Request { query: "", body: Some(&body), args: &[] })?;
        }
    }
    Ok((Arc::new(api), runs))
}
