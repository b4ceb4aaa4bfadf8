//! Recipes: mergekit's YAML, with `blocks:` and `seed:` of our own.
//!
//! What is read and what is not is decided here, so that nothing of a recipe is passed over in silence.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::setting::Setting;

/// Parameters by name.
pub(crate) type Settings = BTreeMap<String, Setting>;

/// What is to be merged, and how.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The method's name in the registry.
    pub merge_method: String,
    /// The model that differences are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<ModelRef>,
    /// Whole models to merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Input>>,
    /// Ranges of layers to put one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Vec<Slice>>,
    /// Parameters for everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Settings,
    /// The type of the output where `out_dtype` is silent: `bfloat16`, `float16` or `float32`. Sums are f32 in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The type of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<String>,
    /// `base`, `union`, or a model whose tokenizer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_source: Option<ModelRef>,
    /// Weights for ranges of layers, each by parent: model averaging and its heterogeneous form (Lin et al. 2024).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<Block>>,
    /// Weights by parent of what is in no layer (embeddings, final norm, head), where there are blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<BTreeMap<String, f64>>,
    /// Seed of random masks.
    #[serde(default)]
    pub seed: u64,
    /// The digest the weights must have, as [`Merged::output`](crate::Merged::output) says it; other weights are not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Models or slices for each part of an architecture; `default` is the whole of one that has no parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<BTreeMap<String, Module>>,
    /// Which tokenizer the output has, and where embeddings of its tokens come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerRecipe>,
    /// The chat template of the output: `auto`, or Jinja.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
}

/// A model: a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The model.
    pub model: ModelRef,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Settings,
}

/// Layers of the output, from layers of models.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Where they come from.
    pub sources: Vec<SliceSource>,
    /// Parameters of this slice.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Settings,
}

/// Layers of one model.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SliceSource {
    /// The model.
    pub model: ModelRef,
    /// First layer, and the first that is no longer part of it.
    pub layer_range: [usize; 2],
    /// Parameters of this source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Settings,
}

/// Which tokenizer the output has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecipe {
    /// `union`, `base`, or a model whose tokenizer is taken.
    #[serde(default = "union")]
    pub source: ModelRef,
    /// Where embeddings of tokens come from; tokens that are not there yet are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, TokenRecipe>,
    /// The number of rows of embeddings is raised to a multiple of this; new rows are the mean of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_to_multiple_of: Option<usize>,
}

fn union() -> ModelRef {
    ModelRef::Path("union".to_owned())
}

/// Where the embedding of a token comes from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecipe {
    /// What models get that lack the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<TokenSource>,
    /// Whether models that have it get this too.
    #[serde(default)]
    pub force: bool,
}

/// An embedding.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum TokenSource {
    /// Zero, or that of some token of a model.
    Special(SpecialSource),
    /// That of the same token in a model.
    Model(ModelRef),
}

/// Zero, or the embedding of some token of a model.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialSource {
    /// `zero` or `model_token`.
    pub kind: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The token by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<usize>,
    /// The token by its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What a part of an architecture is merged from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Whole models to merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Input>>,
    /// Ranges of layers to put one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Vec<Slice>>,
    /// Parameters of this module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Settings,
}

/// What stands for no model of its own where a tokenizer is named.
const WORDS: [&str; 2] = ["base", "union"];
/// The module that is a whole model.
pub(crate) const WHOLE: &str = "default";

/// A module, or the whole as one.
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    pub(crate) models: Option<&'a [Input]>,
    pub(crate) slices: Option<&'a [Slice]>,
    pub(crate) parameters: Option<&'a Settings>,
}

impl<'a> Part<'a> {
    /// Every model it names, in order.
    pub(crate) fn all_models(&self) -> impl Iterator<Item = &'a ModelRef> + use<'a> {
        let inputs = self.models.into_iter().flatten().map(|input| &input.model);
        let sources = self.slices.into_iter().flatten().flat_map(|slice| &slice.sources);
        inputs.chain(sources.map(|source| &source.model))
    }

    pub(crate) fn first_model(&self) -> Option<&'a ModelRef> {
        self.all_models().next()
    }

    /// Every set of parameters in it.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &'a Settings> + use<'a> {
        let inputs = self.models.into_iter().flatten().map(|input| &input.parameters);
        let slices = self.slices.into_iter().flatten();
        let sources = slices.clone().flat_map(|slice| slice.sources.iter().map(|source| &source.parameters));
        inputs.chain(sources).chain(slices.map(|slice| &slice.parameters)).chain(self.parameters)
    }
}

/// Weights by parent for a range of layers.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
        if recipe.tokenizer.is_some() && recipe.tokenizer_source.is_some() {
            return Err(wrong("expected `tokenizer` or `tokenizer_source`, got both".to_owned()));
        }
        if recipe.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.pad_to_multiple_of == Some(0)) {
            return Err(wrong("`pad_to_multiple_of`: expected 1 or more, got 0".to_owned()));
        }
        if let Some(template) = &recipe.chat_template {
            crate::chat::check(template).map_err(wrong)?;
        }
        let n_forms = [recipe.models.is_some(), recipe.slices.is_some(), recipe.modules.is_some()];
        if n_forms.iter().filter(|is_there| **is_there).count() != 1 {
            return Err(wrong("expected either `models`, `slices` or `modules`".to_owned()));
        }
        let modules = recipe.modules.iter().flatten();
        if let Some((name, _)) = modules.clone().find(|(_, m)| m.models.is_some() == m.slices.is_some()) {
            return Err(wrong(format!("expected either `models` or `slices` in module `{name}`")));
        }
        if recipe.modules.is_some() && modules.count() == 0 {
            return Err(wrong("expected at least one module".to_owned()));
        }
        if recipe.blocks.is_some() != recipe.rest.is_some() {
            return Err(wrong(
                "expected `blocks` and `rest` (weights of embeddings, final norm and head) together".to_owned(),
            ));
        }
        if recipe.blocks.is_some() && (recipe.merge_method != "linear" || recipe.models.is_none()) {
            return Err(wrong("expected `blocks` with `merge_method: linear` and `models`".to_owned()));
        }
        Ok(recipe)
    }

    /// The names of all models, each once, in the order they appear.
    #[must_use]
    pub fn models(&self) -> Vec<&str> {
        let parts = self.parts();
        let inputs = parts.iter().flat_map(Part::all_models).map(ModelRef::path);
        let base = self.base_model.as_ref().map(ModelRef::path);
        let tokenizer = self.tokenizer.as_ref().map(|tokenizer| &tokenizer.source).or(self.tokenizer_source.as_ref());
        let tokenizer = tokenizer.map(ModelRef::path).filter(|path| !WORDS.contains(path));
        let mut seen = BTreeSet::new();
        inputs.chain(base).chain(tokenizer).filter(|name| seen.insert(*name)).collect()
    }

    /// The same merge in canonical form: each model called what `name` calls it, and `output` the digest of the weights that
    /// must come out. Its [text](Recipe::text) is the same for recipes that differ in spelling alone.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(&str) -> String, output: Option<&str>) -> Self {
        let mut recipe = self.clone();
        let rename = |model: &mut ModelRef| {
            if !WORDS.contains(&model.path()) {
                *model = ModelRef::Path(name(model.path()));
            }
        };
        let by_name = |weights: &BTreeMap<String, f64>| weights.iter().map(|(model, w)| (name(model), *w)).collect();
        let modules = recipe.modules.iter_mut().flatten();
        let (mut inputs, mut slices) = (vec![&mut recipe.models], vec![&mut recipe.slices]);
        for (_, module) in modules {
            inputs.push(&mut module.models);
            slices.push(&mut module.slices);
        }
        for input in inputs.into_iter().flatten().flatten() {
            rename(&mut input.model);
        }
        for source in slices.into_iter().flatten().flatten().flat_map(|slice| &mut slice.sources) {
            rename(&mut source.model);
        }
        recipe.base_model.as_mut().map(rename);
        recipe.tokenizer_source.as_mut().map(rename);
        if let Some(tokenizer) = &mut recipe.tokenizer {
            rename(&mut tokenizer.source);
            for token in tokenizer.tokens.values_mut() {
                if let Some(
                    TokenSource::Model(model) | TokenSource::Special(SpecialSource { model: Some(model), .. }),
                ) = &mut token.source
                {
                    rename(model);
                }
            }
        }
        for block in recipe.blocks.iter_mut().flatten() {
            block.weights = by_name(&block.weights);
        }
        recipe.rest = recipe.rest.as_ref().map(by_name);
        recipe.output = output.map(str::to_owned);
        recipe
    }

    /// The text of the recipe, as [`Recipe::parse`] reads it: JSON, which is YAML too.
    #[must_use]
    pub fn text(&self) -> String {
        // Maps of texts and finite numbers cannot fail.
        format!("{:#}\n", serde_json::json!(self))
    }

    /// Its modules, or the whole as one.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        match &self.modules {
            Some(modules) => modules
                .iter()
                .map(|(name, module)| Part {
                    name,
                    models: module.models.as_deref(),
                    slices: module.slices.as_deref(),
                    parameters: Some(&module.parameters),
                })
                .collect(),
            None => vec![Part {
                name: WHOLE,
                models: self.models.as_deref(),
                slices: self.slices.as_deref(),
                parameters: None,
            }],
        }
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
            ("merge_method: linear\n", "either `models`, `slices` or `modules`"),
            ("merge_method: linear\nmodules: {default: {}}\n", "module `default`"),
            ("merge_method: linear\nmodules: {}\n", "at least one"),
            ("merge_method: linear\nmodels: []\nslices: []\n", "either"),
            ("merge_method: [linear\n", "line"),
            ("merge_method: linear\nmodels: []\nweights: 3\n", "weights"),
            ("merge_method: linear\nmodels: []\nblocks: []\n", "rest"),
            ("merge_method: linear\nmodels: []\nchat_template: chatml\n", "`chatml` names a template"),
        ] {
            let error = Recipe::parse("r.yml", text).unwrap_err().to_string();
            assert!(error.starts_with("r.yml: ") && error.contains(part), "{text}: {error}");
        }
    }
}
