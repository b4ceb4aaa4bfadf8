//! The side that answers.
//!
//! One thread accepts, one thread serves each connection. A connection that sends what cannot be understood is closed;
//! the others do not notice. Snapshots belong to the connection that took them, and may be read over any.
//!
//! Invariant: when the holder is dropped, running requests are answered, then the engine is closed, then the lock is let
//! go.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, BufReader, Write as _};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::channel::Channel;
use super::protocol::{self, Answer, FIRST_CHUNK_BYTES, Greeting, MAX_CHUNK_BYTES, PROTOCOL, Request, Word, malformed};
use super::socket;
use crate::group::lock;
use crate::kind::Local;
use crate::layout::SOCKET;
use crate::{Batch, Direction, Durability, Error, KeyRange, Memory, Read, Result};

/// Connections served at once; who comes later is asked to wait. Each has three open files, and systems allow a thousand and some.
const MAX_CONNECTIONS: usize = if cfg!(test) { 4 } else { 300 };
/// How long a new connection may take to greet.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to accept an answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long running requests may take to end when the holder is dropped.
const LEAVING_TIME: Duration = Duration::from_secs(2);
/// The pause after a connection could not be accepted, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Requests are read through a buffer of this size.
const BUFFER_BYTES: usize = 8 << 10;

/// This process as the one that has the engine open. The engine is closed before the lock is let go: fields are dropped
/// in order.
pub(super) struct Holder {
    engine: Arc<dyn Local>,
    _lock: File,
    server: Server,
}

impl Holder {
    /// Serves `engine` in `dir` for as long as the holder lives. `lock` is the locked file.
    pub(super) fn start(dir: &Path, engine: Arc<dyn Local>, lock: File) -> Result<Self> {
        let path = dir.join(SOCKET);
        let listener = socket::bind(dir).map_err(|source| match source.raw_os_error() {
            // EPERM and EOPNOTSUPP: what file systems without sockets answer.
            Some(1 | 95) => Error::Unsupported { path: path.clone(), what: "sockets", source: Arc::new(source) },
            _ => Error::io("listen on", &path, source),
        })?;
        let server = Server::start(dir, listener, Arc::clone(&engine));
        let server = server.map_err(|error| Error::io("serve on", &path, error))?;
        Ok(Self { server, engine, _lock: lock })
    }

    pub(super) fn engine(&self) -> &dyn Local {
        &*self.engine
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.server.close();
    }
}

struct Server {
    dir: PathBuf,
    room: Arc<Room>,
    /// The listening socket, to shut it down.
    listening: UnixStream,
    acceptor: Option<JoinHandle<()>>,
}

/// What connections share.
#[derive(Default)]
struct Room {
    is_closing: AtomicBool,
    last_id: AtomicU64,
    guests: Mutex<BTreeMap<u64, Arc<UnixStream>>>,
    is_left: Condvar,
    snapshots: Mutex<BTreeMap<u64, Arc<dyn Read>>>,
}

impl Server {
    fn start(dir: &Path, listener: UnixListener, engine: Arc<dyn Local>) -> io::Result<Self> {
        let room = Arc::new(Room::default());
        // Snapshot ids of one holder must mean nothing to the next.
        room.last_id.store(RandomState::new().build_hasher().finish(), Ordering::Relaxed);
        let listening = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        let acceptor = thread::Builder::new().name("store-accept".to_owned()).spawn({
            let room = Arc::clone(&room);
            move || accept(&listener, &room, &engine)
        })?;
        Ok(Self { dir: dir.to_path_buf(), room, listening, acceptor: Some(acceptor) })
    }
}

impl Server {
    /// Answers what is running, and then nobody any more.
    fn close(&mut self) {
        self.room.is_closing.store(true, Ordering::SeqCst);
        // Each of these fails only if what it ends has ended already.
        drop(socket::remove(&self.dir));
        drop(self.listening.shutdown(Shutdown::Both));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        // Running requests are answered; then the connections find no next one.
        self.room.shut(Shutdown::Read);
        if !self.room.wait_until_empty(LEAVING_TIME) {
            self.room.shut(Shutdown::Both);
            self.room.wait_until_empty(LEAVING_TIME);
        }
    }
}

impl Room {
    fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for `stream`; `None` if all are taken.
    fn enter(&self, stream: &Arc<UnixStream>) -> Option<u64> {
        let mut guests = lock(&self.guests);
        if guests.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = self.new_id();
        guests.insert(id, Arc::clone(stream));
        Some(id)
    }

    fn leave(&self, id: u64) {
        lock(&self.guests).remove(&id);
        self.is_left.notify_all();
    }

    fn shut(&self, how: Shutdown) {
        for stream in lock(&self.guests).values() {
            drop(stream.shutdown(how));
        }
    }

    fn wait_until_empty(&self, patience: Duration) -> bool {
        let guests = lock(&self.guests);
        let (guests, _) = self
            .is_left
            .wait_timeout_while(guests, patience, |guests| !guests.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        guests.is_empty()
    }
}

fn accept(listener: &UnixListener, room: &Arc<Room>, engine: &Arc<dyn Local>) {
    loop {
        let accepted = listener.accept();
        if room.is_closing.load(Ordering::SeqCst) {
            return;
        }
        match accepted.and_then(|(stream, _)| admit(stream, room, engine)) {
            Ok(()) => {}
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Gives a connection a thread, or says that there is no place.
fn admit(stream: UnixStream, room: &Arc<Room>, engine: &Arc<dyn Local>) -> io::Result<()> {
    let stream = Arc::new(stream);
    let Some(id) = room.enter(&stream) else {
        return Greeting::new(Word::Full).write(&mut &*stream);
    };
    let serving = thread::Builder::new().name("store-serve".to_owned()).spawn({
        let (room, engine) = (Arc::clone(room), Arc::clone(engine));
        move || {
            // However the thread ends, the engine is let go before the place is.
            let _place = Place { room: Arc::clone(&room), id };
            // How a connection ended is its client's matter.
            drop(serve(stream, room, engine));
        }
    });
    match serving {
        Ok(_) => Ok(()),
        Err(error) => {
            room.leave(id);
            Err(error)
        }
    }
}

struct Place {
    room: Arc<Room>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.leave(self.id);
    }
}

/// Serves a store in memory to a client that greets, sends `bytes` and hangs up; then the store must hold what it held, or what
/// the bytes wrote.
pub(crate) fn serve_bytes(bytes: &[u8]) {
    let Ok((mut client, stream)) = UnixStream::pair() else { return };
    let engine: Arc<dyn Local> = Arc::new(Memory::new());
    let serving = thread::spawn({
        let engine = Arc::clone(&engine);
        move || serve(Arc::new(stream), Arc::default(), engine)
    });
    // The holder may hang up at any byte.
    let greeted = Greeting::new(Word::Hello).write(&mut client).and_then(|()| Greeting::read(&mut client));
    if let Ok(mut channel) = greeted.and_then(|_| Channel::open(client)) {
        drop(channel.write_all(bytes));
        drop(channel.shut(Shutdown::Write));
        drop(io::copy(&mut channel, &mut io::sink()));
    }
    assert!(serving.join().is_ok(), "the holder panicked");
    let visited = engine.range(KeyRange::from(b""), Direction::Ascending, &mut |_, _| ControlFlow::Continue(()));
    assert!(visited.is_ok(), "{visited:?}");
}

/// Greets, and answers until the other side hangs up.
fn serve(stream: Arc<UnixStream>, room: Arc<Room>, engine: Arc<dyn Local>) -> io::Result<()> {
    stream.set_read_timeout(Some(GREETING_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let greeting = Greeting::read(&mut &*stream)?;
    Greeting::new(Word::Hello).write(&mut &*stream)?;
    if greeting.protocol != PROTOCOL {
        return Ok(());
    }
    let channel = Channel::accept(stream)?;
    let mut requests = BufReader::with_capacity(BUFFER_BYTES, &channel);
    let mut connection = Connection { channel: &channel, room, engine, snapshots: Vec::new(), frame: Vec::new() };
    let mut frame = Vec::new();
    // Who asks without a pause would never let this side see that it is closing.
    while !connection.room.is_closing.load(Ordering::Relaxed)
        && let Some((request, n_head)) = protocol::receive::<Request>(&mut requests, &mut frame)?
    {
        connection.answer(&mut requests, &request, &frame[n_head..])?;
        for kept in [&mut frame, &mut connection.frame] {
            if kept.capacity() > MAX_CHUNK_BYTES * 2 {
                *kept = Vec::new();
            }
        }
    }
    Ok(())
}

struct Connection<'a> {
    channel: &'a Channel,
    room: Arc<Room>,
    engine: Arc<dyn Local>,
    /// The snapshots that end with this connection.
    snapshots: Vec<u64>,
    /// The answer that was sent last.
    frame: Vec<u8>,
}

type Requests<'a> = BufReader<&'a Channel>;

impl Connection<'_> {
    fn answer(&mut self, requests: &mut Requests<'_>, request: &Request, body: &[u8]) -> io::Result<()> {
        match *request {
            Request::Get { snapshot } => {
                match read_from(&self.room, &*self.engine, snapshot, |reader| reader.get(body)) {
                    Ok(Some(value)) => self.send(&Answer::Value, &value),
                    Ok(None) => self.send(&Answer::Missing, &[]),
                    Err(error) => self.fail(error),
                }
            }
            Request::Commit { is_resent, is_synced } => {
                let durability = if is_synced { Durability::Sync } else { Durability::Os };
                let batch = Batch::from_bytes(body.to_vec()).ok_or_else(|| malformed("this is not a batch"))?;
                match self.engine.commit_once(&batch, durability, is_resent) {
                    Ok(()) => self.send(&Answer::Done, &[]),
                    Err(error) => self.fail(error),
                }
            }
            Request::Range { snapshot, is_descending, n_start, has_end } => {
                let (start, end) =
                    body.split_at_checked(n_start as usize).ok_or_else(|| malformed("the range is cut short"))?;
                let range = if has_end { KeyRange::new(start, end) } else { KeyRange::from(start) };
                let direction = if is_descending { Direction::Descending } else { Direction::Ascending };
                self.stream_range(requests, snapshot, &range, direction)
            }
            Request::Snapshot => match self.engine.snapshot() {
                Ok(snapshot) => {
                    let id = self.room.new_id();
                    lock(&self.room.snapshots).insert(id, snapshot);
                    self.snapshots.push(id);
                    self.send(&Answer::Snapshot { id }, &[])
                }
                Err(error) => self.fail(error),
            },
            Request::Release { snapshot } => {
                if self.snapshots.contains(&snapshot) {
                    self.snapshots.retain(|&id| id != snapshot);
                    lock(&self.room.snapshots).remove(&snapshot);
                }
                self.send(&Answer::Done, &[])
            }
            Request::More | Request::Stop => Err(malformed("no range is running")),
        }
    }

    /// Sends a range chunk by chunk, each when it is asked for, so that neither side holds more than one.
    fn stream_range(
        &mut self,
        requests: &mut Requests<'_>,
        snapshot: Option<u64>,
        range: &KeyRange<'_>,
        direction: Direction,
    ) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(FIRST_CHUNK_BYTES);
        let mut limit = FIRST_CHUNK_BYTES;
        let mut stopped = None;
        let (room, engine) = (Arc::clone(&self.room), Arc::clone(&self.engine));
        let visited = read_from(&room, &*engine, snapshot, |reader| {
            reader.range(range.clone(), direction, &mut |key, value| {
                protocol::push_entry(&mut chunk, key, value);
                if chunk.len() < limit {
                    return ControlFlow::Continue(());
                }
                limit = (limit * 4).min(MAX_CHUNK_BYTES);
                match self.send_and_wait(requests, &chunk) {
                    Ok(true) => {
                        chunk.clear();
                        ControlFlow::Continue(())
                    }
                    end => {
                        stopped = Some(end.map(drop));
                        ControlFlow::Break(())
                    }
                }
            })
        });
        match (stopped, visited) {
            (Some(end), _) => end,
            (None, Ok(())) => self.send(&Answer::Chunk { is_last: true }, &chunk),
            (None, Err(error)) => self.fail(error),
        }
    }

    /// Sends a chunk; returns whether the client wants the next one.
    fn send_and_wait(&mut self, requests: &mut Requests<'_>, chunk: &[u8]) -> io::Result<bool> {
        self.send(&Answer::Chunk { is_last: false }, chunk)?;
        match protocol::receive::<Request>(requests, &mut Vec::new())? {
            Some((Request::More, _)) => Ok(true),
            Some((Request::Stop, _)) => Ok(false),
            Some(_) => Err(malformed("a range is running")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn send(&mut self, answer: &Answer, body: &[u8]) -> io::Result<()> {
        protocol::send(&mut &*self.channel, answer, &[body], &mut self.frame)
    }

    fn fail(&mut self, error: Error) -> io::Result<()> {
        self.send(&Answer::Failed(error.into()), &[])
    }
}

/// Reads the state as it is, or one that was kept.
fn read_from<T>(
    room: &Room,
    engine: &dyn Local,
    snapshot: Option<u64>,
    read: impl FnOnce(&dyn Read) -> Result<T>,
) -> Result<T> {
    let Some(id) = snapshot else {
        return read(engine);
    };
    let snapshot = lock(&room.snapshots).get(&id).cloned();
    read(&*snapshot.ok_or(Error::SnapshotLost)?)
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let mut snapshots = lock(&self.room.snapshots);
        for id in &self.snapshots {
            snapshots.remove(id);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Options, open};

    fn options() -> Options {
        Options { patience: Duration::from_millis(200), ..Options::default() }
    }

    /// A connection that says what it likes.
    fn raw(dir: &Path) -> Channel {
        let mut stream = socket::connect(dir).unwrap();
        Greeting::new(Word::Hello).write(&mut stream).unwrap();
        assert_eq!(Greeting::read(&mut stream).unwrap().word, Word::Hello);
        Channel::open(stream).unwrap()
    }

    /// Whether the other side hangs up, rather than answers.
    fn hangs_up(mut stream: impl std::io::Read) -> bool {
        matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }

    #[test]
    fn nonsense_ends_its_own_connection_only() {
        let dir = tempfile::tempdir().unwrap();
        let holder = open(dir.path(), &options()).unwrap();
        let client = open(dir.path(), &options()).unwrap();
        let mut request = Vec::new();
        protocol::send(
            &mut request,
            &Request::Commit { is_resent: false, is_synced: true },
            &[b"not a batch"],
            &mut Vec::new(),
        )
        .unwrap();
        let mut more = Vec::new();
        protocol::send(&mut more, &Request::More, &[], &mut Vec::new()).unwrap();
        let mut cut = Vec::new();
        let range = Request::Range { snapshot: None, is_descending: false, n_start: 99, has_end: false };
        protocol::send(&mut cut, &range, &[b"short"], &mut Vec::new()).unwrap();
        for bytes in [vec![0xff; 64], vec![3, 0, 0, 0, 99, 99, 99], request, more, cut] {
            let mut channel = raw(dir.path());
            channel.write_all(&bytes).unwrap();
            assert!(hangs_up(channel), "{bytes:?} was answered");
            let mut batch = Batch::new();
            batch.put(b"k", &bytes);
            client.commit(&batch, Durability::Os).unwrap();
            assert_eq!(holder.get(b"k").unwrap(), Some(bytes));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_the_holder_answers_or_hangs_up(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            crate::fuzz::holder(&bytes);
            let frame = [(bytes.len() as u32).to_le_bytes().as_slice(), &bytes].concat();
            crate::fuzz::holder(&[frame.as_slice(), &frame].concat());
        }
    }

    #[test]
    fn a_wrong_greeting_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let _holder = open(dir.path(), &options()).unwrap();
        let mut stream = socket::connect(dir.path()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(hangs_up(stream));
    }

    #[test]
    fn who_finds_no_place_waits_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let _holder = open(dir.path(), &options()).unwrap();
        let mut guests: Vec<_> = (0..MAX_CONNECTIONS).map(|_| raw(dir.path())).collect();
        let error = open(dir.path(), &options()).err().unwrap();
        assert!(matches!(error, Error::Unavailable { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        guests.pop();
        let patient = Options { patience: Duration::from_secs(30), ..options() };
        assert_eq!(open(dir.path(), &patient).unwrap().get(b"x").unwrap(), None);
    }

    #[test]
    fn a_snapshot_of_another_holder_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let holder = open(dir.path(), &options()).unwrap();
        let client = open(dir.path(), &options()).unwrap();
        let snapshot = client.snapshot().unwrap();
        assert_eq!(snapshot.get(b"x").unwrap(), None);
        drop(holder);
        // The next holder gives out ids of its own, which mean nothing to the old handle.
        assert_eq!(client.get(b"x").unwrap(), None);
        assert!(matches!(snapshot.get(b"x"), Err(Error::SnapshotLost)));
        assert_eq!(client.snapshot().unwrap().get(b"x").unwrap(), None);
    }

    #[test]
    fn snapshots_end_with_their_handles() {
        let dir = tempfile::tempdir().unwrap();
        let engine = crate::layout::open_engine(dir.path(), &options()).unwrap();
        let holder = Holder::start(dir.path(), engine, File::create(dir.path().join("LOCK")).unwrap()).unwrap();
        let client = super::super::client::Client::connect(dir.path(), Duration::from_secs(30)).unwrap();
        let client = Arc::new(client.unwrap());
        let taken: Vec<_> = (0..3).map(|_| super::super::client::RemoteSnapshot::take(&client).ok().unwrap()).collect();
        let room = &holder.server.room;
        assert_eq!(lock(&room.snapshots).len(), 3);
        drop(taken);
        assert_eq!(lock(&room.snapshots).len(), 0);
    }
}
