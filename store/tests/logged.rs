//! What clients logged beside runs goes along with exports: logged models.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tracker_store::{
    Arrival, Bundle, ClientRun, Collect, Durability, ExperimentId, Imported, LoggedModel, LooseFolder, Measured,
    Measurement, ModelState, NewLoggedModel, NodeId, Point, Recording, RunId, Store, Target, Timestamp, Toward, Walk,
    Way,
};

fn texts(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("key".to_owned(), value.to_owned())])
}

fn run(store: &Store, experiment: ExperimentId, name: &str) -> RunId {
    let started = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let (name, user) = (name.to_owned(), "me".to_owned());
    store.log_run(&ClientRun { experiment, name, user, started, tags: texts("run") }).unwrap().id
}

fn model(store: &Store, experiment: ExperimentId, run: Option<RunId>, name: &str, state: ModelState) -> String {
    let (name, model_type) = (name.to_owned(), "agent".to_owned());
    let new = NewLoggedModel { experiment, name, model_type, run, params: texts("param"), tags: texts("tag") };
    let id = store.log_model(&new).unwrap().id;
    for path in ["MLmodel", "data/weights.bin"] {
        let bytes = path.repeat(5_000) + &id;
        store.put_loose(&format!("models/{id}"), path, &mut bytes.as_bytes()).unwrap();
    }
    if state == ModelState::Pending { id } else { store.finish_model(&id, state).unwrap().id }
}

fn link(store: &Store, run: RunId, way: Way, model: &str) {
    if way == Way::In {
        return store.take_models(run, &[model.to_owned()], &Recording::new()).unwrap();
    }
    let mut recording = Recording::new();
    recording.put_model_link(run, way, model, 3).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
}

fn measure(store: &Store, run: RunId, model: &str, value: f64) {
    let (point, mut recording) = (Point::new(1, 2, value), Recording::new());
    recording.put_points(run, "accuracy", &[point]).unwrap();
    let on = Measured { dataset_name: "squad".to_owned(), dataset_digest: "1".to_owned() };
    recording.put_measured(run, "accuracy", &point, model, &on).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
}

/// A run that made a model, one that took it, and one that has nothing to do with either.
struct Scene {
    dir: tempfile::TempDir,
    store: Store,
    maker: RunId,
    taker: RunId,
    other: RunId,
    made: String,
    /// Of no run; the taker took it.
    found: String,
    /// Of the other run.
    foreign: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let experiment = store.default_experiment().unwrap().id;
        let elsewhere = store.create_experiment("elsewhere", "", &texts("experiment")).unwrap().id;
        let [maker, taker, other] = ["maker", "taker", "other"].map(|name| run(&store, experiment, name));
        let made = model(&store, experiment, Some(maker), "policy", ModelState::Ready);
        let found = model(&store, elsewhere, None, "found", ModelState::Ready);
        let foreign = model(&store, experiment, Some(other), "policy", ModelState::Ready);
        link(&store, maker, Way::Out, &made);
        link(&store, taker, Way::In, &made);
        link(&store, taker, Way::In, &found);
        for run in [maker, taker, other] {
            measure(&store, run, &made, 0.5);
        }
        Self { dir, store, maker, taker, other, made, found, foreign }
    }

    fn export(&self, runs: &[RunId]) -> Bundle {
        export(&self.store, runs, &self.dir.path().join("x.tar"))
    }

    fn empty(&self, name: &str) -> Store {
        Store::create(&self.dir.path().join(name)).unwrap()
    }
}

fn export(store: &Store, runs: &[RunId], path: &Path) -> Bundle {
    drop(fs::remove_file(path));
    store.export(runs, Target::File(path), &mut |_| {}).unwrap();
    Bundle::open(path).unwrap()
}

fn import(store: &Store, bundle: &Bundle) -> Imported {
    store.import(bundle, &mut |_| {}).unwrap()
}

/// What is in a store, but for marks of commits that name pieces.
fn records(store: &Store, dir: &Path) -> String {
    drop(fs::remove_dir_all(dir));
    format!("{:?}", store.back_up(Target::Folder(dir), &mut |_| {}).unwrap().records)
}

fn assert_sound(dir: &Path) {
    let mut found = Vec::new();
    tracker_store::fsck(dir, &mut |finding| found.push(finding), &|_| {}).unwrap();
    found.retain(|finding| finding.level != tracker_store::Level::Note);
    assert!(found.is_empty(), "{found:?}");
}

/// A logged model with its files and their bytes.
fn answer(store: &Store, id: &str) -> (LoggedModel, LooseFolder, Vec<Vec<u8>>) {
    let owner = format!("models/{id}");
    let files = store.loose_folder(&owner, "").unwrap();
    let bytes = ["MLmodel", "data/weights.bin"].map(|path| {
        let file = store.loose(&owner, path).unwrap().unwrap();
        store.read_file(file.digest).unwrap()
    });
    (store.logged_model(id).unwrap(), files, bytes.to_vec())
}

fn measured_by(store: &Store, id: &str) -> Vec<RunId> {
    store.measurements(id).unwrap().into_iter().map(|Measurement { run, .. }| run).collect()
}

#[test]
fn logged_models_go_with_the_run_that_made_them_and_who_took_them_brings_that_run() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    let bundle = scene.export(&[scene.taker]);
    let runs: Vec<RunId> = bundle.runs().iter().map(|run| run.id).collect();
    assert_eq!(runs, [scene.maker, scene.taker], "the model leads to the run that made it");
    let imported = import(&to, &bundle);
    assert_eq!((imported.n_models, imported.kept.len()), (2, 0), "{imported:?}");
    for id in [&scene.made, &scene.found] {
        assert_eq!(answer(&to, id), answer(store, id));
    }
    for run in [scene.maker, scene.taker] {
        assert_eq!(to.model_links(run).unwrap(), store.model_links(run).unwrap());
        assert_eq!(to.record_digest(run).unwrap(), store.record_digest(run).unwrap());
    }
    assert_eq!(measured_by(&to, &scene.made), [scene.maker, scene.taker], "not by runs that stay behind");
    assert!(to.logged_model(&scene.foreign).is_err() && to.run(scene.other).is_err());
    let elsewhere = to.find_experiment("elsewhere").unwrap().unwrap().id;
    assert_eq!(to.logged_models(elsewhere, None).next().unwrap().unwrap().id, scene.found);
    let up = |store: &Store| store.walk(NodeId::run(scene.taker), &Walk::new(Toward::Ancestors)).unwrap();
    assert_eq!(up(&to), up(store));
    assert_sound(&scene.dir.path().join("to"));
    // Nothing of it is collected.
    let at_once = Collect { grace: std::time::Duration::ZERO, ..Collect::default() };
    assert_eq!(to.collect(&at_once).unwrap().n_files, 0);
    assert_eq!(answer(&to, &scene.made), answer(store, &scene.made));
}

#[test]
fn importing_again_changes_nothing_and_brings_what_was_logged_since() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    let bundle = scene.export(&[scene.maker]);
    assert_eq!(import(&to, &bundle).n_models, 1);
    let before = records(&to, &scene.dir.path().join("before"));
    let again = import(&to, &bundle);
    assert_eq!((again.n_models, again.n_versions, again.kept.len()), (0, 0, 0));
    assert_eq!(records(&to, &scene.dir.path().join("after")), before);
    // Not yet ready, and so no edge of the run: the run is the same, and has one more.
    let experiment = store.default_experiment().unwrap().id;
    let late = model(store, experiment, Some(scene.maker), "late", ModelState::Failed);
    link(store, scene.maker, Way::Out, &late);
    let imported = import(&to, &scene.export(&[scene.maker]));
    assert_eq!((imported.n_models, imported.runs[0].arrival), (1, Arrival::There));
    assert_eq!(answer(&to, &late), answer(store, &late));
    assert_eq!(to.model_links(scene.maker).unwrap(), store.model_links(scene.maker).unwrap());
    // And a measurement of a model that is there.
    let imported = import(&to, &scene.export(&[scene.taker]));
    assert_eq!((imported.n_models, imported.kept.len()), (1, 0));
    assert_eq!(measured_by(&to, &scene.made), [scene.maker, scene.taker]);
    assert_sound(&scene.dir.path().join("to"));
}

#[test]
fn a_model_that_is_there_with_other_contents_stays_as_it_is_and_is_told() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    import(&to, &scene.export(&[scene.maker]));
    let tagged = |store: &Store, value: &str| {
        let change = |model: &mut LoggedModel| {
            model.tags = texts(value);
            Ok(())
        };
        store.change_model(&scene.made, change).unwrap();
    };
    tagged(&to, "mine");
    let (before, bundle) = (answer(&to, &scene.made), scene.export(&[scene.maker]));
    assert!(import(&to, &bundle).kept.is_empty(), "tags may differ");
    assert_eq!(answer(&to, &scene.made), before);
    store.put_loose(&format!("models/{}", scene.made), "more.txt", &mut b"more".as_slice()).unwrap();
    store.change_model(&scene.made, |model| Ok(drop(model.params.insert("new".to_owned(), "1".to_owned())))).unwrap();
    let imported = import(&to, &scene.export(&[scene.maker]));
    let kept = &imported.kept[0];
    assert_eq!((imported.kept.len(), kept.what, &kept.id), (1, "logged model", &scene.made));
    assert_eq!(kept.differences, ["its own record (status, params, times)", "files (`2` here, `3` in the file)"]);
    assert_eq!(answer(&to, &scene.made), before);
}
