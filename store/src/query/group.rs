//! Groups: rows that agree in some fields, counted and summed up.
//!
//! One pass over what the question finds; held is one entry a group, never the rows. Columns of a group are the fields it
//! agrees in, then its summaries, each under the name it was written with.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::field::Source;
use super::filter::{Field, Filter};
use super::rows::Facts;
use super::value::Value;
use super::{Bound, Query, grammar, plan};
use crate::error::{Error, Result};
use crate::store::Store;

/// How many groups there may be: past it the fields tell rows apart instead of joining them.
const MAX_GROUPS: usize = 1_000_000;

/// How rows are joined to groups, and what is said of each.
#[derive(Clone, Debug)]
pub struct Grouping {
    by: Vec<Field>,
    summaries: Vec<(Summary, Option<Field>, String)>,
    text: String,
    having: Option<Filter>,
    order: Vec<(Field, bool)>,
}

/// One group: what its rows agree in, and its summaries. Serialises as a map in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouped {
    /// Names and values.
    pub columns: Vec<(String, Value)>,
}

impl Serialize for Grouped {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len()))?;
        for (name, value) in &self.columns {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summary {
    Count,
    Distinct,
    Sum,
    Mean,
    Min,
    Max,
}

impl Summary {
    const ALL: [(&'static str, Self); 6] = [
        ("count", Self::Count),
        ("distinct", Self::Distinct),
        ("sum", Self::Sum),
        ("mean", Self::Mean),
        ("min", Self::Min),
        ("max", Self::Max),
    ];
}

impl Grouping {
    /// Groups of rows that agree in the fields of `by`, as `stage, scorer.label`; with no field, all rows are one. `summaries` are
    /// `count`, and `distinct`, `sum`, `mean`, `min` or `max` of a field, as `count, mean(value)`. What is no number enters
    /// no sum; null counts as no value.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn new(by: &str, summaries: &str) -> Result<Self> {
        let fields = if by.trim().is_empty() { Vec::new() } else { grammar::fields(by)? };
        let read = |(name, field, column): (String, Option<Field>, usize)| {
            let known = Summary::ALL.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
            match (known, field) {
                (Some((known, Summary::Count)), None) => Ok((Summary::Count, None, known.to_owned())),
                (Some((known, summary)), Some(field)) if summary != Summary::Count => {
                    let written = format!("{known}({})", field.name());
                    Ok((summary, Some(field), written))
                }
                _ => Err(Error::Syntax {
                    text: crate::error::shortened(summaries),
                    column,
                    expected: "count, or distinct, sum, mean, min or max of a field in parentheses".to_owned(),
                    got: format!("`{name}`"),
                }),
            }
        };
        let all = grammar::calls(summaries)?.into_iter().map(read).collect::<Result<_>>()?;
        Ok(Self { by: fields, summaries: all, text: format!("{by}, {summaries}"), having: None, order: Vec::new() })
    }

    /// Only groups for which a filter over their own columns is true: `"distinct(winner)" > 1`.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn having(mut self, filter: &str) -> Result<Self> {
        self.having = Some(Filter::parse(filter)?);
        Ok(self)
    }

    /// By their own columns, `"mean(value)" DESC`; else by what they agree in.
    ///
    /// # Errors
    /// `Syntax`.
    pub fn order_by(mut self, order: &str) -> Result<Self> {
        self.order = grammar::order(order)?;
        Ok(self)
    }
}

/// What was seen of one field in one group.
#[derive(Default)]
struct Sum {
    n_rows: u64,
    distinct: BTreeSet<Key>,
    n: u64,
    total: f64,
    is_real: bool,
    min: Option<f64>,
    max: Option<f64>,
}

impl Sum {
    fn take(&mut self, summary: Summary, value: Value) {
        if summary == Summary::Distinct {
            if value != Value::Null {
                self.distinct.insert(Key(vec![value]));
            }
            return;
        }
        // What is true counts 1: the mean is a share.
        let number = match &value {
            Value::Bool(is_so) => Some(f64::from(u8::from(*is_so))),
            value => value.number(),
        };
        let Some(number) = number.filter(|number| !number.is_nan()) else { return };
        self.n += 1;
        self.total += number;
        self.is_real |= matches!(value, Value::Real(_));
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
    }

    fn tell(&self, summary: Summary) -> Value {
        /// Whole numbers up to here are exact in f64.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = |x: f64| if self.is_real || x.abs() > EXACT { Value::Real(x) } else { Value::Int(x as i64) };
        match summary {
            Summary::Count => Value::Int(self.n_rows as i64),
            Summary::Distinct => Value::Int(self.distinct.len() as i64),
            Summary::Sum => number(self.total),
            Summary::Mean if self.n == 0 => Value::Null,
            Summary::Mean => Value::Real(self.total / self.n as f64),
            Summary::Min => self.min.map_or(Value::Null, number),
            Summary::Max => self.max.map_or(Value::Null, number),
        }
    }
}

/// Values in their total order.
#[derive(Clone, Debug)]
struct Key(Vec<Value>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0).map(|(a, b)| a.order(b));
        pairs.fold(Ordering::Equal, Ordering::then).then(self.0.len().cmp(&other.0.len()))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

impl Store {
    /// Answers a question by groups: those that pass, up to the question's limit, and how many there were before it. The
    /// question's own order and page are not looked at.
    ///
    /// # Errors
    /// As [`Store::query`]; `Syntax` if a column of groups is not there; `Invalid` for more than a million groups.
    pub fn groups(&self, query: &Query, grouping: &Grouping) -> Result<(Vec<Grouped>, usize)> {
        let query = Query { order: Vec::new(), after: None, ..query.clone() };
        let bound = Bound::new(&query)?;
        let source = |field: &Field| Source::of(field, query.table, &grouping.text);
        let by = grouping.by.iter().map(source).collect::<Result<Vec<_>>>()?;
        let of = grouping.summaries.iter().map(|(_, field, _)| field.as_ref().map(source).transpose());
        let of = of.collect::<Result<Vec<_>>>()?;
        self.at_one_state(|store| {
            let mut facts = Facts::new(store);
            let mut groups: BTreeMap<Key, Vec<Sum>> = BTreeMap::new();
            for candidate in plan::Plan::new(store, &bound)?.candidates {
                let candidate = candidate?;
                if bound.keep(&candidate, &mut facts)?.is_none() {
                    continue;
                }
                let key = by.iter().map(|source| facts.value(&candidate, source)).collect::<Result<_>>()?;
                let sums = groups.entry(Key(key)).or_insert_with(|| of.iter().map(|_| Sum::default()).collect());
                for ((sum, source), (summary, ..)) in sums.iter_mut().zip(&of).zip(&grouping.summaries) {
                    sum.n_rows += 1;
                    if let Some(source) = source {
                        sum.take(*summary, facts.value(&candidate, source)?);
                    }
                }
                if groups.len() > MAX_GROUPS {
                    return Err(Error::invalid("groups", format!("at most `{MAX_GROUPS}`"), "more"));
                }
            }
            grouping.answer(&by, groups, query.limit)
        })
    }
}

impl Grouping {
    fn answer(&self, by: &[Source], groups: BTreeMap<Key, Vec<Sum>>, limit: usize) -> Result<(Vec<Grouped>, usize)> {
        let names: Vec<String> = by.iter().map(Source::name).collect();
        let mut all = Vec::new();
        for (key, sums) in groups {
            let summaries = self.summaries.iter().zip(&sums).map(|((s, _, name), sum)| (name.clone(), sum.tell(*s)));
            let group = Grouped { columns: names.iter().cloned().zip(key.0).chain(summaries).collect() };
            if let Some(having) = &self.having {
                let mut look = |field: &Field| group.value(field, &having.text).map(|value| vec![value]);
                if having.root.holds(&mut look)? != Some(true) {
                    continue;
                }
            }
            let order =
                self.order.iter().map(|(field, _)| group.value(field, &self.text)).collect::<Result<Vec<_>>>()?;
            all.push((order, group));
        }
        all.sort_by(|(a, _), (b, _)| {
            let compared = a.iter().zip(b).zip(&self.order).map(|((a, b), (_, is_descending))| {
                if *is_descending && !a.is_last() && !b.is_last() { b.order(a) } else { a.order(b) }
            });
            compared.fold(Ordering::Equal, Ordering::then)
        });
        let n = all.len();
        Ok((all.into_iter().take(limit).map(|(_, group)| group).collect(), n))
    }
}

impl Grouped {
    /// The value in a column, if there is such a column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }

    fn value(&self, field: &Field, text: &str) -> Result<Value> {
        let name = field.name();
        self.get(&name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
            Error::Syntax {
                text: crate::error::shortened(text),
                column: field.column,
                expected: format!("one of {} (with parentheses, in double quotes)", names.join(", ")),
                got: format!("`{name}`"),
            }
        })
    }
}
