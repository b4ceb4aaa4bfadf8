//! Pixels as PNG (ISO/IEC 15948): eight bits each of red, green and blue, every line filtered against the one above.

/// `pixels` is `[height, width, 3]`.
pub(super) fn encode(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    const UP: u8 = 2;
    let line = width as usize * 3;
    let mut filtered = Vec::with_capacity((line + 1) * height as usize);
    let mut above = vec![0; line];
    for row in pixels.chunks_exact(line) {
        filtered.push(UP);
        filtered.extend(row.iter().zip(&above).map(|(p, a)| p.wrapping_sub(*a)));
        above.copy_from_slice(row);
    }
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    // Bit depth, colour type (RGB), compression, filtering, interlacing.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"IDAT", &fdeflate::compress_to_vec(&filtered));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc(kind.iter().chain(data)).to_be_bytes());
}

/// CRC-32 as in ISO 3309.
fn crc<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }));
    !bytes.fold(u32::MAX, |c, byte| table[((c ^ u32::from(*byte)) & 0xff) as usize] ^ (c >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc(b"123456789".iter()), 0xcbf4_3926);
        assert_eq!(crc(b"IEND".iter()), 0xae42_6082);
    }

    #[test]
    fn pixels_come_back() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|i: u32| (i * 37 % 251) as u8).collect();
        let file = encode(&pixels, 5, 4);
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&file[16..29], [0, 0, 0, 5, 0, 0, 0, 4, 8, 2, 0, 0, 0]);
        let length = u32::from_be_bytes(file[33..37].try_into().unwrap()) as usize;
        assert_eq!(&file[37..41], b"IDAT");
        let lines = fdeflate::decompress_to_vec(&file[41..41 + length]).unwrap();
        let mut above = [0_u8; 15];
        for (line, row) in lines.chunks_exact(16).zip(pixels.chunks_exact(15)) {
            assert_eq!(line[0], 2);
            let restored: Vec<u8> = line[1..].iter().zip(above).map(|(d, a)| d.wrapping_add(a)).collect();
            assert_eq!(restored, row);
            above.copy_from_slice(row);
        }
    }
}
