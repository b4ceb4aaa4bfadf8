//! Merges and the store: what was made of what is recorded, found again, and made again bit for bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tracker_tests::Tracker;

/// Writes a model of two layers in f32 whose numbers depend on `seed`.
fn model(tracker: &Tracker, name: &str, seed: u32) {
    let dir = tracker.folder().join(name);
    std::fs::create_dir(&dir).unwrap();
    let names = ["lm_head", "model.embed_tokens", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"];
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (nth, name) in (0_u32..).zip(names) {
        let begin = data.len();
        for i in 0..12_u32 {
            let number = ((seed + nth) * 7919 + i * 104_729) % 1000;
            data.extend((number as f32 / 500.0 - 1.0).to_le_bytes());
        }
        header.insert(
            format!("{name}.weight"),
            json!({"dtype": "F32", "shape": [3, 4], "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    std::fs::write(dir.join("config.json"), format!("{{\"num_hidden_layers\": 2, \"seed\": {seed}}}")).unwrap();
}

fn recipe(tracker: &Tracker, file: &str, models: [&str; 2], share: f64) {
    let other = 1.0 - share;
    let text = format!(
        "merge_method: linear\nmodels: [{{model: \"{}\"}}, {{model: \"{}\"}}]\n\
         blocks:\n  - {{layers: [0, 1], weights: {{\"{0}\": {share}, \"{1}\": {other}}}}}\n  \
         - {{layers: [1, 2], weights: {{\"{1}\": 1}}}}\nrest: {{\"{0}\": 1}}\n",
        models[0], models[1]
    );
    std::fs::write(tracker.folder().join(file), text).unwrap();
}

/// A folder with two models and a recipe of both.
fn scene() -> Tracker {
    let tracker = Tracker::new();
    model(&tracker, "pre", 1);
    model(&tracker, "post", 2);
    recipe(&tracker, "mix.yml", ["pre", "post"], 0.25);
    tracker
}

fn one(tracker: &Tracker, args: &[&str]) -> Value {
    tracker.json(args).pop().unwrap()
}

fn weights(dir: &Path) -> Vec<u8> {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a text, got {value}"))
}

/// The nodes of a graph by label, and its edges that have a weight as (from, to, block, weight).
fn ancestors(tracker: &Tracker, node: &str) -> (Vec<String>, Vec<(String, String, f64)>) {
    let graph = one(tracker, &["query", "lineage", node]);
    let label = |id: &Value| {
        let nodes = graph["nodes"].as_array().unwrap();
        text(&nodes.iter().find(|node| node["id"] == *id).unwrap()["label"]).to_owned()
    };
    let nodes = graph["nodes"].as_array().unwrap().iter().map(|node| label(&node["id"])).collect();
    let edges = graph["edges"].as_array().unwrap().iter().filter(|edge| edge["weight"].is_number());
    let mut edges: Vec<_> = edges
        .map(|edge| (label(&edge["to"]), text(&edge["block"]).to_owned(), edge["weight"].as_f64().unwrap()))
        .collect();
    edges.sort_by(|a, b| a.partial_cmp(b).unwrap());
    (nodes, edges)
}

#[test]
fn a_merge_is_recorded_with_its_parents_and_the_same_merge_once() {
    let tracker = scene();
    let made = one(&tracker, &["merge", "mix.yml", "out"]);
    let node = text(&made["checkpoint"]).to_owned();
    assert!(made["run"].is_string());
    let (nodes, edges) = ancestors(&tracker, "checkpoint:out");
    for label in ["out", "pre", "post"] {
        assert!(nodes.iter().any(|node| node == label), "{label}: {nodes:?}");
    }
    let edge = |to: &str, block: &str, weight: f64| (to.to_owned(), block.to_owned(), weight);
    let want = [
        edge("post", "layers 0..1", 0.75),
        edge("post", "layers 1..2", 1.0),
        edge("post", "rest", 0.0),
        edge("pre", "layers 0..1", 0.25),
        edge("pre", "layers 1..2", 0.0),
        edge("pre", "rest", 1.0),
    ];
    assert_eq!(edges, want);
    let down = one(&tracker, &["query", "lineage", "checkpoint:pre", "--down"]);
    assert!(down["nodes"].as_array().unwrap().iter().any(|found| found["id"] == node.as_str()), "{down}");

    let labels = |tracker: &Tracker| {
        let mut labels: Vec<String> =
            tracker.json(&["query", "checkpoints"]).iter().map(|row| text(&row["label"]).to_owned()).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(&tracker), ["out", "post", "pre"]);
    let recipes = tracker.json(&["query", "recipes"]);
    assert_eq!((recipes.len(), text(&recipes[0]["method"])), (1, "linear"));
    // Known by digest: the digest of a parent's weights is its manifest, and the recipe names no folder.
    let pre = tracker.json(&["query", "checkpoints", "label = 'pre'"]);
    assert_eq!(pre[0]["manifest"], made["parents"]["pre"]);
    assert!(!text(&recipes[0]["text"]).contains("\"pre\""), "{recipes:?}");
    assert_eq!(tracker.json(&["ls"]).len(), 1);
    assert_eq!(tracker.json(&["ls"])[0]["status"], "finished");
    // Nothing was copied.
    assert!(tracker.json(&["artifact", "ls"]).is_empty());

    // Once more, spelled in another way, into another folder.
    let spelled = std::fs::read_to_string(tracker.folder().join("mix.yml")).unwrap().replace("0.25", "2.5e-1");
    std::fs::write(tracker.folder().join("same.yml"), format!("# The same.\nseed: 0\n{spelled}")).unwrap();
    let again = one(&tracker, &["merge", "same.yml", "again"]);
    assert_eq!((&again["checkpoint"], &again["run"]), (&made["checkpoint"], &Value::Null));
    assert_eq!(labels(&tracker), ["out", "post", "pre"]);
    assert_eq!((tracker.json(&["ls"]).len(), tracker.json(&["query", "recipes"]).len()), (1, 1));
    // Another ratio rests on the same parents, and what was merged can be a parent.
    recipe(&tracker, "other.yml", ["pre", "again"], 0.5);
    let other = one(&tracker, &["merge", "other.yml", "other"]);
    assert_eq!(labels(&tracker), ["other", "out", "post", "pre"]);
    let (nodes, _) = ancestors(&tracker, text(&other["checkpoint"]));
    assert!(nodes.contains(&"post".to_owned()), "the ancestry goes on through the first merge: {nodes:?}");
}

#[test]
fn a_merge_makes_a_store_unless_it_is_told_not_to_or_nothing_is_merged() {
    let tracker = scene();
    assert_eq!(tracker.run(&["merge", "mix.yml", "--dry-run"]).code, 0);
    assert_eq!(tracker.run(&["merge", "mix.yml", "alone", "--no-record"]).code, 0);
    recipe(&tracker, "bad.yml", ["pre", "nowhere"], 0.5);
    let answer = tracker.run(&["merge", "bad.yml", "bad"]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("`nowhere`") && answer.stderr.contains("store"), "{}", answer.stderr);
    std::fs::write(tracker.folder().join("ties.yml"), "merge_method: ties\nmodels: [{model: pre}]\n").unwrap();
    let answer = tracker.run(&["merge", "ties.yml", "bad"]);
    assert!(answer.code == 2 && answer.stderr.contains("base_model"), "{}", answer.stderr);
    let answer = tracker.run(&["merge", "mix.yml"]);
    assert_eq!(answer.code, 2, "a merge to nowhere: {}", answer.stderr);
    assert!(!tracker.store().exists() && !tracker.folder().join("bad").exists());
    assert!(weights(&tracker.folder().join("alone")).len() == 4 * 48);
    // A merge that fails leaves no record.
    let answer = tracker.run(&["merge", "mix.yml", "alone"]);
    assert!(answer.code == 2 && answer.stderr.contains("`alone` is there already"), "{}", answer.stderr);
    assert!(tracker.json(&["query", "checkpoints"]).is_empty());
    assert_eq!(tracker.run(&["merge", "mix.yml", "out"]).code, 0);
    assert!(tracker.store().exists());
}

#[test]
fn a_virtual_merge_writes_no_weights_and_is_made_later_bit_for_bit() {
    let tracker = scene();
    // Folders are not enough; the error says which command is, and with it the same merge works.
    for name in ["pre", "post"] {
        let answer = tracker.run(&["merge", "mix.yml", "--virtual"]);
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        let hint = answer.stderr.lines().find_map(|line| line.strip_prefix("hint: tracker ")).unwrap();
        let words: Vec<&str> = hint.split(' ').map(|word| word.trim_matches('"')).collect();
        assert_eq!(words[..2], ["artifact", "put"], "{hint}");
        assert!(hint.contains(if words[2] == "pre" { "pre" } else { "post" }), "{name}: {hint}");
        assert_eq!(tracker.run(&words).code, 0, "{hint}");
    }
    let made = one(&tracker, &["merge", "mix.yml", "--virtual"]);
    let files = |tracker: &Tracker| std::fs::read_dir(tracker.folder()).unwrap().count();
    assert_eq!(files(&tracker), 4, "two models, a recipe and the store");
    assert!(
        std::fs::read_dir(tracker.store())
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().ends_with(".parents") })
    );
    let (nodes, edges) = ancestors(&tracker, "checkpoint:mix");
    assert!(nodes.contains(&"pre".to_owned()) && edges.len() == 6, "{nodes:?} {edges:?}");

    // The folders may go: the store has all it takes.
    let plain = one(&tracker, &["merge", "mix.yml", "plain", "--no-record"]);
    assert_eq!(plain["output"], made["output"]);
    let folder = one(&tracker, &["merge", "mix.yml", "folder"]);
    assert_eq!((&folder["checkpoint"], &folder["run"]), (&made["checkpoint"], &Value::Null));
    for name in ["pre", "post", "folder"] {
        std::fs::remove_dir_all(tracker.folder().join(name)).unwrap();
    }
    let again = one(&tracker, &["materialize", "checkpoint:mix", "made"]);
    assert_eq!(again["output"], made["output"]);
    assert_eq!(weights(&tracker.folder().join("made")), weights(&tracker.folder().join("plain")));

    // Parents by the names of the store: a virtual one, an artifact, a digest.
    recipe(&tracker, "deep.yml", ["checkpoint:mix", "artifact:post"], 0.5);
    let dry = tracker.run(&["merge", "deep.yml", "--dry-run"]);
    assert!(dry.code == 2 && dry.stderr.contains("tracker materialize"), "{}", dry.stderr);
    let deep = one(&tracker, &["merge", "deep.yml", "--virtual", "--label", "deep"]);
    recipe(&tracker, "flat.yml", ["made", "post"], 0.5);
    let flat = one(&tracker, &["merge", "flat.yml", "flat"]);
    assert_eq!(flat["output"], deep["output"]);
    assert_eq!(
        (&flat["checkpoint"], &flat["run"]),
        (&deep["checkpoint"], &Value::Null),
        "the same parents, named otherwise"
    );
    let deep_made = one(&tracker, &["materialize", "checkpoint:deep", "deep"]);
    assert_eq!(deep_made["output"], flat["output"]);
    recipe(&tracker, "stored.yml", ["pre", "post"], 0.5);
    let dry = one(&tracker, &["merge", "stored.yml", "--dry-run"]);
    assert_eq!((&dry["n_tensors"], dry["problems"].as_array().unwrap().len()), (&json!(4), 0), "{dry}");
}

#[test]
fn a_merge_of_folders_can_be_made_again_once_they_are_in_the_store() {
    let tracker = scene();
    let made = one(&tracker, &["merge", "mix.yml", "out"]);
    let answer = tracker.run(&["materialize", "checkpoint:out", "again"]);
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("tracker artifact put \"p"), "{}", answer.stderr);
    assert_eq!(tracker.run(&["artifact", "put", "old", "pre"]).code, 0);
    assert_eq!(tracker.run(&["artifact", "put", "new", "post"]).code, 0);
    let again = one(&tracker, &["materialize", "checkpoint:out", "again"]);
    assert_eq!(again["output"], made["output"]);
    assert_eq!(weights(&tracker.folder().join("again")), weights(&tracker.folder().join("out")));
    // A killed process leaves its copies of parents; the next takes them away, but not those that are in use.
    let left = |name: &str| tracker.folder().join(format!(".third.{name}.parents"));
    for name in ["1", "2"] {
        std::fs::create_dir(left(name)).unwrap();
        std::fs::write(left(name).join("lock"), "").unwrap();
    }
    let used = File::open(left("2").join("lock")).unwrap();
    used.lock().unwrap();
    assert_eq!(tracker.run(&["materialize", "checkpoint:out", "third"]).code, 0);
    assert!(!left("1").exists() && left("2").exists());
    std::fs::remove_dir_all(left("2")).unwrap();
    let pre = tracker.run(&["artifact", "get", "checkpoint:pre", "copy"]);
    assert_eq!(pre.code, 0, "{}", pre.stderr);
    assert_eq!(weights(&tracker.folder().join("copy")), weights(&tracker.folder().join("pre")));
    assert!(
        !tracker
            .folder()
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".parents") })
    );
}

#[test]
fn a_parent_that_changed_under_its_old_size_and_time_is_another_parent() {
    let tracker = scene();
    let first = one(&tracker, &["merge", "mix.yml", "one"]);
    let file = tracker.folder().join("post/model.safetensors");
    let data = std::fs::metadata(&file).unwrap();
    let writer = File::options().write(true).open(&file).unwrap();
    // A sign in the last layer, of which all of `post` is taken.
    let mut byte = [0];
    reader(&file).read_exact_at(&mut byte, data.len() - 1).unwrap();
    writer.write_all_at(&[byte[0] ^ 0x80], data.len() - 1).unwrap();
    writer.set_modified(data.modified().unwrap()).unwrap();
    drop(writer);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), data.len());
    let second = one(&tracker, &["merge", "mix.yml", "two"]);
    assert_ne!(second["output"], first["output"]);
    assert_ne!(second["parents"]["post"], first["parents"]["post"]);
    assert_eq!(second["parents"]["pre"], first["parents"]["pre"]);
    assert!(second["run"].is_string());
    let posts = tracker.json(&["query", "checkpoints", "label = 'post'"]);
    assert_eq!(posts.len(), 2);
    // What it is now is what a store that knows nothing finds.
    let fresh = scene();
    std::fs::copy(&file, fresh.folder().join("post/model.safetensors")).unwrap();
    let fresh = one(&fresh, &["merge", "mix.yml", "out"]);
    assert_eq!((&fresh["parents"], &fresh["output"]), (&second["parents"], &second["output"]));
}

fn reader(path: &Path) -> File {
    File::options().read(true).open(path).unwrap()
}
