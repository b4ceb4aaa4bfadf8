use tracker_store::{
    Checkpoint, Content as _, Finish, Kind, Problem, Sample, Sampling, Selection, Tally, Toward, Walk,
};

use super::*;

/// A run of two prompts with trajectories of these step counts, labelled softly.
fn recorded(store: &Store, prompts: &[&[&[u32]]]) -> RunId {
    let new = NewRun {
        name: "labels".into(),
        experiment: "er_prm".into(),
        study: "er_prm".into(),
        plan: Plan::new("study = \"er_prm\"\n"),
        seed: 1,
        device: "cpu".into(),
        host: "here".into(),
        versions: BTreeMap::new(),
    };
    let run = store.create_run(&new).unwrap().id;
    let mut recording = Recording::new();
    recording.put_stage(run, &Stage { name: "rollouts".into(), ordinal: 0 }).unwrap();
    let problem = Problem { name: "p".into(), source: "made".into(), text: "1 + 1".into() };
    let subject = recording.put(run, &problem).unwrap();
    let policy =
        Checkpoint { label: "base".into(), config: Digest::of(b"c"), manifest: Digest::of(b"m"), n_params: 1, step: 0 };
    let policy = recording.put(run, &policy).unwrap();
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 9, stop: vec![], template: String::new() };
    let sampling = recording.put(run, &sampling).unwrap().digest().unwrap();
    let definition = soft();
    let scorer = recording.put(run, &definition.program()).unwrap();
    for (item, prompt) in (0..).zip(prompts) {
        for (k, hits) in (0..).zip(*prompt) {
            let row = RowKey::new(run, "rollouts", item, k);
            let sample = Sample {
                subject,
                policy,
                sampling,
                seed: 0,
                text: "2".into(),
                n_tokens: 1,
                sum_logprob: None,
                finish: Finish::Stop,
            };
            recording.put_sample(row, &sample).unwrap();
            let tallies: Vec<Tally> = hits.iter().map(|hits| Tally { hits: *hits, of: 16 }).collect();
            recording.put_reward(row, &definition.reward(scorer, &tallies).unwrap()).unwrap();
        }
    }
    store.commit(&recording, Durability::Os).unwrap();
    run
}

fn soft() -> Definition {
    Definition::new(Estimator::Soft).with("grader", "mod 10").with("n_completions", "16")
}

fn ask(run: RunId, estimator: &str) -> Relabel {
    Relabel { run, estimator: estimator.parse().unwrap(), from: None, dry_run: false }
}

/// By mean the first prompt is won by its first trajectory when labels are soft, and by its second at η = −5.
const PROMPTS: &[&[&[u32]]] = &[&[&[8, 8], &[2, 13]], &[&[0, 16], &[16, 16]], &[&[4, 4]]];

#[test]
fn new_labels_are_those_of_the_counts_and_lead_to_the_old_ones() {
    let store = Store::memory().unwrap();
    let run = recorded(&store, PROMPTS);
    let before = store.record_digest(run).unwrap();
    let done = ask(run, "er:-5").run(&store).unwrap();
    assert_eq!(store.record_digest(run).unwrap(), before, "the old run stays as it is");
    assert_eq!((done.n_trajectories, done.labels.n, done.labels.n_changed, done.n_inexact), (5, 10, 6, 0));
    assert!(done.labels.mean < 0.0 && done.labels.greatest > 0.3);
    let changed: Vec<(u64, u64)> = done.winners.iter().map(|winners| (winners.n_prompts, winners.n_changed)).collect();
    assert_eq!(changed, [(2, 0), (2, 0), (2, 1), (2, 0)], "min and last cannot change");
    let new = done.run.unwrap();
    let rows: Vec<(NodeId, Reward)> = store.rewards(new, None).collect::<tracker_store::Result<_>>().unwrap();
    assert_eq!(rows.len(), 5);
    for (node, reward) in &rows {
        let expected = reward.tallies.iter().map(|tally| Estimator::Entropic(-5.0).label(*tally).unwrap());
        assert_eq!(reward.values, expected.collect::<Vec<_>>());
        assert_eq!(reward.scorer, done.definition);
        let graph = store.walk(*node, &Walk::new(Toward::Ancestors)).unwrap();
        assert!(graph.edges.iter().any(|edge| edge.to.kind() == Kind::Reward && edge.to.owner() == Some(run)));
        assert!(graph.edges.iter().any(|edge| edge.to.kind() == Kind::Sample && edge.to.owner() == Some(run)));
    }
    let program: Program = store.content(done.definition.digest().unwrap()).unwrap();
    assert_eq!(Definition::of(&program).unwrap(), Some(soft().under(Estimator::Entropic(-5.0))));
    let selections: Vec<(NodeId, Selection)> =
        store.selections(new, None).collect::<tracker_store::Result<_>>().unwrap();
    let [(_, selection)] = selections.as_slice() else { panic!("{selections:?}") };
    assert_eq!(selection.rule, "best of 2 by mean of er:-5");
    assert_eq!(selection.winner(), Some(NodeId::sample(RowKey::new(run, "rollouts", 0, 1))));
    assert_eq!(store.run(new).unwrap().status, Status::Finished);
    let share: Vec<f64> = store.figures(new, None).map(|row| row.unwrap().1.value).collect();
    assert_eq!(share, [0.6, 0.0, 0.0, 0.5, 0.0]);
}

#[test]
fn equal_requests_have_equal_digests_and_labels_can_be_made_of_labels() {
    let store = Store::memory().unwrap();
    let run = recorded(&store, PROMPTS);
    let digest = |run: Option<RunId>| store.run(run.unwrap()).unwrap().record_digest.unwrap();
    let once = ask(run, "er:5").run(&store).unwrap();
    let again = ask(run, "er:5").run(&store).unwrap();
    assert_eq!(digest(once.run), digest(again.run));
    assert_ne!(digest(once.run), digest(ask(run, "er:4").run(&store).unwrap().run));
    // η = 0 is soft: back where it began, and winners are recorded with the samples of the first run.
    let far = ask(run, "er:-5").run(&store).unwrap();
    let back = ask(far.run.unwrap(), "er:0").run(&store).unwrap();
    let values = |run: RunId| -> Vec<Vec<f64>> { store.rewards(run, None).map(|row| row.unwrap().1.values).collect() };
    assert_eq!(values(back.run.unwrap()), values(run));
    assert_eq!(back.winners[2].n_changed, 1);
    let (_, selection) = store.selections(back.run.unwrap(), None).next().unwrap().unwrap();
    assert_eq!(selection.winner(), Some(NodeId::sample(RowKey::new(run, "rollouts", 0, 0))));
}

#[test]
fn a_dry_run_records_nothing() {
    let store = Store::memory().unwrap();
    let run = recorded(&store, PROMPTS);
    let dry = Relabel { dry_run: true, ..ask(run, "er:-5") }.run(&store).unwrap();
    assert_eq!((dry.run, store.runs().count()), (None, 1));
    let wet = ask(run, "er:-5").run(&store).unwrap();
    assert_eq!((dry.labels, dry.winners, dry.definition), (wet.labels, wet.winners, wet.definition));
}

#[test]
fn what_cannot_be_relabelled_is_said() {
    let store = Store::memory().unwrap();
    let run = recorded(&store, PROMPTS);
    let says = |ask: &Relabel| {
        let error = ask.run(&store).unwrap_err();
        assert!(error.is_input(), "{error}");
        format!("{error} {}", error.hint().unwrap_or_default())
    };
    assert!(says(&ask(run, "soft")).contains("the labels are soft already"));
    assert!(says(&ask(run, "orm")).contains("expected hard, soft or er"));
    assert!(
        says(&Relabel { from: Some("hard".into()), ..ask(run, "er:1") })
            .contains("no step labels called `hard` it has soft")
    );
    // A second set of labels, without counts.
    let mut recording = Recording::new();
    let hard = soft().under(Estimator::Hard).program();
    let scorer = recording.put(run, &hard).unwrap();
    let reward = Reward { scorer, kind: Definition::KIND.into(), values: vec![1.0, 0.5], tallies: vec![] };
    recording.put_reward(RowKey::new(run, "rollouts", 0, 0), &reward).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    assert!(says(&ask(run, "er:1")).contains("has 2 sets of step labels say `--from` which"));
    assert!(says(&Relabel { from: Some("hard".into()), ..ask(run, "er:1") }).contains("without the counts"));
    let failed = store.runs().next().unwrap().unwrap();
    assert_eq!(failed.status, Status::Failed);
    let by_node = Relabel { from: Some(soft().program().node().unwrap().to_string()), ..ask(run, "er:1") };
    assert_eq!(by_node.run(&store).unwrap().from, "soft");
    let empty = recorded(&store, &[]);
    assert!(says(&ask(empty, "er:1")).contains("defines step labels and has none"));
}

#[test]
fn labels_that_their_definition_does_not_make_are_counted() {
    let store = Store::memory().unwrap();
    let run = recorded(&store, &[]);
    let mut recording = Recording::new();
    let scorer = soft().program().node().unwrap();
    let tallies = vec![Tally { hits: 5, of: 16 }, Tally { hits: 4, of: 16 }];
    let rounded = Reward { scorer, kind: Definition::KIND.into(), values: vec![0.313, 0.25], tallies };
    recording.put_reward(RowKey::new(run, "rollouts", 0, 0), &rounded).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(ask(run, "hard").run(&store).unwrap().n_inexact, 1);
}
