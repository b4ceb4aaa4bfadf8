//! The page of a report: one file, nothing loaded from elsewhere, every number a link to the rows behind it.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use tracker_lab::sweep::Swept;
use tracker_store::{Claim, NodeId, Status};

use super::gather::{Behind, Report};
use crate::commands::runs::Placed;

const STYLE: &str = "
body { margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; font: 15px/1.45 system-ui, sans-serif; color: #282828; background: #fff; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; margin: .5rem 0 1.2rem; } th { text-align: left; font-weight: 600; }
th, td { padding: .2rem .8rem .2rem 0; vertical-align: top; border-bottom: 1px solid #eee; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.yes { color: #00694f; font-weight: 600; white-space: nowrap; } .no { color: #b34700; font-weight: 600; white-space: nowrap; }
.rows { margin: .4rem 0; padding: .3rem .6rem; border-left: 3px solid #ddd; } .rows:target { background: #fff6d8; border-color: #e69f00; }
.rows ul { margin: .2rem 0; padding-left: 1.2rem; } code, pre { font: 13px ui-monospace, monospace; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; } a { color: #0072b2; text-decoration: none; } a:hover { text-decoration: underline; }
div > svg { max-width: 100%; height: auto; } td svg { display: block; } .muted { color: #777; }
";

/// The page of one run.
pub fn of_run(report: &Report) -> String {
    let run = &report.run;
    let study = tracker_lab::study(&run.study).ok();
    let body = html! {
        h1 { (run.name) }
        (head(&[
            ("run", run.id.to_string()),
            ("study", study.map_or_else(|| run.study.clone(), |s| format!("{}: {} ({})", s.name, s.about, s.paper))),
            ("status", format!("{} {}", run.status, run.message)),
            ("seed", run.seed.to_string()),
            ("device", format!("{} on {}", run.device, run.host)),
            ("began", run.started.to_string()),
            ("record digest", run.record_digest.map_or_else(|| "not finished".to_owned(), |d| d.to_string())),
        ]))
        @if !report.claims.is_empty() {
            h2 { "Claims" }
            table {
                tr { th { "" } th { "Claim" } th { "Value" } th { "95 %" } th { "Asked against" } th { "" } }
                @for (node, claim) in &report.claims { (claim_row(*node, claim)) }
            }
        }
        (charts("Curves", &report.curves))
        (charts("Learning curves", &report.series))
        (charts("Fronts", &report.fronts))
        @if !report.figures.is_empty() { h2 { "Figures" } }
        @for (name, placed) in &report.figures { (figures(name, placed)) }
        h2 { "Rows behind the numbers" }
        p.muted { "What each number was computed from; the command lists all of it, to the last row." }
        @for (node, claim) in &report.claims { (behind(report, *node, &format!("claim {}", claim.id))) }
        @for placed in report.figures.iter().flat_map(|(_, placed)| placed) {
            (behind(report, placed.node, &format!("{}: {}", placed.stage, placed.figure.name)))
        }
        h2 { "Plan" }
        pre { (run.plan.text) }
    };
    page(&run.name, &body)
}

/// The page of a sweep.
pub fn of_sweep(name: &str, swept: &Swept) -> String {
    let mut ids: Vec<(&str, &str)> = Vec::new();
    for claim in swept.cells.iter().flat_map(|cell| &cell.claims) {
        if !ids.iter().any(|(id, _)| *id == claim.id) {
            ids.push((&claim.id, &claim.statement));
        }
    }
    let body = html! {
        h1 { (name) }
        (head(&[("sweep", swept.run.to_string()), ("status", swept.status.to_string()), ("cells", swept.cells.len().to_string())]))
        h2 { "Cells" }
        table {
            tr { @for key in &swept.keys { th { (key) } } th { "Run" } th { "Status" } th { "Claims that hold" } }
            @for cell in &swept.cells {
                tr {
                    @for value in &cell.values { td { (value) } }
                    td { @if let Some(run) = cell.run { code { (run) } } }
                    td { (cell.status.map_or("missing", Status::name)) }
                    td.n { @if !cell.claims.is_empty() { (cell.claims.iter().filter(|c| c.holds).count()) " of " (cell.claims.len()) } }
                }
            }
        }
        @for (id, statement) in &ids {
            h3 { (id) }
            p { (statement) }
            table {
                tr { @for key in &swept.keys { th { (key) } } th { "" } th { "Value" } th { "95 %" } th { "Asked against" } th { "" } }
                @for cell in &swept.cells {
                    @if let Some(claim) = cell.claims.iter().find(|claim| claim.id == *id) {
                        tr { @for value in &cell.values { td { (value) } } (numbers(claim)) }
                    }
                }
            }
        }
        p.muted { "The page of a cell: " code { "tracker report RUN --export FILE.html" } ". By two axes: "
            code { "tracker query table claims \"claim = 'ID'\" --run " (swept.run) " --rows params.KEY --columns params.KEY" } }
    };
    page(name, &body)
}

fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

fn head(rows: &[(&str, String)]) -> Markup {
    html! { table { @for (key, value) in rows { tr { th { (key) } td { (value.trim()) } } } } }
}

fn charts(title: &str, svgs: &[String]) -> Markup {
    html! { @if !svgs.is_empty() { h2 { (title) } @for svg in svgs { div { (PreEscaped(svg)) } } } }
}

/// An anchor's name: ids of nodes have slashes and blanks.
fn anchor(node: NodeId) -> String {
    node.to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn claim_row(node: NodeId, claim: &Claim) -> Markup {
    html! {
        tr {
            td { @if claim.holds { span.yes { "holds" } } @else { span.no { "does not hold" } } }
            td { (claim.statement) " " a href={ "#" (anchor(node)) } { "rows" } }
            (cells(claim))
        }
    }
}

fn numbers(claim: &Claim) -> Markup {
    html! { td { @if claim.holds { span.yes { "holds" } } @else { span.no { "does not hold" } } } (cells(claim)) }
}

fn cells(claim: &Claim) -> Markup {
    let ends = [Some(claim.value), claim.low, claim.high, claim.bound].into_iter().flatten();
    html! {
        td.n { (number(claim.value)) }
        td.n { (interval(claim.low, claim.high)) }
        td.n { @if let Some(bound) = claim.bound { (number(bound)) } }
        td { (bar(claim.value, claim.low.zip(claim.high), claim.bound, span(ends))) }
    }
}

fn figures(name: &str, placed: &[Placed]) -> Markup {
    // Numbers without an interval are what means are over: they stand behind these.
    let has_interval = |placed: &&Placed| placed.figure.low.is_some();
    let shown: Vec<&Placed> = match placed.iter().filter(has_interval).collect::<Vec<_>>() {
        none if none.is_empty() => placed.iter().collect(),
        some => some,
    };
    let ends = shown.iter().flat_map(|p| [Some(p.figure.value), p.figure.low, p.figure.high]).flatten();
    let span = span(ends);
    html! {
        h3 { (name) }
        @if shown.len() < placed.len() { p.muted { (placed.len() - shown.len()) " single numbers stand behind these." } }
        table {
            tr { th { "Stage" } th { "Value" } th { "95 %" } th { "n" } th { "" } }
            @for Placed { node, stage, figure } in shown {
                tr {
                    td { a href={ "#" (anchor(*node)) } { (stage) } @if figure.split != *stage && !figure.split.is_empty() { " " span.muted { (figure.split) } } }
                    td.n { (number(figure.value)) " " (figure.unit) }
                    td.n { (interval(figure.low, figure.high)) }
                    td.n { (figure.n) }
                    td { (bar(figure.value, figure.low.zip(figure.high), None, span)) }
                }
            }
        }
    }
}

fn behind(report: &Report, node: NodeId, title: &str) -> Markup {
    let Some(Behind { nodes, n }) = report.behind.get(&node) else { return html! {} };
    html! {
        div.rows id=(anchor(node)) {
            strong { (title) } " " span.muted { (n) " nodes; " } code { "tracker query lineage '" (node) "'" }
            @if !nodes.is_empty() {
                ul {
                    @for found in nodes {
                        li {
                            @if report.behind.contains_key(&found.id) { a href={ "#" (anchor(found.id)) } { (found.kind.name()) } }
                            @else { (found.kind.name()) }
                            " " (found.label)
                        }
                    }
                    @if *n > nodes.len() { li.muted { "and " (n - nodes.len()) " more" } }
                }
            }
        }
    }
}

fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) { format!("{value:.3e}") } else { format!("{value:.3}") }
}

fn interval(low: Option<f64>, high: Option<f64>) -> String {
    match low.zip(high) {
        Some((low, high)) if low < high => format!("{} to {}", number(low), number(high)),
        _ => String::new(),
    }
}

/// The least and the greatest of the numbers that are finite.
fn span(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = numbers.filter(|number| number.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
}

/// A number with its interval, and what it is held against, on a scale from `low` to `high`.
fn bar(value: f64, interval: Option<(f64, f64)>, bound: Option<f64>, (low, high): (f64, f64)) -> Markup {
    const WIDTH: f64 = 200.0;
    if low >= high || !value.is_finite() {
        return html! {};
    }
    let at = |x: f64| format!("{:.1}", 6.0 + (x.clamp(low, high) - low) / (high - low) * (WIDTH - 12.0));
    html! {
        svg width=(WIDTH) height="14" role="img" {
            line x1="6" x2=(WIDTH - 6.0) y1="7" y2="7" stroke="#eee" {}
            @if let Some(bound) = bound.filter(|bound| bound.is_finite()) {
                line x1=(at(bound)) x2=(at(bound)) y1="0" y2="14" stroke="#999" stroke-dasharray="2 2" {}
            }
            @if let Some((from, to)) = interval.filter(|(from, to)| from.is_finite() && to.is_finite()) {
                line x1=(at(from)) x2=(at(to)) y1="7" y2="7" stroke="#0072b2" stroke-width="2" {}
            }
            circle cx=(at(value)) cy="7" r="3.5" fill="#0072b2" {}
        }
    }
}
