//! Rows of published data sets, read as they are from JSON lines, JSON arrays, Parquet or CSV, one at a time.
//!
//! A [`Format`] says what a row is; a [`Reader`] walks the files and vouches for them: every row has an id of its own, no two
//! files share a name, none ends early. What is wrong with a row is said with file, row and field; if the user asked for it
//! (`skip_bad`), such rows are left out instead, counted and named in the [`Report`], which says the denominator.
//!
//! Not here: graders, what is made of rows.

mod attributes;
mod fields;
mod layout;
mod preference;
mod process;
mod queries;
mod report;
mod source;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use tracker_store::{Digest, Recording};

use crate::error::{Error, Result};
use crate::lab::Lab;

pub use attributes::{
    Attributed, Attributes, Feedback, HELP_STEER, HelpSteer, ULTRA_FEEDBACK, UltraFeedback, help_steer_score,
    ultra_feedback_score,
};
pub use fields::{Fault, Fields, Kinds, Message};
pub use preference::{
    ChosenRejected, Comparison, Pair, RewardBench, Section, UnifiedFeedback, reward_bench_score, reward_bench_sections,
};
pub use process::{BestOfTest, Candidates, Completions, CompletionsOf, ErPrm, Question, Questions, StepValues, boxed};
pub use queries::{Gold, Queries, Query, QueryFormat};
pub use report::{Report, Skipped};
pub use source::Raw;

use source::Source;

/// What a row is, and how it is read.
pub trait Format {
    /// What people call it.
    const NAME: &'static str;
    /// The typed row.
    type Row;

    /// Reads a row; its id was found already.
    ///
    /// # Errors
    /// A fault with the field that is wrong.
    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Self::Row, Fault>;

    /// The rows of a file that is no list of objects, with where they lie; none where it is read as such a list.
    ///
    /// # Errors
    /// `Input` naming the file if it is something else.
    fn rows(&self, _path: &Path) -> Result<Option<Vec<Raw>>> {
        Ok(None)
    }
}

/// A format whose rows are made something of, or only checked: that a model can read them, for one. What cannot be made
/// anything of is a wrong row like any other, named and counted.
pub struct Mapped<F, M> {
    /// The format.
    pub format: F,
    /// Fails with the field that is wrong.
    pub map: M,
}

impl<F: Format, T, M: Fn(F::Row) -> std::result::Result<T, Fault>> Format for Mapped<F, M> {
    const NAME: &'static str = F::NAME;
    type Row = T;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<T, Fault> {
        (self.map)(self.format.read(id, fields)?)
    }

    fn rows(&self, path: &Path) -> Result<Option<Vec<Raw>>> {
        self.format.rows(path)
    }
}

/// What names a row. A place in a file never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// A field that every row must have.
    Field(String),
    /// The digest of what the row says, for data published without ids.
    Content,
}

impl Default for Ids {
    fn default() -> Self {
        Self::Field("id".into())
    }
}

/// How files are read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What names a row.
    pub ids: Ids,
    /// How many rows there are to be in all files together, if that was declared: fewer means a file was cut off.
    pub n_rows: Option<u64>,
    /// Whether wrong rows are left out and counted, instead of ending the reading.
    pub skip_bad: bool,
}

impl Options {
    /// As plans have them: the field that names a row, or an empty one to name rows by what they say.
    #[must_use]
    pub fn new(id: &str, skip_bad: bool) -> Self {
        let ids = if id.is_empty() { Ids::Content } else { Ids::Field(id.to_owned()) };
        Self { ids, n_rows: None, skip_bad }
    }
}

/// All rows of the files; how many there were and what was left out is recorded under `name`, and said.
///
/// # Errors
/// As [`Reader`]; those of recording.
pub async fn read<F: Format>(
    lab: &Lab,
    name: &str,
    format: F,
    paths: &[impl AsRef<Path>],
    options: Options,
) -> Result<Vec<F::Row>> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_path_buf()).collect();
    let (rows, report) = Reader::open(format, &paths, options)?.collect_all()?;
    let mut recording = Recording::new();
    report.record(&mut recording, lab.run(), name)?;
    lab.record(recording).await?;
    lab.note(format!("{name}: {} of {} rows kept", report.n_kept, report.n_read));
    Ok(rows)
}

/// Typed rows of a list of files, in order.
///
/// # Errors
/// Each item may be an error: `Input` naming file, row and field. The last one may say that rows are missing. After an
/// error there are no more rows.
pub struct Reader<F: Format> {
    format: F,
    options: Options,
    files: VecDeque<PathBuf>,
    source: Option<Source>,
    /// File and row of each id.
    seen: HashMap<[u8; 16], (u32, u64)>,
    names: Vec<String>,
    report: Report,
    content: blake3::Hasher,
    kinds: Kinds,
    is_done: bool,
}

impl<F: Format> Reader<F> {
    /// Opens files that together are one data set.
    ///
    /// # Errors
    /// `Input` if there is none, or two have one name: shards that were written over each other look like this.
    pub fn open(format: F, paths: &[PathBuf], options: Options) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::Input { what: format!("expected a file of {} rows, got none", F::NAME), hint: None });
        }
        let mut by_name: BTreeMap<String, &Path> = BTreeMap::new();
        let mut names = Vec::with_capacity(paths.len());
        for path in paths {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            if let Some(other) = by_name.insert(name.clone(), path) {
                return Err(Error::Input {
                    what: format!(
                        "two files of one data set are called `{name}`: {} and {}",
                        other.display(),
                        path.display()
                    ),
                    hint: Some("shards of one name may have been written over each other; give each its own".into()),
                });
            }
            names.push(name);
        }
        Ok(Self {
            format,
            options,
            files: paths.iter().cloned().collect(),
            source: None,
            seen: HashMap::new(),
            names,
            report: Report::new(F::NAME),
            content: blake3::Hasher::new(),
            kinds: Kinds::default(),
            is_done: false,
        })
    }

    /// What was read so far; whole once there are no more rows.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// All rows, and what is to be said of the files.
    ///
    /// # Errors
    /// The first of the rows'.
    pub fn collect_all(mut self) -> Result<(Vec<F::Row>, Report)> {
        let rows = self.by_ref().collect::<Result<Vec<_>>>()?;
        Ok((rows, self.report))
    }

    fn step(&mut self) -> Result<Option<F::Row>> {
        loop {
            let Some(source) = &mut self.source else {
                let Some(path) = self.files.pop_front() else { return self.end().map(|()| None) };
                self.source = Some(match self.format.rows(&path)? {
                    Some(rows) => Source::found(&path, rows),
                    None => Source::open(&path)?,
                });
                self.report.n_files += 1;
                continue;
            };
            let Some(raw) = source.next_row()? else {
                self.source = None;
                continue;
            };
            self.report.n_read += 1;
            let (number, line, place) = (raw.number, raw.line, raw.place);
            let placed = |fault: Fault| {
                let parts = [place.as_str(), &fault.field];
                let field = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
                let what = match line {
                    None => fault.what,
                    Some(line) => format!("line {line}: {}", fault.what),
                };
                Fault { field, what }
            };
            let path = source.path().to_owned();
            match self.typed(raw.fields) {
                Ok(row) => {
                    self.report.n_kept += 1;
                    return Ok(Some(row));
                }
                Err(fault) if self.options.skip_bad => {
                    self.report.skip(&path.display().to_string(), number, placed(fault));
                }
                Err(fault) => return Err(placed(fault).at(&path.display().to_string(), number)),
            }
        }
    }

    fn typed(
        &mut self,
        map: std::result::Result<serde_json::Map<String, serde_json::Value>, Fault>,
    ) -> std::result::Result<F::Row, Fault> {
        let map = map?;
        let fields = Fields::new(&map, &self.kinds);
        let bytes = serde_json::to_vec(&map).map_err(|error| Fault::new("", error.to_string()))?;
        let content = blake3::hash(&bytes);
        let (field, id) = match &self.options.ids {
            Ids::Content => ("", content.to_hex().to_string()),
            Ids::Field(field) => (field.as_str(), fields.id(field)?),
        };
        let row = self.format.read(id.clone(), &fields)?;
        let (mut key, digest) = ([0; 16], blake3::hash(id.as_bytes()));
        key.copy_from_slice(&digest.as_bytes()[..16]);
        let here = (self.report.n_files - 1, self.report.n_read);
        if let Some((file, nth)) = self.seen.get(&key) {
            let name = self.names.get(*file as usize).map_or("", String::as_str);
            let what = if field.is_empty() { "says the same".into() } else { format!("has the same id `{id}`") };
            return Err(Fault::new(field, format!("an earlier row {what}: number {nth} of all, in `{name}`")));
        }
        self.seen.insert(key, here);
        self.content.update(content.as_bytes());
        Ok(row)
    }

    fn end(&mut self) -> Result<()> {
        self.report.content = Digest::from_bytes(*self.content.finalize().as_bytes());
        let files = self.names.join(", ");
        if let Some(declared) = self.options.n_rows.filter(|declared| *declared != self.report.n_read) {
            return Err(Error::Input {
                what: format!("{files}: expected {declared} rows as declared, got {}", self.report.n_read),
                hint: Some("a file may have been cut off; get it again".into()),
            });
        }
        if self.report.n_kept == 0 {
            let what =
                format!("{files}: expected {} rows, got none that can be used of {}", F::NAME, self.report.n_read);
            return Err(Error::Input { what, hint: self.report.skipped.first().map(ToString::to_string) });
        }
        Ok(())
    }
}

impl<F: Format> Iterator for Reader<F> {
    type Item = Result<F::Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let row = self.step().transpose();
        self.is_done = !matches!(row, Some(Ok(_)));
        row
    }
}

#[cfg(test)]
mod tests;
