//! What columns hold, how values compare, and what patterns match.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// One cell of an answer. JSON has it as the plain value; a number that is not finite is a text there: `NaN`,
/// `Infinity`, `-Infinity`.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// There is none.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
}

impl Value {
    /// As a number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether ordering puts it last whatever the direction: null and NaN.
    pub(super) fn is_last(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Real(number) => number.is_nan(),
            _ => false,
        }
    }

    /// Whether it passes a test beside a literal, which is told how the two are ordered: not at all if one is NaN. `None` if they do not
    /// compare. A text and a number compare as numbers if the text is one.
    pub(super) fn passes(&self, literal: &Self, test: impl FnOnce(Option<Ordering>) -> bool) -> Option<bool> {
        let ordering = match (self, literal) {
            (Self::Null, _) | (_, Self::Null) => return None,
            (Self::Text(text), Self::Text(literal)) => Some(text.as_str().cmp(literal)),
            (Self::Bool(value), Self::Bool(literal)) => Some(value.cmp(literal)),
            (Self::Int(value), Self::Int(literal)) => Some(value.cmp(literal)),
            (Self::Text(text), literal) => text.trim().parse::<f64>().ok()?.partial_cmp(&literal.number()?),
            (value, Self::Text(literal)) => value.number()?.partial_cmp(&literal.trim().parse().ok()?),
            (value, literal) => value.number()?.partial_cmp(&literal.number()?),
        };
        Some(test(ordering))
    }

    /// A total order for sorting: by type where types differ; what [is last](Self::is_last) is greatest.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        fn rank(value: &Value) -> u8 {
            match value {
                Value::Bool(_) => 0,
                Value::Real(number) if number.is_nan() => 3,
                Value::Int(_) | Value::Real(_) => 1,
                Value::Text(_) => 2,
                Value::Null => 4,
            }
        }
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)).then_with(|| match (a.number(), b.number()) {
                (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                _ => Ordering::Equal,
            }),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Real(value) if value.is_nan() => serializer.serialize_str("NaN"),
            Self::Real(value) if value.is_infinite() => {
                serializer.serialize_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Self::Real(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Null, Self::Real)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Values a page token carries: as they are, with every bit of a float.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Exact {
    Null,
    Bool(bool),
    Int(i64),
    Real(u64),
    Text(String),
}

impl From<&Value> for Exact {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Real(value) => Self::Real(value.to_bits()),
            Value::Text(value) => Self::Text(value.clone()),
        }
    }
}

impl From<Exact> for Value {
    fn from(value: Exact) -> Self {
        match value {
            Exact::Null => Self::Null,
            Exact::Bool(value) => Self::Bool(value),
            Exact::Int(value) => Self::Int(value),
            Exact::Real(bits) => Self::Real(f64::from_bits(bits)),
            Exact::Text(value) => Self::Text(value),
        }
    }
}

/// Whether `text` is like `pattern`, in which `%` stands for any characters and `_` for one.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut nth) = (0, 0);
    // Where to go on after the last `%` if what follows it does not match: one character further.
    let mut retry = None;
    while at < text.len() {
        match pattern.get(nth) {
            Some('%') => {
                nth += 1;
                retry = Some((at, nth));
            }
            Some(letter) if *letter == '_' || *letter == text[at] => {
                at += 1;
                nth += 1;
            }
            _ => {
                let Some((from, after)) = retry else {
                    return false;
                };
                retry = Some((from + 1, after));
                (at, nth) = (from + 1, after);
            }
        }
    }
    pattern[nth..].iter().all(|letter| *letter == '%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the definition.
    fn like_by_definition(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| like_by_definition(&text[skip..], rest)),
            Some((letter, rest)) => text
                .split_first()
                .is_some_and(|(first, text)| (*letter == '_' || letter == first) && like_by_definition(text, rest)),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(text in "[ab]{0,8}", pattern in "[ab%_]{0,8}") {
            let (chars, letters): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            prop_assert_eq!(is_like(&text, &pattern), like_by_definition(&chars, &letters), "{} like {}", text, pattern);
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        assert!(!is_like(&"a".repeat(5000), &("%a".repeat(300) + "b")));
    }

    #[test]
    fn null_and_nan_come_last_and_texts_that_are_numbers_compare_as_such() {
        assert!(Value::Null.is_last() && Value::Real(f64::NAN).is_last());
        let is_equal = |value: Value, literal| value.passes(&literal, |ordering| ordering == Some(Ordering::Equal));
        assert_eq!(is_equal(Value::Text("0.10".to_owned()), Value::Real(0.1)), Some(true));
        assert_eq!(is_equal(Value::Text("auto".to_owned()), Value::Real(0.1)), None);
        assert_eq!(is_equal(Value::Null, Value::Null), None);
        assert_eq!(is_equal(Value::Real(f64::NAN), Value::Int(1)), Some(false));
        assert_eq!(serde_json::to_string(&Value::Real(f64::NEG_INFINITY)).unwrap(), "\"-Infinity\"");
    }
}
