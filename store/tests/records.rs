//! What is recorded is found again, once, and nothing else takes its place.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use scene::{STAGE, Scene, new_run, sample, stage, verdict};
use tracker_store::{
    Claim, Cost, Durability, Ending, Error, Figure, NodeId, Outcome, Recording, Reward, RowKey, RunId, Slot, Stage,
    StageId, Statement, Status, Store,
};

#[test]
fn a_run_is_found_by_id_with_all_it_was_made_of() {
    let store = Store::memory().unwrap();
    let run = store.create_run(&new_run("first")).unwrap();
    assert_eq!(store.run(run.id).unwrap(), run);
    assert_eq!(run.status, Status::Running);
    assert_eq!(store.experiment_by_id(run.experiment).unwrap().name, "proofs");
    let second = store.create_run(&new_run("second")).unwrap();
    assert_eq!(second.experiment, run.experiment, "the experiment is made once");
    let names: Vec<String> = store.runs().map(|run| run.unwrap().name).collect();
    assert_eq!(names, ["second", "first"]);
    assert!(matches!(store.run(RunId::from_bytes([0; 16])), Err(Error::NotFound { what: "run", .. })));
}

#[test]
fn a_run_ends_and_goes_on() {
    let store = Store::memory().unwrap();
    let id = store.create_run(&new_run("x")).unwrap().id;
    let ending = Ending { status: Status::Interrupted, message: "ctrl-C".to_owned(), record_digest: None };
    let run = store.end_run(id, &ending).unwrap();
    assert_eq!((run.status, run.message.as_str()), (Status::Interrupted, "ctrl-C"));
    assert!(run.ended.unwrap() >= run.started);
    let run = store.resume_run(id).unwrap();
    assert_eq!((run.status, run.ended), (Status::Running, None));
    let running = Ending { status: Status::Running, message: String::new(), record_digest: None };
    assert!(matches!(store.end_run(id, &running), Err(Error::Invalid { .. })));
}

#[test]
fn rows_come_back_in_the_order_of_items_whatever_the_order_of_writing() {
    let scene = Scene::new();
    let mut recording = Recording::new();
    for item in [300_u32, 2, 1, 70_000] {
        for k in [1, 0] {
            recording.put_sample(scene.row(item, k), &sample(&scene, item, k)).unwrap();
        }
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
    let places: Vec<(u32, u32)> = scene
        .store
        .samples(scene.run, Some(StageId::of(STAGE)))
        .map(|row| row.unwrap().0.row().unwrap())
        .map(|row| (row.item, row.k))
        .collect();
    assert_eq!(places, [(1, 0), (1, 1), (2, 0), (2, 1), (300, 0), (300, 1), (70_000, 0), (70_000, 1)]);
    assert_eq!(scene.store.sample(scene.row(300, 1)).unwrap().unwrap(), sample(&scene, 300, 1));
    assert_eq!(scene.store.samples(scene.run, Some(StageId::of("other"))).count(), 0);
    assert_eq!(scene.store.samples(scene.run, None).count(), 8);
}

#[test]
fn writing_a_row_again_is_a_no_op_and_another_row_in_its_place_is_a_conflict() {
    let scene = Scene::new();
    scene.sample_and_verdict(0, 0, Outcome::Proved);
    let row = scene.row(0, 0);
    let mut dearer = verdict(&scene, Outcome::Proved);
    dearer.cost = Cost { wall_micros: 77, cpu_micros: 7, peak_rss_bytes: None };
    let mut again = Recording::new();
    again.put_sample(row, &sample(&scene, 0, 0)).unwrap();
    again.put_verdict(row, &dearer).unwrap();
    scene.store.commit(&again, Durability::Os).unwrap();
    let recorded = scene.store.verdict(row, &scene.verifier).unwrap().unwrap();
    assert_eq!(recorded.cost, verdict(&scene, Outcome::Proved).cost, "the first cost stays");

    let mut other = Recording::new();
    other.put_sample(scene.row(1, 0), &sample(&scene, 1, 0)).unwrap();
    other.put_verdict(row, &verdict(&scene, Outcome::Failed)).unwrap();
    let error = scene.store.commit(&other, Durability::Os).unwrap_err();
    assert!(matches!(error, Error::Conflict { what: "row", .. }), "{error}");
    assert!(!scene.store.has(&NodeId::sample(scene.row(1, 0))).unwrap(), "nothing of the batch was written");
}

#[test]
fn one_recording_may_hold_a_row_twice_if_both_say_the_same() {
    let scene = Scene::new();
    let mut recording = Recording::new();
    recording.put_sample(scene.row(0, 0), &sample(&scene, 0, 0)).unwrap();
    recording.put_sample(scene.row(0, 0), &sample(&scene, 0, 0)).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    recording.put_sample(scene.row(0, 0), &sample(&scene, 0, 1)).unwrap();
    assert!(matches!(scene.store.commit(&recording, Durability::Os), Err(Error::Conflict { .. })));
}

#[test]
fn rows_need_a_declared_stage_and_stages_keep_their_names() {
    let scene = Scene::new();
    let mut recording = Recording::new();
    recording.put_sample(RowKey::new(scene.run, "undeclared", 0, 0), &sample(&scene, 0, 0)).unwrap();
    let error = scene.store.commit(&recording, Durability::Os).unwrap_err();
    assert!(matches!(error, Error::NotFound { what: "stage", .. }), "{error}");
    let mut renamed = Recording::new();
    renamed.put_stage(scene.run, &Stage { name: STAGE.to_owned(), ordinal: 9 }).unwrap();
    assert!(matches!(scene.store.commit(&renamed, Durability::Os), Err(Error::Conflict { what: "stage", .. })));
    assert_eq!(scene.store.stages(scene.run).unwrap(), [stage()]);
}

#[test]
fn params_are_written_once_and_tags_over_and_over() {
    let scene = Scene::new();
    let write = |key: &str, value: &str, tag: &str| {
        let mut recording = Recording::new();
        recording.put_param(scene.run, key, value).unwrap();
        recording.put_tag(scene.run, "note", tag).unwrap();
        scene.store.commit(&recording, Durability::Os)
    };
    write("lr", "0.1", "a").unwrap();
    write("lr", "0.1", "b").unwrap();
    let error = write("lr", "0.2", "c").unwrap_err();
    assert_eq!(error.to_string(), "expected param `lr` to be `0.1` as recorded, got `0.2`");
    assert_eq!(scene.store.params(scene.run).unwrap()["lr"], "0.1");
    assert_eq!(scene.store.tags(scene.run).unwrap()["note"], "b", "a refused batch writes nothing");
    let mut recording = Recording::new();
    assert!(recording.put_param(scene.run, "a\nb", "x").is_err());
}

#[test]
fn contents_are_named_by_what_they_say() {
    let scene = Scene::new();
    let statement: Statement = scene.store.content(scene.statement.digest().unwrap()).unwrap();
    let mut recording = Recording::new();
    assert_eq!(recording.put(scene.run, &statement).unwrap(), scene.statement);
    let other = Statement { text: "theorem t : False".to_owned(), ..statement };
    assert_ne!(recording.put(scene.run, &other).unwrap(), scene.statement);
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.contents::<Statement>().count(), 2);
    assert_eq!(scene.store.contents_of::<Statement>(scene.run).unwrap().len(), 2);
}

#[test]
fn figures_claims_and_rewards_come_back() {
    let scene = Scene::new();
    let figure = Figure {
        name: "pass@16".to_owned(),
        value: 0.4,
        low: Some(0.35),
        high: Some(0.45),
        n: 244,
        unit: String::new(),
        split: "benchmark".to_owned(),
    };
    let claim = Claim {
        id: "rises".to_owned(),
        statement: "pass@16 rises".to_owned(),
        holds: true,
        value: 0.1,
        low: Some(0.02),
        high: None,
        bound: Some(0.0),
    };
    let reward = Reward { scorer: scene.policy, kind: "outcome".to_owned(), values: vec![8.0], tallies: Vec::new() };
    let mut recording = Recording::new();
    recording.put_figure(scene.row(0, 0), &figure).unwrap();
    recording.put_claim(scene.row(0, 0), &claim).unwrap();
    recording.put_reward(scene.row(0, 0), &reward).unwrap();
    assert!(recording.put_reward(scene.row(0, 1), &Reward { values: vec![f64::NAN], ..reward.clone() }).is_err());
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.figures(scene.run, None).next().unwrap().unwrap().1, figure);
    assert_eq!(scene.store.claims(scene.run).next().unwrap().unwrap().1, claim);
    assert_eq!(scene.store.rewards_on(scene.row(0, 0)).next().unwrap().unwrap().1, reward);
    assert_eq!(scene.store.rewards(scene.run, None).count(), 1);
}

#[test]
fn two_verifiers_may_judge_one_sample() {
    let scene = Scene::new();
    scene.sample_and_verdict(0, 0, Outcome::Proved);
    let mut other = verdict(&scene, Outcome::Failed);
    other.verifier = tracker_store::Digest::of(b"another build");
    let mut recording = Recording::new();
    let node = recording.put_verdict(scene.row(0, 0), &other).unwrap();
    assert_eq!(node, NodeId::verdict(scene.row(0, 0), Slot::of(&other.verifier)));
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.verdicts_on(scene.row(0, 0)).count(), 2);
    assert_eq!(scene.store.verdict(scene.row(0, 0), &other.verifier).unwrap().unwrap().outcome, Outcome::Failed);
}

#[test]
fn a_store_on_disk_is_the_same_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, Error::NotFound { what: "store", .. }), "{error}");
    assert!(!path.exists(), "asking for a store does not make one");
    let run = {
        let store = Store::create(&path).unwrap();
        let scene = Scene::over(store);
        scene.sample_and_verdict(3, 1, Outcome::Proved);
        scene.run
    };
    let store = Store::open(&path).unwrap();
    assert_eq!(store.run(run).unwrap().name, "scene");
    assert_eq!(store.verdicts(run, None).count(), 1);
}

#[test]
fn a_folder_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    for error in [Store::open(dir.path()).unwrap_err(), Store::create(dir.path()).unwrap_err()] {
        assert!(error.to_string().contains("is not part of a tracker store"), "{error}");
    }
}
