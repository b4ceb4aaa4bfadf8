//! `tracker materialize`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;

use tracker_merge::{Merge, Merged};
use tracker_store::{NodeId, Recipe, Store, Weights};

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
    let Ok(recipe) = store.content::<Recipe>(manifest) else {
        return write(&store, manifest, &out, printer);
    };
    let n_threads = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    // Parents are written beside the output, under a name that is nobody's, and taken away again.
    let name = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parents = Scratch(out.with_file_name(format!(".{name}.{}.parents", std::process::id())));
    let merged = make(&store, &recipe, &out, &parents.0, n_threads, MAX_DEPTH)?;
    if printer.is_json() {
        printer.json(&merged)?;
    }
    let is_checked = tracker_merge::Recipe::parse("the recipe", &recipe.text)?.output.is_some();
    let checked = if is_checked { "as its recipe says" } else { "and its recipe does not say which to expect" };
    printer.say(&format!("made {}: its weights have the digest {}, {checked}", out.display(), merged.output));
    Ok(Answer::Yes)
}

/// Makes a checkpoint by its recipe in `out`, from its parents, which are put into the folder `parents` first.
fn make(
    store: &Store,
    recipe: &Recipe,
    out: &Path,
    parents: &Path,
    n_threads: usize,
    depth: usize,
) -> anyhow::Result<Merged> {
    let name = format!("recipe of `{}`", out.display());
    if depth == 0 {
        let what = format!("{name}: it rests on recipes more than {MAX_DEPTH} deep");
        return Err(InputError { what, hint: None }.into());
    }
    std::fs::create_dir_all(parents)?;
    for parent in recipe.parents.iter().collect::<BTreeSet<_>>() {
        // The recipe calls a parent by its node, and so is its folder called.
        let place = parents.join(parent.to_string());
        if place.exists() {
            continue;
        }
        match store.weights(*parent).map_err(|_| gone(*parent))? {
            Weights::Virtual { recipe, .. } => drop(make(store, &recipe, &place, parents, n_threads, depth - 1)?),
            Weights::Files(files) => match store.export_artifact(files, &place) {
                Err(tracker_store::Error::NotFound { .. }) => return Err(gone(*parent).into()),
                written => drop(written?),
            },
        }
    }
    let parsed = tracker_merge::Recipe::parse(&name, &recipe.text)?;
    Ok(Merge::plan(parsed, &recipe.text, parents)?.run(out, n_threads, &|_, _| ())?)
}

fn gone(parent: NodeId) -> InputError {
    InputError {
        what: format!("the recipe is made of `{parent}`, whose files this store does not have"),
        hint: Some("they were removed and collected, or the recipe comes from another store".into()),
    }
}

/// A folder that goes with its guard.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
