//! Weighted sums, bit for bit, against the definition.

use super::*;

/// The definition.
fn naive(weights: &[f32], x: impl Iterator<Item = f32>) -> f32 {
    x.zip(weights).fold(0.0, |sum, (x, weight)| x.mul_add(*weight, sum))
}

/// NaN is NaN, whatever its bits.
fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

fn check(arrays: &[Vec<f32>], pieces: &[Piece]) {
    let held: Vec<Arc<Vec<f32>>> = arrays.iter().cloned().map(Arc::new).collect();
    on_every_device(|kernels, device| {
        let mixed = kernels.hold(held.clone()).unwrap().mix(pieces).unwrap();
        for piece in pieces {
            for (weights, got) in piece.weights.iter().zip(&mixed) {
                for i in piece.at.clone() {
                    let want = naive(weights, arrays.iter().map(|array| array[i]));
                    let x: Vec<f32> = arrays.iter().map(|array| array[i]).collect();
                    assert_eq!(
                        bits(got[i]),
                        bits(want),
                        "{weights:?} of {x:?} at {i} on {device}: expected {want:e}, got {:e}",
                        got[i]
                    );
                }
            }
        }
    });
}

fn whole(arrays: &[Vec<f32>], weights: &[Vec<f32>]) {
    check(arrays, &[Piece { at: 0..arrays[0].len(), weights: weights.to_vec() }]);
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
    let arrays = [SPECIALS.iter().flat_map(|&x| [x; 20]).collect(), SPECIALS.repeat(20)];
    let weights: Vec<f32> = SPECIALS.into_iter().chain([0.3, 0.7, -0.7, 1.7, 1e30, 1e-30]).collect();
    let weights: Vec<f32> = weights.into_iter().filter(|weight| weight.is_finite()).collect();
    let pairs: Vec<Vec<f32>> = weights.iter().flat_map(|a| weights.iter().map(move |b| vec![*a, *b])).collect();
    whole(&arrays, &pairs);
}

/// Sums that cancel to all but their last places, and those that fall on and beside the middle of two numbers.
#[test]
fn near_cancellation_and_ties_are_rounded_as_the_definition_rounds() {
    let mut rng = rng(8);
    let mut near = |range: std::ops::Range<i32>| -> f32 {
        let mantissa: u32 =
            if rng.random() { rng.random() } else { rng.random::<u32>() & rng.random::<u32>() & rng.random::<u32>() };
        let exponent = rng.random_range(range) as u32;
        f32::from_bits(u32::from(rng.random::<bool>()) << 31 | exponent << 23 | mantissa & 0x7f_ffff)
    };
    // w1 · x1 + w0 · x0, where the second product is as large as the first to within some powers of two.
    for range in [100..154, 120..130, 0..3, 60..70, 250..255] {
        let n = 20_000;
        let arrays = [(0..n).map(|_| near(range.clone())).collect(), (0..n).map(|_| near(range.clone())).collect()];
        let weights: Vec<Vec<f32>> = (0..8).map(|_| vec![near(120..130), near(120..130)]).collect();
        whole(&arrays, &weights);
        whole(&arrays, &[vec![1.0, -1.0], vec![1.0, 1.0], vec![0.5, -0.5], vec![1.0, -0.999_999_94]]);
        let same = [arrays[0].clone(), arrays[0].clone()];
        whole(&same, &[vec![0.3, -0.3], vec![0.7, -0.700_000_05], vec![1.0, -1.0]]);
    }
}

#[test]
fn any_number_of_arrays_pieces_and_elements_is_bit_equal() {
    let mut rng = rng(9);
    for (n, n_arrays) in [(1, 1), (2, 3), (255, 2), (256, 5), (257, 1), (4099, 8), (70_001, 2)] {
        let arrays: Vec<Vec<f32>> = (0..n_arrays).map(|_| uniform(&mut rng, n, -0.1, 0.1)).collect();
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < n {
            let end = rng.random_range(start + 1..=n);
            let weights = (0..3).map(|_| uniform(&mut rng, n_arrays, -1.0, 2.0)).collect();
            pieces.push(Piece { at: start..end, weights });
            start = end;
        }
        check(&arrays, &pieces);
    }
}

/// Past what one binding holds on software Vulkan (128 MiB), and past what one dispatch computes.
#[test]
fn arrays_of_many_pages_are_bit_equal() {
    let mut rng = rng(10);
    let n = 17 * (1 << 20) + 3;
    let mut arrays = [uniform(&mut rng, n, -0.1, 0.1), uniform(&mut rng, n, -0.1, 0.1)];
    // In the second page: left to the host on every adapter.
    arrays[0][16_900_000] = f32::INFINITY;
    let cut = 16_777_300;
    check(
        &arrays,
        &[Piece { at: 0..cut, weights: vec![vec![0.37, 0.63]] }, Piece { at: cut..n, weights: vec![vec![0.1, 0.9]] }],
    );
}

#[test]
fn either_end_returns_that_array() {
    let arrays = [uniform(&mut rng(10), 1000, -1.0, 1.0), uniform(&mut rng(11), 1000, -1.0, 1.0)];
    let held: Vec<Arc<Vec<f32>>> = arrays.iter().cloned().map(Arc::new).collect();
    on_every_device(|kernels, _| {
        let weights = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let mixed = kernels.hold(held.clone()).unwrap().mix(&[Piece { at: 0..1000, weights }]).unwrap();
        assert_eq!(mixed, arrays);
    });
}

#[test]
fn arrays_and_pieces_that_do_not_belong_together_are_refused() {
    on_every_device(|kernels, _| {
        let array = |n: usize| Arc::new(vec![0.0; n]);
        let text = |outcome: Result<_, Error>| outcome.map(|_: Vec<Vec<f32>>| ()).unwrap_err().to_string();
        let refused = |arrays| kernels.hold(arrays).err().map(|error| error.to_string());
        assert_eq!(refused(vec![array(2), array(3)]).as_deref(), Some("`arrays`: expected 2 elements, got 3"));
        assert_eq!(refused(vec![]).as_deref(), Some("`arrays`: expected at least one, got `0`"));
        let held = kernels.hold(vec![array(4), array(4)]).unwrap();
        let piece = |at, weights: &[f32]| Piece { at, weights: vec![weights.to_vec()] };
        assert_eq!(text(held.mix(&[piece(0..3, &[0.5, 0.5])])), "`end of the pieces`: expected 4 elements, got 3");
        assert_eq!(text(held.mix(&[piece(1..4, &[0.5, 0.5])])), "`start of a piece`: expected 0 elements, got 1");
        assert_eq!(text(held.mix(&[piece(0..4, &[0.5])])), "`weights of a piece`: expected 2 elements, got 1");
        let uneven = [piece(0..2, &[0.5, 0.5]), Piece { at: 2..4, weights: vec![] }];
        assert_eq!(text(held.mix(&uneven)), "`mixtures of a piece`: expected 1 elements, got 0");
        for bad in [f32::NAN, f32::INFINITY] {
            let got = text(held.mix(&[piece(0..4, &[0.5, bad])]));
            assert_eq!(got, format!("`weights of 0..4`: expected finite numbers, got `{bad}`"));
        }
        let none = kernels.hold(vec![array(0)]).unwrap();
        assert_eq!(none.mix(&[]), Ok(vec![]));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn arbitrary_bits_are_bit_equal(seed: u64, n in 1_usize..3000, n_arrays in 1_usize..4) {
        let mut rng = rng(seed);
        let arrays: Vec<Vec<f32>> =
            (0..n_arrays).map(|_| (0..n).map(|_| f32::from_bits(rng.random())).collect()).collect();
        let mut finite = || loop {
            let weight = f32::from_bits(rng.random());
            if weight.is_finite() {
                return weight;
            }
        };
        let weights: Vec<Vec<f32>> = (0..4).map(|_| (0..n_arrays).map(|_| finite()).collect()).collect();
        whole(&arrays, &weights);
    }
}
