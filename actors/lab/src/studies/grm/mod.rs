//! Reward models that keep their language head: hidden states regularised by writing generalise better, and are harder to
//! over-optimise.
//!
//! Paper: Yang et al. 2024, "Regularizing Hidden States Enables Learning Generalizable Reward Model for LLMs"
//! (arXiv 2406.10216, `NeurIPS` 2024).
//!
//! Scaled down: text transformations with an exact score in place of chats and a gold reward model; a model of some ten
//! thousand parameters, pre-trained on answers that err, in place of gemma-2b-it; all weights trained in place of `LoRA`. Kept:
//! pairs of the policy's own answers, clean and with a quarter turned round; heads, losses, α and β of the paper and its
//! baselines; best of n to 405; PPO without a penalty, rewards standardised by the first batch. Out of distribution are two
//! operations, longer inputs and another format: pre-training had them, preferences had not.
//!
//! Not as in the paper: curves of best of n are exact means over subsets beside those of the first n; divergences of PPO are
//! estimated from answers drawn at temperature 1, which makes k1 unbiased.

mod claims;
mod files;
mod gold;
mod judges;
mod method;
mod pairs;
mod policy;
mod search;
mod settings;
mod world;

use tracker_store::{Claim, NodeId};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::answers::{Answer, Asked, Task};
use crate::parts::generate::Policy;
use crate::parts::model::load;
use crate::parts::record::record_members;
use crate::parts::reward::{Fitter, Scorer};
use crate::parts::train::{Step, TrainSet, Trained, Trainer, adopt, sft};
use crate::parts::transform::tokenizer;
use crate::study::Study;

use claims::Evidence;
use gold::Gold;
use judges::{Cell, Lessons, Questions, Trial, ensemble, judge};
use method::Method;
use pairs::{Preference, prefer};
use policy::Optimised;
use search::search;
pub use settings::{
    DataSettings, Grm, GrmHead, Judging, PairSettings, PpoSettings, PretrainingSettings, RmSettings, Rows,
    SearchSettings, TextSettings,
};
use world::{Held, World};

/// What a study starts from.
struct Given<'a> {
    world: World<'a>,
    base: Trained,
    /// Pairs to learn from, clean and with some turned round.
    sets: [Vec<Preference>; 2],
    questions: Questions,
    /// Answers to choose from, for each prompt; none of published data that nobody judges.
    candidates: Vec<Vec<Answer>>,
    /// The same as a dataset.
    drawn: NodeId,
}

impl Study for Grm {
    const NAME: &'static str = "grm";
    const PAPER: &'static str = "arXiv 2406.10216";
    const ABOUT: &'static str = "reward models regularised by their language head; best of n, PPO, over-optimisation";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let (fitter, scorer) =
            (Fitter::start(lab.actors(), lab.workers())?, Scorer::start(lab.actors(), lab.workers())?);
        let is_of_files = !self.data.base.is_empty();
        let given = if is_of_files { self.read(lab).await? } else { self.generated(lab).await? };
        let Given { world, base, sets: [clean, flipped], questions, candidates, drawn } = given;

        // Reward models, and what is best by them.
        let (grm, actors) = (self.grm()?, (&fitter, &scorer));
        let (mut cells, mut found): (Vec<Cell>, Vec<_>) = (Vec::new(), Vec::new());
        let sets = [(&clean, false), (&flipped, true)];
        for (pairs, is_flipped) in sets {
            for size in &self.pairs.sizes {
                let lessons = Lessons { pairs: &pairs[..*size as usize], is_flipped };
                let is_largest = *size as usize == self.n_pairs();
                let methods = if is_largest && !is_flipped { self.methods()? } else { vec![Method::Bt, grm] };
                for method in methods {
                    let is_searched = is_largest && !candidates.is_empty();
                    let cell = judge(&world, actors, &base, (&lessons, method), (&questions, is_searched)).await?;
                    if is_searched {
                        let keeps = [Method::Bt, grm].contains(&method);
                        found.push(search(&world, (&candidates, drawn), &cell, keeps).await?);
                    }
                    cells.push(cell);
                }
            }
        }
        let main = Lessons { pairs: &clean, is_flipped: false }.name();
        let of_main = |cells: &[Cell], method: Method| {
            cells.iter().position(|cell| cell.lessons == main && cell.method == method.name())
        };
        if let (Some(bt), true) = (of_main(&cells, Method::Bt), self.rm.ensemble > 0) {
            for is_min in [false, true] {
                let cell = ensemble(&world, &cells[bt], is_min, &questions).await?;
                if !candidates.is_empty() {
                    found.push(search(&world, (&candidates, drawn), &cell, false).await?);
                }
                cells.push(cell);
            }
        }

        // Policies optimised by the two.
        let mut policies: [Vec<Optimised>; 2] = [vec![], vec![]];
        for (method, optimised) in [Method::Bt, grm].into_iter().zip(&mut policies) {
            let Some(at) = of_main(&cells, method).filter(|_| !is_of_files) else { continue };
            let judges = cells[at].raters.iter().filter_map(|rater| rater.judge.as_ref());
            for (judge, repeat) in judges.zip(1..=self.ppo.repeats) {
                let name = (method.name(), repeat);
                optimised.push(policy::optimise(&world, actors, &base, name, judge).await?);
            }
        }

        let names = [
            main.clone(),
            Lessons { pairs: &flipped, is_flipped: true }.name(),
            Lessons { pairs: &clean[..self.pairs.sizes[0] as usize], is_flipped: false }.name(),
        ];
        let lessons = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
        let policies = [policies[0].as_slice(), policies[1].as_slice()];
        let evidence = Evidence { cells: &cells, found: &found, grm: grm.name(), lessons, policies };
        claims::claims(&world, &evidence).await
    }
}

impl Grm {
    /// A small model that was taught answers that err.
    async fn pretrained(&self, world: &World<'_>) -> Result<Trained> {
        let lab = world.lab;
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        let set = TrainSet { name: "answers".into(), rows: world.pretraining(), drawn_from: vec![] };
        let model = self.policy.init(lab, tokenizer()?)?;
        sft(lab, &trainer, Step::first("policy", &model, &set, &self.pretraining.sft)).await
    }

    /// Exercises, a model that answers them, and pairs of its answers.
    async fn generated<'a>(&'a self, lab: &'a Lab) -> Result<Given<'a>> {
        let world = World::open(lab, self).await?;
        let base = self.pretrained(&world).await?;
        let policy = world.policy(base.node, &base.model);
        // Some exercises have no two answers that differ.
        let n = self.n_pairs();
        let tasks = world.fresh("pairs", (n + n / 2) as u32).await?;
        let temperature = self.pairs.temperature;
        let answers = world.answers(&policy, ("answers/pairs", self.pairs.n_samples, temperature), &tasks).await?;
        let sets = self.preferences(&world, &tasks, &answers).await?;
        let mut trials = Vec::new();
        for (held, answers) in world.trials(&policy).await? {
            trials.push(Trial::new(&world, held, (&held.tasks, &answers), &[]).await?);
        }
        let asking = ("candidates", self.search.n_candidates, temperature);
        let candidates = world.answers(&policy, asking, &world.search.tasks).await?;
        let drawn = search::without_scores(&world, &candidates, base.node).await?;
        let questions = Questions { trials, candidates: Asked::new(candidates.iter().flatten()) };
        Ok(Given { world, base, sets, questions, candidates, drawn })
    }

    /// A checkpoint and published pairs.
    async fn read<'a>(&'a self, lab: &'a Lab) -> Result<Given<'a>> {
        // Whoever does not answer is found before any work.
        let gold = Gold::start(lab, self).await?;
        let writer = if self.endpoint.is_given() {
            Some(Policy::endpoint(lab, "endpoint", &self.endpoint).await?)
        } else {
            None
        };
        let base = adopt(lab, "base", load(lab, &self.data.base)?).await?;
        let mut world = World::of_files(lab, self).await?;
        let (learnt, held) = files::read(lab, &self.data, self.texts.n_test, &base.model).await?;
        let sets = self.preferences(&world, &learnt.tasks, &learnt.answers).await?;
        let mut trials = Vec::new();
        for (held, rated) in &held {
            trials.push(Trial::new(&world, held, (&rated.tasks, &rated.answers), &rated.subsets).await?);
        }
        let (mut candidates, mut drawn) = (vec![], world.search.node);
        if let (Some(gold), Some((_, rated))) = (gold, held.first()) {
            let n = (self.search.n_prompts as usize).min(rated.tasks.len());
            let tasks = rated.tasks[..n].to_vec();
            let prompts: Vec<&str> = tasks.iter().map(|task| task.exercise.prompt.as_str()).collect();
            let nodes = tasks.iter().map(|task| task.node);
            let node = record_members(lab, "search", "benchmark", &prompts.join("\n"), nodes).await?;
            world.search = Held { name: "search".into(), tasks, node };
            let writer = writer.unwrap_or_else(|| world.policy(base.node, &base.model));
            candidates = gold.candidates(&world, &writer, &base.model, &world.search.tasks).await?;
            drawn = search::without_scores(&world, &candidates, writer.node()).await?;
        }
        let questions = Questions { trials, candidates: Asked::new(candidates.iter().flatten()) };
        Ok(Given { world, base, sets, questions, candidates, drawn })
    }

    /// As many pairs as the largest set has: as they are, and with some turned round.
    async fn preferences(
        &self,
        world: &World<'_>,
        tasks: &[Task],
        answers: &[Vec<Answer>],
    ) -> Result<[Vec<Preference>; 2]> {
        let n = self.n_pairs();
        let mut both = [
            prefer(world, "pairs/clean", tasks, answers, 0.0).await?,
            prefer(world, "pairs/flipped", tasks, answers, self.pairs.flip_rate).await?,
        ];
        for pairs in &mut both {
            if pairs.len() < n {
                let what = format!("expected {n} pairs of answers that differ in score, found {}", pairs.len());
                let hint = Some("more answers (`pairs.n_samples`), or fewer pairs (`pairs.sizes`)".into());
                return Err(Error::Input { what, hint });
            }
            pairs.truncate(n);
        }
        Ok(both)
    }
}
