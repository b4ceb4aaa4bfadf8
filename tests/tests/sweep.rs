//! Sweeps, tables over them, and reports, end to end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};

use serde_json::Value;
use tracker_tests::{Answer, Tracker};

const GRID: [&str; 9] = [
    "sweep",
    "random_features",
    "--smoke",
    "--grid",
    "solve.ridge=0,0.5",
    "--grid",
    "seed=1,2",
    "--set",
    "nets.limit=false",
];

fn last(answer: &Answer) -> Value {
    assert!(answer.code == 0 || answer.code == 1, "{}", answer.stderr);
    answer.lines().pop().unwrap()
}

fn sweep(tracker: &Tracker) -> Value {
    last(&tracker.run(&[&GRID[..], &["--json"]].concat()))
}

fn digests(tracker: &Tracker, sweep: &str) -> Vec<String> {
    let runs = tracker.json(&["query", "runs", &format!("tags.sweep = '{sweep}'"), "--order-by", "name ASC"]);
    runs.iter().map(|run| run["record_digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_cell_is_a_run_as_it_would_be_by_itself_and_tables_and_claims_are_asked_over_all() {
    let tracker = Tracker::new();
    let swept = sweep(&tracker);
    assert_eq!(swept["status"], "finished", "{swept}");
    let cells = swept["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    let id = swept["run"].as_str().unwrap();
    let alone =
        tracker.smoke_of("random_features", &["--set", "solve.ridge=0.5", "--seed", "2", "--set", "nets.limit=false"]);
    assert!(digests(&tracker, id).contains(&alone["record_digest"].as_str().unwrap().to_owned()));

    let claims = tracker.json(&["query", "claims", "claim = 'solved'", "--run", id]);
    assert_eq!(claims.len(), 4, "{claims:?}");
    let filter = "name = 'L_OOD' AND stage LIKE 'mean n 24 %' AND stage LIKE '% m 192 %'";
    let table = |rows: &str, columns: &str| {
        tracker.json(&["query", "table", "figures", filter, "--run", id, "--rows", rows, "--columns", columns])
    };
    let by_both = table("params.solve.ridge", "run.seed");
    assert_eq!(by_both.len(), 4, "{by_both:?}");
    assert!(by_both.iter().all(|cell| cell["low"].as_f64().unwrap() < cell["high"].as_f64().unwrap()));
    // Seeds are pooled where they are no axis: the mean of both, with an interval over them.
    let pooled = table("params.solve.ridge", "name");
    assert_eq!(pooled.len(), 2, "{pooled:?}");
    let of = |ridge: &str| -> Vec<f64> {
        by_both.iter().filter(|cell| cell["row"] == ridge).map(|cell| cell["value"].as_f64().unwrap()).collect()
    };
    assert!((pooled[0]["value"].as_f64().unwrap() - of("0.0").iter().sum::<f64>() / 2.0).abs() < 1e-12, "{pooled:?}");
    assert_eq!(pooled[0]["n_runs"], 2);
    let text = tracker.run(&[
        "query",
        "table",
        "figures",
        filter,
        "--run",
        id,
        "--rows",
        "run.seed",
        "--columns",
        "params.solve.ridge",
    ]);
    assert!(
        text.stdout.lines().count() == 3 && text.stdout.contains("run.seed \\ params.solve.ridge"),
        "{}",
        text.stdout
    );
    // Two numbers in a place are told by what differs, whatever stands down and across.
    for (filter, rows, columns, told) in [
        ("name = 'L_ID'", "run.seed", "name", "stage `mean n "),
        ("stage LIKE 'mean n 24 %'", "stage", "stage", "name `L_"),
        ("stage LIKE 'mean n 24 %'", "run", "run", "name `L_"),
    ] {
        let many =
            tracker.run(&["query", "table", "figures", filter, "--run", id, "--rows", rows, "--columns", columns]);
        assert!(many.code == 2 && many.stderr.contains("one number of a run in a place"), "{}", many.stderr);
        assert!(many.stderr.contains(told), "{columns}: {}", many.stderr);
    }
    let doubled = table("run", "run");
    assert!(doubled.len() == 4 && doubled.iter().all(|cell| cell["row"] == cell["column"]), "{doubled:?}");
}

#[test]
fn a_killed_sweep_does_what_is_missing_and_no_cell_twice() {
    let tracker = Tracker::new();
    let whole = sweep(&tracker);
    let expected = digests(&tracker, whole["run"].as_str().unwrap());
    let mut child = tracker.spawn(&[&GRID[..], &["--json"]].concat());
    // Killed within the third cell.
    let mut n_started = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        n_started += usize::from(line.unwrap().contains("\"started\""));
        if n_started == 3 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let runs = tracker.json(&["query", "runs", "study = 'sweep' AND status = 'running'"]);
    let killed = runs[0]["id"].as_str().unwrap().trim_start_matches("run:").to_owned();
    let report = tracker.run(&["report", &killed]);
    assert!(report.code == 0 && report.stdout.contains("missing"), "{} {}", report.stdout, report.stderr);
    let by_run = tracker.run(&["run", "--resume", &killed]);
    assert!(by_run.code == 2 && by_run.stderr.contains("tracker sweep --resume"), "{}", by_run.stderr);

    // Two at once share what is left.
    let resume = ["sweep", "--resume", killed.as_str(), "--json"];
    let other = tracker.spawn(&resume);
    let resumed = tracker.run(&resume);
    let other = Answer::from(other.wait_with_output().unwrap());
    assert!([0, 1].contains(&resumed.code) && [0, 1].contains(&other.code), "{} {}", resumed.stderr, other.stderr);
    let done = last(&tracker.run(&resume));
    assert_eq!(done["status"], "finished", "{done}");
    assert_eq!(digests(&tracker, &killed), expected);
}

#[test]
fn wrong_grids_are_refused_before_there_is_a_store() {
    let tracker = Tracker::new();
    for (grid, said) in [
        ("solve.rigde=0,1", "solve.ridge"),
        ("solve.ridge=0,x", "solve.ridge"),
        ("solve.ridge", "no `=`"),
        ("nets.widths=[2,4],[2,4]", "differ"),
    ] {
        let answer = tracker.run(&["sweep", "random_features", "--grid", grid]);
        assert!(answer.code == 2 && answer.stderr.contains(said), "{grid}: {}", answer.stderr);
    }
    assert!(!tracker.store().exists());
    let answer = tracker.run(&["sweep", "random_features"]);
    assert!(answer.code == 2 && answer.stderr.contains("--grid"), "{}", answer.stderr);
    let run = tracker.smoke_of("random_features", &[]);
    let answer = tracker.run(&["sweep", "--resume", run["run"].as_str().unwrap()]);
    assert!(answer.code == 2 && answer.stderr.contains("not a sweep"), "{}", answer.stderr);
}

/// All values of an attribute.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_report_is_one_page_whose_numbers_lead_to_their_rows() {
    let tracker = Tracker::new();
    for (study, has) in [
        ("random_features", ["Excess loss out of distribution by width", "<svg"]),
        ("dpa", ["Learning curves", "Fronts"]),
    ] {
        let run = tracker.smoke_of(study, &[]);
        let id = run["run"].as_str().unwrap();
        let answer = tracker.run(&["report", id, "--export", "page.html"]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        let page = std::fs::read_to_string(tracker.folder().join("page.html")).unwrap();
        for has in has {
            assert!(page.contains(has), "{study}: no `{has}`");
        }
        let ids: std::collections::BTreeSet<&str> = attributes(&page, "id").into_iter().collect();
        let links = attributes(&page, "href");
        assert!(!links.is_empty() && links.iter().all(|link| ids.contains(link.trim_start_matches('#'))), "{study}");
        // Nothing is loaded from elsewhere.
        assert!(!page.contains("src=") && !page.contains("<script") && !page.contains("url("), "{study}");
        let claims = tracker.json(&["query", "claims", "--run", id]);
        assert!(claims.iter().all(|claim| page.contains(&claim["claim"].as_str().unwrap().to_string())));
        let text = tracker.run(&["report", id]);
        assert!(text.code == 0 && text.stdout.contains("from "), "{}", text.stdout);
        let json = tracker.json(&["report", id]);
        assert_eq!(json[0]["claims"].as_array().unwrap().len(), claims.len());
    }
    let swept = sweep(&tracker);
    let answer = tracker.run(&["report", swept["run"].as_str().unwrap(), "--export", "sweep.html"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let page = std::fs::read_to_string(tracker.folder().join("sweep.html")).unwrap();
    assert!(
        page.contains("solve.ridge") && page.matches("does not hold").count() + page.matches(">holds<").count() > 4
    );
    let answer = tracker.run(&["report", swept["run"].as_str().unwrap(), "--export", "sweep.pdf"]);
    assert!(answer.code == 2 && answer.stderr.contains(".html"), "{}", answer.stderr);
    let answer = tracker.run(&["report", swept["run"].as_str().unwrap(), "--export", "nowhere/sweep.html"]);
    assert!(answer.code != 0 && answer.stderr.contains("nowhere"), "{}", answer.stderr);
}
