//! Collections that are killed at each step, and writers and readers that come between any two.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Collect, Collected, Version};
use crate::error::{Error, Result};
use crate::store::Store;

const NOW: Collect = Collect { grace: Duration::ZERO, dry_run: false, rewrite_below: 50 };

fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn put(store: &Store, name: &str, files: &[&[u8]]) -> Result<Version> {
    let mut draft = store.draft("file")?;
    for (nth, mut bytes) in files.iter().copied().enumerate() {
        draft.add(&nth.to_string(), &mut bytes)?;
    }
    draft.save(name, &[], None)
}

fn check(store: &Store, version: &Version, files: &[&[u8]]) {
    let manifest = store.manifest(version).unwrap();
    for (entry, bytes) in manifest.files.iter().zip(files) {
        assert!(store.read_file(entry.digest).unwrap() == *bytes, "{}:{}", version.name, entry.path);
    }
}

/// A checkpoint of one tensor of 16-bit words, and one that moved a little.
fn checkpoints() -> [Vec<u8>; 2] {
    let base: Vec<u8> = noise(600_000, 9).iter().flat_map(|byte| [*byte, 0x3c]).collect();
    let moved: Vec<u8> = base.iter().zip(noise(1_200_000, 8)).map(|(a, b)| a ^ (b & 1 & !(a >> 1))).collect();
    [base, moved].map(|bytes| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![600_000], &bytes).unwrap();
        safetensors::serialize([("w", view)], None).unwrap()
    })
}

/// What is kept, by name.
struct Kept {
    small: Vec<u8>,
    large: Vec<u8>,
    child: Vec<u8>,
    versions: Vec<Version>,
}

impl Kept {
    fn check(&self, store: &Store) {
        check(store, &self.versions[0], &[&self.small]);
        check(store, &self.versions[1], &[&self.large]);
        let manifest = store.manifest(&self.versions[2]).unwrap();
        assert!(store.read_file(manifest.files[0].digest).unwrap() == self.child);
    }
}

fn checkpoint(store: &Store, mut bytes: &[u8], base: Option<&Version>) -> Version {
    let mut draft = store.draft("model").unwrap();
    base.map(|base| draft.based_on(base.manifest)).transpose().unwrap();
    draft.add("m.safetensors", &mut bytes).unwrap();
    draft.save("m", &[], None).unwrap()
}

/// A store with a mostly dead pack, a dead one, a base whose version is gone, one that an earlier collection condemned, one that
/// nothing names, and one that was never finished.
fn scene(dir: &Path) -> Kept {
    let store = Store::create(dir).unwrap();
    let (small, large) = (noise(50_000, 1), noise(300_000, 2));
    let sparse = put(&store, "sparse", &[&small, &noise(400_000, 3)]).unwrap();
    let small_version = put(&store, "small", &[&small]).unwrap();
    let dead = put(&store, "dead", &[&noise(200_000, 4)]).unwrap();
    let [base, child] = checkpoints();
    let base = checkpoint(&store, &base, None);
    let child_version = checkpoint(&store, &child, Some(&base));
    for version in [&sparse, &dead, &base] {
        store.remove_version(version, false).unwrap();
    }
    let blobs = dir.join("blobs");
    let before: Vec<_> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let large_version = put(&store, "large", &[&large]).unwrap();
    let pack =
        fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap()).find(|entry| !before.contains(&entry.file_name()));
    let pack = pack.unwrap().path();
    fs::rename(&pack, format!("{}.condemned", pack.display())).unwrap();
    fs::write(blobs.join(format!("{}.pack", "ab".repeat(16))), noise(1000, 5)).unwrap();
    fs::write(blobs.join(format!("{}.pack.new", "cd".repeat(16))), noise(1000, 6)).unwrap();
    fs::write(blobs.join("note.txt"), b"not a pack").unwrap();
    Kept { small, large, child, versions: vec![small_version, large_version, child_version] }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bytes_of_packs(dir: &Path) -> u64 {
    let is_pack = |name: &&String| name.contains(".pack");
    names(dir).iter().filter(is_pack).map(|name| fs::metadata(dir.join("blobs").join(name)).unwrap().len()).sum()
}

#[test]
fn what_a_dry_run_says_is_what_a_collection_does() {
    let dir = tempfile::tempdir().unwrap();
    let kept = scene(dir.path());
    let store = Store::create(dir.path()).unwrap();
    let (names_before, before) = (names(dir.path()), bytes_of_packs(dir.path()));
    let dry = store.collect(&Collect { dry_run: true, ..NOW }).unwrap();
    let without_lock = |mut names: Vec<String>| {
        names.retain(|name| name != "collecting");
        names
    };
    assert_eq!(without_lock(names(dir.path())), names_before, "a dry run changes nothing");
    let done = store.collect(&NOW).unwrap();
    assert_eq!(dry, done);
    assert_eq!(done.moved_bytes, 50_000);
    assert!(done.freed_bytes >= 400_000 + 200_000 + 2000, "{done:?}");
    assert_eq!(before - bytes_of_packs(dir.path()), done.freed_bytes);
    assert_eq!(bytes_of_packs(dir.path()), done.kept_bytes);
    kept.check(&store);
    assert!(names(dir.path()).contains(&"note.txt".to_owned()));
    let again = store.collect(&NOW).unwrap();
    assert_eq!(again, Collected { kept_bytes: done.kept_bytes, ..Collected::default() }, "nothing is left to do");
    assert_eq!(store.usage(super::Group::Artifact).unwrap().dead_bytes, 0);
}

#[test]
fn a_collection_killed_at_any_step_loses_nothing_and_the_next_finishes() {
    let mut n_steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let kept = scene(dir.path());
        let store = Store::create(dir.path()).unwrap();
        let mut nth = 0;
        let mut steps = Vec::new();
        let killed = store.collect_by_steps(&NOW, &mut |step| {
            nth += 1;
            steps.push(step);
            if nth > n_steps { Err(Error::missing("power", step)) } else { Ok(()) }
        });
        drop(store);
        let store = Store::create(dir.path()).unwrap();
        kept.check(&store);
        store.collect(&NOW).unwrap();
        kept.check(&store);
        assert_eq!(store.usage(super::Group::Artifact).unwrap().dead_bytes, 0, "after {steps:?}");
        assert!(!names(dir.path()).iter().any(|name| name.contains(".pack.")));
        if killed.is_ok() {
            assert!(n_steps > 8, "{steps:?}");
            return;
        }
        n_steps += 1;
    }
}

#[test]
fn readers_see_every_kept_byte_between_any_two_steps() {
    let dir = tempfile::tempdir().unwrap();
    let kept = scene(dir.path());
    let store = Store::create(dir.path()).unwrap();
    let reader = Store::create(dir.path()).unwrap();
    store
        .collect_by_steps(&NOW, &mut |_| {
            kept.check(&reader);
            Ok(())
        })
        .unwrap();
    kept.check(&reader);
}

#[test]
fn a_writer_that_saves_between_any_two_steps_keeps_what_it_saved() {
    for at in 0..16 {
        let dir = tempfile::tempdir().unwrap();
        let kept = scene(dir.path());
        let (store, writer) = (Store::create(dir.path()).unwrap(), Store::create(dir.path()).unwrap());
        // One that leans on a piece about to be removed, and one with a pack of its own, both begun before.
        let reused = noise(200_000, 4);
        let own = noise(90_000, 7);
        let mut drafts = vec![writer.draft("file").unwrap(), writer.draft("file").unwrap()];
        drafts[0].add("0", &mut reused.as_slice()).unwrap();
        drafts[1].add("0", &mut own.as_slice()).unwrap();
        drafts[1].seal().unwrap();
        let mut saved = Vec::new();
        let mut nth = 0;
        store
            .collect_by_steps(&NOW, &mut |_| {
                if nth == at {
                    saved.extend(drafts.drain(..).map(|draft| draft.save("late", &[], None)));
                }
                nth += 1;
                Ok(())
            })
            .unwrap();
        saved.extend(drafts.drain(..).map(|draft| draft.save("late", &[], None)));
        kept.check(&store);
        for (saved, bytes) in saved.into_iter().zip([&reused, &own]) {
            let version = match saved {
                Ok(version) => version,
                // It was told; putting it again succeeds.
                Err(Error::Contended { .. }) => put(&writer, "late", &[bytes]).unwrap(),
                Err(error) => panic!("step {at}: {error}"),
            };
            check(&writer, &version, &[bytes]);
            store.collect(&NOW).unwrap();
            check(&writer, &version, &[bytes]);
        }
    }
}

#[test]
fn what_is_young_stays_for_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    scene(dir.path());
    let store = Store::create(dir.path()).unwrap();
    let done = store.collect(&Collect::default()).unwrap();
    assert_eq!(done.n_young, 3, "the one nothing names, the one not finished, and what the base was before its child");
    assert!(names(dir.path()).iter().any(|name| name.contains(".pack.new")));
    assert!(done.freed_bytes >= 600_000, "what was named once goes at once");
}

#[test]
fn a_damaged_piece_stops_the_rewriting_of_its_pack_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let kept = scene(dir.path());
    let blobs = dir.path().join("blobs");
    let needle = &kept.small[..64];
    let pack = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read(path).unwrap().starts_with(needle));
    let pack = pack.unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let store = Store::create(dir.path()).unwrap();
    let done = store.collect(&NOW).unwrap();
    assert!(done.damaged.len() == 1 && done.damaged[0].contains("another digest"), "{done:?}");
    assert!(pack.exists(), "what is left of it stays");
}

#[test]
fn one_collection_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    scene(dir.path());
    let (store, other) = (Store::create(dir.path()).unwrap(), Store::create(dir.path()).unwrap());
    let mut n_refused = 0;
    store
        .collect_by_steps(&NOW, &mut |_| {
            n_refused += usize::from(matches!(other.collect(&NOW), Err(Error::Contended { .. })));
            Ok(())
        })
        .unwrap();
    assert!(n_refused > 5);
}

#[test]
fn a_store_in_memory_is_collected_too() {
    let store = Store::memory().unwrap();
    let keep = put(&store, "keep", &[&noise(100_000, 1)]).unwrap();
    let dead = put(&store, "dead", &[&noise(100_000, 2)]).unwrap();
    store.remove_version(&dead, false).unwrap();
    let done = store.collect(&NOW).unwrap();
    assert_eq!((done.freed_bytes, done.n_packs), (100_000, 1));
    check(&store, &keep, &[&noise(100_000, 1)]);
    let again = put(&store, "dead", &[&noise(100_000, 2)]).unwrap();
    assert_eq!(again.number, 1, "a number is never given twice");
    check(&store, &again, &[&noise(100_000, 2)]);
}

/// Records no writer of this build makes: a hostile store, or a bug.
#[test]
fn pieces_whose_records_lie_are_errors_and_never_large() {
    use super::{Coded, FilePieces, Piece, PieceRef, Place, Words};
    use crate::records::Stored as _;
    use tracker_engine::{Batch, Durability};

    let store = Store::memory().unwrap();
    let bytes: Vec<u8> = noise(60_000, 1).iter().flat_map(|byte| [*byte, 0x3c]).collect();
    let mut pack = store.packs().write().unwrap();
    let id = pack.id();
    let coded = Words::Two.code(&bytes, None).unwrap();
    let zeros = Words::Two.code(&vec![0; 120_000], Some(&bytes)).unwrap();
    pack.append(&coded).unwrap();
    pack.append(&zeros).unwrap();
    pack.finish().unwrap();
    let digest = crate::Digest::of(&bytes);
    let lone = Coded {
        pack: id,
        offset: 0,
        n_stored: coded.len() as u32,
        sum: crate::Digest::of(&coded),
        words: Words::Two,
        base: None,
    };
    let delta = Coded {
        offset: coded.len() as u64,
        n_stored: zeros.len() as u32,
        sum: crate::Digest::of(&zeros),
        base: Some(digest),
        ..lone.clone()
    };
    let child = crate::Digest::of(&vec![0; 120_000]);
    let read = |base: &Coded, child_place: Coded, n_bytes: u32| {
        let mut batch = Batch::new();
        let put = |batch: &mut Batch, key: Vec<u8>, record: Vec<u8>| batch.put(&key, &record);
        put(&mut batch, crate::keys::piece(&digest), Piece { place: Place::Coded(base.clone()) }.encode().unwrap());
        put(&mut batch, crate::keys::piece(&child), Piece { place: Place::Coded(child_place) }.encode().unwrap());
        let file = FilePieces { pieces: vec![PieceRef { digest: child, n_bytes }] };
        put(&mut batch, crate::keys::file(&child), file.encode().unwrap());
        store.commit_batch(&batch, Durability::Os).unwrap();
        store.read_file(child)
    };
    assert_eq!(read(&lone, delta.clone(), 120_000).unwrap(), vec![0; 120_000]);
    let refused = |base: &Coded, child: Coded, n_bytes: u32| {
        let error = read(base, child, n_bytes).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::CorruptFile { .. }), "{error}");
    };
    refused(&lone, delta.clone(), u32::MAX);
    refused(&lone, delta.clone(), 119_998);
    refused(&lone, delta.clone(), 0);
    refused(&lone, Coded { n_stored: u32::MAX, ..delta.clone() }, 120_000);
    refused(&lone, Coded { offset: u64::MAX, ..delta.clone() }, 120_000);
    refused(&lone, Coded { words: Words::Four, ..delta.clone() }, 120_000);
    refused(&lone, Coded { base: None, ..delta.clone() }, 120_000);
    refused(&lone, Coded { base: Some(child), ..delta.clone() }, 120_000);
    refused(&delta, delta.clone(), 120_000);
    refused(&Coded { n_stored: 10, ..lone.clone() }, delta.clone(), 120_000);
    refused(&lone, Coded { base: Some(crate::Digest::of(b"none")), ..delta }, 120_000);
}
