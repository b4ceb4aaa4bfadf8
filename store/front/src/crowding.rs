//! How alone a point is on its front.

use crate::objective::Points;

/// Crowding distance of each point among the points of its rank, `[n]`, in 0..=∞.
///
/// In each objective the points of a rank are sorted; the ends get ∞, and what lies between gets the gap of its two
/// neighbours over the spread of the rank; the sum over objectives is the distance. Source: Deb, Pratap, Agarwal and
/// Meyarivan 2002 (NSGA-II), section III-B.
///
/// Equal points are one place: each gets the distance its place has, so that the result does not depend on the order of
/// points (the paper leaves it open; one of many equal points is not less crowded than its copies). Points that are the
/// least or the greatest in an objective are all ends. An objective in which a rank has no spread separates nothing: it makes
/// no end and adds 0, but where a rank is one place, that place gets ∞. Infinite values: a gap or spread that is infinite
/// adds 1 if the gap is infinite and 0 otherwise.
///
/// `ranks` is what [`ranks`](crate::ranks) returns, `[n]`.
#[must_use]
pub fn crowding(points: &Points, ranks: &[u32]) -> Vec<f64> {
    let n = points.len().min(ranks.len());
    let mut by_rank: Vec<u32> = (0..n as u32).collect();
    by_rank.sort_unstable_by_key(|i| (ranks[*i as usize], *i));
    let mut distance = vec![0.0; points.len()];
    for group in by_rank.chunk_by(|a, b| ranks[*a as usize] == ranks[*b as usize]) {
        crowd(points, group, &mut distance);
    }
    distance
}

fn crowd(points: &Points, group: &[u32], distance: &mut [f64]) {
    let mut is_one_place = true;
    let mut sorted = group.to_vec();
    for k in 0..points.m() {
        let cost = |i: u32| points.cost(i as usize)[k];
        sorted.sort_unstable_by(|a, b| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)));
        let (least, most) = (cost(sorted[0]), cost(sorted[sorted.len() - 1]));
        if least == most {
            continue;
        }
        is_one_place = false;
        // Neighbours are other places: points that are equal here but not elsewhere are neighbours at a gap of 0.
        let mut places: Vec<(u32, f64)> = Vec::with_capacity(sorted.len());
        for run in sorted.chunk_by(|a, b| cost(*a) == cost(*b)) {
            let mut seen: Vec<u32> = run.to_vec();
            seen.sort_unstable_by(|a, b| compare(points, *a, *b));
            seen.dedup_by(|a, b| points.cost(*a as usize) == points.cost(*b as usize));
            places.extend(seen.iter().map(|i| (*i, cost(*i))));
        }
        let gap = |at: usize| {
            let value = places[at].1;
            if value == least || value == most {
                return f64::INFINITY;
            }
            let (gap, spread) = (places[at + 1].1 - places[at - 1].1, most - least);
            match (gap.is_finite(), spread.is_finite()) {
                (true, true) => gap / spread,
                (true, false) => 0.0,
                (false, _) => 1.0,
            }
        };
        let mut gaps: Vec<(u32, f64)> = (0..places.len()).map(|at| (places[at].0, gap(at))).collect();
        gaps.sort_unstable_by(|a, b| compare(points, a.0, b.0));
        for i in group {
            if let Ok(at) = gaps.binary_search_by(|g| compare(points, g.0, *i)) {
                distance[*i as usize] += gaps[at].1;
            }
        }
    }
    if is_one_place {
        for i in group {
            distance[*i as usize] = f64::INFINITY;
        }
    }
}

fn compare(points: &Points, a: u32, b: u32) -> std::cmp::Ordering {
    let (a, b) = (points.cost(a as usize), points.cost(b as usize));
    a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}
