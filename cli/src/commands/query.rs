//! `tracker query …`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::json;
use tracker_lab::parts::evaluate::{Estimate, paired_gain};
use tracker_lab::sweep::{SWEEP, of_sweep};
use tracker_store::{
    Dataset, Grouped, Grouping, Kind, Life, NodeId, Query as Question, RunId, Store, Table, Toward, Value, Walk,
};

use crate::args::{GraphFormat, Listing, Query, RewardArgs};
use crate::failure::{Answer, InputError};
use crate::printer::{LONGEST_CELL, Printer, shortened};

/// What the seed is called among params.
const SEED: &str = "seed";

/// Answers one question.
pub fn query(dir: &Path, query: &Query, printer: &Printer) -> anyhow::Result<Answer> {
    match query {
        Query::Runs { listing, like: Some(like), but, .. } => twins(dir, listing, like, but, printer),
        Query::Runs { listing, deleted: true, .. } => listed(dir, Table::Runs, listing, Life::Deleted, printer),
        Query::Runs { listing, .. } => list(dir, Table::Runs, listing, printer),
        Query::Stages { run } => stages(dir, run, printer),
        Query::Samples(listing) => list(dir, Table::Samples, listing, printer),
        Query::Proofs(listing) => list(dir, Table::Proofs, listing, printer),
        Query::Rewards(args) => rewards(dir, args, printer),
        Query::Selections(listing) => list(dir, Table::Selections, listing, printer),
        Query::Figures(listing) => list(dir, Table::Figures, listing, printer),
        Query::Problems(listing) => list(dir, Table::Problems, listing, printer),
        Query::Statements(listing) => list(dir, Table::Statements, listing, printer),
        Query::Datasets(listing) => list(dir, Table::Datasets, listing, printer),
        Query::Programs(listing) => list(dir, Table::Programs, listing, printer),
        Query::Checkpoints(listing) => list(dir, Table::Checkpoints, listing, printer),
        Query::Fronts(listing) => list(dir, Table::Fronts, listing, printer),
        Query::Recipes(listing) => list(dir, Table::Recipes, listing, printer),
        Query::Claims(listing) => list(dir, Table::Claims, listing, printer),
        Query::Table(args) => super::table::table(dir, args, printer),
        Query::Metrics { run, key: Some(key), less: Some(less), .. } => paired(dir, run, key, less, printer),
        Query::Metrics { run, key, points, .. } => metrics(dir, run, key.as_deref(), *points, printer),
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

/// Prints the rows of a table that match, or groups of them.
pub fn list(dir: &Path, table: Table, listing: &Listing, printer: &Printer) -> anyhow::Result<Answer> {
    listed(dir, table, listing, Life::Active, printer)
}

fn listed(dir: &Path, table: Table, listing: &Listing, life: Life, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let mut question = question(&store, table, listing)?.limit(listing.limit).life(life);
    if let Some(by) = &listing.group_by {
        return groups(&store, &question, by, listing, printer);
    }
    if let Some(order) = &listing.order_by {
        question = question.order_by(order)?;
    }
    if let Some(columns) = &listing.columns {
        question = question.columns(columns)?;
    }
    let page = store.query(&question)?;
    rows(page.rows.iter().map(|row| (&row.columns, row)), printer)?;
    if page.next.is_some() {
        printer.say(&format!("the first {}; --limit shows more", page.rows.len()));
    }
    Ok(Answer::Yes)
}

/// What a listing asks for, without its order.
pub fn question(store: &Store, table: Table, listing: &Listing) -> anyhow::Result<Question> {
    let mut question = Question::new(table);
    let mut parts: Vec<String> = listing.filter.iter().map(|filter| format!("({filter})")).collect();
    if let Some(run) = &listing.run {
        let run = store.resolve_run(run)?;
        if store.run(run)?.study == SWEEP {
            parts.push(of_sweep(run));
        } else {
            question = question.of_run(run);
        }
    }
    question = match (parts.as_slice(), &listing.filter) {
        // As it was written, so that an error says where.
        ([_], Some(filter)) => question.filter(filter)?,
        (parts, _) => question.filter(&parts.join(" AND "))?,
    };
    for (nodes, toward) in [(&listing.ancestors_of, Toward::Ancestors), (&listing.descendants_of, Toward::Descendants)]
    {
        for node in nodes {
            question = question.kin_of(store.resolve(node)?, toward);
        }
    }
    Ok(question)
}

fn groups(
    store: &Store,
    question: &Question,
    by: &str,
    listing: &Listing,
    printer: &Printer,
) -> anyhow::Result<Answer> {
    let mut grouping = Grouping::new(by, &listing.show)?;
    if let Some(having) = &listing.having {
        grouping = grouping.having(having)?;
    }
    if let Some(order) = &listing.order_by {
        grouping = grouping.order_by(order)?;
    }
    let (groups, n) = store.groups(question, &grouping)?;
    rows(groups.iter().map(|group| (&group.columns, group)), printer)?;
    if n > groups.len() {
        printer.say(&format!("the first {} of {n}; --limit shows more", groups.len()));
    }
    Ok(Answer::Yes)
}

/// Prints rows with their columns: JSON lines, or a table.
fn rows<'a, T: serde::Serialize + 'a>(
    rows: impl Iterator<Item = (&'a Vec<(String, Value)>, &'a T)>,
    printer: &Printer,
) -> std::io::Result<()> {
    if printer.is_json() {
        return rows.into_iter().try_for_each(|(_, row)| printer.json(row));
    }
    let mut rows = rows.peekable();
    let columns = rows.peek().map_or_else(Vec::new, |(columns, _)| columns.iter().map(|(name, _)| name).collect());
    let header: Vec<String> = columns.into_iter().map(|name| name.to_uppercase()).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    printer.table(&header, rows.map(|(columns, _)| columns.iter().map(|(_, value)| cell(value)).collect()))
}

/// Lists the runs whose seed and params are those of another, but for some.
fn twins(dir: &Path, listing: &Listing, like: &str, but: &[String], printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let like = store.run(store.resolve_run(like)?)?;
    let settings = |run: &tracker_store::Run| -> anyhow::Result<_> {
        let mut all = store.params(run.id)?;
        all.insert(SEED.to_owned(), run.seed.to_string());
        Ok(all)
    };
    let own = settings(&like)?;
    if let Some(key) = but.iter().find(|key| !own.contains_key(*key)) {
        let hint = Some(format!("`tracker show {}` lists them", like.id.short()));
        return Err(InputError { what: format!("run {} has no param `{key}`", like.id), hint }.into());
    }
    // Runs of other studies have other params: the index leaves them out.
    let of_study = format!("study = '{}'", like.study.replace('\'', "''"));
    let filter = listing.filter.iter().fold(of_study, |all, filter| format!("{all} AND ({filter})"));
    let listing = Listing { filter: Some(filter), ..listing.clone() };
    let mut found = Vec::new();
    for row in store.query(&question(&store, Table::Runs, &listing)?)?.rows {
        let Some(id) = row.id.owner() else { continue };
        let run = store.run(id)?;
        let other = settings(&run)?;
        let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
        if keys.into_iter().any(|key| !but.contains(key) && own.get(key) != other.get(key)) {
            continue;
        }
        let text = |text: &str| Value::Text(text.to_owned());
        let mut columns: Vec<(String, Value)> =
            [("id", text(&id.to_string())), ("name", text(&run.name)), ("status", text(run.status.name()))]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec();
        columns.extend(but.iter().map(|key| (key.clone(), other.get(key).map_or(Value::Null, |value| text(value)))));
        found.push(Grouped { columns });
        if found.len() == listing.limit {
            break;
        }
    }
    rows(found.iter().map(|row| (&row.columns, row)), printer)?;
    Ok(Answer::Yes)
}

/// What each stage of a run cost.
fn stages(dir: &Path, run: &str, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let run = store.resolve_run(run)?;
    let grouping = Grouping::new("stage", "count, sum(n_tokens)")?;
    let (drawn, _) = store.groups(&Question::new(Table::Samples).of_run(run), &grouping)?;
    let mut secs: [BTreeMap<i64, f64>; 2] = Default::default();
    for (secs, key) in secs.iter_mut().zip(["system/wall_secs", "system/cpu_secs"]) {
        if store.series(run, key)?.is_none() {
            continue;
        }
        for point in store.history(run, key, None)? {
            let point = point?;
            *secs.entry(point.step).or_default() += point.value;
        }
    }
    let mut all = Vec::new();
    for stage in store.stages(run)? {
        let name = Value::Text(stage.name);
        let drawn = drawn.iter().find(|group| group.get("stage") == Some(&name));
        let of = |column: &str| drawn.and_then(|group| group.get(column)).cloned().unwrap_or(Value::Int(0));
        let [wall, cpu] = [0, 1].map(|at| secs[at].get(&i64::from(stage.ordinal)).copied().into());
        let columns =
            [("samples", of("count")), ("tokens", of("sum(n_tokens)")), ("wall_secs", wall), ("cpu_secs", cpu)];
        let columns = [("stage", name.clone())].into_iter().chain(columns);
        all.push(Grouped { columns: columns.map(|(name, value)| (name.to_owned(), value)).collect() });
    }
    rows(all.iter().map(|row| (&row.columns, row)), printer)?;
    Ok(Answer::Yes)
}

/// A value in a table: long texts shortened, so that a row stays a line.
fn cell(value: &Value) -> String {
    shortened(&value.to_string(), LONGEST_CELL)
}

/// The mean of one metric less another over equal steps.
fn paired(dir: &Path, run: &str, key: &str, less: &str, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let run = store.resolve_run(run)?;
    // A metric of this run may have a colon in its name.
    let (other, less) = match less.split_once(':') {
        Some((other, less)) if store.series(run, &format!("{other}:{less}"))?.is_none() => {
            (store.resolve_run(other)?, less)
        }
        _ => (run, less),
    };
    super::measures::check(&store, &[run, other])?;
    same_items(&store, run, other)?;
    let values = |run: RunId, key: &str| -> anyhow::Result<BTreeMap<i64, f64>> {
        if store.series(run, key)?.is_none() {
            return Err(no_metric(&store, run, key)?.into());
        }
        let points = store.history(run, key, None)?;
        Ok(points.map(|point| point.map(|point| (point.step, point.value))).collect::<Result<_, _>>()?)
    };
    let (first, second) = (values(run, key)?, values(other, less)?);
    let steps = first.keys().filter(|step| second.contains_key(*step)).count();
    if steps != first.len() || steps != second.len() {
        let what = format!(
            "`{key}` and `{less}` have {steps} steps in common, of {} and {}: they are not of the same items",
            first.len(),
            second.len()
        );
        return Err(InputError { what, hint: None }.into());
    }
    let [first, second] = [first, second].map(|values| values.into_values().collect::<Vec<f64>>());
    // One stream for every question: equal questions have equal answers.
    let mut stream = ChaCha8Rng::seed_from_u64(0);
    let gain = paired_gain(&second, &first, &mut stream);
    let gain = gain.ok_or_else(|| InputError { what: format!("`{key}` has no points"), hint: None })?;
    if printer.is_json() {
        printer.json(&json!({"key": key, "less": less, "n": steps, "estimate": gain}))?;
    } else {
        let Estimate { value, low, high } = gain;
        printer.line(&format!("{key} less {less}: {value:.4} [{low:.4}, {high:.4}] over {steps} steps"))?;
    }
    Ok(Answer::Yes)
}

/// Refuses runs that were measured on benchmarks of one name and other items: their steps are no pairs.
fn same_items(store: &Store, run: RunId, other: RunId) -> anyhow::Result<()> {
    let benchmarks = |run: RunId| -> anyhow::Result<BTreeMap<String, String>> {
        let all = store.contents_of::<Dataset>(run)?.into_iter().map(|(_, dataset)| dataset);
        let all = all.filter(|dataset| dataset.purpose == "benchmark");
        Ok(all.map(|dataset| (dataset.name, dataset.content.to_string())).collect())
    };
    let (own, others) = (benchmarks(run)?, benchmarks(other)?);
    match own.iter().find(|(name, content)| others.get(*name).is_some_and(|other| other != *content)) {
        None => Ok(()),
        Some((name, _)) => {
            let (run, other) = (run.short(), other.short());
            let what =
                format!("the benchmark `{name}` has other items in run {run} than in run {other}: nothing to pair");
            let hint =
                "what is drawn follows from the whole plan; compare figures (`query figures`), over several seeds";
            Err(InputError { what, hint: Some(hint.into()) }.into())
        }
    }
}

/// That a run has no such metric, and which it has.
fn no_metric(store: &Store, run: RunId, key: &str) -> anyhow::Result<InputError> {
    let known: Vec<String> = store.all_series(run)?.into_iter().map(|(key, _)| key).collect();
    let what = format!("run {run} has no metric `{key}`");
    Ok(InputError { what, hint: Some(format!("it has: {}", known.join(", "))) })
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
        return Err(no_metric(&store, run, key)?.into());
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
    if node.kind() == Kind::Run && graph.edges.is_empty() {
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
