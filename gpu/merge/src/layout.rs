//! Which tensors of the output are made of which of the models, and with which values of parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::folder::{Entry, layer_of, split_layer};
use crate::lanes::Float;
use crate::method::{self, Arg, Args, Base};
use crate::plan::{Job, Merge, Parent, float_named};
use crate::recipe::{Part, Settings, SliceSource, WHOLE};

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
    /// Its module.
    part: &'a Part<'a>,
    /// Parameters of its slice.
    slice: Option<&'a Settings>,
    /// Its layer in the output.
    layer: Option<usize>,
}

/// A module of mergekit's multi-part architectures, and how its tensors' names begin.
const MODULES: [(&str, &[&str]); 8] = [
    ("vision_tower", &["vision_tower.", "model.vision_tower.", "visual.", "model.visual."]),
    ("vision_model", &["vision_model.", "model.vision_model."]),
    (
        "multi_modal_projector",
        &[
            "multi_modal_projector.",
            "model.multi_modal_projector.",
            "visual.merger.",
            "model.visual.merger.",
            "model.visual.deepstack_merger_list.",
        ],
    ),
    ("text_decoder", &["language_model.", "model.language_model."]),
    ("encoder", &["encoder.", "model.encoder."]),
    ("decoder", &["decoder.", "model.decoder."]),
    ("shared", &["shared."]),
    (WHOLE, &[]),
];

impl Merge {
    /// One job a tensor of the output, in the order of the first parent's files.
    pub(crate) fn lay_out(&mut self) {
        let recipe = Arc::clone(&self.recipe);
        let parts = recipe.parts();
        let first = parts.iter().find_map(Part::first_model).map(|model| self.parent(model));
        self.model = self.base().or(first).unwrap_or(0);
        let named: Vec<&str> = parts.iter().map(|part| part.name).collect();
        self.n_layers = 0;
        for part in &parts {
            if part.models.is_some() {
                self.lay_out_models(part, &named);
            } else {
                self.lay_out_slices(part, &named);
            }
        }
        let strays: BTreeSet<String> =
            self.parents[self.model].folder.tensors.keys().filter_map(|tensor| owner(tensor, &named).err()).collect();
        for module in strays {
            self.problem(format!("`modules` lack `{module}`, whose tensors would be lost; add it"));
        }
    }

    fn lay_out_models(&mut self, part: &Part<'_>, named: &[&str]) {
        let none = Settings::new();
        let mut sources: Vec<Source<'_>> = part
            .models
            .iter()
            .flat_map(|models| models.iter())
            .map(|input| Source { parent: self.parent(&input.model), layer: None, parameters: &input.parameters })
            .collect();
        let mut members: Vec<usize> = sources.iter().map(|source| source.parent).collect();
        if let Some(base) = self.base()
            && !members.contains(&base)
        {
            if self.method.base == Base::Equal {
                sources.push(Source { parent: base, layer: None, parameters: &none });
            }
            members.push(base);
        }
        let model = self.base().or(members.first().copied()).unwrap_or(0);
        let is_part = |name: &str| owner(name, named) == Ok(part.name);
        let mut names = self.names_of(model, is_part);
        names.extend(self.untie(model, &members, is_part));
        let n_layers = names.iter().filter_map(|name| layer_of(name)).map(|layer| layer + 1).max().unwrap_or(0);
        for name in &names {
            let layer = layer_of(name);
            let t = layer.map_or(0.0, |layer| if n_layers == 1 { 1.0 } else { layer as f64 / (n_layers - 1) as f64 });
            self.add(name, &Place { t, part, slice: None, layer }, &sources, &none);
        }
        self.set_layers(part.name, n_layers);
        self.check_same_names(model, &members, is_part);
    }

    fn lay_out_slices(&mut self, part: &Part<'_>, named: &[&str]) {
        let none = Settings::new();
        let slices = part.slices.unwrap_or_default();
        let (Some(first), Some(last)) = (slices.first(), slices.last()) else {
            return self.problem("expected at least one slice with a source".to_owned());
        };
        if let Some(at) = slices.iter().position(|slice| slice.sources.is_empty()) {
            return self.problem(format!("slices[{at}]: expected at least one source, got none"));
        }
        let model = self.base().unwrap_or_else(|| self.parent(&first.sources[0].model));
        // What is in no layer goes with the first slice or, behind the layers, with the last.
        let is_part = |name: &str| owner(name, named) == Ok(part.name) && layer_of(name).is_none();
        let mut names = self.names_of(model, is_part);
        let ends: Vec<usize> = last.sources.iter().map(|source| self.parent(&source.model)).collect();
        names.extend(self.untie(model, &ends, is_part));
        for name in names {
            let slice = if is_before_layers(&name) { first } else { last };
            let sources: Vec<Source<'_>> = slice.sources.iter().map(|source| self.source(source, None)).collect();
            self.add(&name, &Place { t: 0.0, part, slice: Some(&slice.parameters), layer: None }, &sources, &none);
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
                    .map(|source| self.source(source, Some(source.layer_range[0] + offset)))
                    .collect();
                let (parent, from) = (sources[0].parent, sources[0].layer.unwrap_or(0));
                let is_wanted = |name: &str| layer_of(name) == Some(from) && owner(name, named) == Ok(part.name);
                let names = self.names_of(parent, is_wanted);
                if names.is_empty() {
                    let name = &self.parents[parent].name;
                    self.problem(format!("slices[{at}]: `{name}` has no layer {from}"));
                }
                for name in names {
                    let name = with_layer(&name, out + offset);
                    let place = Place { t, part, slice: Some(&slice.parameters), layer: Some(out + offset) };
                    self.add(&name, &place, &sources, &none);
                }
            }
            out += n;
        }
        self.set_layers(part.name, out);
    }

    fn source<'a>(&self, source: &'a SliceSource, layer: Option<usize>) -> Source<'a> {
        Source { parent: self.parent(&source.model), layer, parameters: &source.parameters }
    }

    /// Notes how many layers a part of the output has; `config.json` states those of the text's.
    fn set_layers(&mut self, part: &str, n_layers: usize) {
        if [WHOLE, "text_decoder", "decoder"].contains(&part) {
            self.n_layers = n_layers;
            return;
        }
        let named = [part];
        let names = self.parents[self.model].folder.tensors.keys();
        let had = names.filter(|name| owner(name, &named) == Ok(part)).filter_map(|name| layer_of(name)).max();
        if had.map_or(0, |last| last + 1) != n_layers {
            self.warn(format!("module `{part}` has {n_layers} layers now; set its number in `config.json` by hand"));
        }
    }

    /// Names of a parent's tensors, in the order of its files.
    fn names_of(&self, parent: usize, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let tensors = &self.parents[parent].folder.tensors;
        let mut names: Vec<(&String, &Entry)> = tensors.iter().filter(|(name, _)| is_wanted(name)).collect();
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
            match self.parents[source.parent].tensor(&theirs) {
                Ok(entry) => found.push((source.parent, entry.clone())),
                Err(what) => return self.problem(what),
            }
        }
        let Some((first, entry)) = found.first().cloned() else { return };
        let rows = match self.rows(name, &found, self.base()) {
            Ok(rows) => rows,
            Err(what) => return self.problem(what),
        };
        let from = usize::from(rows.is_some());
        for (parent, other) in &found[1..] {
            if other.shape.get(from..) != entry.shape.get(from..) {
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
        if is_copy && rows.is_some() {
            return self.problem(format!("`{name}`: rows of {} cannot be moved", entry.dtype));
        }
        let mut shape = entry.shape.clone();
        if let (Some(rows), Some(side)) = (&rows, shape.first_mut()) {
            *side = rows.sources[0].len();
        }
        let dtype = if is_copy { entry.dtype } else { stated.unwrap_or(entry.dtype) };
        let args = self.args(name, place, &inputs);
        self.jobs.push(Job { name: name.to_owned(), dtype, shape, sources: found, args, is_copy, rows });
    }

    /// Values of the method's parameters for one tensor.
    fn args(&mut self, name: &str, place: &Place<'_>, inputs: &[&Source<'_>]) -> Args {
        let mut args = Args { each: vec![BTreeMap::new(); inputs.len()], ..Args::default() };
        let recipe = Arc::clone(&self.recipe);
        for arg in self.method.args {
            if arg.is_each {
                for (i, input) in inputs.iter().enumerate() {
                    let of_block = (arg.name == "weight").then(|| self.block_weight(place, input.parent)).flatten();
                    let layers = [Some(input.parameters), place.slice, place.part.parameters, Some(&recipe.parameters)];
                    let who = self.parents[input.parent].name.clone();
                    let value = of_block.or_else(|| look_up(arg, &layers, name, place.t));
                    self.set(arg, value, &mut args.each[i], &format!("`{who}`"));
                }
            } else {
                let mut layers: Vec<Option<&Settings>> = inputs.iter().map(|input| Some(input.parameters)).collect();
                layers.extend([place.slice, place.part.parameters, Some(&recipe.parameters)]);
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

    /// Heads of `members` that the model which lends the configuration lacks because it is tied. The output has a head of its own
    /// then, and so it does if that model has one on disk that its configuration hides.
    fn untie(&mut self, model: usize, members: &[usize], is_part: impl Fn(&str) -> bool) -> Vec<String> {
        let ours = &self.parents[model];
        if !ours.is_tied {
            return Vec::new();
        }
        let others = members.iter().map(|member| &self.parents[*member]).filter(|parent| !parent.is_tied);
        let names = others.flat_map(|parent| parent.folder.tensors.keys());
        let heads: BTreeSet<&String> = names.filter(|name| is_head(name) && is_part(name)).collect();
        let lacking = heads.iter().filter(|head| !ours.folder.tensors.contains_key(**head));
        let lacking = lacking.map(|head| (*head).clone()).collect();
        if !heads.is_empty() {
            self.is_untied = true;
            let name = self.parents[model].name.clone();
            self.warn(format!(
                "`{name}` ties its head to its embeddings and others do not; the output has a head of its own"
            ));
        }
        lacking
    }

    /// A tensor that only some models have is not left out in silence.
    fn check_same_names(&mut self, model: usize, members: &[usize], is_part: impl Fn(&str) -> bool) {
        let ours = &self.parents[model];
        let mut extra = Vec::new();
        for parent in members.iter().map(|member| &self.parents[*member]) {
            let names = parent.folder.tensors.keys().filter(|name| is_part(name));
            // Heads of tied models are copies of what is merged already.
            let is_spare = |name: &str| is_head(name) && ours.is_tied;
            let names = names.filter(|name| !ours.folder.tensors.contains_key(*name) && !is_spare(name));
            extra.extend(names.map(|name| format!("`{}` has tensor `{name}`, `{}` does not", parent.name, ours.name)));
        }
        for what in extra {
            self.problem(what);
        }
    }
}

const HEAD: &str = "lm_head.weight";

fn is_head(name: &str) -> bool {
    name.strip_suffix(HEAD).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl Parent {
    /// Its tensor `name`; of a tied model, the table of embeddings in place of a head it lacks.
    fn tensor(&self, name: &str) -> Result<&Entry, String> {
        let tensors = &self.folder.tensors;
        if let Some(entry) = tensors.get(name) {
            return Ok(entry);
        }
        let lacks = format!("`{}` has no tensor `{name}`", self.name);
        let Some(before) = name.strip_suffix(HEAD).filter(|_| is_head(name)) else {
            return Err(format!(
                "{lacks}, which others have; add it (a bias of zeros changes nothing) or take it out of them"
            ));
        };
        if !self.is_tied {
            return Err(format!("{lacks}, and its `config.json` does not say `tie_word_embeddings: true`"));
        }
        let tables = [
            format!("{before}model.embed_tokens.weight"),
            format!("{before}embed_tokens.weight"),
            format!("model.{before}embed_tokens.weight"),
            format!("{before}transformer.wte.weight"),
        ];
        let table = tables.iter().find_map(|table| tensors.get(table));
        table.ok_or_else(|| format!("{lacks}, is tied, and has no table of embeddings such as `{}`", tables[0]))
    }
}

/// Which of the modules `named` a tensor belongs to, or the name of the one it would.
///
/// The longest beginning decides, of those in [`MODULES`] and of names of modules themselves, as mergekit infers them; what
/// has none belongs to `default` or `text_decoder`, whichever is named. `default` takes what other modules do not.
fn owner<'a>(tensor: &str, named: &[&'a str]) -> std::result::Result<&'a str, String> {
    if let [only] = named
        && *only == WHOLE
    {
        return Ok(only);
    }
    let begins = |start: &str| tensor.starts_with(start).then_some(start.len());
    let known = MODULES.iter().filter_map(|(name, starts)| {
        starts.iter().filter_map(|start| begins(start)).max().map(|length| (length, *name))
    });
    let own = named.iter().filter(|name| tensor.starts_with(&format!("{name}."))).map(|name| (name.len() + 1, *name));
    let found = known.chain(own).max().map(|(_, name)| name);
    let pick = |wanted: &str| named.iter().find(|name| **name == wanted).copied();
    found
        .map_or_else(|| pick("text_decoder"), pick)
        .or_else(|| pick(WHOLE))
        .ok_or_else(|| found.unwrap_or("text_decoder").to_owned())
}

/// Whether a tensor in no layer stands before the layers: embeddings do; the final norm and the head do not.
fn is_before_layers(name: &str) -> bool {
    ["embed", "wte", "wpe"].iter().any(|part| name.contains(part))
}

/// The first layer of settings that has a value for the tensor.
fn look_up(arg: &Arg, layers: &[Option<&Settings>], name: &str, t: f64) -> Option<f64> {
    layers.iter().flatten().find_map(|settings| settings.get(arg.name)?.at(name, t))
}

fn with_layer(name: &str, layer: usize) -> String {
    split_layer(name).map_or_else(|| name.to_owned(), |(before, _, after)| format!("{before}{layer}{after}"))
}

fn dtypes(found: &[(usize, Entry)]) -> String {
    let all: BTreeSet<String> = found.iter().map(|(_, entry)| entry.dtype.to_string()).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}
