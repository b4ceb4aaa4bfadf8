//! From a problem in words to formal statements in two styles, by embedded formalisers that make mistakes.
//!
//! Style `a` states premises as implications, style `b` as named binders. A formaliser reads the English, understands
//! it exactly, and then, in a share of cases drawn from its seed, writes something else: text that does not compile, or
//! a statement that compiles and says another thing. Nothing downstream knows which; the judge has to find out, and
//! since the fragment is decidable, the judge can be scored.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use tracker_proof::formula::{Formula, Style};
use tracker_proof::statement::Statement;

use crate::error::{Error, Result};

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
