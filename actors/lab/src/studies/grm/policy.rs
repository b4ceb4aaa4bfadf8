//! Policy optimisation without a penalty: what the reward model says of the policy, and what it is worth, as it moves away.

use tracker_actors::Pool;
use tracker_lm::{Continuation, HeadKind, Ppo, RewardModel, ScoredRollout, Trunk};
use tracker_store::NodeId;

use super::world::World;
use crate::error::Result;
use crate::parts::answers::{Answer, Asked};
use crate::parts::evaluate::mean;
use crate::parts::record::FileRow;
use crate::parts::reward::{Fit, Fitter, Judge, Objective, Scorer, fit};
use crate::parts::train::Trained;

/// What a policy was worth after its last round.
pub(super) struct Optimised {
    /// The exact score of each held-out exercise, a mean over its answers.
    pub(super) gold: Vec<f64>,
    /// The figure of their mean.
    pub(super) figure: NodeId,
}

/// All rounds under one reward model.
pub(super) async fn optimise(
    world: &World<'_>,
    (fitter, scorer): (&Pool<Fitter>, &Pool<Scorer>),
    base: &Trained,
    (name, repeat): (&str, u32),
    judge: &Judge,
) -> Result<Optimised> {
    let (lab, plan) = (world.lab, &world.plan.ppo);
    let label = format!("ppo {name} {repeat}");
    let seed = lab.seeds().seed("value head", repeat, 0);
    let mut policy = RewardModel::init(&base.model, HeadKind::value(), seed)?;
    let mut node = base.node;
    let mut scale: Option<Scale> = None;
    let mut last = measure(world, scorer, base, (&label, 0), (node, &policy), judge).await?;
    for round in 1..=plan.rounds {
        // The same exercises whoever judges.
        let tasks = world.fresh(&format!("ppo {repeat}/{round}"), plan.n_prompts).await?;
        let asked = (format!("{label}/{round}/sample"), 1, 1.0);
        let asker = world.policy(node, policy.trunk());
        let answers = world.answers(&asker, (&asked.0, asked.1, asked.2), &tasks).await?;
        let answers: Vec<Answer> =
            answers.into_iter().flatten().filter(|answer| !answer.read.completion.is_empty()).collect();
        let scored = Asked::new(&answers).score(lab, scorer, judge).await?;
        let rewards: Vec<f64> = scored.iter().map(|scored| scored.value).collect();
        let scale = *scale.get_or_insert_with(|| Scale::of(&rewards));
        let log_probs = tracker_lm::log_probs(policy.trunk(), &read(&answers), lab.workers())?;
        let (mut rollouts, mut rows) = (Vec::new(), Vec::new());
        for ((answer, scored), log_probs) in answers.iter().zip(&scored).zip(log_probs) {
            let reward = scale.standard(scored.value);
            let line = serde_json::json!({"id": format!("{}/{}", asked.0, answer.row.item), "answer": answer.text, "reward": reward});
            rows.push(FileRow { line: line.to_string(), source: Some(scored.node) });
            let (prompt, completion) = (answer.read.prompt.clone(), answer.read.completion.clone());
            rollouts.push(ScoredRollout { prompt, completion, log_probs, reward });
        }
        let step = Fit {
            label: &format!("{label}/{round}"),
            from: node,
            model: &policy,
            dataset: &format!("{label}/{round}/rollouts"),
            rows: &rows,
            drawn_from: &[judge.node],
            trunk: Trunk::Trained,
            adapter: None,
            settings: &plan.sft,
        };
        let next = fit(lab, fitter, step, Objective::Rollouts(rollouts, Ppo::default(), None)).await?;
        (node, policy) = (next.node, (*next.model).clone());
        if round % plan.every == 0 || round == plan.rounds {
            last = measure(world, scorer, base, (&label, round), (node, &policy), judge).await?;
        }
    }
    Ok(last)
}

/// What rewards are standardised by: mean and deviation of the first batch.
#[derive(Clone, Copy)]
struct Scale {
    mean: f64,
    deviation: f64,
}

impl Scale {
    fn of(rewards: &[f64]) -> Self {
        let n = rewards.len().max(1) as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let variance = rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / n;
        Self { mean, deviation: variance.sqrt() }
    }

    fn standard(self, reward: f64) -> f64 {
        (reward - self.mean) / (self.deviation + 1e-8)
    }
}

fn read(answers: &[Answer]) -> Vec<Continuation<'_>> {
    let parts = answers.iter().map(|answer| &answer.read);
    parts.map(|read| Continuation { prompt: &read.prompt, completion: &read.completion }).collect()
}

/// Sums over the tokens of an answer, with d = ln π − ln π₀ of each: Σd (k1), ½Σd² (k2) and Σ|d|. The first is unbiased for
/// answers drawn from π at temperature 1; the last is what GRM's code calls kl3, and is not the estimator k3 = e^(−d) − 1 + d.
fn divergences(policy: &[f32], base: &[f32]) -> [f64; 3] {
    let gaps = || policy.iter().zip(base).map(|(own, base)| f64::from(*own) - f64::from(*base));
    [gaps().sum(), gaps().map(|d| 0.5 * d * d).sum(), gaps().map(f64::abs).sum()]
}

async fn measure(
    world: &World<'_>,
    scorer: &Pool<Scorer>,
    base: &Trained,
    (label, round): (&str, u32),
    (node, policy): (NodeId, &RewardModel),
    judge: &Judge,
) -> Result<Optimised> {
    let (lab, plan) = (world.lab, &world.plan.ppo);
    let asker = world.policy(node, policy.trunk());
    let asking = format!("{label}/{round}/test");
    let answers = world.answers(&asker, (&asking, plan.n_measured, plan.temperature), &world.search.tasks).await?;
    let n = plan.n_measured as usize;
    let flat: Vec<Answer> = answers.into_iter().flatten().collect();
    let scored = Asked::new(&flat).score(lab, scorer, judge).await?;
    let of_policy = tracker_lm::log_probs(policy.trunk(), &read(&flat), lab.workers())?;
    let of_base = tracker_lm::log_probs(&base.model, &read(&flat), lab.workers())?;
    let divergences: Vec<[f64; 3]> =
        of_policy.iter().zip(&of_base).map(|(policy, base)| divergences(policy, base)).collect();
    for (name, definition) in [
        ("k1", "the sum over an answer's tokens of d, d = ln π − ln π₀"),
        ("k2", "the sum over an answer's tokens of d²/2, d = ln π − ln π₀"),
        (
            "|d|",
            "the sum over an answer's tokens of |d|, d = ln π − ln π₀; GRM's code calls it kl3, and it is not k3 = e^(−d) − 1 + d",
        ),
    ] {
        lab.define(name, definition).await?;
    }
    let stage = lab.stage(&format!("{label}/{round}/figures"), 1).await?;
    let by_prompt = |values: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let answers = (0..flat.len()).map(values).collect::<Vec<f64>>();
        answers.chunks(n).map(|answers| answers.iter().sum::<f64>() / answers.len() as f64).collect()
    };
    let used = [world.search.node, node, judge.node, base.node];
    let gold = by_prompt(&|at| flat[at].gold);
    let named: [(&str, Vec<f64>); 5] = [
        ("gold", gold.clone()),
        ("proxy", by_prompt(&|at| scored[at].value)),
        ("k1", by_prompt(&|at| divergences[at][0])),
        ("k2", by_prompt(&|at| divergences[at][1])),
        ("|d|", by_prompt(&|at| divergences[at][2])),
    ];
    let mut figure = node;
    for ((name, values), at) in named.iter().zip(0..) {
        let mut stream = lab.seeds().stream(stage.name(), at, 0);
        let Some(estimate) = mean(values, &mut stream) else { continue };
        let found = stage.figure(at, name, estimate, values.len(), &used).await?;
        figure = if at == 0 { found } else { figure };
    }
    stage.done(1);
    Ok(Optimised { gold, figure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_what_they_are_called() {
        let [k1, k2, absolute] = divergences(&[-1.0, -2.0, -0.5], &[-1.5, -1.0, -0.5]);
        assert_eq!([k1, k2, absolute], [-0.5, 0.625, 1.5]);
    }

    #[test]
    fn rewards_of_the_first_batch_have_mean_zero_and_deviation_one() {
        let rewards = [1.0, 2.0, 6.0];
        let scale = Scale::of(&rewards);
        let standard = rewards.map(|reward| scale.standard(reward));
        assert!(standard.iter().sum::<f64>().abs() < 1e-12);
        assert!((standard.iter().map(|x| x * x).sum::<f64>() / 3.0 - 1.0).abs() < 1e-7);
        assert_eq!(Scale::of(&[4.0; 3]).standard(4.0), 0.0);
    }
}
