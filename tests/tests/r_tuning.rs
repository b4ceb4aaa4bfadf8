//! The study of refusal-aware tuning, end to end: run, resume, what is recorded of labels and answers, files, endpoints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tracker_tests::{Answer, Endpoint, Tracker};

fn id(event: &Value) -> &str {
    event["run"].as_str().unwrap()
}

fn path(tracker: &Tracker, name: &str) -> String {
    tracker.folder().join(name).display().to_string()
}

/// Figures of a run whose whole names end so.
fn figures(answer: &Answer, end: &str) -> Vec<f64> {
    let events = answer.lines();
    let found =
        events.iter().filter(|event| event["event"] == "figure" && event["name"].as_str().unwrap().ends_with(end));
    found.map(|event| event["value"].as_f64().unwrap()).collect()
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("r_tuning", &[0.1, 0.4, 0.8]);
}

/// Average precision, ties together, by the definition.
fn average_precision(rows: &[(f64, bool)]) -> f64 {
    let n_right = rows.iter().filter(|(_, is_right)| *is_right).count() as f64;
    let thresholds: BTreeSet<u64> = rows.iter().map(|(c, _)| c.to_bits()).collect();
    let mut last = 0.0;
    let mut area = 0.0;
    for threshold in thresholds.into_iter().rev().map(f64::from_bits) {
        let above: Vec<&(f64, bool)> = rows.iter().filter(|(c, _)| *c >= threshold).collect();
        let hits = above.iter().filter(|(_, is_right)| *is_right).count() as f64;
        area += (hits / n_right - last) * hits / above.len() as f64;
        last = hits / n_right;
    }
    area
}

#[test]
fn average_precision_under_any_weight_follows_from_rows() {
    let tracker = Tracker::new();
    // A model that has learnt something.
    let sets = ["pretrain.epochs=30.0", "policy.hidden=32", "data.n_test=40"];
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let run = tracker.smoke_of("r_tuning", &args);
    let of = |kind: &str| -> Vec<(u64, f64)> {
        let filter = format!("stage = 'facts/r/facts/in domain' AND kind = '{kind}'");
        let rows = tracker.json(&[
            "query",
            "rewards",
            &filter,
            "--run",
            id(&run),
            "--limit",
            "1000",
            "--columns",
            "item,value",
        ]);
        rows.iter().map(|row| (row["item"].as_u64().unwrap(), row["value"].as_f64().unwrap())).collect()
    };
    let (a, s, right) = (of("a"), of("s"), of("right"));
    assert!(a.len() >= 16 && a.len() == s.len() && a.len() == right.len());
    assert!(right.iter().any(|(_, right)| *right == 1.0), "nothing was right");
    for percent in [0_u32, 37, 50, 100] {
        let weight = f64::from(percent) / 100.0;
        let rows: Vec<(f64, bool)> = (0..a.len())
            .map(|at| {
                assert!(a[at].0 == s[at].0 && a[at].0 == right[at].0);
                (weight * a[at].1 + (1.0 - weight) * s[at].1, right[at].1 == 1.0)
            })
            .collect();
        let key = "AP by weight/facts/r/facts/in domain";
        let points = tracker.json(&["query", "metrics", id(&run), key, "--points", "1000"]);
        let point = points.iter().find(|point| point["first_step"] == percent).unwrap_or_else(|| panic!("{points:?}"));
        assert!((point["mean"].as_f64().unwrap() - average_precision(&rows)).abs() < 1e-9, "{percent}: {point}");
    }
    // s is the share of two words, and every question has it, its answer's tokens and its confidence.
    let filter = "stage = 'facts/r/facts/in domain' AND kind = 's'";
    for row in tracker.json(&["query", "rewards", filter, "--run", id(&run), "--limit", "5"]) {
        let values: Vec<f64> = row["values"].as_str().unwrap().split(' ').map(|x| x.parse().unwrap()).collect();
        assert!((values[0] - 1.0 / (1.0 + (values[2] - values[1]).exp())).abs() < 1e-9, "{row}");
    }
}

#[test]
fn labels_have_reasons_and_matchers_and_lead_to_what_was_learnt() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("r_tuning", &[]);
    let labels = |more: &str| {
        let filter = format!("stage = 'identify/facts' AND kind LIKE 'label: %'{more}");
        tracker.json(&[
            "query",
            "rewards",
            &filter,
            "--run",
            id(&run),
            "--limit",
            "1000",
            "--columns",
            "kind,value,scorer.settings",
        ])
    };
    let all = labels("");
    let n = all.len() / 3;
    let by: BTreeSet<&str> = all.iter().map(|row| row["scorer.settings"].as_str().unwrap()).collect();
    assert_eq!(by, BTreeSet::from(["contains", "exact", "words"]));
    for row in &all {
        let is_known = row["value"] == 1.0;
        assert_eq!(row["kind"] == "label: the right answer", is_known, "{row}");
    }
    // Every sample is kept: k of each question, and each question has an entropy.
    let samples =
        tracker.json(&["query", "samples", "stage = 'identify/facts/samples'", "--run", id(&run), "--limit", "1000"]);
    assert_eq!(samples.len(), 3 * n);
    let entropies = tracker.json(&[
        "query",
        "rewards",
        "stage = 'identify/facts/samples' AND kind = 'entropy'",
        "--run",
        id(&run),
        "--limit",
        "1000",
    ]);
    assert_eq!(entropies.len(), n);
    let halves = tracker.json(&[
        "query",
        "rewards",
        "stage = 'identify/facts/samples' AND kind = 'label: high entropy'",
        "--run",
        id(&run),
        "--limit",
        "1000",
    ]);
    assert_eq!(halves.len(), n.div_ceil(2));
    // What is learnt says what was right of it, and leads to the label and the answer of the model before.
    let model = &tracker.json(&["query", "checkpoints", "label = 'facts/r'", "--run", id(&run)])[0];
    let up = &tracker.json(&["query", "lineage", model["id"].as_str().unwrap(), "--limit", "100000"])[0];
    let kinds: BTreeSet<&str> = up["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    for kind in ["reward", "sample", "dataset", "problem", "checkpoint", "program"] {
        assert!(kinds.contains(kind), "no {kind} above the tuned model: {kinds:?}");
    }
    let answer = tracker.run(&["artifact", "get", "r_tuning/facts/r/rows", "rows"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let rows = std::fs::read_to_string(tracker.folder().join("rows/rows.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), n);
    for row in &rows {
        let completion = row["completion"].as_str().unwrap();
        assert!(completion.ends_with(" . I am sure .") || completion.ends_with(" . I am unsure ."), "{row}");
    }
    // Epochs are those that were declared, and say so.
    assert!(
        tracker
            .json(&["query", "figures", "name = 'epochs actual less declared' AND value != 0", "--run", id(&run)])
            .is_empty()
    );
    assert!(!tracker.json(&["query", "figures", "name = 'epochs actual'", "--run", id(&run)]).is_empty());
}

#[test]
fn refusal_stands_beside_over_refusal_and_bins_are_recorded() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("r_tuning", &[]);
    let stages = |name: &str| -> BTreeSet<String> {
        let rows =
            tracker.json(&["query", "figures", &format!("name = '{name}'"), "--run", id(&run), "--limit", "1000"]);
        rows.iter().map(|row| row["stage"].as_str().unwrap().split('/').take(2).collect::<Vec<_>>().join("/")).collect()
    };
    let refusing = stages("refusal rate");
    assert_eq!(refusing, stages("over-refusal"));
    for method in ["facts/r", "facts/r-refuse", "facts/r-u", "facts/vanilla", "facts/min-loss", "together/r"] {
        assert!(refusing.contains(method), "{method}: {refusing:?}");
    }
    // Ten bins, whose counts are those of the questions, and the error they make.
    let series = |what: &str| -> Vec<f64> {
        let key = format!("bins/facts/r/facts/in domain/{what}");
        let points = tracker.json(&["query", "metrics", id(&run), &key, "--points", "100"]);
        points.iter().map(|point| point["mean"].as_f64().unwrap()).collect()
    };
    let (n, accuracy, confidence) = (series("n"), series("accuracy"), series("confidence"));
    assert_eq!((n.len(), n.iter().sum::<f64>()), (10, 12.0));
    let error: f64 = (0..10).map(|at| n[at] / 12.0 * (accuracy[at] - confidence[at]).abs()).sum();
    let filter = "name = 'ECE' AND stage = 'facts/r/facts/in domain/figures'";
    let figure = &tracker.json(&["query", "figures", filter, "--run", id(&run)])[0];
    assert!((figure["value"].as_f64().unwrap() - error).abs() < 1e-12, "{figure}");
}

fn pairs(n: usize, from: usize) -> Value {
    let row = |at: usize| json!([format!("What is {at} + 2?"), (at + 2).to_string()]);
    (from..from + n).map(row).collect()
}

/// A plan of files with what comes before the tasks.
fn plan(tracker: &Tracker, before: &str, methods: &str) -> String {
    let file = |name: &str| path(tracker, name);
    format!(
        "study = 'r_tuning'\n{before}\n[data]\nn_train = 0\n[[tasks]]\nname = 'sums'\nformat = 'pararel'\ntrain = ['{}']\n\
         test = ['{}']\nood = ['{}']\nmax_tokens = 5\n[[tasks]]\nname = 'letters'\nformat = 'mmlu'\nall = ['{}']\nmax_tokens = 5\n\
         [[refusal]]\nformat = 'nec'\nfiles = ['{}']\n[identify]\nk = 3\n[tune]\n{methods}\n[measure]\nn_resamples = 60\n",
        file("train.json"),
        file("test.json"),
        file("ood.json"),
        file("mmlu.json"),
        file("nec.jsonl")
    )
}

fn write(tracker: &Tracker) {
    let text = |name: &str, value: String| std::fs::write(tracker.folder().join(name), value).unwrap();
    text("train.json", pairs(12, 1).to_string());
    text("test.json", pairs(8, 3).to_string());
    text("ood.json", pairs(6, 4).to_string());
    let choice =
        |at: usize| json!([format!("What is {at} + 1?"), (at + 3).to_string(), (at + 1).to_string(), "0", "B"]);
    text(
        "mmlu.json",
        json!({"easy": (1..9).map(choice).collect::<Vec<_>>(), "hard": (9..15).map(choice).collect::<Vec<_>>()})
            .to_string(),
    );
    let mut nec = String::new();
    for at in 0..8 {
        writeln!(nec, "{}", json!({"prompt": format!("What is {} + 90?", at), "label": 1, "category": "sums"}))
            .unwrap();
        writeln!(nec, "{}", json!({"prompt": format!("What is {} + 1?", at), "label": 0, "category": "sums"})).unwrap();
    }
    text("nec.jsonl", nec);
}

const UNTUNED: &str = "methods = ['pretrain-t', 'vanilla-c']\nothers = ['pretrain-t']\ntogether = []";

fn served(url: &str, model: &str) -> String {
    format!("[endpoint]\nurl = '{url}'\nmodel = '{model}'\n[template]\ncheck = 'Did you know? I am'\n")
}

#[test]
fn a_model_behind_an_endpoint_that_tells_probabilities_is_identified_and_measured_and_asked_nothing_twice() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    write(&tracker);
    let (run, answer) = tracker.finished(&plan(&tracker, &served(&endpoint.url(), "knower"), UNTUNED));
    // It knows sums below ten, and says so: what it answers, how sure it is, and what it refuses.
    assert_eq!(figures(&answer, "sums/pretrain-t/sums/in domain/figures: accuracy"), [5.0 / 8.0]);
    assert_eq!(figures(&answer, "sums/pretrain-t/sums/in domain/figures: AP"), [1.0]);
    assert_eq!(figures(&answer, "sums/pretrain-t/sums/in domain/figures: willing accuracy"), [1.0]);
    assert_eq!(figures(&answer, "sums/pretrain-t/unanswerable/figures: refusal rate"), [1.0]);
    assert_eq!(figures(&answer, "sums/pretrain-t/control/figures: over-refusal"), [0.0]);
    assert_eq!(figures(&answer, "letters/pretrain-t/letters/in domain/figures: accuracy"), [1.0]);
    let count = |kind: &str| {
        tracker.json(&["query", "rewards", &format!("kind = '{kind}'"), "--run", id(&run), "--limit", "10000"]).len()
    };
    assert!(count("s") > 0 && count("a") > 0 && count("s, sampled") == 0 && count("a, sampled") == 0);
    tracker.assert_asks_nothing_twice(&endpoint);
    drop(endpoint);
    let replayed = tracker.run(&["replay", id(&run), "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
}

#[test]
fn shares_of_samples_stand_in_for_probabilities_that_are_not_told_and_are_marked() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    write(&tracker);
    let text =
        plan(&tracker, &served(&endpoint.url(), "secret"), "methods = ['pretrain-t']\nothers = []\ntogether = []");
    let text =
        text.replace(&text[text.find("[[tasks]]\nname = 'letters'").unwrap()..text.find("[[refusal]]").unwrap()], "");
    let (run, answer) = tracker.finished(&text);
    assert_eq!(figures(&answer, "sums/pretrain-t/sums/in domain/figures: willing accuracy"), [1.0]);
    assert_eq!(figures(&answer, "sums/pretrain-t/unanswerable/figures: refusal rate"), [1.0]);
    let rewards = |kind: &str| {
        tracker.json(&["query", "rewards", &format!("kind = '{kind}'"), "--run", id(&run), "--limit", "10000"])
    };
    assert!(rewards("s").is_empty() && rewards("a").is_empty());
    let sampled = rewards("s, sampled");
    assert!(
        !sampled.is_empty() && sampled.iter().all(|row| row["tallies"].as_str().unwrap().ends_with("/10")),
        "{:?}",
        sampled.first()
    );
    assert!(!rewards("a, sampled").is_empty());
    let params = tracker.json(&["query", "runs", "--columns", "params.measure.endpoint"]);
    assert_eq!(params[0]["params.measure.endpoint"], "shares of samples", "{params:?}");

    // Letters cannot be sampled into probabilities, and a model that says neither word cannot be asked: refused, with what to do.
    for (model, methods, parts) in [
        ("secret", "methods = ['pretrain-t']\nothers = ['pretrain-t']\ntogether = []", ["served.top", "every letter"]),
        ("mute", "methods = ['pretrain-t']\nothers = []\ntogether = []", ["served.is_tuned", "none of 10 samples"]),
    ] {
        let whole = plan(&tracker, &served(&endpoint.url(), model), methods);
        let text = if model == "mute" {
            whole.replace(
                &whole[whole.find("[[tasks]]\nname = 'letters'").unwrap()..whole.find("[[refusal]]").unwrap()],
                "",
            )
        } else {
            whole
        };
        std::fs::write(tracker.folder().join("plan.toml"), text).unwrap();
        let answer = tracker.run(&["run", "plan.toml"]);
        assert_eq!(answer.code, 2, "{model}: {}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
        }
    }
    // What would tune it is refused from the plan.
    std::fs::write(tracker.folder().join("plan.toml"), plan(&tracker, &served(&endpoint.url(), "knower"), "")).unwrap();
    let answer = tracker.run(&["run", "plan.toml"]);
    assert!(
        answer.code == 2 && answer.stderr.contains("tune.methods") && answer.stderr.contains("weights"),
        "{}",
        answer.stderr
    );
}

#[test]
fn a_checkpoint_from_a_folder_is_tuned_on_files_and_wrong_rows_are_named() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("r_tuning", &[]);
    let folder = path(&tracker, "base");
    let answer = tracker.run(&["materialize", "checkpoint:base", &folder]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    // Questions in the words of the model.
    let problems = tracker.json(&[
        "query",
        "problems",
        "source LIKE 'facts/%'",
        "--run",
        id(&run),
        "--limit",
        "40",
        "--columns",
        "name",
    ]);
    let questions: BTreeSet<&str> = problems.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let rows: Vec<Value> =
        questions.iter().enumerate().map(|(at, question)| json!([question, format!("born{}", at % 4)])).collect();
    let file =
        |name: &str, rows: &[Value]| std::fs::write(tracker.folder().join(name), json!(rows).to_string()).unwrap();
    file("train.json", &rows[..10]);
    file("test.json", &rows[10..16]);
    let methods = "methods = ['r', 'r-refuse', 'r-u', 'vanilla', 'min-loss']\nsft = { epochs = 1.0, batch = 4 }";
    let plan = |train: &str, more: &str| {
        format!(
            "study = 'r_tuning'\n[model]\nfolder = '{folder}'\n[template]\nquestion = 'ask {{question}} ?'\nend = ' .'\ncheck = 'I am'\n\
             [data]\n{more}\n[[tasks]]\nname = 'born'\nformat = 'pararel'\ntrain = ['{}']\ntest = ['{}']\nmax_tokens = 4\n[identify]\nk = 3\n\
             [tune]\n{methods}\n[measure]\nn_resamples = 60\n",
            path(&tracker, train),
            path(&tracker, "test.json")
        )
    };
    let (_, answer) = tracker.finished(&plan("train.json", ""));
    assert_eq!(figures(&answer, "born/vanilla/born/in domain/figures: answer rate"), [1.0]);
    let checkpoints = tracker.json(&["query", "checkpoints", "label LIKE 'born/%'"]);
    let labels: BTreeSet<&str> = checkpoints.iter().map(|row| row["label"].as_str().unwrap()).collect();
    assert!(labels.contains("born/min-loss, first stage") && labels.contains("born/r-u"), "{labels:?}");

    let mut bad = rows[..10].to_vec();
    bad[4] = json!(["only a question"]);
    file("bad.json", &bad);
    tracker.refused(&plan("bad.json", ""), &["bad.json", "row 5", "[question, answer]"]);
    let (_, answer) = tracker.finished(&plan("bad.json", "skip_bad = true"));
    assert!(answer.stdout.contains("9 of 10 rows kept"), "{}", answer.stdout);
    // A prompt that leaves no room is a wrong row too.
    let mut long = rows[..10].to_vec();
    long[2] = json!([vec!["born"; 60].join(" "), "born1"]);
    file("long.json", &long);
    tracker.refused(&plan("long.json", ""), &["long.json", "row 3", "field `question`", "48 tokens"]);
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, said) in [
        ("identify.matchers=[]", "identify.matchers"),
        ("identify.matchers=[\"words\", \"words\"]", "none twice"),
        ("identify.k=1", "identify.k"),
        ("identify.temperature=0.0", "identify.temperature"),
        ("identify.unknown=1.5", "identify.unknown"),
        ("tune.methods=[\"vanilla-u\", \"vanilla-c\", \"vanilla\"]", "`r-u` where `vanilla-u` is"),
        ("tune.methods=[\"pretrain-w\", \"r\"]", "`pretrain-t` where `pretrain-w` is"),
        ("tune.methods=[]", "tune.methods"),
        ("tune.sft.epochs=0.0", "tune.sft.epochs"),
        ("tune.min_loss_refused=0.0", "tune.min_loss_refused"),
        ("measure.weight=1.1", "measure.weight"),
        ("measure.n_bins=0", "measure.n_bins"),
        ("measure.n_resamples=10", "measure.n_resamples"),
        ("world.exposures=[0, 1]", "world.exposures"),
        ("world.n_entities=500", "world.n_entities"),
        ("world.n_outside=16", "world.n_outside"),
        ("world.fame=2.0", "world.fame"),
        ("policy.context=16", "policy.context"),
        ("template.sure=certain", "template"),
        ("tune.methods=[\"s\"]", "tune.methods"),
    ] {
        let answer = tracker.run(&["run", "r_tuning", "--smoke", "--set", set]);
        assert!(answer.code == 2 && answer.stderr.contains(said), "{set}: {}", answer.stderr);
    }
}
