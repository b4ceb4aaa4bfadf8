//! What takes how much room, and what would be free without it.
//!
//! Counted are pieces: bytes in packs and in records, not the records themselves. A piece that several share is counted
//! once in every sum, and shown as shared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Manifest, Piece, Version};
use crate::error::Result;
use crate::id::Digest;
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// By what to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// By artifact name: a family of checkpoints.
    Artifact,
    /// By version: `name:v3`.
    Version,
    /// By the run that put it; versions no run put are under an empty name.
    Run,
}

/// How much room the artifacts of a store take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The size of all files of all versions, each version counted, in bytes.
    pub raw_bytes: u64,
    /// What is stored of them, in bytes.
    pub stored_bytes: u64,
    /// What packs hold that no version names, in bytes: [`Store::collect`] frees it in time.
    pub dead_bytes: u64,
    /// By group, largest first.
    pub shares: Vec<Share>,
}

/// How much room one group takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What it is called: a name, `name:v3`, a run id.
    pub name: String,
    /// How many versions it has; none for loose files.
    pub n_versions: u64,
    /// The size of its files, each version counted, in bytes.
    pub raw_bytes: u64,
    /// What is stored of it, bases of deltas too, in bytes.
    pub stored_bytes: u64,
    /// Of that, what other groups need as well.
    pub shared_bytes: u64,
    /// What would be free without it: what no other group needs.
    pub freed_bytes: u64,
}

/// A group while it is counted.
#[derive(Default)]
struct Count {
    n_versions: u64,
    raw_bytes: u64,
    pieces: BTreeSet<u32>,
}

/// Pieces by a number, with what each takes and how many groups need it.
#[derive(Default)]
struct Pieces {
    numbers: BTreeMap<Digest, u32>,
    sizes: Vec<(u64, u32)>,
    files: BTreeMap<Digest, Vec<u32>>,
}

impl Pieces {
    /// The numbers of a file's pieces.
    fn of(&mut self, store: &Store, file: Digest) -> Result<Vec<u32>> {
        if let Some(pieces) = self.files.get(&file) {
            return Ok(pieces.clone());
        }
        let mut pieces = Vec::new();
        for (piece, Piece { place }) in store.pieces_of(&file)? {
            let (sizes, n_stored) = (&mut self.sizes, place.n_stored(piece.n_bytes));
            pieces.push(*self.numbers.entry(piece.digest).or_insert_with(|| {
                sizes.push((n_stored, 0));
                sizes.len() as u32 - 1
            }));
        }
        self.files.insert(file, pieces.clone());
        Ok(pieces)
    }
}

impl Store {
    /// How much room artifacts take, by `group`.
    ///
    /// # Errors
    /// `Corrupt`; `Io`; the engine's.
    pub fn usage(&self, group: Group) -> Result<Usage> {
        self.at_one_state(|store| store.usage_now(group))
    }

    fn usage_now(&self, group: Group) -> Result<Usage> {
        let mut pieces = Pieces::default();
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        for entry in self.entries(&keys::all_versions()) {
            let (key, record) = entry?;
            let version = Version::decode(&key, &record)?;
            let manifest: Manifest = self.content(version.manifest)?;
            let count = counts.entry(label(&version, group)).or_default();
            count.n_versions += 1;
            count.raw_bytes += manifest.n_bytes();
            for file in manifest.files {
                count.pieces.extend(pieces.of(self, file.digest)?);
            }
        }
        for loose in super::loose::every(self) {
            let (owner, _, file) = loose?;
            let count = counts.entry(loose_label(&owner, group)).or_default();
            count.raw_bytes += file.n_bytes;
            count.pieces.extend(pieces.of(self, file.digest)?);
        }
        let Pieces { numbers, mut sizes, .. } = pieces;
        for piece in counts.values().flat_map(|count| &count.pieces) {
            sizes[*piece as usize].1 += 1;
        }
        let mut shares: Vec<Share> = counts.into_iter().map(|(name, count)| share(name, &count, &sizes)).collect();
        shares.sort_by(|a, b| b.stored_bytes.cmp(&a.stored_bytes).then_with(|| a.name.cmp(&b.name)));
        let n_packed: u64 = self.packs().list()?.iter().map(|pack| pack.n_bytes).sum();
        let live = self.live_packed_bytes(&numbers, &sizes)?;
        Ok(Usage {
            raw_bytes: shares.iter().map(|share| share.raw_bytes).sum(),
            stored_bytes: sizes.iter().map(|(n_bytes, _)| n_bytes).sum(),
            dead_bytes: n_packed.saturating_sub(live),
            shares,
        })
    }

    /// The bytes of those pieces that lie in packs.
    fn live_packed_bytes(&self, numbers: &BTreeMap<Digest, u32>, sizes: &[(u64, u32)]) -> Result<u64> {
        let mut n_bytes = 0;
        for entry in self.entries(&keys::pieces()) {
            let (key, record) = entry?;
            if let Some(number) = numbers.get(&keys::digest_at(&key)?)
                && Piece::decode(&key, &record)?.place.pack().is_some()
            {
                n_bytes += sizes[*number as usize].0;
            }
        }
        Ok(n_bytes)
    }
}

fn label(version: &Version, group: Group) -> String {
    match group {
        Group::Artifact => version.name.clone(),
        Group::Version => format!("{}:v{}", version.name, version.number),
        Group::Run => version.run.map_or_else(String::new, |run| run.to_string()),
    }
}

/// Loose files of a run go with it; by artifact and version, under the name of their owner.
fn loose_label(owner: &str, group: Group) -> String {
    match (group, owner.strip_prefix("runs/")) {
        (Group::Run, Some(run)) => {
            run.parse::<crate::id::RunId>().map_or_else(|_| run.to_owned(), |run| run.to_string())
        }
        (Group::Run, None) => String::new(),
        _ => owner.to_owned(),
    }
}

fn share(name: String, count: &Count, sizes: &[(u64, u32)]) -> Share {
    let pieces = || count.pieces.iter().map(|piece| sizes[*piece as usize]);
    let stored_bytes = pieces().map(|(n_bytes, _)| n_bytes).sum();
    let shared_bytes = pieces().filter(|(_, n_groups)| *n_groups > 1).map(|(n_bytes, _)| n_bytes).sum();
    Share {
        name,
        n_versions: count.n_versions,
        raw_bytes: count.raw_bytes,
        stored_bytes,
        shared_bytes,
        freed_bytes: stored_bytes - shared_bytes,
    }
}
