//! Checking every byte of a bundle.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::index::Line;
use super::{Bundle, Progress, Watch, chunk};
use crate::error::{Error, Result};
use crate::id::Digest;

/// A part of a bundle that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file the part begins that is damaged, in bytes.
    pub offset: u64,
    /// What was found.
    pub reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is damaged at byte {}: {}", self.file.display(), self.offset, self.reason)
    }
}

impl Bundle {
    /// Reads every byte, and says what is damaged; nothing if it is sound.
    ///
    /// # Errors
    /// `Io`; `CorruptFile` if the index itself is damaged, so that nothing more can be said.
    pub fn verify(&self, watch: &mut Watch<'_>) -> Result<Vec<Damage>> {
        let lines = self.lines()?;
        let mut damages = Vec::new();
        let mut keep = |result: Result<()>| match result {
            Err(Error::CorruptFile { path, offset, reason }) => {
                damages.push(Damage { file: path, offset, reason });
                Ok(())
            }
            result => result,
        };
        let counts = *self.counts();
        let (mut n_records, mut n_packs) = (0, 0);
        let mut records = blake3::Hasher::new();
        let mut sums: BTreeMap<Digest, u64> = BTreeMap::new();
        for line in &lines {
            match line {
                Line::Chunk(line) => {
                    keep(self.chunk(line).and_then(|raw| self.count(&raw, line.n_entries, &line.chunk)))?;
                    records.update(line.chunk.as_bytes());
                    *sums.entry(line.chunk).or_default() += line.n_entries;
                    n_records += line.n_stored;
                    let total_bytes = Some(counts.stored_bytes);
                    watch(Progress { what: "records", done_bytes: n_records, total_bytes });
                }
                Line::Pack(line) => {
                    let total_bytes = Some(counts.pack_bytes);
                    keep(self.pack(line, &mut |_, block| {
                        n_packs += block.len() as u64;
                        watch(Progress { what: "packs", done_bytes: n_packs, total_bytes });
                        Ok(())
                    }))?;
                }
            }
        }
        let n_entries: u64 = sums.values().sum();
        if Digest::from(records.finalize()) != self.manifest().records || n_entries != counts.entries {
            let reason = "the index has other chunks than the manifest says".to_owned();
            damages.push(Damage { file: self.path().to_path_buf(), offset: 0, reason });
        }
        Ok(damages)
    }

    /// Checks that a chunk has this many entries, well formed.
    fn count(&self, raw: &[u8], n_entries: u64, name: &Digest) -> Result<()> {
        let damaged = |reason: &str| Error::CorruptFile {
            path: self.path().join(super::index::chunk_name(name)),
            offset: 0,
            reason: reason.to_owned(),
        };
        let mut n = 0;
        chunk::entries_of(raw, damaged, &mut |_, _| {
            n += 1;
            Ok(())
        })?;
        if n == n_entries { Ok(()) } else { Err(damaged("it has another number of entries than the index says")) }
    }
}
