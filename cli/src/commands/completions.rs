//! `tracker completions SHELL`.

use clap::CommandFactory;

use crate::args::Cli;
use crate::failure::Answer;
use crate::printer::Printer;

/// Prints the completion script of a shell.
pub fn print(shell: clap_complete::Shell, printer: &Printer) -> anyhow::Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tracker", &mut script);
    printer.text(&String::from_utf8(script)?)?;
    Ok(Answer::Yes)
}
