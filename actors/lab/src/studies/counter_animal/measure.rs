//! From predictions to recorded accuracies: of each model under each prompt set, over all classes and class by class.

use tracker_store::{Figure, NodeId, Recording};

use super::settings::CounterAnimal;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::bootstrap::Resampler;
use crate::parts::evaluate::interval;
use crate::parts::predictions::Predictions;
use crate::parts::record::put_figure;
use crate::parts::robustness::Grid;

/// Accuracies of all sets of answers, in their order.
pub(super) struct Measured {
    pub(super) grid: Grid,
    /// Common, then counter, as shares.
    pub(super) accuracies: Vec<[f64; 2]>,
    /// Figures of common, counter and drop.
    pub(super) nodes: Vec<[NodeId; 3]>,
}

/// How a set of answers is recorded.
#[derive(Clone)]
pub(super) struct Shown {
    /// What it is called: model and prompt set.
    pub(super) name: String,
    /// What it came from: predictions, model, prompt set, label space.
    pub(super) used: Vec<NodeId>,
    /// Whether its accuracies class by class are recorded too.
    pub(super) by_class: bool,
}

/// The resampler of images and models.
pub(super) fn resampler(lab: &Lab, study: &CounterAnimal) -> Result<Resampler> {
    Resampler::of(lab, "robustness/resamples", study.robustness.n_resamples)
}

/// Measures and records. `shown` is of each set of answers.
///
/// # Errors
/// `Input` if no class has images of both groups; those of recording.
pub(super) async fn measure(
    lab: &Lab,
    study: &CounterAnimal,
    name: &str,
    predictions: &Predictions,
    shown: &[Shown],
) -> Result<Measured> {
    let models: Vec<Vec<bool>> = predictions.sets.iter().map(|set| predictions.right(set)).collect();
    let grid = Grid::new(&predictions.places(), &models)?;
    say_left_out(lab, name, predictions, &grid).await?;
    let (accuracies, unbalanced) = (grid.balanced(), grid.unbalanced());
    let drawn = resampler(lab, study)?.each(|stream| grid.resampled(stream));
    let stage = lab.stage(&format!("accuracy {name}"), predictions.sets.len()).await?;
    let (n_images, mut nodes) = (grid.n_images(), Vec::new());
    let mut recording = Recording::new();
    for (at, set) in predictions.sets.iter().enumerate() {
        let of = |which: fn([f64; 2]) -> f64| {
            interval(which(accuracies[at]), drawn.iter().map(|drawn| which(drawn[at])).collect())
        };
        let balanced = [of(|[common, _]| common), of(|[_, counter]| counter), of(|[common, counter]| common - counter)];
        let mut figure = |k: u32, name: &str, value: f64, ends: Option<[f64; 2]>, n: usize| {
            let figure = Figure {
                name: name.to_owned(),
                value,
                low: ends.map(|ends| ends[0]),
                high: ends.map(|ends| ends[1]),
                n: n as u64,
                unit: String::new(),
                split: shown[at].name.clone(),
            };
            put_figure(lab, &mut recording, stage.row(at as u32, k), &figure, &shown[at].used)
        };
        let n = [n_images[0], n_images[1], n_images[0] + n_images[1]];
        let mut three = Vec::with_capacity(3);
        for (k, (name, estimate)) in (0..).zip(["common", "counter", "drop"].into_iter().zip(balanced)) {
            three.push(figure(k, name, estimate.value, Some([estimate.low, estimate.high]), n[k as usize])?);
        }
        nodes.push([three[0], three[1], three[2]]);
        figure(3, "common, unbalanced", unbalanced[at][0], None, n[0])?;
        figure(4, "counter, unbalanced", unbalanced[at][1], None, n[1])?;
        if set.n_ties > 0 {
            figure(5, "ties", set.n_ties as f64, None, predictions.images.len())?;
        }
    }
    lab.record(recording).await?;
    by_class(lab, name, predictions, &grid, shown).await?;
    Ok(Measured { grid, accuracies, nodes })
}

/// Classes that have images of one group only are no part of any accuracy; which they are is said and recorded.
async fn say_left_out(lab: &Lab, name: &str, predictions: &Predictions, grid: &Grid) -> Result<()> {
    if grid.left_out().is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = grid.left_out().iter().map(|class| predictions.labels.name(*class)).collect();
    lab.note(format!(
        "{name}: {} classes have images of one group only and are left out: {}",
        names.len(),
        names.join(", ")
    ));
    let mut recording = Recording::new();
    recording.put_param(lab.run(), &format!("classes/{name}/left out"), &names.join("\n"))?;
    lab.record(recording).await
}

/// The matrix of classes and models.
async fn by_class(lab: &Lab, name: &str, predictions: &Predictions, grid: &Grid, shown: &[Shown]) -> Result<()> {
    if shown.iter().all(|shown| !shown.by_class) {
        return Ok(());
    }
    let stage = lab.stage(&format!("classes {name}"), grid.n_classes()).await?;
    let mut recording = Recording::new();
    for (at, shown) in shown.iter().enumerate().filter(|(_, shown)| shown.by_class) {
        for of in grid.by_class(at) {
            let [common, counter] = of.accuracy;
            let class = predictions.labels.name(of.class);
            // Three figures a model.
            for (k, (what, value, n)) in (0..).zip([
                ("common", common, of.n[0]),
                ("counter", counter, of.n[1]),
                ("drop", common - counter, of.n[0] + of.n[1]),
            ]) {
                let figure = Figure {
                    name: format!("{what}, {class}"),
                    value,
                    low: None,
                    high: None,
                    n: n as u64,
                    unit: String::new(),
                    split: shown.name.clone(),
                };
                let row = stage.row(of.class, 3 * at as u32 + k);
                put_figure(lab, &mut recording, row, &figure, shown.used.get(..1).unwrap_or_default())?;
            }
            if recording.n_bytes() > 4 << 20 {
                lab.record(std::mem::take(&mut recording)).await?;
            }
        }
    }
    lab.record(recording).await
}
