//! Machines that are not as they should be: a file system without locks, a clock that was set back. Both are staged by a library
//! that is loaded before the C library.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and tells what it skips")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tracker_tests::Tracker;

/// The library, built into `folder`; none without a C compiler.
fn odd_machine(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/odd.c");
    let library = folder.join("odd.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
    let Ok(status) = built else {
        println!("SKIP an odd machine: no C compiler; on Debian: apt-get install gcc");
        return None;
    };
    assert!(status.success(), "{} does not compile", source.display());
    Some(library)
}

#[test]
fn a_file_system_without_locks_is_refused_with_reasons_and_nothing_is_made() {
    let tracker = Tracker::new();
    let Some(library) = odd_machine(tracker.folder()) else { return };
    let library = library.to_str().unwrap();
    let odd = [("LD_PRELOAD", library), ("ODD_NO_LOCKS", "1")];
    for args in [&["run", "goedel", "--smoke"][..], &["ls"], &["fsck"]] {
        let answer = tracker.run_with(args, &odd);
        assert!(answer.code > 1, "{args:?}: {}", answer.stderr);
        if args[0] == "run" {
            for part in ["LOCK", "has no file locks", "keep the store on a local disk"] {
                assert!(answer.stderr.contains(part), "expected `{part}` in: {}", answer.stderr);
            }
        }
        let made: Vec<_> = std::fs::read_dir(tracker.store()).map_or_else(
            |_| Vec::new(),
            |entries| entries.map(|entry| entry.unwrap().file_name()).filter(|name| name != "LOCK").collect(),
        );
        assert!(made.is_empty(), "{args:?} made {made:?}");
    }
    // A lock alone is no store; where there are locks, the folder is as good as new.
    for args in [["ls"], ["fsck"]] {
        let answer = tracker.run(&args);
        assert_eq!(answer.code, 2, "{args:?}: {}", answer.stderr);
        assert!(answer.stderr.contains("tracker run STUDY"), "{}", answer.stderr);
    }
    assert_eq!(tracker.smoke(&[])["status"], "finished");
    let answer = tracker.run_with(&["ls"], &odd);
    assert_eq!(answer.code, 3, "{}", answer.stdout);
    assert!(answer.stderr.contains("has no file locks"), "{}", answer.stderr);
    assert_eq!(tracker.run(&["fsck"]).code, 0);
}

#[test]
fn a_clock_set_back_between_processes_loses_and_mixes_nothing() {
    let tracker = Tracker::new();
    let Some(library) = odd_machine(tracker.folder()) else { return };
    let library = library.to_str().unwrap();
    let smoke = ["run", "goedel", "--smoke", "--json"];
    let at = |seconds: &str, args: &[&str]| {
        tracker.run_with(args, &[("LD_PRELOAD", library), ("ODD_SECONDS_AHEAD", seconds)])
    };
    let last = |answer: &tracker_tests::Answer| answer.lines().pop().unwrap();
    let ahead = last(&at("864000", &smoke));
    let now = last(&at("0", &smoke));
    let behind = last(&at("-864000", &smoke));
    for run in [&ahead, &now, &behind] {
        assert_eq!(run["status"], "finished", "{run}");
        assert_eq!(run["record_digest"], now["record_digest"]);
    }
    let listed = tracker.json(&["ls"]);
    let names: Vec<_> = listed.iter().map(|run| run["id"].clone()).collect();
    assert_eq!(
        names,
        [ahead["run"].clone(), now["run"].clone(), behind["run"].clone()],
        "by the clock they were made by"
    );

    // Begun by a clock ahead and killed, it goes on by one that was set back.
    let mut child = tracker.spawn_with(&smoke, &[("LD_PRELOAD", library), ("ODD_SECONDS_AHEAD", "864000")]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    lines.by_ref().take(20).for_each(|line| drop(line.unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = at("-864000", &["run", "--resume", first["run"].as_str().unwrap(), "--json"]);
    assert_eq!(last(&resumed)["record_digest"], now["record_digest"], "{}", resumed.stderr);

    // What a clock ahead put and nothing reaches is collected by neither clock before its time, and nothing reachable ever.
    let file = tracker.folder().join("file");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let put = at("864000", &["artifact", "put", "kept", file.to_str().unwrap()]);
    assert_eq!(put.code, 0, "{}", put.stderr);
    for clock in ["-864000", "0", "864000"] {
        let collected = at(clock, &["gc"]);
        assert_eq!(collected.code, 0, "{}", collected.stderr);
        let got = tracker.folder().join(format!("got{clock}"));
        let answer = at(clock, &["artifact", "get", "kept:latest", got.to_str().unwrap()]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    assert_eq!(tracker.run(&["fsck"]).code, 0);
}
