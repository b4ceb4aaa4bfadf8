//! A store on disk with something of everything: a run that trains, one that goes on from it and merges, a front over both.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;

use tracker_store::{
    Checkpoint, Claim, Dataset, Digest, Durability, Edge, Ending, Experiment, Figure, Front, FrontPoint, Goal, Holder,
    Known, NodeId, Objective, Point, Program, Recipe, RecipeWeight, Recording, Relation, Reward, RowKey, Run, RunId,
    Selection, Stage, Status, Store, Tally, Version,
};

use crate::scene::{STAGE, Scene, checkpoint, new_run, sample, stage, statement, verdict};

pub(crate) struct Family {
    pub(crate) store: Store,
    /// Trains a checkpoint on samples of its own.
    pub(crate) first: RunId,
    /// Samples from that checkpoint, and merges.
    pub(crate) second: RunId,
    /// Nothing to do with the others.
    pub(crate) other: RunId,
    pub(crate) trained: NodeId,
}

/// Bytes without pattern.
pub(crate) fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A file of one tensor of 16-bit words, and one that moved a little from it. Below a megabyte they would not be coded.
pub(crate) fn tensors(n_words: usize) -> [Vec<u8>; 2] {
    let base: Vec<u8> = noise(n_words, 9).iter().flat_map(|byte| [*byte, 0x3c]).collect();
    let moved: Vec<u8> = base.iter().zip(noise(2 * n_words, 8)).map(|(a, b)| a ^ (b & 1 & !(a >> 1))).collect();
    [base, moved].map(|bytes| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![n_words], &bytes).unwrap();
        safetensors::serialize([("w", view)], None).unwrap()
    })
}

pub(crate) fn put(store: &Store, name: &str, run: Option<RunId>, mut bytes: &[u8], base: Option<&Version>) -> Version {
    let mut draft = store.draft("model").unwrap();
    base.map(|base| draft.based_on(base.manifest)).transpose().unwrap();
    draft.add("model.safetensors", &mut bytes).unwrap();
    draft.add("config.json", &mut b"{\"hidden_size\": 8}".as_slice()).unwrap();
    // What a run puts is the best so far.
    draft.save(name, if run.is_some() { &["best"] } else { &[] }, run).unwrap()
}

/// Asserts that a check of every key, record, index and piece finds nothing.
pub(crate) fn assert_sound(dir: &Path) {
    let mut found = Vec::new();
    tracker_store::fsck(dir, &mut |finding| found.push(finding), &|_| {}).unwrap();
    // That a run is said to be running is no damage: some of these are.
    found.retain(|finding| finding.level != tracker_store::Level::Note);
    assert!(found.is_empty(), "{found:?}");
}

fn end(store: &Store, run: RunId) {
    let record_digest = Some(store.record_digest(run).unwrap());
    store.end_run(run, &Ending { status: Status::Finished, message: String::new(), record_digest }).unwrap();
}

impl Family {
    pub(crate) fn new(dir: &Path) -> Self {
        let store = Store::create(dir).unwrap();
        let scene = Scene::over(store.clone());
        let first = scene.run;
        let mut recording = Recording::new();
        for item in 0..40 {
            let row = scene.row(item, 0);
            recording.put_sample(row, &sample(&scene, item, 0)).unwrap();
            recording.put_verdict(row, &verdict(&scene, tracker_store::Outcome::Proved)).unwrap();
        }
        recording.put_param(first, "lr", "0.1").unwrap();
        recording.put_tag(first, "note", "the first").unwrap();
        let points: Vec<Point> = (0..3000).map(|step| Point::new(step, step * 10, 1.0 / (step + 1) as f64)).collect();
        recording.put_points(first, "loss", &points).unwrap();
        recording.put_points(first, "system/wall_secs", &[Point::new(0, 1, 2.5)]).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
        let [base, moved] = tensors(600_000);
        let base = put(&store, "policy", Some(first), &base, None);
        let mut recording = Recording::new();
        let dataset = recording.put(first, &dataset("solved")).unwrap();
        let trained = recording.put(first, &Checkpoint { manifest: base.manifest, ..checkpoint("trained") }).unwrap();
        recording.put_edge(first, &Edge::new(trained, Relation::TrainedOn, dataset)).unwrap();
        for item in 0..40 {
            let edge = Edge::new(dataset, Relation::Includes, NodeId::sample(scene.row(item, 0))).at(item);
            recording.put_edge(first, &edge).unwrap();
        }
        recording.put_known(Known { holder: Holder::Content(base.manifest), weights: Digest::of(b"weights") });
        store.commit(&recording, Durability::Os).unwrap();
        end(&store, first);
        let second = Self::second(&scene, trained, &base, &moved);
        let other = Self::other(&store);
        Self { store, first, second, other, trained }
    }

    /// A run in another experiment whose policy the first one trained.
    fn second(scene: &Scene, trained: NodeId, base: &Version, moved: &[u8]) -> RunId {
        let store = &scene.store;
        let new = tracker_store::NewRun { experiment: "merging".to_owned(), ..new_run("second") };
        let run = store.create_run(&new).unwrap().id;
        let child = put(store, "policy", Some(run), moved, Some(base));
        let mut recording = Recording::new();
        recording.put_stage(run, &stage()).unwrap();
        recording.put_stage(run, &Stage { name: "merge".to_owned(), ordinal: 1 }).unwrap();
        let program = Program { name: "labels".into(), version: "1".into(), settings: "estimator = \"soft\"".into() };
        let scorer = recording.put(run, &program).unwrap();
        let problem = scene.problem.digest().unwrap();
        let subject = recording.put(run, &statement(problem, trained, "q → q")).unwrap();
        let row = |item, k| RowKey::new(run, STAGE, item, k);
        for item in 0..5 {
            for k in 0..2 {
                let drawn = tracker_store::Sample { subject, policy: trained, ..sample(scene, item, k) };
                recording.put_sample(row(item, k), &drawn).unwrap();
                let tallies = vec![Tally { hits: k, of: 2 }];
                let reward = Reward { scorer, kind: "step".into(), values: vec![f64::from(k) / 2.0], tallies };
                recording.put_reward(row(item, k), &reward).unwrap();
            }
            let selection = Selection {
                candidates: (0..2).map(|k| NodeId::sample(row(item, k))).collect(),
                scores: vec![0.0, 0.5],
                rule: "best of 2".into(),
                ties: "first".into(),
                chosen: 1,
                scorer: Some(scorer),
            };
            recording.put_selection(row(item, 0), &selection).unwrap();
        }
        let merge = |item| RowKey::new(run, "merge", item, 0);
        let figure = figure("accuracy", 0.75);
        let figure = recording.put_figure(merge(0), &figure).unwrap();
        recording.put_edge(run, &Edge::new(figure, Relation::Used, trained)).unwrap();
        recording.put_claim(merge(1), &claim()).unwrap();
        let child = recording.put(run, &Checkpoint { manifest: child.manifest, ..checkpoint("child") }).unwrap();
        let recipe = recipe(&[trained, child]);
        let merged = recording.put_virtual(run, &checkpoint("merged"), &recipe).unwrap();
        recording.put(run, &front(&[(merged, [1.0, 2.0]), (NodeId::run(run), [2.0, 3.0])])).unwrap();
        recording.put_points(run, "reward", &[Point::new(0, 5, f64::NAN), Point::new(1, 6, -0.0)]).unwrap();
        recording.put_tag(run, "sweep", &scene.run.to_string()).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
        end(store, run);
        run
    }

    fn other(store: &Store) -> RunId {
        let run = store.create_run(&new_run("other")).unwrap().id;
        put(store, "notes", Some(run), &noise(200_000, 3), None);
        put(store, "policy", None, &noise(50_000, 4), None);
        run
    }

    /// All that reads can say of some runs and all artifacts.
    pub(crate) fn answers(store: &Store, runs: &[RunId]) -> Answers {
        let mut artifacts = BTreeMap::new();
        for last in store.artifacts().unwrap() {
            for version in store.versions(&last.name).unwrap() {
                let manifest = store.manifest(&version).unwrap();
                let files = manifest.files.iter().map(|file| store.read_file(file.digest).unwrap()).collect();
                artifacts.insert((version.name.clone(), version.manifest), files);
            }
        }
        let run = |id: &RunId| {
            let mut walked = tracker_store::Walk::new(tracker_store::Toward::Ancestors);
            walked.limit = 100_000;
            let series = store.all_series(*id).unwrap();
            let points =
                |key: &str| -> Vec<Point> { store.history(*id, key, None).unwrap().map(Result::unwrap).collect() };
            let of_run = RunAnswers {
                run: store.run(*id).unwrap(),
                experiment: store.experiment_by_id(store.run(*id).unwrap().experiment).unwrap(),
                digest: store.record_digest(*id).unwrap(),
                params: store.params(*id).unwrap(),
                tags: store.tags(*id).unwrap(),
                points: series.iter().map(|(key, _)| (key.clone(), points(key))).collect(),
                lineage: store
                    .samples(*id, None)
                    .map(|row| row.unwrap().0)
                    .chain(store.figures(*id, None).map(|row| row.unwrap().0))
                    .map(|node| store.walk(node, &walked).unwrap().to_tree())
                    .collect(),
            };
            (*id, of_run)
        };
        Answers { runs: runs.iter().map(run).collect(), artifacts }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) runs: BTreeMap<RunId, RunAnswers>,
    pub(crate) artifacts: BTreeMap<(String, Digest), Vec<Vec<u8>>>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct RunAnswers {
    pub(crate) run: Run,
    pub(crate) experiment: Experiment,
    pub(crate) digest: Digest,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) points: BTreeMap<String, Vec<Point>>,
    pub(crate) lineage: Vec<String>,
}

fn dataset(name: &str) -> Dataset {
    Dataset { name: name.into(), purpose: "train".into(), n_rows: 40, content: Digest::of(name.as_bytes()), rows: None }
}

fn figure(name: &str, value: f64) -> Figure {
    Figure { name: name.into(), value, low: Some(0.5), high: None, n: 12, unit: String::new(), split: "test".into() }
}

fn claim() -> Claim {
    Claim {
        id: "C1".into(),
        statement: "more is better".into(),
        holds: true,
        value: 0.5,
        low: None,
        high: None,
        bound: Some(0.0),
    }
}

fn recipe(parents: &[NodeId]) -> Recipe {
    let weight = |parent: &NodeId| RecipeWeight { parent: parent.digest().unwrap(), block: String::new(), weight: 0.5 };
    Recipe {
        text: "merge_method: linear\n".to_owned(),
        method: "linear".to_owned(),
        weights: parents.iter().map(weight).collect(),
        parents: parents.to_vec(),
        others: "from the first parent".to_owned(),
        seed: 0,
    }
}

fn front(points: &[(NodeId, [f64; 2])]) -> Front {
    let objective = |name: &str, goal| Objective { name: name.to_owned(), goal };
    let point = |(node, values): &(NodeId, [f64; 2])| FrontPoint {
        node: *node,
        values: values.to_vec(),
        rank: 0,
        crowding: f64::INFINITY,
        is_pareto: true,
    };
    Front {
        name: "reward against tax".to_owned(),
        objectives: vec![objective("reward", Goal::Maximize), objective("loss", Goal::Minimize)],
        epsilon: Vec::new(),
        points: points.iter().map(point).collect(),
        reference: vec![0.0, 10.0],
        hypervolume: Some(1.5),
    }
}
