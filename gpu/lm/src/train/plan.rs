//! Which examples each step takes, and how a step is shared out.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Batch, Length, Training};
use crate::error::{Error, Result};

/// The items of every step. Each epoch is a permutation of all items, drawn from its own stream of the seed. `lens`: the
/// tokens of each item.
pub(super) fn steps(lens: &[usize], training: &Training) -> Result<Vec<Vec<usize>>> {
    if lens.is_empty() {
        return Err(Error::Empty { what: "training set", idx: 0, expected: "at least one example" });
    }
    let n_items = match training.length {
        Length::Epochs(epochs) => ((lens.len() as f64 * epochs).round() as usize).max(1),
        Length::Steps(_) => usize::MAX,
    };
    let n_steps = match training.length {
        Length::Epochs(_) => usize::MAX,
        Length::Steps(steps) => steps,
    };
    let mut items = Items::new(lens.len(), training.seed).take(n_items).peekable();
    let mut steps = Vec::new();
    while steps.len() < n_steps && items.peek().is_some() {
        let mut step = Vec::new();
        let mut n_tokens = 0;
        while let Some(item) = items.next_if(|item| {
            let fits = match training.batch {
                Batch::Items(size) => step.len() < size,
                Batch::Tokens(size) => n_tokens + lens[*item] <= size,
            };
            step.is_empty() || fits
        }) {
            n_tokens += lens[item];
            step.push(item);
        }
        steps.push(step);
    }
    Ok(steps)
}

/// Epoch after epoch, without end.
struct Items {
    order: Vec<usize>,
    at: usize,
    epoch: u64,
    seed: u64,
}

impl Items {
    fn new(n: usize, seed: u64) -> Self {
        let mut items = Self { order: (0..n).collect(), at: 0, epoch: 0, seed };
        items.shuffle();
        items
    }

    /// Fisher and Yates' shuffle of the identity.
    fn shuffle(&mut self) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.epoch);
        for (at, item) in self.order.iter_mut().enumerate() {
            *item = at;
        }
        for at in (1..self.order.len()).rev() {
            self.order.swap(at, rng.random_range(0..=at as u64) as usize);
        }
    }
}

impl Iterator for Items {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.at == self.order.len() {
            self.at = 0;
            self.epoch += 1;
            self.shuffle();
        }
        self.at += 1;
        Some(self.order[self.at - 1])
    }
}

/// Shares a step's items out into at most `n` parts of nearly equal work: the longest first, each to the lightest part.
pub(super) fn parts(items: &[usize], lens: &[usize], n: usize) -> Vec<Vec<usize>> {
    let n = n.min(items.len());
    let mut by_len = items.to_vec();
    by_len.sort_by_key(|item| std::cmp::Reverse(lens[*item]));
    let mut parts = vec![(0usize, Vec::new()); n];
    for item in by_len {
        let lightest = (0..n).min_by_key(|part| parts[*part].0).unwrap_or_default();
        parts[lightest].0 += lens[item];
        parts[lightest].1.push(item);
    }
    parts.into_iter().map(|(_, items)| items).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(length: Length, batch: Batch) -> Training {
        Training { length, batch, ..Training::default() }
    }

    #[test]
    fn each_epoch_takes_every_item_once_in_an_order_of_its_own() {
        let lens = vec![3; 10];
        let steps = steps(&lens, &training(Length::Epochs(2.0), Batch::Items(4))).expect("plans");
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 4, 4]);
        let all: Vec<usize> = steps.concat();
        let (first, second) = all.split_at(10);
        assert_ne!(first, second);
        for epoch in [first, second] {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_budget_of_tokens_is_kept_unless_one_item_exceeds_it() {
        let lens = [5, 9, 2, 7, 30, 1];
        let steps = steps(&lens, &training(Length::Epochs(1.0), Batch::Tokens(10))).expect("plans");
        assert_eq!(steps.concat().len(), 6);
        for step in &steps {
            let total: usize = step.iter().map(|item| lens[*item]).sum();
            assert!(total <= 10 || step.len() == 1, "{step:?}");
        }
    }

    #[test]
    fn steps_and_parts_of_epochs_are_counted_exactly() {
        let lens = vec![1; 10];
        assert_eq!(steps(&lens, &training(Length::Steps(7), Batch::Items(3))).expect("plans").len(), 7);
        assert_eq!(steps(&lens, &training(Length::Epochs(0.5), Batch::Items(3))).expect("plans").concat().len(), 5);
        assert!(matches!(steps(&[], &Training::default()), Err(Error::Empty { .. })));
    }

    #[test]
    fn parts_are_balanced_and_lose_nothing() {
        let lens = [10, 1, 9, 2, 8, 3];
        let parts = parts(&[0, 1, 2, 3, 4, 5], &lens, 2);
        let totals: Vec<usize> = parts.iter().map(|part| part.iter().map(|item| lens[*item]).sum()).collect();
        assert_eq!(totals.iter().sum::<usize>(), 33);
        assert!(totals[0].abs_diff(totals[1]) <= 1, "{totals:?}");
        assert_eq!(super::parts(&[4], &lens, 2), [vec![4]]);
    }
}
