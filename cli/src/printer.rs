//! The one place that writes to the terminal: data to stdout, talk to stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Characters of a text in a table that shows many.
pub const LONGEST_CELL: usize = 60;

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

    /// Writes text to stdout; control characters, which could work on the terminal, are written out.
    ///
    /// # Errors
    /// Of writing; a broken pipe among them, which the caller turns into a quiet exit.
    pub fn text(&self, text: &str) -> io::Result<()> {
        io::stdout().lock().write_all(plain(text).as_bytes())
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
        out.write_all(plain(text).as_bytes())?;
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
            table.add_row(row.iter().map(|cell| plain(cell)));
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

/// A text without control characters but ends of lines and tabs: what clients logged must not work on the terminal.
fn plain(text: &str) -> Cow<'_, str> {
    let is_control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(is_control) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_control(letter) { plain.extend(letter.escape_debug()) } else { plain.push(letter) }
    }
    plain.into()
}

/// The beginning of a text on one line, with `…` for what is cut after `longest` characters.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    let text = text.replace('\n', " ");
    match text.char_indices().nth(longest) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A number as short as it can be read back.
#[must_use]
pub fn number(value: f64) -> String {
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_on_a_terminal_is_written_out() {
        assert_eq!(plain("a\tb\n"), "a\tb\n");
        assert_eq!(plain("\u{1b}[31mred"), "\\u{1b}[31mred");
    }

    #[test]
    fn texts_are_cut_and_numbers_short() {
        assert_eq!(shortened("äöü\nx", 4), "äöü …");
        assert_eq!(shortened("abc", 3), "abc");
        let numbers = [1.0, 0.1, 1e308, 1e-320, f64::NAN, f64::NEG_INFINITY];
        assert_eq!(numbers.map(number), ["1", "0.1", "1e308", "1e-320", "NaN", "-inf"]);
    }
}
