//! The pieces of some artifacts as one pack, read from wherever they lie: what an export carries.

use std::collections::BTreeSet;

use super::pieces::PieceReader;
use super::{Coded, FilePieces, Manifest, PackId, Piece, PieceRef, Place};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::store::Store;

/// What was sent already, so that it is sent once.
#[derive(Default)]
pub(crate) struct Sent {
    files: BTreeSet<Digest>,
    pieces: BTreeSet<Digest>,
}

/// Files, their pieces with places in a pack of their own, and where the bytes of that pack come from.
pub(crate) struct Shipment {
    pub(crate) pack: PackId,
    pub(crate) n_bytes: u64,
    pub(crate) files: Vec<(Digest, FilePieces)>,
    pub(crate) pieces: Vec<(Digest, Piece)>,
    parts: Vec<Part>,
}

/// A stretch of the pack.
struct Part {
    offset: u64,
    n_stored: u64,
    piece: PieceRef,
    place: Place,
}

impl Shipment {
    /// The files of these manifests and these loose files with their pieces and the bases of those, but for what was sent.
    pub(crate) fn new(
        store: &Store,
        manifests: impl Iterator<Item = Digest>,
        loose: impl Iterator<Item = Digest>,
        sent: &mut Sent,
    ) -> Result<Self> {
        let mut shipment = Self {
            pack: PackId::from_bytes([0; 16]),
            n_bytes: 0,
            files: Vec::new(),
            pieces: Vec::new(),
            parts: Vec::new(),
        };
        let mut name = blake3::Hasher::new();
        let mut files = Vec::new();
        for manifest in manifests {
            files.extend(store.content::<Manifest>(manifest)?.files.into_iter().map(|file| file.digest));
        }
        for file in files.into_iter().chain(loose).filter(|file| sent.files.insert(*file)) {
            let key = keys::file(&file);
            let pieces: Option<FilePieces> = store.get_value(&key)?;
            let pieces = pieces.ok_or_else(|| Error::corrupt(&key, "the file of a version is not there"))?;
            shipment.files.push((file, pieces));
            for (wanted, piece) in store.pieces_of(&file)? {
                if sent.pieces.insert(wanted.digest) {
                    name.update(wanted.digest.as_bytes());
                    shipment.add(wanted, piece.place);
                }
            }
        }
        // The same pieces are the same pack, whenever they are sent.
        let mut id = [0; 16];
        name.finalize_xof().fill(&mut id);
        shipment.pack = PackId::from_bytes(id);
        for (_, piece) in &mut shipment.pieces {
            match &mut piece.place {
                Place::Inline(_) => {}
                Place::Packed(pack, _) | Place::Coded(Coded { pack, .. }) => *pack = shipment.pack,
            }
        }
        Ok(shipment)
    }

    fn add(&mut self, piece: PieceRef, place: Place) {
        let offset = self.n_bytes;
        let there = match &place {
            Place::Inline(bytes) => {
                self.pieces.push((piece.digest, Piece { place: Place::Inline(bytes.clone()) }));
                return;
            }
            Place::Packed(pack, _) => Place::Packed(*pack, offset),
            Place::Coded(coded) => Place::Coded(Coded { offset, ..coded.clone() }),
        };
        let n_stored = place.n_stored(piece.n_bytes);
        self.pieces.push((piece.digest, Piece { place: there }));
        self.parts.push(Part { offset, n_stored, piece, place });
        self.n_bytes += n_stored;
    }

    /// Reads the pack, from start to end; every stretch is checked against its digest.
    pub(crate) fn reader<'a>(&'a self, store: &Store) -> impl FnMut(u64, &mut [u8]) -> Result<()> + 'a {
        let mut reader = PieceReader::new(store.clone());
        let mut read: Option<(usize, Vec<u8>)> = None;
        move |offset, bytes| {
            let mut n_done = 0;
            while n_done < bytes.len() {
                let at = offset + n_done as u64;
                let nth = self.parts.partition_point(|part| part.offset + part.n_stored <= at);
                let Some(part) = self.parts.get(nth) else {
                    return Err(Error::invalid("an offset in a pack", "within it", at));
                };
                if read.as_ref().is_none_or(|(last, _)| *last != nth) {
                    read = Some((nth, reader.stored(part.piece, &part.place)?.unwrap_or_default()));
                }
                let stored = read.as_ref().and_then(|(_, stored)| stored.get((at - part.offset) as usize..));
                let stored = stored.unwrap_or_default();
                let n = stored.len().min(bytes.len() - n_done);
                if n == 0 {
                    return Err(Error::corrupt(&keys::piece(&part.piece.digest), "the piece is shorter than it was"));
                }
                bytes[n_done..n_done + n].copy_from_slice(&stored[..n]);
                n_done += n;
            }
            Ok(())
        }
    }
}
