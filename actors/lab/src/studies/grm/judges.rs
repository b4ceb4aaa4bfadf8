//! Reward models of every method, what they are worth on held-out pairs, and ensembles of them.

use std::collections::BTreeSet;

use tracker_actors::Pool;
use tracker_lm::RewardModel;
use tracker_store::{Edge, NodeId, Program, Recording, Relation};

use super::method::Method;
use super::pairs::{Preference, prefer};
use super::world::{Held, World};
use crate::error::Result;
use crate::parts::answers::{Answer, Asked, Scored, Task};
use crate::parts::evaluate::{crossed, gap};
use crate::parts::record::FileRow;
use crate::parts::reward::{Fit, Fitter, Judge, Objective, Scorer, fit};
use crate::parts::sections::sections;
use crate::parts::train::Trained;

/// Items of figures of a stage: accuracies of trials come first.
const GAP: u32 = 1_000;
/// Where figures of `RewardBench`'s sections stand, and how many each trial has at most.
const SECTIONS_FROM: u32 = 2_000;
const SECTIONS_EACH: u32 = 10;
const SOURCES: u32 = 1_000_000;

/// Pairs to learn from: the first of those there are.
pub(super) struct Lessons<'a> {
    pub(super) pairs: &'a [Preference],
    pub(super) is_flipped: bool,
}

impl Lessons<'_> {
    /// `512 clean`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.pairs.len(), if self.is_flipped { "flipped" } else { "clean" })
    }
}

/// Held-out pairs of one kind.
pub(super) struct Trial {
    pub(super) name: String,
    /// The exercises they are of.
    pub(super) node: NodeId,
    /// Better and worse answers by turns.
    pub(super) asked: Asked,
    /// For each pair where it was published, if it was.
    sources: Vec<String>,
    /// `RewardBench`'s subset of each pair; empty for other data.
    subsets: Vec<String>,
}

impl Trial {
    /// Of the first two answers to each task that differ in score.
    /// `subsets` are the tasks', if they have any.
    pub(super) async fn new(
        world: &World<'_>,
        held: &Held,
        (tasks, answers): (&[Task], &[Vec<Answer>]),
        subsets: &[String],
    ) -> Result<Self> {
        let pairs = prefer(world, &format!("pairs/{}", held.name), tasks, answers, 0.0).await?;
        let asked = Asked::new(pairs.iter().flat_map(|pair| &pair.answers));
        let sources = pairs.iter().map(|pair| pair.source.clone()).collect();
        let subsets = pairs.iter().filter_map(|pair| subsets.get(pair.task).cloned()).collect();
        Ok(Self { name: held.name.clone(), node: held.node, asked, sources, subsets })
    }
}

/// Somebody who scores, and what it said.
pub(super) struct Rater {
    pub(super) node: NodeId,
    /// Its model, unless it is an ensemble.
    pub(super) judge: Option<Judge>,
    /// For each trial what it said.
    said: Vec<Vec<f64>>,
    /// What it said of the candidates of best of n, if it was asked.
    pub(super) candidates: Vec<f64>,
}

impl Rater {
    /// For each pair of a trial whether the better answer got the higher score.
    fn right(&self, trial: usize) -> Vec<f64> {
        let is_right = |pair: &[f64; 2]| f64::from(u8::from(pair[0] > pair[1]));
        self.said[trial].as_chunks::<2>().0.iter().map(is_right).collect()
    }
}

/// One method on one set of pairs, a rater a repeat.
pub(super) struct Cell {
    pub(super) lessons: String,
    pub(super) method: String,
    pub(super) raters: Vec<Rater>,
    /// The figures of its accuracies, one a trial, and of all trials out of distribution.
    pub(super) figures: Vec<NodeId>,
}

impl Cell {
    /// `[repeat][pair]`: right or not, over all pairs of the trial in distribution, or of all others.
    pub(super) fn right(&self, is_in: bool) -> Vec<Vec<f64>> {
        let of = |rater: &Rater| {
            let trials = if is_in { 0..1 } else { 1..rater.said.len() };
            trials.flat_map(|trial| rater.right(trial)).collect()
        };
        self.raters.iter().map(of).collect()
    }
}

/// What all judges are asked.
pub(super) struct Questions {
    pub(super) trials: Vec<Trial>,
    pub(super) candidates: Asked,
}

/// Fits one method to some pairs, a repeat each, and asks what they think.
pub(super) async fn judge(
    world: &World<'_>,
    (fitter, scorer): (&Pool<Fitter>, &Pool<Scorer>),
    base: &Trained,
    (lessons, method): (&Lessons<'_>, Method),
    (questions, with_candidates): (&Questions, bool),
) -> Result<Cell> {
    let World { lab, plan, .. } = world;
    let rows: Vec<FileRow> = lessons.pairs.iter().map(Preference::row).collect();
    let mut raters = Vec::new();
    for repeat in 1..=plan.rm.repeats {
        // Methods with one kind of head start from the same one.
        let seed = lab.seeds().seed("head", repeat, 0);
        let model = RewardModel::init(&base.model, method.head(&plan.rm), seed)?;
        let rated = lessons.pairs.iter().map(|pair| pair.rated(method.has_margin())).collect();
        let objective = Objective::Pairs(rated, method.loss(&plan.rm, &base.model));
        let step = Fit {
            label: &format!("rm {} {method} {repeat}", lessons.name()),
            from: base.node,
            model: &model,
            dataset: &format!("pairs {}", lessons.name()),
            rows: &rows,
            drawn_from: &[],
            trunk: method.trunk(),
            adapter: method.adapter(&plan.rm),
            settings: &plan.rm.sft,
        };
        let judge = fit(lab, fitter, step, objective).await?;
        let mut said = Vec::new();
        for trial in &questions.trials {
            said.push(values(trial.asked.score(lab, scorer, &judge).await?));
        }
        let candidates =
            if with_candidates { values(questions.candidates.score(lab, scorer, &judge).await?) } else { vec![] };
        raters.push(Rater { node: judge.node, judge: Some(judge), said, candidates });
    }
    report(world, &lessons.name(), method.name(), raters, questions).await
}

fn values(scored: Vec<Scored>) -> Vec<f64> {
    scored.into_iter().map(|scored| scored.value).collect()
}

/// Ensembles of a cell's raters, of `n` in a row each: the mean of their scores, or the least. As many as there are repeats,
/// so members are shared between them.
pub(super) async fn ensemble(world: &World<'_>, of: &Cell, is_min: bool, questions: &Questions) -> Result<Cell> {
    let lab = world.lab;
    let name = if is_min { "ensemble-min" } else { "ensemble-avg" };
    let n = world.plan.rm.ensemble as usize;
    let mut raters = Vec::new();
    for first in 0..of.raters.len() {
        let members: Vec<&Rater> = of.raters.iter().cycle().skip(first).take(n).collect();
        let join = |lists: Vec<&[f64]>| -> Vec<f64> {
            let at = |i: usize| lists.iter().map(move |list| list[i]);
            let one = |i: usize| {
                if is_min { at(i).fold(f64::INFINITY, f64::min) } else { at(i).sum::<f64>() / n as f64 }
            };
            (0..lists.first().map_or(0, |list| list.len())).map(one).collect()
        };
        let nodes: Vec<String> = members.iter().map(|rater| rater.node.to_string()).collect();
        let program = Program { name: name.into(), version: "1".into(), settings: nodes.join(" ") };
        let mut recording = Recording::new();
        let node = recording.put(lab.run(), &program)?;
        for (order, member) in (0..).zip(&members) {
            recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, member.node).at(order))?;
        }
        lab.record(recording).await?;
        let mut said = Vec::new();
        for (trial, place) in questions.trials.iter().zip(0..) {
            let joined = join(members.iter().map(|member| member.said[place].as_slice()).collect());
            trial.asked.record(lab, node, &joined).await?;
            said.push(joined);
        }
        let candidates = join(members.iter().map(|member| member.candidates.as_slice()).collect());
        questions.candidates.record(lab, node, &candidates).await?;
        raters.push(Rater { node, judge: None, said, candidates });
    }
    report(world, &of.lessons, name, raters, questions).await
}

/// Records accuracies, over pairs and repeats.
async fn report(
    world: &World<'_>,
    lessons: &str,
    method: &str,
    raters: Vec<Rater>,
    questions: &Questions,
) -> Result<Cell> {
    let stage = world.lab.stage(&format!("accuracy/{lessons} {method}"), questions.trials.len()).await?;
    let mut cell = Cell { lessons: lessons.into(), method: method.into(), raters, figures: vec![] };
    let judges: Vec<NodeId> = cell.raters.iter().map(|rater| rater.node).collect();
    let trials = &questions.trials;
    let each = trials.iter().enumerate().map(|(at, trial)| {
        (trial.name.as_str(), cell.raters.iter().map(|rater| rater.right(at)).collect::<Vec<_>>(), vec![trial.node])
    });
    let others = trials.iter().skip(1).map(|trial| trial.node).collect();
    let all: Vec<_> = each.chain([("out of distribution", cell.right(false), others)]).collect();
    for ((name, right, mut used), at) in all.into_iter().zip(0..) {
        let mut stream = world.lab.seeds().stream(stage.name(), at, 0);
        let Some(estimate) = crossed(&right, &mut stream) else { continue };
        used.extend(&judges);
        let n = right.first().map_or(0, Vec::len);
        cell.figures.push(stage.figure(at, name, estimate, n, &used).await?);
    }
    let nodes: Vec<NodeId> = trials.iter().map(|trial| trial.node).chain(judges.iter().copied()).collect();
    let (own, others) = (cell.right(true), cell.right(false));
    let mut stream = world.lab.seeds().stream(stage.name(), GAP, 0);
    if let Some(gap) = gap(&own, &others, &mut stream) {
        let n = own.first().map_or(0, Vec::len) + others.first().map_or(0, Vec::len);
        stage.figure(GAP, "in less out of distribution", gap, n, &nodes).await?;
    }
    // Where pairs come from, if they say more than the trial they are in.
    for (trial, at) in trials.iter().zip(0_u32..) {
        let sources: BTreeSet<&str> = trial.sources.iter().map(String::as_str).collect();
        if sources.len() < 2 {
            continue;
        }
        for (source, nth) in sources.into_iter().zip(0..) {
            let of_source = |rater: &Rater| -> Vec<f64> {
                let right = rater.right(at as usize).into_iter().zip(&trial.sources);
                right.filter(|(_, of)| *of == source).map(|(right, _)| right).collect()
            };
            let right: Vec<Vec<f64>> = cell.raters.iter().map(of_source).collect();
            let item = SOURCES * (at + 1) + nth;
            let mut stream = world.lab.seeds().stream(stage.name(), item, 0);
            let Some(estimate) = crossed(&right, &mut stream) else { continue };
            let n = right.first().map_or(0, Vec::len);
            stage.figure(item, &format!("{}, source {source}", trial.name), estimate, n, &nodes).await?;
        }
    }
    for (at, trial) in trials.iter().enumerate().filter(|(_, trial)| !trial.subsets.is_empty()) {
        let right: Vec<Vec<f64>> = cell.raters.iter().map(|rater| rater.right(at)).collect();
        let first = SECTIONS_FROM + SECTIONS_EACH * at as u32;
        let mut stream = world.lab.seeds().stream(stage.name(), first, 0);
        let used: Vec<NodeId> = [trial.node].into_iter().chain(judges.iter().copied()).collect();
        for ((name, estimate), item) in sections(&trial.subsets, &right, &mut stream)?.into_iter().zip(first..) {
            stage.figure(item, &format!("{}: {name}", trial.name), estimate, trial.subsets.len(), &used).await?;
        }
    }
    stage.done(trials.len());
    Ok(cell)
}
