//! Labels of steps made anew from stored counts: no completion is drawn again.
//!
//! The new labels are a run of their own, whose rewards stand where the old ones stand in theirs and are derived from them;
//! the old run stays as it is. Invariant: equal requests of one run make runs of equal record digests.

use std::collections::BTreeMap;

use serde::Serialize;
use tracker_store::{
    Digest, Durability, Edge, Ending, Figure, NewRun, NodeId, Plan, Program, Recording, Relation, Reward, RowKey,
    RunId, Stage, StageId, Status, Store, Toward, Walk,
};

use crate::error::{Error, Result};
use crate::parts::best_of::{Aggregator, first_greatest, select};
use crate::parts::labels::{Definition, Estimator, Table};

/// The stage what changed is recorded in.
const STAGE: &str = "relabel";
/// Recordings are committed by about this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Labels to make.
#[derive(Clone, Debug)]
pub struct Relabel {
    /// The run whose counts are used.
    pub run: RunId,
    /// What the labels are to be.
    pub estimator: Estimator,
    /// Which label set of the run, by its estimator or the node of its definition, if there are several.
    pub from: Option<String>,
    /// Whether nothing is to be recorded.
    pub dry_run: bool,
}

/// What changed.
#[derive(Clone, Debug, Serialize)]
pub struct Relabelled {
    /// The run of the new labels; none if nothing was to be recorded.
    pub run: Option<RunId>,
    /// The run whose counts were used.
    pub of: RunId,
    /// The estimator of the old labels.
    pub from: String,
    /// The estimator of the new ones.
    pub to: String,
    /// The definition of the new labels.
    pub definition: NodeId,
    /// Trajectories.
    pub n_trajectories: u64,
    /// What changed in labels.
    pub labels: Change,
    /// Old labels that are not what their own definition makes of their counts.
    pub n_inexact: u64,
    /// What changed in winners, by aggregator.
    pub winners: Vec<Winners>,
}

/// Labels before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// Labels.
    pub n: u64,
    /// Those that are not what they were.
    pub n_changed: u64,
    /// The mean of new less old, over all.
    pub mean: f64,
    /// The greatest difference, without sign.
    pub greatest: f64,
}

/// Winners of best-of-n by labels alone, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Winners {
    /// How labels of steps become a score.
    pub aggregator: Aggregator,
    /// Prompts with at least two trajectories.
    pub n_prompts: u64,
    /// Those won by another.
    pub n_changed: u64,
}

/// One trajectory's labels.
struct Labelled {
    node: NodeId,
    row: RowKey,
    old: Reward,
    new: Vec<f64>,
}

impl Relabel {
    /// Makes the labels, records them as a run with edges to the old ones, and says what changed. Candidates of a prompt are the
    /// trajectories of one stage and item.
    ///
    /// # Errors
    /// `Input` if the run has no step labels, several and none is named, or labels without counts; `Value` for an estimator
    /// that labels no steps; those of the store.
    pub fn run(&self, store: &Store) -> Result<Relabelled> {
        if self.estimator == Estimator::Outcome {
            let message = "expected hard, soft or er, which label steps, got orm".into();
            return Err(Error::Value { key: "estimator".into(), message });
        }
        let (scorer, old) = self.source(store)?;
        if old.estimator == self.estimator {
            return Err(Error::Input { what: format!("the labels are {} already", self.estimator), hint: None });
        }
        let new = old.under(self.estimator);
        let mut work = Work::new(store, self, scorer, &old, &new)?;
        let done = work.all();
        match (&done, work.run) {
            (Ok(()), Some(run)) => {
                let record_digest = Some(store.record_digest(run)?);
                store.end_run(run, &Ending { status: Status::Finished, message: String::new(), record_digest })?;
            }
            (Err(error), Some(run)) => {
                let message = error.to_string();
                store.end_run(run, &Ending { status: Status::Failed, message, record_digest: None })?;
            }
            (_, None) => {}
        }
        done.map(|()| work.told)
    }

    /// The definition of the labels to start from.
    fn source(&self, store: &Store) -> Result<(NodeId, Definition)> {
        let mut found = Vec::new();
        for (node, program) in store.contents_of::<Program>(self.run)? {
            if let Some(definition) = Definition::of(&program)?
                && definition.estimator != Estimator::Outcome
            {
                found.push((node, definition));
            }
        }
        let all: Vec<String> = found.iter().map(|(node, labels)| format!("{} ({node})", labels.estimator)).collect();
        if let Some(from) = &self.from {
            let estimator: Option<Estimator> = from.parse().ok();
            let node = if estimator.is_none() { Some(store.resolve(from)?) } else { None };
            found.retain(|(at, labels)| Some(labels.estimator) == estimator || Some(*at) == node);
        }
        let which = self.from.as_ref().map_or(String::new(), |from| format!(" called `{from}`"));
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(Error::Input {
                what: format!("run {} has no step labels{which}", self.run),
                hint: (!all.is_empty()).then(|| format!("it has {}", all.join(", "))),
            }),
            n => Err(Error::Input {
                what: format!("run {} has {n} sets of step labels{which}", self.run),
                hint: Some(format!("say `--from` which to compare with: {}", all.join(", "))),
            }),
        }
    }
}

/// Labels on their way from one run to the other.
struct Work<'a> {
    store: &'a Store,
    source: RunId,
    scorer: NodeId,
    run: Option<RunId>,
    stages: BTreeMap<StageId, Stage>,
    old: Table,
    new: Table,
    recording: Recording,
    told: Relabelled,
    sum: f64,
}

impl<'a> Work<'a> {
    fn new(store: &'a Store, ask: &Relabel, scorer: NodeId, old: &Definition, new: &Definition) -> Result<Self> {
        let source = store.run(ask.run)?;
        let stages: BTreeMap<StageId, Stage> =
            store.stages(ask.run)?.into_iter().map(|stage| (stage.id(), stage)).collect();
        let mut recording = Recording::new();
        let run = if ask.dry_run { None } else { Some(begin(store, &source, ask, scorer)?) };
        let program = new.program();
        let definition = match run {
            Some(run) => {
                recording.put_edge(run, &Edge::new(NodeId::run(run), Relation::Used, scorer))?;
                let node = recording.put(run, &program)?;
                // The grader and whatever else the old definition rests on.
                let near = store.walk(scorer, &Walk { depth: 1, ..Walk::new(Toward::Ancestors) })?;
                for edge in near.edges.iter().filter(|edge| edge.relation == Relation::Used && edge.to != node) {
                    recording.put_edge(run, &Edge::new(node, Relation::Used, edge.to).at(edge.order))?;
                }
                node
            }
            None => tracker_store::Content::node(&program)?,
        };
        let winners = Aggregator::ALL.map(|aggregator| Winners { aggregator, n_prompts: 0, n_changed: 0 });
        let told = Relabelled {
            run,
            of: ask.run,
            from: old.estimator.to_string(),
            to: new.estimator.to_string(),
            definition,
            n_trajectories: 0,
            labels: Change::default(),
            n_inexact: 0,
            winners: winners.to_vec(),
        };
        let (old, new) = (Table::new(old.estimator), Table::new(new.estimator));
        Ok(Self { store, source: ask.run, scorer, run, stages, old, new, recording, told, sum: 0.0 })
    }

    fn all(&mut self) -> Result<()> {
        let mut group: Vec<Labelled> = Vec::new();
        for reward in self.store.rewards(self.source, None) {
            let (node, reward) = reward?;
            let Some(row) = node.row() else { continue };
            if reward.scorer != self.scorer || reward.kind != Definition::KIND {
                continue;
            }
            if group.first().is_some_and(|first| (first.row.stage, first.row.item) != (row.stage, row.item)) {
                self.prompt(&group)?;
                group.clear();
            }
            group.push(self.labelled(node, row, reward)?);
        }
        if !group.is_empty() {
            self.prompt(&group)?;
        }
        if self.told.n_trajectories == 0 {
            return Err(Error::Input {
                what: format!("run {} defines step labels and has none", self.source),
                hint: None,
            });
        }
        self.told.labels.mean = self.sum / self.told.labels.n as f64;
        self.figures()?;
        self.commit()
    }

    /// Labels a trajectory anew.
    fn labelled(&mut self, node: NodeId, row: RowKey, old: Reward) -> Result<Labelled> {
        if old.tallies.is_empty() {
            return Err(Error::Input {
                what: format!("{node} has labels without the counts behind them"),
                hint: Some("record `tallies` with labels; without them completions must be drawn again".into()),
            });
        }
        let mut new = Vec::with_capacity(old.values.len());
        for (value, tally) in old.values.iter().zip(&old.tallies) {
            let label = self.new.label(*tally)?;
            let change = label - value;
            let labels = &mut self.told.labels;
            labels.n += 1;
            labels.n_changed += u64::from(change != 0.0);
            labels.greatest = labels.greatest.max(change.abs());
            self.sum += change;
            self.told.n_inexact += u64::from(self.old.label(*tally)? != *value);
            new.push(label);
        }
        self.told.n_trajectories += 1;
        Ok(Labelled { node, row, old, new })
    }

    /// The trajectories of one prompt: who wins, and the record of it.
    fn prompt(&mut self, group: &[Labelled]) -> Result<()> {
        for at in 0..self.told.winners.len() {
            if group.len() < 2 {
                break;
            }
            let aggregator = self.told.winners[at].aggregator;
            let scores =
                |labels: &dyn Fn(&Labelled) -> Result<f64>| group.iter().map(labels).collect::<Result<Vec<f64>>>();
            let before = scores(&|labelled| aggregator.score(&labelled.old.values))?;
            let after = scores(&|labelled| aggregator.score(&labelled.new))?;
            self.told.winners[at].n_prompts += 1;
            if first_greatest(&before)? != first_greatest(&after)? {
                self.told.winners[at].n_changed += 1;
                self.record_winner(group, after, aggregator, at as u32)?;
            }
        }
        let Some(run) = self.run else { return Ok(()) };
        for labelled in group {
            let row = RowKey { run, ..labelled.row };
            self.declare(row.stage)?;
            let reward = Reward {
                scorer: self.told.definition,
                kind: labelled.old.kind.clone(),
                values: labelled.new.clone(),
                tallies: labelled.old.tallies.clone(),
            };
            let node = self.recording.put_reward(row, &reward)?;
            self.recording.put_edge(run, &Edge::new(node, Relation::DerivedFrom, labelled.node))?;
        }
        if self.recording.n_bytes() > BATCH_BYTES { self.commit() } else { Ok(()) }
    }

    /// Records whom a prompt is won by now, if the trajectories were recorded.
    fn record_winner(&mut self, group: &[Labelled], scores: Vec<f64>, aggregator: Aggregator, k: u32) -> Result<()> {
        let (Some(run), Some(first)) = (self.run, group.first()) else { return Ok(()) };
        let mut candidates = Vec::with_capacity(group.len());
        for labelled in group {
            let Some((sample, _)) = self.store.sample_of(labelled.node)? else { return Ok(()) };
            candidates.push(sample);
        }
        let rule = format!("best of {} by {aggregator} of {}", group.len(), self.told.to);
        let selection = select(candidates, scores, rule, Some(self.told.definition))?;
        self.declare(first.row.stage)?;
        self.recording.put_selection(RowKey { run, k, ..first.row }, &selection)?;
        Ok(())
    }

    fn declare(&mut self, stage: StageId) -> Result<()> {
        if let (Some(run), Some(stage)) = (self.run, self.stages.get(&stage)) {
            self.recording.put_stage(run, stage)?;
        }
        Ok(())
    }

    /// Records what changed as figures.
    fn figures(&mut self) -> Result<()> {
        let Some(run) = self.run else { return Ok(()) };
        let ordinal = self.stages.values().map(|stage| stage.ordinal + 1).max().unwrap_or(0);
        self.recording.put_stage(run, &Stage { name: STAGE.into(), ordinal })?;
        let share = |n_changed: u64, n: u64| if n == 0 { 0.0 } else { n_changed as f64 / n as f64 };
        let labels = self.told.labels;
        let winners = self
            .told
            .winners
            .iter()
            .map(|w| (format!("winners changed by {}", w.aggregator), w.n_changed, w.n_prompts));
        let all = std::iter::once(("labels changed".to_owned(), labels.n_changed, labels.n)).chain(winners);
        for (item, (name, n_changed, n)) in (0..).zip(all.collect::<Vec<_>>()) {
            let value = share(n_changed, n);
            let figure = Figure { name, value, low: None, high: None, n, unit: String::new(), split: STAGE.into() };
            let node = self.recording.put_figure(RowKey::new(run, STAGE, item, 0), &figure)?;
            for (order, used) in [self.scorer, self.told.definition].into_iter().enumerate() {
                self.recording.put_edge(run, &Edge::new(node, Relation::Used, used).at(order as u32))?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.run.is_some() {
            self.store.commit(&std::mem::take(&mut self.recording), Durability::Sync)?;
        }
        Ok(())
    }
}

/// Makes the run of the new labels.
fn begin(store: &Store, source: &tracker_store::Run, ask: &Relabel, scorer: NodeId) -> Result<RunId> {
    // The id of the run is not in the plan: equal labels of equal records are one plan.
    let records = source.record_digest.map_or_else(|| "not finished".to_owned(), |digest: Digest| digest.to_string());
    let plan = format!(
        "# labels of steps made anew from stored counts\nestimator = \"{}\"\nfrom = \"{scorer}\"\nrecords = \"{records}\"\n",
        ask.estimator
    );
    let new = NewRun {
        name: format!("{} as {}", if source.name.is_empty() { "labels" } else { &source.name }, ask.estimator),
        experiment: store.experiment_by_id(source.experiment)?.name,
        study: String::new(),
        plan: Plan::new(plan),
        seed: source.seed,
        device: "cpu".into(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        versions: BTreeMap::from([("tracker".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
    };
    Ok(store.create_run(&new)?.id)
}

#[cfg(test)]
#[path = "relabel_test.rs"]
mod tests;
