//! What can go wrong with a model request, sorted by what is to be done (security MODEL-2, MODEL-3).

use std::time::Duration;

use manyhands_protocol::event::SessionErrorType;

/// Longest text of a provider that is passed on.
const MESSAGE_CHARS: usize = 600;

/// A failed model request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// For people: what happened and, where it helps, what to do. Holds no secret.
    pub message: String,
    /// The provider's hint how long to wait: untrusted, to be bounded by whoever waits.
    pub after: Option<Duration>,
}

/// The classes of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The provider has no room (529, `overloaded_error`).
    Overloaded,
    /// Our own rate limit (429).
    RateLimited,
    /// The provider failed, broke off, fell silent or could not be reached.
    Failed,
    /// The request is too long for the model.
    Overflow,
    /// The provider refuses this request, and would again (400, 413, 422).
    Refused,
    /// The key is not accepted, or not for this (401, 403).
    Auth,
    /// No such model or endpoint (404).
    NotFound,
    /// The account cannot pay (402).
    Billing,
}

/// What the owner of the turn should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Wait and ask again.
    Retry,
    /// Give the turn up and take its input out of the context: it would be refused again and again.
    Withhold,
    /// Give the turn up and tell the operator; the input is not at fault.
    Stop,
}

impl Error {
    /// An error of a class, with a message cut to a readable length.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = match message.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => format!("{}…", &message[..end]),
            None => message,
        };
        Self {
            kind,
            message,
            after: None,
        }
    }

    /// What is to be done.
    pub fn advice(&self) -> Advice {
        match self.kind {
            ErrorKind::Overloaded | ErrorKind::RateLimited | ErrorKind::Failed => Advice::Retry,
            ErrorKind::Overflow | ErrorKind::Refused => Advice::Withhold,
            ErrorKind::Auth | ErrorKind::NotFound | ErrorKind::Billing => Advice::Stop,
        }
    }

    /// The class clients see (runtime ER-3).
    pub fn session_error_type(&self) -> SessionErrorType {
        match self.kind {
            ErrorKind::Overloaded => SessionErrorType::ModelOverloadedError,
            ErrorKind::RateLimited => SessionErrorType::ModelRateLimitedError,
            ErrorKind::Billing => SessionErrorType::BillingError,
            ErrorKind::Failed
            | ErrorKind::Overflow
            | ErrorKind::Refused
            | ErrorKind::Auth
            | ErrorKind::NotFound => SessionErrorType::ModelRequestFailedError,
        }
    }
}
