//! Minimum-norm and ridge solutions in the space of examples, in f64: `α = (ΦΦᵀ + μI)⁻¹ y`, `θ = Φᵀα`.
//!
//! The Gram matrix may come from a device in f32: its Cholesky factor only preconditions, and steps of refinement against Φ itself
//! carry the solution to the precision of f64.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use crate::error::{Error, Result};

/// Added to the diagonal, relative to its mean, before the matrix is factored.
const JITTER: f64 = 1e-10;
/// Most steps of refinement.
const MAX_STEPS: usize = 50;
/// Refinement ends below this residual, relative to y.
const ENOUGH: f64 = 1e-13;

/// A solution, and how far it is to be trusted.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Weights, as many as features.
    pub theta: Vec<f64>,
    /// `‖Φθ + μα − y‖ / ‖y‖`; without a penalty that is how far the solution is from interpolating.
    pub residual: f64,
    /// Greatest over least eigenvalue of `ΦΦᵀ + μI`.
    pub condition: f64,
}

/// A solution in the span of a kernel, `f(x) = Σ αᵢ k(xᵢ, x)`.
#[derive(Clone, Debug)]
pub struct KernelSolution {
    /// Weights, as many as examples.
    pub alpha: Vec<f64>,
    /// `‖(K + μI)α − y‖ / ‖y‖`.
    pub residual: f64,
    /// Greatest over least eigenvalue of `K + μI`.
    pub condition: f64,
}

/// The solution for features `phi` (f32 `[n, m]`, row-major), their inner products `gram` (f32 `[n, n]`), targets `y` and penalty
/// `mu` ≥ 0; with none, that of least norm, which needs `n ≤ m`.
///
/// # Errors
/// `Input` if the matrix is not positive: examples that are alike, or more of them than features.
pub fn solve(phi: &[f32], gram: &[f32], y: &[f64], mu: f64) -> Result<Solution> {
    let n = y.len();
    if n == 0 || gram.len() != n * n || !phi.len().is_multiple_of(n) {
        return Err(Error::Internal(format!("{} features, {} products of {n} examples", phi.len(), gram.len())));
    }
    let m = phi.len() / n;
    let kernel = DMatrix::from_iterator(n, n, gram.iter().map(|x| f64::from(*x)));
    let (matrix, factor) = positive(kernel, mu, &format!("the features of {n} examples at width {m}"))?;
    let mut theta = vec![0.0; m];
    let (_, residual) = refined(
        &factor,
        y,
        |alpha| {
            let weights = combine(phi, alpha, m);
            let left = (0..n).map(|i| y[i] - dot(&phi[i * m..(i + 1) * m], &weights) - mu * alpha[i]).collect();
            (left, weights)
        },
        &mut theta,
    );
    Ok(Solution { theta, residual, condition: condition(&matrix) })
}

/// The solution for a kernel between examples (f64 `[n, n]`), targets `y` and penalty `mu` ≥ 0.
///
/// # Errors
/// `Input` if the matrix is not positive: examples that are alike.
pub fn solve_kernel(kernel: &DMatrix<f64>, y: &[f64], mu: f64) -> Result<KernelSolution> {
    if y.is_empty() || kernel.shape() != (y.len(), y.len()) {
        return Err(Error::Internal(format!("a kernel of {:?} for {} examples", kernel.shape(), y.len())));
    }
    let (matrix, factor) = positive(kernel.clone(), mu, &format!("a kernel of {} examples", y.len()))?;
    let target = DVector::from_column_slice(y);
    let left = |alpha: &[f64]| {
        let alpha = DVector::from_column_slice(alpha);
        ((&target - kernel * &alpha - alpha * mu).as_slice().to_vec(), ())
    };
    let (alpha, residual) = refined(&factor, y, left, &mut ());
    Ok(KernelSolution { alpha, residual, condition: condition(&matrix) })
}

/// A matrix with the penalty, and jitter, on its diagonal, and Cholesky's factor of it.
fn positive(mut matrix: DMatrix<f64>, mu: f64, what: &str) -> Result<(DMatrix<f64>, Cholesky<f64, Dyn>)> {
    let jitter = JITTER * matrix.trace() / matrix.nrows() as f64;
    (0..matrix.nrows()).for_each(|i| matrix[(i, i)] += mu + jitter);
    let factor = Cholesky::new(matrix.clone()).ok_or_else(|| Error::Input {
        what: format!("{what} do not tell them apart: their Gram matrix is not positive"),
        hint: Some("take wider features, distinct examples, or a penalty (`solve.ridge`)".into()),
    })?;
    Ok((matrix, factor))
}

/// α by steps of refinement, and its residual relative to y. `left` says what is left of y at some α, and whatever it computed on
/// the way, which ends in `found`.
fn refined<T>(
    factor: &Cholesky<f64, Dyn>,
    y: &[f64],
    left: impl Fn(&[f64]) -> (Vec<f64>, T),
    found: &mut T,
) -> (Vec<f64>, f64) {
    let size = norm(y);
    let (mut alpha, mut rest) = (vec![0.0; y.len()], y.to_vec());
    let mut residual = if size > 0.0 { 1.0 } else { 0.0 };
    for _ in 0..MAX_STEPS {
        if residual <= ENOUGH {
            break;
        }
        let step = factor.solve(&DVector::from_column_slice(&rest));
        let next: Vec<f64> = alpha.iter().zip(step.iter()).map(|(a, s)| a + s).collect();
        let (left, with) = left(&next);
        let got = norm(&left) / size;
        // What does not get better any more is as good as it gets.
        if got.is_nan() || got >= residual {
            break;
        }
        (alpha, rest, residual) = (next, left, got);
        *found = with;
    }
    (alpha, residual)
}

/// What features `phi` (f32 `[n, m]`) are worth under weights, `Φθ`.
#[must_use]
pub fn predict(phi: &[f32], theta: &[f64]) -> Vec<f64> {
    phi.chunks_exact(theta.len().max(1)).map(|row| dot(row, theta)).collect()
}

fn dot(row: &[f32], weights: &[f64]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (rows, row_rest) = row.as_chunks::<8>();
    let (parts, rest) = weights.as_chunks::<8>();
    for (row, weights) in rows.iter().zip(parts) {
        for ((lane, x), w) in lanes.iter_mut().zip(row).zip(weights) {
            *lane += f64::from(*x) * w;
        }
    }
    lanes.iter().sum::<f64>() + row_rest.iter().zip(rest).map(|(x, w)| f64::from(*x) * w).sum::<f64>()
}

/// `Φᵀα`.
fn combine(phi: &[f32], alpha: &[f64], m: usize) -> Vec<f64> {
    let mut theta = vec![0.0; m];
    for (row, a) in phi.chunks_exact(m.max(1)).zip(alpha) {
        theta.iter_mut().zip(row).for_each(|(theta, x)| *theta += a * f64::from(*x));
    }
    theta
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Greatest over least eigenvalue; at most 1/ε, which is what f64 can tell from a matrix that is not positive.
fn condition(matrix: &DMatrix<f64>) -> f64 {
    let eigenvalues = matrix.symmetric_eigenvalues();
    let (least, greatest) = (eigenvalues.min(), eigenvalues.max());
    greatest / least.max(greatest * f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(phi: &[f32], m: usize) -> Vec<f32> {
        phi.chunks(m).flat_map(|a| phi.chunks(m).map(|b| a.iter().zip(b).map(|(a, b)| a * b).sum())).collect()
    }

    #[test]
    fn the_solution_of_least_norm_is_that_of_the_pseudoinverse() {
        // Rows (1, 1, 0) and (0, 1, 1): θ = Φᵀ K⁻¹ y with K = [[2, 1], [1, 2]].
        let phi = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
        let found = solve(&phi, &products(&phi, 3), &[3.0, 0.0], 0.0).unwrap();
        for (theta, expected) in found.theta.iter().zip([2.0, 1.0, -1.0]) {
            assert!((theta - expected).abs() < 1e-12, "{found:?}");
        }
        assert!(found.residual < 1e-13 && (found.condition - 3.0).abs() < 1e-6, "{found:?}");
        assert!(predict(&phi, &found.theta).iter().zip([3.0, 0.0]).all(|(f, y)| (f - y).abs() < 1e-12));
        // With a penalty of 1: K + I = [[3, 1], [1, 3]], α = (9, −3) / 8.
        let ridge = solve(&phi, &products(&phi, 3), &[3.0, 0.0], 1.0).unwrap();
        for (theta, expected) in ridge.theta.iter().zip([1.125, 0.75, -0.375]) {
            assert!((theta - expected).abs() < 1e-12, "{ridge:?}");
        }
    }

    #[test]
    fn products_that_are_a_little_wrong_cost_steps_and_no_precision() {
        let (n, m) = (20, 60);
        let phi: Vec<f32> = (0..n).flat_map(|i| tracker_gpu::normals(4, i as u32, m)).collect();
        let y: Vec<f64> = (0..n).map(|i| f64::from(i as u32 % 3) - 1.0).collect();
        let right = products(&phi, m);
        let wrong: Vec<f32> = (0..n * n).map(|at| right[at] * (1.0 + 1e-4 * ((at / n + at % n) % 3) as f32)).collect();
        let (a, b) = (solve(&phi, &right, &y, 0.0).unwrap(), solve(&phi, &wrong, &y, 0.0).unwrap());
        assert!(a.residual < 1e-12 && b.residual < 1e-12, "{} {}", a.residual, b.residual);
        assert!(a.theta.iter().zip(&b.theta).all(|(a, b)| (a - b).abs() < 1e-10));
    }

    #[test]
    fn a_kernel_is_solved_as_its_features_are() {
        let kernel = DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 2.0]);
        let found = solve_kernel(&kernel, &[3.0, 0.0], 0.0).unwrap();
        assert!(found.alpha.iter().zip([2.0, -1.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!(found.residual < 1e-13 && (found.condition - 3.0).abs() < 1e-6, "{found:?}");
        let ridge = solve_kernel(&kernel, &[3.0, 0.0], 1.0).unwrap();
        assert!(ridge.alpha.iter().zip([1.125, -0.375]).all(|(a, b)| (a - b).abs() < 1e-12), "{ridge:?}");
        let alike = DMatrix::from_element(2, 2, 1.0);
        assert!(solve_kernel(&alike, &[1.0, -1.0], 0.0).map_or(true, |found| found.residual > 1e-6));
        assert!(solve_kernel(&DMatrix::from_element(2, 2, f64::NAN), &[1.0, 1.0], 0.0).is_err());
    }

    #[test]
    fn examples_that_are_alike_interpolate_nothing_and_it_is_seen() {
        let phi = [1.0, 2.0, 1.0, 2.0];
        let found = solve(&phi, &products(&phi, 2), &[1.0, -1.0], 0.0);
        assert!(found.as_ref().map_or(true, |found| found.residual > 1e-6), "{found:?}");
        // More examples than features.
        let phi = [1.0, 2.0, 3.0];
        let found = solve(&phi, &products(&phi, 1), &[1.0, 1.0, 1.0], 0.0);
        assert!(found.as_ref().map_or(true, |found| found.residual > 1e-6), "{found:?}");
        assert!(matches!(solve(&[0.0; 4], &[0.0; 4], &[1.0, 2.0], 0.0), Err(Error::Input { .. })));
        assert!(matches!(solve(&[f32::NAN; 4], &[f32::NAN; 4], &[1.0, 2.0], 0.0), Err(Error::Input { .. })));
        assert_eq!(solve(&[1.0, 0.0, 0.0, 1.0], &[1.0, 0.0, 0.0, 1.0], &[0.0, 0.0], 0.0).unwrap().theta, [0.0, 0.0]);
    }
}
