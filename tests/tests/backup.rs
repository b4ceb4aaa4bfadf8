//! Backups as a user makes them: beside writers in other processes, killed at any moment, damaged, sent on as a stream.
//!
//! A test that needs writers starts itself anew, with a role; so it begins by asking whether it has one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking; children talk over stdout"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracker_store::{Digest, Durability, Finish, Recording, RowKey, RunId, Sample, Stage, Store};
use tracker_tests::{Answer, Random, Tracker, binary, content, new_run};

/// Rows that are committed together.
const BATCH: u32 = 50;
const STAGE: &str = "write";
const ROLE: &str = "TRACKER_TEST_WRITES_TO";

fn sample(item: u32, k: u32) -> Sample {
    Sample {
        subject: content("statement"),
        policy: content("checkpoint"),
        sampling: Digest::of(b"sampling"),
        seed: u64::from(item) << 32 | u64::from(k),
        text: format!("fun h => h -- {item} {k}"),
        n_tokens: 4,
        sum_logprob: Some(-1.5),
        finish: Finish::Stop,
    }
}

/// Begins a run in a stage.
fn begin(store: &Store, name: &str) -> RunId {
    let run = store.create_run(&new_run(name, "backups")).unwrap().id;
    let mut recording = Recording::new();
    recording.put_stage(run, &Stage { name: STAGE.into(), ordinal: 0 }).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    run
}

/// Writes the batch `item`.
fn write(store: &Store, run: RunId, item: u32) {
    let mut recording = Recording::new();
    for k in 0..BATCH {
        recording.put_sample(RowKey::new(run, STAGE, item, k), &sample(item, k)).unwrap();
    }
    store.commit(&recording, Durability::Os).unwrap();
}

fn artifact(store: &Store, name: &str, mut bytes: &[u8]) {
    let mut draft = store.draft("file").unwrap();
    draft.add("file", &mut bytes).unwrap();
    draft.save(name, &[], None).unwrap();
}

/// A store with so many runs, and an artifact for each.
fn fill(tracker: &Tracker, n_runs: u32, n_bytes: usize, random: &mut Random) -> Vec<RunId> {
    let store = Store::create(&tracker.store()).unwrap();
    let add = |nth| {
        let run = begin(&store, &format!("run {nth}"));
        (0..20).for_each(|item| write(&store, run, item));
        artifact(&store, &format!("artifact {nth}"), &random.bytes(n_bytes));
        run
    };
    (0..n_runs).map(add).collect()
}

/// Runs a command to its end, over another store.
fn over(tracker: &Tracker, store: &Path, args: &[&str]) -> Answer {
    tracker.run(&[&["--store", store.to_str().unwrap()], args].concat())
}

/// The digest over the records of a backup that is sound.
fn sound(tracker: &Tracker, backup: &str) -> String {
    let answer = tracker.json(&["backup", "--verify", backup]).pop().unwrap();
    assert_eq!(answer["damaged"], Value::Array(vec![]), "{answer}");
    answer["bundle"]["records"].as_str().unwrap().to_owned()
}

/// What stores must agree in: runs with their record digests, artifacts with the digests of their files, as commands print them.
fn answers(tracker: &Tracker, store: &Path) -> Vec<String> {
    let all: [&[&str]; 4] = [
        &["ls", "--limit", "1000", "--json"],
        &["query", "samples", "--limit", "100000", "--json"],
        &["artifact", "ls", "--json"],
        &["du", "--by", "version", "--json"],
    ];
    let ask = |args: &[&str]| {
        let answer = over(tracker, store, args);
        assert_eq!(answer.code, 0, "{args:?}: {}", answer.stderr);
        answer.stdout
    };
    let mut said: Vec<String> = all.into_iter().map(ask).collect();
    let store = Store::open(store).unwrap();
    for run in store.runs() {
        said.push(store.record_digest(run.unwrap().id).unwrap().to_string());
    }
    for version in store.artifacts().unwrap() {
        for file in store.manifest(&version).unwrap().files {
            said.push(Digest::of(&store.read_file(file.digest).unwrap()).to_string());
        }
    }
    said
}

fn killed_after(mut child: Child, moment: Duration) -> bool {
    // The moment is the point: nothing is waited for.
    std::thread::sleep(moment);
    let is_done = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    is_done
}

#[test]
fn a_backup_is_restored_to_the_same_answers_from_a_folder_a_tar_and_a_pipe() {
    let tracker = Tracker::new();
    drop(tracker.smoke_of("dpa", &[]));
    let expected = answers(&tracker, &tracker.store());
    let saved = tracker.json(&["backup", "folder"]).pop().unwrap();
    assert!(saved["backup"]["counts"]["runs"] == 1 && saved["backup"]["kept_bytes"] == 0, "{saved}");
    assert_eq!(tracker.run(&["backup", "one.tar"]).code, 0);
    let piped = File::create(tracker.folder().join("piped")).unwrap();
    let sent = Command::new(binary())
        .args(["backup", "-", "--store"])
        .arg(tracker.store())
        .stdout(piped)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let records = saved["backup"]["records"].as_str().unwrap();
    for backup in ["folder", "one.tar", "piped"] {
        assert_eq!(sound(&tracker, backup), records, "{backup}");
        let to = tracker.folder().join(format!("from {backup}"));
        assert_eq!(over(&tracker, &to, &["restore", backup]).code, 0);
        assert_eq!(answers(&tracker, &to), expected, "{backup}");
        let again = over(&tracker, &to, &["restore", backup]);
        assert!(again.code == 2 && again.stderr.contains("empty or not there yet"), "{}", again.stderr);
    }
    let to = tracker.folder().join("from stdin");
    let restored = Command::new(binary())
        .args(["restore", "-", "--json", "--store"])
        .arg(&to)
        .stdin(File::open(tracker.folder().join("piped")).unwrap())
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(answers(&tracker, &to), expected);
    // What was restored goes on: the run is replayed to the same records.
    let run = Store::open(&to).unwrap().runs().next().unwrap().unwrap().id.to_string();
    let replayed = over(&tracker, &to, &["replay", &run]);
    assert!(replayed.stdout.contains("the same records"), "{} {}", replayed.stdout, replayed.stderr);
}

#[test]
fn damage_is_an_answer_and_restores_nothing() {
    let tracker = Tracker::new();
    let mut random = Random(11);
    fill(&tracker, 2, 300_000, &mut random);
    assert_eq!(tracker.run(&["backup", "b"]).code, 0);
    let packs = tracker.folder().join("b/packs");
    let pack = fs::read_dir(&packs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[200_000] ^= 4;
    fs::write(&pack, bytes).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let told = tracker.run(&["backup", "--verify", "b"]);
    assert!(told.code == 1 && told.stderr.contains(name) && told.stderr.contains("at byte 0"), "{}", told.stderr);
    let to = tracker.folder().join("to");
    let refused = over(&tracker, &to, &["restore", "b"]);
    assert!(refused.code == 3 && refused.stderr.contains(name), "{} {}", refused.code, refused.stderr);
    assert!(!to.exists());
    let left: Vec<_> = fs::read_dir(tracker.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().contains("restoring")), "{left:?}");
    for wrong in ["nowhere", "data"] {
        let refused = over(&tracker, &to, &["restore", wrong]);
        assert!(refused.code == 2 && !to.exists(), "{wrong}: {} {}", refused.code, refused.stderr);
    }
    let refused = tracker.run(&["backup", "data"]);
    assert!(refused.code == 2 && refused.stderr.contains("empty folder"), "{}", refused.stderr);
}

#[test]
fn a_killed_backup_leaves_store_and_earlier_backup_whole() {
    let tracker = Tracker::new();
    let mut random = Random(20_261_129);
    fill(&tracker, 4, 3_000_000, &mut random);
    let begun = Instant::now();
    assert_eq!(tracker.run(&["backup", "whole"]).code, 0);
    let span = begun.elapsed();
    let mut before = sound(&tracker, "whole");
    let (mut n_cut, mut n_new_cut) = (0, 0);
    for nth in 0..20 {
        {
            let store = Store::open(&tracker.store()).unwrap();
            artifact(&store, &format!("more {nth}"), &random.bytes(6_000_000));
        }
        let is_done = killed_after(tracker.spawn(&["backup", "whole"]), random.part_of(span));
        let after = sound(&tracker, "whole");
        n_cut += u32::from(after == before);
        assert!(!is_done || after != before, "{nth}: it said that it was done");
        before = after;
        // One that had nothing before it is whole, or says that it is not; either way the next one completes it.
        let is_done = killed_after(tracker.spawn(&["backup", "new"]), random.part_of(span));
        let verified = tracker.run(&["backup", "--verify", "new"]);
        if verified.code != 0 {
            assert!(!is_done && (verified.code == 1 || verified.code == 2), "{}: {}", verified.code, verified.stderr);
            assert!(!tracker.folder().join("new/manifest.json").exists());
            n_new_cut += 1;
        }
        assert_eq!(tracker.run(&["backup", "new"]).code, 0);
        sound(&tracker, "new");
        fs::remove_dir_all(tracker.folder().join("new")).unwrap();
    }
    assert!(n_cut >= 3 && n_new_cut >= 3, "{n_cut} and {n_new_cut} of 20 were cut short: too few to say anything");
    assert_eq!(tracker.run(&["backup", "whole"]).code, 0);
    let to = tracker.folder().join("to");
    assert_eq!(over(&tracker, &to, &["restore", "whole"]).code, 0);
    assert_eq!(answers(&tracker, &to), answers(&tracker, &tracker.store()));
}

#[test]
fn a_killed_restore_leaves_a_whole_store_or_none() {
    let tracker = Tracker::new();
    let mut random = Random(7_777);
    fill(&tracker, 6, 4_000_000, &mut random);
    let expected = answers(&tracker, &tracker.store());
    assert_eq!(tracker.run(&["backup", "b"]).code, 0);
    let whole = tracker.folder().join("whole");
    let begun = Instant::now();
    assert_eq!(over(&tracker, &whole, &["restore", "b"]).code, 0);
    let span = begun.elapsed();
    let (to, mut n_cut) = (tracker.folder().join("to"), 0);
    for nth in 0..20 {
        let child = tracker.spawn(&["--store", to.to_str().unwrap(), "restore", "b"]);
        let is_done = killed_after(child, random.part_of(span));
        if to.exists() {
            assert_eq!(answers(&tracker, &to), expected, "{nth}");
            fs::remove_dir_all(&to).unwrap();
        } else {
            assert!(!is_done, "{nth}: it said that it was done");
            n_cut += 1;
        }
    }
    assert!(n_cut >= 3, "{n_cut} of 20 were cut short: too few to say anything");
    sound(&tracker, "b");
    assert_eq!(over(&tracker, &to, &["restore", "b"]).code, 0);
    assert_eq!(answers(&tracker, &to), expected);
    assert!(!tracker.folder().join(".to.restoring").exists());
}

/// A process that writes batch after batch to a run of its own, and how many of them were acknowledged.
struct Writer {
    child: Child,
    n_acknowledged: Arc<AtomicU32>,
    run: RunId,
}

impl Writer {
    fn start(store: &Path, test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let run = lines.by_ref().find_map(|line| line.unwrap().strip_prefix("run ")?.parse().ok()).unwrap();
        let n_acknowledged = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n_acknowledged);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(n) = line.strip_prefix("wrote ").and_then(|n| n.parse::<u32>().ok()) {
                    count.store(n + 1, Ordering::SeqCst);
                }
            }
        });
        Self { child, n_acknowledged, run }
    }

    fn n_acknowledged(&self) -> u32 {
        self.n_acknowledged.load(Ordering::SeqCst)
    }

    fn wait_for(&self, n: u32) {
        while self.n_acknowledged() < n {
            std::thread::yield_now();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes until it is killed.
fn write_forever(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let run = begin(&store, "writer");
    println!("run {run}");
    for item in 0.. {
        write(&store, run, item);
        println!("wrote {item}");
    }
}

#[test]
fn a_backup_beside_writers_has_a_prefix_of_what_each_wrote_in_whole_batches() {
    if let Some(dir) = std::env::var_os(ROLE) {
        return write_forever(&PathBuf::from(dir));
    }
    let tracker = Tracker::new();
    fill(&tracker, 1, 2_000_000, &mut Random(5));
    let test = "a_backup_beside_writers_has_a_prefix_of_what_each_wrote_in_whole_batches";
    let writers = [Writer::start(&tracker.store(), test), Writer::start(&tracker.store(), test)];
    for (nth, n) in [20, 120, 250].into_iter().enumerate() {
        for writer in &writers {
            writer.wait_for(n);
        }
        let before: Vec<u32> = writers.iter().map(Writer::n_acknowledged).collect();
        let saved = tracker.run(&["backup", "b"]);
        assert_eq!(saved.code, 0, "{}", saved.stderr);
        let after: Vec<u32> = writers.iter().map(Writer::n_acknowledged).collect();
        assert!(before.iter().zip(&after).all(|(before, after)| before < after), "nobody wrote meanwhile");
        sound(&tracker, "b");
        let to = tracker.folder().join(format!("to {nth}"));
        assert_eq!(over(&tracker, &to, &["restore", "b"]).code, 0);
        let store = Store::open(&to).unwrap();
        for ((writer, before), after) in writers.iter().zip(before).zip(after) {
            let rows: Vec<(u32, u32)> = store
                .samples(writer.run, None)
                .map(|row| {
                    let (node, sample_there) = row.unwrap();
                    let row = node.row().unwrap();
                    assert_eq!(sample_there, sample(row.item, row.k));
                    (row.item, row.k)
                })
                .collect();
            let n_batches = rows.len() as u32 / BATCH;
            let expected: Vec<(u32, u32)> =
                (0..n_batches).flat_map(|item| (0..BATCH).map(move |k| (item, k))).collect();
            assert!(rows == expected, "backup {nth} has a part of a batch, or a gap");
            // One more may have been written and not yet told.
            assert!((before..=after + 1).contains(&n_batches), "{before} ≤ {n_batches} ≤ {after} + 1");
        }
    }
    drop(writers);
    assert_eq!(tracker.run(&["backup", "b"]).code, 0);
    let to = tracker.folder().join("last");
    assert_eq!(over(&tracker, &to, &["restore", "b"]).code, 0);
    assert_eq!(answers(&tracker, &to), answers(&tracker, &tracker.store()));
}

#[test]
fn a_backup_begins_while_a_holder_of_the_store_is_killed_and_another_takes_over() {
    if let Some(dir) = std::env::var_os(ROLE) {
        return write_forever(&PathBuf::from(dir));
    }
    let tracker = Tracker::new();
    fill(&tracker, 3, 1_000_000, &mut Random(6));
    let test = "a_backup_begins_while_a_holder_of_the_store_is_killed_and_another_takes_over";
    let mut random = Random(99);
    for nth in 0..5 {
        // The writer serves the store to the backup, which loses its snapshot with it and takes another.
        let writer = Writer::start(&tracker.store(), test);
        writer.wait_for(10);
        let mut backup = tracker.spawn(&["backup", "b"]);
        std::thread::sleep(random.part_of(Duration::from_millis(120)));
        drop(writer);
        assert!(backup.wait().unwrap().success(), "{nth}");
        sound(&tracker, "b");
    }
    assert_eq!(tracker.run(&["backup", "b"]).code, 0);
    let to = tracker.folder().join("to");
    assert_eq!(over(&tracker, &to, &["restore", "b"]).code, 0);
    assert_eq!(answers(&tracker, &to), answers(&tracker, &tracker.store()));
}
