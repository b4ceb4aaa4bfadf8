//! Means on a sphere: arcs between two tensors, and means of many.
//!
//! All of them lie in the span of the tensors, so products of pairs tell everything about them: one pass for the products,
//! one that writes Σ cᵢ xᵢ, and never more than a tile of each tensor is held.

use super::rows::{Products, Room, products};
use crate::error::Result;
use crate::run::{Sink, Work};

/// Below this 1 − cos², two vectors are on one line. mergekit says 1e-16, which neither its f32 nor f64 sums resolve.
const LINE: f64 = 1e-14;
/// Below this, the length of a sum of unit vectors is measured and not taken from products, whose rounding it drowns in.
const CANCELLED: f64 = 1e-5;

/// The arc between two tensors (or their differences to a base) at t = w₁ / (w₀ + w₁): taken whole, row by row (the last
/// side), or column by column (the first side; `nuslerp_row_wise`, as mergekit calls it). Holds a tile, a row, or three
/// sums for each column.
pub(super) fn nuslerp(work: &mut Work<'_>) -> Result<()> {
    let weights = work.args.each("weight");
    let total: f64 = weights.iter().sum();
    let t = if total.abs() < 1e-6 { 0.5 } else { weights[1] / total };
    let mut room = Room::default();
    if work.args.is_on("nuslerp_flatten") {
        let products = products(work, &mut room)?;
        let factors = arc(t, products.at(0, 0), products.at(1, 1), products.at(0, 1));
        return work.pass(|_, x, out| room.put(x, &factors, out));
    }
    if work.args.is_on("nuslerp_row_wise") && work.shape().len() > 1 {
        return arcs_of_columns(work, t, &mut room);
    }
    let row = work.shape().last().copied().unwrap_or(1).max(1);
    work.by_rows(row);
    let mut products = Products::new(2);
    work.pass(|_, x, out| {
        let n = x[0].len();
        let mut factors = Vec::new();
        for from in (0..n).step_by(row) {
            products.clear();
            products.add(room.deltas(x, 2), from, from + row);
            factors.push(arc(t, products.at(0, 0), products.at(1, 1), products.at(0, 1)));
        }
        put_pairs(x, &mut room, |i| factors[i / row], out)
    })
}

fn arcs_of_columns(work: &mut Work<'_>, t: f64, room: &mut Room) -> Result<()> {
    let n_columns = (work.n_elements() / work.shape()[0].max(1)).max(1);
    let mut sums = vec![[0.0; 3]; n_columns];
    work.look(|at, x| {
        let deltas = room.deltas(x, 2);
        for (i, (u, v)) in deltas[0].iter().zip(&deltas[1]).enumerate() {
            let (sums, u, v) = (&mut sums[(at + i) % n_columns], f64::from(*u), f64::from(*v));
            sums[0] += u * u;
            sums[1] += v * v;
            sums[2] += u * v;
        }
    })?;
    let factors: Vec<[f64; 2]> = sums.iter().map(|[uu, vv, uv]| arc(t, *uu, *vv, *uv)).collect();
    work.pass(|at, x, out| put_pairs(x, room, |i| factors[(at + i) % n_columns], out))
}

/// Puts the sum of two tensors (on a base) with factors of its own for each element.
fn put_pairs(x: &[Vec<f32>], room: &mut Room, factors: impl Fn(usize) -> [f64; 2], out: &mut Sink<'_>) -> Result<()> {
    let sums: Vec<f64> = {
        let deltas = room.deltas(x, 2);
        let pairs = deltas[0].iter().zip(&deltas[1]).enumerate();
        pairs.map(|(i, (u, v))| factors(i)[0] * f64::from(*u) + factors(i)[1] * f64::from(*v)).collect()
    };
    room.put_each(x.get(2), sums.len(), |i| sums[i], out)
}

/// Factors of u and v at `t` of the arc from u to v, from their products.
fn arc(t: f64, uu: f64, vv: f64, uv: f64) -> [f64; 2] {
    let length = |square: f64| square.sqrt().max(1e-7);
    let cosine = (uv / (length(uu) * length(vv))).clamp(-1.0, 1.0);
    if 1.0 - cosine * cosine <= LINE {
        return [1.0 - t, t];
    }
    let angle = cosine.acos();
    [((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}

/// Barycentric interpolation on the sphere, by one step in the tangent space at the mean direction; the length is the
/// weighted mean of lengths. Holds a tile.
///
/// Two models that cancel are summed as they are, and more are refused, as in mergekit; where all are zero, which it refuses,
/// so is the sum.
pub(super) fn multislerp(work: &mut Work<'_>) -> Result<()> {
    let (mut weights, eps, n) = (work.args.each("weight"), work.args.shared("eps"), work.n_models());
    let mut room = Room::default();
    if n == 1 {
        return work.pass(|_, x, out| out.put(&x[0]));
    }
    if work.args.is_on("normalize_weights") {
        let total: f64 = weights.iter().sum();
        scale(&mut weights, 1.0 / total);
    }
    let products = products(work, &mut room)?;
    // Everything is said by its factors of the tensors: mean = Σ meanᵢ xᵢ.
    let scales: Vec<f64> = (0..n).map(|i| 1.0 / (products.length(i) + eps)).collect();
    let mut mean: Vec<f64> = weights.iter().zip(&scales).map(|(weight, scale)| weight * scale).collect();
    let length = length_of(work, &products, &mut room, &mean)?;
    let reach: f64 = (0..n).map(|i| weights[i] * products.length(i)).sum();
    let factors: Vec<f64> = if (0..n).all(|i| products.at(i, i) == 0.0) {
        vec![0.0; n]
    } else if length >= eps {
        scale(&mut mean, 1.0 / length);
        let dots = |i: usize| (0..n).map(|j| mean[j] * products.at(i, j)).sum::<f64>() * scales[i];
        let along: f64 = (0..n).map(|i| weights[i] * dots(i)).sum();
        let tangent: Vec<f64> = (0..n).map(|i| weights[i] * scales[i] - along * mean[i]).collect();
        let angle = products.product(&tangent, &tangent).max(0.0).sqrt() + eps;
        let bend = if angle > 0.0 { angle.sin() / angle } else { 1.0 };
        mean.iter().zip(&tangent).map(|(mean, tangent)| reach * (mean * angle.cos() + tangent * bend)).collect()
    } else if n == 2 {
        weights
    } else {
        let what = "its models cancel each other in the weighted mean of their directions; change the weights";
        return Err(work.fault(what.to_owned()));
    };
    work.pass(|_, x, out| room.put(x, &factors, out))
}

fn scale(factors: &mut [f64], by: f64) {
    for factor in factors {
        *factor *= by;
    }
}

/// The length of Σ factorᵢ xᵢ.
fn length_of(work: &mut Work<'_>, products: &Products, room: &mut Room, factors: &[f64]) -> Result<f64> {
    let length = products.product(factors, factors).max(0.0).sqrt();
    if length >= CANCELLED {
        return Ok(length);
    }
    let mut square = 0.0;
    work.look(|_, x| {
        let deltas = room.deltas(x, factors.len());
        for i in 0..x[0].len() {
            let sum: f64 = deltas.iter().zip(factors).map(|(delta, factor)| factor * f64::from(delta[i])).sum();
            square += sum * sum;
        }
    })?;
    Ok(square.sqrt())
}

/// The Karcher mean of directions with equal weights, by at most `max_iter` steps along the mean tangent until it is
/// shorter than `tol`; its length is the mean length. Holds a tile.
pub(super) fn karcher(work: &mut Work<'_>) -> Result<()> {
    let (n, tol, n_steps) = (work.n_models(), work.args.shared("tol"), work.args.shared("max_iter") as usize);
    let mut room = Room::default();
    if n == 1 {
        return work.pass(|_, x, out| out.put(&x[0]));
    }
    let products = products(work, &mut room)?;
    let lengths: Vec<f64> = (0..n).map(|i| products.length(i)).collect();
    let valid: Vec<usize> = (0..n).filter(|i| lengths[*i] > tol).collect();
    let Some(first) = valid.first() else { return work.pass(|_, x, out| room.put(x, &vec![0.0; n], out)) };
    let share = 1.0 / valid.len() as f64;
    let mut mean = vec![0.0; n];
    for i in &valid {
        mean[*i] = share / lengths[*i];
    }
    let length = length_of(work, &products, &mut room, &mean)?;
    if length < tol {
        mean.fill(0.0);
        mean[*first] = 1.0 / lengths[*first];
    } else {
        scale(&mut mean, 1.0 / length);
    }
    for _ in 0..n_steps {
        let mut tangent = vec![0.0; n];
        for i in &valid {
            let dot = (0..n).map(|j| mean[j] * products.at(*i, j)).sum::<f64>() / lengths[*i];
            let dot = dot.clamp(-1.0, 1.0);
            let angle = dot.acos();
            if angle < tol {
                continue;
            }
            let step = share * angle / angle.sin();
            tangent[*i] += step / lengths[*i];
            for (tangent, mean) in tangent.iter_mut().zip(&mean) {
                *tangent -= step * dot * mean;
            }
        }
        let reach = products.product(&tangent, &tangent).max(0.0).sqrt();
        if reach < tol {
            break;
        }
        for (mean, tangent) in mean.iter_mut().zip(&tangent) {
            *mean = reach.cos() * *mean + reach.sin() * tangent / reach;
        }
        let length = products.product(&mean, &mean).max(0.0).sqrt();
        if length > tol {
            scale(&mut mean, 1.0 / length);
        }
    }
    scale(&mut mean, lengths.iter().sum::<f64>() / n as f64);
    work.pass(|_, x, out| room.put(x, &mean, out))
}
