//! What clients logged beside runs, and the run in whose part of an export it goes.
//!
//! A logged model goes with the run that made it; one that no run made, with the first run that gave or took it. A trace goes with the run
//! that its metadata name; one of no run stays behind.

use std::collections::{BTreeMap, BTreeSet};

use super::closure::Closure;
use super::export::Part;
use super::import::{UNFINISHED, check_finished};
use crate::error::Result;
use crate::id::{Digest, ExperimentId, Kind, NodeId, RunId};
use crate::keys::{self, Parsed};
use crate::model::{LoggedModel, ModelVersion, Trace};
use crate::records::Stored as _;
use crate::store::Store;

/// What of it comes along with the runs of a closure.
pub(super) struct Logged {
    runs: BTreeSet<RunId>,
    /// The artifacts that come along.
    manifests: BTreeSet<Digest>,
    /// The ids of logged models, by the run in whose part they go.
    models: BTreeMap<RunId, Vec<String>>,
    every_model: BTreeSet<String>,
    /// The ids of traces, by their run.
    traces: BTreeMap<RunId, Vec<String>>,
}

impl Logged {
    pub(super) fn of(store: &Store, closure: &Closure) -> Result<Self> {
        let runs: BTreeSet<RunId> = closure.runs.keys().copied().collect();
        let contents = closure.runs.values().flatten().filter(|node| node.kind() == Kind::Artifact);
        let manifests = contents.filter_map(NodeId::digest).collect();
        let mut linked: BTreeMap<String, RunId> = BTreeMap::new();
        for run in &runs {
            for (_, model, _) in store.model_links(*run)? {
                linked.entry(model).or_insert(*run);
            }
        }
        let (mut models, mut every_model): (BTreeMap<RunId, Vec<String>>, _) = (BTreeMap::new(), BTreeSet::new());
        for entry in store.entries(&keys::every_logged()) {
            let (key, record) = entry?;
            let model = LoggedModel::decode(&key, &record)?;
            let home = match model.run {
                Some(run) => runs.get(&run),
                None => linked.get(&model.id),
            };
            if let Some(home) = home {
                check_finished("logged model", &model.id, model.tags.contains_key(UNFINISHED))?;
                every_model.insert(model.id.clone());
                models.entry(*home).or_default().push(model.id);
            }
        }
        let mut traces: BTreeMap<RunId, Vec<String>> = BTreeMap::new();
        for entry in store.entries(&keys::every_trace()) {
            let (key, record) = entry?;
            let trace = Trace::decode(&key, &record)?;
            if let Some(run) = trace.run().filter(|run| runs.contains(run)) {
                check_finished("trace", &trace.id, trace.tags.contains_key(UNFINISHED))?;
                traces.entry(run).or_default().push(trace.id);
            }
        }
        Ok(Self { runs, manifests, models, every_model, traces })
    }

    /// Adds what goes in the part of its run, experiments that were not written yet before it, and digests of loose files to `files`.
    pub(super) fn write(
        &self,
        part: &mut Part<'_, '_, '_>,
        experiments: &mut BTreeSet<ExperimentId>,
        files: &mut Vec<Digest>,
    ) -> Result<()> {
        for id in self.models.get(&part.id).into_iter().flatten() {
            self.write_model(id, part, experiments, files)?;
        }
        for entry in part.store.entries(&keys::model_links(part.id)) {
            let (key, step) = entry?;
            if matches!(keys::parse(&key), Some(Parsed::ModelLink { model, .. }) if self.every_model.contains(model)) {
                part.push(&key, &step)?;
            }
        }
        for id in self.traces.get(&part.id).into_iter().flatten() {
            let trace = part.store.trace(id)?;
            if experiments.insert(trace.experiment) {
                part.one(&keys::experiment(trace.experiment))?;
            }
            part.one(&keys::trace(id))?;
            for prefix in [keys::spans(id), keys::assessments(id)] {
                part.all(&prefix)?;
            }
            part.loose(&trace.owner(), files)?;
        }
        Ok(())
    }

    fn write_model(
        &self,
        id: &str,
        part: &mut Part<'_, '_, '_>,
        experiments: &mut BTreeSet<ExperimentId>,
        files: &mut Vec<Digest>,
    ) -> Result<()> {
        let model = self.trimmed(part.store.logged_model(id)?);
        if experiments.insert(model.experiment) {
            part.one(&keys::experiment(model.experiment))?;
        }
        part.push(&keys::logged(id), &model.encode()?)?;
        for entry in part.store.entries(&keys::measured_of(id)) {
            let (key, record) = entry?;
            if matches!(keys::parse(&key), Some(Parsed::Measured { run, .. }) if self.runs.contains(&run)) {
                part.push(&key, &record)?;
            }
        }
        part.loose(&model.owner(), files)
    }

    /// A model without the runs and the artifact that do not come along.
    fn trimmed(&self, mut model: LoggedModel) -> LoggedModel {
        model.takers.retain(|run| self.runs.contains(run));
        model.manifest = model.manifest.filter(|manifest| self.manifests.contains(manifest));
        model
    }

    /// A version of a registered model, if its run or its logged model comes along, without what does not.
    pub(super) fn version(&self, mut version: ModelVersion) -> Option<ModelVersion> {
        version.run = version.run.filter(|run| self.runs.contains(run));
        version.manifest = version.manifest.filter(|manifest| self.manifests.contains(manifest));
        if !self.every_model.contains(&version.model) {
            version.model.clear();
        }
        (version.run.is_some() || !version.model.is_empty()).then_some(version)
    }
}
