//! A run that is killed again and again, and resumed each time, ends with the records of one that was left alone: every study, fifty
//! kills in all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use tracker_tests::Tracker;

/// Kills of each study.
const N_KILLS: u32 = 5;

/// Kills a run after a part of the time that it takes, over and over, and lets it end.
fn killed_again_and_again(study: &str) {
    let tracker = Tracker::new();
    let started = Instant::now();
    let whole = tracker.smoke_of(study, &[]);
    let takes = started.elapsed();
    assert_eq!(whole["status"], "finished", "{whole}");
    let mut run = String::new();
    for nth in 0..N_KILLS {
        let mut child = if run.is_empty() {
            tracker.spawn(&["run", study, "--smoke", "--json"])
        } else {
            tracker.spawn(&["run", "--resume", &run, "--json"])
        };
        // Other moments each time; the first ones early, where nothing may be recorded yet.
        let part = f64::from(1 + nth * nth) / f64::from(2 + N_KILLS * N_KILLS) * (0.5 + f64::from(nth % 2));
        std::thread::sleep(takes.mul_f64(part).max(Duration::from_millis(20)));
        child.kill().unwrap();
        child.wait().unwrap();
        let begun = tracker.json(&["ls"]);
        let begun = begun.iter().filter(|row| row["id"] != whole["run"]);
        run = begun.map(|row| row["id"].as_str().unwrap().to_owned()).next().unwrap_or_default();
    }
    if run.is_empty() {
        drop(tracker.smoke_of(study, &[]));
    } else {
        let answer = tracker.run(&["run", "--resume", &run, "--json"]);
        // It may have ended before the last kill.
        assert!(answer.code <= 1 || answer.stderr.contains("is finished"), "{}", answer.stderr);
    }
    for row in tracker.json(&["ls"]) {
        assert_eq!(
            (&row["status"], &row["record_digest"]),
            (&whole["status"], &whole["record_digest"]),
            "{study}: {row}"
        );
    }
}

macro_rules! studies {
    ($($study:ident),+ $(,)?) => {
        $(
            #[test]
            fn $study() {
                killed_again_and_again(stringify!($study));
            }
        )+

        /// No study is left out.
        #[test]
        fn every_study_is_here() {
            let mut here = [$(stringify!($study)),+];
            here.sort_unstable();
            let listed = Tracker::new().json(&["studies"]);
            let mut listed: Vec<&str> = listed.iter().map(|study| study["study"].as_str().unwrap()).collect();
            listed.sort_unstable();
            assert_eq!(listed, here);
        }
    };
}

studies!(alignment_tax, correlation_qa, counter_animal, dpa, er_prm, goedel, grm, r_tuning, random_features, self_moa,);
