//! Formulas said in English, without ambiguity, and read back: the informal problem of an exact statement.
//!
//! Every phrase announces its shape with its first words (`both … and …`, `either … or …`, `if … , then …`), so the
//! words alone, without brackets, have one reading: [`parse`] is the exact inverse of [`say`], whatever the phrasing.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Formula, Result, formula::MAX_ATOMS};

/// Deepest nesting read back; what [`say`] gives for a formula read from text stays below it.
const MAX_DEPTH: u32 = 256;

/// Phrasings of each connective: what comes before, between and after its parts.
const NOT: [[&str; 2]; 3] = [["it is not the case that", ""], ["it is false that", ""], ["not", ""]];
const AND: [[&str; 2]; 2] = [["both", "and"], ["it holds both that", "and that"]];
const OR: [[&str; 2]; 2] = [["either", "or"], ["at least one is true :", "or"]];
const IMPLIES: [[&str; 2]; 3] = [["if", ", then"], ["whenever", ", also"], ["from", "it follows that"]];
const IFF: [[&str; 2]; 2] = [["saying that", "amounts to saying that"], ["it is equivalent that", "and that"]];
const TRUE: [&str; 2] = ["something trivial", "a triviality"];
const FALSE: [&str; 2] = ["a contradiction", "an absurdity"];
const ATOM: [&str; 3] = ["", "holds", "is true"];
const SUPPOSE: [&str; 3] = ["Suppose that", "Assume that", "Let it be given that"];
const SHOW: [&str; 3] = ["Show that", "Prove that", "Conclude that"];

/// Says `formula` as a phrase; `names[i]` is atom i. The seed chooses among phrasings that mean the same.
#[must_use]
pub fn say<S: AsRef<str>>(formula: &Formula, names: &[S], seed: u64) -> String {
    let mut speaker = Speaker { rng: ChaCha8Rng::seed_from_u64(seed), names, out: String::new() };
    speaker.phrase(formula);
    speaker.out
}

/// Says `formula` as a problem: some of its leading hypotheses as sentences of their own, then what to show.
#[must_use]
pub fn problem<S: AsRef<str>>(formula: &Formula, names: &[S], seed: u64) -> String {
    let mut speaker = Speaker { rng: ChaCha8Rng::seed_from_u64(seed), names, out: String::new() };
    let mut goal = formula;
    while let Formula::Implies(a, b) = goal
        && speaker.rng.random_range(0..4) > 0
    {
        speaker.choose(&SUPPOSE);
        speaker.phrase(a);
        speaker.out.push('.');
        goal = b;
    }
    speaker.choose(&SHOW);
    speaker.phrase(goal);
    speaker.out.push('.');
    speaker.out
}

struct Speaker<'a, S> {
    rng: ChaCha8Rng,
    names: &'a [S],
    out: String,
}

impl<S: AsRef<str>> Speaker<'_, S> {
    fn words(&mut self, words: &str) {
        if !self.out.is_empty() && !words.is_empty() && !words.starts_with(',') {
            self.out.push(' ');
        }
        self.out.push_str(words);
    }

    fn choose(&mut self, phrasings: &[&str]) {
        let choice = self.rng.random_range(0..phrasings.len());
        self.words(phrasings[choice]);
    }

    fn phrase(&mut self, formula: &Formula) {
        match formula {
            Formula::True => self.choose(&TRUE),
            Formula::False => self.choose(&FALSE),
            Formula::Atom(atom) => {
                let name = self.names.get(usize::from(*atom)).map(AsRef::as_ref);
                let name = name.unwrap_or(crate::formula::ATOM_NAMES[usize::from(*atom) % MAX_ATOMS]).to_owned();
                self.words(&name);
                self.choose(&ATOM);
            }
            Formula::Not(a) => {
                let choice = self.rng.random_range(0..NOT.len());
                self.words(NOT[choice][0]);
                self.phrase(a);
            }
            Formula::And(a, b) => self.pair(&AND, a, b),
            Formula::Or(a, b) => self.pair(&OR, a, b),
            Formula::Implies(a, b) => self.pair(&IMPLIES, a, b),
            Formula::Iff(a, b) => self.pair(&IFF, a, b),
        }
    }

    fn pair(&mut self, phrasings: &[[&str; 2]], a: &Formula, b: &Formula) {
        let [before, between] = phrasings[self.rng.random_range(0..phrasings.len())];
        self.words(before);
        self.phrase(a);
        self.words(between);
        self.phrase(b);
    }
}

/// Reads what [`say`] says.
///
/// # Errors
/// `Syntax` where the words are not such a phrase (the column counts words); `UnknownAtom` for a name not in `names`.
pub fn parse<S: AsRef<str>>(text: &str, names: &[S]) -> Result<Formula> {
    let mut reader = Reader::new(text, names);
    let formula = reader.phrase(0)?;
    reader.end()?;
    Ok(formula)
}

/// Reads what [`problem`] says: the hypotheses as implications to what is to be shown.
///
/// # Errors
/// As [`parse`].
pub fn parse_problem<S: AsRef<str>>(text: &str, names: &[S]) -> Result<Formula> {
    let mut reader = Reader::new(text, names);
    let mut hypotheses = Vec::new();
    while reader.take_one(&SUPPOSE) {
        hypotheses.push(reader.phrase(0)?);
        reader.expect(".")?;
    }
    if !reader.take_one(&SHOW) {
        return Err(reader.error("expected `Suppose that`, `Show that` or one of their like"));
    }
    let goal = reader.phrase(0)?;
    reader.expect(".")?;
    reader.end()?;
    Ok(hypotheses.into_iter().rev().fold(goal, |goal, hypothesis| hypothesis.implies(goal)))
}

/// Makes a formula of its two parts.
type Connective = fn(Box<Formula>, Box<Formula>) -> Formula;

struct Reader<'t, S> {
    words: Vec<&'t str>,
    at: usize,
    names: &'t [S],
}

impl<'t, S: AsRef<str>> Reader<'t, S> {
    fn new(text: &'t str, names: &'t [S]) -> Self {
        let mut words = Vec::new();
        for chunk in text.split_whitespace() {
            // a comma and a full stop are words of their own
            match chunk.strip_suffix([',', '.']) {
                Some("") | None => words.push(chunk),
                Some(word) => words.extend([word, &chunk[word.len()..]]),
            }
        }
        Self { words, at: 0, names }
    }

    fn error(&self, reason: &'static str) -> Error {
        Error::Syntax { line: 1, column: self.at as u32, reason }
    }

    fn end(&self) -> Result<()> {
        if self.at == self.words.len() { Ok(()) } else { Err(self.error("expected the end of the text")) }
    }

    fn take(&mut self, phrase: &str) -> bool {
        let rest = &self.words[self.at..];
        let n = phrase.split(' ').count();
        let found = rest.len() >= n && phrase.split(' ').zip(rest).all(|(expected, word)| expected == *word);
        if found {
            self.at += n;
        }
        found
    }

    fn take_one(&mut self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.take(phrase))
    }

    fn expect(&mut self, phrase: &'static str) -> Result<()> {
        if self.take(phrase) { Ok(()) } else { Err(self.error("expected the next part of the phrase")) }
    }

    fn phrase(&mut self, depth: u32) -> Result<Formula> {
        if depth >= MAX_DEPTH {
            return Err(self.error("the phrase is nested deeper than 256 levels"));
        }
        if self.take_one(&TRUE) {
            return Ok(Formula::True);
        }
        if self.take_one(&FALSE) {
            return Ok(Formula::False);
        }
        for [before, _] in NOT {
            if self.take(before) {
                return Ok(Formula::Not(Box::new(self.phrase(depth + 1)?)));
            }
        }
        let pairs: [(&[[&'static str; 2]], Connective); 4] =
            [(&AND, Formula::And), (&OR, Formula::Or), (&IMPLIES, Formula::Implies), (&IFF, Formula::Iff)];
        for (phrasings, make) in pairs {
            for [before, between] in phrasings {
                if self.take(before) {
                    let a = Box::new(self.phrase(depth + 1)?);
                    self.expect(between)?;
                    return Ok(make(a, Box::new(self.phrase(depth + 1)?)));
                }
            }
        }
        self.atom()
    }

    fn atom(&mut self) -> Result<Formula> {
        let Some(word) = self.words.get(self.at) else { return Err(self.error("expected a phrase")) };
        let Some(atom) = self.names.iter().position(|name| name.as_ref() == *word) else {
            return Err(Error::UnknownAtom { name: (*word).to_owned() });
        };
        self.at += 1;
        self.take_one(&ATOM[1..]);
        Ok(Formula::Atom(atom.min(MAX_ATOMS - 1) as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{corpus, formula::ATOM_NAMES};

    #[test]
    fn english_reads_back_to_the_same_formula_in_every_phrasing() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut texts = std::collections::BTreeSet::new();
        for seed in 0..2_000 {
            let formula = corpus::formula(&mut rng, 4, 4);
            let phrase = say(&formula, &ATOM_NAMES, seed);
            assert_eq!(parse(&phrase, &ATOM_NAMES).unwrap(), formula, "{phrase}");
            let problem = problem(&formula, &ATOM_NAMES, seed);
            assert_eq!(parse_problem(&problem, &ATOM_NAMES).unwrap(), formula, "{problem}");
            texts.insert(say(&"And p q → p".parse().unwrap(), &ATOM_NAMES, seed));
        }
        assert!(texts.len() > 20, "only {} phrasings", texts.len());
        assert!(texts.contains("if both p and q, then p"));
    }

    #[test]
    fn other_words_are_errors() {
        for text in ["", "p q", "both p", "if p then q", "both p or q", "x", "Show that p", "p holds holds"] {
            assert!(parse(text, &ATOM_NAMES).is_err(), "{text}");
            assert!(parse_problem(text, &ATOM_NAMES).is_err(), "{text}");
        }
        assert!(parse(&"not ".repeat(100_000), &ATOM_NAMES).is_err());
    }
}
