//! What the CPU loops share: vector instructions chosen at run time, sums over lanes, and an exponential that is
//! branch-free, so that loops over it vectorise, and the same on every machine, which the C library's is not.

use std::f32::consts::LOG2_E;

/// Below this the exponential is taken at this point; it is under `f32::MIN_POSITIVE · 1.5` there.
const FLOOR: f32 = -87.0;
/// Adding and taking away 1.5 · 2²³ rounds to an integer, to nearest even, and leaves it in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few bits that its products with the exponents are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Does a loop compiled for the widest vector instructions this processor has. They change no result: Rust never fuses or
/// reorders floating-point operations on its own.
///
/// The loop and what it calls are to be `inline(always)`: only what ends up inside profits. That is why it is a type with
/// a method and not a closure, which cannot be so marked.
#[inline(always)]
pub(super) fn wide<L: pulp::NullaryFnOnce>(work: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v4) = pulp::x86::V4::try_new() {
            return pulp::Simd::vectorize(v4, work);
        }
        if let Some(v3) = pulp::x86::V3::try_new() {
            return pulp::Simd::vectorize(v3, work);
        }
    }
    work.call()
}

/// Whether [`wide`] compiles for 32 registers of 16 numbers.
pub(super) fn has_most_registers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return pulp::x86::V4::try_new().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Folds lanes in halves, in an order that does not depend on the processor.
#[inline(always)]
pub(super) fn reduce<const N: usize>(mut lanes: [f32; N], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = N;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = f(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// The lesser of two numbers; not for NaN.
#[inline(always)]
pub(super) fn lesser(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// The greater of two numbers; not for NaN.
#[inline(always)]
pub(super) fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `2ᵏ` and `exp(r) − 1` such that `exp(t) = 2ᵏ · exp(r)`, |r| ≤ ½ ln 2, for −87 ≤ t ≤ 88.
#[inline(always)]
fn split(t: f32) -> (f32, f32) {
    let shifted = t * LOG2_E + ROUNDER;
    let k = shifted - ROUNDER;
    let r = (t - k * LN2_HIGH) - k * LN2_LOW;
    // Taylor to the seventh power: the rest is below 2⁻²⁵ of the whole.
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        p = p * r + coefficient;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits());
    let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
    (scale, p * r)
}

/// `exp(t)` for t ≤ 0, within 2 ulp; 1.6e-38 for t < −87, −∞ included.
#[inline(always)]
pub(super) fn exp_nonpositive(t: f32) -> f32 {
    let (scale, m1) = split(if t > FLOOR { t } else { FLOOR });
    scale + scale * m1
}

/// `exp(t)` as in [`exp_nonpositive`], and `exp(t) − 1` for t ≤ 0 within 4 ulp of itself, however small t is.
#[inline(always)]
pub(super) fn exp_and_m1(t: f32) -> (f32, f32) {
    let (scale, m1) = split(if t > FLOOR { t } else { FLOOR });
    (scale + scale * m1, scale * m1 + (scale - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of `want`.
    fn ulps(got: f32, want: f64) -> f64 {
        let nearest = want.abs() as f32;
        let ulp = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(got) - want).abs() / ulp
    }

    #[test]
    fn exponentials_are_within_their_ulps_of_f64() {
        let (mut worst, mut worst_m1) = (0.0_f64, 0.0_f64);
        for i in 0..2_000_000_u32 {
            let t = -(i as f32) * (87.0 / 2_000_000.0);
            let (exp, m1) = exp_and_m1(t);
            assert_eq!(exp.to_bits(), exp_nonpositive(t).to_bits());
            worst = worst.max(ulps(exp, f64::from(t).exp()));
            worst_m1 = worst_m1.max(ulps(m1, f64::from(t).exp_m1()));
        }
        assert!(worst <= 2.0, "exp is {worst} ulp off");
        assert!(worst_m1 <= 4.0, "exp − 1 is {worst_m1} ulp off");
    }

    #[test]
    fn tiny_arguments_keep_their_precision() {
        for exponent in 1..120 {
            let t = -(0.5_f32.powi(exponent));
            let (_, m1) = exp_and_m1(t);
            assert!(ulps(m1, f64::from(t).exp_m1()) <= 4.0, "at {t}");
        }
    }

    #[test]
    fn far_arguments_vanish() {
        for t in [-88.0, -1e9, f32::MIN, f32::NEG_INFINITY] {
            assert!(exp_nonpositive(t) < 2e-38);
        }
        assert_eq!(exp_nonpositive(0.0).to_bits(), 1.0_f32.to_bits());
    }
}
