//! The network, ready to run: weights in panels, rotary tables, and the forward pass over a ragged batch.

use super::attention::{self, Queries, attend};
use super::cache::{Cache, Segment};
use super::gemm::{Left, Out, Panels, multiply};
use super::log_prob::Passing;
use super::math;
use crate::config::Config;
use crate::weights::{BlockAt, Weights};

/// Tokens of one sequence whose attention is computed together.
const TILE: usize = 64;

/// A decoder ready to run on the CPU.
pub(crate) struct Model {
    pub(super) shape: Shape,
    pub(super) weights: Weights,
    pub(super) blocks: Vec<Block>,
    pub(super) head: Panels,
    pub(super) rope: Rope,
}

/// The sizes the loops run over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) dim: usize,
    pub(super) vocab: usize,
    pub(super) eps: f32,
}

impl Shape {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            hidden: config.hidden_size,
            inner: config.intermediate_size,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            dim: config.head_dim,
            vocab: config.vocab_size,
            eps: config.rms_norm_eps as f32,
        }
    }

    /// Query heads that share one key-value head.
    pub(super) fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Width of all query heads.
    pub(super) fn q(&self) -> usize {
        self.n_heads * self.dim
    }

    /// Width of all key heads.
    pub(super) fn kv(&self) -> usize {
        self.n_kv_heads * self.dim
    }

    /// Width of queries, keys and values.
    pub(super) fn qkv(&self) -> usize {
        self.q() + 2 * self.kv()
    }
}

/// One block's linear maps.
pub(super) struct Block {
    pub(super) at: BlockAt,
    pub(super) qkv: Panels,
    pub(super) out: Panels,
    pub(super) gate_up: Panels,
    pub(super) down: Panels,
}

/// Cosines and sines of every position, as transformers rounds them.
pub(super) struct Rope {
    table: Vec<f32>,
    dim: usize,
}

impl Rope {
    pub(super) fn new(config: &Config) -> Self {
        let frequencies = config.frequencies();
        let mut table = Vec::with_capacity(config.max_positions * config.head_dim);
        for position in 0..config.max_positions {
            let angles = frequencies.iter().map(|frequency| position as f32 * frequency);
            table.extend(angles.clone().map(libm::cosf));
            table.extend(angles.map(libm::sinf));
        }
        Self { table, dim: config.head_dim }
    }

    /// Cosines then sines of a position, `[dim]`.
    pub(super) fn at(&self, position: usize) -> &[f32] {
        &self.table[position * self.dim..][..self.dim]
    }
}

/// Tokens to read after those in the cache.
pub(crate) struct Seq<'a> {
    pub(crate) cache: &'a mut Cache,
    pub(crate) ids: &'a [u32],
}

/// What one block computed. Inference overwrites one of these block by block; training keeps one for each.
#[derive(Default)]
pub(super) struct Activations {
    /// The residual stream before the block, `[m, hidden]`; kept for training only.
    pub(super) input: Vec<f32>,
    pub(super) input_scales: Vec<f32>,
    pub(super) input_normed: Vec<f32>,
    /// Queries, keys and values, rotated.
    pub(super) qkv: Vec<f32>,
    pub(super) attended: Vec<f32>,
    /// The residual stream between attention and feed-forward; kept for training only.
    pub(super) middle: Vec<f32>,
    pub(super) middle_scales: Vec<f32>,
    pub(super) middle_normed: Vec<f32>,
    pub(super) gate_up: Vec<f32>,
    pub(super) act: Vec<f32>,
}

impl Activations {
    fn resize(&mut self, m: usize, shape: &Shape) {
        for scales in [&mut self.input_scales, &mut self.middle_scales] {
            scales.resize(m, 0.0);
        }
        for normed in [&mut self.input_normed, &mut self.middle_normed] {
            normed.resize(m * shape.hidden, 0.0);
        }
        self.qkv.resize(m * shape.qkv(), 0.0);
        self.attended.resize(m * shape.q(), 0.0);
        self.gate_up.resize(m * 2 * shape.inner, 0.0);
        self.act.resize(m * shape.inner, 0.0);
    }
}

/// Scratch of a forward pass; one for each thread.
#[derive(Default)]
pub(crate) struct Work {
    /// The residual stream, `[m, hidden]`.
    pub(super) x: Vec<f32>,
    pub(super) pack: Vec<f32>,
    acts: Activations,
    picked: Picked,
    pub(super) passing: Passing,
    heads: HeadWork,
}

/// Rows picked for the head.
#[derive(Default)]
pub(super) struct Picked {
    pub(super) x: Vec<f32>,
    pub(super) scales: Vec<f32>,
    pub(super) normed: Vec<f32>,
}

/// Scratch of attention.
#[derive(Default)]
struct HeadWork {
    queries: Vec<f32>,
    out: Vec<f32>,
    scratch: attention::Scratch,
}

impl Model {
    pub(crate) fn new(config: &Config, weights: &Weights) -> Self {
        let shape = Shape::of(config);
        let data = &weights.data;
        let pack = |k, n, at: &std::ops::Range<usize>| Panels::transposed(k, n, &data[at.clone()]);
        let blocks = weights.layout.blocks.iter().map(|at| Block {
            qkv: pack(shape.hidden, shape.qkv(), &at.qkv),
            out: pack(shape.q(), shape.hidden, &at.out),
            gate_up: pack(shape.hidden, 2 * shape.inner, &at.gate_up),
            down: pack(shape.inner, shape.hidden, &at.down),
            at: at.clone(),
        });
        Self {
            blocks: blocks.collect(),
            head: pack(shape.hidden, shape.vocab, &weights.layout.head),
            rope: Rope::new(config),
            weights: weights.clone(),
            shape,
        }
    }

    /// A cache that continues `prefix`.
    pub(crate) fn cache(&self, prefix: Option<std::sync::Arc<Segment>>) -> Cache {
        Cache { prefix, own: Segment::new(self.blocks.len(), self.shape.n_kv_heads, self.shape.dim) }
    }

    /// Reads each sequence's tokens into its cache. Afterwards [`Model::logits`] gives the logits after any of them,
    /// counted through all sequences. Ids are below the vocabulary's size, positions within the context.
    pub(crate) fn forward(&self, seqs: &mut [Seq<'_>], work: &mut Work) {
        let tables = self.start(seqs, work);
        let mut acts = std::mem::take(&mut work.acts);
        for block in 0..self.blocks.len() {
            self.block(block, seqs, &tables, &mut acts, work);
        }
        work.acts = acts;
        for seq in seqs {
            seq.cache.own.grow(seq.ids.len());
        }
    }

    /// Looks the tokens up, and their rotations.
    pub(super) fn start(&self, seqs: &[Seq<'_>], work: &mut Work) -> Vec<&[f32]> {
        let embed = self.slice(&self.weights.layout.embed);
        work.x.clear();
        for id in seqs.iter().flat_map(|seq| seq.ids) {
            work.x.extend_from_slice(&embed[*id as usize * self.shape.hidden..][..self.shape.hidden]);
        }
        let positions = seqs.iter().flat_map(|seq| (0..seq.ids.len()).map(|at| seq.cache.len() + at));
        positions.map(|position| self.rope.at(position)).collect()
    }

    /// One block: `work.x` in and out, everything between into `acts`.
    pub(super) fn block(
        &self,
        idx: usize,
        seqs: &mut [Seq<'_>],
        tables: &[&[f32]],
        acts: &mut Activations,
        work: &mut Work,
    ) {
        let Shape { hidden, inner, eps, n_heads, n_kv_heads, .. } = self.shape;
        let block = &self.blocks[idx];
        let m = work.x.len() / hidden;
        acts.resize(m, &self.shape);
        let norm = self.slice(&block.at.attention_norm);
        math::rms_norm(&work.x, norm, eps, &mut acts.input_normed, &mut acts.input_scales);
        self.project(block, &acts.input_normed, &mut acts.qkv, &mut work.pack);
        math::rotate(&mut acts.qkv, self.shape.qkv(), n_heads + n_kv_heads, tables, false);
        self.attend(idx, seqs, acts, &mut work.heads);
        let x = Out { data: &mut work.x, stride: hidden, add: true };
        multiply(m, Left::Rows(&acts.attended, self.shape.q()), block.out.right(), x, &mut work.pack);
        if !acts.input.is_empty() {
            acts.middle.clone_from(&work.x);
        }
        let norm = self.slice(&block.at.mlp_norm);
        math::rms_norm(&work.x, norm, eps, &mut acts.middle_normed, &mut acts.middle_scales);
        let gate_up = Out { data: &mut acts.gate_up, stride: 2 * inner, add: false };
        multiply(m, Left::Rows(&acts.middle_normed, hidden), block.gate_up.right(), gate_up, &mut work.pack);
        math::swiglu(&acts.gate_up, inner, &mut acts.act);
        let x = Out { data: &mut work.x, stride: hidden, add: true };
        multiply(m, Left::Rows(&acts.act, inner), block.down.right(), x, &mut work.pack);
    }

    pub(super) fn slice(&self, at: &std::ops::Range<usize>) -> &[f32] {
        &self.weights.data[at.clone()]
    }

    /// Queries, keys and values of normed rows.
    fn project(&self, block: &Block, normed: &[f32], qkv: &mut [f32], pack: &mut Vec<f32>) {
        let (hidden, width) = (self.shape.hidden, self.shape.qkv());
        let m = normed.len() / hidden;
        if let Some(bias) = &block.at.qkv_bias {
            let bias = self.slice(bias);
            qkv.chunks_exact_mut(width).take(m).for_each(|row| row.copy_from_slice(bias));
        }
        let out = Out { data: qkv, stride: width, add: block.at.qkv_bias.is_some() };
        multiply(m, Left::Rows(normed, hidden), block.qkv.right(), out, pack);
    }

    /// Attention of one block: puts the new keys and values, then attends over all of them.
    fn attend(&self, block: usize, seqs: &mut [Seq<'_>], acts: &mut Activations, work: &mut HeadWork) {
        let Shape { dim, n_kv_heads, .. } = self.shape;
        let (q, kv, width) = (self.shape.q(), self.shape.kv(), self.shape.qkv());
        let mut first = 0;
        for seq in seqs {
            let n = seq.ids.len();
            let rows = &acts.qkv[first * width..(first + n) * width];
            let own_len = seq.cache.own.len();
            for (at, row) in rows.chunks_exact(width).enumerate() {
                for head in 0..n_kv_heads {
                    let key = &row[q + head * dim..][..dim];
                    let value = &row[q + kv + head * dim..][..dim];
                    seq.cache.own.put(block, head, own_len + at, key, value);
                }
            }
            let attended = &mut acts.attended[first * q..(first + n) * q];
            for head in 0..n_kv_heads {
                for start in (0..n).step_by(TILE) {
                    let tile = start..n.min(start + TILE);
                    self.attend_tile(block, head, seq.cache, tile, rows, attended, work);
                }
            }
            first += n;
        }
    }

    /// Attention of the tokens `tile` of one sequence, for one key-value head and the query heads that share it.
    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
    fn attend_tile(
        &self,
        block: usize,
        head: usize,
        cache: &Cache,
        tile: std::ops::Range<usize>,
        rows: &[f32],
        attended: &mut [f32],
        work: &mut HeadWork,
    ) {
        let (dim, group, q, width) = (self.shape.dim, self.shape.group(), self.shape.q(), self.shape.qkv());
        let columns = head * group * dim..(head + 1) * group * dim;
        let n_tokens = tile.len();
        gather(&rows[tile.start * width..tile.end * width], width, columns.clone(), &mut work.queries);
        let scale = 1.0 / (dim as f32).sqrt();
        work.queries.iter_mut().for_each(|value| *value *= scale);
        work.out.resize(n_tokens * group * dim, 0.0);
        let (own_len, prefix_len) = (cache.own.len(), cache.prefix_len());
        let own = cache.own.span(block, head, own_len + tile.end);
        let shared = cache.prefix.as_deref().map(|prefix| prefix.span(block, head, prefix_len));
        let both = [shared.unwrap_or(own), own];
        let spans = if shared.is_some() { &both[..] } else { &both[1..] };
        let visible = prefix_len + own_len + tile.start + 1;
        let queries = Queries { rows: &work.queries, n_tokens, group, dim, visible };
        attend(queries, spans, &mut work.out, &mut work.scratch);
        let to = attended[tile.start * q..tile.end * q].chunks_exact_mut(q);
        for (to, out) in to.zip(work.out.chunks_exact(group * dim)) {
            to[columns.clone()].copy_from_slice(out);
        }
    }

    /// Logits after the given tokens of the last [`Model::forward`], counted through its sequences:
    /// `[tokens.len(), vocabulary]`, row-major.
    pub(crate) fn logits(&self, tokens: &[usize], work: &mut Work, out: &mut Vec<f32>) {
        let mut picked = std::mem::take(&mut work.picked);
        self.logits_of(tokens, &work.x, &mut picked, out, &mut work.pack);
        work.picked = picked;
    }

    /// The residual stream after the given tokens of the last [`Model::forward`]: `[tokens.len(), hidden]`.
    pub(crate) fn stream(&self, tokens: &[usize], work: &Work) -> Vec<f32> {
        let hidden = self.shape.hidden;
        tokens.iter().flat_map(|token| &work.x[token * hidden..][..hidden]).copied().collect()
    }

    /// Logits after one row of the residual stream, `[vocabulary]`.
    pub(crate) fn logits_after(&self, row: &[f32], work: &mut Work, out: &mut Vec<f32>) {
        let mut picked = std::mem::take(&mut work.picked);
        self.logits_of(&[0], row, &mut picked, out, &mut work.pack);
        work.picked = picked;
    }

    /// Logits after the given rows of the residual stream `x`; `picked` keeps those rows and their norms.
    pub(super) fn logits_of(
        &self,
        tokens: &[usize],
        x: &[f32],
        picked: &mut Picked,
        out: &mut Vec<f32>,
        pack: &mut Vec<f32>,
    ) {
        let Shape { hidden, vocab, .. } = self.shape;
        picked.x.clear();
        for token in tokens {
            picked.x.extend_from_slice(&x[token * hidden..][..hidden]);
        }
        self.norm_picked(picked);
        out.resize(tokens.len() * vocab, 0.0);
        let to = Out { data: out, stride: vocab, add: false };
        multiply(tokens.len(), Left::Rows(&picked.normed, hidden), self.head.right(), to, pack);
    }

    /// The final norm of the picked rows of the residual stream.
    pub(super) fn norm_picked(&self, picked: &mut Picked) {
        let n = picked.x.len() / self.shape.hidden;
        picked.scales.resize(n, 0.0);
        picked.normed.resize(picked.x.len(), 0.0);
        let norm = self.slice(&self.weights.layout.norm);
        math::rms_norm(&picked.x, norm, self.shape.eps, &mut picked.normed, &mut picked.scales);
    }

    /// Packs the weights anew after they were changed in place.
    pub(super) fn repack(&mut self) {
        let Shape { hidden, inner, vocab, .. } = self.shape;
        let (q, qkv) = (self.shape.q(), self.shape.qkv());
        let data = &self.weights.data;
        for block in &mut self.blocks {
            block.qkv.set_transposed(hidden, qkv, &data[block.at.qkv.clone()], hidden);
            block.out.set_transposed(q, hidden, &data[block.at.out.clone()], q);
            block.gate_up.set_transposed(hidden, 2 * inner, &data[block.at.gate_up.clone()], hidden);
            block.down.set_transposed(inner, hidden, &data[block.at.down.clone()], inner);
        }
        self.head.set_transposed(hidden, vocab, &data[self.weights.layout.head.clone()], hidden);
    }
}

/// Copies columns out of rows that are `stride` wide.
pub(super) fn gather(rows: &[f32], stride: usize, columns: std::ops::Range<usize>, out: &mut Vec<f32>) {
    out.clear();
    for row in rows.chunks_exact(stride) {
        out.extend_from_slice(&row[columns.clone()]);
    }
}
