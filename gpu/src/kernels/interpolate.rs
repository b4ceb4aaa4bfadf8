//! Weighted sums of two arrays, bit-equal on every device.
//!
//! The definition: two products and a sum, each rounded to f32, then once to the output type; NaN has one bit pattern.
//! A graphics driver may break it in two ways. It may fuse a product into the sum: the shader hides the products from it
//! behind an exclusive or with a zero it cannot see. It may flush denormals: wherever an operand, a product or the sum
//! could be one, the shader writes [`Element::DEFERRED`] instead, a NaN the definition never yields, and those few
//! elements are computed here. What neither covers, the start-up self-test refuses.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::vector::wide;
use crate::error::{Error, Result, same_len};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

/// Elements a thread takes at once; below this one thread does it all.
const PARALLEL: usize = 1 << 16;

const WGSL: &str = include_str!("interpolate.wgsl");

/// A number type of weights on disk.
pub(crate) trait Element: Copy + Send + Sync {
    /// Stands in a device's output for what the host is to compute.
    const DEFERRED: Self;
    const SOURCE: Source;

    fn to_f32(self) -> f32;
    /// Rounds to nearest even; any NaN becomes the one of the definition.
    fn narrow(value: f32) -> Self;
    fn is_deferred(self) -> bool;
    fn bytes(array: &[Self]) -> &[u8];
    /// Copies `bytes`, a device's output, into an array no longer than they are.
    fn fill(array: &mut [Self], bytes: &[u8]);
}

impl Element for f32 {
    const DEFERRED: Self = Self::from_bits(0x7fc0_ffff);
    const SOURCE: Source = Source { name: "interpolate_f32", wgsl: WGSL, entry: "interpolate_f32" };

    fn to_f32(self) -> f32 {
        self
    }

    fn narrow(value: f32) -> Self {
        if value.is_nan() { Self::from_bits(0x7fc0_0000) } else { value }
    }

    fn is_deferred(self) -> bool {
        self.to_bits() == Self::DEFERRED.to_bits()
    }

    fn bytes(array: &[Self]) -> &[u8] {
        bytemuck::cast_slice(array)
    }

    fn fill(array: &mut [Self], bytes: &[u8]) {
        let target: &mut [u8] = bytemuck::cast_slice_mut(array);
        target.copy_from_slice(&bytes[..target.len()]);
    }
}

impl Element for bf16 {
    const DEFERRED: Self = Self::from_bits(0x7fc1);
    const SOURCE: Source = Source { name: "interpolate_bf16", wgsl: WGSL, entry: "interpolate_bf16" };

    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        Self::from_bits(if value.is_nan() { 0x7fc0 } else { rounded as u16 })
    }

    fn is_deferred(self) -> bool {
        self.to_bits() == Self::DEFERRED.to_bits()
    }

    fn bytes(array: &[Self]) -> &[u8] {
        bytemuck::cast_slice(array.reinterpret_cast())
    }

    fn fill(array: &mut [Self], bytes: &[u8]) {
        let target: &mut [u8] = bytemuck::cast_slice_mut(array.reinterpret_cast_mut());
        target.copy_from_slice(&bytes[..target.len()]);
    }
}

pub(crate) fn check<T>(weights: [f32; 2], x: [&[T]; 2], out: &[T]) -> Result<()> {
    same_len("x[1]", x[0].len(), x[1].len())?;
    same_len("out", x[0].len(), out.len())?;
    for (i, weight) in weights.into_iter().enumerate() {
        if weight != 0.0 && !weight.is_normal() {
            return Err(Error::Range {
                what: format!("weights[{i}]"),
                expected: "zero or a normal number".to_owned(),
                got: weight.to_string(),
            });
        }
    }
    Ok(())
}

/// The definition.
#[inline(always)]
fn weigh<T: Element>([w0, w1]: [f32; 2], x0: T, x1: T) -> T {
    T::narrow(w0 * x0.to_f32() + w1 * x1.to_f32())
}

/// A stretch of parents and output.
struct Stretch<'a, T> {
    weights: [f32; 2],
    x0: &'a [T],
    x1: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> pulp::NullaryFnOnce for Stretch<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((out, &x0), &x1) in self.out.iter_mut().zip(self.x0).zip(self.x1) {
            *out = weigh(self.weights, x0, x1);
        }
    }
}

pub(crate) fn on_cpu<T: Element>(weights: [f32; 2], [x0, x1]: [&[T]; 2], out: &mut [T]) {
    if out.len() <= PARALLEL {
        wide(Stretch { weights, x0, x1, out });
    } else {
        out.par_chunks_mut(PARALLEL)
            .zip(x0.par_chunks(PARALLEL))
            .zip(x1.par_chunks(PARALLEL))
            .for_each(|((out, x0), x1)| wide(Stretch { weights, x0, x1, out }));
    }
}

/// Elements in one dispatch.
const fn chunk_len<T>() -> usize {
    CHUNK_BYTES / size_of::<T>()
}

fn passes<T: Element>(weights: [f32; 2], [x0, x1]: [&[T]; 2]) -> impl Iterator<Item = Pass<'_>> {
    x0.chunks(chunk_len::<T>()).zip(x1.chunks(chunk_len::<T>())).map(move |(x0, x1)| {
        let words = T::bytes(x0).len().div_ceil(4);
        Pass {
            params: [weights[0].to_bits(), weights[1].to_bits(), 0, words.div_ceil(4) as u32, 0, 0, 0, 0],
            inputs: vec![whole_words(T::bytes(x0)), whole_words(T::bytes(x1))],
            output_bytes: words * 4,
            n_groups: words.div_ceil(4 * 64) as u32,
        }
    })
}

pub(crate) fn on_gpu<T: Element>(gpu: &Gpu, weights: [f32; 2], [x0, x1]: [&[T]; 2], out: &mut [T]) -> Result<()> {
    gpu.run(&T::SOURCE, passes(weights, [x0, x1]), |pass_idx, bytes| {
        let start = pass_idx * chunk_len::<T>();
        let end = (start + chunk_len::<T>()).min(out.len());
        let out = &mut out[start..end];
        T::fill(out, bytes);
        // one vectorised look first: nearly always nothing was deferred
        if out.iter().fold(false, |any, y| any | y.is_deferred()) {
            for ((y, &x0), &x1) in out.iter_mut().zip(&x0[start..end]).zip(&x1[start..end]) {
                if y.is_deferred() {
                    *y = weigh(weights, x0, x1);
                }
            }
        }
        Ok(())
    })
}

/// `bytes`, filled up to a multiple of four.
fn whole_words(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if bytes.len().is_multiple_of(4) {
        return bytes.into();
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;

    fn flush(x: f32) -> f32 {
        if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
    }

    fn keep(x: f32) -> f32 {
        x
    }

    /// What the shader writes on a device that treats denormals by `flush` wherever it reads or writes one.
    fn shader(flush: fn(f32) -> f32, [w0, w1]: [f32; 2], x0: f32, x1: f32) -> f32 {
        let tiny = |x: f32| x.to_bits() & 0x7fff_ffff < 0x0080_0000;
        let p0 = flush(flush(w0) * flush(x0));
        let p1 = flush(flush(w1) * flush(x1));
        let y = flush(p0 + p1);
        let lost = |w: f32, x: f32, p: f32| w != 0.0 && x.to_bits() & 0x7fff_ffff != 0 && tiny(p);
        let cancelled =
            tiny(y) && p0.to_bits() != p1.to_bits() ^ 0x8000_0000 && (p0.to_bits() | p1.to_bits()) & 0x7fff_ffff != 0;
        if lost(w0, x0, p0) || lost(w1, x1, p1) || cancelled { f32::DEFERRED } else { f32::narrow(y) }
    }

    fn small() -> impl Strategy<Value = f32> {
        // exponents around the denormal border, any mantissa, and exact zeros
        prop_oneof![
            4 => (any::<bool>(), 0_u32..40, 0_u32..1 << 23).prop_map(|(negative, exponent, mantissa)| {
                f32::from_bits(u32::from(negative) << 31 | exponent << 23 | mantissa)
            }),
            1 => Just(0.0),
            1 => any::<u32>().prop_map(f32::from_bits),
        ]
    }

    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -2.0_f32..2.0,
            1 => Just(0.0),
            1 => Just(1.0),
            1 => any::<u32>().prop_map(f32::from_bits),
        ]
        .prop_filter("zero or normal", |w| *w == 0.0 || w.is_normal())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_device_that_flushes_denormals_defers_whatever_it_would_get_wrong(
            w0 in weight(), w1 in weight(), x0 in small(), x1 in small(), equal in any::<bool>(),
        ) {
            let (w1, x1) = if equal { (-w0, x0) } else { (w1, x1) };
            let got = shader(flush, [w0, w1], x0, x1);
            if !got.is_deferred() {
                let want = weigh([w0, w1], x0, x1);
                prop_assert_eq!(got.to_bits(), want.to_bits(), "{}·{} + {}·{}", w0, x0, w1, x1);
            }
        }

        #[test]
        fn rounding_to_bf16_is_that_of_the_half_crate(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            let want = if x.is_nan() { 0x7fc0 } else { bf16::from_f32(x).to_bits() };
            prop_assert_eq!(<bf16 as Element>::narrow(x).to_bits(), want);
            prop_assert!(!<bf16 as Element>::narrow(x).is_deferred());
            prop_assert!(!<f32 as Element>::narrow(x).is_deferred());
        }
    }

    #[test]
    fn ordinary_weights_are_not_deferred() {
        for (x0, x1) in [(0.02, -0.01), (0.0, 0.0), (-0.0, 0.0), (0.5, 0.0), (1e-20, -1e-20)] {
            for weights in [[0.3, 0.7], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]] {
                assert!(!shader(flush, weights, x0, x1).is_deferred(), "{weights:?} {x0} {x1}");
            }
        }
    }

    /// Ties the model above to the shader itself, on whatever adapters there are.
    #[test]
    #[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
    fn the_shader_defers_exactly_where_the_model_does() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut small = || -> Vec<f32> {
            let strategy = proptest::collection::vec(small(), 1 << 14);
            strategy.new_tree(&mut runner).expect("values are drawn").current()
        };
        let (x0, mut x1) = (small(), small());
        x1[..1000].copy_from_slice(&x0[..1000]);
        let found = crate::gpu::adapters();
        if found.is_empty() {
            eprintln!("SKIP wgpu: no adapter on this machine");
        }
        for (adapter, handle) in found {
            let gpu = Gpu::open(adapter.id(), &handle).expect("an adapter opens");
            for weights in [[0.3, 0.7], [1.0, -1.0], [0.6, -0.6], [1.0, 0.0], [1e30, -1e-20]] {
                let mut raw = vec![0.0_f32; x0.len()];
                gpu.run(&f32::SOURCE, passes(weights, [&x0, &x1]), |_, bytes| {
                    f32::fill(&mut raw, bytes);
                    Ok(())
                })
                .expect("the shader runs");
                let n_deferred = raw.iter().filter(|y| y.is_deferred()).count();
                assert!(n_deferred > 100 && n_deferred < raw.len(), "{n_deferred} of {}", raw.len());
                let writes = |flush: fn(f32) -> f32| {
                    (0..raw.len()).all(|i| raw[i].to_bits() == shader(flush, weights, x0[i], x1[i]).to_bits())
                };
                assert!(writes(keep) || writes(flush), "{weights:?} on {adapter}");
            }
        }
    }
}
