//! Random features and inner products, against f64 over the stream's own numbers.

use super::*;
use tracker_gpu::normals;

fn assert_close(got: &[f32], want: &[(f64, f64)], slack: f64, device: &str) {
    assert_eq!(got.len(), want.len());
    for (at, (got, (want, size))) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= 1e-5 * (slack + size), "{at} on {device}: {got}, not {want}");
    }
}

#[test]
fn weights_have_the_same_bits_on_every_device() {
    let n = 37;
    let mut both = vec![0.0; 2 * n * n];
    for at in 0..n {
        both[at * n + at] = 1.0;
        both[(n + at) * n + at] = -1.0;
    }
    for key in [0, 5, u64::MAX, 1 << 33] {
        on_every_device(|kernels, device| {
            let got = kernels.random_features(&both, n, key, 131).unwrap();
            for feature in 0..131 {
                for (at, weight) in normals(key, feature as u32, n).into_iter().enumerate() {
                    let halves = [got[at * 131 + feature], -got[(n + at) * 131 + feature]];
                    assert!(halves.contains(&weight) && halves.contains(&0.0), "{halves:?}, {weight} on {device}");
                }
            }
        });
    }
}

#[test]
fn features_agree_with_f64_for_every_width_around_a_tile() {
    let mut rng = rng(41);
    for n_cols in [1, 3, 4, 5, 511, 512, 513, 1100] {
        for (n_rows, n_features) in [(1, 1), (5, 15), (6, 16), (7, 64), (9, 65), (17, 130)] {
            // Past a slice of columns too.
            let n_cols = if n_rows == 17 { n_cols + 2048 } else { n_cols };
            let x = uniform(&mut rng, n_rows * n_cols, -2.0, 2.0);
            let weights: Vec<Vec<f32>> = (0..n_features).map(|j| normals(7, j, n_cols)).collect();
            let want: Vec<(f64, f64)> = x
                .chunks(n_cols)
                .flat_map(|row| {
                    weights.iter().map(move |weights| {
                        let terms = row.iter().zip(weights).map(|(x, v)| f64::from(*x) * f64::from(*v));
                        (terms.clone().sum::<f64>().max(0.0), terms.map(f64::abs).sum())
                    })
                })
                .collect();
            on_every_device(|kernels, device| {
                let got = kernels.random_features(&x, n_cols, 7, n_features as usize).unwrap();
                assert_close(&got, &want, 1.0, device);
            });
        }
    }
}

#[test]
fn inner_products_agree_with_f64_and_are_symmetric() {
    let mut rng = rng(42);
    for (n, n_cols) in [(1, 1), (3, 17), (8, 64), (9, 1025), (40, 3000)] {
        let x = uniform(&mut rng, n * n_cols, -2.0, 2.0);
        let row = |at: usize| &x[at * n_cols..(at + 1) * n_cols];
        let of = |i: usize, j: usize| {
            let terms = row(i).iter().zip(row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b));
            (terms.clone().sum(), terms.map(f64::abs).sum())
        };
        let want: Vec<(f64, f64)> = (0..n * n).map(|at| of(at / n, at % n)).collect();
        on_every_device(|kernels, device| {
            let got = kernels.gram(&x, n_cols).unwrap();
            assert_close(&got, &want, 0.0, device);
            assert!((0..n * n).all(|at| got[at].to_bits() == got[at % n * n + at / n].to_bits()), "{device}");
        });
    }
}

#[test]
fn what_has_no_features_is_named_and_nothing_is_fine() {
    on_every_device(|kernels, _| {
        assert_eq!(kernels.random_features(&[], 3, 1, 5), Ok(vec![]));
        assert_eq!(kernels.random_features(&[1.0], 1, 1, 0), Ok(vec![]));
        assert_eq!(kernels.gram(&[], 3), Ok(vec![]));
        assert!(matches!(kernels.random_features(&[1.0; 4], 3, 1, 5), Err(Error::Shape { .. })));
        assert!(matches!(kernels.gram(&[1.0; 4], 3), Err(Error::Shape { .. })));
        for bad in [f32::NAN, f32::INFINITY] {
            let x = [1.0, 1.0, 2.0, bad];
            assert!(matches!(kernels.random_features(&x, 2, 1, 5), Err(Error::Undefined { what: "x", row: 1, .. })));
            assert!(matches!(kernels.gram(&x, 2), Err(Error::Undefined { what: "x", row: 1, .. })));
        }
        assert!(matches!(kernels.gram(&[3e38, 3e38], 2), Err(Error::Undefined { what: "x", row: 0, .. })));
    });
}
