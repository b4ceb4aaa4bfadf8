//! Points in lexicographic order, equal ones together, and coordinates as small integers.

use crate::objective::Points;

/// An integer that sorts as the cost does. Costs have no NaN and no −0.
pub(crate) fn key(cost: f64) -> u64 {
    let bits = cost.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// Points sorted lexicographically by cost. In this order no point is dominated by a later one.
///
/// Equal points form a *class*; classes are numbered in the same order.
pub(crate) struct Order {
    sorted: Vec<u32>,
    /// For each place in `sorted` its class; empty where every point is a class of its own.
    classes: Vec<u32>,
    n_classes: usize,
}

impl Order {
    pub(crate) fn new(points: &Points) -> Self {
        let m = points.m();
        let costs = points.costs();
        let mut keys: Vec<(u64, u32)> =
            costs.chunks_exact(m).enumerate().map(|(i, row)| (key(row[0]), i as u32)).collect();
        keys.sort_unstable();
        // Ties in the first cost are sorted by the others.
        let mut from = 0;
        let mut has_equal = false;
        while from < keys.len() {
            let run = keys[from..].iter().take_while(|k| k.0 == keys[from].0).count();
            if run > 1 {
                keys[from..from + run].sort_unstable_by(|a, b| {
                    let (x, y) = (points.cost(a.1 as usize), points.cost(b.1 as usize));
                    x.iter().zip(y).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(a.1.cmp(&b.1))
                });
                has_equal |= keys[from..from + run]
                    .windows(2)
                    .any(|w| points.cost(w[0].1 as usize) == points.cost(w[1].1 as usize));
            }
            from += run;
        }
        let sorted: Vec<u32> = keys.iter().map(|k| k.1).collect();
        let mut classes = Vec::new();
        let mut n_classes = sorted.len();
        if has_equal {
            n_classes = 0;
            classes.reserve(sorted.len());
            for (at, point) in sorted.iter().enumerate() {
                let same = at > 0 && points.cost(sorted[at - 1] as usize) == points.cost(*point as usize);
                n_classes += usize::from(!same);
                classes.push(n_classes as u32 - 1);
            }
        }
        Self { sorted, classes, n_classes }
    }

    /// Points in order, `[n]`.
    pub(crate) fn sorted(&self) -> &[u32] {
        &self.sorted
    }

    /// Number of different points.
    pub(crate) fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Class of the point at a place of the order.
    pub(crate) fn class(&self, at: usize) -> usize {
        self.classes.get(at).map_or(at, |c| *c as usize)
    }

    /// The classes' own numbers: the ranks of points with one objective.
    pub(crate) fn distinct(&self) -> impl Iterator<Item = u32> {
        0..self.n_classes as u32
    }

    /// One point of each class, in order.
    pub(crate) fn representatives(&self) -> impl Iterator<Item = usize> {
        (0..self.sorted.len())
            .filter(|at| *at == 0 || self.class(*at) != self.class(at - 1))
            .map(|at| self.sorted[at] as usize)
    }
}

/// For each key its place among the different keys, `[n]`.
pub(crate) fn places(keys: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut sorted: Vec<(u64, u32)> = keys.zip(0..).collect();
    sorted.sort_unstable();
    let mut places = vec![0; sorted.len()];
    let mut place = 0;
    let mut last = sorted.first().map_or(0, |s| s.0);
    for (key, i) in sorted {
        place += u32::from(key != last);
        last = key;
        places[i as usize] = place;
    }
    places
}
