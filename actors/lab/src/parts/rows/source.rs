//! Files as rows of fields: JSON lines, a JSON array of objects, or Parquet, told apart by how they begin; CSV by its name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde_json::{Map, Number, Value};

use super::Fault;
use crate::error::{Error, Result};

/// The longest row: longer ones are no rows, but a file of something else.
const MAX_ROW_BYTES: usize = 256 << 20;
/// How a Parquet file begins.
const PARQUET: &[u8; 4] = b"PAR1";

/// A row as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// From 1; of a table whose rows have no names, its line.
    pub number: u64,
    /// The line it begins at, from 1, where that is not its number.
    pub line: Option<u64>,
    /// Where it lies within the file, if that is more than a list: `anatomy[3]`.
    pub place: String,
    /// Its fields, or what keeps it from having any.
    pub fields: std::result::Result<Map<String, Value>, Fault>,
}

/// A file that is being read.
pub(super) struct Source {
    path: PathBuf,
    n_read: u64,
    kind: Kind,
}

enum Kind {
    Lines(BufReader<File>),
    Array(BufReader<File>),
    Csv {
        names: Vec<String>,
        reader: Box<csv::Reader<File>>,
        record: csv::StringRecord,
    },
    Parquet {
        rows: Box<RowIter<'static>>,
        n_rows: u64,
    },
    /// Rows that the format found itself.
    Found(std::vec::IntoIter<Raw>),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::Input { what: format!("{}: {what}", path.display()), hint: None };
        let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(64).read_to_end(&mut head).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let kind = if head.starts_with(PARQUET) {
            let n_bytes = file.metadata().map_err(unreadable)?.len();
            let (rows, n_rows) = guarded(path, || {
                let reader = SerializedFileReader::new(file)?;
                check(reader.metadata(), n_bytes)?;
                let n_rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
                Ok((RowIter::from_file_into(Box::new(reader)), n_rows))
            })?;
            Kind::Parquet { rows: Box::new(rows), n_rows }
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
            let mut reader = csv::ReaderBuilder::new().from_reader(file);
            let names = header(&mut reader, path)?;
            Kind::Csv { names, reader: Box::new(reader), record: csv::StringRecord::new() }
        } else if head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let mut reader = BufReader::new(file);
            reader.skip_until(b'[').map_err(unreadable)?;
            Kind::Array(reader)
        } else {
            Kind::Lines(BufReader::new(file))
        };
        Ok(Self { path: path.to_owned(), n_read: 0, kind })
    }

    /// Rows of a file that were found already.
    pub(super) fn found(path: &Path, rows: Vec<Raw>) -> Self {
        Self { path: path.to_owned(), n_read: 0, kind: Kind::Found(rows.into_iter()) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Raw>> {
        let number = self.n_read + 1;
        let mut at = None;
        let fields = match &mut self.kind {
            Kind::Lines(reader) => line(reader, &self.path, number)?,
            Kind::Array(reader) => element(reader, &self.path, number)?,
            Kind::Csv { names, reader, record } => {
                let read = reader.read_record(record);
                at = record.position().map(csv::Position::line);
                match read {
                    Ok(false) => None,
                    Ok(true) => Some(Ok(cells(names, record))),
                    Err(error) if error.is_io_error() => {
                        let what = format!("{}, row {number}: cannot be read: {error}", self.path.display());
                        return Err(Error::Input { what, hint: None });
                    }
                    Err(error) => {
                        at = error.position().map(csv::Position::line);
                        Some(Err(not_csv(&error)))
                    }
                }
            }
            Kind::Found(rows) => return Ok(rows.next()),
            Kind::Parquet { rows, n_rows } => match guarded(&self.path, || rows.next().transpose())? {
                Some(row) => Some(Ok(fields(row))),
                None if *n_rows != self.n_read => {
                    let what = format!("expected {n_rows} rows as its footer says, got {}", self.n_read);
                    return Err(cut_off(&self.path, &what));
                }
                None => None,
            },
        };
        self.n_read += u64::from(fields.is_some());
        Ok(fields.map(|fields| Raw { number, line: at, place: String::new(), fields }))
    }
}

/// Names of the columns of a CSV file, each there once.
fn header(reader: &mut csv::Reader<File>, path: &Path) -> Result<Vec<String>> {
    let wrong = |what: String| Error::Input { what: format!("{}, line 1: {what}", path.display()), hint: None };
    let header = reader.headers().map_err(|error| wrong(format!("the names of columns cannot be read: {error}")))?;
    // Spreadsheets put a mark of the byte order in front.
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    if let Some(name) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name)) {
        return Err(wrong(format!("expected each column once, got `{name}` twice")));
    }
    Ok(names)
}

/// Cells of a line; an empty one is as good as none.
fn cells(names: &[String], record: &csv::StringRecord) -> Map<String, Value> {
    let cells = names.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
    cells.map(|(name, cell)| (name.clone(), Value::String(cell.to_owned()))).collect()
}

fn not_csv(error: &csv::Error) -> Fault {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Fault::new("", format!("expected {expected_len} columns as the first line has, got {len}"))
        }
        csv::ErrorKind::Utf8 { .. } => Fault::new("", "expected UTF-8, got something else"),
        _ => Fault::new("", format!("it is no CSV: {error}")),
    }
}

type Parsed = std::result::Result<Map<String, Value>, Fault>;

/// The next line that is not blank. A last line without an end that cannot be read was cut off.
fn line(reader: &mut BufReader<File>, path: &Path, number: u64) -> Result<Option<Parsed>> {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let limit = MAX_ROW_BYTES as u64 + 1;
        let n_read = Read::by_ref(reader).take(limit).read_until(b'\n', &mut bytes);
        n_read.map_err(|error| unreadable(path, number, &error))?;
        if bytes.len() > MAX_ROW_BYTES {
            return Err(too_long(path, number));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        if !bytes.trim_ascii().is_empty() {
            break;
        }
    }
    let parsed = parse(&bytes);
    if parsed.is_err() && bytes.last() != Some(&b'\n') && is_unfinished(&bytes) {
        return Err(cut_off(path, &format!("row {number} ends in its middle")));
    }
    Ok(Some(parsed))
}

/// The next element of an array, without the comma before it.
fn element(reader: &mut BufReader<File>, path: &Path, number: u64) -> Result<Option<Parsed>> {
    let mut bytes = Vec::new();
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    loop {
        let buffer = reader.fill_buf().map_err(|error| unreadable(path, number, &error))?;
        if buffer.is_empty() {
            return Err(cut_off(path, &format!("the array ends in or before row {number}")));
        }
        let mut n_used = 0;
        let mut is_over = false;
        for byte in buffer {
            match byte {
                b'"' if !is_escaped => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b']' if !in_text && depth == 0 => is_over = true,
                b',' if !in_text && depth == 0 && !bytes.trim_ascii().is_empty() => is_over = true,
                b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
            is_escaped = in_text && *byte == b'\\' && !is_escaped;
            // What closes the array stays: the next look finds it again.
            if is_over && *byte == b']' {
                break;
            }
            n_used += 1;
            if is_over {
                break;
            }
            if !(*byte == b',' && bytes.is_empty() && depth == 0 && !in_text) {
                bytes.push(*byte);
            }
        }
        reader.consume(n_used);
        if bytes.len() > MAX_ROW_BYTES {
            return Err(too_long(path, number));
        }
        if is_over {
            let is_blank = bytes.trim_ascii().is_empty();
            return Ok((!is_blank).then(|| parse(&bytes)));
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Fault::new("", format!("expected an object, got {}", super::fields::shown(&other)))),
        Err(error) => Err(not_a_number(bytes).unwrap_or_else(|| Fault::new("", format!("it is no JSON: {error}")))),
    }
}

/// Python writes what JSON has no word for; the field it stands in is said.
fn not_a_number(bytes: &[u8]) -> Option<Fault> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (mut last_text, mut key) = (String::new(), String::new());
    let mut chars = text.char_indices();
    while let Some((at, letter)) = chars.next() {
        match letter {
            '"' => {
                last_text.clear();
                while let Some((_, inside)) = chars.next() {
                    match inside {
                        '"' => break,
                        '\\' => drop(chars.next()),
                        other => last_text.push(other),
                    }
                }
            }
            ':' => key.clone_from(&last_text),
            'N' | 'I' => {
                let word = ["NaN", "Infinity"].into_iter().find(|word| text[at..].starts_with(word))?;
                return Some(Fault::new(key, format!("expected a finite number, got `{word}`")));
            }
            _ => {}
        }
    }
    None
}

/// Whether a text is the beginning of an object, not something else.
fn is_unfinished(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_err_and(|error| error.is_eof())
}

/// Refuses columns that are said to lie outside the file, on which the library would panic.
fn check(metadata: &ParquetMetaData, n_bytes: u64) -> parquet::errors::Result<()> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        if end.and_then(|(start, length)| start.checked_add(length)).is_none_or(|end| end > n_bytes) {
            let name = column.column_path().string();
            let what = format!("column `{name}` lies outside the {n_bytes} bytes of the file");
            return Err(ParquetError::General(what));
        }
    }
    Ok(())
}

/// Calls the Parquet library, which panics on some files that are damaged: that is an error about the file too.
fn guarded<T>(path: &Path, work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    // What a panic leaves half-done is not used again: the reader ends at its first error.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| broken(path, &error)),
        Err(_) => Err(broken(path, &ParquetError::General("it is damaged".into()))),
    }
}

fn fields(row: parquet::record::Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// A cell as JSON. What JSON has no number for becomes a text, which is refused where a number is expected.
fn value(field: Field) -> Value {
    let real = |x: f64| Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => Value::Bool(x),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) => x.into(),
        Field::Long(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        Field::Float16(x) => real(f64::from(f32::from(x))),
        // By its shortest decimal, so that 0.1 in single precision is 0.1.
        Field::Float(x) => real(x.to_string().parse().unwrap_or(f64::from(x))),
        Field::Double(x) => real(x),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            // Files within a row, such as images: as text that JSON has room for.
            Err(_) => Value::String(STANDARD.encode(bytes.data())),
        },
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        Field::MapInternal(map) => {
            let entry = |(key, of): &(Field, Field)| (plain(key), value(of.clone()));
            Value::Object(map.entries().iter().map(entry).collect())
        }
        other => Value::String(other.to_string()),
    }
}

fn plain(key: &Field) -> String {
    if let Field::Str(text) = key { text.clone() } else { key.to_string() }
}

fn broken(path: &Path, error: &ParquetError) -> Error {
    let what = error.to_string();
    let hint = if what.contains("feature at compile time") {
        "this build reads Parquet that is not compressed or by snappy: write it again with `compression=\"snappy\"`, or as JSON lines"
    } else {
        "the file may have been cut off; get it again"
    };
    Error::Input { what: format!("{}: it cannot be read as Parquet: {what}", path.display()), hint: Some(hint.into()) }
}

fn cut_off(path: &Path, what: &str) -> Error {
    let hint = Some("the file was cut off; get it again".into());
    Error::Input { what: format!("{}: {what}", path.display()), hint }
}

fn unreadable(path: &Path, number: u64, error: &std::io::Error) -> Error {
    Error::Input { what: format!("{}, row {number}: cannot be read: {error}", path.display()), hint: None }
}

fn too_long(path: &Path, number: u64) -> Error {
    let what = format!("{}, row {number}: expected at most {MAX_ROW_BYTES} bytes, got more", path.display());
    Error::Input { what, hint: Some("is it JSON lines, a JSON array or Parquet?".into()) }
}
