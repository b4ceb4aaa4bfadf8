//! Lines through families of models, what is off them, and prompt sets against each other.

use rand_chacha::ChaCha8Rng;
use tracker_store::{Claim, Figure, NodeId, Recording};

use super::measure::{Measured, resampler};
use super::settings::CounterAnimal;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, claim_above};
use crate::parts::record::put_figure;
use crate::parts::robustness::{Compared, Comparison, Grid, leave_one_out};

type Found = (Claim, Vec<NodeId>);

/// A model under a prompt set over a label space.
pub(super) struct Member {
    /// The checkpoint: the same under every prompt set.
    pub(super) model: String,
    pub(super) family: String,
    pub(super) prompts: String,
    pub(super) space: String,
    /// Whether it has the discovery model's backbone or pre-training data.
    pub(super) is_near: bool,
    /// Its figures, that of the drop last.
    pub(super) nodes: [NodeId; 3],
}

/// Models with their accuracies, of images or as they are published.
pub(super) struct Census<'a> {
    /// What they are of: names stages.
    pub(super) name: &'a str,
    pub(super) members: &'a [Member],
    /// Common, then counter, as shares, of each member.
    pub(super) accuracies: &'a [[f64; 2]],
    /// Half the smallest step of an accuracy.
    pub(super) least: f64,
    /// Which images each got right, if that is known.
    pub(super) grid: Option<&'a Grid>,
}

impl<'a> Census<'a> {
    /// Models that were measured on images.
    pub(super) fn measured(name: &'a str, members: &'a [Member], measured: &'a Measured) -> Self {
        let grid = &measured.grid;
        Self { name, members, accuracies: &measured.accuracies, least: grid.least(), grid: Some(grid) }
    }

    /// Accuracies of images drawn anew; the same where no images are known.
    fn drawn(&self) -> impl Fn(&mut ChaCha8Rng) -> Vec<[f64; 2]> + Sync {
        |stream| self.grid.map_or_else(|| self.accuracies.to_vec(), |grid| grid.resampled(stream))
    }

    fn of(&self, is: impl Fn(&Member) -> bool) -> Vec<usize> {
        self.members.iter().enumerate().filter(|(_, member)| is(member)).map(|(at, _)| at).collect()
    }

    fn nodes(&self, of: &[usize]) -> Vec<NodeId> {
        of.iter().flat_map(|at| [self.members[*at].nodes[0], self.members[*at].nodes[1]]).collect()
    }
}

/// Fits and compares every family under every prompt set over every label space.
///
/// # Errors
/// Those of recording.
pub(super) async fn families(lab: &Lab, study: &CounterAnimal, census: &Census<'_>) -> Result<Vec<Found>> {
    let mut keys: Vec<[&str; 3]> = Vec::new();
    for member in census.members {
        let key = [member.space.as_str(), member.family.as_str(), member.prompts.as_str()];
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let reference = study.robustness.reference.as_str();
    let mut found = Vec::new();
    for [space, family, prompts] in &keys {
        let line = census.of(|of| of.space == *space && of.family == reference);
        let own = census.of(|of| [of.space.as_str(), &of.family, &of.prompts] == [*space, *family, *prompts]);
        found.extend(one(lab, study, census, &line, &own).await?);
    }
    for (at, [space, family, first]) in keys.iter().enumerate() {
        // The first prompt set of a family is held against its later ones.
        let is_first = !keys[..at].iter().any(|key| key[..2] == [*space, *family]);
        for [.., other] in keys.iter().skip(at + 1).filter(|key| is_first && key[..2] == [*space, *family]) {
            found.extend(prompt_sets(lab, study, census, [space, family], [first, other]).await?);
        }
    }
    Ok(found)
}

fn figure(name: &str, split: &str, n: usize, estimate: Estimate) -> Figure {
    let Estimate { value, low, high } = estimate;
    let (low, high, n) = (Some(low), Some(high), n as u64);
    Figure { name: name.to_owned(), value, low, high, n, unit: String::new(), split: split.to_owned() }
}

/// One family under one prompt set: its own line with residuals, and what it is against the line of the reference.
async fn one(
    lab: &Lab,
    study: &CounterAnimal,
    census: &Census<'_>,
    line: &[usize],
    own: &[usize],
) -> Result<Vec<Found>> {
    let Some(Member { space, family, prompts, .. }) = own.first().map(|at| &census.members[*at]) else {
        return Ok(vec![]);
    };
    let (robustness, resampler) = (&study.robustness, resampler(lab, study)?);
    let stage = lab.stage(&format!("fit {}, {space}, {family}, {prompts}", census.name), own.len()).await?;
    let of = |reference: &[usize], against: &[usize]| Comparison {
        scale: robustness.scale,
        least: census.least,
        reference: reference.to_vec(),
        against: against.to_vec(),
        draws_models: true,
    };
    let compare = |comparison: &Comparison| comparison.compare(census.accuracies, &resampler, census.drawn());
    let fitted = of(own, own);
    let mut recording = Recording::new();
    if let Some(Compared { intercept, slope, r2, each, n_lineless, .. }) = compare(&fitted) {
        for (k, (name, estimate)) in (0..).zip([("slope", slope), ("intercept", intercept), ("R²", r2)]) {
            put_figure(
                lab,
                &mut recording,
                stage.row(0, k),
                &figure(name, family, own.len(), estimate),
                &census.nodes(own),
            )?;
        }
        if n_lineless > 0 {
            lab.note(format!("{}: {n_lineless} resamples of models had no line", stage.name()));
        }
        let without = leave_one_out(&fitted.points(census.accuracies));
        for (item, ((at, residual), without)) in (2..).zip(own.iter().zip(&each).zip(without)) {
            let member = &census.members[*at];
            let residual = figure("residual", &member.model, 1, *residual);
            put_figure(lab, &mut recording, stage.row(item, 0), &residual, &census.nodes(&[*at]))?;
            if let Some(without) = without {
                let slope = figure("slope without it", &member.model, own.len() - 1, Estimate::exactly(without.slope));
                put_figure(lab, &mut recording, stage.row(item, 1), &slope, &census.nodes(own))?;
            }
        }
    }
    let mut found = Vec::new();
    if *family != robustness.reference && !line.is_empty() {
        let far: Vec<usize> = own.iter().copied().filter(|at| !census.members[*at].is_near).collect();
        let all = compare(&of(line, own));
        for (item, (at, off)) in (2..).zip(own.iter().zip(all.iter().flat_map(|all| &all.each))) {
            let off = figure("effective robustness", &census.members[*at].model, 1, *off);
            let used = [census.nodes(&[*at]), census.nodes(line)].concat();
            put_figure(lab, &mut recording, stage.row(item, 2), &off, &used)?;
        }
        for (k, (which, of_which)) in (0..).zip([("", own), (", none near the discovery model", &far)]) {
            if k == 1 && (far.len() == own.len() || far.is_empty()) {
                continue;
            }
            let compared = if k == 0 { all.clone() } else { compare(&of(line, of_which)) };
            let Some(mean) = compared.and_then(|compared| compared.mean) else { continue };
            let name = format!("mean effective robustness{which}");
            let used = [census.nodes(of_which), census.nodes(line)].concat();
            let node =
                put_figure(lab, &mut recording, stage.row(1, k), &figure(&name, family, of_which.len(), mean), &used)?;
            let statement = format!(
                "{}, {space}: {family} ({prompts}{which}) is less robust than {} of the same accuracy on the common group: mean effective robustness below 0",
                census.name, robustness.reference
            );
            let claim = Claim {
                id: format!("less-robust: {}, {space}, {family}, {prompts}{which}", census.name),
                statement,
                holds: mean.high < 0.0,
                value: mean.value,
                low: Some(mean.low),
                high: Some(mean.high),
                bound: Some(0.0),
            };
            found.push((claim, vec![node]));
        }
    }
    lab.record(recording).await?;
    Ok(found)
}

/// The same checkpoints under two prompt sets.
async fn prompt_sets(
    lab: &Lab,
    study: &CounterAnimal,
    census: &Census<'_>,
    [space, family]: [&str; 2],
    [first, other]: [&str; 2],
) -> Result<Option<Found>> {
    let line = census.of(|of| of.space == space && of.family == study.robustness.reference);
    let under = |prompts: &str| census.of(|of| of.space == space && of.family == family && of.prompts == prompts);
    let others = under(other);
    let of_model =
        |at: usize| others.iter().copied().find(|other| census.members[*other].model == census.members[at].model);
    let pairs: Vec<(usize, usize)> = under(first).into_iter().filter_map(|at| Some((at, of_model(at)?))).collect();
    let (before, after): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
    let n = before.len();
    let comparison = Comparison {
        scale: study.robustness.scale,
        least: census.least,
        reference: line.clone(),
        against: before.clone(),
        draws_models: true,
    };
    let gain = comparison.paired(&after, census.accuracies, &resampler(lab, study)?, census.drawn());
    let Some(gain) = gain else { return Ok(None) };
    let stage = lab.stage(&format!("prompts {}, {space}, {family}: {other} less {first}", census.name), 1).await?;
    let used = [census.nodes(&before), census.nodes(&after), census.nodes(&line)].concat();
    let node = stage.figure(0, "gain in mean effective robustness", gain, n, &used).await?;
    let statement = format!(
        "{}, {space}: prompts `{other}` raise the effective robustness of the same {n} checkpoints of {family} against prompts `{first}`",
        census.name
    );
    let id = format!("prompts: {}, {space}, {family}, {other} less {first}", census.name);
    Ok(Some((claim_above(&id, &statement, Some(gain), 0.0), vec![node])))
}
