//! Exit codes and error messages: 0 yes, 1 the answer is no, 2 the user's input, 3 our trouble.

use std::io;
use std::process::ExitCode;

use crate::printer::Printer;

/// What a command that worked has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or yes.
    Yes,
    /// No: a claim that does not hold, runs that differ.
    No,
    /// As a command that was run said.
    Code(u8),
}

/// An error of the user's making, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct InputError {
    /// What was expected and found.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Turns an answer into the process's exit code, saying errors once.
pub fn exit_code(answer: anyhow::Result<Answer>, printer: &Printer) -> ExitCode {
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Code(code)) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            printer.say(&format!("error: {}", chain(&error)));
            if let Some(hint) = hint(&error) {
                printer.say(&format!("hint: {hint}"));
            }
            ExitCode::from(if is_input(&error) { 2 } else { 3 })
        }
    }
}

/// The error and its causes in one line, leaving out causes that only repeat.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn is_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<InputError>()
            || cause.downcast_ref::<tracker_lab::Error>().is_some_and(tracker_lab::Error::is_input)
            || cause.downcast_ref::<tracker_merge::Error>().is_some_and(tracker_merge::Error::is_input)
            || cause.downcast_ref::<tracker_store::Error>().is_some_and(tracker_store::Error::is_input)
            || cause.downcast_ref::<tracker_server::Error>().is_some_and(tracker_server::Error::is_input)
            || cause
                .downcast_ref::<tracker_front::Error>()
                .is_some_and(|e| !matches!(e, tracker_front::Error::Io { .. }))
    })
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<InputError>()
            .and_then(|e| e.hint.clone())
            .or_else(|| cause.downcast_ref::<tracker_lab::Error>().and_then(tracker_lab::Error::hint))
            .or_else(|| cause.downcast_ref::<tracker_store::Error>().and_then(tracker_store::Error::hint))
            .or_else(|| cause.downcast_ref::<tracker_server::Error>().and_then(tracker_server::Error::hint))
            .or_else(|| cause.downcast_ref::<tracker_merge::Error>()?.hint().map(str::to_owned))
    })
}
