//! Checkpoints as records: their files, what they are called in the run, and what they came from.

use tracker_store::{Checkpoint, Digest, Edge, Kind, NodeId, Recording, Relation, Weights};

use crate::error::Result;
use crate::lab::Lab;

/// Files by name.
pub(crate) type NamedFiles = Vec<(String, Vec<u8>)>;

/// What a checkpoint is made of.
pub(crate) struct Files {
    pub(crate) config: Vec<u8>,
    pub(crate) named: NamedFiles,
    pub(crate) n_params: usize,
}

/// The node and the files of the checkpoint this run recorded under `label`, if it did.
pub(crate) fn recorded_files(lab: &Lab, label: &str) -> Result<Option<(NodeId, NamedFiles)>> {
    let all = lab.store().contents_of::<Checkpoint>(lab.run())?;
    let Some((node, checkpoint)) = all.into_iter().find(|(_, c)| c.label == label) else { return Ok(None) };
    Ok(Some((node, lab.get_files(checkpoint.manifest)?)))
}

/// Records a checkpoint with its files, and where it came from.
pub(crate) async fn record_files(
    lab: &Lab,
    mut recording: Recording,
    label: &str,
    weights: &Files,
    n_steps: usize,
    ups: &[(Relation, NodeId)],
) -> Result<NodeId> {
    let checkpoint = Checkpoint {
        label: label.to_owned(),
        config: Digest::of(&weights.config),
        manifest: lab.put_files_based_on(parent_files(lab, ups)?, "model", label, &weights.named)?,
        n_params: weights.n_params as u64,
        step: n_steps as u64,
    };
    let node = recording.put(lab.run(), &checkpoint)?;
    for (relation, to) in ups {
        recording.put_edge(lab.run(), &Edge::new(node, *relation, *to))?;
    }
    // From the files that people name to what they are.
    if let Some(files) = NodeId::content(Kind::Artifact, checkpoint.manifest) {
        recording.put_edge(lab.run(), &Edge::new(files, Relation::GeneratedBy, node))?;
    }
    lab.record(recording).await?;
    Ok(node)
}

/// The files of the checkpoint that these edges derive from, if they do.
fn parent_files(lab: &Lab, ups: &[(Relation, NodeId)]) -> Result<Option<Digest>> {
    let Some((_, parent)) = ups.iter().find(|(relation, _)| *relation == Relation::DerivedFrom) else {
        return Ok(None);
    };
    Ok(match lab.store().weights(*parent)? {
        Weights::Files(files) => Some(files),
        Weights::Virtual { .. } | Weights::Elsewhere(_) => None,
    })
}
