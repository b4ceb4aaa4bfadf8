//! Reading an export into a store.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tracker_engine::{Batch, Durability};

use super::part::Part;
use super::sections::differences;
use super::survey::Parts;
use super::unit::is_of_unit;
use super::units::{Kept, Units};
use crate::artifact::{Receipt, Renumbered};
use crate::backup::expect_purpose;
use crate::bundle::{Bundle, ChunkLine, Progress, Purpose, RunFacts, Watch};
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, NodeId, RunId};
use crate::keys::{self, tag};
use crate::model::{Experiment, Run, Status};
use crate::records::Stored as _;
use crate::runs::indexes;
use crate::store::Store;

/// A run whose part has more bytes than this is written in several commits: what is derived from records is some times as much, and a
/// commit takes 64 MiB.
const LARGE_RUN_BYTES: u64 = 8 << 20;
pub(super) const FLUSH_BYTES: usize = 8 << 20;
/// The tag of a run, a logged model or a trace whose import is not finished.
pub(crate) const UNFINISHED: &str = "tracker.import";
pub(super) const NOT_FINISHED: &str = "not finished: import the same file again";

/// Refuses a key that a tag cannot have, or only by an import.
pub(crate) fn check_tag(key: &str) -> Result<()> {
    keys::check_text("tag key", key)?;
    if key == UNFINISHED { Err(taken()) } else { Ok(()) }
}

/// Refuses a change of tags that sets the mark of an import or takes it away.
pub(crate) fn check_mark(before: Option<&BTreeMap<String, String>>, after: &BTreeMap<String, String>) -> Result<()> {
    let before = before.and_then(|tags| tags.get(UNFINISHED));
    if before == after.get(UNFINISHED) { Ok(()) } else { Err(taken()) }
}

fn taken() -> Error {
    Error::invalid(
        "the key of a tag that is set or taken away",
        "another: imports mark what they did not finish by it",
        UNFINISHED,
    )
}

/// Refuses to export what an import did not finish.
pub(super) fn check_finished(what: &str, id: &dyn std::fmt::Display, is_marked: bool) -> Result<()> {
    if !is_marked {
        return Ok(());
    }
    let expected = "one that is whole: import the file it comes from again, and then export it";
    Err(Error::invalid(format!("{what} `{id}`"), expected, "a part, by an import that was cut short"))
}

/// What became of the runs of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The runs, by id.
    pub runs: Vec<ImportedRun>,
    /// Versions of artifacts that were not there.
    pub n_versions: u64,
    /// Of those, the ones that have another number here.
    pub renumbered: Vec<Renumbered>,
    /// Experiments that were there under their names, as others.
    pub joined: BTreeSet<String>,
    /// Logged models that were not there.
    pub n_models: u64,
    /// Traces that were not there.
    pub n_traces: u64,
    /// Versions of registered models that were not there.
    pub n_model_versions: u64,
    /// Of those, the ones that have another number here.
    pub renumbered_models: Vec<Renumbered>,
    /// Logged models and traces that are there with other contents, and stay as they are.
    pub kept: Vec<Kept>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportedRun {
    /// Its id.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// How it was found.
    pub arrival: Arrival,
    /// The digest over its records, here as where it came from.
    pub record_digest: Digest,
}

/// How a run was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// It was not there.
    New,
    /// It was there in part, from an import that was cut short.
    Finished,
    /// It was there.
    There,
}

impl Store {
    /// Takes in the runs of an export. Before anything is written every byte of the file is checked, runs are compared with what is here, and
    /// experiments, logged models, traces and registered models are judged; records of runs are judged as they are written. A run is
    /// there once it is there whole; of very large ones a part may be seen before, as interrupted and with the tag `tracker.import`.
    /// Logged models and traces follow, each whole, also those of a run that is there; then versions of registered models. After a kill,
    /// importing the same file again does the rest.
    ///
    /// # Errors
    /// `Differs` if a run is there with other contents; `Invalid` if this is no export; `Outdated`; `CorruptFile` with what is
    /// damaged; `Corrupt` with an entry that is not what its key says, comes twice, or leans on what is not there; `Contended`; `Io`; the
    /// engine's. Of the first four nothing was written, nor of `Corrupt`, unless the entry is a record of a run: then that run is not there,
    /// or is marked as one that is not finished.
    pub fn import(&self, bundle: &Bundle, watch: &mut Watch<'_>) -> Result<Imported> {
        expect_purpose(bundle, Purpose::Export, "restore")?;
        bundle.check_store_format()?;
        if let Some(damage) = bundle.verify(watch)?.into_iter().next() {
            return Err(Error::CorruptFile { path: damage.file, offset: damage.offset, reason: damage.reason });
        }
        let arrivals = bundle.runs().iter().map(|facts| self.arrival(facts)).collect::<Result<Vec<_>>>()?;
        let mut parts = Parts::of(bundle, self)?;
        // Pieces that come are not collected before their versions name them.
        let _copying = self.packs().copying()?;
        let mut imported = Imported::default();
        for (facts, arrival) in bundle.runs().iter().zip(arrivals) {
            let part = parts.chunks.get(&facts.id).map_or(&[][..], Vec::as_slice);
            Import { store: self, parts: &parts, arrival, imported: &mut imported, is_marked: false }
                .run(facts, part, watch)?;
            let record_digest = self.record_digest(facts.id)?;
            if record_digest != facts.record_digest {
                let (expected, got) = (facts.record_digest.short(), record_digest.short());
                return Err(Error::conflict("the records of run", facts.id, &expected, &got));
            }
            let (id, name) = (facts.id, facts.name.clone());
            imported.runs.push(ImportedRun { id, name, arrival, record_digest });
        }
        self.import_units(&parts, &mut imported)?;
        std::mem::take(&mut parts.registry).import(self, &mut imported)?;
        Ok(imported)
    }

    /// Takes in what clients logged beside runs, once all runs are there.
    fn import_units(&self, parts: &Parts<'_>, imported: &mut Imported) -> Result<()> {
        for RunFacts { id, .. } in parts.bundle.runs() {
            let mut units = Units::new(self, *id, &parts.experiments);
            let lines = parts.chunks.get(id).into_iter().flatten();
            for line in lines.filter(|line| parts.with_units.contains(&line.chunk)) {
                parts.entries(line, &mut |key, value| {
                    if is_of_unit(key) { units.add(key, value, imported) } else { Ok(()) }
                })?;
            }
            units.write(imported)?;
        }
        Ok(())
    }

    /// How a run is found here.
    fn arrival(&self, facts: &RunFacts) -> Result<Arrival> {
        if !self.has(&NodeId::run(facts.id))? {
            return Ok(Arrival::New);
        }
        if self.get(&keys::run_tag(facts.id, UNFINISHED))?.is_some() {
            return Ok(Arrival::Finished);
        }
        let here = self.sections(facts.id)?;
        if here == facts.sections {
            return Ok(Arrival::There);
        }
        Err(Error::Differs { run: facts.id, differences: differences(&here, &facts.sections) })
    }

    /// The experiment here of the name that an experiment of an export has, which is added if there is none. Returns its id, and its name
    /// if it is another than in the export.
    pub(super) fn plan_joined(
        &self,
        arrived: &Experiment,
        batch: &mut Batch,
    ) -> Result<(ExperimentId, Option<String>)> {
        if let Some(here) = self.find_experiment(&arrived.name)? {
            let joined = (here.id != arrived.id).then_some(here.name);
            return Ok((here.id, joined));
        }
        if self.get(&keys::experiment(arrived.id))?.is_none() {
            keys::check_text("experiment name", &arrived.name)?;
            let name = keys::experiment_name(&arrived.name);
            batch.require_absent(&name);
            batch.put(&name, arrived.id.as_bytes());
            batch.put(&keys::experiment(arrived.id), &arrived.encode()?);
        }
        Ok((arrived.id, None))
    }

    /// Adds a run under the experiment of its name. Returns that, if it is another than in the export.
    fn plan_arrival(&self, run: &Run, experiment: &Experiment, batch: &mut Batch) -> Result<Option<String>> {
        let (id, joined) = self.plan_joined(experiment, batch)?;
        let run = Run { experiment: id, ..run.clone() };
        let key = keys::node(&NodeId::run(run.id));
        if let Some(record) = self.get(&key)? {
            // A part of it, from an import that was cut short.
            batch.require_equals(&key, &record);
            for index in indexes(&Run::decode(&key, &record)?) {
                batch.delete(&keys::run_index_entry(index, run.id));
            }
        } else {
            batch.require_absent(&key);
        }
        batch.put(&key, &run.encode()?);
        for index in indexes(&run) {
            batch.put(&keys::run_index_entry(index, run.id), &[]);
        }
        Ok(joined)
    }
}

/// One run on its way in.
struct Import<'a> {
    store: &'a Store,
    parts: &'a Parts<'a>,
    arrival: Arrival,
    imported: &'a mut Imported,
    /// Whether the run is there, as one that is not finished.
    is_marked: bool,
}

impl Import<'_> {
    fn run(mut self, facts: &RunFacts, lines: &[ChunkLine], watch: &mut Watch<'_>) -> Result<()> {
        let is_large = lines.iter().map(|line| line.n_bytes).sum::<u64>() > LARGE_RUN_BYTES;
        let mut part = Part::new(facts.id);
        let mut done_bytes = 0;
        for line in lines {
            self.parts.entries(line, &mut |key, value| {
                match key.first() {
                    _ if is_of_unit(key) => return Ok(()),
                    Some(&(tag::VERSION | tag::ALIAS | tag::FILE | tag::PIECE | tag::LOOSE)) => {}
                    // Of a run that is here nothing else is looked at.
                    _ if self.arrival == Arrival::There => return Ok(()),
                    _ => {}
                }
                part.add(self.store, key, value)?;
                if is_large && part.recording.n_bytes() > FLUSH_BYTES {
                    self.flush(&mut part)?;
                }
                Ok(())
            })?;
            done_bytes += line.n_bytes;
            watch(Progress { what: "import", done_bytes, total_bytes: None });
        }
        self.finish(&part)
    }

    /// Writes what was read of a large run so far.
    fn flush(&mut self, part: &mut Part) -> Result<()> {
        let recording = std::mem::take(&mut part.recording);
        let (run, experiment) = self.parts.owner(part)?;
        let unfinished = Run {
            status: Status::Interrupted,
            message: format!("the import is {NOT_FINISHED}"),
            record_digest: None,
            ..run.clone()
        };
        let is_marked = self.is_marked;
        self.store.write("run", &part.id, Durability::Os, |batch| {
            if !is_marked {
                self.store.plan_arrival(&unfinished, experiment, batch)?;
                batch.put(&keys::run_tag(part.id, UNFINISHED), NOT_FINISHED.as_bytes());
            }
            self.store.plan(&recording, batch)
        })?;
        self.is_marked = true;
        Ok(())
    }

    /// Writes the rest: the run is there.
    fn finish(self, part: &Part) -> Result<()> {
        let store = self.store;
        let missing = store.missing_versions(&part.parcel)?;
        let mut receipt = None;
        let brings_loose = self.arrival != Arrival::There && !part.parcel.loose.is_empty();
        // A file that came with this part may be one of a later part too.
        let lacks = |digest: &Digest| store.get(&keys::file(digest)).map(|record| record.is_none());
        let lacks_files = part.parcel.files.keys().map(lacks).collect::<Result<Vec<_>>>()?.contains(&true);
        if !missing.is_empty() || brings_loose || lacks_files {
            let pack = part.parcel.pieces.values().find_map(|piece| piece.place.pack());
            let line = pack.and_then(|pack| self.parts.packs.get(&pack));
            let bytes = line.map(|line| self.parts.bundle.pack_reader(line)).transpose()?;
            let mut taken = Receipt::take(store, &part.parcel, bytes.as_ref())?;
            taken.name_most()?;
            receipt = Some(taken);
        }
        let (renumbered, joined) = store.write("run", &part.id, Durability::Sync, |batch| {
            let mut joined = None;
            if self.arrival != Arrival::There {
                let (run, experiment) = self.parts.owner(part)?;
                joined = store.plan_arrival(run, experiment, batch)?;
                batch.delete(&keys::run_tag(part.id, UNFINISHED));
                store.plan(&part.recording, batch)?;
            }
            let mut renumbered = Vec::new();
            if let Some(receipt) = &receipt {
                receipt.plan(batch)?;
                if brings_loose {
                    for (key, file) in &part.parcel.loose {
                        batch.put(key, &file.encode()?);
                    }
                }
                renumbered = store.plan_versions(&missing, &self.parts.names, batch)?;
            }
            Ok((renumbered, joined))
        })?;
        self.imported.n_versions += missing.len() as u64;
        self.imported.renumbered.extend(renumbered);
        self.imported.joined.extend(joined);
        Ok(())
    }
}
