//! From problems to statements worth proving: formalise, check that it compiles, vote on faithfulness, keep one a style.
//!
//! Source: Lin et al. 2025 (Goedel-Prover, arXiv 2502.07640), §3: 8 samples a formaliser, the compile check, four votes
//! with a cut at one half, one random statement a formaliser.

use rand::seq::IndexedRandom;
use tracker_proof::{Candidate, Compiled};
use tracker_store::{Content, Digest, Edge, NodeId, Recording, Relation, Reward, Statement, Tally};

use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::attempt::Task;
use crate::parts::author::{Assignment, Author, Draft};
use crate::parts::evaluate;
use crate::parts::formalise::{FormaliseSettings, Formaliser};
use crate::parts::jury::{Jury, Votes};
use crate::parts::problems::Posed;
use crate::parts::prompt::{Template, prompt};
use crate::parts::verify::Verifiers;

/// Problems formalised at a time.
const BATCH: usize = 512;

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

/// Who makes statements of problems.
pub struct Bureau {
    /// Who writes, one a style.
    pub authors: Vec<Author>,
    /// Who tells what compiles.
    pub verifiers: Verifiers,
    /// Who votes.
    pub jury: Jury,
}

/// Formalises problems in every style of `settings` and keeps what compiles and is voted faithful.
///
/// # Errors
/// Of the author, the verifier, the jury, the store.
pub async fn formalise(
    lab: &Lab,
    settings: &FormaliseSettings,
    bureau: &Bureau,
    posed: &[Posed],
) -> Result<Vec<Formal>> {
    let mut all = Vec::new();
    for (style, author) in settings.styles.iter().zip(&bureau.authors) {
        let style = Formaliser::parse(style)?;
        let stage = lab.stage(&format!("formalise {}", style.name()), posed.len()).await?;
        let votes = match bureau.jury {
            Jury::Embedded(_) => None,
            Jury::Model(_) => Some(lab.stage(&format!("judge {}", style.name()), posed.len()).await?),
        };
        let work = Work {
            assignment: Assignment { lab, stage: &stage, settings, style },
            votes: votes.as_ref().unwrap_or(&stage),
            writer: author.node(lab, style, settings).await?,
            judge: bureau.jury.node(lab, settings).await?,
            author,
            bureau,
        };
        all.extend(work.style(posed).await?);
        if let Some(votes) = &votes {
            votes.done(posed.len());
        }
    }
    // Problem by problem, so that the first so many statements have every style.
    all.sort_by_key(|formal| formal.problem);
    Ok(all)
}

struct Work<'a> {
    assignment: Assignment<'a>,
    /// Where a model's votes are recorded.
    votes: &'a Stage<'a>,
    author: &'a Author,
    writer: NodeId,
    judge: NodeId,
    bureau: &'a Bureau,
}

/// One written statement and what was found out about it.
struct Checked {
    draft: Draft,
    compiles: bool,
    /// Whether it is known that it has no proof.
    is_refuted: bool,
    votes: Option<Votes>,
}

impl Work<'_> {
    async fn style(&self, posed: &[Posed]) -> Result<Vec<Formal>> {
        let Assignment { lab, stage, .. } = self.assignment;
        let (mut all, mut formals) = (Vec::new(), Vec::new());
        for (idx, batch) in posed.chunks(BATCH).enumerate() {
            lab.check()?;
            let first = idx * BATCH;
            self.record_problems(batch).await?;
            let drafts = self.author.write(&self.assignment, self.writer, first, batch).await?;
            let checked = self.check(posed, drafts).await?;
            formals.extend(self.record(posed, &checked).await?);
            all.extend(checked);
            stage.done(first + batch.len());
        }
        self.report(&all).await?;
        Ok(formals)
    }

    async fn record_problems(&self, posed: &[Posed]) -> Result<()> {
        let lab = self.assignment.lab;
        let mut recording = Recording::new();
        for posed in posed {
            recording.put(lab.run(), &posed.problem)?;
        }
        recording.put(lab.run(), self.bureau.verifiers.record())?;
        lab.record(recording).await
    }

    /// Compiles every draft; those that do are voted on.
    async fn check(&self, posed: &[Posed], drafts: Vec<Draft>) -> Result<Vec<Checked>> {
        let Assignment { lab, settings, .. } = self.assignment;
        let candidate = |d: &Draft| Candidate {
            header: settings.header().to_owned(),
            statement: d.statement.clone(),
            proof: String::new(),
        };
        let candidates: Vec<Candidate> = drafts.iter().map(candidate).collect();
        let compiled = self.bureau.verifiers.compile(candidates.clone()).await?;
        let refuted = self.bureau.verifiers.refute(candidates).await?;
        let mut checked = Vec::with_capacity(drafts.len());
        for ((draft, compiled), refuted) in drafts.into_iter().zip(compiled).zip(refuted) {
            let compiles = match compiled {
                Compiled::Yes(_) => true,
                Compiled::No(_) => false,
                Compiled::Infra(why) => return Err(Error::Internal(format!("the compile check failed: {why}"))),
            };
            checked.push(Checked { draft, compiles, is_refuted: refuted.is_some(), votes: None });
        }
        let asked: Vec<usize> = (0..checked.len()).filter(|i| checked[*i].compiles).collect();
        let drafts: Vec<&Draft> = asked.iter().map(|i| &checked[*i].draft).collect();
        let votes = self.bureau.jury.vote(lab, self.votes, settings, &drafts, |d| &posed[d.item]).await?;
        for (i, votes) in asked.into_iter().zip(votes) {
            checked[i].votes = votes;
        }
        Ok(checked)
    }

    /// Whether a draft may be proved: what is known to have no proof is screened out whatever the votes are.
    fn is_kept(&self, checked: &Checked) -> bool {
        let least = self.assignment.settings.min_faithfulness;
        checked.compiles && !checked.is_refuted && checked.votes.as_ref().is_some_and(|v| share(v.tally) >= least)
    }

    /// Records what was found out about every draft, and the statement of one random draft of those kept, a problem.
    async fn record(&self, posed: &[Posed], checked: &[Checked]) -> Result<Vec<Formal>> {
        let Assignment { lab, stage, .. } = self.assignment;
        let run = lab.run();
        let compiler = self.bureau.verifiers.node()?;
        let mut recording = Recording::new();
        for checked in checked {
            let row = stage.row(checked.draft.item as u32, checked.draft.k);
            let compiles = f64::from(u8::from(checked.compiles));
            recording.put_reward(row, &reward(compiler, "compiles", compiles, None))?;
            if let Some(votes) = &checked.votes {
                let reward = reward(self.judge, "faithful", share(votes.tally), Some(votes.tally));
                let node = recording.put_reward(row, &reward)?;
                for (order, sample) in votes.samples.iter().enumerate() {
                    recording.put_edge(run, &Edge::new(node, Relation::Used, *sample).at(order as u32))?;
                }
            }
        }
        let mut formals = Vec::new();
        for of_problem in checked.chunk_by(|a, b| a.draft.item == b.draft.item) {
            let kept: Vec<&Checked> = of_problem.iter().filter(|checked| self.is_kept(checked)).collect();
            let mut stream = lab.seeds().stream("select", of_problem[0].draft.item as u32, 0);
            if let Some(chosen) = kept.choose(&mut stream) {
                formals.push(self.state(&mut recording, &posed[chosen.draft.item], chosen)?);
            }
        }
        lab.record(recording).await?;
        Ok(formals)
    }

    fn state(&self, recording: &mut Recording, posed: &Posed, chosen: &Checked) -> Result<Formal> {
        let Assignment { lab, stage, settings, style } = self.assignment;
        let (draft, header) = (&chosen.draft, settings.header().to_owned());
        let record = Statement {
            name: posed.problem.name.clone(),
            canonical: Digest::from_bytes(tracker_proof::statement::digest(&header, &draft.statement)),
            header,
            text: draft.statement.clone(),
            style: style.name().to_owned(),
            problem: posed.problem.node()?.digest(),
            formalizer: Some(self.writer),
            compiles: Some(true),
            faithful: chosen.votes.as_ref().map(|v| tracker_store::Votes { yes: v.tally.hits, of: v.tally.of }),
        };
        let node = recording.put(lab.run(), &record)?;
        let origin = NodeId::sample(stage.row(draft.item as u32, draft.k));
        recording.put_edge(lab.run(), &Edge::new(node, Relation::DerivedFrom, origin))?;
        let (informal, level) = (posed.problem.text.clone(), posed.level);
        Ok(Formal { node, record, informal, level, problem: draft.item })
    }

    /// Shares that compile and that are kept, and how good the judge was where that is known.
    async fn report(&self, all: &[Checked]) -> Result<()> {
        let Assignment { lab, stage, settings, .. } = self.assignment;
        let flag = |b: bool| f64::from(u8::from(b));
        // The judge is scored by its own votes, whatever else a draft is kept or left out for.
        let judged = || {
            all.iter().filter_map(|c| {
                let votes = c.votes.as_ref()?;
                Some((share(votes.tally) >= settings.min_faithfulness, votes.is_faithful?))
            })
        };
        let shares: [(&str, Vec<f64>); 4] = [
            ("compiles", all.iter().map(|c| flag(c.compiles)).collect()),
            ("kept", all.iter().map(|c| flag(self.is_kept(c))).collect()),
            ("judge precision", judged().filter(|(kept, _)| *kept).map(|(_, faithful)| flag(faithful)).collect()),
            ("judge recall", judged().filter(|(_, faithful)| *faithful).map(|(kept, _)| flag(kept)).collect()),
        ];
        let used = [self.writer, self.bureau.verifiers.node()?, self.judge];
        for (item, (name, hits)) in shares.iter().enumerate() {
            let mut stream = lab.seeds().stream(&format!("{}/{name}", stage.name()), 0, 0);
            if let Some(estimate) = evaluate::mean(hits, &mut stream) {
                stage.figure(item as u32, name, estimate, hits.len(), &used).await?;
            }
        }
        let n_unread = all.iter().filter(|c| c.compiles && c.votes.is_none()).count();
        if n_unread > 0 {
            lab.note(format!(
                "{}: {n_unread} statements have no vote that could be read, and are left out",
                stage.name()
            ));
        }
        Ok(())
    }
}

fn share(tally: Tally) -> f64 {
    f64::from(tally.hits) / f64::from(tally.of.max(1))
}

fn reward(scorer: NodeId, kind: &str, value: f64, tally: Option<Tally>) -> Reward {
    Reward { scorer, kind: kind.to_owned(), values: vec![value], tallies: tally.into_iter().collect() }
}
