//! `tracker migrate`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;
use tracker_engine::Options;
use tracker_migrations::{MIGRATIONS, Migration, Work};
use tracker_store::{Store, Target};

use super::backup::in_words;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::progress;

/// What to do before the first change.
pub enum Before<'a> {
    /// Say what would be done, and do nothing.
    Rehearse,
    /// Make a backup, here or beside the store.
    BackUp(Option<&'a Path>),
    /// Nothing.
    Nothing,
}

/// Brings a store to this build's format.
pub fn migrate(dir: &Path, before: &Before<'_>, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open_older(dir)?;
    let found = store.format()?;
    let path = tracker_migrations::path(found)?;
    if path.is_empty() {
        let text = format!("the store is of format {found}, which is this build's");
        return tell(printer, &json!({"from": found, "to": found, "migrations": []}), &text);
    }
    if let Before::BackUp(target) = before {
        let target = target.map_or_else(|| beside(dir, found), Path::to_path_buf);
        let saved = store.back_up(Target::Folder(&target), &mut progress::of_bytes(printer))?;
        printer.say(&format!("backed up to `{}`: {}", target.display(), in_words(&saved.counts)));
    }
    drop(store);
    let engine = tracker_engine::open(dir, &Options::default())?;
    let mut done = Vec::new();
    for migration in path {
        let work = match before {
            Before::Rehearse => tracker_migrations::rehearse(engine.as_ref(), migration)?,
            Before::BackUp(_) | Before::Nothing => {
                let bar = progress::spinner(printer);
                let mut seen = |work: Work| bar.set_message(format!("{} records read", work.n_read));
                let work = tracker_migrations::migrate(engine.as_ref(), migration, &mut seen);
                bar.finish_and_clear();
                work.map_err(|error| anyhow::Error::from(error).context(left(migration)))?
            }
        };
        done.push((migration, work));
    }
    let is_rehearsal = matches!(before, Before::Rehearse);
    let verb = if is_rehearsal { "would write" } else { "wrote" };
    let line = |(migration, work): &(&Migration, Work)| {
        let Migration { from, about, .. } = migration;
        format!(
            "format {from} to {}: {about}; {} records read, {verb} {} entries",
            from + 1,
            work.n_read,
            work.n_written
        )
    };
    let json: Vec<_> = done
        .iter()
        .map(|(migration, work)| {
            json!({"from": migration.from, "about": migration.about, "n_read": work.n_read, "n_written": work.n_written})
        })
        .collect();
    let to = MIGRATIONS.len() + 1;
    let json = json!({"from": found, "to": to, "done": !is_rehearsal, "migrations": json});
    tell(printer, &json, &done.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn tell(printer: &Printer, json: &serde_json::Value, text: &str) -> anyhow::Result<Answer> {
    if printer.is_json() {
        printer.json(json)?;
    } else {
        printer.line(text)?;
    }
    Ok(Answer::Yes)
}

/// Where a backup goes unless another place is named.
fn beside(dir: &Path, format: u32) -> PathBuf {
    let dir: PathBuf = dir.components().collect();
    let mut name = dir.file_name().map_or_else(|| OsString::from("store"), OsString::from);
    name.push(format!(".format-{format}.backup"));
    dir.with_file_name(name)
}

fn left(migration: &Migration) -> InputError {
    InputError {
        what: format!("the store is not yet of format {}", migration.from + 1),
        hint: Some("what is done stays; `tracker migrate` goes on where this stopped".into()),
    }
}
