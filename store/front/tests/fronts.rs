//! Fronts, ranks, crowding and volumes against brute force and by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tracker_front::{
    Direction, Error, Objective, Points, contributions, crowding, epsilon_front, hypervolume, non_dominated, ranks,
    worst,
};

const MINIMISE: [Direction; 6] = [Direction::Minimise; 6];

fn points(m: usize, values: &[f64]) -> Points {
    Points::new(&MINIMISE[..m], values.to_vec()).unwrap()
}

/// Straight from the definition, on values and directions.
fn dominates(directions: &[Direction], a: &[f64], b: &[f64]) -> bool {
    let better = |k: usize| match directions[k] {
        Direction::Minimise => a[k] < b[k],
        Direction::Maximise => a[k] > b[k],
    };
    let equal = |k: usize| a[k] == b[k];
    (0..a.len()).all(|k| better(k) || equal(k)) && (0..a.len()).any(better)
}

/// Peels one front after another by comparing all pairs.
fn peel(directions: &[Direction], values: &[f64]) -> Vec<u32> {
    let rows: Vec<&[f64]> = values.chunks_exact(directions.len()).collect();
    let mut ranks = vec![u32::MAX; rows.len()];
    for rank in 0.. {
        let left: Vec<usize> = (0..rows.len()).filter(|i| ranks[*i] == u32::MAX).collect();
        if left.is_empty() {
            break;
        }
        for i in &left {
            if !left.iter().any(|j| dominates(directions, rows[*j], rows[*i])) {
                ranks[*i] = rank;
            }
        }
    }
    ranks
}

/// Volume by inclusion and exclusion over all sets of points.
fn inclusion_exclusion(m: usize, values: &[f64], reference: &[f64]) -> f64 {
    let rows: Vec<&[f64]> = values.chunks_exact(m).collect();
    let mut total = 0.0;
    for set in 1_u32..1 << rows.len() {
        let mut volume = 1.0;
        for k in 0..m {
            let corner = (0..rows.len()).filter(|i| set >> i & 1 == 1).map(|i| rows[i][k]).fold(f64::MIN, f64::max);
            volume *= (reference[k] - corner).max(0.0);
        }
        total += if set.count_ones() % 2 == 1 { volume } else { -volume };
    }
    total
}

fn check(directions: &[Direction], values: &[f64]) {
    let points = Points::new(directions, values.to_vec()).unwrap();
    let expected = peel(directions, values);
    assert_eq!(ranks(&points), expected);
    let front: Vec<bool> = expected.iter().map(|r| *r == 0).collect();
    assert_eq!(non_dominated(&points), front);
}

/// Numbers of every kind that makes ties and order hard.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0_u8..6).prop_map(f64::from),
        8 => -1.0..1.0_f64,
        1 => prop::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX]),
    ]
}

fn directions() -> impl Strategy<Value = Vec<Direction>> {
    prop::collection::vec(prop::sample::select(vec![Direction::Minimise, Direction::Maximise]), 1..=6)
}

fn problem(most: usize) -> impl Strategy<Value = (Vec<Direction>, Vec<f64>)> {
    directions().prop_flat_map(move |directions| {
        let m = directions.len();
        (Just(directions), 0..=most).prop_flat_map(move |(d, n)| (Just(d), prop::collection::vec(value(), n * m)))
    })
}

/// `SplitMix64`, for sets too large for proptest.
fn uniform(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 * 0.5_f64.powi(53)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn fronts_and_ranks_equal_brute_force((directions, values) in problem(120)) {
        check(&directions, &values);
    }

    #[test]
    fn copies_and_the_order_of_points_change_nothing((directions, values) in problem(60), seed in any::<u64>()) {
        let m = directions.len();
        let n = values.len() / m;
        let points = Points::new(&directions, values.clone()).unwrap();
        let (ranks_of, distance) = (ranks(&points), crowding(&points, &ranks(&points)));
        // Every point three times, in another order.
        let mut order: Vec<usize> = (0..3 * n).collect();
        let keys = uniform(seed, 3 * n);
        order.sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
        let more: Vec<f64> = order.iter().flat_map(|i| values[i % n.max(1) * m..][..m].to_vec()).collect();
        let more = Points::new(&directions, more).unwrap();
        let more_ranks = ranks(&more);
        let more_distance = crowding(&more, &more_ranks);
        for (at, i) in order.iter().enumerate() {
            prop_assert_eq!(more_ranks[at], ranks_of[i % n]);
            prop_assert_eq!(more_distance[at].to_bits(), distance[i % n].to_bits());
        }
    }

    #[test]
    fn volume_equals_inclusion_and_exclusion(
        (m, values) in (1..=6_usize).prop_flat_map(|m| (Just(m), prop::collection::vec(
            prop_oneof![(0_u8..6).prop_map(|v| f64::from(v) / 4.0), 0.0..1.2_f64], 0..=10 * m)))
    ) {
        let values = &values[..values.len() / m * m];
        let reference = vec![1.0; m];
        let expected = inclusion_exclusion(m, values, &reference);
        let found = hypervolume(&points(m, values), &reference).unwrap();
        prop_assert!((found - expected).abs() <= 1e-12, "{} {}", found, expected);
        // What each adds is the volume less that of the others.
        let added = contributions(&points(m, values), &reference).unwrap();
        for (i, added) in added.iter().enumerate() {
            let mut others = values.to_vec();
            others.drain(i * m..(i + 1) * m);
            let without = inclusion_exclusion(m, &others, &reference);
            prop_assert!((added - (expected - without)).abs() <= 1e-12, "{} {}", added, expected - without);
        }
    }

    #[test]
    fn volume_turns_with_the_directions_and_grows_with_points((directions, values) in problem(40)) {
        let m = directions.len();
        let finite: Vec<f64> = values.iter().map(|v| v.clamp(-1e3, 1e3)).collect();
        let reference: Vec<f64> =
            directions.iter().map(|d| if *d == Direction::Minimise { 3.0 } else { -0.5 }).collect();
        let whole = hypervolume(&Points::new(&directions, finite.clone()).unwrap(), &reference).unwrap();
        let turned: Vec<f64> = finite.iter().enumerate()
            .map(|(i, v)| if directions[i % m] == Direction::Minimise { *v } else { -v }).collect();
        let turned_reference: Vec<f64> =
            directions.iter().zip(&reference).map(|(d, r)| if *d == Direction::Minimise { *r } else { -r }).collect();
        prop_assert_eq!(whole.to_bits(), hypervolume(&points(m, &turned), &turned_reference).unwrap().to_bits());
        let fewer = hypervolume(&Points::new(&directions, finite[..finite.len() / m / 2 * m].to_vec()).unwrap(), &reference);
        prop_assert!(fewer.unwrap() <= whole * (1.0 + 1e-9));
    }

    #[test]
    fn kept_points_epsilon_dominate_all_and_not_each_others_boxes(
        (directions, values) in problem(60), epsilon in prop::collection::vec(prop_oneof![Just(0.0), 0.01..2.0_f64], 6)
    ) {
        let m = directions.len();
        let finite: Vec<f64> = values.iter().map(|v| v.clamp(-1e3, 1e3)).collect();
        let cost = |i: usize, k: usize| if directions[k] == Direction::Minimise { finite[i * m + k] } else { -finite[i * m + k] };
        let points = Points::new(&directions, finite.clone()).unwrap();
        let kept = epsilon_front(&points, &epsilon[..m]).unwrap();
        let front = non_dominated(&points);
        let chosen: Vec<usize> = (0..kept.len()).filter(|i| kept[*i]).collect();
        for i in 0..kept.len() {
            prop_assert!(!kept[i] || front[i]);
            let is_near = chosen.iter().any(|c| (0..m).all(|k| cost(*c, k) <= cost(i, k) + epsilon[k] * (1.0 + 1e-9) + 1e-9));
            prop_assert!(is_near);
        }
        let corner = |i: usize, k: usize| if epsilon[k] > 0.0 { (cost(i, k) / epsilon[k]).floor() } else { cost(i, k) };
        for a in &chosen {
            for b in &chosen {
                prop_assert!(a == b || !(0..m).all(|k| corner(*a, k) <= corner(*b, k)));
            }
        }
    }
}

#[test]
fn fronts_equal_brute_force_where_divide_and_conquer_runs_deep() {
    for m in 1..=6 {
        for (seed, n) in [(1, 2_000), (2, 700)] {
            let cube = uniform(seed, n * m);
            check(&MINIMISE[..m], &cube);
            // Ties in every coordinate.
            check(&MINIMISE[..m], &cube.iter().map(|v| (v * 12.0).floor()).collect::<Vec<_>>());
            // All on a plane, so that none is dominated; and the same on a coarse grid.
            let mut plane = cube.clone();
            for row in plane.chunks_exact_mut(m) {
                let total: f64 = row.iter().sum();
                for v in row.iter_mut() {
                    *v /= total;
                }
            }
            if m > 1 {
                let plane_points = points(m, &plane);
                assert!(non_dominated(&plane_points).iter().all(|on| *on));
                assert!(ranks(&plane_points).iter().all(|rank| *rank == 0));
            }
            check(&MINIMISE[..m], &plane.iter().map(|v| (v * 40.0).round()).collect::<Vec<_>>());
            // One column constant; one the other's copy; a chain in which each dominates the next.
            for k in 0..m {
                let mut flat = cube.clone();
                flat.chunks_exact_mut(m).for_each(|row| row[k] = 0.5);
                check(&MINIMISE[..m], &flat);
                let mut copied = cube.clone();
                copied.chunks_exact_mut(m).for_each(|row| row[k] = row[0]);
                check(&MINIMISE[..m], &copied);
            }
            let chain: Vec<f64> = (0..200).flat_map(|i| vec![f64::from(i * 7 % 200); m]).collect();
            check(&MINIMISE[..m], &chain);
        }
    }
}

#[test]
fn a_sample_that_misleads_drops_no_point_of_the_front() {
    // Points at the places a sample is taken from lie far behind the others.
    for m in 2..=6 {
        let mut values = uniform(9, 2_560 * m);
        for (i, row) in values.chunks_exact_mut(m).enumerate() {
            if i % 20 < 3 {
                for v in row.iter_mut() {
                    *v += 1.0;
                }
            }
        }
        check(&MINIMISE[..m], &values);
    }
}

#[test]
fn no_point_and_one_point_are_fronts() {
    for m in 1..=6 {
        let none = points(m, &[]);
        assert!(none.is_empty() && non_dominated(&none).is_empty() && ranks(&none).is_empty());
        assert!(crowding(&none, &[]).is_empty());
        assert_eq!(hypervolume(&none, &vec![1.0; m]).unwrap(), 0.0);
        assert!(worst(&none).is_none());
        let one = points(m, &vec![0.5; m]);
        assert_eq!((non_dominated(&one), ranks(&one)), (vec![true], vec![0]));
        assert_eq!(crowding(&one, &[0]), [f64::INFINITY]);
        assert_eq!(hypervolume(&one, &vec![1.0; m]).unwrap(), 0.5_f64.powi(m as i32));
        assert_eq!(worst(&one).unwrap(), vec![0.5; m]);
    }
}

#[test]
fn crowding_by_hand() {
    // Five points of one front; spreads 10 and 10. The middle ones: (4−0 + 10−5)/10, (7−1 + 8−2)/10, (10−4 + 5−0)/10.
    let front = points(2, &[0.0, 10.0, 1.0, 8.0, 4.0, 5.0, 7.0, 2.0, 10.0, 0.0]);
    assert_eq!(ranks(&front), [0; 5]);
    let distance = crowding(&front, &[0; 5]);
    let expected = [f64::INFINITY, 0.4 + 0.5, 0.6 + 0.6, 0.6 + 0.5, f64::INFINITY];
    for (found, expected) in distance.iter().zip(expected) {
        assert!(found == &expected || (found - expected).abs() < 1e-12, "{distance:?}");
    }
    // The middle one twice: both have what their place has.
    let twice = points(2, &[0.0, 10.0, 4.0, 5.0, 10.0, 0.0, 4.0, 5.0]);
    assert_eq!(crowding(&twice, &ranks(&twice)), [f64::INFINITY, 2.0, f64::INFINITY, 2.0]);
    // Each rank by itself; an objective without spread adds nothing.
    let two_ranks = points(2, &[0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0]);
    let rank = ranks(&two_ranks);
    assert_eq!(rank, [0, 0, 1, 2, 3]);
    assert!(crowding(&two_ranks, &rank).iter().all(|d| d.is_infinite()));
    let flat = points(2, &[0.0, 1.0, 1.0, 1.0, 4.0, 1.0]);
    assert_eq!(crowding(&flat, &[0, 0, 0]), [f64::INFINITY, 1.0, f64::INFINITY]);
    // A gap without end counts 1.
    let endless = points(1, &[0.0, 1.0, f64::INFINITY]);
    assert_eq!(crowding(&endless, &[0, 0, 0]), [f64::INFINITY, 1.0, f64::INFINITY]);
}

#[test]
fn volume_by_hand() {
    // Two boxes in the plane, turned: reward is maximised, tax minimised, seen from (0, 10).
    let both = [Direction::Maximise, Direction::Minimise];
    let front = Points::new(&both, vec![1.0, 2.0, 3.0, 6.0, 0.5, 9.0, -1.0, 0.0]).unwrap();
    assert_eq!(hypervolume(&front, &[0.0, 10.0]).unwrap(), 1.0 * 8.0 + 2.0 * 4.0);
    assert_eq!(worst(&front).unwrap(), [-1.0, 9.0]);
    // On the edge of the reference and beyond it, nothing.
    assert_eq!(hypervolume(&front, &[3.0, 10.0]).unwrap(), 0.0);
    // A point without bound has a volume without bound; one infinitely bad has none.
    let endless = Points::new(&both, vec![f64::INFINITY, 0.0]).unwrap();
    assert_eq!(hypervolume(&endless, &[0.0, 1.0]).unwrap(), f64::INFINITY);
    let hopeless = Points::new(&both, vec![f64::NEG_INFINITY, 0.0]).unwrap();
    assert_eq!(hypervolume(&hopeless, &[0.0, 1.0]).unwrap(), 0.0);
    assert!(worst(&hopeless).is_none());
}

/// Volume in m objectives by slices along the last one, each a volume in one objective less.
fn by_slices(rows: &[Vec<f64>], m: usize) -> f64 {
    if m == 1 {
        return rows.iter().map(|r| 1.0 - r[0]).fold(0.0, f64::max);
    }
    let mut levels: Vec<f64> = rows.iter().map(|r| r[m - 1]).collect();
    levels.sort_by(f64::total_cmp);
    levels.push(1.0);
    levels
        .windows(2)
        .filter(|w| w[1] > w[0])
        .map(|w| {
            let below: Vec<Vec<f64>> = rows.iter().filter(|r| r[m - 1] <= w[0]).cloned().collect();
            (w[1] - w[0]) * by_slices(&below, m - 1)
        })
        .sum()
}

#[test]
fn volume_of_many_points_equals_slices() {
    for (m, n) in [(2, 300), (3, 120), (4, 40), (5, 22), (6, 14)] {
        for seed in 0..6 {
            let mut values = uniform(seed, n * m);
            for row in values.chunks_exact_mut(m) {
                let total: f64 = row.iter().sum();
                // Near a plane, on a grid, so that coordinates tie and few points are dominated.
                let steps = if seed % 2 == 0 { 8.0 } else { 1e6 };
                for v in row.iter_mut() {
                    *v = (*v / total * steps).round() / steps;
                }
            }
            let rows: Vec<Vec<f64>> = values.chunks_exact(m).map(<[f64]>::to_vec).collect();
            let expected = by_slices(&rows, m);
            let found = hypervolume(&points(m, &values), &vec![1.0; m]).unwrap();
            assert!((found - expected).abs() < 1e-12, "m {m} seed {seed}: {found} {expected}");
        }
    }
}

#[test]
fn what_is_no_set_of_points_is_refused() {
    assert!(matches!(Points::new(&[], vec![]), Err(Error::Objectives(0))));
    assert!(matches!(Points::new(&[Direction::Minimise; 7], vec![0.0; 7]), Err(Error::Objectives(7))));
    assert!(matches!(Points::new(&MINIMISE[..2], vec![0.0; 3]), Err(Error::Length { values: 3, objectives: 2 })));
    let nan = Points::new(&MINIMISE[..2], vec![0.0, 1.0, 2.0, f64::NAN]).unwrap_err();
    assert_eq!(nan.to_string(), "expected numbers, got NaN at point 1, objective 1");
    let two = points(2, &[0.0, 0.0]);
    for reference in [vec![1.0], vec![1.0, f64::NAN], vec![1.0, f64::INFINITY]] {
        assert!(matches!(hypervolume(&two, &reference), Err(Error::Reference { expected: 2, .. })));
        assert!(matches!(contributions(&two, &reference), Err(Error::Reference { expected: 2, .. })));
        assert!(matches!(epsilon_front(&two, &reference), Err(Error::Epsilon { expected: 2, .. })));
    }
    assert!(epsilon_front(&two, &[0.1, -0.1]).is_err());
    assert!("up".parse::<Direction>().is_err());
    assert_eq!("max".parse::<Direction>().unwrap(), Direction::Maximise);
    assert_eq!(Objective::maximise("a").direction.as_str(), "maximise");
}
