//! What weights are known to be, and runs that are recorded whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use std::path::Path;

use scene::{Scene, checkpoint, new_run};
use tracker_store::{
    Checkpoint, Digest, Durability, Error, Holder, Known, NodeId, Recipe, Recording, RunId, Status, Weights,
};

fn note(scene: &Scene, holder: Holder, weights: Digest) {
    let mut recording = Recording::new();
    recording.put_known(Known { holder, weights });
    assert!(!recording.is_empty());
    scene.store.commit(&recording, Durability::Os).unwrap();
}

#[test]
fn what_is_known_of_a_folder_goes_with_its_stamp() {
    let scene = Scene::new();
    let (stamp, other) = (Digest::of(b"stamp"), Digest::of(b"other"));
    let (weights, newer) = (Digest::of(b"weights"), Digest::of(b"newer"));
    let folder = |stamp| Holder::folder(Path::new("/models/a"), stamp);
    let known = |holder| scene.store.known_weights(holder).unwrap();
    assert_eq!(known(folder(stamp)), None);
    note(&scene, folder(stamp), weights);
    assert_eq!(known(folder(stamp)), Some(weights));
    assert_eq!(known(folder(other)), None, "the folder changed");
    assert_eq!(known(Holder::folder(Path::new("/models/b"), stamp)), None, "another folder");
    note(&scene, folder(other), newer);
    assert_eq!((known(folder(stamp)), known(folder(other))), (None, Some(newer)), "the last note counts");
}

#[test]
fn weights_lead_to_the_checkpoint_and_the_version_that_have_them() {
    let scene = Scene::new();
    let store = &scene.store;
    let mut draft = store.draft("model").unwrap();
    draft.add("model.bin", &mut &b"bytes"[..]).unwrap();
    let version = draft.save("policy", &[], None).unwrap();
    let elsewhere = Digest::of(b"elsewhere");
    let mut recording = Recording::new();
    let mut put =
        |label: &str, manifest| recording.put(scene.run, &Checkpoint { manifest, ..checkpoint(label) }).unwrap();
    let (here, there) = (put("here", version.manifest), put("there", elsewhere));
    let recipe = Recipe {
        text: "merge_method: linear\n".to_owned(),
        method: "linear".to_owned(),
        weights: Vec::new(),
        parents: vec![there],
        others: String::new(),
        seed: 0,
    };
    let merged = recording.put_virtual(scene.run, &checkpoint("merged"), &recipe).unwrap();
    store.commit(&recording, Durability::Os).unwrap();
    assert_eq!(store.weights(there).unwrap(), Weights::Elsewhere(elsewhere));
    assert_eq!(store.weights(here).unwrap(), Weights::Files(version.manifest));

    let weights = Digest::of(b"weights");
    assert_eq!(store.checkpoint_with_weights(elsewhere).unwrap(), Some(there));
    assert_eq!(store.checkpoint_with_weights(weights).unwrap(), None);
    assert_eq!(store.version_with_weights(weights).unwrap(), None);
    note(&scene, Holder::Content(version.manifest), weights);
    assert_eq!(store.checkpoint_with_weights(weights).unwrap(), Some(here));
    assert_eq!(store.version_with_weights(weights).unwrap(), Some(version.clone()));
    let made = Digest::of(b"made");
    note(&scene, Holder::Content(recipe_digest(&recipe)), made);
    assert_eq!(store.checkpoint_with_weights(made).unwrap(), Some(merged));

    // Files are those of weights elsewhere if they are known to have them, and not before.
    assert!(matches!(store.check_files(there, version.manifest), Err(Error::Conflict { .. })));
    note(&scene, Holder::Content(version.manifest), elsewhere);
    store.check_files(there, version.manifest).unwrap();
    // A version that is gone has nothing.
    store.remove_version(&version, true).unwrap();
    assert_eq!(store.version_with_weights(elsewhere).unwrap(), None);
}

fn recipe_digest(recipe: &Recipe) -> Digest {
    use tracker_store::Content as _;
    recipe.digest().unwrap()
}

#[test]
fn a_run_that_is_recorded_at_once_is_there_whole_or_not_at_all() {
    let scene = Scene::new();
    let store = &scene.store;
    let n_runs = || store.runs().count();
    let before = n_runs();
    let stranger = RunId::fresh();
    let refused = store.record_run(&new_run("merge"), |_| {
        let mut recording = Recording::new();
        recording.put(stranger, &checkpoint("of nobody"))?;
        Ok(recording)
    });
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    let refused = store.record_run(&new_run("merge"), |run| {
        let mut recording = Recording::new();
        recording.put_param(run, "", "no key")?;
        Ok(recording)
    });
    assert!(refused.is_err());
    assert_eq!(n_runs(), before);

    let mut node = None;
    let run = store.record_run(&new_run("merge"), |run| {
        let mut recording = Recording::new();
        node = Some(recording.put(run, &checkpoint("whole"))?);
        recording.put_param(run, "method", "linear")?;
        Ok(recording)
    });
    let run = run.unwrap();
    assert_eq!((run.status, n_runs()), (Status::Finished, before + 1));
    assert_eq!(store.run(run.id).unwrap(), run);
    assert_eq!(run.record_digest, Some(store.record_digest(run.id).unwrap()));
    assert_eq!(store.params(run.id).unwrap()["method"], "linear");
    let made: Vec<NodeId> =
        store.contents_of::<Checkpoint>(run.id).unwrap().into_iter().map(|(node, _)| node).collect();
    assert_eq!(made, [node.unwrap()]);
}
