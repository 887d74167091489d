//! Ordered byte keys and values in serializable transactions, kept in one file. The only place that names redb.
//!
//! What the layers above may rely on:
//! - A commit that has returned `Ok` survives a power cut; any other is there entirely or not at all.
//! - An existing file is examined, on a view that keeps writes in memory, before anything is written to it.
//! - After an [`EngineError`] with `storage_failed`, nothing is written any more.

mod error;
mod examine;
#[cfg(test)]
pub mod faults;
mod look;
mod meter;
mod read;
mod salvage;
#[cfg(test)]
mod tests;
mod transaction;
mod view;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, TableDefinition};

use crate::ids::fill_random;

pub use error::{EngineError, OpenError};
use error::{guarded, unopened};
pub use look::look;
pub use meter::Traffic;
use meter::{Meter, Metered};
pub use read::{Direction, Read, Snapshot, Source, Visit};
pub use salvage::salvage;
pub use transaction::Transaction;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for pages, in bytes, shared by reads and the open transaction.
    pub cache_bytes: usize,
    /// A file of up to this many bytes has every checksum verified before it is opened; of a longer one only the
    /// header and the pages that opening needs are looked at.
    pub verify_up_to_bytes: u64,
}

pub struct Engine {
    database: Database,
    meter: Arc<Meter>,
}

impl Engine {
    /// Opens the file at `path`, or creates it (mode 0600) when there is none. Of an existing file, `accept` sees the
    /// contents first; its refusal, like damage, leaves the file's bytes as they were.
    pub fn open(
        path: &Path,
        options: Options,
        accept: impl FnOnce(&Snapshot) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let failed = |source| OpenError::Io { action: "open", path: path.into(), source };
        match open() {
            Ok(file) => examine::examine(path, file_backend(file), options, accept)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path, options),
            Err(error) => return Err(failed(error)),
        }
        Self::over(file_backend(open().map_err(failed)?), options).map_err(|error| unopened(path, error))
    }

    /// Makes an empty database beside `path` and links it there when it is on disk, so that a power cut leaves no
    /// half-made file under the name that is trusted. Never replaces a file.
    fn create(path: &Path, options: Options) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { action: "create", path: path.into(), source };
        let unfinished = unfinished_name(path);
        let new = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished);
        let engine = Self::over(file_backend(new.map_err(failed)?), options);
        let linked = engine.is_ok().then(|| fs::hard_link(&unfinished, path));
        fs::remove_file(&unfinished).map_err(failed)?;
        linked.transpose().map_err(failed)?;
        sync_directory_of(path).map_err(failed)?;
        engine.map_err(|error| unopened(path, error))
    }

    fn over(file: impl StorageBackend, options: Options) -> Result<Self, DatabaseError> {
        let meter = Arc::new(Meter::default());
        let file = Metered::new(file, meter.clone());
        let database = guarded(|| builder(options.cache_bytes).create_with_backend(file))?;
        Ok(Self { database, meter })
    }

    /// The state as of the last commit. Keep it short: it pins the pages of its time.
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        Ok(guarded(|| self.database.begin_read()).map(Snapshot::new)?)
    }

    /// Begins the one write transaction; waits while another is open.
    pub fn begin(&self) -> Result<Transaction, EngineError> {
        Transaction::begin(&self.database)
    }

    /// Moves pages to the front and shortens the file. Takes as long as rewriting what it moves. Fails, as a mistake
    /// of the caller, while a snapshot is open; waits for nothing.
    pub fn compact(&mut self) -> Result<(), EngineError> {
        guarded(|| self.database.compact())?;
        Ok(())
    }

    pub fn traffic(&self) -> Traffic {
        self.meter.traffic()
    }

    /// Bytes of the file's pages that are in use; the rest is what compaction can give back. Reads every page, and
    /// waits for an open transaction: for a start or a rare look, not for a scrape.
    pub fn used_bytes(&self) -> Result<u64, EngineError> {
        let transaction = guarded(|| self.database.begin_write())?;
        let stats = guarded(|| transaction.stats())?;
        guarded(|| transaction.abort())?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Closes the file, so that the next open has nothing to recover. Dropping the engine does the same, but swallows
    /// the error.
    pub fn close(self) -> Result<(), EngineError> {
        guarded(|| self.database.close())?;
        Ok(())
    }

    /// An engine on a disk that can fail; what is there already is examined first, as a file is.
    #[cfg(test)]
    pub fn open_on(disk: faults::Disk, options: Options) -> Result<Self, OpenError> {
        let path = Path::new("test disk");
        if !disk.is_empty() {
            examine::examine(path, disk.clone(), options, |_| Ok(()))?;
        }
        Self::over(disk, options).map_err(|error| unopened(path, error))
    }
}

/// Every table has byte keys, in byte order, and byte values.
const fn definition(name: &'static str) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

fn file_backend(file: File) -> FileBackend {
    FileBackend::new(file).expect("it only wraps the file")
}

fn unfinished_name(path: &Path) -> PathBuf {
    let mut random = [0; 8];
    fill_random(&mut random);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    name.into()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
