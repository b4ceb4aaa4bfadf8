//! Quality, diversity and what the aggregator makes of them, over mixtures and temperatures.

use tracker_store::{Edge, Figure, NodeId, Recording, Relation};

use super::arms::{aggregate, ordered, slots};
use super::pool::{Answers, results};
use super::world::World;
use crate::error::Result;
use crate::parts::aggregate::References;
use crate::parts::vendi::{answer_entropy, vendi_of};

/// What a mixture at a temperature is on one task.
pub(super) struct Point {
    /// Which mixture.
    pub(super) mixture: usize,
    /// The accuracy of each proposer.
    pub(super) qualities: Vec<f64>,
    /// Their mean, q.
    pub(super) quality: f64,
    /// The mean Vendi score of a query's proposals, d.
    pub(super) diversity: f64,
    /// The accuracy of the aggregator, t.
    pub(super) result: f64,
    /// The figures of q, d and t.
    pub(super) figures: [NodeId; 3],
}

/// Names of a point's figures, in the order of their items.
const NAMES: [&str; 4] = ["quality", "diversity", "result", "entropy"];

/// The points of one mixture at one temperature, a task each. A proposal that says nothing is wrong, and has no part in diversity.
pub(super) async fn point(
    world: &World<'_>,
    answers: &Answers,
    (at, written, mixture): (usize, &str, &[usize]),
    temperature: f64,
) -> Result<Vec<Point>> {
    let (lab, order) = (world.lab, world.plan.order()?);
    let slots = slots(world, answers, mixture, mixture.len())?;
    let stage = lab.stage(&format!("sweep {temperature}/{written}"), world.test.len()).await?;
    let references: Vec<References> =
        slots.iter().enumerate().map(|(query, of)| ordered(world, order, query, of)).collect();
    let aggregated = aggregate(world, &stage, 0, references).await?;
    let mut points = Vec::with_capacity(world.tasks.len());
    let mut recording = Recording::new();
    for (task, name) in world.tasks.iter().enumerate() {
        let places = world.places(task);
        let n = places.len() as f64;
        let mut qualities = vec![0.0; mixture.len()];
        let (mut diversity, mut entropy, mut n_said, mut right) = (0.0, 0.0, 0.0, 0.0);
        for query in &places {
            let of = &slots[*query];
            qualities.iter_mut().zip(of).for_each(|(quality, answer)| *quality += answer.right / n);
            let texts: Vec<&str> =
                of.iter().map(|answer| &*answer.text).filter(|text| !text.trim().is_empty()).collect();
            if let Some(score) = vendi_of(&texts, &world.plan.kernel)? {
                diversity += score;
                n_said += 1.0;
            }
            entropy += answer_entropy(&of.iter().filter_map(|answer| answer.key.as_ref()).collect::<Vec<_>>()) / n;
            right += aggregated[*query].right / n;
        }
        // Where nobody says anything, there is one thing that is said.
        diversity = if n_said > 0.0 { diversity / n_said } else { 1.0 };
        let quality = qualities.iter().sum::<f64>() / qualities.len() as f64;
        let proposed = answers.datasets(mixture, task);
        let of_task = places.iter().map(|query| &aggregated[*query]);
        let made = results(lab, &format!("aggregated {temperature} {written} {name}"), of_task).await?;
        let mut figures = Vec::with_capacity(NAMES.len());
        for (k, (name, value)) in (0_u32..).zip(NAMES.into_iter().zip([quality, diversity, right, entropy])) {
            let figure = Figure {
                name: name.to_owned(),
                value,
                low: None,
                high: None,
                n: places.len() as u64,
                unit: if name == "entropy" { "nats".into() } else { String::new() },
                split: world.tasks[task].clone(),
            };
            let node = recording.put_figure(stage.row(task as u32, k), &figure)?;
            let used: Vec<NodeId> = if name == "result" { vec![made, world.benchmark] } else { proposed.clone() };
            for (order, used) in (0..).zip(used) {
                recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, used).at(order))?;
            }
            figures.push(node);
        }
        let figures = [figures[0], figures[1], figures[2]];
        points.push(Point { mixture: at, qualities, quality, diversity, result: right, figures });
    }
    lab.record(recording).await?;
    Ok(points)
}
