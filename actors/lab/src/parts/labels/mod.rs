//! Labels of steps: what the completions drawn from a prefix say of it.
//!
//! A prefix from which `c` of `K` completions end right has p̂ = c/K, and its label is a function of the two: hard, soft, or
//! entropy-regularised at an inverse temperature η. Counts are what is stored; labels follow from them, at any η, with
//! the same bits on every machine.
//!
//! Invariants: every label lies in [0, 1]; it is 0 where nothing hit and 1 where everything did, exactly. For rewards
//! of 0 or 1 every label is an increasing function of p̂, so that candidates ranked by the least or the last of their own
//! labels have one winner, whatever η: a gain can only come from a model fitted to the labels, or from other aggregators.
//! Not here: drawing completions, grading them, models.

mod definition;
mod tabular;

use std::fmt;
use std::str::FromStr;

use tracker_store::Tally;

use crate::error::{Error, Result};

pub use definition::{Definition, one_scorer};
pub use tabular::{Tabular, Tilted};

/// How a label follows from counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimator {
    /// The trajectory's own correctness, at its last step alone.
    Outcome,
    /// 1 if any completion ended right (Math-Shepherd, arXiv 2312.08935).
    Hard,
    /// The share of completions that ended right.
    Soft,
    /// The entropic mean at inverse temperature η: `(1/η) ln E[exp(η r)]`. Soft at 0, hard at ∞, 1 only if all ended right
    /// at −∞ (ER-PRM, arXiv 2412.11006, eq. 8).
    Entropic(f64),
}

impl Estimator {
    /// The label of one prefix, in [0, 1].
    ///
    /// # Errors
    /// `Value` for a count of nothing, more hits than trials, or an η that is NaN.
    pub fn label(self, tally: Tally) -> Result<f64> {
        let Tally { hits, of } = tally;
        if of == 0 || hits > of {
            return Err(Error::Value {
                key: "tally".into(),
                message: format!("expected hits of at least one trial and at most all, got {hits} of {of}"),
            });
        }
        let share = f64::from(hits) / f64::from(of);
        match self {
            Self::Outcome | Self::Soft => Ok(share),
            Self::Hard => Ok(f64::from(u8::from(hits > 0))),
            Self::Entropic(eta) => entropic_share(share, eta),
        }
    }

    /// The labels of a trajectory's steps, from the counts at each; the last step's count is of the trajectory itself
    /// (`1 of 1` or `0 of 1`), whose correctness is known and no expectation. `None` where there is no label.
    ///
    /// # Errors
    /// As [`Estimator::label`]; `Value` if there is no step.
    pub fn label_steps(self, tallies: &[Tally]) -> Result<Vec<Option<f64>>> {
        let Some(last) = tallies.len().checked_sub(1) else {
            return Err(Error::Value { key: "tallies".into(), message: "expected at least one step, got none".into() });
        };
        let label = |(at, tally): (usize, &Tally)| match self {
            Self::Outcome if at < last => Ok(None),
            _ => self.label(*tally).map(Some),
        };
        tallies.iter().enumerate().map(label).collect()
    }

    /// The number of `er`, if it has one.
    #[must_use]
    pub fn eta(self) -> Option<f64> {
        if let Self::Entropic(eta) = self { Some(eta) } else { None }
    }

    /// Its name without η.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outcome => "orm",
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Entropic(_) => "er",
        }
    }

    /// The estimator of a name and an η, which `er` alone has.
    ///
    /// # Errors
    /// `Value` for another name, an η where there is none, none where there is, or one that is NaN.
    pub fn of(name: &str, eta: Option<f64>) -> Result<Self> {
        match (name, eta) {
            ("orm", None) => Ok(Self::Outcome),
            ("hard", None) => Ok(Self::Hard),
            ("soft", None) => Ok(Self::Soft),
            ("er", Some(eta)) if !eta.is_nan() => Ok(Self::Entropic(eta)),
            ("er", got) => Err(Error::Value {
                key: "eta".into(),
                message: format!(
                    "expected a number for `er`, got {}",
                    got.map_or("none".into(), |eta| eta.to_string())
                ),
            }),
            ("orm" | "hard" | "soft", Some(eta)) => {
                Err(Error::Value { key: "eta".into(), message: format!("expected none for `{name}`, got {eta}") })
            }
            _ => Err(Error::Value {
                key: "estimator".into(),
                message: format!("expected orm, hard, soft or er, got `{name}`"),
            }),
        }
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.eta() {
            Some(eta) => write!(f, "er:{eta}"),
            None => f.pad(self.name()),
        }
    }
}

impl FromStr for Estimator {
    type Err = Error;

    /// Reads `orm`, `hard`, `soft` or `er:ETA`.
    fn from_str(text: &str) -> Result<Self> {
        let Some((name, eta)) = text.split_once(':') else { return Self::of(text, None) };
        let eta = eta.parse().map_err(|_| Error::Value {
            key: "eta".into(),
            message: format!("expected a number after `{name}:`, got `{eta}`"),
        })?;
        Self::of(name, Some(eta))
    }
}

/// Labels by count, so that a million prefixes cost a look-up each.
pub struct Table {
    estimator: Estimator,
    /// By trials, then hits; filled as they are met.
    labels: Vec<Option<Box<[f64]>>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(estimator: Estimator) -> Self {
        Self { estimator, labels: Vec::new() }
    }

    /// The label of a count.
    ///
    /// # Errors
    /// As [`Estimator::label`].
    pub fn label(&mut self, tally: Tally) -> Result<f64> {
        /// Counts of more trials than this are computed each time.
        const MOST: usize = 4096;
        let (hits, of) = (tally.hits as usize, tally.of as usize);
        if of > MOST || hits > of || of == 0 {
            return self.estimator.label(tally);
        }
        if self.labels.len() <= of {
            self.labels.resize_with(of + 1, || None);
        }
        if let Some(row) = &self.labels[of] {
            return Ok(row[hits]);
        }
        let row: Vec<f64> =
            (0..=tally.of).map(|hits| self.estimator.label(Tally { hits, of: tally.of })).collect::<Result<_>>()?;
        let label = row[hits];
        self.labels[of] = Some(row.into());
        Ok(label)
    }
}

/// `(1/η) ln(1 − p + p e^η)` for p in [0, 1] and any η but NaN.
fn entropic_share(share: f64, eta: f64) -> Result<f64> {
    if eta.is_nan() || !(0.0..=1.0).contains(&share) {
        return Err(Error::Value {
            key: "eta".into(),
            message: format!("expected a share in [0, 1] and a number, got {share} and {eta}"),
        });
    }
    Ok(match share {
        0.0 => 0.0,
        1.0 => 1.0,
        // f(−η, p) = 1 − f(η, 1 − p)
        _ if eta < 0.0 => 1.0 - soft_max(1.0 - share, -eta),
        _ => soft_max(share, eta),
    })
}

/// The same for 0 < p < 1 and η ≥ 0: `1 + ln(p + (1 − p) e^−η) / η`, arranged so that nothing overflows or cancels.
fn soft_max(p: f64, eta: f64) -> f64 {
    if eta == 0.0 {
        return p;
    }
    if eta.is_infinite() {
        return 1.0;
    }
    let value = if eta < 1.0 {
        libm::log1p(p * libm::expm1(eta)) / eta
    } else if p > 0.5 {
        1.0 + libm::log1p((1.0 - p) * libm::expm1(-eta)) / eta
    } else {
        1.0 + libm::log(p + (1.0 - p) * libm::exp(-eta)) / eta
    };
    value.clamp(0.0, 1.0)
}

/// The entropic mean `(1/η) ln Σ wᵢ exp(η rᵢ)` of rewards under weights that add up to 1: their mean at η = 0, the greatest
/// at ∞, the least at −∞. All exponents are ≤ 0, so that no range overflows.
///
/// Its dual form is the entropic mean at −η under the weights tilted by exp(η r) (ER-PRM, eq. 9): see [`Tilted`].
///
/// # Errors
/// `Value` if the lengths differ or are 0, a reward is not finite, a weight is negative, they do not add up to 1, or η is NaN.
pub fn entropic_mean(rewards: &[f64], weights: &[f64], eta: f64) -> Result<f64> {
    let sum: f64 = weights.iter().sum();
    let is_sound = !rewards.is_empty()
        && rewards.len() == weights.len()
        && rewards.iter().all(|reward| reward.is_finite())
        && weights.iter().all(|weight| *weight >= 0.0)
        && (sum - 1.0).abs() <= 1e-9
        && !eta.is_nan();
    if !is_sound {
        return Err(Error::Value {
            key: "rewards".into(),
            message: format!(
                "expected finite rewards, as many weights ≥ 0 that add up to 1, and a number η; got {} rewards, {} weights \
                 that add up to {sum}, η {eta}",
                rewards.len(),
                weights.len()
            ),
        });
    }
    let held = || rewards.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    let mean = || held().map(|(reward, weight)| reward * weight).sum::<f64>() / sum;
    if eta == 0.0 {
        return Ok(mean());
    }
    let greatest = held().map(|(reward, _)| *reward).fold(f64::NEG_INFINITY, f64::max);
    let least = held().map(|(reward, _)| *reward).fold(f64::INFINITY, f64::min);
    let top = if eta > 0.0 { greatest } else { least };
    if eta.is_infinite() {
        return Ok(top);
    }
    // Half the second-order term would be below one unit in the last place of the range.
    if eta.abs() * (greatest - least) < f64::EPSILON {
        return Ok(mean());
    }
    let (mut total, mut total_m1) = (0.0, 0.0);
    for (reward, weight) in held() {
        let exponent = eta * (reward - top);
        total += weight / sum * libm::exp(exponent);
        total_m1 += weight / sum * libm::expm1(exponent);
    }
    let log = if total > 0.5 { libm::log1p(total_m1) } else { libm::log(total) };
    Ok((top + log / eta).clamp(least, greatest))
}

/// The expected label of a prefix whose completions end right with probability `p`, from `n` of them: what the plug-in
/// estimate is on average.
///
/// # Errors
/// As [`Estimator::label`]; `Value` if `p` is no probability.
pub fn expected_label(estimator: Estimator, p: f64, n: u32) -> Result<f64> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::Value { key: "p".into(), message: format!("expected a probability, got {p}") });
    }
    let (log_p, log_q) = (libm::log(p), libm::log1p(-p));
    let mut log_choose = 0.0;
    let mut expected = 0.0;
    for hits in 0..=n {
        if hits > 0 {
            log_choose += libm::log(f64::from(n - hits + 1) / f64::from(hits));
        }
        let power = |count: u32, log: f64| if count == 0 { 0.0 } else { f64::from(count) * log };
        let mass = libm::exp(log_choose + power(hits, log_p) + power(n - hits, log_q));
        expected += mass * estimator.label(Tally { hits, of: n })?;
    }
    Ok(expected)
}

/// The bias of the entropic plug-in label to first order in 1/K: `−p(1−p)(e^η − 1)² / (2ηK(1 − p + p e^η)²)`. Low for η > 0.
/// (Delta method; ER-PRM does not say it.)
#[must_use]
pub fn plug_in_bias(p: f64, n: u32, eta: f64) -> f64 {
    if eta == 0.0 {
        return 0.0;
    }
    let rise = libm::expm1(eta);
    let slope = rise / (1.0 + p * rise);
    -p * (1.0 - p) * slope * slope / (2.0 * eta * f64::from(n))
}

#[cfg(test)]
mod tests;
