//! Contents: immutable, named by the digest of what they say, shared by every run that says the same.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::{Digest, Kind, NodeId};
use crate::records::Stored;

/// A value that is named by the digest of all its fields.
pub trait Content: Stored + Clone {
    /// The kind of its nodes.
    const KIND: Kind;

    /// The edges its own fields say, up.
    fn ups(&self) -> Vec<(super::Relation, NodeId)> {
        Vec::new()
    }

    /// Whether its fields agree with each other; asked before it is recorded.
    ///
    /// # Errors
    /// `Invalid`, with what does not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The digest of what it says: BLAKE3 over its kind and the first stored form of its fields.
    ///
    /// # Errors
    /// `Invalid` if a field cannot be encoded.
    fn digest(&self) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[Self::KIND as u8]);
        hasher.update(&self.identity()?);
        Ok(hasher.finalize().into())
    }

    /// Its node.
    ///
    /// # Errors
    /// As [`Content::digest`].
    fn node(&self) -> Result<NodeId> {
        Ok(NodeId::content_of(Self::KIND, self.digest()?))
    }
}

/// A problem in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its name within its source.
    pub name: String,
    /// Where it comes from: a file's name, a generator's.
    pub source: String,
    /// Its text.
    pub text: String,
}

impl Content for Problem {
    const KIND: Kind = Kind::Problem;
}

/// Independent judgements that went one way or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    /// How many said yes.
    pub yes: u32,
    /// How many voted.
    pub of: u32,
}

/// A formal statement to prove, or more widely a prompt to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Its name within its source.
    pub name: String,
    /// What stands before it in the file: imports, options.
    pub header: String,
    /// Its text.
    pub text: String,
    /// The digest of its canonical form: equal for statements that differ in names alone.
    pub canonical: Digest,
    /// The style it is written in; empty if there is one style only.
    pub style: String,
    /// The problem it states, if it was made from one.
    pub problem: Option<Digest>,
    /// Who wrote it: a checkpoint or an endpoint.
    pub formalizer: Option<NodeId>,
    /// Whether it compiles, if that was checked.
    pub compiles: Option<bool>,
    /// How many judges found it faithful to the problem, if any were asked.
    pub faithful: Option<Votes>,
}

impl Content for Statement {
    const KIND: Kind = Kind::Statement;

    fn ups(&self) -> Vec<(super::Relation, NodeId)> {
        let problem =
            self.problem.map(|digest| (super::Relation::DerivedFrom, NodeId::content_of(Kind::Problem, digest)));
        let writer = self.formalizer.map(|node| (super::Relation::WrittenBy, node));
        problem.into_iter().chain(writer).collect()
    }
}

/// A list of rows something was trained or measured on. Its members are edges, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What it is for: `train`, `benchmark`.
    pub purpose: String,
    /// How many rows it has.
    pub n_rows: u64,
    /// The digest of its rows' content, in order. Run ids do not enter it.
    pub content: Digest,
    /// The artifact that has its rows as a file, if one was written.
    pub rows: Option<Digest>,
}

impl Content for Dataset {
    const KIND: Kind = Kind::Dataset;
}

/// Weights of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What people call it.
    pub label: String,
    /// The digest of the model's configuration.
    pub config: Digest,
    /// The artifact that has its files; of a virtual checkpoint, the [`Recipe`](super::Recipe) that makes them.
    /// [`Store::weights`](crate::Store::weights) says which.
    pub manifest: Digest,
    /// How many parameters it has.
    pub n_params: u64,
    /// The optimiser step it was taken at.
    pub step: u64,
}

impl Content for Checkpoint {
    const KIND: Kind = Kind::Checkpoint;
}

/// A build of a verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// Its name: `kernel`, `lean`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit it was built from; empty if not known.
    pub commit: String,
    /// The digest of its binary.
    pub binary: Digest,
    /// The flags it runs with.
    pub flags: Vec<String>,
}

impl Content for Verifier {
    const KIND: Kind = Kind::Verifier;
}

/// A program that wrote or judged something: a formaliser, a judge, a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it was told: the settings that change what it answers.
    pub settings: String,
}

impl Content for Program {
    const KIND: Kind = Kind::Program;
}

/// A model behind a network interface. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it is.
    pub url: String,
    /// The model it was asked for.
    pub model: String,
    /// How it is spoken to: `completions`, `chat`.
    pub api: String,
}

impl Content for Endpoint {
    const KIND: Kind = Kind::Endpoint;
}

/// How samples were drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Temperature; 0 is greedy.
    pub temperature: f64,
    /// Nucleus mass, in (0, 1].
    pub top_p: f64,
    /// The most tokens a sample may have.
    pub max_tokens: u32,
    /// Texts that end a sample.
    pub stop: Vec<String>,
    /// The template that makes a prompt of a statement; empty if none.
    pub template: String,
}

impl Content for Sampling {
    const KIND: Kind = Kind::Sampling;
}
