//! Reading the points of a series in order, a block at a time.

use std::iter::Peekable;
use std::vec::IntoIter;

use tracker_engine::{Direction, KeyRange};

use super::{Block, Point};
use crate::error::Result;
use crate::id::RunId;
use crate::keys;
use crate::reader::Entries;
use crate::records::Stored;
use crate::store::Store;

/// The points of a series, sorted, each once.
pub struct History {
    blocks: Entries,
    block: Peekable<IntoIter<Point>>,
    tail: Peekable<IntoIter<Point>>,
    last: Option<Point>,
}

impl Store {
    /// The points of a series in the order of (step, time, value), after `after` if given. Holds one block and the tail.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn history(&self, run: RunId, key: &str, after: Option<Point>) -> Result<History> {
        // The tail first: a point sealed in between is then met in both, and given once.
        let tail = self.tail(run, key)?;
        let prefix = keys::blocks(run, key);
        let from = match after {
            None => prefix.clone(),
            Some(point) => self.block_key_at(run, key, &point)?.unwrap_or_else(|| prefix.clone()),
        };
        let blocks = Entries::new(self.read(), &KeyRange::prefix(&prefix).starting_at(&from), Direction::Ascending);
        Ok(History { blocks, block: Vec::new().into_iter().peekable(), tail: tail.into_iter().peekable(), last: after })
    }

    /// The key of the last block that starts at or before `point`.
    fn block_key_at(&self, run: RunId, key: &str, point: &Point) -> Result<Option<Vec<u8>>> {
        let prefix = keys::blocks(run, key);
        let mut end = keys::block(run, key, &point.sortable());
        end.push(0);
        let mut before = Entries::new(self.read(), &KeyRange::new(&prefix, &end), Direction::Descending);
        Ok(before.next().transpose()?.map(|(key, _)| key))
    }
}

impl History {
    fn fill(&mut self) -> Result<()> {
        while self.block.peek().is_none() {
            let Some(entry) = self.blocks.next() else {
                return Ok(());
            };
            let (key, record) = entry?;
            self.block = Block::decode(&key, &record)?.points(&key)?.into_iter().peekable();
        }
        Ok(())
    }
}

impl Iterator for History {
    type Item = Result<Point>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(error) = self.fill() {
                return Some(Err(error));
            }
            let is_block_next = match (self.block.peek(), self.tail.peek()) {
                (Some(block), Some(tail)) => block <= tail,
                (block, _) => block.is_some(),
            };
            let point = if is_block_next { self.block.next()? } else { self.tail.next()? };
            if self.last.is_none_or(|last| point > last) {
                self.last = Some(point);
                return Some(Ok(point));
            }
        }
    }
}
