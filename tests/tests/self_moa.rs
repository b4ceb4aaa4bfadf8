//! The study of mixtures of agents, end to end: small models, several endpoints at once, one that dies, what is recorded of
//! references, windows and dropped proposers, and bad settings.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracker_tests::{Endpoint, Tracker};

fn rows(tracker: &Tracker, args: &[&str]) -> Vec<Value> {
    tracker.json(&[&["query"], args, &["--limit", "5000"]].concat())
}

/// The value of a figure of a stage.
fn figure(tracker: &Tracker, stage: &str, name: &str) -> f64 {
    let found = rows(tracker, &["figures", &format!("stage = '{stage}' AND name = '{name}'")]);
    assert_eq!(found.len(), 1, "{stage}, {name}: {found:?}");
    found[0]["value"].as_f64().unwrap()
}

/// Edges up from a node: relation, place and what it leads to.
fn edges(tracker: &Tracker, node: &str) -> Vec<(String, u64, String)> {
    let up = &tracker.json(&["query", "lineage", node, "--up", "--depth", "1", "--limit", "100"])[0];
    let edge = |edge: &Value| {
        let text = |key: &str| edge[key].as_str().unwrap().to_owned();
        (text("relation"), edge["order"].as_u64().unwrap_or(0), text("to"))
    };
    up["edges"].as_array().unwrap().iter().filter(|edge| edge["from"] == up["root"]).map(edge).collect()
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("self_moa", &[0.15, 0.5, 0.85]);
}

#[test]
fn calls_are_counted_exactly_and_numbers_lead_to_rows() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("self_moa", &[]);
    let run = run["run"].as_str().unwrap();
    // Three proposers; five candidates in windows of three, one slot of which is kept: 1 + ⌈2 / 2⌉ aggregations.
    for (arm, calls) in [
        ("self-moa", 4.0),
        ("mixed-moa", 4.0),
        ("mixed-moa deep", 7.0),
        ("majority", 4.0),
        ("selector", 4.0),
        ("best by judge", 4.0),
        ("best alone", 1.0),
        ("aggregator alone", 1.0),
        ("self-moa-seq", 7.0),
        ("mixed-seq", 7.0),
    ] {
        assert_eq!(figure(&tracker, &format!("{arm}/figures"), "calls"), calls, "{arm}");
    }
    let n_windows = rows(&tracker, &["samples", "stage = 'self-moa-seq/aggregate'", "--group-by", "k"]);
    assert_eq!(n_windows.len(), 2, "{n_windows:?}");
    // A coefficient leads to points, those to grades, and those to samples of checkpoints.
    let node = format!("figure:{run}/regression/string/0/0");
    let all = rows(&tracker, &["figures", "stage LIKE 'regression/%' AND name LIKE 'alpha%'"]);
    assert!(all.iter().any(|figure| figure["stage"] == "regression/string") || all.len() < 3, "{all:?}");
    if !all.is_empty() {
        let node = if all.iter().any(|f| f["stage"] == "regression/string") {
            node
        } else {
            all[0]["id"].as_str().unwrap().to_owned()
        };
        let up = &tracker.json(&["query", "lineage", &node, "--up", "--depth", "4"])[0];
        let kinds: Vec<&str> =
            up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap()).collect();
        for kind in ["figure", "dataset", "reward", "sample"] {
            assert!(kinds.contains(&kind), "no {kind} above {node}");
        }
    }
    // Who wins over whom, task by task: never both at once.
    let wins = rows(&tracker, &["figures", "stage = 'wins/logic'"]);
    let value: BTreeMap<&str, f64> =
        wins.iter().map(|win| (win["name"].as_str().unwrap(), win["value"].as_f64().unwrap())).collect();
    for (name, share) in &value {
        let (a, b) = name.split_once(" over ").unwrap();
        assert!(share + value[format!("{b} over {a}").as_str()] <= 1.0 + 1e-12, "{name}");
    }
    // The measure says its kernel.
    let params = &tracker.json(&["show", run])[0].to_string();
    assert!(params.contains("word n-grams, n from 1 to 2"), "{params}");
}

/// Problems in files, apart from each other, and a plan with three models behind two servers that know theirs by one name.
fn plan(tracker: &Tracker, weak: &Endpoint, strong: &Endpoint, more: &str) -> String {
    for (name, first) in [("valid", 1), ("test", 101)] {
        let lines = (first..first + 6).map(|n| {
            let row =
                json!({"question": format!("How much is {n} and {}?", n + 3), "answer": format!("#### {}", 2 * n + 3)});
            format!("{row}\n")
        });
        std::fs::write(tracker.folder().join(format!("{name}.jsonl")), lines.collect::<String>()).unwrap();
    }
    format!(
        "study = 'self_moa'\n[data]\nvalidation = {{ sums = ['valid.jsonl'] }}\ntest = {{ sums = ['test.jsonl'] }}\n\
         [models.w]\nurl = '{}'\nmodel = 'panelist'\napi = 'chat'\nattempts = 1\n\
         [models.x]\nurl = '{}'\nmodel = 'panelist'\napi = 'chat'\nattempts = 1\nconcurrency = 4\n\
         [models.e]\nurl = '{}'\nmodel = 'expert'\napi = 'chat'\nattempts = 1\n\
         [aggregator]\nmodel = 'e'\n[moa]\nmixed = 'wxe'\nmax_tokens = 64\n[seq]\nn_candidates = 7\nwindow = 4\nreserved = 2\n\
         [sweep]\nmixtures = ['www', 'eee', 'wxe']\ntemperatures = [0.7, 1.0]\n[measure]\nn_resamples = 60\n{more}",
        weak.url(),
        strong.url(),
        strong.url(),
    )
}

#[test]
fn several_endpoints_answer_at_once_keep_their_places_and_are_replayed_without_a_call() {
    let (tracker, weak, strong) = (Tracker::new(), Endpoint::start(), Endpoint::start());
    let judge = format!("[judge]\nurl = '{}'\nmodel = 'referee'\n", weak.url());
    std::fs::write(tracker.folder().join("plan.toml"), plan(&tracker, &weak, &strong, &judge)).unwrap();
    let answer = tracker.run(&["run", "plan.toml", "--json"]);
    assert!(answer.code <= 1, "{}", answer.stderr);
    let run = answer.lines().pop().unwrap();
    assert_eq!(run["status"], "finished", "{run}");
    assert!(weak.n_calls() > 0 && strong.n_calls() > 0);
    // Rates of a judge apart from the models, at any length and at equal lengths.
    for name in ["win rate, self-moa", "length-controlled win rate, self-moa"] {
        let rate = figure(&tracker, "win rates", name);
        assert!((0.0..=1.0).contains(&rate), "{name}: {rate}");
    }

    // What was shown: each reference at its slot, nothing dropped unseen.
    let samples = rows(&tracker, &["samples", "--columns", "id,stage,item,k,text,finish"]);
    let by_id: BTreeMap<&str, &Value> = samples.iter().map(|sample| (sample["id"].as_str().unwrap(), sample)).collect();
    let proposals: Vec<&Value> =
        samples.iter().filter(|sample| sample["stage"].as_str().unwrap().starts_with("pool")).collect();
    assert!(proposals.iter().any(|sample| sample["text"] == ""), "no proposer said nothing");
    assert!(proposals.iter().any(|sample| sample["finish"] == "length"), "nothing was cut off");
    let (mut n_dropped, mut n_shown) = (0, 0);
    for query in 0..6 {
        let node = format!("sample:{}/sweep 0.7/wxe/{query}/0", run["run"].as_str().unwrap());
        let up: Vec<_> = edges(&tracker, &node)
            .into_iter()
            .filter(|(relation, _, _)| relation == "derived_from" || relation == "used")
            .collect();
        let mut places: Vec<u64> = up.iter().map(|(_, place, _)| *place).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2], "{up:?}");
        for (relation, place, to) in &up {
            let model = ["w", "x", "e"][usize::try_from(*place).unwrap()];
            let sample = by_id[to.as_str()];
            assert_eq!(
                (&sample["stage"], &sample["item"]),
                (&json!(format!("pool 0.7/{model}")), &json!(query)),
                "{place}"
            );
            assert_eq!(relation == "used", sample["text"] == "", "{to}");
            n_dropped += usize::from(relation == "used");
            n_shown += usize::from(relation == "derived_from");
        }
    }
    assert_eq!(n_dropped + n_shown, 18);
    // In a window the best so far stands in every reserved slot.
    let node = format!("sample:{}/self-moa-seq/aggregate/2/1", run["run"].as_str().unwrap());
    let is_best = |to: &str| {
        let sample = by_id.get(to);
        sample.is_some_and(|sample| {
            sample["stage"] == "self-moa-seq/aggregate" && sample["item"] == 2 && sample["k"] == 0
        })
    };
    let best: Vec<u64> =
        edges(&tracker, &node).into_iter().filter(|(_, _, to)| is_best(to)).map(|(_, place, _)| place).collect();
    assert_eq!(best, [0, 1], "{:?}", edges(&tracker, &node));

    let n_calls = [weak.n_calls(), strong.n_calls()];
    let replayed = tracker.run(&["replay", run["run"].as_str().unwrap(), "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
    assert_eq!([weak.n_calls(), strong.n_calls()], n_calls);
}

#[test]
fn an_endpoint_that_dies_midway_leaves_what_came_and_the_run_goes_on_from_there() {
    let (tracker, weak, strong) = (Tracker::new(), Endpoint::start(), Endpoint::start());
    std::fs::write(tracker.folder().join("plan.toml"), plan(&tracker, &weak, &strong, "")).unwrap();
    let whole = tracker.run(&["run", "plan.toml", "--json"]).lines().pop().unwrap();
    let n_whole = [weak.n_calls(), strong.n_calls()];

    strong.dies_after(n_whole[1] + n_whole[1] / 2);
    let answer = tracker.run(&["run", "plan.toml", "--json"]);
    assert_eq!(answer.code, 3, "{} {}", answer.stdout, answer.stderr);
    assert!(answer.stderr.contains(&strong.url()), "{}", answer.stderr);
    assert!(answer.stdout.contains("run --resume"), "{}", answer.stdout);
    let run = answer.lines()[0]["run"].as_str().unwrap().to_owned();
    let came = rows(&tracker, &["samples", "--run", &run]).len();
    assert!(came > 0);
    strong.dies_after(usize::MAX);
    let before = [weak.n_calls(), strong.n_calls()];
    let resumed = tracker.run(&["run", "--resume", &run, "--json"]);
    let last = resumed.lines().pop().unwrap();
    assert_eq!(last["record_digest"], whole["record_digest"], "{}", resumed.stderr);
    // Nothing that came was asked again.
    let after = [weak.n_calls() - before[0], strong.n_calls() - before[1]];
    assert!(after[0] < n_whole[0] && after[1] <= n_whole[1] - n_whole[1] / 2, "{after:?} of {n_whole:?}");
}

#[test]
fn a_plan_that_is_killed_asks_nothing_twice() {
    let (tracker, server) = (Tracker::new(), Endpoint::start());
    std::fs::write(tracker.folder().join("plan.toml"), plan(&tracker, &server, &server, "")).unwrap();
    tracker.assert_asks_nothing_twice(&server);
}

#[test]
fn two_hundred_and_fifty_six_calls_at_once_keep_memory_small() {
    const AT_ONCE: usize = 256;
    let (tracker, server) = (Tracker::new(), Endpoint::start());
    for (name, first) in [("valid", 1), ("test", 1001)] {
        let row = |n| json!({"question": format!("How much is {n} and 3?"), "answer": format!("#### {}", n + 3)});
        let lines = (first..first + AT_ONCE).map(|n| format!("{}\n", row(n)));
        std::fs::write(tracker.folder().join(format!("{name}.jsonl")), lines.collect::<String>()).unwrap();
    }
    let plan = format!(
        "study = 'self_moa'\n[data]\nvalidation = {{ sums = ['valid.jsonl'] }}\ntest = {{ sums = ['test.jsonl'] }}\n\
         n_validation = 256\nn_test = 256\n[models.e]\nurl = '{}'\nmodel = 'expert'\napi = 'chat'\nconcurrency = {AT_ONCE}\n\
         [aggregator]\nmodel = 'e'\n[moa]\nmixed = 'ee'\ndeep_layers = 0\nmax_tokens = 64\n[seq]\nn_candidates = 0\n\
         [sweep]\nmixtures = []\n[measure]\nn_resamples = 60\n",
        server.url()
    );
    std::fs::write(tracker.folder().join("plan.toml"), plan).unwrap();
    server.waits_for(AT_ONCE);
    let mut child = tracker.spawn(&["run", "plan.toml", "--json"]);
    let status = format!("/proc/{}/status", child.id());
    let mut most_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most_kib = most_kib.max(peak.unwrap_or(0));
        std::thread::yield_now();
    }
    assert!(child.wait().unwrap().code().is_some_and(|code| code <= 1));
    assert_eq!(server.most_at_once(), AT_ONCE);
    assert!(most_kib > 0 && most_kib <= 100 * 1024, "{most_kib} KiB");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, key) in [
        ("moa.mixed=abc", "moa.mixed"),
        ("moa.mixed=a", "moa.mixed"),
        ("moa.layers=0", "moa.layers"),
        ("moa.deep_layers=1", "moa.deep_layers"),
        ("moa.order=random", "moa.order"),
        ("moa.max_tokens=2", "moa.max_tokens"),
        ("seq.reserved=3", "seq.reserved"),
        ("seq.window=1", "seq.window"),
        ("sweep.mixtures=[\"iii\", \"iiii\"]", "sweep.mixtures"),
        ("sweep.mixtures=[\"iii\", \"iii\"]", "sweep.mixtures"),
        ("sweep.mixtures=[\"iii\", \"asl\"]", "sweep.mixtures"),
        ("sweep.temperatures=[0.7, 0.0]", "sweep.temperatures"),
        ("sweep.k=[0.5]", "sweep.k"),
        ("kernel.min=0", "kernel.min"),
        ("kernel.max=0", "kernel.max"),
        ("measure.preferred=[\"others\"]", "measure.preferred"),
        ("policy.context=12", "policy.context"),
        ("aggregator.model=a", "aggregator.model"),
        ("measure.n_resamples=10", "measure.n_resamples"),
        ("generalist.referenced=1.5", "generalist.referenced"),
        ("judge.url=http://127.0.0.1:1/v1", "models"),
        ("models={ w = { url = 'nowhere' } }", "models.w.url"),
        ("models={ w = { url = 'http://127.0.0.1:1/v1', speed = 3 } }", "speed"),
        ("models={ w = { url = 'http://127.0.0.1:1/v1' } }", "moa.mixed"),
    ] {
        let answer = tracker.run(&["run", "self_moa", "--smoke", "--set", set]);
        assert!(answer.code == 2 && answer.stderr.contains(key), "{set}: {} {}", answer.code, answer.stderr);
    }
    // The best model is never chosen on the test.
    let (weak, strong) = (Endpoint::start(), Endpoint::start());
    let whole = plan(&tracker, &weak, &strong, "");
    for (from, to, said) in [
        ("validation = { sums = ['valid.jsonl'] }\n", "", "data.validation"),
        ("'valid.jsonl'", "'test.jsonl'", "apart from the test"),
        ("model = 'e'\n[moa]", "model = 'z'\n[moa]", "aggregator.model"),
        ("'valid.jsonl'", "'nowhere.jsonl'", "nowhere.jsonl"),
    ] {
        std::fs::write(tracker.folder().join("plan.toml"), whole.replace(from, to)).unwrap();
        let answer = tracker.run(&["run", "plan.toml"]);
        assert!(answer.code == 2 && answer.stderr.contains(said), "{said}: {} {}", answer.code, answer.stderr);
    }
}
