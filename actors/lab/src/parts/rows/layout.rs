//! Files that are no lists of objects: JSON arrays of arrays, objects of such arrays by name, tables of comma-separated values.

use std::path::Path;

use serde_json::{Map, Value};

use super::fields::shown;
use super::{Fault, Raw};
use crate::error::{Error, Result};

/// What becomes of an element: its fields, or what is wrong with it.
pub(super) type Laid = std::result::Result<Map<String, Value>, Fault>;

/// A JSON file, whole.
///
/// # Errors
/// `Input` naming the file.
pub(super) fn json(path: &Path) -> Result<Value> {
    let wrong = |what: String, hint: &str| Error::Input {
        what: format!("{}: {what}", path.display()),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}"), ""))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let hint = if error.is_eof() { "the file was cut off; get it again" } else { "" };
        wrong(format!("line {}: it is no JSON: {error}", error.line()), hint)
    })
}

/// The elements of an array, each laid out by `of`.
pub(super) fn elements<'a>(all: &'a [Value], of: impl Fn(&'a Value) -> Laid) -> Vec<Raw> {
    (1..).zip(all).map(|(number, one)| Raw { number, line: None, place: String::new(), fields: of(one) }).collect()
}

/// The elements of arrays by name: `of` gets the name too.
///
/// # Errors
/// `Input` naming file and name of what is no array.
pub(super) fn named<'a>(
    path: &Path,
    all: &'a Map<String, Value>,
    of: impl Fn(&'a str, &'a Value) -> Laid,
) -> Result<Vec<Raw>> {
    let mut rows = Vec::new();
    for (name, list) in all {
        let Value::Array(list) = list else {
            let what = format!("{}, field `{name}`: expected a list of rows, got {}", path.display(), shown(list));
            return Err(Error::Input { what, hint: None });
        };
        for (at, one) in list.iter().enumerate() {
            let number = rows.len() as u64 + 1;
            rows.push(Raw { number, line: None, place: format!("{name}[{at}]"), fields: of(name, one) });
        }
    }
    Ok(rows)
}

/// The texts of an array of texts; numbers are taken as they are written.
pub(super) fn texts(one: &Value) -> std::result::Result<Vec<String>, Fault> {
    let Value::Array(all) = one else {
        return Err(Fault::new("", format!("expected a list, got {}", shown(one))));
    };
    let text = |(at, value): (usize, &Value)| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(Fault::new(format!("[{at}]"), format!("expected a text, got {}", shown(other)))),
    };
    all.iter().enumerate().map(text).collect()
}

/// The records of a table, each with its line; `of` lays one out.
///
/// # Errors
/// `Input` naming the file, and the line where it is no such table.
pub(super) fn table(path: &Path, of: impl Fn(&[String]) -> Laid) -> Result<Vec<Raw>> {
    let wrong = |error: csv::Error| {
        let line = error.position().map(|at| format!(", line {}", at.line())).unwrap_or_default();
        Error::Input { what: format!("{}{line}: it is no table: {error}", path.display()), hint: None }
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(path).map_err(wrong)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let number = record.position().map_or(rows.len() as u64 + 1, csv::Position::line);
        rows.push(Raw {
            number,
            line: None,
            place: String::new(),
            fields: of(&record.iter().map(str::to_owned).collect::<Vec<_>>()),
        });
    }
    Ok(rows)
}

/// Whether a file's name ends so.
pub(super) fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// A file's name without its ending, and without `_dev`, `_test` or `_val`, as a domain.
pub(super) fn stem(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let ends = ["_dev", "_test", "_val", "_train"];
    ends.iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(&stem).to_owned()
}
