//! Questions over the tables: what they find, in which order, page by page, with and without indexes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use proptest::prelude::*;
use scene::{STAGE, Scene, new_run, sample, verdict};
use tracker_store::{
    Dataset, Digest, Durability, Edge, Ending, Error, NewRun, NodeId, Outcome, Page, Point, Query, Recording, Relation,
    RunId, Status, Store, Table, Value,
};

fn ask(store: &Store, table: Table, filter: &str, order: &str) -> Vec<String> {
    let mut query = Query::new(table).filter(filter).unwrap();
    if !order.is_empty() {
        query = query.order_by(order).unwrap();
    }
    names(&store.query(&query).unwrap())
}

fn names(page: &Page) -> Vec<String> {
    page.rows.iter().map(|row| row.get("name").or_else(|| row.get("item")).unwrap().to_string()).collect()
}

/// One run with a param, a tag and a metric, each optional.
fn run(store: &Store, name: &str, lr: Option<&str>, note: Option<&str>, loss: Option<f64>) -> RunId {
    let id = store.create_run(&new_run(name)).unwrap().id;
    let mut recording = Recording::new();
    if let Some(lr) = lr {
        recording.put_param(id, "lr", lr).unwrap();
    }
    if let Some(note) = note {
        recording.put_tag(id, "note", note).unwrap();
    }
    if let Some(loss) = loss {
        recording.put_points(id, "loss", &[Point::new(0, 0, 9.0), Point::new(1, 1, loss)]).unwrap();
    }
    store.commit(&recording, Durability::Os).unwrap();
    id
}

fn few_runs() -> Store {
    let store = Store::memory().unwrap();
    run(&store, "a", Some("0.1"), Some("Good one"), Some(0.5));
    run(&store, "b", Some("0.01"), None, Some(f64::NAN));
    run(&store, "c", Some("0.1"), Some("bad"), Some(-0.25));
    run(&store, "d", None, Some("100%"), None);
    let failed = run(&store, "e", Some("auto"), None, Some(f64::INFINITY));
    store.end_run(failed, &Ending { status: Status::Failed, message: "x".to_owned(), record_digest: None }).unwrap();
    store
}

#[test]
fn runs_are_found_by_anything_known_of_them() {
    let store = few_runs();
    for (filter, expected) in [
        ("", "edcba"),
        ("name = 'a'", "a"),
        ("run.name = 'a' OR attributes.run_name = 'c'", "ca"),
        ("params.lr = '0.1'", "ca"),
        ("params.lr < 0.1", "b"),
        ("params.lr != '0.1'", "eb"),
        ("params.lr IS NULL", "d"),
        ("params.lr IS NOT NULL AND NOT params.lr IN ('0.1', '0.01')", "e"),
        ("tags.note LIKE '%od%'", "a"),
        ("tags.note ILIKE 'GOOD%'", "a"),
        ("tags.note NOT LIKE 'G%'", "dc"),
        ("tags.note LIKE '100\u{25}'", "d"),
        ("metrics.loss < 1", "ca"),
        ("metrics.loss >= 0.5", "ea"),
        ("metrics.loss != 0.5", "ecb"),
        ("metrics.loss NOT IN (0.5, 0)", "ecb"),
        ("metrics.loss = 0 OR metrics.loss < 0 OR metrics.loss > 0", "eca"),
        ("NOT metrics.loss <= 0.5", "eb"),
        ("metrics.loss = -0.25", "c"),
        ("metrics.loss IS NULL", "d"),
        ("status = 'failed'", "e"),
        ("status != 'failed' AND metrics.loss > 0", "a"),
        ("status IN ('failed', 'running') AND (params.lr = '0.1' OR name = 'd')", "dca"),
        ("study = 'goedel' AND experiment = 'proofs' AND name > 'c'", "ed"),
        ("experiment = 'nothing'", ""),
        ("start_time > 0 AND end_time > 0", "e"),
        ("seed = 1 AND name = \"b\"", "b"),
    ] {
        assert_eq!(ask(&store, Table::Runs, filter, "").concat(), expected, "{filter}");
    }
}

#[test]
fn null_and_nan_come_last_in_both_directions() {
    let store = few_runs();
    assert_eq!(ask(&store, Table::Runs, "", "metrics.loss").concat(), "caebd");
    assert_eq!(ask(&store, Table::Runs, "", "metrics.loss DESC").concat(), "eacbd");
    assert_eq!(ask(&store, Table::Runs, "", "metrics.loss DESC, name").concat(), "eacbd");
    assert_eq!(ask(&store, Table::Runs, "", "name").concat(), "abcde");
    assert_eq!(ask(&store, Table::Runs, "", "status DESC, name DESC").concat(), "dcbae");
    assert_eq!(ask(&store, Table::Runs, "params.lr = '0.1'", "metrics.loss").concat(), "ca");
}

#[test]
fn a_row_has_the_columns_the_question_names() {
    let store = few_runs();
    let query = Query::new(Table::Runs).filter("metrics.loss = 0.5").unwrap().column("params.lr, tags.none").unwrap();
    let page = store.query(&query).unwrap();
    let json = serde_json::to_value(&page.rows[0]).unwrap();
    assert_eq!((&json["name"], &json["metrics.loss"], &json["params.lr"]), (&"a".into(), &0.5.into(), &"0.1".into()));
    assert!(json["tags.none"].is_null() && json["ended"].is_null());
    let text = serde_json::to_string(&page.rows[0]).unwrap();
    assert!(
        text.starts_with("{\"id\":") && text.find("\"name\"") < text.find("\"status\""),
        "columns keep their order: {text}"
    );
    let nan =
        store.query(&Query::new(Table::Runs).filter("name = 'b'").unwrap().column("metrics.loss").unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&nan.rows[0]).unwrap()["metrics.loss"], "NaN");
}

#[test]
fn a_field_that_is_not_there_is_named_with_its_column_and_what_is() {
    let store = few_runs();
    let error = |table, filter: &str| store.query(&Query::new(table).filter(filter).unwrap()).unwrap_err().to_string();
    let text = error(Table::Runs, "name = 'a' AND stauts = 'x'");
    assert!(text.starts_with("column 16 of") && text.ends_with("got `stauts`; did you mean `status`?"), "{text}");
    assert!(error(Table::Checkpoints, "params.lr = '1'").contains("expected one of id, label"));
    assert!(error(Table::Runs, "models.x = '1'").contains("got `models.x`"));
    let order = Query::new(Table::Samples).order_by("n_token").unwrap();
    assert!(matches!(store.query(&order), Err(Error::Syntax { column: 1, .. })));
    let token = Query::new(Table::Runs).after("zz");
    assert!(matches!(store.query(&token), Err(Error::Invalid { .. })));
    assert_eq!("runz".parse::<Table>().unwrap_err().hint().as_deref(), Some("did you mean `runs`?"));
}

fn proofs() -> Scene {
    let scene = Scene::new();
    for item in 0..6 {
        let outcome = if item % 3 == 0 { Outcome::Proved } else { Outcome::Failed };
        scene.sample_and_verdict(item, item % 2, outcome);
    }
    scene
}

#[test]
fn rows_are_asked_by_their_own_fields_and_by_those_of_their_run_and_sample() {
    let scene = proofs();
    let mut recording = Recording::new();
    recording.put_param(scene.run, "lr", "0.1").unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    for (table, filter, expected) in [
        (Table::Samples, "k = 0 AND item < 4", "02"),
        (Table::Samples, "stage = 'round 1/attempt' AND n_tokens = 4 AND finish = 'stop'", "012345"),
        (Table::Samples, "stage = 'elsewhere'", ""),
        (Table::Samples, "text LIKE '%-- 3 1'", "3"),
        (Table::Samples, "params.lr = '0.1' AND item = 5", "5"),
        (Table::Proofs, "outcome = 'proved'", "03"),
        (Table::Proofs, "outcome != 'proved' AND sample.sum_logprob < 0 AND k = 1", "15"),
        (Table::Proofs, "text LIKE '%-- 4 0'", "4"),
        (Table::Proofs, "run.name = 'scene' AND outcome = 'failed' AND status = 'running'", "1245"),
        (Table::Proofs, "metrics.loss IS NOT NULL", ""),
    ] {
        assert_eq!(ask(&scene.store, table, filter, "").concat(), expected, "{filter}");
        let with_run = format!("run = '{}'{}{filter}", scene.run, if filter.is_empty() { "" } else { " AND " });
        assert_eq!(ask(&scene.store, table, &with_run, "").concat(), expected, "{with_run}");
    }
    let page = scene.store.query(&Query::new(Table::Proofs).of_run(scene.run).limit(1)).unwrap();
    let row = &page.rows[0];
    assert_eq!(row.get("stage"), Some(&Value::from(STAGE)));
    assert_eq!(row.get("text"), Some(&Value::from("fun h => h -- 0 0")));
    assert_eq!(row.id, NodeId::verdict(scene.row(0, 0), verdict(&scene, Outcome::Proved).slot()));
}

#[test]
fn contents_are_asked_over_the_store_and_by_run() {
    let scene = proofs();
    let other = Scene::over(scene.store.clone());
    let mut recording = Recording::new();
    recording.put(other.run, &scene::checkpoint("second")).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let labels = |query: Query| -> Vec<String> {
        let page = scene.store.query(&query.order_by("label").unwrap()).unwrap();
        page.rows.iter().map(|row| row.get("label").unwrap().to_string()).collect()
    };
    assert_eq!(labels(Query::new(Table::Checkpoints)), ["base", "second"]);
    assert_eq!(labels(Query::new(Table::Checkpoints).of_run(scene.run)), ["base"]);
    assert_eq!(
        labels(Query::new(Table::Checkpoints).filter("label LIKE 'sec%' AND n_params = 1000").unwrap()),
        ["second"]
    );
    assert_eq!(ask(&scene.store, Table::Problems, "text LIKE 'If%'", ""), ["p1"]);
    assert_eq!(ask(&scene.store, Table::Statements, "compiles = true AND style = 'arrows'", ""), ["t1"]);
    assert_eq!(ask(&scene.store, Table::Verifiers, "version = '1'", ""), ["kernel"]);
}

#[test]
fn datasets_of_a_run_are_those_it_used() {
    let store = few_runs();
    let used = run(&store, "f", None, None, None);
    let data = Dataset {
        name: "minif2f".to_owned(),
        purpose: "benchmark".to_owned(),
        n_rows: 244,
        content: Digest::of(b"x"),
        rows: None,
    };
    let mut recording = Recording::new();
    let node = recording.put(used, &data).unwrap();
    recording.put_edge(used, &Edge::new(NodeId::run(used), Relation::Used, node)).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(ask(&store, Table::Runs, "dataset.name = 'minif2f'", "").concat(), "f");
    assert_eq!(ask(&store, Table::Runs, "datasets.name LIKE 'other%'", "").concat(), "");
}

#[test]
fn pages_of_an_index_scan_join_while_rows_are_added() {
    let scene = proofs();
    let query = Query::new(Table::Proofs).of_run(scene.run).filter("outcome = 'failed'").unwrap().limit(2);
    let first = scene.store.query(&query).unwrap();
    assert_eq!(names(&first), ["1", "2"]);
    scene.sample_and_verdict(40, 0, Outcome::Failed);
    let second = scene.store.query(&query.clone().after(first.next.unwrap())).unwrap();
    assert_eq!(names(&second), ["4", "5"]);
    let third = scene.store.query(&query.after(second.next.unwrap())).unwrap();
    assert_eq!((names(&third), third.next), (vec!["40".to_owned()], None));
}

/// What a run is made of in the property below.
type Facts = (u8, Option<u8>, Option<i8>, bool);

fn many_runs(facts: &[Facts]) -> Store {
    let store = Store::memory().unwrap();
    for (nth, (name, lr, loss, is_failed)) in facts.iter().enumerate() {
        let study = if nth % 2 == 0 { "even" } else { "odd" };
        let new = NewRun { study: study.to_owned(), ..new_run(&format!("{}", name % 4)) };
        let id = store.create_run(&new).unwrap().id;
        let mut recording = Recording::new();
        if let Some(lr) = lr {
            recording.put_param(id, "lr", &(lr % 3).to_string()).unwrap();
        }
        if let Some(loss) = loss {
            let value = if *loss == 7 { f64::NAN } else { f64::from(loss % 4) };
            recording.put_points(id, "loss", &[Point::new(0, 0, value)]).unwrap();
        }
        store.commit(&recording, Durability::Os).unwrap();
        if *is_failed {
            store.end_run(id, &Ending { status: Status::Failed, message: String::new(), record_digest: None }).unwrap();
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_any_size_join_to_the_whole_and_indexes_do_not_change_it(
        facts in proptest::collection::vec(any::<Facts>(), 0..25),
        n_page in 1..7_usize,
        filter in proptest::sample::select(vec![
            "", "params.lr = '1'", "metrics.loss >= 1", "status = 'failed'", "study = 'odd' AND params.lr = '0'",
            "metrics.loss = 0", "metrics.loss != 0", "metrics.loss != 1 OR name = '2'", "experiment = 'proofs' AND metrics.loss < 2",
        ]),
        order in proptest::sample::select(vec![
            "", "metrics.loss", "metrics.loss DESC", "name DESC", "name, metrics.loss DESC", "params.lr DESC, name",
        ]),
    ) {
        let store = many_runs(&facts);
        let query = |filter: &str| {
            let query = Query::new(Table::Runs).filter(filter).unwrap();
            if order.is_empty() { query } else { query.order_by(order).unwrap() }
        };
        let whole = store.query(&query(filter)).unwrap();
        // A filter under NOT NOT requires nothing at the top, so no index serves it.
        let hidden = if filter.is_empty() { String::new() } else { format!("NOT (NOT ({filter}))") };
        let unserved = store.query(&query(&hidden)).unwrap();
        let ids = |page: &Page| page.rows.iter().map(|row| row.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&whole), ids(&unserved));
        let mut joined = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = query(filter).limit(n_page);
            let page = store.query(&match after.take() {
                Some(token) => page.after(token),
                None => page,
            }).unwrap();
            prop_assert!(page.rows.len() <= n_page);
            joined.extend(ids(&page));
            match page.next {
                Some(token) => after = Some(token),
                None => break,
            }
        }
        prop_assert_eq!(joined, ids(&whole));
    }
}

#[test]
fn samples_of_a_stage_stay_in_order_past_a_page_of_the_engine() {
    let scene = Scene::new();
    let mut recording = Recording::new();
    for item in 0..3000 {
        recording.put_sample(scene.row(item, 0), &sample(&scene, item, 0)).unwrap();
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
    let page = scene.store.query(&Query::new(Table::Samples).filter("item >= 2990").unwrap().limit(5)).unwrap();
    assert_eq!(names(&page), ["2990", "2991", "2992", "2993", "2994"]);
    let last = Query::new(Table::Samples).order_by("item DESC").unwrap().limit(2);
    assert_eq!(names(&scene.store.query(&last).unwrap()), ["2999", "2998"]);
}
