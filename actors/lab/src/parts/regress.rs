//! Least squares with an intercept, by QR: coefficients, standard errors, R²; and intervals by drawing whole clusters anew.
//!
//! Invariants: columns that do not tell their coefficients apart are an error, never a pseudo-inverse; a resample in which they
//! do not is counted and left out.

use nalgebra::{DMatrix, DVector};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::parts::evaluate::{Estimate, interval};

/// Columns whose part that no other column explains is less than this share of them are taken for copies.
const ALIKE: f64 = 1e-10;
/// What stands for 0 in a continued fraction.
const TINY: f64 = 1e-300;
/// Least share of resamples that must have a fit for an interval to be read.
const ENOUGH: f64 = 0.9;

/// A fitted line.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// One a column.
    pub coefficients: Vec<f64>,
    /// Standard errors of them, under independent errors of one variance.
    pub errors: Vec<f64>,
    /// The value where all columns are 0.
    pub intercept: f64,
    /// The share of the variance of y that is explained, in [0, 1].
    pub r_squared: f64,
    /// Rows less coefficients and intercept.
    pub df: usize,
}

impl Fit {
    /// Two-sided p of a coefficient under Student's t with [`Fit::df`] degrees of freedom.
    #[must_use]
    pub fn p_value(&self, column: usize) -> f64 {
        student_p(self.coefficients[column] / self.errors[column], self.df as f64)
    }
}

/// `y = Σ b_c x_c + b₀` by least squares. `y`: f64 `[n]`; `columns`: f64 `[n]` each; n above columns + 1.
///
/// # Errors
/// `Value` for lengths that differ, numbers that are not finite, too few rows, a y that never changes, or columns that do not
/// tell their coefficients apart.
pub fn fit(y: &[f64], columns: &[&[f64]]) -> Result<Fit> {
    let wrong = |message: String| Error::Value { key: "regression".into(), message };
    let (n, n_columns) = (y.len(), columns.len());
    if n <= n_columns + 1 {
        return Err(wrong(format!("expected more than {} rows, got {n}", n_columns + 1)));
    }
    for (at, column) in columns.iter().enumerate() {
        if column.len() != n {
            return Err(wrong(format!("column {at}: expected {n} rows, got {}", column.len())));
        }
    }
    if columns.iter().copied().chain([y]).flatten().any(|x| !x.is_finite()) {
        return Err(wrong("expected finite numbers".into()));
    }
    // Centred, so that the intercept takes no part in the conditioning.
    let means: Vec<f64> = columns.iter().map(|column| mean(column)).collect();
    let x = DMatrix::from_fn(n, n_columns, |row, at| columns[at][row] - means[at]);
    let middle = mean(y);
    let centred = DVector::from_fn(n, |row, _| y[row] - middle);
    let total = centred.norm_squared();
    if total == 0.0 {
        return Err(wrong("expected a y that changes, got one value".into()));
    }
    let qr = x.clone().qr();
    let r = qr.r();
    for at in 0..n_columns {
        let length = x.column(at).norm();
        if r[(at, at)].abs() <= ALIKE * length || length == 0.0 {
            return Err(wrong(format!("column {at}: expected one that changes and is no mixture of the others")));
        }
    }
    let right = qr.q().transpose() * &centred;
    let solve = |right: &DVector<f64>| r.solve_upper_triangular(right);
    let singular = || Error::Internal("a triangle without a zero could not be solved".into());
    let b = solve(&right).ok_or_else(singular)?;
    let rest = (&centred - &x * &b).norm_squared();
    let df = n - n_columns - 1;
    let variance = rest / df as f64;
    // (XᵀX)⁻¹ = R⁻¹ R⁻ᵀ: its diagonal is the squared length of the rows of R⁻¹.
    let mut squares = vec![0.0; n_columns];
    for at in 0..n_columns {
        let unit = DVector::from_fn(n_columns, |row, _| f64::from(u8::from(row == at)));
        let column = solve(&unit).ok_or_else(singular)?;
        squares.iter_mut().zip(column.iter()).for_each(|(square, x)| *square += x * x);
    }
    let coefficients: Vec<f64> = b.iter().copied().collect();
    Ok(Fit {
        intercept: middle - coefficients.iter().zip(&means).map(|(b, mean)| b * mean).sum::<f64>(),
        errors: squares.iter().map(|square| (variance * square).sqrt()).collect(),
        r_squared: (1.0 - rest / total).clamp(0.0, 1.0),
        coefficients,
        df,
    })
}

/// Numbers less their mean, over their standard deviation (n − 1).
///
/// # Errors
/// `Value` for fewer than two, or if they do not change.
pub fn z_scores(x: &[f64]) -> Result<Vec<f64>> {
    let middle = mean(x);
    let deviation = (x.iter().map(|x| (x - middle).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0)).sqrt();
    if !(deviation > 0.0 && deviation.is_finite()) {
        let message = format!("expected at least two finite numbers that differ, got {} of one value", x.len());
        return Err(Error::Value { key: "z-scores".into(), message });
    }
    Ok(x.iter().map(|x| (x - middle) / deviation).collect())
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// What a statistic is over resamples of clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustered {
    /// Its numbers with 95 % percentile intervals.
    pub estimates: Vec<Estimate>,
    /// Resamples it could not be computed on, which are in no interval.
    pub n_degenerate: u32,
}

/// A statistic of rows, with intervals from drawing whole clusters anew, with replacement: rows of one cluster share what made
/// them and are no independent evidence. `clusters[row]` names the row's cluster; `statistic` is given places of rows and has
/// nothing to say of some draws. None if it has nothing to say of all rows, or of more than a tenth of the draws.
///
/// Source: Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference with clustered errors", pairs cluster
/// bootstrap.
pub fn clustered(
    clusters: &[usize],
    n_resamples: u32,
    stream: &mut ChaCha8Rng,
    statistic: impl Fn(&[usize]) -> Option<Vec<f64>>,
) -> Option<Clustered> {
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    for (row, cluster) in clusters.iter().enumerate() {
        members.entry(*cluster).or_default().push(row);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let all: Vec<usize> = (0..clusters.len()).collect();
    let values = statistic(&all)?;
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(n_resamples as usize);
    for _ in 0..n_resamples {
        let draws = (0..members.len()).map(|_| &members[stream.random_range(0..members.len())]);
        let rows: Vec<usize> = draws.flatten().copied().collect();
        found.extend(statistic(&rows).filter(|found| found.len() == values.len()));
    }
    if found.is_empty() || (found.len() as f64) < ENOUGH * f64::from(n_resamples) {
        return None;
    }
    let n_degenerate = n_resamples - found.len() as u32;
    let estimate = |at: usize| interval(values[at], found.iter().map(|found| found[at]).collect());
    Some(Clustered { estimates: (0..values.len()).map(estimate).collect(), n_degenerate })
}

/// P(|T| ≥ |t|) for Student's T with `df` degrees of freedom, in [0, 1].
///
/// Source: Abramowitz & Stegun 1964, 26.7.1: the regularised incomplete beta function at df/(df + t²).
#[must_use]
pub fn student_p(t: f64, df: f64) -> f64 {
    incomplete_beta(df / (df + t * t), 0.5 * df, 0.5)
}

/// `I_x(a, b)`, by its continued fraction (Abramowitz & Stegun 1964, 26.5.8), in Lentz's way.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // It ends fast on one side of the mean alone.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..300 {
        let m = f64::from(step);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / away(1.0 + numerator * d);
            c = away(1.0 + numerator / c);
            fraction *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    let front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x);
    libm::exp(front) * fraction / a
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| stream.random_range(-1.0..1.0)).collect()
    }

    /// numpy 2.4.6: `X = np.c_[x1, x2, np.ones(6)]; b, rss, *_ = np.linalg.lstsq(X, y)`, errors from
    /// `np.sqrt(rss / 3 * np.diag(np.linalg.inv(X.T @ X)))`.
    #[test]
    fn a_fit_is_that_of_numpy() {
        let (x1, x2) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 3.0, 7.0, 5.0]);
        let y = [3.1, 3.9, 7.2, 7.8, 12.5, 11.1];
        let found = fit(&y, &[&x1, &x2]).unwrap();
        let got = [found.coefficients.as_slice(), &[found.intercept], &found.errors, &[found.r_squared]].concat();
        let expected = [1.083_588_62, 0.889_824_95, 0.544_748_36, 0.163_337_09, 0.141_454_07, 0.992_577_74];
        assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-7), "{got:?}");
        assert_eq!(found.df, 3);
    }

    #[test]
    fn a_line_is_found_exactly_and_explains_all() {
        let (x1, x2) = (noise(30, 1), noise(30, 2));
        let y: Vec<f64> = x1.iter().zip(&x2).map(|(a, b)| 2.0 * a - 3.0 * b + 0.5).collect();
        let found = fit(&y, &[&x1, &x2]).unwrap();
        for (got, expected) in found.coefficients.iter().chain([&found.intercept]).zip([2.0, -3.0, 0.5]) {
            assert!((got - expected).abs() < 1e-12, "{found:?}");
        }
        assert!(found.r_squared > 1.0 - 1e-12 && found.errors.iter().all(|error| *error < 1e-12));
    }

    #[test]
    fn z_scored_regressors_have_equal_standard_errors_and_others_the_ratio_of_their_deviations() {
        let (q, rest, error) = (noise(70, 3), noise(70, 4), noise(70, 5));
        // Correlated, of other spreads.
        let d: Vec<f64> = q.iter().zip(&rest).map(|(q, rest)| 40.0 * (0.6 * q + rest)).collect();
        let t: Vec<f64> = q.iter().zip(&d).zip(&error).map(|((q, d), e)| 3.0 * q + 0.01 * d + e).collect();
        let (zq, zd) = (z_scores(&q).unwrap(), z_scores(&d).unwrap());
        let scored = fit(&t, &[&zq, &zd]).unwrap();
        assert!((scored.errors[0] / scored.errors[1] - 1.0).abs() < 1e-12, "{scored:?}");
        // The published tables have one error a row: so their regressors had one variance.
        let raw = fit(&t, &[&q, &d]).unwrap();
        let deviation = |x: &[f64], z: &[f64]| (x[1] - x[0]) / (z[1] - z[0]);
        let ratio = deviation(&d, &zd) / deviation(&q, &zq);
        assert!((raw.errors[0] / raw.errors[1] / ratio - 1.0).abs() < 1e-9);
        assert!(ratio > 20.0);
        // What is explained does not hang on units.
        assert!((raw.r_squared - scored.r_squared).abs() < 1e-12);
        // The error is σ / √((n − 1)(1 − r²)).
        let r = zq.iter().zip(&zd).map(|(a, b)| a * b).sum::<f64>() / 69.0;
        let fitted = |i: usize| scored.intercept + scored.coefficients[0] * zq[i] + scored.coefficients[1] * zd[i];
        let sigma = ((0..70).map(|i| (t[i] - fitted(i)).powi(2)).sum::<f64>() / 67.0).sqrt();
        assert!((scored.errors[0] - sigma / (69.0 * (1.0 - r * r)).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn columns_that_say_the_same_are_refused() {
        let x = noise(10, 6);
        let twice: Vec<f64> = x.iter().map(|x| 2.0 * x + 1.0).collect();
        let y = noise(10, 7);
        for (y, columns, said) in [
            (y.as_slice(), vec![x.as_slice(), &twice], "column 1"),
            (&y, vec![&[1.0; 10]], "column 0"),
            (&[0.5; 10], vec![x.as_slice()], "one value"),
            (&y[..3], vec![&x[..3], &twice[..3]], "more than 3 rows"),
            (&y, vec![&x[..9]], "10 rows"),
        ] {
            let error = fit(y, &columns).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
        let mut holed = x.clone();
        holed[3] = f64::NAN;
        assert!(fit(&y, &[&holed]).unwrap_err().to_string().contains("finite"));
        assert!(z_scores(&[1.0; 4]).is_err() && z_scores(&[1.0]).is_err() && z_scores(&[]).is_err());
        assert_eq!(z_scores(&[1.0, 2.0, 3.0]).unwrap(), [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn students_p_has_its_known_values() {
        // The β of CRUX, 1.421 with an error of 0.459 at 67 degrees of freedom: about .003, where the table says below .001.
        let p = student_p(1.421 / 0.459, 67.0);
        assert!((p - 0.002_864_14).abs() < 1e-8, "{p}");
        // Quantiles of standard tables.
        for (t, df) in [(12.706, 1.0), (2.776, 4.0), (2.228, 10.0), (1.960, 1e7)] {
            assert!((student_p(t, df) - 0.05).abs() < 5e-5, "{t} {df}: {}", student_p(t, df));
        }
        assert_eq!(student_p(0.0, 5.0), 1.0);
        assert!((student_p(-3.0, 9.0) - student_p(3.0, 9.0)).abs() < 1e-15);
    }

    #[test]
    fn clusters_are_drawn_whole() {
        let mut stream = ChaCha8Rng::seed_from_u64(8);
        // Ten rows a cluster, all alike: the mean of 4 clusters is as uncertain as that of 4 rows.
        let clusters: Vec<usize> = (0..40).map(|row| row / 10).collect();
        let values: Vec<f64> = clusters.iter().map(|cluster| (cluster % 2) as f64).collect();
        let average = |rows: &[usize]| Some(vec![rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64]);
        let whole = clustered(&clusters, 2000, &mut stream, average).unwrap();
        let alone = clustered(&(0..40).collect::<Vec<_>>(), 2000, &mut stream, average).unwrap();
        let width = |found: &Clustered| found.estimates[0].high - found.estimates[0].low;
        assert_eq!((whole.estimates[0].value, whole.n_degenerate), (0.5, 0));
        assert_eq!(width(&whole), 1.0);
        assert!((width(&alone) - 2.0 * 1.96 * 0.5 / 40f64.sqrt()).abs() < 0.05, "{alone:?}");
        // Draws that say nothing are counted; too many of them leave no interval.
        let picky = |rows: &[usize]| rows.iter().any(|row| *row < 10).then(|| vec![1.0]);
        assert!(clustered(&clusters, 400, &mut stream, picky).is_none());
        let some = |rows: &[usize]| rows.iter().any(|row| *row < 20).then(|| vec![1.0]);
        let found = clustered(&clusters, 400, &mut stream, some).unwrap();
        assert!((5..=40).contains(&found.n_degenerate), "{found:?}");
        assert!(clustered(&clusters, 400, &mut stream, |_| None).is_none());
    }
}
