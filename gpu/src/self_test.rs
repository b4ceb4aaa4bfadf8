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

fn compare<T: Copy + std::fmt::Display>(
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
            "{dtype} interpolation {w0}·{} + {w1}·{} (first of {n_differing} differences in {})",
            x0[first],
            x1[first],
            want.len()
        ),
        expected: format!("{} ({:#x})", want[first], bits(want[first])),
        got: format!("{} ({:#x})", got[first], bits(got[first])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_passes_its_own_test() {
        assert_eq!(bit_equal(&Cpu), Ok(()));
    }
}
