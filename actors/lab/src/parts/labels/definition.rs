//! What makes labels the labels they are: the estimator and where its counts come from, as a content that is named by its
//! digest. Two label sets of one name with different definitions have different scorers.

use std::collections::BTreeMap;

use tracker_store::{NodeId, Program, Reward, Tally};

use super::Estimator;
use crate::error::{Error, Result};

/// The kind of the rewards that are labels of steps.
const NAME: &str = "step labels";
/// Changes when the same definition gives other labels.
const VERSION: &str = "1";

/// The definition of a label set.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// How labels follow from counts.
    pub estimator: Estimator,
    /// What the counts rest on, in words or digests: `splitter`, `grader`, `policy`, `n_completions`, `sampling`.
    pub counts: BTreeMap<String, String>,
}

impl Definition {
    /// What rewards of this kind are called.
    pub const KIND: &'static str = "step";

    /// A definition without a word about its counts.
    #[must_use]
    pub fn new(estimator: Estimator) -> Self {
        Self { estimator, counts: BTreeMap::new() }
    }

    /// The same with one more fact about its counts.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.counts.insert(key.to_owned(), value.into());
        self
    }

    /// The same counts under another estimator.
    #[must_use]
    pub fn under(&self, estimator: Estimator) -> Self {
        Self { estimator, counts: self.counts.clone() }
    }

    /// The labels of a trajectory's steps as they are recorded, with their counts: one of each a step, the last of the
    /// trajectory itself; of an outcome label that one alone. `scorer` is the node of [`Definition::program`].
    ///
    /// # Errors
    /// Those of [`Estimator::label_steps`].
    pub fn reward(&self, scorer: NodeId, tallies: &[Tally]) -> Result<Reward> {
        let labels = self.estimator.label_steps(tallies)?;
        let there = labels.into_iter().zip(tallies).filter_map(|(label, tally)| Some((label?, *tally)));
        let (values, tallies) = there.unzip();
        let kind = if self.estimator == Estimator::Outcome { "outcome" } else { Self::KIND };
        Ok(Reward { scorer, kind: kind.to_owned(), values, tallies })
    }

    /// As it is recorded: the scorer of its labels.
    #[must_use]
    pub fn program(&self) -> Program {
        let mut settings = toml::Table::new();
        settings.insert("estimator".into(), self.estimator.name().into());
        if let Some(eta) = self.estimator.eta() {
            settings.insert("eta".into(), eta.into());
        }
        let counts: toml::Table = self.counts.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        settings.insert("counts".into(), counts.into());
        Program { name: NAME.into(), version: VERSION.into(), settings: settings.to_string() }
    }

    /// Reads a recorded one; `None` if the program is no definition of labels.
    ///
    /// # Errors
    /// `Input` if it is one this build cannot read.
    pub fn of(program: &Program) -> Result<Option<Self>> {
        if program.name != NAME {
            return Ok(None);
        }
        let read = || -> std::result::Result<Self, String> {
            if program.version != VERSION {
                return Err(format!("expected version `{VERSION}`, got `{}`", program.version));
            }
            let settings: toml::Table = program.settings.parse().map_err(|error| format!("{error}"))?;
            let name = settings.get("estimator").and_then(toml::Value::as_str).ok_or("it names no `estimator`")?;
            let eta = settings.get("eta").and_then(toml::Value::as_float);
            let estimator = Estimator::of(name, eta).map_err(|error| error.to_string())?;
            let counts = settings.get("counts").and_then(toml::Value::as_table).cloned().unwrap_or_default();
            let text = |value: toml::Value| value.as_str().map(str::to_owned).ok_or("its counts are not texts");
            let counts = counts.into_iter().map(|(key, value)| Ok::<_, &str>((key, text(value)?)));
            Ok(Self { estimator, counts: counts.collect::<std::result::Result<_, _>>()? })
        };
        read().map(Some).map_err(|what| Error::Input {
            what: format!("a definition of step labels cannot be read: {what}"),
            hint: Some("a newer build may have recorded it".into()),
        })
    }
}

/// The one scorer of rewards that go by one name: labels to train on, scores to rank by.
///
/// # Errors
/// `Input` naming both, if two scorers gave some: what goes by one name is then not one thing. `Value` if there is no reward.
pub fn one_scorer<'a>(rewards: impl IntoIterator<Item = &'a Reward>) -> Result<NodeId> {
    let mut rewards = rewards.into_iter();
    let none = || Error::Value { key: "rewards".into(), message: "expected at least one, got none".into() };
    let first = rewards.next().ok_or_else(none)?;
    match rewards.find(|reward| reward.scorer != first.scorer || reward.kind != first.kind) {
        None => Ok(first.scorer),
        Some(other) => Err(Error::Input {
            what: format!(
                "expected rewards of one definition, got `{}` by {} and `{}` by {}",
                first.kind, first.scorer, other.kind, other.scorer
            ),
            hint: Some("`tracker show` says what each is; choose one".into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_store::Content as _;

    #[test]
    fn rewards_of_one_name_and_two_definitions_are_refused() {
        let reward = |estimator| {
            let definition = Definition::new(estimator);
            definition
                .reward(definition.program().node().unwrap(), &[Tally { hits: 1, of: 4 }, Tally { hits: 1, of: 1 }])
                .unwrap()
        };
        let (soft, er) = (reward(Estimator::Soft), reward(Estimator::Entropic(1.0)));
        assert_eq!((soft.kind.as_str(), soft.values.as_slice()), ("step", [0.25, 1.0].as_slice()));
        assert_eq!(one_scorer([&soft, &soft]).unwrap(), soft.scorer);
        let error = one_scorer([&soft, &er]).unwrap_err().to_string();
        assert!(error.contains(&soft.scorer.to_string()) && error.contains(&er.scorer.to_string()), "{error}");
        assert!(one_scorer([]).is_err());
        let outcome = reward(Estimator::Outcome);
        assert_eq!((outcome.kind.as_str(), outcome.values.as_slice()), ("outcome", [1.0].as_slice()));
        assert!(one_scorer([&outcome, &soft]).is_err());
    }

    #[test]
    fn a_definition_reads_back_and_every_part_of_it_is_in_its_digest() {
        let base = Definition::new(Estimator::Entropic(5.0)).with("grader", "mod 10").with("n_completions", "16");
        let others = [
            base.under(Estimator::Entropic(f64::NEG_INFINITY)),
            base.under(Estimator::Entropic(-0.5)),
            base.under(Estimator::Soft),
            base.clone().with("grader", "mod 11"),
            base.clone().with("splitter", "\n"),
        ];
        let mut digests = std::collections::BTreeSet::from([base.program().digest().unwrap()]);
        for other in &others {
            assert!(digests.insert(other.program().digest().unwrap()), "{other:?}");
            assert_eq!(Definition::of(&other.program()).unwrap().as_ref(), Some(other));
        }
        let other = Program { name: "judge".into(), ..base.program() };
        assert_eq!(Definition::of(&other).unwrap(), None);
        for (version, settings) in
            [("2", base.program().settings), ("1", "estimator = \"er\"".into()), ("1", "x".into())]
        {
            let wrong = Program { name: NAME.into(), version: version.into(), settings };
            assert!(Definition::of(&wrong).is_err(), "{wrong:?}");
        }
    }
}
