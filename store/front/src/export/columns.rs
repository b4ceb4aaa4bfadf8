//! A front as columns of one type each, for the formats that are tables.

use crate::objective::Direction;
use crate::table::Front;

/// A column: its name, and a cell for each row.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) cells: Cells,
}

/// Cells of one type.
pub(super) enum Cells {
    Text(Vec<String>),
    OptionalText(Vec<Option<String>>),
    Number(Vec<f64>),
    OptionalNumber(Vec<Option<f64>>),
    Whole(Vec<u32>),
    Flag(Vec<bool>),
}

impl Cells {
    /// A cell as text; None where it is missing.
    pub(super) fn text(&self, row: usize) -> Option<String> {
        match self {
            Self::Text(cells) => Some(cells[row].clone()),
            Self::OptionalText(cells) => cells[row].clone(),
            Self::Number(cells) => Some(number(cells[row])),
            Self::OptionalNumber(cells) => cells[row].map(number),
            Self::Whole(cells) => Some(cells[row].to_string()),
            Self::Flag(cells) => Some(cells[row].to_string()),
        }
    }
}

/// The shortest text that reads back as the same number.
pub(super) fn number(value: f64) -> String {
    format!("{value:?}")
}

/// All columns of a front, in order.
pub(super) fn of(front: &Front) -> Vec<Column> {
    let rows = &front.rows;
    let mut columns = Vec::new();
    let mut add = |name: &str, cells| columns.push(Column { name: name.to_owned(), cells });
    add("run", Cells::Text(rows.iter().map(|r| r.run.clone()).collect()));
    add("checkpoint", Cells::Text(rows.iter().map(|r| r.checkpoint.clone()).collect()));
    for (k, objective) in front.objectives.iter().enumerate() {
        let name = &objective.name;
        let end = if objective.direction == Direction::Maximise { "max" } else { "min" };
        add(&format!("{end}.{name}"), Cells::Number(rows.iter().map(|r| r.values[k]).collect()));
        if rows.iter().any(|r| r.intervals[k].is_some()) {
            let low = rows.iter().map(|r| r.intervals[k].map(|i| i.0)).collect();
            let high = rows.iter().map(|r| r.intervals[k].map(|i| i.1)).collect();
            add(&format!("low.{name}"), Cells::OptionalNumber(low));
            add(&format!("high.{name}"), Cells::OptionalNumber(high));
        }
    }
    add("is_pareto", Cells::Flag(rows.iter().map(|r| r.is_pareto).collect()));
    if front.epsilon.is_some() {
        add("is_kept", Cells::Flag(rows.iter().map(|r| r.is_kept.unwrap_or(false)).collect()));
    }
    add("rank", Cells::Whole(rows.iter().map(|r| r.rank).collect()));
    add("crowding", Cells::Number(rows.iter().map(|r| r.crowding).collect()));
    let mut params: Vec<&String> = rows.iter().flat_map(|r| r.params.keys()).collect();
    params.sort_unstable();
    params.dedup();
    for param in params {
        let cells = rows.iter().map(|r| r.params.get(param).cloned()).collect();
        add(&format!("param.{param}"), Cells::OptionalText(cells));
    }
    add("artifact_digest", Cells::Text(rows.iter().map(|r| r.artifact_digest.clone()).collect()));
    add("lineage_root", Cells::Text(rows.iter().map(|r| r.lineage_root.clone()).collect()));
    add("family", Cells::OptionalText(rows.iter().map(|r| r.family.clone()).collect()));
    add("hypervolume", Cells::OptionalNumber(vec![front.hypervolume; rows.len()]));
    for (k, objective) in front.objectives.iter().enumerate() {
        let value = front.reference.as_ref().map(|r| r[k]);
        add(&format!("reference.{}", objective.name), Cells::OptionalNumber(vec![value; rows.len()]));
    }
    add("is_default_reference", Cells::Flag(vec![front.is_default_reference; rows.len()]));
    for (objective, epsilon) in front.objectives.iter().zip(front.epsilon.iter().flatten()) {
        add(&format!("epsilon.{}", objective.name), Cells::Number(vec![*epsilon; rows.len()]));
    }
    columns
}
