//! Directional preference alignment: what is wanted is a direction in a space of rewards, said to the policy in its prompt.
//!
//! Paper: Wang et al. 2024, "Arithmetic Control of LLMs for Diverse User Preferences" (arXiv 2402.18571).
//!
//! Scaled down: prompts that list facts and ask for some of them, so that recall, made-up words and length can be counted, in
//! place of `UltraFeedback`; a model of some hundred thousand parameters, taught to answer in many ways, in place of Mistral-7B;
//! four attributes, rated noisily and half of them missing, in place of ten. Kept: a linear head for all attributes with
//! missing ratings masked; a recorded linear map from attributes to helpfulness and verbosity; directions (cos θ, sin θ) with θ
//! evenly from −45° to 45°, said as round(100 cos θ) and round(100 sin θ); a warm-up from offline answers; rounds of best of 16
//! along sampled directions. Besides: the true objectives beside the reward model's, and the best answers there are.
//!
//! Claims tested: the front of the last round has more volume than that of the warm-up, by the reward model and by the truth,
//! and by the truth as much; verbosity follows the direction; DPA is worth more than SFT and DPO in each direction, and more
//! than the best of `SteerLM`, MORLHF and rewarded soups on average.

mod answers;
mod baselines;
mod check;
mod claims;
mod defaults;
mod labels;
mod measure;
mod rounds;
mod ruler;
mod settings;
mod wish;
mod world;

use tracker_lm::Lm;
use tracker_store::{Claim, Finish};

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::facts::tokenizer;
use crate::parts::generate::Policy;
use crate::parts::model::load;
use crate::parts::reward::Fitter;
use crate::parts::train::{Step, TrainRow, TrainSet, Trained, Trainer, adopt, sft};
use crate::study::Study;

use claims::Evidence;
use measure::{measure, measure_policy};
use rounds::offline;
use ruler::Ruler;
pub use settings::{
    BaselineSettings, DataSettings, DirectionSettings, Dpa, LanguageSettings, MeasureSettings, ModelSettings,
    PretrainSettings, Rater, RatingFormat, RewardSettings, RsfSettings, Split, Start,
};
use wish::Wish;
use world::World;

impl Study for Dpa {
    const NAME: &'static str = "dpa";
    const PAPER: &'static str = "arXiv 2402.18571";
    const ABOUT: &'static str = "preferences as directions of several rewards; fronts by round, control";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let trainer = Trainer::start(lab.actors(), lab.workers())?;
        let fitter = Fitter::start(lab.actors(), lab.workers())?;
        if self.endpoint.is_given() {
            return self.served(lab).await;
        }
        let loaded = match self.models.policy.as_str() {
            "" => None,
            folder => Some(load(lab, folder)?),
        };
        let mut world = World::open(lab, self, loaded.as_ref()).await?;
        let base = self.base(&world, &trainer, loaded).await?;

        // Who says what answers are worth.
        let ruler = match self.reward.by {
            Rater::Endpoint => Ruler::endpoint(&world).await?,
            Rater::Model => {
                let n = [self.reward.n_prompts, self.reward.n_answers];
                let rated = if world.has_gold() {
                    Some(offline(&world, &base, "ratings", n, &self.reward.temperatures).await?)
                } else {
                    None
                };
                Ruler::model(lab, labels::reward_model(&world, &fitter, &base, rated.as_ref()).await?)?
            }
        };
        let judge = ruler.node();
        world.ruler = Some(ruler);

        // Warm-up and rounds.
        let pool = offline(&world, &base, "offline", [self.rsf.n_warm_up, self.rsf.n_offline], &[self.rsf.temperature])
            .await?;
        labels::inspect(&world, judge, &pool).await?;
        let wishes: Vec<Wish> = self.measured()?.into_iter().map(Wish::Along).collect();
        let mut policy = rounds::warm_up(&world, &trainer, &base, &pool).await?;
        let mut measured = vec![measure(&world, "round 0", &policy, &wishes).await?];
        for nth in 1..=self.rsf.rounds {
            policy = rounds::round(&world, &trainer, &base, &policy, nth).await?;
            measured.push(measure(&world, &format!("round {nth}"), &policy, &wishes).await?);
        }

        let methods = baselines::baselines(&world, &trainer, &base, &pool).await?;
        claims::claims(&world, Evidence { rounds: &measured, methods: &methods }).await
    }
}

impl Dpa {
    /// The study of a policy behind an endpoint, which was taught directions elsewhere: what it says under them, the best of
    /// it, and whether it does as it is told.
    async fn served(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let policy = Policy::endpoint(lab, "endpoint", &self.endpoint).await?;
        let mut world = World::open(lab, self, None).await?;
        world.ruler = Some(match self.reward.by {
            Rater::Endpoint => Ruler::endpoint(&world).await?,
            Rater::Model => Ruler::model(lab, labels::folder(&world).await?)?,
        });
        rounds::served(&world, &policy).await?;
        let wishes: Vec<Wish> = self.measured()?.into_iter().map(Wish::Along).collect();
        let measured = [measure_policy(&world, "round 0", &policy, &wishes).await?];
        claims::claims(&world, Evidence { rounds: &measured, methods: &[] }).await
    }

    /// The model of the plan's folder, or a small one that was taught to answer in many ways.
    async fn base(
        &self,
        world: &World<'_>,
        trainer: &tracker_actors::Pool<Trainer>,
        loaded: Option<Lm>,
    ) -> Result<Trained> {
        let lab = world.lab;
        if let Some(model) = loaded {
            return adopt(lab, "base", model).await;
        }
        let questions = world.fresh("pretrain", self.pretrain.n_prompts).await?;
        let mut stream = lab.seeds().stream("pretrain/errors", 0, 0);
        let row = |question: world::Question| {
            let facts = question.facts?;
            let completion = facts.erring(self.pretrain.error_rate, &mut stream);
            Some(TrainRow { prompt: question.text, completion, finish: Finish::Stop, source: Some(question.node) })
        };
        let set = TrainSet {
            name: "answers".into(),
            rows: questions.into_iter().filter_map(row).collect(),
            drawn_from: vec![],
        };
        let model = self.policy.init(lab, tokenizer(&world::WORDS)?)?;
        sft(lab, trainer, Step::first("base", &model, &set, &self.pretrain.sft)).await
    }
}
