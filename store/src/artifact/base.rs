//! The tensors of an earlier version, by name: what those of a new one are told as differences from.

use std::collections::BTreeMap;
use std::io::Read as _;

use safetensors::Dtype;

use super::split::{MAX_PIECE_BYTES, Tensor, header_bytes, is_safetensors, tensors};
use super::{FilePieces, Manifest, PieceRef};
use crate::error::{Error, Result};
use crate::id::Digest;
use crate::keys;
use crate::store::Store;

/// Tensors with their pieces.
#[derive(Default)]
pub(super) struct Base {
    tensors: BTreeMap<String, BaseTensor>,
}

struct BaseTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    pieces: Vec<PieceRef>,
}

impl Base {
    /// Adds the tensors of an artifact whose names are not there yet. Reads headers, no tensors.
    pub(super) fn add(&mut self, store: &Store, manifest: Digest) -> Result<()> {
        let manifest: Manifest = store.content(manifest)?;
        for file in manifest.files.iter().filter(|file| is_safetensors(&file.path)) {
            self.add_file(store, file.digest)?;
        }
        Ok(())
    }

    fn add_file(&mut self, store: &Store, digest: Digest) -> Result<()> {
        let file: FilePieces = store.get_value(&keys::file(&digest))?.ok_or_else(|| Error::missing("file", digest))?;
        if file.pieces.len() < 2 {
            return Ok(());
        }
        let mut reader = store.open_file(digest, 0)?;
        let failed = |error| Error::io("read the header of", digest.to_string(), error);
        let mut header = Vec::new();
        (&mut reader).take(8).read_to_end(&mut header).map_err(failed)?;
        let Some(n_header) = header_bytes(&header) else {
            return Ok(());
        };
        (&mut reader).take(n_header as u64 - 8).read_to_end(&mut header).map_err(failed)?;
        let mut pieces = file.pieces.into_iter().skip(n_header.div_ceil(MAX_PIECE_BYTES));
        for tensor in header.get(8..n_header).and_then(tensors).unwrap_or_default() {
            let pieces: Vec<PieceRef> = pieces.by_ref().take(tensor.n_bytes.div_ceil(MAX_PIECE_BYTES)).collect();
            if pieces.iter().map(|piece| piece.n_bytes as usize).sum::<usize>() != tensor.n_bytes {
                // Not cut at tensors after all, or cut short.
                return Ok(());
            }
            let Tensor { name, dtype, shape, .. } = tensor;
            self.tensors.entry(name).or_insert(BaseTensor { dtype, shape, pieces });
        }
        Ok(())
    }

    /// The piece that lies where the `nth` of `tensor` does, if there is such a tensor.
    pub(super) fn piece(&self, tensor: &Tensor, nth: usize) -> Option<PieceRef> {
        let base = self.tensors.get(&tensor.name)?;
        let is_alike = base.dtype == tensor.dtype && base.shape == tensor.shape;
        base.pieces.get(nth).copied().filter(|_| is_alike)
    }
}
