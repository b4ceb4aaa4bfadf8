//! Answers that say that one does not know.

use super::matcher::Matcher;

/// Sixteen ways to say that one does not know, none of which is the beginning of an answer.
const PHRASES: [&str; 16] = [
    "I do not know this",
    "I cannot say",
    "I have no answer to that",
    "I never learnt this",
    "this is beyond me",
    "nobody told me that",
    "I would only be guessing",
    "my knowledge ends before this",
    "I lack the facts to say",
    "I am not able to tell",
    "there is nothing I could say with certainty",
    "I have not heard of that",
    "it is not something I know",
    "the answer escapes me",
    "I must leave this open",
    "I cannot be certain enough to answer",
];

/// Phrases that refuse, and whether an answer is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals;

impl Refusals {
    /// The phrases, without what ends a sentence.
    #[must_use]
    pub fn all() -> &'static [&'static str; 16] {
        &PHRASES
    }

    /// Every word of the phrases, each once, in order.
    #[must_use]
    pub fn words() -> Vec<&'static str> {
        let mut all = Vec::new();
        for word in PHRASES.iter().flat_map(|phrase| phrase.split(' ')) {
            if !all.contains(&word) {
                all.push(word);
            }
        }
        all
    }

    /// Whether an answer has one of the phrases in it, or one of `others`.
    #[must_use]
    pub fn is_refusal(answer: &str, others: &[String]) -> bool {
        Matcher::Words.is_right(answer, &PHRASES) || Matcher::Words.is_right(answer, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixteen_phrases_each_of_which_is_known_as_a_refusal() {
        for (at, phrase) in PHRASES.iter().enumerate() {
            assert!(Refusals::is_refusal(&phrase.to_uppercase(), &[]), "{phrase}");
            assert!(!PHRASES[..at].contains(phrase) && !phrase.contains('.'), "{phrase}");
        }
        for answer in ["Paris", "", "I know this", "сэр"] {
            assert!(!Refusals::is_refusal(answer, &[]), "{answer}");
        }
        assert!(Refusals::is_refusal("Well, no idea at all", &["no idea".into()]));
        assert!(Refusals::words().contains(&"guessing"));
    }
}
