//! Best of n: what choosing among candidates by a reward model brings, by estimator, aggregator and n.

use std::fmt;

use tracker_store::{NodeId, Recording};

use super::world::{Solution, World};
use crate::error::Result;
use crate::lab::Stage;
use crate::parts::best_of::{Aggregator, Curves, first_greatest, select, weighted_vote};
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::{Estimate, mean};
use crate::parts::labels::Estimator;
use crate::parts::record::record_series;

/// Whose scores choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Chooser {
    /// Reward models fitted to the labels of an estimator.
    Labels(Estimator),
    /// One behind an endpoint.
    Served,
}

impl fmt::Display for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels(estimator) => write!(f, "{estimator}"),
            Self::Served => f.write_str("served"),
        }
    }
}

/// What reward models of one kind said of all candidates: `[repeats][problems][candidates][steps]`.
pub(super) struct Scored {
    pub(super) by: Chooser,
    /// The candidates as a dataset.
    pub(super) drawn: NodeId,
    pub(super) judges: Vec<NodeId>,
    pub(super) scores: Vec<Vec<Vec<Vec<f64>>>>,
}

/// The curves of one chooser and aggregator, a curve a problem, and the figures at the reported n.
pub(super) struct Found {
    pub(super) by: Chooser,
    pub(super) aggregator: Aggregator,
    pub(super) curves: CurveSet,
    /// The figure at the largest reported n.
    pub(super) figure: NodeId,
}

/// The seed under which problems are drawn anew: one for all, so that methods are compared on the same draws.
pub(super) fn resampler(world: &World<'_>) -> Result<Resampler> {
    Resampler::of(world.lab, "search/resamples", world.plan.search.n_resamples)
}

/// Curves of every aggregator, with figures and series.
pub(super) async fn search(world: &World<'_>, candidates: &[Vec<Solution>], scored: &Scored) -> Result<Vec<Found>> {
    let World { lab, plan, .. } = world;
    let curves = Curves::new(plan.search.n_candidates as usize)?;
    let stage = lab.stage(&format!("search/{}", scored.by), Aggregator::ALL.len()).await?;
    let resampler = resampler(world)?;
    let right = right(candidates);
    let used = used_by(world, scored);
    let mut all = Vec::new();
    for (nth, aggregator) in Aggregator::ALL.into_iter().enumerate() {
        // The mean over repeats of one problem's curves is the problem's curve.
        let of_problem = |problem: usize| -> Result<Vec<f64>> {
            let mut sum = vec![0.0; plan.search.n_candidates as usize];
            for repeat in &scored.scores {
                let scores =
                    repeat[problem].iter().map(|steps| aggregator.score(steps)).collect::<Result<Vec<f64>>>()?;
                for (sum, x) in sum.iter_mut().zip(curves.curve(&scores, &right[problem])?) {
                    *sum += x / scored.scores.len() as f64;
                }
            }
            Ok(sum)
        };
        let set = CurveSet::new((0..right.len()).map(of_problem).collect::<Result<Vec<_>>>()?)?;
        let bands = resampler.bands(&set);
        chosen(world, (&stage, nth), candidates, scored, aggregator).await?;
        for n in &plan.search.sizes {
            let at_n: Vec<f64> = (0..set.n_prompts()).map(|problem| set.curve(problem)[*n as usize - 1]).collect();
            let key = format!("search/{}/{aggregator}/by problem/best of {n}", scored.by);
            record_series(world.lab, &key, (0..).zip(at_n)).await?;
        }
        let mut last = None;
        for (at, n) in (0..).zip(&plan.search.sizes) {
            let name = format!("best of {n}, {aggregator}");
            let item = 100 * nth as u32 + at;
            last = Some(stage.figure(item, &name, bands[*n as usize - 1], right.len(), &used).await?);
        }
        series(world, &format!("search/{}/{aggregator}", scored.by), &bands).await?;
        let Some(figure) = last else { continue };
        all.push(Found { by: scored.by, aggregator, curves: set, figure });
        stage.done(nth + 1);
    }
    vote(world, candidates, scored, &used).await?;
    Ok(all)
}

/// Records what each reward model chooses among all candidates of each problem.
async fn chosen(
    world: &World<'_>,
    (stage, nth): (&Stage<'_>, usize),
    candidates: &[Vec<Solution>],
    scored: &Scored,
    aggregator: Aggregator,
) -> Result<()> {
    let mut recording = Recording::new();
    let n_repeats = scored.scores.len();
    for (repeat, (scores, judge)) in scored.scores.iter().zip(&scored.judges).enumerate() {
        for ((problem, solutions), scores) in (0..).zip(candidates).zip(scores) {
            let totals = scores.iter().map(|steps| aggregator.score(steps)).collect::<Result<Vec<f64>>>()?;
            let rows = solutions.iter().map(|solution| NodeId::sample(solution.row)).collect();
            let rule = format!("best of {} by {aggregator} of {}", solutions.len(), scored.by);
            let selection = select(rows, totals, rule, Some(*judge))?;
            recording.put_selection(stage.row(problem, (nth * n_repeats + repeat) as u32), &selection)?;
        }
    }
    world.lab.record(recording).await
}

fn used_by(world: &World<'_>, scored: &Scored) -> Vec<NodeId> {
    [world.benchmark, scored.drawn].into_iter().chain(scored.judges.iter().copied()).collect()
}

fn right(candidates: &[Vec<Solution>]) -> Vec<Vec<f64>> {
    let of_problem = |solutions: &Vec<Solution>| solutions.iter().map(|s| f64::from(u8::from(s.is_right))).collect();
    candidates.iter().map(of_problem).collect()
}

/// A curve by n.
async fn series(world: &World<'_>, key: &str, bands: &[Estimate]) -> Result<()> {
    record_series(world.lab, key, (1..).zip(bands.iter().map(|band| band.value))).await
}

/// Votes of the first n candidates over answers, each weighted by the least score of its steps.
async fn vote(world: &World<'_>, candidates: &[Vec<Solution>], scored: &Scored, used: &[NodeId]) -> Result<()> {
    let stage = world.lab.stage(&format!("vote/{}", scored.by), 1).await?;
    let weigh = |problem: usize, solutions: &[Solution]| -> Result<Vec<f64>> {
        let scores = scored.scores.first().map_or(&[][..], |repeat| &repeat[problem]);
        scores.iter().take(solutions.len()).map(|steps| Aggregator::Min.score(steps)).collect()
    };
    elect(world, &stage, candidates, used, weigh).await
}

/// What nobody's scores are needed for: one candidate, the majority's answer, and any candidate.
pub(super) async fn without_scores(world: &World<'_>, candidates: &[Vec<Solution>], used: &[NodeId]) -> Result<()> {
    let stage = world.lab.stage("vote/majority", 1).await?;
    elect(world, &stage, candidates, used, |_, solutions| Ok(vec![1.0; solutions.len()])).await?;
    let stage = world.lab.stage("search/any", 1).await?;
    let curves = Curves::new(world.plan.search.n_candidates as usize)?;
    let right = right(candidates);
    // By its own correctness the best is right if any is.
    let set = CurveSet::new(right.iter().map(|right| curves.curve(right, right)).collect::<Result<Vec<_>>>()?)?;
    let bands = resampler(world)?.bands(&set);
    for (at, n) in (0..).zip(&world.plan.search.sizes) {
        let name = format!("pass@{n}");
        stage.figure(at, &name, bands[*n as usize - 1], right.len(), used).await?;
    }
    series(world, "search/any", &bands).await?;
    stage.done(1);
    Ok(())
}

async fn elect(
    world: &World<'_>,
    stage: &crate::lab::Stage<'_>,
    candidates: &[Vec<Solution>],
    used: &[NodeId],
    weights: impl Fn(usize, &[Solution]) -> Result<Vec<f64>>,
) -> Result<()> {
    for (at, n) in (0..).zip(&world.plan.search.sizes) {
        let elected = candidates.iter().enumerate().map(|(problem, solutions)| {
            let solutions = &solutions[..*n as usize];
            // Who gives no answer does not vote.
            let (voters, answers): (Vec<usize>, Vec<&String>) =
                solutions.iter().enumerate().filter_map(|(i, solution)| Some((i, solution.answer.as_ref()?))).unzip();
            if voters.is_empty() {
                return Ok(0.0);
            }
            let all = weights(problem, solutions)?;
            let scores: Vec<f64> = voters.iter().map(|voter| all[*voter]).collect();
            let winner = voters[weighted_vote(&answers, &scores)?];
            Ok(f64::from(u8::from(solutions[winner].is_right)))
        });
        let elected = elected.collect::<Result<Vec<f64>>>()?;
        let mut stream = world.lab.seeds().stream(stage.name(), at, 0);
        if let Some(estimate) = mean(&elected, &mut stream) {
            stage.figure(at, &format!("vote of {n}"), estimate, elected.len(), used).await?;
        }
    }
    stage.done(1);
    Ok(())
}

/// Where the first error is: the first step whose score is below one half, against the truth; of problems whose steps can
/// be checked.
pub(super) async fn localise(world: &World<'_>, candidates: &[Vec<Solution>], scored: &Scored) -> Result<()> {
    /// Candidates of each problem that are looked at.
    const LOOKED_AT: usize = 8;
    let stage = world.lab.stage(&format!("first error/{}", scored.by), 1).await?;
    let mut found: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for (problem, (task, solutions)) in world.test.iter().zip(candidates).enumerate() {
        let Some(chain) = &task.chain else { continue };
        let mut hits: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        for repeat in &scored.scores {
            for (solution, scores) in solutions.iter().zip(&repeat[problem]).take(LOOKED_AT) {
                let steps: Vec<&str> = solution.steps().collect();
                let truth = chain.first_error(&steps);
                let said = scores.iter().position(|score| *score < 0.5);
                hits[usize::from(truth.is_none())].push(f64::from(u8::from(said == truth)));
            }
        }
        for (found, hits) in found.iter_mut().zip(hits) {
            if !hits.is_empty() {
                found.push(hits.iter().sum::<f64>() / hits.len() as f64);
            }
        }
    }
    let used = used_by(world, scored);
    for (at, (name, found)) in
        (0..).zip(["of wrong solutions, found", "of right solutions, none seen"].iter().zip(&found))
    {
        let mut stream = world.lab.seeds().stream(stage.name(), at, 0);
        if let Some(estimate) = mean(found, &mut stream) {
            stage.figure(at, name, estimate, found.len(), &used).await?;
        }
    }
    stage.done(1);
    Ok(())
}

/// How many problems have another winner under the labels of an entropic estimator than under the shares themselves, by the
/// least and by the last label.
pub(super) fn other_winners(shares: &[Vec<Vec<Option<f64>>>], labels: &[Vec<Vec<Option<f64>>>]) -> Result<usize> {
    let winner = |solutions: &[Vec<Option<f64>>], aggregator: Aggregator| -> Result<usize> {
        let score = |steps: &Vec<Option<f64>>| aggregator.score(&steps.iter().flatten().copied().collect::<Vec<_>>());
        first_greatest(&solutions.iter().map(score).collect::<Result<Vec<f64>>>()?)
    };
    let mut n_other = 0;
    for (shares, labels) in shares.iter().zip(labels) {
        for aggregator in [Aggregator::Min, Aggregator::Last] {
            n_other += usize::from(winner(shares, aggregator)? != winner(labels, aggregator)?);
        }
    }
    Ok(n_other)
}
