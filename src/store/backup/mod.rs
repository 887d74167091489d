//! Backups: one consistent state in a file of its own, which counts as one only once it was restored, counted and
//! verified in a scratch folder.

mod container;
mod file;
mod load;
mod protect;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::engine::Read;
use super::tables::META;
use super::write::Tx;
use crate::clock::Time;
use crate::error::{Error, with_remedy};

pub use file::{Saved, copy, files_of, save};
pub use load::{Restored, load, prove};
pub use protect::{Keys, Protection, open};
pub use write::{Guard, Watch, write};

/// Name of the data file in a folder.
pub const DATA_FILE: &str = "zero.redb";
/// Folder of keys and certificates beside it.
pub const TLS_FOLDER: &str = "tls";

/// Name in [`META`] of the time of the newest proven backup.
const LAST: &str = "last_proven_backup";

/// Notes that a backup of that time was proven.
pub fn note(tx: &mut Tx, created_at: Time) -> Result<(), Error> {
    let last = last(tx)?.map_or(created_at, |last| last.max(created_at));
    tx.put(META, &LAST.into(), &last.unix().unsigned_abs())
}

/// When the newest proven backup was made; `None` when there was never one.
pub fn last(from: &impl Read) -> Result<Option<Time>, Error> {
    Ok(META.get(from, &LAST.into())?.map(|seconds| Time::from_unix(seconds.cast_signed())))
}

/// Why there is no backup, or why one is not restored. Each text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot {action} {}: {}", path.display(), with_remedy(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is there already: give another name, a backup is never replaced", .0.display())]
    Exists(PathBuf),
    #[error("the backup cannot be read: {0}")]
    Unreadable(String),
    #[error("this is no backup of zero")]
    NotABackup,
    #[error("the backup is damaged: {0}. Use another one; nothing of this one was restored")]
    Damaged(String),
    #[error(
        "the backup was made by a newer version of zero, in a format that this one does not know: use that version"
    )]
    NewerFormat,
    #[error(
        "the backup was made by zero {version} (schema {schema}; this one reads up to {known}): use that version or a \
         newer one"
    )]
    NewerSchema { version: String, schema: u64, known: u64 },
    #[error("the backup is encrypted: {0}")]
    Locked(&'static str),
    #[error("the backup does not prove to be one: {0}. It was removed")]
    Unproven(String),
    #[error("{} would have less than {} MiB left: free space, or choose another folder", path.display(), min_free >> 20)]
    Full { path: PathBuf, min_free: u64 },
    #[error("the backup was given up: {0}")]
    GivenUp(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for BackupError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<super::engine::EngineError> for BackupError {
    fn from(error: super::engine::EngineError) -> Self {
        Error::from(error).into()
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { action, path: path.into(), source }
}
