//! From problems to statements worth proving: formalise, check that it compiles, vote on faithfulness, keep one a style.
//!
//! Source: Lin et al. 2025 (Goedel-Prover, arXiv 2502.07640), §3: 8 samples a formaliser, the compile check, four votes
//! with a cut at one half, one random statement a formaliser.

use rand::seq::IndexedRandom;
use tracker_actors::Pool;
use tracker_proof::statement::Statement as Parsed;
use tracker_proof::{Candidate, Compiled};
use tracker_store::{
    Content, Digest, Edge, Finish, NodeId, Recording, Relation, Reward, Sample, Sampling, Statement, Tally, Verifier,
    Votes,
};

use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::attempt::Task;
use crate::parts::evaluate;
use crate::parts::formalise::Formaliser;
use crate::parts::judge::{Ballot, Case, Judge, Judgement};
use crate::parts::problems::Posed;
use crate::parts::prompt::prompt;
use crate::parts::verify::Verifiers;
use crate::studies::goedel::{FormaliseSettings, Template};

/// A statement to prove.
#[derive(Clone, Debug)]
pub struct Formal {
    /// Its node.
    pub node: NodeId,
    /// As recorded.
    pub record: Statement,
    /// What its problem says in words.
    pub informal: String,
    /// Level of difficulty, if known.
    pub level: Option<u8>,
    /// Which problem it states, by its place.
    pub problem: usize,
}

impl Formal {
    /// The statement as it is put to a policy and a verifier.
    #[must_use]
    pub fn task(&self, template: Template) -> Task {
        Task {
            subject: self.node,
            prompt: prompt(template, &self.record.header, &self.informal, &self.record.text),
            header: self.record.header.clone(),
            statement: self.record.text.clone(),
        }
    }
}

/// Records statements that came with their problems.
///
/// # Errors
/// Those of recording.
pub async fn given(lab: &Lab, stage: &str, posed: &[Posed]) -> Result<Vec<Formal>> {
    let stage = lab.stage(stage, posed.len()).await?;
    let mut recording = Recording::new();
    let mut all = Vec::with_capacity(posed.len());
    for posed in posed {
        let problem = recording.put(lab.run(), &posed.problem)?;
        let Some((header, text)) = &posed.formal else { continue };
        let record = Statement {
            name: posed.problem.name.clone(),
            header: header.clone(),
            text: text.clone(),
            canonical: Digest::from_bytes(tracker_proof::statement::digest(header, text)),
            style: String::new(),
            problem: problem.digest(),
            formalizer: None,
            compiles: None,
            faithful: None,
        };
        let node = recording.put(lab.run(), &record)?;
        let (informal, level) = (posed.problem.text.clone(), posed.level);
        all.push(Formal { node, record, informal, level, problem: all.len() });
    }
    lab.record(recording).await?;
    stage.done(posed.len());
    Ok(all)
}

/// Formalises problems in every style of `settings` and keeps what compiles and is voted faithful.
///
/// # Errors
/// Of the verifier, the judge, the store.
pub async fn formalise(
    lab: &Lab,
    settings: &FormaliseSettings,
    verifiers: &Verifiers,
    judge: &Pool<Judge>,
    posed: &[Posed],
) -> Result<Vec<Formal>> {
    let mut all = Vec::new();
    for style in &settings.styles {
        let formaliser = Formaliser::parse(style)?;
        let stage = lab.stage(&format!("formalise {style}"), posed.len()).await?;
        let work = Work { lab, stage: &stage, settings, formaliser, verifiers, judge };
        all.extend(work.style(posed).await?);
        stage.done(posed.len());
    }
    // Problem by problem, so that the first so many statements have every style.
    all.sort_by_key(|formal| formal.problem);
    Ok(all)
}

struct Work<'a> {
    lab: &'a Lab,
    stage: &'a Stage<'a>,
    settings: &'a FormaliseSettings,
    formaliser: Formaliser,
    verifiers: &'a Verifiers,
    judge: &'a Pool<Judge>,
}

/// One written statement and what was found out about it.
struct Draft {
    item: usize,
    k: u32,
    text: String,
    judgement: Option<Judgement>,
}

impl Work<'_> {
    async fn style(&self, posed: &[Posed]) -> Result<Vec<Formal>> {
        let mut drafts = self.write(posed);
        self.check(posed, &mut drafts).await?;
        let kept = self.select(&drafts);
        let formals = self.record(posed, &drafts, &kept).await?;
        self.report(&drafts).await?;
        Ok(formals)
    }

    fn write(&self, posed: &[Posed]) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (item, posed) in posed.iter().enumerate() {
            let Some(meaning) = &posed.meaning else { continue };
            for k in 0..self.settings.n_samples {
                let mut stream = self.lab.seeds().stream(self.stage.name(), item as u32, k);
                let text = self.formaliser.write("t", meaning, self.settings.error_rate, &mut stream);
                drafts.push(Draft { item, k, text, judgement: None });
            }
        }
        drafts
    }

    /// Compiles every draft; those that do are judged.
    async fn check(&self, posed: &[Posed], drafts: &mut [Draft]) -> Result<()> {
        let header = tracker_proof::prelude::TEXT;
        let candidate =
            |d: &Draft| Candidate { header: header.to_owned(), statement: d.text.clone(), proof: String::new() };
        let compiled = self.verifiers.compile(drafts.iter().map(candidate).collect()).await?;
        let mut asked = Vec::new();
        let mut cases = Vec::new();
        for (i, (draft, compiled)) in drafts.iter().zip(compiled).enumerate() {
            match compiled {
                Compiled::Infra(why) => return Err(Error::Internal(format!("the compile check failed: {why}"))),
                Compiled::No(_) => {}
                Compiled::Yes(_) => {
                    let Some(meaning) = posed[draft.item].meaning.clone() else { continue };
                    // Lean may accept what is outside the fragment the judge reads; such a draft gets no votes.
                    let Ok(statement) = Parsed::parse(&draft.text) else { continue };
                    let seed = self.lab.seeds().seed("faithfulness", draft.item as u32, draft.k);
                    asked.push(i);
                    cases.push(Case { meaning, statement, seed });
                }
            }
        }
        let FormaliseSettings { n_votes, n_assignments, .. } = *self.settings;
        let judgements = self.judge.ask(Ballot { cases, n_votes, n_assignments }).await?;
        for (i, judgement) in asked.into_iter().zip(judgements) {
            drafts[i].judgement = Some(judgement);
        }
        Ok(())
    }

    fn is_kept(&self, draft: &Draft) -> bool {
        let share = |n_yes: u32| f64::from(n_yes) / f64::from(self.settings.n_votes.max(1));
        // What is no classical theorem is screened out: no proof of it can exist.
        draft.judgement.is_some_and(|j| j.is_theorem && share(j.n_yes) >= self.settings.min_faithfulness)
    }

    /// One random draft of those kept, a problem.
    fn select(&self, drafts: &[Draft]) -> Vec<usize> {
        let by_item = drafts.chunk_by(|a, b| a.item == b.item);
        let mut first = 0;
        let mut chosen = Vec::new();
        for group in by_item {
            let good: Vec<usize> = (first..first + group.len()).filter(|i| self.is_kept(&drafts[*i])).collect();
            let mut stream = self.lab.seeds().stream("select", drafts[first].item as u32, 0);
            chosen.extend(good.choose(&mut stream));
            first += group.len();
        }
        chosen
    }

    async fn record(&self, posed: &[Posed], drafts: &[Draft], kept: &[usize]) -> Result<Vec<Formal>> {
        let run = self.lab.run();
        let mut recording = Recording::new();
        let author = recording.put(run, &program(&format!("formaliser-{}", self.formaliser.name())))?;
        let judge = recording.put(run, &program("judge"))?;
        let compiler = recording.put(run, self.verifiers.record())?;
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 0,
            stop: vec![],
            template: format!("style {}", self.formaliser.name()),
        };
        recording.put(run, &sampling)?;
        for posed in posed {
            recording.put(run, &posed.problem)?;
        }
        for draft in drafts {
            let row = self.stage.row(draft.item as u32, draft.k);
            let sample = Sample {
                subject: posed[draft.item].problem.node()?,
                policy: author,
                sampling: sampling.digest()?,
                seed: self.stage.seed(draft.item as u32, draft.k),
                text: draft.text.clone(),
                n_tokens: draft.text.split_whitespace().count() as u32,
                sum_logprob: None,
                finish: Finish::Stop,
            };
            recording.put_sample(row, &sample)?;
            let compiles = f64::from(u8::from(draft.judgement.is_some()));
            recording.put_reward(row, &reward(compiler, "compiles", compiles, None))?;
            if let Some(judgement) = draft.judgement {
                let votes = Tally { hits: judgement.n_yes, of: self.settings.n_votes };
                let share = f64::from(votes.hits) / f64::from(votes.of.max(1));
                recording.put_reward(row, &reward(judge, "faithful", share, Some(votes)))?;
            }
        }
        let mut formals = Vec::with_capacity(kept.len());
        for draft in kept.iter().map(|i| &drafts[*i]) {
            let posed = &posed[draft.item];
            let header = tracker_proof::prelude::TEXT.to_owned();
            let record = Statement {
                name: posed.problem.name.clone(),
                canonical: Digest::from_bytes(tracker_proof::statement::digest(&header, &draft.text)),
                header,
                text: draft.text.clone(),
                style: self.formaliser.name().to_owned(),
                problem: posed.problem.node()?.digest(),
                formalizer: Some(author),
                compiles: Some(true),
                faithful: draft.judgement.map(|j| Votes { yes: j.n_yes, of: self.settings.n_votes }),
            };
            let node = recording.put(run, &record)?;
            let origin = NodeId::sample(self.stage.row(draft.item as u32, draft.k));
            recording.put_edge(run, &Edge::new(node, Relation::DerivedFrom, origin))?;
            let (informal, level) = (posed.problem.text.clone(), posed.level);
            formals.push(Formal { node, record, informal, level, problem: draft.item });
        }
        self.lab.record(recording).await?;
        Ok(formals)
    }

    /// Shares that compile and that are kept, and how good the judge was.
    async fn report(&self, drafts: &[Draft]) -> Result<()> {
        let flag = |b: bool| f64::from(u8::from(b));
        let judged = || drafts.iter().filter_map(|d| d.judgement.map(|j| (self.is_kept(d), j.is_faithful)));
        let shares: [(&str, Vec<f64>); 4] = [
            ("compiles", drafts.iter().map(|d| flag(d.judgement.is_some())).collect()),
            ("kept", drafts.iter().map(|d| flag(self.is_kept(d))).collect()),
            ("judge precision", judged().filter(|(kept, _)| *kept).map(|(_, faithful)| flag(faithful)).collect()),
            ("judge recall", judged().filter(|(_, faithful)| *faithful).map(|(kept, _)| flag(kept)).collect()),
        ];
        for (item, (name, hits)) in shares.iter().enumerate() {
            let mut stream = self.lab.seeds().stream(&format!("{}/{name}", self.stage.name()), 0, 0);
            if let Some(estimate) = evaluate::mean(hits, &mut stream) {
                self.stage.figure(item as u32, name, estimate, hits.len(), &[]).await?;
            }
        }
        Ok(())
    }
}

fn reward(scorer: NodeId, kind: &str, value: f64, tally: Option<Tally>) -> Reward {
    Reward { scorer, kind: kind.to_owned(), values: vec![value], tallies: tally.into_iter().collect() }
}

/// A program of this crate, as recorded.
fn program(name: &str) -> Verifier {
    Verifier {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: String::new(),
        binary: Digest::of(env!("CARGO_PKG_VERSION").as_bytes()),
        flags: vec![],
    }
}
