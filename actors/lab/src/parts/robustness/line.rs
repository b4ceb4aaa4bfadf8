//! Lines through models' accuracies, and how far others lie from them.

use super::scale::Scale;

/// A straight line by least squares: y = intercept + slope · x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// a.
    pub intercept: f64,
    /// b.
    pub slope: f64,
    /// The share of the variance of y that it explains, in [0, 1]; 1 where all y are equal.
    pub r2: f64,
    /// Points it goes through, or by.
    pub n: usize,
}

impl Line {
    /// The line through points `[x, y]`; `None` for fewer than two distinct x, which no line is told by.
    #[must_use]
    pub fn through(points: impl Iterator<Item = [f64; 2]> + Clone) -> Option<Self> {
        let n = points.clone().count();
        let mean = |of: usize| points.clone().map(|point| point[of]).sum::<f64>() / n as f64;
        let (x_mean, y_mean) = (mean(0), mean(1));
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for [x, y] in points {
            let (x, y) = (x - x_mean, y - y_mean);
            xx += x * x;
            xy += x * y;
            yy += y * y;
        }
        // Of equal x nothing but rounding is left.
        if n < 2 || xx <= 1e-24 * (n as f64) * (1.0 + x_mean * x_mean) {
            return None;
        }
        let r2 = if yy > 0.0 { (xy * xy / (xx * yy)).min(1.0) } else { 1.0 };
        Some(Self { intercept: y_mean - xy / xx * x_mean, slope: xy / xx, r2, n })
    }

    /// y at x.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

/// The lines through all points but one, in the order of the points.
#[must_use]
pub fn leave_one_out(points: &[[f64; 2]]) -> Vec<Option<Line>> {
    let but = |left: usize| points.iter().enumerate().filter(move |(at, _)| *at != left).map(|(_, point)| *point);
    (0..points.len()).map(|left| Line::through(but(left))).collect()
}

/// Effective robustness: what a model gets right of the counter group beyond what the line says of a model as good as it on the common
/// group, `counter − S⁻¹(a + b · S(common))`. Accuracies are shares, and so is the result. `least` is that of [`Scale::z`].
#[must_use]
pub fn effective(line: &Line, scale: Scale, [common, counter]: [f64; 2], least: f64) -> f64 {
    counter - scale.accuracy(line.at(scale.z(common, least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[[f64; 2]]) -> Option<Line> {
        Line::through(points.iter().copied())
    }

    #[test]
    fn a_line_is_that_of_least_squares() {
        // By hand: means 2 and 3, Σxx 2, Σxy 3, Σyy 14/3... of (1, 2), (2, 2), (3, 5).
        let found = line(&[[1.0, 2.0], [2.0, 2.0], [3.0, 5.0]]).unwrap();
        assert!((found.slope - 1.5).abs() < 1e-14 && found.intercept.abs() < 1e-14, "{found:?}");
        assert!((found.r2 - 9.0 / (2.0 * 6.0)).abs() < 1e-14 && found.n == 3, "{found:?}");
        assert_eq!(line(&[[1.0, 2.0], [2.0, 2.0]]).unwrap().r2, 1.0);
    }

    #[test]
    fn one_model_and_equally_good_models_have_no_line() {
        assert_eq!(line(&[]), None);
        assert_eq!(line(&[[1.0, 2.0]]), None);
        assert_eq!(line(&[[0.3, 2.0], [0.3, 5.0], [0.3, 1.0]]), None);
        assert_eq!(leave_one_out(&[[1.0, 1.0], [2.0, 1.0]]), [None, None]);
    }

    #[test]
    fn leaving_one_out_is_fitting_the_rest() {
        let points = [[0.1, 0.2], [0.5, 0.4], [0.9, 0.1], [1.4, 1.0]];
        for (left, found) in leave_one_out(&points).into_iter().enumerate() {
            let mut rest = points.to_vec();
            rest.remove(left);
            assert_eq!(found, line(&rest));
        }
    }

    #[test]
    fn a_model_on_the_line_has_no_effective_robustness() {
        let line = Line { intercept: -0.6, slope: 1.2, r2: 1.0, n: 2 };
        for scale in [Scale::Probit, Scale::Logit] {
            let counter = scale.accuracy(line.at(scale.z(0.8, 1e-4)));
            assert!(effective(&line, scale, [0.8, counter], 1e-4).abs() < 1e-15);
            assert!((effective(&line, scale, [0.8, counter + 0.05], 1e-4) - 0.05).abs() < 1e-12);
        }
    }
}
