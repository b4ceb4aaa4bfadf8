//! Files come back bit for bit, equal content is stored once, and damage is never handed out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use scene::{Scene, new_run};
use tracker_store::{Error, Kind, Store, Version};

/// Bytes without pattern.
fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn put(store: &Store, name: &str, files: &[(&str, &[u8])], aliases: &[&str]) -> Version {
    let mut draft = store.draft("file").unwrap();
    for (path, mut bytes) in files.iter().copied() {
        draft.add(path, &mut bytes).unwrap();
    }
    draft.save(name, aliases, None).unwrap()
}

fn get(store: &Store, text: &str, path: &str) -> Vec<u8> {
    let manifest = store.manifest(&store.artifact(text).unwrap()).unwrap();
    store.read_file(manifest.file(path).unwrap().digest).unwrap()
}

fn on_disk() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum());
    entries.unwrap_or(0)
}

#[test]
fn files_of_every_size_come_back_in_memory_and_on_disk() {
    let (_dir, on_disk) = on_disk();
    for store in [Store::memory().unwrap(), on_disk] {
        let large = noise(5 << 20, 1);
        let files: [(&str, &[u8]); 4] =
            [("empty", b""), ("note.txt", b"hello"), ("sub/middle.bin", &large[..100_000]), ("large.bin", &large)];
        let version = put(&store, "things", &files, &[]);
        assert_eq!((version.number, version.name.as_str()), (0, "things"));
        for (path, bytes) in files {
            assert_eq!(get(&store, "things", path), bytes, "{path}");
        }
        let manifest = store.manifest(&version).unwrap();
        assert_eq!(manifest.n_bytes(), (5 << 20) + 100_000 + 5);
        let digest = manifest.file("large.bin").unwrap().digest;
        for from in [0, 1, 65_535, 3 << 20, (5 << 20) - 1, 5 << 20] {
            let mut rest = Vec::new();
            store.open_file(digest, from).unwrap().read_to_end(&mut rest).unwrap();
            assert_eq!(rest, large[from as usize..], "from {from}");
        }
        assert!(store.open_file(digest, (5 << 20) + 1).is_err());
    }
}

#[test]
fn the_same_content_is_the_same_version_and_other_content_the_next() {
    let store = Store::memory().unwrap();
    let first = put(&store, "m", &[("a", b"1")], &["best"]);
    let again = put(&store, "m", &[("a", b"1")], &[]);
    let second = put(&store, "m", &[("a", b"2")], &[]);
    assert_eq!((first.number, again.number, second.number), (0, 0, 1));
    assert_eq!(get(&store, "m", "a"), b"2");
    assert_eq!(get(&store, "m:v0", "a"), b"1");
    assert_eq!(get(&store, "m:best", "a"), b"1");
    put(&store, "m", &[("a", b"2")], &["best"]);
    assert_eq!(get(&store, "m:best", "a"), b"2", "an alias moves");
    put(&store, "m", &[("a", b"1")], &[]);
    assert_eq!(get(&store, "m:latest", "a"), b"1", "what was put last is the latest");
    assert_eq!(store.versions("m").unwrap().len(), 2);
    assert_eq!(store.artifacts().unwrap().len(), 1);
    assert_eq!(put(&store, "other", &[("a", b"1")], &[]).manifest, first.manifest, "content is content under any name");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let store = Store::memory().unwrap();
    put(&store, "policy", &[("a", b"1")], &["best"]);
    let said = |text: &str| {
        let error = store.artifact(text).unwrap_err();
        assert!(error.is_input());
        (error.to_string(), error.hint().unwrap())
    };
    assert_eq!(said("policy:bset"), ("no artifact `policy:bset`".to_owned(), "`policy` has best, latest".to_owned()));
    assert_eq!(said("polcy"), ("no artifact `polcy`".to_owned(), "did you mean `policy`?".to_owned()));
    assert!(matches!(store.artifact("policy:v7"), Err(Error::NotFound { .. })));
}

#[test]
fn bad_names_paths_and_aliases_are_refused() {
    let store = Store::memory().unwrap();
    let mut draft = store.draft("file").unwrap();
    assert!(draft.add("../out", &mut &b"x"[..]).is_err());
    draft.add("a", &mut &b"x"[..]).unwrap();
    assert!(draft.add("a", &mut &b"y"[..]).is_err());
    assert!(draft.save("na:me", &[], None).is_err());
    for alias in ["latest", "v3", "a:b", ""] {
        let mut draft = store.draft("file").unwrap();
        draft.add("a", &mut &b"x"[..]).unwrap();
        assert!(draft.save("name", &[alias], None).is_err(), "{alias:?}");
    }
    assert!(store.draft("file").unwrap().save("name", &[], None).is_err());
    assert!(store.artifacts().unwrap().is_empty());
}

/// A safetensors file of byte tensors.
fn checkpoint(tensors: &[Vec<u8>]) -> Vec<u8> {
    let views = tensors.iter().enumerate().map(|(nth, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![bytes.len()], bytes).unwrap();
        (format!("layer.{nth:02}"), view)
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn twenty_checkpoints_that_share_most_tensors_take_little_more_than_what_differs() {
    let (_dir, store) = on_disk();
    let mut tensors: Vec<Vec<u8>> = (0..20).map(|seed| noise(200_000, seed)).collect();
    let mut last = Vec::new();
    for version in 0..20 {
        tensors[version] = noise(200_000, 1000 + version as u64);
        last = checkpoint(&tensors);
        put(&store, "policy", &[("model.safetensors", &last)], &[]);
    }
    let stored = size_of(&store.dir().unwrap().join("blobs"));
    let ideal = (20 + 19) * 200_000;
    assert!(stored < ideal + ideal / 20, "{stored} bytes for {ideal} ideal");
    assert_eq!(get(&store, "policy:v19", "model.safetensors"), last);
}

#[test]
fn a_folder_goes_in_and_comes_out_as_it_was() {
    let (dir, store) = on_disk();
    let source = dir.path().join("in");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("one"), b"1").unwrap();
    fs::write(source.join("a/b/two"), noise(2 << 20, 2)).unwrap();
    let mut draft = store.draft("folder").unwrap();
    draft.add_from("", &source).unwrap();
    let version = draft.save("folder", &[], None).unwrap();
    let out = dir.path().join("out");
    let manifest = store.export_artifact(version.manifest, &out).unwrap();
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a/b/two", "one"]);
    for path in paths {
        assert_eq!(fs::read(out.join(path)).unwrap(), fs::read(source.join(path)).unwrap());
    }
    assert_eq!(fs::read_dir(out.join("a/b")).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn damage_in_a_pack_is_named_and_no_byte_of_the_piece_is_handed_out() {
    let (_dir, store) = on_disk();
    let bytes = noise(100_000, 3);
    let version = put(&store, "x", &[("x.bin", &bytes)], &[]);
    let digest = store.manifest(&version).unwrap().files[0].digest;
    let blobs = store.dir().unwrap().join("blobs");
    let pack = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&pack).unwrap();
    let mut bad = good.clone();
    bad[50_000] ^= 1;
    for (damaged, reason) in [(bad.as_slice(), "another digest"), (&good[..1000], "ends too early")] {
        fs::write(&pack, damaged).unwrap();
        let error = store.read_file(digest).unwrap_err();
        assert!(matches!(&error, Error::CorruptFile { path, .. } if *path == pack), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let mut out = Vec::new();
        assert!(store.open_file(digest, 0).unwrap().read_to_end(&mut out).is_err());
        assert!(out.is_empty());
    }
    fs::remove_file(&pack).unwrap();
    assert!(store.read_file(digest).unwrap_err().to_string().contains("the file is gone"));
}

struct Failing;

impl std::io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the line is cut"))
    }
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let (_dir, store) = on_disk();
    let mut draft = store.draft("file").unwrap();
    draft.add("x", &mut &noise(100_000, 4)[..]).unwrap();
    drop(draft);
    assert_eq!(size_of(&store.dir().unwrap().join("blobs")), 0);
    let mut draft = store.draft("file").unwrap();
    let error = draft.add("x", &mut Failing).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn an_artifact_of_a_run_is_among_its_contents_and_has_a_node() {
    let scene = Scene::new();
    let mut draft = scene.store.draft("model").unwrap();
    draft.add("a", &mut &b"x"[..]).unwrap();
    let before = scene.store.record_digest(scene.run).unwrap();
    let version = draft.save("policy", &["best"], Some(scene.run)).unwrap();
    assert_eq!(scene.store.contents_of::<tracker_store::Manifest>(scene.run).unwrap().len(), 1);
    assert_ne!(scene.store.record_digest(scene.run).unwrap(), before);
    let node = scene.store.resolve("policy:best").unwrap();
    assert_eq!((node.kind(), node.digest()), (Kind::Artifact, Some(version.manifest)));
    assert_eq!(scene.store.resolve("artifact:policy").unwrap(), node);
}

#[test]
fn names_lead_to_nodes() {
    let scene = Scene::new();
    scene.sample_and_verdict(3, 1, tracker_store::Outcome::Proved);
    let store = &scene.store;
    let run = scene.run.to_string();
    assert_eq!(store.resolve(&run).unwrap().owner(), Some(scene.run));
    assert_eq!(store.resolve_run(&scene.run.short()).unwrap(), scene.run);
    assert_eq!(store.resolve_run("scene").unwrap(), scene.run);
    assert_eq!(store.resolve("checkpoint:base").unwrap(), scene.policy);
    assert_eq!(store.resolve("statement:t1").unwrap(), scene.statement);
    assert_eq!(store.resolve(&scene.statement.digest().unwrap().short()).unwrap(), scene.statement);
    assert_eq!(store.resolve(&scene.statement.to_string()).unwrap(), scene.statement);
    let sample = store.resolve(&format!("{}/{}/3/1", scene.run.short(), scene::STAGE)).unwrap();
    assert_eq!(sample.row().unwrap(), scene.row(3, 1));
    let proof = store.resolve(&format!("proof:{run}/{}/3/1", scene::STAGE)).unwrap();
    assert_eq!((proof.kind(), proof.row()), (Kind::Verdict, Some(scene.row(3, 1))));

    let error = store.resolve("checkpoint:bsae").unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.hint().as_deref()),
        ("no checkpoint `bsae`", Some("did you mean `base`?"))
    );
    assert!(matches!(store.resolve(&format!("{run}/{}/9/9", scene::STAGE)), Err(Error::NotFound { .. })));
    store.create_run(&new_run("scene")).unwrap();
    assert!(matches!(store.resolve("scene"), Err(Error::Ambiguous { .. })));
    assert!(matches!(store.resolve_run(&run[..8]), Err(Error::Ambiguous { .. })));
    assert!(matches!(store.resolve("nothing like it"), Err(Error::NotFound { .. })));
}
