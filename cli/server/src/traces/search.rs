//! Searching traces: by what they are, by their tags and metadata, by their spans, by what is said of them.

use serde::{Deserialize, Serialize};
use tracker_store::{AssessmentKind, Trace};

use super::{Info, Location, NAME_TAG, otlp};
use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits;
use crate::search::{self, By, Fact, Filter, Sorted};
use crate::wire::{Int, Request, json};

const KEYS: [&str; 16] = [
    "trace_id",
    "request_id",
    "timestamp",
    "timestamp_ms",
    "request_time",
    "execution_time",
    "execution_time_ms",
    "execution_duration",
    "end_time",
    "end_time_ms",
    "state",
    "status",
    "name",
    "run_id",
    "client_request_id",
    "text",
];
const NUMERIC: [&str; 8] = [
    "timestamp",
    "timestamp_ms",
    "request_time",
    "execution_time",
    "execution_time_ms",
    "execution_duration",
    "end_time",
    "end_time_ms",
];
const ENTITIES: [&str; 5] = ["tag", "metadata", "span", "feedback", "expectation"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    locations: Vec<Location>,
    experiment_ids: Vec<String>,
    filter: Option<String>,
    max_results: Option<Int>,
    order_by: Vec<String>,
    page_token: Option<String>,
}

/// The values of a field of a trace: several, where it is of spans or assessments.
fn facts(api: &Api, trace: &Trace, entity: Option<&str>, key: &str) -> Answer<Vec<Fact>> {
    let text = |text: &str| vec![Fact::Text(text.to_owned())];
    let one = |text: Option<&String>| text.map(|text| Fact::Text(text.clone())).into_iter().collect();
    let number = |number: i64| vec![Fact::Number(number as f64)];
    Ok(match (entity, key) {
        (Some("tag"), key) => one(trace.tags.get(key)),
        (Some("metadata"), key) => one(trace.metadata.get(key)),
        (Some("span"), key) => of_spans(api, trace, key)?,
        (Some(kind @ ("feedback" | "expectation")), key) => of_assessments(api, trace, kind, key)?,
        (_, "trace_id" | "request_id") => text(&trace.id),
        (_, "timestamp" | "timestamp_ms" | "request_time") => number(trace.requested.millis()),
        (_, "execution_time" | "execution_time_ms" | "execution_duration") => {
            trace.duration_millis.map(number).unwrap_or_default()
        }
        (_, "end_time" | "end_time_ms") => trace
            .duration_millis
            .map(|duration| number(trace.requested.millis().saturating_add(duration)))
            .unwrap_or_default(),
        (_, "state" | "status") => text(&trace.state),
        (_, "name") => one(trace.tags.get(NAME_TAG)),
        (_, "run_id") => one(trace.metadata.get(Trace::SOURCE_RUN)),
        (_, "client_request_id") if !trace.client_id.is_empty() => text(&trace.client_id),
        (_, "text") => {
            let mut texts = vec![Fact::Text(trace.request.clone()), Fact::Text(trace.response.clone())];
            texts.extend(of_spans(api, trace, "content")?);
            texts
        }
        _ => Vec::new(),
    })
}

fn of_spans(api: &Api, trace: &Trace, key: &str) -> Answer<Vec<Fact>> {
    let mut facts = Vec::new();
    for span in api.store.spans(&trace.id)? {
        let span = otlp::facts(&span)?;
        match key {
            "name" => facts.push(Fact::Text(span.name)),
            "type" => facts.push(Fact::Text(span.kind)),
            "status" => facts.push(Fact::Text(span.status.to_owned())),
            "content" => {
                facts.push(Fact::Text(span.name));
                facts.extend(span.attributes.into_iter().map(|(key, value)| Fact::Text(format!("{key}: {value}"))));
            }
            _ => {
                let value = key.strip_prefix("attributes.").and_then(|key| span.attributes.get(key));
                facts.extend(value.map(|value| Fact::Text(value.clone())));
            }
        }
    }
    Ok(facts)
}

fn of_assessments(api: &Api, trace: &Trace, kind: &str, name: &str) -> Answer<Vec<Fact>> {
    let kind = if kind == "feedback" { AssessmentKind::Feedback } else { AssessmentKind::Expectation };
    let mut facts = Vec::new();
    for assessment in api.store.assessments(&trace.id)? {
        if assessment.kind == kind && assessment.name == name && assessment.is_valid {
            let value: serde_json::Value = serde_json::from_str(&assessment.value).unwrap_or_default();
            facts.push(Fact::Text(match value.get("value") {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            }));
        }
    }
    Ok(facts)
}

/// Whether an order is that in which the store has the traces of an experiment.
fn is_stored_order(order: &[By]) -> bool {
    match order {
        [time, id] => {
            matches!(time.key.as_str(), "timestamp" | "timestamp_ms" | "request_time")
                && time.is_descending
                && id.key == "trace_id"
                && !id.is_descending
                && time.entity.is_none()
        }
        _ => false,
    }
}

pub(crate) fn find(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    #[derive(Serialize)]
    struct Found {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        traces: Vec<Info>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    let asked: Asked = request.read()?;
    let limit = limits::max_results(asked.max_results, 100, 500)?;
    let filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&KEYS, &NUMERIC, &ENTITIES)?;
    check_spans(&filter)?;
    let order = search::order(&asked.order_by, &["timestamp_ms DESC"], &["trace_id ASC"], &KEYS, &ENTITIES[..2])?;
    let is_stored_order = is_stored_order(&order);
    let mut found = Sorted::new(&order, limit, asked.page_token.as_deref())?;
    let mark = match found.after() {
        Some([Some(Fact::Number(millis)), Some(Fact::Text(id))]) if is_stored_order => {
            Some((*millis as i64, id.clone()))
        }
        _ => None,
    };
    let located = asked.locations.iter().filter_map(Location::experiment);
    let ids = located.chain(asked.experiment_ids.iter().map(String::as_str));
    for experiment in ids.filter_map(|id| api.experiment_id(id)) {
        let after = mark.as_ref().map(|(millis, id)| (*millis, id.as_str()));
        let mut n_found = 0;
        for trace in api.store.traces(experiment, after) {
            let trace = trace?;
            if !filter.holds_any(&mut |entity, key| facts(api, &trace, entity, key))? {
                continue;
            }
            let first = |by: &By| Ok(facts(api, &trace, by.entity.as_deref(), &by.key)?.into_iter().next());
            let values = order.iter().map(first).collect::<Answer<Vec<_>>>()?;
            found.add(values, trace);
            n_found += 1;
            // One more than a page shows that there is another.
            if is_stored_order && n_found > limit {
                break;
            }
        }
    }
    let (traces, next_page_token) = found.page();
    json(&Found { traces: traces.iter().map(|trace| Info::of(api, trace)).collect::<Answer<_>>()?, next_page_token })
}

fn check_spans(filter: &Filter) -> Answer<()> {
    let spans = filter.conditions.iter().filter(|condition| condition.entity.as_deref() == Some("span"));
    for condition in spans {
        let key = condition.key.as_str();
        if !matches!(key, "name" | "type" | "status" | "content") && !key.starts_with("attributes.") {
            return Err(Refusal::invalid(format!(
                "Invalid span attribute '{key}'. Valid values are ['name', 'type', 'status', 'content'] and 'attributes.KEY'"
            )));
        }
    }
    Ok(())
}
