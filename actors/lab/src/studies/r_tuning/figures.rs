//! Numbers of measured models: average precision, calibration, what is answered and what is refused, each with its interval.

use tracker_store::{NodeId, Recording};

use super::measure::Measured;
use super::room::Room;
use crate::error::Result;
use crate::parts::calibration::{Calibration, Ranked};
use crate::parts::evaluate::Estimate;
use crate::parts::record::put_series;

/// What a set of questions is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Questions with known answers.
    Answers,
    /// Questions without an answer.
    Unanswerable,
    /// Questions that the model can answer.
    Control,
}

/// A model on a set, ranked by its confidence.
struct Standing<'a> {
    of: &'a Measured,
    ranked: Ranked,
    right: Vec<bool>,
    confidences: Vec<f64>,
    n_bins: u32,
}

impl<'a> Standing<'a> {
    fn new(room: &Room<'_>, of: &'a Measured) -> Result<Self> {
        let measure = &room.plan.measure;
        let confidences: Vec<f64> = of.outcomes.iter().map(|outcome| outcome.confidence(measure.weight)).collect();
        let right = of.outcomes.iter().map(|outcome| outcome.is_right).collect();
        Ok(Self { of, ranked: Ranked::new(&confidences)?, right, confidences, n_bins: measure.n_bins })
    }

    fn ap(&self, counts: &[u32]) -> Option<f64> {
        self.ranked.average_precision(&self.right, counts)
    }

    fn calibration(&self, counts: &[u32]) -> Option<Calibration> {
        Calibration::new(&self.confidences, &self.right, counts, self.n_bins).ok()
    }

    /// Accuracy, average precision, calibration error, answer rate and willing accuracy.
    fn numbers(&self, counts: &[u32]) -> Vec<Option<f64>> {
        let sum = |is_so: &dyn Fn(usize) -> bool| -> f64 {
            (0..counts.len()).filter(|at| is_so(*at)).map(|at| f64::from(counts[at])).sum()
        };
        let all = sum(&|_| true);
        let answered = sum(&|at| !self.of.outcomes[at].is_refused());
        let both = sum(&|at| !self.of.outcomes[at].is_refused() && self.right[at]);
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        vec![
            share(sum(&|at| self.right[at]), all),
            self.ap(counts),
            self.calibration(counts).and_then(|calibration| calibration.error()),
            share(answered, all),
            share(both, answered),
        ]
    }
}

const NAMES: [&str; 5] = ["accuracy", "AP", "ECE", "answer rate", "willing accuracy"];

fn refusals(of: &Measured, counts: &[u32]) -> Option<f64> {
    let n: u32 = counts.iter().sum();
    let hits: u32 = of.outcomes.iter().zip(counts).filter(|(outcome, _)| outcome.is_refused()).map(|(_, n)| n).sum();
    (n > 0).then(|| f64::from(hits) / f64::from(n))
}

/// Records the numbers of a model on a set, the bins of its calibration, and its average precision under every weight.
///
/// # Errors
/// Those of recording.
pub(super) async fn figures(room: &Room<'_>, of: &Measured, purpose: Purpose) -> Result<()> {
    let (lab, n) = (room.lab, of.outcomes.len());
    let name = format!("{}/{}", of.label, of.on);
    let stage = lab.stage(&format!("{name}/figures"), 1).await?;
    let (_, matcher) = room.matcher();
    let used = [of.results, of.benchmark, of.policy, matcher, room.refuser];
    let resampler = room.resampler()?;
    if purpose != Purpose::Answers {
        let found = resampler.counted(&[n], |counts| vec![refusals(of, &counts[0])]);
        let what = if purpose == Purpose::Control { "over-refusal" } else { "refusal rate" };
        if let Some(Some(rate)) = found.first() {
            stage.figure(0, what, *rate, n, &used).await?;
        }
        stage.done(1);
        return Ok(());
    }
    let standing = Standing::new(room, of)?;
    let found = resampler.counted(&[n], |counts| standing.numbers(&counts[0]));
    for ((at, name), estimate) in (0..).zip(NAMES).zip(found) {
        // What nothing is to be said of, willing accuracy where nothing is answered, has no figure.
        if let Some(estimate) = estimate {
            stage.figure(at, name, estimate, n, &used).await?;
        }
    }
    let once = vec![1; n];
    let mut recording = Recording::new();
    if let Some(calibration) = standing.calibration(&once) {
        let bins = || (0..).zip(&calibration.bins);
        put_series(lab, &mut recording, &format!("bins/{name}/accuracy"), bins().map(|(at, bin)| (at, bin.accuracy)))?;
        let confidence = bins().map(|(at, bin)| (at, bin.confidence));
        put_series(lab, &mut recording, &format!("bins/{name}/confidence"), confidence)?;
        put_series(lab, &mut recording, &format!("bins/{name}/n"), bins().map(|(at, bin)| (at, bin.n)))?;
    }
    if of.outcomes.iter().any(|outcome| outcome.s.is_some()) {
        let mut by_weight = Vec::new();
        for percent in 0..=100 {
            let weight = f64::from(percent) / 100.0;
            let scores: Vec<f64> = of.outcomes.iter().map(|outcome| outcome.confidence(weight)).collect();
            let ap = Ranked::new(&scores)?.average_precision(&standing.right, &once);
            by_weight.extend(ap.map(|ap| (i64::from(percent), ap)));
        }
        put_series(lab, &mut recording, &format!("AP by weight/{name}"), by_weight)?;
    }
    lab.record(recording).await?;
    stage.done(1);
    Ok(())
}

/// What is compared of two models on the same questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Average precision.
    Ap,
    /// Calibration error.
    Ece,
    /// Share of questions that are refused.
    Refusals,
}

impl Number {
    fn name(self) -> &'static str {
        match self {
            Self::Ap => "AP",
            Self::Ece => "ECE",
            Self::Refusals => "refusals",
        }
    }
}

/// The number of the first less that of the second, questions drawn anew together; recorded. `None` where either cannot be said.
///
/// # Errors
/// Those of recording.
pub(super) async fn compare(
    room: &Room<'_>,
    number: Number,
    [first, second]: [&Measured; 2],
) -> Result<Option<(Estimate, Vec<NodeId>)>> {
    let n = first.outcomes.len();
    if n != second.outcomes.len() || n == 0 {
        return Ok(None);
    }
    let both = [Standing::new(room, first)?, Standing::new(room, second)?];
    let of = |standing: &Standing<'_>, counts: &[u32]| match number {
        Number::Ap => standing.ap(counts),
        Number::Ece => standing.calibration(counts).and_then(|calibration| calibration.error()),
        Number::Refusals => refusals(standing.of, counts),
    };
    let found = room.resampler()?.counted(&[n], |counts| {
        let [a, b] = [of(&both[0], &counts[0]), of(&both[1], &counts[0])];
        vec![a.zip(b).map(|(a, b)| a - b)]
    });
    let Some(Some(estimate)) = found.first().copied() else { return Ok(None) };
    let name = number.name();
    let stage = room.lab.stage(&format!("{} less {}/{}/{name}", first.label, second.label, first.on), 1).await?;
    let used = [first.results, second.results, first.policy, second.policy];
    let node = stage.figure(0, &format!("{name}, less {}", second.label), estimate, n, &used).await?;
    stage.done(1);
    Ok(Some((estimate, vec![node])))
}

/// The share refused of questions without an answer less that of the control, each set drawn anew by itself; recorded.
///
/// # Errors
/// Those of recording.
pub(super) async fn apart(room: &Room<'_>, [without, with]: [&Measured; 2]) -> Result<Option<(Estimate, Vec<NodeId>)>> {
    let sizes = [without.outcomes.len(), with.outcomes.len()];
    let found = room.resampler()?.counted(&sizes, |counts| {
        let [a, b] = [refusals(without, &counts[0]), refusals(with, &counts[1])];
        vec![a.zip(b).map(|(a, b)| a - b)]
    });
    let Some(Some(estimate)) = found.first().copied() else { return Ok(None) };
    let stage = room.lab.stage(&format!("{}/refusal less over-refusal", without.label), 1).await?;
    let used = [without.results, with.results, without.policy];
    let n = sizes.iter().sum();
    let node = stage.figure(0, "refusal rate less over-refusal", estimate, n, &used).await?;
    stage.done(1);
    Ok(Some((estimate, vec![node])))
}
