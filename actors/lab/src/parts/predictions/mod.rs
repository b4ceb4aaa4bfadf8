//! Predictions of models on images of classes and groups: what is read of files, kept with a run, and restricted to fewer labels.
//!
//! Invariants: every set of answers (a model under a prompt set over a label space) has one answer an image; a class and a label are one
//! list of names; of equal scores the label that comes first in the label space wins, and such ties are counted.

mod file;
mod read;
mod record;
mod space;

use std::collections::HashMap;

use crate::parts::robustness::Group;

pub use read::Collector;
pub use record::{Kept, record, recorded};
pub use space::nearest_labels;

/// Names, numbered as they come.
#[derive(Clone, Debug, Default)]
pub struct Names {
    all: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    /// The number of a name, which is a new one if the name is.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.places.get(name) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(name.to_owned());
        self.places.insert(name.to_owned(), number);
        number
    }

    /// The number of a name that is known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u32> {
        self.places.get(name).copied()
    }

    /// The name of a number; empty for none.
    #[must_use]
    pub fn name(&self, number: u32) -> &str {
        self.all.get(number as usize).map_or("", String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name, unique among all.
    pub id: String,
    /// Its class, a label.
    pub class: u32,
    /// Its group.
    pub group: Group,
    /// What is behind it; empty if not said.
    pub background: String,
    /// Its name where it was taken from; empty if not said.
    pub source: String,
}

/// A label among the first of an image, with its score if that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The label.
    pub label: u32,
    /// Its score.
    pub score: Option<f32>,
}

/// What a model answers under a prompt set over a label space.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The model.
    pub model: String,
    /// The prompt set.
    pub prompts: String,
    /// The label space: `1v1000`, `1v20`.
    pub space: String,
    /// The best label of each image.
    pub first: Vec<u32>,
    /// The best labels of each image, best first; empty where no more than the best is known.
    pub top: Vec<Vec<Ranked>>,
    /// Scores of all labels, `[images, labels]`, if they are known.
    pub scores: Option<Vec<f32>>,
    /// In how many images two labels share the best score.
    pub n_ties: usize,
}

impl Answers {
    /// Its whole name: `model, prompts, space`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}, {}, {}", self.model, self.prompts, self.space)
    }
}

/// Images, and what models answer.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    /// The images.
    pub images: Vec<Image>,
    /// Classes and labels.
    pub labels: Names,
    /// The labels of scores, in their order; empty if there are no scores.
    pub columns: Vec<u32>,
    /// Sets of answers, in the order in which they came.
    pub sets: Vec<Answers>,
}

impl Predictions {
    /// Classes and groups of the images, as [`Grid`](crate::parts::robustness::Grid) takes them.
    #[must_use]
    pub fn places(&self) -> Vec<(u32, Group)> {
        self.images.iter().map(|image| (image.class, image.group)).collect()
    }

    /// Which images a set got right.
    #[must_use]
    pub fn right(&self, set: &Answers) -> Vec<bool> {
        self.images.iter().zip(&set.first).map(|(image, first)| image.class == *first).collect()
    }
}

/// The best labels of scores, best first, of equal ones that which comes first; and whether the best score is shared.
/// `labels`: the label of each score; there is one at least.
#[must_use]
pub fn ranked(scores: &[f32], labels: &[u32], n: usize) -> (Vec<Ranked>, bool) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let is_shared = order.len() > 1 && scores[order[0]] == scores[order[1]];
    let one = |at: &usize| Ranked { label: labels[*at], score: Some(scores[*at]) };
    (order.iter().take(n).map(one).collect(), is_shared)
}

#[cfg(test)]
mod tests;
