//! Many processes on one folder, and what becomes of them when they are killed.
//!
//! A test that needs other processes starts itself anew, with a role; so each test begins by asking whether it has one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking; children talk over stdout")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tracker_engine::{Batch, Direction, Durability, Engine, Error, KeyRange, Kind, Options, open};

const ROLE_DIR: &str = "TRACKER_ENGINE_TEST_DIR";

/// The folder this process is to work in, if it is a child.
fn role() -> Option<PathBuf> {
    std::env::var_os(ROLE_DIR).map(PathBuf::from)
}

/// Another process, running the same test as a child.
struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
    last: u64,
    _stdin: ChildStdin,
}

impl Other {
    fn start(test: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE_DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take().unwrap();
        Self { child, lines, last: 0, _stdin: stdin }
    }

    /// What it says next; `None` when it has ended.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // A line cut short by a kill was not said.
            if let Some(word) = line.strip_prefix("say ").and_then(|line| line.strip_suffix('\n')) {
                return Some(word.to_owned());
            }
        }
    }

    /// The next number it says, or the end.
    fn count(&mut self) -> Option<u64> {
        self.last = self.next()?.parse().unwrap();
        Some(self.last)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A signal is delivered some time after it was sent.
    fn wait_until_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says `word` to the parent.
fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    // The test harness may have begun a line of its own.
    out.write_all(format!("\nsay {word}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Opens the store, says so, and keeps it until the parent ends this process.
fn hold(dir: &Path) {
    let _engine = open(dir, &Options::default()).unwrap();
    say("holding");
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).unwrap();
}

fn holder_pid(dir: &Path) -> u32 {
    fs::read_to_string(dir.join("LOCK")).unwrap().trim().parse().unwrap()
}

fn put(engine: &dyn Engine, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    engine.commit(&batch, Durability::Sync).unwrap();
}

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// Counts under its own process id. Each step holds only if the one before it took effect exactly once.
fn count(dir: &Path) {
    let engine = open(dir, &Options::default()).unwrap();
    let name = std::process::id().to_be_bytes();
    for i in 0_u64.. {
        let mut batch = Batch::new();
        if i == 0 {
            batch.require_absent(&name);
        } else {
            batch.require_equals(&name, &i.to_be_bytes());
        }
        batch.put(&name, &(i + 1).to_be_bytes());
        batch.put(&[&name[..], &i.to_be_bytes()].concat(), b"x");
        // Both classes survive a kill.
        let durability = if i % 2 == 0 { Durability::Os } else { Durability::Sync };
        engine.commit(&batch, durability).unwrap();
        say(&(i + 1).to_string());
    }
}

#[test]
fn holders_killed_in_turn_lose_nothing_and_apply_nothing_twice() {
    const TEST: &str = "holders_killed_in_turn_lose_nothing_and_apply_nothing_twice";
    if let Some(dir) = role() {
        return count(&dir);
    }
    for engine in Kind::ALL.into_iter().filter(|kind| kind.is_built()) {
        kill_holders_in_turn(TEST, engine);
    }
}

fn kill_holders_in_turn(test: &str, engine: Kind) {
    let dir = tempfile::tempdir().unwrap();
    // Made by the first to come; the others find what keeps it.
    drop(open(dir.path(), &Options { engine, ..Options::default() }).unwrap());
    let mut living: Vec<Other> = (0..3).map(|_| Other::start(test, dir.path())).collect();
    let mut killed = Vec::new();
    for _ in 0..8 {
        // Everyone gets on, whoever holds the store.
        for other in &mut living {
            for _ in 0..100 {
                other.count().unwrap();
            }
        }
        let pid = holder_pid(dir.path());
        let at = living.iter().position(|other| other.pid() == pid).unwrap();
        living[at].kill();
        killed.push(living.swap_remove(at));
        living.push(Other::start(test, dir.path()));
    }
    killed.extend(living);
    for other in &mut killed {
        other.kill();
        while other.count().is_some() {}
    }
    let store = open(dir.path(), &Options::default()).unwrap();
    assert_eq!(store.name(), engine.name());
    let mut n_total = 0;
    for other in &killed {
        let (pid, n_acknowledged) = (other.pid(), other.last);
        let name = pid.to_be_bytes();
        let n_counted = number(store.get(&name).unwrap().as_deref());
        let prefix = store.collect(KeyRange::prefix(&name), Direction::Ascending, usize::MAX).unwrap();
        assert_eq!(prefix.len() as u64, if n_counted == 0 { 0 } else { n_counted + 1 }, "of process {pid}");
        assert!(n_counted >= n_acknowledged, "process {pid}: {n_acknowledged} acknowledged, {n_counted} there");
        assert!(n_counted <= n_acknowledged + 1, "process {pid} had one commit in flight at most");
        n_total += n_counted;
    }
    assert!(n_total >= 2_400);
}

#[test]
fn processes_that_race_to_make_a_store_share_one() {
    const TEST: &str = "processes_that_race_to_make_a_store_share_one";
    if let Some(dir) = role() {
        put(&*open(&dir, &Options::default()).unwrap(), &std::process::id().to_be_bytes(), b"here");
        return hold(&dir);
    }
    for _ in 0..5 {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b/store");
        let mut others: Vec<Other> = (0..6).map(|_| Other::start(TEST, &dir)).collect();
        for other in &mut others {
            assert_eq!(other.next().as_deref(), Some("holding"));
        }
        let engine = open(&dir, &Options::default()).unwrap();
        for other in &others {
            assert_eq!(engine.get(&other.pid().to_be_bytes()).unwrap().as_deref(), Some(b"here".as_slice()));
        }
        assert_eq!(engine.collect(KeyRange::all(), Direction::Ascending, 100).unwrap().len(), others.len());
    }
}

#[test]
fn a_client_outlives_its_holder_and_its_snapshots_do_not() {
    const TEST: &str = "a_client_outlives_its_holder_and_its_snapshots_do_not";
    if let Some(dir) = role() {
        return hold(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Other::start(TEST, dir.path());
    holder.next().unwrap();
    let client = open(dir.path(), &Options::default()).unwrap();
    let mut batch = Batch::new();
    for i in 0..5_000_u32 {
        batch.put(&i.to_be_bytes(), &[1; 100]);
    }
    client.commit(&batch, Durability::Sync).unwrap();
    let snapshot = client.snapshot().unwrap();
    assert_eq!(snapshot.get(&7_u32.to_be_bytes()).unwrap(), Some(vec![1; 100]));

    let mut n_seen = 0;
    let cut = client.range(KeyRange::all(), Direction::Ascending, &mut |_, _| {
        if n_seen == 0 {
            holder.kill();
        }
        n_seen += 1;
        ControlFlow::Continue(())
    });
    assert!(matches!(cut, Err(Error::SnapshotLost)), "{cut:?}");
    assert!(n_seen < 5_000);
    assert!(matches!(snapshot.get(b"x"), Err(Error::SnapshotLost)));

    assert_eq!(client.collect(KeyRange::all(), Direction::Descending, 9_999).unwrap().len(), 5_000);
    assert_eq!(holder_pid(dir.path()), std::process::id());
    put(&*client, b"x", b"1");
    assert_eq!(client.snapshot().unwrap().get(b"x").unwrap().as_deref(), Some(b"1".as_slice()));
}

#[test]
fn a_stopped_holder_is_named_and_may_go_on() {
    const TEST: &str = "a_stopped_holder_is_named_and_may_go_on";
    if let Some(dir) = role() {
        return hold(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut holder = Other::start(TEST, dir.path());
    holder.next().unwrap();
    let impatient = Options { patience: Duration::from_millis(100), ..Options::default() };
    let early = open(dir.path(), &impatient).unwrap();
    put(&*early, b"k", b"1");
    holder.signal("-STOP");
    holder.wait_until_stopped();
    for error in [early.get(b"k").err().unwrap(), open(dir.path(), &impatient).err().unwrap()] {
        let Error::Unavailable { pid, stopped, .. } = error else { panic!("{error}") };
        assert_eq!((pid, stopped), (Some(holder.pid()), true));
    }
    holder.signal("-CONT");
    let patient = open(dir.path(), &Options::default()).unwrap();
    assert_eq!(patient.get(b"k").unwrap().as_deref(), Some(b"1".as_slice()));
    put(&*early, b"k", b"2");
}

#[test]
fn a_holder_that_leaves_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let handles: Vec<Arc<dyn Engine>> = (0..4).map(|_| open(dir.path(), &Options::default()).unwrap()).collect();
    for (i, handle) in handles.into_iter().enumerate() {
        put(&*handle, &[i as u8], b"");
        // The handle goes here; the next one finds the store free.
        assert_eq!(handle.collect(KeyRange::all(), Direction::Ascending, 99).unwrap().len(), i + 1);
    }
    assert!(!dir.path().join("socket").exists(), "who leaves last clears the socket away");
}

#[test]
fn a_snapshot_keeps_its_store_served_after_the_handle_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let holder = open(dir.path(), &Options::default()).unwrap();
    let snapshot = holder.snapshot().unwrap();
    drop(holder);
    let client = open(dir.path(), &Options { patience: Duration::from_secs(5), ..Options::default() }).unwrap();
    put(&*client, b"k", b"1");
    assert_eq!(snapshot.get(b"k").unwrap(), None);
    drop(snapshot);
    assert_eq!(client.get(b"k").unwrap().as_deref(), Some(b"1".as_slice()));
}

#[test]
fn stale_and_foreign_files_at_the_socket_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &Options::default()).unwrap());
    let socket = dir.path().join("socket");
    let making = dir.path().join("socket.new");
    for stale in ["left by a dead process", "a file", "half made"] {
        match stale {
            "a file" => fs::write(&socket, stale).unwrap(),
            "half made" => {
                fs::create_dir(&making).unwrap();
                drop(UnixListener::bind(making.join("socket")).unwrap());
            }
            _ => drop(UnixListener::bind(&socket).unwrap()),
        }
        let holder = open(dir.path(), &Options::default()).unwrap();
        let client = open(dir.path(), &Options::default()).unwrap();
        put(&*client, b"k", stale.as_bytes());
        assert_eq!(holder.get(b"k").unwrap().as_deref(), Some(stale.as_bytes()));
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!making.exists());
    }
}

#[test]
fn a_long_path_is_shared_too() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("d".repeat(120)).join("e".repeat(120));
    let holder = open(&dir, &Options::default()).unwrap();
    let client = open(&dir, &Options::default()).unwrap();
    put(&*client, b"k", b"1");
    assert_eq!(holder.get(b"k").unwrap().as_deref(), Some(b"1".as_slice()));
    drop(holder);
    assert_eq!(client.get(b"k").unwrap().as_deref(), Some(b"1".as_slice()));
}

#[test]
fn a_holder_of_another_build_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &Options::default()).unwrap());
    let lock = File::options().write(true).open(dir.path().join("LOCK")).unwrap();
    lock.try_lock().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"trkrengn\x63\0\0\0\x2a\0\0\0\0").unwrap();
        let mut greeting = [0; 17];
        stream.read_exact(&mut greeting).unwrap();
        greeting
    });
    let error = open(dir.path(), &Options::default()).err().unwrap();
    assert!(matches!(error, Error::Mismatch { pid: 42, expected: 3, got: 99 }), "{error}");
    assert!(answering.join().unwrap().starts_with(b"trkrengn\x03\0\0\0"));
}

#[test]
fn a_lock_without_a_holder_is_waited_for_with_patience() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &Options::default()).unwrap());
    let lock = File::options().write(true).open(dir.path().join("LOCK")).unwrap();
    lock.try_lock().unwrap();
    let impatient = Options { patience: Duration::from_millis(50), ..Options::default() };
    let error = open(dir.path(), &impatient).err().unwrap();
    assert!(matches!(error, Error::Unavailable { waited, .. } if waited >= impatient.patience), "{error}");
    drop(lock);
    assert_eq!(open(dir.path(), &impatient).unwrap().get(b"x").unwrap(), None);
}
