//! Proofs to check: the rows of a file in the store, or what runs recorded as proved.

use std::io::{BufRead, BufReader};

use tracker_proof::{Candidate, Outcome, rows};
use tracker_store::{
    Digest, Edge, Kind, Manifest, NodeId, Outcome as Recorded, Program, Recording, Relation, RunId, Statement, Store,
};

use super::Verify;
use crate::error::{Error, Result};
use crate::parts::attempt::proof_of;

/// What is read through at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A proof to check.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Its place: the line of a file, or the number of the proof among those of runs.
    pub(super) item: u32,
    /// Which attempt of that place.
    pub(super) k: u32,
    /// What the file calls the statement; names may occur twice.
    pub(super) name: String,
    /// What is checked.
    pub(super) candidate: Candidate,
    /// What is known without asking anybody.
    pub(super) settled: Option<(Outcome, String)>,
    /// The recorded proof it is.
    pub(super) recorded: Option<Earlier>,
}

/// A proof as a run recorded it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    /// The sample.
    pub(super) node: NodeId,
    /// Its statement.
    pub(super) subject: NodeId,
    /// Who wrote it.
    pub(super) policy: NodeId,
}

impl Given {
    /// How long its texts are.
    pub(super) fn n_bytes(&self) -> usize {
        self.candidate.header.len() + self.candidate.statement.len() + self.candidate.proof.len()
    }
}

/// What stands at a place.
pub(super) enum Item {
    /// A proof.
    Proof(Box<Given>),
    /// A row that is none: its line, and why.
    Bad(u64, String),
}

type Items = Box<dyn Iterator<Item = Result<Item>>>;

/// Where proofs come from.
pub(super) enum Source {
    /// The one file of an artifact.
    File {
        /// What people call it.
        name: String,
        /// The artifact.
        artifact: NodeId,
        /// The file's bytes.
        file: Digest,
    },
    /// The proofs of runs.
    Runs(Vec<RunId>),
}

impl Source {
    /// Finds what a plan names.
    ///
    /// # Errors
    /// `Value` for what is no digest or run; `Store` if it is not there.
    pub(super) fn open(store: &Store, plan: &Verify) -> Result<Self> {
        if plan.rows.is_empty() {
            let runs: Vec<RunId> = plan.runs.iter().map(|run| Ok(store.resolve_run(run)?)).collect::<Result<_>>()?;
            return Ok(Self::Runs(runs));
        }
        let manifest: Digest = plan
            .rows
            .parse()
            .map_err(|error| Error::Value { key: "rows".into(), message: format!("expected a digest: {error}") })?;
        let artifact = NodeId::content(Kind::Artifact, manifest)
            .ok_or_else(|| Error::Internal("an artifact has no node".into()))?;
        let files = store.content::<Manifest>(manifest)?.files;
        match files.as_slice() {
            [file] => Ok(Self::File { name: plan.file.clone(), artifact, file: file.digest }),
            files => Err(Error::Value {
                key: "rows".into(),
                message: format!("expected an artifact of one file, got one of {}", files.len()),
            }),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::File { name, .. } => name,
            Self::Runs(_) => "runs",
        }
    }

    /// How many places there are, at most.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn n_items(&self, store: &Store) -> Result<usize> {
        match self {
            Self::File { file, .. } => {
                let (mut reader, mut n_lines) = (BufReader::with_capacity(BUFFER_BYTES, store.open_file(*file, 0)?), 0);
                loop {
                    let bytes =
                        reader.fill_buf().map_err(|error| Error::Internal(format!("{}: {error}", self.name())))?;
                    if bytes.is_empty() {
                        return Ok(n_lines);
                    }
                    n_lines += bytes.split(|byte| *byte == b'\n').count() - 1;
                    let n_bytes = bytes.len();
                    reader.consume(n_bytes);
                }
            }
            Self::Runs(runs) => Ok(runs.iter().map(|run| proved(store, *run).count()).sum()),
        }
    }

    /// Records what the proofs come from, and returns what they are said to be written by.
    ///
    /// # Errors
    /// Those of recording.
    pub(super) fn record(&self, run: RunId, recording: &mut Recording) -> Result<NodeId> {
        let (node, used) = match self {
            Self::File { artifact, .. } => {
                let (name, version) = ("published proofs".to_owned(), "1".to_owned());
                let node = recording.put(run, &Program { name, version, settings: artifact.to_string() })?;
                (node, vec![*artifact])
            }
            Self::Runs(runs) => (NodeId::run(run), runs.iter().map(|run| NodeId::run(*run)).collect()),
        };
        for (order, used) in used.into_iter().enumerate() {
            recording.put_edge(run, &Edge::new(node, Relation::Used, used).at(order as u32))?;
        }
        Ok(node)
    }

    /// The header of the first proof.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn first_header(&self, store: &Store) -> Result<Option<String>> {
        for item in self.read(store)? {
            if let Item::Proof(given) = item? {
                return Ok(Some(given.candidate.header));
            }
        }
        Ok(None)
    }

    /// Every place in order.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn read(&self, store: &Store) -> Result<Items> {
        Ok(match self {
            Self::File { file, .. } => {
                let reader = BufReader::with_capacity(BUFFER_BYTES, store.open_file(*file, 0)?);
                Box::new(rows::read(reader).map(item))
            }
            Self::Runs(runs) => {
                let store = store.clone();
                let proofs = runs.clone().into_iter().flat_map(move |run| proofs_of(&store, run));
                Box::new(
                    proofs.enumerate().map(|(nth, proof)| {
                        proof.map(|proof| Item::Proof(Box::new(Given { item: nth as u32, ..proof })))
                    }),
                )
            }
        })
    }
}

fn item(row: tracker_proof::Result<rows::Row>) -> Result<Item> {
    match row {
        Ok(row) => Ok(Item::Proof(Box::new(Given {
            item: u32::try_from(row.line).map_err(|_| Error::Input {
                what: format!("expected at most {} lines", u32::MAX),
                hint: Some("cut the file up".into()),
            })?,
            k: row.attempt,
            name: row.name,
            candidate: row.candidate,
            settled: row.settled,
            recorded: None,
        }))),
        Err(error @ tracker_proof::Error::Row { line, .. }) => Ok(Item::Bad(line, error.to_string())),
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}

/// The verdicts by which a run recorded something as proved by whatever verifier, one a sample.
fn proved(store: &Store, run: RunId) -> impl Iterator<Item = Result<NodeId>> + use<> {
    let mut last = None;
    let proved = store.verdicts(run, None).filter(move |verdict| {
        let Ok((node, verdict)) = verdict else { return true };
        verdict.outcome == Recorded::Proved && last.replace(node.row()) != Some(node.row())
    });
    proved.map(|verdict| Ok(verdict?.0))
}

/// What a run recorded as proved, each sample once.
fn proofs_of(store: &Store, run: RunId) -> impl Iterator<Item = Result<Given>> + use<> {
    let proved = proved(store, run);
    let store = store.clone();
    proved.map(move |node| {
        let node = node?;
        let row = node.row().ok_or_else(|| Error::Internal(format!("{node} stands nowhere")))?;
        let missing =
            || Error::Internal(format!("the sample that {node} is about is not there; `tracker fsck` tells more"));
        let sample = store.sample(row)?.ok_or_else(missing)?;
        let digest = sample.subject.digest().ok_or_else(missing)?;
        let statement: Statement = store.content(digest)?;
        let candidate =
            Candidate { header: statement.header, statement: statement.text, proof: proof_of(&sample.text) };
        let recorded = Earlier { node: NodeId::sample(row), subject: sample.subject, policy: sample.policy };
        Ok(Given { item: 0, k: 0, name: statement.name, candidate, settled: None, recorded: Some(recorded) })
    })
}
