//! Collecting what nothing names: records of files and pieces, packs, and the dead parts of packs.
//!
//! What is kept: every version, its manifest, its files, loose files, their pieces, and the bases of those. All else goes. A pack
//! with nothing in it that is kept is removed; one that is mostly dead is rewritten first.
//!
//! Invariants: at every moment every kept piece is where its record says, so a collection may be killed anywhere, and the
//! next one goes on; a pack is out of the way of writers (condemned, by a rename that is undone if one was quicker)
//! before the commit that settles it, and removed after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracker_engine::{Batch, Durability, Error as EngineError};

use super::gate::{self, Mark};
use super::packs::PackState;
use super::pieces::PieceReader;
use super::{Coded, FilePieces, Manifest, PackId, Piece, PieceRef, Place, Version};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// The most records one commit removes or moves.
const MAX_RECORDS: usize = 50_000;
/// How often a collection starts again because something was saved meanwhile.
const N_ATTEMPTS: usize = 16;

/// How to collect.
#[derive(Clone, Debug)]
pub struct Collect {
    /// How old what no record names must be before it goes: packs that were written and are about to be named look like that.
    /// A writer that is slower is safe all the same: a pack it is writing stays, whatever its age, and if one it wrote is gone it is
    /// told, and puts it again.
    pub grace: Duration,
    /// Whether to count only, and change nothing.
    pub dry_run: bool,
    /// Packs of which less than this share is kept are rewritten, in percent; 0 rewrites none.
    pub rewrite_below: u8,
}

impl Default for Collect {
    /// An hour of grace; packs less than half alive are rewritten.
    fn default() -> Self {
        Self { grace: Duration::from_hours(1), dry_run: false, rewrite_below: 50 }
    }
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Bytes of packs that are free now: those of removed packs without those that were moved.
    pub freed_bytes: u64,
    /// Bytes moved into new packs.
    pub moved_bytes: u64,
    /// Records of files removed.
    pub n_files: u64,
    /// Records of pieces removed.
    pub n_pieces: u64,
    /// Packs removed, rewritten and unfinished ones too.
    pub n_packs: u64,
    /// Packs no record names that are too young to remove, or being written.
    pub n_young: u64,
    /// Bytes of packs that are kept, dead parts too.
    pub kept_bytes: u64,
    /// Packs that should have been rewritten, and stay as they are because a piece in them is damaged: each with what is
    /// wrong.
    pub damaged: Vec<String>,
}

/// What is kept, and what is not, at one state of the store.
struct Marks {
    saved: Mark,
    dead_files: Vec<Vec<u8>>,
    dead_pieces: Vec<Vec<u8>>,
    /// Kept bytes of every pack a record names; 0 if all in it is dead.
    packs: BTreeMap<PackId, u64>,
    live: BTreeMap<Digest, u32>,
}

/// A piece that is kept, and its record.
struct Kept {
    key: Vec<u8>,
    record: Vec<u8>,
    piece: PieceRef,
    place: Place,
}

/// Called before each step that changes something; may fail in a test, as a kill would.
pub(super) type Step<'a> = dyn FnMut(&'static str) -> Result<()> + 'a;

impl Store {
    /// Removes what no version of an artifact names, and gives its bytes back to the disk.
    ///
    /// Safe beside writers and readers in this and other processes, and may be killed at any moment: the next collection
    /// finishes what it left. A reader of a version that was [removed](Store::remove_version) fails.
    ///
    /// # Errors
    /// `Corrupt` if something kept cannot be read: then nothing is removed; `Contended` if others save all the time, or
    /// collect; `Io`;
    /// the engine's.
    pub fn collect(&self, how: &Collect) -> Result<Collected> {
        self.collect_by_steps(how, &mut |_| Ok(()))
    }

    pub(super) fn collect_by_steps(&self, how: &Collect, step: &mut Step<'_>) -> Result<Collected> {
        let _alone = self.packs().collecting()?;
        let mut done = Collected::default();
        let mut sizes = BTreeMap::new();
        for pack in self.packs().list()? {
            if pack.state == PackState::Condemned && !how.dry_run {
                // Left by a collection that was killed. Back it goes, and is judged again.
                step("restore a pack")?;
                self.packs().restore(pack.id)?;
            }
            if pack.state == PackState::Unfinished {
                if pack.age < how.grace || self.packs().is_written(pack.id)? {
                    done.n_young += 1;
                } else {
                    done.freed_bytes += pack.n_bytes;
                    done.n_packs += 1;
                    if !how.dry_run {
                        step("remove an unfinished pack")?;
                        self.packs().remove_unfinished(pack.id)?;
                    }
                }
            } else {
                sizes.insert(pack.id, (pack.n_bytes, pack.age));
            }
        }
        let n_unfinished = done.n_young;
        let marks = self.at_one_state(mark)?;
        let sparse = sparse(&marks, &sizes, how.rewrite_below);
        if how.dry_run {
            done.moved_bytes = sparse.iter().filter_map(|pack| marks.packs.get(pack)).sum();
            let goes = unnamed(&marks, &sizes, how, &mut done).into_iter().chain(sparse).collect();
            tally(&mut done, &marks, &sizes, &goes);
            return Ok(done);
        }
        for (pack, pieces) in self.pieces_in(&sparse, &marks)? {
            match self.rewrite(pack, &pieces, step) {
                Ok(n_bytes) => done.moved_bytes += n_bytes,
                Err(error @ (Error::CorruptFile { .. } | Error::Corrupt { .. })) => {
                    done.damaged.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        for _ in 0..N_ATTEMPTS {
            let marks = self.at_one_state(mark)?;
            done.n_young = n_unfinished;
            let goes = unnamed(&marks, &sizes, how, &mut done);
            if self.sweep(&marks, &goes, step)? {
                tally(&mut done, &marks, &sizes, &goes);
                return Ok(done);
            }
        }
        Err(Error::Contended { what: "store", name: "blobs".to_owned() })
    }

    /// What is kept of these packs.
    fn pieces_in(&self, packs: &[PackId], marks: &Marks) -> Result<BTreeMap<PackId, Vec<Kept>>> {
        let mut kept: BTreeMap<PackId, Vec<Kept>> = packs.iter().map(|pack| (*pack, Vec::new())).collect();
        if kept.is_empty() {
            return Ok(kept);
        }
        for entry in self.entries(&keys::pieces()) {
            let (key, record) = entry?;
            let place = Piece::decode(&key, &record)?.place;
            let digest = keys::digest_at(&key)?;
            if let (Some(n_bytes), Some(pieces)) =
                (marks.live.get(&digest), place.pack().and_then(|pack| kept.get_mut(&pack)))
            {
                pieces.push(Kept { key, record, piece: PieceRef { digest, n_bytes: *n_bytes }, place });
            }
        }
        Ok(kept)
    }

    /// Moves what is kept of a pack to a new one. Returns how many bytes that is.
    fn rewrite(&self, pack: PackId, pieces: &[Kept], step: &mut Step<'_>) -> Result<u64> {
        let seen = gate::collected(self)?;
        let mut n_moved = 0;
        let mut reader = PieceReader::new(self.clone());
        for group in pieces.chunks(MAX_RECORDS) {
            step("write a pack anew")?;
            let mut writer = self.packs().write()?;
            let id = writer.id();
            let mut moved = Vec::with_capacity(group.len());
            for Kept { key, record, piece, place } in group {
                let Some(stored) = reader.stored(*piece, place)? else { continue };
                let offset = writer.append(&stored)?;
                n_moved += stored.len() as u64;
                let place = match place {
                    Place::Coded(coded) => Place::Coded(Coded { pack: id, offset, ..coded.clone() }),
                    _ => Place::Packed(id, offset),
                };
                moved.push((key, record, Piece { place }.encode()?));
            }
            step("finish the new pack")?;
            writer.finish()?;
            step("name the new pack")?;
            self.write("pack", &pack, Durability::Sync, |batch| {
                gate::name(self, batch, &seen, Some(id), std::iter::empty())?;
                for (key, old, new) in &moved {
                    // What others moved or removed meanwhile stays as they left it.
                    if self.get(key)?.as_ref() == Some(*old) {
                        batch.require_equals(key, old);
                        batch.put(key, new);
                    }
                }
                Ok(())
            })?;
        }
        Ok(n_moved)
    }

    /// Removes dead records and `goes`; false, with nothing lost, if something was saved since the marking.
    fn sweep(&self, marks: &Marks, goes: &BTreeSet<PackId>, step: &mut Step<'_>) -> Result<bool> {
        for pack in goes {
            step("condemn a pack")?;
            self.packs().condemn(*pack)?;
        }
        // Files before pieces: a file that is there has its pieces.
        let dead: Vec<&Vec<u8>> = marks.dead_files.iter().chain(&marks.dead_pieces).collect();
        let groups = dead.chunks(MAX_RECORDS).map(<[_]>::to_vec).chain(dead.is_empty().then(Vec::new));
        for group in groups {
            if group.is_empty() && goes.is_empty() {
                return Ok(true);
            }
            step("remove records")?;
            let mut batch = Batch::new();
            gate::remove(&mut batch, &marks.saved);
            for key in group {
                batch.delete(key);
            }
            match self.commit_batch(&batch, Durability::Sync) {
                Ok(()) => {}
                Err(Error::Engine(EngineError::Conflict { .. })) => {
                    for pack in goes {
                        self.packs().restore(*pack)?;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        for pack in goes {
            step("remove a pack")?;
            self.packs().remove_condemned(*pack)?;
        }
        Ok(true)
    }

    /// The pieces of a file, and the bases of those, with the records of all.
    pub(super) fn pieces_of(&self, file: &Digest) -> Result<Vec<(PieceRef, Piece)>> {
        let key = keys::file(file);
        let pieces: FilePieces = self.get_value(&key)?.ok_or_else(|| Error::corrupt(&key, "the file is not there"))?;
        let mut all = Vec::with_capacity(pieces.pieces.len());
        for wanted in pieces.pieces {
            let piece = self.piece(&wanted.digest)?;
            // A base has none itself.
            if let Place::Coded(Coded { base: Some(base), .. }) = &piece.place {
                all.push((PieceRef { digest: *base, ..wanted }, self.piece(base)?));
            }
            all.push((wanted, piece));
        }
        Ok(all)
    }

    fn piece(&self, digest: &Digest) -> Result<Piece> {
        let key = keys::piece(digest);
        self.get_value(&key)?.ok_or_else(|| Error::corrupt(&key, "the piece of a file is not there"))
    }
}

/// Marks what versions and loose files name, and finds what is left.
fn mark(store: &Store) -> Result<Marks> {
    let saved = gate::saved(store)?;
    let mut manifests = BTreeSet::new();
    for entry in store.entries(&keys::all_versions()) {
        let (key, record) = entry?;
        manifests.insert(Version::decode(&key, &record)?.manifest);
    }
    let mut files = BTreeSet::new();
    for manifest in manifests {
        let manifest: Manifest = store.content(manifest)?;
        files.extend(manifest.files.into_iter().map(|file| file.digest));
    }
    for loose in super::loose::every(store) {
        files.insert(loose?.2.digest);
    }
    let mut live: BTreeMap<Digest, u32> = BTreeMap::new();
    for file in &files {
        live.extend(store.pieces_of(file)?.into_iter().map(|(piece, _)| (piece.digest, piece.n_bytes)));
    }
    let mut dead_files = Vec::new();
    for entry in store.entries(&keys::files()) {
        let (key, _) = entry?;
        if !files.contains(&keys::digest_at(&key)?) {
            dead_files.push(key);
        }
    }
    let mut dead_pieces = Vec::new();
    let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
    for entry in store.entries(&keys::pieces()) {
        let (key, record) = entry?;
        let piece = Piece::decode(&key, &record)?;
        let n_bytes = live.get(&keys::digest_at(&key)?).copied();
        if let Some(pack) = piece.place.pack() {
            *packs.entry(pack).or_default() += n_bytes.map_or(0, |n_bytes| piece.place.n_stored(n_bytes));
        }
        if n_bytes.is_none() {
            dead_pieces.push(key);
        }
    }
    Ok(Marks { saved, dead_files, dead_pieces, packs, live })
}

/// The packs in which nothing is kept and that may go.
fn unnamed(
    marks: &Marks,
    sizes: &BTreeMap<PackId, (u64, Duration)>,
    how: &Collect,
    done: &mut Collected,
) -> BTreeSet<PackId> {
    let mut goes = BTreeSet::new();
    for (pack, (_, age)) in sizes {
        match marks.packs.get(pack) {
            // Its pieces were named once, so no writer is at it.
            Some(0) => drop(goes.insert(*pack)),
            Some(_) => {}
            None if *age < how.grace => done.n_young += 1,
            None => drop(goes.insert(*pack)),
        }
    }
    goes
}

/// The packs of which something, but less than `percent`, is kept.
fn sparse(marks: &Marks, sizes: &BTreeMap<PackId, (u64, Duration)>, percent: u8) -> Vec<PackId> {
    let is_sparse = |pack: &PackId, n_live: u64| {
        sizes.get(pack).is_some_and(|(n_bytes, _)| n_live * 100 < n_bytes * u64::from(percent.min(100)))
    };
    marks
        .packs
        .iter()
        .filter(|(pack, n_live)| **n_live > 0 && is_sparse(pack, **n_live))
        .map(|(pack, _)| *pack)
        .collect()
}

fn tally(done: &mut Collected, marks: &Marks, sizes: &BTreeMap<PackId, (u64, Duration)>, goes: &BTreeSet<PackId>) {
    let size = |pack: &PackId| sizes.get(pack).map_or(0, |(n_bytes, _)| *n_bytes);
    let n_gone: u64 = goes.iter().map(size).sum();
    done.freed_bytes += n_gone.saturating_sub(done.moved_bytes);
    done.kept_bytes = sizes.keys().filter(|pack| !goes.contains(pack)).map(size).sum::<u64>() + done.moved_bytes;
    done.n_packs += goes.len() as u64;
    done.n_files = marks.dead_files.len() as u64;
    done.n_pieces = marks.dead_pieces.len() as u64;
}
