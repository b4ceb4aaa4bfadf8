//! Hugging Face folders as they are read: headers first, checked against the files they speak of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::threads::on_threads;

/// Bytes that are read and hashed at once.
const HASHED: usize = 1 << 17;
/// The longest header that is read.
const MAX_HEADER: u64 = 100 << 20;

/// A folder of weights whose headers were read.
#[derive(Debug)]
pub struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<(PathBuf, File)>,
    pub(crate) tensors: BTreeMap<String, Entry>,
    /// Layers, by the tensors' names.
    pub(crate) n_layers: usize,
    /// What the files were when they were opened, one each.
    marks: Vec<Mark>,
    /// The digest of the index, which says what tensors there are; of nothing without one.
    index: Hash,
}

/// What a file system says of a file, all that changes when its bytes do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    n_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(path: &Path, file: &File) -> Result<Self> {
        let data = file.metadata().map_err(Error::io("read", path))?;
        Ok(Self {
            device: data.dev(),
            inode: data.ino(),
            n_bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// What tells a folder of weights from the same folder after a change, without reading the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A digest over device, inode, size and times (of bytes and of attributes) of every file, as they were opened.
    pub digest: Hash,
    /// The last of those times, in milliseconds since 1970. A file system's clock is coarse: a change right after this
    /// moment may leave no trace, so a stamp can be trusted only if it was old when the files were opened.
    pub changed_millis: i64,
}

/// Where a tensor is and what it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) file: usize,
    pub(crate) at: u64,
    pub(crate) n_bytes: u64,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Folder {
    /// Reads the headers of `model.safetensors`, or of the shards its index names.
    ///
    /// # Errors
    /// `Damaged` naming the file and what is wrong with it, an adapter that was not merged among that; `Io`.
    pub fn open(dir: &Path) -> Result<Self> {
        // Transformers puts an adapter on top of the weights it lies beside, so they are not the model's.
        for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
            if dir.join(name).exists() {
                let what = "expected merged weights, got an adapter beside or in place of them; merge it into its base first \
                            (peft: `model.merge_and_unload().save_pretrained(FOLDER)`), in a folder without the adapter's files";
                return Err(Error::damaged(&dir.join(name), what));
            }
        }
        let index = dir.join("model.safetensors.index.json");
        let mut all = Self {
            dir: dir.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            n_layers: 0,
            marks: Vec::new(),
            index: blake3::hash(&[]),
        };
        if index.is_file() {
            let text = std::fs::read(&index).map_err(Error::io("read", &index))?;
            all.index = blake3::hash(&text);
            let map = weight_map(&index, &text)?;
            let shards: BTreeSet<&String> = map.values().collect();
            let mut found = BTreeMap::new();
            for shard in shards {
                if shard.contains(['/', '\\']) {
                    return Err(Error::damaged(&index, format!("expected names of files beside it, got `{shard}`")));
                }
                all.add(&dir.join(shard))?;
            }
            for (name, shard) in &map {
                let entry = all.tensors.get(name).filter(|entry| all.files[entry.file].0.ends_with(shard));
                let entry = entry.ok_or_else(|| {
                    Error::damaged(&index, format!("expected tensor `{name}` in `{shard}`, which does not have it"))
                })?;
                found.insert(name.clone(), entry.clone());
            }
            all.tensors = found;
        } else {
            all.add(&dir.join("model.safetensors"))?;
        }
        all.n_layers = all.tensors.keys().filter_map(|name| layer_of(name)).map(|layer| layer + 1).max().unwrap_or(0);
        Ok(all)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mark = Mark::of(path, &file)?;
        let n_bytes = mark.n_bytes;
        let (start, header) = header(path, &file, n_bytes)?;
        let file_idx = self.files.len();
        self.marks.push(mark);
        self.files.push((path.to_path_buf(), file));
        let mut end = 0;
        let tensors: BTreeMap<_, _> = header.tensors().into_iter().collect();
        for (name, info) in tensors {
            let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
            end = end.max(to);
            let entry = Entry {
                file: file_idx,
                at: start + from,
                n_bytes: to - from,
                dtype: info.dtype,
                shape: info.shape.clone(),
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::damaged(path, format!("tensor `{name}` is in another shard too")));
            }
        }
        if start + end != n_bytes {
            return Err(Error::damaged(path, format!("expected {} bytes by its header, got {n_bytes}", start + end)));
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The number of weights of all tensors.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        self.tensors.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }

    /// The BLAKE3 of `config.json`; of nothing without one.
    ///
    /// # Errors
    /// `Io`.
    pub fn config(&self) -> Result<Hash> {
        Ok(blake3::hash(&self.config_text()?.unwrap_or_default()))
    }

    pub(crate) fn config_text(&self) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join("config.json");
        if !path.is_file() {
            return Ok(None);
        }
        std::fs::read(&path).map(Some).map_err(Error::io("read", &path))
    }

    /// Whether its configuration says that the head is the table of embeddings.
    pub(crate) fn is_tied(&self) -> Result<bool> {
        let Some(text) = self.config_text()? else { return Ok(false) };
        let path = self.dir.join("config.json");
        let json: Value = serde_json::from_slice(&text).map_err(|e| Error::damaged(&path, e.to_string()))?;
        let ties = ["/tie_word_embeddings", "/text_config/tie_word_embeddings"];
        Ok(ties.iter().find_map(|at| json.pointer(at)?.as_bool()).unwrap_or(false))
    }

    /// The stamp of its files as they were opened.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let mut hasher = Hasher::new();
        hasher.update(self.index.as_bytes());
        let mut last = (i64::MIN, 0);
        for (mark, (path, _)) in self.marks.iter().zip(&self.files) {
            let name = path.file_name().unwrap_or_default();
            hasher.update(name.as_encoded_bytes()).update(format!("\0{mark:?}").as_bytes());
            last = last.max(mark.modified).max(mark.changed);
        }
        // Rounded up, to be no earlier than it was.
        let changed_millis = last.0.saturating_mul(1000).saturating_add(last.1 / 1_000_000 + 1);
        Stamp { digest: hasher.finalize(), changed_millis }
    }

    /// Refuses a folder whose files were written to since they were opened; where something is believed of them by their
    /// stamp, also if the stamp changed.
    ///
    /// # Errors
    /// `Damaged` naming the file; `Io`.
    pub(crate) fn check_unchanged(&self, is_believed: bool) -> Result<()> {
        for (was, (path, file)) in self.marks.iter().zip(&self.files) {
            let is = Mark::of(path, file)?;
            let is_same = (is.n_bytes, is.modified) == (was.n_bytes, was.modified);
            if !is_same || is_believed && is != *was {
                let what = "expected it to stay as it is while it is read, and something wrote to it; try again";
                return Err(Error::damaged(path, what));
            }
        }
        Ok(())
    }

    /// Reads all weights and computes their digest: BLAKE3 over, for each tensor by name, the name, a zero byte and the BLAKE3 of
    /// its bytes. Of [`Merged::output`](crate::Merged::output) it is the same.
    ///
    /// # Errors
    /// `Io`; `Damaged` if the files change meanwhile.
    pub fn weights(&self, n_threads: usize) -> Result<Hash> {
        let entries: Vec<&Entry> = self.tensors.values().collect();
        let digests = on_threads(n_threads, entries.len(), |idx| self.hash(entries[idx]))?;
        self.check_unchanged(false)?;
        let by_name = self.tensors.keys().map(String::as_str).zip(digests);
        Ok(digest_of(by_name))
    }

    /// The digest of one tensor's bytes.
    pub(crate) fn hash(&self, entry: &Entry) -> Result<Hash> {
        let mut hasher = Hasher::new();
        let mut at = 0;
        let mut bytes = vec![0; (HASHED as u64).min(entry.n_bytes) as usize];
        while at < entry.n_bytes {
            let n = bytes.len().min((entry.n_bytes - at) as usize);
            self.read(entry, at, &mut bytes[..n])?;
            hasher.update(&bytes[..n]);
            at += n as u64;
        }
        Ok(hasher.finalize())
    }

    /// Reads `out.len()` bytes of a tensor from byte `at`.
    pub(crate) fn read(&self, entry: &Entry, at: u64, out: &mut [u8]) -> Result<()> {
        let (path, file) = &self.files[entry.file];
        file.read_exact_at(out, entry.at + at).map_err(Error::io("read", path))
    }
}

/// A file's header, and where its data starts.
fn header(path: &Path, mut file: &File, n_bytes: u64) -> Result<(u64, Metadata)> {
    let damaged = |what: String| Error::damaged(path, what);
    let mut length = [0; 8];
    if n_bytes < 8 {
        return Err(damaged(format!("expected a safetensors file, got {n_bytes} bytes")));
    }
    file.read_exact(&mut length).map_err(Error::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > n_bytes - 8 {
        let most = MAX_HEADER.min(n_bytes - 8);
        return Err(damaged(format!("expected a header of at most {most} bytes, got a length of {length}")));
    }
    let mut bytes = vec![0; 8 + length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    serde_json::from_slice::<Distinct>(&bytes[8..]).map_err(|e| damaged(format!("its header: {e}")))?;
    let metadata: Metadata = serde_json::from_slice(&bytes[8..]).map_err(|e| damaged(format!("its header: {e}")))?;
    check_offsets(&metadata).map_err(|what| damaged(format!("its header: {what}")))?;
    Ok((8 + length, metadata))
}

/// Checks that tensors lie end to end and have the sizes of their shapes. The library does so only for whole files in memory.
fn check_offsets(metadata: &Metadata) -> std::result::Result<(), String> {
    let mut all: Vec<_> = metadata.tensors().into_iter().collect();
    all.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in all {
        let (from, to) = info.data_offsets;
        if from != end || to < from {
            return Err(format!("tensor `{name}`: expected data from byte {end}, got {from} to {to}"));
        }
        let n_bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, side| n.checked_mul(*side));
        if n_bits != Some((to - from).saturating_mul(8)) {
            let (dtype, shape) = (info.dtype, &info.shape);
            return Err(format!("tensor `{name}`: expected the bytes of {dtype} {shape:?}, got {}", to - from));
        }
        end = to;
    }
    Ok(())
}

/// An object whose keys are distinct; a map would keep the last of equal ones without a word.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Distinct;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Distinct, A::Error> {
                let mut seen = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("tensor `{name}` is there twice")));
                    }
                }
                Ok(Distinct)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn weight_map(index: &Path, text: &[u8]) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let read: Index = serde_json::from_slice(text).map_err(|e| Error::damaged(index, e.to_string()))?;
    Ok(read.weight_map)
}

/// The digest of weights, from the names of their tensors in order and each one's digest.
pub(crate) fn digest_of<'a>(tensors: impl Iterator<Item = (&'a str, Hash)>) -> Hash {
    let mut hasher = Hasher::new();
    for (name, digest) in tensors {
        hasher.update(name.as_bytes()).update(&[0]).update(digest.as_bytes());
    }
    hasher.finalize()
}

/// The layer a tensor belongs to: the number after `layers`, `h`, `blocks` or `block` in its name.
pub(crate) fn layer_of(name: &str) -> Option<usize> {
    split_layer(name).map(|(_, layer, _)| layer)
}

/// What stands before and after the layer's number.
pub(crate) fn split_layer(name: &str) -> Option<(&str, usize, &str)> {
    for part in ["layers.", "h.", "blocks.", "block."] {
        let starts =
            name.match_indices(part).map(|(at, _)| at).filter(|at| *at == 0 || name.as_bytes()[at - 1] == b'.');
        for start in starts {
            let digits = start + part.len();
            let n_digits = name[digits..].bytes().take_while(u8::is_ascii_digit).count();
            let rest = &name[digits + n_digits..];
            if let (Ok(layer), true) = (name[digits..digits + n_digits].parse(), rest.starts_with('.')) {
                return Some((&name[..digits], layer, rest));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let path = dir.path().to_path_buf();
        (dir, path)
    }

    fn with_header(header: &str, n_data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; n_data]].concat()
    }

    #[test]
    fn a_layer_is_the_number_after_its_word() {
        assert_eq!(layer_of("model.layers.12.mlp.up_proj.weight"), Some(12));
        assert_eq!(layer_of("transformer.h.3.attn.weight"), Some(3));
        assert_eq!(layer_of("lm_head.weight"), None);
        assert_eq!(layer_of("model.norm.layers"), None);
        assert_eq!(layer_of("model.sublayers.1.x"), None);
    }

    #[test]
    fn hostile_headers_are_refused_by_file_and_reason() {
        let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        let twice = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let wide = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}"#;
        let strange = r#"{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}"#;
        let mut huge = with_header(one, 8);
        huge[..8].copy_from_slice(&(1_u64 << 63).to_le_bytes());
        for (bytes, part) in [
            (vec![1, 2, 3], "got 3 bytes"),
            (huge, "9223372036854775808"),
            (with_header(one, 7), "expected"),
            (with_header(one, 9), "expected"),
            (with_header(overlap, 12), "header"),
            (with_header(twice, 8), "twice"),
            (with_header(wide, 8), "header"),
            (with_header(strange, 8), "header"),
            (with_header("[1]", 0), "header"),
        ] {
            let (_dir, path) = file(&bytes);
            let error = Folder::open(&path).unwrap_err().to_string();
            assert!(error.contains("model.safetensors") && error.contains(part), "{part}: {error}");
        }
        let (_dir, path) = file(&with_header(one, 8));
        assert_eq!(Folder::open(&path).unwrap().tensors["a"].shape, [2]);
    }

    #[test]
    fn an_adapter_that_was_not_merged_is_refused() {
        let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
            let (_dir, path) = file(&with_header(one, 8));
            assert!(Folder::open(&path).is_ok());
            std::fs::write(path.join(name), "{}").unwrap();
            let error = Folder::open(&path).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("merge_and_unload"), "{error}");
        }
    }

    #[test]
    fn a_missing_shard_and_a_missing_tensor_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let index = |map: &str| {
            let text = format!("{{\"weight_map\": {map}}}");
            std::fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
        };
        index(r#"{"a": "one.safetensors"}"#);
        assert!(Folder::open(dir.path()).unwrap_err().to_string().contains("one.safetensors"));
        let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        std::fs::write(dir.path().join("one.safetensors"), with_header(one, 8)).unwrap();
        assert!(Folder::open(dir.path()).is_ok());
        index(r#"{"a": "one.safetensors", "b": "one.safetensors"}"#);
        assert!(Folder::open(dir.path()).unwrap_err().to_string().contains("`b`"));
        index(r#"{"a": "../one.safetensors"}"#);
        assert!(Folder::open(dir.path()).unwrap_err().to_string().contains("beside"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<(usize, u8)>()) {
            let (_dir, path) = file(&bytes);
            drop(Folder::open(&path));
            let mut near = with_header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
            let at = flip.0 % near.len();
            near[at] ^= flip.1;
            let (_dir, path) = file(&near);
            drop(Folder::open(&path));
        }
    }
}
