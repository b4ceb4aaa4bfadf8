//! `tracker artifact put|get|ls`.

use std::path::{Path, PathBuf};

use tracker_merge::Folder;
use tracker_store::{Digest, Durability, Holder, Kind, Known, Recipe, Recording, Store, Timestamp, Version, Weights};

use crate::args::Artifact;
use crate::failure::{Answer, InputError};
use crate::parents;
use crate::printer::Printer;

/// Runs one of them.
pub fn artifact(dir: &Path, command: &Artifact, printer: &Printer) -> anyhow::Result<Answer> {
    match command {
        Artifact::Put { name, path, aliases, based_on } => put(dir, name, path, aliases, based_on.as_deref(), printer),
        Artifact::Rm { name, force } => rm(&Store::open(dir)?, name, *force, printer),
        Artifact::Get { name, out } => get(&Store::open(dir)?, name, out, printer),
        Artifact::Ls { name } => ls(&Store::open(dir)?, name.as_deref(), printer),
    }
}

fn put(
    dir: &Path,
    name: &str,
    path: &Path,
    aliases: &[String],
    based_on: Option<&str>,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    if !path.exists() {
        return Err(InputError { what: format!("`{}` is not there", path.display()), hint: None }.into());
    }
    let store = Store::create(dir)?;
    let mut draft = store.draft("files")?;
    match based_on {
        Some(base) => draft.based_on(store.artifact(base)?.manifest)?,
        None => {
            if let Some(last) = store.versions(name)?.last() {
                draft.based_on(last.manifest)?;
            }
        }
    }
    let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    draft.add_from(if path.is_dir() { "" } else { &file_name }, path)?;
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    let version = draft.save(name, &aliases, None)?;
    note_weights(&store, path, &version)?;
    line(&store, &version, printer)
}

/// Notes which weights a version has, if its files are those of a model: merges of the folder find the version by them.
fn note_weights(store: &Store, path: &Path, version: &Version) -> anyhow::Result<()> {
    let opened = Timestamp::now();
    // What is no folder of weights is an artifact all the same.
    let Ok(folder) = Folder::open(path) else { return Ok(()) };
    let (here, there) = (Holder::Content(version.manifest), parents::holder(&folder)?);
    let (known, is_settled) = (store.known_weights(there)?, parents::is_settled(&folder, opened));
    if known.is_some() && store.known_weights(here)? == known {
        return Ok(());
    }
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let weights = folder.weights(n_threads)?.into();
    let mut recording = Recording::new();
    recording.put_known(Known { holder: here, weights });
    if is_settled {
        recording.put_known(Known { holder: there, weights });
    }
    Ok(store.commit(&recording, Durability::Os)?)
}

/// Writes an artifact, or the files of a checkpoint, to a folder that is not there yet.
fn get(store: &Store, name: &str, out: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    let out = fresh(out)?;
    let manifest = manifest_of(store, name)?;
    if store.content::<Recipe>(manifest).is_ok() {
        let what = format!("`{name}` has no files: it is stored as the recipe that makes them");
        let hint = format!("tracker materialize \"{name}\" {}", out.display());
        return Err(InputError { what, hint: Some(hint) }.into());
    }
    write(store, manifest, &out, printer)
}

/// A path without the slash that completion puts after a folder, if nothing is there yet.
pub fn fresh(out: &Path) -> anyhow::Result<PathBuf> {
    let out: PathBuf = out.components().collect();
    if out.exists() {
        let what = format!("expected `{}` not to be there yet", out.display());
        return Err(InputError { what, hint: Some("name another folder".into()) }.into());
    }
    Ok(out)
}

/// The manifest of an artifact, by its name or that of a checkpoint; of a virtual checkpoint, the digest of its recipe.
pub fn manifest_of(store: &Store, name: &str) -> anyhow::Result<Digest> {
    match store.artifact(name) {
        Ok(version) => Ok(version.manifest),
        // Not the name of an artifact: perhaps a checkpoint's digest or `checkpoint:label`.
        Err(not_found) => {
            let node = store.resolve(name).map_err(|error| match error {
                tracker_store::Error::Ambiguous { .. } => error,
                _ => not_found,
            })?;
            let digest = node.digest().ok_or_else(|| InputError {
                what: format!("{} `{node}` has no files", node.kind().name()),
                hint: None,
            })?;
            if node.kind() != Kind::Checkpoint {
                return Ok(digest);
            }
            match store.weights(node)? {
                Weights::Files(manifest) => Ok(manifest),
                Weights::Elsewhere(weights) => parents::elsewhere(store, node, weights),
                Weights::Virtual { .. } => Ok(parents::checkpoint(store, node)?.manifest),
            }
        }
    }
}

/// Writes the files of a manifest to the folder `out`, and says so.
pub fn write(store: &Store, manifest: Digest, out: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    // The folder appears whole: it is written beside its place first, under a name that is nobody's.
    let name = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let beside = out.with_file_name(format!(".{name}.{}.part", std::process::id()));
    std::fs::create_dir(&beside).map_err(|e| InputError {
        what: format!("cannot make a folder for `{}`: {e}", out.display()),
        hint: Some("does the folder around it exist, and may you write there?".into()),
    })?;
    let written = store.export_artifact(manifest, &beside);
    if written.is_err() {
        drop(std::fs::remove_dir_all(&beside));
    }
    let manifest = written?;
    std::fs::rename(&beside, out)?;
    if printer.is_json() {
        printer.json(&serde_json::json!({"folder": out, "files": manifest.files, "n_bytes": manifest.n_bytes()}))?;
    }
    printer.say(&format!("wrote {} files, {} bytes to {}", manifest.files.len(), manifest.n_bytes(), out.display()));
    Ok(Answer::Yes)
}

/// Removes a version by its number, or an alias by its name.
fn rm(store: &Store, name: &str, force: bool, printer: &Printer) -> anyhow::Result<Answer> {
    let parts = name.rsplit_once(':').filter(|(_, which)| !which.is_empty());
    let (artifact, which) = parts.ok_or_else(|| InputError {
        what: format!("expected a version `NAME:vN` or an alias `NAME:ALIAS`, got `{name}`"),
        hint: Some("`tracker artifact ls NAME` lists them".into()),
    })?;
    let is_number = which.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    if is_number {
        let version = store.artifact(name)?;
        if !force && let Some(front) = store.front_that_needs(&version)? {
            return Err(InputError {
                what: format!("`{name}` is needed by {front}: a point of it, or what one was made from"),
                hint: Some("--force removes it all the same; what is made from it cannot be made again then".into()),
            }
            .into());
        }
        store.remove_version(&version, force)?;
    } else {
        store.remove_alias(artifact, which)?;
    }
    printer.say(&format!("removed {name}; `tracker gc` frees what nothing else needs"));
    Ok(Answer::Yes)
}

fn ls(store: &Store, name: Option<&str>, printer: &Printer) -> anyhow::Result<Answer> {
    let versions = match name {
        Some(name) => {
            // Says what there is if there is no such artifact.
            store.artifact(name)?;
            store.versions(name)?
        }
        None => store.artifacts()?,
    };
    if printer.is_json() {
        for version in &versions {
            printer.json(version)?;
        }
        return Ok(Answer::Yes);
    }
    let mut rows = Vec::with_capacity(versions.len());
    for version in &versions {
        let manifest = store.manifest(version)?;
        let files = format!("{} files", manifest.files.len());
        rows.push(vec![
            format!("{}:v{}", version.name, version.number),
            manifest.kind.clone(),
            files,
            manifest.n_bytes().to_string(),
            version.created.to_string(),
            version.manifest.to_string(),
        ]);
    }
    printer.table(&["ARTIFACT", "KIND", "FILES", "BYTES", "CREATED", "DIGEST"], rows)?;
    Ok(Answer::Yes)
}

fn line(store: &Store, version: &Version, printer: &Printer) -> anyhow::Result<Answer> {
    if printer.is_json() {
        printer.json(version)?;
    } else {
        let n_bytes = store.manifest(version)?.n_bytes();
        printer.line(&format!("{}:v{}  {n_bytes} bytes  {}", version.name, version.number, version.manifest))?;
    }
    Ok(Answer::Yes)
}
