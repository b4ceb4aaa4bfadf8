//! Recording a merge: its parents as checkpoints, its recipe, and the checkpoint it makes, in one batch.

use std::collections::BTreeMap;

use serde::Serialize;
use tracker_merge::{Folder, Merge, Merged, Share};
use tracker_store::{
    Checkpoint, Content as _, Digest, Durability, Edge, Holder, Kind, Known, NewRun, NodeId, Plan, Recipe,
    RecipeWeight, Recording, Relation, RunId, Store, Timestamp,
};

use crate::parents::{Source, is_settled, spelled};

/// The experiment that merges are runs of.
const EXPERIMENT: &str = "merge";

/// What is recorded of a merge.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// The checkpoint that was made.
    pub checkpoint: NodeId,
    /// The recipe that makes it.
    pub recipe: NodeId,
    /// The run that recorded it now; none if all of it was there.
    pub run: Option<RunId>,
}

/// A merge that was done.
pub struct Done<'a> {
    /// What people will call it.
    pub label: &'a str,
    /// The recipe as it was read.
    pub recipe: &'a tracker_merge::Recipe,
    /// The plan.
    pub merge: &'a Merge,
    /// What came of it.
    pub merged: &'a Merged,
    /// Where each model came from.
    pub sources: &'a BTreeMap<String, Source>,
    /// A moment before the models were opened.
    pub opened: Timestamp,
}

/// A parent: its node, and what of it is not recorded yet.
struct Parent {
    node: NodeId,
    new: Option<Checkpoint>,
    files: Option<Digest>,
}

impl Done<'_> {
    /// Records it, unless the same merge is recorded.
    pub fn record(&self, store: &Store) -> anyhow::Result<Recorded> {
        let mut notes = Vec::new();
        let mut parents = BTreeMap::new();
        for (name, folder) in self.merge.models() {
            let weights: Digest = self.merged.parents[name].parse()?;
            let source = &self.sources[name];
            let holder = source.holder(store, folder)?;
            let is_lasting = !matches!(holder, Holder::Folder { .. }) || is_settled(folder, self.opened);
            if is_lasting && store.known_weights(holder)? != Some(weights) {
                notes.push(Known { holder, weights });
            }
            parents.insert(name.to_owned(), parent(store, source, folder, weights)?);
        }
        let recipe = self.canonical(&parents);
        let output: Digest = self.merged.output.parse()?;
        let manifest = recipe.digest()?;
        notes.push(Known { holder: Holder::Content(manifest), weights: output });
        if let Some(checkpoint) = made_by(store, manifest)? {
            let mut recording = Recording::new();
            for known in notes {
                recording.put_known(known);
            }
            store.commit(&recording, Durability::Os)?;
            return Ok(Recorded { checkpoint, recipe: recipe.node()?, run: None });
        }
        let checkpoint = Checkpoint {
            label: self.label.to_owned(),
            config: self.merged.config.parse()?,
            manifest,
            n_params: self.merged.n_params,
            step: 0,
        };
        let shares = self.merge.shares();
        let record = |run| {
            let mut recording = Recording::new();
            for parent in parents.values() {
                if let Some(new) = &parent.new {
                    recording.put(run, new)?;
                }
                if let Some(files) = parent.files.and_then(|files| NodeId::content(Kind::Artifact, files)) {
                    recording.put_edge(run, &Edge::new(files, Relation::GeneratedBy, parent.node))?;
                }
            }
            let node = recording.put_virtual(run, &checkpoint, &recipe)?;
            for edge in edges(node, &parents, &shares) {
                recording.put_edge(run, &edge)?;
            }
            for known in notes {
                recording.put_known(known);
            }
            Ok(recording)
        };
        let run = store.record_run(&self.new_run(&recipe), record)?;
        Ok(Recorded { checkpoint: checkpoint.node()?, recipe: recipe.node()?, run: Some(run.id) })
    }

    /// The recipe as the store keeps it: parents by node, and the weights that must come out.
    fn canonical(&self, parents: &BTreeMap<String, Parent>) -> Recipe {
        let nodes: BTreeMap<String, NodeId> =
            parents.iter().map(|(name, parent)| (name.clone(), parent.node)).collect();
        let spelled = spelled(&nodes);
        let rename = |name: &str| spelled.get(name).cloned().unwrap_or_else(|| name.to_owned());
        let weigh = |share: Share| {
            let parent = nodes.get(&share.model)?.digest()?;
            Some(RecipeWeight { parent, block: share.block, weight: share.weight })
        };
        let weights: Vec<RecipeWeight> = self.merge.shares().into_iter().filter_map(weigh).collect();
        let mut in_order = Vec::new();
        for (name, _) in self.merge.models() {
            if !in_order.contains(&nodes[name]) {
                in_order.push(nodes[name]);
            }
        }
        let has_rest = weights.iter().any(|weight| weight.block == "rest");
        Recipe {
            text: self.recipe.renamed(rename, Some(&self.merged.output)).text(),
            method: self.recipe.merge_method.clone(),
            weights,
            parents: in_order,
            others: if has_rest { "rest" } else { "" }.to_owned(),
            seed: self.recipe.seed,
        }
    }

    fn new_run(&self, recipe: &Recipe) -> NewRun {
        NewRun {
            name: self.label.to_owned(),
            experiment: EXPERIMENT.to_owned(),
            study: String::new(),
            plan: Plan::new(""),
            seed: recipe.seed,
            device: "cpu".to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            versions: BTreeMap::from([("tracker".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        }
    }
}

/// The checkpoint that stands for a model.
fn parent(store: &Store, source: &Source, folder: &Folder, weights: Digest) -> anyhow::Result<Parent> {
    let known = |node| Parent { node, new: None, files: None };
    let new = |label: String, manifest, files| -> anyhow::Result<Parent> {
        let (config, n_params) = (folder.config()?.into(), folder.n_params());
        let checkpoint = Checkpoint { label, config, manifest, n_params, step: 0 };
        Ok(Parent { node: checkpoint.node()?, new: Some(checkpoint), files })
    };
    match source {
        Source::Checkpoint(node) => Ok(known(*node)),
        Source::Files(manifest, name) => match made_by(store, *manifest)? {
            Some(node) => Ok(known(node)),
            None => new(name.clone(), *manifest, Some(*manifest)),
        },
        Source::Folder(path) => {
            if let Some(node) = find(store, weights)? {
                return Ok(known(node));
            }
            if let Some(version) = store.version_with_weights(weights)? {
                return new(version.name, version.manifest, Some(version.manifest));
            }
            let path = std::fs::canonicalize(path)?;
            let name = path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
            new(name.into_owned(), weights, None)
        }
    }
}

/// The checkpoint whose files, or whose recipe, have this digest.
fn made_by(store: &Store, manifest: Digest) -> anyhow::Result<Option<NodeId>> {
    for row in store.contents::<Checkpoint>() {
        let (node, checkpoint) = row?;
        if checkpoint.manifest == manifest {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// A checkpoint that has these weights, among them mixtures whose recipe says so though nobody made them yet.
pub fn find(store: &Store, weights: Digest) -> anyhow::Result<Option<NodeId>> {
    if let Some(node) = store.checkpoint_with_weights(weights)? {
        return Ok(Some(node));
    }
    let text = weights.to_string();
    for row in store.contents::<Recipe>() {
        let (_, recipe) = row?;
        let is_output = recipe.text.contains(&text)
            && tracker_merge::Recipe::parse("a recipe", &recipe.text).is_ok_and(|r| r.output.as_ref() == Some(&text));
        if is_output && let Some(node) = made_by(store, recipe.digest()?)? {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// From the checkpoint to each parent, with weight and block where the method has weights.
fn edges(node: NodeId, parents: &BTreeMap<String, Parent>, shares: &[Share]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    for (name, parent) in parents {
        let plain = Edge::new(node, Relation::DerivedFrom, parent.node);
        let own: Vec<&Share> = shares.iter().filter(|share| share.model == *name).collect();
        if own.is_empty() {
            edges.push(plain);
        } else {
            edges.extend(own.into_iter().map(|share| plain.clone().weighted(share.weight, share.block.clone())));
        }
    }
    edges.into_iter().zip(0..).map(|(edge, nth)| edge.at(nth)).collect()
}
