//! What may follow the last round: DPO, length-penalised DPO, or GRPO on the last policy.
//!
//! Source: Lin et al. 2025, §4.4: DPO on statements with a pass ratio in (0, 1/4], one random correct and wrong proof
//! each (the length-penalised variant takes the shortest correct one); GRPO on those in (0, 1/2], rewards ±8.

use rand::seq::IndexedRandom;
use tracker_lm::{Dpo, Grpo, Pair, Rollout};
use tracker_store::Outcome;

use super::base::Provers;
use super::settings::{Goedel, Post};
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::attempt::{Attempt, Attempts, attempt};
use crate::parts::statements::Formal;
use crate::parts::train::{Objective, Step, TrainRow, TrainSet, Trained, completion_ids, pair, scored, train};

/// Reward of a proof; anything else has its negative.
const REWARD: f64 = 8.0;

/// Samples from the last policy and trains it further, if the plan asks for that.
pub(super) async fn run(
    lab: &Lab,
    plan: &Goedel,
    provers: &Provers,
    statements: &[Formal],
    last: &Trained,
) -> Result<Option<Trained>> {
    if plan.post == Post::None {
        return Ok(None);
    }
    let tasks: Vec<_> = statements.iter().map(|s| s.task(plan.policy.template)).collect();
    let policy = provers.policy(last);
    let n = plan.after.n_samples;
    let attempts = attempt(lab, "post/attempt", &policy, &provers.verifiers, &tasks, n, &plan.sampling()).await?;
    let is_used = |a: &Attempts| a.c() > 0 && f64::from(a.c()) <= plan.after.max_ratio * f64::from(a.n());
    let used: Vec<(usize, &Attempts)> = attempts.iter().enumerate().filter(|(_, a)| is_used(a)).collect();
    let prompts: Vec<&str> = used.iter().map(|(i, _)| tasks[*i].prompt.as_str()).collect();
    let mut set = TrainSet { name: "post".into(), ..TrainSet::default() };
    let objective = if plan.post == Post::Grpo {
        let rollouts = rollouts(lab, last, &prompts, &used, &mut set)?;
        Objective::Grpo(rollouts, Grpo { clip: 0.2, kl: plan.after.kl })
    } else {
        let pairs = pairs(lab, plan.post, last, &prompts, &used, &mut set)?;
        Objective::Dpo(pairs, Dpo { beta: plan.after.beta, smoothing: 0.0 })
    };
    if set.rows.is_empty() {
        lab.note(format!(
            "post: no statement was solved in a share of (0, {}] of {n} attempts, so there is nothing to learn from; \
             `after.max_ratio` and `after.n_samples` widen it",
            plan.after.max_ratio
        ));
        return Ok(None);
    }
    let step = Step::new("post", last, &set, &plan.after.sft);
    Ok(Some(train(lab, &provers.trainer, step, objective).await?))
}

/// One correct and one wrong proof a statement.
fn pairs(
    lab: &Lab,
    post: Post,
    last: &Trained,
    prompts: &[&str],
    used: &[(usize, &Attempts)],
    set: &mut TrainSet,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::with_capacity(used.len());
    for ((i, attempts), prompt) in used.iter().zip(prompts) {
        let mut stream = lab.seeds().stream("post/pair", *i as u32, 0);
        let correct: Vec<&Attempt> = attempts.proofs().collect();
        let wrong: Vec<&Attempt> =
            attempts.0.iter().filter(|a| !matches!(a.outcome, Outcome::Proved | Outcome::Infra)).collect();
        let chosen = match post {
            Post::DpoLength => correct.iter().min_by_key(|a| a.n_tokens),
            _ => correct.choose(&mut stream),
        };
        let (Some(chosen), Some(rejected)) = (chosen, wrong.choose(&mut stream)) else { continue };
        set.rows.extend([chosen, rejected].map(|a| row(prompt, a)));
        let [chosen, rejected] = [chosen, rejected].map(|a| (a.text.as_str(), a.finish));
        pairs.extend(pair(&last.model, prompt, chosen, rejected)?);
    }
    Ok(pairs)
}

/// Every attempt with its advantage in its group.
fn rollouts(
    lab: &Lab,
    last: &Trained,
    prompts: &[&str],
    used: &[(usize, &Attempts)],
    set: &mut TrainSet,
) -> Result<Vec<Rollout>> {
    let mut rollouts = Vec::new();
    for ((_, attempts), prompt) in used.iter().zip(prompts) {
        let group: Vec<&Attempt> = attempts.0.iter().filter(|a| a.outcome != Outcome::Infra).collect();
        let reward = |a: &&Attempt| if a.outcome == Outcome::Proved { REWARD } else { -REWARD };
        let rewards: Vec<f64> = group.iter().map(reward).collect();
        for (attempt, advantage) in group.iter().zip(tracker_lm::advantages(&rewards)) {
            set.rows.push(row(prompt, attempt));
            rollouts.push(Rollout {
                prompt: last.model.tokenizer().encode(prompt)?,
                completion: completion_ids(&last.model, &attempt.text, attempt.finish)?,
                log_probs: vec![],
                advantage,
            });
        }
    }
    scored(&last.model, rollouts, lab.workers())
}

fn row(prompt: &str, attempt: &Attempt) -> TrainRow {
    let Attempt { text, finish, verdict, .. } = attempt;
    TrainRow { prompt: prompt.to_owned(), completion: text.clone(), finish: *finish, source: Some(*verdict) }
}
