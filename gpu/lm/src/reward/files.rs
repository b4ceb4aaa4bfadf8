//! A head in files: `head.json` (kind, width, outputs, digests) and `head.safetensors` (its tensors, f32).
//!
//! Reading holds both to each other and to the trunk they lie beside: every tensor the kind implies must be there in its
//! shape, finite, and no other; the digests of the head and of the trunk must be those that were written.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::head::{Head, HeadKind};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::lm::Lm;

const ABOUT: &str = "head.json";
const WEIGHTS: &str = "head.safetensors";
const FORMAT: u64 = 1;

fn malformed(name: &str) -> impl Fn(String) -> Error {
    move |detail| Error::Malformed { name: name.to_owned(), detail }
}

/// A digest as files hold it.
pub(super) fn hex(digest: [u8; 32]) -> String {
    blake3::Hash::from_bytes(digest).to_hex().to_string()
}

/// The two files of a head that was trained with `trunk`.
pub(super) fn files(trunk: &Lm, head: &Head) -> Result<Vec<(String, Vec<u8>)>> {
    let mut about = head.kind.to_json();
    about.insert("format".to_owned(), json!(FORMAT));
    about.insert("hidden_size".to_owned(), json!(trunk.config().hidden_size));
    about.insert("trunk".to_owned(), json!(hex(trunk.weights_digest())));
    about.insert("head".to_owned(), json!(hex(head.digest())));
    if let Some(ids) = head.tokens() {
        about.insert("tokens".to_owned(), json!(ids.map(|id| trunk.tokenizer().token(id))));
    }
    let failed = |error: safetensors::SafeTensorError| malformed(WEIGHTS)(error.to_string());
    let mut views = Vec::with_capacity(head.slots.len());
    for slot in head.slots.iter() {
        let bytes = bytemuck::cast_slice(&head.data[slot.at.clone()]);
        views.push((slot.name.as_str(), TensorView::new(Dtype::F32, slot.shape.clone(), bytes).map_err(failed)?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::serialize(views, Some(metadata)).map_err(failed)?;
    let about = format!("{:#}\n", Value::Object(about)).into_bytes();
    Ok(vec![(ABOUT.to_owned(), about), (WEIGHTS.to_owned(), weights)])
}

/// Reads the head that lies beside `trunk`.
pub(super) fn read<'a>(trunk: &Lm, file: impl Fn(&str) -> Result<Option<Cow<'a, [u8]>>>) -> Result<Head> {
    let need = |name: &str| file(name)?.ok_or_else(|| Error::NoFile { name: name.to_owned() });
    let about = About::parse(&need(ABOUT)?)?;
    let hidden_size = trunk.config().hidden_size as u64;
    if about.hidden_size != hidden_size {
        return Err(malformed(ABOUT)(format!(
            "expected `hidden_size` {hidden_size}, as wide as the trunk, got {}",
            about.hidden_size
        )));
    }
    let got = hex(trunk.weights_digest());
    if about.trunk != got {
        return Err(Error::Trunk { expected: about.trunk, got });
    }
    let head = fill(&Head::empty(about.kind, trunk.config())?, &need(WEIGHTS)?)?;
    let tokens = head.tokens().map(|ids| json!(ids.map(|id| trunk.tokenizer().token(id))));
    if tokens != about.tokens {
        let text = |tokens: Option<Value>| tokens.map_or("none".to_owned(), |tokens| tokens.to_string());
        let (expected, got) = (text(about.tokens), text(tokens));
        return Err(malformed(ABOUT)(format!("expected tokens {expected}, the tokenizer has {got}")));
    }
    let digest = hex(head.digest());
    if about.head != digest {
        let detail = format!("expected tensors and kind with the digest `{}`, got `{digest}`", about.head);
        return Err(malformed(WEIGHTS)(detail));
    }
    Ok(head)
}

/// What `head.json` says.
struct About {
    kind: HeadKind,
    hidden_size: u64,
    trunk: String,
    head: String,
    tokens: Option<Value>,
}

impl About {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = malformed(ABOUT);
        let value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let Value::Object(mut map) = value else {
            return Err(wrong("expected an object".to_owned()));
        };
        let format = number(&mut map, "format")?;
        if format != FORMAT {
            return Err(wrong(format!("expected `format` {FORMAT}, got {format}")));
        }
        let id = |map: &mut Map<String, Value>, key: &str| {
            let id = number(map, key)?;
            u32::try_from(id).map_err(|_| wrong(format!("expected an id at `{key}`, got {id}")))
        };
        let kind = match text(&mut map, "kind")?.as_str() {
            "linear" => HeadKind::Linear { outputs: names(&mut map)? },
            "mlp" => {
                let hidden = number(&mut map, "hidden")?;
                let hidden = usize::try_from(hidden).map_err(|_| wrong(format!("`hidden` {hidden} is too large")))?;
                HeadKind::Mlp { hidden, outputs: names(&mut map)? }
            }
            "two_token" => HeadKind::TwoToken { plus: id(&mut map, "plus")?, minus: id(&mut map, "minus")? },
            other => return Err(wrong(format!("expected `linear`, `mlp` or `two_token` at `kind`, got `{other}`"))),
        };
        let about = Self {
            kind,
            hidden_size: number(&mut map, "hidden_size")?,
            trunk: text(&mut map, "trunk")?,
            head: text(&mut map, "head")?,
            tokens: map.remove("tokens"),
        };
        match map.keys().next() {
            Some(key) => Err(wrong(format!("unexpected key `{key}`"))),
            None => Ok(about),
        }
    }
}

fn take(map: &mut Map<String, Value>, key: &str) -> Result<Value> {
    map.remove(key).ok_or_else(|| malformed(ABOUT)(format!("expected a key `{key}`, found none")))
}

fn number(map: &mut Map<String, Value>, key: &str) -> Result<u64> {
    let value = take(map, key)?;
    value.as_u64().ok_or_else(|| malformed(ABOUT)(format!("expected a whole number at `{key}`, got `{value}`")))
}

fn text(map: &mut Map<String, Value>, key: &str) -> Result<String> {
    match take(map, key)? {
        Value::String(text) => Ok(text),
        other => Err(malformed(ABOUT)(format!("expected a text at `{key}`, got `{other}`"))),
    }
}

fn names(map: &mut Map<String, Value>) -> Result<Vec<String>> {
    let value = take(map, "outputs")?;
    let names = value.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| malformed(ABOUT)(format!("expected a list of names at `outputs`, got `{value}`")))
}

/// The head with the tensors of a file.
fn fill(head: &Head, bytes: &[u8]) -> Result<Head> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| malformed(WEIGHTS)(error.to_string()))?;
    let mut unexpected: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
    unexpected.retain(|name| head.slots.iter().all(|slot| slot.name != *name));
    unexpected.sort_unstable();
    let mut missing = Vec::new();
    let mut data = vec![0.0; head.data.len()];
    for slot in head.slots.iter() {
        let Ok(view) = tensors.tensor(&slot.name) else {
            missing.push(slot.name.clone());
            continue;
        };
        let values = &mut data[slot.at.clone()];
        checkpoint::copy(slot, &view, values)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (expected, got) = ("finite numbers".to_owned(), format!("{} at {at}", values[at]));
            return Err(Error::Tensor { name: slot.name.clone(), expected, got });
        }
    }
    if missing.is_empty() && unexpected.is_empty() {
        Ok(head.with_data(data))
    } else {
        Err(Error::Tensors { missing, unexpected })
    }
}
