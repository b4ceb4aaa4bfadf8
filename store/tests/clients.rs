//! Runs, experiments, models and traces as clients of the tracking protocol make and change them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use tracker_store::{
    ClientRun, Durability, Error, ExperimentId, Life, Measured, NewLoggedModel, NewModelVersion, NodeId, Point, Query,
    Recording, RunChange, RunId, RunInput, Status, Store, Table, Timestamp, Trace,
};

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

fn log(store: &Store, experiment: ExperimentId, millis: i64) -> RunId {
    let (name, user) = (format!("run {millis}"), "me".to_owned());
    store.log_run(&ClientRun { experiment, name, user, started: time(millis), tags: BTreeMap::new() }).unwrap().id
}

fn found(store: &Store, query: &Query) -> Vec<RunId> {
    store.query(query).unwrap().rows.iter().filter_map(|row| row.id.owner()).collect()
}

/// The runs of some experiments, the latest first.
fn latest(experiments: &[ExperimentId]) -> Query {
    let ids: Vec<String> = experiments.iter().map(|id| format!("'{id}'")).collect();
    let query = Query::new(Table::Runs).filter(&format!("experiment_id IN ({})", ids.join(", "))).unwrap();
    query.order_by("start_time DESC, id ASC").unwrap()
}

#[test]
fn the_latest_runs_of_several_experiments_come_first_whether_an_index_helps_or_not() {
    let store = Store::memory().unwrap();
    let experiments: Vec<ExperimentId> =
        ["a", "b", "c"].map(|name| store.create_experiment(name, "", &BTreeMap::new()).unwrap().id).to_vec();
    // Times that come twice, and not in the order of ids; before 1970 too.
    let mut all: Vec<(i64, RunId, usize)> = (0..90_i64)
        .map(|nth| {
            let (millis, which) = ((nth * 37) % 29 - 3, (nth % 3) as usize);
            (millis, log(&store, experiments[which], millis), which)
        })
        .collect();
    all.sort_by_key(|(millis, run, _)| (std::cmp::Reverse(*millis), *run));
    let expected = |of: &[usize]| -> Vec<RunId> {
        all.iter().filter(|(_, _, which)| of.contains(which)).map(|(_, run, _)| *run).collect()
    };
    for of in [vec![0, 1, 2], vec![0, 2], vec![1]] {
        let ids: Vec<ExperimentId> = of.iter().map(|which| experiments[*which]).collect();
        assert_eq!(found(&store, &latest(&ids)), expected(&of));
        for limit in [1, 7, 100] {
            let (mut paged, mut token) = (Vec::new(), None);
            loop {
                let query = latest(&ids).limit(limit);
                let page = store
                    .query(&token.map_or_else(|| query.clone(), |token: String| query.clone().after(token)))
                    .unwrap();
                paged.extend(page.rows.iter().filter_map(|row| row.id.owner()));
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(paged, expected(&of), "{of:?} by {limit}");
        }
    }
    // By another order no index has, the same runs.
    let sorted = Query::new(Table::Runs).order_by("start_time DESC, id ASC, name").unwrap();
    assert_eq!(found(&store, &sorted), expected(&[0, 1, 2]));
}

#[test]
fn deleted_runs_and_runs_of_deleted_experiments_are_hidden_and_come_back() {
    let store = Store::memory().unwrap();
    let experiment = store.create_experiment("a", "", &BTreeMap::new()).unwrap().id;
    let (first, second) = (log(&store, experiment, 1), log(&store, experiment, 2));
    let with = |life| found(&store, &Query::new(Table::Runs).life(life));
    store.delete_run(first, true).unwrap();
    assert_eq!((with(Life::Active), with(Life::Deleted)), (vec![second], vec![first]));
    store.change_experiment(experiment, |experiment| experiment.archived = true).unwrap();
    assert_eq!((with(Life::Active), with(Life::Deleted).len(), with(Life::Any).len()), (vec![], 2, 2));
    store.change_experiment(experiment, |experiment| experiment.archived = false).unwrap();
    assert_eq!(with(Life::Active), [second], "what was deleted by itself stays so");
    store.delete_run(first, false).unwrap();
    assert_eq!(with(Life::Active).len(), 2);
    assert!(store.run(first).unwrap().deleted.is_none());
}

#[test]
fn an_experiment_is_found_by_its_name_of_now_and_names_are_given_once() {
    let store = Store::memory().unwrap();
    let make = |name: &str| store.create_experiment(name, "s3://bucket", &BTreeMap::new());
    let experiment = make("a").unwrap();
    assert!(matches!(make("a"), Err(Error::Conflict { .. })));
    make("b").unwrap();
    let rename =
        |name: &'static str| store.change_experiment(experiment.id, |experiment| name.clone_into(&mut experiment.name));
    assert!(matches!(rename("b"), Err(Error::Conflict { .. })));
    let renamed = rename("c").unwrap();
    assert_eq!((renamed.artifacts.as_str(), renamed.created), ("s3://bucket", experiment.created));
    assert!(store.find_experiment("a").unwrap().is_none());
    assert_eq!(store.find_experiment("c").unwrap().unwrap(), renamed);
    // The default one keeps its id under any name.
    let default = store.default_experiment().unwrap();
    store.change_experiment(default.id, |experiment| experiment.name.push('!')).unwrap();
    assert_eq!(store.default_experiment().unwrap().id, default.id);
}

#[test]
fn a_change_and_what_goes_with_it_are_one_commit() {
    let store = Store::memory().unwrap();
    let experiment = store.default_experiment().unwrap().id;
    let run = log(&store, experiment, 1);
    let mut params = Recording::new();
    params.put_param(run, "lr", "1").unwrap();
    store.commit(&params, Durability::Os).unwrap();
    let mut other = Recording::new();
    other.put_param(run, "lr", "2").unwrap();
    let change = RunChange { name: Some("new".to_owned()), status: Some(Status::Scheduled), ended: None };
    assert!(matches!(store.change_logged_run(run, &change, &other), Err(Error::Conflict { .. })));
    assert_eq!(store.run(run).unwrap().name, "run 1");
    store.change_logged_run(run, &change, &params).unwrap();
    let by_status = Query::new(Table::Runs).filter("status = 'scheduled' AND user = 'me' AND name = 'new'").unwrap();
    assert_eq!(found(&store, &by_status), [run]);
}

#[test]
fn inputs_are_datasets_that_are_asked_by_what_clients_say() {
    let store = Store::memory().unwrap();
    let experiment = store.default_experiment().unwrap().id;
    let run = log(&store, experiment, 1);
    log(&store, experiment, 2);
    let mut recording = Recording::new();
    let tags = BTreeMap::from([("mlflow.data.context".to_owned(), "training".to_owned())]);
    let (name, digest) = ("squad".to_owned(), "abc".to_owned());
    let input = RunInput { name, digest, profile: "{\"num_rows\": 7}".to_owned(), tags, ..RunInput::default() };
    let node = recording.put_input(run, &input).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(store.inputs(run).unwrap(), [input]);
    for filter in ["datasets.name = 'squad'", "datasets.digest = 'abc'", "dataset.context LIKE 'train%'"] {
        assert_eq!(found(&store, &Query::new(Table::Runs).filter(filter).unwrap()), [run], "{filter}");
    }
    let up = store.walk(NodeId::run(run), &tracker_store::Walk::new(tracker_store::Toward::Ancestors)).unwrap();
    assert!(up.nodes.iter().any(|found| found.id == node));
}

#[test]
fn numbers_of_versions_are_given_once_and_measurements_read_back() {
    let store = Store::memory().unwrap();
    let experiment = store.default_experiment().unwrap().id;
    let run = log(&store, experiment, 1);
    store.register_model("m", "", &BTreeMap::new()).unwrap();
    let new = NewModelVersion {
        name: "m".to_owned(),
        description: String::new(),
        source: "s3://x".to_owned(),
        files: None,
        run: None,
        run_link: String::new(),
        model: String::new(),
        tags: BTreeMap::new(),
    };
    let number = || store.create_model_version(&new).unwrap().number;
    assert_eq!((number(), number()), (1, 2));
    store.remove_model_version("m", 2).unwrap();
    assert_eq!(number(), 3);
    store.rename_registered("m", "n").unwrap();
    assert_eq!(store.model_versions("n").unwrap().len(), 2);
    assert!(store.model_versions("m").unwrap().is_empty());

    let (name, params, tags) = ("policy".to_owned(), BTreeMap::new(), BTreeMap::new());
    let new = NewLoggedModel { experiment, name, model_type: String::new(), run: Some(run), params, tags };
    let model = store.log_model(&new).unwrap().id;
    let mut recording = Recording::new();
    let points = [Point::new(-3, 7, f64::NEG_INFINITY), Point::new(5, -1, 0.25), Point::new(5, 2, -0.0)];
    for point in points {
        recording.put_measured(run, "loss", &point, &model, &Measured::default()).unwrap();
    }
    store.commit(&recording, Durability::Os).unwrap();
    let read = store.measurements(&model).unwrap();
    let read: Vec<Point> = read.iter().map(|found| Point::new(found.step, found.time, found.value)).collect();
    assert_eq!(read, points);
}

#[test]
fn traces_are_listed_newest_first_and_go_with_all_they_have() {
    let store = Store::memory().unwrap();
    let experiment = store.default_experiment().unwrap().id;
    let trace = |millis: i64| Trace {
        id: String::new(),
        experiment,
        requested: time(millis),
        duration_millis: None,
        state: "OK".to_owned(),
        request: String::new(),
        response: String::new(),
        client_id: String::new(),
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
    };
    for (id, millis) in [("b", 5), ("a", 5), ("c", -9), ("d", 100)] {
        let span = tracker_store::Span { start_nanos: 1, otlp: vec![1] };
        store.put_spans(&[(id.to_owned(), vec![(1, span)])].into(), |_, _| Ok(trace(millis))).unwrap();
    }
    let ids = |after: Option<(i64, &str)>| -> Vec<String> {
        store.traces(experiment, after).map(|trace| trace.unwrap().id).collect()
    };
    assert_eq!(ids(None), ["d", "a", "b", "c"]);
    assert_eq!(ids(Some((5, "a"))), ["b", "c"]);
    store.put_trace("d", |_| Ok(trace(0))).unwrap();
    assert_eq!(ids(None), ["a", "b", "d", "c"]);
    store.put_loose("traces/a", "traces.json", &mut b"{}".as_slice()).unwrap();
    assert_eq!(store.remove_traces(&["a".to_owned(), "none".to_owned()]).unwrap(), 1);
    assert!(store.spans("a").unwrap().is_empty() && store.loose("traces/a", "traces.json").unwrap().is_none());
    assert_eq!(ids(None), ["b", "d", "c"]);
}
