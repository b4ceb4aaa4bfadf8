//! The traps that reward studies of others fell into: each is set here, and must stop the run with an error that says what
//! is wrong, where, and leave nothing half done.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tracker_store::{Durability, Error, Point, Recording, Store};
use tracker_tests::{Tracker, new_run};

/// A small model with a reward model's head, in folders, and files to go with them.
struct Scene {
    tracker: Tracker,
}

impl Scene {
    /// Folders `base` and `reward`, and `prompts.jsonl`.
    fn new() -> Self {
        let tracker = Tracker::new();
        drop(tracker.smoke_of("dpa", &[]));
        let scene = Self { tracker };
        for (label, folder) in [("base", "base"), ("reward model", "reward")] {
            let at = scene.path(folder);
            let answer = scene.tracker.run(&["materialize", &format!("checkpoint:{label}"), at.to_str().unwrap()]);
            assert_eq!(answer.code, 0, "{}", answer.stderr);
        }
        let mut prompts = String::new();
        for at in 0..24 {
            writeln!(prompts, "{{\"prompt\": \"facts a{} b{} ask a = {at}\"}}", at % 4, at / 4 % 4).unwrap();
        }
        scene.write("prompts.jsonl", &prompts);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tracker.folder().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A copy of a folder, to be damaged.
    fn copy(&self, from: &str, to: &str) {
        for file in fs::read_dir(self.path(from)).unwrap() {
            let file = file.unwrap();
            self.write(&format!("{to}/{}", file.file_name().to_str().unwrap()), fs::read(file.path()).unwrap());
        }
    }

    /// A plan of `dpa` on a policy and a reward model from folders.
    fn dpa(&self, policy: &str, reward: &str, attributes: &str) -> String {
        let [policy, reward, prompts] =
            [policy, reward, "prompts.jsonl"].map(|name| self.path(name).display().to_string());
        format!(
            "study = 'dpa'\n[models]\npolicy = '{policy}'\nreward = '{reward}'\ntemplate = '{{system}} {{prompt}}'\nmax_tokens = 4\n\
             [data]\nprompts = '{prompts}'\n[reward]\nattributes = [{attributes}]\nhelpfulness = {{ recall = 1.0 }}\n\
             verbosity = {{ verbosity = 1.0 }}\n[directions]\nn_measured = 3\n[rsf]\nn_warm_up = 4\nrounds = 1\nn_prompts = 4\n\
             n_directions = 2\nn_samples = 2\n[measure]\nn_prompts = 4\nn_resamples = 60\n[baselines]\nmorlhf = []\nsoups = []\n\
             steer_lm = []\ndpo = []\nn_prompts = 4\n"
        )
    }

    /// A plan of `grm` on published pairs.
    fn grm(&self, base: &str, train: &[&str]) -> String {
        let train: Vec<String> = train.iter().map(|name| format!("'{}'", self.path(name).display())).collect();
        format!(
            "study = 'grm'\n[data]\nbase = '{}'\ntrain = [{}]\ntrials = ['{}']\n[texts]\nn_test = 4\n[pairs]\nsizes = [4]\n\
             [rm]\nrepeats = 2\nensemble = 0\nhidden = 8\n[ppo]\nrepeats = 0\n",
            self.path(base).display(),
            train.join(", "),
            self.path("bench.jsonl").display()
        )
    }

    /// Pairs as Unified-Feedback has them.
    fn pairs(&self) -> Vec<String> {
        let said = |asked: &str, answered: &str| serde_json::json!([{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]);
        let row = |at: usize| {
            let asked = format!("facts a{} b{} ask a", at % 4, at / 4 % 4);
            serde_json::json!({
                "id": format!("row {at}"), "source": "made", "conv_A": said(&asked, "a0"), "conv_B": said(&asked, "b0 b1"),
                "conv_A_rating": 1.0, "conv_B_rating": 4.0,
            })
            .to_string()
        };
        self.write(
            "bench.jsonl",
            (0..4).fold(String::new(), |all, at| {
                all + &serde_json::json!({
                    "id": at.to_string(), "prompt": "facts a0 ask a", "chosen": "a0", "rejected": format!("a{at} b0"), "subset": "math-prm",
                })
                .to_string()
                    + "\n"
            }),
        );
        (0..12).map(row).collect()
    }

    /// Asserts that a plan ends as an input error that says all of `parts`.
    fn refuses(&self, plan: &str, parts: &[&str]) {
        self.write("plan.toml", plan);
        let answer = self.tracker.run(&["run", self.path("plan.toml").to_str().unwrap()]);
        assert_eq!(answer.code, 2, "{parts:?}: {}\n{}", answer.stdout, answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "expected `{part}` in {}", answer.stderr);
        }
    }
}

const ATTRIBUTES: &str = "'recall', 'hallucination', 'padding', 'verbosity'";

#[test]
fn a_head_that_is_absent_of_another_model_or_not_finite_stops_the_run() {
    let scene = Scene::new();
    // As it is, it works: what follows is refused for what was done to it.
    scene.write("plan.toml", scene.dpa("base", "reward", ATTRIBUTES));
    let answer = scene.tracker.run(&["run", scene.path("plan.toml").to_str().unwrap()]);
    assert!(answer.code <= 1, "{}", answer.stderr);

    scene.refuses(&scene.dpa("base", "base", ATTRIBUTES), &["base", "head.json"]);
    scene.refuses(
        &scene.dpa("base", "reward", "'verbosity', 'recall', 'hallucination', 'padding'"),
        &["outputs", "recall"],
    );
    // A head on a trunk it was not trained with.
    scene.copy("reward", "mixed");
    fs::copy(scene.path("base/model.safetensors"), scene.path("mixed/model.safetensors")).unwrap();
    scene.refuses(&scene.dpa("base", "mixed", ATTRIBUTES), &["mixed", "trunk"]);
    // A head of another kind, and one whose keys are others: what is missing would be drawn at random.
    scene.copy("reward", "other");
    let about = fs::read_to_string(scene.path("other/head.json")).unwrap();
    scene.write("other/head.json", about.replacen("\"linear\"", "\"mlp\"", 1).replacen('{', "{\"hidden\": 8,", 1));
    scene.refuses(&scene.dpa("base", "other", ATTRIBUTES), &["other", "score.weight", "expected shape"]);
    scene.copy("reward", "renamed");
    let mut head = fs::read(scene.path("renamed/head.safetensors")).unwrap();
    let at = head.windows(12).position(|bytes| bytes == b"score.weight").unwrap();
    head[at..at + 12].copy_from_slice(b"value.weight");
    scene.write("renamed/head.safetensors", head);
    scene.refuses(&scene.dpa("base", "renamed", ATTRIBUTES), &["renamed", "missing", "score.weight", "value.weight"]);
    // Rewards that are NaN, wherever they would come from.
    scene.copy("reward", "nan");
    let mut head = fs::read(scene.path("nan/head.safetensors")).unwrap();
    let end = head.len();
    head[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    scene.write("nan/head.safetensors", head);
    scene.refuses(&scene.dpa("base", "nan", ATTRIBUTES), &["nan", "finite", "NaN"]);
    // The runs that stopped say why.
    let failed = scene.tracker.json(&["query", "runs", "status = 'failed' AND message LIKE '%head.json%'"]);
    assert_eq!(failed.len(), 1, "{failed:?}");
}

#[test]
fn null_and_nan_ratings_truncated_files_and_shards_of_one_name_stop_the_run() {
    let scene = Scene::new();
    let rows = scene.pairs();
    let whole = rows.join("\n") + "\n";
    scene.write("train.jsonl", &whole);
    scene.write("plan.toml", scene.grm("base", &["train.jsonl"]));
    let answer = scene.tracker.run(&["run", scene.path("plan.toml").to_str().unwrap()]);
    assert!(answer.code <= 1, "{}", answer.stderr);

    for (rating, said) in [("null", "null"), ("NaN", "NaN")] {
        scene.write("bad.jsonl", whole.replacen("\"conv_B_rating\":4.0", &format!("\"conv_B_rating\":{rating}"), 1));
        scene.refuses(&scene.grm("base", &["bad.jsonl"]), &["bad.jsonl", "row 1", "conv_B_rating", said]);
    }
    scene.write("cut.jsonl", &whole[..whole.len() - 40]);
    scene.refuses(&scene.grm("base", &["cut.jsonl"]), &["cut.jsonl", "row 12", "cut off"]);
    let (first, second) = (rows[..6].join("\n"), rows[6..].join("\n"));
    scene.write("a/shard.jsonl", first);
    scene.write("b/shard.jsonl", second);
    scene.refuses(&scene.grm("base", &["a/shard.jsonl", "b/shard.jsonl"]), &["shard.jsonl", "one data set"]);
}

#[test]
fn an_adapter_that_was_not_merged_is_refused_wherever_a_model_folder_is_opened() {
    let scene = Scene::new();
    scene.write("train.jsonl", scene.pairs().join("\n") + "\n");
    scene.copy("base", "adapted");
    scene.copy("reward", "judge");
    for folder in ["adapted", "judge"] {
        scene.write(&format!("{folder}/adapter_config.json"), "{\"r\": 32}");
    }
    let said = ["adapter_config.json", "merge_and_unload"];
    scene.refuses(&scene.grm("adapted", &["train.jsonl"]), &said);
    scene.refuses(&scene.dpa("adapted", "reward", ATTRIBUTES), &said);
    scene.refuses(&scene.dpa("base", "judge", ATTRIBUTES), &said);
    scene.write("text.txt", "facts a0 ask a");
    let tax = format!(
        "study = 'alignment_tax'\n[models]\nbefore = '{}'\nafter = '{}'\nprompts = '{}'\ntexts = ['{}']\nwindow = 8\n",
        scene.path("base").display(),
        scene.path("adapted").display(),
        scene.path("prompts.jsonl").display(),
        scene.path("text.txt").display()
    );
    scene.refuses(&tax, &said);
    scene.write("recipe.yml", "merge_method: linear\nmodels: [{model: base, parameters: {weight: 0.5}}, {model: adapted, parameters: {weight: 0.5}}]\n");
    let answer =
        scene.tracker.run(&["merge", scene.path("recipe.yml").to_str().unwrap(), scene.path("out").to_str().unwrap()]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(said.iter().all(|part| answer.stderr.contains(part)), "{}", answer.stderr);
    assert!(!scene.path("out").exists());
    // The adapter alone, without weights.
    fs::remove_file(scene.path("adapted/model.safetensors")).unwrap();
    scene.refuses(&scene.grm("adapted", &["train.jsonl"]), &said);
}

#[test]
fn metrics_of_one_name_and_two_definitions_are_not_compared() {
    let tracker = Tracker::new();
    let store = Store::create(&tracker.store()).unwrap();
    let run = |name: &str, definition: &str, values: [f64; 3]| {
        let run = store.create_run(&new_run(name, "kl")).unwrap().id;
        let mut recording = Recording::new();
        recording.put_param(run, "measure.kl3", definition).unwrap();
        let points: Vec<Point> = (0..).zip(values).map(|(step, value)| Point::new(step, step, value)).collect();
        recording.put_points(run, "kl3", &points).unwrap();
        store.commit(&recording, Durability::Sync).unwrap();
        // Within a run a name has one meaning.
        let mut other = Recording::new();
        other.put_param(run, "measure.kl3", "something else").unwrap();
        assert!(matches!(store.commit(&other, Durability::Sync), Err(Error::Conflict { .. })));
    };
    run("ours", "e^(−d) − 1 + d", [1.0, 2.0, 3.0]);
    run("also ours", "e^(−d) − 1 + d", [0.5, 1.5, 2.5]);
    run("theirs", "|d|", [1.0, 1.0, 1.0]);
    drop(store);
    let told = tracker.json(&["query", "metrics", "ours", "kl3", "--less", "also ours:kl3"]).pop().unwrap();
    assert_eq!((told["estimate"]["value"].as_f64(), told["n"].as_i64()), (Some(0.5), Some(3)));
    assert_eq!((told["estimate"]["low"].as_f64(), told["estimate"]["high"].as_f64()), (Some(0.5), Some(0.5)));
    for args in [
        vec!["query", "metrics", "ours", "kl3", "--less", "theirs:kl3"],
        vec!["pareto", "ours", "theirs", "--objective", "kl3:min"],
    ] {
        let answer = tracker.run(&args);
        assert_eq!(answer.code, 2, "{args:?}: {}", answer.stderr);
        for part in ["`kl3`", "not the same measure", "e^(−d) − 1 + d", "|d|"] {
            assert!(answer.stderr.contains(part), "{args:?}: {}", answer.stderr);
        }
    }
    assert_eq!(tracker.run(&["pareto", "ours", "also ours", "--objective", "kl3:min"]).code, 0);
}
