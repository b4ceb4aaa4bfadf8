//! Floats as whole numbers that sort as the floats do, coded by `pco`: alone, or as what changed since a base.
//!
//! Invariants: every bit pattern comes back, NaNs and -0 too, because the map between bits and numbers is one to one and
//! differences wrap; decoding foreign bytes never writes past what was asked for. Not here: digests, and where bytes lie.

use std::mem::size_of;

use pco::data_types::Number;
use pco::standalone::{DecompressorItem, FileDecompressor, simple_compress};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `pco`'s level: 4 is no faster to read and takes 30 to 150 % more where little changed; above 8 reading slows.
const LEVEL: usize = 8;
/// Numbers decoded at a time, so that what is done with them next finds them in the nearest cache.
const BATCH: usize = 4096;
/// A sample for choosing a coding: this many stretches of this many words, spread evenly.
const SAMPLE_STRETCHES: usize = 8;
const SAMPLE_WORDS: usize = 2048;
/// A coding that leaves more than this share of the sample, in hundredths, is not worth its time when read.
const WORTH_PERCENT: usize = 97;

/// How wide the floats of a tensor are. The number of a width is stored and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Words {
    /// 16 bits: `BF16`, `F16`.
    Two,
    /// 32 bits: `F32`.
    Four,
}

/// What is best done with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Raw,
    Lone,
    Delta,
}

impl Words {
    /// The width of the floats of this type, if it is one that is coded.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::BF16 | Dtype::F16 => Some(Self::Two),
            Dtype::F32 => Some(Self::Four),
            _ => None,
        }
    }

    fn n_bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Whether so many bytes are whole words.
    pub(super) fn divide(self, n_bytes: usize) -> bool {
        n_bytes.is_multiple_of(self.n_bytes())
    }

    /// The coding that makes a sample of `raw` smallest. `base`, if there is one, has the same length.
    pub(super) fn choose(self, raw: &[u8], base: Option<&[u8]>) -> Result<Coding> {
        let sample = self.sample(raw);
        let lone = self.code(&sample, None)?.len();
        let delta = base.map(|base| self.code(&sample, Some(&self.sample(base)))).transpose()?.map(|coded| coded.len());
        let (coding, best) = match delta {
            Some(delta) if delta < lone => (Coding::Delta, delta),
            _ => (Coding::Lone, lone),
        };
        Ok(if best * 100 > sample.len() * WORTH_PERCENT { Coding::Raw } else { coding })
    }

    /// Stretches of `raw`, spread evenly; all of it if it is short.
    fn sample(self, raw: &[u8]) -> Vec<u8> {
        let stretch = SAMPLE_WORDS * self.n_bytes();
        if raw.len() <= SAMPLE_STRETCHES * stretch {
            return raw.to_vec();
        }
        let n_between = (raw.len() - stretch) / self.n_bytes() / (SAMPLE_STRETCHES - 1) * self.n_bytes();
        (0..SAMPLE_STRETCHES).flat_map(|nth| &raw[nth * n_between..][..stretch]).copied().collect()
    }

    /// Codes `raw`, which is whole words, against `base` of the same length, or alone.
    pub(super) fn code(self, raw: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>> {
        if base.is_some_and(|base| base.len() != raw.len()) || !self.divide(raw.len()) {
            return Err(Error::invalid("a coded piece", "whole words, as many as its base has", raw.len()));
        }
        match (self, base) {
            (Self::Two, None) => {
                compress(&words(raw, |bytes| sorted_16(u16::from_le_bytes(bytes))).collect::<Vec<_>>())
            }
            (Self::Four, None) => {
                compress(&words(raw, |bytes| sorted_32(u32::from_le_bytes(bytes))).collect::<Vec<_>>())
            }
            (Self::Two, Some(base)) => {
                let sorted = |bytes| sorted_16(u16::from_le_bytes(bytes));
                let pairs = words(raw, sorted).zip(words(base, sorted));
                compress(&pairs.map(|(new, old)| new.wrapping_sub(old) as i16).collect::<Vec<_>>())
            }
            (Self::Four, Some(base)) => {
                let sorted = |bytes| sorted_32(u32::from_le_bytes(bytes));
                let pairs = words(raw, sorted).zip(words(base, sorted));
                compress(&pairs.map(|(new, old)| new.wrapping_sub(old) as i32).collect::<Vec<_>>())
            }
        }
    }

    /// Decodes into `out`, which has the length `raw` had; of a delta it holds the bytes of the base before.
    ///
    /// # Errors
    /// Says what is wrong with `coded`.
    pub(super) fn restore(self, coded: &[u8], is_delta: bool, out: &mut [u8]) -> Result<(), String> {
        match (self, is_delta) {
            (Self::Two, false) => decode::<u16, 2>(coded, out, |_, number| unsorted_16(number).to_le_bytes()),
            (Self::Four, false) => decode::<u32, 4>(coded, out, |_, number| unsorted_32(number).to_le_bytes()),
            (Self::Two, true) => decode::<i16, 2>(coded, out, |old, step| {
                unsorted_16(sorted_16(u16::from_le_bytes(old)).wrapping_add(step as u16)).to_le_bytes()
            }),
            (Self::Four, true) => decode::<i32, 4>(coded, out, |old, step| {
                unsorted_32(sorted_32(u32::from_le_bytes(old)).wrapping_add(step as u32)).to_le_bytes()
            }),
        }
    }
}

/// The number that sorts among others as the sign-magnitude float with these bits does.
fn sorted_16(bits: u16) -> u16 {
    bits ^ ((bits.cast_signed() >> 15).cast_unsigned() | 1 << 15)
}

fn unsorted_16(number: u16) -> u16 {
    number ^ ((!number.cast_signed() >> 15).cast_unsigned() | 1 << 15)
}

fn sorted_32(bits: u32) -> u32 {
    bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 1 << 31)
}

fn unsorted_32(number: u32) -> u32 {
    number ^ ((!number.cast_signed() >> 31).cast_unsigned() | 1 << 31)
}

fn words<const N: usize, T>(raw: &[u8], number: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    raw.as_chunks().0.iter().map(move |bytes| number(*bytes))
}

/// Weights are drawn, not a sequence: neighbours say nothing of each other, and looking for it costs a fifth of the time.
fn compress<T: Number>(numbers: &[T]) -> Result<Vec<u8>> {
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    simple_compress(numbers, &config).map_err(|error| Error::invalid("a tensor", "numbers that can be coded", error))
}

/// Sets each word of `out` to what `word` makes of it and its number.
fn decode<T: Number + Default, const N: usize>(
    coded: &[u8],
    out: &mut [u8],
    word: impl Fn([u8; N], T) -> [u8; N],
) -> Result<(), String> {
    debug_assert_eq!(size_of::<T>(), N);
    let failed = |error: pco::errors::PcoError| error.to_string();
    let n_words = out.len() / N;
    let short = || format!("expected `{n_words}` numbers, got another count");
    let (file, mut rest) = FileDecompressor::new(coded).map_err(failed)?;
    let mut numbers = vec![T::default(); BATCH];
    let mut left = out.as_chunks_mut::<N>().0;
    loop {
        let mut chunk = match file.chunk_decompressor::<T, _>(rest).map_err(failed)? {
            DecompressorItem::Chunk(chunk) => chunk,
            DecompressorItem::EndOfData(after) => {
                return if left.is_empty() && after.is_empty() { Ok(()) } else { Err(short()) };
            }
        };
        loop {
            let progress = chunk.read(&mut numbers).map_err(failed)?;
            let (these, later) = left.split_at_mut_checked(progress.n_processed).ok_or_else(short)?;
            for (out, number) in these.iter_mut().zip(&numbers) {
                *out = word(*out, *number);
            }
            left = later;
            if progress.finished {
                break;
            }
            if progress.n_processed == 0 {
                return Err(short());
            }
        }
        rest = chunk.into_src();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTHS: [Words; 2] = [Words::Two, Words::Four];

    fn round_trip(words: Words, raw: &[u8], base: Option<&[u8]>) {
        let coded = words.code(raw, base).unwrap();
        let mut out = base.map_or_else(|| vec![0xa5; raw.len()], <[u8]>::to_vec);
        words.restore(&coded, base.is_some(), &mut out).unwrap();
        assert!(out == raw, "{words:?}, base: {}", base.is_some());
    }

    #[test]
    fn every_16_bit_pattern_comes_back_alone_and_against_any_other() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        round_trip(Words::Two, &all, None);
        for shift in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let base: Vec<u8> =
                (0..=u16::MAX).flat_map(|bits| bits.wrapping_mul(40_503).wrapping_add(shift).to_le_bytes()).collect();
            round_trip(Words::Two, &all, Some(&base));
            round_trip(Words::Two, &base, Some(&all));
        }
    }

    #[test]
    fn numbers_sort_as_floats_do() {
        let floats =
            [f32::NEG_INFINITY, f32::MIN, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.5, f32::MAX, f32::INFINITY, f32::NAN];
        assert!(floats.map(|float| sorted_32(float.to_bits())).is_sorted());
        assert!(floats.map(|float| sorted_16((float.to_bits() >> 16) as u16)).is_sorted());
        assert_eq!(sorted_32(0), sorted_32((-0.0_f32).to_bits()) + 1, "zeros are neighbours");
        for bits in 0..=u16::MAX {
            assert_eq!(unsorted_16(sorted_16(bits)), bits);
        }
    }

    proptest! {
        #[test]
        fn every_bit_comes_back(pairs in proptest::collection::vec(any::<(u32, u32)>(), 0..3000), near in any::<bool>()) {
            let raw: Vec<u8> = pairs.iter().flat_map(|(new, _)| new.to_le_bytes()).collect();
            let base: Vec<u8> = pairs.iter()
                .flat_map(|(new, old)| if near { new ^ (old & 3) } else { *old }.to_le_bytes())
                .collect();
            for words in WIDTHS {
                round_trip(words, &raw, None);
                round_trip(words, &raw, Some(&base));
                prop_assert_eq!(unsorted_32(sorted_32(pairs.first().map_or(0, |pair| pair.0))), pairs.first().map_or(0, |pair| pair.0));
            }
        }

        #[test]
        fn foreign_bytes_are_an_error_or_other_words_never_a_panic(
            foreign in proptest::collection::vec(any::<u8>(), 0..400),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
            n_words in 0_usize..5000,
        ) {
            let raw: Vec<u8> = (0..n_words as u32 * 4).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3f).collect();
            for words in WIDTHS {
                for is_delta in [false, true] {
                    let mut out = raw.clone();
                    drop(words.restore(&foreign, is_delta, &mut out));
                    let mut coded = words.code(&raw, is_delta.then_some(&raw)).unwrap();
                    for (at, flip) in &flips {
                        let at = at.index(coded.len());
                        coded[at] ^= flip;
                    }
                    drop(words.restore(&coded, is_delta, &mut out));
                    prop_assert_eq!(out.len(), raw.len());
                }
            }
        }
    }

    #[test]
    fn too_many_or_too_few_numbers_are_refused() {
        let coded = Words::Two.code(&vec![7; 20_000], None).unwrap();
        for n_bytes in [0, 2, 19_998, 20_002, 40_000] {
            assert!(Words::Two.restore(&coded, false, &mut vec![0; n_bytes]).is_err(), "{n_bytes}");
        }
        assert!(Words::Two.restore(&[coded, vec![0]].concat(), false, &mut vec![0; 20_000]).is_err());
        assert!(Words::Two.code(&[1], None).is_err() && Words::Four.code(&[1; 4], Some(&[1; 8])).is_err());
    }

    #[test]
    fn what_does_not_get_smaller_stays_raw_and_what_moved_little_is_a_delta() {
        let mut noise = vec![0; 400_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut moved = noise.clone();
        moved.iter_mut().step_by(40).for_each(|byte| *byte ^= 1);
        assert_eq!(Words::Two.choose(&noise, None).unwrap(), Coding::Raw);
        assert_eq!(Words::Two.choose(&moved, Some(&noise)).unwrap(), Coding::Delta);
        assert_eq!(Words::Four.choose(&vec![0; 100_000], Some(&noise[..100_000])).unwrap(), Coding::Lone);
    }
}
