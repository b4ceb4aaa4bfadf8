//! `tracker exec`: any command as a run.
//!
//! The command finds a server for MLflow's clients in its environment, and the run that they write to. Around it is recorded what a
//! reader will want to know: the command, how it ended, code, packages, machine, and what it printed.

mod circumstances;
mod output;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tracker_server::{Options, Server};
use tracker_store::{Durability, Ending, NewRun, Plan, Recording, Run, RunId, Status, Store};

use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::signals;

use circumstances::Circumstances;
use output::Tee;

/// How long what a command left running may hold its output once it has ended.
const GRACE: Duration = Duration::from_secs(2);
/// The experiment of clients that name none.
const DEFAULT: &str = "Default";

/// What to run, and as what.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The experiment the run belongs to; it is made if there is none. A script that chooses an experiment itself has to choose this one.
    #[arg(long, env = "MLFLOW_EXPERIMENT_NAME", default_value = DEFAULT, value_name = "NAME")]
    pub experiment: String,
    /// A name for the run; default: the command's.
    #[arg(long)]
    pub name: Option<String>,
    /// A server that serves this folder already, instead of one for this command alone.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The token of that server; not used without one.
    #[arg(long, env = "TRACKER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs the command as a run. The exit code is the command's; 128 and the signal's number if it was killed, 127 if it cannot be run.
pub fn exec(dir: &Path, args: &ExecArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::create(dir)?;
    let (server, url) = if let Some(url) = &args.server {
        (None, url.trim_end_matches('/').to_owned())
    } else {
        let server = Server::bind(store.clone(), &Options { port: 0, ..Options::default() })?;
        let url = format!("http://{}", server.address());
        (Some(server), url)
    };
    let run = begin(&store, args)?;
    if args.server.is_some()
        && let Err(error) = require_served(&url, args.token.as_deref(), run.id)
    {
        store.delete_run(run.id, true)?;
        return Err(error);
    }
    printer.say(&format!("run {} at {url}", run.id));
    let ended = attend(&store, &run, args, &url);
    let message = match &ended {
        Ok(status) => describe(*status),
        Err(error) => format!("{error:#}"),
    };
    if let Some(server) = server {
        server.stop()?;
    }
    let (code, status) = conclude(&store, run.id, ended.as_ref().ok().copied(), &message)?;
    if let Err(error) = ended {
        printer.say(&format!("error: {error:#}"));
    }
    if printer.is_json() {
        printer.json(&json!({ "run": run.id, "exit": code, "status": status }))?;
    } else {
        printer.say(&format!("run {} {status}", run.id));
    }
    Ok(Answer::Code(code))
}

fn begin(store: &Store, args: &ExecArgs) -> anyhow::Result<Run> {
    if args.experiment == DEFAULT {
        store.default_experiment()?;
    }
    if store.find_experiment(&args.experiment)?.is_some_and(|experiment| experiment.archived) {
        let what = format!("the experiment `{}` is deleted", args.experiment);
        let hint = Some("restore it, or name another by `--experiment`".into());
        return Err(InputError { what, hint }.into());
    }
    let program = Path::new(&args.command[0]).file_name();
    let own_name = || program.map_or_else(|| args.command[0].clone(), |name| name.to_string_lossy().into_owned());
    let new = NewRun {
        name: args.name.clone().unwrap_or_else(own_name),
        experiment: args.experiment.clone(),
        study: String::new(),
        plan: Plan::new(""),
        seed: 0,
        device: String::new(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        versions: [("tracker".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
    };
    let run = store.create_run(&new)?;
    let mut tags = Recording::new();
    for (key, value) in [
        ("mlflow.source.name", args.command.join(" ")),
        ("mlflow.source.type", "LOCAL".to_owned()),
        ("mlflow.runName", new.name),
        ("exec.command", serde_json::to_string(&args.command)?),
        ("exec.folder", std::env::current_dir()?.display().to_string()),
    ] {
        tags.put_tag(run.id, key, &value)?;
    }
    store.commit(&tags, Durability::Sync)?;
    Ok(run)
}

/// Runs the command to its end, with what is around it recorded meanwhile.
fn attend(store: &Store, run: &Run, args: &ExecArgs, url: &str) -> anyhow::Result<ExitStatus> {
    let (program, rest) = args.command.split_first().context("there is no command")?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("MLFLOW_TRACKING_URI", url);
    command.env("MLFLOW_RUN_ID", run.id.simple()).env("MLFLOW_EXPERIMENT_NAME", &args.experiment);
    if let (Some(token), Some(_)) = (&args.token, &args.server) {
        command.env("MLFLOW_TRACKING_TOKEN", token);
    }
    if std::env::var_os("PYTHONUNBUFFERED").is_none() {
        // What it prints is seen as it is printed, though it goes through a pipe.
        command.env("PYTHONUNBUFFERED", "1");
    }
    let mut child = command.spawn().with_context(|| format!("`{program}` cannot be run"))?;
    let pid = rustix::process::Pid::from_child(&child);
    signals::on_stop(move |signal| {
        // A terminal tells the command by itself. One that is gone already cannot be told.
        if signal != rustix::process::Signal::INT {
            rustix::process::kill_process(pid, signal).ok();
        }
    })?;
    let stdout = Tee::start(child.stdout.take(), std::io::stdout())?;
    let stderr = Tee::start(child.stderr.take(), std::io::stderr())?;
    thread::scope(|scope| {
        let around = scope.spawn(|| Circumstances::of(&args.command).record(store, run.id));
        let status = child.wait().context("the command cannot be waited for")?;
        let until = Instant::now() + GRACE;
        stdout.keep(store, run.id, "stdout.txt", until)?;
        stderr.keep(store, run.id, "stderr.txt", until)?;
        around.join().map_err(|_| anyhow::anyhow!("recording what is around the command failed"))??;
        Ok(status)
    })
}

/// Fails unless the server at `url` knows a run that was just made in this folder.
fn require_served(url: &str, token: Option<&str>, run: RunId) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let mut asked = reqwest::Client::new().get(format!("{url}/api/2.0/mlflow/runs/get"));
        asked = asked.query(&[("run_id", run.simple())]).timeout(Duration::from_secs(10));
        if let Some(token) = token {
            asked = asked.bearer_auth(token);
        }
        asked.send().await.map(|answer| answer.status().as_u16())
    });
    let (why, hint) = match answer {
        Ok(200) => return Ok(()),
        Ok(401 | 403) => ("asks for a token".to_owned(), "give it by `--token` or TRACKER_TOKEN"),
        Ok(404) => ("does not serve this folder".to_owned(), "start `tracker serve` with the same `--store`"),
        Ok(status) => (format!("answers {status}"), "give the URL that `tracker serve` prints"),
        Err(error) => (format!("does not answer: {error}"), "start it, or leave `--server` out"),
    };
    Err(InputError { what: format!("the server at {url} {why}"), hint: Some(hint.into()) }.into())
}

/// How a command ended, in words.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => String::new(),
        (Some(code), _) => format!("the command exited with {code}"),
        (None, Some(signal)) => format!("the command was killed by signal {signal}"),
        (None, None) => "the command ended otherwise".to_owned(),
    }
}

/// Ends the run; returns the exit code and how the run ended. A client that said itself that the run failed, or was
/// killed, is believed.
fn conclude(store: &Store, run: RunId, status: Option<ExitStatus>, message: &str) -> anyhow::Result<(u8, Status)> {
    let code = match status {
        Some(status) => status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1),
        None => 127,
    };
    let mut tags = Recording::new();
    tags.put_tag(run, "exec.exit", &code.to_string())?;
    store.commit(&tags, Durability::Sync)?;
    let said = store.run(run)?.status;
    let status = match said {
        _ if code != 0 => Status::Failed,
        Status::Failed | Status::Interrupted => said,
        _ => Status::Finished,
    };
    store.end_run(run, &Ending { status, message: message.to_owned(), record_digest: None })?;
    Ok((code as u8, status))
}
