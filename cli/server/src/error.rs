//! What a request is answered with when it fails: a code, a status and a message, as clients of the tracking protocol expect them.

use actix_web::http::StatusCode;
use serde::Serialize;
use tracker_store::Error as StoreError;

use crate::limits;

/// How long the message of a refusal may be, in characters.
const MAX_MESSAGE: usize = 2000;

/// The result of a handler.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Why a server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other machines can reach the address, so there must be a token.
    #[error("expected a token for `{host}`, which other machines can reach, got none")]
    TokenMissing {
        /// The address that was asked for.
        host: String,
    },
    /// The address cannot be used.
    #[error("could not listen at `{address}`")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or a socket failed.
    #[error("the server failed")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// What the caller can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TokenMissing { .. } => Some("set TRACKER_TOKEN, or serve 127.0.0.1".to_owned()),
            Self::Bind { .. } => Some("another program may listen there: name another port".to_owned()),
            Self::Io(_) => None,
            Self::Store(error) => error.hint(),
        }
    }

    /// Whether what was asked for is at fault, rather than this machine.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::TokenMissing { .. } | Self::Bind { .. } => true,
            Self::Io(_) => false,
            Self::Store(error) => error.is_input(),
        }
    }
}

/// The codes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Code {
    InvalidParameterValue,
    BadRequest,
    ResourceAlreadyExists,
    Unauthenticated,
    PermissionDenied,
    ResourceDoesNotExist,
    EndpointNotFound,
    RequestLimitExceeded,
    InternalError,
    NotImplemented,
    TemporarilyUnavailable,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameterValue | Self::BadRequest | Self::ResourceAlreadyExists => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::RequestLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A request that is not answered as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    /// What is longer than anyone reads of a message is cut: names and filters in it may be of any length.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        let n_kept = limits::truncated(&message, MAX_MESSAGE).len();
        if n_kept < message.len() {
            message.truncate(n_kept);
            message.push('…');
        }
        Self { code, message }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameterValue, message)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::invalid(format!("Missing value for required parameter '{parameter}'."))
    }

    pub(crate) fn invalid_value(value: &serde_json::Value, parameter: &str, expected: &str) -> Self {
        let text = value.to_string();
        let shown = match text.char_indices().nth(200) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Self::invalid(format!("Invalid value {shown} for parameter '{parameter}' supplied: {expected}."))
    }

    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceDoesNotExist, message)
    }

    /// Too much at once: the client asks again in a second.
    pub(crate) fn busy() -> Self {
        Self::new(Code::RequestLimitExceeded, "The server has as many requests as it can take. Try again.")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error_code: Code,
            message: &'a str,
        }
        // Codes and texts can always be written.
        serde_json::to_vec(&Body { error_code: self.code, message: &self.message }).unwrap_or_default()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        use tracker_store::Error as E;
        let message = error.to_string();
        match error {
            E::NotFound { .. } => Self::absent(message),
            E::Conflict { .. } => Self::new(Code::ResourceAlreadyExists, message),
            E::Invalid { .. } | E::Syntax { .. } | E::Ambiguous { .. } => Self::invalid(message),
            // Another writer was quicker for a while, or the process that held the store went away.
            E::Contended { .. } => Self::busy(),
            // The disk, or the process that holds the store: in a while it may answer.
            E::Engine(_) | E::Io { .. } => Self::new(Code::TemporarilyUnavailable, message),
            _ => Self::new(Code::InternalError, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_whatever_they_repeat() {
        for n in [10, MAX_MESSAGE, MAX_MESSAGE + 1, 1 << 20] {
            let text = "ü".repeat(n);
            for refusal in [
                Refusal::absent(&text),
                Refusal::from(StoreError::NotFound { what: "run", name: text.clone(), hint: String::new() }),
            ] {
                let n_letters = refusal.message.chars().count();
                assert_eq!(refusal.message.ends_with('…'), n_letters > MAX_MESSAGE, "{n}");
                assert!(n_letters <= MAX_MESSAGE + 1 && n_letters >= n.min(MAX_MESSAGE), "{n}: {n_letters}");
            }
        }
    }
}
