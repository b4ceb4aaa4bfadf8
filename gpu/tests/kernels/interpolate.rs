//! Weighted sums, bit for bit, against the definition.

use super::*;

/// The definition, by way of the half crate rather than our own rounding.
fn naive([w0, w1]: [f32; 2], x0: f32, x1: f32) -> f32 {
    let y = w0 * x0 + w1 * x1;
    if y.is_nan() { f32::from_bits(0x7fc0_0000) } else { y }
}

fn check(weights: [f32; 2], x0: &[f32], x1: &[f32]) {
    let [b0, b1] = [x0, x1].map(|x| -> Vec<bf16> { x.iter().copied().map(bf16::from_f32).collect() });
    on_every_device(|kernels, device| {
        let mut got = vec![-1.0; x0.len()];
        kernels.interpolate_f32(weights, [x0, x1], &mut got).unwrap();
        for i in 0..x0.len() {
            let want = naive(weights, x0[i], x1[i]);
            assert_eq!(
                got[i].to_bits(),
                want.to_bits(),
                "f32 {weights:?} of {}, {} at {i} on {device}: expected {want}, got {}",
                x0[i],
                x1[i],
                got[i]
            );
        }
        let mut got = vec![bf16::from_f32(-1.0); x0.len()];
        kernels.interpolate_bf16(weights, [&b0, &b1], &mut got).unwrap();
        for i in 0..x0.len() {
            let want = bf16::from_f32(naive(weights, b0[i].to_f32(), b1[i].to_f32()));
            assert_eq!(
                got[i].to_bits(),
                want.to_bits(),
                "bf16 {weights:?} of {}, {} at {i} on {device}: expected {want}, got {}",
                b0[i],
                b1[i],
                got[i]
            );
        }
    });
}

const SPECIALS: [f32; 20] = [
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
    1e-45,
    -1e-45,
    1e-40,
    -1.1e-38,
    1.3e-38,
    3e38,
    f32::EPSILON,
    65504.0,
    0.1,
];

#[test]
fn every_pair_of_specials_is_bit_equal_to_the_definition() {
    let x0: Vec<f32> = SPECIALS.iter().flat_map(|&x| [x; 20]).collect();
    let x1 = SPECIALS.repeat(20);
    let weights = [0.0, -0.0, 1.0, 0.3, 0.7, -0.7, 1.7, 1e30, 1e-30, f32::MAX, f32::MIN_POSITIVE];
    for w0 in weights {
        for w1 in weights {
            check([w0, w1], &x0, &x1);
        }
    }
}

#[test]
fn every_length_around_a_vector_and_a_workgroup_is_bit_equal() {
    let mut rng = rng(8);
    for n in (0..20).chain([255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 65_537]) {
        let (x0, x1) = (uniform(&mut rng, n, -0.1, 0.1), uniform(&mut rng, n, -0.1, 0.1));
        check([0.3, 0.7], &x0, &x1);
    }
}

#[test]
fn arrays_of_many_chunks_are_bit_equal() {
    let mut rng = rng(9);
    let n = 5 * (1 << 20) + 3;
    let (mut x0, x1) = (uniform(&mut rng, n, -0.1, 0.1), uniform(&mut rng, n, -0.1, 0.1));
    // a denormal in the third chunk: deferred to the host on every adapter
    x0[2_500_000] = 1e-40;
    check([0.37, 0.63], &x0, &x1);
}

#[test]
fn every_bf16_pattern_is_bit_equal() {
    let x0: Vec<f32> = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32()).collect();
    let mut x1 = x0.clone();
    x1.rotate_left(12_345);
    for weights in [[0.3, 0.7], [1.0, 0.0], [0.5, 0.5], [1.5, -0.5]] {
        check(weights, &x0, &x1);
    }
}

#[test]
fn either_end_returns_that_parent() {
    let x0 = uniform(&mut rng(10), 1000, -1.0, 1.0);
    let x1 = uniform(&mut rng(11), 1000, -1.0, 1.0);
    on_every_device(|kernels, _| {
        let mut out = vec![0.0; 1000];
        kernels.interpolate_f32([1.0, 0.0], [&x0, &x1], &mut out).unwrap();
        assert_eq!(out, x0);
        kernels.interpolate_f32([0.0, 1.0], [&x0, &x1], &mut out).unwrap();
        assert_eq!(out, x1);
    });
}

#[test]
fn unequal_lengths_and_weights_that_are_not_normal_are_refused() {
    on_every_device(|kernels, _| {
        let text = |outcome: Result<(), Error>| outcome.unwrap_err().to_string();
        let mut out = [0.0; 2];
        let [two, three] = [&[0.0; 2][..], &[0.0; 3][..]];
        assert_eq!(
            text(kernels.interpolate_f32([0.5, 0.5], [two, three], &mut out)),
            "`x[1]`: expected 2 elements, got 3"
        );
        assert_eq!(
            text(kernels.interpolate_f32([0.5, 0.5], [three, three], &mut out)),
            "`out`: expected 3 elements, got 2"
        );
        for bad in [f32::NAN, f32::INFINITY, 1e-40] {
            assert_eq!(
                text(kernels.interpolate_f32([0.5, bad], [two, two], &mut out)),
                format!("`weights[1]`: expected zero or a normal number, got `{bad}`")
            );
        }
        let mut none: [bf16; 0] = [];
        assert_eq!(kernels.interpolate_bf16([0.5, 0.5], [&[], &[]], &mut none), Ok(()));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn arbitrary_bits_are_bit_equal(seed: u64, n in 1_usize..3000, w0 in -3.0_f32..3.0, w1 in -3.0_f32..3.0) {
        let mut rng = rng(seed);
        let mut bits = || -> Vec<f32> { (0..n).map(|_| f32::from_bits(rng.random())).collect() };
        check([w0, w1], &bits(), &bits());
    }
}
