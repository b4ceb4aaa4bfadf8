//! Walking trees of pages, around what is damaged.

use std::ops::ControlFlow;

use super::Pages;
use super::format::{Branch, Child, Leaf, Page, Tree, Widths};
use crate::{Direction, KeyRange, Visitor};

/// No tree is deeper; what leads deeper leads in a circle.
const MAX_DEPTH: usize = 64;

/// A walk under way.
struct Walk<'a> {
    pages: &'a Pages,
    widths: Widths,
    range: &'a KeyRange<'a>,
    direction: Direction,
    /// Whether damaged leaves are the table's, whose entries may be asked for.
    is_table: bool,
    /// Pages that may still be read: damage never makes a walk longer than the file.
    n_left: u64,
}

impl Pages {
    /// Shows the entries of a tree in `range`, and notes the pages that are damaged. False if `visit` broke it off.
    pub(super) fn walk(
        &self,
        tree: &Tree,
        range: &KeyRange<'_>,
        direction: Direction,
        is_table: bool,
        visit: &mut Visitor<'_>,
    ) -> bool {
        let n_left = self.n_bytes / super::PAGE_BYTES + 1;
        let mut walk = Walk { pages: self, widths: tree.widths, range, direction, is_table, n_left };
        walk.page(tree.root, 0, visit).is_continue()
    }

    /// The value of a key; an error is the damage that stands before it.
    pub(super) fn find(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>, (u64, String)> {
        let mut child = tree.root;
        for _ in 0..MAX_DEPTH {
            let page = self.page(child, tree.widths)?;
            match Page::parse(&page, tree.widths) {
                Some(Page::Leaf(leaf)) => {
                    let nth = first(leaf.len(), |nth| leaf.key(nth).is_some_and(|found| found < key));
                    let is_there = nth < leaf.len() && leaf.key(nth) == Some(key);
                    return Ok(if is_there { leaf.value(nth).map(<[u8]>::to_vec) } else { None });
                }
                Some(Page::Branch(branch)) => {
                    let n_keys = branch.n_children() - 1;
                    let nth = first(n_keys, |nth| branch.key(nth).is_some_and(|found| found < key));
                    child = branch.child(nth).ok_or((0, "a branch has no such child".to_owned()))?;
                }
                None => break,
            }
        }
        Err((0, "the tree leads in a circle".to_owned()))
    }
}

/// The first of `n` for which `is_before` does not hold; it holds for those up to some.
fn first(n: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl Walk<'_> {
    fn page(&mut self, child: Child, depth: usize, visit: &mut Visitor<'_>) -> ControlFlow<()> {
        if depth > MAX_DEPTH || self.n_left == 0 {
            self.pages.lose(0, "the tree leads in a circle".to_owned(), None);
            return ControlFlow::Continue(());
        }
        self.n_left -= 1;
        match self.pages.page(child, self.widths) {
            Ok(page) => match Page::parse(&page, self.widths) {
                Some(Page::Leaf(leaf)) => self.leaf(&leaf, visit),
                Some(Page::Branch(branch)) => self.branch(&branch, depth, visit),
                None => ControlFlow::Continue(()),
            },
            Err((offset, reason)) => {
                self.pages.lose(offset, reason, self.is_table.then_some(child));
                self.below(child, depth, visit)
            }
        }
    }

    fn leaf(&self, leaf: &Leaf<'_>, visit: &mut Visitor<'_>) -> ControlFlow<()> {
        let start = first(leaf.len(), |nth| leaf.key(nth).is_some_and(|key| key < self.range.start()));
        let end = self
            .range
            .end()
            .map_or(leaf.len(), |end| first(leaf.len(), |nth| leaf.key(nth).is_some_and(|key| key < end)));
        let mut show = |nth| match (leaf.key(nth), leaf.value(nth)) {
            (Some(key), Some(value)) => visit(key, value),
            _ => ControlFlow::Continue(()),
        };
        match self.direction {
            Direction::Ascending => (start..end).try_for_each(&mut show),
            Direction::Descending => (start..end).rev().try_for_each(&mut show),
        }
    }

    fn branch(&mut self, branch: &Branch<'_>, depth: usize, visit: &mut Visitor<'_>) -> ControlFlow<()> {
        let n = branch.n_children();
        for at in 0..n {
            let nth = if self.direction == Direction::Ascending { at } else { n - 1 - at };
            let is_below = branch.key(nth).is_some_and(|greatest| greatest < self.range.start());
            let before = nth.checked_sub(1).and_then(|before| branch.key(before));
            let is_above = before.zip(self.range.end()).is_some_and(|(before, end)| before >= end);
            if !is_below
                && !is_above
                && let Some(child) = branch.child(nth)
            {
                self.page(child, depth + 1, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// What lies below a damaged page: children that it still names and that have the sums it has of them.
    fn below(&mut self, child: Child, depth: usize, visit: &mut Visitor<'_>) -> ControlFlow<()> {
        let Ok(bytes) = self.pages.bytes(child) else { return ControlFlow::Continue(()) };
        let Some(Page::Branch(branch)) = Page::parse(&bytes, self.widths) else { return ControlFlow::Continue(()) };
        let n = branch.n_children();
        for at in 0..n {
            let nth = if self.direction == Direction::Ascending { at } else { n - 1 - at };
            match branch.child(nth) {
                Some(child) if self.pages.page(child, self.widths).is_ok() => self.page(child, depth + 1, visit)?,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}
