//! Tokenizers that differ: one vocabulary for the output, and the row of each of its tokens in every model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::folder::{Entry, Folder};
use crate::plan::Merge;
use crate::recipe::{ModelRef, SpecialSource, TokenSource, TokenizerRecipe};

/// The endings of names of tensors that have a row for each token.
const ROWS_ARE_TOKENS: [&str; 8] = [
    "embed_tokens.weight",
    "lm_head.weight",
    "lm_head.bias",
    "wte.weight",
    "embed_in.weight",
    "embed_out.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
];

/// The vocabulary of the output.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Numbers of its tokens.
    ids: BTreeMap<String, usize>,
    /// Rows of its embeddings.
    pub(crate) n_rows: usize,
    /// What its `tokenizer.json` is where it is no model's.
    pub(crate) json: Option<Value>,
    /// Numbers of each parent's tokens.
    models: Vec<Arc<BTreeMap<String, usize>>>,
    recipe: TokenizerRecipe,
}

/// What a row of the output is made of for one model.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// A row of a source, by the source's place among the tensor's.
    Of(usize, usize),
    /// The mean of such rows.
    Mean(Arc<[(usize, usize)]>),
    Zero,
    /// The mean of all rows that are not this.
    Pad,
}

/// Rows of a tensor of the output, of each of its sources.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Elements of a row.
    pub(crate) width: usize,
    pub(crate) sources: Vec<Vec<Row>>,
}

/// A `tokenizer.json`.
struct Tokenizer {
    json: Value,
    ids: BTreeMap<String, usize>,
    /// Tokens of its model proper.
    n_own: usize,
}

impl Merge {
    /// Settles the vocabulary where the recipe asks for one and models differ in theirs, or it states a `tokenizer`.
    pub(crate) fn settle_vocabulary(&mut self) -> Result<()> {
        let asked = match (&self.recipe.tokenizer, &self.recipe.tokenizer_source) {
            (Some(asked), _) => asked.clone(),
            (None, Some(source)) => {
                TokenizerRecipe { source: source.clone(), tokens: BTreeMap::new(), pad_to_multiple_of: None }
            }
            (None, None) => return Ok(()),
        };
        let base = self.base().unwrap_or(0);
        let giver = match asked.source.path() {
            "base" | "union" => base,
            _ => self.parent(&asked.source),
        };
        let mut tokenizers = Vec::new();
        for parent in &self.parents {
            tokenizers.push(Tokenizer::read(&parent.folder.dir)?);
        }
        self.tokenizer = giver;
        let (Some(base_ids), Some(given)) = (&tokenizers[base], &tokenizers[giver]) else {
            let lacking = if tokenizers[base].is_none() { base } else { giver };
            if self.recipe.tokenizer.is_none() && asked.source.path() != "union" {
                let name = &self.parents[lacking].name;
                let warning = format!("`{name}` has no `tokenizer.json`; vocabularies are not compared");
                self.warn(warning);
                return Ok(());
            }
            let name = self.parents[lacking].name.clone();
            self.problem(format!("`{name}` has no `tokenizer.json`, which `tokenizer` needs"));
            return Ok(());
        };
        let base_ids = Arc::new(base_ids.ids.clone());
        let mut models = Vec::new();
        for (parent, tokenizer) in tokenizers.iter().enumerate() {
            models.push(match tokenizer {
                Some(tokenizer) => Arc::new(tokenizer.ids.clone()),
                None => Arc::clone(&base_ids),
            });
            if tokenizer.is_none() {
                let (name, base) = (&self.parents[parent].name, &self.parents[base].name);
                let warning = format!("`{name}` has no `tokenizer.json`; its tokens are taken for those of `{base}`");
                self.warn(warning);
            }
        }
        if self.recipe.tokenizer.is_none() && models.iter().all(|ids| **ids == given.ids) {
            return Ok(());
        }
        let mut out = Growing { ids: given.ids.clone(), next: given.next(), new: Vec::new() };
        if asked.source.path() == "union" {
            self.unite(&tokenizers, &mut out);
        }
        for token in asked.tokens.keys() {
            out.add(token, &plain(token));
        }
        let json = (!out.new.is_empty()).then(|| with_tokens(&given.json, &out.new));
        let n = out.ids.values().max().map_or(0, |last| last + 1);
        let n_rows = n.next_multiple_of(asked.pad_to_multiple_of.unwrap_or(1));
        let mut wanted = Vec::new();
        for (token, recipe) in &asked.tokens {
            if let Some(TokenSource::Model(model) | TokenSource::Special(SpecialSource { model: Some(model), .. })) =
                &recipe.source
            {
                wanted.push((token, model));
            }
        }
        for (token, model) in wanted {
            if !self.parents.iter().any(|parent| parent.name == model.path()) {
                self.problem(format!("token `{token}`: `{}` is none of the models", model.path()));
            }
        }
        self.vocabulary = Some(Vocabulary { ids: out.ids, n_rows, json, models, recipe: asked });
        Ok(())
    }

    /// Adds tokens of every model: plain ones of all, then added ones of all, each in the order of its model's numbers.
    fn unite(&self, tokenizers: &[Option<Tokenizer>], out: &mut Growing) {
        for is_added in [false, true] {
            for (parent, tokenizer) in self.parents.iter().zip(tokenizers) {
                let Some(tokenizer) = tokenizer else { continue };
                let n_rows = n_rows(&parent.folder).unwrap_or(usize::MAX);
                let added: BTreeMap<&str, &Value> = tokenizer.added().collect();
                let mut tokens: Vec<(usize, &String)> = tokenizer.ids.iter().map(|(token, id)| (*id, token)).collect();
                tokens.sort_unstable();
                for (_, token) in tokens.into_iter().filter(|(id, _)| *id < n_rows) {
                    match added.get(token.as_str()) {
                        Some(entry) if is_added => out.add(token, entry),
                        None if !is_added => out.add(token, &plain(token)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// The rows of a tensor that has one for each token; none for another.
    pub(crate) fn rows(
        &self,
        name: &str,
        found: &[(usize, Entry)],
        base: Option<usize>,
    ) -> std::result::Result<Option<Rows>, String> {
        let Some(vocabulary) = self.vocabulary.as_ref().filter(|_| is_by_token(name)) else { return Ok(None) };
        let Some((_, entry)) = found.first().filter(|(_, entry)| !entry.shape.is_empty()) else { return Ok(None) };
        let width = entry.shape[1..].iter().product();
        let row_in = |source: usize, token: &str| {
            let (parent, entry) = &found[source];
            vocabulary.models[*parent].get(token).copied().filter(|id| *id < entry.shape[0])
        };
        let base = base.and_then(|base| found.iter().position(|(parent, _)| *parent == base));
        let mut sources = vec![vec![Row::Pad; vocabulary.n_rows]; found.len()];
        for (token, id) in &vocabulary.ids {
            let owners: Vec<(usize, usize)> =
                (0..found.len()).filter_map(|source| Some((source, row_in(source, token)?))).collect();
            let asked = vocabulary.recipe.tokens.get(token);
            let is_forced = asked.is_some_and(|asked| asked.force);
            let other = if owners.len() == found.len() && !is_forced {
                Row::Zero
            } else if let Some(asked) = asked {
                self.asked(token, asked.source.as_ref(), found, &row_in)
                    .map_err(|what| format!("`{name}`, token `{token}`: {what}"))?
            } else {
                match (owners.as_slice(), base.and_then(|base| Some((base, row_in(base, token)?)))) {
                    ([], _) => Row::Zero,
                    ([(source, row)], _) => Row::Of(*source, *row),
                    (_, Some((base, row))) => Row::Of(base, row),
                    (several, None) => Row::Mean(several.into()),
                }
            };
            for (source, rows) in sources.iter_mut().enumerate() {
                rows[*id] = match owners.iter().find(|(owner, _)| *owner == source) {
                    Some((_, row)) if !is_forced => Row::Of(source, *row),
                    _ => other.clone(),
                };
            }
        }
        Ok(Some(Rows { width, sources }))
    }

    /// The row that a recipe asks for.
    fn asked(
        &self,
        token: &str,
        source: Option<&TokenSource>,
        found: &[(usize, Entry)],
        row_in: &impl Fn(usize, &str) -> Option<usize>,
    ) -> std::result::Result<Row, String> {
        let place = |model: &ModelRef| {
            let at = found.iter().position(|(parent, _)| self.parents[*parent].name == model.path());
            at.ok_or_else(|| format!("`{}` takes no part in this tensor", model.path()))
        };
        let of = |source: usize, token: &str| {
            row_in(source, token)
                .map(|row| Row::Of(source, row))
                .ok_or_else(|| format!("`{}` has no token `{token}`", self.parents[found[source].0].name))
        };
        match source {
            None => Err("some model lacks it, and `source` does not say what it gets".to_owned()),
            Some(TokenSource::Model(model)) => of(place(model)?, token),
            Some(TokenSource::Special(special)) => {
                match (special.kind.as_str(), &special.model, special.token_id, &special.token) {
                    ("zero", None, None, None) => Ok(Row::Zero),
                    ("model_token", Some(model), None, Some(token)) => of(place(model)?, token),
                    ("model_token", Some(model), Some(id), None) => {
                        let at = place(model)?;
                        let n = found[at].1.shape[0];
                        if id < n { Ok(Row::Of(at, id)) } else { Err(format!("expected a token below {n}, got {id}")) }
                    }
                    _ => Err(
                        "expected `kind: zero`, or `kind: model_token` with `model` and one of `token` and `token_id`"
                            .to_owned(),
                    ),
                }
            }
        }
    }
}

/// A vocabulary that tokens are added to.
struct Growing {
    ids: BTreeMap<String, usize>,
    next: usize,
    new: Vec<Value>,
}

impl Vocabulary {
    /// What names it and the numbers of the parents' tokens.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for ids in self.models.iter().map(|ids| &**ids).chain([&self.ids]) {
            for (token, id) in ids {
                hasher.update(token.as_bytes()).update(&[0]).update(&(*id as u64).to_le_bytes());
            }
            hasher.update(&[1]);
        }
        *hasher.finalize().as_bytes()
    }
}

impl Growing {
    /// Adds a token that is not there; `entry` is how `tokenizer.json` states it.
    fn add(&mut self, token: &str, entry: &Value) {
        if self.ids.contains_key(token) {
            return;
        }
        let mut entry = entry.clone();
        entry["id"] = json!(self.next);
        self.new.push(entry);
        self.ids.insert(token.to_owned(), self.next);
        self.next += 1;
    }
}

impl Tokenizer {
    fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::damaged(&path, e.to_string()))?;
        let mut ids = BTreeMap::new();
        match json.pointer("/model/vocab") {
            Some(Value::Object(vocab)) => {
                for (token, id) in vocab {
                    let id = id.as_u64().ok_or_else(|| {
                        Error::damaged(&path, format!("token `{token}`: expected a number, got {id}"))
                    })?;
                    ids.insert(token.clone(), id as usize);
                }
            }
            // Unigram: pairs of token and score.
            Some(Value::Array(vocab)) => {
                let token = |entry: &Value| entry.get(0).and_then(Value::as_str).map(str::to_owned);
                ids.extend(vocab.iter().enumerate().filter_map(|(id, entry)| Some((token(entry)?, id))));
            }
            _ => return Err(Error::damaged(&path, "expected `model.vocab`, got none")),
        }
        let n_own = ids.len();
        let mut tokenizer = Self { json, ids, n_own };
        let added: Vec<(String, usize)> = tokenizer
            .added()
            .filter_map(|(token, entry)| Some((token.to_owned(), entry.get("id")?.as_u64()? as usize)))
            .collect();
        tokenizer.ids.extend(added);
        let ids: BTreeSet<usize> = tokenizer.ids.values().copied().collect();
        if ids.len() != tokenizer.ids.len() || ids.last().is_some_and(|last| *last >= MAX_TOKENS) {
            return Err(Error::damaged(&path, format!("expected tokens with numbers of their own below {MAX_TOKENS}")));
        }
        Ok(Some(tokenizer))
    }

    /// Its added tokens.
    fn added(&self) -> impl Iterator<Item = (&str, &Value)> {
        let added = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        added.filter_map(|entry| Some((entry.get("content")?.as_str()?, entry)))
    }

    /// The number of the next added token.
    fn next(&self) -> usize {
        let added = self.added().filter_map(|(_, entry)| entry.get("id")?.as_u64());
        added.max().map_or(0, |last| last as usize + 1).max(self.n_own)
    }
}

/// Beyond this a number of a token is taken for damage.
const MAX_TOKENS: usize = 1 << 28;

/// How `tokenizer.json` states a token that was added with no wish.
fn plain(token: &str) -> Value {
    json!({"id": 0, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false})
}

/// A `tokenizer.json` with more added tokens.
fn with_tokens(json: &Value, new: &[Value]) -> Value {
    let mut json = json.clone();
    let mut all = json.get("added_tokens").and_then(Value::as_array).cloned().unwrap_or_default();
    all.extend(new.iter().cloned());
    json["added_tokens"] = Value::Array(all);
    json
}

fn is_by_token(name: &str) -> bool {
    ROWS_ARE_TOKENS.iter().any(|end| name == *end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
}

/// Rows of a model's embeddings.
fn n_rows(checkpoint: &Folder) -> Option<usize> {
    let tables = checkpoint.tensors.iter().filter(|(name, _)| is_by_token(name));
    tables.filter_map(|(_, entry)| entry.shape.first().copied()).max()
}
