//! The errors of this crate. A verdict is never an error: a proof that is wrong, late or unreadable has an
//! [`Outcome`](crate::Outcome) of its own.

use std::{io, path::PathBuf};

/// What went wrong, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not in the language read here: correct it, or hand it to Lean as it is.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 0, as Lean counts.
        column: u32,
        /// What was expected.
        reason: &'static str,
    },
    /// A name is not one of the propositions in scope.
    #[error("expected one of the propositions in scope, got `{name}`")]
    UnknownAtom {
        /// The name.
        name: String,
    },
    /// A word is none of an enumeration's.
    #[error("expected {expected}, got `{got}`")]
    Word {
        /// What would have been right.
        expected: &'static str,
        /// The word.
        got: String,
    },
    /// A row of a file cannot be read: correct it; the other rows stand.
    #[error("line {line}, column {column}{}: {reason}", of_field(field))]
    Row {
        /// Line of the file, from 1.
        line: u64,
        /// Column within it, from 1.
        column: u64,
        /// The field as spelt; empty where it is the line itself.
        field: String,
        /// What was expected.
        reason: String,
    },
    /// A program could not be started or answered nonsense: install it, or point at another.
    #[error("cannot run `{program}`: {reason}", program = program.display())]
    Program {
        /// Path as given.
        program: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The operating system refused.
    #[error("{doing}")]
    Io {
        /// What was being done, with its path.
        doing: String,
        /// Why it was refused.
        source: io::Error,
    },
    /// The corpus cannot give as many distinct statements as asked for.
    #[error("expected {wanted} distinct statements of level {level}, found {found}: ask for fewer, or for more levels")]
    Exhausted {
        /// Level, 1 to 5.
        level: u8,
        /// How many were asked for.
        wanted: usize,
        /// How many there were within the generator's patience.
        found: usize,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The name of a field within a message.
fn of_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(", field `{field}`") }
}
