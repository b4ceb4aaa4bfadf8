//! Which images of which class and group each of some models got right, and class-balanced accuracies of it.
//!
//! An image is a row of bits, one a model, so that a resample adds the rows of drawn images into binary counters of all models at once.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which photos an image is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Of the class before its usual background.
    Common,
    /// Of the class before an unusual one.
    Counter,
}

impl Group {
    /// Both, in the order of pairs.
    pub const BOTH: [Self; 2] = [Self::Common, Self::Counter];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Counter => "counter",
        }
    }

    /// The group of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|group| group.name() == name)
    }
}

/// Images of one class: places of rows of each group.
#[derive(Clone, Debug)]
struct Class {
    class: u32,
    rows: [Range<usize>; 2],
}

/// What every model got right.
#[derive(Clone, Debug)]
pub struct Grid {
    classes: Vec<Class>,
    left_out: Vec<u32>,
    n_models: usize,
    /// Words of a row.
    n_words: usize,
    rows: Vec<u64>,
}

/// Accuracies of one class on the common and the counter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OfClass {
    /// The class.
    pub class: u32,
    /// Shares of images that are right, common then counter.
    pub accuracy: [f64; 2],
    /// Images of each.
    pub n: [usize; 2],
}

/// Binary digits of counters of 64 models, lowest first.
type Counters = [u64; 32];

impl Grid {
    /// Of images with their class and group, and of models, which images each got right, in the order of images.
    ///
    /// A class that has images of one group only is left out of everything: its accuracy has nothing to be held against.
    ///
    /// # Errors
    /// `Input` if no class has images of both groups, naming what there is; `Value` if a model has not one answer an image.
    pub fn new(images: &[(u32, Group)], models: &[Vec<bool>]) -> Result<Self> {
        if let Some((at, model)) = models.iter().enumerate().find(|(_, model)| model.len() != images.len()) {
            let message = format!("model {at}: expected {} answers, one an image, got {}", images.len(), model.len());
            return Err(Error::Value { key: "answers".into(), message });
        }
        let mut order: Vec<usize> = (0..images.len()).collect();
        order.sort_by_key(|at| images[*at]);
        let (mut classes, mut left_out, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for of_class in order.chunk_by(|a, b| images[*a].0 == images[*b].0) {
            let class = images[of_class[0]].0;
            let n_common = of_class.iter().filter(|at| images[**at].1 == Group::Common).count();
            if n_common == 0 || n_common == of_class.len() {
                left_out.push(class);
                continue;
            }
            let (from, middle, to) = (places.len(), places.len() + n_common, places.len() + of_class.len());
            classes.push(Class { class, rows: [from..middle, middle..to] });
            places.extend_from_slice(of_class);
        }
        if classes.is_empty() {
            let count = |group| images.iter().filter(|(_, of)| *of == group).count();
            let (common, counter) = (count(Group::Common), count(Group::Counter));
            let what = format!(
                "expected a class with images of both groups, got {common} images of `common` and {counter} of `counter` in {} classes",
                left_out.len()
            );
            return Err(Error::Input { what, hint: Some("is each class there under one name in both groups?".into()) });
        }
        let n_words = models.len().div_ceil(64).max(1);
        let mut rows = vec![0; places.len() * n_words];
        for (row, image) in rows.chunks_exact_mut(n_words).zip(places) {
            for (at, model) in models.iter().enumerate() {
                row[at / 64] |= u64::from(model[image]) << (at % 64);
            }
        }
        Ok(Self { classes, left_out, n_models: models.len(), n_words, rows })
    }

    /// Classes that have images of one group only.
    #[must_use]
    pub fn left_out(&self) -> &[u32] {
        &self.left_out
    }

    /// How many classes count.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.classes.len()
    }

    /// How many images of each group count.
    #[must_use]
    pub fn n_images(&self) -> [usize; 2] {
        [0, 1].map(|group| self.classes.iter().map(|class| class.rows[group].len()).sum())
    }

    /// Half the smallest step that an accuracy of each group can take, half an image of all: see [`Scale::z`](super::Scale::z).
    #[must_use]
    pub fn least(&self) -> f64 {
        0.5 / self.n_images().into_iter().max().unwrap_or(1).max(2) as f64
    }

    fn is_right(&self, row: usize, model: usize) -> bool {
        self.rows[row * self.n_words + model / 64] >> (model % 64) & 1 == 1
    }

    fn count(&self, rows: &Range<usize>, model: usize) -> usize {
        rows.clone().filter(|row| self.is_right(*row, model)).count()
    }

    /// A model's accuracies class by class, which average to its balanced ones.
    #[must_use]
    pub fn by_class(&self, model: usize) -> Vec<OfClass> {
        let one = |of: &Class| {
            let n = of.rows.each_ref().map(Range::len);
            let right = of.rows.each_ref().map(|rows| self.count(rows, model));
            OfClass { class: of.class, accuracy: [0, 1].map(|group| right[group] as f64 / n[group] as f64), n }
        };
        self.classes.iter().map(one).collect()
    }

    /// Accuracies of every model on the common and the counter group, class-balanced: means over classes of shares of images.
    #[must_use]
    pub fn balanced(&self) -> Vec<[f64; 2]> {
        let one = |model| {
            let classes = self.by_class(model);
            [0, 1].map(|group| classes.iter().map(|of| of.accuracy[group]).sum::<f64>() / classes.len() as f64)
        };
        (0..self.n_models).map(one).collect()
    }

    /// The same over all images alike, however many a class has.
    #[must_use]
    pub fn unbalanced(&self) -> Vec<[f64; 2]> {
        let one = |model| {
            [0, 1].map(|group| {
                let n: usize = self.classes.iter().map(|class| class.rows[group].len()).sum();
                let right: usize = self.classes.iter().map(|class| self.count(&class.rows[group], model)).sum();
                right as f64 / n as f64
            })
        };
        (0..self.n_models).map(one).collect()
    }

    /// [`Grid::balanced`] of images drawn anew, with replacement, within each class and group; the same images for all models.
    #[must_use]
    pub fn resampled(&self, stream: &mut ChaCha8Rng) -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; self.n_models];
        let mut counters: Vec<Counters> = vec![[0; 32]; self.n_words];
        for class in &self.classes {
            for (group, rows) in class.rows.iter().enumerate() {
                let n = rows.len();
                counters.fill([0; 32]);
                for _ in 0..n {
                    let row = rows.start + stream.random_range(0..n as u32) as usize;
                    let bits = &self.rows[row * self.n_words..][..self.n_words];
                    for (counters, bits) in counters.iter_mut().zip(bits) {
                        add(counters, *bits);
                    }
                }
                let n_digits = n.ilog2() as usize + 1;
                let share = 1.0 / (n * self.classes.len()) as f64;
                for (model, sum) in sums.iter_mut().enumerate() {
                    let digits = counters[model / 64][..n_digits].iter().enumerate();
                    let count: u64 = digits.map(|(digit, bits)| (bits >> (model % 64) & 1) << digit).sum();
                    sum[group] += count as f64 * share;
                }
            }
        }
        sums
    }
}

/// Adds one bit to each of 64 counters; a group of 2³² images would overflow them.
fn add(counters: &mut Counters, bits: u64) {
    let mut carry = bits;
    for digit in counters {
        if carry == 0 {
            return;
        }
        let both = *digit & carry;
        *digit ^= carry;
        carry = both;
    }
}

#[cfg(test)]
mod tests {
    use super::Group::{Common, Counter};
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn accuracies_are_means_over_classes_and_the_drop_is_theirs() {
        // Class 0: 1 of 2 and 0 of 1; class 1: 3 of 4 and 1 of 2.
        let images = [
            (1, Common),
            (0, Common),
            (1, Counter),
            (1, Common),
            (0, Counter),
            (1, Common),
            (0, Common),
            (1, Counter),
            (1, Common),
        ];
        let right = vec![true, true, true, true, false, true, false, false, false];
        let grid = Grid::new(&images, &[right, vec![true; 9]]).unwrap();
        assert_eq!(grid.balanced(), [[0.625, 0.25], [1.0, 1.0]]);
        assert_eq!(grid.unbalanced()[0], [4.0 / 6.0, 1.0 / 3.0]);
        assert_eq!(grid.by_class(0)[1], OfClass { class: 1, accuracy: [0.75, 0.5], n: [4, 2] });
        assert_eq!((grid.n_images(), grid.n_classes()), ([6, 3], 2));
        assert_eq!(grid.least(), 1.0 / 12.0);
    }

    #[test]
    fn a_class_of_one_group_is_left_out_and_a_group_without_images_is_refused() {
        let images = [(3, Common), (5, Common), (3, Counter), (5, Common)];
        let grid = Grid::new(&images, &[vec![true, false, true, false]]).unwrap();
        assert_eq!(grid.left_out(), [5]);
        assert_eq!(grid.balanced(), [[1.0, 1.0]]);
        let error = Grid::new(&[(0, Common), (1, Common)], &[]).unwrap_err().to_string();
        assert!(error.contains("2 images of `common` and 0 of `counter` in 2 classes"), "{error}");
        assert!(Grid::new(&[], &[]).is_err());
        // Each group has images, no class has both.
        assert!(Grid::new(&[(0, Common), (1, Counter)], &[]).is_err());
        let error = Grid::new(&images, &[vec![true]]).unwrap_err().to_string();
        assert!(error.contains("expected 4 answers"), "{error}");
    }

    /// Drawing one by one and averaging, for 130 models in three words.
    #[test]
    fn resamples_are_those_of_drawing_one_by_one() {
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let images: Vec<(u32, Group)> =
            (0..400).map(|at| (at % 7, if at % 3 == 0 { Counter } else { Common })).collect();
        let models: Vec<Vec<bool>> =
            (0..130).map(|_| images.iter().map(|_| stream.random_bool(0.7)).collect()).collect();
        let grid = Grid::new(&images, &models).unwrap();
        let found = grid.resampled(&mut ChaCha8Rng::seed_from_u64(9));
        let mut stream = ChaCha8Rng::seed_from_u64(9);
        let mut expected = vec![[0.0; 2]; models.len()];
        for class in 0..7 {
            for (at, group) in Group::BOTH.into_iter().enumerate() {
                let of: Vec<usize> = (0..images.len()).filter(|image| images[*image] == (class, group)).collect();
                let drawn: Vec<usize> =
                    of.iter().map(|_| of[stream.random_range(0..of.len() as u32) as usize]).collect();
                for (sum, model) in expected.iter_mut().zip(&models) {
                    sum[at] += drawn.iter().filter(|image| model[**image]).count() as f64 / drawn.len() as f64 / 7.0;
                }
            }
        }
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found[0] - expected[0]).abs() < 1e-12 && (found[1] - expected[1]).abs() < 1e-12);
        }
    }

    #[test]
    fn counters_carry_into_every_digit() {
        let mut counters = [0; 32];
        for _ in 0..1_000 {
            add(&mut counters, 0b101);
        }
        let value =
            |model: usize| -> u64 { counters.iter().enumerate().map(|(d, bits)| (bits >> model & 1) << d).sum() };
        assert_eq!([value(0), value(1), value(2)], [1000, 0, 1000]);
    }
}
