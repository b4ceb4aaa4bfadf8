//! Registered models in exports: the versions whose run or logged model comes along, under the name they have.
//!
//! Invariants: a version is the same as one here if it was made at the same time from the same source; what is here stays as it is. A
//! number leads to one version: where another has it, the one that comes gets the next.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use tracker_engine::{Batch, Durability};

use super::import::{FLUSH_BYTES, Imported};
use super::logged::Logged;
use crate::artifact::Renumbered;
use crate::bundle::{Cutter, Sink};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::keys::{self, Parsed};
use crate::model::{LoggedModel, ModelVersion, RegisteredModel};
use crate::records::Stored as _;
use crate::store::Store;

/// Adds the last part of an export, which is of no run.
pub(super) fn write(store: &Store, logged: &Logged, sink: &mut Sink<'_>) -> Result<()> {
    let mut versions: BTreeMap<String, Vec<ModelVersion>> = BTreeMap::new();
    for version in store.every_model_version() {
        if let Some(version) = logged.version(version?) {
            versions.entry(version.name.clone()).or_default().push(version);
        }
    }
    let mut cutter = Cutter::default();
    for (name, versions) in &versions {
        let mut model = store.registered_model(name)?;
        model.aliases.retain(|_, leads| versions.iter().any(|version| version.number == *leads));
        let mut entries = vec![(keys::registered(name), model.encode()?)];
        for version in versions {
            entries.push((keys::model_version(name, version.number), version.encode()?));
        }
        for (key, record) in entries {
            if let Some(chunk) = cutter.push(&key, &record) {
                sink.chunk(&chunk, None)?;
            }
        }
    }
    cutter.cut().map_or(Ok(()), |chunk| sink.chunk(&chunk, None))
}

/// Numbers of versions in an export are below this, so that there are more for those that are renumbered.
const MAX_NUMBER: u32 = 1 << 31;

/// What an export has of registered models.
#[derive(Default)]
pub(super) struct Registry {
    models: BTreeMap<String, RegisteredModel>,
    versions: Vec<ModelVersion>,
}

impl Registry {
    /// Stages an entry.
    ///
    /// # Errors
    /// `Corrupt` if it is not what its key says, or comes twice; `Invalid` if a name cannot be one.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let foreign = || Error::corrupt(key, "it does not belong in the part of registered models");
        match keys::parse(key) {
            Some(Parsed::Registered(name)) => {
                let model = RegisteredModel::decode(key, value)?;
                if model.name != name || model.next > MAX_NUMBER || self.models.contains_key(name) {
                    return Err(foreign());
                }
                keys::check_text("model name", name)?;
                self.models.insert(model.name.clone(), model);
            }
            Some(Parsed::ModelVersion { name, number }) => {
                let version = ModelVersion::decode(key, value)?;
                let is_whole = version.name == name && version.number == number && (1..MAX_NUMBER).contains(&number);
                let is_next =
                    self.versions.last().is_none_or(|last| (last.name.as_str(), last.number) < (name, number));
                if !is_whole || !is_next || !self.models.contains_key(name) {
                    return Err(foreign());
                }
                self.versions.push(version);
            }
            _ => return Err(foreign()),
        }
        Ok(())
    }

    /// Takes in the versions that are not here, oldest first: a later one may name an earlier one as its source.
    pub(super) fn import(mut self, store: &Store, imported: &mut Imported) -> Result<()> {
        self.versions.sort_by(|a, b| (a.created, &a.name, a.number).cmp(&(b.created, &b.name, b.number)));
        let mut settled = Settled::default();
        let mut rest = self.versions.as_slice();
        while !rest.is_empty() {
            let (n, now, put) = store.write("model", &"of an import", Durability::Sync, |batch| {
                let mut plan = Plan::new(store, &self.models, settled.clone());
                let mut n = 0;
                while plan.n_bytes <= FLUSH_BYTES
                    && let Some(version) = rest.get(n)
                {
                    plan.add(version)?;
                    n += 1;
                }
                let (settled, put) = plan.finish(batch)?;
                Ok((n, settled, put))
            })?;
            settled = now;
            imported.n_model_versions += put.len() as u64;
            imported.renumbered_models.extend(put.into_iter().filter(|version| version.from != version.to));
            rest = &rest[n..];
        }
        Ok(())
    }
}

/// About how many bytes of a commit a version takes.
fn size(version: &ModelVersion) -> usize {
    let ModelVersion { name, description, stage, source, run_link, model, .. } = version;
    let texts: usize = [name, description, stage, source, run_link, model].iter().map(|text| text.len()).sum();
    let tags: usize = version.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    200 + 2 * name.len() + texts + tags
}

/// Which versions of an export are which here.
#[derive(Clone, Default)]
struct Settled {
    /// Numbers here, by name and number in the export.
    numbers: BTreeMap<(String, u32), u32>,
    /// Versions here that one of the export is.
    taken: BTreeSet<(String, u32)>,
}

/// A registered model as it will be.
struct Name {
    model: RegisteredModel,
    /// Its record now, if it is here.
    record: Option<Vec<u8>>,
    versions: Vec<ModelVersion>,
    /// The numbers of those, and of the ones that are put.
    given: BTreeSet<u32>,
    is_changed: bool,
}

/// Versions on their way in, in one commit.
struct Plan<'a> {
    store: &'a Store,
    arrived: &'a BTreeMap<String, RegisteredModel>,
    settled: Settled,
    names: BTreeMap<String, Name>,
    put: Vec<(u32, ModelVersion)>,
    /// Logged models whose tag of versions changes.
    noted: BTreeMap<String, Noted>,
    /// About how many bytes the commit has so far.
    n_bytes: usize,
}

/// A logged model that some of the versions are.
struct Noted {
    model: LoggedModel,
    /// Its record now.
    record: Vec<u8>,
    /// Those versions: name, number in the export, number here.
    versions: Vec<(String, u32, u32)>,
}

impl<'a> Plan<'a> {
    fn new(store: &'a Store, arrived: &'a BTreeMap<String, RegisteredModel>, settled: Settled) -> Self {
        let (names, noted) = (BTreeMap::new(), BTreeMap::new());
        Self { store, arrived, settled, names, put: Vec::new(), noted, n_bytes: 0 }
    }

    fn add(&mut self, version: &ModelVersion) -> Result<()> {
        let version = ModelVersion { source: self.source(&version.source), ..version.clone() };
        let (name, from) = (version.name.clone(), version.number);
        let key = keys::registered(&name);
        let arrived =
            self.arrived.get(&name).ok_or_else(|| Error::corrupt(&key, "the registered model is not there"))?;
        let mut of_name = if let Some(of_name) = self.names.remove(&name) {
            of_name
        } else {
            let of_name = Name::of(self.store, arrived)?;
            self.n_bytes += of_name.model.encode()?.len();
            of_name
        };
        let is_same = |here: &&ModelVersion| {
            here.created == version.created
                && here.source == version.source
                && here.run_link == version.run_link
                && !self.settled.taken.contains(&(name.clone(), here.number))
        };
        let same = of_name.versions.iter().filter(is_same).min_by_key(|here| (here.number != from, here.number));
        let to = if let Some(same) = same {
            same.number
        } else {
            let to = of_name.give(from, arrived)?;
            let version = ModelVersion { number: to, ..version };
            self.note(&version, from)?;
            self.n_bytes += size(&version);
            self.put.push((from, version));
            to
        };
        self.names.insert(name.clone(), of_name);
        self.settled.taken.insert((name.clone(), to));
        self.settled.numbers.insert((name, from), to);
        Ok(())
    }

    /// A source that names a version by its number, by the number that has here.
    fn source(&self, source: &str) -> String {
        let named = source.strip_prefix("models:/").and_then(|rest| rest.trim_matches('/').rsplit_once('/'));
        let version = named.and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
        match version.and_then(|version| Some((self.settled.numbers.get(&version)?, version))) {
            Some((to, (name, from))) if *to != from => format!("models:/{name}/{to}"),
            _ => source.to_owned(),
        }
    }

    /// Lets the logged model that a version is name it by its number here.
    fn note(&mut self, version: &ModelVersion, from: u32) -> Result<()> {
        let key = keys::logged(&version.model);
        let noted = match self.noted.entry(version.model.clone()) {
            Entry::Occupied(noted) => noted.into_mut(),
            Entry::Vacant(vacant) => {
                let Some(record) = self.store.get(&key)? else { return Ok(()) };
                self.n_bytes += key.len() + record.len();
                let model = LoggedModel::decode(&key, &record)?;
                vacant.insert(Noted { model, record, versions: Vec::new() })
            }
        };
        noted.versions.push((version.name.clone(), from, version.number));
        Ok(())
    }

    fn finish(self, batch: &mut Batch) -> Result<(Settled, Vec<Renumbered>)> {
        for (name, Name { model, record, .. }) in self.names.iter().filter(|(_, name)| name.is_changed) {
            let key = keys::registered(name);
            match record {
                Some(record) => batch.require_equals(&key, record),
                None => batch.require_absent(&key),
            }
            batch.put(&key, &model.encode()?);
        }
        for Noted { model, record, versions } in self.noted.values() {
            let after = renumbered(self.store, model, versions)?.encode()?;
            if after != *record {
                let key = keys::logged(&model.id);
                batch.require_equals(&key, record);
                batch.put(&key, &after);
            }
        }
        let mut put = Vec::new();
        for (from, version) in self.put {
            let key = keys::model_version(&version.name, version.number);
            batch.require_absent(&key);
            batch.put(&key, &version.encode()?);
            put.push(Renumbered { name: version.name, from, to: version.number });
        }
        Ok((self.settled, put))
    }
}

/// A logged model that names the versions it is by their numbers here. Numbers it has in the export are forgotten before any is noted: one
/// may be the number here of another.
fn renumbered(store: &Store, model: &LoggedModel, versions: &[(String, u32, u32)]) -> Result<LoggedModel> {
    let mut model = model.clone();
    for (name, from, _) in versions.iter().filter(|(_, from, to)| from != to) {
        let here: Option<ModelVersion> = store.get_value(&keys::model_version(name, *from))?;
        if here.is_none_or(|here| here.model != model.id) {
            model.forget_version(name, *from);
        }
    }
    for (name, _, to) in versions {
        model.note_version(name, *to);
    }
    Ok(model)
}

impl Name {
    fn of(store: &Store, arrived: &RegisteredModel) -> Result<Self> {
        let key = keys::registered(&arrived.name);
        let record = store.get(&key)?;
        let model = match &record {
            Some(record) => RegisteredModel { updated: Timestamp::now(), ..RegisteredModel::decode(&key, record)? },
            None => RegisteredModel { aliases: BTreeMap::new(), ..arrived.clone() },
        };
        let versions = store.model_versions(&arrived.name)?;
        let given = versions.iter().map(|version| version.number).collect();
        Ok(Self { model, record, versions, given, is_changed: false })
    }

    /// Gives a number to a version that is not here: its own if that is free, else the next. Aliases that lead to it go along.
    fn give(&mut self, from: u32, arrived: &RegisteredModel) -> Result<u32> {
        let to = if self.given.contains(&from) { self.model.next } else { from };
        let next = to.checked_add(1).ok_or_else(|| Error::invalid("a version", "one with a next", to))?;
        self.model.next = self.model.next.max(next);
        for alias in arrived.aliases.iter().filter(|(_, leads)| **leads == from).map(|(alias, _)| alias) {
            self.model.aliases.entry(alias.clone()).or_insert(to);
        }
        self.given.insert(to);
        self.is_changed = true;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(name: &str, number: u32) -> ModelVersion {
        ModelVersion {
            name: name.to_owned(),
            number,
            created: Timestamp::now(),
            updated: Timestamp::now(),
            description: String::new(),
            stage: "None".to_owned(),
            source: String::new(),
            run: None,
            run_link: String::new(),
            model: String::new(),
            tags: BTreeMap::new(),
            manifest: None,
        }
    }

    #[test]
    fn a_version_without_its_registered_model_or_a_number_is_refused() {
        let store = Store::memory().unwrap();
        let model = store.register_model("m", "", &BTreeMap::new()).unwrap();
        let mut registry = Registry::default();
        let put = |registry: &mut Registry, number, version: &ModelVersion| {
            registry.add(&keys::model_version("m", number), &version.encode().unwrap())
        };
        assert!(put(&mut registry, 1, &version("m", 1)).is_err(), "no model came before");
        assert!(registry.add(&keys::registered("n"), &model.encode().unwrap()).is_err());
        registry.add(&keys::registered("m"), &model.encode().unwrap()).unwrap();
        assert!(put(&mut registry, 0, &version("m", 0)).is_err());
        assert!(put(&mut registry, 2, &version("m", 1)).is_err());
        for number in [u32::MAX, MAX_NUMBER] {
            assert!(put(&mut registry, number, &version("m", number)).is_err(), "{number} leaves no next");
        }
        put(&mut registry, 1, &version("m", 1)).unwrap();
        assert!(put(&mut registry, 1, &version("m", 1)).is_err(), "twice");
        assert!(registry.add(&keys::registered("m"), &model.encode().unwrap()).is_err(), "twice");
        registry.import(&store, &mut Imported::default()).unwrap();
    }

    #[test]
    fn many_versions_are_told_apart_and_put_in_several_commits() {
        let (from, to) = (Store::memory().unwrap(), Store::memory().unwrap());
        let model = from.register_model("m", "", &BTreeMap::new()).unwrap();
        // All made at once, from one source; the largest are as large as clients may make them.
        let (created, tags) = (Timestamp::now(), BTreeMap::from([("key".to_owned(), "x".repeat(1 << 20))]));
        let all: Vec<ModelVersion> =
            (1..=20).map(|number| ModelVersion { created, tags: tags.clone(), ..version("m", number) }).collect();
        for n_new in [20, 0] {
            let mut registry = Registry::default();
            registry.add(&keys::registered("m"), &model.encode().unwrap()).unwrap();
            for version in &all {
                registry.add(&keys::model_version("m", version.number), &version.encode().unwrap()).unwrap();
            }
            let mut imported = Imported::default();
            registry.import(&to, &mut imported).unwrap();
            assert_eq!((imported.n_model_versions, imported.renumbered_models.len()), (n_new, 0));
            assert!(to.model_versions("m").unwrap() == all);
        }
    }

    proptest! {
        #[test]
        fn no_entry_panics(tag in 0x53_u8..0x55, key in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Registry::default().add(&[&[tag], key.as_slice()].concat(), &[&[1, 1], value.as_slice()].concat()));
        }
    }
}
