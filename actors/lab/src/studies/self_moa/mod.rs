//! Mixtures of agents from one model or from many: does diversity of models help, or does it dilute quality?
//!
//! Paper: Li et al. 2025, "Rethinking Mixture-of-Agents: Is Mixing Different Large Language Models Beneficial?" (arXiv 2502.00674),
//! on Wang et al. 2024, "Mixture-of-Agents" (arXiv 2406.04692).
//!
//! Scaled down: three small tasks with exact answers, a generalist and a specialist for each in place of instruction, code and
//! mathematics models; the aggregator is a small model taught to answer from a query and candidates. So nothing here is a replication
//! of numbers on `AlpacaEval`, MMLU, CRUX or MATH. Kept: proposers, layers, an aggregator that sees numbered references; Self-MoA,
//! Mixed-MoA, their sequences with a window and slots for the best so far; quality and Vendi diversity over mixtures and temperatures,
//! and the z-scored regression of the result on both. Besides: the best model is chosen on a validation split, never on the test;
//! majority, selection by the aggregator (USC) and by a judge; comparisons at equal calls and at equal tokens; win rates that length
//! does not buy. With models behind endpoints (`[models.NAME]`) nothing is trained and problems come from files.
//!
//! Claims tested: Self-MoA is right more often than Mixed-MoA, the aggregator alone, the best model alone, a majority and a selection,
//! at equal calls; quality and diversity both count.

mod arms;
mod check;
mod claims;
mod compare;
mod defaults;
mod files;
mod judge;
mod pool;
mod regression;
mod settings;
mod small;
mod sweep;
mod tasks;
mod world;

use tracker_store::Claim;

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::aggregate::Order;
use crate::parts::evaluate::Estimate;
use crate::plot::{Plot, Points};
use crate::study::Study;

use arms::{Arm, Slots, judged, moa, sequence, single, slots, universal, vote};
use claims::Evidence;
use compare::{Difference, differences, wins};
use pool::{Answers, Best, choose, demand};
use regression::Regression;
pub use settings::{
    AggregatorSettings, DataSettings, MeasureSettings, MoaSettings, SelfMoa, SeqSettings, SweepSettings, TaskSettings,
    TeachSettings,
};
use sweep::Point;
use world::World;

/// What each number means.
const DEFINITIONS: [(&str, &str); 5] = [
    ("accuracy", "mean over queries of whether the answer is right; a text without an answer is wrong"),
    ("quality", "mean accuracy of the proposers; a proposal that says nothing is wrong"),
    ("result", "accuracy of the aggregator"),
    ("calls", "generations and judgements, those of candidates included, a query"),
    (
        "tokens",
        "tokens read and written, those of candidates included, a query: of small models their own; of models behind endpoints \
         what they wrote as the server counts it, and the words of what they read",
    ),
];

impl Study for SelfMoa {
    const NAME: &'static str = "self_moa";
    const PAPER: &'static str = "arXiv 2502.00674";
    const ABOUT: &'static str = "mixtures of agents from one model or many; quality, diversity, sequences, selection";
    const PLOTS: &'static [Plot] = &[
        Plot {
            title: "What the aggregator makes of its proposers, by their quality",
            chart: "{split}",
            points: &[Points {
                figures: "sweep {temperature}/{mixture}: result",
                splits: &[],
                series: "temperature {temperature}",
            }],
            across: "quality, mean accuracy of the proposers",
            up: "accuracy of the aggregation",
            by: Some("sweep {temperature}/{mixture}: quality"),
            ..Plot::NEW
        },
        Plot {
            title: "What the aggregator makes of its proposers, by their diversity",
            chart: "{split}",
            points: &[Points {
                figures: "sweep {temperature}/{mixture}: result",
                splits: &[],
                series: "temperature {temperature}",
            }],
            across: "diversity, Vendi score of their answers",
            up: "accuracy of the aggregation",
            by: Some("sweep {temperature}/{mixture}: diversity"),
            ..Plot::NEW
        },
    ];

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        for (name, definition) in DEFINITIONS {
            lab.define(name, definition).await?;
        }
        lab.define(
            "diversity",
            &format!("mean Vendi score of a query's proposals, kernel: {}", self.kernel.definition()),
        )
        .await?;
        let world = if self.is_small() { small::start(lab, self).await? } else { files::start(lab, self).await? };
        let best = choose(&world).await?;

        let answers = Answers::draw(&world, self.moa.temperature, &self.needs(&world, &best)?).await?;
        let Compared { self_moa, arms, sequence } = self.compared(&world, &best, &answers).await?;
        let others: Vec<&Arm> = arms.iter().collect();
        let found = differences(&world, "differences", &self_moa, &others).await?;
        let everyone: Vec<&Arm> = std::iter::once(&self_moa).chain(&arms).collect();
        wins(&world, &everyone).await?;
        if let Some(judge) = &world.judge {
            let is_preferred = |arm: &&Arm| self.measure.preferred.contains(&arm.name);
            let preferred: Vec<&Arm> = everyone.iter().copied().filter(is_preferred).collect();
            judge::prefer(&world, judge, &preferred, &arms[BEST_ALONE]).await?;
        }
        let regressions = self.sweep(&world, answers).await?;
        let against = CLAIMED.into_iter().zip(arms.iter().zip(found));
        let against = against.map(|((id, at), (arm, difference))| (id, at, arm, difference)).collect();
        let evidence = Evidence { best: &best, against, sequence, regressions: &regressions };
        claims::claims(&world, &self_moa, evidence).await
    }
}

/// What Self-MoA is said to beat, and at what: the first of the other arms, in their order.
const CLAIMED: [(&str, &str); 6] = [
    ("beats-mixed-moa", "at equal calls"),
    ("beats-aggregator-alone", "with more calls"),
    ("beats-best-alone", "with more calls"),
    ("beats-majority", "at equal calls"),
    ("beats-selector", "at equal calls"),
    ("beats-majority-at-equal-tokens", "at equal tokens"),
];
/// Which of the other arms is the best model alone.
const BEST_ALONE: usize = 2;

/// All arms.
struct Compared {
    self_moa: Arm,
    /// The others; those of [`CLAIMED`] come first.
    arms: Vec<Arm>,
    /// The sequence of the best model less that of the mixture, if there are any.
    sequence: Option<Difference>,
}

impl SelfMoa {
    /// Every arm, from answers of the proposers that all have in common.
    async fn compared(&self, world: &World<'_>, best: &Best, answers: &Answers) -> Result<Compared> {
        let (mixed, order, layers) = (self.mixed()?, self.order()?, self.moa.layers);
        let n = mixed.len();
        let own = vec![best.overall; n];
        let of = |mixture: &[usize], n: usize| slots(world, answers, mixture, n);
        let (own_slots, mixed_slots) = (of(&own, n)?, of(&mixed, n)?);
        // An aggregation takes one call more than its proposals, so that a vote may have one more.
        let (own_votes, mixed_votes) = (of(&own, n + 1)?, of(&mixed, n + 1)?);
        let aggregator = self.aggregator_alone(world, n as u32 + 1).await?;
        let aggregator_slots: Slots<'_> = aggregator.iter().map(|of| of.iter().collect()).collect();

        let self_moa = moa(world, "self-moa", &own_slots, (&own, layers), order).await?;
        let mut arms = vec![
            moa(world, "mixed-moa", &mixed_slots, (&mixed, layers), order).await?,
            single(world, "aggregator alone", &aggregator_slots).await?,
            single(world, "best alone", &own_votes).await?,
            vote(world, "majority", &own_votes).await?,
            universal(world, "selector", &own_slots).await?,
            self.majority_of_equal_tokens(world, best, &self_moa, answers).await?,
        ];

        // The best model of each task is a mixture of models too, chosen by the query.
        let mut by_task = Vec::with_capacity(world.test.len());
        for (item, query) in world.test.iter().enumerate() {
            by_task.push(answers.slots(&[best.of_task[query.task]], item, n)?);
        }
        arms.push(moa(world, "self-moa by task", &by_task, (&own, 1), order).await?);
        arms.push(vote(world, "aggregator majority", &aggregator_slots).await?);
        arms.push(vote(world, "mixed majority", &mixed_votes).await?);
        arms.push(universal(world, "mixed selector", &mixed_slots).await?);
        if self.moa.deep_layers > 0 {
            arms.push(moa(world, "mixed-moa deep", &mixed_slots, (&mixed, self.moa.deep_layers), order).await?);
        }
        if let Some(judge) = &world.judge {
            // As many candidates as leave a call for each judgement.
            let n_judged = ((n as u64 + 1) / (1 + judge.n_calls())).clamp(2, n as u64) as usize;
            arms.push(judged(world, "best by judge", judge, &of(&own, n_judged)?).await?);
            arms.push(judged(world, "mixed best by judge", judge, &of(&mixed, n_judged)?).await?);
        }
        let mut difference = None;
        if self.seq.n_candidates > 0 {
            let n = self.seq.n_candidates as usize;
            let ours = sequence(world, "self-moa-seq", &of(&own, n)?).await?;
            let theirs = sequence(world, "mixed-seq", &of(&mixed, n)?).await?;
            difference = differences(world, "sequences", &ours, &[&theirs]).await?.into_iter().next();
            arms.extend([ours, theirs]);
        }
        if order != Order::Reversed && layers == 1 {
            let reversed = moa(world, "self-moa reversed", &own_slots, (&own, 1), Order::Reversed).await?;
            self.moved(world, &self_moa, &reversed).await?;
            arms.push(reversed);
        }
        Ok(Compared { self_moa, arms, sequence: difference })
    }

    /// How many answers of each model at the main temperature all arms and the sweep need.
    fn needs(&self, world: &World<'_>, best: &Best) -> Result<Vec<u32>> {
        let mixed = self.mixed()?;
        let (n, n_models) = (mixed.len(), world.models.len());
        let n_seq = self.seq.n_candidates as usize;
        let mut all = Vec::new();
        for mixture in [vec![best.overall; n], mixed] {
            all.push(demand(&mixture, (n + 1).max(n_seq), n_models));
        }
        all.extend(best.of_task.iter().map(|model| demand(&[*model], n, n_models)));
        if self.sweep.temperatures.contains(&self.moa.temperature) {
            for mixture in self.mixtures()? {
                all.push(demand(&mixture, n, n_models));
            }
        }
        Ok((0..n_models).map(|model| all.iter().map(|needs| needs[model]).max().unwrap_or(0)).collect())
    }

    fn mixtures(&self) -> Result<Vec<Vec<usize>>> {
        self.sweep.mixtures.iter().map(|written| self.mixture("sweep.mixtures", written)).collect()
    }

    /// Answers of the aggregator to every query, without references.
    async fn aggregator_alone(&self, world: &World<'_>, n: u32) -> Result<Vec<Vec<world::Answer>>> {
        let stage = world.lab.stage("aggregator alone/answers", world.test.len()).await?;
        world.alone(&stage, &world.aggregator, self.moa.temperature, (&world.test, n)).await
    }

    /// A majority of as many answers of the best model as have the tokens of Self-MoA.
    async fn majority_of_equal_tokens(
        &self,
        world: &World<'_>,
        best: &Best,
        self_moa: &Arm,
        answers: &Answers,
    ) -> Result<Arm> {
        let drawn: Vec<&[world::Answer]> = (0..world.test.len()).map(|query| answers.of(best.overall, query)).collect();
        let n_drawn = drawn.first().map_or(0, |of| of.len());
        let all: Vec<u64> = drawn.iter().flat_map(|of| of.iter().map(|answer| answer.n_tokens)).collect();
        let each = all.iter().sum::<u64>() as f64 / all.len() as f64;
        let n = ((self_moa.tokens / each) as usize).max(1);
        let more = n.saturating_sub(n_drawn) as u32;
        let stage = world.lab.stage("majority at equal tokens/answers", world.test.len()).await?;
        let further = if more > 0 {
            let policy = &world.models[best.overall].policy;
            world.alone(&stage, policy, self.moa.temperature, (&world.test, more)).await?
        } else {
            vec![vec![]; world.test.len()]
        };
        let slots =
            drawn.iter().zip(&further).map(|(first, more)| first.iter().chain(more).take(n).collect()).collect();
        vote(world, "majority at equal tokens", &slots).await
    }

    /// How often the answer is another one when references are shown the other way round.
    async fn moved(&self, world: &World<'_>, given: &Arm, reversed: &Arm) -> Result<()> {
        let stage = world.lab.stage("positions", 1).await?;
        let pairs = given.outcomes.iter().zip(&reversed.outcomes);
        let key = |outcome: &arms::Outcome| outcome.answer.as_ref().and_then(|answer| answer.key.clone());
        let n = pairs.filter(|(a, b)| key(a) != key(b)).count() as f64 / given.outcomes.len() as f64;
        let used = [given.figure, reversed.figure];
        let name = "answers that change when references are reversed";
        stage.figure(0, name, Estimate::exactly(n), given.outcomes.len(), &used).await?;
        stage.done(1);
        Ok(())
    }

    /// Quality, diversity and results over mixtures and temperatures, and a regression a task.
    async fn sweep(&self, world: &World<'_>, main: Answers) -> Result<Vec<Option<Regression>>> {
        let mixtures = self.mixtures()?;
        if mixtures.is_empty() {
            return Ok(vec![]);
        }
        let n_models = world.models.len();
        let needs: Vec<Vec<u32>> = mixtures.iter().map(|mixture| demand(mixture, mixture.len(), n_models)).collect();
        let most: Vec<u32> =
            (0..n_models).map(|model| needs.iter().map(|needs| needs[model]).max().unwrap_or(0)).collect();
        // Points `[task]`.
        let mut points: Vec<Vec<Point>> = world.tasks.iter().map(|_| vec![]).collect();
        for temperature in &self.sweep.temperatures {
            let drawn;
            let answers = if *temperature == self.moa.temperature {
                &main
            } else {
                drawn = Answers::draw(world, *temperature, &most).await?;
                &drawn
            };
            for (at, (written, mixture)) in self.sweep.mixtures.iter().zip(&mixtures).enumerate() {
                let of = sweep::point(world, answers, (at, written, mixture), *temperature).await?;
                points.iter_mut().zip(of).for_each(|(points, point)| points.push(point));
            }
        }
        let mut all = Vec::with_capacity(points.len());
        for (task, points) in points.iter().enumerate() {
            all.push(regression::of_task(world, task, &points.iter().collect::<Vec<_>>()).await?);
        }
        Ok(all)
    }
}
