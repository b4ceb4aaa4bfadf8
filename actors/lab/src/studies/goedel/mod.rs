//! Goedel-Prover: expert iteration from problems in words to a better prover.
//!
//! Paper: Lin et al. 2025, "Goedel-Prover: A Frontier Model for Open-Source Automated Theorem Proving" (arXiv 2502.07640).
//!
//! Scaled down: problems of propositional logic instead of 1.6 M competition problems; a language model of about a
//! million parameters trained here instead of a 7 B one; an exact kernel (or real Lean, `verifier=lean`) on term-mode
//! proofs. Kept: two formaliser styles, compile check, four faithfulness votes, whole-proof sampling, one random
//! verified proof a statement kept cumulatively, retraining from the base model each round, pass@k from stored (n, c).
//!
//! Claims tested: pass@k on a held-out benchmark rises from the first round to the last; every round solves more
//! statements; no benchmark statement equals a training statement.

mod base;
mod bench;
mod post;
mod settings;

use rand::seq::IndexedRandom;
use tracker_store::{Claim, Finish, NodeId};

use crate::error::Result;
use crate::lab::Lab;
use crate::parts::attempt::{Attempts, attempt};
use crate::parts::evaluate::{Estimate, claim_above};
use crate::parts::prompt::Template;
use crate::parts::statements::Formal;
use crate::parts::train::TrainRow;
use crate::study::Study;

use base::Provers;
use bench::Benchmark;
pub use settings::{
    Attempt, BaseSettings, BenchmarkSettings, Goedel, PolicyKind, PolicySettings, Post, PostSettings, ProblemSettings,
    RoundSettings,
};

impl Study for Goedel {
    const NAME: &'static str = "goedel";
    const PAPER: &'static str = "arXiv 2502.07640";
    const ABOUT: &'static str = "expert iteration: formalise, prove, verify, train, again";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let provers = Provers::open(lab, self).await?;
        let benchmark = Benchmark::open(lab, self, &provers).await?;
        let statements = provers.statements(lab, self, &benchmark).await?;
        let base = provers.base(lab, self, &benchmark).await?;

        let mut policy = base.policy.clone();
        let mut last = base.trained.clone();
        let mut solved = Solved::new(statements.len());
        let mut scores = vec![benchmark.score(lab, self, &provers, "base", &policy).await?];
        for round in 1..=self.rounds.n {
            let open = solved.to_try(self.rounds.attempt, self.n_open(round, statements.len()));
            let tasks: Vec<_> = open.iter().map(|i| statements[*i].task(self.policy.template)).collect();
            let stage = format!("round {round}/attempt");
            let n = self.rounds.n_samples;
            let attempts = attempt(lab, &stage, &policy, &provers.verifiers, &tasks, n, &self.sampling()).await?;
            solved.keep(lab, round, &open, &attempts);
            let Some(start) = &base.trained else { break };
            if solved.n() == 0 {
                lab.note(format!("round {round} proved nothing; the policy stays as it is"));
                scores.extend(scores.last().cloned());
                continue;
            }
            let label = format!("round {round}");
            let set = base.mix(lab, round, solved.rows(&statements, self.policy.template), self.rounds.mixture);
            let trained = provers.train(lab, &label, start, set, &self.rounds.sft).await?;
            policy = provers.policy(&trained);
            last = Some(trained);
            scores.push(benchmark.score(lab, self, &provers, &label, &policy).await?);
        }
        if let Some(last) = &last
            && let Some(after) = post::run(lab, self, &provers, &statements, last).await?
        {
            benchmark.score(lab, self, &provers, "post", &provers.policy(&after)).await?;
        }
        let trained_on = statements.iter().map(|s| &s.record.canonical).chain(&base.canonical);
        let n_shared = trained_on.filter(|form| benchmark.canonical().contains(form)).count();
        let claims = self.judge(lab, n_shared, &solved, &scores);
        lab.claims(claims).await
    }
}

/// Which statements are solved, by which proof, since which round.
struct Solved {
    /// One proof a statement: its text and its verdict's node.
    proofs: Vec<Option<(String, NodeId)>>,
    /// Statements solved after each round.
    after_round: Vec<usize>,
}

impl Solved {
    fn new(n_statements: usize) -> Self {
        Self { proofs: vec![None; n_statements], after_round: Vec::new() }
    }

    fn n(&self) -> usize {
        self.proofs.iter().flatten().count()
    }

    /// Which of the first `n_open` statements are tried.
    fn to_try(&self, attempt: Attempt, n_open: usize) -> Vec<usize> {
        let is_tried = |i: &usize| attempt == Attempt::All || self.proofs[*i].is_none();
        (0..n_open.min(self.proofs.len())).filter(is_tried).collect()
    }

    /// Keeps one random proof of each statement solved in this round, and the earlier one of the others.
    fn keep(&mut self, lab: &Lab, round: u32, tried: &[usize], attempts: &[Attempts]) {
        for (i, attempts) in tried.iter().zip(attempts) {
            let proofs: Vec<_> = attempts.proofs().collect();
            let mut stream = lab.seeds().stream("keep", *i as u32, round);
            if let (Some(chosen), None) = (proofs.choose(&mut stream), &self.proofs[*i]) {
                self.proofs[*i] = Some((chosen.text.clone(), chosen.verdict));
            }
        }
        self.after_round.push(self.n());
    }

    fn rows(&self, statements: &[Formal], template: Template) -> Vec<TrainRow> {
        let row = |(formal, proof): (&Formal, &Option<(String, NodeId)>)| {
            let (text, verdict) = proof.clone()?;
            let prompt = formal.task(template).prompt;
            // What is proved is whole, wherever the sample ended.
            Some(TrainRow { prompt, completion: text, finish: Finish::Stop, source: Some(verdict) })
        };
        statements.iter().zip(&self.proofs).filter_map(row).collect()
    }
}

impl Goedel {
    /// How many of the statements are there in a round, counted from 1.
    fn n_open(&self, round: u32, n_statements: usize) -> usize {
        let shares = &self.rounds.schedule;
        let share = shares.get(round as usize - 1).or(shares.last()).copied().unwrap_or(1.0);
        (share.clamp(0.0, 1.0) * n_statements as f64).round() as usize
    }

    fn judge(&self, lab: &Lab, n_shared: usize, solved: &Solved, scores: &[bench::Score]) -> Vec<(Claim, Vec<NodeId>)> {
        let mut claims = Vec::new();
        let (first, last) = (scores.get(1), scores.last());
        if let (Some(first), Some(last)) = (first, last) {
            let of_rounds = scores.len() > 2;
            for k in self.benchmark.k.iter().filter(|_| of_rounds) {
                let mut stream = lab.seeds().stream("claims/gain", 0, *k);
                let Some(gain) = first.gain(last, *k, &mut stream) else { continue };
                let statement =
                    format!("pass@{k} on the held-out benchmark is higher after the last round than after the first");
                let figures = [first.figure(*k), last.figure(*k)].into_iter().flatten().collect();
                claims.push((claim_above(&format!("pass@{k}-rises"), &statement, Some(gain), 0.0), figures));
            }
        }
        if solved.after_round.len() > 1 {
            let steps = solved.after_round.windows(2).map(|w| w[1] as f64 - w[0] as f64);
            let least = steps.fold(f64::INFINITY, f64::min);
            let statement = "every round solves training statements that no earlier round solved";
            claims
                .push((claim_above("more-solved-every-round", statement, Some(Estimate::exactly(least)), 0.0), vec![]));
        }
        let mut disjoint = claim_above(
            "benchmark-is-held-out",
            "no benchmark statement equals a training statement up to names",
            Some(Estimate::exactly(n_shared as f64)),
            0.0,
        );
        disjoint.holds = n_shared == 0;
        claims.push((disjoint, vec![]));
        claims
    }
}
