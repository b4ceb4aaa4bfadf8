//! Entropy-regularised process rewards: labels of steps from completions of the policy itself, softened by an entropy.
//!
//! Paper: Zhang et al. 2024, "Entropy-Regularized Process Reward Model" (arXiv 2412.11006).
//!
//! Scaled down: chains of modular arithmetic, whose every step can be checked, in place of GSM8K and MATH; a model of some
//! hundred thousand parameters, tuned on solutions of somebody who guesses at times and marks it, in place of Mistral-7B; reward models that start where it
//! did in place of Llama-3.1-8B. Kept: K completions of every prefix at temperature 1; ORM, hard, soft and entropic labels; a head
//! that reads two tokens' logits at the end of each step; best of n under every aggregator; rejection sampling (RAFT) on
//! the worst step's score. Besides: a policy that can be enumerated as the oracle, and where the first error is.
//!
//! Claims tested: entropic labels beat soft, hard and outcome labels in best of n and in RAFT. And one the paper does not
//! make: ranked by their own labels, solutions have one winner whatever η under min and last, so that a gain can only come
//! from a model fitted to the labels.

mod check;
mod claims;
mod defaults;
mod files;
mod oracle;
mod prm;
mod raft;
mod search;
mod settings;
mod world;

use tracker_actors::Pool;
use tracker_store::{Claim, Finish, NodeId};

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::chains::{Chain, tokenizer};
use crate::parts::endpoint::Verdicts;
use crate::parts::evaluate::Estimate;
use crate::parts::generate::Policy;
use crate::parts::labels::Estimator;
use crate::parts::record::record_members;
use crate::parts::reward::{Fitter, Scorer};
use crate::parts::train::{Step, TrainRow, TrainSet, Trained, Trainer, sft};
use crate::study::Study;

use claims::Evidence;
use prm::LabelSet;
use search::{Chooser, Scored};
pub use settings::{
    BaseSettings, DataSettings, ErPrm, LabelSettings, PolicySettings, PrmSettings, ProblemSettings, RaftSettings,
    RolloutSettings, SearchSettings,
};
use world::{Asking, Reading, Task, World};

impl Study for ErPrm {
    const NAME: &'static str = "er_prm";
    const PAPER: &'static str = "arXiv 2412.11006";
    const ABOUT: &'static str = "process rewards from completions, entropy-regularised; best of n, RAFT";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        let fitter = Fitter::start(lab.actors(), lab.workers())?;
        let scorer = Scorer::start(lab.actors(), lab.workers())?;
        let shown = oracle::oracle(lab, self).await?;
        let Start { mut world, base, policy, pupil, judge } = self.start(lab, &trainer).await?;
        let [plus, minus] = &self.prm.verdicts;
        let step =
            format!("after a step, the share of `{plus}` in a softmax over the logits of `{plus}` and `{minus}` alone");
        lab.define("step", &step).await?;

        // Labels.
        let RolloutSettings { n_trajectories, temperature, .. } = self.rollouts;
        let sets = if let (Some(policy), true) = (&policy, self.data.labels.is_empty()) {
            let asking = Asking { stage: "trajectories", n: n_trajectories, temperature };
            let solutions = world.solve(policy, asking, &world.train).await?;
            let counted = world.count(policy, &world.train, &solutions).await?;
            prm::label(&world, policy.node(), &solutions, &counted).await?
        } else {
            files::labels(&world).await?
        };
        let alike = self.rank_alike(&world, &sets).await?;

        // Reward models and what they choose.
        let candidates = if let (Some(policy), true) = (&policy, self.data.candidates.is_empty()) {
            let asking = Asking { stage: "candidates", n: self.search.n_candidates, temperature };
            world.solve(policy, asking, &world.test).await?
        } else {
            files::candidates(&mut world).await?
        };
        let grades = candidates.iter().flatten().map(|solution| solution.grade);
        let texts: Vec<&str> = candidates.iter().flatten().map(|solution| solution.text.as_str()).collect();
        let drawn = record_members(lab, "candidates", "results", &texts.join("\n"), grades).await?;
        let used: Vec<NodeId> = [world.benchmark, drawn].into_iter().chain(policy.iter().map(Policy::node)).collect();
        search::without_scores(&world, &candidates, &used).await?;
        let (mut judges, mut found) = (Vec::new(), Vec::new());
        for set in &sets {
            let Some(base) = &base else { break };
            let of_set = prm::train(lab, self, &fitter, base, set).await?;
            let mut scores = Vec::with_capacity(of_set.len());
            for judge in &of_set {
                scores.push(prm::score(lab, &scorer, judge, &candidates).await?);
            }
            let nodes = of_set.iter().map(|judge| judge.node).collect();
            let scored = Scored { by: Chooser::Labels(set.estimator), drawn, judges: nodes, scores };
            found.extend(search::search(&world, &candidates, &scored).await?);
            search::localise(&world, &candidates, &scored).await?;
            judges.push((set.estimator, of_set));
        }
        if let Some(judge) = &judge {
            let scores = vec![prm::ask(&world, judge, &world.test, &candidates).await?];
            let scored = Scored { by: Chooser::Served, drawn, judges: vec![judge.node()], scores };
            found.extend(search::search(&world, &candidates, &scored).await?);
        }

        // Rejection sampling.
        let before = match &policy {
            Some(policy) if self.data.candidates.is_empty() => raft::measure(&world, "policy", policy).await?,
            _ => None,
        };
        let mut after = Vec::new();
        for at in self.choosers()? {
            // The reward model of the first repeat.
            let (Some((estimator, of_set)), Some(pupil)) = (judges.get(at), &pupil) else { continue };
            let Some(judge) = of_set.first() else { continue };
            if let Some(measured) = raft::raft(&world, &trainer, &scorer, pupil, *estimator, judge).await? {
                after.push((*estimator, measured));
            }
        }
        let entropic = self.estimators()?[self.entropic()?];
        let evidence =
            Evidence { shown: &shown, alike, found: &found, entropic, before: before.as_ref(), after: &after };
        claims::claims(&world, &evidence).await
    }
}

/// What a run starts with.
struct Start<'a> {
    world: World<'a>,
    /// What reward models start from, if any are to be trained.
    base: Option<Trained>,
    /// Who writes solutions, unless all are given.
    policy: Option<Policy>,
    /// It as a model that can be trained, if it is one.
    pupil: Option<Trained>,
    /// A reward model behind an endpoint, if one is asked.
    judge: Option<Verdicts>,
}

impl ErPrm {
    /// Problems, the model that reward models start from, and a policy: given ones, or small ones made here.
    async fn start<'a>(&'a self, lab: &'a Lab, trainer: &Pool<Trainer>) -> Result<Start<'a>> {
        if self.is_of_files() {
            return files::start(lab, self).await;
        }
        let tokenizer = tokenizer(&self.prm.verdicts.each_ref().map(String::as_str))?;
        let model = self.model.init(lab, tokenizer)?;
        let reading = Some(Reading { model: model.clone(), tag: String::new() });
        let tasks = world::chains(lab, self).await?;
        let world = World::open(lab, self, reading, tasks).await?;

        let right = world.fresh("base", self.base.n_problems, 0).await?;
        let right = lessons("right solutions", &right, Chain::solution);
        let (mut stream, manner) = (lab.seeds().stream("policy/solutions", 0, 0), self.policy.manner());
        let guessing = world.fresh("policy", self.policy.n_problems, 0).await?;
        let guessing = lessons("solutions with guesses", &guessing, |chain| chain.solved(&manner, &mut stream));
        let base = sft(lab, trainer, Step::first("base", &model, &right, &self.base.sft)).await?;
        let pupil = sft(lab, trainer, Step::new("policy", &base, &guessing, &self.policy.sft)).await?;
        let policy = Some(world.policy(pupil.node, &pupil.model));
        Ok(Start { world, base: Some(base), policy, pupil: Some(pupil), judge: None })
    }

    /// In how many problems, over all η, another solution wins by entropic labels than by the shares they are made of; none
    /// if the shares are not known.
    async fn rank_alike(&self, world: &World<'_>, sets: &[LabelSet]) -> Result<Option<(usize, NodeId)>> {
        let Some(shares) = sets.iter().find(|set| set.estimator == Estimator::Soft && !set.labels.is_empty()) else {
            return Ok(None);
        };
        let mut n_other = 0;
        for set in sets.iter().filter(|set| set.estimator.eta().is_some()) {
            n_other += search::other_winners(&shares.labels, &set.labels)?;
        }
        let stage = world.lab.stage("labels alone", 1).await?;
        let other = Estimate::exactly(n_other as f64);
        let nodes = sets.iter().flat_map(|set| set.nodes.iter().copied());
        let of_labels = record_members(world.lab, "all labels", "labels", "", nodes).await?;
        let figure = stage.figure(0, "problems with another winner", other, world.train.len(), &[of_labels]).await?;
        Ok(Some((n_other, figure)))
    }
}

/// Problems to learn, each with a solution somebody wrote.
fn lessons(name: &str, tasks: &[Task], mut solution: impl FnMut(&Chain) -> String) -> TrainSet {
    let row = |task: &Task| {
        let completion = solution(task.chain.as_ref()?);
        Some(TrainRow { prompt: task.prompt.clone(), completion, finish: Finish::Stop, source: Some(task.node) })
    };
    TrainSet { name: name.to_owned(), rows: tasks.iter().filter_map(row).collect(), drawn_from: vec![] }
}
