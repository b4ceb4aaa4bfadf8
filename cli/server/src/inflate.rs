//! Bodies that come compressed.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::error::{Answer, Code, Refusal};
use crate::stream::Room;

/// How much is inflated at a time, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    /// As zlib writes it, or bare, as some clients do.
    Deflate,
}

impl Encoding {
    /// What the header `Content-Encoding` names; none is a body as it is.
    pub(crate) fn of(header: &str) -> Answer<Option<Self>> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            other => Err(Refusal::new(
                Code::BadRequest,
                format!("Unsupported Content-Encoding: {}. Expected: gzip or deflate.", other.escape_default()),
            )),
        }
    }

    /// The body that was compressed, of `limit` bytes at most, for which there must be room.
    pub(crate) fn inflate(self, body: &[u8], limit: usize, room: &mut Room<'_>) -> Answer<Vec<u8>> {
        match self {
            Self::Gzip => self.read(MultiGzDecoder::new(body), limit, room),
            Self::Deflate if is_zlib(body) => self.read(ZlibDecoder::new(body), limit, room),
            Self::Deflate => self.read(DeflateDecoder::new(body), limit, room),
        }
    }

    fn read(self, mut decoder: impl Read, limit: usize, room: &mut Room<'_>) -> Answer<Vec<u8>> {
        let name = if self == Self::Gzip { "gzip" } else { "deflate" };
        let mut body = Vec::new();
        loop {
            let n_before = body.len();
            let n_read = (&mut decoder).take(STEP_BYTES as u64).read_to_end(&mut body);
            n_read.map_err(|error| {
                Refusal::new(Code::BadRequest, format!("Failed to decompress {name} payload: {error}."))
            })?;
            if body.len() == n_before {
                return Ok(body);
            }
            if body.len() > limit {
                return Err(Refusal::invalid(format!(
                    "The request body exceeds the maximum length of {limit} bytes, once it is decompressed."
                )));
            }
            room.take(body.len() - n_before)?;
        }
    }
}

/// Whether bytes begin as zlib begins: no bare stream does, of which the first bits would say that it holds bytes as they are, padded with ones.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => method & 15 == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::stream::Rooms;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_is_what_comes_out() {
        let rooms = Rooms::new(1 << 20);
        for n_bytes in [0, 1, 70_000, 500_000] {
            let body: Vec<u8> = (0..n_bytes).map(|nth| (nth / 7) as u8).collect();
            for (encoding, packed) in
                [(Encoding::Gzip, gzip(&body)), (Encoding::Deflate, zlib(&body)), (Encoding::Deflate, bare(&body))]
            {
                let mut room = rooms.enter();
                assert_eq!(encoding.inflate(&packed, 1 << 20, &mut room).unwrap(), body);
                assert_eq!(room.keep(), n_bytes);
                rooms.give_back(n_bytes);
                if n_bytes > 0 {
                    let cut = encoding.inflate(&packed[..packed.len() / 2], 1 << 20, &mut rooms.enter());
                    assert_eq!(cut.unwrap_err().status().as_u16(), 400);
                }
            }
        }
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(Encoding::Gzip.inflate(&two, 10, &mut rooms.enter()).unwrap(), b"ab");
    }

    #[test]
    fn little_that_becomes_much_is_refused_before_it_does() {
        let rooms = Rooms::new(256 << 10);
        let bomb = gzip(&vec![0; 64 << 20]);
        let refusal = Encoding::Gzip.inflate(&bomb, 100 << 10, &mut rooms.enter()).unwrap_err();
        assert!(refusal.message.contains("exceeds the maximum length of 102400 bytes"), "{}", refusal.message);
        let refusal = Encoding::Gzip.inflate(&bomb, 32 << 20, &mut rooms.enter()).unwrap_err();
        assert_eq!(refusal, Refusal::busy());
    }

    #[test]
    fn encodings_are_those_that_are_known() {
        assert_eq!(Encoding::of(" GZip ").unwrap(), Some(Encoding::Gzip));
        assert_eq!(Encoding::of("identity").unwrap(), None);
        assert!(Encoding::of("zstd").unwrap_err().message.contains("Unsupported Content-Encoding: zstd"));
    }
}
