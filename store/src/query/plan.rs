//! Which entries to look at: the narrowest range or index for what the filter requires and the order asks.

use std::collections::BTreeSet;

use tracker_engine::Direction;

use super::Bound;
use super::field::Source;
use super::filter::{Comparison, Test};
use super::rows::Candidate;
use super::tables::Table;
use super::value::Value;
use crate::error::Result;
use crate::id::{ExperimentId, Kind, NodeId, RunId};
use crate::keys::{self, RunIndex};
use crate::model::{Outcome, Relation, Status};
use crate::reader::{Entries, Span};
use crate::store::Store;

/// Where the rows of an answer come from.
pub(super) struct Plan<'a> {
    /// Every row that may pass the filter, and maybe more.
    pub(super) candidates: Box<dyn Iterator<Item = Result<Candidate>> + 'a>,
    /// Whether they come in the order asked for, so that the first that pass are the answer.
    pub(super) is_in_order: bool,
}

/// Entries of an index that are read and sorted rather than passed over in the order that is asked for.
const NARROW: usize = 1024;

/// Whether few entries lie in `span`.
fn is_narrow(store: &Store, span: &Span) -> Result<bool> {
    let mut entries = Entries::over(store.read(), span.clone(), Direction::Ascending);
    for _ in 0..=NARROW {
        if entries.next().transpose()?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the node a key leads to.
type NodeOf = Box<dyn Fn(&[u8]) -> Result<NodeId>>;

/// Keys that lead to nodes, by id: a prefix, then the node.
struct Index {
    prefix: Vec<u8>,
    node: NodeOf,
    rest: fn(&NodeId) -> Vec<u8>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(store: &'a Store, bound: &Bound<'_>) -> Result<Self> {
        let table = bound.query.table;
        let direction = if bound.is_descending() { Direction::Descending } else { Direction::Ascending };
        let is_by_id = bound.order.is_empty();
        let needs = Needs::of(bound)?;
        if !bound.query.kin.is_empty() {
            return Self::of_kin(store, bound, needs.run, direction);
        }
        if let (Table::Runs, Some(run)) = (table, needs.run) {
            let candidate = fetch(store, table, NodeId::run(run));
            return Ok(Self { candidates: Box::new(candidate.transpose().into_iter()), is_in_order: true });
        }
        let index = needs.index(store, table)?;
        let range = needs.range.as_ref().filter(|_| table == Table::Runs);
        let is_narrow_index = match &index {
            Some(index) => is_narrow(store, &Span::prefix(&index.prefix))?,
            None => false,
        };
        // A few runs are sorted faster than the first of many are found that pass.
        if let Some(range) = range
            && !is_narrow_index
            && is_narrow(store, range)?
        {
            return Ok(Self::of_range(store, range, direction));
        }
        if let (Table::Runs, [(Source::Metric(key), _)], false) = (table, bound.order.as_slice(), is_narrow_index) {
            return Ok(Self { candidates: by_metric(store, bound, key.clone(), direction), is_in_order: true });
        }
        // Of few runs the first are found by sorting, of many by the index they are sorted in.
        if let (Table::Runs, Some(experiments), false) = (table, &needs.experiments, is_narrow_index)
            && is_latest_first(bound)
        {
            return Ok(Self { candidates: latest_first(store, bound, experiments), is_in_order: true });
        }
        let mark = bound.mark.as_ref().filter(|_| is_by_id).map(|(_, node)| node);
        if let Some(index) = index {
            let mut span = Span::prefix(&index.prefix);
            if let Some(node) = mark {
                span = span.past(&[index.prefix.as_slice(), &(index.rest)(node)].concat(), direction);
            }
            let nodes = Entries::over(store.read(), span, direction).map(move |entry| (index.node)(&entry?.0));
            return Ok(Self { candidates: fetched(store, table, nodes), is_in_order: is_by_id });
        }
        // Of many that pass, the first by id are found soonest by passing over the others.
        if let Some(range) = range.filter(|_| !is_by_id) {
            return Ok(Self::of_range(store, range, direction));
        }
        let prefix = match needs.run {
            Some(run) if table.kind().is_row() => keys::rows(table.kind(), run),
            _ => keys::nodes(table.kind()),
        };
        let mut span = Span::prefix(&prefix);
        if let Some(node) = mark {
            span = span.past(&keys::node(node), direction);
        }
        let candidates = Entries::over(store.read(), span, direction).map(move |entry| {
            let (key, bytes) = entry?;
            Ok(Candidate::new(table, keys::node_at(&key)?, bytes))
        });
        Ok(Self { candidates: Box::new(candidates), is_in_order: is_by_id })
    }
}

impl<'a> Plan<'a> {
    /// Runs by a number within a range.
    fn of_range(store: &'a Store, range: &Span, direction: Direction) -> Self {
        let nodes = run_nodes(Entries::over(store.read(), range.clone(), direction));
        Self { candidates: fetched(store, Table::Runs, nodes), is_in_order: false }
    }

    /// The nodes that are kin of all that are named: a walk over edges finds them, so no other row is read.
    fn of_kin(store: &'a Store, bound: &Bound<'_>, run: Option<RunId>, direction: Direction) -> Result<Self> {
        let table = bound.query.table;
        let mut all: Option<BTreeSet<NodeId>> = None;
        for (start, toward) in &bound.query.kin {
            let found = store.kin(*start, *toward, table.kind(), run)?;
            all = Some(all.map_or_else(|| found.clone(), |all| all.intersection(&found).copied().collect()));
        }
        let mut nodes: Vec<NodeId> = Vec::new();
        for node in all.into_iter().flatten() {
            let is_in_run = match run {
                None => true,
                Some(run) if table.kind().is_content() => store.get(&keys::recorded(run, &node))?.is_some(),
                Some(run) => node.owner() == Some(run),
            };
            if is_in_run {
                nodes.push(node);
            }
        }
        if direction == Direction::Descending {
            nodes.reverse();
        }
        let candidates = fetched(store, table, nodes.into_iter().map(Ok));
        Ok(Self { candidates, is_in_order: bound.order.is_empty() })
    }
}

/// What every row of the answer has.
#[derive(Default)]
struct Needs {
    run: Option<RunId>,
    param: Option<(String, String)>,
    experiment: Option<String>,
    experiment_id: Option<ExperimentId>,
    /// The run is in one of these.
    experiments: Option<Vec<ExperimentId>>,
    study: Option<String>,
    status: Option<Status>,
    outcome: Option<Outcome>,
    scorer: Option<NodeId>,
    /// Runs by a number that lies between two.
    range: Option<Span>,
}

impl Needs {
    fn of(bound: &Bound<'_>) -> Result<Self> {
        let mut needs = Self { run: bound.query.run, ..Self::default() };
        if let Some(experiments) = &bound.query.experiments {
            needs.experiments = Some(experiments.iter().copied().collect());
            needs.experiment_id = experiments.first().copied().filter(|_| experiments.len() == 1);
        }
        let Some(filter) = &bound.query.filter else {
            return Ok(needs);
        };
        for (field, test) in filter.root.required() {
            let source = bound.source(field)?;
            match (&source, test) {
                (Source::Metric(key), Test::Compare(comparison, literal)) => {
                    needs.add_range(*comparison, literal, |number| keys::latest_value(key, number));
                }
                (Source::Param(key), Test::Compare(comparison, literal)) if literal.number().is_some() => {
                    needs.add_range(*comparison, literal, |number| keys::param_number(key, number));
                }
                (Source::Column("experiment_id"), Test::In(values)) if bound.query.table == Table::Runs => {
                    let ids =
                        values.iter().filter_map(|id| if let Value::Text(id) = id { id.parse().ok() } else { None });
                    let ids: BTreeSet<ExperimentId> = ids.collect();
                    needs.experiments = Some(ids.into_iter().collect());
                }
                (_, Test::Compare(Comparison::Equal, Value::Text(text))) => {
                    needs.add_equal(bound.query.table, source, text);
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    fn add_equal(&mut self, table: Table, source: Source, text: &str) {
        match (table, source) {
            (_, Source::Param(key)) => self.param = Some((key, text.to_owned())),
            (Table::Runs, Source::Column("experiment")) => self.experiment = Some(text.to_owned()),
            (Table::Runs, Source::Column("experiment_id")) => {
                self.experiment_id = text.parse().ok();
                self.experiments = self.experiment_id.map(|id| vec![id]);
            }
            (Table::Runs, Source::Column("study")) => self.study = Some(text.to_owned()),
            (Table::Runs, Source::Column("status")) => self.status = text.parse().ok(),
            (Table::Runs, Source::Column("id")) | (_, Source::Column("run") | Source::Run("id")) => {
                self.run = self.run.or(text.parse().ok());
            }
            (Table::Proofs, Source::Column("outcome")) => self.outcome = text.parse().ok(),
            (Table::Rewards | Table::Selections, Source::Column("scorer")) => self.scorer = text.parse().ok(),
            _ => {}
        }
    }

    /// Of several ranges the last that is asked for is read.
    fn add_range(&mut self, comparison: Comparison, literal: &Value, key: impl Fn(f64) -> Vec<u8>) {
        let Some(number) = literal.number().filter(|number| !number.is_nan()) else {
            return;
        };
        let (low, high) = match comparison {
            Comparison::Equal => (number, number),
            Comparison::Less | Comparison::LessOrEqual => (f64::NEG_INFINITY, number),
            Comparison::Greater | Comparison::GreaterOrEqual => (number, f64::INFINITY),
            Comparison::NotEqual => return,
        };
        self.range = Some(Span::inclusive(&key(low), &key(high)));
    }

    /// The index by id that holds every row with what is needed, if one does.
    fn index(&self, store: &Store, table: Table) -> Result<Option<Index>> {
        if table == Table::Runs {
            return self.run_index(store);
        }
        let Some(run) = self.run else {
            return Ok(None);
        };
        if table.kind().is_content() {
            let prefix = keys::recorded_kind(run, table.kind());
            return Ok(Some(Index { prefix, node: Box::new(keys::recorded_at), rest: |node| digest_bytes(node) }));
        }
        if let Some(scorer) = self.scorer {
            return Ok(Some(rows_below(scorer, run, Relation::ScoredBy, 0, table.kind())));
        }
        let Some(outcome) = self.outcome else {
            return Ok(None);
        };
        let mut verifiers = store.entries(&keys::recorded_kind(run, Kind::Verifier));
        let (Some(only), None) = (verifiers.next().transpose()?, verifiers.next()) else {
            return Ok(None);
        };
        let verifier = keys::recorded_at(&only.0)?;
        Ok(Some(rows_below(verifier, run, Relation::VerifiedBy, outcome.number(), table.kind())))
    }

    fn run_index(&self, store: &Store) -> Result<Option<Index>> {
        let prefix = if let Some((key, value)) = &self.param {
            keys::param_index(key, value)
        } else if let Some(id) = self.experiment_id {
            keys::run_index(RunIndex::Experiment(id))
        } else if let Some(name) = &self.experiment {
            match store.find_experiment(name)? {
                Some(experiment) => keys::run_index(RunIndex::Experiment(experiment.id)),
                // No run is in an experiment that is not there.
                None => keys::run_index(RunIndex::Experiment(ExperimentId::from_bytes([0xff; 16]))),
            }
        } else if let Some(study) = &self.study {
            keys::run_index(RunIndex::Study(study))
        } else if let Some(status) = self.status {
            keys::run_index(RunIndex::Status(status))
        } else {
            return Ok(None);
        };
        let rest = |node: &NodeId| node.owner().map_or_else(Vec::new, |run| run.as_bytes().to_vec());
        Ok(Some(Index { prefix, node: Box::new(|key| keys::run_at_end(key).map(NodeId::run)), rest }))
    }
}

/// The rows of a kind in a run that have this edge to `to`.
fn rows_below(to: NodeId, run: RunId, relation: Relation, qualifier: u8, kind: Kind) -> Index {
    let mut prefix = keys::edges_down_by(&to, run, relation, qualifier);
    prefix.push(kind as u8);
    let node = move |key: &[u8]| keys::edge_down_at(&to, key).map(|(_, _, from, _)| from);
    let rest = |node: &NodeId| {
        let mut bytes = Vec::new();
        node.write_local(&mut bytes);
        // The kind is in the prefix.
        bytes.split_off(1)
    };
    Index { prefix, node: Box::new(node), rest }
}

fn digest_bytes(node: &NodeId) -> Vec<u8> {
    node.digest().map_or_else(Vec::new, |digest| digest.as_bytes().to_vec())
}

/// Whether the answer is ordered by start, the latest first, then by id.
fn is_latest_first(bound: &Bound<'_>) -> bool {
    matches!(bound.order.as_slice(), [(Source::Column("start_time"), true), (Source::Column("id"), false)])
}

/// Every run of some experiments by start, the latest first, then by id.
fn latest_first<'a>(
    store: &'a Store,
    bound: &Bound<'_>,
    experiments: &[ExperimentId],
) -> Box<dyn Iterator<Item = Result<Candidate>> + 'a> {
    let mark = bound.mark.as_ref().and_then(|(values, node)| match values.first() {
        Some(Value::Int(start)) => Some((*start, node.owner()?)),
        _ => None,
    });
    let mut parts: Vec<_> = experiments
        .iter()
        .map(|id| {
            let span = Span::prefix(&keys::runs_by_start(*id));
            let span = match mark {
                Some((start, run)) => {
                    span.past(&keys::run_index_entry(RunIndex::Started(*id, start), run), Direction::Ascending)
                }
                None => span,
            };
            let entries = Entries::over(store.read(), span, Direction::Ascending);
            entries.map(|entry| keys::run_start_at(&entry?.0)).peekable()
        })
        .collect();
    let merged = std::iter::from_fn(move || {
        let next = parts.iter_mut().enumerate().filter_map(|(nth, part)| match part.peek()? {
            Ok((start, run)) => Some((std::cmp::Reverse(*start), *run, nth)),
            // An error is given at once.
            Err(_) => Some((std::cmp::Reverse(i64::MAX), RunId::from_bytes([0; 16]), nth)),
        });
        let (.., nth) = next.min()?;
        parts[nth].next().map(|entry| entry.map(|(_, run)| NodeId::run(run)))
    });
    fetched(store, Table::Runs, merged)
}

/// Every run in the order of the latest value of a series: numbers, then NaN, then those without.
fn by_metric<'a>(
    store: &'a Store,
    bound: &Bound<'_>,
    key: String,
    direction: Direction,
) -> Box<dyn Iterator<Item = Result<Candidate>> + 'a> {
    let mut numbers =
        Span::inclusive(&keys::latest_value(&key, f64::NEG_INFINITY), &keys::latest_value(&key, f64::INFINITY));
    if let Some((values, node)) = &bound.mark
        && let (Some(value), Some(run)) = (values.first().and_then(Value::number), node.owner())
        && !value.is_nan()
    {
        numbers = numbers.past(&keys::latest_entry(&key, value, run), direction);
    }
    let nan = keys::latest_value(&key, f64::NAN);
    let numbers = run_nodes(Entries::over(store.read(), numbers, direction));
    let nans = run_nodes(Entries::over(store.read(), Span::prefix(&nan), direction));
    let runs = Entries::over(store.read(), Span::prefix(&keys::nodes(Kind::Run)), direction);
    let without = runs.filter_map(move |entry| {
        let lacks = entry.and_then(|(node, bytes)| {
            let node = keys::node_at(&node)?;
            let run = node.owner().map(|run| store.head(run, &key)).transpose()?.flatten();
            Ok(run.is_none().then(|| Candidate::new(Table::Runs, node, bytes)))
        });
        lacks.transpose()
    });
    Box::new(fetched(store, Table::Runs, numbers.chain(nans)).chain(without))
}

fn run_nodes(entries: Entries) -> impl Iterator<Item = Result<NodeId>> {
    entries.map(|entry| keys::run_at_end(&entry?.0).map(NodeId::run))
}

fn fetched<'a>(
    store: &'a Store,
    table: Table,
    nodes: impl Iterator<Item = Result<NodeId>> + 'a,
) -> Box<dyn Iterator<Item = Result<Candidate>> + 'a> {
    Box::new(nodes.filter_map(move |node| node.and_then(|node| fetch(store, table, node)).transpose()))
}

fn fetch(store: &Store, table: Table, node: NodeId) -> Result<Option<Candidate>> {
    Ok(store.record(&node)?.map(|bytes| Candidate::new(table, node, bytes)))
}
