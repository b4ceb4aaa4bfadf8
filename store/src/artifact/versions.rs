//! Names, versions and aliases of artifacts.

use std::collections::BTreeMap;

use tracker_engine::{Batch, Direction, Durability, KeyRange};

use super::{Draft, Manifest, Version, gate};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, RunId};
use crate::keys;
use crate::model::Content as _;
use crate::reader::Entries;
use crate::records::Stored as _;
use crate::store::Store;

/// The alias of the version that was put last.
pub(crate) const LATEST: &str = "latest";

impl Draft<'_> {
    /// Names what was added: a new version of `name`, or the one that has the same content already. `latest` and
    /// `aliases` then lead to it.
    ///
    /// # Errors
    /// `Invalid` if a name or an alias cannot be one, or there is no file; `NotFound` if there is no such run; `Contended` if
    /// a collection took what the files lean on, after which adding and saving them again succeeds; the store's.
    pub fn save(mut self, name: &str, aliases: &[&str], run: Option<RunId>) -> Result<Version> {
        check_name(name)?;
        aliases.iter().try_for_each(|alias| check_alias(alias))?;
        run.map(|run| self.store.run(run)).transpose()?;
        let manifest = self.manifest();
        if manifest.files.is_empty() {
            return Err(Error::invalid("an artifact", "a set of at least one file", name));
        }
        self.seal()?;
        self.store.write("artifact", &name, Durability::Sync, |batch| {
            gate::name(self.store, batch, &self.seen, self.sealed, self.used.iter())?;
            self.plan(batch)?;
            put_version(self.store, name, &manifest, run, aliases, batch)
        })
    }
}

/// Names files that are there, or on their way in the same batch: a new version of `name`, or the one that has the same content already.
pub(super) fn put_version(
    store: &Store,
    name: &str,
    manifest: &Manifest,
    run: Option<RunId>,
    aliases: &[&str],
    batch: &mut Batch,
) -> Result<Version> {
    let (digest, node) = (manifest.digest()?, manifest.node()?);
    batch.put(&keys::node(&node), &manifest.encode()?);
    if let Some(run) = run {
        batch.put(&keys::recorded(run, &node), &[]);
    }
    let version = if let Some(version) = store.version_of(name, &digest)? {
        // It may be removed just now.
        batch.require_equals(&keys::version(name, version.number), &version.encode()?);
        version
    } else {
        let number = store.next_number(name)?;
        let version = Version { name: name.to_owned(), number, manifest: digest, created: Timestamp::now(), run };
        let key = keys::version(name, number);
        batch.require_absent(&key);
        batch.put(&key, &version.encode()?);
        batch.put(&keys::version_of(name, &digest), &number.to_be_bytes());
        version
    };
    for alias in aliases.iter().copied().chain([LATEST]) {
        batch.put(&keys::alias(name, alias), &version.number.to_be_bytes());
    }
    Ok(version)
}

impl Store {
    /// The version that `name`, `name:v3` or `name:alias` names; `name` alone is `name:latest`.
    ///
    /// # Errors
    /// `NotFound`, with the aliases there are.
    pub fn artifact(&self, text: &str) -> Result<Version> {
        let (name, alias) = text.rsplit_once(':').unwrap_or((text, LATEST));
        let number = match alias.strip_prefix('v').and_then(|digits| digits.parse().ok()) {
            Some(number) => Some(number),
            None => self.get(&keys::alias(name, alias))?.map(|value| number_at(name, value)).transpose()?,
        };
        let version = number.map(|number| self.get_value(&keys::version(name, number))).transpose()?.flatten();
        version.map_or_else(|| Err(self.no_artifact(text, name)?), Ok)
    }

    /// What the files of a version are.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`.
    pub fn manifest(&self, version: &Version) -> Result<Manifest> {
        self.content(version.manifest)
    }

    /// The last version of every artifact, by name.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn artifacts(&self) -> Result<Vec<Version>> {
        let mut last: BTreeMap<String, Version> = BTreeMap::new();
        for entry in self.entries(&keys::all_versions()) {
            let (key, record) = entry?;
            let version = Version::decode(&key, &record)?;
            last.insert(version.name.clone(), version);
        }
        Ok(last.into_values().collect())
    }

    /// Every version of `name`, oldest first.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let versions = self.entries(&keys::versions(name));
        versions.map(|entry| entry.and_then(|(key, record)| Version::decode(&key, &record))).collect()
    }

    /// The versions that a run put, by name and number.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn versions_of_run(&self, run: RunId) -> Result<Vec<Version>> {
        // Most runs have none, and are not looked for among the versions of all.
        if self.entries(&keys::recorded_kind(run, Kind::Artifact)).next().transpose()?.is_none() {
            return Ok(Vec::new());
        }
        let versions = self
            .entries(&keys::all_versions())
            .map(|entry| entry.and_then(|(key, record)| Version::decode(&key, &record)));
        versions.filter(|version| version.as_ref().map_or(true, |version| version.run == Some(run))).collect()
    }

    /// The aliases of `name` with the number of the version each leads to.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn aliases(&self, name: &str) -> Result<BTreeMap<String, u32>> {
        let prefix = keys::aliases(name);
        self.entries(&prefix)
            .map(|entry| {
                let (key, value) = entry?;
                let alias = key.get(prefix.len()..).and_then(|alias| std::str::from_utf8(alias).ok());
                let alias = alias.ok_or_else(|| Error::corrupt(&key, "expected an alias in the key"))?;
                Ok((alias.to_owned(), number_at(name, value)?))
            })
            .collect()
    }

    pub(super) fn version_of(&self, name: &str, manifest: &Digest) -> Result<Option<Version>> {
        let Some(value) = self.get(&keys::version_of(name, manifest))? else {
            return Ok(None);
        };
        self.get_value(&keys::version(name, number_at(name, value)?))
    }

    /// The number of the next version of `name`: past the last, and past any that was removed.
    pub(super) fn next_number(&self, name: &str) -> Result<u32> {
        let past_last = self.last_version(name)?.map_or(0, |last| last.number + 1);
        let past_removed = self.get(&keys::next_version(name))?.map(|value| number_at(name, value)).transpose()?;
        Ok(past_last.max(past_removed.unwrap_or(0)))
    }

    fn last_version(&self, name: &str) -> Result<Option<Version>> {
        let prefix = keys::versions(name);
        let mut versions = Entries::new(self.read(), &KeyRange::prefix(&prefix), Direction::Descending);
        versions.next().map(|entry| entry.and_then(|(key, record)| Version::decode(&key, &record))).transpose()
    }

    fn no_artifact(&self, text: &str, name: &str) -> Result<Error> {
        let aliases: Vec<String> = self.aliases(name)?.into_keys().collect();
        let hint = if aliases.is_empty() {
            let names: Vec<String> = self.artifacts()?.into_iter().map(|version| version.name).collect();
            crate::resolve::nearest(name, names.iter().map(String::as_str))
        } else {
            format!("`{name}` has {}", aliases.join(", "))
        };
        Ok(Error::NotFound { what: "artifact", name: text.to_owned(), hint })
    }
}

fn number_at(name: &str, value: Vec<u8>) -> Result<u32> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Error::corrupt(&keys::versions(name), "expected four bytes"))
}

pub(super) fn check_name(name: &str) -> Result<()> {
    keys::check_text("the name of an artifact", name)?;
    if name.contains(':') {
        return Err(Error::invalid("the name of an artifact", "a text without `:`", name));
    }
    Ok(())
}

/// `latest` and `v` with a number are the store's own.
pub(super) fn check_alias(alias: &str) -> Result<()> {
    keys::check_text("an alias", alias)?;
    let is_number = alias.strip_prefix('v').is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    if alias.contains(':') || alias == LATEST || is_number {
        return Err(Error::invalid("an alias", "a text without `:`, other than `latest` and `v` with a number", alias));
    }
    Ok(())
}
