//! What must be in an engine's files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Random, commit, compare, entries, get, keys, put};
use crate::Direction::Ascending;
use crate::{Batch, Durability, Engine, KeyRange, Result};

/// Runs the suite of engines that keep files. `open` opens the data in a folder, which it makes if there is none, and in
/// which all its files lie; `root` is an empty folder to work in.
///
/// # Panics
/// Where the engine breaks the contract, saying how.
pub fn check_files(root: &Path, open: impl Fn(&Path) -> Result<Arc<dyn Engine>>) {
    closed_data_opens_again_with_all_that_was_written(&root.join("closed"), &open);
    what_was_acknowledged_is_in_the_files(root, &open);
    what_is_gone_stays_gone(&root.join("gone"), &open);
}

fn closed_data_opens_again_with_all_that_was_written(path: &Path, open: &impl Fn(&Path) -> Result<Arc<dyn Engine>>) {
    let mut random = Random(11);
    let mut model = BTreeMap::new();
    for round in 0..6_u8 {
        let engine = opened(open, path);
        compare(&*engine, &model, &KeyRange::all());
        for i in 0..4_u8 {
            let mut batch = Batch::new();
            for _ in 0..random.below(80) {
                let key = random.key();
                if random.below(4) == 0 {
                    batch.delete(&key);
                    model.remove(&key);
                } else {
                    let n_bytes = if random.below(12) == 0 { random.below(200_000) } else { random.below(60) };
                    let value = vec![round * 16 + i; n_bytes as usize];
                    batch.put(&key, &value);
                    model.insert(key, value);
                }
            }
            commit(&*engine, &batch);
        }
    }
    compare(&*opened(open, path), &model, &KeyRange::all());
}

/// What a killed process leaves is what its files hold at that moment.
fn what_was_acknowledged_is_in_the_files(root: &Path, open: &impl Fn(&Path) -> Result<Arc<dyn Engine>>) {
    for durability in [Durability::Os, Durability::Sync] {
        let path = root.join(format!("{durability:?}"));
        let engine = opened(open, &path);
        for round in 0..12_u32 {
            let mut batch = Batch::new();
            for i in 0..=round * 7 {
                batch.put(&i.to_be_bytes(), &round.to_be_bytes().repeat(if round == 5 { 20_000 } else { 9 }));
            }
            if let Err(error) = engine.commit(&batch, durability) {
                panic!("a commit without cause to fail failed: {error}");
            }
            let expected = entries(&*engine, KeyRange::all(), Ascending);
            assert_eq!(expected.len() as u32, round * 7 + 1);
            // A copy takes a while, and the engine's own threads may write meanwhile, so it is not quite what a kill leaves.
            let is_left = (0..3).any(|nth| {
                let left = root.join(format!("{durability:?} left {round} {nth}"));
                if let Err(error) = copy(&path, &left) {
                    panic!("the files of the engine could not be copied: {error}");
                }
                let found = open(&left).and_then(|engine| engine.collect(KeyRange::all(), Ascending, usize::MAX));
                found.is_ok_and(|found| found == expected)
            });
            assert!(is_left, "what was acknowledged with {durability:?} in commit {round} is not in the files");
        }
    }
}

fn what_is_gone_stays_gone(path: &Path, open: &impl Fn(&Path) -> Result<Arc<dyn Engine>>) {
    let engine = opened(open, path);
    put(&*engine, b"large", &vec![7; 300_000]);
    put(&*engine, b"small", b"1");
    let mut batch = Batch::new();
    batch.delete(b"large");
    batch.delete(b"small");
    batch.put(b"other", b"2");
    commit(&*engine, &batch);
    drop(engine);
    let engine = opened(open, path);
    assert_eq!(keys(&*engine, KeyRange::all(), Ascending), [b"other"]);
    let large = vec![8; 300_000];
    put(&*engine, b"large", &large);
    drop(engine);
    assert!(
        get(&*opened(open, path), b"large").as_deref() == Some(large.as_slice()),
        "an old value shows through a new one"
    );
}

fn opened(open: &impl Fn(&Path) -> Result<Arc<dyn Engine>>, path: &Path) -> Arc<dyn Engine> {
    match open(path) {
        Ok(engine) => engine,
        Err(error) => panic!("`{}` cannot be opened: {error}", path.display()),
    }
}

/// Copies a file, or a folder with the files in it. One that goes meanwhile is not copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::metadata(from)?.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() || entry.file_type()?.is_dir() {
                copy(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        return Ok(());
    }
    match fs::copy(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
