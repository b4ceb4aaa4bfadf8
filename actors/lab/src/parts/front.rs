//! Fronts: measured points, compared, recorded with edges to what was measured, and exported.

use tracker_front::{Candidate, Direction, Front, Options};
use tracker_store::{Front as FrontRecord, FrontPoint, Goal, NodeId, Objective, Recording};

use crate::error::Result;
use crate::lab::Lab;

/// What is compared, and up to where volume counts.
pub struct Contest {
    /// The objectives.
    pub objectives: Vec<tracker_front::Objective>,
    /// The reference point of the hypervolume, one number an objective.
    pub reference: Vec<f64>,
}

impl Contest {
    /// Compares candidates.
    ///
    /// # Errors
    /// `Front` where they make no sense.
    pub fn compare(&self, candidates: Vec<Candidate>) -> Result<Front> {
        let options = Options { reference: Some(self.reference.clone()), epsilon: None };
        Ok(Front::new(self.objectives.clone(), candidates, options)?)
    }
}

/// Records the front of these nodes, whose values are one number an objective. Returns its node and its hypervolume.
///
/// # Errors
/// `Front` for a value that is NaN; those of recording.
pub async fn record_front(
    lab: &Lab,
    name: &str,
    contest: &Contest,
    points: &[(NodeId, Vec<f64>)],
) -> Result<(NodeId, Option<f64>)> {
    let candidates = points.iter().map(|(node, values)| Candidate {
        checkpoint: node.to_string(),
        values: values.iter().map(|value| Some(*value)).collect(),
        ..Candidate::default()
    });
    let front = contest.compare(candidates.collect())?;
    let goal = |direction| match direction {
        Direction::Maximise => Goal::Maximize,
        Direction::Minimise => Goal::Minimize,
    };
    let point = |((node, _), row): (&(NodeId, Vec<f64>), &tracker_front::Row)| FrontPoint {
        node: *node,
        values: row.values.clone(),
        rank: row.rank,
        crowding: row.crowding,
        is_pareto: row.is_pareto,
    };
    let record = FrontRecord {
        name: name.to_owned(),
        objectives: front
            .objectives
            .iter()
            .map(|objective| Objective { name: objective.name.clone(), goal: goal(objective.direction) })
            .collect(),
        epsilon: vec![],
        points: points.iter().zip(&front.rows).map(point).collect(),
        reference: contest.reference.clone(),
        hypervolume: front.hypervolume,
    };
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &record)?;
    lab.record(recording).await?;
    Ok((node, front.hypervolume))
}
