//! What can go wrong with fronts, by what the caller can do about it.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of points, fronts and their files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too few or too many objectives.
    #[error("expected 1 to 6 objectives, got {0}")]
    Objectives(usize),
    /// Two objectives have one name.
    #[error("expected objectives with different names, got `{0}` twice")]
    SameName(String),
    /// No direction.
    #[error("expected `max` or `min`, got `{0}`")]
    Direction(String),
    /// The values are no whole number of points.
    #[error("expected a multiple of {objectives} values (one an objective), got {values}")]
    Length {
        /// How many came.
        values: usize,
        /// Objectives of a point.
        objectives: usize,
    },
    /// More points than can be counted in 32 bits.
    #[error("expected at most 4294967295 points, got {0}")]
    TooMany(usize),
    /// A value is NaN.
    #[error("expected numbers, got NaN at point {point}, objective {objective}")]
    NotANumber {
        /// Counted from 0.
        point: usize,
        /// Counted from 0.
        objective: usize,
    },
    /// The reference point does not fit.
    #[error("expected a reference point of {expected} finite numbers, got {got:?}")]
    Reference {
        /// Objectives of a point.
        expected: usize,
        /// What came.
        got: Vec<f64>,
    },
    /// The widths of ε-dominance do not fit.
    #[error("expected {expected} finite epsilons of at least 0, one an objective, got {got:?}")]
    Epsilon {
        /// Objectives of a point.
        expected: usize,
        /// What came.
        got: Vec<f64>,
    },
    /// A row carries intervals for another number of objectives.
    #[error("expected {expected} intervals or none at `{row}`, got {got}")]
    Intervals {
        /// Which row.
        row: String,
        /// Objectives of a point.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A row carries values for another number of objectives.
    #[error("expected {expected} values at `{row}`, got {got}")]
    Values {
        /// Which row.
        row: String,
        /// Objectives of a point.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// An interval is none.
    #[error("expected an interval from low to high at `{row}`, objective `{objective}`, got {low} to {high}")]
    Interval {
        /// Which row.
        row: String,
        /// Of which number.
        objective: String,
        /// Where it begins.
        low: f64,
        /// Where it ends.
        high: f64,
    },
    /// No format has this name.
    #[error("expected a file name ending in {}, got `{}`", crate::export::EXTENSIONS.join(", "), .0.display())]
    Extension(PathBuf),
    /// A plot could not be drawn.
    #[error("cannot draw the front: {0}")]
    Draw(String),
    /// A table could not be written as Parquet.
    #[error("cannot write the front as Parquet")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// A table could not be written as CSV.
    #[error("cannot write the front as CSV")]
    Csv(#[from] csv::Error),
    /// A table could not be written as JSON.
    #[error("cannot write the front as JSON")]
    Json(#[from] serde_json::Error),
    /// The operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
