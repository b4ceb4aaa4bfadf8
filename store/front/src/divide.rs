//! Divide and conquer over lexicographic order, for three and more objectives.
//!
//! Classes are taken in lexicographic order, so `a` dominates `b` if and only if `a` comes earlier and is nowhere worse in
//! the coordinates after the first. A set is cut into an earlier half, which is settled first, and a later one, which is then
//! held against the earlier in one coordinate less; that again is cut by values of a coordinate until a sweep suffices.
//! Source: Kung, Luccio and Preparata 1975 (fronts); Jensen 2003, Buzdalov and Shalyto 2014 (ranks).

use crate::objective::{MAX_OBJECTIVES, Points};
use crate::order::{Order, key, places};
use crate::staircase::Staircase;

/// Coordinates after the first.
const DIMS: usize = MAX_OBJECTIVES - 1;
/// Sets up to this size are compared pair by pair.
const SMALL: usize = 24;
/// Two sets of which one is at most this large are compared pair by pair.
const FEW: usize = 10;

/// A class: its number, and its coordinates after the first as places among all values.
#[derive(Debug, Clone, Copy)]
struct Item {
    at: [u32; DIMS],
    class: u32,
}

/// The state of one computation.
pub(crate) struct Divide {
    items: Vec<Item>,
    /// Coordinates in use, m − 1.
    dims: usize,
    /// Ranks found so far; of a front only whether they are above zero.
    rank: Vec<u32>,
    stairs: Vec<Staircase<u32>>,
    levels: Vec<u32>,
}

impl Divide {
    pub(crate) fn new(points: &Points, order: &Order) -> Self {
        let dims = points.m() - 1;
        let representatives: Vec<usize> = order.representatives().collect();
        let mut items: Vec<Item> =
            (0..representatives.len() as u32).map(|class| Item { at: [0; DIMS], class }).collect();
        for k in 0..dims {
            let places = places(representatives.iter().map(|p| key(points.cost(*p)[k + 1])));
            for (item, place) in items.iter_mut().zip(places) {
                item.at[k] = place;
            }
        }
        let rank = vec![0; items.len()];
        Self { items, dims, rank, stairs: vec![Staircase::new()], levels: Vec::new() }
    }

    /// For each class whether it is dominated.
    pub(crate) fn dominated(mut self) -> Vec<bool> {
        let items = std::mem::take(&mut self.items);
        self.halve::<true>(&items);
        self.rank.iter().map(|r| *r > 0).collect()
    }

    /// For each class its rank.
    pub(crate) fn ranks(mut self) -> Vec<u32> {
        let mut items = std::mem::take(&mut self.items);
        if self.dims == 2 {
            // The first coordinate is the order itself, so one sweep does it.
            for item in &mut items {
                item.at = [item.class, item.at[0], item.at[1], 0, 0];
            }
            self.stack(&items);
        } else {
            self.halve::<false>(&items);
        }
        self.rank
    }

    /// Settles a run of classes. Returns those that may dominate others, sorted by their first coordinate here.
    fn halve<const FRONT: bool>(&mut self, items: &[Item]) -> Vec<Item> {
        if items.len() <= SMALL {
            for (i, b) in items.iter().enumerate() {
                for a in &items[..i] {
                    if (FRONT || self.rank[a.class as usize] >= self.rank[b.class as usize]) && weakly(a, b, self.dims)
                    {
                        self.raise::<FRONT>(a, b);
                        if FRONT {
                            break;
                        }
                    }
                }
            }
            let mut left: Vec<Item> =
                items.iter().filter(|i| !FRONT || self.rank[i.class as usize] == 0).copied().collect();
            left.sort_unstable_by_key(|i| i.at[0]);
            return left;
        }
        let (earlier, later) = items.split_at(items.len() / 2);
        let low = self.halve::<FRONT>(earlier);
        if FRONT {
            // Fewer and fewer: the later half is settled among itself, then held against the earlier one.
            let mut high = self.halve::<FRONT>(later);
            self.hold::<FRONT>(&low, &high, self.dims);
            high.retain(|i| self.rank[i.class as usize] == 0);
            merge(&low, &high)
        } else {
            let mut high = later.to_vec();
            high.sort_unstable_by_key(|i| i.at[0]);
            self.hold::<FRONT>(&low, &high, self.dims);
            merge(&low, &self.halve::<FRONT>(later))
        }
    }

    fn raise<const FRONT: bool>(&mut self, a: &Item, b: &Item) {
        let above = if FRONT { 1 } else { self.rank[a.class as usize] + 1 };
        let rank = &mut self.rank[b.class as usize];
        *rank = above.max(*rank);
    }

    /// Holds `high` against `low`, whose ranks are final, in the first `dims` coordinates. Both are sorted by the first.
    fn hold<const FRONT: bool>(&mut self, low: &[Item], high: &[Item], mut dims: usize) {
        if low.is_empty() || high.is_empty() {
            return;
        }
        if low.len() <= FEW || high.len() <= FEW {
            self.pairs::<FRONT>(low, high, dims);
            return;
        }
        while dims > 3 {
            let k = dims - 1;
            let (least, most) = range(low, k);
            let (least_high, most_high) = range(high, k);
            if least > most_high {
                return;
            }
            if most <= least_high {
                dims -= 1;
                continue;
            }
            let cut = median(low, high, k).min(most.max(most_high) - 1);
            let split = |items: &[Item], from: u32, to: u32| {
                let (mut below, mut above) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
                for item in items {
                    if item.at[k] <= cut {
                        if item.at[k] >= from {
                            below.push(*item);
                        }
                    } else if item.at[k] <= to {
                        above.push(*item);
                    }
                }
                (below, above)
            };
            // What is better than all of `low` or worse than all of `high` has nothing to meet.
            let (low_below, low_above) = split(low, 0, most_high);
            let (high_below, mut high_above) = split(high, least, u32::MAX);
            self.hold::<FRONT>(&low_below, &high_below, dims);
            self.hold::<FRONT>(&low_below, &high_above, dims - 1);
            if FRONT {
                high_above.retain(|i| self.rank[i.class as usize] == 0);
            }
            self.hold::<FRONT>(&low_above, &high_above, dims);
            return;
        }
        if FRONT {
            self.sweep(low, high);
        } else {
            self.stack_two(low, high);
        }
    }

    fn pairs<const FRONT: bool>(&mut self, low: &[Item], high: &[Item], dims: usize) {
        for b in high {
            let mut rank = self.rank[b.class as usize];
            if FRONT && rank > 0 {
                continue;
            }
            for a in low {
                if a.at[0] > b.at[0] {
                    break;
                }
                if weakly(a, b, dims) {
                    if FRONT {
                        rank = 1;
                        break;
                    }
                    rank = rank.max(self.rank[a.class as usize] + 1);
                }
            }
            self.rank[b.class as usize] = rank;
        }
    }

    /// A front in three coordinates: along the first, with the others as a staircase.
    fn sweep(&mut self, low: &[Item], high: &[Item]) {
        let mut next = 0;
        let stairs = &mut self.stairs[0];
        stairs.clear();
        for b in high {
            while next < low.len() && low[next].at[0] <= b.at[0] {
                stairs.insert(low[next].at[1], low[next].at[2]);
                next += 1;
            }
            if stairs.covers(b.at[1], b.at[2]) {
                self.rank[b.class as usize] = 1;
            }
        }
    }

    /// Ranks in three coordinates, along the first: for each rank that `low` has, a staircase of those of it and more.
    fn stack_two(&mut self, low: &[Item], high: &[Item]) {
        let mut levels = std::mem::take(&mut self.levels);
        levels.clear();
        levels.extend(low.iter().map(|a| self.rank[a.class as usize]));
        levels.sort_unstable();
        levels.dedup();
        let top = levels.last().map_or(0, |top| top + 1);
        let mut next = 0;
        let mut used = 0;
        for b in high {
            while next < low.len() && low[next].at[0] <= b.at[0] {
                let a = &low[next];
                let level = levels.partition_point(|l| *l < self.rank[a.class as usize]);
                used = used.max(insert_from(&mut self.stairs, used, level, a));
                next += 1;
            }
            // A rank below this one's would not raise it.
            let rank = self.rank[b.class as usize];
            if rank < top {
                let n = self.stairs[..used].partition_point(|s| s.covers(b.at[1], b.at[2]));
                let above = n.checked_sub(1).map_or(0, |n| levels[n] + 1);
                self.rank[b.class as usize] = above.max(rank);
            }
        }
        self.levels = levels;
    }

    /// Ranks of a whole set sorted by its first coordinate, in which all differ.
    fn stack(&mut self, items: &[Item]) {
        let mut used = 0;
        for item in items {
            let rank = self.stairs[..used].partition_point(|s| s.covers(item.at[1], item.at[2]));
            self.rank[item.class as usize] = rank as u32;
            used = used.max(insert_from(&mut self.stairs, used, rank, item));
        }
    }
}

/// Adds an item of this level to its staircase and to those below that do not cover it. Returns how many are in use.
fn insert_from(stairs: &mut Vec<Staircase<u32>>, used: usize, level: usize, item: &Item) -> usize {
    for fresh in used..=level {
        match stairs.get_mut(fresh) {
            Some(stairs) => stairs.clear(),
            None => stairs.push(Staircase::new()),
        }
    }
    for stairs in stairs[..=level].iter_mut().rev() {
        if !stairs.insert(item.at[1], item.at[2]) {
            break;
        }
    }
    level + 1
}

/// Whether `a` is nowhere worse in the first `dims` coordinates.
fn weakly(a: &Item, b: &Item, dims: usize) -> bool {
    a.at[..dims].iter().zip(&b.at[..dims]).all(|(a, b)| a <= b)
}

fn range(items: &[Item], k: usize) -> (u32, u32) {
    items.iter().fold((u32::MAX, 0), |(least, most), i| (least.min(i.at[k]), most.max(i.at[k])))
}

/// About the middle of the values of a coordinate, by a sample.
fn median(low: &[Item], high: &[Item], k: usize) -> u32 {
    let step = (low.len() + high.len()).div_ceil(63);
    let mut sample: Vec<u32> = low.iter().chain(high).step_by(step).map(|i| i.at[k]).collect();
    let middle = sample.len() / 2;
    *sample.select_nth_unstable(middle).1
}

/// Two sets sorted by their first coordinate as one.
fn merge(a: &[Item], b: &[Item]) -> Vec<Item> {
    let mut all = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if b[j].at[0] < a[i].at[0] {
            all.push(b[j]);
            j += 1;
        } else {
            all.push(a[i]);
            i += 1;
        }
    }
    all.extend_from_slice(&a[i..]);
    all.extend_from_slice(&b[j..]);
    all
}
