//! The spine, end to end: run, repeat, kill, resume, ask where things came from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Child;

use serde_json::Value;
use tracker_tests::Tracker;

fn digest(last: &Value) -> String {
    assert_eq!(last["status"], "finished", "{last}");
    last["record_digest"].as_str().unwrap().to_owned()
}

/// Kills a running command once it has printed `n` events; the run's id.
fn kill_after(mut child: Child, n: usize) -> String {
    let mut run = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().take(n) {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if let Some(id) = event["run"].as_str() {
            id.clone_into(&mut run);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run
}

#[test]
fn equal_plans_give_equal_records_whatever_the_number_of_workers() {
    let tracker = Tracker::new();
    let one = tracker.smoke(&["--workers", "1"]);
    let two = tracker.smoke(&["--workers", "2"]);
    assert_eq!(digest(&one), digest(&two));
    let other = tracker.smoke(&["--seed", "2"]);
    assert_ne!(digest(&one), digest(&other));

    let (one, two) = (one["run"].as_str().unwrap(), two["run"].as_str().unwrap());
    assert_eq!(tracker.run(&["diff", one, two]).code, 0);
    assert_eq!(tracker.run(&["diff", one, other["run"].as_str().unwrap()]).code, 1);
    let replayed = tracker.run(&["replay", one, "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true);
}

#[test]
fn a_killed_run_resumes_to_the_same_records() {
    let tracker = Tracker::new();
    let whole = digest(&tracker.smoke(&[]));
    let n_events = tracker.run(&["run", "goedel", "--smoke", "--json"]).lines().len();
    for part in 1..=5 {
        let child = tracker.spawn(&["run", "goedel", "--smoke", "--json"]);
        let run = kill_after(child, n_events * part / 6);
        let resumed = tracker.run(&["run", "--resume", &run, "--json"]);
        assert_eq!(digest(&resumed.lines().pop().unwrap()), whole, "killed after part {part} of 6");
    }
}

#[test]
fn commands_work_beside_a_running_run() {
    let tracker = Tracker::new();
    let mut first = tracker.spawn(&["run", "goedel", "--smoke", "--json"]);
    let mut line = String::new();
    let mut out = BufReader::new(first.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let run = serde_json::from_str::<Value>(&line).unwrap()["run"].as_str().unwrap().to_owned();
    assert_eq!(tracker.json(&["ls"]).len(), 1);
    assert_eq!(tracker.json(&["show", &run])[0]["run"]["status"], "running");
    let second = digest(&tracker.smoke(&[]));
    let last = out.lines().map(Result::unwrap).last().unwrap();
    first.wait().unwrap();
    assert_eq!(digest(&serde_json::from_str(&last).unwrap()), second);
}

#[test]
fn a_proof_leads_up_to_all_it_came_from_and_a_verifier_down_to_figures() {
    let tracker = Tracker::new();
    let run = tracker.smoke(&[])["run"].as_str().unwrap().to_owned();
    let proofs = tracker.json(&["query", "proofs", "outcome = 'proved'", "--run", &run, "--limit", "100000"]);
    let late = proofs.iter().rfind(|p| p["stage"].as_str().unwrap().starts_with("round 2/"));
    let late = late.expect("a proof of the second round")["id"].as_str().unwrap();
    let up = &tracker.json(&["query", "lineage", late, "--up"])[0];
    let kinds: BTreeSet<&str> = up["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    for kind in ["verdict", "sample", "statement", "problem", "checkpoint", "dataset", "verifier"] {
        assert!(kinds.contains(kind), "no {kind} above {late}: {kinds:?}");
    }
    let labels: Vec<&str> = up["nodes"].as_array().unwrap().iter().filter_map(|n| n["label"].as_str()).collect();
    for part in ["base", "round 1"] {
        assert!(labels.iter().any(|l| l.contains(part)), "no checkpoint `{part}` above {late}: {labels:?}");
    }
    let problem =
        up["nodes"].as_array().unwrap().iter().find(|n| n["kind"] == "problem").unwrap()["id"].as_str().unwrap();
    let words = &tracker.json(&["show", problem])[0]["record"]["text"];
    assert!(words.as_str().is_some_and(|text| text.len() > 10), "{words}");

    let early = proofs.iter().find(|p| p["stage"] == "round 1/attempt").unwrap()["id"].as_str().unwrap();
    assert!(up["nodes"].as_array().unwrap().iter().any(|n| n["kind"] == "verdict" && n["id"] != late), "{early}");

    let verifier =
        up["nodes"].as_array().unwrap().iter().find(|n| n["kind"] == "verifier").unwrap()["id"].as_str().unwrap();
    let down = &tracker.json(&["query", "lineage", verifier, "--down", "--kind", "figure", "--kind", "checkpoint"])[0];
    let kinds: BTreeSet<&str> = down["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains("figure") && kinds.contains("checkpoint"), "{kinds:?}");
    for format in ["tree", "dot", "mermaid"] {
        let answer = tracker.run(&["query", "lineage", late, "--format", format]);
        assert!(answer.code == 0 && answer.stdout.contains("checkpoint"), "{format}: {}", answer.stderr);
    }
}

#[test]
fn a_run_is_one_process_s() {
    let tracker = Tracker::new();
    let mut first = tracker.spawn(&["run", "goedel", "--smoke", "--json"]);
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let run = serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["run"].clone();
    let run = run.as_str().unwrap();
    let refused = tracker.run(&["run", "--resume", run]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("another process") || refused.stderr.contains("finished"), "{}", refused.stderr);
    assert!(lines.last().unwrap().unwrap().contains("\"finished\""));
    first.wait().unwrap();
}

#[test]
fn what_was_recorded_can_be_asked_for() {
    let tracker = Tracker::new();
    let run = tracker.smoke(&[])["run"].as_str().unwrap().to_owned();
    let samples = tracker.json(&["query", "samples", "--run", &run, "--limit", "100000"]);
    let proofs = tracker.json(&["query", "proofs", "--run", &run, "--limit", "100000"]);
    assert!(!proofs.is_empty() && samples.len() >= proofs.len());
    let proved = tracker.json(&["query", "proofs", "outcome = 'proved'", "--run", &run, "--limit", "100000"]);
    let rest = tracker.json(&["query", "proofs", "NOT (outcome = 'proved')", "--run", &run, "--limit", "100000"]);
    assert_eq!(proved.len() + rest.len(), proofs.len());
    assert!(!proved.is_empty());
    assert!(tracker.json(&["query", "checkpoints"]).len() >= 3);
    assert!(!tracker.json(&["query", "claims"]).is_empty());
    assert!(!tracker.json(&["query", "rewards", "--run", &run]).is_empty());
    assert_eq!(tracker.json(&["query", "runs", "study = 'goedel' AND params.rounds.n = '2'"]).len(), 1);
    let losses = tracker.json(&["query", "metrics", &run, "base/loss"]);
    assert!(losses.len() > 2 && losses[0]["value"].as_f64() > losses.last().unwrap()["value"].as_f64());

    let out = tracker.folder().join("model");
    let got = tracker.run(&["artifact", "get", "goedel/round 2", out.to_str().unwrap()]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert_eq!(tracker.run(&["artifact", "get", "goedel/round 2", out.to_str().unwrap()]).code, 2);
}

#[test]
fn what_follows_the_last_round_gives_a_policy_with_its_ancestry() {
    let tracker = Tracker::new();
    for post in ["dpo", "dpo-length", "grpo"] {
        let post = format!("post={post}");
        let last = tracker.smoke(&["--set", &post, "--set", "after.max_ratio=1.0", "--set", "after.n_samples=8"]);
        let run = last["run"].as_str().unwrap();
        assert!(!tracker.json(&["query", "metrics", run, "post/loss"]).is_empty(), "{post}");
        let shown = &tracker.json(&["show", run])[0]["figures"];
        let figure = shown.as_array().unwrap().iter().find(|f| f["stage"] == "post/figures").unwrap();
        assert!(figure["figure"]["name"].as_str().unwrap().starts_with("pass@"), "{figure}");
        let model = tracker.json(&["query", "checkpoints", "label = 'post'", "--run", run])[0]["id"].clone();
        let up = &tracker.json(&["query", "lineage", model.as_str().unwrap(), "--up"])[0];
        let labels: Vec<&str> = up["nodes"].as_array().unwrap().iter().filter_map(|n| n["label"].as_str()).collect();
        for part in ["base", "round 2"] {
            assert!(labels.contains(&part), "{post}: no checkpoint `{part}` in {labels:?}");
        }
        let verdicts = up["nodes"].as_array().unwrap().iter().filter(|n| n["kind"] == "verdict");
        assert!(verdicts.count() > 0, "{post}: the attempts it learnt from");
    }
}

#[test]
fn an_interrupted_run_stops_soon_says_how_to_go_on_and_goes_on() {
    let tracker = Tracker::new();
    let whole = digest(&tracker.smoke(&[]));
    let mut child = tracker.spawn(&["run", "goedel", "--smoke", "--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let training = "base/train";
    let run = serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["run"].clone();
    lines.by_ref().find(|line| line.as_ref().unwrap().contains(training)).unwrap().unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &last["status"]), (Some(1), &Value::from("interrupted")), "{last}");
    let run = run.as_str().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let command = format!("tracker --store {} run --resume {run}", tracker.store().display());
    assert!(said.contains(&command), "{said}");
    assert!(
        tracker.json(&["query", "checkpoints", "--run", run]).is_empty(),
        "a broken-off training left a checkpoint"
    );
    assert_eq!(digest(&tracker.run(&["run", "--resume", run, "--json"]).lines().pop().unwrap()), whole);
}
