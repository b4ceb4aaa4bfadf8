//! Spans over the wire, as OTLP has them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "spans are posted, and nothing else")]
mod wire;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::encoding::encode_varint;
use serde_json::json;
use tracker_server::{Options, Server};
use tracker_store::{Store, Trace};
use wire::{Client, Reply};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn serve(store: &Store) -> (Server, Client) {
    let server = Server::bind(store.clone(), &Options { port: 0, ..Options::default() }).unwrap();
    let mut client = Client::new(server.address());
    client.headers.push(("x-mlflow-experiment-id", "0".to_owned()));
    (server, client)
}

/// A field of protobuf that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    encode_varint(bytes.len() as u64, &mut field);
    [field, bytes.to_vec()].concat()
}

/// A request with a span of this name, the first of trace `nth`, or one below it.
fn span(nth: u8, name: &[u8], is_root: bool) -> Vec<u8> {
    let parent = if is_root { Vec::new() } else { field(4, &[7; 8]) };
    let span = [field(1, &[nth; 16]), field(2, &[nth; 8]), parent, field(5, name)].concat();
    field(1, &field(2, &field(2, &span)))
}

fn id(nth: u8) -> String {
    format!("tr-{}", format!("{nth:02x}").repeat(16))
}

fn send(client: &mut Client, kind: &str, body: &[u8]) -> Reply {
    client.request("POST", "/v1/traces", kind, body).unwrap()
}

#[test]
fn a_body_that_hardly_compresses_is_taken_by_an_idle_server() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(&span(1, &vec![b'x'; 25 << 19], true)).unwrap();
    let body = encoder.finish().unwrap();
    client.headers.push(("Content-Encoding", "gzip".to_owned()));
    let reply = send(&mut client, PROTOBUF, &body);
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(store.spans(&id(1)).unwrap().len(), 1);
    server.stop().unwrap();
}

#[test]
fn answers_are_written_as_their_requests_were() {
    let (server, mut client) = serve(&Store::memory().unwrap());
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{ "traceId": "01".repeat(16), "spanId": "02".repeat(8) }] }] }] });
    for kind in [JSON, "application/json; charset=utf-8"] {
        let reply = send(&mut client, kind, body.to_string().as_bytes());
        assert_eq!((reply.status, reply.header("content-type"), reply.body.as_slice()), (200, Some(JSON), &b"{}"[..]));
    }
    let reply = send(&mut client, PROTOBUF, &span(1, b"root", true));
    assert_eq!((reply.status, reply.header("content-type"), reply.body.as_slice()), (200, Some(PROTOBUF), &b""[..]));
    server.stop().unwrap();
}

#[test]
fn what_no_span_may_be_is_cut_where_it_is_shown() {
    let (server, mut client) = serve(&Store::memory().unwrap());
    let filter = format!("nonsense.`{}` = 'x'", "y".repeat(1 << 20));
    for (path, body) in [
        ("runs/search", json!({ "experiment_ids": ["0"], "filter": filter })),
        ("experiments/search", json!({ "max_results": 5, "filter": filter })),
        ("runs/update", json!({ "run_id": "r".repeat(1 << 20) })),
        ("registered-models/alias", json!({ "name": "n".repeat(1 << 20), "alias": "a", "version": "1" })),
    ] {
        let reply = client.ask("POST", path, &body);
        assert!((400..500).contains(&reply.status), "{path}");
        assert!(reply.body.len() < 10_000, "{path}: {} bytes", reply.body.len());
        assert!(!reply.json()["message"].as_str().unwrap().is_empty(), "{path}");
    }
    server.stop().unwrap();
}

#[test]
fn traces_are_of_the_run_that_the_header_names() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    let run = client.post("runs/create", &json!({ "experiment_id": "0", "start_time": 1000 }));
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    for (nth, is_root, named) in
        [(1, true, run.as_str()), (2, false, &run), (3, true, &"0".repeat(32)), (4, true, "nonsense"), (5, true, "")]
    {
        client.headers.push(("x-mlflow-run-id", named.to_owned()));
        assert_eq!(send(&mut client, PROTOBUF, &span(nth, b"root", is_root)).status, 200, "{named}");
        client.headers.pop();
        // A trace of which the first span has not come is linked when it comes; one of a run that is not there is kept.
        let linked = store.trace(&id(nth)).unwrap().metadata.get(Trace::SOURCE_RUN).cloned();
        assert_eq!(linked, (nth == 1).then(|| run.clone()), "{nth}");
    }
    assert_eq!(send(&mut client, PROTOBUF, b"").status, 400);
    server.stop().unwrap();
}
