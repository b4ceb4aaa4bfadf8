//! Real Lean 4 agrees with what is stored as proved.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells what it skips"
)]

use tracker_proof::lean::{self, Lean};
use tracker_proof::{Candidate, Verifier};
use tracker_store::{Outcome, RunId, Statement, Store};
use tracker_tests::Tracker;

#[test]
fn every_stored_proof_is_accepted_by_real_lean() {
    if lean::find().is_none() {
        println!("SKIP real Lean on stored proofs: no `lean` here");
        return;
    }
    let tracker = Tracker::new();
    let run: RunId = tracker.smoke(&[])["run"].as_str().unwrap().parse().unwrap();
    let store = Store::open(&tracker.store()).unwrap();
    let mut candidates = Vec::new();
    for row in store.verdicts(run, None) {
        let (node, verdict) = row.unwrap();
        if verdict.outcome == Outcome::Proved {
            let sample = store.sample(node.row().unwrap()).unwrap().unwrap();
            let statement: Statement = store.content(sample.subject.digest().unwrap()).unwrap();
            candidates.push(Candidate { header: statement.header, statement: statement.text, proof: sample.text });
        }
    }
    assert!(candidates.len() > 20, "only {} proofs", candidates.len());
    let verdicts = Lean::open(lean::Options::default()).unwrap().check(&candidates);
    for (candidate, verdict) in candidates.iter().zip(verdicts) {
        assert!(verdict.is_proved(), "{} := {}: {verdict:?}", candidate.statement, candidate.proof);
    }
}

#[test]
fn the_study_runs_on_real_lean() {
    if lean::find().is_none() {
        println!("SKIP goedel on real Lean: no `lean` here");
        return;
    }
    let tracker = Tracker::new();
    let last = tracker.smoke(&["--set", "verifier=lean"]);
    assert_eq!(last["status"], "finished", "{last}");
    let proofs = tracker.json(&["query", "proofs", "outcome = 'proved'"]);
    assert!(!proofs.is_empty());
    assert_eq!(tracker.json(&["query", "proofs", "outcome = 'infra'"]).len(), 0);
}

#[test]
fn a_file_of_goedel_provers_format_runs_on_real_lean_and_mathlib_is_asked_for_before_sampling() {
    if lean::find().is_none() {
        println!("SKIP a problem file on real Lean: no `lean` here");
        return;
    }
    let tracker = Tracker::new();
    let header = serde_json::to_string(tracker_proof::prelude::TEXT).unwrap();
    let row = |name: &str, split: &str, header: &str, text: &str| {
        format!(
            "{{\"name\": \"{name}\", \"split\": \"{split}\", \"informal_prefix\": \"/-- One. -/\", \"header\": {header}, \"formal_statement\": \"theorem {name} {text} := by\"}}\n"
        )
    };
    let rows = [
        row("a", "valid", &header, "(p q : Prop) : And p q → q"),
        row("b", "valid", &header, "(p : Prop) : p → Or p p"),
        row("c", "test", &header, "(p q : Prop) : p → q → And q p"),
        row("m", "mathlib", "\"import Mathlib\\n\"", "(x : ℝ) : x = x"),
    ];
    std::fs::write(tracker.folder().join("rows.jsonl"), rows.concat()).unwrap();
    let common = ["--set", "verifier=lean", "--set", "problems.file=rows.jsonl", "--set", "benchmark.file=rows.jsonl"];
    let last =
        tracker.smoke(&[&common[..], &["--set", "problems.split=valid", "--set", "benchmark.split=test"]].concat());
    assert_eq!(last["status"], "finished", "{last}");

    let args = [&["run", "goedel", "--smoke"][..], &common, &["--set", "benchmark.split=mathlib"]].concat();
    let answer = tracker.run(&args);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("Mathlib"), "{}", answer.stderr);
}
