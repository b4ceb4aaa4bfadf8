//! A model behind an OpenAI-compatible endpoint formalises, judges and proves; what it said is kept and answers again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells what it skips"
)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracker_proof::formula::ATOM_NAMES;
use tracker_proof::{corpus, english};
use tracker_tests::{Endpoint, Tracker};

/// A plan whose every model is behind `endpoint`, on a file of problems in words.
fn plan(tracker: &Tracker, endpoint: &Endpoint) {
    let level = corpus::Level::new(1).unwrap();
    let made = corpus::statements(7, 12, &[level]).unwrap();
    let row = |(i, made): (usize, &corpus::Problem)| {
        let words = english::problem(&made.statement.proposition(), &ATOM_NAMES, i as u64);
        json!({"problem": words}).to_string() + "\n"
    };
    let rows: String = made.iter().enumerate().map(row).collect();
    std::fs::write(tracker.folder().join("words.jsonl"), rows).unwrap();
    let url = endpoint.url();
    let plan = format!(
        "study = \"goedel\"\nproblems.file = \"words.jsonl\"\nbenchmark = {{ n = 12, levels = [3], n_samples = 2, k = [1, 2] }}\n\
         rounds = {{ n = 1, n_samples = 2, schedule = [1.0] }}\npolicy = {{ kind = \"endpoint\", template = \"lean\" }}\n\
         endpoint = {{ url = \"{url}\", model = \"prover\" }}\nformaliser = {{ url = \"{url}\", model = \"writer\" }}\n\
         judge = {{ url = \"{url}\", model = \"judge\" }}\nformalise = {{ author = \"endpoint\", judge = \"endpoint\", n_samples = 3 }}\n"
    );
    std::fs::write(tracker.folder().join("plan.toml"), plan).unwrap();
}

fn last(answer: &tracker_tests::Answer) -> Value {
    assert!(answer.code == 0 || answer.code == 1, "{}", answer.stderr);
    answer.lines().pop().unwrap()
}

#[test]
fn words_become_proofs_and_a_replay_needs_no_server() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    plan(&tracker, &endpoint);
    let ended = last(&tracker.run(&["run", "plan.toml", "--json"]));
    assert_eq!(ended["status"], "finished");
    let run = ended["run"].as_str().unwrap();

    // Of a proof in a round, all who had a part in it.
    let proofs = tracker.json(&["query", "proofs", "outcome = 'proved' AND stage LIKE 'round 1/%'"]);
    assert!(proofs.len() > 12, "{} proofs", proofs.len());
    let up = &tracker.json(&["query", "lineage", proofs[0]["id"].as_str().unwrap(), "--up"])[0];
    let nodes: BTreeSet<(&str, &str)> = up["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["kind"].as_str().unwrap(), n["label"].as_str().unwrap()))
        .collect();
    for model in ["writer", "prover"] {
        assert!(nodes.contains(&("endpoint", model)), "no {model} in {nodes:?}");
    }
    let rewards = tracker.json(&["query", "rewards", "kind = 'faithful'", "--limit", "1000"]);
    assert!(!rewards.is_empty() && rewards.iter().all(|r| r["scorer"].as_str().unwrap().starts_with("endpoint:")));

    // What was exchanged is an artifact, and answers in place of the server.
    let n_calls = endpoint.n_calls();
    drop(endpoint);
    let replayed = last(&tracker.run(&["replay", run, "--json"]));
    assert_eq!(replayed["same_as_before"], true, "{replayed}");
    let out = tracker.folder().join("kept");
    assert_eq!(tracker.run(&["artifact", "get", "goedel/exchanges", out.to_str().unwrap()]).code, 0);
    let file = out.join("exchanges.jsonl");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), n_calls);
    let again = last(&tracker.run(&["run", "plan.toml", "--json", "--exchanges", file.to_str().unwrap()]));
    assert_eq!(again["record_digest"], ended["record_digest"]);

    // Another seed asks other things, and nobody is there to answer.
    let answer = tracker.run(&["run", "plan.toml", "--seed", "2", "--exchanges", file.to_str().unwrap()]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("never recorded"), "{}", answer.stderr);
    assert_eq!(tracker.run(&["replay", run, "--call"]).code, 3);
}

#[test]
fn a_killed_run_asks_nothing_twice() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    plan(&tracker, &endpoint);
    tracker.assert_asks_nothing_twice(&endpoint);
}

/// What transformers 5.24 (`transformers serve`) said, serving the last checkpoint of a run of `goedel`.
#[test]
fn what_a_real_server_said_goes_through_real_lean() {
    if tracker_proof::lean::find().is_none() {
        println!("SKIP a real server's exchanges on real Lean: no `lean` here");
        return;
    }
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/endpoint");
    let (tracker, endpoint) = (Tracker::new(), Endpoint::recorded(&golden.join("exchanges.jsonl")));
    for file in ["plan.toml", "rows.jsonl"] {
        std::fs::copy(golden.join(file), tracker.folder().join(file)).unwrap();
    }
    let url = format!("endpoint.url={}", endpoint.url());
    let ended = last(&tracker.run(&["run", "plan.toml", "--set", &url, "--json"]));
    assert_eq!(ended["status"], "finished");

    // Lean's verdicts: this model's proofs and its mistakes; and nothing was proved of what has no proof.
    let count = |filter: &str| tracker.json(&["query", "proofs", filter, "--limit", "1000"]).len();
    assert_eq!(count("outcome != 'infra'"), 64);
    assert!(count("outcome = 'proved'") >= 10 && count("outcome = 'failed'") >= 10);
    let proofs = tracker.json(&["query", "proofs", "outcome = 'proved'", "--limit", "1000"]);
    for proof in &proofs {
        let up = &tracker.json(&["query", "lineage", proof["id"].as_str().unwrap(), "--up"])[0];
        let labels: BTreeSet<&str> =
            up["nodes"].as_array().unwrap().iter().map(|n| n["label"].as_str().unwrap()).collect();
        assert!(labels.contains("model") && labels.iter().any(|l| l.starts_with("lean 4.")), "{labels:?}");
        assert!(!labels.iter().any(|l| l.starts_with("no_theorem")), "{labels:?}");
    }
    let figures = &tracker.json(&["show", ended["run"].as_str().unwrap()])[0]["figures"];
    let passes =
        figures.as_array().unwrap().iter().filter(|f| f["figure"]["name"].as_str().unwrap().starts_with("pass@"));
    assert_eq!(passes.count(), 3);
}
