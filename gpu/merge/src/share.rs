//! What each model counts for, block by block, as a record of a merge says it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::folder::layer_of;
use crate::plan::Merge;

/// What one model counts for in one block of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The model, as the recipe spells it.
    pub model: String,
    /// `layers 0..4` (half-open), `rest` (what is in no layer), a tensor's name where those of a layer differ, or nothing for
    /// all of the output.
    pub block: String,
    /// Its weight: of `linear` the share in the sum, of other methods as the recipe states it.
    pub weight: f64,
}

impl Merge {
    /// The weights of all models that have one, by model, then block; blocks are as long as weights allow.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let mut shares = Vec::new();
        for parent in 0..self.parents.len() {
            let mut by_place: BTreeMap<Option<usize>, Vec<(&str, f64)>> = BTreeMap::new();
            for job in &self.jobs {
                let weights = job.args.each("weight");
                let total = if self.method.name == "linear" && job.args.is_on("normalize") {
                    weights.iter().sum()
                } else {
                    1.0
                };
                let stated = job.args.each.iter().map(|args| args.contains_key("weight"));
                let own = job.sources.iter().zip(weights).zip(stated);
                let own = own.filter(|(((source, _), _), is_stated)| *source == parent && *is_stated);
                let weights: Vec<f64> = own.map(|((_, weight), _)| weight / total).collect();
                if !weights.is_empty() {
                    let weight = weights.iter().sum();
                    by_place.entry(layer_of(&job.name)).or_default().push((job.name.as_str(), weight));
                }
            }
            self.add_shares(parent, &by_place, &mut shares);
        }
        shares
    }

    fn add_shares(&self, parent: usize, by_place: &BTreeMap<Option<usize>, Vec<(&str, f64)>>, to: &mut Vec<Share>) {
        let model = &self.parents[parent].name;
        let mut add = |block: String, weight| to.push(Share { model: model.clone(), block, weight });
        let all = by_place.values().flatten().map(|(_, weight)| *weight);
        let n_of_model = by_place.values().map(Vec::len).sum::<usize>();
        if let Some(weight) = only(all).filter(|_| n_of_model == self.jobs.len()) {
            return add(String::new(), weight);
        }
        let mut run: Option<(usize, usize, f64)> = None;
        for (place, tensors) in by_place {
            let weight = only(tensors.iter().map(|(_, weight)| *weight));
            match (run, place, weight) {
                (Some((from, to, last)), Some(layer), Some(weight)) if to == *layer && last == weight => {
                    run = Some((from, layer + 1, weight));
                    continue;
                }
                (Some((from, to, last)), ..) => add(format!("layers {from}..{to}"), last),
                (None, ..) => {}
            }
            run = None;
            match (place, weight) {
                (Some(layer), Some(weight)) => run = Some((*layer, layer + 1, weight)),
                (None, Some(weight)) => add("rest".to_owned(), weight),
                (_, None) => tensors.iter().for_each(|(name, weight)| add((*name).to_owned(), *weight)),
            }
        }
        if let Some((from, to, weight)) = run {
            add(format!("layers {from}..{to}"), weight);
        }
    }
}

/// The number that all are, if they are one.
fn only(mut numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let first = numbers.next()?;
    numbers.all(|number| number == first).then_some(first)
}
