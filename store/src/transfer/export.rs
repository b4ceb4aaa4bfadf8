//! Writing an export.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::closure::{Closure, row_kinds};
use super::import::{UNFINISHED, check_finished};
use super::logged::Logged;
use crate::artifact::{LooseFile, Sent, Shipment, Version};
use crate::bundle::{Chunk, Counts, Cutter, Progress, Purpose, RunFacts, Sink, Target, Watch};
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, Kind, NodeId, RunId};
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// What an export is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// How much is in it.
    pub counts: Counts,
    /// Its runs, by id: those that were asked for, and those they came from.
    pub runs: Vec<RunFacts>,
    /// How large it is, in bytes.
    pub written_bytes: u64,
}

impl Store {
    /// Writes the runs in `asked` with everything they came from to one file or stream: records, contents, artifacts with their bytes,
    /// and the whole of every run that a node of theirs leads up to; also the logged models and traces of all these runs, and the versions of
    /// registered models that came of them.
    ///
    /// # Errors
    /// `Invalid` if there are none, the file is there, or an import did not finish a run, a logged model or a trace of theirs; `NotFound`; `CorruptFile`, `Corrupt` if something they name is damaged;
    /// `Contended` if a collection does not end; `Io`; the engine's.
    pub fn export(&self, asked: &[RunId], target: Target<'_>, watch: &mut Watch<'_>) -> Result<Exported> {
        if asked.is_empty() {
            return Err(Error::invalid("what is exported", "at least one run", "none"));
        }
        let sink = RefCell::new(Sink::open(target, Purpose::Export)?);
        let watch = RefCell::new(watch);
        let _copying = self.packs().copying()?;
        let runs = self.at_one_state(|store| {
            let mut sink = sink.borrow_mut();
            sink.begin();
            let mut parts = Parts::new(store, asked)?;
            parts.write(&mut sink, &mut **watch.borrow_mut())
        })?;
        let totals = sink.into_inner().finish(self.facts()?, runs)?;
        let manifest = totals.manifest;
        Ok(Exported { counts: manifest.counts, runs: manifest.runs, written_bytes: totals.written_bytes })
    }
}

/// The parts of an export, by run.
struct Parts<'a> {
    store: &'a Store,
    asked: BTreeSet<RunId>,
    closure: Closure,
    /// The versions of each run's part.
    versions: BTreeMap<RunId, Vec<Version>>,
    logged: Logged,
    /// Those that were written.
    experiments: BTreeSet<ExperimentId>,
    contents: BTreeSet<NodeId>,
    sent: Sent,
}

impl<'a> Parts<'a> {
    fn new(store: &'a Store, asked: &[RunId]) -> Result<Self> {
        let closure = Closure::of(store, asked)?;
        for run in closure.runs.keys() {
            check_finished("run", run, store.tag(*run, UNFINISHED)?.is_some())?;
        }
        let versions = versions(store, &closure)?;
        let logged = Logged::of(store, &closure)?;
        let asked = asked.iter().copied().collect();
        let (experiments, contents, sent) = (BTreeSet::new(), BTreeSet::new(), Sent::default());
        Ok(Self { store, asked, closure, versions, logged, experiments, contents, sent })
    }

    fn write(&mut self, sink: &mut Sink<'_>, watch: &mut Watch<'_>) -> Result<Vec<RunFacts>> {
        let mut facts = Vec::new();
        let runs: Vec<RunId> = self.closure.runs.keys().copied().collect();
        for id in runs {
            let run = self.store.run(id)?;
            self.write_run(id, sink, watch)?;
            facts.push(RunFacts {
                id,
                name: run.name,
                study: run.study,
                status: run.status,
                record_digest: self.store.record_digest(id)?,
                is_asked: self.asked.contains(&id),
                sections: self.store.sections(id)?,
            });
        }
        super::registry::write(self.store, &self.logged, sink)?;
        sink.counts().runs = facts.len() as u64;
        sink.counts().experiments = self.experiments.len() as u64;
        Ok(facts)
    }

    /// Adds the part of one run. What follows leans on what came before: stages before rows, contents before who recorded them.
    fn write_run(&mut self, id: RunId, sink: &mut Sink<'_>, watch: &mut Watch<'_>) -> Result<()> {
        let run = self.store.run(id)?;
        let node = NodeId::run(id);
        let mut part = Part { store: self.store, id, cutter: Cutter::default(), sink, watch };
        part.one(&keys::experiment(run.experiment))?;
        self.experiments.insert(run.experiment);
        part.one(&keys::node(&node))?;
        for prefix in [keys::stages(id), keys::params(id), keys::run_tags(id)] {
            part.all(&prefix)?;
        }
        let contents = self.closure.runs.get(&id).cloned().unwrap_or_default();
        let contents: Vec<NodeId> = contents.into_iter().filter(|node| self.contents.insert(*node)).collect();
        for content in &contents {
            part.one(&keys::node(content))?;
        }
        for kind in row_kinds() {
            part.all(&keys::rows(kind, id))?;
        }
        for kind in row_kinds() {
            part.all(&keys::row_edges_up(kind, id))?;
        }
        part.all(&keys::inputs(id))?;
        part.all(&keys::edges_up_in(&node, id))?;
        part.all(&keys::recorded_by(id))?;
        for entry in self.store.entries(&keys::recorded_by(id)) {
            part.all(&keys::edges_up_in(&keys::recorded_at(&entry?.0)?, id))?;
        }
        for (key, _) in self.store.all_series(id)? {
            part.all(&keys::blocks(id, &key))?;
            part.all(&keys::tail(id, &key))?;
        }
        for content in contents.iter().filter(|node| matches!(node.kind(), Kind::Artifact | Kind::Recipe)) {
            content.digest().map_or(Ok(()), |digest| part.one(&keys::weights(&digest)))?;
        }
        let mut loose = Vec::new();
        part.loose(&format!("runs/{}", id.simple()), &mut loose)?;
        self.logged.write(&mut part, &mut self.experiments, &mut loose)?;
        let versions = self.versions.remove(&id).unwrap_or_default();
        part.artifacts(&versions, &loose, &mut self.sent)
    }
}

/// The part of one run, as it is written.
pub(super) struct Part<'a, 'b, 'c> {
    pub(super) store: &'a Store,
    pub(super) id: RunId,
    cutter: Cutter,
    sink: &'a mut Sink<'b>,
    watch: &'a mut Watch<'c>,
}

impl Part<'_, '_, '_> {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match self.cutter.push(key, value) {
            Some(chunk) => self.chunk(&chunk),
            None => Ok(()),
        }
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<()> {
        self.sink.chunk(chunk, Some(self.id))?;
        let done_bytes = self.sink.counts().record_bytes;
        (self.watch)(Progress { what: "records", done_bytes, total_bytes: None });
        Ok(())
    }

    /// Adds the entry at `key`, if there is one.
    pub(super) fn one(&mut self, key: &[u8]) -> Result<()> {
        match self.store.get(key)? {
            Some(value) => self.push(key, &value),
            None => Ok(()),
        }
    }

    /// Adds every entry whose key starts with `prefix`.
    pub(super) fn all(&mut self, prefix: &[u8]) -> Result<()> {
        for entry in self.store.entries(prefix) {
            let (key, value) = entry?;
            self.push(&key, &value)?;
        }
        Ok(())
    }

    /// Adds the loose files of an owner, and their digests to `files`.
    pub(super) fn loose(&mut self, owner: &str, files: &mut Vec<Digest>) -> Result<()> {
        for entry in self.store.entries(&keys::loose(owner, "")) {
            let (key, record) = entry?;
            self.push(&key, &record)?;
            files.push(LooseFile::decode(&key, &record)?.digest);
        }
        Ok(())
    }

    /// Adds versions with the aliases that lead to them, their files and loose ones with their pieces, and the pack of those; ends the part.
    fn artifacts(mut self, versions: &[Version], loose: &[Digest], sent: &mut Sent) -> Result<()> {
        for version in versions {
            self.push(&keys::version(&version.name, version.number), &version.encode()?)?;
            for (alias, number) in self.store.aliases(&version.name)? {
                if number == version.number {
                    self.push(&keys::alias(&version.name, &alias), &number.to_be_bytes())?;
                }
            }
        }
        self.sink.counts().versions += versions.len() as u64;
        let manifests = versions.iter().map(|version| version.manifest);
        let shipment = Shipment::new(self.store, manifests, loose.iter().copied(), sent)?;
        for (digest, file) in &shipment.files {
            self.push(&keys::file(digest), &file.encode()?)?;
        }
        for (digest, piece) in &shipment.pieces {
            self.push(&keys::piece(digest), &piece.encode()?)?;
        }
        if let Some(chunk) = self.cutter.cut() {
            self.chunk(&chunk)?;
        }
        if shipment.n_bytes == 0 {
            return Ok(());
        }
        let (n_bytes, before) = (shipment.n_bytes, self.sink.counts().pack_bytes);
        let mut read = shipment.reader(self.store);
        let watch = self.watch;
        self.sink.pack(shipment.pack, n_bytes, &mut |offset, bytes| {
            watch(Progress { what: "packs", done_bytes: before + offset, total_bytes: None });
            read(offset, bytes)
        })
    }
}

/// The versions whose files are in a closure, by the run in whose part they go: the run that put them, or the first one that has
/// their files. A run that does not come along is left out of them.
fn versions(store: &Store, closure: &Closure) -> Result<BTreeMap<RunId, Vec<Version>>> {
    let mut first: BTreeMap<Digest, RunId> = BTreeMap::new();
    for (run, contents) in &closure.runs {
        for manifest in contents.iter().filter(|node| node.kind() == Kind::Artifact).filter_map(NodeId::digest) {
            first.entry(manifest).or_insert(*run);
        }
    }
    let mut versions: BTreeMap<RunId, Vec<Version>> = BTreeMap::new();
    for entry in store.entries(&keys::all_versions()) {
        let (key, record) = entry?;
        let mut version = Version::decode(&key, &record)?;
        let Some(run) = first.get(&version.manifest) else { continue };
        version.run = version.run.filter(|run| closure.runs.contains_key(run));
        versions.entry(version.run.unwrap_or(*run)).or_default().push(version);
    }
    Ok(versions)
}
