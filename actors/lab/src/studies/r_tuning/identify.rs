//! Which questions a model knows the answer to: by whether it gives it (D1, else D0), and by the entropy of its samples.

use std::collections::BTreeMap;

use tracker_store::{NodeId, Recording};

use super::items::{Item, Task};
use super::room::{Room, kind, reward, yes};
use super::speaker::{Said, Speaker};
use crate::error::Result;
use crate::parts::aggregate::majority;
use crate::parts::certainty::{Given, Matcher, Refusals};
use crate::parts::evaluate::{Estimate, mean};
use crate::parts::record::record_series;
use crate::parts::rows::Gold;
use crate::parts::vendi::answer_entropy;

/// Labels of one task's questions to train on, in their order.
pub(super) struct Labels {
    /// By the deciding matcher: D1.
    pub(super) certain: Vec<bool>,
    /// Those labels, recorded.
    pub(super) nodes: Vec<NodeId>,
    /// By the entropy of samples: D1.
    pub(super) steady: Vec<bool>,
    /// Those labels, recorded.
    pub(super) steady_nodes: Vec<NodeId>,
    /// What the model answers most often.
    pub(super) majority: Vec<String>,
    /// What was found of the labels.
    pub(super) figures: Figures,
}

/// Figures that claims rest on.
#[derive(Default)]
pub(super) struct Figures {
    /// Share of labels by answers that agree with how often facts were met, less that of labels by entropy.
    pub(super) agreement: Vec<(Option<Estimate>, NodeId)>,
    /// Mean log-perplexity of what is not known less that of what is.
    pub(super) perplexity: Option<(Estimate, NodeId)>,
}

/// Whether an answer is right by a matcher, and why, in words.
pub(super) fn judge(matcher: Matcher, item: &Item, said: &Said) -> (bool, &'static str) {
    match &item.gold {
        Gold::Unsaid => (false, "nobody said what is right"),
        // Letters are compared with letters.
        Gold::Choice { .. } if said.text == item.said() => (true, "the letter"),
        Gold::Choice { .. } => (false, "another letter"),
        Gold::Texts(_) if said.text.is_empty() => (false, "no answer"),
        Gold::Texts(texts) if matcher.is_right(&said.text, texts) => (true, "the right answer"),
        Gold::Texts(_) if Refusals::is_refusal(&said.text, &[]) => (false, "a refusal"),
        Gold::Texts(_) => (false, "another answer"),
    }
}

/// Answers of a speaker to questions of a task: letters to choices, texts to the others.
pub(super) async fn answer(
    room: &Room<'_>,
    speaker: &Speaker,
    stage: &crate::lab::Stage<'_>,
    items: &[Item],
    max_tokens: u32,
) -> Result<Vec<Said>> {
    if items.iter().any(|item| !item.letters().is_empty()) {
        speaker.letters(room, stage, items).await
    } else {
        speaker.answers(room, stage, items, max_tokens).await
    }
}

/// Labels every question to train on; answers have as many tokens as where models are measured.
pub(super) async fn identify(room: &Room<'_>, speaker: &Speaker, task: &Task) -> Result<Labels> {
    let (lab, items) = (room.lab, &task.train.items);
    let stage = lab.stage(&format!("identify/{}", task.name), items.len()).await?;
    let said = answer(room, speaker, &stage, items, task.max_tokens).await?;
    let (mut certain, mut nodes) = (Vec::new(), Vec::new());
    let mut recording = Recording::new();
    for (item, said) in items.iter().zip(&said) {
        for (at, (matcher, node)) in room.matchers.iter().enumerate() {
            let (is_right, reason) = judge(*matcher, item, said);
            let kind = format!("label: {reason}");
            let label = recording.put_reward(said.row, &reward(*node, &kind, vec![yes(is_right)]))?;
            if at == 0 {
                certain.push(is_right);
                nodes.push(label);
            }
        }
    }
    lab.record(recording).await?;

    // Without labels: the entropy of all k samples.
    let stage = lab.stage(&format!("identify/{}/samples", task.name), items.len()).await?;
    let samples = speaker.samples(room, &stage, items, task.max_tokens).await?;
    let entropies: Vec<f64> = samples
        .iter()
        .map(|of| answer_entropy(&of.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>()))
        .collect();
    let steady = steadiest(&entropies, room.plan.identify.unknown);
    let mut steady_nodes = Vec::with_capacity(items.len());
    let mut modes = Vec::with_capacity(items.len());
    let mut recording = Recording::new();
    for ((of, u), is_steady) in samples.iter().zip(&entropies).zip(&steady) {
        let texts: Vec<Option<&str>> = of.iter().map(|(_, text)| Some(text.as_str())).collect();
        modes.push(majority(&texts).map_or_else(String::new, |place| of[place].1.clone()));
        let Some((row, _)) = of.first() else { continue };
        recording.put_reward(*row, &reward(room.entropy, kind::ENTROPY, vec![*u]))?;
        let half = if *is_steady { "label: low entropy" } else { "label: high entropy" };
        steady_nodes.push(recording.put_reward(*row, &reward(room.entropy, half, vec![yes(*is_steady)]))?);
    }
    lab.record(recording).await?;
    let mut labels = Labels { certain, nodes, steady, steady_nodes, majority: modes, figures: Figures::default() };
    shares(room, task, &labels).await?;
    if room.facts.is_some() {
        labels.figures.agreement = agreement(room, task, &labels).await?;
    }
    if let Speaker::Local { model, .. } = speaker {
        let perplexities = perplexities(room, model, items).await?;
        labels.figures.perplexity = perplexity(room, task, &labels, &perplexities).await?;
    }
    Ok(labels)
}

/// D1 by entropy: all but the share `unknown` of greatest entropy. Of equals, those that stand first are kept as known.
pub(super) fn steadiest(entropies: &[f64], unknown: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..entropies.len()).collect();
    order.sort_by(|a, b| entropies[*a].total_cmp(&entropies[*b]));
    let n_known = entropies.len() - (unknown * entropies.len() as f64).round() as usize;
    let mut steady = vec![false; entropies.len()];
    for at in order.into_iter().take(n_known) {
        steady[at] = true;
    }
    steady
}

/// Records the share of D0 in each domain.
async fn shares(room: &Room<'_>, task: &Task, labels: &Labels) -> Result<()> {
    let stage = room.lab.stage(&format!("identify/{}/domains", task.name), 1).await?;
    let mut domains: BTreeMap<&str, (Vec<f64>, Vec<NodeId>)> = BTreeMap::new();
    for ((item, is_certain), node) in task.train.items.iter().zip(&labels.certain).zip(&labels.nodes) {
        let (values, nodes) = domains.entry(&item.domain).or_default();
        values.push(yes(!is_certain));
        nodes.push(*node);
    }
    for (at, (domain, (values, nodes))) in domains.into_iter().enumerate() {
        let mut stream = room.lab.seeds().stream(stage.name(), at as u32, 0);
        if let Some(estimate) = mean(&values, &mut stream) {
            stage.figure(at as u32, &format!("D0 share of {domain}"), estimate, values.len(), &nodes).await?;
        }
    }
    stage.done(1);
    Ok(())
}

/// How well labels agree with how often the model met each fact: of labels by answers, of those by entropy, and the difference.
async fn agreement(room: &Room<'_>, task: &Task, labels: &Labels) -> Result<Vec<(Option<Estimate>, NodeId)>> {
    let Some(facts) = &room.facts else { return Ok(vec![]) };
    let known: Vec<bool> =
        task.train.items.iter().map(|item| facts.is_known(item.exposure.unwrap_or_default())).collect();
    let agrees = |labels: &[bool]| -> Vec<f64> { labels.iter().zip(&known).map(|(a, b)| yes(a == b)).collect() };
    let (certain, steady) = (agrees(&labels.certain), agrees(&labels.steady));
    let share = |of: &[f64], counts: &[u32]| {
        let n: u32 = counts.iter().sum();
        let sum: f64 = of.iter().zip(counts).map(|(x, n)| x * f64::from(*n)).sum();
        (n > 0).then(|| sum / f64::from(n))
    };
    let found = room.resampler()?.counted(&[known.len()], |counts| {
        let [a, b] = [share(&certain, &counts[0]), share(&steady, &counts[0])];
        vec![a, b, a.zip(b).map(|(a, b)| a - b)]
    });
    let stage = room.lab.stage(&format!("identify/{}/truth", task.name), 1).await?;
    let names = ["labels by answers that agree with exposure", "labels by entropy that agree", "answers less entropy"];
    let all: Vec<NodeId> = labels.nodes.iter().chain(&labels.steady_nodes).copied().collect();
    let used = [&labels.nodes, &labels.steady_nodes, &all];
    let mut nodes = Vec::new();
    for (at, (estimate, name)) in found.iter().zip(names).enumerate() {
        let value = estimate.unwrap_or(Estimate::exactly(0.0));
        nodes.push((*estimate, stage.figure(at as u32, name, value, known.len(), used[at]).await?));
    }
    // The share of D1 by how often a fact was met, without a bound between known and not.
    for (name, of) in [("answers", &labels.certain), ("entropy", &labels.steady)] {
        let mut levels: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for (item, is_known) in task.train.items.iter().zip(of) {
            let (sum, n) = levels.entry(item.exposure.unwrap_or_default()).or_default();
            *sum += yes(*is_known);
            *n += 1.0;
        }
        let points = levels.into_iter().map(|(level, (sum, n))| (i64::from(level), sum / n));
        record_series(room.lab, &format!("D1 by exposure/{}/{name}", task.name), points).await?;
    }
    stage.done(1);
    Ok(nodes)
}

/// exp of the mean −ln p of each question's tokens, given what stands before it; its logarithm.
async fn perplexities(room: &Room<'_>, model: &std::sync::Arc<tracker_lm::Lm>, items: &[Item]) -> Result<Vec<f64>> {
    let pairs = items.iter().map(|item| {
        let [before, question, after] = room.template.parts(&item.question);
        // Shots stand before the template.
        let shots = item.prompt.len() - (before.len() + question.len() + after.len());
        (&item.prompt[..shots + before.len()], question)
    });
    let log_probs = room.likelihood.ask(Given::new(model, pairs)?).await?;
    Ok(log_probs.iter().map(|of| -of.iter().sum::<f64>() / of.len().max(1) as f64).collect())
}

/// Perplexity of what is not known and of what is, under the model that was asked.
async fn perplexity(room: &Room<'_>, task: &Task, labels: &Labels, logs: &[f64]) -> Result<Option<(Estimate, NodeId)>> {
    let of = |is_known: bool| -> (Vec<f64>, Vec<NodeId>) {
        let all = logs.iter().zip(&labels.certain).zip(&labels.nodes);
        all.filter(|((_, certain), _)| **certain == is_known).map(|((log, _), node)| (*log, *node)).unzip()
    };
    let ((unknown, unknown_nodes), (known, known_nodes)) = (of(false), of(true));
    let average = |of: &[f64], counts: &[u32], map: fn(f64) -> f64| {
        let n: u32 = counts.iter().sum();
        let sum: f64 = of.iter().zip(counts).map(|(x, n)| map(*x) * f64::from(*n)).sum();
        (n > 0).then(|| sum / f64::from(n))
    };
    let found = room.resampler()?.counted(&[unknown.len(), known.len()], |counts| {
        let [a, b] = [average(&unknown, &counts[0], libm::exp), average(&known, &counts[1], libm::exp)];
        let [c, d] = [average(&unknown, &counts[0], |x| x), average(&known, &counts[1], |x| x)];
        vec![a, b, c.zip(d).map(|(c, d)| c - d)]
    });
    let stage = room.lab.stage(&format!("identify/{}/perplexity", task.name), 1).await?;
    let both: Vec<NodeId> = unknown_nodes.iter().chain(&known_nodes).copied().collect();
    let names = ["perplexity of D0", "perplexity of D1", "log-perplexity, D0 less D1"];
    let used = [(&unknown_nodes, unknown.len()), (&known_nodes, known.len()), (&both, logs.len())];
    let mut last = None;
    for (at, (estimate, name)) in found.into_iter().zip(names).enumerate() {
        let (nodes, n) = used[at];
        last = match estimate {
            Some(estimate) => Some((estimate, stage.figure(at as u32, name, estimate, n, nodes).await?)),
            None => None,
        };
    }
    stage.done(1);
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_questions_is_not_known_by_entropy_whatever_the_ties() {
        assert_eq!(steadiest(&[0.3, 0.1, 0.9, 0.2], 0.5), [false, true, false, true]);
        // Of equals the first are kept as known; none is lost.
        assert_eq!(steadiest(&[0.0; 4], 0.5), [true, true, false, false]);
        assert_eq!(steadiest(&[0.5, 0.4, 0.3], 0.5).iter().filter(|known| **known).count(), 1);
        assert_eq!((steadiest(&[0.1, 0.2], 0.0), steadiest(&[0.1, 0.2], 1.0)), (vec![true; 2], vec![false; 2]));
        assert!(steadiest(&[], 0.5).is_empty());
    }
}
