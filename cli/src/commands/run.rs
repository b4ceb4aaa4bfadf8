//! `tracker run` and `tracker replay`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::thread;

use serde_json::json;
use tracker_gpu::Choice;
use tracker_lab::{Event, Events, Finished, Overlay, Plan, Preset, Session, resume_command};
use tracker_store::{Claim, Digest, Status, Store};

use crate::args::{MachineArgs, RunArgs};
use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::progress;

/// Runs a study or a plan file, or goes on with a run.
pub fn run(dir: &Path, args: &RunArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let machine = Machine::read(&args.machine)?;
    if let Some(run) = &args.resume {
        let store = Store::open(dir)?;
        let run = store.resolve_run(run)?;
        let finished = machine.attend(printer, |session| session.resume(&store, run))?;
        return conclude(&store, &finished, None, printer);
    }
    let plan = plan(args)?;
    let store = Store::create(dir)?;
    let finished = machine.attend(printer, |session| session.run(&store, plan, args.name.clone()))?;
    conclude(&store, &finished, None, printer)
}

/// Runs a stored plan again and compares.
pub fn replay(dir: &Path, run: &str, calls: bool, machine: &MachineArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let machine = Machine::read(machine)?;
    let store = Store::open(dir)?;
    let run = store.resolve_run(run)?;
    let before = store.run(run)?.record_digest.ok_or_else(|| InputError {
        what: format!("run {run} never finished, so there is no digest to compare with"),
        hint: Some(format!("to finish it: tracker run --resume {run}")),
    })?;
    let finished = machine.attend(printer, |session| session.replay(&store, run, calls))?;
    conclude(&store, &finished, Some(before), printer)
}

fn plan(args: &RunArgs) -> anyhow::Result<Plan> {
    let (study, overlay) = overlay(args)?;
    Ok(tracker_lab::study(&study)?.resolve(&overlay)?)
}

/// The study, and what is laid over its defaults.
pub fn overlay(args: &RunArgs) -> anyhow::Result<(String, Overlay)> {
    let named = args.study.clone().unwrap_or_default();
    let is_file = Path::new(&named).extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let (study, file) = if is_file {
        let path = PathBuf::from(&named);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| InputError { what: format!("plan file `{named}` cannot be read: {e}"), hint: None })?;
        (tracker_lab::plan::study_of(&path, &text)?, Some((path, text)))
    } else {
        (named, None)
    };
    let preset = if args.smoke { Preset::Smoke } else { Preset::Standard };
    Ok((study, Overlay { preset, file, sets: args.sets.clone(), seed: args.seed }))
}

/// What a run may use, read before anything is made.
pub struct Machine {
    device: Choice,
    workers: usize,
    exchanges: Option<PathBuf>,
}

impl Machine {
    /// Reads it.
    pub fn read(args: &MachineArgs) -> anyhow::Result<Self> {
        let device = args.device.parse().map_err(|e: tracker_gpu::Error| InputError {
            what: e.to_string(),
            hint: Some("`tracker devices` lists what is there".into()),
        })?;
        let workers = match args.workers {
            Some(0) => return Err(InputError { what: "expected at least 1 worker, got 0".into(), hint: None }.into()),
            Some(n) => n,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        Ok(Self { device, workers, exchanges: args.exchanges.clone() })
    }

    /// Runs `work` with a session whose events are printed from another thread.
    pub fn attend(
        &self,
        printer: &Printer,
        work: impl FnOnce(Session) -> tracker_lab::Result<Finished>,
    ) -> tracker_lab::Result<Finished> {
        self.follow(|events| progress::follow(events, printer), work)
    }

    /// The same; what is printed as data is left to the caller, so that of the events only what a person reads is told.
    pub fn attend_quietly(
        &self,
        printer: &Printer,
        work: impl FnOnce(Session) -> tracker_lab::Result<Finished>,
    ) -> tracker_lab::Result<Finished> {
        self.follow(|events| progress::show(events, printer), work)
    }

    fn follow(
        &self,
        follow: impl FnOnce(&Receiver<Event>) + Send,
        work: impl FnOnce(Session) -> tracker_lab::Result<Finished>,
    ) -> tracker_lab::Result<Finished> {
        let (device, exchanges) = (self.device, self.exchanges.clone());
        let (events, received) = Events::channel();
        let exit = Box::new(exit_at_once);
        let session = Session { device, workers: self.workers, events, exchanges, exit, tags: vec![] };
        thread::scope(|scope| {
            scope.spawn(move || follow(&received));
            work(session)
        })
    }
}

#[allow(clippy::exit, reason = "a second Ctrl-C ends the process at once; what was acknowledged is on disk")]
fn exit_at_once() {
    std::process::exit(130)
}

/// Says how it ended. The answer is no if a claim does not hold, or a replay differs.
fn conclude(store: &Store, finished: &Finished, before: Option<Digest>, printer: &Printer) -> anyhow::Result<Answer> {
    let is_same = before.map(|before| finished.record_digest == Some(before));
    if printer.is_json() {
        let mut last = json!({
            "run": finished.run,
            "status": finished.status,
            "claims": finished.claims,
            "record_digest": finished.record_digest,
            "elapsed_secs": finished.elapsed_secs,
        });
        if let Some(same) = is_same {
            last["same_as_before"] = json!(same);
        }
        printer.json(&last)?;
    } else {
        claims(&finished.claims, printer)?;
        let digest = finished.record_digest.map_or_else(|| "none".to_owned(), |d| d.to_string());
        printer.line(&format!("run           {}  {}", finished.run, finished.status))?;
        printer.line(&format!("record digest {digest}"))?;
        printer.line(&format!("elapsed       {:.1} s", finished.elapsed_secs))?;
        match is_same {
            Some(true) => printer.line("replay        the same records")?,
            Some(false) => printer.line("replay        other records than before")?,
            None => {}
        }
    }
    if finished.status == Status::Interrupted {
        return Ok(stopped(store, finished, printer));
    }
    let all_hold = finished.claims.iter().all(|claim| claim.holds);
    Ok(if all_hold && is_same != Some(false) { Answer::Yes } else { Answer::No })
}

/// Says how to go on.
pub fn stopped(store: &Store, finished: &Finished, printer: &Printer) -> Answer {
    let command = resume_command(store, finished.run);
    printer.say(&format!("interrupted; what is recorded stays\nhint: to go on: {command}"));
    Answer::No
}

/// Prints claims with their numbers.
pub fn claims(claims: &[Claim], printer: &Printer) -> anyhow::Result<()> {
    for claim in claims {
        let verdict = if claim.holds { "holds" } else { "DOES NOT HOLD" };
        let interval = match (claim.low, claim.high) {
            (Some(low), Some(high)) if low < high => format!(" [{low:.3}, {high:.3}]"),
            _ => String::new(),
        };
        let bound = claim.bound.map_or_else(String::new, |bound| format!(", asked against {bound}"));
        printer.line(&format!("{verdict}: {}\n    {:.3}{interval}{bound}", claim.statement, claim.value))?;
    }
    Ok(())
}
