//! One token against another, against f64 over the two logits.

use super::*;

/// z and what its tolerance is relative to, for each row.
fn logits(hidden: &[f32], [plus, minus]: [&[f32]; 2]) -> Vec<(f64, f64)> {
    let row = |row: &[f32]| {
        let terms = row.iter().zip(plus.iter().zip(minus));
        let terms = terms.map(|(h, (plus, minus))| (f64::from(*h), f64::from(*plus), f64::from(*minus)));
        let of_plus: f64 = terms.clone().map(|(h, plus, _)| h * plus).sum();
        let of_minus: f64 = terms.clone().map(|(h, _, minus)| h * minus).sum();
        (of_plus - of_minus, terms.map(|(h, plus, minus)| (h * (plus - minus)).abs()).sum())
    };
    hidden.chunks(plus.len()).map(row).collect()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn assert_close(got: &[f32], want: &[(f64, f64)], device: &str) {
    assert_eq!(got.len(), want.len());
    for (row, (got, (z, size))) in got.iter().zip(want).enumerate() {
        let slack = 1e-5 * (1.0 + size);
        let (low, high) = (sigmoid(z - slack) - 1e-6, sigmoid(z + slack) + 1e-6);
        let p = f64::from(*got);
        assert!((0.0..=1.0).contains(&p) && low <= p && p <= high, "row {row} on {device}: {p}, not in {low}..{high}");
    }
}

fn check(hidden: &[f32], head: [&[f32]; 2]) {
    let want = logits(hidden, head);
    on_every_device(|kernels, device| {
        assert_close(&kernels.two_token(hidden, head[0].len(), head).unwrap(), &want, device);
    });
}

#[test]
fn it_agrees_with_f64_for_every_width_around_a_workgroup() {
    let mut rng = rng(31);
    for n_cols in [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513, 4096] {
        for n_rows in [1, 7, 8, 9, 67] {
            let hidden = uniform(&mut rng, n_rows * n_cols, -3.0, 3.0);
            let [plus, minus] = [(); 2].map(|()| uniform(&mut rng, n_cols, -0.5, 0.5));
            check(&hidden, [&plus, &minus]);
        }
    }
}

#[test]
fn it_agrees_with_f64_over_many_chunks_and_for_the_longest_row() {
    let mut rng = rng(32);
    let [plus, minus] = [(); 2].map(|()| uniform(&mut rng, 1000, -0.05, 0.05));
    check(&uniform(&mut rng, 3301 * 1000, -1.0, 1.0), [&plus, &minus]);
    let n_cols = 1 << 17;
    let [plus, minus] = [(); 2].map(|()| uniform(&mut rng, n_cols + 1, -0.01, 0.01));
    let hidden = uniform(&mut rng, n_cols + 1, -1.0, 1.0);
    check(&hidden[..n_cols], [&plus[..n_cols], &minus[..n_cols]]);
    for device in all_devices().iter().filter(|device| device.adapter().is_some()) {
        let got = device.kernels().two_token(&hidden, n_cols + 1, [&plus, &minus]);
        assert!(matches!(got, Err(Error::TooLarge { what: "row of hidden", .. })), "{got:?}");
    }
}

#[test]
fn ends_are_reached_and_halves_are_exact() {
    on_every_device(|kernels, device| {
        let hidden = [0.0, 1e4, -1e4, 90.0, -90.0, 1e-30];
        let got = kernels.two_token(&hidden, 1, [&[1.0], &[0.0]]).unwrap();
        assert_eq!([got[0], got[1], got[2], got[3], got[5]], [0.5, 1.0, 0.0, 1.0, 0.5], "{device}");
        assert!(got[4] < 1e-37, "{device}");
        // Equal rows of the head leave nothing to tell the tokens apart by.
        assert_eq!(kernels.two_token(&[3.0, 4.0], 2, [&[0.1, 0.7], &[0.1, 0.7]]), Ok(vec![0.5]));
    });
}

#[test]
fn rows_without_a_probability_are_named() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for bad in [[nan, 0.0], [0.0, inf], [-inf, inf], [-nan, 1.0], [3e38, 3e38]] {
        let hidden = [[0.0, 1.0], bad, [1.0, 0.0]].concat();
        on_every_device(|kernels, device| {
            let got = kernels.two_token(&hidden, 2, [&[2.0, 1.0], &[0.0, 0.0]]);
            assert!(
                matches!(got, Err(Error::Undefined { what: "hidden", row: 1, .. })),
                "{got:?} for {bad:?} on {device}"
            );
        });
    }
}

#[test]
fn arrays_that_do_not_belong_together_are_refused() {
    on_every_device(|kernels, _| {
        let run = |hidden: &[f32], n_cols, plus: &[f32], minus: &[f32]| {
            kernels.two_token(hidden, n_cols, [plus, minus]).unwrap_err().to_string()
        };
        assert_eq!(run(&[0.0; 5], 2, &[0.0; 2], &[0.0; 2]), "`hidden`: expected 4 elements, got 5");
        assert_eq!(run(&[0.0; 4], 2, &[0.0; 3], &[0.0; 2]), "`head of plus`: expected 2 elements, got 3");
        assert_eq!(run(&[0.0; 4], 2, &[0.0; 2], &[0.0; 1]), "`head of minus`: expected 2 elements, got 1");
        let far = run(&[0.0; 2], 2, &[0.0, 3e38], &[0.0, -3e38]);
        assert!(far.starts_with("`head[1]`: expected two finite numbers with a finite difference"), "{far}");
        assert_eq!(kernels.two_token(&[], 2, [&[0.0; 2], &[0.0; 2]]), Ok(vec![]));
        assert_eq!(kernels.two_token(&[], 0, [&[], &[]]), Ok(vec![]));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_other_token_has_the_rest_of_the_probability(seed: u64, n_cols in 1_usize..200, n_rows in 1_usize..20) {
        let mut rng = rng(seed);
        let hidden = uniform(&mut rng, n_rows * n_cols, -2.0, 2.0);
        let [plus, minus] = [(); 2].map(|()| uniform(&mut rng, n_cols, -1.0, 1.0));
        for device in all_devices() {
            let one = device.kernels().two_token(&hidden, n_cols, [&plus, &minus]).unwrap();
            let other = device.kernels().two_token(&hidden, n_cols, [&minus, &plus]).unwrap();
            for (p, q) in one.iter().zip(&other) {
                prop_assert!((f64::from(*p) + f64::from(*q) - 1.0).abs() < 2e-7, "{}", device.id());
            }
        }
    }
}
