//! A store of an older format is refused unchanged, backed up, migrated, and asked like any other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tracker_engine::{Batch, Direction, Durability, Entry, KeyRange, Options};
use tracker_tests::Tracker;

/// The golden store of format 1, as the entries it has.
fn golden() -> Vec<Entry> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/tests/golden/store-1.txt");
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(key, value)| (bytes(key), bytes(value))).collect()
}

/// A store of format 1.
fn old() -> Tracker {
    let tracker = Tracker::new();
    let engine = tracker_engine::open(&tracker.store(), &Options::default()).unwrap();
    let mut batch = Batch::new();
    for (key, value) in golden() {
        batch.put(&key, &value);
    }
    engine.commit(&batch, Durability::Sync).unwrap();
    tracker
}

fn entries(tracker: &Tracker) -> Vec<Entry> {
    let engine = tracker_engine::open(&tracker.store(), &Options::default()).unwrap();
    engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap()
}

#[test]
fn a_store_of_format_1_becomes_one_of_this_builds_format_after_a_backup_that_can_be_restored() {
    let tracker = old();
    let refused = tracker.run(&["ls"]);
    assert!(refused.code == 2 && refused.stderr.contains("tracker migrate"), "{}", refused.stderr);
    let rehearsed = tracker.json(&["migrate", "--dry-run"]).pop().unwrap();
    assert_eq!(
        (&rehearsed["done"], &rehearsed["migrations"][0]["n_written"]),
        (&false.into(), &12.into()),
        "{rehearsed}"
    );
    assert_eq!(entries(&tracker), golden(), "refused and rehearsed, and yet changed");

    let done = tracker.run(&["migrate", "--json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!((&done.lines()[0]["from"], &done.lines()[0]["to"]), (&1.into(), &3.into()));
    let backup = tracker.folder().join("data.format-1.backup");
    assert!(done.stderr.contains("data.format-1.backup") && backup.is_dir(), "{}", done.stderr);
    let found = tracker.json(&["query", "runs", "params.lr <= 0.1", "--order-by", "name ASC"]);
    let names: Vec<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["run 0", "run 1", "run 2"]);
    let again = tracker.json(&["migrate"]).pop().unwrap();
    assert_eq!(again["migrations"].as_array().map(Vec::len), Some(0), "{again}");

    // The backup is of the store as it was.
    let other = Tracker::new();
    let restored = other.run(&["restore", backup.to_str().unwrap()]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(entries(&other), golden());
    let without = other.run(&["migrate", "--no-backup"]);
    assert!(without.code == 0 && without.stdout.contains("wrote 12 entries"), "{}{}", without.stdout, without.stderr);
    assert_eq!(entries(&other), entries(&tracker));
}

#[test]
fn a_store_of_a_newer_format_is_refused_unchanged() {
    let tracker = Tracker::new();
    let engine = tracker_engine::open(&tracker.store(), &Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(b"\x01format", &99_u32.to_be_bytes());
    engine.commit(&batch, Durability::Sync).unwrap();
    drop(engine);
    let before = entries(&tracker);
    for command in [["ls"].as_slice(), &["migrate"], &["migrate", "--dry-run"], &["backup", "out"]] {
        let refused = tracker.run(command);
        assert!(refused.code == 2 && refused.stderr.contains("newer"), "{command:?}: {}", refused.stderr);
    }
    assert_eq!(entries(&tracker), before);
}
