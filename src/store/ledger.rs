//! Who was erased, beside the database: a file that only grows, in the data folder and in every folder of backups, so
//! that no restored backup brings an erased person back. It names people by id only.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::engine::{Direction, Read};
use super::tables::{ERASURES, KeyRange};
use crate::clock::Time;
use crate::error::Error;
use crate::ids::{ErasureId, OrganizationId, UserId};
use crate::model::gdpr::Erasure;

/// Name of the file, in each folder.
pub const FILE: &str = "erasures.log";
/// Some 500,000 erasures; in bytes.
const LONGEST: u64 = 100 << 20;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub id: ErasureId,
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    pub erased_at: Time,
}

impl From<&Erasure> for Entry {
    fn from(erasure: &Erasure) -> Self {
        let Erasure { id, organization_id, user_id, erased_at, .. } = *erasure;
        Self { id, organization_id, user_id, erased_at }
    }
}

/// The same file in several folders.
#[derive(Default)]
pub struct Ledger {
    folders: Vec<PathBuf>,
    turn: Mutex<()>,
}

impl Ledger {
    /// Folders that are not there are left out when something is written, until they are.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, turn: Mutex::default() }
    }

    /// Adds what each file does not have yet; on disk when it returns. A folder that cannot be written to is named in
    /// the log, and gets it the next time.
    pub fn add(&self, entries: &[Entry]) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in self.folders.iter().filter(|folder| folder.is_dir()) {
            if let Err(error) = extend(&folder.join(FILE), entries) {
                tracing::error!(folder = %folder.display(), %error, "the ledger of erasures cannot be written");
            }
        }
    }
}

/// What the database itself knows of erasures.
pub fn stored(from: &impl Read) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    ERASURES.scan(from, KeyRange::all(), Direction::Ascending, |_, erasure| {
        entries.push(Entry::from(&erasure));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Adds to the file at `path` what it does not have yet.
pub fn extend(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let (known, is_whole) = parse(path)?;
    let known: HashSet<ErasureId> = known.iter().map(|entry| entry.id).collect();
    let mut text = String::new();
    if !is_whole {
        text.push('\n');
    }
    let mut is_new = false;
    for entry in entries.iter().filter(|entry| !known.contains(&entry.id)) {
        text += &serde_json::to_string(entry)?;
        text.push('\n');
        is_new = true;
    }
    if !is_new {
        return Ok(());
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// All entries of the file at `path`; none when there is no file.
///
/// # Errors
/// Also for a line that is no entry, unless it is the last one and cut off, which a power cut leaves.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    Ok(parse(path)?.0)
}

/// The entries, and whether the last line is whole.
fn parse(path: &Path) -> io::Result<(Vec<Entry>, bool)> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(LONGEST).read_to_string(&mut text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), true)),
        Err(error) => return Err(error),
    };
    let is_whole = text.is_empty() || text.ends_with('\n');
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            // Cut off once, and something was written after it since.
            Err(error) if error.is_eof() => {}
            Err(error) => {
                let number = index + 1;
                return Err(io::Error::new(ErrorKind::InvalidData, format!("line {number} is no erasure: {error}")));
            }
        }
    }
    Ok((entries, is_whole))
}
