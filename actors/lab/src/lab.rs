//! The lab: what a study works with. Stages, seeds, the recorder, the device, and whether to go on.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracker_actors::{Cancel, Handle, Pool};
use tracker_gpu::Device;
use tracker_store::{
    Digest, Edge, Figure, FileEntry, Manifest, NodeId, Point, Recording, Relation, RowKey, RunId, Stage as StageRecord,
    Store, Timestamp,
};

use crate::cost::{Cost, Meter};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::parts::endpoint::Tape;
use crate::parts::evaluate::Estimate;
use crate::parts::record::Recorder;
use crate::plan::Plan;
use crate::seed::Seeds;

/// What params that define measures start with.
pub const MEASURE: &str = "measure.";

/// What one run works with. Everything a study computes goes through it into the store.
pub struct Lab {
    pub(crate) plan: Plan,
    pub(crate) seeds: Seeds,
    pub(crate) run: RunId,
    pub(crate) store: Store,
    pub(crate) recorder: Pool<Recorder>,
    pub(crate) actors: Handle,
    pub(crate) device: Device,
    pub(crate) workers: usize,
    pub(crate) cancel: Cancel,
    pub(crate) events: Events,
    pub(crate) tape: Arc<Tape>,
    pub(crate) n_stages: AtomicU32,
    /// The stage that is going on, and what was spent before it began.
    pub(crate) open: Mutex<Option<(u32, Meter)>>,
}

impl Lab {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The run as a node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::run(self.run)
    }

    /// The store, for reading; writing goes through [`Lab::record`].
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Seeds of work items.
    #[must_use]
    pub fn seeds(&self) -> Seeds {
        self.seeds
    }

    /// Where pools are started.
    #[must_use]
    pub fn actors(&self) -> &Handle {
        &self.actors
    }

    /// Where arrays are computed.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Threads to use. Never changes results on the CPU device.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Says something once.
    pub fn note(&self, text: impl Into<String>) {
        self.events.note(text);
    }

    /// Tells long work that the user asked to stop.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Fails if the user asked to stop; called between pieces of work.
    ///
    /// # Errors
    /// `Interrupted`.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Begins a stage of `total` work items. Stages are numbered in the order a study begins them.
    ///
    /// # Errors
    /// `Interrupted`; those of recording.
    pub async fn stage(&self, name: &str, total: usize) -> Result<Stage<'_>> {
        self.check()?;
        let ordinal = self.n_stages.fetch_add(1, Ordering::Relaxed);
        let mut recording = Recording::new();
        self.spent(Some(ordinal), &mut recording)?;
        recording.put_stage(self.run, &StageRecord { name: name.to_owned(), ordinal })?;
        self.record(recording).await?;
        self.events.tell(Event::Stage { stage: name.to_owned(), total });
        Ok(Stage { lab: self, name: name.to_owned() })
    }

    /// Ends the stage that is going on, and begins another: what was spent in between is the first one's. It is recorded as a
    /// point of `system/wall_secs` and `system/cpu_secs`, whose step is the stage's place; a stage that a resumed run goes
    /// through again gets another point.
    pub(crate) fn spent(&self, next: Option<u32>, recording: &mut Recording) -> Result<()> {
        let now = Meter::now();
        let next = next.map(|ordinal| (ordinal, now));
        let before = std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), next);
        let Some((ordinal, then)) = before else { return Ok(()) };
        let Cost { wall_secs, cpu_secs } = now.since(&then);
        let time = Timestamp::now().millis();
        for (key, secs) in [("system/wall_secs", Some(wall_secs)), ("system/cpu_secs", cpu_secs)] {
            if let Some(secs) = secs {
                recording.put_points(self.run, key, &[Point::new(i64::from(ordinal), time, secs)])?;
            }
        }
        Ok(())
    }

    /// Says what a measure of this name is, as the param `measure.NAME`: numbers of one name with different definitions are not
    /// compared, within a run or across runs.
    ///
    /// # Errors
    /// `Store` (a conflict) if this run uses the name for something else; those of recording.
    pub async fn define(&self, name: &str, definition: &str) -> Result<()> {
        let mut recording = Recording::new();
        recording.put_param(self.run, &format!("{MEASURE}{name}"), definition)?;
        self.record(recording).await
    }

    /// Records, durably: when this returns, a power cut loses nothing of it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn record(&self, recording: Recording) -> Result<()> {
        if recording.is_empty() {
            return Ok(());
        }
        self.recorder.ask(recording).await.map_err(Error::from)
    }

    /// Stores files as an artifact of the run, named after its study and `name`. Returns the digest of their manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_files(&self, kind: &str, name: &str, files: &[(String, Vec<u8>)]) -> Result<Digest> {
        self.put_files_based_on(None, kind, name, files)
    }

    /// The same; tensors are stored as differences from those of the files in `base` where that is smaller.
    ///
    /// # Errors
    /// As [`Lab::put_files`].
    pub fn put_files_based_on(
        &self,
        base: Option<Digest>,
        kind: &str,
        name: &str,
        files: &[(String, Vec<u8>)],
    ) -> Result<Digest> {
        let mut draft = self.store.draft(kind)?;
        if let Some(base) = base {
            draft.based_on(base)?;
        }
        for (path, bytes) in files {
            draft.add(path, &mut bytes.as_slice())?;
        }
        Ok(draft.save(&format!("{}/{name}", self.plan.study), &[], Some(self.run))?.manifest)
    }

    /// Stores the file at `from` as an artifact of the run, under the name `path` in it; a few MiB of it are in memory at a time.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put_file(&self, kind: &str, name: &str, path: &str, from: &Path) -> Result<Digest> {
        let mut draft = self.store.draft(kind)?;
        draft.add_from(path, from)?;
        Ok(draft.save(&format!("{}/{name}", self.plan.study), &[], Some(self.run))?.manifest)
    }

    /// The files of an artifact, verified.
    ///
    /// # Errors
    /// `NotFound`; damage.
    pub fn get_files(&self, manifest: Digest) -> Result<Vec<(String, Vec<u8>)>> {
        let manifest: Manifest = self.store.content(manifest)?;
        let read = |file: &FileEntry| Ok((file.path.clone(), self.store.read_file(file.digest)?));
        manifest.files.iter().map(read).collect()
    }

    /// The raw exchanges of this run with endpoints.
    #[must_use]
    pub fn tape(&self) -> &Arc<Tape> {
        &self.tape
    }
}

/// A named part of the run. Its rows stand at (item, k).
pub struct Stage<'a> {
    lab: &'a Lab,
    name: String,
}

impl Stage<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The row of a work item.
    #[must_use]
    pub fn row(&self, item: u32, k: u32) -> RowKey {
        RowKey::new(self.lab.run, &self.name, item, k)
    }

    /// The seed of a work item.
    #[must_use]
    pub fn seed(&self, item: u32, k: u32) -> u64 {
        self.lab.seeds.seed(&self.name, item, k)
    }

    /// Tells how many work items are done.
    pub fn done(&self, done: usize) {
        self.lab.events.tell(Event::Progress { stage: self.name.clone(), done });
    }

    /// Records a number with its interval, and what it was computed from. Returns its node.
    ///
    /// `item` tells the figures of a stage apart; `n` counts the things it is a mean over.
    ///
    /// # Errors
    /// Those of recording.
    pub async fn figure(&self, item: u32, name: &str, estimate: Estimate, n: usize, used: &[NodeId]) -> Result<NodeId> {
        let Estimate { value, low, high } = estimate;
        let figure = Figure {
            name: name.to_owned(),
            value,
            low: Some(low),
            high: Some(high),
            n: n as u64,
            unit: String::new(),
            split: self.name.clone(),
        };
        let mut recording = Recording::new();
        let node = recording.put_figure(self.row(item, 0), &figure)?;
        for (order, used) in used.iter().enumerate() {
            recording.put_edge(self.lab.run, &Edge::new(node, Relation::Used, *used).at(order as u32))?;
        }
        self.lab.record(recording).await?;
        let name = format!("{}: {name}", self.name);
        self.lab.events.tell(Event::Figure { name, value, low: Some(low), high: Some(high) });
        Ok(node)
    }
}
