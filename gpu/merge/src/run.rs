//! Running a plan: tensors on threads, each streamed in chunks through its method.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::{Hash, Hasher};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::folder::{Entry, digest_of};
use crate::gather::Gather;
use crate::lanes::Float;
use crate::method::{Args, MethodInfo};
use crate::output::{Digests, Output, SECTOR};
use crate::plan::{Job, Merge};
use crate::threads::{on_threads, with_threads};

use crate::method::Philox;

/// Elements of a tensor that are read and hashed at once.
pub(crate) const CHUNK: usize = 1 << 16;
/// Elements that are computed at once, few enough that all of a method's numbers stay in the nearest caches; a multiple of
/// 4096, as masks need.
const TILE: usize = 1 << 12;
/// Bytes that are written at once; a multiple of [`SECTOR`].
const OUT: usize = 1 << 20;
/// Bytes of the output that are hashed at once, while they are in the caches.
const HASHED: usize = 1 << 16;

/// Told of each finished tensor: how many of how many.
pub type OnTensor<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// In place of the digest of what was not hashed: it belongs to a model whose digest is known.
const UNKNOWN: Hash = Hash::from_bytes([0; 32]);

/// What a merge made.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// Tensors made.
    pub n_tensors: usize,
    /// Of them, found whole from an earlier try.
    pub n_kept: usize,
    /// Bytes of weights.
    pub n_bytes: u64,
    /// Weights.
    pub n_params: u64,
    /// BLAKE3 over the output's tensors by name.
    pub output: String,
    /// BLAKE3 of the output's `config.json`; of nothing without one.
    pub config: String,
    /// The digest of each parent's weights, as [`Folder::weights`](crate::Folder::weights) says it.
    pub parents: BTreeMap<String, String>,
}

impl Merge {
    /// Merges into the folder `dir`, which must not be there, on up to `n_threads` threads. A merge that was killed goes
    /// on with the tensors it had finished.
    ///
    /// # Errors
    /// `Unfit` with everything that stands in the way; `Exists`; `NotFinite` naming tensor and element; `Full`, `Io`,
    /// `Damaged`. Nothing is under the name `dir` then.
    pub fn run(&self, dir: &Path, n_threads: usize, on_tensor: OnTensor<'_>) -> Result<Merged> {
        self.check()?;
        let output = Output::begin(self, dir)?;
        let (merged, digests) = self.make(Some(&output), n_threads, on_tensor)?;
        output.publish(self, &digests, &merged)?;
        Ok(merged)
    }

    /// What [`Merge::run`] would answer: computes all weights and writes none.
    ///
    /// # Errors
    /// `Unfit`, `NotFinite`, `Io`, `Damaged`; `Differs` if the recipe says that other weights come out.
    pub fn digest(&self, n_threads: usize, on_tensor: OnTensor<'_>) -> Result<Merged> {
        self.check()?;
        let (merged, _) = self.make(None, n_threads, on_tensor)?;
        self.check_output(&merged)?;
        Ok(merged)
    }

    /// Refuses a plan in whose way something stands, as running it would.
    ///
    /// # Errors
    /// `Unfit` with all of it.
    pub fn check(&self) -> Result<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Unfit(self.problems.clone())) }
    }

    /// Refuses weights that are not those the recipe expects.
    pub(crate) fn check_output(&self, merged: &Merged) -> Result<()> {
        match &self.recipe.output {
            Some(expected) if *expected != merged.output => {
                Err(Error::Differs { expected: expected.clone(), got: merged.output.clone() })
            }
            _ => Ok(()),
        }
    }

    fn make(
        &self,
        output: Option<&Output>,
        n_threads: usize,
        on_tensor: OnTensor<'_>,
    ) -> Result<(Merged, Vec<Digests>)> {
        let (n_kept, n_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let digests = with_threads(
            n_threads,
            self.jobs.len(),
            |_| Ok(Buffers::default()),
            |buffers, idx| {
                let (digests, is_kept) = self.tensor(output, idx, buffers)?;
                n_kept.fetch_add(usize::from(is_kept), Ordering::Relaxed);
                on_tensor(n_done.fetch_add(1, Ordering::Relaxed) + 1, self.jobs.len());
                Ok(digests)
            },
        )?;
        let parents = self.parent_digests(&digests, n_threads)?;
        for parent in &self.parents {
            parent.folder.check_unchanged(parent.known.is_some())?;
        }
        let mut named: Vec<(&str, Hash)> =
            self.jobs.iter().zip(&digests).map(|(job, digests)| (job.name.as_str(), digests[0])).collect();
        named.sort_unstable_by_key(|(name, _)| *name);
        let config = self.configuration()?.unwrap_or_default();
        let merged = Merged {
            n_tensors: self.jobs.len(),
            n_kept: n_kept.into_inner(),
            n_bytes: self.jobs.iter().map(Job::n_bytes).sum(),
            n_params: self.jobs.iter().map(|job| job.n_elements() as u64).sum(),
            output: digest_of(named.into_iter()).to_hex().to_string(),
            config: blake3::hash(config.as_bytes()).to_hex().to_string(),
            parents,
        };
        Ok((merged, digests))
    }

    /// Digests of the parents' weights: known ones, or from what was read and what is left.
    fn parent_digests(&self, digests: &[Digests], n_threads: usize) -> Result<BTreeMap<String, String>> {
        let place = |entry: &Entry| (entry.file, entry.at, entry.n_bytes);
        let mut read: Vec<BTreeMap<_, Hash>> = vec![BTreeMap::new(); self.parents.len()];
        for (job, digests) in self.jobs.iter().zip(digests) {
            for ((parent, entry), digest) in job.sources.iter().zip(&digests[1..]) {
                if *digest != UNKNOWN {
                    read[*parent].insert(place(entry), *digest);
                }
            }
        }
        let mut all = BTreeMap::new();
        for (parent, mut read) in self.parents.iter().zip(read) {
            let digest = if let Some(known) = parent.known {
                known
            } else {
                let tensors = &parent.folder.tensors;
                let left: Vec<&Entry> = tensors.values().filter(|e| !read.contains_key(&place(e))).collect();
                let hashed = on_threads(n_threads, left.len(), |idx| parent.folder.hash(left[idx]))?;
                read.extend(left.iter().map(|entry| place(entry)).zip(hashed));
                digest_of(tensors.iter().map(|(name, entry)| (name.as_str(), read[&place(entry)])))
            };
            all.insert(parent.name.clone(), digest.to_hex().to_string());
        }
        Ok(all)
    }

    /// Makes one tensor, or finds it whole. Tells its digests, and whether it was there.
    fn tensor(&self, output: Option<&Output>, idx: usize, buffers: &mut Buffers) -> Result<(Digests, bool)> {
        let job = &self.jobs[idx];
        if let Some(output) = output
            && let Some(digests) = output.finished.get(&job.name).filter(|d| d.len() == job.sources.len() + 1)
            && output.has(idx, job.n_bytes(), digests[0])?
        {
            return Ok((digests.clone(), true));
        }
        let hasher = |(parent, _): &(usize, Entry)| self.parents[*parent].known.is_none().then(Hasher::new);
        let mut work = Work {
            args: &job.args,
            seed: self.recipe.seed,
            job,
            merge: self,
            sources: job.sources.iter().map(hasher).collect(),
            is_seen: false,
            tile: TILE,
            out: Sink::new(output, idx, job, std::mem::take(&mut buffers.out)),
            buffers,
        };
        if job.is_copy {
            work.copy()?;
        } else {
            let MethodInfo { run, .. } = self.method;
            run(&mut work)?;
        }
        work.out.flush()?;
        let own = work.out.hasher.finalize();
        work.buffers.out = work.out.pending;
        let of = |hasher: &Option<Hasher>| hasher.as_ref().map_or(UNKNOWN, Hasher::finalize);
        let digests: Digests = std::iter::once(own).chain(work.sources.iter().map(of)).collect();
        if let Some(output) = output {
            output.note(&job.name, &digests)?;
        }
        Ok((digests, false))
    }
}

/// Chunks of a thread, used again from tensor to tensor.
#[derive(Default)]
struct Buffers {
    raw: Vec<Vec<u8>>,
    values: Vec<Vec<f32>>,
    out: Vec<u8>,
}

/// One tensor's merge, as methods see it.
pub(crate) struct Work<'a> {
    /// Values of the method's parameters.
    pub(crate) args: &'a Args,
    seed: u64,
    job: &'a Job,
    merge: &'a Merge,
    buffers: &'a mut Buffers,
    /// What hashes each source; none where its model's digest is known.
    sources: Vec<Option<Hasher>>,
    /// Whether the sources were read once: their digests are whole, and their numbers were looked at.
    is_seen: bool,
    /// Elements that are shown together.
    tile: usize,
    out: Sink<'a>,
}

impl Work<'_> {
    /// Elements of the tensor.
    pub(crate) fn n_elements(&self) -> usize {
        self.job.n_elements()
    }

    /// The sides of the tensor.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.job.shape
    }

    /// Models besides the base.
    pub(crate) fn n_models(&self) -> usize {
        self.args.each.len()
    }

    /// The random stream of one model's mask of this tensor.
    pub(crate) fn philox(&self, model: usize) -> Philox {
        Philox::new(self.seed, &self.job.name, model)
    }

    /// That the method has no answer for this tensor.
    pub(crate) fn fault(&self, what: String) -> Error {
        Error::Undefined { tensor: self.job.name.clone(), what }
    }

    /// From now on shows whole rows of `row` elements, one at least; what is held grows with a row longer than a tile.
    pub(crate) fn by_rows(&mut self, row: usize) {
        self.tile = (TILE / row.max(1)).max(1) * row.max(1);
    }

    /// Shows the tensor tile by tile: the first element's place, and each model's numbers, the base's last.
    ///
    /// # Errors
    /// `NotFinite` if a model holds a number that is none; `Io`.
    pub(crate) fn look(&mut self, mut see: impl FnMut(usize, &[Vec<f32>])) -> Result<()> {
        self.tiles(|at, values, _| {
            see(at, values);
            Ok(())
        })
    }

    /// As [`Work::look`], for the pass that writes: every tile of the output is put once, in order.
    pub(crate) fn pass(&mut self, each: impl FnMut(usize, &[Vec<f32>], &mut Sink<'_>) -> Result<()>) -> Result<()> {
        self.tiles(each)
    }

    fn tiles(&mut self, mut each: impl FnMut(usize, &[Vec<f32>], &mut Sink<'_>) -> Result<()>) -> Result<()> {
        let (job, n) = (self.job, self.n_elements());
        if let Some(rows) = &job.rows {
            let mut gather = Gather::new(self.merge, job, rows)?;
            if !self.is_seen {
                gather.hash(&mut self.sources)?;
            }
            self.buffers.values.resize(job.sources.len(), Vec::new());
            for at in (0..n).step_by(self.tile) {
                for (source, values) in self.buffers.values.iter_mut().enumerate() {
                    values.resize(self.tile.min(n - at), 0.0);
                    gather.fill(source, at, values)?;
                }
                each(at, &self.buffers.values, &mut self.out)?;
            }
            self.is_seen = true;
            return Ok(());
        }
        let floats: Vec<Float> =
            job.sources.iter().map(|(_, entry)| Float::of(entry.dtype).unwrap_or(Float::F32)).collect();
        self.buffers.values.resize(floats.len(), Vec::new());
        self.buffers.raw.resize(floats.len(), Vec::new());
        let chunk = (CHUNK / self.tile).max(1) * self.tile;
        for at in (0..n).step_by(chunk) {
            let len = chunk.min(n - at);
            for (i, (parent, entry)) in job.sources.iter().enumerate() {
                let (raw, n_bytes) = (&mut self.buffers.raw[i], floats[i].n_bytes());
                read(self.merge, *parent, entry, at * n_bytes, len * n_bytes, raw)?;
                if let Some(hasher) = self.sources[i].as_mut().filter(|_| !self.is_seen) {
                    hasher.update(raw);
                }
            }
            for from in (0..len).step_by(self.tile) {
                let to = (from + self.tile).min(len);
                for ((float, raw), values) in floats.iter().zip(&self.buffers.raw).zip(&mut self.buffers.values) {
                    if !float.widen(&raw[from * float.n_bytes()..to * float.n_bytes()], values) {
                        return Err(unfit(&job.name, Float::F32, at + from, values));
                    }
                }
                each(at + from, &self.buffers.values, &mut self.out)?;
            }
        }
        self.is_seen = true;
        Ok(())
    }

    /// Takes the first source byte by byte.
    fn copy(&mut self) -> Result<()> {
        let n_bytes = self.job.n_bytes() as usize;
        let mut raw = Vec::new();
        for (i, (parent, entry)) in self.job.sources.iter().enumerate() {
            for at in (0..n_bytes).step_by(OUT) {
                read(self.merge, *parent, entry, at, OUT.min(n_bytes - at), &mut raw)?;
                if let Some(hasher) = &mut self.sources[i] {
                    hasher.update(&raw);
                }
                if i == 0 {
                    self.out.put_bytes(&raw)?;
                }
            }
        }
        Ok(())
    }
}

/// The error for a number that `float` cannot hold, by its place; `at` is that of the first of `values`.
pub(crate) fn unfit(tensor: &str, float: Float, at: usize, values: &[f32]) -> Error {
    let is_bad = |value: &f32| value.to_bits() & 0x7fff_ffff >= float.limit();
    let i = values.iter().position(is_bad).unwrap_or(0);
    Error::NotFinite { tensor: tensor.to_owned(), got: values[i], element: (at + i) as u64 }
}

pub(crate) fn read(
    merge: &Merge,
    parent: usize,
    entry: &Entry,
    at: usize,
    n_bytes: usize,
    raw: &mut Vec<u8>,
) -> Result<()> {
    raw.resize(n_bytes, 0);
    merge.parents[parent].folder.read(entry, at as u64, raw)
}

/// Where a tensor's numbers go.
pub(crate) struct Sink<'a> {
    /// None if nothing is to be written.
    output: Option<&'a Output>,
    idx: usize,
    job: &'a Job,
    n_elements: usize,
    /// Bytes written.
    at: u64,
    hasher: Hasher,
    /// What is not written yet: the bytes from `start` to `end`. They lie as their places in the file do, so that whole sectors can
    /// go to the disk from where they are.
    pending: Vec<u8>,
    start: usize,
    end: usize,
    /// What of it is hashed ends here.
    hashed: usize,
    /// Where the buffer has the first byte of a sector.
    base: usize,
}

impl<'a> Sink<'a> {
    fn new(output: Option<&'a Output>, idx: usize, job: &'a Job, mut pending: Vec<u8>) -> Self {
        let n_bytes = OUT.min(job.n_bytes() as usize).next_multiple_of(SECTOR) + 2 * SECTOR;
        if pending.len() < n_bytes {
            pending.resize(n_bytes, 0);
        }
        let base = pending.as_ptr().addr().next_multiple_of(SECTOR) - pending.as_ptr().addr();
        let start = base + output.map_or(0, |output| (output.place(idx) % SECTOR as u64) as usize);
        Self {
            output,
            idx,
            job,
            n_elements: 0,
            at: 0,
            hasher: Hasher::new(),
            pending,
            start,
            end: start,
            hashed: start,
            base,
        }
    }

    /// Rounds and writes the next numbers.
    ///
    /// # Errors
    /// `NotFinite` if the output's type cannot hold one; `Full`, `Io`.
    pub(crate) fn put(&mut self, values: &[f32]) -> Result<()> {
        let Some(float) = Float::of(self.job.dtype) else {
            let what = format!("expected numbers, got {}", self.job.dtype);
            return Err(Error::Undefined { tensor: self.job.name.clone(), what });
        };
        let mut left = values;
        while !left.is_empty() {
            let n = left.len().min(self.room() / float.n_bytes());
            if n == 0 {
                self.flush()?;
                continue;
            }
            let (now, later) = left.split_at(n);
            if !float.narrow(now, &mut self.pending[self.end..self.end + n * float.n_bytes()]) {
                return Err(unfit(&self.job.name, float, self.n_elements, now));
            }
            self.grow(n * float.n_bytes());
            self.n_elements += n;
            left = later;
        }
        Ok(())
    }

    /// Writes the next bytes as they are.
    fn put_bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(self.room());
            if n == 0 {
                self.flush()?;
                continue;
            }
            let (now, later) = bytes.split_at(n);
            self.pending[self.end..self.end + n].copy_from_slice(now);
            self.grow(n);
            bytes = later;
        }
        Ok(())
    }

    /// Bytes that fit behind those that are pending: up to a sector's end, where the next begins.
    fn room(&self) -> usize {
        let whole = (self.pending.len() - self.base) / SECTOR * SECTOR;
        self.base + whole.min(OUT) - self.end
    }

    fn grow(&mut self, n_bytes: usize) {
        self.end += n_bytes;
        if self.end - self.hashed >= HASHED {
            self.hasher.update(&self.pending[self.hashed..self.end]);
            self.hashed = self.end;
        }
    }

    /// Writes what is pending. What comes next lies behind it in the file, and in the buffer where its place in a sector says.
    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.pending[self.hashed..self.end]);
        let bytes = &self.pending[self.start..self.end];
        if let Some(output) = self.output {
            output.write(self.idx, self.at, bytes)?;
        }
        self.at += bytes.len() as u64;
        self.start = self.base + (self.end - self.base) % SECTOR;
        (self.end, self.hashed) = (self.start, self.start);
        Ok(())
    }
}
