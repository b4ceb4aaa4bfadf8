//! One run from start to end: makes or finds its record, brings up the actors, runs the study, says how it ended.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;
use tracker_actors::Runtime;
use tracker_gpu::{Choice, Device};
use tracker_store::{
    Claim, Digest, Durability, Edge, Ending, Endpoint, Kind, Manifest, NewRun, NodeId, Plan as PlanRecord, Recording,
    Relation, RowKey, Run, RunId, Stage, Status, Store,
};

use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::lab::Lab;
use crate::parts::endpoint::{Recorded, Tape};
use crate::parts::record::Recorder;
use crate::plan::Plan;
use crate::seed::Seeds;
use crate::study::study;
use crate::sweep::SWEEP;

/// The stage claims are recorded in.
const CLAIMS: &str = "claims";
/// The folder that commands take without being told.
const DEFAULT_STORE: &str = ".tracker";
/// The kind, and the name within a study, of the artifact that has a run's exchanges with endpoints.
const EXCHANGES: &str = "exchanges";

/// How a session uses the machine and whom it tells.
pub struct Session {
    /// Where to compute.
    pub device: Choice,
    /// Threads to use, at least 1.
    pub workers: usize,
    /// Where events go.
    pub events: Events,
    /// A file of recorded exchanges that answer in place of endpoints; without one endpoints are called.
    pub exchanges: Option<PathBuf>,
    /// Called on the second interrupt; ends the process.
    pub exit: Box<dyn FnOnce() + Send>,
    /// Tags of the run it makes.
    pub tags: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct Finished {
    /// The run.
    pub run: RunId,
    /// `finished`, unless it was interrupted.
    pub status: Status,
    /// What was tested; empty if interrupted.
    pub claims: Vec<Claim>,
    /// Digest over everything it recorded, without ids and clock times; none if interrupted.
    pub record_digest: Option<Digest>,
    /// Seconds this session took.
    pub elapsed_secs: f64,
}

impl Session {
    /// Runs a plan as a new run.
    ///
    /// # Errors
    /// Of the study; the run is then marked failed and keeps what it recorded.
    pub fn run(self, store: &Store, plan: Plan, name: Option<String>) -> Result<Finished> {
        // A recording that cannot be read is found before there is a run.
        let recorded = self.recorded()?;
        self.begin(store, plan, name, recorded)
    }

    fn begin(self, store: &Store, plan: Plan, name: Option<String>, recorded: Option<Recorded>) -> Result<Finished> {
        let device = Device::open(&self.device)?;
        let new = NewRun {
            name: name.unwrap_or_else(|| plan.study.clone()),
            experiment: plan.study.clone(),
            study: plan.study.clone(),
            plan: PlanRecord::new(plan.text.clone()),
            seed: plan.seed,
            device: device.id().to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            versions: versions(),
        };
        let run = store.create_run(&new)?;
        let _held = Held::take(store, run.id)?;
        let mut tags = Recording::new();
        for (key, value) in &self.tags {
            tags.put_tag(run.id, key, value)?;
        }
        store.commit(&tags, Durability::Sync)?;
        self.execute(store, &run, plan, device, recorded, false)
    }

    /// Continues a run that was killed, interrupted or failed, from what it recorded.
    ///
    /// # Errors
    /// `Input` if it finished already; else as [`Session::run`].
    pub fn resume(self, store: &Store, id: RunId) -> Result<Finished> {
        let run = store.run(id)?;
        if run.status == Status::Finished {
            return Err(Error::Input {
                what: format!("run {id} is finished; there is nothing to resume"),
                hint: Some(format!("to run its plan again: tracker replay {id}")),
            });
        }
        let plan = stored_plan(&run)?;
        let device = Device::open(&self.device)?;
        if device.id() != run.device {
            self.events.note(format!(
                "run {id} began on {}; it goes on on {}, and its digest may differ",
                run.device,
                device.id()
            ));
        }
        let recorded = self.recorded()?;
        let _held = Held::take(store, id)?;
        let run = store.resume_run(id)?;
        self.execute(store, &run, plan, device, recorded, true)
    }

    /// Runs the stored plan of a run again, as a new run. Unless `calls`, what it asked of endpoints is answered from its
    /// own exchanges.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn replay(self, store: &Store, id: RunId, calls: bool) -> Result<Finished> {
        let run = store.run(id)?;
        let plan = stored_plan(&run)?;
        let recorded = match self.recorded()? {
            None if !calls => own_exchanges(store, id)?,
            recorded => recorded,
        };
        self.begin(store, plan, Some(format!("replay of {}", run.name)), recorded)
    }

    /// The recording to answer from, read.
    fn recorded(&self) -> Result<Option<Recorded>> {
        let Some(path) = &self.exchanges else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| Error::Input {
            what: format!("recorded exchanges `{}` cannot be read: {error}", path.display()),
            hint: None,
        })?;
        Recorded::parse(&path.display().to_string(), &text).map(Some)
    }

    fn execute(
        self,
        store: &Store,
        run: &Run,
        plan: Plan,
        device: Device,
        recorded: Option<Recorded>,
        resumed: bool,
    ) -> Result<Finished> {
        let begun = Instant::now();
        let file = store.dir().map(|dir| dir.join(EXCHANGES).join(format!("{}.jsonl", run.id)));
        let tape = Arc::new(Tape::open(file, recorded)?);
        let runtime = Runtime::new()?;
        let ended = runtime.block_on(async {
            let cancel = runtime.interrupts(self.exit).await?;
            self.events.tell(Event::Started {
                run: run.id.to_string(),
                study: plan.study.clone(),
                device: device.id().to_owned(),
                resumed,
            });
            let lab = Lab {
                seeds: Seeds::new(plan.digest()),
                run: run.id,
                store: store.clone(),
                recorder: Recorder::start(&runtime, store)?,
                actors: (*runtime).clone(),
                device,
                workers: self.workers.max(1),
                cancel,
                events: self.events.clone(),
                tape: tape.clone(),
                n_stages: AtomicU32::new(0),
                open: Mutex::new(None),
                plan,
            };
            let ended = {
                let told = async {
                    lab.cancel.cancelled().await;
                    lab.note("stopping; Ctrl-C again ends at once");
                    std::future::pending::<()>().await;
                };
                match futures::future::select(Box::pin(attend(&lab)), Box::pin(told)).await {
                    futures::future::Either::Left((ended, _)) => ended,
                    futures::future::Either::Right(((), work)) => work.await,
                }
            };
            runtime.shutdown().await;
            ended
        });
        let elapsed_secs = begun.elapsed().as_secs_f64();
        let end =
            |status, message: String, record_digest| store.end_run(run.id, &Ending { status, message, record_digest });
        match ended {
            Ok(claims) => {
                let record_digest = store.record_digest(run.id)?;
                end(Status::Finished, String::new(), Some(record_digest))?;
                Ok(Finished {
                    run: run.id,
                    status: Status::Finished,
                    claims,
                    record_digest: Some(record_digest),
                    elapsed_secs,
                })
            }
            Err(Error::Interrupted) => {
                end(Status::Interrupted, "interrupted by the user".into(), None)?;
                Ok(Finished {
                    run: run.id,
                    status: Status::Interrupted,
                    claims: vec![],
                    record_digest: None,
                    elapsed_secs,
                })
            }
            Err(error) => {
                // The study's error is the one to report, even if the store cannot take the ending any more.
                drop(end(Status::Failed, error.to_string(), None));
                self.events.note(format!(
                    "what is recorded stays; to go on once that is mended: {}",
                    resume_command(store, run.id)
                ));
                Err(error)
            }
        }
    }
}

/// What code ran: the version, and the digest of the very program, which tells builds of one version apart. None of it enters a
/// digest.
pub(crate) fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("tracker".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let program = std::env::current_exe().and_then(std::fs::File::open);
    let mut hasher = blake3::Hasher::new();
    if program.is_ok_and(|program| hasher.update_reader(program).is_ok()) {
        versions.insert("program".to_owned(), hasher.finalize().to_hex().to_string());
    }
    versions
}

/// Records the plan's keys as params, runs the study, keeps what was exchanged with endpoints.
async fn attend(lab: &Lab) -> Result<Vec<Claim>> {
    let mut params = Recording::new();
    for (key, value) in lab.plan.settings()? {
        params.put_param(lab.run, &key, &value)?;
    }
    lab.record(params).await?;
    let claims = study(&lab.plan.study)?.run(lab).await?;
    keep_exchanges(lab).await?;
    let mut recording = Recording::new();
    lab.spent(None, &mut recording)?;
    lab.record(recording).await?;
    Ok(claims)
}

/// Stores the exchanges as an artifact that comes from the endpoints asked.
async fn keep_exchanges(lab: &Lab) -> Result<()> {
    const FILE: &str = "exchanges.jsonl";
    // Of a tape in a file a line at a time: there may be more of them than memory holds.
    let manifest = match (lab.tape.sorted()?, lab.tape.text_in_memory()) {
        (Some(path), _) => lab.put_file(EXCHANGES, EXCHANGES, FILE, &path)?,
        (None, Some(text)) => lab.put_files(EXCHANGES, EXCHANGES, &[(FILE.to_owned(), text.into_bytes())])?,
        (None, None) => return Ok(()),
    };
    let mut recording = Recording::new();
    if let Some(artifact) = NodeId::content(Kind::Artifact, manifest) {
        for (order, (endpoint, _)) in lab.store.contents_of::<Endpoint>(lab.run)?.into_iter().enumerate() {
            let edge = Edge::new(artifact, Relation::GeneratedBy, endpoint).at(order as u32);
            recording.put_edge(lab.run, &edge)?;
        }
    }
    lab.record(recording).await?;
    lab.tape.remove();
    Ok(())
}

impl Lab {
    /// Records what was tested, each claim with the figures it rests on, and returns the claims.
    ///
    /// # Errors
    /// Those of recording.
    pub async fn claims(&self, claims: Vec<(Claim, Vec<NodeId>)>) -> Result<Vec<Claim>> {
        let mut recording = Recording::new();
        let ordinal = self.n_stages.fetch_add(1, Ordering::Relaxed);
        self.spent(Some(ordinal), &mut recording)?;
        recording.put_stage(self.run, &Stage { name: CLAIMS.to_owned(), ordinal })?;
        for (item, (claim, figures)) in claims.iter().enumerate() {
            let node = recording.put_claim(RowKey::new(self.run, CLAIMS, item as u32, 0), claim)?;
            for (order, figure) in figures.iter().enumerate() {
                let edge = Edge::new(node, Relation::Used, *figure).at(order as u32);
                recording.put_edge(self.run, &edge)?;
            }
        }
        self.record(recording).await?;
        Ok(claims.into_iter().map(|(claim, _)| claim).collect())
    }
}

/// What a run exchanged with endpoints, if it did.
fn own_exchanges(store: &Store, run: RunId) -> Result<Option<Recorded>> {
    let all = store.contents_of::<Manifest>(run)?;
    let exchanges = all.into_iter().map(|(_, manifest)| manifest).find(|manifest| manifest.kind == EXCHANGES);
    let Some(file) = exchanges.as_ref().and_then(|manifest| manifest.files.first()) else { return Ok(None) };
    let text = store.read_file(file.digest)?;
    Recorded::parse(&format!("exchanges of {run}"), &String::from_utf8_lossy(&text)).map(Some)
}

/// A run, or a cell of a sweep, in the hands of this process. The lock goes with the process, however it ends.
pub(crate) struct Held {
    /// None if the store is in memory, where nobody else is.
    file: Option<(File, PathBuf)>,
}

impl Held {
    /// Takes a run.
    ///
    /// # Errors
    /// `Input` if another process works on it.
    fn take(store: &Store, run: RunId) -> Result<Self> {
        Self::try_take(store, &run.to_string())?.ok_or_else(|| Error::Input {
            what: format!("run {run} is being worked on by another process"),
            hint: Some("wait until it ends, or stop it with Ctrl-C".into()),
        })
    }

    /// Takes what has this name, unless another process has it.
    ///
    /// # Errors
    /// `Internal` if the file system has no locks.
    pub(crate) fn try_take(store: &Store, name: &str) -> Result<Option<Self>> {
        let Some(dir) = store.dir().map(|dir| dir.join("running")) else { return Ok(Some(Self { file: None })) };
        let path = dir.join(format!("{name}.lock"));
        let failed = |e: std::io::Error| Error::Internal(format!("cannot lock `{}`: {e}", path.display()));
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file: Some((file, path)) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A file that stays behind holds nobody up.
        if let Some((_, path)) = &self.file {
            drop(std::fs::remove_file(path));
        }
    }
}

/// The command that goes on with a run.
#[must_use]
pub fn resume_command(store: &Store, run: RunId) -> String {
    match store.dir().filter(|dir| *dir != Path::new(DEFAULT_STORE)) {
        Some(dir) => format!("tracker --store {} run --resume {run}", dir.display()),
        None => format!("tracker run --resume {run}"),
    }
}

fn stored_plan(run: &Run) -> Result<Plan> {
    if run.study.is_empty() || run.plan.text.is_empty() {
        return Err(Error::Input {
            what: format!("run {} was logged from outside and has no plan", run.id),
            hint: None,
        });
    }
    if run.study == SWEEP {
        return Err(Error::Input {
            what: format!("run {} is a sweep, whose cells are runs", run.id),
            hint: Some(format!("to go on with it: tracker sweep --resume {}", run.id)),
        });
    }
    study(&run.study)?;
    Ok(Plan { study: run.study.clone(), seed: run.seed, text: run.plan.text.clone() })
}
