//! Rows: what a run computed, item by item.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, Slot};

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// At a stop token or text.
    Stop,
    /// At the most tokens allowed.
    Length,
    /// The endpoint held it back.
    Filtered,
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Filtered => "filtered",
        })
    }
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it answers: a statement or a problem.
    pub subject: NodeId,
    /// What wrote it: a checkpoint or an endpoint.
    pub policy: NodeId,
    /// How it was drawn: the digest of a [`Sampling`](super::Sampling).
    pub sampling: Digest,
    /// The seed of its random stream.
    pub seed: u64,
    /// Its text.
    pub text: String,
    /// Its length in tokens of the policy.
    pub n_tokens: u32,
    /// The sum of its tokens' log-probabilities under the untempered policy, in nats, if known.
    pub sum_logprob: Option<f64>,
    /// Why it ended.
    pub finish: Finish,
}

/// What a verifier said. The number of an outcome is stored and never changes; new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Positive, complete, pinned, its axioms checked.
    Proved,
    /// Checked, and wrong.
    Failed,
    /// It leaves a gap.
    Sorry,
    /// It rests on an axiom that is not allowed.
    BadAxiom,
    /// It proves something else.
    StatementMismatch,
    /// It uses what is forbidden.
    Forbidden,
    /// Time ran out.
    Timeout,
    /// Memory ran out.
    Oom,
    /// The verifier itself failed; says nothing of the sample.
    Infra,
    /// It cannot be read.
    Unparsed,
}

impl Outcome {
    /// Every outcome, in stored order.
    pub const ALL: [Self; 10] = [
        Self::Proved,
        Self::Failed,
        Self::Sorry,
        Self::BadAxiom,
        Self::StatementMismatch,
        Self::Forbidden,
        Self::Timeout,
        Self::Oom,
        Self::Infra,
        Self::Unparsed,
    ];

    /// Its name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Failed => "failed",
            Self::Sorry => "sorry",
            Self::BadAxiom => "bad_axiom",
            Self::StatementMismatch => "statement_mismatch",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::Infra => "infra",
            Self::Unparsed => "unparsed",
        }
    }

    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|outcome| outcome.name()).collect();
            Error::invalid("outcome", format!("one of {}", names.join(", ")), text)
        })
    }
}

/// What a piece of work cost. Never part of an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall time, in microseconds.
    pub wall_micros: u64,
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// The most memory it held, in bytes, if known.
    pub peak_rss_bytes: Option<u64>,
}

/// What a verifier said of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// The build of the verifier that gave it: the digest of a [`Verifier`](super::Verifier).
    pub verifier: Digest,
    /// The digest of the statement it checked against.
    pub statement: Digest,
    /// The first error, shortened; empty if there is none.
    pub message: String,
    /// The axioms the proof rests on.
    pub axioms: Vec<String>,
    /// Whether it was checked in a sandbox.
    pub sandboxed: bool,
    /// What checking cost.
    pub cost: Cost,
}

impl Verdict {
    /// Which of its sample's verdicts it is.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of(&self.verifier)
    }
}

/// How many of a number of trials hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many hit.
    pub hits: u32,
    /// How many there were.
    pub of: u32,
}

/// What a scorer gave a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Who gave it: a checkpoint, an endpoint, a verifier.
    pub scorer: NodeId,
    /// What the values are: `outcome`, `step`, the names of attributes.
    pub kind: String,
    /// The values, all finite: one, one a step, or one an attribute.
    pub values: Vec<f64>,
    /// The trials behind each value, where values are estimates from trials; else empty.
    pub tallies: Vec<Tally>,
}

impl Reward {
    /// Which of its sample's rewards it is.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Self::slot_of(&self.scorer, &self.kind)
    }

    /// The slot of the rewards of this kind by this scorer.
    #[must_use]
    pub fn slot_of(scorer: &NodeId, kind: &str) -> Slot {
        let mut bytes = Vec::with_capacity(40 + kind.len());
        scorer.write_local(&mut bytes);
        bytes.extend_from_slice(kind.as_bytes());
        Slot::of(&Digest::of(&bytes))
    }
}

/// Which of several samples was chosen, and by what rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The samples there were to choose from, each once, in the order in which ties are broken.
    pub candidates: Vec<NodeId>,
    /// What each was ranked by, all finite; empty if nothing but the rule decided.
    pub scores: Vec<f64>,
    /// How: `best of 16 by min`, `direction -15`, `majority`.
    pub rule: String,
    /// Which of equal candidates wins: `first`.
    pub ties: String,
    /// The place of the chosen one among the candidates, from 0.
    pub chosen: u32,
    /// Whose rewards the rule reads, if it reads any.
    pub scorer: Option<NodeId>,
}

impl Selection {
    /// The chosen sample; `None` if the selection is not sound.
    #[must_use]
    pub fn winner(&self) -> Option<NodeId> {
        self.candidates.get(self.chosen as usize).copied()
    }

    /// The score of the chosen sample less the best of the others'; `None` where there are no scores, or no others.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        let own = self.scores.get(self.chosen as usize)?;
        let others = self.scores.iter().enumerate().filter(|(at, _)| *at != self.chosen as usize);
        others.map(|(_, score)| *score).reduce(f64::max).map(|best| own - best)
    }

    /// # Errors
    /// `Invalid`, with what does not agree.
    pub(crate) fn check(&self) -> Result<()> {
        if self.rule.is_empty() || self.ties.is_empty() {
            let got = format!("`{}` and `{}`", self.rule, self.ties);
            return Err(Error::invalid("a selection", "a rule and a tie rule", got));
        }
        if let Some(other) = self.candidates.iter().find(|node| node.kind() != Kind::Sample) {
            return Err(Error::invalid("the candidates of a selection", "samples", other));
        }
        if self.candidates.iter().collect::<BTreeSet<_>>().len() != self.candidates.len() {
            return Err(Error::invalid("the candidates of a selection", "each sample once", "one of them twice"));
        }
        if self.winner().is_none() {
            let expected = format!("a place among the `{}` candidates", self.candidates.len());
            return Err(Error::invalid("the chosen one of a selection", expected, self.chosen));
        }
        let n_scores = self.scores.len();
        if n_scores != 0 && n_scores != self.candidates.len() {
            let expected = format!("as many as candidates (`{}`), or none", self.candidates.len());
            return Err(Error::invalid("the scores of a selection", expected, n_scores));
        }
        if let Some(score) = self.scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::invalid("the scores of a selection", "finite numbers", score));
        }
        Ok(())
    }
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name: `pass@16`.
    pub name: String,
    /// The number.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// How many things it was measured on.
    pub n: u64,
    /// Its unit; empty for a share or a count.
    pub unit: String,
    /// What it was measured on: `benchmark`, `train`.
    pub split: String,
}

/// A statement of a study with what the run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Its short name, unique in the run.
    pub id: String,
    /// What it says.
    pub statement: String,
    /// Whether it holds.
    pub holds: bool,
    /// The number that decides.
    pub value: f64,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// What the number is held against.
    pub bound: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_read_back_by_name_and_json_agrees() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.name().parse::<Outcome>().unwrap(), outcome);
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
        assert!("Proved".parse::<Outcome>().is_err());
    }
}
