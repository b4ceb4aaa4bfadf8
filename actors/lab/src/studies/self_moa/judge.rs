//! What the judge says: ratings of candidates, and how far each arm's answers are preferred to a baseline's, at any length and with
//! lengths made equal.

use std::collections::HashMap;

use rand::RngExt;
use tracker_store::{Edge, NodeId, Recording, Relation, Reward};

use super::arms::{Arm, Slots};
use super::small::read;
use super::world::{Answer, Judge, Query, World};
use crate::error::Result;
use crate::parts::duel::duel;
use crate::parts::evaluate::{Estimate, interval};
use crate::parts::length_control::{DEFINITION, Judged, difficulty, fit};
use crate::parts::rate::{Case, N_RATINGS, rated};
use crate::parts::record::record_members;
use crate::parts::reward::Scoring;

/// Resamples behind intervals of win rates, each of which is a fit.
const N_RESAMPLES: usize = 400;
/// A score this close to 0 or 1 is taken for this: what is surer has no logit.
const SUREST: f64 = 1e-6;

impl Judge {
    /// Calls that one rating takes.
    pub(super) fn n_calls(&self) -> u64 {
        match self {
            Self::Small { .. } => 1,
            Self::Served(_) => u64::from(N_RATINGS),
        }
    }
}

/// The scores of every query's candidates, in [0, 1], recorded as rewards; of a text without a token 0.
pub(super) async fn rate(world: &World<'_>, name: &str, judge: &Judge, slots: &Slots<'_>) -> Result<Vec<Vec<f64>>> {
    let stage = world.lab.stage(&format!("{name}/rate"), slots.len()).await?;
    let pairs: Vec<(&Query, &Answer)> =
        world.test.iter().zip(slots).flat_map(|(query, of)| of.iter().map(move |answer| (query, *answer))).collect();
    let (scores, said) = match judge {
        Judge::Small { .. } => (score(judge, &pairs).await?, vec![None; pairs.len()]),
        Judge::Served(policy) => {
            let mut cases = Vec::with_capacity(pairs.len());
            for (item, (query, answer)) in (0..).zip(pairs.iter().copied()) {
                cases.push(Case { subject: query.node, prompt: &query.text, answer: &answer.text, item });
            }
            let mut all = Vec::with_capacity(cases.len());
            for batch in cases.chunks(policy.n_prompts(N_RATINGS)) {
                world.lab.check()?;
                all.extend(rated(world.lab, &stage, policy, batch).await?);
            }
            (all.iter().map(|said| said.value).collect(), all.iter().map(|said| Some(said.from)).collect())
        }
    };
    let mut recording = Recording::new();
    for (((_, answer), score), said) in pairs.iter().zip(&scores).zip(said) {
        // One that is asked again may say something else.
        let kind = format!("rating, {name}");
        let reward = Reward { scorer: judge.node(), kind, values: vec![*score], tallies: vec![] };
        let node = recording.put_reward(answer.row, &reward)?;
        if let Some(said) = said {
            recording.put_edge(world.lab.run(), &Edge::new(node, Relation::Used, said))?;
        }
    }
    world.lab.record(recording).await?;
    stage.done(slots.len());
    let mut scores = scores.into_iter();
    Ok(slots.iter().map(|of| scores.by_ref().take(of.len()).collect()).collect())
}

/// What the small reward model says of each answer; 0 of one without a token.
async fn score(judge: &Judge, pairs: &[(&Query, &Answer)]) -> Result<Vec<f64>> {
    let Judge::Small { judge, scorer, reader } = judge else { return Ok(vec![]) };
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    for (place, (query, answer)) in pairs.iter().enumerate() {
        if let Some(steps) = read(reader, query, answer)? {
            places.push(place);
            asked.push(steps);
        }
    }
    let mut scores = vec![0.0; pairs.len()];
    let said = scorer.ask(Scoring { model: judge.model.clone(), asked: asked.into() }).await?;
    for (place, said) in places.into_iter().zip(said) {
        scores[place] = said.iter().flatten().next_back().copied().unwrap_or(0.0);
    }
    Ok(scores)
}

/// Compares the answers of each arm that has one with those of `baseline`, and records raw and length-controlled win rates.
pub(super) async fn prefer(world: &World<'_>, judge: &Judge, arms: &[&Arm], baseline: &Arm) -> Result<()> {
    let lab = world.lab;
    lab.define("length-controlled win rate", &format!("{DEFINITION}; baseline: first answers of `{}`", baseline.name))
        .await?;
    let given: Vec<&Answer> = baseline.outcomes.iter().filter_map(|outcome| outcome.answer.as_ref()).collect();
    let mut all: Vec<(&Arm, Vec<Judged>, NodeId)> = Vec::new();
    for arm in arms {
        let answers: Vec<&Answer> = arm.outcomes.iter().filter_map(|outcome| outcome.answer.as_ref()).collect();
        if answers.len() != world.test.len() || given.len() != answers.len() {
            continue;
        }
        let compared = compare(world, judge, &arm.name, &answers, &given).await?;
        let length = |answer: &Answer| answer.text.chars().count() as f64;
        let judged = compared.iter().zip(answers.iter().zip(&given)).map(|((preference, _), (own, other))| Judged {
            preference: *preference,
            longer: length(own) - length(other),
        });
        let content: Vec<String> = compared.iter().map(|(preference, _)| preference.to_string()).collect();
        let name = format!("preferences {}", arm.name);
        let nodes = compared.iter().map(|(_, node)| *node);
        let dataset = record_members(lab, &name, "results", &content.join("\n"), nodes).await?;
        all.push((*arm, judged.collect(), dataset));
    }
    let stage = lab.stage("win rates", all.len()).await?;
    let preferences: Vec<Vec<f64>> =
        all.iter().map(|(_, judged, _)| judged.iter().map(|one| one.preference).collect()).collect();
    for (at, (arm, judged, dataset)) in all.iter().enumerate() {
        let others = preferences.iter().enumerate().filter(|(other, _)| *other != at);
        let hard = difficulty(&others.map(|(_, of)| of.as_slice()).collect::<Vec<_>>());
        let whole = fit(judged, hard.as_deref())?;
        let mut stream = lab.seeds().stream(stage.name(), at as u32, 0);
        let (mut raw, mut controlled) = (Vec::new(), Vec::new());
        for _ in 0..N_RESAMPLES {
            let rows: Vec<usize> = judged.iter().map(|_| stream.random_range(0..judged.len())).collect();
            let drawn: Vec<Judged> = rows.iter().map(|row| judged[*row]).collect();
            let of_rows = hard.as_ref().map(|hard| rows.iter().map(|row| hard[*row]).collect::<Vec<f64>>());
            let again = fit(&drawn, of_rows.as_deref())?;
            raw.push(again.raw);
            controlled.push(again.controlled);
        }
        let first = 10 * at as u32;
        let used = [*dataset, judge.node()];
        let rates: [(&str, Estimate); 2] = [
            ("win rate", interval(whole.raw, raw)),
            ("length-controlled win rate", interval(whole.controlled, controlled)),
        ];
        for (item, (name, estimate)) in (first..).zip(rates) {
            stage.figure(item, &format!("{name}, {}", arm.name), estimate, judged.len(), &used).await?;
        }
    }
    stage.done(all.len());
    Ok(())
}

/// How far each answer is preferred to the other one, in [0, 1], with the record that says so. Answers that are equal are not put
/// to the judge: they tie.
async fn compare(
    world: &World<'_>,
    judge: &Judge,
    name: &str,
    answers: &[&Answer],
    others: &[&Answer],
) -> Result<Vec<(f64, NodeId)>> {
    let lab = world.lab;
    let stage = lab.stage(&format!("{name}/prefer"), answers.len()).await?;
    let differ: Vec<usize> = (0..answers.len()).filter(|at| answers[*at].text != others[*at].text).collect();
    let mut found: HashMap<usize, (f64, Vec<NodeId>)> = HashMap::new();
    match judge {
        Judge::Small { .. } => {
            let pairs =
                differ.iter().flat_map(|at| [answers[*at], others[*at]].map(|answer| (&world.test[*at], answer)));
            let scores = score(judge, &pairs.collect::<Vec<_>>()).await?;
            for (at, scores) in differ.iter().zip(scores.chunks(2)) {
                let [own, other] = [0, 1].map(|i| scores[i].clamp(SUREST, 1.0 - SUREST));
                // The logistic function of the difference of logits.
                let preference = own * (1.0 - other) / (own * (1.0 - other) + other * (1.0 - own));
                found.insert(*at, (preference, vec![]));
            }
        }
        Judge::Served(policy) => {
            for batch in differ.chunks(policy.n_prompts(2 * N_RATINGS)) {
                lab.check()?;
                let case = |at: &usize| {
                    let (query, item) = (&world.test[*at], *at as u32);
                    Case { subject: query.node, prompt: &query.text, answer: &answers[*at].text, item }
                };
                let cases: Vec<Case<'_>> = batch.iter().map(case).collect();
                let opponents: Vec<&str> = batch.iter().map(|at| &*others[*at].text).collect();
                let said = duel(lab, &stage, policy, &cases, &opponents).await?;
                found.extend(batch.iter().zip(said).map(|(at, (share, from))| (*at, (share, from.to_vec()))));
            }
        }
    }
    let mut recording = Recording::new();
    let mut all = Vec::with_capacity(answers.len());
    for (at, (own, other)) in answers.iter().zip(others).enumerate() {
        let (preference, from) = found.remove(&at).unwrap_or((0.5, vec![]));
        let kind = format!("preference, {name}");
        let reward = Reward { scorer: judge.node(), kind, values: vec![preference], tallies: vec![] };
        let node = recording.put_reward(own.row, &reward)?;
        for (order, used) in (0..).zip(std::iter::once(other.node()).chain(from)) {
            recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, used).at(order))?;
        }
        all.push((preference, node));
    }
    lab.record(recording).await?;
    stage.done(all.len());
    Ok(all)
}
