//! Logged models and traces on their way in: each with all it has, or not at all, save very large ones, which say that they are not
//! finished until they are.
//!
//! Invariants: what is here is never changed; of what is here with other contents it is told what differs. What only adds to others, a
//! measurement of a model or a link to one, is added if it is not here.

use std::collections::BTreeMap;

use serde::Serialize;
use tracker_engine::{Batch, Durability};

use super::import::{FLUSH_BYTES, Imported, NOT_FINISHED, UNFINISHED};
use super::sections::counted;
use crate::artifact::{LooseFile, check_path};
use crate::error::{Error, Result};
use crate::id::{ExperimentId, NodeId, RunId};
use crate::keys::{self, Parsed, tag};
use crate::model::{Assessment, Experiment, LoggedModel, Measured, Span, Trace};
use crate::records::Stored as _;
use crate::store::Store;

/// What has more under it than this is written in several commits: one takes 64 MiB.
const LARGE_BYTES: usize = 32 << 20;

/// What is here with other contents than in an export, and stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is: `logged model`, `trace`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// What differs, in words.
    pub differences: Vec<String>,
}

/// Entries by key.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
/// Experiments of an export, each with its id here, and its name if it is another here.
type Joined = BTreeMap<ExperimentId, (ExperimentId, Option<String>)>;

/// What lies under a unit, by the tag of its keys.
const UNDER: [(&str, u8); 3] = [("spans", tag::SPAN), ("assessments", tag::ASSESSMENT), ("files", tag::LOOSE)];

/// Whether an entry of a run's part is of a unit, and not of the run.
pub(super) fn is_of_unit(key: &[u8]) -> bool {
    match key.first() {
        Some(&(tag::LOGGED | tag::MEASURED | tag::MODEL_LINK | tag::TRACE | tag::SPAN | tag::ASSESSMENT)) => true,
        Some(&tag::LOOSE) => key.get(1..).is_some_and(|owner| !owner.starts_with(b"runs/")),
        _ => false,
    }
}

/// The record that a unit is there by.
enum Head {
    Model(LoggedModel),
    Trace(Trace),
}

impl Head {
    fn what(&self) -> &'static str {
        match self {
            Self::Model(_) => "logged model",
            Self::Trace(_) => "trace",
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Model(model) => &model.id,
            Self::Trace(trace) => &trace.id,
        }
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Self::Model(model) => keys::logged(&model.id),
            Self::Trace(trace) => keys::trace(&trace.id),
        }
    }

    fn owner(&self) -> String {
        match self {
            Self::Model(model) => model.owner(),
            Self::Trace(trace) => trace.owner(),
        }
    }

    fn experiment(&self) -> ExperimentId {
        match self {
            Self::Model(model) => model.experiment,
            Self::Trace(trace) => trace.experiment,
        }
    }

    /// What it says, but for what may be changed later, and for what did not come along.
    fn identity(&self) -> Result<Vec<u8>> {
        let experiment = ExperimentId::from_bytes([0; 16]);
        let tags = BTreeMap::new();
        match self {
            Self::Model(model) => {
                let (updated, deleted, manifest, takers) = (model.created, None, None, Vec::new());
                LoggedModel { experiment, updated, tags, deleted, manifest, takers, ..model.clone() }.encode()
            }
            Self::Trace(trace) => Trace { experiment, tags, ..trace.clone() }.encode(),
        }
    }

    /// Another of its kind, by its record.
    fn decode(&self, record: &[u8]) -> Result<Self> {
        match self {
            Self::Model(_) => LoggedModel::decode(&self.key(), record).map(Self::Model),
            Self::Trace(_) => Trace::decode(&self.key(), record).map(Self::Trace),
        }
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Model(model) => &model.tags,
            Self::Trace(trace) => &trace.tags,
        }
    }

    /// It, as one that is not finished.
    fn unfinished(&self) -> Self {
        let mut tags = self.tags().clone();
        tags.insert(UNFINISHED.to_owned(), NOT_FINISHED.to_owned());
        match self {
            Self::Model(model) => Self::Model(LoggedModel { tags, ..model.clone() }),
            Self::Trace(trace) => Self::Trace(Trace { tags, ..trace.clone() }),
        }
    }

    /// Puts it into an experiment.
    fn plan(&self, experiment: ExperimentId, batch: &mut Batch) -> Result<()> {
        let (record, index) = match self {
            Self::Model(model) => {
                let index = keys::logged_in(experiment, &model.id);
                (LoggedModel { experiment, ..model.clone() }.encode()?, index)
            }
            Self::Trace(trace) => {
                let index = keys::trace_at(experiment, trace.requested.millis(), &trace.id);
                (Trace { experiment, ..trace.clone() }.encode()?, index)
            }
        };
        batch.put(&self.key(), &record);
        batch.put(&index, &[]);
        Ok(())
    }
}

/// One logged model or trace.
struct Unit {
    head: Head,
    /// What lies under it: spans, assessments, loose files.
    under: Entries,
    /// Points of runs that measure it, of a model.
    measured: Entries,
}

/// How a unit was found.
enum Found {
    New,
    There,
    Other(Vec<String>),
}

/// The units of one run's part.
pub(super) struct Units<'a> {
    store: &'a Store,
    run: RunId,
    experiments: &'a BTreeMap<ExperimentId, Experiment>,
    staged: Vec<Unit>,
    links: Entries,
    n_bytes: usize,
}

impl<'a> Units<'a> {
    pub(super) fn new(store: &'a Store, run: RunId, experiments: &'a BTreeMap<ExperimentId, Experiment>) -> Self {
        Self { store, run, experiments, staged: Vec::new(), links: Entries::new(), n_bytes: 0 }
    }

    /// Stages an entry, and writes those before it once they are many.
    ///
    /// # Errors
    /// `Corrupt` if it is not what its key says, or not of what came before it; those of [`Units::write`].
    pub(super) fn add(&mut self, key: &[u8], value: &[u8], imported: &mut Imported) -> Result<()> {
        match keys::parse(key) {
            Some(Parsed::Logged(id)) => {
                let model = LoggedModel::decode(key, value)?;
                let is_ours = model.id == id && model.run.is_none_or(|run| run == self.run);
                self.begin(Head::Model(model), is_ours, key, imported)?;
            }
            Some(Parsed::Trace(id)) => {
                let trace = Trace::decode(key, value)?;
                let is_ours = trace.id == id && trace.run() == Some(self.run);
                self.begin(Head::Trace(trace), is_ours, key, imported)?;
            }
            Some(Parsed::ModelLink { run, .. }) if run == self.run && value.len() == 8 => {
                self.links.insert(key.to_vec(), value.to_vec());
            }
            Some(parsed) => self.add_under(&parsed, key, value)?,
            None => return Err(self.foreign(key)),
        }
        self.n_bytes += key.len() + value.len() + 64;
        Ok(())
    }

    fn begin(&mut self, head: Head, is_ours: bool, key: &[u8], imported: &mut Imported) -> Result<()> {
        if !is_ours {
            return Err(self.foreign(key));
        }
        if self.n_bytes > FLUSH_BYTES {
            self.write(imported)?;
        }
        self.staged.push(Unit { head, under: Entries::new(), measured: Entries::new() });
        Ok(())
    }

    fn add_under(&mut self, parsed: &Parsed<'_>, key: &[u8], value: &[u8]) -> Result<()> {
        let foreign = self.foreign(key);
        let Some(unit) = self.staged.last_mut() else { return Err(foreign) };
        let (is_model, id) = (matches!(unit.head, Head::Model(_)), unit.head.id());
        let record = match *parsed {
            Parsed::Measured { model, run, .. } if is_model && model == id && self.store.has(&NodeId::run(run))? => {
                unit.measured.insert(key.to_vec(), Measured::decode(key, value)?.encode()?);
                return Ok(());
            }
            Parsed::Span { trace, .. } if !is_model && trace == id => Span::decode(key, value)?.encode()?,
            Parsed::Assessment { trace, id: assessment } if !is_model && trace == id => {
                let found = Assessment::decode(key, value)?;
                if found.id != assessment {
                    return Err(foreign);
                }
                found.encode()?
            }
            Parsed::Loose { owner, path } if owner == unit.head.owner() => {
                check_path(path)?;
                LooseFile::decode(key, value)?.encode()?
            }
            _ => return Err(foreign),
        };
        unit.under.insert(key.to_vec(), record);
        Ok(())
    }

    fn foreign(&self, key: &[u8]) -> Error {
        Error::corrupt(key, format!("it does not belong there in the part of run `{}`", self.run))
    }

    /// Writes what was staged.
    ///
    /// # Errors
    /// `Corrupt` if a file of a unit did not come along; the engine's.
    pub(super) fn write(&mut self, imported: &mut Imported) -> Result<()> {
        let (mut units, links) = (std::mem::take(&mut self.staged), std::mem::take(&mut self.links));
        self.n_bytes = 0;
        units.iter_mut().try_for_each(|unit| self.write_most(unit))?;
        let (found, joined) = self.store.write("what was logged to run", &self.run, Durability::Sync, |batch| {
            let mut joined = Joined::new();
            let found = units.iter().map(|unit| self.plan(unit, &mut joined, batch)).collect::<Result<Vec<_>>>()?;
            self.plan_absent(&links, batch)?;
            Ok((found, joined))
        })?;
        imported.joined.extend(joined.into_values().filter_map(|(_, name)| name));
        for (Unit { head, .. }, found) in units.into_iter().zip(found) {
            match (found, &head) {
                (Found::New, Head::Model(_)) => imported.n_models += 1,
                (Found::New, Head::Trace(_)) => imported.n_traces += 1,
                (Found::There, _) => {}
                (Found::Other(differences), _) => {
                    imported.kept.push(Kept { what: head.what(), id: head.id().to_owned(), differences });
                }
            }
        }
        Ok(())
    }

    /// Writes most of what lies under a large unit that is not here, and that it is not finished.
    fn write_most(&self, unit: &mut Unit) -> Result<()> {
        let size = |key: &[u8], value: &[u8]| key.len() + value.len() + 64;
        let mut n_left: usize = unit.under.iter().map(|(key, value)| size(key, value)).sum();
        if n_left <= LARGE_BYTES || self.here(&unit.head)?.is_some() {
            return Ok(());
        }
        let head = unit.head.unfinished();
        while n_left > FLUSH_BYTES {
            let (mut n_bytes, mut group) = (0, Entries::new());
            while n_bytes <= FLUSH_BYTES
                && let Some((key, value)) = unit.under.pop_first()
            {
                n_bytes += size(&key, &value);
                group.insert(key, value);
            }
            n_left -= n_bytes;
            self.store.write(head.what(), &head.id(), Durability::Os, |batch| {
                self.plan_head(&head, &mut Joined::new(), batch)?;
                self.plan_under(&group, batch)
            })?;
        }
        Ok(())
    }

    fn plan(&self, unit: &Unit, joined: &mut Joined, batch: &mut Batch) -> Result<Found> {
        if let Some(here) = self.here(&unit.head)? {
            let differences = self.differences(unit, &here)?;
            if !differences.is_empty() {
                return Ok(Found::Other(differences));
            }
            self.plan_absent(&unit.measured, batch)?;
            return Ok(Found::There);
        }
        self.plan_head(&unit.head, joined, batch)?;
        self.plan_under(&unit.under, batch)?;
        for (key, value) in &unit.measured {
            batch.put(key, value);
        }
        Ok(Found::New)
    }

    /// What is here of a unit, unless it is a part that an import left which was cut short.
    fn here(&self, head: &Head) -> Result<Option<Head>> {
        let here = self.store.get(&head.key())?.map(|record| head.decode(&record)).transpose()?;
        Ok(here.filter(|here| !here.tags().contains_key(UNFINISHED)))
    }

    /// Puts a head, in place of what is there of it.
    fn plan_head(&self, head: &Head, joined: &mut Joined, batch: &mut Batch) -> Result<()> {
        let (key, experiment) = (head.key(), head.experiment());
        match self.store.get(&key)? {
            Some(record) => batch.require_equals(&key, &record),
            None => batch.require_absent(&key),
        }
        let experiment = if let Some((here, _)) = joined.get(&experiment) {
            *here
        } else {
            let arrived = self.experiments.get(&experiment);
            let arrived = arrived.ok_or_else(|| Error::corrupt(&key, "its experiment is not in the export"))?;
            joined.entry(experiment).or_insert(self.store.plan_joined(arrived, batch)?).0
        };
        head.plan(experiment, batch)
    }

    fn plan_under(&self, entries: &Entries, batch: &mut Batch) -> Result<()> {
        self.store.plan_files_of(entries, batch)?;
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(())
    }

    fn plan_absent(&self, entries: &Entries, batch: &mut Batch) -> Result<()> {
        for (key, value) in entries {
            if self.store.get(key)?.is_none() {
                batch.require_absent(key);
                batch.put(key, value);
            }
        }
        Ok(())
    }

    /// How what is here differs from a unit, in words.
    fn differences(&self, unit: &Unit, here: &Head) -> Result<Vec<String>> {
        let id = unit.head.id();
        let prefixes = match unit.head {
            Head::Model(_) => Vec::new(),
            Head::Trace(_) => vec![keys::spans(id), keys::assessments(id)],
        };
        let mut differences = Vec::new();
        if here.identity()? != unit.head.identity()? {
            differences.push("its own record".to_owned());
        }
        let mut under = Entries::new();
        for prefix in prefixes.into_iter().chain([keys::loose(&unit.head.owner(), "")]) {
            for entry in self.store.entries(&prefix) {
                let (key, record) = entry?;
                under.insert(key, record);
            }
        }
        for (name, tag) in UNDER {
            let (here, there) = (timeless(&under, tag)?, timeless(&unit.under, tag)?);
            if here != there {
                differences.push(counted(name, here.len() as u64, there.len() as u64));
            }
        }
        Ok(differences)
    }
}

/// The entries whose keys have this tag; of loose files, without when they were written.
fn timeless(entries: &Entries, of_tag: u8) -> Result<Entries> {
    let entries = entries.iter().filter(|(key, _)| key.first() == Some(&of_tag));
    entries
        .map(|(key, record)| {
            if of_tag != tag::LOOSE {
                return Ok((key.clone(), record.clone()));
            }
            let LooseFile { n_bytes, digest, .. } = LooseFile::decode(key, record)?;
            Ok((key.clone(), [n_bytes.to_be_bytes().as_slice(), digest.as_bytes()].concat()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::ModelState;
    use proptest::prelude::*;

    const RUN: RunId = RunId::from_bytes([7; 16]);
    const OTHER: RunId = RunId::from_bytes([8; 16]);

    fn model(run: Option<RunId>) -> LoggedModel {
        LoggedModel {
            id: "m-1".to_owned(),
            experiment: ExperimentId::from_bytes([0; 16]),
            name: "policy".to_owned(),
            model_type: String::new(),
            state: ModelState::Ready,
            run,
            created: Timestamp::now(),
            updated: Timestamp::now(),
            params: BTreeMap::new(),
            tags: BTreeMap::new(),
            deleted: None,
            manifest: None,
            takers: Vec::new(),
        }
    }

    fn trace(run: RunId) -> Trace {
        Trace {
            id: "tr-1".to_owned(),
            experiment: ExperimentId::from_bytes([0; 16]),
            requested: Timestamp::now(),
            duration_millis: None,
            state: "OK".to_owned(),
            request: String::new(),
            response: String::new(),
            client_id: String::new(),
            metadata: BTreeMap::from([(Trace::SOURCE_RUN.to_owned(), run.simple())]),
            tags: BTreeMap::new(),
        }
    }

    /// Adds entries to the part of `RUN`, in a store without experiments, and writes them.
    fn add(entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let (store, experiments) = (Store::memory()?, BTreeMap::new());
        let (mut units, mut imported) = (Units::new(&store, RUN, &experiments), Imported::default());
        entries.iter().try_for_each(|(key, value)| units.add(key, value, &mut imported))?;
        units.write(&mut imported)
    }

    fn refuse(entries: &[(Vec<u8>, Vec<u8>)], reason: &str) {
        let error = add(entries).unwrap_err().to_string();
        assert!(error.contains(reason), "expected `{reason}` in: {error}");
    }

    #[test]
    fn what_is_of_another_run_or_under_nothing_is_refused() {
        let logged = |run| (keys::logged("m-1"), model(run).encode().unwrap());
        let traced = |run| (keys::trace("tr-1"), trace(run).encode().unwrap());
        let span = (keys::span("tr-1", 1), Span { start_nanos: 1, otlp: Vec::new() }.encode().unwrap());
        let file = LooseFile { n_bytes: 1, digest: crate::Digest::of(b"x"), modified: Timestamp::now() };
        let loose = |owner: &str, path: &str| (keys::loose(owner, path), file.encode().unwrap());
        let measured = (keys::measured("m-1", "loss", &[0; 24], RUN), Measured::default().encode().unwrap());
        let foreign = "does not belong there";
        refuse(&[logged(Some(OTHER))], foreign);
        refuse(&[traced(OTHER)], foreign);
        refuse(&[(keys::logged("m-2"), logged(None).1)], foreign);
        refuse(std::slice::from_ref(&span), foreign);
        refuse(&[logged(None), span.clone()], foreign);
        refuse(&[traced(RUN), span, loose("traces/tr-2", "a")], foreign);
        refuse(&[logged(Some(RUN)), loose("models/m-1", "../a")], "relative and plain");
        refuse(&[logged(Some(RUN)), measured], foreign);
        refuse(&[(keys::model_link(OTHER, 1, "m-1"), vec![0; 8])], foreign);
        refuse(&[(keys::model_link(RUN, 1, "m-1"), vec![0; 7])], foreign);
        // What is whole is looked for an experiment.
        refuse(&[logged(Some(RUN)), loose("models/m-1", "a")], "its experiment is not in the export");
        add(&[(keys::model_link(RUN, 1, "m-1"), vec![0; 8])]).unwrap();
    }

    proptest! {
        #[test]
        fn no_entry_panics(
            tag in prop_oneof![Just(tag::LOGGED), Just(tag::TRACE), Just(tag::SPAN), Just(tag::ASSESSMENT), Just(tag::LOOSE), any::<u8>()],
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            drop(add(&[([&[tag], key.as_slice()].concat(), [&[1, 1], value.as_slice()].concat())]));
        }
    }
}
