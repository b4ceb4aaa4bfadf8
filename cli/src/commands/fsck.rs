//! `tracker fsck`: checks a store, and repairs it.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracker_store::{CheckProgress, Checked, Finding, Repaired};

use crate::failure::Answer;
use crate::printer::Printer;
use crate::progress;

/// Checks the store in `dir`, or repairs it; the answer is no if there is damage, or some is left.
pub fn fsck(dir: &Path, repair: bool, printer: &Printer) -> anyhow::Result<Answer> {
    let bar = bar(printer);
    let mut failed = None;
    let mut tell = |finding: Finding| {
        let told = bar.suspend(|| tell(&finding, printer));
        failed = failed.take().or(told.err());
    };
    let progress = |progress: CheckProgress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    };
    let n_damages = if repair {
        let done = tracker_store::repair(dir, &mut tell, &progress)?;
        bar.finish_and_clear();
        sum_up_repair(&done, printer)?;
        done.left.n_damages
    } else {
        let checked = tracker_store::fsck(dir, &mut tell, &progress)?;
        bar.finish_and_clear();
        sum_up(&checked, printer)?;
        checked.n_damages
    };
    // A reader that closed its end gets no more, and that is no trouble.
    failed.map_or(Ok(()), Err)?;
    Ok(if n_damages == 0 { Answer::Yes } else { Answer::No })
}

/// One finding on a line of its own.
fn tell(finding: &Finding, printer: &Printer) -> std::io::Result<()> {
    if printer.is_json() { printer.json(finding) } else { printer.line(&finding.to_string()) }
}

/// The last line: what was checked.
#[derive(Serialize)]
struct Sum<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<&'a Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a Repaired>,
}

fn sum_up(checked: &Checked, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        printer.json(&Sum { checked: Some(checked), repaired: None })?;
        return Ok(());
    }
    printer.line(&format!("{} damages, {} notes", checked.n_damages, checked.n_notes))?;
    printer.line(&format!(
        "checked {} entries, {} series, {} pieces, {}; {} of packs are free for `tracker gc`",
        checked.n_entries,
        checked.n_series,
        checked.n_pieces,
        indicatif::HumanBytes(checked.n_bytes),
        indicatif::HumanBytes(checked.free_bytes)
    ))?;
    if checked.n_damages > 0 {
        printer.say("hint: `tracker fsck --repair` makes good what follows from what is left, and sets aside what cannot be read");
    }
    Ok(())
}

fn sum_up_repair(done: &Repaired, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        printer.json(&Sum { checked: None, repaired: Some(done) })?;
        return Ok(());
    }
    printer.line(&format!(
        "{} damages before, {} left; {} entries put, {} removed, {} series made anew, {} entries set aside",
        done.before.n_damages, done.left.n_damages, done.n_put, done.n_removed, done.n_series, done.n_quarantined
    ))?;
    for path in &done.quarantine {
        printer.line(&format!("set aside: {}", path.display()))?;
    }
    if done.left.n_damages > 0 {
        printer.say("hint: what is left follows from nothing in the store; a backup may have it");
    }
    Ok(())
}

/// Progress in bytes, for a person who waits.
fn bar(printer: &Printer) -> ProgressBar {
    let style =
        ProgressStyle::with_template("checking {wide_bar} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>5}");
    let bar = ProgressBar::with_draw_target(None, progress::target(printer));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
