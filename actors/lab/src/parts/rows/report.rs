//! What was read of files, and what was left out and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tracker_store::{Dataset, Digest, Recording, RunId};

use super::Fault;
use crate::error::Result;

/// How many left-out rows are named.
const NAMED: usize = 100;

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The file.
    pub file: String,
    /// The row in it, from 1.
    pub row: u64,
    /// The field that was wrong; empty for the whole row.
    pub field: String,
    /// What was expected and found.
    pub what: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, row {}", self.file, self.row)?;
        if !self.field.is_empty() {
            write!(f, ", field `{}`", self.field)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format's name.
    pub format: &'static str,
    /// Files.
    pub n_files: u32,
    /// Rows that were there: the denominator.
    pub n_read: u64,
    /// Rows that were used.
    pub n_kept: u64,
    /// Left-out rows by the field that was wrong.
    pub n_skipped: BTreeMap<String, u64>,
    /// The first hundred left-out rows.
    pub skipped: Vec<Skipped>,
    /// The digest of the rows that were used, in order.
    pub content: Digest,
}

impl Report {
    pub(super) fn new(format: &'static str) -> Self {
        Self {
            format,
            n_files: 0,
            n_read: 0,
            n_kept: 0,
            n_skipped: BTreeMap::new(),
            skipped: Vec::new(),
            content: Digest::from_bytes([0; 32]),
        }
    }

    pub(super) fn skip(&mut self, file: &str, row: u64, fault: Fault) {
        let place = fault.field.split('[').next().unwrap_or_default().to_owned();
        *self.n_skipped.entry(place).or_default() += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push(Skipped { file: file.to_owned(), row, field: fault.field, what: fault.what });
        }
    }

    /// The data set of the rows that were used.
    #[must_use]
    pub fn dataset(&self, name: &str, purpose: &str) -> Dataset {
        Dataset {
            name: name.to_owned(),
            purpose: purpose.to_owned(),
            n_rows: self.n_kept,
            content: self.content,
            rows: None,
        }
    }

    /// Records as params of a run, under `rows/NAME`, how many rows there were, how many were used, and what was left out and why.
    ///
    /// # Errors
    /// Those of recording.
    pub fn record(&self, recording: &mut Recording, run: RunId, name: &str) -> Result<()> {
        recording.put_param(run, &format!("rows/{name}/read"), &self.n_read.to_string())?;
        recording.put_param(run, &format!("rows/{name}/used"), &self.n_kept.to_string())?;
        for (field, n) in &self.n_skipped {
            let field = if field.is_empty() { "row" } else { field };
            recording.put_param(run, &format!("rows/{name}/left out by {field}"), &n.to_string())?;
        }
        if !self.skipped.is_empty() {
            let named: Vec<String> = self.skipped.iter().map(ToString::to_string).collect();
            recording.put_param(run, &format!("rows/{name}/left out"), &named.join("\n"))?;
        }
        Ok(())
    }
}
