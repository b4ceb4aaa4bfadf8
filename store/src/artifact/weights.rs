//! What the weights of a checkpoint are: files here or elsewhere, or a recipe that makes them.

use super::Holder;
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId};
use crate::keys;
use crate::model::{Checkpoint, Content, Recipe, Relation};
use crate::store::Store;

/// What the weights of a checkpoint are.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Files, of the [`Manifest`](super::Manifest) with this digest.
    Files(Digest),
    /// Weights with this digest, outside the store: a folder that a merge read. The digest is that of
    /// [`Known`](super::Known).
    Elsewhere(Digest),
    /// A virtual checkpoint: whatever this recipe makes.
    Virtual {
        /// The recipe.
        recipe: Box<Recipe>,
        /// The manifests its files are known to have: none while nobody wrote or hashed them, one after that. Its files
        /// may have been collected since; their digest is known all the same. More than one means that two merges
        /// disagreed.
        files: Vec<Digest>,
    },
}

impl Store {
    /// What the weights of `checkpoint` are.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is no checkpoint; the engine's; `Corrupt`.
    pub fn weights(&self, checkpoint: NodeId) -> Result<Weights> {
        let digest = checkpoint.digest().filter(|_| checkpoint.kind() == Kind::Checkpoint);
        let digest = digest.ok_or_else(|| Error::invalid("what has weights", "a checkpoint", checkpoint))?;
        let manifest = self.content::<Checkpoint>(digest)?.manifest;
        let recipe: Option<Recipe> = self.get_value(&keys::node(&NodeId::content_of(Recipe::KIND, manifest)))?;
        let Some(recipe) = recipe else {
            let is_here = self.knows_files(manifest)?;
            return Ok(if is_here { Weights::Files(manifest) } else { Weights::Elsewhere(manifest) });
        };
        let mut files = Vec::new();
        for entry in self.entries(&keys::edges_down(&checkpoint)) {
            let (_, relation, from, _) = keys::edge_down_at(&checkpoint, &entry?.0)?;
            if let (Relation::GeneratedBy, Kind::Artifact, Some(digest)) = (relation, from.kind(), from.digest())
                && !files.contains(&digest)
            {
                files.push(digest);
            }
        }
        Ok(Weights::Virtual { recipe: Box::new(recipe), files })
    }

    /// Refuses files, known by their manifest, that are not those of `checkpoint`. A virtual checkpoint whose files nobody
    /// knows yet takes any; an edge `generated_by` from the artifact to the checkpoint then makes them known.
    ///
    /// # Errors
    /// `Conflict` if it has other files; those of [`Store::weights`].
    pub fn check_files(&self, checkpoint: NodeId, manifest: Digest) -> Result<()> {
        let expected = match self.weights(checkpoint)? {
            Weights::Files(expected) => expected,
            Weights::Elsewhere(weights) if self.known_weights(Holder::Content(manifest))? == Some(weights) => {
                return Ok(());
            }
            Weights::Elsewhere(weights) => weights,
            Weights::Virtual { files, .. } if files.is_empty() || files.contains(&manifest) => return Ok(()),
            Weights::Virtual { files, .. } => files[0],
        };
        if expected == manifest {
            return Ok(());
        }
        Err(Error::conflict("the files of", checkpoint, &expected.to_string(), &manifest.to_string()))
    }
}
