//! From a backup to a folder, and the proof that it is what was backed up.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::container::{Kind, Reader};
use super::write::log_heads;
use super::{BackupError, DATA_FILE, Guard, TLS_FOLDER, failed};
use crate::model::backup::{BackupHead, Contents};
use crate::store::audit::chain::hex;
use crate::store::audit::verify::Verification;
use crate::store::engine::{self, Direction, Engine, Options, Snapshot};
use crate::store::migrate::SCHEMA_VERSION;
use crate::store::tables::{self, KeyRange, ORGANIZATIONS};

/// Memory for pages, in bytes: what is loaded is written once and read once.
const CACHE: usize = 8 << 20;
/// Content put into one commit, in bytes, about.
const COMMIT: usize = 8 << 20;
/// Entries of a log verified in one step.
const STEP: u64 = 10_000;

/// A backup that was put into a folder, with all that it says of itself.
#[derive(Debug)]
pub struct Restored {
    pub head: BackupHead,
    pub contents: Contents,
}

/// Reads a backup to its end and puts what is in it into `folder`, which it makes: the data file, keys, certificates.
///
/// # Errors
/// At the first thing that is not as it was written. What lies in the folder is then of no use.
pub fn load(from: impl Read, folder: &Path, guard: &Guard) -> Result<Restored, BackupError> {
    let mut reader = Reader::new(from)?;
    let (kind, bytes) = reader.frame()?;
    let head = match kind {
        Kind::Head => json::<BackupHead>(&bytes)?,
        _ => return Err(damaged("it does not begin with a head")),
    };
    if head.schema > SCHEMA_VERSION {
        let BackupHead { version, schema, .. } = head;
        return Err(BackupError::NewerSchema { version, schema, known: SCHEMA_VERSION });
    }
    DirBuilder::new().mode(0o700).create(folder).map_err(failed("make", folder))?;
    let options = Options { cache_bytes: CACHE, verify_up_to_bytes: 0 };
    let engine = Engine::open(&folder.join(DATA_FILE), options, |_| Ok(())).map_err(super::StoreError::from)?;
    let (mut found, mut last) = (Contents::default(), None::<(&str, Vec<u8>)>);
    let mut transaction = engine.begin()?;
    let mut uncommitted = 0;
    let contents = loop {
        let (kind, bytes) = reader.frame()?;
        match kind {
            Kind::Rows => {
                let (table, rows) = rows(&bytes)?;
                let before = last.take().filter(|(of, _)| *of == table).map(|(_, key)| key);
                let keys = before.iter().map(Vec::as_slice).chain(rows.iter().map(|(key, _)| *key));
                if !keys.is_sorted_by(|one, next| one < next) {
                    return Err(damaged("its records are out of order"));
                }
                transaction.put_all(table, &rows)?;
                *found.tables.entry(table.into()).or_default() += rows.len() as u64;
                last = rows.last().map(|(key, _)| (table, key.to_vec()));
                uncommitted += bytes.len();
            }
            Kind::File => {
                put_file(&folder.join(TLS_FOLDER), &bytes)?;
                found.files += 1;
            }
            Kind::End => break json::<Contents>(&bytes)?,
            Kind::Head => return Err(damaged("it has two heads")),
        }
        if uncommitted >= COMMIT {
            guard.check(folder)?;
            transaction.commit()?;
            transaction = engine.begin()?;
            uncommitted = 0;
        }
    };
    transaction.commit()?;
    engine.close()?;
    let stated: BTreeMap<_, _> = contents.tables.iter().filter(|(_, count)| **count > 0).collect();
    if found.files != contents.files || !found.tables.iter().eq(stated) {
        return Err(damaged("it has another number of records than it states"));
    }
    sync(folder)?;
    Ok(Restored { head, contents })
}

/// Counts what was loaded into `folder` and verifies its audit logs; `source` is what there was to back up.
///
/// # Errors
/// What is not as it was.
pub fn prove(folder: &Path, restored: &Restored, source: Option<&Contents>) -> Result<(), BackupError> {
    if source.is_some_and(|source| *source != restored.contents) {
        return Err(BackupError::Unproven("it holds something else than what was backed up".into()));
    }
    let options = Options { cache_bytes: CACHE, verify_up_to_bytes: 0 };
    let mut outcome = Ok(());
    let look = engine::look(&folder.join(DATA_FILE), options, |snapshot| {
        outcome = examine(snapshot, &restored.contents);
        Ok(())
    });
    look.map_err(super::StoreError::from)?;
    outcome
}

fn examine(snapshot: &Snapshot, contents: &Contents) -> Result<(), BackupError> {
    for table in tables::ALL {
        let (there, stated) = (snapshot.count(table.name)?, contents.tables.get(table.name).copied().unwrap_or(0));
        if there != stated {
            let why = format!("table {} has {there} records instead of {stated}", table.name);
            return Err(BackupError::Unproven(why));
        }
    }
    if log_heads(snapshot)? != contents.logs {
        return Err(BackupError::Unproven("the audit logs end elsewhere".into()));
    }
    let mut organizations = Vec::new();
    ORGANIZATIONS.scan(snapshot, KeyRange::all(), Direction::Ascending, |id, _| {
        organizations.push(id);
        ControlFlow::Continue(())
    })?;
    for organization in organizations {
        let mut verification = Verification::begin(snapshot, organization)?;
        let verdict = loop {
            if let Some(verdict) = verification.step(snapshot, STEP)? {
                break verdict;
            }
        };
        if let Some(broken) = verdict.first_broken {
            let why = format!("the audit log of organization {organization} is broken at entry {}", broken.seq);
            return Err(BackupError::Unproven(format!("{why}: {}", broken.reason)));
        }
        let head = contents.logs.iter().find(|log| log.organization_id == organization);
        if head.is_some_and(|head| head.seq != verdict.head.seq || head.hash != hex(&verdict.head.hash)) {
            return Err(BackupError::Unproven(format!("the audit log of organization {organization} ends elsewhere")));
        }
    }
    Ok(())
}

/// A table and its rows, keys with values.
type Rows<'a> = (&'static str, Vec<(&'a [u8], &'a [u8])>);

fn rows(frame: &[u8]) -> Result<Rows<'_>, BackupError> {
    let malformed = || damaged("its records cannot be told apart");
    let (name, mut rest) = named(frame).ok_or_else(malformed)?;
    let known = tables::ALL.iter().find(|table| table.name.as_bytes() == name);
    let table = known.ok_or_else(|| damaged("it has a table that this version does not know"))?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (lengths, after) = rest.split_at_checked(8).ok_or_else(malformed)?;
        let length =
            |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]) as usize;
        let (key, after) = after.split_at_checked(length(0)).ok_or_else(malformed)?;
        let (value, after) = after.split_at_checked(length(4)).ok_or_else(malformed)?;
        rows.push((key, value));
        rest = after;
    }
    Ok((table.name, rows))
}

fn put_file(folder: &Path, frame: &[u8]) -> Result<(), BackupError> {
    let named = named(frame).and_then(|(name, bytes)| Some((std::str::from_utf8(name).ok()?, bytes)));
    let (name, bytes) = named.filter(|(name, _)| is_file_name(name)).ok_or_else(|| damaged("a file has no name"))?;
    let path = folder.join(name);
    let folder = path.parent().unwrap_or(folder);
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    // A certificate of an ACME server lies in one file with its key.
    let mode = if name.ends_with(".key") || name.starts_with(ACME) { 0o600 } else { 0o644 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(failed("write", &path))?;
    sync(folder)
}

/// The name that a frame begins with, and what follows.
fn named(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = frame.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// What the names of files in the folder of the ACME account begin with.
pub(super) const ACME: &str = "acme/";

/// A name that stays within its folder, or within that of the ACME account.
pub(super) fn is_file_name(name: &str) -> bool {
    let name = name.strip_prefix(ACME).unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name.len() < 200 && !name.starts_with('.') && name.bytes().all(is_plain) && !name.is_empty()
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, BackupError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))
}

fn damaged(why: &str) -> BackupError {
    BackupError::Damaged(why.into())
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}
