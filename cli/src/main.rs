//! `tracker`: runs studies, records what they did, and answers where a number came from.
#![allow(unreachable_pub, reason = "a binary has no outside; `pub` marks what its other modules use")]

mod ancestry;
mod args;
mod commands;
mod failure;
mod parents;
mod printer;
mod progress;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Answer;
use printer::Printer;

fn main() -> ExitCode {
    keep_quiet_over_damage();
    let cli = Cli::parse();
    let printer = Printer::new(cli.json);
    let answer = answer(&cli, &printer);
    failure::exit_code(answer, &printer)
}

/// The engine's library panics over some damaged files; that is caught and told as damage, so it is not told as a panic too.
fn keep_quiet_over_damage() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tracker_engine::is_guarded() {
            tell(panic);
        }
    }));
}

fn answer(cli: &Cli, printer: &Printer) -> anyhow::Result<Answer> {
    let store = cli.store.as_path();
    match &cli.command {
        Command::Run(args) => commands::run::run(store, args, printer),
        Command::Sweep(args) => commands::sweep::sweep(store, args, printer),
        Command::Replay { run, call, machine } => commands::run::replay(store, run, *call, machine, printer),
        Command::Studies { study } => commands::studies::list(study.as_deref(), printer),
        Command::Ls { filter, limit } => commands::runs::ls(store, filter.as_deref(), *limit, printer),
        Command::Show { node } => commands::runs::show(store, node, printer),
        Command::Diff { left, right, only } => commands::runs::diff(store, [left, right], only, printer),
        Command::Query(query) => commands::query::query(store, query, printer),
        Command::Artifact(artifact) => commands::artifact::artifact(store, artifact, printer),
        Command::Merge(args) => commands::merge::merge(store, args, printer),
        Command::Gc { dry_run, grace, rewrite_below } => {
            commands::room::gc(store, *dry_run, *grace, *rewrite_below, printer)
        }
        Command::Fsck { repair } => commands::fsck::fsck(store, *repair, printer),
        Command::Du { by, limit } => commands::room::du(store, *by, *limit, printer),
        Command::Backup { target, verify: false } => commands::backup::backup(store, target, printer),
        Command::Backup { target, verify: true } => commands::backup::verify(target, printer),
        Command::Restore { backup } => commands::backup::restore(store, backup, printer),
        Command::Export { runs, file, sweep } => commands::transfer::export(store, runs, file, *sweep, printer),
        Command::Import { file } => commands::transfer::import(store, file, printer),
        Command::Migrate { dry_run, backup, no_backup } => {
            let before = match (dry_run, no_backup) {
                (true, _) => commands::migrate::Before::Rehearse,
                (false, true) => commands::migrate::Before::Nothing,
                (false, false) => commands::migrate::Before::BackUp(backup.as_deref()),
            };
            commands::migrate::migrate(store, &before, printer)
        }
        Command::Convert { engine } => commands::convert::convert(store, (*engine).into(), printer),
        Command::Pareto(args) => commands::pareto::pareto(store, args, printer),
        Command::Materialize { checkpoint, out, workers } => {
            commands::materialize::materialize(store, checkpoint, out, *workers, printer)
        }
        Command::Report { run, export } => commands::report::report(store, run, export.as_deref(), printer),
        Command::Relabel(args) => commands::relabel::relabel(store, args, printer),
        Command::Verify(args) => commands::verify::verify(store, args, printer),
        Command::Serve(args) => commands::serve::serve(store, args, printer),
        Command::Exec(args) => commands::exec::exec(store, args, printer),
        Command::Devices => commands::devices::list(printer),
        Command::Completions { shell } => commands::completions::print(*shell, printer),
    }
}
