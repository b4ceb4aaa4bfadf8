//! Wrong input: exit 2 with one clear message and a hint, or 3 where the machine is at fault; nothing half-done.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tracker_tests::Tracker;

/// Runs `args` and expects exit 2 and all of `parts` in what it says.
fn refuses(tracker: &Tracker, args: &[&str], parts: &[&str]) {
    let answer = tracker.run(args);
    assert_eq!(answer.code, 2, "{args:?}: {} {}", answer.stdout, answer.stderr);
    for part in parts {
        assert!(answer.stderr.contains(part), "{args:?}: expected `{part}` in: {}", answer.stderr);
    }
    assert!(!answer.stderr.contains("panicked"), "{args:?}: {}", answer.stderr);
}

#[test]
fn a_misspelt_word_names_the_nearest() {
    let tracker = Tracker::new();
    refuses(&tracker, &["run", "gödel"], &["unknown study", "goedel"]);
    refuses(&tracker, &["run", "goedel", "--set", "round.n=1"], &["unknown key `round.n`", "rounds.n"]);
    refuses(&tracker, &["run", "goedel", "--set", "rounds.n=many"], &["rounds.n", "many"]);
    refuses(&tracker, &["run", "goedel", "--set", "verifier=coq"], &["verifier", "coq", "kernel", "lean"]);
    refuses(&tracker, &["run", "goedel", "--set", "rounds"], &["rounds", "key=value"]);
    refuses(&tracker, &["run", "goedel", "--device", "tpu"], &["tpu"]);
    refuses(&tracker, &["runn"], &["run"]);
    assert!(!tracker.store().exists(), "a refused command made a store");
}

#[test]
fn a_plan_file_is_read_with_line_and_column() {
    let tracker = Tracker::new();
    let file = tracker.folder().join("plan.toml");
    std::fs::write(&file, "study = \"goedel\"\nseed = = 3\n").unwrap();
    refuses(&tracker, &["run", "plan.toml"], &["plan.toml", "line 2"]);
    std::fs::write(&file, "seed = 3\n").unwrap();
    refuses(&tracker, &["run", "plan.toml"], &["study"]);
    refuses(&tracker, &["run", "missing.toml"], &["missing.toml"]);
}

#[test]
fn a_missing_or_foreign_store_is_said_so() {
    let tracker = Tracker::new();
    refuses(&tracker, &["ls"], &["data"]);
    std::fs::create_dir(tracker.store()).unwrap();
    std::fs::write(tracker.store().join("thesis.tex"), "mine").unwrap();
    let answer = tracker.run(&["run", "goedel", "--smoke"]);
    assert!(answer.code == 2 || answer.code == 3, "{}", answer.stderr);
    assert_eq!(std::fs::read_dir(tracker.store()).unwrap().count(), 1, "a foreign folder was written to");
}

#[test]
fn a_checkpoint_or_a_problem_file_that_cannot_be_used_is_named() {
    let tracker = Tracker::new();
    refuses(&tracker, &["run", "goedel", "--smoke", "--set", "policy.checkpoint=nowhere"], &["nowhere"]);
    refuses(&tracker, &["run", "goedel", "--smoke", "--set", "problems.file=none.jsonl"], &["none.jsonl"]);
    std::fs::write(tracker.folder().join("bad.jsonl"), "{\"name\": \"x\"}\n").unwrap();
    refuses(
        &tracker,
        &["run", "goedel", "--smoke", "--set", "problems.file=bad.jsonl"],
        &["bad.jsonl", "line 1", "formal_statement"],
    );
}

#[test]
fn an_endpoint_that_is_down_is_found_before_any_work() {
    let tracker = Tracker::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("endpoint.url=http://127.0.0.1:{port}/v1");
    let answer = tracker.run(&[
        "run",
        "goedel",
        "--smoke",
        "--set",
        "policy.kind=endpoint",
        "--set",
        &url,
        "--set",
        "endpoint.model=m",
    ]);
    assert_eq!(answer.code, 3, "{}", answer.stderr);
    assert!(answer.stderr.contains(&port.to_string()) && answer.stderr.contains("hint"), "{}", answer.stderr);
    assert_eq!(tracker.json(&["ls"])[0]["status"], "failed");
}

#[test]
fn a_bad_question_is_answered_with_what_is_wrong() {
    let tracker = Tracker::new();
    let run = tracker.smoke(&[])["run"].as_str().unwrap().to_owned();
    refuses(&tracker, &["query", "runs", "status = "], &["status ="]);
    refuses(&tracker, &["query", "lineage", "zzzz"], &["zzzz"]);
    refuses(&tracker, &["show", "no-such-run"], &["no-such-run"]);
    refuses(&tracker, &["query", "metrics", &run, "no/such"], &["no/such"]);
    refuses(&tracker, &["run", "--resume", &run], &["finished"]);
}
