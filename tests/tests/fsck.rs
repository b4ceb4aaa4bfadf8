//! `tracker fsck` over what real runs leave: clean after every study and after kill -9, exit 1 over damage, and a repair that is killed
//! goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tracker_store::{Durability, Point, Recording, Store};
use tracker_tests::{Tracker, new_run};

/// The bytes of the engine's file.
fn data(tracker: &Tracker) -> PathBuf {
    tracker.store().join("data.redb")
}

fn findings(tracker: &Tracker, args: &[&str]) -> (i32, Vec<Value>) {
    let answer = tracker.run(&[&["fsck", "--json"], args].concat());
    (answer.code, answer.lines())
}

#[test]
fn what_studies_leave_is_clean_and_a_run_that_was_killed_is_a_note() {
    let tracker = Tracker::new();
    for study in ["goedel", "alignment_tax", "grm"] {
        drop(tracker.smoke_of(study, &[]));
    }
    let (code, lines) = findings(&tracker, &[]);
    assert_eq!((code, lines.len()), (0, 1), "{lines:?}");
    assert!(lines[0]["checked"]["n_entries"].as_u64().unwrap() > 1000);
    let mut child = tracker.spawn(&["run", "goedel", "--smoke", "--seed", "7"]);
    while Store::open(&tracker.store()).unwrap().runs().count() < 4 {
        std::thread::yield_now();
    }
    // Beside the run that is written.
    let (code, lines) = findings(&tracker, &[]);
    assert_eq!(code, 0, "{lines:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, lines) = findings(&tracker, &[]);
    assert_eq!(code, 0, "{lines:?}");
    assert!(lines.iter().all(|line| line["level"] != "damage"), "{lines:?}");
}

#[test]
fn damage_is_named_with_file_and_offset_exits_1_and_is_repaired() {
    let tracker = Tracker::new();
    drop(tracker.smoke(&[]));
    let whole = fs::read(data(&tracker)).unwrap();
    let leaf = (4096..whole.len()).step_by(4096).filter(|at| whole[*at] == 1).nth(20).unwrap();
    let mut damaged = whole.clone();
    damaged[leaf + 600] ^= 1;
    fs::write(data(&tracker), &damaged).unwrap();
    let (code, lines) = findings(&tracker, &[]);
    assert_eq!(code, 1);
    assert_eq!(fs::read(data(&tracker)).unwrap(), damaged, "a check wrote");
    let named = lines.iter().find(|line| line["trouble"] == "file").unwrap();
    assert_eq!(named["offset"], leaf as u64, "{named}");
    assert!(named["file"].as_str().unwrap().ends_with("data.redb"));
    let talk = tracker.run(&["fsck"]);
    assert!(talk.stdout.contains("damage: file:") && talk.stderr.contains("hint: `tracker fsck --repair`"), "{talk:?}");
    let repaired = tracker.run(&["fsck", "--repair"]);
    assert!(repaired.code <= 1 && repaired.stdout.contains("set aside: "), "{repaired:?}");
    let (_, lines) = findings(&tracker, &[]);
    assert!(lines.iter().all(|line| line["trouble"] != "file"), "{lines:?}");
    assert_eq!(tracker.run(&["ls"]).code, 0);
}

#[test]
fn a_panic_of_the_engine_over_damage_is_told_as_damage_alone() {
    let tracker = Tracker::new();
    drop(tracker.smoke(&[]));
    let whole = fs::read(data(&tracker)).unwrap();
    let mut n_damaged = 0;
    for leaf in (4096..whole.len()).step_by(4096).filter(|at| whole[*at] == 1) {
        let mut damaged = whole.clone();
        // The ends of the first keys.
        damaged[leaf + 4..leaf + 12].fill(0xff);
        fs::write(data(&tracker), &damaged).unwrap();
        let answer = tracker.run(&["query", "samples"]);
        assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
        if answer.code != 0 {
            assert_eq!(answer.code, 3, "{answer:?}");
            assert!(
                answer.stderr.contains("data.redb` is damaged") && answer.stderr.contains("tracker fsck"),
                "{answer:?}"
            );
            n_damaged += 1;
        }
        if n_damaged == 5 {
            break;
        }
    }
    assert!(n_damaged > 0);
}

#[test]
fn a_repair_that_is_killed_goes_on_and_loses_nothing() {
    let tracker = Tracker::new();
    {
        let store = Store::create(&tracker.store()).unwrap();
        for nth in 0..400 {
            let run = store.create_run(&new_run(&format!("run {nth}"), "many")).unwrap().id;
            let mut recording = Recording::new();
            recording.put_param(run, "lr", &nth.to_string()).unwrap();
            let points: Vec<Point> = (0..600).map(|step| Point::new(step, 0, step as f64)).collect();
            recording.put_points(run, "loss", &points).unwrap();
            recording.put_points(run, "loss", &points[..500]).unwrap();
            store.commit(&recording, Durability::Os).unwrap();
        }
    }
    let all = tracker.json(&["query", "runs", "--limit", "1000"]);
    let engine = tracker.store();
    let n_removed = remove_derived(&engine);
    assert!(n_removed > 2000, "{n_removed}");
    let mut n_killed = 0;
    for millis in [5, 20, 40, 80, 160, 320] {
        let mut child = tracker.spawn(&["fsck", "--repair", "--json"]);
        std::thread::sleep(Duration::from_millis(millis));
        n_killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(n_killed > 0);
    let repaired = tracker.run(&["fsck", "--repair"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert_eq!(findings(&tracker, &[]).0, 0);
    assert_eq!(tracker.json(&["query", "runs", "--limit", "1000"]), all);
}

/// Removes every entry that follows from others, but heads.
fn remove_derived(dir: &std::path::Path) -> usize {
    use std::ops::ControlFlow;
    use tracker_engine::{Batch, Direction, KeyRange, Options};
    let engine = tracker_engine::open(dir, &Options::default()).unwrap();
    let mut batch = Batch::new();
    for tag in [0x03, 0x12, 0x22, 0x23, 0x24, 0x33, 0x34, 0x42] {
        let visit = &mut |key: &[u8], _value: &[u8]| {
            batch.delete(key);
            ControlFlow::Continue(())
        };
        engine.range(KeyRange::prefix(&[tag]), Direction::Ascending, visit).unwrap();
    }
    engine.commit(&batch, Durability::Sync).unwrap();
    batch.n_ops()
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let tracker = Tracker::new();
    let answer = tracker.run(&["fsck"]);
    assert_eq!(answer.code, 2, "{answer:?}");
    fs::create_dir(tracker.store()).unwrap();
    fs::write(tracker.store().join("notes.txt"), "mine").unwrap();
    let answer = tracker.run(&["fsck", "--repair"]);
    assert!(answer.code == 2 && answer.stderr.contains("not part of a tracker store"), "{answer:?}");
    assert_eq!(fs::read_dir(tracker.store()).unwrap().count(), 1);
}
