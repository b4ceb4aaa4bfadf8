//! The part of one run in an export, entry by entry, as what a recording stages.
//!
//! Invariant: a record is decoded before it is staged, and must be what its key says; nothing of another run is taken from a run's part.

use super::import::UNFINISHED;
use crate::artifact::{FilePieces, Holder, Known, LooseFile, Manifest, Parcel, Piece, Version, check_path};
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, RunId};
use crate::keys::{self, Parsed, tag};
use crate::model::{
    Checkpoint, Claim, Content, Dataset, Edge, Endpoint, Figure, Front, Problem, Program, Recipe, Relation, Reward,
    Run, RunInput, Sample, Sampling, Selection, Stage, Statement, Verdict, Verifier,
};
use crate::recording::Recording;
use crate::records::{EdgeRecord, Stored};
use crate::series::{Block, Chunk};
use crate::store::Store;

/// What was read of a part and not yet written.
pub(super) struct Part {
    pub(super) id: RunId,
    pub(super) run: Option<Run>,
    pub(super) recording: Recording,
    pub(super) parcel: Parcel,
}

impl Part {
    pub(super) fn new(id: RunId) -> Self {
        let (recording, parcel) = (Recording::new(), Parcel::default());
        Self { id, run: None, recording, parcel }
    }

    /// Stages an entry. `store` has what came before.
    ///
    /// # Errors
    /// `Corrupt` if it is not what its key says, or not of this run; `Invalid` if it breaks a rule of the store.
    pub(super) fn add(&mut self, store: &Store, key: &[u8], value: &[u8]) -> Result<()> {
        let foreign = || Error::corrupt(key, format!("it does not belong in the part of run `{}`", self.id));
        let of_run = |key: &[u8]| key.get(1..17) == Some(self.id.as_bytes());
        match key.first().copied() {
            // Experiments of all parts were read before.
            Some(tag::EXPERIMENT) => {}
            Some(tag::NODE) => self.add_node(store, key, value)?,
            Some(tag::EDGE_UP) => self.add_edge(key, value)?,
            Some(tag::RECORDED) if of_run(key) => self.add_recorded(store, key)?,
            Some(tag::STAGE) if of_run(key) => {
                self.recording.put_stage(self.id, &Stage::decode(key, value)?)?;
            }
            Some(tag::PARAM) if of_run(key) => {
                self.recording.put_param(self.id, &keys::name_at(key)?, text(key, value)?)?;
            }
            // That an import was not finished where it comes from is not so here.
            Some(tag::TAG) if keys::run_tag(self.id, UNFINISHED) == key => {}
            Some(tag::TAG) if of_run(key) => {
                self.recording.put_tag(self.id, &keys::name_at(key)?, text(key, value)?)?;
            }
            Some(tag::TAIL) if of_run(key) => {
                let points = Chunk::decode(key, value)?.points;
                self.recording.put_points(self.id, &series_at(key)?, &points)?;
            }
            Some(tag::BLOCK) if of_run(key) => {
                let points = Block::decode(key, value)?.points(key)?;
                self.recording.put_points(self.id, &series_at(key)?, &points)?;
            }
            Some(tag::INPUT) if of_run(key) => {
                let input = RunInput::decode(key, value)?;
                let dataset = input.dataset().digest()?;
                if keys::input(self.id, &dataset) != key {
                    return Err(Error::corrupt(key, "what was said of the dataset is of another"));
                }
                self.recording.put_entry(key.to_vec(), value.to_vec());
            }
            Some(tag::LOOSE) => self.add_loose(key, value)?,
            Some(tag::WEIGHTS) => self.add_known(key, value)?,
            Some(tag::VERSION | tag::ALIAS) => self.add_version(key, value)?,
            Some(tag::FILE) => {
                self.parcel.files.insert(keys::digest_at(key)?, FilePieces::decode(key, value)?);
            }
            Some(tag::PIECE) => {
                self.parcel.pieces.insert(keys::digest_at(key)?, Piece::decode(key, value)?);
            }
            _ => return Err(foreign()),
        }
        Ok(())
    }

    /// Stages a version, or an alias that leads to one that came before.
    pub(super) fn add_version(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key.first() == Some(&tag::ALIAS) {
            return self.add_alias(key, value);
        }
        self.parcel.versions.push((Version::decode(key, value)?, Vec::new()));
        Ok(())
    }

    /// Stages a loose file of the run.
    fn add_loose(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match keys::parse(key) {
            Some(Parsed::Loose { owner, path }) if owner.strip_prefix("runs/") == Some(&self.id.simple()) => {
                check_path(path)?;
                self.parcel.loose.insert(key.to_vec(), LooseFile::decode(key, value)?);
                Ok(())
            }
            _ => Err(Error::corrupt(key, format!("it does not belong in the part of run `{}`", self.id))),
        }
    }

    fn add_node(&mut self, store: &Store, key: &[u8], record: &[u8]) -> Result<()> {
        let node = keys::node_at(key)?;
        if node.kind().is_content() {
            let said = ups(&node, key, record)?;
            // Equal contents may name other runs; the record that is here stays.
            match store.get(key)? {
                Some(here) => {
                    let said = ups(&node, key, &here)?;
                    self.recording.put_unrecorded(node, here, said);
                }
                None => self.recording.put_unrecorded(node, record.to_vec(), said),
            }
            return Ok(());
        }
        if node == NodeId::run(self.id) {
            let run = Run::decode(key, record)?;
            if run.id != self.id {
                return Err(Error::corrupt(key, "the record is of another run"));
            }
            self.run = Some(run);
            return Ok(());
        }
        let row = node.row().filter(|row| row.run == self.id);
        let row =
            row.ok_or_else(|| Error::corrupt(key, format!("it does not belong in the part of run `{}`", self.id)))?;
        let recording = &mut self.recording;
        let put = match node.kind() {
            Kind::Sample => recording.put_sample(row, &Sample::decode(key, record)?)?,
            Kind::Verdict => recording.put_verdict(row, &Verdict::decode(key, record)?)?,
            Kind::Reward => recording.put_reward(row, &Reward::decode(key, record)?)?,
            Kind::Figure => recording.put_figure(row, &Figure::decode(key, record)?)?,
            Kind::Claim => recording.put_claim(row, &Claim::decode(key, record)?)?,
            Kind::Selection => recording.put_selection(row, &Selection::decode(key, record)?)?,
            _ => return Err(Error::corrupt(key, "it is no row of a kind that is known")),
        };
        if put == node { Ok(()) } else { Err(Error::corrupt(key, format!("its record says that it is `{put}`"))) }
    }

    fn add_edge(&mut self, key: &[u8], record: &[u8]) -> Result<()> {
        let from = keys::edge_up_from(key)?;
        let (run, relation, order, to) = keys::edge_up_at(&from, key)?;
        if run != self.id {
            return Err(Error::corrupt(key, format!("the edge is of another run than `{}`", self.id)));
        }
        let EdgeRecord { weight, block } =
            if record.is_empty() { EdgeRecord::default() } else { EdgeRecord::decode(key, record)? };
        self.recording.put_edge(run, &Edge { from, relation, to, order, weight, block })
    }

    /// Stages that the run recorded a content, which came before, with this run or with another.
    fn add_recorded(&mut self, store: &Store, key: &[u8]) -> Result<()> {
        let node = keys::recorded_at(key)?;
        if self.recording.record_content(self.id, &node) {
            return Ok(());
        }
        let at = keys::node(&node);
        // Runs may record a content by an edge from it alone.
        if let Some(record) = store.get(&at)? {
            let ups = ups(&node, &at, &record)?;
            self.recording.put_encoded(self.id, node, record, ups);
        } else {
            self.recording.put_bare(self.id, node);
        }
        Ok(())
    }

    fn add_known(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let holder = Holder::Content(keys::digest_at(key)?);
        let damaged = || Error::corrupt(key, "expected a stamp of zeros and a digest");
        let value: [u8; 64] = value.try_into().map_err(|_| damaged())?;
        let (stamp, weights) = value.split_at(32);
        if stamp != [0; 32] {
            return Err(damaged());
        }
        let weights = weights.try_into().map(Digest::from_bytes).map_err(|_| damaged())?;
        self.recording.put_known(Known { holder, weights });
        Ok(())
    }

    fn add_alias(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let damaged = |reason: &str| Error::corrupt(key, reason);
        let number = value.try_into().map(u32::from_be_bytes).map_err(|_| damaged("expected four bytes"))?;
        let rest = key.get(1..).and_then(|rest| std::str::from_utf8(rest).ok()).and_then(|rest| rest.split_once('\0'));
        let (name, alias) = rest.ok_or_else(|| damaged("expected a name and an alias in the key"))?;
        let version =
            self.parcel.versions.iter_mut().find(|(version, _)| version.name == name && version.number == number);
        let (_, aliases) = version.ok_or_else(|| damaged("the version it leads to is not there"))?;
        aliases.push(alias.to_owned());
        Ok(())
    }
}

fn text<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(value).map_err(|_| Error::corrupt(key, "expected UTF-8"))
}

/// The key of the series in the key of a chunk or a block.
fn series_at(key: &[u8]) -> Result<String> {
    let name = key.get(17..).and_then(|rest| rest.split(|byte| *byte == 0).next());
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    name.map(str::to_owned).ok_or_else(|| Error::corrupt(key, "expected a run and a text in the key"))
}

/// The edges that a content's own fields say; refuses a record that is not what its digest says.
pub(super) fn ups(node: &NodeId, key: &[u8], record: &[u8]) -> Result<Vec<(Relation, NodeId)>> {
    fn of<C: Content>(node: &NodeId, key: &[u8], record: &[u8]) -> Result<Vec<(Relation, NodeId)>> {
        let content = C::decode(key, record)?;
        if content.node()? != *node {
            return Err(Error::corrupt(key, "the content there has another digest"));
        }
        content.check()?;
        Ok(content.ups())
    }
    match node.kind() {
        Kind::Problem => of::<Problem>(node, key, record),
        Kind::Statement => of::<Statement>(node, key, record),
        Kind::Dataset => of::<Dataset>(node, key, record),
        Kind::Checkpoint => of::<Checkpoint>(node, key, record),
        Kind::Verifier => of::<Verifier>(node, key, record),
        Kind::Program => of::<Program>(node, key, record),
        Kind::Endpoint => of::<Endpoint>(node, key, record),
        Kind::Sampling => of::<Sampling>(node, key, record),
        Kind::Recipe => of::<Recipe>(node, key, record),
        Kind::Front => of::<Front>(node, key, record),
        Kind::Artifact => {
            for file in Manifest::decode(key, record)?.files {
                check_path(&file.path)?;
            }
            of::<Manifest>(node, key, record)
        }
        _ => Err(Error::corrupt(key, "it is no content of a kind that is known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::FileEntry;
    use crate::id::RowKey;
    use proptest::prelude::*;

    const RUN: RunId = RunId::from_bytes([7; 16]);
    const OTHER: RunId = RunId::from_bytes([8; 16]);

    fn refuse(key: &[u8], value: &[u8], reason: &str) {
        let error = Part::new(RUN).add(&Store::memory().unwrap(), key, value).unwrap_err();
        assert!(error.to_string().contains(reason), "expected `{reason}` in: {error}");
    }

    fn claim() -> Vec<u8> {
        let (id, statement) = ("C1".to_owned(), "more is better".to_owned());
        Claim { id, statement, holds: true, value: 0.5, low: None, high: None, bound: None }.encode().unwrap()
    }

    #[test]
    fn what_is_of_another_run_or_not_what_its_key_says_is_refused() {
        let row = |run| NodeId::claim(RowKey::new(run, "s", 1, 2));
        Part::new(RUN).add(&Store::memory().unwrap(), &keys::node(&row(RUN)), &claim()).unwrap();
        refuse(&keys::node(&row(OTHER)), &claim(), "does not belong");
        refuse(&keys::node(&NodeId::run(OTHER)), &claim(), "does not belong");
        refuse(&keys::node(&NodeId::sample(RowKey::new(RUN, "s", 1, 2))), &claim(), "damaged");
        refuse(&keys::param(OTHER, "lr"), b"1", "does not belong");
        refuse(&keys::param(RUN, "lr"), b"\xff", "UTF-8");
        refuse(&keys::meta("format"), &[0, 0, 0, 9], "does not belong");
        let problem = Problem { name: "p".into(), source: "s".into(), text: "t".into() };
        let other = NodeId::content_of(Kind::Problem, Digest::of(b"another"));
        refuse(&keys::node(&other), &problem.encode().unwrap(), "another digest");
        let edge =
            keys::edge_up(&other, OTHER, Relation::DerivedFrom, 0, &NodeId::content_of(Kind::Problem, Digest::of(b"")));
        refuse(&edge, &[], "another run");
        refuse(&keys::alias("policy", "best"), &[0; 4], "is not there");
        refuse(&keys::weights(&Digest::of(b"w")), &[1; 64], "stamp of zeros");
    }

    #[test]
    fn a_manifest_whose_paths_lead_out_is_refused() {
        let file = |path: &str| FileEntry { path: path.to_owned(), n_bytes: 1, digest: Digest::of(b"x") };
        for path in ["../../.bashrc", "/etc/passwd", "a/../../b"] {
            let manifest = Manifest { kind: "files".into(), files: vec![file(path)] };
            refuse(&keys::node(&manifest.node().unwrap()), &manifest.encode().unwrap(), "relative and plain");
        }
    }

    proptest! {
        #[test]
        fn no_entry_panics(tag in any::<u8>(), key in proptest::collection::vec(any::<u8>(), 0..80), value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let store = Store::memory().unwrap();
            let mut part = Part::new(RUN);
            drop(part.add(&store, &[&[tag], key.as_slice()].concat(), &value));
            drop(part.add(&store, &[&[tag], RUN.as_bytes().as_slice(), key.as_slice()].concat(), &[&[1, 1], value.as_slice()].concat()));
        }
    }
}
