//! Disks that fill up and fail at any step, commits that are sent twice, and damaged files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use ::redb::StorageBackend;

use super::*;
use crate::contract::Random;

/// A disk in memory that can be told to fail.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Writes and syncs until one fails.
    n_until_failure: Option<u64>,
    /// The length beyond which there is no space.
    n_bytes_limit: Option<usize>,
    n_steps: u64,
}

impl Disk {
    /// The `n`th step from now fails, once.
    fn fail_at(&self, n: u64) {
        self.0.lock().unwrap().n_until_failure = Some(n);
    }

    fn fill(&self) {
        let mut state = self.0.lock().unwrap();
        state.n_bytes_limit = Some(state.bytes.len());
    }

    fn free(&self) {
        let mut state = self.0.lock().unwrap();
        state.n_bytes_limit = None;
        state.n_until_failure = None;
    }

    fn step(state: &mut State) -> io::Result<()> {
        state.n_steps += 1;
        match &mut state.n_until_failure {
            Some(0) => {
                state.n_until_failure = None;
                Err(io::Error::other("the disk failed"))
            }
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let found = state.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.n_bytes_limit.is_some_and(|limit| len as usize > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::step(&mut self.0.lock().unwrap())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        Self::step(&mut state)?;
        state.bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn engine_on(disk: &Disk) -> Redb {
    engine_with(disk, None)
}

fn engine_with(disk: &Disk, journal: Option<&Path>) -> Redb {
    let disk = disk.clone();
    let opener = move || Database::builder().create_with_backend(disk.clone());
    let file = File::open(Path::new("(test)"), Box::new(opener)).unwrap();
    file.make_table().unwrap();
    Redb::over(file, journal).unwrap()
}

fn puts(entries: &[(&[u8], &[u8])]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in entries {
        batch.put(key, value);
    }
    batch
}

#[test]
fn a_full_disk_refuses_whole_batches_and_keeps_what_was_written() {
    let disk = Disk::default();
    let engine = engine_on(&disk);
    engine.commit_once(&puts(&[(b"a", b"1")]), Durability::Sync, false).unwrap();
    disk.fill();
    let mut large = puts(&[(b"b", b"2")]);
    for i in 0..1_000_u32 {
        large.put(&i.to_be_bytes(), &[1; 1_000]);
    }
    let error = engine.commit_once(&large, Durability::Sync, false).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(engine.get(b"b").unwrap(), None);
    disk.free();
    engine.commit_once(&large, Durability::Sync, false).unwrap();
    assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
}

/// Fails every write and every sync of a commit in turn; the answer must be what a reader then finds.
#[test]
fn a_commit_that_meets_a_failing_disk_is_answered_with_what_is_there() {
    let n_steps = {
        let disk = Disk::default();
        let engine = engine_on(&disk);
        engine.commit_once(&puts(&[(b"a", b"1")]), Durability::Sync, false).unwrap();
        let before = disk.0.lock().unwrap().n_steps;
        engine.commit_once(&puts(&[(b"a", b"2"), (b"b", b"2")]), Durability::Sync, false).unwrap();
        disk.0.lock().unwrap().n_steps - before
    };
    assert!(n_steps > 2, "a commit writes and syncs");
    let (mut n_failed, mut n_written) = (0, 0);
    for step in 0..n_steps {
        let disk = Disk::default();
        let engine = engine_on(&disk);
        engine.commit_once(&puts(&[(b"a", b"1")]), Durability::Sync, false).unwrap();
        disk.fail_at(step);
        let answer = engine.commit_once(&puts(&[(b"a", b"2"), (b"b", b"2")]), Durability::Sync, false);
        let (a, b) = (engine.get(b"a").unwrap().unwrap(), engine.get(b"b").unwrap());
        if answer.is_ok() {
            n_written += 1;
            assert_eq!((a, b), (b"2".to_vec(), Some(b"2".to_vec())), "step {step}: acknowledged and not there");
        } else {
            n_failed += 1;
            assert_eq!((a, b), (b"1".to_vec(), None), "step {step}: refused and there");
        }
        engine.commit_once(&puts(&[(b"c", b"3")]), Durability::Sync, false).unwrap();
        drop(engine);
        assert_eq!(engine_on(&disk).get(b"c").unwrap().as_deref(), Some(b"3".as_slice()));
    }
    assert!(n_failed + n_written == n_steps && n_failed > 0);
}

#[test]
fn a_resent_commit_that_is_there_is_acknowledged_and_not_judged_again() {
    let engine = engine_on(&Disk::default());
    let mut batch = puts(&[(b"a", b"1")]);
    batch.require_absent(b"a");
    batch.delete(b"gone");
    engine.commit_once(&batch, Durability::Sync, false).unwrap();
    engine.commit_once(&batch, Durability::Sync, true).unwrap();
    assert_eq!(engine.counts().n_syncs, 1, "what is there is not written again");
    assert!(matches!(engine.commit_once(&batch, Durability::Sync, false), Err(Error::Conflict { .. })));
    engine.commit_once(&puts(&[(b"a", b"2")]), Durability::Sync, false).unwrap();
    assert!(
        matches!(engine.commit_once(&batch, Durability::Sync, true), Err(Error::Conflict { .. })),
        "another has written since"
    );
}

#[test]
fn a_resent_commit_that_never_arrived_is_written() {
    let engine = engine_on(&Disk::default());
    let mut batch = puts(&[(b"a", b"1"), (b"b", b"1")]);
    batch.require_absent(b"a");
    engine.commit_once(&batch, Durability::Sync, true).unwrap();
    assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"1".as_slice()));
}

#[test]
fn a_resent_question_is_judged_again() {
    let engine = engine_on(&Disk::default());
    let mut question = Batch::new();
    question.require_equals(b"a", b"1");
    assert!(matches!(engine.commit_once(&question, Durability::Sync, true), Err(Error::Conflict { .. })));
}

#[test]
fn commits_that_meet_share_a_sync_and_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Redb::create(&dir.path().join("data"), 1 << 20).unwrap();
    engine.commit_once(&puts(&[(b"taken", b"")]), Durability::Sync, false).unwrap();
    thread::scope(|scope| {
        for thread in 0..16_u8 {
            let engine = &engine;
            scope.spawn(move || {
                for i in 0..50_u8 {
                    let mut batch = puts(&[(&[thread, i], &[i])]);
                    if i % 5 == 0 {
                        batch.require_absent(b"taken");
                    }
                    let answer = engine.commit_once(&batch, Durability::Sync, false);
                    assert_eq!(answer.is_ok(), i % 5 != 0, "{answer:?}");
                }
            });
        }
    });
    let counts = engine.counts();
    assert_eq!(counts.n_commits, 1 + 16 * 40);
    assert!(counts.n_syncs < counts.n_commits, "{counts:?}");
    assert_eq!(engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap().len(), 1 + 16 * 40);
}

#[test]
fn an_open_file_is_busy_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let _engine = Redb::create(&path, 1 << 20).unwrap();
    assert!(matches!(Redb::open(&path, 1 << 20), Err(Error::Busy { .. })));
}

/// Flips and cuts bytes of a closed file. What is read must be an answer or an error that names the file.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let engine = Redb::create(&path, 1 << 20).unwrap();
    let mut batch = Batch::new();
    for i in 0..3_000_u32 {
        batch.put(&i.to_be_bytes(), &[i as u8; 60]);
    }
    engine.commit_once(&batch, Durability::Sync, false).unwrap();
    drop(engine);
    let whole = std::fs::read(&path).unwrap();
    let (mut n_refused, mut seed) = (0, 1_u64);
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 16) as usize % bytes.len();
            match round % 3 {
                0 => bytes[at] ^= 1 << (seed >> 61),
                1 => bytes[at..(at + 512).min(whole.len())].fill(seed as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let used = Redb::open(&path, 1 << 20).and_then(|engine| {
            engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX)?;
            engine.get(&7_u32.to_be_bytes())?;
            engine.commit_once(&batch, Durability::Sync, false)
        });
        if let Err(error) = used {
            assert!(error.to_string().contains("data"), "{error}");
            n_refused += 1;
        }
    }
    assert!(n_refused > 0);
}

fn all(engine: &Redb) -> Vec<crate::Entry> {
    engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap()
}

/// Leaves an engine as kill -9 does: nothing is written or closed any more.
fn kill(engine: Redb) {
    // Its syncer would write on.
    lock(&engine.held.wake).is_closing = true;
    engine.held.woken.notify_all();
    std::mem::forget(engine);
}

#[test]
fn what_only_the_journal_has_is_there_after_a_kill_and_in_the_file_after_a_close() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let path = dir.path().join("data.journal");
    let engine = engine_with(&disk, Some(&path));
    engine.commit_once(&puts(&[(b"a", b"0"), (b"b", b"0")]), Durability::Sync, false).unwrap();
    let mut batch = puts(&[(b"a", b"1")]);
    batch.delete(b"b");
    batch.require_equals(b"a", b"0");
    engine.commit_once(&batch, Durability::Os, false).unwrap();
    assert!(matches!(engine.commit_once(&batch, Durability::Os, false), Err(Error::Conflict { .. })));
    engine.commit_once(&batch, Durability::Os, true).unwrap();
    assert_eq!((engine.counts().n_commits, engine.counts().n_syncs), (2, 1));
    kill(engine);
    let expected = [(b"a".to_vec(), b"1".to_vec())];
    let engine = engine_with(&disk, Some(&path));
    assert_eq!(all(&engine), expected);
    drop(engine);
    assert!(!path.exists());
    assert_eq!(all(&engine_with(&disk, Some(&path))), expected);
}

#[test]
fn what_waits_is_synced_after_a_while_and_goes_with_the_next_that_is_synced() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let path = dir.path().join("data.journal");
    let engine = engine_with(&disk, Some(&path));
    engine.commit_once(&puts(&[(b"a", b"1")]), Durability::Os, false).unwrap();
    engine.commit_once(&puts(&[(b"b", b"1")]), Durability::Sync, false).unwrap();
    assert_eq!((engine.counts().n_syncs, std::fs::metadata(&path).unwrap().len()), (1, 0));
    engine.commit_once(&puts(&[(b"c", b"1")]), Durability::Os, false).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    let started = std::time::Instant::now();
    while engine.counts().n_syncs < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "nobody synced it");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(all(&engine).len(), 3);
}

#[test]
fn snapshots_see_one_state_through_journal_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Redb::create(&dir.path().join("data.redb"), 1 << 20).unwrap();
    engine.commit(&puts(&[(b"a", b"1"), (b"c", b"1"), (b"e", b"1")]), Durability::Sync).unwrap();
    let mut second = puts(&[(b"b", b"2"), (b"c", b"2")]);
    second.delete(b"e");
    engine.commit(&second, Durability::Os).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let expected: Vec<crate::Entry> =
        [(b"a", b"1"), (b"b", b"2"), (b"c", b"2")].map(|(key, value)| (key.to_vec(), value.to_vec())).into();
    engine.commit(&puts(&[(b"b", b"3"), (b"e", b"3")]), Durability::Os).unwrap();
    engine.commit(&puts(&[(b"a", b"4")]), Durability::Sync).unwrap();
    engine.commit(&puts(&[(b"a", b"5")]), Durability::Os).unwrap();
    let read = |direction| snapshot.collect(KeyRange::all(), direction, usize::MAX).unwrap();
    assert_eq!(read(Direction::Ascending), expected);
    let reversed: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(read(Direction::Descending), reversed);
    assert_eq!((snapshot.get(b"e").unwrap(), snapshot.get(b"b").unwrap()), (None, Some(b"2".to_vec())));
    assert_eq!(engine.get(b"a").unwrap(), Some(b"5".to_vec()));
}

/// Fails every write and every sync of a transaction in turn that takes along what waits.
#[test]
fn what_was_acknowledged_outlives_a_failing_disk_at_every_step() {
    let expected = |with_c: bool| -> Vec<crate::Entry> {
        let mut all = vec![(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), b"1".to_vec())];
        all.extend(with_c.then(|| (b"c".to_vec(), b"1".to_vec())));
        all
    };
    for step in 0.. {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let path = dir.path().join("data.journal");
        let engine = engine_with(&disk, Some(&path));
        engine.commit_once(&puts(&[(b"a", b"1")]), Durability::Sync, false).unwrap();
        engine.commit_once(&puts(&[(b"a", b"2"), (b"b", b"1")]), Durability::Os, false).unwrap();
        disk.fail_at(step);
        let answer = engine.commit_once(&puts(&[(b"c", b"1")]), Durability::Sync, false);
        let was_reached = disk.0.lock().unwrap().n_until_failure.is_none();
        disk.free();
        assert_eq!(all(&engine), expected(answer.is_ok()), "step {step}: {answer:?}");
        kill(engine);
        let engine = engine_with(&disk, Some(&path));
        assert_eq!(all(&engine), expected(answer.is_ok()), "step {step}, killed: {answer:?}");
        engine.commit_once(&puts(&[(b"c", b"1")]), Durability::Os, false).unwrap();
        assert_eq!(all(&engine), expected(true));
        if !was_reached {
            assert!(step > 4, "a transaction writes and syncs");
            break;
        }
    }
}

#[test]
fn a_journal_that_grew_large_goes_into_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Redb::create(&dir.path().join("data.redb"), 1 << 20).unwrap();
    for i in 0..200_u32 {
        engine.commit(&puts(&[(&i.to_be_bytes(), &vec![0; 100_000])]), Durability::Os).unwrap();
    }
    assert!(engine.counts().n_syncs >= 2 && engine.counts().n_syncs < 20, "{:?}", engine.counts());
    assert_eq!(all(&engine).len(), 200);
    // One that is large itself is no matter for the journal.
    let before = engine.counts().n_syncs;
    engine.commit(&puts(&[(b"large", &vec![0; MAX_JOURNALED_BYTES])]), Durability::Os).unwrap();
    assert_eq!(engine.counts().n_syncs, before + 1);
}

/// Random commits of both kinds, snapshots and kills, against a map.
#[test]
fn kills_between_random_commits_lose_nothing() {
    for seed in 1..=8 {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let path = dir.path().join("data.journal");
        let mut rng = Random(seed);
        let mut model = std::collections::BTreeMap::new();
        let mut engine = engine_with(&disk, Some(&path));
        for _ in 0..400 {
            match rng.below(40) {
                0 => {
                    kill(engine);
                    engine = engine_with(&disk, Some(&path));
                }
                1 => {
                    drop(engine);
                    engine = engine_with(&disk, Some(&path));
                }
                n => {
                    let mut batch = Batch::new();
                    for _ in 0..=rng.below(4) {
                        let (key, value) = (vec![rng.below(30) as u8], vec![rng.below(256) as u8]);
                        match rng.below(3) {
                            0 => {
                                batch.delete(&key);
                                model.remove(&key);
                            }
                            1 if !model.contains_key(&key) => {
                                batch.put_new(&key, &value);
                                model.insert(key, value);
                            }
                            _ => {
                                batch.put(&key, &value);
                                model.insert(key, value);
                            }
                        }
                    }
                    let durability = if n < 10 { Durability::Sync } else { Durability::Os };
                    engine.commit(&batch, durability).unwrap();
                }
            }
            let expected: Vec<crate::Entry> = model.clone().into_iter().collect();
            assert_eq!(all(&engine), expected, "seed {seed}");
        }
    }
}

/// The first commit after a file was opened to be read opens it anew: who reads then has to ask once more, and no oftener.
#[test]
fn the_first_commit_costs_a_reader_one_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.redb");
    let engine = Redb::create(&path, 1 << 20).unwrap();
    engine.commit(&puts(&[(b"a", b"0")]), Durability::Sync).unwrap();
    drop(engine);
    for round in 0..20_u8 {
        let engine = Redb::open(&path, 1 << 20).unwrap();
        let mut batch = puts(&[(b"a", &[round])]);
        for i in 0..2_000_u32 {
            batch.put(&i.to_be_bytes(), &[round; 500]);
        }
        thread::scope(|scope| {
            let writer = scope.spawn(|| engine.commit(&batch, Durability::Sync));
            let mut n_lost = 0;
            while !writer.is_finished() {
                match engine.snapshot().and_then(|snapshot| snapshot.get(b"a")) {
                    Err(Error::SnapshotLost) => n_lost += 1,
                    read => assert!(read.unwrap().is_some()),
                }
            }
            assert!(n_lost <= 1, "round {round}: {n_lost} snapshots were lost");
            writer.join().unwrap().unwrap();
        });
        assert_eq!(engine.get(b"a").unwrap(), Some(vec![round]));
    }
}
