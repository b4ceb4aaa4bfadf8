//! What DPA is compared with: the model before it, DPO, `SteerLM`, one model a direction by policy gradients (MORLHF), and
//! mixtures of two of those (rewarded soups).

use tracker_actors::Pool;
use tracker_lm::{Dpo, Grpo, Rollout};
use tracker_store::Finish;

use super::answers::{Answer, Asking};
use super::measure::{Measured, measure};
use super::rounds::Offline;
use super::wish::Wish;
use super::world::{Objectives, World};
use crate::error::Result;
use crate::parts::best_of::first_greatest;
use crate::parts::direction::Direction;
use crate::parts::interpolate::{Blocks, Interpolator, Rest, record_mixture};
use crate::parts::train::{
    Objective, Step, TrainRow, TrainSet, Trained, Trainer, completion_ids, pair, scored, sft, train,
};

/// Distance a token's probability may move in a policy-gradient step before it stops to count.
const CLIP: f64 = 0.2;

/// A way to several models or several wishes of one, all measured.
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) measured: Vec<Measured>,
}

impl Method {
    /// The name of the method that trains a model for each of several directions, and of mixtures of two of those.
    const ENDS: &'static str = "morlhf";
    const SOUPS: &'static str = "soups";

    /// Its models; to mixtures belong the two models that are mixed.
    pub(super) fn models<'a>(&'a self, all: &'a [Self]) -> Vec<&'a Measured> {
        let ends = all.iter().find(|method| self.name == Self::SOUPS && method.name == Self::ENDS);
        let ends = ends.map_or(&[][..], |method| &method.measured);
        let ends = ends.first().into_iter().chain(ends.get(1..).and_then(<[_]>::last));
        ends.chain(&self.measured).collect()
    }

    /// Whether it has one answer to everybody, so that DPA may be better in every direction.
    pub(super) fn is_one_point(&self) -> bool {
        matches!(self.name, "sft" | "dpo")
    }
}

/// Trains and measures every baseline of the plan, from the model before DPA.
pub(super) async fn baselines(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    offline: &Offline,
) -> Result<Vec<Method>> {
    let plan = &world.plan.baselines;
    let mut methods = vec![Method { name: "sft", measured: vec![measure(world, "sft", base, &[Wish::None]).await?] }];
    let mut measured = Vec::new();
    for beta in &plan.dpo {
        let label = format!("dpo {beta}");
        let model = dpo(world, trainer, base, offline, &label, *beta).await?;
        measured.push(measure(world, &label, &model, &[Wish::None]).await?);
    }
    methods.push(Method { name: "dpo", measured });
    if !plan.steer_lm.is_empty() {
        let model = steer_lm(world, trainer, base, offline).await?;
        let wishes: Vec<Wish> = plan.steer_lm.iter().map(|target| Wish::Reach(*target)).collect();
        methods.push(Method { name: "steerlm", measured: vec![measure(world, "steerlm", &model, &wishes).await?] });
    }
    let (mut measured, mut models) = (Vec::new(), Vec::new());
    for degrees in &plan.morlhf {
        let label = format!("morlhf {degrees}°");
        let model = morlhf(world, trainer, base, &label, &Direction::of_degrees(*degrees)?).await?;
        measured.push(measure(world, &label, &model, &[Wish::None]).await?);
        models.push(model);
    }
    methods.push(Method { name: Method::ENDS, measured });
    if let (Some(first), Some(last)) = (models.first(), models.last()) {
        methods.push(Method { name: Method::SOUPS, measured: soups(world, [first, last]).await? });
    }
    methods.retain(|method| !method.measured.is_empty());
    Ok(methods)
}

/// The answer of greatest helpfulness against that of least, a prompt.
async fn dpo(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    offline: &Offline,
    label: &str,
    beta: f64,
) -> Result<Trained> {
    let (mut rows, mut pairs) = (Vec::new(), Vec::new());
    for (question, answers) in offline.questions.iter().zip(&offline.answers) {
        let help: Vec<f64> = answers.iter().filter_map(|answer| Some(answer.said?[0])).collect();
        let harm: Vec<f64> = help.iter().map(|x| -x).collect();
        let (best, worst) = (first_greatest(&help)?, first_greatest(&harm)?);
        if help[best] <= help[worst] {
            continue;
        }
        let prompt = world.prompt(&question.text, &Wish::None);
        let said = |at: usize| -> (&str, Finish) { (&answers[at].text, answers[at].finish) };
        pairs.extend(pair(&base.model, &prompt, said(best), said(worst))?);
        rows.push(world.row(question, &Wish::None, &answers[best], answers[best].reward));
        rows.push(world.row(question, &Wish::None, &answers[worst], answers[worst].reward));
    }
    let set = TrainSet { name: format!("{label}/pairs"), rows, drawn_from: vec![world.map] };
    let step = Step::new(label, base, &set, &world.plan.baselines.preference);
    train(world.lab, trainer, step, Objective::Dpo(pairs, Dpo { beta, smoothing: 0.0 })).await
}

/// All answers, each under the objectives the reward model gives it.
async fn steer_lm(world: &World<'_>, trainer: &Pool<Trainer>, base: &Trained, offline: &Offline) -> Result<Trained> {
    let target = |said: Objectives| said.map(|x| x.clamp(0.0, 100.0).round() as u32);
    let mut rows: Vec<TrainRow> = Vec::new();
    for (question, answers) in offline.questions.iter().zip(&offline.answers) {
        let row =
            |answer: &Answer| Some(world.row(question, &Wish::Reach(target(answer.said?)), answer, answer.reward));
        rows.extend(answers.iter().filter_map(row));
    }
    let set = TrainSet { name: "steerlm/answers".into(), rows, drawn_from: vec![world.map] };
    sft(world.lab, trainer, Step::new("steerlm", base, &set, &world.plan.baselines.steer)).await
}

/// A model for one direction: what scores above its prompt's other answers becomes more likely.
async fn morlhf(
    world: &World<'_>,
    trainer: &Pool<Trainer>,
    base: &Trained,
    label: &str,
    direction: &Direction,
) -> Result<Trained> {
    let (lab, plan) = (world.lab, &world.plan.baselines);
    let mut now = base.clone();
    for round in 1..=plan.rounds {
        let label = format!("{label}, round {round}");
        // The same prompts for every direction.
        let questions = world.fresh(&format!("morlhf {round}"), plan.n_prompts).await?;
        let asked = world.put(questions.iter().map(|question| (question.clone(), Wish::None)).collect()).await?;
        let stage = lab.stage(&format!("{label}/sample"), asked.len()).await?;
        let (n, temperature) = (world.plan.rsf.n_samples, world.plan.rsf.temperature);
        let answers =
            world.answers(Asking { stage: &stage, policy: &world.policy(&now), n, temperature }, &asked).await?;
        let (mut rows, mut rollouts) = (Vec::new(), Vec::new());
        for (asked, answers) in asked.iter().zip(&answers) {
            let reward = |answer: &Answer| Some(direction.reward(&answer.said?));
            let rewards = answers.iter().filter_map(reward).collect::<Result<Vec<f64>>>()?;
            for (answer, advantage) in answers.iter().zip(tracker_lm::advantages(&rewards)) {
                let prompt = now.model.tokenizer().encode(&asked.prompt)?;
                let completion = completion_ids(&now.model, &answer.text, answer.finish)?;
                rollouts.push(Rollout { prompt, completion, log_probs: vec![], advantage });
                rows.push(world.row(&asked.question, &Wish::None, answer, answer.reward));
            }
        }
        let rollouts = scored(&now.model, rollouts, lab.workers())?;
        let set = TrainSet { name: format!("{label}/answers"), rows, drawn_from: vec![world.map] };
        let step = Step::new(&label, &now, &set, &plan.gradient);
        let next = train(lab, trainer, step, Objective::Grpo(rollouts, Grpo { clip: CLIP, kl: plan.kl })).await?;
        now = next;
    }
    Ok(now)
}

/// Mixtures of two models, recorded as recipes.
async fn soups(world: &World<'_>, ends: [&Trained; 2]) -> Result<Vec<Measured>> {
    let (lab, shares) = (world.lab, &world.plan.baselines.soups);
    let [first, last] = ends;
    let blocks = Blocks::even(first.model.config().n_layers, 1, Rest::Mean)?;
    let interpolator = Interpolator::start(lab.actors(), first.model.clone(), last.model.clone())?;
    let ratios = shares.iter().map(|share| blocks.ratios(&first.model, &[*share])).collect();
    let models = interpolator.ask(ratios).await?;
    let mut measured = Vec::with_capacity(models.len());
    for (share, model) in shares.iter().zip(models) {
        let label = format!("soup {share}");
        let node = record_mixture(lab, &label, &blocks, ends, &[*share], &model).await?;
        measured.push(measure(world, &label, &Trained { node, model }, &[Wish::None]).await?);
    }
    Ok(measured)
}
