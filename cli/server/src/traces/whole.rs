//! Traces with their spans, told one span after the other: of however many and however long ones, a part is in memory.

use std::sync::Arc;

use tracker_store::Trace;

use super::{Asked, Info, check_many, found, otlp, trace};
use crate::api::Api;
use crate::error::Answer;
use crate::routes::Parts;
use crate::wire::{Request, json, need};

pub(crate) fn get(api: &Arc<Api>, request: &Request<'_>) -> Answer<Parts> {
    let asked: Asked = request.read()?;
    let trace = trace(api, need(asked.trace_id.as_ref(), "trace_id")?)?;
    Ok(enclosed("{\"trace\":", told(api, &trace), "}"))
}

/// The traces among those asked for that are there when their turn comes.
pub(crate) fn get_many(api: &Arc<Api>, request: &Request<'_>) -> Answer<Parts> {
    let asked: Asked = request.read()?;
    check_many(&asked.trace_ids)?;
    let api = Arc::clone(api);
    let there = {
        let api = Arc::clone(&api);
        asked.trace_ids.into_iter().filter_map(move |id| found(&api, &id).transpose())
    };
    let traces = there.enumerate().flat_map(move |(nth, trace)| {
        let comma = if nth == 0 { "" } else { "," };
        enclosed(comma, trace.map_or_else(failed, |trace| told(&api, &trace)), "")
    });
    Ok(enclosed("{\"traces\":[", traces, "]}"))
}

fn failed(refusal: crate::error::Refusal) -> Parts {
    Box::new(std::iter::once(Err(refusal)))
}

fn enclosed(
    start: &'static str,
    parts: impl Iterator<Item = Answer<Vec<u8>>> + Send + 'static,
    end: &'static str,
) -> Parts {
    let text = |text: &str| std::iter::once(Ok(text.as_bytes().to_vec()));
    Box::new(text(start).chain(parts).chain(text(end)))
}

/// A trace, and then its spans, each read when its part is asked for. A span that is gone by then is left out.
fn told(api: &Arc<Api>, trace: &Trace) -> Parts {
    let begun = || -> Answer<_> { Ok((json(&Info::of(api, trace)?)?, api.store.span_ids(&trace.id)?)) };
    let (info, ids) = match begun() {
        Ok(begun) => begun,
        Err(refusal) => return failed(refusal),
    };
    let head = std::iter::once(Ok([b"{\"trace_info\":", info.as_slice()].concat()));
    if ids.is_empty() {
        return enclosed("", head, "}");
    }
    let (api, id) = (Arc::clone(api), trace.id.clone());
    let spans = ids.into_iter().filter_map(move |span| -> Option<Answer<Vec<u8>>> {
        let span = api.store.span(&id, span).transpose()?;
        Some(span.map_err(Into::into).and_then(|span| json(&otlp::view(&span)?)))
    });
    let joined = spans.enumerate().map(|(nth, span)| {
        let comma: &[u8] = if nth == 0 { b"" } else { b"," };
        Ok([comma, span?.as_slice()].concat())
    });
    enclosed("", head.chain(enclosed(",\"spans\":[", joined, "]}")), "")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tracker_store::Store;

    use super::*;
    use crate::traces::otlp::{Format, Headers};

    fn ask(api: &Arc<Api>, query: &str, handler: fn(&Arc<Api>, &Request<'_>) -> Answer<Parts>) -> Vec<Vec<u8>> {
        let parts = handler(api, &Request { query, body: None, args: &[] }).unwrap();
        parts.collect::<Answer<_>>().unwrap()
    }

    #[test]
    fn large_traces_are_told_span_by_span() {
        let api = Arc::new(Api::new(Store::memory().unwrap(), false).unwrap());
        let text = "x".repeat(100_000);
        for trace in 1..=4 {
            let span = |nth: u64| {
                json!({
                    "traceId": format!("{trace:032x}"), "spanId": format!("{nth:016x}"), "startTimeUnixNano": 1000 - nth, "name": nth.to_string(),
                    "attributes": [{ "key": "k", "value": { "stringValue": text } }],
                })
            };
            let spans: Vec<Value> = (1..=20).map(span).collect();
            let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string();
            otlp::export(&api, body.as_bytes(), &Headers { format: Format::Json, experiment: "0", run: "" }).unwrap();
        }
        let bare = json!({ "trace": { "trace_info": {
            "trace_id": "tr-5", "trace_location": { "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": "0" } },
            "request_time": "2026-01-01T00:00:00Z", "state": "OK",
        } } });
        let body = bare.to_string().into_bytes();
        crate::traces::start(&api, &Request { query: "", body: Some(&body), args: &[] }).unwrap();
        let id = |trace: u64| format!("tr-{trace:032x}");
        let ids: Vec<String> = [4, 9, 1, 2, 3].into_iter().map(id).chain(["tr-5".to_owned()]).collect();
        let parts = ask(&api, &format!("trace_ids={}", ids.join("&trace_ids=")), get_many);
        assert!(parts.iter().all(|part| part.len() < 101_000), "no part is longer than a span");
        let found: Value = serde_json::from_slice(&parts.concat()).unwrap();
        let found = found["traces"].as_array().unwrap();
        let told: Vec<&str> = found.iter().map(|trace| trace["trace_info"]["trace_id"].as_str().unwrap()).collect();
        assert_eq!(told, [&id(4), &id(1), &id(2), &id(3), "tr-5"]);
        assert_eq!(found[4]["spans"], Value::Null);
        let names = |trace: &Value| -> Vec<String> {
            trace["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
        };
        let by_start: Vec<String> = (1..=20).rev().map(|nth| nth.to_string()).collect();
        assert!(found[..4].iter().all(|trace| names(trace) == by_start));
        let one: Value = serde_json::from_slice(&ask(&api, &format!("trace_id={}", id(1)), get).concat()).unwrap();
        assert_eq!(one["trace"], found[1]);
        let none: Value = serde_json::from_slice(&ask(&api, "trace_ids=tr-9", get_many).concat()).unwrap();
        assert_eq!(none, json!({ "traces": [] }));
    }
}
