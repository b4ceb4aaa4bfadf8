//! Tensors whose rows are moved to another vocabulary, gathered row by row.

use blake3::Hasher;

use crate::error::Result;
use crate::lanes::Float;
use crate::plan::{Job, Merge};
use crate::run::{CHUNK, read, unfit};
use crate::vocabulary::{Row, Rows};

/// Gathers the rows of one tensor. Holds a row for each source besides what it is asked for.
pub(crate) struct Gather<'a> {
    merge: &'a Merge,
    job: &'a Job,
    rows: &'a Rows,
    floats: Vec<Float>,
    raw: Vec<u8>,
    part: Vec<f32>,
    /// Of each source, the mean of its rows; empty where none is asked for.
    means: Vec<Vec<f32>>,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(merge: &'a Merge, job: &'a Job, rows: &'a Rows) -> Result<Self> {
        let floats = job.sources.iter().map(|(_, entry)| Float::of(entry.dtype).unwrap_or(Float::F32)).collect();
        let mut gather = Self { merge, job, rows, floats, raw: Vec::new(), part: Vec::new(), means: Vec::new() };
        let is_padded = rows.sources.iter().any(|rows| rows.iter().any(|row| matches!(row, Row::Pad)));
        if is_padded {
            gather.average()?;
        }
        Ok(gather)
    }

    /// Reads every source whole, for its digest where it is asked for and for numbers that are none.
    pub(crate) fn hash(&mut self, hashers: &mut [Option<Hasher>]) -> Result<()> {
        for ((source, (parent, entry)), hasher) in self.job.sources.iter().enumerate().zip(hashers) {
            let (float, n) = (self.floats[source], entry.shape.iter().product::<usize>());
            for at in (0..n).step_by(CHUNK) {
                let len = CHUNK.min(n - at);
                read(self.merge, *parent, entry, at * float.n_bytes(), len * float.n_bytes(), &mut self.raw)?;
                if let Some(hasher) = hasher {
                    hasher.update(&self.raw);
                }
                if !float.widen(&self.raw, &mut self.part) {
                    return Err(unfit(&self.job.name, Float::F32, at, &self.part));
                }
            }
        }
        Ok(())
    }

    fn average(&mut self) -> Result<()> {
        let width = self.rows.width;
        let mut row = vec![0.0; width];
        for source in 0..self.rows.sources.len() {
            let (mut sums, mut n) = (vec![0.0_f64; width], 0_u64);
            for (at, kind) in self.rows.sources[source].iter().enumerate() {
                if matches!(kind, Row::Pad) {
                    continue;
                }
                self.fill(source, at * width, &mut row)?;
                n += 1;
                for (sum, x) in sums.iter_mut().zip(&row) {
                    *sum += f64::from(*x);
                }
            }
            self.means.push(sums.iter().map(|sum| (sum / n.max(1) as f64) as f32).collect());
        }
        Ok(())
    }

    /// The numbers of a source from element `at` of the output.
    pub(crate) fn fill(&mut self, source: usize, at: usize, out: &mut [f32]) -> Result<()> {
        let (width, rows) = (self.rows.width, &self.rows.sources[source]);
        let mut done = 0;
        while done < out.len() {
            let (row, column) = ((at + done) / width, (at + done) % width);
            let mut end = (done + width - column).min(out.len());
            match &rows[row] {
                Row::Of(from, first) => {
                    // Rows that follow each other are read together.
                    let mut next = 1;
                    while end < out.len()
                        && matches!(rows.get(row + next), Some(Row::Of(f, r)) if f == from && *r == first + next)
                    {
                        end = (end + width).min(out.len());
                        next += 1;
                    }
                    self.read(*from, first * width + column, &mut out[done..end])?;
                }
                Row::Mean(all) => {
                    let mut sums = vec![0.0_f64; end - done];
                    let mut part = std::mem::take(&mut self.part);
                    part.resize(sums.len(), 0.0);
                    for (from, row) in all.iter() {
                        self.read(*from, row * width + column, &mut part)?;
                        for (sum, x) in sums.iter_mut().zip(&part) {
                            *sum += f64::from(*x);
                        }
                    }
                    self.part = part;
                    for (out, sum) in out[done..end].iter_mut().zip(&sums) {
                        *out = (sum / all.len() as f64) as f32;
                    }
                }
                Row::Zero => out[done..end].fill(0.0),
                Row::Pad => out[done..end].copy_from_slice(&self.means[source][column..column + end - done]),
            }
            done = end;
        }
        Ok(())
    }

    fn read(&mut self, source: usize, at: usize, out: &mut [f32]) -> Result<()> {
        let ((parent, entry), float) = (&self.job.sources[source], self.floats[source]);
        read(self.merge, *parent, entry, at * float.n_bytes(), out.len() * float.n_bytes(), &mut self.raw)?;
        float.widen_to(&self.raw, out);
        Ok(())
    }
}
