use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::parts::best_of::{Aggregator, first_greatest};

fn er(p: f64, eta: f64) -> f64 {
    entropic_share(p, eta).unwrap()
}

#[test]
fn known_values_of_the_entropic_label() {
    for (eta, expected) in [(-2.0, 0.283), (-1.0, 0.380), (1.0, 0.620), (2.0, 0.717), (5.0, 0.863), (10.0, 0.931)] {
        assert!((er(0.5, eta) - expected).abs() < 5e-4, "η {eta}: {}", er(0.5, eta));
    }
}

#[test]
fn counts_become_labels() {
    let (some, none, all) = (Tally { hits: 4, of: 16 }, Tally { hits: 0, of: 16 }, Tally { hits: 16, of: 16 });
    assert_eq!(Estimator::Hard.label(some).unwrap(), 1.0);
    assert_eq!(Estimator::Soft.label(some).unwrap(), 0.25);
    assert_eq!(Estimator::Entropic(0.0).label(some).unwrap(), 0.25);
    assert_eq!(Estimator::Entropic(f64::INFINITY).label(some).unwrap(), 1.0);
    assert_eq!(Estimator::Entropic(f64::NEG_INFINITY).label(some).unwrap(), 0.0);
    for estimator in
        [Estimator::Hard, Estimator::Soft, Estimator::Entropic(800.0), Estimator::Entropic(-1e300), Estimator::Outcome]
    {
        assert_eq!((estimator.label(none).unwrap(), estimator.label(all).unwrap()), (0.0, 1.0), "{estimator}");
    }
    for wrong in [Tally { hits: 0, of: 0 }, Tally { hits: 2, of: 1 }] {
        assert!(Estimator::Soft.label(wrong).is_err() && Table::new(Estimator::Soft).label(wrong).is_err());
    }
    assert!(Estimator::Entropic(f64::NAN).label(some).is_err());
}

#[test]
fn the_last_step_has_its_own_correctness_and_an_outcome_label_is_there_alone() {
    let tallies = [Tally { hits: 3, of: 4 }, Tally { hits: 1, of: 4 }, Tally { hits: 0, of: 1 }];
    assert_eq!(Estimator::Outcome.label_steps(&tallies).unwrap(), [None, None, Some(0.0)]);
    assert_eq!(Estimator::Soft.label_steps(&tallies).unwrap(), [Some(0.75), Some(0.25), Some(0.0)]);
    assert_eq!(Estimator::Hard.label_steps(&tallies).unwrap(), [Some(1.0), Some(1.0), Some(0.0)]);
    assert!(Estimator::Soft.label_steps(&[]).is_err());
}

#[test]
fn estimators_read_back() {
    for text in ["orm", "hard", "soft", "er:5", "er:-2", "er:0.5", "er:inf", "er:-inf"] {
        assert_eq!(text.parse::<Estimator>().unwrap().to_string(), text);
    }
    for text in ["er", "er:", "er:x", "er:NaN", "hard:1", "mean", ""] {
        assert!(text.parse::<Estimator>().is_err(), "{text}");
    }
}

/// The formula as it is written, which is good enough where it neither overflows nor cancels.
fn naive(p: f64, eta: f64) -> f64 {
    (1.0 - p + p * eta.exp()).ln() / eta
}

proptest! {
    #[test]
    fn the_stable_form_is_the_formula(p in 0.0..1.0_f64, eta in prop_oneof![-30.0..-0.01_f64, 0.01..30.0_f64]) {
        prop_assert!((er(p, eta) - naive(p, eta)).abs() < 1e-12, "{} {}", er(p, eta), naive(p, eta));
    }

    /// The limits: |f − p| ≤ |η| p(1−p) near 0, and 1 − f ≤ −ln p / η at large η.
    #[test]
    fn small_and_large_eta_have_their_limits(p in 0.001..0.999_f64, e in -14.0..-3.0_f64, large in 800.0..1e12_f64) {
        let eta = 10_f64.powf(e);
        prop_assert!((er(p, eta) - p - eta * p * (1.0 - p) / 2.0).abs() <= eta * eta + 1e-15);
        prop_assert!((p - er(p, -eta) - eta * p * (1.0 - p) / 2.0).abs() <= eta * eta + 1e-15);
        prop_assert!((1.0 - er(p, large) + p.ln() / large).abs() < 1e-12);
        prop_assert!((er(p, -large) + (1.0 - p).ln() / large).abs() < 1e-12);
    }

    #[test]
    fn a_label_rises_with_p_and_with_eta(hits in 0..16_u32, eta in -40.0..40.0_f64, more in 0.1..10.0_f64) {
        let label = |hits, eta| Estimator::Entropic(eta).label(Tally { hits, of: 16 }).unwrap();
        prop_assert!(label(hits, eta) < label(hits + 1, eta));
        prop_assert!(label(hits, eta) <= label(hits, eta + more));
        prop_assert!(hits == 0 || label(hits, eta) < label(hits, eta + more));
        prop_assert!(eta > 0.0 || label(hits, eta) <= f64::from(hits) / 16.0);
    }

    #[test]
    fn a_table_says_what_the_estimator_says(hits in 0..40_u32, more in 0..9000_u32, eta in -9.0..9.0_f64) {
        let tally = Tally { hits, of: (hits + more).max(1) };
        let estimator = Estimator::Entropic(eta);
        let mut table = Table::new(estimator);
        for _ in 0..2 {
            prop_assert_eq!(table.label(tally).unwrap(), estimator.label(tally).unwrap());
        }
    }

    /// For rewards of 0 and 1, the general mean is the closed form.
    #[test]
    fn the_mean_of_rewards_is_the_closed_form(hits in 0..=8_u32, eta in -700.0..700.0_f64) {
        let rewards: Vec<f64> = (0..8).map(|i| f64::from(u8::from(i < hits))).collect();
        let got = entropic_mean(&rewards, &[0.125; 8], eta).unwrap();
        let closed = Estimator::Entropic(eta).label(Tally { hits, of: 8 }).unwrap();
        prop_assert!((got - closed).abs() < 1e-12);
    }

    /// A constant added to all rewards is added to the mean; scaling rewards scales η down.
    #[test]
    fn the_mean_moves_and_scales_with_rewards(
        rewards in prop::collection::vec(-5.0..5.0_f64, 1..9), shift in -1e3..1e3_f64, eta in -20.0..20.0_f64, scale in 0.1..50.0_f64,
    ) {
        let weights = vec![1.0 / rewards.len() as f64; rewards.len()];
        let of = |rewards: &[f64], eta| entropic_mean(rewards, &weights, eta).unwrap();
        let mean = of(&rewards, eta);
        let moved: Vec<f64> = rewards.iter().map(|r| r + shift).collect();
        let scaled: Vec<f64> = rewards.iter().map(|r| r * scale).collect();
        prop_assert!((of(&moved, eta) - mean - shift).abs() < 1e-10);
        prop_assert!((of(&scaled, eta / scale) - mean * scale).abs() < 1e-9);
        let (low, high) = (rewards.iter().copied().fold(f64::MAX, f64::min), rewards.iter().copied().fold(f64::MIN, f64::max));
        prop_assert!(low <= mean && mean <= high);
        prop_assert_eq!((of(&rewards, f64::NEG_INFINITY), of(&rewards, f64::INFINITY)), (low, high));
    }

    /// Dual form and telescoping on a random tree (ER-PRM, eqs. 9 and 12), to 1e-12.
    #[test]
    fn the_dual_form_and_telescoping_hold_on_a_random_tree(seed: u64, eta in prop_oneof![-4.0..-0.2_f64, 0.2..4.0_f64]) {
        let tree = random_tree(seed);
        let best = tree.tilted(eta).unwrap();
        for at in tree.nodes() {
            let reward = tree.process_reward(at, eta).unwrap();
            prop_assert!((best.process_reward(at).unwrap() - reward).abs() < 1e-12, "{at}");
            // The steps on the way to `at` add up to its reward less the root's.
            let (mut sum, mut here) = (0.0, at);
            while let Some(parent) = tree.parent(here) {
                sum += (best.policy().share(here).unwrap() / tree.share(here).unwrap()).ln() / eta;
                here = parent;
            }
            prop_assert!((reward - tree.process_reward(0, eta).unwrap() - sum).abs() < 1e-12, "{at}");
        }
        // The tilted policy is a distribution, and the one of the definition: π₀ e^{ηr} / Z on whole trajectories.
        let (rewards, base) = tree.outcomes(0).unwrap();
        let z: f64 = rewards.iter().zip(&base).map(|(r, b)| b * (eta * r).exp()).sum();
        let (_, tilted) = best.policy().outcomes(0).unwrap();
        for ((reward, base), tilted) in rewards.iter().zip(&base).zip(&tilted) {
            prop_assert!((base * (eta * reward).exp() / z - tilted).abs() < 1e-12);
        }
    }

    /// Labels alone: with equal K, `min` and `last` choose the same candidate at every η as soft labels do.
    #[test]
    fn labels_alone_rank_alike_under_min_and_last(
        counts in prop::collection::vec(prop::collection::vec(0..=16_u32, 1..7), 1..17), eta in -30.0..30.0_f64,
    ) {
        let winner = |estimator: Estimator, aggregator: Aggregator| {
            let score = |hits: &Vec<u32>| {
                let labels: Vec<f64> = hits.iter().map(|hits| estimator.label(Tally { hits: *hits, of: 16 }).unwrap()).collect();
                aggregator.score(&labels).unwrap()
            };
            first_greatest(&counts.iter().map(score).collect::<Vec<_>>()).unwrap()
        };
        for aggregator in [Aggregator::Min, Aggregator::Last] {
            prop_assert_eq!(winner(Estimator::Entropic(eta), aggregator), winner(Estimator::Soft, aggregator));
        }
    }
}

/// The same does not hold for the mean and the product: this is what η can change without a fitted model.
#[test]
fn labels_alone_can_rank_differently_under_mean_and_product() {
    let winner = |eta: f64, aggregator: Aggregator, other: [u32; 2]| {
        let score = |hits: [u32; 2]| {
            let labels = hits.map(|hits| Estimator::Entropic(eta).label(Tally { hits, of: 16 }).unwrap());
            aggregator.score(&labels).unwrap()
        };
        first_greatest(&[score([8, 8]), score(other)]).unwrap()
    };
    let (mean, product) = (Aggregator::Mean, Aggregator::Product);
    assert_eq!((winner(0.0, mean, [2, 13]), winner(-5.0, mean, [2, 13])), (0, 1));
    assert_eq!((winner(0.0, product, [4, 15]), winner(-6.0, product, [4, 15])), (0, 1));
}

#[test]
fn the_plug_in_is_biased_as_the_formula_says() {
    let exact = expected_label(Estimator::Entropic(2.0), 0.5, 16).unwrap() - er(0.5, 2.0);
    assert!((exact + 0.0096).abs() < 5e-5, "{exact}");
    assert!((plug_in_bias(0.5, 16, 2.0) + 0.0091).abs() < 5e-5);
    // First order: what is left falls as 1/K².
    for (p, eta) in [(0.5, 2.0), (0.3, 1.0), (0.7, -2.0), (0.2, 4.0)] {
        let left = |n: u32| {
            let exact = expected_label(Estimator::Entropic(eta), p, n).unwrap() - er(p, eta);
            (exact - plug_in_bias(p, n, eta)).abs()
        };
        assert!(left(400) < left(100) / 12.0 && left(1600) < left(400) / 12.0, "{p} {eta}");
        assert_eq!(plug_in_bias(p, 16, eta) < 0.0, eta > 0.0);
    }
    assert!((expected_label(Estimator::Soft, 0.3, 50).unwrap() - 0.3).abs() < 1e-12);
    assert!((expected_label(Estimator::Hard, 0.1, 16).unwrap() - (1.0 - 0.9_f64.powi(16))).abs() < 1e-12);
    assert_eq!(expected_label(Estimator::Soft, 1.0, 4).unwrap(), 1.0);
    assert!(expected_label(Estimator::Soft, 1.5, 4).is_err());
}

#[test]
fn a_mean_of_what_is_no_distribution_is_refused() {
    for (rewards, weights) in [
        (vec![], vec![]),
        (vec![1.0], vec![0.5]),
        (vec![1.0, 2.0], vec![1.0]),
        (vec![1.0, f64::NAN], vec![0.5, 0.5]),
        (vec![1.0, 2.0], vec![1.5, -0.5]),
    ] {
        assert!(entropic_mean(&rewards, &weights, 1.0).is_err(), "{rewards:?} {weights:?}");
    }
    assert!(entropic_mean(&[1.0], &[1.0], f64::NAN).is_err());
    // What has no weight counts for nothing, even at infinity.
    assert_eq!(entropic_mean(&[9.0, 1.0], &[0.0, 1.0], f64::INFINITY).unwrap(), 1.0);
}

#[test]
fn a_tree_that_is_none_is_refused() {
    let mut tree = Tabular::new();
    assert!(tree.branch(0, &[0.5, 0.6]).is_err() && tree.branch(1, &[1.0]).is_err() && tree.end(0, f64::NAN).is_err());
    let children = tree.branch(0, &[0.5, 0.5]).unwrap();
    assert!(tree.branch(0, &[1.0]).is_err() && tree.end(0, 1.0).is_err());
    tree.end(children[0], 1.0).unwrap();
    assert!(tree.process_reward(0, 1.0).is_err(), "a branch has no end");
    tree.end(children[1], 0.0).unwrap();
    assert!((tree.process_reward(0, 2.0).unwrap() - er(0.5, 2.0)).abs() < 1e-15);
    assert!(tree.tilted(f64::INFINITY).is_err());
}

/// Up to four choices at each of up to four steps, with rewards in [−1, 1].
fn random_tree(seed: u64) -> Tabular {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    let mut tree = Tabular::new();
    let mut level = vec![0];
    for depth in 0..4 {
        let mut next = Vec::new();
        for at in level {
            if depth == 3 || (depth > 0 && stream.random_bool(0.2)) {
                tree.end(at, stream.random_range(-1.0..1.0)).unwrap();
                continue;
            }
            let raw: Vec<f64> = (0..stream.random_range(1..=4)).map(|_| stream.random_range(0.05..1.0)).collect();
            let sum: f64 = raw.iter().sum();
            next.extend(tree.branch(at, &raw.iter().map(|x| x / sum).collect::<Vec<_>>()).unwrap());
        }
        level = next;
    }
    tree
}
