//! What is optimised, and the points that are compared.

use crate::error::{Error, Result};

/// The most objectives a point may have.
pub const MAX_OBJECTIVES: usize = 6;

/// Which end of an objective is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// More is better.
    Maximise,
    /// Less is better.
    Minimise,
}

impl Direction {
    /// `maximise` or `minimise`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maximise => "maximise",
            Self::Minimise => "minimise",
        }
    }

    /// What stands behind a name on an axis.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Maximise => "(↑ maximise)",
            Self::Minimise => "(↓ minimise)",
        }
    }

    /// The value as a cost: less is better, and there is one zero.
    pub(crate) fn cost(self, value: f64) -> f64 {
        // Adding zero turns −0 into +0, so that equal numbers have equal bits.
        match self {
            Self::Maximise => -value + 0.0,
            Self::Minimise => value + 0.0,
        }
    }
}

impl std::str::FromStr for Direction {
    type Err = Error;

    /// `max`, `maximise`, `maximize` and the same for `min`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "max" | "maximise" | "maximize" => Ok(Self::Maximise),
            "min" | "minimise" | "minimize" => Ok(Self::Minimise),
            _ => Err(Error::Direction(text.to_owned())),
        }
    }
}

/// A number that is to be made large or small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// Its name, as on axes and in headers.
    pub name: String,
    /// Which end is better.
    pub direction: Direction,
}

impl Objective {
    /// An objective of which more is better.
    #[must_use]
    pub fn maximise(name: &str) -> Self {
        Self { name: name.to_owned(), direction: Direction::Maximise }
    }

    /// An objective of which less is better.
    #[must_use]
    pub fn minimise(name: &str) -> Self {
        Self { name: name.to_owned(), direction: Direction::Minimise }
    }
}

/// Points in the space of some objectives: n rows of m numbers, none of them NaN.
///
/// Infinite values are allowed: they compare as numbers do, so `−∞` is the best value of an objective that is minimised.
/// `−0` and `+0` are equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    directions: Vec<Direction>,
    /// Less is better, `[n, m]`, row by row.
    costs: Vec<f64>,
}

impl Points {
    /// Points of `directions.len()` objectives; `values` is `[n, m]`, row by row.
    ///
    /// # Errors
    /// `Objectives` if m is not in 1..=6, `Length` if `values` is not a whole number of rows, `NotANumber` naming the
    /// first point and objective that is NaN.
    pub fn new(directions: &[Direction], mut values: Vec<f64>) -> Result<Self> {
        let m = directions.len();
        if !(1..=MAX_OBJECTIVES).contains(&m) {
            return Err(Error::Objectives(m));
        }
        if !values.len().is_multiple_of(m) {
            return Err(Error::Length { values: values.len(), objectives: m });
        }
        if u32::try_from(values.len() / m).is_err() {
            return Err(Error::TooMany(values.len() / m));
        }
        let has_nan = match m {
            1 => turn::<1>(&mut values, directions),
            2 => turn::<2>(&mut values, directions),
            3 => turn::<3>(&mut values, directions),
            4 => turn::<4>(&mut values, directions),
            5 => turn::<5>(&mut values, directions),
            _ => turn::<6>(&mut values, directions),
        };
        if has_nan {
            let at = values.iter().position(|v| v.is_nan()).unwrap_or(0);
            return Err(Error::NotANumber { point: at / m, objective: at % m });
        }
        Ok(Self { directions: directions.to_vec(), costs: values })
    }

    /// Number of points, n.
    #[must_use]
    pub fn len(&self) -> usize {
        self.costs.len() / self.directions.len()
    }

    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.costs.is_empty()
    }

    /// The directions, `[m]`.
    #[must_use]
    pub fn directions(&self) -> &[Direction] {
        &self.directions
    }

    /// Number of objectives, m.
    pub(crate) fn m(&self) -> usize {
        self.directions.len()
    }

    /// All values as costs (less is better), `[n, m]`.
    pub(crate) fn costs(&self) -> &[f64] {
        &self.costs
    }

    /// One point as costs, `[m]`.
    pub(crate) fn cost(&self, point: usize) -> &[f64] {
        let m = self.m();
        &self.costs[point * m..][..m]
    }

    /// The same points without those that are not wanted; `keep` is `[n]`.
    pub(crate) fn select(&self, keep: &[u32]) -> Self {
        let mut costs = Vec::with_capacity(keep.len() * self.m());
        for point in keep {
            costs.extend_from_slice(self.cost(*point as usize));
        }
        Self { directions: self.directions.clone(), costs }
    }
}

/// Turns values into costs, in one pass without branches. Whether one of them is NaN.
fn turn<const M: usize>(values: &mut [f64], directions: &[Direction]) -> bool {
    let mut sign = [1.0; M];
    for (sign, direction) in sign.iter_mut().zip(directions) {
        if *direction == Direction::Maximise {
            *sign = -1.0;
        }
    }
    let mut has_nan = false;
    for row in values.as_chunks_mut::<M>().0 {
        for k in 0..M {
            has_nan |= row[k].is_nan();
            row[k] = row[k] * sign[k] + 0.0;
        }
    }
    has_nan
}
