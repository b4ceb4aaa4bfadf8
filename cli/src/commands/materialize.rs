//! `tracker materialize`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;

use tracker_lab::parts::interpolate::{DIGEST_FILE, RECIPE, RECIPE_FILE};
use tracker_merge::{Merge, Recipe};
use tracker_store::{Digest, Kind, Manifest, Store};

use super::artifact::{fresh, manifest_of, write};
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Mixtures of mixtures are made one after the other down to this depth.
const MAX_DEPTH: usize = 16;

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
    if store.content::<Manifest>(manifest)?.kind != RECIPE {
        return write(&store, manifest, &out, printer);
    }
    let n_threads = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    // Parents are written beside the output, under a name that is nobody's, and taken away again.
    let name = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parents = Scratch(out.with_file_name(format!(".{name}.{}.parents", std::process::id())));
    let digest = make(&store, manifest, &out, &parents.0, n_threads, MAX_DEPTH)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({"folder": out, "weights": digest}))?;
    }
    printer.say(&format!("made {} by its recipe; its weights have the recorded digest {digest}", out.display()));
    Ok(Answer::Yes)
}

/// Makes a checkpoint by its recipe in `out`. Returns the digest of its weights, which is the recorded one.
fn make(
    store: &Store,
    manifest: Digest,
    out: &Path,
    parents: &Path,
    n_threads: usize,
    depth: usize,
) -> anyhow::Result<String> {
    let files: Manifest = store.content(manifest)?;
    let text = |path: &str| -> anyhow::Result<String> {
        let file = files.file(path).ok_or_else(|| InputError {
            what: format!("recipe {manifest} has no file `{path}`"),
            hint: Some("it was not written by this program; `tracker artifact get` writes out what there is".into()),
        })?;
        Ok(String::from_utf8_lossy(&store.read_file(file.digest)?).into_owned())
    };
    let (text, expected) = (text(RECIPE_FILE)?, text(DIGEST_FILE)?);
    let expected = expected.trim();
    let recipe = Recipe::parse(&format!("recipe {manifest}"), &text)?;
    if depth == 0 {
        let what = format!("recipe {manifest} rests on recipes more than {MAX_DEPTH} deep");
        return Err(InputError { what, hint: None }.into());
    }
    std::fs::create_dir_all(parents)?;
    let models = recipe.models.iter().flatten().map(|input| input.model.path());
    for parent in models.collect::<BTreeSet<_>>() {
        let place = parents.join(parent);
        if place.exists() {
            continue;
        }
        let of_parent = parent_of(store, manifest, parent)?;
        if store.content::<Manifest>(of_parent)?.kind == RECIPE {
            make(store, of_parent, &place, parents, n_threads, depth - 1)?;
        } else {
            store.export_artifact(of_parent, &place)?;
        }
    }
    let merged = Merge::plan(recipe, &text, parents)?.run(out, n_threads, &|_, _| ())?;
    if merged.output != expected {
        drop(std::fs::remove_dir_all(out));
        anyhow::bail!(
            "the recipe made weights with the digest {}, and {expected} is recorded; what it made is removed again",
            merged.output
        );
    }
    Ok(merged.output)
}

/// The files of a parent, which a recipe names by its node.
fn parent_of(store: &Store, recipe: Digest, parent: &str) -> anyhow::Result<Digest> {
    let gone = || InputError {
        what: format!("recipe {recipe} is made of `{parent}`, which this store does not have"),
        hint: Some("it was removed, or the recipe comes from another store".into()),
    };
    let node = store.resolve(parent).map_err(|_| gone())?;
    let digest = node.digest().filter(|_| node.kind() == Kind::Checkpoint).ok_or_else(gone)?;
    Ok(store.content::<tracker_store::Checkpoint>(digest)?.manifest)
}

/// A folder that goes with its guard.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
