//! What goes over the socket, and then over the pipes of a [`Channel`](super::channel::Channel).
//!
//! A connection begins with a greeting of fixed bytes that no later protocol may change, over the socket; then frames go back and forth,
//! one answer to each request:
//!
//! ```text
//! frame    [bytes u32 LE][head: bincode 2][body: raw]
//! range    Range → Chunk … (More → Chunk)* until a chunk says it is the last, or Stop, which has no answer
//! ```
//!
//! Keys, values, batches and chunks travel in the body as they lie in memory. The head says what the body is.
//!
//! Invariants: a frame is at most [`MAX_FRAME_BYTES`] and memory grows only with bytes that have arrived; whatever the
//! other side sends, reading it ends in a value or an error.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::batch::MAX_BATCH_BYTES;
use crate::{Direction, Error, KeyRange};

/// Raised whenever a request, an answer or its meaning changes.
pub(super) const PROTOCOL: u32 = 3;
/// The largest frame: the largest batch and its head.
pub(super) const MAX_FRAME_BYTES: usize = MAX_BATCH_BYTES + MAX_HEAD_BYTES;
/// The largest head; only errors, with their paths, come near it.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// The first chunk of a range is small, for those who want one entry; each next one is larger, up to this.
pub(super) const MAX_CHUNK_BYTES: usize = 256 << 10;
pub(super) const FIRST_CHUNK_BYTES: usize = 4 << 10;

const MAGIC: [u8; 8] = *b"trkrengn";

/// The first words of either side: who it is and what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) protocol: u32,
    pub(super) pid: u32,
    pub(super) word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Hello,
    /// Every place is taken: come back later.
    Full,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The value of the key in the body.
    Get { snapshot: Option<u64> },
    /// The entries from the first `n_start` bytes of the body up to the rest of it, if it `has_end`.
    Range { snapshot: Option<u64>, is_descending: bool, n_start: u32, has_end: bool },
    /// The next chunk of the running range.
    More,
    /// No more of the running range. Not answered.
    Stop,
    /// Write the batch in the body.
    Commit { is_resent: bool, is_synced: bool },
    /// Keep the present state.
    Snapshot,
    /// Forget a kept state.
    Release { snapshot: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The body is the value.
    Value,
    Missing,
    /// The body is entries: `[key bytes u32 LE][value bytes u32 LE][key][value]`.
    Chunk {
        is_last: bool,
    },
    Done,
    Snapshot {
        id: u64,
    },
    Failed(Failure),
}

/// An [`Error`] as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Conflict { key: Vec<u8> },
    SnapshotLost,
    Busy { path: PathBuf },
    Corrupt { path: PathBuf, reason: String },
    Foreign { path: PathBuf, reason: String },
    Full { path: PathBuf },
    ReadOnly { path: PathBuf, source: String },
    Io { action: String, path: PathBuf, source: String },
}

impl Greeting {
    pub(super) fn new(word: Word) -> Self {
        Self { protocol: PROTOCOL, pid: std::process::id(), word }
    }

    pub(super) fn write(self, stream: &mut impl Write) -> io::Result<()> {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.protocol.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.pid.to_le_bytes());
        bytes[16] = match self.word {
            Word::Hello => 0,
            Word::Full => 1,
        };
        stream.write_all(&bytes)
    }

    pub(super) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        let mut protocol = [0; 4];
        let mut pid = [0; 4];
        let mut word = [0; 1];
        stream.read_exact(&mut magic)?;
        stream.read_exact(&mut protocol)?;
        stream.read_exact(&mut pid)?;
        stream.read_exact(&mut word)?;
        if magic != MAGIC {
            return Err(malformed("the other side is not a tracker store"));
        }
        let word = if word == [1] { Word::Full } else { Word::Hello };
        Ok(Self { protocol: u32::from_le_bytes(protocol), pid: u32::from_le_bytes(pid), word })
    }
}

/// Sends one frame. It is put together in `frame`, whatever was in that, with the pieces of `body` one behind the other.
pub(super) fn send(
    stream: &mut impl Write,
    head: &impl Serialize,
    body: &[&[u8]],
    frame: &mut Vec<u8>,
) -> io::Result<()> {
    frame.clear();
    frame.extend_from_slice(&[0; 4]);
    bincode::serde::encode_into_std_write(head, frame, config()).map_err(io::Error::other)?;
    for piece in body {
        frame.extend_from_slice(piece);
    }
    let n_bytes = frame.len() - 4;
    if n_bytes > MAX_FRAME_BYTES {
        return Err(malformed("a frame is too large to send"));
    }
    frame[..4].copy_from_slice(&(n_bytes as u32).to_le_bytes());
    stream.write_all(frame)
}

/// Receives one frame into `frame`; returns its head and where its body begins. `None` when the other side has hung up.
pub(super) fn receive<T: DeserializeOwned>(
    stream: &mut impl Read,
    frame: &mut Vec<u8>,
) -> io::Result<Option<(T, usize)>> {
    let mut n_bytes = [0; 4];
    if !read_exact_or_end(stream, &mut n_bytes)? {
        return Ok(None);
    }
    let n_bytes = u32::from_le_bytes(n_bytes) as usize;
    if n_bytes > MAX_FRAME_BYTES {
        return Err(malformed("a frame is larger than the limit"));
    }
    frame.clear();
    // Memory is taken as bytes arrive, not because a length was claimed.
    stream.by_ref().take(n_bytes as u64).read_to_end(frame)?;
    if frame.len() < n_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (head, n_head) = bincode::serde::decode_from_slice(frame, config())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((head, n_head)))
}

/// Adds an entry to the body of a chunk.
pub(super) fn push_entry(chunk: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
    chunk.extend_from_slice(key);
    chunk.extend_from_slice(value);
}

/// Splits the first entry off the body of a chunk: key, value, rest.
pub(super) fn split_entry(chunk: &[u8]) -> io::Result<(&[u8], &[u8], &[u8])> {
    fn split(chunk: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
        let (n_key, rest) = chunk.split_first_chunk()?;
        let (n_value, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*n_key) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*n_value) as usize)?;
        Some((key, value, rest))
    }
    split(chunk).ok_or_else(|| malformed("a chunk ends within an entry"))
}

impl Request {
    /// The request for `range`, and its body.
    pub(super) fn range<'a>(
        snapshot: Option<u64>,
        range: &'a KeyRange<'_>,
        direction: Direction,
    ) -> (Self, [&'a [u8]; 2]) {
        let (start, end) = (range.start(), range.end());
        let request = Self::Range {
            snapshot,
            is_descending: direction == Direction::Descending,
            n_start: start.len() as u32,
            has_end: end.is_some(),
        };
        (request, [start, end.unwrap_or_default()])
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Conflict { key } => Self::Conflict { key },
            Error::SnapshotLost => Self::SnapshotLost,
            Error::Busy { path } => Self::Busy { path },
            Error::Corrupt { path, reason } => Self::Corrupt { path, reason },
            Error::Foreign { path, reason } => Self::Foreign { path, reason },
            Error::Full { path } => Self::Full { path },
            Error::ReadOnly { path, source } => Self::ReadOnly { path, source: source.to_string() },
            Error::Io { action, path, source } => Self::Io { action, path, source: source.to_string() },
            Error::Unavailable { dir: path, .. }
            | Error::InUse { dir: path, .. }
            | Error::Newer { path, .. }
            | Error::NotBuilt { path, .. }
            | Error::Unsupported { path, .. } => Self::Io { action: "use".to_owned(), path, source: message },
            Error::Mismatch { .. } | Error::TooLarge { .. } => {
                Self::Io { action: "use".to_owned(), path: PathBuf::new(), source: message }
            }
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let source = |text: String| Arc::new(io::Error::other(text));
        match failure {
            Failure::Conflict { key } => Self::Conflict { key },
            Failure::SnapshotLost => Self::SnapshotLost,
            Failure::Busy { path } => Self::Busy { path },
            Failure::Corrupt { path, reason } => Self::Corrupt { path, reason },
            Failure::Foreign { path, reason } => Self::Foreign { path, reason },
            Failure::Full { path } => Self::Full { path },
            Failure::ReadOnly { path, source: text } => Self::ReadOnly { path, source: source(text) },
            Failure::Io { action, path, source: text } => Self::Io { action, path, source: source(text) },
        }
    }
}

/// Reads `bytes` as each side would.
pub(crate) fn read_any(bytes: &[u8]) {
    let mut frame = Vec::new();
    let (mut requests, mut answers, mut rest) = (bytes, bytes, bytes);
    while let Ok(Some(_)) = receive::<Request>(&mut requests, &mut frame) {}
    while let Ok(Some(_)) = receive::<Answer>(&mut answers, &mut frame) {}
    while let Ok((_, _, tail)) = split_entry(rest) {
        rest = tail;
    }
}

pub(super) fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_HEAD_BYTES>()
}

/// Fills `bytes`, or finds the stream ended before the first of them.
fn read_exact_or_end(stream: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let mut n_read = 0;
    while n_read < bytes.len() {
        match stream.read(&mut bytes[n_read..]) {
            Ok(0) if n_read == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n_read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back_whole() {
        let mut wire = Vec::new();
        let request = Request::Range { snapshot: Some(9), is_descending: true, n_start: 2, has_end: true };
        send(&mut wire, &request, &[b"ab", b"c"], &mut Vec::new()).unwrap();
        send(&mut wire, &Request::More, &[], &mut Vec::new()).unwrap();
        let mut wire = wire.as_slice();
        let mut frame = Vec::new();
        let (head, n_head) = receive::<Request>(&mut wire, &mut frame).unwrap().unwrap();
        assert_eq!((head, &frame[n_head..]), (request, b"abc".as_slice()));
        let (head, n_head) = receive::<Request>(&mut wire, &mut frame).unwrap().unwrap();
        assert_eq!((head, &frame[n_head..]), (Request::More, b"".as_slice()));
        assert!(receive::<Request>(&mut wire, &mut frame).unwrap().is_none());
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut frame = Vec::new();
        let claim = (MAX_FRAME_BYTES as u32).to_le_bytes();
        assert!(receive::<Request>(&mut claim.as_slice(), &mut frame).is_err());
        assert!(frame.capacity() < 1 << 16);
        assert!(receive::<Request>(&mut u32::MAX.to_le_bytes().as_slice(), &mut frame).is_err());
    }

    #[test]
    fn a_greeting_is_understood_by_every_protocol() {
        let greeting = Greeting { protocol: 7, pid: 0x0102_0304, word: Word::Full };
        let mut wire = Vec::new();
        greeting.write(&mut wire).unwrap();
        assert_eq!(wire, b"trkrengn\x07\0\0\0\x04\x03\x02\x01\x01");
        assert_eq!(Greeting::read(&mut wire.as_slice()).unwrap(), greeting);
        assert!(Greeting::read(&mut b"GET / HTTP/1.1\r\n\r\n".as_slice()).is_err());
    }

    #[test]
    fn errors_keep_their_kind_and_words() {
        let path = PathBuf::from("/x/data.redb");
        let source = Arc::new(io::Error::other("boom"));
        for error in [
            Error::Conflict { key: b"k".to_vec() },
            Error::SnapshotLost,
            Error::Full { path: path.clone() },
            Error::ReadOnly { path: path.clone(), source: Arc::clone(&source) },
            Error::corrupt(&path, "bad"),
            Error::Io { action: "write".to_owned(), path, source },
        ] {
            let there = Error::from(Failure::from(error.clone()));
            assert_eq!(there.to_string(), error.to_string());
            assert_eq!(std::mem::discriminant(&there), std::mem::discriminant(&error));
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            crate::fuzz::frames(&bytes);
        }
    }
}
