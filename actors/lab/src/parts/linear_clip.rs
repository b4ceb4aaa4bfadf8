//! Contrastive learning of two linear encoders, whose minimiser is known: a regularised cross-covariance.
//!
//! An image and its caption are linear maps of one latent of two features (arXiv 2403.11497, section 5). The class's has the mean μ y and the
//! deviation σ, the background's the mean μ a and a deviation of its own; y = ±1 is the class, a = y with probability p the background. The loss, with
//! `s_ij = (W_I x_i)ᵀ (W_T t_j)`, is
//!
//! `(1/2n(n−1)) Σ_{i≠j} [(s_ij − s_ii) + (s_ji − s_ii)] + (ρ/2) ‖W_Iᵀ W_T‖²_F`.
//!
//! Its minimiser is `W_Iᵀ W_T = Ĉ / ρ`, Ĉ the empirical cross-covariance of images and captions. The paper writes Ĉ as
//! `D_I [[1 + σ_inv², c], [c, 1 + σ_spu²]] D_Tᵀ` with c = 2μp − 1, which is right for μ = 1 alone: the diagonal is μ² + σ², c is the product of both
//! means and 2p − 1.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::robustness::{normal, quantile};

/// Numbers of an image and of a caption, and of an embedding.
const IMAGE: usize = 4;
const CAPTION: usize = 3;
const EMBEDDING: usize = 4;

/// The distribution of the latent: of the class's feature, then of the background's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latent {
    /// Means.
    pub mu: [f64; 2],
    /// Standard deviations.
    pub sigma: [f64; 2],
    /// How often the background is that of the class.
    pub p: f64,
}

/// A matrix `[IMAGE, CAPTION]`.
pub type Map = [[f64; CAPTION]; IMAGE];

/// Images with their captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    images: Vec<[f64; IMAGE]>,
    captions: Vec<[f64; CAPTION]>,
}

/// `D_I` and `D_T`: columns of length one, orthogonal, so that latents are seen at their own scale.
const D_IMAGE: [[f64; 2]; IMAGE] = [[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]];
const D_CAPTION: [[f64; 2]; CAPTION] = [[0.6, 0.0], [0.8, 0.0], [0.0, 1.0]];

fn gaussian(stream: &mut ChaCha8Rng) -> f64 {
    // In the middle of one of 2⁵³ parts of (0, 1).
    quantile((stream.random_range(0..1_u64 << 53) as f64 + 0.5) / (1_u64 << 53) as f64)
}

fn map<const N: usize>(d: &[[f64; 2]; N], z: [f64; 2]) -> [f64; N] {
    d.map(|row| row[0] * z[0] + row[1] * z[1])
}

impl Latent {
    /// A latent of class `y` before background `a`.
    fn draw(&self, y: f64, a: f64, stream: &mut ChaCha8Rng) -> [f64; 2] {
        [self.mu[0] * y + self.sigma[0] * gaussian(stream), self.mu[1] * a + self.sigma[1] * gaussian(stream)]
    }

    /// `n` pairs; classes take turns.
    #[must_use]
    pub fn pairs(&self, n: usize, stream: &mut ChaCha8Rng) -> Pairs {
        let (mut images, mut captions) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for nth in 0..n {
            let y = if nth % 2 == 0 { 1.0 } else { -1.0 };
            let a = if stream.random::<f64>() < self.p { y } else { -y };
            let z = self.draw(y, a, stream);
            images.push(map(&D_IMAGE, z));
            captions.push(map(&D_CAPTION, z));
        }
        Pairs { images, captions }
    }

    /// The covariance of the latent, `[[μ_inv² + σ_inv², μ_inv μ_spu (2p − 1)], […, μ_spu² + σ_spu²]]`.
    #[must_use]
    pub fn covariance(&self) -> [[f64; 2]; 2] {
        let c = self.mu[0] * self.mu[1] * (2.0 * self.p - 1.0);
        [[self.mu[0].powi(2) + self.sigma[0].powi(2), c], [c, self.mu[1].powi(2) + self.sigma[1].powi(2)]]
    }

    /// What captions of y = 1 say on average: of the class, and of the background it mostly has.
    #[must_use]
    pub fn usual(&self) -> [f64; 2] {
        [self.mu[0], self.mu[1] * (2.0 * self.p - 1.0)]
    }

    /// Accuracies, common then counter, of the sign of w · z where a = y and where a = −y.
    #[must_use]
    pub fn accuracy(&self, w: [f64; 2]) -> [f64; 2] {
        let spread = libm::sqrt((w[0] * self.sigma[0]).powi(2) + (w[1] * self.sigma[1]).powi(2)).max(f64::MIN_POSITIVE);
        [1.0, -1.0].map(|agrees| normal((w[0] * self.mu[0] + agrees * w[1] * self.mu[1]) / spread))
    }

    /// The same of a learnt map and a prompt, which is the latent of a caption of y = 1 (that of y = −1 is its opposite), at `n` images of
    /// each group.
    #[must_use]
    pub fn measured(&self, of: &Map, prompt: [f64; 2], n: usize, stream: &mut ChaCha8Rng) -> [f64; 2] {
        let caption = map(&D_CAPTION, prompt);
        let weights = of.map(|row| row.iter().zip(caption).map(|(m, t)| m * t).sum::<f64>());
        [1.0, -1.0].map(|agrees| {
            let right = (0..n).filter(|nth| {
                let y = if nth % 2 == 0 { 1.0 } else { -1.0 };
                let image = map(&D_IMAGE, self.draw(y, agrees * y, stream));
                y * image.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() > 0.0
            });
            right.count() as f64 / n as f64
        })
    }
}

/// The latent's 2 × 2 of a map: `D_Iᵀ M D_T`.
#[must_use]
pub fn latent_of(of: &Map) -> [[f64; 2]; 2] {
    let mut found = [[0.0; 2]; 2];
    for (i, row) in of.iter().enumerate() {
        for (j, m) in row.iter().enumerate() {
            for (a, of_a) in found.iter_mut().enumerate() {
                for (b, of_b) in of_a.iter_mut().enumerate() {
                    *of_b += D_IMAGE[i][a] * m * D_CAPTION[j][b];
                }
            }
        }
    }
    found
}

/// ‖a − b‖ / ‖b‖, Frobenius.
#[must_use]
pub fn distance(a: &Map, b: &Map) -> f64 {
    let squares = |of: &dyn Fn(usize, usize) -> f64| -> f64 {
        (0..IMAGE).flat_map(|i| (0..CAPTION).map(move |j| (i, j))).map(|(i, j)| of(i, j).powi(2)).sum()
    };
    (squares(&|i, j| a[i][j] - b[i][j]) / squares(&|i, j| b[i][j])).sqrt()
}

/// Two encoders.
#[derive(Clone, Debug)]
pub struct Encoders {
    image: [[f64; IMAGE]; EMBEDDING],
    caption: [[f64; CAPTION]; EMBEDDING],
}

impl Encoders {
    /// Random ones, near nothing: what the covariance has no part in stays there.
    #[must_use]
    pub fn new(stream: &mut ChaCha8Rng) -> Self {
        const SPREAD: f64 = 1e-4;
        let mut draw = || SPREAD * gaussian(stream);
        let image = std::array::from_fn(|_| std::array::from_fn(|_| draw()));
        let caption = std::array::from_fn(|_| std::array::from_fn(|_| draw()));
        Self { image, caption }
    }

    /// `W_Iᵀ W_T`.
    #[must_use]
    pub fn map(&self) -> Map {
        std::array::from_fn(|i| {
            std::array::from_fn(|j| (0..EMBEDDING).map(|h| self.image[h][i] * self.caption[h][j]).sum())
        })
    }
}

impl Pairs {
    /// Ĉ / ρ, the closed form: from means and products, without a pair.
    #[must_use]
    pub fn minimiser(&self, rho: f64) -> Map {
        let n = self.images.len() as f64;
        let mut found = [[0.0; CAPTION]; IMAGE];
        for (i, row) in found.iter_mut().enumerate() {
            let x_mean = self.images.iter().map(|x| x[i]).sum::<f64>() / n;
            for (j, m) in row.iter_mut().enumerate() {
                let t_mean = self.captions.iter().map(|t| t[j]).sum::<f64>() / n;
                let products = self.images.iter().zip(&self.captions).map(|(x, t)| (x[i] - x_mean) * (t[j] - t_mean));
                *m = products.sum::<f64>() / (n - 1.0) / rho;
            }
        }
        found
    }

    /// The loss, pair by pair.
    #[must_use]
    pub fn loss(&self, encoders: &Encoders, rho: f64) -> f64 {
        let (n, m) = (self.images.len(), encoders.map());
        let s = |i: usize, j: usize| -> f64 {
            m.iter()
                .zip(self.images[i])
                .map(|(row, x)| x * row.iter().zip(self.captions[j]).map(|(m, t)| m * t).sum::<f64>())
                .sum()
        };
        let mut sum = 0.0;
        for i in 0..n {
            let own = s(i, i);
            sum += (0..n).filter(|j| *j != i).map(|j| (s(i, j) - own) + (s(j, i) - own)).sum::<f64>();
        }
        let norm: f64 = m.iter().flatten().map(|m| m * m).sum();
        sum / (2.0 * n as f64 * (n as f64 - 1.0)) + 0.5 * rho * norm
    }

    /// The derivative of the loss without its penalty by `W_Iᵀ W_T`, in which it is linear: summed pair by pair.
    fn slope(&self) -> Map {
        let n = self.images.len();
        let share = 1.0 / (2.0 * n as f64 * (n as f64 - 1.0));
        let mut found = [[0.0; CAPTION]; IMAGE];
        let mut add = |factor: f64, x: &[f64; IMAGE], t: &[f64; CAPTION]| {
            for (row, x) in found.iter_mut().zip(x) {
                row.iter_mut().zip(t).for_each(|(m, t)| *m += factor * x * t);
            }
        };
        for i in 0..n {
            for j in (0..n).filter(|j| *j != i) {
                add(share, &self.images[i], &self.captions[j]);
                add(share, &self.images[j], &self.captions[i]);
                add(-2.0 * share, &self.images[i], &self.captions[i]);
            }
        }
        found
    }

    /// Gradient descent from `encoders` at rate `lr`.
    #[must_use]
    pub fn descend(&self, mut encoders: Encoders, rho: f64, lr: f64, steps: usize) -> Encoders {
        let slope = self.slope();
        for _ in 0..steps {
            let m = encoders.map();
            let g: Map = std::array::from_fn(|i| std::array::from_fn(|j| slope[i][j] + rho * m[i][j]));
            let Encoders { image, caption } = &mut encoders;
            for (w, v) in image.iter_mut().zip(caption) {
                let by_image: [f64; IMAGE] = std::array::from_fn(|i| (0..CAPTION).map(|j| g[i][j] * v[j]).sum());
                let by_caption: [f64; CAPTION] = std::array::from_fn(|j| (0..IMAGE).map(|i| g[i][j] * w[i]).sum());
                w.iter_mut().zip(by_image).for_each(|(w, g)| *w -= lr * g);
                v.iter_mut().zip(by_caption).for_each(|(v, g)| *v -= lr * g);
            }
        }
        encoders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    const LATENT: Latent = Latent { mu: [1.0, 2.0], sigma: [0.8, 0.5], p: 0.85 };

    #[test]
    fn gradient_descent_ends_at_the_empirical_covariance_over_rho() {
        let mut stream = ChaCha8Rng::seed_from_u64(2);
        for rho in [0.5, 2.0] {
            let pairs = LATENT.pairs(150, &mut stream);
            let found = pairs.descend(Encoders::new(&mut stream), rho, 0.02, 6_000);
            let closed = pairs.minimiser(rho);
            assert!(distance(&found.map(), &closed) < 1e-6, "{rho}: {}", distance(&found.map(), &closed));
            // And nothing near it has less loss.
            let least = pairs.loss(&found, rho);
            for _ in 0..20 {
                let mut moved = found.clone();
                for w in moved.image.iter_mut().flatten() {
                    *w += 0.05 * gaussian(&mut stream);
                }
                assert!(pairs.loss(&moved, rho) > least - 1e-12);
            }
        }
    }

    #[test]
    fn the_slope_of_the_pairs_is_minus_their_covariance() {
        let pairs = LATENT.pairs(60, &mut ChaCha8Rng::seed_from_u64(3));
        let minus = pairs.slope().map(|row| row.map(|m| -m));
        assert!(distance(&minus, &pairs.minimiser(1.0)) < 1e-12);
    }

    #[test]
    fn the_covariance_is_the_papers_for_a_mean_of_one_alone() {
        let of = |mu: f64| Latent { mu: [mu, mu], sigma: [0.7, 0.4], p: 0.8 };
        let found = of(1.0).covariance();
        assert!((found[0][1] - (2.0 * 0.8 - 1.0)).abs() < 1e-12 && (found[0][0] - 1.49).abs() < 1e-12);
        let latent = of(2.0);
        let empirical = latent_of(&latent.pairs(100_000, &mut ChaCha8Rng::seed_from_u64(3)).minimiser(1.0));
        for (row, expected) in empirical.iter().zip(latent.covariance()) {
            assert!((row[0] - expected[0]).abs() < 0.03 && (row[1] - expected[1]).abs() < 0.03, "{empirical:?}");
        }
        // The paper's would be 2 · 2 · 0.8 − 1.
        assert!((empirical[0][1] - 2.2).abs() > 0.1 && (latent.covariance()[0][1] - 2.4).abs() < 1e-12);
    }

    #[test]
    fn accuracies_of_a_direction_are_what_is_measured() {
        let mut stream = ChaCha8Rng::seed_from_u64(2);
        // The map that gives the prompt back: D_I D_Tᵀ.
        let same: Map = D_IMAGE.map(|i| D_CAPTION.map(|t| i[0] * t[0] + i[1] * t[1]));
        assert_eq!(latent_of(&same).map(|row| row.map(f64::round)), [[1.0, 0.0], [0.0, 1.0]]);
        let found = LATENT.measured(&same, [1.0, 0.4], 40_000, &mut stream);
        for (found, expected) in found.iter().zip(LATENT.accuracy([1.0, 0.4])) {
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
        let [common, counter] = LATENT.accuracy([1.0, 0.0]);
        assert_eq!(common, counter);
    }
}
