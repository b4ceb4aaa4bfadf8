//! The non-dominated points of a plane, under insertion.

/// Entries of a block before it is cut in two.
const BLOCK: usize = 512;

/// Points of a plane, less is better in both coordinates, none dominating another: the first coordinate rises, the second
/// falls. Sorted blocks keep insertion cheap at any size.
#[derive(Debug, Clone)]
pub(crate) struct Staircase<T> {
    /// Never empty; only the first block may be without entries, and then it is the only one.
    blocks: Vec<Vec<(T, T)>>,
}

impl<T: Copy + PartialOrd> Staircase<T> {
    pub(crate) fn new() -> Self {
        Self { blocks: vec![Vec::new()] }
    }

    pub(crate) fn clear(&mut self) {
        self.blocks.truncate(1);
        self.blocks[0].clear();
    }

    /// The block whose entries enclose `x`, and the number of its entries with a first coordinate of at most `x`.
    fn find(&self, x: T) -> (usize, usize) {
        let block =
            if self.blocks.len() == 1 { 0 } else { self.blocks.partition_point(|b| b[0].0 <= x).saturating_sub(1) };
        (block, self.blocks[block].partition_point(|e| e.0 <= x))
    }

    /// Whether an entry is nowhere worse than `(x, y)`.
    pub(crate) fn covers(&self, x: T, y: T) -> bool {
        let (block, at) = self.find(x);
        at > 0 && self.blocks[block][at - 1].1 <= y
    }

    /// Adds a point and drops the entries it covers. False, and nothing is done, where an entry covers the point.
    pub(crate) fn insert(&mut self, x: T, y: T) -> bool {
        let (block, mut at) = self.find(x);
        let entries = &mut self.blocks[block];
        if at > 0 && entries[at - 1].1 <= y {
            return false;
        }
        // An entry with the same first coordinate is worse in the second.
        if at > 0 && entries[at - 1].0 == x {
            at -= 1;
        }
        let covered = entries[at..].iter().take_while(|e| e.1 >= y).count();
        if covered == 0 {
            entries.insert(at, (x, y));
        } else {
            entries[at] = (x, y);
            entries.drain(at + 1..at + covered);
            if at + 1 == entries.len() {
                self.trim(block + 1, y);
            }
            return true;
        }
        if at + 1 == entries.len() {
            self.trim(block + 1, y);
        }
        if self.blocks[block].len() > BLOCK {
            let upper = self.blocks[block].split_off(BLOCK / 2);
            self.blocks.insert(block + 1, upper);
        }
        true
    }

    /// Drops what a point left of `block` covers: everything down to `y`.
    fn trim(&mut self, block: usize, y: T) {
        let whole = self.blocks[block..].iter().take_while(|b| b.last().is_some_and(|e| e.1 >= y)).count();
        self.blocks.drain(block..block + whole);
        if let Some(next) = self.blocks.get_mut(block) {
            let covered = next.iter().take_while(|e| e.1 >= y).count();
            next.drain(..covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Staircase;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_staircase_covers_what_a_list_covers(points in prop::collection::vec((0_u32..60, 0_u32..60), 0..300)) {
            let mut stairs = Staircase::new();
            for (i, (x, y)) in points.iter().enumerate() {
                let covered = points[..i].iter().any(|p| p.0 <= *x && p.1 <= *y);
                prop_assert_eq!(stairs.covers(*x, *y), covered);
                prop_assert_eq!(stairs.insert(*x, *y), !covered);
            }
        }
    }

    #[test]
    fn a_staircase_of_many_blocks_covers_what_lies_above_it() {
        let mut stairs = Staircase::new();
        let n = 5_000_u32;
        for i in 0..n {
            let x = i * 2_477 % n;
            assert!(stairs.insert(2 * x, 2 * (n - x)));
        }
        assert!(stairs.blocks.len() > 5);
        for x in 0..n {
            assert!(stairs.covers(2 * x + 1, 2 * (n - x)));
            assert!(!stairs.covers(2 * x, 2 * (n - x) - 1));
        }
        // One point that covers the middle, then one that covers all.
        assert!(stairs.insert(2_001, 1_001));
        assert!(stairs.covers(2_001, 1_001) && !stairs.covers(2_000, 2 * (n - 1_000) - 1));
        assert!(stairs.covers(2_000, 2 * (n - 1_000)) && stairs.covers(2 * (n - 500), 1_000));
        assert!(stairs.insert(0, 0));
        assert_eq!(stairs.blocks.iter().map(Vec::len).sum::<usize>(), 1);
    }
}
