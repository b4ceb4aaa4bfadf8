//! Collections beside writers in other processes, some of which are killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Child, Command};

use serde_json::Value;
use tracker_store::Store;
use tracker_tests::Tracker;

/// Enough that a writer is seen while it writes.
const N_WORDS: usize = 8 << 20;

/// Writes a file without pattern.
fn file(tracker: &Tracker, name: &str, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = std::iter::repeat_with(word).take(N_WORDS).flatten().collect();
    std::fs::write(tracker.folder().join(name), &bytes).unwrap();
    bytes
}

/// Packs that are not whole.
fn unfinished(tracker: &Tracker) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(tracker.store().join("blobs")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "new")).collect()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// Starts to put a file, and stops the process in the middle of writing its pack.
fn stopped_in_the_middle(tracker: &Tracker, name: &str) -> Child {
    let mut child = tracker.spawn(&["artifact", "put", name, name]);
    while !unfinished(tracker).iter().any(|path| path.metadata().is_ok_and(|data| data.len() > 0)) {
        assert!(child.try_wait().unwrap().is_none(), "it was done before it was seen writing");
        std::thread::yield_now();
    }
    signal(&child, "STOP");
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    assert_eq!(unfinished(tracker).len(), 1, "it was done before it was stopped");
    child
}

fn gc(tracker: &Tracker, grace: &str) -> Value {
    tracker.json(&["gc", "--grace", grace]).pop().unwrap()
}

fn holds(tracker: &Tracker, name: &str, bytes: &[u8]) {
    let out = format!("{name}.out");
    let got = tracker.run(&["artifact", "get", name, &out]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(std::fs::read(tracker.folder().join(&out).join(name)).unwrap() == bytes, "{name}");
    std::fs::remove_dir_all(tracker.folder().join(out)).unwrap();
}

#[test]
fn a_collection_leaves_what_another_process_is_writing() {
    let tracker = Tracker::new();
    let first = file(&tracker, "first", 1);
    assert_eq!(tracker.run(&["artifact", "put", "first", "first"]).code, 0);
    // This process serves the engine to the others, so that one that is stopped holds nobody up.
    let _held = Store::open(&tracker.store()).unwrap();
    let second = file(&tracker, "second", 2);
    let mut writer = stopped_in_the_middle(&tracker, "second");
    let pack = unfinished(&tracker);
    for grace in ["60", "0"] {
        let done = gc(&tracker, grace);
        assert_eq!(
            (&done["n_young"], &done["n_packs"], &done["freed_bytes"]),
            (&1.into(), &0.into(), &0.into()),
            "{done}"
        );
        assert_eq!(unfinished(&tracker), pack);
    }
    signal(&writer, "CONT");
    assert!(writer.wait().unwrap().success());
    assert!(unfinished(&tracker).is_empty());
    holds(&tracker, "second", &second);
    holds(&tracker, "first", &first);
}

#[test]
fn what_a_killed_writer_leaves_is_collected_and_nothing_else() {
    for is_served in [true, false] {
        let tracker = Tracker::new();
        let first = file(&tracker, "first", 3);
        assert_eq!(tracker.run(&["artifact", "put", "first", "first"]).code, 0);
        // Without a server, the writer that is killed is itself what held the engine.
        let held = is_served.then(|| Store::open(&tracker.store()).unwrap());
        let second = file(&tracker, "second", 4);
        let mut writer = stopped_in_the_middle(&tracker, "second");
        let n_bytes = unfinished(&tracker)[0].metadata().unwrap().len();
        signal(&writer, "KILL");
        assert!(!writer.wait().unwrap().success());
        assert_eq!(gc(&tracker, "60")["n_young"], 1, "what is young may be on its way in");
        assert_eq!(unfinished(&tracker).len(), 1);
        let done = gc(&tracker, "0");
        assert_eq!((&done["n_packs"], &done["freed_bytes"]), (&1.into(), &n_bytes.into()), "{done}");
        assert!(unfinished(&tracker).is_empty());
        holds(&tracker, "first", &first);
        assert_eq!(tracker.run(&["artifact", "get", "second", "out"]).code, 2);
        assert_eq!(tracker.run(&["artifact", "put", "second", "second"]).code, 0);
        holds(&tracker, "second", &second);
        drop(held);
    }
}
