//! Spans as `OTLP` sends them: protobuf or JSON in, protobuf kept, and JSON for those who ask.

mod bounds;
mod messages;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};
use tracker_store::{Experiment, RunId, Span as StoredSpan, Timestamp, Trace};

use super::{HERE, LOCATION_TAG, NAME_TAG, SPANS_TAG};
use crate::api::Api;
use crate::error::{Answer, Code, Refusal};
use crate::wire::done;
use messages::{Any, AnyValue, CODES, Event, ExportRequest, KINDS, KeyValue, Link, Span};

/// How long what is shown of inputs and outputs may be, in characters.
const MAX_PREVIEW: usize = 1000;

/// How spans are written that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Format {
    /// The format that the header `Content-Type` names.
    pub(crate) fn of(kind: &str) -> Answer<Self> {
        match kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Ok(Self::Protobuf),
            "application/json" => Ok(Self::Json),
            _ => Err(Refusal::new(
                Code::BadRequest,
                format!(
                    "Invalid Content-Type: {}. Expected: application/x-protobuf or application/json.",
                    kind.escape_default()
                ),
            )),
        }
    }

    /// Its name in `Content-Type`: an answer is written as its request was.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// The answer that says nothing but that all was taken.
    fn done(self) -> Vec<u8> {
        match self {
            Self::Protobuf => Vec::new(),
            Self::Json => done(),
        }
    }

    fn read(self, body: &[u8]) -> Answer<ExportRequest> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            Refusal::new(Code::BadRequest, format!("Invalid OpenTelemetry {what} format: {error}."))
        };
        match self {
            Self::Protobuf => {
                bounds::check_protobuf(body)?;
                ExportRequest::decode(body).map_err(|error| wrong("protobuf", &error))
            }
            Self::Json => {
                bounds::check_json(body)?;
                serde_json::from_slice(body).map_err(|error| wrong("JSON", &error))
            }
        }
    }
}

/// What the headers of a request with spans say; empty without them.
pub(crate) struct Headers<'a> {
    pub(crate) format: Format,
    /// `x-mlflow-experiment-id`.
    pub(crate) experiment: &'a str,
    /// `x-mlflow-run-id`.
    pub(crate) run: &'a str,
}

/// Takes spans in. Spans of a trace that was not started make one, from what they say. Traces whose first span is among them are of the run that
/// is named, if there is one.
pub(crate) fn export(api: &Api, body: &[u8], headers: &Headers<'_>) -> Answer<Vec<u8>> {
    if headers.experiment.is_empty() {
        return Err(Refusal::missing("x-mlflow-experiment-id"));
    }
    let experiment = api.experiment(headers.experiment)?;
    let run = run(api, headers.run)?;
    let export = headers.format.read(body)?;
    if export.resource_spans.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "Invalid OpenTelemetry format - no spans found"));
    }
    let scopes = || export.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
    bounds::check_spans(scopes().map(|scope| scope.spans.len()).sum())?;
    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in export.resource_spans.into_iter().flat_map(|spans| spans.scope_spans).flat_map(|spans| spans.spans) {
        if !messages::is_trace_id(&span.trace_id) || !messages::is_span_id(&span.span_id) {
            return Err(Refusal::invalid(format!(
                "Invalid value for parameter 'spans' supplied: {}.",
                messages::WRONG_IDS
            )));
        }
        traces.entry(format!("tr-{}", hex(&span.trace_id))).or_default().push(span);
    }
    let records = traces.iter().map(|(id, spans)| (id.clone(), spans.iter().map(stored).collect()));
    let make = |id: &str, before| {
        let spans = traces.get(id).map_or(&[][..], Vec::as_slice);
        let mut trace = told(api, &experiment, id, before, spans);
        if let Some(run) = run.filter(|_| spans.iter().any(|span| span.parent_span_id.is_empty())) {
            trace.metadata.insert(Trace::SOURCE_RUN.to_owned(), run.simple());
        }
        Ok(trace)
    };
    api.store.put_spans(&records.collect(), make)?;
    Ok(headers.format.done())
}

/// The run with this id. Spans of a run that is not there are kept all the same, as clients expect it: what they say may not come again.
fn run(api: &Api, id: &str) -> Answer<Option<RunId>> {
    match api.run(id) {
        Ok(run) => Ok(Some(run.id)),
        Err(refusal) if refusal.code == Code::ResourceDoesNotExist => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn stored(span: &Span) -> (u64, StoredSpan) {
    let number = span.span_id.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number, StoredSpan { start_nanos: span.start_time_unix_nano, otlp: span.encode_to_vec() })
}

/// The trace after spans of it came: as its client said, if it was started; else as its spans say.
fn told(api: &Api, experiment: &Experiment, id: &str, before: Option<Trace>, spans: &[Span]) -> Trace {
    let mut trace = before.unwrap_or_else(|| from_spans(experiment, id, spans));
    trace.tags.insert(SPANS_TAG.to_owned(), HERE.to_owned());
    trace
        .tags
        .entry(LOCATION_TAG.to_owned())
        .or_insert_with(|| format!("{}/traces/{id}/artifacts", api.artifact_location(experiment)));
    trace
}

fn from_spans(experiment: &Experiment, id: &str, spans: &[Span]) -> Trace {
    let millis = |nanos: u64| i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX);
    let start = spans.iter().map(|span| span.start_time_unix_nano).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.end_time_unix_nano).max().unwrap_or(0);
    let root = spans.iter().find(|span| span.parent_span_id.is_empty());
    let preview = |key: &str| {
        let value = root.and_then(|root| root.attributes.iter().find(|attribute| attribute.key == key));
        let text = value.map(|attribute| plain(attribute.value.as_ref()).to_string()).unwrap_or_default();
        crate::limits::truncated(&text, MAX_PREVIEW).to_owned()
    };
    let state = match root.map(|root| root.status.as_ref().map_or(0, |status| status.code)) {
        None => "IN_PROGRESS",
        Some(2) => "ERROR",
        Some(_) => "OK",
    };
    let mut tags = BTreeMap::new();
    if let Some(root) = root {
        tags.insert(NAME_TAG.to_owned(), root.name.clone());
    }
    Trace {
        id: id.to_owned(),
        experiment: experiment.id,
        requested: Timestamp::from_millis(millis(start)).unwrap_or_else(Timestamp::now),
        duration_millis: root.map(|_| millis(end.saturating_sub(start))),
        state: state.to_owned(),
        request: preview("mlflow.spanInputs"),
        response: preview("mlflow.spanOutputs"),
        client_id: String::new(),
        metadata: BTreeMap::from([("mlflow.trace_schema.version".to_owned(), "3".to_owned())]),
        tags,
    }
}

fn read(span: &StoredSpan) -> Answer<Span> {
    Span::decode(span.otlp.as_slice())
        .map_err(|error| Refusal::new(Code::InternalError, format!("a stored span cannot be read: {error}")))
}

/// A span as clients read it.
pub(crate) fn view(span: &StoredSpan) -> Answer<Value> {
    let span = read(span)?;
    let name = |names: &[&'static str], number: i32| {
        usize::try_from(number).ok().and_then(|nth| names.get(nth).copied()).unwrap_or(names[0])
    };
    let status = span.status.unwrap_or_default();
    let mut view = json!({
        "trace_id": STANDARD.encode(&span.trace_id),
        "span_id": STANDARD.encode(&span.span_id),
        "parent_span_id": STANDARD.encode(&span.parent_span_id),
        "name": span.name,
        "kind": name(&KINDS, span.kind),
        "start_time_unix_nano": span.start_time_unix_nano,
        "end_time_unix_nano": span.end_time_unix_nano,
        "attributes": attributes(&span.attributes),
        "status": { "code": name(&CODES, status.code) },
    });
    if !status.message.is_empty() {
        view["status"]["message"] = status.message.into();
    }
    if !span.events.is_empty() {
        let event = |event: &Event| json!({ "time_unix_nano": event.time_unix_nano, "name": event.name, "attributes": attributes(&event.attributes) });
        view["events"] = span.events.iter().map(event).collect();
    }
    if !span.links.is_empty() {
        let link = |link: &Link| json!({ "trace_id": STANDARD.encode(&link.trace_id), "span_id": STANDARD.encode(&link.span_id), "attributes": attributes(&link.attributes) });
        view["links"] = span.links.iter().map(link).collect();
    }
    Ok(view)
}

fn attributes(attributes: &[KeyValue]) -> Value {
    attributes.iter().map(|KeyValue { key, value }| json!({ "key": key, "value": any(value.as_ref()) })).collect()
}

/// A value with its type, as protobuf's JSON has it.
fn any(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => json!({}),
        Some(Any::Text(text)) => json!({ "string_value": text }),
        Some(Any::Bool(flag)) => json!({ "bool_value": flag }),
        Some(Any::Int(number)) => json!({ "int_value": number }),
        Some(Any::Double(number)) => json!({ "double_value": crate::wire::Num(*number) }),
        Some(Any::Array(array)) => {
            json!({ "array_value": { "values": array.values.iter().map(|value| any(Some(value))).collect::<Value>() } })
        }
        Some(Any::Map(map)) => json!({ "kvlist_value": { "values": attributes(&map.values) } }),
        Some(Any::Bytes(bytes)) => json!({ "bytes_value": STANDARD.encode(bytes) }),
    }
}

/// A value as plain JSON.
fn plain(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(Any::Text(text)) => text.as_str().into(),
        Some(Any::Bool(flag)) => (*flag).into(),
        Some(Any::Int(number)) => (*number).into(),
        Some(Any::Double(number)) => (*number).into(),
        Some(Any::Array(array)) => array.values.iter().map(|value| plain(Some(value))).collect(),
        Some(Any::Map(map)) => {
            map.values.iter().map(|pair| (pair.key.clone(), plain(pair.value.as_ref()))).collect::<Map<_, _>>().into()
        }
        Some(Any::Bytes(bytes)) => STANDARD.encode(bytes).into(),
    }
}

/// What searches ask of a span.
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: &'static str,
    /// Attributes as texts: those that are texts as they are, others in JSON.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// What searches ask of a span.
pub(crate) fn facts(span: &StoredSpan) -> Answer<Facts> {
    let span = read(span)?;
    let text = |KeyValue { key, value }: KeyValue| match plain(value.as_ref()) {
        Value::String(text) => (key, text),
        other => (key, other.to_string()),
    };
    let attributes: BTreeMap<String, String> = span.attributes.into_iter().map(text).collect();
    let status = match span.status.map_or(0, |status| status.code) {
        1 => "OK",
        2 => "ERROR",
        _ => "UNSET",
    };
    let kind = attributes.get("mlflow.spanType").map_or("", |kind| kind.trim_matches('"')).to_owned();
    Ok(Facts { name: span.name, kind, status, attributes })
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::messages::{ArrayValue, ResourceSpans, ScopeSpans};
    use super::*;

    fn send(api: &Api, format: Format, body: &[u8]) -> Answer<Vec<u8>> {
        export(api, body, &Headers { format, experiment: "0", run: "" })
    }

    #[test]
    fn what_is_no_span_is_refused_and_nothing_panics() {
        let api = Api::new(tracker_store::Store::memory().unwrap(), false).unwrap();
        let send = |body: &[u8]| send(&api, Format::Protobuf, body);
        assert!(send(b"").unwrap_err().message.contains("no spans found"));
        assert!(send(b"\x0a\x00").is_ok(), "a resource may have none");
        for body in [&b"\x0a"[..], &[0xff; 40], b"{}"] {
            assert_eq!(send(body).unwrap_err().status().as_u16(), 400);
        }
        assert!(
            export(&api, b"", &Headers { format: Format::Json, experiment: "", run: "" })
                .unwrap_err()
                .message
                .contains("x-mlflow-experiment-id")
        );
        let spans = |trace_id: Vec<u8>| {
            let span = Span { trace_id, span_id: vec![1; 8], ..Span::default() };
            let scope_spans = vec![ScopeSpans { spans: vec![span] }];
            ExportRequest { resource_spans: vec![ResourceSpans { scope_spans }] }.encode_to_vec()
        };
        assert!(send(&spans(vec![1; 3])).is_err());
        send(&spans(vec![1; 16])).unwrap();
        let id = format!("tr-{}", "01".repeat(16));
        assert_eq!(api.store.spans(&id).unwrap().len(), 1);
        // Sent again, it is the same span.
        send(&spans(vec![1; 16])).unwrap();
        assert_eq!(api.store.spans(&id).unwrap().len(), 1);
        assert_eq!(api.store.trace(&id).unwrap().tags[SPANS_TAG], HERE);
        // Values nested deeper than any real one are refused, and do not overflow the stack.
        let mut value = AnyValue { value: Some(Any::Int(1)) };
        for _ in 0..5_000 {
            value = AnyValue { value: Some(Any::Array(ArrayValue { values: vec![value] })) };
        }
        let bytes = value.encode_to_vec();
        std::mem::forget(value);
        assert!(AnyValue::decode(bytes.as_slice()).is_err());
    }

    #[test]
    fn small_bodies_do_not_become_large_ones() {
        let api = Api::new(tracker_store::Store::memory().unwrap(), false).unwrap();
        let refusal = |format, body: &[u8]| send(&api, format, body).unwrap_err().message;
        let json = |spans: &str, n: usize| {
            let spans = vec![spans; n].join(",");
            format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#)
        };
        // The first span that has no ids ends it; so does one that is a list of its fields.
        for span in ["{}", "[]", r#"{"traceId":"","spanId":""}"#] {
            let refusal = refusal(Format::Json, json(span, 10).as_bytes());
            assert!(refusal.contains("line 1 column") && !refusal.contains("more than"), "{span}: {refusal}");
        }
        assert!(refusal(Format::Json, json("{}", 5_900_000).as_bytes()).contains("more than 500000 objects"));
        let span = format!(r#"{{"traceId":"{}","spanId":"{}"}}"#, "01".repeat(16), "02".repeat(8));
        assert!(
            refusal(Format::Json, json(&span, bounds::MAX_SPANS + 1).as_bytes()).contains("more than 100000 spans")
        );
        let spans = vec![Span::default(); bounds::MAX_SPANS + 1];
        let export = ExportRequest { resource_spans: vec![ResourceSpans { scope_spans: vec![ScopeSpans { spans }] }] };
        assert!(refusal(Format::Protobuf, &export.encode_to_vec()).contains("more than 100000 spans"));
        assert!(api.store.traces(api.experiment("0").unwrap().id, None).next().is_none());
    }

    #[test]
    fn null_in_json_says_what_absence_says() {
        let api = Api::new(tracker_store::Store::memory().unwrap(), false).unwrap();
        let (trace, id) = ("01".repeat(16), "02".repeat(8));
        let none = Value::Null;
        let nulls = json!({
            "traceId": trace, "spanId": id, "traceState": none, "parentSpanId": none, "name": none, "kind": none,
            "startTimeUnixNano": none, "endTimeUnixNano": none, "droppedAttributesCount": none, "flags": none, "status": none,
            "links": none, "droppedEventsCount": "3",
            "attributes": [{ "key": "k", "value": none }, { "key": none, "value": { "stringValue": none, "intValue": 7 } }],
            "events": [{ "timeUnixNano": none, "name": none, "attributes": none }],
        });
        let body = json!({ "resourceSpans": [{ "scopeSpans": none }, { "scopeSpans": [{ "spans": [nulls] }, { "spans": none }] }] });
        send(&api, Format::Json, body.to_string().as_bytes()).unwrap();
        let span = read(&api.store.spans(&format!("tr-{trace}")).unwrap()[0]).unwrap();
        let attribute = |key: &str, value| KeyValue { key: key.to_owned(), value };
        let seven = AnyValue { value: Some(Any::Int(7)) };
        let expected = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            dropped_events_count: 3,
            attributes: vec![attribute("k", None), attribute("", Some(seven))],
            events: vec![Event::default()],
            ..Span::default()
        };
        assert_eq!(span, expected);
        // A list has no element that is nothing.
        assert!(send(&api, Format::Json, br#"{"resourceSpans":[null]}"#).is_err());
    }

    #[test]
    fn json_says_what_protobuf_says() {
        let api = Api::new(tracker_store::Store::memory().unwrap(), false).unwrap();
        let send = |span: Value| {
            let body = json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "spans": [span] }] }] });
            send(&api, Format::Json, body.to_string().as_bytes())
        };
        let (trace, id) = ("5B8EFFF798038103D269B633813FC60C", "eee19b7ec3c1b174");
        send(json!({
            "traceId": trace, "spanId": id, "parentSpanId": "", "name": "root", "kind": 2, "flags": 257,
            "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1_544_712_661_500_000_000_u64,
            "attributes": [
                { "key": "n", "value": { "intValue": "-7" } },
                { "key": "x", "value": { "doubleValue": 0.5 } },
                { "key": "list", "value": { "arrayValue": { "values": [{ "boolValue": true }, { "bytesValue": "AQI=" }, {}] } } },
                { "key": "map", "value": { "kvlistValue": { "values": [{ "key": "k", "value": { "stringValue": "v" } }] } } },
            ],
            "events": [{ "timeUnixNano": "5", "name": "e" }],
            "links": [{ "traceId": trace, "spanId": id }],
            "status": { "code": "STATUS_CODE_ERROR", "message": "bad" },
            "somethingNew": [1],
        }))
        .unwrap();
        let stored = api.store.spans(&format!("tr-{}", trace.to_lowercase())).unwrap();
        let span = view(&stored[0]).unwrap();
        let bytes = [0x5b, 0x8e, 0xff, 0xf7, 0x98, 3, 0x81, 3, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c];
        assert_eq!(span["trace_id"], STANDARD.encode(bytes));
        assert_eq!(span["links"][0]["trace_id"], STANDARD.encode(bytes));
        assert_eq!((&span["name"], &span["kind"]), (&json!("root"), &json!("SPAN_KIND_SERVER")));
        assert_eq!(span["end_time_unix_nano"], 1_544_712_661_500_000_000_u64);
        assert_eq!(span["status"], json!({ "code": "STATUS_CODE_ERROR", "message": "bad" }));
        assert_eq!(span["attributes"][0]["value"], json!({ "int_value": -7 }));
        assert_eq!(span["attributes"][2]["value"]["array_value"]["values"][1], json!({ "bytes_value": "AQI=" }));
        assert_eq!(span["attributes"][3]["value"]["kvlist_value"]["values"][0]["key"], "k");
        assert_eq!(span["events"][0]["time_unix_nano"], 5);
        let started = api.store.trace(&format!("tr-{}", trace.to_lowercase())).unwrap();
        assert_eq!((started.duration_millis, started.state.as_str()), (Some(1500), "ERROR"));
        for (field, value) in [
            ("traceId", json!("xyz")),
            ("traceId", json!("5b8e")),
            ("traceId", json!("é1")),
            ("spanId", json!(7)),
            ("spanId", json!("")),
            ("spanId", Value::Null),
            ("kind", json!("SPAN_KIND_ODD")),
            ("startTimeUnixNano", json!(-1)),
            ("startTimeUnixNano", json!("x")),
            ("attributes", json!([{ "key": "k", "value": { "bytesValue": "?" } }])),
        ] {
            let mut span = json!({ "traceId": trace, "spanId": id });
            span[field] = value;
            assert_eq!(send(span.clone()).unwrap_err().status().as_u16(), 400, "{span}");
        }
        let long = send(json!({ "traceId": "x".repeat(1 << 20) })).unwrap_err().message;
        assert!(long.contains("xxx…") && long.len() < 200, "{long}");
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Format::Json.read(deep.as_bytes()).is_err());
    }
}
