//! Robustness of classifiers to what is beside the class: class-balanced accuracy on a common and a counter group, the drop between them,
//! and effective robustness, which is what is left of it once the accuracy is matched.
//!
//! Paper: Wang et al. 2024, "A Sober Look at the Robustness of CLIPs to Spurious Features" (arXiv 2403.11497); effective robustness:
//! Taori et al. 2020. The paper draws its lines on probit axes and prints none of their numbers.

mod compare;
mod grid;
mod line;
mod scale;
mod suspects;

pub use compare::{Compared, Comparison};
pub use grid::{Grid, Group, OfClass};
pub use line::{Line, effective, leave_one_out};
pub use scale::{Scale, normal, quantile};
pub use suspects::{Cells, Kind, Suspect, suspects};
