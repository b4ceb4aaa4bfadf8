//! What a report says of a run: claims, figures, curves, fronts, and the rows behind each number.

use std::collections::{BTreeMap, BTreeSet};

use tracker_front::{Chart, Front, Mark, Options, Point, Scale, Series};
use tracker_lab::{Found, Plot};
use tracker_store::{Claim, Figure, Front as FrontRecord, GraphNode, NodeId, Run, RunId, Store, Toward, Walk};

use crate::commands::pareto;
use crate::commands::runs::{self, Placed};

/// Most rows listed behind one number.
const MAX_ROWS: usize = 12;
/// Stretches a learning curve is drawn as.
const N_BUCKETS: usize = 200;
/// Stretches a fitted line is drawn as.
const N_STEPS: u32 = 100;
/// Series that measure the machine.
const SYSTEM: &str = "system/";

/// A number and what it was computed from.
pub struct Behind {
    /// The first nodes, in their order.
    pub nodes: Vec<GraphNode>,
    /// How many there are.
    pub n: usize,
}

/// What was recorded of a run, as it is shown.
pub struct Report {
    pub run: Run,
    pub claims: Vec<(NodeId, Claim)>,
    /// Figures by name, in the order of their stages.
    pub figures: Vec<(String, Vec<Placed>)>,
    /// Charts as SVG, with their headings.
    pub curves: Vec<String>,
    pub series: Vec<String>,
    pub fronts: Vec<String>,
    /// By claim and figure.
    pub behind: BTreeMap<NodeId, Behind>,
}

impl Report {
    /// Reads a run.
    pub fn of(store: &Store, id: RunId) -> anyhow::Result<Self> {
        let run = store.run(id)?;
        let placed = runs::figures(store, id)?;
        let claims: Vec<(NodeId, Claim)> = store.claims(id).collect::<Result<_, _>>()?;
        let plots = tracker_lab::study(&run.study).map_or(&[][..], |study| study.plots);
        let params = store.params(id)?;
        let charts = plots.iter().flat_map(|plot| curves(plot, &placed, &params));
        let curves = charts.map(|chart| chart.svg()).collect::<Result<_, _>>()?;
        let mut behind = BTreeMap::new();
        for node in claims.iter().map(|(node, _)| *node).chain(placed.iter().map(|placed| placed.node)) {
            behind.insert(node, rows(store, node)?);
        }
        let mut figures: Vec<(String, Vec<Placed>)> = Vec::new();
        for placed in placed {
            let name = placed.figure.name.clone();
            match figures.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.push(placed),
                None => figures.push((name, vec![placed])),
            }
        }
        let (series, fronts) = (learning(store, id)?, fronts(store, id)?);
        Ok(Self { run, claims, figures, curves, series, fronts, behind })
    }
}

/// What a number was computed from, one edge away.
fn rows(store: &Store, node: NodeId) -> anyhow::Result<Behind> {
    let graph = store.walk(node, &Walk { depth: 1, ..Walk::new(Toward::Ancestors) })?;
    let order: BTreeMap<NodeId, u32> =
        graph.edges.iter().filter(|edge| edge.from == node).map(|edge| (edge.to, edge.order)).collect();
    let mut nodes: Vec<GraphNode> =
        graph.nodes.into_iter().filter(|found| found.depth == 1 && found.kind != tracker_store::Kind::Run).collect();
    nodes.sort_by_key(|found| order.get(&found.id).copied());
    let n = nodes.len();
    nodes.truncate(MAX_ROWS);
    Ok(Behind { nodes, n })
}

/// The charts of a plot.
fn curves(plot: &Plot, placed: &[Placed], params: &BTreeMap<String, String>) -> Vec<Chart> {
    let matching = |pattern: &'static str| {
        placed.iter().filter_map(move |placed| {
            let figure = &placed.figure;
            Found::of(pattern, &placed.stage, &figure.name, &figure.split).map(|found| (found, figure))
        })
    };
    // A figure that another stands over, or whose line it is.
    let beside = |found: &Found, name: &'static str| {
        let name = found.fill(name);
        let is_it = |placed: &&Placed| {
            format!("{}: {}", placed.stage, placed.figure.name) == name
                && found.get("split") == Some(placed.figure.split.as_str())
        };
        placed.iter().find(is_it).map(|placed| placed.figure.value)
    };
    let mut charts: BTreeMap<String, Vec<Series>> = BTreeMap::new();
    for points in plot.points {
        let is_wanted = |figure: &Figure| points.splits.is_empty() || points.splits.contains(&figure.split.as_str());
        for (found, figure) in matching(points.figures).filter(|(_, figure)| is_wanted(figure)) {
            let x = match plot.by {
                Some(by) => beside(&found, by),
                // No end of units has no place across.
                None => found.get("x").and_then(|x| x.parse().ok()).filter(|x: &f64| x.is_finite()),
            };
            let Some(x) = x else { continue };
            let point = Point { x, y: figure.value, interval: figure.low.zip(figure.high) };
            let (series, name) = (charts.entry(found.fill(plot.chart)).or_default(), found.fill(points.series));
            let mark = if plot.by.is_some() { Mark::Dots } else { Mark::LineDots };
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name, mark, points: vec![point] }),
            }
        }
    }
    for series in charts.values_mut().flatten() {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    if let Some(fit) = plot.fit {
        for (found, slope) in matching(fit.slope) {
            let (Some(series), Some(intercept)) =
                (charts.get_mut(&found.fill(plot.chart)), beside(&found, fit.intercept))
            else {
                continue;
            };
            let xs = || series.iter().flat_map(|series| &series.points).map(|point| point.x);
            let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
            let point = |step: u32| {
                let x = low + (high - low) * f64::from(step) / f64::from(N_STEPS);
                Point { x, y: (fit.at)(params, [intercept, slope.value], x), interval: None }
            };
            let points = (0..=N_STEPS).map(point).collect();
            series.push(Series { name: found.fill(fit.series), mark: Mark::Line, points });
        }
    }
    let [x, y] = plot.is_log.map(|is_log| if is_log { Scale::Log } else { Scale::Linear });
    let chart = |(name, series): (String, Vec<Series>)| {
        let [x_label, y_label] = [plot.across, plot.up].map(str::to_owned);
        let title = if name.is_empty() { plot.title.to_owned() } else { format!("{}: {name}", plot.title) };
        Chart { title, x_label, y_label, x, y, series }
    };
    charts.into_iter().map(chart).collect()
}

/// The series of a run: those that measure the same thing of several models are one chart.
fn learning(store: &Store, run: RunId) -> anyhow::Result<Vec<String>> {
    let keys: Vec<String> =
        store.all_series(run)?.into_iter().map(|(key, _)| key).filter(|key| !key.starts_with(SYSTEM)).collect();
    let measure = |key: &str| key.rsplit_once('/').map_or(key, |(_, measure)| measure).to_owned();
    let measures: BTreeSet<String> = keys.iter().map(|key| measure(key)).collect();
    let mut charts = Vec::new();
    for of in measures {
        let mut all = Vec::new();
        for key in keys.iter().filter(|key| measure(key) == of) {
            let points = store.plot(run, key, N_BUCKETS)?.into_iter().filter_map(|bucket| {
                let x = (bucket.first_step + bucket.last_step) as f64 / 2.0;
                let interval = bucket.min.zip(bucket.max).filter(|(min, max)| min < max);
                Some(Point { x, y: bucket.mean?, interval })
            });
            let name = key.strip_suffix(&of).map_or("", |model| model.trim_end_matches('/')).to_owned();
            all.push(Series { name, mark: Mark::Line, points: points.collect() });
        }
        // Single points are no curve.
        all.retain(|series| series.points.len() > 1);
        if !all.is_empty() {
            let chart =
                Chart { title: of.clone(), x_label: "step".into(), y_label: of, series: all, ..Chart::default() };
            charts.push(chart.svg()?);
        }
    }
    Ok(charts)
}

fn fronts(store: &Store, run: RunId) -> anyhow::Result<Vec<String>> {
    let mut drawn = Vec::new();
    for found in store.contents_of::<FrontRecord>(run)? {
        let objectives = pareto::recorded(&found.1);
        let candidates = pareto::of_fronts(store, run, std::slice::from_ref(&found), &objectives)?;
        let front = Front::new(objectives, candidates, Options::default())?;
        if !front.rows.is_empty() {
            drawn.push((found.1.name.clone(), String::from_utf8(front.encode(tracker_front::Format::Svg)?)?));
        }
    }
    drawn.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(drawn.into_iter().map(|(name, svg)| format!("<h3>{}</h3>{svg}", escaped(&name))).collect())
}

fn escaped(text: &str) -> String {
    maud::html! { (text) }.into_string()
}
