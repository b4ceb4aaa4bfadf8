//! Label spaces of a few labels a class: those that a discovery model finds nearest to the class's images.

use std::collections::BTreeMap;

use super::{Answers, Predictions, ranked};
use crate::error::{Error, Result};

/// For each class, the `n` labels with the largest sum of scores (cosines) over its images of both groups, by `discovery`; all labels
/// if there are no more than `n`. Of equal sums that label counts which comes first.
///
/// Source: arXiv 2403.11497, "1 vs. 20". Nothing in that definition makes a class's own label one of them.
///
/// # Errors
/// `Input` if `discovery` has no scores, or a class's own label is not among its labels.
pub fn nearest_labels(of: &Predictions, discovery: &Answers, n: usize) -> Result<BTreeMap<u32, Vec<u32>>> {
    let no_scores = || Error::Input {
        what: format!("{}: expected scores of all labels of the discovery model, got none", discovery.name()),
        hint: Some("give its rows `scores`, or name another model as `discovery.model`".into()),
    };
    let scores = discovery.scores.as_ref().ok_or_else(no_scores)?;
    let mut sums: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (image, scores) in of.images.iter().zip(scores.chunks_exact(of.columns.len().max(1))) {
        let sum = sums.entry(image.class).or_insert_with(|| vec![0.0; of.columns.len()]);
        sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += f64::from(*score));
    }
    let list = |(class, sums): (u32, Vec<f64>)| {
        let mut order: Vec<usize> = (0..sums.len()).collect();
        order.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]));
        let labels: Vec<u32> = order.into_iter().take(n).map(|at| of.columns[at]).collect();
        if !labels.contains(&class) {
            return Err(Error::Input {
                what: format!(
                    "class `{}`: its own label is not among the {n} with the largest sum of scores by {}",
                    of.labels.name(class),
                    discovery.name()
                ),
                hint: Some(
                    "raise `discovery.n_labels`, or see whether the label space has this class under another name"
                        .into(),
                ),
            });
        }
        Ok((class, labels))
    };
    sums.into_iter().map(list).collect()
}

impl Predictions {
    /// What a set answers if only the labels of each image's class may be said. `None` for a set without scores.
    #[must_use]
    pub fn restricted(
        &self,
        set: &Answers,
        lists: &BTreeMap<u32, Vec<u32>>,
        space: &str,
        n_top: usize,
    ) -> Option<Answers> {
        let scores = set.scores.as_ref()?;
        let places: BTreeMap<u32, usize> = self.columns.iter().zip(0..).map(|(label, at)| (*label, at)).collect();
        let mut answers = Answers {
            space: space.to_owned(),
            first: vec![],
            top: vec![],
            scores: None,
            n_ties: 0,
            model: set.model.clone(),
            prompts: set.prompts.clone(),
        };
        for (image, scores) in self.images.iter().zip(scores.chunks_exact(self.columns.len())) {
            let mut labels: Vec<(usize, u32)> =
                lists.get(&image.class)?.iter().map(|label| (places[label], *label)).collect();
            // In the order of the label space, which breaks ties.
            labels.sort_unstable();
            let few: Vec<f32> = labels.iter().map(|(at, _)| scores[*at]).collect();
            let names: Vec<u32> = labels.iter().map(|(_, label)| *label).collect();
            let (top, is_tied) = ranked(&few, &names, n_top);
            answers.n_ties += usize::from(is_tied);
            answers.first.push(top.first()?.label);
            answers.top.push(top);
        }
        Some(answers)
    }
}
