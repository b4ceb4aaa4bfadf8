//! The folder that is written: beside its name until it is whole, with a journal of finished tensors.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use blake3::{Hash, Hasher};
use serde_json::{Value, json};

use crate::chat::with_template;
use crate::error::{Error, Result};
use crate::plan::Merge;
use crate::run::Merged;

/// The largest file of weights.
const MAX_SHARD: u64 = 5_000_000_000;
/// What a disk writes at once, or a multiple of it: what goes to it past the page cache must begin and end at such places, in the
/// file as in memory.
pub(crate) const SECTOR: usize = 4096;
/// Smaller files go through the page cache; of those in unit tests none.
const MIN_DIRECT: u64 = if cfg!(test) { 1 } else { 64 << 20 };
/// The list of finished tensors.
const JOURNAL: &str = "merge.journal";

/// The files a tokenizer may be made of.
const TOKENIZER: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Those that hold tokens.
const STALE: [&str; 5] = ["tokenizer.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt"];

/// Digests of a finished tensor: its own, then those of its sources.
pub(crate) type Digests = Vec<Hash>;

/// The output under way.
pub(crate) struct Output {
    pub(crate) dir: PathBuf,
    part: PathBuf,
    shards: Vec<Shard>,
    /// Where each job's bytes go: the shard and the offset in its data.
    places: Vec<(usize, u64)>,
    journal: Mutex<File>,
    /// What an earlier process had finished.
    pub(crate) finished: BTreeMap<String, Digests>,
}

struct Shard {
    name: String,
    file: File,
    /// The same file past the page cache, where the file system has such a thing: weights are written once and are too large to
    /// stay there, and half the cost of a merge would be to copy them into fresh pages.
    direct: Option<File>,
    /// Length of its header, the eight bytes before it included.
    start: u64,
    jobs: Vec<usize>,
}

impl Output {
    /// Begins the output, or goes on with one that the same merge began.
    ///
    /// # Errors
    /// `Exists` if the name is taken; `Full`, `Io`.
    pub(crate) fn begin(merge: &Merge, dir: &Path) -> Result<Self> {
        if dir.exists() {
            return Err(Error::Exists(dir.to_path_buf()));
        }
        let part = part_of(dir);
        let identity = identity(merge);
        let finished = resume(&part, &identity)?;
        let (finished, is_new) = finished.map_or_else(|| (BTreeMap::new(), true), |finished| (finished, false));
        if is_new {
            if part.exists() && !part.join(JOURNAL).exists() {
                return Err(Error::Exists(part));
            }
            drop(fs::remove_dir_all(&part));
            fs::create_dir_all(&part).map_err(Error::io("make", &part))?;
        }
        let path = part.join(JOURNAL);
        let mut journal = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("open", &path))?;
        if is_new {
            writeln!(journal, "{identity}").map_err(Error::io("write", &path))?;
        }
        let mut output = Self {
            dir: dir.to_path_buf(),
            part,
            shards: Vec::new(),
            places: Vec::new(),
            journal: Mutex::new(journal),
            finished,
        };
        output.open_shards(merge)?;
        Ok(output)
    }

    fn open_shards(&mut self, merge: &Merge) -> Result<()> {
        let mut groups: Vec<(u64, Vec<usize>)> = Vec::new();
        for (idx, job) in merge.jobs.iter().enumerate() {
            match groups.last_mut() {
                Some((n_bytes, jobs)) if *n_bytes + job.n_bytes() <= MAX_SHARD => {
                    *n_bytes += job.n_bytes();
                    jobs.push(idx);
                }
                _ => groups.push((job.n_bytes(), vec![idx])),
            }
        }
        let n = groups.len();
        self.places = vec![(0, 0); merge.jobs.len()];
        for (at, (n_bytes, jobs)) in groups.into_iter().enumerate() {
            let name = match n {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{n:05}.safetensors", at + 1),
            };
            let mut offset = 0;
            for job in &jobs {
                self.places[*job] = (at, offset);
                offset += merge.jobs[*job].n_bytes();
            }
            let path = self.part.join(&name);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(Error::io("open", &path))?;
            let blank = Hash::from_bytes([0; 32]);
            let start =
                header(merge, &jobs, |_| blank, &metadata(merge, &blank.to_hex(), &BTreeMap::new()))?.len() as u64;
            file.set_len(start + n_bytes).map_err(Error::io("write", &path))?;
            let direct =
                (n_bytes >= MIN_DIRECT).then(|| open_direct(&path, &file, start + n_bytes)).transpose()?.flatten();
            self.shards.push(Shard { name, file, direct, start, jobs });
        }
        Ok(())
    }

    /// Where in its file a job's tensor begins.
    pub(crate) fn place(&self, job: usize) -> u64 {
        let (shard, offset) = self.places[job];
        self.shards[shard].start + offset
    }

    /// Writes bytes of a job's tensor, from its byte `at`: whole sectors past the page cache if they lie in memory as they will
    /// in the file.
    pub(crate) fn write(&self, job: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let shard = &self.shards[self.places[job].0];
        let at = self.place(job) + at;
        let head = bytes.len().min((at.next_multiple_of(SECTOR as u64) - at) as usize);
        let (head, rest) = bytes.split_at(head);
        let n_whole = rest.len() / SECTOR * SECTOR;
        let path = || self.part.join(&shard.name);
        if let Some(direct) = &shard.direct
            && n_whole > 0
            && rest.as_ptr().addr().is_multiple_of(SECTOR)
        {
            let (whole, tail) = rest.split_at(n_whole);
            let begin = at + head.len() as u64;
            match direct.write_all_at(whole, begin) {
                Ok(()) => {
                    shard.file.write_all_at(head, at).map_err(Error::io("write", &path()))?;
                    let end = begin + n_whole as u64;
                    return shard.file.write_all_at(tail, end).map_err(Error::io("write", &path()));
                }
                // The file system has other ideas of a sector.
                Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {}
                Err(e) => return Err(Error::io("write", &path())(e)),
            }
        }
        shard.file.write_all_at(bytes, at).map_err(Error::io("write", &path()))
    }

    /// Whether a job that the journal calls finished has the bytes it says.
    pub(crate) fn has(&self, job: usize, n_bytes: u64, digest: Hash) -> Result<bool> {
        let (shard, offset) = self.places[job];
        let shard = &self.shards[shard];
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < n_bytes {
            let n = buffer.len().min((n_bytes - at) as usize);
            shard
                .file
                .read_exact_at(&mut buffer[..n], shard.start + offset + at)
                .map_err(Error::io("read", &self.part.join(&shard.name)))?;
            hasher.update(&buffer[..n]);
            at += n as u64;
        }
        Ok(hasher.finalize() == digest)
    }

    /// Notes a finished tensor.
    pub(crate) fn note(&self, tensor: &str, digests: &[Hash]) -> Result<()> {
        let digests: Vec<String> = digests.iter().map(|digest| digest.to_hex().to_string()).collect();
        let line = format!("{}\t{tensor}\n", digests.join(" "));
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.write_all(line.as_bytes()).map_err(Error::io("write", &self.part.join(JOURNAL)))
    }

    /// Writes headers, configuration and tokenizer, and gives the folder its name.
    pub(crate) fn publish(self, merge: &Merge, digests: &[Digests], merged: &Merged) -> Result<()> {
        if let Err(differs) = merge.check_output(merged) {
            drop(fs::remove_dir_all(&self.part));
            return Err(differs);
        }
        let metadata = metadata(merge, &merged.output, &merged.parents);
        for shard in &self.shards {
            let path = self.part.join(&shard.name);
            let mut header = header(merge, &shard.jobs, |job| digests[job][0], &metadata)?;
            if header.len() as u64 > shard.start {
                return Err(Error::damaged(&path, "its header outgrew its place"));
            }
            header.resize(shard.start as usize, b' ');
            header[..8].copy_from_slice(&(shard.start - 8).to_le_bytes());
            shard.file.write_all_at(&header, 0).map_err(Error::io("write", &path))?;
            shard.file.sync_all().map_err(Error::io("write", &path))?;
        }
        self.write_index(merge)?;
        copy_configuration(merge, &self.part)?;
        let journal = self.part.join(JOURNAL);
        fs::remove_file(&journal).map_err(Error::io("remove", &journal))?;
        sync_dir(&self.part)?;
        fs::rename(&self.part, &self.dir).map_err(Error::io("rename", &self.part))?;
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Ok(())
    }

    fn write_index(&self, merge: &Merge) -> Result<()> {
        if self.shards.len() == 1 {
            return Ok(());
        }
        let map: BTreeMap<&str, &str> = self
            .shards
            .iter()
            .flat_map(|shard| shard.jobs.iter().map(|job| (merge.jobs[*job].name.as_str(), shard.name.as_str())))
            .collect();
        let total: u64 = merge.jobs.iter().map(crate::plan::Job::n_bytes).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        write_file(&self.part.join("model.safetensors.index.json"), format!("{index:#}\n").as_bytes())
    }
}

/// The file past the page cache, with its blocks set aside; none where the file system does not have such a thing.
fn open_direct(path: &Path, file: &File, n_bytes: u64) -> Result<Option<File>> {
    use rustix::fs::{FallocateFlags, OFlags, fallocate};
    use rustix::io::Errno;

    let Ok(direct) = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path) else {
        return Ok(None);
    };
    match fallocate(file, FallocateFlags::empty(), 0, n_bytes) {
        Err(Errno::NOSPC | Errno::DQUOT) => Err(Error::Full(path.to_path_buf())),
        _ => Ok(Some(direct)),
    }
}

/// The folder an output is in until it is whole.
pub(crate) fn part_of(dir: &Path) -> PathBuf {
    let mut part = dir.as_os_str().to_owned();
    part.push(".part");
    PathBuf::from(part)
}

/// What names a merge: the recipe's text and the headers of its models. A change of either begins anew.
fn identity(merge: &Merge) -> String {
    let mut hasher = Hasher::new();
    hasher.update(merge.text.as_bytes());
    for parent in &merge.parents {
        hasher.update(parent.name.as_bytes());
        for (name, entry) in &parent.folder.tensors {
            hasher.update(name.as_bytes()).update(format!("{entry:?}").as_bytes());
        }
        for (path, file) in &parent.folder.files {
            let changed = file.metadata().and_then(|metadata| metadata.modified()).ok();
            hasher.update(format!("{}{changed:?}", path.display()).as_bytes());
        }
    }
    if let Some(vocabulary) = &merge.vocabulary {
        hasher.update(&vocabulary.digest());
    }
    hasher.finalize().to_hex().to_string()
}

/// What a journal of the same merge says is finished; none if there is no such journal.
fn resume(part: &Path, identity: &str) -> Result<Option<BTreeMap<String, Digests>>> {
    let path = part.join(JOURNAL);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    if lines.next() != Some(identity) {
        return Ok(None);
    }
    let read = |line: &str| {
        let (digests, name) = line.split_once('\t')?;
        let digests = digests.split(' ').map(|digest| Hash::from_hex(digest).ok()).collect::<Option<Vec<_>>>()?;
        Some((name.to_owned(), digests))
    };
    Ok(Some(lines.filter_map(read).collect()))
}

/// What the file says about itself.
fn metadata(merge: &Merge, output: &str, parents: &BTreeMap<String, String>) -> BTreeMap<&'static str, String> {
    let blank = Hash::from_bytes([0; 32]).to_hex().to_string();
    let digest_of = |name: &str| parents.get(name).unwrap_or(&blank).as_str();
    let parents: BTreeMap<&str, &str> =
        merge.parents.iter().map(|parent| (parent.name.as_str(), digest_of(&parent.name))).collect();
    BTreeMap::from([
        ("format", "pt".to_owned()),
        ("tracker.method", merge.method.name.to_owned()),
        ("tracker.output", output.to_owned()),
        ("tracker.parents", json!(parents).to_string()),
        ("tracker.recipe", blake3::hash(merge.text.as_bytes()).to_hex().to_string()),
    ])
}

/// A file's header with its length in front, filled up to a multiple of eight.
fn header(
    merge: &Merge,
    jobs: &[usize],
    digest: impl Fn(usize) -> Hash,
    metadata: &BTreeMap<&'static str, String>,
) -> Result<Vec<u8>> {
    let mut entries = serde_json::Map::new();
    let mut metadata: serde_json::Map<String, Value> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let mut offset = 0;
    let mut tensors = BTreeMap::new();
    for idx in jobs {
        let job = &merge.jobs[*idx];
        let end = offset + job.n_bytes();
        let entry = json!({"dtype": job.dtype, "shape": job.shape, "data_offsets": [offset, end]});
        entries.insert(job.name.clone(), entry);
        tensors.insert(job.name.as_str(), digest(*idx).to_hex().to_string());
        offset = end;
    }
    metadata.insert("tracker.tensors".to_owned(), json!(json!(tensors).to_string()));
    entries.insert("__metadata__".to_owned(), Value::Object(metadata));
    let text = serde_json::to_string(&entries).map_err(|e| Error::damaged(Path::new("header"), e.to_string()))?;
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    let length = (bytes.len() - 8) as u64;
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

impl Merge {
    /// The output's `config.json`, if the model that lends it has one.
    pub(crate) fn configuration(&self) -> Result<Option<String>> {
        let folder = &self.parents[self.model].folder;
        let Some(text) = folder.config_text()? else { return Ok(None) };
        let path = folder.dir.join("config.json");
        let mut json: Value = serde_json::from_slice(&text).map_err(|e| Error::damaged(&path, e.to_string()))?;
        let mut set = |at: &str, value: Value| {
            if let Some(place) = json.pointer_mut(at) {
                *place = value;
            }
        };
        for part in ["", "/text_config"] {
            set(&format!("{part}/num_hidden_layers"), json!(self.n_layers));
            if let Some(vocabulary) = &self.vocabulary {
                set(&format!("{part}/vocab_size"), json!(vocabulary.n_rows));
            }
            if self.is_untied {
                set(&format!("{part}/tie_word_embeddings"), json!(false));
            }
        }
        if let Some(stated) = self.recipe.out_dtype.as_ref().or(self.recipe.dtype.as_ref()) {
            set("/torch_dtype", json!(stated));
            set("/dtype", json!(stated));
        }
        Ok(Some(format!("{json:#}\n")))
    }
}

/// Configuration from one parent, tokenizer from another.
fn copy_configuration(merge: &Merge, part: &Path) -> Result<()> {
    let model = &merge.parents[merge.model].folder.dir;
    if let Some(text) = merge.configuration()? {
        write_file(&part.join("config.json"), text.as_bytes())?;
    }
    let tokenizer = &merge.parents[merge.tokenizer].folder.dir;
    let grown = merge.vocabulary.as_ref().and_then(|vocabulary| vocabulary.json.as_ref());
    // The older files of a tokenizer do not know the tokens that were added.
    let is_kept = |name: &&str| grown.is_none() || !STALE.contains(name);
    let names = TOKENIZER.iter().filter(|name| is_kept(name));
    let files = names.map(|name| (tokenizer, *name)).chain([(model, "generation_config.json")]);
    if let Some(json) = grown {
        write_file(&part.join("tokenizer.json"), format!("{json:#}\n").as_bytes())?;
    }
    for (dir, name) in files {
        let from = dir.join(name);
        if from.is_file() {
            let mut bytes = fs::read(&from).map_err(Error::io("read", &from))?;
            if let (Some(template), "tokenizer_config.json") = (&merge.chat_template, name) {
                bytes = with_template(&from, &bytes, template)?;
            }
            write_file(&part.join(name), &bytes)?;
        }
    }
    if let Some(template) = &merge.chat_template {
        write_file(&part.join("chat_template.jinja"), template.as_bytes())?;
    }
    write_file(&part.join("merge.yml"), merge.text.as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("write", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use crate::recipe::Recipe;

    /// A bf16 model whose tensors have these numbers of elements.
    fn model(dir: &Path, sizes: &[usize]) {
        fs::create_dir(dir).unwrap();
        let (mut tensors, mut data) = (serde_json::Map::new(), Vec::new());
        for (nth, size) in sizes.iter().enumerate() {
            let begin = data.len();
            data.extend((0..*size).flat_map(|i| (0x3c00 + ((i * 31 + nth * 7) % 900) as u16).to_le_bytes()));
            let entry = json!({"dtype": "BF16", "shape": [size], "data_offsets": [begin, data.len()]});
            tensors.insert(format!("t{nth:02}"), entry);
        }
        let header = serde_json::to_vec(&tensors).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(dir.join("model.safetensors"), bytes).unwrap();
    }

    #[test]
    fn what_goes_past_the_page_cache_is_what_goes_through_it() {
        let sizes = [1, 2047, 2048, 2049, 0, 3, 524_287, 524_288, 524_289, 1_700_001, 5, 600_000];
        for dtype in ["bfloat16", "float32"] {
            let dir = tempfile::tempdir().unwrap();
            model(&dir.path().join("a"), &sizes);
            let text = format!(
                "merge_method: passthrough\nmodels: [{{model: a}}]\nparameters: {{scale: 0.5}}\ndtype: {dtype}\n"
            );
            let plan = || Merge::plan(Recipe::parse("r", &text).unwrap(), &text, dir.path()).unwrap();
            let want = plan().digest(1, &|_, _| ()).unwrap().output;
            let merged = plan().run(&dir.path().join("out"), 3, &|_, _| ()).unwrap();
            assert_eq!(merged.output, want);
            let folder = Folder::open(&dir.path().join("out")).unwrap();
            assert_eq!(folder.weights(2).unwrap().to_hex().as_str(), want, "{dtype}");
        }
    }

    #[test]
    fn bytes_land_where_they_belong_however_they_lie_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        model(&dir.path().join("a"), &[1_000, 20_000]);
        let text = "merge_method: passthrough\nmodels: [{model: a}]\n";
        let merge = Merge::plan(Recipe::parse("r", text).unwrap(), text, dir.path()).unwrap();
        let output = Output::begin(&merge, &dir.path().join("out")).unwrap();
        let mut buffer = vec![0_u8; 5 * SECTOR];
        let base = buffer.as_ptr().addr().next_multiple_of(SECTOR) - buffer.as_ptr().addr();
        let mut want = vec![0; 40_000];
        let skew = (output.place(1) % SECTOR as u64) as usize;
        for (nth, (at, len, shift)) in
            [(0, 9_000, skew), (9_000, 8_192, 0), (17_192, 7, 3), (17_199, 12_000, (skew + 17_199) % SECTOR)]
                .into_iter()
                .enumerate()
        {
            let from = base + shift;
            buffer[from..from + len].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7 + nth) as u8 | 1);
            output.write(1, at as u64, &buffer[from..from + len]).unwrap();
            want[at..at + len].copy_from_slice(&buffer[from..from + len]);
        }
        assert!(output.has(1, 40_000, blake3::hash(&want)).unwrap());
        assert!(output.has(0, 2_000, blake3::hash(&[0; 2_000])).unwrap(), "the neighbour is untouched");
    }
}
