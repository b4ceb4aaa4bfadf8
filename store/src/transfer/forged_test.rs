//! Exports that were made to deceive: refused before anything is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::import::UNFINISHED;
use crate::artifact::LooseFile;
use crate::bundle::{Bundle, Cutter, Line, Purpose, Sink, Target, entries_of};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, RunId};
use crate::keys::{self, tag};
use crate::model::{Experiment, LoggedModel, ModelVersion, Trace};
use crate::records::Stored;
use crate::{ClientRun, NewLoggedModel, NewModelVersion, Store};

/// An entry of an export, with the run in whose part it is.
type Part = (Option<RunId>, Vec<u8>, Vec<u8>);

/// A run with a model, which is a version of a registered model, and a trace under another experiment.
struct Scene {
    dir: tempfile::TempDir,
    store: Store,
    run: RunId,
    model: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let (experiment, tags) = (store.default_experiment().unwrap().id, BTreeMap::new());
        let elsewhere = store.create_experiment("elsewhere", "", &tags).unwrap().id;
        let (name, user, started) = ("r".to_owned(), "me".to_owned(), Timestamp::now());
        let run = store.log_run(&ClientRun { experiment, name, user, started, tags: tags.clone() }).unwrap().id;
        let (name, model_type, params) = ("policy".to_owned(), String::new(), BTreeMap::new());
        let new = NewLoggedModel { experiment, name, model_type, run: Some(run), params, tags: tags.clone() };
        let model = store.log_model(&new).unwrap().id;
        let trace = Trace {
            id: String::new(),
            experiment: elsewhere,
            requested: started,
            duration_millis: None,
            state: "OK".to_owned(),
            request: String::new(),
            response: String::new(),
            client_id: String::new(),
            metadata: BTreeMap::from([(Trace::SOURCE_RUN.to_owned(), run.simple())]),
            tags: tags.clone(),
        };
        store.put_trace("tr-1", |_| Ok(trace.clone())).unwrap();
        store.register_model("champion", "", &tags).unwrap();
        let (name, description, source, run_link) =
            ("champion".to_owned(), String::new(), String::new(), String::new());
        let of_model = model.clone();
        let new =
            NewModelVersion { name, description, source, files: None, run: Some(run), run_link, model: of_model, tags };
        store.create_model_version(&new).unwrap();
        Self { dir, store, run, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An export of the run whose entries were changed.
    fn forge(&self, edit: impl Fn(&mut Vec<Part>)) -> Bundle {
        let (sound, forged) = (self.path("sound.tar"), self.path("forged.tar"));
        for path in [&sound, &forged] {
            drop(std::fs::remove_file(path));
        }
        self.store.export(&[self.run], Target::File(&sound), &mut |_| {}).unwrap();
        let bundle = Bundle::open(&sound).unwrap();
        let mut entries = Vec::new();
        for line in bundle.lines().unwrap() {
            let Line::Chunk(line) = line else { continue };
            let raw = bundle.chunk(&line).unwrap();
            let mut keep = |key: &[u8], value: &[u8]| {
                entries.push((line.run, key.to_vec(), value.to_vec()));
                Ok(())
            };
            entries_of(&raw, |reason| bundle.damaged_chunk(&line, reason), &mut keep).unwrap();
        }
        edit(&mut entries);
        let mut sink = Sink::open(Target::File(&forged), Purpose::Export).unwrap();
        sink.begin();
        for entries in entries.chunk_by(|a, b| a.0 == b.0) {
            let mut cutter = Cutter::default();
            for (run, key, value) in entries {
                if let Some(chunk) = cutter.push(key, value) {
                    sink.chunk(&chunk, *run).unwrap();
                }
            }
            if let Some(chunk) = cutter.cut() {
                sink.chunk(&chunk, entries[0].0).unwrap();
            }
        }
        sink.finish(self.store.facts().unwrap(), bundle.runs().to_vec()).unwrap();
        Bundle::open(&forged).unwrap()
    }

    /// Imports a changed export into an empty store, which must stay empty; the error.
    fn refuse(&self, edit: impl Fn(&mut Vec<Part>)) -> Error {
        let to = Store::memory().unwrap();
        let all = || to.entries(b"").collect::<Result<Vec<_>>>().unwrap();
        let before = all();
        let error = to.import(&self.forge(edit), &mut |_| {}).unwrap_err();
        assert_eq!(all(), before, "{error}");
        error
    }
}

fn at(entries: &[Part], tag: u8) -> usize {
    entries.iter().position(|(_, key, _)| key[0] == tag).unwrap()
}

/// Changes the first record whose key has this tag.
fn change<T: Stored>(entries: &mut [Part], tag: u8, change: impl Fn(&mut T)) {
    let (_, key, record) = &mut entries[at(entries, tag)];
    let mut value = T::decode(key, record).unwrap();
    change(&mut value);
    *record = value.encode().unwrap();
}

fn twice(tag: u8) -> impl Fn(&mut Vec<Part>) {
    move |entries| {
        let nth = at(entries, tag);
        entries.insert(nth, entries[nth].clone());
    }
}

#[test]
fn forged_exports_are_refused_before_anything_is_written() {
    let scene = Scene::new();
    let corrupt = |reason: &str, edit: &dyn Fn(&mut Vec<Part>)| {
        let error = scene.refuse(edit);
        assert!(matches!(error, Error::Corrupt { .. } | Error::CorruptFile { .. }), "{error}");
        assert!(error.to_string().contains(reason), "expected `{reason}` in: {error}");
    };
    corrupt("twice", &twice(tag::TRACE));
    corrupt("twice", &twice(tag::LOGGED));
    corrupt("does not belong", &twice(tag::REGISTERED));
    corrupt("does not belong", &twice(tag::MODEL_VERSION));
    corrupt("another experiment `elsewhere` came before it", &|entries| {
        let nth = at(entries, tag::TRACE) - 1;
        let (run, key, record) = entries[nth].clone();
        let other = Experiment { id: ExperimentId::fresh(), ..Experiment::decode(&key, &record).unwrap() };
        assert_eq!(other.name, "elsewhere");
        entries.insert(nth, (run, keys::experiment(other.id), other.encode().unwrap()));
    });
    corrupt("another id", &|entries| entries[0].1 = keys::experiment(ExperimentId::fresh()));
    corrupt("its experiment is not in the export", &|entries| {
        change(entries, tag::TRACE, |trace: &mut Trace| trace.experiment = ExperimentId::fresh());
    });
    let loose = |path: &str| {
        let file = LooseFile { n_bytes: 1, digest: Digest::of(b"x"), modified: Timestamp::now() };
        let key = keys::loose(&format!("models/{}", scene.model), path);
        move |entries: &mut Vec<Part>| {
            let nth = at(entries, tag::LOGGED);
            entries.insert(nth + 1, (entries[nth].0, key.clone(), file.encode().unwrap()));
        }
    };
    corrupt("its file is not in the export", &loose("a"));
    let error = scene.refuse(loose("../a"));
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    corrupt("is not in the export", &|entries| {
        change(entries, tag::LOGGED, |model: &mut LoggedModel| model.takers = vec![RunId::fresh()]);
    });
    corrupt("does not belong", &|entries| {
        let nth = at(entries, tag::MODEL_VERSION);
        entries[nth].1 = keys::model_version("champion", u32::MAX);
        change(entries, tag::MODEL_VERSION, |version: &mut ModelVersion| version.number = u32::MAX);
    });
    corrupt("which it does not name", &|entries| {
        let (of, last) = (RunId::fresh(), at(entries, tag::TRACE));
        entries[last].0 = Some(of);
    });
    // As it was it is taken in.
    Store::memory().unwrap().import(&scene.forge(|_| {}), &mut |_| {}).unwrap();
}

#[test]
fn marks_of_imports_that_were_not_finished_do_not_come_along() {
    let scene = Scene::new();
    let mark = || (UNFINISHED.to_owned(), "not finished".to_owned());
    let bundle = scene.forge(|entries| {
        change(entries, tag::LOGGED, |model: &mut LoggedModel| model.tags.extend([mark()]));
        change(entries, tag::TRACE, |trace: &mut Trace| trace.tags.extend([mark()]));
        let nth = at(entries, tag::NODE) + 1;
        entries.insert(nth, (Some(scene.run), keys::run_tag(scene.run, UNFINISHED), b"not finished".to_vec()));
    });
    let to = Store::memory().unwrap();
    to.import(&bundle, &mut |_| {}).unwrap();
    assert!(to.tags(scene.run).unwrap().is_empty());
    assert!(!to.logged_model(&scene.model).unwrap().tags.contains_key(UNFINISHED));
    assert!(to.trace("tr-1").unwrap().tags.is_empty());
    assert_eq!(to.import(&bundle, &mut |_| {}).unwrap().runs[0].arrival, crate::Arrival::There);
}
