//! Taking names away: of versions, and aliases. The bytes go with the next collection.
//!
//! Invariants: a number is never given twice, so `name:v3` never comes to mean something else; what a front rests on is
//! not removed unless that is forced.

use std::collections::{BTreeMap, BTreeSet};

use tracker_engine::Durability;

use super::versions::{LATEST, check_name};
use super::{Version, gate};
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, RunId};
use crate::keys;
use crate::model::{Checkpoint, Dataset, Front};
use crate::reader::Entries;
use crate::records::Stored as _;
use crate::store::Store;

impl Store {
    /// Removes a version and the aliases that lead to it; `latest` then leads to the last that is left. Records of runs that
    /// name its files stay as they are. The bytes that no other version names go with the next [`Store::collect`].
    ///
    /// # Errors
    /// `Conflict` if a front needs its files, unless `force`; `NotFound` if it is not there; the engine's.
    pub fn remove_version(&self, version: &Version, force: bool) -> Result<()> {
        let name = version.name.as_str();
        if !force && let Some(front) = self.front_that_needs(version)? {
            let text = format!("{name}:v{}", version.number);
            return Err(Error::conflict("the use of artifact", text, "none by a front", &front.to_string()));
        }
        let key = keys::version(name, version.number);
        self.write("artifact", &name, Durability::Sync, |batch| {
            let saved = gate::saved(self)?;
            let record =
                self.get(&key)?.ok_or_else(|| Error::missing("artifact", format!("{name}:v{}", version.number)))?;
            // Nothing else is put under the name meanwhile.
            gate::require_saved(batch, &saved);
            batch.require_equals(&key, &record);
            batch.delete(&key);
            batch.delete(&keys::version_of(name, &Version::decode(&key, &record)?.manifest));
            let left = self.versions(name)?.into_iter().rev().find(|other| other.number != version.number);
            for (alias, number) in self.aliases(name)? {
                let key = keys::alias(name, &alias);
                match &left {
                    _ if number != version.number => {}
                    Some(last) if alias == LATEST => batch.put(&key, &last.number.to_be_bytes()),
                    _ => batch.delete(&key),
                }
            }
            if left.is_none_or(|last| last.number < version.number) {
                let next = self.next_number(name)?.max(version.number.saturating_add(1));
                batch.put(&keys::next_version(name), &next.to_be_bytes());
            }
            Ok(())
        })
    }

    /// Removes an alias. The version it led to stays.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is `latest`, which is the store's own.
    pub fn remove_alias(&self, name: &str, alias: &str) -> Result<()> {
        check_name(name)?;
        if alias == LATEST {
            return Err(Error::invalid("an alias to remove", "other than `latest`", alias));
        }
        let key = keys::alias(name, alias);
        self.write("alias", &alias, Durability::Sync, |batch| {
            let value = self.get(&key)?.ok_or_else(|| Error::missing("alias", format!("{name}:{alias}")))?;
            batch.require_equals(&key, &value);
            batch.delete(&key);
            Ok(())
        })
    }

    /// A front that would lose something if this version went: its points, or what they came from, have these files and no
    /// other version has them.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn front_that_needs(&self, version: &Version) -> Result<Option<NodeId>> {
        self.at_one_state(|store| {
            for entry in store.entries(&keys::all_versions()) {
                let (key, record) = entry?;
                let other = Version::decode(&key, &record)?;
                let is_same = (&other.name, other.number) == (&version.name, version.number);
                if !is_same && other.manifest == version.manifest {
                    return Ok(None);
                }
            }
            Ok(store.kept_by_fronts()?.get(&version.manifest).copied())
        })
    }

    /// The manifests that fronts need, each with one that does.
    fn kept_by_fronts(&self) -> Result<BTreeMap<Digest, NodeId>> {
        let mut kept = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for front in self.contents::<Front>() {
            let (front, _) = front?;
            let mut todo = vec![front];
            while let Some(node) = todo.pop() {
                if !seen.insert(node) {
                    continue;
                }
                todo.extend(self.ups_of(&node)?);
                if let Some(run) = node.owner().filter(|_| node.kind() == Kind::Run) {
                    // What a run made lies below it, and is what it has to show for its values.
                    todo.extend(self.made_by(run)?);
                }
                let key = keys::node(&node);
                let manifest = match (node.kind(), node.digest()) {
                    (Kind::Artifact, digest) => digest,
                    (Kind::Checkpoint, _) => self.get_value::<Checkpoint>(&key)?.map(|checkpoint| checkpoint.manifest),
                    (Kind::Dataset, _) => self.get_value::<Dataset>(&key)?.and_then(|dataset| dataset.rows),
                    _ => None,
                };
                if let Some(manifest) = manifest {
                    kept.entry(manifest).or_insert(front);
                }
            }
        }
        Ok(kept)
    }

    /// The checkpoints and artifacts a run recorded.
    fn made_by(&self, run: RunId) -> Result<Vec<NodeId>> {
        let mut made = Vec::new();
        for kind in [Kind::Checkpoint, Kind::Artifact] {
            for entry in Entries::prefix(self.read(), &keys::recorded_kind(run, kind)) {
                made.push(keys::recorded_at(&entry?.0)?);
            }
        }
        Ok(made)
    }
}
