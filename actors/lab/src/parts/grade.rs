//! Graders: what a text gives as its answer, and whether that is the one expected.
//!
//! Not here: partial credit, and equality of expressions that need algebra (`1/2` is not `2^{-1}`).

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_store::Program;

use crate::parts::chains::Chain;
use crate::parts::rows::boxed;

/// How an answer is found in a text and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grader {
    /// The result of the last step of a chain.
    LastResult,
    /// GSM8K's: the number after the last `####` or `The answer is`, equal as a number.
    Gsm8k,
    /// MATH's: what the last `\boxed{…}` holds, or what follows `The answer is`; equal as written, once spacing, units of text
    /// and other spellings of one thing are gone, or equal as a number.
    Math,
}

impl Grader {
    /// Its record.
    #[must_use]
    pub fn program(self) -> Program {
        let (name, settings) = match self {
            Self::LastResult => ("last result", "modulo 7"),
            Self::Gsm8k => ("gsm8k", "number after #### or `The answer is`"),
            Self::Math => ("math", "last \\boxed or `The answer is`, as written"),
        };
        Program { name: name.into(), version: "1".into(), settings: settings.into() }
    }

    /// The answer a text gives, in the one form in which answers are compared. None if it gives none.
    #[must_use]
    pub fn answer(self, text: &str) -> Option<String> {
        const SAID: &str = "The answer is";
        let said = |marks: [&str; 2]| {
            let (_, tail) = marks.into_iter().find_map(|mark| text.rsplit_once(mark))?;
            tail.trim_start_matches([':', ' ']).lines().next()
        };
        let answer = match self {
            Self::LastResult => return Chain::given(text).map(|result| result.to_string()),
            Self::Gsm8k => number(said(["####", SAID])?)?,
            Self::Math => written(boxed(text).or_else(|| said([SAID, SAID]))?),
        };
        Some(answer).filter(|answer| !answer.is_empty())
    }

    /// An answer that is known, in the form in which answers are compared. None if it can be no answer: nothing, or for
    /// [`Grader::Gsm8k`] no number.
    #[must_use]
    pub fn expected(self, answer: &str) -> Option<String> {
        let expected = match self {
            Self::LastResult => answer.trim().to_owned(),
            Self::Gsm8k => number(answer)?,
            Self::Math => written(answer),
        };
        Some(expected).filter(|expected| !expected.is_empty())
    }
}

/// A decimal number at the start of a text, without a currency, thousands, a sign of plus, or digits that say nothing.
fn number(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches(['$', '€', '£']).trim_start();
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start_matches('$')),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.')).unwrap_or(text.len());
    let digits: String = text[..end].trim_end_matches(['.', ',']).chars().filter(|c| *c != ',').collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let is_number = has_digits && !fraction.contains('.');
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let value = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    let sign = if is_negative && value != "0" { "-" } else { "" };
    is_number.then(|| format!("{sign}{value}"))
}

/// An expression in LaTeX in one of its spellings: no spacing, no text, plain fractions, a number as [`number`] has it.
fn written(text: &str) -> String {
    /// What is only for the eye.
    const GONE: [&str; 13] = [
        "\\left",
        "\\right",
        "\\!",
        "\\,",
        "\\;",
        "\\:",
        "\\ ",
        "\\$",
        "$",
        "\\displaystyle",
        "^{\\circ}",
        "^\\circ",
        "\\%",
    ];
    /// Commands that leave what they hold as it is.
    const WRAPS: [&str; 4] = ["\\text{", "\\mathrm{", "\\mbox{", "\\textbf{"];
    let mut text = Cow::Borrowed(text.trim().trim_end_matches('.'));
    for wrap in WRAPS {
        while let Some(at) = text.find(wrap) {
            let rest = &text[at + wrap.len()..];
            let Some(end) = rest.find('}') else { break };
            text = Cow::Owned(format!("{}{}{}", &text[..at], rest[..end].trim(), &rest[end + 1..]));
        }
    }
    let mut text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac");
    for gone in GONE {
        text = text.replace(gone, "");
    }
    text.retain(|c| !c.is_whitespace());
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || ".,".contains(c));
    // `1,2` is a list, `1,234` a number.
    let is_list = text.split(',').skip(1).any(|group| group.split('.').next().is_none_or(|digits| digits.len() != 3));
    if is_plain && !is_list { number(&text).unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_right(grader: Grader, text: &str, expected: &str) -> bool {
        let expected = grader.expected(expected);
        expected.is_some() && grader.answer(text) == expected
    }

    #[test]
    fn numbers_are_equal_as_numbers() {
        for (text, expected, right) in [
            ("so she has 5.\n#### 5", "5", true),
            ("#### 1,234", "1234", true),
            ("#### $18.00", "18", true),
            ("#### -3", "-3", true),
            ("#### -$3.50", "-3.5", true),
            ("#### 007", "7", true),
            ("#### -0", "0", true),
            ("The answer is: 42", "42", true),
            ("The answer is 42.", "42", true),
            ("The answer is 41. The answer is 42 dollars", "42", true),
            ("#### 4\n#### 5", "5", true),
            ("#### 5", "50", false),
            ("#### 5.05", "5.5", false),
            ("5", "5", false),
            ("####", "5", false),
            ("#### five", "5", false),
            ("#### 1.2.3", "1.2", false),
            ("", "0", false),
        ] {
            assert_eq!(is_right(Grader::Gsm8k, text, expected), right, "{text:?} against {expected}");
        }
        assert_eq!(Grader::Gsm8k.expected("many"), None);
    }

    #[test]
    fn expressions_are_equal_as_written() {
        for (text, expected, right) in [
            (r"thus \boxed{\frac{1}{2}}", r"\dfrac{1}{2}", true),
            (r"\boxed{ \left( 3, \frac{\pi}{2} \right) }", r"(3,\frac{\pi}{2})", true),
            (r"\boxed{5\text{ cm}}", r"5\text{cm}", true),
            (r"\boxed{90^\circ}", "90", true),
            (r"\boxed{1,234}", "1234", true),
            (r"\boxed{1,2}", "1,2", true),
            (r"\boxed{1,2}", "12", false),
            (r"\boxed{3-2}", "3", false),
            (r"\boxed{-2.50}", "-2.5", true),
            (r"\boxed{\$18.90}", "18.9", true),
            (r"\boxed{a} and \boxed{b}", "b", true),
            (r"\boxed{x^{2}+1}", "x^{2}+1", true),
            (r"The answer is: $\frac{3}{4}$.", r"\frac{3}{4}", true),
            (r"\boxed{}", "", false),
            (r"\boxed{2", "2", false),
            (r"\boxed{\text{odd", "odd", false),
            ("x = 2", "2", false),
        ] {
            assert_eq!(is_right(Grader::Math, text, expected), right, "{text:?} against {expected}");
        }
    }

    #[test]
    fn a_chain_gives_its_last_result() {
        assert!(is_right(Grader::LastResult, "3 + 2 = 5 ; 5 * 2 = 3 ;", "3"));
        assert!(!is_right(Grader::LastResult, "3 + 2 = 5 ; 5 * 2 =", "5"));
    }
}
