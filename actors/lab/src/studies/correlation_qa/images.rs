//! Images of answers: words drawn by a program, natural ones painted by an endpoint or stood for by patterns.

use std::sync::Arc;

use futures::StreamExt;
use image::{GrayImage, Luma};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};
use tracker_store::{Digest, Kind as NodeKind, NodeId, Program, Recording, Store};

use super::CorrelationQa;
use super::question::Asked;
use super::trial::{Kind, Made, Role, Shown, Trial, put};
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::{Endpoint, Paint, Painted};
use crate::parts::typography;

/// Cells along each side of an emblem.
const CELLS: u32 = 6;
/// What an artifact of images is called by kind.
pub(super) const IMAGE: &str = "image";

/// A pattern that stands for an answer: cells whose brightness follows from the answer, a little from the seed. It is no photograph;
/// it gives every answer a look of its own, which a small network can learn.
pub(super) fn emblem(answer: &str, seed: u64, side: u32) -> GrayImage {
    let mut levels = ChaCha8Rng::from_seed(*blake3::hash(answer.to_lowercase().as_bytes()).as_bytes());
    let mut noise = ChaCha8Rng::seed_from_u64(seed);
    let cells: Vec<u8> = (0..CELLS * CELLS)
        .map(|_| (levels.random_range(24_i32..232) + noise.random_range(-24_i32..=24)).clamp(0, 255) as u8)
        .collect();
    GrayImage::from_fn(side, side, |x, y| {
        let (column, row) = (x * CELLS / side, y * CELLS / side);
        Luma([cells.get((row * CELLS + column) as usize).copied().unwrap_or(0)])
    })
}

/// What is to be shown with a question: the answer, and what part it plays.
struct Order {
    question: usize,
    k: u32,
    answer: String,
    role: Role,
    seed: u64,
}

impl CorrelationQa {
    /// The trials of all questions, recorded: for each kind a factual image and the spurious ones, and the question alone.
    ///
    /// # Errors
    /// Those of drawing, painting and recording.
    pub(super) async fn trials(&self, lab: &Lab, asked: &[Asked]) -> Result<Vec<Trial>> {
        let mut trials = Vec::new();
        for kind in &self.images.kinds {
            let n_images = 1 + self.images.spurious;
            let stage = lab.stage(&format!("images/{}", kind.name()), asked.len() * n_images as usize).await?;
            let orders = self.orders(&stage, asked);
            let (drawn_by, made) = match kind {
                Kind::Natural if self.painter.is_given() => self.painted(lab, &orders).await?,
                _ => self.drawn(lab, *kind, &orders).await?,
            };
            let (shown, files) = stored(lab, *kind, &orders, made)?;
            let mut recording = Recording::new();
            for shown in shown {
                let of = &asked[shown.question];
                trials.push(put(lab, &mut recording, of, shown, Some(drawn_by), files)?);
            }
            lab.record(recording).await?;
            stage.done(trials.len());
        }
        if self.models.text_only {
            let mut recording = Recording::new();
            for (question, of) in asked.iter().enumerate() {
                trials.push(put(lab, &mut recording, of, alone(question), None, None)?);
            }
            lab.record(recording).await?;
        }
        Ok(trials)
    }

    fn orders(&self, stage: &Stage<'_>, asked: &[Asked]) -> Vec<Order> {
        let of = |(question, asked): (usize, &Asked)| {
            let answers: Vec<String> = asked.question.answers().map(str::to_owned).collect();
            let all = (0..=self.images.spurious).zip(answers).map(|(k, answer)| Order {
                question,
                k,
                answer,
                role: if k == 0 { Role::Factual } else { Role::Spurious },
                seed: stage.seed(question as u32, k),
            });
            all.collect::<Vec<_>>()
        };
        asked.iter().enumerate().flat_map(of).collect()
    }

    /// Images drawn by programs of ours.
    async fn drawn(&self, lab: &Lab, kind: Kind, orders: &[Order]) -> Result<(NodeId, Vec<(Bytes, Made)>)> {
        let side = self.images.side;
        let (name, version, about) = match kind {
            Kind::Typography => {
                (typography::PROGRAM.0, typography::PROGRAM.1, "the answer in black on white, DejaVu Sans")
            }
            _ => ("emblem", "1", "a pattern of cells that stands for the answer; no photograph"),
        };
        let settings = format!("{about}; {side} by {side} pixels, PNG");
        let program = Program { name: name.into(), version: version.into(), settings };
        let mut recording = Recording::new();
        let node = recording.put(lab.run(), &program)?;
        lab.record(recording).await?;
        let draw = |order: &Order| {
            let (image, seed) = match kind {
                Kind::Typography => (typography::draw(&order.answer, side)?, None),
                _ => (emblem(&order.answer, order.seed, side), Some(order.seed)),
            };
            let made = Made { prompt: order.answer.clone(), seed, note: String::new() };
            Ok((Bytes::New(typography::png(&image)?), made))
        };
        Ok((node, orders.par_iter().map(draw).collect::<Result<Vec<_>>>()?))
    }

    /// Images painted by an endpoint. Each is in the store before its digest is on the tape.
    async fn painted(&self, lab: &Lab, orders: &[Order]) -> Result<(NodeId, Vec<(Bytes, Made)>)> {
        let (endpoint, node) = Endpoint::of_run(lab, "painter", &self.painter).await?;
        let (store, name) = (lab.store().clone(), format!("{}/painted", lab.plan().study));
        let options = PoolOptions::io("painter", self.painter.concurrency);
        let worker = move |_| Ok(Painter { endpoint: endpoint.clone(), store: store.clone(), name: name.clone() });
        let painter = Pool::start(lab.actors(), options, worker)?;
        let order = |order: &Order| Paint {
            prompt: self.images.prompt.replace("{answer}", &order.answer),
            size: self.images.size.clone(),
            seed: self.images.send_seed.then_some(order.seed),
            ask_b64: self.images.ask_b64,
        };
        let asked: Vec<(usize, Paint)> = orders.iter().map(order).enumerate().collect();
        let paints: Vec<Paint> = asked.iter().map(|(_, paint)| paint.clone()).collect();
        let answers: Vec<_> = painter.ask_all(asked).collect().await;
        lab.check()?;
        let mut made = Vec::with_capacity(answers.len());
        for ((_, answer), paint) in answers.into_iter().zip(paints) {
            let Painted { digest, revised_prompt } = answer?;
            let seed = paint.seed.map(|seed| seed & 0x7fff_ffff);
            made.push((Bytes::Kept(digest), Made { prompt: paint.prompt, seed, note: revised_prompt }));
        }
        Ok((node, made))
    }
}

/// An image's file: here, or in the store already.
enum Bytes {
    New(Vec<u8>),
    Kept(Digest),
}

/// A question without an image.
pub(super) fn alone(question: usize) -> Shown {
    Shown { question, k: 0, kind: Kind::Text, role: None, pictured: None, image: None, made: Made::default() }
}

/// Stores the images of a kind as one artifact. Returns what is to be shown, and the artifact.
fn stored(lab: &Lab, kind: Kind, orders: &[Order], made: Vec<(Bytes, Made)>) -> Result<(Vec<Shown>, Option<NodeId>)> {
    let mut draft = lab.store().draft(IMAGE)?;
    let mut all = Vec::with_capacity(orders.len());
    for (order, (bytes, made)) in orders.iter().zip(made) {
        let bytes = match bytes {
            Bytes::New(bytes) => bytes,
            Bytes::Kept(digest) => lab.store().read_file(digest).map_err(|error| Error::Input {
                what: format!("image {digest} of a recorded exchange cannot be read: {error}"),
                hint: Some(
                    "replay the run in the store it was painted in, or call the painter (no `--exchanges`)".into(),
                ),
            })?,
        };
        let entry = draft.add(&format!("{}/{}", order.question, order.k), &mut bytes.as_slice())?;
        all.push(Shown {
            question: order.question,
            k: order.k,
            kind,
            role: Some(order.role),
            pictured: Some(order.answer.clone()),
            image: Some(entry.digest),
            made,
        });
    }
    let name = format!("{}/images {}", lab.plan().study, kind.name());
    let files = draft.save(&name, &[], Some(lab.run()))?.manifest;
    Ok((all, NodeId::content(NodeKind::Artifact, files)))
}

/// Asks an endpoint for images; as many are in work as it has workers.
struct Painter {
    endpoint: Arc<Endpoint>,
    store: Store,
    name: String,
}

impl Worker for Painter {
    type Message = Paint;
    type Reply = Painted;
    type State = u64;

    async fn handle(&mut self, paint: Paint, turn: &mut Turn<'_, u64>) -> std::result::Result<Painted, Fault> {
        let keep = |bytes: &[u8]| {
            let mut draft = self.store.draft(IMAGE)?;
            let entry = draft.add(IMAGE, &mut &*bytes)?;
            draft.save(&self.name, &[], None)?;
            Ok(entry.digest)
        };
        let painted = self.endpoint.paint(&paint, &keep).await;
        let painted = painted.map_err(|error| Fault::infra("the painter failed").because(error))?;
        turn.update(|n_painted| *n_painted += 1);
        Ok(painted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emblem_is_the_answers_and_hardly_the_seeds() {
        let distance = |a: &GrayImage, b: &GrayImage| {
            let sum: u64 = a.pixels().zip(b.pixels()).map(|(Luma([a]), Luma([b]))| u64::from(a.abs_diff(*b))).sum();
            sum as f64 / (48.0 * 48.0)
        };
        let red = emblem("red", 1, 48);
        assert_eq!(red, emblem("Red", 1, 48));
        let (seed, answer) = (distance(&red, &emblem("red", 2, 48)), distance(&red, &emblem("blue", 1, 48)));
        assert!(seed > 0.0 && seed < 24.0 && answer > 2.0 * seed, "{seed} {answer}");
    }
}
