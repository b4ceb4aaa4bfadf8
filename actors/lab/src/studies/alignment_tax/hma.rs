//! Heterogeneous model averaging: block ratios that make the aligned model's best answers likely, at a given mean.
//!
//! Source: Lin et al. 2024 (arXiv 2309.06256), §5: maximise mean log π(a|x; α) over praised answers, subject to
//! (1/K) Σ αₖ = α and αₖ in [0, 1]. Only the answer is learnt, not the prompt.

use tracker_actors::Pool;
use tracker_lm::{Continuation, Example, Lm};

use super::settings::{AlignmentTax, HmaSettings, Solver};
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::interpolate::{Blocks, Interpolator, grid, project, reparameterised, reparameterised_slopes};

/// Mixtures evaluated in one pass over the parents.
const PASS: usize = 32;

/// What ratios are fitted to, and between which models.
pub(super) struct Fit<'a> {
    pub(super) lab: &'a Lab,
    pub(super) plan: &'a AlignmentTax,
    pub(super) blocks: &'a Blocks,
    pub(super) interpolator: &'a Pool<Interpolator>,
    pub(super) before: &'a Lm,
    pub(super) after: &'a Lm,
    /// Praised answers.
    pub(super) examples: &'a [Example],
}

/// Block ratios, and the mean of −ln p of an answer's token under the model they make, in nats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Solution {
    pub(super) alpha: Vec<f64>,
    pub(super) loss: f64,
}

impl Fit<'_> {
    /// Solves for a mean of `mean`: the best of all steps. Projected steps begin at the best of equal ratios and of those that
    /// favour or disfavour one block as much as they may, since the loss has more than one valley.
    pub(super) async fn solve(&self, mean: f64) -> Result<Solution> {
        let HmaSettings { solver, epsilon, steps, lr, .. } = self.plan.hma;
        let k = self.blocks.n();
        // The state is the ratios themselves, or the paper's s, all equal to logit α.
        let mut state = match solver {
            Solver::Projected => self.start(mean).await?,
            Solver::Reparameterised => vec![(mean / (1.0 - mean)).ln(); k],
        };
        let mut best: Option<Solution> = None;
        for step in 0..=steps {
            self.lab.check()?;
            let alpha = match solver {
                Solver::Projected => state.clone(),
                // Nothing in the paper's form keeps a ratio below 1, and no mixture has more than all of θ.
                Solver::Reparameterised => project(&reparameterised(&state, mean, epsilon), mean),
            };
            let (loss, by_alpha) = self.slopes(&alpha).await?;
            if best.as_ref().is_none_or(|best| loss < best.loss) {
                best = Some(Solution { alpha, loss });
            }
            let slope = match solver {
                Solver::Projected => by_alpha,
                Solver::Reparameterised => reparameterised_slopes(&state, mean, epsilon, &by_alpha),
            };
            let average = slope.iter().sum::<f64>() / k as f64;
            // Along the set of equal means only differences count.
            let slope: Vec<f64> = slope.iter().map(|slope| slope - average).collect();
            let length = slope.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
            if length <= f64::MIN_POSITIVE {
                break;
            }
            let rate = lr * (1.0 - f64::from(step) / f64::from(steps + 1)) / length;
            let moved: Vec<f64> = state.iter().zip(&slope).map(|(x, slope)| x - rate * slope).collect();
            state = match solver {
                Solver::Projected => project(&moved, mean),
                Solver::Reparameterised => moved,
            };
        }
        Ok(best.unwrap_or(Solution { alpha: vec![mean; k], loss: f64::NAN }))
    }

    async fn start(&self, mean: f64) -> Result<Vec<f64>> {
        let k = self.blocks.n();
        let tilted = (0..k).flat_map(|block| {
            [1.0, -1.0].map(|tilt| {
                let mut alpha = vec![mean; k];
                alpha[block] += tilt;
                project(&alpha, mean)
            })
        });
        let equal = vec![mean; k];
        let best = self.best(&[equal.clone()].into_iter().chain(tilted).collect::<Vec<_>>()).await?;
        Ok(best.map_or(equal, |best| best.alpha))
    }

    /// The best point of the grid with this mean.
    pub(super) async fn search(&self, mean: f64) -> Result<Option<Solution>> {
        self.best(&grid(self.blocks.n(), mean, self.plan.hma.grid)).await
    }

    async fn best(&self, points: &[Vec<f64>]) -> Result<Option<Solution>> {
        let mut best: Option<Solution> = None;
        for points in points.chunks(PASS) {
            self.lab.check()?;
            let ratios = points.iter().map(|alpha| self.blocks.ratios(self.before, alpha)).collect();
            let models = self.interpolator.ask(ratios).await?;
            for (alpha, model) in points.iter().zip(models) {
                let loss = self.loss(&model)?;
                if best.as_ref().is_none_or(|best| loss < best.loss) {
                    best = Some(Solution { alpha: alpha.clone(), loss });
                }
            }
        }
        Ok(best)
    }

    async fn slopes(&self, alpha: &[f64]) -> Result<(f64, Vec<f64>)> {
        let model = self.interpolator.ask(vec![self.blocks.ratios(self.before, alpha)]).await?.remove(0);
        let slopes = tracker_lm::slopes(&model, self.before, self.after, self.examples, self.lab.workers())?;
        Ok((slopes.loss, self.blocks.by_block(self.before, &slopes.by_tensor)))
    }

    fn loss(&self, model: &Lm) -> Result<f64> {
        let asked: Vec<Continuation<'_>> = self
            .examples
            .iter()
            .map(|example| {
                let n_prompt = example.mask.iter().take_while(|learnt| !**learnt).count();
                let (prompt, completion) = example.ids.split_at(n_prompt);
                Continuation { prompt, completion }
            })
            .collect();
        let scored = tracker_lm::log_probs(model, &asked, self.lab.workers())?;
        let (sum, n) = scored.iter().flatten().fold((0.0, 0), |(sum, n), x| (sum - f64::from(*x), n + 1));
        Ok(sum / f64::from(n.max(1)))
    }
}
