//! `tracker export` and `tracker import`.

use std::path::Path;

use serde_json::json;
use tracker_store::{Arrival, Error, Store, Target};

use super::backup::{in_words, open, tell, to_target};
use super::room::bytes;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::progress;

/// Writes runs, and all they came from, to a file.
pub fn export(dir: &Path, runs: &[String], file: &Path, sweep: bool, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let mut asked = Vec::new();
    for run in runs {
        let run = store.resolve_run(run)?;
        asked.push(run);
        if sweep {
            let cells = store.cells(run)?;
            if cells.is_empty() {
                return Err(InputError {
                    what: format!("expected run `{run}` to be a sweep, got one without cells"),
                    hint: Some("leave `--sweep` out".into()),
                }
                .into());
            }
            asked.extend(cells);
        }
    }
    let exported = to_target(file, printer, |target| {
        // An export is always one file.
        let target = match target {
            Target::Folder(path) => Target::File(path),
            target => target,
        };
        store.export(&asked, target, &mut progress::of_bytes(printer))
    })?;
    let n_more = exported.runs.iter().filter(|run| !run.is_asked).count();
    let text = format!(
        "{}; {n_more} of the runs because others came from them; {} written",
        in_words(&exported.counts),
        bytes(exported.written_bytes)
    );
    tell(file, &json!({"file": file, "export": exported}), &text, printer)
}

/// Takes in the runs of a file.
pub fn import(dir: &Path, file: &Path, printer: &Printer) -> anyhow::Result<Answer> {
    let bundle = open(file, &std::env::temp_dir())?;
    if !dir.exists()
        && let Some(damage) = bundle.verify(&mut progress::of_bytes(printer))?.into_iter().next()
    {
        // Nothing is made of what is damaged, not even an empty store.
        let (path, offset) = (damage.file, damage.offset);
        return Err(Error::CorruptFile { path, offset, reason: damage.reason }.into());
    }
    let imported = Store::create(dir)?.import(&bundle, &mut progress::of_bytes(printer))?;
    if printer.is_json() {
        printer.json(&imported)?;
        return Ok(Answer::Yes);
    }
    let rows = imported.runs.iter().map(|run| {
        let arrival = match run.arrival {
            Arrival::New => "new",
            Arrival::Finished => "was there in part",
            Arrival::There => "was there",
        };
        vec![run.id.to_string(), run.name.clone(), arrival.to_owned(), run.record_digest.short()]
    });
    printer.table(&["RUN", "NAME", "IMPORT", "RECORDS"], rows)?;
    for version in &imported.renumbered {
        printer.line(&format!("{}:v{} is {}:v{} here", version.name, version.from, version.name, version.to))?;
    }
    for name in &imported.joined {
        printer.line(&format!("experiment `{name}` was there: its runs joined that one"))?;
    }
    for version in &imported.renumbered_models {
        let (name, from, to) = (&version.name, version.from, version.to);
        printer.line(&format!("version {from} of the registered model `{name}` is version {to} here"))?;
    }
    for kept in &imported.kept {
        let (what, id, differences) = (kept.what, &kept.id, kept.differences.join(", "));
        printer.line(&format!("the {what} `{id}` is here with other contents, and stays: {differences}"))?;
    }
    printer.line(&format!("{} versions of artifacts are new", imported.n_versions))?;
    let logged = [
        ("logged models", imported.n_models),
        ("traces", imported.n_traces),
        ("versions of registered models", imported.n_model_versions),
    ];
    for (what, n) in logged.into_iter().filter(|(_, n)| *n > 0) {
        printer.line(&format!("{n} {what} are new"))?;
    }
    Ok(Answer::Yes)
}
