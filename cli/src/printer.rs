//! The one place that writes to the terminal: data to stdout, talk to stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Owns stdout and stderr: whoever prints has been handed one.
#[derive(Debug)]
pub struct Printer {
    json: bool,
}

#[allow(clippy::unused_self, reason = "only who holds the printer may print")]
impl Printer {
    /// A printer of JSON or of text.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether answers are to be JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person is watching stderr, and progress is welcome.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Writes text to stdout, as it is.
    ///
    /// # Errors
    /// Of writing; a broken pipe among them, which the caller turns into a quiet exit.
    pub fn text(&self, text: &str) -> io::Result<()> {
        io::stdout().lock().write_all(text.as_bytes())
    }

    /// Stdout, for bytes that are no text; none if a person would see them.
    #[must_use]
    pub fn bytes(&self) -> Option<io::StdoutLock<'static>> {
        let out = io::stdout().lock();
        (!out.is_terminal()).then_some(out)
    }

    /// Writes one line to stdout.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")
    }

    /// Writes one JSON object on a line of its own.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value).map_err(io::Error::other)?)
    }

    /// Writes rows under a header, aligned; nothing but the header line if there are none.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(header);
        for row in rows {
            table.add_row(row);
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// Talks to the person, on stderr.
    pub fn say(&self, text: &str) {
        // Nobody to talk to is no reason to fail.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }
}
