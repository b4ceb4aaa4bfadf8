//! Scales on which accuracies of two groups lie about a line: probit and logit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an accuracy becomes a coordinate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Φ⁻¹(accuracy).
    #[default]
    Probit,
    /// ln(accuracy / (1 − accuracy)).
    Logit,
}

impl Scale {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probit => "probit",
            Self::Logit => "logit",
        }
    }

    /// The coordinate of an accuracy in [0, 1]. Neither scale has a place for 0 and 1: an accuracy below `least` counts as `least`, and one
    /// above 1 − `least` as that. `least`, in (0, 1/2), is half the smallest step that the accuracy can take.
    #[must_use]
    pub fn z(self, accuracy: f64, least: f64) -> f64 {
        let p = accuracy.clamp(least, 1.0 - least);
        match self {
            Self::Probit => quantile(p),
            Self::Logit => libm::log(p / (1.0 - p)),
        }
    }

    /// The accuracy at a coordinate, in (0, 1).
    #[must_use]
    pub fn accuracy(self, z: f64) -> f64 {
        match self {
            Self::Probit => normal(z),
            Self::Logit => 1.0 / (1.0 + libm::exp(-z)),
        }
    }
}

/// Φ(z), the standard normal distribution.
#[must_use]
pub fn normal(z: f64) -> f64 {
    0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// Φ⁻¹(p) for p in (0, 1), to about 1e-15 of z: a rational start (Abramowitz and Stegun 1964, 26.2.23) and three steps of Halley's method.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let t = libm::sqrt(-2.0 * libm::log(p));
    let over = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let under = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut z = over / under - t;
    for _ in 0..3 {
        let step = (normal(z) - p) * libm::sqrt(std::f64::consts::TAU) * libm::exp(0.5 * z * z);
        z -= step / (1.0 + 0.5 * z * step);
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From scipy 1.17: `scipy.stats.norm.ppf([0.5, 0.8413447460685429, 0.9, 0.3695, 1e-6, 1e-12, 0.99995])`.
    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (p, z) in [
            (0.5, 0.0),
            (0.841_344_746_068_542_9, 1.0),
            (0.9, 1.281_551_565_544_600_4),
            (0.3695, -0.333_177_899_030_596_6),
            (1e-6, -4.753_424_308_822_899),
            (1e-12, -7.034_483_825_301_131),
            (0.999_95, 3.890_591_886_413_120_4),
        ] {
            assert!((quantile(p) - z).abs() < 1e-12, "{p}: {} for {z}", quantile(p));
            assert!((normal(z) / p - 1.0).abs() < 1e-9, "{z}: {} for {p}", normal(z));
        }
        for at in 1..1000 {
            let p = f64::from(at) / 1000.0;
            assert!((normal(quantile(p)) - p).abs() < 1e-14, "{p}");
        }
    }

    #[test]
    fn the_papers_gridlines_are_probit_not_logit() {
        // Gridlines at 60, 70, 80 and 90 lie 126, 147 and 205 pixels apart.
        let gaps = |scale: Scale| {
            let z = [0.6, 0.7, 0.8, 0.9].map(|p| scale.z(p, 1e-9));
            let unit = (z[1] - z[0]) / 126.0;
            [(z[2] - z[1]) / unit, (z[3] - z[2]) / unit]
        };
        let close = |got: [f64; 2], want: [f64; 2]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.1);
        assert!(close(gaps(Scale::Probit), [147.4, 204.5]), "{:?}", gaps(Scale::Probit));
        assert!(close(gaps(Scale::Logit), [153.7, 231.3]), "{:?}", gaps(Scale::Logit));
    }

    #[test]
    fn accuracies_of_nothing_and_everything_count_as_half_a_step_off() {
        for scale in [Scale::Probit, Scale::Logit] {
            assert_eq!(scale.z(0.0, 0.005), scale.z(0.005, 0.005));
            assert!((scale.z(1.0, 0.005) + scale.z(0.0, 0.005)).abs() < 1e-12);
            assert!(scale.z(1.0, 0.005).is_finite());
            for p in [0.01, 0.37, 0.5, 0.99] {
                assert!((scale.accuracy(scale.z(p, 0.005)) - p).abs() < 1e-14);
            }
        }
    }
}
