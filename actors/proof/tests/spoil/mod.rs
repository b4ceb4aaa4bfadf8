//! Spoils first-order proofs and statements, word by word.

use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

const TOKENS: &[&str] = &[
    "h1",
    "h2",
    "k1",
    "x1",
    "y2",
    "a",
    "b",
    "d",
    "p",
    "P",
    "R",
    "α",
    "β",
    "f",
    "g",
    "_",
    "(",
    ")",
    "⟨",
    "⟩",
    ",",
    "fun",
    "=>",
    "→",
    ":",
    ":=",
    "@",
    ".1",
    ".2",
    ".left",
    ".symm",
    ".elim",
    ".mp",
    "And.intro",
    "And.left",
    "Or.inl",
    "Or.elim",
    "Exists.intro",
    "Exists.elim",
    "Eq.subst",
    "Eq.symm",
    "Eq.trans",
    "Eq.refl",
    "rfl",
    "congrArg",
    "False.elim",
    "absurd",
    "id",
    "trivial",
    "@Exists.intro",
    "@And.intro",
    "@Eq.refl",
    "@rfl",
    "Exists",
    "Eq",
    "Not",
    "∀",
    "h1 a",
    "( f a )",
    "( h1 a )",
    "fun y =>",
    "fun x h =>",
    "( fun x => P x )",
    "have k := h1 ;",
    "show P a from",
    "this",
    "propext",
    "Iff.refl",
    "Ne",
    "Prop",
    "Type",
    "Iff.symm",
];

/// Cuts a text into words and signs.
fn words(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '@' | '\'');
    let mut words: Vec<String> = Vec::new();
    for piece in text.split([' ', '\n']) {
        let mut last_is_word = false;
        for c in piece.chars() {
            let joins = last_is_word && is_word(c)
                || matches!((words.last().map(String::as_str), c), (Some(":"), '=') | (Some("="), '>'));
            match words.last_mut() {
                Some(word) if joins => word.push(c),
                _ => words.push(c.to_string()),
            }
            last_is_word = is_word(c);
        }
    }
    words
}

/// Spoils a proof in one to three places.
pub(crate) fn mutate(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut words = words(text);
    for _ in 0..rng.random_range(1..=3) {
        if words.is_empty() {
            break;
        }
        let (at, other) = (rng.random_range(0..words.len()), rng.random_range(0..words.len()));
        match rng.random_range(0..10) {
            0 => {
                let copy = words[other].clone();
                words.splice(at..=at, [copy]);
            }
            1 => drop(words.remove(at)),
            2 => words.swap(at, other),
            3 => words[at] = TOKENS.choose(rng).unwrap().to_string(),
            4 => words.insert(at, TOKENS.choose(rng).unwrap().to_string()),
            5 if at + 1 < words.len() => words.swap(at, at + 1),
            6 if rng.random_range(0..6) == 0 => words.truncate(at),
            // another name of the same kind
            _ => {
                let is_name = |word: &str| {
                    word.chars().next().is_some_and(char::is_alphabetic) && !word.contains('.') && word != "fun"
                };
                let names: Vec<usize> = (0..words.len()).filter(|at| is_name(&words[*at])).collect();
                let (Some(at), Some(other)) = (names.choose(rng), names.choose(rng)) else { continue };
                words[*at] = match words[*at].as_str() {
                    "P" => "Q".to_owned(),
                    "Q" => "P".to_owned(),
                    "a" => "b".to_owned(),
                    "b" => "a".to_owned(),
                    _ => words[*other].clone(),
                };
            }
        }
    }
    let mut joined = String::new();
    for word in &words {
        // now and then the space between two words goes, or becomes a line break
        match rng.random_range(0..60) {
            0 => {}
            1 => joined.push_str("\n  "),
            2 => joined.push('\n'),
            _ if word.starts_with('.') => {}
            _ => joined.push(' '),
        }
        joined.push_str(word);
    }
    joined.trim_start().to_owned()
}
