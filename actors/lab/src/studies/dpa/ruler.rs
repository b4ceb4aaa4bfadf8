//! Who gives answers their attributes: a reward model, or a judge behind an endpoint. Each is asked once for equal answers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tracker_actors::Pool;
use tracker_lm::Lm;
use tracker_store::NodeId;

use super::world::World;
use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::marks::Marks;
use crate::parts::rate::{Case, Said};
use crate::parts::reward::{Judge, Scorer, Scoring, Steps};

/// Who gives answers their attributes.
pub(super) enum Ruler {
    /// A reward model.
    Model { judge: Judge, scorer: Pool<Scorer>, known: RefCell<HashMap<Steps, Vec<f64>>> },
    /// A judge; what is known is by prompt and answer.
    Endpoint { marks: Marks, known: RefCell<Marked> },
}

/// Marks by prompt and answer.
type Marked = HashMap<(String, String), Said<Vec<f64>>>;

/// The attributes of an answer, from 0 to 100 about.
#[derive(Clone)]
pub(super) struct Rated {
    pub(super) values: Vec<f64>,
    /// The sample they were read from, if a judge wrote one.
    pub(super) from: Option<NodeId>,
}

impl Ruler {
    pub(super) fn model(lab: &Lab, judge: Judge) -> Result<Self> {
        let scorer = Scorer::start(lab.actors(), lab.workers())?;
        Ok(Self::Model { judge, scorer, known: RefCell::default() })
    }

    /// The judge of the plan, which must answer.
    pub(super) async fn endpoint(world: &World<'_>) -> Result<Self> {
        let plan = &world.plan.reward;
        let marks = Marks::start(world.lab, "judge", &world.plan.judge, &plan.attributes, &plan.template).await?;
        Ok(Self::Endpoint { marks, known: RefCell::default() })
    }

    /// Who it is.
    pub(super) fn node(&self) -> NodeId {
        match self {
            Self::Model { judge, .. } => judge.node,
            Self::Endpoint { marks, .. } => marks.node(),
        }
    }

    /// The stage its ratings are recorded in, beside that of the answers; a reward model needs none.
    pub(super) async fn stage<'a>(&self, lab: &'a Lab, beside: &Stage<'_>, n: usize) -> Result<Option<Stage<'a>>> {
        match self {
            Self::Model { .. } => Ok(None),
            Self::Endpoint { .. } => Ok(Some(lab.stage(&format!("{}/ratings", beside.name()), n).await?)),
        }
    }

    /// The attributes of each answer. `prompts` are the cases' as a reward model reads them.
    pub(super) async fn attributes(
        &self,
        lab: &Lab,
        stage: Option<&Stage<'_>>,
        cases: &[Case<'_>],
        prompts: &[String],
    ) -> Result<Vec<Rated>> {
        match (self, stage) {
            (Self::Model { judge, scorer, known }, _) => {
                let steps = |(prompt, case): (&String, &Case<'_>)| read(judge.model.trunk(), prompt, case.answer);
                let all = prompts.iter().zip(cases).map(steps).collect::<Result<Vec<Steps>>>()?;
                let asked: Arc<[Steps]> = {
                    let known = known.borrow();
                    all.iter().filter(|steps| !known.contains_key(*steps)).cloned().collect()
                };
                if !asked.is_empty() {
                    let scoring = Scoring { model: Arc::clone(&judge.model), asked: Arc::clone(&asked) };
                    let scored = scorer.ask(scoring).await?;
                    let whole =
                        scored.into_iter().map(|steps| steps.into_iter().flatten().map(|x| 100.0 * x).collect());
                    known.borrow_mut().extend(asked.iter().cloned().zip(whole));
                }
                let known = known.borrow();
                let of = |steps: &Steps| Some(Rated { values: known.get(steps)?.clone(), from: None });
                all.iter().map(|steps| of(steps).ok_or_else(unscored)).collect()
            }
            (Self::Endpoint { marks, known }, Some(stage)) => {
                let key = |case: &Case<'_>| (case.prompt.to_owned(), case.answer.to_owned());
                let asked: Vec<Case<'_>> = {
                    let known = known.borrow();
                    let mut taken = HashSet::new();
                    let is_new = |case: &&Case<'_>| !known.contains_key(&key(case)) && taken.insert(key(case));
                    cases.iter().filter(is_new).copied().collect()
                };
                let said = marks.give(lab, stage, &asked).await?;
                known.borrow_mut().extend(asked.iter().map(key).zip(said));
                let known = known.borrow();
                let of = |case: &Case<'_>| {
                    let said = known.get(&key(case))?;
                    Some(Rated { values: said.value.clone(), from: Some(said.from) })
                };
                cases.iter().map(|case| of(case).ok_or_else(unscored)).collect()
            }
            (Self::Endpoint { .. }, None) => Err(Error::Internal("a judge needs a stage to be recorded in".into())),
        }
    }
}

fn unscored() -> Error {
    Error::Internal("an answer was not scored".into())
}

/// A prompt and an answer as a reward model reads them: whole, however the answer ended.
pub(super) fn read(model: &Lm, prompt: &str, text: &str) -> Result<Steps> {
    let prompt = model.tokenizer().encode(prompt)?;
    let mut completion = model.tokenizer().encode(text)?;
    completion.extend(model.config().eos.first());
    Ok(Steps::whole(prompt, completion))
}
