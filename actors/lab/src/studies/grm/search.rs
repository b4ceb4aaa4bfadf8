//! Best of n: what a reward model promises and what it keeps, from one candidate to all of them.

use tracker_store::{NodeId, Recording};

use super::judges::{Cell, Rater};
use super::world::World;
use crate::error::Result;
use crate::parts::answers::Answer;
use crate::parts::best_of::{Curves, best_of_first, first_greatest, kl, select};
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::{Estimate, crossed};
use crate::parts::record::{record_members, record_series};

/// What one cell found.
pub(super) struct Found {
    pub(super) lessons: String,
    pub(super) method: String,
    /// `[repeat][prompt]`: the exact score of the best of all candidates.
    pub(super) ends: Vec<Vec<f64>>,
    /// The figure of their mean.
    pub(super) figure: NodeId,
}

/// One rater's curves of one prompt.
struct Prompt {
    gold: Vec<f64>,
    proxy: Vec<f64>,
    gold_first: Vec<f64>,
}

/// Curves of a cell, its figures and series. `keeps` says whether the choices among all candidates are recorded one by one.
pub(super) async fn search(
    world: &World<'_>,
    (candidates, drawn): (&[Vec<Answer>], NodeId),
    cell: &Cell,
    keeps: bool,
) -> Result<Found> {
    let World { lab, plan, .. } = world;
    let n = plan.search.n_candidates as usize;
    let curves = Curves::new(n)?;
    let stage = lab.stage(&format!("search/{} {}", cell.lessons, cell.method), cell.raters.len()).await?;
    let mut all: Vec<Vec<Prompt>> = Vec::new();
    let mut chosen = Vec::new();
    for (rater, repeat) in cell.raters.iter().zip(0..) {
        let mut recording = Recording::new();
        let mut prompts = Vec::new();
        for ((answers, scores), item) in candidates.iter().zip(rater.candidates.chunks(n)).zip(0..) {
            let gold: Vec<f64> = answers.iter().map(|answer| answer.gold).collect();
            prompts.push(Prompt {
                gold: curves.curve(scores, &gold)?,
                proxy: curves.curve(scores, scores)?,
                gold_first: best_of_first(scores, &gold)?,
            });
            if keeps {
                let rows = answers.iter().map(|answer| NodeId::sample(answer.row)).collect();
                let rule = format!("best of {n} by {}", cell.method);
                let selection = select(rows, scores.to_vec(), rule, Some(rater.node))?;
                chosen.push(recording.put_selection(stage.row(item, repeat), &selection)?);
            }
        }
        lab.record(recording).await?;
        all.push(prompts);
        stage.done(all.len());
    }
    let judges = cell.raters.iter().map(|rater: &Rater| rater.node);
    let used: Vec<NodeId> = [world.search.node, drawn].into_iter().chain(judges).chain(chosen).collect();
    let (at_all, kinds) = (n - 1, ["gold", "proxy", "gold by the first n"]);
    let resampler = resampler(world)?;
    let mut sets = Vec::new();
    for (kind, at) in kinds.iter().zip(0..) {
        let of = |prompt: &Prompt| match at {
            0 => prompt.gold.clone(),
            // What is promised has no scale of its own that repeats would share: it counts from one candidate on.
            1 => prompt.proxy.iter().map(|proxy| proxy - prompt.proxy[0]).collect(),
            _ => prompt.gold_first.clone(),
        };
        let set = CurveSet::new(means(&all, of))?;
        let bands = resampler.bands(&set);
        series(world, &format!("{}/{kind}", stage.name()), &bands).await?;
        if at == 0 {
            for size in &plan.search.sizes {
                let at_n: Vec<f64> = (0..set.n_prompts()).map(|prompt| set.curve(prompt)[*size as usize - 1]).collect();
                record_series(world.lab, &format!("{}/by prompt/best of {size}", stage.name()), (0..).zip(at_n))
                    .await?;
            }
        }
        if at < 2 {
            for (order, size) in (0..).zip(&plan.search.sizes) {
                let name = format!("{kind}, best of {size}");
                stage.figure(100 * at + order, &name, bands[*size as usize - 1], candidates.len(), &used).await?;
            }
        }
        sets.push(set);
    }
    for (set, (first, how)) in [&sets[0], &sets[2]].into_iter().zip([(300, ""), (310, " by the first n")]) {
        let found = resampler.statistics(set, |curve| peak(&curve));
        let names = ["n at which gold peaks", "KL at which gold peaks", "gold lost after its peak"];
        for ((name, estimate), order) in names.iter().zip(found).zip(0..) {
            stage.figure(first + order, &format!("{name}{how}"), estimate, candidates.len(), &used).await?;
        }
    }
    let ends: Vec<Vec<f64>> =
        all.iter().map(|prompts| prompts.iter().map(|prompt| prompt.gold[at_all]).collect()).collect();
    let mut stream = lab.seeds().stream(stage.name(), 0, 0);
    let estimate = crossed(&ends, &mut stream).unwrap_or(Estimate::exactly(0.0));
    let figure = stage.figure(400, "gold at the largest KL", estimate, candidates.len(), &used).await?;
    Ok(Found { lessons: cell.lessons.clone(), method: cell.method.clone(), ends, figure })
}

/// What nobody's scores are needed for: the best there is, and the divergence at each n. Gives the candidates as a dataset.
pub(super) async fn without_scores(world: &World<'_>, candidates: &[Vec<Answer>], base: NodeId) -> Result<NodeId> {
    let texts: Vec<&str> = candidates.iter().flatten().map(|answer| answer.text.as_str()).collect();
    let grades = candidates.iter().flatten().map(|answer| answer.grade);
    let drawn = record_members(world.lab, "candidates", "results", &texts.join("\n"), grades).await?;
    let stage = world.lab.stage("search/exact", 1).await?;
    let curves = Curves::new(world.plan.search.n_candidates as usize)?;
    let best = |answers: &Vec<Answer>| {
        let gold: Vec<f64> = answers.iter().map(|answer| answer.gold).collect();
        curves.curve(&gold, &gold)
    };
    let set = CurveSet::new(candidates.iter().map(best).collect::<Result<Vec<_>>>()?)?;
    let bands = resampler(world)?.bands(&set);
    series(world, "search/exact/gold", &bands).await?;
    let divergences: Vec<Estimate> = (1..=bands.len()).map(|n| Estimate::exactly(kl(n))).collect();
    series(world, "search/kl", &divergences).await?;
    for (order, size) in (0..).zip(&world.plan.search.sizes) {
        let name = format!("gold, best of {size}");
        let used = [world.search.node, drawn, base];
        stage.figure(order, &name, bands[*size as usize - 1], candidates.len(), &used).await?;
    }
    stage.done(1);
    Ok(drawn)
}

/// Where a curve is greatest: n, the divergence there, and how much is lost from there to the end.
fn peak(curve: &[f64]) -> Vec<f64> {
    let Ok(at) = first_greatest(curve) else { return vec![] };
    vec![(at + 1) as f64, kl(at + 1), curve[at] - curve[curve.len() - 1]]
}

/// For each prompt the mean over repeats.
fn means(all: &[Vec<Prompt>], of: impl Fn(&Prompt) -> Vec<f64>) -> Vec<Vec<f64>> {
    let n_prompts = all.first().map_or(0, Vec::len);
    let mean = |prompt: usize| {
        let mut sum: Vec<f64> = Vec::new();
        for curve in all.iter().map(|prompts| of(&prompts[prompt])) {
            sum.resize(curve.len(), 0.0);
            sum.iter_mut().zip(curve).for_each(|(sum, x)| *sum += x / all.len() as f64);
        }
        sum
    };
    (0..n_prompts).map(mean).collect()
}

/// One seed for all, so that methods are compared on the same draws of prompts.
fn resampler(world: &World<'_>) -> Result<Resampler> {
    Resampler::of(world.lab, "search/resamples", world.plan.search.n_resamples)
}

/// A curve by n.
async fn series(world: &World<'_>, key: &str, bands: &[Estimate]) -> Result<()> {
    record_series(world.lab, key, (1..).zip(bands.iter().map(|band| band.value))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_first_of_the_greatest() {
        assert_eq!(peak(&[0.5, 0.75, 0.75, 0.25]), [2.0, kl(2), 0.5]);
        assert_eq!(peak(&[0.5, 0.75, 1.0]), [3.0, kl(3), 0.0]);
    }

    #[test]
    fn a_prompts_curve_is_the_mean_over_repeats() {
        let prompt = |x: f64| Prompt { gold: vec![x, 2.0 * x], proxy: vec![], gold_first: vec![] };
        let all = [vec![prompt(1.0), prompt(5.0)], vec![prompt(3.0), prompt(5.0)]];
        assert_eq!(means(&all, |prompt| prompt.gold.clone()), [[2.0, 4.0], [5.0, 10.0]]);
    }
}
