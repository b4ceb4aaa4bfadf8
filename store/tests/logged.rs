//! What clients logged beside runs goes along with exports: logged models, traces, registered models.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tracker_engine::Memory;
use tracker_engine::faulty::{Action, Fault, Faulty, Plan};
use tracker_store::{
    Arrival, Assessment, AssessmentKind, Bundle, ClientRun, Collect, Durability, ExperimentId, Imported, LoggedModel,
    LooseFolder, Measured, Measurement, ModelState, NewLoggedModel, NewModelVersion, NodeId, Point, Recording,
    RegisteredModel, RunId, Span, Store, Target, Timestamp, Toward, Trace, Walk, Way,
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
    let change = |model: &mut LoggedModel| {
        model.params.insert("new".to_owned(), "1".to_owned());
        Ok(())
    };
    store.change_model(&scene.made, change).unwrap();
    let imported = import(&to, &scene.export(&[scene.taker]));
    assert_eq!(measured_by(&to, &scene.made), [scene.maker, scene.taker], "what the taker measured is added");
    let kept = &imported.kept[0];
    assert_eq!((imported.kept.len(), kept.what, &kept.id), (1, "logged model", &scene.made));
    assert_eq!(kept.differences, ["its own record", "files (`2` here, `3` in the file)"]);
    assert_eq!(answer(&to, &scene.made), before);
}

fn trace(store: &Store, experiment: ExperimentId, run: Option<RunId>, id: &str) {
    let metadata = run.map(|run| (Trace::SOURCE_RUN.to_owned(), run.simple())).into_iter().collect();
    let trace = Trace {
        id: String::new(),
        experiment,
        requested: Timestamp::from_millis(1_700_000_000_000).unwrap(),
        duration_millis: Some(5),
        state: "OK".to_owned(),
        request: id.to_owned(),
        response: String::new(),
        client_id: String::new(),
        metadata,
        tags: texts("trace"),
    };
    let span = |number: u64| (number, Span { start_nanos: number, otlp: id.as_bytes().to_vec() });
    store.put_spans(&[(id.to_owned(), vec![span(1), span(2)])].into(), |_, _| Ok(trace.clone())).unwrap();
    assess(store, id, "a-1");
    store.put_loose(&format!("traces/{id}"), "traces.json", &mut id.repeat(5_000).as_bytes()).unwrap();
}

fn assess(store: &Store, trace: &str, id: &str) {
    let now = Timestamp::from_millis(1_700_000_000_001).unwrap();
    let assessment = Assessment {
        id: String::new(),
        name: "ok".to_owned(),
        source_type: "HUMAN".to_owned(),
        source_id: "me".to_owned(),
        created: now,
        updated: now,
        kind: AssessmentKind::Feedback,
        value: "{\"value\":true}".to_owned(),
        rationale: String::new(),
        span: String::new(),
        metadata: texts("assessment"),
        overrides: String::new(),
        is_valid: true,
    };
    store.put_assessment(trace, id, |_| Ok(assessment.clone())).unwrap();
}

fn whole_trace(store: &Store, id: &str) -> (Trace, Vec<Span>, Vec<Assessment>, Vec<u8>) {
    let file = store.loose(&format!("traces/{id}"), "traces.json").unwrap().unwrap();
    let bytes = store.read_file(file.digest).unwrap();
    (store.trace(id).unwrap(), store.spans(id).unwrap(), store.assessments(id).unwrap(), bytes)
}

#[test]
fn traces_go_with_their_run_and_those_of_no_run_stay_behind() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    let experiment = store.default_experiment().unwrap().id;
    let elsewhere = store.find_experiment("elsewhere").unwrap().unwrap().id;
    // Experiments of one name are one, whatever their ids.
    let joined = to.create_experiment("elsewhere", "", &texts("another")).unwrap().id;
    let without = export(store, &[scene.maker], &scene.dir.path().join("without.tar"));
    trace(store, experiment, Some(scene.maker), "tr-1");
    trace(store, elsewhere, Some(scene.maker), "tr-2");
    trace(store, experiment, None, "tr-3");
    trace(store, experiment, Some(scene.other), "tr-4");
    let bundle = scene.export(&[scene.maker]);
    let imported = import(&to, &bundle);
    assert_eq!((imported.n_traces, imported.kept.len()), (2, 0), "{imported:?}");
    assert_eq!(imported.joined.iter().map(String::as_str).collect::<Vec<_>>(), ["elsewhere"]);
    assert_eq!(whole_trace(&to, "tr-1"), whole_trace(store, "tr-1"));
    let (found, spans, assessments, bytes) = whole_trace(&to, "tr-2");
    assert_eq!((Trace { experiment: elsewhere, ..found }, spans, assessments, bytes), whole_trace(store, "tr-2"));
    assert!(to.trace("tr-3").is_err() && to.trace("tr-4").is_err());
    assert_eq!(to.traces(joined, None).map(|trace| trace.unwrap().id).collect::<Vec<_>>(), ["tr-2"]);
    let before = records(&to, &scene.dir.path().join("before"));
    assert_eq!(import(&to, &bundle).n_traces, 0);
    // Nor does one that has no traces.
    let imported = import(&to, &without);
    assert_eq!((imported.runs[0].arrival, imported.kept.len()), (Arrival::There, 0));
    assert_eq!(records(&to, &scene.dir.path().join("after")), before);
    assert_sound(&scene.dir.path().join("to"));
}

#[test]
fn large_traces_come_in_several_commits_each_whole() {
    let scene = Scene::new();
    let store = &scene.store;
    let experiment = store.default_experiment().unwrap().id;
    let ids = ["tr-1", "tr-2", "tr-3", "tr-4"];
    for id in ids {
        trace(store, experiment, Some(scene.maker), id);
        let large = Span { start_nanos: 3, otlp: vec![7; 5 << 20] };
        store.put_spans(&[(id.to_owned(), vec![(3, large)])].into(), |_, trace| Ok(trace.unwrap())).unwrap();
    }
    let bundle = scene.export(&[scene.maker]);
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::new()), None));
    let to = Store::over(faulty.clone(), Some(scene.dir.path().join("to"))).unwrap();
    faulty.plan(None);
    assert_eq!(import(&to, &bundle).n_traces, 4);
    // The run, and its traces two by two.
    assert_eq!(faulty.begun().n_writes, 3);
    for id in ids {
        assert!(whole_trace(&to, id) == whole_trace(store, id), "{id}");
    }
}

#[test]
fn a_very_large_trace_says_that_it_is_not_finished_until_it_is() {
    let scene = Scene::new();
    let store = &scene.store;
    trace(store, store.default_experiment().unwrap().id, Some(scene.maker), "tr-1");
    for number in 10..24 {
        let large = Span { start_nanos: number, otlp: vec![number as u8; 5 << 20] };
        store.put_spans(&[("tr-1".to_owned(), vec![(number, large)])].into(), |_, trace| Ok(trace.unwrap())).unwrap();
    }
    let bundle = scene.export(&[scene.maker]);
    // 70 MiB do not fit a commit. It stops after the run and a part of the trace.
    let dir = scene.dir.path().join("to");
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::new()), None));
    let to = Store::over(faulty.clone(), Some(dir)).unwrap();
    faulty.plan(Some(Plan { action: Action::Write, nth: 4, fault: Fault::Fail }));
    assert!(to.import(&bundle, &mut |_| {}).is_err());
    assert!(to.trace("tr-1").unwrap().tags["tracker.import"].contains("import the same file again"));
    let n_spans = to.spans("tr-1").unwrap().len();
    assert!((1..16).contains(&n_spans), "{n_spans}");
    assert_eq!(import(&to, &bundle).n_traces, 1);
    assert!(whole_trace(&to, "tr-1") == whole_trace(store, "tr-1"));
    let imported = import(&to, &bundle);
    assert_eq!((imported.n_traces, imported.kept.len()), (0, 0));
}

#[test]
fn a_part_of_a_trace_is_neither_exported_nor_left_behind_nor_marked_by_clients() {
    let scene = Scene::new();
    let store = &scene.store;
    let experiment = store.default_experiment().unwrap().id;
    let elsewhere = store.find_experiment("elsewhere").unwrap().unwrap().id;
    trace(store, experiment, Some(scene.maker), "tr-1");
    let large = |number: u64| (number, Span { start_nanos: number, otlp: vec![number as u8; 5 << 20] });
    for number in 10..20 {
        store.put_spans(&[("tr-1".to_owned(), vec![large(number)])].into(), |_, trace| Ok(trace.unwrap())).unwrap();
    }
    let bundle = scene.export(&[scene.maker]);
    let dir = scene.dir.path().join("to");
    let below = tracker_engine::open(&dir, &tracker_engine::Options::default()).unwrap();
    let faulty = Arc::new(Faulty::new(below, None));
    let to = Store::over(faulty.clone(), Some(dir.clone())).unwrap();
    faulty.plan(Some(Plan { action: Action::Write, nth: 4, fault: Fault::Fail }));
    assert!(to.import(&bundle, &mut |_| {}).is_err());
    faulty.plan(None);
    assert!(to.trace("tr-1").unwrap().tags.contains_key("tracker.import"));
    let refuse = |what: &str, error: tracker_store::Error| {
        assert!(matches!(error, tracker_store::Error::Invalid { .. }) && error.to_string().contains(what), "{error}");
    };
    let path = scene.dir.path().join("y.tar");
    let error = to.export(&[scene.maker], Target::File(&path), &mut |_| {}).unwrap_err();
    refuse("trace `tr-1`", error.clone());
    refuse("import the file it comes from again", error);
    assert!(!path.exists());
    // The mark is the imports' own.
    let mark = || BTreeMap::from([("tracker.import".to_owned(), "mine".to_owned())]);
    refuse("tracker.import", Recording::new().put_tag(scene.maker, "tracker.import", "mine").unwrap_err());
    refuse("tracker.import", to.remove_tag(scene.maker, "tracker.import").unwrap_err());
    refuse(
        "tracker.import",
        to.put_trace("tr-1", |trace| Ok(Trace { tags: texts("x"), ..trace.unwrap() })).unwrap_err(),
    );
    let new = Trace { id: "tr-9".to_owned(), tags: mark(), ..store.trace("tr-1").unwrap() };
    refuse("tracker.import", store.put_trace("tr-9", |_| Ok(new.clone())).unwrap_err());
    let change = |model: &mut LoggedModel| {
        model.tags = mark();
        Ok(())
    };
    refuse("tracker.import", store.change_model(&scene.made, change).unwrap_err());
    let (name, user, started) = ("r".to_owned(), "me".to_owned(), Timestamp::now());
    refuse("tracker.import", store.log_run(&ClientRun { experiment, name, user, started, tags: mark() }).unwrap_err());
    // The trace is another now where it comes from.
    store.remove_traces(&["tr-1".to_owned()]).unwrap();
    trace(store, elsewhere, Some(scene.maker), "tr-1");
    assert_eq!(import(&to, &scene.export(&[scene.maker])).n_traces, 1);
    assert!(to.traces(experiment, None).next().is_none(), "it is found where it was");
    let joined = to.find_experiment("elsewhere").unwrap().unwrap().id;
    assert_eq!(to.traces(joined, None).count(), 1);
    assert!(whole_trace(&to, "tr-1") == whole_trace(store, "tr-1"));
    drop((to, faulty));
    assert_sound(&dir);
}

#[test]
fn a_run_that_is_there_gains_traces_and_those_with_other_contents_stay_and_are_told() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    let experiment = store.default_experiment().unwrap().id;
    trace(store, experiment, Some(scene.maker), "tr-1");
    import(&to, &scene.export(&[scene.maker]));
    trace(store, experiment, Some(scene.maker), "tr-2");
    assess(store, "tr-1", "a-2");
    let digest = to.record_digest(scene.maker).unwrap();
    let before = whole_trace(&to, "tr-1");
    let imported = import(&to, &scene.export(&[scene.maker]));
    assert_eq!((imported.n_traces, imported.runs[0].arrival), (1, Arrival::There));
    assert_eq!((imported.kept[0].what, imported.kept[0].id.as_str()), ("trace", "tr-1"));
    assert_eq!(imported.kept[0].differences, ["assessments (`1` here, `2` in the file)"]);
    assert_eq!(whole_trace(&to, "tr-1"), before);
    assert_eq!(whole_trace(&to, "tr-2"), whole_trace(store, "tr-2"));
    assert_eq!(to.record_digest(scene.maker).unwrap(), digest, "traces enter no digest");
    assert_sound(&scene.dir.path().join("to"));
}

fn version(store: &Store, name: &str, run: Option<RunId>, model: &str) -> u32 {
    let new = NewModelVersion {
        name: name.to_owned(),
        description: format!("{name} of {model}"),
        source: format!("models:/{model}"),
        files: model.starts_with("m-").then(|| (format!("models/{model}"), String::new())),
        run,
        run_link: String::new(),
        model: if model.starts_with("m-") { model.to_owned() } else { String::new() },
        tags: texts("version"),
    };
    let version = store.create_model_version(&new).unwrap();
    if !version.model.is_empty() {
        let noted = &store.logged_model(&version.model).unwrap().tags["mlflow.modelVersions"];
        assert!(noted.contains(&serde_json::json!({ "name": name, "version": version.number }).to_string()), "{noted}");
    }
    version.number
}

fn alias(store: &Store, name: &str, alias: &str, number: u32) {
    let change = |model: &mut RegisteredModel| {
        model.aliases.insert(alias.to_owned(), number);
        Ok(())
    };
    store.change_registered(name, change).unwrap();
}

/// Versions of the maker's model, of the other run's, and of one of no run; and a copy of the first under another name.
fn register(scene: &Scene) {
    let store = &scene.store;
    store.register_model("champion", "the best", &texts("registered")).unwrap();
    store.register_model("prod", "", &BTreeMap::new()).unwrap();
    assert_eq!(version(store, "champion", Some(scene.maker), &scene.made), 1);
    assert_eq!(version(store, "champion", Some(scene.other), &scene.foreign), 2);
    assert_eq!(version(store, "champion", None, &scene.found), 3);
    assert_eq!(version(store, "prod", Some(scene.maker), "champion/1"), 1);
    alias(store, "champion", "best", 1);
    alias(store, "champion", "theirs", 2);
}

#[test]
fn versions_of_registered_models_go_with_their_run_or_their_model() {
    let scene = Scene::new();
    register(&scene);
    let (store, to) = (&scene.store, scene.empty("to"));
    let bundle = scene.export(&[scene.taker]);
    let imported = import(&to, &bundle);
    assert_eq!((imported.n_model_versions, imported.renumbered_models.len()), (3, 0), "{imported:?}");
    let mut expected = store.registered_model("champion").unwrap();
    expected.aliases.remove("theirs");
    assert_eq!(to.registered_model("champion").unwrap(), expected);
    let of = |store: &Store, name: &str, number: u32| store.model_version(name, number).unwrap();
    for (name, number) in [("champion", 1), ("champion", 3), ("prod", 1)] {
        assert_eq!(of(&to, name, number), of(store, name, number));
    }
    assert!(to.model_version("champion", 2).is_err());
    for id in [&scene.made, &scene.found] {
        assert_eq!(answer(&to, id), answer(store, id));
    }
    let manifests = |store: &Store| -> Vec<_> {
        store.versions("registry/champion").unwrap().into_iter().map(|version| version.manifest).collect()
    };
    assert_eq!(manifests(&to), [manifests(store)[0], manifests(store)[2]]);
    let before = records(&to, &scene.dir.path().join("before"));
    let again = import(&to, &bundle);
    assert_eq!((again.n_model_versions, again.n_versions, again.n_models), (0, 0, 0));
    assert_eq!(records(&to, &scene.dir.path().join("after")), before);
    // What was taken away comes back under its number; what led elsewhere meanwhile stays.
    alias(&to, "champion", "best", 3);
    to.remove_model_version("champion", 1).unwrap();
    assert_eq!(import(&to, &bundle).n_model_versions, 1);
    assert_eq!(of(&to, "champion", 1), of(store, "champion", 1));
    assert_eq!(to.registered_model("champion").unwrap().aliases["best"], 3);
    assert_sound(&scene.dir.path().join("to"));
}

#[test]
fn versions_whose_number_is_given_get_the_next_and_what_names_them_follows() {
    let scene = Scene::new();
    register(&scene);
    let to = scene.empty("to");
    to.register_model("champion", "mine", &BTreeMap::new()).unwrap();
    assert_eq!(version(&to, "champion", None, "elsewhere"), 1);
    alias(&to, "champion", "best", 1);
    let mine = to.model_version("champion", 1).unwrap();
    let bundle = scene.export(&[scene.taker]);
    let imported = import(&to, &bundle);
    let renumbered: Vec<_> = imported.renumbered_models.iter().map(|r| (r.name.as_str(), r.from, r.to)).collect();
    assert_eq!(renumbered, [("champion", 1, 2)]);
    let numbers: Vec<u32> = to.model_versions("champion").unwrap().iter().map(|version| version.number).collect();
    assert_eq!((imported.n_model_versions, numbers), (3, vec![1, 2, 3]));
    assert_eq!(to.model_version("champion", 1).unwrap(), mine);
    assert_eq!(to.model_version("champion", 2).unwrap().model, scene.made);
    assert_eq!(to.model_version("prod", 1).unwrap().source, "models:/champion/2", "a copy of what is 2 here");
    let here = to.registered_model("champion").unwrap();
    assert_eq!((here.description.as_str(), here.aliases["best"], here.next), ("mine", 1, 4));
    let noted: serde_json::Value =
        serde_json::from_str(&to.logged_model(&scene.made).unwrap().tags["mlflow.modelVersions"]).unwrap();
    assert_eq!(noted, serde_json::json!([{ "name": "champion", "version": 2 }]));
    let before = records(&to, &scene.dir.path().join("before"));
    assert_eq!(import(&to, &bundle).n_model_versions, 0);
    assert_eq!(records(&to, &scene.dir.path().join("after")), before);
    assert_sound(&scene.dir.path().join("to"));
}

#[test]
fn a_model_of_several_versions_names_each_by_its_number_here() {
    let scene = Scene::new();
    let (store, to) = (&scene.store, scene.empty("to"));
    for (store, n_before) in [(store, 0), (&to, 1)] {
        store.register_model("champion", "", &BTreeMap::new()).unwrap();
        for _ in 0..n_before {
            version(store, "champion", None, "elsewhere");
        }
    }
    assert_eq!([1, 2].map(|_| version(store, "champion", Some(scene.maker), &scene.made)), [1, 2]);
    let bundle = scene.export(&[scene.maker]);
    let imported = import(&to, &bundle);
    let renumbered: Vec<_> = imported.renumbered_models.iter().map(|r| (r.from, r.to)).collect();
    assert_eq!(renumbered, [(1, 2), (2, 3)]);
    let noted: serde_json::Value =
        serde_json::from_str(&to.logged_model(&scene.made).unwrap().tags["mlflow.modelVersions"]).unwrap();
    let named = |number: u32| serde_json::json!({ "name": "champion", "version": number });
    assert_eq!(noted, serde_json::json!([named(2), named(3)]));
    let before = records(&to, &scene.dir.path().join("before"));
    assert_eq!(import(&to, &bundle).n_model_versions, 0);
    assert_eq!(records(&to, &scene.dir.path().join("after")), before);
}

#[test]
fn an_import_that_stops_anywhere_is_sound_and_finished_by_the_next() {
    let scene = Scene::new();
    register(&scene);
    let store = &scene.store;
    for id in ["tr-1", "tr-2"] {
        trace(store, store.default_experiment().unwrap().id, Some(scene.taker), id);
    }
    let bundle = scene.export(&[scene.taker]);
    for action in [Action::Write, Action::Sync] {
        let mut n_stops = 0;
        for nth in 1.. {
            let dir = scene.dir.path().join(format!("{action:?} {nth}"));
            let below = tracker_engine::open(&dir, &tracker_engine::Options::default()).unwrap();
            let faulty = Arc::new(Faulty::new(below, None));
            let to = Store::over(faulty.clone(), Some(dir.clone())).unwrap();
            faulty.plan(Some(Plan { action, nth, fault: Fault::Stop }));
            let is_done = to.import(&bundle, &mut |_| {}).is_ok();
            assert_ne!(is_done, faulty.is_stopped());
            drop((to, faulty));
            assert_sound(&dir);
            if is_done {
                break;
            }
            n_stops += 1;
            let to = Store::open(&dir).unwrap();
            let imported = import(&to, &bundle);
            assert!(imported.kept.is_empty() && imported.renumbered_models.is_empty(), "{imported:?}");
            assert_same(&to, &scene);
            drop(to);
            assert_sound(&dir);
        }
        // Two runs, what was logged to each, and the registry.
        assert!(n_stops >= 5, "{n_stops}");
    }
}

/// What an export of the taker brings is as it is where it comes from.
fn assert_same(to: &Store, scene: &Scene) {
    let store = &scene.store;
    for run in [scene.maker, scene.taker] {
        assert_eq!(to.record_digest(run).unwrap(), store.record_digest(run).unwrap());
        assert_eq!(to.model_links(run).unwrap(), store.model_links(run).unwrap());
    }
    for id in [&scene.made, &scene.found] {
        assert_eq!(answer(to, id), answer(store, id));
    }
    for id in ["tr-1", "tr-2"] {
        assert_eq!(whole_trace(to, id), whole_trace(store, id));
    }
    for name in ["champion", "prod"] {
        let expected = store.model_versions(name).unwrap();
        let expected: Vec<_> = expected.into_iter().filter(|version| version.model != scene.foreign).collect();
        assert_eq!(to.model_versions(name).unwrap(), expected);
    }
}

#[test]
fn a_backup_has_all_of_it() {
    let scene = Scene::new();
    register(&scene);
    let store = &scene.store;
    let experiment = store.default_experiment().unwrap().id;
    trace(store, experiment, None, "tr-1");
    let backup = scene.dir.path().join("backup");
    store.back_up(Target::Folder(&backup), &mut |_| {}).unwrap();
    let dir = scene.dir.path().join("restored");
    Bundle::open(&backup).unwrap().restore(&dir, &mut |_| {}).unwrap();
    let restored = Store::open(&dir).unwrap();
    for id in [&scene.made, &scene.found, &scene.foreign] {
        assert_eq!(answer(&restored, id), answer(store, id));
        assert_eq!(restored.measurements(id).unwrap(), store.measurements(id).unwrap());
    }
    assert_eq!(whole_trace(&restored, "tr-1"), whole_trace(store, "tr-1"));
    assert_eq!(restored.registered_model("champion").unwrap(), store.registered_model("champion").unwrap());
    assert_eq!(restored.model_versions("champion").unwrap(), store.model_versions("champion").unwrap());
}
