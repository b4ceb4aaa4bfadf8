//! What can go wrong in a study, by what the user can do about it.

use thiserror::Error as ThisError;
use tracker_actors::{AskError, FaultKind};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of plans, parts and studies.
#[derive(Debug, ThisError)]
pub enum Error {
    /// No study has this name.
    #[error("unknown study `{name}`")]
    UnknownStudy {
        /// As typed.
        name: String,
        /// The study most like it.
        nearest: Option<String>,
    },
    /// A plan names a key the study does not have.
    #[error("unknown key `{key}` in a plan of `{study}`")]
    UnknownKey {
        /// The study.
        study: String,
        /// As typed.
        key: String,
        /// The key most like it.
        nearest: Option<String>,
    },
    /// A key has a value it cannot take.
    #[error("key `{key}`: {message}")]
    Value {
        /// Dotted path.
        key: String,
        /// What was expected and found.
        message: String,
    },
    /// A plan file cannot be read as one.
    #[error("{path}: {message}")]
    Plan {
        /// The file.
        path: String,
        /// Where and what.
        message: String,
    },
    /// Something the user gave (a file, a checkpoint, a toolchain) cannot be used.
    #[error("{what}")]
    Input {
        /// What and where.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
    /// An endpoint did not answer, or answered nonsense.
    #[error("endpoint {url}: {what}")]
    Endpoint {
        /// Where.
        url: String,
        /// What came instead.
        what: String,
    },
    /// An endpoint cannot give what a method needs of it: weights, log-probabilities, certain tokens.
    #[error("key `{key}`: the endpoint of `{section}` ({url}) cannot give {lacks}")]
    Unable {
        /// The key that brings the need about.
        key: String,
        /// Where the endpoint's settings stand in the plan.
        section: String,
        /// Where it listens.
        url: String,
        /// What it cannot give, and how that is known.
        lacks: String,
        /// What to do.
        todo: String,
    },
    /// The run was asked to stop; what is recorded stays.
    #[error("interrupted")]
    Interrupted,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] tracker_store::Error),
    /// A language model failed.
    #[error("the language model failed")]
    Lm(#[from] tracker_lm::Error),
    /// A statement, a formula or a corpus failed.
    #[error(transparent)]
    Proof(#[from] tracker_proof::Error),
    /// Points cannot be compared, or a front cannot be written.
    #[error("the front failed")]
    Front(#[from] tracker_front::Error),
    /// A device failed.
    #[error("the device failed")]
    Gpu(#[from] tracker_gpu::Error),
    /// The actors could not be brought up.
    #[error(transparent)]
    Actors(#[from] tracker_actors::Error),
    /// A worker did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Our own trouble.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether the user's input is at fault, rather than this machine or this program.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::UnknownStudy { .. }
            | Self::UnknownKey { .. }
            | Self::Value { .. }
            | Self::Plan { .. }
            | Self::Input { .. }
            | Self::Unable { .. } => true,
            Self::Gpu(error) => {
                use tracker_gpu::Error::{Choice, NotFound, Refused};
                matches!(error, Choice { .. } | NotFound { .. } | Refused { .. })
            }
            // Of the model's errors all but these are about the folder it was to be read from, or what it was asked.
            Self::Lm(error) => {
                use tracker_lm::Error::{Device, Io, Logits, NonFinite};
                !matches!(error, Device { .. } | Io { .. } | Logits { .. } | NonFinite { .. })
            }
            Self::Store(error) => error.is_input(),
            Self::Ask(AskError::Failed(fault)) => fault.kind() == FaultKind::Input,
            _ => false,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownStudy { nearest: Some(nearest), .. } | Self::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::UnknownStudy { .. } => Some("`tracker studies` lists them".into()),
            Self::UnknownKey { study, .. } => Some(format!("`tracker studies {study}` lists its keys")),
            Self::Endpoint { .. } => {
                Some("is the server running, and are `endpoint.url` and `endpoint.model` right?".into())
            }
            Self::Input { hint, .. } => hint.clone(),
            Self::Unable { todo, .. } => Some(todo.clone()),
            Self::Ask(error) => {
                let mut at = std::error::Error::source(error);
                while let Some(cause) = at {
                    if let Some(error) = cause.downcast_ref::<tracker_lm::Error>() {
                        return lm_hint(error).map(str::to_owned);
                    }
                    at = cause.source();
                }
                None
            }
            Self::Lm(error) => lm_hint(error).map(str::to_owned),
            _ => None,
        }
    }
}

fn lm_hint(error: &tracker_lm::Error) -> Option<&'static str> {
    match error {
        tracker_lm::Error::TooLong { .. } => {
            Some("the model's context is too short for these texts: raise `policy.context`, or take shorter problems")
        }
        tracker_lm::Error::NonFinite { .. } | tracker_lm::Error::Logits { .. } => {
            Some("training diverged: lower the learning rate (`base.sft.lr`, `rounds.sft.lr`, `after.sft.lr`)")
        }
        _ => None,
    }
}
