//! The engine's file read without the engine: the same entries, damage named by its place, and nothing written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tracker_engine::{Batch, Direction, Durability, KeyRange, Options, Pages, Read, open};

/// A store with some thousand entries, some of them larger than a page, some removed again.
fn filled(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let engine = open(dir, &Options::default()).unwrap();
    let mut model = BTreeMap::new();
    for part in 0..4_u32 {
        let mut batch = Batch::new();
        for nth in 0..1500_u32 {
            let key = [b"key/".as_slice(), &(nth * 4 + part).to_be_bytes()].concat();
            let n_bytes = if nth % 300 == 0 { 20_000 } else { (nth as usize * 7) % 90 };
            let value = vec![(nth % 251) as u8; n_bytes];
            batch.put(&key, &value);
            model.insert(key, value);
        }
        engine.commit(&batch, Durability::Sync).unwrap();
    }
    let mut batch = Batch::new();
    for key in model.keys().step_by(5).cloned().collect::<Vec<_>>() {
        batch.delete(&key);
        model.remove(&key);
    }
    engine.commit(&batch, Durability::Sync).unwrap();
    model
}

fn entries(pages: &Pages, range: KeyRange<'_>, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    pages.collect(range, direction, usize::MAX).unwrap()
}

fn pages(dir: &Path) -> Pages {
    Pages::open(dir, &Options::default()).unwrap()
}

#[test]
fn it_reads_what_the_engine_wrote_in_both_directions_and_key_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let data = fs::read(dir.path().join("data.redb")).unwrap();
    let pages = pages(dir.path());
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.clone().into_iter().collect();
    assert_eq!(entries(&pages, KeyRange::all(), Direction::Ascending), all);
    assert_eq!(pages.n_entries(), Some(all.len() as u64));
    let mut backwards = entries(&pages, KeyRange::all(), Direction::Descending);
    backwards.reverse();
    assert_eq!(backwards, all);
    let (start, end) = (&all[1000].0, &all[1700].0);
    assert_eq!(entries(&pages, KeyRange::new(start, end), Direction::Ascending), all[1000..1700]);
    for (key, value) in all.iter().step_by(37) {
        assert_eq!(pages.get(key).unwrap().as_ref(), Some(value));
        assert_eq!(pages.get(&[key.as_slice(), b"x"].concat()).unwrap(), None);
    }
    let cuts = pages.cuts(8);
    assert!(cuts.len() >= 4 && cuts.is_sorted(), "{}", cuts.len());
    pages.check_rest();
    assert_eq!(pages.damage(), []);
    drop(pages);
    assert_eq!(fs::read(dir.path().join("data.redb")).unwrap(), data, "a reader wrote");
}

#[test]
fn a_store_that_another_holds_is_read_as_of_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let holder = open(dir.path(), &Options::default()).unwrap();
    let mut first = Batch::new();
    first.put(model.keys().next().unwrap(), model.values().next().unwrap());
    holder.commit(&first, Durability::Sync).unwrap();
    let pages = pages(dir.path());
    assert!(pages.is_shared());
    for round in 0..50_u32 {
        let mut batch = Batch::new();
        for (nth, key) in model.keys().enumerate().filter(|(nth, _)| nth % 50 == round as usize) {
            batch.put(key, &nth.to_le_bytes_for_test());
        }
        holder.commit(&batch, Durability::Sync).unwrap();
    }
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.into_iter().collect();
    assert_eq!(entries(&pages, KeyRange::all(), Direction::Ascending), all);
    assert_eq!(pages.damage(), []);
    assert!(pages.is_kept());
    drop(holder);
    assert!(!pages.is_kept(), "nobody keeps it any more");
}

#[test]
fn who_only_reads_writes_nothing_and_a_first_commit_takes_older_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let path = dir.path().join("data.redb");
    let before = fs::read(&path).unwrap();
    {
        let reader = open(dir.path(), &Options::default()).unwrap();
        assert_eq!(reader.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap().len(), model.len());
        drop(reader.snapshot().unwrap());
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    let holder = open(dir.path(), &Options::default()).unwrap();
    let snapshot = holder.snapshot().unwrap();
    let (key, value) = model.iter().next().unwrap();
    assert_eq!(snapshot.get(key).unwrap().as_ref(), Some(value));
    let mut batch = Batch::new();
    batch.put(b"new", b"1");
    holder.commit(&batch, Durability::Sync).unwrap();
    assert!(matches!(snapshot.get(key), Err(tracker_engine::Error::SnapshotLost)));
    assert_eq!(holder.get(key).unwrap().as_ref(), Some(value));
    let later = holder.snapshot().unwrap();
    batch.put(b"new", b"2");
    holder.commit(&batch, Durability::Sync).unwrap();
    assert_eq!(later.get(b"new").unwrap().as_deref(), Some(b"1".as_slice()));
}

/// Ends the writer, however the reader ends.
struct Ended<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn beside_a_writer_that_never_rests_every_reading_is_one_commit_or_is_known_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let holder = open(dir.path(), &Options::default()).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let (mut n_kept, mut n_doubtful) = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut nth = 0_u32;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                // Every commit sets all counters, and leaves something behind.
                let mut batch = Batch::new();
                for counter in 0..50_u8 {
                    batch.put(&[b'c', counter], &nth.to_be_bytes());
                }
                for part in 0..40_u8 {
                    batch.put(&[b"left".as_slice(), &nth.to_be_bytes(), &[part]].concat(), &[part; 300]);
                }
                let durability = if nth.is_multiple_of(3) { Durability::Sync } else { Durability::Os };
                holder.commit(&batch, durability).unwrap();
                nth += 1;
            }
        });
        let _ended = Ended(&is_over);
        let mut n_seen = 0;
        while n_seen < 400 || n_kept <= 20 {
            let Ok(pages) = Pages::open(dir.path(), &Options::default()) else { continue };
            let read = entries(&pages, KeyRange::all(), Direction::Ascending);
            pages.check_rest();
            let (damage, is_kept) = (pages.damage(), pages.is_kept());
            // A header that is written just before its commit is seen by readers may name another than the one that is kept:
            // then pages look damaged, and another reading says otherwise.
            n_doubtful += usize::from(is_kept && !damage.is_empty());
            if is_kept && damage.is_empty() {
                let counters: Vec<&[u8]> =
                    read.iter().filter(|(key, _)| key[0] == b'c').map(|(_, value)| value.as_slice()).collect();
                assert!(counters.windows(2).all(|pair| pair[0] == pair[1]), "{counters:?}");
                let n_commits =
                    counters.first().map_or(0, |n| u32::from_be_bytes((*n).try_into().unwrap()) as usize + 1);
                assert_eq!(read.len(), if n_commits == 0 { 0 } else { 50 + 40 * n_commits });
                n_seen = n_commits;
                n_kept += 1;
            }
        }
    });
    assert!(n_kept > 20 && n_doubtful * 5 <= n_kept, "{n_kept} kept, {n_doubtful} doubtful");
}

/// A copy of the files of a store whose holder has a journal, as a kill would leave them.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["FORMAT", "data.redb", "data.journal"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[test]
fn what_is_in_the_journal_is_read_over_the_file_and_its_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = filled(dir.path());
    let holder = open(dir.path(), &Options::default()).unwrap();
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    let mut left = None;
    for nth in 0..40_usize {
        let mut batch = Batch::new();
        batch.put(&keys[nth * 31], b"newer");
        model.insert(keys[nth * 31].clone(), b"newer".to_vec());
        batch.delete(&keys[nth * 31 + 1]);
        model.remove(&keys[nth * 31 + 1]);
        let key = [b"new/".as_slice(), &[nth as u8]].concat();
        batch.put(&key, b"x");
        model.insert(key, b"x".to_vec());
        holder.commit(&batch, Durability::Os).unwrap();
        if dir.path().join("data.journal").exists() {
            left = Some((killed(dir.path()), model.clone()));
        }
    }
    let beside = pages(dir.path());
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.into_iter().collect();
    assert_eq!(entries(&beside, KeyRange::all(), Direction::Ascending), all);
    drop((beside, holder));
    let (left, model) = left.expect("a commit that waited to be synced");
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.into_iter().collect();
    let read = pages(left.path());
    if !read.has_journal() {
        // It was written into the file between the two copies.
        return;
    }
    assert_eq!(entries(&read, KeyRange::all(), Direction::Ascending), all);
    let mut backwards = entries(&read, KeyRange::all(), Direction::Descending);
    backwards.reverse();
    assert_eq!(backwards, all);
    assert_eq!(read.get(b"new/\0").unwrap().as_deref(), Some(b"x".as_slice()));
    assert_eq!(read.damage(), []);
    drop(read);
    let journal = left.path().join("data.journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[3] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let read = pages(left.path());
    assert!(read.damage().iter().any(|damage| damage.file == journal), "{:?}", read.damage());
    drop(read);
    let aside = left.path().join("aside");
    let salvaged = tracker_engine::salvage(left.path(), &aside, &mut |_, _| false, &mut |_, _| true).unwrap().unwrap();
    assert!(salvaged.n_entries > 1000 && aside.join("data.journal.1").exists());
    assert_eq!(pages(left.path()).damage(), []);
    assert!(open(left.path(), &Options::default()).unwrap().get(&all[0].0).is_ok());
}

trait ForTest {
    fn to_le_bytes_for_test(&self) -> [u8; 8];
}

impl ForTest for usize {
    fn to_le_bytes_for_test(&self) -> [u8; 8] {
        (*self as u64).to_le_bytes()
    }
}

#[test]
fn every_flipped_byte_is_named_by_its_page_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let path = dir.path().join("data.redb");
    let whole = fs::read(&path).unwrap();
    let all: Vec<(Vec<u8>, Vec<u8>)> = model.clone().into_iter().collect();
    let mut n_named = 0;
    for nth in 0..520_usize {
        // The header byte by byte, the rest spread over the file.
        let at = if nth < 320 { nth } else { (nth * 7919 * 131) % whole.len() };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (nth % 8);
        fs::write(&path, &bytes).unwrap();
        let pages = pages(dir.path());
        let read = entries(&pages, KeyRange::all(), Direction::Ascending);
        pages.check_rest();
        for (key, value) in &read {
            assert_eq!(model.get(key), Some(value), "byte {at}: another entry was given");
        }
        if pages.damage().is_empty() {
            assert_eq!(read, all, "byte {at}: entries are missing and nobody says so");
            drop(pages);
            let engine = open(dir.path(), &Options::default()).unwrap();
            assert_eq!(engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX).unwrap(), all, "byte {at}");
            continue;
        }
        n_named += 1;
        for (key, value) in all.iter().step_by(501) {
            match pages.get(key) {
                Ok(found) => assert!(found.is_none_or(|found| found == *value)),
                Err(error) => assert!(error.to_string().contains("at byte"), "{error}"),
            }
        }
        pages.doubtful(&mut |_, _, _| {});
    }
    assert!(n_named > 30, "{n_named}");
}

#[test]
fn a_damaged_branch_does_not_hide_the_leaves_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let path = dir.path().join("data.redb");
    let whole = fs::read(&path).unwrap();
    let mut n_saved = 0;
    for at in (4096..whole.len()).step_by(4096).filter(|at| whole[*at] == 2) {
        let mut bytes = whole.clone();
        let last = bytes[at..at + 4096].iter().rposition(|byte| *byte != 0).unwrap();
        bytes[at + last] ^= 0x40; // The end of a key, which nothing below depends on.
        fs::write(&path, &bytes).unwrap();
        let pages = pages(dir.path());
        let read = entries(&pages, KeyRange::all(), Direction::Ascending);
        assert!(read.iter().all(|(key, value)| model.get(key) == Some(value)));
        if pages.damage().iter().any(|damage| damage.offset == at as u64) {
            assert_eq!(read.len(), model.len(), "page at {at}");
            n_saved += 1;
        }
    }
    assert!(n_saved > 0);
}

#[test]
fn files_that_are_cut_short_or_swapped_or_random_are_named_and_never_hang() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("data.redb");
    let whole = fs::read(&path).unwrap();
    let noise = |n: usize| -> Vec<u8> {
        (0..n as u64).map(|nth| (nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8).collect()
    };
    let header_of_noise = [&whole[..9], &noise(whole.len())].concat();
    let cases = [
        Vec::new(),
        whole[..100].to_vec(),
        whole[..4096].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        noise(50_000),
        header_of_noise,
    ];
    for (nth, bytes) in cases.into_iter().enumerate() {
        fs::write(&path, &bytes).unwrap();
        let pages = pages(dir.path());
        pages.range(KeyRange::all(), Direction::Ascending, &mut |_, _| ControlFlow::Continue(())).unwrap();
        pages.check_rest();
        assert_ne!(pages.damage(), [], "case {nth}");
    }
}
