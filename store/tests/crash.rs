//! What was acknowledged is there, whole, after kill -9 at any moment; and after a loss of power, if it was synced.
//!
//! A writer is this test again, in another process: it tells each thing it was acknowledged, and is killed. The loss of power is one
//! of a file system in a file, which is copied as it is while the writer is at work: what the file system had not written by then
//! is lost, its own journal included. Every engine of this build is tried.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking; children talk"
)]

mod scene;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use scene::{STAGE, Scene, sample, verdict};
use tracker_store::{
    Durability, EngineKind, EngineOptions, Outcome, Point, Query, Recording, RowKey, RunId, Store, Table,
};

const ROLE_DIR: &str = "TRACKER_STORE_TEST_DIR";
const ROLE_SYNC: &str = "TRACKER_STORE_TEST_SYNC";

/// One of every few is synced, or all are.
const SYNC_EVERY: u32 = 4;

/// What is recorded in one commit, the `nth` of a run: a param, a tag, a row with its verdict, and points of two series.
fn record(scene: &Scene, nth: u32) -> Recording {
    let mut recording = Recording::new();
    recording.put_param(scene.run, &format!("p{nth}"), &nth.to_string()).unwrap();
    recording.put_tag(scene.run, "last", &nth.to_string()).unwrap();
    let row = scene.row(nth, 0);
    recording.put_sample(row, &sample(scene, nth, 0)).unwrap();
    recording.put_verdict(row, &verdict(scene, Outcome::Proved)).unwrap();
    recording.put_points(scene.run, "loss", &[Point::new(nth.into(), 0, 1.0 / f64::from(nth + 1))]).unwrap();
    // Enough that blocks are sealed in many of the commits.
    let many: Vec<Point> = (0..150).map(|k| Point::new(i64::from(nth) * 150 + k, 0, f64::from(nth))).collect();
    recording.put_points(scene.run, "many", &many).unwrap();
    recording
}

fn artifact_of(nth: u32) -> Vec<u8> {
    let mut bytes = vec![0; 20_000];
    blake3::Hasher::new().update(&nth.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn engines() -> impl Iterator<Item = EngineKind> {
    EngineKind::ALL.into_iter().filter(|engine| engine.is_built())
}

/// An empty store that `engine` keeps, for whoever comes next.
fn make(dir: &Path, engine: EngineKind) {
    let store = Store::create_with(dir, &EngineOptions { engine, ..EngineOptions::default() }).unwrap();
    assert_eq!(store.engine_name(), engine.name());
}

/// The child: writes until it is killed.
fn write(dir: &Path) -> ! {
    let scene = Scene::over(Store::create(dir).unwrap());
    println!("say run {}", scene.run);
    let is_all_synced = std::env::var_os(ROLE_SYNC).is_some();
    for nth in 0.. {
        let is_synced = is_all_synced || nth % SYNC_EVERY == 0;
        let durability = if is_synced { Durability::Sync } else { Durability::Os };
        scene.store.commit(&record(&scene, nth), durability).unwrap();
        println!("say {nth}");
        if nth % 5 == 0 {
            let mut draft = scene.store.draft("file").unwrap();
            draft.add("bytes", &mut artifact_of(nth).as_slice()).unwrap();
            draft.save(&format!("{} {nth}", scene.run), &[], Some(scene.run)).unwrap();
            println!("say artifact {nth}");
        }
    }
    unreachable!("a range without an end ended")
}

/// A writer, and what it was acknowledged.
struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
    said: Said,
}

#[derive(Clone, Debug, Default)]
struct Said {
    run: Option<RunId>,
    /// Commits, from the first.
    n_commits: u32,
    artifacts: Vec<u32>,
}

impl Writer {
    fn start(test: &str, dir: &Path, is_all_synced: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(ROLE_DIR, dir).stdin(Stdio::null()).stdout(Stdio::piped());
        if is_all_synced {
            command.env(ROLE_SYNC, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, said: Said::default() }
    }

    /// Reads one thing it says; whether there was one. What a kill cut short was not said.
    fn listen(&mut self) -> bool {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return false;
            }
            let Some(word) = line.strip_prefix("say ").and_then(|line| line.strip_suffix('\n')) else { continue };
            match word.split_once(' ') {
                Some(("run", run)) => self.said.run = Some(run.parse().unwrap()),
                Some((_, nth)) => self.said.artifacts.push(nth.parse().unwrap()),
                None => self.said.n_commits = word.parse::<u32>().unwrap() + 1,
            }
            return true;
        }
    }

    fn stop(&self) {
        let sent = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it after it said so many things; all that it was acknowledged.
    fn killed_after(mut self, n_said: u64) -> Said {
        for _ in 0..n_said {
            assert!(self.listen(), "the writer ended by itself");
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What it said before the kill and was not heard yet.
        while self.listen() {}
        self.said
    }
}

/// Checks that all that was acknowledged is there, and that what is there is whole.
fn check(store: &Store, said: &Said) {
    let Some(run) = said.run else { return };
    let params = store.params(run).unwrap();
    let n_whole = params.len() as u32;
    assert!(n_whole >= said.n_commits, "{n_whole} commits are there of {} that were acknowledged", said.n_commits);
    assert!(n_whole <= said.n_commits + 1, "{n_whole} commits are there, and only {} were made", said.n_commits + 1);
    for nth in 0..n_whole {
        assert_eq!(params.get(&format!("p{nth}")), Some(&nth.to_string()), "param {nth}");
        let row = RowKey::new(run, STAGE, nth, 0);
        assert!(store.sample(row).unwrap().is_some(), "row {nth}");
        for filter in [format!("params.p{nth} = '{nth}'"), format!("params.p{nth} <= {nth}")] {
            assert_eq!(times(store, run, &filter), 1, "{filter}");
        }
    }
    let proofs = store.query(&Query::new(Table::Proofs).of_run(run).limit(1 << 20)).unwrap().rows.len();
    assert_eq!(proofs, n_whole as usize, "verdicts");
    let last = n_whole.checked_sub(1).map(|nth| nth.to_string());
    assert_eq!(store.tags(run).unwrap().get("last"), last.as_ref());
    for (key, each) in [("loss", 1), ("many", 150)] {
        let steps: Vec<i64> = store.history(run, key, None).unwrap().map(|point| point.unwrap().step).collect();
        assert_eq!(steps, (0..i64::from(n_whole) * each).collect::<Vec<_>>(), "points of `{key}`");
        let latest = store.series(run, key).unwrap().map(|series| series.latest.step);
        assert_eq!(latest, i64::from(n_whole).checked_mul(each).map(|n| n - 1).filter(|step| *step >= 0));
        // The index by latest value has this run once.
        assert_eq!(times(store, run, &format!("metrics.{key} >= -1")), usize::from(n_whole > 0), "index of `{key}`");
    }
    for nth in &said.artifacts {
        let version = store.artifact(&format!("{run} {nth}")).unwrap();
        let manifest = store.manifest(&version).unwrap();
        let bytes = store.read_file(manifest.file("bytes").unwrap().digest).unwrap();
        assert_eq!(bytes, artifact_of(*nth), "artifact {nth}");
    }
}

/// How often a run is among those that match.
fn times(store: &Store, run: RunId, filter: &str) -> usize {
    let query = Query::new(Table::Runs).filter(filter).unwrap().limit(1 << 20);
    store.query(&query).unwrap().rows.iter().filter(|row| row.id.owner() == Some(run)).count()
}

/// The same moments every time, as far as a clock allows: how much is heard before the kill.
fn moments(seed: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |round| {
        let digest = blake3::hash(&[seed.to_le_bytes(), round.to_le_bytes()].concat());
        u64::from(digest.as_bytes()[0]) * (1 + u64::from(digest.as_bytes()[1] & 1)) / 3
    })
}

#[test]
fn killed_writers_leave_what_they_were_acknowledged_whole() {
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        write(&PathBuf::from(dir));
    }
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("store");
        make(&dir, engine);
        let mut all = Vec::new();
        for n_said in moments(1).take(20) {
            let writer = Writer::start("killed_writers_leave_what_they_were_acknowledged_whole", &dir, false);
            all.push(writer.killed_after(n_said));
            // One folder for all: what earlier writers left stays.
            let store = Store::open(&dir).unwrap();
            for said in all.iter().rev().take(3) {
                check(&store, said);
            }
        }
        let store = Store::open(&dir).unwrap();
        for said in &all {
            check(&store, said);
        }
    }
}

#[test]
fn writers_that_share_a_folder_are_killed_in_turn_and_the_others_go_on() {
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        write(&PathBuf::from(dir));
    }
    let start =
        |dir: &Path| Writer::start("writers_that_share_a_folder_are_killed_in_turn_and_the_others_go_on", dir, false);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let mut writers = vec![start(&dir), start(&dir), start(&dir)];
    let mut all = Vec::new();
    for n_said in moments(2).take(9) {
        // The first was there first, so it is the one that holds the store, or was a moment ago.
        let first = writers.remove(0);
        all.push(first.killed_after(n_said / 3));
        for other in &mut writers {
            assert!(other.listen(), "a writer ended with the one that held the store");
        }
        writers.push(start(&dir));
    }
    all.extend(writers.into_iter().map(|writer| writer.killed_after(3)));
    let store = Store::open(&dir).unwrap();
    for said in &all {
        check(&store, said);
    }
}

/// A file system in a file, mounted; unmounted when it goes.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// None where this machine does not allow it.
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { image: image.to_owned(), at: at.to_owned() })
    }

    fn make(image: &Path, at: &Path) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(96 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            return None;
        }
        Self::mount(image, at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced() {
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        write(&PathBuf::from(dir));
    }
    for (engine, n_said) in engines().flat_map(|engine| moments(3).take(6).map(move |n_said| (engine, n_said))) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let Some(disk) = Disk::make(&path("disk"), &path("mounted")) else {
            eprintln!("SKIP a loss of power: this machine does not let a file system be mounted from a file");
            return;
        };
        let dir = disk.at.join("store");
        make(&dir, engine);
        let mut writer = Writer::start("a_loss_of_power_takes_nothing_that_was_synced", &dir, true);
        for _ in 0..n_said + 2 {
            assert!(writer.listen(), "the writer ended by itself");
        }
        let said = writer.said.clone();
        // The power goes at one moment: nothing more is written while the copy is made.
        writer.stop();
        std::fs::copy(&disk.image, path("as it was")).unwrap();
        writer.killed_after(0);
        drop(disk);
        let Some(again) = Disk::mount(&path("as it was"), &path("again")) else {
            panic!("the file system cannot be mounted after the loss of power")
        };
        let store = Store::open(&again.at.join("store")).unwrap();
        check_at_least(&store, &said);
        drop(store);
    }
}

/// As [`check`], where the copy was taken while the writer went on.
fn check_at_least(store: &Store, said: &Said) {
    let Some(run) = said.run else { return };
    let n_there = store.params(run).unwrap().len() as u32;
    assert!(n_there >= said.n_commits, "{n_there} commits are there of {} that were synced", said.n_commits);
    check(store, &Said { n_commits: n_there, ..said.clone() });
}
