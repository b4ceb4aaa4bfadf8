//! Judges by rule: which of several known answers a text names.
//!
//! Two rules judge the same texts. [`Rule::Substring`] is what was published with `CorrelationQA`: the answer is somewhere in the text,
//! letter for letter, so that `4` is in `14`, `red` in `hundred`, and whoever names every answer is right. [`Rule::Words`] compares
//! whole words and numbers, knows other names of an answer, and gives nothing to a text that names a wrong answer as well.
//!
//! Not here: judges that are models (`llm`), and what a text means: `it is not red` names red.

pub mod llm;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_store::Program;

pub use words::tokens;

/// A rule that judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The answer in lower case is part of the text in lower case.
    Substring,
    /// Whole words, numbers in figures or words, other names; a text that names a wrong answer too is not right.
    Words,
}

/// What there is to name.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// The right answer.
    pub right: &'a str,
    /// The wrong ones that are known.
    pub wrong: &'a [String],
    /// The one a picture shows, if it is a wrong one.
    pub pictured: Option<&'a str>,
    /// Other names of answers, by answer.
    pub aliases: &'a BTreeMap<String, Vec<String>>,
}

/// What a judge makes of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// It gives the right answer.
    pub right: bool,
    /// It names the wrong answer that is pictured.
    pub pictured: bool,
    /// It names the right answer and a wrong one.
    pub hedge: bool,
}

impl Said {
    /// As the values of a reward: right, pictured, hedge.
    #[must_use]
    pub fn values(self) -> Vec<f64> {
        [self.right, self.pictured, self.hedge].map(|is| f64::from(u8::from(is))).to_vec()
    }

    /// From the values of a reward; none if they are no such verdict.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let &[right, pictured, hedge] = values else { return None };
        let is = |x: f64| (x == 0.0 || x == 1.0).then_some(x == 1.0);
        Some(Self { right: is(right)?, pictured: is(pictured)?, hedge: is(hedge)? })
    }
}

impl Rule {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Substring => "substring",
            Self::Words => "words",
        }
    }

    /// Its record; a change of what it answers changes it.
    #[must_use]
    pub fn program(self) -> Program {
        let settings = match self {
            Self::Substring => "right: lower(answer) in lower(text)",
            Self::Words => {
                "right: names the answer or another name of it in whole words, and no wrong answer; numbers in figures or English words; \
                 plurals count; longer names first"
            }
        };
        Program { name: format!("{} judge", self.name()), version: "1".into(), settings: settings.into() }
    }

    /// What a text says.
    #[must_use]
    pub fn judge(self, text: &str, answers: &Answers<'_>) -> Said {
        match self {
            Self::Substring => {
                let text = text.to_lowercase();
                let names = |answer: &str| text.contains(&answer.to_lowercase());
                let right = names(answers.right);
                let hedge = right && answers.wrong.iter().any(|wrong| names(wrong));
                Said { right, pictured: answers.pictured.is_some_and(names), hedge }
            }
            Self::Words => {
                let all: Vec<&str> =
                    std::iter::once(answers.right).chain(answers.wrong.iter().map(String::as_str)).collect();
                let named = words::named(text, &all, answers.aliases);
                let of = |answer: &str| all.iter().zip(&named).any(|(other, named)| *other == answer && *named);
                let (right, wrong) = (named.first() == Some(&true), named.iter().skip(1).any(|named| *named));
                Said { right: right && !wrong, pictured: answers.pictured.is_some_and(of), hedge: right && wrong }
            }
        }
    }
}

/// Whether a text is in another script than an answer: it has letters, none of them of the kinds the answer is written with.
#[must_use]
pub fn is_foreign(text: &str, answer: &str) -> bool {
    let kinds = |text: &str| text.chars().filter_map(words::script).collect::<std::collections::BTreeSet<_>>();
    let (said, expected) = (kinds(text), kinds(answer));
    !said.is_empty() && !expected.is_empty() && said.is_disjoint(&expected) && !text.chars().any(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rule: Rule, text: &str, right: &str, wrong: &[&str], aliases: &[(&str, &str)]) -> Said {
        let wrong: Vec<String> = wrong.iter().map(|wrong| (*wrong).to_owned()).collect();
        let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (answer, alias) in aliases {
            known.entry((*answer).to_owned()).or_default().push((*alias).to_owned());
        }
        let pictured = wrong.first().map(String::as_str);
        rule.judge(text, &Answers { right, wrong: &wrong, pictured, aliases: &known })
    }

    fn words(text: &str, right: &str, wrong: &[&str]) -> Said {
        judge(Rule::Words, text, right, wrong, &[])
    }

    /// Python 3: `answer.lower() in output.lower()`.
    #[test]
    fn substrings_are_found_as_the_released_code_finds_them() {
        for (text, answer, right) in [
            ("The answer is 14.", "4", true),
            ("a hundred percent", "red", true),
            ("RED", "Red", true),
            ("It is blue, not red.", "red", true),
            ("four", "4", false),
            ("", "red", false),
            ("New York", "New\nYork", false),
            ("New\nYork", "new\nyork", true),
            ("ΟΔΟΣ", "οδος", true),
            ("STRASSE", "straße", false),
            ("красный", "Красный", true),
            ("赤", "red", false),
            ("anything", "", true),
        ] {
            assert_eq!(judge(Rule::Substring, text, answer, &[], &[]).right, right, "{text:?}, {answer:?}");
        }
    }

    #[test]
    fn parts_of_words_and_numbers_are_no_answers() {
        for (text, answer, right) in [
            ("The answer is 14.", "4", false),
            ("I am a hundred percent sure.", "red", false),
            ("four", "4", true),
            ("There are 4 of them.", "four", true),
            ("twenty-one", "21", true),
            ("It has one hundred and fifty rooms", "150", true),
            ("1,000", "1000", true),
            ("one thousand", "1000", true),
            ("3.14", "3", false),
            ("3.", "3", true),
            ("The Red!", "red", true),
            ("the king's", "king", true),
            ("tigers", "tiger", true),
            ("New\nYork", "new york", true),
            ("new york", "New\nYork", true),
            ("York is not new", "New York", false),
            ("", "red", false),
            (" \n\t", "red", false),
            ("...", "red", false),
            ("The Nile", "Nile", true),
            ("Nile", "the Nile", true),
        ] {
            assert_eq!(words(text, answer, &[]).right, right, "{text:?}, {answer:?}");
        }
    }

    #[test]
    fn hedges_that_name_both_are_not_right_and_are_told() {
        let hedge = words("It is red or blue.", "red", &["blue", "green"]);
        assert_eq!(hedge, Said { right: false, pictured: true, hedge: true });
        let other = words("red or green", "red", &["blue", "green"]);
        assert_eq!(other, Said { right: false, pictured: false, hedge: true });
        assert_eq!(words("blue", "red", &["blue"]), Said { right: false, pictured: true, hedge: false });
        let released = judge(Rule::Substring, "It is red or blue.", "red", &["blue"], &[]);
        assert_eq!(released, Said { right: true, pictured: true, hedge: true });
        // What is a part of a longer answer is not named by it.
        let longer = words("Equatorial Guinea", "Guinea", &["Equatorial Guinea"]);
        assert_eq!(longer, Said { right: false, pictured: true, hedge: false });
        assert!(words("14", "4", &["14"]).pictured && !words("14", "4", &["14"]).hedge);
    }

    #[test]
    fn other_names_count_in_whatever_script_they_are() {
        let named = |text: &str| {
            judge(Rule::Words, text, "red", &["blue"], &[("red", "赤"), ("blue", "azul"), ("red", "красный")])
        };
        assert!(named("答えは赤です").right && named("Он красный.").right && named("azul").pictured);
        assert!(!named("青").right && !named("").right);
        assert!(is_foreign("答えは赤です", "red") && is_foreign("не знаю", "red"));
        for (text, answer) in [("red", "red"), ("", "red"), ("42", "red"), ("не red", "red"), ("4 штуки", "4")] {
            assert!(!is_foreign(text, answer), "{text}");
        }
    }

    #[test]
    fn verdicts_are_read_back() {
        let said = Said { right: false, pictured: true, hedge: true };
        assert_eq!(Said::of(&said.values()), Some(said));
        assert!(Said::of(&[1.0]).is_none() && Said::of(&[0.5, 0.0, 0.0]).is_none());
    }
}
