//! `tracker report`.

mod gather;
mod page;

use std::path::Path;

use serde_json::json;
use tracker_front::write_whole;
use tracker_lab::sweep::{SWEEP, Sweep};
use tracker_store::Store;

use super::{run, sweep};
use crate::failure::{Answer, InputError};
use crate::printer::Printer;
use gather::Report;

/// Says what a run or a sweep found, or writes it as a page.
pub fn report(dir: &Path, text: &str, export: Option<&Path>, printer: &Printer) -> anyhow::Result<Answer> {
    if let Some(path) = export.filter(|path| path.extension().is_none_or(|end| !end.eq_ignore_ascii_case("html"))) {
        let what = format!("expected a file ending in .html, got `{}`", path.display());
        return Err(
            InputError { what, hint: Some("fronts are also written as SVG, PNG, CSV: tracker pareto".into()) }.into()
        );
    }
    let store = Store::open(dir)?;
    let id = store.resolve_run(text)?;
    let record = store.run(id)?;
    if record.study == SWEEP {
        let swept = Sweep::stored(&store, id)?.progress(&store, id)?;
        match export {
            Some(path) => write(path, &page::of_sweep(&record.name, &swept), printer)?,
            None => sweep::tell(&swept, printer)?,
        }
        return Ok(Answer::Yes);
    }
    let report = Report::of(&store, id)?;
    match export {
        Some(path) => write(path, &page::of_run(&report), printer)?,
        None => tell(&report, printer)?,
    }
    Ok(Answer::Yes)
}

fn write(path: &Path, page: &str, printer: &Printer) -> anyhow::Result<()> {
    write_whole(path, page.as_bytes())?;
    printer.say(&format!("wrote {}", path.display()));
    Ok(())
}

/// Claims, each with the numbers it rests on.
fn tell(report: &Report, printer: &Printer) -> anyhow::Result<()> {
    let figures = || report.figures.iter().flat_map(|(_, placed)| placed);
    if printer.is_json() {
        let node = |node: &tracker_store::NodeId| {
            report.behind.get(node).map(|behind| json!({"n": behind.n, "first": behind.nodes}))
        };
        printer.json(&json!({
            "run": report.run,
            "claims": report.claims.iter().map(|(id, claim)| json!({"id": id, "claim": claim, "from": node(id)})).collect::<Vec<_>>(),
            "figures": figures()
                .map(|placed| json!({"id": placed.node, "stage": placed.stage, "figure": placed.figure, "from": node(&placed.node)}))
                .collect::<Vec<_>>(),
            "charts": report.curves.len() + report.series.len() + report.fronts.len(),
        }))?;
        return Ok(());
    }
    printer.line(&format!("{}  {}  {}\n", report.run.name, report.run.id, report.run.status))?;
    for (id, claim) in &report.claims {
        run::claims(std::slice::from_ref(claim), printer)?;
        let Some(behind) = report.behind.get(id) else { continue };
        for from in &behind.nodes {
            let line = match figures().find(|placed| placed.node == from.id) {
                None => from.label.clone(),
                Some(placed) => {
                    let figure = &placed.figure;
                    let ends = figure.low.zip(figure.high);
                    let interval = ends.map_or_else(String::new, |(low, high)| format!(" [{low:.3}, {high:.3}]"));
                    format!("{}: {}  {:.3}{interval}", placed.stage, figure.name, figure.value)
                }
            };
            printer.line(&format!("    from {line}"))?;
        }
        if behind.n > behind.nodes.len() {
            printer.line(&format!("    and {} more: tracker query lineage '{id}'", behind.n - behind.nodes.len()))?;
        }
    }
    let n_charts = report.curves.len() + report.series.len() + report.fronts.len();
    let hint = format!(
        "{} figures, {n_charts} charts\nhint: as a page: tracker report {} --export FILE.html",
        figures().count(),
        report.run.id.short()
    );
    printer.say(&hint);
    Ok(())
}
