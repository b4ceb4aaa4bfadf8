//! What the paper says, and what this run found of it; and what each method leaves on the table.

use tracker_store::{Claim, NodeId};

use super::baselines::Method;
use super::measure::{Layout, Measured, Source, compared, joined, layout, resampler};
use super::wish::Wish;
use super::world::World;
use crate::error::Result;
use crate::parts::direction::{Direction, regrets};
use crate::parts::evaluate::{Estimate, claim_above};

/// What rank correlation counts as control.
const CONTROL: f64 = 0.8;
/// By how much less the true front may grow than the reward model's, in shares of the whole volume.
const SLACK: f64 = 0.01;

/// The models of all rounds and of all baselines.
pub(super) struct Evidence<'a> {
    pub(super) rounds: &'a [Measured],
    pub(super) methods: &'a [Method],
}

/// The claims of the study, recorded with what they rest on.
pub(super) async fn claims(world: &World<'_>, evidence: Evidence<'_>) -> Result<Vec<Claim>> {
    let (Some(first), Some(last)) = (evidence.rounds.first(), evidence.rounds.last()) else {
        return world.lab.claims(vec![]).await;
    };
    left(world, &evidence).await?;
    let sources = Source::all(world.has_gold());
    let truest = *sources.last().unwrap_or(&Source::Model);
    let whole = layout(world, &last.wishes);
    let ends: Vec<NodeId> = first.figures.iter().chain(&last.figures).copied().collect();
    let mut all: Vec<(Claim, Vec<NodeId>)> = Vec::new();
    let n_rounds = evidence.rounds.len() - 1;
    let gains = compared(world, [first, last], |before, after| {
        let gain = |source: Source| whole.volume(after, source) - whole.volume(before, source);
        let gains: Vec<f64> = sources.iter().map(|source| gain(*source)).collect();
        let more = gains.last().copied().unwrap_or(0.0) - gains[0];
        gains.into_iter().chain([more, whole.fidelity(after, truest)]).collect()
    })?;
    // Of one round alone there is nothing to say about growth.
    let growth = if n_rounds > 0 { sources } else { &[] };
    for (source, gain) in growth.iter().zip(&gains) {
        let by = match source {
            Source::Model => "the reward model",
            Source::Gold => "the truth",
        };
        let statement = format!("by {by}, the front of round {n_rounds} has more volume than that of round 0");
        all.push((claim_above(&format!("front-grows-{}", source.name()), &statement, Some(*gain), 0.0), ends.clone()));
    }
    if growth.len() > 1 {
        let statement =
            "by the truth, the front grows as much as by the reward model, within a hundredth of the whole volume";
        all.push((claim_above("gold-grows-as-much", statement, gains.get(2).copied(), -SLACK), ends));
    }
    let statement = format!(
        "after round {n_rounds}, verbosity follows the direction asked for: their rank correlation is above {CONTROL}"
    );
    all.push((claim_above("directions-control", &statement, gains.last().copied(), CONTROL), last.figures.clone()));
    for method in evidence.methods {
        let others = method.models(evidence.methods);
        let wishes: Vec<Wish> = others.iter().flat_map(|other| other.wishes.clone()).collect();
        let theirs = layout(world, &wishes);
        let models: Vec<&Measured> = [last].into_iter().chain(others.iter().copied()).collect();
        let cut = whole.len();
        let of = |mean: Vec<f64>| -> Vec<f64> {
            let (ours, other) = mean.split_at(cut);
            let gains = last.wishes.iter().enumerate().filter_map(|(at, wish)| {
                let Wish::Along(direction) = wish else { return None };
                let own = direction.reward(&whole.point(ours, at, truest)).ok()?;
                Some(own - best(direction, theirs, other, truest)?)
            });
            let gains: Vec<f64> = gains.collect();
            let least = gains.iter().copied().fold(f64::INFINITY, f64::min);
            vec![least, gains.iter().sum::<f64>() / gains.len().max(1) as f64]
        };
        let found = resampler(world)?.statistics(&joined(&models)?, of);
        let rests: Vec<NodeId> = models.iter().flat_map(|model| model.figures.iter().copied()).collect();
        let name = method.name;
        if method.is_one_point() {
            let statement = format!(
                "after round {n_rounds}, what is got in each direction is worth more there than the answers of {name}: the least gain"
            );
            all.push((claim_above(&format!("dominates-{name}"), &statement, found.first().copied(), 0.0), rests));
        } else {
            let statement = format!(
                "after round {n_rounds}, what is got in a direction is worth more there, on average, than the best there is of {name}"
            );
            all.push((claim_above(&format!("beats-{name}"), &statement, found.get(1).copied(), 0.0), rests));
        }
    }
    world.lab.claims(all).await
}

/// The most that any of these points is worth in a direction.
fn best(direction: &Direction, layout: Layout<'_>, mean: &[f64], source: Source) -> Option<f64> {
    let points = (0..layout.wishes.len()).map(|at| direction.reward(&layout.point(mean, at, source)).ok());
    points.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

/// What is compared as one: a round, or the models of a method.
struct Entry<'a> {
    name: &'a str,
    models: Vec<&'a Measured>,
    wishes: Vec<Wish>,
    /// Whether it answers as it is asked; of what does not, the best there is counts.
    is_asked: bool,
}

impl<'a> Entry<'a> {
    fn new(name: &'a str, models: Vec<&'a Measured>, is_asked: bool) -> Self {
        let wishes = models.iter().flat_map(|model| model.wishes.clone()).collect();
        Self { name, models, wishes, is_asked }
    }

    /// What it gives in the nth direction.
    fn answer(
        &self,
        layout: Layout<'_>,
        mean: &[f64],
        (nth, direction): (usize, &Direction),
        source: Source,
    ) -> Vec<f64> {
        let points = || (0..self.wishes.len()).map(|at| layout.point(mean, at, source).to_vec());
        let at =
            if self.is_asked { nth } else { direction.choose(&points().collect::<Vec<_>>()).map_or(0, |(at, _)| at) };
        points().nth(at).unwrap_or_default()
    }
}

/// What is recorded of each entry.
const LEFT: [&str; 3] = ["volume", "regret", "left to the possible"];

/// Records of each method the volume of its front, and on average over directions how much less it is worth than the best
/// method there, and than the best answers there are.
async fn left(world: &World<'_>, evidence: &Evidence<'_>) -> Result<()> {
    let Some(last) = evidence.rounds.last() else { return Ok(()) };
    let rounds = evidence.rounds.iter().map(|round| Entry::new(&round.label, vec![round], true));
    let methods = evidence.methods.iter().map(|method| Entry::new(method.name, method.models(evidence.methods), false));
    let entries: Vec<Entry<'_>> = rounds.chain(methods).collect();
    let models: Vec<&Measured> = entries.iter().flat_map(|entry| entry.models.iter().copied()).collect();
    let directions = last.wishes.iter().enumerate().filter_map(|(nth, wish)| match wish {
        Wish::Along(direction) => Some((nth, direction)),
        _ => None,
    });
    let directions: Vec<(usize, &Direction)> = directions.collect();
    let possible = world.possible();
    let sources = Source::all(world.has_gold());
    let layouts: Vec<Layout<'_>> = entries.iter().map(|entry| layout(world, &entry.wishes)).collect();
    let of_source = |mean: &[f64], source: Source| -> Vec<f64> {
        let mut rest = mean;
        let mut parts = Vec::with_capacity(entries.len());
        for layout in &layouts {
            let (part, others) = rest.split_at(layout.len());
            parts.push((*layout, part));
            rest = others;
        }
        let mut sums = vec![[0.0; 2]; entries.len()];
        for direction in &directions {
            let points: Vec<Vec<f64>> = entries
                .iter()
                .zip(&parts)
                .map(|(entry, (layout, part))| entry.answer(*layout, part, *direction, source))
                .collect();
            let most = possible.iter().filter_map(|point| direction.1.reward(point).ok()).fold(f64::MIN, f64::max);
            let Ok(regrets) = regrets(direction.1, &points) else { continue };
            for ((sum, regret), point) in sums.iter_mut().zip(regrets).zip(&points) {
                sum[0] += regret / directions.len() as f64;
                sum[1] += (most - direction.1.reward(point).unwrap_or(f64::NAN)) / directions.len() as f64;
            }
        }
        let volumes = parts.iter().map(|(layout, part)| layout.volume(part, source));
        volumes.zip(sums).flat_map(|(volume, [regret, left])| [volume, regret, left]).collect()
    };
    let of = |mean: Vec<f64>| sources.iter().flat_map(|source| of_source(&mean, *source)).collect();
    let found = resampler(world)?.statistics(&joined(&models)?, of);
    let stage = world.lab.stage("methods", entries.len()).await?;
    let n = last.curves.n_prompts();
    let mut item = 0;
    for (source, of_source) in sources.iter().zip(found.chunks(LEFT.len() * entries.len())) {
        for (entry, of_entry) in entries.iter().zip(of_source.chunks(LEFT.len())) {
            let used: Vec<NodeId> = entry.models.iter().flat_map(|model| model.figures.iter().copied()).collect();
            // What is possible is known of the truth alone.
            let n_known = if *source == Source::Gold { LEFT.len() } else { LEFT.len() - 1 };
            for (what, estimate) in LEFT.iter().zip(of_entry).take(n_known) {
                let name = format!("{what} of {}, {}", entry.name, source.name());
                stage.figure(item, &name, *estimate, n, &used).await?;
                item += 1;
            }
        }
    }
    if !possible.is_empty() {
        let wishes = vec![Wish::None; possible.len()];
        let both: Vec<f64> = possible.iter().flat_map(|point| [*point, *point]).flatten().collect();
        let volume = layout(world, &wishes).volume(&both, Source::Gold);
        stage
            .figure(
                item,
                "volume of the possible, gold",
                Estimate::exactly(volume),
                n,
                &[world.benchmark, world.grader],
            )
            .await?;
    }
    stage.done(entries.len());
    Ok(())
}
