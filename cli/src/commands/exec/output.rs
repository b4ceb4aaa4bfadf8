//! What a command prints: shown as it comes, and kept.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};

use tracker_store::{RunId, Store};

use crate::commands::logged::owner;

/// What is kept of each stream, in bytes; what comes after is shown alone.
const MAX_KEPT: u64 = 256 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// A stream on its way to the terminal and to a file.
pub struct Tee<R, W> {
    from: Option<R>,
    to: W,
    kept: File,
}

/// What a command printed.
pub struct Printed {
    kept: File,
    n_bytes: u64,
}

impl<R: Read, W: Write> Tee<R, W> {
    /// Copies `from` to `to`.
    pub fn new(from: Option<R>, to: W) -> io::Result<Self> {
        Ok(Self { from, to, kept: tempfile::tempfile()? })
    }

    /// Copies to the end. A terminal that is gone does not stop the command.
    pub fn run(mut self) -> io::Result<Printed> {
        let (mut buffer, mut n_bytes) = (vec![0; BUFFER_BYTES], 0);
        while let Some(from) = &mut self.from {
            let n_read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..n_read];
            drop(self.to.write_all(bytes).and_then(|()| self.to.flush()));
            let room = MAX_KEPT.saturating_sub(n_bytes).min(n_read as u64) as usize;
            self.kept.write_all(&bytes[..room])?;
            n_bytes += n_read as u64;
        }
        Ok(Printed { kept: self.kept, n_bytes })
    }
}

/// Keeps what was printed as a file of the run.
pub fn keep(store: &Store, run: RunId, name: &str, mut printed: Printed) -> anyhow::Result<()> {
    printed.kept.rewind()?;
    let cut = match printed.n_bytes.checked_sub(MAX_KEPT) {
        Some(n_more) if n_more > 0 => format!("\n[{n_more} more bytes were printed and not kept]\n"),
        _ => String::new(),
    };
    store.put_loose(&owner(run), &format!("exec/{name}"), &mut printed.kept.chain(cut.as_bytes()))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_shown_and_kept() {
        let text: Vec<u8> = (0..200_000_u32).map(|nth| nth as u8).collect();
        let mut shown = Vec::new();
        let printed = Tee::new(Some(text.as_slice()), &mut shown).and_then(Tee::run).unwrap();
        assert_eq!(shown, text);
        let mut kept = Vec::new();
        let mut file = printed.kept;
        file.rewind().unwrap();
        file.read_to_end(&mut kept).unwrap();
        assert_eq!((kept.as_slice(), printed.n_bytes), (text.as_slice(), text.len() as u64));
    }
}
