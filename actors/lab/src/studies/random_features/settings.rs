//! What a plan of `random_features` may say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, INFINITE, Shape};
use crate::error::Result;
use crate::plan::{Settings, require};

/// Settings of the study `random_features`: a grid over all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomFeatures {
    /// Data and how it shifts.
    pub data: DataSettings,
    /// The networks.
    pub nets: NetSettings,
    /// How they are fitted.
    pub solve: SolveSettings,
}

/// Data: x has one strong coordinate and a long tail, y is the strong one with noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Examples and coordinates, `[n, p]` each.
    pub sizes: Vec<[u32; 2]>,
    /// Variance of the first coordinate, λ₁.
    pub lambda: f64,
    /// Total variance of the others, t; each has t/p.
    pub tail: f64,
    /// Standard deviations of the noise of y.
    pub sigmas: Vec<f64>,
    /// Strengths τ of the shift, whose coordinates have variance τ/p; empty for p/n.
    pub taus: Vec<f64>,
    /// Points that losses are measured at.
    pub n_test: u32,
    /// Seeds of data and networks.
    pub seeds: Vec<u32>,
}

/// The networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetSettings {
    /// Widths, as multiples of n.
    pub widths: Vec<u32>,
    /// The widest network of each of `data.sizes`, as a multiple of n; empty for none beside `widths`.
    pub widest: Vec<u32>,
    /// Ensembles, `[members, width of each as a multiple of n]`; single networks of as many units are added.
    pub ensembles: Vec<[u32; 2]>,
    /// Whether the network of infinitely many units is measured too, by its kernel in closed form; infinite ensembles are the same.
    pub limit: bool,
}

/// How networks are fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SolveSettings {
    /// The penalty μ; 0 for the solution of least norm.
    pub ridge: f64,
    /// Greatest residual, relative to y, of a solution that interpolates.
    pub max_residual: f64,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            sizes: vec![[50, 1000], [100, 2828], [200, 8000]],
            lambda: 10.0,
            tail: 1.0,
            sigmas: vec![0.5],
            taus: vec![],
            n_test: 400,
            seeds: (1..=6).collect(),
        }
    }
}

impl Default for NetSettings {
    fn default() -> Self {
        Self { widths: vec![2, 4, 8, 16], widest: vec![64, 64, 48], ensembles: vec![[4, 4], [8, 2]], limit: true }
    }
}

impl Default for SolveSettings {
    fn default() -> Self {
        Self { ridge: 0.0, max_residual: 1e-6 }
    }
}

/// Numbers a cell may hold at once: 4 GiB.
const MAX_NUMBERS: u64 = 1 << 30;

impl Settings for RandomFeatures {
    fn smoke() -> Self {
        Self {
            data: DataSettings {
                sizes: vec![[12, 80], [24, 226]],
                n_test: 60,
                seeds: vec![1, 2, 3],
                ..DataSettings::default()
            },
            nets: NetSettings { widths: vec![2, 4, 8], widest: vec![], ensembles: vec![[2, 4]], limit: true },
            ..Self::default()
        }
    }

    fn check(&self) -> Result<()> {
        let DataSettings { sizes, lambda, tail, sigmas, taus, n_test, seeds } = &self.data;
        require(!sizes.is_empty(), "data.sizes", "a pair `[n, p]` at least", "[]")?;
        for size in sizes {
            let [n, p] = *size;
            require(n >= 2 && p >= 2, "data.sizes", "two examples and two coordinates at least", format!("{size:?}"))?;
        }
        let positive = |x: &f64| x.is_finite() && *x > 0.0;
        let at_least_zero = |x: &f64| x.is_finite() && *x >= 0.0;
        require(positive(lambda), "data.lambda", "a number above 0", lambda)?;
        require(at_least_zero(tail), "data.tail", "a number of at least 0", tail)?;
        require(!sigmas.is_empty(), "data.sigmas", "a number at least", "[]")?;
        for (key, numbers) in [("data.sigmas", sigmas), ("data.taus", taus)] {
            for x in numbers {
                require(at_least_zero(x), key, "numbers of at least 0", x)?;
            }
            let distinct = numbers.iter().map(|x| x.to_bits()).collect::<std::collections::BTreeSet<_>>().len();
            require(distinct == numbers.len(), key, "distinct numbers", format!("{numbers:?}"))?;
        }
        require(*n_test > 0, "data.n_test", "a point at least", n_test)?;
        let distinct = seeds.iter().collect::<std::collections::BTreeSet<_>>().len();
        require(
            distinct == seeds.len() && distinct > 0,
            "data.seeds",
            "distinct seeds, one at least",
            format!("{seeds:?}"),
        )?;
        let NetSettings { widths, widest, ensembles, limit: _ } = &self.nets;
        require(!widths.is_empty(), "nets.widths", "a width at least", "[]")?;
        require(
            widths.iter().chain(widest).all(|w| *w > 0),
            "nets.widths",
            "multiples of n above 0",
            format!("{widths:?}, {widest:?}"),
        )?;
        require(widths.is_sorted_by(|a, b| a < b), "nets.widths", "ascending multiples of n", format!("{widths:?}"))?;
        let as_many = widest.is_empty() || widest.len() == sizes.len();
        require(
            as_many,
            "nets.widest",
            &format!("{} widths, one for each of `data.sizes`", sizes.len()),
            format!("{widest:?}"),
        )?;
        let whole = ensembles.iter().all(|[members, width]| *members > 1 && *width > 0);
        require(whole, "nets.ensembles", "two members at least, of widths above 0", format!("{ensembles:?}"))?;
        let SolveSettings { ridge, max_residual } = &self.solve;
        require(at_least_zero(ridge), "solve.ridge", "a number of at least 0", ridge)?;
        require(positive(max_residual), "solve.max_residual", "a number above 0", max_residual)?;
        for ([n, p], nth) in sizes.iter().zip(0..) {
            for shape in self.shapes(nth).into_iter().filter(|shape| shape.width != INFINITE) {
                let rows = u64::from(*n) + 2 * u64::from(*n_test);
                let numbers = rows.saturating_mul(u64::from(*p) + u64::from(*n) * u64::from(shape.width));
                let got =
                    format!("{rows} rows of {p} coordinates and {} units", u64::from(*n) * u64::from(shape.width));
                require(
                    numbers <= MAX_NUMBERS,
                    "nets.widths",
                    &format!("cells of at most {MAX_NUMBERS} numbers"),
                    got,
                )?;
            }
        }
        Ok(())
    }
}

impl RandomFeatures {
    /// Networks and ensembles of the size with this place, single ones first.
    pub(super) fn shapes(&self, size: usize) -> Vec<Shape> {
        let NetSettings { widths, widest, ensembles, limit } = &self.nets;
        let equal = ensembles.iter().flat_map(|[members, width]| [*width, members.saturating_mul(*width)]);
        let mut single: Vec<u32> = widths.iter().copied().chain(widest.get(size).copied()).chain(equal).collect();
        single.sort_unstable();
        single.dedup();
        single.extend(limit.then_some(INFINITE));
        let single = single.into_iter().map(|width| Shape { members: 1, width });
        single.chain(ensembles.iter().map(|[members, width]| Shape { members: *members, width: *width })).collect()
    }

    /// Every cell of the grid but for its seed.
    pub(super) fn grid(&self) -> Vec<Cell> {
        let DataSettings { sizes, sigmas, taus, .. } = &self.data;
        let mut all = Vec::new();
        for (nth, [n, p]) in sizes.iter().enumerate() {
            let of_size = [f64::from(*p) / f64::from(*n)];
            for tau in if taus.is_empty() { &of_size } else { taus.as_slice() } {
                for sigma in sigmas {
                    let cell = |shape| Cell { n: *n, p: *p, shape, tau: *tau, sigma: *sigma };
                    all.extend(self.shapes(nth).into_iter().map(cell));
                }
            }
        }
        all
    }
}
