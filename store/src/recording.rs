//! What is to be written together: facts staged by writers, before any of them is looked up or laid out.
//!
//! A recording knows nothing of what the store holds. Workers fill their own, the recorder merges them and
//! [commits](crate::Store::commit) the sum.

use std::collections::{BTreeMap, BTreeSet};

use crate::artifact::Known;
use crate::error::{Error, Result};
use crate::id::{Kind, NodeId, RowKey, RunId, StageId};
use crate::keys;
use crate::model::{
    Checkpoint, Claim, Content, Edge, Figure, Recipe, Relation, Reward, Sample, Selection, Stage, Verdict,
};
use crate::records::Stored;
use crate::series::Point;
use crate::transfer::check_tag;

/// An edge up that a record says by itself, with what it sorts by among its relation's.
pub(crate) type Up = (Relation, u8, NodeId);

/// A row's value, and the edges it says.
pub(crate) trait RowValue: Stored {
    /// The edges its fields say, but those its own name says.
    fn row_ups(&self) -> [Option<Up>; 2] {
        [None, None]
    }
}

impl RowValue for Figure {}

impl RowValue for Claim {}

impl RowValue for Sample {
    fn row_ups(&self) -> [Option<Up>; 2] {
        [Some((Relation::Answers, 0, self.subject)), Some((Relation::WrittenBy, 0, self.policy))]
    }
}

impl RowValue for Verdict {
    fn row_ups(&self) -> [Option<Up>; 2] {
        let verifier = NodeId::content_of(Kind::Verifier, self.verifier);
        [Some((Relation::VerifiedBy, self.outcome.number(), verifier)), None]
    }
}

impl RowValue for Reward {
    fn row_ups(&self) -> [Option<Up>; 2] {
        [Some((Relation::ScoredBy, 0, self.scorer)), None]
    }
}

impl RowValue for Selection {
    fn row_ups(&self) -> [Option<Up>; 2] {
        let winner = self.winner().map(|winner| (Relation::DerivedFrom, 0, winner));
        [winner, self.scorer.map(|scorer| (Relation::ScoredBy, 0, scorer))]
    }
}

/// A row, encoded.
#[derive(Clone, Debug)]
pub(crate) struct StagedRow {
    pub(crate) node: NodeId,
    pub(crate) record: Vec<u8>,
    /// The edges its fields say, but those its own name says.
    pub(crate) ups: [Option<Up>; 2],
}

/// A content, encoded.
#[derive(Clone, Debug)]
pub(crate) struct StagedContent {
    pub(crate) record: Vec<u8>,
    pub(crate) ups: Vec<(Relation, NodeId)>,
    pub(crate) runs: BTreeSet<RunId>,
}

/// Facts to be written together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub(crate) rows: Vec<StagedRow>,
    pub(crate) contents: BTreeMap<NodeId, StagedContent>,
    pub(crate) edges: Vec<(RunId, Edge)>,
    pub(crate) stages: BTreeMap<(RunId, StageId), Stage>,
    pub(crate) params: BTreeMap<(RunId, String), String>,
    pub(crate) tags: BTreeMap<(RunId, String), String>,
    pub(crate) points: BTreeMap<(RunId, String), Vec<Point>>,
    pub(crate) known: Vec<Known>,
    /// Contents of which something was recorded, and which are not there themselves.
    pub(crate) bare: Vec<(RunId, NodeId)>,
    /// Entries that nothing follows from, by key.
    pub(crate) entries: BTreeMap<Vec<u8>, Vec<u8>>,
    n_bytes: usize,
}

impl Recording {
    /// An empty recording.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is staged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_bytes == 0
    }

    /// About how many bytes it will write. Commit by some MiB at a time; a commit takes at most 64 MiB.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Declares a stage of a run. Rows stand in declared stages only.
    ///
    /// # Errors
    /// `Invalid` if the name cannot be one; `Conflict` if another stage with the same id or ordinal is staged.
    pub fn put_stage(&mut self, run: RunId, stage: &Stage) -> Result<StageId> {
        keys::check_text("stage name", &stage.name)?;
        let id = stage.id();
        if let Some(staged) = self.stages.get(&(run, id)).filter(|staged| *staged != stage) {
            return Err(stage_conflict(staged, stage));
        }
        self.stages.insert((run, id), stage.clone());
        self.n_bytes += 64 + stage.name.len();
        Ok(id)
    }

    /// Sets a param of a run; it can never be changed.
    ///
    /// # Errors
    /// `Invalid` if the key cannot be one; `Conflict` if another value is staged.
    pub fn put_param(&mut self, run: RunId, key: &str, value: &str) -> Result<()> {
        keys::check_text("param key", key)?;
        match self.params.get(&(run, key.to_owned())) {
            Some(staged) if staged == value => {}
            Some(staged) => return Err(Error::conflict("param", key, staged, value)),
            None => {
                self.params.insert((run, key.to_owned()), value.to_owned());
                self.n_bytes += 96 + 2 * (key.len() + value.len());
            }
        }
        Ok(())
    }

    /// Sets a tag of a run, whatever it was before.
    ///
    /// # Errors
    /// `Invalid` if the key cannot be one.
    pub fn put_tag(&mut self, run: RunId, key: &str, value: &str) -> Result<()> {
        check_tag(key)?;
        self.tags.insert((run, key.to_owned()), value.to_owned());
        self.n_bytes += 32 + key.len() + value.len();
        Ok(())
    }

    /// Records a content, and that `run` recorded it. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if its fields do not agree, or one cannot be encoded.
    pub fn put<C: Content>(&mut self, run: RunId, content: &C) -> Result<NodeId> {
        content.check()?;
        let node = content.node()?;
        let record = content.encode()?;
        self.put_encoded(run, node, record, content.ups());
        Ok(node)
    }

    /// Records a checkpoint that is the merge `recipe` says, with the recipe and the edge between them. `checkpoint.manifest`
    /// is not read: the recipe's digest takes its place. Returns the checkpoint's node.
    ///
    /// What its files are, once they were written or their digest computed, is an edge `generated_by` from the artifact to
    /// the checkpoint; [`Store::weights`](crate::Store::weights) reads it.
    ///
    /// # Errors
    /// As [`Recording::put`].
    pub fn put_virtual(&mut self, run: RunId, checkpoint: &Checkpoint, recipe: &Recipe) -> Result<NodeId> {
        let from = self.put(run, recipe)?;
        let node = self.put(run, &Checkpoint { manifest: recipe.digest()?, ..checkpoint.clone() })?;
        self.put_edge(run, &Edge::new(node, Relation::DerivedFrom, from))?;
        Ok(node)
    }

    pub(crate) fn put_encoded(&mut self, run: RunId, node: NodeId, record: Vec<u8>, ups: Vec<(Relation, NodeId)>) {
        self.n_bytes += 160 + record.len() + 96 * ups.len();
        let staged = self.contents.entry(node).or_insert_with(|| StagedContent { record, ups, runs: BTreeSet::new() });
        staged.runs.insert(run);
    }

    /// Stages a content that no run is said to have recorded.
    pub(crate) fn put_unrecorded(&mut self, node: NodeId, record: Vec<u8>, ups: Vec<(Relation, NodeId)>) {
        self.n_bytes += 80 + record.len();
        self.contents.entry(node).or_insert_with(|| StagedContent { record, ups, runs: BTreeSet::new() });
    }

    /// Stages that `run` recorded a content, if that is staged.
    pub(crate) fn record_content(&mut self, run: RunId, node: &NodeId) -> bool {
        let Some(content) = self.contents.get_mut(node) else { return false };
        content.runs.insert(run);
        self.n_bytes += 80 + 96 * content.ups.len();
        true
    }

    /// Stages that `run` recorded something of a content that is not there itself, such as an edge from it.
    pub(crate) fn put_bare(&mut self, run: RunId, node: NodeId) {
        self.n_bytes += 80;
        self.bare.push((run, node));
    }

    /// Records a sample at `row`. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if it answers something that cannot be answered.
    pub fn put_sample(&mut self, row: RowKey, sample: &Sample) -> Result<NodeId> {
        if !matches!(sample.subject.kind(), Kind::Statement | Kind::Problem) {
            return Err(Error::invalid("the subject of a sample", "a statement or a problem", sample.subject));
        }
        self.put_row(NodeId::sample(row), sample, sample.row_ups())
    }

    /// Records a verdict on the sample at `row`. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    pub fn put_verdict(&mut self, row: RowKey, verdict: &Verdict) -> Result<NodeId> {
        self.put_row(NodeId::verdict(row, verdict.slot()), verdict, verdict.row_ups())
    }

    /// Records a reward of the sample at `row`. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if there is no value, one is not finite, or tallies do not match values.
    pub fn put_reward(&mut self, row: RowKey, reward: &Reward) -> Result<NodeId> {
        if reward.values.is_empty() || reward.values.iter().any(|value| !value.is_finite()) {
            return Err(Error::invalid(
                "the values of a reward",
                "at least one, all finite",
                format!("{:?}", reward.values),
            ));
        }
        if !reward.tallies.is_empty() && reward.tallies.len() != reward.values.len() {
            let expected = format!("as many as values (`{}`), or none", reward.values.len());
            return Err(Error::invalid("the tallies of a reward", expected, reward.tallies.len()));
        }
        self.put_row(NodeId::reward(row, reward.slot()), reward, reward.row_ups())
    }

    /// Records a figure at `row`; figures of a stage are listed by item, then k. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    pub fn put_figure(&mut self, row: RowKey, figure: &Figure) -> Result<NodeId> {
        self.put_row(NodeId::figure(row), figure, figure.row_ups())
    }

    /// Records a claim at `row`; claims of a stage are listed by item, then k. Returns its node.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    pub fn put_claim(&mut self, row: RowKey, claim: &Claim) -> Result<NodeId> {
        self.put_row(NodeId::claim(row), claim, claim.row_ups())
    }

    /// Records a selection at `row`; selections of a stage are listed by item, then k. Returns its node.
    ///
    /// Its lineage is the chosen sample and the scorer; the candidates it was chosen from are in its record.
    ///
    /// # Errors
    /// `Invalid` if there is no rule, candidates are no samples or not each there once, nothing of them is chosen, or the scores
    /// are not one finite number a candidate.
    pub fn put_selection(&mut self, row: RowKey, selection: &Selection) -> Result<NodeId> {
        selection.check()?;
        self.put_row(NodeId::selection(row), selection, selection.row_ups())
    }

    /// Adds points to a series of a run. Points that are there already change nothing.
    ///
    /// # Errors
    /// `Invalid` if the key cannot be one.
    pub fn put_points(&mut self, run: RunId, key: &str, points: &[Point]) -> Result<()> {
        keys::check_text("metric key", key)?;
        if points.is_empty() {
            return Ok(());
        }
        self.points.entry((run, key.to_owned())).or_default().extend_from_slice(points);
        self.n_bytes += 128 + 24 * points.len();
        Ok(())
    }

    /// Records an edge that the fields of its nodes do not say, and that `run` recorded it.
    ///
    /// # Errors
    /// `Invalid` if it goes from a node to itself, or from a row of another run.
    pub fn put_edge(&mut self, run: RunId, edge: &Edge) -> Result<()> {
        if edge.from == edge.to {
            return Err(Error::invalid("an edge", "between two nodes", edge.from));
        }
        if edge.from.owner().is_some_and(|owner| owner != run) {
            return Err(Error::invalid(
                "the dependent node of an edge",
                format!("a content, or of run `{run}`"),
                edge.from,
            ));
        }
        self.n_bytes += 220 + 2 * edge.block.len();
        self.edges.push((run, edge.clone()));
        Ok(())
    }

    /// Notes what weights a holder has, whatever was noted of it before.
    pub fn put_known(&mut self, known: Known) {
        self.known.push(known);
        self.n_bytes += 97;
    }

    /// Stages an entry that nothing follows from.
    pub(crate) fn put_entry(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.n_bytes += 16 + key.len() + value.len();
        self.entries.insert(key, value);
    }

    /// Adds everything staged in `other`.
    ///
    /// # Errors
    /// `Conflict` if both stage different values of one param or stage; `self` then has part of `other`.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for ((run, _), stage) in &other.stages {
            self.put_stage(*run, stage)?;
        }
        for ((run, key), value) in &other.params {
            self.put_param(*run, key, value)?;
        }
        self.tags.extend(other.tags);
        for (series, points) in other.points {
            self.points.entry(series).or_default().extend(points);
        }
        self.rows.extend(other.rows);
        self.edges.extend(other.edges);
        self.known.extend(other.known);
        self.bare.extend(other.bare);
        self.entries.extend(other.entries);
        for (node, content) in other.contents {
            match self.contents.entry(node) {
                std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(content)),
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().runs.extend(content.runs),
            }
        }
        self.n_bytes += other.n_bytes;
        Ok(())
    }

    fn put_row<T: Stored>(&mut self, node: NodeId, value: &T, ups: [Option<Up>; 2]) -> Result<NodeId> {
        let record = value.encode()?;
        self.n_bytes += 40 + record.len() + 72 * ups.iter().flatten().count();
        self.rows.push(StagedRow { node, record, ups });
        Ok(node)
    }
}

pub(crate) fn stage_conflict(recorded: &Stage, got: &Stage) -> Error {
    let say = |stage: &Stage| format!("{} ({})", stage.name, stage.ordinal);
    Error::conflict("stage", got.id(), &say(recorded), &say(got))
}
