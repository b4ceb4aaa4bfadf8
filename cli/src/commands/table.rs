//! `tracker query table`: numbers by two axes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tracker_lab::parts::evaluate::{Estimate, over_repeats};
use tracker_store::{Store, Table, Value};

use super::query::question;
use crate::args::TableArgs;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Values of an axis, in order: numbers by size, then texts.
#[derive(Clone, Debug, PartialEq)]
struct Place(f64, String);

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then_with(|| self.1.cmp(&other.1))
    }
}

impl Place {
    fn of(value: Option<&Value>) -> Self {
        let text = value.map_or_else(String::new, ToString::to_string);
        // Params are texts, and mostly numbers.
        let number =
            value.and_then(Value::number).or_else(|| text.parse().ok()).filter(|number: &f64| number.is_finite());
        Self(number.unwrap_or(f64::INFINITY), text)
    }
}

/// A number of one run.
struct Entry {
    run: String,
    value: f64,
    /// What may tell it from others of the run: fields and what they say.
    names: Vec<(String, Value)>,
    interval: Option<(f64, f64)>,
}

/// Prints numbers by two axes. Those of several runs in one place are averaged, with Student's interval over runs; one has its own.
pub fn table(dir: &Path, args: &TableArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let of: Table = args.of.parse()?;
    let has_interval = matches!(of, Table::Figures | Table::Claims);
    if !has_interval && of != Table::Runs {
        return Err(InputError { what: format!("expected figures, claims or runs, got `{of}`"), hint: None }.into());
    }
    let value = match (&args.value, of) {
        (Some(value), _) => value.clone(),
        (None, Table::Runs) => {
            let hint = Some("such as `--value metrics.loss`".into());
            return Err(InputError { what: "expected --value for a table of runs, got none".into(), hint }.into());
        }
        (None, _) => "value".to_owned(),
    };
    let run = if of == Table::Runs { "id" } else { "run" };
    let mut fields = vec![run, &args.rows, &args.columns, &value];
    // What else tells numbers of a place from each other.
    let more: &[&str] = match of {
        Table::Figures => &["low", "high", "stage", "name", "split", "item"],
        Table::Claims => &["low", "high", "claim"],
        _ => &[],
    };
    fields.extend(more);
    let rows = store.query(&question(&store, of, &args.listing())?.columns(&fields.join(", "))?)?.rows;
    let mut cells: BTreeMap<(Place, Place), Vec<Entry>> = BTreeMap::new();
    for row in &rows {
        let at = |place: usize| row.columns.get(place).map(|(_, value)| value);
        let Some(number) = at(3).and_then(Value::number).filter(|number| number.is_finite()) else { continue };
        let interval = |has: bool| Some((at(4)?.number()?, at(5)?.number()?)).filter(|_| has);
        let entry = Entry {
            run: at(0).map_or_else(String::new, ToString::to_string),
            value: number,
            names: row.columns.get(6..).unwrap_or_default().to_vec(),
            interval: interval(has_interval && value == "value"),
        };
        let entries = cells.entry((Place::of(at(1)), Place::of(at(2)))).or_default();
        if let Some(other) = entries.iter().find(|other| other.run == entry.run) {
            return Err(ambiguous(&entry, other, &row.columns[1..3]));
        }
        entries.push(entry);
    }
    if cells.is_empty() {
        let hint = Some(format!("`tracker query {of} FILTER` lists what matches"));
        return Err(InputError { what: format!("no {of} with numbers match"), hint }.into());
    }
    print(args, &cells, printer)?;
    Ok(Answer::Yes)
}

/// Says what differs between two numbers of one run that stand in one place.
fn ambiguous(entry: &Entry, other: &Entry, place: &[(String, Value)]) -> anyhow::Error {
    let said = |(name, value): &(String, Value)| format!("{name} `{value}`");
    let differing = |of: &Entry, from: &Entry| {
        let apart = of.names.iter().filter(|name| !from.names.contains(name)).map(said);
        let apart: Vec<String> = apart.collect();
        format!("{:.3} ({})", of.value, apart.join(", "))
    };
    let what = format!(
        "expected one number of a run in a place, got two of run {} at {}: {} and {}",
        entry.run,
        place.iter().map(said).collect::<Vec<_>>().join(", "),
        differing(other, entry),
        differing(entry, other)
    );
    let hint = "narrow them with a filter, such as \"name = 'accuracy' AND stage = 'test'\"";
    InputError { what, hint: Some(hint.into()) }.into()
}

fn print(args: &TableArgs, cells: &BTreeMap<(Place, Place), Vec<Entry>>, printer: &Printer) -> anyhow::Result<()> {
    let estimates: BTreeMap<&(Place, Place), (Estimate, usize)> = cells
        .iter()
        .filter_map(|(place, entries)| {
            let estimate = match entries.as_slice() {
                [Entry { value, interval: Some((low, high)), .. }] => {
                    Estimate { value: *value, low: *low, high: *high }
                }
                many => over_repeats(&many.iter().map(|entry| entry.value).collect::<Vec<_>>())?,
            };
            Some((place, (estimate, entries.len())))
        })
        .collect();
    if printer.is_json() {
        for ((row, column), (Estimate { value, low, high }, n)) in &estimates {
            printer.json(&json!({
                "row": row.1, "column": column.1, "value": value, "low": low, "high": high, "n_runs": n,
                "runs": cells[&(row.clone(), column.clone())].iter().map(|entry| &entry.run).collect::<Vec<_>>(),
            }))?;
        }
        return Ok(());
    }
    let rows: std::collections::BTreeSet<&Place> = cells.keys().map(|(row, _)| row).collect();
    let columns: std::collections::BTreeSet<&Place> = cells.keys().map(|(_, column)| column).collect();
    let mut header = vec![format!("{} \\ {}", args.rows, args.columns)];
    header.extend(columns.iter().map(|column| column.1.clone()));
    let line = |row: &&Place| {
        let cell = |column: &&Place| match estimates.get(&((*row).clone(), (*column).clone())) {
            None => String::new(),
            Some((Estimate { value, low, high }, n)) => {
                let interval = if low < high { format!(" [{low:.3}, {high:.3}]") } else { String::new() };
                let over = if *n > 1 { format!(" of {n}") } else { String::new() };
                format!("{value:.3}{interval}{over}")
            }
        };
        std::iter::once(row.1.clone()).chain(columns.iter().map(cell)).collect()
    };
    printer.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows.iter().map(line))?;
    Ok(())
}
