//! Who votes on whether a statement says what its problem says: the embedded judge, or a model that is asked to.
//!
//! Source: Lin et al. 2025 (Goedel-Prover, arXiv 2502.07640), §3: four independent votes, FC = the share of appropriate.

use tracker_actors::Pool;
use tracker_proof::statement::Statement;
use tracker_store::{Content, NodeId, Tally};

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::author::{Draft, program};
use crate::parts::formalise::FormaliseSettings;
use crate::parts::generate::{Ask, Policy, draw};
use crate::parts::judge::{Ballot, Case, Judge};
use crate::parts::problems::Posed;
use crate::parts::prompt;

/// Who votes.
pub enum Jury {
    /// The embedded judge: it needs problems whose meaning is known.
    Embedded(Pool<Judge>),
    /// A model.
    Model(Policy),
}

/// The votes on one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    /// How many found it appropriate, of those that could be read.
    pub tally: Tally,
    /// Whether it says the same as its problem, where that is known.
    pub is_faithful: Option<bool>,
    /// The samples the votes were read from, if a model wrote them.
    pub samples: Vec<NodeId>,
}

impl Jury {
    /// Its node, recorded.
    ///
    /// # Errors
    /// Those of recording.
    pub async fn node(&self, lab: &Lab, settings: &FormaliseSettings) -> Result<NodeId> {
        match self {
            Self::Model(policy) => Ok(policy.node()),
            Self::Embedded(_) => program(lab, "judge", format!("n_assignments = {}", settings.n_assignments)).await,
        }
    }

    /// Votes on every draft, in order; none for a draft the judge cannot read. `posed` gives a draft's problem.
    ///
    /// # Errors
    /// Of the judge and of the store.
    pub async fn vote<'p>(
        &self,
        lab: &Lab,
        stage: &Stage<'_>,
        settings: &FormaliseSettings,
        drafts: &[&Draft],
        posed: impl Fn(&Draft) -> &'p Posed,
    ) -> Result<Vec<Option<Votes>>> {
        match self {
            Self::Embedded(judge) => embedded(lab, judge, settings, drafts, posed).await,
            Self::Model(policy) => model(lab, stage, policy, settings, drafts, posed).await,
        }
    }
}

async fn embedded<'p>(
    lab: &Lab,
    judge: &Pool<Judge>,
    settings: &FormaliseSettings,
    drafts: &[&Draft],
    posed: impl Fn(&Draft) -> &'p Posed,
) -> Result<Vec<Option<Votes>>> {
    let mut asked = Vec::new();
    let mut cases = Vec::new();
    for (i, draft) in drafts.iter().enumerate() {
        let Some(meaning) = posed(draft).meaning.clone() else { continue };
        // Lean may accept what is outside the fragment the judge reads; such a draft gets no votes.
        let Ok(statement) = Statement::parse(&draft.statement) else { continue };
        let seed = lab.seeds().seed("faithfulness", draft.item as u32, draft.k);
        asked.push(i);
        cases.push(Case { meaning, statement, seed });
    }
    let FormaliseSettings { n_votes, n_assignments, .. } = *settings;
    let judgements = judge.ask(Ballot { cases, n_votes, n_assignments }).await?;
    let mut votes = vec![None; drafts.len()];
    for (i, judgement) in asked.into_iter().zip(judgements) {
        let tally = Tally { hits: judgement.n_yes, of: n_votes };
        votes[i] = Some(Votes { tally, is_faithful: Some(judgement.is_faithful), samples: vec![] });
    }
    Ok(votes)
}

async fn model<'p>(
    lab: &Lab,
    stage: &Stage<'_>,
    policy: &Policy,
    settings: &FormaliseSettings,
    drafts: &[&Draft],
    posed: impl Fn(&Draft) -> &'p Posed,
) -> Result<Vec<Option<Votes>>> {
    let n_votes = settings.n_votes;
    let mut asks = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let problem = &posed(draft).problem;
        let item = draft.item as u32 * settings.n_samples + draft.k;
        asks.push(Ask {
            subject: problem.node()?,
            prompt: prompt::judge(&problem.text, &draft.statement),
            rows: (0..n_votes).map(|vote| stage.row(item, vote)).collect(),
        });
    }
    let samples = draw(lab, stage, policy, &asks, &settings.sampling("judge")).await?;
    let votes = asks.iter().zip(samples.chunks(n_votes.max(1) as usize)).map(|(ask, samples)| {
        let read: Vec<bool> = samples.iter().filter_map(|sample| read(&sample.text)).collect();
        let tally = Tally { hits: read.iter().filter(|yes| **yes).count() as u32, of: read.len() as u32 };
        let samples = ask.rows.iter().map(|row| NodeId::sample(*row)).collect();
        (tally.of > 0).then_some(Votes { tally, is_faithful: None, samples })
    });
    Ok(votes.collect())
}

/// The vote in a judge's answer: its last word of `appropriate` or `inappropriate`; none if it says neither.
fn read(text: &str) -> Option<bool> {
    let text = text.to_lowercase();
    let before = text[..text.rfind("appropriate")?].trim_end();
    Some(!before.ends_with("in") && !before.ends_with("not"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_judge_counts() {
        assert_eq!(read("It might seem Inappropriate, yet: **Appropriate**."), Some(true));
        assert_eq!(read("Judgement: Inappropriate"), Some(false));
        assert_eq!(read("This is not appropriate."), Some(false));
        assert_eq!(read("I cannot tell."), None);
    }
}
