//! From a recipe and headers to one job a tensor, with every problem found before a byte of weight is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use serde::Serialize;

use crate::checkpoint::{Checkpoint, Entry, layer_of, split_layer};
use crate::error::{Error, Result};
use crate::lanes::Float;
use crate::method::{self, Arg, Args, Base, MethodInfo, methods};
use crate::recipe::{Block, ModelRef, Recipe, Settings};

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
    pub(crate) problems: Vec<String>,
    warnings: Vec<String>,
}

/// A model that takes part.
#[derive(Debug)]
pub(crate) struct Parent {
    /// As the recipe spells it.
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
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

/// One model of a layer or of the rest: which tensor it gives, and the parameters that are its own.
struct Source<'a> {
    parent: usize,
    layer: Option<usize>,
    parameters: &'a Settings,
}

/// Where in the output a tensor stands.
struct Place<'a> {
    /// From 0 at the first layer of its slice to 1 at the last; 0 for what is in no layer.
    t: f64,
    /// Parameters of its slice.
    slice: Option<&'a Settings>,
    /// Its layer in the output.
    layer: Option<usize>,
}

impl Merge {
    /// Reads the headers of a recipe's models, which it names relative to `folder`, and plans every tensor.
    ///
    /// # Errors
    /// `Unfit` for an unknown method; `Damaged` and `Io` for models that cannot be read. What stands in the way of a
    /// readable recipe is listed in [`Merge::summary`].
    pub fn plan(recipe: Recipe, text: &str, folder: &Path) -> Result<Self> {
        let method = methods().iter().find(|method| method.name == recipe.merge_method).ok_or_else(|| {
            let known = methods().iter().map(|method| method.name);
            Error::Unfit(vec![format!(
                "unknown method `{}`; {}",
                recipe.merge_method,
                instead(&recipe.merge_method, known)
            )])
        })?;
        let mut parents = Vec::new();
        for name in model_names(&recipe) {
            let dir = if Path::new(name).is_absolute() { PathBuf::from(name) } else { folder.join(name) };
            parents.push(Parent { name: name.to_owned(), checkpoint: Checkpoint::open(&dir)? });
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
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        merge.check_recipe();
        if merge.problems.is_empty() {
            merge.lay_out();
            merge.check_tokenizers();
        }
        Ok(merge)
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

    fn problem(&mut self, what: String) {
        if !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }

    fn parent(&self, model: &ModelRef) -> usize {
        self.parents.iter().position(|parent| parent.name == model.path()).unwrap_or(0)
    }

    fn base(&self) -> Option<usize> {
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
        let each = recipe.models.iter().flatten().map(|input| &input.parameters);
        let slices = recipe.slices.iter().flatten();
        let sources = slices.clone().flat_map(|slice| slice.sources.iter().map(|source| &source.parameters));
        let all = each.chain(sources).chain(slices.map(|slice| &slice.parameters)).chain([&recipe.parameters]);
        for (key, setting) in all.flatten() {
            if !self.method.args.iter().any(|arg| arg.name == key) {
                let known = self.method.args.iter().map(|arg| arg.name);
                self.problem(format!("`{name}` has no parameter `{key}`; {}", instead(key, known)));
            } else if setting.is_gradient() {
                let warning = "embeddings, final norm and head take the first value of a gradient".to_owned();
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
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
        let n_layers = self.parents.iter().map(|parent| parent.checkpoint.n_layers).max().unwrap_or(0);
        if next != n_layers {
            self.problem(format!("expected blocks of all {n_layers} layers, got the first {next}"));
        }
    }

    /// One job a tensor of the output, in the order of the first parent's files.
    fn lay_out(&mut self) {
        let recipe = Arc::clone(&self.recipe);
        let none = Settings::new();
        if let Some(models) = &recipe.models {
            let mut sources: Vec<Source<'_>> = models
                .iter()
                .map(|input| Source { parent: self.parent(&input.model), layer: None, parameters: &input.parameters })
                .collect();
            if let Some(base) = self.base()
                && self.method.base == Base::Equal
                && sources.iter().all(|source| source.parent != base)
            {
                sources.push(Source { parent: base, layer: None, parameters: &none });
            }
            let model = self.base().or(sources.first().map(|source| source.parent)).unwrap_or(0);
            self.model = model;
            self.n_layers = self.parents[model].checkpoint.n_layers;
            let last = self.n_layers.saturating_sub(1);
            for name in self.names_of(model, |_| true) {
                let layer = layer_of(&name);
                let t = layer.map_or(0.0, |layer| if last == 0 { 1.0 } else { layer as f64 / last as f64 });
                self.add(&name, &Place { t, slice: None, layer }, &sources, &none);
            }
            self.check_same_names(model);
        } else if let Some(slices) = &recipe.slices {
            let Some(first) = slices.first().and_then(|slice| slice.sources.first()) else {
                return self.problem("expected at least one slice with a source".to_owned());
            };
            let model = self.base().unwrap_or_else(|| self.parent(&first.model));
            self.model = model;
            let whole: Vec<Source<'_>> = slices[0]
                .sources
                .iter()
                .map(|s| Source { parent: self.parent(&s.model), layer: None, parameters: &s.parameters })
                .collect();
            for name in self.names_of(model, |layer| layer.is_none()) {
                self.add(&name, &Place { t: 0.0, slice: Some(&slices[0].parameters), layer: None }, &whole, &none);
            }
            let mut out = 0;
            for (at, slice) in slices.iter().enumerate() {
                let lengths: BTreeSet<usize> =
                    slice.sources.iter().map(|s| s.layer_range[1].saturating_sub(s.layer_range[0])).collect();
                if lengths.len() != 1 || lengths.contains(&0) {
                    self.problem(format!("slices[{at}]: expected ranges of one length above 0, got {lengths:?}"));
                    continue;
                }
                let n = lengths.first().copied().unwrap_or(0);
                for offset in 0..n {
                    let t = if n == 1 { 1.0 } else { offset as f64 / (n - 1) as f64 };
                    let sources: Vec<Source<'_>> = slice
                        .sources
                        .iter()
                        .map(|s| Source {
                            parent: self.parent(&s.model),
                            layer: Some(s.layer_range[0] + offset),
                            parameters: &s.parameters,
                        })
                        .collect();
                    let from = sources[0].layer.unwrap_or(0);
                    let names = self.names_of(sources[0].parent, |layer| layer == Some(from));
                    if names.is_empty() {
                        let name = &self.parents[sources[0].parent].name;
                        self.problem(format!("slices[{at}]: `{name}` has no layer {from}"));
                    }
                    for name in names {
                        let name = with_layer(&name, out + offset);
                        let place = Place { t, slice: Some(&slice.parameters), layer: Some(out + offset) };
                        self.add(&name, &place, &sources, &none);
                    }
                }
                out += n;
            }
            self.n_layers = out;
        }
    }

    /// Names of a parent's tensors, in the order of its files.
    fn names_of(&self, parent: usize, is_wanted: impl Fn(Option<usize>) -> bool) -> Vec<String> {
        let tensors = &self.parents[parent].checkpoint.tensors;
        let mut names: Vec<(&String, &Entry)> = tensors.iter().filter(|(name, _)| is_wanted(layer_of(name))).collect();
        names.sort_by_key(|(_, entry)| (entry.file, entry.at));
        names.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Plans tensor `name` of the output.
    fn add(&mut self, name: &str, place: &Place<'_>, sources: &[Source<'_>], none: &Settings) {
        let base = self.base().filter(|_| matches!(self.method.base, Base::Optional | Base::Required));
        let inputs: Vec<&Source<'_>> = sources.iter().filter(|source| Some(source.parent) != base).collect();
        let (least, most) = self.method.n_inputs;
        if !(least..=most).contains(&inputs.len()) {
            let (method, n) = (self.method.name, inputs.len());
            return self.problem(format!("`{method}` merges {least} to {most} models besides its base, got {n}"));
        }
        let base_layer = sources.iter().find(|source| Some(source.parent) == base).and_then(|source| source.layer);
        let of_base = base.map(|parent| Source { parent, layer: base_layer.or(place.layer), parameters: none });
        let mut found = Vec::new();
        for source in inputs.iter().copied().chain(&of_base) {
            let theirs = source.layer.map_or_else(|| name.to_owned(), |layer| with_layer(name, layer));
            let parent = &self.parents[source.parent];
            match parent.checkpoint.tensors.get(&theirs) {
                Some(entry) => found.push((source.parent, entry.clone())),
                None => return self.problem(format!("`{}` has no tensor `{theirs}`", parent.name.clone())),
            }
        }
        let Some((first, entry)) = found.first().cloned() else { return };
        for (parent, other) in &found[1..] {
            if other.shape != entry.shape {
                let (a, b) = (&self.parents[first].name, &self.parents[*parent].name);
                let what = format!("`{name}` is {:?} in `{a}` and {:?} in `{b}`", entry.shape, other.shape);
                return self.problem(what);
            }
        }
        let is_copy = found.iter().any(|(_, entry)| Float::of(entry.dtype).is_none());
        if is_copy && found.iter().any(|(_, other)| other.dtype != entry.dtype) {
            return self.problem(format!("`{name}` has types that cannot be merged: {}", dtypes(&found)));
        }
        let stated = self.recipe.out_dtype.as_ref().or(self.recipe.dtype.as_ref()).and_then(|key| float_named(key));
        let dtype = if is_copy { entry.dtype } else { stated.unwrap_or(entry.dtype) };
        let args = self.args(name, place, &inputs);
        self.jobs.push(Job { name: name.to_owned(), dtype, shape: entry.shape.clone(), sources: found, args, is_copy });
    }

    /// Values of the method's parameters for one tensor.
    fn args(&mut self, name: &str, place: &Place<'_>, inputs: &[&Source<'_>]) -> Args {
        let mut args = Args { each: vec![BTreeMap::new(); inputs.len()], ..Args::default() };
        let recipe = Arc::clone(&self.recipe);
        for arg in self.method.args {
            if arg.is_each {
                for (i, input) in inputs.iter().enumerate() {
                    let of_block = (arg.name == "weight").then(|| self.block_weight(place, input.parent)).flatten();
                    let layers = [Some(input.parameters), place.slice, Some(&recipe.parameters)];
                    let who = self.parents[input.parent].name.clone();
                    let value = of_block.or_else(|| look_up(arg, &layers, name, place.t));
                    self.set(arg, value, &mut args.each[i], &format!("`{who}`"));
                }
            } else {
                let mut layers: Vec<Option<&Settings>> = inputs.iter().map(|input| Some(input.parameters)).collect();
                layers.extend([place.slice, Some(&recipe.parameters)]);
                let value = if arg.name == "normalize" && recipe.blocks.is_some() {
                    Some(0.0)
                } else {
                    look_up(arg, &layers, name, place.t)
                };
                self.set(arg, value, &mut args.shared, "the recipe");
            }
        }
        if let Some(fault) = method::fault(self.method, &args) {
            self.problem(format!("`{name}`: {fault}"));
        }
        args
    }

    fn set(&mut self, arg: &Arg, value: Option<f64>, to: &mut BTreeMap<&'static str, f64>, who: &str) {
        let Some(value) = value.or(arg.default) else {
            return self.problem(format!("{who} needs a value of `{}`", arg.name));
        };
        let (least, most) = arg.range;
        if !(least..=most).contains(&value) {
            self.problem(format!("`{}` of {who}: expected a number from {least} to {most}, got {value}", arg.name));
        } else if arg.is_whole && value.fract() != 0.0 {
            self.problem(format!("`{}` of {who}: expected a whole number, got {value}", arg.name));
        }
        to.insert(arg.name, value);
    }

    /// The weight a block gives a parent, if there are blocks.
    fn block_weight(&self, place: &Place<'_>, parent: usize) -> Option<f64> {
        let (blocks, rest) = (self.recipe.blocks.as_ref()?, self.recipe.rest.as_ref()?);
        let weights = match place.layer {
            None => rest,
            Some(layer) => &blocks.iter().find(|b| (b.layers[0]..b.layers[1]).contains(&layer))?.weights,
        };
        Some(weights.get(&self.parents[parent].name).copied().unwrap_or(0.0))
    }

    /// A tensor that only some models have is not left out in silence.
    fn check_same_names(&mut self, model: usize) {
        let ours = &self.parents[model];
        let mut extra = Vec::new();
        for parent in &self.parents {
            let names = parent.checkpoint.tensors.keys().filter(|name| !ours.checkpoint.tensors.contains_key(*name));
            extra.extend(names.map(|name| format!("`{}` has tensor `{name}`, `{}` does not", parent.name, ours.name)));
        }
        for what in extra {
            self.problem(what);
        }
    }

    fn check_tokenizers(&mut self) {
        self.tokenizer = match &self.recipe.tokenizer_source {
            None => self.model,
            Some(source) if source.path() == "base" => self.base().unwrap_or(self.model),
            Some(source) if source.path() == "union" => {
                return self.problem("`tokenizer_source: union` is not supported; name a model".to_owned());
            }
            Some(source) => self.parent(source),
        };
        let text = |parent: &Parent| std::fs::read(parent.checkpoint.dir.join("tokenizer.json")).ok();
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

/// The first layer of settings that has a value for the tensor.
fn look_up(arg: &Arg, layers: &[Option<&Settings>], name: &str, t: f64) -> Option<f64> {
    layers.iter().flatten().find_map(|settings| settings.get(arg.name)?.at(name, t))
}

/// What a name that is not known may stand for.
fn instead<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known.iter().map(|name| (distance(word, name), *name)).min();
    match near {
        None => "it has none".to_owned(),
        Some((edits, name)) if edits <= word.len().max(name.len()) / 2 => {
            format!("did you mean `{name}`? There are {}", known.join(", "))
        }
        Some(_) => format!("there are {}", known.join(", ")),
    }
}

/// Letters to put in, leave out or change to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.bytes().enumerate() {
            let best = (row[j] + 1).min(row[j + 1] + 1).min(corner + usize::from(a != b));
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// The names of all models, each once, in the order they appear.
fn model_names(recipe: &Recipe) -> Vec<&str> {
    let inputs = recipe.models.iter().flatten().map(|input| input.model.path());
    let sources = recipe.slices.iter().flatten().flat_map(|slice| slice.sources.iter().map(|s| s.model.path()));
    let base = recipe.base_model.as_ref().map(ModelRef::path);
    let tokenizer = recipe.tokenizer_source.as_ref().map(ModelRef::path);
    let tokenizer = tokenizer.filter(|path| !["base", "union"].contains(path));
    let mut seen = BTreeSet::new();
    inputs.chain(sources).chain(base).chain(tokenizer).filter(|name| seen.insert(*name)).collect()
}

/// The names under `models`.
fn named_inputs(recipe: &Recipe) -> Vec<&str> {
    recipe.models.iter().flatten().map(|input| input.model.path()).collect()
}

fn with_layer(name: &str, layer: usize) -> String {
    split_layer(name).map_or_else(|| name.to_owned(), |(before, _, after)| format!("{before}{layer}{after}"))
}

fn float_named(key: &str) -> Option<Dtype> {
    match key {
        "float32" => Some(Dtype::F32),
        "float16" => Some(Dtype::F16),
        "bfloat16" => Some(Dtype::BF16),
        _ => None,
    }
}

fn dtypes(found: &[(usize, Entry)]) -> String {
    let all: BTreeSet<String> = found.iter().map(|(_, entry)| entry.dtype.to_string()).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}
