//! What can go wrong, in the words of the domain. Statuses belong to `http::respond`.

use std::fmt;
use std::io;
use std::time::Duration;

/// One thing wrong with one member of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the member, such as `tags[2]`.
    pub field: String,
    /// What is wrong, as the rest of a sentence that starts with the path: `is required`.
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// Why an operation was refused or failed. The texts reach the caller, except that of [`Error::Internal`], which
/// reaches the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid request body")]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("{0}")]
    Conflict(String),
    /// `If-Match` named another version than the current one.
    #[error("the resource has changed since it was read")]
    Stale,
    #[error("{message}")]
    TooMany { message: String, retry_after: Duration },
    #[error("{message}")]
    Unavailable { message: String, retry_after: Duration },
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, message)])
    }

    pub fn unauthenticated() -> Self {
        Self::Unauthenticated("the token is invalid or has expired".into())
    }

    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}

/// What the system says of a file, and what to do about it where that is sure.
pub fn with_remedy(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "what happened to the disk is in the system's log (dmesg); check it, and mount it for writing"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk",
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}
