//! `tracker verify`: files of proofs and recorded proofs, by the kernel and by real Lean.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and tells what it skips")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use serde_json::{Value, json};
use tracker_proof::{Style, corpus, lean, prelude};
use tracker_tests::{Answer, Tracker};

/// Writes rows to a file in the tracker's folder.
fn file(tracker: &Tracker, name: &str, rows: &[String]) -> PathBuf {
    let path = tracker.folder().join(name);
    std::fs::write(&path, rows.join("\n") + "\n").unwrap();
    path
}

fn row(name: &str, header: &str, statement: &str, proof: &str) -> String {
    json!({ "name": name, "header": header, "formal_statement": statement, "proof": proof }).to_string()
}

fn run_of(answer: &Answer) -> String {
    let line = answer.stdout.lines().rev().find_map(|line| line.strip_prefix("run "));
    line.unwrap_or_else(|| panic!("no run in: {}{}", answer.stdout, answer.stderr)).trim().to_owned()
}

const SWAP: &str = "theorem swap (p q : Prop) : And p q → And q p";
const EM: &str = "theorem em (p : Prop) : Or p (p → False)";

#[test]
fn verdicts_come_in_the_order_of_the_rows_and_bad_rows_cost_the_others_nothing() {
    let tracker = Tracker::new();
    let rows = [
        row("swap", "", SWAP, "fun h => And.intro (And.right h) (And.left h)"),
        row("wrong", "", SWAP, "fun h => And.intro (And.left h) (And.right h)"),
        "{\"name\": \"cut".to_owned(),
        row("open", "", SWAP, "sorry"),
        json!({ "name": "full", "formal_statement": SWAP, "full_code": format!("{SWAP} := fun h => And.intro (And.right h) (And.left h)") }).to_string(),
        json!({ "name": "other", "formal_statement": SWAP, "full_code": "theorem swap (p : Prop) : p → p := fun h => h" }).to_string(),
        json!({ "name": "no proof", "formal_statement": SWAP }).to_string(),
    ];
    let path = file(&tracker, "proofs.jsonl", &rows);
    let path = path.to_str().unwrap();
    let answer = tracker.run(&["verify", path, "--verifier", "kernel", "--json"]);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    let lines = answer.lines();
    let said: Vec<(u64, Option<&str>)> =
        lines.iter().map(|line| (line["line"].as_u64().unwrap(), line["outcome"].as_str())).collect();
    let expected = [
        (1, Some("proved")),
        (2, Some("failed")),
        (3, None),
        (4, Some("sorry")),
        (5, Some("proved")),
        (6, Some("statement_mismatch")),
        (7, None),
    ];
    assert_eq!(said, expected, "{}", answer.stdout);
    for bad in [&lines[2], &lines[6]] {
        assert!(bad["error"].as_str().unwrap().starts_with("line "), "{bad}");
    }
    assert!(answer.stderr.contains("proofs.jsonl: line 3, column"), "{}", answer.stderr);
    // The same is stored: by outcome and by verifier, with lineage to the file.
    let proved = tracker.json(&["query", "proofs", "outcome = 'proved' AND verifier.name = 'kernel'"]);
    assert_eq!(proved.len(), 2, "{proved:?}");
    let sample = lines[0]["sample"].as_str().unwrap();
    let tree = tracker.run(&["query", "lineage", sample, "--up", "--format", "tree"]).stdout;
    assert!(tree.contains("artifact proofs proofs.jsonl"), "{tree}");
    let text = tracker.run(&["verify", path, "--verifier", "kernel"]);
    assert!(text.stdout.contains("2 rows cannot be read") && text.code == 1, "{}", text.stdout);

    let good = file(&tracker, "good.jsonl", &[rows[0].clone(), rows[4].clone()]);
    let answer = tracker.run(&["verify", good.to_str().unwrap(), "--verifier", "kernel"]);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
}

#[test]
fn recorded_proofs_are_checked_again_and_disagreements_listed() {
    let tracker = Tracker::new();
    let rows = [
        row("swap", "", SWAP, "fun h => And.intro (And.right h) (And.left h)"),
        row("em", "", EM, "Classical.em p"),
        row("wrong", "", SWAP, "fun h => h"),
    ];
    let path = file(&tracker, "proofs.jsonl", &rows);
    let axioms = ["--axiom", "propext", "--axiom", "Quot.sound", "--axiom", "Classical.choice"];
    let verify = ["verify", path.to_str().unwrap(), "--verifier", "kernel"];
    let first = tracker.run(&[&verify[..], &axioms].concat());
    assert_eq!(first.code, 1, "{}", first.stderr);
    let run = run_of(&first);
    // Without the axioms one of the two does not stand; what was never proved is not asked again.
    let again = tracker.run(&["verify", "--recheck", &run, "--verifier", "kernel", "--json"]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    let lines = again.lines();
    let said: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["name"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect();
    assert_eq!(said, [("swap", "proved"), ("em", "bad_axiom")]);
    assert!(lines[1]["recorded"].as_str().unwrap().contains(&run[..8]), "{}", lines[1]);
    assert_eq!(lines[1]["axioms"], json!(["Classical.choice", "Quot.sound", "propext"]));
    let listed = tracker.run(&["verify", "--recheck", &run, "--verifier", "kernel"]);
    assert!(listed.stdout.contains("bad_axiom") && listed.stdout.contains("em"), "{}", listed.stdout);
    // The proof that was checked again is derived from the one it is.
    let up = tracker.run(&["query", "lineage", lines[0]["sample"].as_str().unwrap(), "--up"]).stdout;
    assert!(up.contains("derived_from"), "{up}");
    assert_eq!(
        tracker
            .run(&[
                "verify",
                "--recheck",
                &run,
                "--verifier",
                "kernel",
                axioms[0],
                axioms[1],
                axioms[2],
                axioms[3],
                axioms[4],
                axioms[5]
            ])
            .code,
        0
    );
}

/// Rows of the corpus with a proof each, under the header that the kernel and Lean without libraries share.
fn corpus_rows(n: usize) -> Vec<String> {
    let levels = [1, 2].map(|level| corpus::Level::new(level).unwrap());
    let problems = corpus::statements(7, n, &levels).unwrap();
    let row = |problem: &corpus::Problem| {
        let statement = problem.statement.print(Style::Constructor);
        row(&problem.statement.name, prelude::TEXT, &statement, &problem.proof.render(&[]))
    };
    problems.iter().map(row).collect()
}

#[test]
fn a_check_that_was_killed_goes_on_without_the_file() {
    let tracker = Tracker::new();
    let rows: Vec<String> = corpus_rows(400).into_iter().cycle().take(60_000).collect();
    let path = file(&tracker, "many.jsonl", &rows);
    let whole = ["verify", path.to_str().unwrap(), "--verifier", "kernel"];
    let answer = tracker.run(&whole);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    let digest = |run: &str| tracker.json(&["show", run])[0]["run"]["record_digest"].clone();
    let expected = digest(&run_of(&answer));
    assert!(expected.is_string(), "{expected}");
    let mut child = tracker.spawn(&whole);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let started = said.next().unwrap().unwrap();
    let run = started.split_whitespace().nth(2).unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&path).unwrap();
    let resumed = tracker.run(&["verify", "--resume", &run, "--json"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(resumed.lines().len(), 60_000);
    assert_eq!(digest(&run), expected);
    let other = tracker.run(&["verify", "--resume", &run]);
    assert_eq!(other.code, 2, "a finished check has nothing to go on with: {}", other.stderr);
}

#[test]
fn what_cannot_be_used_is_named_before_anything_is_recorded() {
    let tracker = Tracker::new();
    let path = file(&tracker, "proofs.jsonl", &[row("swap", "", SWAP, "fun h => h")]);
    let path = path.to_str().unwrap();
    let folder = tracker.folder().to_str().unwrap().to_owned();
    let refused = |args: &[&str], parts: &[&str]| {
        let answer = tracker.run_with(&[&["verify"], args].concat(), &[("TRACKER_LEAN", "/nowhere/lean")]);
        assert!(answer.code >= 2, "{args:?}: {}", answer.stdout);
        for part in parts {
            assert!(answer.stderr.contains(part), "{args:?}: expected `{part}` in: {}", answer.stderr);
        }
    };
    refused(&[path], &["/nowhere/lean", "--lean"]);
    refused(&[path, "--lean", "/nowhere/else"], &["/nowhere/else"]);
    refused(&[path, "--verifier", "kimina", "--url", "http://127.0.0.1:9"], &["127.0.0.1:9", "start the server"]);
    refused(&[path, "--verifier", "kimina"], &["--url"]);
    refused(&["nowhere.jsonl", "--verifier", "kernel"], &["nowhere.jsonl"]);
    refused(&[&folder, "--verifier", "kernel"], &["it is a folder"]);
    refused(&["--recheck", "nothing", "--verifier", "kernel"], &["no store"]);
    assert!(!tracker.store().exists(), "something was made");
    let empty = file(&tracker, "empty.jsonl", &[String::new()]);
    refused(&[empty.to_str().unwrap(), "--verifier", "kernel"], &["no proof to check", "formal_statement"]);
}

#[test]
fn real_lean_and_the_kernel_say_the_same_of_a_file() {
    if lean::find().is_none() {
        println!("SKIP tracker verify by real Lean: no `lean` here");
        return;
    }
    let tracker = Tracker::new();
    let mut rows = corpus_rows(40);
    let n_proved = rows.len();
    rows.push(row("wrong", prelude::TEXT, SWAP, "fun h => h"));
    rows.push(row("open", prelude::TEXT, SWAP, "sorry"));
    rows.push(row("cheat", prelude::TEXT, SWAP, "by\n  run_cmd evil"));
    let path = file(&tracker, "proofs.jsonl", &rows);
    let outcomes = |verifier: &str| -> (Vec<Value>, Answer) {
        let answer = tracker.run(&["verify", path.to_str().unwrap(), "--verifier", verifier, "--json"]);
        (answer.lines(), answer)
    };
    let (by_lean, answer) = outcomes("lean");
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    let outcome = |line: &Value| line["outcome"].as_str().unwrap().to_owned();
    let names: Vec<String> = by_lean.iter().map(outcome).collect();
    assert!(names[..n_proved].iter().all(|outcome| outcome == "proved"), "{names:?}");
    assert_eq!(names[n_proved..n_proved + 2], ["failed", "sorry"]);
    assert!(["forbidden", "failed"].contains(&&*names[n_proved + 2]), "{names:?}");
    for line in &by_lean[..n_proved] {
        assert!(line["cost"]["cpu_micros"].as_u64().unwrap() > 0 && line["cost"]["peak_rss_bytes"].is_u64(), "{line}");
    }
    let (by_kernel, _) = outcomes("kernel");
    for (kernel, lean) in by_kernel.iter().zip(&by_lean) {
        assert_eq!(outcome(kernel) == "proved", outcome(lean) == "proved", "{kernel}\n{lean}");
    }
    // The build says which Lean it was, and what it was allowed.
    let verifiers = tracker.json(&[
        "query",
        "proofs",
        "verifier.name = 'lean'",
        "--columns",
        "verifier.version, verifier.flags",
        "--limit",
        "1",
    ]);
    assert!(verifiers[0].to_string().contains("limit:wall=60s"), "{verifiers:?}");
}
