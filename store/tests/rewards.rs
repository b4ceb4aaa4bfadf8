//! Rewards and selections: what is refused, how they are found by model, kind and subject, and where they come from.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use scene::{STAGE, Scene, new_run, sample, stage, statement};
use tracker_store::{
    Durability, Edge, Error, NodeId, Program, Query, Recording, Relation, Reward, RowKey, Selection, Stage, Table,
    Tally, Toward, Value, Walk,
};

fn reward(scorer: NodeId, kind: &str, values: &[f64]) -> Reward {
    let tallies = values.iter().map(|value| Tally { hits: (value * 16.0) as u32, of: 16 }).collect();
    Reward { scorer, kind: kind.to_owned(), values: values.to_vec(), tallies }
}

fn labels(settings: &str) -> Program {
    Program { name: "step labels".into(), version: "1".into(), settings: settings.into() }
}

/// Two samples each of two statements, with rewards of one name by two definitions, and a selection for each statement.
struct Scored {
    scene: Scene,
    other: NodeId,
    soft: NodeId,
    hard: NodeId,
}

fn scored() -> Scored {
    let scene = Scene::new();
    let mut recording = Recording::new();
    let problem = scene.problem.digest().unwrap();
    let other = recording.put(scene.run, &statement(problem, scene.policy, "q → q")).unwrap();
    let soft = recording.put(scene.run, &labels("estimator = \"soft\"")).unwrap();
    let hard = recording.put(scene.run, &labels("estimator = \"hard\"")).unwrap();
    for item in 0..2 {
        for k in 0..2 {
            let row = scene.row(item, k);
            let subject = if item == 0 { scene.statement } else { other };
            recording.put_sample(row, &tracker_store::Sample { subject, ..sample(&scene, item, k) }).unwrap();
            recording.put_reward(row, &reward(soft, "step", &[0.25, f64::from(k) * 0.5])).unwrap();
            recording.put_reward(row, &reward(hard, "step", &[1.0, f64::from(k)])).unwrap();
        }
        recording.put_selection(scene.row(item, 0), &selection(&scene, item, soft)).unwrap();
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
    Scored { scene, other, soft, hard }
}

fn selection(scene: &Scene, item: u32, scorer: NodeId) -> Selection {
    Selection {
        candidates: (0..2).map(|k| NodeId::sample(scene.row(item, k))).collect(),
        scores: vec![0.0, 0.25],
        rule: "best of 2 by min".into(),
        ties: "first".into(),
        chosen: 1,
        scorer: Some(scorer),
    }
}

fn places(scored: &Scored, table: Table, filter: &str, is_in_run: bool) -> Vec<String> {
    let mut query = Query::new(table).filter(filter).unwrap();
    if is_in_run {
        query = query.of_run(scored.scene.run);
    }
    let page = scored.scene.store.query(&query).unwrap();
    page.rows.iter().map(|row| format!("{}{}", row.get("item").unwrap(), row.get("k").unwrap())).collect()
}

#[test]
fn rewards_are_found_by_model_kind_and_subject_with_and_without_the_index() {
    let scored = scored();
    let subject = |node: NodeId| format!("sample.subject = '{node}'");
    for (filter, expected) in [
        (format!("scorer = '{}'", scored.soft), "00 01 10 11"),
        (format!("scorer = '{}' AND {}", scored.hard, subject(scored.other)), "10 11"),
        (format!("scorer = '{}' AND kind = 'step' AND value < 0.3 AND k = 1", scored.soft), "01 11"),
        (format!("scorer = '{}'", scored.other), ""),
        (format!("{} AND sample.policy = '{}'", subject(scored.scene.statement), scored.scene.policy), "00 00 01 01"),
        ("kind = 'outcome'".to_owned(), ""),
        ("tallies = '16/16 0/16'".to_owned(), "00 10"),
    ] {
        for is_in_run in [true, false] {
            assert_eq!(places(&scored, Table::Rewards, &filter, is_in_run).join(" "), expected, "{filter} {is_in_run}");
        }
    }
    // Pages over the index join without gap or repeat.
    let query =
        || Query::new(Table::Rewards).of_run(scored.scene.run).filter(&format!("scorer = '{}'", scored.hard)).unwrap();
    let (mut ids, mut after): (Vec<NodeId>, Option<String>) = (Vec::new(), None);
    loop {
        let page = match after {
            Some(token) => scored.scene.store.query(&query().limit(3).after(token)),
            None => scored.scene.store.query(&query().limit(3)),
        }
        .unwrap();
        ids.extend(page.rows.iter().map(|row| row.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let all: Vec<NodeId> = scored.scene.store.query(&query()).unwrap().rows.iter().map(|row| row.id).collect();
    assert_eq!((ids.len(), ids), (4, all));
}

#[test]
fn selections_say_who_won_by_how_much_and_come_from_the_winner() {
    let scored = scored();
    let store = &scored.scene.store;
    let query =
        Query::new(Table::Selections).of_run(scored.scene.run).filter(&format!("scorer = '{}'", scored.soft)).unwrap();
    let page = store.query(&query).unwrap();
    assert_eq!(page.rows.len(), 2);
    let row = &page.rows[1];
    let winner = NodeId::sample(scored.scene.row(1, 1));
    assert_eq!(row.get("winner"), Some(&Value::Text(winner.to_string())));
    assert_eq!((row.get("margin"), row.get("score")), (Some(&Value::Real(0.25)), Some(&Value::Real(0.25))));
    assert_eq!((row.get("chosen"), row.get("n_candidates")), (Some(&Value::Int(1)), Some(&Value::Int(2))));
    assert_eq!(store.selections(scored.scene.run, Some(stage().id())).count(), 2);
    let graph = store.walk(row.id, &Walk { depth: 1, ..Walk::new(Toward::Ancestors) }).unwrap();
    let mut ups: Vec<_> = graph.edges.iter().map(|edge| (edge.relation, edge.to)).collect();
    ups.sort_unstable();
    assert_eq!(ups, [(Relation::DerivedFrom, winner), (Relation::ScoredBy, scored.soft)]);
    let down = store.walk(winner, &Walk { depth: 1, ..Walk::new(Toward::Descendants) }).unwrap();
    assert!(down.edges.iter().any(|edge| edge.from == row.id && edge.relation == Relation::DerivedFrom));
    assert!(graph.to_tree().contains("best of 2 by min: 1 of 2"), "{}", graph.to_tree());
}

#[test]
fn selections_that_are_none_are_refused() {
    let scene = Scene::new();
    let sound = selection(&scene, 0, scene.policy);
    Recording::new().put_selection(scene.row(0, 0), &sound).unwrap();
    let twice = vec![sound.candidates[0]; 2];
    for (wrong, expected) in [
        (Selection { chosen: 2, ..sound.clone() }, "a place among the `2` candidates"),
        (
            Selection { candidates: vec![], scores: vec![], chosen: 0, ..sound.clone() },
            "a place among the `0` candidates",
        ),
        (Selection { candidates: twice, ..sound.clone() }, "each sample once"),
        (Selection { candidates: vec![scene.policy; 1], ..sound.clone() }, "samples"),
        (Selection { scores: vec![1.0], ..sound.clone() }, "as many as candidates"),
        (Selection { scores: vec![1.0, f64::NAN], ..sound.clone() }, "finite"),
        (Selection { rule: String::new(), ..sound.clone() }, "a rule and a tie rule"),
        (Selection { ties: String::new(), ..sound }, "a rule and a tie rule"),
    ] {
        let error = Recording::new().put_selection(scene.row(0, 0), &wrong).unwrap_err();
        assert!(error.is_input() && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_same_selection_twice_is_one_and_another_in_its_place_is_refused() {
    let scored = scored();
    let store = &scored.scene.store;
    let digest = store.record_digest(scored.scene.run).unwrap();
    let commit = |selection: &Selection| {
        let mut recording = Recording::new();
        recording.put_selection(scored.scene.row(0, 0), selection).unwrap();
        store.commit(&recording, Durability::Os)
    };
    let same = selection(&scored.scene, 0, scored.soft);
    commit(&same).unwrap();
    assert_eq!(store.record_digest(scored.scene.run).unwrap(), digest);
    assert!(matches!(commit(&Selection { chosen: 0, ..same }).unwrap_err(), Error::Conflict { .. }));
}

#[test]
fn a_selection_is_part_of_a_runs_digest_and_of_no_other_run() {
    let digest = |chosen: Option<u32>| {
        let scene = Scene::new();
        let mut recording = Recording::new();
        for k in 0..2 {
            recording.put_sample(scene.row(0, k), &sample(&scene, 0, k)).unwrap();
        }
        if let Some(chosen) = chosen {
            let selection = Selection { chosen, ..selection(&scene, 0, scene.policy) };
            recording.put_selection(scene.row(0, 0), &selection).unwrap();
        }
        scene.store.commit(&recording, Durability::Os).unwrap();
        scene.store.record_digest(scene.run).unwrap()
    };
    assert_eq!(digest(Some(0)), digest(Some(0)), "ids of runs do not enter");
    assert_ne!(digest(Some(0)), digest(Some(1)));
    assert_ne!(digest(None), digest(Some(1)));
}

#[test]
fn a_reward_computed_from_another_is_about_its_sample_in_the_other_run() {
    let scored = scored();
    let store = &scored.scene.store;
    // Labels of labels of the first run, each in a run of its own.
    let mut last = NodeId::reward(scored.scene.row(1, 1), reward(scored.soft, "step", &[0.0]).slot());
    let mut scorer = scored.soft;
    for nth in 0..2 {
        let run = store.create_run(&new_run("relabelled")).unwrap().id;
        let mut recording = Recording::new();
        recording.put_stage(run, &Stage { name: STAGE.into(), ordinal: 0 }).unwrap();
        scorer = recording.put(run, &labels(&format!("estimator = \"er\"\neta = {nth}.5"))).unwrap();
        let node = recording.put_reward(RowKey::new(run, STAGE, 1, 1), &reward(scorer, "step", &[0.5])).unwrap();
        recording.put_edge(run, &Edge::new(node, Relation::DerivedFrom, last)).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
        last = node;
    }
    let filter = format!("scorer = '{scorer}' AND sample.subject = '{}'", scored.other);
    let page = store.query(&Query::new(Table::Rewards).filter(&filter).unwrap()).unwrap();
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [last]);
    let graph = store.walk(last, &Walk::new(Toward::Ancestors)).unwrap();
    let sample = NodeId::sample(scored.scene.row(1, 1));
    assert!(graph.edges.iter().any(|edge| edge.to == sample && edge.relation == Relation::About));
    assert!(
        graph.edges.iter().all(|edge| edge.to.kind() != sample.kind() || edge.to == sample),
        "no sample that is not there"
    );
    let down = store.walk(sample, &Walk::new(Toward::Descendants)).unwrap();
    assert!(down.edges.iter().any(|edge| edge.from == last));
}
