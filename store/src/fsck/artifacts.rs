//! Artifacts: versions → manifests → files → pieces → packs; every piece's digest from its bytes, and who loses what if one is lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;

use rayon::prelude::*;

use super::finding::{Finding, Tell, Trouble};
use super::{Meter, lock};
use crate::artifact::{
    Coded, FileEntry, FilePieces, LooseFile, Manifest, PackId, PackState, Piece, PieceReader, PieceRef, Place, Version,
    loose,
};
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId, RunId};
use crate::keys::{self, Parsed};
use crate::model::{Checkpoint, Dataset};
use crate::records::Stored;
use crate::store::Store;

/// Pieces read at a time.
const N_AT_ONCE: usize = 512;
/// Lost pieces whose losers are told; beyond, the pieces alone are.
const MAX_LOST: usize = 100_000;

/// What was checked of artifacts.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) n_pieces: u64,
    pub(super) n_bytes: u64,
    pub(super) free_bytes: u64,
}

/// Piece digests by their first eight bytes: what was seen of ten million takes some 160 MB.
#[derive(Default)]
struct Seen(HashSet<u64>);

impl Seen {
    fn insert(&mut self, digest: &Digest) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        self.0.insert(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

struct Check<'a> {
    store: &'a Store,
    sink: &'a dyn Tell,
    meter: &'a Meter<'a>,
    counts: Counts,
    seen_files: Seen,
    seen_pieces: Seen,
    waiting: Vec<PieceRef>,
    live: BTreeMap<PackId, u64>,
    lost: Mutex<BTreeSet<Digest>>,
}

/// Checks every version and what it needs. Records were checked by themselves before.
pub(super) fn check(store: &Store, sink: &dyn Tell, meter: &Meter<'_>) -> Result<Counts> {
    let mut check = Check {
        store,
        sink,
        meter,
        counts: Counts::default(),
        seen_files: Seen::default(),
        seen_pieces: Seen::default(),
        waiting: Vec::new(),
        live: BTreeMap::new(),
        lost: Mutex::default(),
    };
    check.versions()?;
    check.loose()?;
    check.aliases()?;
    check.read_waiting()?;
    check.packs()?;
    check.losers()?;
    Ok(check.counts)
}

/// What lies at a key.
enum Found<T> {
    Value(T),
    /// Something that cannot be read, which is told elsewhere.
    Unreadable,
    Nothing,
}

impl<T> Found<T> {
    fn value(self) -> Option<T> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

fn get<T: Stored>(store: &Store, key: &[u8]) -> Result<Found<T>> {
    match store.get(key) {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(record)) => Ok(T::decode(key, &record).map_or(Found::Unreadable, Found::Value)),
        Err(Error::Engine(tracker_engine::Error::Corrupt { .. })) => Ok(Found::Unreadable),
        Err(error) => Err(error),
    }
}

/// Every version that can be read.
fn versions(store: &Store) -> impl Iterator<Item = Result<Version>> {
    store.entries(&keys::all_versions()).filter_map(|entry| match entry {
        Ok((key, record)) => Version::decode(&key, &record).ok().map(Ok),
        Err(error) => Some(Err(error)),
    })
}

impl Check<'_> {
    fn versions(&mut self) -> Result<()> {
        let mut seen = Seen::default();
        for version in versions(self.store) {
            let version = version?;
            let node = NodeId::content_of(Kind::Artifact, version.manifest);
            match get::<Manifest>(self.store, &keys::node(&node))? {
                Found::Nothing => {
                    let what = format!("`{}:v{}` names `{node}`, which is not there", version.name, version.number);
                    let key = keys::version(&version.name, version.number);
                    self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&key), None);
                }
                Found::Value(manifest) if seen.insert(&version.manifest) => self.files(&version, &manifest)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn files(&mut self, version: &Version, manifest: &Manifest) -> Result<()> {
        let owner = format!("{}:v{}", version.name, version.number);
        manifest.files.iter().try_for_each(|file| self.file(file, &owner))
    }

    fn loose(&mut self) -> Result<()> {
        for loose in loose::every(self.store) {
            match loose {
                Ok((owner, path, LooseFile { n_bytes, digest, .. })) => {
                    self.file(&FileEntry { path, n_bytes, digest }, &owner)?;
                }
                // Told with its record.
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &FileEntry, owner: &str) -> Result<()> {
        let key = keys::file(&file.digest);
        let place = || format!("`{}` of `{owner}`", file.path);
        match get::<FilePieces>(self.store, &key)? {
            Found::Nothing => {
                let what = format!("the file {} is not there", place());
                self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&key), None);
            }
            Found::Value(pieces) => {
                let n_bytes: u64 = pieces.pieces.iter().map(|piece| u64::from(piece.n_bytes)).sum();
                if n_bytes != file.n_bytes {
                    let what =
                        format!("expected the file {} to have `{}` bytes, got `{n_bytes}`", place(), file.n_bytes);
                    self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&key), None);
                }
                if self.seen_files.insert(&file.digest) {
                    self.pieces(&pieces)?;
                }
            }
            Found::Unreadable => {}
        }
        Ok(())
    }

    /// Takes the pieces of a file up, each once, with the bases they are told from.
    fn pieces(&mut self, file: &FilePieces) -> Result<()> {
        for piece in &file.pieces {
            let mut next = Some(*piece);
            while let Some(piece) = next.take() {
                if !self.seen_pieces.insert(&piece.digest) {
                    break;
                }
                if let Found::Value(Piece { place }) = get::<Piece>(self.store, &keys::piece(&piece.digest))? {
                    if let Some(pack) = place.pack() {
                        *self.live.entry(pack).or_default() += place.n_stored(piece.n_bytes);
                    }
                    if let Place::Coded(Coded { base: Some(base), .. }) = place {
                        next = Some(PieceRef { digest: base, ..piece });
                    }
                }
                self.waiting.push(piece);
            }
            if self.waiting.len() >= N_AT_ONCE {
                self.read_waiting()?;
            }
        }
        Ok(())
    }

    /// Reads the pieces that wait, each against its digest.
    fn read_waiting(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let reader = || (PieceReader::new(self.store.clone()), Vec::new());
        let n_bytes = waiting.par_iter().with_max_len(8).map_init(reader, |(reader, out), piece| -> Result<u64> {
            match reader.read(*piece, out) {
                Ok(()) => {}
                Err(error) => {
                    let finding = Finding::of_error(Trouble::Piece, &error).ok_or(error)?;
                    let what = format!("piece `{}`: {}", piece.digest, finding.what);
                    self.sink.tell(Finding { what, ..finding }, None);
                    lock(&self.lost).insert(piece.digest);
                }
            }
            let place = get::<Piece>(self.store, &keys::piece(&piece.digest))?.value();
            let n_stored = place.map_or(0, |Piece { place }| place.n_stored(piece.n_bytes));
            self.meter.bytes(n_stored);
            Ok(n_stored)
        });
        self.counts.n_bytes += n_bytes.try_reduce(|| 0, |a, b| Ok(a + b))?;
        self.counts.n_pieces += waiting.len() as u64;
        Ok(())
    }

    fn aliases(&self) -> Result<()> {
        for entry in self.store.entries(&keys::every_alias()) {
            let (key, value) = entry?;
            let (Some(Parsed::Alias { name, alias }), Ok(number)) = (keys::parse(&key), value.try_into()) else {
                continue;
            };
            let number = u32::from_be_bytes(number);
            if matches!(get::<Version>(self.store, &keys::version(name, number))?, Found::Nothing) {
                let what = format!("`{name}:{alias}` leads to `v{number}`, which is not there");
                self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&key), None);
            }
        }
        Ok(())
    }

    /// Counts what of packs is free, and notes packs that are on their way in or out.
    fn packs(&mut self) -> Result<()> {
        for pack in self.store.packs().list()? {
            let n_live = self.live.get(&pack.id()).copied().unwrap_or(0);
            self.counts.free_bytes += pack.n_bytes().saturating_sub(n_live);
            let state = match pack.state() {
                PackState::Whole => continue,
                PackState::Unfinished => "is being written, or was left by a process that was killed",
                PackState::Condemned => "is about to be removed, or was left by a collection that was killed",
            };
            let what = format!("pack `{}` {state}; `tracker gc` settles it", pack.id());
            self.sink.tell(Finding::note(Trouble::Piece, what), None);
        }
        for path in self.store.packs().strangers()? {
            let finding = Finding::note(Trouble::File, "it is no file of the store");
            self.sink.tell(Finding { file: Some(path), ..finding }, None);
        }
        Ok(())
    }

    /// Says which versions, checkpoints, datasets and runs lose something with the pieces that are lost.
    fn losers(&self) -> Result<()> {
        let lost = lock(&self.lost);
        if lost.is_empty() || lost.len() > MAX_LOST {
            return Ok(());
        }
        let mut manifests: BTreeMap<Digest, String> = BTreeMap::new();
        for version in versions(self.store) {
            let version = version?;
            let node = NodeId::content_of(Kind::Artifact, version.manifest);
            let Found::Value(manifest) = get::<Manifest>(self.store, &keys::node(&node))? else { continue };
            for file in &manifest.files {
                if !self.loses(&file.digest, &lost)? {
                    continue;
                }
                let run = version.run.map(|run| format!(", put by run `{run}`,")).unwrap_or_default();
                let (name, number) = (&version.name, version.number);
                let what = format!("`{name}:v{number}`{run} loses `{}`; only a backup has it", file.path);
                let key = keys::version(&version.name, version.number);
                self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&key), None);
                manifests.insert(version.manifest, format!("{name}:v{number}"));
            }
        }
        for loose in loose::every(self.store) {
            if let Ok((owner, path, file)) = loose
                && self.loses(&file.digest, &lost)?
            {
                let what = format!("`{owner}` loses `{path}`; only a backup has it");
                self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(&keys::loose(&owner, &path)), None);
            }
        }
        self.losing_nodes(&manifests)
    }

    fn losing_nodes(&self, manifests: &BTreeMap<Digest, String>) -> Result<()> {
        let mut nodes: BTreeMap<NodeId, &str> = BTreeMap::new();
        for (manifest, name) in manifests {
            nodes.insert(NodeId::content_of(Kind::Artifact, *manifest), name);
        }
        for (node, checkpoint) in self.store.contents::<Checkpoint>().filter_map(Result::ok) {
            if let Some(name) = manifests.get(&checkpoint.manifest) {
                self.tell_loser(&format!("`{node}` (`{}`)", checkpoint.label), name, &keys::node(&node));
                nodes.insert(node, name);
            }
        }
        for (node, dataset) in self.store.contents::<Dataset>().filter_map(Result::ok) {
            if let Some(name) = dataset.rows.and_then(|rows| manifests.get(&rows)) {
                self.tell_loser(&format!("`{node}` (`{}`)", dataset.name), name, &keys::node(&node));
                nodes.insert(node, name);
            }
        }
        let mut told: BTreeSet<(RunId, &str)> = BTreeSet::new();
        for entry in self.store.entries(&keys::every_recorded()) {
            let (key, _) = entry?;
            if let Some(Parsed::Recorded { run, node }) = keys::parse(&key)
                && let Some(name) = nodes.get(&node)
                && told.insert((run, name))
            {
                self.tell_loser(&format!("run `{run}`"), name, &key);
            }
        }
        Ok(())
    }

    fn tell_loser(&self, who: &str, name: &str, key: &[u8]) {
        let what = format!("{who} loses files of `{name}`");
        self.sink.tell(Finding::damage(Trouble::Artifact, what).at_key(key), None);
    }

    fn loses(&self, file: &Digest, lost: &BTreeSet<Digest>) -> Result<bool> {
        let Found::Value(pieces) = get::<FilePieces>(self.store, &keys::file(file))? else { return Ok(false) };
        for piece in pieces.pieces {
            if lost.contains(&piece.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
