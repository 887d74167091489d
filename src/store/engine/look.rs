//! Looking into a file that nobody has open.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;

use redb::{BackendError, StorageBackend};

use super::{OpenError, Options, Snapshot, examine};

/// Shows the contents of the file at `path`, which is opened for reading only, and examined like any other.
///
/// # Errors
/// As when it is opened; also while a server has it open.
pub fn look(path: &Path, options: Options, see: impl FnOnce(&Snapshot) -> Result<(), String>) -> Result<(), OpenError> {
    examine::examine(path, Readable(shared(path)?), options, see)
}

/// The file, with a lock that keeps writers out.
pub(super) fn shared(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { action: "open", path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::AlreadyOpen { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A file that is only read. The locks that redb asks for are those of a writer: [`look`] holds one of its own instead.
#[derive(Debug)]
pub(super) struct Readable(File);

impl Readable {
    pub fn new(file: File) -> Self {
        Self(file)
    }
}

impl StorageBackend for Readable {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
