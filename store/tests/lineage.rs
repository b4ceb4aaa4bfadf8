//! From a proof to everything behind it, and from anything to everything that rests on it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::collections::BTreeSet;

use scene::{Scene, checkpoint, new_run, sample, stage, statement, verdict};
use tracker_store::{
    Checkpoint, Dataset, Digest, Durability, Edge, Error, Figure, Graph, Kind, NodeId, Outcome, Recording, Relation,
    RowKey, Toward, Walk,
};

/// A chain of two rounds: a base model proves, its proof is a dataset, the next model is trained on it and proves again.
struct Chain {
    scene: Scene,
    first_proof: NodeId,
    dataset: NodeId,
    trained: NodeId,
    second_proof: NodeId,
    figure: NodeId,
}

impl Chain {
    fn new() -> Self {
        Self::over(Scene::new())
    }

    fn over(scene: Scene) -> Self {
        scene.sample_and_verdict(0, 0, Outcome::Proved);
        scene.sample_and_verdict(0, 1, Outcome::Failed);
        let first_proof = NodeId::verdict(scene.row(0, 0), verdict(&scene, Outcome::Proved).slot());
        let mut recording = Recording::new();
        let data = Dataset {
            name: "solved".to_owned(),
            purpose: "train".to_owned(),
            n_rows: 1,
            content: Digest::of(b"rows"),
            rows: None,
        };
        let dataset = recording.put(scene.run, &data).unwrap();
        recording.put_edge(scene.run, &Edge::new(dataset, Relation::Includes, first_proof)).unwrap();
        let trained = recording.put(scene.run, &checkpoint("round 1")).unwrap();
        recording.put_edge(scene.run, &Edge::new(trained, Relation::TrainedOn, dataset)).unwrap();
        recording.put_edge(scene.run, &Edge::new(trained, Relation::DerivedFrom, scene.policy)).unwrap();
        let row = scene.row(1, 0);
        let mut second = sample(&scene, 1, 0);
        second.policy = trained;
        recording.put_sample(row, &second).unwrap();
        let second_proof = recording.put_verdict(row, &verdict(&scene, Outcome::Proved)).unwrap();
        let figure = recording.put_figure(scene.row(9, 0), &figure()).unwrap();
        recording.put_edge(scene.run, &Edge::new(figure, Relation::Used, second_proof)).unwrap();
        scene.store.commit(&recording, Durability::Os).unwrap();
        Self { scene, first_proof, dataset, trained, second_proof, figure }
    }

    fn walk(&self, start: NodeId, walk: &Walk) -> Graph {
        self.scene.store.walk(start, walk).unwrap()
    }
}

fn figure() -> Figure {
    Figure {
        name: "pass@1".to_owned(),
        value: 0.5,
        low: None,
        high: None,
        n: 2,
        unit: String::new(),
        split: String::new(),
    }
}

fn ids(graph: &Graph) -> BTreeSet<NodeId> {
    graph.nodes.iter().map(|node| node.id).collect()
}

#[test]
fn a_proof_leads_up_to_everything_behind_it() {
    let chain = Chain::new();
    let graph = chain.walk(chain.second_proof, &Walk::new(Toward::Ancestors));
    let scene = &chain.scene;
    let expected = BTreeSet::from([
        chain.second_proof,
        NodeId::sample(scene.row(1, 0)),
        NodeId::content(Kind::Verifier, scene.verifier).unwrap(),
        scene.statement,
        scene.problem,
        chain.trained,
        chain.dataset,
        chain.first_proof,
        NodeId::sample(scene.row(0, 0)),
        scene.policy,
    ]);
    assert_eq!(ids(&graph), expected);
    assert!(!graph.truncated);
    let relations: BTreeSet<Relation> = graph.edges.iter().map(|edge| edge.relation).collect();
    assert!(relations.contains(&Relation::TrainedOn) && relations.contains(&Relation::Includes));
}

#[test]
fn an_unsound_verifier_taints_what_was_trained_and_measured_with_it() {
    let chain = Chain::new();
    let verifier = NodeId::content(Kind::Verifier, chain.scene.verifier).unwrap();
    let mut walk = Walk::new(Toward::Descendants);
    walk.kinds = BTreeSet::from([Kind::Checkpoint, Kind::Figure]);
    let graph = chain.walk(verifier, &walk);
    assert_eq!(ids(&graph), BTreeSet::from([verifier, chain.trained, chain.figure]));
    let bridged = graph.edges.iter().find(|edge| edge.from == chain.trained && edge.to == verifier).unwrap();
    assert_eq!((bridged.relation, bridged.through), (Relation::TrainedOn, 2), "{graph:#?}");
}

#[test]
fn both_directions_see_the_same_edges() {
    let chain = Chain::new();
    let up = chain.walk(chain.figure, &Walk::new(Toward::Ancestors));
    for edge in &up.edges {
        let mut one = Walk::new(Toward::Descendants);
        one.depth = 1;
        let down = chain.walk(edge.to, &one);
        assert!(
            down.edges
                .iter()
                .any(|other| (other.from, other.relation, other.order) == (edge.from, edge.relation, edge.order)),
            "{edge:?} is not seen from below"
        );
    }
}

#[test]
fn depth_and_limit_bound_a_walk() {
    let chain = Chain::new();
    let mut walk = Walk::new(Toward::Ancestors);
    walk.depth = 1;
    let graph = chain.walk(chain.second_proof, &walk);
    assert_eq!(graph.nodes.len(), 3, "itself, its sample, its verifier");
    assert!(graph.nodes.iter().all(|node| node.depth <= 1) && !graph.truncated);
    walk.depth = u32::MAX;
    walk.limit = 4;
    let graph = chain.walk(chain.second_proof, &walk);
    assert!(graph.truncated && graph.nodes.len() == 4);
}

#[test]
fn a_replay_does_not_double_a_lineage() {
    let chain = Chain::new();
    let before = chain.walk(chain.second_proof, &Walk::new(Toward::Ancestors));
    let replay = Chain::over(Scene::over(chain.scene.store.clone()));
    assert_eq!(replay.dataset, chain.dataset, "the contents are the same nodes");
    let after = chain.walk(chain.second_proof, &Walk::new(Toward::Ancestors));
    assert_eq!(before, after);
    let runs: BTreeSet<_> = replay
        .walk(replay.second_proof, &Walk::new(Toward::Ancestors))
        .nodes
        .iter()
        .filter_map(|node| node.id.owner())
        .collect();
    assert_eq!(runs, BTreeSet::from([replay.scene.run]));
    let all = chain.walk(chain.dataset, &Walk::new(Toward::Ancestors));
    assert!(ids(&all).contains(&chain.first_proof) && ids(&all).contains(&replay.first_proof), "no run is preferred");
}

#[test]
fn a_merge_keeps_the_weight_of_each_block_and_the_order_of_parents() {
    let scene = Scene::new();
    let mut recording = Recording::new();
    let other = recording.put(scene.run, &checkpoint("other")).unwrap();
    let merged = recording.put(scene.run, &checkpoint("merged")).unwrap();
    for (order, (parent, weight, block)) in
        [(other, 0.25, "low"), (scene.policy, 0.75, "low"), (other, 0.5, "high")].into_iter().enumerate()
    {
        let edge = Edge::new(merged, Relation::DerivedFrom, parent).at(order as u32).weighted(weight, block);
        recording.put_edge(scene.run, &edge).unwrap();
    }
    scene.store.commit(&recording, Durability::Os).unwrap();
    let say = |graph: &Graph| -> Vec<(u32, NodeId, Option<f64>, String)> {
        let mut edges: Vec<_> =
            graph.edges.iter().map(|edge| (edge.order, edge.to, edge.weight, edge.block.clone())).collect();
        edges.sort_by_key(|edge| edge.0);
        edges
    };
    let mut walk = Walk::new(Toward::Ancestors);
    walk.depth = 1;
    let up = scene.store.walk(merged, &walk).unwrap();
    let expected = [
        (0, other, Some(0.25), "low".to_owned()),
        (1, scene.policy, Some(0.75), "low".to_owned()),
        (2, other, Some(0.5), "high".to_owned()),
    ];
    assert_eq!(say(&up), expected);
    walk.toward = Toward::Descendants;
    assert_eq!(say(&scene.store.walk(other, &walk).unwrap()), [expected[0].clone(), expected[2].clone()]);
}

#[test]
fn a_graph_reads_as_tree_dot_mermaid_and_json() {
    let scene = Scene::new();
    let mut nasty = statement(scene.problem.digest().unwrap(), scene.policy, "p");
    nasty.name = "quo\"te <b> [x] \\ end".to_owned();
    let mut recording = Recording::new();
    let node = recording.put(scene.run, &nasty).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let graph = scene.store.walk(node, &Walk::new(Toward::Ancestors)).unwrap();
    let short = |node: NodeId| node.digest().unwrap().short();
    assert_eq!(
        graph.to_tree(),
        format!(
            "statement quo\"te <b> [x] \\ end [{}]\n├─ derived_from problem p1 [{}]\n└─ written_by checkpoint base [{}]\n",
            short(node),
            short(scene.problem),
            short(scene.policy)
        )
    );
    assert!(graph.to_dot().contains("n0 [label=\"statement\\nquo\\\"te <b> [x] \\\\ end\"];"), "{}", graph.to_dot());
    assert!(graph.to_dot().contains("n0 -> n1 [label=\"derived_from\"];"));
    assert!(
        graph.to_mermaid().contains("n0[\"statement: quo#34;te #60;b#62; #91;x#93; #92; end\"]"),
        "{}",
        graph.to_mermaid()
    );
    let json = serde_json::to_value(&graph).unwrap();
    assert_eq!(json["nodes"][0]["id"], node.to_string());
    assert_eq!(json["nodes"][0]["kind"], "statement");
    assert_eq!(json["edges"][0]["relation"], "derived_from");
    assert_eq!(serde_json::from_value::<Graph>(json).unwrap(), graph);
}

#[test]
fn an_edge_from_a_row_of_another_run_is_refused() {
    let scene = Scene::new();
    let other = scene.store.create_run(&new_run("other")).unwrap().id;
    let mut recording = Recording::new();
    let row = NodeId::sample(RowKey::new(other, &stage().name, 0, 0));
    assert!(matches!(
        recording.put_edge(scene.run, &Edge::new(row, Relation::Used, scene.policy)),
        Err(Error::Invalid { .. })
    ));
    assert!(recording.put_edge(scene.run, &Edge::new(scene.policy, Relation::Used, scene.policy)).is_err());
    let nowhere = NodeId::content(Kind::Checkpoint, Digest::of(b"nowhere")).unwrap();
    let walk = Walk::new(Toward::Ancestors);
    assert!(matches!(scene.store.walk(nowhere, &walk), Err(Error::NotFound { what: "checkpoint", .. })));
}

#[test]
fn the_record_digest_is_that_of_what_was_recorded_not_of_when_or_in_what_order() {
    let chain = Chain::new();
    let store = chain.scene.store.clone();
    let digest = store.record_digest(chain.scene.run).unwrap();
    let replay = Chain::over(Scene::over(store.clone()));
    assert_ne!(replay.scene.run, chain.scene.run);
    assert_eq!(store.record_digest(replay.scene.run).unwrap(), digest, "another run of the plan has the same");

    let one_batch = Scene::over(store.clone());
    let mut recording = Recording::new();
    for (item, k, outcome) in [(0, 1, Outcome::Failed), (0, 0, Outcome::Proved)] {
        let mut dearer = verdict(&one_batch, outcome);
        dearer.cost.wall_micros += 1000;
        recording.put_verdict(one_batch.row(item, k), &dearer).unwrap();
        recording.put_sample(one_batch.row(item, k), &sample(&one_batch, item, k)).unwrap();
    }
    let two = Scene::over(store.clone());
    two.sample_and_verdict(0, 0, Outcome::Proved);
    let part = store.record_digest(two.run).unwrap();
    two.sample_and_verdict(0, 1, Outcome::Failed);
    store.commit(&recording, Durability::Os).unwrap();
    let whole = store.record_digest(one_batch.run).unwrap();
    assert_eq!(store.record_digest(two.run).unwrap(), whole);
    assert_ne!(part, whole);
    assert_ne!(whole, digest);
}

#[test]
fn every_recorded_thing_enters_the_record_digest() {
    let scene = Scene::new();
    let mut last = scene.store.record_digest(scene.run).unwrap();
    let mut step = |fill: &dyn Fn(&mut Recording)| {
        let mut recording = Recording::new();
        fill(&mut recording);
        scene.store.commit(&recording, Durability::Os).unwrap();
        let digest = scene.store.record_digest(scene.run).unwrap();
        assert_ne!(digest, last);
        last = digest;
    };
    let base: Checkpoint = scene.store.content(scene.policy.digest().unwrap()).unwrap();
    let later = Checkpoint { step: 7, ..base };
    let later_node = Recording::new().put(scene.run, &later).unwrap();
    step(&|recording| recording.put_param(scene.run, "lr", "0.1").unwrap());
    step(&|recording| {
        recording.put_sample(scene.row(0, 0), &sample(&scene, 0, 0)).unwrap();
    });
    step(&|recording| {
        recording.put_verdict(scene.row(0, 0), &verdict(&scene, Outcome::Sorry)).unwrap();
    });
    step(&|recording| {
        recording.put_figure(scene.row(0, 0), &figure()).unwrap();
    });
    step(&|recording| {
        recording.put(scene.run, &later).unwrap();
    });
    step(&|recording| {
        recording.put_edge(scene.run, &Edge::new(later_node, Relation::DerivedFrom, scene.policy)).unwrap();
    });
    step(&|recording| {
        let edge = Edge::new(NodeId::figure(scene.row(0, 0)), Relation::Used, later_node);
        recording.put_edge(scene.run, &edge).unwrap();
    });
    step(&|recording| {
        recording.put_edge(scene.run, &Edge::new(NodeId::run(scene.run), Relation::Used, scene.policy)).unwrap();
    });
}
