//! One cell of the grid: data, networks fitted to it, and their losses within and out of distribution.
//!
//! All randomness is numbers of counter-based streams, which are named by what they are for, the run's seed, the cell's seed and the
//! sizes they depend on: a cell gives the same numbers whatever else is in the grid. Cells that differ in width only share data, noise,
//! shift and the first units; members of an ensemble share all but units.

use std::sync::Arc;

use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_gpu::{Device, normals};

use super::settings::RandomFeatures;
use crate::error::Result;
use crate::parts::ridge::{Solution, predict, solve};

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

impl Cell {
    /// Units of each member.
    pub(super) fn m(&self) -> usize {
        self.n as usize * self.shape.width as usize
    }

    /// Its name, which is that of its stage.
    pub(super) fn name(&self) -> String {
        let Self { n, p, shape, tau, sigma } = self;
        format!("n {n} p {p} m {} M {} tau {tau:.3} sigma {sigma}", self.m(), shape.members)
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

/// A cell with its seed.
pub(super) struct Work {
    pub(super) cell: Cell,
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
    type Reply = Measured;
    type State = u64;

    async fn handle(&mut self, work: Work, turn: &mut Turn<'_, u64>) -> std::result::Result<Measured, Fault> {
        let failed = |error| Fault::input(format!("cell `{}`, seed {}", work.cell.name(), work.seed)).because(error);
        let measured = self.study.measure(&self.device, &work).map_err(failed)?;
        turn.update(|n_cells| *n_cells += 1);
        Ok(measured)
    }
}

/// The key of a stream: what it is for, and what it depends on.
fn key(purpose: &str, work: &Work, which: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"random_features/").update(purpose.as_bytes()).update(&[0]).update(&work.run_seed.to_be_bytes());
    for number in [work.seed, work.cell.n, work.cell.p, which] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.finalize().as_bytes().iter().take(8).fold(0, |acc, byte| acc << 8 | u64::from(*byte))
}

impl RandomFeatures {
    /// Standard normal rows in the proportions of the coordinates.
    fn inputs(&self, work: &Work, purpose: &str, n_rows: u32) -> Vec<f32> {
        let p = work.cell.p as usize;
        let (first, rest) = (self.data.lambda.sqrt() as f32, (self.data.tail / p as f64).sqrt() as f32);
        let key = key(purpose, work, 0);
        let row = |row| {
            let mut x = normals(key, row, p);
            x.iter_mut().skip(1).for_each(|x| *x *= rest);
            x.iter_mut().take(1).for_each(|x| *x *= first);
            x
        };
        (0..n_rows).flat_map(row).collect()
    }

    /// g(x) = x₁ / √λ₁ of every row.
    fn targets(&self, x: &[f32], p: usize) -> Vec<f64> {
        x.chunks_exact(p).map(|x| f64::from(x[0]) / self.data.lambda.sqrt()).collect()
    }

    /// Measures one cell.
    pub(super) fn measure(&self, device: &Device, work: &Work) -> Result<Measured> {
        let Cell { n, p, shape, tau, sigma } = work.cell;
        let (n_train, n_test, p) = (n as usize, self.data.n_test as usize, p as usize);
        let train = self.inputs(work, "train", n);
        let test = self.inputs(work, "test", self.data.n_test);
        let spread = (tau / p as f64).sqrt() as f32;
        let shift = key("shift", work, 0);
        let shift = (0..self.data.n_test).flat_map(|row| normals(shift, row, p));
        let moved: Vec<f32> = test.iter().zip(shift).map(|(x, delta)| x + spread * delta).collect();
        let noise = normals(key("noise", work, 0), 0, n_train);
        let y: Vec<f64> = self.targets(&train, p).iter().zip(noise).map(|(g, xi)| g + sigma * f64::from(xi)).collect();
        let (truth, moved_truth) = (self.targets(&test, p), self.targets(&moved, p));
        let x = [train, test, moved].concat();

        let m = work.cell.m();
        let scale = 1.0 / (p as f64 * m as f64).sqrt();
        let mut mean = vec![0.0; 2 * n_test];
        let (mut residual, mut condition) = (0.0_f64, 0.0_f64);
        for member in 0..shape.members {
            let mut phi = device.kernels().random_features(&x, p, key("units", work, member), m)?;
            for phi in &mut phi {
                *phi *= scale as f32;
            }
            let (fitted, measured) = phi.split_at(n_train * m);
            let gram = device.kernels().gram(fitted, m)?;
            let solution: Solution = solve(fitted, &gram, &y, self.solve.ridge)?;
            residual = residual.max(solution.residual);
            condition = condition.max(solution.condition);
            let share = 1.0 / f64::from(shape.members);
            mean.iter_mut().zip(predict(measured, &solution.theta)).for_each(|(mean, f)| *mean += share * f);
        }
        let (inside, outside) = mean.split_at(n_test);
        let loss = |f: &[f64], g: &[f64]| f.iter().zip(g).map(|(f, g)| (f - g).powi(2)).sum::<f64>() / n_test as f64;
        Ok(Measured {
            id: loss(inside, &truth),
            ood: loss(outside, &truth),
            ood_moved: loss(outside, &moved_truth),
            residual,
            condition,
        })
    }
}
