//! The arms that are compared: one answer for each query of the test, what it took, and what it was made from.

use tracker_store::{Finish, NodeId, Recording, Selection};

use super::pool::Answers;
use super::tasks::Ask;
use super::world::{Answer, Judge, Put, World};
use crate::error::{Error, Result};
use crate::lab::Stage;
use crate::parts::aggregate::{Order, Proposal, References, Slot, chosen, majority, windows};
use crate::parts::best_of::{TIES, first_greatest};
use crate::parts::evaluate::{Estimate, mean};
use crate::parts::record::record_members;

/// What an arm did for one query.
#[derive(Clone)]
pub(super) struct Outcome {
    /// Whether its answer is right; of an arm without one answer the mean of several.
    pub(super) right: f64,
    /// Generations and judgements.
    pub(super) calls: u64,
    /// Tokens read and written.
    pub(super) tokens: u64,
    /// Its answer, if there is one.
    pub(super) answer: Option<Answer>,
    /// What says whether it is right.
    pub(super) from: NodeId,
}

/// An arm over all queries of the test.
pub(super) struct Arm {
    pub(super) name: String,
    pub(super) outcomes: Vec<Outcome>,
    /// The figure of its accuracy.
    pub(super) figure: NodeId,
    /// Mean calls and mean tokens a query.
    pub(super) calls: f64,
    pub(super) tokens: f64,
}

/// Candidates of every query, slot by slot.
pub(super) type Slots<'a> = Vec<Vec<&'a Answer>>;

/// The slots of one mixture.
pub(super) fn slots<'a>(world: &World<'_>, answers: &'a Answers, mixture: &[usize], n: usize) -> Result<Slots<'a>> {
    (0..world.test.len()).map(|query| answers.slots(mixture, query, n)).collect()
}

fn tokens<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> u64 {
    answers.into_iter().map(|answer| answer.n_tokens).sum()
}

fn outcome(answer: &Answer, calls: usize, tokens: u64) -> Outcome {
    let right = answer.right;
    Outcome { right, calls: calls as u64, tokens, answer: Some(answer.clone()), from: answer.grade }
}

/// Asks the aggregator for an answer to every query, given its references; answers stand at the rows (query, `k`).
pub(super) async fn aggregate(
    world: &World<'_>,
    stage: &Stage<'_>,
    k: u32,
    references: impl IntoIterator<Item = References>,
) -> Result<Vec<Answer>> {
    let puts: Vec<Put<'_>> = (0..)
        .zip(&world.test)
        .zip(references)
        .map(|((item, query), references)| Put { query, ask: Ask::Answer, references, rows: vec![stage.row(item, k)] })
        .collect();
    let answers = world.answers(stage, &world.aggregator, world.plan.moa.aggregator_temperature, &puts).await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Proposals of a query in the order they are shown.
pub(super) fn ordered(world: &World<'_>, order: Order, query: usize, slots: &[&Answer]) -> References {
    let mut proposals: Vec<Proposal> = slots.iter().map(|answer| answer.proposal()).collect();
    order.apply(&mut proposals, &mut world.lab.seeds().stream("order", query as u32, 0));
    References::new(proposals)
}

/// A mixture of agents: layers of proposers, each after the first shown the answers of the one before, and an aggregator. `mixture`
/// says who proposes in the layers after the first, whose answers are `slots`.
pub(super) async fn moa(
    world: &World<'_>,
    name: &str,
    slots: &Slots<'_>,
    (mixture, layers): (&[usize], u32),
    order: Order,
) -> Result<Arm> {
    let lab = world.lab;
    let mut spent: Vec<u64> = slots.iter().map(|of| tokens(of.iter().copied())).collect();
    let mut calls = slots.first().map_or(0, Vec::len);
    let mut owned: Vec<Vec<Answer>> =
        slots.iter().map(|of| of.iter().map(|answer| (*answer).clone()).collect()).collect();
    for layer in 2..=layers {
        let stage = lab.stage(&format!("{name}/layer {layer}"), world.test.len() * mixture.len()).await?;
        let mut next: Vec<Vec<Option<Answer>>> = vec![vec![None; mixture.len()]; world.test.len()];
        for (place, model) in world.models.iter().enumerate().filter(|(place, _)| mixture.contains(place)) {
            let mine: Vec<u32> = (0..).zip(mixture).filter(|(_, of)| **of == place).map(|(slot, _)| slot).collect();
            let mut puts = Vec::with_capacity(world.test.len());
            for (item, query) in world.test.iter().enumerate() {
                let shown: Vec<&Answer> = owned[item].iter().collect();
                let references = ordered(world, order, item, &shown);
                let rows = mine.iter().map(|slot| stage.row(item as u32, *slot)).collect();
                puts.push(Put { query, ask: Ask::Answer, references, rows });
            }
            let answers = world.answers(&stage, &model.policy, world.plan.moa.temperature, &puts).await?;
            for answer in answers.into_iter().flatten() {
                next[answer.row.item as usize][answer.row.k as usize] = Some(answer.clone());
            }
        }
        owned = next.into_iter().map(|of| of.into_iter().flatten().collect()).collect();
        spent.iter_mut().zip(&owned).for_each(|(spent, of)| *spent += tokens(of));
        calls += mixture.len();
    }
    let stage = lab.stage(&format!("{name}/aggregate"), world.test.len()).await?;
    let references = owned.iter().enumerate().map(|(query, of)| {
        let shown: Vec<&Answer> = of.iter().collect();
        ordered(world, order, query, &shown)
    });
    let answers = aggregate(world, &stage, 0, references.collect::<Vec<_>>()).await?;
    let outcomes =
        answers.iter().zip(&spent).map(|(answer, spent)| outcome(answer, calls + 1, spent + answer.n_tokens));
    finish(world, name, outcomes.collect()).await
}

/// Aggregation in a sequence of windows; an aggregation's `k` is the number of its window, from 0.
pub(super) async fn sequence(world: &World<'_>, name: &str, slots: &Slots<'_>) -> Result<Arm> {
    let n = slots.first().map_or(0, Vec::len);
    let (window, reserved) = (world.plan.seq.window as usize, world.plan.seq.reserved as usize);
    let all = windows(n, window, reserved)?;
    let stage = world.lab.stage(&format!("{name}/aggregate"), all.len() * world.test.len()).await?;
    let mut spent: Vec<u64> = slots.iter().map(|of| tokens(of.iter().copied())).collect();
    let mut best: Vec<Answer> = Vec::new();
    for (k, window) in (0..).zip(&all) {
        let mut references = Vec::with_capacity(world.test.len());
        for (query, candidates) in slots.iter().enumerate() {
            let proposal = |slot: &Slot| match slot {
                Slot::Best => best.get(query).map(Answer::proposal),
                Slot::New(at) => candidates.get(*at).map(|answer| answer.proposal()),
            };
            references.push(References::new(window.iter().filter_map(proposal).collect()));
        }
        best = aggregate(world, &stage, k, references).await?;
        spent.iter_mut().zip(&best).for_each(|(spent, answer)| *spent += answer.n_tokens);
    }
    let outcomes = best.iter().zip(&spent).map(|(answer, spent)| outcome(answer, n + all.len(), *spent));
    finish(world, name, outcomes.collect()).await
}

/// What one answer is worth, as the mean of all of them: the calls and tokens are those of one.
pub(super) async fn single(world: &World<'_>, name: &str, slots: &Slots<'_>) -> Result<Arm> {
    world.lab.stage(name, world.test.len()).await?;
    let one = |answers: &Vec<&Answer>| {
        let first = answers.first().copied().ok_or_else(|| Error::Internal(format!("`{name}` has no answers")))?;
        let n = answers.len() as u64;
        let right = answers.iter().map(|answer| answer.right).sum::<f64>() / n as f64;
        Ok(Outcome { right, ..outcome(first, 1, tokens(answers.iter().copied()) / n) })
    };
    let outcomes: Vec<Outcome> = slots.iter().map(one).collect::<Result<_>>()?;
    finish(world, name, outcomes).await
}

/// The most frequent answer; of equally frequent ones the first. Texts without an answer have no vote.
pub(super) async fn vote(world: &World<'_>, name: &str, slots: &Slots<'_>) -> Result<Arm> {
    let pick = |answers: &[&Answer]| {
        let keys: Vec<Option<&String>> = answers.iter().map(|answer| answer.key.as_ref()).collect();
        Ok(majority(&keys))
    };
    select(world, name, slots, Rule { said: "majority", scorer: None, extra: &|_| (0, 0) }, pick, |_| vec![]).await
}

/// The candidate whose number the aggregator names, in place of an answer of its own (universal self-consistency). Where it names
/// none, the first candidate that says something is taken.
pub(super) async fn universal(world: &World<'_>, name: &str, slots: &Slots<'_>) -> Result<Arm> {
    let stage = world.lab.stage(&format!("{name}/choose"), world.test.len()).await?;
    let mut puts = Vec::with_capacity(world.test.len());
    for ((item, query), of) in (0..).zip(&world.test).zip(slots) {
        let references = References::new(of.iter().map(|answer| answer.proposal()).collect());
        puts.push(Put { query, ask: Ask::Number, references, rows: vec![stage.row(item, 0)] });
    }
    let texts = world.put(&stage, &world.aggregator, world.plan.moa.aggregator_temperature, &puts).await?;
    let texts: Vec<_> = texts.into_iter().flatten().collect();
    let (mut places, mut n_unread) = (Vec::with_capacity(texts.len()), 0);
    for (put, text) in puts.iter().zip(&texts) {
        let number = chosen(&text.text, put.references.n_shown());
        n_unread += u32::from(number.is_none());
        let node = put.references.shown_proposals().nth(number.unwrap_or(1) - 1).map(|proposal| proposal.node);
        places.push(node);
    }
    if n_unread > 0 {
        world.lab.note(format!("{name}: {n_unread} of {} choices name no candidate; the first was taken", texts.len()));
    }
    let spent: Vec<u64> = texts.iter().map(|text| text.n_tokens).collect();
    let mut at = 0..;
    let pick = |answers: &[&Answer]| {
        let query = at.next().unwrap_or(0);
        Ok(answers.iter().position(|answer| places[query] == Some(answer.node())))
    };
    let extra = |query: usize| (1, spent[query]);
    let rule = Rule { said: "number named by the aggregator", scorer: Some(world.aggregator.node()), extra: &extra };
    select(world, name, slots, rule, pick, |_| vec![]).await
}

/// The candidate that the judge rates highest; equal ones are won by the first.
pub(super) async fn judged(world: &World<'_>, name: &str, judge: &Judge, slots: &Slots<'_>) -> Result<Arm> {
    let scores = super::judge::rate(world, name, judge, slots).await?;
    let mut at = scores.iter();
    let pick = |_: &[&Answer]| at.next().filter(|of| !of.is_empty()).map(|of| first_greatest(of)).transpose();
    let n_each = judge.n_calls();
    let extra = |query: usize| (n_each * scores[query].len() as u64, 0);
    let rule = Rule { said: "best by the judge", scorer: Some(judge.node()), extra: &extra };
    select(world, name, slots, rule, pick, |query| scores[query].clone()).await
}

/// How an arm chooses among candidates.
struct Rule<'a> {
    said: &'a str,
    scorer: Option<NodeId>,
    /// Calls and tokens of a query beside those of its candidates.
    extra: &'a dyn Fn(usize) -> (u64, u64),
}

/// One of each query's candidates, recorded as a selection at (query, 0) of the arm's stage; where there is nothing to choose the
/// first candidate stands, which is then wrong.
async fn select(
    world: &World<'_>,
    name: &str,
    slots: &Slots<'_>,
    Rule { said, scorer, extra }: Rule<'_>,
    mut pick: impl FnMut(&[&Answer]) -> Result<Option<usize>>,
    scores: impl Fn(usize) -> Vec<f64>,
) -> Result<Arm> {
    let stage = world.lab.stage(name, world.test.len()).await?;
    let mut recording = Recording::new();
    let mut outcomes = Vec::with_capacity(slots.len());
    for (query, candidates) in slots.iter().enumerate() {
        let place = pick(candidates)?;
        let answer = candidates.get(place.unwrap_or(0)).copied();
        let answer = answer.ok_or_else(|| Error::Internal(format!("`{name}` has no candidates")))?;
        if let Some(place) = place {
            let selection = Selection {
                candidates: candidates.iter().map(|answer| answer.node()).collect(),
                scores: scores(query),
                rule: said.to_owned(),
                ties: TIES.into(),
                chosen: place as u32,
                scorer,
            };
            recording.put_selection(stage.row(query as u32, 0), &selection)?;
        }
        let (calls, more) = extra(query);
        let calls = candidates.len() + calls as usize;
        outcomes.push(outcome(answer, calls, tokens(candidates.iter().copied()) + more));
    }
    world.lab.record(recording).await?;
    stage.done(outcomes.len());
    finish(world, name, outcomes).await
}

/// Records an arm's figures: accuracy over all queries and by task, calls, tokens, and the share of answers cut off.
async fn finish(world: &World<'_>, name: &str, outcomes: Vec<Outcome>) -> Result<Arm> {
    let lab = world.lab;
    let texts: Vec<&str> =
        outcomes.iter().map(|outcome| outcome.answer.as_ref().map_or("", |answer| &*answer.text)).collect();
    let from = outcomes.iter().map(|outcome| outcome.from);
    let results = record_members(lab, &format!("results {name}"), "results", &texts.join("\n"), from).await?;
    let stage = lab.stage(&format!("{name}/figures"), 1).await?;
    let used = [world.benchmark, results];
    let right: Vec<f64> = outcomes.iter().map(|outcome| outcome.right).collect();
    let accuracy = |item: u32, right: &[f64]| {
        let mut stream = lab.seeds().stream(stage.name(), item, 0);
        mean(right, &mut stream).unwrap_or(Estimate::exactly(0.0))
    };
    let figure = stage.figure(0, "accuracy", accuracy(0, &right), right.len(), &used).await?;
    for (item, (task, of)) in (1..).zip(world.tasks.iter().enumerate()) {
        let right: Vec<f64> = world.places(task).into_iter().map(|at| right[at]).collect();
        stage.figure(item, &format!("accuracy, {of}"), accuracy(item, &right), right.len(), &used).await?;
    }
    let n = outcomes.len() as f64;
    let calls = outcomes.iter().map(|outcome| outcome.calls).sum::<u64>() as f64 / n;
    let tokens = outcomes.iter().map(|outcome| outcome.tokens).sum::<u64>() as f64 / n;
    let is_cut = |outcome: &&Outcome| outcome.answer.as_ref().is_some_and(|answer| answer.finish == Finish::Length);
    let cut = outcomes.iter().filter(is_cut).count() as f64 / n;
    for (item, name, value) in [(100, "calls", calls), (101, "tokens", tokens), (102, "answers cut off", cut)] {
        stage.figure(item, name, Estimate::exactly(value), outcomes.len(), &used).await?;
    }
    stage.done(1);
    Ok(Arm { name: name.to_owned(), outcomes, figure, calls, tokens })
}
