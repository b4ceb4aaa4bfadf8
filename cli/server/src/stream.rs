//! Bodies of any length, in bounded memory: bytes of a request as a reader, and parts of an answer as they are asked for.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::{Bytes, Payload};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::error::{Answer, Code, Refusal};

/// Stretches of a body that wait to be read.
const N_WAITING: usize = 4;
/// A body goes to its reader in stretches of this, so that the two threads wake each other seldom.
const STRETCH_BYTES: usize = 256 << 10;
/// Bytes that are read of a file at a time.
const READ_BYTES: usize = 256 << 10;
/// Parts of an answer are sent together up to this.
const SEND_BYTES: usize = 64 << 10;

/// Bytes a second that a body has to come with once it took longer than a client may keep silent.
const LEAST_RATE: f64 = 1024.0;
/// How long the rest of a body that is refused is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The whole of a body, if it is not too long, and there is room for it among the others.
pub(crate) async fn whole(
    payload: &mut Payload,
    limit: usize,
    room: &mut Room<'_>,
    patience: Duration,
) -> Answer<Vec<u8>> {
    let mut body = Vec::new();
    let mut pace = Pace::new(patience);
    while let Some(bytes) = pace.next(payload).await? {
        if body.len() + bytes.len() > limit {
            return Err(Refusal::invalid(format!("The request body exceeds the maximum length of {limit} bytes.")));
        }
        room.take(bytes.len())?;
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

/// Reads what is left of a body, up to `limit` bytes, for a while.
pub(crate) async fn drain(payload: &mut Payload, limit: usize) {
    let mut n_read = 0;
    let read = async {
        while let Some(Ok(bytes)) = payload.next().await {
            n_read += bytes.len();
            if n_read > limit {
                return;
            }
        }
    };
    // What has not come by then is not worth waiting for.
    drop(tokio::time::timeout(DRAIN_TIME, read).await);
}

/// How much of something there is, and how much of it is taken.
#[derive(Debug)]
pub(crate) struct Rooms {
    taken: AtomicUsize,
    limit: usize,
}

/// What one request has taken; given back when it ends.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    rooms: &'a Rooms,
    n_taken: usize,
}

impl Rooms {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    /// Takes one, which is to be given back.
    pub(crate) fn try_take(&self) -> Answer<()> {
        let mut room = self.enter();
        room.take(1)?;
        room.n_taken = 0;
        Ok(())
    }

    /// Gives back what a room kept.
    pub(crate) fn give_back(&self, n: usize) {
        self.taken.fetch_sub(n, Ordering::Relaxed);
    }

    /// A request that has taken nothing yet.
    pub(crate) fn enter(&self) -> Room<'_> {
        Room { rooms: self, n_taken: 0 }
    }
}

impl Room<'_> {
    /// Takes more.
    ///
    /// # Errors
    /// That the server is busy, if there is not so much left: nothing is taken then.
    pub(crate) fn take(&mut self, n: usize) -> Answer<()> {
        let before = self.rooms.taken.fetch_add(n, Ordering::Relaxed);
        self.n_taken += n;
        if before + n <= self.rooms.limit {
            return Ok(());
        }
        self.rooms.taken.fetch_sub(n, Ordering::Relaxed);
        self.n_taken -= n;
        Err(Refusal::busy())
    }

    /// Keeps what was taken past its own end, and says how much that is.
    pub(crate) fn keep(mut self) -> usize {
        std::mem::take(&mut self.n_taken)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.rooms.taken.fetch_sub(self.n_taken, Ordering::Relaxed);
    }
}

/// How fast a body comes.
struct Pace {
    patience: Duration,
    begun: Instant,
    n_bytes: usize,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self { patience, begun: Instant::now(), n_bytes: 0 }
    }

    /// The next bytes. Who keeps silent for too long is refused, and who sends next to nothing for longer than that.
    async fn next(&mut self, payload: &mut Payload) -> Answer<Option<Bytes>> {
        let late = || Refusal::new(Code::BadRequest, "The request body did not come in time.");
        let next = tokio::time::timeout(self.patience, payload.next()).await.map_err(|_| late())?;
        let Some(bytes) = next
            .transpose()
            .map_err(|error| Refusal::new(Code::BadRequest, format!("The request body ended early: {error}.")))?
        else {
            return Ok(None);
        };
        self.n_bytes += bytes.len();
        let owed = self.begun.elapsed().saturating_sub(self.patience).as_secs_f64() * LEAST_RATE;
        if (self.n_bytes as f64) < owed { Err(late()) } else { Ok(Some(bytes)) }
    }
}

/// A stretch of a body, as it came; an empty one says that the body is whole.
type Stretch = Vec<Bytes>;

/// Where the bytes of a body go.
pub(crate) struct Sender(mpsc::Sender<Stretch>);

/// The bytes of a body, for who reads them on a thread of its own.
pub(crate) struct BodyReader {
    stretches: mpsc::Receiver<Stretch>,
    stretch: std::vec::IntoIter<Bytes>,
    now: Bytes,
    /// Whether the last bytes came; a body that ends without is not whole.
    is_whole: bool,
}

/// A way from a body to a reader.
pub(crate) fn pipe() -> (Sender, BodyReader) {
    let (sender, stretches) = mpsc::channel(N_WAITING);
    let stretch = Vec::new().into_iter();
    (Sender(sender), BodyReader { stretches, stretch, now: Bytes::new(), is_whole: false })
}

impl Sender {
    /// Sends a body, as fast as it is read.
    pub(crate) async fn send(self, payload: &mut Payload, patience: Duration) -> Answer<()> {
        let (mut stretch, mut n_bytes) = (Stretch::new(), 0);
        let mut pace = Pace::new(patience);
        while let Some(bytes) = pace.next(payload).await? {
            n_bytes += bytes.len();
            stretch.push(bytes);
            if n_bytes >= STRETCH_BYTES {
                n_bytes = 0;
                // Who reads has failed, and says why.
                if self.0.send(std::mem::take(&mut stretch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !stretch.is_empty() {
            drop(self.0.send(stretch).await);
        }
        drop(self.0.send(Stretch::new()).await);
        Ok(())
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            if let Some(bytes) = self.stretch.next() {
                self.now = bytes;
                continue;
            }
            if self.is_whole {
                return Ok(0);
            }
            match self.stretches.blocking_recv() {
                Some(stretch) if stretch.is_empty() => self.is_whole = true,
                Some(stretch) => self.stretch = stretch.into_iter(),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request body ended early")),
            }
        }
        let n_bytes = self.now.len().min(buffer.len());
        buffer[..n_bytes].copy_from_slice(&self.now.split_to(n_bytes));
        Ok(n_bytes)
    }
}

/// The next `n_left` bytes of a reader, read aside as they are asked for.
pub(crate) fn bytes_of(reader: impl Read + Send + 'static, n_left: u64) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some((reader, n_left)), |state| async move {
        let (mut reader, n_left) = state.filter(|(_, n_left)| *n_left > 0)?;
        let read = actix_web::web::block(move || {
            let mut buffer = vec![0; READ_BYTES.min(usize::try_from(n_left).unwrap_or(READ_BYTES))];
            let mut n_read = 0;
            while n_read < buffer.len() {
                match reader.read(&mut buffer[n_read..])? {
                    0 => {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the file is shorter than its record says",
                        ));
                    }
                    n => n_read += n,
                }
            }
            Ok((reader, buffer))
        });
        match read.await.map_err(io::Error::other).and_then(|read| read) {
            Ok((reader, buffer)) => {
                let n_left = n_left - buffer.len() as u64;
                Some((Ok(buffer.into()), Some((reader, n_left))))
            }
            // The client is told by the connection: it ends before the bytes it was promised.
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// The parts of an answer, some at a time, made aside as they are asked for.
pub(crate) fn parts_of(
    parts: impl Iterator<Item = Answer<Vec<u8>>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        let made = actix_web::web::block(move || {
            let mut together = Vec::new();
            while together.len() < SEND_BYTES {
                match parts.next() {
                    Some(Ok(part)) => together.extend(part),
                    Some(Err(refusal)) => return Err(io::Error::other(refusal.message)),
                    None => break,
                }
            }
            Ok((parts, together))
        });
        match made.await.map_err(io::Error::other).and_then(|made| made) {
            Ok((_, together)) if together.is_empty() => None,
            Ok((parts, together)) => Some((Ok(together.into()), Some(parts))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// The stretch of a file that the header `Range` asks for: its first byte and how many. `Ok(None)` is the whole file; an error is a stretch
/// that is not there.
pub(crate) fn range(header: Option<&str>, n_bytes: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else { return Ok(None) };
    // Of several stretches none is given by itself: the whole file is a fair answer.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Ok(None) };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let Ok(n_last) = last.parse::<u64>() else { return Ok(None) };
        return if n_last == 0 || n_bytes == 0 {
            Err(())
        } else {
            Ok(Some((n_bytes - n_last.min(n_bytes), n_last.min(n_bytes))))
        };
    }
    let Ok(first) = first.parse::<u64>() else { return Ok(None) };
    let last = if last.is_empty() { u64::MAX } else { last.parse().map_or(0, |last: u64| last) };
    if last < first {
        return Ok(None);
    }
    if first >= n_bytes {
        return Err(());
    }
    Ok(Some((first, last.min(n_bytes - 1) - first + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_those_of_the_standard() {
        for (header, expected) in [
            (None, Ok(None)),
            (Some("bytes=0-"), Ok(Some((0, 10)))),
            (Some("bytes=2-4"), Ok(Some((2, 3)))),
            (Some("bytes=2-400"), Ok(Some((2, 8)))),
            (Some("bytes=-3"), Ok(Some((7, 3)))),
            (Some("bytes=-30"), Ok(Some((0, 10)))),
            (Some("bytes=9-9"), Ok(Some((9, 1)))),
            (Some("bytes=10-"), Err(())),
            (Some("bytes=-0"), Err(())),
            (Some("bytes=4-2"), Ok(None)),
            (Some("bytes=0-1,3-4"), Ok(None)),
            (Some("items=0-1"), Ok(None)),
            (Some("bytes=x-1"), Ok(None)),
        ] {
            assert_eq!(range(header, 10), expected, "{header:?}");
        }
        assert_eq!(range(Some("bytes=0-"), 0), Err(()));
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let rooms = Rooms::new(10);
        let mut first = rooms.enter();
        first.take(8).unwrap();
        let mut second = rooms.enter();
        assert_eq!(second.take(3).unwrap_err(), Refusal::busy());
        second.take(2).unwrap();
        drop(first);
        second.take(8).unwrap();
    }

    #[test]
    fn a_body_that_ends_early_is_an_error_and_not_a_shorter_file() {
        let (sender, mut reader) = pipe();
        sender.0.blocking_send(vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]).unwrap();
        drop(sender);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (sender, mut reader) = pipe();
        sender.0.blocking_send(vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]).unwrap();
        sender.0.blocking_send(Stretch::new()).unwrap();
        let mut whole = Vec::new();
        assert_eq!(reader.read_to_end(&mut whole).unwrap(), 3);
    }
}
