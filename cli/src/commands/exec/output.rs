//! What a command prints: shown as it comes, and kept.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracker_store::{RunId, Store};

use crate::commands::logged::owner;

/// What is kept of each stream, in bytes; what comes after is shown alone.
const MAX_KEPT: u64 = 256 << 20;
const BUFFER_BYTES: usize = 64 << 10;

const LOOK: Duration = Duration::from_millis(2);

/// A stream on its way to the terminal and to a file.
pub struct Tee<R, W> {
    from: Option<R>,
    to: W,
    kept: Arc<Mutex<Kept>>,
}

/// What was printed so far.
struct Kept {
    file: File,
    n_bytes: u64,
}

/// A stream that is being copied.
pub struct Copying {
    thread: JoinHandle<io::Result<()>>,
    kept: Arc<Mutex<Kept>>,
}

impl<R: Read + Send + 'static, W: Write + Send + 'static> Tee<R, W> {
    /// Begins to copy `from` to `to`.
    pub fn start(from: Option<R>, to: W) -> io::Result<Copying> {
        let kept = Arc::new(Mutex::new(Kept { file: tempfile::tempfile()?, n_bytes: 0 }));
        let tee = Self { from, to, kept: Arc::clone(&kept) };
        Ok(Copying { thread: thread::spawn(move || tee.run()), kept })
    }

    /// Copies to the end. A terminal that is gone does not stop the command.
    fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(from) = &mut self.from {
            let n_read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..n_read];
            drop(self.to.write_all(bytes).and_then(|()| self.to.flush()));
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_KEPT.saturating_sub(kept.n_bytes).min(n_read as u64) as usize;
            kept.file.write_all(&bytes[..room])?;
            kept.n_bytes += n_read as u64;
        }
        Ok(())
    }
}

impl Copying {
    /// Waits for the end, which processes that the command left behind may put off, but no longer than `until`; then keeps what was
    /// printed as a file of the run.
    pub fn keep(self, store: &Store, run: RunId, name: &str, until: Instant) -> anyhow::Result<()> {
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(LOOK);
        }
        let left = if self.thread.is_finished() {
            self.thread.join().map_err(|_| anyhow::anyhow!("copying {name} failed"))??;
            ""
        } else {
            "\n[the command ended; what it left running prints on, which is not kept]\n"
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = match kept.n_bytes.checked_sub(MAX_KEPT) {
            Some(n_more) if n_more > 0 => format!("\n[{n_more} more bytes were printed and not kept]\n"),
            _ => String::new(),
        };
        kept.file.rewind()?;
        store.put_loose(
            &owner(run),
            &format!("exec/{name}"),
            &mut (&kept.file).chain(cut.as_bytes()).chain(left.as_bytes()),
        )?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_shown_and_kept() {
        let text: Vec<u8> = (0..200_000_u32).map(|nth| nth as u8).collect();
        let shown = tempfile::tempfile().unwrap();
        let copying = Tee::start(Some(io::Cursor::new(text.clone())), shown.try_clone().unwrap()).unwrap();
        copying.thread.join().unwrap().unwrap();
        let kept = copying.kept.lock().unwrap();
        assert_eq!(kept.n_bytes, text.len() as u64);
        for mut file in [shown, kept.file.try_clone().unwrap()] {
            let mut seen = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut seen).unwrap();
            assert_eq!(seen, text);
        }
    }
}
