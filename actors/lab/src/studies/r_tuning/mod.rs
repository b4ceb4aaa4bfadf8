//! Refusal-aware instruction tuning: a model learns to say whether it knew an answer, by whether it did before it was tuned.
//!
//! Paper: Zhang et al. 2024, "R-Tuning: Instructing Large Language Models to Say 'I Don't Know'" (arXiv 2311.09677).
//!
//! Scaled down: a language of facts about entities, each met a known number of times or never, in place of what a
//! large model happens to have read; a model of some hundred thousand parameters in place of `LLaMA`. So what is known is known: labels
//! are scored against exposure. Held-out relations are out of domain, invented entities have no answer, and facts that were met as
//! often as any are the control. Facts are asked for as questions and as choices among four letters, alone and together.
//! Kept: identification by a match or by the likeliest letter, by entropy of k samples; the padding and its loss; each variant and
//! baseline; s, a, and their mean. Of the two-stage baseline, whose first stage is not described, a share of questions is refused there.
//!
//! Claims tested: R-Tuning ranks its answers better than Vanilla in and out of domain; who refuses, and of what; labels by answers
//! and by entropy against exposure; what is not known is more perplexing.

mod check;
mod claims;
mod defaults;
mod figures;
mod identify;
mod items;
mod measure;
mod room;
mod served;
mod settings;
mod speaker;
mod tune;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_store::{Claim, Finish, NodeId};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::model::load;
use crate::parts::record::record_members;
use crate::parts::train::{Objective, Step, TrainRow, TrainSet, Trained, Trainer, adopt, train};
use crate::study::Study;

use claims::Evidence;
use figures::{Purpose, figures};
use identify::{Labels, identify};
use items::{Asked, Set, Task};
use measure::{Measured, Trial};
use room::Room;
use served::Served;
pub use settings::{
    DataSettings, IdentifySettings, MeasureSettings, Method, ModelSettings, RTuning, RefusalFiles, ServedSettings,
    TaskFiles, TuneSettings, UAnswer, WorldSettings,
};
use speaker::Speaker;
use world::Facts;

impl Study for RTuning {
    const NAME: &'static str = "r_tuning";
    const PAPER: &'static str = "arXiv 2311.09677";
    const ABOUT: &'static str =
        "refuse what is not known: tuning to say so, average precision, refusal beside over-refusal";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        self.define(lab).await?;
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        let loaded = match self.model.folder.as_str() {
            "" => None,
            folder => Some(load(lab, folder)?),
        };
        let room = self.open(lab, loaded.as_ref()).await?;
        let (base, speaker) = if self.endpoint.is_given() {
            (None, Speaker::Served(Box::new(Served::connect(&room).await?)))
        } else {
            let base = match loaded {
                Some(model) => adopt(lab, "base", model).await?,
                None => base(&room, &trainer).await?,
            };
            let speaker = Speaker::new(&base);
            (Some(base), speaker)
        };

        // What the model knows of each task.
        let mut labels = Vec::new();
        for task in &room.asked.tasks {
            labels.push(identify(&room, &speaker, task).await?);
        }

        // Models of each task, and of all together.
        let tasks: Vec<(&Task, &Labels)> = room.asked.tasks.iter().zip(&labels).collect();
        let mut measured = Vec::new();
        for (name, lessons, methods) in self.groups(&tasks) {
            let mut tuned: BTreeMap<Method, Arc<Speaker>> = BTreeMap::new();
            for method in methods {
                let label = format!("{name}/{}", method.name());
                if let (false, Some(base)) = (method.is_untuned() || *method == Method::VanillaU, &base)
                    && *method != Method::PretrainW
                {
                    let model = tune::tune(&room, &trainer, base, &label, *method, lessons).await?;
                    tuned.insert(*method, Arc::new(Speaker::new(&model)));
                }
                let speaker = match method {
                    Method::VanillaC if base.is_some() => tuned.get(&Method::Vanilla),
                    _ => tuned.get(method),
                }
                .map_or(&speaker, Arc::as_ref);
                for trial in trials(&room, lessons, speaker, &label, *method) {
                    let (of, purpose) = (trial.0, trial.1);
                    let found = match method {
                        Method::VanillaC => Some(of.vote(&room).await?),
                        Method::VanillaU => confident(&room, &measured, &name, &of).await?,
                        Method::PretrainW => willing(&room, &measured, &name, &of).await?,
                        _ => Some(of.measure(&room).await?),
                    };
                    if let Some(found) = found {
                        figures(&room, &found, purpose).await?;
                        measured.push(found);
                    }
                }
            }
        }
        let task = room.asked.tasks.first().map_or("", |task| task.name.as_str());
        let evidence = labels.first().map(|labels| Evidence { task, labels, measured: &measured });
        match evidence {
            Some(evidence) => claims::claims(&room, &evidence).await,
            None => Ok(vec![]),
        }
    }
}

/// What it is called, tasks that are learnt together, and by which methods.
type Group<'a, 'b> = (String, &'b [(&'b Task, &'b Labels)], &'a [Method]);

/// Sets a model of some tasks is measured on: theirs, and, if the first task is among them, questions without an answer and the control.
fn trials<'a>(
    room: &'a Room<'_>,
    lessons: &[(&'a Task, &Labels)],
    speaker: &'a Speaker,
    label: &'a str,
    method: Method,
) -> Vec<(Trial<'a>, Purpose)> {
    let mut all: Vec<(String, &Set, u32, Purpose)> = Vec::new();
    for (task, _) in lessons {
        all.push((format!("{}/in domain", task.name), &task.inside, task.max_tokens, Purpose::Answers));
        all.push((format!("{}/out of domain", task.name), &task.outside, task.max_tokens, Purpose::Answers));
    }
    let is_first = room.asked.tasks.first().map(|task| &task.name) == lessons.first().map(|(task, _)| &task.name);
    // Refusing is asked of those who can refuse, and of who answers alone.
    if is_first && !matches!(method, Method::VanillaC | Method::VanillaU | Method::PretrainW) {
        let max_tokens = lessons.first().map_or(1, |(task, _)| task.max_tokens);
        all.push(("unanswerable".into(), &room.asked.unanswerable, max_tokens, Purpose::Unanswerable));
        all.push(("control".into(), &room.asked.control, max_tokens, Purpose::Control));
    }
    all.retain(|(_, set, ..)| !set.items.is_empty());
    all.into_iter()
        .map(|(on, set, max_tokens, purpose)| (Trial { speaker, label, method, on, set, max_tokens }, purpose))
        .collect()
}

/// The votes of Vanilla-C, as confident as R-Tuning-U is of the same questions.
async fn confident(room: &Room<'_>, measured: &[Measured], name: &str, of: &Trial<'_>) -> Result<Option<Measured>> {
    let [votes, steady] = [Method::VanillaC, Method::RU].map(|method| find(measured, name, method, &of.on));
    let Some((votes, steady)) = votes.zip(steady) else { return Ok(None) };
    let both = votes.outcomes.iter().zip(&steady.outcomes);
    let outcomes = both.map(|(vote, steady)| measure::Outcome { a: steady.a, s: steady.s, ..vote.clone() }).collect();
    let nodes = votes.outcomes.iter().chain(&steady.outcomes).map(|outcome| outcome.node);
    derived(room, of, outcomes, nodes.collect(), votes.policy).await.map(Some)
}

/// The answers of the model before tuning to what R-Tuning would answer.
async fn willing(room: &Room<'_>, measured: &[Measured], name: &str, of: &Trial<'_>) -> Result<Option<Measured>> {
    let [before, r] = [Method::PretrainT, Method::R].map(|method| find(measured, name, method, &of.on));
    let Some((before, r)) = before.zip(r) else { return Ok(None) };
    let both = before.outcomes.iter().zip(&r.outcomes).filter(|(_, r)| !r.is_refused());
    let (outcomes, nodes): (Vec<measure::Outcome>, Vec<[NodeId; 2]>) =
        both.map(|(before, r)| (before.clone(), [before.node, r.node])).unzip();
    derived(room, of, outcomes, nodes.into_iter().flatten().collect(), before.policy).await.map(Some)
}

fn find<'a>(measured: &'a [Measured], name: &str, method: Method, on: &str) -> Option<&'a Measured> {
    let label = format!("{name}/{}", method.name());
    measured.iter().find(|measured| measured.label == label && measured.on == on)
}

/// Outcomes that come from those of others, as a dataset of their own.
async fn derived(
    room: &Room<'_>,
    of: &Trial<'_>,
    outcomes: Vec<measure::Outcome>,
    nodes: Vec<NodeId>,
    policy: NodeId,
) -> Result<Measured> {
    let name = format!("{}/{}", of.label, of.on);
    let said = |outcome: &measure::Outcome| {
        let measure::Outcome { is_right, a, s, declines, .. } = outcome;
        format!("{is_right} {a} {s:?} {declines}")
    };
    let content = outcomes.iter().map(said).collect::<Vec<_>>().join("\n");
    let results = record_members(room.lab, &name, "results", &content, nodes).await?;
    Ok(Measured {
        label: of.label.to_owned(),
        method: of.method,
        on: of.on.clone(),
        outcomes,
        benchmark: of.set.node,
        results,
        policy,
    })
}

impl RTuning {
    /// What names of numbers mean.
    async fn define(&self, lab: &Lab) -> Result<()> {
        let MeasureSettings { weight, n_bins, .. } = &self.measure;
        let others = "a where nobody asked; 0 of a refusal in words";
        for (name, definition) in [
            ("loss", "cross-entropy on the answer, the word of certainty and what ends each; questions are read, not learnt".into()),
            ("answer", "up to the first of . 。 ． । ۔ ։ or a line break after the first word; all of it if there is none".into()),
            ("a", "geometric mean of the probabilities of the greedy answer's tokens, of the token that ends it if it is empty; of a choice the share of the letter among letters".into()),
            ("s", "p(sure) / (p(sure) + p(unsure)), all tokens of both words; refused at 0.5 and below".into()),
            ("c", format!("λa + (1 − λ)s with λ = {weight}; {others}")),
            ("AP", "sum over thresholds of the gain in recall times precision, equal c one threshold; 0 if nothing is right".into()),
            ("ECE", format!("{n_bins} bins of equal width over [0, 1], closed below")),
            ("willing accuracy", "right among answered".to_owned()),
            ("perplexity", "exp of the mean −ln p of the question's tokens before tuning".into()),
            ("over-refusal", "share refused of questions that have an answer".into()),
        ] {
            let definition: String = definition;
            lab.define(name, &definition).await?;
        }
        Ok(())
    }

    /// What is asked, and who asks it.
    async fn open<'a>(&'a self, lab: &'a Lab, model: Option<&tracker_lm::Lm>) -> Result<Room<'a>> {
        if !self.is_small() {
            let asked = items::files(lab, self, model).await?;
            asked.check()?;
            return Room::open(lab, self, self.template.clone(), asked, None).await;
        }
        let facts = Facts::random(&self.world, &mut lab.seeds().stream("facts", 0, 0));
        let template = world::template(&self.world);
        let asked: Asked = items::small(lab, self, &template, &facts).await?;
        asked.check()?;
        Room::open(lab, self, template, asked, Some(facts)).await
    }

    /// Which tasks are learnt together, and by which methods: each by itself, then all.
    fn groups<'a, 'b>(&'a self, tasks: &'b [(&'b Task, &'b Labels)]) -> Vec<Group<'a, 'b>> {
        let TuneSettings { methods, others, together, .. } = &self.tune;
        let mut groups = Vec::new();
        for (at, (task, _)) in tasks.iter().enumerate() {
            let methods = if at == 0 { methods } else { others };
            groups.push((task.name.clone(), &tasks[at..=at], methods.as_slice()));
        }
        if tasks.len() > 1 {
            groups.push(("together".to_owned(), tasks, together.as_slice()));
        }
        groups
    }
}

/// A small model that has read every fact as often as it is met.
async fn base(room: &Room<'_>, trainer: &Pool<Trainer>) -> Result<Trained> {
    let (lab, plan) = (room.lab, room.plan);
    let Some(facts) = &room.facts else {
        return Err(Error::Internal("a small model without facts to read".into()));
    };
    let model = plan.policy.init(lab, world::tokenizer(facts)?)?;
    let corpus = facts.corpus(&mut lab.seeds().stream("corpus", 0, 0));
    let (mut rows, mut examples) = (Vec::with_capacity(corpus.len()), Vec::with_capacity(corpus.len()));
    for (_, question, answer) in corpus {
        let [(prompt, _), (completion, _)] = room.template.plain(&question, &answer);
        // All of a text is learnt, so that how likely a question is says how familiar it is.
        examples.push(room.template.example(&model, &[(prompt.clone(), true), (completion.clone(), true)])?);
        rows.push(TrainRow { prompt, completion, finish: Finish::Stop, source: None });
    }
    for parts in facts.talk(&mut lab.seeds().stream("talk", 0, 0)) {
        examples.push(room.template.example(&model, &parts)?);
        let text =
            |is_learnt: bool| parts.iter().filter(|part| part.1 == is_learnt).map(|part| part.0.as_str()).collect();
        rows.push(TrainRow { prompt: text(false), completion: text(true), finish: Finish::Stop, source: None });
    }
    let set = TrainSet { name: "corpus".into(), rows, drawn_from: vec![] };
    let n = examples.len();
    let step = Step::first("base", &model, &set, &plan.pretrain);
    let trained = train(lab, trainer, step, Objective::Sft(examples)).await?;
    tune::epochs(room, "base", &trained, &set, n, &plan.pretrain).await?;
    Ok(trained)
}
