//! The small networks as models: trained by a pool of workers, recorded as checkpoints, asked every trial.

use std::sync::Arc;

use futures::StreamExt;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};
use tracker_store::{Content as _, Dataset, Digest, Edge, NodeId, Recording, Relation, Sample};

use super::CorrelationQa;
use super::outputs::{Model, Output, Said, of_kind};
use super::question::Asked;
use super::reply::say;
use super::settings::ToySettings;
use super::toy::{N_ANSWERS, Network, World, eye};
use super::trial::{Kind, Trial};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::checkpoint::{Files, record_files, recorded_files};
use crate::parts::record::put_series;

/// A network to train.
struct Lesson {
    rho: f64,
    seed: u64,
}

/// Trains networks.
struct Trainer {
    world: Arc<World>,
    settings: Arc<ToySettings>,
}

impl Worker for Trainer {
    type Message = Lesson;
    type Reply = (Network, Vec<f64>);
    type State = usize;

    async fn handle(&mut self, lesson: Lesson, turn: &mut Turn<'_, usize>) -> std::result::Result<Self::Reply, Fault> {
        let trained = Network::train(&self.world, &self.settings, lesson.rho, lesson.seed);
        if trained.1.iter().any(|loss| !loss.is_finite()) {
            return Err(Fault::input(format!("rho {}: training diverged; lower `toy.lr_image`", lesson.rho)));
        }
        turn.update(|n_trained| *n_trained += 1);
        Ok(trained)
    }
}

impl CorrelationQa {
    /// What every network says to every trial.
    ///
    /// # Errors
    /// Those of reading images, training and recording.
    pub(super) async fn ask_networks(&self, lab: &Lab, asked: &[Asked], trials: &[Trial]) -> Result<Said> {
        let world = Arc::new(self.world(lab, asked, trials)?);
        let networks: Vec<(f64, u32)> =
            self.toy.rho.iter().flat_map(|rho| (1..=self.toy.repeats).map(move |repeat| (*rho, repeat))).collect();
        let stage = lab.stage("networks", networks.len()).await?;
        let (of_worker, settings) = (world.clone(), Arc::new(self.toy.clone()));
        let worker = move |_| Ok(Trainer { world: of_worker.clone(), settings: settings.clone() });
        let trainer = Pool::start(lab.actors(), PoolOptions::cpu("trainer", lab.workers()), worker)?;
        let lessons = (0..).zip(&networks).map(|(item, (rho, _))| Lesson { rho: *rho, seed: stage.seed(item, 0) });
        let lessons: Vec<(usize, Lesson)> = lessons.enumerate().collect();
        let mut trained = std::pin::pin!(trainer.ask_all(lessons));
        let mut said = Said::default();
        while let Some((at, answer)) = trained.next().await {
            let (network, losses) = answer?;
            lab.check()?;
            let (rho, repeat) = networks[at];
            let model = Model::toy(rho, repeat);
            let node = self.record_network(lab, asked, &world, &model, (&network, &losses)).await?;
            stage.done(at + 1);
            said.models.push(model);
            self.answers(lab, (asked, trials), &world, (&network, node), &mut said).await?;
        }
        Ok(said)
    }

    /// What is seen of every recorded image, and answers by number.
    fn world(&self, lab: &Lab, asked: &[Asked], trials: &[Trial]) -> Result<World> {
        let mut names: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        let mut answers = Vec::with_capacity(asked.len());
        for of in asked {
            let numbers: Vec<usize> = of
                .question
                .answers()
                .map(|answer| {
                    let next = names.len();
                    *names.entry(answer).or_insert(next)
                })
                .collect();
            answers.push(<[usize; N_ANSWERS]>::try_from(numbers).map_err(|_| Error::Internal("a question".into()))?);
        }
        let mut seen = Vec::new();
        for kind in &self.images.kinds {
            let mut of_kind: Vec<(usize, u32, Vec<f32>)> = Vec::new();
            for (_, trial) in self::of_kind(trials, *kind) {
                let image = trial.image.ok_or_else(|| Error::Internal("a trial without its image".into()))?;
                of_kind.push((trial.question, trial.k, eye(&lab.store().read_file(image)?, self.toy.eye)?));
            }
            of_kind.sort_by_key(|(question, k, _)| (*question, *k));
            seen.push(of_kind.into_iter().map(|(.., seen)| seen).collect());
        }
        let mut world = World { answers, n_answers: names.len(), seen };
        world.centre();
        Ok(world)
    }

    /// Records a network with its losses and what it was trained on.
    async fn record_network(
        &self,
        lab: &Lab,
        asked: &[Asked],
        world: &World,
        model: &Model,
        (network, losses): (&Network, &[f64]),
    ) -> Result<NodeId> {
        if let Some((node, _)) = recorded_files(lab, &model.name)? {
            return Ok(node);
        }
        let mut recording = Recording::new();
        put_series(lab, &mut recording, &format!("{}/loss", model.name), (0..).zip(losses.iter().copied()))?;
        let about =
            format!("{}: {} draws of each of {} questions, {:?}", model.name, self.toy.draws, asked.len(), self.toy);
        let examples = Dataset {
            name: format!("examples of {}", model.name),
            purpose: "train".into(),
            n_rows: u64::from(self.toy.draws) * asked.len() as u64,
            content: Digest::of(about.as_bytes()),
            rows: None,
        };
        let examples = recording.put(lab.run(), &examples)?;
        for (order, of) in (0..).zip(asked) {
            recording.put_edge(lab.run(), &Edge::new(examples, Relation::DerivedFrom, of.node).at(order))?;
        }
        let config = serde_json::json!({"network": "two streams", "rho": model.rho, "settings": self.toy});
        let config = config.to_string().into_bytes();
        let named =
            vec![("config.json".to_owned(), config.clone()), ("model.safetensors".to_owned(), network.to_file(world))];
        let n_params = network.questions.len() + network.pixels.len();
        let files = Files { config, named, n_params };
        let n_steps = self.toy.epochs as usize * self.toy.draws as usize * asked.len();
        record_files(lab, recording, &model.name, &files, n_steps, &[(Relation::TrainedOn, examples)]).await
    }

    /// Has the last of the models answer every trial at temperature 1.
    async fn answers(
        &self,
        lab: &Lab,
        (asked, trials): (&[Asked], &[Trial]),
        world: &World,
        (network, node): (&Network, NodeId),
        said: &mut Said,
    ) -> Result<()> {
        /// Outputs recorded together.
        const AT_ONCE: usize = 2048;
        let model = said.models.len() - 1;
        let place = |kind: Kind| self.images.kinds.iter().position(|known| *known == kind);
        for kind in Kind::ALL {
            let of_kind = of_kind(trials, kind);
            if of_kind.is_empty() {
                continue;
            }
            let stage = lab.stage(&said.models[model].stage(kind), of_kind.len()).await?;
            let sampling = self.sampling(1.0);
            for batch in of_kind.chunks(AT_ONCE) {
                lab.check()?;
                let mut recording = Recording::new();
                let sampled = recording.put(lab.run(), &sampling).and_then(|_| sampling.digest())?;
                for (trial, of) in batch {
                    let question = &asked[of.question].question;
                    let image = place(kind).and_then(|kind| {
                        world.seen[kind].get(N_ANSWERS * of.question + of.k as usize).map(Vec::as_slice)
                    });
                    let seed = stage.seed(of.question as u32, of.k);
                    let mut stream = ChaCha8Rng::seed_from_u64(seed);
                    let chosen = choose(&network.answer(world, of.question, image), stream.random());
                    let answers: Vec<&str> = question.answers().collect();
                    let others: Vec<&str> =
                        answers.iter().enumerate().filter(|(at, _)| *at != chosen).map(|(_, other)| *other).collect();
                    let reply = say(&self.toy, self.models.max_tokens, answers[chosen], &others, &mut stream);
                    let row = stage.row(of.question as u32, of.k);
                    let sample = Sample {
                        subject: of.node,
                        policy: node,
                        sampling: sampled,
                        seed,
                        text: reply.text.clone(),
                        n_tokens: reply.n_tokens,
                        sum_logprob: None,
                        finish: reply.finish,
                    };
                    recording.put_sample(row, &sample)?;
                    let (text, finish) = (reply.text, reply.finish);
                    said.outputs.push(Output { model, trial: *trial, row, text, finish, chosen: Some(chosen) });
                }
                lab.record(recording).await?;
            }
            stage.done(of_kind.len());
        }
        Ok(())
    }
}

/// The answer that a point of [0, 1) falls to.
fn choose(shares: &[f64; N_ANSWERS], point: f64) -> usize {
    let mut sum = 0.0;
    shares
        .iter()
        .position(|share| {
            sum += share;
            point < sum
        })
        .unwrap_or(N_ANSWERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fall_to_answers_by_their_shares() {
        let shares = [0.5, 0.25, 0.25, 0.0, 0.0, 0.0];
        let found = [0.0, 0.49, 0.5, 0.74, 0.75, 0.999].map(|point| choose(&shares, point));
        assert_eq!(found, [0, 0, 1, 1, 2, 2]);
        assert_eq!(choose(&[0.1; 6], 0.99), 5);
    }
}
