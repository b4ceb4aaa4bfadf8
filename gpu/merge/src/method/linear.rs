//! Weighted sums, and one model as it is.

use crate::error::Result;
use crate::lanes;
use crate::run::Work;

/// Σ wᵢ xᵢ, divided by Σ wᵢ where weights are normalised: fused multiply-adds in f32, in the order of the models, from +0.
///
/// These are the bits of mergekit 0.1.5 over `PyTorch` on a processor with AVX2 or AVX-512, whose `addcmul_` is fused.
pub(super) fn merge(work: &mut Work<'_>) -> Result<()> {
    let weights: Vec<f32> = work.args.each("weight").into_iter().map(|w| w as f32).collect();
    let total = work.args.is_on("normalize").then(|| weights.iter().sum::<f32>());
    let mut sum = Vec::new();
    work.pass(|_, x, out| {
        sum.resize(x[0].len(), 0.0);
        lanes::scale(&mut sum, &x[0], weights[0]);
        for (x, weight) in x.iter().zip(&weights).skip(1) {
            lanes::add_scaled(&mut sum, x, *weight);
        }
        // A division by 1 changes no bits.
        if let Some(total) = total.filter(|total| *total != 1.0) {
            lanes::divide(&mut sum, total);
        }
        out.put(&sum)
    })
}

/// One model's tensor, times `scale`.
pub(super) fn pass(work: &mut Work<'_>) -> Result<()> {
    let scale = work.args.shared("scale") as f32;
    let mut scaled = Vec::new();
    work.pass(|_, x, out| {
        scaled.clear();
        scaled.extend(x[0].iter().map(|x| x * scale));
        out.put(&scaled)
    })
}
