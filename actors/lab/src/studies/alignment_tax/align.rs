//! From nothing to θ₀ and θ: pre-training on skills and talk, fine-tuning on talk, rejection sampling on the reward; and the
//! baselines, which start at θ₀ again.

use std::collections::BTreeSet;

use rand::seq::{IndexedRandom, SliceRandom};
use tracker_actors::Pool;
use tracker_lm::{Anchor, Dpo, Grpo, Kd, Lm, Lora, Projection, Rollout};
use tracker_store::{Finish, NodeId, Recording};

use super::claims::Family;
use super::measure::{Answer, Asking, Bench, Prompt, problem, sampling, talks};
use super::settings::{AlignmentTax, LoraSettings};
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::prompts::read_prompts;
use crate::parts::skills::{Exercise, Skill, tokenizer};
use crate::parts::train::{
    Objective, SftSettings, Step, TrainRow, TrainSet, Trained, Trainer, completion_ids, examples, pair, scored, sft,
    train,
};

/// Distance a token's probability may move in a policy-gradient step before it stops to count.
const CLIP: f64 = 0.2;

/// Trains the models of a run.
pub(super) struct School<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a AlignmentTax,
    pub(super) bench: &'a Bench,
    pub(super) trainer: Pool<Trainer>,
}

/// A model, and what it was pre-trained on.
pub(super) struct Base {
    trained: Trained,
    rows: Vec<TrainRow>,
    dataset: NodeId,
}

/// The two ends of one repeat, and what lies between them.
pub(super) struct Ends {
    /// θ₀.
    pub(super) before: Trained,
    /// The model after each round of alignment; the last is θ.
    pub(super) rounds: Vec<Trained>,
    /// The best and the worst answer to each prompt, of all rounds; those of θ₀ come first.
    pub(super) pool: Vec<Choice>,
}

/// A prompt with its answers, the best first.
pub(super) struct Choice {
    prompt: String,
    best: Answer,
    worst: Answer,
    /// All answers.
    all: Vec<Answer>,
}

impl Choice {
    fn new(prompt: &str, all: Vec<Answer>) -> Option<Self> {
        // Of equal ones the first.
        let best = all.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward))?.clone();
        let worst = all.iter().min_by(|a, b| a.reward.total_cmp(&b.reward))?.clone();
        Some(Self { prompt: prompt.to_owned(), best, worst, all })
    }

    fn row(&self) -> TrainRow {
        let Answer { text, finish, node, .. } = self.best.clone();
        TrainRow { prompt: self.prompt.clone(), completion: text, finish, source: Some(node) }
    }
}

impl School<'_> {
    /// Trains a small model on exercises of every skill and on talk.
    pub(super) async fn pretrain(&self) -> Result<Base> {
        let plan = self.plan;
        let held_out = self.bench.held_out();
        let mut stream = self.lab.seeds().stream("pretrain", 0, 0);
        let mut rows: Vec<TrainRow> =
            talks(&mut stream, plan.pretrain.n_talks as usize, &held_out).into_iter().map(row).collect();
        for skill in Skill::ALL {
            let exercises = std::iter::repeat_with(|| skill.exercise(&mut stream));
            let fresh = exercises.filter(|exercise| !held_out.contains(&exercise.prompt));
            rows.extend(fresh.take(plan.pretrain.n_exercises as usize).map(row));
        }
        rows.shuffle(&mut stream);
        let model = plan.policy.init(self.lab, tokenizer()?)?;
        let set = TrainSet { name: "pre-training".into(), rows, drawn_from: vec![] };
        let trained = self.tune("pretrained", None, &model, &set, &plan.pretrain.sft, Anchor::None).await?;
        Ok(Base { trained, dataset: set.node(self.lab)?, rows: set.rows })
    }

    /// Fine-tunes on talk, then aligns by rejection sampling.
    pub(super) async fn align(&self, base: &Base, name: &str) -> Result<Ends> {
        let (lab, plan) = (self.lab, self.plan);
        let held_out = self.bench.held_out();
        let mut stream = lab.seeds().stream(&format!("{name}/sft"), 0, 0);
        let rows = talks(&mut stream, plan.sft.n_talks as usize, &held_out).into_iter().map(row).collect();
        let set = TrainSet { name: format!("{name}/talks"), rows, drawn_from: vec![] };
        let from = &base.trained;
        let before =
            self.tune(&format!("{name}/sft"), Some(from), &from.model, &set, &plan.sft.sft, Anchor::None).await?;
        let (mut rounds, mut pool): (Vec<Trained>, Vec<Choice>) = (vec![], vec![]);
        for round in 1..=plan.rsf.rounds {
            let label = format!("{name}/rsf {round}");
            let now = rounds.last().unwrap_or(&before);
            let choices = self.choices(&label, now, &held_out).await?;
            let rows = choices.iter().map(Choice::row).collect();
            let set = TrainSet { name: format!("{label}/best"), rows, drawn_from: vec![] };
            let next = self.tune(&label, Some(now), &now.model, &set, &plan.rsf.sft, Anchor::None).await?;
            rounds.push(next);
            pool.extend(choices);
        }
        Ok(Ends { before, rounds, pool })
    }

    /// Answers of a model to fresh prompts.
    async fn choices(&self, label: &str, now: &Trained, held_out: &BTreeSet<String>) -> Result<Vec<Choice>> {
        let (lab, rsf) = (self.lab, &self.plan.rsf);
        let prompts = self.prompts(label, rsf.n_prompts as usize, held_out).await?;
        let stage = lab.stage(&format!("{label}/sample"), prompts.len()).await?;
        let (policy, sampling) = (self.bench.policy(now.node, &now.model), sampling(self.plan, rsf.temperature));
        let asking = Asking { stage: &stage, policy: &policy, n: rsf.n_samples, sampling: &sampling };
        let answers = self.bench.answers(lab, self.plan, asking, &prompts).await?;
        Ok(prompts.iter().zip(answers).filter_map(|(prompt, all)| Choice::new(&prompt.text, all)).collect())
    }

    /// The answers of an aligned model to fresh prompts that have the highest reward: what block ratios are fitted to.
    pub(super) async fn praised(&self, name: &str, after: &Trained) -> Result<Vec<TrainRow>> {
        let (lab, plan) = (self.lab, self.plan);
        let label = format!("{name}/proxy");
        let prompts = if plan.models.prompts.is_empty() {
            self.prompts(&label, plan.hma.n_candidates as usize, &self.bench.held_out()).await?
        } else {
            self.read(&plan.models.prompts, plan.hma.n_candidates as usize).await?
        };
        let stage = lab.stage(&label, prompts.len()).await?;
        let (policy, sampling) = (self.bench.policy(after.node, &after.model), sampling(plan, 1.0));
        let asking = Asking { stage: &stage, policy: &policy, n: 1, sampling: &sampling };
        let answers = self.bench.answers(lab, plan, asking, &prompts).await?;
        let mut choices: Vec<Choice> =
            prompts.iter().zip(answers).filter_map(|(prompt, all)| Choice::new(&prompt.text, all)).collect();
        choices.sort_by(|a, b| b.best.reward.total_cmp(&a.best.reward));
        Ok(choices.iter().take(plan.hma.n_best as usize).map(Choice::row).collect())
    }

    async fn prompts(&self, label: &str, n: usize, held_out: &BTreeSet<String>) -> Result<Vec<Prompt>> {
        let mut stream = self.lab.seeds().stream(label, 0, 0);
        self.record(talks(&mut stream, n, held_out).into_iter().map(|talk| talk.prompt)).await
    }

    /// Prompts of a file, past those that are held out.
    async fn read(&self, path: &str, n: usize) -> Result<Vec<Prompt>> {
        let held_out = self.bench.held_out();
        let all = read_prompts(path, n + held_out.len())?;
        self.record(all.into_iter().filter(|prompt| !held_out.contains(prompt)).take(n)).await
    }

    async fn record(&self, prompts: impl Iterator<Item = String>) -> Result<Vec<Prompt>> {
        let mut recording = Recording::new();
        let prompts = prompts.map(|text| Ok(Prompt { node: recording.put(self.lab.run(), &problem(&text))?, text }));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        self.lab.record(recording).await?;
        Ok(prompts)
    }

    async fn tune(
        &self,
        label: &str,
        from: Option<&Trained>,
        model: &Lm,
        set: &TrainSet,
        settings: &SftSettings,
        anchor: Anchor,
    ) -> Result<Trained> {
        sft(self.lab, &self.trainer, Step { from, anchor, ..Step::first(label, model, set, settings) }).await
    }

    /// Every baseline of the plan, from θ₀: its family, its setting, its model.
    pub(super) async fn baselines(&self, base: &Base, name: &str, ends: &Ends) -> Result<Vec<(Family, f64, Trained)>> {
        let plan = &self.plan.baselines;
        let set = TrainSet {
            name: format!("{name}/best of all rounds"),
            rows: ends.pool.iter().map(Choice::row).collect(),
            drawn_from: vec![],
        };
        let mut trained = Vec::new();
        let ranks = |ranks: &[usize]| ranks.iter().map(|rank| *rank as f64).collect::<Vec<_>>();
        let (mlp, all) = (ranks(&plan.lora.mlp), ranks(&plan.lora.all));
        let all = [
            (Family::L1, &plan.l1),
            (Family::L2, &plan.l2),
            (Family::Kd, &plan.kd),
            (Family::LoraMlp, &mlp),
            (Family::Lora, &all),
            (Family::Replay, &plan.replay),
            (Family::Dpo, &plan.dpo),
            (Family::Kl, &plan.kl),
        ];
        let from = &ends.before;
        for (family, strength) in all.into_iter().flat_map(|(family, all)| all.iter().map(move |one| (family, *one))) {
            let label = format!("{name}/{} {strength}", family.name());
            let set = match family {
                Family::Replay => self.replayed(&label, base, set.clone(), strength),
                _ => set.clone(),
            };
            let anchor = match family {
                Family::L1 => Anchor::L1(strength),
                Family::L2 => Anchor::L2(strength),
                _ => Anchor::None,
            };
            let adapter = plan.lora.adapter(family, strength);
            let (settings, objective) = match family {
                Family::LoraMlp | Family::Lora => (&plan.lora.sft, Objective::Sft(examples(&from.model, &set.rows)?)),
                Family::Dpo => (&plan.preference, pairs(&from.model, &ends.pool, strength)?),
                Family::Kl => (&plan.preference, self.rollouts(&from.model, &ends.pool, strength)?),
                Family::Kd => (&plan.sft, Objective::Kd(examples(&from.model, &set.rows)?, Kd { lambda: strength })),
                _ => (&plan.sft, Objective::Sft(examples(&from.model, &set.rows)?)),
            };
            let step = Step { anchor, adapter, ..Step::new(&label, from, &set, settings) };
            trained.push((family, strength, train(self.lab, &self.trainer, step, objective).await?));
        }
        Ok(trained)
    }

    /// `set` with rows of pre-training mixed in, `share` times as many.
    fn replayed(&self, label: &str, base: &Base, set: TrainSet, share: f64) -> TrainSet {
        let n = (set.rows.len() as f64 * share).round() as usize;
        let mut stream = self.lab.seeds().stream(label, 0, 0);
        let old = base.rows.sample(&mut stream, n.min(base.rows.len())).cloned();
        let rows = set.rows.into_iter().chain(old).collect();
        TrainSet { name: label.to_owned(), rows, drawn_from: vec![base.dataset] }
    }

    /// The answers of θ₀ itself, which the first round drew, with what each gained over its prompt's others.
    fn rollouts(&self, model: &Lm, pool: &[Choice], kl: f64) -> Result<Objective> {
        let mut rollouts = Vec::new();
        for choice in pool.iter().take(self.plan.rsf.n_prompts as usize) {
            let rewards: Vec<f64> = choice.all.iter().map(|answer| answer.reward).collect();
            for (answer, advantage) in choice.all.iter().zip(tracker_lm::advantages(&rewards)) {
                let prompt = model.tokenizer().encode(&choice.prompt)?;
                let completion = completion_ids(model, &answer.text, answer.finish)?;
                rollouts.push(Rollout { prompt, completion, log_probs: vec![], advantage });
            }
        }
        let rollouts = scored(model, rollouts, self.lab.workers())?;
        Ok(Objective::Grpo(rollouts, Grpo { clip: CLIP, kl }))
    }
}

/// The best answer to each prompt against the worst, where they differ.
fn pairs(model: &Lm, pool: &[Choice], beta: f64) -> Result<Objective> {
    let differ = pool.iter().filter(|choice| choice.best.reward > choice.worst.reward);
    let pairs =
        differ.filter_map(|choice| pair(model, &choice.prompt, choice.best.said(), choice.worst.said()).transpose());
    Ok(Objective::Dpo(pairs.collect::<Result<_>>()?, Dpo { beta, smoothing: 0.0 }))
}

fn row(exercise: Exercise) -> TrainRow {
    TrainRow { prompt: exercise.prompt, completion: exercise.answer, finish: Finish::Stop, source: None }
}

impl LoraSettings {
    /// What a family of adapters trains at a rank; none for other families.
    fn adapter(&self, family: Family, rank: f64) -> Option<Lora> {
        let projections = match family {
            Family::LoraMlp => Projection::MLP.to_vec(),
            Family::Lora => [Projection::ATTENTION.as_slice(), &Projection::MLP].concat(),
            _ => return None,
        };
        Some(Lora { rank: rank as usize, alpha: self.scale * rank, projections })
    }
}
