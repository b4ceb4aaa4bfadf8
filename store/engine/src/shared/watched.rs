//! A connection that looks out for bytes for a moment before it sleeps for them.
//!
//! Waking a sleeping core costs several times what a small request does, on both sides. So who expects an answer, or the next
//! request, first asks again and again for up to [`WATCH`]; it does so only while the other side has lately been that quick, so
//! that who waits for a slow disk or a long pause sleeps at once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long is looked out before sleeping, and how quick the other side must have been for it to be done again.
const WATCH: Duration = Duration::from_micros(50);

/// One end of a connection, used by one thread at a time.
pub(super) struct Watched {
    stream: UnixStream,
    /// Whether the other side was quick the last time.
    is_quick: AtomicBool,
    /// Whether the stream answers at once that there is nothing yet.
    is_nonblocking: AtomicBool,
}

impl Watched {
    /// Takes over a stream that blocks.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, is_quick: AtomicBool::new(true), is_nonblocking: AtomicBool::new(false) }
    }

    fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        if self.is_nonblocking.swap(is_nonblocking, Ordering::Relaxed) != is_nonblocking {
            self.stream.set_nonblocking(is_nonblocking)?;
        }
        Ok(())
    }

    /// Reads what comes within [`WATCH`]; `None` if nothing does.
    fn watch(&self, bytes: &mut [u8], started: Instant) -> io::Result<Option<usize>> {
        self.set_nonblocking(true)?;
        while started.elapsed() < WATCH {
            // The other side works first; on the same core, it can only now.
            thread::yield_now();
            match (&self.stream).read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }
}

impl Read for &Watched {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        if self.is_quick.load(Ordering::Relaxed)
            && let Some(n_read) = self.watch(bytes, started)?
        {
            return Ok(n_read);
        }
        self.set_nonblocking(false)?;
        let read = (&self.stream).read(bytes);
        self.is_quick.store(started.elapsed() < WATCH * 2, Ordering::Relaxed);
        read
    }
}

impl Write for &Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&self.stream).write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.is_nonblocking.load(Ordering::Relaxed) => {
                self.set_nonblocking(false)?;
                (&self.stream).write(bytes)
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Watched {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self).read(bytes)
    }
}

impl Write for Watched {
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

    #[test]
    fn bytes_arrive_in_order_whether_the_other_side_is_quick_or_slow() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, there) = (Watched::new(here), Watched::new(there));
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
    fn what_does_not_fit_the_buffer_is_written_once_there_is_room() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut here = Watched::new(here);
        let sent: Vec<u8> = (0..4_000_000_u32).map(|nth| nth as u8).collect();
        there.write_all(b"x").unwrap();
        here.read_exact(&mut [0]).unwrap();
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
    fn patience_ends_with_the_streams_own_time_limit() {
        let (here, _there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        for _ in 0..2 {
            let error = (&Watched::new(here.try_clone().unwrap())).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
