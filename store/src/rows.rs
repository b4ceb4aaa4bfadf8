//! Reading what was recorded: rows by stage, contents by digest.

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, RowKey, RunId, Slot, StageId};
use crate::keys;
use crate::model::{Claim, Content, Figure, Relation, Reward, Sample, Selection, Verdict};
use crate::reader::Entries;
use crate::records::Stored;
use crate::store::Store;

/// Values of one kind with their nodes, in stored order, read as they are asked for.
pub struct Rows<T> {
    entries: Entries,
    value: PhantomData<fn() -> T>,
}

impl<T: Stored> Iterator for Rows<T> {
    type Item = Result<(NodeId, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(entry.and_then(|(key, record)| Ok((keys::node_at(&key)?, T::decode(&key, &record)?))))
    }
}

impl Store {
    /// Whether anything is recorded under this node.
    ///
    /// # Errors
    /// The engine's.
    pub fn has(&self, node: &NodeId) -> Result<bool> {
        Ok(self.get(&keys::node(node))?.is_some())
    }

    /// The content of this kind with this digest.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn content<C: Content>(&self, digest: Digest) -> Result<C> {
        let node = NodeId::content_of(C::KIND, digest);
        self.get_value(&keys::node(&node))?.ok_or_else(|| Error::missing(C::KIND.name(), digest))
    }

    /// Every content of a kind, by digest.
    #[must_use]
    pub fn contents<C: Content>(&self) -> Rows<C> {
        self.rows_at(&keys::nodes(C::KIND))
    }

    /// The contents of a kind that `run` recorded, by digest.
    ///
    /// # Errors
    /// The engine's; `Corrupt` if one is not there.
    pub fn contents_of<C: Content>(&self, run: RunId) -> Result<Vec<(NodeId, C)>> {
        let nodes = self.entries(&keys::recorded_kind(run, C::KIND));
        nodes
            .map(|entry| {
                let (key, _) = entry?;
                let node = keys::recorded_at(&key)?;
                let value = self.get_value(&keys::node(&node))?;
                Ok((node, value.ok_or_else(|| Error::corrupt(&key, "the content it names is not there"))?))
            })
            .collect()
    }

    /// The sample at `row`, if it is recorded.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn sample(&self, row: RowKey) -> Result<Option<Sample>> {
        self.get_value(&keys::node(&NodeId::sample(row)))
    }

    /// The sample a reward is about: the one at its place, or that of the reward it was computed from.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn sample_of(&self, reward: NodeId) -> Result<Option<(NodeId, Sample)>> {
        /// What was computed from what was computed is looked through this deep.
        const DEPTH: usize = 16;
        let mut at = reward;
        for _ in 0..DEPTH {
            let Some(row) = at.row() else { break };
            if let Some(sample) = self.sample(row)? {
                return Ok(Some((NodeId::sample(row), sample)));
            }
            let mut from = None;
            for entry in self.entries(&keys::edges_up(&at)) {
                let (_, relation, _, to) = keys::edge_up_at(&at, &entry?.0)?;
                if relation == Relation::DerivedFrom && to.kind() == Kind::Reward {
                    from = Some(to);
                    break;
                }
            }
            let Some(from) = from else { break };
            at = from;
        }
        Ok(None)
    }

    /// The verdict of a verifier on the sample at `row`, if it is recorded.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn verdict(&self, row: RowKey, verifier: &Digest) -> Result<Option<Verdict>> {
        self.get_value(&keys::node(&NodeId::verdict(row, Slot::of(verifier))))
    }

    /// The samples of a run, or of one of its stages: by stage id, item, k.
    #[must_use]
    pub fn samples(&self, run: RunId, stage: Option<StageId>) -> Rows<Sample> {
        self.rows_of(Kind::Sample, run, stage)
    }

    /// The verdicts of a run, or of one of its stages: by stage id, item, k, slot.
    #[must_use]
    pub fn verdicts(&self, run: RunId, stage: Option<StageId>) -> Rows<Verdict> {
        self.rows_of(Kind::Verdict, run, stage)
    }

    /// The verdicts on the sample at `row`.
    #[must_use]
    pub fn verdicts_on(&self, row: RowKey) -> Rows<Verdict> {
        self.rows_at(&keys::place_rows(Kind::Verdict, &row))
    }

    /// The rewards of a run, or of one of its stages: by stage id, item, k, slot.
    #[must_use]
    pub fn rewards(&self, run: RunId, stage: Option<StageId>) -> Rows<Reward> {
        self.rows_of(Kind::Reward, run, stage)
    }

    /// The rewards of the sample at `row`.
    #[must_use]
    pub fn rewards_on(&self, row: RowKey) -> Rows<Reward> {
        self.rows_at(&keys::place_rows(Kind::Reward, &row))
    }

    /// The figures of a run, or of one of its stages: by stage id, item, k.
    #[must_use]
    pub fn figures(&self, run: RunId, stage: Option<StageId>) -> Rows<Figure> {
        self.rows_of(Kind::Figure, run, stage)
    }

    /// The selections of a run, or of one of its stages: by stage id, item, k.
    #[must_use]
    pub fn selections(&self, run: RunId, stage: Option<StageId>) -> Rows<Selection> {
        self.rows_of(Kind::Selection, run, stage)
    }

    /// The claims of a run: by stage id, item, k.
    #[must_use]
    pub fn claims(&self, run: RunId) -> Rows<Claim> {
        self.rows_of(Kind::Claim, run, None)
    }

    pub(crate) fn rows_of<T: Stored>(&self, kind: Kind, run: RunId, stage: Option<StageId>) -> Rows<T> {
        match stage {
            Some(stage) => self.rows_at(&keys::stage_rows(kind, run, stage)),
            None => self.rows_at(&keys::rows(kind, run)),
        }
    }

    fn rows_at<T: Stored>(&self, prefix: &[u8]) -> Rows<T> {
        Rows { entries: self.entries(prefix), value: PhantomData }
    }
}
