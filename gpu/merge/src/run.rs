//! Running a plan: tensors on threads, each streamed in chunks through its method.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use blake3::{Hash, Hasher};
use serde::Serialize;

use crate::checkpoint::Entry;
use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::lanes::{Float, all_below};
use crate::method::{Args, MethodInfo};
use crate::output::{Digests, Output};
use crate::plan::{Job, Merge};

use crate::method::Philox;

/// Elements of a tensor that are read and hashed at once.
pub(crate) const CHUNK: usize = 1 << 16;
/// Elements that are computed at once, few enough that all of a method's numbers stay in the nearest caches; a multiple of
/// 4096, as masks need.
const TILE: usize = 1 << 12;
/// Bytes that are written at once.
const OUT: usize = 4 * CHUNK;

/// Told of each finished tensor: how many of how many.
pub type OnTensor<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What a merge wrote.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// Tensors written.
    pub n_tensors: usize,
    /// Of them, found whole from an earlier try.
    pub n_kept: usize,
    /// Bytes of weights.
    pub n_bytes: u64,
    /// BLAKE3 over the output's tensors by name.
    pub output: String,
    /// BLAKE3 over each parent's tensors that were read, by name.
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
        if !self.problems.is_empty() {
            return Err(Error::Unfit(self.problems.clone()));
        }
        let output = Output::begin(self, dir)?;
        let work = Pool {
            merge: self,
            output: &output,
            next: AtomicUsize::new(0),
            n_kept: AtomicUsize::new(0),
            n_done: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            digests: Mutex::new(vec![Vec::new(); self.jobs.len()]),
            on_tensor,
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads.max(1)).map(|_| scope.spawn(|| work.work())).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            // Every thread is waited for before the first failure is told.
            ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        })?;
        let n_kept = work.n_kept.load(Ordering::Relaxed);
        let digests = work.digests.into_inner().unwrap_or_else(PoisonError::into_inner);
        let parents = self.parent_digests(&digests);
        let whole = output.publish(self, &digests, &parents)?;
        Ok(Merged {
            n_tensors: self.jobs.len(),
            n_kept,
            n_bytes: self.jobs.iter().map(Job::n_bytes).sum(),
            output: whole.to_hex().to_string(),
            parents: parents.into_iter().map(|(name, digest)| (name, digest.to_hex().to_string())).collect(),
        })
    }

    /// Digests of the parents' tensors that were read.
    fn parent_digests(&self, digests: &[Digests]) -> Vec<(String, Hash)> {
        let mut read: Vec<BTreeMap<(usize, u64), Hash>> = vec![BTreeMap::new(); self.parents.len()];
        for (job, digests) in self.jobs.iter().zip(digests) {
            for ((parent, entry), digest) in job.sources.iter().zip(&digests[1..]) {
                read[*parent].insert((entry.file, entry.at), *digest);
            }
        }
        let digest_of = |(parent, read): (&crate::plan::Parent, BTreeMap<(usize, u64), Hash>)| {
            let mut hasher = Hasher::new();
            for (name, entry) in &parent.checkpoint.tensors {
                if let Some(digest) = read.get(&(entry.file, entry.at)) {
                    hasher.update(name.as_bytes()).update(&[0]).update(digest.as_bytes());
                }
            }
            (parent.name.clone(), hasher.finalize())
        };
        self.parents.iter().zip(read).map(digest_of).collect()
    }
}

/// Threads and what they share.
struct Pool<'a> {
    merge: &'a Merge,
    output: &'a Output,
    next: AtomicUsize,
    n_kept: AtomicUsize,
    n_done: AtomicUsize,
    is_over: AtomicBool,
    digests: Mutex<Vec<Digests>>,
    on_tensor: OnTensor<'a>,
}

impl Pool<'_> {
    /// One thread's share.
    fn work(&self) -> Result<()> {
        let mut buffers = Buffers::default();
        while !self.is_over.load(Ordering::Relaxed) {
            let idx = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.merge.jobs.get(idx) else { break };
            let digests =
                self.job(idx, job, &mut buffers).inspect_err(|_| self.is_over.store(true, Ordering::Relaxed))?;
            self.digests.lock().unwrap_or_else(PoisonError::into_inner)[idx] = digests;
            (self.on_tensor)(self.n_done.fetch_add(1, Ordering::Relaxed) + 1, self.merge.jobs.len());
        }
        Ok(())
    }

    fn job(&self, idx: usize, job: &Job, buffers: &mut Buffers) -> Result<Digests> {
        if let Some(digests) = self.output.finished.get(&job.name).filter(|d| d.len() == job.sources.len() + 1)
            && self.output.has(idx, job.n_bytes(), digests[0])?
        {
            self.n_kept.fetch_add(1, Ordering::Relaxed);
            return Ok(digests.clone());
        }
        let mut work = Work {
            args: &job.args,
            seed: self.merge.recipe.seed,
            job,
            merge: self.merge,
            buffers,
            sources: vec![Hasher::new(); job.sources.len()],
            is_hashed: false,
            tile: TILE,
            out: Sink::new(self.output, idx, job),
        };
        if job.is_copy {
            work.copy()?;
        } else {
            let MethodInfo { run, .. } = self.merge.method;
            run(&mut work)?;
        }
        work.out.flush()?;
        let own = work.out.hasher.finalize();
        let digests: Digests = std::iter::once(own).chain(work.sources.iter().map(Hasher::finalize)).collect();
        self.output.note(&job.name, &digests)?;
        Ok(digests)
    }
}

/// Chunks of a thread, used again from tensor to tensor.
#[derive(Default)]
struct Buffers {
    raw: Vec<Vec<u8>>,
    values: Vec<Vec<f32>>,
}

/// One tensor's merge, as methods see it.
pub(crate) struct Work<'a> {
    /// Values of the method's parameters.
    pub(crate) args: &'a Args,
    seed: u64,
    job: &'a Job,
    merge: &'a Merge,
    buffers: &'a mut Buffers,
    sources: Vec<Hasher>,
    /// Whether the sources were read once, and their digests are whole.
    is_hashed: bool,
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
            if !self.is_hashed {
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
            self.is_hashed = true;
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
                if !self.is_hashed {
                    self.sources[i].update(raw);
                }
            }
            for from in (0..len).step_by(self.tile) {
                let to = (from + self.tile).min(len);
                for ((float, raw), values) in floats.iter().zip(&self.buffers.raw).zip(&mut self.buffers.values) {
                    float.widen(&raw[from * float.n_bytes()..to * float.n_bytes()], values);
                    if !self.is_hashed {
                        finite(&job.name, Float::F32, at + from, values)?;
                    }
                }
                each(at + from, &self.buffers.values, &mut self.out)?;
            }
        }
        self.is_hashed = true;
        Ok(())
    }

    /// Takes the first source byte by byte.
    fn copy(&mut self) -> Result<()> {
        let n_bytes = self.job.n_bytes() as usize;
        let mut raw = Vec::new();
        for (i, (parent, entry)) in self.job.sources.iter().enumerate() {
            for at in (0..n_bytes).step_by(OUT) {
                read(self.merge, *parent, entry, at, OUT.min(n_bytes - at), &mut raw)?;
                self.sources[i].update(&raw);
                if i == 0 {
                    self.out.put_bytes(&raw)?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses a number that `float` cannot hold, by its place; `at` is that of the first of `values`.
pub(crate) fn finite(tensor: &str, float: Float, at: usize, values: &[f32]) -> Result<()> {
    if all_below(values, float.limit()) {
        return Ok(());
    }
    let is_bad = |value: &f32| value.to_bits() & 0x7fff_ffff >= float.limit();
    let i = values.iter().position(is_bad).unwrap_or(0);
    Err(Error::NotFinite { tensor: tensor.to_owned(), got: values[i], element: (at + i) as u64 })
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
    merge.parents[parent].checkpoint.read(entry, at as u64, raw)
}

/// Where a tensor's numbers go.
pub(crate) struct Sink<'a> {
    output: &'a Output,
    idx: usize,
    job: &'a Job,
    n_elements: usize,
    /// Bytes written.
    at: u64,
    hasher: Hasher,
    /// What is not written yet: the first `n_pending` bytes.
    pending: Vec<u8>,
    n_pending: usize,
}

impl<'a> Sink<'a> {
    fn new(output: &'a Output, idx: usize, job: &'a Job) -> Self {
        let pending = vec![0; OUT.min(job.n_bytes() as usize)];
        Self { output, idx, job, n_elements: 0, at: 0, hasher: Hasher::new(), pending, n_pending: 0 }
    }

    /// Rounds and writes the next numbers.
    ///
    /// # Errors
    /// `NotFinite` if the output's type cannot hold one; `Full`, `Io`.
    pub(crate) fn put(&mut self, values: &[f32]) -> Result<()> {
        let Some(float) = Float::of(self.job.dtype) else {
            return Err(Error::damaged(&self.output.dir, format!("`{}` has no numbers", self.job.name)));
        };
        finite(&self.job.name, float, self.n_elements, values)?;
        for values in values.chunks(TILE) {
            let n_bytes = values.len() * float.n_bytes();
            if self.n_pending + n_bytes > self.pending.len() {
                self.flush()?;
            }
            float.narrow(values, &mut self.pending[self.n_pending..self.n_pending + n_bytes]);
            self.n_pending += n_bytes;
        }
        self.n_elements += values.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let put = self.put_bytes(&pending[..self.n_pending]);
        self.pending = pending;
        self.n_pending = 0;
        put
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.output.write(self.idx, self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
