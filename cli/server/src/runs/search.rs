//! Searching runs: the filter and the order of a client, as a question to the store, whose indexes narrow it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracker_store::{ExperimentId, Life, Query, Run, RunId, Table};

use super::{View as RunView, by_uri};
use crate::api::{self, Api};
use crate::error::{Answer, Refusal};
use crate::limits;
use crate::routes::Parts;
use crate::search::{self, By, Condition, Filter, Operand, Operator, View};
use crate::wire::{Int, Request};

const KEYS: [&str; 12] = [
    "run_id",
    "run_uuid",
    "run_name",
    "Run name",
    "user_id",
    "User",
    "status",
    "artifact_uri",
    "start_time",
    "created",
    "Created",
    "end_time",
];
const NUMERIC: [&str; 4] = ["start_time", "created", "Created", "end_time"];
const ENTITIES: [&str; 4] = ["metric", "parameter", "tag", "dataset"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Search {
    experiment_ids: Vec<String>,
    filter: Option<String>,
    run_view_type: Option<String>,
    max_results: Option<Int>,
    order_by: Vec<String>,
    page_token: Option<String>,
}

/// A page of runs, told one by one.
pub(super) struct Found {
    pub(super) runs: Vec<RunId>,
    pub(super) next: Option<String>,
}

/// The runs a client asks for.
pub(crate) fn find(api: &Arc<Api>, request: &Request<'_>) -> Answer<Parts> {
    Ok(Box::new(found(api, request)?.parts(Arc::clone(api))))
}

fn found(api: &Api, request: &Request<'_>) -> Answer<Found> {
    let asked: Search = request.read()?;
    let limit = limits::max_results(asked.max_results, 1000, 50_000)?;
    let experiments: Vec<ExperimentId> = asked.experiment_ids.iter().filter_map(|id| api.experiment_id(id)).collect();
    let mut filter = Filter::parse(asked.filter.as_deref().unwrap_or(""))?;
    filter.check(&KEYS, &NUMERIC, &ENTITIES)?;
    let view = search::view(asked.run_view_type.as_deref())?;
    if experiments.is_empty() {
        return Ok(Found { runs: Vec::new(), next: None });
    }
    let order = search::order(&asked.order_by, &["start_time DESC"], &[], &KEYS, &ENTITIES[..3])?;
    let conditions = filter.conditions.iter().filter_map(|condition| compiled(condition).transpose());
    let conditions = conditions.collect::<Answer<Vec<_>>>()?;
    filter.conditions.retain(|condition| by_uri::is_uri(condition.entity.as_deref(), &condition.key));
    let life = match view {
        View::Active => Life::Active,
        View::Deleted => Life::Deleted,
        View::All => Life::Any,
    };
    let query = Query::new(Table::Runs).in_experiments(experiments).filter(&conditions.join(" AND "))?.life(life);
    if !filter.conditions.is_empty() || order.iter().any(|by| by_uri::is_uri(by.entity.as_deref(), &by.key)) {
        return by_uri::find(api, &query, &filter, order, limit, asked.page_token.as_deref());
    }
    let query = query.order_by(&ordered(&order))?.columns("id")?.limit(limit);
    let query = match asked.page_token.filter(|token| !token.is_empty()) {
        Some(token) => query.after(token),
        None => query,
    };
    let page = api.store.query(&query)?;
    Ok(Found { runs: page.rows.iter().filter_map(|row| row.id.owner()).collect(), next: page.next })
}

impl Found {
    /// The answer in parts: a run is read when its part is asked for.
    fn parts(self, api: Arc<Api>) -> impl Iterator<Item = Answer<Vec<u8>>> + Send {
        #[derive(Serialize)]
        struct Next {
            next_page_token: String,
        }
        let is_empty = self.runs.is_empty();
        let head = if is_empty { "{" } else { "{\"runs\":[" };
        let end = match (is_empty, self.next) {
            (true, _) => Ok(b"}".to_vec()),
            (false, None) => Ok(b"]}".to_vec()),
            (false, Some(next_page_token)) => {
                crate::wire::json(&Next { next_page_token }).map(|next| [b"],", &next[1..]].concat())
            }
        };
        let runs = self.runs.into_iter().enumerate().map(move |(nth, id)| {
            let run: Run = api.store.run(id)?;
            let mut part = if nth == 0 { Vec::new() } else { b",".to_vec() };
            part.extend(crate::wire::json(&RunView::of(&api, &run)?)?);
            Ok(part)
        });
        std::iter::once(Ok(head.as_bytes().to_vec())).chain(runs).chain(std::iter::once(end))
    }
}

/// The store's column for an attribute.
fn column(key: &str) -> &str {
    match key {
        "run_id" | "run_uuid" => "id",
        "run_name" | "Run name" => "name",
        "user_id" | "User" => "user",
        "created" | "Created" => "start_time",
        key => key,
    }
}

pub(super) fn field(entity: Option<&str>, key: &str) -> String {
    let prefix = match entity {
        Some("metric") => "metrics.",
        Some("parameter") => "params.",
        Some("tag") => "tags.",
        Some("dataset") => "datasets.",
        _ => return column(key).to_owned(),
    };
    format!("{prefix}`{}`", key.replace('`', "``"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A condition in the store's words; none if the store cannot tell.
fn compiled(condition: &Condition) -> Answer<Option<String>> {
    let Condition { entity, key, operator, operand } = condition;
    let entity = entity.as_deref().filter(|entity| *entity != "attribute");
    if *operator == Operator::Rlike {
        return Err(Refusal::invalid(format!(
            "Invalid comparator 'RLIKE' for '{key}': runs are searched with LIKE and ILIKE"
        )));
    }
    if by_uri::is_uri(entity, key) {
        return Ok(by_uri::run_of(*operator, operand).map(|run| format!("id = {}", quoted(&run))));
    }
    if entity == Some("dataset") && !["name", "digest", "context"].contains(&key.as_str()) {
        return Err(Refusal::invalid(format!(
            "Invalid dataset attribute key '{key}' specified. Valid keys are ['name', 'digest', 'context']"
        )));
    }
    let value = |text: &str| match (entity, column(key)) {
        (None, "id") => quoted(&run_id(text)),
        (None, "status") => quoted(api::status(text).map_or(text, |status| status.name())),
        _ => quoted(text),
    };
    let is_pattern = matches!(operator, Operator::Like | Operator::Ilike);
    if entity.is_none() && is_pattern && matches!(column(key), "id" | "status") {
        return Err(Refusal::invalid(format!(
            "Invalid comparator '{}' not one of '=, !=, IN, NOT IN' for attribute '{key}'",
            operator.text()
        )));
    }
    let right = match operand {
        Operand::Nothing => String::new(),
        Operand::Number(number) => number.clone(),
        Operand::Text(text) => value(text),
        Operand::List(texts) => format!("({})", texts.iter().map(|text| value(text)).collect::<Vec<_>>().join(", ")),
    };
    Ok(Some(format!("{} {} {right}", field(entity, key), operator.text()).trim_end().to_owned()))
}

/// The store's text of a run's id; a text that is none is no run's.
fn run_id(text: &str) -> String {
    text.parse::<RunId>().map_or_else(|_| text.to_owned(), |id| id.to_string())
}

/// An order in the store's words. One field alone is left alone, so that an index may answer it.
fn ordered(order: &[By]) -> String {
    let say =
        |by: &By| format!("{} {}", field(by.entity.as_deref(), &by.key), if by.is_descending { "DESC" } else { "ASC" });
    let mut texts: Vec<String> = order.iter().map(say).collect();
    match texts.as_slice() {
        [only] if only == "start_time DESC" => texts.push("id ASC".to_owned()),
        [only] if only.starts_with("metrics.") => {}
        _ => {
            for (field, last) in [("start_time ", "start_time DESC"), ("id ", "id ASC")] {
                if texts.iter().all(|text| !text.starts_with(field)) {
                    texts.push(last.to_owned());
                }
            }
        }
    }
    texts.join(", ")
}
