//! Stores go from one engine to another, whole or not at all, wherever the one who converts is killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tracker_engine::{
    Batch, Converted, Direction, Durability, Engine, Entry, Error, KeyRange, Kind, Options, Step, convert, open,
};

const ROLE_DIR: &str = "TRACKER_ENGINE_TEST_CONVERT";
const ROLE_ENGINE: &str = "TRACKER_ENGINE_TEST_CONVERT_TO";
const ROLE_DEATH: &str = "TRACKER_ENGINE_TEST_CONVERT_DEATH";

fn built() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_built())
}

fn options(engine: Kind) -> Options {
    Options { engine, patience: Duration::from_millis(200), ..Options::default() }
}

/// A store of several chunks: many small entries, some large ones, an empty key.
fn make(dir: &Path, engine: Kind) -> Vec<Entry> {
    let store = open(dir, &options(engine)).unwrap();
    for round in 0..20_u32 {
        let mut batch = Batch::new();
        batch.put(b"", b"");
        for i in 0..1_000_u32 {
            batch.put(&[round.to_be_bytes(), i.to_be_bytes()].concat(), &[i as u8; 100]);
        }
        batch.put(&[b'l', round as u8], &vec![round as u8; 1_000_000]);
        store.commit(&batch, Durability::Sync).unwrap();
    }
    entries(&*store)
}

fn entries(store: &dyn Engine) -> Vec<Entry> {
    store.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn to(dir: &Path, engine: Kind) -> Result<Option<Converted>, Error> {
    convert(dir, engine, &options(Kind::default()), &mut |_| {})
}

#[test]
fn every_engine_takes_over_from_every_other() {
    for from in built() {
        let dir = tempfile::tempdir().unwrap();
        let expected = make(dir.path(), from);
        for next in built().filter(|&next| next != from).chain([from]) {
            let now = open(dir.path(), &options(Kind::default())).unwrap().name();
            let converted = to(dir.path(), next).unwrap();
            if now == next.name() {
                assert_eq!(converted, None);
                continue;
            }
            let converted = converted.unwrap();
            assert_eq!((converted.from.name(), converted.to, converted.n_entries), (now, next, expected.len() as u64));
            assert!(converted.n_bytes > 20_000_000 && converted.n_disk_bytes_before > 0);
            assert!(converted.n_disk_bytes_after > 0);
            let store = open(dir.path(), &options(Kind::default())).unwrap();
            assert_eq!(store.name(), next.name());
            assert!(entries(&*store) == expected, "{from} to {next}");
            drop(store);
            let data = format!("data.{next}");
            assert_eq!(names(dir.path()), ["FORMAT", "LOCK", &data].map(str::to_owned).into());
        }
    }
}

/// The child: converts, and dies when it has been told so many steps.
fn convert_and_die(dir: &Path) {
    let engine: Kind = std::env::var(ROLE_ENGINE).unwrap().parse().unwrap();
    let n_steps: usize = std::env::var(ROLE_DEATH).unwrap().parse().unwrap();
    let mut n_told = 0;
    let converted = convert(dir, engine, &options(engine), &mut |_| {
        n_told += 1;
        if n_told > n_steps {
            std::process::abort();
        }
    });
    assert!(converted.unwrap().is_some());
}

#[test]
fn whoever_is_killed_while_converting_leaves_the_old_store_or_the_new_one() {
    const TEST: &str = "whoever_is_killed_while_converting_leaves_the_old_store_or_the_new_one";
    if let Some(dir) = std::env::var_os(ROLE_DIR) {
        return convert_and_die(Path::new(&dir));
    }
    for (from, next) in built().flat_map(|from| built().map(move |next| (from, next))).filter(|(a, b)| a != b) {
        let whole = tempfile::tempdir().unwrap();
        let expected = make(whole.path(), from);
        let mut kept = BTreeSet::new();
        let mut n_steps = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            copy(whole.path(), dir.path());
            let ended = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST])
                .env(ROLE_DIR, dir.path())
                .env(ROLE_ENGINE, next.name())
                .env(ROLE_DEATH, n_steps.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            let store = open(dir.path(), &options(Kind::default())).unwrap();
            assert!(entries(&*store) == expected, "{from} to {next}, killed at step {n_steps}");
            kept.insert(store.name());
            let data = format!("data.{}", store.name());
            assert_eq!(names(dir.path()), ["FORMAT", "LOCK", "socket", &data].map(str::to_owned).into());
            drop(store);
            // It can be taken up again.
            assert!(to(dir.path(), next).is_ok());
            assert_eq!(open(dir.path(), &options(Kind::default())).unwrap().name(), next.name());
            n_steps += 1;
            if ended.success() {
                break;
            }
        }
        assert!(n_steps > 7, "{n_steps} steps are too few to tell");
        assert_eq!(kept, BTreeSet::from([from.name(), next.name()]));
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_store_that_is_open_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &options(Kind::Redb)).unwrap();
    let before = names(dir.path());
    let error = to(dir.path(), Kind::Sled).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, Error::InUse { pid: Some(pid), .. } if pid == me), "{error}");
    assert!(error.to_string().ends_with(&format!("is open in process `{me}`; end it and try again")), "{error}");
    assert_eq!(names(dir.path()), before);
    drop(store);
    assert!(to(dir.path(), Kind::Sled).unwrap().is_some());
}

#[test]
fn a_client_whose_holder_left_waits_and_finds_the_new_engine() {
    let dir = tempfile::tempdir().unwrap();
    let holder = open(dir.path(), &options(Kind::Redb)).unwrap();
    let client: Arc<dyn Engine> = open(dir.path(), &Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(b"k", b"1");
    client.commit(&batch, Durability::Sync).unwrap();
    assert_eq!(client.name(), "redb");
    drop(holder);
    let mut asking = None;
    let converted = convert(dir.path(), Kind::Sled, &options(Kind::Redb), &mut |step| {
        if step == Step::Replacing {
            // The client asks now, and is answered when the store is to be had again.
            let client = Arc::clone(&client);
            asking = Some(std::thread::spawn(move || client.get(b"k")));
        }
    });
    assert_eq!(converted.unwrap().unwrap().n_entries, 1);
    assert_eq!(asking.unwrap().join().unwrap().unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(client.name(), "sled");
}

#[test]
fn what_is_not_to_be_converted_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let error = to(dir.path(), Kind::Sled).unwrap_err();
    assert!(error.to_string().contains("there is no store in it"), "{error}");
    assert!(names(dir.path()).is_empty());
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_built()) {
        drop(open(dir.path(), &options(Kind::Redb)).unwrap());
        let error = to(dir.path(), kind).unwrap_err();
        assert!(error.to_string().contains(&format!("build tracker with `--features {kind}`")), "{error}");
    }
    // Data that no conversion left is nobody's to remove.
    drop(open(dir.path(), &options(Kind::Redb)).unwrap());
    fs::create_dir(dir.path().join("data.sled")).unwrap();
    let error = to(dir.path(), Kind::Sled).unwrap_err();
    assert!(error.to_string().contains("move it out of the way"), "{error}");
    assert_eq!(names(dir.path()), ["FORMAT", "LOCK", "data.redb", "data.sled"].map(str::to_owned).into());
}
