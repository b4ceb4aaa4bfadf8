//! Exports and imports: closed under lineage, equal after the journey, idempotent, refused whole where something differs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod family;
mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use family::{Family, assert_sound, noise, put, tensors};
use scene::{STAGE, Scene, new_run, sample};
use tracker_store::{
    Arrival, Bundle, Durability, Error, Exported, Imported, NodeId, Recording, Result, RowKey, RunId, Status, Store,
    Target,
};

fn export(store: &Store, runs: &[RunId], path: &Path) -> Exported {
    drop(fs::remove_file(path));
    store.export(runs, Target::File(path), &mut |_| {}).unwrap()
}

fn import(store: &Store, path: &Path) -> Result<Imported> {
    store.import(&Bundle::open(path)?, &mut |_| {})
}

/// What is in a store, but for marks of commits that name pieces.
fn records(store: &Store, dir: &Path) -> String {
    drop(fs::remove_dir_all(dir));
    format!("{:?}", store.back_up(Target::Folder(dir), &mut |_| {}).unwrap().records)
}

struct Journey {
    dir: tempfile::TempDir,
    family: Family,
}

impl Journey {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let family = Family::new(&dir.path().join("store"));
        Self { dir, family }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self, name: &str) -> Store {
        Store::create(&self.path(name)).unwrap()
    }
}

#[test]
fn a_run_brings_what_it_came_from_and_is_the_same_there() {
    let journey = Journey::new();
    let Family { store, first, second, other, .. } = &journey.family;
    let exported = export(store, &[*second], &journey.path("second.tar"));
    let runs: Vec<(RunId, bool)> = exported.runs.iter().map(|run| (run.id, run.is_asked)).collect();
    assert_eq!(
        runs,
        [(*first, false), (*second, true)],
        "the run that trained its policy comes along, the other does not"
    );
    assert_eq!(exported.counts.versions, 2);
    let to = journey.store("to");
    let imported = import(&to, &journey.path("second.tar")).unwrap();
    assert!(imported.runs.iter().all(|run| run.arrival == Arrival::New), "{imported:?}");
    assert!(imported.renumbered.is_empty() && imported.n_versions == 2);
    let (expected, got) = (Family::answers(store, &[*first, *second]), Family::answers(&to, &[*first, *second]));
    assert_eq!(got.runs, expected.runs);
    let policies: BTreeMap<_, _> = expected
        .artifacts
        .into_iter()
        .filter(|((name, digest), _)| name == "policy" && to.version_with_manifest(*digest))
        .collect();
    assert_eq!(got.artifacts, policies);
    assert!(to.run(*other).is_err() && to.artifact("notes").is_err());
    assert_eq!(to.artifact("policy").unwrap().number, 1);
    assert_eq!(to.artifact("policy:best").unwrap().number, 1);
    // Found by all indexes, as if it had been recorded there.
    for filter in ["params.lr = '0.1'", "name = 'scene'", "metrics.loss < 1", "status = 'finished' AND name = 'scene'"]
    {
        let query = tracker_store::Query::new(tracker_store::Table::Runs).filter(filter).unwrap();
        assert_eq!(to.query(&query).unwrap().rows.len(), 1, "{filter}");
    }
    let down = to.walk(journey.family.trained, &tracker_store::Walk::new(tracker_store::Toward::Descendants)).unwrap();
    let before =
        store.walk(journey.family.trained, &tracker_store::Walk::new(tracker_store::Toward::Descendants)).unwrap();
    assert_eq!(down.nodes.len(), before.nodes.len());
    assert_eq!(to.resolve_run(&first.short()).unwrap(), *first);
    assert_sound(&journey.path("to"));
}

trait HasManifest {
    fn version_with_manifest(&self, manifest: tracker_store::Digest) -> bool;
}

impl HasManifest for Store {
    fn version_with_manifest(&self, manifest: tracker_store::Digest) -> bool {
        self.versions("policy").unwrap().iter().any(|version| version.manifest == manifest)
    }
}

#[test]
fn importing_again_changes_nothing_and_an_export_of_it_has_the_same_records() {
    let journey = Journey::new();
    let Family { store, second, .. } = &journey.family;
    let path = journey.path("x.tar");
    let exported = export(store, &[*second], &path);
    let to = journey.store("to");
    import(&to, &path).unwrap();
    let before = records(&to, &journey.path("before"));
    let again = import(&to, &path).unwrap();
    assert!(again.runs.iter().all(|run| run.arrival == Arrival::There) && again.n_versions == 0, "{again:?}");
    assert_eq!(records(&to, &journey.path("after")), before);
    // And back where it came from.
    let before = records(store, &journey.path("before"));
    let back = import(store, &path).unwrap();
    assert!(back.runs.iter().all(|run| run.arrival == Arrival::There), "{back:?}");
    assert_eq!(records(store, &journey.path("after")), before);
    let once_more = export(&to, &[*second], &journey.path("y.tar"));
    assert_eq!(once_more.runs, exported.runs);
    let mut stream = Vec::new();
    to.export(&[*second], Target::Stream(&mut stream), &mut |_| {}).unwrap();
    let streamed = Bundle::from_stream(&mut stream.as_slice(), journey.dir.path()).unwrap();
    let third = journey.store("third");
    third.import(&streamed, &mut |_| {}).unwrap();
    assert_eq!(export(&third, &[*second], &journey.path("z.tar")).runs, exported.runs);
}

#[test]
fn a_run_that_is_there_with_other_contents_is_refused_and_named_before_anything_is_written() {
    let journey = Journey::new();
    let Family { store, first, second, .. } = &journey.family;
    let (to, path) = (journey.store("to"), journey.path("x.tar"));
    import(&to, {
        export(store, &[*first], &path);
        &path
    })
    .unwrap();
    // The run goes on in one of the stores.
    let mut recording = Recording::new();
    let scene = Scene::over(Store::memory().unwrap());
    let policy = store.samples(*first, None).next().unwrap().unwrap().1;
    recording.put_sample(RowKey::new(*first, STAGE, 999, 0), &policy).unwrap();
    recording.put_param(*first, "extra", "1").unwrap();
    recording.put_points(*first, "loss", &[tracker_store::Point::new(5000, 5, 0.5)]).unwrap();
    drop(sample(&scene, 0, 0));
    store.commit(&recording, Durability::Os).unwrap();
    export(store, &[*second], &path);
    let before = records(&to, &journey.path("before"));
    let error = import(&to, &path).unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, Error::Differs { run, .. } if run == first) && error.is_input(), "{text}");
    for part in [
        "samples (`40` here, `41` in the file)",
        "params (`1` here, `2` in the file)",
        "points (`3001` here, `3002` in",
    ] {
        assert!(text.contains(part), "expected `{part}` in: {text}");
    }
    assert!(!text.contains("verdicts") && !text.contains("edges"), "{text}");
    assert_eq!(records(&to, &journey.path("after")), before);
    assert!(to.run(*second).is_err());
}

#[test]
fn names_and_tags_may_differ_and_stay_as_they_are() {
    let journey = Journey::new();
    let Family { store, first, .. } = &journey.family;
    let (to, path) = (journey.store("to"), journey.path("x.tar"));
    export(store, &[*first], &path);
    import(&to, &path).unwrap();
    to.rename_run(*first, "mine now").unwrap();
    let mut recording = Recording::new();
    recording.put_tag(*first, "note", "looked at").unwrap();
    to.commit(&recording, Durability::Os).unwrap();
    let again = import(&to, &path).unwrap();
    assert_eq!(again.runs[0].arrival, Arrival::There);
    assert_eq!(to.run(*first).unwrap().name, "mine now");
    assert_eq!(to.tags(*first).unwrap()["note"], "looked at");
}

#[test]
fn experiments_are_joined_by_name_and_versions_renumbered_past_those_that_are_there() {
    let journey = Journey::new();
    let Family { store, first, second, .. } = &journey.family;
    let (to, path) = (journey.store("to"), journey.path("x.tar"));
    let here = to.create_run(&new_run("already here")).unwrap();
    let mine = put(&to, "policy", Some(here.id), &noise(60_000, 50), None);
    assert_eq!(mine.number, 0);
    export(store, &[*second], &path);
    let imported = import(&to, &path).unwrap();
    assert_eq!(imported.joined.iter().map(String::as_str).collect::<Vec<_>>(), ["proofs"]);
    assert_eq!(to.run(*first).unwrap().experiment, here.experiment);
    assert_eq!(to.experiments().unwrap().len(), 2);
    let renumbered: Vec<_> = imported.renumbered.iter().map(|r| (r.name.as_str(), r.from, r.to)).collect();
    assert_eq!(renumbered, [("policy", 0, 1), ("policy", 1, 2)]);
    let versions = to.versions("policy").unwrap();
    let there = store.versions("policy").unwrap();
    assert_eq!(
        versions[1..].iter().map(|v| v.manifest).collect::<Vec<_>>(),
        there[..2].iter().map(|v| v.manifest).collect::<Vec<_>>()
    );
    // What led somewhere still leads there.
    assert_eq!(to.artifact("policy").unwrap().number, 0);
    assert_eq!(to.artifact("policy:best").unwrap().number, 0);
    assert_eq!(import(&to, &path).unwrap().n_versions, 0);
    assert_eq!(to.versions("policy").unwrap(), versions);
}

#[test]
fn a_delta_whose_base_is_told_from_another_here_is_told_alone() {
    let journey = Journey::new();
    let Family { store, second, .. } = &journey.family;
    let path = journey.path("x.tar");
    let [base, moved] = tensors(600_000);
    export(store, &[*second], &path);
    // What is the base there is the difference from a third here; or from what is the child there.
    let mut third = base.clone();
    (1000..third.len()).step_by(202).for_each(|at| third[at & !1] ^= 1);
    for (name, first) in [("third", &third), ("child", &moved)] {
        let to = journey.store(name);
        let root = put(&to, "mine", None, first, None);
        put(&to, "mine", None, &base, Some(&root));
        let shares = to.usage(tracker_store::Group::Version).unwrap().shares;
        assert!(shares.iter().all(|share| share.shared_bytes > 50_000), "it is no difference: {shares:?}");
        import(&to, &path).unwrap();
        for (version, bytes) in to.versions("policy").unwrap().iter().zip([&base, &moved]) {
            let manifest = to.manifest(version).unwrap();
            let file = manifest.file("model.safetensors").unwrap();
            assert!(to.read_file(file.digest).unwrap() == *bytes, "{name} v{}", version.number);
        }
        assert_sound(&journey.path(name));
        let exported = export(&to, &[*second], &journey.path("again.tar"));
        assert_eq!(exported.runs, export(store, &[*second], &journey.path("once.tar")).runs);
    }
}

#[test]
fn a_large_run_is_written_in_parts_that_say_so_until_it_is_whole() {
    let journey = Journey::new();
    let store = &journey.family.store;
    let scene = Scene::over(store.clone());
    let mut recording = Recording::new();
    let text: String = noise(600, 1).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    for item in 0..30_000 {
        let drawn = tracker_store::Sample { text: format!("{text}{item}"), ..sample(&scene, item, 0) };
        recording.put_sample(scene.row(item, 0), &drawn).unwrap();
        if recording.n_bytes() > 8 << 20 {
            store.commit(&std::mem::take(&mut recording), Durability::Os).unwrap();
        }
    }
    store.commit(&recording, Durability::Os).unwrap();
    let exported = export(store, &[scene.run], &journey.path("large.tar"));
    assert!(exported.counts.record_bytes > 16 << 20 && exported.written_bytes < exported.counts.record_bytes / 2);
    let to = journey.store("to");
    let bundle = Bundle::open(&journey.path("large.tar")).unwrap();
    let (mut n_partial, seen) = (0, to.clone());
    // A read from the side, between any two steps.
    to.import(&bundle, &mut |_| {
        if let Ok(run) = seen.run(scene.run) {
            let is_unfinished = seen.tags(scene.run).unwrap().contains_key("tracker.import");
            assert_eq!((run.status, is_unfinished, run.record_digest), (Status::Interrupted, true, None));
            assert!(run.message.contains("import the same file again"));
            n_partial += 1;
        }
    })
    .unwrap();
    assert!(n_partial > 0, "it was never seen in part");
    assert_eq!(to.run(scene.run).unwrap().status, store.run(scene.run).unwrap().status);
    assert_eq!(to.tags(scene.run).unwrap(), store.tags(scene.run).unwrap());
    assert_eq!(to.record_digest(scene.run).unwrap(), store.record_digest(scene.run).unwrap());
    assert_eq!(export(&to, &[scene.run], &journey.path("again.tar")).runs, exported.runs);
    assert_sound(&journey.path("to"));
}

#[test]
fn damaged_and_wrong_files_are_refused_before_anything_is_written() {
    let journey = Journey::new();
    let Family { store, second, .. } = &journey.family;
    let path = journey.path("x.tar");
    export(store, &[*second], &path);
    let to = journey.store("to");
    let before = records(&to, &journey.path("before"));
    let sound = fs::read(&path).unwrap();
    for nth in 0..60_usize {
        let at = nth * 7919 * 31 % sound.len();
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (nth % 8);
        fs::write(&path, &bytes).unwrap();
        let error = import(&to, &path).unwrap_err();
        let Error::CorruptFile { path: named, offset, .. } = &error else { panic!("byte {at}: {error}") };
        assert!(*named == path && *offset <= at as u64, "byte {at}: {error}");
    }
    fs::write(&path, &sound).unwrap();
    let backup = journey.path("backup");
    store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap();
    let error = import(&to, &backup).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("tracker restore"), "{error}");
    let error = Bundle::open(&path).unwrap().restore(&journey.path("new"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("tracker import"), "{error}");
    assert_eq!(records(&to, &journey.path("after")), before);
    assert!(matches!(
        store.export(&[RunId::fresh()], Target::File(&journey.path("y")), &mut |_| {}),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(store.export(&[], Target::File(&journey.path("y")), &mut |_| {}), Err(Error::Invalid { .. })));
    assert!(!journey.path("y").exists());
}

#[test]
fn the_cells_of_a_sweep_are_found() {
    let journey = Journey::new();
    let Family { store, first, second, .. } = &journey.family;
    // `second` says that it is a cell of `first`.
    assert_eq!(store.cells(*first).unwrap(), [*second]);
    assert!(store.cells(*second).unwrap().is_empty());
    assert!(store.has(&NodeId::run(*first)).unwrap());
}

#[test]
fn only_runs_whose_edges_a_walk_would_follow_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let dataset = scene::checkpoint("data");
    let model = scene::checkpoint("model");
    // Two runs record the same training; a third uses the model and says nothing of where it came from, a fourth not even that.
    let trained = |name: &str, with_edge: bool| {
        let run = store.create_run(&new_run(name)).unwrap().id;
        let mut recording = Recording::new();
        recording.put_stage(run, &scene::stage()).unwrap();
        let node = recording.put(run, &model).unwrap();
        if with_edge {
            let from = recording.put(run, &dataset).unwrap();
            recording
                .put_edge(run, &tracker_store::Edge::new(node, tracker_store::Relation::DerivedFrom, from))
                .unwrap();
        }
        store.commit(&recording, Durability::Os).unwrap();
        (run, node)
    };
    let ((one, _), (two, _)) = (trained("one", true), trained("two", true));
    let (user, node) = trained("user", false);
    let idle = store.create_run(&new_run("idle")).unwrap().id;
    let brought = |run| -> Vec<RunId> {
        let exported = export(&store, &[run], &dir.path().join("x.tar"));
        exported.runs.into_iter().map(|facts| facts.id).collect()
    };
    assert_eq!(brought(one), [one]);
    assert_eq!(brought(two), [two]);
    // Of equal edges a walk takes the first.
    assert_eq!(brought(user), [one, user]);
    assert_eq!(brought(idle), [idle]);
    export(&store, &[user], &dir.path().join("x.tar"));
    let to = Store::create(&dir.path().join("to")).unwrap();
    import(&to, &dir.path().join("x.tar")).unwrap();
    let up = tracker_store::Walk { within: Some(user), ..tracker_store::Walk::new(tracker_store::Toward::Ancestors) };
    assert_eq!(to.walk(node, &up).unwrap(), store.walk(node, &up).unwrap());
}

#[test]
fn a_running_run_is_exported_as_it_is_and_refused_once_it_went_on() {
    let journey = Journey::new();
    let Family { store, other, .. } = &journey.family;
    let (to, path) = (journey.store("to"), journey.path("x.tar"));
    export(store, &[*other], &path);
    import(&to, &path).unwrap();
    assert_eq!(to.run(*other).unwrap().status, Status::Running);
    store
        .end_run(*other, &tracker_store::Ending { status: Status::Failed, message: "no".into(), record_digest: None })
        .unwrap();
    export(store, &[*other], &path);
    let error = import(&to, &path).unwrap_err();
    assert!(matches!(&error, Error::Differs { .. }) && error.to_string().contains("status"), "{error}");
}
