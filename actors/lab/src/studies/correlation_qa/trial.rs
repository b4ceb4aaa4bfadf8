//! Trials: a question with an image, as it is put to a model, and how it is recorded.
//!
//! A trial is a statement (a prompt) of its question: its style is the kind of image, its canonical digest that of the image's file, its
//! writer whoever drew it, and its header says the rest, so that a recorded run can be judged anew from its records alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_store::{Digest, Edge, NodeId, Recording, Relation, Statement};

use super::question::{Asked, Question};
use crate::error::{Error, Result};
use crate::lab::Lab;

/// Kinds of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A picture of the answer.
    Natural,
    /// The answer as a drawn word.
    Typography,
    /// No image.
    Text,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 3] = [Self::Natural, Self::Typography, Self::Text];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::Typography => "typography",
            Self::Text => "text",
        }
    }
}

/// What an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// The right answer.
    Factual,
    /// A wrong one.
    Spurious,
}

/// Who made an image, of what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Made {
    /// What it was to show.
    pub(super) prompt: String,
    /// The seed it was drawn with, if it was drawn with one.
    pub(super) seed: Option<u64>,
    /// What the painter made of the prompt, or the path it was published under.
    pub(super) note: String,
}

/// What the header of a trial says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    category: String,
    right: String,
    wrong: Vec<String>,
    aliases: BTreeMap<String, Vec<String>>,
    role: Option<Role>,
    pictured: Option<String>,
    made: Made,
}

/// A question with an image, or without.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Place of the question.
    pub(super) question: usize,
    /// Place among the images of its kind of the question: 0 is factual where both are built here.
    pub(super) k: u32,
    pub(super) kind: Kind,
    /// None without an image.
    pub(super) role: Option<Role>,
    /// The answer that is shown, if that is known.
    pub(super) pictured: Option<String>,
    /// The image's file.
    pub(super) image: Option<Digest>,
    pub(super) node: NodeId,
}

impl Trial {
    /// The wrong answer that is shown, if one is and it is known.
    pub(super) fn wrong_pictured(&self) -> Option<&str> {
        self.pictured.as_deref().filter(|_| self.role == Some(Role::Spurious))
    }
}

/// An image that is there, before it is put to anybody.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) question: usize,
    pub(super) k: u32,
    pub(super) kind: Kind,
    pub(super) role: Option<Role>,
    pub(super) pictured: Option<String>,
    pub(super) image: Option<Digest>,
    pub(super) made: Made,
}

/// Puts a trial on record; `drawn_by` made the image, `files` is the artifact that has it.
pub(super) fn put(
    lab: &Lab,
    recording: &mut Recording,
    asked: &Asked,
    shown: Shown,
    drawn_by: Option<NodeId>,
    files: Option<NodeId>,
) -> Result<Trial> {
    let Shown { question, k, kind, role, pictured, image, made } = shown;
    let Question { id, category, text, right, wrong, aliases } = asked.question.clone();
    let header = Header { category, right, wrong, aliases, role, pictured: pictured.clone(), made };
    let header = serde_json::to_string(&header).map_err(|error| Error::Internal(format!("a trial: {error}")))?;
    let statement = Statement {
        name: format!("{id}/{} {k}", kind.name()),
        header,
        canonical: image.unwrap_or_else(|| Digest::of(text.as_bytes())),
        text,
        style: kind.name().to_owned(),
        problem: asked.node.digest(),
        formalizer: drawn_by,
        compiles: None,
        faithful: None,
    };
    let node = recording.put(lab.run(), &statement)?;
    if let Some(files) = files {
        recording.put_edge(lab.run(), &Edge::new(node, Relation::Used, files))?;
    }
    Ok(Trial { question, k, kind, role, pictured, image, node })
}

/// A recorded trial and its question; the question's id is that of `problem`, its name. None if the statement is no trial.
pub(super) fn read(statement: &Statement, node: NodeId, k: u32, problem: &str) -> Option<(Trial, Question)> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == statement.style)?;
    let header: Header = serde_json::from_str(&statement.header).ok()?;
    let Header { category, right, wrong, aliases, role, pictured, .. } = header;
    let image = (kind != Kind::Text).then_some(statement.canonical);
    let question = Question { id: problem.to_owned(), category, text: statement.text.clone(), right, wrong, aliases };
    Some((Trial { question: 0, k, kind, role, pictured, image, node }, question))
}
