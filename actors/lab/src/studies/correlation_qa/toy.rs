//! The small network of two streams: one knows the question, one sees the image. Its drop has a known answer.
//!
//! logit of answer c of question q under image x: `U[q, c] + W[answer c] · x`. It is trained on examples (question, image, stated
//! answer): the stated answer is right with probability τ, else each wrong one alike; the image shows the stated answer with
//! probability ρ, else each other one alike. Given the stated answer question and image are independent, so that the best network of
//! this form is Bayes' rule, P(c | q, x) ∝ P(c | q) P(x | c), and [`expected`] says what it answers.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::question::N_WRONG;
use super::settings::ToySettings;
use crate::error::{Error, Result};

/// Answers of a question.
pub(super) const N_ANSWERS: usize = N_WRONG + 1;

/// Shares of answers of the best network, sampled at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    /// Right answers where the image shows the right one.
    pub(super) factual: f64,
    /// Right answers where it shows a wrong one.
    pub(super) spurious: f64,
    /// Answers that the image shows, where it is a wrong one.
    pub(super) instinct: f64,
}

impl Expected {
    /// What accuracy falls by.
    pub(super) fn drop(&self) -> f64 {
        self.factual - self.spurious
    }
}

/// What the best network answers, with ρ and τ in [0, 1). Nothing falls where ρ is chance, 1/6; where ρ nears 1 everything does.
pub(super) fn expected(rho: f64, knowledge: f64) -> Expected {
    let n = N_WRONG as f64;
    let (wrong, other) = ((1.0 - knowledge) / n, (1.0 - rho) / n);
    let factual = knowledge * rho / (knowledge * rho + n * wrong * other);
    let all = knowledge * other + wrong * rho + (n - 1.0) * wrong * other;
    Expected { factual, spurious: knowledge * other / all, instinct: wrong * rho / all }
}

/// What a network sees of an image: its light in `side` by `side` cells, without its mean, of length 1.
///
/// # Errors
/// `Input` for bytes that are no image.
pub(super) fn eye(bytes: &[u8], side: u32) -> Result<Vec<f32>> {
    let image = image::load_from_memory(bytes)
        .map_err(|error| Error::Input { what: format!("an image cannot be read: {error}"), hint: None })?
        .to_luma8();
    let (width, height) = (image.width(), image.height());
    let n_cells = (side * side) as usize;
    let (mut sums, mut counts) = (vec![0.0_f64; n_cells], vec![0.0_f64; n_cells]);
    for (x, y, pixel) in image.enumerate_pixels() {
        let cell = (y * side / height * side + x * side / width) as usize;
        if let (Some(sum), Some(count)) = (sums.get_mut(cell), counts.get_mut(cell)) {
            *sum += f64::from(pixel.0[0]);
            *count += 1.0;
        }
    }
    let light: Vec<f64> = sums.iter().zip(&counts).map(|(sum, count)| sum / count.max(1.0)).collect();
    let mean = light.iter().sum::<f64>() / n_cells as f64;
    let length = light.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt().max(1e-9);
    Ok(light.iter().map(|x| ((x - mean) / length) as f32).collect())
}

/// What networks are trained on and asked, but for chance.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The answers of each question by number, the right one first.
    pub(super) answers: Vec<[usize; N_ANSWERS]>,
    /// How many answers there are.
    pub(super) n_answers: usize,
    /// What is seen, by kind, question and answer: `seen[kind][N_ANSWERS * question + answer]`.
    pub(super) seen: Vec<Vec<Vec<f32>>>,
}

impl World {
    fn n_pixels(&self) -> usize {
        self.seen.iter().flatten().map(Vec::len).max().unwrap_or(0)
    }

    /// Takes off what all images of a kind have in common, so that they differ more.
    pub(super) fn centre(&mut self) {
        let n_pixels = self.n_pixels();
        for kind in &mut self.seen {
            let mut mean = vec![0.0_f64; n_pixels];
            for image in kind.iter() {
                mean.iter_mut().zip(image).for_each(|(mean, x)| *mean += f64::from(*x) / kind.len() as f64);
            }
            for image in kind.iter_mut() {
                image.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= *mean as f32);
                let length = image.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
                for x in image.iter_mut() {
                    *x /= length;
                }
            }
        }
    }
}

/// A trained network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    /// `U`, `[n_questions, N_ANSWERS]`, row-major.
    pub(super) questions: Vec<f32>,
    /// `W`, `[n_answers, n_pixels]`, row-major.
    pub(super) pixels: Vec<f32>,
}

/// An example to train on: question, kind and answer of the image if there is one, stated answer.
struct Example {
    question: usize,
    image: Option<(usize, usize)>,
    stated: usize,
}

impl Network {
    /// Trains a network; all chance comes from `seed`. Returns it with the mean loss of each pass, in nats.
    pub(super) fn train(world: &World, settings: &ToySettings, rho: f64, seed: u64) -> (Self, Vec<f64>) {
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        let mut examples = draw(world, settings, rho, &mut stream);
        let n_pixels = world.n_pixels();
        let mut network = Self {
            questions: vec![0.0; N_ANSWERS * world.answers.len()],
            pixels: vec![0.0; n_pixels * world.n_answers],
        };
        let n_steps = settings.epochs as usize * examples.len();
        let (mut nth, mut losses) = (0_usize, Vec::new());
        for _ in 0..settings.epochs {
            examples.shuffle(&mut stream);
            let mut loss = 0.0;
            for example in &examples {
                let left = 1.0 - nth as f64 / n_steps as f64;
                let [of_question, of_image] = [settings.lr_question, settings.lr_image].map(|lr| (lr * left) as f32);
                loss += network.step(world, example, of_question, of_image);
                nth += 1;
            }
            losses.push(loss / examples.len() as f64);
        }
        (network, losses)
    }

    /// Probabilities of the answers of a question, under an image or none.
    pub(super) fn answer(&self, world: &World, question: usize, image: Option<&[f32]>) -> [f64; N_ANSWERS] {
        let n_pixels = world.n_pixels();
        let answers = &world.answers[question];
        let mut logits = [0.0_f64; N_ANSWERS];
        for (c, logit) in logits.iter_mut().enumerate() {
            *logit = f64::from(self.questions[N_ANSWERS * question + c]);
            if let Some(image) = image {
                let row = &self.pixels[n_pixels * answers[c]..n_pixels * (answers[c] + 1)];
                *logit += f64::from(dot(row, image));
            }
        }
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers = logits.map(|logit| libm::exp(logit - most));
        let sum: f64 = powers.iter().sum();
        powers.map(|power| power / sum)
    }

    /// One step down the cross-entropy of an example; its loss before the step.
    fn step(&mut self, world: &World, example: &Example, of_question: f32, of_image: f32) -> f64 {
        let Example { question, image, stated } = *example;
        let image = image.map(|(kind, answer)| world.seen[kind][N_ANSWERS * question + answer].as_slice());
        let shares = self.answer(world, question, image);
        let n_pixels = world.n_pixels_of(image);
        for (c, share) in shares.iter().enumerate() {
            let slope = (share - f64::from(u8::from(c == stated))) as f32;
            self.questions[N_ANSWERS * question + c] -= of_question * slope;
            if let Some(image) = image {
                let at = n_pixels * world.answers[question][c];
                let row = &mut self.pixels[at..at + n_pixels];
                row.iter_mut().zip(image).for_each(|(w, x)| *w -= of_image * slope * x);
            }
        }
        -libm::log(shares[stated].max(1e-300))
    }

    /// As a safetensors file: `questions` and `pixels`, f32.
    pub(super) fn to_file(&self, world: &World) -> Vec<u8> {
        let (n_questions, n_pixels) = (world.answers.len(), world.n_pixels());
        let split = 4 * self.questions.len();
        let header = serde_json::json!({
            "questions": {"dtype": "F32", "shape": [n_questions, N_ANSWERS], "data_offsets": [0, split]},
            "pixels": {"dtype": "F32", "shape": [world.n_answers, n_pixels],
                "data_offsets": [split, split + 4 * self.pixels.len()]},
        });
        let header = header.to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(self.questions.iter().chain(&self.pixels).flat_map(|x| x.to_le_bytes()));
        bytes
    }
}

impl World {
    fn n_pixels_of(&self, image: Option<&[f32]>) -> usize {
        image.map_or_else(|| self.n_pixels(), <[f32]>::len)
    }
}

/// Lanes that sums are kept in: one order of addition on every machine, and room for vectors.
const LANES: usize = 8;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// One of `n`, but not `but`.
fn other(n: usize, but: usize, stream: &mut ChaCha8Rng) -> usize {
    (but + stream.random_range(1..n)) % n
}

fn draw(world: &World, settings: &ToySettings, rho: f64, stream: &mut ChaCha8Rng) -> Vec<Example> {
    let mut all = Vec::with_capacity(world.answers.len() * settings.draws as usize);
    for question in 0..world.answers.len() {
        for _ in 0..settings.draws {
            let stated = if stream.random_bool(settings.knowledge) { 0 } else { other(N_ANSWERS, 0, stream) };
            let shown = if stream.random_bool(rho) { stated } else { other(N_ANSWERS, stated, stream) };
            let kind = stream.random_range(0..world.seen.len().max(1));
            let is_blank = stream.random_bool(settings.blank);
            all.push(Example { question, image: (!is_blank).then_some((kind, shown)), stated });
        }
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::studies::correlation_qa::images::emblem;
    use crate::studies::correlation_qa::question::of_ours;

    #[test]
    fn the_expected_drop_is_nothing_at_chance_and_everything_near_one() {
        let chance = expected(1.0 / 6.0, 0.75);
        assert!((chance.factual - 0.75).abs() < 1e-12 && chance.drop().abs() < 1e-12, "{chance:?}");
        assert!((chance.instinct - 0.05).abs() < 1e-12);
        let sure = expected(1.0 - 1e-9, 0.75);
        assert!(sure.drop() > 0.999_999 && sure.instinct > 0.999_999, "{sure:?}");
        // By hand: τ = 1/2, ρ = 1/2: .1 · .5 / (.5 · .1 + .1 · .5 + 4 · .1 · .1) for either.
        let half = expected(0.5, 0.5);
        assert!((half.spurious - 0.05 / 0.14).abs() < 1e-12 && (half.instinct - 0.05 / 0.14).abs() < 1e-12);
        assert!((half.factual - 0.25 / 0.30).abs() < 1e-12);
        let drops: Vec<f64> = (17..99).map(|rho| expected(f64::from(rho) / 100.0, 0.75).drop()).collect();
        assert!(drops.is_sorted_by(|a, b| a < b));
    }

    /// A world of the questions of the program, seen as words and as patterns.
    pub(in crate::studies::correlation_qa) fn world(n_questions: usize) -> World {
        let questions: Vec<_> = of_ours().unwrap().into_iter().step_by(304 / n_questions).collect();
        let mut names: Vec<String> = Vec::new();
        let mut seen = vec![Vec::new(), Vec::new()];
        let mut answers = Vec::new();
        for question in &questions {
            let all: Vec<usize> = question
                .answers()
                .map(|answer| {
                    let image = crate::parts::typography::draw(answer, 96).unwrap();
                    seen[0].push(eye(&crate::parts::typography::png(&image).unwrap(), 24).unwrap());
                    let image = emblem(answer, names.len() as u64, 96);
                    seen[1].push(eye(&crate::parts::typography::png(&image).unwrap(), 24).unwrap());
                    names.iter().position(|name| name == answer).unwrap_or_else(|| {
                        names.push(answer.to_owned());
                        names.len() - 1
                    })
                })
                .collect();
            answers.push(all.try_into().unwrap());
        }
        let mut world = World { answers, n_answers: names.len(), seen };
        world.centre();
        world
    }

    #[test]
    fn a_trained_network_answers_as_bayes_rule_says_from_pixels() {
        let world = world(304);
        let settings = ToySettings::default();
        for rho in [1.0 / 6.0, 0.55, 0.95] {
            let (network, losses) = Network::train(&world, &settings, rho, 5);
            let n = world.answers.len();
            let mean = |f: &dyn Fn(usize, usize) -> f64| {
                (0..n).flat_map(|q| (0..2).map(move |kind| (q, kind))).map(|(q, kind)| f(q, kind)).sum::<f64>()
                    / (2 * n) as f64
            };
            let see = |q: usize, kind: usize, c: usize| Some(world.seen[kind][N_ANSWERS * q + c].as_slice());
            let factual = mean(&|q, kind| network.answer(&world, q, see(q, kind, 0))[0]);
            let spurious =
                mean(&|q, kind| (1..6).map(|c| network.answer(&world, q, see(q, kind, c))[0]).sum::<f64>() / 5.0);
            let instinct =
                mean(&|q, kind| (1..6).map(|c| network.answer(&world, q, see(q, kind, c))[c]).sum::<f64>() / 5.0);
            let floor = mean(&|q, _| network.answer(&world, q, None)[0]);
            let best = expected(rho, settings.knowledge);
            for (found, best) in
                [(factual, best.factual), (spurious, best.spurious), (instinct, best.instinct), (floor, 0.75)]
            {
                assert!((found - best).abs() < 0.04, "rho {rho}: {found}, expected {best}; {losses:?}");
            }
            assert!(losses.last() < losses.first());
        }
    }

    #[test]
    fn equal_seeds_give_equal_weights() {
        let (world, settings) = (world(16), ToySettings { draws: 5, epochs: 1, ..ToySettings::default() });
        let train = |seed| Network::train(&world, &settings, 0.5, seed).0;
        assert_eq!(train(1), train(1));
        assert_ne!(train(1), train(2));
        let file = train(1).to_file(&world);
        let n_header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&file[8..8 + n_header]).unwrap();
        assert_eq!(header["pixels"]["data_offsets"][1], file.len() - 8 - n_header);
        assert!(eye(b"no image", 24).is_err());
    }
}
