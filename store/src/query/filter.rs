//! Filters: conditions on fields, joined by AND, OR, NOT and parentheses.
//!
//! A field that is not there makes a condition neither true nor false, as in SQL; a row is kept where the whole filter is
//! true. NaN is unequal to every number, and neither less nor greater. The grammar is a superset of that of `MLflow`.

use std::cmp::Ordering;

use super::grammar;
use super::value::{Value, is_like};
use crate::error::Result;

/// A filter that was read, not yet held against a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub(super) text: String,
    pub(super) root: Expr,
}

impl Filter {
    /// Reads a filter: comparisons `= != < <= > >=`, `[NOT] LIKE`, `[NOT] ILIKE`, `[NOT] IN (…)`, `IS [NOT] NULL`, joined
    /// by `AND`, `OR`, `NOT` and parentheses. Fields are `entity.key` or bare; keys with other characters stand in
    /// back-ticks or double quotes. Texts stand in single or double quotes.
    ///
    /// # Errors
    /// `Syntax` with the column, what was expected and what was there.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { text: text.to_owned(), root: grammar::filter(text)? })
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Is(Field, Test),
}

/// A field as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    /// What stands before the dot, if there is one.
    pub(super) entity: Option<String>,
    pub(super) key: String,
    /// Where it was written, counting characters from 1.
    pub(super) column: usize,
}

impl Field {
    /// As it was written, without quotes.
    pub(super) fn name(&self) -> String {
        self.entity.as_ref().map_or_else(|| self.key.clone(), |entity| format!("{entity}.{}", self.key))
    }

    /// The field of what the entity leads to.
    pub(super) fn rest(&self) -> Self {
        match self.key.split_once('.') {
            Some((entity, key)) => Self { entity: Some(entity.to_owned()), key: key.to_owned(), column: self.column },
            None => Self { entity: None, ..self.clone() },
        }
    }
}

/// What a field is held against.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Compare(Comparison, Value),
    Like { pattern: String, ignores_case: bool },
    In(Vec<Value>),
    IsNull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds of two values in this order; of NaN, which is in none, only that it is unequal.
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equal => ordering == Some(Ordering::Equal),
            Self::NotEqual => ordering != Some(Ordering::Equal),
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => ordering.is_some_and(Ordering::is_le),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

impl Expr {
    /// Whether it is true, false, or neither, of a row whose fields `look` gives; several values of one field are enough
    /// with one that passes.
    pub(super) fn holds(&self, look: &mut dyn FnMut(&Field) -> Result<Vec<Value>>) -> Result<Option<bool>> {
        match self {
            Self::All(parts) => join(parts, false, look),
            Self::Any(parts) => join(parts, true, look),
            Self::Not(part) => Ok(part.holds(look)?.map(|holds| !holds)),
            Self::Is(field, test) => {
                let values = look(field)?;
                if *test == Test::IsNull {
                    return Ok(Some(values.iter().all(|value| *value == Value::Null)));
                }
                let known = values.iter().filter_map(|value| test.passes(value));
                Ok(known.reduce(|any, passes| any || passes))
            }
        }
    }

    /// The conditions that every kept row meets: those joined by AND at the top.
    pub(super) fn required(&self) -> Vec<(&Field, &Test)> {
        match self {
            Self::All(parts) => parts.iter().flat_map(Self::required).collect(),
            Self::Is(field, test) => vec![(field, test)],
            Self::Any(_) | Self::Not(_) => Vec::new(),
        }
    }

    pub(super) fn fields(&self) -> Vec<&Field> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(part) => part.fields(),
            Self::Is(field, _) => vec![field],
        }
    }
}

/// AND (`decides` false) or OR (`decides` true): the first part that decides, else unknown if one is.
fn join(parts: &[Expr], decides: bool, look: &mut dyn FnMut(&Field) -> Result<Vec<Value>>) -> Result<Option<bool>> {
    let mut so_far = Some(!decides);
    for part in parts {
        match part.holds(look)? {
            Some(holds) if holds == decides => return Ok(Some(decides)),
            None => so_far = None,
            Some(_) => {}
        }
    }
    Ok(so_far)
}

impl Test {
    /// Whether one value passes; `None` if they do not compare.
    fn passes(&self, value: &Value) -> Option<bool> {
        match self {
            Self::Compare(comparison, literal) => value.passes(literal, |ordering| comparison.holds(ordering)),
            Self::In(literals) => {
                let is_equal = |ordering| Comparison::Equal.holds(ordering);
                let known = literals.iter().filter_map(|literal| value.passes(literal, is_equal));
                known.reduce(|any, is_equal| any || is_equal)
            }
            Self::Like { pattern, ignores_case } => match value {
                Value::Text(text) if *ignores_case => Some(is_like(&text.to_lowercase(), &pattern.to_lowercase())),
                Value::Text(text) => Some(is_like(text, pattern)),
                _ => None,
            },
            Self::IsNull => Some(*value == Value::Null),
        }
    }
}
