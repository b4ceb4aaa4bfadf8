//! Outputs: what models said to trials, asked of the small networks or of endpoints, and recorded sample by sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use tracker_actors::{Fault, Pool, PoolOptions, Turn, Worker};
use tracker_store::{
    Content as _, Edge, Finish, NodeId, Program, Recording, Relation, RowKey, Sample, Sampling, Store,
};

use super::CorrelationQa;
use super::question::Asked;
use super::trial::{Kind, Trial};
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::{Endpoint, EndpointSettings, Look, Picture, Seen};
use crate::parts::record::put_series;

/// Where outputs are recorded: `outputs/MODEL/KIND`.
pub(super) const OUTPUTS: &str = "outputs";

/// Whoever was asked.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Unique in the run.
    pub(super) name: String,
    /// Models of one group are measured together: networks that differ in their seed alone.
    pub(super) group: String,
    /// The correlation a small network was trained with.
    pub(super) rho: Option<f64>,
}

impl Model {
    /// A small network.
    pub(super) fn toy(rho: f64, repeat: u32) -> Self {
        let group = format!("rho {rho:.3}");
        Self { name: format!("{group} {repeat}"), group, rho: Some(rho) }
    }

    /// The model of a recorded stage, by its name.
    pub(super) fn named(name: &str) -> Self {
        let toy = name.strip_prefix("rho ").and_then(|rest| rest.split_once(' '));
        match toy.and_then(|(rho, repeat)| Some((rho.parse().ok()?, repeat.parse::<u32>().ok()?))) {
            Some((rho, repeat)) => Self::toy(rho, repeat),
            None => Self { name: name.to_owned(), group: name.to_owned(), rho: None },
        }
    }

    /// The stage of its outputs.
    pub(super) fn stage(&self, kind: Kind) -> String {
        format!("{OUTPUTS}/{}/{}", self.name, kind.name())
    }
}

/// One output.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// Place of the model.
    pub(super) model: usize,
    /// Place of the trial.
    pub(super) trial: usize,
    /// Where it is recorded, in this run or the one it was read from.
    pub(super) row: RowKey,
    pub(super) text: String,
    pub(super) finish: Finish,
    /// The answer a small network chose, 0 for the right one.
    pub(super) chosen: Option<usize>,
}

/// Everything that was said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) models: Vec<Model>,
    pub(super) outputs: Vec<Output>,
}

/// The trials of a kind, with their places.
pub(super) fn of_kind(trials: &[Trial], kind: Kind) -> Vec<(usize, &Trial)> {
    trials.iter().enumerate().filter(|(_, trial)| trial.kind == kind).collect()
}

/// Puts every trial to one endpoint.
struct Asking<'a> {
    lab: &'a Lab,
    stage: Stage<'a>,
    looker: Pool<Looker>,
    node: NodeId,
    sampling: Sampling,
}

impl CorrelationQa {
    /// How endpoints are asked.
    pub(super) fn sampling(&self, temperature: f64) -> Sampling {
        let template = "image, then the question as it stands".to_owned();
        Sampling { temperature, top_p: 1.0, max_tokens: self.models.max_tokens, stop: vec![], template }
    }

    /// What every endpoint says to every trial.
    ///
    /// # Errors
    /// `Endpoint` if one does not answer: what came before is recorded, and a resumed run asks for the rest.
    pub(super) async fn ask(&self, lab: &Lab, asked: &[Asked], trials: &[Trial]) -> Result<Said> {
        let mut said = Said::default();
        let mut endpoints = Vec::new();
        // All must answer before any is asked.
        for (at, settings) in self.models.endpoints.iter().enumerate() {
            endpoints.push((settings, Endpoint::of_run(lab, &format!("models.endpoints[{at}]"), settings).await?));
        }
        for (model, (settings, (endpoint, node))) in endpoints.into_iter().enumerate() {
            said.models.push(Model::named(&settings.model));
            for kind in Kind::ALL {
                let of_kind = of_kind(trials, kind);
                if of_kind.is_empty() {
                    continue;
                }
                let stage = lab.stage(&said.models[model].stage(kind), of_kind.len()).await?;
                let looker = Looker::start(lab, endpoint.clone(), settings)?;
                let sampling = self.sampling(self.models.temperature);
                let asking = Asking { lab, stage, looker, node, sampling };
                let samples = asking.all(asked, &of_kind).await?;
                for ((trial, of), sample) in of_kind.iter().zip(samples) {
                    let row = asking.stage.row(of.question as u32, of.k);
                    let Sample { text, finish, .. } = sample;
                    said.outputs.push(Output { model, trial: *trial, row, text, finish, chosen: None });
                }
            }
        }
        Ok(said)
    }
}

impl Asking<'_> {
    /// The samples of all trials, those recorded already read back.
    async fn all(&self, asked: &[Asked], trials: &[(usize, &Trial)]) -> Result<Vec<Sample>> {
        /// Trials asked and recorded together.
        const AT_ONCE: usize = 64;
        let mut all = Vec::with_capacity(trials.len());
        for batch in trials.chunks(AT_ONCE) {
            self.lab.check()?;
            all.extend(self.batch(asked, batch, all.len()).await?);
            self.stage.done(all.len());
        }
        Ok(all)
    }

    async fn batch(&self, asked: &[Asked], batch: &[(usize, &Trial)], first: usize) -> Result<Vec<Sample>> {
        let (lab, stage) = (self.lab, &self.stage);
        let row = |trial: &Trial| stage.row(trial.question as u32, trial.k);
        let known = batch.iter().map(|(_, trial)| Ok(lab.store().sample(row(trial))?));
        let mut known = known.collect::<Result<Vec<Option<Sample>>>>()?;
        let look = |trial: &Trial| Question {
            look: Look {
                question: asked[trial.question].question.text.clone(),
                picture: None,
                temperature: self.sampling.temperature,
                max_tokens: self.sampling.max_tokens,
                seed: stage.seed(trial.question as u32, trial.k),
            },
            image: trial.image,
        };
        let missing: Vec<(usize, Question)> =
            (0..batch.len()).filter(|at| known[*at].is_none()).map(|at| (at, look(batch[at].1))).collect();
        let answers: Vec<_> = self.looker.ask_all(missing).collect().await;
        let mut recording = Recording::new();
        let sampling = recording.put(lab.run(), &self.sampling).and_then(|_| self.sampling.digest())?;
        let (mut failure, mut secs) = (None, Vec::new());
        for (at, answer) in answers {
            let trial = batch[at].1;
            let seen = match answer {
                Ok(seen) => seen,
                Err(error) => {
                    failure.get_or_insert(Error::from(error));
                    continue;
                }
            };
            secs.extend(seen.secs.map(|secs| ((first + at) as i64, secs)));
            let (seed, policy) = (stage.seed(trial.question as u32, trial.k), self.node);
            let sample = sample(trial.node, policy, sampling, seed, &seen);
            let node = recording.put_sample(row(trial), &sample)?;
            if !seen.model.is_empty() {
                let program = Program { name: "reported model".into(), version: seen.model, settings: String::new() };
                let reported = recording.put(lab.run(), &program)?;
                recording.put_edge(lab.run(), &Edge::new(node, Relation::GeneratedBy, reported))?;
            }
            known[at] = Some(sample);
        }
        put_series(lab, &mut recording, &format!("system/latency_secs/{}", stage.name()), secs)?;
        // What came stays, whatever became of the rest.
        lab.record(recording).await?;
        if let Some(failure) = failure {
            return Err(lab.check().err().unwrap_or(failure));
        }
        Ok(known.into_iter().flatten().collect())
    }
}

fn sample(subject: NodeId, policy: NodeId, sampling: tracker_store::Digest, seed: u64, seen: &Seen) -> Sample {
    let finish = match seen.finish.as_str() {
        "length" => Finish::Length,
        "content_filter" => Finish::Filtered,
        _ => Finish::Stop,
    };
    // Where the server does not count, words are the next best measure of length.
    let n_tokens = seen.n_tokens.unwrap_or_else(|| seen.text.split_whitespace().count() as u32);
    Sample { subject, policy, sampling, seed, text: seen.text.clone(), n_tokens, sum_logprob: None, finish }
}

/// A question, and the digest of the image that is shown with it.
struct Question {
    look: Look,
    image: Option<tracker_store::Digest>,
}

/// Puts questions and images to an endpoint; as many are in work as it has workers.
struct Looker {
    endpoint: Arc<Endpoint>,
    store: Store,
}

impl Looker {
    fn start(lab: &Lab, endpoint: Arc<Endpoint>, settings: &EndpointSettings) -> Result<Pool<Self>> {
        let store = lab.store().clone();
        let options = PoolOptions::io("looker", settings.concurrency);
        let worker = move |_| Ok(Self { endpoint: endpoint.clone(), store: store.clone() });
        Ok(Pool::start(lab.actors(), options, worker)?)
    }
}

impl Worker for Looker {
    type Message = Question;
    type Reply = Seen;
    type State = BTreeMap<String, u64>;

    async fn handle(
        &mut self,
        question: Question,
        turn: &mut Turn<'_, Self::State>,
    ) -> std::result::Result<Seen, Fault> {
        let Question { mut look, image } = question;
        if let Some(digest) = image {
            let bytes = self.store.read_file(digest);
            let bytes = bytes.map_err(|error| Fault::infra("an image cannot be read").because(error))?;
            look.picture = Some(Picture { digest, bytes: bytes.into() });
        }
        let seen = self.endpoint.look(&look).await;
        // The endpoint has used up its retries by itself, so this fault is final.
        let seen = seen.map_err(|error| Fault::infra("the endpoint failed").because(error))?;
        turn.update(|by_finish| *by_finish.entry(seen.finish.clone()).or_default() += 1);
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_again_by_their_names() {
        let toy = Model::toy(1.0 / 6.0, 2);
        assert_eq!((toy.name.as_str(), toy.group.as_str()), ("rho 0.167 2", "rho 0.167"));
        let again = Model::named(&toy.name);
        assert_eq!((again.name, again.group, again.rho), (toy.name, toy.group, Some(0.167)));
        let llava = Model::named("llava-1.5-7b");
        assert_eq!((llava.name, llava.group, llava.rho), ("llava-1.5-7b".into(), "llava-1.5-7b".into(), None));
    }

    #[test]
    fn what_a_server_says_of_its_end_is_kept_and_words_stand_for_tokens() {
        let seen = |finish: &str, n_tokens| Seen {
            text: "a b c".into(),
            n_tokens,
            finish: finish.into(),
            model: String::new(),
            secs: None,
        };
        let node = NodeId::content(tracker_store::Kind::Endpoint, tracker_store::Digest::of(b"e")).unwrap();
        let of = |seen: &Seen| {
            let sample = sample(node, node, tracker_store::Digest::of(b"s"), 1, seen);
            (sample.finish, sample.n_tokens)
        };
        assert_eq!(of(&seen("length", Some(30))), (Finish::Length, 30));
        assert_eq!(of(&seen("content_filter", None)), (Finish::Filtered, 3));
        assert_eq!(of(&seen("stop", Some(0))), (Finish::Stop, 0));
    }
}
