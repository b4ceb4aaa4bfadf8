//! From a recipe and headers to one job a tensor, with every problem found before a byte of weight is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake3::Hash;
use safetensors::Dtype;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::folder::{Entry, Folder};
use crate::lanes::Float;
use crate::method::{Args, Base, MethodInfo, methods};
use crate::near::instead;
use crate::recipe::{Block, ModelRef, Part, Recipe};
use crate::vocabulary::{Rows, Vocabulary};

/// A merge whose headers were read.
#[derive(Debug)]
pub struct Merge {
    pub(crate) recipe: Arc<Recipe>,
    /// The recipe's text as it was given, which names the merge.
    pub(crate) text: String,
    pub(crate) method: &'static MethodInfo,
    pub(crate) parents: Vec<Parent>,
    pub(crate) jobs: Vec<Job>,
    /// Whose configuration and tokenizer the output has.
    pub(crate) model: usize,
    pub(crate) tokenizer: usize,
    pub(crate) n_layers: usize,
    /// The vocabulary of the output, where embeddings are moved to one.
    pub(crate) vocabulary: Option<Vocabulary>,
    /// The chat template the output gets in place of its tokenizer's.
    pub(crate) chat_template: Option<String>,
    /// Whether it has a head of its own although the model that lends its configuration has none.
    pub(crate) is_untied: bool,
    pub(crate) problems: Vec<String>,
    warnings: Vec<String>,
}

/// A model that takes part.
#[derive(Debug)]
pub(crate) struct Parent {
    /// As the recipe spells it.
    pub(crate) name: String,
    pub(crate) folder: Folder,
    /// Whether its head is its table of embeddings.
    pub(crate) is_tied: bool,
    /// The digest of its weights, if the caller knows it.
    pub(crate) known: Option<Hash>,
}

/// One tensor of the output.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The tensors it is made of, the base last, each with its parent.
    pub(crate) sources: Vec<(usize, Entry)>,
    pub(crate) args: Args,
    /// Whether it is taken byte by byte from its first source: it has no numbers that can be summed.
    pub(crate) is_copy: bool,
    /// Which rows of its sources its rows are made of, where they are not those of the same place.
    pub(crate) rows: Option<Rows>,
}

impl Job {
    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        match Float::of(self.dtype) {
            Some(float) if !self.is_copy => (self.n_elements() * float.n_bytes()) as u64,
            _ => self.sources.first().map_or(0, |(_, entry)| entry.n_bytes),
        }
    }
}

/// What a merge would do.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The method.
    pub method: &'static str,
    /// The models that take part.
    pub parents: Vec<String>,
    /// Tensors of the output.
    pub n_tensors: usize,
    /// Their bytes.
    pub n_bytes: u64,
    /// What stands in its way; empty if nothing does.
    pub problems: Vec<String>,
    /// What may surprise.
    pub warnings: Vec<String>,
}

impl Merge {
    /// Reads the headers of a recipe's models, which it names relative to `folder`, and plans every tensor.
    ///
    /// # Errors
    /// `Unfit` for an unknown method; `Damaged` and `Io` for models that cannot be read. What stands in the way of a
    /// readable recipe is listed in [`Merge::summary`].
    pub fn plan(recipe: Recipe, text: &str, folder: &Path) -> Result<Self> {
        Self::plan_at(recipe, text, |name| folder.join(name))
    }

    /// As [`Merge::plan`], with the folder of each model as `place` says.
    ///
    /// # Errors
    /// As [`Merge::plan`].
    pub fn plan_at(recipe: Recipe, text: &str, place: impl Fn(&str) -> PathBuf) -> Result<Self> {
        let method = methods().iter().find(|method| method.name == recipe.merge_method).ok_or_else(|| {
            let known = methods().iter().map(|method| method.name);
            Error::Unfit(vec![format!(
                "unknown method `{}`; {}",
                recipe.merge_method,
                instead(&recipe.merge_method, known)
            )])
        })?;
        let mut parents = Vec::new();
        for name in recipe.models() {
            let folder = Folder::open(&place(name))?;
            let is_tied = folder.is_tied()?;
            parents.push(Parent { name: name.to_owned(), folder, is_tied, known: None });
        }
        let mut merge = Self {
            recipe: Arc::new(recipe),
            text: text.to_owned(),
            method,
            parents,
            jobs: Vec::new(),
            model: 0,
            tokenizer: 0,
            n_layers: 0,
            vocabulary: None,
            chat_template: None,
            is_untied: false,
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        merge.check_recipe();
        if merge.problems.is_empty() {
            merge.settle_vocabulary()?;
        }
        if merge.problems.is_empty() {
            merge.lay_out();
            merge.check_tokenizers();
            merge.settle_chat_template()?;
        }
        Ok(merge)
    }

    /// The models that take part, as the recipe spells them, and their folders.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Folder)> {
        self.parents.iter().map(|parent| (parent.name.as_str(), &parent.folder))
    }

    /// Says what the digest of a model's weights is, so that it is not computed: what [`Folder::weights`] answered of the very
    /// bytes that lie there. A name that is none of the models' is passed over.
    pub fn know(&mut self, name: &str, weights: Hash) {
        for parent in self.parents.iter_mut().filter(|parent| parent.name == name) {
            parent.known = Some(weights);
        }
    }

    /// What it would do.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            method: self.method.name,
            parents: self.parents.iter().map(|parent| parent.name.clone()).collect(),
            n_tensors: self.jobs.len(),
            n_bytes: self.jobs.iter().map(Job::n_bytes).sum(),
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
        }
    }

    pub(crate) fn problem(&mut self, what: String) {
        if !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }

    pub(crate) fn warn(&mut self, what: String) {
        if !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
    }

    pub(crate) fn parent(&self, model: &ModelRef) -> usize {
        self.parents.iter().position(|parent| parent.name == model.path()).unwrap_or(0)
    }

    pub(crate) fn base(&self) -> Option<usize> {
        self.recipe.base_model.as_ref().map(|base| self.parent(base))
    }

    /// What can be said without looking at tensors.
    fn check_recipe(&mut self) {
        let recipe = Arc::clone(&self.recipe);
        let name = self.method.name;
        if self.method.base == Base::Required && recipe.base_model.is_none() {
            self.problem(format!("`{name}` needs a `base_model`"));
        }
        if self.method.base == Base::Unused
            && let Some(base) = &recipe.base_model
            && !named_inputs(&recipe).iter().any(|model| *model == base.path())
        {
            self.warnings.push(format!("`{name}` has no base; `{}` lends its configuration alone", base.path()));
        }
        for key in [&recipe.dtype, &recipe.out_dtype].into_iter().flatten() {
            if float_named(key).is_none() {
                self.problem(format!("expected `float32`, `float16` or `bfloat16`, got type `{key}`"));
            }
        }
        let parts = recipe.parts();
        let all = parts.iter().flat_map(Part::settings).chain([&recipe.parameters]);
        for (key, setting) in all.flatten() {
            if !self.method.args.iter().any(|arg| arg.name == key) {
                let known = self.method.args.iter().map(|arg| arg.name);
                self.problem(format!("`{name}` has no parameter `{key}`; {}", instead(key, known)));
            } else if setting.is_gradient() {
                self.warn("embeddings, final norm and head take the first value of a gradient".to_owned());
            }
        }
        if self.method.args.iter().any(|arg| arg.name == "rescale" && arg.default == Some(1.0)) {
            self.warnings.push(
                "masked differences are rescaled to the L1 norm they had, as mergekit does, not by 1 / density"
                    .to_owned(),
            );
        }
        self.check_blocks(&recipe);
    }

    fn check_blocks(&mut self, recipe: &Recipe) {
        let (Some(blocks), Some(rest)) = (&recipe.blocks, &recipe.rest) else { return };
        let known = named_inputs(recipe);
        let weights = blocks.iter().map(|block| &block.weights).chain([rest]);
        for weights in weights {
            if let Some(stranger) = weights.keys().find(|name| !known.contains(&name.as_str())) {
                self.problem(format!("`blocks` weigh `{stranger}`, which is not in `models`"));
            }
            let total: f64 = weights.values().sum();
            if (total - 1.0).abs() > 1e-6 {
                self.warnings
                    .push(format!("weights of a block add up to {total}, not to 1; they are taken as they are"));
            }
        }
        let mut next = 0;
        let mut sorted: Vec<&Block> = blocks.iter().collect();
        sorted.sort_by_key(|block| block.layers);
        for block in sorted {
            let [from, to] = block.layers;
            if from != next || to <= from {
                self.problem(format!("expected a block that begins at layer {next}, got [{from}, {to})"));
                return;
            }
            next = to;
        }
        let n_layers = self.parents.iter().map(|parent| parent.folder.n_layers).max().unwrap_or(0);
        if next != n_layers {
            self.problem(format!("expected blocks of all {n_layers} layers, got the first {next}"));
        }
    }

    fn check_tokenizers(&mut self) {
        if self.recipe.tokenizer.is_some() || self.recipe.tokenizer_source.is_some() {
            return;
        }
        self.tokenizer = self.model;
        let text = |parent: &Parent| std::fs::read(parent.folder.dir.join("tokenizer.json")).ok();
        let ours = &self.parents[self.tokenizer];
        let others = self.parents.iter().filter(|parent| text(parent) != text(ours));
        let warnings: Vec<String> = others
            .map(|parent| {
                format!("the tokenizer of `{}` differs from that of `{}`, which is taken", parent.name, ours.name)
            })
            .collect();
        self.warnings.extend(warnings);
    }
}

/// The names of the models that are merged.
fn named_inputs(recipe: &Recipe) -> Vec<&str> {
    recipe.parts().iter().flat_map(Part::all_models).map(ModelRef::path).collect()
}

pub(crate) fn float_named(key: &str) -> Option<Dtype> {
    match key {
        "float32" => Some(Dtype::F32),
        "float16" => Some(Dtype::F16),
        "bfloat16" => Some(Dtype::BF16),
        _ => None,
    }
}
