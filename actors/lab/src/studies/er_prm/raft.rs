//! Rejection sampling on reward models: of each problem's solutions the one whose worst step scores highest is learnt, and again.

use tracker_actors::Pool;
use tracker_store::{NodeId, Recording, RowKey};

use super::prm::score;
use super::world::{Asking, Solution, Task, World};
use crate::error::Result;
use crate::parts::best_of::{Aggregator, select};
use crate::parts::evaluate::mean;
use crate::parts::generate::Policy;
use crate::parts::labels::Estimator;
use crate::parts::reward::{Judge, Scorer};
use crate::parts::train::{SftSettings, Step, TrainRow, TrainSet, Trained, Trainer, sft};

/// Solutions of each held-out problem that a policy is measured by.
const N_MEASURED: u32 = 4;

/// A policy's share of right solutions, a held-out problem.
pub(super) struct Measured {
    pub(super) right: Vec<f64>,
    pub(super) figure: NodeId,
}

/// Draws solutions of the held-out problems and records the share that is right.
pub(super) async fn measure(world: &World<'_>, label: &str, policy: &Policy) -> Result<Option<Measured>> {
    let asking =
        Asking { stage: &format!("{label}/test"), n: N_MEASURED, temperature: world.plan.rollouts.temperature };
    let solved = world.solve(policy, asking, &world.test).await?;
    let share = |solutions: &Vec<Solution>| {
        solutions.iter().filter(|s| s.is_right).count() as f64 / solutions.len().max(1) as f64
    };
    let right: Vec<f64> = solved.iter().map(share).collect();
    let stage = world.lab.stage(&format!("{label}/figures"), 1).await?;
    let mut stream = world.lab.seeds().stream(stage.name(), 0, 0);
    let Some(estimate) = mean(&right, &mut stream) else { return Ok(None) };
    let figure = stage.figure(0, "pass@1", estimate, right.len(), &[world.benchmark, policy.node()]).await?;
    stage.done(1);
    Ok(Some(Measured { right, figure }))
}

/// All rounds under one reward model; gives what the last policy is worth.
pub(super) async fn raft(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    scorer: &Pool<Scorer>,
    base: &Trained,
    estimator: Estimator,
    judge: &Judge,
) -> Result<Option<Measured>> {
    let (lab, plan) = (world.lab, &world.plan.raft);
    let mut policy = base.clone();
    let mut measured = None;
    for round in 1..=plan.rounds {
        // The same problems whoever judges.
        let tasks: Vec<Task> = world.fresh(&format!("raft {round}"), plan.n_problems, round - 1).await?;
        let label = format!("raft {} {round}", estimator.to_string().replace(':', " "));
        let asking = Asking { stage: &format!("{label}/sample"), n: plan.n_samples, temperature: 1.0 };
        let solved = world.solve(&world.policy(policy.node, &policy.model), asking, &tasks).await?;
        let scores = score(lab, scorer, judge, &solved).await?;
        let mut rows = Vec::new();
        let mut recording = Recording::new();
        for (((task, solutions), scores), item) in tasks.iter().zip(&solved).zip(&scores).zip(0..) {
            let least = scores.iter().map(|steps| Aggregator::Min.score(steps)).collect::<Result<Vec<f64>>>()?;
            let drawn = solutions.iter().map(|solution| NodeId::sample(solution.row)).collect();
            let rule = format!("best of {} by min of {estimator}", solutions.len());
            let selection = select(drawn, least, rule, Some(judge.node))?;
            let best = &solutions[selection.chosen as usize];
            let row = RowKey::new(lab.run(), &format!("{label}/sample"), item, 0);
            rows.push(TrainRow {
                prompt: task.prompt.clone(),
                completion: best.text.clone(),
                finish: best.finish,
                source: Some(recording.put_selection(row, &selection)?),
            });
        }
        lab.record(recording).await?;
        let set = TrainSet { name: format!("{label}/best"), rows, drawn_from: vec![judge.node] };
        let lr = plan.sft.lr * f64::from(plan.rounds - round + 1) / f64::from(plan.rounds);
        let settings = SftSettings { lr, ..plan.sft.clone() };
        policy = sft(lab, trainer, Step::new(&label, &policy, &set, &settings)).await?;
        measured = measure(world, &label, &world.policy(policy.node, &policy.model)).await?;
    }
    Ok(measured)
}
