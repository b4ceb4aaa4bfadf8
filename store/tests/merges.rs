//! Recipes and fronts are contents with a lineage, virtual checkpoints cost a recipe, and fronts keep what they rest on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use scene::{Scene, checkpoint, new_run};
use tracker_store::{
    Checkpoint, Collect, Content, Digest, Durability, Edge, Error, Front, FrontPoint, Goal, Group, Kind, NodeId,
    Objective, Recipe, RecipeWeight, Recording, Relation, Store, Toward, Version, Walk, Weights,
};

fn recipe(parents: &[NodeId], weight: f64) -> Recipe {
    let share = weight / parents.len() as f64;
    Recipe {
        text: format!("merge_method: linear # {weight}\n"),
        method: "linear".to_owned(),
        weights: parents
            .iter()
            .map(|parent| RecipeWeight { parent: parent.digest().unwrap(), block: String::new(), weight: share })
            .collect(),
        parents: parents.to_vec(),
        others: "from the first parent".to_owned(),
        seed: 0,
    }
}

fn front(points: &[(NodeId, [f64; 2])]) -> Front {
    let objective = |name: &str, goal| Objective { name: name.to_owned(), goal };
    Front {
        name: "reward against tax".to_owned(),
        objectives: vec![objective("reward", Goal::Maximize), objective("loss", Goal::Minimize)],
        epsilon: Vec::new(),
        points: points
            .iter()
            .map(|(node, values)| FrontPoint {
                node: *node,
                values: values.to_vec(),
                rank: 0,
                crowding: f64::INFINITY,
                is_pareto: true,
            })
            .collect(),
        reference: vec![0.0, 10.0],
        hypervolume: Some(1.5),
    }
}

fn nodes(store: &Store, start: NodeId, toward: Toward) -> Vec<NodeId> {
    store.walk(start, &Walk::new(toward)).unwrap().nodes.into_iter().map(|node| node.id).collect()
}

/// A checkpoint with files of its own, recorded.
fn trained(scene: &Scene, label: &str) -> (NodeId, Version) {
    let mut draft = scene.store.draft("model").unwrap();
    draft.add("model.bin", &mut label.repeat(10_000).as_bytes()).unwrap();
    let version = draft.save(label, &[], Some(scene.run)).unwrap();
    let mut recording = Recording::new();
    let checkpoint = Checkpoint { manifest: version.manifest, ..checkpoint(label) };
    let node = recording.put(scene.run, &checkpoint).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    (node, version)
}

#[test]
fn lineage_walks_from_a_front_to_the_parents_of_its_points_and_back() {
    let scene = Scene::new();
    let (pre, post) = (trained(&scene, "pre").0, trained(&scene, "post").0);
    let mut recording = Recording::new();
    let recipe = recipe(&[pre, post], 0.5);
    let merged = recording.put_virtual(scene.run, &checkpoint("merged"), &recipe).unwrap();
    let front = recording.put(scene.run, &front(&[(merged, [1.0, 2.0]), (post, [2.0, 3.0])])).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let ups = nodes(&scene.store, front, Toward::Ancestors);
    let recipe = recipe.node().unwrap();
    for node in [merged, post, recipe, pre] {
        assert!(ups.contains(&node), "{node}");
    }
    for node in [pre, post, merged, recipe] {
        assert!(nodes(&scene.store, node, Toward::Descendants).contains(&front), "{node}");
    }
    assert_eq!(scene.store.resolve("front:reward against tax").unwrap(), front);
    let label = scene.store.walk(front, &Walk::new(Toward::Ancestors)).unwrap().nodes[0].label.clone();
    assert_eq!(label, "reward against tax (2 points)");
}

#[test]
fn a_hundred_virtual_checkpoints_cost_less_than_a_megabyte() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::over(Store::create(&dir.path().join("store")).unwrap());
    let parents = [trained(&scene, "pre").0, trained(&scene, "post").0];
    let mut recording = Recording::new();
    for nth in 0..100 {
        recording.put_virtual(scene.run, &checkpoint(&format!("{nth}")), &recipe(&parents, f64::from(nth))).unwrap();
    }
    assert!(recording.n_bytes() < 1_000_000, "{}", recording.n_bytes());
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.contents_of::<Recipe>(scene.run).unwrap().len(), 100);
}

#[test]
fn files_of_a_virtual_checkpoint_are_checked_once_they_are_known() {
    let scene = Scene::new();
    let (pre, version) = trained(&scene, "pre");
    assert_eq!(scene.store.weights(pre).unwrap(), Weights::Files(version.manifest));
    scene.store.check_files(pre, version.manifest).unwrap();
    let other = Digest::of(b"other");
    assert!(matches!(scene.store.check_files(pre, other), Err(Error::Conflict { .. })));
    assert!(scene.store.weights(scene.statement).is_err());

    let mut recording = Recording::new();
    let recipe = recipe(&[pre], 0.5);
    let merged = recording.put_virtual(scene.run, &checkpoint("merged"), &recipe).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    let known = |files| Weights::Virtual { recipe: Box::new(recipe.clone()), files };
    assert_eq!(scene.store.weights(merged).unwrap(), known(Vec::new()));
    scene.store.check_files(merged, other).unwrap();
    // It is written out: from now on its digest is known.
    let mut recording = Recording::new();
    let artifact = NodeId::content(Kind::Artifact, version.manifest).unwrap();
    recording.put_edge(scene.run, &Edge::new(artifact, Relation::GeneratedBy, merged)).unwrap();
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.weights(merged).unwrap(), known(vec![version.manifest]));
    scene.store.check_files(merged, version.manifest).unwrap();
    let error = scene.store.check_files(merged, other).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
}

#[test]
fn what_does_not_agree_is_refused() {
    let node = scene::checkpoint("a").node().unwrap();
    let run = tracker_store::RunId::fresh();
    let refused = |front: Front| assert!(Recording::new().put(run, &front).is_err(), "{front:?}");
    let good = || front(&[(node, [1.0, 2.0])]);
    Recording::new().put(run, &good()).unwrap();
    refused(Front { objectives: Vec::new(), ..good() });
    refused(front(&[(node, [f64::NAN, 2.0])]));
    refused(Front { epsilon: vec![0.1], ..good() });
    refused(Front { epsilon: vec![0.1, -0.1], ..good() });
    refused(Front { reference: Vec::new(), ..good() });
    refused(Front { hypervolume: Some(f64::NAN), ..good() });
    refused(Front { hypervolume: None, ..good() });
    refused(front(&[(recipe(&[node], 1.0).node().unwrap(), [1.0, 2.0])]));
    let mut short = good();
    short.points[0].values.pop();
    refused(short);

    let refused = |recipe: Recipe| assert!(Recording::new().put(run, &recipe).is_err(), "{recipe:?}");
    Recording::new().put(run, &recipe(&[node], 1.0)).unwrap();
    refused(Recipe { parents: Vec::new(), ..recipe(&[node], 1.0) });
    refused(Recipe { parents: vec![NodeId::run(run)], weights: Vec::new(), ..recipe(&[node], 1.0) });
    refused(recipe(&[node], f64::INFINITY));
    let stranger = RecipeWeight { parent: Digest::of(b"stranger"), block: String::new(), weight: 1.0 };
    refused(Recipe { weights: vec![stranger], ..recipe(&[node], 1.0) });
}

#[test]
fn a_front_keeps_its_points_and_what_they_came_from_unless_forced() {
    let scene = Scene::new();
    let store = &scene.store;
    let (pre, pre_files) = trained(&scene, "pre");
    let (post, post_files) = trained(&scene, "post");
    let (_, stray_files) = trained(&scene, "stray");
    let mut recording = Recording::new();
    recording.put_edge(scene.run, &Edge::new(post, Relation::DerivedFrom, pre)).unwrap();
    let merged = recording.put_virtual(scene.run, &checkpoint("merged"), &recipe(&[post], 0.5)).unwrap();
    let front = recording.put(scene.run, &front(&[(merged, [1.0, 2.0])])).unwrap();
    store.commit(&recording, Durability::Os).unwrap();

    for files in [&pre_files, &post_files] {
        let error = store.remove_version(files, false).unwrap_err();
        assert!(
            matches!(&error, Error::Conflict { .. }) && error.to_string().contains(&front.to_string()[..12]),
            "{error}"
        );
        assert_eq!(store.front_that_needs(files).unwrap(), Some(front));
    }
    store.remove_version(&stray_files, false).unwrap();
    assert!(matches!(store.remove_version(&stray_files, false), Err(Error::NotFound { .. })));
    store.remove_version(&pre_files, true).unwrap();
    store.collect(&Collect::default()).unwrap();
    let digest = store.manifest(&post_files).unwrap().files[0].digest;
    assert_eq!(store.read_file(digest).unwrap(), "post".repeat(10_000).as_bytes());
    assert_eq!(store.usage(Group::Artifact).unwrap().shares.len(), 1);
    // The same content under another name is enough.
    let mut draft = store.draft("model").unwrap();
    draft.add("model.bin", &mut "post".repeat(10_000).as_bytes()).unwrap();
    draft.save("copy", &[], None).unwrap();
    store.remove_version(&post_files, false).unwrap();
}

#[test]
fn a_front_over_runs_keeps_what_those_made_and_names_them() {
    let scene = Scene::new();
    let (_, files) = trained(&scene, "made");
    let other = scene.store.create_run(&new_run("other")).unwrap().id;
    let mut recording = Recording::new();
    let mine = recording.put(other, &front(&[(NodeId::run(scene.run), [1.0, 2.0])])).unwrap();
    let others = recording.put(other, &front(&[(NodeId::run(other), [1.0, 2.0])])).unwrap();
    assert_ne!(mine, others, "equal values of other runs are another front");
    scene.store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(scene.store.front_that_needs(&files).unwrap(), Some(mine));
}
