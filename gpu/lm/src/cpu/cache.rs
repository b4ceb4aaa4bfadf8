//! Keys and values of tokens already read.
//!
//! A [`Cache`] is a segment of its own behind an optional shared prefix, so that many completions of one prompt hold the
//! prompt's keys and values once. Keys lie in the panels of the matrix product, ready to be multiplied.

use std::sync::Arc;

use super::gemm::{PANEL, Right};

/// Keys and values of a run of tokens, for every block and key-value head.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    len: usize,
    dim: usize,
    n_heads: usize,
    /// For each block and head: panels `[dim, PANEL]` of positions.
    keys: Vec<Vec<f32>>,
    /// For each block and head: rows of `dim`, filled up to whole panels.
    values: Vec<Vec<f32>>,
}

impl Segment {
    pub(crate) fn new(n_blocks: usize, n_heads: usize, dim: usize) -> Self {
        let empty = vec![Vec::new(); n_blocks * n_heads];
        Self { len: 0, dim, n_heads, keys: empty.clone(), values: empty }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts the key and value of the token at `position`; positions come in order.
    pub(crate) fn put(&mut self, block: usize, head: usize, position: usize, key: &[f32], value: &[f32]) {
        let at = block * self.n_heads + head;
        let panel = self.dim * PANEL;
        let keys = &mut self.keys[at];
        let start = position / PANEL * panel;
        if keys.len() == start {
            keys.resize(start + panel, 0.0);
        }
        for (to, key) in keys[start + position % PANEL..].iter_mut().step_by(PANEL).zip(key) {
            *to = *key;
        }
        let values = &mut self.values[at];
        values.extend_from_slice(value);
        values.resize((position + 1) * self.dim.next_multiple_of(PANEL), 0.0);
    }

    /// Says that `n` more tokens have been put for every block and head.
    pub(crate) fn grow(&mut self, n: usize) {
        self.len += n;
    }

    /// The first `n` tokens of a head.
    pub(crate) fn span(&self, block: usize, head: usize, n: usize) -> Span<'_> {
        let at = block * self.n_heads + head;
        let width = self.dim.next_multiple_of(PANEL);
        let keys = Right { data: &self.keys[at], panel_stride: self.dim * PANEL, row_stride: PANEL, k: self.dim, n };
        let values = Right { data: &self.values[at], panel_stride: PANEL, row_stride: width, k: n, n: self.dim };
        Span { keys, values }
    }
}

/// Keys `[dim, n]` and values `[n, dim]` of consecutive tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) keys: Right<'a>,
    pub(crate) values: Right<'a>,
}

/// One sequence's keys and values.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) prefix: Option<Arc<Segment>>,
    pub(crate) own: Segment,
}

impl Cache {
    /// Tokens held, prefix included.
    pub(crate) fn len(&self) -> usize {
        self.prefix_len() + self.own.len()
    }

    pub(crate) fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.len())
    }
}
