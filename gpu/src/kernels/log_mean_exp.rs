//! The entropic mean of rows, stable for every η.
//!
//! With `c` the element of greatest `ηx`, the result is `c + (1/η) log mean exp(η(x − c))`, all exponents ≤ 0. Near η = 0
//! the logarithm's argument is near 1, so the mean of `exp − 1` is carried beside the mean of `exp` and the better
//! conditioned one is used; once `|η| · range` is below the f32 resolution the result is the mean. Arguments are halved
//! before they are subtracted, so that no range overflows.

use rayon::prelude::*;

use super::vector::{exp_and_m1, greater, lesser, reduce, wide};
use crate::error::{Error, Result, matrix};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source = Source { name: "log_mean_exp", wgsl: include_str!("log_mean_exp.wgsl"), entry: "main" };

/// Partial sums kept at once.
const LANES: usize = 8;
/// Elements summed in f32 before the sum moves into f64.
const BLOCK: usize = 64 * LANES;
/// Elements below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 14;
/// Rows a workgroup takes, each with eight lanes.
const GROUP_ROWS: usize = 8;
/// The longest row on a graphics device: its lanes then loop some 33,000 times.
const MAX_ROW_BYTES: usize = 512 << 10;
/// η is zero or has a magnitude in this range, where it and its reciprocal are normal.
const ETA: std::ops::RangeInclusive<f32> = 1e-30..=1e30;
/// Below this `|η| · range` the entropic and the arithmetic mean differ by less than 2⁻²⁷ of the range.
const FLAT: f32 = 1.0 / 16_777_216.0;

/// Checks the arguments and returns the number of rows.
pub(crate) fn check(x: &[f32], n_cols: usize, eta: f32) -> Result<usize> {
    if eta != 0.0 && !ETA.contains(&eta.abs()) {
        return Err(Error::Range {
            what: "eta".to_owned(),
            expected: "0 or a magnitude from 1e-30 to 1e30".to_owned(),
            got: eta.to_string(),
        });
    }
    let n_rows = if x.is_empty() { 0 } else { x.len() / n_cols.max(1) };
    // a length that is no multiple of the columns is reported as the matrix it should have been
    let n_rows = if n_rows * n_cols < x.len() { n_rows + 1 } else { n_rows };
    matrix("x", n_rows, n_cols, x.len())?;
    Ok(n_rows)
}

/// η in the forms the kernel uses, the same on both devices.
#[derive(Clone, Copy)]
struct Eta {
    twice: f32,
    half_reciprocal: f32,
}

impl Eta {
    fn new(eta: f32) -> Self {
        Self { twice: 2.0 * eta, half_reciprocal: if eta == 0.0 { 0.0 } else { 0.5 / eta } }
    }
}

/// Sums of `f` over a row, in lanes and blocks.
#[inline(always)]
fn sum_pairs(row: &[f32], f: impl Fn(f32) -> (f32, f32)) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for block in row.chunks(BLOCK) {
        let (mut a, mut b) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (whole, rest) = block.as_chunks::<LANES>();
        for x in whole {
            for ((a, b), &x) in a.iter_mut().zip(&mut b).zip(x) {
                let (da, db) = f(x);
                *a += da;
                *b += db;
            }
        }
        for ((a, b), &x) in a.iter_mut().zip(&mut b).zip(rest) {
            let (da, db) = f(x);
            *a += da;
            *b += db;
        }
        sums.0 += f64::from(reduce(a, |x, y| x + y));
        sums.1 += f64::from(reduce(b, |x, y| x + y));
    }
    sums
}

/// The least and the greatest element; none where one is not finite.
#[inline(always)]
fn range(row: &[f32]) -> Option<(f32, f32)> {
    let (mut low, mut high, mut bad) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0_u32; LANES]);
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut take = |x: &[f32]| {
        for (((low, high), bad), &x) in low.iter_mut().zip(&mut high).zip(&mut bad).zip(x) {
            *low = lesser(*low, x);
            *high = greater(*high, x);
            *bad |= u32::from(!x.is_finite());
        }
    };
    for x in whole {
        take(x);
    }
    take(rest);
    let is_finite = bad.into_iter().all(|bad| bad == 0);
    is_finite
        .then(|| (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max)))
}

/// One row.
struct Row<'a> {
    x: &'a [f32],
    eta: Eta,
}

impl pulp::NullaryFnOnce for Row<'_> {
    /// The result; NaN where a value is not finite.
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Some((low, high)) = range(self.x) else {
            return f32::NAN;
        };
        let (near, far) = if self.eta.twice > 0.0 { (high, low) } else { (low, high) };
        let half = 0.5 * near;
        let n = self.x.len() as f64;
        if (self.eta.twice * (0.5 * far - half)).abs() < FLAT {
            // divided first: a sum of many halves could overflow
            let share = (1.0 / n) as f32;
            let (mean, _) = sum_pairs(self.x, |x| ((0.5 * x - half) * share, 0.0));
            return (2.0 * (f64::from(half) + mean)) as f32;
        }
        let (sum, sum_m1) = sum_pairs(self.x, |x| exp_and_m1(self.eta.twice * (0.5 * x - half)));
        // in f64 the sum with 1 keeps all that the f32 terms hold
        let mean = if sum_m1 / n > -0.5 { 1.0 + sum_m1 / n } else { sum / n };
        (2.0 * (f64::from(half) + mean.ln() * f64::from(self.eta.half_reciprocal))) as f32
    }
}

pub(crate) fn on_cpu(x: &[f32], n_rows: usize, n_cols: usize, eta: f32) -> Result<Vec<f32>> {
    if n_rows == 0 {
        return Ok(Vec::new());
    }
    let eta = Eta::new(eta);
    let out: Vec<f32> = if x.len() < PARALLEL {
        x.chunks(n_cols).map(|x| wide(Row { x, eta })).collect()
    } else {
        x.par_chunks(n_cols).with_min_len((PARALLEL / n_cols).max(1)).map(|x| wide(Row { x, eta })).collect()
    };
    defined(out)
}

fn defined(out: Vec<f32>) -> Result<Vec<f32>> {
    match out.iter().position(|x| x.is_nan()) {
        None => Ok(out),
        Some(row) => Err(Error::Undefined { what: "x", row, expected: "finite values only" }),
    }
}

pub(crate) fn on_gpu(gpu: &Gpu, x: &[f32], n_rows: usize, n_cols: usize, eta: f32) -> Result<Vec<f32>> {
    if n_rows == 0 {
        return Ok(Vec::new());
    }
    let eta = Eta::new(eta);
    gpu.fits("row of x", n_cols.saturating_mul(4), MAX_ROW_BYTES)?;
    // no more workgroups than a dispatch may have, even of rows of one element
    let rows = (CHUNK_BYTES / 4 / n_cols).min(65_535 * GROUP_ROWS);
    let mut out = Vec::with_capacity(n_rows);
    let passes = x.chunks(rows * n_cols).map(|x| {
        let n_rows = x.len() / n_cols;
        Pass {
            params: [n_rows as u32, n_cols as u32, eta.twice.to_bits(), eta.half_reciprocal.to_bits(), 0, 0, 0, 0],
            inputs: vec![bytemuck::cast_slice(x).into()],
            output_bytes: n_rows * 4,
            n_groups: n_rows.div_ceil(GROUP_ROWS) as u32,
        }
    });
    gpu.run(&SOURCE, passes, |_, bytes| {
        out.extend_from_slice(bytemuck::cast_slice(bytes));
        Ok(())
    })?;
    defined(out)
}
