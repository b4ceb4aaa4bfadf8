//! Log-softmax and the choice of a label, without storing the softmax.
//!
//! Rows are shifted by their maximum, so no exponential overflows. Sums run in short blocks: their error does not grow
//! with the vocabulary.

use rayon::prelude::*;

use super::vector::{exp_nonpositive, greater, reduce, wide};
use crate::error::{Error, Result, matrix};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source =
    Source { name: "log_softmax_gather", wgsl: include_str!("log_softmax_gather.wgsl"), entry: "main" };

/// Partial sums kept at once: two vectors, since each exponential is a long chain.
const LANES: usize = 16;
/// Elements summed in f32 before the sum moves into f64.
const BLOCK: usize = 64 * LANES;
/// Elements below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 15;
/// A dispatch has at most this many workgroups, one a row.
const MAX_GROUPS: usize = 65_535;

pub(crate) fn check(logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<()> {
    matrix("logits", labels.len(), n_cols, logits.len())?;
    match labels.iter().position(|&label| label as usize >= n_cols) {
        None => Ok(()),
        Some(row) => Err(Error::Range {
            what: format!("labels[{row}]"),
            expected: format!("less than {n_cols}"),
            got: labels[row].to_string(),
        }),
    }
}

fn undefined(row: usize) -> Error {
    Error::Undefined { what: "logits", row, expected: "no NaN, no +inf and at least one finite value" }
}

/// One row and its label.
struct Row<'a> {
    logits: &'a [f32],
    label: usize,
}

impl pulp::NullaryFnOnce for Row<'_> {
    /// The result; NaN where it is undefined.
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let (max, has_nan) = max_and_nan(self.logits);
        if has_nan || !max.is_finite() {
            return f32::NAN;
        }
        let mut sum = 0.0_f64;
        for block in self.logits.chunks(BLOCK) {
            let mut lanes = [0.0_f32; LANES];
            let (whole, rest) = block.as_chunks::<LANES>();
            for x in whole {
                for (lane, x) in lanes.iter_mut().zip(x) {
                    *lane += exp_nonpositive(x - max);
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                *lane += exp_nonpositive(x - max);
            }
            sum += f64::from(reduce(lanes, |a, b| a + b));
        }
        (f64::from(self.logits[self.label]) - f64::from(max) - sum.ln()) as f32
    }
}

#[inline(always)]
fn max_and_nan(row: &[f32]) -> (f32, bool) {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [0_u32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut take = |x: &[f32]| {
        for ((max, nan), &x) in max.iter_mut().zip(&mut nan).zip(x) {
            *max = greater(*max, x);
            *nan |= u32::from(x.is_nan());
        }
    };
    for x in whole {
        take(x);
    }
    take(rest);
    (reduce(max, greater), nan.into_iter().any(|nan| nan != 0))
}

pub(crate) fn on_cpu(logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<Vec<f32>> {
    if labels.is_empty() {
        return Ok(Vec::new());
    }
    let row = |(logits, &label): (_, &u32)| wide(Row { logits, label: label as usize });
    let out: Vec<f32> = if logits.len() < PARALLEL {
        logits.chunks(n_cols).zip(labels).map(row).collect()
    } else {
        logits.par_chunks(n_cols).zip(labels).with_min_len((PARALLEL / n_cols).max(1)).map(row).collect()
    };
    defined(out)
}

fn defined(out: Vec<f32>) -> Result<Vec<f32>> {
    match out.iter().position(|x| x.is_nan()) {
        None => Ok(out),
        Some(row) => Err(undefined(row)),
    }
}

pub(crate) fn on_gpu(gpu: &Gpu, logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<Vec<f32>> {
    if labels.is_empty() {
        return Ok(Vec::new());
    }
    gpu.fits("row of logits", n_cols.saturating_mul(4), CHUNK_BYTES)?;
    let rows = (CHUNK_BYTES / 4 / n_cols).min(MAX_GROUPS);
    let mut out = Vec::with_capacity(labels.len());
    let passes = logits.chunks(rows * n_cols).zip(labels.chunks(rows)).map(|(logits, labels)| Pass {
        params: [n_cols as u32, 0, 0, 0, 0, 0, 0, 0],
        inputs: vec![bytemuck::cast_slice(logits).into(), bytemuck::cast_slice(labels).into()],
        output_bytes: size_of_val(labels),
        n_groups: labels.len() as u32,
    });
    gpu.run(&SOURCE, passes, |_, bytes| {
        out.extend_from_slice(bytemuck::cast_slice(bytes));
        Ok(())
    })?;
    defined(out)
}
