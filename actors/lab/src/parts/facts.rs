//! A small language of facts to look up: how much of what was asked an answer says, how much it makes up and how long it is
//! are all computed exactly.
//!
//! A prompt lists facts and asks for some, the most important first: `facts c3 a0 f1 d2 ask a d =`. A fact is a word, its key
//! and its value. An answer is a list of facts, `a0 d2`.

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use tracker_lm::Tokenizer;

use crate::error::Result;

const KEYS: [char; 12] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'];
const N_VALUES: u32 = 4;
/// Words of an answer whose verbosity is 100; more count no further.
pub const MAX_WORDS: usize = 10;
/// What each made-up word costs.
const MADE_UP: f64 = 10.0;
/// The n-th word that says nothing asked for costs n times this.
const PADDING: f64 = 2.0;
/// How often a teacher leaves out what was asked.
const LEFT_OUT: f64 = 0.15;

/// What an answer is measured by, each from 0 to 100, in the order of [`Facts::measure`].
///
/// - `recall`: the weight of what was asked for and said; of what is asked, each thing weighs half of the one before.
/// - `hallucination`: 10 for each word that is no fact of the prompt.
/// - `padding`: for words that are true and say nothing asked for, or nothing new: 2 for the first, 4 for the second, …
/// - `verbosity`: 10 for each word.
pub const MEASURES: [&str; 4] = ["recall", "hallucination", "padding", "verbosity"];

/// Facts, and which of them are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facts {
    /// Key and value of each.
    facts: Vec<(usize, u32)>,
    /// Places of those asked for, the most important first.
    asked: Vec<usize>,
}

impl Facts {
    /// Most facts that can be listed.
    pub const MOST: usize = KEYS.len();

    /// A random prompt with so many facts, of which so many are asked for; at most [`Facts::MOST`], and at most all.
    #[must_use]
    pub fn random(stream: &mut ChaCha8Rng, n_facts: usize, n_asked: usize) -> Self {
        let mut keys: Vec<usize> = (0..KEYS.len()).collect();
        keys.shuffle(stream);
        let facts: Vec<(usize, u32)> =
            keys.into_iter().take(n_facts).map(|key| (key, stream.random_range(0..N_VALUES))).collect();
        let mut asked: Vec<usize> = (0..facts.len()).collect();
        asked.shuffle(stream);
        asked.truncate(n_asked);
        Self { facts, asked }
    }

    /// What is asked.
    #[must_use]
    pub fn prompt(&self) -> String {
        let facts = self.facts.iter().map(|(key, value)| word(*key, *value));
        let asked = self.asked.iter().map(|at| KEYS[self.facts[*at].0].to_string());
        let words: Vec<String> =
            ["facts".to_owned()].into_iter().chain(facts).chain(["ask".to_owned()]).chain(asked).collect();
        words.join(" ") + " ="
    }

    /// What somebody answers who leaves out now and then what was asked, says more or less, and gets each value wrong with
    /// probability `error_rate`, in [0, 1].
    #[must_use]
    pub fn erring(&self, error_rate: f64, stream: &mut ChaCha8Rng) -> String {
        let n_words = stream.random_range(1..=MAX_WORDS);
        let mut said: Vec<usize> = self.asked.iter().copied().filter(|_| !stream.random_bool(LEFT_OUT)).collect();
        let mut rest: Vec<usize> = (0..self.facts.len()).filter(|at| !said.contains(at)).collect();
        rest.shuffle(stream);
        said.extend(rest);
        while said.len() < n_words {
            said.extend((0..self.facts.len()).collect::<Vec<_>>().choose(stream).copied());
        }
        let say = |at: usize| {
            let (key, value) = self.facts[at];
            let wrong = stream.random_bool(error_rate);
            let value = if wrong { (value + stream.random_range(1..N_VALUES)) % N_VALUES } else { value };
            word(key, value)
        };
        said.into_iter().take(n_words).map(say).collect::<Vec<_>>().join(" ")
    }

    /// What an answer is worth by each of [`MEASURES`].
    #[must_use]
    pub fn measure(&self, answer: &str) -> [f64; 4] {
        let (mut recall, mut n_made_up, mut n_padding, mut n_words) = (0.0, 0, 0, 0);
        let mut seen = vec![false; self.facts.len()];
        for said in answer.split_whitespace() {
            n_words += 1;
            match self.facts.iter().position(|(key, value)| word(*key, *value) == said) {
                None => n_made_up += 1,
                Some(at) if seen[at] => n_padding += 1,
                Some(at) => {
                    seen[at] = true;
                    match self.asked.iter().position(|asked| *asked == at) {
                        Some(rank) => recall += self.weight(rank),
                        None => n_padding += 1,
                    }
                }
            }
        }
        let verbosity = 100.0 * f64::from(n_words) / MAX_WORDS as f64;
        [recall, MADE_UP * f64::from(n_made_up), padding(n_padding), verbosity].map(|x| x.min(100.0))
    }

    /// The best that can be said in each number of words, from none to [`MAX_WORDS`]: what was asked for in its order, then
    /// padding. By each of [`MEASURES`].
    #[must_use]
    pub fn possible(&self) -> Vec<[f64; 4]> {
        let best = |n: usize| {
            let n_said = n.min(self.asked.len());
            let recall: f64 = (0..n_said).map(|rank| self.weight(rank)).sum();
            let n_padding = (n - n_said) as u32;
            [recall.min(100.0), 0.0, padding(n_padding).min(100.0), 100.0 * n as f64 / MAX_WORDS as f64]
        };
        (0..=MAX_WORDS).map(best).collect()
    }

    /// What the thing asked for at this place is worth; all together 100.
    fn weight(&self, rank: usize) -> f64 {
        let halves = |n: usize| 0.5_f64.powi(n as i32);
        100.0 * halves(rank + 1) / (1.0 - halves(self.asked.len()))
    }
}

fn padding(n: u32) -> f64 {
    PADDING * f64::from(n * (n + 1)) / 2.0
}

fn word(key: usize, value: u32) -> String {
    format!("{}{value}", KEYS[key])
}

/// A whole number in the words of the language: its sign where it may be below 0, then its digits, `- 2 6`.
#[must_use]
pub fn spell(n: i32, is_signed: bool) -> String {
    let sign = if n < 0 { "- " } else { "+ " };
    let digits: Vec<String> = n.unsigned_abs().to_string().chars().map(String::from).collect();
    format!("{}{}", if is_signed { sign } else { "" }, digits.join(" "))
}

/// The tokenizer of the language, one token a word, with words besides.
///
/// # Errors
/// If a word besides is one of the language.
pub fn tokenizer(besides: &[&str]) -> Result<Tokenizer> {
    let facts = (0..KEYS.len()).flat_map(|key| (0..N_VALUES).map(move |value| word(key, value)));
    let words: Vec<String> = ["facts", "ask", "=", "+", "-"]
        .into_iter()
        .map(str::to_owned)
        .chain(KEYS.map(String::from))
        .chain((0..10).map(|digit| digit.to_string()))
        .chain(facts)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(besides.iter().copied()).collect();
    Ok(Tokenizer::words(&words)?)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// `facts c3 a0 f1 d2 ask a d =`
    fn small() -> Facts {
        Facts { facts: vec![(2, 3), (0, 0), (5, 1), (3, 2)], asked: vec![1, 3] }
    }

    #[test]
    fn answers_are_measured_by_what_they_say() {
        let small = small();
        assert_eq!(small.prompt(), "facts c3 a0 f1 d2 ask a d =");
        let (first, second) = (200.0 / 3.0, 100.0 / 3.0);
        for (answer, expected) in [
            ("a0 d2", [100.0, 0.0, 0.0, 20.0]),
            ("d2 a0", [100.0, 0.0, 0.0, 20.0]),
            ("a0", [first, 0.0, 0.0, 10.0]),
            ("d2", [second, 0.0, 0.0, 10.0]),
            ("a1", [0.0, 10.0, 0.0, 10.0]),
            ("a1 a0", [first, 10.0, 0.0, 20.0]),
            ("a0 a0 a0", [first, 0.0, 6.0, 30.0]),
            ("a0 c3 f1", [first, 0.0, 6.0, 30.0]),
            ("b0 facts", [0.0, 20.0, 0.0, 20.0]),
            ("", [0.0; 4]),
        ] {
            let got = small.measure(answer);
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{answer}: {got:?}");
        }
        assert_eq!(small.measure(&"b0 ".repeat(40)), [0.0, 100.0, 0.0, 100.0]);
    }

    /// Over all answers of up to three words there is none better than what is said to be possible.
    #[test]
    fn nothing_beats_what_is_possible() {
        let small = small();
        let words = ["c3", "a0", "f1", "d2", "b1"];
        let good = |m: &[f64; 4]| m[0] - m[1] - m[2];
        let mut answers = vec![String::new()];
        for n in 0..=3 {
            let best = answers.iter().map(|answer| good(&small.measure(answer))).fold(f64::MIN, f64::max);
            assert!((best - good(&small.possible()[n])).abs() < 1e-9, "{n}");
            answers = answers.iter().flat_map(|answer| words.map(|word| format!("{answer} {word}"))).collect();
        }
    }

    #[test]
    fn teachers_err_at_their_rate_and_every_word_is_known() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        let tokenizer = tokenizer(&["help"]).unwrap();
        let (mut n_words, mut n_wrong) = (0.0, 0.0);
        for _ in 0..2000 {
            let facts = Facts::random(&mut stream, 8, 5);
            let answer = facts.erring(0.2, &mut stream);
            let [_, hallucination, _, verbosity] = facts.measure(&answer);
            n_wrong += hallucination / 10.0;
            n_words += verbosity / 10.0;
            let text = format!("help {} {} {answer}", spell(-26, true), facts.prompt());
            assert!(!tokenizer.encode(&text).unwrap().contains(&tracker_lm::UNK), "{text}");
            assert_eq!(facts.measure(&facts.erring(0.0, &mut stream))[1], 0.0);
        }
        assert!((n_wrong / n_words - 0.2_f64).abs() < 0.02, "{n_wrong} of {n_words}");
    }

    #[test]
    fn numbers_are_spelt_digit_by_digit() {
        assert_eq!(spell(-26, true), "- 2 6");
        assert_eq!(spell(0, true), "+ 0");
        assert_eq!(spell(100, false), "1 0 0");
        assert_eq!(spell(7, true), "+ 7");
    }
}
