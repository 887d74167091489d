//! What can go wrong between the store and its file, in the words of whoever has to act on it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A read, write or commit that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub message: String,
    /// The disk failed, is full, or holds damaged pages. The engine answers nothing but errors from then on: the
    /// process has to stop, so that the next start examines the file. False means a mistake of the caller.
    pub storage_failed: bool,
}

impl EngineError {
    pub(super) fn storage(message: String) -> Self {
        Self { message, storage_failed: true }
    }

    fn caller(message: String) -> Self {
        Self { message, storage_failed: false }
    }
}

impl From<redb::StorageError> for EngineError {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::ValueTooLarge(_) => Self::caller(error.to_string()),
            _ => Self::storage(error.to_string()),
        }
    }
}

impl From<redb::TableError> for EngineError {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(storage) => storage.into(),
            // Every table has the same types, so that a mismatch is damage; the rest cannot happen here.
            other => Self::storage(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for EngineError {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(storage) => storage.into(),
            other => Self::caller(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for EngineError {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(storage) => storage.into(),
            other => Self::storage(other.to_string()),
        }
    }
}

impl From<redb::CompactionError> for EngineError {
    fn from(error: redb::CompactionError) -> Self {
        match error {
            redb::CompactionError::Storage(storage) => storage.into(),
            other => Self::caller(other.to_string()),
        }
    }
}

impl From<redb::DatabaseError> for EngineError {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::Storage(storage) => storage.into(),
            other => Self::caller(other.to_string()),
        }
    }
}

/// Runs `call` of redb and turns a panic in it into an error. redb looks at a page's checksum in an examination only
/// and trusts the page afterwards: one damaged while the file is open can make it index out of bounds. No closure of a
/// caller may run inside, or its panics would pass for damage. A commit that comes upon such a page can still abort the
/// process, as redb then panics while unwinding: loudly, and before anything is acknowledged.
pub(super) fn guarded<T, E: From<redb::StorageError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let cause = panic.downcast_ref::<String>().map(String::as_str);
        let cause = cause.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no cause given");
        Err(redb::StorageError::Corrupted(format!("the storage engine panicked: {cause}")).into())
    })
}

/// Why the file was not opened. Each text says what is wrong and what to do; the file's bytes are as they were.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {action} {}: {source}. Check that the path is right and that the account zero runs as may read \
             and write it and its directory.", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is open in another process. Stop the other zero, or give this one another data directory.",
            path.display())]
    AlreadyOpen { path: PathBuf },
    #[error("{} is empty (0 bytes), and zero never leaves an empty file: whatever it held is gone. Put a copy of the \
             file taken earlier in its place. If there was never any data, delete the file and start again.",
            path.display())]
    Empty { path: PathBuf },
    #[error("{} is not a database of zero. It was left as it is. Give zero another data directory, or put a copy of \
             its database in the place of this file.", path.display())]
    NotADatabase { path: PathBuf },
    #[error("{} is damaged: {detail}. It was left as it is. Copy it aside before anything else, check the disk it is \
             on, and put a copy of the file taken earlier in its place.", path.display())]
    Damaged { path: PathBuf, detail: String },
    /// The caller's own examination refused the contents, with this reason and remedy.
    #[error("{} cannot be used: {reason}. It was left as it is.", path.display())]
    Refused { path: PathBuf, reason: String },
}

/// What an error while examining or opening the file at `path` means.
pub(super) fn unopened(path: &Path, error: redb::DatabaseError) -> OpenError {
    let path = path.into();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen | redb::DatabaseError::LockProtocolMismatch => {
            OpenError::AlreadyOpen { path }
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            OpenError::Io { action: "open", path, source }
        }
        other => OpenError::Damaged { path, detail: other.to_string() },
    }
}
