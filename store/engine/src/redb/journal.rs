//! The journal: what was acknowledged and is not in redb's file yet, on disk.
//!
//! A commit that is to survive kill -9, and no more, is one `write` at the end of this file, into the system's page cache.
//! From time to time all of it goes into redb's file in one synced transaction, which notes the journal's generation, and
//! the journal begins again with the next one.
//!
//! ```text
//! file    [magic 8][generation u64 LE][boot 16] frame*
//! frame   [bytes u32 LE][check u32 LE][batch, its writes only]
//! ```
//!
//! The check is CRC-32 over generation and batch. The last frame may be cut short by a kill: it was not acknowledged. A frame
//! that is damaged before the last is damage if the system has not been started anew since; after a loss of power, which is
//! more than the journal promises to survive, what comes before it is taken. A generation that redb's file has noted is done.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::batch::MAX_BATCH_BYTES;
use crate::{Batch, Error, Result};

const MAGIC: [u8; 8] = *b"trkrjrnl";
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 8;

/// A journal open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Made with the first frame.
    file: Option<File>,
    generation: u64,
    /// Where the next frame goes; 0 before the header.
    end: u64,
    frame: Vec<u8>,
}

impl Journal {
    /// Opens the journal at `path`, if there is one; `done` is the generation that redb's file has noted. Gives what is
    /// still to be written there, in order.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged or no journal; `Io`.
    pub(super) fn open(path: &Path, done: u64) -> Result<(Self, Vec<Batch>)> {
        let failed = |action: &'static str, error| Error::io(action, path, error);
        let mut journal =
            Self { path: path.to_path_buf(), file: None, generation: done + 1, end: 0, frame: Vec::new() };
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((journal, Vec::new())),
            Err(error) => return Err(failed("open", error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed("read", error))?;
        let mut batches = Vec::new();
        // A header that is cut short was being written when its process was killed: nothing came after it.
        if let Some((header, frames)) = bytes.split_first_chunk::<HEADER_BYTES>() {
            let (generation, boot) = read_header(path, header)?;
            if generation > done {
                if generation > done + 1 {
                    let reason =
                        format!("it is of generation `{generation}` and belongs to another data file (`{done}`)");
                    return Err(Error::corrupt(path, reason));
                }
                let is_same_boot = boot != [0; 16] && boot == *BOOT;
                let n_whole = read_frames(path, generation, frames, is_same_boot, &mut batches)?;
                journal.end = (HEADER_BYTES + n_whole) as u64;
            }
        }
        file.set_len(journal.end).map_err(|error| failed("cut", error))?;
        journal.file = Some(file);
        Ok((journal, batches))
    }

    /// Adds the writes of `batch`.
    ///
    /// # Errors
    /// `Full`, `ReadOnly`, `Io`: it is as it was before.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<()> {
        self.frame.clear();
        if self.end == 0 {
            self.frame.extend_from_slice(&MAGIC);
            self.frame.extend_from_slice(&self.generation.to_le_bytes());
            self.frame.extend_from_slice(&*BOOT);
        }
        let start = self.frame.len();
        self.frame.extend_from_slice(&[0; FRAME_BYTES]);
        batch.extend_with_writes(&mut self.frame);
        let body = &self.frame[start + FRAME_BYTES..];
        let (n_bytes, check) = (body.len() as u32, check(self.generation, body));
        self.frame[start..start + 4].copy_from_slice(&n_bytes.to_le_bytes());
        self.frame[start + 4..start + FRAME_BYTES].copy_from_slice(&check.to_le_bytes());
        let failed = |error| Error::io("write", &self.path, error);
        let file = if let Some(file) = &self.file {
            file
        } else {
            let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&self.path);
            self.file.insert(made.map_err(failed)?)
        };
        if let Err(error) = file.write_all_at(&self.frame, self.end) {
            // Half a frame is passed over when it is read, and overwritten by the next; that it cannot be cut off is no matter.
            drop(file.set_len(self.end));
            return Err(failed(error));
        }
        self.end += self.frame.len() as u64;
        Ok(())
    }

    /// Begins again: redb's file has all of it. Whether it can be cut is no matter, since its generation is done.
    pub(super) fn begin_again(&mut self) {
        self.generation += 1;
        self.end = 0;
        if let Some(file) = &self.file {
            drop(file.set_len(0));
        }
    }

    /// Removes the file of one that has nothing in it; one that stays behind is of no harm.
    pub(super) fn remove(self) {
        if self.end == 0 && self.file.is_some() {
            drop(std::fs::remove_file(&self.path));
        }
    }

    /// The generation that is being written.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Its length, in bytes.
    pub(super) fn n_bytes(&self) -> u64 {
        self.end
    }
}

/// What a journal holds that redb's file, which has noted `done`, has not; and its generation. Writes nothing.
///
/// # Errors
/// `Io`. Damage is no error.
pub(crate) fn look(path: &Path, done: u64) -> Result<Looked> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Looked::default()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let Some((header, frames)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(Looked::default()) };
    let (generation, boot) = match read_header(path, header) {
        Ok(header) => header,
        Err(error) => return Ok(Looked { damage: Some(error), ..Looked::default() }),
    };
    if generation <= done {
        return Ok(Looked { generation, ..Looked::default() });
    }
    let mut looked = Looked { generation, ..Looked::default() };
    if generation > done + 1 {
        let reason = format!("it is of generation `{generation}` and belongs to another data file (`{done}`)");
        looked.damage = Some(Error::corrupt(path, reason));
        return Ok(looked);
    }
    let is_same_boot = boot != [0; 16] && boot == *BOOT;
    looked.damage = read_frames(path, generation, frames, is_same_boot, &mut looked.batches).err();
    Ok(looked)
}

/// What is in a journal.
#[derive(Default)]
pub(crate) struct Looked {
    /// 0 for none.
    pub(crate) generation: u64,
    /// What is to be laid over the file, in order, up to the damage, if there is any.
    pub(crate) batches: Vec<Batch>,
    pub(crate) damage: Option<Error>,
}

fn read_header(path: &Path, header: &[u8; HEADER_BYTES]) -> Result<(u64, [u8; 16])> {
    let (magic, rest) = header.split_at(MAGIC.len());
    let (generation, boot) = rest.split_at(8);
    match (generation.try_into(), boot.try_into()) {
        (Ok(generation), Ok(boot)) if magic == MAGIC => Ok((u64::from_le_bytes(generation), boot)),
        _ => Err(Error::corrupt(path, "it does not begin as a journal does")),
    }
}

/// Reads frames up to the first that is not whole; returns how many bytes are.
fn read_frames(
    path: &Path,
    generation: u64,
    frames: &[u8],
    is_same_boot: bool,
    batches: &mut Vec<Batch>,
) -> Result<usize> {
    let mut rest = frames;
    while !rest.is_empty() {
        let Some((batch, tail)) = read_frame(generation, rest) else {
            let offset = frames.len() - rest.len();
            if is_same_boot && is_followed(generation, rest) {
                let reason = format!("the entry at byte `{}` is damaged", HEADER_BYTES + offset);
                return Err(Error::corrupt(path, reason));
            }
            break;
        };
        batches.push(batch);
        rest = tail;
    }
    Ok(frames.len() - rest.len())
}

/// The first frame, if it is whole, and what comes after.
fn read_frame(generation: u64, bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (n_bytes, rest) = bytes.split_first_chunk()?;
    let (expected, rest) = rest.split_first_chunk()?;
    let n_bytes = u32::from_le_bytes(*n_bytes) as usize;
    let (body, rest) = rest.split_at_checked(n_bytes).filter(|_| n_bytes <= MAX_BATCH_BYTES)?;
    if check(generation, body) != u32::from_le_bytes(*expected) {
        return None;
    }
    Some((Batch::from_bytes(body.to_vec())?, rest))
}

/// Whether a whole frame follows one that is not: then that was not cut short by a kill.
fn is_followed(generation: u64, bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| read_frame(generation, &bytes[at..]).is_some_and(|(batch, _)| !batch.is_empty()))
}

fn check(generation: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Which start of the system this is.
static BOOT: LazyLock<[u8; 16]> = LazyLock::new(boot);

/// Asks the system which start of it this is; zeros where it does not tell.
fn boot() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| (byte as char).to_digit(16)).map(|digit| digit as u8).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    id
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn batch(n: u8) -> Batch {
        let mut batch = Batch::new();
        batch.require_absent(b"not kept");
        batch.put(&[n], &[n; 40]);
        batch.delete(&[n, n]);
        batch
    }

    fn written(dir: &Path, n: u8) -> PathBuf {
        let path = dir.join("data.journal");
        let (mut journal, before) = Journal::open(&path, 6).unwrap();
        assert!(before.is_empty());
        for n in 0..n {
            journal.append(&batch(n)).unwrap();
        }
        path
    }

    fn keys(batches: &[Batch]) -> Vec<u8> {
        batches.iter().map(|batch| batch.writes()[0].0[0]).collect()
    }

    #[test]
    fn what_was_added_comes_back_in_order_without_its_conditions() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let (mut journal, batches) = Journal::open(&path, 6).unwrap();
        assert_eq!(keys(&batches), [0, 1, 2]);
        assert!(batches.iter().all(|batch| batch.n_ops() == 2 && batch.writes()[1].1.is_none()));
        journal.append(&batch(3)).unwrap();
        assert_eq!(keys(&Journal::open(&path, 6).unwrap().1), [0, 1, 2, 3]);
        // Another generation: all of it is done.
        assert!(Journal::open(&path, 7).unwrap().1.is_empty());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert!(Journal::open(&path, 6).unwrap().1.is_empty());
    }

    #[test]
    fn a_new_beginning_passes_over_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 2);
        let (mut journal, _) = Journal::open(&path, 6).unwrap();
        journal.begin_again();
        assert!(Journal::open(&path, 7).unwrap().1.is_empty());
        journal.append(&batch(9)).unwrap();
        assert_eq!(keys(&Journal::open(&path, 7).unwrap().1), [9]);
    }

    #[test]
    fn wherever_a_kill_cuts_it_off_whole_frames_are_there_and_the_next_follow() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        let n_frame = (whole.len() - HEADER_BYTES) / 3;
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            let (mut journal, batches) = Journal::open(&path, 6).unwrap();
            let n_whole = n.saturating_sub(HEADER_BYTES) / n_frame;
            assert_eq!(batches.len(), n_whole, "cut at {n}");
            journal.append(&batch(8)).unwrap();
            assert_eq!(Journal::open(&path, 6).unwrap().1.len(), n_whole + 1, "cut at {n}");
        }
    }

    #[test]
    fn damage_before_the_last_frame_is_named_and_after_a_loss_of_power_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        let n_frame = (whole.len() - HEADER_BYTES) / 3;
        let mut damaged = whole.clone();
        damaged[HEADER_BYTES + n_frame + 20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = Journal::open(&path, 6).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&format!("byte `{}`", HEADER_BYTES + n_frame)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "a damaged journal was written to");
        damaged[16] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(Journal::open(&path, 6).unwrap().1.len(), 1);
    }

    #[test]
    fn what_is_no_journal_or_another_stores_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        let error = Journal::open(&path, 5).unwrap_err().to_string();
        assert!(error.contains("another data file"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        std::fs::write(&path, [7; 100]).unwrap();
        let error = Journal::open(&path, 6).unwrap_err().to_string();
        assert!(error.contains("does not begin as a journal"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), [7; 100]);
    }
}
