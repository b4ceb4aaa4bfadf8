//! The start-up test of an adapter: does it compute bit-equal kernels as the CPU does?
//!
//! WGSL lets a driver fuse a multiplication with an addition, flush denormals and assume that infinities do not occur.
//! The kernel guards against all three; whether the guard holds can only be seen on the adapter itself.

use half::bf16;

use crate::error::{Error, Result};
use crate::kernels::{Cpu, Kernels};

const N_VALUES: usize = 64 * 1024;

/// Pairs of mixing weights: an inner point, an extrapolation, both ends.
const WEIGHTS: [[f32; 2]; 4] = [[0.3, 0.7], [1.7, -0.7], [1.0, 0.0], [0.0, 1.0]];

const SPECIALS: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1e-40,
    -1e-45,
    1.2e-38,
    3e38,
    f32::EPSILON,
];

/// Two arrays: every pair of specials, then weights of the usual size, then arbitrary bit patterns.
fn samples() -> [Vec<f32>; 2] {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        // xorshift64: the values only have to be varied and the same every time
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    let mut usual = |i: usize| {
        let bits = next();
        if i < N_VALUES / 2 { (bits as f32 / u32::MAX as f32 - 0.5) * 0.1 } else { f32::from_bits(bits) }
    };
    let mut x0: Vec<f32> = (0..N_VALUES).map(&mut usual).collect();
    let mut x1: Vec<f32> = (0..N_VALUES).map(&mut usual).collect();
    for (i, a) in SPECIALS.iter().enumerate() {
        for (j, b) in SPECIALS.iter().enumerate() {
            x0[i * SPECIALS.len() + j] = *a;
            x1[i * SPECIALS.len() + j] = *b;
        }
    }
    [x0, x1]
}

/// Compares the bit-equal kernels with the CPU over 64 Ki values.
///
/// # Errors
/// `Range` naming the first difference, or whatever the kernel itself reports.
pub(crate) fn bit_equal(kernels: &dyn Kernels) -> Result<()> {
    let [x0, x1] = samples();
    let [b0, b1] = [&x0, &x1].map(|x| -> Vec<bf16> { x.iter().copied().map(bf16::from_f32).collect() });
    for weights in WEIGHTS {
        let (mut want, mut got) = (vec![0.0; N_VALUES], vec![0.0; N_VALUES]);
        Cpu.interpolate_f32(weights, [&x0, &x1], &mut want)?;
        kernels.interpolate_f32(weights, [&x0, &x1], &mut got)?;
        compare("f32", weights, &x0, &x1, &want, &got, f32::to_bits)?;
        let (mut want, mut got) = (vec![bf16::ZERO; N_VALUES], vec![bf16::ZERO; N_VALUES]);
        Cpu.interpolate_bf16(weights, [&b0, &b1], &mut want)?;
        kernels.interpolate_bf16(weights, [&b0, &b1], &mut got)?;
        compare("bf16", weights, &b0, &b1, &want, &got, |v| v.to_bits().into())?;
    }
    Ok(())
}

fn compare<T: Copy + std::fmt::Debug>(
    dtype: &str,
    [w0, w1]: [f32; 2],
    x0: &[T],
    x1: &[T],
    want: &[T],
    got: &[T],
    bits: impl Fn(T) -> u32,
) -> Result<()> {
    let differs = |i: &usize| bits(want[*i]) != bits(got[*i]);
    let Some(first) = (0..want.len()).find(differs) else {
        return Ok(());
    };
    let n_differing = (first..want.len()).filter(differs).count();
    Err(Error::Range {
        what: format!(
            "{dtype} interpolation {w0}·{:?} + {w1}·{:?} (first of {n_differing} differences in {})",
            x0[first],
            x1[first],
            want.len()
        ),
        expected: format!("{:?} ({:#x})", want[first], bits(want[first])),
        got: format!("{:?} ({:#x})", got[first], bits(got[first])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Program, Tables};

    /// A device that computes weighted sums in its own way, and nothing else.
    struct Deviant(fn([f32; 2], f32, f32) -> f32);

    impl Kernels for Deviant {
        fn interpolate_f32(&self, weights: [f32; 2], [x0, x1]: [&[f32]; 2], out: &mut [f32]) -> Result<()> {
            Cpu.interpolate_f32(weights, [x0, x1], out)?;
            for (i, out) in out.iter_mut().enumerate().filter(|(_, out)| !out.is_nan()) {
                *out = self.0(weights, x0[i], x1[i]);
            }
            Ok(())
        }

        fn interpolate_bf16(&self, weights: [f32; 2], x: [&[bf16]; 2], out: &mut [bf16]) -> Result<()> {
            Cpu.interpolate_bf16(weights, x, out)
        }

        fn log_softmax_gather(&self, _: &[f32], _: usize, _: &[u32]) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn log_mean_exp(&self, _: &[f32], _: usize, _: f32) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn truth_tables(&self, _: &[Program], _: usize) -> Result<Tables> {
            unreachable!("not tested at start-up")
        }
    }

    fn verdict(compute: fn([f32; 2], f32, f32) -> f32) -> String {
        bit_equal(&Deviant(compute)).map_or_else(|error| error.to_string(), |()| "passed".to_owned())
    }

    #[test]
    fn the_cpu_passes_and_so_does_what_computes_alike() {
        assert_eq!(bit_equal(&Cpu), Ok(()));
        assert_eq!(verdict(|[w0, w1], x0, x1| w1 * x1 + w0 * x0), "passed");
    }

    #[test]
    fn a_device_that_fuses_a_product_into_the_sum_fails() {
        let text = verdict(|[w0, w1], x0, x1| w0.mul_add(x0, w1 * x1));
        assert!(text.starts_with("`f32 interpolation 0.3·"), "{text}");
    }

    #[test]
    fn a_device_that_flushes_denormals_fails() {
        let text = verdict(|[w0, w1], x0, x1| {
            let y = w0 * x0 + w1 * x1;
            if y.is_subnormal() { 0.0 } else { y }
        });
        assert!(text.contains("differences in 65536"), "{text}");
    }

    #[test]
    fn a_device_that_assumes_there_are_no_infinities_fails() {
        let text = verdict(|[w0, w1], x0, x1| (w0 * x0 + w1 * x1).clamp(f32::MIN, f32::MAX));
        assert!(text.contains("expected inf (0x7f800000), got `3.4028235e38 (0x7f7fffff)`"), "{text}");
    }

    #[test]
    fn a_device_that_answers_zeros_fails() {
        assert!(verdict(|_, _, _| 0.0).contains("got `0.0 (0x0)`"));
    }
}
