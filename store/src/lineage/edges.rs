//! The edges at one node: those its own record and name say, and those runs recorded.

use std::collections::BTreeSet;
use std::iter::Peekable;

use super::GraphEdge;
use crate::error::Result;
use crate::id::{Kind, NodeId, RowKey, RunId};
use crate::keys;
use crate::model::{Content, Front, Recipe, Relation, Reward, Sample, Selection, Statement, Verdict};
use crate::reader::Entries;
use crate::records::{EdgeRecord, Stored};
use crate::store::Store;

impl Store {
    pub(crate) fn record(&self, node: &NodeId) -> Result<Option<Vec<u8>>> {
        self.get(&keys::node(node))
    }
}

/// Calls `take` with each edge from `at` to what it came from, until it says no.
pub(crate) fn up(
    store: &Store,
    at: &NodeId,
    record: Option<&[u8]>,
    home: Option<RunId>,
    take: &mut dyn FnMut(GraphEdge) -> bool,
) -> Result<()> {
    if let Some(record) = record {
        for (relation, to) in said(at, record)? {
            // A reward that was computed from another stands in another run than the sample it is about.
            if at.kind() == Kind::Reward && relation == Relation::About && !store.has(&to)? {
                continue;
            }
            if !take(GraphEdge::plain(*at, relation, to, at.owner())) {
                return Ok(());
            }
        }
    }
    let mut seen = BTreeSet::new();
    for entry in preferred(store, home.map(|run| keys::edges_up_in(at, run)), &keys::edges_up(at), at)? {
        let (key, record) = entry?;
        let (run, relation, order, to) = keys::edge_up_at(at, &key)?;
        if seen.insert((relation, order, to))
            && !take(GraphEdge::recorded(*at, relation, to, run, order, &attributes(&key, &record)?))
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Calls `take` with each edge from what came from `at`, until it says no.
pub(super) fn down(
    store: &Store,
    at: &NodeId,
    home: Option<RunId>,
    take: &mut dyn FnMut(GraphEdge) -> bool,
) -> Result<()> {
    if let (Kind::Sample, Some(row)) = (at.kind(), at.row())
        && !judgements(store, at, &row, take)?
    {
        return Ok(());
    }
    // Contents that several runs recorded are one node with one edge; rows of each run are nodes of their own.
    let mut seen = BTreeSet::new();
    for entry in preferred(store, home.map(|run| keys::edges_down_in(at, run)), &keys::edges_down(at), at)? {
        let (key, record) = entry?;
        let (run, relation, from, order) = keys::edge_down_at(at, &key)?;
        if from.kind().is_content() && !seen.insert((relation, order, from)) {
            continue;
        }
        if !take(GraphEdge::recorded(from, relation, *at, run, order, &attributes(&key, &record)?)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Verdicts and rewards of the sample at `row`: their names say what they are about.
fn judgements(store: &Store, at: &NodeId, row: &RowKey, take: &mut dyn FnMut(GraphEdge) -> bool) -> Result<bool> {
    for kind in [Kind::Verdict, Kind::Reward] {
        for entry in store.entries(&keys::place_rows(kind, row)) {
            let node = keys::node_at(&entry?.0)?;
            if !take(GraphEdge::plain(node, Relation::About, *at, Some(row.run))) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The edges a record and its name say.
pub(crate) fn said(at: &NodeId, record: &[u8]) -> Result<Vec<(Relation, NodeId)>> {
    let key = keys::node(at);
    let about = at.row().map(|row| (Relation::About, NodeId::sample(row)));
    Ok(match at.kind() {
        Kind::Statement => Statement::decode(&key, record)?.ups(),
        Kind::Recipe => Recipe::decode(&key, record)?.ups(),
        Kind::Front => Front::decode(&key, record)?.ups(),
        Kind::Sample => {
            let sample = Sample::decode(&key, record)?;
            vec![(Relation::Answers, sample.subject), (Relation::WrittenBy, sample.policy)]
        }
        Kind::Verdict => {
            let verifier = NodeId::content_of(Kind::Verifier, Verdict::decode(&key, record)?.verifier);
            about.into_iter().chain([(Relation::VerifiedBy, verifier)]).collect()
        }
        Kind::Selection => {
            let selection = Selection::decode(&key, record)?;
            let winner = selection.winner().map(|winner| (Relation::DerivedFrom, winner));
            let scorer = selection.scorer.map(|scorer| (Relation::ScoredBy, scorer));
            winner.into_iter().chain(scorer).collect()
        }
        Kind::Reward => about.into_iter().chain([(Relation::ScoredBy, Reward::decode(&key, record)?.scorer)]).collect(),
        _ => Vec::new(),
    })
}

/// The entries of the narrow prefix if there are any, else those of the wide one. Rows need no narrowing: what is recorded
/// of them their own run recorded.
fn preferred(store: &Store, narrow: Option<Vec<u8>>, wide: &[u8], at: &NodeId) -> Result<Peekable<Entries>> {
    if let Some(narrow) = narrow.filter(|_| at.kind().is_content()) {
        let mut entries = store.entries(&narrow).peekable();
        if let Some(Err(error)) = entries.next_if(Result::is_err) {
            return Err(error);
        }
        if entries.peek().is_some() {
            return Ok(entries);
        }
    }
    Ok(store.entries(wide).peekable())
}

fn attributes(key: &[u8], record: &[u8]) -> Result<EdgeRecord> {
    if record.is_empty() { Ok(EdgeRecord::default()) } else { EdgeRecord::decode(key, record) }
}
