//! Groups, kin and links: what is said of rows that agree in something, that come from one node, or that lead to another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::collections::BTreeMap;

use proptest::prelude::*;
use scene::{Scene, sample};
use tracker_store::{
    Durability, Edge, Error, Grouping, NodeId, Program, Query, Recording, Relation, Reward, Selection, Table, Toward,
    Value,
};

/// Samples with a reward each; `values[item][k]`.
fn rewarded(scene: &Scene, values: &[Vec<f64>]) -> NodeId {
    let mut recording = Recording::new();
    let grader = Program { name: "grader".into(), version: "1".into(), settings: String::new() };
    let scorer = recording.put(scene.run, &grader).unwrap();
    for (item, values) in (0..).zip(values) {
        for (k, value) in (0..).zip(values) {
            recording.put_sample(scene.row(item, k), &sample(scene, item, k)).unwrap();
            let reward = Reward { scorer, kind: "outcome".into(), values: vec![*value], tallies: vec![] };
            recording.put_reward(scene.row(item, k), &reward).unwrap();
        }
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
    scorer
}

fn groups(scene: &Scene, table: Table, filter: &str, grouping: &Grouping) -> Vec<BTreeMap<String, Value>> {
    let query = Query::new(table).filter(filter).unwrap();
    let (groups, n) = scene.store.groups(&query, grouping).unwrap();
    assert_eq!(groups.len(), n);
    groups.into_iter().map(|group| group.columns.into_iter().collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn summaries_are_what_rows_by_hand_give(
        values in prop::collection::vec(prop::collection::vec((-4..5).prop_map(f64::from), 1..5), 1..6), bound in -4.0..4.0_f64,
    ) {
        let scene = Scene::new();
        rewarded(&scene, &values);
        let grouping = Grouping::new("item", "count, distinct(value), sum(value), mean(value), min(value), max(value)").unwrap();
        let found = groups(&scene, Table::Rewards, &format!("value >= {bound}"), &grouping);
        let kept = |values: &Vec<f64>| values.iter().copied().filter(|value| *value >= bound).collect::<Vec<f64>>();
        let expected: Vec<(usize, Vec<f64>)> =
            values.iter().map(kept).enumerate().filter(|(_, values)| !values.is_empty()).collect();
        prop_assert_eq!(found.len(), expected.len());
        for (group, (item, values)) in found.iter().zip(&expected) {
            let number = |column: &str| group[column].number().unwrap();
            let mut distinct = values.clone();
            distinct.sort_by(f64::total_cmp);
            distinct.dedup();
            let sum: f64 = values.iter().sum();
            prop_assert_eq!(number("item"), *item as f64);
            prop_assert_eq!(number("count"), values.len() as f64);
            prop_assert_eq!(number("distinct(value)"), distinct.len() as f64);
            prop_assert_eq!(number("sum(value)"), sum);
            prop_assert_eq!(number("mean(value)"), sum / values.len() as f64);
            prop_assert_eq!((number("min(value)"), number("max(value)")), (distinct[0], distinct[distinct.len() - 1]));
        }
        // All rows are one group for no field, and none if there are no rows.
        let whole = groups(&scene, Table::Rewards, "", &Grouping::new("", "count").unwrap());
        prop_assert_eq!(whole[0]["count"].number().unwrap() as usize, values.iter().map(Vec::len).sum::<usize>());
        prop_assert!(groups(&scene, Table::Rewards, "value > 9", &Grouping::new("", "count").unwrap()).is_empty());
    }
}

#[test]
fn groups_are_kept_and_ordered_by_their_own_columns() {
    let scene = Scene::new();
    rewarded(&scene, &[vec![1.0, 1.0], vec![0.0, 1.0], vec![5.0]]);
    let grouping = Grouping::new("item", "count, mean(value)").unwrap();
    let ask = |grouping: Grouping| -> Vec<f64> {
        let found = groups(&scene, Table::Rewards, "", &grouping);
        found.iter().map(|group| group["item"].number().unwrap()).collect()
    };
    assert_eq!(ask(grouping.clone().having("count > 1").unwrap()), [0.0, 1.0]);
    assert_eq!(ask(grouping.clone().having("\"mean(value)\" >= 1 AND NOT item = 0").unwrap()), [2.0]);
    assert_eq!(ask(grouping.clone().order_by("\"mean(value)\" DESC").unwrap()), [2.0, 0.0, 1.0]);
    let query = Query::new(Table::Rewards).limit(1);
    let (first, n) = scene.store.groups(&query, &grouping.order_by("\"mean(value)\"").unwrap()).unwrap();
    assert_eq!((first[0].get("item"), n), (Some(&Value::Int(1)), 3));
    for wrong in ["median(value)", "count(value)", "mean", "mean(value", "", "mean(value) x"] {
        assert!(matches!(Grouping::new("item", wrong), Err(Error::Syntax { .. })), "{wrong}");
    }
    for (by, show, having) in
        [("nothing", "count", "count > 0"), ("item", "sum(nothing)", "count > 0"), ("item", "sum(k)", "k > 0")]
    {
        let grouping = Grouping::new(by, show).unwrap().having(having).unwrap();
        let found = scene.store.groups(&Query::new(Table::Rewards), &grouping);
        assert!(matches!(found, Err(Error::Syntax { .. })), "{by}, {show}, {having}");
    }
}

#[test]
fn a_column_that_names_a_node_has_that_nodes_columns() {
    let scene = Scene::new();
    let scorer = rewarded(&scene, &[vec![1.0, 2.0]]);
    let mut recording = Recording::new();
    let selection = Selection {
        candidates: [0, 1].map(|k| NodeId::sample(scene.row(0, k))).to_vec(),
        scores: vec![1.0, 2.0],
        rule: "best".into(),
        ties: "first".into(),
        chosen: 1,
        scorer: Some(scorer),
    };
    recording.put_selection(scene.row(0, 0), &selection).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let one = |table, filter: &str, column: &str| -> Vec<Value> {
        let query = Query::new(table).filter(filter).unwrap().column(column).unwrap();
        let rows = scene.store.query(&query).unwrap().rows;
        rows.iter().map(|row| row.get(column).unwrap().clone()).collect()
    };
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(one(Table::Selections, "", "scorer.name"), [text("grader")]);
    assert_eq!(one(Table::Selections, "scorer.name = 'grader'", "winner.text"), [text(&sample(&scene, 0, 1).text)]);
    // Over two nodes; and none where the node has no such column.
    assert_eq!(one(Table::Selections, "winner.policy.label = 'base'", "winner.subject.style").len(), 1);
    assert_eq!(one(Table::Rewards, "sample.policy.label = 'base'", "scorer.label"), [Value::Null, Value::Null]);
    assert!(one(Table::Selections, "winner.policy.label = 'other'", "winner.text").is_empty());
    let only = Query::new(Table::Selections).filter("k = 0").unwrap().order_by("item").unwrap();
    let rows = scene.store.query(&only.columns("rule, winner.text").unwrap()).unwrap().rows;
    let names: Vec<&str> = rows[0].columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["rule", "winner.text"]);
    for wrong in ["winner.nothing", "rule.text", "scorer.name.text"] {
        let query = Query::new(Table::Selections).column(wrong).unwrap();
        assert!(matches!(scene.store.query(&query), Err(Error::Syntax { .. })), "{wrong}");
    }
}

#[test]
fn kin_are_what_a_walk_finds_and_of_several_nodes_what_all_have() {
    let scene = Scene::new();
    let scorer = rewarded(&scene, &[vec![1.0, 0.0], vec![1.0]]);
    let mut recording = Recording::new();
    let other =
        recording.put(scene.run, &Program { name: "other".into(), version: "1".into(), settings: "x".into() }).unwrap();
    recording.put_edge(scene.run, &Edge::new(scorer, Relation::Used, other)).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let ask =
        |query: Query| -> Vec<NodeId> { scene.store.query(&query).unwrap().rows.iter().map(|row| row.id).collect() };
    let rewards = || Query::new(Table::Rewards);
    let all = ask(rewards());
    assert_eq!(all.len(), 3);
    assert_eq!(ask(rewards().kin_of(other, Toward::Descendants)), all, "over two edges");
    assert_eq!(ask(rewards().kin_of(other, Toward::Descendants).filter("value > 0").unwrap()).len(), 2);
    let sample = NodeId::sample(scene.row(0, 1));
    let both = rewards().kin_of(other, Toward::Descendants).kin_of(sample, Toward::Descendants);
    assert_eq!(ask(both.clone()), [all[1]]);
    assert_eq!(ask(both.of_run(scene.run)), [all[1]]);
    assert!(ask(rewards().kin_of(other, Toward::Ancestors)).is_empty());
    let programs = Query::new(Table::Programs).kin_of(all[0], Toward::Ancestors);
    let mut expected = vec![scorer, other];
    expected.sort_unstable();
    assert_eq!(ask(programs.clone()), expected);
    assert_eq!(ask(programs.clone().of_run(scene.run)), expected);
    // Pages join as they do without kin.
    let first = scene.store.query(&programs.clone().limit(1)).unwrap();
    let rest = scene.store.query(&programs.after(first.next.unwrap())).unwrap();
    assert_eq!([first.rows[0].id, rest.rows[0].id].to_vec(), expected);
}
