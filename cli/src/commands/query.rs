//! `tracker query …`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use tracker_store::{Kind, NodeId, Query as Question, Store, Table, Toward, Value, Walk};

use crate::args::{GraphFormat, Listing, Query, RewardArgs};
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// Answers one question.
pub fn query(dir: &Path, query: &Query, printer: &Printer) -> anyhow::Result<Answer> {
    match query {
        Query::Runs(listing) => list(dir, Table::Runs, listing, printer),
        Query::Samples(listing) => list(dir, Table::Samples, listing, printer),
        Query::Proofs(listing) => list(dir, Table::Proofs, listing, printer),
        Query::Rewards(args) => rewards(dir, args, printer),
        Query::Selections(listing) => list(dir, Table::Selections, listing, printer),
        Query::Checkpoints(listing) => list(dir, Table::Checkpoints, listing, printer),
        Query::Fronts(listing) => list(dir, Table::Fronts, listing, printer),
        Query::Recipes(listing) => list(dir, Table::Recipes, listing, printer),
        Query::Claims(listing) => list(dir, Table::Claims, listing, printer),
        Query::Metrics { run, key, points } => metrics(dir, run, key.as_deref(), *points, printer),
        Query::Lineage { .. } => lineage(dir, query, printer),
    }
}

/// Prints rewards; what the options name is resolved and joined to the filter.
fn rewards(dir: &Path, args: &RewardArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let mut parts: Vec<String> = args.listing.filter.iter().map(|filter| format!("({filter})")).collect();
    let fields = [("scorer", &args.model), ("sample.subject", &args.subject), ("sample.policy", &args.policy)];
    for (field, node) in fields.into_iter().filter_map(|(field, node)| Some((field, node.as_ref()?))) {
        parts.push(format!("{field} = '{}'", store.resolve(node)?));
    }
    if let Some(kind) = &args.kind {
        parts.push(format!("kind = '{}'", kind.replace('\'', "''")));
    }
    drop(store);
    let filter = (!parts.is_empty()).then(|| parts.join(" AND "));
    list(dir, Table::Rewards, &Listing { filter, ..args.listing.clone() }, printer)
}

/// Prints the rows of a table that match.
pub fn list(dir: &Path, table: Table, listing: &Listing, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let mut question = Question::new(table).limit(listing.limit);
    if let Some(filter) = &listing.filter {
        question = question.filter(filter)?;
    }
    if let Some(order) = &listing.order_by {
        question = question.order_by(order)?;
    }
    if let Some(run) = &listing.run {
        question = question.of_run(store.resolve_run(run)?);
    }
    let page = store.query(&question)?;
    if printer.is_json() {
        for row in &page.rows {
            printer.json(row)?;
        }
    } else {
        let header: Vec<String> = page
            .rows
            .first()
            .map_or_else(Vec::new, |row| row.columns.iter().map(|(name, _)| name.to_uppercase()).collect());
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let cells = |row: &tracker_store::Row| row.columns.iter().map(|(_, value)| cell(value)).collect();
        printer.table(&header, page.rows.iter().map(cells))?;
    }
    if page.next.is_some() {
        printer.say(&format!("the first {}; --limit shows more", page.rows.len()));
    }
    Ok(Answer::Yes)
}

/// A value in a table: long texts shortened, so that a row stays a line.
fn cell(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn metrics(
    dir: &Path,
    run: &str,
    key: Option<&str>,
    points: Option<usize>,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let run = store.resolve_run(run)?;
    let Some(key) = key else {
        let all = store.all_series(run)?;
        if printer.is_json() {
            for (key, series) in &all {
                printer.json(&json!({"key": key, "series": series}))?;
            }
        } else {
            for (key, _) in &all {
                printer.line(key)?;
            }
        }
        return Ok(Answer::Yes);
    };
    if store.series(run, key)?.is_none() {
        let known: Vec<String> = store.all_series(run)?.into_iter().map(|(key, _)| key).collect();
        let what = format!("run {run} has no metric `{key}`");
        return Err(InputError { what, hint: Some(format!("it has: {}", known.join(", "))) }.into());
    }
    if points == Some(0) {
        return Err(InputError { what: "expected at least 1 point, got 0".into(), hint: None }.into());
    }
    if let Some(n) = points {
        let buckets = store.plot(run, key, n)?;
        if printer.is_json() {
            return buckets.iter().try_for_each(|b| printer.json(b)).map(|()| Answer::Yes).map_err(Into::into);
        }
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
        let rows = buckets.iter().map(|b| {
            vec![b.first_step.to_string(), b.last_step.to_string(), number(b.min), number(b.mean), number(b.max)]
        });
        printer.table(&["FROM", "TO", "MIN", "MEAN", "MAX"], rows)?;
        return Ok(Answer::Yes);
    }
    for point in store.history(run, key, None)? {
        let point = point?;
        if printer.is_json() {
            printer.json(&point)?;
        } else {
            printer.line(&format!("{}\t{}\t{}", point.step, point.time, point.value))?;
        }
    }
    Ok(Answer::Yes)
}

fn lineage(dir: &Path, query: &Query, printer: &Printer) -> anyhow::Result<Answer> {
    let Query::Lineage { node, down, depth, kinds, limit, format, .. } = query else { return Ok(Answer::Yes) };
    let store = Store::open(dir)?;
    let node: NodeId = store.resolve(node)?;
    let toward = if *down { Toward::Descendants } else { Toward::Ancestors };
    let kinds: BTreeSet<Kind> = kinds.iter().map(|kind| kind.parse()).collect::<Result<_, _>>()?;
    let walk = Walk { depth: u32::try_from(*depth).unwrap_or(u32::MAX), limit: *limit, kinds, ..Walk::new(toward) };
    let graph = store.walk(node, &walk)?;
    match if printer.is_json() { GraphFormat::Json } else { *format } {
        GraphFormat::Json => printer.json(&graph)?,
        GraphFormat::Tree => printer.text(&graph.to_tree())?,
        GraphFormat::Dot => printer.text(&graph.to_dot())?,
        GraphFormat::Mermaid => printer.text(&graph.to_mermaid())?,
    }
    if node.kind() == Kind::Run {
        let what = "a run comes from nothing and nothing from it; what it recorded does";
        printer.say(&format!(
            "{what}\nhint: `tracker query claims --run {}` lists nodes to ask about",
            node.owner().map_or_else(String::new, |run| run.to_string())
        ));
    }
    if graph.truncated {
        printer.say(&format!("stopped after {limit} nodes\nhint: --limit, --depth or --kind narrow or widen the walk"));
    }
    Ok(Answer::Yes)
}
