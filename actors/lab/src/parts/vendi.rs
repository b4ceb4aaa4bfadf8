//! Diversity of texts: the Vendi score under a kernel.
//!
//! VS(K) = exp(−Σ λ ln λ) over the eigenvalues λ of K/n (Friedman & Dieng 2023, arXiv 2210.02410, eq. 1): 1 where all n are
//! alike, n where no two have anything in common. The score means nothing without its kernel, so the kernel is a setting with a
//! [definition](NgramKernel::definition) that is recorded with every figure.
//!
//! Not here: kernels of embeddings; the entropy of equal answers ([`answer_entropy`](super::calibration::answer_entropy)), which is
//! its logarithm where texts are equal or have nothing in common.

use std::collections::{BTreeMap, HashMap};

use nalgebra::DMatrix;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::require;

/// How far a kernel may be from symmetric, from a unit diagonal and from having no negative eigenvalue.
const TOLERANCE: f64 = 1e-9;

/// What n-grams are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// What stands between blanks.
    Words,
    /// Unicode characters, blanks left out: for scripts that write no blanks.
    Characters,
}

/// The kernel of texts: the cosine of their counts of n-grams, in [0, 1]. A text without any is like others without any alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NgramKernel {
    /// `words` or `characters`.
    pub unit: Unit,
    /// Shortest n-gram.
    pub min: usize,
    /// Longest n-gram.
    pub max: usize,
}

impl Default for NgramKernel {
    fn default() -> Self {
        Self { unit: Unit::Words, min: 1, max: 2 }
    }
}

/// How often each n-gram of one text occurs, by its number, ascending.
type Counts = Vec<(u32, f64)>;

impl NgramKernel {
    /// Refuses lengths that make no n-gram; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        require(self.min > 0, &format!("{section}.min"), "at least 1", self.min)?;
        let expected = format!("at least `{section}.min` ({})", self.min);
        require(self.max >= self.min, &format!("{section}.max"), &expected, self.max)
    }

    /// What tells it from other kernels.
    #[must_use]
    pub fn definition(&self) -> String {
        let unit = match self.unit {
            Unit::Words => "word",
            Unit::Characters => "character",
        };
        format!("cosine of counts of {unit} n-grams, n from {} to {}", self.min, self.max)
    }

    /// The kernel of texts, f64 `[n, n]`, row-major.
    #[must_use]
    pub fn matrix<T: AsRef<str>>(&self, texts: &[T]) -> Vec<f64> {
        let n = texts.len();
        let counted = self.counts(texts);
        let norms: Vec<f64> = counted.iter().map(|counts| dot(counts, counts)).collect();
        let mut matrix = vec![1.0; n * n];
        for i in 0..n {
            for j in 0..i {
                let like = match (norms[i] == 0.0, norms[j] == 0.0) {
                    (true, true) => 1.0,
                    // Squares of counts are whole numbers: equal texts have exactly 1.
                    (false, false) => dot(&counted[i], &counted[j]) / (norms[i] * norms[j]).sqrt(),
                    _ => 0.0,
                };
                matrix[i * n + j] = like;
                matrix[j * n + i] = like;
            }
        }
        matrix
    }

    fn counts<T: AsRef<str>>(&self, texts: &[T]) -> Vec<Counts> {
        // An n-gram is numbered by the one before its last unit and that unit, so that no two share a number.
        let mut units: HashMap<&str, u32> = HashMap::new();
        let mut grams: HashMap<(u32, u32), u32> = HashMap::new();
        let mut counted = Vec::with_capacity(texts.len());
        for text in texts.iter().map(AsRef::as_ref) {
            let mut number = |unit| {
                let next = units.len() as u32;
                *units.entry(unit).or_insert(next)
            };
            let ids: Vec<u32> = match self.unit {
                Unit::Words => text.split_whitespace().map(&mut number).collect(),
                Unit::Characters => {
                    let places = text.char_indices().filter(|(_, c)| !c.is_whitespace());
                    places.map(|(at, c)| number(&text[at..at + c.len_utf8()])).collect()
                }
            };
            let mut found = Vec::new();
            for first in 0..ids.len() {
                let mut gram = u32::MAX;
                for (length, unit) in (1..=self.max).zip(&ids[first..]) {
                    let next = grams.len() as u32;
                    gram = *grams.entry((gram, *unit)).or_insert(next);
                    if length >= self.min {
                        found.push(gram);
                    }
                }
            }
            found.sort_unstable();
            counted.push(found.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as f64)).collect());
        }
        counted
    }
}

fn dot(a: &Counts, b: &Counts) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some((left, x)), Some((right, y))) = (a.get(i), b.get(j)) {
        match left.cmp(right) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += x * y;
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    sum
}

/// The Vendi score of a kernel, f64 `[n, n]`, row-major, symmetric with a unit diagonal and positive semi-definite: in [1, n].
///
/// # Errors
/// `Value` if it is none of that, or empty.
pub fn vendi(kernel: &[f64], n: usize) -> Result<f64> {
    let wrong = |message: String| Err(Error::Value { key: "kernel".into(), message });
    if n == 0 || kernel.len() != n * n {
        return wrong(format!("expected {n} × {n} numbers of at least one text, got {}", kernel.len()));
    }
    for i in 0..n {
        let one = kernel[i * n + i];
        if (one - 1.0).abs() > TOLERANCE || one.is_nan() {
            return wrong(format!("text {i}: expected to be like itself (1), got {one}"));
        }
        for j in 0..i {
            let (a, b) = (kernel[i * n + j], kernel[j * n + i]);
            if (a - b).abs() > TOLERANCE || !a.is_finite() || !b.is_finite() {
                return wrong(format!("texts {i} and {j}: expected one finite number either way, got {a} and {b}"));
            }
        }
    }
    let scaled = DMatrix::from_fn(n, n, |i, j| kernel[i * n + j] / n as f64);
    let values = scaled.symmetric_eigenvalues();
    if let Some(least) = values.iter().copied().find(|value| *value < -TOLERANCE) {
        return wrong(format!("expected no negative eigenvalue, got {}", least * n as f64));
    }
    let entropy: f64 = values.iter().filter(|value| **value > 0.0).map(|value| -value * libm::log(*value)).sum();
    Ok(libm::exp(entropy).clamp(1.0, n as f64))
}

/// The Vendi score of texts; none of no text.
///
/// # Errors
/// Of a kernel that is none, which n-grams never make.
pub fn vendi_of<T: AsRef<str>>(texts: &[T], kernel: &NgramKernel) -> Result<Option<f64>> {
    if texts.is_empty() {
        return Ok(None);
    }
    vendi(&kernel.matrix(texts), texts.len()).map(Some)
}

/// The entropy of answers, in nats: 0 where all are equal, ln n where no two are. Of none it is 0.
#[must_use]
pub fn answer_entropy<T: Ord>(answers: &[T]) -> f64 {
    let mut counts: BTreeMap<&T, u32> = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    let shares = counts.values().map(|count| f64::from(*count) / answers.len() as f64);
    // A sum of nothing, and of −1 · 0, is 0 without a sign.
    shares.map(|share| -share * libm::log(share)).sum::<f64>() + 0.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(n: usize) -> Vec<f64> {
        (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect()
    }

    #[test]
    fn vendi_has_its_known_values() {
        for n in 1..=7 {
            assert!((vendi(&identity(n), n).unwrap() - n as f64).abs() < 1e-12);
            assert!((vendi(&vec![1.0; n * n], n).unwrap() - 1.0).abs() < 1e-9);
        }
        // The example of the score's own repository.
        let example = [1.0, 0.9, 0.0, 0.9, 1.0, 0.0, 0.0, 0.0, 1.0];
        assert!((vendi(&example, 3).unwrap() - 2.1573).abs() < 5e-5);
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        for (kernel, n, said) in [
            (vec![], 0, "at least one text"),
            (vec![1.0; 3], 2, "2 × 2"),
            (vec![0.5], 1, "like itself"),
            (vec![1.0, 0.2, 0.3, 1.0], 2, "either way"),
            (vec![1.0, f64::NAN, f64::NAN, 1.0], 2, "either way"),
            (vec![1.0, 2.0, 2.0, 1.0], 2, "negative eigenvalue"),
        ] {
            let error = vendi(&kernel, n).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn entropy_has_its_known_values_and_is_the_logarithm_of_vendi_where_nothing_is_shared() {
        assert_eq!(answer_entropy(&["a"; 5]), 0.0);
        assert!((answer_entropy(&["a", "b", "c", "d", "e"]) - 5f64.ln()).abs() < 1e-12);
        assert_eq!(answer_entropy::<&str>(&[]), 0.0);
        // Empty answers, other scripts and line breaks are texts like any others.
        assert!((answer_entropy(&["", "Токио", "東京\n", "東京"]) - 4f64.ln()).abs() < 1e-12);
        // Words that are equal or have nothing in common.
        let texts = ["a", "b", "a", "c", "a", "b"];
        let score = vendi_of(&texts, &NgramKernel::default()).unwrap().unwrap();
        assert!((score.ln() - answer_entropy(&texts)).abs() < 1e-9, "{score}");
    }

    #[test]
    fn one_text_and_equal_texts_have_no_diversity_and_no_text_has_no_score() {
        let kernel = NgramKernel::default();
        assert_eq!(vendi_of::<&str>(&[], &kernel).unwrap(), None);
        assert_eq!(vendi_of(&["alone"], &kernel).unwrap(), Some(1.0));
        let score = vendi_of(&["a b c"; 6], &kernel).unwrap().unwrap();
        assert!((score - 1.0).abs() < 1e-9, "{score}");
        // Texts without a word are like each other, and like no other.
        assert_eq!(kernel.matrix(&["", " \n", "a"]), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn n_grams_are_counted_across_lines_and_in_any_script() {
        let kernel = NgramKernel::default();
        // Blanks are blanks: a line end between words changes nothing.
        assert_eq!(kernel.matrix(&["x = 1\ny = 2", "x = 1 y = 2"])[1], 1.0);
        // a, b, ab against a, c, ac: one of three in common.
        assert!((kernel.matrix(&["a b", "a c"])[1] - 1.0 / 3.0).abs() < 1e-12);
        let letters = NgramKernel { unit: Unit::Characters, min: 1, max: 1 };
        // Three of four characters in common; as words nothing is.
        let texts = ["春夏秋冬", "春夏秋風"];
        assert!((letters.matrix(&texts)[1] - 0.75).abs() < 1e-12);
        assert_eq!(kernel.matrix(&texts)[1], 0.0);
        let cyrillic = NgramKernel { unit: Unit::Characters, min: 2, max: 2 };
        assert!((cyrillic.matrix(&["да нет", "данет"])[1] - 1.0).abs() < 1e-12);
        // Counts, not sets: a a b against a b b is (2, 1) against (1, 2).
        let single = NgramKernel { unit: Unit::Words, min: 1, max: 1 };
        assert!((single.matrix(&["a a b", "a b b"])[1] - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_definition_tells_kernels_apart() {
        let all = [(Unit::Words, 1, 2), (Unit::Words, 1, 3), (Unit::Characters, 1, 2), (Unit::Words, 2, 2)];
        let said: std::collections::BTreeSet<String> =
            all.iter().map(|(unit, min, max)| NgramKernel { unit: *unit, min: *min, max: *max }.definition()).collect();
        assert_eq!(said.len(), all.len());
        assert!(NgramKernel { min: 0, ..NgramKernel::default() }.check("kernel").is_err());
        assert!(NgramKernel { min: 3, max: 2, ..NgramKernel::default() }.check("kernel").is_err());
    }

    proptest! {
        #[test]
        fn a_score_lies_between_one_and_the_number_of_texts(texts in prop::collection::vec("[ab ]{0,6}", 1..8)) {
            let score = vendi_of(&texts, &NgramKernel::default()).unwrap().unwrap();
            prop_assert!((1.0..=texts.len() as f64).contains(&score));
        }
    }
}
