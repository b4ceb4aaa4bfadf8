//! The study of process rewards, end to end: run, resume, what is recorded of counts and labels, and bad settings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use tracker_tests::Tracker;

/// The last event of the smoke plan.
fn smoke(tracker: &Tracker, args: &[&str]) -> Value {
    tracker.smoke_of("er_prm", args)
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("er_prm", &[0.17, 0.5, 0.83]);
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
