//! Texts as words and numbers, and which of several phrases stand in one.

use std::collections::BTreeMap;

/// English words for numbers below twenty, by place.
const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
/// Tens from twenty.
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
/// What multiplies all before it.
const LARGE: [(&str, u64); 3] = [("thousand", 1_000), ("million", 1_000_000), ("billion", 1_000_000_000)];

/// Scripts told apart, as far as answers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Script {
    Latin,
    Greek,
    Cyrillic,
    /// Written without blanks between words: Chinese, Japanese, Thai and their like.
    Unspaced,
    Other,
}

/// The script of a letter; none for what is no letter.
pub(super) fn script(letter: char) -> Option<Script> {
    if !letter.is_alphabetic() {
        return None;
    }
    Some(match u32::from(letter) {
        0x0000..=0x024f | 0x1e00..=0x1eff => Script::Latin,
        0x0370..=0x03ff | 0x1f00..=0x1fff => Script::Greek,
        0x0400..=0x052f => Script::Cyrillic,
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff => {
            Script::Unspaced
        }
        0x2_0000..=0x3_ffff => Script::Unspaced,
        _ => Script::Other,
    })
}

/// A text in words: lower case, without punctuation, numbers in figures without thousands separators. Letters of scripts that are
/// written without blanks are words by themselves.
#[must_use]
pub fn tokens(text: &str) -> Vec<String> {
    numbers(&split(text))
}

fn split(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut all = Vec::new();
    let mut word = String::new();
    let is_digit = |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(char::is_ascii_digit);
    for (at, letter) in letters.iter().copied().enumerate() {
        let is_within = is_digit(at.checked_sub(1)) && is_digit(Some(at + 1));
        // `1,000` is one number, `1,2` are two.
        let is_thousands =
            letter == ',' && is_within && (1..=3).all(|next| is_digit(Some(at + next))) && !is_digit(Some(at + 4));
        if is_thousands {
            continue;
        }
        if letter == '.' && is_within {
            word.push('.');
        } else if script(letter) == Some(Script::Unspaced) {
            all.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            all.push(letter.to_string());
        } else if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        } else if !is_mark(letter) {
            all.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
    }
    all.extend((!word.is_empty()).then_some(word));
    all
}

/// Marks that combine with the letter before them.
fn is_mark(letter: char) -> bool {
    matches!(u32::from(letter), 0x0300..=0x036f)
}

/// Numbers in words put in figures: `one hundred and five` is `105`. `and` belongs to a number only within one.
fn numbers(words: &[String]) -> Vec<String> {
    let mut all = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        if let Some((value, n_words)) = number(&words[at..]) {
            all.push(value.to_string());
            at += n_words;
        } else {
            all.push(words[at].clone());
            at += 1;
        }
    }
    all
}

/// The number that words begin with, and how many of them it takes.
fn number(words: &[String]) -> Option<(u64, usize)> {
    let (mut total, mut group, mut n_taken) = (0_u64, None::<u64>, 0);
    for (at, word) in words.iter().enumerate() {
        let word = word.as_str();
        let small = SMALL.iter().position(|name| *name == word).map(|value| value as u64);
        let tens = TENS.iter().position(|name| *name == word).map(|value| 10 * (value as u64 + 2));
        let last = group.unwrap_or(0);
        group = match (small, tens) {
            // Units go after tens or hundreds, tens after hundreds; anything else begins another number.
            (Some(value), _) => match group {
                None => Some(value),
                Some(_)
                    if value > 0
                        && (last % 100 == 0 && last > 0 || value < 10 && last % 10 == 0 && last % 100 >= 20) =>
                {
                    Some(last + value)
                }
                Some(_) => break,
            },
            (_, Some(value)) => match group {
                None => Some(value),
                Some(_) if last > 0 && last % 100 == 0 => Some(last + value),
                Some(_) => break,
            },
            _ if word == "hundred" && (group.is_none() || (1..10).contains(&last)) => Some(100 * group.unwrap_or(1)),
            _ => match LARGE.iter().find(|(name, _)| *name == word) {
                Some((_, factor)) => {
                    total = total.checked_add(group.unwrap_or(1).checked_mul(*factor)?)?;
                    n_taken = at + 1;
                    group = None;
                    continue;
                }
                // It goes on only if a number follows.
                None if word == "and" && n_taken > 0 && (last > 0 && last % 100 == 0 || group.is_none()) => continue,
                None => break,
            },
        };
        n_taken = at + 1;
    }
    (n_taken > 0).then(|| (total + group.unwrap_or(0), n_taken))
}

/// An answer as words, without the article it may begin with.
fn phrase(answer: &str) -> Vec<String> {
    let mut words = tokens(answer);
    if words.len() > 1 && matches!(words[0].as_str(), "the" | "a" | "an") {
        words.remove(0);
    }
    words
}

/// Whether two words are one, or one is the plural of the other.
fn is_same(said: &str, word: &str) -> bool {
    let is_plural = |one: &str, many: &str| {
        let is_word = one.chars().count() >= 3 && one.chars().all(char::is_alphabetic);
        is_word && many.strip_prefix(one).is_some_and(|end| end == "s" || end == "es")
    };
    said == word || is_plural(word, said) || is_plural(said, word)
}

/// Which of `answers` a text names, in their order. What a longer name took is not looked at again.
pub(super) fn named(text: &str, answers: &[&str], aliases: &BTreeMap<String, Vec<String>>) -> Vec<bool> {
    let said = tokens(text);
    let mut phrases: Vec<(usize, Vec<String>)> = Vec::new();
    for (at, answer) in answers.iter().enumerate() {
        let others = aliases.get(*answer).into_iter().flatten().map(String::as_str);
        phrases.extend(std::iter::once(*answer).chain(others).map(|name| (at, phrase(name))));
    }
    phrases.retain(|(_, words)| !words.is_empty());
    phrases.sort_by_key(|(at, words)| (std::cmp::Reverse(words.len()), *at));
    let (mut taken, mut named) = (vec![false; said.len()], vec![false; answers.len()]);
    for (at, words) in phrases {
        for start in 0..(said.len() + 1).saturating_sub(words.len()) {
            let here = start..start + words.len();
            let is_free = taken[here.clone()].iter().all(|taken| !taken);
            if is_free && said[here.clone()].iter().zip(&words).all(|(said, word)| is_same(said, word)) {
                taken[here].fill(true);
                named[at] = true;
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_words_and_numbers() {
        for (text, expected) in [
            ("It's RED, isn't it?", "it s red isn t it"),
            ("1,000 or 1,2 or 3.14.", "1000 or 1 2 or 3.14"),
            ("one hundred and five", "105"),
            ("two thousand and twenty four", "2024"),
            ("nineteen eighty four", "19 84"),
            ("twenty one two", "21 2"),
            ("one and two", "1 and 2"),
            ("a hundred men", "a 100 men"),
            ("three million two hundred thousand", "3200000"),
            ("zero", "0"),
            ("forty-two", "42"),
            ("and one", "and 1"),
            ("hundred and", "100 and"),
            ("答えは4", "答 え は 4"),
            ("", ""),
        ] {
            assert_eq!(tokens(text).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn every_number_below_ten_thousand_is_read_from_its_words() {
        fn spelt(n: usize) -> String {
            match n {
                0..20 => SMALL[n].to_owned(),
                20..100 if n.is_multiple_of(10) => TENS[n / 10 - 2].to_owned(),
                20..100 => format!("{}-{}", TENS[n / 10 - 2], SMALL[n % 10]),
                100..1000 if n.is_multiple_of(100) => format!("{} hundred", SMALL[n / 100]),
                100..1000 => format!("{} hundred and {}", SMALL[n / 100], spelt(n % 100)),
                _ if n.is_multiple_of(1000) => format!("{} thousand", SMALL[n / 1000]),
                _ => format!("{} thousand {}", SMALL[n / 1000], spelt(n % 1000)),
            }
        }
        for n in 0..10_000 {
            assert_eq!(tokens(&spelt(n)), [n.to_string()], "{}", spelt(n));
        }
    }
}
