//! The entropic mean against naive f64.

use super::*;

fn naive(row: &[f32], eta: f64) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let widest = row.iter().map(|&x| (f64::from(x) - mean).abs()).fold(0.0, f64::max);
    if (eta * widest).abs() < 1e-8 {
        // the second-order expansion; the next term is below 1e-16 of the range
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        return mean + eta * variance / 2.0;
    }
    let shift = row.iter().map(|&x| eta * f64::from(x)).fold(f64::NEG_INFINITY, f64::max);
    let m1 = row.iter().map(|&x| (eta * f64::from(x) - shift).exp_m1()).sum::<f64>() / n;
    (shift + m1.ln_1p()) / eta
}

fn check(x: &[f32], n_cols: usize, eta: f32) {
    on_every_device(|kernels, device| {
        let got = kernels.log_mean_exp(x, n_cols, eta).unwrap();
        assert_eq!(got.len(), x.len() / n_cols);
        for (i, (row, &got)) in x.chunks(n_cols).zip(&got).enumerate() {
            let want = naive(row, eta.into());
            let scale = row.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
            assert!(
                (f64::from(got) - want).abs() <= 1e-5 * scale,
                "row {i} of {n_cols}, η = {eta}, on {device}: expected {want}, got {got}"
            );
        }
    });
}

const ETAS: [f32; 16] =
    [0.0, 1e-30, 1e-12, -1e-9, 1e-7, -1e-6, 1e-4, -0.01, 0.5, -1.0, 2.0, -10.0, 50.0, -1000.0, 1e6, 1e30];

#[test]
fn it_agrees_with_f64_from_the_minimum_to_the_maximum() {
    let mut rng = rng(5);
    for n_cols in [1, 2, 7, 8, 9, 16, 63, 64, 65, 1000] {
        for eta in ETAS {
            check(&uniform(&mut rng, 70 * n_cols, -1.0, 1.0), n_cols, eta);
            check(&uniform(&mut rng, 3 * n_cols, 100.0, 101.0), n_cols, eta);
        }
    }
}

#[test]
fn it_agrees_with_f64_over_many_chunks() {
    check(&uniform(&mut rng(6), 16 * 200_003, 0.0, 1.0), 16, 2.0);
}

#[test]
fn the_longest_row_of_an_adapter_agrees_with_f64_and_a_longer_one_is_refused() {
    let n_cols = 1 << 17;
    for eta in [-3.0, 0.0, 100.0] {
        check(&uniform(&mut rng(7), 9 * n_cols, 0.0, 1.0), n_cols, eta);
    }
    let x = vec![0.25; n_cols + 1];
    for device in all_devices() {
        let got = device.kernels().log_mean_exp(&x, n_cols + 1, 2.0);
        if device.adapter().is_none() {
            assert_eq!(got, Ok(vec![0.25]));
        } else {
            assert!(matches!(got, Err(Error::TooLarge { what: "row of x", .. })), "{got:?}");
        }
    }
}

#[test]
fn binary_rewards_have_the_closed_form_of_the_paper() {
    // (1/η) ln(1 − p + p e^η), p the share of ones
    for n_ones in 0..=16 {
        let row: Vec<f32> = (0..16).map(|i| if i < n_ones { 1.0 } else { 0.0 }).collect();
        let p = f64::from(n_ones) / 16.0;
        for eta in [0.5_f32, 2.0, 10.0, -2.0] {
            let e = f64::from(eta);
            let want = (1.0 - p + p * e.exp()).ln() / e;
            on_every_device(|kernels, device| {
                let got = kernels.log_mean_exp(&row, 16, eta).unwrap()[0];
                assert!((f64::from(got) - want).abs() <= 1e-5, "p = {p}, η = {eta} on {device}: {got}, not {want}");
            });
        }
    }
}

#[test]
fn one_outlier_among_many_counts_its_share() {
    let mut row = vec![0.0; 4096];
    row[100] = 1.0;
    for eta in [1.0, -1.0, 30.0, -30.0, 1000.0] {
        check(&row, 4096, eta);
    }
}

#[test]
fn huge_ranges_do_not_overflow() {
    let row = [f32::MAX, f32::MIN, 1e30, -1e30];
    for eta in ETAS {
        check(&row, 4, eta);
    }
    check(&[f32::MAX; 1000], 1000, 0.0);
    check(&[f32::MIN; 1000], 1000, 1.0);
}

#[test]
fn equal_values_are_their_own_mean() {
    on_every_device(|kernels, device| {
        for value in [0.0_f32, -0.75, 3e-3, 1e20] {
            for eta in ETAS {
                assert_eq!(kernels.log_mean_exp(&[value; 12], 12, eta), Ok(vec![value]), "η = {eta} on {device}");
            }
        }
    });
}

#[test]
fn rows_that_are_not_finite_are_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let x = [0.0, 1.0, 2.0, 3.0, bad, 5.0];
        on_every_device(|kernels, device| {
            for eta in [0.0, 1.0, -1.0] {
                let got = kernels.log_mean_exp(&x, 2, eta);
                assert!(matches!(got, Err(Error::Undefined { what: "x", row: 2, .. })), "{got:?} on {device}");
            }
        });
    }
}

#[test]
fn shapes_and_etas_outside_the_domain_are_refused() {
    on_every_device(|kernels, _| {
        let run = |x: &[f32], n_cols, eta| kernels.log_mean_exp(x, n_cols, eta).unwrap_err().to_string();
        assert_eq!(run(&[0.0; 5], 3, 1.0), "`x`: expected 6 elements, got 5");
        assert_eq!(run(&[0.0; 5], 0, 1.0), "`columns of x`: expected at least 1, got `0`");
        for eta in [f32::NAN, f32::INFINITY, 1e-31, -1e31] {
            assert_eq!(
                run(&[0.0], 1, eta),
                format!("`eta`: expected 0 or a magnitude from 1e-30 to 1e30, got `{eta}`")
            );
        }
        assert_eq!(kernels.log_mean_exp(&[], 4, 1.0), Ok(vec![]));
        assert_eq!(kernels.log_mean_exp(&[], 0, 1.0), Ok(vec![]));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_grows_with_eta_and_stays_within_the_row(seed: u64, n_cols in 1_usize..100) {
        let row = uniform(&mut rng(seed), n_cols, -4.0, 4.0);
        let low = row.iter().copied().fold(f32::INFINITY, f32::min);
        let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for device in all_devices() {
            let mut last = low - 1e-4;
            for eta in [-100.0, -10.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 10.0, 100.0] {
                let got = device.kernels().log_mean_exp(&row, n_cols, eta).unwrap()[0];
                prop_assert!(got >= last - 1e-4 && got <= high + 1e-4, "η = {} on {}", eta, device.id());
                last = got;
            }
        }
    }
}
