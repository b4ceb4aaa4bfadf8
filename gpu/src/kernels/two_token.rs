//! The probability of one token against another, without the logits of any other.
//!
//! The difference of two logits is one product with the difference of two rows of the language head. Sums run in short
//! blocks: their error does not grow with the width.

use rayon::prelude::*;

use super::vector::{exp_nonpositive, reduce, wide};
use crate::error::{Error, Result, matrix, same_len};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source = Source { name: "two_token", wgsl: include_str!("two_token.wgsl"), entry: "main" };

const LANES: usize = 16;
/// Elements summed in f32 before the sum moves into f64.
const BLOCK: usize = 64 * LANES;
/// Elements below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 16;
/// Rows of a workgroup.
const GROUP_ROWS: usize = 8;
/// As many values as a row of an entropic mean.
const MAX_ROW_BYTES: usize = 4 << 17;

/// The difference of the two rows of the head.
pub(crate) fn gap(hidden: &[f32], n_cols: usize, [plus, minus]: [&[f32]; 2]) -> Result<Vec<f32>> {
    let n_rows = hidden.len().checked_div(n_cols).unwrap_or(0);
    matrix("hidden", n_rows, n_cols, hidden.len())?;
    same_len("head of plus", n_cols, plus.len())?;
    same_len("head of minus", n_cols, minus.len())?;
    let gap: Vec<f32> = plus.iter().zip(minus).map(|(plus, minus)| plus - minus).collect();
    match gap.iter().position(|x| !x.is_finite()) {
        None => Ok(gap),
        Some(at) => Err(Error::Range {
            what: format!("head[{at}]"),
            expected: "two finite numbers with a finite difference".to_owned(),
            got: format!("{} and {}", plus[at], minus[at]),
        }),
    }
}

/// σ(z); NaN of what is not finite.
fn probability(z: f64) -> f32 {
    let z = z as f32;
    if !z.is_finite() {
        return f32::NAN;
    }
    let small = exp_nonpositive(-z.abs());
    // What the exponential does not resolve is not there.
    let small = if z.abs() > 87.0 { 0.0 } else { small };
    if z < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

/// One row.
struct Row<'a> {
    hidden: &'a [f32],
    gap: &'a [f32],
}

impl pulp::NullaryFnOnce for Row<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut sum = 0.0_f64;
        for (hidden, gap) in self.hidden.chunks(BLOCK).zip(self.gap.chunks(BLOCK)) {
            let mut lanes = [0.0_f32; LANES];
            let (whole, rest) = hidden.as_chunks::<LANES>();
            let (of_whole, of_rest) = gap.as_chunks::<LANES>();
            for (h, w) in whole.iter().zip(of_whole) {
                for ((lane, h), w) in lanes.iter_mut().zip(h).zip(w) {
                    *lane += h * w;
                }
            }
            for ((lane, h), w) in lanes.iter_mut().zip(rest).zip(of_rest) {
                *lane += h * w;
            }
            sum += f64::from(reduce(lanes, |a, b| a + b));
        }
        sum
    }
}

pub(crate) fn on_cpu(hidden: &[f32], gap: &[f32]) -> Result<Vec<f32>> {
    if hidden.is_empty() {
        return Ok(Vec::new());
    }
    let row = |hidden| probability(wide(Row { hidden, gap }));
    let out: Vec<f32> = if hidden.len() < PARALLEL {
        hidden.chunks_exact(gap.len()).map(row).collect()
    } else {
        hidden.par_chunks_exact(gap.len()).with_min_len((PARALLEL / gap.len()).max(1)).map(row).collect()
    };
    defined(out)
}

fn defined(out: Vec<f32>) -> Result<Vec<f32>> {
    match out.iter().position(|p| p.is_nan()) {
        None => Ok(out),
        Some(row) => {
            let expected = "finite numbers, with a finite difference of logits";
            Err(Error::Undefined { what: "hidden", row, expected })
        }
    }
}

pub(crate) fn on_gpu(gpu: &Gpu, hidden: &[f32], gap: &[f32]) -> Result<Vec<f32>> {
    if hidden.is_empty() {
        return Ok(Vec::new());
    }
    let n_cols = gap.len();
    gpu.fits("row of hidden", n_cols.saturating_mul(4), MAX_ROW_BYTES)?;
    let rows = (CHUNK_BYTES / 4 / n_cols).min(65_535 * GROUP_ROWS);
    let mut out = Vec::with_capacity(hidden.len() / n_cols);
    let passes = hidden.chunks(rows * n_cols).map(|hidden| {
        let n_rows = hidden.len() / n_cols;
        Pass {
            params: [n_rows as u32, n_cols as u32, 0, 0, 0, 0, 0, 0],
            inputs: vec![bytemuck::cast_slice(hidden).into(), bytemuck::cast_slice(gap).into()],
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
