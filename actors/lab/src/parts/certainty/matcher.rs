//! Whether an answer is the right one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_store::Program;

/// How an answer is compared with the right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Matcher {
    /// A right answer stands somewhere in it, letter for letter.
    Contains,
    /// The same, whatever the case of letters.
    Folded,
    /// A right answer stands in it as whole words, whatever the case.
    Words,
    /// It is a right answer, whatever the case.
    Exact,
}

impl Matcher {
    /// Its name, as plans have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::Folded => "folded",
            Self::Words => "words",
            Self::Exact => "exact",
        }
    }

    /// It as the program that labels.
    #[must_use]
    pub fn program(self) -> Program {
        Program { name: "matcher".into(), version: "1".into(), settings: self.name().into() }
    }

    /// Whether one of the right answers matches. An empty answer, and an empty right one, match nothing.
    #[must_use]
    pub fn is_right<T: AsRef<str>>(self, answer: &str, right: &[T]) -> bool {
        right.iter().map(|right| right.as_ref().trim()).any(|right| self.matches(answer.trim(), right))
    }

    fn matches(self, answer: &str, right: &str) -> bool {
        if answer.is_empty() || right.is_empty() {
            return false;
        }
        match self {
            Self::Contains => answer.contains(right),
            Self::Folded => answer.to_lowercase().contains(&right.to_lowercase()),
            Self::Exact => answer.to_lowercase() == right.to_lowercase(),
            Self::Words => {
                let [answer, right] = [answer, right].map(words);
                !right.is_empty() && answer.windows(right.len()).any(|part| part == right)
            }
        }
    }
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|sign: char| !(sign.is_alphanumeric() || sign == '_')).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_differ_where_they_are_said_to() {
        let all = [Matcher::Contains, Matcher::Folded, Matcher::Words, Matcher::Exact];
        for (answer, right, expected) in [
            ("Paris", "Paris", [true; 4]),
            ("in paris", "Paris", [false, true, true, false]),
            ("Parisian", "Paris", [true, true, false, false]),
            ("PARIS", "paris", [false, true, true, true]),
            // `supported` is a part of all three labels of WiCE: only whole words tell them apart.
            ("not_supported", "supported", [true, true, false, false]),
            ("", "Paris", [false; 4]),
            ("Paris", "", [false; 4]),
            ("МОСКВА", "Москва", [false, true, true, true]),
            ("東京", "東京", [true; 4]),
        ] {
            let got = all.map(|matcher| matcher.is_right(answer, &[right]));
            assert_eq!(got, expected, "{answer:?} for {right:?}");
        }
        assert!(Matcher::Exact.is_right("b", &["a", "b"]) && !Matcher::Exact.is_right("b", &[] as &[&str]));
    }
}
