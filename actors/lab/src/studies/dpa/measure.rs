//! What every model is measured by: means over held-out prompts under each wish, the fronts they make, and how well asking works.
//!
//! Directions below 0 ask for brevity and those above for verbosity, so a front is two: *brief*, where less verbosity is
//! better, of the directions up to 0; and *wordy*, where more is, of those from 0 on. The volume is the mean of the two, as a
//! share of what there is between the reference point and (100, 0) or (100, 100).

use tracker_front::{Direction as Goal, Objective, Points, hypervolume};
use tracker_store::{Edge, NodeId, Recording, Relation};

use super::answers::{Answer, Asking};
use super::wish::{Wish, degrees};
use super::world::World;
use crate::error::Result;
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::direction::control_fidelity;
use crate::parts::evaluate::Estimate;
use crate::parts::front::{Contest, record_front};
use crate::parts::generate::Policy;
use crate::parts::record::record_members;
use crate::parts::train::Trained;

/// Who says what answers are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The reward model.
    Model,
    /// The truth.
    Gold,
}

impl Source {
    /// Those there are, in the order in which values have them.
    pub(super) fn all(has_gold: bool) -> &'static [Self] {
        if has_gold { &[Self::Model, Self::Gold] } else { &[Self::Model] }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Gold => "gold",
        }
    }

    fn at(self) -> usize {
        match self {
            Self::Model => 0,
            Self::Gold => 1,
        }
    }
}

/// A model that was measured.
pub(super) struct Measured {
    pub(super) label: String,
    pub(super) wishes: Vec<Wish>,
    /// A curve a prompt: for each wish and source helpfulness and verbosity.
    pub(super) curves: CurveSet,
    /// What was answered under each wish, as a dataset of results.
    points: Vec<NodeId>,
    /// The figures of its volumes.
    pub(super) figures: Vec<NodeId>,
}

/// Where numbers of one model stand in a mean curve.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    pub(super) wishes: &'a [Wish],
    n_sources: usize,
    reference: f64,
}

impl Layout<'_> {
    /// [helpfulness, verbosity] under one wish.
    pub(super) fn point(&self, mean: &[f64], wish: usize, source: Source) -> [f64; 2] {
        let at = 2 * (wish * self.n_sources + source.at());
        [mean[at], mean[at + 1]]
    }

    /// How many numbers a curve has.
    pub(super) fn len(&self) -> usize {
        2 * self.n_sources * self.wishes.len()
    }

    /// The points of one of the two fronts.
    fn side(&self, mean: &[f64], source: Source, side: Side) -> Vec<f64> {
        let of = |(at, wish): (usize, &Wish)| side.has(wish).then(|| self.point(mean, at, source));
        self.wishes.iter().enumerate().filter_map(of).flatten().collect()
    }

    /// The share of the volume that the model reaches, in [0, 1]: a mean of the two fronts.
    pub(super) fn volume(&self, mean: &[f64], source: Source) -> f64 {
        let share = |side: Side| {
            let points = Points::new(&side.goals(), self.side(mean, source, side)).ok()?;
            let whole = (100.0 - self.reference) * 100.0;
            Some(hypervolume(&points, &side.reference(self.reference)).ok()? / whole)
        };
        // What cannot be compared has no volume.
        let sum: f64 = Side::ALL.iter().filter_map(|side| share(*side)).sum();
        sum / Side::ALL.len() as f64
    }

    /// The rank correlation of the angle asked for and the mean verbosity got; 0 where all got the same.
    pub(super) fn fidelity(&self, mean: &[f64], source: Source) -> f64 {
        let pairs = self.wishes.iter().enumerate().filter_map(|(at, wish)| match wish {
            Wish::Along(direction) => Some((degrees(direction), self.point(mean, at, source)[1])),
            _ => None,
        });
        let (asked, got): (Vec<f64>, Vec<f64>) = pairs.unzip();
        control_fidelity(&asked, &got).ok().flatten().unwrap_or(0.0)
    }
}

/// One of the two fronts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Brief,
    Wordy,
}

impl Side {
    const ALL: [Self; 2] = [Self::Brief, Self::Wordy];

    fn name(self) -> &'static str {
        match self {
            Self::Brief => "brief",
            Self::Wordy => "wordy",
        }
    }

    fn goals(self) -> [Goal; 2] {
        match self {
            Self::Brief => [Goal::Maximise, Goal::Minimise],
            Self::Wordy => [Goal::Maximise; 2],
        }
    }

    fn reference(self, helpfulness: f64) -> [f64; 2] {
        match self {
            Self::Brief => [helpfulness, 100.0],
            Self::Wordy => [helpfulness, 0.0],
        }
    }

    /// A direction belongs to the side it asks for; what asks for none to both.
    fn has(self, wish: &Wish) -> bool {
        match wish {
            Wish::Along(direction) => match self {
                Self::Brief => degrees(direction) <= 0.0,
                Self::Wordy => degrees(direction) >= 0.0,
            },
            _ => true,
        }
    }

    fn contest(self, reference: f64, source: Source) -> Contest {
        let [help, words] = ["helpfulness", "verbosity"].map(|what| format!("{} {what}", source.name()));
        let words = match self {
            Self::Brief => Objective::minimise(&words),
            Self::Wordy => Objective::maximise(&words),
        };
        Contest { objectives: vec![Objective::maximise(&help), words], reference: self.reference(reference).to_vec() }
    }
}

/// How numbers of a model asked under these wishes stand.
pub(super) fn layout<'a>(world: &World<'_>, wishes: &'a [Wish]) -> Layout<'a> {
    let n_sources = Source::all(world.has_gold()).len();
    Layout { wishes, n_sources, reference: world.plan.measure.reference }
}

/// The seed under which prompts are drawn anew: one for all, so that models are compared on the same draws.
pub(super) fn resampler(world: &World<'_>) -> Result<Resampler> {
    Resampler::of(world.lab, "measure/resamples", world.plan.measure.n_resamples)
}

/// Measures a model under each of `wishes`, and records answers, figures and fronts.
pub(super) async fn measure(world: &World<'_>, label: &str, policy: &Trained, wishes: &[Wish]) -> Result<Measured> {
    measure_policy(world, label, &world.policy(policy), wishes).await
}

/// The same of whoever can be asked.
pub(super) async fn measure_policy(
    world: &World<'_>,
    label: &str,
    policy: &Policy,
    wishes: &[Wish],
) -> Result<Measured> {
    let (lab, n) = (world.lab, world.plan.measure.n_samples);
    let wanted = world.test.iter().flat_map(|question| wishes.iter().map(|wish| (question.clone(), wish.clone())));
    let asked = world.put(wanted.collect()).await?;
    let stage = lab.stage(&format!("{label}/test"), asked.len()).await?;
    let asking = Asking { stage: &stage, policy, n, temperature: world.plan.rsf.temperature };
    let answers = world.answers(asking, &asked).await?;
    let curve = |of_prompt: &[Vec<Answer>]| -> Vec<f64> {
        let values = |answers: &Vec<Answer>| {
            let average = |of: &dyn Fn(&Answer) -> Option<[f64; 2]>| {
                let all = answers.iter().filter_map(of);
                all.fold([0.0; 2], |sum, x| [0, 1].map(|i| sum[i] + x[i] / answers.len() as f64))
            };
            let sources = Source::all(world.has_gold()).iter();
            sources
                .flat_map(|source| match source {
                    Source::Model => average(&|answer| answer.said),
                    Source::Gold => average(&|answer| answer.gold),
                })
                .collect::<Vec<f64>>()
        };
        of_prompt.iter().flat_map(values).collect()
    };
    let curves = CurveSet::new(answers.chunks(wishes.len()).map(curve))?;
    let mut points = Vec::with_capacity(wishes.len());
    for (at, wish) in wishes.iter().enumerate() {
        let of_wish: Vec<&Answer> = answers.iter().skip(at).step_by(wishes.len()).flatten().collect();
        let name = format!("{label}, {}", wish.name());
        let texts: Vec<&str> = of_wish.iter().map(|answer| answer.text.as_str()).collect();
        let nodes = of_wish.iter().map(|answer| answer.reward);
        points.push(record_members(lab, &name, "results", &texts.join("\n"), nodes).await?);
    }
    let mut measured = Measured { label: label.to_owned(), wishes: wishes.to_vec(), curves, points, figures: vec![] };
    measured.figures = measured.record(world, policy.node()).await?;
    Ok(measured)
}

impl Measured {
    /// Records figures and fronts; gives the figures of the volumes.
    async fn record(&self, world: &World<'_>, policy: NodeId) -> Result<Vec<NodeId>> {
        let (lab, label) = (world.lab, &self.label);
        let layout = layout(world, &self.wishes);
        let resampler = resampler(world)?;
        let mean = self.curves.mean();
        let sources = Source::all(world.has_gold());
        let stage = lab.stage(&format!("{label}/figures"), 1).await?;
        let n = self.curves.n_prompts();
        let used = [world.benchmark, policy, world.map];
        let bands = resampler.bands(&self.curves);
        let mut item = 0;
        let mut at = 0;
        for (nth, (wish, point)) in self.wishes.iter().zip(&self.points).enumerate() {
            for source in sources {
                for what in ["helpfulness", "verbosity"] {
                    let name = format!("{what}, {}, {}", wish.name(), source.name());
                    stage.figure(item, &name, bands[at], n, &[*point, policy, world.map]).await?;
                    (item, at) = (item + 1, at + 1);
                }
                if let Wish::Reach(target) = wish {
                    let [help, words] = layout.point(&mean, nth, *source);
                    let off = (help - f64::from(target[0])).hypot(words - f64::from(target[1]));
                    let name = format!("distance to the target, {}, {}", wish.name(), source.name());
                    stage.figure(item, &name, Estimate::exactly(off), n, &[*point, policy, world.map]).await?;
                    item += 1;
                }
            }
        }
        let mut figures = Vec::new();
        // Two numbers for each source, then by how much the reward model's volume is above the true one.
        let summary = |mean: Vec<f64>| -> Vec<f64> {
            let pairs: Vec<[f64; 2]> =
                sources.iter().map(|s| [layout.volume(&mean, *s), layout.fidelity(&mean, *s)]).collect();
            let above = pairs[0][0] - pairs[pairs.len() - 1][0];
            pairs.into_iter().flatten().chain([above]).collect()
        };
        let found = resampler.statistics(&self.curves, summary);
        let is_conditioned = self.wishes.iter().any(|wish| matches!(wish, Wish::Along(_)));
        let mut all_fronts = Vec::new();
        for (source, pair) in sources.iter().zip(found.chunks(2)) {
            let mut fronts = Vec::new();
            for side in Side::ALL {
                let contest = side.contest(world.plan.measure.reference, *source);
                let of_side: Vec<(usize, NodeId)> = self
                    .wishes
                    .iter()
                    .zip(&self.points)
                    .enumerate()
                    .filter_map(|(at, (wish, results))| side.has(wish).then_some((at, *results)))
                    .collect();
                if of_side.is_empty() {
                    continue;
                }
                // The points of one model differ by what it was asked for.
                let points: Vec<(NodeId, Vec<f64>)> =
                    of_side.iter().map(|(at, _)| (policy, layout.point(&mean, *at, *source).to_vec())).collect();
                let name = format!("{label}/{}, {}", side.name(), source.name());
                let (front, _) = record_front(lab, &name, &contest, &points).await?;
                let mut recording = Recording::new();
                for (order, (_, results)) in (0..).zip(&of_side) {
                    recording.put_edge(lab.run(), &Edge::new(front, Relation::Used, *results).at(order))?;
                }
                lab.record(recording).await?;
                fronts.push(front);
            }
            all_fronts.extend(&fronts);
            let used: Vec<NodeId> = used.iter().copied().chain(fronts).collect();
            figures.push(stage.figure(item, &format!("volume, {}", source.name()), pair[0], n, &used).await?);
            item += 1;
            if is_conditioned {
                let name = format!("control fidelity, {}", source.name());
                figures.push(stage.figure(item, &name, pair[1], n, &used).await?);
                item += 1;
            }
        }
        if let Some(above) = found.last().filter(|_| sources.len() > 1) {
            let used: Vec<NodeId> = used.iter().copied().chain(all_fronts).collect();
            stage.figure(item, "volume, model less gold", *above, n, &used).await?;
        }
        stage.done(1);
        Ok(figures)
    }
}

/// What `of` finds in the mean curves of two models, with intervals over prompts drawn together.
pub(super) fn compared(
    world: &World<'_>,
    [first, second]: [&Measured; 2],
    of: impl Fn(&[f64], &[f64]) -> Vec<f64> + Sync,
) -> Result<Vec<Estimate>> {
    let cut = layout(world, &first.wishes).len();
    let joined = joined(&[first, second])?;
    Ok(resampler(world)?.statistics(&joined, |mean| of(&mean[..cut], &mean[cut..])))
}

/// The curves of several models side by side.
pub(super) fn joined(models: &[&Measured]) -> Result<CurveSet> {
    let n_prompts = models.first().map_or(0, |model| model.curves.n_prompts());
    CurveSet::new((0..n_prompts).map(|at| models.iter().flat_map(|model| model.curves.curve(at)).copied().collect()))
}
