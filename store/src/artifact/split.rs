//! Where a file is cut into pieces: at tensors, at content, or not at all.
//!
//! Invariant: the pieces of a file, one after the other, are its bytes. What a file claims to be never matters for that.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// Files up to this size are one piece.
const WHOLE_BYTES: usize = 1 << 20;
/// No piece is larger, so that reading one back holds little.
pub(super) const MAX_PIECE_BYTES: usize = 8 << 20;
/// The largest header a safetensors file may have.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const CHUNK_MIN_BYTES: usize = 64 << 10;
const CHUNK_MEAN_BYTES: usize = 256 << 10;
const CHUNK_MAX_BYTES: usize = 1 << 20;
/// Bytes held while cutting by content.
const WINDOW_BYTES: usize = 4 << 20;

/// What a safetensors header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) n_bytes: usize,
}

/// The tensor that a piece is of, and which of its pieces it is.
pub(super) type Part<'a> = Option<(&'a Tensor, usize)>;

/// What takes the pieces.
type Emit<'a, E> = dyn FnMut(&[u8], Part<'_>) -> Result<(), E> + 'a;

/// Cuts what `source` gives, and calls `emit` with each piece in order. `path` tells safetensors files from others.
pub(super) fn split<E: From<io::Error>>(path: &str, source: &mut dyn Read, emit: &mut Emit<'_, E>) -> Result<(), E> {
    let mut buffer = Vec::new();
    let mut source = Cut { source, emit, buffer: &mut buffer };
    let mut head = source.take(WHOLE_BYTES + 1)?;
    if head.len() <= WHOLE_BYTES {
        return (source.emit)(&head, None);
    }
    if is_safetensors(path)
        && let Some(header_bytes) = header_bytes(&head)
    {
        let missing = header_bytes.saturating_sub(head.len());
        head.extend(source.take(missing)?);
        if let Some(tensors) = head.get(8..header_bytes).and_then(tensors) {
            return source.by_tensors(&head, header_bytes, &tensors);
        }
    }
    source.by_content(&head)
}

/// Whether a file is called a safetensors file.
pub(super) fn is_safetensors(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|extension| extension == "safetensors")
}

/// The size of the header with its length, if the file starts like a safetensors file.
pub(super) fn header_bytes(head: &[u8]) -> Option<usize> {
    let n_bytes = u64::from_le_bytes(*head.first_chunk()?);
    (n_bytes <= MAX_HEADER_BYTES).then(|| n_bytes as usize + 8)
}

/// The tensors in the order they lie in, if `header` is one.
pub(super) fn tensors(header: &[u8]) -> Option<Vec<Tensor>> {
    let metadata: Metadata = serde_json::from_slice(header).ok()?;
    let tensor = |name: String| {
        let info = metadata.info(&name)?;
        let n_bytes = info.data_offsets.1.checked_sub(info.data_offsets.0)?;
        Some(Tensor { dtype: info.dtype, shape: info.shape.clone(), n_bytes, name })
    };
    metadata.offset_keys().into_iter().map(tensor).collect()
}

struct Cut<'a, E> {
    source: &'a mut dyn Read,
    emit: &'a mut Emit<'a, E>,
    buffer: &'a mut Vec<u8>,
}

impl<E: From<io::Error>> Cut<'_, E> {
    /// The next `n_bytes`, or fewer at the end.
    fn take(&mut self, n_bytes: usize) -> Result<Vec<u8>, E> {
        let mut bytes = Vec::with_capacity(n_bytes);
        self.source.take(n_bytes as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// One piece for the header, one or more for each tensor, and what follows cut by content.
    fn by_tensors(&mut self, head: &[u8], header_bytes: usize, tensors: &[Tensor]) -> Result<(), E> {
        for part in head[..header_bytes].chunks(MAX_PIECE_BYTES) {
            (self.emit)(part, None)?;
        }
        let mut rest = &head[header_bytes..];
        for tensor in tensors {
            let mut n_left = tensor.n_bytes;
            for nth in 0.. {
                if n_left == 0 {
                    break;
                }
                let n_wanted = n_left.min(MAX_PIECE_BYTES);
                self.fill(&mut rest, n_wanted)?;
                if self.buffer.is_empty() {
                    return Ok(());
                }
                (self.emit)(self.buffer, Some((tensor, nth)))?;
                n_left -= self.buffer.len();
            }
        }
        self.by_content(rest)
    }

    /// Fills the buffer with up to `n_wanted` bytes, from `rest` first.
    fn fill(&mut self, rest: &mut &[u8], n_wanted: usize) -> io::Result<()> {
        let n_here = n_wanted.min(rest.len());
        let (here, later) = rest.split_at(n_here);
        *rest = later;
        self.buffer.clear();
        self.buffer.extend_from_slice(here);
        self.source.take((n_wanted - n_here) as u64).read_to_end(self.buffer)?;
        Ok(())
    }

    /// Cuts `head` and the rest of the source where the content says. The window is kept, because a fresh buffer for each
    /// piece costs more than cutting it.
    fn by_content(&mut self, head: &[u8]) -> Result<(), E> {
        self.buffer.clear();
        self.buffer.extend_from_slice(head);
        loop {
            let n_wanted = WINDOW_BYTES.saturating_sub(self.buffer.len());
            let n_read = self.source.take(n_wanted as u64).read_to_end(self.buffer)?;
            let is_end = n_read < n_wanted;
            let mut n_cut = 0;
            for chunk in FastCDC::new(self.buffer, CHUNK_MIN_BYTES, CHUNK_MEAN_BYTES, CHUNK_MAX_BYTES) {
                // What follows the window may move a cut that is nearer to its end than the longest chunk.
                if !is_end && self.buffer.len() - chunk.offset < CHUNK_MAX_BYTES {
                    break;
                }
                n_cut = chunk.offset + chunk.length;
                (self.emit)(&self.buffer[chunk.offset..n_cut], None)?;
            }
            self.buffer.drain(..n_cut);
            if is_end {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(path: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        split::<io::Error>(path, &mut &*bytes, &mut |piece, _| {
            pieces.push(piece.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces.concat(), bytes, "{path}: pieces are the bytes");
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PIECE_BYTES));
        pieces
    }

    /// Bytes without pattern.
    fn noise(n_bytes: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; n_bytes];
        blake3::Hasher::new_derive_key("noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn checkpoint(tensors: &[Vec<u8>]) -> Vec<u8> {
        let views = tensors.iter().enumerate().map(|(nth, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![bytes.len()], bytes).unwrap();
            (format!("layer.{nth:02}"), view)
        });
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn a_small_file_is_one_piece() {
        assert_eq!(pieces("a.txt", b"hello").len(), 1);
        assert_eq!(pieces("empty", b"").len(), 1);
        assert_eq!(pieces("a.bin", &noise(WHOLE_BYTES, 1)).len(), 1);
        assert!(pieces("a.bin", &noise(WHOLE_BYTES + 1, 1)).len() > 1);
    }

    #[test]
    fn tensors_are_pieces_and_large_tensors_several() {
        let tensors = [noise(9 << 20, 1), noise(700_000, 2), noise(10, 3)];
        let pieces = pieces("model.safetensors", &checkpoint(&tensors));
        assert_eq!(pieces.len(), 1 + 2 + 1 + 1);
        assert_eq!([&pieces[1][..], &pieces[2][..]].concat(), tensors[0]);
        assert_eq!(pieces[3..], tensors[1..]);
    }

    #[test]
    fn a_file_that_only_looks_like_safetensors_is_cut_by_content() {
        let good = checkpoint(&[noise(2 << 20, 1)]);
        let mut longer = good.clone();
        longer.extend(noise(2 << 20, 9));
        assert!(pieces("model.safetensors", &longer).len() > 3, "what follows the tensors is kept");
        pieces("model.safetensors", &good[..good.len() - 1_000_000]);
        let mut huge = good.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        pieces("model.safetensors", &huge);
        huge[..8].copy_from_slice(&90_000_000_u64.to_le_bytes());
        pieces("model.safetensors", &huge);
        pieces("model.safetensors", &noise(3 << 20, 4));
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_source_is_read() {
        struct Drops<'a>(&'a [u8], usize);
        impl Read for Drops<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = self.1 * 7 % 65_521 + 1;
                let n_bytes = self.1.min(buffer.len()).min(self.0.len());
                buffer[..n_bytes].copy_from_slice(&self.0[..n_bytes]);
                self.0 = &self.0[n_bytes..];
                Ok(n_bytes)
            }
        }
        let bytes = noise(13 << 20, 6);
        let mut dripped = Vec::new();
        split::<io::Error>("x", &mut Drops(&bytes, 1), &mut |piece, _| {
            dripped.push(piece.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(dripped, pieces("x", &bytes));
        let whole = FastCDC::new(&bytes, CHUNK_MIN_BYTES, CHUNK_MEAN_BYTES, CHUNK_MAX_BYTES);
        assert_eq!(dripped, whole.map(|chunk| bytes[chunk.offset..][..chunk.length].to_vec()).collect::<Vec<_>>());
    }

    #[test]
    fn an_insertion_leaves_most_pieces_as_they_were() {
        let before = noise(16 << 20, 5);
        let mut after = before.clone();
        after.splice(5_000_000..5_000_000, *b"inserted");
        let (before, after) = (pieces("log", &before), pieces("log", &after));
        let n_same = after.iter().filter(|piece| before.contains(piece)).count();
        assert!(n_same + 4 >= after.len(), "{n_same} of {}", after.len());
    }
}
