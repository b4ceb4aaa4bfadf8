//! Arms against each other: differences with paired intervals, and who wins over whom, task by task.

use tracker_store::{Edge, Figure, NodeId, Recording, Relation};

use super::arms::Arm;
use super::world::World;
use crate::error::Result;
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::Estimate;

/// The difference in accuracy between two arms.
pub(super) struct Difference {
    pub(super) estimate: Estimate,
    pub(super) figure: NodeId,
}

/// Accuracy of `first` less that of each other, over all queries and by task, queries drawn anew together. In the order of
/// `others`.
pub(super) async fn differences(
    world: &World<'_>,
    stage: &str,
    first: &Arm,
    others: &[&Arm],
) -> Result<Vec<Difference>> {
    let lab = world.lab;
    let resampler = Resampler::of(lab, "measure/resamples", world.plan.measure.n_resamples)?;
    let stage = lab.stage(stage, others.len()).await?;
    let paired = |places: &[usize], other: &Arm| -> Result<Option<Estimate>> {
        let curves = |arm: &Arm| CurveSet::new(places.iter().map(|at| vec![arm.outcomes[*at].right]));
        Ok(resampler.paired(&curves(other)?, &curves(first)?)?.first().copied())
    };
    let all: Vec<usize> = (0..world.test.len()).collect();
    let mut found = Vec::with_capacity(others.len());
    for (nth, other) in (0_u32..).zip(others) {
        let name = format!("{} less {}", first.name, other.name);
        let used = [first.figure, other.figure];
        let item = 100 * nth;
        for (task, of) in (1..).zip(world.tasks.iter().enumerate()) {
            if let Some(estimate) = paired(&world.places(of.0), other)? {
                stage
                    .figure(item + task, &format!("{name}, {}", of.1), estimate, world.places(of.0).len(), &used)
                    .await?;
            }
        }
        if let Some(estimate) = paired(&all, other)? {
            let figure = stage.figure(item, &name, estimate, all.len(), &used).await?;
            found.push(Difference { estimate, figure });
        }
        stage.done(found.len());
    }
    Ok(found)
}

/// For each task and each pair of arms how often one is right where the other is wrong.
pub(super) async fn wins(world: &World<'_>, arms: &[&Arm]) -> Result<()> {
    let lab = world.lab;
    for (task, name) in world.tasks.iter().enumerate() {
        let stage = lab.stage(&format!("wins/{name}"), arms.len()).await?;
        let places = world.places(task);
        let mut recording = Recording::new();
        for (item, arm) in (0..).zip(arms) {
            for (k, other) in (0..).zip(arms).filter(|(k, _)| *k != item) {
                let is_won = |at: &&usize| arm.outcomes[**at].right > other.outcomes[**at].right;
                let figure = Figure {
                    name: format!("{} over {}", arm.name, other.name),
                    value: places.iter().filter(is_won).count() as f64 / places.len() as f64,
                    low: None,
                    high: None,
                    n: places.len() as u64,
                    unit: String::new(),
                    split: name.clone(),
                };
                let node = recording.put_figure(stage.row(item, k), &figure)?;
                for (order, used) in (0..).zip([arm.figure, other.figure]) {
                    recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, used).at(order))?;
                }
            }
        }
        lab.record(recording).await?;
        stage.done(arms.len());
    }
    Ok(())
}
