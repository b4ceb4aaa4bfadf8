//! A whole store has no damage; whatever is taken from it, put into it or changed in it is named, and what can be repaired is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tracker_engine::{Batch, Durability, Options};
use tracker_store::{Finding, Repaired, Store, Trouble, repair};
use whole::{ask, check, copy, damage, entries, files, fill};

fn change(dir: &Path, change: impl FnOnce(&mut Batch)) {
    let engine = tracker_engine::open(dir, &Options::default()).unwrap();
    let mut batch = Batch::new();
    change(&mut batch);
    engine.commit(&batch, Durability::Sync).unwrap();
}

fn repaired(dir: &Path) -> (Repaired, Vec<Finding>) {
    let mut findings = Vec::new();
    let done = repair(dir, &mut |finding| findings.push(finding), &|_| {}).unwrap();
    (done, findings)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_whole_store_has_no_damage_and_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = files(dir.path());
    let (checked, findings) = check(dir.path());
    let checked = checked.unwrap();
    assert_eq!(findings, []);
    assert!(checked.n_entries > 5_000 && checked.n_series == 8 && checked.n_pieces >= 5, "{checked:?}");
    assert_eq!(files(dir.path()), before);
    // Beside a process that holds the store, too.
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(check(dir.path()).1, []);
    drop(store);
}

/// The tags of entries that follow from others.
const DERIVED: [u8; 11] = [0x03, 0x12, 0x22, 0x23, 0x24, 0x30, 0x33, 0x34, 0x42, 0x51, 0x56];

/// Some keys of a table: the first, the last, one between.
fn some(all: &BTreeMap<Vec<u8>, Vec<u8>>, tag: u8) -> Vec<(&Vec<u8>, &Vec<u8>)> {
    let keys: Vec<_> = all.iter().filter(|(key, _)| key[0] == tag).collect();
    assert!(!keys.is_empty(), "{tag:02x}");
    vec![keys[0], keys[keys.len() / 2], keys[keys.len() - 1]]
}

/// All but heads of series, whose next chunk may be any that is free.
fn without_heads(all: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(&Vec<u8>, &Vec<u8>)> {
    all.iter().filter(|(key, _)| key[0] != 0x30).collect()
}

#[test]
fn every_entry_that_follows_from_records_is_missed_when_it_is_gone_and_comes_back_by_a_repair() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let (whole, all) = (files(source.path()), entries(source.path()));
    let answers = ask(source.path());
    for tag in DERIVED {
        for (key, _) in some(&all, tag) {
            let dir = tempfile::tempdir().unwrap();
            copy(&whole, source.path(), dir.path());
            change(dir.path(), |batch| batch.delete(key));
            let damage = damage(dir.path());
            assert!(!damage.is_empty(), "{tag:02x}");
            let (done, _) = repaired(dir.path());
            assert_eq!((done.left.n_damages, done.n_quarantined), (0, 0), "{tag:02x}: {damage:?}");
            assert_eq!(without_heads(&entries(dir.path())), without_heads(&all), "{tag:02x}");
            let renamed: Vec<_> = ask(dir.path());
            assert_eq!(renamed, answers, "{tag:02x}");
        }
    }
}

#[test]
fn every_entry_that_says_something_else_than_its_record_is_named_and_set_right() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let (whole, all) = (files(source.path()), entries(source.path()));
    for tag in [0x03, 0x12, 0x22, 0x30, 0x33, 0x34, 0x42, 0x51, 0x56] {
        let (key, value) = some(&all, tag)[1];
        let dir = tempfile::tempdir().unwrap();
        copy(&whole, source.path(), dir.path());
        let mut other = value.clone();
        match other.last_mut() {
            Some(byte) => *byte ^= 1,
            None => other.push(7),
        }
        change(dir.path(), |batch| batch.put(key, &other));
        assert!(!damage(dir.path()).is_empty(), "{tag:02x}");
        let (done, _) = repaired(dir.path());
        assert_eq!(done.left.n_damages, 0, "{tag:02x}");
        assert_eq!(without_heads(&entries(dir.path())), without_heads(&all), "{tag:02x}");
    }
}

#[test]
fn an_entry_that_follows_from_nothing_is_named_and_removed() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let (whole, all) = (files(source.path()), entries(source.path()));
    for tag in [0x03, 0x12, 0x22, 0x23, 0x24, 0x34, 0x42] {
        let (key, value) = some(&all, tag)[1];
        let dir = tempfile::tempdir().unwrap();
        copy(&whole, source.path(), dir.path());
        let mut other = key.clone();
        // Another run, another digest, another letter: a key as good as the first.
        let at = if tag == 0x03 { 1 } else { other.len() - 2 };
        other[at] ^= 1;
        assert!(!all.contains_key(&other));
        change(dir.path(), |batch| batch.put(&other, value));
        let named = damage(dir.path());
        assert!(named.iter().any(|finding| finding.trouble == Trouble::Index), "{tag:02x}: {named:?}");
        let (done, _) = repaired(dir.path());
        assert_eq!((done.left.n_damages, done.n_removed), (0, 1), "{tag:02x}");
        assert_eq!(entries(dir.path()), all);
    }
}

#[test]
fn what_cannot_be_read_is_set_aside_with_its_bytes_and_the_rest_stays() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let (whole, all) = (files(source.path()), entries(source.path()));
    let sample = some(&all, 0x10)[2];
    let block = some(&all, 0x32)[1];
    let tail = some(&all, 0x31)[0];
    let param = some(&all, 0x20)[0];
    let cases: [(&[u8], Vec<u8>); 6] = [
        (sample.0, sample.1[..sample.1.len() - 1].to_vec()),
        (sample.0, [sample.1.as_slice(), &[0]].concat()),
        (block.0, block.1[..40].to_vec()),
        (tail.0, vec![1, 9, 0]),
        (param.0, vec![0xff, 0xfe]),
        (b"\x7fnot of the store", b"x".to_vec()),
    ];
    for (nth, (key, value)) in cases.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        copy(&whole, source.path(), dir.path());
        change(dir.path(), |batch| batch.put(key, value));
        let named = damage(dir.path());
        let digits = hex(key);
        assert!(named.iter().any(|finding| finding.key.as_ref() == Some(&digits)), "case {nth}: {named:?}");
        let (done, _) = repaired(dir.path());
        assert_eq!((done.left.n_damages, done.n_quarantined), (0, 1), "case {nth}");
        let lines = fs::read_to_string(&done.quarantine[0]).unwrap();
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(line["key"], digits);
        assert_eq!(line["value"].as_str().unwrap().len(), value.len() * 2);
        let left = entries(dir.path());
        let lost: Vec<_> = all.keys().filter(|key| !left.contains_key(*key)).collect();
        // The record, and what followed from it.
        assert!(lost.len() <= 6, "case {nth}: {} entries went", lost.len());
        let (again, findings) = repaired(dir.path());
        assert_eq!((again.n_put, again.n_removed, again.n_quarantined), (0, 0, 0), "{findings:?}");
    }
}

#[test]
fn a_lost_content_is_named_with_what_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let all = entries(dir.path());
    let statement = all.keys().find(|key| key.starts_with(&[0x10, 3])).unwrap().clone();
    change(dir.path(), |batch| batch.delete(&statement));
    let named = damage(dir.path());
    assert!(
        named.iter().all(|finding| finding.trouble == Trouble::Edge || finding.trouble == Trouble::Index),
        "{named:?}"
    );
    assert!(named.iter().any(|finding| finding.what.contains("an edge names `statement:")), "{named:?}");
    let (done, findings) = repaired(dir.path());
    assert!(done.left.n_damages > 0);
    assert!(findings.iter().any(|finding| finding.what.starts_with("cannot be repaired")), "{findings:?}");
    let left = entries(dir.path());
    for (key, value) in all.iter().filter(|(key, _)| key[0] == 0x10 && **key != statement) {
        assert_eq!(left.get(key), Some(value), "a record went");
    }
}

#[test]
fn a_lost_piece_is_named_with_the_versions_checkpoints_and_runs_that_lose_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let pack = files(dir.path()).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "pack"));
    // The largest pack begins with what the weights of both versions are told from.
    let (path, mut bytes) = pack.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let named = damage(dir.path());
    assert!(named.iter().any(|finding| finding.file.as_ref() == Some(&path) && finding.offset.is_some()), "{named:?}");
    for part in ["`policy:v0`", "`policy:v1`", "checkpoint:", "loses files of"] {
        assert!(named.iter().any(|finding| finding.what.contains(part)), "{part}: {named:?}");
    }
    let (done, findings) = repaired(dir.path());
    assert!(done.left.n_damages > 0 && findings.iter().any(|finding| finding.trouble == Trouble::Repair));
    fs::remove_file(&path).unwrap();
    assert!(damage(dir.path()).iter().any(|finding| finding.what.contains("the file is gone")));
}

#[test]
fn a_damaged_page_is_written_anew_from_what_is_left() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let (whole, all) = (files(source.path()), entries(source.path()));
    let data = source.path().join("data.redb");
    let bytes = &whole[&data];
    let leaves: Vec<usize> = (4096..bytes.len()).step_by(4096).filter(|at| bytes[*at] == 1).collect();
    let mut n_salvaged = 0;
    for at in leaves.into_iter().step_by(7) {
        let dir = tempfile::tempdir().unwrap();
        copy(&whole, source.path(), dir.path());
        let mut damaged = bytes.clone();
        damaged[at + 1500] ^= 0x10;
        fs::write(dir.path().join("data.redb"), &damaged).unwrap();
        let named = damage(dir.path());
        if named.is_empty() {
            continue;
        }
        assert!(named.iter().any(|finding| finding.trouble == Trouble::File && finding.offset == Some(at as u64)));
        let (done, findings) = repaired(dir.path());
        assert!(done.is_file_salvaged, "{findings:?}");
        let left = entries(dir.path());
        n_salvaged += 1;
        for (key, value) in &all {
            // What is there is what was there, unless the flipped byte lies in it.
            if left.get(key).is_some_and(|found| found != value) {
                assert!(findings.iter().any(|finding| finding.what.contains("nothing vouches")), "{findings:?}");
            }
        }
        let n_lost = all.keys().filter(|key| !left.contains_key(*key)).count();
        assert!(n_lost <= 60, "page at {at}: {n_lost} of {} entries went", all.len());
        let kept = done.quarantine.iter().find(|path| path.to_string_lossy().contains("data.redb")).unwrap();
        assert_eq!(fs::read(kept).unwrap(), damaged);
        assert!(damage(dir.path()).len() as u64 == done.left.n_damages);
    }
    assert!(n_salvaged > 5, "{n_salvaged}");
}

#[test]
fn a_damaged_format_file_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let format = fs::read(dir.path().join("FORMAT")).unwrap();
    for bytes in [b"".as_slice(), b"tracker store, layout x", b"\x00\xff\x17garbage"] {
        fs::write(dir.path().join("FORMAT"), bytes).unwrap();
        assert!(!damage(dir.path()).is_empty());
        let (done, _) = repaired(dir.path());
        assert!(done.is_format_mended && done.left.n_damages == 0);
        assert_eq!(fs::read(dir.path().join("FORMAT")).unwrap(), format);
    }
}

#[test]
fn a_repair_is_refused_while_another_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let (key, _) = entries(dir.path()).into_iter().find(|(key, _)| key[0] == 0x22).unwrap();
    change(dir.path(), |batch| batch.delete(&key));
    let store = Store::open(dir.path()).unwrap();
    let error = repair(dir.path(), &mut |_| {}, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("is held by process"), "{error}");
    drop(store);
    assert_eq!(repaired(dir.path()).0.left.n_damages, 0);
}

#[test]
fn a_store_of_another_engine_is_checked_and_repaired_through_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { engine: tracker_engine::Kind::Sled, ..Options::default() };
    drop(Store::create_with(dir.path(), &options).unwrap());
    fill(dir.path());
    let (checked, findings) = check(dir.path());
    assert_eq!(findings, []);
    assert!(checked.unwrap().n_entries > 5_000);
    let all = entries(dir.path());
    change(dir.path(), |batch| {
        batch.delete(some(&all, 0x22)[1].0);
        batch.put(b"\x7fnot of the store", b"x");
    });
    assert_eq!(damage(dir.path()).len(), 2);
    let (done, _) = repaired(dir.path());
    assert_eq!((done.left.n_damages, done.n_put, done.n_quarantined), (0, 1, 1));
    assert_eq!(entries(dir.path()), all);
}
