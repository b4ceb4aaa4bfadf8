//! Matrix products whose every element is one chain of fused multiply-adds in index order.
//!
//! Invariant: `out[r][j]` depends on row `r` of the left factor and column `j` of the right one alone: neither the
//! number of rows nor the blocking nor the machine's vector width changes its bits. General libraries pick their order
//! of summation by shape, which is why there is none here.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]

use std::ops::Range;

use macerator::{Scalar, Simd, VFma, Vector, with_simd};

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// Vectors a tile is wide.
const WIDE: usize = 2;

/// Terms added in one pass, so that a panel and a block stay in the second-level cache.
const DEPTH: usize = 512;

/// A right factor `[k, n]` as panels of [`PANEL`] columns, the last one filled up with zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panels {
    k: usize,
    n: usize,
    data: Vec<f32>,
}

impl Panels {
    /// Packs `[n, k]`, row-major, transposed: a linear map's weights, to be multiplied by its inputs.
    pub(crate) fn transposed(k: usize, n: usize, from: &[f32]) -> Self {
        let mut panels = Self::default();
        panels.set_transposed(k, n, from, k);
        panels
    }

    /// Packs rows of `[n, k]`, `stride` apart, transposed.
    pub(crate) fn set_transposed(&mut self, k: usize, n: usize, from: &[f32], stride: usize) {
        self.resize(k, n);
        for (panel, to) in self.data.chunks_exact_mut(k * PANEL).enumerate() {
            let columns = PANEL.min(n - panel * PANEL);
            for j in 0..columns {
                let row = &from[(panel * PANEL + j) * stride..][..k];
                for (to, value) in to[j..].iter_mut().step_by(PANEL).zip(row) {
                    *to = *value;
                }
            }
        }
    }

    /// Packs rows of `[k, n]`, `stride` apart.
    pub(crate) fn set(&mut self, k: usize, n: usize, from: &[f32], stride: usize) {
        self.resize(k, n);
        for (panel, to) in self.data.chunks_exact_mut(k * PANEL).enumerate() {
            let columns = PANEL.min(n - panel * PANEL);
            for (to, row) in to.chunks_exact_mut(PANEL).zip(from.chunks(stride)) {
                to[..columns].copy_from_slice(&row[panel * PANEL..][..columns]);
            }
        }
    }

    fn resize(&mut self, k: usize, n: usize) {
        (self.k, self.n) = (k, n);
        let len = k * n.next_multiple_of(PANEL);
        if self.data.len() != len || !n.is_multiple_of(PANEL) {
            self.data.clear();
            self.data.resize(len, 0.0);
        }
    }

    pub(crate) fn right(&self) -> Right<'_> {
        Right { data: &self.data, panel_stride: self.k * PANEL, row_stride: PANEL, k: self.k, n: self.n }
    }

    /// Some of the columns; the first is the first of a panel.
    pub(crate) fn columns(&self, range: &Range<usize>) -> Right<'_> {
        debug_assert!(range.start.is_multiple_of(PANEL));
        Right { data: &self.data[range.start * self.k..], n: range.len(), ..self.right() }
    }

    /// Some of the rows.
    pub(crate) fn rows(&self, range: &Range<usize>) -> Right<'_> {
        Right { data: &self.data[range.start * PANEL..], k: range.len(), ..self.right() }
    }
}

/// A left factor `[m, k]`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Row-major, rows this far apart.
    Rows(&'a [f32], usize),
    /// Its transpose `[k, m]`, row-major, rows this far apart.
    Columns(&'a [f32], usize),
}

/// A right factor `[k, n]`: element `(i, j)` is at `j / PANEL * panel_stride + i * row_stride + j % PANEL`, and whole
/// panels may be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) panel_stride: usize,
    pub(crate) row_stride: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// Where a product goes: `[m, n]`, rows `stride` apart; added to what is there, or in its place.
pub(crate) struct Out<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// Multiplies; `pack` is scratch.
#[with_simd]
pub(crate) fn multiply<'a, S: Simd>(m: usize, left: Left<'a>, right: Right<'a>, out: Out<'a>, pack: &mut Vec<f32>) {
    multiply_in::<S>(m, left, right, out, pack);
}

/// [`multiply`], inside a function that is compiled for `S`.
#[inline(always)]
pub(crate) fn multiply_in<S: Simd>(m: usize, left: Left<'_>, right: Right<'_>, out: Out<'_>, pack: &mut Vec<f32>) {
    // Taller tiles use the registers better, and waste rows when there are fewer.
    match (f32::lanes::<S>() >= 16, m) {
        (_, 0) => {}
        (_, 1) => blocks::<S, 1>(m, left, right, out, pack),
        (true, 2..=4) => blocks::<S, 4>(m, left, right, out, pack),
        (true, _) => blocks::<S, 8>(m, left, right, out, pack),
        (false, 2..=3) => blocks::<S, 3>(m, left, right, out, pack),
        (false, _) => blocks::<S, 6>(m, left, right, out, pack),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the output is lent to one product at a time")]
#[inline(always)]
fn blocks<S: Simd, const MR: usize>(m: usize, left: Left<'_>, right: Right<'_>, out: Out<'_>, pack: &mut Vec<f32>) {
    let width = f32::lanes::<S>() * WIDE;
    let mut depth = 0;
    while depth < right.k {
        let d = DEPTH.min(right.k - depth);
        let add = out.add || depth > 0;
        let packed = pack_left::<MR>(m, left, depth, d, pack);
        for panel in 0..right.n.div_ceil(PANEL) {
            let columns = PANEL.min(right.n - panel * PANEL);
            let b = &right.data[panel * right.panel_stride + depth * right.row_stride..];
            for (block, a) in packed.chunks_exact(d * MR).enumerate() {
                let rows = MR.min(m - block * MR);
                let mut at = 0;
                while at < columns {
                    let to = &mut out.data[block * MR * out.stride + panel * PANEL + at..];
                    let shape = Shape { rows, columns: width.min(columns - at), stride: out.stride, add };
                    tile::<S, MR>(a, b, right.row_stride, at, to, shape);
                    at += width;
                }
            }
        }
        depth += d;
    }
}

/// Columns `depth..depth + d` of the left factor as blocks of `MR` rows, each `[d, MR]`, filled up with zeros.
#[inline(always)]
fn pack_left<'a, const MR: usize>(
    m: usize,
    left: Left<'a>,
    depth: usize,
    d: usize,
    pack: &'a mut Vec<f32>,
) -> &'a [f32] {
    if let (Left::Rows(data, _), 1, 1) = (left, m, MR) {
        return &data[depth..depth + d];
    }
    let n_blocks = m.div_ceil(MR);
    pack.clear();
    pack.resize(n_blocks * MR * d, 0.0);
    for (block, to) in pack.chunks_exact_mut(MR * d).enumerate() {
        let rows = MR.min(m - block * MR);
        match left {
            Left::Rows(data, stride) => {
                for r in 0..rows {
                    let row = &data[(block * MR + r) * stride + depth..][..d];
                    for (to, value) in to[r..].iter_mut().step_by(MR).zip(row) {
                        *to = *value;
                    }
                }
            }
            Left::Columns(data, stride) => {
                for (i, to) in to.chunks_exact_mut(MR).enumerate() {
                    to[..rows].copy_from_slice(&data[(depth + i) * stride + block * MR..][..rows]);
                }
            }
        }
    }
    pack
}

/// The part of a tile that exists, and where its rows go.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    stride: usize,
    add: bool,
}

/// `MR` rows by `WIDE` vectors, held in registers while the terms are added.
#[inline(always)]
fn tile<S: Simd, const MR: usize>(a: &[f32], b: &[f32], b_stride: usize, at: usize, out: &mut [f32], shape: Shape) {
    let lanes = f32::lanes::<S>();
    let width = lanes * WIDE;
    let mut edge = [0.0f32; PANEL];
    let mut acc = [[0.0f32.splat::<S>(); WIDE]; MR];
    if shape.add {
        for (acc, row) in acc.iter_mut().zip(out.chunks(shape.stride)).take(shape.rows) {
            if shape.columns == width {
                *acc = read::<S>(row);
            } else {
                edge[..shape.columns].copy_from_slice(&row[..shape.columns]);
                *acc = read::<S>(&edge);
            }
        }
    }
    let (a, _) = a.as_chunks::<MR>();
    for (a, b) in a.iter().zip(b.chunks(b_stride)) {
        let b = read::<S>(&b[at..at + width]);
        for (acc, a) in acc.iter_mut().zip(a) {
            let a = a.splat::<S>();
            for (acc, b) in acc.iter_mut().zip(b) {
                *acc = f32::vfma(a, b, *acc);
            }
        }
    }
    for (acc, row) in acc.iter().zip(out.chunks_mut(shape.stride)).take(shape.rows) {
        if shape.columns == width {
            write::<S>(acc, row);
        } else {
            write::<S>(acc, &mut edge);
            row[..shape.columns].copy_from_slice(&edge[..shape.columns]);
        }
    }
}

#[inline(always)]
fn read<S: Simd>(from: &[f32]) -> [Vector<S, f32>; WIDE] {
    let lanes = f32::lanes::<S>();
    std::array::from_fn(|q| S::typed(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[q * lanes..][..lanes]))))
}

#[inline(always)]
fn write<S: Simd>(from: &[Vector<S, f32>; WIDE], to: &mut [f32]) {
    let lanes = f32::lanes::<S>();
    for (q, vector) in from.iter().enumerate() {
        to[q * lanes..][..lanes].copy_from_slice(bytemuck::cast_slice(bytemuck::bytes_of(&**vector)));
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// The definition: one chain of fused multiply-adds, in index order, from what is there.
    fn oracle(m: usize, k: usize, n: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
        for r in 0..m {
            for j in 0..n {
                out[r * n + j] = (0..k).fold(out[r * n + j], |sum, i| a[r * k + i].mul_add(b[i * n + j], sum));
            }
        }
    }

    #[test]
    fn products_have_the_bits_of_their_definition_in_every_shape() {
        let mut pack = Vec::new();
        for (m, k, n) in
            [(1, 1, 1), (1, 7, 33), (2, 5, 64), (3, 40, 31), (5, 600, 70), (9, 3, 16), (17, 1100, 40), (33, 64, 65)]
        {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let transpose = |rows: usize, columns: usize, from: &[f32]| -> Vec<f32> {
                (0..rows * columns).map(|at| from[at % rows * columns + at / rows]).collect()
            };
            let (at, bt) = (transpose(m, k, &a), transpose(k, n, &b));
            for add in [false, true] {
                let mut want = if add { random(m * n, 3) } else { vec![0.0; m * n] };
                let start = want.clone();
                oracle(m, k, n, &a, &b, &mut want);
                let mut rows = Panels::default();
                rows.set(k, n, &b, n);
                for right in [rows, Panels::transposed(k, n, &bt)] {
                    for left in [Left::Rows(&a, k), Left::Columns(&at, m)] {
                        let mut got = if add { start.clone() } else { vec![f32::NAN; m * n] };
                        multiply(m, left, right.right(), Out { data: &mut got, stride: n, add }, &mut pack);
                        assert_eq!(got, want, "{m} {k} {n} add {add} {left:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn products_with_parts_of_a_factor_are_parts_of_the_product() {
        let (m, k, n) = (5, 90, 140);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let mut panels = Panels::default();
        panels.set(k, n, &b, n);
        let mut whole = vec![0.0; m * n];
        oracle(m, k, n, &a, &b, &mut whole);
        let mut pack = Vec::new();
        let mut chained = vec![f32::NAN; m * n];
        for rows in [0..33, 33..34, 34..k] {
            let left = Left::Rows(&a[rows.start..], k);
            let to = Out { data: &mut chained, stride: n, add: rows.start > 0 };
            multiply(m, left, panels.rows(&rows), to, &mut pack);
        }
        assert_eq!(chained, whole);
        for columns in [0..64, 64..96, 96..n] {
            let mut part = vec![f32::NAN; m * columns.len()];
            let to = Out { data: &mut part, stride: columns.len(), add: false };
            multiply(m, Left::Rows(&a, k), panels.columns(&columns), to, &mut pack);
            for (part, whole) in part.chunks_exact(columns.len()).zip(whole.chunks_exact(n)) {
                assert_eq!(part, &whole[columns.clone()]);
            }
        }
    }

    #[test]
    fn repacking_into_a_used_buffer_leaves_nothing_behind() {
        let mut panels = Panels::default();
        panels.set(2, 40, &[9.0; 80], 40);
        panels.set(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3);
        let mut out = [0.0; 3];
        let left = Left::Rows(&[1.0, 10.0], 2);
        multiply(1, left, panels.right(), Out { data: &mut out, stride: 3, add: false }, &mut Vec::new());
        assert_eq!(out, [41.0, 52.0, 63.0]);
    }
}
