//! The study of directional preferences, end to end: run, resume, what is recorded of directions, fronts and selections, and
//! from files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use tracker_tests::Tracker;

/// The last event of the smoke plan.
fn smoke(tracker: &Tracker, args: &[&str]) -> Value {
    tracker.smoke_of("dpa", args)
}

fn id(event: &Value) -> &str {
    event["run"].as_str().unwrap()
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("dpa", &[0.17, 0.5, 0.83]);
}

#[test]
fn selections_say_direction_candidates_and_margin_and_the_winner_has_the_greatest_product() {
    let tracker = Tracker::new();
    let run = smoke(&tracker, &[]);
    let selections = tracker.json(&["query", "selections", "stage = 'round 1/sample'", "--run", id(&run)]);
    assert_eq!(selections.len(), 8, "{selections:?}");
    for selection in &selections {
        let rule = selection["rule"].as_str().unwrap();
        let weights = rule.rsplit_once('[').unwrap().1.trim_end_matches(']');
        let weights: Vec<f64> = weights.split(", ").map(|weight| weight.parse().unwrap()).collect();
        let length = weights[0].hypot(weights[1]);
        assert!((length - 100.0).abs() <= 0.8 && weights[0] >= 70.0, "{rule}");
        assert_eq!(selection["ties"], "first");
        assert!(selection["scorer"].as_str().unwrap().starts_with("checkpoint:"), "{selection}");
        assert!(selection["margin"].as_f64().unwrap() >= 0.0, "{selection}");
    }
    // What is learnt leads to what was chosen, by whom and from what.
    let model = &tracker.json(&["query", "checkpoints", "label = 'round 2'", "--run", id(&run)])[0];
    let up = &tracker.json(&["query", "lineage", model["id"].as_str().unwrap()])[0];
    let kinds: BTreeSet<&str> = up["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    for kind in ["selection", "sample", "dataset", "problem", "checkpoint", "program"] {
        assert!(kinds.contains(kind), "no {kind} above the last round: {kinds:?}");
    }
}

#[test]
fn fronts_are_recorded_by_model_and_by_truth_and_lead_to_answers() {
    let tracker = Tracker::new();
    let run = smoke(&tracker, &[]);
    let fronts = tracker.json(&["query", "fronts", "--run", id(&run), "--limit", "1000"]);
    let names: BTreeSet<&str> = fronts.iter().map(|front| front["name"].as_str().unwrap()).collect();
    for round in 0..=2 {
        for side in ["brief", "wordy"] {
            for source in ["model", "gold"] {
                assert!(names.contains(format!("round {round}/{side}, {source}").as_str()), "{names:?}");
            }
        }
    }
    let front = fronts.iter().find(|front| front["name"] == "round 2/brief, gold").unwrap();
    // −45° and 0° of the three directions.
    assert_eq!(front["n_points"], 2, "{front}");
    let up = &tracker.json(&["query", "lineage", front["id"].as_str().unwrap()])[0];
    let kinds: BTreeSet<&str> = up["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    for kind in ["checkpoint", "dataset", "reward", "sample", "problem", "program"] {
        assert!(kinds.contains(kind), "no {kind} above the front: {kinds:?}");
    }
    let objectives = ["--objective", "gold helpfulness:max", "--objective", "gold verbosity:min"];
    let answer = tracker.run(&[&["pareto", id(&run), "--json"], objectives.as_slice()].concat());
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let found: Value = serde_json::from_str(&answer.stdout).unwrap();
    let rows = found["rows"].as_array().unwrap();
    let models: BTreeSet<&str> = rows.iter().map(|row| row["checkpoint"].as_str().unwrap()).collect();
    for model in ["round 2", "base", "dpo 0.1", "steerlm", "soup 0.5"] {
        assert!(models.contains(model), "no {model} among the points: {models:?}");
    }
}

#[test]
fn a_policy_from_a_folder_with_prompts_and_ratings_from_files() {
    let tracker = Tracker::new();
    smoke(&tracker, &[]);
    let folder = tracker.folder().join("base");
    let answer = tracker.run(&["materialize", "checkpoint:base", folder.to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let path = |name: &str| tracker.folder().join(name).display().to_string();
    let (mut prompts, mut ratings) = (String::new(), String::new());
    for at in 0..40 {
        let (first, second) = (at % 4, at / 4 % 4);
        let prompt = format!("facts a{first} b{second} ask {} =", if at % 2 == 0 { "a" } else { "b a" });
        writeln!(prompts, "{{\"prompt\": \"{prompt} {}\"}}", at % 10).unwrap();
        let kind = if at % 3 == 0 { "null".into() } else { format!("{}", 10 * (at % 10)) };
        writeln!(
            ratings,
            "{{\"id\": \"r{at}\", \"prompt\": \"{prompt}\", \"response\": \"a{first} b{second}\", \"kind\": {kind}, \"long\": 20}}"
        )
        .unwrap();
    }
    std::fs::write(path("prompts.jsonl"), prompts).unwrap();
    std::fs::write(path("ratings.jsonl"), &ratings).unwrap();
    let plan = |ratings: &str, skip_bad: bool| {
        format!(
            "study = 'dpa'\n[models]\npolicy = '{}'\ntemplate = '{{system}} {{prompt}}'\nmax_tokens = 4\n[data]\n\
             prompts = '{}'\nratings = ['{}']\nskip_bad = {skip_bad}\n[reward]\nattributes = ['kind', 'long']\n\
             helpfulness = {{ kind = 1.0 }}\nverbosity = {{ long = 1.0 }}\n[directions]\nn_measured = 3\n[rsf]\n\
             n_warm_up = 4\nrounds = 1\nn_prompts = 4\nn_directions = 2\nn_samples = 2\n[measure]\nn_prompts = 4\n\
             n_resamples = 60\n[baselines]\nmorlhf = [-45.0, 45.0]\nrounds = 1\nn_prompts = 4\nsoups = [0.5]\n\
             steer_lm = [[100, 30]]\n",
            path("base"),
            path("prompts.jsonl"),
            path(ratings)
        )
    };
    std::fs::write(path("plan.toml"), plan("ratings.jsonl", false)).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml"), "--json"]);
    assert!(answer.code <= 1, "{}", answer.stderr);
    let lines = answer.lines();
    assert_eq!(lines.last().unwrap()["status"], "finished");
    let figures: Vec<&Value> = lines.iter().filter(|event| event["event"] == "figure").collect();
    let missing = figures.iter().find(|figure| figure["name"] == "ratings/figures: missing ratings of kind").unwrap();
    // 14 of 40 rows have no rating of it.
    assert_eq!(missing["value"].as_f64(), Some(0.35), "{missing}");
    // Nobody knows the truth of a file.
    assert!(figures.iter().all(|figure| !figure["name"].as_str().unwrap().ends_with("gold")));

    // A row that names an attribute there is not is refused by file, row and field, or left out and counted.
    std::fs::write(path("bad.jsonl"), ratings.replacen("\"kind\": 40", "\"kinds\": 40", 1)).unwrap();
    std::fs::write(path("plan.toml"), plan("bad.jsonl", false)).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml")]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    for said in ["bad.jsonl", "row 5", "kinds"] {
        assert!(answer.stderr.contains(said), "{said}: {}", answer.stderr);
    }
    std::fs::write(path("plan.toml"), plan("bad.jsonl", true)).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml"), "--json"]);
    assert!(answer.code <= 1, "{}", answer.stderr);
    assert!(answer.stdout.contains("39 of 40 rows are used"), "{}", answer.stdout);
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, said) in [
        ("directions.vectors=[[1.0, 1.0], [1.0, 0.0]]", "length 1"),
        ("directions.vectors=[[1.0], [1.0, 0.0]]", "two numbers"),
        ("directions.vectors=[[0.97, -0.26]]", "directions.vectors"),
        ("directions.min=50.0", "directions.max"),
        ("directions.max=120.0", "from -90 to 90"),
        ("reward.attributes=[\"recall\", \"charm\"]", "charm"),
        ("reward.attributes=[\"recall\", \"recall\"]", "none twice"),
        ("reward.helpfulness={ charm = 1.0 }", "reward.helpfulness"),
        ("reward.verbosity={ verbosity = 0.0 }", "other than 0"),
        ("reward.missing=1.0", "reward.missing"),
        ("reward.temperatures=[0.0]", "reward.temperatures"),
        ("reward.n_answers=3", "reward.n_answers"),
        ("rsf.n_samples=1", "to choose from"),
        ("rsf.start=somewhere", "somewhere"),
        ("measure.reference=100.0", "measure.reference"),
        ("baselines.morlhf=[10.0]", "baselines.soups"),
        ("baselines.steer_lm=[[101, 5]]", "baselines.steer_lm"),
        ("models.policy=somewhere", "data.prompts"),
        ("models.template=none", "models.template"),
        ("data.prompts=somewhere", "models.policy"),
        ("policy.context=20", "policy.context"),
        ("language.n_asked=9", "language.n_asked"),
    ] {
        let answer = tracker.run(&["run", "dpa", "--smoke", "--set", set]);
        assert!(answer.code == 2 && answer.stderr.contains(said), "{set}: {}", answer.stderr);
    }
}
