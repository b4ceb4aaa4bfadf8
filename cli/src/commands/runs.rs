//! `tracker ls`, `tracker show` and `tracker diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tracker_store::{
    Checkpoint, Content, Dataset, Digest, Endpoint, Figure, Kind, Manifest, NodeId, Problem, Program, Run, RunId,
    Sampling, Series, Statement, Store, Table, Value as Cell, Verifier,
};

use crate::args::{Aspect, Listing};
use crate::commands::logged;
use crate::failure::Answer;
use crate::printer::{Printer, shortened};

/// Characters of a value that `diff` shows of either side: a digest fits. JSON has them whole.
const LONGEST_SIDE: usize = 100;

/// Lists runs, newest first.
pub fn ls(dir: &Path, filter: Option<&str>, limit: usize, printer: &Printer) -> anyhow::Result<Answer> {
    let listing = Listing { filter: filter.map(str::to_owned), limit, ..Listing::default() };
    super::query::list(dir, Table::Runs, &listing, printer)
}

/// Shows one run, or what any other node says.
pub fn show(dir: &Path, text: &str, printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let node = store.resolve(text)?;
    let Some(id) = node.owner().filter(|id| NodeId::run(*id) == node) else {
        return show_node(&store, &node, printer);
    };
    let run = store.run(id)?;
    let figures = figures(&store, id)?;
    let claims: Vec<_> = store.claims(id).map(|row| row.map(|(_, claim)| claim)).collect::<Result<_, _>>()?;
    if printer.is_json() {
        let stages: BTreeMap<_, _> = store.stages(id)?.into_iter().map(|s| (s.ordinal, s.name)).collect();
        let mut told = json!({
            "run": run,
            "params": store.params(id)?,
            "tags": store.tags(id)?,
            "stages": stages.into_values().collect::<Vec<_>>(),
            "figures": figures.iter().map(|p| json!({"stage": p.stage, "figure": p.figure})).collect::<Vec<_>>(),
            "claims": claims,
        });
        if logged::is_logged(&run) {
            told["logged"] = logged::facts(&store, id)?;
        }
        printer.json(&told)?;
        return Ok(Answer::Yes);
    }
    head(&run, printer)?;
    printer.line("")?;
    if logged::is_logged(&run) && figures.is_empty() && run.plan.text.is_empty() {
        logged::show(&store, id, printer)?;
        return Ok(Answer::Yes);
    }
    let rows = figures.iter().map(|Placed { stage, figure: f, .. }| {
        let interval = f.low.zip(f.high).map_or_else(String::new, |(low, high)| format!("[{low:.3}, {high:.3}]"));
        vec![stage.clone(), f.name.clone(), format!("{:.3}", f.value), interval, f.n.to_string()]
    });
    printer.table(&["STAGE", "FIGURE", "VALUE", "95 %", "N"], rows)?;
    printer.line("")?;
    super::run::claims(&claims, printer)?;
    printer.line("\nplan")?;
    printer.text(&run.plan.text)?;
    Ok(Answer::Yes)
}

/// Compares two runs: params, figures, seed and device, code and host, data, records; another machine or build is told and is no
/// difference by itself.
pub fn diff(dir: &Path, [left, right]: [&str; 2], only: &[Aspect], printer: &Printer) -> anyhow::Result<Answer> {
    let store = Store::open(dir)?;
    let (left, right) = (store.resolve_run(left)?, store.resolve_run(right)?);
    let mut differences = Vec::new();
    let mut compare = |aspect: Aspect, a: BTreeMap<String, Value>, b: BTreeMap<String, Value>| {
        if !only.is_empty() && !only.contains(&aspect) {
            return;
        }
        let what = aspect.name();
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys.into_iter().filter(|key| a.get(*key) != b.get(*key)) {
            let of = |side: &BTreeMap<String, Value>| side.get(key).cloned().unwrap_or(Value::Null);
            differences.push(json!({"what": what, "key": key, "left": of(&a), "right": of(&b)}));
        }
    };
    let params = |run| -> anyhow::Result<_> {
        Ok(store.params(run)?.into_iter().map(|(key, value)| (key, json!(value))).collect())
    };
    compare(Aspect::Param, params(left)?, params(right)?);
    let values = |run| -> anyhow::Result<_> {
        let figures = figures(&store, run)?;
        let value =
            |Placed { stage, figure, .. }| (format!("{stage}: {}", figure.name), json!(Cell::Real(figure.value)));
        let mut values: BTreeMap<String, Value> = figures.into_iter().map(value).collect();
        if logged::is_logged(&store.run(run)?) {
            let latest =
                |(key, series): (String, Series)| (format!("metrics.{key}"), json!(Cell::Real(series.latest.value)));
            values.extend(logged::series(&store, run)?.into_iter().map(latest));
        }
        Ok(values)
    };
    compare(Aspect::Figure, values(left)?, values(right)?);
    let head = |run| -> anyhow::Result<_> {
        let run = store.run(run)?;
        let fields =
            [("seed", json!(run.seed)), ("device", json!(run.device)), ("record digest", json!(run.record_digest))];
        Ok(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    compare(Aspect::Run, head(left)?, head(right)?);
    let code = |run| -> anyhow::Result<_> {
        let Run { versions, host, .. } = store.run(run)?;
        let host = ("host".to_owned(), host);
        Ok(versions.into_iter().chain([host]).map(|(key, text)| (key, json!(text))).collect())
    };
    compare(Aspect::Environment, code(left)?, code(right)?);
    compare(Aspect::Data, data(&store, left)?, data(&store, right)?);
    let is_same = differences.iter().all(|difference| difference["what"] == Aspect::Environment.name());
    if printer.is_json() {
        for difference in &differences {
            printer.json(difference)?;
        }
    } else {
        if is_same {
            let same = if only.is_empty() { "the same plan and the same records" } else { "no difference in these" };
            printer.line(same)?;
        }
        if differences.is_empty() {
            return Ok(Answer::Yes);
        }
        let text = |v: &Value| shortened(&v.as_str().map_or_else(|| v.to_string(), str::to_owned), LONGEST_SIDE);
        let rows = differences.iter().map(|d| ["what", "key", "left", "right"].map(|field| text(&d[field])).to_vec());
        printer.table(&["WHAT", "KEY", &left.short(), &right.short()], rows)?;
    }
    Ok(if is_same { Answer::Yes } else { Answer::No })
}

/// The datasets of a run by name, each with the digest of what is in it; several of one name are listed together.
fn data(store: &Store, run: RunId) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, dataset) in store.contents_of::<Dataset>(run)? {
        all.entry(dataset.name).or_default().push(dataset.content.to_string());
    }
    let joined = |mut digests: Vec<String>| {
        digests.sort_unstable();
        json!(digests.join(" "))
    };
    Ok(all.into_iter().map(|(name, digests)| (name, joined(digests))).collect())
}

/// A figure in its place.
pub struct Placed {
    pub node: NodeId,
    pub stage: String,
    pub figure: Figure,
}

/// Figures of a run, in the order the stages began.
pub fn figures(store: &Store, run: RunId) -> anyhow::Result<Vec<Placed>> {
    let mut all = Vec::new();
    for stage in store.stages(run)? {
        for row in store.figures(run, Some(stage.id())) {
            let (node, figure) = row?;
            all.push(Placed { node, stage: stage.name.clone(), figure });
        }
    }
    Ok(all)
}

fn head(run: &Run, printer: &Printer) -> anyhow::Result<()> {
    let ended = run.ended.map_or_else(String::new, |ended| format!(" – {ended}"));
    let rows = [
        ("run", run.id.to_string()),
        ("name", run.name.clone()),
        ("status", format!("{} {}", run.status, run.message)),
        ("study", run.study.clone()),
        ("user", run.user.clone()),
        ("seed", if logged::is_logged(run) { String::new() } else { run.seed.to_string() }),
        ("time", format!("{}{ended}", run.started)),
        ("device", if run.device.is_empty() { run.host.clone() } else { format!("{} on {}", run.device, run.host) }),
        ("records", run.record_digest.map_or_else(|| "not finished".to_owned(), |d| d.to_string())),
    ];
    let is_left_out = |key: &str, value: &str| value.is_empty() || key == "records" && logged::is_logged(run);
    for (key, value) in rows.into_iter().filter(|(key, value)| !is_left_out(key, value)) {
        printer.line(&format!("{key:<9}{}", value.trim_end()))?;
    }
    Ok(())
}

/// Any other node, as what is recorded of it.
fn show_node(store: &Store, node: &NodeId, printer: &Printer) -> anyhow::Result<Answer> {
    let value = describe(store, node)?;
    if printer.is_json() {
        printer.json(&json!({"id": node, "kind": node.kind(), "record": value}))?;
        return Ok(Answer::Yes);
    }
    printer.line(&format!("{} {node}", node.kind().name()))?;
    for (key, value) in value.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        printer.line(&format!("  {key:<12} {text}"))?;
    }
    Ok(Answer::Yes)
}

/// The record of a node as JSON.
fn describe(store: &Store, node: &NodeId) -> anyhow::Result<Value> {
    fn content<C: Content + serde::Serialize>(store: &Store, digest: Digest) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(store.content::<C>(digest)?)?)
    }
    fn row<T: serde::Serialize>(found: Option<T>) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(found)?)
    }
    if let Some(digest) = node.digest() {
        return match node.kind() {
            Kind::Problem => content::<Problem>(store, digest),
            Kind::Statement => content::<Statement>(store, digest),
            Kind::Dataset => content::<Dataset>(store, digest),
            Kind::Checkpoint => content::<Checkpoint>(store, digest),
            Kind::Verifier => content::<Verifier>(store, digest),
            Kind::Program => content::<Program>(store, digest),
            Kind::Endpoint => content::<Endpoint>(store, digest),
            Kind::Sampling => content::<Sampling>(store, digest),
            Kind::Artifact => content::<Manifest>(store, digest),
            _ => Ok(Value::Null),
        };
    }
    let Some(key) = node.row() else { return Ok(Value::Null) };
    let has = |found: &NodeId| found == node;
    match node.kind() {
        Kind::Sample => row(store.sample(key)?),
        Kind::Verdict => row(store.verdicts_on(key).filter_map(Result::ok).find(|(at, _)| has(at)).map(|(_, v)| v)),
        Kind::Reward => row(store.rewards_on(key).filter_map(Result::ok).find(|(at, _)| has(at)).map(|(_, r)| r)),
        Kind::Selection => row(store
            .selections(key.run, Some(key.stage))
            .filter_map(Result::ok)
            .find(|(at, _)| has(at))
            .map(|(_, selection)| selection)),
        Kind::Figure => {
            row(store.figures(key.run, Some(key.stage)).filter_map(Result::ok).find(|(at, _)| has(at)).map(|(_, f)| f))
        }
        Kind::Claim => row(store.claims(key.run).filter_map(Result::ok).find(|(at, _)| has(at)).map(|(_, c)| c)),
        _ => Ok(Value::Null),
    }
}
