//! Sweeps: a grid of plans, every cell a run of its own.
//!
//! A sweep is a run too: its plan says the grid, its edges lead to the cells' runs, and these carry its id as the tag `sweep`. What is
//! missing of it is found by looking, so that a killed sweep goes on where it stopped, and several processes may work on one: a cell
//! is in the hands of one at a time.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracker_store::{
    Claim, Digest, Durability, Edge, Ending, NewRun, NodeId, Plan as PlanRecord, Query, Recording, Relation, Run,
    RunId, Status, Store, Table,
};

use crate::error::{Error, Result};
use crate::plan::{Overlay, Plan};
use crate::session::{Finished, Held, versions};
use crate::study::study;

/// What stands as the study of a sweep's own run, and the tag of a cell's run that says whose cell it is.
pub const SWEEP: &str = "sweep";
/// The tag that says which cell a run is.
const CELL: &str = "sweep.cell";
/// The key of an axis over seeds.
const SEED: &str = "seed";
/// Most cells of a grid.
const MAX_CELLS: usize = 10_000;

/// A key of plans, and the values it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// The key, as `--set` takes it; or `seed`.
    pub key: String,
    /// Its values, as they were written.
    pub values: Vec<String>,
}

/// A point of the grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The value of each axis.
    pub values: Vec<String>,
    /// The plan they make.
    pub plan: Plan,
}

/// A grid of plans of one study.
#[derive(Clone, Debug)]
pub struct Sweep {
    study: String,
    axes: Vec<Axis>,
    cells: Vec<Cell>,
}

/// How a sweep is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    study: String,
    axes: Vec<Axis>,
    /// The plan that the axes are laid over.
    base: String,
}

/// A cell and how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The value of each axis.
    pub values: Vec<String>,
    /// Its run, if it has one.
    pub run: Option<RunId>,
    /// How that ended, if it did.
    pub status: Option<Status>,
    /// What it tested.
    pub claims: Vec<Claim>,
}

/// A sweep and how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct Swept {
    /// Its own run.
    pub run: RunId,
    /// `finished` when all cells are.
    pub status: Status,
    /// Its axes' keys.
    pub keys: Vec<String>,
    /// Its cells, in the order of the grid: the last axis moves first.
    pub cells: Vec<Progress>,
}

/// What a cell asks for: its plan as a new run, or a run to go on with.
#[derive(Debug)]
pub enum Work<'a> {
    /// A plan to run under this name, with these tags.
    New(&'a Plan, String, Vec<(String, String)>),
    /// A run that ended early.
    Resume(RunId),
}

impl Axis {
    /// Reads `key=a,b,c`; commas within brackets, braces and quotes belong to a value.
    fn parse(text: &str) -> Result<Self> {
        let wrong = |message: String| Error::Value { key: format!("--grid {text}"), message };
        let (key, values) = text.split_once('=').ok_or_else(|| wrong("expected `key=a,b,c`, got no `=`".to_owned()))?;
        let (mut depth, mut quote, mut all) = (0_i32, None, vec![String::new()]);
        for c in values.chars() {
            match c {
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                '[' | '{' if quote.is_none() => depth += 1,
                ']' | '}' if quote.is_none() => depth -= 1,
                ',' if quote.is_none() && depth == 0 => {
                    all.push(String::new());
                    continue;
                }
                _ => {}
            }
            if let Some(last) = all.last_mut() {
                last.push(c);
            }
        }
        let values: Vec<String> = all.into_iter().map(|value| value.trim().to_owned()).collect();
        if let Some(at) = values.iter().position(String::is_empty) {
            return Err(wrong(format!("expected a value between commas, got nothing in place {}", at + 1)));
        }
        if values.iter().collect::<BTreeSet<_>>().len() < values.len() {
            return Err(wrong("expected values that differ".to_owned()));
        }
        Ok(Self { key: key.trim().to_owned(), values })
    }
}

impl Sweep {
    /// The grid of `axes` (`key=a,b,c` each) over the plan that `overlay` makes of a study. Every cell's plan is made, and
    /// refused if it makes no sense.
    ///
    /// # Errors
    /// `UnknownStudy`; `Value` for axes that cannot be read, and of plans, with the cell; `Input` for cells that are the same plan.
    pub fn new(name: &str, overlay: &Overlay, axes: &[String]) -> Result<Self> {
        let axes = axes.iter().map(|text| Axis::parse(text)).collect::<Result<Vec<_>>>()?;
        let keys: BTreeSet<&str> = axes.iter().map(|axis| axis.key.as_str()).collect();
        if keys.len() < axes.len() {
            return Err(Error::Value { key: "--grid".into(), message: "expected keys that differ".into() });
        }
        let n_cells = axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()));
        if n_cells.is_none_or(|n| n > MAX_CELLS) {
            return Err(Error::Value { key: "--grid".into(), message: format!("expected at most {MAX_CELLS} cells") });
        }
        let mut all: Vec<Vec<String>> = vec![vec![]];
        for axis in &axes {
            let longer = |cell: &Vec<String>, value: &String| [cell.as_slice(), std::slice::from_ref(value)].concat();
            all = all.iter().flat_map(|cell| axis.values.iter().map(move |value| longer(cell, value))).collect();
        }
        let mut cells = Vec::new();
        for values in all {
            cells.push(Cell { plan: plan(name, overlay, &axes, &values)?, values });
        }
        let mut seen = std::collections::BTreeMap::new();
        for cell in &cells {
            if let Some(other) = seen.insert(&cell.plan.text, &cell.values) {
                return Err(Error::Input {
                    what: format!("cells {} and {} are the same plan", other.join(", "), cell.values.join(", ")),
                    hint: Some("an axis sets a key that another axis sets too, or the same value in two ways".into()),
                });
            }
        }
        Ok(Self { study: name.to_owned(), axes, cells })
    }

    /// The sweep that a run is.
    ///
    /// # Errors
    /// `Input` if the run is no sweep; those of plans that this version does not take any more.
    pub fn stored(store: &Store, run: RunId) -> Result<Self> {
        let run = store.run(run)?;
        if run.study != SWEEP {
            return Err(Error::Input {
                what: format!("run {} is not a sweep", run.id),
                hint: Some(format!("to go on with a run: tracker run --resume {}", run.id)),
            });
        }
        let damaged = |error: toml::de::Error| Error::Plan { path: "stored sweep".into(), message: error.to_string() };
        let Written { study, axes, base } = toml::from_str(&run.plan.text).map_err(damaged)?;
        let axes: Vec<String> = axes.iter().map(|axis| format!("{}={}", axis.key, axis.values.join(","))).collect();
        let overlay = Overlay { file: Some((PathBuf::from("stored sweep"), base)), ..Overlay::default() };
        Self::new(&study, &overlay, &axes)
    }

    /// Cells of the grid.
    #[must_use]
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// Makes the run of the sweep itself.
    ///
    /// # Errors
    /// Those of the store.
    pub fn begin(&self, store: &Store, name: Option<String>) -> Result<RunId> {
        // Any cell's plan will do: the axes set again what makes it this cell.
        let base = self.cells.first().map(|cell| cell.plan.text.clone()).unwrap_or_default();
        let written = Written { study: self.study.clone(), axes: self.axes.clone(), base };
        let text = toml::to_string(&written).map_err(|e| Error::Internal(format!("sweep not writable: {e}")))?;
        let run = store.create_run(&NewRun {
            name: name.unwrap_or_else(|| format!("sweep of {}", self.study)),
            experiment: self.study.clone(),
            study: SWEEP.to_owned(),
            plan: PlanRecord::new(text),
            seed: self.cells.first().map_or(0, |cell| cell.plan.seed),
            device: String::new(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            versions: versions(),
        })?;
        let mut recording = Recording::new();
        recording.put_param(run.id, "study", &self.study)?;
        for axis in &self.axes {
            recording.put_param(run.id, &format!("grid.{}", axis.key), &axis.values.join(", "))?;
        }
        store.commit(&recording, Durability::Sync)?;
        Ok(run.id)
    }

    /// Does what is missing, one cell after the other by `each`, and says how far all cells are. What fails is left for another
    /// time, and the others are done; but what the user has to mend ends it, as does an interruption.
    ///
    /// # Errors
    /// `Input` and its like, of a cell; those of the store.
    pub fn go(&self, store: &Store, run: RunId, mut each: impl FnMut(Work<'_>) -> Result<Finished>) -> Result<Swept> {
        if store.run(run)?.status != Status::Running {
            store.resume_run(run)?;
        }
        let ended = self.go_through(store, run, &mut each);
        let swept = self.progress(store, run)?;
        let n_open = swept.cells.iter().filter(|cell| cell.status != Some(Status::Finished)).count();
        let (status, message) = match &ended {
            _ if n_open == 0 => (Status::Finished, String::new()),
            Ok(false) => (Status::Interrupted, "interrupted by the user".to_owned()),
            Ok(true) => (Status::Failed, format!("{n_open} of {} cells are missing", self.cells.len())),
            Err(error) => (Status::Failed, error.to_string()),
        };
        let record_digest = (status == Status::Finished).then(|| record(store, run, &swept)).transpose()?;
        store.end_run(run, &Ending { status, message, record_digest })?;
        ended?;
        Ok(Swept { status, ..swept })
    }

    /// Whether it went to the end.
    fn go_through(
        &self,
        store: &Store,
        run: RunId,
        each: &mut impl FnMut(Work<'_>) -> Result<Finished>,
    ) -> Result<bool> {
        let finished: BTreeSet<usize> = cells(store, run)?
            .into_iter()
            .filter_map(|(place, of)| (of.status == Status::Finished).then_some(place))
            .collect();
        for (place, cell) in self.cells.iter().enumerate().filter(|(place, _)| !finished.contains(place)) {
            // Another process may have it, or have had it since.
            let Some(_held) = Held::try_take(store, &format!("{run}-{place}"))? else { continue };
            let found = cells(store, run)?.into_iter().find(|(at, _)| *at == place).map(|(_, run)| run);
            let work = match found {
                Some(found) if found.status == Status::Finished => continue,
                Some(found) => Work::Resume(found.id),
                None => {
                    let set = self.axes.iter().zip(&cell.values).map(|(axis, value)| format!("{}={value}", axis.key));
                    let name = format!("{} {}", self.study, set.collect::<Vec<_>>().join(" "));
                    let tags = vec![(SWEEP.to_owned(), run.to_string()), (CELL.to_owned(), place.to_string())];
                    Work::New(&cell.plan, name, tags)
                }
            };
            match each(work) {
                Ok(finished) if finished.status == Status::Interrupted => return Ok(false),
                Err(error) if error.is_input() => return Err(error),
                // What the run says of itself is enough: cells that failed are told at the end.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(true)
    }

    /// How far the cells are.
    ///
    /// # Errors
    /// Those of the store.
    pub fn progress(&self, store: &Store, run: RunId) -> Result<Swept> {
        let status = store.run(run)?.status;
        let found = cells(store, run)?;
        let mut all = Vec::new();
        for (place, cell) in self.cells.iter().enumerate() {
            let of = found.iter().find(|(at, _)| *at == place).map(|(_, run)| run);
            let claims = match of {
                Some(of) => {
                    let claims = store.claims(of.id).map(|row| row.map(|(_, claim)| claim));
                    claims.collect::<std::result::Result<_, _>>()?
                }
                None => vec![],
            };
            let values = cell.values.clone();
            all.push(Progress { values, run: of.map(|run| run.id), status: of.map(|run| run.status), claims });
        }
        let keys = self.axes.iter().map(|axis| axis.key.clone()).collect();
        Ok(Swept { run, status, keys, cells: all })
    }
}

/// The runs of a sweep's cells, each with its place in the grid, newest first.
///
/// # Errors
/// Those of the store.
pub fn cells(store: &Store, sweep: RunId) -> Result<Vec<(usize, Run)>> {
    let question = Query::new(Table::Runs).filter(&of_sweep(sweep))?;
    let mut all = Vec::new();
    for row in store.query(&question)?.rows {
        let Some(run) = row.id.owner() else { continue };
        let place = store.tags(run)?.get(CELL).and_then(|place| place.parse().ok());
        all.extend(place.map(|place| Ok::<_, Error>((place, store.run(run)?))).transpose()?);
    }
    Ok(all)
}

/// The filter that matches a sweep's cells, and rows of these.
#[must_use]
pub fn of_sweep(sweep: RunId) -> String {
    format!("tags.{SWEEP} = '{sweep}'")
}

/// Edges from the sweep to its cells, in their order; returns the digest of all.
fn record(store: &Store, run: RunId, swept: &Swept) -> Result<Digest> {
    let mut recording = Recording::new();
    let mut digests = Vec::new();
    for (order, cell) in swept.cells.iter().enumerate() {
        let Some(of) = cell.run else { continue };
        recording.put_edge(run, &Edge::new(NodeId::run(run), Relation::Used, NodeId::run(of)).at(order as u32))?;
        digests.extend(store.run(of)?.record_digest.map(|digest| digest.to_string()));
    }
    store.commit(&recording, Durability::Sync)?;
    Ok(Digest::of(digests.join("\n").as_bytes()))
}

/// The plan of a cell.
fn plan(name: &str, overlay: &Overlay, axes: &[Axis], values: &[String]) -> Result<Plan> {
    let mut overlay = overlay.clone();
    for (axis, value) in axes.iter().zip(values) {
        if axis.key == SEED {
            let seed = value.parse().map_err(|_| Error::Value {
                key: SEED.into(),
                message: format!("expected a whole number of at least 0, got `{value}`"),
            })?;
            overlay.seed = Some(seed);
        } else {
            overlay.sets.push(format!("{}={value}", axis.key));
        }
    }
    study(name)?.resolve(&overlay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Preset;

    fn sweep(axes: &[&str]) -> Result<Sweep> {
        let overlay = Overlay { preset: Preset::Smoke, ..Overlay::default() };
        Sweep::new("random_features", &overlay, &axes.iter().map(|&axis| axis.to_owned()).collect::<Vec<_>>())
    }

    fn finished(store: &Store, run: RunId, status: Status) -> Finished {
        store.end_run(run, &Ending { status, message: String::new(), record_digest: None }).unwrap();
        Finished { run, status, claims: vec![], record_digest: None, elapsed_secs: 0.0 }
    }

    fn make(store: &Store, plan: &Plan, name: String, tags: &[(String, String)]) -> RunId {
        let run = store
            .create_run(&NewRun {
                name,
                experiment: plan.study.clone(),
                study: plan.study.clone(),
                plan: PlanRecord::new(plan.text.clone()),
                seed: plan.seed,
                device: "cpu".into(),
                host: String::new(),
                versions: std::collections::BTreeMap::new(),
            })
            .unwrap();
        let mut recording = Recording::new();
        for (key, value) in tags {
            recording.put_tag(run.id, key, value).unwrap();
        }
        store.commit(&recording, Durability::Sync).unwrap();
        run.id
    }

    #[test]
    fn a_grid_is_every_combination_and_commas_in_brackets_are_the_values_own() {
        let sweep = sweep(&["solve.ridge=0,0.5", "data.sizes=[[8,20]],[[8,20],[16,40]]", "seed=3,4,5"]).unwrap();
        assert_eq!(sweep.n_cells(), 12);
        assert_eq!(sweep.cells[0].values, ["0", "[[8,20]]", "3"]);
        assert_eq!(sweep.cells[11].values, ["0.5", "[[8,20],[16,40]]", "5"]);
        assert!(sweep.cells[11].plan.text.contains("ridge = 0.5") && sweep.cells[11].plan.seed == 5);
        let quoted = Axis::parse(r#"data.note="a, b",'c]',d"#).unwrap();
        assert_eq!(quoted.values, [r#""a, b""#, "'c]'", "d"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_there_is_a_run() {
        for (axes, said) in [
            (vec!["solve.ridge"], "no `=`"),
            (vec!["solve.ridge=0,,1"], "place 2"),
            (vec!["solve.ridge=0,0"], "differ"),
            (vec!["solve.ridge=0", "solve.ridge=1"], "differ"),
            (vec!["solve.ridge=0,0.0"], "the same plan"),
            (vec!["solve.rigde=0,1"], "solve.ridge"),
            (vec!["solve.ridge=0,-1"], "at least 0"),
            (vec!["seed=a"], "whole number"),
        ] {
            let error = sweep(&axes).unwrap_err();
            let all = format!("{error} {:?}", error.hint());
            assert!(error.is_input() && all.contains(said), "{axes:?}: {all}");
        }
        let many = (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let too_many = sweep(&[&format!("seed={many}"), &format!("solve.ridge={many}")]).unwrap_err();
        assert!(too_many.to_string().contains("10000 cells"), "{too_many}");
    }

    #[test]
    fn missing_cells_alone_are_done_and_a_stored_sweep_is_the_same_sweep() {
        let store = Store::memory().unwrap();
        let sweep = sweep(&["solve.ridge=0,1", "seed=1,2"]).unwrap();
        let run = sweep.begin(&store, None).unwrap();
        let mut n_calls = 0;
        // The second cell fails, the third is interrupted.
        let swept = sweep.go(&store, run, |work| {
            n_calls += 1;
            let Work::New(plan, name, tags) = work else { panic!("{work:?}") };
            let id = make(&store, plan, name, &tags);
            let status = [Status::Finished, Status::Failed, Status::Interrupted][n_calls - 1];
            let finished = finished(&store, id, status);
            if status == Status::Failed { Err(Error::Internal("no power".into())) } else { Ok(finished) }
        });
        let swept = swept.unwrap();
        let states: Vec<Option<Status>> = swept.cells.iter().map(|cell| cell.status).collect();
        assert_eq!(states, [Some(Status::Finished), Some(Status::Failed), Some(Status::Interrupted), None]);
        assert_eq!((swept.status, store.run(run).unwrap().status), (Status::Interrupted, Status::Interrupted));

        let again = Sweep::stored(&store, run).unwrap();
        let plans = |sweep: &Sweep| sweep.cells.iter().map(|cell| cell.plan.text.clone()).collect::<Vec<_>>();
        assert_eq!(plans(&again), plans(&sweep));
        let mut works = Vec::new();
        let swept = again.go(&store, run, |work| {
            works.push(format!("{work:?}"));
            let id = match work {
                Work::New(plan, name, tags) => make(&store, plan, name, &tags),
                Work::Resume(run) => run,
            };
            Ok(finished(&store, id, Status::Finished))
        });
        assert_eq!(swept.unwrap().status, Status::Finished);
        assert_eq!(works.iter().map(|work| work.starts_with("Resume")).collect::<Vec<_>>(), [true, true, false]);
        // Nothing is left to do.
        again.go(&store, run, |work| panic!("{work:?}")).unwrap();
        assert!(store.run(run).unwrap().record_digest.is_some());
        assert_eq!(cells(&store, run).unwrap().len(), 4);
    }

    #[test]
    fn what_the_user_has_to_mend_ends_a_sweep_and_other_runs_are_no_sweeps() {
        let store = Store::memory().unwrap();
        let sweep = sweep(&["seed=1,2"]).unwrap();
        let run = sweep.begin(&store, Some("twice".into())).unwrap();
        let mut n_calls = 0;
        let ended = sweep.go(&store, run, |_| {
            n_calls += 1;
            Err(Error::Input { what: "no such folder".into(), hint: None })
        });
        assert!(ended.unwrap_err().to_string().contains("no such folder") && n_calls == 1);
        assert_eq!(store.run(run).unwrap().status, Status::Failed);
        let other = make(&store, &sweep.cells[0].plan, String::new(), &[]);
        assert!(Sweep::stored(&store, other).unwrap_err().to_string().contains("not a sweep"));
    }
}
