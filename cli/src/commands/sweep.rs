//! `tracker sweep`.

use std::collections::BTreeMap;
use std::path::Path;

use tracker_lab::sweep::{Sweep, Swept, Work};
use tracker_store::{Status, Store};

use super::run::{Machine, overlay};
use crate::args::SweepArgs;
use crate::failure::Answer;
use crate::printer::Printer;

/// Runs a grid of plans, or goes on with one. The answer is no if cells are missing at the end.
pub fn sweep(dir: &Path, args: &SweepArgs, printer: &Printer) -> anyhow::Result<Answer> {
    let machine = Machine::read(&args.run.machine)?;
    let (store, sweep, run) = if let Some(run) = &args.run.resume {
        let store = Store::open(dir)?;
        let run = store.resolve_run(run)?;
        let sweep = Sweep::stored(&store, run)?;
        (store, sweep, run)
    } else {
        let (study, overlay) = overlay(&args.run)?;
        let sweep = Sweep::new(&study, &overlay, &args.grid)?;
        let store = Store::create(dir)?;
        let run = sweep.begin(&store, args.run.name.clone())?;
        (store, sweep, run)
    };
    printer.say(&format!("sweep {run}: {} cells", sweep.n_cells()));
    let swept = sweep.go(&store, run, |work| {
        let finished = machine.attend(printer, |mut session| match work {
            Work::New(plan, name, tags) => {
                session.tags = tags;
                session.run(&store, plan.clone(), Some(name))
            }
            Work::Resume(run) => session.resume(&store, run),
        });
        if let Err(error) = &finished {
            printer.say(&format!("error: {error}"));
        }
        finished
    })?;
    tell(&swept, printer)?;
    if swept.status == Status::Finished {
        return Ok(Answer::Yes);
    }
    let n_open = swept.cells.iter().filter(|cell| cell.status != Some(Status::Finished)).count();
    printer.say(&format!(
        "{n_open} of {} cells are missing\nhint: to do them: tracker sweep --resume {run}",
        swept.cells.len()
    ));
    Ok(Answer::No)
}

/// Says what became of the cells, and how often each claim held.
pub fn tell(swept: &Swept, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        printer.json(swept)?;
        return Ok(());
    }
    let header: Vec<String> =
        swept.keys.iter().cloned().chain(["RUN", "STATUS", "CLAIMS"].map(str::to_owned)).collect();
    let rows = swept.cells.iter().map(|cell| {
        let n_held = cell.claims.iter().filter(|claim| claim.holds).count();
        let run = cell.run.map_or_else(String::new, |run| run.to_string());
        let status = cell.status.map_or("missing", |status| status.name()).to_owned();
        let claims = if cell.claims.is_empty() { String::new() } else { format!("{n_held} of {}", cell.claims.len()) };
        cell.values.iter().cloned().chain([run, status, claims]).collect()
    });
    printer.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows)?;
    // In the order of the first cell that tested it.
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut held: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for claim in swept.cells.iter().flat_map(|cell| &cell.claims) {
        let (n_held, n) = held.entry(&claim.id).or_insert_with(|| {
            order.push((&claim.id, &claim.statement));
            (0, 0)
        });
        *n += 1;
        *n_held += usize::from(claim.holds);
    }
    if !order.is_empty() {
        printer.line("")?;
        let row = |(id, statement): &(&str, &str)| {
            let (n_held, n) = held[id];
            vec![format!("{n_held} of {n}"), (*id).to_owned(), (*statement).to_owned()]
        };
        printer.table(&["HOLDS", "CLAIM", "STATEMENT"], order.iter().map(row))?;
    }
    printer.line(&format!("\nsweep {}  {}", swept.run, swept.status))?;
    Ok(())
}
