//! What is in an export and where, found and judged before anything of it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::part::Part;
use super::registry::Registry;
use super::unit::{Entry, Head, is_of_unit};
use crate::artifact::versions::LATEST;
use crate::artifact::{LooseFile, OurName, PackId};
use crate::bundle::{Bundle, ChunkLine, Line, PackLine, Visit, entries_of};
use crate::error::{Error, Result};
use crate::id::{Digest, ExperimentId, NodeId, RunId};
use crate::keys::{self, Parsed, tag};
use crate::model::{Experiment, Run};
use crate::records::Stored as _;
use crate::store::Store;

/// An export, surveyed.
pub(super) struct Parts<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) chunks: BTreeMap<RunId, Vec<ChunkLine>>,
    pub(super) packs: BTreeMap<PackId, PackLine>,
    pub(super) names: BTreeMap<String, OurName>,
    pub(super) experiments: BTreeMap<ExperimentId, Experiment>,
    /// The chunks with entries of logged models and traces.
    pub(super) with_units: BTreeSet<Digest>,
    /// What is of no run: registered models.
    pub(super) registry: Registry,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// `Corrupt`, `CorruptFile`, `Invalid` with what cannot be taken in: an experiment, a logged model, a trace or a registered model that is
    /// not what its key says, comes twice, or leans on what is neither in the export nor in `store`.
    pub(super) fn of(bundle: &'a Bundle, store: &Store) -> Result<Self> {
        let (mut chunks, mut packs): (BTreeMap<RunId, Vec<ChunkLine>>, _) = (BTreeMap::new(), BTreeMap::new());
        let mut of_no_run = Vec::new();
        for line in bundle.lines()? {
            match line {
                Line::Chunk(line) => match line.run {
                    Some(run) => chunks.entry(run).or_default().push(line),
                    None => of_no_run.push(line),
                },
                Line::Pack(line) => drop(packs.insert(line.pack, line)),
            }
        }
        let (names, experiments, with_units) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let registry = Registry::default();
        let mut parts = Self { bundle, chunks, packs, names, experiments, with_units, registry };
        let runs = bundle.runs().iter().map(|facts| facts.id).collect();
        let mut survey = Survey { runs, ..Survey::default() };
        for (run, lines) in &parts.chunks {
            if !survey.runs.contains(run) {
                let reason = format!("it has a part of run `{run}`, which it does not name");
                return Err(Error::CorruptFile { path: bundle.path().to_path_buf(), offset: 0, reason });
            }
            let (mut part, mut head) = (Part::new(*run), None);
            for line in lines {
                parts.entries(line, &mut |key, value| survey.add(&mut part, &mut head, line, key, value))?;
            }
            survey.end(part);
        }
        survey.check(store)?;
        let mut registry = Registry::default();
        for line in &of_no_run {
            parts.entries(line, &mut |key, value| registry.add(key, value))?;
        }
        parts.registry = registry;
        parts.names = survey.names.into_iter().map(|(name, (_, ours))| (name, ours)).collect();
        (parts.experiments, parts.with_units) = (survey.experiments, survey.with_units);
        Ok(parts)
    }

    /// The run of a part, and its experiment.
    pub(super) fn owner<'p>(&'p self, part: &'p Part) -> Result<(&'p Run, &'p Experiment)> {
        let missing = |what| Error::corrupt(&keys::node(&NodeId::run(part.id)), format!("{what} is not in the export"));
        let run = part.run.as_ref().ok_or_else(|| missing("the run of the part"))?;
        let experiment = self.experiments.get(&run.experiment);
        Ok((run, experiment.ok_or_else(|| missing("the experiment of the run"))?))
    }

    pub(super) fn entries(&self, line: &ChunkLine, visit: &mut Visit<'_, Error>) -> Result<()> {
        let raw = self.bundle.chunk(line)?;
        entries_of(&raw, |reason| self.bundle.damaged_chunk(line, reason), visit)
    }
}

/// What was seen of an export.
#[derive(Default)]
struct Survey {
    /// Those the manifest names.
    runs: BTreeSet<RunId>,
    /// Names of artifacts, each with the number that is the latest so far.
    names: BTreeMap<String, (u32, OurName)>,
    /// Names whose latest version is settled.
    ended: BTreeSet<String>,
    experiments: BTreeMap<ExperimentId, Experiment>,
    experiment_names: BTreeMap<String, ExperimentId>,
    with_units: BTreeSet<Digest>,
    /// The keys of their heads.
    units: BTreeSet<Vec<u8>>,
    files: BTreeSet<Digest>,
    /// What units lean on, each with a key that says so.
    needed_experiments: BTreeMap<ExperimentId, Vec<u8>>,
    needed_files: BTreeMap<Digest, Vec<u8>>,
    needed_runs: BTreeMap<RunId, Vec<u8>>,
}

impl Survey {
    /// Judges an entry of a part. `head` is the unit that began last in it.
    fn add(
        &mut self,
        part: &mut Part,
        head: &mut Option<Head>,
        line: &ChunkLine,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        match key.first() {
            Some(&(tag::VERSION | tag::ALIAS)) => part.add_version(key, value),
            Some(&tag::EXPERIMENT) => self.add_experiment(key, value),
            Some(&tag::FILE) => {
                self.files.insert(keys::digest_at(key)?);
                Ok(())
            }
            _ if is_of_unit(key) => {
                self.with_units.insert(line.chunk);
                self.add_of_unit(part.id, head, key, value)
            }
            _ => Ok(()),
        }
    }

    fn add_experiment(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let experiment = Experiment::decode(key, value)?;
        if keys::experiment(experiment.id) != key {
            return Err(Error::corrupt(key, "the experiment there has another id"));
        }
        keys::check_text("experiment name", &experiment.name)?;
        let of_name = *self.experiment_names.entry(experiment.name.clone()).or_insert(experiment.id);
        let of_id = self.experiments.entry(experiment.id).or_insert_with(|| experiment.clone());
        if of_name != experiment.id || of_id.name != experiment.name {
            return Err(Error::corrupt(key, format!("another experiment `{}` came before it", experiment.name)));
        }
        Ok(())
    }

    fn add_of_unit(&mut self, of: RunId, head: &mut Option<Head>, key: &[u8], value: &[u8]) -> Result<()> {
        match Entry::judge(of, head.as_ref(), key, value)? {
            Entry::Head(begun) => {
                if !self.units.insert(key.to_vec()) {
                    return Err(Error::corrupt(key, format!("the {} is in the export twice", begun.what())));
                }
                self.needed_experiments.entry(begun.experiment()).or_insert_with(|| key.to_vec());
                if let Head::Model(model) = &*begun {
                    for run in &model.takers {
                        self.needed_runs.entry(*run).or_insert_with(|| key.to_vec());
                    }
                }
                *head = Some(*begun);
            }
            Entry::Link => *head = None,
            Entry::Measured { run, .. } => drop(self.needed_runs.entry(run).or_insert_with(|| key.to_vec())),
            Entry::Under(record) => {
                if let Some(Parsed::Loose { .. }) = keys::parse(key) {
                    let file = LooseFile::decode(key, &record)?;
                    self.needed_files.entry(file.digest).or_insert_with(|| key.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Ends a part: which of its versions is the latest of its name.
    fn end(&mut self, part: Part) {
        for (version, aliases) in part.parcel.versions {
            let ours = || OurName { manifests: BTreeSet::new(), latest: version.manifest };
            let (last, ours) = self.names.entry(version.name.clone()).or_insert_with(|| (version.number, ours()));
            ours.manifests.insert(version.manifest);
            let is_latest = aliases.iter().any(|alias| alias == LATEST);
            if is_latest || version.number > *last && !self.ended.contains(&version.name) {
                (*last, ours.latest) = (version.number, version.manifest);
            }
            if is_latest {
                self.ended.insert(version.name);
            }
        }
    }

    /// Checks that what units lean on is in the export or here.
    fn check(&self, store: &Store) -> Result<()> {
        for (experiment, key) in &self.needed_experiments {
            if !self.experiments.contains_key(experiment) {
                return Err(Error::corrupt(key, "its experiment is not in the export"));
            }
        }
        for (run, key) in &self.needed_runs {
            if !self.runs.contains(run) && !store.has(&NodeId::run(*run))? {
                return Err(Error::corrupt(key, format!("run `{run}` is not in the export")));
            }
        }
        for (digest, key) in &self.needed_files {
            if !self.files.contains(digest) && store.get(&keys::file(digest))?.is_none() {
                return Err(Error::corrupt(key, "its file is not in the export"));
            }
        }
        Ok(())
    }
}
