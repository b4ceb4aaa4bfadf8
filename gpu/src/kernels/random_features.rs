//! Random features max(0, Vᵀx), whose weights are made where they are used and never stored; and inner products of rows.
//!
//! The weights are [`normals`](super::normal::normals) by feature and coordinate: the same bits on every device, which only sums
//! differently.

use rayon::prelude::*;

use super::normal::{TABLE, WORDS, halves, of_word, philox};
use super::vector::{has_most_registers, reduce, wide};
use crate::error::{Error, Result, matrix};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source = Source { name: "random_features", wgsl: include_str!("random_features.wgsl"), entry: "main" };
const GRAM: Source = Source { name: "gram", wgsl: include_str!("gram.wgsl"), entry: "main" };

/// Features side by side.
const LANES: usize = 16;
/// Panels of lanes that a thread takes together.
const PANELS: usize = 4;
/// Rows that share what is loaded of the weights.
const ROWS: usize = 6;
/// Coordinates whose weights are made together, so many that those of two panels stay in the first cache; a multiple of a counter's words.
const DEPTH: usize = 256;
/// Features and rows of a workgroup.
const GROUP_FEATURES: usize = 64;
const GROUP_ROWS: usize = 8;
/// Columns a dispatch sums: llvmpipe ends an invocation's loops after 65,535 iterations.
const SLICE: usize = 2048;
/// Elements summed in f32 before the sum moves into f64.
const BLOCK: usize = 64 * LANES;

/// Rows to make features of.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    x: &'a [f32],
    n_cols: usize,
    key: u64,
    n_features: usize,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(x: &'a [f32], n_cols: usize, key: u64, n_features: usize) -> Result<Self> {
        check(x, n_cols)?;
        if u32::try_from(n_features).is_err() {
            return Err(Error::Range {
                what: "n_features".to_owned(),
                expected: format!("at most {}", u32::MAX),
                got: n_features.to_string(),
            });
        }
        Ok(Self { x, n_cols, key, n_features })
    }

    fn n_rows(&self) -> usize {
        self.x.len().checked_div(self.n_cols).unwrap_or(0)
    }
}

/// Whether rows are whole and finite.
pub(crate) fn check(x: &[f32], n_cols: usize) -> Result<()> {
    matrix("x", x.len().checked_div(n_cols).unwrap_or(0), n_cols, x.len())?;
    match x.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Undefined { what: "x", row: at / n_cols, expected: "finite numbers" }),
    }
}

/// Refuses sums that overflowed.
fn defined(out: Vec<f32>, n_cols: usize) -> Result<Vec<f32>> {
    match out.iter().position(|sum| !sum.is_finite()) {
        None => Ok(out),
        Some(at) => Err(Error::Undefined { what: "x", row: at / n_cols, expected: "numbers with finite sums" }),
    }
}

/// Rows in tiles, the numbers of one coordinate side by side, filled up with zeros; the coordinates of a block of all tiles before those of
/// the next, so that they are read in one stretch: `[blocks][tiles][coordinates][ROWS]`.
fn tiles(ask: Ask<'_>) -> Vec<f32> {
    let n_tiles = ask.n_rows().div_ceil(ROWS);
    let mut out = vec![0.0; n_tiles * ROWS * ask.n_cols];
    for (nth, row) in ask.x.chunks_exact(ask.n_cols).enumerate() {
        for (block, x) in row.chunks(DEPTH).enumerate() {
            let tile = &mut out[(block * DEPTH * n_tiles + nth / ROWS * x.len()) * ROWS..];
            for (col, x) in x.iter().enumerate() {
                tile[col * ROWS + nth % ROWS] = *x;
            }
        }
    }
    out
}

/// Some coordinates of `PANELS · LANES` features of all tiles. The sums of `TOGETHER` panels are kept in registers at once, as many as
/// the processor has room for; each sum is one chain whatever that is, so that its bits are the same.
struct Part<'a, const TOGETHER: usize> {
    tiles: &'a [f32],
    n_cols: usize,
    key: [u32; 2],
    table: &'a [u32],
    /// The first feature.
    first: u32,
    /// `[tiles][PANELS][ROWS][LANES]`.
    sums: &'a mut [[[[f32; LANES]; ROWS]; PANELS]],
    /// `[PANELS][DEPTH][LANES]`.
    weights: &'a mut [[f32; LANES]],
}

impl<const TOGETHER: usize> Part<'_, TOGETHER> {
    /// Makes the weights of some coordinates.
    #[inline(always)]
    fn make(&mut self, start: usize, depth: usize) {
        for panel in 0..PANELS {
            let first = self.first.wrapping_add((panel * LANES) as u32);
            let of_panel = &mut self.weights[panel * DEPTH..][..depth];
            for (nth, weights) in of_panel.chunks_mut(WORDS).enumerate() {
                let words = philox::<LANES>(self.key, first, (start / WORDS + nth) as u32);
                for (weights, words) in weights.iter_mut().zip(&words) {
                    for (weight, word) in weights.iter_mut().zip(words) {
                        *weight = of_word(*word, self.table);
                    }
                }
            }
        }
    }
}

impl<const TOGETHER: usize> pulp::NullaryFnOnce for Part<'_, TOGETHER> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let mut start = 0;
        while start < self.n_cols {
            let depth = DEPTH.min(self.n_cols - start);
            self.make(start, depth);
            for first in (0..PANELS).step_by(TOGETHER) {
                let weights: [&[[f32; LANES]]; TOGETHER] =
                    std::array::from_fn(|panel| &self.weights[(first + panel) * DEPTH..][..depth]);
                let block = &self.tiles[start * ROWS * self.sums.len()..];
                for (tile, sums) in block.chunks_exact(ROWS * depth).zip(&mut *self.sums) {
                    let (rows, _) = tile.as_chunks::<ROWS>();
                    let (groups, _) = sums.as_chunks_mut::<TOGETHER>();
                    let mut held = groups[first / TOGETHER];
                    for (col, x) in rows.iter().enumerate() {
                        for panel in 0..TOGETHER {
                            let weights = weights[panel][col];
                            for row in 0..ROWS {
                                for lane in 0..LANES {
                                    held[panel][row][lane] = x[row].mul_add(weights[lane], held[panel][row][lane]);
                                }
                            }
                        }
                    }
                    groups[first / TOGETHER] = held;
                }
            }
            start += depth;
        }
    }
}

pub(crate) fn on_cpu(ask: Ask<'_>) -> Result<Vec<f32>> {
    let (n_rows, width) = (ask.n_rows(), PANELS * LANES);
    if n_rows == 0 || ask.n_features == 0 {
        return Ok(Vec::new());
    }
    let (tiles, table) = (tiles(ask), TABLE.as_slice());
    let part = |nth: usize| {
        let mut sums = vec![[[[0.0; LANES]; ROWS]; PANELS]; n_rows.div_ceil(ROWS)];
        let mut weights = vec![[0.0; LANES]; PANELS * DEPTH];
        let (tiles, first) = (tiles.as_slice(), (nth * width) as u32);
        let key = halves(ask.key);
        let (n_cols, held, weights) = (ask.n_cols, &mut sums, &mut weights);
        if has_most_registers() {
            wide(Part::<2> { tiles, n_cols, key, table, first, sums: held, weights });
        } else {
            wide(Part::<1> { tiles, n_cols, key, table, first, sums: held, weights });
        }
        sums
    };
    let parts: Vec<_> = (0..ask.n_features.div_ceil(width)).into_par_iter().map(part).collect();
    let mut out = vec![0.0; n_rows * ask.n_features];
    out.par_chunks_mut(ask.n_features).enumerate().for_each(|(row, out)| {
        for (to, part) in out.chunks_mut(width).zip(&parts) {
            let panels = &part[row / ROWS];
            for (to, panel) in to.chunks_mut(LANES).zip(panels) {
                for (to, sum) in to.iter_mut().zip(&panel[row % ROWS]) {
                    *to = if *sum < 0.0 { 0.0 } else { *sum };
                }
            }
        }
    });
    defined(out, ask.n_features)
}

pub(crate) fn on_gpu(gpu: &Gpu, ask: Ask<'_>) -> Result<Vec<f32>> {
    let n_rows = ask.n_rows();
    if n_rows == 0 || ask.n_features == 0 {
        return Ok(Vec::new());
    }
    let rows = n_rows.min(CHUNK_BYTES / 4 / SLICE);
    let features = ask.n_features.min(CHUNK_BYTES / 4 / rows);
    let [k0, k1] = halves(ask.key);
    // Slices of columns are added up here.
    let mut pieces = Vec::new();
    for row in (0..n_rows).step_by(rows) {
        for feature in (0..ask.n_features).step_by(features) {
            for col in (0..ask.n_cols).step_by(SLICE) {
                let feature = feature..ask.n_features.min(feature + features);
                pieces.push((row..n_rows.min(row + rows), feature, col..ask.n_cols.min(col + SLICE)));
            }
        }
    }
    let passes = pieces.iter().map(|(rows, features, cols)| {
        let x = rows.clone().flat_map(|row| &ask.x[row * ask.n_cols..][cols.clone()]);
        let x: Vec<f32> = x.copied().collect();
        let (n_rows, n_features) = (rows.len(), features.len());
        let n_wide = n_features.div_ceil(GROUP_FEATURES);
        let sizes = [n_rows, cols.len(), n_features, features.start].map(|n| n as u32);
        let [tall, deep, many, first] = sizes;
        let block = (cols.start / WORDS) as u32;
        Pass {
            params: [tall, deep, many, first, k0, k1, n_wide as u32, block],
            inputs: vec![bytemuck::cast_slice(&x).to_vec().into(), bytemuck::cast_slice(TABLE.as_slice()).into()],
            output_bytes: n_rows * n_features * 4,
            n_groups: (n_wide * n_rows.div_ceil(GROUP_ROWS)) as u32,
        }
    });
    let mut out = vec![0.0; n_rows * ask.n_features];
    gpu.run(&SOURCE, passes, |pass, bytes| {
        let (rows, features, _) = &pieces[pass];
        let values: &[f32] = bytemuck::cast_slice(bytes);
        for (row, values) in rows.clone().zip(values.chunks_exact(features.len())) {
            let sums = &mut out[row * ask.n_features..][features.clone()];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    })?;
    out.iter_mut().filter(|sum| **sum < 0.0).for_each(|sum| *sum = 0.0);
    defined(out, ask.n_features)
}

/// Inner products of some rows with some others, over a short block of columns, by lane.
struct Products<'a, const SIDE: usize> {
    rows: [&'a [f32]; SIDE],
    others: [&'a [f32]; SIDE],
    /// Written whole, so that the sums over lanes, taken elsewhere, do not shape this loop.
    out: &'a mut [[[f32; LANES]; SIDE]; SIDE],
}

impl<const SIDE: usize> pulp::NullaryFnOnce for Products<'_, SIDE> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut held = [[[0.0_f32; LANES]; SIDE]; SIDE];
        let (rows, others) = (self.rows.map(<[f32]>::as_chunks::<LANES>), self.others.map(<[f32]>::as_chunks::<LANES>));
        let n_chunks = rows[0].0.len();
        let (whole, whole_others) = (rows.map(|row| &row.0[..n_chunks]), others.map(|row| &row.0[..n_chunks]));
        for at in 0..n_chunks {
            for (row, held) in whole.iter().zip(&mut held) {
                for (other, held) in whole_others.iter().zip(held) {
                    for lane in 0..LANES {
                        held[lane] = row[at][lane].mul_add(other[at][lane], held[lane]);
                    }
                }
            }
        }
        for (row, held) in rows.iter().zip(&mut held) {
            for (other, held) in others.iter().zip(held) {
                for ((lane, a), b) in held.iter_mut().zip(row.1).zip(other.1) {
                    *lane = a.mul_add(*b, *lane);
                }
            }
        }
        *self.out = held;
    }
}

/// Fills the other half of a symmetric matrix.
fn mirror(mut out: Vec<f32>, n: usize) -> Result<Vec<f32>> {
    for row in 0..n {
        for col in 0..row {
            out[col * n + row] = out[row * n + col];
        }
    }
    defined(out, n)
}

pub(crate) fn gram_on_cpu(x: &[f32], n_cols: usize) -> Result<Vec<f32>> {
    check(x, n_cols)?;
    let n = x.len().checked_div(n_cols).unwrap_or(0);
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut out = vec![0.0; n * n];
    if has_most_registers() {
        products::<4>(x, n_cols, &mut out);
    } else {
        products::<2>(x, n_cols, &mut out);
    }
    mirror(out, n)
}

/// Fills the lower half of the Gram matrix `[n, n]` of the rows of `x`.
fn products<const SIDE: usize>(x: &[f32], n_cols: usize, out: &mut [f32]) {
    let n = x.len() / n_cols;
    // Past the last row it is taken again, and what comes of it is dropped.
    let some = |first: usize, start: usize| -> [&[f32]; SIDE] {
        std::array::from_fn(|nth| &x[(first + nth).min(n - 1) * n_cols..][start..n_cols.min(start + BLOCK)])
    };
    out.par_chunks_mut(n * SIDE).enumerate().for_each(|(nth, out)| {
        let first = nth * SIDE;
        for other in (0..n.min(first + SIDE)).step_by(SIDE) {
            let mut sums = [[0.0_f64; SIDE]; SIDE];
            for start in (0..n_cols).step_by(BLOCK) {
                let mut lanes = [[[0.0; LANES]; SIDE]; SIDE];
                wide(Products { rows: some(first, start), others: some(other, start), out: &mut lanes });
                for (sum, lanes) in sums.as_flattened_mut().iter_mut().zip(lanes.as_flattened()) {
                    *sum += f64::from(reduce(*lanes, |a, b| a + b));
                }
            }
            for (out, sums) in out.chunks_exact_mut(n).zip(&sums) {
                out[other..].iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
            }
        }
    });
}

pub(crate) fn gram_on_gpu(gpu: &Gpu, x: &[f32], n_cols: usize) -> Result<Vec<f32>> {
    check(x, n_cols)?;
    let n = x.len().checked_div(n_cols).unwrap_or(0);
    if n == 0 {
        return Ok(Vec::new());
    }
    // Sums over slices of columns, as many as fit into a chunk, are added up here.
    gpu.fits("column of x", n.saturating_mul(4), CHUNK_BYTES)?;
    gpu.fits("Gram matrix", n.saturating_mul(n).saturating_mul(4), 16 * CHUNK_BYTES)?;
    let cols = (CHUNK_BYTES / 4 / n).clamp(1, BLOCK);
    let n_wide = n.div_ceil(8);
    let passes = (0..n_cols).step_by(cols).map(|start| {
        let end = n_cols.min(start + cols);
        let slice: Vec<f32> = x.chunks_exact(n_cols).flat_map(|row| &row[start..end]).copied().collect();
        Pass {
            params: [n as u32, (end - start) as u32, n_wide as u32, 0, 0, 0, 0, 0],
            inputs: vec![bytemuck::cast_slice(&slice).to_vec().into()],
            output_bytes: n * n * 4,
            n_groups: (n_wide * n_wide) as u32,
        }
    });
    let mut sums = vec![0.0_f64; n * n];
    gpu.run(&GRAM, passes, |_, bytes| {
        let values: &[f32] = bytemuck::cast_slice(bytes);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        Ok(())
    })?;
    mirror(sums.into_iter().map(|sum| sum as f32).collect(), n)
}
