//! Chains of modular arithmetic: problems whose every step has one right answer, and where a wrong step can be undone.
//!
//! A prompt is a start and operations, `3 + 2 * 0 - 6 =`; a solution writes an equation a step, `3 + 2 = 5 ;`, and its last
//! result is the answer. Everything is modulo seven. Multiplying by nought makes any value right again, so a wrong prefix has
//! a chance, and how large it is is what process rewards are about.

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
        self.written(|value| value)
    }

    /// A solution of somebody who, with probability `rate` in [0, 1], copies the value that a step begins with wrong, and goes on from
    /// there.
    #[must_use]
    pub fn slipping(&self, rate: f64, stream: &mut ChaCha8Rng) -> String {
        self.written(
            |value| {
                if stream.random_bool(rate) { (value + stream.random_range(1..MODULUS)) % MODULUS } else { value }
            },
        )
    }

    /// A solution whose steps begin with what `copied` makes of the value before.
    fn written(&self, mut copied: impl FnMut(u32) -> u32) -> String {
        let mut value = self.start;
        let mut equation = |at: usize| {
            let (sign, operand) = self.steps[at];
            let (sign, before) = (SIGNS[sign], copied(value));
            value = self.apply(at, before);
            format!("{before} {sign} {operand} = {value} {SEPARATOR}")
        };
        (0..self.n_steps()).map(&mut equation).collect::<Vec<_>>().join(" ")
    }

    /// The answer a text gives: the result of its last step. None if it gives none.
    #[must_use]
    pub fn given(text: &str) -> Option<u32> {
        let last = text.trim_end().strip_suffix(SEPARATOR)?;
        digit(last.rsplit_once('=')?.1.trim())
    }

    /// Whether a text ends in the right answer.
    #[must_use]
    pub fn grade(&self, text: &str) -> bool {
        Self::given(text) == Some(self.answer())
    }

    /// The first step that is not what it should be, counted from 0: another operation, another operand, another value than
    /// the step before ended in, a wrong result, a step too many or one that is missing. None if all are right.
    #[must_use]
    pub fn first_error(&self, steps: &[impl AsRef<str>]) -> Option<usize> {
        let mut value = self.start;
        for (at, step) in steps.iter().enumerate() {
            let Some((sign, operand)) = self.steps.get(at) else { return Some(at) };
            let words: Vec<&str> = step.as_ref().split_whitespace().collect();
            let right =
                [&value.to_string(), SIGNS[*sign], &operand.to_string(), "=", &self.apply(at, value).to_string()];
            if words.strip_suffix(&[SEPARATOR]).unwrap_or(&words) != right {
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
    let all: Vec<&str> = DIGITS.iter().chain(&SIGNS).chain(&["=", SEPARATOR]).chain(more).copied().collect();
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
            assert_eq!((chain.first_error(&steps), chain.grade(&solution)), (None, true), "{solution}");
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
        assert!(chain.grade(wrong));
        assert_eq!(chain.first_error(&["3 - 5 = 4 ;", "4 * 4 = 2 ;", "2 * 0 = 0 ;"]), Some(0));
    }

    #[test]
    fn who_slips_at_a_rate_slips_at_that_rate_and_nowhere_else() {
        let mut stream = ChaCha8Rng::seed_from_u64(4);
        let (mut n_steps, mut n_wrong) = (0, 0);
        for _ in 0..2000 {
            let chain = Chain::random(&mut stream, 3..=8);
            let text = chain.slipping(0.2, &mut stream);
            let steps: Vec<&str> = text.split_inclusive(SEPARATOR).map(str::trim).collect();
            // Up to the first error all is right, so the first error is a draw of its own.
            n_wrong += usize::from(chain.first_error(&steps).is_some());
            n_steps += chain.first_error(&steps).map_or(steps.len(), |at| at + 1);
            assert_eq!(chain.slipping(0.0, &mut stream), chain.solution());
        }
        assert!((n_wrong as f64 / n_steps as f64 - 0.2).abs() < 0.02, "{n_wrong} of {n_steps}");
    }

    #[test]
    fn the_first_error_is_found_whatever_it_is() {
        let chain = chain(3, &[(0, 2), (2, 2)]);
        for (steps, error) in [
            (&["3 + 2 = 5 ;", "5 * 2 = 3 ;"][..], None),
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
