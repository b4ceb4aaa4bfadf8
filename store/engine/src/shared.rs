//! One folder, many processes.
//!
//! Embedded engines admit one process. Whoever takes the lock file opens the engine and serves the others over a socket in the folder; the
//! others are clients. When the holder exits or is killed, the system frees the lock and closes the socket; the next
//! client that has something to ask finds the connection gone, takes the lock, opens the engine and serves in turn, or connects
//! to the one that was quicker. There is no election and no heartbeat, and an idle client costs nothing.
//!
//! A call whose connection broke is made again, with patience. A commit that may have been delivered is marked as resent:
//! if all it writes is there already, that is its answer. So a commit takes effect once, unless another process changed
//! the same keys in between; callers whose keys are contended use preconditions.
//!
//! Invariants:
//! - The engine is open only while the lock is held, and the lock is let go only after the engine is closed.
//! - Local snapshots keep the engine open and served, so a process never shuts others out by dropping its handle early.
//! - A visitor is never called again with what it has seen: a visit cut short ends in `SnapshotLost`.

mod channel;
mod client;
mod holder;
mod protocol;
mod socket;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use self::client::{Client, RemoteSnapshot, Trouble};
use self::holder::Holder;
pub(crate) use self::holder::serve_bytes;
pub(crate) use self::protocol::read_any;
use crate::group::lock;
use crate::layout::{self, LOCK};
use crate::{Batch, Direction, Durability, Engine, Error, KeyRange, Options, Read, Result, Visitor};

/// The pauses between attempts to reach the holder or to become it.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(1);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Opens the store in `dir`, which is made if it is not there, together with every other process that has it open.
///
/// # Errors
/// `Foreign`, `Newer`, `NotBuilt`, `Corrupt`: `dir` is not a store this build can open, and was not written to. `ReadOnly`, `Full`,
/// `Unsupported`, `Io`. `Mismatch` if the process that holds it is of another build, `Unavailable` if it does not answer.
pub fn open(dir: &Path, options: &Options) -> Result<Arc<dyn Engine>> {
    layout::check(dir)?;
    fs::create_dir_all(dir).map_err(|error| Error::io("make the folder", dir, error))?;
    let desk = Desk { dir: dir.to_path_buf(), options: options.clone() };
    let role = desk.take_role(Instant::now())?;
    Ok(Arc::new(Shared { desk, role: RwLock::new(role), renewing: Mutex::new(()) }))
}

/// An engine in a folder, as one of the processes that share it.
struct Shared {
    desk: Desk,
    role: RwLock<Role>,
    renewing: Mutex<()>,
}

/// What this process is to the store.
#[derive(Clone)]
enum Role {
    Holder(Arc<Holder>),
    Client(Arc<Client>),
}

impl Role {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Holder(a), Self::Holder(b)) => Arc::ptr_eq(a, b),
            (Self::Client(a), Self::Client(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Shared {
    fn role(&self) -> Role {
        self.role.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks until there is an answer. `ask` is told whether it may have been heard before.
    fn call<T>(&self, mut ask: impl FnMut(&Role, bool) -> Result<T, Trouble>) -> Result<T> {
        let started = Instant::now();
        let mut is_resent = false;
        loop {
            let role = self.role();
            match ask(&role, is_resent) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Lost { .. }) if started.elapsed() >= self.desk.options.patience => {
                    return Err(unavailable(&self.desk.dir, started.elapsed()));
                }
                Err(Trouble::Lost { is_sent }) => {
                    is_resent |= is_sent;
                    self.renew(&role, started)?;
                }
            }
        }
    }

    /// Finds a new role, unless another thread already has.
    fn renew(&self, spent: &Role, started: Instant) -> Result<()> {
        let _renewing = lock(&self.renewing);
        if self.role().is(spent) {
            let role = self.desk.take_role(started)?;
            *self.role.write().unwrap_or_else(PoisonError::into_inner) = role;
        }
        Ok(())
    }
}

impl Read for Shared {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.call(|role, _| match role {
            Role::Holder(holder) => Ok(holder.engine().get(key)?),
            Role::Client(client) => client.get(None, key),
        })
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.call(|role, _| match role {
            Role::Holder(holder) => Ok(holder.engine().range(range.clone(), direction, visit)?),
            Role::Client(client) => client.range(None, &range, direction, visit),
        })
    }
}

impl Engine for Shared {
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<()> {
        batch.check_size()?;
        self.call(|role, is_resent| match role {
            Role::Holder(holder) => Ok(holder.engine().commit_once(batch, durability, is_resent)?),
            Role::Client(client) => client.commit(batch, durability, is_resent),
        })
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>> {
        self.call(|role, _| match role {
            Role::Holder(holder) => {
                let snapshot = holder.engine().snapshot()?;
                Ok(Arc::new(LocalSnapshot { snapshot, _holder: Arc::clone(holder) }) as Arc<dyn Read>)
            }
            Role::Client(client) => Ok(Arc::new(RemoteSnapshot::take(client)?) as Arc<dyn Read>),
        })
    }

    fn name(&self) -> &'static str {
        match self.role() {
            Role::Holder(holder) => holder.engine().name(),
            Role::Client(client) => client.engine().name(),
        }
    }
}

/// A snapshot of the engine this process holds; while it lives, the others are served.
struct LocalSnapshot {
    snapshot: Arc<dyn Read>,
    _holder: Arc<Holder>,
}

impl Read for LocalSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.snapshot.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.snapshot.range(range, direction, visit)
    }
}

/// Where roles are taken: the folder, and how it is opened.
struct Desk {
    dir: PathBuf,
    options: Options,
}

impl Desk {
    /// Becomes the holder, or a client of it; tries again until the patience since `started` is used up.
    fn take_role(&self, started: Instant) -> Result<Role> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(holder) = self.try_hold()? {
                return Ok(Role::Holder(Arc::new(holder)));
            }
            if let Some(client) = Client::connect(&self.dir, self.options.patience)? {
                return Ok(Role::Client(Arc::new(client)));
            }
            let left = self.options.patience.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(unavailable(&self.dir, started.elapsed()));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes the lock, opens the engine and serves; `None` if another process has either.
    fn try_hold(&self) -> Result<Option<Holder>> {
        let Some(lock) = try_lock(&self.dir)? else { return Ok(None) };
        let engine = match layout::open_engine(&self.dir, &self.options) {
            Ok(engine) => engine,
            // A process that was killed frees its files one after the other.
            Err(Error::Busy { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Holder::start(&self.dir, engine, lock).map(Some)
    }
}

/// Takes the lock of the store in `dir` and writes down who has it; `None` if another process does.
pub(crate) fn try_lock(dir: &Path) -> Result<Option<File>> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(source)) => {
            return Err(Error::Unsupported { path, what: "file locks", source: Arc::new(source) });
        }
    }
    write_pid(&mut file).map_err(|error| Error::io("write", &path, error))?;
    Ok(Some(file))
}

/// Held by a process that checks or repairs a store and lets no other open it.
pub(crate) struct Alone {
    /// None where there is no lock and none can be made, so that nobody can open the store either.
    _locked: Option<File>,
}

impl Alone {
    /// Takes the lock of the store in `dir`; `None` if another process has it.
    pub(crate) fn take(dir: &Path) -> Result<Option<Self>> {
        match try_lock(dir) {
            Ok(locked) => return Ok(locked.map(|file| Self { _locked: Some(file) })),
            Err(Error::ReadOnly { .. }) => {}
            Err(error) => return Err(error),
        }
        // Where nothing can be written, nobody else can hold the store for long: a lock that is there is taken to be read.
        let path = dir.join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Self { _locked: None })),
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _locked: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => {
                Err(Error::Unsupported { path, what: "file locks", source: Arc::new(source) })
            }
        }
    }
}

/// The process that has the lock, as it wrote down.
pub(crate) fn holder_pid(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(LOCK)).ok().and_then(|text| text.trim().parse().ok())
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// Says who holds `dir` and did not answer.
pub(crate) fn unavailable(dir: &Path, waited: Duration) -> Error {
    let pid = holder_pid(dir);
    Error::Unavailable { dir: dir.to_path_buf(), pid, stopped: pid.is_some_and(is_stopped), waited }
}

/// Whether process `pid` is stopped, as far as Linux tells.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the last bracket may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}
