//! What takes how much room, and what goes when a name goes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use scene::Scene;
use tracker_store::{Error, Group, RunId, Share, Store, Version};

fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn put(store: &Store, name: &str, files: &[&[u8]], run: Option<RunId>) -> Version {
    let mut draft = store.draft("file").unwrap();
    for (nth, mut bytes) in files.iter().copied().enumerate() {
        draft.add(&nth.to_string(), &mut bytes).unwrap();
    }
    draft.save(name, &[], run).unwrap()
}

fn share(name: &str, numbers: [u64; 5]) -> Share {
    let [n_versions, raw_bytes, stored_bytes, shared_bytes, freed_bytes] = numbers;
    Share { name: name.to_owned(), n_versions, raw_bytes, stored_bytes, shared_bytes, freed_bytes }
}

#[test]
fn shared_pieces_are_counted_once_and_shown_as_shared() {
    let scene = Scene::new();
    let (a, b, c) = (noise(100_000, 1), noise(20_000, 2), noise(3_000, 3));
    put(&scene.store, "x", &[&a, &b], Some(scene.run));
    put(&scene.store, "x", &[&a, &c], None);
    put(&scene.store, "y", &[&b], None);
    let usage = scene.store.usage(Group::Artifact).unwrap();
    assert_eq!(
        usage.shares,
        [share("x", [2, 223_000, 123_000, 20_000, 103_000]), share("y", [1, 20_000, 20_000, 20_000, 0])]
    );
    assert_eq!((usage.raw_bytes, usage.stored_bytes, usage.dead_bytes), (243_000, 123_000, 0));
    let usage = scene.store.usage(Group::Version).unwrap();
    let expected = [
        share("x:v0", [1, 120_000, 120_000, 120_000, 0]),
        share("x:v1", [1, 103_000, 103_000, 100_000, 3_000]),
        share("y:v0", [1, 20_000, 20_000, 20_000, 0]),
    ];
    assert_eq!(usage.shares, expected);
    let usage = scene.store.usage(Group::Run).unwrap();
    let expected = [
        share("", [2, 123_000, 123_000, 120_000, 3_000]),
        share(&scene.run.to_string(), [1, 120_000, 120_000, 120_000, 0]),
    ];
    assert_eq!(usage.shares, expected);
}

#[test]
fn what_is_said_to_be_free_is_free_once_it_is_gone() {
    let store = Store::memory().unwrap();
    let (a, b) = (noise(100_000, 1), noise(20_000, 2));
    let first = put(&store, "x", &[&a, &b], None);
    put(&store, "y", &[&b], None);
    let before = store.usage(Group::Version).unwrap();
    let freed = before.shares[0].freed_bytes;
    store.remove_version(&first, false).unwrap();
    let after = store.usage(Group::Version).unwrap();
    assert_eq!((after.stored_bytes, after.dead_bytes), (before.stored_bytes - freed, freed));
    assert_eq!(store.collect(&tracker_store::Collect::default()).unwrap().freed_bytes, freed);
    assert_eq!(store.usage(Group::Version).unwrap().dead_bytes, 0);
}

#[test]
fn names_that_led_to_a_removed_version_lead_on_or_are_gone() {
    let store = Store::memory().unwrap();
    let versions: Vec<Version> = (0..3).map(|nth| put(&store, "x", &[&noise(10, nth)], None)).collect();
    let mut draft = store.draft("file").unwrap();
    draft.add("0", &mut noise(10, 2).as_slice()).unwrap();
    draft.save("x", &["best"], None).unwrap();
    store.remove_version(&versions[2], false).unwrap();
    assert_eq!(store.artifact("x").unwrap(), versions[1]);
    assert!(matches!(store.artifact("x:best"), Err(Error::NotFound { .. })));
    assert!(matches!(store.artifact("x:v2"), Err(Error::NotFound { .. })));
    assert_eq!(put(&store, "x", &[&noise(10, 2)], None).number, 3, "a number is never given twice");
    store.remove_version(&versions[0], false).unwrap();
    assert_eq!(store.artifact("x").unwrap().number, 3);
    for version in store.versions("x").unwrap() {
        store.remove_version(&version, false).unwrap();
    }
    assert!(store.artifacts().unwrap().is_empty() && store.artifact("x").is_err());
    assert_eq!(put(&store, "x", &[&noise(10, 9)], None).number, 4);
}

#[test]
fn an_alias_can_be_taken_away_and_latest_cannot() {
    let store = Store::memory().unwrap();
    let mut draft = store.draft("file").unwrap();
    draft.add("a", &mut &b"x"[..]).unwrap();
    let version = draft.save("x", &["best"], None).unwrap();
    store.remove_alias("x", "best").unwrap();
    assert!(store.artifact("x:best").is_err());
    assert!(matches!(store.remove_alias("x", "best"), Err(Error::NotFound { .. })));
    assert!(store.remove_alias("x", "latest").is_err());
    assert_eq!(store.artifact("x").unwrap(), version);
}
