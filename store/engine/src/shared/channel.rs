//! What frames go through: two pipes, which carry small frames at two fifths of what a socket costs.
//!
//! The side that connects makes them and sends the other its ends over the socket, which stays open: it tells either side that the other
//! has gone, and a side shuts it down to end its own waiting.
//!
//! Waking a sleeping core costs several times what a small request does, on both sides. So who expects an answer, or the next request,
//! first asks again and again for up to [`WATCH`]; it does so only while the other side has lately been that quick, so that who waits
//! for a slow disk or a long pause sleeps at once.
//!
//! Invariant: what arrived is read before the end of the channel is told. A pipe without a reader sends `SIGPIPE` to who writes: it has to be
//! ignored, as Rust's own `main` does.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::protocol::malformed;

/// How long is looked out before sleeping, and how quick the other side must have been for it to be done again.
const WATCH: Duration = Duration::from_micros(50);
/// So many looks are taken before others are let onto the core: the other side mostly has one of its own.
const QUICK_LOOKS: u32 = 12;
/// The byte that the pipes come with.
const PIPES: u8 = b'p';

/// One end of a connection, used by one thread at a time.
pub(super) struct Channel {
    incoming: PipeReader,
    outgoing: PipeWriter,
    socket: Arc<UnixStream>,
    /// How long a read or a write may wait for the other side; without it, for ever.
    read_time: Option<Duration>,
    write_time: Option<Duration>,
    /// Whether the other side was quick the last time.
    is_quick: AtomicBool,
}

impl Channel {
    /// Makes the pipes, and sends the other side its ends.
    pub(super) fn open(socket: UnixStream) -> io::Result<Self> {
        let (requests, outgoing) = io::pipe()?;
        let (incoming, answers) = io::pipe()?;
        let ends = [requests.as_fd(), answers.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&ends)) {
            return Err(io::Error::other("two pipes are too many to send"));
        }
        sendmsg(&socket, &[IoSlice::new(&[PIPES])], &mut rights, SendFlags::NOSIGNAL)?;
        Self::over(incoming, outgoing, Arc::new(socket))
    }

    /// Takes the ends that the other side sent. Requests are then waited for as long as that is there.
    pub(super) fn accept(socket: Arc<UnixStream>) -> io::Result<Self> {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut rights, RECV_FLAGS))?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("this process has too many files open to take a connection's pipes"));
        }
        if received.bytes != 1 || byte != [PIPES] {
            return Err(malformed("the other side sent something else than pipes"));
        }
        let mut ends: Vec<OwnedFd> = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                ends.extend(received);
            }
        }
        let [incoming, outgoing]: [OwnedFd; 2] =
            ends.try_into().map_err(|_| malformed("the other side sent no pipes"))?;
        Ok(Self { read_time: None, ..Self::over(incoming.into(), outgoing.into(), socket)? })
    }

    fn over(incoming: PipeReader, outgoing: PipeWriter, socket: Arc<UnixStream>) -> io::Result<Self> {
        // Where it is not said on receiving: a child must not keep them open.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        for end in [incoming.as_fd(), outgoing.as_fd()] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        fcntl_setfl(&incoming, OFlags::NONBLOCK)?;
        fcntl_setfl(&outgoing, OFlags::NONBLOCK)?;
        let (read_time, write_time) = (socket.read_timeout()?, socket.write_timeout()?);
        Ok(Self { incoming, outgoing, socket, read_time, write_time, is_quick: AtomicBool::new(true) })
    }

    /// Ends reading here, writing here (which the other side sees as the end), or both.
    pub(super) fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// Reads what comes within [`WATCH`]; `None` if nothing does.
    fn watch(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let mut look = || match (&self.incoming).read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        };
        for _ in 0..QUICK_LOOKS {
            if let Some(n_read) = look()? {
                return Ok(Some(n_read));
            }
        }
        let started = Instant::now();
        while started.elapsed() < WATCH {
            // The other side works first; on the same core, it can only now.
            thread::yield_now();
            if let Some(n_read) = look()? {
                return Ok(Some(n_read));
            }
        }
        Ok(None)
    }

    /// Sleeps until something has come, or the other side has gone.
    fn wait_to_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let until = self.read_time.map(|time| Instant::now() + time);
        loop {
            let mut fds = [PollFd::new(&self.incoming, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
            wait(&mut fds, until)?;
            let is_over = !fds[1].revents().is_empty();
            match (&self.incoming).read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_over => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const RECV_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const RECV_FLAGS: RecvFlags = RecvFlags::empty();

/// Sleeps until one of `fds` has something to tell; `WouldBlock` if none has `until` then.
fn wait(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.map(|left| Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() });
        match poll(fds, time.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(rustix::io::Errno::INTR) => {}
            polled => return Ok(polled.map(drop)?),
        }
    }
}

impl Read for &Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.is_quick.load(Ordering::Relaxed)
            && let Some(n_read) = self.watch(bytes)?
        {
            return Ok(n_read);
        }
        let started = Instant::now();
        let read = self.wait_to_read(bytes);
        self.is_quick.store(started.elapsed() < WATCH, Ordering::Relaxed);
        read
    }
}

impl Write for &Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.outgoing).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
            let until = self.write_time.map(|time| Instant::now() + time);
            // Only the end of both directions counts: who shuts down its own reading still answers.
            let mut fds = [PollFd::new(&self.outgoing, PollFlags::OUT), PollFd::new(&self.socket, PollFlags::empty())];
            wait(&mut fds, until)?;
            if !fds[1].revents().is_empty() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self).read(bytes)
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (here, there) = UnixStream::pair().unwrap();
        let here = Channel::open(here).unwrap();
        (here, Channel::accept(Arc::new(there)).unwrap())
    }

    #[test]
    fn bytes_arrive_in_order_whether_the_other_side_is_quick_or_slow() {
        let (mut here, there) = pair();
        let echo = thread::spawn(move || {
            let (mut read, mut write) = (&there, &there);
            let mut byte = [0];
            while read.read(&mut byte).unwrap() == 1 {
                if byte[0] % 16 == 0 {
                    thread::sleep(WATCH * 4);
                }
                write.write_all(&byte).unwrap();
            }
        });
        for byte in 0..=255 {
            here.write_all(&[byte]).unwrap();
            let mut answer = [0];
            here.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte]);
        }
        drop(here);
        echo.join().unwrap();
    }

    #[test]
    fn what_does_not_fit_the_pipe_is_written_once_there_is_room() {
        let (mut here, mut there) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|nth| nth as u8).collect();
        let received = thread::spawn(move || {
            thread::sleep(WATCH * 4);
            let mut received = vec![0; 4_000_000];
            there.read_exact(&mut received).unwrap();
            received
        });
        here.write_all(&sent).unwrap();
        assert!(received.join().unwrap() == sent);
    }

    #[test]
    fn patience_ends_with_the_sockets_own_time_limit() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        here.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut here = Channel::open(here).unwrap();
        let _there = Channel::accept(Arc::new(there)).unwrap();
        for _ in 0..2 {
            assert_eq!(here.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert_eq!(here.write_all(&vec![0; 1 << 22]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn who_shuts_its_own_reading_down_reads_what_arrived_and_then_the_end_and_still_writes() {
        let (mut here, mut there) = pair();
        here.write_all(b"ab").unwrap();
        there.shut(Shutdown::Read).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(there.read(&mut bytes).unwrap(), 2);
        assert_eq!(there.read(&mut bytes).unwrap(), 0);
        let writing = thread::spawn(move || there.write_all(&vec![7; 1 << 20]).map(|()| there));
        here.read_exact(&mut vec![0; 1 << 20]).unwrap();
        let mut there = writing.join().unwrap().unwrap();
        there.shut(Shutdown::Both).unwrap();
        assert_eq!(there.write_all(&vec![7; 1 << 20]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_other_side_going_is_the_end() {
        let (mut here, there) = pair();
        drop(there);
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
        assert_eq!(here.write_all(&[0]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_sends_no_pipes_is_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"p").unwrap();
        assert_eq!(Channel::accept(Arc::new(there)).err().unwrap().kind(), io::ErrorKind::InvalidData);
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(Channel::accept(Arc::new(there)).is_err());
    }
}
