//! `tracker merge`.

use std::path::Path;
use std::thread;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget};
use tracker_merge::{Merge, Recipe, Summary};

use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Merges by a recipe, or says what would be done.
pub fn merge(
    recipe: &Path,
    out: &Path,
    dry_run: bool,
    workers: Option<usize>,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    let name = recipe.display().to_string();
    let text = std::fs::read_to_string(recipe)
        .map_err(|e| InputError { what: format!("recipe `{name}` cannot be read: {e}"), hint: None })?;
    let folder = recipe.parent().unwrap_or_else(|| Path::new(""));
    let mut merge = Merge::plan(Recipe::parse(&name, &text)?, &text, folder)?;
    if dry_run {
        merge.check_space(out);
    }
    let summary = merge.summary();
    if dry_run {
        return tell(&summary, printer);
    }
    for warning in &summary.warnings {
        printer.say(&format!("note: {warning}"));
    }
    let n_threads = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let target = if printer.is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(summary.n_tensors as u64), target);
    let begun = Instant::now();
    let merged = merge.run(out, n_threads, &|done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if printer.is_json() {
        printer.json(&merged)?;
    } else {
        let (secs, n_bytes) = (begun.elapsed().as_secs_f64(), merged.n_bytes);
        printer.line(&format!("{}  {} tensors, {n_bytes} bytes, {secs:.1} s", out.display(), merged.n_tensors))?;
        printer.line(&format!("output        {}", merged.output))?;
        for (parent, digest) in &merged.parents {
            printer.line(&format!("parent        {digest}  {parent}"))?;
        }
        if merged.n_kept > 0 {
            printer.say(&format!("{} tensors were whole from an earlier try", merged.n_kept));
        }
    }
    Ok(Answer::Yes)
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
