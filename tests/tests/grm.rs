//! The study of reward models that keep their language head, end to end: run, resume, ask where figures come from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use tracker_tests::Tracker;

/// The last event of the smoke plan.
fn smoke(tracker: &Tracker, args: &[&str]) -> Value {
    tracker.smoke_of("grm", args)
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    // While pairs are made, reward models fitted, candidates chosen and policies optimised.
    Tracker::new().assert_repeats("grm", &[0.08, 0.33, 0.67, 0.92]);
}

#[test]
fn every_figure_leads_to_the_answers_and_the_reward_models_it_rests_on() {
    let tracker = Tracker::new();
    let run = smoke(&tracker, &[]);
    let claims = run["claims"].as_array().unwrap();
    let ids: BTreeSet<&str> = claims.iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    for id in ["ood-beats-bt", "in-beats-bt", "best-of-n-beats-bt", "best-of-n-beats-ensemble-min", "ppo-beats-bt"] {
        assert!(ids.contains(id), "no claim `{id}` among {ids:?}");
    }
    for claim in claims {
        let [low, value, high] = ["low", "value", "high"].map(|key| claim[key].as_f64().unwrap());
        assert!(low <= value && value <= high, "{claim}");
        assert_eq!(claim["holds"].as_bool().unwrap(), low > 0.0, "{claim}");
    }
    let chosen = &["claim", "figure", "selection", "sample", "problem", "checkpoint", "dataset", "program"][..];
    let scored = &["claim", "figure", "checkpoint", "dataset", "reward", "sample", "problem"];
    for (claim, kinds) in [("best-of-n-beats-bt", chosen), ("ood-beats-bt", chosen), ("ppo-beats-bt", scored)] {
        let found = tracker.json(&["query", "claims", &format!("claim = '{claim}'")]);
        assert_eq!(found.len(), 1, "{found:?}");
        let up = &tracker.json(&["query", "lineage", found[0]["id"].as_str().unwrap()])[0];
        assert_eq!(up["truncated"], false);
        let found: BTreeSet<&str> =
            up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap()).collect();
        for kind in kinds {
            assert!(found.contains(kind), "no {kind} above `{claim}`: {found:?}");
        }
    }

    // Scores name the checkpoint whose they are; choices name all there was to choose from.
    let judge = "checkpoint:rm 16 clean grm-sft 1";
    let rewards = tracker.json(&["query", "rewards", "--model", judge, "--limit", "10000"]);
    // Four exercises with twelve candidates, two answers to each held-out pair, and what PPO asked.
    assert!(rewards.len() > 48, "{}", rewards.len());
    assert!(rewards.iter().all(|reward| reward["kind"] == "score"), "{:?}", rewards[0]);
    let chosen = tracker.json(&["query", "selections", "rule = 'best of 12 by grm-sft'", "--limit", "100"]);
    assert_eq!(chosen.len(), 4 * 2 * 2, "prompts, repeats, and clean and flipped pairs");

    // Which pairs were turned round is recorded.
    let turned = tracker.json(&["query", "selections", "rule = 'exact score, turned round'", "--limit", "100"]);
    assert!(!turned.is_empty());
    let rows = tracker.run(&["artifact", "get", "grm/pairs 16 flipped", "rows", "--json"]);
    assert_eq!(rows.code, 0, "{}", rows.stderr);
    let text = std::fs::read_to_string(tracker.folder().join("rows/rows.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 16);
    let id = |selection: &Value| format!("{}/{}", selection["stage"].as_str().unwrap(), selection["item"]);
    let known: BTreeSet<String> = turned.iter().map(id).collect();
    for row in &rows {
        let flipped = row["flipped"].as_bool().unwrap();
        assert_eq!(known.contains(row["id"].as_str().unwrap()), flipped, "{row}");
    }
}

#[test]
fn published_preferences_are_learnt_from_a_checkpoint_and_tried_on_others() {
    let tracker = Tracker::new();
    smoke(&tracker, &[]);
    let path = |name: &str| tracker.folder().join(name).display().to_string();
    let answer = tracker.run(&["materialize", "checkpoint:policy", &path("base")]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let letters = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let conversation = |asked: &str, said: &str| serde_json::json!([{"role": "user", "content": format!("copy {asked} =")}, {"role": "assistant", "content": said}]);
    let (mut train, mut bench) = (String::new(), String::new());
    for (id, letter) in letters.iter().cycle().take(24).enumerate() {
        let right = format!("{letter} {}", letters[id / 8]);
        let row = serde_json::json!({
            "id": format!("row {id}"), "source": "made",
            "conv_A": conversation(&right, "h h h"), "conv_B": conversation(&right, &right),
            "conv_A_rating": 1.0, "conv_B_rating": if id == 3 { 1.0 } else { 4.0 },
        });
        train.extend([row.to_string().as_str(), "\n"]);
        let row = serde_json::json!({
            "id": id.to_string(), "prompt": format!("upper {right} ="), "chosen": right.to_uppercase(),
            "rejected": right, "subset": "math-prm",
        });
        bench.extend([row.to_string().as_str(), "\n"]);
    }
    std::fs::write(path("train.jsonl"), &train).unwrap();
    std::fs::write(path("bench.jsonl"), &bench).unwrap();
    let plan = format!(
        "study = 'grm'\n[data]\nbase = '{}'\ntrain = ['{}']\ntrials = ['{}']\n[texts]\nn_test = 4\n\
         [pairs]\nsizes = [8, 16]\n[rm]\nrepeats = 2\nensemble = 2\nhidden = 8\n[ppo]\nrepeats = 0\n",
        path("base"),
        path("train.jsonl"),
        path("bench.jsonl")
    );
    std::fs::write(path("plan.toml"), &plan).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml"), "--json"]);
    assert!(answer.code <= 1, "{}", answer.stderr);
    let end = answer.lines().pop().unwrap();
    assert_eq!(end["status"], "finished");
    let ids: BTreeSet<&str> =
        end["claims"].as_array().unwrap().iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert!(ids.contains("ood-beats-bt") && !ids.contains("best-of-n-beats-bt"), "{ids:?}");
    let figures: Vec<Value> = answer.lines().into_iter().filter(|event| event["event"] == "figure").collect();
    let names: BTreeSet<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    assert!(names.contains("accuracy/16 clean grm-sft: bench"), "{names:?}");

    // A row that says nothing of what it is about is named, and so is one that is too long.
    std::fs::write(path("train.jsonl"), train.replacen("\"id\":\"row 5\"", "\"no\":1", 1)).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml")]);
    assert!(
        answer.code == 2 && answer.stderr.contains("train.jsonl") && answer.stderr.contains("id"),
        "{}",
        answer.stderr
    );
    std::fs::write(path("train.jsonl"), train.replacen("h h h", &"h ".repeat(40), 1)).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml")]);
    assert!(
        answer.code == 2
            && answer.stderr.contains("train.jsonl, row 1, field `conv_A`")
            && answer.stderr.contains("skip_bad"),
        "{}",
        answer.stderr
    );
}

#[test]
fn settings_that_cannot_work_are_refused_before_any_work() {
    let tracker = Tracker::new();
    for (set, parts) in [
        ("rm.methods=[\"bt\",\"grm\"]", &["rm.methods", "grm-sft", "`grm`"][..]),
        ("rm.methods=[\"grm-sft\"]", &["rm.methods", "bt among others"]),
        ("rm.methods=[\"bt\",\"grm-sft\",\"bt\"]", &["rm.methods", "each method once", "`bt` twice"]),
        ("rm.grm=frozen", &["rm.grm", "grm-", "frozen"]),
        ("rm.alpha=1", &["rm.alpha", "[0, 1)"]),
        ("rm.beta=0", &["rm.beta", "above 0"]),
        ("rm.ensemble=9", &["rm.ensemble", "rm.repeats"]),
        ("pairs.sizes=[16,8]", &["pairs.sizes", "rising"]),
        ("pairs.flip_rate=0.5", &["pairs.flip_rate", "[0, 0.5)"]),
        ("pairs.max_tokens=99", &["pairs.max_tokens", "policy.context"]),
        ("texts.long_words=3", &["texts.long_words", "texts.max_words"]),
        ("search.sizes=[1,13]", &["search.sizes", "12"]),
        ("ppo.repeats=3", &["ppo.repeats", "rm.repeats"]),
        ("ppo.every=0", &["ppo.every", "at least 1"]),
    ] {
        let answer = tracker.run(&["run", "grm", "--smoke", "--set", set]);
        assert_eq!(answer.code, 2, "{set}: {}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "{set}: expected `{part}` in: {}", answer.stderr);
        }
    }
    assert!(!tracker.store().exists(), "a refused plan made a store");
    // More exercises than there are: said with what to do, and what was asked.
    let answer = tracker.run(&["run", "grm", "--smoke", "--set", "texts.n_test=100000"]);
    assert!(answer.code == 2 && answer.stderr.contains("in distribution"), "{}", answer.stderr);
    // Nothing that differs: no pairs.
    let answer = tracker.run(&["run", "grm", "--smoke", "--set", "pairs.temperature=0.0001"]);
    assert!(answer.code == 2 && answer.stderr.contains("pairs.n_samples"), "{}", answer.stderr);
}
