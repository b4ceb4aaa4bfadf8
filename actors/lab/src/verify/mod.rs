//! `tracker verify`: proofs checked outside of any study, those of a file or those that runs have recorded.
//!
//! Each proof is a sample of a statement, each answer a verdict on it; the file is an artifact, a proof that is checked again is
//! derived from the one it is. So a killed check goes on where it was, and lineage leads from a verdict to file and verifier.
//! Invariant: a proof that nobody could check (`infra`) is reported and taken out of n, never counted as failed.

mod given;
mod report;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_proof::{Candidate, statement};
use tracker_store::{
    Claim, Content as _, Digest, Edge, Finish, NodeId, Outcome, Recording, Relation, RowKey, Sample, Sampling,
    Statement, Verdict,
};

use crate::error::{Error, Result};
use crate::lab::{Lab, Stage};
use crate::parts::evaluate;
use crate::parts::verify::{Checker, Checking, KiminaSettings, LeanSettings, Verifiers};
use crate::plan::{self, Plan, Settings};
use crate::study::Study;

use given::{Given, Item, Source};
pub use report::{Checked, Said, checked};

/// The stage that proofs and verdicts stand in: at a row's line in its file, and the number of the attempt; of recorded proofs, at
/// their place in the order they are read.
pub const STAGE: &str = "verify";
/// Proofs checked together.
const BATCH: usize = 1024;
/// Bytes of text checked together, if there is more than one proof in them.
const BATCH_BYTES: usize = 8 << 20;
/// Batches on their way at once: one is read and recorded while the verifier has another.
const IN_FLIGHT: usize = 3;

/// Bad rows that are told one by one.
const MAX_TOLD: usize = 20;

/// What is checked, and by whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Who checks: `kernel`, `lean` or `kimina`.
    pub verifier: Checker,
    /// The file's name, for people.
    pub file: String,
    /// The artifact that has the file: the digest of its manifest; empty to check proofs that runs recorded.
    pub rows: String,
    /// Runs whose proofs are checked again.
    pub runs: Vec<String>,
    /// Axioms a proof may rest on; those the verifier allows by itself if there is none.
    pub axioms: Vec<String>,
    /// Where Lean is and what it may use.
    pub lean: LeanSettings,
    /// The Kimina Lean Server of `verifier = "kimina"`.
    pub kimina: KiminaSettings,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            verifier: Checker::Lean,
            file: String::new(),
            rows: String::new(),
            runs: vec![],
            axioms: vec![],
            lean: LeanSettings::default(),
            kimina: KiminaSettings::default(),
        }
    }
}

impl Settings for Verify {
    fn smoke() -> Self {
        Self::default()
    }

    fn check(&self) -> Result<()> {
        if self.rows.is_empty() == self.runs.is_empty() {
            return Err(Error::Input {
                what: "expected a file of proofs, or runs whose proofs are to be checked again".into(),
                hint: Some("tracker verify FILE.jsonl, or tracker verify --recheck RUN".into()),
            });
        }
        Ok(())
    }
}

impl Verify {
    /// The plan that says this.
    ///
    /// # Errors
    /// `Input` if it names neither a file nor runs.
    pub fn plan(&self) -> Result<Plan> {
        let text = toml::to_string(self).map_err(|error| Error::Internal(format!("settings not writable: {error}")))?;
        Ok(plan::restore::<Self>(Self::NAME, &text)?.0)
    }

    /// Fails if there is no such verifier here, or it does not answer; before anything is recorded.
    ///
    /// # Errors
    /// `Input`, `Value` with what to do.
    pub fn ready(&self) -> Result<()> {
        self.checking().open(1).map(drop)
    }

    fn checking(&self) -> Checking {
        Checking {
            checker: self.verifier,
            lean: self.lean.clone(),
            kimina: self.kimina.clone(),
            axioms: self.axioms.clone(),
            screens: false,
        }
    }
}

impl Study for Verify {
    const NAME: &'static str = "verify";
    const PAPER: &'static str = "";
    const ABOUT: &'static str = "check proofs of a file, or of runs";

    async fn run(&self, lab: &Lab) -> Result<Vec<Claim>> {
        let source = Source::open(lab.store(), self)?;
        let verifiers = Verifiers::start(lab, &self.checking(), lab.workers())?;
        if self.verifier != Checker::Kernel
            && let Some(header) = source.first_header(lab.store())?
        {
            verifiers.probe(&header).await?;
        }
        let stage = lab.stage(STAGE, source.n_items(lab.store())?).await?;
        let work = Work::begin(lab, &stage, &verifiers, &source).await?;
        let counts = work.all().await?;
        counts.tell(lab, &stage, work.origin).await?;
        Ok(vec![])
    }
}

/// What every batch needs.
struct Work<'a> {
    lab: &'a Lab,
    stage: &'a Stage<'a>,
    verifiers: &'a Verifiers,
    source: &'a Source,
    /// What proofs of a file are said to be written by; recorded ones have who wrote them.
    origin: NodeId,
    sampling: Digest,
}

impl<'a> Work<'a> {
    async fn begin(lab: &'a Lab, stage: &'a Stage<'a>, verifiers: &'a Verifiers, source: &'a Source) -> Result<Self> {
        let mut recording = Recording::new();
        let origin = source.record(lab.run(), &mut recording)?;
        let sampling =
            Sampling { temperature: 0.0, top_p: 1.0, max_tokens: 0, stop: vec![], template: "as published".to_owned() };
        recording.put(lab.run(), &sampling)?;
        recording.put(lab.run(), verifiers.record())?;
        lab.record(recording).await?;
        Ok(Self { lab, stage, verifiers, source, origin, sampling: sampling.digest()? })
    }

    async fn all(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        let batches = Batches { items: self.source.read(self.lab.store())?, held: None };
        let mut done = stream::iter(batches.map(|batch| self.batch(batch))).buffered(IN_FLIGHT);
        while let Some(batch) = done.try_next().await? {
            for why in batch.bad.iter().take(MAX_TOLD.saturating_sub(counts.bad.len())) {
                self.lab.note(format!("{}: {why}", self.source.name()));
            }
            counts.add(batch);
            self.stage.done(counts.n_read);
        }
        Ok(counts)
    }

    /// Checks and records one batch, unless it is recorded.
    async fn batch(&self, batch: Result<Batch>) -> Result<Counts> {
        self.lab.check()?;
        let Batch { proofs, n_read, bad } = batch?;
        let rows: Vec<RowKey> = proofs.iter().map(|given| self.stage.row(given.item, given.k)).collect();
        let digest = self.verifiers.digest();
        let recorded = rows.iter().map(|row| Ok(self.lab.store().verdict(*row, digest)?));
        let verdicts = match recorded.collect::<Result<Option<Vec<Verdict>>>>()? {
            Some(verdicts) => verdicts,
            None => self.judge(&rows, &proofs).await?,
        };
        let mut counts = Counts { n_read, bad, ..Counts::default() };
        for (given, verdict) in proofs.iter().zip(&verdicts) {
            *counts.outcomes.entry(verdict.outcome.name()).or_default() += 1;
            let asked = statement::digest(&given.candidate.header, &given.candidate.statement);
            counts.statements.entry(asked).or_default().count(verdict.outcome);
        }
        Ok(counts)
    }

    async fn judge(&self, rows: &[RowKey], proofs: &[Given]) -> Result<Vec<Verdict>> {
        let open = proofs.iter().filter(|given| given.settled.is_none());
        let mut checked = self.verifiers.check(open.map(|given| given.candidate.clone()).collect()).await?.into_iter();
        let mut recording = Recording::new();
        let mut verdicts = Vec::with_capacity(proofs.len());
        for (row, given) in rows.iter().zip(proofs) {
            let verdict = match &given.settled {
                Some((outcome, why)) => {
                    let verdict = tracker_proof::Verdict::unchecked(&given.candidate, *outcome, why.clone());
                    Some(self.verifiers.recorded(verdict)?)
                }
                None => checked.next(),
            };
            let verdict = verdict.ok_or_else(|| Error::Internal("a verifier left a proof without a verdict".into()))?;
            self.put(*row, given, &verdict, &mut recording)?;
            verdicts.push(verdict);
        }
        self.lab.record(recording).await?;
        Ok(verdicts)
    }

    fn put(&self, row: RowKey, given: &Given, verdict: &Verdict, recording: &mut Recording) -> Result<()> {
        let run = self.lab.run();
        let Candidate { header, statement: text, proof } = &given.candidate;
        let (subject, policy) = match &given.recorded {
            Some(recorded) => (recorded.subject, recorded.policy),
            None => (
                recording.put(
                    run,
                    &Statement {
                        name: given.name.clone(),
                        header: header.clone(),
                        text: text.clone(),
                        canonical: Digest::from_bytes(statement::digest(header, text)),
                        style: String::new(),
                        problem: None,
                        formalizer: None,
                        compiles: None,
                        faithful: None,
                    },
                )?,
                self.origin,
            ),
        };
        let sample = Sample {
            subject,
            policy,
            sampling: self.sampling,
            seed: 0,
            text: proof.clone(),
            n_tokens: 0,
            sum_logprob: None,
            finish: Finish::Stop,
        };
        let node = recording.put_sample(row, &sample)?;
        if let Some(recorded) = &given.recorded {
            recording.put_edge(run, &Edge::new(node, Relation::DerivedFrom, recorded.node))?;
        }
        recording.put_verdict(row, verdict)?;
        Ok(())
    }
}

/// Proofs that are checked together, and what was read with them.
struct Batch {
    proofs: Vec<Given>,
    n_read: usize,
    /// Why rows among them are none.
    bad: Vec<String>,
}

struct Batches<I> {
    items: I,
    held: Option<Given>,
}

impl<I: Iterator<Item = Result<Item>>> Iterator for Batches<I> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Batch { proofs: Vec::new(), n_read: 0, bad: Vec::new() };
        let mut n_bytes = self.held.as_ref().map_or(0, Given::n_bytes);
        batch.proofs.extend(self.held.take());
        while batch.proofs.len() < BATCH {
            let item = match self.items.next() {
                None => break,
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(item)) => item,
            };
            batch.n_read += 1;
            match item {
                Item::Bad(_, why) => batch.bad.push(why),
                Item::Proof(given) => {
                    n_bytes += given.n_bytes();
                    if n_bytes > BATCH_BYTES && !batch.proofs.is_empty() {
                        self.held = Some(*given);
                        break;
                    }
                    batch.proofs.push(*given);
                }
            }
        }
        (!batch.proofs.is_empty() || !batch.bad.is_empty()).then_some(Ok(batch))
    }
}

/// What came of a statement.
#[derive(Clone, Copy, Default)]
struct Tried {
    is_proved: bool,
    /// Whether anything was said of it but `infra`.
    is_answered: bool,
}

impl Tried {
    fn count(&mut self, outcome: Outcome) {
        self.is_proved |= outcome == Outcome::Proved;
        self.is_answered |= outcome != Outcome::Infra;
    }
}

/// What came of all.
#[derive(Default)]
struct Counts {
    n_read: usize,
    bad: Vec<String>,
    outcomes: BTreeMap<&'static str, usize>,
    statements: BTreeMap<[u8; 32], Tried>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.n_read += other.n_read;
        self.bad.extend(other.bad);
        for (outcome, n) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += n;
        }
        for (statement, tried) in other.statements {
            let known = self.statements.entry(statement).or_default();
            known.is_proved |= tried.is_proved;
            known.is_answered |= tried.is_answered;
        }
    }

    fn of(&self, outcome: Outcome) -> usize {
        self.outcomes.get(outcome.name()).copied().unwrap_or(0)
    }

    /// Records shares with their intervals, and says what is taken out of n.
    async fn tell(&self, lab: &Lab, stage: &Stage<'_>, origin: NodeId) -> Result<()> {
        let n_checked: usize = self.outcomes.values().sum();
        if n_checked == 0 {
            return Err(Error::Input {
                what: format!("there is no proof to check; {} rows cannot be read", self.bad.len()),
                hint: Some("rows are JSON objects with `formal_statement` and `proof`, or `full_code`".into()),
            });
        }
        if self.bad.len() > MAX_TOLD {
            lab.note(format!("{} more rows cannot be read", self.bad.len() - MAX_TOLD));
        }
        let n_infra = self.of(Outcome::Infra);
        if n_infra > 0 {
            lab.note(format!("{n_infra} proofs have no verdict, for the verifier failed; they are not counted"));
        }
        let answered: Vec<&Tried> = self.statements.values().filter(|tried| tried.is_answered).collect();
        let n_proved = answered.iter().filter(|tried| tried.is_proved).count();
        let shares = [
            ("proofs proved", self.of(Outcome::Proved), n_checked - n_infra),
            ("statements proved", n_proved, answered.len()),
        ];
        for (item, (name, hits, n)) in shares.into_iter().enumerate() {
            if let Some(estimate) = evaluate::proportion(hits, n) {
                stage.figure(item as u32, name, estimate, n, &[origin]).await?;
            }
        }
        Ok(())
    }
}
