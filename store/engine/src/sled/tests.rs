//! Damaged, half-made and foreign folders; what is left of cut values; one folder, one owner.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use super::*;

fn filled(path: &Path) -> Batch {
    let engine = Sled::create(path, 1 << 20).unwrap();
    let mut batch = Batch::new();
    for i in 0..3_000_u32 {
        batch.put(&i.to_be_bytes(), &[i as u8; 60]);
    }
    batch.put(b"large", &vec![9; 100_000]);
    engine.commit(&batch, Durability::Sync).unwrap();
    batch
}

/// Flips and cuts bytes of each file. What is read must be an answer or an error that names the folder.
#[test]
fn a_damaged_folder_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let batch = filled(&whole);
    let files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&whole)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (PathBuf::from(path.file_name().unwrap()), fs::read(&path).unwrap()))
        .collect();
    assert!(files.len() >= 3, "conf, db and snap");
    let (mut n_refused, mut seed) = (0, 1_u64);
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 16
    };
    for round in 0..60 {
        let path = dir.path().join(round.to_string());
        fs::create_dir_all(path.join("blobs")).unwrap();
        for (i, (name, bytes)) in files.iter().enumerate() {
            let mut bytes = bytes.clone();
            if round % files.len() == i {
                for _ in 0..8 {
                    let at = random() as usize % bytes.len();
                    let end = (at + 512).min(bytes.len());
                    match round / files.len() % 3 {
                        0 => bytes[at] ^= 1 << (random() % 8),
                        1 => bytes[at..end].fill(random() as u8),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
            }
            fs::write(path.join(name), bytes).unwrap();
        }
        let used = Sled::open(&path, 1 << 20).and_then(|engine| {
            engine.collect(KeyRange::all(), Direction::Ascending, usize::MAX)?;
            engine.get(&7_u32.to_be_bytes())?;
            engine.get(b"large")?;
            engine.commit(&batch, Durability::Sync)
        });
        if let Err(error) = used {
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
            n_refused += 1;
        }
    }
    assert!(n_refused > 0);
}

#[test]
fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| Sled::open(path, 1 << 20).err().unwrap();
    let foreign = dir.path().join("foreign");
    drop(::sled::open(&foreign).unwrap());
    assert!(refusal(&foreign).to_string().contains("sled folder of another program"));
    assert!(matches!(Sled::create(&foreign, 1 << 20), Err(Error::Foreign { .. })));
    let missing = dir.path().join("missing");
    assert!(refusal(&missing).to_string().contains("its file `conf` is missing"));
    assert!(!missing.exists());
    let later = dir.path().join("later");
    drop(Sled::create(&later, 1 << 20).unwrap());
    ::sled::open(&later).unwrap().insert(cut::SCHEME_KEY, b"2").unwrap();
    assert!(refusal(&later).to_string().contains("in a way this build does not know, `2`"));
}

#[test]
fn an_open_folder_is_busy_for_others_and_free_when_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let engine = Sled::create(&path, 1 << 20).unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert!(matches!(Sled::open(&path, 1 << 20), Err(Error::Busy { .. })));
    drop(engine);
    assert!(matches!(Sled::open(&path, 1 << 20), Err(Error::Busy { .. })), "a snapshot keeps it open");
    assert_eq!(snapshot.get(b"x").unwrap(), None);
    drop(snapshot);
    Sled::open(&path, 1 << 20).unwrap();
}

/// Keys of the tree, all that this engine puts there.
fn n_raw(engine: &Sled) -> usize {
    engine.core.with(None, |open| Ok(open.tree.len())).unwrap()
}

#[test]
fn pieces_go_with_the_value_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Sled::create(&dir.path().join("data"), 1 << 20).unwrap();
    let put = |value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(b"k", value);
        engine.commit(&batch, Durability::Os).unwrap();
    };
    let n_empty = n_raw(&engine);
    put(&[1; cut::PIECE_BYTES]);
    assert_eq!(n_raw(&engine) - n_empty, 1);
    put(&vec![2; 5 * cut::PIECE_BYTES]);
    assert_eq!(n_raw(&engine) - n_empty, 1 + 5);
    let before = engine.snapshot().unwrap();
    put(&vec![3; 2 * cut::PIECE_BYTES + 1]);
    assert_eq!(n_raw(&engine) - n_empty, 1 + 3);
    assert_eq!(before.get(b"k").unwrap(), Some(vec![2; 5 * cut::PIECE_BYTES]), "the snapshot has the pieces that went");
    put(b"short");
    assert_eq!(n_raw(&engine) - n_empty, 1);
    let mut batch = Batch::new();
    batch.delete(b"k");
    engine.commit(&batch, Durability::Os).unwrap();
    assert_eq!(n_raw(&engine), n_empty);
}

/// What the engine does when sled fails in the middle: the tree is given up, and opened anew for what comes.
#[test]
fn a_tree_that_was_given_up_is_opened_anew_and_its_snapshots_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Sled::create(&dir.path().join("data"), 1 << 20).unwrap();
    let mut batch = Batch::new();
    batch.put(b"k", &vec![1; 20_000]);
    engine.commit(&batch, Durability::Sync).unwrap();
    let snapshot = engine.snapshot().unwrap();
    engine.core.give_up();
    assert!(matches!(snapshot.get(b"k"), Err(Error::SnapshotLost)));
    let visited =
        snapshot.range(KeyRange::all(), Direction::Ascending, &mut |_, _| std::ops::ControlFlow::Continue(()));
    assert!(matches!(visited, Err(Error::SnapshotLost)));
    assert_eq!(engine.get(b"k").unwrap(), Some(vec![1; 20_000]));
    drop(snapshot);
    batch.put(b"l", b"2");
    engine.commit(&batch, Durability::Sync).unwrap();
    assert_eq!(engine.snapshot().unwrap().get(b"l").unwrap().as_deref(), Some(b"2".as_slice()));
}

#[test]
fn a_resent_commit_that_is_there_is_acknowledged_and_not_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Sled::create(&dir.path().join("data"), 1 << 20).unwrap();
    let mut batch = Batch::new();
    batch.put(b"a", &vec![1; 10_000]);
    batch.require_absent(b"a");
    batch.delete(b"gone");
    engine.commit_once(&batch, Durability::Os, true).unwrap();
    engine.commit_once(&batch, Durability::Os, true).unwrap();
    assert!(matches!(engine.commit_once(&batch, Durability::Os, false), Err(Error::Conflict { .. })));
}
