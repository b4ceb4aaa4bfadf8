//! Marks: a model behind an endpoint gives an answer a number from 0 to 100 for each of several attributes.

use tracker_store::{NodeId, Program, Recording};

use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::endpoint::EndpointSettings;
use crate::parts::generate::Policy;
use crate::parts::rate::{Case, Question, Said};
use crate::plan::require;

/// What a judge is asked unless a plan says otherwise.
pub const TEMPLATE: &str = "Rate the answer on each of these attributes from 0 to 100: {attributes}.\n\nPrompt:\n{prompt}\n\n\
    Answer:\n{answer}\n\nEnd with one line for each attribute, `ATTRIBUTE: N`.\n";

/// Refuses a template that leaves out what is to be judged; `key` is where it stands in the plan.
///
/// # Errors
/// `Value` naming the key.
pub fn check(key: &str, template: &str) -> Result<()> {
    let has_all = ["{attributes}", "{prompt}", "{answer}"].iter().all(|place| template.contains(place));
    require(has_all, key, "a text with `{attributes}`, `{prompt}` and `{answer}`", template)
}

/// A judge of attributes.
pub struct Marks {
    judge: Policy,
    attributes: Vec<String>,
    template: String,
    /// The record of the prompt, whose digest is that of template and attributes.
    pub prompt: NodeId,
}

impl Marks {
    /// A judge behind an endpoint, which must answer; what it is asked is recorded. `section` is where its settings stand.
    ///
    /// # Errors
    /// As [`Policy::endpoint`]; those of recording.
    pub async fn start(
        lab: &Lab,
        section: &str,
        settings: &EndpointSettings,
        attributes: &[String],
        template: &str,
    ) -> Result<Self> {
        let judge = Policy::endpoint(lab, section, settings).await?;
        let (attributes, template) = (attributes.to_vec(), template.to_owned());
        let text = template.replace("{attributes}", &attributes.join(", "));
        let mut recording = Recording::new();
        let prompt = recording
            .put(lab.run(), &Program { name: "rating prompt".into(), version: hash(&text), settings: text })?;
        lab.record(recording).await?;
        Ok(Self { judge, attributes, template, prompt })
    }

    /// Who judges.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.judge.node()
    }

    /// The marks of every answer, in the order of the attributes, each from 0 to 100.
    ///
    /// # Errors
    /// `Endpoint` if no answer of the judge has them all; those of the judge and of the store.
    pub async fn give(&self, lab: &Lab, stage: &Stage<'_>, cases: &[Case<'_>]) -> Result<Vec<Said<Vec<f64>>>> {
        let listed = self.attributes.join(", ");
        let asked = self.template.replace("{attributes}", &listed);
        // What is judged may hold a placeholder itself: it is put in last, and once.
        let prompt = |case: &Case<'_>| fill(&asked, case.prompt, case.answer);
        let question = Question {
            template: format!("marks {}", hash(&asked)),
            expected: format!("a line `ATTRIBUTE: N` with N from 0 to 100 for each of {listed}, at the end"),
        };
        question.put(lab, stage, &self.judge, cases, prompt, |text| read(&self.attributes, text)).await
    }
}

/// The first letters of a text's digest.
pub(super) fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// A template with its `{prompt}` and `{answer}`, neither of which is looked into.
pub(super) fn fill(template: &str, prompt: &str, answer: &str) -> String {
    let parts: Vec<String> = template.split("{prompt}").map(|part| part.replace("{answer}", answer)).collect();
    parts.join(prompt)
}

/// For each attribute the number of the last line that gives one; none unless all have one from 0 to 100.
fn read(attributes: &[String], text: &str) -> Option<Vec<f64>> {
    let of = |attribute: &String| {
        let given = text.lines().rev().find_map(|line| {
            let (name, number) = line.rsplit_once(':')?;
            let is_it = plain(name).eq_ignore_ascii_case(attribute);
            let number = number.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '`' | '.'));
            is_it.then(|| number.strip_suffix("/100").unwrap_or(number).trim().parse::<f64>().ok())
        });
        given.flatten().filter(|mark| (0.0..=100.0).contains(mark))
    };
    attributes.iter().map(of).collect()
}

/// Without the signs that lists and stresses are written with.
fn plain(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '`' | '-' | '#' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attribute_has_its_last_line_or_there_are_no_marks() {
        let names = ["helpfulness".to_owned(), "verbosity".to_owned()];
        for (text, marks) in [
            ("helpfulness: 70\nverbosity: 12.5", Some(vec![70.0, 12.5])),
            ("It is long.\n- **Verbosity**: 100/100\n- **Helpfulness**: 0.", Some(vec![0.0, 100.0])),
            ("verbosity: 3\nhelpfulness: 70\nverbosity: 12", Some(vec![70.0, 12.0])),
            ("helpfulness: 70", None),
            ("helpfulness: 70\nverbosity: 101", None),
            ("helpfulness: 70\nverbosity: -1", None),
            ("helpfulness: 70\nverbosity: much", None),
            ("unhelpfulness: 70\nverbosity: 1", None),
            ("helpfulness: NaN\nverbosity: 1", None),
            ("", None),
        ] {
            assert_eq!(read(&names, text), marks, "{text:?}");
        }
    }

    #[test]
    fn what_is_judged_is_not_looked_into() {
        assert_eq!(fill("p {prompt} a {answer}", "{answer}", "{prompt}"), "p {answer} a {prompt}");
    }
}
