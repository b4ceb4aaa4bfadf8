//! Orders, and pages of what was found: NaN, then null last, as the store orders runs; ties by the last field, which tells every row from
//! every other.
//!
//! A page token is the sort values of the last row of a page, so pages join without gap or repeat while rows come and go.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::filter::{Fact, check_attribute, listed};
use super::grammar;
use crate::error::{Answer, Refusal};

/// One field of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) entity: Option<String>,
    pub(crate) key: String,
    pub(crate) is_descending: bool,
}

/// The order that `asked` says, or `default`; then `last`. `keys` are the attributes there are, `entities` what else may stand before a dot.
pub(crate) fn order(
    asked: &[String],
    default: &[&str],
    last: &[&str],
    keys: &[&str],
    entities: &[&str],
) -> Answer<Vec<By>> {
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let first = if asked.is_empty() { default } else { &asked };
    let mut order: Vec<By> = Vec::new();
    for text in first.iter().chain(last) {
        let (entity, key, is_descending) = grammar::order(text)?;
        match entity.as_deref() {
            None | Some("attribute") => check_attribute(&key, keys)?,
            Some(entity) if entities.contains(&entity) => {}
            Some(entity) => {
                return Err(Refusal::invalid(format!(
                    "Invalid order_by entity type '{entity}'. Valid values are {}",
                    listed(entities.iter().copied().chain(["attribute"]))
                )));
            }
        }
        let entity = entity.filter(|entity| entity != "attribute");
        if order.iter().all(|by| (&by.entity, &by.key) != (&entity, &key)) {
            order.push(By { entity, key, is_descending });
        }
    }
    Ok(order)
}

/// A fact in a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Mark {
    /// The bits of a number: not every number can be written otherwise.
    Number(u64),
    Text(String),
    Nothing,
}

/// Rows that were found, of which the first `limit` after a mark are kept.
pub(crate) struct Sorted<'a, T> {
    order: &'a [By],
    limit: usize,
    after: Option<Vec<Option<Fact>>>,
    rows: Vec<(Vec<Option<Fact>>, T)>,
    has_more: bool,
}

impl<'a, T> Sorted<'a, T> {
    pub(crate) fn new(order: &'a [By], limit: usize, token: Option<&str>) -> Answer<Self> {
        let after = token.filter(|token| !token.is_empty()).map(|token| read_token(token, order.len())).transpose()?;
        Ok(Self { order, limit, after, rows: Vec::new(), has_more: false })
    }

    /// The sort values of the row that the page before ended with.
    pub(crate) fn after(&self) -> Option<&[Option<Fact>]> {
        self.after.as_deref()
    }

    /// Adds a row with its sort values.
    pub(crate) fn add(&mut self, values: Vec<Option<Fact>>, row: T) {
        if self.after.as_ref().is_some_and(|after| compare(self.order, &values, after).is_le()) {
            return;
        }
        self.rows.push((values, row));
        if self.rows.len() > 2 * self.limit + 1024 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let order = self.order;
        self.rows.sort_by(|a, b| compare(order, &a.0, &b.0));
        self.has_more |= self.rows.len() > self.limit;
        self.rows.truncate(self.limit);
    }

    /// The page, and what to ask the next one with.
    pub(crate) fn page(mut self) -> (Vec<T>, Option<String>) {
        self.cut();
        let token = self.rows.last().filter(|_| self.has_more).map(|(values, _)| token(values));
        (self.rows.into_iter().map(|(_, row)| row).collect(), token)
    }
}

fn compare(order: &[By], a: &[Option<Fact>], b: &[Option<Fact>]) -> Ordering {
    /// Where a fact stands whatever the direction.
    fn place(fact: Option<&Fact>) -> u8 {
        match fact {
            Some(Fact::Number(number)) if number.is_nan() => 1,
            Some(_) => 0,
            None => 2,
        }
    }
    for ((x, y), by) in a.iter().zip(b).zip(order) {
        let ordering = match (place(x.as_ref()), place(y.as_ref())) {
            (0, 0) => {
                let ordering = match (x, y) {
                    (Some(Fact::Number(x)), Some(Fact::Number(y))) => x.partial_cmp(y).unwrap_or(Ordering::Equal),
                    (Some(Fact::Text(x)), Some(Fact::Text(y))) => x.cmp(y),
                    _ => Ordering::Equal,
                };
                if by.is_descending { ordering.reverse() } else { ordering }
            }
            (x, y) => x.cmp(&y),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

fn token(values: &[Option<Fact>]) -> String {
    let marks = values.iter().map(|fact| match fact {
        Some(Fact::Number(number)) => Mark::Number(number.to_bits()),
        Some(Fact::Text(text)) => Mark::Text(text.clone()),
        None => Mark::Nothing,
    });
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&marks.collect::<Vec<_>>()).unwrap_or_default())
}

fn read_token(token: &str, n_values: usize) -> Answer<Vec<Option<Fact>>> {
    let marks: Option<Vec<Mark>> =
        URL_SAFE_NO_PAD.decode(token).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let marks = marks.filter(|marks| marks.len() == n_values);
    let marks =
        marks.ok_or_else(|| Refusal::invalid("Invalid page token: the one that the page before gave is expected."))?;
    let fact = |mark| match mark {
        Mark::Number(bits) => Some(Fact::Number(f64::from_bits(bits))),
        Mark::Text(text) => Some(Fact::Text(text)),
        Mark::Nothing => None,
    };
    Ok(marks.into_iter().map(fact).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_without_gap_or_repeat_and_null_and_nan_come_last() {
        let order = order(&["x DESC".to_owned()], &[], &["id"], &["x", "id"], &[]).unwrap();
        let rows: Vec<(Option<f64>, String)> = (0..2500)
            .map(|nth| {
                (
                    match nth % 5 {
                        0 => None,
                        1 => Some(f64::NAN),
                        4 => Some(f64::INFINITY),
                        n => Some(f64::from(n)),
                    },
                    format!("{nth:04}"),
                )
            })
            .collect();
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut sorted = Sorted::new(&order, 7, token.as_deref()).unwrap();
            for (x, id) in &rows {
                sorted.add(vec![x.map(Fact::Number), Some(Fact::Text(id.clone()))], id.clone());
            }
            let (page, next) = sorted.page();
            all.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        let key = |id: &String| match id.parse::<u32>().unwrap() % 5 {
            0 => 10,
            1 => 9,
            n => 4 - n,
        };
        let mut expected: Vec<String> = rows.into_iter().map(|(_, id)| id).collect();
        expected.sort_by_key(|id| (key(id), id.clone()));
        assert_eq!(all, expected);
        assert!(Sorted::<()>::new(&order, 7, Some("nonsense")).is_err());
    }
}
