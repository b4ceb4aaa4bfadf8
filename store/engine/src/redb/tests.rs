//! Disks that fill up and fail at any step, commits that are sent twice, and damaged files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use ::redb::StorageBackend;

use super::*;

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
    let disk = disk.clone();
    Redb::over(move || disk.clone()).unwrap()
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
    engine.commit_once(&puts(&[(b"a", b"1")]), false).unwrap();
    disk.fill();
    let mut large = puts(&[(b"b", b"2")]);
    for i in 0..1_000_u32 {
        large.put(&i.to_be_bytes(), &[1; 1_000]);
    }
    let error = engine.commit_once(&large, false).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(engine.get(b"b").unwrap(), None);
    disk.free();
    engine.commit_once(&large, false).unwrap();
    assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
}

/// Fails every write and every sync of a commit in turn; the answer must be what a reader then finds.
#[test]
fn a_commit_that_meets_a_failing_disk_is_answered_with_what_is_there() {
    let n_steps = {
        let disk = Disk::default();
        let engine = engine_on(&disk);
        engine.commit_once(&puts(&[(b"a", b"1")]), false).unwrap();
        let before = disk.0.lock().unwrap().n_steps;
        engine.commit_once(&puts(&[(b"a", b"2"), (b"b", b"2")]), false).unwrap();
        disk.0.lock().unwrap().n_steps - before
    };
    assert!(n_steps > 2, "a commit writes and syncs");
    let (mut n_failed, mut n_written) = (0, 0);
    for step in 0..n_steps {
        let disk = Disk::default();
        let engine = engine_on(&disk);
        engine.commit_once(&puts(&[(b"a", b"1")]), false).unwrap();
        disk.fail_at(step);
        let answer = engine.commit_once(&puts(&[(b"a", b"2"), (b"b", b"2")]), false);
        let (a, b) = (engine.get(b"a").unwrap().unwrap(), engine.get(b"b").unwrap());
        if answer.is_ok() {
            n_written += 1;
            assert_eq!((a, b), (b"2".to_vec(), Some(b"2".to_vec())), "step {step}: acknowledged and not there");
        } else {
            n_failed += 1;
            assert_eq!((a, b), (b"1".to_vec(), None), "step {step}: refused and there");
        }
        engine.commit_once(&puts(&[(b"c", b"3")]), false).unwrap();
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
    engine.commit_once(&batch, false).unwrap();
    engine.commit_once(&batch, true).unwrap();
    assert_eq!(engine.counts().n_syncs, 1, "what is there is not written again");
    assert!(matches!(engine.commit_once(&batch, false), Err(Error::Conflict { .. })));
    engine.commit_once(&puts(&[(b"a", b"2")]), false).unwrap();
    assert!(matches!(engine.commit_once(&batch, true), Err(Error::Conflict { .. })), "another has written since");
}

#[test]
fn a_resent_commit_that_never_arrived_is_written() {
    let engine = engine_on(&Disk::default());
    let mut batch = puts(&[(b"a", b"1"), (b"b", b"1")]);
    batch.require_absent(b"a");
    engine.commit_once(&batch, true).unwrap();
    assert_eq!(engine.get(b"b").unwrap().as_deref(), Some(b"1".as_slice()));
}

#[test]
fn a_resent_question_is_judged_again() {
    let engine = engine_on(&Disk::default());
    let mut question = Batch::new();
    question.require_equals(b"a", b"1");
    assert!(matches!(engine.commit_once(&question, true), Err(Error::Conflict { .. })));
}

#[test]
fn commits_that_meet_share_a_sync_and_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Redb::create(&dir.path().join("data"), 1 << 20).unwrap();
    engine.commit_once(&puts(&[(b"taken", b"")]), false).unwrap();
    thread::scope(|scope| {
        for thread in 0..16_u8 {
            let engine = &engine;
            scope.spawn(move || {
                for i in 0..50_u8 {
                    let mut batch = puts(&[(&[thread, i], &[i])]);
                    if i % 5 == 0 {
                        batch.require_absent(b"taken");
                    }
                    let answer = engine.commit_once(&batch, false);
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
    engine.commit_once(&batch, false).unwrap();
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
            engine.commit_once(&batch, false)
        });
        if let Err(error) = used {
            assert!(error.to_string().contains("data"), "{error}");
            n_refused += 1;
        }
    }
    assert!(n_refused > 0);
}
