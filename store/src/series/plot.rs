//! A series as a bounded number of buckets, for a plot.

use serde::{Deserialize, Serialize};

use super::{BLOCK_POINTS, Point, Summary};
use crate::error::Result;
use crate::id::RunId;
use crate::keys;
use crate::records::Stored;
use crate::store::Store;

/// The most points, or summaries, that one plot reads.
const MAX_READ: u64 = 32 * 1024;

/// The points of a stretch of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The first step.
    pub first_step: i64,
    /// The last step.
    pub last_step: i64,
    /// How many points there are.
    pub n_points: u64,
    /// The least value that is a number, if any is.
    pub min: Option<f64>,
    /// The greatest value that is a number, if any is.
    pub max: Option<f64>,
    /// The mean of the values that are numbers, if any is.
    pub mean: Option<f64>,
}

impl Store {
    /// At most `n_buckets` stretches of equal length in steps that cover a series; empty ones are left out.
    ///
    /// Series of up to 32,768 points are cut exactly. Longer ones are cut between blocks of about 512 points, and those past
    /// 16,777,216 points between groups of 64 blocks; no more than some 33,000 entries are read for any length up to 10⁹.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn plot(&self, run: RunId, key: &str, n_buckets: usize) -> Result<Vec<Bucket>> {
        let Some(head) = self.head(run, key)? else {
            return Ok(Vec::new());
        };
        let n_points = head.n_sealed + u64::from(head.n_tail);
        let level = if n_points <= MAX_READ {
            None
        } else if n_points / BLOCK_POINTS as u64 <= MAX_READ {
            Some(1)
        } else {
            Some(2)
        };
        let mut parts = Vec::new();
        match level {
            None => {
                for point in self.history(run, key, None)? {
                    parts.extend(Summary::of(&[point?]));
                }
            }
            Some(level) => {
                let tail = self.tail(run, key)?;
                for entry in self.entries(&keys::summaries(run, key, level)) {
                    let (key, record) = entry?;
                    parts.push(Summary::decode(&key, &record)?);
                }
                parts.extend(tail.into_iter().filter_map(|point: Point| Summary::of(&[point])));
            }
        }
        Ok(buckets(&parts, n_buckets))
    }
}

fn buckets(parts: &[Summary], n_buckets: usize) -> Vec<Bucket> {
    let lowest = parts.iter().map(|part| part.first.step).min();
    let highest = parts.iter().map(|part| part.last.step).max();
    let (Some(lowest), Some(highest), true) = (lowest, highest, n_buckets > 0) else {
        return Vec::new();
    };
    // Steps may span all of i64, so lengths are counted in i128.
    let n_steps = i128::from(highest) - i128::from(lowest) + 1;
    let place = |part: &Summary| {
        let middle = i128::midpoint(i128::from(part.first.step), i128::from(part.last.step));
        ((middle - i128::from(lowest)) * n_buckets as i128 / n_steps) as usize
    };
    let mut filled: Vec<Option<Summary>> = vec![None; n_buckets];
    for part in parts {
        let bucket = &mut filled[place(part).min(n_buckets - 1)];
        *bucket = match bucket {
            None => Some(*part),
            Some(so_far) => Summary::join(&[*so_far, *part]),
        };
    }
    filled.into_iter().flatten().map(|whole| Bucket::of(&whole)).collect()
}

impl Bucket {
    fn of(whole: &Summary) -> Self {
        let n_numbers = whole.n_points - whole.n_nan.min(whole.n_points);
        Self {
            first_step: whole.first.step,
            last_step: whole.last.step,
            n_points: whole.n_points,
            min: whole.min,
            max: whole.max,
            mean: (n_numbers > 0).then(|| whole.sum / n_numbers as f64),
        }
    }
}
