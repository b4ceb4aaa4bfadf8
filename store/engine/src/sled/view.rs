//! One state of the tree.

use std::ops::Bound;
use std::sync::Arc;

use super::cut::{self, Cut, Value};
use super::overlay::Bytes;
use super::{Core, sled_error};
use crate::{Direction, Error, KeyRange, Read, Result, Visitor};

/// Entries read at once, the first time and at most.
const FIRST_ENTRIES: usize = 32;
const MAX_ENTRIES: usize = 1024;

/// The tree as of one version.
pub(super) struct View {
    core: Arc<Core>,
    epoch: u64,
    version: u64,
}

/// Entries of the tree in key order, and where to go on, if there may be more.
struct Chunk {
    entries: Vec<(Bytes, Bytes)>,
    edge: Option<Bytes>,
}

type Bounds = (Bound<Bytes>, Bound<Bytes>);

impl View {
    /// The present state.
    pub(super) fn take(core: &Arc<Core>) -> Self {
        // A failure between the two makes a view that is lost; the other way round it would show what failed.
        let epoch = core.epoch();
        Self { core: Arc::clone(core), epoch, version: core.overlay.enter() }
    }

    /// What the tree had at `key`. The tree is looked into first: what it shows of later versions is put down by then.
    fn record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.core.with(Some(self.epoch), |open| open.get(&self.core.path, key))?;
        let record = self.core.overlay.correct(Some(self.version), key, found);
        // What was put down is forgotten when the tree is given up.
        self.core.with(Some(self.epoch), |_| Ok(record))
    }

    fn assembled(&self, cut: Cut) -> Result<Vec<u8>> {
        let mut value = Vec::with_capacity(cut.n_bytes as usize);
        for key in cut.keys() {
            let piece = self.record(&key)?;
            value.extend_from_slice(&piece.ok_or_else(|| self.torn())?);
        }
        if value.len() == cut.n_bytes as usize { Ok(value) } else { Err(self.torn()) }
    }

    fn torn(&self) -> Error {
        Error::corrupt(&self.core.path, "a piece of a large value is missing or cut short")
    }

    /// Up to `limit` entries within `bounds`, from its start or from its end.
    fn chunk(&self, bounds: &Bounds, direction: Direction, limit: usize) -> Result<Chunk> {
        let path = &self.core.path;
        let mut found = self.core.with(Some(self.epoch), |open| {
            self.core.guarded(|| {
                let mut entries = open.tree.range(bounds.clone());
                let mut found = Vec::with_capacity(limit);
                while found.len() < limit {
                    let entry = match direction {
                        Direction::Ascending => entries.next(),
                        Direction::Descending => entries.next_back(),
                    };
                    let Some(entry) = entry else { break };
                    found.push(entry.map_err(|error| sled_error(path, error))?);
                }
                Ok(found)
            })
        })?;
        // What lies behind the last entry belongs to the next chunk.
        let edge = found.last().filter(|_| found.len() == limit).map(|entry| entry.0.clone());
        let (mut start, mut end) = (as_slice(&bounds.0), as_slice(&bounds.1));
        match (&edge, direction) {
            (Some(edge), Direction::Ascending) => end = Bound::Included(edge),
            (Some(edge), Direction::Descending) => start = Bound::Included(edge),
            (None, _) => {}
        }
        if direction == Direction::Descending {
            found.reverse();
        }
        let entries = self.core.overlay.correct_range(self.version, start, end, found);
        self.core.with(Some(self.epoch), |_| Ok(Chunk { entries, edge }))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.core.overlay.leave(self.version);
    }
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(record) = self.record(&cut::entry_key(key))? else {
            return Ok(None);
        };
        match self.core.read_record(&record)? {
            Value::Whole(value) => Ok(Some(value.to_vec())),
            Value::Cut(cut) => self.assembled(cut).map(Some),
        }
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let end = range.end().map_or_else(|| cut::ENTRIES_END.to_vec(), cut::entry_key);
        let mut bounds =
            (Bound::Included(Bytes::from(cut::entry_key(range.start()))), Bound::Excluded(Bytes::from(end)));
        let mut limit = FIRST_ENTRIES;
        loop {
            let Chunk { mut entries, edge } = self.chunk(&bounds, direction, limit)?;
            if direction == Direction::Descending {
                entries.reverse();
            }
            for (key, record) in &entries {
                let key = cut::key_of(key);
                let end = match self.core.read_record(record)? {
                    Value::Whole(value) => visit(key, value),
                    Value::Cut(cut) => visit(key, &self.assembled(cut)?),
                };
                if end.is_break() {
                    return Ok(());
                }
            }
            match (edge, direction) {
                (None, _) => return Ok(()),
                (Some(edge), Direction::Ascending) => bounds.0 = Bound::Excluded(edge),
                (Some(edge), Direction::Descending) => bounds.1 = Bound::Excluded(edge),
            }
            limit = (limit * 4).min(MAX_ENTRIES);
        }
    }
}

fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &**key)
}
