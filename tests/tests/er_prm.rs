//! The study of process rewards, end to end: run, resume, what is recorded of counts and labels, and bad settings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use tracker_tests::{Endpoint, Tracker};

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

/// A folder with a base model and a policy, and files of problems, labels and candidates as they are published.
fn given(tracker: &Tracker) -> impl Fn(&str) -> String + use<> {
    let folder = tracker.folder().to_path_buf();
    let path = move |name: &str| folder.join(name).display().to_string();
    smoke(tracker, &[]);
    for name in ["base", "policy"] {
        let answer = tracker.run(&["materialize", &format!("checkpoint:{name}"), &path(name)]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    let (mut train, mut test, mut labels, mut candidates) =
        (String::new(), String::new(), String::new(), String::new());
    for id in 0..12 {
        let (start, middle) = (id % 7, (id % 7 + 2) % 7);
        let end = (middle + id % 3) % 7;
        let (asked, first) = (format!("{start} + 2 + {} =", id % 3), format!("{start} + 2 = {middle} ;"));
        let (right, wrong) =
            (format!("{middle} + {} = {end} ;", id % 3), format!("{middle} + {} ? {middle} ;", id % 3));
        let row =
            serde_json::json!({"id": format!("row {id}"), "question": asked, "answer": format!("so\n#### {end}")});
        if id < 6 { &mut train } else { &mut test }.extend([row.to_string().as_str(), "\n"]);
        let row = serde_json::json!({"id": format!("row {id}"), "text": format!("{asked} {first} {wrong}"), "value": [0.9, 0.25]});
        labels.extend([row.to_string().as_str(), "\n"]);
        let answers = [
            format!("{first} {wrong}"),
            format!("{first} {right}"),
            format!("{first} ").repeat(12),
            format!("{first} {right}"),
        ];
        let row =
            serde_json::json!({"id": format!("row {id}"), "prompt": asked, "answers": answers, "label": [0, 1, 0, 1]});
        candidates.extend([row.to_string().as_str(), "\n"]);
    }
    for (name, text) in [("train", train), ("test", test), ("labels", labels), ("candidates", candidates)] {
        std::fs::write(path(&format!("{name}.jsonl")), text).unwrap();
    }
    path
}

/// The last event of a plan, and the names of its figures.
fn finished(tracker: &Tracker, plan: &str) -> (Value, BTreeSet<String>) {
    let (last, answer) = tracker.finished(plan);
    let lines = answer.lines();
    let figures = lines.iter().filter(|event| event["event"] == "figure");
    (last, figures.map(|figure| figure["name"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn a_policy_from_a_folder_solves_labels_and_learns_problems_of_files() {
    let tracker = Tracker::new();
    let path = given(&tracker);
    let plan = format!(
        "study = 'er_prm'\n[data]\nbase = '{}'\npolicy = '{}'\ntrain = ['{}']\ntest = ['{}']\nid = 'id'\n\
         template = '{{problem}} '\ngrader = 'last-result'\nseparator = ';'\ntag = ''\n\
         [rollouts]\nn_trajectories = 2\nn_completions = 4\nmax_tokens = 14\n[labels]\nestimators = ['soft', 'er:2']\n\
         [prm]\nrepeats = 1\n[search]\nn_candidates = 4\nsizes = [1, 4]\nn_resamples = 100\n\
         [raft]\nestimators = ['er:2']\nrounds = 1\nn_problems = 4\nn_samples = 4\n",
        path("base"),
        path("policy"),
        path("train.jsonl"),
        path("test.jsonl"),
    );
    let (end, figures) = finished(&tracker, &plan);
    let claims: BTreeSet<&str> =
        end["claims"].as_array().unwrap().iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    for claim in ["labels-alone-rank-alike", "er-beats-soft", "raft-improves"] {
        assert!(claims.contains(claim), "{claims:?}");
    }
    for figure in ["search/er:2: best of 4, min", "vote/majority: vote of 4", "raft er 2 1/figures: pass@1"] {
        let (stage, name) = figure.split_once(": ").unwrap();
        assert!(figures.iter().any(|found| found.contains(stage) && found.contains(name)), "{figure}: {figures:?}");
    }
    // A policy behind an endpoint is not trained, and a chat goes on from no prefix: both are said before any work.
    let behind = |api: &str| {
        let plan = plan.replace(&format!("policy = '{}'\n", path("policy")), "");
        format!("{plan}[endpoint]\nurl = 'http://127.0.0.1:1/v1'\napi = '{api}'\n")
    };
    for (plan, key) in [
        (behind("completions"), "raft.estimators"),
        (behind("chat"), "data.train"),
        (plan.replace("{problem} ", "what?"), "data.template"),
        (plan.replace("[prm]", "[prm]\nverdicts = ['good bad', 'bad']"), "prm.verdicts"),
        (plan.replace("test.jsonl", "nowhere.jsonl"), "nowhere.jsonl"),
    ] {
        std::fs::write(path("plan.toml"), plan).unwrap();
        let answer = tracker.run(&["run", &path("plan.toml")]);
        assert!(answer.code == 2 && answer.stderr.contains(key), "{key}: {}", answer.stderr);
    }
}

#[test]
fn endpoints_alone_solve_label_and_judge_and_a_replay_asks_nobody() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    let path = |name: &str| tracker.folder().join(name).display().to_string();
    for (name, from) in [("train", 1), ("test", 11)] {
        let rows = (from..from + 6).map(|n| {
            let row =
                serde_json::json!({"question": format!("{n} + 2 + {n}"), "answer": format!("#### {}", 2 * n + 2)});
            format!("{row}\n")
        });
        std::fs::write(path(&format!("{name}.jsonl")), rows.collect::<Vec<_>>().concat()).unwrap();
    }
    let plan = format!(
        "study = 'er_prm'\n[data]\ntrain = ['{}']\ntest = ['{}']\ntag = 'ки'\n\
         [endpoint]\nurl = '{url}'\nmodel = 'adder'\n[judge]\nurl = '{url}'\nmodel = 'checker'\n\
         [rollouts]\nn_trajectories = 2\nn_completions = 4\nmax_tokens = 64\n\
         [search]\nn_candidates = 4\nsizes = [1, 4]\nn_resamples = 100\n[raft]\nestimators = []\n",
        path("train.jsonl"),
        path("test.jsonl"),
        url = endpoint.url(),
    );
    let (end, figures) = finished(&tracker, &plan);
    assert!(figures.contains("search/served: best of 4, min") || figures.contains("best of 4, min"), "{figures:?}");
    let value = |name: &str, stage: &str| {
        let found = tracker.json(&["query", "figures", &format!("name = '{name}' AND stage = '{stage}'")]);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]["value"].as_f64().unwrap()
    };
    // Who checks every sum finds a right solution wherever there is one.
    assert_eq!(value("best of 4, min", "search/served"), value("pass@4", "search/any"));
    assert!(value("best of 1, min", "search/served") < 1.0);
    // Counts of completions make labels, which need no reward model.
    let run = end["run"].as_str().unwrap();
    let relabelled = tracker.run(&["relabel", run, "--eta", "5", "--from", "soft", "--dry-run"]);
    assert_eq!(relabelled.code, 0, "{}", relabelled.stderr);
    let n_calls = endpoint.n_calls();
    let replayed = tracker.run(&["replay", run, "--json"]);
    assert!(replayed.code <= 1, "{}", replayed.stderr);
    assert_eq!(replayed.lines().last().unwrap()["same_as_before"], true);
    assert_eq!(endpoint.n_calls(), n_calls);

    // A judge that never says one of the two tokens is no judge.
    std::fs::write(path("plan.toml"), format!("{plan}[verdict]\nplus = ' yes'\n")).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml")]);
    assert!(answer.code == 2 && answer.stderr.contains("` yes`"), "{}: {}", answer.code, answer.stderr);
}

#[test]
fn published_labels_and_candidates_need_no_policy() {
    let tracker = Tracker::new();
    let path = given(&tracker);
    let plan = format!(
        "study = 'er_prm'\n[data]\nbase = '{}'\nlabels = {{ 'er:1' = ['{}'] }}\ncandidates = ['{}']\n\
         separator = ';'\ntag = ';'\n[labels]\nentropic = 'er:1'\n[prm]\nrepeats = 2\n\
         [search]\nn_candidates = 4\nsizes = [1, 4]\nn_resamples = 100\n[raft]\nestimators = []\n",
        path("base"),
        path("labels.jsonl"),
        path("candidates.jsonl"),
    );
    let (end, figures) = finished(&tracker, &plan);
    assert_eq!(end["status"], "finished");
    assert!(figures.iter().any(|name| name.contains("best of 4, min")), "{figures:?}");
    // What is longer than the context is not scored, so it is 0 under every aggregator; the rest is, by both models.
    let run = end["run"].as_str().unwrap();
    let scored = |k: u32| {
        let of = format!("stage = 'candidates' and k = {k}");
        tracker.json(&["query", "rewards", &of, "--kind", "step", "--run", run, "--limit", "100"]).len()
    };
    assert_eq!([0, 1, 2, 3].map(scored), [24, 24, 0, 24]);

    // Rows that cannot be are named with file, row and field, or left out and counted.
    let labels = std::fs::read_to_string(path("labels.jsonl")).unwrap();
    for (from, to, field) in [
        ("0.25", "1.25", "value"),
        ("[0.9,0.25]", "[0.9]", "value"),
        ("\"text\"", "\"texts\"", "text"),
        ("0.25", "null", "value"),
    ] {
        std::fs::write(path("labels.jsonl"), labels.replacen(from, to, 1)).unwrap();
        let answer = tracker.run(&["run", &path("plan.toml")]);
        let is_named = answer.stderr.contains("labels.jsonl") && answer.stderr.contains(field);
        assert!(answer.code == 2 && is_named, "{to}: {}", answer.stderr);
    }
    let answer = tracker.run(&["run", &path("plan.toml"), "--set", "data.skip_bad=true", "--json"]);
    assert!(answer.code <= 1 && answer.stdout.contains("11 of 12 rows kept"), "{}{}", answer.stdout, answer.stderr);
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
        ("policy.marks=[0.5, 0.2, 0.2]", "policy.marks"),
        ("policy.wrong=[0.5, 0.2, 1.2]", "policy.wrong"),
        ("data.policy=somewhere", "data.candidates"),
        ("endpoint.url=http://127.0.0.1:1/v1", "data.candidates"),
        ("judge.url=http://127.0.0.1:1/v1", "data.candidates"),
        ("data.labels={\"er:1\"=[\"rows.jsonl\"]}", "data.candidates"),
        ("rollouts.max_tokens=500", "rollouts.max_tokens"),
        ("problems.min_steps=9", "problems.min_steps"),
    ] {
        let answer = tracker.run(&["run", "er_prm", "--smoke", "--set", set]);
        assert_eq!(answer.code, 2, "{set}: {}", answer.stderr);
        assert!(answer.stderr.contains(key), "{set}: {}", answer.stderr);
    }
    assert_eq!(tracker.run(&["ls"]).code, 2, "a refused plan leaves no store");
}
