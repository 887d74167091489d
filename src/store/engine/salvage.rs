//! Reading what can still be read of a damaged file.

use std::mem::ManuallyDrop;
use std::path::Path;

use redb::{ReadableDatabase, StorageBackend};

use super::error::{guarded, unopened};
use super::look::{Readable, shared};
use super::view::View;
use super::{OpenError, Snapshot, builder};

/// Memory for pages, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// Shows what is in the file at `path`, whatever state it is in, without changing it. Pages are not verified: a row that
/// comes out of it may be damaged, and reading on may fail at any of them.
///
/// What redb holds is left alone afterwards: to end a damaged database in order can abort the process.
pub fn salvage<T>(path: &Path, read: impl FnOnce(&Snapshot) -> T) -> Result<T, OpenError> {
    let file = shared(path)?;
    let length = file.metadata().map_err(|source| OpenError::Io { action: "read", path: path.into(), source })?.len();
    open(path, Readable::new(file), length, read)
}

fn open<T>(
    path: &Path,
    file: impl StorageBackend,
    length: u64,
    read: impl FnOnce(&Snapshot) -> T,
) -> Result<T, OpenError> {
    let opened = guarded(|| {
        let mut builder = builder(CACHE_BYTES);
        builder.set_check_integrity_on_open(false);
        builder.create_with_backend(View::new(file, length))
    });
    let database = ManuallyDrop::new(opened.map_err(|error| unopened(path, error))?);
    let snapshot = guarded(|| database.begin_read()).map(Snapshot::new);
    let damaged = |error: redb::TransactionError| OpenError::Damaged { path: path.into(), detail: error.to_string() };
    let snapshot = ManuallyDrop::new(snapshot.map_err(damaged)?);
    Ok(read(&snapshot))
}
