//! Reading ranges of any length in pages, so that no read holds more than a page.
//!
//! Invariant: a page is taken by one engine call, so it is of one state; what is committed between pages may or may not
//! be seen. Rows and contents never change, so readers of those see a whole range as it was or grew.

use std::sync::Arc;

use tracker_engine::{Direction, Entry, Error as EngineError, KeyRange, Read};

use crate::error::Result;

const FIRST_PAGE: usize = 64;
const LAST_PAGE: usize = 1024;
/// How often a page is asked for again when the process that served it went away.
const N_RETRIES: usize = 8;

/// Keys from `start`, itself in, to `end`, itself out; without an end, to the last.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Span {
    fn of(range: &KeyRange<'_>) -> Self {
        Self { start: range.start().to_vec(), end: range.end().map(<[u8]>::to_vec) }
    }

    /// The keys that start with `prefix`.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        Self::of(&KeyRange::prefix(prefix))
    }

    /// The keys from those that start with `low` to those that start with `high`, all in.
    pub(crate) fn inclusive(low: &[u8], high: &[u8]) -> Self {
        Self { start: low.to_vec(), end: Self::prefix(high).end }
    }

    /// The same without `key` and what comes before it in `direction`.
    pub(crate) fn past(mut self, key: &[u8], direction: Direction) -> Self {
        match direction {
            Direction::Ascending => {
                let next = [key, &[0]].concat();
                self.start = self.start.max(next);
            }
            Direction::Descending => {
                self.end = Some(self.end.map_or_else(|| key.to_vec(), |end| end.min(key.to_vec())));
            }
        }
        self
    }

    fn range(&self) -> KeyRange<'_> {
        match &self.end {
            Some(end) => KeyRange::new(&self.start, end),
            None => KeyRange::from(&self.start),
        }
    }
}

/// The entries of a range, in order, a page at a time.
pub(crate) struct Entries {
    read: Arc<dyn Read>,
    span: Span,
    direction: Direction,
    page: std::vec::IntoIter<Entry>,
    n_next: usize,
    is_done: bool,
}

impl Entries {
    pub(crate) fn new(read: Arc<dyn Read>, range: &KeyRange<'_>, direction: Direction) -> Self {
        Self::over(read, Span::of(range), direction)
    }

    pub(crate) fn over(read: Arc<dyn Read>, span: Span, direction: Direction) -> Self {
        let is_done = span.range().is_empty();
        Self { read, span, direction, page: Vec::new().into_iter(), n_next: FIRST_PAGE, is_done }
    }

    pub(crate) fn prefix(read: Arc<dyn Read>, prefix: &[u8]) -> Self {
        Self::new(read, &KeyRange::prefix(prefix), Direction::Ascending)
    }

    fn turn(&mut self) -> Result<()> {
        let page = again(|| self.read.collect(self.span.range(), self.direction, self.n_next))?;
        self.is_done = page.len() < self.n_next;
        self.n_next = (self.n_next * 4).min(LAST_PAGE);
        if let Some((key, _)) = page.last() {
            let last = key.clone();
            self.span =
                std::mem::replace(&mut self.span, Span { start: Vec::new(), end: None }).past(&last, self.direction);
        }
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.is_done {
                return None;
            }
            if let Err(error) = self.turn() {
                self.is_done = true;
                return Some(Err(error));
            }
        }
    }
}

/// Asks again while the process that served the answer goes away.
pub(crate) fn again<T>(mut ask: impl FnMut() -> tracker_engine::Result<T>) -> Result<T> {
    let mut n_left = N_RETRIES;
    loop {
        match ask() {
            Err(EngineError::SnapshotLost) if n_left > 0 => n_left -= 1,
            answer => return Ok(answer?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_engine::{Batch, Durability, Engine, Memory};

    #[test]
    fn pages_meet_without_gap_or_repeat_in_both_directions() {
        let engine = Memory::new();
        let mut batch = Batch::new();
        for number in 0..3000_u32 {
            batch.put(&number.to_be_bytes(), &[]);
        }
        engine.commit(&batch, Durability::Os).unwrap();
        let engine: Arc<dyn Read> = Arc::new(engine);
        let numbers = |range: KeyRange<'_>, direction| -> Vec<u32> {
            Entries::new(Arc::clone(&engine), &range, direction)
                .map(|entry| u32::from_be_bytes(entry.unwrap().0.try_into().unwrap()))
                .collect()
        };
        assert_eq!(numbers(KeyRange::all(), Direction::Ascending), (0..3000).collect::<Vec<_>>());
        assert_eq!(numbers(KeyRange::all(), Direction::Descending), (0..3000).rev().collect::<Vec<_>>());
        let (low, high) = (5_u32.to_be_bytes(), 2000_u32.to_be_bytes());
        assert_eq!(numbers(KeyRange::new(&low, &high), Direction::Descending), (5..2000).rev().collect::<Vec<_>>());
        assert!(numbers(KeyRange::new(&high, &low), Direction::Ascending).is_empty());
    }
}
