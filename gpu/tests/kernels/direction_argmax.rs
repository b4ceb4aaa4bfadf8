//! The best of each group in each direction, against the definition bit for bit.

use super::*;
use tracker_gpu::Best;

/// Scores one by one, products and sums rounded; the first greatest.
fn definition(rewards: &[f32], n_dims: usize, ends: &[u32], directions: &[f32]) -> Vec<Best> {
    let mut all = Vec::new();
    let mut start = 0;
    for end in ends {
        for direction in directions.chunks(n_dims) {
            let score = |row: u32| {
                let mut sum = 0.0_f32;
                for dim in 0..n_dims {
                    let product = rewards[row as usize * n_dims + dim] * direction[dim];
                    sum += product;
                }
                sum
            };
            let mut best = Best { row: start, score: score(start) };
            for row in start + 1..*end {
                if score(row) > best.score {
                    best = Best { row, score: score(row) };
                }
            }
            all.push(best);
        }
        start = *end;
    }
    all
}

fn check(rewards: &[f32], n_dims: usize, ends: &[u32], directions: &[f32]) {
    let want = definition(rewards, n_dims, ends, directions);
    on_every_device(|kernels, device| {
        let got = kernels.direction_argmax(rewards, n_dims, ends, directions).unwrap();
        let n = directions.len() / n_dims;
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!(got == want, "group {}, direction {} on {device}: {got:?}, not {want:?}", at / n, at % n);
        }
        assert_eq!(got.len(), want.len());
    });
}

/// Ends of groups of the given sizes.
fn ends(sizes: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let sum = |sum: &mut u32, n| {
        *sum += n;
        Some(*sum)
    };
    sizes.into_iter().scan(0, sum).collect()
}

#[test]
fn it_is_the_definition_for_every_size_around_a_workgroup() {
    let mut rng = rng(21);
    for (n_dims, n_directions) in [(1, 1), (2, 10), (2, 15), (3, 16), (5, 17), (10, 63), (10, 64), (7, 65), (19, 130)] {
        let ends = ends((0..9).map(|_| rng.random_range(1..40)));
        let n = ends[8] as usize;
        let rewards = uniform(&mut rng, n * n_dims, -100.0, 100.0);
        let directions = uniform(&mut rng, n_directions * n_dims, -1.0, 1.0);
        check(&rewards, n_dims, &ends, &directions);
    }
}

#[test]
fn it_is_the_definition_over_many_chunks() {
    // 2.4 MiB of rewards and 20 MiB of choices
    let mut rng = rng(22);
    let ends = ends((0..20_000).map(|group| 1 + group % 29));
    let rewards = uniform(&mut rng, 2 * ends[19_999] as usize, 0.0, 100.0);
    check(&rewards, 2, &ends, &uniform(&mut rng, 2 * 130, -1.0, 1.0));
    // 6 MiB of rewards, one direction
    let ends = super::direction_argmax::ends((0..50_000).map(|_| 16));
    let rewards = uniform(&mut rng, 2 * ends[49_999] as usize, 0.0, 100.0);
    check(&rewards, 2, &ends, &[0.8, -0.6]);
}

#[test]
fn equal_scores_are_won_by_the_first() {
    // Equal rows, rows equal in one direction, zeros of both signs.
    check(&[1.0, 2.0, 1.0, 2.0, 0.5, 0.0], 2, &[3], &[1.0, 0.0, 0.0, 1.0, -1.0, 0.0]);
    check(&[0.0, -0.0, 0.0], 1, &[2, 3], &[1.0, -1.0, 0.0]);
    on_every_device(|kernels, device| {
        let best = kernels.direction_argmax(&[3.0, 7.0, 3.0, 9.0, 3.0, 8.0], 2, &[2, 3], &[1.0, 0.0]).unwrap();
        assert_eq!(best.iter().map(|best| best.row).collect::<Vec<_>>(), [0, 2], "{device}");
    });
}

#[test]
fn what_has_no_finite_score_is_named() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for bad in [nan, inf, -inf, -nan] {
        // Worse than the first or better, it is found all the same, even where the direction does not look.
        for directions in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]] {
            let rewards = [5.0, 5.0, 1.0, 1.0, 0.0, bad, 1.0, 1.0];
            on_every_device(|kernels, device| {
                let got = kernels.direction_argmax(&rewards, 2, &[2, 4], &directions);
                assert!(matches!(got, Err(Error::Undefined { what: "rewards", row: 2, .. })), "{got:?} on {device}");
            });
        }
    }
    on_every_device(|kernels, device| {
        let got = kernels.direction_argmax(&[1.0, 1.0, 3e38, 3e38], 2, &[2], &[1.0, 1.0]);
        assert!(matches!(got, Err(Error::Undefined { row: 1, .. })), "{got:?} on {device}");
    });
}

#[test]
fn arrays_that_do_not_belong_together_are_refused() {
    on_every_device(|kernels, _| {
        let run = |rewards: &[f32], n_dims, ends: &[u32], directions: &[f32]| {
            kernels.direction_argmax(rewards, n_dims, ends, directions).unwrap_err().to_string()
        };
        assert_eq!(run(&[0.0; 5], 2, &[3], &[1.0, 0.0]), "`rewards`: expected 6 elements, got 5");
        assert_eq!(run(&[0.0; 6], 2, &[3], &[1.0, 0.0, 1.0]), "`directions`: expected 2 elements, got 3");
        assert_eq!(
            run(&[0.0; 6], 2, &[1, 1, 3], &[]),
            "`ends[1]`: expected more than 1: a group has a candidate, got `1`"
        );
        assert_eq!(
            run(&[0.0; 2], 2, &[2, 1], &[]),
            "`ends[1]`: expected more than 2: a group has a candidate, got `1`"
        );
        assert_eq!(run(&[0.0; 2], 2, &[1], &[f32::NAN, 0.0]), "`directions[0]`: expected a finite number, got `NaN`");
        assert_eq!(run(&[], 0, &[1], &[]), "`columns of rewards`: expected at least 1, got `0`");
        assert_eq!(kernels.direction_argmax(&[], 2, &[], &[1.0, 0.0]), Ok(vec![]));
        assert_eq!(kernels.direction_argmax(&[1.0, 2.0], 2, &[1], &[]), Ok(vec![]));
        assert_eq!(kernels.direction_argmax(&[], 0, &[], &[]), Ok(vec![]));
    });
}

#[test]
fn a_group_that_an_adapter_cannot_loop_over_is_refused_there() {
    let rewards = vec![1.0; (1 << 15) + 2];
    for device in all_devices() {
        let got = device.kernels().direction_argmax(&rewards, 2, &[(1 << 14) + 1], &[1.0, 0.0]);
        match device.adapter() {
            None => assert_eq!(got.unwrap()[0].row, 0),
            Some(_) => assert!(matches!(got, Err(Error::TooLarge { what: "group of rewards", .. })), "{got:?}"),
        }
        let got = device.kernels().direction_argmax(&rewards[2..], 2, &[1 << 14], &[1.0, 0.0]);
        assert_eq!(got.unwrap()[0], Best { row: 0, score: 1.0 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn few_values_tie_often_and_every_device_agrees(
        seed: u64, n_dims in 1_usize..6, n_directions in 1_usize..40, sizes in prop::collection::vec(1_u32..20, 1..12),
    ) {
        let mut rng = rng(seed);
        let ends = ends(sizes);
        let n = *ends.last().unwrap() as usize * n_dims;
        let rewards: Vec<f32> = (0..n).map(|_| rng.random_range(-2..3) as f32 * 0.1).collect();
        let directions: Vec<f32> = (0..n_directions * n_dims).map(|_| rng.random_range(-3..4) as f32 * 0.3).collect();
        let want = definition(&rewards, n_dims, &ends, &directions);
        for device in all_devices() {
            let got = device.kernels().direction_argmax(&rewards, n_dims, &ends, &directions).unwrap();
            prop_assert_eq!(&got, &want, "{}", device.id());
        }
    }
}
