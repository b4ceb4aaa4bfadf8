//! Rewards and labels from outside: asked for by model, kind and subject, made anew from counts, and shown where they come from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tracker_store::{
    Checkpoint, Content as _, Digest, Durability, Finish, NodeId, Problem, Program, Recording, Reward, RowKey, Sample,
    Sampling, Stage, Store, Tally,
};
use tracker_tests::{Tracker, new_run};

/// A run of two problems with two trajectories each, whose steps are labelled softly and scored by a reward model.
fn recorded(tracker: &Tracker) -> (String, NodeId) {
    let store = Store::create(&tracker.store()).unwrap();
    let run = store.create_run(&new_run("rollouts", "er_prm")).unwrap().id;
    let mut recording = Recording::new();
    recording.put_stage(run, &Stage { name: "rollouts".into(), ordinal: 0 }).unwrap();
    let checkpoint = |label: &str| Checkpoint {
        label: label.into(),
        config: Digest::of(b"c"),
        manifest: Digest::of(label.as_bytes()),
        n_params: 1,
        step: 0,
    };
    let policy = recording.put(run, &checkpoint("policy")).unwrap();
    let model = recording.put(run, &checkpoint("reward-model")).unwrap();
    let settings = "estimator = \"soft\"\n\n[counts]\ngrader = \"mod 10\"\nn_completions = \"16\"\n";
    let labels = Program { name: "step labels".into(), version: "1".into(), settings: settings.into() };
    let labels = recording.put(run, &labels).unwrap();
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 9, stop: vec![], template: String::new() };
    let sampling = recording.put(run, &sampling).unwrap().digest().unwrap();
    let hits = [[[8, 8], [2, 13]], [[0, 16], [16, 16]]];
    for (item, prompt) in (0..).zip(hits) {
        let problem = Problem { name: format!("p{item}"), source: "made".into(), text: format!("{item} + 1") };
        let subject = recording.put(run, &problem).unwrap();
        for (k, hits) in (0..).zip(prompt) {
            let row = RowKey::new(run, "rollouts", item, k);
            let text = format!("answer {k}");
            let finish = Finish::Stop;
            let sample = Sample { subject, policy, sampling, seed: 0, text, n_tokens: 1, sum_logprob: None, finish };
            recording.put_sample(row, &sample).unwrap();
            let tallies: Vec<Tally> = hits.iter().map(|hits| Tally { hits: *hits, of: 16 }).collect();
            let values = tallies.iter().map(|tally| f64::from(tally.hits) / 16.0).collect();
            recording.put_reward(row, &Reward { scorer: labels, kind: "step".into(), values, tallies }).unwrap();
            let score = Reward { scorer: model, kind: "outcome".into(), values: vec![f64::from(k)], tallies: vec![] };
            recording.put_reward(row, &score).unwrap();
        }
    }
    store.commit(&recording, Durability::Sync).unwrap();
    (run.to_string(), checkpoint("reward-model").node().unwrap())
}

#[test]
fn rewards_are_asked_for_by_model_kind_subject_and_policy() {
    let tracker = Tracker::new();
    let (run, model) = recorded(&tracker);
    let ask = |args: &[&str]| tracker.json(&[&["query", "rewards"], args].concat());
    assert_eq!(ask(&[]).len(), 8);
    for args in [
        vec!["--model", "checkpoint:reward-model", "--subject", "problem:p1"],
        vec!["--kind", "outcome", "--subject", "problem:p1", "--policy", "checkpoint:policy", "--run", &run],
        vec!["--model", "checkpoint:reward-model", "item = 1", "--run", &run],
    ] {
        let rows = ask(&args);
        let found: Vec<(i64, f64)> =
            rows.iter().map(|row| (row["k"].as_i64().unwrap(), row["value"].as_f64().unwrap())).collect();
        assert_eq!(found, [(0, 0.0), (1, 1.0)], "{args:?}");
        assert!(rows.iter().all(|row| row["scorer"] == model.to_string()));
    }
    let rows = ask(&["--kind", "step", "value < 0.2 OR value > 0.9"]);
    let tallies: Vec<&str> = rows.iter().map(|row| row["tallies"].as_str().unwrap()).collect();
    assert_eq!(tallies, ["2/16 13/16", "0/16 16/16", "16/16 16/16"], "the filter is one condition, joined by AND");
    assert!(ask(&["--kind", "it's"]).is_empty());
    let answer = tracker.run(&["query", "rewards", "--model", "checkpoint:nobody"]);
    assert!(answer.code == 2 && answer.stderr.contains("nobody"), "{}", answer.stderr);
}

#[test]
fn labels_are_made_anew_and_what_changes_is_shown() {
    let tracker = Tracker::new();
    let (run, _) = recorded(&tracker);
    let answer = tracker.run(&["relabel", &run, "--eta", "-5", "--dry-run"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let lines: Vec<&str> = answer.stdout.lines().map(str::trim).collect();
    assert_eq!(
        lines[0],
        "soft -> er:-5: 4 of 8 labels of 4 trajectories change, by -0.1634 on average and 0.4835 at most"
    );
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let table: Vec<Vec<String>> = lines[2..].iter().map(|line| words(line)).collect();
    assert_eq!(table, [["min", "2", "0"], ["last", "2", "0"], ["mean", "2", "1"], ["product", "2", "0"]]);
    assert_eq!(tracker.json(&["ls"]).len(), 1, "a dry run records nothing");

    let done = tracker.json(&["relabel", &run, "--eta", "-5"]).pop().unwrap();
    let new = done["run"].as_str().unwrap();
    assert_eq!((done["from"].as_str(), done["to"].as_str()), (Some("soft"), Some("er:-5")));
    let won = tracker.json(&["query", "selections", "--run", new]);
    assert_eq!((won.len(), won[0]["rule"].as_str()), (1, Some("best of 2 by mean of er:-5")));
    assert!(won[0]["winner"].as_str().unwrap().ends_with("/0/1") && won[0]["margin"].as_f64().unwrap() > 0.0);
    // The new labels know their subject, their definition, and what they were made from.
    let rows = tracker.json(&["query", "rewards", "--run", new, "--subject", "problem:p0"]);
    assert_eq!(rows.len(), 2);
    assert_eq!(tracker.json(&["show", done["definition"].as_str().unwrap()])[0]["record"]["name"], "step labels");
    let up = tracker.run(&["query", "lineage", rows[0]["id"].as_str().unwrap()]).stdout;
    for part in ["step labels", "answer 0", "policy", "rollouts/0/0 step"] {
        assert!(up.contains(part), "expected `{part}` in {up}");
    }
    assert!(tracker.json(&["show", won[0]["id"].as_str().unwrap()])[0]["record"]["chosen"] == 1);
    // From one set of labels to the next, and to one that is there already.
    assert_eq!(tracker.json(&["relabel", new, "--estimator", "hard"])[0]["from"], "er:-5");
    for (args, expected) in [
        (vec!["relabel", run.as_str(), "--eta", "0", "--from", "hard"], "no step labels called `hard`"),
        (vec!["relabel", &run, "--estimator", "soft"], "are soft already"),
        (vec!["relabel", &run, "--estimator", "median"], "expected orm, hard, soft or er"),
        (vec!["relabel", &run, "--eta", "x"], "invalid value"),
        (vec!["relabel", &run], "--eta"),
        (vec!["relabel", &run, "--eta", "1", "--estimator", "hard"], "cannot be used with"),
        (vec!["relabel", "nothing", "--eta", "1"], "nothing"),
    ] {
        let answer = tracker.run(&args);
        assert!(answer.code == 2 && answer.stderr.contains(expected), "{args:?}: {}", answer.stderr);
    }
}
