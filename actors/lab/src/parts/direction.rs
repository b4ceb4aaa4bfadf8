//! Preferences as directions in a space of rewards: what is asked for is a unit vector, what is got is its product with the
//! rewards (DPA, arXiv 2402.18571).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parts::best_of::first_greatest;
use crate::parts::correlate::spearman;

/// How far from 1 the length of a vector written in two decimals can be, in two dimensions; above it, it is no direction.
const ROUNDING: f64 = 0.008;

/// A direction: a vector of length 1, one number a reward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Direction(Vec<f64>);

impl<'de> Deserialize<'de> for Direction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Direction {
    /// A direction as it was given; its length may differ from 1 by what rounding to two decimals does.
    ///
    /// # Errors
    /// `Value` for another length, or a number that is not finite.
    pub fn new(v: Vec<f64>) -> Result<Self> {
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if (length - 1.0).abs() <= ROUNDING {
            return Ok(Self(v));
        }
        Err(Error::Value { key: "v".into(), message: format!("expected a vector of length 1, got {v:?} of {length}") })
    }

    /// (cos θ, sin θ): how much of the first reward and of the second is asked for, θ in degrees. At 0 only the first counts;
    /// below 0 less of the second is better.
    ///
    /// # Errors
    /// `Value` for an angle that is not finite.
    pub fn of_degrees(theta: f64) -> Result<Self> {
        let radians = theta.to_radians();
        Self::new(vec![libm::cos(radians), libm::sin(radians)])
    }

    /// Its numbers.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The weights a conditioning prompt says: hundred times the vector, rounded half away from 0. `[97, -26]` at −15°.
    #[must_use]
    pub fn weights(&self) -> Vec<i32> {
        self.0.iter().map(|x| (100.0 * x).round() as i32).collect()
    }

    /// vᵀr.
    ///
    /// # Errors
    /// `Value` for rewards of another number of dimensions, or not finite.
    pub fn reward(&self, rewards: &[f64]) -> Result<f64> {
        if rewards.len() != self.0.len() || rewards.iter().any(|r| !r.is_finite()) {
            return Err(Error::Value {
                key: "rewards".into(),
                message: format!("expected {} finite numbers, got {rewards:?}", self.0.len()),
            });
        }
        Ok(self.0.iter().zip(rewards).map(|(v, r)| v * r).sum())
    }

    /// The candidate with the greatest reward, equal ones won by the first, and by how much it beats the runner-up; `None`
    /// if there is only one.
    ///
    /// # Errors
    /// As [`Direction::reward`]; `Value` if there is no candidate.
    pub fn choose(&self, candidates: &[Vec<f64>]) -> Result<(usize, Option<f64>)> {
        let rewards = candidates.iter().map(|rewards| self.reward(rewards)).collect::<Result<Vec<f64>>>()?;
        let chosen = first_greatest(&rewards)?;
        let others = rewards.iter().enumerate().filter(|(at, _)| *at != chosen).map(|(_, reward)| *reward);
        Ok((chosen, others.reduce(f64::max).map(|second| rewards[chosen] - second)))
    }
}

/// How much each of several models leaves on the table for a direction: the greatest vᵀr of all less its own. `points` are
/// the mean rewards of each model's answers when asked for the direction.
///
/// # Errors
/// As [`Direction::choose`].
pub fn regrets(direction: &Direction, points: &[Vec<f64>]) -> Result<Vec<f64>> {
    let rewards = points.iter().map(|rewards| direction.reward(rewards)).collect::<Result<Vec<f64>>>()?;
    let best = rewards[first_greatest(&rewards)?];
    Ok(rewards.into_iter().map(|reward| best - reward).collect())
}

/// Whether asking works: the rank correlation of the angles asked for with what came of the second reward, in [−1, 1];
/// `None` if either has one value only.
///
/// # Errors
/// As [`spearman`].
pub fn control_fidelity(degrees: &[f64], got: &[f64]) -> Result<Option<f64>> {
    spearman(degrees, got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn angles_have_the_weights_prompts_say() {
        for (theta, weights) in [
            (0.0, [100, 0]),
            (-15.0, [97, -26]),
            (45.0, [71, 71]),
            (-45.0, [71, -71]),
            (30.0, [87, 50]),
            (10.0, [98, 17]),
        ] {
            assert_eq!(Direction::of_degrees(theta).unwrap().weights(), weights, "{theta}");
        }
        assert!(Direction::of_degrees(f64::NAN).is_err());
    }

    #[test]
    fn vectors_that_are_no_directions_are_refused() {
        Direction::new(vec![0.97, -0.26]).unwrap();
        for wrong in [vec![], vec![1.0, 1.0], vec![0.97, 0.0], vec![f64::NAN, 1.0], vec![97.0, -26.0]] {
            assert!(Direction::new(wrong.clone()).is_err(), "{wrong:?}");
        }
        assert!(serde_json::from_str::<Direction>("[1.0, 1.0]").is_err());
        assert_eq!(serde_json::from_str::<Direction>("[0.97, -0.26]").unwrap().values(), [0.97, -0.26]);
        let along = Direction::of_degrees(0.0).unwrap();
        assert!(along.reward(&[1.0]).is_err() && along.reward(&[1.0, f64::NAN]).is_err());
    }

    #[test]
    fn equal_rewards_are_won_by_the_first_and_the_margin_is_to_the_next() {
        let along = Direction::of_degrees(0.0).unwrap();
        assert_eq!(along.choose(&[vec![1.0, 0.0], vec![1.0, 9.0], vec![0.5, 0.0]]).unwrap(), (0, Some(0.0)));
        assert_eq!(along.choose(&[vec![1.0, 0.0], vec![1.5, 9.0]]).unwrap(), (1, Some(0.5)));
        assert_eq!(along.choose(&[vec![1.0, 0.0]]).unwrap(), (0, None));
        assert!(along.choose(&[]).is_err());
    }

    /// The algorithm figure of the paper asks for v₂ = −0.6 and prints +0.6; with the sign, F beats E.
    #[test]
    fn the_sign_of_a_direction_decides_who_wins() {
        let candidates = [vec![0.7, 0.5], vec![0.6, 0.1]];
        let brief = Direction::new(vec![0.8, -0.6]).unwrap();
        let wordy = Direction::new(vec![0.8, 0.6]).unwrap();
        assert_eq!((brief.choose(&candidates).unwrap().0, wordy.choose(&candidates).unwrap().0), (1, 0));
    }

    #[test]
    fn fidelity_is_one_where_more_is_got_when_more_is_asked() {
        let degrees = [-45.0, -20.0, 0.0, 30.0];
        assert_eq!(control_fidelity(&degrees, &[10.0, 11.0, 40.0, 90.0]).unwrap(), Some(1.0));
        assert_eq!(control_fidelity(&degrees, &[4.0, 3.0, 2.0, 1.0]).unwrap(), Some(-1.0));
        assert_eq!(control_fidelity(&degrees, &[5.0; 4]).unwrap(), None);
    }

    proptest! {
        #[test]
        fn regret_is_nothing_for_the_best_and_positive_for_the_rest(
            points in prop::collection::vec((0.0..100.0_f64, 0.0..100.0_f64), 1..8), theta in -45.0..45.0_f64,
        ) {
            let points: Vec<Vec<f64>> = points.into_iter().map(|(a, b)| vec![a, b]).collect();
            let v = Direction::of_degrees(theta).unwrap();
            let regrets = regrets(&v, &points).unwrap();
            prop_assert_eq!(regrets[v.choose(&points).unwrap().0], 0.0);
            for (regret, point) in regrets.iter().zip(&points) {
                let own = theta.to_radians().cos() * point[0] + theta.to_radians().sin() * point[1];
                let best = points.iter().map(|p| theta.to_radians().cos() * p[0] + theta.to_radians().sin() * p[1]).fold(f64::MIN, f64::max);
                prop_assert!((regret - (best - own)).abs() < 1e-9);
            }
        }
    }
}
