//! Any thing with a lineage: its kind and its name, as bytes that sort and as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, RowKey, RunId, Slot};
use crate::error::{Error, Result};

/// What a node is. The number of a kind is stored and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// One execution of a plan.
    Run = 1,
    /// A problem in plain words.
    Problem = 2,
    /// A formal statement, or a prompt.
    Statement = 3,
    /// A list of rows something was trained or measured on.
    Dataset = 4,
    /// Weights.
    Checkpoint = 5,
    /// A build of a verifier.
    Verifier = 6,
    /// A version of an artifact: a set of files.
    Artifact = 7,
    /// A model behind a network interface.
    Endpoint = 8,
    /// How samples were drawn.
    Sampling = 9,
    /// How checkpoints are merged.
    Recipe = 10,
    /// A Pareto front.
    Front = 11,
    /// A program that wrote or judged something.
    Program = 12,
    /// One generated text.
    Sample = 32,
    /// What a verifier said of a sample.
    Verdict = 33,
    /// What a scorer gave a sample.
    Reward = 34,
    /// A number that was measured.
    Figure = 35,
    /// A statement of a study, held up by figures or not.
    Claim = 36,
    /// Which of several samples was chosen.
    Selection = 37,
}

impl Kind {
    /// Every kind, in stored order.
    pub const ALL: [Self; 18] = [
        Self::Run,
        Self::Problem,
        Self::Statement,
        Self::Dataset,
        Self::Checkpoint,
        Self::Verifier,
        Self::Artifact,
        Self::Endpoint,
        Self::Sampling,
        Self::Recipe,
        Self::Front,
        Self::Program,
        Self::Sample,
        Self::Verdict,
        Self::Reward,
        Self::Figure,
        Self::Claim,
        Self::Selection,
    ];

    /// The kinds that are rows of a run, in stored order.
    pub const ROWS: [Self; 6] = [Self::Sample, Self::Verdict, Self::Reward, Self::Figure, Self::Claim, Self::Selection];

    /// Its name: one lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Problem => "problem",
            Self::Statement => "statement",
            Self::Dataset => "dataset",
            Self::Checkpoint => "checkpoint",
            Self::Verifier => "verifier",
            Self::Artifact => "artifact",
            Self::Endpoint => "endpoint",
            Self::Sampling => "sampling",
            Self::Recipe => "recipe",
            Self::Front => "front",
            Self::Program => "program",
            Self::Sample => "sample",
            Self::Verdict => "verdict",
            Self::Reward => "reward",
            Self::Figure => "figure",
            Self::Claim => "claim",
            Self::Selection => "selection",
        }
    }

    /// Whether nodes of this kind are rows of a run.
    #[must_use]
    pub fn is_row(self) -> bool {
        self as u8 >= Self::Sample as u8
    }

    /// Whether nodes of this kind are named by the digest of what they say.
    #[must_use]
    pub fn is_content(self) -> bool {
        self != Self::Run && !self.is_row()
    }

    /// Whether nodes of this kind also name who gave them.
    fn is_judgement(self) -> bool {
        matches!(self, Self::Verdict | Self::Reward)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text || (text == "proof" && *kind == Self::Verdict))
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
                Error::invalid("kind", format!("one of {}", names.join(", ")), text)
            })
    }
}

/// A node of the lineage: its kind and its name.
///
/// As bytes: the kind, then 16 bytes of run id, or 32 of digest, or a row: 16 of run id, 4 of stage, 4 of item, 4 of k,
/// and for verdicts and rewards 4 of slot. All big-endian, so nodes sort by kind, run, stage, item, k.
/// As text: `kind:` and a run id, a digest, or `RUN/STAGE/ITEM/K` with `#SLOT` for verdicts and rewards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    kind: Kind,
    name: Name,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Run(RunId),
    Content(Digest),
    Row(RowKey, Option<Slot>),
}

impl NodeId {
    /// A run.
    #[must_use]
    pub const fn run(run: RunId) -> Self {
        Self { kind: Kind::Run, name: Name::Run(run) }
    }

    /// A content by its digest; `None` if `kind` is not named by digests.
    #[must_use]
    pub fn content(kind: Kind, digest: Digest) -> Option<Self> {
        kind.is_content().then_some(Self { kind, name: Name::Content(digest) })
    }

    /// For kinds known to be contents.
    pub(crate) const fn content_of(kind: Kind, digest: Digest) -> Self {
        Self { kind, name: Name::Content(digest) }
    }

    /// A sample.
    #[must_use]
    pub const fn sample(row: RowKey) -> Self {
        Self { kind: Kind::Sample, name: Name::Row(row, None) }
    }

    /// The verdict of `slot`'s verifier on the sample at `row`.
    #[must_use]
    pub const fn verdict(row: RowKey, slot: Slot) -> Self {
        Self { kind: Kind::Verdict, name: Name::Row(row, Some(slot)) }
    }

    /// The reward `slot`'s scorer gave the sample at `row`.
    #[must_use]
    pub const fn reward(row: RowKey, slot: Slot) -> Self {
        Self { kind: Kind::Reward, name: Name::Row(row, Some(slot)) }
    }

    /// A figure.
    #[must_use]
    pub const fn figure(row: RowKey) -> Self {
        Self { kind: Kind::Figure, name: Name::Row(row, None) }
    }

    /// A claim.
    #[must_use]
    pub const fn claim(row: RowKey) -> Self {
        Self { kind: Kind::Claim, name: Name::Row(row, None) }
    }

    /// A selection.
    #[must_use]
    pub const fn selection(row: RowKey) -> Self {
        Self { kind: Kind::Selection, name: Name::Row(row, None) }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its digest, if it is a content.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        if let Name::Content(digest) = self.name { Some(digest) } else { None }
    }

    /// Where it stands, if it is a row.
    #[must_use]
    pub fn row(&self) -> Option<RowKey> {
        if let Name::Row(row, _) = self.name { Some(row) } else { None }
    }

    /// Its slot, if it is a verdict or a reward.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        if let Name::Row(_, slot) = self.name { slot } else { None }
    }

    /// The run it is, or is a row of.
    #[must_use]
    pub fn owner(&self) -> Option<RunId> {
        match self.name {
            Name::Run(run) => Some(run),
            Name::Content(_) => None,
            Name::Row(row, _) => Some(row.run),
        }
    }

    /// The same node of the run whose id is all zeros; contents stay as they are.
    pub(crate) fn anonymous(mut self) -> Self {
        const NOBODY: RunId = RunId::from_bytes([0; 16]);
        match &mut self.name {
            Name::Run(run) => *run = NOBODY,
            Name::Content(_) => {}
            Name::Row(row, _) => row.run = NOBODY,
        }
        self
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.kind as u8);
        match &self.name {
            Name::Run(run) => bytes.extend_from_slice(run.as_bytes()),
            Name::Content(digest) => bytes.extend_from_slice(digest.as_bytes()),
            Name::Row(row, slot) => {
                bytes.extend_from_slice(row.run.as_bytes());
                write_place(row, *slot, bytes);
            }
        }
    }

    /// Appends its bytes without the run id: the form inside one run, and the form that enters identities.
    pub(crate) fn write_local(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.kind as u8);
        match &self.name {
            Name::Run(_) => {}
            Name::Content(digest) => bytes.extend_from_slice(digest.as_bytes()),
            Name::Row(row, slot) => write_place(row, *slot, bytes),
        }
    }

    /// Reads a node off the front of `bytes`; returns it with what follows.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = bytes.split_first()?;
        let kind = Kind::from_number(*kind)?;
        if kind.is_content() {
            let (digest, rest) = rest.split_first_chunk()?;
            return Some((Self { kind, name: Name::Content(Digest::from_bytes(*digest)) }, rest));
        }
        let (run, rest) = rest.split_first_chunk()?;
        Self::read_owned(kind, RunId::from_bytes(*run), rest)
    }

    /// Reads a node in the form inside `run` off the front of `bytes`.
    pub(crate) fn read_local(run: RunId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = bytes.split_first()?;
        let kind = Kind::from_number(*kind)?;
        if kind.is_content() { Self::read(bytes) } else { Self::read_owned(kind, run, rest) }
    }

    fn read_owned(kind: Kind, run: RunId, bytes: &[u8]) -> Option<(Self, &[u8])> {
        if kind == Kind::Run {
            return Some((Self::run(run), bytes));
        }
        let (place, rest) = bytes.split_first_chunk()?;
        let row = RowKey::from_place(run, *place);
        if !kind.is_judgement() {
            return Some((Self { kind, name: Name::Row(row, None) }, rest));
        }
        let (slot, rest) = rest.split_first_chunk()?;
        Some((Self { kind, name: Name::Row(row, Some(Slot(u32::from_be_bytes(*slot)))) }, rest))
    }
}

fn write_place(row: &RowKey, slot: Option<Slot>, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&row.place());
    if let Some(slot) = slot {
        bytes.extend_from_slice(&slot.0.to_be_bytes());
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        match &self.name {
            Name::Run(run) => run.fmt(f),
            Name::Content(digest) => digest.fmt(f),
            Name::Row(row, None) => row.fmt(f),
            Name::Row(row, Some(slot)) => write!(f, "{row}#{:08x}", slot.0),
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("node", "`kind:` and a run id, a digest, or `RUN/STAGE/ITEM/K[#SLOT]`", text);
        let (kind, name) = text.split_once(':').ok_or_else(invalid)?;
        let kind: Kind = kind.parse()?;
        let name = if kind == Kind::Run {
            Name::Run(name.parse()?)
        } else if kind.is_content() {
            Name::Content(name.parse()?)
        } else if kind.is_judgement() {
            let (row, slot) = name.rsplit_once('#').ok_or_else(invalid)?;
            Name::Row(row.parse()?, Some(Slot(u32::from_str_radix(slot, 16).map_err(|_| invalid())?)))
        } else {
            Name::Row(name.parse()?, None)
        };
        Ok(Self { kind, name })
    }
}

/// The most bytes a node has.
const MAX_BYTES: usize = 1 + 32;

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let mut bytes = Vec::with_capacity(MAX_BYTES);
        self.write(&mut bytes);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            super::from_text(deserializer)
        } else {
            deserializer.deserialize_bytes(Bytes)
        }
    }
}

struct Bytes;

impl serde::de::Visitor<'_> for Bytes {
    type Value = NodeId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a node")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<NodeId, E> {
        match NodeId::read(bytes) {
            Some((node, [])) => Ok(node),
            _ => Err(E::custom("not the bytes of a node")),
        }
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<NodeId, E> {
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes() -> impl Strategy<Value = NodeId> {
        let kind = proptest::sample::select(Kind::ALL.to_vec());
        (kind, any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u8; 12]>(), any::<u32>()).prop_map(
            |(kind, run, digest, place, slot)| {
                let run = RunId::from_bytes(run);
                let slot = kind.is_judgement().then_some(Slot(slot));
                let name = match kind {
                    Kind::Run => Name::Run(run),
                    kind if kind.is_content() => Name::Content(Digest::from_bytes(digest)),
                    _ => Name::Row(RowKey::from_place(run, place), slot),
                };
                NodeId { kind, name }
            },
        )
    }

    proptest! {
        #[test]
        fn a_node_survives_text_bytes_and_json(node in nodes()) {
            prop_assert_eq!(node.to_string().parse::<NodeId>().unwrap(), node);
            let mut bytes = Vec::new();
            node.write(&mut bytes);
            prop_assert!(bytes.len() <= MAX_BYTES);
            prop_assert_eq!(NodeId::read(&bytes), Some((node, &[][..])));
            let json = serde_json::to_string(&node).unwrap();
            prop_assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), node);
        }

        #[test]
        fn nodes_sort_as_their_bytes_do(a in nodes(), b in nodes()) {
            let (mut bytes_a, mut bytes_b) = (Vec::new(), Vec::new());
            a.write(&mut bytes_a);
            b.write(&mut bytes_b);
            prop_assert_eq!(a.cmp(&b), bytes_a.cmp(&bytes_b));
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let run = RunId::from_bytes([0; 16]);
            prop_assert_eq!(NodeId::read(&bytes).is_some_and(|(_, rest)| rest.len() >= bytes.len()), false);
            prop_assert_eq!(NodeId::read_local(run, &bytes).is_some_and(|(_, rest)| rest.len() >= bytes.len()), false);
        }
    }

    #[test]
    fn the_form_inside_a_run_leaves_the_run_out() {
        let row = RowKey::new(RunId::from_bytes([9; 16]), "sample", 1, 2);
        let node = NodeId::verdict(row, Slot(5));
        let mut bytes = Vec::new();
        node.write_local(&mut bytes);
        assert_eq!(bytes.len(), 1 + 12 + 4);
        assert_eq!(NodeId::read_local(row.run, &bytes), Some((node, &[][..])));
    }
}
