//! Series: whether head, tail, blocks and summaries agree; and making head and summaries anew from the points.

use rayon::prelude::*;
use tracker_engine::Batch;

use super::finding::{Finding, Fix, Tell, Trouble};
use crate::error::Result;
use crate::id::RunId;
use crate::keys::{self, Parsed};
use crate::records::Stored as _;
use crate::series::{Block, Chunk, GROUP_BLOCKS, Head, Point, Summary, extremes};
use crate::store::Store;

/// Series checked at a time.
const N_AT_ONCE: usize = 256;

/// Checks every series that has a head. Single records were checked before, and level-1 summaries held against blocks.
pub(super) fn check(store: &Store, sink: &dyn Tell) -> Result<u64> {
    let mut heads = Vec::new();
    let mut n_series = 0;
    for entry in store.entries(&keys::every_series()) {
        let (key, record) = entry?;
        n_series += 1;
        if let (Some(Parsed::Series { run, key: name }), Ok(head)) = (keys::parse(&key), Head::decode(&key, &record)) {
            heads.push((run, name.to_owned(), head));
        }
        if heads.len() == N_AT_ONCE {
            check_some(store, sink, &heads)?;
            heads.clear();
        }
    }
    check_some(store, sink, &heads)?;
    Ok(n_series)
}

fn check_some(store: &Store, sink: &dyn Tell, heads: &[(RunId, String, Head)]) -> Result<()> {
    heads.par_iter().try_for_each(|(run, name, head)| {
        for what in disagreements(store, *run, name, head)? {
            let finding = Finding::damage(Trouble::Series, format!("{what} (series `{name}` of run `{run}`)"));
            let fix = Fix::Series { run: *run, key: name.clone() };
            sink.tell(finding.at_key(&keys::series(*run, name)), Some(fix));
        }
        Ok(())
    })
}

/// What is known of a series without its head.
struct Facts {
    latest: Option<Point>,
    values: Vec<f64>,
    n_tail: u64,
    next_chunk: u64,
    n_sealed: u64,
}

impl Facts {
    fn note(&mut self, latest: Point, values: impl IntoIterator<Item = f64>) {
        self.latest = self.latest.max(Some(latest));
        self.values.extend(values);
        let (min, max) = extremes(self.values.iter().copied());
        self.values = min.into_iter().chain(max).collect();
    }
}

/// What of a series does not agree, in words. Records that cannot be read are told elsewhere, and end the comparison.
fn disagreements(store: &Store, run: RunId, name: &str, head: &Head) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let (Some(tail), Some(blocks), Some(groups)) = (
        read::<Chunk>(store, &keys::tail(run, name))?,
        read::<Summary>(store, &keys::summaries(run, name, 1))?,
        read::<Summary>(store, &keys::summaries(run, name, 2))?,
    ) else {
        return Ok(told);
    };
    let blocks: Vec<Summary> = blocks.into_iter().map(|(_, block)| block).collect();
    if let Some(pair) = blocks.windows(2).find(|pair| pair[0].last >= pair[1].first) {
        told.push(format!("the blocks from step `{}` and `{}` on overlap", pair[0].first.step, pair[1].first.step));
    }
    if !are_groups(&groups.into_iter().map(|(_, group)| group).collect::<Vec<_>>(), &blocks) {
        told.push("the summaries of groups do not cover its blocks".to_owned());
    }
    let mut facts = facts_of_tail(&tail);
    for block in &blocks {
        facts.note(block.last, block.min.into_iter().chain(block.max));
        facts.n_sealed += block.n_points;
    }
    let (min, max) = extremes(facts.values.iter().copied());
    let mut differs = |what: &str, expected: String, got: String| {
        if expected != got {
            told.push(format!("expected {what} `{expected}`, got `{got}`"));
        }
    };
    let number = |value: Option<f64>| format!("{:?}", value.map(|value| value + 0.0));
    differs("the latest point", format!("{:?}", facts.latest), format!("{:?}", Some(head.latest)));
    differs("the least value", number(min), number(head.min));
    differs("the greatest value", number(max), number(head.max));
    differs("the points of the tail", facts.n_tail.to_string(), head.n_tail.to_string());
    differs("the points in blocks", facts.n_sealed.to_string(), head.n_sealed.to_string());
    if head.next_chunk < facts.next_chunk {
        told.push(format!("expected the next chunk `{}` or above, got `{}`", facts.next_chunk, head.next_chunk));
    }
    Ok(told)
}

fn facts_of_tail(tail: &[(Vec<u8>, Chunk)]) -> Facts {
    let mut facts = Facts { latest: None, values: Vec::new(), n_tail: 0, next_chunk: 0, n_sealed: 0 };
    for (key, chunk) in tail {
        facts.n_tail += chunk.points.len() as u64;
        if let Some(Parsed::Tail { chunk, .. }) = keys::parse(key) {
            facts.next_chunk = facts.next_chunk.max(chunk.saturating_add(1));
        }
        for point in &chunk.points {
            facts.note(*point, [point.value]);
        }
    }
    facts
}

/// Whether these are the summaries of all blocks, each in one group, in order.
fn are_groups(groups: &[Summary], mut blocks: &[Summary]) -> bool {
    for group in groups {
        let n = blocks.iter().take_while(|block| block.first <= group.last).count();
        let (these, rest) = blocks.split_at(n);
        let is_right =
            n <= GROUP_BLOCKS && Summary::join(these).is_some_and(|joined| joined.encode().ok() == group.encode().ok());
        if !is_right {
            return false;
        }
        blocks = rest;
    }
    blocks.is_empty()
}

/// Values with their keys.
type Keyed<T> = Vec<(Vec<u8>, T)>;

/// The records below a prefix; none if one of them cannot be read.
fn read<T: crate::records::Stored>(store: &Store, prefix: &[u8]) -> Result<Option<Keyed<T>>> {
    let mut all = Vec::new();
    for entry in store.entries(prefix) {
        let (key, record) = entry?;
        match T::decode(&key, &record) {
            Ok(value) => all.push((key, value)),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Makes head and summaries of a series anew from its points, in `batch`; both go if there are no points.
///
/// # Errors
/// `Corrupt` if points cannot be read: they must be set aside first.
pub(super) fn rebuild(store: &Store, run: RunId, name: &str, batch: &mut Batch) -> Result<()> {
    for prefix in [keys::summaries(run, name, 1), keys::summaries(run, name, 2)] {
        for entry in store.entries(&prefix) {
            batch.delete(&entry?.0);
        }
    }
    let head_key = keys::series(run, name);
    if let Some(record) = store.get(&head_key)?
        && let Ok(head) = Head::decode(&head_key, &record)
    {
        batch.delete(&keys::latest_entry(name, head.latest.value, run));
    }
    let mut summaries = Vec::new();
    for entry in store.entries(&keys::blocks(run, name)) {
        let (key, record) = entry?;
        let points = Block::decode(&key, &record)?.points(&key)?;
        summaries.extend(Summary::of(&points));
    }
    for summary in &summaries {
        batch.put(&keys::summary(run, name, 1, &summary.first.sortable()), &summary.encode()?);
    }
    for part in summaries.chunks(GROUP_BLOCKS) {
        if let Some(group) = Summary::join(part) {
            batch.put(&keys::summary(run, name, 2, &group.first.sortable()), &group.encode()?);
        }
    }
    let mut tail = Vec::new();
    for entry in store.entries(&keys::tail(run, name)) {
        let (key, record) = entry?;
        let chunk = Chunk::decode(&key, &record)?;
        batch.require_equals(&key, &record);
        tail.push((key, chunk));
    }
    let mut facts = facts_of_tail(&tail);
    for summary in &summaries {
        facts.note(summary.last, summary.min.into_iter().chain(summary.max));
        facts.n_sealed += summary.n_points;
    }
    let (min, max) = extremes(facts.values.iter().copied());
    match facts.latest {
        None => batch.delete(&head_key),
        Some(latest) => {
            let (n_tail, next_chunk, n_sealed) = (facts.n_tail as u32, facts.next_chunk, facts.n_sealed);
            batch.put(&head_key, &Head { latest, min, max, n_tail, next_chunk, n_sealed }.encode()?);
            batch.put(&keys::latest_entry(name, latest.value, run), &[]);
        }
    }
    Ok(())
}
