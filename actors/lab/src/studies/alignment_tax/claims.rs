//! From measured points to fronts and claims.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_front::{Candidate, Format};
use tracker_store::{Claim, NodeId};

use super::measure::{Scores, average};
use super::settings::AlignmentTax;
use super::{Swept, figures};
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, N_RESAMPLES, claim_above, interval, over_repeats};
use crate::parts::front::{Contest, record_front};

/// How far the solver may stay behind the grid, in nats a token.
const GRID_SLACK: f64 = 0.01;

/// How a point was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// The whole model averaged; the ends are its ratios 0 and 1.
    Average,
    /// Averaged block by block.
    Blocks,
    /// Alignment stopped after an earlier round.
    EarlyStop,
    L1,
    L2,
    Kd,
    /// Adapters of the feed-forward maps.
    LoraMlp,
    /// Adapters of all maps.
    Lora,
    Replay,
    Dpo,
    Kl,
}

impl Family {
    /// Its name, as in labels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Average => "ma",
            Self::Blocks => "hma",
            Self::EarlyStop => "early stop",
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Kd => "kd",
            Self::LoraMlp => "lora mlp",
            Self::Lora => "lora",
            Self::Replay => "replay",
            Self::Dpo => "dpo",
            Self::Kl => "kl",
        }
    }
}

/// A model that was measured.
pub(super) struct Point {
    pub(super) family: Family,
    /// The family's setting: a ratio, a round, a strength.
    pub(super) setting: f64,
    pub(super) node: NodeId,
    pub(super) scores: Scores,
    /// The ratios of its blocks, if it is a mixture.
    pub(super) alpha: Vec<f64>,
}

impl Point {
    pub(super) fn new(family: Family, setting: f64, node: NodeId, scores: Scores) -> Self {
        Self { family, setting, node, scores, alpha: vec![] }
    }

    pub(super) fn with_alpha(self, alpha: &[f64]) -> Self {
        Self { alpha: alpha.to_vec(), ..self }
    }
}

impl Swept {
    fn point(&self, family: Family, setting: f64) -> Option<&Point> {
        self.points.iter().find(|point| point.family == family && point.setting == setting)
    }

    /// Averages that are neither end.
    fn averages(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|p| p.family == Family::Average && p.setting > 0.0 && p.setting < 1.0)
    }

    /// How much reward is gained and how much is lost between the ends, if both are.
    fn scale(&self) -> Option<Scale> {
        let (gained, lost) = (self.after.reward() - self.before.reward(), self.after.tax(&self.before));
        (gained > 0.0 && lost > 0.0).then_some(Scale { gained, lost })
    }
}

/// What utility is measured in: half the share of the reward gained, and half the share of the loss that is not paid.
///
/// Each end has a utility of one half of its own: θ₀ keeps all and gains nothing, θ gains all and keeps nothing.
#[derive(Clone, Copy)]
struct Scale {
    gained: f64,
    lost: f64,
}

impl Scale {
    /// Up to a constant that is the same for all models: reward and what is kept, over some of the items.
    fn utility(self, scores: &Scores, items: &Items) -> f64 {
        let over = |values: &[f64], items: &[usize]| items.iter().map(|i| values[*i]).sum::<f64>() / items.len() as f64;
        0.5 * (over(&scores.reward, &items.prompts) / self.gained + over(&scores.kept, &items.kept) / self.lost)
    }
}

/// Which prompts and which exercises a mean is over.
struct Items {
    prompts: Vec<usize>,
    kept: Vec<usize>,
}

impl Items {
    /// Every second one, from `first` on: ratios are chosen on one half and held to account on the other.
    fn half(scores: &Scores, first: usize) -> Self {
        let every = |n: usize| (first.min(n - 1)..n).step_by(2).collect();
        Self { prompts: every(scores.reward.len()), kept: every(scores.kept.len()) }
    }

    fn resampled(&self, stream: &mut ChaCha8Rng) -> Self {
        let mut draw = |items: &[usize]| items.iter().map(|_| items[stream.random_range(0..items.len())]).collect();
        Self { prompts: draw(&self.prompts), kept: draw(&self.kept) }
    }
}

/// A mean over repeats of what `gain` says of each over some of `items`, with a bootstrap interval over repeats and items.
fn resampled<R>(
    repeats: &[R],
    items: &Items,
    stream: &mut ChaCha8Rng,
    gain: impl Fn(&R, &Items) -> f64,
) -> Option<Estimate> {
    if repeats.is_empty() {
        return None;
    }
    let value = average(&repeats.iter().map(|repeat| gain(repeat, items)).collect::<Vec<_>>());
    let resample = |stream: &mut ChaCha8Rng| {
        let drawn = items.resampled(stream);
        let chosen = repeats.iter().map(|_| &repeats[stream.random_range(0..repeats.len())]);
        average(&chosen.map(|repeat| gain(repeat, &drawn)).collect::<Vec<_>>())
    };
    let resamples = (0..N_RESAMPLES).map(|_| resample(stream)).collect();
    Some(interval(value, resamples))
}

impl AlignmentTax {
    /// Records the fronts and returns the claims.
    pub(super) async fn conclude(&self, lab: &Lab, repeats: Vec<Swept>) -> Result<Vec<Claim>> {
        self.fronts(lab, &repeats).await?;
        let scaled: Vec<(&Swept, Scale)> = repeats.iter().filter_map(|swept| Some((swept, swept.scale()?))).collect();
        if scaled.len() < repeats.len() {
            lab.note(format!(
                "in {} of {} repeats alignment gained no reward or cost nothing; they say nothing of what averaging saves",
                repeats.len() - scaled.len(),
                repeats.len()
            ));
        }
        // Ratios are chosen on the other half.
        let Some(items) = repeats.first().map(|first| Items::half(&first.before, 1)) else {
            return lab.claims(vec![]).await;
        };
        let mut claims = vec![taxes(lab, &items, &repeats), averages_win(lab, &items, &scaled)];
        claims.extend(self.blocks_win(lab, &items, &scaled));
        claims.extend(solver_is_right(&repeats));
        lab.claims(claims).await
    }

    /// At every mean, fitted ratios against equal ones: by the reward they were fitted for, and by utility.
    fn blocks_win(&self, lab: &Lab, items: &Items, repeats: &[(&Swept, Scale)]) -> Vec<(Claim, Vec<NodeId>)> {
        if self.hma.ratios.is_empty() {
            return vec![];
        }
        let pairs = |swept: &'_ Swept| -> Vec<(Scores, Scores)> {
            let of = |family, ratio: f64| swept.point(family, ratio).map(|point| point.scores.clone());
            let pair = |ratio: &f64| Some((of(Family::Average, *ratio)?, of(Family::Blocks, *ratio)?));
            self.hma.ratios.iter().filter_map(pair).collect()
        };
        let paired: Vec<_> = repeats.iter().map(|(swept, scale)| (*scale, pairs(swept))).collect();
        let of_reward = |(_, pairs): &(Scale, Vec<(Scores, Scores)>), items: &Items| {
            let gain = |(equal, fitted): &(Scores, Scores)| {
                average(&items.prompts.iter().map(|i| fitted.reward[*i] - equal.reward[*i]).collect::<Vec<_>>())
            };
            average(&pairs.iter().map(gain).collect::<Vec<_>>())
        };
        let of_utility = |(scale, pairs): &(Scale, Vec<(Scores, Scores)>), items: &Items| {
            let gain = |(equal, fitted): &(Scores, Scores)| scale.utility(fitted, items) - scale.utility(equal, items);
            average(&pairs.iter().map(gain).collect::<Vec<_>>())
        };
        let of_both = |point: &&Point| self.hma.ratios.contains(&point.setting) && !point.alpha.is_empty();
        let points = || figures(repeats.iter().flat_map(|(swept, _)| swept.points.iter().filter(of_both)));
        let mut stream = lab.seeds().stream("claims/blocks", 0, 0);
        let reward = resampled(&paired, items, &mut stream, of_reward);
        let utility = resampled(&paired, items, &mut stream, of_utility);
        let rewarded = "block ratios fitted at a mean have a higher reward than equal ratios of the same mean";
        let better = "block ratios fitted at a mean have a higher utility than equal ratios of the same mean (half the share \
                      of reward gained plus half the share of loss saved; held-out half of the items)";
        vec![
            (claim_above("fitted-ratios-raise-reward", rewarded, reward, 0.0), points()),
            (claim_above("unequal-beats-equal", better, utility, 0.0), points()),
        ]
    }

    /// Records the fronts of every repeat, all families together and each by itself; figures over repeats of every family's
    /// hypervolume and of every setting's reward and tax; and a file of the latter as one front.
    async fn fronts(&self, lab: &Lab, repeats: &[Swept]) -> Result<()> {
        let stage = lab.stage("fronts", repeats.len()).await?;
        let contest = contest();
        let mut volumes: BTreeMap<Family, Vec<f64>> = BTreeMap::new();
        let mut settings: BTreeMap<(Family, String), Vec<Vec<f64>>> = BTreeMap::new();
        let mut fronts = Vec::new();
        for (nth, swept) in repeats.iter().enumerate() {
            let name = format!("repeat {}", nth + 1);
            let mut families: BTreeMap<Family, Vec<(NodeId, Vec<f64>)>> = BTreeMap::new();
            let mut all = Vec::with_capacity(swept.points.len());
            for Point { family, setting, node, scores, .. } in &swept.points {
                let values = vec![scores.reward(), scores.tax(&swept.before)];
                settings.entry((*family, setting.to_string())).or_default().push(values.clone());
                families.entry(*family).or_default().push((*node, values.clone()));
                all.push((*node, values));
            }
            fronts.push(record_front(lab, &name, &contest, &all).await?.0);
            for (family, points) in families {
                let (_, volume) = record_front(lab, &format!("{name}/{}", family.name()), &contest, &points).await?;
                volumes.entry(family).or_default().extend(volume);
            }
            stage.done(nth + 1);
        }
        let mut item = 0;
        for (family, volumes) in volumes {
            if let Some(estimate) = over_repeats(&volumes) {
                let name = format!("hypervolume of {}", family.name());
                stage.figure(item, &name, estimate, volumes.len(), &fronts).await?;
                item += 1;
            }
        }
        let mut rows = Vec::new();
        for ((family, setting), values) in settings {
            let label = format!("{} {setting}", family.name());
            // No run id: equal plans give equal files.
            let mut row =
                Candidate { run: lab.plan().study.clone(), checkpoint: label.clone(), ..Candidate::default() };
            for (idx, objective) in contest.objectives.iter().enumerate() {
                let of_objective: Vec<f64> = values.iter().map(|value| value[idx]).collect();
                if let Some(estimate) = over_repeats(&of_objective) {
                    let name = format!("{} of {label}", objective.name);
                    stage.figure(item, &name, estimate, of_objective.len(), &fronts).await?;
                    item += 1;
                    row.values.push(Some(estimate.value));
                    row.intervals.push(Some((estimate.low, estimate.high)));
                }
            }
            row.family = Some(family.name().to_owned());
            row.params = BTreeMap::from([("setting".to_owned(), setting)]);
            rows.push(row);
        }
        let front = contest.compare(rows)?;
        let files = [("front.csv", Format::Csv), ("front.html", Format::Html), ("front.svg", Format::Svg)];
        let files = files.into_iter().map(|(name, format)| Ok((name.to_owned(), front.encode(format)?)));
        lab.put_files("front", "front", &files.collect::<Result<Vec<_>>>()?)?;
        Ok(())
    }
}

/// Reward against tax. Where texts are read the tax is in nats a token, which nothing bounds: the reference is then one
/// nat.
fn contest() -> Contest {
    use tracker_front::Objective;
    Contest { objectives: vec![Objective::maximise("reward"), Objective::minimise("tax")], reference: vec![0.0, 1.0] }
}

/// What the solver found against the best of the grid.
fn solver_is_right(repeats: &[Swept]) -> Option<(Claim, Vec<NodeId>)> {
    let gaps = repeats
        .iter()
        .flat_map(|swept| &swept.solved)
        .filter_map(|(solved, grid)| Some(grid.as_ref()?.loss - solved.loss));
    let least = gaps.reduce(f64::min)?;
    let statement = "the solver's block ratios fit the praised answers as well as the best of a grid does, within \
                     0.01 nats a token";
    Some((claim_above("solver-matches-grid", statement, Some(Estimate::exactly(least)), -GRID_SLACK), vec![]))
}

/// Whether alignment costs anything.
fn taxes(lab: &Lab, items: &Items, repeats: &[Swept]) -> (Claim, Vec<NodeId>) {
    let lost = |Swept { before, after, .. }: &Swept, items: &Items| {
        average(&items.kept.iter().map(|i| before.kept[*i] - after.kept[*i]).collect::<Vec<_>>())
    };
    let mut stream = lab.seeds().stream("claims/tax", 0, 0);
    let estimate = resampled(repeats, items, &mut stream, lost);
    let statement = "after alignment less is kept than before it (share of right words, or nats a token of text)";
    let nodes = repeats.iter().flat_map(|swept| swept.before.figures.iter().chain(&swept.after.figures).copied());
    (claim_above("alignment-taxes", statement, estimate, 0.0), nodes.collect())
}

/// The average chosen on one half of the items against the better end on the other.
fn averages_win(lab: &Lab, items: &Items, repeats: &[(&Swept, Scale)]) -> (Claim, Vec<NodeId>) {
    let chosen = |(swept, scale): &(&Swept, Scale)| {
        let others = Items::half(&swept.before, 0);
        let utility = |point: &&Point| scale.utility(&point.scores, &others);
        swept.averages().max_by(|a, b| utility(a).total_cmp(&utility(b))).map(|best| best.scores.clone())
    };
    let chosen: Vec<_> = repeats.iter().map(|repeat| (*repeat, chosen(repeat))).collect();
    let gain = |((swept, scale), chosen): &((&Swept, Scale), Option<Scores>), items: &Items| {
        let ends = [&swept.before, &swept.after].map(|end| scale.utility(end, items));
        let best = chosen.as_ref().map_or(f64::NAN, |scores| scale.utility(scores, items));
        best - ends[0].max(ends[1])
    };
    let statement = "the average whose ratio was chosen on one half of the items has a higher utility on the other half \
                     than either end (half the share of reward gained plus half the share of loss saved)";
    let mut stream = lab.seeds().stream("claims/average", 0, 0);
    let estimate = resampled(&chosen, items, &mut stream, gain);
    let points = repeats.iter().flat_map(|(swept, _)| swept.points.iter().filter(|p| p.family == Family::Average));
    (claim_above("average-beats-ends", statement, estimate, 0.0), figures(points))
}
