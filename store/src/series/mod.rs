//! Metric series: points that arrive one by one or by the thousand, in any order, more than once.
//!
//! A series is a set of points, read in the order of (step, time, value). New points land in a *tail* of small chunks; when
//! the tail has grown, its points are sealed into *blocks* of about [`BLOCK_POINTS`], whose columns are coded by `pco`.
//! Each block has a summary, and each [`GROUP_BLOCKS`] of blocks another, so a plot reads few entries however long the
//! series is. A *head* holds the latest point and the extremes, so listings read no points at all.
//!
//! Invariants: blocks are sorted and disjoint; a point may lie both in a block and in the tail, never twice in the blocks,
//! and is read once; NaN and infinities are kept; head, tail, blocks and summaries change in one batch.

mod append;
mod block;
mod history;
mod plot;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::RunId;
use crate::keys;
use crate::records::Stored;
use crate::store::Store;

pub(crate) use append::Planned;
pub(crate) use block::{Block, Summary};
pub use history::History;
pub use plot::Bucket;

/// Points of a block.
pub(crate) const BLOCK_POINTS: usize = 512;
/// Points in the tail from which on blocks are sealed.
const SEAL_POINTS: usize = 2 * BLOCK_POINTS;
/// Blocks one summary of the second level stands for.
pub(crate) const GROUP_BLOCKS: usize = 64;

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The step it was taken at.
    pub step: i64,
    /// When it was taken, in milliseconds since 1970.
    pub time: i64,
    /// What was measured; may be NaN or infinite.
    pub value: f64,
}

impl Point {
    /// The measurement `value` at `step` and `time`.
    #[must_use]
    pub fn new(step: i64, time: i64, value: f64) -> Self {
        Self { step, time, value }
    }

    /// Bytes that sort as points do.
    pub(crate) fn sortable(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&keys::sortable_i64(self.step));
        bytes[8..16].copy_from_slice(&keys::sortable_i64(self.time));
        bytes[16..].copy_from_slice(&keys::sortable_f64(self.value));
        bytes
    }

    /// The point whose sortable bytes these are.
    pub(crate) fn from_sortable(bytes: &[u8; 24]) -> Self {
        let part = |at: usize| {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(part)
        };
        let signed = |bits: u64| (bits ^ (1 << 63)) as i64;
        let value = part(16);
        let flip = if value >> 63 == 1 { 1 << 63 } else { u64::MAX };
        Self { step: signed(part(0)), time: signed(part(8)), value: f64::from_bits(value ^ flip) }
    }
}

/// Points are the same if their bits are, so NaN equals NaN and 0 is not -0.
impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Point {}

impl PartialOrd for Point {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By step, then time, then value in [`f64::total_cmp`]'s order.
impl Ord for Point {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.step, self.time).cmp(&(other.step, other.time)).then_with(|| self.value.total_cmp(&other.value))
    }
}

/// A series at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The greatest point by (step, time, value).
    pub latest: Point,
    /// The least value that is a number, if any is.
    pub min: Option<f64>,
    /// The greatest value that is a number, if any is.
    pub max: Option<f64>,
}

/// What is kept of a series beside its points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) latest: Point,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Points in the tail, resent ones counted each time.
    pub(crate) n_tail: u32,
    /// The number of the next chunk of the tail.
    pub(crate) next_chunk: u64,
    /// Points in blocks.
    pub(crate) n_sealed: u64,
}

/// Points of one append or of a few, not yet sealed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) points: Vec<Point>,
}

impl Store {
    /// Every series of a run at a glance, by key. Reads no points.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn all_series(&self, run: RunId) -> Result<Vec<(String, Series)>> {
        self.entries(&keys::all_series(run))
            .map(|entry| {
                let (key, record) = entry?;
                Ok((keys::name_at(&key)?, Head::decode(&key, &record)?.glance()))
            })
            .collect()
    }

    /// One series of a run at a glance, if it has a point.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn series(&self, run: RunId, key: &str) -> Result<Option<Series>> {
        Ok(self.head(run, key)?.map(|head| head.glance()))
    }

    pub(crate) fn head(&self, run: RunId, key: &str) -> Result<Option<Head>> {
        self.get_value(&keys::series(run, key))
    }

    /// The points of the tail, sorted, each once.
    fn tail(&self, run: RunId, key: &str) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        for entry in self.entries(&keys::tail(run, key)) {
            let (key, record) = entry?;
            points.extend(Chunk::decode(&key, &record)?.points);
        }
        points.sort_unstable();
        points.dedup();
        Ok(points)
    }
}

impl Head {
    fn glance(&self) -> Series {
        Series { latest: self.latest, min: self.min, max: self.max }
    }
}

/// The least and the greatest of `values` that are numbers.
pub(crate) fn extremes(values: impl Iterator<Item = f64>) -> (Option<f64>, Option<f64>) {
    values.filter(|value| !value.is_nan()).fold((None, None), |(min, max), value| {
        let least = min.map_or(value, |min: f64| min.min(value));
        let greatest = max.map_or(value, |max: f64| max.max(value));
        (Some(least), Some(greatest))
    })
}
