//! Filters held against facts.

use std::cmp::Ordering;

use super::grammar::{self, Condition, Operand, Operator};
use crate::error::{Answer, Refusal};

/// A value that a condition is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Conditions that all must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    pub(crate) conditions: Vec<Condition>,
}

/// Finds the values of `entity.key`, of keys that may have several.
pub(crate) type LookAll<'a> = dyn FnMut(Option<&str>, &str) -> Answer<Vec<Fact>> + 'a;
/// Finds the value of `entity.key`.
pub(crate) type Look<'a> = dyn FnMut(Option<&str>, &str) -> Option<Fact> + 'a;

impl Filter {
    /// Reads a filter.
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        Ok(Self { conditions: grammar::filter(text)? })
    }

    /// Refuses entities, attributes and values that are not there: `keys` are attributes, `numeric` those of them that are numbers, `entities`
    /// what may stand before a dot beside `attribute`; of those `metric` holds numbers.
    pub(crate) fn check(&self, keys: &[&str], numeric: &[&str], entities: &[&str]) -> Answer<()> {
        self.conditions.iter().try_for_each(|condition| {
            let entity = condition.entity.as_deref().unwrap_or("attribute");
            if entity == "attribute" {
                check_attribute(&condition.key, keys)?;
            } else if !entities.contains(&entity) {
                return Err(Refusal::invalid(format!(
                    "Invalid entity type '{entity}'. Valid values are {}",
                    listed(entities.iter().copied().chain(["attribute"]))
                )));
            }
            let is_number = entity == "metric" || entity == "attribute" && numeric.contains(&condition.key.as_str());
            check_operand(condition, entity, is_number)
        })
    }

    /// Whether all conditions hold. A key that is not there fulfils none but IS NULL.
    pub(crate) fn holds(&self, look: &mut Look<'_>) -> Answer<bool> {
        for condition in &self.conditions {
            if !holds(condition, look(condition.entity.as_deref(), &condition.key).as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Filter::holds`], of keys that may have several values: one that fulfils a condition is enough.
    pub(crate) fn holds_any(&self, look: &mut LookAll<'_>) -> Answer<bool> {
        for condition in &self.conditions {
            let facts = look(condition.entity.as_deref(), &condition.key)?;
            let is_fulfilled = match facts.as_slice() {
                [] => holds(condition, None)?,
                facts => {
                    facts.iter().map(|fact| holds(condition, Some(fact))).collect::<Answer<Vec<_>>>()?.contains(&true)
                }
            };
            if !is_fulfilled {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The text a key must equal, if a condition says so.
    pub(crate) fn required(&self, key: &str) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match (&condition.entity, condition.operator, &condition.operand) {
            (None, Operator::Equal, Operand::Text(text)) if condition.key == key => Some(text.as_str()),
            _ => None,
        })
    }
}

pub(crate) fn check_attribute(key: &str, keys: &[&str]) -> Answer<()> {
    if keys.contains(&key) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Invalid attribute key '{key}' specified. Valid keys are {}",
        listed(keys.iter().copied())
    )))
}

fn check_operand(condition: &Condition, entity: &str, is_number: bool) -> Answer<()> {
    let Condition { key, operator, operand, .. } = condition;
    let wrong = |expected: &str| {
        let got = match operand {
            Operand::Number(text) => text.clone(),
            Operand::Text(text) => format!("'{text}'"),
            Operand::List(texts) => format!("({})", texts.join(", ")),
            Operand::Nothing => "nothing".to_owned(),
        };
        Err(Refusal::invalid(format!("Expected {expected} for {entity} '{key}'. Got value {got}")))
    };
    if is_number && !(operator.is_numeric() || matches!(operator, Operator::IsNull | Operator::IsNotNull)) {
        return Err(Refusal::invalid(format!(
            "Invalid comparator '{}' not one of '>, >=, =, !=, <, <=' for {entity} '{key}'",
            operator.text()
        )));
    }
    let is_order =
        matches!(operator, Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual);
    if !is_number && is_order {
        return Err(Refusal::invalid(format!(
            "Invalid comparator '{}' not one of '=, !=, LIKE, ILIKE, IN, NOT IN, IS NULL, IS NOT NULL' for {entity} '{key}'",
            operator.text()
        )));
    }
    match operand {
        Operand::Text(_) if is_number => wrong("a numeric value"),
        Operand::Number(_) if !is_number => wrong("a quoted string value (e.g. 'my-value')"),
        _ => Ok(()),
    }
}

fn holds(Condition { operator, operand, .. }: &Condition, fact: Option<&Fact>) -> Answer<bool> {
    let Some(fact) = fact else { return Ok(*operator == Operator::IsNull) };
    let text = || match fact {
        Fact::Number(number) => number.to_string(),
        Fact::Text(text) => text.clone(),
    };
    let ordering = || match (fact, operand) {
        (Fact::Number(fact), Operand::Number(number)) => fact.partial_cmp(&number.parse().ok()?),
        (Fact::Text(fact), Operand::Text(text)) => Some(fact.as_str().cmp(text)),
        _ => None,
    };
    Ok(match (operator, operand) {
        (Operator::IsNotNull, _) => true,
        (Operator::Equal, _) => ordering() == Some(Ordering::Equal),
        (Operator::NotEqual, _) => ordering() != Some(Ordering::Equal),
        (Operator::Less, _) => ordering() == Some(Ordering::Less),
        (Operator::LessOrEqual, _) => ordering().is_some_and(Ordering::is_le),
        (Operator::Greater, _) => ordering() == Some(Ordering::Greater),
        (Operator::GreaterOrEqual, _) => ordering().is_some_and(Ordering::is_ge),
        (Operator::Like, Operand::Text(pattern)) => is_like(&text(), pattern),
        (Operator::Ilike, Operand::Text(pattern)) => is_like(&text().to_lowercase(), &pattern.to_lowercase()),
        (Operator::In, Operand::List(texts)) => texts.contains(&text()),
        (Operator::NotIn, Operand::List(texts)) => !texts.contains(&text()),
        (Operator::Rlike, Operand::Text(pattern)) => {
            let regex = regex_lite::Regex::new(pattern);
            regex
                .map_err(|error| Refusal::invalid(format!("Invalid regular expression '{pattern}': {error}")))?
                .is_match(&text())
        }
        // IS NULL, of what is there; and operands that `check` refuses.
        _ => false,
    })
}

/// Whether a text fits a pattern of SQL: `%` is any letters, `_` is one. Linear but for one step back at a time.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut p, mut back) = (0, 0, None);
    while at < text.len() {
        match pattern.get(p) {
            Some('%') => {
                back = Some((p, at));
                p += 1;
            }
            Some(letter) if *letter == '_' || *letter == text[at] => (at, p) = (at + 1, p + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (at, p) = (from + 1, star + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '%')
}

pub(crate) fn listed<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.map(|text| format!("'{text}'")).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_or_do_not() {
        let mut look = |_: Option<&str>, key: &str| match key {
            "x" => Some(Fact::Number(0.5)),
            "name" => Some(Fact::Text("Reward Model".to_owned())),
            _ => None,
        };
        for (text, expected) in [
            ("", true),
            ("metrics.x > 0.4 AND metrics.x <= 0.5", true),
            ("metrics.x != 0.5", false),
            ("name LIKE 'Reward%'", true),
            ("name LIKE 'reward%'", false),
            ("name ILIKE 'reward _odel'", true),
            ("name IN ('a', 'Reward Model')", true),
            ("name NOT IN ('a')", true),
            ("name = 'Reward Model'", true),
            ("name != 'x'", true),
            ("tags.none = 'x'", false),
            ("tags.none != 'x'", false),
            ("tags.none IS NULL", true),
            ("name IS NOT NULL", true),
        ] {
            assert_eq!(Filter::parse(text).unwrap().holds(&mut look).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        assert!(!is_like(&"a".repeat(5000), &("%a".repeat(300) + "b")));
        assert!(is_like("", "%%") && !is_like("", "_"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let check =
            |text: &str| Filter::parse(text).unwrap().check(&["name", "n"], &["n"], &["tag"]).unwrap_err().message;
        assert_eq!(check("metricz.m > 1"), "Invalid entity type 'metricz'. Valid values are ['tag', 'attribute']");
        assert!(check("foo = 'x'").starts_with("Invalid attribute key 'foo' specified. Valid keys are ['name', 'n']"));
        assert!(check("n = 'x'").starts_with("Expected a numeric value for attribute 'n'"));
        assert!(check("name = 5").starts_with("Expected a quoted string value"));
        assert!(check("name > 'a'").starts_with("Invalid comparator '>'"));
        assert!(check("n LIKE 'a'").starts_with("Invalid comparator 'LIKE'"));
    }
}
