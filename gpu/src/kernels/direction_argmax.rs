//! The best candidate of each group in each direction, without storing the scores.
//!
//! A score is a product rounded, added to a sum that is rounded, dimension after dimension: so that ties on one device are
//! ties on all. The shader hides each product behind an exclusive or with zero, which keeps a driver from fusing it into the sum.

use rayon::prelude::*;

use super::vector::wide;
use crate::error::{Error, Result, matrix};
use crate::gpu::{CHUNK_BYTES, Gpu, Pass, Source};

const SOURCE: Source = Source { name: "direction_argmax", wgsl: include_str!("direction_argmax.wgsl"), entry: "main" };

/// Directions looked at together.
const LANES: usize = 16;
/// Products below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 16;
/// Choices of a workgroup.
const GROUP_ITEMS: usize = 64;
/// The rewards of one group: what an invocation of llvmpipe can loop over.
const MAX_GROUP_BYTES: usize = 4 << 15;

/// A chosen candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Its row of the rewards: the first of those with the greatest score.
    pub row: u32,
    /// Its score.
    pub score: f32,
}

/// Arguments that belong together.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    rewards: &'a [f32],
    n_dims: usize,
    ends: &'a [u32],
    directions: &'a [f32],
    n_directions: usize,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(rewards: &'a [f32], n_dims: usize, ends: &'a [u32], directions: &'a [f32]) -> Result<Self> {
        matrix("rewards", ends.last().map_or(0, |end| *end as usize), n_dims, rewards.len())?;
        let n_directions = directions.len().checked_div(n_dims).unwrap_or(0);
        matrix("directions", n_directions, n_dims, directions.len())?;
        if let Some(at) = directions.iter().position(|x| !x.is_finite()) {
            return Err(Error::Range {
                what: format!("directions[{at}]"),
                expected: "a finite number".to_owned(),
                got: directions[at].to_string(),
            });
        }
        let mut start = 0;
        for (group, end) in ends.iter().enumerate() {
            if *end <= start {
                return Err(Error::Range {
                    what: format!("ends[{group}]"),
                    expected: format!("more than {start}: a group has a candidate"),
                    got: end.to_string(),
                });
            }
            start = *end;
        }
        Ok(Self { rewards, n_dims, ends, directions, n_directions })
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty() || self.n_directions == 0
    }

    fn start(&self, group: usize) -> usize {
        group.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// Directions with the same dimension of all of them side by side, filled up with zeros to `n`.
    fn by_dimension(&self, n: usize) -> Vec<f32> {
        let mut columns = vec![0.0; self.n_dims * n];
        for (nth, direction) in self.directions.chunks_exact(self.n_dims).enumerate() {
            for (dim, x) in direction.iter().enumerate() {
                columns[dim * n + nth] = *x;
            }
        }
        columns
    }

    /// Refuses scores that are none; the first candidate that has one is named.
    fn defined(&self, best: Vec<Best>) -> Result<Vec<Best>> {
        if best.iter().all(|best| best.score.is_finite()) {
            return Ok(best);
        }
        let is_undefined = |rewards: &[f32]| {
            self.directions.chunks_exact(self.n_dims).any(|direction| {
                let products = rewards.iter().zip(direction).map(|(r, v)| r * v);
                !products.fold(0.0_f32, |sum, product| sum + product).is_finite()
            })
        };
        let row = self.rewards.chunks_exact(self.n_dims).position(is_undefined).unwrap_or_default();
        Err(Error::Undefined {
            what: "rewards",
            row,
            expected: "finite numbers, with finite scores in every direction",
        })
    }
}

/// One group, in as many directions as there are lanes.
struct Group<'a> {
    rewards: &'a [f32],
    n_dims: usize,
    /// `[n_dims, stride]`, from the first of the lanes on.
    directions: &'a [f32],
    stride: usize,
}

impl pulp::NullaryFnOnce for Group<'_> {
    /// Candidates, counted from the group's first, and scores; NaN where one of the scores is not finite.
    type Output = ([u32; LANES], [f32; LANES]);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let (mut at, mut best, mut bad) = ([0_u32; LANES], [f32::NEG_INFINITY; LANES], [0_u32; LANES]);
        for (candidate, rewards) in (0_u32..).zip(self.rewards.chunks_exact(self.n_dims)) {
            let mut scores = [0.0_f32; LANES];
            for (r, directions) in rewards.iter().zip(self.directions.chunks(self.stride)) {
                for (score, v) in scores.iter_mut().zip(directions) {
                    *score += r * v;
                }
            }
            for (((at, best), bad), score) in at.iter_mut().zip(&mut best).zip(&mut bad).zip(scores) {
                *bad |= u32::from(!score.is_finite());
                let is_better = score > *best;
                *at = if is_better { candidate } else { *at };
                *best = if is_better { score } else { *best };
            }
        }
        for (best, bad) in best.iter_mut().zip(bad) {
            *best = if bad == 0 { *best } else { f32::NAN };
        }
        (at, best)
    }
}

pub(crate) fn on_cpu(ask: Ask<'_>) -> Result<Vec<Best>> {
    if ask.is_empty() {
        return Ok(Vec::new());
    }
    let stride = ask.n_directions.next_multiple_of(LANES);
    let columns = ask.by_dimension(stride);
    let mut out = vec![Best { row: 0, score: 0.0 }; ask.ends.len() * ask.n_directions];
    let choose = |(group, to): (usize, &mut [Best])| {
        let first = ask.start(group);
        let rewards = &ask.rewards[first * ask.n_dims..ask.ends[group] as usize * ask.n_dims];
        for (nth, to) in to.chunks_mut(LANES).enumerate() {
            let directions = &columns[nth * LANES..];
            let (at, best) = wide(Group { rewards, n_dims: ask.n_dims, directions, stride });
            for ((to, at), score) in to.iter_mut().zip(at).zip(best) {
                *to = Best { row: first as u32 + at, score };
            }
        }
    };
    let n_products = ask.rewards.len().saturating_mul(ask.n_directions);
    if n_products < PARALLEL {
        out.chunks_mut(ask.n_directions).enumerate().for_each(choose);
    } else {
        let least = PARALLEL / (n_products / ask.ends.len()).max(1);
        out.par_chunks_mut(ask.n_directions).enumerate().with_min_len(least.max(1)).for_each(choose);
    }
    ask.defined(out)
}

pub(crate) fn on_gpu(gpu: &Gpu, ask: Ask<'_>) -> Result<Vec<Best>> {
    if ask.is_empty() {
        return Ok(Vec::new());
    }
    let Ask { n_dims, n_directions, .. } = ask;
    gpu.fits("directions", size_of_val(ask.directions).max(n_directions * size_of::<Best>()), CHUNK_BYTES)?;
    for group in 0..ask.ends.len() {
        let n = ask.ends[group] as usize - ask.start(group);
        gpu.fits("group of rewards", n.saturating_mul(n_dims * 4), MAX_GROUP_BYTES)?;
    }
    let columns = ask.by_dimension(n_directions);
    let passes = groups(ask).map(|groups| {
        let first = ask.start(groups.start);
        let bounds = std::iter::once(first as u32).chain(ask.ends[groups.clone()].iter().copied());
        let bounds: Vec<u32> = bounds.map(|end| end - first as u32).collect();
        let last = ask.ends[groups.end - 1] as usize;
        let n_items = groups.len() * n_directions;
        Pass {
            params: [n_items as u32, n_dims as u32, n_directions as u32, 0, 0, 0, 0, 0],
            inputs: vec![
                bytemuck::cast_slice(&ask.rewards[first * n_dims..last * n_dims]).into(),
                bytemuck::cast_slice(&bounds).to_vec().into(),
                bytemuck::cast_slice(&columns).into(),
            ],
            output_bytes: n_items * 8,
            n_groups: n_items.div_ceil(GROUP_ITEMS) as u32,
        }
    });
    let firsts: Vec<usize> = groups(ask).map(|groups| ask.start(groups.start)).collect();
    let mut out = Vec::with_capacity(ask.ends.len() * n_directions);
    gpu.run(&SOURCE, passes, |pass, bytes| {
        let pairs: &[[u32; 2]] = bytemuck::cast_slice(bytes);
        out.extend(
            pairs.iter().map(|[at, score]| Best { row: firsts[pass] as u32 + at, score: f32::from_bits(*score) }),
        );
        Ok(())
    })?;
    ask.defined(out)
}

/// Groups that go to the device together: as many as fit into a chunk, coming in and going out.
fn groups(ask: Ask<'_>) -> impl Iterator<Item = std::ops::Range<usize>> {
    let most = (CHUNK_BYTES / (ask.n_directions * size_of::<Best>())).max(1);
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let first = ask.start(start);
        let fits = |group: &usize| (ask.ends[*group] as usize - first) * ask.n_dims * 4 <= CHUNK_BYTES;
        let rest = start..ask.ends.len().min(start + most);
        next = start + rest.take_while(fits).count();
        (next > start).then_some(start..next)
    })
}
