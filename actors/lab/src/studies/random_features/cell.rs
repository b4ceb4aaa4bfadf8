//! One cell of the grid: data, networks fitted to it, and their losses within and out of distribution.
//!
//! All randomness is numbers of counter-based streams, which are named by what they are for, the run's seed, the cell's seed and the
//! sizes they depend on: a cell gives the same numbers whatever else is in the grid. Cells that differ in width only share data, noise,
//! shift and the first units; members of an ensemble share all but units.

use std::f64::consts::PI;
use std::sync::Arc;

use nalgebra::{DMatrix, DVector};
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_gpu::{Device, normals};

use super::settings::RandomFeatures;
use crate::error::{Error, Result};
use crate::parts::ridge::{KernelSolution, Solution, predict, solve, solve_kernel};

/// A network, or an ensemble of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) members: u32,
    /// Units of each member, as a multiple of n.
    pub(super) width: u32,
}

/// A point of the grid, for any seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) n: u32,
    pub(super) p: u32,
    pub(super) shape: Shape,
    pub(super) tau: f64,
    pub(super) sigma: f64,
}

/// The width of a network of infinitely many units.
pub(super) const INFINITE: u32 = u32::MAX;

impl Cell {
    /// Units of each member, unless there is no end of them.
    pub(super) fn m(&self) -> Option<usize> {
        (self.shape.width != INFINITE).then(|| self.n as usize * self.shape.width as usize)
    }

    /// Its name, which is that of its stage.
    pub(super) fn name(&self) -> String {
        let Self { n, p, shape, tau, sigma } = self;
        let m = self.m().map_or_else(|| "inf".to_owned(), |m| m.to_string());
        format!("n {n} p {p} m {m} M {} tau {tau:.3} sigma {sigma}", shape.members)
    }

    /// What cells that share their examples have in common.
    pub(super) fn family(&self) -> String {
        let Self { n, p, tau, .. } = self;
        format!("n {n} p {p} tau {tau:.3}")
    }

    /// Whether the examples are the same but for the noise.
    pub(super) fn shares_examples(&self, other: &Self) -> bool {
        [self.n, self.p] == [other.n, other.p] && self.tau.to_bits() == other.tau.to_bits()
    }
}

/// What is measured of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Excess loss within distribution, `E (f(x) − g(x))²`.
    pub(super) id: f64,
    /// Excess loss out of distribution, `E (f(x + δ) − g(x))²`.
    pub(super) ood: f64,
    /// The same against the target of the shifted point, `g(x + δ)`.
    pub(super) ood_moved: f64,
    /// Greatest residual of a member.
    pub(super) residual: f64,
    /// Greatest condition number of a member.
    pub(super) condition: f64,
}

impl Measured {
    /// Names of the numbers, as figures are called.
    pub(super) const NAMES: [&'static str; 5] = ["L_ID", "L_OOD", "L_OOD, moved target", "residual", "condition"];

    /// The numbers, in the order of their names.
    pub(super) fn numbers(&self) -> [f64; 5] {
        [self.id, self.ood, self.ood_moved, self.residual, self.condition]
    }

    /// From the numbers.
    pub(super) fn of([id, ood, ood_moved, residual, condition]: [f64; 5]) -> Self {
        Self { id, ood, ood_moved, residual, condition }
    }
}

/// Cells of one seed that share their examples: n, p and τ are the same.
pub(super) struct Work {
    pub(super) cells: Vec<Cell>,
    pub(super) run_seed: u64,
    pub(super) seed: u32,
}

/// Measures cells.
pub(super) struct Solver {
    device: Device,
    study: Arc<RandomFeatures>,
}

impl Solver {
    /// Starts `n_workers` of them.
    ///
    /// # Errors
    /// Those of starting a pool.
    pub(super) fn start(
        actors: &Handle,
        n_workers: usize,
        device: &Device,
        study: &RandomFeatures,
    ) -> Result<Pool<Self>> {
        let (device, study) = (device.clone(), Arc::new(study.clone()));
        let worker = move |_| Ok(Self { device: device.clone(), study: study.clone() });
        Ok(Pool::start(actors, PoolOptions::cpu("solver", n_workers), worker)?)
    }
}

impl Worker for Solver {
    type Message = Work;
    type Reply = Vec<Measured>;
    type State = u64;

    async fn handle(&mut self, work: Work, turn: &mut Turn<'_, u64>) -> std::result::Result<Vec<Measured>, Fault> {
        let failed = |failed: Box<(Cell, Error)>| {
            let (cell, error) = *failed;
            Fault::input(format!("cell `{}`, seed {}", cell.name(), work.seed)).because(error)
        };
        let measured = self.study.measure(&self.device, &work).map_err(failed)?;
        turn.update(|n_cells| *n_cells += measured.len() as u64);
        Ok(measured)
    }
}

/// The key of a stream: what it is for, and what it depends on.
fn key(purpose: &str, work: &Work, [n, p]: [u32; 2], which: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"random_features/").update(purpose.as_bytes()).update(&[0]).update(&work.run_seed.to_be_bytes());
    for number in [work.seed, n, p, which] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.finalize().as_bytes().iter().take(8).fold(0, |acc, byte| acc << 8 | u64::from(*byte))
}

/// The examples of a seed, and where networks are tested.
struct Examples {
    /// Rows to fit, to test at, and the latter moved: `[n + 2 · n_test, p]`.
    x: Vec<f32>,
    /// The target of each row.
    g: Vec<f64>,
    /// Standard normal noise of the rows to fit.
    noise: Vec<f64>,
}

/// What the members of a cell add up to.
struct Sum {
    y: Vec<f64>,
    /// The mean over members at the points within and out of distribution.
    mean: Vec<f64>,
    residual: f64,
    condition: f64,
}

/// What inner products of rectified features of standard normal units come to as their number grows, between all rows of `x`
/// (`[rows, p]`) and the first `n`: `‖x‖‖x'‖ (sin θ + (π − θ) cos θ) / 2πp`, θ the angle between them; the arc-cosine kernel of
/// first order (Cho and Saul 2009).
fn arc_cosine(device: &Device, x: &[f32], p: usize, n: usize) -> Result<DMatrix<f64>> {
    let products = device.kernels().gram(x, p)?;
    let n_rows = x.len() / p;
    let product = |i: usize, j: usize| f64::from(products[i * n_rows + j]);
    Ok(DMatrix::from_fn(n_rows, n, |i, j| {
        let size = (product(i, i) * product(j, j)).sqrt();
        // A row of zeros has no angle, and a product of 0 with everything.
        let cos = if size > 0.0 { (product(i, j) / size).clamp(-1.0, 1.0) } else { 0.0 };
        let theta = libm::acos(cos);
        size * (libm::sin(theta) + (PI - theta) * cos) / (2.0 * PI * p as f64)
    }))
}

impl RandomFeatures {
    /// Standard normal rows in the proportions of the coordinates.
    fn inputs(&self, key: u64, n_rows: u32, p: usize) -> Vec<f32> {
        let (first, rest) = (self.data.lambda.sqrt() as f32, (self.data.tail / p as f64).sqrt() as f32);
        let row = |row| {
            let mut x = normals(key, row, p);
            x.iter_mut().skip(1).for_each(|x| *x *= rest);
            x.iter_mut().take(1).for_each(|x| *x *= first);
            x
        };
        (0..n_rows).flat_map(row).collect()
    }

    fn examples(&self, work: &Work, Cell { n, p, tau, .. }: Cell) -> Examples {
        let key = |purpose| key(purpose, work, [n, p], 0);
        let width = p as usize;
        let train = self.inputs(key("train"), n, width);
        let test = self.inputs(key("test"), self.data.n_test, width);
        let spread = (tau / width as f64).sqrt() as f32;
        let shift = (0..self.data.n_test).flat_map(|row| normals(key("shift"), row, width));
        let moved: Vec<f32> = test.iter().zip(shift).map(|(x, delta)| x + spread * delta).collect();
        let noise = normals(key("noise"), 0, n as usize).into_iter().map(f64::from).collect();
        let x = [train, test, moved].concat();
        // g(x) = x₁ / √λ₁.
        let g = x.chunks_exact(width).map(|x| f64::from(x[0]) / self.data.lambda.sqrt()).collect();
        Examples { x, g, noise }
    }

    /// Measures cells that share their examples, in their order. The units of a narrow network are the first of a wide one, so that
    /// features are made once for all of them; a cell by itself has the same bits.
    ///
    /// # Errors
    /// Those of the device and of solving, with the cell.
    pub(super) fn measure(
        &self,
        device: &Device,
        work: &Work,
    ) -> std::result::Result<Vec<Measured>, Box<(Cell, Error)>> {
        let Some(first) = work.cells.first().copied() else { return Ok(vec![]) };
        let n = first.n as usize;
        let Examples { x, g, noise } = self.examples(work, first);
        let sum = |cell: &Cell| Sum {
            y: g.iter().zip(&noise).map(|(g, xi)| g + cell.sigma * xi).collect(),
            mean: vec![0.0; x.len() / first.p as usize - n],
            residual: 0.0,
            condition: 0.0,
        };
        let mut sums: Vec<Sum> = work.cells.iter().map(sum).collect();
        for member in 0..work.cells.iter().map(|cell| cell.shape.members).max().unwrap_or(0) {
            let units = |cell: &Cell| cell.m().filter(|_| cell.shape.members > member);
            let Some(widest) = work.cells.iter().copied().max_by_key(units) else { continue };
            let Some(n_units) = units(&widest) else { continue };
            let key = key("units", work, [first.n, first.p], member);
            let made = device.kernels().random_features(&x, first.p as usize, key, n_units);
            let all = made.map_err(|error| Box::new((widest, error.into())))?;
            for (cell, sum) in work.cells.iter().zip(&mut sums) {
                let Some(m) = units(cell) else { continue };
                let scale = (1.0 / (f64::from(first.p) * m as f64).sqrt()) as f32;
                let rows = all.chunks_exact(n_units);
                let phi: Vec<f32> = rows.flat_map(|row| &row[..m]).map(|phi| phi * scale).collect();
                self.add(device, cell, &phi, sum).map_err(|error| Box::new((*cell, error)))?;
            }
        }
        let is_infinite = |(cell, _): &(&Cell, &mut Sum)| cell.m().is_none();
        let mut infinite: Vec<(&Cell, &mut Sum)> = work.cells.iter().zip(&mut sums).filter(is_infinite).collect();
        if !infinite.is_empty() {
            let kernel =
                arc_cosine(device, &x, first.p as usize, n).map_err(|error| Box::new((*infinite[0].0, error)))?;
            for (cell, sum) in &mut infinite {
                self.solve_limit(&kernel, sum).map_err(|error| Box::new((**cell, error)))?;
            }
        }
        let measured = |sum: Sum| {
            let n_test = self.data.n_test as usize;
            let (inside, outside) = sum.mean.split_at(n_test);
            let (truth, moved_truth) = g[n..].split_at(n_test);
            let loss =
                |f: &[f64], g: &[f64]| f.iter().zip(g).map(|(f, g)| (f - g).powi(2)).sum::<f64>() / n_test as f64;
            Measured {
                id: loss(inside, truth),
                ood: loss(outside, truth),
                ood_moved: loss(outside, moved_truth),
                residual: sum.residual,
                condition: sum.condition,
            }
        };
        Ok(sums.into_iter().map(measured).collect())
    }

    /// Fits the network of infinitely many units by its kernel (`[n + 2 · n_test, n]`).
    fn solve_limit(&self, kernel: &DMatrix<f64>, sum: &mut Sum) -> Result<()> {
        let n = kernel.ncols();
        let KernelSolution { alpha, residual, condition } =
            solve_kernel(&kernel.rows(0, n).into_owned(), &sum.y, self.solve.ridge)?;
        let f = kernel.rows(n, kernel.nrows() - n) * DVector::from_vec(alpha);
        (sum.mean, sum.residual, sum.condition) = (f.as_slice().to_vec(), residual, condition);
        Ok(())
    }

    /// Fits a member by its features (f32 `[n + 2 · n_test, m]`) and adds it.
    fn add(&self, device: &Device, cell: &Cell, phi: &[f32], sum: &mut Sum) -> Result<()> {
        let n = cell.n as usize;
        let m = phi.len() / (n + sum.mean.len());
        let (fitted, measured) = phi.split_at(n * m);
        let gram = device.kernels().gram(fitted, m)?;
        let solution: Solution = solve(fitted, &gram, &sum.y, self.solve.ridge)?;
        sum.residual = sum.residual.max(solution.residual);
        sum.condition = sum.condition.max(solution.condition);
        let share = 1.0 / f64::from(cell.shape.members);
        sum.mean.iter_mut().zip(predict(measured, &solution.theta)).for_each(|(mean, f)| *mean += share * f);
        Ok(())
    }
}
