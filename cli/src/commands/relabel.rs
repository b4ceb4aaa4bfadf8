//! `tracker relabel`.

use std::path::Path;

use tracker_lab::parts::labels::Estimator;
use tracker_lab::{Relabel, Relabelled};
use tracker_store::Store;

use crate::args::RelabelArgs;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Labels the steps of a run anew and says what changed.
pub fn relabel(dir: &Path, args: &RelabelArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let estimator = match (&args.estimator, args.eta) {
        (Some(name), _) => name.parse()?,
        (None, Some(eta)) => Estimator::of("er", Some(eta))?,
        (None, None) => {
            return Err(InputError { what: "expected --eta or --estimator, got neither".into(), hint: None }.into());
        }
    };
    let run = store.resolve_run(&args.run)?;
    let done = Relabel { run, estimator, from: args.from.clone(), dry_run: args.dry_run }.run(&store)?;
    if printer.is_json() {
        printer.json(&done)?;
    } else {
        tell(&done, printer)?;
    }
    if done.n_inexact > 0 {
        printer.say(&format!("{} old labels are not what their own definition makes of their counts", done.n_inexact));
    }
    Ok(Answer::Yes)
}

fn tell(done: &Relabelled, printer: &Printer) -> anyhow::Result<()> {
    let labels = done.labels;
    printer.line(&format!(
        "{} -> {}: {} of {} labels of {} trajectories change, by {:+.4} on average and {:.4} at most",
        done.from, done.to, labels.n_changed, labels.n, done.n_trajectories, labels.mean, labels.greatest
    ))?;
    let rows = done.winners.iter().map(|winners| {
        vec![winners.aggregator.to_string(), winners.n_prompts.to_string(), winners.n_changed.to_string()]
    });
    printer.table(&["AGGREGATOR", "PROMPTS", "OTHER WINNER"], rows)?;
    match done.run {
        Some(run) => printer.say(&format!(
            "recorded as run {run}, labels {}\nhint: `tracker query selections --run {run}` lists the prompts won by another",
            done.definition
        )),
        None => printer.say("recorded nothing"),
    }
    Ok(())
}
