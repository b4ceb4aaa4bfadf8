//! The decoder on burn, for graphics processors.
//!
//! The same network as `cpu`, in burn's tensors: batches are padded, sums are in the device's order, and so results
//! depend on the batch within the stated tolerance of rounding. Weights stay on the device. Every entry goes through
//! [`guard`], which turns a panic of the driver layer into an error, and every read is a checked one.

mod decode;
mod learn;
mod log_prob;
mod lora;
mod readout;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn::prelude::{Bool, Device, Int, Tensor, TensorData};
use burn::tensor::DeviceKind;
use burn::tensor::activation::{silu, softmax};
use tracker_gpu::Kind;

pub(crate) use decode::sample;
pub(crate) use learn::NetLearner;

use self::readout::Readout;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::reward::{Head, Tagged};
use crate::score::Continuation;
use crate::train::Row;
use crate::weights::{Layout, Weights};

/// Padded tokens scored at once.
const SCORED: usize = 8192;

/// A decoder whose weights lie on a device.
#[derive(Clone)]
pub(crate) struct Net {
    config: Arc<Config>,
    device: Device,
    /// Name of the device in errors.
    name: Arc<str>,
    params: Vec<Tensor<2>>,
    at: Arc<Places>,
    cos: Tensor<2>,
    sin: Tensor<2>,
}

/// Which parameter is which: positions in [`Net::params`], in the order of the weights' layout, fused maps as one.
struct Places {
    slices: Vec<Slice>,
    embed: usize,
    blocks: Vec<BlockPlaces>,
    norm: usize,
    head: usize,
}

/// One parameter's place in the weights' array: `[rows, columns]`, as in a file.
struct Slice {
    at: std::ops::Range<usize>,
    shape: [usize; 2],
    decays: bool,
}

struct BlockPlaces {
    attention_norm: usize,
    qkv: usize,
    qkv_bias: Option<usize>,
    out: usize,
    mlp_norm: usize,
    gate_up: usize,
    down: usize,
}

impl Places {
    fn of(config: &Config, layout: &Layout) -> Self {
        let mut slices = Vec::new();
        let mut push = |at: &std::ops::Range<usize>, columns: usize| {
            // Norms and biases are single rows, and matrices are what decays.
            let shape = [at.len() / columns, columns];
            slices.push(Slice { at: at.clone(), shape, decays: shape[0] > 1 });
            slices.len() - 1
        };
        let hidden = config.hidden_size;
        let embed = push(&layout.embed, hidden);
        let blocks = layout
            .blocks
            .iter()
            .map(|block| BlockPlaces {
                attention_norm: push(&block.attention_norm, hidden),
                qkv: push(&block.qkv, hidden),
                qkv_bias: block.qkv_bias.as_ref().map(|bias| push(bias, bias.len())),
                out: push(&block.out, config.n_heads * config.head_dim),
                mlp_norm: push(&block.mlp_norm, hidden),
                gate_up: push(&block.gate_up, hidden),
                down: push(&block.down, config.intermediate_size),
            })
            .collect();
        let norm = push(&layout.norm, hidden);
        let head = if config.tie_word_embeddings { embed } else { push(&layout.head, hidden) };
        Self { slices, embed, blocks, norm, head }
    }
}

/// Keys and values of one block, `[batch, kv heads, tokens, dim]`.
type KeyValue = (Tensor<4>, Tensor<4>);

/// What a block's attention needs to know of positions.
struct Positions {
    /// `[batch or 1, 1, tokens, dim / 2]`.
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// True where a token must not look, `[batch or 1, 1, tokens, all tokens]`.
    hidden: Tensor<4, Bool>,
}

/// Runs `work`, and turns a panic into an error that carries its message.
pub(crate) fn guard<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(failed(name, message.unwrap_or("a panic without a message")))
    })
}

#[allow(clippy::needless_pass_by_value, reason = "errors and texts alike are handed over")]
fn failed(name: &str, detail: impl ToString) -> Error {
    Error::Device { device: name.to_owned(), detail: detail.to_string() }
}

/// burn's name for an adapter.
fn burn_device(adapter: &tracker_gpu::Adapter) -> Device {
    let kind = match adapter.kind {
        Kind::Discrete => DeviceKind::DiscreteGpu(adapter.kind_idx),
        Kind::Integrated => DeviceKind::IntegratedGpu(adapter.kind_idx),
        Kind::Virtual => DeviceKind::VirtualGpu(adapter.kind_idx),
        Kind::Cpu => DeviceKind::Cpu,
        Kind::Other => DeviceKind::DefaultDevice,
    };
    Device::wgpu(kind)
}

impl Net {
    /// Puts weights on an adapter.
    pub(crate) fn on_adapter(adapter: &tracker_gpu::Adapter, config: &Arc<Config>, weights: &Weights) -> Result<Self> {
        let name: Arc<str> = adapter.id().into();
        guard(&name.clone(), || Ok(Self::new(burn_device(adapter), name, config, weights)))
    }

    /// Puts weights on a device of burn's.
    pub(crate) fn new(device: Device, name: Arc<str>, config: &Arc<Config>, weights: &Weights) -> Self {
        let at = Places::of(config, &weights.layout);
        let upload = |slice: &Slice| {
            let data = TensorData::new(weights.data[slice.at.clone()].to_vec(), slice.shape);
            Tensor::from_data(data, &device)
        };
        let params = at.slices.iter().map(upload).collect();
        let frequencies = config.frequencies();
        let table = |f: fn(f32) -> f32| {
            let angles = (0..config.max_positions).flat_map(|at| frequencies.iter().map(move |w| f(at as f32 * w)));
            let shape = [config.max_positions, frequencies.len()];
            Tensor::from_data(TensorData::new(angles.collect::<Vec<f32>>(), shape), &device)
        };
        let (cos, sin) = (table(libm::cosf), table(libm::sinf));
        Self { config: config.clone(), name, params, at: Arc::new(at), cos, sin, device }
    }

    /// Reads the weights back.
    fn download(&self, layout: &Arc<Layout>) -> Result<Weights> {
        let mut data = vec![0.0; layout.len];
        for (slice, param) in self.at.slices.iter().zip(&self.params) {
            data[slice.at.clone()].copy_from_slice(&self.read(param.clone())?);
        }
        Ok(Weights::new(layout.clone(), data))
    }

    /// A checked read.
    fn read<const D: usize>(&self, tensor: Tensor<D>) -> Result<Vec<f32>> {
        tensor.try_into_vec_as::<f32>().map_err(|error| failed(&self.name, format!("{error:?}")))
    }

    fn ints(&self, ids: Vec<i32>) -> Tensor<1, Int> {
        let n = ids.len();
        Tensor::from_data(TensorData::new(ids, [n]), &self.device)
    }

    /// `x` of width `hidden`, through one block; keys and values are those of `past` followed by its own.
    fn block(&self, idx: usize, x: Tensor<3>, positions: &Positions, past: Option<KeyValue>) -> (Tensor<3>, KeyValue) {
        let block = &self.at.blocks[idx];
        let (dim, n_heads, n_kv) = (self.config.head_dim, self.config.n_heads, self.config.n_kv_heads);
        let [batch, n, _] = x.dims();
        let mut qkv = self.linear(self.rms_norm(x.clone(), block.attention_norm), block.qkv);
        if let Some(bias) = block.qkv_bias {
            qkv = qkv + self.params[bias].clone().unsqueeze::<3>();
        }
        let heads = qkv.reshape([batch, n, n_heads + 2 * n_kv, dim]).swap_dims(1, 2);
        let turned = rotate(heads.clone().narrow(1, 0, n_heads + n_kv), positions);
        let queries = turned.clone().narrow(1, 0, n_heads);
        let mut keys = turned.narrow(1, n_heads, n_kv);
        let mut values = heads.narrow(1, n_heads + n_kv, n_kv);
        if let Some((past_keys, past_values)) = past {
            keys = Tensor::cat(vec![past_keys, keys], 2);
            values = Tensor::cat(vec![past_values, values], 2);
        }
        let kept = (keys.clone(), values.clone());
        let scores = queries.mul_scalar(1.0 / (dim as f64).sqrt()).matmul(self.repeat(keys).swap_dims(2, 3));
        let [_, _, _, all] = scores.dims();
        let hidden = positions.hidden.clone().expand([batch, n_heads, n, all]);
        let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
        let attended = weights.matmul(self.repeat(values)).swap_dims(1, 2).reshape([batch, n, n_heads * dim]);
        let x = x + self.linear(attended, block.out);
        let gate_up = self.linear(self.rms_norm(x.clone(), block.mlp_norm), block.gate_up);
        let inner = self.config.intermediate_size;
        let act = silu(gate_up.clone().narrow(2, 0, inner)) * gate_up.narrow(2, inner, inner);
        (x + self.linear(act, block.down), kept)
    }

    fn embed(&self, ids: Vec<i32>, batch: usize) -> Tensor<3> {
        let n = ids.len() / batch;
        let rows = self.params[self.at.embed].clone().select(0, self.ints(ids));
        rows.reshape([batch, n, self.config.hidden_size])
    }

    fn linear(&self, x: Tensor<3>, map: usize) -> Tensor<3> {
        let [batch, n, width] = x.dims();
        let out = x.reshape([batch * n, width]).matmul(self.params[map].clone().transpose());
        let [_, width] = out.dims();
        out.reshape([batch, n, width])
    }

    fn rms_norm(&self, x: Tensor<3>, weight: usize) -> Tensor<3> {
        let mean = x.clone().square().mean_dim(2);
        let scale = mean.add_scalar(self.config.rms_norm_eps).sqrt().recip();
        x * scale * self.params[weight].clone().unsqueeze::<3>()
    }

    /// Key or value heads, once for each query head that shares them.
    fn repeat(&self, heads: Tensor<4>) -> Tensor<4> {
        let [batch, n_kv, n, dim] = heads.dims();
        let group = self.config.n_heads / n_kv;
        if group == 1 {
            return heads;
        }
        let heads = heads.reshape([batch, n_kv, 1, n, dim]).expand([batch, n_kv, group, n, dim]);
        heads.reshape([batch, n_kv * group, n, dim])
    }

    /// The final norm of rows of the residual stream, `[n, hidden]`.
    fn norm(&self, rows: Tensor<2>) -> Tensor<2> {
        self.rms_norm(rows.unsqueeze::<3>(), self.at.norm).squeeze_dim::<2>(0)
    }

    /// Logits of rows of the residual stream, `[n, vocabulary]`.
    fn logits(&self, rows: Tensor<2>) -> Tensor<2> {
        self.norm(rows).matmul(self.params[self.at.head].clone().transpose())
    }

    /// The residual stream after rows of tokens filled up to one length, `[rows · length, hidden]`.
    fn stream(&self, rows: &[&[u32]]) -> Tensor<2> {
        let n = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * n);
        for (at, row) in rows.iter().enumerate() {
            ids.extend(row.iter().map(|id| *id as i32));
            ids.resize((at + 1) * n, 0);
        }
        let half = self.config.head_dim / 2;
        let table = |table: &Tensor<2>| table.clone().narrow(0, 0, n).reshape([1, 1, n, half]);
        let causal: Vec<bool> = (0..n * n).map(|at| at % n > at / n).collect();
        let positions = Positions {
            cos: table(&self.cos),
            sin: table(&self.sin),
            hidden: Tensor::from_data(TensorData::new(causal, [1, 1, n, n]), &self.device),
        };
        let mut x = self.embed(ids, rows.len());
        for idx in 0..self.at.blocks.len() {
            x = self.block(idx, x, &positions, None).0;
        }
        x.reshape([rows.len() * n, self.config.hidden_size])
    }

    /// What is asked of `rows`. Rows are filled up at the right, where nothing that counts looks.
    fn picked(&self, rows: &[&Row]) -> Picked {
        let n = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let (mut before, mut labels, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            before.extend(row.predicted.iter().map(|position| (at * n + position - 1) as i32));
            labels.extend(row.predicted.iter().map(|position| row.ids[*position] as i32));
            reads.extend(row.reads.iter().map(|position| (at * n + position) as i32));
        }
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let stream = self.stream(&ids);
        let pick = |at: Vec<i32>| (!at.is_empty()).then(|| self.norm(stream.clone().select(0, self.ints(at))));
        Picked { before: pick(before), labels, reads: pick(reads) }
    }

    /// Logits after each token.
    pub(crate) fn all_logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        guard(&self.name, || self.read(self.logits(self.stream(&[ids]))))
    }

    /// Log-probabilities of completions. The continuations are checked.
    pub(crate) fn log_probs(&self, continuations: &[Continuation<'_>]) -> Result<Vec<Vec<f32>>> {
        let row = |one: &Continuation<'_>| {
            let ids = [one.prompt, one.completion].concat();
            Row { predicted: (one.prompt.len()..ids.len()).collect(), ids, reads: Vec::new() }
        };
        let rows: Vec<Row> = continuations.iter().map(row).collect();
        let scored = self.batched(&rows, |rows| {
            let Picked { before, labels, .. } = self.picked(rows);
            before.map_or(Ok(Vec::new()), |before| self.read(self.label_log_probs(&before, &labels).log_probs))
        })?;
        let scored = split(scored, &rows, |row| row.predicted.len());
        for (idx, (scored, row)) in scored.iter().zip(&rows).enumerate() {
            if let Some(at) = scored.iter().position(|log_prob| !log_prob.is_finite()) {
                return Err(Error::Logits { what: "continuation", idx, position: row.predicted[at] });
            }
        }
        Ok(scored)
    }

    /// What a head gives at the tags of continuations. They are checked.
    pub(crate) fn outputs(&self, head: &Head, tagged: &[Tagged<'_>]) -> Result<Vec<Vec<f32>>> {
        let row = |one: &Tagged<'_>| {
            let ids = [one.continuation.prompt, one.continuation.completion].concat();
            Row { ids, predicted: Vec::new(), reads: one.at.to_vec() }
        };
        let rows: Vec<Row> = tagged.iter().map(row).collect();
        let readout = guard(&self.name, || Ok(Readout::new(head, &self.device)))?;
        let read = self.batched(&rows, |rows| {
            self.picked(rows).reads.map_or(Ok(Vec::new()), |reads| self.read(readout.outputs(self, reads)))
        })?;
        Ok(split(read, &rows, |row| row.reads.len() * head.n_outputs()))
    }

    /// Runs `work` on rows of like lengths together; returns what it gives, with the rows it gives it for.
    fn batched(&self, rows: &[Row], work: impl Fn(&[&Row]) -> Result<Vec<f32>>) -> Result<Batches> {
        let mut by_len: Vec<usize> = (0..rows.len()).collect();
        by_len.sort_by_key(|idx| rows[*idx].ids.len());
        let mut done = Vec::new();
        while let Some(longest) = by_len.last().map(|idx| rows[*idx].ids.len()) {
            let batch = by_len.split_off(by_len.len() - (SCORED / longest).clamp(1, by_len.len()));
            let some: Vec<&Row> = batch.iter().map(|idx| &rows[*idx]).collect();
            let flat = guard(&self.name, || work(&some))?;
            done.push((batch, flat));
        }
        Ok(done)
    }
}

/// Indices of rows, and numbers for each of them in turn.
type Batches = Vec<(Vec<usize>, Vec<f32>)>;

/// Gives each row its `n` numbers.
fn split(batches: Batches, rows: &[Row], n: impl Fn(&Row) -> usize) -> Vec<Vec<f32>> {
    let mut all = vec![Vec::new(); rows.len()];
    for (batch, flat) in batches {
        let mut flat = flat.into_iter();
        for idx in batch {
            all[idx] = flat.by_ref().take(n(&rows[idx])).collect();
        }
    }
    all
}

/// What is asked of some rows.
struct Picked {
    /// The final norm before each predicted token, `[n, hidden]`; none if no token is predicted.
    before: Option<Tensor<2>>,
    /// The predicted tokens.
    labels: Vec<i32>,
    /// The final norm at each read, `[n, hidden]`; none if no head reads.
    reads: Option<Tensor<2>>,
}

/// Turns pairs (i, i + half) by their position's angle.
fn rotate(heads: Tensor<4>, positions: &Positions) -> Tensor<4> {
    let [_, _, _, dim] = heads.dims();
    let (low, high) = (heads.clone().narrow(3, 0, dim / 2), heads.narrow(3, dim / 2, dim / 2));
    let (cos, sin) = (positions.cos.clone(), positions.sin.clone());
    let turned_low = low.clone() * cos.clone() - high.clone() * sin.clone();
    Tensor::cat(vec![turned_low, high * cos + low * sin], 3)
}
