//! Rows of process rewards: ER-PRM's training rows, completions of prefixes, candidates of best-of-n tests, problems.

use serde_json::Value;

use super::fields::{number, within};
use super::{Fault, Fields, Format};

/// ER-PRM's training rows: `{"text": "… step ки\n step ки", "value": [0.62, …]}`.
#[derive(Clone, Debug)]
pub struct ErPrm {
    /// What stands after each step.
    pub tag: String,
}

impl Default for ErPrm {
    fn default() -> Self {
        Self { tag: "ки".into() }
    }
}

/// A solution with a label for each of its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepValues {
    /// Its id.
    pub id: String,
    /// Its steps, each with the tag that ends it; what follows the last tag has no label.
    pub steps: Vec<String>,
    /// The label of each step, in [0, 1].
    pub values: Vec<f64>,
}

impl Format for ErPrm {
    const NAME: &'static str = "ER-PRM";
    type Row = StepValues;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<StepValues, Fault> {
        let text = fields.text("text")?;
        let values = fields.shares("value")?;
        let mut steps: Vec<String> = text.split_inclusive(self.tag.as_str()).map(str::to_owned).collect();
        steps.retain(|step| step.ends_with(self.tag.as_str()));
        if let Some(at) = steps.iter().position(|step| step.trim_end_matches(self.tag.as_str()).trim().is_empty()) {
            return Err(
                fields.fault("text", format!("expected a step before each `{}`, got none in step {at}", self.tag))
            );
        }
        if steps.len() != values.len() {
            let what = format!(
                "expected as many labels as steps end in `{}` ({}), got {}",
                self.tag,
                steps.len(),
                values.len()
            );
            return Err(fields.fault("value", what));
        }
        Ok(StepValues { id, steps, values })
    }
}

/// Completions of a prefix: `{"prompt": prefix, "completions": ["…"]}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Completions {
    /// How many there must be, if that is known: 16 in ER-PRM.
    pub n_completions: Option<usize>,
}

/// A prefix with what was drawn from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionsOf {
    /// Its id.
    pub id: String,
    /// The prefix.
    pub prompt: String,
    /// What followed it.
    pub completions: Vec<String>,
}

impl Format for Completions {
    const NAME: &'static str = "completions";
    type Row = CompletionsOf;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<CompletionsOf, Fault> {
        let (prompt, completions) = (fields.text("prompt")?, fields.texts("completions")?);
        if let Some(n) = self.n_completions.filter(|n| *n != completions.len()) {
            return Err(fields.fault("completions", format!("expected {n}, got {}", completions.len())));
        }
        Ok(CompletionsOf { id, prompt, completions })
    }
}

/// `RLHFlow`'s best-of-n tests: `{"prompt", "answers": ["…"], "label": [0, 1, …]}`. Its code reads `label`, its README says
/// `labels`; either is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct BestOfTest;

/// A prompt with answers that were graded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Its id.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The answers, in the order in which ties are broken.
    pub answers: Vec<String>,
    /// Whether each is right.
    pub labels: Vec<bool>,
}

impl Format for BestOfTest {
    const NAME: &'static str = "best-of-n test";
    type Row = Candidates;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<Candidates, Fault> {
        let field = match (fields.find("label"), fields.find("labels")) {
            (Some(one), Some(other)) if one != other => {
                return Err(fields.fault("labels", "expected the same as in `label`, got something else"));
            }
            (None, Some(_)) => "labels",
            _ => "label",
        };
        let (prompt, answers) = (fields.text("prompt")?, fields.texts("answers")?);
        let label = |(name, value): (String, &Value)| {
            let label = within(number(value, &name)?, 0.0, 1.0, &name)?;
            if label == 0.0 || label == 1.0 {
                return Ok(label == 1.0);
            }
            Err(Fault::new(name, format!("expected 0 or 1, got {label}")))
        };
        let labels = fields.list(field)?.into_iter().map(label).collect::<Result<Vec<bool>, Fault>>()?;
        if labels.len() != answers.len() {
            let what = format!("expected as many as answers ({}), got {}", answers.len(), labels.len());
            return Err(fields.fault(field, what));
        }
        Ok(Candidates { id, prompt, answers, labels })
    }
}

/// Problems with their solutions: GSM8K's (`question` or `query`, `answer` or `response`, the result after `####`) and
/// MATH's (`problem`, `solution`, `answer` or the last `\boxed{…}`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Questions;

/// A problem in words with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its id.
    pub id: String,
    /// What is asked.
    pub text: String,
    /// The result, without what is around it.
    pub answer: String,
}

impl Format for Questions {
    const NAME: &'static str = "problem";
    type Row = Question;

    fn read(&self, id: String, fields: &Fields<'_>) -> Result<Question, Fault> {
        let first =
            |names: [&'static str; 3]| names.into_iter().find(|name| fields.find(name).is_some()).unwrap_or(names[0]);
        let text = fields.text(first(["problem", "question", "query"]))?;
        let field = first(["answer", "solution", "response"]);
        let worked = fields.text(field)?;
        let result = worked.rsplit_once("####").map(|(_, result)| result).or_else(|| boxed(&worked));
        // A field that is called the answer and marks no result in it is the result.
        let answer = match result {
            None if field == "answer" => worked.as_str(),
            None => return Err(fields.fault(field, "expected a result after `####` or in `\\boxed{…}`, got neither")),
            Some(result) => result,
        };
        match answer.trim() {
            "" => Err(fields.fault(field, "expected a result, got a blank one")),
            answer => Ok(Question { id, text, answer: answer.to_owned() }),
        }
    }
}

/// What stands in the last `\boxed{…}`, braces matched.
#[must_use]
pub fn boxed(text: &str) -> Option<&str> {
    const BOX: &str = "\\boxed{";
    let inside = &text[text.rfind(BOX)? + BOX.len()..];
    let mut depth = 1_u32;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..at]);
        }
    }
    None
}
