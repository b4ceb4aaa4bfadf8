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
use crate::lanes::{Float, all_finite};
use crate::method::{Args, MethodInfo};
use crate::output::{Digests, Output};
use crate::plan::{Job, Merge};

use crate::method::Philox;

/// Elements of a tensor that are held at once; a multiple of 64, as masks need.
const CHUNK: usize = 1 << 16;

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
            out: Sink { output: self.output, idx, job, n_elements: 0, at: 0, hasher: Hasher::new(), raw: Vec::new() },
        };
        if job.is_copy {
            work.copy()?;
        } else {
            let MethodInfo { run, .. } = self.merge.method;
            run(&mut work)?;
        }
        let own = work.out.hasher.finalize();
        let digests: Digests = std::iter::once(own).chain(work.sources.iter().map(Hasher::finalize)).collect();
        self.output.note(&job.name, &digests)?;
        Ok(digests)
    }
}

/// Chunks of a thread, used again from tensor to tensor.
#[derive(Default)]
struct Buffers {
    raw: Vec<u8>,
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
    out: Sink<'a>,
}

impl Work<'_> {
    /// Elements of the tensor.
    pub(crate) fn n_elements(&self) -> usize {
        self.job.n_elements()
    }

    /// The random stream of one model's mask of this tensor.
    pub(crate) fn philox(&self, model: usize) -> Philox {
        Philox::new(self.seed, &self.job.name, model)
    }

    /// Shows the tensor chunk by chunk: the first element's place, and each model's numbers, the base's last.
    pub(crate) fn look(&mut self, mut see: impl FnMut(usize, &[Vec<f32>])) -> Result<()> {
        self.chunks(|at, values, _| {
            see(at, values);
            Ok(())
        })
    }

    /// As [`Work::look`], for the pass that writes: every chunk of the output is put once, in order.
    pub(crate) fn pass(&mut self, each: impl FnMut(usize, &[Vec<f32>], &mut Sink<'_>) -> Result<()>) -> Result<()> {
        self.chunks(each)
    }

    fn chunks(&mut self, mut each: impl FnMut(usize, &[Vec<f32>], &mut Sink<'_>) -> Result<()>) -> Result<()> {
        let (job, n) = (self.job, self.n_elements());
        self.buffers.values.resize(job.sources.len(), Vec::new());
        for at in (0..n).step_by(CHUNK) {
            let len = CHUNK.min(n - at);
            for (i, (parent, entry)) in job.sources.iter().enumerate() {
                let Some(float) = Float::of(entry.dtype) else { continue };
                read(self.merge, *parent, entry, at * float.n_bytes(), len * float.n_bytes(), &mut self.buffers.raw)?;
                if !self.is_hashed {
                    self.sources[i].update(&self.buffers.raw);
                }
                float.widen(&self.buffers.raw, &mut self.buffers.values[i]);
            }
            each(at, &self.buffers.values, &mut self.out)?;
        }
        self.is_hashed = true;
        Ok(())
    }

    /// Takes the first source byte by byte.
    fn copy(&mut self) -> Result<()> {
        let n_bytes = self.job.n_bytes() as usize;
        for (i, (parent, entry)) in self.job.sources.iter().enumerate() {
            for at in (0..n_bytes).step_by(4 * CHUNK) {
                read(self.merge, *parent, entry, at, (4 * CHUNK).min(n_bytes - at), &mut self.buffers.raw)?;
                self.sources[i].update(&self.buffers.raw);
                if i == 0 {
                    self.out.put_bytes(&self.buffers.raw)?;
                }
            }
        }
        Ok(())
    }
}

fn read(merge: &Merge, parent: usize, entry: &Entry, at: usize, n_bytes: usize, raw: &mut Vec<u8>) -> Result<()> {
    raw.resize(n_bytes, 0);
    merge.parents[parent].checkpoint.read(entry, at as u64, raw)
}

/// Where a tensor's numbers go.
pub(crate) struct Sink<'a> {
    output: &'a Output,
    idx: usize,
    job: &'a Job,
    n_elements: u64,
    at: u64,
    hasher: Hasher,
    raw: Vec<u8>,
}

impl Sink<'_> {
    /// Rounds and writes the next numbers.
    ///
    /// # Errors
    /// `NotFinite` if one is none after rounding's type; `Full`, `Io`.
    pub(crate) fn put(&mut self, values: &[f32]) -> Result<()> {
        if !all_finite(values) {
            let (i, got) = values.iter().enumerate().find(|(_, value)| !value.is_finite()).unwrap_or((0, &f32::NAN));
            let element = self.n_elements + i as u64;
            return Err(Error::NotFinite { tensor: self.job.name.clone(), got: *got, element });
        }
        let Some(float) = Float::of(self.job.dtype) else {
            return Err(Error::damaged(&self.output.dir, format!("`{}` has no numbers", self.job.name)));
        };
        let mut raw = std::mem::take(&mut self.raw);
        float.narrow(values, &mut raw);
        let put = self.put_bytes(&raw);
        self.raw = raw;
        self.n_elements += values.len() as u64;
        put
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.output.write(self.idx, self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
