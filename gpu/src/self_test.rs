//! The start-up test of an adapter: does it compute bit-equal kernels as the CPU does?
//!
//! Weighted sums are computed in integers, which leaves a driver nothing to choose; whether its compiler is right can only
//! be seen on the adapter itself.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernels::mix::Piece;
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

/// Compares weighted sums with the CPU's over 64 Ki values.
///
/// # Errors
/// `Range` naming the first difference, or whatever the kernel itself reports.
pub(crate) fn bit_equal(kernels: &dyn Kernels) -> Result<()> {
    let arrays: Vec<Arc<Vec<f32>>> = samples().into_iter().map(Arc::new).collect();
    let pieces = [Piece { at: 0..N_VALUES, weights: WEIGHTS.map(Vec::from).to_vec() }];
    let want = Cpu.hold(arrays.clone())?.mix(&pieces)?;
    let got = kernels.hold(arrays.clone())?.mix(&pieces)?;
    for (([w0, w1], want), got) in WEIGHTS.iter().zip(&want).zip(&got) {
        let differs = |i: &usize| want[*i].to_bits() != got[*i].to_bits();
        let Some(first) = (0..N_VALUES).find(differs) else { continue };
        let n_differing = (first..N_VALUES).filter(differs).count();
        let (x0, x1) = (arrays[0][first], arrays[1][first]);
        return Err(Error::Range {
            what: format!("{w0}·{x0:?} + {w1}·{x1:?} (first of {n_differing} differences in {N_VALUES})"),
            expected: format!("{:?} ({:#x})", want[first], want[first].to_bits()),
            got: format!("{:?} ({:#x})", got[first], got[first].to_bits()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Best, Held, Program, Tables};

    /// A device that computes weighted sums of two arrays in its own way, and nothing else.
    struct Deviant(fn([f32; 2], f32, f32) -> f32);

    struct DeviantHeld {
        compute: fn([f32; 2], f32, f32) -> f32,
        arrays: Vec<Arc<Vec<f32>>>,
    }

    impl Held for DeviantHeld {
        fn mix(&self, pieces: &[Piece]) -> Result<Vec<Vec<f32>>> {
            let mut mixed = Cpu.hold(self.arrays.clone())?.mix(pieces)?;
            for (out, weights) in mixed.iter_mut().zip(&pieces[0].weights) {
                for (i, out) in out.iter_mut().enumerate().filter(|(_, out)| !out.is_nan()) {
                    *out = (self.compute)([weights[0], weights[1]], self.arrays[0][i], self.arrays[1][i]);
                }
            }
            Ok(mixed)
        }
    }

    impl Kernels for Deviant {
        fn hold(&self, arrays: Vec<Arc<Vec<f32>>>) -> Result<Box<dyn Held>> {
            Ok(Box::new(DeviantHeld { compute: self.0, arrays }))
        }

        fn log_softmax_gather(&self, _: &[f32], _: usize, _: &[u32]) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn log_mean_exp(&self, _: &[f32], _: usize, _: f32) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn direction_argmax(&self, _: &[f32], _: usize, _: &[u32], _: &[f32]) -> Result<Vec<Best>> {
            unreachable!("not tested at start-up")
        }

        fn two_token(&self, _: &[f32], _: usize, _: [&[f32]; 2]) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn random_features(&self, _: &[f32], _: usize, _: u64, _: usize) -> Result<Vec<f32>> {
            unreachable!("not bit-equal")
        }

        fn gram(&self, _: &[f32], _: usize) -> Result<Vec<f32>> {
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
        assert_eq!(verdict(|[w0, w1], x0, x1| x1.mul_add(w1, x0.mul_add(w0, 0.0))), "passed");
    }

    #[test]
    fn a_device_that_rounds_the_product_before_the_sum_fails() {
        let text = verdict(|[w0, w1], x0, x1| w0 * x0 + w1 * x1);
        assert!(text.starts_with("`0.3·"), "{text}");
    }

    #[test]
    fn a_device_that_flushes_denormals_fails() {
        let text = verdict(|[w0, w1], x0, x1| {
            let y = x1.mul_add(w1, w0 * x0);
            if y.is_subnormal() { 0.0 } else { y }
        });
        assert!(text.contains("differences in 65536"), "{text}");
    }

    #[test]
    fn a_device_that_assumes_there_are_no_infinities_fails() {
        let text = verdict(|[w0, w1], x0, x1| x1.mul_add(w1, w0 * x0).clamp(f32::MIN, f32::MAX));
        assert!(text.contains("expected inf (0x7f800000), got `3.4028235e38 (0x7f7fffff)`"), "{text}");
    }

    #[test]
    fn a_device_that_answers_zeros_fails() {
        assert!(verdict(|_, _, _| 0.0).contains("got `0.0 (0x0)`"));
    }
}
