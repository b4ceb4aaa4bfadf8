//! Log-softmax and gather against naive f64.

use super::*;

fn naive(logits: &[f32], n_cols: usize, labels: &[u32]) -> Vec<f64> {
    let row = |(row, &label): (&[f32], &u32)| {
        let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
        f64::from(row[label as usize]) - max - sum.ln()
    };
    logits.chunks(n_cols).zip(labels).map(row).collect()
}

fn assert_close(got: &[f32], want: &[f64], device: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let close = f64::from(got) == want || (f64::from(got) - want).abs() <= 1e-5 * (1.0 + want.abs());
        assert!(close, "row {i} on {device}: expected {want}, got {got}");
    }
}

fn check(logits: &[f32], n_cols: usize, labels: &[u32]) {
    let want = naive(logits, n_cols, labels);
    on_every_device(|kernels, device| {
        let got = kernels.log_softmax_gather(logits, n_cols, labels).unwrap();
        assert_close(&got, &want, device);
    });
}

#[test]
fn it_agrees_with_f64_for_every_width_around_a_workgroup() {
    let mut rng = rng(1);
    for n_cols in [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000, 4095, 4097] {
        for n_rows in [1, 5, 67] {
            let logits = uniform(&mut rng, n_rows * n_cols, -20.0, 20.0);
            let labels: Vec<u32> = (0..n_rows).map(|_| rng.random_range(0..n_cols as u32)).collect();
            check(&logits, n_cols, &labels);
        }
    }
}

#[test]
fn it_agrees_with_f64_over_many_chunks() {
    // 3.3 million logits are four chunks of 4 MiB, the last one short
    let (n_rows, n_cols) = (3301, 1000);
    let mut rng = rng(2);
    let logits = uniform(&mut rng, n_rows * n_cols, -5.0, 5.0);
    let labels: Vec<u32> = (0..n_rows).map(|_| rng.random_range(0..n_cols as u32)).collect();
    check(&logits, n_cols, &labels);
}

#[test]
fn the_longest_row_of_an_adapter_agrees_with_f64_and_a_longer_one_is_refused() {
    let n_cols = 1 << 20;
    check(&uniform(&mut rng(3), 2 * n_cols, -3.0, 3.0), n_cols, &[0, n_cols as u32 - 1]);
    let logits = vec![0.0; n_cols + 1];
    for device in all_devices() {
        let got = device.kernels().log_softmax_gather(&logits, n_cols + 1, &[0]);
        if device.adapter().is_none() {
            assert!((got.unwrap()[0] + (n_cols as f32).ln()).abs() < 1e-4);
        } else {
            assert!(matches!(got, Err(Error::TooLarge { what: "row of logits", .. })), "{got:?}");
        }
    }
}

#[test]
fn sums_over_a_large_vocabulary_do_not_drift() {
    // equal terms round the same way every time, which is the worst case of a running sum
    for value in [0.0, 0.1, -3.3] {
        let mut logits = vec![value; 262_144];
        logits[77] = 1.0;
        check(&logits, 262_144, &[77]);
    }
}

#[test]
fn extreme_and_masked_logits_are_handled() {
    let inf = f32::NEG_INFINITY;
    check(&[1000.0, -1000.0, 3e38, -3e38, 1e-40, -1e-40], 2, &[1, 0, 1]);
    check(&[0.0, inf, inf, inf, 5.0, inf], 3, &[0, 1]);
    check(&[f32::MIN, f32::MIN, f32::MIN], 3, &[1]);
    check(&[f32::MAX, f32::MAX], 2, &[1]);
    check(&[0.0, inf], 2, &[1]);
}

#[test]
fn probabilities_of_a_row_sum_to_one() {
    let row = uniform(&mut rng(4), 500, -8.0, 8.0);
    let logits = row.repeat(500);
    let labels: Vec<u32> = (0..500).collect();
    on_every_device(|kernels, device| {
        let logs = kernels.log_softmax_gather(&logits, 500, &labels).unwrap();
        let total: f64 = logs.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total} on {device}");
    });
}

#[test]
fn rows_without_a_softmax_are_named() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for bad in [[nan, 0.0, 1.0], [0.0, inf, 1.0], [-inf, -inf, -inf], [-nan, -inf, 0.0]] {
        let logits = [[0.0, 1.0, 2.0], bad, [3.0, 4.0, 5.0]].concat();
        on_every_device(|kernels, device| {
            let got = kernels.log_softmax_gather(&logits, 3, &[0, 2, 1]);
            assert!(
                matches!(got, Err(Error::Undefined { what: "logits", row: 1, .. })),
                "{got:?} for {bad:?} on {device}"
            );
        });
    }
}

#[test]
fn arrays_that_do_not_belong_together_are_refused() {
    on_every_device(|kernels, _| {
        let run = |logits: &[f32], n_cols, labels: &[u32]| {
            kernels.log_softmax_gather(logits, n_cols, labels).unwrap_err().to_string()
        };
        assert_eq!(run(&[0.0; 5], 3, &[0, 1]), "`logits`: expected 6 elements, got 5");
        assert_eq!(run(&[], 0, &[0]), "`columns of logits`: expected at least 1, got `0`");
        assert_eq!(run(&[0.0; 6], 3, &[0, 3]), "`labels[1]`: expected less than 3, got `3`");
        assert!(run(&[], usize::MAX, &[0, 1]).starts_with("`logits`: expected"));
        assert_eq!(kernels.log_softmax_gather(&[], 7, &[]), Ok(vec![]));
        assert_eq!(kernels.log_softmax_gather(&[], 0, &[]), Ok(vec![]));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shift_of_the_logits_changes_nothing(seed: u64, n_cols in 1_usize..300, shift in -50.0_f32..50.0) {
        let mut rng = rng(seed);
        let logits = uniform(&mut rng, 3 * n_cols, -30.0, 30.0);
        let shifted: Vec<f32> = logits.iter().map(|x| x + shift).collect();
        let labels: Vec<u32> = (0..3).map(|_| rng.random_range(0..n_cols as u32)).collect();
        let want = naive(&logits, n_cols, &labels);
        for device in all_devices() {
            let got = device.kernels().log_softmax_gather(&shifted, n_cols, &labels).unwrap();
            for (got, want) in got.iter().zip(&want) {
                // the shift itself rounds to within 4e-6
                prop_assert!((f64::from(*got) - want).abs() <= 2e-5 * (1.0 + want.abs()), "{}", device.id());
            }
        }
    }
}
