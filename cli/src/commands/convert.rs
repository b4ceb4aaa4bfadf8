//! `tracker convert`.

use std::path::Path;

use serde::Serialize;
use tracker_store::{ConversionStep, EngineKind, Store};

use super::room::bytes;
use crate::failure::Answer;
use crate::printer::Printer;
use crate::progress;

/// What was done, for programs.
#[derive(Default, Serialize)]
struct Done<'a> {
    converted: bool,
    from: &'a str,
    to: &'a str,
    n_entries: u64,
    n_bytes: u64,
    n_disk_bytes_before: u64,
    n_disk_bytes_after: u64,
}

/// Lets `engine` keep the store.
pub fn convert(dir: &Path, engine: EngineKind, printer: &Printer) -> anyhow::Result<Answer> {
    let bar = progress::spinner(printer);
    let converted = Store::convert(dir, engine, &mut |step| {
        bar.set_message(match step {
            ConversionStep::Copying(n) => format!("{n} entries copied"),
            ConversionStep::Verifying(n) => format!("{n} entries compared"),
            ConversionStep::Replacing => "exchanging the engines".to_owned(),
            ConversionStep::Removing => "removing the old data".to_owned(),
        });
    });
    bar.finish_and_clear();
    let to = engine.name();
    let Some(done) = converted? else {
        if printer.is_json() {
            printer.json(&Done { from: to, to, ..Done::default() })?;
        } else {
            printer.line(&format!("`{to}` keeps the store already"))?;
        }
        return Ok(Answer::Yes);
    };
    let from = done.from.name();
    if printer.is_json() {
        printer.json(&Done {
            converted: true,
            from,
            to,
            n_entries: done.n_entries,
            n_bytes: done.n_bytes,
            n_disk_bytes_before: done.n_disk_bytes_before,
            n_disk_bytes_after: done.n_disk_bytes_after,
        })?;
    } else {
        printer.line(&format!(
            "`{to}` keeps the store instead of `{from}`: {} entries of {} were copied and compared; {} on disk, {} before",
            done.n_entries,
            bytes(done.n_bytes),
            bytes(done.n_disk_bytes_after),
            bytes(done.n_disk_bytes_before)
        ))?;
    }
    Ok(Answer::Yes)
}
