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
    for (key, is_descending) in [("start_time", true), ("run_id", false)] {
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
