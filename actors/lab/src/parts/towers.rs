//! A small image tower and a tower of captions, trained contrastively or as a classifier, with gradients written by hand.
//!
//! The image tower is one hidden layer of rectified units; a caption is one-hot, so that its tower is a table. Contrastive: both
//! embeddings have length one, and each image of a batch is to be told from the others by its caption, each caption by its image (CLIP's
//! loss: Radford et al. 2021, fig. 3). Of one-hot captions that is a pair of cross entropies, one over captions and one over images.
//! Supervised: the table is a linear head under one cross entropy.
//!
//! Invariant: sums run in index order in f64, so that the bits depend on nothing but inputs and seed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What towers are trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// To tell images and captions of a batch apart, each by the other.
    Contrastive,
    /// To name the class.
    Supervised,
}

impl Objective {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contrastive => "contrastive",
            Self::Supervised => "supervised",
        }
    }
}

/// Sizes of towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Numbers of an image.
    pub inputs: usize,
    /// Hidden units.
    pub hidden: usize,
    /// Numbers of an embedding.
    pub embedding: usize,
    /// Classes, which are captions.
    pub classes: usize,
}

/// An image with its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Places and values of the numbers that are not zero.
    inputs: Vec<(u32, f64)>,
    /// Its class.
    class: usize,
}

impl Example {
    /// Of the numbers of an image, f64 `[inputs]`.
    #[must_use]
    pub fn new(inputs: &[f64], class: usize) -> Self {
        let inputs = inputs.iter().zip(0..).filter(|(x, _)| **x != 0.0).map(|(x, at)| (at, *x)).collect();
        Self { inputs, class }
    }
}

/// How towers are trained: Adam (Kingma and Ba 2015) at a constant rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Examples of a batch.
    pub batch: usize,
    /// Steps.
    pub steps: usize,
    /// Learning rate.
    pub lr: f64,
}

/// ln of the factor that contrastive training starts with, 1/0.07, and of the greatest it may have.
const LOG_SCALE: [f64; 2] = [2.659_260_036_932_778, 4.605_170_185_988_091];

/// Two towers.
#[derive(Clone, Debug, PartialEq)]
pub struct Towers {
    sizes: Sizes,
    objective: Objective,
    /// First layer `[inputs, hidden]` and `[hidden]`, second `[hidden, embedding]` and `[embedding]`, captions `[classes, embedding]`, biases of
    /// classes `[classes]`, ln of the factor on similarities.
    weights: Vec<f64>,
}

/// Where each part of the weights begins.
#[derive(Clone, Copy)]
struct Places {
    b1: usize,
    w2: usize,
    b2: usize,
    text: usize,
    bias: usize,
    scale: usize,
}

impl Sizes {
    fn places(&self) -> Places {
        let b1 = self.inputs * self.hidden;
        let w2 = b1 + self.hidden;
        let b2 = w2 + self.hidden * self.embedding;
        let text = b2 + self.embedding;
        let bias = text + self.classes * self.embedding;
        Places { b1, w2, b2, text, bias, scale: bias + self.classes }
    }
}

/// A row of length one, and the length it had.
fn unit(row: &[f64]) -> (Vec<f64>, f64) {
    let length = dot(row, row).sqrt().max(1e-12);
    (row.iter().map(|x| x / length).collect(), length)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// The gradient by a row, given that by its unit row.
fn through_unit(gradient: &[f64], unit: &[f64], length: f64) -> Vec<f64> {
    let along = dot(gradient, unit);
    gradient.iter().zip(unit).map(|(g, u)| (g - along * u) / length).collect()
}

/// Softmax of `row` in place; returns ln Σ exp.
fn softmax(row: &mut [f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = libm::exp(*x - max);
        sum += *x;
    }
    for x in row.iter_mut() {
        *x /= sum;
    }
    max + libm::log(sum)
}

impl Towers {
    /// Towers with random weights: uniform with the spread of He et al. 2015 in the first layer and of 1/√n after it; biases zero.
    #[must_use]
    pub fn new(sizes: Sizes, objective: Objective, stream: &mut ChaCha8Rng) -> Self {
        let at = sizes.places();
        let mut weights = vec![0.0; at.scale + 1];
        let mut fill = |part: std::ops::Range<usize>, spread: f64| {
            weights[part].iter_mut().for_each(|w| *w = stream.random_range(-spread..spread));
        };
        fill(0..at.b1, (6.0 / sizes.inputs as f64).sqrt());
        fill(at.w2..at.b2, (3.0 / sizes.hidden as f64).sqrt());
        fill(at.text..at.bias, (3.0 / sizes.embedding as f64).sqrt());
        weights[at.scale] = LOG_SCALE[0];
        Self { sizes, objective, weights }
    }

    /// Hidden units of an image, rectified, and its embedding before it has length one.
    fn image(&self, example: &Example) -> (Vec<f64>, Vec<f64>) {
        let (at, Sizes { hidden, embedding, .. }) = (self.sizes.places(), self.sizes);
        let mut units = self.weights[at.b1..at.w2].to_vec();
        for (place, x) in &example.inputs {
            add(&mut units, *x, &self.weights[*place as usize * hidden..][..hidden]);
        }
        for unit in &mut units {
            *unit = unit.max(0.0);
        }
        let mut out = self.weights[at.b2..at.text].to_vec();
        for (unit, row) in units.iter().zip(self.weights[at.w2..at.b2].chunks_exact(embedding)) {
            if *unit > 0.0 {
                add(&mut out, *unit, row);
            }
        }
        (units, out)
    }

    fn caption(&self, class: usize) -> &[f64] {
        &self.weights[self.sizes.places().text + class * self.sizes.embedding..][..self.sizes.embedding]
    }

    fn scale(&self) -> f64 {
        libm::exp(self.weights[self.sizes.places().scale])
    }

    /// Scores of all classes: scaled cosines, or logits, f64 `[classes]`.
    #[must_use]
    pub fn scores(&self, example: &Example) -> Vec<f64> {
        let (_, out) = self.image(example);
        let bias = &self.weights[self.sizes.places().bias..][..self.sizes.classes];
        match self.objective {
            Objective::Contrastive => {
                let (out, scale) = (unit(&out).0, self.scale());
                (0..self.sizes.classes).map(|class| scale * dot(&out, &unit(self.caption(class)).0)).collect()
            }
            Objective::Supervised => {
                (0..self.sizes.classes).map(|class| dot(&out, self.caption(class)) + bias[class]).collect()
            }
        }
    }

    /// The loss of a batch of at least one, in nats, and adds its gradient to `gradient`.
    fn learn(&self, batch: &[&Example], gradient: &mut [f64]) -> f64 {
        let images: Vec<(Vec<f64>, Vec<f64>)> = batch.iter().map(|example| self.image(example)).collect();
        let (loss, by_image) = match self.objective {
            Objective::Contrastive => self.contrast(batch, &images, gradient),
            Objective::Supervised => self.classify(batch, &images, gradient),
        };
        let (at, Sizes { hidden, embedding, .. }) = (self.sizes.places(), self.sizes);
        for ((example, (units, _)), g) in batch.iter().zip(&images).zip(&by_image) {
            add(&mut gradient[at.b2..at.text], 1.0, g);
            let mut by_units = vec![0.0; hidden];
            for (place, unit) in units.iter().enumerate().filter(|(_, unit)| **unit > 0.0) {
                let row = at.w2 + place * embedding;
                add(&mut gradient[row..row + embedding], *unit, g);
                by_units[place] = dot(&self.weights[row..row + embedding], g);
            }
            add(&mut gradient[at.b1..at.w2], 1.0, &by_units);
            for (place, x) in &example.inputs {
                add(&mut gradient[*place as usize * hidden..][..hidden], *x, &by_units);
            }
        }
        loss
    }

    /// CLIP's loss, the gradient by captions and by the factor into `gradient`, and that by embeddings.
    fn contrast(
        &self,
        batch: &[&Example],
        images: &[(Vec<f64>, Vec<f64>)],
        gradient: &mut [f64],
    ) -> (f64, Vec<Vec<f64>>) {
        let (n, at, scale) = (batch.len(), self.sizes.places(), self.scale());
        let units: Vec<(Vec<f64>, f64)> = images.iter().map(|(_, out)| unit(out)).collect();
        let captions: Vec<(Vec<f64>, f64)> = (0..self.sizes.classes).map(|class| unit(self.caption(class))).collect();
        let cosine = |i: usize, j: usize| dot(&units[i].0, &captions[batch[j].class].0);
        let cosines: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| cosine(i, j)).collect()).collect();
        let mut loss = 0.0;
        // By similarity (i, j): the softmax over captions of an image and over images of a caption, less one at the pair.
        let mut by_cosine = vec![vec![0.0; n]; n];
        for i in 0..n {
            let mut over_captions: Vec<f64> = cosines[i].iter().map(|cosine| scale * cosine).collect();
            let mut over_images: Vec<f64> = cosines.iter().map(|row| scale * row[i]).collect();
            loss += softmax(&mut over_captions) + softmax(&mut over_images) - 2.0 * scale * cosines[i][i];
            for j in 0..n {
                by_cosine[i][j] += over_captions[j];
                by_cosine[j][i] += over_images[j];
            }
            by_cosine[i][i] -= 2.0;
        }
        let share = 0.5 / n as f64;
        let (mut by_unit, mut by_caption) =
            (vec![vec![0.0; self.sizes.embedding]; n], vec![vec![0.0; self.sizes.embedding]; self.sizes.classes]);
        for (i, row) in by_cosine.iter().enumerate() {
            for (j, g) in row.iter().enumerate() {
                let class = batch[j].class;
                add(&mut by_unit[i], share * scale * g, &captions[class].0);
                add(&mut by_caption[class], share * scale * g, &units[i].0);
                gradient[at.scale] += share * scale * g * cosines[i][j];
            }
        }
        for (class, g) in by_caption.iter().enumerate() {
            let g = through_unit(g, &captions[class].0, captions[class].1);
            add(&mut gradient[at.text + class * self.sizes.embedding..][..self.sizes.embedding], 1.0, &g);
        }
        let by_image = by_unit.iter().zip(&units).map(|(g, (unit, length))| through_unit(g, unit, *length));
        (share * loss, by_image.collect())
    }

    /// Cross entropy over classes, with its gradients as in [`Towers::contrast`].
    fn classify(
        &self,
        batch: &[&Example],
        images: &[(Vec<f64>, Vec<f64>)],
        gradient: &mut [f64],
    ) -> (f64, Vec<Vec<f64>>) {
        let (at, Sizes { embedding, classes, .. }) = (self.sizes.places(), self.sizes);
        let share = 1.0 / batch.len() as f64;
        let (mut loss, mut by_image) = (0.0, Vec::with_capacity(batch.len()));
        for (example, (_, out)) in batch.iter().zip(images) {
            let bias = &self.weights[at.bias..][..classes];
            let mut scores: Vec<f64> = (0..classes).map(|class| dot(out, self.caption(class)) + bias[class]).collect();
            let own = scores[example.class];
            loss += share * (softmax(&mut scores) - own);
            scores[example.class] -= 1.0;
            let mut g = vec![0.0; embedding];
            for (class, score) in scores.iter().enumerate() {
                add(&mut g, share * score, self.caption(class));
                add(&mut gradient[at.text + class * embedding..][..embedding], share * score, out);
                gradient[at.bias + class] += share * score;
            }
            by_image.push(g);
        }
        (loss, by_image)
    }

    /// Trains on batches drawn anew from `examples`, of which there is one at least; `seen` is told the towers and the loss after each step,
    /// counted from 1, and says whether to go on.
    pub fn train(
        &mut self,
        examples: &[Example],
        schedule: &Schedule,
        stream: &mut ChaCha8Rng,
        mut seen: impl FnMut(usize, &Self, f64) -> bool,
    ) {
        const BETA: [f64; 2] = [0.9, 0.999];
        let n = self.weights.len();
        let (mut first, mut second) = (vec![0.0; n], vec![0.0; n]);
        let mut decay = [1.0; 2];
        for step in 1..=schedule.steps {
            let drawn = (0..schedule.batch).map(|_| &examples[stream.random_range(0..examples.len() as u32) as usize]);
            let batch: Vec<&Example> = drawn.collect();
            let mut gradient = vec![0.0; n];
            let loss = self.learn(&batch, &mut gradient);
            decay = [decay[0] * BETA[0], decay[1] * BETA[1]];
            for (((w, g), m), v) in self.weights.iter_mut().zip(&gradient).zip(&mut first).zip(&mut second) {
                *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
                *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
                *w -= schedule.lr * (*m / (1.0 - decay[0])) / ((*v / (1.0 - decay[1])).sqrt() + 1e-8);
            }
            let scale = &mut self.weights[n - 1];
            *scale = scale.min(LOG_SCALE[1]);
            if !seen(step, self, loss) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    const SIZES: Sizes = Sizes { inputs: 6, hidden: 5, embedding: 4, classes: 3 };

    fn batch(stream: &mut ChaCha8Rng) -> Vec<Example> {
        let one = |at: usize| {
            let inputs: Vec<f64> =
                (0..6).map(|place| if place == at % 6 { 0.0 } else { stream.random_range(-1.0..1.0) }).collect();
            Example::new(&inputs, at % 3)
        };
        (0..7).map(one).collect()
    }

    #[test]
    fn gradients_are_difference_quotients() {
        for objective in [Objective::Contrastive, Objective::Supervised] {
            let mut stream = ChaCha8Rng::seed_from_u64(4);
            let examples = batch(&mut stream);
            let batch: Vec<&Example> = examples.iter().collect();
            let mut towers = Towers::new(SIZES, objective, &mut stream);
            // So that biases count too.
            for w in &mut towers.weights {
                *w += stream.random_range(-0.1..0.1);
            }
            let mut gradient = vec![0.0; towers.weights.len()];
            towers.learn(&batch, &mut gradient);
            for (at, found) in gradient.iter().enumerate() {
                let loss = |by: f64| {
                    let mut moved = towers.clone();
                    moved.weights[at] += by;
                    moved.learn(&batch, &mut vec![0.0; gradient.len()])
                };
                let expected = (loss(1e-6) - loss(-1e-6)) / 2e-6;
                assert!(
                    (found - expected).abs() < 1e-7 * (1.0 + expected.abs()),
                    "{objective:?} {at}: {found} {expected}"
                );
            }
            assert!(gradient.iter().filter(|g| **g != 0.0).count() > gradient.len() / 2);
        }
    }

    #[test]
    fn with_one_hot_captions_the_loss_is_a_pair_of_cross_entropies() {
        let mut stream = ChaCha8Rng::seed_from_u64(4);
        let examples = batch(&mut stream);
        let batch: Vec<&Example> = examples.iter().collect();
        let towers = Towers::new(SIZES, Objective::Contrastive, &mut stream);
        let loss = towers.learn(&batch, &mut vec![0.0; towers.weights.len()]);
        let counts = [3.0, 2.0, 2.0];
        let scores: Vec<Vec<f64>> = examples.iter().map(|example| towers.scores(example)).collect();
        // Over classes, each as often as the batch has it; and over images, for the class of each.
        let (mut over_classes, mut over_images) = (0.0, 0.0);
        for (example, own) in examples.iter().zip(&scores) {
            let of_class: f64 = own.iter().zip(counts).map(|(score, n)| n * libm::exp(*score)).sum();
            over_classes += libm::log(of_class) - own[example.class];
            let of_images: f64 = scores.iter().map(|score| libm::exp(score[example.class])).sum();
            over_images += libm::log(of_images) - own[example.class];
        }
        assert!((loss - 0.5 * (over_classes + over_images) / 7.0).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn towers_learn_what_can_be_told_apart_and_repeat_to_the_bit() {
        for objective in [Objective::Contrastive, Objective::Supervised] {
            let train = |seed| {
                let mut stream = ChaCha8Rng::seed_from_u64(seed);
                let example = |class: usize| {
                    let inputs: Vec<f64> = (0..6)
                        .map(|at| f64::from(u8::from(at % 3 == class)) + stream.random_range(-0.2..0.2))
                        .collect();
                    Example::new(&inputs, class)
                };
                let examples: Vec<Example> = (0..90).map(|at| at % 3).map(example).collect();
                let mut towers = Towers::new(SIZES, objective, &mut stream);
                let mut losses = Vec::new();
                let schedule = Schedule { batch: 16, steps: 200, lr: 0.02 };
                towers.train(&examples, &schedule, &mut stream, |_, _, loss| {
                    losses.push(loss);
                    true
                });
                let right = |example: &Example| {
                    let scores = towers.scores(example);
                    (0..3).all(|class| scores[class] <= scores[example.class])
                };
                let n_right = examples.iter().filter(|example| right(example)).count();
                assert!(n_right == 90 && losses[199] < losses[0], "{objective:?}: {n_right}");
                towers
            };
            assert_eq!(train(1), train(1));
            assert_ne!(train(1), train(2));
        }
    }
}
