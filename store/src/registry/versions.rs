//! Registered models and their versions.

use std::collections::BTreeMap;

use tracker_engine::{Batch, Durability};

use super::put_model;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, RunId};
use crate::keys;
use crate::model::{Edge, ModelVersion, RegisteredModel, Relation};
use crate::recording::Recording;
use crate::records::Stored as _;
use crate::store::Store;

/// What a version of a registered model is made of before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewModelVersion {
    /// The name of the registered model.
    pub name: String,
    /// What it is, in words.
    pub description: String,
    /// Where its files come from, as a URI.
    pub source: String,
    /// The owner and the folder of those files, if they are in this store.
    pub files: Option<(String, String)>,
    /// The run it comes from, if one is known.
    pub run: Option<RunId>,
    /// A link to that run.
    pub run_link: String,
    /// The logged model it is; may be empty.
    pub model: String,
    /// Free text by key.
    pub tags: BTreeMap<String, String>,
}

impl Store {
    /// Makes a name under which versions are kept.
    ///
    /// # Errors
    /// `Conflict` if there is one; `Invalid` if the name cannot be one.
    pub fn register_model(
        &self,
        name: &str,
        description: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<RegisteredModel> {
        keys::check_text("model name", name)?;
        let now = Timestamp::now();
        let model = RegisteredModel {
            name: name.to_owned(),
            created: now,
            updated: now,
            description: description.to_owned(),
            tags: tags.clone(),
            aliases: BTreeMap::new(),
            next: 1,
        };
        self.write("model", &name, Durability::Os, |batch| {
            let key = keys::registered(name);
            if self.get(&key)?.is_some() {
                return Err(Error::conflict("model", name, "absent", "another of that name"));
            }
            batch.require_absent(&key);
            batch.put(&key, &model.encode()?);
            Ok(())
        })?;
        Ok(model)
    }

    /// The registered model of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn registered_model(&self, name: &str) -> Result<RegisteredModel> {
        self.get_value(&keys::registered(name))?.ok_or_else(|| Error::missing("registered model", name))
    }

    /// Every registered model by name, after `after` if given.
    pub fn registered_models(&self, after: Option<&str>) -> impl Iterator<Item = Result<RegisteredModel>> + use<> {
        let direction = tracker_engine::Direction::Ascending;
        let span = crate::reader::Span::prefix(&keys::registered(""));
        let span = match after {
            Some(name) => span.past(&keys::registered(name), direction),
            None => span,
        };
        crate::reader::Entries::over(self.read(), span, direction)
            .map(|entry| entry.and_then(|(key, record)| RegisteredModel::decode(&key, &record)))
    }

    /// Changes description, tags and aliases of a registered model. What else `change` does is not kept.
    ///
    /// # Errors
    /// `NotFound`; the errors of `change`, and then nothing is changed.
    pub fn change_registered(
        &self,
        name: &str,
        change: impl Fn(&mut RegisteredModel) -> Result<()>,
    ) -> Result<RegisteredModel> {
        self.write("model", &name, Durability::Os, |batch| {
            let (before, record) = self.registered_record(name)?;
            let mut after = before.clone();
            change(&mut after)?;
            let (description, tags, aliases) = (after.description, after.tags, after.aliases);
            put_registered(&record, RegisteredModel { description, tags, aliases, ..before }, batch)
        })
    }

    /// Gives a registered model and its versions another name, at once.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if another has the new name; `Invalid` if that cannot be one.
    pub fn rename_registered(&self, name: &str, new_name: &str) -> Result<RegisteredModel> {
        keys::check_text("model name", new_name)?;
        self.write("model", &name, Durability::Os, |batch| {
            let (before, record) = self.registered_record(name)?;
            let key = keys::registered(new_name);
            if self.get(&key)?.is_some() {
                return Err(Error::conflict("model", new_name, "absent", "another of that name"));
            }
            let now = Timestamp::now();
            let after = RegisteredModel { name: new_name.to_owned(), updated: now, ..before };
            batch.require_absent(&key);
            batch.require_equals(&keys::registered(name), &record);
            batch.delete(&keys::registered(name));
            batch.put(&key, &after.encode()?);
            for version in self.model_versions(name)? {
                batch.delete(&keys::model_version(name, version.number));
                let version = ModelVersion { name: new_name.to_owned(), updated: now, ..version };
                batch.put(&keys::model_version(new_name, version.number), &version.encode()?);
            }
            Ok(after)
        })
    }

    /// Removes a registered model with all its versions. The artifacts they are stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_registered(&self, name: &str) -> Result<()> {
        self.write("model", &name, Durability::Os, |batch| {
            let (_, record) = self.registered_record(name)?;
            batch.require_equals(&keys::registered(name), &record);
            batch.delete(&keys::registered(name));
            for version in self.model_versions(name)? {
                batch.delete(&keys::model_version(name, version.number));
            }
            Ok(())
        })
    }

    /// Makes a version of a registered model. If its files are in this store, they become a version of the artifact `registry/NAME`, derived
    /// from its run. The logged model it is, if it is one, says so in a tag.
    ///
    /// # Errors
    /// `NotFound` if there is no such registered or logged model.
    pub fn create_model_version(&self, new: &NewModelVersion) -> Result<ModelVersion> {
        self.write("model", &new.name, Durability::Os, |batch| {
            let (before, record) = self.registered_record(&new.name)?;
            let (number, now) = (before.next, Timestamp::now());
            let manifest = match &new.files {
                Some((owner, folder)) => {
                    let name = format!("registry/{}", new.name);
                    let version = self.plan_version_of_loose(owner, folder, &name, new.run, batch)?;
                    version.map(|version| version.manifest)
                }
                None => None,
            };
            if let (Some(manifest), Some(run)) = (manifest, new.run) {
                self.plan_origin(manifest, run, batch)?;
            }
            let version = ModelVersion {
                name: new.name.clone(),
                number,
                created: now,
                updated: now,
                description: new.description.clone(),
                stage: "None".to_owned(),
                source: new.source.clone(),
                run: new.run,
                run_link: new.run_link.clone(),
                model: new.model.clone(),
                tags: new.tags.clone(),
                manifest,
            };
            let key = keys::model_version(&new.name, number);
            batch.require_absent(&key);
            batch.put(&key, &version.encode()?);
            if !new.model.is_empty() {
                let (mut logged, record) = self.model_record(&new.model)?;
                logged.note_version(&new.name, number);
                put_model(&record, logged, batch)?;
            }
            let next = number.checked_add(1).ok_or_else(|| Error::invalid("a version", "one with a next", number))?;
            put_registered(&record, RegisteredModel { next, ..before }, batch)?;
            Ok(version)
        })
    }

    fn plan_origin(&self, manifest: Digest, run: RunId, batch: &mut Batch) -> Result<()> {
        let node = NodeId::content_of(Kind::Artifact, manifest);
        let mut edges = Recording::new();
        edges.put_edge(run, &Edge::new(node, Relation::DerivedFrom, NodeId::run(run)))?;
        self.plan(&edges, batch)
    }

    /// One version of a registered model.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn model_version(&self, name: &str, number: u32) -> Result<ModelVersion> {
        let version = self.get_value(&keys::model_version(name, number))?;
        version.ok_or_else(|| Error::missing("model version", format!("{name}/{number}")))
    }

    /// Every version of a registered model, oldest first.
    ///
    /// # Errors
    /// The engine's; `Corrupt`.
    pub fn model_versions(&self, name: &str) -> Result<Vec<ModelVersion>> {
        let entries = self.entries(&keys::model_versions(name));
        entries.map(|entry| entry.and_then(|(key, record)| ModelVersion::decode(&key, &record))).collect()
    }

    /// Every version of every registered model, by name and number.
    pub fn every_model_version(&self) -> impl Iterator<Item = Result<ModelVersion>> + use<> {
        self.entries(&keys::every_model_version())
            .map(|entry| entry.and_then(|(key, record)| ModelVersion::decode(&key, &record)))
    }

    /// Changes description, stage and tags of versions of one registered model, at once: `change` is asked of each, and says whether it
    /// changed it. What else it does is not kept.
    ///
    /// # Errors
    /// `NotFound` if there is no such registered model.
    pub fn change_versions(&self, name: &str, change: impl Fn(&mut ModelVersion) -> bool) -> Result<()> {
        self.write("model", &name, Durability::Os, |batch| {
            let (model, record) = self.registered_record(name)?;
            for before in self.model_versions(name)? {
                let mut after = before.clone();
                if !change(&mut after) {
                    continue;
                }
                let key = keys::model_version(name, before.number);
                batch.require_equals(&key, &before.encode()?);
                let (description, stage, tags) = (after.description, after.stage, after.tags);
                let after = ModelVersion { description, stage, tags, updated: Timestamp::now(), ..before };
                batch.put(&key, &after.encode()?);
            }
            put_registered(&record, model, batch).map(drop)
        })
    }

    /// Removes a version of a registered model, and the aliases that lead to it. The artifact it is stays.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_model_version(&self, name: &str, number: u32) -> Result<()> {
        self.write("model", &name, Durability::Os, |batch| {
            let (mut model, record) = self.registered_record(name)?;
            self.model_version(name, number)?;
            model.aliases.retain(|_, leads| *leads != number);
            batch.delete(&keys::model_version(name, number));
            put_registered(&record, model, batch).map(drop)
        })
    }

    fn registered_record(&self, name: &str) -> Result<(RegisteredModel, Vec<u8>)> {
        let key = keys::registered(name);
        let record = self.get(&key)?.ok_or_else(|| Error::missing("registered model", name))?;
        Ok((RegisteredModel::decode(&key, &record)?, record))
    }
}

/// Puts a changed registered model in place of `record`.
fn put_registered(record: &[u8], model: RegisteredModel, batch: &mut Batch) -> Result<RegisteredModel> {
    let key = keys::registered(&model.name);
    let model = RegisteredModel { updated: Timestamp::now(), ..model };
    batch.require_equals(&key, record);
    batch.put(&key, &model.encode()?);
    Ok(model)
}
