//! Logged models and traces on their way in: each with all it has, or not at all, save very large ones, which say that they are not
//! finished until they are.
//!
//! Invariants: what is here is never changed; of what is here with other contents it is told what differs. What only adds to others, a
//! measurement of a model, a link to one or a run that waits for one, is added if it is not here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tracker_engine::{Batch, Durability};

use super::import::{FLUSH_BYTES, Imported, UNFINISHED};
use super::sections::counted;
use super::unit::{Entry, Head};
use crate::artifact::LooseFile;
use crate::error::{Error, Result};
use crate::id::{ExperimentId, RunId};
use crate::keys::{self, tag};
use crate::model::{Experiment, LoggedModel};
use crate::records::Stored as _;
use crate::store::Store;

/// A unit with more under it than this is written in several commits: one takes 64 MiB.
const LARGE_UNIT_BYTES: usize = 32 << 20;

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

/// One logged model or trace.
struct Unit {
    head: Head,
    /// What lies under it: spans, assessments, loose files.
    under: Entries,
    /// The keys of what lay under it too, and is written already.
    written: BTreeSet<Vec<u8>>,
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
    /// Whether the last of those may go on.
    is_open: bool,
    /// What adds to units: links, and points of runs that measure a model.
    additions: Entries,
    n_bytes: usize,
}

impl<'a> Units<'a> {
    pub(super) fn new(store: &'a Store, run: RunId, experiments: &'a BTreeMap<ExperimentId, Experiment>) -> Self {
        let (staged, additions) = (Vec::new(), Entries::new());
        Self { store, run, experiments, staged, is_open: false, additions, n_bytes: 0 }
    }

    /// Stages an entry, and writes those before it once they are many.
    ///
    /// # Errors
    /// Those of [`Entry::judge`] and of [`Units::write`].
    pub(super) fn add(&mut self, key: &[u8], value: &[u8], imported: &mut Imported) -> Result<()> {
        let unit = self.staged.last_mut().filter(|_| self.is_open);
        let entry = Entry::judge(self.run, unit.as_ref().map(|unit| &unit.head), key, value)?;
        match (entry, unit) {
            (Entry::Under(record), Some(unit)) => drop(unit.under.insert(key.to_vec(), record)),
            (Entry::Measured { record, .. }, _) => drop(self.additions.insert(key.to_vec(), record)),
            (entry, _) => {
                if self.n_bytes > FLUSH_BYTES {
                    self.write(imported)?;
                }
                if let Entry::Head(head) = entry {
                    self.staged.push(Unit { head: *head, under: Entries::new(), written: BTreeSet::new() });
                    self.is_open = true;
                } else {
                    self.additions.insert(key.to_vec(), value.to_vec());
                    self.is_open = false;
                }
            }
        }
        self.n_bytes += size(key, value);
        Ok(())
    }

    /// Writes what was staged.
    ///
    /// # Errors
    /// `Corrupt` if a file of a unit did not come along; the engine's.
    pub(super) fn write(&mut self, imported: &mut Imported) -> Result<()> {
        let (mut units, mut additions) = (std::mem::take(&mut self.staged), std::mem::take(&mut self.additions));
        self.n_bytes = 0;
        self.is_open = false;
        units.iter_mut().try_for_each(|unit| self.write_most(unit))?;
        let first = first_of(&mut additions);
        let what = "what was logged to run";
        let (found, joined) = self.store.write(what, &self.run, Durability::Sync, |batch| {
            let mut joined = Joined::new();
            let found = units.iter().map(|unit| self.plan(unit, &mut joined, batch)).collect::<Result<Vec<_>>>()?;
            self.plan_absent(&first, batch)?;
            Ok((found, joined))
        })?;
        while !additions.is_empty() {
            let group = first_of(&mut additions);
            self.store.write(what, &self.run, Durability::Sync, |batch| self.plan_absent(&group, batch))?;
        }
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
        let mut n_left = n_bytes(&unit.under);
        if n_left <= LARGE_UNIT_BYTES || self.here(&unit.head)?.is_some() {
            return Ok(());
        }
        let head = unit.head.unfinished();
        while n_left > FLUSH_BYTES {
            let group = first_of(&mut unit.under);
            n_left -= n_bytes(&group);
            self.store.write(head.what(), &head.id(), Durability::Os, |batch| {
                self.plan_head(&head, &mut Joined::new(), batch)?;
                self.plan_under(&group, batch)
            })?;
            unit.written.extend(group.into_keys());
        }
        Ok(())
    }

    fn plan(&self, unit: &Unit, joined: &mut Joined, batch: &mut Batch) -> Result<Found> {
        if let Some(here) = self.here(&unit.head)? {
            let differences = self.differences(unit, &here)?;
            if !differences.is_empty() {
                return Ok(Found::Other(differences));
            }
            if let (Head::Model(arrived), Head::Model(here)) = (&unit.head, here) {
                self.plan_takers(arrived, here, batch)?;
            }
            return Ok(Found::There);
        }
        if self.plan_head(&unit.head, joined, batch)? {
            self.plan_leftovers(unit, batch)?;
        }
        self.plan_under(&unit.under, batch)?;
        Ok(Found::New)
    }

    /// Lets runs that took a model wait for its files here too.
    fn plan_takers(&self, arrived: &LoggedModel, mut here: LoggedModel, batch: &mut Batch) -> Result<()> {
        let new: Vec<RunId> = arrived.takers.iter().filter(|run| !here.takers.contains(run)).copied().collect();
        if here.manifest.is_some() || new.is_empty() {
            return Ok(());
        }
        let key = keys::logged(&here.id);
        if let Some(record) = self.store.get(&key)? {
            here.takers.extend(new);
            batch.require_equals(&key, &record);
            batch.put(&key, &here.encode()?);
        }
        Ok(())
    }

    /// What is here of a unit, unless it is a part that an import left which was cut short.
    fn here(&self, head: &Head) -> Result<Option<Head>> {
        let here = self.store.get(&head.key())?.map(|record| head.decode(&record)).transpose()?;
        Ok(here.filter(|here| !here.tags().contains_key(UNFINISHED)))
    }

    /// Puts a head, in place of what is there of it. Says whether something is.
    fn plan_head(&self, head: &Head, joined: &mut Joined, batch: &mut Batch) -> Result<bool> {
        let (key, experiment) = (head.key(), head.experiment());
        let before = self.store.get(&key)?;
        let experiment = if let Some((here, _)) = joined.get(&experiment) {
            *here
        } else {
            let arrived = self.experiments.get(&experiment);
            let arrived = arrived.ok_or_else(|| Error::corrupt(&key, "its experiment is not in the export"))?;
            joined.entry(experiment).or_insert(self.store.plan_joined(arrived, batch)?).0
        };
        match &before {
            Some(record) => {
                batch.require_equals(&key, record);
                let before = head.decode(record)?;
                batch.delete(&before.index(before.experiment()));
            }
            None => batch.require_absent(&key),
        }
        batch.put(&key, &head.record(experiment)?);
        batch.put(&head.index(experiment), &[]);
        Ok(before.is_some())
    }

    /// Takes away what an import that was cut short left under a unit and this one does not bring.
    fn plan_leftovers(&self, unit: &Unit, batch: &mut Batch) -> Result<()> {
        for prefix in unit.head.prefixes() {
            for entry in self.store.entries(&prefix) {
                let (key, _) = entry?;
                if !unit.under.contains_key(&key) && !unit.written.contains(&key) {
                    batch.delete(&key);
                }
            }
        }
        Ok(())
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
        let mut differences = Vec::new();
        if here.identity()? != unit.head.identity()? {
            differences.push("its own record".to_owned());
        }
        let mut under = Entries::new();
        for prefix in unit.head.prefixes() {
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

/// About how many bytes of a commit an entry takes.
fn size(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + 64
}

fn n_bytes(entries: &Entries) -> usize {
    entries.iter().map(|(key, value)| size(key, value)).sum()
}

/// Takes away the first entries, as many as one commit should have.
fn first_of(entries: &mut Entries) -> Entries {
    let (mut n_bytes, mut group) = (0, Entries::new());
    while n_bytes <= FLUSH_BYTES
        && let Some((key, value)) = entries.pop_first()
    {
        n_bytes += size(&key, &value);
        group.insert(key, value);
    }
    group
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
    use crate::model::{Measured, ModelState, Span, Trace};
    use proptest::prelude::*;
    use std::sync::Arc;
    use tracker_engine::Memory;
    use tracker_engine::faulty::Faulty;

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
        let measured = (keys::measured("m-2", "loss", &[0; 24], RUN), Measured::default().encode().unwrap());
        let foreign = "does not belong there";
        refuse(&[logged(Some(OTHER))], foreign);
        refuse(&[traced(OTHER)], foreign);
        refuse(&[(keys::logged("m-2"), logged(None).1)], foreign);
        refuse(std::slice::from_ref(&span), foreign);
        refuse(&[logged(None), span.clone()], foreign);
        refuse(&[traced(RUN), span, loose("traces/tr-2", "a")], foreign);
        refuse(&[logged(Some(RUN)), loose("models/m-1", "../a")], "relative and plain");
        refuse(&[logged(Some(RUN)), measured], foreign);
        let link = (keys::model_link(RUN, 1, "m-1"), vec![0; 8]);
        refuse(&[logged(Some(RUN)), link, loose("models/m-1", "a")], foreign);
        refuse(&[(keys::model_link(OTHER, 1, "m-1"), vec![0; 8])], foreign);
        refuse(&[(keys::model_link(RUN, 1, "m-1"), vec![0; 7])], foreign);
        // What is whole is looked for an experiment.
        refuse(&[logged(Some(RUN)), loose("models/m-1", "a")], "its experiment is not in the export");
        add(&[(keys::model_link(RUN, 1, "m-1"), vec![0; 8])]).unwrap();
    }

    #[test]
    fn many_links_and_measurements_come_in_several_commits() {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::new()), None));
        let store = Store::over(faulty.clone(), None).unwrap();
        let experiment = store.default_experiment().unwrap();
        let experiments = BTreeMap::from([(experiment.id, experiment.clone())]);
        let (mut units, mut imported) = (Units::new(&store, RUN, &experiments), Imported::default());
        let mut add = |key: Vec<u8>, value: Vec<u8>| units.add(&key, &value, &mut imported).unwrap();
        faulty.plan(None);
        let whole = LoggedModel { experiment: experiment.id, ..model(Some(RUN)) };
        add(keys::logged("m-1"), whole.encode().unwrap());
        // 22 MiB of each, at 8 MiB a commit.
        let name = |nth: usize| format!("{nth:0>500}");
        for nth in 0..40_000 {
            add(keys::measured("m-1", &name(nth), &[0; 24], RUN), Measured::default().encode().unwrap());
        }
        for nth in 0..40_000 {
            add(keys::model_link(RUN, 1, &name(nth)), vec![0; 8]);
        }
        units.write(&mut imported).unwrap();
        assert!((6..10).contains(&faulty.begun().n_writes), "{}", faulty.begun().n_writes);
        assert_eq!(store.model_links(RUN).unwrap().len(), 40_000);
        assert_eq!((store.measurements("m-1").unwrap().len(), imported.n_models), (40_000, 1));
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
