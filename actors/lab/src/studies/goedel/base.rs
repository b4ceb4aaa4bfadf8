//! Who takes part: verifier, judge, generator, trainer; the base model; and the statements to prove.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use rand::seq::IndexedRandom;
use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_proof::formula::Style;
use tracker_proof::search;
use tracker_store::{Digest, Finish, NodeId, Sampling};

use super::bench::Benchmark;
use super::settings::{Goedel, PolicyKind};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::author::Author;
use crate::parts::endpoint::{Api, EndpointSettings};
use crate::parts::formalise::{Clerk, Formaliser};
use crate::parts::generate::{LocalGenerator, Policy};
use crate::parts::judge::Judge;
use crate::parts::jury::Jury;
use crate::parts::model::load;
use crate::parts::problems::{Posed, generate, read_jsonl};
use crate::parts::prompt::{Template, bare, words};
use crate::parts::statements::{Bureau, Formal, formalise, given};
use crate::parts::train::{SftSettings, Step, TrainRow, TrainSet, Trained, Trainer, adopt, sft};
use crate::parts::verify::Verifiers;

/// The actors of a run.
pub(super) struct Provers {
    pub(super) verifiers: Verifiers,
    pub(super) trainer: Pool<Trainer>,
    judge: Pool<Judge>,
    generator: Pool<LocalGenerator>,
    /// The policy, if it is behind an endpoint.
    remote: Option<Policy>,
    /// The model to start from, if it is read from a folder.
    checkpoint: Option<Lm>,
}

/// What every round starts from.
pub(super) struct Base {
    /// It as a policy.
    pub(super) policy: Policy,
    /// Its weights, if it is ours to train.
    pub(super) trained: Option<Trained>,
    /// Its training rows, to be mixed into every round's.
    rows: Vec<TrainRow>,
    /// Canonical forms of the statements in them.
    pub(super) canonical: Vec<Digest>,
    /// Their dataset.
    dataset: Option<NodeId>,
}

impl Goedel {
    /// How rounds sample.
    pub(super) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.rounds.temperature,
            top_p: self.rounds.top_p,
            max_tokens: self.rounds.max_tokens,
            stop: match (self.policy.kind, self.endpoint.api, self.policy.template) {
                // The prompt opens a fence; what stands after its end is no proof.
                (PolicyKind::Endpoint, Api::Completions, Template::Lean) => vec!["```".into()],
                _ => vec![],
            },
            template: self.policy.template.name().to_owned(),
        }
    }
}

impl Provers {
    /// Brings the actors up.
    pub(super) async fn open(lab: &Lab, plan: &Goedel) -> Result<Self> {
        // Verification in Lean is processes beside us; the kernel is far faster than sampling and needs one thread.
        let verifiers = Verifiers::start(lab, &plan.checking(), lab.workers().min(2))?;
        let remote = match plan.policy.kind {
            PolicyKind::Local => None,
            PolicyKind::Endpoint => Some(Policy::endpoint(lab, "endpoint", &plan.endpoint).await?),
        };
        let folder = &plan.policy.checkpoint;
        let is_read = plan.policy.kind == PolicyKind::Local && !folder.is_empty();
        let checkpoint = is_read.then(|| load(lab, folder)).transpose()?;
        Ok(Self {
            remote,
            checkpoint,
            verifiers,
            trainer: Trainer::start(lab.actors(), lab.workers())?,
            judge: Judge::start(lab.actors(), lab.device())?,
            generator: LocalGenerator::start(lab.actors(), lab.workers())?,
        })
    }

    /// Fails, before any sampling, if the verifier cannot use a header of these problems.
    pub(super) async fn probe_headers(&self, posed: &[Posed]) -> Result<()> {
        let headers: BTreeSet<&str> = posed.iter().filter_map(|p| Some(p.formal.as_ref()?.0.as_str())).collect();
        for header in headers {
            self.verifiers.probe(header).await?;
        }
        Ok(())
    }

    /// The statements to prove: formalised from generated problems, or as they stand in a file.
    pub(super) async fn statements(&self, lab: &Lab, plan: &Goedel, benchmark: &Benchmark) -> Result<Vec<Formal>> {
        let settings = &plan.problems;
        let posed = if settings.file.is_empty() {
            let seed = lab.seeds().seed("problems", 0, 0);
            generate(seed, settings.n as usize, &settings.levels, benchmark.canonical())?
        } else {
            read_jsonl(Path::new(&settings.file), &settings.split, settings.n as usize)?
        };
        let have_statements = posed.iter().all(|posed| posed.formal.is_some());
        let mut all = if have_statements && plan.formalise.author == Clerk::Embedded {
            self.probe_headers(&posed).await?;
            given(lab, "problems", &posed).await?
        } else {
            let bureau = self.bureau(lab, plan, &posed).await?;
            formalise(lab, &plan.formalise, &bureau, &posed).await?
        };
        let n_all = all.len();
        all.retain(|formal| !benchmark.canonical().contains(&formal.record.canonical));
        if all.len() < n_all {
            lab.note(format!(
                "{} statements equal a benchmark statement and are left out of training",
                n_all - all.len()
            ));
        }
        Ok(all)
    }

    /// Who formalises these problems.
    async fn bureau(&self, lab: &Lab, plan: &Goedel, posed: &[Posed]) -> Result<Bureau> {
        let settings = &plan.formalise;
        let are_understood = posed.iter().all(|posed| posed.meaning.is_some());
        for (key, clerk) in [("formalise.author", settings.author), ("formalise.judge", settings.judge)] {
            if clerk == Clerk::Embedded && !are_understood {
                return Err(Error::Value {
                    key: key.into(),
                    message: "expected `endpoint` for problems in words of a file, got `embedded`".into(),
                });
            }
        }
        self.verifiers.probe(settings.header()).await?;
        let mut authors = Vec::with_capacity(settings.styles.len());
        for idx in 0..settings.styles.len() {
            authors.push(match settings.author {
                Clerk::Embedded => Author::Embedded,
                Clerk::Endpoint => {
                    let model = settings.models.get(idx).unwrap_or(&plan.formaliser.model).clone();
                    let settings = EndpointSettings { model, ..plan.formaliser.clone() };
                    Author::Model(Policy::endpoint(lab, "formaliser", &settings).await?)
                }
            });
        }
        let jury = match settings.judge {
            Clerk::Embedded => Jury::Embedded(self.judge.clone()),
            Clerk::Endpoint => Jury::Model(Policy::endpoint(lab, "judge", &plan.judge).await?),
        };
        Ok(Bureau { authors, verifiers: self.verifiers.clone(), jury })
    }

    /// The policy of a checkpoint.
    pub(super) fn policy(&self, trained: &Trained) -> Policy {
        Policy::Local { node: trained.node, model: Arc::new(trained.model.clone()), generator: self.generator.clone() }
    }

    /// Trains `from` on rows and records the checkpoint under `label`.
    pub(super) async fn train(
        &self,
        lab: &Lab,
        label: &str,
        from: &Trained,
        set: TrainSet,
        settings: &SftSettings,
    ) -> Result<Trained> {
        sft(lab, &self.trainer, Step::new(label, from, &set, settings)).await
    }

    /// The model every round starts from.
    pub(super) async fn base(&self, lab: &Lab, plan: &Goedel, benchmark: &Benchmark) -> Result<Base> {
        if let Some(policy) = self.remote.clone() {
            return Ok(Base { policy, trained: None, rows: vec![], canonical: vec![], dataset: None });
        }
        let Some(model) = self.checkpoint.clone() else {
            return self.pretrain(lab, plan, benchmark).await;
        };
        let trained = adopt(lab, "base", model).await?;
        let policy = self.policy(&trained);
        Ok(Base { policy, trained: Some(trained), rows: vec![], canonical: vec![], dataset: None })
    }

    async fn pretrain(&self, lab: &Lab, plan: &Goedel, benchmark: &Benchmark) -> Result<Base> {
        let (rows, canonical) = pairs(lab, plan, benchmark)?;
        let tokenizer = words()?;
        let model = plan.policy.shape().init(lab, tokenizer)?;
        let set = TrainSet { name: "base pairs".into(), rows, drawn_from: vec![] };
        let trained = sft(lab, &self.trainer, Step::first("base", &model, &set, &plan.base.sft)).await?;
        let dataset = Some(set.node(lab)?);
        Ok(Base { policy: self.policy(&trained), trained: Some(trained), rows: set.rows, canonical, dataset })
    }
}

impl Base {
    /// `rows` of this round with as many base rows that they are the share `mixture` of all.
    pub(super) fn mix(&self, lab: &Lab, round: u32, rows: Vec<TrainRow>, mixture: f64) -> TrainSet {
        let wanted = (rows.len() as f64 * mixture / (1.0 - mixture).max(1e-6)).round() as usize;
        let mut stream = lab.seeds().stream("mixture", round, 0);
        let old = self.rows.sample(&mut stream, wanted.min(self.rows.len())).cloned();
        let all = rows.into_iter().chain(old).collect();
        TrainSet { name: format!("round {round} pairs"), rows: all, drawn_from: self.dataset.into_iter().collect() }
    }
}

/// Short, easy statements with proofs found by search, in both styles by turns; some with a no-op.
fn pairs(lab: &Lab, plan: &Goedel, benchmark: &Benchmark) -> Result<(Vec<TrainRow>, Vec<Digest>)> {
    let settings = &plan.base;
    let seed = lab.seeds().seed("base pairs", 0, 0);
    let posed = generate(seed, settings.n_pairs as usize, &settings.levels, benchmark.canonical())?;
    let mut rows = Vec::with_capacity(posed.len());
    let mut canonical = Vec::with_capacity(posed.len());
    for (i, posed) in posed.iter().enumerate() {
        let Some(meaning) = &posed.meaning else { continue };
        let style = if i.is_multiple_of(2) { Formaliser::A } else { Formaliser::B };
        let statement = style.statement("t", meaning);
        let Some(proof) = search::prove(&statement, search::Limits::default()).proof() else {
            return Err(Error::Internal(format!(
                "no proof found for `{}`",
                meaning.print(Style::Constructor, &statement.atoms)
            )));
        };
        let names: Vec<&str> = statement.hypotheses.iter().map(|(name, _)| name.as_str()).collect();
        let proof = proof.render(&names);
        let mut stream = lab.seeds().stream("no-op", i as u32, 0);
        let completion = if stream.random_bool(settings.noop_rate) { format!("id ( {proof} )") } else { proof };
        canonical.push(Digest::from_bytes(statement.digest()));
        let prompt = bare(&statement.print(Style::Constructor));
        rows.push(TrainRow { prompt, completion, finish: Finish::Stop, source: None });
    }
    Ok((rows, canonical))
}
