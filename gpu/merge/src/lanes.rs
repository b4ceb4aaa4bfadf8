//! Loops over chunks of numbers, compiled for the widest vectors the machine has. Nothing is reordered, and fused only
//! where it says so, so the bits do not depend on the machine.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]
#![allow(clippy::extra_unused_type_parameters, reason = "`with_simd` compiles the function once for each `S`")]

use half::f16;
use macerator::{Simd, with_simd};

/// A type of weights that can be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    pub(crate) fn of(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(Self::F32),
            safetensors::Dtype::F16 => Some(Self::F16),
            safetensors::Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn n_bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The bits of the smallest magnitude that this type cannot hold: what rounds to infinity.
    pub(crate) fn limit(self) -> u32 {
        match self {
            Self::F32 => 0x7f80_0000,
            Self::F16 => 0x477f_f000,
            Self::Bf16 => 0x7f7f_8000,
        }
    }

    /// Numbers of little-endian bytes. Tells whether all are finite.
    pub(crate) fn widen(self, bytes: &[u8], out: &mut Vec<f32>) -> bool {
        out.resize(bytes.len() / self.n_bytes(), 0.0);
        self.widen_to(bytes, out)
    }

    /// As [`Float::widen`], to as many numbers as there are.
    pub(crate) fn widen_to(self, bytes: &[u8], out: &mut [f32]) -> bool {
        match self {
            Self::F32 => widen_f32(bytes, out),
            Self::F16 => widen_f16(bytes, out),
            Self::Bf16 => widen_bf16(bytes, out),
        }
    }

    /// Little-endian bytes of numbers, rounded to nearest even. Tells whether the type can hold all of them; what is written for
    /// others means nothing.
    pub(crate) fn narrow(self, values: &[f32], out: &mut [u8]) -> bool {
        let worst = match self {
            Self::F32 => narrow_f32(values, out),
            Self::F16 => narrow_f16(values, out),
            Self::Bf16 => narrow_bf16(values, out),
        };
        worst < self.limit()
    }
}

#[with_simd]
fn widen_f32<S: Simd>(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut worst = 0;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let bits = u32::from_le_bytes(*bytes);
        worst = worst.max(bits & 0x7fff_ffff);
        *out = f32::from_bits(bits);
    }
    worst < 0x7f80_0000
}

fn widen_f16(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut worst = 0;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        let half = f16::from_le_bytes(*bytes);
        worst = worst.max(half.to_bits() & 0x7fff);
        *out = half.to_f32();
    }
    worst < 0x7c00
}

#[with_simd]
fn widen_bf16<S: Simd>(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut worst = 0;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        let bits = u32::from(u16::from_le_bytes(*bytes)) << 16;
        worst = worst.max(bits & 0x7fff_ffff);
        *out = f32::from_bits(bits);
    }
    worst < 0x7f80_0000
}

/// The bits of the largest magnitude, as for the types below.
#[with_simd]
fn narrow_f32<S: Simd>(values: &[f32], out: &mut [u8]) -> u32 {
    let mut worst = 0;
    for (out, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        worst = worst.max(value.to_bits() & 0x7fff_ffff);
        *out = value.to_le_bytes();
    }
    worst
}

fn narrow_f16(values: &[f32], out: &mut [u8]) -> u32 {
    let mut worst = 0;
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        worst = worst.max(value.to_bits() & 0x7fff_ffff);
        *out = f16::from_f32(*value).to_le_bytes();
    }
    worst
}

#[with_simd]
fn narrow_bf16<S: Simd>(values: &[f32], out: &mut [u8]) -> u32 {
    let mut worst = 0;
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        let bits = value.to_bits();
        worst = worst.max(bits & 0x7fff_ffff);
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        *out = (rounded as u16).to_le_bytes();
    }
    worst
}

/// `out = x · weight + 0`, fused, as the first of a sum from +0: a product of −0 becomes +0.
#[with_simd]
pub(crate) fn scale<S: Simd>(out: &mut [f32], x: &[f32], weight: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = x.mul_add(weight, 0.0);
    }
}

/// `sum += x · weight`, fused: rounded once.
#[with_simd]
pub(crate) fn add_scaled<S: Simd>(sum: &mut [f32], x: &[f32], weight: f32) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum = x.mul_add(weight, *sum);
    }
}

/// `x /= divisor`.
#[with_simd]
pub(crate) fn divide<S: Simd>(x: &mut [f32], divisor: f32) {
    for x in x {
        *x /= divisor;
    }
}

/// `out = a · x + b · y`.
#[with_simd]
pub(crate) fn combine<S: Simd>(out: &mut [f32], a: f32, x: &[f32], b: f32, y: &[f32]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = a * x + b * y;
    }
}

/// `out = x − y`.
#[with_simd]
pub(crate) fn difference<S: Simd>(out: &mut [f32], x: &[f32], y: &[f32]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = x - y;
    }
}

/// Lanes that sums run in; they are added at the end, so the bits do not depend on the machine's vectors.
const LANES: usize = 16;

/// Sums of x², y² and x · y, in f64.
#[with_simd]
pub(crate) fn moments<S: Simd>(x: &[f32], y: &[f32]) -> [f64; 3] {
    let mut lanes = [[0.0_f64; LANES]; 3];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            let (x, y) = (f64::from(x[i]), f64::from(y[i]));
            lanes[0][i] += x * x;
            lanes[1][i] += y * y;
            lanes[2][i] += x * y;
        }
    }
    for (i, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        let (x, y) = (f64::from(*x), f64::from(*y));
        lanes[0][i] += x * x;
        lanes[1][i] += y * y;
        lanes[2][i] += x * y;
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Sum of x · y, in f64.
#[with_simd]
pub(crate) fn dot<S: Simd>(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    for (i, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        lanes[i] += f64::from(*x) * f64::from(*y);
    }
    lanes.iter().sum()
}

/// Sum of |x|, in f64.
#[with_simd]
pub(crate) fn norm<S: Simd>(x: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for x in xs {
        for i in 0..LANES {
            lanes[i] += f64::from(x[i].abs());
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(x.abs());
    }
    lanes.iter().sum()
}

/// `sum += x · factor`, in f64.
#[with_simd]
pub(crate) fn add_wide<S: Simd>(sum: &mut [f64], x: &[f32], factor: f64) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += f64::from(*x) * factor;
    }
}

/// Adds `x · factor` to `mixed` and `weight` to `divisor` where the term is not zero and has the sign of `all` (whose zero
/// counts as positive).
#[with_simd]
pub(crate) fn add_elected<S: Simd>(
    mixed: &mut [f64],
    divisor: &mut [f64],
    all: &[f64],
    x: &[f32],
    factor: f64,
    weight: f64,
) {
    for (((mixed, divisor), all), x) in mixed.iter_mut().zip(divisor).zip(all).zip(x) {
        let term = f64::from(*x) * factor;
        let agrees = if *all >= 0.0 { term > 0.0 } else { term < 0.0 };
        *mixed += if agrees { term } else { 0.0 };
        *divisor += if agrees { weight } else { 0.0 };
    }
}

/// `mixed /= divisor`, where a divisor of zero counts as one.
#[with_simd]
pub(crate) fn divide_wide<S: Simd>(mixed: &mut [f64], divisor: &[f64]) {
    for (mixed, divisor) in mixed.iter_mut().zip(divisor) {
        *mixed /= if *divisor == 0.0 { 1.0 } else { *divisor };
    }
}

/// `out = base + lambda · mixed`, rounded once.
#[with_simd]
pub(crate) fn add_to_base<S: Simd>(out: &mut [f32], base: &[f32], mixed: &[f64], lambda: f64) {
    for ((out, base), mixed) in out.iter_mut().zip(base).zip(mixed) {
        *out = (f64::from(*base) + lambda * mixed) as f32;
    }
}

/// Rounds to f32.
#[with_simd]
pub(crate) fn round<S: Simd>(out: &mut [f32], x: &[f64]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = *x as f32;
    }
}

/// Sets numbers whose magnitude's bits are below `least` or above `most` to zero. Tells whether one lies at either end.
#[with_simd]
pub(crate) fn keep_between<S: Simd>(x: &mut [f32], least: u32, most: u32) -> bool {
    let mut is_at = 0;
    for x in x {
        let bits = x.to_bits() & 0x7fff_ffff;
        is_at |= u32::from(bits == least) | u32::from(bits == most);
        *x = if bits < least || bits > most { 0.0 } else { *x };
    }
    is_at != 0
}

/// Whether a half (from bit `shift`) of a word is `half`.
#[with_simd]
pub(crate) fn has_half<S: Simd>(words: &[u32], shift: u32, half: u32) -> bool {
    let mut any = 0;
    for word in words {
        any |= u32::from((word >> shift) & 0xffff == half);
    }
    any != 0
}

/// Sets numbers for which the half (from bit `shift`) of their word is not below `below` to zero.
#[with_simd]
pub(crate) fn keep_halves<S: Simd>(x: &mut [f32], words: &[u32], shift: u32, below: u32) {
    for (x, word) in x.iter_mut().zip(words) {
        *x = if (word >> shift) & 0xffff < below { *x } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_number_survives_and_rounding_is_to_nearest_even() {
        for float in [Float::F16, Float::Bf16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let (mut wide, mut back) = (Vec::new(), vec![0; bytes.len()]);
            float.widen(&bytes, &mut wide);
            float.narrow(&wide, &mut back);
            for (i, (a, b)) in bytes.chunks(2).zip(back.chunks(2)).enumerate() {
                assert!(a == b || wide[i].is_nan(), "{float:?} {i:04x}");
            }
        }
        let mut out = [0; 4];
        // Halfway between two neighbours: the even one.
        Float::Bf16.narrow(&[f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000)], &mut out);
        assert_eq!(out, [0x80, 0x3f, 0x82, 0x3f]);
    }

    #[test]
    fn what_a_type_cannot_hold_is_seen_anywhere() {
        let mut x = vec![1.0_f32; 1000];
        let (mut bytes, mut back) = (vec![0; 4000], Vec::new());
        for float in [Float::F32, Float::F16, Float::Bf16] {
            let n_bytes = 1000 * float.n_bytes();
            assert!(float.narrow(&x, &mut bytes[..n_bytes]));
            assert!(float.widen(&bytes[..n_bytes], &mut back));
            let least = f32::from_bits(float.limit());
            for (at, bad) in [(0, f32::NAN), (500, f32::INFINITY), (999, -least)] {
                x[at] = bad;
                assert!(!float.narrow(&x, &mut bytes[..n_bytes]), "{float:?} {at}");
                x[at] = 1.0;
            }
            for (at, bad) in [(0, f32::NAN), (500, f32::INFINITY), (999, f32::NEG_INFINITY)] {
                x[at] = bad;
                float.narrow(&x, &mut bytes[..n_bytes]);
                if bad.is_nan() && float == Float::Bf16 {
                    bytes[..2].copy_from_slice(&0x7fc0_u16.to_le_bytes());
                }
                assert!(!float.widen(&bytes[..n_bytes], &mut back), "{float:?} {at}");
                x[at] = 1.0;
            }
            if float != Float::F32 {
                for (value, holds) in [(least, false), (f32::from_bits(float.limit() - 1), true)] {
                    assert_eq!(float.narrow(&[value], &mut bytes[..2]), holds);
                    assert_eq!(float.widen(&bytes[..2], &mut back), holds, "{float:?} {value}");
                }
            }
        }
    }
}
