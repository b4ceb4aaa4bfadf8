//! Backups: whole, incremental, checked to the bit, restored to the same answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod family;
mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use family::{Family, assert_sound, noise, put};
use tracker_store::{Bundle, Collect, Damage, Error, Saved, Store, Target};

fn save(store: &Store, dir: &Path) -> Saved {
    store.back_up(Target::Folder(dir), &mut |_| {}).unwrap()
}

fn restore(from: &Path, to: &Path) -> Store {
    Bundle::open(from).unwrap().restore(to, &mut |_| {}).unwrap();
    Store::open(to).unwrap()
}

/// Every file below a folder with its bytes, locks left out.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if !path.ends_with("lock") {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn size(dir: &Path) -> u64 {
    files(dir).values().map(|bytes| bytes.len() as u64).sum()
}

#[test]
fn a_restored_store_gives_the_same_answers_from_a_folder_a_file_and_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let runs = [family.first, family.second, family.other];
    let expected = Family::answers(&family.store, &runs);
    let saved = save(&family.store, &dir.path().join("backup"));
    assert_eq!((saved.counts.runs, saved.counts.experiments, saved.counts.versions, saved.kept_bytes), (3, 2, 4, 0));
    let tar = dir.path().join("backup.tar");
    let again = family.store.back_up(Target::File(&tar), &mut |_| {}).unwrap();
    assert_eq!((again.records, again.counts), (saved.records, saved.counts));
    let mut stream = Vec::new();
    family.store.back_up(Target::Stream(&mut stream), &mut |_| {}).unwrap();
    for (name, bundle) in [
        ("folder", Bundle::open(&dir.path().join("backup"))),
        ("tar", Bundle::open(&tar)),
        ("stream", Bundle::from_stream(&mut stream.as_slice(), dir.path())),
    ] {
        let bundle = bundle.unwrap();
        assert_eq!(bundle.verify(&mut |_| {}).unwrap(), [], "{name}");
        let to = dir.path().join(name);
        let restored = bundle.restore(&to, &mut |_| {}).unwrap();
        assert_eq!(restored.records, saved.records, "{name}");
        let store = Store::open(&to).unwrap();
        assert_eq!(Family::answers(&store, &runs), expected, "{name}");
        // It is a store like any other: it can be written to, collected and backed up.
        put(&store, "more", None, &noise(100_000, 77), None);
        store.collect(&Collect { grace: Duration::ZERO, ..Collect::default() }).unwrap();
        assert_eq!(Family::answers(&store, &runs).runs, expected.runs);
        assert_sound(&to);
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with('.')), "{left:?}");
}

#[test]
fn a_second_backup_writes_what_is_new_and_drops_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let backup = dir.path().join("backup");
    let first = save(&family.store, &backup);
    let same = save(&family.store, &backup);
    assert_eq!((same.records, same.counts), (first.records, first.counts));
    assert!(same.written_bytes < 10_000, "{same:?}");
    let large = put(&family.store, "large", None, &noise(3_000_000, 5), None);
    let more = save(&family.store, &backup);
    assert!((3_000_000..3_300_000).contains(&more.written_bytes), "{more:?}");
    assert!(more.kept_bytes > 300_000);
    assert_eq!(Bundle::open(&backup).unwrap().verify(&mut |_| {}).unwrap(), []);
    let grown = size(&backup);
    family.store.remove_version(&large, true).unwrap();
    family.store.collect(&Collect { grace: Duration::ZERO, ..Collect::default() }).unwrap();
    save(&family.store, &backup);
    assert!(size(&backup) + 2_900_000 < grown, "what no manifest leads to stays");
    let runs = [family.first, family.second, family.other];
    let store = restore(&backup, &dir.path().join("restored"));
    assert_eq!(Family::answers(&store, &runs), Family::answers(&family.store, &runs));
}

#[test]
fn what_a_killed_backup_leaves_is_used_and_swept_and_damage_in_it_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    save(&family.store, &whole);
    // All files but the manifest, one chunk and one pack of them damaged, and one that was being written.
    for part in ["chunks", "packs"] {
        fs::create_dir_all(killed.join(part)).unwrap();
        for (nth, file) in fs::read_dir(whole.join(part)).unwrap().enumerate() {
            let file = file.unwrap();
            let mut bytes = fs::read(file.path()).unwrap();
            if nth == 0 {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            fs::write(killed.join(part).join(file.file_name()), bytes).unwrap();
        }
    }
    fs::write(killed.join("packs/x.pack.new"), b"half").unwrap();
    fs::write(killed.join("chunks").join("ab".repeat(32)), b"of another state").unwrap();
    let saved = save(&family.store, &killed);
    assert!(saved.written_bytes > 0 && saved.kept_bytes > 0, "{saved:?}");
    let names = |dir: &Path| -> Vec<PathBuf> {
        files(dir).into_keys().map(|path| path.strip_prefix(dir).unwrap().to_path_buf()).collect()
    };
    assert_eq!(names(&killed), names(&whole));
    assert_eq!(Bundle::open(&killed).unwrap().verify(&mut |_| {}).unwrap(), []);
}

#[test]
fn folders_of_something_else_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("thesis.tex"), "years of work").unwrap();
    let before = files(&taken);
    for target in [&taken, &dir.path().join("store"), &taken.join("thesis.tex")] {
        let error = family.store.back_up(Target::Folder(target), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }) && error.is_input(), "{error}");
    }
    let error = family.store.back_up(Target::File(&taken.join("thesis.tex")), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("not there yet"), "{error}");
    let backup = dir.path().join("backup");
    save(&family.store, &backup);
    for target in [taken.clone(), taken.join("thesis.tex"), dir.path().join("store")] {
        let error = Bundle::open(&backup).unwrap().restore(&target, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("empty or not there yet"), "{error}");
    }
    assert!(files(&taken) == before, "it was written to");
    assert!(matches!(Bundle::open(&taken), Err(Error::Invalid { .. })));
    assert!(matches!(Bundle::open(&taken.join("thesis.tex")), Err(Error::CorruptFile { .. } | Error::Invalid { .. })));
    assert!(matches!(Bundle::open(&dir.path().join("nowhere")), Err(Error::NotFound { .. })));
    // An empty folder is as good as none.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    restore(&backup, &empty);
}

/// What a damaged bundle says: the file and the offset of each damage, by whichever call finds it first.
fn damages(path: &Path) -> Vec<Damage> {
    let named = |error: Error| match error {
        Error::CorruptFile { path, offset, reason } => vec![Damage { file: path, offset, reason }],
        error => panic!("{error}"),
    };
    match Bundle::open(path) {
        Err(error) => named(error),
        Ok(bundle) => bundle.verify(&mut |_| {}).unwrap_or_else(named),
    }
}

#[test]
fn every_flipped_bit_is_named_and_nothing_is_restored_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let (folder, tar) = (dir.path().join("backup"), dir.path().join("backup.tar"));
    save(&family.store, &folder);
    family.store.back_up(Target::File(&tar), &mut |_| {}).unwrap();
    let mut tested: Vec<PathBuf> = files(&folder).into_keys().collect();
    tested.push(tar.clone());
    let mut random = blake3::Hasher::new_derive_key("bits").finalize_xof();
    let mut draw = move || {
        let mut word = [0; 8];
        random.fill(&mut word);
        u64::from_le_bytes(word)
    };
    for path in tested {
        let sound = fs::read(&path).unwrap();
        let opened = if path == tar { &tar } else { &folder };
        let n_tests = if path == tar { 200 } else { 25 };
        for nth in 0..n_tests {
            // Heads, padding and the end of a tar are a small part of it: half the tests are there.
            let at = match nth % 4 {
                0 => draw() as usize % 1536,
                1 => sound.len() - 1 - draw() as usize % 4096.min(sound.len()),
                _ => draw() as usize,
            } % sound.len();
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (draw() % 8);
            fs::write(&path, &bytes).unwrap();
            let found = damages(opened);
            assert!(!found.is_empty(), "{} at {at}", path.display());
            let named = found.iter().any(|damage| {
                damage.file == path && damage.offset <= at as u64 && at as u64 - damage.offset <= 4 << 20
            });
            assert!(named, "{} at {at}: {found:?}", path.display());
            if nth % 5 == 0 {
                let to = dir.path().join("restored");
                let error = Bundle::open(opened).and_then(|bundle| bundle.restore(&to, &mut |_| {})).unwrap_err();
                assert!(matches!(&error, Error::CorruptFile { path: named, .. } if *named == path), "{error}");
                assert!(!to.exists() && !dir.path().join(".restored.restoring").exists());
            }
        }
        // Cut short anywhere.
        for n in [0, 1, sound.len() / 2, sound.len() - 1] {
            fs::write(&path, &sound[..n]).unwrap();
            assert!(!damages(opened).is_empty(), "{} of {n} bytes", path.display());
        }
        fs::remove_file(&path).unwrap();
        if path != tar && !path.ends_with("BUNDLE") {
            assert!(!damages(opened).is_empty(), "{} is gone", path.display());
        }
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!((damages(&folder), damages(&tar)), (vec![], vec![]));
}

#[test]
fn a_backup_of_a_newer_format_is_refused_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let backup = dir.path().join("backup");
    save(&family.store, &backup);
    let text = fs::read_to_string(backup.join("manifest.json")).unwrap();
    let body = text.split(",\n  \"digest\"").next().unwrap().replacen("\"format\": 1", "\"format\": 7", 1);
    let digest = tracker_store::Digest::of(body.as_bytes());
    fs::write(backup.join("manifest.json"), format!("{body},\n  \"digest\": \"{digest}\"\n}}\n")).unwrap();
    fs::write(backup.join("BUNDLE"), "tracker backup, format 7\n").unwrap();
    let before = files(&backup);
    let is_refused = |error: Error| {
        assert!(matches!(error, Error::Newer { found: 7, .. }), "{error}");
        assert!(error.is_input() && error.hint().unwrap().contains("newer build"));
    };
    is_refused(Bundle::open(&backup).err().unwrap());
    is_refused(family.store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap_err());
    fs::remove_file(backup.join("manifest.json")).unwrap();
    is_refused(Bundle::open(&backup).err().unwrap());
    is_refused(family.store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap_err());
    fs::write(backup.join("manifest.json"), &before[&backup.join("manifest.json")]).unwrap();
    assert!(files(&backup) == before, "it was written to");
}

#[test]
fn a_collection_waits_for_a_backup_and_a_backup_for_a_collection() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let gone = put(&family.store, "gone", None, &noise(2_000_000, 6), None);
    let (store, mut n_refused) = (family.store.clone(), 0);
    let mut is_removed = false;
    let saved = family.store.back_up(Target::Folder(&dir.path().join("backup")), &mut |progress| {
        // The snapshot is taken by now: what is removed here is in it.
        if !is_removed {
            store.remove_version(&gone, true).unwrap();
            is_removed = true;
        }
        let collected = store.collect(&Collect { grace: Duration::ZERO, ..Collect::default() });
        assert!(matches!(collected, Err(Error::Contended { .. })), "{progress:?}");
        n_refused += 1;
    });
    assert!(saved.is_ok() && n_refused > 1);
    let restored = restore(&dir.path().join("backup"), &dir.path().join("restored"));
    let manifest = restored.manifest(&gone).unwrap();
    assert!(restored.read_file(manifest.file("model.safetensors").unwrap().digest).unwrap() == noise(2_000_000, 6));
    family.store.collect(&Collect { grace: Duration::ZERO, ..Collect::default() }).unwrap();
    assert!(family.store.artifact("gone").is_err());
}

#[test]
fn two_backups_into_one_folder_at_once_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::new(&dir.path().join("store"));
    let backup = dir.path().join("backup");
    let store = family.store.clone();
    let mut is_tried = false;
    family
        .store
        .back_up(Target::Folder(&backup), &mut |_| {
            if !is_tried {
                let error = store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap_err();
                assert!(matches!(error, Error::Contended { .. }), "{error}");
                is_tried = true;
            }
        })
        .unwrap();
    assert!(is_tried);
    assert_eq!(damages(&backup), []);
}

#[test]
fn a_pack_that_was_cut_short_or_is_gone_never_takes_the_place_of_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let family = Family::new(&path);
    let backup = dir.path().join("backup");
    save(&family.store, &backup);
    let before = fs::read(backup.join("manifest.json")).unwrap();
    for pack in fs::read_dir(backup.join("packs")).unwrap() {
        let pack = path.join("blobs").join(pack.unwrap().file_name());
        let sound = fs::read(&pack).unwrap();
        for damaged in [&sound[..sound.len() - 1], &[]] {
            fs::write(&pack, damaged).unwrap();
            let error = family.store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap_err();
            assert!(matches!(&error, Error::CorruptFile { path, .. } if *path == pack), "{error}");
            assert_eq!(damages(&backup), []);
            assert!(fs::read(backup.join("manifest.json")).unwrap() == before, "the backup is another one");
        }
        fs::remove_file(&pack).unwrap();
        let error = family.store.back_up(Target::Folder(&dir.path().join("new")), &mut |_| {}).unwrap_err();
        assert!(matches!(&error, Error::CorruptFile { path, .. } if *path == pack), "{error}");
        fs::write(&pack, sound).unwrap();
    }
    save(&family.store, &backup);
    assert_eq!(damages(&backup), []);
}

#[test]
fn a_restored_store_is_kept_by_the_engine_it_was_kept_by_and_records_are_the_same_under_any() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let family = Family::new(&path);
    let runs = [family.first, family.second, family.other];
    let expected = Family::answers(&family.store, &runs);
    let saved = save(&family.store, &backup);
    drop(family);
    Store::convert(&path, tracker_engine::Kind::Sled, &mut |_| {}).unwrap().unwrap();
    let store = Store::open(&path).unwrap();
    let again = save(&store, &backup);
    assert_eq!((again.records, again.counts), (saved.records, saved.counts));
    assert!(again.written_bytes < 10_000, "the engine changed, the records did not: {again:?}");
    let restored = Bundle::open(&backup).unwrap().restore(&dir.path().join("to"), &mut |_| {}).unwrap();
    assert_eq!((restored.engine.as_str(), restored.records), ("sled", saved.records));
    let store = Store::open(&dir.path().join("to")).unwrap();
    assert_eq!(store.engine_name(), "sled");
    assert_eq!(Family::answers(&store, &runs), expected);
}
