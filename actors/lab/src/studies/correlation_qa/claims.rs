//! What is claimed: of the small networks, whose answer is known, and of models behind endpoints.

use tracker_store::{Claim, NodeId};

use super::CorrelationQa;
use super::judging::CHOSEN;
use super::measure::{Counts, DROP, Measured, NAMES};
use super::toy::expected;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::{Estimate, claim_above};

/// Chance: one of six answers.
const CHANCE: f64 = 1.0 / 6.0;
/// How far from nothing all of the interval of a drop may lie that is none.
const NEAR: f64 = 0.06;
/// How far from what is expected a share may lie that is as expected.
const AS_EXPECTED: f64 = 0.04;
/// What a drop is above that is large.
const LARGE: f64 = 0.5;

type Found = (Claim, Vec<NodeId>);

impl CorrelationQa {
    /// What was found.
    ///
    /// # Errors
    /// Those of recording.
    pub(super) async fn claims(&self, lab: &Lab, measured: &[Measured]) -> Result<Vec<Claim>> {
        let of_judge = |judge: &str| measured.iter().filter(|of| of.judge == judge).collect::<Vec<_>>();
        let primary = of_judge(&self.judges.primary);
        let toys: Vec<&Measured> = primary.iter().copied().filter(|of| of.rho.is_some()).collect();
        let mut found = Vec::new();
        if !toys.is_empty() {
            found.extend(
                toys.iter().find(|of| of.rho.is_some_and(|rho| (rho - CHANCE).abs() < 1e-3)).map(|of| none(of)),
            );
            if toys.len() > 1 {
                found.push(self.rises(lab, &toys)?);
            }
            found.extend(toys.last().map(|of| {
                let statement = format!("at {} accuracy falls by more than half", of.group);
                above("large-near-one", &statement, of, DROP, LARGE)
            }));
            let truth = of_judge(CHOSEN);
            if !truth.is_empty() && self.is_toy() {
                found.push(self.as_expected(lab, &truth).await?);
            }
        }
        for of in primary.iter().filter(|of| of.rho.is_none()) {
            let id = format!("falls, {}", of.group);
            let statement = format!("{} is right less often where the image shows a wrong answer", of.group);
            found.push(above(&id, &statement, of, DROP, 0.0));
        }
        lab.claims(found).await
    }

    /// The smallest rise of the drop from one ρ to the next: the step with the least lower end.
    fn rises(&self, lab: &Lab, toys: &[&Measured]) -> Result<Found> {
        let resampler = Resampler::of(lab, "figures", self.measure.n_resamples)?;
        let mut steps: Vec<Estimate> = Vec::new();
        for (less, more) in toys.iter().zip(toys.iter().skip(1)) {
            steps.extend(rise(&less.counts, &more.counts, &resampler)?);
        }
        let weakest = (steps.len() + 1 == toys.len()).then(|| steps.into_iter().min_by(|a, b| a.low.total_cmp(&b.low)));
        let statement = "the drop rises with each step of ρ (the step with the least lower end)";
        let nodes = toys.iter().filter_map(|of| of.all[DROP]).map(|(_, node)| node).collect();
        Ok((claim_above("rises-with-rho", statement, weakest.flatten(), 0.0), nodes))
    }

    /// How far what networks chose lies from what the best network would choose; each expected number is a figure beside.
    async fn as_expected(&self, lab: &Lab, truth: &[&Measured]) -> Result<Found> {
        let stage = lab.stage("expected", truth.len()).await?;
        let mut farthest = 0.0_f64;
        let mut nodes = Vec::new();
        for of in truth {
            // By the plan's ρ, since names are rounded.
            let rho = self.toy.rho.iter().find(|rho| of.rho.is_some_and(|own| (own - **rho).abs() < 1e-3));
            let Some(best) = rho.map(|rho| expected(*rho, self.toy.knowledge)) else { continue };
            let expected = [(0, best.factual), (1, best.spurious), (DROP, best.drop()), (3, best.instinct)];
            for (at, expected) in expected {
                if let Some((estimate, node)) = of.all[at] {
                    farthest = farthest.max((estimate.value - expected).abs());
                    let (item, name) = (nodes.len() as u32, format!("expected {}, {}", NAMES[at], of.group));
                    nodes.push(stage.figure(item, &name, Estimate::exactly(expected), of.counts.len(), &[node]).await?);
                }
            }
        }
        let claim = Claim {
            id: "as-expected".into(),
            statement:
                "accuracies, drop and instinct of what was chosen are those of Bayes' rule (greatest difference)".into(),
            holds: farthest <= AS_EXPECTED && !nodes.is_empty(),
            value: farthest,
            low: None,
            high: None,
            bound: Some(AS_EXPECTED),
        };
        Ok((claim, nodes))
    }
}

/// By how much more accuracy falls: the difference of two drops over the same questions, drawn anew together.
fn rise(less: &[Counts], more: &[Counts], resampler: &Resampler) -> Result<Option<Estimate>> {
    if less.len() != more.len() || less.is_empty() {
        return Ok(None);
    }
    let both = |(less, more): (&Counts, &Counts)| [less.factual, less.spurious, more.factual, more.spurious].concat();
    let curves = CurveSet::new(less.iter().zip(more).map(both))?;
    let found = |mean: Vec<f64>| {
        let share = |at: usize| match mean.get(2 * at..2 * at + 2) {
            Some([hits, of]) if *of > 0.0 => hits / of,
            _ => 0.0,
        };
        vec![(share(2) - share(3)) - (share(0) - share(1))]
    };
    Ok(resampler.statistics(&curves, found).into_iter().next())
}

fn above(id: &str, statement: &str, of: &Measured, at: usize, bound: f64) -> Found {
    let (estimate, node) = of.all[at].unzip();
    (claim_above(id, statement, estimate, bound), node.into_iter().collect())
}

/// That nothing falls where images say nothing: all of the interval is near 0.
fn none(of: &Measured) -> Found {
    let (estimate, node) = of.all[DROP].unzip();
    let claim = Claim {
        id: "nothing-at-chance".into(),
        statement: format!(
            "where images are by chance ({}) accuracy does not fall: the drop is within {NEAR} of nothing",
            of.group
        ),
        holds: estimate.is_some_and(|drop| drop.low > -NEAR && drop.high < NEAR),
        value: estimate.map_or(0.0, |drop| drop.value),
        low: estimate.map(|drop| drop.low),
        high: estimate.map(|drop| drop.high),
        bound: Some(NEAR),
    };
    (claim, node.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studies::correlation_qa::measure::estimates;

    #[test]
    fn a_rise_is_seen_question_by_question() {
        let of = |spurious: f64| {
            (0..50)
                .map(|_| Counts { factual: [1.0, 1.0], spurious: [spurious, 5.0], ..Counts::default() })
                .collect::<Vec<_>>()
        };
        let resampler = Resampler::new([1; 32], 40).unwrap();
        let found = rise(&of(5.0), &of(3.0), &resampler).unwrap().unwrap();
        assert!((found.value - 0.4).abs() < 1e-12 && (found.low - 0.4).abs() < 1e-12, "{found:?}");
        assert_eq!(rise(&of(5.0), &[], &resampler).unwrap(), None);
        let same = estimates(&of(5.0), &resampler).unwrap();
        assert_eq!(same[DROP].map(|drop| drop.value), Some(0.0));
    }
}
