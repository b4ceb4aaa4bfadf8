//! Questions over the tables of the store: filtered, ordered, a page at a time.
//!
//! A query runs over the narrowest entries an index offers for what its filter requires, evaluates the whole filter on
//! each, and keeps no more rows than it gives. Indexes only ever narrow: the answer is the same without them.
//!
//! Invariants: equal questions of an unchanged store have equal answers; pages join without gap or repeat, because a
//! token names the last row by its sort values and its node, never by a count.

mod field;
mod filter;
mod grammar;
mod group;
mod plan;
mod rows;
mod tables;
mod value;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result, hex, unhex};
use crate::id::{ExperimentId, NodeId, RunId};
use crate::lineage::Toward;
use crate::store::Store;

pub use filter::Filter;
pub use group::{Grouped, Grouping};
pub use tables::Table;
pub use value::Value;

use field::Source;
use filter::Field;
use rows::{Candidate, Facts};
use value::Exact;

/// Which runs are asked for: a run is deleted if it is, or its experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Those that are not deleted.
    #[default]
    Active,
    /// Those that are deleted.
    Deleted,
    /// All.
    Any,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    table: Table,
    filter: Option<Filter>,
    order: Vec<(Field, bool)>,
    order_text: String,
    run: Option<RunId>,
    limit: usize,
    after: Option<String>,
    columns: Vec<(Field, String)>,
    only: bool,
    kin: Vec<(NodeId, Toward)>,
    life: Life,
    experiments: Option<BTreeSet<ExperimentId>>,
}

impl Query {
    /// Every row of a table, in its own order.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self {
            table,
            filter: None,
            order: Vec::new(),
            order_text: String::new(),
            run: None,
            limit: usize::MAX,
            after: None,
            columns: Vec::new(),
            only: false,
            kin: Vec::new(),
            life: Life::Active,
            experiments: None,
        }
    }

    /// Only runs of these experiments, however many those are.
    #[must_use]
    pub fn in_experiments(mut self, ids: impl IntoIterator<Item = ExperimentId>) -> Self {
        self.experiments = Some(ids.into_iter().collect());
        self
    }

    /// Runs that are deleted, or all, in place of those that are not.
    #[must_use]
    pub fn life(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// Only rows for which `filter` is true; see [`Filter::parse`].
    ///
    /// # Errors
    /// `Syntax`.
    pub fn filter(mut self, filter: &str) -> Result<Self> {
        self.filter = if filter.trim().is_empty() { None } else { Some(Filter::parse(filter)?) };
        Ok(self)
    }

    /// By `field [ASC|DESC], …`; null and NaN last either way, ties by id in the direction of the first field.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn order_by(mut self, order: &str) -> Result<Self> {
        self.order = grammar::order(order)?;
        order.clone_into(&mut self.order_text);
        Ok(self)
    }

    /// Only what this run recorded.
    #[must_use]
    pub fn of_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// Only these columns, `field, …`, in this order, each as often as it is named, in place of the table's.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn columns(mut self, fields: &str) -> Result<Self> {
        self.columns = grammar::fields(fields)?.into_iter().map(|field| (field, fields.to_owned())).collect();
        self.only = true;
        Ok(self)
    }

    /// Only what `node` came from, or what came from it, over any number of edges. May be asked again: rows are then kin of all.
    #[must_use]
    pub fn kin_of(mut self, node: NodeId, toward: Toward) -> Self {
        self.kin.push((node, toward));
        self
    }

    /// At most this many rows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Only what follows the page that gave this token.
    #[must_use]
    pub fn after(mut self, token: impl Into<String>) -> Self {
        self.after = Some(token.into());
        self
    }

    /// One more column, such as `metrics.loss` or `params.lr`.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn column(mut self, field: &str) -> Result<Self> {
        for (column, _) in grammar::order(field)? {
            self.columns.push((column, field.to_owned()));
        }
        Ok(self)
    }
}

/// One row of an answer: the table's columns, then those the question named. Serialises as a map in this order, a column that is named
/// twice once.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is a row of.
    pub id: NodeId,
    /// Names and values.
    pub columns: Vec<(String, Value)>,
}

impl Row {
    /// The value in a column, if there is such a column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (place, (name, value)) in self.columns.iter().enumerate() {
            if self.columns[..place].iter().all(|(other, _)| other != name) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// What to ask the next page with, if there may be one.
    pub next: Option<String>,
}

/// Where a page ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mark {
    values: Vec<Exact>,
    node: NodeId,
}

/// A question whose fields were found.
struct Bound<'a> {
    query: &'a Query,
    order: Vec<(Source, bool)>,
    shown: Vec<Source>,
    mark: Option<(Vec<Value>, NodeId)>,
}

impl Store {
    /// Answers a question, up to its limit.
    ///
    /// # Errors
    /// `Syntax` if a field is not there; `Invalid` if the token is not one of this question's; the engine's; `Corrupt`.
    pub fn query(&self, query: &Query) -> Result<Page> {
        let bound = Bound::new(query)?;
        self.at_one_state(|store| bound.answer(store))
    }
}

impl Bound<'_> {
    fn answer(&self, store: &Store) -> Result<Page> {
        let limit = self.query.limit;
        let mut facts = Facts::new(store);
        let plan = plan::Plan::new(store, self)?;
        let is_in_order = plan.is_in_order;
        let mut kept: Vec<(Vec<Value>, Candidate)> = Vec::new();
        let mut has_more = false;
        for candidate in plan.candidates {
            let candidate = candidate?;
            let Some(values) = self.keep(&candidate, &mut facts)? else {
                continue;
            };
            if kept.len() >= limit {
                has_more = true;
                if is_in_order {
                    break;
                }
            }
            kept.push((values, candidate));
            // Sorting now and then keeps the work near that of a heap, and the code simpler.
            if !is_in_order && kept.len() >= limit.saturating_mul(2).saturating_add(1024) {
                self.sort(&mut kept, limit);
            }
        }
        if !is_in_order {
            self.sort(&mut kept, limit);
        }
        let next = match kept.last() {
            Some((values, candidate)) if has_more => Some(token(values, candidate.node)?),
            _ => None,
        };
        let rows = kept.iter().map(|(_, candidate)| self.show(candidate, &mut facts)).collect::<Result<_>>()?;
        Ok(Page { rows, next })
    }
}

impl<'a> Bound<'a> {
    fn new(query: &'a Query) -> Result<Self> {
        let own = query.table.columns().into_iter().filter(|_| !query.only);
        let mut shown: Vec<Source> = own.map(Source::Column).collect();
        let mut show = |source: &Source| {
            if query.only || !shown.contains(source) {
                shown.push(source.clone());
            }
        };
        if let Some(filter) = &query.filter {
            for field in filter.root.fields() {
                let source = Source::of(field, query.table, &filter.text)?;
                if !query.only {
                    show(&source);
                }
            }
        }
        let mut order = Vec::new();
        for (field, is_descending) in &query.order {
            let source = Source::of(field, query.table, &query.order_text)?;
            if !query.only {
                show(&source);
            }
            order.push((source, *is_descending));
        }
        for (field, text) in &query.columns {
            show(&Source::of(field, query.table, text)?);
        }
        let mark = query.after.as_deref().map(|token| mark(token, order.len())).transpose()?;
        Ok(Self { query, order, shown, mark })
    }

    fn source(&self, field: &Field) -> Result<Source> {
        let text = self.query.filter.as_ref().map_or("", |filter| filter.text.as_str());
        Source::of(field, self.query.table, text)
    }

    /// The sort values of a candidate, if it passes the filter and comes after the mark.
    fn keep(&self, candidate: &Candidate, facts: &mut Facts<'_>) -> Result<Option<Vec<Value>>> {
        let is_asked = match (self.query.table, self.query.life) {
            (Table::Runs, Life::Active) => !facts.is_deleted(candidate)?,
            (Table::Runs, Life::Deleted) => facts.is_deleted(candidate)?,
            _ => true,
        };
        if !is_asked {
            return Ok(None);
        }
        if let (Table::Runs, Some(experiments)) = (self.query.table, &self.query.experiments)
            && !candidate.experiment()?.is_some_and(|id| experiments.contains(&id))
        {
            return Ok(None);
        }
        if let Some(filter) = &self.query.filter {
            let mut look = |field: &Field| facts.values(candidate, &self.source(field)?);
            if filter.root.holds(&mut look)? != Some(true) {
                return Ok(None);
            }
        }
        let values = self.order.iter().map(|(source, _)| facts.value(candidate, source)).collect::<Result<Vec<_>>>()?;
        let is_after = self
            .mark
            .as_ref()
            .is_none_or(|(mark, node)| self.compare((&values, &candidate.node), (mark, node)) == Ordering::Greater);
        Ok(is_after.then_some(values))
    }

    fn compare(&self, a: (&[Value], &NodeId), b: (&[Value], &NodeId)) -> Ordering {
        for ((x, y), (_, is_descending)) in a.0.iter().zip(b.0).zip(&self.order) {
            let ordering = match (x.is_last(), y.is_last()) {
                (false, false) if *is_descending => y.order(x),
                _ => x.order(y),
            };
            if ordering.is_ne() {
                return ordering;
            }
        }
        if self.is_descending() { b.1.cmp(a.1) } else { a.1.cmp(b.1) }
    }

    /// Whether ties, or all rows if no order is asked for, go from the greatest id down: newest runs first.
    fn is_descending(&self) -> bool {
        self.order.first().map_or(self.query.table == Table::Runs, |(_, is_descending)| *is_descending)
    }

    fn sort(&self, rows: &mut Vec<(Vec<Value>, Candidate)>, limit: usize) {
        rows.sort_by(|a, b| self.compare((&a.0, &a.1.node), (&b.0, &b.1.node)));
        rows.truncate(limit);
    }

    fn show(&self, candidate: &Candidate, facts: &mut Facts<'_>) -> Result<Row> {
        let cell = |source: &Source| Ok((source.name(), facts.value(candidate, source)?));
        Ok(Row { id: candidate.node, columns: self.shown.iter().map(cell).collect::<Result<_>>()? })
    }
}

fn token(values: &[Value], node: NodeId) -> Result<String> {
    let mark = Mark { values: values.iter().map(Exact::from).collect(), node };
    let json =
        serde_json::to_vec(&mark).map_err(|error| Error::invalid("a page token", "one that can be written", error))?;
    Ok(hex(&json))
}

fn mark(token: &str, n_values: usize) -> Result<(Vec<Value>, NodeId)> {
    let mark: Option<Mark> = unhex(token).and_then(|json| serde_json::from_slice(&json).ok());
    match mark {
        Some(mark) if mark.values.len() == n_values => {
            Ok((mark.values.into_iter().map(Value::from).collect(), mark.node))
        }
        _ => Err(Error::invalid("a page token", "the one an earlier page of the same question gave", token)),
    }
}
