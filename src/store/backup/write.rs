//! From a snapshot to a backup. The snapshot is the one point of consistency: it lives as long as writing takes, seconds
//! for a large fleet, during which the data file grows by what is written meanwhile.

use std::io::{self, Write};
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::BackupError;
use super::container::{Kind, Writer};
use crate::clock::Time;
use crate::model::backup::{BackupHead, Contents, LogHead};
use crate::store::audit::chain::hex;
use crate::store::engine::{Direction, Read, Snapshot};
use crate::store::migrate::{self, SCHEMA_VERSION};
use crate::store::tables::{self, AUDIT_HEADS, KeyRange};

/// Content of a frame of rows, about.
const FRAME: usize = 256 << 10;
/// Bytes written between two looks at the space left.
const LOOK: u64 = 4 << 20;

/// Writes all tables and `files` (name and content) as of `snapshot`.
///
/// # Errors
/// What cannot be read or written; what was written by then is no backup.
pub fn write(
    snapshot: &Snapshot,
    files: &[(String, Vec<u8>)],
    created_at: Time,
    to: impl Write,
) -> Result<Contents, BackupError> {
    let mut writer = Writer::new(to).map_err(unwritten)?;
    let schema = migrate::version(snapshot)?.unwrap_or(SCHEMA_VERSION);
    let head = BackupHead { version: env!("CARGO_PKG_VERSION").into(), schema, created_at };
    writer.frame(Kind::Head, &json(&head)).map_err(unwritten)?;
    let mut contents = Contents { files: files.len() as u64, ..Contents::default() };
    for table in tables::ALL {
        let mut frame = Rows::new(table.name);
        let (mut count, mut written) = (0, Ok(()));
        snapshot.scan(table.name, Bound::Unbounded, Bound::Unbounded, Direction::Ascending, &mut |key, value| {
            count += 1;
            frame.add(key, value);
            if frame.bytes.len() >= FRAME {
                written = writer.frame(Kind::Rows, &frame.bytes);
                frame = Rows::new(table.name);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written.map_err(unwritten)?;
        if !frame.is_empty {
            writer.frame(Kind::Rows, &frame.bytes).map_err(unwritten)?;
        }
        // redb's own count, which the rows that were read must add up to.
        let there = snapshot.count(table.name)?;
        if count != there {
            let why = format!("of {there} records in table {} only {count} could be read", table.name);
            return Err(BackupError::Unproven(why));
        }
        contents.tables.insert(table.name.into(), count);
    }
    for (name, bytes) in files {
        let frame = [&[name.len() as u8], name.as_bytes(), bytes].concat();
        writer.frame(Kind::File, &frame).map_err(unwritten)?;
    }
    contents.logs = log_heads(snapshot)?;
    writer.frame(Kind::End, &json(&contents)).map_err(unwritten)?;
    writer.finish().map_err(unwritten)?;
    Ok(contents)
}

/// Whoever takes what is written may have a reason of its own to stop it.
fn unwritten(error: io::Error) -> BackupError {
    match error.downcast::<BackupError>() {
        Ok(reason) => reason,
        Err(source) => BackupError::Io { action: "write", path: "the backup".into(), source },
    }
}

pub(super) fn log_heads(from: &impl Read) -> Result<Vec<LogHead>, BackupError> {
    let mut logs = Vec::new();
    AUDIT_HEADS.scan(from, KeyRange::all(), Direction::Ascending, |organization_id, head| {
        logs.push(LogHead { organization_id, seq: head.seq, hash: hex(&head.hash) });
        ControlFlow::Continue(())
    })?;
    Ok(logs)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain records are written as JSON")
}

/// Rows of one table: the length of its name, the name, then for each row both lengths, key and value.
struct Rows {
    bytes: Vec<u8>,
    is_empty: bool,
}

impl Rows {
    fn new(table: &str) -> Self {
        let mut bytes = Vec::with_capacity(FRAME + FRAME / 8);
        bytes.push(table.len() as u8);
        bytes.extend(table.as_bytes());
        Self { bytes, is_empty: true }
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend((key.len() as u32).to_le_bytes());
        self.bytes.extend((value.len() as u32).to_le_bytes());
        self.bytes.extend(key);
        self.bytes.extend(value);
        self.is_empty = false;
    }
}

/// When to give a backup up.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Set when the appliance stops.
    pub stop: Arc<AtomicBool>,
    /// Bytes that stay free on the disk: a full one would stop the appliance itself.
    pub min_free: u64,
    /// A snapshot held for longer would let the data file grow without end.
    pub deadline: Instant,
}

impl Guard {
    pub fn new(min_free: u64) -> Self {
        Self { stop: Arc::default(), min_free, deadline: Instant::now() + Duration::from_secs(60 * 60) }
    }

    /// Whether work in `folder` may go on.
    pub fn check(&self, folder: &Path) -> Result<(), BackupError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BackupError::GivenUp("the appliance stops"));
        }
        if Instant::now() > self.deadline {
            return Err(BackupError::GivenUp("it took too long"));
        }
        let free = rustix::fs::statvfs(folder).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        match free {
            Ok(free) if free < self.min_free => Err(BackupError::Full { path: folder.into(), min_free: self.min_free }),
            _ => Ok(()),
        }
    }
}

/// A writer that looks every few MiB whether it may go on.
pub struct Watch<W> {
    to: W,
    guard: Guard,
    folder: PathBuf,
    since: u64,
}

impl<W> Watch<W> {
    pub fn new(to: W, guard: Guard, folder: &Path) -> Self {
        Self { to, guard, folder: folder.into(), since: LOOK }
    }

    pub fn into_inner(self) -> W {
        self.to
    }
}

impl<W: Write> Write for Watch<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since >= LOOK {
            self.since = 0;
            self.guard.check(&self.folder).map_err(io::Error::other)?;
        }
        let written = self.to.write(bytes)?;
        self.since += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
