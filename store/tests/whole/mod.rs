//! A store on disk with something of every kind in it, and all that can be asked of it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tracker_engine::{Direction, KeyRange, Options};
use tracker_store::{
    Assessment, AssessmentKind, Checked, Checkpoint, Claim, ClientRun, Collect, Digest, Durability, Edge, Ending,
    Figure, Finding, Front, FrontPoint, Goal, Group, Level, Life, Measured, ModelState, NewLoggedModel,
    NewModelVersion, NodeId, Objective, Outcome, Point, Program, Query, Recipe, RecipeWeight, Recording, Relation,
    Result, Reward, RunChange, RunInput, Selection, Span, Status, Store, Table, Tally, Timestamp, Toward, Trace, Walk,
    Way, fsck,
};

use crate::scene::{Scene, checkpoint, new_run, sample, verdict};

/// Files to be told apart by name, with their bytes.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Makes it in `dir`.
pub(crate) fn fill(dir: &Path) {
    let scene = Scene::over(Store::create(dir).unwrap());
    let (store, run) = (&scene.store, scene.run);
    rows(&scene);
    for nth in 0..6_i64 {
        let mut recording = Recording::new();
        let n_points = [3, 700, 2500, 40, 1100, 1][nth as usize];
        let points: Vec<Point> =
            (0..n_points).map(|step| Point::new(step * (nth % 2 * 2 - 1), step, (step as f64).sqrt())).collect();
        for key in ["loss", "reward/train"] {
            recording.put_points(run, key, &points).unwrap();
        }
        recording
            .put_points(run, &format!("short/{nth}"), &[Point::new(nth, 0, f64::NAN), Point::new(nth, 1, -0.0)])
            .unwrap();
        store.commit(&recording, Durability::Os).unwrap();
    }
    let (pre, post) = (artifacts(&scene), virtual_checkpoint(&scene, "post"));
    let mut recording = Recording::new();
    let parents = [pre, post];
    let weight = |parent: &NodeId| RecipeWeight { parent: parent.digest().unwrap(), block: String::new(), weight: 0.5 };
    let recipe = Recipe {
        text: "merge_method: linear\n".to_owned(),
        method: "linear".to_owned(),
        weights: parents.iter().map(weight).collect(),
        parents: parents.to_vec(),
        others: "first".to_owned(),
        seed: 0,
    };
    let merged = recording.put_virtual(run, &checkpoint("merged"), &recipe).unwrap();
    recording.put(run, &front(&[merged, post])).unwrap();
    recording.put_edge(run, &Edge::new(merged, Relation::TrainedOn, scene.statement).at(3)).unwrap();
    recording.put_edge(run, &Edge::new(merged, Relation::DerivedFrom, pre).weighted(0.5, "low")).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    // Another run says the same contents, and has an edge from one that it did not record itself.
    let other = store.create_run(&new_run("other")).unwrap().id;
    let mut recording = Recording::new();
    recording.put_param(other, "lr", "0.2").unwrap();
    recording.put(other, &recipe).unwrap();
    recording.put_edge(other, &Edge::new(scene.statement, Relation::DerivedFrom, pre)).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    clients(&scene);
    for id in [run, other] {
        let ending = Ending { status: Status::Finished, message: String::new(), record_digest: None };
        store.end_run(id, &ending).unwrap();
    }
}

/// What clients of the tracking protocol log: a run with a user, inputs, files, models, versions of them, traces.
fn clients(scene: &Scene) {
    let store = &scene.store;
    let texts = || BTreeMap::from([("key".to_owned(), "value".to_owned())]);
    let experiment = store.create_experiment("clients", "s3://bucket", &texts()).unwrap().id;
    store.change_experiment(experiment, |experiment| experiment.name.push_str(" renamed")).unwrap();
    let started = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let new = ClientRun { experiment, name: "logged".to_owned(), user: "me".to_owned(), started, tags: texts() };
    let run = store.log_run(&new).unwrap().id;
    let ended = RunChange { status: Some(Status::Finished), ended: Some(started), ..RunChange::default() };
    store.change_logged_run(run, &ended, &Recording::new()).unwrap();
    let gone = store.log_run(&new).unwrap().id;
    store.delete_run(gone, true).unwrap();
    let mut recording = Recording::new();
    let input = RunInput { name: "squad".to_owned(), digest: "1".to_owned(), tags: texts(), ..RunInput::default() };
    recording.put_input(run, &input).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    let owner = format!("runs/{}", run.simple());
    for path in ["note.txt", "dir/a.txt", "dir/b.txt"] {
        store.put_loose(&owner, path, &mut path.as_bytes()).unwrap();
    }
    for name in ["first", "second", "third"] {
        let new = NewLoggedModel {
            experiment,
            name: name.to_owned(),
            model_type: String::new(),
            run: Some(run),
            params: texts(),
            tags: texts(),
        };
        let model = store.log_model(&new).unwrap().id;
        let mut recording = Recording::new();
        recording.put_model_link(run, Way::Out, &model, 1).unwrap();
        let on = Measured { dataset_name: "squad".to_owned(), dataset_digest: "1".to_owned() };
        recording.put_measured(run, "accuracy", &Point::new(1, 2, 0.5), &model, &on).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
        store.take_models(gone, std::slice::from_ref(&model), &Recording::new()).unwrap();
        store.put_loose(&format!("models/{model}"), "MLmodel", &mut name.as_bytes()).unwrap();
        store.finish_model(&model, ModelState::Ready).unwrap();
        store.register_model(name, "", &texts()).unwrap();
        let version = NewModelVersion {
            name: name.to_owned(),
            description: String::new(),
            source: format!("models:/{model}"),
            files: Some((format!("models/{model}"), String::new())),
            run: Some(run),
            run_link: String::new(),
            model,
            tags: texts(),
        };
        store.create_model_version(&version).unwrap();
        let trace = Trace {
            id: String::new(),
            experiment,
            requested: started,
            duration_millis: Some(5),
            state: "OK".to_owned(),
            request: name.to_owned(),
            response: String::new(),
            client_id: String::new(),
            metadata: texts(),
            tags: texts(),
        };
        let span = Span { start_nanos: 1, otlp: name.as_bytes().to_vec() };
        store.put_spans(&[(name.to_owned(), vec![(7, span)])].into(), |_, _| Ok(trace.clone())).unwrap();
        let assessment = Assessment {
            id: String::new(),
            name: "ok".to_owned(),
            source_type: "HUMAN".to_owned(),
            source_id: "me".to_owned(),
            created: started,
            updated: started,
            kind: AssessmentKind::Feedback,
            value: "{\"value\":true}".to_owned(),
            rationale: String::new(),
            span: String::new(),
            metadata: texts(),
            overrides: String::new(),
            is_valid: true,
        };
        store.put_assessment(name, "a-1", |_| Ok(assessment.clone())).unwrap();
    }
}

fn rows(scene: &Scene) {
    let run = scene.run;
    let mut recording = Recording::new();
    let judge = Program { name: "judge".to_owned(), version: "1".to_owned(), settings: String::new() };
    let judge = recording.put(run, &judge).unwrap();
    for item in 0..300 {
        for k in 0..2 {
            let row = scene.row(item, k);
            recording.put_sample(row, &sample(scene, item, k)).unwrap();
            recording
                .put_verdict(row, &verdict(scene, if k == 0 { Outcome::Proved } else { Outcome::Failed }))
                .unwrap();
            let tallies = vec![Tally { hits: k, of: 8 }];
            let reward = Reward { scorer: judge, kind: "step".to_owned(), values: vec![0.5], tallies };
            recording.put_reward(row, &reward).unwrap();
        }
        let candidates = (0..2).map(|k| NodeId::sample(scene.row(item, k))).collect();
        let selection = Selection {
            candidates,
            scores: vec![0.0, 1.0],
            rule: "best of 2".to_owned(),
            ties: "first".to_owned(),
            chosen: 1,
            scorer: Some(judge),
        };
        recording.put_selection(scene.row(item, 0), &selection).unwrap();
    }
    let figure = Figure {
        name: "pass@2".to_owned(),
        value: 0.5,
        low: None,
        high: None,
        n: 300,
        unit: String::new(),
        split: "train".to_owned(),
    };
    recording.put_figure(scene.row(0, 0), &figure).unwrap();
    let claim = Claim {
        id: "rises".to_owned(),
        statement: "it rises".to_owned(),
        holds: true,
        value: 0.5,
        low: None,
        high: None,
        bound: Some(0.0),
    };
    recording.put_claim(scene.row(0, 0), &claim).unwrap();
    for (key, value) in [("lr", "0.1"), ("measure.pass@2", "share of items"), ("note", "ünïcode")] {
        recording.put_param(run, key, value).unwrap();
        recording.put_tag(run, key, value).unwrap();
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
}

/// Weights that are coded, once alone and once as differences; text in pieces; a file that lies in its record.
fn artifacts(scene: &Scene) -> NodeId {
    let (store, run) = (&scene.store, scene.run);
    let noise = |n: usize| -> Vec<u8> {
        let mut bytes = vec![0; n];
        blake3::Hasher::new_derive_key("whole").finalize_xof().fill(&mut bytes);
        bytes
    };
    let bell = noise(1_400_000);
    let weights: Vec<u8> = bell.chunks(2).flat_map(|pair| [pair[0] & 0x3f, 0x3c | pair[1] & 0x80]).collect();
    let moved: Vec<u8> =
        weights.iter().enumerate().map(|(nth, byte)| if nth % 40 == 0 { byte ^ 1 } else { *byte }).collect();
    let mut last = None;
    for (nth, bytes) in [&weights, &moved].into_iter().enumerate() {
        let view = TensorView::new(Dtype::BF16, vec![bytes.len() / 2], bytes).unwrap();
        let file = safetensors::serialize([("layer", view)], None).unwrap();
        let mut draft = store.draft("model").unwrap();
        if let Some(base) = &last {
            draft.based_on(*base).unwrap();
        }
        draft.add("model.safetensors", &mut file.as_slice()).unwrap();
        draft.add("config.json", &mut br#"{"layers":1}"#.as_slice()).unwrap();
        let version = draft.save("policy", &[["first", "second"][nth]], Some(run)).unwrap();
        last = Some(version.manifest);
    }
    let mut draft = store.draft("exchanges").unwrap();
    draft.add("all.bin", &mut noise(300_000).as_slice()).unwrap();
    draft.save("exchanges", &[], None).unwrap();
    // The pack whose pieces were laid down anew goes, so that every file has something to lose.
    let at_once = Collect { grace: Duration::ZERO, ..Collect::default() };
    assert_eq!(store.collect(&at_once).unwrap().n_packs, 1);
    let mut recording = Recording::new();
    let trained = Checkpoint { manifest: last.unwrap(), ..checkpoint("pre") };
    let node = recording.put(run, &trained).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    node
}

fn virtual_checkpoint(scene: &Scene, label: &str) -> NodeId {
    let mut recording = Recording::new();
    let node = recording.put(scene.run, &checkpoint(label)).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    node
}

fn front(points: &[NodeId]) -> Front {
    Front {
        name: "reward".to_owned(),
        objectives: vec![Objective { name: "reward".to_owned(), goal: Goal::Maximize }],
        epsilon: Vec::new(),
        points: points
            .iter()
            .map(|node| FrontPoint { node: *node, values: vec![1.0], rank: 0, crowding: 1.0, is_pareto: true })
            .collect(),
        reference: vec![0.0],
        hypervolume: Some(1.0),
    }
}

/// Asks a store everything: opens, lists, queries, walks, reads every point and every artifact. Each answer, or why there is none.
pub(crate) fn ask(dir: &Path) -> Vec<(String, Result<String, String>)> {
    let mut answers = Vec::new();
    let mut note =
        |what: String, answer: Result<String>| answers.push((what, answer.map_err(|error| error.to_string())));
    let store = match Store::open(dir) {
        Ok(store) => store,
        Err(error) => {
            note("open".to_owned(), Err(error));
            return answers;
        }
    };
    let runs: Result<Vec<_>> = store.runs().collect();
    note("runs".to_owned(), runs.as_ref().map(|runs| format!("{runs:?}")).map_err(Clone::clone));
    for table in
        [Table::Runs, Table::Samples, Table::Proofs, Table::Rewards, Table::Checkpoints, Table::Figures, Table::Claims]
    {
        let page = store.query(&Query::new(table).limit(10_000));
        note(format!("{table:?}"), page.map(|page| serde_json::to_string(&page.rows).unwrap()));
    }
    for run in runs.unwrap_or_default() {
        let id = run.id;
        note(format!("params {id}"), store.params(id).map(|params| format!("{params:?}")));
        note(format!("tags {id}"), store.tags(id).map(|tags| format!("{tags:?}")));
        note(format!("stages {id}"), store.stages(id).map(|stages| format!("{stages:?}")));
        note(format!("digest {id}"), store.record_digest(id).map(|digest| digest.to_string()));
        let all = store.all_series(id);
        note(format!("series {id}"), all.as_ref().map(|all| format!("{all:?}")).map_err(Clone::clone));
        for (key, _) in all.unwrap_or_default() {
            let points = store.history(id, &key, None).and_then(Iterator::collect::<Result<Vec<Point>>>);
            note(format!("points {id} {key}"), points.map(|points| format!("{points:?}")));
            note(format!("plot {id} {key}"), store.plot(id, &key, 10).map(|plot| format!("{plot:?}")));
        }
        for toward in [Toward::Ancestors, Toward::Descendants] {
            note(
                format!("walk {id} {toward:?}"),
                store.walk(NodeId::run(id), &Walk::new(toward)).map(|graph| graph.to_tree()),
            );
        }
    }
    let experiment = store.find_experiment("clients renamed").map(|found| found.map(|experiment| experiment.id));
    note("experiment".to_owned(), experiment.as_ref().map(|id| format!("{id:?}")).map_err(Clone::clone));
    if let Ok(Some(experiment)) = experiment {
        let models = store.logged_models(experiment, None).collect::<Result<Vec<_>>>();
        note("models".to_owned(), models.map(|models| format!("{models:?}")));
        let traces = store.traces(experiment, None).collect::<Result<Vec<_>>>();
        note("traces".to_owned(), traces.map(|traces| format!("{traces:?}")));
        let filter = format!("experiment_id IN ('{experiment}')");
        let latest = Query::new(Table::Runs).filter(&filter).unwrap().order_by("start_time DESC, id ASC").unwrap();
        note("latest".to_owned(), store.query(&latest.life(Life::Any)).map(|page| format!("{:?}", page.rows)));
    }
    // What nothing names may go, or rot.
    let usage = store.usage(Group::Version).map(|usage| tracker_store::Usage { dead_bytes: 0, ..usage });
    note("usage".to_owned(), usage.map(|usage| format!("{usage:?}")));
    for name in ["policy:v0", "policy:v1", "policy:first", "policy:second", "exchanges"] {
        let manifest = store.artifact(name).and_then(|version| store.manifest(&version));
        note(name.to_owned(), manifest.as_ref().map(|manifest| format!("{manifest:?}")).map_err(Clone::clone));
        for file in manifest.into_iter().flat_map(|manifest| manifest.files) {
            let bytes = store.read_file(file.digest).map(|bytes| Digest::of(&bytes).to_string());
            note(format!("{name} {}", file.path), bytes);
        }
    }
    answers
}

/// What a check of `dir` says.
pub(crate) fn check(dir: &Path) -> (Result<Checked>, Vec<Finding>) {
    let mut findings = Vec::new();
    let checked = fsck(dir, &mut |finding| findings.push(finding), &|_| {});
    (checked, findings)
}

/// The damage a check of `dir` finds.
pub(crate) fn damage(dir: &Path) -> Vec<Finding> {
    let (checked, findings) = check(dir);
    let damage: Vec<Finding> = findings.into_iter().filter(|finding| finding.level == Level::Damage).collect();
    assert_eq!(checked.unwrap().n_damages, damage.len() as u64);
    damage
}

/// Every file below `dir`, but sockets and locks, whose bytes mean nothing.
pub(crate) fn files(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() != "LOCK" && entry.file_name() != "collecting" {
                files.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// Every entry of the engine.
pub(crate) fn entries(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let engine = tracker_engine::open(dir, &Options::default()).unwrap();
    let mut entries = BTreeMap::new();
    engine
        .range(KeyRange::all(), Direction::Ascending, &mut |key, value| {
            entries.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

/// A copy of a store.
pub(crate) fn copy(files: &Files, from: &Path, to: &Path) {
    for (path, bytes) in files {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
