//! Entropy-regularised process rewards: labels of steps from completions of the policy itself, softened by an entropy.
//!
//! Paper: Zhang et al. 2024, "Entropy-Regularized Process Reward Model" (arXiv 2412.11006).
//!
//! Scaled down: chains of modular arithmetic, whose every step can be checked, in place of GSM8K and MATH; a model of some
//! hundred thousand parameters, tuned on solutions of somebody who slips, in place of Mistral-7B; reward models that start where it
//! did in place of Llama-3.1-8B. Kept: K completions of every prefix at temperature 1; ORM, hard, soft and entropic labels; a head
//! that reads two tokens' logits at the end of each step; best of n under every aggregator; rejection sampling (RAFT) on
//! the worst step's score. Besides: a policy that can be enumerated as the oracle, and where the first error is.
//!
//! Claims tested: entropic labels beat soft, hard and outcome labels in best of n and in RAFT. And one the paper does not
//! make: ranked by their own labels, solutions have one winner whatever η under min and last, so that a gain can only come
//! from a model fitted to the labels.

mod claims;
mod oracle;
mod prm;
mod raft;
mod search;
mod settings;
mod world;

use tracker_actors::Pool;
use tracker_lm::Anchor;
use tracker_store::{Claim, Finish};

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::chains::tokenizer;
use crate::parts::evaluate::Estimate;
use crate::parts::labels::Estimator;
use crate::parts::record::record_members;
use crate::parts::reward::{Fitter, Scorer};
use crate::parts::train::{Step, TrainRow, TrainSet, Trained, Trainer, sft};
use crate::study::Study;

use claims::Evidence;
use search::Scored;
pub use settings::{
    BaseSettings, ErPrm, LabelSettings, PolicySettings, PrmSettings, ProblemSettings, RaftSettings, RolloutSettings,
    SearchSettings,
};
use world::{Asking, World};

impl Study for ErPrm {
    const NAME: &'static str = "er_prm";
    const PAPER: &'static str = "arXiv 2412.11006";
    const ABOUT: &'static str = "process rewards from completions, entropy-regularised; best of n, RAFT";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        let fitter = Fitter::start(lab.actors(), lab.workers())?;
        let scorer = Scorer::start(lab.actors(), lab.workers())?;
        let shown = oracle::oracle(lab, self).await?;
        let world = World::open(lab, self).await?;
        let [good, bad] = prm::VERDICTS;
        let step =
            format!("after a step, the share of `{good}` in a softmax over the logits of `{good}` and `{bad}` alone");
        lab.define("step", &step).await?;
        let [base, pupil] = self.pretrained(&world, &trainer).await?;
        let policy = world.policy(pupil.node, &pupil.model);

        // Labels.
        let RolloutSettings { n_trajectories, temperature, .. } = self.rollouts;
        let asking = Asking { stage: "trajectories", n: n_trajectories, temperature };
        let solutions = world.solve(&policy, asking, &world.train).await?;
        let counted = world.count(&policy, &world.train, &solutions).await?;
        let sets = prm::label(&world, pupil.node, &solutions, &counted).await?;
        let shares = sets.iter().find(|set| set.estimator == Estimator::Soft);
        let mut n_other = 0;
        for set in sets.iter().filter(|set| set.estimator.eta().is_some()) {
            n_other += shares.map_or(Ok(0), |shares| search::other_winners(&shares.labels, &set.labels))?;
        }
        let stage = lab.stage("labels alone", 1).await?;
        let other = Estimate::exactly(n_other as f64);
        let nodes = sets.iter().flat_map(|set| set.nodes.iter().copied());
        let of_labels = record_members(lab, "all labels", "labels", "", nodes).await?;
        let alike = stage.figure(0, "problems with another winner", other, world.train.len(), &[of_labels]).await?;

        // Reward models and what they choose.
        let asking = Asking { stage: "candidates", n: self.search.n_candidates, temperature };
        let candidates = world.solve(&policy, asking, &world.test).await?;
        let grades = candidates.iter().flatten().map(|solution| solution.grade);
        let texts: Vec<&str> = candidates.iter().flatten().map(|solution| solution.text.as_str()).collect();
        let drawn = record_members(lab, "candidates", "results", &texts.join("\n"), grades).await?;
        search::without_scores(&world, &candidates, &[world.benchmark, drawn, pupil.node]).await?;
        let (mut judges, mut scored, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for set in &sets {
            let of_set = prm::train(lab, self, &fitter, &base, set).await?;
            let mut scores = Vec::with_capacity(of_set.len());
            for judge in &of_set {
                scores.push(prm::score(lab, &scorer, judge, &candidates).await?);
            }
            let nodes = of_set.iter().map(|judge| judge.node).collect();
            let of_set_scored = Scored { estimator: set.estimator, drawn, judges: nodes, scores };
            found.extend(search::search(&world, &candidates, &of_set_scored).await?);
            search::localise(&world, &candidates, &of_set_scored).await?;
            judges.push(of_set);
            scored.push(of_set_scored);
        }

        // Rejection sampling.
        let before = raft::measure(&world, "policy", &pupil).await?;
        let mut after = Vec::new();
        for at in self.choosers()? {
            let Some((estimator, judge)) = raft::first(&judges, &scored, at) else { continue };
            if let Some(measured) = raft::raft(&world, &trainer, &scorer, &pupil, estimator, judge).await? {
                after.push((estimator, measured));
            }
        }
        let entropic = sets[self.entropic()?].estimator;
        let evidence =
            Evidence { shown: &shown, n_other, alike, found: &found, entropic, before: before.as_ref(), after: &after };
        claims::claims(&world, &evidence).await
    }
}

impl ErPrm {
    /// A small model that can do sums, and one that was then taught by somebody who slips.
    async fn pretrained(&self, world: &World<'_>, trainer: &Pool<Trainer>) -> Result<[Trained; 2]> {
        let lab = world.lab;
        let mut stream = lab.seeds().stream("policy/slips", 0, 0);
        let right = world.fresh("base", self.base.n_problems).await?;
        let right = lessons("right solutions", &right, world::Task::solution);
        let slipping = world.fresh("policy", self.policy.n_problems).await?;
        let slipping =
            lessons("slipping solutions", &slipping, |task| task.chain.slipping(self.policy.error_rate, &mut stream));
        let model = self.model.init(lab, tokenizer(&prm::VERDICTS)?)?;
        let start = Step {
            label: "base",
            from: None,
            model: &model,
            set: &right,
            settings: &self.base.sft,
            anchor: Anchor::None,
            adapter: None,
        };
        let base = sft(lab, trainer, start.clone()).await?;
        let step = Step {
            label: "policy",
            from: Some(&base),
            model: &base.model,
            set: &slipping,
            settings: &self.policy.sft,
            ..start
        };
        let policy = sft(lab, trainer, step).await?;
        Ok([base, policy])
    }
}

/// Problems to learn, each with a solution somebody wrote.
fn lessons(name: &str, tasks: &[world::Task], mut solution: impl FnMut(&world::Task) -> String) -> TrainSet {
    let row = |task: &world::Task| TrainRow {
        prompt: task.prompt.clone(),
        completion: solution(task),
        finish: Finish::Stop,
        source: Some(task.node),
    };
    TrainSet { name: name.to_owned(), rows: tasks.iter().map(row).collect(), drawn_from: vec![] }
}
