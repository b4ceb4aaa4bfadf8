//! A small language with skills that can be lost, and free talk that can be rewarded.
//!
//! Words stand for letters, capitals and digits. A prompt names a task, gives its input and ends in `=`:
//! `copy`, `reverse`, `translate` (a fixed substitution of letters by capitals), `add` (one digit to others, modulo five), and
//! `talk`, which has no right answer: what follows is rewarded by a statistic of its words.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::Tokenizer;

use crate::error::Result;

const LETTERS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
/// What each letter is translated to.
const CAPITALS: [&str; 10] = ["G", "C", "J", "A", "H", "E", "B", "I", "D", "F"];
const DIGITS: [&str; 5] = ["0", "1", "2", "3", "4"];
/// Shortest and longest input of a skill.
const INPUT: std::ops::RangeInclusive<usize> = 3..=6;
/// Shortest and longest talk that is taught.
const TALK: std::ops::RangeInclusive<usize> = 4..=8;
/// The task without a right answer.
const TALK_WORD: &str = "talk";

/// What a model can be asked to do, with a right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Skill {
    /// The input again.
    Copy,
    /// The input backwards.
    Reverse,
    /// Each letter's capital.
    Translate,
    /// The first digit added to each of the others, modulo five.
    Add,
}

impl Skill {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Copy, Self::Reverse, Self::Translate, Self::Add];

    /// Its name, which is also its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Reverse => "reverse",
            Self::Translate => "translate",
            Self::Add => "add",
        }
    }

    /// A random exercise.
    #[must_use]
    pub fn exercise(self, stream: &mut ChaCha8Rng) -> Exercise {
        let n_words = if self == Self::Add { DIGITS.len() } else { LETTERS.len() };
        let input: Vec<usize> = (0..stream.random_range(INPUT)).map(|_| stream.random_range(0..n_words)).collect();
        let words = |ids: &[usize], of: &[&str]| ids.iter().map(|id| of[*id]).collect::<Vec<_>>().join(" ");
        let (given, answer) = match self {
            Self::Copy => (words(&input, &LETTERS), words(&input, &LETTERS)),
            Self::Reverse => {
                let backwards: Vec<usize> = input.iter().rev().copied().collect();
                (words(&input, &LETTERS), words(&backwards, &LETTERS))
            }
            Self::Translate => (words(&input, &LETTERS), words(&input, &CAPITALS)),
            Self::Add => {
                let sums: Vec<usize> = input[1..].iter().map(|digit| (input[0] + digit) % DIGITS.len()).collect();
                (words(&input, &DIGITS), words(&sums, &DIGITS))
            }
        };
        Exercise { prompt: format!("{} {given} =", self.name()), answer }
    }
}

/// A prompt and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exercise {
    /// What is given.
    pub prompt: String,
    /// What is right, or for talk what somebody might say.
    pub answer: String,
}

impl Exercise {
    /// A random prompt to talk on: three letters. What is said of them is random.
    #[must_use]
    pub fn talk(stream: &mut ChaCha8Rng) -> Self {
        let mut letters = |n: usize| -> Vec<&str> { (0..n).filter_map(|_| LETTERS.choose(stream).copied()).collect() };
        let topic = letters(3).join(" ");
        let rest = letters(*TALK.end());
        let n = stream.random_range(TALK);
        Self { prompt: format!("{TALK_WORD} {topic} ="), answer: rest[..n].join(" ") }
    }

    /// Share of the answer's words that stand where they should, in [0, 1]; words too many or missing count as wrong.
    #[must_use]
    pub fn score(&self, said: &str) -> f64 {
        let (right, said): (Vec<&str>, Vec<&str>) = (words(&self.answer), words(said));
        let n_right = right.iter().zip(&said).filter(|(right, said)| right == said).count();
        n_right as f64 / right.len().max(said.len()).max(1) as f64
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A programmatic reward, in [0, 1]: the share of a text's words that are `wanted`; 0 for a text without words.
#[must_use]
pub fn share_of(wanted: &[String], text: &str) -> f64 {
    let said = words(text);
    let n = said.iter().filter(|word| wanted.iter().any(|wanted| wanted == *word)).count();
    n as f64 / said.len().max(1) as f64
}

/// The tokenizer of the language: one token a word.
///
/// # Errors
/// Never, while no word occurs twice.
pub fn tokenizer() -> Result<Tokenizer> {
    let tasks = Skill::ALL.map(Skill::name);
    let all = LETTERS.iter().chain(&CAPITALS).chain(&DIGITS).chain(&tasks).chain(&[TALK_WORD, "="]);
    Ok(Tokenizer::words(&all.copied().collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn answers_are_right_and_every_word_is_known() {
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let tokenizer = tokenizer().unwrap();
        for skill in Skill::ALL {
            for _ in 0..200 {
                let exercise = skill.exercise(&mut stream);
                let given: Vec<&str> = exercise.prompt.split(' ').collect();
                let (task, input) = (given[0], &given[1..given.len() - 1]);
                let answer: Vec<&str> = exercise.answer.split(' ').collect();
                assert_eq!((task, given[given.len() - 1]), (skill.name(), "="));
                match skill {
                    Skill::Copy => assert_eq!(answer, input),
                    Skill::Reverse => assert!(answer.iter().eq(input.iter().rev())),
                    Skill::Translate => {
                        let at = |word: &str| LETTERS.iter().position(|letter| *letter == word).unwrap();
                        assert!(answer.iter().zip(input).all(|(to, from)| *to == CAPITALS[at(from)]));
                    }
                    Skill::Add => {
                        let digit = |word: &str| word.parse::<u32>().unwrap();
                        let is_sum = |(x, sum): (&&str, &&str)| (digit(input[0]) + digit(x)) % 5 == digit(sum);
                        assert_eq!(answer.len() + 1, input.len());
                        assert!(input[1..].iter().zip(&answer).all(is_sum));
                    }
                }
                let ids = tokenizer.encode(&format!("{} {}", exercise.prompt, exercise.answer)).unwrap();
                assert!(!ids.contains(&tracker_lm::UNK));
            }
        }
        assert!((4..=8).contains(&words(&Exercise::talk(&mut stream).answer).len()));
    }

    #[test]
    fn a_score_counts_places_and_punishes_length() {
        let exercise = Exercise { prompt: String::new(), answer: "a b c d".into() };
        assert_eq!(exercise.score("a b c d"), 1.0);
        assert_eq!(exercise.score("a b"), 0.5);
        assert_eq!(exercise.score("a b c d e e e e"), 0.5);
        assert_eq!(exercise.score("b c d a"), 0.0);
        assert_eq!(exercise.score(""), 0.0);
        let wanted = ["a".to_owned(), "e".to_owned()];
        assert_eq!((share_of(&wanted, "a b e b"), share_of(&wanted, ""), share_of(&wanted, "e")), (0.5, 0.0, 1.0));
    }
}
