//! `tracker serve`.

use std::net::IpAddr;
use std::path::Path;

use clap::Args;
use serde_json::json;
use tracker_server::{Options, Server};
use tracker_store::Store;

use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use crate::signals;

/// Where to listen, and to whom.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen at; any but this machine's own needs a token.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 5000)]
    pub port: u16,
    /// What every request must come with, as Bearer (`MLFLOW_TRACKING_TOKEN`) or as the password of Basic
    /// (`MLFLOW_TRACKING_PASSWORD`).
    #[arg(long, env = "TRACKER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A name under which the server may be called, beside its address; may be given again.
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
    /// Refuse values of params and tags that are too long, as `MLFLOW_TRUNCATE_LONG_VALUES=false` does, in place of cutting them.
    #[arg(long)]
    pub refuse_long: bool,
    /// Threads that answer requests; default: the cores, at most 4.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
}

/// Serves the store to clients of MLflow until it is told to stop.
pub fn serve(dir: &Path, args: &ServeArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let defaults = Options::default();
    let options = Options {
        host: args.host,
        port: args.port,
        token: args.token.as_deref().map(|token| token.trim().to_owned()),
        names: args.names.clone(),
        refuse_long: args.refuse_long,
        workers: args.workers.map_or(defaults.workers, usize::from),
        ..defaults
    };
    if options.token.as_ref().is_some_and(String::is_empty) {
        let hint =
            Some("give one by `--token` or TRACKER_TOKEN, or neither to serve this machine alone without".into());
        return Err(InputError { what: "the token is empty".into(), hint }.into());
    }
    let server = Server::bind(Store::create(dir)?, &options)?;
    let url = format!("http://{}", server.address());
    let stopper = server.stopper();
    signals::on_stop(move |_| stopper.stop())?;
    if printer.is_json() {
        printer.json(&json!({ "url": url }))?;
    } else {
        printer.line(&format!("serving {} at {url}", dir.display()))?;
        printer.say(&format!("hint: MLFLOW_TRACKING_URI={url} python train.py; Ctrl-C stops"));
    }
    server.wait()?;
    Ok(Answer::Yes)
}
