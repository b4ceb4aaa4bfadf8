//! `tracker serve` and `tracker exec`: what clients of MLflow log lands in the folder, beside everything else that works on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};

use serde_json::{Value, json};
use tracker_store::{RunId, Store};
use tracker_tests::{Answer, Tracker};

/// A server of the tracker's folder, stopped with the value.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(tracker: &Tracker) -> Self {
        let mut child = tracker.spawn(&["serve", "--port", "0", "--json"]);
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let address = said["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, address }
    }

    /// One request of the protocol, and its answer, which must be one.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = request(&self.address, method, &format!("/api/2.0/mlflow/{path}"), body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Told to stop, it stops.
    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

fn request(address: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    // An answer in chunks has lines of lengths around its one line of JSON.
    let json = body.lines().find(|line| line.starts_with('{')).unwrap_or("null");
    (status, serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn what_clients_log_and_what_studies_record_is_in_one_folder() {
    let tracker = Tracker::new();
    let serving = Serving::start(&tracker);
    let experiment = serving.call("POST", "experiments/create", &json!({ "name": "sft" }))["experiment_id"].clone();
    let created = serving.call(
        "POST",
        "runs/create",
        &json!({ "experiment_id": experiment, "run_name": "first", "start_time": 1 }),
    );
    let run = created["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let metrics: Vec<Value> = (0..100)
        .map(|step| json!({ "key": "loss", "value": 1.0 / f64::from(step + 1), "timestamp": step, "step": step }))
        .collect();
    let batch = json!({ "run_id": run, "metrics": metrics, "params": [{ "key": "lr", "value": "0.1" }] });
    serving.call("POST", "runs/log-batch", &batch);
    // A study runs beside it, and each sees the other's.
    let study = tracker.smoke(&[])["run"].as_str().unwrap().to_owned();
    let listed = tracker.json(&["query", "runs", "params.lr < 0.5 AND metrics.loss < 0.1"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["name"], "first");
    let points = tracker.json(&["query", "metrics", &run, "loss"]);
    assert_eq!(points.len(), 100);
    let seen = serving.call("GET", &format!("runs/get?run_id={}", study.replace('-', "")), &Value::Null);
    assert_eq!(seen["run"]["info"]["status"], "FINISHED", "{seen}");
    assert!(!seen["run"]["data"]["params"].as_array().unwrap().is_empty(), "{seen}");
    serving.call("POST", "runs/update", &json!({ "run_id": run, "status": "FINISHED", "end_time": 5 }));
    let dropped = serving.call("POST", "runs/create", &json!({ "experiment_id": experiment, "run_name": "dropped" }));
    serving.call("POST", "runs/delete", &json!({ "run_id": dropped["run"]["info"]["run_id"] }));
    serving.stop();
    assert_eq!(tracker.json(&["show", &run])[0]["run"]["status"], "finished");
    let names =
        |args: &[&str]| -> Vec<Value> { tracker.json(args).into_iter().map(|run| run["name"].clone()).collect() };
    assert!(!names(&["query", "runs"]).contains(&json!("dropped")));
    assert_eq!(names(&["query", "runs", "--deleted"]), [json!("dropped")]);
    assert_eq!(tracker.run(&["fsck"]).code, 0);
}

#[test]
fn a_server_that_cannot_listen_says_why_and_what_to_do() {
    let tracker = Tracker::new();
    let refused = tracker.run(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("token") && refused.stderr.contains("TRACKER_TOKEN"), "{}", refused.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = tracker.run(&["serve", "--port", &port]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains(&port) && refused.stderr.contains("another port"), "{}", refused.stderr);
}

/// The run of an `exec`, and its id.
fn run_of(answer: &Answer) -> RunId {
    let line =
        answer.stderr.lines().find_map(|line| line.strip_prefix("run ")).unwrap_or_else(|| panic!("{}", answer.stderr));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn file(store: &Store, run: RunId, name: &str) -> Option<String> {
    let owner = format!("runs/{}", run.simple());
    let file = store.loose(&owner, &format!("exec/{name}")).unwrap()?;
    Some(String::from_utf8(store.read_file(file.digest).unwrap()).unwrap())
}

#[test]
fn a_command_is_a_run_with_its_output_its_exit_and_the_state_of_its_code() {
    let tracker = Tracker::new();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).current_dir(tracker.folder());
        git.output().is_ok_and(|done| done.status.success())
    };
    std::fs::write(tracker.folder().join("train.sh"), "echo 1\n").unwrap();
    std::fs::write(tracker.folder().join(".gitignore"), "data\n").unwrap();
    let has_git = git(&["init", "-q"]) && git(&["add", "."]) && git(&["commit", "-qm", "first"]);
    std::fs::write(tracker.folder().join("train.sh"), "echo 2\n").unwrap();

    let script = "echo to stdout; echo to stderr >&2; echo $MLFLOW_RUN_ID; exit 3";
    let answer = tracker.run(&["exec", "--experiment", "shell", "--name", "short", "--", "sh", "-c", script]);
    assert_eq!(answer.code, 3, "{}", answer.stderr);
    assert!(answer.stdout.starts_with("to stdout\n") && answer.stderr.contains("to stderr\n"), "{answer:?}");
    let run = run_of(&answer);
    assert!(answer.stdout.contains(&run.simple()), "{}", answer.stdout);
    let store = Store::open(&tracker.store()).unwrap();
    let recorded = store.run(run).unwrap();
    assert_eq!((recorded.name.as_str(), recorded.status.to_string().as_str()), ("short", "failed"));
    assert!(recorded.message.contains("exited with 3"), "{}", recorded.message);
    let tags = store.tags(run).unwrap();
    assert_eq!(tags["exec.exit"], "3");
    assert!(tags["exec.command"].contains("exit 3") && tags.contains_key("exec.host"), "{tags:?}");
    assert_eq!(file(&store, run, "stderr.txt").unwrap(), "to stderr\n");
    assert!(file(&store, run, "stdout.txt").unwrap().starts_with("to stdout\n"));
    if has_git {
        assert_eq!(tags["exec.git.dirty"], "true");
        assert_eq!(tags["mlflow.source.git.commit"].len(), 40);
        assert!(file(&store, run, "diff.patch").unwrap().contains("+echo 2"));
    }
    drop(store);

    let killed = tracker.run(&["exec", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137, "{}", killed.stderr);
    let good = tracker.run(&["exec", "--", "true"]);
    assert_eq!(good.code, 0, "{}", good.stderr);
    let store = Store::open(&tracker.store()).unwrap();
    assert!(store.run(run_of(&killed)).unwrap().message.contains("signal 9"));
    assert_eq!(store.run(run_of(&good)).unwrap().status.to_string(), "finished");
    assert_eq!(store.experiment_by_id(store.run(run_of(&good)).unwrap().experiment).unwrap().name, "Default");
    drop(store);
    let begun = std::time::Instant::now();
    let left = tracker.run(&["exec", "--", "sh", "-c", "sleep 60 & echo begun"]);
    assert!(left.code == 0 && begun.elapsed().as_secs() < 40, "what was left running was waited for");
    let store = Store::open(&tracker.store()).unwrap();
    assert!(file(&store, run_of(&left), "stdout.txt").unwrap().starts_with("begun\n\n[the command ended"));
    drop(store);
    let missing = tracker.run(&["exec", "--", "/nowhere/program"]);
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("error: `/nowhere/program` cannot be run: No such file"), "{}", missing.stderr);
    assert_eq!(tracker.run(&["fsck"]).code, 0);
}

#[test]
fn a_command_may_use_a_server_of_this_folder_and_of_no_other() {
    let (tracker, other) = (Tracker::new(), Tracker::new());
    let (serving, elsewhere) = (Serving::start(&tracker), Serving::start(&other));
    let exec = |url: &str| tracker.run(&["exec", "--server", url, "--", "sh", "-c", "echo $MLFLOW_TRACKING_URI"]);
    let url = format!("http://{}", serving.address);
    let answer = exec(&url);
    assert_eq!((answer.code, answer.stdout.trim()), (0, url.as_str()), "{}", answer.stderr);
    let answer = exec(&format!("http://{}", elsewhere.address));
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("does not serve this folder"), "{}", answer.stderr);
    let answer = exec("http://127.0.0.1:9");
    assert!(answer.code == 2 && answer.stderr.contains("does not answer"), "{}", answer.stderr);
    assert_eq!(tracker.json(&["ls"]).len(), 1, "the refused ones are hidden");
    serving.stop();
    elsewhere.stop();
}

#[test]
fn servers_and_studies_that_are_killed_in_turn_lose_nothing_acknowledged() {
    let tracker = Tracker::new();
    let whole = tracker.smoke(&[])["record_digest"].clone();
    let mut acknowledged = Vec::new();
    let mut begun = Vec::new();
    for nth in 0..4_u32 {
        let serving = Serving::start(&tracker);
        let experiment = serving.call("POST", "experiments/create", &json!({ "name": format!("killed {nth}") }));
        let created = serving.call(
            "POST",
            "runs/create",
            &json!({ "experiment_id": experiment["experiment_id"], "start_time": 1 }),
        );
        let run = created["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let mut study = tracker.spawn(&["run", "goedel", "--smoke", "--json"]);
        let mut lines = BufReader::new(study.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        begun.push(first["run"].as_str().unwrap().to_owned());
        for step in 0..40 {
            let point = json!({ "run_id": run, "key": "loss", "value": 0.5, "timestamp": step, "step": step });
            serving.call("POST", "runs/log-metric", &point);
            acknowledged.push((run.clone(), step));
            if step % 10 == nth {
                assert!(!tracker.json(&["ls"]).is_empty());
            }
        }
        // One of the two holds the store; each goes first in turn.
        let Serving { mut child, .. } = serving;
        if nth % 2 == 0 {
            child.kill().unwrap();
        }
        study.kill().unwrap();
        study.wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let runs: std::collections::BTreeSet<&String> = acknowledged.iter().map(|(run, _)| run).collect();
    for run in runs {
        let points = tracker.json(&["query", "metrics", run, "loss"]);
        assert_eq!(points.len(), acknowledged.iter().filter(|(of, _)| of == run).count());
    }
    for run in begun {
        let resumed = tracker.run(&["run", "--resume", &run, "--json"]).lines().pop().unwrap();
        assert_eq!(resumed["record_digest"], whole, "{resumed}");
    }
    assert_eq!(tracker.run(&["fsck"]).code, 0);
}
