//! Which points are dominated, and how deep they lie.
//!
//! A point dominates another if it is nowhere worse and somewhere better. Equal points do not dominate each other, so
//! they share their fate.

use crate::divide::Divide;
use crate::error::{Error, Result};
use crate::objective::Points;
use crate::order::{Order, key};
use crate::prune::prune;
use crate::staircase::Staircase;

/// The first front: for each point whether no point dominates it, `[n]`.
///
/// O(n log n) for up to three objectives, O(n logᵐ⁻² n) beyond (Kung, Luccio and Preparata 1975); points far from the front
/// are mostly dropped before that, in one pass.
#[must_use]
pub fn non_dominated(points: &Points) -> Vec<bool> {
    let mut is_front = vec![false; points.len()];
    let left = prune(points);
    let some;
    let survivors = if left.len() == points.len() {
        points
    } else {
        some = points.select(&left);
        &some
    };
    let order = Order::new(survivors);
    let dominated = match points.m() {
        1 => order.distinct().map(|d| d > 0).collect(),
        2 => dominated_in_two(survivors, &order),
        3 => dominated_in_three(survivors, &order),
        _ => Divide::new(survivors, &order).dominated(),
    };
    for (at, point) in order.sorted().iter().enumerate() {
        is_front[left[*point as usize] as usize] = !dominated[order.class(at)];
    }
    is_front
}

/// The depth of each point, `[n]`: 0 on the front, and one more for each front that must be taken away before the point is
/// not dominated any more (non-dominated sorting).
///
/// O(n log n) for two objectives, O(n log n log r) with r fronts for three, and divide and conquer beyond. Source: Jensen
/// 2003; Fortin, Grenier and Parizeau 2013; Buzdalov and Shalyto 2014.
#[must_use]
pub fn ranks(points: &Points) -> Vec<u32> {
    let order = Order::new(points);
    let of_class = match points.m() {
        1 => order.distinct().collect(),
        2 => ranks_in_two(points, &order),
        _ => Divide::new(points, &order).ranks(),
    };
    let mut ranks = vec![0; points.len()];
    for (at, point) in order.sorted().iter().enumerate() {
        ranks[*point as usize] = of_class[order.class(at)];
    }
    ranks
}

/// Points thinned out to one a box: for each whether it is kept, `[n]`.
///
/// Additive ε-dominance: `a` ε-dominates `b` if in every objective `a` is worse than `b` by at most that objective's ε.
/// Source: Laumanns, Thiele, Deb and Zitzler 2002, whose factor 1 + ε is a summand here. What is kept is an ε-Pareto set:
/// points of the front that ε-dominate every point, none of them in a box that another's box dominates, and one a box. A box
/// is ⌊cost / ε⌋ in each objective; of its points the one with the least sum of costs over ε inside it stays, the first at a
/// tie. Where an ε is 0, or so small that the quotient overflows, a value is its own box; with all epsilons 0 one of each set
/// of equal points of the front is kept.
///
/// # Errors
/// `Epsilon` if `epsilon` is not `[m]` or holds what is negative, infinite or NaN.
pub fn epsilon_front(points: &Points, epsilon: &[f64]) -> Result<Vec<bool>> {
    let m = points.m();
    if epsilon.len() != m || epsilon.iter().any(|e| !e.is_finite() || *e < 0.0) {
        return Err(Error::Epsilon { expected: m, got: epsilon.to_vec() });
    }
    let front: Vec<u32> =
        non_dominated(points).iter().enumerate().filter_map(|(i, on)| on.then_some(i as u32)).collect();
    let fits = |k: usize| {
        let overflows = |i: &u32| (points.cost(*i as usize)[k] / epsilon[k]).is_infinite();
        epsilon[k] > 0.0 && !front.iter().any(|i| points.cost(*i as usize)[k].is_finite() && overflows(i))
    };
    let epsilon: Vec<f64> = (0..m).map(|k| if fits(k) { epsilon[k] } else { 0.0 }).collect();
    let mut boxes = Vec::with_capacity(front.len() * m);
    let mut depth = Vec::with_capacity(front.len());
    for point in &front {
        let mut inside = 0.0;
        for (cost, epsilon) in points.cost(*point as usize).iter().zip(&epsilon) {
            let (corner, rest) = if *epsilon > 0.0 && cost.is_finite() {
                let corner = (cost / epsilon).floor();
                (corner, cost / epsilon - corner)
            } else {
                (*cost, 0.0)
            };
            boxes.push(corner + 0.0);
            inside += rest;
        }
        depth.push(inside);
    }
    let boxes = Points::new(&vec![crate::Direction::Minimise; m], boxes)?;
    let on = non_dominated(&boxes);
    let order = Order::new(&boxes);
    let mut best: Vec<Option<usize>> = vec![None; order.n_classes()];
    for (at, i) in order.sorted().iter().enumerate() {
        let i = *i as usize;
        let best = &mut best[order.class(at)];
        if on[i] && best.is_none_or(|b| (depth[i], i) < (depth[b], b)) {
            *best = Some(i);
        }
    }
    let mut kept = vec![false; points.len()];
    for i in best.into_iter().flatten() {
        kept[front[i] as usize] = true;
    }
    Ok(kept)
}

/// For each class in lexicographic order whether it is dominated: it must be better in y than all before it.
fn dominated_in_two(points: &Points, order: &Order) -> Vec<bool> {
    let mut best = f64::INFINITY;
    let mut first = true;
    order
        .representatives()
        .map(|point| {
            let y = points.cost(point)[1];
            let dominated = !first && y >= best;
            first = false;
            best = best.min(y);
            dominated
        })
        .collect()
}

fn dominated_in_three(points: &Points, order: &Order) -> Vec<bool> {
    let mut stairs = Staircase::new();
    order
        .representatives()
        .map(|point| {
            let cost = points.cost(point);
            !stairs.insert(key(cost[1]), key(cost[2]))
        })
        .collect()
}

/// Ranks of classes: `best[r]` is the least y of those of rank r seen so far, and falls never as r grows.
fn ranks_in_two(points: &Points, order: &Order) -> Vec<u32> {
    let mut best: Vec<u64> = Vec::new();
    order
        .representatives()
        .map(|point| {
            let y = key(points.cost(point)[1]);
            let rank = best.partition_point(|b| *b <= y);
            match best.get_mut(rank) {
                Some(best) => *best = y,
                None => best.push(y),
            }
            rank as u32
        })
        .collect()
}
