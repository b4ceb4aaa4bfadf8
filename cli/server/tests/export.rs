//! What clients logged over the wire, exported, imported into another store and served again: the same answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire;

use std::path::Path;

use serde_json::{Value, json};
use tracker_server::{Options, Server};
use tracker_store::{Bundle, RunId, Store, Target};
use wire::Client;

const TRACE: [u8; 16] = [0xab; 16];

fn serve(store: &Store) -> (Server, Client) {
    let server = Server::bind(store.clone(), &Options { port: 0, ..Options::default() }).unwrap();
    let client = Client::new(server.address());
    (server, client)
}

fn trace_id() -> String {
    format!("tr-{}", "ab".repeat(16))
}

/// A field of protobuf that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A field of protobuf that is eight bytes.
fn fixed(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
}

/// One span as OTLP sends it.
fn spans() -> Vec<u8> {
    let start = 1_700_000_000_000_000_000;
    let span = [field(1, &TRACE), field(2, &[7; 8]), field(5, b"answer"), fixed(7, start), fixed(8, start + 5_000_000)];
    field(1, &field(2, &field(2, &span.concat())))
}

struct Logged {
    experiment: String,
    run: String,
    user: String,
    model: String,
}

fn log(client: &mut Client) -> Logged {
    let experiment = client.post("experiments/create", &json!({ "name": "elsewhere" }));
    let experiment = experiment["experiment_id"].as_str().unwrap().to_owned();
    let mut new_run = |experiment: &str, name: &str| {
        let new = json!({ "experiment_id": experiment, "start_time": 1000, "user_id": "me", "run_name": name });
        client.post("runs/create", &new)["run"]["info"]["run_id"].as_str().unwrap().to_owned()
    };
    let (run, user) = (new_run("0", "maker"), new_run(&experiment, "user"));
    let new = json!({ "experiment_id": "0", "name": "policy", "source_run_id": run, "model_type": "agent",
        "params": [{ "key": "lr", "value": "0.1" }], "tags": [{ "key": "note", "value": "good" }] });
    let model = client.post("logged-models", &new)["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    client.post("runs/outputs", &json!({ "run_id": run, "models": [{ "model_id": model, "step": 4 }] }));
    for (path, bytes) in [("MLmodel", vec![1; 100]), ("data/weights", vec![7; 50_000])] {
        assert_eq!(client.put(&format!("0/models/{model}/artifacts/{path}"), &bytes).status, 200);
    }
    client.ask("PATCH", &format!("logged-models/{model}"), &json!({ "status": "LOGGED_MODEL_READY" }));
    client.post("runs/log-inputs", &json!({ "run_id": user, "models": [{ "model_id": model }] }));
    for (of, value) in [(&run, 0.25), (&user, 0.5)] {
        let point = json!({ "run_id": of, "key": "accuracy", "value": value, "timestamp": 1, "step": 1, "model_id": model,
            "dataset_name": "squad", "dataset_digest": "abc" });
        client.post("runs/log-metric", &point);
    }
    let logged = Logged { experiment, run, user, model };
    register(client, &logged);
    trace(client, &logged);
    logged
}

fn register(client: &mut Client, logged: &Logged) {
    let tags = json!([{ "key": "task", "value": "qa" }]);
    client.post("registered-models/create", &json!({ "name": "champion", "description": "the best", "tags": tags }));
    let source = format!("models:/{}", logged.model);
    let new =
        json!({ "name": "champion", "source": source, "model_id": logged.model, "description": "first", "tags": tags });
    client.post("model-versions/create", &new);
    let source = format!("runs:/{}/model", logged.user);
    client.post("model-versions/create", &json!({ "name": "champion", "source": source, "run_id": logged.user }));
    client.post("registered-models/alias", &json!({ "name": "champion", "alias": "best", "version": "1" }));
    let stage = json!({ "name": "champion", "version": "2", "stage": "Production" });
    client.post("model-versions/transition-stage", &stage);
}

fn trace(client: &mut Client, logged: &Logged) {
    let trace = json!({ "trace": { "trace_info": { "trace_id": trace_id(), "request_time": "2026-11-23T17:28:29.147Z", "state": "OK",
        "execution_duration": "1.5s", "request_preview": "why?", "trace_metadata": { "mlflow.sourceRun": logged.user }, "tags": { "k": "v" },
        "trace_location": { "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": logged.experiment } } } } });
    let third = |client: &mut Client, path: &str, body: &Value| {
        let path = format!("/api/3.0/mlflow/{path}");
        let reply = client.request("POST", &path, "application/json", body.to_string().as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    };
    third(client, "traces", &trace);
    client.headers.push(("x-mlflow-experiment-id", logged.experiment.clone()));
    let sent = client.request("POST", "/v1/traces", "application/x-protobuf", &spans()).unwrap();
    assert_eq!(sent.status, 200, "{}", String::from_utf8_lossy(&sent.body));
    client.headers.pop();
    let feedback = json!({ "assessment": { "assessment_name": "ok", "rationale": "it is",
        "source": { "source_type": "HUMAN", "source_id": "me" }, "feedback": { "value": true } } });
    third(client, &format!("traces/{}/assessments", trace_id()), &feedback);
    let file = format!("{}/traces/{}/artifacts/traces.json", logged.experiment, trace_id());
    assert_eq!(client.put(&file, b"{\"spans\":[]}").status, 200);
}

/// What a server says of all of it.
fn answers(client: &mut Client, logged: &Logged) -> Vec<(String, Value)> {
    let Logged { experiment, run, user, model } = logged;
    let trace = trace_id();
    let two = "/api/2.0/mlflow";
    let gets = [
        format!("{two}/runs/get?run_id={run}"),
        format!("{two}/runs/get?run_id={user}"),
        format!("{two}/logged-models/{model}"),
        format!("{two}/logged-models/{model}/artifacts/directories"),
        format!("{two}/registered-models/get?name=champion"),
        format!("{two}/registered-models/search"),
        format!("{two}/registered-models/alias?name=champion&alias=best"),
        format!("{two}/model-versions/search"),
        format!("{two}/model-versions/get-download-uri?name=champion&version=1"),
        format!("/api/3.0/mlflow/traces/{trace}"),
        format!("/api/3.0/mlflow/traces/get?trace_id={trace}"),
    ];
    let mut answers: Vec<(String, Value)> = gets
        .into_iter()
        .map(|path| {
            let reply = client.get(&path);
            assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
            (path, reply.json())
        })
        .collect();
    let searches = [
        (
            "2.0",
            "logged-models/search",
            json!({ "experiment_ids": ["0"], "filter": "metrics.accuracy > 0.3 AND params.lr = '0.1'" }),
        ),
        ("2.0", "runs/search", json!({ "experiment_ids": ["0", experiment] })),
        (
            "3.0",
            "traces/search",
            json!({ "locations": [{ "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": experiment } }],
            "filter": format!("trace.run_id = '{user}' AND span.name = 'answer' AND feedback.ok = 'true'") }),
        ),
    ];
    for (version, path, body) in searches {
        let path = format!("/api/{version}/mlflow/{path}");
        let reply = client.request("POST", &path, "application/json", body.to_string().as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        answers.push((path, reply.json()));
    }
    for path in [
        format!("0/models/{model}/artifacts/data/weights"),
        format!("{experiment}/traces/{trace}/artifacts/traces.json"),
    ] {
        let reply = client.get(&format!("/api/2.0/mlflow-artifacts/artifacts/{path}"));
        assert_eq!(reply.status, 200, "{path}");
        answers.push((path, json!(reply.body)));
    }
    answers
}

fn assert_sound(dir: &Path) {
    let mut found = Vec::new();
    let checked = tracker_store::fsck(dir, &mut |finding| found.push(finding), &|_| {}).unwrap();
    assert_eq!(checked.n_damages, 0, "{found:?}");
}

#[test]
fn models_versions_and_traces_are_served_as_before_where_their_runs_were_imported() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let (server, mut client) = serve(&store);
    let logged = log(&mut client);
    let before = answers(&mut client, &logged);
    for (path, found) in before.iter().filter(|(path, _)| path.ends_with("search")) {
        let n_found = found.as_object().unwrap().values().filter_map(Value::as_array).map(Vec::len).max();
        assert!(n_found.is_some_and(|n| n > 0), "{path}: {found}");
    }
    server.stop().unwrap();
    let path = dir.path().join("runs.tar");
    let asked: RunId = logged.user.parse().unwrap();
    let exported = store.export(&[asked], Target::File(&path), &mut |_| {}).unwrap();
    assert_eq!(exported.runs.len(), 2, "the model that was taken leads to the run that made it");

    let other = dir.path().join("other");
    let store = Store::create(&other).unwrap();
    for n_new in [1, 0] {
        let imported = store.import(&Bundle::open(&path).unwrap(), &mut |_| {}).unwrap();
        assert_eq!((imported.n_models, imported.n_traces, imported.n_model_versions), (n_new, n_new, 2 * n_new));
        assert!(imported.kept.is_empty() && imported.renumbered_models.is_empty(), "{imported:?}");
    }
    let (server, mut client) = serve(&store);
    for (before, after) in before.iter().zip(answers(&mut client, &logged)) {
        assert_eq!(*before, after);
    }
    // And it goes on: the next version has the next number.
    let next = json!({ "name": "champion", "source": format!("models:/{}", logged.model), "model_id": logged.model });
    assert_eq!(client.post("model-versions/create", &next)["model_version"]["version"], "3");
    server.stop().unwrap();
    drop((client, store));
    assert_sound(&other);
}
