//! What can go wrong: in starting a runtime, in a worker, and for whoever asked.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// Result of starting or configuring something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A runtime or a pool that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a thread, an event loop or a signal handler.
    #[error("no runtime for actors")]
    Runtime(#[source] std::io::Error),
    /// A runtime was asked for on a thread that already runs one.
    #[error("this thread already runs an event loop, and a runtime needs one of its own")]
    Nested,
    /// Options that describe no pool.
    #[error("pool `{pool}`: expected `{option}` of at least 1, got 0")]
    Options {
        /// Name of the pool.
        pool: String,
        /// Name of the option.
        option: &'static str,
    },
    /// The runtime has been shut down.
    #[error("pool `{pool}` cannot start: the runtime has stopped")]
    Stopped {
        /// Name of the pool.
        pool: String,
    },
}

/// Whose trouble a [`Fault`] is; decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The surroundings failed: an endpoint, a process, a disk. Trying again may help; it says nothing about the message.
    Infra,
    /// The message cannot be handled as it stands. Trying again is pointless.
    Input,
    /// Our own mistake. Trying again is pointless.
    Bug,
}

/// Why a worker could not be built, or could not answer.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: FaultKind,
    text: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Fault {
    /// The error itself, so that it can be told by its type; a derived `source` gives its `Arc`, which has none.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl Fault {
    fn new(kind: FaultKind, text: impl fmt::Display) -> Self {
        Self { kind, text: text.to_string(), source: None }
    }

    /// A fault of the surroundings, worth another try.
    pub fn infra(text: impl fmt::Display) -> Self {
        Self::new(FaultKind::Infra, text)
    }

    /// A fault of the message itself.
    pub fn input(text: impl fmt::Display) -> Self {
        Self::new(FaultKind::Input, text)
    }

    /// A mistake of ours.
    pub fn bug(text: impl fmt::Display) -> Self {
        Self::new(FaultKind::Bug, text)
    }

    /// The same fault with the error that led to it, which stays in the chain of sources.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Whose trouble it is.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        self.kind
    }
}

/// Why an ask has no reply. Every ask ends in a reply or in one of these; none hangs because a worker died.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The handler panicked on this message. No other message is touched; the worker is rebuilt.
    #[error("worker {worker} panicked: {message}")]
    Panicked {
        /// Index of the worker, below the pool's number of workers.
        worker: usize,
        /// What the panic said.
        message: String,
    },
    /// The handler answered with a fault, or the worker's thread was lost under it.
    #[error(transparent)]
    Failed(#[from] Fault),
    /// The handler took longer than the pool allows. The worker is rebuilt, on a fresh thread if the old one is stuck.
    #[error("worker {worker} gave no answer within {limit:?}")]
    TimedOut {
        /// Index of the worker.
        worker: usize,
        /// The pool's time limit for one message.
        limit: Duration,
    },
    /// The pool stopped before the message was handled, or before it was done.
    #[error("the pool has stopped")]
    Stopped,
    /// A worker could not be built, so the pool closed.
    #[error("pool `{pool}` could not build a worker")]
    Start {
        /// Name of the pool.
        pool: String,
        /// What the factory said.
        #[source]
        fault: Fault,
    },
    /// Workers were lost too often, so the pool closed.
    #[error("pool `{pool}` gave up: more than {limit} workers lost within {window:?}")]
    GaveUp {
        /// Name of the pool.
        pool: String,
        /// Losses allowed within the window.
        limit: usize,
        /// The window.
        window: Duration,
        /// The last loss.
        #[source]
        last: Fault,
    },
}

/// Tells failures that another try may cure from those it cannot.
pub trait Retryable {
    /// Whether the same operation may succeed when tried again.
    fn is_retryable(&self) -> bool;
}

impl Retryable for Fault {
    fn is_retryable(&self) -> bool {
        self.kind == FaultKind::Infra
    }
}

impl Retryable for AskError {
    /// A lost worker, a timeout and a fault of the surroundings; not what a closed pool says.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(fault) => fault.is_retryable(),
            Self::Panicked { .. } | Self::TimedOut { .. } => true,
            Self::Stopped | Self::Start { .. } | Self::GaveUp { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_led_to_a_fault_is_found_by_its_type() {
        let inner = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = AskError::from(Fault::infra("could not record").because(inner));
        let inner = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(inner.map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull));
    }
}
