//! Getting pieces: found, decoded and checked.
//!
//! Invariants: no byte of a piece is handed out before the digest of all of it was checked; a delta's base is no delta
//! itself, so a piece costs at most two reads and two decodings; what a record claims never makes a buffer larger than
//! the largest piece. A damaged piece is named by the pack and the offset of the part that is damaged, the base's if it
//! is the base.

use super::packs::{PackId, PackReader};
use super::split::MAX_PIECE_BYTES;
use super::{Coded, Piece, PieceRef, Place};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::records::Stored as _;
use crate::store::Store;

/// Packs held open.
const MAX_PACKS: usize = 4;
/// How often a piece is looked up again because its pack was rewritten.
const N_ATTEMPTS: usize = 32;
/// How often a pack may be missing under one name: a collection that restores it takes a moment between two looks.
const MAX_MISSES: usize = 3;

/// Reads pieces. Holds some packs open, and the parts a piece was made from.
pub(crate) struct PieceReader {
    store: Store,
    packs: Vec<(PackId, PackReader)>,
    coded: Vec<u8>,
}

/// Why a piece could not be read.
enum Failure {
    /// Its pack is not there: rewritten, or gone.
    NoPack(PackId),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl PieceReader {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, packs: Vec::new(), coded: Vec::new() }
    }

    /// Replaces `out` by the piece.
    pub(crate) fn read(&mut self, wanted: PieceRef, out: &mut Vec<u8>) -> Result<()> {
        let key = keys::piece(&wanted.digest);
        let mut n_missed = 0;
        let mut last = None;
        for _ in 0..N_ATTEMPTS {
            let record = self.store.get(&key)?;
            let record = record.ok_or_else(|| Error::corrupt(&key, "the piece of a file is not there"))?;
            match self.read_record(wanted, &key, &record, out) {
                Ok(()) => return Ok(()),
                Err(Failure::Other(error)) => return Err(error),
                // A rewritten pack is named no more; one that is named again and again is lost.
                Err(Failure::NoPack(pack)) => {
                    n_missed = if last == Some(pack) { n_missed + 1 } else { 0 };
                    last = Some(pack);
                    if n_missed == MAX_MISSES {
                        return Err(self.store.packs().gone(pack));
                    }
                }
            }
        }
        Err(Error::Contended { what: "piece", name: wanted.digest.to_string() })
    }

    fn read_record(&mut self, wanted: PieceRef, key: &[u8], record: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        if wanted.n_bytes as usize > MAX_PIECE_BYTES {
            let reason = format!("expected a piece of at most `{MAX_PIECE_BYTES}` bytes, got `{}`", wanted.n_bytes);
            return Err(Error::corrupt(key, reason).into());
        }
        let place = Piece::decode(key, record)?.place;
        self.read_raw(&place, wanted, out)?;
        if Digest::of(out) == wanted.digest {
            return Ok(());
        }
        // Whose fault is it?
        if let Place::Coded(Coded { base: Some(base), .. }) = &place {
            let mut bytes = Vec::new();
            self.read(PieceRef { digest: *base, n_bytes: wanted.n_bytes }, &mut bytes)?;
        }
        let reason = "the piece there has another digest";
        Err(match &place {
            Place::Inline(_) => Error::corrupt(key, "the piece has another digest"),
            Place::Packed(pack, offset) => self.pack(*pack)?.damaged(*offset, reason),
            Place::Coded(coded) => self.pack(coded.pack)?.damaged(coded.offset, reason),
        }
        .into())
    }

    /// Replaces `out` by the piece at `place`, not yet checked.
    fn read_raw(&mut self, place: &Place, wanted: PieceRef, out: &mut Vec<u8>) -> Result<(), Failure> {
        match place {
            Place::Inline(bytes) => out.clone_from(bytes),
            Place::Packed(pack, offset) => {
                out.resize(wanted.n_bytes as usize, 0);
                self.pack(*pack)?.read_at(*offset, out)?;
            }
            Place::Coded(coded) => {
                out.resize(wanted.n_bytes as usize, 0);
                if let Some(base) = &coded.base {
                    self.read_base(wanted, base, out)?;
                }
                self.decode(coded, out)?;
            }
        }
        Ok(())
    }

    /// Replaces `out` by the base of a delta, not yet checked: a wrong base makes a wrong piece.
    fn read_base(&mut self, wanted: PieceRef, base: &Digest, out: &mut Vec<u8>) -> Result<(), Failure> {
        let key = keys::piece(base);
        let piece: Option<Piece> = self.store.get_value(&key)?;
        let place = piece.ok_or_else(|| Error::corrupt(&key, "the base of a piece is not there"))?.place;
        if matches!(place, Place::Coded(Coded { base: Some(_), .. })) {
            return Err(Error::corrupt(&key, "the base of a piece has a base itself").into());
        }
        self.read_raw(&place, PieceRef { digest: *base, n_bytes: wanted.n_bytes }, out)?;
        if out.len() == wanted.n_bytes as usize {
            Ok(())
        } else {
            Err(Error::corrupt(&key, "the base of a piece has another length").into())
        }
    }

    /// Decodes into `out`, which holds the base, if there is one.
    fn decode(&mut self, coded: &Coded, out: &mut [u8]) -> Result<(), Failure> {
        let mut bytes = std::mem::take(&mut self.coded);
        let pack = self.pack(coded.pack)?;
        if coded.n_stored as usize > MAX_PIECE_BYTES {
            return Err(pack.damaged(coded.offset, "it claims to be longer than a piece").into());
        }
        bytes.resize(coded.n_stored as usize, 0);
        pack.read_at(coded.offset, &mut bytes)?;
        if Digest::of(&bytes) != coded.sum {
            return Err(pack.damaged(coded.offset, "the coded piece there has another digest").into());
        }
        coded.words.restore(&bytes, coded.base.is_some(), out).map_err(|reason| pack.damaged(coded.offset, &reason))?;
        self.coded = bytes;
        Ok(())
    }

    /// The stored bytes at `place`, checked; none if they lie in the record. For moving them as they are.
    pub(super) fn stored(&mut self, wanted: PieceRef, place: &Place) -> Result<Option<Vec<u8>>> {
        let (pack, offset, n_stored, digest) = match place {
            Place::Inline(_) => return Ok(None),
            Place::Packed(pack, offset) => (*pack, *offset, wanted.n_bytes, wanted.digest),
            Place::Coded(coded) => (coded.pack, coded.offset, coded.n_stored, coded.sum),
        };
        let store = self.store.clone();
        let reader = self.pack(pack).map_err(|failure| match failure {
            Failure::NoPack(pack) => store.packs().gone(pack),
            Failure::Other(error) => error,
        })?;
        if n_stored as usize > MAX_PIECE_BYTES {
            return Err(reader.damaged(offset, "it claims to be longer than a piece"));
        }
        let mut bytes = vec![0; n_stored as usize];
        reader.read_at(offset, &mut bytes)?;
        if Digest::of(&bytes) == digest {
            Ok(Some(bytes))
        } else {
            Err(reader.damaged(offset, "the stored piece there has another digest"))
        }
    }

    fn pack(&mut self, id: PackId) -> Result<&PackReader, Failure> {
        if let Some(at) = self.packs.iter().position(|(open, _)| *open == id) {
            self.packs[..=at].rotate_right(1);
        } else {
            let pack = self.store.packs().open(id)?.ok_or(Failure::NoPack(id))?;
            self.packs.truncate(MAX_PACKS - 1);
            self.packs.insert(0, (id, pack));
        }
        Ok(&self.packs[0].1)
    }
}
