//! Runs that move from one store to another: with all they came from, killed on the way, refused where they differ.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracker_store::{Digest, Durability, Finish, Point, Recording, RowKey, RunId, Sample, Stage, Status, Store};
use tracker_tests::{Answer, Random, Tracker, content, new_run};

fn over(tracker: &Tracker, store: &Path, args: &[&str]) -> Answer {
    tracker.run(&[&["--store", store.to_str().unwrap()], args].concat())
}

fn json_over(tracker: &Tracker, store: &Path, args: &[&str]) -> Vec<Value> {
    let answer = over(tracker, store, &[args, &["--json"]].concat());
    assert_eq!(answer.code, 0, "{args:?}: {}", answer.stderr);
    answer.lines()
}

fn path(tracker: &Tracker, name: &str) -> PathBuf {
    tracker.folder().join(name)
}

/// What commands say of a run.
fn said(tracker: &Tracker, store: &Path, run: &str) -> Vec<String> {
    let all: [&[&str]; 5] = [
        &["show", run, "--json"],
        &["report", run, "--json"],
        &["query", "figures", "--run", run, "--limit", "10000", "--json"],
        &["query", "samples", "--run", run, "--limit", "10000", "--json"],
        &["query", "lineage", run, "--up", "--limit", "5000", "--json"],
    ];
    let ask = |args: &[&str]| {
        let answer = over(tracker, store, args);
        assert!(answer.code <= 1, "{args:?}: {}", answer.stderr);
        answer.stdout
    };
    let mut said: Vec<String> = all.into_iter().map(ask).collect();
    let store = Store::open(store).unwrap();
    let id = store.resolve_run(run).unwrap();
    said.push(store.record_digest(id).unwrap().to_string());
    said
}

#[test]
fn a_sweep_moves_with_its_cells_and_studies_say_the_same_there() {
    let tracker = Tracker::new();
    let grid = ["sweep", "random_features", "--smoke", "--grid", "solve.ridge=0,0.5", "--grid", "seed=1,2", "--json"];
    let swept = tracker.run(&grid).lines().pop().unwrap();
    let sweep = swept["run"].as_str().unwrap();
    let alone = tracker.smoke_of("dpa", &[]);
    let alone = alone["run"].as_str().unwrap();
    // A sweep that ended leads to its cells by itself; one that did not, by their tags alone.
    let cell = tracker.json(&["query", "runs", &format!("tags.sweep = '{sweep}'"), "--limit", "1"]).pop().unwrap();
    let cell = cell["id"].as_str().unwrap();
    for (args, n_runs) in [(vec![sweep], 5), (vec!["--sweep", sweep], 5), (vec![cell], 1)] {
        let exported = tracker.json(&[&["export"], args.as_slice(), &["with.tar"]].concat()).pop().unwrap();
        assert_eq!(exported["export"]["runs"].as_array().unwrap().len(), n_runs, "{args:?}: {exported}");
        if n_runs == 1 {
            continue;
        }
        assert_eq!(over(&tracker, &path(&tracker, &args.join("")), &["import", "with.tar"]).code, 0);
        fs::rename(path(&tracker, "with.tar"), path(&tracker, "sweep.tar")).unwrap();
    }
    let not_a_sweep = tracker.run(&["export", "--sweep", alone, "no.tar"]);
    assert!(not_a_sweep.code == 2 && !path(&tracker, "no.tar").exists(), "{}", not_a_sweep.stderr);
    assert_eq!(tracker.run(&["export", alone, "alone.tar"]).code, 0);
    assert_eq!(tracker.run(&["export", alone, "alone.tar"]).code, 2, "it is there already");
    let to = path(&tracker, "to");
    let imported = json_over(&tracker, &to, &["import", "sweep.tar"]).pop().unwrap();
    assert!(imported["runs"].as_array().unwrap().iter().all(|run| run["arrival"] == "new"), "{imported}");
    assert_eq!(json_over(&tracker, &to, &["import", "alone.tar"]).pop().unwrap()["runs"][0]["arrival"], "new");
    for run in [sweep, alone] {
        assert_eq!(said(&tracker, &to, run), said(&tracker, &tracker.store(), run));
    }
    // All is there that the run needs to be made again, and its checkpoints are files.
    let replayed = over(&tracker, &to, &["replay", alone]);
    assert!(replayed.stdout.contains("the same records"), "{} {}", replayed.stdout, replayed.stderr);
    for store in [&to, &tracker.store()] {
        let out = path(&tracker, "model").display().to_string();
        assert_eq!(over(&tracker, store, &["materialize", "checkpoint:reward model", &out]).code, 0);
        fs::rename(&out, format!("{}.model", store.display())).unwrap();
    }
    let model = |store: &Path| fs::read(format!("{}.model/model.safetensors", store.display())).unwrap();
    assert!(model(&to) == model(&tracker.store()));
    let again = over(&tracker, &to, &["import", "sweep.tar"]);
    assert!(again.code == 0 && again.stdout.matches("was there").count() == 5, "{}", again.stdout);
}

#[test]
fn wrong_files_and_runs_that_differ_are_refused() {
    let tracker = Tracker::new();
    let run = tracker.smoke_of("random_features", &[]);
    let run = run["run"].as_str().unwrap();
    assert_eq!(tracker.run(&["export", run, "x.tar"]).code, 0);
    let to = path(&tracker, "to");
    fs::write(path(&tracker, "notes.txt"), "hello".repeat(1000)).unwrap();
    for (file, code) in [("nowhere.tar", 2), ("notes.txt", 2)] {
        let refused = over(&tracker, &to, &["import", file]);
        assert!(refused.code == code && refused.stderr.contains(file), "{file}: {} {}", refused.code, refused.stderr);
    }
    let mut bytes = fs::read(path(&tracker, "x.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path(&tracker, "damaged.tar"), bytes).unwrap();
    let refused = over(&tracker, &to, &["import", "damaged.tar"]);
    assert!(refused.code == 3 && refused.stderr.contains("damaged.tar` is damaged at byte"), "{}", refused.stderr);
    assert!(!to.exists(), "a store was made of nothing");
    assert_eq!(over(&tracker, &to, &["import", "x.tar"]).code, 0);
    let id: RunId = run.parse().unwrap();
    let mut recording = Recording::new();
    recording.put_points(id, "loss", &[Point::new(1, 2, 3.0)]).unwrap();
    Store::open(&to).unwrap().commit(&recording, Durability::Os).unwrap();
    let refused = over(&tracker, &to, &["import", "x.tar"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("differs") && refused.stderr.contains("points"),
        "{}",
        refused.stderr
    );
    let refused = tracker.run(&["export", "zzzz", "y.tar"]);
    assert!(refused.code == 2 && !path(&tracker, "y.tar").exists(), "{}", refused.stderr);
}

/// Runs with samples and an artifact each; the last has more rows than one commit takes.
fn fill(store: &Store, random: &mut Random) -> Vec<RunId> {
    let policy = content("checkpoint");
    let mut runs = Vec::new();
    for nth in 0..5_u32 {
        let run = store.create_run(&new_run(&format!("run {nth}"), "transfers")).unwrap().id;
        let mut recording = Recording::new();
        recording.put_stage(run, &Stage { name: "write".into(), ordinal: 0 }).unwrap();
        recording.put_param(run, "nth", &nth.to_string()).unwrap();
        let n_rows = if nth == 4 { 60_000 } else { 3000 };
        for item in 0..n_rows {
            let text = format!("{:016x}{:016x} of item {item}", random.draw(), random.draw()).repeat(3);
            let sample = Sample {
                subject: content("statement"),
                policy,
                sampling: Digest::of(b"sampling"),
                seed: u64::from(item),
                text,
                n_tokens: 4,
                sum_logprob: None,
                finish: Finish::Stop,
            };
            recording.put_sample(RowKey::new(run, "write", item, 0), &sample).unwrap();
            if recording.n_bytes() > 8 << 20 {
                store.commit(&std::mem::take(&mut recording), Durability::Os).unwrap();
            }
        }
        store.commit(&recording, Durability::Os).unwrap();
        let bytes: Vec<u8> = random.bytes(3_200_000);
        let mut draft = store.draft("file").unwrap();
        draft.add("file", &mut bytes.as_slice()).unwrap();
        draft.save(&format!("artifact {nth}"), &[], Some(run)).unwrap();
        runs.push(run);
    }
    runs
}

/// The bytes of a run's artifact, if it is there.
fn bytes_of(store: &Store, nth: usize) -> Option<Vec<u8>> {
    let version = store.artifact(&format!("artifact {nth}")).ok()?;
    let manifest = store.manifest(&version).unwrap();
    Some(store.read_file(manifest.files[0].digest).unwrap())
}

#[test]
fn a_killed_import_leaves_each_run_whole_or_absent_and_is_finished_by_the_next() {
    let tracker = Tracker::new();
    let from = Store::create(&tracker.store()).unwrap();
    let mut random = Random(424_242);
    let runs = fill(&from, &mut random);
    let expected: Vec<(Digest, Vec<u8>)> = runs
        .iter()
        .enumerate()
        .map(|(nth, run)| (from.record_digest(*run).unwrap(), bytes_of(&from, nth).unwrap()))
        .collect();
    drop(from);
    let ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let mut args = vec!["export"];
    args.extend(ids.iter().map(String::as_str));
    args.push("x.tar");
    assert_eq!(tracker.run(&args).code, 0);
    let whole = path(&tracker, "whole");
    let begun = Instant::now();
    assert_eq!(over(&tracker, &whole, &["import", "x.tar"]).code, 0);
    let span = begun.elapsed();
    let (mut n_cut, mut n_unfinished) = (0, 0);
    for nth_kill in 0..20 {
        let to = path(&tracker, &format!("to {nth_kill}"));
        let mut child = tracker.spawn(&["--store", to.to_str().unwrap(), "import", "x.tar"]);
        // The moment is the point: nothing is waited for.
        std::thread::sleep(random.part_of(span));
        child.kill().unwrap();
        child.wait().unwrap();
        if to.exists() {
            let store = Store::create(&to).unwrap();
            let mut n_whole = 0;
            for ((nth, run), (digest, bytes)) in runs.iter().enumerate().zip(&expected) {
                let Ok(found) = store.run(*run) else {
                    assert!(bytes_of(&store, nth).is_none(), "an artifact came before its run");
                    continue;
                };
                if store.tags(*run).unwrap().contains_key("tracker.import") {
                    assert_eq!((found.status, found.record_digest), (Status::Interrupted, None));
                    n_unfinished += 1;
                    continue;
                }
                assert_eq!(store.record_digest(*run).unwrap(), *digest, "run {nth} is there in part");
                assert!(bytes_of(&store, nth).as_ref() == Some(bytes), "the artifact of run {nth}");
                n_whole += 1;
            }
            n_cut += usize::from(n_whole < runs.len());
        }
        let done = over(&tracker, &to, &["import", "x.tar"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let store = Store::open(&to).unwrap();
        for ((nth, run), (digest, bytes)) in runs.iter().enumerate().zip(&expected) {
            assert_eq!(store.record_digest(*run).unwrap(), *digest);
            assert!(bytes_of(&store, nth).as_ref() == Some(bytes));
            assert!(!store.tags(*run).unwrap().contains_key("tracker.import"));
        }
        // Nothing is left that a collection would not take.
        store.collect(&tracker_store::Collect { grace: Duration::ZERO, ..Default::default() }).unwrap();
        assert!(bytes_of(&store, 0).as_ref() == Some(&expected[0].1));
        drop(store);
        fs::remove_dir_all(&to).unwrap();
    }
    assert!(n_cut >= 3, "{n_cut} of 20 were cut short: too few to say anything");
    // How often the large run was seen in part is chance; that it can be, `tracker-store` tests.
    assert!(n_unfinished <= n_cut, "{n_unfinished} of {n_cut}");
}
