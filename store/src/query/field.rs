//! From a field as it was written to where its value is found.

use super::filter::Field;
use super::tables::Table;
use crate::error::{Error, Result};

/// Where the value of a field is found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// A column of the table.
    Column(&'static str),
    /// A column of the run a row belongs to.
    Run(&'static str),
    /// A column of the sample a verdict or a reward is about.
    Sample(&'static str),
    /// A param of the run.
    Param(String),
    /// A tag of the run.
    Tag(String),
    /// The latest value of a series of the run.
    Metric(String),
    /// `name`, `digest` or `context` of the datasets the run used.
    Dataset(&'static str),
    /// A field of the node that a column names.
    Through(&'static str, Field),
}

impl Source {
    /// Finds where `field` of `table` is, or says what there is; `text` is where it was written.
    pub(super) fn of(field: &Field, table: Table, text: &str) -> Result<Self> {
        let has_run = table.kind().is_row();
        let is_run = table == Table::Runs;
        let key = field.key.as_str();
        let found = match field.entity.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => table.column(key).map(Self::Column).or_else(|| run_column(has_run, key)),
            Some("attribute" | "attributes" | "attr") => table.column(key).map(Self::Column),
            Some("run") if is_run => table.column(key).map(Self::Column),
            Some("run") if has_run => Table::Runs.column(key).map(Self::Run),
            Some("sample")
                if matches!(table, Table::Proofs | Table::Rewards) && Table::Samples.column(key).is_some() =>
            {
                Table::Samples.column(key).map(Self::Sample)
            }
            Some("param" | "params" | "parameter" | "parameters") if is_run || has_run => {
                Some(Self::Param(key.to_owned()))
            }
            Some("tag" | "tags") if is_run || has_run => Some(Self::Tag(key.to_owned())),
            Some("metric" | "metrics") if is_run || has_run => Some(Self::Metric(key.to_owned())),
            Some("dataset" | "datasets") if is_run || has_run => {
                ["name", "digest", "context"].into_iter().find(|column| *column == key).map(Self::Dataset)
            }
            Some(entity) => {
                let link = table.links().iter().find(|link| **link == entity);
                let rest = field.rest();
                link.filter(|_| Table::ALL.iter().any(|table| Self::of(&rest, *table, text).is_ok()))
                    .map(|link| Self::Through(link, rest))
            }
        };
        found.ok_or_else(|| unknown(field, table, text))
    }

    /// What the field is called in an answer.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Column(column) => (*column).to_owned(),
            Self::Run(column) => format!("run.{column}"),
            Self::Sample(column) => format!("sample.{column}"),
            Self::Param(key) => format!("params.{key}"),
            Self::Tag(key) => format!("tags.{key}"),
            Self::Metric(key) => format!("metrics.{key}"),
            Self::Dataset(column) => format!("datasets.{column}"),
            Self::Through(link, field) => format!("{link}.{}", field.name()),
        }
    }
}

/// Columns of the run that rows have under the same name.
fn run_column(has_run: bool, key: &str) -> Option<Source> {
    let column = ["study", "status"].into_iter().find(|column| *column == key);
    column.filter(|_| has_run).map(Source::Run)
}

fn unknown(field: &Field, table: Table, text: &str) -> Error {
    let columns = table.columns();
    let got = field.entity.as_ref().map_or_else(|| field.key.clone(), |entity| format!("{entity}.{}", field.key));
    let hint = crate::resolve::nearest(&field.key, columns.iter().copied());
    let more = if table == Table::Runs || table.kind().is_row() { ", params.KEY, tags.KEY or metrics.KEY" } else { "" };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    Error::Syntax {
        text: crate::error::shortened(text),
        column: field.column,
        expected: format!("one of {}{more}", columns.join(", ")),
        got: format!("`{got}`{hint}"),
    }
}
