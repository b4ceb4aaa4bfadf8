//! What everything here works with: who reads and writes, the texts around questions, the rules that label, and what is asked.

use tracker_actors::Pool;
use tracker_store::{NodeId, Program, Recording, Reward, RowKey};

use super::items::Asked;
use super::settings::RTuning;
use super::world::Facts;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::bootstrap::Resampler;
use crate::parts::certainty::{Likelihood, Matcher, Template};
use crate::parts::generate::LocalGenerator;

/// Kinds of rewards.
pub(super) mod kind {
    /// Log-probabilities of the tokens of an answer, to its end.
    pub(in super::super) const TOKENS: &str = "answer log-probabilities";
    /// Log-probabilities of the letters of a choice.
    pub(in super::super) const LETTERS: &str = "letter log-probabilities";
    /// The confidence in an answer.
    pub(in super::super) const A: &str = "a";
    /// The same by how often samples agree, where probabilities are not told.
    pub(in super::super) const A_SAMPLED: &str = "a, sampled";
    /// How sure a model says it is, with the log-probabilities of both words.
    pub(in super::super) const S: &str = "s";
    /// The same by how often it says so, where probabilities are not told.
    pub(in super::super) const S_SAMPLED: &str = "s, sampled";
    /// Whether an answer is right.
    pub(in super::super) const RIGHT: &str = "right";
    /// Whether a question was refused.
    pub(in super::super) const REFUSED: &str = "refused";
    /// The entropy of samples.
    pub(in super::super) const ENTROPY: &str = "entropy";
}

/// What everything here works with.
pub(super) struct Room<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a RTuning,
    pub(super) template: Template,
    pub(super) generator: Pool<LocalGenerator>,
    pub(super) likelihood: Pool<Likelihood>,
    pub(super) asked: Asked,
    /// The small language's; nothing is known of files.
    pub(super) facts: Option<Facts>,
    /// The rules by which answers are compared, the deciding one first.
    pub(super) matchers: Vec<(Matcher, NodeId)>,
    /// The rule that says what is a refusal.
    pub(super) refuser: NodeId,
    /// The rule that labels by entropy.
    pub(super) entropy: NodeId,
}

impl<'a> Room<'a> {
    /// Starts who reads and writes, and records the rules.
    ///
    /// # Errors
    /// Those of starting pools and of recording.
    pub(super) async fn open(
        lab: &'a Lab,
        plan: &'a RTuning,
        template: Template,
        asked: Asked,
        facts: Option<Facts>,
    ) -> Result<Self> {
        let program = |name: &str, settings: String| Program { name: name.into(), version: "1".into(), settings };
        let mut recording = Recording::new();
        let mut matchers = Vec::new();
        for matcher in &plan.identify.matchers {
            matchers.push((*matcher, recording.put(lab.run(), &matcher.program())?));
        }
        let phrases = format!("sixteen phrases, {}; s at most 0.5", plan.measure.refusals.join(", "));
        let refuser = recording.put(lab.run(), &program("refusal", phrases))?;
        let identify = &plan.identify;
        let rule =
            format!("k = {}, temperature = {}, unknown = {}", identify.k, identify.temperature, identify.unknown);
        let entropy = recording.put(lab.run(), &program("answer entropy", rule))?;
        let texts = serde_json::to_string(&template).unwrap_or_default();
        recording.put(lab.run(), &program("template", texts))?;
        lab.record(recording).await?;
        Ok(Self {
            lab,
            plan,
            template,
            generator: LocalGenerator::start(lab.actors(), lab.workers())?,
            likelihood: Likelihood::start(lab.actors(), lab.workers())?,
            asked,
            facts,
            matchers,
            refuser,
            entropy,
        })
    }

    /// The matcher that decides, and its record.
    pub(super) fn matcher(&self) -> (Matcher, NodeId) {
        self.matchers.first().copied().unwrap_or((Matcher::Contains, self.refuser))
    }

    /// Draws questions anew: the same draws for all that is compared.
    ///
    /// # Errors
    /// As [`Resampler::of`].
    pub(super) fn resampler(&self) -> Result<Resampler> {
        Resampler::of(self.lab, "measure/resamples", self.plan.measure.n_resamples)
    }
}

/// The values of a reward that this run recorded, if it did.
///
/// # Errors
/// Those of the store.
pub(super) fn recorded(lab: &Lab, row: RowKey, scorer: NodeId, kind: &str) -> Result<Option<Vec<f64>>> {
    for reward in lab.store().rewards_on(row) {
        let (_, Reward { scorer: by, kind: of, values, .. }) = reward?;
        if by == scorer && of == kind {
            return Ok(Some(values));
        }
    }
    Ok(None)
}

/// A reward of one scorer, without trials.
pub(super) fn reward(scorer: NodeId, kind: &str, values: Vec<f64>) -> Reward {
    Reward { scorer, kind: kind.into(), values, tallies: vec![] }
}

/// 1 for yes, 0 for no.
pub(super) fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
