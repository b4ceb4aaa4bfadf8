//! Taking in files of another store: what is here already is left as it is, the rest is checked, packed and named in one commit.
//!
//! Invariant: a piece is named only after its bytes were decoded and found to have its digest; a piece that is coded against a base
//! is taken as it is only if that base is told from nothing itself here.

use std::collections::{BTreeMap, BTreeSet};

use tracker_engine::{Batch, Durability};

use super::packs::PackWriter;
use super::pieces::PieceReader;
use super::split::MAX_PIECE_BYTES;
use super::versions::LATEST;
use super::{Coded, FilePieces, LooseFile, PackId, Piece, PieceRef, Place, Version, gate};
use crate::bundle::Reader;
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// What one commit names of an import, in bytes.
const MAX_NAMED_BYTES: usize = 16 << 20;

/// What comes with a part of an export.
#[derive(Default)]
pub(crate) struct Parcel {
    pub(crate) files: BTreeMap<Digest, FilePieces>,
    pub(crate) pieces: BTreeMap<Digest, Piece>,
    /// Versions, each with the aliases that lead to it.
    pub(crate) versions: Vec<(Version, Vec<String>)>,
    /// Loose files, by key.
    pub(crate) loose: BTreeMap<Vec<u8>, LooseFile>,
}

/// What an export has of one name.
#[derive(Clone, Debug)]
pub(crate) struct OurName {
    pub(crate) manifests: BTreeSet<Digest>,
    /// The one that `latest` leads to, or the last.
    pub(crate) latest: Digest,
}

/// A version that has another number here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Renumbered {
    /// The name of the artifact or the registered model.
    pub name: String,
    /// Its number in the export.
    pub from: u32,
    /// Its number here.
    pub to: u32,
}

/// Files on their way in.
pub(crate) struct Receipt<'a> {
    store: &'a Store,
    seen: gate::Mark,
    files: BTreeMap<Digest, FilePieces>,
    new_pieces: BTreeMap<Digest, Piece>,
    used: BTreeSet<Digest>,
    pack: Option<PackWriter<'a>>,
    sealed: Option<PackId>,
    reader: PieceReader,
}

impl<'a> Receipt<'a> {
    /// Takes in the files and pieces of a parcel whose pack `bytes` reads.
    pub(crate) fn take(store: &'a Store, parcel: &Parcel, bytes: Option<&Reader>) -> Result<Self> {
        let mut receipt = Self {
            store,
            seen: gate::collected(store)?,
            files: BTreeMap::new(),
            new_pieces: BTreeMap::new(),
            used: BTreeSet::new(),
            pack: None,
            sealed: None,
            reader: PieceReader::new(store.clone()),
        };
        let lengths = lengths(parcel)?;
        for (digest, piece) in &parcel.pieces {
            let key = keys::piece(digest);
            if store.get(&key)?.is_some() {
                receipt.used.insert(*digest);
                continue;
            }
            let n_bytes = lengths.get(digest).ok_or_else(|| Error::corrupt(&key, "no file has the piece"))?;
            let wanted = PieceRef { digest: *digest, n_bytes: *n_bytes };
            let place = receipt.place(wanted, &piece.place, parcel, bytes)?;
            receipt.new_pieces.insert(*digest, Piece { place });
        }
        for (digest, file) in &parcel.files {
            for piece in &file.pieces {
                if !receipt.new_pieces.contains_key(&piece.digest) {
                    let key = keys::piece(&piece.digest);
                    store.get(&key)?.ok_or_else(|| Error::corrupt(&key, "the piece of a file is not there"))?;
                    receipt.used.insert(piece.digest);
                }
            }
            receipt.files.insert(*digest, file.clone());
        }
        if let Some(pack) = receipt.pack.take() {
            receipt.sealed = Some(pack.id());
            pack.finish()?;
        }
        Ok(receipt)
    }

    /// About how many bytes naming it takes.
    fn n_bytes(&self) -> usize {
        let inline: usize = self.new_pieces.values().map(|piece| piece.place.n_inline()).sum();
        inline
            + 200 * self.new_pieces.len()
            + self.files.values().map(|file| 100 + 40 * file.pieces.len()).sum::<usize>()
    }

    /// Names so many of the pieces that the rest fits a commit with other things in it.
    pub(crate) fn name_most(&mut self) -> Result<()> {
        while self.n_bytes() > MAX_NAMED_BYTES && !self.new_pieces.is_empty() {
            let mut n_bytes = 0;
            let mut group = BTreeMap::new();
            while let Some((digest, piece)) = self.new_pieces.pop_first() {
                n_bytes += 200 + piece.place.n_inline();
                group.insert(digest, piece);
                if n_bytes > MAX_NAMED_BYTES {
                    break;
                }
            }
            self.store.write("pieces", &"of an import", Durability::Os, |batch| {
                gate::name(self.store, batch, &self.seen, self.sealed, self.used.iter())?;
                group.iter().try_for_each(|(digest, piece)| {
                    batch.put(&keys::piece(digest), &piece.encode()?);
                    Ok(())
                })
            })?;
            self.used.extend(group.into_keys());
        }
        Ok(())
    }

    /// Names files and pieces.
    pub(crate) fn plan(&self, batch: &mut Batch) -> Result<()> {
        gate::name(self.store, batch, &self.seen, self.sealed, self.used.iter())?;
        for (digest, piece) in &self.new_pieces {
            batch.put(&keys::piece(digest), &piece.encode()?);
        }
        for (digest, file) in &self.files {
            batch.put(&keys::file(digest), &file.encode()?);
        }
        Ok(())
    }

    /// Packs a piece that is not here.
    fn place(&mut self, wanted: PieceRef, place: &Place, parcel: &Parcel, bytes: Option<&Reader>) -> Result<Place> {
        let mut piece = Vec::new();
        let stored = self.decode(wanted, place, parcel, bytes, &mut piece)?;
        match place {
            Place::Inline(bytes) => Ok(Place::Inline(bytes.clone())),
            Place::Packed(..) => self.append(&piece).map(|(pack, offset)| Place::Packed(pack, offset)),
            Place::Coded(coded) if self.is_root(coded.base.as_ref())? => {
                if let Some(base) = coded.base.filter(|base| !parcel.pieces.contains_key(base)) {
                    self.used.insert(base);
                }
                let (pack, offset) = self.append(&stored)?;
                Ok(Place::Coded(Coded { pack, offset, ..coded.clone() }))
            }
            // Here the base is told from another itself: the piece is told alone.
            Place::Coded(coded) => {
                let lone = coded.words.code(&piece, None)?;
                if lone.len() >= piece.len() {
                    return self.append(&piece).map(|(pack, offset)| Place::Packed(pack, offset));
                }
                let (pack, offset) = self.append(&lone)?;
                let (n_stored, sum) = (lone.len() as u32, Digest::of(&lone));
                Ok(Place::Coded(Coded { pack, offset, n_stored, sum, words: coded.words, base: None }))
            }
        }
    }

    /// Fills `out` with the piece, checked. Returns the bytes it is stored as.
    fn decode(
        &mut self,
        wanted: PieceRef,
        place: &Place,
        parcel: &Parcel,
        bytes: Option<&Reader>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<u8>> {
        let key = keys::piece(&wanted.digest);
        let n_stored = place.n_stored(wanted.n_bytes) as usize;
        if n_stored > MAX_PIECE_BYTES || wanted.n_bytes as usize > MAX_PIECE_BYTES {
            return Err(Error::corrupt(&key, format!("expected a piece of at most `{MAX_PIECE_BYTES}` bytes")));
        }
        let (offset, sum) = match place {
            Place::Inline(bytes) => {
                out.clone_from(bytes);
                let is_it = Digest::of(out) == wanted.digest;
                return if is_it { Ok(Vec::new()) } else { Err(Error::corrupt(&key, "the piece has another digest")) };
            }
            Place::Packed(_, offset) => (*offset, wanted.digest),
            Place::Coded(coded) => (coded.offset, coded.sum),
        };
        let bytes = bytes.ok_or_else(|| Error::corrupt(&key, "no pack comes with the piece"))?;
        let mut stored = vec![0; n_stored];
        bytes.read_at(offset, &mut stored)?;
        if Digest::of(&stored) != sum {
            return Err(bytes.damaged(offset, "the piece there has another digest"));
        }
        let Place::Coded(coded) = place else {
            out.clone_from(&stored);
            return Ok(stored);
        };
        out.clear();
        out.resize(wanted.n_bytes as usize, 0);
        if let Some(base) = &coded.base {
            self.base(PieceRef { digest: *base, ..wanted }, parcel, Some(bytes), out)?;
        }
        coded.words.restore(&stored, coded.base.is_some(), out).map_err(|reason| bytes.damaged(offset, &reason))?;
        if Digest::of(out) == wanted.digest {
            Ok(stored)
        } else {
            Err(bytes.damaged(offset, "the piece there is decoded to another digest"))
        }
    }

    /// Fills `out` with a base: as it comes, or as it is here.
    fn base(&mut self, base: PieceRef, parcel: &Parcel, bytes: Option<&Reader>, out: &mut Vec<u8>) -> Result<()> {
        let Some(piece) = parcel.pieces.get(&base.digest) else {
            return self.reader.read(base, out);
        };
        if matches!(piece.place, Place::Coded(Coded { base: Some(_), .. })) {
            return Err(Error::corrupt(&keys::piece(&base.digest), "the base of a piece has a base itself"));
        }
        self.decode(base, &piece.place, parcel, bytes, out)?;
        if out.len() == base.n_bytes as usize {
            return Ok(());
        }
        Err(Error::corrupt(&keys::piece(&base.digest), "the base of a piece has another length"))
    }

    /// Whether a base, if there is one, is told from nothing itself here.
    fn is_root(&self, base: Option<&Digest>) -> Result<bool> {
        let Some(base) = base else { return Ok(true) };
        let here: Option<Piece> = self.store.get_value(&keys::piece(base))?;
        Ok(here.is_none_or(|piece| !matches!(piece.place, Place::Coded(Coded { base: Some(_), .. }))))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(PackId, u64)> {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(self.store.packs().write()?),
        };
        let offset = pack.append(bytes)?;
        Ok((pack.id(), offset))
    }
}

impl Place {
    fn n_inline(&self) -> usize {
        if let Self::Inline(bytes) = self { bytes.len() } else { 0 }
    }
}

/// How long each piece of a parcel is: as files say; a base is as long as what is told from it.
fn lengths(parcel: &Parcel) -> Result<BTreeMap<Digest, u32>> {
    let mut lengths = BTreeMap::new();
    for (digest, file) in &parcel.files {
        if file.digest() != *digest {
            return Err(Error::corrupt(&keys::file(digest), "the list of pieces has another digest"));
        }
        lengths.extend(file.pieces.iter().map(|piece| (piece.digest, piece.n_bytes)));
    }
    for (digest, piece) in &parcel.pieces {
        if let (Place::Coded(Coded { base: Some(base), .. }), Some(n_bytes)) =
            (&piece.place, lengths.get(digest).copied())
        {
            lengths.insert(*base, n_bytes);
        }
    }
    Ok(lengths)
}

impl Store {
    /// The versions of a parcel that are not here.
    pub(crate) fn missing_versions<'p>(&self, parcel: &'p Parcel) -> Result<Vec<&'p (Version, Vec<String>)>> {
        let mut missing = Vec::new();
        for arrived in &parcel.versions {
            if self.version_of(&arrived.0.name, &arrived.0.manifest)?.is_none() {
                missing.push(arrived);
            }
        }
        missing.sort_by(|(a, _), (b, _)| (&a.name, a.number).cmp(&(&b.name, b.number)));
        Ok(missing)
    }

    /// Names versions, under their own numbers where those are free and past all others of their name. Aliases that are here stay;
    /// `latest` goes on, to where it led, if it leads to a version that came from the same export (`ours`).
    pub(crate) fn plan_versions(
        &self,
        versions: &[&(Version, Vec<String>)],
        ours: &BTreeMap<String, OurName>,
        batch: &mut Batch,
    ) -> Result<Vec<Renumbered>> {
        let mut renumbered = Vec::new();
        let mut next: BTreeMap<&str, u32> = BTreeMap::new();
        let mut put: BTreeSet<(&str, &str)> = BTreeSet::new();
        // Whether the one it leads to in the export was met.
        let mut latest_put: BTreeMap<&str, bool> = BTreeMap::new();
        for (version, aliases) in versions {
            let name = version.name.as_str();
            super::versions::check_name(name)?;
            let free = match next.get(name) {
                Some(free) => *free,
                None => self.next_number(name)?,
            };
            let number = version.number.max(free);
            next.insert(
                name,
                number.checked_add(1).ok_or_else(|| Error::invalid("a version", "one with a next", number))?,
            );
            if number != version.number {
                renumbered.push(Renumbered { name: name.to_owned(), from: version.number, to: number });
            }
            let key = keys::version(name, number);
            batch.require_absent(&key);
            batch.put(&key, &Version { number, ..version.clone() }.encode()?);
            batch.put(&keys::version_of(name, &version.manifest), &number.to_be_bytes());
            let here = self.aliases(name)?;
            for alias in aliases.iter().map(String::as_str).filter(|alias| *alias != LATEST) {
                if !here.contains_key(alias) && put.insert((name, alias)) {
                    super::versions::check_alias(alias)?;
                    batch.put(&keys::alias(name, alias), &number.to_be_bytes());
                }
            }
            let leads = match here.get(LATEST) {
                None => true,
                Some(latest) => {
                    let latest: Option<Version> = self.get_value(&keys::version(name, *latest))?;
                    let ours = ours.get(name).filter(|ours| ours.latest == version.manifest);
                    ours.is_some_and(|ours| latest.is_none_or(|latest| ours.manifests.contains(&latest.manifest)))
                }
            };
            let is_met = latest_put.entry(name).or_default();
            if leads && !*is_met {
                *is_met = ours.get(name).is_some_and(|ours| ours.latest == version.manifest);
                batch.put(&keys::alias(name, LATEST), &number.to_be_bytes());
            }
        }
        Ok(renumbered)
    }
}
