//! Sealed points: columns of steps, times and values, each coded by `pco`; and what a plot needs to know of them.

use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress_into};

use super::{BLOCK_POINTS, Point, extremes};
use crate::error::{Error, Result};

/// The most points a block can have; more in a record is damage.
const MAX_POINTS: u32 = 2 * BLOCK_POINTS as u32;

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) n_points: u32,
    pub(crate) steps: Vec<u8>,
    pub(crate) times: Vec<u8>,
    pub(crate) values: Vec<u8>,
}

/// What a block or a group of blocks holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) first: Point,
    pub(crate) last: Point,
    pub(crate) n_points: u64,
    /// How many of the values are NaN; they enter nothing below.
    pub(crate) n_nan: u64,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) sum: f64,
}

impl Block {
    /// The block of these points, which are sorted and not more than [`MAX_POINTS`].
    pub(crate) fn seal(points: &[Point]) -> Result<Self> {
        let failed =
            |error: pco::errors::PcoError| Error::invalid("a block of points", "numbers that can be coded", error);
        let config = ChunkConfig::default();
        let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
        let times: Vec<i64> = points.iter().map(|point| point.time).collect();
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        Ok(Self {
            n_points: points.len() as u32,
            steps: simple_compress(&steps, &config).map_err(failed)?,
            times: simple_compress(&times, &config).map_err(failed)?,
            values: simple_compress(&values, &config).map_err(failed)?,
        })
    }

    /// The points of the block that lies at `key`.
    pub(crate) fn points(&self, key: &[u8]) -> Result<Vec<Point>> {
        if self.n_points > MAX_POINTS {
            let reason = format!("expected at most `{MAX_POINTS}` points in a block, got `{}`", self.n_points);
            return Err(Error::corrupt(key, reason));
        }
        let n_points = self.n_points as usize;
        let (mut steps, mut times, mut values) = (vec![0_i64; n_points], vec![0_i64; n_points], vec![0_f64; n_points]);
        column(key, &self.steps, &mut steps)?;
        column(key, &self.times, &mut times)?;
        column(key, &self.values, &mut values)?;
        let points = steps.into_iter().zip(times).zip(values);
        Ok(points.map(|((step, time), value)| Point { step, time, value }).collect())
    }
}

fn column<T: pco::data_types::Number>(key: &[u8], coded: &[u8], numbers: &mut [T]) -> Result<()> {
    let progress = simple_decompress_into(coded, numbers)
        .map_err(|error| Error::corrupt(key, format!("a column of a block: {error}")))?;
    if progress.n_processed == numbers.len() && progress.finished {
        return Ok(());
    }
    let reason = format!("expected a column of `{}` numbers, got `{}`", numbers.len(), progress.n_processed);
    Err(Error::corrupt(key, reason))
}

impl Summary {
    /// What these points are, which are sorted; `None` if there are none.
    pub(crate) fn of(points: &[Point]) -> Option<Self> {
        let (first, last) = (*points.first()?, *points.last()?);
        let (min, max) = extremes(points.iter().map(|point| point.value));
        let numbers = points.iter().map(|point| point.value).filter(|value| !value.is_nan());
        let n_nan = points.iter().filter(|point| point.value.is_nan()).count() as u64;
        Some(Self { first, last, n_points: points.len() as u64, n_nan, min, max, sum: numbers.sum() })
    }

    /// What these parts are together, which are sorted; `None` if there are none.
    pub(crate) fn join(parts: &[Self]) -> Option<Self> {
        let (first, last) = (parts.first()?.first, parts.last()?.last);
        let (min, _) = extremes(parts.iter().filter_map(|part| part.min));
        let (_, max) = extremes(parts.iter().filter_map(|part| part.max));
        Some(Self {
            first,
            last,
            n_points: parts.iter().map(|part| part.n_points).sum(),
            n_nan: parts.iter().map(|part| part.n_nan).sum(),
            min,
            max,
            sum: parts.iter().map(|part| part.sum).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_block_gives_back_every_bit(
            points in proptest::collection::vec((any::<i64>(), any::<i64>(), any::<u64>()), 1..600),
        ) {
            let points: Vec<Point> =
                points.into_iter().map(|(step, time, bits)| Point::new(step, time, f64::from_bits(bits))).collect();
            prop_assert_eq!(Block::seal(&points).unwrap().points(b"").unwrap(), points);
        }

        #[test]
        fn a_damaged_column_is_an_error_or_other_numbers_never_a_panic(at in 0_usize..400, flip in 1_u8..) {
            let points: Vec<Point> = (0..512).map(|step| Point::new(step, step * 1000, (step as f64).sqrt())).collect();
            let mut block = Block::seal(&points).unwrap();
            let at = at % block.values.len();
            block.values[at] ^= flip;
            if let Ok(read) = block.points(b"") {
                prop_assert_eq!(read.len(), 512);
            }
        }
    }

    #[test]
    fn a_block_that_claims_too_many_points_is_refused() {
        let mut block = Block::seal(&[Point::new(1, 2, 3.0)]).unwrap();
        block.n_points = u32::MAX;
        assert!(matches!(block.points(b"k"), Err(Error::Corrupt { .. })));
        block.n_points = 2;
        assert!(matches!(block.points(b"k"), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_summary_counts_nan_apart() {
        let points: Vec<Point> =
            (0..).zip([1.0, f64::NAN, -2.0, f64::INFINITY]).map(|(step, value)| Point::new(step, 0, value)).collect();
        let whole = Summary::of(&points).unwrap();
        assert_eq!((whole.n_points, whole.n_nan, whole.min, whole.max), (4, 1, Some(-2.0), Some(f64::INFINITY)));
        let parts: Vec<Summary> = points.chunks(2).filter_map(Summary::of).collect();
        assert_eq!(Summary::join(&parts).unwrap(), whole);
    }
}
