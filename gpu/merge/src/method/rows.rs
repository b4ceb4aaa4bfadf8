//! What several methods do: differences to a base, products of all pairs, and sums written with one rounding.

use crate::error::Result;
use crate::lanes;
use crate::run::{Sink, Work};

/// Room for differences and sums, used again from tile to tile.
#[derive(Default)]
pub(super) struct Room {
    deltas: Vec<Vec<f32>>,
    sum: Vec<f64>,
    out: Vec<f32>,
}

impl Room {
    /// The models' numbers of a tile, less those of a base where there is one, which is last in `x`; rounded to f32.
    pub(super) fn deltas<'a>(&'a mut self, x: &'a [Vec<f32>], n_models: usize) -> &'a [Vec<f32>] {
        let Some(base) = x.get(n_models) else { return x };
        self.deltas.resize(n_models, Vec::new());
        for (delta, x) in self.deltas.iter_mut().zip(x) {
            delta.resize(base.len(), 0.0);
            lanes::difference(delta, x, base);
        }
        &self.deltas
    }

    /// Puts base + Σ factorᵢ · δᵢ, or Σ factorᵢ · xᵢ without a base: summed in f64 in the order of the models.
    pub(super) fn put(&mut self, x: &[Vec<f32>], factors: &[f64], out: &mut Sink<'_>) -> Result<()> {
        let mut sum = std::mem::take(&mut self.sum);
        sum.clear();
        sum.resize(x[0].len(), 0.0);
        for (delta, factor) in self.deltas(x, factors.len()).iter().zip(factors) {
            lanes::add_wide(&mut sum, delta, *factor);
        }
        self.sum = sum;
        self.put_sum(x.get(factors.len()), out)
    }

    /// Puts the numbers of a tile that `at` gives by their place in it, on a base where there is one.
    pub(super) fn put_each(
        &mut self,
        base: Option<&Vec<f32>>,
        n: usize,
        at: impl FnMut(usize) -> f64,
        out: &mut Sink<'_>,
    ) -> Result<()> {
        self.sum.clear();
        self.sum.extend((0..n).map(at));
        self.put_sum(base, out)
    }

    fn put_sum(&mut self, base: Option<&Vec<f32>>, out: &mut Sink<'_>) -> Result<()> {
        self.out.resize(self.sum.len(), 0.0);
        match base {
            Some(base) => lanes::add_to_base(&mut self.out, base, &self.sum, 1.0),
            None => lanes::round(&mut self.out, &self.sum),
        }
        out.put(&self.out)
    }
}

/// Products of all pairs of vectors, in f64.
pub(super) struct Products {
    n: usize,
    /// Row by row, both halves.
    all: Vec<f64>,
}

impl Products {
    pub(super) fn new(n: usize) -> Self {
        Self { n, all: vec![0.0; n * n] }
    }

    /// Forgets what was added.
    pub(super) fn clear(&mut self) {
        self.all.fill(0.0);
    }

    /// Adds the products of the next parts of the vectors.
    pub(super) fn add(&mut self, x: &[Vec<f32>], from: usize, to: usize) {
        for i in 0..self.n {
            for j in 0..=i {
                self.all[i * self.n + j] += lanes::dot(&x[i][from..to], &x[j][from..to]);
                self.all[j * self.n + i] = self.all[i * self.n + j];
            }
        }
    }

    pub(super) fn at(&self, i: usize, j: usize) -> f64 {
        self.all[i * self.n + j]
    }

    /// The length of a vector.
    pub(super) fn length(&self, i: usize) -> f64 {
        self.at(i, i).sqrt()
    }

    /// ⟨Σ aᵢ vᵢ, Σ bⱼ vⱼ⟩.
    pub(super) fn product(&self, a: &[f64], b: &[f64]) -> f64 {
        let row = |i: usize| b.iter().enumerate().map(|(j, b)| b * self.at(i, j)).sum::<f64>();
        a.iter().enumerate().map(|(i, a)| a * row(i)).sum()
    }
}

/// Products of all pairs of the models' tensors, or of their differences to a base where there is one.
pub(super) fn products(work: &mut Work<'_>, room: &mut Room) -> Result<Products> {
    let n = work.n_models();
    let mut products = Products::new(n);
    work.look(|_, x| {
        let len = x[0].len();
        products.add(room.deltas(x, n), 0, len);
    })?;
    Ok(products)
}
