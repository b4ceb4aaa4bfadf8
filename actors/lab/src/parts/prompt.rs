//! How a statement is put to a policy, and the words of the small language the embedded policies speak.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::Tokenizer;
use tracker_proof::formula::Style;
use tracker_proof::statement::Statement;

use crate::error::Result;
use crate::parts::formalise::Formaliser;

/// How a statement is put to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Hypotheses and goal, one space between words.
    Bare,
    /// An instruction and an open Lean fence with header and statement, as Goedel-Prover asks.
    Lean,
}

impl Template {
    /// Its name in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Lean => "lean",
        }
    }
}

/// Largest number of a bound variable the embedded vocabulary has.
const N_VARIABLES: usize = 32;

/// The prompt for a statement.
#[must_use]
pub fn prompt(template: Template, header: &str, informal: &str, statement: &str) -> String {
    match template {
        Template::Bare => bare(statement),
        Template::Lean => format!(
            "Complete the following Lean 4 code:\n\n```lean4\n{header}{informal}{statement} := ",
            informal =
                if informal.is_empty() || informal.ends_with('\n') { informal.into() } else { format!("{informal}\n") },
        ),
    }
}

/// Asks a model to state a problem formally, in one of two styles.
#[must_use]
pub fn formalise(header: &str, style: Formaliser, problem: &str) -> String {
    let how = match style {
        Formaliser::A => "State every premise as an implication, to the right of the colon.",
        Formaliser::B => "State every premise as a named hypothesis, to the left of the colon.",
    };
    format!(
        "State the following problem as one Lean 4 theorem named `t`. {how}\n\
         Answer with the theorem alone, in a ```lean4 fence, with `:= by sorry` in place of a proof.\n\n\
         The file begins with:\n```lean4\n{header}\n```\n\nProblem:\n{problem}\n",
        header = header.trim_end(),
    )
}

/// Asks a model whether a statement says what its problem says.
#[must_use]
pub fn judge(problem: &str, statement: &str) -> String {
    format!(
        "Does the Lean 4 theorem state the problem? Compare the quantities and conditions, whether each is translated \
         correctly, whether the structure is kept, and whether anything is missing or added.\n\n\
         Problem:\n{problem}\n\nTheorem:\n```lean4\n{statement}\n```\n\n\
         End your answer with one word: Appropriate or Inappropriate.\n"
    )
}

/// The code in the last Lean fence of a model's answer, whether or not it is closed.
#[must_use]
pub fn last_fence(text: &str) -> Option<&str> {
    let (_, body) = text[text.rfind("```lean")?..].split_once('\n')?;
    Some(body.split("```").next().unwrap_or(body))
}

/// Hypotheses and goal, one space between words: `( h1 : And p q ) : q :=`. A statement outside the fragment as it is.
#[must_use]
pub fn bare(statement: &str) -> String {
    let Ok(parsed) = Statement::parse(statement) else {
        let words: Vec<&str> = statement.split_whitespace().collect();
        return format!("{} :=", words.join(" "));
    };
    let spaced = |f: &tracker_proof::formula::Formula| f.print(Style::Spaced, &parsed.atoms);
    let hypotheses = parsed.hypotheses.iter().map(|(name, f)| format!("( {name} : {} )", spaced(f)));
    let goal = format!(": {} :=", spaced(&parsed.goal));
    hypotheses.chain([goal]).collect::<Vec<_>>().join(" ")
}

/// The tokenizer of the embedded policies: every word statements and proofs are made of.
///
/// # Errors
/// Of the tokenizer.
pub fn words() -> Result<Tokenizer> {
    const FIXED: [&str; 34] = [
        "(",
        ")",
        ":",
        "→",
        ":=",
        ",",
        "⟨",
        "⟩",
        "fun",
        "=>",
        "True",
        "False",
        "Not",
        "And",
        "Or",
        "Iff",
        "And.intro",
        "And.left",
        "And.right",
        "Or.inl",
        "Or.inr",
        "Or.elim",
        "Iff.intro",
        "Iff.mp",
        "Iff.mpr",
        "False.elim",
        "True.intro",
        "trivial",
        "absurd",
        "id",
        "have",
        "show",
        "from",
        ";",
    ];
    let atoms = &tracker_proof::formula::ATOM_NAMES[..6];
    let variables: Vec<String> = (1..=N_VARIABLES).map(|i| format!("h{i}")).collect();
    let all: Vec<&str> =
        FIXED.into_iter().chain(atoms.iter().copied()).chain(variables.iter().map(String::as_str)).collect();
    Ok(Tokenizer::words(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_prompt_has_one_space_between_known_words() {
        let text = bare("theorem t (p q : Prop) (h1 : And p (Not q)) : q → p");
        assert_eq!(text, "( h1 : And p ( Not q ) ) : q → p :=");
        let tokenizer = words().unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        assert!(!ids.contains(&tracker_lm::UNK));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    #[test]
    fn a_foreign_statement_is_put_as_it_stands() {
        assert_eq!(bare("theorem t\n  (x : ℝ) : x = x"), "theorem t (x : ℝ) : x = x :=");
        let lean = prompt(Template::Lean, "import Mathlib\n", "/-- One. -/", "theorem t : 1 = 1");
        assert!(lean.ends_with("import Mathlib\n/-- One. -/\ntheorem t : 1 = 1 := "), "{lean}");
    }
}
