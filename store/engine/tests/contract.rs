//! Every engine passes the one suite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tracker_engine::faulty::Faulty;
use tracker_engine::{Engine, Kind, Memory, Options, Redb, Sled, contract, open};

/// A new folder for each engine.
struct Folders {
    root: tempfile::TempDir,
    n_made: AtomicUsize,
}

impl Folders {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), n_made: AtomicUsize::new(0) }
    }

    fn next(&self) -> std::path::PathBuf {
        self.root.path().join(self.n_made.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

#[test]
fn memory_keeps_the_contract() {
    contract::check(|| Arc::new(Memory::new()));
}

#[test]
fn an_engine_without_planned_faults_keeps_the_contract() {
    contract::check(|| Arc::new(Faulty::new(Arc::new(Memory::new()), None)));
}

#[test]
fn redb_keeps_the_contract() {
    let folders = Folders::new();
    contract::check(|| Arc::new(Redb::create(&folders.next(), 1 << 20).unwrap()));
}

#[test]
fn sled_keeps_the_contract() {
    let folders = Folders::new();
    contract::check(|| Arc::new(Sled::create(&folders.next(), 1 << 20).unwrap()));
}

#[test]
fn redb_keeps_what_it_acknowledged() {
    contract::check_files(tempfile::tempdir().unwrap().path(), |path| {
        let data = path.join("data");
        let open = if data.exists() { Redb::open } else { Redb::create };
        std::fs::create_dir_all(path).unwrap();
        Ok(Arc::new(open(&data, 1 << 20)?))
    });
}

#[test]
fn sled_keeps_what_it_acknowledged() {
    contract::check_files(tempfile::tempdir().unwrap().path(), |path| {
        let data = path.join("data");
        let open = if data.exists() { Sled::open } else { Sled::create };
        std::fs::create_dir_all(path).unwrap();
        Ok(Arc::new(open(&data, 1 << 20)?))
    });
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_keeps_the_contract() {
    let folders = Folders::new();
    contract::check(|| Arc::new(tracker_engine::Rocksdb::create(&folders.next(), 16 << 20).unwrap()));
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_keeps_what_it_acknowledged() {
    use tracker_engine::Rocksdb;
    contract::check_files(tempfile::tempdir().unwrap().path(), |path| {
        let data = path.join("data");
        let open = if data.exists() { Rocksdb::open } else { Rocksdb::create };
        std::fs::create_dir_all(path).unwrap();
        Ok(Arc::new(open(&data, 16 << 20)?))
    });
}

#[test]
fn shared_stores_keep_what_they_acknowledged() {
    for engine in Kind::ALL.into_iter().filter(|kind| kind.is_built()) {
        let options = Options { engine, ..Options::default() };
        contract::check_files(tempfile::tempdir().unwrap().path(), |path| open(path, &options));
    }
}

#[test]
fn the_holder_of_a_shared_store_keeps_the_contract() {
    let folders = Folders::new();
    contract::check(|| open(&folders.next(), &Options::default()).unwrap());
}

#[test]
fn a_client_of_a_shared_store_keeps_the_contract() {
    let folders = Folders::new();
    let holders: Mutex<Vec<Arc<dyn Engine>>> = Mutex::default();
    contract::check(|| {
        let dir = folders.next();
        holders.lock().unwrap().push(open(&dir, &Options::default()).unwrap());
        open(&dir, &Options::default()).unwrap()
    });
}
