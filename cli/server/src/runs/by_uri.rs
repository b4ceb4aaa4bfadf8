//! Runs by the URI of their files, which the store does not know: those that meet all else are asked for their experiment and held against it
//! one by one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tracker_store::{ExperimentId, Query, RunId, Value};

use super::search::{Found, field};
use crate::api::Api;
use crate::error::{Answer, Code, Refusal};
use crate::search::{By, Fact, Filter, Operand, Operator, Sorted};

/// Runs that are asked for at a time.
const N_RUNS: usize = 10_000;

/// Whether this is the URI of a run's files.
pub(super) fn is_uri(entity: Option<&str>, key: &str) -> bool {
    matches!(entity, None | Some("attribute")) && key == "artifact_uri"
}

/// The only run whose URI meets a condition, by its id in the store's words, if it says that much. A URI without one is no run's.
pub(super) fn run_of(operator: Operator, operand: &Operand) -> Option<String> {
    let Operand::Text(uri) = operand else { return None };
    let id = uri.strip_suffix("/artifacts").and_then(|uri| uri.rsplit('/').next()).unwrap_or("");
    (operator == Operator::Equal).then(|| id.parse::<RunId>().map_or_else(|_| String::new(), |id| id.to_string()))
}

/// The runs of a question for which a filter on their URI holds, in an order that may have it too.
pub(super) fn find(
    api: &Api,
    query: &Query,
    filter: &Filter,
    mut order: Vec<By>,
    limit: usize,
    token: Option<&str>,
) -> Answer<Found> {
    // Ties are as they are without a URI: of one metric alone, by id the same way.
    let last = match order.as_slice() {
        [only] if only.entity.as_deref() == Some("metric") => vec![("run_id", only.is_descending)],
        _ => vec![("start_time", true), ("run_id", false)],
    };
    for (key, is_descending) in last {
        if order.iter().all(|by| by.entity.is_some() || by.key != key) {
            order.push(By { entity: None, key: key.to_owned(), is_descending });
        }
    }
    let asked = order.iter().map(|by| match by.key.as_str() {
        key if is_uri(by.entity.as_deref(), key) => "id".to_owned(),
        key => field(by.entity.as_deref(), key),
    });
    let columns: Vec<String> = std::iter::once("experiment_id".to_owned()).chain(asked).collect();
    let query = query.clone().columns(&columns.join(", "))?.order_by("start_time DESC, id ASC")?.limit(N_RUNS);
    let mut locations = Locations { api, by_id: BTreeMap::new() };
    let mut found = Sorted::new(&order, limit, token)?;
    let mut page = api.store.query(&query)?;
    loop {
        for row in page.rows {
            let mut values = row.columns.into_iter().map(|(_, value)| value);
            let (Some(run), Some(experiment)) = (row.id.owner(), values.next()) else { continue };
            let uri = Fact::Text(format!("{}/{}/artifacts", locations.of(&experiment)?, run.simple()));
            if filter.holds(&mut |_, _| Some(uri.clone()))? {
                let values = order.iter().zip(values).map(|(by, value)| {
                    if is_uri(by.entity.as_deref(), &by.key) { Some(uri.clone()) } else { fact(value) }
                });
                found.add(values.collect(), run);
            }
        }
        match page.next {
            Some(next) => page = api.store.query(&query.clone().after(next))?,
            None => break,
        }
    }
    let (runs, next) = found.page();
    Ok(Found { runs, next })
}

fn fact(value: Value) -> Option<Fact> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(Fact::Text(text)),
        Value::Bool(flag) => Some(Fact::Number(f64::from(u8::from(flag)))),
        Value::Int(_) | Value::Real(_) => value.number().map(Fact::Number),
    }
}

/// Where files of experiments are, each asked for once.
struct Locations<'a> {
    api: &'a Api,
    by_id: BTreeMap<ExperimentId, String>,
}

impl Locations<'_> {
    fn of(&mut self, experiment: &Value) -> Answer<&str> {
        let id = if let Value::Text(id) = experiment { id.parse().ok() } else { None };
        let id: ExperimentId =
            id.ok_or_else(|| Refusal::new(Code::InternalError, "a run does not say which experiment it is of"))?;
        Ok(match self.by_id.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.api.artifact_location(&self.api.store.experiment_by_id(id)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tracker_store::Store;

    use super::*;
    use crate::runs::{create, log, search};
    use crate::wire::Request;

    #[test]
    fn runs_by_uri_are_in_the_order_of_runs_without() {
        let api = Arc::new(Api::new(Store::memory().unwrap(), false).unwrap());
        let body = |body: &Value| body.to_string().into_bytes();
        let numbers = ["NaN", "", "-0.0", "0.0", "-0.0", "1.5", "-Infinity", "", "NaN", "Infinity", "0.0"];
        for (nth, number) in numbers.iter().enumerate() {
            let new = body(&json!({ "experiment_id": "0", "start_time": 1000 + nth }));
            let made = create(&api, &Request { query: "", body: Some(&new), args: &[] }).unwrap();
            let made: Value = serde_json::from_slice(&made).unwrap();
            let value = match *number {
                "" => continue,
                "NaN" | "Infinity" | "-Infinity" => json!(number),
                number => json!(number.parse::<f64>().unwrap()),
            };
            let point = json!({ "run_id": made["run"]["info"]["run_id"], "key": "x", "value": value, "timestamp": 1 });
            log::metric(&api, &Request { query: "", body: Some(&body(&point)), args: &[] }).unwrap();
        }
        let found = |filter: &str, order: &[&str], max_results: usize| {
            let (mut starts, mut token) = (Vec::new(), Value::Null);
            loop {
                let asked = body(&json!({
                    "experiment_ids": ["0"], "filter": filter, "order_by": order, "max_results": max_results, "page_token": token,
                }));
                let parts = search::find(&api, &Request { query: "", body: Some(&asked), args: &[] }).unwrap();
                let page: Value = serde_json::from_slice(&parts.collect::<Answer<Vec<_>>>().unwrap().concat()).unwrap();
                let runs = page["runs"].as_array().unwrap();
                starts.extend(runs.iter().map(|run| run["info"]["start_time"].as_i64().unwrap() - 1000));
                token = page["next_page_token"].clone();
                if token.as_str().is_none_or(str::is_empty) {
                    return starts;
                }
            }
        };
        for (order, expected) in [
            (&["metrics.x ASC", "start_time DESC"][..], [6, 10, 4, 3, 2, 5, 9, 8, 0, 7, 1]),
            (&["metrics.x DESC", "start_time DESC"], [9, 5, 10, 4, 3, 2, 6, 8, 0, 7, 1]),
            (&["metrics.x ASC"], [6, 2, 3, 4, 10, 5, 9, 0, 8, 1, 7]),
            (&["metrics.x DESC"], [9, 5, 10, 4, 3, 2, 6, 8, 0, 7, 1]),
        ] {
            for max_results in [100, 3] {
                assert_eq!(found("", order, max_results), expected, "{order:?}");
                assert_eq!(found("artifact_uri LIKE '%'", order, max_results), expected, "{order:?} by URI");
            }
        }
    }
}
