//! Chains of modular arithmetic: problems whose every step has one right answer, and where a wrong step can be undone.
//!
//! A prompt is a start and operations, `3 + 2 * 0 - 6 =`; a solution writes an equation a step, `3 + 2 = 5 ;`, and its last
//! result is the answer. Everything is modulo seven. Multiplying by nought makes any value right again, so a wrong prefix has
//! a chance, and how large it is is what process rewards are about.
//!
//! Who solves one says with each result how it came about: worked out (`=`), half remembered (`~`) or guessed (`?`). What is
//! guessed is wrong more often, so a step can be doubted without doing the sum again; whether it *is* wrong, the sum says.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_lm::Tokenizer;

use crate::error::Result;

/// What everything is taken modulo.
pub const MODULUS: u32 = 7;
/// What ends a step.
pub const SEPARATOR: &str = ";";

const DIGITS: [&str; 7] = ["0", "1", "2", "3", "4", "5", "6"];
const SIGNS: [&str; 3] = ["+", "-", "*"];
/// What stands before a result: worked out, half remembered, guessed.
const MARKS: [&str; 3] = ["=", "~", "?"];

/// How somebody solves chains: a share of steps, and a share of those that are wrong, for each of `=`, `~` and `?`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// Share of steps with each mark, in [0, 1], summing to one.
    pub shares: [f64; 3],
    /// Share of the results behind each mark that are wrong, in [0, 1].
    pub wrong: [f64; 3],
}

/// A problem: a start, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    start: u32,
    /// Index of the sign, and the operand.
    steps: Vec<(usize, u32)>,
}

impl Chain {
    /// A random problem with so many steps.
    #[must_use]
    pub fn random(stream: &mut ChaCha8Rng, n_steps: RangeInclusive<usize>) -> Self {
        let start = stream.random_range(0..MODULUS);
        let n = stream.random_range(n_steps);
        let steps = (0..n).map(|_| (stream.random_range(0..SIGNS.len()), stream.random_range(0..MODULUS))).collect();
        Self { start, steps }
    }

    /// How many steps it takes.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// What is asked.
    #[must_use]
    pub fn prompt(&self) -> String {
        let steps = self.steps.iter().map(|(sign, operand)| format!("{} {operand}", SIGNS[*sign]));
        let words: Vec<String> = [self.start.to_string()].into_iter().chain(steps).chain(["=".to_owned()]).collect();
        words.join(" ")
    }

    /// The right answer to it.
    #[must_use]
    pub fn answer(&self) -> u32 {
        (0..self.n_steps()).fold(self.start, |value, at| self.apply(at, value))
    }

    /// What step `at` makes of a value, both below [`MODULUS`].
    #[must_use]
    pub fn apply(&self, at: usize, value: u32) -> u32 {
        let (sign, operand) = self.steps[at];
        match SIGNS[sign] {
            "+" => (value + operand) % MODULUS,
            "-" => (value + MODULUS - operand) % MODULUS,
            _ => value * operand % MODULUS,
        }
    }

    /// The right solution.
    #[must_use]
    pub fn solution(&self) -> String {
        self.written(|right| (MARKS[0], right))
    }

    /// A solution in a manner; after a wrong result it goes on from there.
    #[must_use]
    pub fn solved(&self, manner: &Manner, stream: &mut ChaCha8Rng) -> String {
        self.written(|right| {
            let draw: f64 = stream.random();
            let [worked_out, remembered, _] = manner.shares;
            let mark = usize::from(draw >= worked_out) + usize::from(draw >= worked_out + remembered);
            let is_wrong = stream.random_bool(manner.wrong[mark]);
            let result = if is_wrong { (right + stream.random_range(1..MODULUS)) % MODULUS } else { right };
            (MARKS[mark], result)
        })
    }

    /// A solution with the marks and results that `resulting` makes of what each step should give.
    fn written(&self, mut resulting: impl FnMut(u32) -> (&'static str, u32)) -> String {
        let mut value = self.start;
        let mut equation = |at: usize| {
            let (sign, operand) = self.steps[at];
            let (before, (mark, after)) = (value, resulting(self.apply(at, value)));
            value = after;
            format!("{before} {} {operand} {mark} {value} {SEPARATOR}", SIGNS[sign])
        };
        (0..self.n_steps()).map(&mut equation).collect::<Vec<_>>().join(" ")
    }

    /// The answer a text gives: the result of its last step. None if it gives none.
    #[must_use]
    pub fn given(text: &str) -> Option<u32> {
        let mut words = text.trim_end().strip_suffix(SEPARATOR)?.split_whitespace().rev();
        let result = digit(words.next()?)?;
        words.next().filter(|mark| MARKS.contains(mark)).map(|_| result)
    }

    /// The first step that is not what it should be, counted from 0: another operation, another operand, another value than
    /// the step before ended in, a wrong result, a step too many or one that is missing. None if all are right.
    #[must_use]
    pub fn first_error(&self, steps: &[impl AsRef<str>]) -> Option<usize> {
        let mut value = self.start;
        for (at, step) in steps.iter().enumerate() {
            let Some((sign, operand)) = self.steps.get(at) else { return Some(at) };
            let words: Vec<&str> = step.as_ref().split_whitespace().collect();
            let (before, operand, after) = (value.to_string(), operand.to_string(), self.apply(at, value).to_string());
            let is_right = |mark: &&str| {
                words.strip_suffix(&[SEPARATOR]).unwrap_or(&words) == [&before, SIGNS[*sign], &operand, mark, &after]
            };
            if !MARKS.iter().any(is_right) {
                return Some(at);
            }
            value = self.apply(at, value);
        }
        (steps.len() < self.n_steps()).then_some(steps.len())
    }
}

fn digit(word: &str) -> Option<u32> {
    DIGITS.iter().zip(0..).find(|(digit, _)| **digit == word).map(|(_, value)| value)
}

/// The tokenizer of chains, one token a word, with further words behind its own.
///
/// # Errors
/// Of the tokenizer, if a word occurs twice.
pub fn tokenizer(more: &[&str]) -> Result<Tokenizer> {
    let all: Vec<&str> = DIGITS.iter().chain(&SIGNS).chain(&MARKS).chain(&[SEPARATOR]).chain(more).copied().collect();
    Ok(Tokenizer::words(&all)?)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn chain(start: u32, steps: &[(usize, u32)]) -> Chain {
        Chain { start, steps: steps.to_vec() }
    }

    #[test]
    fn a_solution_is_right_by_its_own_rules_and_every_word_is_known() {
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let tokenizer = tokenizer(&[]).unwrap();
        for _ in 0..500 {
            let chain = Chain::random(&mut stream, 3..=8);
            let solution = chain.solution();
            let steps: Vec<&str> = solution.split_inclusive(SEPARATOR).map(str::trim).collect();
            assert_eq!(steps.len(), chain.n_steps());
            assert_eq!(
                (chain.first_error(&steps), Chain::given(&solution)),
                (None, Some(chain.answer())),
                "{solution}"
            );
            let ids = tokenizer.encode(&format!("{} {solution}", chain.prompt())).unwrap();
            assert!(!ids.contains(&tracker_lm::UNK) && ids.len() <= 66);
        }
    }

    #[test]
    fn values_are_modulo_seven_and_a_wrong_step_can_be_undone() {
        let chain = chain(3, &[(1, 5), (2, 4), (2, 0)]);
        assert_eq!((chain.prompt().as_str(), chain.answer()), ("3 - 5 * 4 * 0 =", 0));
        assert_eq!(chain.solution(), "3 - 5 = 5 ; 5 * 4 = 6 ; 6 * 0 = 0 ;");
        let wrong = "3 - 5 = 4 ; 4 * 4 = 2 ; 2 * 0 = 0 ;";
        assert_eq!(Chain::given(wrong), Some(chain.answer()));
        assert_eq!(chain.first_error(&["3 - 5 = 4 ;", "4 * 4 = 2 ;", "2 * 0 = 0 ;"]), Some(0));
    }

    #[test]
    fn marks_are_as_frequent_and_as_wrong_as_the_manner_says() {
        let exact = Manner { shares: [1.0, 0.0, 0.0], wrong: [0.0; 3] };
        let manner = Manner { shares: [0.5, 0.3, 0.2], wrong: [0.0, 0.3, 0.9] };
        let mut stream = ChaCha8Rng::seed_from_u64(4);
        let (mut seen, mut wrong) = ([0.0; 3], [0.0; 3]);
        for _ in 0..2000 {
            let chain = Chain::random(&mut stream, 3..=8);
            let text = chain.solved(&manner, &mut stream);
            let steps: Vec<&str> = text.split_inclusive(SEPARATOR).map(str::trim).collect();
            let error = chain.first_error(&steps);
            // Up to the first error all is right, so the first error is a draw of its own.
            for (at, step) in steps.iter().enumerate().take(error.map_or(steps.len(), |at| at + 1)) {
                let mark = MARKS.iter().position(|mark| step.contains(mark)).unwrap();
                seen[mark] += 1.0;
                wrong[mark] += f64::from(u8::from(error == Some(at)));
            }
            assert_eq!(chain.solved(&exact, &mut stream), chain.solution());
            assert!(Chain::given(&text).is_some());
        }
        let n: f64 = seen.iter().sum();
        for mark in 0..3 {
            assert!((seen[mark] / n - manner.shares[mark]).abs() < 0.03, "{seen:?}");
            assert!((wrong[mark] / seen[mark] - manner.wrong[mark]).abs() < 0.03, "{wrong:?} of {seen:?}");
        }
    }

    #[test]
    fn the_first_error_is_found_whatever_it_is() {
        let chain = chain(3, &[(0, 2), (2, 2)]);
        for (steps, error) in [
            (&["3 + 2 = 5 ;", "5 * 2 = 3 ;"][..], None),
            (&["3 + 2 ~ 5 ;", "5 * 2 ? 3 ;"], None),
            (&["3 + 2 ~ 5 ;", "5 * 2 ? 2 ;"], Some(1)),
            (&["3 + 2 5 ;", "5 * 2 = 3 ;"], Some(0)),
            (&["3 + 2 = 5 ;", "5 * 2 = 4 ;"], Some(1)),
            (&["3 + 2 = 5 ;", "6 * 2 = 5 ;"], Some(1)),
            (&["3 + 4 = 0 ;", "0 * 2 = 0 ;"], Some(0)),
            (&["3 - 2 = 1 ;", "1 * 2 = 2 ;"], Some(0)),
            (&["3 + 2 = 5 ;"], Some(1)),
            (&[], Some(0)),
            (&["3 + 2 = 5 ;", "5 * 2 = 3 ;", "3 + 0 = 3 ;"], Some(2)),
            (&["3 + 2 = 5 5 ;", "5 * 2 = 3 ;"], Some(0)),
        ] {
            assert_eq!(chain.first_error(steps), error, "{steps:?}");
        }
    }

    #[test]
    fn a_text_without_an_answer_gives_none() {
        for (text, given) in [
            ("3 + 2 = 5 ;", Some(5)),
            ("3 + 2 = 5 ; 5 * 2 = 3 ; ", Some(3)),
            ("3 + 2 ? 5 ;", Some(5)),
            ("3 + 2 = 5", None),
            ("3 + 2 = ;", None),
            ("3 + 2 = 5 6 ;", None),
            ("3 + 2 = 7 ;", None),
            (";", None),
            ("", None),
        ] {
            assert_eq!(Chain::given(text), given, "{text:?}");
        }
    }
}
