//! From a problem in words to formal statements in two styles, by embedded formalisers that make mistakes.
//!
//! Style `a` states premises as implications, style `b` as named binders. A formaliser reads the English, understands
//! it exactly, and then, in a share of cases drawn from its seed, writes something else: text that does not compile, or
//! a statement that compiles and says another thing. Nothing downstream knows which; the judge has to find out, and
//! since the fragment is decidable, the judge can be scored.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_proof::formula::{Formula, Style};
use tracker_proof::statement::Statement;
use tracker_store::Sampling;

use crate::error::{Error, Result};

/// How problems become statements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FormaliseSettings {
    /// Who writes statements: `embedded` (for generated problems) or `endpoint` (see `formaliser`).
    pub author: Clerk,
    /// Who votes on them: `embedded` (for generated problems) or `endpoint` (see `judge`).
    pub judge: Clerk,
    /// Styles: `a` states hypotheses as implications, `b` as named binders. One statement a style is kept.
    pub styles: Vec<String>,
    /// The model that writes each style, where they differ; empty for `formaliser.model` throughout.
    pub models: Vec<String>,
    /// What stands before every statement, such as `import Mathlib`; empty for a prelude that needs no library.
    pub header: String,
    /// Statements written a problem and style.
    pub n_samples: u32,
    /// Share of statements the embedded formalisers spoil, in [0, 1].
    pub error_rate: f64,
    /// Independent faithfulness votes a statement.
    pub n_votes: u32,
    /// Truth assignments one embedded vote looks at; fewer make a worse judge.
    pub n_assignments: u32,
    /// Smallest share of `appropriate` votes that keeps a statement.
    pub min_faithfulness: f64,
    /// Sampling temperature of endpoints.
    pub temperature: f64,
    /// Longest answer of endpoints, in tokens.
    pub max_tokens: u32,
}

/// Who does a piece of clerical work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Clerk {
    /// A program of ours, for problems whose meaning is known.
    Embedded,
    /// A model behind an endpoint.
    Endpoint,
}

impl Default for FormaliseSettings {
    fn default() -> Self {
        Self {
            author: Clerk::Embedded,
            judge: Clerk::Embedded,
            styles: vec!["a".into(), "b".into()],
            models: vec![],
            header: String::new(),
            n_samples: 2,
            error_rate: 0.25,
            n_votes: 4,
            n_assignments: 3,
            min_faithfulness: 0.5,
            temperature: 1.0,
            max_tokens: 1024,
        }
    }
}

impl FormaliseSettings {
    /// What stands before every statement.
    #[must_use]
    pub fn header(&self) -> &str {
        if self.header.is_empty() { tracker_proof::prelude::TEXT } else { &self.header }
    }

    /// How endpoints are sampled with a template.
    #[must_use]
    pub fn sampling(&self, template: &str) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: 1.0,
            max_tokens: self.max_tokens,
            stop: vec![],
            template: template.to_owned(),
        }
    }
}

/// How premises are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formaliser {
    /// `theorem t (p q : Prop) : And p q → q`
    A,
    /// `theorem t (p q : Prop) (h : And p q) : q`
    B,
}

impl Formaliser {
    /// Reads a style's name.
    ///
    /// # Errors
    /// `Value` for any other than `a` and `b`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "a" => Ok(Self::A),
            "b" => Ok(Self::B),
            _ => Err(Error::Value {
                key: "formalise.styles".into(),
                message: format!("expected styles `a` or `b`, got `{name}`"),
            }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The statement this formaliser writes for `meaning`, spoilt with probability `error_rate`.
    #[must_use]
    pub fn write(self, name: &str, meaning: &Formula, error_rate: f64, stream: &mut ChaCha8Rng) -> String {
        let is_spoilt = stream.random_bool(error_rate.clamp(0.0, 1.0));
        // Half of the mistakes change the meaning, half break the text.
        let breaks_text = stream.random_bool(0.5);
        let written = if is_spoilt && !breaks_text { misread(meaning, stream) } else { meaning.clone() };
        let text = self.statement(name, &written).print(Style::Constructor);
        if is_spoilt && breaks_text { garble(&text, stream) } else { text }
    }

    /// `meaning` as a statement of this style.
    #[must_use]
    pub fn statement(self, name: &str, meaning: &Formula) -> Statement {
        let mut statement = Statement::of(name, meaning.clone());
        if self == Self::B {
            let mut n_hypotheses = 0;
            while let Formula::Implies(premise, goal) = statement.goal {
                n_hypotheses += 1;
                statement.hypotheses.push((format!("h{n_hypotheses}"), *premise));
                statement.goal = *goal;
            }
        }
        statement
    }
}

/// `A → B → C` as the conjunction of its premises and its conclusion; no premises are `True`.
///
/// Two theorems are always classically equivalent, so faithfulness is judged on these two parts.
#[must_use]
pub fn parts(meaning: &Formula) -> [Formula; 2] {
    let mut premises: Option<Formula> = None;
    let mut at = meaning;
    while let Formula::Implies(premise, goal) = at {
        premises = Some(match premises {
            None => (**premise).clone(),
            Some(before) => Formula::And(Box::new(before), premise.clone()),
        });
        at = goal;
    }
    [premises.unwrap_or(Formula::True), at.clone()]
}

/// One node of the formula read as another connective, or its sides exchanged.
fn misread(meaning: &Formula, stream: &mut ChaCha8Rng) -> Formula {
    let mut countdown = stream.random_range(0..meaning.size());
    alter(meaning, &mut countdown, stream)
}

fn alter(f: &Formula, countdown: &mut usize, stream: &mut ChaCha8Rng) -> Formula {
    use Formula::{And, Iff, Implies, Not, Or};
    let is_here = *countdown == 0;
    *countdown = countdown.wrapping_sub(1);
    let (a, b) = match f {
        And(a, b) | Or(a, b) | Implies(a, b) | Iff(a, b) => (a, b),
        Not(a) if is_here => return (**a).clone(),
        Not(a) => return Not(Box::new(alter(a, countdown, stream))),
        leaf if is_here => return Not(Box::new(leaf.clone())),
        leaf => return leaf.clone(),
    };
    if is_here {
        let (a, b) = (a.clone(), b.clone());
        return match f {
            And(..) => Or(a, b),
            Implies(..) if stream.random_bool(0.5) => Implies(b, a),
            Or(..) | Implies(..) => And(a, b),
            _ => Implies(a, b),
        };
    }
    let (a, b) = (Box::new(alter(a, countdown, stream)), Box::new(alter(b, countdown, stream)));
    match f {
        And(..) => And(a, b),
        Or(..) => Or(a, b),
        Implies(..) => Implies(a, b),
        Iff(..) => Iff(a, b),
        _ => f.clone(),
    }
}

/// The text with one of its tokens lost, doubled or misspelt.
fn garble(text: &str, stream: &mut ChaCha8Rng) -> String {
    let (head, body) = text.split_once(" : ").unwrap_or(("", text));
    let mut words: Vec<String> = body.split(' ').map(str::to_owned).collect();
    let idx = stream.random_range(0..words.len());
    match ["lose", "double", "misspell"].choose(stream) {
        Some(&"lose") => {
            words.remove(idx);
        }
        Some(&"double") => {
            let word = words[idx].clone();
            words.insert(idx, format!("{word} )"));
        }
        _ => words[idx] = format!("{}x", words[idx]),
    }
    format!("{head} : {}", words.join(" "))
}
