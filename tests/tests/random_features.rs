//! The study of random features, end to end: run, resume, one cell by itself, questions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use tracker_tests::Tracker;

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("random_features", &[0.2, 0.5, 0.8]);
}

/// The losses of one cell: value by name.
fn losses(tracker: &Tracker, run: &Value, split: &str) -> Vec<(String, f64)> {
    let filter = format!("stage = 'n 24 p 226 m 96 M 2 tau 9.417 sigma 0.5' AND split = '{split}'");
    let rows =
        tracker.json(&["query", "figures", &filter, "--run", run["run"].as_str().unwrap(), "--columns", "name,value"]);
    let one = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap());
    rows.iter().map(one).collect()
}

#[test]
fn one_cell_is_replayed_exactly_by_itself() {
    let tracker = Tracker::new();
    let whole = tracker.smoke_of("random_features", &[]);
    let alone = ["data.sizes=[[24,226]]", "data.seeds=[3]", "nets.widths=[4]", "nets.ensembles=[[2,4]]"];
    let args: Vec<&str> = alone.iter().flat_map(|set| ["--set", set]).collect();
    let alone = tracker.smoke_of("random_features", &args);
    let (expected, got) = (losses(&tracker, &whole, "seed 3"), losses(&tracker, &alone, "seed 3"));
    assert_eq!(expected.len(), 5, "{expected:?}");
    assert_eq!(expected, got);
    assert_ne!(expected, losses(&tracker, &whole, "seed 2"));
}

#[test]
fn curves_and_cells_that_do_not_interpolate_are_asked_for() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("random_features", &[]);
    let id = run["run"].as_str().unwrap();
    assert!(tracker.json(&["query", "figures", "name = 'residual' AND value > 0.000001", "--run", id]).is_empty());
    assert_eq!(
        tracker.json(&["query", "figures", "name = 'residual'", "--run", id, "--limit", "1000"]).len(),
        2 * 5 * 3
    );
    let means = tracker.json(&["query", "figures", "name = 'L_OOD' AND stage LIKE 'mean n 24%'", "--run", id]);
    assert_eq!(means.len(), 5, "{means:?}");
    // A mean leads to the cells it is over.
    let node = format!("figure:{id}/{}/1/0", means[0]["stage"].as_str().unwrap());
    let up = &tracker.json(&["query", "lineage", &node])[0];
    let n = up["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] == "figure").count();
    assert!(n >= 3, "{up}");
}

#[test]
fn a_cell_that_cannot_be_solved_names_itself_and_what_was_measured_stays() {
    let tracker = Tracker::new();
    let answer = tracker.run(&["run", "random_features", "--smoke", "--set", "data.sizes=[]"]);
    assert!(answer.code == 2 && answer.stderr.contains("data.sizes"), "{}", answer.stderr);
    // Equal examples: no tail, and units that see two coordinates of which one is nothing.
    let args = [
        "run",
        "random_features",
        "--smoke",
        "--set",
        "data.tail=0",
        "--set",
        "nets.widths=[1]",
        "--set",
        "data.sizes=[[40,2]]",
    ];
    let answer = tracker.run(&args);
    assert!(answer.code == 2 && answer.stderr.contains("n 40 p 2 m 40 M 1"), "{} {}", answer.code, answer.stderr);
}
