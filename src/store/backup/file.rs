//! A backup on disk: under its name only when it is whole and proven.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest;
use rustix::fs::{Advice, fadvise};

use super::load::{ACME, is_file_name};
use super::{BackupError, Guard, Protection, TLS_FOLDER, Watch, failed, load, open, prove};
use crate::model::backup::Contents;

/// Longer than any key or certificate; in bytes.
const LONGEST_FILE: u64 = 64 << 10;
const BUFFER: usize = 128 << 10;

/// What was saved and proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Length of the file.
    pub bytes: u64,
    pub contents: Contents,
}

/// Lets `fill` write a backup, reads it back from the disk into a scratch folder beside it, counts and verifies it
/// there, and only then gives it its name.
///
/// # Errors
/// Why there is none; no part of it stays.
pub fn save(
    path: &Path,
    protection: &Protection,
    guard: &Guard,
    fill: impl FnOnce(&mut dyn Write) -> Result<Contents, BackupError>,
) -> Result<Saved, BackupError> {
    if path.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(path.into()));
    }
    let (partial, scratch) = (beside(path, ".partial"), beside(path, ".proof"));
    let file = unfinished(&partial)?;
    let saved = clear(&scratch).and_then(|()| attempt(&file, &partial, &scratch, protection, guard, fill));
    let cleared = clear(&scratch);
    let saved = saved.and_then(|saved| cleared.map(|()| saved)).and_then(|saved| {
        publish(&partial, path)?;
        Ok(saved)
    });
    if saved.is_err() {
        // Whoever asked is told why; without its name it is no backup anyway.
        let _ = fs::remove_file(&partial);
    }
    saved
}

fn attempt(
    file: &File,
    partial: &Path,
    scratch: &Path,
    protection: &Protection,
    guard: &Guard,
    fill: impl FnOnce(&mut dyn Write) -> Result<Contents, BackupError>,
) -> Result<Saved, BackupError> {
    let written = failed("write", partial);
    let watched = Watch::new(BufWriter::with_capacity(BUFFER, file), guard.clone(), folder_of(partial));
    let (mut sealed, keys) = protection.seal(watched)?;
    let source = fill(&mut sealed)?;
    let flushed =
        sealed.finish().and_then(|watched| watched.into_inner().into_inner().map_err(|error| error.into_error()));
    let synced = flushed.and_then(|file| file.sync_all().map(|()| file));
    let file = synced.map_err(written)?;
    // So that what is proven is what the disk has.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let reading = File::open(partial).map_err(failed("open", partial))?;
    let bytes = reading.metadata().map_err(failed("read", partial))?.len();
    let restored = load(open(BufReader::with_capacity(BUFFER, reading), &keys)?, scratch, guard)?;
    prove(scratch, &restored, Some(&source))?;
    Ok(Saved { bytes, contents: source })
}

/// Copies a proven backup to another folder, reads the copy back and compares it.
pub fn copy(from: &Path, to: &Path, guard: &Guard) -> Result<(), BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.into()));
    }
    let partial = beside(to, ".partial");
    let file = unfinished(&partial)?;
    let copied = (|| {
        let mut reading = File::open(from).map_err(failed("open", from))?;
        let mut watched = Watch::new(&file, guard.clone(), folder_of(to));
        std::io::copy(&mut reading, &mut watched).map_err(failed("write", &partial))?;
        file.sync_all().map_err(failed("write", &partial))?;
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        if hash_of(from)? != hash_of(&partial)? {
            return Err(BackupError::Unproven("the copy in the second folder is not the same".into()));
        }
        publish(&partial, to)
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied
}

fn hash_of(path: &Path) -> Result<[u8; 32], BackupError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(failed("read", path))? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Ok(hash)
}

/// The file of a backup under way, for this process alone. What an earlier one left of the same name is overwritten.
fn unfinished(path: &Path) -> Result<File, BackupError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed("make", path))?;
    file.try_lock().map_err(|_| BackupError::GivenUp("another one is being written to the same name"))?;
    file.set_len(0).map_err(failed("write", path))?;
    Ok(file)
}

/// Gives a whole file its name, for good.
fn publish(partial: &Path, path: &Path) -> Result<(), BackupError> {
    if path.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(path.into()));
    }
    fs::rename(partial, path).map_err(failed("name", path))?;
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

fn clear(scratch: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", scratch)(error)),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The keys and certificates of an appliance, its account with an ACME server among them: without them, devices and people
/// would have to trust it anew.
pub fn files_of(data_dir: &Path) -> Result<Vec<(String, Vec<u8>)>, BackupError> {
    let folder = data_dir.join(TLS_FOLDER);
    let mut files = Vec::new();
    for (below, prefix) in [(folder.clone(), ""), (folder.join(ACME.trim_end_matches('/')), ACME)] {
        let entries = match fs::read_dir(&below) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(failed("read", &below))?,
        };
        for entry in entries {
            let path = entry.map_err(failed("read", &below))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_ours = name.ends_with(".pem") || name.ends_with(".key");
            let name = format!("{prefix}{name}");
            let metadata = path.metadata().map_err(failed("read", &path))?;
            if is_ours && is_file_name(&name) && metadata.is_file() && metadata.size() <= LONGEST_FILE {
                files.push((name, fs::read(&path).map_err(failed("read", &path))?));
            }
        }
    }
    files.sort();
    Ok(files)
}
