//! Tensors are stored coded, alone or as differences, and come back bit for bit; damage anywhere is found and named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tracker_store::{Error, Group, Store, Version};

/// Numbers that look like weights: bell-shaped, the same for the same seed.
fn weights(n: usize, seed: u64) -> Vec<f32> {
    let mut bytes = vec![0; n * 8];
    blake3::Hasher::new_derive_key("weights").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| f32::from(*byte) - 127.5).sum::<f32>();
    bytes.chunks(8).map(|bytes| sum(bytes) * 1e-4).collect()
}

fn moved(weights: &[f32], by: f32, seed: u64) -> Vec<f32> {
    weights.iter().zip(self::weights(weights.len(), seed)).map(|(weight, step)| weight + by * 50.0 * step).collect()
}

fn bf16(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|weight| ((weight.to_bits() + 0x8000) >> 16).to_le_bytes()[..2].to_vec()).collect()
}

fn f32s(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|weight| weight.to_le_bytes()).collect()
}

fn file(tensors: &[(&str, Dtype, &[u8])]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, bytes)| {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        (*name, TensorView::new(*dtype, shape, bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn save(store: &Store, name: &str, mut bytes: &[u8], base: Option<&Version>) -> Version {
    let mut draft = store.draft("model").unwrap();
    base.map(|base| draft.based_on(base.manifest)).transpose().unwrap();
    draft.add("model.safetensors", &mut bytes).unwrap();
    draft.save(name, &[], None).unwrap()
}

fn read(store: &Store, version: &Version) -> Result<Vec<u8>, Error> {
    store.read_file(store.manifest(version).unwrap().files[0].digest)
}

fn stored(store: &Store, version: &Version) -> u64 {
    let name = format!("{}:v{}", version.name, version.number);
    store.usage(Group::Version).unwrap().shares.into_iter().find(|share| share.name == name).unwrap().freed_bytes
}

fn packs(store: &Store) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.dir().unwrap().join("blobs")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).collect()
}

fn on_disk(dir: &Path) -> Store {
    Store::create(&dir.join("store")).unwrap()
}

#[test]
fn a_child_takes_less_than_its_base_and_both_come_back() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let store = Store::memory().unwrap();
        let base = weights(1 << 20, 1);
        let bytes = |weights: &[f32]| if dtype == Dtype::F32 { f32s(weights) } else { bf16(weights) };
        let (base, child) = (bytes(&base), bytes(&moved(&base, 1e-4, 2)));
        let (base, child) = (file(&[("w", dtype, &base)]), file(&[("w", dtype, &child)]));
        let first = save(&store, "m", &base, None);
        assert!(stored(&store, &first) * 10 < base.len() as u64 * 9, "{dtype:?}: alone it is coded");
        let second = save(&store, "m", &child, Some(&first));
        let (raw, delta) = (child.len() as u64, stored(&store, &second));
        assert!(delta * 3 < raw * 2, "{dtype:?}: {delta} of {raw}");
        assert_eq!(read(&store, &first).unwrap(), base);
        assert_eq!(read(&store, &second).unwrap(), child);
        let plain = Store::memory().unwrap();
        let same = save(&plain, "m", &child, None);
        assert_eq!(same.manifest, second.manifest, "the digest is that of the bytes, however they are stored");
    }
}

#[test]
fn a_chain_never_rests_on_more_than_its_root() {
    let store = Store::memory().unwrap();
    let mut now = weights(600_000, 1);
    let mut files = vec![file(&[("w", Dtype::BF16, &bf16(&now))])];
    let mut versions = vec![save(&store, "m", &files[0], None)];
    for nth in 1..8 {
        now = moved(&now, 1e-4, nth);
        files.push(file(&[("w", Dtype::BF16, &bf16(&now))]));
        versions.push(save(&store, "m", files.last().unwrap(), versions.last()));
    }
    // What lies between goes, and the last is still there: it never rested on it.
    for version in &versions[1..7] {
        store.remove_version(version, false).unwrap();
    }
    let collected = store.collect(&tracker_store::Collect::default()).unwrap();
    assert!(collected.n_pieces >= 6, "{collected:?}");
    assert_eq!(read(&store, &versions[7]).unwrap(), files[7]);
    assert_eq!(read(&store, &versions[0]).unwrap(), files[0]);
    // The root's version goes, and its bytes stay for the one that rests on them.
    store.remove_version(&versions[0], false).unwrap();
    store.collect(&tracker_store::Collect::default()).unwrap();
    assert_eq!(read(&store, &versions[7]).unwrap(), files[7]);
    assert!(read(&store, &versions[0]).is_err());
}

#[test]
fn tensors_that_only_share_a_name_are_no_base() {
    let store = Store::memory().unwrap();
    let (a, b) = (bf16(&weights(700_000, 1)), bf16(&weights(600_000, 2)));
    let base = file(&[("w", Dtype::BF16, &a), ("v", Dtype::BF16, &b)]);
    let first = save(&store, "m", &base, None);
    // Another length, another type, another name.
    let child = file(&[("w", Dtype::BF16, &b), ("v", Dtype::F16, &a), ("u", Dtype::I16, &a)]);
    let second = save(&store, "m", &child, Some(&first));
    assert_eq!(read(&store, &second).unwrap(), child);
    let missing = Version { manifest: tracker_store::Digest::of(b"nothing"), ..first };
    assert!(matches!(store.draft("model").unwrap().based_on(missing.manifest), Err(Error::NotFound { .. })));
}

#[test]
fn a_flipped_bit_in_any_stored_piece_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = on_disk(dir.path());
    let base = weights(600_000, 1);
    let noise: Vec<u8> = blake3::Hasher::new().finalize_xof().take_bytes(1_200_000);
    let first = file(&[("a", Dtype::BF16, &bf16(&base)), ("b", Dtype::F16, &noise), ("c", Dtype::F32, &f32s(&base))]);
    let first = save(&store, "m", &first, None);
    let near = moved(&base, 1e-4, 2);
    let second = file(&[("a", Dtype::BF16, &bf16(&near)), ("b", Dtype::F16, &noise), ("c", Dtype::F32, &f32s(&near))]);
    let second = save(&store, "m", &second, Some(&first));
    let good = [read(&store, &first).unwrap(), read(&store, &second).unwrap()];
    let n_packs = packs(&store).len();
    assert_eq!(n_packs, 2);
    let mut n_damaged = 0;
    for pack in packs(&store) {
        let whole = fs::read(&pack).unwrap();
        for nth in 0..40 {
            let at = if nth == 39 { whole.len() - 1 } else { nth * whole.len() / 39 };
            let mut bad = whole.clone();
            bad[at] ^= 1 << (nth % 8);
            fs::write(&pack, &bad).unwrap();
            for (version, good) in [&first, &second].into_iter().zip(&good) {
                match read(&store, version) {
                    Ok(bytes) => assert!(bytes == *good, "byte {at} of {pack:?}"),
                    Err(Error::CorruptFile { path, offset, .. }) => {
                        assert!(
                            path == pack && offset <= at as u64,
                            "byte {at} of {pack:?}: named {path:?} at {offset}"
                        );
                        n_damaged += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        fs::write(&pack, &whole).unwrap();
    }
    // Every flip hurts someone, save those in lone roots that were laid down raw and are not read any more.
    assert!(n_damaged > 60, "{n_damaged}");
    assert_eq!([read(&store, &first).unwrap(), read(&store, &second).unwrap()], good);
}

trait TakeBytes {
    fn take_bytes(self, n: usize) -> Vec<u8>;
}

impl TakeBytes for blake3::OutputReader {
    fn take_bytes(mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_bits_come_back_from_any_base(seed in any::<u64>(), density in 0_usize..100, cut in 0_usize..3) {
        let store = Store::memory().unwrap();
        // All patterns: NaNs, infinities, -0.
        let bits = |seed: u64| blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().take_bytes(1_200_000);
        let base = bits(seed);
        let mut child = base.clone();
        for (at, byte) in bits(!seed).iter().enumerate().filter(|(at, byte)| (at * 7 + usize::from(**byte)) % 100 < density) {
            child[at] = *byte;
        }
        let dtype = [Dtype::BF16, Dtype::F16, Dtype::F32][cut];
        let (base, child) = (file(&[("w", dtype, &base)]), file(&[("w", dtype, &child)]));
        let first = save(&store, "m", &base, None);
        let second = save(&store, "m", &child, Some(&first));
        prop_assert!(read(&store, &second).unwrap() == child);
        prop_assert!(read(&store, &first).unwrap() == base);
    }
}
