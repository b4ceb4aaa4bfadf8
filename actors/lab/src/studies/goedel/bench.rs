//! The held-out benchmark: which statements, and how a policy scores on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use tracker_store::{Digest, NodeId};

use super::base::Provers;
use super::settings::Goedel;
use crate::error::Result;
use crate::lab::{Lab, Stage};
use crate::parts::attempt::{Attempts, attempt};
use crate::parts::evaluate::{Estimate, mean, paired_gain, pass_at_k};
use crate::parts::formalise::Formaliser;
use crate::parts::generate::Policy;
use crate::parts::problems::{Posed, generate, read_jsonl};
use crate::parts::record::record_members;
use crate::parts::statements::{Formal, given};

/// Where figures of drift stand in their stage, past every budget k.
const FIRST_DRIFT_ITEM: u32 = 1_000_000;
/// Where figures of single levels stand.
const FIRST_LEVEL_ITEM: u32 = 2_000_000;

/// Statements nobody trains on.
pub(super) struct Benchmark {
    statements: Vec<Formal>,
    canonical: BTreeSet<Digest>,
    node: NodeId,
}

impl Benchmark {
    /// Generates it, or reads it from its file.
    pub(super) async fn open(lab: &Lab, plan: &Goedel, provers: &Provers) -> Result<Self> {
        let settings = &plan.benchmark;
        let posed = if settings.file.is_empty() {
            let seed = lab.seeds().seed("benchmark", 0, 0);
            let mut posed = generate(seed, settings.n as usize, &settings.levels, &BTreeSet::new())?;
            for (i, posed) in posed.iter_mut().enumerate() {
                write_out(i, posed);
            }
            posed
        } else {
            read_jsonl(Path::new(&settings.file), &settings.split, settings.n as usize)?
        };
        provers.probe_headers(&posed).await?;
        let statements = given(lab, "benchmark", &posed).await?;
        let canonical: BTreeSet<Digest> = statements.iter().map(|s| s.record.canonical).collect();
        let content: Vec<String> = statements.iter().map(|s| s.node.to_string()).collect();
        let members = statements.iter().map(|statement| statement.node);
        let node = record_members(lab, "benchmark", "benchmark", &content.join("\n"), members).await?;
        Ok(Self { statements, canonical, node })
    }

    /// Canonical forms of its statements.
    pub(super) fn canonical(&self) -> &BTreeSet<Digest> {
        &self.canonical
    }

    /// Samples, verifies and records; figures for every budget k.
    pub(super) async fn score(
        &self,
        lab: &Lab,
        plan: &Goedel,
        provers: &Provers,
        label: &str,
        policy: &Policy,
    ) -> Result<Score> {
        let settings = &plan.benchmark;
        let name = format!("{label}/benchmark");
        let tasks: Vec<_> = self.statements.iter().map(|s| s.task(plan.policy.template)).collect();
        let sampling = tracker_store::Sampling { temperature: settings.temperature, ..plan.sampling() };
        let attempts = attempt(lab, &name, policy, &provers.verifiers, &tasks, settings.n_samples, &sampling).await?;
        let results = self.results(lab, &name, &attempts).await?;
        let used = [results, self.node, policy.node()];
        let stage = lab.stage(&format!("{label}/figures"), 1).await?;
        let mut score = Score { curve: BTreeMap::new() };
        for k in &settings.k {
            let passes: Vec<Option<f64>> = attempts.iter().map(|a| pass_at_k(a.n(), a.c(), *k)).collect();
            let counted: Vec<f64> = passes.iter().flatten().copied().collect();
            let mut stream = lab.seeds().stream(&name, 0, *k);
            let Some(estimate) = mean(&counted, &mut stream) else { continue };
            let figure = stage.figure(*k, &format!("pass@{k}"), estimate, counted.len(), &used).await?;
            score.curve.insert(*k, (passes, figure));
        }
        self.by_level(lab, &stage, &score, &used).await?;
        self.drift(lab, &stage, &attempts, &used).await?;
        stage.done(1);
        Ok(score)
    }

    /// The verdicts a score rests on, as one dataset, so that every figure has one edge to all of them.
    async fn results(&self, lab: &Lab, name: &str, attempts: &[Attempts]) -> Result<NodeId> {
        let all = || attempts.iter().flat_map(|a| &a.0);
        let content: Vec<String> = all().map(|a| format!("{}\t{}", a.outcome, a.text)).collect();
        record_members(lab, name, "results", &content.join("\n"), all().map(|attempt| attempt.verdict)).await
    }

    /// pass@k at the largest budget for each level of difficulty, where levels are known.
    async fn by_level(&self, lab: &Lab, stage: &Stage<'_>, score: &Score, used: &[NodeId]) -> Result<()> {
        let Some((k, (passes, _))) = score.curve.last_key_value() else { return Ok(()) };
        let mut levels: BTreeMap<u8, Vec<f64>> = BTreeMap::new();
        for (statement, pass) in self.statements.iter().zip(passes) {
            if let (Some(level), Some(pass)) = (statement.level, pass) {
                levels.entry(level).or_default().push(*pass);
            }
        }
        for (level, passes) in levels {
            let item = FIRST_LEVEL_ITEM + u32::from(level);
            let mut stream = lab.seeds().stream(stage.name(), item, 0);
            if let Some(estimate) = mean(&passes, &mut stream) {
                stage.figure(item, &format!("pass@{k}, level {level}"), estimate, passes.len(), used).await?;
            }
        }
        Ok(())
    }

    /// Mean length of proofs and mean number of no-ops in them.
    async fn drift(&self, lab: &Lab, stage: &Stage<'_>, attempts: &[Attempts], used: &[NodeId]) -> Result<()> {
        let proofs = || attempts.iter().flat_map(Attempts::proofs);
        let lengths: Vec<f64> = proofs().map(|p| f64::from(p.n_tokens)).collect();
        let no_ops: Vec<f64> =
            proofs().map(|p| p.text.split_whitespace().filter(|w| *w == "id").count() as f64).collect();
        for (item, (what, values)) in [("proof length", lengths), ("no-ops a proof", no_ops)].into_iter().enumerate() {
            let mut stream = lab.seeds().stream(stage.name(), item as u32, 0);
            if let Some(estimate) = mean(&values, &mut stream) {
                stage.figure(FIRST_DRIFT_ITEM + item as u32, what, estimate, values.len(), used).await?;
            }
        }
        Ok(())
    }
}

/// A generated benchmark statement needs no formaliser: it is written out as it is meant, in the two styles by turns.
fn write_out(i: usize, posed: &mut Posed) {
    let style = if i.is_multiple_of(2) { Formaliser::A } else { Formaliser::B };
    let text =
        posed.meaning.as_ref().map(|m| style.statement("t", m).print(tracker_proof::formula::Style::Constructor));
    posed.formal = text.map(|text| (tracker_proof::prelude::TEXT.to_owned(), text));
}

/// How one policy scored.
#[derive(Clone)]
pub(super) struct Score {
    /// By k: pass@k of each statement (none where too few verdicts count), and the figure of their mean.
    curve: BTreeMap<u32, (Vec<Option<f64>>, NodeId)>,
}

impl Score {
    /// The figure of pass@k.
    pub(super) fn figure(&self, k: u32) -> Option<NodeId> {
        self.curve.get(&k).map(|(_, figure)| *figure)
    }

    /// How much higher `later` scores at k, paired over the statements both count.
    pub(super) fn gain(&self, later: &Self, k: u32, stream: &mut ChaCha8Rng) -> Option<Estimate> {
        let (before, _) = self.curve.get(&k)?;
        let (after, _) = later.curve.get(&k)?;
        let (before, after): (Vec<f64>, Vec<f64>) =
            before.iter().zip(after).filter_map(|(b, a)| Some(((*b)?, (*a)?))).unzip();
        paired_gain(&before, &after, stream)
    }
}
