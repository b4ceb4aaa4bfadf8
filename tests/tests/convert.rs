//! `tracker convert`: another engine keeps a store, and nobody notices but by its speed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tracker_store::{Durability, EngineKind, Point, Recording, Store};
use tracker_tests::{Tracker, new_run};

fn engine(tracker: &Tracker) -> &'static str {
    Store::open(&tracker.store()).unwrap().engine_name()
}

/// A run with a long series, so that a conversion takes a while.
fn fill(tracker: &Tracker) {
    let store = Store::create(&tracker.store()).unwrap();
    let run = store.create_run(&new_run("long", "series")).unwrap().id;
    for part in 0..40_i64 {
        let mut recording = Recording::new();
        for key in 0..10 {
            let points: Vec<Point> = (0..2_000)
                .map(|i| Point::new(part * 2_000 + i, 1_000 + i, ((part * 2_000 + i) * 7_919 % 10_007) as f64))
                .collect();
            recording.put_points(run, &format!("metric {key}"), &points).unwrap();
        }
        store.commit(&recording, Durability::Os).unwrap();
    }
}

/// When a conversion is killed; the folder and the engine to come tell.
type Moment = (&'static str, fn(&Path, &str) -> bool);
const MOMENTS: [Moment; 6] = [
    ("it was started", |_, _| true),
    ("it was begun", |store, _| store.join("CONVERTING").exists()),
    ("there was a copy", |store, to| store.join(format!("data.{to}")).exists()),
    ("the copy had grown", |store, to| n_bytes(&store.join(format!("data.{to}"))) > 1 << 20),
    ("the copy was whole", |store, _| store.join("FORMAT.new").exists()),
    ("the engines were exchanged", |store, to| {
        std::fs::read_to_string(store.join("FORMAT")).is_ok_and(|format| format.trim_end().ends_with(to))
    }),
];

/// The size of a file, or of the log in a folder.
fn n_bytes(path: &Path) -> u64 {
    let file = if path.is_dir() { path.join("db") } else { path.to_path_buf() };
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// What is asked of a store to see that it says the same.
fn answers(tracker: &Tracker) -> Vec<Vec<Value>> {
    let runs = tracker.json(&["ls"]);
    let mut answers = vec![tracker.json(&["query", "claims"]), tracker.json(&["du"])];
    for run in &runs {
        let id = run["id"].as_str().unwrap();
        answers.push(tracker.json(&["show", id]));
        answers.push(tracker.json(&["query", "lineage", id, "--up"]));
    }
    answers.push(runs);
    answers
}

#[test]
fn a_store_answers_the_same_from_every_engine_and_a_study_records_the_same_in_each() {
    let tracker = Tracker::new();
    let digest = tracker.smoke(&[])["record_digest"].clone();
    let before = answers(&tracker);
    for (name, other) in [("sled", "redb"), ("redb", "sled")] {
        let done = tracker.json(&["convert", "--engine", name]).pop().unwrap();
        assert_eq!((&done["converted"], &done["from"], &done["to"]), (&true.into(), &other.into(), &name.into()));
        assert!(done["n_entries"].as_u64().unwrap() > 100, "{done}");
        assert_eq!(engine(&tracker), name);
        assert!(answers(&tracker) == before, "something is not the same under {name}");
        let again = tracker.json(&["convert", "--engine", name]).pop().unwrap();
        assert_eq!((&again["converted"], &again["from"]), (&false.into(), &name.into()));
    }
    assert!(
        tracker.run(&["convert", "--engine", "sled"]).stdout.starts_with("`sled` keeps the store instead of `redb`: ")
    );
    // A study on it, artifacts among what it records.
    assert_eq!(tracker.smoke(&[])["record_digest"], digest);
    let said = tracker.run(&["convert", "--engine", "sled"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "`sled` keeps the store already\n"));
    assert_eq!(tracker.run(&["convert", "--engine", "redb"]).code, 0);
    let digests: BTreeSet<String> =
        tracker.json(&["ls"]).iter().map(|run| run["record_digest"].as_str().unwrap().to_owned()).collect();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_conversion_that_is_killed_at_any_moment_leaves_a_whole_store() {
    let tracker = Tracker::new();
    fill(&tracker);
    let before = answers(&tracker);
    let mut kept = BTreeSet::new();
    for (moment, is_reached) in MOMENTS.iter().chain(&MOMENTS) {
        let from = engine(&tracker);
        let to = if from == "redb" { "sled" } else { "redb" };
        let mut child = tracker.spawn(&["convert", "--engine", to]);
        while !is_reached(&tracker.store(), to) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(answers(&tracker) == before, "killed on the way from {from} to {to} when {moment}");
        kept.insert(engine(&tracker) == from);
        let left: BTreeSet<String> = std::fs::read_dir(tracker.store())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["LOCK", "FORMAT", "blobs", "socket", "data.journal"].contains(&name.as_str()))
            .collect();
        assert_eq!(left, [format!("data.{}", engine(&tracker))].into(), "killed when {moment}");
    }
    assert_eq!(kept.len(), 2, "the old engine is to be seen kept, and the new one");
    let last = if engine(&tracker) == "redb" { "sled" } else { "redb" };
    assert_eq!(tracker.json(&["convert", "--engine", last])[0]["converted"], true);
    assert!(answers(&tracker) == before);
}

#[test]
fn what_cannot_be_converted_is_refused_with_what_to_do() {
    let tracker = Tracker::new();
    let refused = |args: &[&str], parts: &[&str]| {
        let answer = tracker.run(args);
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "expected `{part}` in: {}", answer.stderr);
        }
    };
    refused(&["convert", "--engine", "sled"], &["no store `", "hint: `tracker run STUDY` makes one"]);
    assert!(!tracker.store().exists());
    refused(&["convert", "--engine", "abacus"], &["invalid value 'abacus'", "redb", "sled", "rocksdb"]);
    let store = Store::create(&tracker.store()).unwrap();
    let me = format!("is open in process `{}`; end it and try again", std::process::id());
    refused(&["convert", "--engine", "sled"], &[&me]);
    drop(store);
    if !EngineKind::Rocksdb.is_built() {
        refused(
            &["convert", "--engine", "rocksdb"],
            &["which this build lacks", "build tracker with `--features rocksdb`"],
        );
        std::fs::write(tracker.store().join("FORMAT"), "tracker store, layout 2, engine rocksdb\n").unwrap();
        refused(&["ls"], &["is kept by engine `rocksdb`", "build tracker with `--features rocksdb`"]);
    }
}
