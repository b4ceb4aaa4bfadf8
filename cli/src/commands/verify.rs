//! `tracker verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tracker_lab::parts::verify::{Checker, KiminaSettings, LeanSettings};
use tracker_lab::verify::{Checked, Said, Verify, checked};
use tracker_store::{Outcome, RunId, Status, Store};

use crate::args::MachineArgs;
use crate::commands::run::{Machine, stopped};
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Rows of a check that are listed to a person.
const MAX_LISTED: usize = 50;

/// What to check, and by whom.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Proofs, one JSON object a line: `name`, `header`, `formal_statement`, and `proof` or `full_code`; the fields of Goedel-Prover and
    /// DeepSeek-Prover are read as they are.
    #[arg(required_unless_present_any = ["recheck", "resume"])]
    pub file: Option<PathBuf>,
    /// Check again what these runs recorded as proved, and list every proof that this verifier does not accept.
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with = "file")]
    pub recheck: Vec<String>,
    /// Go on with a check that was killed or interrupted.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "recheck"])]
    pub resume: Option<String>,
    /// Who checks.
    #[arg(long, value_enum, default_value = "lean")]
    pub verifier: Who,
    /// The Lean binary; without it `TRACKER_LEAN`, or `lean` on the path.
    #[arg(long, value_name = "FILE")]
    pub lean: Option<PathBuf>,
    /// A Lake project whose packages (Mathlib) the headers import.
    #[arg(long, value_name = "FOLDER")]
    pub project: Option<PathBuf>,
    /// The Kimina Lean Server of `--verifier kimina`; its key is `TRACKER_KIMINA_KEY`.
    #[arg(long, value_name = "URL", required_if_eq("verifier", "kimina"))]
    pub url: Option<String>,
    /// Seconds a proof may take.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    pub timeout: u64,
    /// MiB a Lean process may use.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(64..), value_name = "MIB")]
    pub memory: u64,
    /// Refuse to run Lean where the system has no sandbox for it.
    #[arg(long)]
    pub require_sandbox: bool,
    /// An axiom a proof may rest on, instead of those the verifier allows by itself (none for the kernel; `propext`, `Quot.sound` and
    /// `Classical.choice` for Lean); may be given again.
    #[arg(long = "axiom", value_name = "NAME")]
    pub axioms: Vec<String>,
    /// A name for the run.
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// The exact kernel of this program, for intuitionistic logic in term mode.
    Kernel,
    /// Lean 4, as processes of this machine.
    Lean,
    /// Lean 4, behind the URL of a Kimina Lean Server.
    Kimina,
}

/// Checks proofs, records the verdicts, and says what came of them. The answer is no if any is not proved, or cannot be read.
pub fn verify(dir: &Path, args: &VerifyArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let machine = Machine::read(&args.machine)?;
    let (store, finished) = if let Some(run) = &args.resume {
        let store = Store::open(dir)?;
        let run = store.resolve_run(run)?;
        // A run of something else goes on with its own command.
        drop(checked(&store, run)?);
        let finished = machine.attend_quietly(printer, |session| session.resume(&store, run))?;
        (store, finished)
    } else {
        args.settings().ready()?;
        let (store, plan) = match &args.file {
            Some(file) => from_file(dir, file, args)?,
            None => from_runs(dir, args)?,
        };
        let finished =
            machine.attend_quietly(printer, |session| session.run(&store, plan.plan()?, args.name.clone()))?;
        (store, finished)
    };
    let all_proved =
        if printer.is_json() { lines(&store, finished.run, printer)? } else { summary(&store, finished.run, printer)? };
    if finished.status == Status::Interrupted {
        return Ok(stopped(&store, &finished, printer));
    }
    Ok(if all_proved { Answer::Yes } else { Answer::No })
}

impl VerifyArgs {
    fn settings(&self) -> Verify {
        let text = |path: &Option<PathBuf>| path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        Verify {
            verifier: match self.verifier {
                Who::Kernel => Checker::Kernel,
                Who::Lean => Checker::Lean,
                Who::Kimina => Checker::Kimina,
            },
            axioms: self.axioms.clone(),
            lean: LeanSettings {
                binary: text(&self.lean),
                project: text(&self.project),
                timeout_secs: self.timeout,
                memory_mib: self.memory,
                require_sandbox: self.require_sandbox,
            },
            kimina: KiminaSettings {
                url: self.url.clone().unwrap_or_default(),
                timeout_secs: self.timeout,
                ..KiminaSettings::default()
            },
            ..Verify::default()
        }
    }
}

/// Puts the file into the store, so that a check that was killed goes on without it.
fn from_file(dir: &Path, file: &Path, args: &VerifyArgs) -> anyhow::Result<(Store, Verify)> {
    let unusable = |why: String| InputError {
        what: format!("`{}` cannot be read: {why}", file.display()),
        hint: Some("give a file of JSON objects, one a line".into()),
    };
    let metadata = std::fs::metadata(file).map_err(|error| unusable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unusable("it is a folder".to_owned()).into());
    }
    let name = file.file_name().map_or_else(|| "proofs".to_owned(), |name| name.to_string_lossy().into_owned());
    let store = Store::create(dir)?;
    let mut draft = store.draft("proofs")?;
    draft.add_from(&name, file)?;
    let rows = draft.save(&format!("verify/{name}"), &[], None)?.manifest;
    Ok((store, Verify { file: file.display().to_string(), rows: rows.to_string(), ..args.settings() }))
}

fn from_runs(dir: &Path, args: &VerifyArgs) -> anyhow::Result<(Store, Verify)> {
    let store = Store::open(dir)?;
    let runs = args.recheck.iter().map(|run| Ok(store.resolve_run(run)?.to_string()));
    let runs = runs.collect::<anyhow::Result<Vec<String>>>()?;
    Ok((store, Verify { runs, ..args.settings() }))
}

/// A verdict a line, in the order of the input.
fn lines(store: &Store, run: RunId, printer: &Printer) -> anyhow::Result<bool> {
    let mut all_proved = true;
    for place in checked(store, run)? {
        let place = place?;
        all_proved &= place.is_proved();
        if let Some(line) = line(&place)? {
            printer.json(&line)?;
        }
    }
    Ok(all_proved)
}

fn line(place: &Checked) -> anyhow::Result<Option<Value>> {
    let mut line = Map::new();
    match &place.recorded {
        Some(recorded) => line.insert("recorded".into(), json!(recorded)),
        None => line.insert("line".into(), json!(place.place)),
    };
    match &place.said {
        Said::Nothing => return Ok(None),
        Said::Bad(why) => drop(line.insert("error".into(), json!(why))),
        Said::Verdict(node, verdict) => {
            line.insert("attempt".into(), json!(place.attempt));
            line.insert("name".into(), json!(place.name));
            line.insert("sample".into(), json!(node));
            if let Value::Object(fields) = serde_json::to_value(verdict)? {
                line.extend(fields);
            }
        }
    }
    Ok(Some(Value::Object(line)))
}

/// Counts by outcome; of recorded proofs those that are not accepted.
fn summary(store: &Store, run: RunId, printer: &Printer) -> anyhow::Result<bool> {
    let (mut outcomes, mut listed, mut n_refused, mut n_bad) = (BTreeMap::new(), Vec::new(), 0, 0);
    for place in checked(store, run)? {
        let Checked { place, attempt, name, recorded, said } = place?;
        let verdict = match said {
            Said::Verdict(_, verdict) => verdict,
            Said::Bad(_) => {
                n_bad += 1;
                continue;
            }
            Said::Nothing => continue,
        };
        *outcomes.entry(verdict.outcome).or_insert(0_usize) += 1;
        if verdict.outcome == Outcome::Proved {
            continue;
        }
        n_refused += 1;
        if listed.len() < MAX_LISTED {
            let at = recorded.map_or_else(|| format!("{place}/{attempt}"), |node| node.to_string());
            listed.push(vec![at, name, verdict.outcome.to_string(), verdict.message]);
        }
    }
    printer.table(&["AT", "NAME", "OUTCOME", "WHY"], listed)?;
    if n_refused > MAX_LISTED {
        printer.say(&format!("{} more; `--json` lists all", n_refused - MAX_LISTED));
    }
    printer
        .table(&["OUTCOME", "PROOFS"], outcomes.iter().map(|(outcome, n)| vec![outcome.to_string(), n.to_string()]))?;
    if n_bad > 0 {
        printer.line(&format!("{n_bad} rows cannot be read"))?;
    }
    printer.line(&format!("run {run}"))?;
    Ok(n_refused == 0 && n_bad == 0)
}
