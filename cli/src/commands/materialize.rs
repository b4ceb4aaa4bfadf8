//! `tracker materialize`.

use std::path::Path;
use std::thread;

use tracker_store::{Durability, Holder, Known, Recipe, Recording, Store};

use super::artifact::{fresh, manifest_of, write};
use crate::failure::Answer;
use crate::parents::Parents;
use crate::printer::Printer;

/// Writes the files of a checkpoint, making those of a virtual one by its recipe.
pub fn materialize(
    dir: &Path,
    checkpoint: &str,
    out: &Path,
    workers: Option<usize>,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let out = fresh(out)?;
    let manifest = manifest_of(&store, checkpoint)?;
    let n_threads = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let Ok(recipe) = store.content::<Recipe>(manifest) else {
        return write(&store, manifest, &out, printer);
    };
    let merged = Parents::beside(&store, &out, n_threads).make(&recipe, &out)?;
    let mut recording = Recording::new();
    recording.put_known(Known { holder: Holder::Content(manifest), weights: merged.output.parse()? });
    store.commit(&recording, Durability::Os)?;
    if printer.is_json() {
        printer.json(&merged)?;
    }
    let is_checked = tracker_merge::Recipe::parse("the recipe", &recipe.text)?.output.is_some();
    let checked = if is_checked { "as its recipe says" } else { "and its recipe does not say which to expect" };
    printer.say(&format!("made {}: its weights have the digest {}, {checked}", out.display(), merged.output));
    Ok(Answer::Yes)
}
