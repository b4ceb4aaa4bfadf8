//! The side that asks.
//!
//! Each call takes a connection from the pool, or makes one, and gives it back when its answer is complete; so threads do
//! not wait for one another, and a visitor may ask while its own range is running. A connection that broke in the middle
//! of anything is dropped.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::channel::Channel;
use super::protocol::{self, Answer, Greeting, PROTOCOL, Request, Word};
use super::{socket, unavailable};
use crate::group::lock;
use crate::layout::{self, SOCKET, State};
use crate::{Batch, Direction, Durability, Error, KeyRange, Kind, Read, Result, Visitor};

/// Connections kept for the next calls.
const MAX_IDLE: usize = 32;
/// A connection keeps a buffer of up to this between calls.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Why a call has no answer.
pub(super) enum Trouble {
    /// The connection broke; `is_sent` if the request may have arrived.
    Lost { is_sent: bool },
    /// This is the answer.
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A process that holds the store, as seen from here.
pub(super) struct Client {
    dir: PathBuf,
    engine: Kind,
    patience: Duration,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    stream: BufReader<Channel>,
    /// The frame that was sent or received last.
    frame: Vec<u8>,
}

impl Client {
    /// Connects to the holder of `dir`; `None` if there is none, or no place with it, at present.
    pub(super) fn connect(dir: &Path, patience: Duration) -> Result<Option<Self>> {
        let client = Self { dir: dir.to_path_buf(), engine: Kind::default(), patience, idle: Mutex::default() };
        match client.new_connection() {
            Ok(connection) => {
                client.give_back(connection);
                // Who serves has opened the engine, so the store is whole.
                match layout::check(dir)? {
                    State::Store(engine) => Ok(Some(Self { engine, ..client })),
                    State::Empty => Ok(None),
                }
            }
            Err(Trouble::Lost { .. }) => Ok(None),
            Err(Trouble::Failed(error)) => Err(error),
        }
    }

    /// The engine that keeps the store.
    pub(super) fn engine(&self) -> Kind {
        self.engine
    }

    pub(super) fn get(&self, snapshot: Option<u64>, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        self.ask(&Request::Get { snapshot }, &[key], |answer, body| match answer {
            Answer::Value => Some(Some(body.to_vec())),
            Answer::Missing => Some(None),
            _ => None,
        })
    }

    pub(super) fn commit(&self, batch: &Batch, durability: Durability, is_resent: bool) -> Result<(), Trouble> {
        let is_synced = durability == Durability::Sync;
        self.ask(&Request::Commit { is_resent, is_synced }, &[batch.as_bytes()], |answer, _| {
            matches!(answer, Answer::Done).then_some(())
        })
    }

    /// Visits a range. Once `visit` was called, a broken connection is `SnapshotLost`: the rest of that state is gone.
    pub(super) fn range(
        &self,
        snapshot: Option<u64>,
        range: &KeyRange<'_>,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Trouble> {
        if range.is_empty() {
            return Ok(());
        }
        let (request, body) = Request::range(snapshot, range, direction);
        let mut connection = self.connection()?;
        self.send(&mut connection, &request, &body)?;
        let mut is_visited = false;
        let end = loop {
            let (answer, n_head) = match self.receive(&mut connection) {
                Err(Trouble::Lost { .. }) if is_visited => return Err(Error::SnapshotLost.into()),
                received => received?,
            };
            let is_last = match answer {
                Answer::Chunk { is_last } => is_last,
                Answer::Failed(failure) => break Err(Error::from(failure).into()),
                _ => return Err(self.nonsense()),
            };
            let mut entries = &connection.frame[n_head..];
            let mut is_stopped = false;
            while !entries.is_empty() && !is_stopped {
                let (key, value, rest) = protocol::split_entry(entries).map_err(|_| self.nonsense())?;
                entries = rest;
                is_visited = true;
                is_stopped = visit(key, value).is_break();
            }
            if is_last {
                break Ok(());
            }
            let next = if is_stopped { Request::Stop } else { Request::More };
            match self.send(&mut connection, &next, &[]) {
                // Nothing more was wanted, so nothing is lost.
                Err(_) if is_stopped => return Ok(()),
                Err(Trouble::Lost { .. }) if is_visited => return Err(Error::SnapshotLost.into()),
                sent => sent?,
            }
            if is_stopped {
                break Ok(());
            }
        };
        self.give_back(connection);
        end
    }

    /// Sends a request that has one answer, and lets `read` take it from its head and body.
    fn ask<T>(
        &self,
        request: &Request,
        body: &[&[u8]],
        read: impl FnOnce(&Answer, &[u8]) -> Option<T>,
    ) -> Result<T, Trouble> {
        let mut connection = self.connection()?;
        let answer = self.ask_over(&mut connection, request, body, read)?;
        self.give_back(connection);
        Ok(answer?)
    }

    /// As [`Client::ask`]; `Ok` when the answer is complete, so that the connection can take the next request.
    fn ask_over<T>(
        &self,
        connection: &mut Connection,
        request: &Request,
        body: &[&[u8]],
        read: impl FnOnce(&Answer, &[u8]) -> Option<T>,
    ) -> Result<Result<T>, Trouble> {
        self.send(connection, request, body)?;
        let (answer, n_head) = self.receive(connection)?;
        if let Answer::Failed(failure) = answer {
            return Ok(Err(failure.into()));
        }
        read(&answer, &connection.frame[n_head..]).map(Ok).ok_or_else(|| self.nonsense())
    }

    fn send(&self, connection: &mut Connection, request: &Request, body: &[&[u8]]) -> Result<(), Trouble> {
        protocol::send(connection.stream.get_mut(), request, body, &mut connection.frame)
            .map_err(|error| self.trouble(error))
    }

    fn receive(&self, connection: &mut Connection) -> Result<(Answer, usize), Trouble> {
        protocol::receive(&mut connection.stream, &mut connection.frame)
            .map_err(|error| self.trouble(error))?
            .ok_or(Trouble::Lost { is_sent: true })
    }

    fn connection(&self) -> Result<Connection, Trouble> {
        let idle = lock(&self.idle).pop();
        idle.map_or_else(|| self.new_connection(), Ok)
    }

    fn give_back(&self, mut connection: Connection) {
        if connection.frame.capacity() > MAX_KEPT_BYTES {
            connection.frame = Vec::new();
        }
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    fn new_connection(&self) -> Result<Connection, Trouble> {
        let not_sent = |error| match self.trouble(error) {
            Trouble::Lost { .. } => Trouble::Lost { is_sent: false },
            failed @ Trouble::Failed(_) => failed,
        };
        let mut stream = socket::connect(&self.dir).map_err(not_sent)?;
        // A zero timeout would mean none.
        let patience = Some(self.patience.max(Duration::from_millis(1)));
        stream.set_read_timeout(patience).map_err(not_sent)?;
        stream.set_write_timeout(patience).map_err(not_sent)?;
        Greeting::new(Word::Hello).write(&mut stream).map_err(not_sent)?;
        let greeting = Greeting::read(&mut stream).map_err(not_sent)?;
        if greeting.protocol != PROTOCOL {
            let Greeting { pid, protocol, .. } = greeting;
            return Err(Error::Mismatch { pid, expected: PROTOCOL, got: protocol }.into());
        }
        match greeting.word {
            Word::Hello => {
                let channel = Channel::open(stream).map_err(not_sent)?;
                Ok(Connection { stream: BufReader::new(channel), frame: Vec::new() })
            }
            Word::Full => Err(Trouble::Lost { is_sent: false }),
        }
    }

    /// What a failed read or write means.
    fn trouble(&self, error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Trouble::Failed(unavailable(&self.dir, self.patience))
            }
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Trouble::Lost { is_sent: true },
            _ => Trouble::Failed(Error::io("talk over", &self.dir.join(SOCKET), error)),
        }
    }

    fn nonsense(&self) -> Trouble {
        self.trouble(protocol::malformed("the holder of the store answered something else than was asked"))
    }
}

/// A snapshot kept by the holder.
pub(super) struct RemoteSnapshot {
    client: Arc<Client>,
    id: u64,
    /// The holder forgets the snapshot when this closes.
    owner: Mutex<Option<Connection>>,
}

impl RemoteSnapshot {
    pub(super) fn take(client: &Arc<Client>) -> Result<Self, Trouble> {
        let mut owner = client.connection()?;
        let id = client.ask_over(&mut owner, &Request::Snapshot, &[], |answer, _| match answer {
            Answer::Snapshot { id } => Some(*id),
            _ => None,
        })??;
        Ok(Self { client: Arc::clone(client), id, owner: Mutex::new(Some(owner)) })
    }
}

/// A snapshot does not outlive the process that kept it.
fn lost_with_holder<T>(answer: Result<T, Trouble>) -> Result<T> {
    answer.map_err(|trouble| match trouble {
        Trouble::Lost { .. } => Error::SnapshotLost,
        Trouble::Failed(error) => error,
    })
}

impl Read for RemoteSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        lost_with_holder(self.client.get(Some(self.id), key))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        lost_with_holder(self.client.range(Some(self.id), &range, direction, visit))
    }
}

impl Drop for RemoteSnapshot {
    fn drop(&mut self) {
        let Some(mut owner) = lock(&self.owner).take() else {
            return;
        };
        let request = Request::Release { snapshot: self.id };
        let released =
            self.client.ask_over(&mut owner, &request, &[], |answer, _| matches!(answer, Answer::Done).then_some(()));
        if released.is_ok() {
            self.client.give_back(owner);
        }
    }
}
