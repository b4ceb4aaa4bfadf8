//! Text transformations: an operation, words to carry it out on, and an exact score of what is said to be the result.
//!
//! What a judge learnt of some operations, lengths and ways of asking can be tried on others: nothing but those three tells
//! one exercise from the next.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::Tokenizer;

use crate::error::Result;
use crate::parts::skills::Exercise;

const LETTERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const CAPITALS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
/// Words of the two ways of asking.
const MARKS: [&str; 4] = ["=", "[", "]", ":"];

/// What is done to words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// The words again.
    Copy,
    /// The words backwards.
    Reverse,
    /// Each letter's capital.
    Upper,
    /// The first word goes to the end.
    Rotate,
    /// Each letter's successor; the last is followed by the first.
    Next,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Copy, Self::Reverse, Self::Upper, Self::Rotate, Self::Next];

    /// Its name, which is also its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Reverse => "reverse",
            Self::Upper => "upper",
            Self::Rotate => "rotate",
            Self::Next => "next",
        }
    }

    fn apply(self, input: &[usize]) -> Vec<&'static str> {
        let letter = |at: &usize| LETTERS[*at % LETTERS.len()];
        match self {
            Self::Copy => input.iter().map(letter).collect(),
            Self::Reverse => input.iter().rev().map(letter).collect(),
            Self::Upper => input.iter().map(|at| CAPITALS[*at % CAPITALS.len()]).collect(),
            Self::Rotate => input.iter().skip(1).chain(input.first()).map(letter).collect(),
            Self::Next => input.iter().map(|at| letter(&(at + 1))).collect(),
        }
    }
}

/// How an exercise is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `reverse a b c =`.
    Plain,
    /// `[ a b c ] reverse :`.
    Bracketed,
}

/// Exercises of some operations, lengths and formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercises {
    /// Operations, each as likely as the next; at least one.
    pub operations: Vec<Operation>,
    /// Words of the input.
    pub n_words: RangeInclusive<usize>,
    /// Formats, each as likely as the next; at least one.
    pub formats: Vec<Format>,
}

impl Exercises {
    /// One of them at random.
    #[must_use]
    pub fn draw(&self, stream: &mut ChaCha8Rng) -> Exercise {
        let operation = self.operations[stream.random_range(0..self.operations.len())];
        let format = self.formats[stream.random_range(0..self.formats.len())];
        let n_words = stream.random_range(self.n_words.clone());
        let input: Vec<usize> = (0..n_words).map(|_| stream.random_range(0..LETTERS.len())).collect();
        let given = input.iter().map(|at| LETTERS[*at]).collect::<Vec<_>>().join(" ");
        let name = operation.name();
        let prompt = match format {
            Format::Plain => format!("{name} {given} ="),
            Format::Bracketed => format!("[ {given} ] {name} :"),
        };
        Exercise { prompt, answer: operation.apply(&input).join(" ") }
    }
}

/// What somebody says to an exercise who errs at each word with probability `rate`: another word of its kind three times in
/// five, else no word, or the word twice.
#[must_use]
pub fn erring(exercise: &Exercise, rate: f64, stream: &mut ChaCha8Rng) -> String {
    let mut said: Vec<&str> = Vec::new();
    for word in exercise.answer.split(' ') {
        if !stream.random_bool(rate) {
            said.push(word);
            continue;
        }
        match stream.random_range(0..5_u32) {
            0 => {}
            1 => said.extend([word, word]),
            _ => {
                let kind = if CAPITALS.contains(&word) { &CAPITALS } else { &LETTERS };
                let others: Vec<&str> = kind.iter().copied().filter(|other| *other != word).collect();
                said.push(others[stream.random_range(0..others.len())]);
            }
        }
    }
    said.join(" ")
}

/// The tokenizer of all exercises: one token a word.
///
/// # Errors
/// Never, while no word occurs twice.
pub fn tokenizer() -> Result<Tokenizer> {
    let operations = Operation::ALL.map(Operation::name);
    let all = LETTERS.iter().chain(&CAPITALS).chain(&operations).chain(&MARKS);
    Ok(Tokenizer::words(&all.copied().collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn exercises(operation: Operation, format: Format) -> Exercises {
        Exercises { operations: vec![operation], n_words: 1..=6, formats: vec![format] }
    }

    #[test]
    fn results_are_right_and_every_word_is_known() {
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let tokenizer = tokenizer().unwrap();
        for operation in Operation::ALL {
            for format in [Format::Plain, Format::Bracketed] {
                for _ in 0..100 {
                    let exercise = exercises(operation, format).draw(&mut stream);
                    let words: Vec<&str> = exercise.prompt.split(' ').collect();
                    let (name, input) = match format {
                        Format::Plain => (words[0], &words[1..words.len() - 1]),
                        Format::Bracketed => (words[words.len() - 2], &words[1..words.len() - 3]),
                    };
                    assert_eq!(name, operation.name());
                    let said: Vec<char> = exercise.answer.replace(' ', "").chars().collect();
                    let mut given: Vec<char> = input.concat().chars().collect();
                    match operation {
                        Operation::Copy => {}
                        Operation::Reverse => given.reverse(),
                        Operation::Upper => given.iter_mut().for_each(char::make_ascii_uppercase),
                        Operation::Rotate => given.rotate_left(1),
                        Operation::Next => {
                            for c in &mut given {
                                *c = if *c == 'h' { 'a' } else { (*c as u8 + 1) as char };
                            }
                        }
                    }
                    assert_eq!(said, given, "{exercise:?}");
                    let text = format!("{} {}", exercise.prompt, erring(&exercise, 0.5, &mut stream));
                    assert!(!tokenizer.encode(&text).unwrap().contains(&tracker_lm::UNK));
                }
            }
        }
    }

    #[test]
    fn who_errs_never_is_right_and_who_errs_always_keeps_no_word_as_it_was() {
        let mut stream = ChaCha8Rng::seed_from_u64(4);
        let exercise = Exercise { prompt: String::new(), answer: "a b c D".into() };
        assert_eq!(erring(&exercise, 0.0, &mut stream), exercise.answer);
        let one = Exercise { prompt: String::new(), answer: "a".into() };
        let said: Vec<String> = (0..500).map(|_| erring(&one, 1.0, &mut stream)).collect();
        assert!(said.iter().all(|said| said != "a"));
        let n = |of: &str| said.iter().filter(|said| *said == of).count();
        assert!((70..=130).contains(&n("")) && (70..=130).contains(&n("a a")), "{} {}", n(""), n("a a"));
    }
}
