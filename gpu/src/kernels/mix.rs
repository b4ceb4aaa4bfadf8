//! Weighted sums of arrays that stay on a device, bit-equal on every device.
//!
//! The definition: from +0, one fused multiply-add in f32 an array, in their order. WGSL does not say whether a product is
//! fused into a sum, and lets a device flush denormals; so the shader computes in integers, where there is nothing to choose.
//! Where an infinity or NaN comes in it writes [`DEFERRED`], which no finite sum has, and the host computes that element.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::vector::wide;
use crate::error::{Error, Result, same_len};
use crate::gpu::{Block, CHUNK_BYTES, Gpu, Input, Pass, Source};

/// Elements of every array that the CPU reads at once, for all mixtures.
const CHUNK: usize = 1 << 14;
/// Elements in one dispatch, over all mixtures.
const DISPATCH: usize = CHUNK_BYTES / 4;
/// Invocations of a workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// Stands in a device's output for what the host is to compute.
const DEFERRED: u32 = 0x7fc0_ffff;

const SOURCE: Source = Source { name: "mix", wgsl: include_str!("mix.wgsl"), entry: "mix" };

/// A stretch of arrays, and how much of each goes into each mixture there.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Elements.
    pub at: Range<usize>,
    /// `[mixtures, arrays]`, finite.
    pub weights: Vec<Vec<f32>>,
}

/// Arrays of one length that stay on a device.
pub trait Held: Send + Sync {
    /// Weighted sums: `sum = fma(wᵢ, xᵢ, sum)` from +0, arrays in order, each step rounded once to f32. Returns
    /// `[mixtures, elements]`. Bit-equal on every device; the arrays cross to the device once, when they are held.
    ///
    /// `pieces` follow one another from the first element to the last, and all have the same number of mixtures.
    ///
    /// # Errors
    /// `Shape` for pieces that leave a gap or have other numbers of mixtures or arrays; `Range` for a weight that is not
    /// finite; `Device`.
    fn mix(&self, pieces: &[Piece]) -> Result<Vec<Vec<f32>>>;
}

pub(crate) type Arrays = Vec<Arc<Vec<f32>>>;

fn check_arrays(arrays: &Arrays) -> Result<usize> {
    let Some(first) = arrays.first() else {
        return Err(Error::Range {
            what: "arrays".to_owned(),
            expected: "at least one".to_owned(),
            got: "0".to_owned(),
        });
    };
    for other in arrays {
        same_len("arrays", first.len(), other.len())?;
    }
    Ok(first.len())
}

/// The number of mixtures.
fn check(len: usize, n_arrays: usize, pieces: &[Piece]) -> Result<usize> {
    let n_mixtures = pieces.first().map_or(0, |piece| piece.weights.len());
    let mut at = 0;
    for piece in pieces {
        same_len("start of a piece", at, piece.at.start)?;
        at = piece.at.end.max(at);
        same_len("mixtures of a piece", n_mixtures, piece.weights.len())?;
        for weights in &piece.weights {
            same_len("weights of a piece", n_arrays, weights.len())?;
            if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
                let what = format!("weights of {:?}", piece.at);
                return Err(Error::Range { what, expected: "finite numbers".to_owned(), got: weight.to_string() });
            }
        }
    }
    same_len("end of the pieces", len, at)?;
    Ok(n_mixtures)
}

/// `sum += x · weight`, fused.
struct AddScaled<'a> {
    sum: &'a mut [f32],
    x: &'a [f32],
    weight: f32,
}

impl pulp::NullaryFnOnce for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (sum, x) in self.sum.iter_mut().zip(self.x) {
            *sum = x.mul_add(self.weight, *sum);
        }
    }
}

/// Arrays in the host's memory.
pub(crate) struct OnCpu {
    arrays: Arrays,
    len: usize,
}

impl OnCpu {
    pub(crate) fn new(arrays: Arrays) -> Result<Self> {
        Ok(Self { len: check_arrays(&arrays)?, arrays })
    }
}

impl Held for OnCpu {
    fn mix(&self, pieces: &[Piece]) -> Result<Vec<Vec<f32>>> {
        let n_mixtures = check(self.len, self.arrays.len(), pieces)?;
        let mut mixed = vec![vec![0.0; self.len]; n_mixtures];
        for piece in pieces {
            let mut chunks: Vec<Vec<&mut [f32]>> = Vec::new();
            for out in &mut mixed {
                for (nth, chunk) in out[piece.at.clone()].chunks_mut(CHUNK).enumerate() {
                    if chunks.len() == nth {
                        chunks.push(Vec::with_capacity(n_mixtures));
                    }
                    chunks[nth].push(chunk);
                }
            }
            chunks.into_par_iter().enumerate().for_each(|(nth, outs)| {
                let start = piece.at.start + nth * CHUNK;
                for (sum, weights) in outs.into_iter().zip(&piece.weights) {
                    for (array, weight) in self.arrays.iter().zip(weights) {
                        let x = &array[start..start + sum.len()];
                        wide(AddScaled { sum, x, weight: *weight });
                    }
                }
            });
        }
        Ok(mixed)
    }
}

/// Arrays in a device's memory, in pages that it can bind: `[arrays, page_len]` each.
pub(crate) struct OnGpu {
    gpu: Arc<Gpu>,
    /// As the host has them, for elements it is left.
    arrays: Arrays,
    len: usize,
    page_len: usize,
    pages: Vec<Block>,
}

/// What one dispatch computes: `len` elements from `start` on, all in one page.
struct Stretch<'a> {
    piece: &'a Piece,
    start: usize,
    len: usize,
}

impl OnGpu {
    pub(crate) fn new(gpu: &Arc<Gpu>, arrays: Arrays) -> Result<Self> {
        let len = check_arrays(&arrays)?;
        let page_len = (gpu.max_binding_bytes() as usize / 4 / arrays.len()).min(len).max(1);
        let starts = (0..len).step_by(page_len);
        let pages = starts.map(|start| {
            let parts = arrays.iter().map(|array| bytemuck::cast_slice(&array[start..(start + page_len).min(len)]));
            gpu.hold(SOURCE.name, page_len * 4, &parts.collect::<Vec<&[u8]>>())
        });
        let pages = pages.collect::<Result<Vec<Block>>>()?;
        Ok(Self { gpu: gpu.clone(), arrays, len, page_len, pages })
    }

    fn stretches<'a>(&self, pieces: &'a [Piece], n_mixtures: usize) -> Vec<Stretch<'a>> {
        let most = (DISPATCH / n_mixtures.max(1)).max(1);
        let mut stretches = Vec::new();
        for piece in pieces {
            let mut start = piece.at.start;
            while start < piece.at.end {
                let page_end = (start / self.page_len + 1) * self.page_len;
                let end = piece.at.end.min(page_end).min(start + most);
                stretches.push(Stretch { piece, start, len: end - start });
                start = end;
            }
        }
        stretches
    }

    fn pass(&self, stretch: &Stretch<'_>) -> Pass<'_> {
        let Stretch { piece, start, len } = stretch;
        let total = len * piece.weights.len();
        let (page, offset) = (start / self.page_len, start % self.page_len);
        let params = [self.arrays.len(), self.page_len, offset, *len, total, 0, 0, 0].map(|x| x as u32);
        let weights: Vec<u8> = piece.weights.iter().flatten().flat_map(|weight| weight.to_ne_bytes()).collect();
        Pass {
            params,
            inputs: vec![Input::Held(&self.pages[page]), weights.into()],
            output_bytes: total * 4,
            n_groups: total.div_ceil(WORKGROUP) as u32,
        }
    }

    /// The definition, for one element.
    fn element(&self, at: usize, weights: &[f32]) -> f32 {
        self.arrays.iter().zip(weights).fold(0.0, |sum, (array, weight)| array[at].mul_add(*weight, sum))
    }
}

impl Held for OnGpu {
    fn mix(&self, pieces: &[Piece]) -> Result<Vec<Vec<f32>>> {
        let n_mixtures = check(self.len, self.arrays.len(), pieces)?;
        let mut mixed = vec![vec![0.0_f32; self.len]; n_mixtures];
        if n_mixtures == 0 {
            return Ok(mixed);
        }
        let stretches = self.stretches(pieces, n_mixtures);
        self.gpu.run(&SOURCE, stretches.iter().map(|stretch| self.pass(stretch)), |pass_idx, bytes| {
            let Stretch { piece, start, len } = stretches[pass_idx];
            let parts = bytes.chunks_exact(4 * len).zip(&mut mixed).zip(&piece.weights);
            for ((bytes, out), weights) in parts {
                let out = &mut out[start..start + len];
                bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes);
                // One vectorised look first: nearly always nothing was deferred.
                if out.iter().fold(false, |any, y| any | (y.to_bits() == DEFERRED)) {
                    for (at, y) in (start..).zip(out).filter(|(_, y)| y.to_bits() == DEFERRED) {
                        *y = self.element(at, weights);
                    }
                }
            }
            Ok(())
        })?;
        Ok(mixed)
    }
}
