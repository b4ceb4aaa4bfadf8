//! The study of the alignment tax, end to end: run, resume, compare, export, make what was never written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;
use tracker_tests::{Endpoint, Tracker};

/// The last event of the smoke plan.
fn smoke(tracker: &Tracker, args: &[&str]) -> Value {
    tracker.smoke_of("alignment_tax", args)
}

fn id(event: &Value) -> &str {
    event["run"].as_str().unwrap()
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("alignment_tax", &[0.17, 0.5, 0.83]);
}

#[test]
fn the_front_is_exported_and_its_points_lead_to_what_they_came_from() {
    let tracker = Tracker::new();
    let run = smoke(&tracker, &[]);
    let answer = tracker.run(&["pareto", id(&run), "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let front: Value = serde_json::from_str(&answer.stdout).unwrap();
    let rows = front["rows"].as_array().unwrap();
    // Two ends, three averages and one more of the fitted ratio's mean, one fitted, one earlier round, eight baselines.
    assert_eq!(rows.len(), 16, "{rows:?}");
    assert!(rows.iter().any(|row| row["is_pareto"] == true));
    let roots: BTreeSet<&str> = rows.iter().map(|row| row["lineage_root"].as_str().unwrap()).collect();
    assert_eq!(roots.len(), 1, "every point comes from one pre-trained model: {roots:?}");
    for format in ["csv", "json", "parquet", "svg", "png", "html"] {
        let file = tracker.folder().join(format!("front.{format}"));
        let answer = tracker.run(&["pareto", id(&run), "--export", file.to_str().unwrap()]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        assert!(std::fs::metadata(&file).unwrap().len() > 500, "{format}");
    }
    let csv = std::fs::read_to_string(tracker.folder().join("front.csv")).unwrap();
    for column in [
        "run",
        "checkpoint",
        "max.reward",
        "min.tax",
        "is_pareto",
        "rank",
        "crowding",
        "artifact_digest",
        "lineage_root",
    ] {
        assert!(csv.lines().next().unwrap().split(',').any(|name| name == column), "{column}");
    }

    let fronts = tracker.json(&["query", "fronts", "name = 'repeat 1'"]);
    assert_eq!(fronts[0]["n_points"], 16);
    let up = &tracker.json(&["query", "lineage", fronts[0]["id"].as_str().unwrap()])[0];
    let kinds: BTreeSet<&str> = up["nodes"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap()).collect();
    for kind in ["checkpoint", "recipe", "dataset", "reward", "sample", "problem"] {
        assert!(kinds.contains(kind), "no {kind} above the front: {kinds:?}");
    }
    let mixture = &tracker.json(&["query", "checkpoints", "label = 'repeat 1/ma 0.5'"])[0];
    let down = &tracker.json(&["query", "lineage", mixture["id"].as_str().unwrap(), "--down", "--kind", "front"])[0];
    assert!(
        down["nodes"].as_array().unwrap().iter().any(|node| node["label"].as_str().unwrap().starts_with("repeat 1"))
    );
}

#[test]
fn a_mixture_that_was_never_written_is_made_bit_for_bit() {
    let tracker = Tracker::new();
    smoke(&tracker, &[]);
    let out = tracker.folder().join("made");
    let out = out.to_str().unwrap();
    let answer = tracker.run(&["materialize", "checkpoint:repeat 1/hma 0.4", out, "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let recipe = std::fs::read_to_string(tracker.folder().join("made/merge.yml")).unwrap();
    let recorded = recipe.lines().find_map(|line| line.strip_prefix("output: ")).unwrap();
    assert_eq!(answer.lines()[0]["output"], recorded);
    let again = tracker.run(&["materialize", "checkpoint:repeat 1/hma 0.4", out]);
    assert_eq!(again.code, 2, "{}", again.stderr);
    let nobody = tracker.run(&["materialize", "checkpoint:nobody", "elsewhere"]);
    assert_eq!(nobody.code, 2, "{}", nobody.stderr);

    let got = tracker.run(&["artifact", "get", "checkpoint:repeat 1/hma 0.4", "elsewhere"]);
    assert!(got.code == 2 && got.stderr.contains("tracker materialize"), "{}", got.stderr);

    // The same study between the two ends, as real checkpoints from folders.
    for (label, folder) in [("repeat 1/sft", "before"), ("repeat 1/rsf 2", "after")] {
        let folder = tracker.folder().join(folder);
        let answer = tracker.run(&["materialize", &format!("checkpoint:{label}"), folder.to_str().unwrap()]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    let path = |name: &str| tracker.folder().join(name).display().to_string();
    let prompts: String =
        ["a", "b", "c", "d", "e", "f"].map(|x| format!("{{\"prompt\": \"talk {x} a b =\"}}\n")).concat();
    std::fs::write(path("prompts.jsonl"), prompts).unwrap();
    std::fs::write(path("text.txt"), "copy a b c = a b c reverse d e f = f e d ".repeat(20)).unwrap();
    let plan = format!(
        "study = 'alignment_tax'\n[models]\nbefore = '{}'\nafter = '{}'\nprompts = '{}'\ntexts = ['{}']\nwindow = 16\n\
         [measure]\nn_prompts = 3\n[average]\nratios = [0.5]\n[hma]\nratios = [0.4]\nn_candidates = 3\nsteps = 2\n\
         [reward]\nmax_tokens = 8\n",
        path("before"),
        path("after"),
        path("prompts.jsonl"),
        path("text.txt")
    );
    std::fs::write(path("plan.toml"), plan).unwrap();
    let answer = tracker.run(&["run", &path("plan.toml"), "--json"]);
    assert!(answer.code <= 1, "{}", answer.stderr);
    assert_eq!(answer.lines().pop().unwrap()["status"], "finished");
}

#[test]
fn what_a_front_rests_on_is_kept_and_a_recipe_whose_parent_was_collected_says_so() {
    let tracker = Tracker::new();
    // Large enough that files are pieces of packs.
    smoke(&tracker, &["--set", "policy.hidden=96", "--set", "policy.ffn=256"]);
    let version = "alignment_tax/repeat 1/sft:v0";
    let refused = tracker.run(&["artifact", "rm", version]);
    assert!(refused.code == 2 && refused.stderr.contains("front:"), "{}", refused.stderr);
    let usage = &tracker.json(&["du", "--by", "version", "--limit", "1000"])[0];
    let share = |name: &str| usage["shares"].as_array().unwrap().iter().find(|s| s["name"] == name).cloned();
    assert!(share(version).unwrap()["raw_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(tracker.run(&["artifact", "rm", version, "--force"]).code, 0);
    let would = tracker.json(&["gc", "--grace", "0", "--dry-run"]);
    let did = tracker.json(&["gc", "--grace", "0"]);
    assert_eq!(would[0]["freed_bytes"], did[0]["freed_bytes"]);
    assert!(did[0]["n_files"].as_u64().unwrap() > 0, "{did:?}");
    assert_eq!(tracker.json(&["gc", "--grace", "0"])[0]["n_files"], 0);
    let gone = tracker.run(&["materialize", "checkpoint:repeat 1/ma 0.5", "made"]);
    assert!(gone.code == 2 && gone.stderr.contains("does not have"), "{}", gone.stderr);
    assert!(!tracker.folder().join("made").exists());
    let whole = tracker.run(&["materialize", "checkpoint:repeat 1/rsf 2", "whole"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
}

#[test]
fn a_model_behind_an_endpoint_gives_the_reward_and_a_replay_needs_no_server() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    let url = format!("judge.url={}", endpoint.url());
    // The port is in the plan and so in every seed: so many answers that some prompt has a better and a worse one, whatever it is.
    let few = ["rsf.rounds=1", "rsf.n_prompts=8", "rsf.n_samples=8", "measure.n_prompts=4", "hma.n_candidates=4"];
    let mut args = vec!["--set", "reward.by=endpoint", "--set", &url, "--set", "judge.model=rater"];
    args.extend(few.iter().chain(&["baselines.l1=[]", "baselines.kl=[]"]).flat_map(|set| ["--set", set]));
    let run = smoke(&tracker, &args);
    assert_eq!(run["status"], "finished", "{run}");
    assert!(endpoint.n_calls() > 50, "{}", endpoint.n_calls());
    let rewards = tracker.json(&["query", "rewards", "stage = 'repeat 1/before/reward'"]);
    assert_eq!(rewards.len(), 8);
    assert!(rewards.iter().all(|reward| reward["scorer"].as_str().unwrap().starts_with("endpoint:")), "{rewards:?}");
    let run = id(&run).to_owned();
    drop(endpoint);
    let replayed = tracker.run(&["replay", &run, "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
}

#[test]
fn senseless_settings_and_comparisons_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, key) in [
        ("average.ratios=[1.5]", "average.ratios"),
        ("hma.ratios=[0.0]", "hma.ratios"),
        ("blocks.n=0", "blocks.n"),
        ("blocks.cuts=[9, 2]", "cuts"),
        ("models.before=somewhere", "models"),
        ("baselines.l1=[-1.0]", "baselines.l1"),
        ("baselines.lora.mlp=[0]", "baselines.lora.mlp"),
        ("baselines.lora.all=[33]", "from 1 to 32"),
        ("baselines.lora.scale=0.0", "baselines.lora.scale"),
        ("reward.words=[]", "reward.words"),
        ("measure.n_prompts=5000", "measure.n_prompts"),
    ] {
        let answer = tracker.run(&["run", "alignment_tax", "--smoke", "--set", set]);
        assert!(answer.code == 2 && answer.stderr.contains(key), "{set}: {}", answer.stderr);
    }
    let run = smoke(&tracker, &[]);
    for (args, said) in [
        (vec!["--objective", "reward"], "NAME:max"),
        (vec!["--objective", "reward:up"], "up"),
        (vec!["--objective", "nothing:max"], "nothing"),
        (vec!["--reference", "1"], "reference"),
        (vec!["--export", "front.txt"], ".csv"),
    ] {
        let answer = tracker.run(&[&["pareto", id(&run)], args.as_slice()].concat());
        assert!(answer.code == 2 && answer.stderr.contains(said), "{args:?}: {}", answer.stderr);
    }
}
