//! `tracker pareto`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tracker_front::{Candidate, Direction, Format, Front, Objective, Options, Rejected};
use tracker_lab::sweep::{SWEEP, cells};
use tracker_store::{
    Checkpoint, Front as FrontRecord, Goal, Kind, NodeId, Query, Relation, Row, RunId, Store, Table, Toward, Walk,
    Weights,
};

use crate::args::ParetoArgs;
use crate::failure::{Answer, InputError};
use crate::printer::Printer;

/// The most runs that are compared.
const MAX_RUNS: usize = 100_000;
/// Hexadecimal digits that name a parent in a column.
const SHORT: usize = 8;

/// Compares points and says, or writes, which are on the front.
pub fn pareto(dir: &Path, args: &ParetoArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let formats = args.exports.iter().map(|path| Format::of(path)).collect::<Result<Vec<_>, _>>()?;
    let store = Store::open(dir)?;
    let runs = runs(&store, args)?;
    super::measures::check(&store, &runs)?;
    let mut fronts = Vec::new();
    for run in &runs {
        fronts.push((*run, store.contents_of::<FrontRecord>(*run)?));
    }
    let objectives = objectives(args, &fronts)?;
    let mut candidates = Vec::new();
    for (run, fronts) in &fronts {
        if fronts.is_empty() {
            candidates.push(of_run(&store, *run, &objectives)?);
        } else {
            candidates.extend(of_fronts(&store, *run, fronts, &objectives)?);
        }
    }
    keep_what_differs(&mut candidates);
    let options = Options { reference: args.reference.clone(), epsilon: args.epsilon.clone() };
    let front = Front::new(objectives, candidates, options)?;
    reject(&front.rejected, printer);
    if front.rows.is_empty() {
        let names: Vec<&str> = front.objectives.iter().map(|objective| objective.name.as_str()).collect();
        return Err(InputError {
            what: format!("no point has a value for each of {}", names.join(", ")),
            hint: Some("`tracker query metrics RUN` lists the metrics of a run".into()),
        }
        .into());
    }
    for path in &args.exports {
        front.write(path)?;
        printer.say(&format!("wrote {} points to {}", front.rows.len(), path.display()));
    }
    if printer.is_json() {
        printer.text(&String::from_utf8_lossy(&front.encode(Format::Json)?))?;
    } else if formats.is_empty() {
        tell(&front, args.all, printer)?;
    }
    Ok(Answer::Yes)
}

/// The runs to compare, oldest first.
fn runs(store: &Store, args: &ParetoArgs) -> anyhow::Result<Vec<RunId>> {
    let mut question = Query::new(Table::Runs).limit(MAX_RUNS);
    if let Some(filter) = &args.filter {
        question = question.filter(filter)?;
    }
    let mut named = BTreeSet::new();
    for run in &args.runs {
        let run = store.resolve_run(run)?;
        // A sweep stands for its cells.
        if store.run(run)?.study == SWEEP {
            named.extend(cells(store, run)?.into_iter().map(|(_, run)| run.id));
        } else {
            named.insert(run);
        }
    }
    let matching = store.query(&question.column("study")?)?.rows;
    let is_point = |row: &&Row| row.get("study").is_none_or(|study| study.to_string() != SWEEP);
    let mut runs: Vec<RunId> = matching.iter().filter(is_point).filter_map(|row| row.id.owner()).collect();
    if !args.runs.is_empty() {
        runs.retain(|run| named.contains(run));
    }
    runs.sort_unstable();
    if runs.is_empty() {
        return Err(
            InputError { what: "no run to compare".into(), hint: Some("`tracker ls` lists runs".into()) }.into()
        );
    }
    Ok(runs)
}

type Recorded = (RunId, Vec<(NodeId, FrontRecord)>);

/// What is compared: what was asked for, or what the recorded fronts compare.
fn objectives(args: &ParetoArgs, fronts: &[Recorded]) -> anyhow::Result<Vec<Objective>> {
    if args.objectives.is_empty() {
        let recorded: BTreeSet<Vec<(&str, bool)>> = fronts
            .iter()
            .flat_map(|(_, fronts)| fronts)
            .map(|(_, front)| front.objectives.iter().map(|o| (o.name.as_str(), o.goal == Goal::Maximize)).collect())
            .collect();
        let mut recorded = recorded.into_iter();
        let (Some(only), None) = (recorded.next(), recorded.next()) else {
            let what =
                "expected at least one --objective: the runs have recorded no fronts, or of different objectives";
            return Err(InputError { what: what.into(), hint: Some("such as `--objective reward:max`".into()) }.into());
        };
        return Ok(only.into_iter().map(|(name, is_max)| objective(name, is_max)).collect());
    }
    let parse = |text: &String| -> anyhow::Result<Objective> {
        let (name, direction) = text.rsplit_once(':').ok_or_else(|| InputError {
            what: format!("--objective: expected NAME:max or NAME:min, got `{text}`"),
            hint: None,
        })?;
        Ok(Objective { name: name.to_owned(), direction: direction.parse::<Direction>()? })
    };
    args.objectives.iter().map(parse).collect()
}

fn objective(name: &str, is_max: bool) -> Objective {
    if is_max { Objective::maximise(name) } else { Objective::minimise(name) }
}

/// What a recorded front compares.
pub fn recorded(front: &FrontRecord) -> Vec<Objective> {
    front.objectives.iter().map(|o| objective(&o.name, o.goal == Goal::Maximize)).collect()
}

/// A run as one point: the latest value of each metric.
fn of_run(store: &Store, run: RunId, objectives: &[Objective]) -> anyhow::Result<Candidate> {
    let record = store.run(run)?;
    let mut values = Vec::with_capacity(objectives.len());
    for objective in objectives {
        values.push(store.series(run, &objective.name)?.map(|series| series.latest.value));
    }
    Ok(Candidate {
        run: run.to_string(),
        checkpoint: record.name,
        values,
        params: store.params(run)?,
        lineage_root: run.to_string(),
        family: Some(record.study).filter(|study| !study.is_empty()),
        ..Candidate::default()
    })
}

/// The points of a run's fronts, each once, as it stands in the narrowest front that has all objectives. A node with other
/// values is another point.
pub fn of_fronts(
    store: &Store,
    run: RunId,
    fronts: &[(NodeId, FrontRecord)],
    objectives: &[Objective],
) -> anyhow::Result<Vec<Candidate>> {
    let mut fronts: Vec<&FrontRecord> = fronts.iter().map(|(_, front)| front).collect();
    fronts.sort_by_key(|front| front.points.len());
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for front in fronts {
        let place = |o: &Objective| front.objectives.iter().position(|recorded| recorded.name == o.name);
        let Some(places) = objectives.iter().map(place).collect::<Option<Vec<_>>>() else { continue };
        for point in &front.points {
            // A model that is asked for several things has a point for each.
            let values: Vec<f64> = places.iter().map(|at| point.values[*at]).collect();
            if !seen.insert((point.node, values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>())) {
                continue;
            }
            let (label, digest, params) = describe(store, point.node)?;
            found.push(Candidate {
                run: run.to_string(),
                checkpoint: label,
                values: values.into_iter().map(Some).collect(),
                params,
                artifact_digest: digest,
                lineage_root: root(store, point.node)?,
                family: front.name.rsplit('/').next().map(str::to_owned),
                ..Candidate::default()
            });
        }
    }
    Ok(found)
}

/// What people call a point, the digest of its files or recipe, and the weights of its parents if it is a mixture.
fn describe(store: &Store, node: NodeId) -> anyhow::Result<(String, String, BTreeMap<String, String>)> {
    let Some(digest) = node.digest().filter(|_| node.kind() == Kind::Checkpoint) else {
        return Ok((node.to_string(), String::new(), BTreeMap::new()));
    };
    let checkpoint: Checkpoint = store.content(digest)?;
    let mut params = BTreeMap::new();
    if let Weights::Virtual { recipe, .. } = store.weights(node)? {
        for weight in recipe.weights {
            let parent = weight.parent.to_string();
            let block = if weight.block.is_empty() { "all" } else { &weight.block };
            params.insert(format!("{block} of {}", &parent[..SHORT]), weight.weight.to_string());
        }
    }
    Ok((checkpoint.label, checkpoint.manifest.to_string(), params))
}

/// The checkpoint an ancestry of weights begins with: what each was derived from, the first parent of a mixture, to the end.
fn root(store: &Store, node: NodeId) -> anyhow::Result<String> {
    let mut at = node;
    loop {
        let near = store.walk(at, &Walk { depth: 1, ..Walk::new(Toward::Ancestors) })?;
        let parents = near.edges.iter().filter(|edge| edge.from == at && edge.relation == Relation::DerivedFrom);
        match parents.min_by_key(|edge| edge.order) {
            // Names are digests of what they rest on, so no ancestry comes back to where it was.
            Some(edge) => at = edge.to,
            None => return Ok(at.to_string()),
        }
    }
}

/// Params that are the same everywhere tell no points apart.
fn keep_what_differs(candidates: &mut [Candidate]) {
    let mut values: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    let keys: BTreeSet<String> = candidates.iter().flat_map(|candidate| candidate.params.keys().cloned()).collect();
    for candidate in &*candidates {
        for key in &keys {
            values.entry(key.clone()).or_default().insert(candidate.params.get(key).cloned());
        }
    }
    for candidate in candidates {
        candidate.params.retain(|key, _| values.get(key).is_some_and(|values| values.len() > 1));
    }
}

fn tell(front: &Front, all: bool, printer: &Printer) -> anyhow::Result<()> {
    let mut header: Vec<String> = vec!["RUN".into(), "POINT".into()];
    header.extend(front.objectives.iter().map(|o| format!("{} ({})", o.name.to_uppercase(), o.direction.as_str())));
    header.extend(["RANK", "CROWDING", "FRONT"].map(str::to_owned));
    let mut rows: Vec<_> = front.rows.iter().filter(|row| all || row.is_kept.unwrap_or(row.is_pareto)).collect();
    rows.sort_by(|a, b| (a.rank, &a.run).cmp(&(b.rank, &b.run)).then(a.values[0].total_cmp(&b.values[0])));
    let cells = rows.iter().map(|row| {
        let mut cells = vec![row.run.chars().take(13).collect(), row.checkpoint.clone()];
        cells.extend(row.values.iter().map(|value| format!("{value:.4}")));
        cells.extend([row.rank.to_string(), format!("{:.3}", row.crowding), row.family.clone().unwrap_or_default()]);
        cells
    });
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    printer.table(&header, cells)?;
    let n_front = front.pareto().count();
    printer.line(&format!("{n_front} of {} points are on the front", front.rows.len()))?;
    if let (Some(volume), Some(reference)) = (front.hypervolume, &front.reference) {
        let origin = if front.is_default_reference { ", the worst value of each objective" } else { "" };
        printer.line(&format!("hypervolume {volume:.6} up to {reference:?}{origin}"))?;
    }
    Ok(())
}

fn reject(rejected: &[Rejected], printer: &Printer) {
    const SHOWN: usize = 5;
    for Rejected { run, checkpoint, objective, reason } in rejected.iter().take(SHOWN) {
        printer.say(&format!("left out: {run} ({checkpoint}): `{objective}` is {}", reason.as_str()));
    }
    if rejected.len() > SHOWN {
        printer.say(&format!("and {} more", rejected.len() - SHOWN));
    }
}
