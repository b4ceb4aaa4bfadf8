//! Recipes: mergekit's YAML, with `blocks:` and `seed:` of our own.
//!
//! What is read and what is not is decided here, so that nothing of a recipe is passed over in silence.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::setting::Setting;

/// Parameters by name.
pub(crate) type Settings = BTreeMap<String, Setting>;

/// What is to be merged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The method's name in the registry.
    pub merge_method: String,
    /// The model that differences are taken from.
    #[serde(default)]
    pub base_model: Option<ModelRef>,
    /// Whole models to merge.
    #[serde(default)]
    pub models: Option<Vec<Input>>,
    /// Ranges of layers to put one after the other.
    #[serde(default)]
    pub slices: Option<Vec<Slice>>,
    /// Parameters for everything.
    #[serde(default)]
    pub parameters: Settings,
    /// The type of the output where `out_dtype` is silent: `bfloat16`, `float16` or `float32`. Sums are f32 in any case.
    #[serde(default)]
    pub dtype: Option<String>,
    /// The type of the output.
    #[serde(default)]
    pub out_dtype: Option<String>,
    /// `base`, or a model whose tokenizer is taken.
    #[serde(default)]
    pub tokenizer_source: Option<ModelRef>,
    /// Weights for ranges of layers, each by parent: model averaging and its heterogeneous form (Lin et al. 2024).
    #[serde(default)]
    pub blocks: Option<Vec<Block>>,
    /// Weights by parent of what is in no layer (embeddings, final norm, head), where there are blocks.
    #[serde(default)]
    pub rest: Option<BTreeMap<String, f64>>,
    /// Seed of random masks.
    #[serde(default)]
    pub seed: u64,
    /// Not read.
    #[serde(default)]
    modules: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    tokenizer: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    chat_template: Option<String>,
}

/// A model: a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum ModelRef {
    /// Its path.
    Path(String),
    /// Its path, the long way.
    Model {
        /// What it is.
        model: ModelPath,
    },
}

/// A path, the long way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPath {
    /// The folder.
    pub path: String,
}

impl ModelRef {
    /// The folder as the recipe spells it.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Model { model: ModelPath { path } } => path,
        }
    }
}

/// A model to merge, with parameters of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The model.
    pub model: ModelRef,
    /// Its parameters.
    #[serde(default)]
    pub parameters: Settings,
}

/// Layers of the output, from layers of models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Where they come from.
    pub sources: Vec<SliceSource>,
    /// Parameters of this slice.
    #[serde(default)]
    pub parameters: Settings,
}

/// Layers of one model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceSource {
    /// The model.
    pub model: ModelRef,
    /// First layer, and the first that is no longer part of it.
    pub layer_range: [usize; 2],
    /// Parameters of this source.
    #[serde(default)]
    pub parameters: Settings,
}

/// Weights by parent for a range of layers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// First layer, and the first that is no longer part of it.
    pub layers: [usize; 2],
    /// Weight of each parent, by its path in `models`.
    pub weights: BTreeMap<String, f64>,
}

impl Recipe {
    /// Reads a recipe; `name` is what messages call it.
    ///
    /// # Errors
    /// `Recipe` with line and column for text that is none, and for what is not built.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let wrong = |what: String| Error::Recipe { recipe: name.to_owned(), what };
        let recipe: Self = serde_saphyr::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
        for (key, is_there) in [
            ("modules", recipe.modules.is_some()),
            ("tokenizer", recipe.tokenizer.is_some()),
            ("chat_template", recipe.chat_template.is_some()),
        ] {
            if is_there {
                return Err(wrong(format!("`{key}` is not supported; leave it away")));
            }
        }
        if recipe.models.is_some() == recipe.slices.is_some() {
            return Err(wrong("expected either `models` or `slices`".to_owned()));
        }
        if recipe.blocks.is_some() != recipe.rest.is_some() {
            return Err(wrong(
                "expected `blocks` and `rest` (weights of embeddings, final norm and head) together".to_owned(),
            ));
        }
        if recipe.blocks.is_some() && (recipe.merge_method != "linear" || recipe.slices.is_some()) {
            return Err(wrong("expected `blocks` with `merge_method: linear` and `models`".to_owned()));
        }
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_of_mergekit_are_read() {
        let text = "
models:
  - model: a
    parameters: {weight: [0, 0.5, 1], density: 0.5}
  - model: {model: {path: b}}
    parameters:
      weight:
        - filter: mlp
          value: 0.3
        - value: 1
merge_method: ties
base_model: c
parameters: {normalize: true, int8_mask: true}
dtype: bfloat16
";
        let recipe = Recipe::parse("r.yml", text).unwrap();
        let models = recipe.models.unwrap();
        assert_eq!(models.iter().map(|m| m.model.path()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(models[1].parameters["weight"].at("mlp.up", 0.0), Some(0.3));
        assert_eq!(recipe.base_model.unwrap().path(), "c");
    }

    #[test]
    fn what_is_no_recipe_is_said_with_its_place() {
        for (text, part) in [
            ("merge_method: linear\n", "either `models` or `slices`"),
            ("merge_method: linear\nmodels: []\nslices: []\n", "either"),
            ("merge_method: [linear\n", "line"),
            ("merge_method: linear\nmodels: []\nweights: 3\n", "weights"),
            ("merge_method: linear\nmodels: []\nblocks: []\n", "rest"),
            ("merge_method: linear\nmodels: []\nchat_template: auto\n", "chat_template"),
        ] {
            let error = Recipe::parse("r.yml", text).unwrap_err().to_string();
            assert!(error.starts_with("r.yml: ") && error.contains(part), "{text}: {error}");
        }
    }
}
