//! From measured models to claims.

use tracker_store::{Claim, NodeId};

use super::figures::{Number, apart, compare};
use super::identify::Labels;
use super::measure::Measured;
use super::room::Room;
use super::settings::Method;
use crate::error::Result;
use crate::parts::evaluate::{Estimate, claim_above};

type Found = (Claim, Vec<NodeId>);

/// Agreement of labels with exposure that counts as following it.
const AGREES: f64 = 0.8;

/// What a run has found.
pub(super) struct Evidence<'a> {
    /// Name of the first task, and labels of its questions.
    pub(super) task: &'a str,
    pub(super) labels: &'a Labels,
    pub(super) measured: &'a [Measured],
}

impl Evidence<'_> {
    /// A model of some tasks under a method, on a set.
    fn find(&self, group: &str, method: Method, on: &str) -> Option<&Measured> {
        let label = format!("{group}/{}", method.name());
        self.measured.iter().find(|measured| measured.label == label && measured.on == on && measured.method == method)
    }
}

/// Compares and records; returns the claims.
///
/// # Errors
/// Those of recording.
pub(super) async fn claims(room: &Room<'_>, evidence: &Evidence<'_>) -> Result<Vec<Claim>> {
    let mut all: Vec<Found> = Vec::new();
    precision(room, evidence, &mut all).await?;
    refusals(room, evidence, &mut all).await?;
    labels(evidence, &mut all);
    room.lab.claims(all).await
}

fn above(id: &str, statement: &str, found: Option<(Estimate, Vec<NodeId>)>, bound: f64) -> Option<Found> {
    let (estimate, nodes) = found?;
    Some((claim_above(id, statement, Some(estimate), bound), nodes))
}

/// Of methods on the same questions: average precision and calibration. What is compared on other tasks, and with R-Tuning-U, is
/// recorded with its interval and claimed of nobody.
async fn precision(room: &Room<'_>, evidence: &Evidence<'_>, all: &mut Vec<Found>) -> Result<()> {
    let task = evidence.task;
    let places = [("in domain", "in"), ("out of domain", "out")];
    for (group, on) in others(room, task) {
        for (place, _) in places {
            let on = format!("{on}/{place}");
            let pair = evidence.find(&group, Method::R, &on).zip(evidence.find(&group, Method::Vanilla, &on));
            if let Some((r, vanilla)) = pair {
                compare(room, Number::Ap, [r, vanilla]).await?;
            }
        }
    }
    for (first, second, number, claim) in [
        (Method::R, Method::Vanilla, Number::Ap, Some(("r-above-vanilla", "AP of R-Tuning is above that of Vanilla"))),
        (Method::R, Method::VanillaC, Number::Ap, Some(("r-above-votes", "AP of R-Tuning is above that of Vanilla-C"))),
        (Method::RU, Method::Vanilla, Number::Ap, None),
        (Method::R, Method::RU, Number::Ap, None),
        (
            Method::VanillaC,
            Method::R,
            Number::Ece,
            Some(("r-calibrated", "the calibration error of Vanilla-C is above that of R-Tuning")),
        ),
    ] {
        for (place, short) in places {
            let on = format!("{task}/{place}");
            let pair = evidence.find(task, first, &on).zip(evidence.find(task, second, &on));
            let Some((first, second)) = pair else { continue };
            let found = compare(room, number, [first, second]).await?;
            if let Some((id, statement)) = claim {
                all.extend(above(&format!("{id}-{short}"), &format!("{statement}, {on}"), found, 0.0));
            }
        }
    }
    Ok(())
}

/// Models of other tasks and of all together, and the tasks they are measured on.
fn others(room: &Room<'_>, task: &str) -> Vec<(String, String)> {
    let names = room.asked.tasks.iter().map(|task| task.name.clone());
    let alone = names.clone().filter(|name| name != task).map(|name| (name.clone(), name));
    alone.chain(names.map(|name| ("together".to_owned(), name))).collect()
}

/// Refusal rate beside over-refusal.
async fn refusals(room: &Room<'_>, evidence: &Evidence<'_>, all: &mut Vec<Found>) -> Result<()> {
    let task = evidence.task;
    for method in [Method::R, Method::RRefuse, Method::Vanilla] {
        let name = method.name();
        let [without, with] = ["unanswerable", "control"].map(|on| evidence.find(task, method, on));
        let Some((without, with)) = without.zip(with) else { continue };
        let found = apart(room, [without, with]).await?;
        // Who was never taught to refuse is measured beside the others.
        if method == Method::Vanilla {
            continue;
        }
        let statement =
            format!("{name} refuses a greater share of what has no answer than of the control that has one");
        all.extend(above(&format!("{name}-tells-apart"), &statement, found, 0.0));
        let Some(vanilla) = evidence.find(task, Method::Vanilla, "unanswerable") else { continue };
        let found = compare(room, Number::Refusals, [without, vanilla]).await?;
        let statement = format!("{name} refuses more of what has no answer than Vanilla does");
        all.extend(above(&format!("{name}-refuses-more"), &statement, found, 0.0));
    }
    Ok(())
}

/// Labels against what is true, and perplexity of what is not known.
fn labels(evidence: &Evidence<'_>, all: &mut Vec<Found>) {
    let figures = &evidence.labels.figures;
    if let [(answers, answers_node), (_, entropy_node), (less, less_node)] = figures.agreement.as_slice() {
        let statement =
            format!("the share of labels by answers that agree with how often facts were met is above {AGREES}");
        all.push((claim_above("labels-follow-exposure", &statement, *answers, AGREES), vec![*answers_node]));
        let statement = "labels by answers agree more with how often facts were met than labels by entropy do";
        let nodes = vec![*less_node, *entropy_node];
        all.push((claim_above("answers-label-better-than-entropy", statement, *less, 0.0), nodes));
    }
    if let Some((estimate, node)) = figures.perplexity {
        let statement = "questions that are not known have a greater mean log-perplexity than those that are";
        all.push((claim_above("unknown-is-perplexing", statement, Some(estimate), 0.0), vec![node]));
    }
}
