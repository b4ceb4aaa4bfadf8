//! Logged models on their way in: each with all it has, or not at all.
//!
//! Invariants: what is here is never changed; of what is here with other contents it is told what differs. What only adds to others, a
//! measurement of a model or a link to one, is added if it is not here.

use std::collections::BTreeMap;

use serde::Serialize;
use tracker_engine::{Batch, Durability};

use super::import::{FLUSH_BYTES, Imported};
use crate::artifact::{LooseFile, check_path};
use crate::error::{Error, Result};
use crate::id::{ExperimentId, NodeId, RunId};
use crate::keys::{self, Parsed, tag};
use crate::model::{Experiment, LoggedModel, Measured};
use crate::records::Stored as _;
use crate::store::Store;

/// What is here with other contents than in an export, and stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is: `logged model`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// What differs, in words.
    pub differences: Vec<String>,
}

/// Entries by key.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether an entry of a run's part is of a unit, and not of the run.
pub(super) fn is_of_unit(key: &[u8]) -> bool {
    match key.first() {
        Some(&(tag::LOGGED | tag::MEASURED | tag::MODEL_LINK)) => true,
        Some(&tag::LOOSE) => key.get(1..).is_some_and(|owner| owner.starts_with(b"models/")),
        _ => false,
    }
}

/// One logged model.
struct Unit {
    model: LoggedModel,
    /// What lies under it.
    under: Entries,
    /// Points of runs that measure it.
    measured: Entries,
}

impl Unit {
    fn key(&self) -> Vec<u8> {
        keys::logged(&self.model.id)
    }

    /// What it says of itself, but for what may be changed later.
    fn identity(&self) -> Result<Vec<u8>> {
        identity(&self.model)
    }
}

fn identity(model: &LoggedModel) -> Result<Vec<u8>> {
    let mut model = model.clone();
    model.experiment = ExperimentId::from_bytes([0; 16]);
    model.tags.clear();
    model.takers.clear();
    (model.updated, model.deleted, model.manifest) = (model.created, None, None);
    model.encode()
}

/// The units of one run's part.
pub(super) struct Units<'a> {
    store: &'a Store,
    run: RunId,
    experiments: &'a BTreeMap<ExperimentId, Experiment>,
    units: Vec<Unit>,
    links: Entries,
    n_bytes: usize,
}

/// How a unit was found.
enum Found {
    New,
    There,
    Other(Vec<String>),
}

impl<'a> Units<'a> {
    pub(super) fn new(store: &'a Store, run: RunId, experiments: &'a BTreeMap<ExperimentId, Experiment>) -> Self {
        Self { store, run, experiments, units: Vec::new(), links: Entries::new(), n_bytes: 0 }
    }

    /// Stages an entry, and writes those before it once they are many.
    ///
    /// # Errors
    /// `Corrupt` if it is not what its key says, or not of what came before it; those of [`Units::write`].
    pub(super) fn add(&mut self, key: &[u8], value: &[u8], imported: &mut Imported) -> Result<()> {
        let n_bytes = key.len() + value.len() + 64;
        match keys::parse(key) {
            Some(Parsed::Logged(id)) => {
                let model = LoggedModel::decode(key, value)?;
                if model.id != id || model.run.is_some_and(|run| run != self.run) {
                    return Err(self.foreign(key));
                }
                if self.n_bytes > FLUSH_BYTES {
                    self.write(imported)?;
                }
                self.units.push(Unit { model, under: Entries::new(), measured: Entries::new() });
            }
            Some(Parsed::ModelLink { run, .. }) if run == self.run && value.len() == 8 => {
                self.links.insert(key.to_vec(), value.to_vec());
            }
            Some(parsed) => self.add_under(&parsed, key, value)?,
            None => return Err(self.foreign(key)),
        }
        self.n_bytes += n_bytes;
        Ok(())
    }

    fn add_under(&mut self, parsed: &Parsed<'_>, key: &[u8], value: &[u8]) -> Result<()> {
        let foreign = self.foreign(key);
        let Some(unit) = self.units.last_mut() else { return Err(foreign) };
        match *parsed {
            Parsed::Measured { model, run, .. } if model == unit.model.id && self.store.has(&NodeId::run(run))? => {
                unit.measured.insert(key.to_vec(), Measured::decode(key, value)?.encode()?);
            }
            Parsed::Loose { owner, path } if owner == unit.model.owner() => {
                check_path(path)?;
                unit.under.insert(key.to_vec(), LooseFile::decode(key, value)?.encode()?);
            }
            _ => return Err(foreign),
        }
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
        let (units, links) = (std::mem::take(&mut self.units), std::mem::take(&mut self.links));
        self.n_bytes = 0;
        let (found, joined) = self.store.write("models of run", &self.run, Durability::Sync, |batch| {
            let mut joined = BTreeMap::new();
            let found = units.iter().map(|unit| self.plan(unit, &mut joined, batch)).collect::<Result<Vec<_>>>()?;
            self.plan_absent(&links, batch)?;
            Ok((found, joined))
        })?;
        imported.joined.extend(joined.into_values().filter_map(|(_, name)| name));
        for (unit, found) in units.into_iter().zip(found) {
            match found {
                Found::New => imported.n_models += 1,
                Found::There => {}
                Found::Other(differences) => {
                    imported.kept.push(Kept { what: "logged model", id: unit.model.id, differences });
                }
            }
        }
        Ok(())
    }

    fn plan(
        &self,
        unit: &Unit,
        joined: &mut BTreeMap<ExperimentId, (ExperimentId, Option<String>)>,
        batch: &mut Batch,
    ) -> Result<Found> {
        let key = unit.key();
        if self.store.get(&key)?.is_some() {
            let differences = self.differences(unit)?;
            if !differences.is_empty() {
                return Ok(Found::Other(differences));
            }
            self.plan_absent(&unit.measured, batch)?;
            return Ok(Found::There);
        }
        let experiment = unit.model.experiment;
        let experiment = match joined.get(&experiment) {
            Some((here, _)) => *here,
            None => {
                let arrived = self.experiments.get(&experiment);
                let arrived = arrived.ok_or_else(|| Error::corrupt(&key, "its experiment is not in the export"))?;
                joined.entry(experiment).or_insert(self.store.plan_joined(arrived, batch)?).0
            }
        };
        let model = LoggedModel { experiment, ..unit.model.clone() };
        batch.require_absent(&key);
        batch.put(&key, &model.encode()?);
        batch.put(&keys::logged_in(experiment, &model.id), &[]);
        self.store.plan_files_of(&unit.under, batch)?;
        for (key, value) in unit.under.iter().chain(&unit.measured) {
            batch.put(key, value);
        }
        Ok(Found::New)
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
    fn differences(&self, unit: &Unit) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        let here = self.store.logged_model(&unit.model.id)?;
        if identity(&here)? != unit.identity()? {
            differences.push("its own record (status, params, times)".to_owned());
        }
        let mut under = Entries::new();
        for entry in self.store.entries(&keys::loose(&unit.model.owner(), "")) {
            let (key, record) = entry?;
            under.insert(key, record);
        }
        for (name, tag) in [("files", tag::LOOSE)] {
            let of_tag = |entries: &Entries| -> Result<Entries> {
                let entries = entries.iter().filter(|(key, _)| key.first() == Some(&tag));
                entries.map(|(key, record)| Ok((key.clone(), timeless(key, record)?))).collect()
            };
            let (here, there) = (of_tag(&under)?, of_tag(&unit.under)?);
            if here != there {
                differences.push(match (here.len(), there.len()) {
                    (a, b) if a == b => format!("{name} (`{a}` on both sides, others)"),
                    (a, b) => format!("{name} (`{a}` here, `{b}` in the file)"),
                });
            }
        }
        Ok(differences)
    }
}

/// A record without when its file was written.
fn timeless(key: &[u8], record: &[u8]) -> Result<Vec<u8>> {
    if key.first() != Some(&tag::LOOSE) {
        return Ok(record.to_vec());
    }
    let LooseFile { n_bytes, digest, .. } = LooseFile::decode(key, record)?;
    Ok([n_bytes.to_be_bytes().as_slice(), digest.as_bytes()].concat())
}
