//! Runs that were logged from outside: what a client said of them, where a study has stages and figures.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracker_store::{Run, RunId, Series, Store, Value as Cell};

use crate::printer::{Printer, number, shortened};

/// Characters of a param or a tag that are shown; JSON has them whole.
const LONGEST_TEXT: usize = 200;

/// Whether no study made the run.
pub fn is_logged(run: &Run) -> bool {
    run.study.is_empty()
}

/// Whose the files of a run are, as clients of the tracking protocol see them.
pub fn owner(run: RunId) -> String {
    format!("runs/{}", run.simple())
}

/// The series of a run, but those of the machine, by key.
pub fn series(store: &Store, run: RunId) -> anyhow::Result<BTreeMap<String, Series>> {
    Ok(store.all_series(run)?.into_iter().filter(|(key, _)| !key.starts_with("system/")).collect())
}

/// What a client said of a run, as JSON.
pub fn facts(store: &Store, run: RunId) -> anyhow::Result<Value> {
    // NaN and infinities are told as texts, as in queries.
    let metrics: BTreeMap<String, Cell> =
        series(store, run)?.into_iter().map(|(key, series)| (key, Cell::Real(series.latest.value))).collect();
    let files: Vec<Value> =
        files(store, run)?.into_iter().map(|(path, n_bytes)| json!({ "path": path, "bytes": n_bytes })).collect();
    Ok(json!({ "metrics": metrics, "files": files }))
}

/// Prints params, tags, the latest point of each series, and files.
pub fn show(store: &Store, run: RunId, printer: &Printer) -> anyhow::Result<()> {
    let texts = |texts: BTreeMap<String, String>| {
        texts.into_iter().map(|(key, value)| vec![key, shortened(&value, LONGEST_TEXT)])
    };
    let params = texts(store.params(run)?);
    if params.len() > 0 {
        printer.table(&["PARAM", "VALUE"], params)?;
    }
    let extreme = |value: Option<f64>| value.map_or_else(String::new, number);
    let metrics = series(store, run)?.into_iter().map(|(key, Series { latest, min, max })| {
        vec![key, number(latest.value), latest.step.to_string(), extreme(min), extreme(max)]
    });
    if metrics.len() > 0 {
        printer.table(&["METRIC", "LATEST", "STEP", "MIN", "MAX"], metrics)?;
    }
    let tags = texts(store.tags(run)?);
    if tags.len() > 0 {
        printer.table(&["TAG", "VALUE"], tags)?;
    }
    let files = files(store, run)?;
    if !files.is_empty() {
        let rows = files.into_iter().map(|(path, n_bytes)| vec![path, n_bytes.to_string()]);
        printer.table(&["FILE", "BYTES"], rows)?;
    }
    Ok(())
}

/// The files of a run with their sizes, by path.
fn files(store: &Store, run: RunId) -> anyhow::Result<Vec<(String, u64)>> {
    let owner = owner(run);
    let (mut open, mut found) = (vec![String::new()], Vec::new());
    while let Some(folder) = open.pop() {
        for (name, file) in store.loose_folder(&owner, &folder)?.entries {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match file {
                Some(file) => found.push((path, file.n_bytes)),
                None => open.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}
