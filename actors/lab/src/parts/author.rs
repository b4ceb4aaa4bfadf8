//! Who writes statements for problems in words: the embedded formaliser of a style, or a model that is asked to.

use tracker_store::{Content, Finish, NodeId, Program, Recording, Sample, Sampling};

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::formalise::{FormaliseSettings, Formaliser};
use crate::parts::generate::{Ask, Policy, draw};
use crate::parts::problems::Posed;
use crate::parts::prompt;

/// Who writes.
pub enum Author {
    /// The embedded formaliser: it needs problems whose meaning is known.
    Embedded,
    /// A model.
    Model(Policy),
}

/// One written statement.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its problem, by its place.
    pub item: usize,
    /// Which of the problem's.
    pub k: u32,
    /// The statement, without `:=`.
    pub statement: String,
}

/// Statements for some problems, in one style.
#[derive(Clone, Copy)]
pub struct Assignment<'a> {
    /// The run.
    pub lab: &'a Lab,
    /// Where what is written is recorded.
    pub stage: &'a Stage<'a>,
    /// How many, and how.
    pub settings: &'a FormaliseSettings,
    /// How premises are written.
    pub style: Formaliser,
}

impl Author {
    /// Its node, recorded.
    ///
    /// # Errors
    /// Those of recording.
    pub async fn node(&self, lab: &Lab, style: Formaliser, settings: &FormaliseSettings) -> Result<NodeId> {
        match self {
            Self::Model(policy) => Ok(policy.node()),
            Self::Embedded => {
                let told = format!("error_rate = {}", settings.error_rate);
                program(lab, &format!("formaliser-{}", style.name()), told).await
            }
        }
    }

    /// Writes `settings.n_samples` statements a problem and records them as samples. `first` is the place of the first of
    /// `posed`.
    ///
    /// # Errors
    /// Of the model and of the store.
    pub async fn write(
        &self,
        assignment: &Assignment<'_>,
        author: NodeId,
        first: usize,
        posed: &[Posed],
    ) -> Result<Vec<Draft>> {
        match self {
            Self::Embedded => assignment.embedded(author, first, posed).await,
            Self::Model(policy) => assignment.model(policy, first, posed).await,
        }
    }
}

impl Assignment<'_> {
    fn places(&self, first: usize, n: usize) -> impl Iterator<Item = (usize, u32)> {
        let n_samples = self.settings.n_samples;
        (first..first + n).flat_map(move |item| (0..n_samples).map(move |k| (item, k)))
    }

    async fn embedded(&self, author: NodeId, first: usize, posed: &[Posed]) -> Result<Vec<Draft>> {
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 0,
            stop: vec![],
            template: format!("style {}", self.style.name()),
        };
        let mut recording = Recording::new();
        recording.put(self.lab.run(), &sampling)?;
        let mut drafts = Vec::new();
        for (item, k) in self.places(first, posed.len()) {
            let posed = &posed[item - first];
            let Some(meaning) = &posed.meaning else { continue };
            let mut stream = self.lab.seeds().stream(self.stage.name(), item as u32, k);
            let text = self.style.write("t", meaning, self.settings.error_rate, &mut stream);
            let sample = Sample {
                subject: posed.problem.node()?,
                policy: author,
                sampling: sampling.digest()?,
                seed: self.stage.seed(item as u32, k),
                text: text.clone(),
                n_tokens: text.split_whitespace().count() as u32,
                sum_logprob: None,
                finish: Finish::Stop,
            };
            recording.put_sample(self.stage.row(item as u32, k), &sample)?;
            drafts.push(Draft { item, k, statement: text });
        }
        self.lab.record(recording).await?;
        Ok(drafts)
    }

    async fn model(&self, policy: &Policy, first: usize, posed: &[Posed]) -> Result<Vec<Draft>> {
        let sampling = self.settings.sampling(&format!("formalise {}", self.style.name()));
        let mut asks = Vec::with_capacity(posed.len());
        for (item, posed) in (first..).zip(posed) {
            asks.push(Ask {
                subject: posed.problem.node()?,
                prompt: prompt::formalise(self.settings.header(), self.style, &posed.problem.text),
                rows: (0..self.settings.n_samples).map(|k| self.stage.row(item as u32, k)).collect(),
            });
        }
        let samples = draw(self.lab, self.stage, policy, &asks, &sampling).await?;
        let places = self.places(first, posed.len());
        Ok(places
            .zip(samples)
            .map(|((item, k), sample)| Draft { item, k, statement: statement_in(&sample.text) })
            .collect())
    }
}

/// The theorem a model wrote, up to its `:=`; what has none is left as it is, and will not compile.
fn statement_in(text: &str) -> String {
    let code = prompt::last_fence(text).unwrap_or(text);
    tracker_proof::statement::split(code).map_or_else(|_| code.trim().to_owned(), |cut| cut.statement)
}

/// A program of this crate, recorded with what it was told.
///
/// # Errors
/// Those of recording.
pub(super) async fn program(lab: &Lab, name: &str, settings: String) -> Result<NodeId> {
    let program = Program { name: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), settings };
    let mut recording = Recording::new();
    let node = recording.put(lab.run(), &program)?;
    lab.record(recording).await?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_theorem_is_found_in_a_fence_and_cut_at_its_proof() {
        let text = "Here it is:\n```lean4\ntheorem t (x : ℝ) : x = x := by sorry\n```\nDone.";
        assert_eq!(statement_in(text), "theorem t (x : ℝ) : x = x");
        assert_eq!(statement_in("theorem t : True := by"), "theorem t : True");
        assert_eq!(statement_in("I cannot."), "I cannot.");
    }
}
