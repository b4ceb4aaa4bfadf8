//! Adding points: to the tail, and from the tail into blocks.
//!
//! Points that come in order are sealed once, into new blocks at the end. Points that come late rewrite the blocks between
//! the earliest and the latest of them.

use tracker_engine::{Batch, Direction, KeyRange};

use super::{BLOCK_POINTS, Block, Chunk, GROUP_BLOCKS, Head, Point, SEAL_POINTS, Summary, extremes};
use crate::error::Result;
use crate::id::RunId;
use crate::keys;
use crate::reader::Entries;
use crate::records::Stored;
use crate::store::Store;

const BLOCKS: u8 = 1;
const GROUPS: u8 = 2;

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
        let decode = |record: &Vec<u8>| Head::decode(&head_key, record);
        let mut recorded = self.known().head(&head_key);
        let mut before = recorded.as_ref().map(decode).transpose()?;
        // What is sealed is read from the store, so the head has to be what is there.
        let is_tail = |head: &Head| (head.n_tail as usize + points.len()) < SEAL_POINTS;
        if !before.as_ref().is_some_and(is_tail) {
            recorded = self.get(&head_key)?;
            before = recorded.as_ref().map(decode).transpose()?;
        }
        match &recorded {
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
        if n_tail as usize + points.len() < SEAL_POINTS {
            append.put_chunk(&mut head, points)?;
            head.n_tail += points.len() as u32;
        } else {
            append.seal(&mut head, points)?;
        }
        let record = head.encode()?;
        batch.put(&head_key, &record);
        self.known().keep_head(&head_key, &record);
        let entry = |head: &Head| keys::latest_entry(key, head.latest.value, run);
        let (last, next) = (before.as_ref().map(entry), entry(&head));
        if last.as_ref() != Some(&next) {
            if let Some(last) = last {
                batch.delete(&last);
            }
            batch.put_new(&next, &[]);
        }
        Ok(())
    }
}

impl Append<'_> {
    fn put_chunk(&mut self, head: &mut Head, points: &[Point]) -> Result<()> {
        let chunk = Chunk { points: points.to_vec() };
        self.batch.put_new(&keys::tail_chunk(self.run, self.key, head.next_chunk), &chunk.encode()?);
        head.next_chunk += 1;
        Ok(())
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
            self.put_chunk(head, &rest)?;
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
