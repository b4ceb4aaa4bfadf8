//! `tracker merge`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Serialize;
use tracker_merge::{Hash, Merge, Merged, Recipe, Summary};
use tracker_store::{Store, Timestamp};

use crate::ancestry::{Done, Recorded, find};
use crate::args::MergeArgs;
use crate::failure::{Answer, InputError};
use crate::parents::{Parents, Source, refuse_folder};
use crate::printer::Printer;
use crate::progress;

/// What is said of a merge that was done.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    merged: &'a Merged,
    #[serde(flatten)]
    recorded: Option<&'a Recorded>,
}

/// Merges by a recipe and records it, or says what would be done.
pub fn merge(dir: &Path, args: &MergeArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let name = args.recipe.display().to_string();
    let text = std::fs::read_to_string(&args.recipe)
        .map_err(|e| InputError { what: format!("recipe `{name}` cannot be read: {e}"), hint: None })?;
    let folder = args.recipe.parent().unwrap_or_else(|| Path::new(""));
    let recipe = Recipe::parse(&name, &text)?;
    let n_threads = args.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let mut store = there(dir, args, &recipe, folder)?;

    let mut sources = BTreeMap::new();
    for model in recipe.models() {
        sources.insert(model.to_owned(), Source::find(model, folder, store.as_ref())?);
    }
    let parents = store.as_ref().map(|store| match &args.out {
        Some(out) if !args.dry_run => Parents::beside(store, out, n_threads),
        _ => Parents::within(store, dir, n_threads),
    });
    let places = places(&sources, parents.as_ref(), args.dry_run)?;
    let opened = Timestamp::now();
    let mut merge = Merge::plan_at(recipe.clone(), &text, |model| places[model].clone())?;
    if let Some(out) = args.out.as_ref().filter(|_| args.dry_run) {
        merge.check_space(out);
    }
    let summary = merge.summary();
    if args.dry_run {
        return tell(&summary, printer);
    }
    merge.check()?;
    for warning in &summary.warnings {
        printer.say(&format!("note: {warning}"));
    }
    if let Some(store) = &store {
        know(store, &sources, &mut merge)?;
    }
    if args.is_virtual {
        // Before hours of work, not after them.
        let store = store.as_ref().ok_or_else(|| no_store(&sources))?;
        require_stored(store, &sources, &mut merge, n_threads)?;
    }
    if args.records() && store.is_none() {
        store = Some(Store::create(dir)?);
    }

    let bar = ProgressBar::with_draw_target(Some(summary.n_tensors as u64), progress::target(printer));
    let begun = Instant::now();
    let on_tensor = |done: usize, _: usize| bar.set_position(done as u64);
    let merged = match &args.out {
        Some(out) => merge.run(out, n_threads, &on_tensor)?,
        None => merge.digest(n_threads, &on_tensor)?,
    };
    bar.finish_and_clear();
    let label = args.label();
    let done = Done { label: &label, recipe: &recipe, merge: &merge, merged: &merged, sources: &sources, opened };
    let recorded = match store.as_ref().filter(|_| args.records()) {
        Some(store) => Some(done.record(store).with_context(|| match &args.out {
            Some(out) => format!("`{}` is whole, but could not be recorded", out.display()),
            None => "the merge could not be recorded".to_owned(),
        })?),
        None => None,
    };
    say(args, &merged, recorded.as_ref(), begun.elapsed().as_secs_f64(), printer)?;
    Ok(Answer::Yes)
}

/// The folder of each model; for a dry run, with the headers alone of what the store has.
fn places(
    sources: &BTreeMap<String, Source>,
    parents: Option<&Parents<'_>>,
    is_dry: bool,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let place = |(model, source): (&String, &Source)| {
        let folder = match (source, parents) {
            (Source::Folder(path), _) => path.clone(),
            (_, Some(parents)) if is_dry => parents.sketch(model, source)?,
            (_, Some(parents)) => parents.folder(source)?,
            (_, None) => PathBuf::from(model),
        };
        Ok((model.clone(), folder))
    };
    sources.iter().map(place).collect()
}

/// The store, if there is one and it is needed.
fn there(dir: &Path, args: &MergeArgs, recipe: &Recipe, folder: &Path) -> anyhow::Result<Option<Store>> {
    let is_named = recipe.models().iter().any(|model| !folder.join(model).exists());
    if !args.records() && !is_named {
        return Ok(None);
    }
    match Store::open(dir) {
        Ok(store) => Ok(Some(store)),
        Err(tracker_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes digests of parents that the store knows.
fn know(store: &Store, sources: &BTreeMap<String, Source>, merge: &mut Merge) -> anyhow::Result<()> {
    let mut known = Vec::new();
    for (model, folder) in merge.models() {
        if let Some(weights) = sources[model].known(store, folder)? {
            known.push((model.to_owned(), Hash::from_bytes(*weights.as_bytes())));
        }
    }
    for (model, weights) in known {
        merge.know(&model, weights);
    }
    Ok(())
}

/// Refuses folders whose weights the store does not have. Reads those it does not know, once.
fn require_stored(
    store: &Store,
    sources: &BTreeMap<String, Source>,
    merge: &mut Merge,
    n_threads: usize,
) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for (model, folder) in merge.models() {
        let source = &sources[model];
        let Source::Folder(path) = source else { continue };
        let weights = match source.known(store, folder)? {
            Some(known) => known,
            None => folder.weights(n_threads)?.into(),
        };
        let is_mixture = match find(store, weights)? {
            Some(node) => matches!(store.weights(node)?, tracker_store::Weights::Virtual { .. }),
            None => false,
        };
        if !is_mixture && store.version_with_weights(weights)?.is_none() {
            return Err(refuse_folder(model, path).into());
        }
        found.push((model.to_owned(), Hash::from_bytes(*weights.as_bytes())));
    }
    for (model, weights) in found {
        merge.know(&model, weights);
    }
    Ok(())
}

/// Why a virtual checkpoint cannot rest on folders where there is no store.
fn no_store(sources: &BTreeMap<String, Source>) -> InputError {
    let folder = sources.iter().find_map(|(model, source)| match source {
        Source::Folder(path) => Some(refuse_folder(model, path)),
        _ => None,
    });
    folder.unwrap_or_else(|| InputError { what: "there is no store".to_owned(), hint: None })
}

fn say(
    args: &MergeArgs,
    merged: &Merged,
    recorded: Option<&Recorded>,
    secs: f64,
    printer: &Printer,
) -> anyhow::Result<()> {
    if printer.is_json() {
        printer.json(&Said { merged, recorded })?;
        return Ok(());
    }
    let what = args.out.as_ref().map_or_else(|| "virtual".to_owned(), |out| out.display().to_string());
    printer.line(&format!("{what}  {} tensors, {} bytes, {secs:.1} s", merged.n_tensors, merged.n_bytes))?;
    printer.line(&format!("output        {}", merged.output))?;
    for (parent, digest) in &merged.parents {
        printer.line(&format!("parent        {digest}  {parent}"))?;
    }
    if let Some(recorded) = recorded {
        printer.line(&format!("checkpoint    {}", recorded.checkpoint))?;
        if recorded.run.is_none() {
            printer.say("the same merge is recorded already");
        }
    }
    if merged.n_kept > 0 {
        printer.say(&format!("{} tensors were whole from an earlier try", merged.n_kept));
    }
    Ok(())
}

/// Prints a plan. The answer is no if something stands in its way.
fn tell(summary: &Summary, printer: &Printer) -> anyhow::Result<Answer> {
    if printer.is_json() {
        printer.json(summary)?;
    } else {
        let Summary { method, parents, n_tensors, n_bytes, problems, warnings } = summary;
        printer.line(&format!("{method} of {}: {n_tensors} tensors, {n_bytes} bytes", parents.join(", ")))?;
        for warning in warnings {
            printer.line(&format!("note: {warning}"))?;
        }
        for problem in problems {
            printer.line(&format!("problem: {problem}"))?;
        }
    }
    Ok(if summary.problems.is_empty() { Answer::Yes } else { Answer::No })
}
