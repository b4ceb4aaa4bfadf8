//! Three small tasks with exact answers, and how answers of others are shown to a model that reads words.
//!
//! `sum 3 1 2 =` asks for running sums modulo four, `flip a b c =` for the words backwards, `eval T & F ^ T =` for what is come to
//! after each value, from the left. References stand before the last word: `sum 3 1 2 refs #1 … #2 … =` asks for an answer, `sum 3 1 2
//! pick #1 … #2 … =` for a number; so what is written last stands where it always does, seen from the answer.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_lm::Tokenizer;

use crate::error::Result;
use crate::parts::skills::Exercise;

const DIGITS: [&str; 4] = ["0", "1", "2", "3"];
const LETTERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const TRUTHS: [&str; 2] = ["F", "T"];
/// And, or, exclusive or.
const OPERATORS: [&str; 3] = ["&", "|", "^"];
/// Words that ask for an answer, and for a number.
const ASKING: [&str; 2] = ["refs", "pick"];
/// Numbers of references; no more are shown.
pub(super) const NUMBERS: [&str; 8] = ["#1", "#2", "#3", "#4", "#5", "#6", "#7", "#8"];
/// Words of the judge.
pub(super) const VERDICTS: [&str; 2] = ["good", "bad"];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Running sums modulo four.
    Arithmetic,
    /// The words backwards.
    String,
    /// Running results of operators on truths.
    Logic,
}

impl Task {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Arithmetic, Self::String, Self::Logic];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::String => "string",
            Self::Logic => "logic",
        }
    }

    /// The word that asks for it.
    fn word(self) -> &'static str {
        match self {
            Self::Arithmetic => "sum",
            Self::String => "flip",
            Self::Logic => "eval",
        }
    }

    /// The words its inputs and answers are made of.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Arithmetic => &DIGITS,
            Self::String => &LETTERS,
            Self::Logic => &TRUTHS,
        }
    }

    /// A random exercise of `n_words` words, operators not counted. The answer has as many.
    pub(super) fn exercise(self, n_words: usize, stream: &mut ChaCha8Rng) -> Exercise {
        let words = self.words();
        let input: Vec<usize> = (0..n_words).map(|_| stream.random_range(0..words.len())).collect();
        let operators: Vec<usize> = input.iter().skip(1).map(|_| stream.random_range(0..OPERATORS.len())).collect();
        let answer = match self {
            Self::Arithmetic => running(&input, |_, sum, x| (sum + x) % DIGITS.len()),
            Self::String => input.iter().rev().copied().collect(),
            Self::Logic => running(&input, |at, so_far, x| match operators[at] {
                0 => so_far & x,
                1 => so_far | x,
                _ => so_far ^ x,
            }),
        };
        let mut given = vec![self.word()];
        for (at, word) in input.iter().enumerate() {
            if self == Self::Logic && at > 0 {
                given.push(OPERATORS[operators[at - 1]]);
            }
            given.push(words[*word]);
        }
        given.push("=");
        let answer = answer.iter().map(|at| words[*at]).collect::<Vec<_>>().join(" ");
        Exercise { prompt: given.join(" "), answer }
    }

    /// Somebody's wrong answer: each word another one with probability `rate`, one at least.
    pub(super) fn wrong(self, exercise: &Exercise, rate: f64, stream: &mut ChaCha8Rng) -> String {
        let words = self.words();
        let mut said: Vec<&str> = exercise.answer.split(' ').collect();
        let surely = stream.random_range(0..said.len());
        for (at, word) in said.iter_mut().enumerate() {
            if at == surely || stream.random_bool(rate) {
                let place = words.iter().position(|other| other == word).unwrap_or(0);
                *word = words[(place + stream.random_range(1..words.len())) % words.len()];
            }
        }
        said.join(" ")
    }
}

/// The first, and what is come to with each of the others; `join` is told which of those it is, from 0.
fn running(input: &[usize], join: impl Fn(usize, usize, usize) -> usize) -> Vec<usize> {
    let mut all = Vec::with_capacity(input.len());
    let mut so_far = 0;
    for (at, x) in input.iter().enumerate() {
        so_far = if at == 0 { *x } else { join(at - 1, so_far, *x) };
        all.push(so_far);
    }
    all
}

/// What is asked of a model that is shown references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// An answer of its own.
    Answer,
    /// The number of one of them.
    Number,
}

/// A query with references before its last word, in words; with none it is the query alone.
pub(super) fn shown<'a>(ask: Ask, references: impl IntoIterator<Item = &'a str>, query: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for (number, text) in NUMBERS.into_iter().zip(references) {
        words.extend([number, text.trim()]);
    }
    if words.is_empty() {
        return query.to_owned();
    }
    let asking = ASKING[usize::from(ask == Ask::Number)];
    format!("{} {asking} {} =", query.trim_end_matches(" ="), words.join(" "))
}

/// The most tokens a prompt with `n` references can have, for inputs of up to `n_words` words and answers of up to `max_tokens`.
pub(super) fn longest(n: usize, n_words: usize, max_tokens: usize) -> usize {
    // Operators stand between words.
    let query = 2 * n_words + 1;
    if n == 0 { query } else { 1 + n * (1 + max_tokens) + query }
}

/// The tokenizer of all this: one token a word.
///
/// # Errors
/// Never, while no word occurs twice.
pub(super) fn tokenizer() -> Result<Tokenizer> {
    let asked = Task::ALL.map(Task::word);
    let all =
        DIGITS.iter().chain(&LETTERS).chain(&TRUTHS).chain(&OPERATORS).chain(&asked).chain(&ASKING).chain(&NUMBERS);
    Ok(Tokenizer::words(&all.chain(&VERDICTS).chain(&["="]).copied().collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn answers_are_right_wrong_ones_are_not_and_every_word_is_known() {
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let tokenizer = tokenizer().unwrap();
        for task in Task::ALL {
            for _ in 0..200 {
                let exercise = task.exercise(stream.random_range(3..6), &mut stream);
                let given: Vec<&str> = exercise.prompt.split(' ').collect();
                let inner = &given[1..given.len() - 1];
                let step = if task == Task::Logic { 2 } else { 1 };
                let input: Vec<&str> = inner.iter().copied().step_by(step).collect();
                let answer: Vec<&str> = exercise.answer.split(' ').collect();
                assert_eq!(answer.len(), input.len());
                let digit = |word: &str| word.parse::<u32>().unwrap();
                for at in 1..input.len() {
                    let so_far = (answer[at - 1], input[at]);
                    match task {
                        Task::Arithmetic => assert_eq!(digit(answer[at]), (digit(so_far.0) + digit(so_far.1)) % 4),
                        Task::String => assert_eq!(answer[at], input[input.len() - 1 - at]),
                        Task::Logic => {
                            let (a, b) = (so_far.0 == "T", so_far.1 == "T");
                            let expected = match inner[2 * at - 1] {
                                "&" => a && b,
                                "|" => a || b,
                                _ => a != b,
                            };
                            assert_eq!(answer[at] == "T", expected);
                        }
                    }
                }
                if task != Task::String {
                    assert_eq!(answer[0], input[0]);
                }
                let wrong = task.wrong(&exercise, 0.3, &mut stream);
                assert!(wrong != exercise.answer && wrong.split(' ').count() == answer.len());
                let text = shown(Ask::Number, [wrong.as_str(), &exercise.answer], &exercise.prompt);
                assert!(!tokenizer.encode(&format!("{text} {}", exercise.answer)).unwrap().contains(&tracker_lm::UNK));
            }
        }
    }

    #[test]
    fn references_stand_before_the_last_word_and_none_leave_a_query_as_it_is() {
        assert_eq!(shown(Ask::Answer, ["1 2", "1 3"], "sum 1 1 ="), "sum 1 1 refs #1 1 2 #2 1 3 =");
        assert_eq!(shown(Ask::Number, ["1 2"], "sum 1 1 ="), "sum 1 1 pick #1 1 2 =");
        assert_eq!(shown(Ask::Answer, [], "sum 1 1 ="), "sum 1 1 =");
        let text = shown(Ask::Answer, ["T F T F T"; 6], "eval T & F | T ^ F & T =");
        assert_eq!(text.split(' ').count(), longest(6, 5, 5));
        assert_eq!(longest(0, 5, 5), 11);
    }
}
