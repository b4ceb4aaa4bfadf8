//! The study of process rewards, end to end: run, resume, what is recorded of counts and labels, and bad settings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use serde_json::Value;
use tracker_tests::Tracker;

const SMOKE: [&str; 4] = ["run", "er_prm", "--smoke", "--json"];

/// The last event of the smoke plan.
fn smoke(tracker: &Tracker, args: &[&str]) -> Value {
    let answer = tracker.run(&[&SMOKE, args].concat());
    // A claim of so small a run may fail to hold, which is an answer too.
    assert!(answer.code <= 1, "{}", answer.stderr);
    answer.lines().pop().unwrap()
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    let tracker = Tracker::new();
    let whole = smoke(&tracker, &["--workers", "1"]);
    assert_eq!(whole["status"], "finished", "{whole}");
    assert_eq!(whole["record_digest"], smoke(&tracker, &["--workers", "2"])["record_digest"]);
    assert_ne!(whole["record_digest"], smoke(&tracker, &["--seed", "2"])["record_digest"]);
    let n_events = tracker.run(&SMOKE).lines().len();
    for part in [1, 3, 5] {
        let mut child = tracker.spawn(&SMOKE);
        let mut run = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().take(n_events * part / 6) {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if let Some(id) = event["run"].as_str() {
                id.clone_into(&mut run);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let resumed = tracker.run(&["run", "--resume", &run, "--json"]).lines().pop().unwrap();
        assert_eq!(resumed["record_digest"], whole["record_digest"], "killed after part {part} of 6");
    }
}

#[test]
fn labels_keep_their_counts_lead_to_completions_and_can_be_made_anew() {
    let tracker = Tracker::new();
    let run = smoke(&tracker, &[]);
    let run = run["run"].as_str().unwrap();
    let labels = tracker.json(&[
        "query",
        "rewards",
        "stage = 'trajectories'",
        "--kind",
        "step",
        "--run",
        run,
        "--limit",
        "1000",
    ]);
    let soft: Vec<&Value> =
        labels.iter().filter(|label| label["tallies"].as_str().is_some_and(|t| t.contains("/4"))).collect();
    assert!(!soft.is_empty(), "{labels:?}");
    for label in soft.iter().take(5) {
        let up = &tracker.json(&["query", "lineage", label["id"].as_str().unwrap()])[0];
        let kinds: BTreeSet<&str> =
            up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap()).collect();
        for kind in ["reward", "sample", "problem", "program", "checkpoint", "dataset"] {
            assert!(kinds.contains(kind), "no {kind} above a label: {kinds:?}");
        }
    }
    let relabelled = tracker.run(&["relabel", run, "--eta", "5", "--from", "soft", "--dry-run", "--json"]);
    assert_eq!(relabelled.code, 0, "{}", relabelled.stderr);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, key) in [
        ("labels.estimators=[\"soft\"]", "labels.estimators"),
        ("labels.entropic=\"er:3\"", "labels.entropic"),
        ("labels.entropic=\"soft\"", "labels.entropic"),
        ("raft.estimators=[\"er:7\"]", "raft.estimators"),
        ("search.sizes=[4, 2]", "search.sizes"),
        ("search.aggregator=\"median\"", "aggregator"),
        ("policy.error_rate=1.0", "policy.error_rate"),
        ("rollouts.max_tokens=500", "rollouts.max_tokens"),
        ("problems.min_steps=9", "problems.min_steps"),
    ] {
        let answer = tracker.run(&["run", "er_prm", "--smoke", "--set", set]);
        assert_eq!(answer.code, 2, "{set}: {}", answer.stderr);
        assert!(answer.stderr.contains(key), "{set}: {}", answer.stderr);
    }
    assert_eq!(tracker.run(&["ls"]).code, 2, "a refused plan leaves no store");
}
