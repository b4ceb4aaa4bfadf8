//! Backups: one state of a store, whole, in a folder or a tar file.
//!
//! Records are read from one snapshot of the engine; the packs they name are copied while no collection can begin. What an
//! earlier backup in the same folder has is not written again. Not here: what a backup is made of (`bundle`).

mod restore;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use tracker_engine::{Direction, KeyRange};

use crate::artifact::{PackId, Packs, Piece};
use crate::bundle::{Counts, Cutter, Progress, Purpose, Sink, StoreFacts, Target, Watch};
use crate::error::{Error, Result};
use crate::id::{Digest, Kind};
use crate::keys::tag;
use crate::records::Stored as _;
use crate::store::Store;

pub use restore::Restored;

/// What a backup is, and what was written for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// How much is in it.
    pub counts: Counts,
    /// BLAKE3 over its records: equal for equal records.
    pub records: Digest,
    /// Bytes of files that were written now.
    pub written_bytes: u64,
    /// Bytes of files that an earlier backup had already.
    pub kept_bytes: u64,
}

impl Store {
    /// Writes a backup of all there is now, beside writers. A folder that has an earlier one gets what is not there yet; that one stays
    /// whole until the last step. No collection begins meanwhile.
    ///
    /// # Errors
    /// `Invalid` if the target is something else; `Newer`, `CorruptFile` of the earlier backup, which then stays as it is; `CorruptFile` if
    /// a pack is gone; `Contended` if a collection does not end, or the folder is written by another; `Io`; the engine's.
    pub fn back_up(&self, target: Target<'_>, watch: &mut Watch<'_>) -> Result<Saved> {
        let sink = RefCell::new(Sink::open(target, Purpose::Backup)?);
        let watch = RefCell::new(watch);
        let _copying = self.packs().copying()?;
        self.at_one_state(|store| {
            let mut sink = sink.borrow_mut();
            let mut watch = watch.borrow_mut();
            sink.begin();
            let packs = store.copy_records(&mut sink, &mut **watch)?;
            copy_packs(self.packs(), &packs, &mut sink, &mut **watch)
        })?;
        let totals = sink.into_inner().finish(self.facts()?, Vec::new())?;
        Ok(Saved {
            counts: totals.manifest.counts,
            records: totals.manifest.records,
            written_bytes: totals.written_bytes,
            kept_bytes: totals.kept_bytes,
        })
    }

    /// What the store is made of.
    pub(crate) fn facts(&self) -> Result<StoreFacts> {
        let engine = self.engine_name().to_owned();
        Ok(StoreFacts { engine, layout: tracker_engine::LAYOUT, format: self.format()? })
    }

    /// Adds every entry, cut into chunks. Returns the packs that are named, with the least bytes each must have.
    fn copy_records(&self, sink: &mut Sink<'_>, watch: &mut Watch<'_>) -> Result<BTreeMap<PackId, u64>> {
        let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
        let mut cutter = Cutter::default();
        let mut failed = None;
        let mut add = |key: &[u8], value: &[u8]| -> Result<()> {
            match key {
                [tag::EXPERIMENT, ..] => sink.counts().experiments += 1,
                [tag::NODE, kind, ..] if *kind == Kind::Run as u8 => sink.counts().runs += 1,
                [tag::VERSION, ..] => sink.counts().versions += 1,
                [tag::PIECE, ..] => {
                    if let Some((pack, n_least)) = Piece::decode(key, value)?.place.stretch() {
                        let known = packs.entry(pack).or_default();
                        *known = n_least.max(*known);
                    }
                }
                _ => {}
            }
            if let Some(chunk) = cutter.push(key, value) {
                sink.chunk(&chunk, None)?;
                watch(Progress { what: "records", done_bytes: sink.counts().record_bytes, total_bytes: None });
            }
            Ok(())
        };
        self.read().range(KeyRange::all(), Direction::Ascending, &mut |key, value| match add(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(chunk) = cutter.cut() {
            sink.chunk(&chunk, None)?;
        }
        Ok(packs)
    }
}

fn copy_packs(packs: &Packs, named: &BTreeMap<PackId, u64>, sink: &mut Sink<'_>, watch: &mut Watch<'_>) -> Result<()> {
    let mut readers = Vec::with_capacity(named.len());
    let mut total = 0;
    for (pack, n_least) in named {
        // Opened anew below: there may be more of them than files can be open.
        let reader = packs.open(*pack)?.ok_or_else(|| packs.gone(*pack))?;
        let n_bytes = reader.n_bytes()?;
        // A pack never changes. One that is shorter now must not take the place of what an earlier backup has of it.
        if n_bytes < *n_least || sink.pack_was(*pack).is_some_and(|was| was != n_bytes) {
            let reason = "it has another length than it had, or than what it holds: it is cut short, or was written to";
            return Err(reader.damaged(n_bytes, reason));
        }
        total += n_bytes;
        readers.push((*pack, n_bytes));
    }
    let mut done_bytes = 0;
    for (pack, n_bytes) in readers {
        let reader = packs.open(pack)?.ok_or_else(|| packs.gone(pack))?;
        sink.pack(pack, n_bytes, &mut |offset, bytes| {
            watch(Progress { what: "packs", done_bytes: done_bytes + offset, total_bytes: Some(total) });
            reader.read_at(offset, bytes)
        })?;
        done_bytes += n_bytes;
    }
    Ok(())
}

/// The error for a bundle of the other purpose.
pub(crate) fn expect_purpose(bundle: &crate::bundle::Bundle, purpose: Purpose, command: &str) -> Result<()> {
    let found = bundle.purpose();
    if found == purpose {
        return Ok(());
    }
    let got = format!("an {}, which `tracker {command}` takes", found.name());
    Err(Error::invalid(format!("`{}`", bundle.path().display()), format!("a {}", purpose.name()), got))
}
