//! Adding points: to the tail, and from the tail into blocks.
//!
//! Points that come in order are sealed once, into new blocks at the end. Points that come late rewrite the blocks between
//! the earliest and the latest of them.

use std::collections::HashMap;

use tracker_engine::{Batch, Direction, KeyRange, Op};

use super::{BLOCK_POINTS, Block, Chunk, GROUP_BLOCKS, Head, Point, SEAL_POINTS, Summary, extremes};
use crate::error::Result;
use crate::id::RunId;
use crate::keys;
use crate::reader::Entries;
use crate::records::Stored;
use crate::store::Store;

const BLOCKS: u8 = 1;
const GROUPS: u8 = 2;

/// Points of a chunk of the tail that takes more.
const CHUNK_POINTS: usize = 16;
/// Most series that are kept at hand.
const MAX_PLANNED: usize = 1 << 13;

/// Series as they were last planned, by the keys of their heads.
#[derive(Default)]
pub(crate) struct Planned(HashMap<Vec<u8>, Last>);

/// A series as it was last planned.
struct Last {
    head: Head,
    /// The head as it is stored.
    record: Vec<u8>,
    open: Option<OpenChunk>,
}

/// The last chunk of a tail, with room for more.
struct OpenChunk {
    points: Vec<Point>,
    /// The chunk as it is stored.
    record: Vec<u8>,
}

impl Planned {
    /// Takes out what is known under `key`: until it is kept again, whoever else plans on the series reads it from the store.
    fn take(&mut self, key: Vec<u8>) -> (Vec<u8>, Option<Last>) {
        match self.0.remove_entry(&key) {
            Some((key, last)) => (key, Some(last)),
            None => (key, None),
        }
    }

    fn keep(&mut self, key: Vec<u8>, last: Last) {
        if self.0.len() >= MAX_PLANNED {
            self.0.clear();
        }
        self.0.insert(key, last);
    }

    /// Forgets the series that `batch` changes, as it was not written.
    pub(crate) fn forget(&mut self, batch: &Batch) {
        for op in batch.ops() {
            if let Op::Put { key, .. } = op {
                self.0.remove(key);
            }
        }
    }
}

/// One series, and the batch its changes go to.
struct Append<'a> {
    store: &'a Store,
    run: RunId,
    key: &'a str,
    batch: &'a mut Batch,
}

impl Store {
    /// Adds `points` to a series, in `batch`, which holds only if the series is still what was read.
    pub(crate) fn plan_points(&self, run: RunId, key: &str, points: &[Point], batch: &mut Batch) -> Result<()> {
        let Some(greatest) = points.iter().max().copied() else {
            return Ok(());
        };
        let head_key = keys::series(run, key);
        let (head_key, known) = self.known().series.take(head_key);
        // What is sealed is read from the store, so the head has to be what is there.
        let is_tail = |head: &Head| (head.n_tail as usize + points.len()) < SEAL_POINTS;
        let (before, record, open) = match known {
            Some(Last { head, record, open }) if is_tail(&head) => (Some(head), Some(record), open),
            _ => {
                let record = self.get(&head_key)?;
                (record.as_ref().map(|record| Head::decode(&head_key, record)).transpose()?, record, None)
            }
        };
        match &record {
            Some(record) => batch.require_equals(&head_key, record),
            None => batch.require_absent(&head_key),
        }
        let (min, max) = extremes(
            points
                .iter()
                .map(|point| point.value)
                .chain(before.iter().flat_map(|head| head.min.into_iter().chain(head.max))),
        );
        let latest = before.as_ref().map_or(greatest, |head| head.latest.max(greatest));
        let (n_tail, next_chunk, n_sealed) =
            before.as_ref().map_or((0, 0, 0), |head| (head.n_tail, head.next_chunk, head.n_sealed));
        let mut head = Head { latest, min, max, n_tail, next_chunk, n_sealed };
        let mut append = Append { store: self, run, key, batch };
        let open = if n_tail as usize + points.len() < SEAL_POINTS {
            head.n_tail += points.len() as u32;
            append.extend_tail(&mut head, open, points)?
        } else {
            append.seal(&mut head, points)?;
            None
        };
        let record = head.encode()?;
        batch.put(&head_key, &record);
        let latest_before = before.map(|head| head.latest.value);
        if latest_before.is_none_or(|value| value.to_bits() != latest.value.to_bits()) {
            if let Some(value) = latest_before {
                batch.delete(&keys::latest_entry(key, value, run));
            }
            batch.put_new(&keys::latest_entry(key, latest.value, run), &[]);
        }
        self.known().series.keep(head_key, Last { head, record, open });
        Ok(())
    }
}

impl Append<'_> {
    /// Adds points to the last chunk while it has room, so that a tail that grew one by one is few entries; else to a new one.
    /// Returns the last chunk, if it has room.
    fn extend_tail(&mut self, head: &mut Head, open: Option<OpenChunk>, points: &[Point]) -> Result<Option<OpenChunk>> {
        let has_room = |open: &OpenChunk| open.points.len() + points.len() <= CHUNK_POINTS;
        let (chunk, record) = if let Some(OpenChunk { points: mut all, record: before }) = open.filter(has_room) {
            let key = keys::tail_chunk(self.run, self.key, head.next_chunk - 1);
            self.batch.require_equals(&key, &before);
            all.extend_from_slice(points);
            let chunk = Chunk { points: all };
            let record = chunk.encode()?;
            self.batch.put(&key, &record);
            (chunk, record)
        } else {
            let chunk = Chunk { points: points.to_vec() };
            let record = self.put_chunk(head, &chunk)?;
            (chunk, record)
        };
        let has_room = chunk.points.len() < CHUNK_POINTS;
        Ok(has_room.then_some(OpenChunk { points: chunk.points, record }))
    }

    fn put_chunk(&mut self, head: &mut Head, chunk: &Chunk) -> Result<Vec<u8>> {
        let record = chunk.encode()?;
        self.batch.put_new(&keys::tail_chunk(self.run, self.key, head.next_chunk), &record);
        head.next_chunk += 1;
        Ok(record)
    }

    /// Moves the tail and `points` into blocks, save the greatest few that do not fill one.
    fn seal(&mut self, head: &mut Head, points: &[Point]) -> Result<()> {
        let mut all = self.store.tail(self.run, self.key)?;
        all.extend_from_slice(points);
        all.sort_unstable();
        all.dedup();
        for entry in self.store.entries(&keys::tail(self.run, self.key)) {
            self.batch.delete(&entry?.0);
        }
        let n_kept = all.len() % BLOCK_POINTS;
        let rest = all.split_off(all.len() - n_kept);
        if !rest.is_empty() {
            self.put_chunk(head, &Chunk { points: rest.clone() })?;
        }
        head.n_tail = rest.len() as u32;
        if let (Some(first), Some(last)) = (all.first().copied(), all.last().copied()) {
            let overlapped = self.summaries_between(BLOCKS, &first, &last)?;
            let changed = self.rewrite_blocks(head, all, &overlapped)?;
            self.rewrite_groups(&overlapped, &changed)?;
        }
        Ok(())
    }

    /// The summaries of one level that lie at least partly between two points, in order.
    fn summaries_between(&self, level: u8, first: &Point, last: &Point) -> Result<Vec<Summary>> {
        let prefix = keys::summaries(self.run, self.key, level);
        let mut end = keys::summary(self.run, self.key, level, &last.sortable());
        end.push(0);
        let mut found = Vec::new();
        for entry in Entries::new(self.store.read(), &KeyRange::new(&prefix, &end), Direction::Descending) {
            let (key, record) = entry?;
            let summary = Summary::decode(&key, &record)?;
            if summary.last < *first {
                break;
            }
            found.push(summary);
        }
        found.reverse();
        Ok(found)
    }

    /// Replaces the blocks in `overlapped` by blocks of their points and of `points`. Returns the new ones' summaries.
    fn rewrite_blocks(
        &mut self,
        head: &mut Head,
        mut points: Vec<Point>,
        overlapped: &[Summary],
    ) -> Result<Vec<Summary>> {
        for summary in overlapped {
            let first = summary.first.sortable();
            let key = keys::block(self.run, self.key, &first);
            let block: Option<Block> = self.store.get_value(&key)?;
            let block = block.ok_or_else(|| crate::Error::corrupt(&key, "the block of a summary is not there"))?;
            points.extend(block.points(&key)?);
            self.batch.delete(&key);
            self.batch.delete(&keys::summary(self.run, self.key, BLOCKS, &first));
            head.n_sealed = head.n_sealed.saturating_sub(summary.n_points);
        }
        points.sort_unstable();
        points.dedup();
        head.n_sealed += points.len() as u64;
        let n_blocks = points.len().div_ceil(BLOCK_POINTS).max(1);
        let mut summaries = Vec::with_capacity(n_blocks);
        for part in points.chunks(points.len().div_ceil(n_blocks).max(1)) {
            let first = part[0].sortable();
            self.batch.put(&keys::block(self.run, self.key, &first), &Block::seal(part)?.encode()?);
            if let Some(summary) = Summary::of(part) {
                self.batch.put(&keys::summary(self.run, self.key, BLOCKS, &first), &summary.encode()?);
                summaries.push(summary);
            }
        }
        Ok(summaries)
    }

    /// Brings the summaries of groups in line with the blocks that changed.
    fn rewrite_groups(&mut self, removed: &[Summary], added: &[Summary]) -> Result<()> {
        let firsts = removed.iter().chain(added).map(|summary| summary.first);
        let lasts = removed.iter().chain(added).map(|summary| summary.last);
        let (Some(first), Some(last)) = (firsts.min(), lasts.max()) else {
            return Ok(());
        };
        let mut groups = self.summaries_between(GROUPS, &first, &last)?;
        if groups.first().is_none_or(|group| group.first > first) {
            // Points at the end join the last group, which ends before them.
            if let Some(previous) = self.group_before(&first)? {
                groups.insert(0, previous);
            }
        }
        let mut blocks = Vec::new();
        for group in &groups {
            blocks.extend(self.summaries_between(BLOCKS, &group.first, &group.last)?);
            self.batch.delete(&keys::summary(self.run, self.key, GROUPS, &group.first.sortable()));
        }
        blocks.retain(|block| !removed.iter().any(|gone| gone.first == block.first));
        blocks.extend_from_slice(added);
        blocks.sort_by_key(|block| block.first);
        for part in blocks.chunks(GROUP_BLOCKS) {
            if let Some(group) = Summary::join(part) {
                self.batch.put(&keys::summary(self.run, self.key, GROUPS, &group.first.sortable()), &group.encode()?);
            }
        }
        Ok(())
    }

    fn group_before(&self, point: &Point) -> Result<Option<Summary>> {
        let prefix = keys::summaries(self.run, self.key, GROUPS);
        let end = keys::summary(self.run, self.key, GROUPS, &point.sortable());
        let mut before = Entries::new(self.store.read(), &KeyRange::new(&prefix, &end), Direction::Descending);
        before.next().map(|entry| entry.and_then(|(key, record)| Summary::decode(&key, &record))).transpose()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tracker_engine::{Durability, Engine, Memory};

    use super::*;
    use crate::Recording;
    use crate::model::ClientRun;

    fn point(step: i64) -> Point {
        Point::new(step, step, 1.0 / step as f64)
    }

    fn log(store: &Store, run: RunId, step: i64) {
        let mut recording = Recording::new();
        recording.put_points(run, "loss", &[point(step)]).unwrap();
        store.commit(&recording, Durability::Os).unwrap();
    }

    /// Stores over one engine, as of several processes, and a run.
    fn stores<const N: usize>() -> ([Store; N], RunId) {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let stores = std::array::from_fn(|_| Store::over(Arc::clone(&engine), None).unwrap());
        let experiment = stores[0].default_experiment().unwrap().id;
        let (name, user, started, tags) = ("run".into(), String::new(), crate::Timestamp::now(), BTreeMap::new());
        let run = stores[0].log_run(&ClientRun { experiment, name, user, started, tags }).unwrap().id;
        (stores, run)
    }

    fn steps(store: &Store, run: RunId) -> Vec<i64> {
        store.history(run, "loss", None).unwrap().map(|point| point.unwrap().step).collect()
    }

    #[test]
    fn points_one_by_one_fill_a_chunk_before_the_next() {
        let ([store], run) = stores();
        for step in 1..=40 {
            log(&store, run, step);
        }
        assert_eq!(store.entries(&keys::tail(run, "loss")).count(), 3);
        assert_eq!(steps(&store, run), (1..=40).collect::<Vec<_>>());
    }

    #[test]
    fn processes_that_take_turns_lose_nothing() {
        let ([one, other], run) = stores();
        for step in (1..=2000).step_by(5) {
            for (store, step) in
                [(&one, step), (&one, step + 1), (&other, step + 2), (&other, step + 3), (&one, step + 4)]
            {
                log(store, run, step);
            }
        }
        assert_eq!(steps(&one, run), (1..=2000).collect::<Vec<_>>());
    }

    #[test]
    fn a_chunk_that_another_process_wrote_in_the_meantime_is_not_written_over() {
        let ([first, one, other], run) = stores();
        log(&first, run, 1);
        log(&first, run, 9);
        // One plans a point that is never written; the other writes another, after which the head is the same.
        one.plan_points(run, "loss", &[point(3)], &mut Batch::new()).unwrap();
        log(&other, run, 4);
        log(&one, run, 5);
        assert_eq!(steps(&first, run), [1, 4, 5, 9]);
    }
}
