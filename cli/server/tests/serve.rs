//! The server over real sockets: what it refuses, what it survives, and that what it writes is the store's own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking; children talk")]

mod wire;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use serde_json::{Value, json};
use tracker_server::{Error, Options, Server};
use tracker_store::{
    Bundle, Collect, Kind, NewRun, NodeId, Plan, Point, Query, Recording, RunId, Store, Table, Target, Toward, Walk,
};
use wire::Client;

fn options() -> Options {
    Options { port: 0, patience: Duration::from_secs(5), ..Options::default() }
}

fn serve(store: &Store) -> (Server, Client) {
    let server = Server::bind(store.clone(), &options()).unwrap();
    let client = Client::new(server.address());
    (server, client)
}

fn new_run(client: &mut Client) -> String {
    let made = client.post(
        "runs/create",
        &json!({ "experiment_id": "0", "start_time": 1000, "user_id": "me", "run_name": "first" }),
    );
    made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
}

fn id(run: &str) -> RunId {
    run.parse().unwrap()
}

#[test]
fn a_run_that_is_logged_is_the_stores_own() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    let run = new_run(&mut client);
    client.post(
        "runs/log-batch",
        &json!({
            "run_id": run,
            "metrics": [{ "key": "loss", "value": 0.5, "timestamp": 1, "step": 1 }, { "key": "loss", "value": "NaN", "timestamp": 2, "step": 2 }],
            "params": [{ "key": "lr", "value": "0.1" }],
            "tags": [{ "key": "note", "value": "x" }],
        }),
    );
    client.post("runs/update", &json!({ "run_id": run, "status": "KILLED", "end_time": 2000 }));
    let found =
        store.query(&Query::new(Table::Runs).filter("params.lr < 0.2 AND status = 'interrupted'").unwrap()).unwrap();
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.rows[0].id, NodeId::run(id(&run)));
    let stored = store.run(id(&run)).unwrap();
    assert_eq!((stored.name.as_str(), stored.user.as_str(), stored.started.millis()), ("first", "me", 1000));
    let points: Vec<Point> = store.history(id(&run), "loss", None).unwrap().map(Result::unwrap).collect();
    assert_eq!(points, [Point::new(1, 1, 0.5), Point::new(2, 2, f64::NAN)]);
    client.post("runs/delete", &json!({ "run_id": run }));
    assert!(store.query(&Query::new(Table::Runs)).unwrap().rows.is_empty(), "deleted runs are hidden");
    server.stop().unwrap();
}

#[test]
fn a_run_of_a_study_is_seen_by_clients_and_both_write_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let new = NewRun {
        name: "study".into(),
        experiment: "proofs".into(),
        study: "goedel".into(),
        plan: Plan::new("seed = 1\n"),
        seed: 1,
        device: "cpu".into(),
        host: "here".into(),
        versions: std::collections::BTreeMap::new(),
    };
    let run = store.create_run(&new).unwrap().id;
    let mut draft = store.draft("model").unwrap();
    draft.add("data/weights", &mut [7_u8; 10_000].as_slice()).unwrap();
    draft.save("family/policy", &[], Some(run)).unwrap();
    let (server, mut client) = serve(&store);
    let list = |client: &mut Client, path: &str| {
        let listed = client.get(&format!("/api/2.0/mlflow/artifacts/list?run_id={}&path={path}", run.simple())).json();
        listed["files"][0]["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(list(&mut client, ""), "family");
    assert_eq!(list(&mut client, "family/policy:v0/data"), "family/policy:v0/data/weights");
    let file = format!("/get-artifact?run_id={}&path=family/policy:v0/data/weights", run.simple());
    assert_eq!(client.get(&file).body, vec![7; 10_000]);
    let experiment = client.get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=proofs").json();
    let experiment = experiment["experiment"]["experiment_id"].as_str().unwrap().to_owned();
    let writer = std::thread::spawn({
        let store = store.clone();
        move || {
            for step in 0..200 {
                let mut recording = Recording::new();
                recording.put_points(run, "loss", &[Point::new(step, 1, 0.25)]).unwrap();
                store.commit(&recording, tracker_store::Durability::Os).unwrap();
            }
        }
    });
    for step in 0..200 {
        client.post(
            "runs/log-metric",
            &json!({ "run_id": run.simple(), "key": "loss", "value": 0.5, "timestamp": 2, "step": step }),
        );
    }
    writer.join().unwrap();
    let found = client.post("runs/search", &json!({ "experiment_ids": [experiment], "filter": "metrics.loss = 0.5" }));
    assert_eq!(found["runs"][0]["info"]["run_id"], run.simple());
    assert_eq!(found["runs"][0]["info"]["status"], "RUNNING");
    assert_eq!(store.history(run, "loss", None).unwrap().count(), 400);
    server.stop().unwrap();
}

fn input() -> Value {
    json!({ "tags": [{ "key": "mlflow.data.context", "value": "training" }],
            "dataset": { "name": "squad", "digest": "abc", "source_type": "code", "source": "{}", "profile": "{\"num_rows\": 7}" } })
}

/// A run that used a dataset, logged a model with files, and of which a version was registered. Returns the run and the model.
fn with_lineage(client: &mut Client) -> (String, String) {
    let run = new_run(client);
    client.post("runs/log-inputs", &json!({ "run_id": run, "datasets": [input()] }));
    let model = client.post("logged-models", &json!({ "experiment_id": "0", "name": "policy", "source_run_id": run, "params": [{ "key": "lr", "value": "1" }] }));
    let model = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    client.post("runs/outputs", &json!({ "run_id": run, "models": [{ "model_id": model, "step": 0 }] }));
    assert_eq!(client.put(&format!("0/models/{model}/artifacts/MLmodel"), b"flavors").status, 200);
    assert_eq!(client.put(&format!("0/models/{model}/artifacts/data/weights"), &vec![7; 50_000]).status, 200);
    assert_eq!(
        client.ask("PATCH", &format!("logged-models/{model}"), &json!({ "status": "LOGGED_MODEL_READY" })).status,
        200
    );
    client.post("registered-models/create", &json!({ "name": "champion" }));
    client.post(
        "model-versions/create",
        &json!({ "name": "champion", "source": format!("models:/{model}"), "model_id": model }),
    );
    (run, model)
}

#[test]
fn datasets_models_and_versions_are_edges_of_lineage() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    let (run, model) = with_lineage(&mut client);
    let user = new_run(&mut client);
    client.post("runs/log-inputs", &json!({ "run_id": user, "models": [{ "model_id": model }] }));
    let up = store.walk(NodeId::run(id(&user)), &Walk::new(Toward::Ancestors)).unwrap();
    let kinds: Vec<Kind> = up.nodes.iter().map(|node| node.id.kind()).collect();
    assert!(kinds.contains(&Kind::Artifact) && kinds.contains(&Kind::Dataset), "{kinds:?}");
    assert!(up.nodes.iter().any(|node| node.id == NodeId::run(id(&run))), "the model leads to the run that made it");
    for name in ["models/policy", "registry/champion"] {
        let version = store.artifact(name).unwrap();
        assert_eq!(version.run, Some(id(&run)), "{name}");
        assert_eq!(store.manifest(&version).unwrap().files.len(), 2);
    }
    let datasets = store.query(&Query::new(Table::Datasets)).unwrap();
    assert_eq!(datasets.rows[0].get("n_rows"), Some(&tracker_store::Value::Int(7)));
    server.stop().unwrap();
}

#[test]
fn a_model_that_is_taken_before_it_is_ready_gets_its_edge_then() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    let model = client.post("logged-models", &json!({ "experiment_id": "0", "name": "policy" }));
    let model = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    let user = new_run(&mut client);
    client.post("runs/log-inputs", &json!({ "run_id": user, "models": [{ "model_id": model }] }));
    client.put(&format!("0/models/{model}/artifacts/MLmodel"), b"flavors");
    client.ask("PATCH", &format!("logged-models/{model}"), &json!({ "status": "LOGGED_MODEL_READY" }));
    let up = store.walk(NodeId::run(id(&user)), &Walk::new(Toward::Ancestors)).unwrap();
    assert!(up.nodes.iter().any(|node| node.id.kind() == Kind::Artifact));
    server.stop().unwrap();
}

#[test]
fn all_of_it_is_whole_for_fsck_backup_export_and_collection() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    let store = Store::create(&folder).unwrap();
    let (server, mut client) = serve(&store);
    let (run, model) = with_lineage(&mut client);
    let metric = json!({ "run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "model_id": model, "dataset_name": "squad", "dataset_digest": "abc" });
    client.post("runs/log-metric", &metric);
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(client.put(&format!("0/{run}/artifacts/dir/large.bin"), &large).status, 200);
    assert_eq!(client.put(&format!("0/{run}/artifacts/note.txt"), b"note").status, 200);
    let trace = json!({ "trace": { "trace_info": { "trace_id": "tr-1", "request_time": "2026-11-23T17:28:29.147Z", "state": "OK",
        "trace_location": { "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": "0" } } } } });
    let started = client.request("POST", "/api/3.0/mlflow/traces", "application/json", trace.to_string().as_bytes());
    assert_eq!(started.unwrap().status, 200);
    let feedback = json!({ "assessment": { "assessment_name": "ok", "source": { "source_type": "CODE", "source_id": "x" }, "feedback": { "value": true } } });
    let said = client.request(
        "POST",
        "/api/3.0/mlflow/traces/tr-1/assessments",
        "application/json",
        feedback.to_string().as_bytes(),
    );
    assert_eq!(said.unwrap().status, 200);
    client.post("experiments/set-experiment-tag", &json!({ "experiment_id": "0", "key": "k", "value": "v" }));
    server.stop().unwrap();
    drop(client);

    let collected = store.collect(&Collect { grace: Duration::ZERO, ..Collect::default() }).unwrap();
    assert_eq!(collected.n_files, 0, "nothing that is named is collected");
    let usage = store.usage(tracker_store::Group::Run).unwrap();
    assert!(usage.shares.iter().any(|share| share.name == id(&run).to_string() && share.raw_bytes > 12_000_000));
    let export = dir.path().join("run.export");
    store.export(&[id(&run)], Target::File(&export), &mut |_| {}).unwrap();
    drop(store);
    let mut found = Vec::new();
    let checked = tracker_store::fsck(&folder, &mut |finding| found.push(finding), &|_| {}).unwrap();
    assert_eq!(checked.n_damages, 0, "{found:?}");

    let other = dir.path().join("other");
    let store = Store::create(&other).unwrap();
    for _ in 0..2 {
        store.import(&Bundle::open(&export).unwrap(), &mut |_| {}).unwrap();
    }
    let (server, mut client) = serve(&store);
    let file = client.get(&format!("/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/dir/large.bin"));
    assert!(file.status == 200 && file.body == large, "loose files come along");
    let imported = client.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).json();
    assert_eq!(imported["run"]["inputs"]["dataset_inputs"][0]["dataset"]["digest"], "abc");
    assert_eq!(imported["run"]["info"]["user_id"], "me");
    server.stop().unwrap();
    drop((client, store));
    let mut found = Vec::new();
    let checked = tracker_store::fsck(&other, &mut |finding| found.push(finding), &|_| {}).unwrap();
    assert_eq!(checked.n_damages, 0, "{found:?}");
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let store = Store::memory().unwrap();
    let open = Options { host: IpAddr::from([0, 0, 0, 0]), ..options() };
    assert!(matches!(Server::bind(store.clone(), &open), Err(Error::TokenMissing { .. })));
    assert!(matches!(
        Server::bind(store.clone(), &Options { token: Some(String::new()), ..open.clone() }),
        Err(Error::TokenMissing { .. })
    ));
    let server = Server::bind(store, &Options { token: Some("s3cret".into()), ..open }).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let mut client = Client::new(address);
    let refused = client.get("/api/2.0/mlflow/experiments/get?experiment_id=0");
    assert_eq!((refused.status, refused.json()["error_code"].as_str()), (401, Some("UNAUTHENTICATED")));
    assert_eq!(client.get("/health").status, 200);
    client.headers.push(("Authorization", "Bearer s3cret".into()));
    assert_eq!(client.get("/api/2.0/mlflow/experiments/get?experiment_id=0").status, 200);
    client.headers.pop();
    client.headers.push(("Authorization", "Basic YW55b25lOnMzY3JldA==".into()));
    assert_eq!(client.get("/api/2.0/mlflow/experiments/get?experiment_id=0").status, 200);
    server.stop().unwrap();
}

#[test]
fn pages_of_other_sites_do_not_reach_it() {
    let (server, mut client) = serve(&Store::memory().unwrap());
    client.headers = vec![("Host", "evil.example".into())];
    assert_eq!(client.get("/api/2.0/mlflow/experiments/get?experiment_id=0").status, 403);
    client.headers = vec![("Host", "localhost:80".into()), ("Origin", "http://evil.example".into())];
    let posted = client.ask("POST", "experiments/create", &json!({ "name": "x" }));
    assert_eq!((posted.status, posted.json()["error_code"].as_str()), (403, Some("PERMISSION_DENIED")));
    let reply = client.get("/api/2.0/mlflow/experiments/get?experiment_id=0");
    assert!(reply.status == 200 && reply.header("access-control-allow-origin").is_none());
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    server.stop().unwrap();
}

#[test]
fn a_client_that_keeps_silent_is_sent_away() {
    let server =
        Server::bind(Store::memory().unwrap(), &Options { patience: Duration::from_millis(200), ..options() }).unwrap();
    // In the middle of a body, then in the middle of a head.
    for sent in [
        &b"POST /api/2.0/mlflow/experiments/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"[..],
        b"POST /api/2.0/mlflow/exp",
    ] {
        let mut client = Client::new(server.address());
        client.send(sent).unwrap();
        match client.reply() {
            Ok(reply) => assert!((400..500).contains(&reply.status), "{reply:?}"),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it waits for ever"),
        }
    }
    server.stop().unwrap();
}

#[test]
fn a_client_that_sends_next_to_nothing_is_sent_away() {
    let server =
        Server::bind(Store::memory().unwrap(), &Options { patience: Duration::from_millis(300), ..options() }).unwrap();
    let mut client = Client::new(server.address());
    let run = new_run(&mut client);
    for head in [
        format!("PUT /api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/f HTTP/1.1\r\nHost: localhost\r\n"),
        "POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            .to_owned(),
    ] {
        let mut slow = Client::new(server.address());
        slow.send(format!("{head}Content-Length: 100000\r\n\r\n").as_bytes()).unwrap();
        let begun = std::time::Instant::now();
        while slow.send(b" ").is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "a byte now and then keeps its place");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    server.stop().unwrap();
}

#[test]
fn histories_come_by_time_whatever_their_steps() {
    let (server, mut client) = serve(&Store::memory().unwrap());
    let run = new_run(&mut client);
    let metrics: Vec<_> = [(1, 300, 0), (2, 100, 1), (3, 200, 2), (4, 100, 7), (5, 100, 1)]
        .map(|(value, timestamp, step)| json!({ "key": "m", "value": value, "timestamp": timestamp, "step": step }))
        .into();
    client.post("runs/log-batch", &json!({ "run_id": run, "metrics": metrics }));
    let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=m");
    let values = |answer: &serde_json::Value| -> Vec<f64> {
        answer["metrics"].as_array().unwrap().iter().map(|point| point["value"].as_f64().unwrap()).collect()
    };
    assert_eq!(values(&client.get(&path).json()), [2.0, 5.0, 4.0, 3.0, 1.0]);
    let (mut token, mut paged) = (String::new(), Vec::new());
    loop {
        let page = client.get(&format!("{path}&max_results=2&page_token={token}")).json();
        paged.extend(values(&page));
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, [2.0, 5.0, 4.0, 3.0, 1.0]);
    let bulk = format!("/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id={run}&metric_key=m&max_results=3");
    assert_eq!(values(&client.get(&bulk).json()), [2.0, 5.0, 4.0]);
    server.stop().unwrap();
}

#[test]
fn heads_are_answered_without_their_bodies() {
    let (server, _) = serve(&Store::memory().unwrap());
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let path = "/api/2.0/mlflow/experiments/get?experiment_id=0";
    // What comes next is the answer to the next request, not a body.
    write!(stream, "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    assert!(all.ends_with("\r\n\r\n") && all.contains("content-length: 2"), "{all}");
    server.stop().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_does_not_read_its_answer_is_sent_away() {
    let server =
        Server::bind(Store::memory().unwrap(), &Options { patience: Duration::from_secs(5), ..options() }).unwrap();
    let mut client = Client::new(server.address());
    let run = new_run(&mut client);
    // More than sockets hold on both sides.
    let file = vec![7; 32 << 20];
    assert_eq!(client.put(&format!("0/{run}/artifacts/big"), &file).status, 200);
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/big");
    let begin = || {
        let mut idle = Client::new(server.address());
        idle.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        idle
    };
    let mut idle: Vec<Client> = (0..16).map(|_| begin()).collect();
    let begun = std::time::Instant::now();
    let status = || {
        assert!(begun.elapsed() < Duration::from_secs(50), "the places are never taken, or never given back");
        let mut client = Client::new(server.address());
        client.headers.push(("Range", "bytes=0-0".into()));
        client.get(&path).status
    };
    // One that finds no place, because the request of a byte has the last, is gone: so another begins with each try.
    while status() != 429 {
        idle.push(begin());
    }
    while status() != 206 {
        std::thread::sleep(Duration::from_millis(20));
    }
    // The place that was given back was of one of them.
    assert!(idle.into_iter().any(|mut idle| idle.reply().is_err()), "all was read");
    server.stop().unwrap();
}

#[test]
fn what_is_too_much_is_put_off_and_then_taken() {
    let server =
        Server::bind(Store::memory().unwrap(), &Options { patience: Duration::from_mins(1), ..options() }).unwrap();
    let mut client = Client::new(server.address());
    let run = new_run(&mut client);
    // Uploads that have begun and do not go on take all places. One that finds none, because the request below has the last, is gone:
    // so another begins with each try.
    let begin = |nth: usize| {
        let mut upload = Client::new(server.address());
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/f{nth}");
        upload
            .send(format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab").as_bytes())
            .unwrap();
        upload
    };
    let mut begun: Vec<Client> = (0..24).map(begin).collect();
    let begun_at = std::time::Instant::now();
    let busy = loop {
        let reply = client.put(&format!("0/{run}/artifacts/more"), b"more");
        if reply.status == 429 {
            break reply;
        }
        assert!(begun_at.elapsed() < Duration::from_secs(50), "the places are never taken");
        begun.push(begin(begun.len()));
    };
    assert_eq!(
        (busy.header("retry-after"), busy.json()["error_code"].as_str()),
        (Some("1"), Some("REQUEST_LIMIT_EXCEEDED"))
    );
    let statuses: Vec<u16> = begun
        .into_iter()
        .map(|mut upload| {
            upload.send(b"cde").unwrap();
            upload.reply().unwrap().status
        })
        .collect();
    // Sixteen held the places; one that the server had not come to before may find a place that was given back.
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 16, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(client.put(&format!("0/{run}/artifacts/more"), b"more").status, 200);
    server.stop().unwrap();
}

const ROLE_DIR: &str = "TRACKER_SERVER_TEST_DIR";

/// Not a test of its own: the server that other tests kill.
#[test]
fn child_serves() {
    let Ok(dir) = std::env::var(ROLE_DIR) else { return };
    let server = Server::bind(Store::create(Path::new(&dir)).unwrap(), &options()).unwrap();
    println!("\nlistening {}", server.address());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    server.stop().unwrap();
}

/// A server in a process of its own, and what it says; it must be able to go on talking.
fn start(dir: &Path) -> (Child, SocketAddr, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_serves", "--exact", "--nocapture"])
        .env(ROLE_DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("listening ") {
        line.clear();
        assert!(says.read_line(&mut line).unwrap() > 0, "the child ended");
    }
    (child, line["listening ".len()..].trim().parse().unwrap(), says)
}

/// Logs points until the server goes; returns the steps that were acknowledged. Waits for the others after the first answer.
fn log_until_it_goes(address: SocketAddr, run: &str, writer: usize, begun: &Barrier) -> Vec<i64> {
    let mut client = Client::new(address);
    let mut acknowledged = Vec::new();
    for step in 0.. {
        let body = json!({ "run_id": run, "metrics": [
            { "key": format!("a{writer}"), "value": step, "timestamp": 1, "step": step },
            { "key": format!("b{writer}"), "value": step, "timestamp": 1, "step": step },
        ] });
        let path = "/api/2.0/mlflow/runs/log-batch";
        let reply = client.request("POST", path, "application/json", body.to_string().as_bytes());
        if step == 0 {
            begun.wait();
        }
        match reply {
            Ok(reply) if reply.status == 200 => acknowledged.push(step),
            _ => break,
        }
    }
    acknowledged
}

fn steps(store: &Store, run: &str, key: &str) -> Vec<i64> {
    store.history(id(run), key, None).unwrap().map(|point| point.unwrap().step).collect()
}

fn loses_nothing(is_killed: bool) {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (mut child, address, _says) = start(dir.path());
        let run = new_run(&mut Client::new(address));
        let begun = Barrier::new(9);
        let acknowledged = std::thread::scope(|scope| {
            let (run, begun) = (run.as_str(), &begun);
            let writers: Vec<_> =
                (0..8).map(|writer| scope.spawn(move || log_until_it_goes(address, run, writer, begun))).collect();
            begun.wait();
            // Some files are on their way too.
            let mut client = Client::new(address);
            for nth in 0..20 {
                assert_eq!(client.put(&format!("0/{run}/artifacts/f{nth}"), &vec![nth; 30_000]).status, 200);
            }
            if is_killed {
                child.kill().unwrap();
            } else {
                drop(child.stdin.take());
            }
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        let status = child.wait().unwrap();
        assert!(is_killed || status.success(), "{status}");
        let store = Store::open(dir.path()).unwrap();
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            assert!(!acknowledged.is_empty());
            let (a, b) = (steps(&store, &run, &format!("a{writer}")), steps(&store, &run, &format!("b{writer}")));
            assert_eq!(a, b, "a batch is there whole or not at all");
            assert!(a.starts_with(acknowledged), "{} of {} are there", a.len(), acknowledged.len());
        }
        for nth in 0..20_u8 {
            let file = store.loose(&format!("runs/{run}"), &format!("f{nth}")).unwrap().unwrap();
            assert_eq!(store.read_file(file.digest).unwrap(), vec![nth; 30_000]);
        }
    }
    let mut found = Vec::new();
    let checked = tracker_store::fsck(dir.path(), &mut |finding| found.push(finding), &|_| {}).unwrap();
    assert_eq!(checked.n_damages, 0, "{found:?}");
}

#[test]
fn a_kill_under_load_loses_nothing_acknowledged() {
    loses_nothing(true);
}

#[test]
fn a_stop_under_load_loses_nothing_acknowledged() {
    loses_nothing(false);
}

#[test]
fn long_lists_are_sent_in_parts() {
    let store = Store::memory().unwrap();
    let (server, mut client) = serve(&store);
    for _ in 0..300 {
        let run = new_run(&mut client);
        let params: Vec<Value> =
            (0..100).map(|nth| json!({ "key": format!("p{nth}"), "value": "x".repeat(100) })).collect();
        client.post("runs/log-batch", &json!({ "run_id": run, "params": params }));
    }
    let body = json!({ "experiment_ids": ["0"], "max_results": 250 });
    let reply = client.ask("POST", "runs/search", &body);
    assert_eq!((reply.status, reply.header("transfer-encoding")), (200, Some("chunked")));
    let found = reply.json();
    assert_eq!(found["runs"].as_array().unwrap().len(), 250);
    let rest = json!({ "experiment_ids": ["0"], "max_results": 250, "page_token": found["next_page_token"] });
    assert_eq!(client.post("runs/search", &rest)["runs"].as_array().unwrap().len(), 50);
    server.stop().unwrap();
}

#[test]
fn values_that_are_too_long_are_cut_or_refused_as_the_server_was_told() {
    for refuse_long in [false, true] {
        let store = Store::memory().unwrap();
        let server = Server::bind(store.clone(), &Options { refuse_long, ..options() }).unwrap();
        let mut client = Client::new(server.address());
        let run = new_run(&mut client);
        let long = "ü".repeat(8001);
        let pair = |key: &str| json!({ "key": key, "value": long });
        for (path, body, parameter, limit) in [
            ("runs/set-tag", json!({ "run_id": run, "key": "t", "value": long }), "value", 8000),
            ("runs/log-parameter", json!({ "run_id": run, "key": "p", "value": long }), "value", 6000),
            ("runs/log-batch", json!({ "run_id": run, "params": [pair("q")] }), "params[0].value", 6000),
            ("runs/log-batch", json!({ "run_id": run, "tags": [{ "key": "s" }, pair("u")] }), "tags[1].value", 8000),
            ("runs/create", json!({ "experiment_id": "0", "tags": [pair("t")] }), "tags[0].value", 8000),
        ] {
            let reply = client.ask("POST", path, &body);
            if refuse_long {
                let expected = format!("'{parameter}' exceeds the maximum length of {limit} characters");
                let refusal = reply.json();
                assert_eq!((reply.status, &refusal["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{path}");
                assert!(refusal["message"].as_str().unwrap().starts_with(&expected), "{path}: {refusal}");
            } else {
                assert_eq!(reply.status, 200, "{path}");
            }
        }
        let n_letters = |text: Option<String>| text.map(|text| text.chars().count());
        let kept = |n: usize| (!refuse_long).then_some(n);
        assert_eq!(n_letters(store.param(id(&run), "p").unwrap()), kept(6000));
        assert_eq!(n_letters(store.param(id(&run), "q").unwrap()), kept(6000));
        assert_eq!(n_letters(store.tag(id(&run), "t").unwrap()), kept(8000));
        assert_eq!(n_letters(store.tag(id(&run), "u").unwrap()), kept(8000));
        assert_eq!(store.query(&Query::new(Table::Runs)).unwrap().rows.len(), if refuse_long { 1 } else { 2 });
        server.stop().unwrap();
    }
}
