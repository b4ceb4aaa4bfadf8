//! Questions with answers as data sets of certainty have them: `ParaRel`, MMLU, FEVER, `WiCE`, `HotpotQA`, `HaluEval`; and questions
//! some of which have no answer: `FalseQA`, NEC, `SelfAware`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::layout::{Laid, elements, has_ending, json, named, stem, table, texts};
use super::{Fault, Fields, Format, Raw};
use crate::error::{Error, Result};

/// The letters of options.
const LETTERS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
/// Labels of FEVER, as options.
const FEVER: [&str; 3] = ["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"];
/// Labels of `WiCE`, as options.
const WICE: [&str; 3] = ["supported", "partially_supported", "not_supported"];

/// Whose rows they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueryFormat {
    /// `[[question, answer], …]`, whose domain is the file's name, or `{domain: [[question, answer], …]}`.
    Pararel,
    /// `{task: [[question, A, B, C, D, letter], …]}`, or a table `question,A,B,C,D,letter` whose task is the file's name.
    Mmlu,
    /// `[{"evidence": ["…"], "claim", "label"}, …]` with `SUPPORTS`, `REFUTES` or `NOT ENOUGH INFO`.
    Fever,
    /// The same with `supported`, `partially_supported` or `not_supported`.
    Wice,
    /// `[{"context": [[title, ["…"]], …], "question", "answer"}, …]`.
    HotpotQa,
    /// `{"knowledge", "question", "right_answer"}` a line.
    HaluEval,
    /// A table `question,answer,label`; 1 labels a false premise.
    FalseQa,
    /// `{"prompt", "label", "category"}` a line; 1 labels a concept that does not exist.
    Nec,
    /// `{"example": [{"question", "answer": ["…"] or null, "answerable"}, …]}`.
    SelfAware,
}

impl QueryFormat {
    /// Whether rows say which questions have an answer.
    #[must_use]
    pub fn is_of_refusal(self) -> bool {
        matches!(self, Self::FalseQa | Self::Nec | Self::SelfAware)
    }

    /// Whether one of several letters is the answer.
    #[must_use]
    pub fn is_choice(self) -> bool {
        matches!(self, Self::Mmlu | Self::Fever | Self::Wice)
    }
}

/// What is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gold {
    /// Any of these texts.
    Texts(Vec<String>),
    /// One of several options, by its place.
    Choice {
        /// The options, in order.
        options: Vec<String>,
        /// The place of the right one.
        right: usize,
    },
    /// Nobody said.
    Unsaid,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its id.
    pub id: String,
    /// What it is of: a relation, a task.
    pub domain: String,
    /// What is asked.
    pub question: String,
    /// What is right.
    pub gold: Gold,
    /// Whether there is an answer.
    pub is_answerable: bool,
}

/// Rows of one of the data sets.
#[derive(Clone, Copy, Debug)]
pub struct Queries(pub QueryFormat);

impl Format for Queries {
    const NAME: &'static str = "questions";
    type Row = Query;

    fn rows(&self, path: &Path) -> Result<Option<Vec<Raw>>> {
        let expected = |what: &str| Error::Input {
            what: format!("{}: expected {what}, got something else", path.display()),
            hint: None,
        };
        let rows = match self.0 {
            QueryFormat::Pararel => {
                let domain = stem(path);
                match &json(path)? {
                    Value::Array(all) => elements(all, |one| pair(&domain, one)),
                    Value::Object(all) => named(path, all, pair)?,
                    _ => return Err(expected("a list of `[question, answer]`, or such lists by domain")),
                }
            }
            QueryFormat::Mmlu if has_ending(path, "csv") => {
                let task = stem(path);
                table(path, |cells| choice(&task, cells))?
            }
            QueryFormat::Mmlu => match &json(path)? {
                Value::Object(all) => named(path, all, |task, one| choice(task, &texts(one)?))?,
                _ => return Err(expected("lists of `[question, A, B, C, D, letter]` by task")),
            },
            QueryFormat::FalseQa => {
                let mut rows = table(path, false_premise)?;
                // The first line names the columns.
                let is_named = |raw: &Raw| raw.fields.as_ref().is_ok_and(|fields| fields["question"] == "question");
                if rows.first().is_some_and(is_named) {
                    rows.remove(0);
                }
                rows
            }
            QueryFormat::SelfAware => match &json(path)? {
                Value::Object(all) => match all.get("example") {
                    Some(Value::Array(list)) => elements(list, object),
                    _ => return Err(expected("a list under `example`")),
                },
                Value::Array(list) => elements(list, object),
                _ => return Err(expected("a list under `example`")),
            },
            QueryFormat::Fever
            | QueryFormat::Wice
            | QueryFormat::HotpotQa
            | QueryFormat::HaluEval
            | QueryFormat::Nec => {
                return Ok(None);
            }
        };
        Ok(Some(rows))
    }

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Query, Fault> {
        let query =
            |domain: String, question: String, gold: Gold| Query { id, domain, question, gold, is_answerable: true };
        let texts = |field: &str| Ok(Gold::Texts(vec![fields.text(field)?]));
        match self.0 {
            QueryFormat::Pararel => Ok(query(fields.text("domain")?, fields.text("question")?, texts("answer")?)),
            QueryFormat::Mmlu => Ok(query(fields.text("domain")?, fields.text("question")?, of_letter(fields)?)),
            QueryFormat::Fever => Ok(query("fever".into(), claim(fields)?, of_label(fields, &FEVER)?)),
            QueryFormat::Wice => Ok(query("wice".into(), claim(fields)?, of_label(fields, &WICE)?)),
            QueryFormat::HotpotQa => {
                let question = format!("{}{}", context(fields)?, fields.text("question")?);
                Ok(query("hotpot-qa".into(), question, texts("answer")?))
            }
            QueryFormat::HaluEval => {
                let question = format!("{}\n{}", fields.text("knowledge")?, fields.text("question")?);
                Ok(query("halu-eval".into(), question, texts("right_answer")?))
            }
            QueryFormat::FalseQa => {
                let is_answerable = !one_or_zero(fields, "label")?;
                // What a false premise is answered by is no answer to the question.
                let gold = if is_answerable { texts("answer")? } else { Gold::Unsaid };
                Ok(Query { is_answerable, ..query("false-qa".into(), fields.text("question")?, gold) })
            }
            QueryFormat::Nec => {
                let domain = fields.optional_text("category")?.unwrap_or_else(|| "nec".into());
                let is_answerable = !one_or_zero(fields, "label")?;
                Ok(Query { is_answerable, ..query(domain, fields.text("prompt")?, Gold::Unsaid) })
            }
            QueryFormat::SelfAware => {
                let is_answerable = match fields.find("answerable") {
                    Some(Value::Bool(is_answerable)) => *is_answerable,
                    _ => return Err(fields.fault("answerable", "expected true or false, got something else")),
                };
                let gold = match fields.find("answer") {
                    Some(_) => Gold::Texts(fields.texts("answer")?),
                    None => Gold::Unsaid,
                };
                Ok(Query { is_answerable, ..query("self-aware".into(), fields.text("question")?, gold) })
            }
        }
    }
}

fn fields<const N: usize>(of: [(&str, Value); N]) -> Map<String, Value> {
    of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn pair(domain: &str, one: &Value) -> Laid {
    let cells = texts(one)?;
    let [question, answer] = cells.as_slice() else {
        return Err(Fault::new("", format!("expected `[question, answer]`, got {} elements", cells.len())));
    };
    Ok(fields([("domain", domain.into()), ("question", question.as_str().into()), ("answer", answer.as_str().into())]))
}

fn choice(task: &str, cells: &[String]) -> Laid {
    let [question, options @ .., letter] = cells else {
        return Err(Fault::new("", "expected `[question, A, B, …, letter]`, got fewer than two elements"));
    };
    if !(2..=LETTERS.len()).contains(&options.len()) {
        let what = format!("expected 2 to {} options, got {}", LETTERS.len(), options.len());
        return Err(Fault::new("", what));
    }
    Ok(fields([
        ("domain", task.into()),
        ("question", question.as_str().into()),
        ("options", options.into()),
        ("letter", letter.as_str().into()),
    ]))
}

fn false_premise(cells: &[String]) -> Laid {
    let [question, answer, label] = cells else {
        return Err(Fault::new("", format!("expected `question,answer,label`, got {} columns", cells.len())));
    };
    Ok(fields([
        ("question", question.as_str().into()),
        ("answer", answer.as_str().into()),
        ("label", label.as_str().into()),
    ]))
}

fn object(one: &Value) -> Laid {
    match one {
        Value::Object(map) => Ok(map.clone()),
        other => Err(Fault::new("", format!("expected an object, got {}", super::fields::shown(other)))),
    }
}

/// The letter is compared with letters: an option's text is never an answer.
fn of_letter(fields: &Fields<'_>) -> std::result::Result<Gold, Fault> {
    let options = fields.list("options")?.into_iter().map(|(_, value)| value.as_str().unwrap_or("").to_owned());
    let (options, letter): (Vec<String>, _) = (options.collect(), fields.text("letter")?);
    let Some(right) = LETTERS.iter().take(options.len()).position(|known| *known == letter.trim()) else {
        let known = LETTERS[..options.len()].join(", ");
        return Err(fields.fault("letter", format!("expected one of {known}, got `{letter}`")));
    };
    Ok(Gold::Choice { options, right })
}

/// A label is one of them, whole: one is never looked for within another.
fn of_label(fields: &Fields<'_>, labels: &[&str]) -> std::result::Result<Gold, Fault> {
    let label = fields.text("label")?;
    match labels.iter().position(|known| *known == label) {
        Some(right) => Ok(Gold::Choice { options: labels.iter().map(|l| (*l).to_owned()).collect(), right }),
        None => Err(fields.fault("label", format!("expected one of {}, got `{label}`", labels.join(", ")))),
    }
}

fn claim(fields: &Fields<'_>) -> std::result::Result<String, Fault> {
    let evidence = fields.texts("evidence")?.join(" ");
    Ok(format!("Evidence: {evidence}\nClaim: {}\nDoes the evidence support the claim?", fields.text("claim")?))
}

/// Passages, each with its title; a line each.
fn context(fields: &Fields<'_>) -> std::result::Result<String, Fault> {
    let passage = |(name, value): (String, &Value)| {
        let wrong = || Fault::new(name.clone(), "expected `[title, [sentence, …]]`, got something else");
        let parts = value.as_array().filter(|parts| parts.len() == 2).ok_or_else(wrong)?;
        let title = parts[0].as_str().ok_or_else(wrong)?;
        let sentences =
            parts[1].as_array().ok_or_else(wrong)?.iter().map(|sentence| sentence.as_str().ok_or_else(wrong));
        let sentences = sentences.collect::<std::result::Result<Vec<&str>, Fault>>()?;
        Ok(format!("{title}: {}\n", sentences.join(" ")))
    };
    fields.list("context")?.into_iter().map(passage).collect()
}

fn one_or_zero(fields: &Fields<'_>, field: &str) -> std::result::Result<bool, Fault> {
    match fields.number(field)? {
        0.0 => Ok(false),
        1.0 => Ok(true),
        other => Err(fields.fault(field, format!("expected 0 or 1, got `{other}`"))),
    }
}

#[cfg(test)]
mod tests;
